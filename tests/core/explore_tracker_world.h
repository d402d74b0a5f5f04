/* SPDX-License-Identifier: MIT */
/*
 * A tracker with its real machines, its callers, the wire and a small QEMU: a world in which one
 * thing happens at a time, and in which the rules are looked at after each.
 */
#ifndef TESTS_EXPLORE_TRACKER_WORLD_H
#define TESTS_EXPLORE_TRACKER_WORLD_H

#include "explore_search.h"
#include "explore_tracker_qemu.h"

#define SLOTS 6 /* for runs, those that are kept for starts among them */
#define WAITERS 4
#define ATTACHMENTS 2
#define STARTS 2
#define RAWS 1

enum step_kind {
    STEP_NONE,
    /* What happens by itself. */
    STEP_HEAR,
    STEP_EXECUTE,
    STEP_WRITE,
    STEP_GO_ON,     /* which: the id */
    STEP_TICK,      /* which: the slot */
    STEP_BACK,      /* the connection is made again: 0 to the same QEMU, 1 to another, 2 when the
                       end of the one before was known */
    STEP_SEEK,      /* the clock asks for what is not known */
    STEP_OWN_START, /* where that is no act: another client starts a job */
    /* What comes from outside. */
    STEP_ASK,   /* which: the slot, and the question */
    STEP_LEAVE, /* which: the waiter */
    STEP_START, /* from here on, which: the id */
    STEP_ATTACH,
    STEP_UNATTACH, /* which: the attachment */
    STEP_RAW,      /* which: the id, and the verb */
    STEP_OBSERVE,  /* we observe all jobs, or no more */
    STEP_CLOSE,
    STEP_OTHERS_START,
    STEP_OTHERS_VERB, /* which: the id, and the verb */
    STEP_FAIL,
    STEP_BALK, /* QEMU gives our start up as soon as the job is created */
    STEP_CUT,
    STEP_NO_MEMORY, /* there is none for the next run */
    STEP_LIST_FAILS,
    STEP_LIST_IS_CUT, /* which: the id whose row is missing */
    /* Only in how a scenario begins. What is on its way arrives. */
    STEP_SETTLE,
    STEP_MISS /* what is on the wire was said before we came */
};

/* What may happen in a scenario. */
enum may {
    MAY_ASK = 1 << 0,
    MAY_START = 1 << 1,
    MAY_ATTACH = 1 << 2,
    MAY_RAW = 1 << 3,
    MAY_CLOSE = 1 << 4,
    MAY_BALK = 1 << 5,
    MAY_LACK_MEMORY = 1 << 6,
    MAY_LIST_BADLY = 1 << 7,
    OTHERS_MAY_START = 1 << 8,
    OTHERS_MAY_ACT = 1 << 9,
    MAY_FAIL = 1 << 10,
    MAY_CUT = 1 << 11,      /* and the connection is made again, to the same QEMU */
    MAY_CHANGE = 1 << 12,   /* or to another one */
    OTHERS_START = 1 << 13, /* by themselves, id a, as soon as it is free again */
    OTHER_HAS = 1 << 14,    /* that other one has a job of id a */
    MAY_OBSERVE = 1 << 15
};

struct scenario {
    const char *name;
    const struct age *age;
    unsigned may;
    int ids;    /* that are used */
    bool plain; /* what we start is no mirror */
    bool others_plain;
    bool others_kept;         /* with auto-dismiss off */
    int limit;                /* of jobs; 0: more than there can be */
    const struct step *setup; /* until STEP_NONE */
};

/* What the explorer knows of the memory for a run. */
struct slot {
    uint8_t refs;    /* 0: it is free */
    uint8_t id, run; /* the real one that it stands for; run 0: not known yet */
    bool has_handle; /* the program has it, which is one of the refs */
    bool is_spare;
    bool is_guess;       /* of a start whose reply was lost */
    bool is_mistaken;    /* its end and the next one's beginning fell into a gap: nothing tells */
    bool saw_void;       /* the graph did not show it any more */
    uint8_t snapshot_of; /* the run that the snapshot shows */
    bool timer;
    bool announced, told_end; /* to those who observe all jobs */
    uint8_t outcome;          /* for which it was judged */
};

