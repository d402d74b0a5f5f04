/* SPDX-License-Identifier: MIT */
/*
 * The stories that are told to the tracker.
 */
#include "explore_tracker_world.h"

static const struct age age_10_0 = {.name = "10.0", .statuses = true, .dismissals = true};
static const struct age age_2_12 = {.name = "2.12", .dismissals = true};
static const struct age age_2_8 = {.name = "2.8"};

/* ------------------------------------------------------------- how they begin */

enum { A, B };
enum { COMPLETE_A = VERB_COMPLETE * 8 + A };
enum { DONE_OF_A = 8, DONE_OF_B }; /* the question, and the place of the run */

static const struct step nothing[] = {{STEP_NONE, 0}};
static const struct step starting_a[] = {{STEP_START, A}, {STEP_NONE, 0}};
static const struct step starting_b[] = {{STEP_START, B}, {STEP_NONE, 0}};
static const struct step starting_unknown[] = {
    {STEP_OTHERS_START, A},
    {STEP_MISS, 0},
    {STEP_START, A},
    {STEP_NONE, 0},
};
static const struct step our_ready[] = {
    {STEP_START, A}, {STEP_SETTLE, 0}, {STEP_GO_ON, A}, {STEP_SETTLE, 0}, {STEP_NONE, 0},
};
static const struct step attaching[] = {
    {STEP_OTHERS_START, A},
    {STEP_ATTACH, A},
    {STEP_NONE, 0},
};
static const struct step attaching_to_the_end[] = {
    {STEP_OTHERS_START, A},         {STEP_GO_ON, A},  {STEP_SETTLE, 0},
    {STEP_OTHERS_VERB, COMPLETE_A}, {STEP_ATTACH, A}, {STEP_NONE, 0},
};
static const struct step attaching_late[] = {
    {STEP_OTHERS_START, A}, {STEP_GO_ON, A}, {STEP_MISS, 0}, {STEP_ATTACH, A}, {STEP_NONE, 0},
};
static const struct step others_ready[] = {
    {STEP_OTHERS_START, A}, {STEP_GO_ON, A},  {STEP_SETTLE, 0},
    {STEP_ATTACH, A},       {STEP_SETTLE, 0}, {STEP_NONE, 0},
};
static const struct step others_completing[] = {
    {STEP_OTHERS_START, A}, {STEP_GO_ON, A},  {STEP_SETTLE, 0},
    {STEP_ATTACH, A},       {STEP_SETTLE, 0}, {STEP_OTHERS_VERB, COMPLETE_A},
    {STEP_NONE, 0},
};
static const struct step two_runs[] = {
    {STEP_START, A},        {STEP_SETTLE, 0}, {STEP_GO_ON, A},  {STEP_SETTLE, 0},
    {STEP_OTHERS_START, B}, {STEP_ATTACH, B}, {STEP_SETTLE, 0}, {STEP_NONE, 0},
};
static const struct step two_runs_awaited[] = {
    {STEP_START, A},       {STEP_SETTLE, 0},       {STEP_GO_ON, A},  {STEP_SETTLE, 0},
    {STEP_ASK, DONE_OF_A}, {STEP_OTHERS_START, B}, {STEP_ATTACH, B}, {STEP_SETTLE, 0},
    {STEP_ASK, DONE_OF_B}, {STEP_NONE, 0},
};

static const struct step observing[] = {{STEP_OBSERVE, 1}, {STEP_SETTLE, 0}, {STEP_NONE, 0}};
static const struct step observing_unknown[] = {
    {STEP_OTHERS_START, A},
    {STEP_MISS, 0},
    {STEP_OBSERVE, 1},
    {STEP_NONE, 0},
};
static const struct step observing_b[] = {
    {STEP_OTHERS_START, B}, {STEP_GO_ON, B}, {STEP_MISS, 0}, {STEP_OBSERVE, 1}, {STEP_NONE, 0},
};
static const struct step observing_late[] = {
    {STEP_OTHERS_START, A}, {STEP_GO_ON, A}, {STEP_MISS, 0}, {STEP_OBSERVE, 1}, {STEP_NONE, 0},
};
static const struct step observing_the_end[] = {
    {STEP_OTHERS_START, A}, {STEP_GO_ON, A},   {STEP_MISS, 0}, {STEP_OTHERS_VERB, COMPLETE_A},
    {STEP_MISS, 0},         {STEP_OBSERVE, 1}, {STEP_NONE, 0},
};

/* ------------------------------------------------------ and what may happen */

#define CALLERS (MAY_ASK | MAY_START | MAY_ATTACH | MAY_RAW | MAY_CLOSE)
#define OTHERS (OTHERS_MAY_START | OTHERS_MAY_ACT | MAY_FAIL)
#define ACCIDENTS (MAY_BALK | MAY_LACK_MEMORY | MAY_LIST_BADLY | MAY_CUT | MAY_CHANGE)

/* Without "created" nothing tells two runs of one id apart that come close together. */
#define ONE_RUN ((CALLERS & ~MAY_START) | OTHERS_MAY_ACT | MAY_FAIL | ACCIDENTS)

