/* SPDX-License-Identifier: MIT */
/*
 * The job machine: each rule of the contract, each order of facts that was seen to matter.
 */
#include "machine_fixture.h"

static const struct machine_traits a_commit = {
    .is_commit = true, .has_graph = true, .has_status = true, .stall_ms = STALL_MS};
static const struct machine_traits a_stream = {
    .never_ready = true, .has_status = true, .stall_ms = STALL_MS};
static const struct machine_traits our_mirror = {
    .switches = true, .ours = true, .has_status = true, .stall_ms = STALL_MS};
static const struct machine_traits an_old_mirror = {.switches = true, .stall_ms = STALL_MS};
static const struct machine_traits our_old_mirror = {
    .switches = true, .ours = true, .stall_ms = STALL_MS};

/* ------------------------------------------------------------------ waiting */

static void b02_completed_may_come_before_the_reply_of_complete(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);

    feed(m, "~waiting ~pending COMPLETED ~concluded ~null");
    assert_waiting(p);
    assert_outcome(m, BJ_OUTCOME_NONE);
    feed(m, "+complete");

    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
    assert_said(m, "READY complete query ENDED RELEASED");
}

static void b02_completed_may_come_before_the_reply_of_cancel(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);

    feed(m, END_OK);
    assert_waiting(a);
    feed(m, "+cancel unswitched");

    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void b02_cancelled_may_come_before_the_reply_of_cancel(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *a = abort_job(m, BJ_ABORT_SOFT);

    feed(m, END_CANCELLED);
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    feed(m, "+cancel");
    assert_said(m, "cancel ENDED RELEASED");
}

static void b02_completed_may_come_before_the_reply_of_finalize(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting ~pending PENDING");
    seat *f = verb(m, VERB_FINALIZE);

    feed(m, "COMPLETED ~concluded");
    assert_answered(f, BJ_OK);
    feed(m, "+finalize ~null");
    assert_said(m, "finalize ENDED RELEASED");
}

static void b03_late_waiters_get_the_stored_outcome(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~aborting COMPLETED{error} ~concluded ~null");

    seat *d = done(m);
    assert_answered(d, BJ_E_JOB_FAILED);
    assert_string_equal(d->text, NO_SPACE);
    assert_answered(released(m), BJ_E_JOB_FAILED);
    assert_answered(ready(m), BJ_E_JOB_FAILED);
    assert_answered(pivot(m), BJ_E_JOB_FAILED);
    assert_answered(abort_job(m, BJ_ABORT_SOFT), BJ_OK);
    assert_said(m, "ENDED RELEASED");
}

static void b04_what_is_ready_is_answered_at_once(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    assert_answered(ready(m), BJ_OK);
}

static void b04_ready_once_is_ready_after_the_end(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force ~aborting CANCELLED ~concluded ~null");
    assert_answered(ready(m), BJ_OK);
}

static void b05_one_who_leaves_disturbs_no_other(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *readies[] = {ready(m), ready(m), ready(m)};
    seat *dones[] = {done(m), done(m), done(m)};
    leave(m, readies[1]);
    leave(m, dones[0]);
    leave(m, dones[2]);

    feed(m, "~ready READY");
    assert_answered(readies[0], BJ_OK);
    assert_answered(readies[2], BJ_OK);
    feed(m, END_CANCELLED);
    assert_answered(dones[1], BJ_OK);
    assert_int_equal(readies[1]->answers + dones[0]->answers + dones[2]->answers, 0);
}

static void b07_leaving_never_sends_a_thing(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    forget_said(m);
    seat *s[] = {done(m), released(m), pivot(m)};
    feed(m, "+complete");
    for (int i = 0; i < 3; i++)
        leave(m, s[i]);
    assert_said(m, "complete");
    assert_int_equal(m->machine.sent[VERB_COMPLETE].state, ACCEPTED);
}

static void b09_ready_ends_with_the_job(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *r = ready(m);
    feed(m, END_CANCELLED);
    assert_answered(r, BJ_E_JOB_ENDED);
    assert_answered(ready(m), BJ_E_JOB_ENDED);
}

static void b09_a_kind_that_is_never_ready_says_so_at_once(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    assert_answered(ready(m), BJ_E_STATE);
    assert_answered(pivot(m), BJ_E_STATE);
    assert_said(m, "");
}

/* It does not wait for ready to hear it. */
static void w08_a_connection_that_takes_no_verb_refuses_a_pivot_at_once(void **state)
{
    static const struct denial denial = {.error_class = "29", .text = "it is read only"};
    fixture *m = *state;
    machine_learn(&m->machine)->denial = &denial;
    feed(m, "~created ~running");
    seat *s = pivot(m);
    assert_answered(s, BJ_E_REFUSED);
    assert_string_equal(s->error_class, "29");
    assert_string_equal(s->text, "it is read only");
    feed(m, "~ready READY");
    assert_answered(pivot(m), BJ_E_REFUSED);
    assert_said(m, "READY");
}

/* -------------------------------------------------------------------- truth */

static void b10_gone_is_not_success(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *d = done(m);
    feed(m, "absent");
    assert_answered(d, BJ_E_JOB_LOST);
    assert_outcome(m, BJ_OUTCOME_LOST);
    assert_said(m, "READY ENDED RELEASED");
}

static void b10_null_without_an_end_is_not_success(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *d = done(m);
    feed(m, "~null");
    assert_answered(d, BJ_E_JOB_LOST);
}

static void b11_completed_with_an_error_is_a_failure(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    seat *d = done(m);
    feed(m, "+complete ~waiting ~aborting COMPLETED{error} ~concluded ~null");
    assert_answered(p, BJ_E_JOB_FAILED);
    assert_answered(d, BJ_E_JOB_FAILED);
    assert_string_equal(d->text, NO_SPACE);
    assert_outcome(m, BJ_OUTCOME_FAILED);
}

static void b11_an_empty_error_is_a_failure_too(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    machine_completed_event(&m->machine, "");
    assert_outcome(m, BJ_OUTCOME_FAILED);
}

static void b12_an_error_that_stops_is_not_the_end(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    assert_outcome(m, BJ_OUTCOME_NONE);
    feed(m, "~running ~ready READY");
    seat *p = pivot(m);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_said(m, "STALLED RESUMED READY complete ENDED RELEASED");
}

static void b13_all_who_wait_are_told_of_a_stop_by_an_error(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *s[] = {ready(m), done(m), released(m), pivot(m)};
    feed(m, "ERROR(stop)");
    for (int i = 0; i < 4; i++) {
        assert_answered(s[i], BJ_E_STALLED);
        assert_string_equal(s[i]->text, "a write error stopped it");
    }
    feed(m, "~paused");
    assert_said(m, "STALLED");
}

static void b13_who_asks_after_the_stop_is_told_at_once(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    assert_answered(ready(m), BJ_E_STALLED);
    assert_answered(done(m), BJ_E_STALLED);
    assert_answered(pivot(m), BJ_E_STALLED);
    seat *soft = abort_job(m, BJ_ABORT_SOFT);
    assert_answered(soft, BJ_E_STALLED);
    assert_string_equal(soft->text, "a write error stopped it");
    assert_said(m, "STALLED");
}

static void b13_force_works_on_a_stalled_job(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force ~running ~aborting CANCELLED ~concluded ~null");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    assert_said(m, "STALLED force RESUMED ENDED RELEASED");
}

static void b13_what_is_over_stands_still_no_more(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force CANCELLED");
    assert_int_equal(m->machine.stall, STALL_NONE);

    machine_clear(&m->machine);
    become(m, a_mirror);
    m->outcome = BJ_OUTCOME_NONE;
    feed(m, TO_READY " ~standby");
    pivot(m);
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "CANCELLED");
    assert_int_equal(m->stall_timer, 0);
}

static void b13_the_same_stop_twice_is_told_once(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ERROR(stop) ~paused ERROR(stop)");
    assert_said(m, "STALLED");
}

static void b13_a_stop_needs_no_timer(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *p = pivot(m);
    feed(m, "~paused");
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "ERROR(stop)");
    assert_int_equal(m->stall_timer, 0);
    assert_answered(p, BJ_E_STALLED);
}

static void b13_nor_does_a_standstill_whose_pivot_has_left(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~paused");
    seat *p = pivot(m);
    assert_int_equal(m->stall_timer, STALL_MS);
    leave(m, p);
    assert_int_equal(m->stall_timer, 0);
}

static void b13_more_pivots_do_not_put_off_the_timer(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~paused");
    pivot(m);
    m->stall_timer = 1; /* nearly over */
    pivot(m);
    assert_int_equal(m->stall_timer, 1);
}

