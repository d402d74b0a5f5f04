/* SPDX-License-Identifier: MIT */
/*
 * A small QEMU with jobs under two ids, and what has really become of each run. It holds no
 * pointer, so that it can be copied and hashed.
 *
 * Commands are carried out one at a time, whoever sent them, and the reply to one is written before
 * the next is taken. What a job does by itself goes on between the two. A list is put together from
 * what two commands have said: from the older where both have the job.
 */
#ifndef TESTS_EXPLORE_TRACKER_QEMU_H
#define TESTS_EXPLORE_TRACKER_QEMU_H

#include "model/tracker.h"

#define IDS 2
#define RUNS_OF_ID 3 /* counted from 1 */
#define WIRE_LINES 24
#define LINES_AT_ONCE 8 /* or fewer, by one step */
#define ORDERS 12
#define NOBODY_WAITS 255

/* What the ages of QEMU differ in here. */
struct age {
    const char *name;
    bool statuses;   /* JOB_STATUS_CHANGE */
    bool dismissals; /* auto-dismiss can be off */
};

enum line_kind {
    LINE_NONE,
    LINE_STATUS, /* verb: enum status */
    LINE_READY,
    LINE_COMPLETED,
    LINE_FAILED,
    LINE_CANCELLED,
    LINE_REPLY /* to a command */
};

enum order {
    ORDER_VERB,
    ORDER_START,
    ORDER_RAW,
    ORDER_BLOCK_JOBS,
    ORDER_LIST,
    ORDER_SNAPSHOT,
    ORDER_COMPARE
};

/* One of ours. `asker`: the number of the run, the start, or the raw verb. */
struct command {
    uint8_t order, id, verb, asker;
    uint8_t waiter; /* ORDER_VERB: who; NOBODY_WAITS: nobody, or for all */
    bool for_all;
    uint8_t before; /* ORDER_COMPARE: the run of the id that the snapshot shows */
};

struct line {
    uint8_t kind;
    uint8_t run;            /* of the id, that it is really about; 0: none */
    uint8_t result;         /* enum verdict, list_end, snapshot or disk_switch */
    struct command command; /* what is replied to; else only the id, and `verb` */
};

/* What is known of a run to those who know all. */
enum fate {
    EXISTED = 1 << 0,
    OURS = 1 << 1, /* our command created it */
    MIRROR = 1 << 2,
    WAS_READY = 1 << 3,
    ENDED = 1 << 4,
    COMPLETED = 1 << 5,
    DISK_SWITCHED = 1 << 6,
    CANCELLED = 1 << 7,
    FAILED = 1 << 8,
    UNBORN = 1 << 9, /* created, and then it could not be started after all */
    BEGAN_UNHEARD = 1 << 10,
    ENDED_UNHEARD = 1 << 11,
    LEFT_UNHEARD = 1 << 12, /* that QEMU has let go of it */
    CUT_AT_END = 1 << 13,   /* the connection has ended since its end */
    ELSEWHERE = 1 << 14,    /* in a QEMU that we are no longer connected to */
    OUR_ABORT = 1 << 15,    /* our cancel was accepted */
    OTHERS = 1 << 16,       /* somebody else's verb was accepted */
    STOOD = 1 << 17,        /* it was paused */
    KEPT = 1 << 18          /* it stays when it is over, until it is dismissed */
};

/* The job that has the id now. */
struct real_job {
    uint8_t run;    /* 0: none */
    uint8_t status; /* as a QEMU would report it that reports statuses */
    bool mirror, kept, ready, paused, completing, copying, cancelling;
};

struct listed {
    uint8_t run; /* 0: it is not there */
    uint8_t status;
    bool mirror, ready, paused, failed, cancelled;
};

struct qemu {
    struct real_job jobs[IDS];
    uint32_t fates[IDS][RUNS_OF_ID];
    uint8_t runs[IDS];             /* that there were */
    struct line held;              /* decided, and not written yet */
    struct listed block_jobs[IDS]; /* what query-block-jobs has said */
    struct listed listed[IDS]; /* of the list that is held or on the wire: there is one at a time */
    struct line wire[WIRE_LINES];
    struct command commands[ORDERS];
    uint8_t lines, orders;
    bool connected, overflow;
};

uint32_t *qemu_fate(struct qemu *q, int id, int run);
bool qemu_has(const struct qemu *q, int id, int run); /* even if it has concluded */

/* `really` false only asks whether it can. */
bool qemu_goes_on(struct qemu *q, const struct age *age, int id, bool really);
bool qemu_fails(struct qemu *q, const struct age *age, int id, bool really);
/* Another client's. */
bool qemu_starts_others(struct qemu *q, const struct age *age, int id, struct real_job job,
                        bool really);
bool qemu_takes_others(struct qemu *q, const struct age *age, int id, enum verb verb, bool really);

bool qemu_can_execute(const struct qemu *q);
/* `mirror`: what our start starts; `balks`: it is given up as soon as it is created. */
void qemu_execute(struct qemu *q, const struct age *age, bool mirror, bool balks);
bool qemu_can_write(const struct qemu *q);
void qemu_write(struct qemu *q);

void qemu_push_command(struct qemu *q, struct command command);
struct line qemu_pop_line(struct qemu *q);
void qemu_hang_up(struct qemu *q);
/* By another QEMU, which has none of its jobs, but maybe one of its own with id a. */
void qemu_replace(struct qemu *q, const struct age *age, bool has_job);

#endif
