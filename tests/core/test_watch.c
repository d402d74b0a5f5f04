/* SPDX-License-Identifier: MIT */
/*
 * Watches without a QEMU: what is kept, what is lost, and that the count is right.
 */
#include "delivery/watch.h"
#include "promise.h"
#include "tally.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>

/* ----------------------------------------------------- watches of a test */

static bj_watch *list; /* the loop's own; the tests are one after the other */
static atomic_int destroyed;

static void begin(bj_watch *watch)
{
    watch_link(watch, &list);
}

static void leave(bj_watch *watch)
{
    watch_unlink(watch, &list);
}

static void disown(void *owner)
{
    (void)owner;
    atomic_fetch_add(&destroyed, 1);
}

static int watch_setup(void **state)
{
    list = NULL;
    return bench_setup(state);
}

static void let_all_go(void *user)
{
    (void)user;
    while (list)
        leave(list);
}

/* As an owner does with the watches that have ended. */
static int watch_teardown(void **state)
{
    bj_ctx *ctx = ((bench *)*state)->ctx;
    if (!ctx->closed)
        on_loop(ctx, let_all_go, NULL);
    return bench_teardown(state);
}

static bj_watch *make_watch(bench *b)
{
    static const struct watch_ops ops = {.begin = begin, .leave = leave, .disown = disown};
    bj_watch *watch = watch_new(b->ctx, sizeof *watch, &ops, NULL);
    return watch ? watch_launch(watch) : NULL;
}

static bj_watch *watch_on(bench *b, uint64_t ring)
{
    assert_int_equal(bj_ctx_set_limit(b->ctx, BJ_LIMIT_WATCH_RING, ring), BJ_OK);
    bj_watch *watch = make_watch(b);
    assert_non_null(watch);
    settle(b->ctx);
    atomic_store(&destroyed, 0);
    return watch;
}

static void push(bj_watch *watch, bj_record_kind kind, int64_t number)
{
    struct text *text = text_printf("%lld", (long long)number);
    watch_push(watch, &(bj_record){.kind = kind, .current = number},
               &(struct record_refs){.text = text});
    text_unref(text);
}

static void push_events(bj_watch *watch, int64_t first, int64_t last)
{
    for (int64_t i = first; i <= last; i++)
        push(watch, BJ_RECORD_EVENT, i);
}

/* What there is to read, as "L6 E7 R8": a letter for the kind, what was pushed or lost. */
static const char *read_all(bj_watch *watch)
{
    static const char letters[] = "FEDBsRSrPXLC"; /* as the kinds come */
    static char all[4096];
    const bj_record *record;
    size_t at = 0;
    all[0] = '\0';
    while (bj_watch_next(watch, 0, &record) == BJ_OK) {
        char letter = letters[record->kind];
        int64_t number = record->current;
        if (record->kind == BJ_RECORD_LAGGED) {
            number = (int64_t)record->lost;
        } else if (record->kind != BJ_RECORD_CLOSED) {
            char text[32];
            snprintf(text, sizeof text, "%lld", (long long)number);
            assert_string_equal(record->text, text);
        }
        assert_true(at < sizeof all - 32);
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%c%lld", at ? " " : "", letter,
                               (long long)number);
    }
    return all;
}

static void end(bj_watch *watch)
{
    bj_watch_unref(watch);
}

/* --------------------------------------------------------------------- ring */

static void b61_as_many_as_the_ring_holds_are_kept(void **state)
{
    bj_watch *w = watch_on(*state, 4);
    push_events(w, 1, 4);
    assert_string_equal(read_all(w), "E1 E2 E3 E4");
    push_events(w, 5, 6);
    assert_string_equal(read_all(w), "E5 E6");
    end(w);
}

static void b61_the_oldest_go_and_are_counted(void **state)
{
    bj_watch *w = watch_on(*state, 4);
    push_events(w, 1, 5);
    assert_string_equal(read_all(w), "L1 E2 E3 E4 E5");
    push_events(w, 6, 105);
    assert_string_equal(read_all(w), "L96 E102 E103 E104 E105");
    assert_string_equal(read_all(w), "");
    push_events(w, 106, 106);
    assert_string_equal(read_all(w), "E106");
    end(w);
}

