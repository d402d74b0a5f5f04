/* SPDX-License-Identifier: MIT */
/*
 * A job machine, its callers, the wire and a small QEMU: a world in which one thing happens at a
 * time, and in which the contract is looked at after each.
 */
#ifndef TESTS_EXPLORE_WORLD_H
#define TESTS_EXPLORE_WORLD_H

#include "explore_qemu.h"
#include "explore_search.h"

#define SEATS 6

/* A setting, how the story begins, and what may happen in it from outside. */
struct scenario {
    const char *name;
    struct setting setting;
    enum status begins; /* what the job is when we come */
    bool attached;      /* and we learn of it by a row */
    bool replaces;      /* a second complete would end QEMU */
    bool reconnects;    /* a connection that ends is made again */
    bool again;         /* the id is used again */
};

/* What has happened, for the rules. */
struct past {
    uint8_t outcome;
    bool told_ready, told_ended, told_released, told_stalled;
    bool was_ready;      /* in truth */
    bool stood;          /* paused, in standby, waiting or pending, in truth */
    uint8_t refused;     /* which of the machine's verbs QEMU has refused, and A_VERB */
    bool completes;      /* QEMU has accepted our complete */
    bool heard_complete; /* and said so */
    bool aborts;         /* QEMU has accepted our cancel */
    bool others;         /* someone else's verb was accepted */
    bool untold;         /* the graph showed nothing, or nobody asks any more */
    bool neither;        /* it showed that the disk had users, and nothing else */
    bool was_away;       /* the connection has ended once */
    bool heard_end;      /* its end was reported to us */
    bool ticked;         /* the timer has fired: what is ending had time to show it */
    bool denied;         /* QEMU has denied that there is such a job */
    bool dismissed;      /* QEMU has accepted our dismissal */
    bool attached;       /* the row we begin with has come */
    bool next_known;     /* we have heard of the next run of the id */
};

/* All of it that has no pointers. */
struct rest {
    struct qemu qemu;
    struct past past;
    uint8_t acts; /* from outside, yet to come */
    bool query_out, query_again;
    bool timer;
    bool lost; /* the connection is over for good */
};

struct seat {
    struct waiter waiter;
    bool taken;
};

struct world {
    struct machine machine; /* first: the machine's port gets pointers to it */
    struct seat seats[SEATS];
    struct rest rest;

    const struct scenario *scenario;
    const char *broken; /* the rule that was broken first */
    FILE *log;          /* NULL: nobody listens */
};

struct frozen_seat {
    uint8_t question, flags, verb;
    bool escalates, held;
};

/* A world without pointers and in one form only: two that behave alike are equal byte by byte. */
struct frozen {
    struct machine machine;
    bool has_text;
    struct frozen_seat seats[SEATS];
    struct rest rest;
};

/* Before the first world and after the last. */
void world_open(void);
void world_close(void);

void world_begin(struct world *world, const struct scenario *scenario, int acts);
void world_clear(struct world *world);

bool world_is_by_itself(struct step step);
/* Those that happen by themselves come first. */
int world_steps(const struct world *world, struct step *ret_steps);
/* And looks at the rules. */
void world_do(struct world *world, struct step step);
const char *world_step_text(const struct world *world, struct step step, char *text, size_t size);

/* Nothing more happens by itself: who may still wait? */
void world_judge(struct world *world, const struct step *steps, int count);
/* The connection ends for good: whoever waits is answered. */
void world_cut(struct world *world);

size_t world_freeze(const struct world *world, struct frozen *frozen);
void world_thaw(struct world *world, const struct frozen *frozen, const struct scenario *scenario);

extern const struct scenario scenarios[];
extern const int scenario_count;

#endif
