/* SPDX-License-Identifier: MIT */
/*
 * How jobs end, on a real qemu-storage-daemon and a real QEMU: the outcome says what happened to
 * the disk, and the disk agrees.
 */
#include "nodes.h"

static void b14_complete_of_ready_is_pivoted(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", NULL);

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_job_is_ready(job));
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
    assert_string_equal(disk_of_guest(w), "copy");
}

static void b14_soft_cancel_of_ready_is_copied(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", NULL);

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COPIED);

    assert_string_equal(disk_of_guest(w), "disk");
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(same_data(w, "disk", "copy"));
}

static void b14_soft_cancel_before_ready_is_cancelled(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);

    assert_false(bj_job_is_ready(job));
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_CANCELLED);
}

static void b14_force_after_ready_is_cancelled(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", NULL);

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);

    assert_string_equal(disk_of_guest(w), "disk");
}

static void b11_completed_with_error_is_failed_with_qemus_text(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing(w, "bad", "write");
    bj_job *job = mirror(w, "disk", "bad", NULL);

    bj_future *done = expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
                                 BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);

    names(done, "Input/output error");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_FAILED);
    assert_string_equal(bj_job_text(job), "Input/output error");
}

static void b11_all_waits_on_a_failing_job_hear_why(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing(w, "bad", "flush");
    bj_job *job = mirror(w, "disk", "bad", HALTED);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    names(ends(ready, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "Input/output error");
    names(ends(pivot, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "Input/output error");
    names(ends(done, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "Input/output error");
}

static void b12_an_error_that_is_ignored_ends_nothing(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing_once(w, "shaky", "write");
    bj_job *job = mirror(w, "disk", "shaky", JSON({"on-target-error": "ignore"}));

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    await_event(w, "BLOCK_JOB_ERROR", "device", bj_job_id(job));
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b17_abort_that_comes_too_late_tells_the_truth(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *abort = hold(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE));

    /* QEMU decides who wins; both callers hear of it, and the disk agrees. */
    answers(abort, BJ_OK);
    assert_int_equal(bj_future_outcome(abort), bj_job_outcome(job));
    answers(pivot, bj_job_outcome(job) == BJ_OUTCOME_PIVOTED ? BJ_OK : BJ_E_JOB_ENDED);
    assert_int_equal(bj_future_outcome(pivot), bj_job_outcome(job));
    if (bj_job_outcome(job) == BJ_OUTCOME_PIVOTED) {
        assert_string_equal(disk_of_guest(w), "copy");
    } else {
        assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_CANCELLED);
        assert_string_equal(disk_of_guest(w), "disk");
    }
}

static void b35_aborting_what_is_over_yields_its_outcome(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_abort_escalate(job, 1, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b35_repeated_aborts_are_harmless(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);
    bj_future *aborts[8];

    for (int i = 0; i < 8; i++)
        aborts[i] = hold(w, bj_job_abort(job, i % 2, BJ_TIMEOUT_NONE));
    for (int i = 0; i < 8; i++)
        ends(aborts[i], BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b36_abort_escalates_when_the_soft_one_hangs(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_braked(w, "slow");
    bj_job *job = mirror(w, "disk", "slow", NULL);

    expect(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *abort = hold(w, bj_job_abort_escalate(job, 10, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(abort, 50), BJ_E_TIMEOUT); /* a write hangs: nothing can end */
    release_brake(w, "slow");

    ends(abort, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b37_abort_async_answers_when_accepted(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_braked(w, "slow");
    bj_job *job = mirror(w, "disk", "slow", NULL);

    bj_future *accepted =
        expect(w, bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_outcome(accepted), BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    release_brake(w, "slow");

    ends(done, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b22_released_nodes_can_be_used_at_once(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");

    /* Aborted at any moment: once in a while QEMU 5.2 completes what it was told to cancel (B17).
     */
    for (int i = 0; i < 20; i++) {
        bj_job *job = mirror(w, "disk", "copy", NULL);
        expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
        expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    }
    expect(w, bj_monitor_execute(w->monitor, "blockdev-del",
                                 JSON({"node-name": "copy"}), BJ_TIMEOUT_DEFAULT), BJ_OK);
}

static void b24_an_empty_disk_becomes_ready(void **state)
{
    world *w = *state;
    add_null(w, "nothing", 0);
    add_null(w, "nowhere", 0);
    bj_job *job = mirror(w, "nothing", "nowhere", NULL);

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void its_moments_are_in_order(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    for (bj_moment moment = BJ_MOMENT_COMPLETE_SENT; moment <= BJ_MOMENT_END_SEEN; moment++)
        assert_int_equal(bj_job_time(job, moment), 0);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    int64_t t[BJ_MOMENT_END_SEEN + 1];
    for (bj_moment moment = BJ_MOMENT_START_SENT; moment <= BJ_MOMENT_END_SEEN; moment++)
        t[moment] = bj_job_time(job, moment);

    /* Each of the two clocks' readings is in order; they are of the same clock. */
    assert_true(0 < t[BJ_MOMENT_START_SENT]);
    assert_true(t[BJ_MOMENT_START_SENT] <= t[BJ_MOMENT_READY_EVENT]);
    assert_true(t[BJ_MOMENT_READY_EVENT] <= t[BJ_MOMENT_READY_SEEN]);
    assert_true(t[BJ_MOMENT_READY_SEEN] <= t[BJ_MOMENT_COMPLETE_SENT]);
    assert_true(t[BJ_MOMENT_COMPLETE_SENT] <= t[BJ_MOMENT_COMPLETE_ACCEPTED]);
    assert_true(t[BJ_MOMENT_COMPLETE_SENT] <= t[BJ_MOMENT_END_EVENT]);
    assert_true(t[BJ_MOMENT_END_EVENT] <= t[BJ_MOMENT_END_SEEN]);

    assert_int_equal(bj_job_time(job, (bj_moment)(BJ_MOMENT_END_SEEN + 1)), BJ_E_INVAL);
    assert_int_equal(bj_job_time(job, (bj_moment)-1), BJ_E_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b14_complete_of_ready_is_pivoted),
        TEST(b14_soft_cancel_of_ready_is_copied),
        TEST(b14_soft_cancel_before_ready_is_cancelled),
        TEST(b14_force_after_ready_is_cancelled),
        TEST(b11_completed_with_error_is_failed_with_qemus_text),
        TEST(b11_all_waits_on_a_failing_job_hear_why),
        TEST(b12_an_error_that_is_ignored_ends_nothing),
        TEST(b17_abort_that_comes_too_late_tells_the_truth),
        TEST(b22_released_nodes_can_be_used_at_once),
        TEST(b24_an_empty_disk_becomes_ready),
        TEST(b35_aborting_what_is_over_yields_its_outcome),
        TEST(b35_repeated_aborts_are_harmless),
        TEST(b36_abort_escalates_when_the_soft_one_hangs),
        TEST(b37_abort_async_answers_when_accepted),
        TEST(its_moments_are_in_order),
    };
    return run_on_both(tests);
}