static void b61_a_ring_of_one(void **state)
{
    bj_watch *w = watch_on(*state, 1);
    push_events(w, 1, 1);
    assert_string_equal(read_all(w), "E1");
    push_events(w, 2, 9);
    assert_string_equal(read_all(w), "L7 E9");
    end(w);
}

static void b61_large_records_are_bounded_by_their_bytes(void **state)
{
    bench *b = *state;
    assert_int_equal(bj_ctx_set_limit(b->ctx, BJ_LIMIT_MESSAGE_BYTES, 8), BJ_OK);
    bj_watch *w = watch_on(b, 100);
    push_events(w, 1, 9); /* a byte each */
    assert_string_equal(read_all(w), "L1 E2 E3 E4 E5 E6 E7 E8 E9");
    push_events(w, 1, 3);
    push(w, BJ_RECORD_EVENT, 123456);
    assert_string_equal(read_all(w), "L1 E2 E3 E123456");
    push_events(w, 1, 3);
    push(w, BJ_RECORD_EVENT, 123456789); /* too large by itself: kept alone */
    assert_string_equal(read_all(w), "L3 E123456789");
    end(w);
}

static void b61_ready_ended_and_closed_are_never_lost(void **state)
{
    bj_watch *w = watch_on(*state, 2);
    push_events(w, 1, 2);
    push(w, BJ_RECORD_READY, 3);
    push_events(w, 4, 9);
    push(w, BJ_RECORD_ENDED, 10);
    watch_end(w, BJ_OK, NULL);
    assert_string_equal(read_all(w), "L2 R3 L4 E8 E9 X10 C0");
    end(w);
}

static void b61_what_was_lost_last_is_told_with_what_comes_next(void **state)
{
    bj_watch *w = watch_on(*state, 1);
    push_events(w, 1, 1);
    push(w, BJ_RECORD_READY, 2);
    push_events(w, 3, 4);
    push(w, BJ_RECORD_ENDED, 5);
    assert_string_equal(read_all(w), "L1 R2 L1 E4 X5");
    end(w);
}

static void b61_the_latest_stall_is_never_lost(void **state)
{
    bj_watch *w = watch_on(*state, 2);
    push(w, BJ_RECORD_STALLED, 1);
    push_events(w, 2, 9);
    assert_string_equal(read_all(w), "S1 L6 E8 E9");
    end(w);
}

static void b61_a_stall_that_is_history_can_be_lost(void **state)
{
    bj_watch *w = watch_on(*state, 2);
    push(w, BJ_RECORD_STALLED, 1);
    push(w, BJ_RECORD_RESUMED, 2);
    push(w, BJ_RECORD_STALLED, 3);
    push_events(w, 4, 9);
    assert_string_equal(read_all(w), "L2 S3 L4 E8 E9");
    end(w);
}

static void b61_a_stall_that_was_read_is_no_longer_kept(void **state)
{
    bj_watch *w = watch_on(*state, 2);
    push(w, BJ_RECORD_STALLED, 1);
    assert_string_equal(read_all(w), "S1");
    push(w, BJ_RECORD_STALLED, 2);
    push_events(w, 3, 5);
    assert_string_equal(read_all(w), "S2 L1 E4 E5");
    end(w);
}

/* ------------------------------------------------------------ of many jobs */

static bj_watch *watch_of_many(bench *b, uint64_t ring, size_t kept)
{
    bj_watch *watch = watch_on(b, ring);
    watch->once = NULL;
    watch->kept_limit = kept;
    return watch;
}

