/* SPDX-License-Identifier: MIT */
/*
 * The job machine where it can't rely on what it hears: connections that are made again, QEMUs that
 * have no event for an end, verbs that the program has sent by itself.
 */
#include "machine_fixture.h"

static const struct machine_traits our_mirror = {
    .switches = true, .ours = true, .has_status = true, .stall_ms = STALL_MS};

/* ------------------------------------------------------------- reconnecting */

static void b45_waits_go_on_while_there_is_no_connection(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *r = ready(m);
    seat *d = done(m);
    seat *p = pivot(m);
    feed(m, "disconnected");
    assert_waiting(r);
    assert_waiting(d);
    assert_waiting(p);
    feed(m, "@running ~ready READY");
    assert_answered(r, BJ_OK);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b45_nothing_is_sent_without_a_connection(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " disconnected");
    forget_said(m);
    seat *p = pivot(m);
    assert_said(m, "");
    feed(m, "@ready");
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b45_a_verb_whose_reply_is_lost_is_answered(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *v = verb(m, VERB_PAUSE);
    feed(m, "disconnected");
    assert_answered(v, BJ_E_DISCONNECTED);
    assert_answered(verb(m, VERB_RESUME), BJ_E_DISCONNECTED);
    feed(m, "@ready");
    forget_said(m);
    verb(m, VERB_RESUME);
    assert_said(m, "resume");
}

static void b46_concluded_while_away_has_its_outcome(void **state)
{
    static const struct {
        const char *error;
        bj_outcome outcome;
    } cases[] = {
        {NULL, BJ_OUTCOME_PIVOTED},
        {"Operation canceled", BJ_OUTCOME_CANCELLED},
        {NO_SPACE, BJ_OUTCOME_FAILED},
    };
    fixture *m = *state;
    for (size_t i = 0; i < 3; i++) {
        machine_clear(&m->machine);
        m->outcome = BJ_OUTCOME_NONE;
        become(m, our_mirror);
        feed(m, TO_READY);
        seat *p = pivot(m);
        feed(m, "+complete disconnected");
        forget_said(m);
        found_says(m, (struct row){
                          .status = STATUS_CONCLUDED,
                          .error = cases[i].error,
                          .cancelled = cases[i].outcome == BJ_OUTCOME_CANCELLED,
                      });
        assert_int_equal(p->answers, 1);
        assert_outcome(m, cases[i].outcome);
        assert_said(m, "ENDED dismiss");
        m->flying[VERB_DISMISS] = 0;
    }
}

static void b46_gone_while_away_is_lost(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *d = done(m);
    seat *p = pivot(m);
    feed(m, "+complete disconnected not-found");
    assert_answered(d, BJ_E_JOB_LOST);
    assert_answered(p, BJ_E_JOB_LOST);
    assert_outcome(m, BJ_OUTCOME_LOST);
}

static void b46_an_end_that_was_seen_outlives_the_connection(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~waiting ~pending COMPLETED disconnected");
    assert_waiting(a);
    forget_said(m);
    feed(m, "not-found"); /* and who is there now knows nothing of our disk */
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COPIED);
    assert_said(m, "ENDED RELEASED");
}

static void b46_whether_a_switch_was_seen_to_happen_is_not_asked_of_another_qemu(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *d = done(m);
    feed(m, "~waiting ~pending COMPLETED"); /* by another client's verb */
    assert_said(m, "READY graph");
    feed(m, "disconnected not-found");
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_said(m, "ENDED RELEASED");
}

static void c113_an_end_that_is_heard_before_the_list_is_compared(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "disconnected");
    forget_said(m);
    feed(m, END_OK);
    assert_waiting(p);
    feed(m, "not-found"); /* but it is the QEMU that has just reported its end */
    assert_said(m, "graph");
    feed(m, "switched");
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
    assert_said(m, "ENDED RELEASED");
}

