/* SPDX-License-Identifier: MIT */
/*
 * A thousand of everything leaves nothing behind: no fd, no thread, no heap.
 */
#include "counts.h"
#include "nodes.h"

#define ROUNDS 1000

/* What the C library's allocator may hold on to, whatever was freed: arenas, caches of its own, and
 * what the first use of something costs for good. A leak of 100 bytes a round would be 100,000. */
#define HEAP_TOLERANCE (64 * 1024)

typedef struct holdings {
    int fds;
    int threads;
    size_t heap;
} holdings;

static holdings hold_now(void)
{
    return (holdings){count_fds(), count_threads(), count_heap()};
}

static void assert_no_growth(holdings before)
{
    holdings now = hold_now();
    assert_int_equal(now.fds, before.fds);
    assert_int_equal(now.threads, before.threads);
    if (now.heap > before.heap + HEAP_TOLERANCE)
        fail_msg("the heap grew from %zu to %zu bytes", before.heap, now.heap);
}

static void connect_and_close(world *w, const char *uri)
{
    bj_future *connected = bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_NONE);
    answers(connected, BJ_OK);
    bj_monitor *monitor = bj_future_monitor(connected);
    bj_future *closed = bj_monitor_closed(monitor);
    bj_monitor_close(monitor);
    answers(closed, BJ_E_CLOSED);
    bj_future_unref(closed);
    bj_future_unref(connected);
    bj_monitor_unref(monitor);
}

static void b75_a_thousand_connections_leave_nothing(void **state)
{
    world *w = *state;
    const char *uri = path_of(w, "second.qmp");
    for (int i = 0; i < 20; i++)
        connect_and_close(w, uri);

    holdings before = hold_now();
    for (int i = 0; i < ROUNDS; i++)
        connect_and_close(w, uri);
    assert_no_growth(before);
}

static void start_and_abort(world *w)
{
    bj_future *started =
        bj_monitor_mirror(w->monitor, "disk", "copy", "full", NULL, BJ_TIMEOUT_NONE);
    bj_job *job = bj_future_job(answers(started, BJ_OK));
    bj_watch *watch;
    assert_int_equal(bj_job_watch(job, 0, &watch), BJ_OK);
    bj_future *ready = bj_job_ready(job, BJ_TIMEOUT_NONE);
    bj_future *abort = bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE);
    bj_future *released = bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE);

    answers(abort, BJ_OK);
    answers(released, BJ_OK);
    bj_future_unref(released);
    bj_future_unref(abort);
    bj_future_unref(ready);
    bj_watch_unref(watch);
    bj_job_unref(job);
    bj_future_unref(started);
}

static void b75_a_thousand_jobs_leave_nothing(void **state)
{
    world *w = *state;
    add_null(w, "disk", 1024 * 1024);
    add_null(w, "copy", 1024 * 1024);
    for (int i = 0; i < 20; i++)
        start_and_abort(w);

    holdings before = hold_now();
    for (int i = 0; i < ROUNDS; i++)
        start_and_abort(w);
    assert_no_growth(before);
    assert_int_equal(count_jobs(w), 0);
}

static void b75_a_hundred_contexts_leave_nothing(void **state)
{
    world *w = *state;
    bj_ctx *ctx;
    holdings before = hold_now();
    for (int i = 0; i < 100; i++) {
        assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
        bj_future *refused = bj_monitor_connect(ctx, path_of(w, "nobody.sock"), BJ_TIMEOUT_NONE);
        answers(refused, BJ_E_CONNECT);
        bj_future_unref(refused);
        assert_null(bj_ctx_unref(ctx));
    }
    assert_no_growth(before);
}

static void b75_a_kept_job_keeps_no_fds(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    int threads = count_threads();

    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);

    assert_int_equal(count_fds(), w->fds);
    assert_int_equal(count_threads(), threads - 1);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(b75_a_thousand_connections_leave_nothing, world_daemon,
                                        world_end),
        cmocka_unit_test_setup_teardown(b75_a_thousand_jobs_leave_nothing, world_daemon, world_end),
        ALONE_TEST(b75_a_hundred_contexts_leave_nothing),
        cmocka_unit_test_setup_teardown(b75_a_kept_job_keeps_no_fds, world_daemon, world_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
