/* SPDX-License-Identifier: MIT */
/*
 * Watches of all jobs of a monitor. What they are given, and when, the tracker decides: a run is
 * announced once it is known what it is, and its reports follow. The loop's thread.
 */
#ifndef BJ_API_WATCH_JOBS_H
#define BJ_API_WATCH_JOBS_H

#include "api/job.h"
#include "api/monitor.h"

/* Of the tracker's port. */
void watch_jobs_announce(bj_job *job);
/* Of a run that was announced. */
void watch_jobs_report(bj_job *job, enum report news, const char *words);
void watch_jobs_push_all(bj_job *job, bj_record_kind kind, struct text *text);
/* One more change that nobody can be given. */
void watch_jobs_miss(bj_monitor *monitor);

/* The same: what is to be remembered of it is other than before. */
void watch_jobs_remember(bj_job *job);
/* The connection was made again. */
void watch_jobs_up(bj_monitor *monitor);

/* A list has come, or could not be had: when the next is to be asked for. */
void watch_jobs_listed(bj_monitor *monitor);

#endif
