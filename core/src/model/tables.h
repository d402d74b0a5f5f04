/* SPDX-License-Identifier: MIT */
/*
 * What the job machine knows by heart, as data: what each status means, when QEMU takes a verb, how
 * a run has ended, what a question gets from a job that is over, and who is told that it is
 * stalled. docs/machine.md shows these tables; they are printed from here.
 *
 * In a list of rules the first whose conditions all hold applies; the last one needs none.
 */
#ifndef BJ_MODEL_TABLES_H
#define BJ_MODEL_TABLES_H

#include "model/words.h"

#include <blockjob/blockjob.h>

#include <stddef.h>

/* ----------------------------------------------------------------- statuses */

enum status_trait {
    AT_WORK = 1 << 0, /* from created to standby */
    MOVES = 1 << 1,   /* it is not paused, or no longer */
    STILL = 1 << 2,   /* it is paused, or drained for a moment */
    SHOWS_READY = 1 << 3 /* only a job that is ready has it */,
    DONE = 1 << 4,  /* its work is done; it waits for its transaction or for finalize */
    CLOSED = 1 << 5 /* nothing changes how it ends */
};

bool status_has_any(enum status status, unsigned traits);

/* Whether QEMU takes a complete (of a job that is ready) or a cancel. */
enum taking { NOW, LATER, NEVER };
enum taking verb_taking(enum verb verb, enum status status);

/* --------------------------------------------------------------- conditions */

/* What is known of a run besides its status. The machine keeps the marks; the rest follows from
 * other fields, or is what the graph has just shown. */
enum condition {
    IS_READY = 1 << 0,      /* it was ready once, which stays true (B27, B28) */
    IS_PENDING = 1 << 1,    /* it waits for finalize (B42) */
    WAS_DONE = 1 << 2,      /* it was waiting or pending */
    WAS_ABORTING = 1 << 3,  /* it was aborting */
    IS_RELEASED = 1 << 4,   /* QEMU has let go of it */
    END_ASSUMED = 1 << 5,   /* this QEMU has no event for such an end (B57) */
    IS_AWAY = 1 << 6,       /* the connection ended and is being made again: nothing is sent */
    HAS_GAP = 1 << 7,       /* events were missed, and no list has shown it at work since */
    HEARD_EVENT = 1 << 8,   /* an event came since: it is newer than the list we asked for */
    CHECKING_GONE = 1 << 9, /* a verb met "no such job", and a list is to decide */
    COMPARING = 1 << 10,    /* the block graph is being compared */
    IS_DOUBTED = 1 << 11,   /* a list is to show whether QEMU took complete before a cut */
    TIMER_RUNS = 1 << 12,
    FOUND_DONE = 1 << 13,     /* the first that was seen of it is that its work is done */
    ENDED_HERE = 1 << 14,     /* its end was heard on this connection */
    CHECKING_STALL = 1 << 15, /* a list is to show whether it still is stalled */

    NEVER_SWITCHES = 1 << 16,  /* neither a mirror nor ever ready: the disk stays as it is */
    COMPLETE_TAKEN = 1 << 17,  /* QEMU accepted our complete */
    ABORT_TAKEN = 1 << 18,     /* QEMU accepted our cancel, soft or force */
    ONLY_ABORT_SENT = 1 << 19, /* the same, and complete was never sent */
    REPLY_OUT = 1 << 20,       /* a complete or a cancel has no reply yet */
    NO_CANCEL_EVENT = 1 << 21, /* this QEMU reports no cancellation (RHEL 6) */
    IS_UNCLEAR = 1 << 22,      /* it completed, and whether the disk was switched is unknown */

    SAW_SWITCH = 1 << 24,    /* the block graph shows that the disk was switched */
    SAW_NO_SWITCH = 1 << 25, /* it shows that the disk was not */
    SAW_NO_TARGET = 1 << 26, /* it shows an intermediate commit */
    SAW_NEITHER = 1 << 27,   /* the disk had users, and what they use now shows neither */
    CANNOT_COMPARE = 1 << 28 /* nobody can look any more, or nobody used the disk */
};

/* --------------------------------------------------------------------- ends */

enum end { END_NONE, END_COMPLETED, END_CANCELLED, END_FAILED };

/* Which outcome the first terminal event leads to. */
struct outcome_rule {
    enum end end;
    unsigned when; /* conditions, all of which hold */
    enum { DECIDED, WAIT_FOR_REPLY, COMPARE_GRAPH } then;
    bj_outcome outcome; /* DECIDED */
    bool unknown;       /* whether the disk was switched is unknown; the text says why */
};
extern const struct outcome_rule outcome_rules[];
extern const size_t outcome_rule_count;
const struct outcome_rule *outcome_rule(enum end end, unsigned conditions);

/* How a run that is gone without a terminal event has ended. */
enum vanishing {
    VANISHED_NULL,     /* its status became null */
    VANISHED_UNLISTED, /* a job list does not have it */
    VANISHED_AWAY      /* nor does the first list of a new connection */
};
struct vanishing_rule {
    enum vanishing how;
    unsigned when;
    enum end end;     /* END_NONE: LOST */
    const char *text; /* why it is LOST or FAILED */
};
extern const struct vanishing_rule vanishing_rules[];
extern const size_t vanishing_rule_count;
const struct vanishing_rule *vanishing_rule(enum vanishing how, unsigned conditions);

/* ---------------------------------------------------------------- questions */

enum question {
    ASK_READY,
    ASK_DONE,
    ASK_RELEASED,
    ASK_PIVOT,
    ASK_ABORT,
    ASK_FINISH, /* pivot what becomes ready; the rest just ends */
    ASK_VERB    /* pause, resume, ..., dismiss: a request of its own each */
};
#define QUESTION_COUNT (ASK_VERB + 1)

/* What a question gets once the run has its outcome; BJ_E_JOB_LOST stands for why it was lost. */
int answer_when_over(enum question question, bj_outcome outcome);

/* Of its flags, those that say when a question is answered if all goes well: as soon as QEMU has
 * accepted its verb, or only when QEMU has also let go of the job's nodes; 0: it has none. */
int async_flag(enum question question);
int released_flag(enum question question);

enum stall {
    STALL_NONE,
    STALL_PAUSED, /* by us, or by someone else */
    STALL_ERROR,  /* on-error=stop or enospc */
    STALL_PENDING /* no stall of the job: it waits for finalize, as IS_PENDING says */
};

/* Whether a question is answered STALLED. An abort is a soft one that does not escalate. */
enum when_stalled {
    NEVER_STALLED,
    STALLED,
    UNLESS_ENDING,      /* not if an accepted abort will end the job */
    UNLESS_ABORTED,     /* not if an abort that ends it was sent */
    IF_CANCELLED_BEFORE /* if the soft cancel was accepted before it was pending */
};
enum when_stalled when_stalled(enum question question, enum stall stall);

/* -------------------------------------------------------------------- tests */

/* The explorer counts which rows are reached; the library is built without. */
#ifdef COUNT_ROWS
enum table { VERB_TABLE, OUTCOME_TABLE, VANISHING_TABLE, ANSWER_TABLE, STALL_TABLE, TABLE_COUNT };
#define ROWS_MAX 64
extern unsigned long rows_reached[TABLE_COUNT][ROWS_MAX];
#define REACHED(table, row) (rows_reached[table][row]++)
#else
#define REACHED(table, row) ((void)0)
#endif

#endif
