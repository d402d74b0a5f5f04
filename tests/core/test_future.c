/* SPDX-License-Identifier: MIT */
/*
 * Futures without a QEMU: each is answered once, to everyone, however they asked.
 */
#include "promise.h"
#include "tally.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qemus.h"

static void await(bj_future *future, int error)
{
    assert_int_equal(bj_future_wait(future, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_future_is_done(future));
    assert_int_equal(bj_future_error(future), error);
}

static void assert_promises(const promises *all, int kept, int leaves, int destroys)
{
    assert_int_equal(all->kept, kept);
    assert_int_equal(all->leaves, leaves);
    assert_int_equal(all->destroys, destroys);
}

/* ------------------------------------------------------------------ answers */

static void an_answer_is_latched(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    assert_false(bj_future_is_done(f));
    assert_int_equal(bj_future_error(f), BJ_E_PENDING);
    assert_string_equal(bj_future_text(f), "");
    assert_null(bj_future_json(f));

    promise_keep(f, BJ_E_REFUSED);
    await(f, BJ_E_REFUSED);
    assert_string_equal(bj_future_text(f), "the answer");
    bj_future_cancel(f);
    await(f, BJ_E_REFUSED);
    assert_string_equal(bj_future_text(f), "the answer");

    bj_future_unref(f);
    settle(ctx);
    assert_promises(&b->all, 1, 0, 1);
}

static void b07_cancelling_takes_the_waiter_out(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    settle(ctx);
    bj_future_cancel(f);
    assert_true(bj_future_is_done(f)); /* at once */
    assert_int_equal(bj_future_error(f), BJ_E_CANCELLED);
    assert_true(*bj_future_text(f));
    bj_future_cancel(f);
    promise_keep(f, BJ_OK);
    settle(ctx);
    assert_int_equal(bj_future_error(f), BJ_E_CANCELLED);
    bj_future_unref(f);
    settle(ctx);
    assert_promises(&b->all, 0, 1, 1);
}

static void stand_at_gate(void *gate)
{
    sem_wait_whole(gate);
}

static void b07_cancelling_before_the_start_leaves_nothing_to_leave(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    struct errand gate = {.task.run = run_errand};
    sem_t open;
    sem_init(&open, 0, 0);
    sem_init(&gate.done, 0, 0);
    gate.run = stand_at_gate;
    gate.user = &open;
    loop_post(ctx->loop, &gate.task); /* the loop stands at the gate */

    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    bj_future_cancel(f);
    sem_post(&open);
    sem_wait_whole(&gate.done);
    settle(ctx);
    assert_int_equal(bj_future_error(f), BJ_E_CANCELLED);
    bj_future_unref(f);
    settle(ctx);
    assert_int_equal(b->all.starts, 0);
    assert_promises(&b->all, 0, 0, 1);
}

static void b06_a_deadline_takes_the_waiter_out(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    bj_future *f[] = {promise_make(ctx, &b->all, 0), promise_make(ctx, &b->all, 1)};
    for (int i = 0; i < 2; i++) {
        await(f[i], BJ_E_TIMEOUT);
        assert_true(*bj_future_text(f[i]));
        bj_future_unref(f[i]);
    }
    settle(ctx);
    assert_promises(&b->all, 0, 2, 2);
}

static void b06_a_far_deadline_is_far(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    static const int64_t far[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 1000, 1LL << 40};
    for (int i = 0; i < 4; i++) {
        bj_future *f = promise_make(ctx, &b->all, far[i]);
        settle(ctx);
        promise_keep(f, BJ_OK);
        assert_int_equal(bj_future_wait(f, far[i]), BJ_OK);
        assert_int_equal(bj_future_error(f), BJ_OK);
        bj_future_unref(f);
    }
}

static void b06_a_wait_of_no_time_asks_what_is(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_wait(f, 0), BJ_E_TIMEOUT);
    assert_int_equal(bj_future_wait(f, -3), BJ_E_INVAL);
    assert_int_equal(bj_future_error(f), BJ_E_PENDING); /* the wait was given up, not the future */
    promise_keep(f, BJ_OK);
    await(f, BJ_OK);
    assert_int_equal(bj_future_wait(f, 0), BJ_OK);
    bj_future_unref(f);
}

