/* SPDX-License-Identifier: MIT */
/*
 * A context on the program's own libev loop: no thread, callbacks out of ev_run(), and an ev_run()
 * that returns when nothing is pending.
 */
#include "counts.h"
#include "fake.h"

#include <blockjob/ev.h>
#include <pthread.h>

/* A context on a loop of this test, in place of the world's. */
static struct ev_loop *own_loop(world *w)
{
    bj_ctx_close(w->ctx);
    w->ctx = bj_ctx_unref(w->ctx);
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    assert_non_null(loop);
    assert_int_equal(bj_ctx_new_on_loop(loop, &w->ctx), BJ_OK);
    return loop;
}

static void end_loop(world *w, struct ev_loop *loop)
{
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    w->ctx = bj_ctx_unref(w->ctx);
    ev_loop_destroy(loop);
}

typedef struct story {
    world *w;
    bj_monitor *monitor;
    bj_job *job;
    bj_outcome outcome;
    int frees;
    pthread_t thread;
} story;

static void on_free(void *user)
{
    story *s = user;
    s->frees++;
}

static void then(story *s, bj_future *future, void (*fn)(bj_future *future, void *user))
{
    bj_future_on_done(future, (bj_closure){.fn = fn, .user = s, .free = on_free});
    bj_future_unref(future);
}

static void on_pivoted(bj_future *future, void *user)
{
    story *s = user;
    s->outcome = bj_future_outcome(future);
    s->thread = pthread_self();
    s->job = bj_job_unref(s->job);
    s->monitor = bj_monitor_unref(s->monitor);
}

static void on_started(bj_future *future, void *user)
{
    story *s = user;
    s->job = bj_future_job(future);
    then(s, bj_job_pivot(s->job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), on_pivoted);
}

static void on_connected(bj_future *future, void *user)
{
    story *s = user;
    s->monitor = bj_future_monitor(future);
    then(s, bj_monitor_mirror(s->monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE),
         on_started);
}

static void a_job_is_pivoted_without_a_thread(void **state)
{
    world *w = *state;
    struct ev_loop *loop = own_loop(w);
    int threads = count_threads();
    story s = {.w = w};
    step(w, JSON({"do": "when", "command": "blockdev-mirror", "at": "replied",
                  "steps": [{"do": "ready"}]}));

    then(&s, bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_DEFAULT), on_connected);
    assert_int_equal(s.frees, 0);
    /* Returns by itself: the last callback closes the monitor, and then nothing is pending. */
    ev_run(loop, 0);

    assert_int_equal(s.outcome, BJ_OUTCOME_PIVOTED);
    assert_int_equal(s.frees, 3);
    assert_true(pthread_equal(s.thread, pthread_self()));
    assert_int_equal(count_threads(), threads);
    end_loop(w, loop);
}

static void ev_run_returns_at_once_when_nothing_is_pending(void **state)
{
    world *w = *state;
    struct ev_loop *loop = own_loop(w);
    assert_false(ev_run(loop, 0));
    assert_false(ev_run(loop, EVRUN_NOWAIT));
    end_loop(w, loop);
}

static void close_answers_what_is_pending_inside(void **state)
{
    world *w = *state;
    struct ev_loop *loop = own_loop(w);
    story s = {.w = w};
    step(w, JSON({"do": "greeting", "send": "never"}));
    bj_future *connecting = hold(w, bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE));
    then(&s, bj_future_ref(connecting), on_pivoted);
    ev_run(loop, EVRUN_NOWAIT);

    end_loop(w, loop);
    assert_int_equal(bj_future_error(connecting), BJ_E_CLOSED);
    assert_int_equal(s.frees, 1);
    assert_true(pthread_equal(s.thread, pthread_self()));
}

static void b72_blocking_on_it_is_a_deadlock(void **state)
{
    world *w = *state;
    struct ev_loop *loop = own_loop(w);
    bj_future *connecting = hold(w, bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE));
    ev_run(loop, EVRUN_NOWAIT);
    assert_int_equal(bj_future_wait(connecting, BJ_TIMEOUT_NONE), BJ_E_DEADLOCK);
    end_loop(w, loop);
}

static void *connect_from_here(void *user)
{
    story *s = user;
    then(s, bj_monitor_connect(s->w->ctx, fake_path(s->w), BJ_TIMEOUT_DEFAULT), on_connected);
    return NULL;
}

static void another_thread_may_call(void **state)
{
    world *w = *state;
    struct ev_loop *loop = own_loop(w);
    story s = {.w = w};
    pthread_t thread;
    step(w, JSON({"do": "when", "command": "blockdev-mirror", "at": "replied",
                  "steps": [{"do": "ready"}]}));
    assert_int_equal(pthread_create(&thread, NULL, connect_from_here, &s), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);

    ev_run(loop, 0);
    assert_int_equal(s.outcome, BJ_OUTCOME_PIVOTED);
    end_loop(w, loop);
}

static void the_last_reference_closes(void **state)
{
    world *w = *state;
    struct ev_loop *loop = own_loop(w);
    bj_future *connecting = hold(w, bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE));
    w->ctx = bj_ctx_unref(w->ctx);
    ev_run(loop, 0);
    assert_int_equal(bj_future_error(connecting), BJ_E_CLOSED);
    ev_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(a_job_is_pivoted_without_a_thread),
        UNCONNECTED_TEST(another_thread_may_call),
        UNCONNECTED_TEST(b72_blocking_on_it_is_a_deadlock),
        UNCONNECTED_TEST(close_answers_what_is_pending_inside),
        UNCONNECTED_TEST(ev_run_returns_at_once_when_nothing_is_pending),
        UNCONNECTED_TEST(the_last_reference_closes),
    };
    return run_on_fake(tests);
}
