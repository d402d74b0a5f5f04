/* SPDX-License-Identifier: MIT */
/*
 * Limits: a peer that wants too much costs a connection and bounded memory; a program that does is
 * told so at once.
 */
#include "fake.h"
#include "records.h"

/* A world with that limit, connected. */
static world *limited(void **state, bj_limit limit, uint64_t value)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, limit, value), BJ_OK);
    w->monitor = connect_to(w, fake_path(w));
    return w;
}

/* The connection ends, says why, and takes what waits on it along. */
static void assert_ends_with(world *w, int error, bj_future *pending)
{
    bj_future *closed = expect(w, bj_monitor_closed(w->monitor), error);
    names(closed, fake_path(w));
    assert_int_equal(bj_future_wait(pending, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_not_equal(bj_future_error(pending), BJ_OK);
    step(w, JSON({"do": "wait", "what": "disconnect"}));
}

static bj_future *held_command(world *w)
{
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *held =
        hold(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE));
    await_sent(w, "query-status");
    return held;
}

static void b54_messages_up_to_the_limit_arrive(void **state)
{
    world *w = limited(state, BJ_LIMIT_MESSAGE_BYTES, 1 << 20);
    bj_watch *watch = watch_monitor(w);
    step(w, JSON({"do": "huge", "bytes": 1000000}));

    const bj_record *record = next_record(watch);
    assert_string_equal(record->name, "HUGE");
    assert_true(strlen(record->text) > 1000000);
}

static void b54_a_message_beyond_the_limit_ends_the_connection(void **state)
{
    world *w = limited(state, BJ_LIMIT_MESSAGE_BYTES, 64 * 1024);
    bj_future *pending = held_command(w);
    step(w, JSON({"do": "huge", "bytes": 70000}));
    assert_ends_with(w, BJ_E_PROTOCOL, pending);
}

static void b56_a_line_that_never_ends_ends_the_connection(void **state)
{
    world *w = limited(state, BJ_LIMIT_MESSAGE_BYTES, 64 * 1024);
    bj_future *pending = held_command(w);
    step(w, "{\"do\": \"raw\", \"text\": \"{\\\"event\\\": \\\"\"}");
    step(w, JSON({"do": "raw", "text": "xxxxxxxxxx", "times": 7000}));
    assert_ends_with(w, BJ_E_PROTOCOL, pending);
}

static void b56_a_flood_of_tokens_ends_the_connection(void **state)
{
    world *w = limited(state, BJ_LIMIT_MESSAGE_TOKENS, 20000);
    bj_future *pending = held_command(w);
    step(w, "{\"do\": \"raw\", \"text\": \"{\\\"event\\\": \\\"X\\\", \\\"data\\\": [\"}");
    step(w, JSON({"do": "raw", "text": "{},", "times": 20000}));
    assert_ends_with(w, BJ_E_PROTOCOL, pending);
}

static void b56_deep_nesting_ends_the_connection(void **state)
{
    world *w = limited(state, BJ_LIMIT_MESSAGE_NESTING, 50);
    bj_watch *watch = watch_monitor(w);
    step(w, JSON({"do": "deep", "depth": 40}));
    assert_string_equal(next_record(watch)->name, "DEEP");

    bj_future *pending = held_command(w);
    step(w, JSON({"do": "deep", "depth": 60}));
    assert_ends_with(w, BJ_E_PROTOCOL, pending);
}

static void b56_what_is_no_json_ends_the_connection(void **state)
{
    static const char *const garbage[] = {
        "}",          "garbage\\n", "[]\\n",        "{\\\"a\\\" 1}\\n",
        "\\u0000\\n", "{}\\n",      "\\\"x\\\"\\n", "{\\\"surprise\\\": 1}\\n",
    };
    world *w = *state;
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        bj_future *connected = bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE);
        bj_monitor *monitor = bj_future_monitor(answers(connected, BJ_OK));
        bj_future *closed = bj_monitor_closed(monitor);
        step(w, "{\"do\": \"raw\", \"text\": \"%s\"}", garbage[i]);
        if (bj_future_wait(closed, 20 * 1000) != BJ_OK || bj_future_error(closed) != BJ_E_PROTOCOL)
            fail_msg("%s: %s", garbage[i], bj_error_name(bj_future_error(closed)));
        bj_future_unref(closed);
        bj_future_unref(connected);
        bj_monitor_unref(monitor);
    }
}

