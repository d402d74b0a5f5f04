/* SPDX-License-Identifier: MIT */
/*
 * What a job is remembered by: its memo is made of what it publishes, when somebody wants it.
 */
#ifndef BJ_API_MEMO_H
#define BJ_API_MEMO_H

#include "api/job.h"

/* The loop's thread: of a new job; of the tracker's port; of a list; it has ended, or is released.
 */
void memo_begin(bj_job *job, bj_ctx *ctx);
void memo_note_beginning(bj_job *job, int64_t event_us); /* it is no younger than the event */
void memo_note(bj_job *job, unsigned facts);
void memo_note_progress(bj_job *job);
void memo_end(bj_job *job);

/* Any thread: NULL: it has none. A reference. */
struct text *memo_text(bj_job *job);

#endif
