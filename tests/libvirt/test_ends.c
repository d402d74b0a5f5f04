/* SPDX-License-Identifier: MIT */
/*
 * QEMU dies, the domain is destroyed, libvirtd goes and comes back: no block event says so, and
 * nobody waits in vain.
 */
#include "libvirt.h"
#include "records.h"

/* The waits of every kind on one job, and on its monitor. */
typedef struct waits {
    bj_future *ready, *done, *released, *pivot, *closed;
    bj_watch *of_job, *of_monitor;
} waits;

static waits wait_for_everything(world *w, bj_job *job)
{
    return (waits){
        .of_job = watch_job(w, job, 0),
        .of_monitor = watch_monitor(w),
        .closed = hold(w, bj_monitor_closed(w->monitor)),
        .ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE)),
        .done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE)),
        .released = hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE)),
        .pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)),
    };
}

static void all_are_lost(world *w, bj_job *job, waits all)
{
    ends(all.ready, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    assert_int_equal(bj_future_cause(all.done), BJ_E_DISCONNECTED);
    ends(all.released, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    answers(all.closed, BJ_E_DISCONNECTED);
    assert_string_not_equal(bj_future_text(all.done), "");

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_LOST);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, 0), BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_job_query(job, BJ_TIMEOUT_DEFAULT), BJ_E_DISCONNECTED);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_E_DISCONNECTED);
    expect(w, bj_monitor_mirror(w->monitor, "vdb", "/none", "full", NULL, BJ_TIMEOUT_DEFAULT),
           BJ_E_DISCONNECTED);

    assert_string_equal(news(w, all.of_job, BJ_RECORD_ENDED), "ENDED");
    assert_int_equal(next_record(all.of_job)->kind, BJ_RECORD_CLOSED);
    assert_string_equal(news(w, all.of_monitor, BJ_RECORD_CLOSED), "CLOSED");
}

static bj_job *halted_copy(world *w)
{
    return mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
}

static bj_job *ready_copy(world *w)
{
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    return job;
}

static void b65_a_killed_qemu_answers_every_wait(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w);
    waits all = wait_for_everything(w, job);

    kill_domain(w->domain);

    all_are_lost(w, job, all);
    names(all.closed, w->domain->name);
}

static void b65_a_destroyed_domain_answers_every_wait(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w);
    waits all = wait_for_everything(w, job);

    destroy_domain(w->domain);

    all_are_lost(w, job, all);
    names(all.closed, w->domain->name);
}

static void b65_a_ready_copy_is_lost_with_its_qemu(void **state)
{
    world *w = *state;
    bj_job *job = ready_copy(w);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    kill_domain(w->domain);

    /* QEMU was killed: it can't have said anything. */
    ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_job_ready(job, 0), BJ_OK);
}

static void b10_a_pivot_under_way_when_qemu_dies_is_lost(void **state)
{
    world *w = *state;
    bj_job *job = ready_copy(w);
    stop_domain(w->domain);
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(pivot, 50), BJ_E_TIMEOUT);

    kill_domain(w->domain);

    ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

static void b03_an_outcome_survives_the_domain(void **state)
{
    world *w = *state;
    bj_job *job = ready_copy(w);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    kill_domain(w->domain);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b65_other_domains_go_on(void **state)
{
    world *w = *state;
    domain *other = add_domain(w);
    bj_monitor *monitor = connect_to(w, other->uri);
    bj_job *job = halted_copy(w);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    kill_domain(other);
    expect(w, bj_monitor_closed(monitor), BJ_E_DISCONNECTED);

    assert_false(bj_future_is_done(done));
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* -------------------------------------------------------------- stuck domains */

static void b48_a_stopped_qemu_is_met_by_deadlines(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w);
    stop_domain(w->domain);

    bj_future *query = hold(w, bj_job_query(job, 50));
    bj_future *speed = hold(w, bj_job_set_speed(job, 0, 50));
    bj_future *list = hold(w, bj_monitor_list(w->monitor, 50));
    bj_future *abort = hold(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, 50));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, 50));
    answers(query, BJ_E_TIMEOUT);
    answers(speed, BJ_E_TIMEOUT);
    answers(list, BJ_E_TIMEOUT);
    answers(abort, BJ_E_TIMEOUT);
    answers(done, BJ_E_TIMEOUT);

    /* It goes on as if nothing had been; an abort that was sent may be carried out now. */
    go_on_domain(w->domain);
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    bj_outcome outcome = bj_job_outcome(job);
    assert_true(outcome == BJ_OUTCOME_CANCELLED || outcome == BJ_OUTCOME_COPIED);
}

