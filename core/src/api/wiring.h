/* SPDX-License-Identifier: MIT */
/*
 * The port of a monitor's tracker; see model/tracker.h.
 */
#ifndef BJ_API_WIRING_H
#define BJ_API_WIRING_H

#include "api/job.h"

extern const struct tracker_port monitor_port;

/* A verb is no longer under way: it was taken back, or is answered as lost. May free the job. */
void job_give_slot_back(struct job_request_slot *slot);

/* What the job's stall timer calls; `user` is the bj_job. */
void job_on_stall_timer(void *user);

#endif
