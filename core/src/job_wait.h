/* SPDX-License-Identifier: MIT */
/*
 * Waits on a job: a future and the waiter that the machine knows.
 */
#ifndef BJ_JOB_WAIT_H
#define BJ_JOB_WAIT_H

#include "future.h"
#include "job_handle.h"

/* Also a verb of one caller: pause, resume, ... */
struct job_wait {
    bj_future future;
    struct job_waiter waiter;
    struct job_request_slot slot;  /* JOB_ASK_VERB */
    bj_job *job;                   /* a reference */
    bool linked;                   /* in the machine's list */
    struct loop_timer *escalation; /* NULL: a wait that never escalates */
};

/* It is out of the machine's list, and about to be answered. */
void job_wait_answered(struct job_wait *wait);

#endif
