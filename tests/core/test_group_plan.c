/* SPDX-License-Identifier: MIT */
/*
 * A group's plan in every order: three jobs answer, can pivot and can't, somebody stops listening;
 * each of it at any time, between any two orders. From every state everything that can happen next
 * is tried; what is known by now is kept apart from the plan, which is held against it. A rule that
 * is broken is printed with the way there.
 */
#include "model/group_plan.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#define COUNT 3
#define FLIPS_MAX 2 /* of whether a job can pivot: it can, and can't any more */

enum request { NO_REQUEST, QUESTION, SOFT, FORCE };

struct job {
    struct group_part part;
    enum request owes; /* an answer to this */
    bool asked, held, aborted, forced, refused;
    bool can_pivot;
    unsigned flips;
    bool answered; /* the question */
    int error;     /* its last answer */
    bj_outcome outcome;
};

/* Always at the same place, so that a copy of it can be put back, and compared. */
static struct world {
    struct group_plan plan;
    struct job jobs[COUNT];
    enum group_goal goal; /* what the group was asked */
    struct job *decider;  /* by the rules of blockjob.h */
    int error;
    bool switches, finished, quit;
} now;

/* ------------------------------------------------------------------- searching */

#define SEEN_MAX (1u << 22)
#define PATH_MAX_LENGTH 256

static uint64_t *seen;
static size_t seen_count, transitions;
static const char *path[PATH_MAX_LENGTH];
static size_t path_length;
static const char *broken[64]; /* rules */
static size_t broken_count;
static bool is_broken; /* on this way */

static uint64_t hash_of_now(void)
{
    const unsigned char *bytes = (const unsigned char *)&now;
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof now; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash ? hash : 1;
}

static bool is_new(void)
{
    uint64_t hash = hash_of_now();
    size_t at = hash % SEEN_MAX;
    while (seen[at] && seen[at] != hash)
        at = (at + 1) % SEEN_MAX;
    bool new = !seen[at];
    seen[at] = hash;
    seen_count += new;
    assert_true(seen_count < SEEN_MAX / 2);
    return new;
}

static void must(bool holds, const char *rule)
{
    if (holds || is_broken)
        return;
    is_broken = true;
    for (size_t i = 0; i < broken_count; i++)
        if (strcmp(broken[i], rule) == 0)
            return;
    broken[broken_count++] = rule;
    printf("  BROKEN: %s\n", rule);
    for (size_t i = 0; i < path_length; i++)
        printf("      %2zu.  %s\n", i + 1, path[i]);
}

/* -------------------------------------------------------------------- the rules */

static bool is_over(const struct job *job)
{
    return job->outcome != BJ_OUTCOME_NONE;
}

static size_t count_owed(void)
{
    size_t count = 0;
    for (int i = 0; i < COUNT; i++)
        count += now.jobs[i].owes != NO_REQUEST;
    return count;
}

static bool all_could_be_sent(void)
{
    for (int i = 0; i < COUNT; i++) {
        const struct job *job = &now.jobs[i];
        bool waits = job->owes == QUESTION && job->held && job->can_pivot;
        bool pivoted = job->answered && job->outcome == BJ_OUTCOME_PIVOTED;
        if (!waits && !pivoted)
            return false;
    }
    return true;
}

static bool rolls_back(void)
{
    return now.goal == GROUP_PIVOT && !now.switches && now.decider;
}

/* The others need not be waited for. */
static bool is_decided_at_once(void)
{
    return now.decider && (now.goal == GROUP_READY || now.goal == GROUP_ANY ||
                           (now.goal == GROUP_DONE && now.error == BJ_E_STALLED));
}

static void note_decider(struct job *job)
{
    bool is_first = !now.decider && (job->error != BJ_OK || now.goal == GROUP_ANY);
    bool overrules = now.decider && now.goal == GROUP_DONE && job->error == BJ_E_STALLED &&
                     now.error != BJ_E_STALLED;
    if (is_first || overrules) {
        now.decider = job;
        now.error = job->error;
    }
}

