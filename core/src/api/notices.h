/* SPDX-License-Identifier: MIT */
/*
 * Notices: that a job makes no progress, with the cause and the remedy, for those who wait for it
 * or watch it. What is amiss the model decides (model/progress.h); here are the sentences, and who
 * gets them. The loop's thread.
 */
#ifndef BJ_API_NOTICES_H
#define BJ_API_NOTICES_H

#include "api/job.h"

/* What a list has shown of it. */
void notice_see(bj_job *job, const struct job_row *row, int64_t now_ms);

/* From now on somebody observes it; or nobody. */
void notice_begin(bj_job *job);
void notice_end(bj_job *job);

/* Whether somebody would be given its notices. */
bool notice_has_observer(const bj_job *job);

/* Reports what has changed to those who watch; `deaf_ms`: for how long QEMU has not answered. */
void notice_judge(bj_job *job, int64_t deaf_ms);

/* Its observers have been told otherwise how it stands. */
void notice_forget(bj_job *job);

/* What is amiss now, also if that has not lasted yet; NULL: nothing is. A reference. */
struct text *notice_text(const bj_job *job);

#endif
