/* SPDX-License-Identifier: MIT */
/*
 * Futures and their callbacks: exactly once, on the loop's thread, never inline; waits, deadlines
 * and cancelling.
 */
#include "fake.h"
#include "tally.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

/* A command whose reply is held back until release(). */
static bj_future *held_command(world *w)
{
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *future = hold(w, bj_monitor_execute(w->monitor, "query-status", NULL, -1));
    await_sent(w, "query-status");
    return future;
}

static void release(world *w)
{
    step(w, JSON({"do": "release"}));
}

static void b71_a_callback_runs_once_then_its_free(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *future = held_command(w);
    assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_OK);

    release(w);
    answers(future, BJ_OK);
    tally_await(&t, 1, 1);
    assert_int_equal(t.error, BJ_OK);
}

static void b71_a_callback_on_a_done_future_runs_too(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *future = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);

    for (int i = 1; i <= 100; i++)
        assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_OK);
    tally_await(&t, 100, 100);
}

static void b71_many_callbacks_each_run_once(void **state)
{
    world *w = *state;
    tally many[50];
    bj_future *future = held_command(w);
    for (int i = 0; i < 50; i++) {
        many[i] = (tally)TALLY_INIT;
        assert_int_equal(bj_future_on_done(future, tally_closure(&many[i])), BJ_OK);
    }

    release(w);
    for (int i = 0; i < 50; i++)
        tally_await(&many[i], 1, 1);
}

static void b71_a_registration_that_fails_frees(void **state)
{
    (void)state;
    tally t = TALLY_INIT;
    bj_closure closure = tally_closure(&t);
    assert_int_equal(bj_future_on_done(NULL, closure), BJ_E_INVAL);
    assert_int_equal(t.calls, 0);
    assert_int_equal(t.frees, 1);
}

static void b71_a_closure_without_fn_is_refused_and_freed(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_closure closure = tally_closure(&t);
    closure.fn = NULL;
    bj_future *future = held_command(w);

    assert_int_equal(bj_future_on_done(future, closure), BJ_E_INVAL);
    pthread_mutex_lock(&t.mutex);
    while (t.frees < 1)
        pthread_cond_wait(&t.changed, &t.mutex);
    pthread_mutex_unlock(&t.mutex);
    assert_int_equal(t.calls, 0);
    release(w);
}

static void b71_a_callback_keeps_its_future_alive(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *future = bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_OK);
    bj_future_unref(future);

    await_sent(w, "query-status");
    release(w);
    tally_await(&t, 1, 1);
    assert_int_equal(t.error, BJ_OK);
}

static void b71_a_failed_call_calls_back_too(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *future = expect(w, bj_monitor_execute(w->monitor, NULL, NULL, 0), BJ_E_INVAL);
    assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_OK);

    tally_await(&t, 1, 1);
    assert_int_equal(t.error, BJ_E_INVAL);
}

static void b71_none_is_owed_after_close(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *future = held_command(w);
    for (int i = 0; i < 10; i++)
        assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_OK);

    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    /* No waiting: when close has returned, they have run. */
    assert_int_equal(t.calls, 10);
    assert_int_equal(t.frees, 10);
    assert_int_equal(t.error, BJ_E_CLOSED);
}

static void b71_registering_after_close_still_frees(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *future = held_command(w);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);

    /* The loop is gone: nothing may run, and the closure is the caller's no more. */
    assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_E_CLOSED);
    assert_int_equal(t.calls, 0);
    assert_int_equal(t.frees, 1);
}

static void pending_is_an_error_of_its_own(void **state)
{
    world *w = *state;
    bj_future *future = held_command(w);

    assert_false(bj_future_is_done(future));
    assert_int_equal(bj_future_error(future), BJ_E_PENDING);
    assert_string_equal(bj_future_error_class(future), "");
    assert_null(bj_future_json(future));
    assert_null(bj_future_job(future));
    assert_int_equal(bj_future_info_count(future), 0);
    release(w);
    answers(future, BJ_OK);
}

