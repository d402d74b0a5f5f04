/* SPDX-License-Identifier: MIT */
/*
 * Jobs on a fake QEMU: what is sent and how often, races that a real one shows rarely, and ends
 * that nobody wants.
 */
#include "fake.h"
#include "records.h"
#include "tally.h"

static bj_future *pivot(world *w, bj_job *job)
{
    return hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
}

static bj_future *done(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
}

static bj_future *soft_abort(world *w, bj_job *job)
{
    return hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
}

static int completes_sent(world *w)
{
    return times_sent(w, "job-complete") + times_sent(w, "block-job-complete");
}

static int cancels_sent(world *w)
{
    return times_sent(w, "job-cancel") + times_sent(w, "block-job-cancel");
}

/* ------------------------------------------------------------------ the pivot */

static void b32_complete_is_sent_once(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *pivots[10];
    for (int i = 0; i < 5; i++)
        pivots[i] = pivot(w, job);
    step(w, JSON({"do": "hold-end"}));
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    for (int i = 5; i < 10; i++)
        pivots[i] = pivot(w, job);
    await_sent(w, "job-complete");
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    step(w, JSON({"do": "finish"}));

    for (int i = 0; i < 10; i++)
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 1);
    assert_int_equal(cancels_sent(w), 0);
}

static void b31_nothing_is_sent_before_ready(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *waiting = pivot(w, job);
    expect(w, bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, BJ_TIMEOUT_NONE), BJ_E_NOT_READY);
    step(w, JSON({"do": "progress", "offset": 1000, "len": 1000})); /* B23: no readiness */
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(completes_sent(w), 0);

    step(w, JSON({"do": "ready"}));
    ends(waiting, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 1);
}

static void b06_no_complete_after_the_last_deadline(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 10), BJ_E_TIMEOUT);
    bj_future_cancel(pivot(w, job));
    step(w, JSON({"do": "ready"}));

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(completes_sent(w), 0);
}

static void b02_ready_before_the_starts_reply_counts(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "when", "command": "blockdev-mirror", "at": "done",
                  "steps": [{"do": "ready"}]}));
    bj_job *job = fake_mirror(w);

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b03_a_job_that_is_over_before_its_starts_reply(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "when", "command": "blockdev-mirror", "at": "done",
                  "steps": [{"do": "fail", "error": "Source and target image have different sizes"}]}));
    bj_job *job = fake_mirror(w);

    names(ends(done(w, job), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "different sizes");
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED);
}

static void b02_the_end_before_the_completes_reply_counts(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "order", "command": "*", "events": "before"}));

    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b45_a_hang_up_between_the_end_and_its_reply(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "drop", "command": "job-complete"}));
    bj_future *pivoting = pivot(w, job);
    await_sent(w, "job-complete");
    step(w, JSON({"do": "hang-up"}));

    /* It completed; whether by our verb, nobody has said. */
    assert_int_equal(bj_future_wait(pivoting, BJ_TIMEOUT_NONE), BJ_OK);
    if (bj_job_outcome(job) != BJ_OUTCOME_PIVOTED) {
        assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_COMPLETED);
        assert_string_not_equal(bj_job_text(job), "");
    }
}

static void b33_a_refusal_is_told_with_qemus_text(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "answer", "command": "*", "count": 0,
                  "error": {"class": "GenericError", "desc": "The active block job cannot be completed"}}));

    bj_future *refused =
        expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_REFUSED);
    names(refused, "cannot be completed");
    assert_string_equal(bj_future_error_class(refused), "GenericError");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
}

static void b27_a_bounce_is_no_second_ready(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_job *job = fake_mirror(w);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_on_done(ready, tally_closure(&t)), BJ_OK);
    step(w, JSON({"do": "ready"}));
    step(w, JSON({"do": "bounce", "times": 100}));
    step(w, JSON({"do": "emit", "event": "BLOCK_JOB_READY",
                  "data": {"type": "mirror", "device": "%s", "len": 1, "offset": 1, "speed": 0}}),
                  bj_job_id(job));

    tally_await(&t, 1, 1);
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    tally_await(&t, 1, 1);
}

static void b28_a_stale_query_overrules_nothing(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    step(w,
         JSON({"do": "when", "command": "query-jobs", "at": "done", "steps": [{"do": "ready"}]}));
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);

    assert_true(bj_job_is_ready(job));
    expect(w, bj_job_ready(job, 0), BJ_OK);
}

/* ----------------------------------------------------------------- the aborts */

