/* SPDX-License-Identifier: MIT */
/*
 * Reading watches and queues in tests.
 */
#ifndef TESTS_RECORDS_H
#define TESTS_RECORDS_H

#include "world.h"

const char *kind_name(bj_record_kind kind); /* "READY", ... */

/* A watch on the job, or the world's monitor, that the world holds. */
bj_watch *watch_job(world *w, bj_job *job, int64_t progress_ms);
bj_watch *watch_monitor(world *w);
/* On all jobs of the world's monitor. */
bj_watch *watch_jobs(world *w, int64_t progress_ms);

/* The next record, which must come; valid until the next call. */
const bj_record *next_record(bj_watch *watch);

/* Reads to the first record of kind `until` and answers the kinds that came, "RESUMED READY"; those
 * that come in any number (STATUS, PROGRESS, EVENT) are left out. */
const char *news(world *w, bj_watch *watch, bj_record_kind until);

/* Reads to the next STALLED whose text says so, which must come: others may come before, as more
 * becomes known; on a busy machine one may be that QEMU does not answer. Valid until the next call.
 */
const bj_record *await_stall(bj_watch *watch, const char *words);

/* Reads to the first record of kind `until` and answers the names of the STATUS records. */
const char *statuses(world *w, bj_watch *watch, bj_record_kind until);

/* Waits until the queue's fd is readable, then reads up to `max` records; at least one. */
int read_queue(bj_queue *queue, bj_record *records, int max);

#endif