static void b61_ready_and_ends_of_many_jobs_are_kept(void **state)
{
    bj_watch *w = watch_of_many(*state, 1, 8);
    for (int i = 1; i <= 4; i++) {
        push(w, BJ_RECORD_READY, 10 * i);
        push(w, BJ_RECORD_STALLED, 10 * i + 1);
        push(w, BJ_RECORD_ENDED, 10 * i + 2);
    }
    assert_string_equal(read_all(w), "R10 L1 X12 R20 L1 X22 R30 L1 X32 R40 S41 X42");
    end(w);
}

static void b61_ends_beyond_the_limit_are_counted_by_themselves(void **state)
{
    bj_watch *w = watch_of_many(*state, 2, 3);
    const bj_record *record;
    push_events(w, 1, 3);
    for (int i = 4; i <= 8; i++)
        push(w, BJ_RECORD_ENDED, i);
    uint64_t lost = 0, lost_ends = 0, sequence = 0;
    while (bj_watch_next(w, 0, &record) == BJ_OK) {
        lost += record->lost;
        lost_ends += record->lost_ends;
        assert_true(record->lost_ends <= record->lost);
        if (record->kind == BJ_RECORD_LAGGED)
            continue;
        assert_int_equal(record->sequence, record->current);
        assert_true(record->sequence > sequence);
        sequence = record->sequence;
    }
    assert_int_equal(sequence, 8);
    assert_int_equal(lost, 3);
    assert_int_equal(lost_ends, 2);
    end(w);
}

static void b61_texts_of_ends_are_bounded(void **state)
{
    bj_watch *w = watch_of_many(*state, 2, 1000);
    w->byte_limit = 8;
    for (int i = 1000; i < 1009; i++) /* four bytes each */
        push(w, BJ_RECORD_ENDED, i);
    assert_string_equal(read_all(w), "L7 X1007 X1008");
    end(w);
}

/* The ring's limit, and the three that come once, and one stall. */
static void assert_bounded(bj_watch *watch, size_t limit)
{
    ctx_lock(watch->ctx);
    size_t count = watch->ring.count + watch->kept.count;
    ctx_unlock(watch->ctx);
    assert_true(count <= limit + WATCH_ONCE + 2);
}

static void b61_stalls_and_resumes_without_end_stay_bounded(void **state)
{
    bj_watch *w = watch_on(*state, 4);
    for (int i = 0; i < 1000; i++) {
        push(w, BJ_RECORD_STALLED, 2 * i);
        push(w, BJ_RECORD_RESUMED, 2 * i + 1);
    }
    assert_bounded(w, 4);
    for (int i = 0; i < 1000; i++)
        push(w, BJ_RECORD_STALLED, i);
    assert_bounded(w, 4);
    for (int i = 0; i < 100; i++) {
        push(w, BJ_RECORD_STALLED, i);
        push_events(w, 1, 9);
    }
    assert_bounded(w, 4);
    end(w);
}

static void b61_a_record_that_could_not_be_made_is_counted(void **state)
{
    bj_watch *w = watch_on(*state, 4);
    push_events(w, 1, 1);
    watch_miss(w);
    watch_miss(w);
    push_events(w, 2, 2);
    assert_string_equal(read_all(w), "E1 L2 E2");
    end(w);
}

static void note_record(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch;
    if (record->kind == BJ_RECORD_LAGGED)
        atomic_store((atomic_llong *)user, (long long)record->lost);
}

static void c91_losses_alone_wake_the_reader(void **state)
{
    bench *b = *state;
    bj_record record;
    bj_queue *queue;
    bj_watch *pulled = watch_on(b, 4), *queued = watch_on(b, 4), *called = watch_on(b, 4);
    watch_miss(pulled);
    assert_string_equal(read_all(pulled), "L1");

    assert_int_equal(bj_queue_new(b->ctx, &queue), BJ_OK);
    assert_int_equal(bj_watch_deliver(queued, queue, 7), BJ_OK);
    watch_miss(queued);
    struct pollfd readable = {.fd = bj_queue_fd(queue), .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 0), 1);
    assert_int_equal(bj_queue_read(queue, &record, sizeof(bj_record), 1), 1);
    assert_int_equal(record.kind, BJ_RECORD_LAGGED);

    atomic_llong lost = 0;
    bj_watch_closure closure = {.fn = note_record, .user = &lost};
    assert_int_equal(bj_watch_on_record(called, closure), BJ_OK);
    settle(b->ctx);
    watch_miss(called);
    settle(b->ctx);
    assert_int_equal(atomic_load(&lost), 1);
    bj_watch_close(called);
    settle(b->ctx);

    bj_watch_unref(called);
    end(pulled);
    bj_watch_unref(queued);
    bj_queue_unref(queue);
}