static void c113_an_end_of_before_is_not_compared_with_another_qemus(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "~waiting ~pending COMPLETED disconnected");
    forget_said(m);
    feed(m, "not-found");
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_said(m, "ENDED RELEASED");
}

static void b46_complete_is_sent_again_only_when_it_had_time_to_show(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "disconnected @ready");
    assert_said(m, "READY complete");
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "tick");
    assert_said(m, "query");
    feed(m, "=ready");
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b46_a_complete_that_shows_is_not_sent_again(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "disconnected @ready ~waiting ~pending COMPLETED ~concluded ~null");
    assert_said(m, "READY complete graph");
    assert_int_equal(m->stall_timer, 0);
    feed(m, "switched");
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b46_a_second_complete_that_might_end_qemu_is_not_sent(void **state)
{
    fixture *m = *state;
    struct machine_traits traits = a_mirror;
    traits.replaces = true;
    become(m, traits);
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "disconnected @ready tick =ready");
    assert_answered(p, BJ_E_DISCONNECTED);
    assert_said(m, "READY complete query");
}

static void b46_a_cancel_is_sent_again(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "disconnected @ready");
    assert_said(m, "READY cancel cancel");
    feed(m, "+cancel " END_OK " unswitched");
    assert_answered(a, BJ_OK);
}

static void b46_a_cancel_is_not_repeated_where_that_does_harm(void **state)
{
    fixture *m = *state;
    struct machine_traits traits = a_mirror;
    traits.no_repeats = true;
    become(m, traits);
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "disconnected @ready");
    assert_said(m, "READY cancel");
    feed(m, END_OK " unswitched");
    assert_answered(a, BJ_OK);
}

static void b46_the_same_id_running_again_is_another_run(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *d = done(m);
    feed(m, "disconnected @running");
    assert_answered(d, BJ_E_JOB_LOST);
    assert_outcome(m, BJ_OUTCOME_LOST);
}

static void b46_ours_is_dismissed_when_it_is_found_again(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, TO_READY);
    seat *p = pivot(m);
    feed(m, "+complete ~waiting ~pending COMPLETED ~concluded disconnected");
    assert_answered(p, BJ_OK);
    forget_said(m);
    feed(m, "@concluded");
    assert_said(m, "dismiss");
    feed(m, "+dismiss ~null");
    assert_said(m, "RELEASED");
}

static void b46_a_row_that_is_older_than_an_event_makes_no_other_run(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *r = ready(m);
    feed(m, "disconnected ~ready READY");
    assert_answered(r, BJ_OK);
    feed(m, "@running");
    assert_outcome(m, BJ_OUTCOME_NONE);
    seat *p = pivot(m);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b28_a_row_that_is_older_than_an_end_changes_nothing(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, "~created ~running disconnected ~aborting COMPLETED{error} ~concluded");
    assert_outcome(m, BJ_OUTCOME_FAILED);
    forget_said(m);
    feed(m, "@running");
    assert_said(m, "dismiss");
    feed(m, "+dismiss ~null");
    assert_said(m, "RELEASED");
}

static void b28_a_row_that_is_older_than_a_stop_is_no_resume(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running disconnected ERROR(stop) ~paused");
    forget_said(m);
    feed(m, "@running");
    assert_said(m, "");
    assert_answered(done(m), BJ_E_STALLED);
}

/* ----------------------------------------------------------------- old QEMU */

static const struct machine_traits an_old_stream = {
    .never_ready = true, .silent = true, .stall_ms = STALL_MS};

static void b57_a_cancel_that_has_no_event_is_made_up(void **state)
{
    fixture *m = *state;
    become(m, an_old_stream);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    seat *d = done(m);
    feed(m, "+cancel");
    assert_said(m, "cancel query");
    assert_waiting(a);
    feed(m, "absent");
    assert_answered(a, BJ_OK);
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    assert_true(machine_is(&m->machine, END_ASSUMED));
}