static void b13_done_waits_for_the_end_of_a_stalled_job_that_is_being_aborted(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    seat *a = abort_job(m, BJ_ABORT_FORCE | BJ_ABORT_ASYNC);
    feed(m, "+force");
    assert_answered(a, BJ_OK);

    seat *d = done(m);
    assert_waiting(d);
    feed(m, "~running ~aborting CANCELLED ~concluded ~null");
    assert_answered(d, BJ_OK);
}

static void b13_a_soft_abort_of_a_copy_that_stops_is_told(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    seat *d = done(m);
    feed(m, "+cancel ERROR(stop) ~standby");
    assert_answered(a, BJ_E_STALLED); /* the copy is not finished, and stays so until a resume */
    assert_answered(d, BJ_E_STALLED);
    feed(m, "~ready " END_OK " unswitched");
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void b13_a_soft_abort_of_a_copy_that_is_paused_is_told(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~standby tick");
    assert_answered(a, BJ_E_STALLED);
}

static void c32_an_async_abort_is_done_when_qemu_has_accepted(void **state)
{
    (void)state;
    static const struct {
        int flags;
        const char *reply;
    } cases[] = {
        {BJ_ABORT_SOFT | BJ_ABORT_ASYNC, "+cancel"},
        {BJ_ABORT_FORCE | BJ_ABORT_ASYNC, "+force"},
    };
    for (size_t i = 0; i < 2; i++) {
        fixture *m = fixture_new(a_mirror);
        feed(m, TO_READY);
        seat *a = abort_job(m, cases[i].flags);
        feed(m, "ERROR(stop) ~standby");
        assert_waiting(a);
        feed(m, cases[i].reply);
        assert_answered(a, BJ_OK);
        fixture_free(m);
    }
}

static void c32_an_async_abort_that_is_refused_while_paused_is_told(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC);
    feed(m, "ERROR(stop) ~standby -cancel");
    assert_answered(a, BJ_E_STALLED);
}

static void b13_resume_works_on_a_stalled_job(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ERROR(stop) ~standby");
    seat *r = verb(m, VERB_RESUME);
    feed(m, "+resume ~ready");
    assert_answered(r, BJ_OK);
    seat *p = pivot(m);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_said(m, "READY STALLED resume RESUMED complete ENDED RELEASED");
}

static void b13_a_second_error_before_the_reply_of_resume_counts(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    verb(m, VERB_RESUME);
    feed(m, "~running ERROR(stop) ~paused +resume");
    assert_answered(done(m), BJ_E_STALLED);
    assert_said(m, "STALLED resume RESUMED STALLED");
}

static void b13_our_own_pause_is_told_to_pivots_at_once(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *p = pivot(m);
    seat *r = ready(m);
    seat *d = done(m);
    seat *pause = verb(m, VERB_PAUSE);
    feed(m, "~paused +pause");

    assert_answered(pause, BJ_OK);
    assert_answered(p, BJ_E_STALLED);
    assert_waiting(r); /* whoever paused it will resume it */
    assert_waiting(d);
    assert_answered(pivot(m), BJ_E_STALLED);
    assert_answered(abort_job(m, BJ_ABORT_SOFT), BJ_E_STALLED);
    assert_said(m, "pause STALLED");

    feed(m, "~running ~ready READY");
    assert_answered(r, BJ_OK);
    assert_said(m, "RESUMED READY");
}

static void b13_a_pause_by_another_client_is_a_stall_when_it_lasts(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~standby");
    seat *p = pivot(m);
    assert_waiting(p);
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "tick");
    assert_answered(p, BJ_E_STALLED);
    assert_said(m, "READY STALLED");
}

static void b13_a_complete_that_waits_for_a_resume_is_told(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "~standby +complete");
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "tick");
    assert_answered(p, BJ_E_STALLED);
    feed(m, "~ready " END_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b13_a_stop_by_an_error_is_not_talked_down_to_a_pause(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    escalate(m, 500);
    feed(m, "ERROR(stop) ~paused -cancel");
    seat *d = done(m);
    assert_answered(d, BJ_E_STALLED);
    assert_string_equal(d->text, "a write error stopped it");
    assert_said(m, "cancel STALLED");
}

static void b13_pausing_a_stopped_job_leaves_it_stopped(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    verb(m, VERB_PAUSE);
    feed(m, "+pause");
    assert_answered(done(m), BJ_E_STALLED);
}

static void b13_a_short_standstill_is_none(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "~standby ~ready");
    assert_int_equal(m->stall_timer, 0);
    feed(m, "+complete ~standby ~ready " END_OK);
    assert_answered(p, BJ_OK);
    assert_said(m, "READY complete ENDED RELEASED");
}

static void b13_a_standstill_that_hurts_nobody_sets_no_timer(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    ready(m);
    done(m);
    feed(m, "~paused");
    assert_int_equal(m->stall_timer, 0);
}

static void b13_a_timer_that_comes_late_says_nothing(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~paused");
    seat *p = pivot(m);
    feed(m, "~running tick");
    assert_waiting(p);
    assert_said(m, "");
}

static void b13_a_soft_cancel_refused_while_paused_is_a_stall(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~paused");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "-cancel");
    assert_answered(a, BJ_E_STALLED);
}

