/* SPDX-License-Identifier: MIT */
/*
 * Queues without a QEMU: who is bound, who is read, who may go first.
 */
#include "promise.h"

#include <poll.h>
#include <stdbool.h>

enum { CROWD = 400 };

static bj_queue *queue_on(bench *b)
{
    bj_queue *queue;
    assert_int_equal(bj_queue_new(b->ctx, &queue), BJ_OK);
    return queue;
}

static bj_future *promise_on(bench *b)
{
    return promise_make(b->ctx, &b->all, BJ_TIMEOUT_NONE);
}

static bool is_readable(bj_queue *queue, int timeout_ms)
{
    struct pollfd fd = {.fd = bj_queue_fd(queue), .events = POLLIN};
    return poll(&fd, 1, timeout_ms) == 1;
}

static void a_record_says_what_the_future_says(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = promise_on(b);
    assert_int_equal(bj_future_deliver(f, queue, 7), BJ_OK);
    assert_false(is_readable(queue, 0));
    promise_keep(f, BJ_E_STALLED);
    assert_true(is_readable(queue, -1));

    bj_record r;
    assert_int_equal(bj_queue_read(queue, &r, sizeof(bj_record), 1), 1);
    assert_int_equal(r.kind, BJ_RECORD_FUTURE);
    assert_int_equal(r.token, 7);
    assert_int_equal(r.error, BJ_E_STALLED);
    assert_string_equal(r.text, "the answer");
    assert_string_equal(r.name, "");
    assert_int_equal(r.outcome, BJ_OUTCOME_NONE);
    assert_false(is_readable(queue, 0));
    bj_future_unref(f);
    bj_queue_unref(queue);
}

static void a_delivered_future_needs_no_handle(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = promise_on(b);
    bj_future_deliver(f, queue, 1);
    promise_keep(f, BJ_E_STALLED);
    bj_future_unref(f);
    assert_true(is_readable(queue, -1));

    bj_record r[2];
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 2), 1);
    settle(b->ctx);
    assert_int_equal(b->all.destroys, 1);         /* what it holds, a monitor say, is let go */
    assert_string_equal(r[0].text, "the answer"); /* until the next read */
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 2), 0);
    assert_int_equal(b->all.leaves, 0);
    bj_queue_unref(queue);
}

static void a_handle_dropped_before_the_answer_cancels_nothing(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = promise_on(b);
    bj_future_deliver(f, queue, 1);
    future_ref_memory(f); /* for the owner's answer below */
    bj_future_unref(f);
    settle(b->ctx);
    assert_int_equal(b->all.leaves, 0);
    promise_keep(f, BJ_OK);
    assert_true(is_readable(queue, -1));
    future_unref_memory(f);
    bj_queue_unref(queue);
    settle(b->ctx);
    assert_int_equal(b->all.kept, 1);
    assert_int_equal(b->all.destroys, 1);
}

static void a_future_that_is_done_is_delivered_at_once(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = future_failed(b->ctx, BJ_E_STATE, "%s", "no");
    assert_int_equal(bj_future_deliver(f, queue, 3), BJ_OK);
    assert_true(is_readable(queue, 0));
    bj_future_unref(f);
    bj_queue_unref(queue); /* with a record in it */
}

static void a_cancelled_future_is_delivered_too(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = promise_on(b);
    bj_future_deliver(f, queue, 3);
    bj_future_cancel(f);
    bj_record r;
    assert_int_equal(bj_queue_read(queue, &r, sizeof(bj_record), 1), 1);
    assert_int_equal(r.error, BJ_E_CANCELLED);
    bj_future_unref(f);
    bj_queue_unref(queue);
}

static void one_queue_a_future(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = promise_on(b);
    assert_int_equal(bj_future_deliver(f, queue, 1), BJ_OK);
    assert_int_equal(bj_future_deliver(f, queue, 2), BJ_E_STATE);
    promise_keep(f, BJ_OK);
    assert_true(is_readable(queue, -1));
    bj_record r[2];
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 2), 1);
    assert_int_equal(r[0].token, 1);
    assert_int_equal(bj_future_deliver(f, queue, 3), BJ_E_STATE);
    bj_future_unref(f);
    bj_queue_unref(queue);
}

static void a_queue_of_another_context_is_invalid(void **state)
{
    bench *b = *state;
    bj_ctx *other;
    bj_queue *queue;
    assert_int_equal(bj_ctx_new(&other), BJ_OK);
    assert_int_equal(bj_queue_new(other, &queue), BJ_OK);
    bj_future *f = promise_on(b);
    assert_int_equal(bj_future_deliver(f, queue, 1), BJ_E_INVAL);
    bj_future_unref(f);
    bj_queue_unref(queue);
    bj_ctx_unref(other);
}

