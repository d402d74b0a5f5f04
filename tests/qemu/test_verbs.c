/* SPDX-License-Identifier: MIT */
/*
 * The other verbs: pause, resume, speed, finalize, dismiss, query and list.
 */
#include "nodes.h"

static void b44_pause_and_resume(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", CREEPING);

    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_OK);
    await_status(w, bj_job_id(job), "paused");
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
}

static void b44_verbs_that_do_not_fit_are_refused_with_qemus_text(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    bj_future *resume = expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_E_REFUSED);
    assert_string_equal(bj_future_error_class(resume), "GenericError");
    names(resume, "not paused");
    bj_future *finalize = hold(w, bj_job_finalize(job, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(finalize, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_future_error(finalize) == BJ_E_REFUSED ||
                bj_future_error(finalize) == BJ_E_STATE);
    bj_future *dismiss = hold(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(dismiss, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_future_error(dismiss) == BJ_E_REFUSED || bj_future_error(dismiss) == BJ_E_STATE);

    assert_string_equal(status_of(w, bj_job_id(job)), "running");
}

static void b44_verbs_after_the_end_are_refused_as_state(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    names(expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_E_STATE), bj_job_id(job));
    names(expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_E_STATE), bj_job_id(job));
    names(expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_E_STATE), bj_job_id(job));
    names(expect(w, bj_job_finalize(job, BJ_TIMEOUT_NONE), BJ_E_STATE), bj_job_id(job));
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    names(expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_E_NO_JOB), bj_job_id(job));
}

static void b44_query_says_how_far_it_is(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);

    bj_future *query = expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(query), 1);
    const bj_job_info *info = bj_future_info(query, 0);
    assert_string_equal(info->id, bj_job_id(job));
    assert_string_equal(info->type, "mirror");
    assert_string_equal(info->status, "running");
    assert_string_equal(info->error, "");
    assert_string_equal(info->io_status, "ok");
    assert_int_equal(info->speed, 1);
    assert_true(info->current >= 0 && info->current < info->total);
    assert_false(info->ready || info->paused || info->auto_dismiss);
    assert_true(info->auto_finalize);
    assert_null(bj_future_info(query, 1));
}

static void b25_progress_never_looks_complete_before_ready(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);

    /* All is copied, and the job rests for its speed: QEMU says current == total, not ready. */
    for (;;) {
        json_t *jobs = qmp(w, "query-jobs", NULL);
        json_t *row = json_array_get(jobs, 0);
        bool looks_complete = json_equal(json_object_get(row, "current-progress"),
                                         json_object_get(row, "total-progress"));
        assert_string_equal(json_string_value(json_object_get(row, "status")), "running");
        if (looks_complete)
            break;
    }
    const bj_job_info *info =
        bj_future_info(expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK), 0);
    assert_false(info->ready);
    assert_true(info->current < info->total);
    assert_false(bj_job_is_ready(job));
    expect(w, bj_job_ready(job, 0), BJ_E_TIMEOUT);
}

static void b44_list_has_a_row_for_each_job(void **state)
{
    world *w = *state;
    assert_int_equal(bj_future_info_count(expect(w, bj_monitor_list(w->monitor, 5000), BJ_OK)), 0);
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_chain(w);
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    qmp(w, "block-stream", JSON({"job-id": "theirs", "device": "active", "speed": 1}));

    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 2);
    const bj_job_info *ours = bj_future_info(list, 0);
    const bj_job_info *theirs = bj_future_info(list, 1);
    if (strcmp(ours->id, "theirs") == 0) {
        theirs = ours;
        ours = bj_future_info(list, 1);
    }
    assert_string_equal(ours->id, bj_job_id(job));
    assert_string_equal(ours->status, "ready");
    assert_true(ours->ready);
    assert_int_equal(ours->current, ours->total);
    assert_string_equal(theirs->id, "theirs");
    assert_string_equal(theirs->type, "stream");
    assert_string_equal(theirs->status, "running");
}

