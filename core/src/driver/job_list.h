/* SPDX-License-Identifier: MIT */
/*
 * QEMU's list of jobs: what programs read of each, and what only the machine has to know.
 */
#ifndef BJ_DRIVER_JOB_LIST_H
#define BJ_DRIVER_JOB_LIST_H

#include <blockjob/blockjob.h>

#include <stdbool.h>

struct job_row {
    bj_job_info info;   /* its strings are malloc'ed, or "" */
    bool was_cancelled; /* it is over, and its error is that it was cancelled (B21) */
    bool has_io_error;  /* an I/O error has paused it */
    bool lacks_space;   /* and it was that no space is left */
    char *disks;        /* malloc'ed, those it works on, a newline after each; NULL: not known */
};

struct job_list {
    size_t count;
    bool is_cut; /* rows are missing that somebody asked for */
    struct job_row *rows;
};

const struct job_row *job_list_find(const struct job_list *list, const char *id); /* NULL: none */
void job_list_free(struct job_list *list);                                        /* takes NULL */
void job_list_free_rows(struct job_list *list); /* what the rows own, not their array */

#endif
