/* SPDX-License-Identifier: MIT */
/*
 * Connecting: every kind of address, every way it can fail, and what the error says.
 */
#include "fake.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bj_future *connecting(world *w, const char *uri)
{
    return hold(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_DEFAULT));
}

static void a_bare_path_and_unix_uri_connect(void **state)
{
    world *w = *state;
    const char *uri = text_of(w, "unix:%s", fake_path(w));

    bj_monitor *first = connect_to(w, uri);
    assert_string_equal(bj_monitor_uri(first), uri);
    assert_int_equal(bj_monitor_close(first), BJ_OK);
    bj_monitor *second = connect_to(w, fake_path(w));
    assert_memory_equal(bj_monitor_qemu_version(second), "7.2", 3);
}

static void a_monitor_knows_its_commands(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_has_command(w->monitor, "block-job-cancel"), 1);
    assert_int_equal(bj_monitor_has_command(w->monitor, "block-job-change"), 0);
    assert_int_equal(bj_monitor_has_command(w->monitor, ""), 0);
    assert_int_equal(bj_monitor_has_command(w->monitor, NULL), BJ_E_INVAL);
}

static void bad_uris_are_named(void **state)
{
    world *w = *state;
    static const char *const bad[] = {
        "",          "unix:",           "unix",       "qmp.sock",      "tcp:",
        "tcp:host",  "tcp:host:",       "tcp::4444",  "tcp:host:port", "tcp:host:65536",
        "tcp:[::1]", "tcp:[::1:4444",   "tcp:host:0", "tcp:host:-1",   "fd:",
        "fd:x",      "fd:-1",           "fd:1x",      "fd:4294967296", "http://host:1/",
        "virt:x",    "tcp:host:1:2222",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bj_future *refused = connecting(w, bad[i]);
        assert_int_equal(bj_future_wait(refused, BJ_TIMEOUT_NONE), BJ_OK);
        if (bj_future_error(refused) != BJ_E_INVAL)
            fail_msg("'%s': %s", bad[i], bj_error_name(bj_future_error(refused)));
        names(refused, bad[i]);
        assert_null(bj_future_monitor(refused));
    }
    names(answers(connecting(w, NULL), BJ_E_INVAL), "uri");
    names(answers(hold(w, bj_monitor_connect_domain(w->ctx, NULL, BJ_TIMEOUT_DEFAULT)), BJ_E_INVAL),
          "domain");
}

static void a_path_that_is_too_long_is_named(void **state)
{
    world *w = *state;
    char path[200];
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';

    names(answers(connecting(w, path), BJ_E_INVAL), "107 bytes");
}

static void bad_timeouts_are_refused(void **state)
{
    world *w = *state;
    bj_future *refused = hold(w, bj_monitor_connect(w->ctx, fake_path(w), -3));
    names(answers(refused, BJ_E_INVAL), "-3");
}

static void a_wrong_path_is_named(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "nobody.sock");
    bj_future *refused = answers(connecting(w, path), BJ_E_CONNECT);
    names(refused, path);
    names(refused, "No such file");
}

static void a_file_that_is_no_socket_is_named(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "file");
    fclose(fopen(path, "w"));
    names(answers(connecting(w, path), BJ_E_CONNECT), path);
    names(answers(connecting(w, w->dir), BJ_E_CONNECT), w->dir);
}

static void a_socket_nobody_listens_on_is_named(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "die"}));
    bj_future *refused = answers(connecting(w, fake_path(w)), BJ_E_CONNECT);
    names(refused, fake_path(w));
    names(refused, "refused");
}

static void no_permission_is_named(void **state)
{
    world *w = *state;
    if (geteuid() == 0)
        skip(); /* root may always */
    assert_int_equal(chmod(fake_path(w), 0), 0);
    names(answers(connecting(w, fake_path(w)), BJ_E_CONNECT), "denied");
}

static void b47_no_greeting_is_a_timeout_that_names_the_remedy(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "greeting", "send": "never"}));

    bj_future *refused = expect(w, bj_monitor_connect(w->ctx, fake_path(w), 50), BJ_E_TIMEOUT);
    names(refused, fake_path(w));
    names(refused, "another client");
    names(refused, "-qmp");
}

