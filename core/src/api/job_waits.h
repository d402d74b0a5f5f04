/* SPDX-License-Identifier: MIT */
/*
 * Waits on a job: a future and the waiter that the machine knows.
 */
#ifndef BJ_API_JOB_WAITS_H
#define BJ_API_JOB_WAITS_H

#include "api/job.h"
#include "delivery/future.h"

/* Who asks a machine: for a future of its own, or for a part of a group's. */
struct job_asker {
    struct waiter waiter; /* first: the machine knows no more */
    /* Takes over what is in `result`; must not call the machine. */
    void (*answered)(struct job_asker *asker, struct future_result *result);
};

/* Also a verb of one caller: pause, resume, ... */
struct job_wait {
    bj_future future;
    struct job_asker asker;
    struct job_request_slot slot;  /* ASK_VERB */
    bj_job *job;                   /* a reference */
    char *options;                 /* VERB_CHANGE; freed with it */
    bool linked;                   /* in the machine's list */
    struct loop_timer *escalation; /* NULL: a wait that never escalates */
};

#endif