static void b57_the_same_words_with_an_event(void **state)
{
    fixture *m = *state;
    become(m, an_old_stream);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel");
    row_says(m, (struct row){0}); /* it is still listed: this one has an event */
    assert_waiting(a);
    feed(m, "CANCELLED");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    assert_false(machine_is(&m->machine, END_ASSUMED));
}

static void b58_cancelled_by_another_client_without_an_event(void **state)
{
    fixture *m = *state;
    become(m, an_old_stream);
    seat *d = done(m);
    row_says(m, (struct row){0});
    assert_waiting(d);
    feed(m, "absent");
    assert_answered(d, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
}

static void b13_a_pause_without_an_event_is_found_out(void **state)
{
    fixture *m = *state;
    become(m, (struct machine_traits){.switches = true, .stall_ms = STALL_MS});
    feed(m, "READY");
    seat *p = pivot(m);
    row_says(m, (struct row){.ready = true, .paused = true}); /* it may drain for a moment */
    assert_waiting(p);
    row_says(m, (struct row){.ready = true, .paused = true});
    assert_answered(p, BJ_E_STALLED);
    row_says(m, (struct row){.ready = true}); /* it may be older than the pause */
    assert_true(m->query_out);
    seat *later = pivot(m);
    assert_waiting(later);
    row_says(m, (struct row){.ready = true});
    assert_waiting(later);
    assert_true(fixture_is_flying(m, VERB_COMPLETE));
}

static void b13_a_list_older_than_a_stop_resumes_nothing(void **state)
{
    fixture *m = *state;
    become(m, (struct machine_traits){.stall_ms = STALL_MS});
    feed(m, "ERROR(stop)");
    row_says(m, (struct row){0});
    seat *d = done(m);
    row_says(m, (struct row){.paused = true});
    assert_answered(d, BJ_E_STALLED);
}

static void b13_who_waits_for_the_end_is_told_when_a_cancel_is_refused(void **state)
{
    fixture *m = *state;
    become(m, (struct machine_traits){.switches = true, .stall_ms = STALL_MS});
    seat *d = done(m);
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "ERROR(stop)");
    assert_waiting(d);
    feed(m, "-cancel");
    assert_answered(d, BJ_E_STALLED);
}

static void b13_a_force_that_does_not_end_it_is_sent_again(void **state)
{
    fixture *m = *state;
    become(m, (struct machine_traits){.switches = true, .stall_ms = STALL_MS});
    feed(m, "READY");
    seat *d = done(m);
    seat *a = abort_job(m, BJ_ABORT_FORCE);
    feed(m, "+force ERROR(stop)");
    assert_answered(d, BJ_E_STALLED);
    assert_waiting(a);
    assert_said(m, "READY force STALLED force");
}

static void b28_a_list_older_than_null_brings_nothing_back(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    abort_job(m, BJ_ABORT_SOFT);
    seat *r = released(m);
    feed(m, "~waiting ~pending COMPLETED ~concluded +cancel ~null =concluded");
    graph_says(m, NOT_SWITCHED);
    assert_answered(r, BJ_OK);
}

static void b46_statuses_with_a_gap_tell_no_end(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running ~aborting");
    machine_disconnected(&m->machine);
    feed(m, "~null");
    assert_outcome(m, BJ_OUTCOME_LOST);
}

