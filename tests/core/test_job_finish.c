/* SPDX-License-Identifier: MIT */
/*
 * The job machine: pivots that end with QEMU's consent, verbs that wait for the release as well,
 * and the one that finishes a job of any kind.
 */
#include "machine_fixture.h"

static seat *async_pivot(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_PIVOT, .flags = BJ_PIVOT_ASYNC});
}

static seat *released_pivot(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_PIVOT, .flags = BJ_PIVOT_RELEASED});
}

static seat *finish(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_FINISH});
}

static seat *released_finish(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_FINISH, .flags = BJ_FINISH_RELEASED});
}

static const struct machine_traits a_stream = {
    .never_ready = true,
    .has_status = true,
    .stall_ms = STALL_MS,
    .no_such_job_class = "DeviceNotActive",
};
static const struct machine_traits a_kept_stream = {
    .never_ready = true,
    .has_status = true,
    .kept = true,
    .stall_ms = STALL_MS,
    .no_such_job_class = "DeviceNotActive",
};

/* ------------------------------------------------------------ async pivots */

static void w09_an_async_pivot_ends_with_the_consent(void **state)
{
    fixture *m = *state;
    seat *async = async_pivot(m);
    seat *whole = pivot(m);
    feed(m, TO_READY);
    assert_said(m, "complete READY");
    assert_waiting(async);

    feed(m, "+complete");
    assert_answered(async, BJ_OK);
    assert_waiting(whole);
    assert_outcome(m, BJ_OUTCOME_NONE);
    feed(m, END_OK);
    assert_answered(whole, BJ_OK);
    assert_said(m, "ENDED RELEASED");
}

static void w09_what_qemu_has_accepted_already_is_answered_at_once(void **state)
{
    fixture *m = *state;
    pivot(m);
    feed(m, TO_READY " +complete ~waiting");
    assert_answered(async_pivot(m), BJ_OK);
    feed(m, "~pending PENDING");
    assert_answered(async_pivot(m), BJ_OK);
    feed(m, "COMPLETED ~concluded ~null");
    assert_answered(async_pivot(m), BJ_OK);
}

static void w09_a_refusal_is_told_to_an_async_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *async = async_pivot(m);
    feed(m, "-complete tick");
    assert_answered(async, BJ_E_REFUSED);
}

/* It has been refused, and it will not be taken again. */
static void w09_an_async_pivot_does_not_hang_when_another_client_has_pivoted(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *async = async_pivot(m);
    feed(m, "~waiting ~pending PENDING");
    assert_waiting(async); /* QEMU may have accepted */
    feed(m, "-complete");
    assert_answered(async, BJ_E_STALLED);
    feed(m, "COMPLETED switched ~concluded ~null");
}