static void b14_soft_cancel_of_a_ready_mirror_is_a_copy(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    seat *d = done(m);
    feed(m, "+cancel " END_OK " unswitched");
    assert_answered(a, BJ_OK);
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void b14_complete_of_a_ready_mirror_is_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b14_an_active_commit_pivots(void **state)
{
    fixture *m = *state;
    become(m, a_commit);
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b14_an_intermediate_commit_just_completes(void **state)
{
    fixture *m = *state;
    become(m, a_commit);
    seat *p = pivot(m);
    seat *d = done(m);
    feed(m, "~created ~running " END_OK);
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_said(m, "ENDED RELEASED");
}

static void b15_another_clients_verb_is_looked_up_in_the_graph(void **state)
{
    static const struct {
        enum disk_switch graph;
        bj_outcome outcome;
    } cases[] = {
        {SWITCHED, BJ_OUTCOME_PIVOTED},
        {NOT_SWITCHED, BJ_OUTCOME_COPIED},
        {SWITCH_UNKNOWN, BJ_OUTCOME_COMPLETED},
    };
    fixture *m = *state;
    for (int i = 0; i < 3; i++) {
        machine_clear(&m->machine);
        become(m, a_mirror);
        m->outcome = BJ_OUTCOME_NONE;
        forget_said(m);
        feed(m, TO_READY);
        seat *d = done(m);
        feed(m, END_OK);
        assert_waiting(d);
        assert_said(m, "READY graph");
        graph_says(m, cases[i].graph);
        assert_answered(d, BJ_OK);
        assert_outcome(m, cases[i].outcome);
        assert_said(m, "ENDED RELEASED");
    }
    assert_true(*text_str(m->machine.text)); /* the last one says that it can't be told */
}

static void b15_a_complete_refused_because_another_came_first_asks_the_graph(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, END_OK " !complete");
    assert_said(m, "READY complete query graph");
    assert_waiting(p);
    graph_says(m, SWITCHED);
    assert_answered(p, BJ_OK);
}

static void b15_the_graph_is_asked_once(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    verb(m, VERB_SET_SPEED);
    verb(m, VERB_PAUSE);
    feed(m, END_OK " -speed -pause READY");
    assert_said(m, "READY speed pause graph");
}

static void b16_cancelled_by_another_is_an_outcome(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *s[] = {done(m), pivot(m)};
    feed(m, "~aborting CANCELLED ~concluded ~null !complete");
    assert_answered(s[0], BJ_OK);
    assert_answered(s[1], BJ_E_JOB_ENDED);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b17_a_cancel_that_comes_too_late_tells_the_truth(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, END_OK " !cancel");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b17_force_after_complete_pivots_on_5_2(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete");
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force " END_OK);
    assert_answered(p, BJ_OK);
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b17_force_after_complete_cancels_from_7_2_on(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete");
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force " END_CANCELLED);
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b17_an_accepted_force_and_completed_is_a_copy(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force " END_OK " unswitched");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void b17_a_create_job_cancelled_too_late_has_completed(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~waiting ~pending ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b18_the_first_terminal_event_wins(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting ~pending COMPLETED CANCELLED COMPLETED{error} ~concluded "
            "~null ~running READY CANCELLED =concluded absent");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_answered(done(m), BJ_OK);
    assert_said(m, "ENDED RELEASED");
}

static void b18_also_while_its_meaning_is_not_known_yet(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "COMPLETED CANCELLED COMPLETED{error} +complete");
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b18_lost_comes_too_late_to_change_an_outcome(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running COMPLETED");
    machine_lost(&m->machine, BJ_E_JOB_LOST, "the connection ended");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b21_a_concluded_row_says_how_it_ended(void **state)
{
    static const struct {
        const char *error;
        bj_outcome outcome;
        int answer;
    } cases[] = {
        {NULL, BJ_OUTCOME_COMPLETED, BJ_OK},
        {"Operation canceled", BJ_OUTCOME_CANCELLED, BJ_OK},
        {NO_SPACE, BJ_OUTCOME_FAILED, BJ_E_JOB_FAILED},
    };
    fixture *m = *state;
    for (int i = 0; i < 3; i++) {
        machine_clear(&m->machine);
        become(m, a_stream);
        m->outcome = BJ_OUTCOME_NONE;
        row_says(m, (struct row){
                        .status = STATUS_CONCLUDED,
                        .error = cases[i].error,
                        .cancelled = cases[i].outcome == BJ_OUTCOME_CANCELLED,
                    });
        assert_outcome(m, cases[i].outcome);
        seat *d = done(m);
        assert_answered(d, cases[i].answer);
    }
}

static void b21_a_job_without_block_events_is_asked_for_when_it_concludes(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    seat *d = done(m);
    feed(m, "~created ~running ~waiting ~pending ~concluded");
    assert_said(m, "query");
    assert_waiting(d);
    feed(m, "=concluded");
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b21_an_aborted_transaction_is_a_failure(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    seat *d = done(m);
    feed(m, "~created ~aborting ~concluded ~null absent");
    assert_answered(d, BJ_E_JOB_FAILED);
    assert_said(m, "query ENDED RELEASED");
}

static void b21_statuses_tell_the_end_of_a_job_that_left_too_early(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting ~pending ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b21_a_job_that_we_aborted_and_that_left_too_early_is_cancelled(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force ~aborting ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b21_also_if_it_was_not_even_seen_aborting(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~null");
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b22_released_waits_for_null(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    seat *d = done(m);
    seat *r = released(m);
    feed(m, "~created ~running ~waiting ~pending COMPLETED");
    assert_answered(d, BJ_OK);
    feed(m, "~concluded");
    assert_waiting(r);
    seat *later = released(m);
    feed(m, "~null");
    assert_answered(r, BJ_OK);
    assert_answered(later, BJ_OK);
    assert_answered(released(m), BJ_OK);
}

static void b22_before_3_0_the_terminal_event_is_the_last(void **state)
{
    fixture *m = *state;
    become(m, an_old_mirror);
    seat *r = released(m);
    feed(m, "READY CANCELLED");
    assert_answered(r, BJ_OK);
    assert_said(m, "READY ENDED RELEASED");
}

static void b22_what_is_listed_no_more_is_released(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    seat *r = released(m);
    feed(m, "~created ~running COMPLETED absent");
    assert_answered(r, BJ_OK);
    assert_said(m, "ENDED RELEASED");
}

/* Somebody else's, with auto-dismiss off. */
static const struct machine_traits a_kept_mirror = {
    .switches = true, .kept = true, .has_status = true, .stall_ms = STALL_MS};
static const struct machine_traits a_kept_stream = {
    .never_ready = true, .kept = true, .has_status = true, .stall_ms = STALL_MS};

static void c121_a_mirror_that_stays_concluded_has_let_go_of_its_nodes(void **state)
{
    fixture *m = *state;
    become(m, a_kept_mirror);
    feed(m, TO_READY);
    pivot(m);
    seat *r = released(m);
    feed(m, "+complete ~waiting ~pending COMPLETED");
    assert_waiting(r);
    feed(m, "~concluded");
    assert_answered(r, BJ_OK);
    assert_answered(released(m), BJ_OK);
    assert_said(m, "READY complete ENDED"); /* its id is still taken */
}

static void c121_a_stream_keeps_its_nodes_until_it_is_dismissed(void **state)
{
    fixture *m = *state;
    become(m, a_kept_stream);
    seat *r = released(m);
    feed(m, "~created ~running ~waiting ~pending COMPLETED ~concluded");
    assert_waiting(r); /* whoever keeps it may be about to dismiss it */
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "tick");
    assert_answered(r, BJ_E_STALLED);
    assert_non_null(strstr(r->text, "dismiss"));
    assert_int_equal(m->stall_timer, 0);

    seat *later = released(m);
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "~null");
    assert_answered(later, BJ_OK);
    assert_int_equal(m->stall_timer, 0);
}

static void c121_a_failure_that_is_kept_is_a_failure(void **state)
{
    fixture *m = *state;
    become(m, a_kept_stream);
    seat *r = released(m);
    feed(m, "~created ~running ~aborting COMPLETED{error} ~concluded tick");
    assert_answered(r, BJ_E_JOB_FAILED);
}

static void c121_what_is_found_concluded_is_kept(void **state)
{
    fixture *m = *state;
    become(m, a_kept_stream);
    row_says(m, (struct row){.status = STATUS_CONCLUDED});
    seat *r = released(m);
    feed(m, "tick");
    assert_answered(r, BJ_E_STALLED);
}

static void c121_what_we_dismiss_is_released_then(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    seat *r = released(m);
    feed(m, TO_READY " ~aborting CANCELLED ~concluded");
    assert_int_equal(m->stall_timer, 0);
    feed(m, "+dismiss");
    assert_waiting(r);
    feed(m, "~null");
    assert_answered(r, BJ_OK);
}

static void b22_not_before_the_outcome_is_known(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "COMPLETED absent");
    assert_waiting(p);
    assert_said(m, "READY complete");
    feed(m, "+complete");
    assert_answered(p, BJ_OK);
}

/* -------------------------------------------------------------------- ready */

static void b23_running_is_not_ready(void **state)
{
    fixture *m = *state;
    seat *r = ready(m);
    seat *p = pivot(m);
    feed(m, "~created ~running =running ~paused ~running");
    assert_waiting(r);
    assert_waiting(p);
    assert_said(m, "");
}

static void b24_a_row_that_says_ready_is_ready(void **state)
{
    fixture *m = *state;
    seat *r = ready(m);
    row_says(m, (struct row){.status = STATUS_RUNNING, .ready = true});
    assert_answered(r, BJ_OK);
}

static void b27_ready_comes_once(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~standby ~ready READY ~ready ~standby ~ready READY =ready");
    assert_said(m, "READY");
}

static void b27_either_the_status_or_the_event_is_ready(void **state)
{
    fixture *m = *state;
    seat *r = ready(m);
    feed(m, "~created ~running ~ready");
    assert_answered(r, BJ_OK);
    feed(m, "READY");
    assert_said(m, "READY");

    machine_clear(&m->machine);
    become(m, an_old_mirror);
    r = ready(m);
    feed(m, "READY READY");
    assert_answered(r, BJ_OK);
    assert_said(m, "READY");
}

static void b28_a_row_never_overrules_an_event(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " =running");
    assert_true(machine_is(&m->machine, IS_READY));
    assert_answered(ready(m), BJ_OK);
    seat *p = pivot(m);
    feed(m, "=running +complete =running " END_OK " =running");
    assert_answered(p, BJ_OK);
    assert_said(m, "READY complete ENDED RELEASED");
}

static void b28_an_old_row_does_not_stall_a_job_that_goes_on(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    row_says(m, (struct row){.status = STATUS_PAUSED, .io_error = true});
    assert_said(m, "");
    assert_waiting(done(m));
}

/* -------------------------------------------------------------------- verbs */

static void b31_pivot_waits_for_ready_and_sends_nothing_before(void **state)
{
    fixture *m = *state;
    seat *p = pivot(m);
    feed(m, "~created ~running");
    assert_said(m, "");
    feed(m, "~ready READY");
    assert_said(m, "complete READY"); /* first of all: the pivot waits for nobody */
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b31_by_flag_it_fails_instead_of_waiting(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    assert_answered(pivot_if_ready(m), BJ_E_NOT_READY);
    feed(m, "~ready READY");
    assert_said(m, "READY");
    seat *p = pivot_if_ready(m);
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b31_a_pivot_that_nobody_waits_for_is_withdrawn(void **state)
{
    fixture *m = *state;
    seat *p[] = {pivot(m), pivot(m)};
    leave(m, p[0]);
    leave(m, p[1]);
    feed(m, TO_READY);
    assert_said(m, "READY");
}

static void b31_a_pivot_that_someone_still_waits_for_is_not(void **state)
{
    fixture *m = *state;
    seat *p[] = {pivot(m), pivot(m)};
    leave(m, p[0]);
    feed(m, TO_READY);
    assert_said(m, "complete READY");
    assert_waiting(p[1]);
}

static void b31_no_complete_for_a_job_that_is_ending(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~waiting");
    seat *p = pivot(m);
    feed(m, "ERROR(stop)");
    assert_said(m, "READY"); /* another client's verb decides */
    feed(m, "~pending COMPLETED ~concluded ~null");
    graph_says(m, SWITCHED);
    assert_answered(p, BJ_OK);
    assert_said(m, "graph ENDED RELEASED");
}

static void b32_concurrent_pivots_share_one_complete(void **state)
{
    fixture *m = *state;
    seat *p[4];
    p[0] = pivot(m);
    p[1] = pivot(m);
    feed(m, TO_READY);
    p[2] = pivot(m);
    feed(m, "+complete");
    p[3] = pivot(m);
    assert_said(m, "complete READY");
    feed(m, END_OK);
    for (int i = 0; i < 4; i++)
        assert_answered(p[i], BJ_OK);
    assert_answered(pivot(m), BJ_OK);
}

static void b32_a_pivot_beside_a_waiting_abort_shares_the_complete(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    seat *p = pivot(m);
    assert_waiting(p);
    feed(m, END_OK);
    assert_answered(p, BJ_OK);
    assert_answered(a, BJ_OK);
}

static void b33_a_complete_refused_in_standby_is_sent_again_when_ready(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "~standby -complete");
    assert_said(m, "READY complete");
    feed(m, "~ready");
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b33_also_when_it_is_ready_again_before_the_refusal(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "~standby ~ready -complete");
    assert_said(m, "READY complete complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b33_not_for_ever(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    int tries = 0;
    while (fixture_is_flying(m, VERB_COMPLETE) && tries < 1000) {
        feed(m, "~standby -complete ~ready");
        tries++;
    }
    assert_true(tries > 1 && tries < 1000);
    assert_answered(p, BJ_E_REFUSED);
    assert_string_equal(p->error_class, "GenericError");
    assert_string_equal(p->text, "QEMU said no");
}

static void b33_a_standby_before_complete_was_sent_excuses_nothing(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~standby ~ready");
    seat *p = pivot(m);
    feed(m, "-complete tick");
    assert_answered(p, BJ_E_REFUSED);
    assert_said(m, "READY complete");
}

static void b33_not_for_those_who_have_left(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    leave(m, p);
    feed(m, "~standby -complete ~ready");
    assert_said(m, "READY complete");
}

static void b33_a_complete_is_not_sent_in_standby(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~standby");
    seat *p = pivot(m);
    assert_said(m, "READY");
    feed(m, "~ready");
    assert_said(m, "complete");
    assert_waiting(p);
}

static void b34_pivot_after_abort_is_refused_by_us(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    forget_said(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    assert_answered(pivot(m), BJ_E_STATE);
    feed(m, "+cancel");
    assert_answered(pivot(m), BJ_E_STATE);
    feed(m, END_OK " unswitched");
    assert_answered(pivot(m), BJ_E_JOB_ENDED);
    assert_answered(a, BJ_OK);
    assert_said(m, "cancel graph ENDED RELEASED");
}

static void b34_abort_before_ready_beats_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *p = pivot(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "~ready READY +cancel ~aborting CANCELLED ~concluded ~null");
    assert_answered(a, BJ_OK);
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    assert_said(m, "cancel READY ENDED RELEASED");
}

static void b34_force_before_ready_beats_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *p = pivot(m);
    abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force ~ready READY");
    assert_said(m, "force READY");
    feed(m, END_CANCELLED);
    assert_answered(p, BJ_E_JOB_ENDED);
}

static void b34_a_pivot_goes_on_when_the_abort_was_refused(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *p = pivot(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "-cancel");
    assert_answered(a, BJ_E_REFUSED);
    feed(m, "~ready READY");
    assert_said(m, "cancel complete READY");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b34_a_pivot_under_way_beats_a_soft_abort(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    assert_answered(abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC), BJ_E_STATE);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_answered(a, BJ_OK);
    assert_said(m, "READY complete ENDED RELEASED");
}

static void b34_a_soft_abort_has_its_turn_when_complete_was_refused(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "-complete");
    assert_said(m, "READY complete cancel");
    feed(m, "+cancel " END_OK " unswitched");
    assert_answered(a, BJ_OK);
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void b34_never_both_when_complete_was_refused_in_standby(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "~standby -complete ~ready");
    /* Whichever it goes on with: the other is not sent as well. */
    assert_int_equal(fixture_is_flying(m, VERB_COMPLETE) + fixture_is_flying(m, VERB_CANCEL), 1);
    feed(m, fixture_is_flying(m, VERB_COMPLETE) ? "+complete " END_OK
                                                : "+cancel " END_OK " unswitched");
    assert_int_equal(p->answers, 1);
    assert_answered(a, BJ_OK);
}

static void b34_a_pivot_that_was_waiting_does_not_follow_a_cancel(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *first = pivot(m);
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "~standby -complete");
    leave(m, first);
    feed(m, "~ready");
    assert_said(m, "READY complete cancel");
}

static void b35_aborting_what_is_over_yields_its_outcome(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running " END_CANCELLED);
    forget_said(m);
    assert_answered(abort_job(m, BJ_ABORT_SOFT), BJ_OK);
    assert_answered(abort_job(m, BJ_ABORT_FORCE), BJ_OK);
    assert_answered(abort_job(m, BJ_ABORT_FORCE | BJ_ABORT_ASYNC), BJ_OK);
    assert_answered(escalate(m, 10), BJ_OK);
    assert_said(m, "");
}

static void b35_aborting_what_was_lost_says_so(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running absent");
    assert_answered(abort_job(m, BJ_ABORT_SOFT), BJ_E_JOB_LOST);
}

static void b35_what_is_aborting_needs_no_abort(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~aborting");
    seat *a[] = {abort_job(m, BJ_ABORT_SOFT), abort_job(m, BJ_ABORT_FORCE)};
    assert_said(m, "");
    feed(m, "CANCELLED");
    assert_answered(a[0], BJ_OK);
    assert_answered(a[1], BJ_OK);
}

static void b35_repeated_soft_aborts_send_one_cancel(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    forget_said(m);
    seat *a[] = {abort_job(m, BJ_ABORT_SOFT), abort_job(m, BJ_ABORT_SOFT),
                 abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC)};
    feed(m, "+cancel");
    assert_answered(a[2], BJ_OK);
    assert_answered(abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC), BJ_OK);
    feed(m, END_OK " unswitched");
    assert_answered(a[0], BJ_OK);
    assert_answered(a[1], BJ_OK);
    assert_said(m, "cancel graph ENDED RELEASED");
}

static void b35_repeated_forced_aborts_send_one_force(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    forget_said(m);
    seat *a[] = {abort_job(m, BJ_ABORT_FORCE), abort_job(m, BJ_ABORT_FORCE)};
    feed(m, "+force");
    assert_answered(abort_job(m, BJ_ABORT_FORCE | BJ_ABORT_ASYNC), BJ_OK);
    feed(m, END_CANCELLED);
    assert_answered(a[0], BJ_OK);
    assert_answered(a[1], BJ_OK);
    assert_said(m, "force ENDED RELEASED");
}

static void b35_force_after_soft_is_sent(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *soft = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel");
    seat *force = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force " END_CANCELLED);
    assert_answered(soft, BJ_OK);
    assert_answered(force, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    assert_said(m, "READY cancel force ENDED RELEASED");
}

static void b36_soft_becomes_force_after_the_delay(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = escalate(m, 500);
    feed(m, "+cancel escalate");
    assert_said(m, "READY cancel force");
    feed(m, "+force " END_CANCELLED);
    assert_answered(a, BJ_OK);
}

static void b36_not_when_it_is_over_before(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = escalate(m, 500);
    feed(m, "+cancel " END_OK " unswitched");
    assert_answered(a, BJ_OK);
    feed(m, "escalate");
    assert_said(m, "READY cancel graph ENDED RELEASED");
}

static void b36_nor_when_nobody_wants_it_any_more(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = escalate(m, 500);
    leave(m, a);
    feed(m, "escalate");
    assert_said(m, "READY cancel");
}

static void b36_it_works_on_a_stalled_job(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ERROR(stop) ~paused");
    seat *a = escalate(m, 500);
    assert_waiting(a);
    if (fixture_is_flying(m, VERB_CANCEL))
        feed(m, "-cancel");
    assert_waiting(a);
    feed(m, "escalate +force ~running ~aborting CANCELLED ~concluded ~null");
    assert_answered(a, BJ_OK);
}

static void b36_it_overtakes_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete");
    seat *a = escalate(m, 500);
    feed(m, "escalate +force " END_CANCELLED);
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_answered(a, BJ_OK);
    assert_said(m, "READY complete force ENDED RELEASED");
}

static void b36_a_refused_force_is_told(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *a = escalate(m, 500);
    feed(m, "-cancel escalate -force");
    assert_answered(a, BJ_E_REFUSED);
}

static void b36_a_refused_cancel_is_not_repeated(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    escalate(m, 500);
    feed(m, "-cancel ~standby ~ready ~standby =standby ~ready");
    assert_said(m, "READY cancel");
}

static void b36_a_second_escalation_after_a_refused_force_has_its_turn(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    escalate(m, 500);
    feed(m, "-cancel escalate -force");
    escalate(m, 700);
    forget_said(m);
    feed(m, "escalate");
    assert_said(m, "force");
}

static void b37_async_is_done_when_accepted(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC);
    seat *d = done(m);
    assert_waiting(a);
    feed(m, "+cancel");
    assert_answered(a, BJ_OK);
    assert_waiting(d);
    feed(m, END_OK " unswitched");
    assert_answered(d, BJ_OK);
    assert_said(m, "READY cancel graph ENDED RELEASED");
}