static void b34_one_of_pivot_and_abort_wins(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    bj_future *pivoting = pivot(w, job);
    bj_future *aborting = soft_abort(w, job);

    answers(aborting, BJ_OK);
    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 1);
    assert_int_equal(bj_future_outcome(aborting), BJ_OUTCOME_PIVOTED);
}

static void b34_pivot_after_a_soft_abort_is_refused_here(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    bj_future *aborting = soft_abort(w, job);
    await_sent(w, "block-job-cancel");

    names(answers(pivot(w, job), BJ_E_STATE), bj_job_id(job));
    step(w, JSON({"do": "finish"}));
    ends(aborting, BJ_OK, BJ_OUTCOME_COPIED);
    assert_int_equal(completes_sent(w), 0);
}

static void other_client(world *w, const char *command, const char *key, bj_job *job)
{
    step(w, JSON({"do": "execute", "command": "%s", "arguments": {"%s": "%s"}}), command, key,
                  bj_job_id(job));
}

static void c31_a_pivot_learns_how_another_clients_abort_ends_it(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_STALL_MS, 600000), BJ_OK);
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    other_client(w, "block-job-cancel", "device", job);
    bj_future *pivoting = pivot(w, job);
    await_sent(w, "job-complete");
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK); /* answered after complete was refused */
    assert_false(bj_future_is_done(pivoting));
    step(w, JSON({"do": "finish"}));

    ends(pivoting, BJ_E_JOB_ENDED, BJ_OUTCOME_COPIED);
    assert_int_equal(completes_sent(w), 1);
}

static void c31_a_refused_pivot_of_a_job_that_goes_on_is_refused(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "answer", "command": "job-complete",
                  "error": {"class": "GenericError", "desc": "not now"}}));
    names(answers(pivot(w, job), BJ_E_REFUSED), "not now");
    assert_int_equal(completes_sent(w), 1);
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void c32_async_is_done_when_accepted_though_the_job_has_stopped(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    step(w, JSON({"do": "when", "command": "block-job-cancel", "at": "done",
                  "steps": [{"do": "io-error", "action": "stop"}]}));
    int flags = BJ_ABORT_SOFT | BJ_ABORT_ASYNC;
    expect(w, bj_job_abort(job, flags, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_STALLED);
}

/* Paused by us, and resumed by another client before it had stopped. */
static void c116_a_pause_that_another_client_has_ended_stalls_nobody(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-pause"}));
    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_OK);
    answers(pivot(w, job), BJ_E_STALLED);
    other_client(w, "job-resume", "id", job);
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b36_escalation_sends_soft_then_force(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    bj_future *aborting = hold(w, bj_job_abort_escalate(job, 20, BJ_TIMEOUT_NONE));
    await_sent(w, "block-job-cancel");
    await_sent(w, "job-cancel");
    step(w, JSON({"do": "finish"}));

    ends(aborting, BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_int_equal(cancels_sent(w), 2);
}

/* Whether the soft abort ended the job before the delay was over: on a busy machine it may not. */
static bool ends_before(world *w, int64_t delay_ms)
{
    bj_job *job = fake_ready_mirror(w);
    bj_future *aborting = hold(w, bj_job_abort_escalate(job, delay_ms, BJ_TIMEOUT_NONE));
    answers(aborting, BJ_OK);
    if (cancels_sent(w) > 1)
        return false;
    ends(aborting, BJ_OK, BJ_OUTCOME_COPIED);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    return true;
}

static void b36_no_force_when_the_soft_one_worked(void **state)
{
    world *w = *state;
    int64_t delay_ms = 20;
    for (; !ends_before(w, delay_ms); delay_ms *= 2)
        next_fake(w);

    /* The delay passes, and nothing follows. */
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    assert_int_equal(bj_future_wait(closed, delay_ms + 30), BJ_E_TIMEOUT);
    assert_int_equal(cancels_sent(w), 1);
}

static void b37_async_is_done_when_accepted(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));

    bj_future *accepted =
        hold(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE));
    ends(accepted, BJ_OK, BJ_OUTCOME_NONE);
    bj_future *end = done(w, job);
    assert_false(bj_future_is_done(end));
    step(w, JSON({"do": "finish"}));
    ends(end, BJ_OK, BJ_OUTCOME_COPIED);
}

static void b39_not_found_after_the_end_is_no_error(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "when", "command": "*", "at": "received",
                  "steps": [{"do": "fail", "error": "Input/output error"}]}));

    ends(soft_abort(w, job), BJ_OK, BJ_OUTCOME_FAILED);
}