static void b07_the_last_reference_cancels(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    settle(ctx);
    bj_future *again = bj_future_ref(f);
    assert_ptr_equal(again, f);
    assert_null(bj_future_unref(again));
    settle(ctx);
    assert_int_equal(b->all.leaves, 0);
    bj_future_unref(f);
    settle(ctx);
    assert_promises(&b->all, 0, 1, 1);
}

static void b07_not_while_a_callback_waits(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    tally t = TALLY_INIT;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_on_done(f, tally_closure(&t)), BJ_OK);
    promise_keep(f, BJ_OK);
    bj_future_unref(f);
    tally_await(&t, 1, 1);
    assert_int_equal(t.error, BJ_OK);
    settle(ctx);
    assert_promises(&b->all, 1, 0, 1);
}

/* ---------------------------------------------------------------- callbacks */

struct order {
    int count;
    int seen[8];
};

struct numbered {
    struct order *order;
    int number;
};

static void note_number(bj_future *future, void *user)
{
    (void)future;
    const struct numbered *n = user;
    n->order->seen[n->order->count++] = n->number;
}

static void b71_callbacks_run_in_the_order_of_asking(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    struct order order = {0};
    struct numbered n[5];
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    for (int i = 0; i < 5; i++) {
        n[i] = (struct numbered){&order, i};
        bj_future_on_done(f, (bj_closure){.fn = note_number, .user = &n[i]});
    }
    promise_keep(f, BJ_OK);
    await(f, BJ_OK);
    settle(ctx);
    assert_int_equal(order.count, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(order.seen[i], i);
    bj_future_unref(f);
}

static void b71_each_callback_and_each_free_once(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    tally before = TALLY_INIT, after = TALLY_INIT;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    for (int i = 0; i < 3; i++)
        bj_future_on_done(f, tally_closure(&before));
    promise_keep(f, BJ_OK);
    await(f, BJ_OK);
    bj_future_cancel(f);
    for (int i = 0; i < 3; i++)
        bj_future_on_done(f, tally_closure(&after));
    tally_await(&before, 3, 3);
    tally_await(&after, 3, 3);
    bj_future_unref(f);
    settle(ctx);
    tally_await(&before, 3, 3);
    tally_await(&after, 3, 3);
}

struct inline_check {
    bj_future *future;
    struct order order;
    struct numbered number;
    bool was_inline;
};

static void register_on_the_loop(void *user)
{
    struct inline_check *check = user;
    check->number = (struct numbered){&check->order, 1};
    bj_future_on_done(check->future, (bj_closure){.fn = note_number, .user = &check->number});
    check->was_inline = check->order.count > 0;
}

static void b71_no_callback_runs_inside_the_call_that_registers_it(void **state)
{
    bj_ctx *ctx = ((bench *)*state)->ctx;
    struct inline_check check = {.future = future_failed(ctx, BJ_E_STATE, "%s", "no")};
    on_loop(ctx, register_on_the_loop, &check);
    assert_false(check.was_inline);
    settle(ctx);
    assert_int_equal(check.order.count, 1);
    bj_future_unref(check.future);
}

static void unref_in_callback(bj_future *future, void *user)
{
    (void)future;
    bj_future_unref(user);
}

static void b71_a_callback_may_let_go_of_its_future(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    tally t = TALLY_INIT;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    t.then = unref_in_callback;
    t.user = f;
    bj_future_on_done(f, tally_closure(&t));
    promise_keep(f, BJ_OK);
    tally_await(&t, 1, 1);
    settle(ctx);
    assert_promises(&b->all, 1, 0, 1);
}

static void ask_again_in_callback(bj_future *future, void *user)
{
    bj_future_on_done(future, tally_closure(user));
}

static void b71_a_callback_may_ask_again(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    tally first = TALLY_INIT, second = TALLY_INIT;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    first.then = ask_again_in_callback;
    first.user = &second;
    bj_future_on_done(f, tally_closure(&first));
    bj_future_cancel(f);
    tally_await(&first, 1, 1);
    tally_await(&second, 1, 1);
    bj_future_unref(f);
}

static void b71_a_refused_callback_is_freed_once(void **state)
{
    bj_ctx *ctx = ((bench *)*state)->ctx;
    tally t = TALLY_INIT;
    bj_closure no_fn = tally_closure(&t);
    no_fn.fn = NULL;
    bj_future *f = future_failed(ctx, BJ_E_STATE, "%s", "no");
    assert_int_equal(bj_future_on_done(f, no_fn), BJ_E_INVAL);
    assert_int_equal(bj_future_on_done(NULL, tally_closure(&t)), BJ_E_INVAL);
    bj_ctx_close(ctx);
    assert_int_equal(bj_future_on_done(f, tally_closure(&t)), BJ_E_CLOSED);
    assert_int_equal(t.calls, 0);
    assert_int_equal(t.frees, 3);
    bj_future_unref(f);
}

static void wait_in_callback(bj_future *future, void *user)
{
    bj_future **pending = user;
    bj_future *mine = *pending;
    *pending = NULL;
    if (bj_future_wait(mine, BJ_TIMEOUT_NONE) == BJ_E_DEADLOCK &&
        bj_future_wait(future, BJ_TIMEOUT_NONE) == BJ_OK)
        *pending = mine;
}

static void b72_waiting_on_the_loop_is_a_deadlock_unless_it_is_done(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    tally t = TALLY_INIT;
    bj_future *pending = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    bj_future *kept = pending;
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    t.then = wait_in_callback;
    t.user = &pending;
    bj_future_on_done(f, tally_closure(&t));
    promise_keep(f, BJ_OK);
    tally_await(&t, 1, 1);
    assert_ptr_equal(pending, kept);
    bj_future_unref(f);
    bj_future_unref(kept);
}

/* ------------------------------------------------------------------ threads */

static void *wait_for_it(void *user)
{
    int r = bj_future_wait(user, BJ_TIMEOUT_NONE);
    return (void *)(intptr_t)(r == BJ_OK ? bj_future_error(user) : 99);
}

static void b05_all_threads_that_wait_wake_up(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    pthread_t threads[8];
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_it, f), 0);
    promise_keep(f, BJ_E_STALLED);
    for (int i = 0; i < 8; i++) {
        void *error;
        pthread_join(threads[i], &error);
        assert_int_equal((intptr_t)error, BJ_E_STALLED);
    }
    bj_future_unref(f);
}