static void a_queue_may_go_before_the_answer(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f = promise_on(b);
    bj_future_deliver(f, queue, 1);
    assert_null(bj_queue_unref(queue));
    promise_keep(f, BJ_OK);
    assert_int_equal(bj_future_wait(f, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_error(f), BJ_OK);
    bj_future_unref(f);
}

static void c84_what_nobody_can_receive_is_cancelled(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f[3];
    for (unsigned i = 0; i < 3; i++) {
        f[i] = promise_on(b);
        assert_int_equal(bj_future_deliver(f[i], queue, i), BJ_OK);
    }
    settle(b->ctx);
    bj_future_unref(f[0]);
    bj_queue_unref(queue);
    settle(b->ctx);
    assert_int_equal(b->all.leaves, 1);
    bj_future_unref(f[1]);
    settle(b->ctx);
    assert_int_equal(b->all.leaves, 2);
    assert_false(bj_future_is_done(f[2])); /* whose handle is still there */
    bj_future_unref(f[2]);
    settle(b->ctx);
    assert_int_equal(b->all.destroys, 3);
}

static void a_queue_may_go_with_records_in_it(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_record r[3];
    bj_future *f[6];
    for (unsigned i = 0; i < 6; i++) {
        f[i] = promise_on(b);
        bj_future_deliver(f[i], queue, i);
        promise_keep(f[i], BJ_OK);
    }
    settle(b->ctx);
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 3),
                     3); /* three are held, three are queued */
    bj_queue_unref(queue);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(bj_future_error(f[i]), BJ_OK);
        bj_future_unref(f[i]);
    }
    assert_int_equal(b->all.destroys, 6);
}

static void a_queue_lives_as_long_as_its_handles(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    assert_ptr_equal(bj_queue_ref(queue), queue);
    bj_queue_unref(queue);
    bj_future *f = promise_on(b);
    assert_int_equal(bj_future_deliver(f, queue, 1), BJ_OK);
    bj_future_cancel(f);
    assert_true(is_readable(queue, 0));
    bj_future_unref(f);
    bj_queue_unref(queue);
    assert_null(bj_queue_ref(NULL));
    assert_null(bj_queue_unref(NULL));
}

static void records_come_in_the_order_of_the_answers(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_future *f[20];
    for (unsigned i = 0; i < 20; i++) {
        f[i] = promise_on(b);
        bj_future_deliver(f[i], queue, i);
    }
    for (int i = 19; i >= 0; i--)
        promise_keep(f[i], BJ_OK);
    settle(b->ctx);

    bj_record r[7];
    uint64_t expected = 20;
    for (int n; (n = bj_queue_read(queue, r, sizeof(bj_record), 7)) > 0;) {
        for (int i = 0; i < n; i++)
            assert_int_equal(r[i].token, --expected);
        assert_int_equal(is_readable(queue, 0), expected > 0); /* as long as there are records */
    }
    assert_int_equal(expected, 0);
    for (int i = 0; i < 20; i++)
        bj_future_unref(f[i]);
    bj_queue_unref(queue);
}

struct batch {
    bj_queue *queue;
    bj_future *futures[20];
    bool was_readable;
};

/* As the handler of a socket does when one read brings many answers. */
static void answer_batch(void *user)
{
    struct batch *batch = user;
    for (int i = 0; i < 20; i++)
        future_answer(batch->futures[i], &(struct future_result){.error = BJ_OK});
    batch->was_readable = is_readable(batch->queue, 0);
}

static void a_reader_is_woken_once_for_all_that_a_step_brings(void **state)
{
    bench *b = *state;
    bj_record r[20];
    struct batch batch = {.queue = queue_on(b)};
    for (unsigned i = 0; i < 20; i++) {
        batch.futures[i] = promise_on(b);
        bj_future_deliver(batch.futures[i], batch.queue, i);
    }
    on_loop(b->ctx, answer_batch, &batch);
    assert_false(batch.was_readable);
    assert_true(is_readable(batch.queue, -1));
    assert_int_equal(bj_queue_read(batch.queue, r, sizeof(bj_record), 20), 20);
    for (int i = 0; i < 20; i++)
        bj_future_unref(batch.futures[i]);
    bj_queue_unref(batch.queue);
}

/* The wake-up that is still due then finds nothing, or what has come since. */
static void what_was_read_before_the_wake_up_wakes_nobody(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    for (int i = 0; i < CROWD; i++) {
        bj_record r;
        bj_future *f = promise_on(b);
        bj_future_deliver(f, queue, 1);
        promise_keep(f, BJ_OK);
        while (bj_queue_read(queue, &r, sizeof(bj_record), 1) == 0)
            continue;
        settle(b->ctx);
        assert_false(is_readable(queue, 0));
        bj_future_unref(f);
    }
    bj_queue_unref(queue);
}