static void b04_ready_after_an_accepted_cancel_is_cancelled_all_the_same(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    bj_future *aborting = soft_abort(w, job);
    await_sent(w, "block-job-cancel");
    step(w, JSON({"do": "emit", "event": "BLOCK_JOB_READY",
                  "data": {"type": "mirror", "device": "%s", "len": 1, "offset": 1, "speed": 0}}),
                  bj_job_id(job));
    step(w, JSON({"do": "finish"}));

    ends(aborting, BJ_OK, BJ_OUTCOME_CANCELLED);
}

/* ------------------------------------------------------------------ the ends */

static void b10_a_job_that_vanishes_is_no_success(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *end = done(w, job);
    step(w, JSON({"do": "vanish"}));

    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
    step(w, JSON({"do": "hang-up"}));
    names(ends(end, BJ_E_JOB_LOST, BJ_OUTCOME_LOST), bj_job_id(job));
}

static void b11_failed_with_the_text_of_the_event(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    bj_future *pivoting = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    answers(pivoting, BJ_OK);
    bj_future *end = done(w, job);
    step(w, JSON({"do": "fail", "error": "No space left on device"}));

    names(ends(end, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "No space left on device");
    assert_string_equal(bj_job_text(job), "No space left on device");
}

static void b12_errors_that_are_reported_end_nothing(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *end = done(w, job);
    step(w, JSON({"do": "io-error", "action": "report"}));
    step(w, JSON({"do": "io-error", "action": "ignore"}));
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_false(bj_future_is_done(end));

    step(w, JSON({"do": "ready"}));
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(end, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b13_no_space_is_said(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *end = done(w, job);
    step(w, JSON({"do": "io-error", "action": "stop", "nospace": true}));

    names(answers(end, BJ_E_STALLED), "make room");
}

static void b16_a_quit_is_told(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *end = done(w, job);
    step(w, JSON({"do": "execute", "command": "quit"}));

    ends(end, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b18_the_first_end_wins(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "fail", "error": "the first"}));
    ends(done(w, job), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    step(w, JSON({"do": "emit", "event": "BLOCK_JOB_COMPLETED",
                  "data": {"type": "mirror", "device": "%s", "len": 1, "offset": 1, "speed": 0}}),
                  bj_job_id(job));
    step(w, JSON({"do": "emit", "event": "BLOCK_JOB_CANCELLED",
                  "data": {"type": "mirror", "device": "%s", "len": 1, "offset": 1, "speed": 0}}),
                  bj_job_id(job));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_FAILED);
    assert_string_equal(bj_job_text(job), "the first");
}

static void b50_an_end_without_its_fields_is_an_end(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *end = done(w, job);
    step(w,
         "{\"do\": \"raw\", \"text\": \"{\\\"event\\\": \\\"BLOCK_JOB_CANCELLED\\\", "
         "\\\"data\\\": {\\\"device\\\": \\\"%s\\\"}}\\r\\n\"}",
         bj_job_id(job));

    ends(end, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b40_a_job_of_the_library_is_dismissed_once(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    assert_true(log_has(w, "\"auto-dismiss\": false"));
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, "job-dismiss") + times_sent(w, "block-job-dismiss"), 1);
}

static void b40_a_quick_close_dismisses_first(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    bj_monitor_close(w->monitor);

    step(w, JSON({"do": "wait", "what": "disconnect"}));
    assert_int_equal(times_sent(w, "job-dismiss") + times_sent(w, "block-job-dismiss"), 1);
}

static void b40_jobs_of_others_are_not_dismissed(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "execute", "command": "blockdev-mirror",
                  "arguments": {"job-id": "theirs", "device": "drive0", "target": "copy",
                                "sync": "full", "auto-dismiss": false}}));
    bj_job *job = attach(w, "theirs");
    step(w, JSON({"do": "fail"}));
    ends(done(w, job), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);

    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, "job-dismiss") + times_sent(w, "block-job-dismiss"), 0);
}

static void b41_a_refused_start_is_no_job(void **state)
{
    world *w = *state;
    bj_future *refused =
        expect(w, bj_monitor_mirror(w->monitor, "missing0", "copy", "full", NULL, BJ_TIMEOUT_NONE),
               BJ_E_REFUSED);
    names(refused, "missing0");
    assert_string_equal(bj_future_error_class(refused), "GenericError");
    assert_null(bj_future_job(refused));
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
}