static bool is_done_with(const struct job *job)
{
    if (job == now.decider || is_over(job))
        return true;
    return rolls_back() ? job->forced : job->answered;
}

static bj_outcome expected_outcome(void)
{
    if (now.decider)
        return now.decider->outcome;
    for (int i = 1; i < COUNT; i++)
        if (now.jobs[i].outcome != now.jobs[0].outcome)
            return BJ_OUTCOME_NONE;
    return now.jobs[0].outcome;
}

/* ------------------------------------------------------------------- the orders */

static void ask(struct job *job, bool held)
{
    must(!job->asked, "each is asked once");
    must(held == (now.goal == GROUP_PIVOT), "pivots are held, and nothing else");
    must(!rolls_back(), "no pivot is asked for in a rollback");
    job->asked = true;
    job->held = held;
    job->owes = QUESTION;
}

static void let_go(struct job *job)
{
    must(job->owes == QUESTION && job->held, "only what is held is let go");
    must(now.switches || !now.decider, "no pivot is let go once one has failed");
    must(now.switches || all_could_be_sent(), "no pivot is let go unless all could be sent");
    now.switches = true;
    job->held = false;
}

static void leave(struct job *job)
{
    must(job->owes != NO_REQUEST, "only who owes an answer is left");
    must(now.quit || rolls_back() || is_decided_at_once(), "nobody is left who is waited for");
    job->owes = NO_REQUEST;
    job->held = false;
}

static void abort_job(struct job *job, enum request request)
{
    must(rolls_back(), "only a rollback aborts");
    must(job != now.decider, "who decides is left alone");
    must(job->owes == NO_REQUEST, "nobody is asked who owes an answer");
    must(!is_over(job), "what is over is not aborted");
    must(request == FORCE ? job->refused : !job->aborted, "force is for what refused, once");
    job->aborted = true;
    job->forced = request == FORCE;
    job->refused = false;
    job->owes = request;
}

static void finish(void)
{
    must(!now.finished, "it is answered once");
    must(count_owed() == 0, "nobody owes when it is answered");
    for (int i = 0; i < COUNT; i++)
        must(is_done_with(&now.jobs[i]) || is_decided_at_once(),
             rolls_back() ? "a rollback aborts all others" : "all have answered");
    must(now.plan.decider == (now.decider ? &now.decider->part : NULL) &&
             now.plan.error == now.error,
         "the right one decides");
    must(group_plan_outcome(&now.plan) == expected_outcome(), "the outcome is right");
    now.finished = true;
}

static void check_rest(void)
{
    must(now.finished || now.quit || count_owed() > 0, "nobody hangs");
    must(now.finished || now.quit || !is_decided_at_once(), "what is decided is answered");
    must(!now.quit || count_owed() == 0, "whoever stops listening leaves all");
    must(now.quit || now.decider || now.goal != GROUP_PIVOT || now.switches || now.finished ||
             !all_could_be_sent(),
         "what could be sent is let go");
    for (int i = 0; i < COUNT && !now.quit; i++) {
        const struct job *job = &now.jobs[i];
        bool late = job->owes != NO_REQUEST && !(job->held && job->can_pivot);
        must(group_plan_is_late(&now.plan, &job->part) == late, "who is late is told");
    }
}

static void obey_about(struct job *job, enum group_act act)
{
    if (act == GROUP_LET_GO)
        let_go(job);
    else if (act == GROUP_LEAVE)
        leave(job);
    else if (act == GROUP_ABORT_SOFT || act == GROUP_ABORT_FORCE)
        abort_job(job, act == GROUP_ABORT_SOFT ? SOFT : FORCE);
    else
        ask(job, act == GROUP_ASK_HELD);
}