static void b37_async_force_is_done_when_accepted(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *sync = abort_job(m, BJ_ABORT_FORCE);
    seat *async = abort_job(m, BJ_ABORT_FORCE | BJ_ABORT_ASYNC);
    feed(m, "+force");
    assert_answered(async, BJ_OK);
    assert_waiting(sync);
}

static void b37_async_soft_beside_a_force_is_done_when_that_is_accepted(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    abort_job(m, BJ_ABORT_FORCE);
    seat *async = abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC);
    feed(m, "+force");
    assert_answered(async, BJ_OK);
}

static void b37_async_that_comes_too_late_is_answered_at_the_end(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    seat *a = abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC);
    feed(m, END_OK);
    assert_answered(a, BJ_OK);
    feed(m, "!cancel");
}

static void b39_a_refusal_goes_to_those_who_asked(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    seat *d = done(m);
    feed(m, "-complete tick");
    assert_answered(p, BJ_E_REFUSED);
    assert_string_equal(p->error_class, "GenericError");
    assert_string_equal(p->text, "QEMU said no");
    assert_waiting(d);

    seat *soft = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "-cancel");
    assert_answered(soft, BJ_E_REFUSED);
    seat *force = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "-force");
    assert_answered(force, BJ_E_REFUSED);
    assert_waiting(d);
}

