/* SPDX-License-Identifier: MIT */
/*
 * A domain that stops and is started again, under a monitor that is to connect again.
 */
#include "libvirt.h"
#include "records.h"

/* With a persistent domain; the monitor comes back, without limit. */
static int world_that_returns(void **state)
{
    world_alone(state);
    world *w = *state;
    w->domain = add_persistent_domain(w);
    w->monitor = connect_to(w, w->domain->uri);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    return 0;
}

static bj_job *halted_copy(world *w, const char *name)
{
    return mirror(w, "vda", empty_image(w, name),
                  JSON({"reuse": true, "format": "qcow2", "bandwidth": 1, "buf-size": 65536,
                        "transient": true}));
}

static bj_future *done_of(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
}

static void is_away(world *w, bj_watch *watch)
{
    assert_string_equal(news(w, watch, BJ_RECORD_DISCONNECTED), "DISCONNECTED");
}

static void is_back(world *w, bj_watch *watch, const char *copy)
{
    assert_string_equal(news(w, watch, BJ_RECORD_RECONNECTED), "RECONNECTED");
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
    bj_job *job = halted_copy(w, copy);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, copy));
}

static void is_over(bj_future *closed, const char *why)
{
    names(answers(closed, BJ_E_DISCONNECTED), why);
}

/* Who waits for a job is not kept until the domain is started: with its QEMU the job is gone. */
static void w08_a_domain_that_is_started_again(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    bj_job *job = halted_copy(w, "first");
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    destroy_domain(w->domain);
    is_away(w, watch);
    names(ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST), "destroyed");
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_E_DISCONNECTED);

    begin_domain(w->domain);
    is_back(w, watch, "second");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_LOST);
}

static void w08_what_is_known_of_a_job_stays_known(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    bj_job *job = halted_copy(w, "first");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    destroy_domain(w->domain);
    is_away(w, watch);
    begin_domain(w->domain);
    is_back(w, watch, "second");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void w08_who_watches_all_jobs_hears_of_both(void **state)
{
    world *w = *state;
    halted_copy(w, "first");
    bj_watch *jobs = watch_jobs(w, 0);
    kill_domain(w->domain);
    assert_string_equal(news(w, jobs, BJ_RECORD_DISCONNECTED), "APPEARED DISCONNECTED");
    assert_string_equal(news(w, jobs, BJ_RECORD_ENDED), "ENDED");
    begin_domain(w->domain);
    news(w, jobs, BJ_RECORD_RECONNECTED);
    halted_copy(w, "second");
    assert_string_equal(news(w, jobs, BJ_RECORD_APPEARED), "APPEARED");
}

/* The number that libvirt gives it may be the one that it had: it is another QEMU all the same. */
static void w08_it_stops_while_libvirtd_is_away(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    bj_future *done = done_of(w, halted_copy(w, "first"));
    kill_libvirtd();
    is_away(w, watch);
    kill_domain(w->domain);
    start_libvirtd();
    names(ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST), "not running");
    begin_domain(w->domain);
    is_back(w, watch, "second");
}

static void w08_libvirtd_dies_while_it_is_waited_for(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    destroy_domain(w->domain);
    is_away(w, watch);
    for (int i = 0; i < 2; i++) {
        kill_libvirtd();
        start_libvirtd();
    }
    begin_domain(w->domain);
    is_back(w, watch, "first");
}

static void w08_other_domains_meanwhile(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    destroy_domain(w->domain);
    is_away(w, watch);
    their_copy(add_domain(w), "theirs", false);
    begin_domain(w->domain);
    is_back(w, watch, "first");
}

/* False: the domain had been stopped before. */
static bool copies(world *w)
{
    const char *options = JSON({"reuse": true, "format": "qcow2", "transient": true});
    bj_future *started = bj_monitor_mirror(w->monitor, "vda", empty_image(w, "copy"), "full",
                                           options, BJ_TIMEOUT_NONE);
    bj_future_wait(started, BJ_TIMEOUT_NONE);
    bj_job *job = bj_future_job(started);
    bj_future_unref(started);
    if (!job)
        return false;
    bj_future *pivot = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
    bj_future_wait(pivot, BJ_TIMEOUT_NONE);
    bool is_pivoted = bj_future_outcome(pivot) == BJ_OUTCOME_PIVOTED;
    if (!is_pivoted)
        assert_int_equal(bj_future_outcome(pivot), BJ_OUTCOME_LOST);
    bj_future_unref(pivot);
    bj_job_unref(job);
    return is_pivoted;
}