enum { PUSHERS = 4 };

struct pusher {
    pthread_t thread;
    bj_watch *watch;
    atomic_int pushes;
    atomic_bool is_over;
};

static void *push_on(void *user)
{
    struct pusher *p = user;
    while (!atomic_load(&p->is_over))
        push(p->watch, BJ_RECORD_EVENT, atomic_fetch_add(&p->pushes, 1));
    watch_miss(p->watch);
    return NULL;
}

static void c91_after_a_close_comes_only_closed(void **state)
{
    struct pusher p[PUSHERS];
    for (int round = 0; round < 50; round++) {
        bj_watch *w = watch_on(*state, 4);
        for (int i = 0; i < PUSHERS; i++) {
            p[i] = (struct pusher){.watch = w};
            assert_int_equal(pthread_create(&p[i].thread, NULL, push_on, &p[i]), 0);
        }
        while (atomic_load(&p[0].pushes) < 10)
            sched_yield();
        bj_watch_close(w);
        assert_string_equal(read_all(w), "C0");
        for (int i = 0; i < PUSHERS; i++) {
            atomic_store(&p[i].is_over, true);
            pthread_join(p[i].thread, NULL);
        }
        bj_watch_unref(w);
    }
}

static void b61_whatever_is_pushed_is_read_or_counted(void **state)
{
    bj_watch *w = watch_on(*state, 7);
    uint64_t dice = 88172645463325252u, lost = 0;
    int64_t pushed = 0, expected = 0, read = 0;
    for (int step = 0; step < 20000; step++) {
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        const bj_record *record;
        if (dice % 5 != 0) {
            push(w, dice % 11 == 0 ? BJ_RECORD_STALLED : BJ_RECORD_EVENT, pushed++);
        } else if (bj_watch_next(w, 0, &record) != BJ_OK) {
            assert_int_equal(read + (int64_t)lost, pushed);
        } else if (record->kind == BJ_RECORD_LAGGED) {
            lost += record->lost;
            expected += (int64_t)record->lost;
        } else {
            assert_int_equal(record->current, expected); /* the gap is where it says */
            expected++;
            read++;
        }
        assert_bounded(w, 7);
    }
    assert_true(lost > 0 && read > 0);
    end(w);
}

/* --------------------------------------------------------------------- ends */

static void b62_the_last_record_says_why(void **state)
{
    bj_watch *w = watch_on(*state, 4);
    push_events(w, 1, 1);
    watch_end(w, BJ_E_DISCONNECTED, text_printf("the connection ended"));
    push_events(w, 2, 3);
    watch_end(w, BJ_OK, NULL);

    const bj_record *r;
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_OK);
    assert_int_equal(r->kind, BJ_RECORD_EVENT);
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_OK);
    assert_int_equal(r->kind, BJ_RECORD_CLOSED);
    assert_int_equal(r->error, BJ_E_DISCONNECTED);
    assert_string_equal(r->text, "the connection ended");
    assert_string_equal(r->name, "");
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_E_CLOSED);
    assert_int_equal(bj_watch_next(w, 0, &r), BJ_E_CLOSED);
    end(w);
}

static void b62_closing_drops_what_was_not_read(void **state)
{
    bj_watch *w = watch_on(*state, 2);
    push_events(w, 1, 9);
    push(w, BJ_RECORD_READY, 10);
    bj_watch_close(w);
    bj_watch_close(w);
    push_events(w, 11, 12);
    const bj_record *r;
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_OK);
    assert_int_equal(r->kind, BJ_RECORD_CLOSED);
    assert_int_equal(r->error, BJ_E_CLOSED);
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_E_CLOSED);
    end(w);
}