static void no_more_than_so_many_commands_are_in_flight(void **state)
{
    world *w = limited(state, BJ_LIMIT_IN_FLIGHT, 4);
    step(w, JSON({"do": "hold", "command": "query-status", "count": 0}));
    bj_future *futures[20];
    for (int i = 0; i < 20; i++)
        futures[i] = hold(w, bj_monitor_execute(w->monitor, "query-status", NULL, -1));
    step(w, JSON({"do": "wait", "what": "held", "command": "query-status", "count": 4}));
    assert_int_equal(times_sent(w, "query-status"), 4);

    /* Each answer makes room for one more. */
    for (int count = 4; count <= 20; count += 4) {
        step(w, JSON({"do": "wait", "what": "held", "command": "query-status", "count": %d}),
                     count);
        step(w, JSON({"do": "release"}));
    }
    for (int i = 0; i < 20; i++)
        answers(futures[i], BJ_OK);
}

static void commands_beyond_the_queue_are_busy(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_IN_FLIGHT, 1), BJ_OK);
    limited(state, BJ_LIMIT_QUEUED, 8);
    bj_future *held = held_command(w);
    bj_future *futures[20];
    int busy = 0;
    for (int i = 0; i < 20; i++)
        futures[i] = hold(w, bj_monitor_execute(w->monitor, "query-version", NULL, -1));

    bj_future *last = answers(futures[19], BJ_E_BUSY);
    names(last, "limit");
    step(w, JSON({"do": "release"}));
    answers(held, BJ_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(bj_future_wait(futures[i], BJ_TIMEOUT_NONE), BJ_OK);
        busy += bj_future_error(futures[i]) == BJ_E_BUSY;
    }
    assert_int_equal(busy, 12);
    expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, -1), BJ_OK);
}

static void runs_beyond_the_limit_are_busy(void **state)
{
    world *w = limited(state, BJ_LIMIT_JOBS, 4);
    bj_job *jobs[4];
    for (int i = 0; i < 4; i++)
        jobs[i] = fake_mirror(w);
    names(expect(w, bj_monitor_mirror(w->monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE),
                 BJ_E_BUSY),
          fake_path(w));

    expect(w, bj_job_abort(jobs[0], BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(jobs[0], BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    fake_mirror(w);
}

static void their_backup(world *w, const char *id)
{
    step(w, JSON({
             "do": "execute",
             "command": "blockdev-backup",
             "arguments": {"job-id": "%s", "device": "drive0", "target": "copy", "sync": "full"}
         }),
                   id);
}

/* QEMU has more jobs than may be followed: whichever are asked for have their rows all the same. */
static void c14_a_list_beyond_the_limit_has_the_jobs_that_are_asked_for(void **state)
{
    static const char *const ids[] = {"first", "second", "third", "fourth"};
    world *w = *state;
    for (int i = 0; i < 4; i++)
        their_backup(w, ids[i]);
    limited(state, BJ_LIMIT_JOBS, 2);

    bj_job *first = attach(w, "first"), *last = attach(w, "fourth");
    names(expect(w, bj_monitor_attach(w->monitor, "second", BJ_TIMEOUT_NONE), BJ_E_BUSY), "limit");
    expect(w, bj_monitor_attach(w->monitor, "nobody", BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
    expect(w, bj_job_query(first, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_query(last, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_job_outcome(first), BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_outcome(last), BJ_OUTCOME_NONE);
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(b54_messages_up_to_the_limit_arrive),
        UNCONNECTED_TEST(b54_a_message_beyond_the_limit_ends_the_connection),
        UNCONNECTED_TEST(b56_a_line_that_never_ends_ends_the_connection),
        UNCONNECTED_TEST(b56_a_flood_of_tokens_ends_the_connection),
        UNCONNECTED_TEST(b56_deep_nesting_ends_the_connection),
        UNCONNECTED_TEST(b56_what_is_no_json_ends_the_connection),
        UNCONNECTED_TEST(no_more_than_so_many_commands_are_in_flight),
        UNCONNECTED_TEST(commands_beyond_the_queue_are_busy),
        UNCONNECTED_TEST(runs_beyond_the_limit_are_busy),
        UNCONNECTED_TEST(c14_a_list_beyond_the_limit_has_the_jobs_that_are_asked_for),
    };
    return run_on_fake(tests);
}
