/* SPDX-License-Identifier: MIT */
/*
 * The kinds of jobs other than mirror, and jobs side by side.
 */
#include "nodes.h"

static bj_job *job_of(world *w, bj_future *started)
{
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

static void stream_completes(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_job *job = job_of(w, bj_monitor_stream(w->monitor, "active", NULL, BJ_TIMEOUT_NONE));

    assert_string_equal(bj_job_type(job), "stream");
    expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(backing_of(w, "active"), "");
}

static void stream_is_aborted(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_job *job = job_of(w, bj_monitor_stream(w->monitor, "active", HALTED, BJ_TIMEOUT_NONE));

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_string_equal(backing_of(w, "active"), "middle");
}

static void active_commit_becomes_ready_and_pivots(void **state)
{
    world *w = *state;
    add_chain(w);
    add_guest(w, "active");
    bj_job *job = job_of(w, bj_monitor_commit(w->monitor, "active", NULL, BJ_TIMEOUT_NONE));

    assert_string_equal(bj_job_type(job), "commit");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(disk_of_guest(w), "base");
}

static void active_commit_is_aborted(void **state)
{
    world *w = *state;
    add_chain(w);
    add_guest(w, "active");
    bj_job *job = job_of(w, bj_monitor_commit(w->monitor, "active", HALTED, BJ_TIMEOUT_NONE));

    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_string_equal(disk_of_guest(w), "active");
}

static void intermediate_commit_completes(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_job *job = job_of(
        w, bj_monitor_commit(w->monitor, "active",
                             JSON({"top-node": "middle", "base-node": "base"}), BJ_TIMEOUT_NONE));

    expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(backing_of(w, "active"), "base");
}

static void backup_completes(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job =
        job_of(w, bj_monitor_backup(w->monitor, "disk", "copy", "full", NULL, BJ_TIMEOUT_NONE));

    assert_string_equal(bj_job_type(job), "backup");
    expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_true(same_data(w, "disk", "copy"));
}

static void backup_fails_with_qemus_text(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing(w, "bad", "write");
    bj_job *job =
        job_of(w, bj_monitor_backup(w->monitor, "disk", "bad", "full", NULL, BJ_TIMEOUT_NONE));

    names(expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED,
                     BJ_OUTCOME_FAILED),
          "Input/output error");
}

static void b52_create_is_followed_by_its_id(void **state)
{
    world *w = *state;
    bj_job *job =
        start(w, "blockdev-create",
              text_of(w, JSON({"options": {"driver": "file", "filename": "%s",
                                                     "size": 1048576}}),
                              path_of(w, "new.raw")));

    assert_string_equal(bj_job_type(job), "create");
    expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void b52_create_fails_with_qemus_text(void **state)
{
    world *w = *state;
    bj_job *job = start(
        w, "blockdev-create",
        JSON({"options": {"driver": "file", "filename": "/dev/null/new.raw",
                                          "size": 1048576}}));

    names(expect_end(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED,
                     BJ_OUTCOME_FAILED),
          "/dev/null/new.raw");
}

/* A kind that never is ready says so at once, and so does its pivot. */
static void assert_is_never_ready(world *w, bj_job *job)
{
    names(expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_E_STATE), bj_job_id(job));
    names(expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_STATE),
          bj_job_id(job));
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
}

static void b09_stream_and_backup_are_never_ready(void **state)
{
    world *w = *state;
    add_chain(w);
    add_disk(w, "disk");
    add_empty(w, "copy");

    assert_is_never_ready(w, job_of(w, bj_monitor_backup(w->monitor, "disk", "copy", "full", HALTED,
                                                         BJ_TIMEOUT_NONE)));
    assert_is_never_ready(
        w, job_of(w, bj_monitor_stream(w->monitor, "active", HALTED, BJ_TIMEOUT_NONE)));
}

/* That "middle" is not the active layer is QEMU's to know: a wait for ready ends with the job. */
static void b09_an_intermediate_commit_ends_without_being_ready(void **state)
{
    world *w = *state;
    add_chain(w);
    bj_job *job =
        job_of(w, bj_monitor_commit(w->monitor, "active",
                                    JSON({"speed": 1, "top-node": "middle"}), BJ_TIMEOUT_NONE));
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    ends(ready, BJ_E_JOB_ENDED, BJ_OUTCOME_COMPLETED);
    ends(pivot, BJ_E_JOB_ENDED, BJ_OUTCOME_COMPLETED);
}

