/* SPDX-License-Identifier: MIT */
/*
 * A libvirtd that is reached by tcp and by tls: jobs, a daemon that dies, and one that is there and
 * never answers.
 */
#include "libvirt.h"

static bj_job *halted_copy(world *w)
{
    return mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
}

static void copy_and_pivot(world *w, const char *uri)
{
    (void)uri;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

static void lose_the_daemon(world *w, const char *uri)
{
    bj_job *job = halted_copy(w);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    kill_libvirtd();

    answers(closed, BJ_E_DISCONNECTED);
    ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_E_DISCONNECTED);
    expect(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_NONE), BJ_E_CONNECT);
    start_libvirtd();
}

static void meet_deadlines(world *w, const char *uri)
{
    enum { SHORT_MS = 50 };
    bj_job *job = halted_copy(w);

    signal_libvirtd("STOP");
    expect(w, bj_job_set_speed(job, 0, SHORT_MS), BJ_E_TIMEOUT);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, SHORT_MS), BJ_E_TIMEOUT);
    expect(w, bj_monitor_list(w->monitor, SHORT_MS), BJ_E_TIMEOUT);
    expect(w, bj_monitor_connect(w->ctx, uri, SHORT_MS), BJ_E_TIMEOUT);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    signal_libvirtd("CONT");

    /* What was sent is not taken back: the speed may be set already. */
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void lose_a_daemon_that_hangs(world *w, const char *uri)
{
    bj_job *job = halted_copy(w);

    signal_libvirtd("STOP");
    bj_future *speed = hold(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE));
    bj_future *late = hold(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_NONE));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(speed, 50), BJ_E_TIMEOUT);
    kill_libvirtd();

    answers(speed, BJ_E_JOB_LOST);
    answers(late, BJ_E_CONNECT);
    ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    start_libvirtd();
}

/* The test on the world's domain, by that transport. */
#define BY(transport, name, play)                                                                  \
    static void name##_by_##transport(void **state)                                                \
    {                                                                                              \
        world *w = *state;                                                                         \
        const char *lack;                                                                          \
        const char *uri = remote_uri(w, #transport, &lack);                                        \
        if (!uri)                                                                                  \
            skip_because(lack);                                                                    \
        w->monitor = connect_to(w, uri);                                                           \
        play(w, uri);                                                                              \
    }

BY(tcp, b64_a_pivot, copy_and_pivot)
BY(tls, b64_a_pivot, copy_and_pivot)
BY(tcp, b45_a_killed_libvirtd, lose_the_daemon)
BY(tls, b45_a_killed_libvirtd, lose_the_daemon)
BY(tcp, b47_a_libvirtd_that_hangs_is_met_by_deadlines, meet_deadlines)
BY(tls, b47_a_libvirtd_that_hangs_is_met_by_deadlines, meet_deadlines)
BY(tcp, b45_a_libvirtd_that_hangs_and_dies, lose_a_daemon_that_hangs)
BY(tls, b45_a_libvirtd_that_hangs_and_dies, lose_a_daemon_that_hangs)

int main(void)
{
    /* By transport: each change starts the daemon again. */
    const struct CMUnitTest tests[] = {
        UNCONNECTED_DOMAIN_TEST(b64_a_pivot_by_tcp),
        UNCONNECTED_DOMAIN_TEST(b47_a_libvirtd_that_hangs_is_met_by_deadlines_by_tcp),
        UNCONNECTED_DOMAIN_TEST(b45_a_killed_libvirtd_by_tcp),
        UNCONNECTED_DOMAIN_TEST(b45_a_libvirtd_that_hangs_and_dies_by_tcp),
        UNCONNECTED_DOMAIN_TEST(b64_a_pivot_by_tls),
        UNCONNECTED_DOMAIN_TEST(b47_a_libvirtd_that_hangs_is_met_by_deadlines_by_tls),
        UNCONNECTED_DOMAIN_TEST(b45_a_killed_libvirtd_by_tls),
        UNCONNECTED_DOMAIN_TEST(b45_a_libvirtd_that_hangs_and_dies_by_tls),
    };
    return run_on_libvirt(tests);
}
