/* SPDX-License-Identifier: MIT */
/*
 * Commands that are executed out of band: negotiated where that is asked for and offered; sent
 * before all others, of which few are sent at a time; and what descriptors need there.
 */
#include "fake.h"
#include "records.h"

#include <string.h>

static bj_future *connect_for(world *w, bool out_of_band)
{
    const bj_connect_options options = {.size = sizeof options, .out_of_band = out_of_band};
    return hold(w, bj_monitor_connect_with(w->ctx, fake_path(w), &options, BJ_TIMEOUT_DEFAULT));
}

static void connect_out_of_band(world *w)
{
    w->monitor = hold_monitor(w, bj_future_monitor(answers(connect_for(w, true), BJ_OK)));
}

static bj_future *execute(world *w, const char *command)
{
    return hold(w, bj_monitor_execute(w->monitor, command, NULL, BJ_TIMEOUT_NONE));
}

static bj_future *out_of_band(world *w, const char *command)
{
    const bj_execute_options options = {.size = sizeof options, .out_of_band = true};
    return hold(w, bj_monitor_execute_with(w->monitor, command, NULL, &options, BJ_TIMEOUT_NONE));
}

static bj_future *with_descriptor(world *w, const char *command)
{
    const int fd = 0;
    const bj_execute_options options = {.size = sizeof options, .fds = &fd, .fd_count = 1};
    return hold(w, bj_monitor_execute_with(w->monitor, command, NULL, &options, BJ_TIMEOUT_NONE));
}

/* -------------------------------------------------------------------- negotiating */

static void w07_it_is_not_negotiated_unasked(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "log", "clear": true}));
    w->monitor = hold_monitor(w, bj_future_monitor(answers(connect_for(w, false), BJ_OK)));
    assert_false(log_has(w, "enable"));
    bj_future *refused = answers(out_of_band(w, "query-version"), BJ_E_UNSUPPORTED);
    names(refused, "query-version");
    names(refused, "QEMU 7.2.");
    names(refused, "connect with the option out_of_band");
    assert_false(log_has(w, "exec-oob"));
}

static void w07_it_is_negotiated_where_it_is_asked_for(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "log", "clear": true}));
    connect_out_of_band(w);
    assert_true(log_has(w, "\"enable\": [\"oob\"]"));
    answers(out_of_band(w, "query-version"), BJ_OK);
    assert_true(log_has(w, "exec-oob"));
}

static void w07_a_qemu_that_has_none_is_named(void **state)
{
    world *w = *state;
    be(w, "3.1");
    bj_monitor_close(w->monitor);
    connect_out_of_band(w);
    assert_false(log_has(w, "enable"));
    bj_future *refused = answers(out_of_band(w, "query-version"), BJ_E_UNSUPPORTED);
    names(refused, "QEMU 3.1.");
    names(refused, fake_path(w));
    answers(execute(w, "query-version"), BJ_OK);
    assert_false(log_has(w, "exec-oob"));
}

static void w07_it_is_negotiated_again_with_each_connection(void **state)
{
    world *w = *state;
    connect_out_of_band(w);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    step(w, JSON({"do": "hang-up"}));
    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_RECONNECTED);
    answers(out_of_band(w, "query-version"), BJ_OK);
}

static void w07_options_of_no_size_are_refused(void **state)
{
    world *w = *state;
    const bj_connect_options options = {.out_of_band = true};
    bj_future *refused =
        expect(w, bj_monitor_connect_with(w->ctx, fake_path(w), &options, -1), BJ_E_INVAL);
    names(refused, "bj_connect_options");
    answers(hold(w, bj_monitor_connect_with(w->ctx, fake_path(w), NULL, -1)), BJ_OK);
}

/* ------------------------------------------------------------------------ order */

#define AT_A_TIME 7

static void w07_it_overtakes_all_that_waits(void **state)
{
    enum { COMMANDS = 20 };
    world *w = *state;
    bj_future *waiting[COMMANDS];
    connect_out_of_band(w);
    step(w, JSON({"do": "hold", "command": "query-status", "count": %d}), AT_A_TIME);
    for (int i = 0; i < COMMANDS; i++)
        waiting[i] = execute(w, "query-status");

    answers(out_of_band(w, "query-version"), BJ_OK);
    assert_int_equal(times_sent(w, "query-status"), AT_A_TIME);
    assert_false(bj_future_is_done(waiting[0]));
    step(w, JSON({"do": "release"}));
    for (int i = 0; i < COMMANDS; i++)
        answers(waiting[i], BJ_OK);
}

static void w07_many_at_a_time_without_it(void **state)
{
    enum { COMMANDS = 20 };
    world *w = *state;
    bj_future *waiting[COMMANDS];
    step(w, JSON({"do": "hold", "command": "query-status", "count": %d}), COMMANDS);
    for (int i = 0; i < COMMANDS; i++)
        waiting[i] = execute(w, "query-status");
    answers(execute(w, "query-version"), BJ_OK);
    assert_int_equal(times_sent(w, "query-status"), COMMANDS);
    step(w, JSON({"do": "release"}));
    for (int i = 0; i < COMMANDS; i++)
        answers(waiting[i], BJ_OK);
}

static void w07_the_limit_holds_for_it_too(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_IN_FLIGHT, 2), BJ_OK);
    connect_out_of_band(w);
    step(w, JSON({"do": "hold", "command": "query-version", "count": 2}));
    bj_future *first = out_of_band(w, "query-version");
    bj_future *second = out_of_band(w, "query-version");
    bj_future *third = out_of_band(w, "query-version");
    while (times_sent(w, "query-version") < 2)
        continue;
    assert_false(bj_future_is_done(third));
    step(w, JSON({"do": "release"}));
    answers(first, BJ_OK);
    answers(second, BJ_OK);
    answers(third, BJ_OK);
}

/* A command that has taken descriptors along, and has not been answered, is the only one. */
static void w07_descriptors_go_alone(void **state)
{
    world *w = *state;
    connect_out_of_band(w);
    step(w, JSON({"do": "hold", "command": "query-status"}));
    step(w, JSON({"do": "hold", "command": "query-block"}));
    bj_future *before = execute(w, "query-status");
    bj_future *passing = with_descriptor(w, "query-block");
    bj_future *after = execute(w, "query-commands");

    answers(out_of_band(w, "query-version"), BJ_OK);
    assert_int_equal(times_sent(w, "query-status"), 1);
    assert_int_equal(times_sent(w, "query-block"), 0);
    step(w, JSON({"do": "release", "command": "query-status"}));
    answers(before, BJ_OK);
    await_sent(w, "query-block");
    answers(out_of_band(w, "query-version"), BJ_OK);
    assert_int_equal(times_sent(w, "query-commands"), 1); /* the negotiation's */
    assert_false(bj_future_is_done(passing));
    step(w, JSON({"do": "release", "command": "query-block"}));
    answers(passing, BJ_OK);
    answers(after, BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(w07_it_is_not_negotiated_unasked),
        UNCONNECTED_TEST(w07_it_is_negotiated_where_it_is_asked_for),
        UNCONNECTED_TEST(w07_a_qemu_that_has_none_is_named),
        UNCONNECTED_TEST(w07_it_is_negotiated_again_with_each_connection),
        UNCONNECTED_TEST(w07_options_of_no_size_are_refused),
        UNCONNECTED_TEST(w07_it_overtakes_all_that_waits),
        FAKE_TEST(w07_many_at_a_time_without_it),
        UNCONNECTED_TEST(w07_the_limit_holds_for_it_too),
        UNCONNECTED_TEST(w07_descriptors_go_alone),
    };
    return run_on_fake(tests);
}
