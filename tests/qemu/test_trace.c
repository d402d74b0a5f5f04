/* SPDX-License-Identifier: MIT */
/*
 * Traces: every line that goes over the wire of a monitor, for a function and for a watch.
 */
#include "nodes.h"
#include "records.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINES = 64 };

/* What a function was told; the loop's thread writes, and the test reads when that is over. */
typedef struct told {
    char *lines[LINES]; /* "> {...}", "< {...}" */
    atomic_int count;
} told;

static void note(const bj_record *record, void *user)
{
    told *t = user;
    int n = atomic_load(&t->count);
    if (n < LINES && asprintf(&t->lines[n], "%c %s", record->kind == BJ_RECORD_SENT ? '>' : '<',
                              record->text) < 0)
        abort();
    atomic_store(&t->count, n + 1);
}

static void forget(told *t)
{
    for (int i = 0; i < t->count && i < LINES; i++)
        free(t->lines[i]);
}

static bj_monitor *connect_traced(world *w, bj_connect_options options)
{
    options.size = sizeof options;
    bj_future *connected =
        bj_monitor_connect_with(w->ctx, path_of(w, "second.qmp"), &options, BJ_TIMEOUT_NONE);
    bj_monitor *monitor = bj_future_monitor(expect(w, connected, BJ_OK));
    return hold_monitor(w, monitor);
}

static bj_monitor *watch_wire(world *w, bj_connect_options options, bj_watch **ret_trace)
{
    options.ret_trace = ret_trace;
    bj_monitor *monitor = connect_traced(w, options);
    hold_watch(w, *ret_trace);
    return monitor;
}

static const bj_record *next_is(bj_watch *trace, bj_record_kind kind, const char *part)
{
    const bj_record *record = next_record(trace);
    if (record->kind != kind || !strstr(record->text, part))
        fail_msg("%s %s instead of %s %s", kind_name(record->kind), record->text, kind_name(kind),
                 part);
    return record;
}

