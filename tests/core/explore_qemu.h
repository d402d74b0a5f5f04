/* SPDX-License-Identifier: MIT */
/*
 * A small QEMU with one block job: what each age of QEMU does with it, what it says on the wire and
 * when, and what has really become of it. It holds no pointer, so that it can be copied and hashed.
 *
 * It reads commands in their order, one at a time. What it answers is written later than it was
 * decided: events of after may come before it on the wire.
 */
#ifndef TESTS_EXPLORE_QEMU_H
#define TESTS_EXPLORE_QEMU_H

#include "model/machine.h"

#define WIRE_LINES 32
#define ORDERS 16

/* The manners of an age. */
struct age {
    const char *name;
    bool statuses;        /* JOB_STATUS_CHANGE, and job-* commands, whose refusals have no class */
    bool row_status;      /* query-block-jobs has status */
    bool dismissals;      /* auto-dismiss can be off */
    bool pauses;          /* pause, resume, on-error=stop */
    bool no_ready;        /* no READY event: a row tells */
    bool no_cancelled;    /* no CANCELLED event, and cancel is answered when the job is gone */
    bool reopen;          /* the pivot is over when it is answered */
    bool standby_refuses; /* complete in standby is refused */
    bool late_force;      /* force does not stop a complete, and may come too late for a copy */
    bool soft_force;      /* force of a ready mirror finishes it as a soft cancel does */
    bool late_plain;      /* a cancel may come too late for a stream: COMPLETED */
    bool ready_again;     /* READY is said again after a stop */
    bool empty_completes; /* an empty mirror completes without READY */
    bool harm;            /* a second cancel makes the copy of the first worthless */
    bool says_ending;     /* refuses every verb once one that ends the job was accepted */
};

enum run_kind {
    RUN_MIRROR,
    RUN_COMMIT,       /* of the active layer */
    RUN_INTERMEDIATE, /* a commit of another one */
    RUN_PLAIN
};

static inline bool run_switches(enum run_kind kind)
{
    return kind == RUN_MIRROR || kind == RUN_COMMIT;
}

/* What does not change while a job lives. */
struct setting {
    const struct age *age;
    enum run_kind kind;
    bool ours;     /* started by us, with auto-dismiss off where that is known */
    bool finalize; /* auto-finalize is off */
    bool dismiss;  /* auto-dismiss is off, by someone else's wish */
    bool peers;    /* part of a transaction: waiting may last */
    bool mute;     /* no BLOCK_JOB event: a job without a disk */
};

enum line_kind {
    LINE_NONE,
    LINE_STATUS, /* a: enum status */
    LINE_READY,
    LINE_COMPLETED,
    LINE_FAILED,
    LINE_CANCELLED,
    LINE_STOPPED,
    LINE_PENDING,
    LINE_REPLY, /* a: enum order, b: enum verdict, c: asker */
    LINE_ROW,   /* a: enum status, b: enum row_flag, c: asker */
    LINE_GRAPH  /* a: enum disk_switch */
};

/* `run` is the run of the id that it is about. */
struct line {
    uint8_t kind, run, a, b, c;
};

/* Verbs, and then: */
enum order { ORDER_BLOCK_JOBS = VERB_COUNT, ORDER_JOBS, ORDER_GRAPH };

struct command {
    uint8_t order, asker;
};

enum row_flag {
    ROW_LISTED = 1,
    ROW_READY = 2,
    ROW_IO_ERROR = 4,
    ROW_CANCELLED = 8,
    ROW_FAILED = 16,
    ROW_PAUSED = 32
};

struct qemu {
    uint8_t run; /* counted from 0; the truth below is run 0's */
    uint8_t status;
    bool ready;
    bool paused; /* until a resume: by someone, or by an error */
    bool by_error;
    bool completing, copying, cancelling, draining;
    bool completed, switched, cancelled, failed; /* how it ended */

    bool connected;  /* somebody hears what it says */
    bool end_unsaid; /* it ended, and nobody was there to hear it */

    uint8_t block_status, block_flags; /* what query-block-jobs has said */
    struct line held;                  /* decided, and not written yet */
    struct line cancel_held;           /* of a cancel that is answered when the job is gone */

    struct line wire[WIRE_LINES]; /* on its way to the client */
    uint8_t lines;
    struct command commands[ORDERS]; /* on their way from it */
    uint8_t orders;
    bool overflow;
};

void qemu_start(struct qemu *q, const struct setting *setting, enum status status);

/* It goes on by itself. False where it can't. */
bool qemu_advance(struct qemu *q, const struct setting *setting, bool really);

/* Other things that may happen instead; `really` false only asks whether they can. */
bool qemu_is_too_late(struct qemu *q, const struct setting *setting, bool really);
bool qemu_gets_ready_late(struct qemu *q, const struct setting *setting, bool really);
bool qemu_fails(struct qemu *q, const struct setting *setting, bool really);
bool qemu_stops(struct qemu *q, const struct setting *setting, bool really);
bool qemu_bounces(struct qemu *q, const struct setting *setting, bool really);
bool qemu_lets_peers_finish(struct qemu *q, const struct setting *setting, bool really);
bool qemu_starts_again(struct qemu *q, const struct setting *setting, bool really);
bool qemu_completes_empty(struct qemu *q, const struct setting *setting, bool really);
/* Refuses the verb for all that comes next as if there were no such job, as libvirt may. */
bool qemu_denies(struct qemu *q, const struct setting *setting, bool really);

/* A verb, ours or another client's. */
bool qemu_takes(struct qemu *q, const struct setting *setting, enum verb verb);
bool qemu_takes_others(struct qemu *q, const struct setting *setting, enum verb verb);

bool qemu_can_read(const struct qemu *q);
struct command qemu_next(const struct qemu *q);
/* What the graph shows, if that is asked for. */
enum sight { SHOWS_TRUTH, SHOWS_NOTHING, SHOWS_NEITHER };
/* True if it accepted a verb. */
bool qemu_read(struct qemu *q, const struct setting *setting, enum sight sight);
bool qemu_can_write(const struct qemu *q);
void qemu_write(struct qemu *q);

void qemu_push_command(struct qemu *q, int order, int asker);
struct line qemu_pop_line(struct qemu *q);
void qemu_hang_up(struct qemu *q);

bool qemu_has_ended(const struct qemu *q);
struct line qemu_row(const struct qemu *q, const struct setting *setting);

#endif
