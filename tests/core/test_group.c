/* SPDX-License-Identifier: MIT */
/*
 * Groups on a fake QEMU: what is sent to whom, and what is not.
 */
#include "fake.h"
#include "process.h"
#include "records.h"
#include "tally.h"

#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* Mirrors "a", "b" and "c" of disks of their own, at offset 0, and their group. */
typedef struct trio {
    bj_group *group;
    bj_job *a, *b, *c;
} trio;

static bj_job *fake_mirror_of(world *w, const char *id)
{
    return mirror(w, text_of(w, "disk-%s", id), text_of(w, "copy-%s", id),
                  text_of(w, JSON({"job-id": "%s"}), id));
}

static void add(bj_group *group, bj_job *job)
{
    assert_int_equal(bj_group_add(group, job), BJ_OK);
}

static bj_group *new_group(world *w)
{
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    return hold_group(w, group);
}

static trio group_of(world *w, bj_job *a, bj_job *b, bj_job *c)
{
    trio t = {.group = new_group(w), .a = a, .b = b, .c = c};
    add(t.group, a);
    add(t.group, b);
    add(t.group, c);
    return t;
}

static trio make_trio(world *w)
{
    bj_job *a = fake_mirror_of(w, "a");
    bj_job *b = fake_mirror_of(w, "b");
    bj_job *c = fake_mirror_of(w, "c");
    return group_of(w, a, b, c);
}

/* The same where a job has the name of its device. */
static bj_job *old_mirror_of(world *w, const char *device)
{
    return start(
        w, "drive-mirror",
        text_of(w, JSON({"device": "%s", "target": "/images/%s", "sync": "full"}), device, device));
}

static trio make_old_trio(world *w)
{
    bj_job *a = old_mirror_of(w, "drive-a");
    bj_job *b = old_mirror_of(w, "drive-b");
    bj_job *c = old_mirror_of(w, "drive-c");
    return group_of(w, a, b, c);
}

static void make_ready(world *w, bj_job *job)
{
    step(w, JSON({"do": "ready", "job": "%s"}), bj_job_id(job));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
}

static trio make_ready_trio(world *w)
{
    trio t = make_trio(w);
    make_ready(w, t.a);
    make_ready(w, t.b);
    make_ready(w, t.c);
    return t;
}

static void out_of_space(world *w, bj_job *job)
{
    step(w, JSON({"do": "fail", "job": "%s", "error": "No space left on device"}), bj_job_id(job));
}

static void stop_by_error(world *w, bj_job *job)
{
    step(w, JSON({"do": "io-error", "job": "%s", "action": "stop"}), bj_job_id(job));
}

static bj_future *pivot(world *w, bj_group *group)
{
    return hold(w, bj_group_pivot(group, BJ_TIMEOUT_NONE));
}