static void b39_a_verb_can_be_asked_again_after_a_refusal(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "-complete tick");
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "-cancel");
    abort_job(m, BJ_ABORT_FORCE);
    feed(m, "-force");
    pivot(m);
    assert_said(m, "READY complete cancel force complete");
}

static void b39_no_such_job_is_looked_up_in_the_list(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "!complete");
    assert_said(m, "READY complete query");
    assert_waiting(p);
    feed(m, "absent");
    assert_answered(p, BJ_E_JOB_LOST);
    assert_outcome(m, BJ_OUTCOME_LOST);
}

static void b39_a_force_that_finds_no_job_is_lost(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "!force");
    assert_waiting(a);
    feed(m, "absent");
    assert_answered(a, BJ_E_JOB_LOST);
}

static void b39_no_such_job_that_is_listed_is_a_refusal(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "!complete =ready");
    assert_answered(p, BJ_E_REFUSED);

    seat *soft = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "!cancel =ready");
    assert_answered(soft, BJ_E_REFUSED);

    seat *force = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "!force =ready");
    assert_answered(force, BJ_E_REFUSED);
}

static void c119_a_force_that_was_not_sent_is_not_refused(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = escalate(m, 500);
    feed(m, "!cancel escalate");
    assert_waiting(a);
    feed(m, "=ready");
    assert_waiting(a);
    assert_said(m, "READY cancel query force");
    feed(m, "+force " END_CANCELLED);
    assert_answered(a, BJ_OK);
}

static void c119_what_is_asked_while_the_job_is_looked_for_is_sent_then(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "!complete");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "=ready");
    assert_answered(p, BJ_E_REFUSED);
    assert_waiting(a);
    assert_said(m, "READY complete query cancel");
}

static void c119_a_soft_abort_beside_a_refused_force_is_told_of_the_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete ~waiting");
    seat *force = abort_job(m, BJ_ABORT_FORCE);
    seat *soft = abort_job(m, BJ_ABORT_SOFT | BJ_ABORT_ASYNC);
    feed(m, "-force");
    assert_answered(force, BJ_E_REFUSED);
    assert_answered(soft, BJ_E_STATE);
}

/* The reply to a soft cancel comes as lost once the job is. */
static void c119_a_cancel_under_way_when_the_job_is_lost(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~standby");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    machine_lost(&m->machine, BJ_E_CLOSED, "it was closed");
    feed(m, "-cancel");
    assert_answered(a, BJ_E_CLOSED);
    assert_string_equal(a->text, "it was closed");
    assert_string_equal(text_str(machine_text(&m->machine)), "it was closed");
    assert_said(m, "READY cancel ENDED RELEASED");
}

static void b39_no_such_job_that_has_concluded_is_its_outcome(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "!cancel");
    row_says(m, (struct row){.status = STATUS_CONCLUDED, .error = NO_SPACE});
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_FAILED);
}

static void b39_a_soft_abort_that_joined_a_refused_force_is_not_forgotten(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *force = abort_job(m, BJ_ABORT_FORCE);
    seat *soft = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "-force");
    assert_answered(force, BJ_E_REFUSED);
    /* It is refused as well, or has a try of its own. */
    assert_true(soft->answers == 1 || fixture_is_flying(m, VERB_CANCEL));
}

static void b39_a_verb_refused_after_the_end_is_judged_by_our_state(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    seat *pause = verb(m, VERB_PAUSE);
    seat *speed = verb(m, VERB_SET_SPEED);
    feed(m, END_OK " -pause !speed");
    assert_answered(pause, BJ_E_STATE);
    assert_answered(speed, BJ_E_STATE);
}

static void b40_ours_is_dismissed_once_after_the_outcome_is_stored(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    seat *r = released(m);
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete ~waiting ~pending COMPLETED");
    assert_said(m, "READY complete ENDED");
    feed(m, "~concluded");
    assert_said(m, "dismiss");
    feed(m, "+dismiss");
    assert_waiting(r);
    feed(m, "~null");
    assert_answered(r, BJ_OK);
    assert_said(m, "RELEASED");
}

static void b40_not_before_the_outcome_is_known(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, TO_READY);
    pivot(m);
    feed(m, "~waiting ~pending COMPLETED ~concluded");
    assert_said(m, "READY complete query");
    feed(m, "+complete");
    assert_said(m, "ENDED dismiss");
}

static void b40_another_client_may_be_faster(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    seat *r = released(m);
    feed(m, "~created ~running ~aborting COMPLETED{error} ~concluded ~null -dismiss");
    assert_answered(r, BJ_E_JOB_FAILED);
    assert_said(m, "ENDED dismiss RELEASED");
}

static void b40_others_are_never_dismissed(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~waiting ~pending COMPLETED ~concluded unswitched");
    assert_said(m, "READY cancel graph ENDED");
}

static void b40_a_job_that_concluded_unseen_is_dismissed_too(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, "=concluded");
    graph_says(m, SWITCH_UNKNOWN);
    assert_said(m, "graph ENDED dismiss");
}

static void b40_without_statuses_it_is_dismissed_at_the_end(void **state)
{
    fixture *m = *state;
    become(m, our_old_mirror);
    seat *r = released(m);
    feed(m, "READY CANCELLED");
    assert_said(m, "READY ENDED dismiss");
    assert_waiting(r);
    feed(m, "+dismiss");
    assert_answered(r, BJ_OK);
    assert_said(m, "RELEASED");
}

static void b40_what_was_lost_is_not_dismissed(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, "~created ~running");
    machine_lost(&m->machine, BJ_E_JOB_LOST, "the connection ended");
    assert_said(m, "ENDED RELEASED");
}

static void b40_a_caller_who_dismisses_ours_is_spared_the_command(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, "~created ~running ~aborting CANCELLED");
    seat *before = verb(m, VERB_DISMISS);
    feed(m, "~concluded");
    seat *after = verb(m, VERB_DISMISS);
    assert_answered(before, BJ_OK);
    assert_answered(after, BJ_OK);
    assert_said(m, "ENDED dismiss");
}

static void b40_a_refused_dismiss_is_tried_again_and_hangs_nobody(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    seat *r = released(m);
    feed(m, "~created ~running ~aborting CANCELLED ~concluded");
    int tries = 0;
    while (fixture_is_flying(m, VERB_DISMISS) && tries < 1000) {
        forget_said(m);
        feed(m, "-dismiss");
        assert_said(m, "query");
        feed(m, "=concluded");
        tries++;
    }
    assert_true(tries > 1 && tries < 1000);
    assert_answered(r, BJ_OK);
}

static void b40_a_dismissed_job_is_not_dismissed_again(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, "~created ~running ~aborting CANCELLED ~concluded +dismiss =concluded");
    assert_said(m, "ENDED dismiss");
}