static void obey(struct group_order order)
{
    struct job *job = (struct job *)order.part;

    must(!now.finished || order.act == GROUP_WAIT, "nothing happens after the end");
    must(!now.quit || order.act == GROUP_WAIT || order.act == GROUP_LEAVE,
         "nothing is asked when nobody listens");
    must((job == NULL) == (order.act == GROUP_WAIT || order.act == GROUP_FINISH),
         "an order is about a job");
    if (is_broken)
        return;
    if (order.act == GROUP_FINISH)
        finish();
    else if (job)
        obey_about(job, order.act);
    else
        check_rest();
}

/* -------------------------------------------------------------------- the facts */

/* What may be answered to what. */
static const struct reply {
    unsigned goals; /* bits; 0: to any */
    enum request to;
    int error;
    bj_outcome outcome;
    const char *name[COUNT];
} replies[] = {
#define TO(goal) (1u << GROUP_##goal)
#define NAMED(text)                                                                                \
    {                                                                                              \
        "a " text, "b " text, "c " text                                                            \
    }
    {TO(READY), QUESTION, BJ_OK, BJ_OUTCOME_NONE, NAMED("is ready")},
    {TO(ABORT), QUESTION, BJ_OK, BJ_OUTCOME_NONE, NAMED("will be aborted")},
    {TO(DONE) | TO(ANY), QUESTION, BJ_OK, BJ_OUTCOME_COMPLETED, NAMED("is COMPLETED")},
    {TO(DONE) | TO(ANY) | TO(PIVOT), QUESTION, BJ_OK, BJ_OUTCOME_PIVOTED, NAMED("is PIVOTED")},
    {TO(ABORT), QUESTION, BJ_OK, BJ_OUTCOME_CANCELLED, NAMED("is CANCELLED")},
    {TO(PIVOT), QUESTION, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED, NAMED("ended as CANCELLED")},
    {TO(PIVOT) | TO(ABORT), QUESTION, BJ_E_REFUSED, BJ_OUTCOME_NONE, NAMED("refused")},
    {0, QUESTION, BJ_E_STALLED, BJ_OUTCOME_NONE, NAMED("stands still")},
    {0, QUESTION, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED, NAMED("failed")},
    {0, SOFT, BJ_OK, BJ_OUTCOME_COPIED, NAMED("was aborted")},
    {0, SOFT, BJ_E_STALLED, BJ_OUTCOME_NONE, NAMED("refused its soft abort")},
    {0, SOFT, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED, NAMED("failed before its soft abort")},
    {0, FORCE, BJ_OK, BJ_OUTCOME_CANCELLED, NAMED("was aborted by force")},
    {0, FORCE, BJ_E_CLOSED, BJ_OUTCOME_NONE, NAMED("refused force")},
};
#define REPLY_COUNT (sizeof replies / sizeof replies[0])

static bool may_answer(const struct job *job, const struct reply *reply)
{
    return job->owes == reply->to && (!reply->goals || reply->goals & 1u << now.goal);
}

static void answer(struct job *job, const struct reply *reply)
{
    bool counts = job->owes == QUESTION && !rolls_back() && !is_decided_at_once() && !now.quit;

    job->error = reply->error;
    job->outcome = reply->outcome;
    job->answered |= job->owes == QUESTION;
    job->refused = job->owes == SOFT && !is_over(job);
    job->owes = NO_REQUEST;
    job->held = false;
    if (counts)
        note_decider(job);
    bool decides = group_plan_answered(&now.plan, &job->part, reply->error, reply->outcome);
    must(decides == (counts && now.decider == job), "who decides is told");
}

static void flip(struct job *job)
{
    job->flips++;
    job->can_pivot = !job->can_pivot;
    group_plan_can_pivot(&job->part, job->can_pivot);
}

/* --------------------------------------------------------------------- every way */

static void explore(void);

/* Goes one way from here, and comes back. */
static void go_on(const struct world *here, const char *name)
{
    assert_true(path_length < PATH_MAX_LENGTH);
    path[path_length - 1] = name;
    transitions++;
    if (!is_broken)
        explore();
    is_broken = false;
    memcpy(&now, here, sizeof now);
}

