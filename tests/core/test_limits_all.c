/* SPDX-License-Identifier: MIT */
/*
 * Each limit at its default, to the last byte, token, level, command, job and record. What happens
 * beyond them with other values is in test_api_limits.c.
 */
#include "peer.h"
#include "records.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void the_defaults_are_those_of_the_header(void **state)
{
    (void)state;
    bj_ctx *ctx;
    assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
    static const uint64_t defaults[] = {
        [BJ_LIMIT_MESSAGE_BYTES] = 16 << 20,
        [BJ_LIMIT_MESSAGE_TOKENS] = 1 << 20,
        [BJ_LIMIT_MESSAGE_NESTING] = 256,
        [BJ_LIMIT_IN_FLIGHT] = 64,
        [BJ_LIMIT_QUEUED] = 1024,
        [BJ_LIMIT_JOBS] = 4096,
        [BJ_LIMIT_WATCH_RING] = 256,
        [BJ_LIMIT_CONNECT_MS] = 10000,
        [BJ_LIMIT_COMMAND_MS] = 60000,
        [BJ_LIMIT_STALL_MS] = 1000,
        [BJ_LIMIT_POLL_MS] = 500,
        [BJ_LIMIT_CONVERGE_MS] = 10000,
    };
    for (int i = 0; i <= BJ_LIMIT_CONVERGE_MS; i++) {
        uint64_t value;
        assert_int_equal(bj_ctx_get_limit(ctx, (bj_limit)i, &value), BJ_OK);
        assert_true(value == defaults[i]);
        assert_int_equal(bj_ctx_set_limit(ctx, (bj_limit)i, 0), BJ_E_INVAL);
        const bool is_nesting = i == BJ_LIMIT_MESSAGE_NESTING;
        assert_int_equal(bj_ctx_set_limit(ctx, (bj_limit)i, value + !is_nesting), BJ_OK);
    }
    uint64_t value = 7;
    assert_int_equal(bj_ctx_get_limit(ctx, (bj_limit)99, &value), BJ_E_INVAL);
    assert_int_equal(bj_ctx_get_limit(ctx, BJ_LIMIT_JOBS, NULL), BJ_E_INVAL);
    assert_int_equal(value, 7);
    bj_ctx_unref(ctx);
}

/* ------------------------------------------------------------------- messages */

/* An event of so many bytes, so many tokens, or nested so deep; the others are as few as can be. */
typedef struct measure {
    size_t bytes, tokens, nesting;
} measure;

static bool repeat(peer *p, const char *what, size_t times)
{
    char block[16384];
    size_t len = strlen(what), filled = 0, most = sizeof(block) / len;
    for (size_t i = 0; i < times; i++) {
        memcpy(block + filled, what, len);
        filled += len;
        if ((i + 1) % most == 0 || i + 1 == times) {
            if (!peer_send(p, block, filled))
                return false;
            filled = 0;
        }
    }
    return true;
}

static void play_event(peer *p, void *user)
{
    static const char begin[] = "{\"event\": \"X\", \"data\": ";
    const measure *m = user;
    peer_command command;
    if (!peer_greet(p, peer_modern) || !peer_hear(p, &command))
        return;
    peer_say(p, begin);
    if (m->bytes > 0) {
        peer_say(p, "\"");
        repeat(p, "x", m->bytes - (sizeof(begin) - 1) - 3);
        peer_say(p, "\"");
    } else if (m->tokens > 0) { /* the object, two members' names, a value, the array */
        peer_say(p, "[");
        repeat(p, "1,", m->tokens - 6);
        peer_say(p, "1]");
    } else {
        repeat(p, "[", m->nesting - 1);
        repeat(p, "]", m->nesting - 1);
    }
    peer_say(p, "}");
    peer_answer(p, &command, "{}");
    peer_serve(p);
}