static atomic_int held; /* references to what records are about */

static void hold_value(void *data)
{
    (void)data;
    atomic_fetch_add(&held, 1);
}

static void let_go_value(void *data)
{
    (void)data;
    atomic_fetch_sub(&held, data != NULL);
}

/* Also where the ring is empty. */
static void b62_closing_lets_go_of_what_was_kept(void **state)
{
    static const struct value_kind kind = {.ref = hold_value, .unref = let_go_value};
    bj_watch *w = watch_on(*state, 2);
    watch_push(w, &(bj_record){.kind = BJ_RECORD_READY},
               &(struct record_refs){.job = {&kind, &held}});
    assert_int_equal(atomic_load(&held), 1);
    bj_watch_close(w);
    assert_int_equal(atomic_load(&held), 0);
    end(w);
}

static void b75_a_watch_is_destroyed_once(void **state)
{
    bench *b = *state;
    bj_watch *w = watch_on(b, 2);
    assert_ptr_equal(bj_watch_ref(w), w);
    push_events(w, 1, 9);
    bj_watch_unref(w);
    settle(b->ctx);
    assert_int_equal(destroyed, 0);
    bj_watch_unref(w);
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
    assert_null(list);
    assert_null(bj_watch_ref(NULL));
    assert_null(bj_watch_unref(NULL));
    bj_watch_close(NULL);
}

static void its_owner_may_let_go_before_it_is_closed(void **state)
{
    bench *b = *state;
    bj_watch *w[] = {watch_on(b, 2), watch_on(b, 2), watch_on(b, 2)};
    bj_watch_unref(w[1]); /* out of the middle */
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
    on_loop(b->ctx, let_all_go, NULL);
    bj_watch_unref(w[2]);
    bj_watch_unref(w[0]);
    settle(b->ctx);
    assert_int_equal(destroyed, 3);
}

static void make_and_close(void *user)
{
    bj_watch_unref(make_watch(user));
}

static void closed_before_it_has_begun_it_never_begins(void **state)
{
    bench *b = *state;
    atomic_store(&destroyed, 0);
    on_loop(b->ctx, make_and_close, b);
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
    assert_null(list);
}

static void a_watch_made_on_a_closed_context_is_closed(void **state)
{
    bench *b = *state;
    atomic_store(&destroyed, 0);
    bj_ctx_close(b->ctx);
    bj_watch *w = make_watch(b);
    assert_non_null(w);
    const bj_record *r;
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_OK);
    assert_int_equal(r->kind, BJ_RECORD_CLOSED);
    assert_int_equal(r->error, BJ_E_CLOSED);
    end(w);
    assert_int_equal(destroyed, 1);
}

/* ------------------------------------------------------------------ readers */

static void a_watch_is_read_in_one_way(void **state)
{
    bench *b = *state;
    bj_queue *queue;
    const bj_record *r;
    tally t = TALLY_INIT;
    bj_queue_new(b->ctx, &queue);

    bj_watch *pulled = watch_on(b, 4);
    assert_int_equal(bj_watch_next(pulled, 0, &r), BJ_E_TIMEOUT);
    assert_int_equal(bj_watch_deliver(pulled, queue, 1), BJ_E_STATE);
    assert_int_equal(bj_watch_on_record(pulled, tally_watch_closure(&t)), BJ_E_STATE);
    assert_int_equal(t.frees, 1);
    end(pulled);

    bj_watch *queued = watch_on(b, 4);
    assert_int_equal(bj_watch_deliver(queued, queue, 1), BJ_OK);
    assert_int_equal(bj_watch_deliver(queued, queue, 1), BJ_E_STATE);
    assert_int_equal(bj_watch_next(queued, 0, &r), BJ_E_STATE);
    assert_int_equal(bj_watch_on_record(queued, tally_watch_closure(&t)), BJ_E_STATE);
    assert_int_equal(t.frees, 2);
    bj_watch_close(queued);
    end(queued);
    bj_queue_unref(queue);
}

