/* SPDX-License-Identifier: MIT */
/*
 * The job machine where what it knows may be over: stalls that another client has ended, and
 * refusals because another client is ending the job.
 */
#include "machine_fixture.h"

static const struct machine_traits an_old_mirror = {.switches = true, .stall_ms = STALL_MS};

static void old_row(fixture *m, bool paused)
{
    row_says(m, (struct row){.ready = true, .paused = paused});
}

/* Ready, and stopped by an error, on a QEMU where nothing reports that another client resumes it.
 */
static void stop_an_old_mirror(fixture *m)
{
    become(m, an_old_mirror);
    feed(m, "READY ERROR(stop)");
    forget_said(m);
}

/* Ready, and paused by us: it has not come to its standstill. */
static void pause_a_mirror(fixture *m)
{
    feed(m, TO_READY);
    verb(m, VERB_PAUSE);
    feed(m, "+pause");
    forget_said(m);
}

/* ------------------------------------------------------------- older stalls */

static void c116_an_older_stall_is_looked_at_again(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    seat *p = pivot(m);
    seat *d = done(m);
    assert_waiting(p);
    assert_waiting(d);
    assert_said(m, "query"); /* one for both */

    old_row(m, false);
    assert_waiting(p);
    assert_said(m, "query"); /* the first may be older than the stop */
    old_row(m, false);
    assert_said(m, "RESUMED complete");
    feed(m, "+complete COMPLETED");
    assert_answered(p, BJ_OK);
    assert_answered(d, BJ_OK);
}

static void c116_a_stall_that_is_confirmed_is_told(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    seat *p = pivot(m);
    seat *d = done(m);
    old_row(m, true);
    assert_answered(p, BJ_E_STALLED);
    assert_answered(d, BJ_E_STALLED);
    assert_string_equal(d->text, "a write error stopped it");
    assert_said(m, "query");
}

static void c116_rows_that_differ_confirm(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    old_row(m, false);
    old_row(m, true);
    assert_answered(a, BJ_E_STALLED);
    assert_said(m, "query query");
}

static void c116_a_stop_that_is_news_is_told_at_once(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    seat *p = pivot(m);
    feed(m, "ERROR(stop)"); /* somebody has resumed it, and it has stopped again */
    assert_answered(p, BJ_E_STALLED);
}

/* Resumed by another client before it had come to its standstill: no status reports that. */
static void c116_a_pause_that_never_stopped_it_is_looked_at_again(void **state)
{
    fixture *m = *state;
    pause_a_mirror(m);
    seat *p = pivot(m);
    assert_waiting(p);
    assert_said(m, "query");
    feed(m, "=ready");
    assert_said(m, "RESUMED complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void c116_a_pause_that_will_stop_it_is_told(void **state)
{
    fixture *m = *state;
    pause_a_mirror(m);
    seat *p = pivot(m);
    row_says(m, (struct row){.status = STATUS_READY, .ready = true, .paused = true});
    assert_answered(p, BJ_E_STALLED);
    assert_said(m, "query");
}

static void c116_a_list_is_older_than_a_standstill_that_came_since(void **state)
{
    fixture *m = *state;
    pause_a_mirror(m);
    seat *p = pivot(m);
    feed(m, "~standby =ready");
    assert_answered(p, BJ_E_STALLED);
}

static void c116_a_standstill_that_events_report_needs_no_list(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ERROR(stop) ~standby");
    forget_said(m);
    assert_answered(pivot(m), BJ_E_STALLED);
    assert_said(m, "");
}

static void c116_a_list_that_does_not_tell_confirms(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    seat *p = pivot(m);
    row_says(m, (struct row){.ready = true, .hides_pause = true});
    assert_answered(p, BJ_E_STALLED);
}

static void c116_a_list_that_fails_confirms(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    seat *p = pivot(m);
    machine_list_failed(&m->machine);
    assert_answered(p, BJ_E_STALLED);
    assert_outcome(m, BJ_OUTCOME_NONE);
}

static void c116_the_list_of_a_new_connection_decides(void **state)
{
    fixture *m = *state;
    stop_an_old_mirror(m);
    feed(m, "disconnected");
    seat *p = pivot(m);
    assert_waiting(p);
    assert_said(m, "");
    found_says(m, (struct row){.ready = true});
    old_row(m, false);
    assert_said(m, "query RESUMED complete");
    feed(m, "+complete COMPLETED");
    assert_answered(p, BJ_OK);
}

/* -------------------------------------------- another client ends the job */

static void refuse_as_ending(fixture *m, enum verb v)
{
    reply_with(m, v,
               &(struct verb_reply){
                   .verdict = VERDICT_ENDING,
                   .error = BJ_E_REFUSED,
                   .error_class = "55",
                   .text = "it is still being ended",
               });
    fixture_check(m);
}

static void c31_a_refused_pivot_learns_how_another_client_ends_the_job(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "-complete");
    assert_waiting(p);
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "~aborting CANCELLED ~concluded ~null");
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_said(m, "READY complete ENDED RELEASED");
    assert_int_equal(m->stall_timer, 0);
}