static void b09_ready_ends_when_the_job_does(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));

    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    ends(ready, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
    expect_end(w, bj_job_ready(job, 0), BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
}

static void b19_two_jobs_are_told_apart(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_disk(w, "other-disk");
    add_failing(w, "bad", "write");
    bj_job *good = mirror(w, "disk", "copy", HALTED);
    bj_job *bad = mirror(w, "other-disk", "bad", HALTED_EARLY);
    assert_string_not_equal(bj_job_id(good), bj_job_id(bad));
    bj_future *pivot = hold(w, bj_job_pivot(good, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *done = hold(w, bj_job_done(bad, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    expect(w, bj_job_set_speed(bad, 0, BJ_TIMEOUT_NONE), BJ_OK);
    ends(done, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    assert_false(bj_future_is_done(pivot));
    expect(w, bj_job_set_speed(good, 0, BJ_TIMEOUT_NONE), BJ_OK);
    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b20_an_id_used_again_is_another_job(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *first = mirror(w, "disk", "copy", JSON({"job-id": "again", "speed": 1}));
    expect(w, bj_job_abort(first, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(first, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    bj_job *second = mirror(w, "disk", "copy", JSON({"job-id": "again"}));
    assert_ptr_not_equal(first, second);
    expect_end(w, bj_job_pivot(second, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_int_equal(bj_job_outcome(first), BJ_OUTCOME_CANCELLED);
}

static void b41_a_refused_start_leaves_no_job(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    mirror(w, "disk", "copy", JSON({"job-id": "first", "speed": 1}));

    bj_future *busy = bj_monitor_mirror(w->monitor, "disk", "copy", "full", NULL, BJ_TIMEOUT_NONE);
    assert_string_not_equal(bj_future_text(expect(w, busy, BJ_E_REFUSED)), "");
    bj_future *unknown =
        bj_monitor_mirror(w->monitor, "nonesuch", "copy", "full", NULL, BJ_TIMEOUT_NONE);
    names(expect(w, unknown, BJ_E_REFUSED), "nonesuch");
    assert_string_equal(bj_future_error_class(unknown), "GenericError");
    assert_null(bj_future_job(unknown));
    bj_future *taken = bj_monitor_stream(w->monitor, "disk", JSON({"job-id": "first"}), 5000);
    expect(w, taken, BJ_E_REFUSED);

    assert_int_equal(count_jobs(w), 1);
    assert_string_equal(status_of(w, "first"), "running");
}

static void b53_a_job_is_the_same_through_two_monitors(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", JSON({"job-id": "shared", "speed": 1}));

    bj_monitor *second = connect_to(w, path_of(w, "second.qmp"));
    bj_future *attached = expect(w, bj_monitor_attach(second, "shared", BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *same = hold_job(w, bj_future_job(attached));
    bj_future *seen = hold(w, bj_job_done(same, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    expect(w, bj_job_set_speed(same, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(same, BJ_TIMEOUT_NONE), BJ_OK);

    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    ends(seen, BJ_OK, BJ_OUTCOME_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stream_completes),
        TEST(stream_is_aborted),
        TEST(active_commit_becomes_ready_and_pivots),
        TEST(active_commit_is_aborted),
        TEST(intermediate_commit_completes),
        TEST(backup_completes),
        TEST(backup_fails_with_qemus_text),
        TEST(b52_create_is_followed_by_its_id),
        TEST(b52_create_fails_with_qemus_text),
        TEST(b09_an_intermediate_commit_ends_without_being_ready),
        TEST(b09_stream_and_backup_are_never_ready),
        TEST(b09_ready_ends_when_the_job_does),
        TEST(b19_two_jobs_are_told_apart),
        TEST(b20_an_id_used_again_is_another_job),
        TEST(b41_a_refused_start_leaves_no_job),
        TEST(b53_a_job_is_the_same_through_two_monitors),
    };
    return run_on_both(tests);
}
