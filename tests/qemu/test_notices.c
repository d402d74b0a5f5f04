/* SPDX-License-Identifier: MIT */
/*
 * Jobs that make no progress: those who watch or wait learn why, and what to do.
 */
#include "nodes.h"
#include "records.h"

/* How long nothing may move; whatever it is, a notice comes. */
#define SOON_MS 50

static void notice_soon(world *w)
{
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, SOON_MS), BJ_OK);
}

/* A wait whose deadline has passed says it, too. */
static void is_said_at_the_deadline(world *w, bj_job *job, const char *words)
{
    bj_future *done = expect(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_E_TIMEOUT);
    names(done, words);
    names(done, bj_job_id(job));
}

static bj_job *halted_mirror(world *w, const char *target)
{
    return mirror(w, "disk", target, HALTED_EARLY);
}

static void w02_a_target_that_does_not_answer(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_served(w, "far");
    bj_job *job = halted_mirror(w, "far");
    hang(w, "far");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    bj_watch *watch = watch_job(w, job, 0);
    bj_watch *all = watch_jobs(w, 0);
    await_stall(watch, "its target does not answer");
    await_stall(all, "its target does not answer");
    is_said_at_the_deadline(w, job, "its target does not answer");

    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    answer(w, "far");
    answers(ready, BJ_OK); /* no notice answers a wait */
    news(w, watch, BJ_RECORD_RESUMED);
    news(w, all, BJ_RECORD_RESUMED);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
}

static void w02_a_backup_says_it_as_well(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_served(w, "far");
    bj_future *started =
        bj_monitor_backup(w->monitor, "disk", "far", "full", JSON({"speed": 1}), BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    hang(w, "far");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    bj_watch *watch = watch_job(w, job, 0);
    await_stall(watch, "its target does not answer");
    answer(w, "far");
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void w02_a_speed_limit_that_lets_nothing_through(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = halted_mirror(w, "copy");

    bj_watch *watch = watch_job(w, job, 0);
    await_stall(watch, "its speed limit of 1 bytes per second");
    is_said_at_the_deadline(w, job, "raise it, or set it to 0");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 1), BJ_OK);
    news(w, watch, BJ_RECORD_RESUMED);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
}

static void c51_errors_that_are_ignored_are_counted(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_failing(w, "broken", "write");
    bj_job *job = mirror(w, "disk", "broken", JSON({"on-target-error": "ignore"}));

    bj_watch *watch = watch_job(w, job, 0);
    bj_watch *all = watch_jobs(w, 0);
    await_stall(watch, "errors writing to the target were ignored");
    await_stall(all, "errors writing to the target were ignored");
    is_said_at_the_deadline(w, job, "errors writing to the target were ignored");
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void c50_no_space_is_said_also_later(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_full(w, "full");
    bj_job *job = mirror(w, "disk", "full", JSON({"on-target-error": "stop"}));
    bj_watch *watch = watch_job(w, job, 0);
    await_stall(watch, "no space is left");
    names(expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_E_STALLED), "make room");

    w->monitor = connect_to(w, text_of(w, "unix:%s", path_of(w, "second.qmp")));
    bj_job *attached = attach(w, bj_job_id(job));
    names(expect(w, bj_job_done(attached, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_STALLED),
          "no space is left for what it writes: enlarge the target's volume and resume it");
    bj_watch *later = watch_job(w, attached, 0);
    await_stall(later, "no space is left");
    expect(w, bj_job_resume(attached, BJ_TIMEOUT_NONE), BJ_OK);
    news(w, later, BJ_RECORD_RESUMED);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
}

static void c52_a_pending_job_waits_for_finalize(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_future *started = bj_monitor_backup(w->monitor, "disk", "copy", "full",
                                           JSON({"auto-finalize": false}), BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    bj_watch *watch = watch_job(w, job, 0);
    bj_watch *all = watch_jobs(w, 0);
    await_stall(watch, "pending until somebody finalizes it");
    await_stall(all, "pending until somebody finalizes it");
    is_said_at_the_deadline(w, job, "pending until somebody finalizes it");

    w->monitor = connect_to(w, text_of(w, "unix:%s", path_of(w, "second.qmp")));
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 1000000), BJ_OK);
    is_said_at_the_deadline(w, attach(w, bj_job_id(job)), "pending until somebody finalizes it");
    expect_end(w, bj_job_finalize(job, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void c52_a_paused_job_waits_for_resume(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", CREEPING);
    qmp(w, "job-pause", JSON({"id": "%s"}), bj_job_id(job));
    await_status(w, bj_job_id(job), "paused");
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);

    is_said_at_the_deadline(w, job, "resume it");
    bj_watch *watch = watch_job(w, job, 0);
    await_stall(watch, "resume it");
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

static void w02_a_qemu_that_does_not_answer(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = halted_mirror(w, "copy");
    bj_watch *watch = watch_job(w, job, 0);
    stop_qemu(w);
    await_stall(watch, "QEMU has not answered");

    go_on_qemu(w);
    await_stall(watch, "its speed limit");
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

/* Whoever watches later is told first what is amiss; here it stays so. */
static void w02_a_watch_begins_with_what_is_amiss(void **state)
{
    world *w = *state;
    notice_soon(w);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = halted_mirror(w, "copy");
    bj_watch *first = watch_jobs(w, 0);
    stop_qemu(w);
    await_stall(first, "QEMU has not answered");

    bj_watch *watch = watch_job(w, job, 0);
    bj_watch *all = watch_jobs(w, 0);
    assert_string_equal(news(w, watch, BJ_RECORD_STALLED), "STALLED");
    assert_string_equal(news(w, all, BJ_RECORD_STALLED), "APPEARED STALLED");
    go_on_qemu(w);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(w02_a_target_that_does_not_answer),
        TEST(w02_a_backup_says_it_as_well),
        TEST(w02_a_speed_limit_that_lets_nothing_through),
        TEST(c51_errors_that_are_ignored_are_counted),
        TEST(c50_no_space_is_said_also_later),
        TEST(c52_a_pending_job_waits_for_finalize),
        TEST(c52_a_paused_job_waits_for_resume),
        TEST(w02_a_qemu_that_does_not_answer),
        TEST(w02_a_watch_begins_with_what_is_amiss),
    };
    return run_on_both(tests);
}
