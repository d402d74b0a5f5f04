/* SPDX-License-Identifier: MIT */
/*
 * Jobs of others: found, followed, and told truthfully when someone else gives the verb.
 */
#include "nodes.h"
#include "records.h"

/* A mirror that another client starts. */
static void start_theirs(world *w, const char *options)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    qmp(w, "blockdev-mirror",
        JSON({"job-id": "theirs", "device": "disk", "target": "copy",
                                "sync": "full" %s}), options);
}

static void b51_attach_to_a_running_job(void **state)
{
    world *w = *state;
    start_theirs(w, JSON(, "speed": 1));
    bj_job *job = attach(w, "theirs");

    assert_string_equal(bj_job_id(job), "theirs");
    assert_string_equal(bj_job_type(job), "mirror");
    assert_false(bj_job_is_ready(job));
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(ready, BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b51_attach_to_a_ready_job(void **state)
{
    world *w = *state;
    start_theirs(w, "");
    await_event(w, "BLOCK_JOB_READY", "device", "theirs");
    bj_job *job = attach(w, "theirs");

    assert_true(bj_job_is_ready(job));
    expect(w, bj_job_ready(job, 0), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COPIED);
}

static void b51_attach_to_a_paused_job(void **state)
{
    world *w = *state;
    start_theirs(w, "");
    await_event(w, "BLOCK_JOB_READY", "device", "theirs");
    qmp(w, "job-pause", JSON({"id": "theirs"}));
    await_status(w, "theirs", "standby");
    bj_job *job = attach(w, "theirs");

    expect(w, bj_job_ready(job, 0), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_STALLED);
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
}

static void b21_attach_to_a_cancelled_job(void **state)
{
    world *w = *state;
    start_theirs(w, JSON(, "auto-dismiss": false, "speed": 1));
    qmp(w, "job-cancel", JSON({"id": "theirs"}));
    await_status(w, "theirs", "concluded");
    bj_job *job = attach(w, "theirs");

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_CANCELLED);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_OK, BJ_OUTCOME_CANCELLED);
    /* Theirs to dismiss: the library leaves it alone. */
    assert_string_equal(status_of(w, "theirs"), "concluded");
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(count_jobs(w), 0);
}

static void b21_attach_to_a_failed_job(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing(w, "bad", "flush");
    qmp(w, "blockdev-mirror",
        JSON({"job-id": "theirs", "device": "disk", "target": "bad",
                                "sync": "full", "auto-dismiss": false}));
    await_status(w, "theirs", "concluded");

    bj_job *job = attach(w, "theirs");
    names(expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED),
          "Input/output error");
}

static void b21_attach_to_a_completed_job(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    qmp(w, "blockdev-backup",
        JSON({"job-id": "theirs", "device": "disk", "target": "copy",
                                "sync": "full", "auto-dismiss": false}));
    await_status(w, "theirs", "concluded");

    bj_job *job = attach(w, "theirs");
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void b51_attach_to_what_is_gone_is_no_job(void **state)
{
    world *w = *state;
    start_theirs(w, "");
    qmp(w, "job-cancel", JSON({"id": "theirs"}));
    await_status(w, "theirs", "null");

    names(expect(w, bj_monitor_attach(w->monitor, "theirs", BJ_TIMEOUT_NONE), BJ_E_NO_JOB),
          "theirs");
}

static void b51_attaching_twice_is_the_same_job(void **state)
{
    world *w = *state;
    start_theirs(w, JSON(, "speed": 1));

    assert_ptr_equal(attach(w, "theirs"), attach(w, "theirs"));
}

static void b51_attaching_to_our_own_is_the_same_job(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);

    assert_ptr_equal(attach(w, bj_job_id(job)), job);
}

static void b16_cancelled_by_another_client(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    qmp(w, "job-cancel", JSON({"id": "%s"}), bj_job_id(job));

    ends(ready, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
    ends(pivot, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
    ends(done, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b15_completed_by_another_client(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    qmp(w, "job-complete", JSON({"id": "%s"}), bj_job_id(job));

    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(disk_of_guest(w), "copy");
}

static void b15_copied_by_another_client_is_not_pivoted(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    qmp(w, "block-job-cancel", JSON({"device": "%s"}), bj_job_id(job));

    ends(done, BJ_OK, BJ_OUTCOME_COPIED);
    assert_string_equal(disk_of_guest(w), "disk");
}

/* Nobody uses the disk: then nothing shows whether it was switched, unless the filter outlives its
 * job, as before 6.1. */
static void b15_a_disk_that_nobody_uses(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    qmp(w, "job-complete", JSON({"id": "%s"}), bj_job_id(job));

    answers(done, BJ_OK);
    if (bj_job_outcome(job) == BJ_OUTCOME_PIVOTED)
        return;
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_COMPLETED);
    assert_string_not_equal(bj_job_text(job), "");
}

static void b15_a_verb_by_execute_is_known(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", JSON({"job-id": "mine"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect(w, bj_monitor_execute(w->monitor, "job-complete",
                                 JSON({"id": "mine"}), BJ_TIMEOUT_DEFAULT), BJ_OK);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b60_a_watch_sees_the_verbs_of_others(void **state)
{
    world *w = *state;
    start_theirs(w, JSON(, "speed": 1));
    bj_watch *watch = watch_job(w, attach(w, "theirs"), 0);

    qmp(w, "block-job-set-speed", JSON({"device": "theirs", "speed": 0}));
    await_event(w, "BLOCK_JOB_READY", "device", "theirs");
    qmp(w, "job-cancel", JSON({"id": "theirs"}));

    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "READY ENDED CLOSED");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b15_a_verb_by_execute_is_known),
        TEST(b15_completed_by_another_client),
        TEST(b15_a_disk_that_nobody_uses),
        TEST(b15_copied_by_another_client_is_not_pivoted),
        TEST(b16_cancelled_by_another_client),
        TEST(b21_attach_to_a_cancelled_job),
        TEST(b21_attach_to_a_completed_job),
        TEST(b21_attach_to_a_failed_job),
        TEST(b51_attach_to_a_paused_job),
        TEST(b51_attach_to_a_ready_job),
        TEST(b51_attach_to_a_running_job),
        TEST(b51_attach_to_what_is_gone_is_no_job),
        TEST(b51_attaching_to_our_own_is_the_same_job),
        TEST(b51_attaching_twice_is_the_same_job),
        TEST(b60_a_watch_sees_the_verbs_of_others),
    };
    return run_on_both(tests);
}
