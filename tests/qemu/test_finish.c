/* SPDX-License-Identifier: MIT */
/*
 * Pivots that end with QEMU's consent, verbs that wait for the nodes as well, and the one that
 * finishes a job of any kind: on a real qemu-storage-daemon and a real QEMU.
 */
#include "nodes.h"
#include "records.h"

/* A job that has accepted a complete stays pending until it is finalized. */
#define BY_HAND JSON({"auto-finalize": false})
#define KEPT JSON({"auto-dismiss": false, "speed": 1})

static bj_job *ready_mirror(world *w, const char *options)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", options);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    return job;
}

static bj_job *commit(world *w, const char *options)
{
    add_chain(w);
    bj_future *started = bj_monitor_commit(w->monitor, "active", options, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

/* ------------------------------------------------------------ async pivots */

static void w09_an_async_pivot_is_done_when_qemu_has_accepted(void **state)
{
    world *w = *state;
    bj_job *job = ready_mirror(w, BY_HAND);

    expect_end(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    assert_true(bj_job_time(job, BJ_MOMENT_COMPLETE_ACCEPTED) > 0);

    /* Level-triggered, and nothing is sent twice. */
    await_status(w, bj_job_id(job), "pending");
    expect(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_finalize(job, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void w09_an_async_pivot_waits_for_ready(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    bj_future *late = hold(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, 20));
    bj_future *async = hold(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE));
    answers(late, BJ_E_TIMEOUT);
    int flags = BJ_PIVOT_ASYNC | BJ_PIVOT_ONLY_IF_READY;
    expect(w, bj_job_pivot(job, flags, BJ_TIMEOUT_NONE), BJ_E_NOT_READY);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(async, BJ_OK);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void w09_one_complete_serves_both_kinds_of_pivots(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    bj_future *async = hold(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE));
    bj_future *whole = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *finish = hold(w, bj_job_finish(job, BJ_FINISH_OVER, BJ_TIMEOUT_NONE));

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(async, BJ_OK);
    ends(whole, BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(finish, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void w09_an_async_pivot_says_what_is_in_its_way(void **state)
{
    world *w = *state;
    bj_job *job = ready_mirror(w, NULL);
    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE), BJ_E_STALLED);
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE), BJ_E_JOB_ENDED,
               BJ_OUTCOME_CANCELLED);
}

/* --------------------------------------------------------------- released */

static void w09_after_a_pivot_until_released_the_nodes_are_free(void **state)
{
    world *w = *state;
    bj_job *job = ready_mirror(w, NULL);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);

    assert_string_equal(status_of(w, bj_job_id(job)), "");
    qmp(w, "blockdev-del", JSON({"node-name": "disk"}));
    qmp(w, "blockdev-del", JSON({"node-name": "copy"}));
}

static void w09_after_an_abort_until_released_the_nodes_are_free(void **state)
{
    world *w = *state;
    bj_job *job = ready_mirror(w, NULL);
    expect_end(w, bj_job_abort(job, BJ_ABORT_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COPIED);

    assert_string_equal(status_of(w, bj_job_id(job)), "");
    qmp(w, "blockdev-del", JSON({"node-name": "disk"}));
    qmp(w, "blockdev-del", JSON({"node-name": "copy"}));
}

static bj_job *kept_backup(world *w)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_future *started =
        bj_monitor_backup(w->monitor, "disk", "copy", "full", KEPT, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

static void w09_nodes_that_are_kept_are_stalled(void **state)
{
    world *w = *state;
    bj_job *job = kept_backup(w);

    int flags = BJ_ABORT_FORCE | BJ_ABORT_RELEASED;
    bj_future *abort = expect_end(w, bj_job_abort(job, flags, BJ_TIMEOUT_NONE), BJ_E_STALLED,
                                  BJ_OUTCOME_CANCELLED);
    names(abort, "dismiss");
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_abort(job, flags, BJ_TIMEOUT_NONE), BJ_OK);
}

static void w09_an_abort_waits_for_the_dismissal(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_STALL_MS, 600 * 1000), BJ_OK);
    bj_job *job = kept_backup(w);
    int flags = BJ_ABORT_FORCE | BJ_ABORT_RELEASED;
    bj_future *late = hold(w, bj_job_abort(job, flags, 30));
    bj_future *abort = hold(w, bj_job_abort(job, flags, BJ_TIMEOUT_NONE));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    answers(late, BJ_E_TIMEOUT);

    assert_false(bj_future_is_done(abort));
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    ends(abort, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void w09_a_group_is_aborted_until_released(void **state)
{
    world *w = *state;
    bj_job *job = ready_mirror(w, NULL);
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    hold_group(w, group);
    assert_int_equal(bj_group_add(group, job), BJ_OK);

    expect(w, bj_group_abort(group, BJ_ABORT_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(status_of(w, bj_job_id(job)), "");
    qmp(w, "blockdev-del", JSON({"node-name": "disk"}));
}

static void w09_flags_that_exclude_each_other(void **state)
{
    world *w = *state;
    bj_job *job = ready_mirror(w, NULL);
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    hold_group(w, group);
    assert_int_equal(bj_group_add(group, job), BJ_OK);
    int both = BJ_ABORT_ASYNC | BJ_ABORT_RELEASED;

    names(expect(w, bj_job_abort(job, both, BJ_TIMEOUT_NONE), BJ_E_INVAL), "RELEASED");
    names(expect(w, bj_group_abort(group, both, BJ_TIMEOUT_NONE), BJ_E_INVAL), "RELEASED");
    both = BJ_PIVOT_ASYNC | BJ_PIVOT_RELEASED;
    names(expect(w, bj_job_pivot(job, both, BJ_TIMEOUT_NONE), BJ_E_INVAL), bj_job_id(job));
    names(expect(w, bj_job_pivot(job, 8, BJ_TIMEOUT_NONE), BJ_E_INVAL), "0x8");
    names(expect(w, bj_job_finish(job, 2, BJ_TIMEOUT_NONE), BJ_E_INVAL), "0x2");
    names(expect(w, bj_job_finish(job, 0, -5), BJ_E_INVAL), "-5");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
}

/* ----------------------------------------------------------------- finish */

static void w09_a_commit_of_the_active_layer_is_finished_by_a_pivot(void **state)
{
    world *w = *state;
    bj_job *job = commit(w, NULL);
    expect_end(w, bj_job_finish(job, BJ_FINISH_RELEASED, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    qmp(w, "blockdev-del", JSON({"node-name": "active"}));
}

static void w09_an_intermediate_commit_is_finished_by_its_end(void **state)
{
    world *w = *state;
    bj_job *job = commit(w, JSON({"top-node": "middle", "base-node": "base"}));
    expect_end(w, bj_job_finish(job, BJ_FINISH_RELEASED, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_COMPLETED);
    assert_string_equal(backing_of(w, "active"), "base");
    expect_end(w, bj_job_finish(job, BJ_FINISH_OVER, 0), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void w09_a_stream_is_finished_by_its_end(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_job *job = start(w, "block-stream", JSON({"device": "active"}));
    expect_end(w, bj_job_finish(job, BJ_FINISH_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(backing_of(w, "active"), "");
}

static void w09_a_job_that_fails_is_not_finished(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing(w, "bad", "write");
    bj_job *job = mirror(w, "disk", "bad", NULL);
    names(expect_end(w, bj_job_finish(job, BJ_FINISH_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED,
                     BJ_OUTCOME_FAILED),
          "Input/output error");
}

static void w09_a_job_that_is_aborted_is_not_finished(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_future *started = bj_monitor_stream(w->monitor, "active", HALTED, BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    bj_future *finish = hold(w, bj_job_finish(job, BJ_FINISH_OVER, BJ_TIMEOUT_NONE));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    names(ends(finish, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED), "CANCELLED");
}

/* No event tells how it ended, and nobody uses the disk. */
static void w09_a_switch_that_is_unknown_is_not_finished(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    bj_future *finish = hold(w, bj_job_finish(job, BJ_FINISH_OVER, 30));
    answers(finish, BJ_E_TIMEOUT);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    qmp(w, "job-complete", JSON({"id": "%s"}), bj_job_id(job));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);

    finish =
        expect_end(w, bj_job_finish(job, BJ_FINISH_OVER, 0), BJ_E_JOB_ENDED, BJ_OUTCOME_COMPLETED);
    names(finish, "unknown");
    names(expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 0), BJ_E_JOB_ENDED), "unknown");
}

static void w09_a_paused_job_does_not_finish(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_future *started = bj_monitor_stream(w->monitor, "active", HALTED, BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_finish(job, BJ_FINISH_OVER, BJ_TIMEOUT_NONE), BJ_E_STALLED);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(w09_an_async_pivot_is_done_when_qemu_has_accepted),
        TEST(w09_an_async_pivot_waits_for_ready),
        TEST(w09_one_complete_serves_both_kinds_of_pivots),
        TEST(w09_an_async_pivot_says_what_is_in_its_way),
        TEST(w09_after_a_pivot_until_released_the_nodes_are_free),
        TEST(w09_after_an_abort_until_released_the_nodes_are_free),
        TEST(w09_nodes_that_are_kept_are_stalled),
        TEST(w09_an_abort_waits_for_the_dismissal),
        TEST(w09_a_group_is_aborted_until_released),
        TEST(w09_flags_that_exclude_each_other),
        TEST(w09_a_commit_of_the_active_layer_is_finished_by_a_pivot),
        TEST(w09_an_intermediate_commit_is_finished_by_its_end),
        TEST(w09_a_stream_is_finished_by_its_end),
        TEST(w09_a_job_that_fails_is_not_finished),
        TEST(w09_a_job_that_is_aborted_is_not_finished),
        TEST(w09_a_switch_that_is_unknown_is_not_finished),
        TEST(w09_a_paused_job_does_not_finish),
    };
    return run_on_both(tests);
}