static void explore_answers(const struct world *here, int i)
{
    struct job *job = &now.jobs[i];
    for (size_t r = 0; r < REPLY_COUNT; r++) {
        if (!may_answer(job, &replies[r]))
            continue;
        path[path_length - 1] = replies[r].name[i];
        answer(job, &replies[r]);
        go_on(here, replies[r].name[i]);
    }
}

static void explore_facts(const struct world *here)
{
    static const char *const flips[] = NAMED("can pivot, or can't any more");
    for (int i = 0; i < COUNT; i++) {
        explore_answers(here, i);
        if (now.goal == GROUP_PIVOT && !now.quit && now.jobs[i].flips < FLIPS_MAX) {
            flip(&now.jobs[i]);
            go_on(here, flips[i]);
        }
    }
    if (!now.quit && !now.finished) {
        now.quit = true;
        group_plan_quit(&now.plan);
        go_on(here, "nobody listens any more");
    }
}

static void explore(void)
{
    static const char *const names[GROUP_ACTS] = {
        "> nothing to do", "> ask",          "> ask, held",      "> let go",
        "> leave",         "> abort softly", "> abort by force", "> finish",
    };
    if (!is_new())
        return;
    struct world here;
    memcpy(&here, &now, sizeof here);
    path_length++;
    struct group_order order = group_plan_next(&now.plan);
    path[path_length - 1] = names[order.act];
    obey(order);
    go_on(&here, names[order.act]);
    if (!now.finished)
        explore_facts(&here);
    path_length--;
}

static void begin(enum group_goal goal)
{
    memset(&now, 0, sizeof now);
    now.goal = goal;
    for (int i = 0; i < COUNT; i++)
        group_plan_add(&now.plan, &now.jobs[i].part);
    group_plan_begin(&now.plan, goal);
}

static void in_every_order(enum group_goal goal)
{
    seen = calloc(SEEN_MAX, sizeof *seen);
    assert_non_null(seen);
    seen_count = transitions = 0;
    broken_count = 0;
    begin(goal);
    explore();
    print_message("%zu states, %zu transitions\n", seen_count, transitions);
    free(seen);
    assert_int_equal(broken_count, 0);
}

static void ready_in_every_order(void **state)
{
    (void)state;
    in_every_order(GROUP_READY);
}

static void done_in_every_order(void **state)
{
    (void)state;
    in_every_order(GROUP_DONE);
}

static void any_in_every_order(void **state)
{
    (void)state;
    in_every_order(GROUP_ANY);
}

static void abort_in_every_order(void **state)
{
    (void)state;
    in_every_order(GROUP_ABORT);
}

static void pivot_in_every_order(void **state)
{
    (void)state;
    in_every_order(GROUP_PIVOT);
}

static void one_without_a_pivot_is_known_before_anything_is_asked(void **state)
{
    (void)state;
    begin(GROUP_PIVOT);
    group_plan_unfit(&now.plan, &now.jobs[1].part, BJ_OUTCOME_COMPLETED);
    assert_int_equal(group_plan_next(&now.plan).act, GROUP_FINISH);
    assert_int_equal(now.plan.error, BJ_E_STATE);
    assert_ptr_equal(now.plan.decider, &now.jobs[1].part);
    assert_int_equal(group_plan_outcome(&now.plan), BJ_OUTCOME_COMPLETED);
    assert_int_equal(group_plan_next(&now.plan).act, GROUP_WAIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_in_every_order),
        cmocka_unit_test(done_in_every_order),
        cmocka_unit_test(any_in_every_order),
        cmocka_unit_test(abort_in_every_order),
        cmocka_unit_test(pivot_in_every_order),
        cmocka_unit_test(one_without_a_pivot_is_known_before_anything_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) == 0 ? 0 : 1;
}
