/* SPDX-License-Identifier: MIT */
/*
 * A bj_job: one run, wired to a monitor. What any thread may ask of it is published
 * under the context's lock; all else is the loop's.
 */
#ifndef BJ_API_JOB_H
#define BJ_API_JOB_H

#include "base/ctx.h"
#include "base/text.h"
#include "delivery/watch.h"
#include "driver/driver.h"
#include "model/progress.h"
#include "model/tracker.h"

#include <blockjob/blockjob.h>

struct job_row;
struct job_wait;

/* What a memo has of a job that nothing else keeps. */
struct memo_state {
    unsigned facts;     /* enum memory_fact */
    int64_t since_us;   /* when it became known; by QEMU's clock, if an event came then */
    uint64_t number;    /* random: it tells runs of an id apart */
    int64_t changed_us; /* more in each memo of the run */
    bool is_over;       /* in QEMU: there is nothing to remember */
    int64_t told;       /* the current of the last BJ_RECORD_MEMO */
};

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

struct bj_job {
    struct run run; /* first */
    atomic_uint refs;
    bj_monitor *monitor; /* a reference to its memory */
    struct text *id;
    struct text *device;   /* what it was started on; NULL: not known */
    struct text *run_data; /* the driver's own, for its verbs; NULL: none */

    /* Published, under the context's lock. */
    struct text *type;
    struct text *text;
    struct text *disks; /* each with a NUL; set once; NULL: not known */
    bool ready;
    bj_outcome outcome;
    int cause; /* bj_error: what ended the connection, if it was lost by that */
    int64_t times[BJ_MOMENT_END_SEEN + 1]; /* by bj_moment */
    struct driver_snapshot *snapshot;      /* NULL: none */
    struct {
        int64_t current, total, speed;
    } last_progress; /* of a row */
    struct memo_state memo;

    /* The loop's own. */
    struct loop_timer *stall_timer; /* NULL once it is retired */
    bj_watch *watches;
    struct job_listener *listeners;
    struct job_request_slot complete, cancel, force, dismiss;
    bool polls;                    /* the next one runs */
    struct loop_timer *poll_timer; /* where QEMU has no event for what is awaited (B58); or NULL */
    bool has_no_ready_event, hides_pauses, has_bare_rows;
    bool row_is_paused, row_lacks_space;      /* of a row */
    uint64_t updated;                         /* the monitor's update that had news of it last */
    uint64_t born;                            /* how many questions had been asked before it was */
    struct progress progress;                 /* as the rows show it */
    enum notice notice;                       /* that its observers have; api/notices.h */
    struct text *notice_text;                 /* the sentence of then; NULL: there is none */
    struct job_request_slot take_snapshot;    /* of what uses its disk, while it runs */
    struct job_request_slot compare_snapshot; /* and after its end */
    const struct driver_ops *ops;             /* that made it, which outlive the driver */
    void (*unprepare)(struct driver_request *request);
    struct text *remembered; /* the memo that it began with; NULL: none */
    struct memory memory;    /* the same for its tracker */
};

static inline bj_job *job_of(struct run *run)
{
    return (bj_job *)run;
}

/* The loop's thread. NULL: no memory. One reference, the caller's. */
bj_job *job_new(bj_monitor *monitor, const char *id, const char *type);

/* The loop's thread: it is fed no more facts. */
void job_retire(bj_job *job);

/* The loop's thread: what is known of it besides, before its machine is fed. */
void job_learn_type(bj_job *job, const char *type);
void job_hear(bj_job *job, const struct fact *fact);
void job_see(bj_job *job, const struct job_row *row);
void job_note_progress(bj_job *job, const bj_job_info *info); /* of a list */
void job_learn_disks(bj_job *job, const char *disks); /* a newline after each; NULL: not known */
void job_note_start(bj_job *job, int64_t sent_us, const char *device, struct text *run_data);

/* The loop's thread: when QEMU said what it is being fed now, 0: that is no event; and when we had
 * it. */
int64_t job_event_us(const bj_job *job);
int64_t job_seen_us(const bj_job *job);

/* The loop's thread: someone waits for it or watches it. Where QEMU has no event for what is
 * awaited, it is asked by the clock for as long as that is so (B58). */
void job_note_observer(bj_job *job);

/* Any thread: false for NULL and after fork(). */
bool job_is_usable(const bj_job *job);

/* The loop's thread. */
void job_add_listener(bj_job *job, struct job_listener *listener);
void job_remove_listener(bj_job *job, struct job_listener *listener); /* one that was added */
void job_notify_listeners(bj_job *job);

/* The loop's thread: job_watch.c. One record about the job, for one watch; and what kind of record
 * a report is. */
void job_push(const bj_job *job, bj_watch *watch, bj_record_kind kind,
              const struct record_refs *refs);
void job_push_all(const bj_job *job, bj_record_kind kind, struct text *text);
bj_record_kind job_record_of(enum report news);
void job_notify_watches(bj_job *job, enum report news, const char *words);
void job_end_watches(bj_job *job);

#endif