static void b71_a_callback_gets_each_record_and_its_free_comes_last(void **state)
{
    bench *b = *state;
    tally t = TALLY_INIT;
    bj_watch *w = watch_on(b, 1000);
    push_events(w, 1, 3);
    assert_int_equal(bj_watch_on_record(w, tally_watch_closure(&t)), BJ_OK);
    push_events(w, 4, 300); /* more than a batch */
    settle(b->ctx);
    watch_end(w, BJ_E_DISCONNECTED, NULL);
    push_events(w, 301, 302);
    tally_await(&t, 301, 1);
    assert_int_equal(t.error, BJ_E_DISCONNECTED);
    end(w);
    settle(b->ctx);
    tally_await(&t, 301, 1);
    assert_int_equal(t.calls, 301);
    assert_int_equal(destroyed, 0); /* its owner still has it */
    on_loop(b->ctx, let_all_go, NULL);
    assert_int_equal(destroyed, 1);
}

static void close_in_callback(bj_watch *watch, const bj_record *record, void *user)
{
    atomic_int *calls = user;
    atomic_fetch_add(calls, 1);
    if (record->kind == BJ_RECORD_EVENT)
        bj_watch_close(watch);
}

static void b71_a_callback_may_close_its_watch(void **state)
{
    bench *b = *state;
    atomic_int calls = 0;
    bj_watch *w = watch_on(b, 100);
    push_events(w, 1, 50);
    bj_watch_on_record(w, (bj_watch_closure){.fn = close_in_callback, .user = &calls});
    settle(b->ctx);
    settle(b->ctx);
    assert_int_equal(calls, 2); /* the first event, and CLOSED */
    end(w);
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
}

static void b71_a_callbacks_watch_needs_no_handle(void **state)
{
    bench *b = *state;
    tally t = TALLY_INIT;
    bj_watch *w = watch_on(b, 100);
    bj_watch_on_record(w, tally_watch_closure(&t));
    watch_ref_memory(w); /* for the pushes below */
    bj_watch_unref(w);
    push_events(w, 1, 5);
    watch_end(w, BJ_OK, NULL);
    watch_unref_memory(w);
    tally_await(&t, 6, 1);
    on_loop(b->ctx, let_all_go, NULL);
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
}

struct deadlock {
    bj_watch *watch;
    int with_none, with_zero;
};

static void pull_on_the_loop(void *user)
{
    struct deadlock *d = user;
    const bj_record *r;
    d->with_none = bj_watch_next(d->watch, BJ_TIMEOUT_NONE, &r);
    d->with_zero = bj_watch_next(d->watch, 0, &r);
}

static void b72_pulling_on_the_loop_is_a_deadlock(void **state)
{
    bench *b = *state;
    struct deadlock d = {.watch = watch_on(b, 4)};
    on_loop(b->ctx, pull_on_the_loop, &d);
    assert_int_equal(d.with_none, BJ_E_DEADLOCK);
    assert_int_equal(d.with_zero, BJ_E_TIMEOUT);
    push_events(d.watch, 1, 2);
    on_loop(b->ctx, pull_on_the_loop, &d);
    assert_int_equal(d.with_none, BJ_OK);
    assert_int_equal(d.with_zero, BJ_OK);
    end(d.watch);
}