static void with_event(world *w, measure m, int error)
{
    peer *p = peer_start(play_event, &m);
    bj_future *connected = bj_monitor_connect(w->ctx, peer_uri(p), BJ_TIMEOUT_NONE);
    peer_connected(p);
    bj_monitor *monitor = bj_future_monitor(answers(connected, BJ_OK));
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch(monitor, &watch), BJ_OK);
    bj_future *told = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
    answers(told, error);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, error == BJ_OK ? BJ_RECORD_EVENT : BJ_RECORD_CLOSED);
    assert_int_equal(record->error, error);
    bj_future_unref(told);
    bj_watch_unref(watch);
    bj_future_unref(connected);
    bj_monitor_unref(monitor);
    peer_end(p);
}

static void b54_sixteen_mebibytes_and_not_one_byte_more(void **state)
{
    with_event(*state, (measure){.bytes = 16 << 20}, BJ_OK);
    with_event(*state, (measure){.bytes = (16 << 20) + 1}, BJ_E_PROTOCOL);
}

static void b56_a_mebi_of_tokens_and_not_one_more(void **state)
{
    with_event(*state, (measure){.tokens = 1 << 20}, BJ_OK);
    with_event(*state, (measure){.tokens = (1 << 20) + 1}, BJ_E_PROTOCOL);
}

static void b56_256_levels_and_not_one_more(void **state)
{
    with_event(*state, (measure){.nesting = 256}, BJ_OK);
    with_event(*state, (measure){.nesting = 257}, BJ_E_PROTOCOL);
}

/* The stack of the loop's thread is enough for what may be allowed. */
static void b56_1024_levels_if_so_wished(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_MESSAGE_NESTING, 1025), BJ_E_INVAL);
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_MESSAGE_NESTING, 1024), BJ_OK);
    with_event(w, (measure){.nesting = 1024}, BJ_OK);
    with_event(w, (measure){.nesting = 1025}, BJ_E_PROTOCOL);
}

static void note_stack(bj_future *future, void *user)
{
    (void)future;
    pthread_attr_t attr;
    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    pthread_attr_getstacksize(&attr, user);
    pthread_attr_destroy(&attr);
}

static void the_loops_thread_has_its_stack(void **state)
{
    world *w = *state;
    size_t size = 0;
    bj_future *failed = hold(w, bj_monitor_connect(w->ctx, "unix:/nowhere/at/all", 1000));
    bj_closure closure = {.fn = note_stack, .user = &size};
    assert_int_equal(bj_future_on_done(failed, closure), BJ_OK);
    answers(failed, BJ_E_CONNECT);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK); /* after that it has run */
    assert_true(size >= 512 * 1024);
}

/* ----------------------------------------------------------------- jobs, records */

enum { JOBS = 4096, RING = 256, EVENTS = 1000 };

static void play_many(peer *p, void *user)
{
    const char *format = user;
    peer_command command;
    if (!peer_greet(p, peer_modern) || !peer_hear(p, &command))
        return;
    for (int i = 0; i < (format ? EVENTS : JOBS); i++)
        if (!peer_tell(
                p,
                format ? "{\"event\": \"E%d\"}"
                       : "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"created\", "
                         "\"id\": \"j%d\"}}",
                i))
            return;
    peer_answer(p, &command, "{}");
    peer_serve(p);
}

static peer *meet(world *w, peer_play *play, void *user)
{
    peer *p = peer_start(play, user);
    bj_future *connected = hold(w, bj_monitor_connect(w->ctx, peer_uri(p), BJ_TIMEOUT_NONE));
    peer_connected(p);
    w->monitor = bj_future_monitor(answers(connected, BJ_OK));
    return p;
}

static void part(world *w, peer *p)
{
    bj_monitor_close(w->monitor);
    peer_end(p);
    w->monitor = bj_monitor_unref(w->monitor);
}

