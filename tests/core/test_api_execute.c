/* SPDX-License-Identifier: MIT */
/*
 * Any command: exact bytes both ways, refusals, bad arguments, late and strange replies.
 */
#include "fake.h"
#include "records.h"

static bj_future *execute(world *w, const char *command, const char *arguments)
{
    return hold(w, bj_monitor_execute(w->monitor, command, arguments, BJ_TIMEOUT_NONE));
}

static void a_reply_is_json_as_sent(void **state)
{
    world *w = *state;
    bj_future *reply = answers(execute(w, "query-version", NULL), BJ_OK);
    json_t *value = json_loads(bj_future_json(reply), 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(value, "qemu"), "major")),
                     7);
    json_decref(value);
    assert_string_equal(bj_future_text(reply), "");
    assert_string_equal(bj_future_error_class(reply), "");
    assert_null(bj_future_job(reply));
    assert_null(bj_future_monitor(reply));
}

static void b55_integers_beyond_int64_are_exact(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "answer", "command": "query-status", "count": 2,
                  "return": {"a": 18446744073709551615, "b": -9223372036854775808,
                             "c": 340282366920938463463374607431768211456}}));

    const char *json = bj_future_json(answers(execute(w, "query-status", NULL), BJ_OK));
    assert_non_null(strstr(json, "18446744073709551615"));
    assert_non_null(strstr(json, "-9223372036854775808"));
    assert_non_null(strstr(json, "340282366920938463463374607431768211456"));
    answers(execute(w, "query-status", NULL), BJ_OK);
}

static void b55_arguments_are_sent_as_they_are(void **state)
{
    world *w = *state;
    bj_future *refused =
        answers(execute(w, "query-status", JSON({"x": 18446744073709551615})), BJ_E_REFUSED);
    names(refused, "'x'");

    assert_true(log_has(w, "{\"x\": 18446744073709551615}"));
}

static void a_refusal_has_qemus_class_and_text(void **state)
{
    world *w = *state;
    bj_future *refused =
        answers(execute(w, "block-job-cancel", JSON({"device": "nonesuch"})), BJ_E_REFUSED);

    assert_string_equal(bj_future_error_class(refused), "DeviceNotActive");
    names(refused, "nonesuch");
    assert_null(bj_future_json(refused));
}

