/* SPDX-License-Identifier: MIT */
/*
 * What a run that is about to be started is called. The loop's thread only.
 */
#ifndef BJ_START_H
#define BJ_START_H

#include "driver.h"

#include <blockjob/blockjob.h>
#include <jansson.h>

struct naming {
    char *id;         /* "" if nothing says it */
    char *members;    /* for protocol_add_members(), before the caller's arguments; may be "" */
    char *reopen;     /* RHEL 6.3: the arguments of what switches its disk; NULL: nothing does */
    char *device;     /* what it runs on; NULL: not told */
    const char *type; /* "" if QEMU will have to tell it */
    bool ours;        /* dismissed by us once it is over (B40) */
    bool kept;        /* the caller will dismiss it */
    bool replaces;    /* a second complete might end QEMU (B32) */
};

/* The command, or the name that this QEMU has for it. */
const char *start_word(struct driver *driver, const char *command);

/* `arguments` is what the caller gives; the driver has been probed (an ask_kind that names_runs
 * sees to it). BJ_OK; then start_name_clear(). BJ_E_NOMEM: nothing to clear. */
int start_name(bj_ctx *ctx, struct driver *driver, const char *command, const json_t *arguments,
               struct naming *ret);
void start_name_clear(struct naming *naming);

/* A run of that name, from before the first byte is sent on (B01): then monitor_job_started() or
 * monitor_job_refused(). NULL: *ret_error is BJ_E_NOMEM or BJ_E_BUSY. One reference, the caller's.
 */
bj_job *start_run(bj_monitor *monitor, const struct naming *naming, int *ret_error);

/* What became of it: the reply to the command that starts it; NULL: nothing was sent. */
void start_settle(bj_job *job, const struct driver_reply *reply);

#endif