static void w09_an_async_pivot_that_left_after_the_consent_withdraws_nothing(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *async = async_pivot(m);
    leave(m, async);
    assert_said(m, "READY complete");
    feed(m, "+complete " END_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void w09_an_async_pivot_that_leaves_before_ready_sends_nothing(void **state)
{
    fixture *m = *state;
    leave(m, async_pivot(m));
    feed(m, TO_READY);
    assert_said(m, "READY");
}

static void w09_a_job_that_ends_before_the_reply_answers_an_async_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *async = async_pivot(m);
    feed(m, "COMPLETED{error}");
    assert_answered(async, BJ_E_JOB_FAILED);
    feed(m, "-complete ~concluded ~null");
}

static void w09_an_async_pivot_and_an_abort(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *abort = abort_job(m, BJ_ABORT_SOFT);
    assert_answered(async_pivot(m), BJ_E_STATE);
    feed(m, "+cancel ~waiting ~pending COMPLETED unswitched ~concluded ~null");
    assert_answered(abort, BJ_OK);
}

/* --------------------------------------------------------------- released */

static void w09_a_pivot_waits_for_the_release(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *released = released_pivot(m);
    seat *plain = pivot(m);
    feed(m, "+complete ~waiting ~pending COMPLETED");
    assert_answered(plain, BJ_OK);
    assert_waiting(released);
    assert_waiting(released_pivot(m));
    feed(m, "~concluded ~null");
    assert_answered(released, BJ_OK);
    assert_answered(released_pivot(m), BJ_OK);
}

static void w09_its_error_comes_with_the_release(void **state)
{
    fixture *m = *state;
    seat *released = released_pivot(m);
    seat *abort = ask(m, (struct waiter){.question = ASK_ABORT, .flags = BJ_ABORT_RELEASED});
    feed(m, "+cancel ~aborting CANCELLED");
    assert_waiting(released);
    assert_waiting(abort);
    feed(m, "~concluded ~null");
    assert_answered(released, BJ_E_JOB_ENDED);
    assert_answered(abort, BJ_OK);
}

static void w09_nodes_that_are_kept_are_stalled(void **state)
{
    fixture *m = *state;
    become(m, a_kept_stream);
    feed(m, "~created ~running");
    seat *done = released_finish(m);
    seat *abort = ask(m, (struct waiter){.question = ASK_ABORT, .flags = BJ_ABORT_RELEASED});
    feed(m, "+cancel ~aborting CANCELLED ~concluded");
    assert_waiting(abort);
    feed(m, "tick");
    assert_answered(abort, BJ_E_STALLED);
    assert_answered(done, BJ_E_JOB_ENDED); /* which matters more */
}

/* Nobody wants the complete any more whose refusal was put off. */
static void w09_what_is_over_is_not_refused(void **state)
{
    fixture *m = *state;
    become(m, (struct machine_traits){.switches = true,
                                      .has_status = true,
                                      .stall_ms = STALL_MS,
                                      .no_such_job_class = "DeviceNotActive"});
    feed(m, TO_READY);
    seat *released = released_pivot(m);
    feed(m, "-complete ~aborting CANCELLED");
    assert_waiting(released);
    feed(m, "~concluded ~null");
    assert_answered(released, BJ_E_JOB_ENDED);
}

/* ----------------------------------------------------------------- finish */

static void w09_a_finish_pivots_what_becomes_ready(void **state)
{
    fixture *m = *state;
    seat *f = finish(m);
    seat *p = pivot(m);
    feed(m, TO_READY);
    assert_said(m, "complete READY");
    feed(m, "+complete " END_OK);
    assert_answered(f, BJ_OK);
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void w09_a_finish_waits_for_what_never_is_ready(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    seat *f = finish(m);
    feed(m, "~created ~running " END_OK);
    assert_answered(f, BJ_OK);
    assert_said(m, "ENDED RELEASED");
    assert_answered(finish(m), BJ_OK);
}

static void w09_a_copy_is_not_finished(void **state)
{
    fixture *m = *state;
    seat *f = finish(m);
    feed(m, "~created ~running");
    abort_job(m, BJ_ABORT_SOFT);
    assert_answered(finish(m), BJ_E_STATE);
    feed(m, "~ready READY +cancel ~waiting ~pending COMPLETED unswitched ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_COPIED);
    assert_answered(f, BJ_E_JOB_ENDED);
}

/* Another client has completed it, and nothing shows what that did. */
static void w09_an_unclear_end_is_not_finished(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *f = finish(m);
    leave(m, f);
    feed(m, "~ready READY ~waiting ~pending COMPLETED unseen ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    seat *late = finish(m);
    assert_answered(late, BJ_E_JOB_ENDED);
    assert_answered(done(m), BJ_OK);
}

static void w09_a_finish_is_told_what_keeps_a_job(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    seat *f = finish(m);
    feed(m, "~paused tick");
    assert_answered(f, BJ_E_STALLED);
    feed(m, "~running");
    f = finish(m);
    feed(m, "ERROR(stop)");
    assert_answered(f, BJ_E_STALLED);
    feed(m, "~running ~waiting ~pending PENDING");
    assert_answered(finish(m), BJ_E_STALLED);
    feed(m, "COMPLETED ~concluded ~null");
}

/* ------------------------------------------------------------------- LOST */

static void w09_what_ended_the_connection_is_the_cause(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    machine_lost(&m->machine, BJ_E_DISCONNECTED, "the connection ended");
    assert_int_equal(machine_error(&m->machine), BJ_E_JOB_LOST);
    assert_int_equal(machine_cause(&m->machine), BJ_E_DISCONNECTED);
    assert_answered(done(m), BJ_E_JOB_LOST);
}

static void w09_a_job_that_vanished_was_not_lost_by_the_connection(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running absent");
    assert_outcome(m, BJ_OUTCOME_LOST);
    machine_lost(&m->machine, BJ_E_DISCONNECTED, "the connection ended");
    assert_int_equal(machine_error(&m->machine), BJ_E_JOB_LOST);
    assert_int_equal(machine_cause(&m->machine), BJ_OK);
}

static void w09_a_close_is_no_cause(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    machine_lost(&m->machine, BJ_E_CLOSED, "closed");
    assert_int_equal(machine_error(&m->machine), BJ_E_CLOSED);
    assert_int_equal(machine_cause(&m->machine), BJ_OK);
}

#define MIRROR_TEST(name) cmocka_unit_test_setup_teardown(name, mirror_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIRROR_TEST(w09_an_async_pivot_ends_with_the_consent),
        MIRROR_TEST(w09_what_qemu_has_accepted_already_is_answered_at_once),
        MIRROR_TEST(w09_a_refusal_is_told_to_an_async_pivot),
        MIRROR_TEST(w09_an_async_pivot_does_not_hang_when_another_client_has_pivoted),
        MIRROR_TEST(w09_an_async_pivot_that_left_after_the_consent_withdraws_nothing),
        MIRROR_TEST(w09_an_async_pivot_that_leaves_before_ready_sends_nothing),
        MIRROR_TEST(w09_a_job_that_ends_before_the_reply_answers_an_async_pivot),
        MIRROR_TEST(w09_an_async_pivot_and_an_abort),
        MIRROR_TEST(w09_a_pivot_waits_for_the_release),
        MIRROR_TEST(w09_its_error_comes_with_the_release),
        MIRROR_TEST(w09_nodes_that_are_kept_are_stalled),
        MIRROR_TEST(w09_what_is_over_is_not_refused),
        MIRROR_TEST(w09_a_finish_pivots_what_becomes_ready),
        MIRROR_TEST(w09_a_finish_waits_for_what_never_is_ready),
        MIRROR_TEST(w09_a_copy_is_not_finished),
        MIRROR_TEST(w09_an_unclear_end_is_not_finished),
        MIRROR_TEST(w09_a_finish_is_told_what_keeps_a_job),
        MIRROR_TEST(w09_what_ended_the_connection_is_the_cause),
        MIRROR_TEST(w09_a_job_that_vanished_was_not_lost_by_the_connection),
        MIRROR_TEST(w09_a_close_is_no_cause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
