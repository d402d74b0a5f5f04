/* SPDX-License-Identifier: MIT */
/*
 * Waiting: level-triggered, by any number of waiters, with deadlines that leave the job alone.
 */
#include "nodes.h"
#include "tally.h"

#include <stdlib.h>

#define MANY 10000

static bj_job *halted_mirror(world *w)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    return mirror(w, "disk", "copy", HALTED);
}

static void b04_what_has_happened_is_answered_at_once(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    expect(w, bj_job_ready(job, 0), BJ_E_TIMEOUT);
    expect(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_E_TIMEOUT);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect_end(w, bj_job_ready(job, 0), BJ_OK, BJ_OUTCOME_NONE);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, 0), BJ_OK);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b06_a_deadline_ends_the_wait_and_not_the_job(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);

    names(expect_end(w, bj_job_ready(job, 10), BJ_E_TIMEOUT, BJ_OUTCOME_NONE), bj_job_id(job));
    expect(w, bj_job_done(job, BJ_DONE_OVER, 10), BJ_E_TIMEOUT);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, 10), BJ_E_TIMEOUT);
    assert_string_equal(status_of(w, bj_job_id(job)), "running");

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b06_an_aborts_deadline_leaves_the_abort(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_braked(w, "slow");
    bj_job *job = mirror(w, "disk", "slow", NULL);

    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, 20), BJ_E_TIMEOUT, BJ_OUTCOME_NONE);
    release_brake(w, "slow");
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b07_cancelled_waits_leave_the_job(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    bj_future *stays = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));

    bj_future_cancel(ready);
    bj_future_cancel(done);
    answers(ready, BJ_E_CANCELLED);
    answers(done, BJ_E_CANCELLED);
    assert_string_equal(status_of(w, bj_job_id(job)), "running");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(stays, BJ_OK);
    answers(ready, BJ_E_CANCELLED);
}

static void b05_ten_thousand_waits_are_each_answered_once(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    tally ready = TALLY_INIT, done = TALLY_INIT;
    for (int i = 0; i < MANY; i++) {
        bj_future *wait = bj_job_ready(job, i % 2 ? BJ_TIMEOUT_NONE : 600 * 1000);
        assert_int_equal(bj_future_on_done(wait, tally_closure(&ready)), BJ_OK);
        bj_future_unref(wait);
        wait = bj_job_done(job, i % 2, BJ_TIMEOUT_NONE);
        assert_int_equal(bj_future_on_done(wait, tally_closure(&done)), BJ_OK);
        bj_future_unref(wait);
    }
    assert_int_equal(ready.calls, 0);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    tally_await(&ready, MANY, MANY);
    assert_int_equal(ready.error, BJ_OK);
    assert_int_equal(done.calls, 0);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    tally_await(&done, MANY, MANY);
    assert_int_equal(done.error, BJ_OK);
}

static void b05_ten_thousand_waits_hear_of_the_end_of_qemu(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    tally lost = TALLY_INIT;
    for (int i = 0; i < MANY; i++) {
        bj_future *wait = i % 2 ? bj_job_ready(job, BJ_TIMEOUT_NONE)
                                : bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
        assert_int_equal(bj_future_on_done(wait, tally_closure(&lost)), BJ_OK);
        bj_future_unref(wait);
    }

    kill_qemu(w);
    tally_await(&lost, MANY, MANY);
    assert_int_equal(lost.error, BJ_E_JOB_LOST);
}

static void b05_thousands_come_and_go(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    bj_future *stays = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future **futures = calloc(MANY, sizeof(bj_future *));
    assert_non_null(futures);
    for (int i = 0; i < MANY; i++)
        futures[i] = bj_job_ready(job, 600 * 1000);
    /* In an order that is neither first nor last in. */
    for (int i = 0; i < MANY; i++)
        bj_future_cancel(futures[i * 7919 % MANY]);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(bj_future_error(futures[i]), BJ_E_CANCELLED);
        bj_future_unref(futures[i]);
    }
    free(futures);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(stays, BJ_OK);
}

static void b08_all_of_many_jobs_are_awaited(void **state)
{
    world *w = *state;
    bj_job *jobs[8];
    bj_future *ready[8], *pivots[8];
    for (int i = 0; i < 8; i++) {
        const char *disk = text_of(w, "disk%d", i), *copy = text_of(w, "copy%d", i);
        add_disk(w, disk);
        add_empty(w, copy);
        jobs[i] = mirror(w, disk, copy, NULL);
        ready[i] = hold(w, bj_job_ready(jobs[i], BJ_TIMEOUT_NONE));
    }
    for (int i = 0; i < 8; i++)
        answers(ready[i], BJ_OK);
    for (int i = 0; i < 8; i++)
        pivots[i] = hold(w, bj_job_pivot(jobs[i], BJ_PIVOT_ONLY_IF_READY, BJ_TIMEOUT_NONE));
    for (int i = 0; i < 8; i++)
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b04_what_has_happened_is_answered_at_once),
        TEST(b06_a_deadline_ends_the_wait_and_not_the_job),
        TEST(b06_an_aborts_deadline_leaves_the_abort),
        TEST(b07_cancelled_waits_leave_the_job),
        TEST(b05_ten_thousand_waits_are_each_answered_once),
        TEST(b05_ten_thousand_waits_hear_of_the_end_of_qemu),
        TEST(b05_thousands_come_and_go),
        TEST(b08_all_of_many_jobs_are_awaited),
    };
    return run_on_both(tests);
}
