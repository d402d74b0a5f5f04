/* SPDX-License-Identifier: MIT */
/*
 * Copies of a domain's disk: ready, pivot, abort and failure, each compared with what libvirt says
 * of the disk afterwards.
 */
#include "libvirt.h"
#include "records.h"

static bj_job *copy_vda(world *w, const char *name)
{
    return mirror(w, "vda", empty_image(w, name), REUSE);
}

static bj_job *halted_copy(world *w, const char *name)
{
    return mirror(w, "vda", empty_image(w, name), REUSE_HALTED);
}

static void b64_ready_then_pivot_is_never_refused(void **state)
{
    world *w = *state;
    for (int round = 0; round < 10; round++) {
        const char *name = text_of(w, "copy%d", round);
        bj_job *job = copy_vda(w, name);
        expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
        expect_end(w, bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, BJ_TIMEOUT_NONE), BJ_OK,
                   BJ_OUTCOME_PIVOTED);
        assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, name));
    }
}

static void b31_a_pivot_waits_for_ready(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");

    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    names(expect(w, bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, BJ_TIMEOUT_NONE), BJ_E_NOT_READY),
          "vda");
    assert_false(bj_future_is_done(pivot));
    assert_false(bj_job_is_ready(job));

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(ready, BJ_OK);
    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

static void w09_an_async_pivot_is_done_when_libvirt_has_accepted(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");
    bj_future *async = hold(w, bj_job_pivot(job, BJ_PIVOT_ASYNC, BJ_TIMEOUT_NONE));
    assert_false(bj_future_is_done(async));

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(async, BJ_OK);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

static void w09_a_copy_is_finished(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    expect_end(w, bj_job_finish(job, BJ_FINISH_RELEASED, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
    job = copy_vda(w, "next"); /* the disk is free again */
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_RELEASED, BJ_TIMEOUT_NONE), BJ_OK,
               aborted_when_ready());
}

static void b32_pivots_at_once_share_one(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    bj_future *pivots[8];

    for (int i = 0; i < 8; i++)
        pivots[i] = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    for (int i = 0; i < 8; i++)
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b66_abort_of_a_ready_copy_is_copied(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, aborted_when_ready());

    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
    assert_true(same_image(image_path(w, "vda"), image_path(w, "copy")));
}

static void b66_abort_of_a_running_copy_is_cancelled(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);

    assert_false(bj_job_is_ready(job));
    expect_end(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
    assert_string_equal(mirror_of(w, w->domain, "vda"), "none");
}

static void b66_force_while_running_is_cancelled(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b66_force_of_a_ready_copy_is_not_to_be_had(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    assert_string_equal(mirror_of(w, w->domain, "vda"), "ready");
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b37_abort_async_answers_when_accepted(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    ends(done, BJ_OK, aborted_when_ready());
}

static void b34_pivot_and_abort_at_once_tell_the_truth(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future *abort = hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    bj_future_wait(pivot, BJ_TIMEOUT_NONE);
    bj_future_wait(abort, BJ_TIMEOUT_NONE);

    expect(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK);
    bool pivoted = bj_job_outcome(job) == BJ_OUTCOME_PIVOTED;
    if (!pivoted)
        assert_int_equal(bj_job_outcome(job), aborted_when_ready());
    assert_int_equal(bj_future_error(pivot), pivoted ? BJ_OK : BJ_E_JOB_ENDED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, pivoted ? "copy" : "vda"));
}

static void b35_what_is_over_stays_so(void **state)
{
    world *w = *state;
    bj_job *job = copy_vda(w, "copy");
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_query(job, BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB);
}

static void b35_repeated_aborts_are_harmless(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");
    bj_future *aborts[6];

    for (int i = 0; i < 6; i++)
        aborts[i] = hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    for (int i = 0; i < 6; i++)
        ends(aborts[i], BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b20_each_run_on_a_disk_has_its_own_outcome(void **state)
{
    world *w = *state;
    bj_job *jobs[6];

    for (int i = 0; i < 6; i++) {
        jobs[i] = copy_vda(w, text_of(w, "copy%d", i));
        expect(w, bj_job_ready(jobs[i], BJ_TIMEOUT_NONE), BJ_OK);
        bj_future *end = i % 2 ? bj_job_pivot(jobs[i], BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)
                               : bj_job_abort(jobs[i], BJ_ABORT_SOFT, BJ_TIMEOUT_NONE);
        expect(w, end, BJ_OK);
        expect(w, bj_job_done(jobs[i], BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    }
    for (int i = 0; i < 6; i++) {
        assert_string_equal(bj_job_id(jobs[i]), "vda");
        assert_int_equal(bj_job_outcome(jobs[i]),
                         i % 2 ? BJ_OUTCOME_PIVOTED : aborted_when_ready());
    }
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy5"));
}

static void b11_a_copy_that_fails_says_why(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", network_store(w, true), JSON({"reuse": true, "bandwidth": 1}));
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
                                 BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);

    names(done, "No space left on device");
    names(ends(ready, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "No space left on device");
    assert_string_equal(bj_job_text(job), "No space left on device");
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
}

static void b11_a_target_that_is_lost_fails_the_copy(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", network_store(w, false),
                         JSON({"reuse": true, "bandwidth": 1, "buf-size": 65536}));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    kill_store(w->domain);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    ends(pivot, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
}

static void b06_a_deadline_ends_the_wait_and_not_the_copy(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");

    names(expect(w, bj_job_ready(job, 30), BJ_E_TIMEOUT), "vda");
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 30), BJ_E_TIMEOUT);
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_future_cancel(pivot);
    answers(pivot, BJ_E_CANCELLED);

    /* Nobody wants the pivot any more: so there is none. */
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(mirror_of(w, w->domain, "vda"), "ready");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
}

static void b23_progress_is_not_ready(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");

    const bj_job_info *info =
        bj_future_info(expect(w, bj_job_query(job, BJ_TIMEOUT_DEFAULT), BJ_OK), 0);
    assert_non_null(info);
    assert_string_equal(info->id, "vda");
    assert_string_equal(info->type, "mirror");
    assert_false(info->ready);
    assert_true(info->total < 0 || info->current != info->total);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    info = bj_future_info(expect(w, bj_job_query(job, BJ_TIMEOUT_DEFAULT), BJ_OK), 0);
    assert_true(info->ready);
    assert_int_equal(info->current, info->total);
}

static void b44_speed_is_set(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");

    expect(w, bj_job_set_speed(job, 12345, BJ_TIMEOUT_NONE), BJ_OK);

    const char *said = virsh(w, text_of(w, "blockjob %s vda --raw --bytes", w->domain->name));
    assert_non_null(strstr(said, "12345"));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_set_speed(job, 1, BJ_TIMEOUT_NONE), BJ_E_STATE);
}

static void b44_verbs_that_libvirt_has_not(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");

    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
    expect(w, bj_job_change(job, JSON({"copy-mode": "write-blocking"}), BJ_TIMEOUT_NONE),
                            BJ_E_UNSUPPORTED);
    expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE),
           BJ_E_UNSUPPORTED);
    const int fd = 0;
    bj_execute_options options = {.size = sizeof options, .fds = &fd, .fd_count = 1};
    bj_future *passing = bj_monitor_execute_with(w->monitor, "getfd", NULL, &options, -1);
    names(expect(w, passing, BJ_E_UNSUPPORTED), "UNIX socket");
    options = (bj_execute_options){.size = sizeof options, .out_of_band = true};
    bj_future *urgent = bj_monitor_execute_with(w->monitor, "yank", NULL, &options, -1);
    names(expect(w, urgent, BJ_E_UNSUPPORTED), "out of band");

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_null(strstr(virsh(w, text_of(w, "dominfo %s", w->domain->name)), "tainted"));
}

static void b60_a_watch_sees_a_copy_from_start_to_end(void **state)
{
    world *w = *state;
    bj_watch *of_monitor = watch_monitor(w);
    bj_job *job = halted_copy(w, "copy");
    bj_watch *watch = watch_job(w, job, 0);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    assert_string_equal(news(w, watch, BJ_RECORD_ENDED), "READY ENDED");
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_CLOSED);

    /* QEMU's own events, as libvirt hands them on. */
    const bj_record *record;
    do {
        record = next_record(of_monitor);
        assert_int_equal(record->kind, BJ_RECORD_EVENT);
    } while (strcmp(record->name, "BLOCK_JOB_READY") != 0);
    assert_true(record->timestamp_us > 0);
    int64_t ready = bj_job_time(job, BJ_MOMENT_READY_EVENT);
    assert_true(ready > 0 && bj_job_time(job, BJ_MOMENT_END_EVENT) >= ready);
}

