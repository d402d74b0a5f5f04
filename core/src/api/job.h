/* SPDX-License-Identifier: MIT */
/*
 * A bj_job: the machine of one run, wired to a monitor. What any thread may ask of it is published
 * under the context's lock; all else is the loop's.
 */
#ifndef BJ_API_JOB_H
#define BJ_API_JOB_H

#include "base/ctx.h"
#include "base/text.h"
#include "delivery/watch.h"
#include "driver/driver.h"
#include "model/machine.h"

#include <blockjob/blockjob.h>

struct job_row;
struct job_wait;

/* A verb under way. The verbs that are sent once for all lie in the job, the others in their wait.
 */
struct job_request_slot {
    struct driver_request request;
    struct loop_task failed; /* delivers what the driver would not take */
    bj_job *job;             /* a reference while it is under way */
    enum verb verb;
    struct job_wait *wait; /* a reference while it is under way; NULL: for all */
    int error;
};

/* Notified after each fact that the machine was fed. Must not call the machine. */
struct job_listener {
    struct job_listener *next;
    void (*notify)(struct job_listener *listener);
};

/* What a monitor's table of runs is sorted by. */
struct table_key {
    const char *id;
};

/* Whether the run wants its row in QEMU's job list. */
enum row_state { ROW_NOT_WANTED, ROW_WANTED, ROW_REQUESTED };

struct bj_job {
    struct table_key table_key; /* first: the table holds pointers to it */
    atomic_uint refs;
    bj_monitor *monitor; /* a reference to its memory */
    struct text *id;
    struct text *device;   /* what it was started on; NULL: not known */
    struct text *run_data; /* the driver's own, for its verbs; NULL: none */

    /* Published, under the context's lock. */
    struct text *type;
    struct text *text;
    bool ready;
    bj_outcome outcome;
    bj_timeline timeline;

    /* The loop's own. */
    struct machine machine;
    struct loop_timer *stall_timer; /* NULL once it is retired */
    bj_watch *watches;
    struct job_listener *listeners;
    struct job_request_slot complete, cancel, force, dismiss;
    enum row_state row_state;
    const struct job_row *fetched_row; /* while rows are handed out; NULL: the list lacks it */
    bj_job *next_requested;            /* and the next run that gets one */
    struct loop_timer *poll_timer; /* where QEMU has no event for what is awaited (B58); or NULL */
    bool polls;                    /* it runs */
    bool has_no_ready_event, hides_pauses, has_bare_rows;
    struct {
        int64_t current, total, speed;
    } last_progress;                          /* of a row */
    struct job_request_slot take_snapshot;    /* of what uses its disk, while it runs */
    struct job_request_slot compare_snapshot; /* and after its end */
    struct driver_snapshot *snapshot;         /* NULL: none */
    void (*free_snapshot)(struct driver_snapshot *snapshot);
    void (*unprepare)(struct driver_request *request);
    int64_t event_us;      /* the timestamp of the fact the machine is being fed; 0: it is none */
    int64_t seen_us;       /* when that began */
    bj_job *next;          /* in its monitor's list: of the starting runs, or of the tracked ones */
    bj_job **tracked_link; /* if it is tracked: what points to it there */
    bool starting;         /* its start has not been accepted yet */
    bool tracked;          /* its monitor finds it by id; the table has a reference */
};

/* The loop's thread. NULL: no memory. One reference, the caller's. */
bj_job *job_new(bj_monitor *monitor, const char *id, const char *type, bool ours);

/* The loop's thread: it is fed no more facts. */
void job_retire(bj_job *job);

void job_learn_type(bj_job *job, const char *type);
void job_feed(bj_job *job, const struct driver_fact *fact);
void job_feed_row(bj_job *job, const struct job_row *row);
void job_feed_listed(bj_job *job, const struct job_row *row); /* NULL: it is not in the list */
void job_feed_list_failed(bj_job *job);                       /* QEMU did not give the list */
void job_feed_reply(bj_job *job, enum verb verb, struct waiter *waiter,
                    const struct verb_reply *reply);
void job_feed_raw_reply(bj_job *job, enum verb verb, bool accepted);
void job_feed_lost(bj_job *job, int error, const char *text);
void job_note_start_sent(bj_job *job);

/* The loop's thread: someone waits for it or watches it. Where QEMU has no event for what is
 * awaited, it is asked by the clock for as long as that is so (B58). */
void job_note_observer(bj_job *job);

/* The loop's thread: it is over, and QEMU keeps it until we dismiss it. */
bool job_owes_dismissal(const bj_job *job);

/* Any thread: false for NULL and after fork(). */
bool job_is_usable(const bj_job *job);

/* The loop's thread. */
void job_add_listener(bj_job *job, struct job_listener *listener);
void job_remove_listener(bj_job *job, struct job_listener *listener); /* one that was added */

/* The loop's thread: job_watch.c. */
void job_notify_watches(bj_job *job, enum report news, const char *words);
void job_end_watches(bj_job *job);

#endif