struct past {
    bool memory_failed, list_failed, list_cut, was_away, refused;
    bool was_closed, is_over;
    bool returning;         /* it was not told yet that it is back */
    uint32_t accepted[IDS]; /* bit n: the reply to the start of run n was read */
    uint8_t heard[IDS];     /* the last run of the id whose beginning was read */
    uint8_t announced[IDS]; /* bit n: run n was */
    uint8_t observed[IDS];  /* bit n: we observed when its beginning was read */
    bool unfollowed[IDS];   /* a run of the id could not be followed */
};

/* All of it that has no pointers. */
struct rest {
    struct qemu qemu;
    struct past past;
    uint8_t acts; /* from outside, yet to come */
    bool no_memory, list_is_out, settled, started_again;
    uint8_t attached_before[ATTACHMENTS]; /* the run that had the id when it was asked; 0: none */
    uint8_t attached_least[ATTACHMENTS];  /* the first that it can get */
};

struct seat {
    struct waiter waiter;
    bool taken;
    uint8_t slot;
};

struct world {
    struct tracker tracker; /* first: the port gets pointers to it */
    struct run runs[SLOTS];
    struct slot slots[SLOTS];
    struct seat seats[WAITERS];
    struct attachment attachments[ATTACHMENTS];
    struct start starts[STARTS];
    struct raw raws[RAWS];
    bool attaching[ATTACHMENTS], starting[STARTS], sending[RAWS];
    struct rest rest;

    const struct scenario *scenario;
    const char *broken; /* the rule that was broken first */
    FILE *log;          /* NULL: nobody listens */

    /* During a step only: the run that the line is about. */
    int now_id, now_run;
    bool is_hanging_up, is_accepting, is_listing;
};

extern const char *const ids[IDS];

/* ----------------------------------------------------- explore_tracker_world.c */

void world_clear(struct world *w);
void world_say(struct world *w, const char *what, const char *which);

int slot_of(const struct world *w, const struct run *run);
int id_of(const char *id); /* its number */
const char *type_of(bool mirror);
/* The run that the line is about is the one that these new ones stand for. */
void world_name_slots(struct world *w);
void world_take_handle(struct world *w, struct run *run);
void world_tidy(struct world *w);               /* handles that nobody needs */
void world_stand_up(struct world *w, int seat); /* it waits no more */
void world_hear(struct world *w);
void world_start(struct world *w, int id);
void world_attach(struct world *w, int id);
void world_raw(struct world *w, int id, enum verb verb);
/* What we have asked for is answered as lost. `but`: not the dismissals that are on their way. */
void world_lose_orders(struct world *w, bool but_dismissals);
void world_finish(struct world *w, int error); /* tracker_over() */
extern const struct tracker_port world_port;

/* ----------------------------------------------------- explore_tracker_steps.c */

void world_begin(struct world *w, const struct scenario *scenario, int acts);
bool world_is_by_itself(struct step step);
int world_steps(const struct world *w, struct step *ret_steps);
void world_do(struct world *w, struct step step);
const char *world_step_text(const struct world *w, struct step step, char *text, size_t size);
extern const char *const order_words[];

/* ----------------------------------------------------- explore_tracker_rules.c */

void must(struct world *w, bool holds, const char *rule);
uint32_t world_fate(const struct world *w, int slot);
void check_sending(struct world *w, int number, enum verb verb, const struct waiter *waiter);
void check_announced(struct world *w, int number);
void check_event(struct world *w, int slot);
void check_row(struct world *w, int slot);
void check_answer(struct world *w, int slot, const struct waiter *asked,
                  const struct answer *answer);
void check_attached(struct world *w, int number, int error);
void check_started(struct world *w, const struct run *run, const struct line *line);
void check_reply(struct world *w, int slot, const struct line *line);
void check_raw_reply(struct world *w, const struct line *line);
void check_outcome(struct world *w, int number); /* also before it is forgotten */
void check_step(struct world *w);                /* after each */
void world_judge(struct world *w, const struct step *steps, int count);
void world_cut(struct world *w);

/* ---------------------------------------------------- explore_tracker_frozen.c */

struct frozen;
extern const size_t frozen_size;
size_t world_freeze(const struct world *w, struct frozen *frozen);
const struct frozen *world_keep(const struct world *w); /* until the next one */
void world_thaw(struct world *w, const struct frozen *frozen, const struct scenario *scenario);
void world_forget_text(void); /* after the last world */

/* -------------------------------------------------- explore_tracker_settings.c */

extern const struct scenario scenarios[];
extern const int scenario_count, deep_count;

#endif