/* A program that was made with a later release, whose records are longer. */
static void records_are_of_the_callers_size(void **state)
{
    struct later {
        bj_record known;
        char news[3 * sizeof(void *)];
    } r[3];
    const char zeros[sizeof r[0].news] = {0};
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    for (uint64_t token = 1; token <= 2; token++) {
        bj_future *f = promise_on(b);
        assert_int_equal(bj_future_deliver(f, queue, token), BJ_OK);
        promise_keep(f, BJ_E_STALLED);
        bj_future_unref(f);
    }
    settle(b->ctx);

    memset(r, 0xff, sizeof r);
    assert_int_equal(bj_queue_read(queue, &r[0].known, sizeof r[0], 3), 2);
    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(r[i].known.token, i + 1);
        assert_string_equal(r[i].known.text, "the answer");
        assert_memory_equal(r[i].news, zeros, sizeof zeros);
    }
    assert_true(r[2].known.token == UINT64_MAX && r[2].news[0] == (char)0xff); /* as it was */
    bj_queue_unref(queue);
}

static void what_is_no_read(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    bj_record r;
    assert_int_equal(bj_queue_read(NULL, &r, sizeof(bj_record), 1), BJ_E_INVAL);
    assert_int_equal(bj_queue_read(queue, NULL, sizeof(bj_record), 1), BJ_E_INVAL);
    assert_int_equal(bj_queue_read(queue, &r, sizeof(bj_record), -1), BJ_E_INVAL);
    assert_int_equal(bj_queue_read(queue, &r, 0, 1), BJ_E_INVAL);
    assert_int_equal(bj_queue_read(queue, &r, offsetof(bj_record, text), 1), BJ_E_INVAL);
    assert_int_equal(bj_queue_fd(NULL), BJ_E_INVAL);
    bj_queue_unref(queue);
}

/* ------------------------------------------------------------------ threads */

struct crowd {
    bench *b;
    bj_queue *queue;
    uint64_t first;
};

static void *deliver_many(void *user)
{
    const struct crowd *c = user;
    for (uint64_t i = 0; i < CROWD; i++) {
        bj_future *f = promise_on(c->b);
        if (i % 2)
            promise_keep(f, BJ_OK);
        bj_future_deliver(f, c->queue, c->first + i);
        if (i % 2 == 0)
            promise_keep(f, BJ_OK);
        if (i % 5 == 0)
            bj_future_cancel(f);
        bj_future_unref(f);
    }
    return NULL;
}

static void each_record_comes_once_from_many_threads(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    pthread_t threads[4];
    struct crowd crowds[4];
    bool seen[4 * CROWD] = {false};
    for (int i = 0; i < 4; i++) {
        crowds[i] = (struct crowd){b, queue, (uint64_t)i * CROWD};
        assert_int_equal(pthread_create(&threads[i], NULL, deliver_many, &crowds[i]), 0);
    }
    for (int count = 0; count < 4 * CROWD;) {
        bj_record r[16];
        assert_true(is_readable(queue, -1));
        int n = bj_queue_read(queue, r, sizeof(bj_record), 1 + count % 16);
        assert_true(n > 0); /* the fd does not cry wolf */
        for (int i = 0; i < n; i++) {
            assert_false(seen[r[i].token]);
            seen[r[i].token] = true;
        }
        count += n;
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_false(is_readable(queue, 0));
    bj_queue_unref(queue);
    settle(b->ctx);
    assert_int_equal(b->all.destroys, 4 * CROWD);
}

static void a_queue_may_go_while_answers_come(void **state)
{
    bench *b = *state;
    bj_queue *queue = queue_on(b);
    pthread_t thread;
    struct crowd crowd = {b, bj_queue_ref(queue), 0};
    assert_int_equal(pthread_create(&thread, NULL, deliver_many, &crowd), 0);
    bj_record r[8];
    for (int n = 0; n < CROWD / 2; n += bj_queue_read(queue, r, sizeof(bj_record), 8))
        assert_true(is_readable(queue, -1));
    pthread_join(thread, NULL);
    bj_queue_unref(queue);
    bj_queue_unref(queue);
    settle(b->ctx);
    assert_int_equal(b->all.destroys, CROWD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_bench(a_record_says_what_the_future_says),
        on_bench(a_delivered_future_needs_no_handle),
        on_bench(a_handle_dropped_before_the_answer_cancels_nothing),
        on_bench(a_future_that_is_done_is_delivered_at_once),
        on_bench(a_cancelled_future_is_delivered_too),
        on_bench(one_queue_a_future),
        on_bench(a_queue_of_another_context_is_invalid),
        on_bench(a_queue_may_go_before_the_answer),
        on_bench(c84_what_nobody_can_receive_is_cancelled),
        on_bench(a_queue_may_go_with_records_in_it),
        on_bench(a_queue_lives_as_long_as_its_handles),
        on_bench(records_come_in_the_order_of_the_answers),
        on_bench(a_reader_is_woken_once_for_all_that_a_step_brings),
        on_bench(what_was_read_before_the_wake_up_wakes_nobody),
        on_bench(records_are_of_the_callers_size),
        on_bench(what_is_no_read),
        on_bench(each_record_comes_once_from_many_threads),
        on_bench(a_queue_may_go_while_answers_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