static void b06_a_start_whose_deadline_passes_can_be_found(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "blockdev-mirror"}));
    bj_future *late = expect(w, bj_monitor_mirror(w->monitor, "drive0", "copy", "full",
                                                  JSON({"job-id": "late"}), 20), BJ_E_TIMEOUT);
    names(late, "blockdev-mirror");
    step(w, JSON({"do": "release"}));

    bj_job *job = attach(w, "late");
    step(w, JSON({"do": "ready"}));
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b20_an_id_used_again_at_once_is_another_job(void **state)
{
    world *w = *state;
    bj_job *first = mirror(w, "drive0", "copy", JSON({"job-id": "again", "auto-dismiss": true}));
    bj_future *end = done(w, first);
    step(w, JSON({"do": "execute", "command": "job-cancel", "arguments": {"id": "again"}}));
    step(w, JSON({"do": "execute", "command": "blockdev-mirror",
                  "arguments": {"job-id": "again", "device": "drive0", "target": "copy",
                                "sync": "full"}}));

    ends(end, BJ_OK, BJ_OUTCOME_CANCELLED);
    bj_job *second = attach(w, "again");
    assert_ptr_not_equal(first, second);
    assert_int_equal(bj_job_outcome(second), BJ_OUTCOME_NONE);
    step(w, JSON({"do": "ready"}));
    ends(pivot(w, second), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(bj_job_outcome(first), BJ_OUTCOME_CANCELLED);
}

static void b45_a_hang_up_is_lost_with_a_reason(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    bj_future *end = done(w, job);
    step(w, JSON({"do": "hold-end"}));
    bj_future *pivoting = pivot(w, job);
    step(w, JSON({"do": "hang-up"}));

    names(ends(end, BJ_E_JOB_LOST, BJ_OUTCOME_LOST), bj_job_id(job));
    ends(pivoting, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    assert_string_not_equal(bj_job_text(job), "");
}

static void b45_a_hang_up_at_every_byte_answers_everyone(void **state)
{
    world *w = *state;
    for (int after = 0; after < 400; after += 7) {
        step(w, JSON({"do": "hang-up", "after": 1000000})); /* in place of the last one */
        bj_future *connected = bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE);
        bj_monitor *monitor = bj_future_monitor(answers(connected, BJ_OK));
        bj_future_unref(connected);
        step(w, JSON({"do": "hang-up", "after": %d}), after);
        bj_future *started =
            bj_monitor_mirror(monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE);
        bj_future *closed = bj_monitor_closed(monitor);
        bj_future *list = bj_monitor_list(monitor, BJ_TIMEOUT_NONE);

        assert_int_equal(bj_future_wait(started, 60 * 1000), BJ_OK);
        bj_job *job = bj_future_job(started);
        bj_future *end = job ? bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE) : NULL;
        /* What was not cut by then is cut now. */
        step(w, JSON({"do": "hang-up"}));
        answers(closed, BJ_E_DISCONNECTED);
        assert_int_equal(bj_future_wait(list, 60 * 1000), BJ_OK);
        if (job)
            ends(end, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);

        bj_future_unref(end);
        bj_job_unref(job);
        bj_future_unref(list);
        bj_future_unref(closed);
        bj_future_unref(started);
        bj_monitor_unref(monitor);
    }
}

static void b20_an_id_used_again_does_not_hide_how_the_first_ended(void **state)
{
    world *w = *state;
    static const char theirs[] = JSON({"do": "execute", "command": "blockdev-mirror", "arguments": {
              "job-id": "theirs", "device": "drive0", "target": "copy", "sync": "full"}});
    step(w, "%s", theirs);
    bj_job *first = attach(w, "theirs");
    bj_future *over = done(w, first);
    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph"}));
    step(w, JSON({"do": "ready"}));
    step(w, JSON({"do": "execute", "command": "job-complete", "arguments": {"id": "theirs"}}));
    await_sent(w, "x-debug-query-block-graph");
    step(w, "%s", theirs);
    bj_future *again = hold(w, bj_monitor_attach(w->monitor, "theirs", BJ_TIMEOUT_NONE));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK); /* its run is known by now */

    step(w, JSON({"do": "release"}));
    ends(over, BJ_OK, BJ_OUTCOME_PIVOTED);
    bj_job *second = hold_job(w, bj_future_job(answers(again, BJ_OK)));
    assert_ptr_not_equal(first, second);
    assert_int_equal(bj_job_outcome(second), BJ_OUTCOME_NONE);
}

static void b01_what_a_start_leads_to_is_heard_before_its_reply(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "when", "command": "blockdev-mirror", "at": "done", "steps": [
                  {"do": "ready"},
                  {"do": "io-error", "action": "stop", "operation": "write", "nospace": true}]}));
    bj_job *job = fake_mirror(w);
    assert_true(bj_job_is_ready(job));
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_STALLED);
}