static void b47_the_limit_of_the_context_is_the_default(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "greeting", "send": "never"}));
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONNECT_MS, 50), BJ_OK);

    answers(connecting(w, fake_path(w)), BJ_E_TIMEOUT);
}

static void b47_half_a_greeting_is_a_timeout(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "greeting", "send": "half"}));
    expect(w, bj_monitor_connect(w->ctx, fake_path(w), 50), BJ_E_TIMEOUT);
}

static void b47_the_deadline_covers_the_negotiation(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "drop", "command": "qmp_capabilities"}));
    expect(w, bj_monitor_connect(w->ctx, fake_path(w), 50), BJ_E_TIMEOUT);
}

static void b47_the_deadline_covers_the_probing(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "drop", "command": "query-commands"}));
    bj_future *refused = hold(w, bj_monitor_connect(w->ctx, fake_path(w), 50));
    answers(refused, BJ_E_TIMEOUT);
}

static void what_is_not_qmp_is_a_protocol_error(void **state)
{
    world *w = *state;
    static const char *const greetings[] = {
        "garbage", "SSH-2.0-OpenSSH_9.2\\r\\n", "[]\\n", "{}\\n", "\\\"QMP\\\"\\n",
    };
    for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
        step(w, "{\"do\": \"greeting\", \"send\": \"%s\"}", greetings[i]);
        names(answers(connecting(w, fake_path(w)), BJ_E_PROTOCOL), fake_path(w));
    }
    step(w, JSON({"do": "greeting", "send": "full"}));
    connect_to(w, fake_path(w));
}

static void a_hang_up_while_connecting_is_a_disconnect(void **state)
{
    world *w = *state;
    static const int after[] = {0, 1, 20, 150};
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
        step(w, JSON({"do": "hang-up", "after": %d}), after[i]);
        names(answers(connecting(w, fake_path(w)), BJ_E_DISCONNECTED), fake_path(w));
    }
}

static void capabilities_refused_are_a_clear_error(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "answer", "command": "qmp_capabilities",
                  "error": {"class": "GenericError", "desc": "Not today"}}));
    bj_future *refused = connecting(w, fake_path(w));
    assert_int_equal(bj_future_wait(refused, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_future_error(refused) == BJ_E_PROTOCOL ||
                bj_future_error(refused) == BJ_E_REFUSED);
    names(refused, "Not today");
}

static void b49_events_before_the_greetings_reply_are_no_trouble(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "when", "command": "qmp_capabilities", "at": "received",
                  "steps": [{"do": "raw", "text": "{\"event\": \"X\", \"data\": {}}\n"}]}));
    connect_to(w, fake_path(w));
}

static void b54_a_greeting_byte_by_byte_is_a_greeting(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "split", "bytes": 1}));
    connect_to(w, fake_path(w));
}

static void b07_a_connection_nobody_awaits_is_given_up(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "greeting", "send": "never"}));
    bj_future *cancelled = connecting(w, fake_path(w));
    step(w, JSON({"do": "wait", "what": "connect"}));
    bj_future_cancel(cancelled);
    answers(cancelled, BJ_E_CANCELLED);

    step(w, JSON({"do": "wait", "what": "disconnect"}));
    bj_future_unref(bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE));
    step(w, JSON({"do": "greeting", "send": "full"}));
    connect_to(w, fake_path(w));
}

static void a_monitor_that_nobody_takes_is_closed(void **state)
{
    world *w = *state;
    bj_future *connected = bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE);
    answers(connected, BJ_OK);
    bj_future_unref(connected);

    step(w, JSON({"do": "wait", "what": "disconnect"}));
}