static void so_many_jobs_and_not_one_more(void **state)
{
    world *w = *state;
    peer *p = meet(w, play_many, NULL);
    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *started = bj_monitor_mirror(w->monitor, "a", "b", "full", NULL, BJ_TIMEOUT_NONE);
    expect(w, started, BJ_E_BUSY);
    part(w, p);
}

static void b61_so_many_records_and_the_number_of_the_others(void **state)
{
    static char any[] = "events";
    world *w = *state;
    peer *p = meet(w, play_many, any);
    bj_watch *watch = watch_monitor(w);
    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE), BJ_OK);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_LAGGED);
    assert_int_equal(record->lost, EVENTS - RING);
    for (int i = EVENTS - RING; i < EVENTS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "E%d", i);
        assert_string_equal(next_record(watch)->name, name);
    }
    part(w, p);
}

/* ------------------------------------------------------------------- deadlines */

static void play_silent(peer *p, void *user)
{
    (void)user;
    if (peer_greet(p, peer_modern))
        peer_drain(p);
}

static void b48_commands_have_a_deadline_and_waits_on_jobs_have_none(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_COMMAND_MS, 50), BJ_OK);
    peer *p = meet(w, play_silent, NULL);
    bj_future *none =
        hold(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE));
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_DEFAULT),
           BJ_E_TIMEOUT);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_E_TIMEOUT);
    expect(w, bj_monitor_mirror(w->monitor, "a", "b", "full", NULL, BJ_TIMEOUT_DEFAULT),
           BJ_E_TIMEOUT);
    assert_false(bj_future_is_done(none));
    assert_false(bj_future_is_done(closed));
    part(w, p);
}

static void play_busy_job(peer *p, void *user)
{
    (void)user;
    peer_command command;
    if (!peer_greet(p, peer_modern))
        return;
    while (peer_hear(p, &command))
        if (strcmp(command.name, "blockdev-backup") == 0) /* nothing else is answered */
            peer_obey(p, &command);
}

static void b48_verbs_have_no_deadline_of_their_own(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_COMMAND_MS, 50), BJ_OK);
    peer *p = meet(w, play_busy_job, NULL);
    bj_future *started =
        expect(w, bj_monitor_backup(w->monitor, "a", "b", "full", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = hold_job(w, bj_future_job(started));
    bj_future *aborted = hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_DEFAULT));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_DEFAULT));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_E_TIMEOUT);
    assert_false(bj_future_is_done(aborted));
    assert_false(bj_future_is_done(done));
    part(w, p);
}

static void play_half(peer *p, void *user)
{
    (void)user;
    peer_command command;
    peer_say(p, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}");
    if (peer_hear(p, &command) && peer_answer(p, &command, "{}"))
        peer_drain(p); /* it is the rest of the negotiation that never comes */
}

static void b47_the_negotiation_has_the_deadline_of_connecting(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONNECT_MS, 100), BJ_OK);
    peer *p = peer_start(play_half, NULL);
    bj_future *connected = hold(w, bj_monitor_connect(w->ctx, peer_uri(p), BJ_TIMEOUT_DEFAULT));
    peer_connected(p);
    answers(connected, BJ_E_TIMEOUT);
    names(connected, "negotiation");
    peer_end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE_TEST(the_defaults_are_those_of_the_header),
        ALONE_TEST(b54_sixteen_mebibytes_and_not_one_byte_more),
        ALONE_TEST(b56_a_mebi_of_tokens_and_not_one_more),
        ALONE_TEST(b56_256_levels_and_not_one_more),
        ALONE_TEST(b56_1024_levels_if_so_wished),
        ALONE_TEST(the_loops_thread_has_its_stack),
        ALONE_TEST(so_many_jobs_and_not_one_more),
        ALONE_TEST(b61_so_many_records_and_the_number_of_the_others),
        ALONE_TEST(b48_commands_have_a_deadline_and_waits_on_jobs_have_none),
        ALONE_TEST(b48_verbs_have_no_deadline_of_their_own),
        ALONE_TEST(b47_the_negotiation_has_the_deadline_of_connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