static void a_queue_gets_records_in_batches(void **state)
{
    bench *b = *state;
    bj_queue *queue;
    bj_queue_new(b->ctx, &queue);
    bj_watch *w = watch_on(b, 8);
    push_events(w, 1, 3);
    assert_int_equal(bj_watch_deliver(w, queue, 42), BJ_OK);
    push_events(w, 4, 10);
    watch_end(w, BJ_E_DISCONNECTED, NULL);
    bj_watch_unref(w); /* the queue still has it */

    bj_record r[3];
    int64_t expected = 3;
    int kinds = 0, n;
    while ((n = bj_queue_read(queue, r, sizeof(bj_record), 3)) > 0) {
        for (int i = 0; i < n; i++, kinds++) {
            assert_int_equal(r[i].token, 42);
            if (kinds == 0) {
                assert_int_equal(r[i].kind, BJ_RECORD_LAGGED);
                assert_int_equal(r[i].lost, 2);
            } else if (kinds < 9) {
                char text[8];
                snprintf(text, sizeof text, "%d", (int)expected);
                assert_int_equal(r[i].current, expected++);
                assert_string_equal(r[i].text, text); /* the strings of a whole batch are valid */
            } else {
                assert_int_equal(r[i].kind, BJ_RECORD_CLOSED);
            }
        }
        struct pollfd fd = {.fd = bj_queue_fd(queue), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 0), kinds < 10);
    }
    assert_int_equal(kinds, 10);
    bj_queue_unref(queue);
}

static void two_watches_in_a_queue_have_their_turns(void **state)
{
    bench *b = *state;
    bj_queue *queue;
    bj_queue_new(b->ctx, &queue);
    bj_watch *w[] = {watch_on(b, 100), watch_on(b, 100)};
    for (unsigned i = 0; i < 2; i++) {
        bj_watch_deliver(w[i], queue, i);
        push_events(w[i], 0, 19);
    }
    bj_record r[4];
    int64_t next[2] = {0, 0};
    int turns = 0;
    uint64_t last = 9;
    for (int n; (n = bj_queue_read(queue, r, sizeof(bj_record), 4)) > 0;) {
        for (int i = 0; i < n; i++) {
            assert_int_equal(r[i].current, next[r[i].token]++);
            turns += r[i].token != last;
            last = r[i].token;
        }
    }
    assert_int_equal(next[0], 20);
    assert_int_equal(next[1], 20);
    assert_true(turns > 2); /* a busy one does not shut out the other */
    for (int i = 0; i < 2; i++) {
        bj_watch_close(w[i]);
        end(w[i]);
    }
    bj_queue_unref(queue);
}

static void closing_a_watch_in_a_queue_leaves_its_last_record(void **state)
{
    bench *b = *state;
    bj_queue *queue;
    bj_queue_new(b->ctx, &queue);
    bj_watch *w = watch_on(b, 100);
    bj_watch_deliver(w, queue, 5);
    push_events(w, 1, 9);
    bj_record r[20];
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 2), 2);
    bj_watch_close(w);
    bj_watch_unref(w);
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 20), 1);
    assert_int_equal(r[0].kind, BJ_RECORD_CLOSED);
    assert_int_equal(r[0].error, BJ_E_CLOSED);
    assert_int_equal(bj_queue_read(queue, r, sizeof(bj_record), 20), 0);
    bj_queue_unref(queue);
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
}

static void a_queue_may_go_with_watches_in_it(void **state)
{
    bench *b = *state;
    bj_queue *queue;
    bj_queue_new(b->ctx, &queue);
    bj_watch *w = watch_on(b, 4);
    bj_watch_deliver(w, queue, 5);
    push_events(w, 1, 9);
    bj_record r;
    assert_int_equal(bj_queue_read(queue, &r, sizeof(bj_record), 1), 1);
    bj_queue_unref(queue);
    push_events(w, 10, 12);
    bj_watch_close(w);
    bj_watch_unref(w);
    settle(b->ctx);
    assert_int_equal(destroyed, 1);
}

static void c84_a_watch_that_nobody_can_read_is_closed(void **state)
{
    bench *b = *state;
    for (int queue_first = 0; queue_first < 2; queue_first++) {
        bj_queue *queue;
        assert_int_equal(bj_queue_new(b->ctx, &queue), BJ_OK);
        bj_watch *w = watch_on(b, 4);
        assert_int_equal(bj_watch_deliver(w, queue, 5), BJ_OK);
        push_events(w, 1, 9);
        if (queue_first)
            bj_queue_unref(queue);
        bj_watch_unref(w);
        if (!queue_first)
            bj_queue_unref(queue);
        settle(b->ctx);
        assert_int_equal(destroyed, 1);
        assert_null(list);
    }
}