static void b06_a_wait_that_times_out_leaves_the_future(void **state)
{
    world *w = *state;
    bj_future *future = held_command(w);

    assert_int_equal(bj_future_wait(future, 0), BJ_E_TIMEOUT);
    assert_int_equal(bj_future_wait(future, 10), BJ_E_TIMEOUT);
    assert_int_equal(bj_future_error(future), BJ_E_PENDING);
    release(w);
    assert_int_equal(bj_future_wait(future, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_wait(future, 0), BJ_OK);
    answers(future, BJ_OK);
}

static void b07_cancel_answers_at_once_and_only_once(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *future = held_command(w);
    assert_int_equal(bj_future_on_done(future, tally_closure(&t)), BJ_OK);

    bj_future_cancel(future);
    bj_future_cancel(future);
    assert_int_equal(bj_future_error(future), BJ_E_CANCELLED);
    assert_string_not_equal(bj_future_text(future), "");
    release(w);
    tally_await(&t, 1, 1);
    assert_int_equal(t.error, BJ_E_CANCELLED);
}

static void b07_cancelling_what_is_done_changes_nothing(void **state)
{
    world *w = *state;
    bj_future *future = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future_cancel(future);
    answers(future, BJ_OK);
}

static void b07_the_last_reference_cancels(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);

    for (int i = 0; i < 100; i++)
        bj_future_unref(bj_job_ready(job, BJ_TIMEOUT_NONE));
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
}

/* A thread that waits, as many as a program likes. */
static void *wait_in_thread(void *future)
{
    static int failed;
    return bj_future_wait(future, BJ_TIMEOUT_NONE) == BJ_OK ? NULL : &failed;
}

static void b05_many_threads_wait_for_one_future(void **state)
{
    world *w = *state;
    pthread_t threads[16];
    bj_future *future = held_command(w);
    for (int i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_in_thread, future), 0);

    release(w);
    for (int i = 0; i < 16; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static void b05_a_cancel_wakes_every_thread(void **state)
{
    world *w = *state;
    pthread_t threads[4];
    bj_future *future = held_command(w);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_in_thread, future), 0);

    bj_future_cancel(future);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    release(w);
}

static void on_signal(int number)
{
    (void)number;
}

/* Interrupts the main thread, then lets the reply go. */
static void *interrupt_then_release(void *world_of_test)
{
    world *w = world_of_test;
    for (int i = 0; i < 20; i++) {
        kill(getpid(), SIGUSR1);
        usleep(1000); /* so that they don't merge into one; nothing depends on it */
    }
    release(w);
    return NULL;
}

static void b75_a_wait_goes_on_after_signals(void **state)
{
    world *w = *state;
    struct sigaction old, action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, &old);
    bj_future *future = held_command(w);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_then_release, w), 0);

    assert_int_equal(bj_future_wait(future, BJ_TIMEOUT_NONE), BJ_OK);
    answers(future, BJ_OK);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &old, NULL);
}

/* ------------------------------------------------------ from inside callbacks */

/* What a callback works with, and what it found. */
typedef struct inside {
    world *w;
    bj_future *future;
    bj_monitor *monitor;
    bj_job *job;
    tally next;
    bool right;
} inside;

/* Runs `then` in a callback of a future that is done. */
static void run_inside(world *w, inside *in, void (*then)(bj_future *future, void *user))
{
    tally t = TALLY_INIT;
    in->w = w;
    t.then = then;
    t.user = in;
    bj_future *done = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_on_done(done, tally_closure(&t)), BJ_OK);
    tally_await(&t, 1, 1);
}

static void block(bj_future *future, void *user)
{
    inside *in = user;
    bj_watch *watch = NULL;
    const bj_record *record;
    in->right = !bj_future_is_done(in->future) &&
                bj_future_wait(in->future, BJ_TIMEOUT_NONE) == BJ_E_DEADLOCK &&
                bj_ctx_close(in->w->ctx) == BJ_E_DEADLOCK &&
                bj_monitor_watch(in->w->monitor, &watch) == BJ_OK &&
                bj_watch_next(watch, BJ_TIMEOUT_NONE, &record) == BJ_E_DEADLOCK;
    bj_watch_unref(watch);
    (void)future;
}

static void b72_blocking_on_the_loops_thread_is_a_deadlock(void **state)
{
    world *w = *state;
    inside in = {.future = held_command(w)};
    run_inside(w, &in, block);
    assert_true(in.right);
    release(w);
}

static void register_another(bj_future *future, void *user)
{
    inside *in = user;
    in->right = bj_future_on_done(future, tally_closure(&in->next)) == BJ_OK && in->next.calls == 0;
}

static void b71_not_even_a_callback_calls_inline(void **state)
{
    inside in = {.next = TALLY_INIT};
    run_inside(*state, &in, register_another);
    assert_true(in.right);
    tally_await(&in.next, 1, 1);
}

