/* SPDX-License-Identifier: MIT */
/*
 * The pivot as one operation: it waits for ready, is sent once, and says why it can't be.
 */
#include "nodes.h"

static void b31_pivot_before_ready_waits_for_it(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_false(bj_future_is_done(pivot));
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(disk_of_guest(w), "copy");
}

static void b31_pivot_only_if_ready_says_not_ready(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *refused = expect_end(w, bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, BJ_TIMEOUT_NONE),
                                    BJ_E_NOT_READY, BJ_OUTCOME_NONE);
    names(refused, bj_job_id(job));

    /* Nothing was sent: the job becomes ready and stays so. */
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(status_of(w, bj_job_id(job)), "ready");
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b32_concurrent_pivots_are_one(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);
    bj_future *pivots[16];

    for (int i = 0; i < 8; i++)
        pivots[i] = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    for (int i = 8; i < 16; i++)
        pivots[i] = hold(w, bj_job_pivot(job, i % 2, BJ_TIMEOUT_NONE));

    for (int i = 0; i < 16; i++)
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b06_pivot_whose_deadline_passed_is_not_sent(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *late =
        expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 10), BJ_E_TIMEOUT, BJ_OUTCOME_NONE);
    names(late, bj_job_id(job));
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(status_of(w, bj_job_id(job)), "ready");
}

static void b07_pivot_that_nobody_awaits_is_not_started(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *cancelled = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future_cancel(cancelled);
    answers(cancelled, BJ_E_CANCELLED);
    bj_future_unref(bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(status_of(w, bj_job_id(job)), "ready");
}

static void b05_one_pivot_leaving_disturbs_no_other(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *stays = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *leaves = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future_cancel(leaves);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 10), BJ_E_TIMEOUT);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    ends(stays, BJ_OK, BJ_OUTCOME_PIVOTED);
    answers(leaves, BJ_E_CANCELLED);
}

static void b16_pivot_hears_of_an_abort(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    ends(pivot, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
}

static void b34_soft_async_abort_during_a_pivot_is_refused(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_braked(w, "slow");
    add_guest(w, "disk");
    bj_future *started =
        bj_monitor_mirror(w->monitor, "disk", "slow", "none", NULL, BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    /* What the guest wrote has to be copied before the switch, and the target takes nothing. */
    guest_writes(w, "disk");
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_E_STATE);
    assert_false(bj_future_is_done(pivot));
    release_brake(w, "slow");
    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b13_pivot_of_a_paused_job_says_stalled(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_OK);

    bj_future *stalled = expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE),
                                    BJ_E_STALLED, BJ_OUTCOME_NONE);
    names(stalled, "paused");

    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b31_pivot_before_ready_waits_for_it),
        TEST(b31_pivot_only_if_ready_says_not_ready),
        TEST(b32_concurrent_pivots_are_one),
        TEST(b05_one_pivot_leaving_disturbs_no_other),
        TEST(b06_pivot_whose_deadline_passed_is_not_sent),
        TEST(b07_pivot_that_nobody_awaits_is_not_started),
        TEST(b13_pivot_of_a_paused_job_says_stalled),
        TEST(b16_pivot_hears_of_an_abort),
        TEST(b34_soft_async_abort_during_a_pivot_is_refused),
    };
    return run_on_both(tests);
}
