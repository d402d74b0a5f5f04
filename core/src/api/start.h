/* SPDX-License-Identifier: MIT */
/*
 * Runs that are about to be started. The loop's thread only.
 */
#ifndef BJ_API_START_H
#define BJ_API_START_H

#include "driver/driver.h"

#include <blockjob/blockjob.h>

/* A run of that name, from before the first byte is sent on (B01): then monitor_start_accepted() or
 * monitor_start_refused(). NULL: *ret_error is BJ_E_NOMEM or BJ_E_BUSY. One reference, the
 * caller's.
 */
bj_job *start_run(bj_monitor *monitor, const struct start_plan *plan, int *ret_error);

/* What became of it: the reply to the command that starts it; NULL: nothing was sent. */
void start_finished(bj_job *job, const struct driver_reply *reply);

#endif
