/* SPDX-License-Identifier: MIT */
/*
 * Rows about jobs, as a query brings them and as programs read them.
 */
#ifndef BJ_DRIVER_JOB_LIST_H
#define BJ_DRIVER_JOB_LIST_H

#include <blockjob/blockjob.h>

struct job_list {
    size_t count;
    bj_job_info *rows; /* their strings are malloc'ed, or "" */
};

const bj_job_info *job_list_find(const struct job_list *list, const char *id); /* NULL: none */
void job_list_free(struct job_list *list);                                     /* takes NULL */
void job_list_free_rows(struct job_list *list); /* what the rows own, not their array */

#endif
