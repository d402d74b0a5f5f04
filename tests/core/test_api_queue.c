/* SPDX-License-Identifier: MIT */
/*
 * Queues: an fd that is readable while there are records, read in batches, in order.
 */
#include "fake.h"
#include "records.h"

#include <poll.h>
#include <stdbool.h>

static bj_queue *new_queue(world *w)
{
    bj_queue *queue;
    assert_int_equal(bj_queue_new(w->ctx, &queue), BJ_OK);
    return hold_queue(w, queue);
}

static bool is_readable(bj_queue *queue)
{
    struct pollfd fd = {.fd = bj_queue_fd(queue), .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static bj_future *list(world *w)
{
    return hold(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE));
}

static void an_empty_queue_is_not_readable(void **state)
{
    bj_queue *queue = new_queue(*state);
    bj_record records[4];

    assert_true(bj_queue_fd(queue) >= 0);
    assert_false(is_readable(queue));
    assert_int_equal(bj_queue_read(queue, records, sizeof(bj_record), 4), 0);
    assert_int_equal(bj_queue_read(queue, NULL, sizeof(bj_record), 4), BJ_E_INVAL);
    assert_int_equal(bj_queue_read(queue, records, sizeof(bj_record), -1), BJ_E_INVAL);
}

static void a_future_comes_with_its_token(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record record;
    assert_int_equal(bj_future_deliver(list(w), queue, UINT64_MAX), BJ_OK);

    assert_int_equal(read_queue(queue, &record, 1), 1);
    assert_int_equal(record.kind, BJ_RECORD_FUTURE);
    assert_true(record.token == UINT64_MAX);
    assert_int_equal(record.error, BJ_OK);
    assert_int_equal(record.outcome, BJ_OUTCOME_NONE);
    assert_string_equal(record.name, "");
    assert_non_null(record.text);
    assert_false(is_readable(queue));
}

static void a_future_that_is_done_is_delivered_too(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record record;
    bj_future *done = answers(list(w), BJ_OK);
    assert_int_equal(bj_future_deliver(done, queue, 5), BJ_OK);

    assert_int_equal(read_queue(queue, &record, 1), 1);
    assert_int_equal(record.token, 5);
}

static void a_record_has_all_of_the_answer(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record record;

    bj_future *version =
        hold(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE));
    bj_future_deliver(version, queue, 1);
    read_queue(queue, &record, 1);
    assert_non_null(strstr(record.text, "\"major\""));

    bj_future *refused = hold(w, bj_monitor_execute(w->monitor, "block-job-cancel",
                                                    JSON({"device": "none"}), BJ_TIMEOUT_NONE));
    bj_future_deliver(refused, queue, 2);
    read_queue(queue, &record, 1);
    assert_int_equal(record.error, BJ_E_REFUSED);
    assert_string_equal(record.name, "DeviceNotActive");
    assert_string_equal(record.text, bj_future_text(refused));

    bj_job *job = fake_ready_mirror(w);
    bj_future_deliver(hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)), queue, 3);
    read_queue(queue, &record, 1);
    assert_int_equal(record.token, 3);
    assert_int_equal(record.outcome, BJ_OUTCOME_PIVOTED);
}

static void batches_keep_the_order_and_the_fd_readable(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record records[16];
    bj_future *last = NULL;
    for (uint64_t token = 1; token <= 100; token++) {
        last = list(w);
        assert_int_equal(bj_future_deliver(last, queue, token), BJ_OK);
    }
    answers(last, BJ_OK);

    uint64_t expected = 1;
    while (expected <= 100) {
        int count = read_queue(queue, records, 16);
        assert_int_in_range(count, 1, 16);
        for (int i = 0; i < count; i++)
            assert_true(records[i].token == expected++);
    }
    assert_false(is_readable(queue));
    assert_int_equal(bj_queue_read(queue, records, sizeof(bj_record), 16), 0);
}

static void strings_live_until_the_next_read(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record records[2];
    bj_future *version = bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_deliver(version, queue, 1), BJ_OK);
    answers(version, BJ_OK);

    assert_int_equal(read_queue(queue, records, 2), 1);
    bj_future_unref(version);
    bj_monitor_close(w->monitor);
    assert_non_null(strstr(records[0].text, "\"major\""));
}

static void a_queue_keeps_its_futures_alive(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record record;
    step(w, JSON({"do": "hold", "command": "query-jobs"}));
    bj_future *future = bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_deliver(future, queue, 9), BJ_OK);
    bj_future_unref(future);

    await_sent(w, "query-jobs");
    assert_false(is_readable(queue));
    step(w, JSON({"do": "release"}));
    assert_int_equal(read_queue(queue, &record, 1), 1);
    assert_int_equal(record.error, BJ_OK);
}

static void a_second_queue_is_refused(void **state)
{
    world *w = *state;
    bj_queue *one = new_queue(w), *two = new_queue(w);
    bj_record record;
    bj_future *future = list(w);

    assert_int_equal(bj_future_deliver(future, one, 1), BJ_OK);
    assert_int_equal(bj_future_deliver(future, two, 2), BJ_E_STATE);
    assert_int_equal(bj_future_deliver(future, one, 3), BJ_E_STATE);
    assert_int_equal(bj_future_deliver(future, NULL, 3), BJ_E_INVAL);
    answers(future, BJ_OK);
    assert_int_equal(read_queue(one, &record, 1), 1);
    assert_int_equal(record.token, 1);
    assert_false(is_readable(two));
}

