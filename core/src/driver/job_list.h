/* SPDX-License-Identifier: MIT */
/*
 * Rows about jobs, as a query brings them and as programs read them.
 */
#ifndef BJ_DRIVER_JOB_LIST_H
#define BJ_DRIVER_JOB_LIST_H

#include <blockjob/blockjob.h>

struct info_list {
    size_t count;
    bj_job_info *rows; /* their strings are malloc'ed, or "" */
};

const bj_job_info *info_list_find(const struct info_list *list, const char *id); /* NULL: none */
void info_list_free(struct info_list *list);                                     /* takes NULL */
void info_list_free_rows(struct info_list *list); /* what the rows own, not their array */

#endif