static void b42_a_pending_job_is_finalized(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
    bj_job *job = mirror(w, "disk", "copy", JSON({"auto-finalize": false}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    names(ends(pivot, BJ_E_STALLED, BJ_OUTCOME_NONE), "finalize");
    assert_string_equal(status_of(w, bj_job_id(job)), "pending");
    expect_end(w, bj_job_finalize(job, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
    assert_string_equal(disk_of_guest(w), "copy");
}

static void b42_a_pending_job_is_aborted(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_future *started = bj_monitor_backup(w->monitor, "disk", "copy", "full",
                                           JSON({"auto-finalize": false}), BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    await_event(w, "BLOCK_JOB_PENDING", "id", bj_job_id(job));

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b40_jobs_of_the_library_are_dismissed(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_failing(w, "bad", "flush");

    bj_job *aborted = mirror(w, "disk", "copy", NULL);
    assert_memory_equal(bj_job_id(aborted), "bj-", 3);
    expect(w, bj_job_abort(aborted, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(aborted, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *failed = mirror(w, "disk", "bad", NULL);
    expect(w, bj_job_done(failed, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED);
    bj_job *named = mirror(w, "disk", "copy", JSON({"job-id": "named"}));
    expect(w, bj_job_pivot(named, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(named, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    assert_int_equal(count_jobs(w), 0);
}

static void b40_the_caller_dismisses_if_it_said_so(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job =
        mirror(w, "disk", "copy", JSON({"job-id": "mine", "auto-dismiss": false, "speed": 1}));
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    await_status(w, "mine", "concluded");

    assert_string_equal(status_of(w, "mine"), "concluded");
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(status_of(w, "mine"), "");
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b40_auto_dismiss_true_is_left_to_qemu(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", JSON({"auto-dismiss": true}));

    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(count_jobs(w), 0);
}

static void c121_a_mirror_that_the_caller_keeps_has_let_go_of_its_nodes(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", JSON({"job-id": "mine", "auto-dismiss": false}));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    assert_string_equal(status_of(w, "mine"), "concluded");
    qmp(w, "blockdev-del", JSON({"node-name": "copy"}));
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
}

/* Another kind may have its nodes until it is dismissed. */
static void c121_released_of_a_backup_that_the_caller_keeps(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = start(w, "blockdev-backup",
                        JSON({"job-id": "mine", "device": "disk", "target": "copy", "sync": "full",
                              "auto-dismiss": false}));
    names(expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_E_STALLED,
                     BJ_OUTCOME_COMPLETED),
          "dismiss");
    bj_future *released = hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    ends(released, BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void b40_another_client_may_dismiss_first(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job =
        mirror(w, "disk", "copy", JSON({"job-id": "mine", "auto-dismiss": false, "speed": 1}));
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    await_status(w, "mine", "concluded");

    qmp(w, "job-dismiss", JSON({"id": "mine"}));
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b25_progress_never_looks_complete_before_ready),
        TEST(b40_jobs_of_the_library_are_dismissed),
        TEST(b40_the_caller_dismisses_if_it_said_so),
        TEST(b40_auto_dismiss_true_is_left_to_qemu),
        TEST(b40_another_client_may_dismiss_first),
        TEST(c121_a_mirror_that_the_caller_keeps_has_let_go_of_its_nodes),
        TEST(c121_released_of_a_backup_that_the_caller_keeps),
        TEST(b42_a_pending_job_is_finalized),
        TEST(b42_a_pending_job_is_aborted),
        TEST(b44_pause_and_resume),
        TEST(b44_verbs_that_do_not_fit_are_refused_with_qemus_text),
        TEST(b44_verbs_after_the_end_are_refused_as_state),
        TEST(b44_query_says_how_far_it_is),
        TEST(b44_list_has_a_row_for_each_job),
    };
    return run_on_both(tests);
}
