/* SPDX-License-Identifier: MIT */
/*
 * What a future may be answered with: a monitor, a job, several jobs, or QEMU's list of jobs.
 */
#ifndef BJ_API_ANSWERS_H
#define BJ_API_ANSWERS_H

#include "delivery/future.h"
#include "driver/job_list.h"

/* References. */
struct job_array {
    size_t count;
    bj_job *jobs[];
};
void job_array_free(struct job_array *array); /* takes NULL */

/* For a future's result; each takes over what it is given. */
struct value monitor_value(bj_monitor *monitor);
struct value job_value(bj_job *job);
struct value jobs_value(struct job_array *jobs);
struct value job_list_value(struct job_list *list);

#endif