static void b46_a_raw_complete_without_a_reply_stays_in_doubt(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    machine_raw_sent(&m->machine, VERB_COMPLETE);
    machine_disconnected(&m->machine);
    machine_reconnected_listed(&m->machine, &(struct row){.status = STATUS_READY, .ready = true});
    abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel ~waiting ~pending COMPLETED");
    graph_says(m, SWITCH_UNKNOWN);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void b40_a_dismissal_of_the_callers_releases_nothing_that_runs(void **state)
{
    fixture *m = *state;
    become(m, (struct machine_traits){.switches = true, .ours = true, .stall_ms = STALL_MS});
    feed(m, "READY");
    leave(m, verb(m, VERB_DISMISS));
    feed(m, "COMPLETED !dismiss");
    assert_false(machine_is(&m->machine, IS_RELEASED));
}

static void b42_a_raw_cancel_before_pending_tells_a_soft_abort(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    machine_raw_sent(&m->machine, VERB_CANCEL);
    feed(m, "~waiting ~pending PENDING");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    machine_raw_reply(&m->machine, VERB_CANCEL, true);
    assert_answered(a, BJ_E_STALLED);
}

static void b13_a_pause_that_is_over_before_its_reply_is_no_stall(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *v = verb(m, VERB_PAUSE);
    feed(m, "~standby ~ready +pause");
    assert_answered(v, BJ_OK);
    assert_waiting(pivot(m));
    feed(m, "+complete " END_OK);
}

/* ------------------------------------------------------------- raw commands */

static void b14_a_raw_complete_is_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    machine_raw_sent(&m->machine, VERB_COMPLETE);
    feed(m, END_OK);
    assert_outcome(m, BJ_OUTCOME_NONE);
    machine_raw_reply(&m->machine, VERB_COMPLETE, true);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b31_a_raw_complete_that_was_refused_is_none(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *p = pivot(m);
    machine_raw_sent(&m->machine, VERB_COMPLETE);
    machine_raw_reply(&m->machine, VERB_COMPLETE, false);
    assert_waiting(p);
    feed(m, "~ready READY");
    assert_said(m, "complete READY");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b32_a_pivot_shares_a_raw_complete(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    machine_raw_sent(&m->machine, VERB_COMPLETE);
    machine_raw_reply(&m->machine, VERB_COMPLETE, true);
    forget_said(m);
    seat *p = pivot(m);
    assert_said(m, "");
    feed(m, END_OK);
    assert_answered(p, BJ_OK);
}

static void b32_nothing_is_sent_beside_a_raw_complete(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    machine_raw_sent(&m->machine, VERB_COMPLETE);
    forget_said(m);
    seat *p = pivot(m);
    assert_said(m, "");
    machine_raw_reply(&m->machine, VERB_COMPLETE, false);
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b15_a_cancel_after_another_clients_complete_is_a_pivot(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel " END_OK " switched");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

/* Nobody used the disk: nothing speaks against our cancel. */
static void c17_a_cancel_of_a_disk_that_nobody_uses_is_a_copy(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel " END_OK " unseen");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COPIED);
    assert_null(m->machine.text);
}

/* Its users are elsewhere: another client was at it, and may have completed it first. */
static void c17_a_cancel_of_a_disk_whose_users_are_elsewhere_is_unknown(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    feed(m, "+cancel " END_OK " neither");
    assert_answered(a, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_non_null(strstr(text_str(m->machine.text), "unknown"));
}

/* ------------------------------------------------------------------- commits */

static const struct machine_traits a_commit = {
    .is_commit = true, .has_graph = true, .has_status = true, .stall_ms = STALL_MS};

static void c13_a_commit_whose_ready_was_missed_is_looked_up(void **state)
{
    static const struct {
        const char *graph;
        bj_outcome outcome;
        bool has_text;
    } cases[] = {
        {"switched", BJ_OUTCOME_PIVOTED, false},       {"unswitched", BJ_OUTCOME_COPIED, false},
        {"intermediate", BJ_OUTCOME_COMPLETED, false}, {"neither", BJ_OUTCOME_COMPLETED, true},
        {"unseen", BJ_OUTCOME_COMPLETED, true},
    };
    static const char *const gaps[] = {"~created ~running disconnected @concluded", "=concluded"};
    fixture *m = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t gap = 0; gap < 2; gap++) {
            machine_clear(&m->machine);
            become(m, a_commit);
            m->outcome = BJ_OUTCOME_NONE;
            feed(m, gaps[gap]);
            assert_outcome(m, BJ_OUTCOME_NONE);
            feed(m, cases[i].graph);
            assert_outcome(m, cases[i].outcome);
            assert_int_equal(machine_text(&m->machine) != NULL, cases[i].has_text);
        }
}

static void c13_without_a_graph_a_commit_that_never_was_ready_is_completed(void **state)
{
    fixture *m = *state;
    struct machine_traits old_commit = a_commit;
    old_commit.has_graph = false;
    become(m, old_commit);
    feed(m, "~created ~running disconnected @concluded");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_null(m->machine.text);
}

static void c13_a_commit_that_was_seen_all_along_needs_no_graph(void **state)
{
    fixture *m = *state;
    become(m, a_commit);
    feed(m, "~created ~running disconnected @running " END_OK);
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

/* The list is older than the end, and the only one to show that it was ready. */
static void c13_a_list_after_the_end_shows_ready(void **state)
{
    fixture *m = *state;
    become(m, a_commit);
    feed(m, "~created ~running disconnected ~waiting ~pending COMPLETED ~concluded @ready");
    assert_outcome(m, BJ_OUTCOME_NONE);
    feed(m, "switched");
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

/* The list is older than the end; nothing more comes that could release it. */
static void c13_a_list_after_null_releases(void **state)
{
    fixture *m = *state;
    become(m, a_commit);
    feed(m, "~created ~running disconnected " END_OK " @running");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
    assert_true(machine_is(&m->machine, IS_RELEASED));
}

#define on_a_mirror(test) cmocka_unit_test_setup_teardown(test, mirror_setup, fixture_teardown)

/* C20: READY fell into the gap, and only a job that was ready can pivot. */
static void b09_a_job_that_pivoted_was_ready(void **state)
{
    fixture *m = *state;
    feed(m, "~created ~running");
    seat *waiting = ready(m);
    feed(m, "disconnected @concluded switched");
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
    assert_answered(waiting, BJ_OK);
    assert_answered(ready(m), BJ_OK);
}

/* C110: the reply to a caller's dismissal is none to ours, though the caller has left. */
static void b40_a_callers_dismissal_is_not_ours(void **state)
{
    fixture *m = *state;
    become(m, our_mirror);
    feed(m, TO_READY);
    leave(m, verb(m, VERB_DISMISS));
    pivot(m);
    feed(m, "+complete ~waiting ~pending COMPLETED ~concluded");
    forget_said(m);
    m->flying[VERB_DISMISS]--;
    machine_reply(&m->machine, VERB_DISMISS, NULL, &(struct verb_reply){.error = BJ_E_REFUSED});
    assert_said(m, "");
    feed(m, "+dismiss ~null");
    assert_said(m, "RELEASED");
}

/* C119: the refusal of a cancel that comes after the job was lost. */
static void b18_a_late_refusal_stalls_nothing(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY " ~standby");
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    machine_lost(&m->machine, BJ_E_CLOSED, "closed");
    assert_answered(a, BJ_E_CLOSED);
    forget_said(m);
    feed(m, "-cancel");
    assert_said(m, "");
    assert_string_equal(text_str(machine_text(&m->machine)), "closed");
}

/* C114: its id may be another run's by now. */
static void b39_a_run_that_waits_for_the_graph_sends_no_verbs(void **state)
{
    static const enum verb verbs[] = {VERB_PAUSE, VERB_RESUME, VERB_SET_SPEED, VERB_CHANGE,
                                      VERB_FINALIZE};
    fixture *m = *state;
    feed(m, TO_READY " COMPLETED");
    assert_true(m->graph_out);
    forget_said(m);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        assert_answered(verb(m, verbs[i]), BJ_E_STATE);
    assert_said(m, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_a_mirror(b45_waits_go_on_while_there_is_no_connection),
        on_a_mirror(b45_nothing_is_sent_without_a_connection),
        on_a_mirror(b45_a_verb_whose_reply_is_lost_is_answered),
        on_a_mirror(b46_concluded_while_away_has_its_outcome),
        on_a_mirror(b46_gone_while_away_is_lost),
        on_a_mirror(b46_an_end_that_was_seen_outlives_the_connection),
        on_a_mirror(b46_whether_a_switch_was_seen_to_happen_is_not_asked_of_another_qemu),
        on_a_mirror(b46_complete_is_sent_again_only_when_it_had_time_to_show),
        on_a_mirror(c113_an_end_that_is_heard_before_the_list_is_compared),
        on_a_mirror(c113_an_end_of_before_is_not_compared_with_another_qemus),
        on_a_mirror(b46_a_complete_that_shows_is_not_sent_again),
        on_a_mirror(b46_a_second_complete_that_might_end_qemu_is_not_sent),
        on_a_mirror(b46_a_cancel_is_sent_again),
        on_a_mirror(b46_a_cancel_is_not_repeated_where_that_does_harm),
        on_a_mirror(b46_the_same_id_running_again_is_another_run),
        on_a_mirror(b46_ours_is_dismissed_when_it_is_found_again),
        on_a_mirror(b46_a_row_that_is_older_than_an_event_makes_no_other_run),
        on_a_mirror(b28_a_row_that_is_older_than_an_end_changes_nothing),
        on_a_mirror(b28_a_row_that_is_older_than_a_stop_is_no_resume),
        on_a_mirror(b57_a_cancel_that_has_no_event_is_made_up),
        on_a_mirror(b57_the_same_words_with_an_event),
        on_a_mirror(b58_cancelled_by_another_client_without_an_event),
        on_a_mirror(b13_a_pause_without_an_event_is_found_out),
        on_a_mirror(b13_a_list_older_than_a_stop_resumes_nothing),
        on_a_mirror(b13_who_waits_for_the_end_is_told_when_a_cancel_is_refused),
        on_a_mirror(b13_a_force_that_does_not_end_it_is_sent_again),
        on_a_mirror(b28_a_list_older_than_null_brings_nothing_back),
        on_a_mirror(b46_statuses_with_a_gap_tell_no_end),
        on_a_mirror(b46_a_raw_complete_without_a_reply_stays_in_doubt),
        on_a_mirror(b40_a_dismissal_of_the_callers_releases_nothing_that_runs),
        on_a_mirror(b42_a_raw_cancel_before_pending_tells_a_soft_abort),
        on_a_mirror(b13_a_pause_that_is_over_before_its_reply_is_no_stall),
        on_a_mirror(b14_a_raw_complete_is_a_pivot),
        on_a_mirror(b31_a_raw_complete_that_was_refused_is_none),
        on_a_mirror(b32_a_pivot_shares_a_raw_complete),
        on_a_mirror(b32_nothing_is_sent_beside_a_raw_complete),
        on_a_mirror(b15_a_cancel_after_another_clients_complete_is_a_pivot),
        on_a_mirror(c13_a_commit_whose_ready_was_missed_is_looked_up),
        on_a_mirror(c13_a_commit_that_was_seen_all_along_needs_no_graph),
        on_a_mirror(c13_a_list_after_null_releases),
        on_a_mirror(c13_a_list_after_the_end_shows_ready),
        on_a_mirror(c13_without_a_graph_a_commit_that_never_was_ready_is_completed),
        on_a_mirror(c17_a_cancel_of_a_disk_that_nobody_uses_is_a_copy),
        on_a_mirror(c17_a_cancel_of_a_disk_whose_users_are_elsewhere_is_unknown),
        on_a_mirror(b09_a_job_that_pivoted_was_ready),
        on_a_mirror(b40_a_callers_dismissal_is_not_ours),
        on_a_mirror(b18_a_late_refusal_stalls_nothing),
        on_a_mirror(b39_a_run_that_waits_for_the_graph_sends_no_verbs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