static void the_last_reference_closes_the_monitor(void **state)
{
    world *w = *state;
    bj_future *connected = bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE);
    bj_monitor *monitor = bj_future_monitor(answers(connected, BJ_OK));
    bj_future_unref(connected);
    bj_future *closed = hold(w, bj_monitor_closed(monitor));
    bj_monitor_ref(monitor);
    bj_monitor_unref(monitor);
    assert_int_equal(times_sent(w, "quit"), 0);
    assert_false(bj_future_is_done(closed));

    assert_null(bj_monitor_unref(monitor));
    answers(closed, BJ_E_CLOSED);
    step(w, JSON({"do": "wait", "what": "disconnect"}));
}

/* ---------------------------------------------------------------------- fd: */

static int connected_socket(world *w)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", fake_path(w));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void an_fd_connects_and_stays_the_callers(void **state)
{
    world *w = *state;
    int fd = connected_socket(w);
    bj_monitor *monitor = connect_to(w, text_of(w, "fd:%d", fd));
    bj_future *closed = hold(w, bj_monitor_closed(monitor));

    bj_monitor_close(monitor);
    answers(closed, BJ_E_CLOSED);
    assert_int_equal(close(fd), 0);
    step(w, JSON({"do": "wait", "what": "disconnect"}));
}

static void an_fd_can_be_closed_once_it_is_connected(void **state)
{
    world *w = *state;
    int fd = connected_socket(w);
    w->monitor = connect_to(w, text_of(w, "fd:%d", fd));
    close(fd);

    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static void fds_that_are_no_connected_sockets_are_named(void **state)
{
    world *w = *state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int unconnected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *const uris[] = {text_of(w, "fd:%d", ends[0]), text_of(w, "fd:%d", unconnected),
                                "fd:987654"};

    for (int i = 0; i < 3; i++) {
        bj_future *refused = connecting(w, uris[i]);
        assert_int_equal(bj_future_wait(refused, BJ_TIMEOUT_NONE), BJ_OK);
        assert_true(bj_future_error(refused) == BJ_E_INVAL ||
                    bj_future_error(refused) == BJ_E_CONNECT);
        names(refused, uris[i]);
    }
    close(ends[0]);
    close(ends[1]);
    close(unconnected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_monitor_knows_its_commands),
        UNCONNECTED_TEST(a_bare_path_and_unix_uri_connect),
        UNCONNECTED_TEST(bad_uris_are_named),
        UNCONNECTED_TEST(a_path_that_is_too_long_is_named),
        UNCONNECTED_TEST(bad_timeouts_are_refused),
        UNCONNECTED_TEST(a_wrong_path_is_named),
        UNCONNECTED_TEST(a_file_that_is_no_socket_is_named),
        UNCONNECTED_TEST(a_socket_nobody_listens_on_is_named),
        UNCONNECTED_TEST(no_permission_is_named),
        UNCONNECTED_TEST(b47_no_greeting_is_a_timeout_that_names_the_remedy),
        UNCONNECTED_TEST(b47_the_limit_of_the_context_is_the_default),
        UNCONNECTED_TEST(b47_half_a_greeting_is_a_timeout),
        UNCONNECTED_TEST(b47_the_deadline_covers_the_negotiation),
        UNCONNECTED_TEST(b47_the_deadline_covers_the_probing),
        UNCONNECTED_TEST(what_is_not_qmp_is_a_protocol_error),
        UNCONNECTED_TEST(a_hang_up_while_connecting_is_a_disconnect),
        UNCONNECTED_TEST(capabilities_refused_are_a_clear_error),
        UNCONNECTED_TEST(b49_events_before_the_greetings_reply_are_no_trouble),
        UNCONNECTED_TEST(b54_a_greeting_byte_by_byte_is_a_greeting),
        UNCONNECTED_TEST(b07_a_connection_nobody_awaits_is_given_up),
        UNCONNECTED_TEST(a_monitor_that_nobody_takes_is_closed),
        UNCONNECTED_TEST(the_last_reference_closes_the_monitor),
        UNCONNECTED_TEST(an_fd_connects_and_stays_the_callers),
        UNCONNECTED_TEST(an_fd_can_be_closed_once_it_is_connected),
        UNCONNECTED_TEST(fds_that_are_no_connected_sockets_are_named),
    };
    return run_on_fake(tests);
}