static bj_future *done(world *w, bj_group *group)
{
    return hold(w, bj_group_done(group, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
}

/* All that the library was going to send, it has sent. */
static void settle(world *w)
{
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static int completes_sent(world *w)
{
    return times_sent(w, "job-complete") + times_sent(w, "block-job-complete");
}

static int cancels_sent(world *w)
{
    return times_sent(w, "job-cancel") + times_sent(w, "block-job-cancel");
}

static void decided_by(bj_future *future, bj_job *job)
{
    bj_job *decider = bj_future_job(future);
    bj_job_unref(decider);
    assert_ptr_equal(decider, job);
}

/* --------------------------------------------------------------- ready, done, any */

static void b08_ready_when_all_are(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *ready = hold(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE));
    make_ready(w, t.c);
    make_ready(w, t.a);
    assert_int_equal(bj_future_error(ready), BJ_E_PENDING);
    make_ready(w, t.b);

    answers(ready, BJ_OK);
    decided_by(ready, NULL);
    expect(w, bj_group_ready(t.group, 1000), BJ_OK); /* B04 */
}

static void b09_ready_ends_with_the_first_that_will_not_be(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *ready = hold(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE));
    out_of_space(w, t.b);

    names(ends(ready, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "No space left");
    decided_by(ready, t.b);
    settle(w);
    assert_int_equal(cancels_sent(w), 0);
}

static void b08_done_when_all_are_over(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    bj_future *end = done(w, t.group);
    step(w, JSON({"do": "execute", "command": "job-cancel", "arguments": {"id": "a"}}));
    out_of_space(w, t.b);
    expect(w, bj_job_done(t.b, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED);
    assert_int_equal(bj_future_error(end), BJ_E_PENDING);
    out_of_space(w, t.c);

    ends(end, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    decided_by(end, t.b);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_CANCELLED);
    bj_future *again = expect(w, bj_group_done(t.group, BJ_DONE_RELEASED, 1000), BJ_E_JOB_FAILED);
    assert_int_equal(bj_future_outcome(again), BJ_OUTCOME_FAILED);
}

static void b08_one_outcome_for_all_is_told(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *end = done(w, t.group);
    expect_end(w, bj_group_abort(t.group, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_CANCELLED);
    ends(end, BJ_OK, BJ_OUTCOME_CANCELLED);
    decided_by(end, NULL);
}

static void b13_done_is_told_of_a_standstill(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *end = done(w, t.group);
    out_of_space(w, t.a);
    stop_by_error(w, t.c);

    ends(end, BJ_E_STALLED, BJ_OUTCOME_NONE);
    decided_by(end, t.c);
}

static void b08_any_is_the_first(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    bj_future *any = hold(w, bj_group_any(t.group, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    expect(w, bj_job_abort(t.b, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);

    ends(any, BJ_OK, BJ_OUTCOME_COPIED);
    decided_by(any, t.b);
    bj_future *failed = hold(w, bj_group_any(t.group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
    ends(failed, BJ_OK, BJ_OUTCOME_COPIED); /* B04: it still is over */
}

static void b08_any_may_be_a_failure(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *any = hold(w, bj_group_any(t.group, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    out_of_space(w, t.c);

    ends(any, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    decided_by(any, t.c);
}

static void b08_a_wait_is_on_the_jobs_of_its_moment(void **state)
{
    world *w = *state;
    bj_group *group = new_group(w);
    bj_job *a = fake_mirror_of(w, "a");
    add(group, a);
    bj_future *first = done(w, group);
    bj_job *b = fake_mirror_of(w, "b");
    add(group, b);
    add(group, b); /* it is in it */
    names(expect(w, bj_group_ready(group, 0), BJ_E_TIMEOUT), "2 of 2 jobs not ready");
    bj_future *second = done(w, group);
    step(w, JSON({"do": "execute", "command": "job-cancel", "arguments": {"id": "a"}}));

    ends(first, BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_future_error(second), BJ_E_PENDING);
    step(w, JSON({"do": "execute", "command": "job-cancel", "arguments": {"id": "b"}}));
    ends(second, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b08_a_member_may_be_over_before(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    out_of_space(w, t.a);
    expect(w, bj_job_done(t.a, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED);
    bj_group *late = new_group(w);
    add(late, t.b);
    add(late, t.a);

    decided_by(expect(w, bj_group_ready(late, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED), t.a);
    decided_by(expect(w, bj_group_any(late, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED), t.a);
}

/* --------------------------------------------------------------------- the pivot */

static void b08_pivot_waits_for_the_last(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *pivoting = pivot(w, t.group);
    make_ready(w, t.a);
    make_ready(w, t.b);
    settle(w);
    assert_int_equal(completes_sent(w), 0);
    step(w, JSON({"do": "ready", "job": "c"}));

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
    decided_by(pivoting, NULL);
    assert_int_equal(completes_sent(w), 3);
    assert_int_equal(cancels_sent(w), 0);
}

static void b08_pivot_of_what_is_ready(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    ends(pivot(w, t.group), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 3);
    expect_end(w, bj_group_pivot(t.group, 1000), BJ_OK, BJ_OUTCOME_PIVOTED); /* B04 */
    assert_int_equal(completes_sent(w), 3);
}

static void b08_one_that_fails_before_rolls_the_others_back(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *pivoting = pivot(w, t.group);
    make_ready(w, t.a);
    out_of_space(w, t.c);

    names(ends(pivoting, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "No space left");
    decided_by(pivoting, t.c);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_COPIED);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_CANCELLED);
    assert_int_equal(completes_sent(w), 0);
}

static void b08_the_answer_waits_until_all_are_rolled_back(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    step(w, JSON({"do": "hold-end", "job": "b"}));
    bj_job *d = fake_mirror_of(w, "d");
    add(t.group, d);
    bj_future *pivoting = pivot(w, t.group);
    out_of_space(w, d);
    expect(w, bj_job_done(t.c, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_error(pivoting), BJ_E_PENDING);
    step(w, JSON({"do": "finish", "job": "b"}));

    ends(pivoting, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_COPIED);
}

static void b16_one_cancelled_by_another_client_rolls_back(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *pivoting = pivot(w, t.group);
    make_ready(w, t.a);
    make_ready(w, t.b);
    step(w, JSON({"do": "execute", "command": "job-cancel", "arguments": {"id": "b"}}));

    ends(pivoting, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
    decided_by(pivoting, t.b);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_COPIED);
    assert_int_equal(bj_job_outcome(t.c), BJ_OUTCOME_CANCELLED);
}

static void b13_one_that_stands_still_rolls_back(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    bj_future *pivoting = pivot(w, t.group);
    stop_by_error(w, t.b);

    ends(pivoting, BJ_E_STALLED, BJ_OUTCOME_NONE);
    decided_by(pivoting, t.b);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_COPIED);
    assert_int_equal(bj_job_outcome(t.c), BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_NONE); /* it is its owner's to mend or abort */
    assert_int_equal(completes_sent(w), 0);
}

static void b13_others_that_stand_still_are_aborted_by_force(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.b);
    stop_by_error(w, t.a);
    stop_by_error(w, t.c);
    answers(hold(w, bj_job_done(t.a, BJ_DONE_OVER, BJ_TIMEOUT_NONE)), BJ_E_STALLED);
    answers(hold(w, bj_job_done(t.c, BJ_DONE_OVER, BJ_TIMEOUT_NONE)), BJ_E_STALLED);
    bj_future *pivoting = pivot(w, t.group);

    answers(pivoting, BJ_E_STALLED);
    decided_by(pivoting, t.a);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_COPIED);
    assert_int_equal(bj_job_outcome(t.c), BJ_OUTCOME_CANCELLED);
}

static void b27_a_bounce_delays_all(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    step(w, JSON({"do": "emit", "event": "JOB_STATUS_CHANGE",
                  "data": {"status": "standby", "id": "b"}}));
    settle(w);
    bj_future *pivoting = pivot(w, t.group);
    settle(w);
    assert_int_equal(completes_sent(w), 0);
    step(w, JSON({"do": "emit", "event": "JOB_STATUS_CHANGE",
                  "data": {"status": "ready", "id": "b"}}));

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b08_one_without_a_pivot_is_refused_and_nothing_is_aborted(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    bj_job *stream = start(w, "block-stream", JSON({"job-id": "stream", "device": "disk-stream"}));
    add(t.group, stream);

    bj_future *refused = pivot(w, t.group);
    names(answers(refused, BJ_E_STATE), "stream");
    decided_by(refused, stream);
    settle(w);
    assert_int_equal(completes_sent(w), 0);
    assert_int_equal(cancels_sent(w), 0);
}

static void b08_from_the_switch_on_each_goes_its_own_way(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    step(w, JSON({"do": "when", "command": "job-complete", "at": "received",
                  "steps": [{"do": "fail", "job": "b", "error": "Input/output error"}]}));
    step(w, JSON({"do": "hold-end", "job": "a"}));
    bj_future *pivoting = pivot(w, t.group);
    expect(w, bj_job_done(t.b, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED);
    expect_end(w, bj_job_done(t.c, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(bj_future_error(pivoting), BJ_E_PENDING);
    step(w, JSON({"do": "finish", "job": "a"}));

    ends(pivoting, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    decided_by(pivoting, t.b);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_PIVOTED);
    assert_int_equal(cancels_sent(w), 0);
}

static void b06_a_deadline_takes_all_pivots_back(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    bj_future *late = expect(w, bj_group_pivot(t.group, 20), BJ_E_TIMEOUT);
    names(late, "2 of 3 jobs not ready");
    names(late, "job b");
    make_ready(w, t.b);
    make_ready(w, t.c);
    settle(w);

    assert_int_equal(completes_sent(w), 0);
    assert_int_equal(cancels_sent(w), 0);
    ends(pivot(w, t.group), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b07_a_cancelled_pivot_disturbs_no_other(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *given_up = pivot(w, t.group);
    bj_future *alone = hold(w, bj_job_pivot(t.a, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    settle(w);
    bj_future_cancel(given_up);
    answers(given_up, BJ_E_CANCELLED);
    make_ready(w, t.b);
    make_ready(w, t.c);
    step(w, JSON({"do": "ready", "job": "a"}));

    ends(alone, BJ_OK, BJ_OUTCOME_PIVOTED);
    settle(w);
    assert_int_equal(completes_sent(w), 1);
}

static void b32_a_group_and_a_caller_share_one_complete(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    step(w, JSON({"do": "hold-end", "job": "a"}));
    bj_future *alone = hold(w, bj_job_pivot(t.a, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    await_sent(w, "job-complete");
    bj_future *one = pivot(w, t.group);
    bj_future *other = pivot(w, t.group);
    settle(w);
    step(w, JSON({"do": "finish", "job": "a"}));

    ends(alone, BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(one, BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(other, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 3);
}

static void b33_another_callers_refusal_is_not_the_groups(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    bj_future *pivoting = pivot(w, t.group);
    step(w, JSON({"do": "answer", "command": "job-complete",
                  "error": {"class": "GenericError", "desc": "not now"}}));
    expect(w, bj_job_pivot(t.a, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_REFUSED);
    assert_int_equal(bj_future_error(pivoting), BJ_E_PENDING);
    step(w, JSON({"do": "ready", "job": "b"}));
    step(w, JSON({"do": "ready", "job": "c"}));

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b33_a_refused_abort_of_another_caller_lets_all_go(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    make_ready(w, t.b);
    bj_future *pivoting = pivot(w, t.group);
    settle(w);
    step(w, JSON({"do": "answer", "command": "block-job-cancel",
                  "error": {"class": "GenericError", "desc": "not now"}}));
    step(w, JSON({"do": "hold", "command": "block-job-cancel"}));
    bj_future *aborting = hold(w, bj_job_abort(t.a, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    await_sent(w, "block-job-cancel");
    make_ready(w, t.c);
    settle(w);
    assert_int_equal(completes_sent(w), 0);
    step(w, JSON({"do": "release"}));
    answers(aborting, BJ_E_REFUSED);

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b34_none_is_pivoted_while_a_verb_of_the_program_is_under_way(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    step(w, JSON({"do": "hold-end", "job": "a"}));
    bj_future *pivoting = pivot(w, t.group);
    step(w, JSON({"do": "hold", "command": "block-job-cancel"}));
    bj_future *raw = hold(w, bj_monitor_execute(w->monitor, "block-job-cancel",
                                                JSON({"device": "a"}), BJ_TIMEOUT_NONE));
    await_sent(w, "block-job-cancel");
    make_ready(w, t.b);
    make_ready(w, t.c);
    settle(w);
    assert_int_equal(completes_sent(w), 0);
    step(w, JSON({"do": "release"}));
    answers(raw, BJ_OK);
    step(w, JSON({"do": "finish", "job": "a"}));

    ends(pivoting, BJ_E_JOB_ENDED, BJ_OUTCOME_COPIED);
    assert_int_equal(completes_sent(w), 0);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_COPIED);
}

static void b33_a_refused_verb_of_the_program_lets_all_go(void **state)
{
    world *w = *state;
    trio t = make_ready_trio(w);
    step(w, JSON({"do": "answer", "command": "block-job-cancel",
                  "error": {"class": "GenericError", "desc": "not now"}}));
    step(w, JSON({"do": "hold", "command": "block-job-cancel"}));
    bj_future *raw = hold(w, bj_monitor_execute(w->monitor, "block-job-cancel",
                                                JSON({"device": "a"}), BJ_TIMEOUT_NONE));
    await_sent(w, "block-job-cancel");
    bj_future *pivoting = pivot(w, t.group);
    settle(w);
    assert_int_equal(completes_sent(w), 0);
    step(w, JSON({"do": "release"}));
    answers(raw, BJ_E_REFUSED);

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* --------------------------------------------------------------------- the aborts */

static void b08_abort_all(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    bj_future *pivoting = pivot(w, t.group);

    expect(w, bj_group_abort(t.group, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_COPIED);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_job_outcome(t.c), BJ_OUTCOME_CANCELLED);
    answers(pivoting, BJ_E_JOB_ENDED);
    expect(w, bj_group_abort(t.group, BJ_ABORT_FORCE, 1000), BJ_OK); /* B35 */
}

static void b37_async_abort_is_done_when_all_are_accepted(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    step(w, JSON({"do": "hold-end", "job": "a"}));
    step(w, JSON({"do": "hold-end", "job": "b"}));
    step(w, JSON({"do": "hold-end", "job": "c"}));

    expect_end(w, bj_group_abort(t.group, BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_NONE);
    bj_future *end = done(w, t.group);
    settle(w);
    assert_int_equal(bj_future_error(end), BJ_E_PENDING);
    step(w, JSON({"do": "finish", "job": "a"}));
    step(w, JSON({"do": "finish", "job": "b"}));
    step(w, JSON({"do": "finish", "job": "c"}));
    ends(end, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b13_abort_tells_of_one_that_stands_still_and_ends_the_others(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    expect(w, bj_job_pause(t.b, BJ_TIMEOUT_NONE), BJ_OK);

    bj_future *aborting = hold(w, bj_group_abort(t.group, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    answers(aborting, BJ_E_STALLED);
    decided_by(aborting, t.b);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_job_outcome(t.c), BJ_OUTCOME_CANCELLED);
    expect(w, bj_group_abort(t.group, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

/* ------------------------------------------------------------- losing, letting go */

static void b45_a_hang_up_answers_groups(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *ready = hold(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE));
    bj_future *end = done(w, t.group);
    bj_future *any = hold(w, bj_group_any(t.group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
    bj_future *pivoting = pivot(w, t.group);
    settle(w);
    step(w, JSON({"do": "hang-up"}));

    ends(ready, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(end, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(any, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(pivoting, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_group_abort(t.group, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_E_JOB_LOST);
}

static void lose_the_connection(world *w, bj_watch *watch)
{
    step(w, JSON({"do": "die"}));
    while (next_record(watch)->kind != BJ_RECORD_DISCONNECTED)
        continue;
}

/* Two of them are ready. */
static trio make_trio_that_reconnects(world *w, bj_watch **ret_watch)
{
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    *ret_watch = watch_monitor(w);
    trio t = make_trio(w);
    make_ready(w, t.a);
    make_ready(w, t.b);
    return t;
}

static void b45_a_group_waits_through_a_new_connection(void **state)
{
    world *w = *state;
    bj_watch *watch;
    trio t = make_trio_that_reconnects(w, &watch);
    bj_future *pivoting = pivot(w, t.group);
    bj_future *end = done(w, t.group);
    settle(w);
    lose_the_connection(w, watch);
    step(w, JSON({"do": "ready", "job": "c"}));
    assert_int_equal(bj_future_error(pivoting), BJ_E_PENDING);
    step(w, JSON({"do": "start", "jobs": "keep"}));

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(end, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 3);
}

static void b46_one_that_vanished_meanwhile_rolls_back(void **state)
{
    world *w = *state;
    bj_watch *watch;
    trio t = make_trio_that_reconnects(w, &watch);
    bj_future *pivoting = pivot(w, t.group);
    settle(w);
    lose_the_connection(w, watch);
    step(w, JSON({"do": "vanish", "job": "c"}));
    step(w, JSON({"do": "start", "jobs": "keep"}));

    ends(pivoting, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    decided_by(pivoting, t.c);
    assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_COPIED);
    assert_int_equal(bj_job_outcome(t.b), BJ_OUTCOME_COPIED);
    assert_int_equal(completes_sent(w), 0);
}

/* C115: the other caller, who would have found out, has left. */
static void c115_a_complete_in_doubt_holds_no_group(void **state)
{
    world *w = *state;
    bj_watch *watch;
    trio t = make_trio_that_reconnects(w, &watch);
    bj_future *pivoting = pivot(w, t.group);
    step(w, JSON({"do": "answer", "command": "job-complete",
                  "error": {"class": "GenericError", "desc": "it never got there"}}));
    step(w, JSON({"do": "hold", "command": "job-complete"}));
    bj_future *alone = hold(w, bj_job_pivot(t.a, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    await_sent(w, "job-complete");
    bj_future_cancel(alone);
    lose_the_connection(w, watch);
    step(w, JSON({"do": "start", "jobs": "keep"}));
    while (next_record(watch)->kind != BJ_RECORD_RECONNECTED)
        continue;
    settle(w);
    assert_int_equal(completes_sent(w), 1);
    step(w, JSON({"do": "ready", "job": "c"}));

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(completes_sent(w), 4);
}

/* C115: such a QEMU has no event for it. */
static void c115_another_clients_pause_rolls_back_on_old_qemus(void **state)
{
    static const char *const ages[] = {"1.3", "1.7", "2.3", "2.8", "2.12"};
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_POLL_MS, 5), BJ_OK);
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        be(w, ages[i]);
        trio t = make_old_trio(w);
        make_ready(w, t.a);
        make_ready(w, t.c);
        bj_future *pivoting = pivot(w, t.group);
        settle(w);
        step(w,
             JSON({"do": "execute", "command": "block-job-pause",
                      "arguments": {"device": "%s"}}),
                   bj_job_id(t.b));

        ends(pivoting, BJ_E_STALLED, BJ_OUTCOME_NONE);
        decided_by(pivoting, t.b);
        assert_int_equal(bj_job_outcome(t.a), BJ_OUTCOME_COPIED);
        assert_int_equal(bj_job_outcome(t.c), BJ_OUTCOME_COPIED);
        assert_int_equal(completes_sent(w), 0);
    }
}

static void b08_jobs_of_closed_monitors_count(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_future *pivoting = pivot(w, t.group);
    settle(w);
    bj_monitor_close(w->monitor);
    answers(pivoting, BJ_E_CLOSED);

    expect(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE), BJ_E_CLOSED);
    expect(w, bj_group_any(t.group, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_CLOSED);
}

static void b08_a_group_of_two_monitors(void **state)
{
    world *w = *state;
    bj_group *group = new_group(w);
    bj_job *here = fake_mirror_of(w, "here");
    make_ready(w, here);
    next_fake(w);
    bj_job *there = fake_mirror_of(w, "there");
    add(group, here);
    add(group, there);
    bj_future *pivoting = pivot(w, group);
    settle(w);
    step(w, JSON({"do": "hang-up"}));

    ends(pivoting, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    decided_by(pivoting, there);
    assert_int_equal(bj_job_outcome(here), BJ_OUTCOME_COPIED);
}

static void b71_letting_go_of_a_wait_takes_it_back(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    make_ready(w, t.b);
    bj_future_unref(bj_group_pivot(t.group, BJ_TIMEOUT_NONE));
    bj_future_unref(bj_group_done(t.group, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    make_ready(w, t.c);

    settle(w);
    assert_int_equal(completes_sent(w), 0);
}

static void let_go_of_group(bj_future *future, void *user)
{
    (void)future;
    bj_group_unref(user);
}

static void b71_the_last_references_go_in_the_callback(void **state)
{
    world *w = *state;
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    bj_job *job = fake_mirror_of(w, "a");
    add(group, job);
    tally t = TALLY_INIT;
    t.then = let_go_of_group;
    t.user = group;
    bj_future *end = bj_group_done(group, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_on_done(end, tally_closure(&t)), BJ_OK);
    bj_future_unref(end);
    out_of_space(w, job);

    tally_await(&t, 1, 1);
    assert_int_equal(t.error, BJ_E_JOB_FAILED);
}

static void b71_a_context_that_closes_answers_groups(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    make_ready(w, t.a);
    bj_future *pivoting = pivot(w, t.group);
    bj_future *end = done(w, t.group);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);

    answers(pivoting, BJ_E_CLOSED);
    answers(end, BJ_E_CLOSED);
    expect(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE), BJ_E_CLOSED);
    assert_int_equal(cancels_sent(w), 0);
}

/* ------------------------------------------------------------------------- misuse */

static void misuse_is_told(void **state)
{
    world *w = *state;
    bj_group *group = new_group(w);
    names(expect(w, bj_group_ready(group, BJ_TIMEOUT_NONE), BJ_E_INVAL), "empty");
    expect(w, bj_group_pivot(group, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    add(group, fake_mirror_of(w, "a"));

    names(expect(w, bj_group_ready(group, -3), BJ_E_INVAL), "-3");
    names(expect(w, bj_group_done(group, 2, BJ_TIMEOUT_NONE), BJ_E_INVAL), "0x2");
    names(expect(w, bj_group_any(group, 4, BJ_TIMEOUT_NONE), BJ_E_INVAL), "0x4");
    names(expect(w, bj_group_abort(group, 8, BJ_TIMEOUT_NONE), BJ_E_INVAL), "0x8");
    assert_int_equal(bj_group_add(group, NULL), BJ_E_INVAL);
    assert_int_equal(bj_group_new(w->ctx, NULL), BJ_E_INVAL);
}

static void a_job_of_another_context_is_refused(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror_of(w, "a");
    bj_ctx *other;
    bj_group *group;
    assert_int_equal(bj_ctx_new(&other), BJ_OK);
    assert_int_equal(bj_group_new(other, &group), BJ_OK);
    assert_int_equal(bj_group_add(group, job), BJ_E_INVAL);
    bj_group_unref(group);
    bj_ctx_unref(other);
}

static bool is_forked(bj_future *future)
{
    return bj_future_error(future) == BJ_E_FORKED;
}

static void b72_a_child_is_told_that_it_is_one(void **state)
{
    world *w = *state;
    trio t = make_trio(w);
    bj_group *group = t.group;
    bj_group *none = NULL;
    pid_t child = fork();
    if (child == 0) {
        bool told = bj_group_new(w->ctx, &none) == BJ_E_FORKED &&
                    bj_group_add(group, t.a) == BJ_E_FORKED &&
                    is_forked(bj_group_ready(group, BJ_TIMEOUT_NONE)) &&
                    is_forked(bj_group_done(group, 0, BJ_TIMEOUT_NONE)) &&
                    is_forked(bj_group_any(group, 0, BJ_TIMEOUT_NONE)) &&
                    is_forked(bj_group_pivot(group, BJ_TIMEOUT_NONE)) &&
                    is_forked(bj_group_abort(group, 0, BJ_TIMEOUT_NONE)) && !bj_group_unref(group);
        process_leave(told ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    expect(w, bj_group_abort(group, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b08_ready_when_all_are),
        FAKE_TEST(b09_ready_ends_with_the_first_that_will_not_be),
        FAKE_TEST(b08_done_when_all_are_over),
        FAKE_TEST(b08_one_outcome_for_all_is_told),
        FAKE_TEST(b13_done_is_told_of_a_standstill),
        FAKE_TEST(b08_any_is_the_first),
        FAKE_TEST(b08_any_may_be_a_failure),
        FAKE_TEST(b08_a_wait_is_on_the_jobs_of_its_moment),
        FAKE_TEST(b08_a_member_may_be_over_before),
        FAKE_TEST(b08_pivot_waits_for_the_last),
        FAKE_TEST(b08_pivot_of_what_is_ready),
        FAKE_TEST(b08_one_that_fails_before_rolls_the_others_back),
        FAKE_TEST(b08_the_answer_waits_until_all_are_rolled_back),
        FAKE_TEST(b16_one_cancelled_by_another_client_rolls_back),
        FAKE_TEST(b13_one_that_stands_still_rolls_back),
        FAKE_TEST(b13_others_that_stand_still_are_aborted_by_force),
        FAKE_TEST(b27_a_bounce_delays_all),
        FAKE_TEST(b08_one_without_a_pivot_is_refused_and_nothing_is_aborted),
        FAKE_TEST(b08_from_the_switch_on_each_goes_its_own_way),
        FAKE_TEST(b06_a_deadline_takes_all_pivots_back),
        FAKE_TEST(b07_a_cancelled_pivot_disturbs_no_other),
        FAKE_TEST(b32_a_group_and_a_caller_share_one_complete),
        FAKE_TEST(b33_another_callers_refusal_is_not_the_groups),
        FAKE_TEST(b33_a_refused_abort_of_another_caller_lets_all_go),
        FAKE_TEST(b34_none_is_pivoted_while_a_verb_of_the_program_is_under_way),
        FAKE_TEST(b33_a_refused_verb_of_the_program_lets_all_go),
        FAKE_TEST(b08_abort_all),
        FAKE_TEST(b37_async_abort_is_done_when_all_are_accepted),
        FAKE_TEST(b13_abort_tells_of_one_that_stands_still_and_ends_the_others),
        FAKE_TEST(b45_a_hang_up_answers_groups),
        FAKE_TEST(b45_a_group_waits_through_a_new_connection),
        FAKE_TEST(b46_one_that_vanished_meanwhile_rolls_back),
        FAKE_TEST(c115_a_complete_in_doubt_holds_no_group),
        FAKE_TEST(c115_another_clients_pause_rolls_back_on_old_qemus),
        FAKE_TEST(b08_jobs_of_closed_monitors_count),
        FAKE_TEST(b08_a_group_of_two_monitors),
        FAKE_TEST(b71_letting_go_of_a_wait_takes_it_back),
        FAKE_TEST(b71_the_last_references_go_in_the_callback),
        FAKE_TEST(b71_a_context_that_closes_answers_groups),
        FAKE_TEST(misuse_is_told),
        FAKE_TEST(a_job_of_another_context_is_refused),
        FAKE_TEST(b72_a_child_is_told_that_it_is_one),
    };
    return run_on_fake(tests);
}