const struct scenario scenarios[] = {
    {
        .name = "10.0 nothing is there",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS,
        .ids = 1,
        .setup = nothing,
    },
    {
        .name = "10.0 a mirror is started",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS,
        .ids = 1,
        .setup = starting_a,
    },
    {
        .name = "10.0 a backup is started, its id used again",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS | OTHERS_START,
        .ids = 1,
        .plain = true,
        .others_plain = true,
        .setup = starting_a,
    },
    {
        .name = "10.0 a backup is started, its id is a job's already",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | MAY_CUT,
        .ids = 1,
        .plain = true,
        .others_plain = true,
        .setup = starting_unknown,
    },
    {
        .name = "10.0 our mirror is ready",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS | OTHER_HAS,
        .ids = 1,
        .setup = our_ready,
    },
    {
        .name = "10.0 another client's mirror is ready",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS,
        .ids = 1,
        .setup = others_ready,
    },
    {
        .name = "10.0 another client completes, the id is used again",
        .age = &age_10_0,
        .may = (CALLERS & ~MAY_START) | MAY_CUT | MAY_CHANGE | OTHERS_START,
        .ids = 1,
        .setup = others_completing,
    },
    {
        .name = "10.0 attaching, the id is used again",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS | OTHERS_START,
        .ids = 1,
        .others_plain = true,
        .setup = attaching,
    },
    {
        .name = "10.0 attaching to what completes, the id is used again",
        .age = &age_10_0,
        .may = MAY_ATTACH | MAY_CUT | OTHERS_START,
        .ids = 1,
        .setup = attaching_to_the_end,
    },
    {
        .name = "10.0 attaching to what is over and kept",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS,
        .ids = 1,
        .others_plain = true,
        .others_kept = true,
        .setup = attaching_late,
    },
    {
        .name = "10.0 two ids, at most one job",
        .age = &age_10_0,
        .may = MAY_START | MAY_ATTACH | MAY_CLOSE | OTHERS_MAY_START | MAY_CUT,
        .ids = 2,
        .limit = 1,
        .plain = true,
        .others_plain = true,
        .setup = starting_b,
    },
    {
        .name = "10.0 two ids, at most two jobs",
        .age = &age_10_0,
        .may = MAY_START | MAY_ATTACH | MAY_CLOSE | OTHERS_MAY_START | MAY_CUT,
        .ids = 2,
        .limit = 2,
        .plain = true,
        .others_plain = true,
        .setup = starting_b,
    },
    {
        .name = "2.12 a mirror is started",
        .age = &age_2_12,
        .may = ONE_RUN,
        .ids = 1,
        .setup = starting_a,
    },
    {
        .name = "2.12 attaching to a mirror",
        .age = &age_2_12,
        .may = ONE_RUN,
        .ids = 1,
        .setup = attaching,
    },
    {
        .name = "2.8 a mirror is started",
        .age = &age_2_8,
        .may = ONE_RUN,
        .ids = 1,
        .setup = starting_a,
    },
    {
        .name = "10.0 all jobs are observed",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS | MAY_OBSERVE,
        .ids = 1,
        .setup = observing,
    },
    {
        .name = "10.0 all jobs are observed, one is there",
        .age = &age_10_0,
        .may = MAY_START | MAY_ATTACH | MAY_CLOSE | OTHERS | ACCIDENTS | MAY_OBSERVE |
               OTHERS_START | OTHER_HAS,
        .ids = 1,
        .setup = observing_unknown,
    },
    {
        .name = "10.0 all jobs are observed, one ends",
        .age = &age_10_0,
        .may = MAY_ATTACH | MAY_CLOSE | MAY_OBSERVE | OTHERS_MAY_ACT | ACCIDENTS | OTHERS_START,
        .ids = 1,
        .setup = observing_the_end,
    },
    {
        .name = "10.0 all jobs are observed, one is kept",
        .age = &age_10_0,
        .may = MAY_ATTACH | MAY_CLOSE | MAY_OBSERVE | OTHERS | ACCIDENTS,
        .ids = 1,
        .others_plain = true,
        .others_kept = true,
        .setup = observing_late,
    },
    {
        .name = "10.0 two ids are observed, at most one job",
        .age = &age_10_0,
        .may = MAY_START | MAY_ATTACH | MAY_CLOSE | MAY_OBSERVE | OTHERS_MAY_START | MAY_CUT,
        .ids = 2,
        .limit = 1,
        .plain = true,
        .others_plain = true,
        .setup = observing_unknown,
    },
    {
        .name = "10.0 two ids are observed",
        .age = &age_10_0,
        .may = MAY_LACK_MEMORY | MAY_OBSERVE | OTHERS_MAY_START | MAY_CUT,
        .ids = 2,
        .setup = observing_b,
    },
    {
        .name = "2.12 all jobs are observed",
        .age = &age_2_12,
        .may = ONE_RUN | MAY_OBSERVE,
        .ids = 1,
        .setup = observing_unknown,
    },
    /* Two runs are alive, and nothing is ruled out. These are the deep ones. */
    {
        .name = "10.0 two runs",
        .age = &age_10_0,
        .may = CALLERS | OTHERS | ACCIDENTS,
        .ids = 2,
        .others_plain = true,
        .setup = two_runs,
    },
    {
        .name = "10.0 two awaited runs",
        .age = &age_10_0,
        .may = (CALLERS & ~MAY_ASK) | OTHERS | ACCIDENTS,
        .ids = 2,
        .others_plain = true,
        .setup = two_runs_awaited,
    },
};

const int scenario_count = sizeof scenarios / sizeof scenarios[0], deep_count = 2;
