/* SPDX-License-Identifier: MIT */
/*
 * Waits on a job: a future and the waiter that the machine knows.
 */
#ifndef BJ_API_JOB_WAITS_H
#define BJ_API_JOB_WAITS_H

#include "api/job.h"
#include "delivery/future.h"

/* A waiter of the machine whose answer goes to a future, or to one part of a group. */
struct job_waiter {
    struct waiter base; /* first: the machine knows no more */
    /* Takes over what is in `result`; must not call the machine. */
    void (*answered)(struct job_waiter *waiter, struct future_result *result);
};

/* Also a verb of one caller: pause, resume, ... */
struct job_wait {
    bj_future future;
    struct job_waiter waiter;
    struct job_request_slot slot;  /* ASK_VERB */
    bj_job *job;                   /* a reference */
    char *options;                 /* VERB_CHANGE; freed with it */
    bool linked;                   /* in the machine's list */
    struct loop_timer *escalation; /* NULL: a wait that never escalates */
};

#define JOB_ABORT_FLAGS (BJ_ABORT_FORCE | BJ_ABORT_ASYNC | BJ_ABORT_RELEASED)

/* Whether all flags are known, and none excludes another. */
bool job_flags_fit(enum question question, int flags, int known);
/* A sentence for flags that are not as they should be. */
struct text *job_flags_text(const char *whose, int flags, int known);

#endif