static void b42_pending_is_told_to_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete ~waiting ~pending PENDING");
    assert_answered(p, BJ_E_STALLED);
    seat *f = verb(m, VERB_FINALIZE);
    feed(m, "+finalize");
    assert_waiting(f);
    feed(m, "COMPLETED ~concluded ~null");
    assert_answered(f, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b42_a_pivot_asked_while_pending_is_told_too(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete ~waiting ~pending PENDING");
    assert_answered(pivot(m), BJ_E_STALLED);
}

static void b42_a_soft_abort_that_became_pending_is_told_too(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~waiting ~pending PENDING");
    assert_answered(a, BJ_E_STALLED);
    assert_answered(abort_job(m, BJ_ABORT_SOFT), BJ_E_STALLED);
    seat *f = verb(m, VERB_FINALIZE);
    feed(m, "+finalize COMPLETED ~concluded ~null unswitched");
    assert_answered(f, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void b42_also_when_its_reply_comes_after_pending(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "~waiting ~pending PENDING +cancel");
    assert_answered(a, BJ_E_STALLED);
}

static void b42_pending_can_be_aborted(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting ~pending PENDING");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    assert_said(m, "cancel");
    feed(m, "~aborting CANCELLED ~concluded +cancel ~null");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b42_pending_can_be_aborted_after_a_complete(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete ~waiting ~pending PENDING");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    assert_said(m, "READY complete cancel");
    feed(m, "~aborting CANCELLED ~concluded +cancel ~null");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b42_the_reply_of_that_abort_may_come_before_the_end(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete ~waiting ~pending PENDING");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel");
    assert_waiting(a);
    feed(m, "~aborting CANCELLED ~concluded ~null");
    assert_answered(a, BJ_OK);
}

static void b42_an_abort_that_came_too_late_for_complete_has_its_turn(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    pivot(m);
    feed(m, "+complete");
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "~waiting ~pending PENDING");
    assert_said(m, "READY complete cancel");
}

static void b42_pending_can_be_aborted_with_force(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting ~pending PENDING");
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "~aborting CANCELLED ~concluded +force ~null");
    assert_answered(a, BJ_OK);
    assert_said(m, "force ENDED RELEASED");
}

static void b42_a_job_found_pending_is_no_hang(void **state)
{
    fixture *m = *state;
    row_says(m, (struct row){.status = STATUS_PENDING, .ready = true});
    assert_answered(pivot(m), BJ_E_STALLED);
    abort_job(m, BJ_ABORT_SOFT);
    assert_true(fixture_is_flying(m, VERB_CANCEL));
}

static void b42_a_refused_finalize_is_told(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running");
    seat *f = verb(m, VERB_FINALIZE);
    feed(m, "-finalize");
    assert_answered(f, BJ_E_REFUSED);
}

static void b43_a_job_that_waits_for_its_group_can_be_aborted(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    assert_said(m, "cancel");
    feed(m, "+cancel ~aborting CANCELLED ~concluded ~null");
    assert_answered(a, BJ_OK);
}

static void b43_cancelled_by_a_peer_of_the_group(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "~created ~running ~waiting");
    seat *d = done(m);
    feed(m, END_CANCELLED);
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b44_each_verb_is_sent_and_awaited(void **state)
{
    static const enum verb verbs[] = {VERB_PAUSE, VERB_RESUME, VERB_SET_SPEED, VERB_DISMISS};
    static const char *const sent[] = {"pause", "resume", "speed", "dismiss"};
    fixture *m = *state;
    feed(m, "~created ~running");
    for (int i = 0; i < 4; i++) {
        seat *accepted = verb(m, verbs[i]);
        assert_waiting(accepted);
        accept_verb(m, verbs[i]);
        assert_answered(accepted, BJ_OK);
        seat *refused = verb(m, verbs[i]);
        refuse_verb(m, verbs[i], false);
        assert_answered(refused, BJ_E_REFUSED);
        assert_string_equal(refused->error_class, "GenericError");
        assert_non_null(strstr(m->said, sent[i]));
        forget_said(m);
    }
}

static void b44_the_reply_to_one_who_has_left_still_counts(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *pause = verb(m, VERB_PAUSE);
    leave(m, pause);
    feed(m, "~standby +pause");
    assert_answered(pivot(m), BJ_E_STALLED);
    seat *resume = verb(m, VERB_RESUME);
    leave(m, resume);
    feed(m, "+resume ~ready");
    assert_waiting(pivot(m));
    seat *speed = verb(m, VERB_SET_SPEED);
    leave(m, speed);
    feed(m, "-speed");
}

static void b44_without_statuses_the_replies_tell(void **state)
{
    fixture *m = *state;
    become(m, an_old_mirror);
    feed(m, "READY");
    verb(m, VERB_PAUSE);
    feed(m, "+pause");
    verb(m, VERB_RESUME);
    feed(m, "+resume");
    seat *p = pivot(m);
    assert_waiting(p);
    assert_said(m, "READY pause STALLED resume RESUMED complete");
}

static void b44_also_after_a_stop_by_an_error(void **state)
{
    fixture *m = *state;
    become(m, an_old_mirror);
    feed(m, "READY ERROR(stop)");
    verb(m, VERB_RESUME);
    feed(m, "+resume");
    assert_waiting(done(m));
    assert_said(m, "READY STALLED resume RESUMED");
}

static void b44_a_new_speed_is_no_pause(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    verb(m, VERB_SET_SPEED);
    feed(m, "+speed");
    assert_said(m, "speed");
}

static void b44_verbs_on_what_was_lost_say_what_lost_it(void **state)
{
    static const enum verb verbs[] = {VERB_PAUSE, VERB_RESUME, VERB_SET_SPEED, VERB_FINALIZE,
                                      VERB_DISMISS};
    fixture *m = *state;
    feed(m, "~created ~running absent");
    forget_said(m);
    for (int i = 0; i < 5; i++)
        assert_answered(verb(m, verbs[i]), BJ_E_JOB_LOST);
    assert_said(m, "");
}

static void b44_verbs_on_what_is_over(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~aborting CANCELLED ~concluded");
    forget_said(m);
    assert_answered(verb(m, VERB_PAUSE), BJ_E_STATE);
    assert_answered(verb(m, VERB_RESUME), BJ_E_STATE);
    assert_answered(verb(m, VERB_SET_SPEED), BJ_E_STATE);
    assert_answered(verb(m, VERB_FINALIZE), BJ_E_STATE);
    seat *dismiss = verb(m, VERB_DISMISS);
    assert_said(m, "dismiss");
    feed(m, "+dismiss ~null");
    assert_answered(dismiss, BJ_OK);
    assert_answered(verb(m, VERB_DISMISS), BJ_OK);
    assert_said(m, "RELEASED");
}

static void b44_dismissing_what_another_client_has_dismissed_is_fine(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~aborting CANCELLED ~concluded");
    seat *by_class = verb(m, VERB_DISMISS);
    feed(m, "!dismiss");
    assert_answered(by_class, BJ_OK);
    seat *by_state = verb(m, VERB_DISMISS);
    feed(m, "~null -dismiss"); /* job-dismiss: "Job not found" is a GenericError */
    assert_answered(by_state, BJ_OK);
}

static void b44_a_dismiss_refused_for_another_reason_is_told(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~aborting CANCELLED ~concluded");
    seat *s = verb(m, VERB_DISMISS);
    feed(m, "-dismiss");
    assert_answered(s, BJ_E_REFUSED);
}

/* -------------------------------------------------------------- connections */

static void lose(fixture *m)
{
    machine_lost(&m->machine, BJ_E_JOB_LOST, "the connection ended");
    fixture_check(m);
}

static void b45_all_who_wait_are_told_that_the_connection_is_lost(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *s[] = {ready(m),
                 done(m),
                 released(m),
                 pivot(m),
                 abort_job(m, BJ_ABORT_SOFT),
                 escalate(m, 500),
                 verb(m, VERB_PAUSE)};
    lose(m);
    for (size_t i = 0; i < sizeof s / sizeof s[0]; i++) {
        assert_answered(s[i], BJ_E_JOB_LOST);
        assert_string_equal(s[i]->text, "the connection ended");
    }
    assert_outcome(m, BJ_OUTCOME_LOST);
    assert_answered(done(m), BJ_E_JOB_LOST);
    assert_answered(verb(m, VERB_DISMISS), BJ_E_JOB_LOST);
}

static void b45_closed_by_us_is_said_as_such(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *d = done(m);
    machine_lost(&m->machine, BJ_E_CLOSED, "the monitor was closed");
    assert_answered(d, BJ_E_CLOSED);
    assert_answered(done(m), BJ_E_CLOSED);
}

static void b45_lost_between_accepted_and_end(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete");
    lose(m);
    assert_answered(p, BJ_E_JOB_LOST);
    assert_outcome(m, BJ_OUTCOME_LOST);
}

static void b45_lost_between_completed_and_the_reply(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    seat *d = done(m);
    feed(m, "~waiting ~pending COMPLETED");
    lose(m);
    assert_int_equal(p->answers, 1);
    assert_int_not_equal(p->error, BJ_OK);
    assert_int_equal(d->answers, 1);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_true(*text_str(m->machine.text)); /* whether it was switched can't be told */
}

static void b45_lost_between_end_and_null(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    seat *d = done(m);
    seat *r = released(m);
    feed(m, "~created ~running ~waiting ~pending COMPLETED ~concluded");
    assert_answered(d, BJ_OK);
    lose(m);
    assert_answered(r, BJ_E_JOB_LOST);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b45_lost_twice_is_told_once(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    lose(m);
    lose(m);
    feed(m, "~running READY CANCELLED absent escalate tick");
    assert_said(m, "ENDED RELEASED");
}

static void b49_unknown_statuses_change_nothing(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~hibernating");
    assert_int_equal(m->machine.status, STATUS_RUNNING);
    assert_int_equal(job_status_of(""), STATUS_NONE);
    assert_int_equal(job_status_of("hibernating"), STATUS_NONE);
}

static void b49_statuses_have_qemus_names(void **state)
{
    (void)state;
    for (int s = STATUS_CREATED; s <= STATUS_NULL; s++)
        assert_int_equal(job_status_of(job_status_name((enum status)s)), s);
    assert_string_equal(job_status_name(STATUS_STANDBY), "standby");
    assert_string_equal(job_status_name(STATUS_NONE), "");
}

static void b51_a_row_of_a_ready_job_is_enough_to_pivot(void **state)
{
    fixture *m = *state;
    row_says(m, (struct row){.status = STATUS_READY, .ready = true});
    seat *p = pivot(m);
    assert_said(m, "READY complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b51_a_row_of_a_stopped_job_is_a_stall(void **state)
{
    fixture *m = *state;
    row_says(m, (struct row){.status = STATUS_PAUSED, .io_error = true});
    assert_answered(done(m), BJ_E_STALLED);
    assert_said(m, "STALLED");
}

static void b51_a_job_found_finished_has_completed_when_it_goes(void **state)
{
    fixture *m = *state;
    become(m, a_stream);
    feed(m, "=waiting ~pending ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);

    machine_clear(&m->machine);
    become(m, a_stream);
    m->outcome = BJ_OUTCOME_NONE;
    feed(m, "=aborting ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_FAILED);
}

static void b51_without_events_a_later_row_tells_the_status(void **state)
{
    fixture *m = *state;
    become(m, an_old_mirror);
    row_says(m, (struct row){.status = STATUS_STANDBY, .ready = true});
    row_says(m, (struct row){.status = STATUS_READY, .ready = true});
    pivot(m);
    assert_said(m, "READY complete");
}

static void b51_and_a_waiting_pivot_goes_on_then(void **state)
{
    fixture *m = *state;
    become(m, an_old_mirror);
    row_says(m, (struct row){.status = STATUS_STANDBY, .ready = true});
    pivot(m);
    assert_int_equal(m->stall_timer, STALL_MS);
    row_says(m, (struct row){.status = STATUS_READY, .ready = true});
    assert_said(m, "READY complete");
    assert_int_equal(m->stall_timer, 0);
}

static void b51_statuses_that_come_as_events_are_told_once_each(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~running ~paused ~running ~running");
    assert_int_equal(m->statuses, 4);
}

#define on_a_mirror(test) cmocka_unit_test_setup_teardown(test, mirror_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_a_mirror(b02_completed_may_come_before_the_reply_of_complete),
        on_a_mirror(b02_completed_may_come_before_the_reply_of_cancel),
        on_a_mirror(b02_cancelled_may_come_before_the_reply_of_cancel),
        on_a_mirror(b02_completed_may_come_before_the_reply_of_finalize),
        on_a_mirror(b03_late_waiters_get_the_stored_outcome),
        on_a_mirror(b04_what_is_ready_is_answered_at_once),
        on_a_mirror(b04_ready_once_is_ready_after_the_end),
        on_a_mirror(b05_one_who_leaves_disturbs_no_other),
        on_a_mirror(b07_leaving_never_sends_a_thing),
        on_a_mirror(b09_ready_ends_with_the_job),
        on_a_mirror(b09_a_kind_that_is_never_ready_says_so_at_once),
        on_a_mirror(w08_a_connection_that_takes_no_verb_refuses_a_pivot_at_once),
        on_a_mirror(b10_gone_is_not_success),
        on_a_mirror(b10_null_without_an_end_is_not_success),
        on_a_mirror(b11_completed_with_an_error_is_a_failure),
        on_a_mirror(b11_an_empty_error_is_a_failure_too),
        on_a_mirror(b12_an_error_that_stops_is_not_the_end),
        on_a_mirror(b13_all_who_wait_are_told_of_a_stop_by_an_error),
        on_a_mirror(b13_who_asks_after_the_stop_is_told_at_once),
        on_a_mirror(b13_force_works_on_a_stalled_job),
        on_a_mirror(b13_what_is_over_stands_still_no_more),
        on_a_mirror(b13_the_same_stop_twice_is_told_once),
        on_a_mirror(b13_a_stop_needs_no_timer),
        on_a_mirror(b13_nor_does_a_standstill_whose_pivot_has_left),
        on_a_mirror(b13_more_pivots_do_not_put_off_the_timer),
        on_a_mirror(b13_done_waits_for_the_end_of_a_stalled_job_that_is_being_aborted),
        on_a_mirror(b13_a_soft_abort_of_a_copy_that_stops_is_told),
        on_a_mirror(b13_a_soft_abort_of_a_copy_that_is_paused_is_told),
        on_a_mirror(c32_an_async_abort_is_done_when_qemu_has_accepted),
        on_a_mirror(c32_an_async_abort_that_is_refused_while_paused_is_told),
        on_a_mirror(b13_resume_works_on_a_stalled_job),
        on_a_mirror(b13_a_second_error_before_the_reply_of_resume_counts),
        on_a_mirror(b13_our_own_pause_is_told_to_pivots_at_once),
        on_a_mirror(b13_a_pause_by_another_client_is_a_stall_when_it_lasts),
        on_a_mirror(b13_a_complete_that_waits_for_a_resume_is_told),
        on_a_mirror(b13_a_stop_by_an_error_is_not_talked_down_to_a_pause),
        on_a_mirror(b13_pausing_a_stopped_job_leaves_it_stopped),
        on_a_mirror(b13_a_short_standstill_is_none),
        on_a_mirror(b13_a_standstill_that_hurts_nobody_sets_no_timer),
        on_a_mirror(b13_a_timer_that_comes_late_says_nothing),
        on_a_mirror(b13_a_soft_cancel_refused_while_paused_is_a_stall),
        on_a_mirror(b14_soft_cancel_of_a_ready_mirror_is_a_copy),
        on_a_mirror(b14_complete_of_a_ready_mirror_is_a_pivot),
        on_a_mirror(b14_an_active_commit_pivots),
        on_a_mirror(b14_an_intermediate_commit_just_completes),
        on_a_mirror(b15_another_clients_verb_is_looked_up_in_the_graph),
        on_a_mirror(b15_a_complete_refused_because_another_came_first_asks_the_graph),
        on_a_mirror(b15_the_graph_is_asked_once),
        on_a_mirror(b16_cancelled_by_another_is_an_outcome),
        on_a_mirror(b17_a_cancel_that_comes_too_late_tells_the_truth),
        on_a_mirror(b17_force_after_complete_pivots_on_5_2),
        on_a_mirror(b17_force_after_complete_cancels_from_7_2_on),
        on_a_mirror(b17_an_accepted_force_and_completed_is_a_copy),
        on_a_mirror(b17_a_create_job_cancelled_too_late_has_completed),
        on_a_mirror(b18_the_first_terminal_event_wins),
        on_a_mirror(b18_also_while_its_meaning_is_not_known_yet),
        on_a_mirror(b18_lost_comes_too_late_to_change_an_outcome),
        on_a_mirror(b21_a_concluded_row_says_how_it_ended),
        on_a_mirror(b21_a_job_without_block_events_is_asked_for_when_it_concludes),
        on_a_mirror(b21_an_aborted_transaction_is_a_failure),
        on_a_mirror(b21_statuses_tell_the_end_of_a_job_that_left_too_early),
        on_a_mirror(b21_a_job_that_we_aborted_and_that_left_too_early_is_cancelled),
        on_a_mirror(b21_also_if_it_was_not_even_seen_aborting),
        on_a_mirror(b22_released_waits_for_null),
        on_a_mirror(b22_before_3_0_the_terminal_event_is_the_last),
        on_a_mirror(b22_what_is_listed_no_more_is_released),
        on_a_mirror(c121_a_mirror_that_stays_concluded_has_let_go_of_its_nodes),
        on_a_mirror(c121_a_stream_keeps_its_nodes_until_it_is_dismissed),
        on_a_mirror(c121_a_failure_that_is_kept_is_a_failure),
        on_a_mirror(c121_what_is_found_concluded_is_kept),
        on_a_mirror(c121_what_we_dismiss_is_released_then),
        on_a_mirror(b22_not_before_the_outcome_is_known),
        on_a_mirror(b23_running_is_not_ready),
        on_a_mirror(b24_a_row_that_says_ready_is_ready),
        on_a_mirror(b27_ready_comes_once),
        on_a_mirror(b27_either_the_status_or_the_event_is_ready),
        on_a_mirror(b28_a_row_never_overrules_an_event),
        on_a_mirror(b28_an_old_row_does_not_stall_a_job_that_goes_on),
        on_a_mirror(b31_pivot_waits_for_ready_and_sends_nothing_before),
        on_a_mirror(b31_by_flag_it_fails_instead_of_waiting),
        on_a_mirror(b31_a_pivot_that_nobody_waits_for_is_withdrawn),
        on_a_mirror(b31_a_pivot_that_someone_still_waits_for_is_not),
        on_a_mirror(b31_no_complete_for_a_job_that_is_ending),
        on_a_mirror(b32_concurrent_pivots_share_one_complete),
        on_a_mirror(b32_a_pivot_beside_a_waiting_abort_shares_the_complete),
        on_a_mirror(b33_a_complete_refused_in_standby_is_sent_again_when_ready),
        on_a_mirror(b33_also_when_it_is_ready_again_before_the_refusal),
        on_a_mirror(b33_not_for_ever),
        on_a_mirror(b33_a_standby_before_complete_was_sent_excuses_nothing),
        on_a_mirror(b33_not_for_those_who_have_left),
        on_a_mirror(b33_a_complete_is_not_sent_in_standby),
        on_a_mirror(b34_pivot_after_abort_is_refused_by_us),
        on_a_mirror(b34_abort_before_ready_beats_a_pivot),
        on_a_mirror(b34_force_before_ready_beats_a_pivot),
        on_a_mirror(b34_a_pivot_goes_on_when_the_abort_was_refused),
        on_a_mirror(b34_a_pivot_under_way_beats_a_soft_abort),
        on_a_mirror(b34_a_soft_abort_has_its_turn_when_complete_was_refused),
        on_a_mirror(b34_never_both_when_complete_was_refused_in_standby),
        on_a_mirror(b34_a_pivot_that_was_waiting_does_not_follow_a_cancel),
        on_a_mirror(b35_aborting_what_is_over_yields_its_outcome),
        on_a_mirror(b35_aborting_what_was_lost_says_so),
        on_a_mirror(b35_what_is_aborting_needs_no_abort),
        on_a_mirror(b35_repeated_soft_aborts_send_one_cancel),
        on_a_mirror(b35_repeated_forced_aborts_send_one_force),
        on_a_mirror(b35_force_after_soft_is_sent),
        on_a_mirror(b36_soft_becomes_force_after_the_delay),
        on_a_mirror(b36_not_when_it_is_over_before),
        on_a_mirror(b36_nor_when_nobody_wants_it_any_more),
        on_a_mirror(b36_it_works_on_a_stalled_job),
        on_a_mirror(b36_it_overtakes_a_pivot),
        on_a_mirror(b36_a_refused_force_is_told),
        on_a_mirror(b36_a_refused_cancel_is_not_repeated),
        on_a_mirror(b36_a_second_escalation_after_a_refused_force_has_its_turn),
        on_a_mirror(b37_async_is_done_when_accepted),
        on_a_mirror(b37_async_force_is_done_when_accepted),
        on_a_mirror(b37_async_soft_beside_a_force_is_done_when_that_is_accepted),
        on_a_mirror(b37_async_that_comes_too_late_is_answered_at_the_end),
        on_a_mirror(b39_a_refusal_goes_to_those_who_asked),
        on_a_mirror(b39_a_verb_can_be_asked_again_after_a_refusal),
        on_a_mirror(b39_no_such_job_is_looked_up_in_the_list),
        on_a_mirror(b39_a_force_that_finds_no_job_is_lost),
        on_a_mirror(b39_no_such_job_that_is_listed_is_a_refusal),
        on_a_mirror(c119_a_force_that_was_not_sent_is_not_refused),
        on_a_mirror(c119_what_is_asked_while_the_job_is_looked_for_is_sent_then),
        on_a_mirror(c119_a_soft_abort_beside_a_refused_force_is_told_of_the_pivot),
        on_a_mirror(c119_a_cancel_under_way_when_the_job_is_lost),
        on_a_mirror(b39_no_such_job_that_has_concluded_is_its_outcome),
        on_a_mirror(b39_a_soft_abort_that_joined_a_refused_force_is_not_forgotten),
        on_a_mirror(b39_a_verb_refused_after_the_end_is_judged_by_our_state),
        on_a_mirror(b40_ours_is_dismissed_once_after_the_outcome_is_stored),
        on_a_mirror(b40_not_before_the_outcome_is_known),
        on_a_mirror(b40_another_client_may_be_faster),
        on_a_mirror(b40_others_are_never_dismissed),
        on_a_mirror(b40_a_job_that_concluded_unseen_is_dismissed_too),
        on_a_mirror(b40_without_statuses_it_is_dismissed_at_the_end),
        on_a_mirror(b40_what_was_lost_is_not_dismissed),
        on_a_mirror(b40_a_caller_who_dismisses_ours_is_spared_the_command),
        on_a_mirror(b40_a_refused_dismiss_is_tried_again_and_hangs_nobody),
        on_a_mirror(b40_a_dismissed_job_is_not_dismissed_again),
        on_a_mirror(b42_pending_is_told_to_a_pivot),
        on_a_mirror(b42_a_pivot_asked_while_pending_is_told_too),
        on_a_mirror(b42_a_soft_abort_that_became_pending_is_told_too),
        on_a_mirror(b42_also_when_its_reply_comes_after_pending),
        on_a_mirror(b42_pending_can_be_aborted),
        on_a_mirror(b42_pending_can_be_aborted_after_a_complete),
        on_a_mirror(b42_the_reply_of_that_abort_may_come_before_the_end),
        on_a_mirror(b42_an_abort_that_came_too_late_for_complete_has_its_turn),
        on_a_mirror(b42_pending_can_be_aborted_with_force),
        on_a_mirror(b42_a_job_found_pending_is_no_hang),
        on_a_mirror(b42_a_refused_finalize_is_told),
        on_a_mirror(b43_a_job_that_waits_for_its_group_can_be_aborted),
        on_a_mirror(b43_cancelled_by_a_peer_of_the_group),
        on_a_mirror(b44_each_verb_is_sent_and_awaited),
        on_a_mirror(b44_the_reply_to_one_who_has_left_still_counts),
        on_a_mirror(b44_without_statuses_the_replies_tell),
        on_a_mirror(b44_also_after_a_stop_by_an_error),
        on_a_mirror(b44_a_new_speed_is_no_pause),
        on_a_mirror(b44_verbs_on_what_was_lost_say_what_lost_it),
        on_a_mirror(b44_verbs_on_what_is_over),
        on_a_mirror(b44_dismissing_what_another_client_has_dismissed_is_fine),
        on_a_mirror(b44_a_dismiss_refused_for_another_reason_is_told),
        on_a_mirror(b45_all_who_wait_are_told_that_the_connection_is_lost),
        on_a_mirror(b45_closed_by_us_is_said_as_such),
        on_a_mirror(b45_lost_between_accepted_and_end),
        on_a_mirror(b45_lost_between_completed_and_the_reply),
        on_a_mirror(b45_lost_between_end_and_null),
        on_a_mirror(b45_lost_twice_is_told_once),
        on_a_mirror(b49_unknown_statuses_change_nothing),
        on_a_mirror(b49_statuses_have_qemus_names),
        on_a_mirror(b51_a_row_of_a_ready_job_is_enough_to_pivot),
        on_a_mirror(b51_a_row_of_a_stopped_job_is_a_stall),
        on_a_mirror(b51_a_job_found_finished_has_completed_when_it_goes),
        on_a_mirror(b51_without_events_a_later_row_tells_the_status),
        on_a_mirror(b51_and_a_waiting_pivot_goes_on_then),
        on_a_mirror(b51_statuses_that_come_as_events_are_told_once_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