enum { RACES = 1500 };

struct race {
    bj_future *futures[RACES];
    pthread_barrier_t start;
    tally tally;
};

static void *race_to_cancel(void *user)
{
    struct race *race = user;
    pthread_barrier_wait(&race->start);
    for (int i = 0; i < RACES; i++)
        bj_future_cancel(race->futures[i]);
    return NULL;
}

static void *race_to_keep(void *user)
{
    struct race *race = user;
    pthread_barrier_wait(&race->start);
    for (int i = 0; i < RACES; i++)
        promise_keep(race->futures[i], BJ_OK);
    return NULL;
}

/* Some of these register when the answer is there already, some before. */
static void *race_to_listen(void *user)
{
    struct race *race = user;
    pthread_barrier_wait(&race->start);
    for (int i = 0; i < RACES; i++)
        bj_future_on_done(race->futures[i], tally_closure(&race->tally));
    return NULL;
}

static void b71_cancel_deadline_and_answer_race_and_one_wins(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    static struct race race = {.tally = TALLY_INIT};
    void *(*const racers[])(void *) = {race_to_cancel, race_to_cancel, race_to_keep,
                                       race_to_listen};
    pthread_t threads[4];

    pthread_barrier_init(&race.start, NULL, 4);
    for (int i = 0; i < RACES; i++)
        race.futures[i] = promise_make(ctx, &b->all, i % 3); /* 0, 1 and 2 ms */
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, racers[i], &race), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&race.start);

    tally_await(&race.tally, RACES, RACES);
    settle(ctx);
    int ok = 0;
    for (int i = 0; i < RACES; i++) {
        int error = bj_future_error(race.futures[i]);
        assert_true(error == BJ_OK || error == BJ_E_CANCELLED || error == BJ_E_TIMEOUT);
        ok += error == BJ_OK;
        bj_future_unref(race.futures[i]);
    }
    settle(ctx);
    /* A cancel may win while the owner's answer is on its way; then the owner's is dropped. */
    assert_true(b->all.kept >= ok);
    assert_int_equal(b->all.kept + b->all.leaves, b->all.starts);
    assert_int_equal(b->all.destroys, RACES);
}