static void a_queue_of_another_context_is_refused(void **state)
{
    world *w = *state;
    bj_ctx *other;
    bj_queue *queue;
    assert_int_equal(bj_ctx_new(&other), BJ_OK);
    assert_int_equal(bj_queue_new(other, &queue), BJ_OK);

    assert_int_equal(bj_future_deliver(list(w), queue, 1), BJ_E_INVAL);
    assert_int_equal(bj_watch_deliver(watch_monitor(w), queue, 1), BJ_E_INVAL);

    bj_queue_unref(queue);
    bj_ctx_unref(other);
}

static void a_queue_that_is_let_go_drops_and_disturbs_nothing(void **state)
{
    world *w = *state;
    bj_queue *queue;
    assert_int_equal(bj_queue_new(w->ctx, &queue), BJ_OK);
    step(w, JSON({"do": "hold", "command": "query-jobs"}));
    bj_future *pending = list(w);
    bj_watch *watch = watch_monitor(w);
    assert_int_equal(bj_future_deliver(answers(list(w), BJ_OK), queue, 1), BJ_OK);
    assert_int_equal(bj_future_deliver(pending, queue, 2), BJ_OK);
    assert_int_equal(bj_watch_deliver(watch, queue, 3), BJ_OK);

    assert_ptr_equal(bj_queue_ref(queue), queue);
    assert_null(bj_queue_unref(queue));
    assert_null(bj_queue_unref(queue));
    step(w, JSON({"do": "emit", "event": "X"}));
    step(w, JSON({"do": "release"}));
    answers(pending, BJ_OK);
}

static void c84_a_pivot_that_nobody_can_hear_of_is_not_carried_out(void **state)
{
    world *w = *state;
    for (int queue_first = 0; queue_first < 2; queue_first++) {
        bj_queue *queue;
        assert_int_equal(bj_queue_new(w->ctx, &queue), BJ_OK);
        bj_job *job = fake_mirror(w);
        bj_future *pivot = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
        assert_int_equal(bj_future_deliver(pivot, queue, 1), BJ_OK);
        if (queue_first)
            bj_queue_unref(queue);
        bj_future_unref(pivot);
        if (!queue_first)
            bj_queue_unref(queue);

        step(w, JSON({"do": "ready"}));
        expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
        expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
        assert_int_equal(times_sent(w, "block-job-complete"), 0);
        assert_int_equal(times_sent(w, "job-complete"), 0);
        next_fake(w);
    }
}

static void a_watch_reports_to_a_queue_with_its_token(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record records[8];
    bj_job *job = fake_ready_mirror(w);
    bj_watch *watch = watch_job(w, job, 0);
    assert_int_equal(bj_watch_deliver(watch, queue, 77), BJ_OK);
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);

    const char *kinds = "";
    bool closed = false;
    while (!closed) {
        int count = read_queue(queue, records, 8);
        for (int i = 0; i < count; i++) {
            assert_int_equal(records[i].token, 77);
            if (records[i].kind != BJ_RECORD_STATUS)
                kinds = text_of(w, "%s %s", kinds, kind_name(records[i].kind));
            closed = closed || records[i].kind == BJ_RECORD_CLOSED;
        }
    }
    assert_string_equal(kinds, " READY ENDED CLOSED");
    assert_false(is_readable(queue));
}

static void what_is_pending_at_close_is_delivered(void **state)
{
    world *w = *state;
    bj_queue *queue = new_queue(w);
    bj_record records[4];
    step(w, JSON({"do": "hold", "command": "query-jobs"}));
    assert_int_equal(bj_future_deliver(list(w), queue, 1), BJ_OK);
    assert_int_equal(bj_watch_deliver(watch_monitor(w), queue, 2), BJ_OK);

    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    int count = read_queue(queue, records, 4);
    if (count < 2)
        count += read_queue(queue, records + count, 4 - count);
    assert_int_equal(count, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(records[i].error, BJ_E_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(an_empty_queue_is_not_readable),
        FAKE_TEST(a_future_comes_with_its_token),
        FAKE_TEST(a_future_that_is_done_is_delivered_too),
        FAKE_TEST(a_record_has_all_of_the_answer),
        FAKE_TEST(batches_keep_the_order_and_the_fd_readable),
        FAKE_TEST(strings_live_until_the_next_read),
        FAKE_TEST(a_queue_keeps_its_futures_alive),
        FAKE_TEST(a_second_queue_is_refused),
        FAKE_TEST(a_queue_of_another_context_is_refused),
        FAKE_TEST(a_queue_that_is_let_go_drops_and_disturbs_nothing),
        FAKE_TEST(c84_a_pivot_that_nobody_can_hear_of_is_not_carried_out),
        FAKE_TEST(a_watch_reports_to_a_queue_with_its_token),
        FAKE_TEST(what_is_pending_at_close_is_delivered),
    };
    return run_on_fake(tests);
}