static void b29_a_flood_of_bounces_disturbs_nobody(void **state)
{
    enum { JOBS = 8, BOUNCES = 200 };
    world *w = *state;
    bj_job *jobs[JOBS];
    bj_future *pivots[JOBS];
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = fake_mirror(w);
        step(w, "{\"do\": \"ready\", \"job\": \"%s\"}", bj_job_id(jobs[i]));
        step(w, "{\"do\": \"hold-end\", \"job\": \"%s\"}", bj_job_id(jobs[i]));
    }
    bj_watch *watch = watch_job(w, jobs[0], 0);
    int queries = times_sent(w, "query-block-jobs");
    for (int i = 0; i < JOBS; i++) {
        for (int other = 0; other < JOBS; other++)
            step(w, "{\"do\": \"bounce\", \"job\": \"%s\", \"times\": %d}", bj_job_id(jobs[other]),
                 BOUNCES);
        pivots[i] = pivot(w, jobs[i]);
    }
    expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    for (int i = 0; i < JOBS; i++)
        step(w, "{\"do\": \"finish\", \"job\": \"%s\"}", bj_job_id(jobs[i]));

    for (int i = 0; i < JOBS; i++)
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), JOBS);
    assert_int_equal(times_sent(w, "query-block-jobs"), queries);
    const bj_record *record;
    int readies = 0;
    do {
        record = next_record(watch);
        readies += record->kind == BJ_RECORD_READY;
    } while (record->kind == BJ_RECORD_STATUS || record->kind == BJ_RECORD_LAGGED ||
             record->kind == BJ_RECORD_READY);
    assert_int_equal(record->kind, BJ_RECORD_ENDED); /* and no stall before it */
    assert_int_equal(readies, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b32_complete_is_sent_once),
        FAKE_TEST(b31_nothing_is_sent_before_ready),
        FAKE_TEST(b06_no_complete_after_the_last_deadline),
        FAKE_TEST(b02_ready_before_the_starts_reply_counts),
        FAKE_TEST(b03_a_job_that_is_over_before_its_starts_reply),
        FAKE_TEST(b02_the_end_before_the_completes_reply_counts),
        FAKE_TEST(b45_a_hang_up_between_the_end_and_its_reply),
        FAKE_TEST(b33_a_refusal_is_told_with_qemus_text),
        FAKE_TEST(b27_a_bounce_is_no_second_ready),
        FAKE_TEST(b28_a_stale_query_overrules_nothing),
        FAKE_TEST(b34_one_of_pivot_and_abort_wins),
        FAKE_TEST(b34_pivot_after_a_soft_abort_is_refused_here),
        FAKE_TEST(b36_escalation_sends_soft_then_force),
        FAKE_TEST(c31_a_pivot_learns_how_another_clients_abort_ends_it),
        FAKE_TEST(c31_a_refused_pivot_of_a_job_that_goes_on_is_refused),
        FAKE_TEST(c32_async_is_done_when_accepted_though_the_job_has_stopped),
        FAKE_TEST(c116_a_pause_that_another_client_has_ended_stalls_nobody),
        FAKE_TEST(b36_no_force_when_the_soft_one_worked),
        FAKE_TEST(b37_async_is_done_when_accepted),
        FAKE_TEST(b39_not_found_after_the_end_is_no_error),
        FAKE_TEST(b04_ready_after_an_accepted_cancel_is_cancelled_all_the_same),
        FAKE_TEST(b10_a_job_that_vanishes_is_no_success),
        FAKE_TEST(b11_failed_with_the_text_of_the_event),
        FAKE_TEST(b12_errors_that_are_reported_end_nothing),
        FAKE_TEST(b13_no_space_is_said),
        FAKE_TEST(b16_a_quit_is_told),
        FAKE_TEST(b18_the_first_end_wins),
        FAKE_TEST(b50_an_end_without_its_fields_is_an_end),
        FAKE_TEST(b40_a_job_of_the_library_is_dismissed_once),
        FAKE_TEST(b40_a_quick_close_dismisses_first),
        FAKE_TEST(b40_jobs_of_others_are_not_dismissed),
        FAKE_TEST(b41_a_refused_start_is_no_job),
        FAKE_TEST(b06_a_start_whose_deadline_passes_can_be_found),
        FAKE_TEST(b20_an_id_used_again_at_once_is_another_job),
        FAKE_TEST(b45_a_hang_up_is_lost_with_a_reason),
        UNCONNECTED_TEST(b45_a_hang_up_at_every_byte_answers_everyone),
        FAKE_TEST(b20_an_id_used_again_does_not_hide_how_the_first_ended),
        FAKE_TEST(b01_what_a_start_leads_to_is_heard_before_its_reply),
        FAKE_TEST(b29_a_flood_of_bounces_disturbs_nobody),
    };
    return run_on_fake(tests);
}
