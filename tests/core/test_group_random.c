/* SPDX-License-Identifier: MIT */
/*
 * Groups in every order: what becomes ready, fails, stands still, is cancelled, aborted and given
 * up comes at random, and nothing is ever pivoted unless all were ready. The seed is printed.
 */
#include "fake.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 100
#define STEPS 16
#define COUNT 3
#define PIVOTS 4

/* A round: three mirrors, their group, and the pivots of it that were asked for. */
typedef struct turn {
    world *w;
    int number;
    bj_group *group;
    bj_job *jobs[COUNT];
    bj_future *pivots[PIVOTS];
    int pivot_count;
} turn;

static unsigned seed;

static int roll(int sides)
{
    return rand_r(&seed) % sides;
}

static void begin(turn *t)
{
    world *w = t->w;
    assert_int_equal(bj_group_new(w->ctx, &t->group), BJ_OK);
    hold_group(w, t->group);
    for (int i = 0; i < COUNT; i++) {
        const char *name = text_of(w, "job%d-%d", t->number, i);
        t->jobs[i] =
            mirror(w, name, text_of(w, "to-%s", name), text_of(w, JSON({"job-id": "%s"}), name));
        assert_int_equal(bj_group_add(t->group, t->jobs[i]), BJ_OK);
    }
}

static void ask_pivot(turn *t)
{
    if (t->pivot_count < PIVOTS)
        t->pivots[t->pivot_count++] = hold(t->w, bj_group_pivot(t->group, BJ_TIMEOUT_NONE));
}

static void give_up_pivot(turn *t)
{
    if (t->pivot_count > 0)
        bj_future_cancel(t->pivots[roll(t->pivot_count)]);
}

static void take_step(turn *t)
{
    world *w = t->w;
    bj_job *job = t->jobs[roll(COUNT)];
    const char *id = bj_job_id(job);

    switch (roll(32)) {
    case 0:
    case 1:
        ask_pivot(t);
        break;
    case 2:
        give_up_pivot(t);
        break;
    case 3:
        try_step(w, JSON({"do": "fail", "job": "%s"}), id);
        break;
    case 4:
        try_step(w, JSON({"do": "io-error", "job": "%s", "action": "stop"}), id);
        break;
    case 5:
        try_step(w, JSON({"do": "execute", "command": "job-cancel", "arguments": {"id": "%s"}}),
                          id);
        break;
    case 6:
        try_step(w, JSON({"do": "bounce", "job": "%s", "times": 3}), id);
        break;
    case 7:
        hold(w, bj_job_resume(job, BJ_TIMEOUT_NONE));
        break;
    case 8:
        if (roll(3) == 0)
            hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
        break;
    case 9:
        if (roll(4) == 0)
            hold(w, bj_group_abort(t->group, roll(4), BJ_TIMEOUT_NONE));
        break;
    default:
        try_step(w, JSON({"do": "ready", "job": "%s"}), id);
        break;
    }
}

static void finish(turn *t)
{
    expect(t->w, bj_group_abort(t->group, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    for (int i = 0; i < t->pivot_count; i++) {
        if (bj_future_wait(t->pivots[i], 60 * 1000) != BJ_OK)
            fail_msg("a pivot of round %d was not answered", t->number);
    }
}

static void check(const turn *t)
{
    bool any_pivoted = false, all_pivoted = true, all_ready = true;
    for (int i = 0; i < COUNT; i++) {
        bool pivoted = bj_job_outcome(t->jobs[i]) == BJ_OUTCOME_PIVOTED;
        any_pivoted |= pivoted;
        all_pivoted &= pivoted;
        all_ready &= bj_job_is_ready(t->jobs[i]);
    }
    assert_true(all_ready || !any_pivoted);
    for (int i = 0; i < t->pivot_count; i++) {
        int error = bj_future_error(t->pivots[i]);
        assert_true(error != BJ_OK || all_pivoted);
        assert_string_not_equal(error == BJ_OK ? "no error" : bj_future_text(t->pivots[i]), "");
    }
}

static void b08_nothing_is_pivoted_unless_all_were_ready(void **state)
{
    world *w = *state;
    seed = (unsigned)time(NULL);
    const char *given = getenv("SEED");
    if (given)
        seed = (unsigned)strtoul(given, NULL, 10);
    print_message("SEED=%u\n", seed);
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_STALL_MS, 20), BJ_OK);
    w->monitor = connect_to(w, fake_path(w));

    int switched = 0;
    for (int round = 0; round < ROUNDS; round++) {
        turn t = {.w = w, .number = round};
        begin(&t);
        for (int i = 0; i < STEPS; i++)
            take_step(&t);
        finish(&t);
        check(&t);
        switched += bj_job_outcome(t.jobs[0]) == BJ_OUTCOME_PIVOTED;
    }
    print_message("%d of %d rounds ended with a switch\n", switched, ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(b08_nothing_is_pivoted_unless_all_were_ready),
    };
    return run_on_fake(tests);
}
