/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a wait on several jobs (B08): whom it asks for what, and which answer is the
 * group's. Facts go in, orders come out one at a time; what an answer means and what is due then
 * are tables. No I/O, JSON, time, locks or memory of its own.
 *
 *   ready, done, any, abort   all are asked; the answer is that of the first that decides
 *   pivot                     all are asked, and held until every one could be sent; then all are
 *                             let go, and each goes its own way
 *                             or one fails before: the others are aborted, softly, and by force
 *                             where that is refused, and then its error is the answer
 *
 * A fact may be told at any time, also while an order is carried out. Orders are asked for where a
 * machine may be called: not while it answers.
 */
#ifndef BJ_MODEL_GROUP_PLAN_H
#define BJ_MODEL_GROUP_PLAN_H

#include <blockjob/blockjob.h>

#include <stdbool.h>
#include <stddef.h>

enum group_goal {
    GROUP_READY,
    GROUP_DONE,
    GROUP_ANY,
    GROUP_ABORT,
    GROUP_PIVOT,    /* what it begins with */
    GROUP_SWITCH,   /* it becomes this once all could be sent */
    GROUP_ROLLBACK, /* or this, if one fails before */
    GROUP_OVER
};
#define GROUP_GOALS (GROUP_OVER + 1)

enum part_stage {
    PART_NEW,
    PART_ASKED,     /* owes an answer */
    PART_HELD,      /* owes one, to a pivot that is held */
    PART_IDLE,      /* owes none, and its job goes on */
    PART_ABORTED,   /* owes one to a soft abort */
    PART_UNABORTED, /* which has come to nothing */
    PART_FORCED,    /* owes one to a forced abort */
    PART_SETTLED    /* its job is over, or is left alone */
};
#define PART_STAGES (PART_SETTLED + 1)

/* One job of the wait. Lies in its owner's memory. */
struct group_part {
    struct group_part *next;
    enum part_stage stage;
    bool can_pivot;
    bj_outcome outcome; /* as of its last answer */
};

struct group_plan {
    enum group_goal goal;
    struct group_part *first, *last;
    struct group_part *cursor;  /* nothing is due for those before it */
    size_t owed;                /* answers */
    struct group_part *decider; /* whose answer is that of the group; NULL: none yet */
    int error;                  /* the decider's, or BJ_OK */
    bool is_finished;           /* answered, or nobody listens any more */
};

enum group_act {
    GROUP_WAIT,       /* nothing is due before the next fact */
    GROUP_ASK,        /* the part's job, what the group was asked */
    GROUP_ASK_HELD,   /* the same, and it is not to be sent before GROUP_LET_GO */
    GROUP_LET_GO,     /* see machine_unhold() */
    GROUP_LEAVE,      /* see machine_leave() */
    GROUP_ABORT_SOFT, /* the part's job */
    GROUP_ABORT_FORCE,
    GROUP_FINISH /* nobody owes an answer any more; the group's is the decider's */
};
#define GROUP_ACTS (GROUP_FINISH + 1)

struct group_order {
    enum group_act act;
    struct group_part *part; /* NULL: GROUP_WAIT, GROUP_FINISH */
};

/* Both are zeroed before. */
void group_plan_add(struct group_plan *plan, struct group_part *part);
void group_plan_begin(struct group_plan *plan, enum group_goal goal);

/* --------------------------------------------------------------------- facts */

/* GROUP_PIVOT: its job is of a kind that has no pivot. Told before anything is asked, so that
 * nothing has to be undone. */
void group_plan_unfit(struct group_plan *plan, struct group_part *part, bj_outcome outcome);

/* Its pivot would be sent at once, or is under way; or no more. */
static inline void group_plan_can_pivot(struct group_part *part, bool can)
{
    part->can_pivot = can;
}

/* True: it decides, so far. BJ_OUTCOME_NONE: its job goes on. */
bool group_plan_answered(struct group_plan *plan, struct group_part *part, int error,
                         bj_outcome outcome);

/* Nobody listens any more: whoever is asked is left, and nothing finishes. */
void group_plan_quit(struct group_plan *plan);

/* -------------------------------------------------------------------- orders */

struct group_order group_plan_next(struct group_plan *plan);

/* The decider's; or how all ended, if they did so alike. */
bj_outcome group_plan_outcome(const struct group_plan *plan);

/* It owes an answer, and does not only wait for others. */
bool group_plan_is_late(const struct group_plan *plan, const struct group_part *part);

#endif