static void an_unknown_command_is_named(void **state)
{
    world *w = *state;
    bj_future *refused = execute(w, "no-such-command", NULL);
    assert_int_equal(bj_future_wait(refused, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_future_error(refused) == BJ_E_REFUSED ||
                bj_future_error(refused) == BJ_E_UNSUPPORTED);
    names(refused, "no-such-command");
}

static void arguments_that_are_no_json_object_are_refused_here(void **state)
{
    world *w = *state;
    static const char *const bad[] = {
        "",        "{",          "[]",           "1",
        "null",    "{\"a\": }",  "{\"a\": 1} x", "{a: 1}",
        "{'a':1}", "{\"a\":1,}", "\"{}\"",       "{\"a\": \"\n\"}",
        "{} {}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bj_future *refused = execute(w, "query-status", bad[i]);
        if (bj_future_error(answers(refused, BJ_E_INVAL)) != BJ_E_INVAL)
            fail_msg("%s", bad[i]);
        names(refused, "arguments");
        bj_future *start = hold(w, bj_monitor_start(w->monitor, "block-stream", bad[i], 5000));
        answers(start, BJ_E_INVAL);
        answers(hold(w, bj_monitor_mirror(w->monitor, "drive0", "copy", "full", bad[i], 5000)),
                BJ_E_INVAL);
    }
    assert_int_equal(times_sent(w, "query-status"), 0);
    assert_int_equal(times_sent(w, "block-stream"), 0);
    assert_int_equal(times_sent(w, "blockdev-mirror"), 0);
}

static void missing_arguments_are_named(void **state)
{
    world *w = *state;
    names(answers(execute(w, NULL, NULL), BJ_E_INVAL), "command");
    names(expect(w, bj_monitor_start(w->monitor, NULL, NULL, 5000), BJ_E_INVAL), "command");
    names(expect(w, bj_monitor_mirror(w->monitor, NULL, "t", "full", NULL, 5000), BJ_E_INVAL),
          "device");
    names(expect(w, bj_monitor_mirror(w->monitor, "d", NULL, "full", NULL, 5000), BJ_E_INVAL),
          "target");
    names(expect(w, bj_monitor_mirror(w->monitor, "d", "t", NULL, NULL, 5000), BJ_E_INVAL), "sync");
    names(expect(w, bj_monitor_commit(w->monitor, NULL, NULL, 5000), BJ_E_INVAL), "device");
    names(expect(w, bj_monitor_stream(w->monitor, NULL, NULL, 5000), BJ_E_INVAL), "device");
    names(expect(w, bj_monitor_backup(w->monitor, "d", NULL, "full", NULL, 5000), BJ_E_INVAL),
          "target");
    names(expect(w, bj_monitor_attach(w->monitor, NULL, 5000), BJ_E_INVAL), "id");
    names(expect(w, bj_monitor_attach(w->monitor, "nonesuch", 5000), BJ_E_NO_JOB), "nonesuch");
}

static void negative_timeouts_are_refused_everywhere(void **state)
{
    world *w = *state;
    bj_monitor *m = w->monitor;
    bj_job *job = fake_mirror(w);
    bj_future *futures[] = {
        bj_monitor_execute(m, "query-status", NULL, -3),
        bj_monitor_start(
            m, "block-stream", JSON({"device": "disk0"}), -3),
            bj_monitor_mirror(m, "disk0", "t", "full", NULL, -3),
            bj_monitor_commit(m, "disk0", NULL, -3), bj_monitor_stream(m, "disk0", NULL, -3),
            bj_monitor_backup(m, "disk0", "t", "full", NULL, -3), bj_monitor_attach(m, "x", -3),
            bj_monitor_list(m, -3), bj_job_ready(job, -3), bj_job_done(job, BJ_DONE_OVER, -3),
            bj_job_pivot(job, BJ_PIVOT_WAIT_READY, -3), bj_job_abort(job, BJ_ABORT_SOFT, -3),
            bj_job_abort_escalate(job, 1, -3), bj_job_pause(job, -3), bj_job_resume(job, -3),
            bj_job_set_speed(job, 0, -3), bj_job_finalize(job, -3), bj_job_dismiss(job, -3),
            bj_job_query(job, -3),
        };
    for (size_t i = 0; i < sizeof(futures) / sizeof(futures[0]); i++)
        names(expect(w, futures[i], BJ_E_INVAL), "-3");
    assert_int_equal(bj_future_wait(futures[0], -3), BJ_E_INVAL);
    const bj_record *record;
    assert_int_equal(bj_watch_next(watch_job(w, job, 0), -3, &record), BJ_E_INVAL);
}

static void other_numbers_that_make_no_sense_are_refused(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_watch *watch = NULL;

    expect(w, bj_job_set_speed(job, -1, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    expect(w, bj_job_done(job, 2, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    expect(w, bj_job_pivot(job, 8, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    expect(w, bj_job_abort(job, 8, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    expect(w, bj_job_abort_escalate(job, -1, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    assert_int_equal(bj_job_watch(job, -1, &watch), BJ_E_INVAL);
    assert_null(watch);
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_JOBS, 0), BJ_E_INVAL);
    assert_int_equal(bj_ctx_set_limit(w->ctx, (bj_limit)99, 1), BJ_E_INVAL);
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_MESSAGE_NESTING, 1025), BJ_E_INVAL);
    assert_int_equal(times_sent(w, "block-job-set-speed"), 0);
}

static void b48_a_late_reply_is_dropped(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *late =
        expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, 20), BJ_E_TIMEOUT);
    names(late, "query-status");

    step(w, JSON({"do": "release"}));
    bj_future *version = answers(execute(w, "query-version", NULL), BJ_OK);
    assert_non_null(strstr(bj_future_json(version), "qemu"));
    answers(late, BJ_E_TIMEOUT);
    assert_null(bj_future_json(late));
}

static void b48_the_limit_of_the_context_is_the_default(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_COMMAND_MS, 20), BJ_OK);
    w->monitor = connect_to(w, fake_path(w));
    step(w, JSON({"do": "drop", "command": "query-status"}));

    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_DEFAULT),
           BJ_E_TIMEOUT);
}

static void a_cancelled_command_is_answered_at_once(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *cancelled = execute(w, "query-status", NULL);
    await_sent(w, "query-status");

    bj_future_cancel(cancelled);
    assert_true(bj_future_is_done(cancelled));
    answers(cancelled, BJ_E_CANCELLED);
    step(w, JSON({"do": "release"}));
    answers(execute(w, "query-version", NULL), BJ_OK);
    answers(cancelled, BJ_E_CANCELLED);
}

static void b56_replies_twice_and_for_nobody_are_dropped(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "duplicate", "command": "query-status"}));
    answers(execute(w, "query-status", NULL), BJ_OK);
    step(w,
         "{\"do\": \"raw\", \"text\": \"{\\\"return\\\": {}, \\\"id\\\": \\\"nobody\\\"}\\r\\n\"}");
    step(w, "{\"do\": \"raw\", \"text\": \"{\\\"return\\\": {}, \\\"id\\\": [1]}\\r\\n\"}");
    step(
        w,
        "{\"do\": \"raw\", \"text\": \"{\\\"return\\\": {}, \\\"id\\\": 18446744073709551615}\\r\\n\"}");

    answers(execute(w, "query-version", NULL), BJ_OK);
}