static void c31_a_refused_pivot_of_a_job_that_goes_on_is_refused(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "-complete");
    seat *other = pivot(m);
    assert_waiting(p);
    feed(m, "tick");
    assert_said(m, "READY complete");
    assert_answered(other, BJ_E_REFUSED);
    assert_answered(p, BJ_E_REFUSED);
    assert_string_equal(p->text, "QEMU said no");
    assert_string_equal(p->error_class, "GenericError");
    assert_int_equal(m->stall_timer, 0);

    seat *next = pivot(m); /* has its own time */
    feed(m, "-complete");
    assert_waiting(next);
}

static void c31_a_refusal_is_not_waited_for_by_who_comes_after_all_have_left(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "-complete");
    leave(m, p);
    assert_int_equal(m->stall_timer, 0);
    forget_said(m);
    pivot(m);
    assert_said(m, "complete");
}

static void c31_a_complete_that_could_not_be_sent_is_told_at_once(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    reply_with(m, VERB_COMPLETE, &(struct verb_reply){.error = BJ_E_UNSUPPORTED, .text = "no"});
    assert_answered(p, BJ_E_UNSUPPORTED);
}

/* libvirt says so (C30), as long as it lasts. */
static void c30_a_verb_waits_for_what_another_client_ends(void **state)
{
    static const struct {
        enum verb verb;
        const char *sent;
    } cases[] = {{VERB_COMPLETE, "complete"}, {VERB_CANCEL, "cancel"}, {VERB_FORCE, "force"}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fixture *m = fixture_new(a_mirror);
        feed(m, TO_READY);
        forget_said(m);
        seat *s = i == 0   ? pivot(m)
                  : i == 1 ? abort_job(m, BJ_ABORT_SOFT)
                           : abort_job(m, BJ_ABORT_FORCE);
        for (int turn = 0; turn < 40; turn++) {
            assert_said(m, cases[i].sent);
            refuse_as_ending(m, cases[i].verb);
            assert_waiting(s);
            assert_said(m, "");
            feed(m, "tick");
        }
        feed(m, END_OK);
        refuse_verb(m, cases[i].verb, true);
        feed(m, "switched");
        assert_answered(s, BJ_OK);
        fixture_free(m);
    }
}

static void c30_an_end_that_fails_leaves_the_job_to_others(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    refuse_as_ending(m, VERB_COMPLETE);
    feed(m, "tick +complete " END_OK);
    assert_answered(p, BJ_OK);
}

#define on_a_mirror(test) cmocka_unit_test_setup_teardown(test, mirror_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_a_mirror(c116_an_older_stall_is_looked_at_again),
        on_a_mirror(c116_a_stall_that_is_confirmed_is_told),
        on_a_mirror(c116_rows_that_differ_confirm),
        on_a_mirror(c116_a_stop_that_is_news_is_told_at_once),
        on_a_mirror(c116_a_pause_that_never_stopped_it_is_looked_at_again),
        on_a_mirror(c116_a_pause_that_will_stop_it_is_told),
        on_a_mirror(c116_a_list_is_older_than_a_standstill_that_came_since),
        on_a_mirror(c116_a_standstill_that_events_report_needs_no_list),
        on_a_mirror(c116_a_list_that_does_not_tell_confirms),
        on_a_mirror(c116_a_list_that_fails_confirms),
        on_a_mirror(c116_the_list_of_a_new_connection_decides),
        on_a_mirror(c31_a_refused_pivot_learns_how_another_client_ends_the_job),
        on_a_mirror(c31_a_refused_pivot_of_a_job_that_goes_on_is_refused),
        on_a_mirror(c31_a_refusal_is_not_waited_for_by_who_comes_after_all_have_left),
        on_a_mirror(c31_a_complete_that_could_not_be_sent_is_told_at_once),
        on_a_mirror(c30_a_verb_waits_for_what_another_client_ends),
        on_a_mirror(c30_an_end_that_fails_leaves_the_job_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