static void w08_it_is_started_and_stopped_meanwhile(void **state)
{
    enum { TIMES = 3 };
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    destroy_domain(w->domain);
    is_away(w, watch);
    for (int i = 0; i < TIMES; i++) {
        begin_domain(w->domain);
        destroy_domain(w->domain);
    }
    begin_domain(w->domain);
    /* It may have come back to each of them, and be about to hear of its end. */
    news(w, watch, BJ_RECORD_RECONNECTED);
    while (!copies(w))
        continue;
}

static void w08_another_domain_of_that_name(void **state)
{
    world *w = *state;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    bj_watch *watch = watch_monitor(w);
    bj_future *pivot =
        hold(w, bj_job_pivot(halted_copy(w, "first"), BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    destroy_domain(w->domain);
    is_away(w, watch);
    virsh(w, text_of(w, "undefine %s", w->domain->name));
    domain *other = add_domain_named(w, w->domain->name);
    their_copy(other, "theirs", false);
    await_mirror(other, "vda", "ready");

    is_over(closed, "no domain with matching uuid");
    ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    assert_string_equal(mirror_of(w, other, "vda"), "ready");
}

static void w08_it_is_undefined_while_it_is_waited_for(void **state)
{
    world *w = *state;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    destroy_domain(w->domain);
    /* As long as that takes, it is seen to wait. */
    assert_int_equal(bj_future_wait(closed, 1000), BJ_E_TIMEOUT);
    virsh(w, text_of(w, "undefine %s", w->domain->name));
    is_over(closed, "no domain with matching uuid");
}

static void w08_a_transient_domain_that_is_gone_is_gone(void **state)
{
    world *w = *state;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    virsh(w, text_of(w, "undefine %s", w->domain->name)); /* it runs on, as a transient one */
    bj_watch *watch = watch_monitor(w);
    destroy_domain(w->domain);
    is_over(closed, "destroyed");
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "CLOSED");
}

static void w08_a_domain_that_nobody_starts(void **state)
{
    enum { SHORT_MS = 300 };
    world *w = *state;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, SHORT_MS), BJ_OK);
    destroy_domain(w->domain);
    is_over(closed, "not started again");
}

static void w08_nobody_wants_it_back_any_more(void **state)
{
    world *w = *state;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    destroy_domain(w->domain);
    assert_int_equal(bj_future_wait(closed, 1000), BJ_E_TIMEOUT);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, 0), BJ_OK);
    is_over(closed, "not started again");
}

static void w08_it_is_not_waited_for_where_nobody_asked(void **state)
{
    world *w = *state;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, 0), BJ_OK);
    destroy_domain(w->domain);
    is_over(closed, "destroyed");
}

static void w08_the_monitor_is_closed_while_it_waits(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    destroy_domain(w->domain);
    is_away(w, watch);
    assert_int_equal(bj_future_wait(closed, 1000), BJ_E_TIMEOUT);
    bj_monitor_close(w->monitor);
    answers(closed, BJ_E_CLOSED);
}

static void w08_a_reader_waits_for_it(void **state)
{
    world *w = *state;
    w->monitor = connect_to(w, text_of(w, "%s?readonly", w->domain->uri));
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    destroy_domain(w->domain);
    is_away(w, watch);
    begin_domain(w->domain);
    assert_string_equal(news(w, watch, BJ_RECORD_RECONNECTED), "RECONNECTED");
    names(expect(w,
                 bj_monitor_mirror(w->monitor, "vda", image_path(w, "copy"), "full", NULL,
                                   BJ_TIMEOUT_NONE),
                 BJ_E_REFUSED),
          "read only");
}

#define RETURN_TEST(name) cmocka_unit_test_setup_teardown(name, world_that_returns, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RETURN_TEST(w08_a_domain_that_is_started_again),
        RETURN_TEST(w08_what_is_known_of_a_job_stays_known),
        RETURN_TEST(w08_who_watches_all_jobs_hears_of_both),
        RETURN_TEST(w08_other_domains_meanwhile),
        RETURN_TEST(w08_it_is_started_and_stopped_meanwhile),
        RETURN_TEST(w08_another_domain_of_that_name),
        RETURN_TEST(w08_it_is_undefined_while_it_is_waited_for),
        RETURN_TEST(w08_a_transient_domain_that_is_gone_is_gone),
        RETURN_TEST(w08_a_domain_that_nobody_starts),
        RETURN_TEST(w08_nobody_wants_it_back_any_more),
        RETURN_TEST(w08_it_is_not_waited_for_where_nobody_asked),
        RETURN_TEST(w08_the_monitor_is_closed_while_it_waits),
        RETURN_TEST(w08_a_reader_waits_for_it),
        RETURN_TEST(w08_it_stops_while_libvirtd_is_away),
        RETURN_TEST(w08_libvirtd_dies_while_it_is_waited_for),
    };
    return run_on_libvirt(tests);
}
