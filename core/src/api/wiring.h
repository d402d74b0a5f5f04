/* SPDX-License-Identifier: MIT */
/*
 * The job machine's port; see model/machine.h.
 */
#ifndef BJ_API_WIRING_H
#define BJ_API_WIRING_H

#include "api/job.h"

extern const struct machine_port job_port;

/* A verb is no longer under way. May free the job. */
void job_give_slot_back(struct job_request_slot *slot);

/* Records what uses the job's disk, in case another client ends the job (B15). */
void job_take_snapshot(bj_job *job);
bool job_wants_snapshot(const bj_job *job); /* it has none, and may need one */
void job_keep_snapshot(bj_job *job, struct driver_reply *reply);

/* What the job's stall timer calls; `user` is the bj_job. */
void job_on_stall_timer(void *user);

#endif