static void replies_in_another_order_find_their_callers(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *first = execute(w, "query-status", NULL);
    bj_future *second = answers(execute(w, "query-version", NULL), BJ_OK);
    assert_false(bj_future_is_done(first));
    step(w, JSON({"do": "release"}));

    assert_non_null(strstr(bj_future_json(answers(first, BJ_OK)), "prelaunch"));
    assert_non_null(strstr(bj_future_json(second), "major"));
}

static void b54_replies_in_pieces_arrive_whole(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "split", "bytes": 1}));
    bj_future *reply = answers(execute(w, "query-version", NULL), BJ_OK);
    assert_non_null(strstr(bj_future_json(reply), "package"));
}

static void b49_unknown_events_and_members_are_no_trouble(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "emit", "event": "NEVER_HEARD_OF", "data": {"a": [1, {"b": null}]}}));
    step(w, JSON({"do": "emit", "event": "JOB_STATUS_CHANGE", "data": {}}));
    step(w, JSON({"do": "emit", "event": "JOB_STATUS_CHANGE", "data": {"id": 7, "status": []}}));
    step(w, JSON({"do": "emit", "event": "BLOCK_JOB_COMPLETED", "data": {"device": "nobody"}}));
    step(w, JSON({"do": "emit", "event": "BLOCK_JOB_READY"}));

    answers(execute(w, "query-version", NULL), BJ_OK);
}

static void after_close_every_call_says_closed(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    assert_int_equal(bj_monitor_close(w->monitor), BJ_OK);
    assert_int_equal(bj_monitor_close(w->monitor), BJ_OK);

    names(answers(execute(w, "query-status", NULL), BJ_E_CLOSED), fake_path(w));
    expect(w, bj_monitor_stream(w->monitor, "disk0", NULL, 5000), BJ_E_CLOSED);
    expect(w, bj_monitor_attach(w->monitor, "x", 5000), BJ_E_CLOSED);
    expect(w, bj_monitor_list(w->monitor, 5000), BJ_E_CLOSED);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    expect(w, bj_job_pause(job, 5000), BJ_E_CLOSED);
    assert_int_equal(bj_monitor_has_command(w->monitor, "quit"), BJ_E_CLOSED);
    assert_string_equal(bj_monitor_uri(w->monitor), fake_path(w));
    bj_watch *watch = NULL;
    int error = bj_monitor_watch(w->monitor, &watch);
    assert_true(error == BJ_E_CLOSED || (error == BJ_OK && watch));
    bj_watch_unref(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_reply_is_json_as_sent),
        FAKE_TEST(b55_integers_beyond_int64_are_exact),
        FAKE_TEST(b55_arguments_are_sent_as_they_are),
        FAKE_TEST(a_refusal_has_qemus_class_and_text),
        FAKE_TEST(an_unknown_command_is_named),
        FAKE_TEST(arguments_that_are_no_json_object_are_refused_here),
        FAKE_TEST(missing_arguments_are_named),
        FAKE_TEST(negative_timeouts_are_refused_everywhere),
        FAKE_TEST(other_numbers_that_make_no_sense_are_refused),
        FAKE_TEST(b48_a_late_reply_is_dropped),
        UNCONNECTED_TEST(b48_the_limit_of_the_context_is_the_default),
        FAKE_TEST(a_cancelled_command_is_answered_at_once),
        FAKE_TEST(b56_replies_twice_and_for_nobody_are_dropped),
        FAKE_TEST(replies_in_another_order_find_their_callers),
        FAKE_TEST(b54_replies_in_pieces_arrive_whole),
        FAKE_TEST(b49_unknown_events_and_members_are_no_trouble),
        FAKE_TEST(after_close_every_call_says_closed),
    };
    return run_on_fake(tests);
}