static void b60_a_watch_shows_progress(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w, "copy");
    bj_watch *watch = watch_job(w, job, 10);

    const bj_record *record;
    do {
        record = next_record(watch);
    } while (record->kind != BJ_RECORD_PROGRESS);
    assert_true(record->total > 0 && record->current < record->total);
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
}

static void w02_a_speed_limit_that_lets_nothing_through(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 50), BJ_OK);
    bj_job *job = halted_copy(w, "copy");
    bj_watch *watch = watch_job(w, job, 0);
    bj_watch *all = watch_jobs(w, 0);

    await_stall(watch, "its speed limit of 1 bytes per second");
    await_stall(all, "its speed limit of 1 bytes per second");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    news(w, watch, BJ_RECORD_READY);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(b06_a_deadline_ends_the_wait_and_not_the_copy),
        DOMAIN_TEST(b11_a_copy_that_fails_says_why),
        DOMAIN_TEST(b11_a_target_that_is_lost_fails_the_copy),
        DOMAIN_TEST(b20_each_run_on_a_disk_has_its_own_outcome),
        DOMAIN_TEST(b23_progress_is_not_ready),
        DOMAIN_TEST(b31_a_pivot_waits_for_ready),
        DOMAIN_TEST(w09_an_async_pivot_is_done_when_libvirt_has_accepted),
        DOMAIN_TEST(w09_a_copy_is_finished),
        DOMAIN_TEST(b32_pivots_at_once_share_one),
        DOMAIN_TEST(b34_pivot_and_abort_at_once_tell_the_truth),
        DOMAIN_TEST(b35_repeated_aborts_are_harmless),
        DOMAIN_TEST(b35_what_is_over_stays_so),
        DOMAIN_TEST(b37_abort_async_answers_when_accepted),
        DOMAIN_TEST(b44_speed_is_set),
        DOMAIN_TEST(b44_verbs_that_libvirt_has_not),
        DOMAIN_TEST(b60_a_watch_sees_a_copy_from_start_to_end),
        DOMAIN_TEST(b60_a_watch_shows_progress),
        DOMAIN_TEST(w02_a_speed_limit_that_lets_nothing_through),
        DOMAIN_TEST(b64_ready_then_pivot_is_never_refused),
        DOMAIN_TEST(b66_abort_of_a_ready_copy_is_copied),
        DOMAIN_TEST(b66_abort_of_a_running_copy_is_cancelled),
        DOMAIN_TEST(b66_force_of_a_ready_copy_is_not_to_be_had),
        DOMAIN_TEST(b66_force_while_running_is_cancelled),
    };
    return run_on_libvirt(tests);
}
