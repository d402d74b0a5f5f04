/* SPDX-License-Identifier: MIT */
/*
 * Asking how far a monitor's jobs are, which no event reports: one question at a time, for all jobs
 * and all who want to know, and only while somebody does. Those who asked for progress set the
 * pace; without them those who wait for a job or watch it do, as no progress is to be reported to
 * them (notices.h). The loop's thread.
 */
#ifndef BJ_API_PROGRESS_H
#define BJ_API_PROGRESS_H

#include "base/loop.h"
#include "driver/driver.h"

#include <blockjob/blockjob.h>

struct job_row;

/* Who wants to know how far jobs are; lies in its owner's memory. */
struct progress_reader {
    struct progress_reader *next;
    int64_t every_ms;
    int64_t due_ms;   /* monotonic */
    uint64_t updates; /* how many there had been when it was given some last */
    void (*give)(struct progress_reader *reader);
};

/* Of a monitor. */
struct progress_asker {
    struct loop_timer *timer; /* NULL: there was no need */
    bool is_set;
    struct driver_request request;
    bool is_asking; /* then it has a reference to the monitor */
    int64_t asked_ms;
    uint64_t questions; /* that were asked */
    uint64_t updates;   /* replies that were read */
    struct progress_reader *readers;
};

/* From now on it is given what is new, in steps of every_ms, soon for the first time. False: no
 * memory. */
bool progress_join(bj_monitor *monitor, struct progress_reader *reader);
void progress_leave(bj_monitor *monitor, struct progress_reader *reader); /* one that has joined */

/* Whether there is something new for the reader about this job. */
bool progress_is_new(const bj_job *job, const struct progress_reader *reader);

/* A list has shown it. */
void progress_saw(bj_job *job, const struct job_row *row);

/* Somebody waits for it or watches it. */
void progress_note_observer(bj_job *job);

/* Nothing more will be asked. */
void progress_end(bj_monitor *monitor);

#endif