/* ------------------------------------------------------------------ the end */

static void a_future_launched_on_a_closed_context_is_closed(void **state)
{
    bench *b = *state;
    bj_ctx *ctx = b->ctx;
    bj_ctx_close(ctx);
    bj_future *f = promise_make(ctx, &b->all, BJ_TIMEOUT_NONE);
    assert_true(bj_future_is_done(f));
    assert_int_equal(bj_future_error(f), BJ_E_CLOSED);
    assert_int_equal(bj_future_wait(f, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future_cancel(f);
    bj_future_unref(f);
    assert_int_equal(b->all.starts, 0);
    assert_int_equal(b->all.destroys, 1);
}

static void an_answer_outlives_its_context(void **state)
{
    bench *b = *state;
    bj_future *f = future_failed(b->ctx, BJ_E_STATE, "%s", "the reason");
    b->ctx = bj_ctx_unref(b->ctx);
    assert_int_equal(bj_future_error(f), BJ_E_STATE);
    assert_string_equal(bj_future_text(f), "the reason");
    bj_future_unref(f);
}

/* A socket that takes connections and says nothing. */
static int listen_silently(const char *dir, char *uri, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/silent", dir);
    snprintf(uri, size, "unix:%s", address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

struct persistence {
    bj_ctx *ctx;
    const char *uri;
    atomic_int tries;
    atomic_int answers;
};

/* A program that connects again, at once, as long as that makes sense. */
static void connect_again(bj_future *future, void *user)
{
    struct persistence *p = user;
    (void)future;
    atomic_fetch_add(&p->answers, 1);
    if (atomic_fetch_add(&p->tries, 1) > 1000)
        return;
    bj_future *again = bj_monitor_connect(p->ctx, p->uri, BJ_TIMEOUT_NONE);
    if (bj_future_on_done(again, (bj_closure){.fn = connect_again, .user = p}) != BJ_OK)
        atomic_fetch_add(&p->answers, 1); /* refused: it will not be called */
    bj_future_unref(again);
}

static void b71_closing_ends_a_program_that_connects_again_and_again(void **state)
{
    bj_ctx *ctx = ((bench *)*state)->ctx;
    char uri[128];
    char *dir = directory_new();
    int fd = listen_silently(dir, uri, sizeof uri);

    struct persistence p = {.ctx = ctx, .uri = uri};
    bj_future *f = bj_monitor_connect(ctx, uri, BJ_TIMEOUT_NONE);
    bj_future_on_done(f, (bj_closure){.fn = connect_again, .user = &p});
    bj_future_unref(f);
    settle(ctx);
    bj_ctx_close(ctx);
    assert_true(p.tries <= 1000);
    assert_int_equal(p.answers, p.tries + 1); /* each try has been answered, or was refused */
    close(fd);
    directory_end(dir);
}

static void b71_also_where_connecting_fails_at_once(void **state)
{
    bj_ctx *ctx = ((bench *)*state)->ctx;
    char uri[128];
    char *dir = directory_new();
    int fd = listen_silently(dir, uri, sizeof uri);
    char nowhere[160];
    snprintf(nowhere, sizeof nowhere, "%s.not", uri);

    struct persistence p = {.ctx = ctx, .uri = nowhere};
    bj_future *f = bj_monitor_connect(ctx, uri, BJ_TIMEOUT_NONE);
    bj_future_on_done(f, (bj_closure){.fn = connect_again, .user = &p});
    bj_future_unref(f);
    settle(ctx);
    bj_ctx_close(ctx);
    assert_true(p.tries <= 1000);
    assert_int_equal(p.answers, p.tries + 1);
    close(fd);
    directory_end(dir);
}

/* ------------------------------------------------------------------- static */

static void static_futures_need_nothing(void **state)
{
    bj_ctx *ctx = ((bench *)*state)->ctx;
    static const int errors[] = {BJ_E_INVAL, BJ_E_NOMEM, BJ_E_FORKED};
    bj_queue *queue;
    bj_queue_new(ctx, &queue);
    for (int i = 0; i < 3; i++) {
        bj_future *f = future_static(errors[i]);
        assert_true(bj_future_is_done(f));
        assert_int_equal(bj_future_error(f), errors[i]);
        assert_true(*bj_future_text(f));
        assert_string_equal(bj_future_error_class(f), "");
        assert_int_equal(bj_future_outcome(f), BJ_OUTCOME_NONE);
        assert_null(bj_future_json(f));
        assert_null(bj_future_monitor(f));
        assert_null(bj_future_job(f));
        assert_int_equal(bj_future_info_count(f), 0);
        assert_null(bj_future_info(f, 0));
        assert_int_equal(bj_future_wait(f, BJ_TIMEOUT_NONE), BJ_OK);
        bj_future_cancel(f);

        tally t = TALLY_INIT;
        assert_int_equal(bj_future_on_done(f, tally_closure(&t)), errors[i]);
        assert_int_equal(t.calls, 0);
        assert_int_equal(t.frees, 1);
        assert_int_equal(bj_future_deliver(f, queue, 1), errors[i]);

        assert_ptr_equal(bj_future_ref(f), f);
        for (int n = 0; n < 5; n++)
            assert_null(bj_future_unref(f));
        assert_int_equal(bj_future_error(f), errors[i]);
    }
    bj_queue_unref(queue);
}

static void no_future_is_an_invalid_one(void **state)
{
    (void)state;
    assert_true(bj_future_is_done(NULL));
    assert_int_equal(bj_future_error(NULL), BJ_E_INVAL);
    assert_true(*bj_future_text(NULL));
    assert_string_equal(bj_future_error_class(NULL), "");
    assert_int_equal(bj_future_wait(NULL, 0), BJ_E_INVAL);
    assert_int_equal(bj_future_deliver(NULL, NULL, 0), BJ_E_INVAL);
    assert_null(bj_future_ref(NULL));
    assert_null(bj_future_unref(NULL));
    bj_future_cancel(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_bench(an_answer_is_latched),
        on_bench(b07_cancelling_takes_the_waiter_out),
        on_bench(b07_cancelling_before_the_start_leaves_nothing_to_leave),
        on_bench(b06_a_deadline_takes_the_waiter_out),
        on_bench(b06_a_far_deadline_is_far),
        on_bench(b06_a_wait_of_no_time_asks_what_is),
        on_bench(b07_the_last_reference_cancels),
        on_bench(b07_not_while_a_callback_waits),
        on_bench(b71_callbacks_run_in_the_order_of_asking),
        on_bench(b71_each_callback_and_each_free_once),
        on_bench(b71_no_callback_runs_inside_the_call_that_registers_it),
        on_bench(b71_a_callback_may_let_go_of_its_future),
        on_bench(b71_a_callback_may_ask_again),
        on_bench(b71_a_refused_callback_is_freed_once),
        on_bench(b72_waiting_on_the_loop_is_a_deadlock_unless_it_is_done),
        on_bench(b05_all_threads_that_wait_wake_up),
        on_bench(b71_cancel_deadline_and_answer_race_and_one_wins),
        on_bench(a_future_launched_on_a_closed_context_is_closed),
        on_bench(an_answer_outlives_its_context),
        on_bench(b71_closing_ends_a_program_that_connects_again_and_again),
        on_bench(b71_also_where_connecting_fails_at_once),
        on_bench(static_futures_need_nothing),
        on_bench(no_future_is_an_invalid_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