static void b67_a_stuck_domain_delays_no_other(void **state)
{
    world *w = *state;
    domain *others[5];
    bj_monitor *monitors[5];
    for (int i = 0; i < 5; i++) {
        others[i] = add_domain(w);
        monitors[i] = connect_to(w, others[i]->uri);
    }
    bj_job *job = halted_copy(w);
    bj_future *stuck[16];
    stop_domain(w->domain);
    for (int i = 0; i < 4; i++)
        stop_domain(others[i]);
    for (int i = 0; i < 16; i++) {
        bj_monitor *of = i % 5 ? monitors[i % 5 - 1] : w->monitor;
        stuck[i] = hold(w, bj_monitor_list(of, BJ_TIMEOUT_NONE));
    }
    bj_future *query = hold(w, bj_job_query(job, BJ_TIMEOUT_NONE));

    /* The fifth does all there is to do. */
    bj_monitor *first = w->monitor;
    w->monitor = monitors[4];
    for (int round = 0; round < 3; round++) {
        const char *name = text_of(w, "free%d", round);
        bj_job *free_job = mirror(w, "vda", empty_image(w, name), REUSE);
        expect_end(w, bj_job_pivot(free_job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
                   BJ_OUTCOME_PIVOTED);
    }
    w->monitor = first;
    assert_false(bj_future_is_done(query));

    go_on_domain(w->domain);
    for (int i = 0; i < 4; i++)
        go_on_domain(others[i]);
    for (int i = 0; i < 16; i++)
        answers(stuck[i], BJ_OK);
    answers(query, BJ_OK);
}

static void b67_a_stuck_domain_does_not_keep_the_context(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w);
    stop_domain(w->domain);
    bj_future *query = hold(w, bj_job_query(job, BJ_TIMEOUT_NONE));
    bj_future *abort = hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));

    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);

    answers(query, BJ_E_CLOSED);
    assert_int_not_equal(bj_future_error(abort), BJ_E_PENDING);
    kill_domain(w->domain);
}

/* ------------------------------------------------------------------- libvirtd */

static void b45_a_killed_libvirtd_answers_every_wait(void **state)
{
    world *w = *state;
    bj_job *job = halted_copy(w);
    waits all = wait_for_everything(w, job);

    kill_libvirtd();

    all_are_lost(w, job, all);
    start_libvirtd();
}

static void b70_a_restart_of_libvirtd_is_waited_through(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = halted_copy(w);
    bj_watch *watch = watch_monitor(w);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    kill_libvirtd();
    start_libvirtd();
    assert_string_equal(news(w, watch, BJ_RECORD_RECONNECTED), "DISCONNECTED RECONNECTED");

    assert_false(bj_future_is_done(ready));
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    answers(ready, BJ_OK);
    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

static void b70_ready_while_libvirtd_was_away(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = halted_copy(w);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_watch *watch = watch_monitor(w);

    stop_libvirtd();
    assert_string_equal(news(w, watch, BJ_RECORD_DISCONNECTED), "DISCONNECTED");
    start_libvirtd();
    their_verb(w->domain, "vda", "release");

    answers(ready, BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b46_over_while_libvirtd_was_away_is_no_success(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = ready_copy(w);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    bj_watch *watch = watch_monitor(w);

    /* QEMU ends without anyone who could have heard of it. */
    kill_libvirtd();
    assert_string_equal(news(w, watch, BJ_RECORD_DISCONNECTED), "DISCONNECTED");
    kill_domain(w->domain);
    start_libvirtd();

    ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);
}

static void b70_reconnecting_is_given_up(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, 200), BJ_OK);
    bj_job *job = halted_copy(w);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    kill_libvirtd();

    ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);
    start_libvirtd();
}

static void b70_a_new_monitor_finds_the_job(void **state)
{
    world *w = *state;
    halted_copy(w);
    kill_libvirtd();
    expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);
    start_libvirtd();

    w->monitor = connect_to(w, w->domain->uri);
    bj_job *job = attach(w, "vda");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(b03_an_outcome_survives_the_domain),
        DOMAIN_TEST(b10_a_pivot_under_way_when_qemu_dies_is_lost),
        DOMAIN_TEST(b45_a_killed_libvirtd_answers_every_wait),
        DOMAIN_TEST(b46_over_while_libvirtd_was_away_is_no_success),
        DOMAIN_TEST(b48_a_stopped_qemu_is_met_by_deadlines),
        DOMAIN_TEST(b65_a_destroyed_domain_answers_every_wait),
        DOMAIN_TEST(b65_a_killed_qemu_answers_every_wait),
        DOMAIN_TEST(b65_a_ready_copy_is_lost_with_its_qemu),
        DOMAIN_TEST(b65_other_domains_go_on),
        DOMAIN_TEST(b67_a_stuck_domain_delays_no_other),
        DOMAIN_TEST(b67_a_stuck_domain_does_not_keep_the_context),
        DOMAIN_TEST(b70_a_new_monitor_finds_the_job),
        DOMAIN_TEST(b70_a_restart_of_libvirtd_is_waited_through),
        DOMAIN_TEST(b70_ready_while_libvirtd_was_away),
        DOMAIN_TEST(b70_reconnecting_is_given_up),
    };
    return run_on_libvirt(tests);
}