/* ------------------------------------------------------------------ threads */

enum { CROWD = 3000 };

static void *push_many(void *user)
{
    push_events(user, 0, CROWD - 1);
    return NULL;
}

static void b61_from_many_threads_what_is_pushed_is_read_or_counted(void **state)
{
    bench *b = *state;
    bj_watch *w = watch_on(b, 16);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, push_many, w), 0);
    uint64_t count = 0;
    const bj_record *r;
    while (count < 3 * CROWD) {
        assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_OK);
        count += r->kind == BJ_RECORD_LAGGED ? r->lost : 1;
    }
    assert_int_equal(count, 3 * CROWD);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(bj_watch_next(w, 0, &r), BJ_E_TIMEOUT);
    end(w);
}

static void *close_it(void *user)
{
    bj_watch_close(user);
    return NULL;
}

static void b62_a_close_by_another_thread_wakes_the_reader(void **state)
{
    bench *b = *state;
    bj_watch *w = watch_on(b, 16);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, close_it, w), 0);
    const bj_record *r;
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_OK);
    assert_int_equal(r->kind, BJ_RECORD_CLOSED);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(bj_watch_next(w, BJ_TIMEOUT_NONE, &r), BJ_E_CLOSED);
    end(w);
}

#define with_watches(test) cmocka_unit_test_setup_teardown(test, watch_setup, watch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_watches(b61_as_many_as_the_ring_holds_are_kept),
        with_watches(b61_the_oldest_go_and_are_counted),
        with_watches(b61_a_ring_of_one),
        with_watches(b61_large_records_are_bounded_by_their_bytes),
        with_watches(b61_ready_ended_and_closed_are_never_lost),
        with_watches(b61_what_was_lost_last_is_told_with_what_comes_next),
        with_watches(b61_ready_and_ends_of_many_jobs_are_kept),
        with_watches(b61_ends_beyond_the_limit_are_counted_by_themselves),
        with_watches(b61_texts_of_ends_are_bounded),
        with_watches(b61_the_latest_stall_is_never_lost),
        with_watches(b61_a_stall_that_is_history_can_be_lost),
        with_watches(b61_a_stall_that_was_read_is_no_longer_kept),
        with_watches(b61_stalls_and_resumes_without_end_stay_bounded),
        with_watches(b61_a_record_that_could_not_be_made_is_counted),
        with_watches(c91_losses_alone_wake_the_reader),
        with_watches(c91_after_a_close_comes_only_closed),
        with_watches(b61_whatever_is_pushed_is_read_or_counted),
        with_watches(b62_the_last_record_says_why),
        with_watches(b62_closing_drops_what_was_not_read),
        with_watches(b62_closing_lets_go_of_what_was_kept),
        with_watches(b75_a_watch_is_destroyed_once),
        with_watches(its_owner_may_let_go_before_it_is_closed),
        with_watches(closed_before_it_has_begun_it_never_begins),
        with_watches(a_watch_made_on_a_closed_context_is_closed),
        with_watches(a_watch_is_read_in_one_way),
        with_watches(b71_a_callback_gets_each_record_and_its_free_comes_last),
        with_watches(b71_a_callback_may_close_its_watch),
        with_watches(b71_a_callbacks_watch_needs_no_handle),
        with_watches(b72_pulling_on_the_loop_is_a_deadlock),
        with_watches(a_queue_gets_records_in_batches),
        with_watches(two_watches_in_a_queue_have_their_turns),
        with_watches(closing_a_watch_in_a_queue_leaves_its_last_record),
        with_watches(a_queue_may_go_with_watches_in_it),
        with_watches(c84_a_watch_that_nobody_can_read_is_closed),
        with_watches(b61_from_many_threads_what_is_pushed_is_read_or_counted),
        with_watches(b62_a_close_by_another_thread_wakes_the_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