static void w09_every_line_from_the_greeting_on(void **state)
{
    world *w = *state;
    bj_watch *trace = NULL;
    bj_monitor *monitor = watch_wire(w, (bj_connect_options){.name = "vm1"}, &trace);
    expect(w, bj_monitor_execute(monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_execute(monitor, "no-such-command", NULL, BJ_TIMEOUT_NONE), BJ_E_REFUSED);

    const bj_record *greeting = next_is(trace, BJ_RECORD_RECEIVED, "{\"QMP\":");
    assert_string_equal(greeting->name, "vm1");
    assert_true(greeting->timestamp_us > 0);
    assert_int_equal(greeting->sequence, 1);
    next_is(trace, BJ_RECORD_SENT, "{\"execute\":\"qmp_capabilities\"");
    next_is(trace, BJ_RECORD_RECEIVED, "{\"return\":");
    next_is(trace, BJ_RECORD_SENT, "{\"execute\":\"query-commands\"");
    next_is(trace, BJ_RECORD_RECEIVED, "\"block-job-cancel\"");
    const bj_record *sent = next_is(trace, BJ_RECORD_SENT, "{\"execute\":\"query-version\"");
    assert_int_equal(sent->text[strlen(sent->text) - 1], '}');
    next_is(trace, BJ_RECORD_RECEIVED, "\"package\":");
    next_is(trace, BJ_RECORD_SENT, "{\"execute\":\"no-such-command\"");
    next_is(trace, BJ_RECORD_RECEIVED, "\"CommandNotFound\"");

    bj_monitor_close(monitor);
    assert_int_equal(next_record(trace)->kind, BJ_RECORD_CLOSED);
}

/* Also the events that take the short way, when nobody watches events. */
static void w09_events_are_lines(void **state)
{
    world *w = *state;
    bj_watch *trace = NULL;
    bj_monitor *monitor = watch_wire(w, (bj_connect_options){0}, &trace);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = hold_job(
        w,
        bj_future_job(expect(
            w, bj_monitor_mirror(monitor, "disk", "copy", "full", NULL, BJ_TIMEOUT_NONE), BJ_OK)));
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    bj_monitor_close(monitor);

    int changes = 0, ready = 0;
    const bj_record *record;
    while ((record = next_record(trace))->kind != BJ_RECORD_CLOSED) {
        assert_int_not_equal(record->kind, BJ_RECORD_LAGGED);
        changes += strstr(record->text, "\"JOB_STATUS_CHANGE\"") != NULL;
        ready += strstr(record->text, "\"BLOCK_JOB_READY\"") != NULL;
    }
    assert_true(changes >= 4); /* created, running, ready, ... */
    assert_int_equal(ready, 1);
}

static void w09_a_function_is_told_the_same_as_a_watch(void **state)
{
    world *w = *state;
    told t = {0};
    bj_watch *trace = NULL;
    bj_monitor *monitor =
        watch_wire(w, (bj_connect_options){.trace = note, .trace_user = &t}, &trace);
    expect(w, bj_monitor_execute(monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_monitor_set_trace(monitor, BJ_TRACE_PLAIN, NULL, NULL), BJ_OK);

    assert_int_equal(t.count, 7);
    for (int i = 0; i < t.count; i++) {
        const bj_record *record = next_record(trace);
        assert_int_equal(t.lines[i][0], record->kind == BJ_RECORD_SENT ? '>' : '<');
        assert_string_equal(t.lines[i] + 2, record->text);
    }
    forget(&t);
}

static void w09_a_trace_begins_and_ends_at_any_time(void **state)
{
    world *w = *state;
    told first = {0}, second = {0};
    assert_int_equal(bj_monitor_set_trace(w->monitor, BJ_TRACE_PLAIN, note, &first), BJ_OK);
    expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_monitor_set_trace(w->monitor, BJ_TRACE_MASKED, note, &second), BJ_OK);
    expect(w, bj_monitor_execute(w->monitor, "query-jobs", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_monitor_set_trace(w->monitor, BJ_TRACE_PLAIN, NULL, NULL), BJ_OK);
    expect(w, bj_monitor_execute(w->monitor, "query-jobs", NULL, BJ_TIMEOUT_NONE), BJ_OK);

    assert_int_equal(first.count, 2);
    assert_int_equal(second.count, 2);
    assert_non_null(strstr(second.lines[0], "query-jobs"));
    assert_int_equal(bj_monitor_set_trace(w->monitor, 2, note, &first), BJ_E_INVAL);
    forget(&first);
    forget(&second);
}

static void add_secret(world *w, bj_monitor *monitor, const char *id)
{
    const char *arguments =
        text_of(w, JSON({"qom-type": "secret", "id": "%s", "data": "letmein"}), id);
    expect(w, bj_monitor_execute(monitor, "object-add", arguments, BJ_TIMEOUT_NONE), BJ_OK);
}

static bool shows(const told *t, const char *word)
{
    bool found = false;
    for (int i = 0; i < t->count; i++)
        found |= strstr(t->lines[i], word) != NULL;
    return found;
}

static void w09_secrets_are_masked_if_asked(void **state)
{
    world *w = *state;
    told plain = {0}, masked = {0};
    bj_watch *trace = NULL;
    bj_monitor *monitor =
        watch_wire(w, (bj_connect_options){.trace_flags = BJ_TRACE_MASKED}, &trace);
    assert_int_equal(bj_monitor_set_trace(monitor, BJ_TRACE_PLAIN, note, &plain), BJ_OK);
    add_secret(w, monitor, "s0");
    assert_int_equal(bj_monitor_set_trace(monitor, BJ_TRACE_MASKED, note, &masked), BJ_OK);
    add_secret(w, monitor, "s1");
    assert_int_equal(bj_monitor_set_trace(monitor, BJ_TRACE_PLAIN, NULL, NULL), BJ_OK);

    assert_true(shows(&plain, "\"letmein\""));
    assert_false(shows(&masked, "letmein"));
    assert_true(shows(&masked, "\"s1\", \"data\": \"***\"}"));
    bj_monitor_close(monitor);
    const bj_record *record;
    while ((record = next_record(trace))->kind != BJ_RECORD_CLOSED)
        assert_null(strstr(record->text, "letmein"));
    forget(&plain);
    forget(&masked);
}

static void w09_what_nobody_reads_is_counted(void **state)
{
    enum { KEPT = 16, COMMANDS = 40, HANDSHAKE = 5 };
    world *w = *state;
    bj_watch *trace = NULL;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_WATCH_RING, 1), BJ_OK);
    bj_monitor *monitor = watch_wire(w, (bj_connect_options){0}, &trace);
    for (int i = 0; i < COMMANDS; i++)
        expect(w, bj_monitor_execute(monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    bj_monitor_close(monitor);

    const bj_record *lagged = next_record(trace);
    assert_int_equal(lagged->kind, BJ_RECORD_LAGGED);
    assert_int_equal(lagged->lost, HANDSHAKE + 2 * COMMANDS - KEPT);
    for (int i = 0; i < KEPT; i++)
        assert_int_equal(next_record(trace)->kind, i % 2 ? BJ_RECORD_RECEIVED : BJ_RECORD_SENT);
    assert_int_equal(next_record(trace)->kind, BJ_RECORD_CLOSED);
}

static void w09_a_trace_goes_on_when_the_monitor_connects_again(void **state)
{
    world *w = *state;
    bj_watch *trace = NULL;
    bj_monitor *monitor = watch_wire(w, (bj_connect_options){0}, &trace);
    assert_int_equal(bj_monitor_set_reconnect(monitor, BJ_TIMEOUT_NONE), BJ_OK);
    kill_qemu(w);
    start_qemu(w, "daemon", NULL);

    for (int greetings = 0; greetings < 2;)
        greetings += strstr(next_record(trace)->text, "{\"QMP\":") != NULL;
}

static void w09_a_trace_of_what_does_not_come_about_ends(void **state)
{
    world *w = *state;
    bj_watch *trace = NULL;
    bj_connect_options options = {.size = sizeof options, .ret_trace = &trace};
    bj_future *refused =
        bj_monitor_connect_with(w->ctx, path_of(w, "never.qmp"), &options, BJ_TIMEOUT_NONE);
    hold_watch(w, trace);
    expect(w, refused, BJ_E_CONNECT);
    const bj_record *closed = next_record(trace);
    assert_int_equal(closed->kind, BJ_RECORD_CLOSED);
    assert_int_equal(closed->error, BJ_E_CONNECT);

    options.wait_ms = BJ_TIMEOUT_NONE;
    bj_future_unref(
        bj_monitor_connect_with(w->ctx, path_of(w, "never.qmp"), &options, BJ_TIMEOUT_NONE));
    hold_watch(w, trace);
    assert_int_equal(next_record(trace)->kind, BJ_RECORD_CLOSED);

    expect(w, bj_monitor_connect_with(w->ctx, "tcp:", &options, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    assert_null(trace);
}

/* A call that is under way is waited for. */
typedef struct slow {
    atomic_bool is_inside, may_return, was_inside;
    bj_monitor *monitor;
} slow;

static void be_slow(const bj_record *record, void *user)
{
    (void)record;
    slow *s = user;
    atomic_store(&s->is_inside, true);
    while (!atomic_load(&s->may_return))
        ;
    atomic_store(&s->is_inside, false);
}

static void *switch_off(void *user)
{
    slow *s = user;
    bj_monitor_set_trace(s->monitor, BJ_TRACE_PLAIN, NULL, NULL);
    atomic_store(&s->was_inside, atomic_load(&s->is_inside));
    return NULL;
}

static void w09_a_call_that_is_under_way_is_waited_for(void **state)
{
    world *w = *state;
    slow s = {.monitor = w->monitor};
    pthread_t thread;
    assert_int_equal(bj_monitor_set_trace(w->monitor, BJ_TRACE_PLAIN, be_slow, &s), BJ_OK);
    bj_future *list = hold(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE));
    while (!atomic_load(&s.is_inside))
        ;
    assert_int_equal(pthread_create(&thread, NULL, switch_off, &s), 0);
    atomic_store(&s.may_return, true);
    pthread_join(thread, NULL);
    assert_false(atomic_load(&s.was_inside));
    answers(list, BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(w09_every_line_from_the_greeting_on),
        TEST(w09_events_are_lines),
        TEST(w09_a_function_is_told_the_same_as_a_watch),
        TEST(w09_a_trace_begins_and_ends_at_any_time),
        TEST(w09_secrets_are_masked_if_asked),
        TEST(w09_what_nobody_reads_is_counted),
        TEST(w09_a_trace_goes_on_when_the_monitor_connects_again),
        TEST(w09_a_trace_of_what_does_not_come_about_ends),
        TEST(w09_a_call_that_is_under_way_is_waited_for),
    };
    return run_on_both(tests);
}