static void ask_again(bj_future *future, void *user)
{
    inside *in = user;
    (void)future;
    in->future = bj_monitor_list(in->w->monitor, BJ_TIMEOUT_NONE);
    bj_future_on_done(in->future, tally_closure(&in->next));
}

static void commands_can_be_given_in_callbacks(void **state)
{
    world *w = *state;
    inside in = {.next = TALLY_INIT};
    run_inside(w, &in, ask_again);
    tally_await(&in.next, 1, 1);
    assert_int_equal(in.next.error, BJ_OK);
    hold(w, in.future);
}

static void cancel_other(bj_future *future, void *user)
{
    inside *in = user;
    (void)future;
    bj_future_on_done(in->future, tally_closure(&in->next));
    bj_future_cancel(in->future);
    in->right = bj_future_is_done(in->future) && in->next.calls == 0;
}

static void cancelling_in_a_callback_answers_at_once(void **state)
{
    world *w = *state;
    inside in = {.future = held_command(w), .next = TALLY_INIT};
    run_inside(w, &in, cancel_other);
    assert_true(in.right);
    tally_await(&in.next, 1, 1);
    assert_int_equal(in.next.error, BJ_E_CANCELLED);
    release(w);
}

static void let_go(bj_future *future, void *user)
{
    inside *in = user;
    (void)future;
    in->future = bj_future_unref(in->future);
    in->job = bj_job_unref(in->job);
    in->monitor = bj_monitor_unref(in->monitor);
}

static void b71_last_references_can_go_in_callbacks(void **state)
{
    world *w = *state;
    inside in = {0};
    bj_future *connected = bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE);
    in.monitor = bj_future_monitor(answers(connected, BJ_OK));
    bj_future_unref(connected);
    bj_future *started = bj_monitor_stream(in.monitor, "disk0", NULL, BJ_TIMEOUT_NONE);
    in.job = bj_future_job(answers(started, BJ_OK));
    bj_future_unref(started);
    in.future = bj_job_done(in.job, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    bj_future *closed = hold(w, bj_monitor_closed(in.monitor));
    w->monitor = in.monitor;

    run_inside(w, &in, let_go);
    assert_true(!in.future && !in.job && !in.monitor);
    answers(closed, BJ_E_CLOSED);
}

static void close_monitor(bj_future *future, void *user)
{
    inside *in = user;
    (void)future;
    in->right = bj_monitor_close(in->w->monitor) == BJ_OK;
}

static void a_monitor_can_be_closed_in_a_callback(void **state)
{
    world *w = *state;
    inside in = {.w = w};
    bj_future *pending = held_command(w);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    run_inside(w, &in, close_monitor);
    assert_true(in.right);
    answers(pending, BJ_E_CLOSED);
    answers(closed, BJ_E_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b71_a_callback_runs_once_then_its_free),
        FAKE_TEST(b71_a_callback_on_a_done_future_runs_too),
        FAKE_TEST(b71_many_callbacks_each_run_once),
        FAKE_TEST(b71_a_registration_that_fails_frees),
        FAKE_TEST(b71_a_closure_without_fn_is_refused_and_freed),
        FAKE_TEST(b71_a_callback_keeps_its_future_alive),
        FAKE_TEST(b71_a_failed_call_calls_back_too),
        FAKE_TEST(b71_none_is_owed_after_close),
        FAKE_TEST(b71_registering_after_close_still_frees),
        FAKE_TEST(pending_is_an_error_of_its_own),
        FAKE_TEST(b06_a_wait_that_times_out_leaves_the_future),
        FAKE_TEST(b07_cancel_answers_at_once_and_only_once),
        FAKE_TEST(b07_cancelling_what_is_done_changes_nothing),
        FAKE_TEST(b07_the_last_reference_cancels),
        FAKE_TEST(b05_many_threads_wait_for_one_future),
        FAKE_TEST(b05_a_cancel_wakes_every_thread),
        FAKE_TEST(b75_a_wait_goes_on_after_signals),
        FAKE_TEST(b72_blocking_on_the_loops_thread_is_a_deadlock),
        FAKE_TEST(b71_not_even_a_callback_calls_inline),
        FAKE_TEST(commands_can_be_given_in_callbacks),
        FAKE_TEST(cancelling_in_a_callback_answers_at_once),
        UNCONNECTED_TEST(b71_last_references_can_go_in_callbacks),
        FAKE_TEST(a_monitor_can_be_closed_in_a_callback),
    };
    return run_on_fake(tests);
}
