/* SPDX-License-Identifier: MIT */
/*
 * A peer that is not there yet is waited for, and what will never be right is told at once.
 *
 * QEMU gets its socket before it is ready to serve it, so a test moves the socket to where the
 * client waits, once it is.
 */
#include "nodes.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define AS_LONG_AS_IT_TAKES                                                                        \
    {                                                                                              \
        .size = sizeof(bj_connect_options), .wait_ms = BJ_TIMEOUT_NONE                             \
    }

static bj_future *waiting(world *w, const char *uri, bj_connect_options options)
{
    options.size = sizeof options;
    return hold(w, bj_monitor_connect_with(w->ctx, uri, &options, BJ_TIMEOUT_NONE));
}

static bj_future *waiting_for(world *w, const char *name)
{
    return waiting(w, path_of(w, name), (bj_connect_options)AS_LONG_AS_IT_TAKES);
}

static void move_socket(world *w, const char *name)
{
    assert_int_equal(rename(path_of(w, "first.qmp"), path_of(w, name)), 0);
}

static void answers_a_command(world *w, bj_future *connected)
{
    bj_monitor *monitor = hold_monitor(w, bj_future_monitor(answers(connected, BJ_OK)));
    expect(w, bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static int bound_socket(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* -------------------------------------------------------------------- it comes */

static void w04_a_socket_that_comes_later(void **state)
{
    world *w = *state;
    bj_future *connected = waiting_for(w, "later.qmp");
    start_qemu(w, "daemon", NULL);
    assert_false(bj_future_is_done(connected));

    move_socket(w, "later.qmp");
    answers_a_command(w, connected);
}

static void w04_a_socket_nobody_listens_on_yet(void **state)
{
    world *w = *state;
    int stale = bound_socket(path_of(w, "later.qmp"));
    bj_future *connected = waiting_for(w, "later.qmp");
    start_qemu(w, "daemon", NULL);
    assert_false(bj_future_is_done(connected));

    move_socket(w, "later.qmp");
    answers_a_command(w, connected);
    close(stale);
}

/* The first clients are hung up on, as by a program that is about to end. */
static void w04_one_that_hangs_up_before_it_greets(void **state)
{
    world *w = *state;
    int listener = bound_socket(path_of(w, "later.qmp"));
    assert_int_equal(listen(listener, 1), 0);
    bj_future *connected = waiting_for(w, "later.qmp");
    for (int i = 0; i < 2; i++)
        close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    assert_false(bj_future_is_done(connected));

    start_qemu(w, "daemon", NULL);
    move_socket(w, "later.qmp");
    answers_a_command(w, connected);
    close(listener);
}

/* The first client is left without a greeting: it comes again. */
static void w04_one_that_accepts_and_says_nothing(void **state)
{
    world *w = *state;
    int listener = bound_socket(path_of(w, "later.qmp"));
    assert_int_equal(listen(listener, 1), 0);
    bj_future *connected = waiting_for(w, "later.qmp");
    int mute = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    start_qemu(w, "daemon", NULL);
    move_socket(w, "later.qmp");

    answers_a_command(w, connected);
    close(mute);
    close(listener);
}

static void w04_a_monitor_that_another_client_has(void **state)
{
    world *w = *state;
    bj_future *connected = waiting_for(w, "first.qmp");
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_false(bj_future_is_done(connected));

    bj_monitor_close(w->monitor);
    answers_a_command(w, connected);
}

/* -------------------------------------------------------------- it does not come */

static void w04_a_socket_that_never_comes_is_named_with_the_time(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "never.qmp");
    bj_future *refused =
        answers(waiting(w, path, (bj_connect_options){.wait_ms = 150}), BJ_E_CONNECT);
    names(refused, path);
    names(refused, "0.15 s");
    names(refused, "No such file");
}

static void w04_the_deadline_ends_an_endless_wait(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "never.qmp");
    bj_connect_options options = AS_LONG_AS_IT_TAKES;
    bj_future *late = expect(w, bj_monitor_connect_with(w->ctx, path, &options, 120), BJ_E_TIMEOUT);
    names(late, path);
    names(late, "0.12 s");
}

/* It has all of the time that connecting has without waiting, after the waiting. */
static void w04_a_try_that_hangs_ends_with_the_deadline(void **state)
{
    world *w = *state;
    int listener = bound_socket(path_of(w, "mute.qmp"));
    assert_int_equal(listen(listener, 1), 0);
    bj_connect_options options = {.size = sizeof options, .wait_ms = 50};
    bj_future *late = expect(
        w, bj_monitor_connect_with(w->ctx, path_of(w, "mute.qmp"), &options, 70), BJ_E_TIMEOUT);
    names(late, "another client");
    names(late, "0.12 s");
    close(listener);
}

static void w04_what_is_wrong_for_good_is_told_at_once(void **state)
{
    world *w = *state;
    fclose(fopen(path_of(w, "file"), "w"));
    bj_connect_options forever = AS_LONG_AS_IT_TAKES;

    names(answers(waiting(w, text_of(w, "%s/qmp", path_of(w, "file")), forever), BJ_E_CONNECT),
          "Not a directory");
    names(answers(waiting(w, "tcp:host", forever), BJ_E_INVAL), "tcp:HOST:PORT");
    names(answers(waiting(w, text_of(w, "tcp:%0300d.invalid:1", 0), forever), BJ_E_CONNECT),
          "look up");
}

static void *greet_wrongly(void *user)
{
    int client = accept4(*(const int *)user, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(write(client, "SSH-2.0\r\n", 9), 9);
    return (void *)(intptr_t)client;
}

static void w04_who_does_not_speak_qmp_is_not_waited_for(void **state)
{
    world *w = *state;
    int listener = bound_socket(path_of(w, "ssh"));
    assert_int_equal(listen(listener, 1), 0);
    pthread_t thread;
    void *client;
    assert_int_equal(pthread_create(&thread, NULL, greet_wrongly, &listener), 0);
    answers(waiting_for(w, "ssh"), BJ_E_PROTOCOL);
    pthread_join(thread, &client);
    close((int)(intptr_t)client);
    close(listener);
}

static void w04_an_fd_is_not_waited_for(void **state)
{
    world *w = *state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const char *uri = text_of(w, "fd:%d", ends[0]);
    names(answers(waiting(w, uri, (bj_connect_options){.wait_ms = 1}), BJ_E_INVAL), uri);
    close(ends[0]);
    close(ends[1]);
}

/* ----------------------------------------------------------------- nobody waits */

static void w04_a_wait_can_be_cancelled(void **state)
{
    world *w = *state;
    bj_future *cancelled = waiting_for(w, "never.qmp");
    bj_future_cancel(cancelled);
    answers(cancelled, BJ_E_CANCELLED);

    bj_connect_options options = AS_LONG_AS_IT_TAKES;
    bj_future_unref(
        bj_monitor_connect_with(w->ctx, path_of(w, "never.qmp"), &options, BJ_TIMEOUT_NONE));
}

static void w04_a_wait_ends_with_its_context(void **state)
{
    world *w = *state;
    bj_future *pending = waiting_for(w, "never.qmp");
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    answers(pending, BJ_E_CLOSED);
}

/* --------------------------------------------------------------------- options */

static void bad_options_are_refused(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "x");
    char name[202];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';

    bj_connect_options small = {.size = 8};
    names(expect(w, bj_monitor_connect_with(w->ctx, path, &small, BJ_TIMEOUT_NONE), BJ_E_INVAL),
          "size");
    names(answers(waiting(w, path, (bj_connect_options){.wait_ms = -2}), BJ_E_INVAL), "negative");
    names(answers(waiting(w, path, (bj_connect_options){.name = name}), BJ_E_INVAL), "200 bytes");
    names(answers(waiting(w, path, (bj_connect_options){.trace_flags = 2}), BJ_E_INVAL), "flags");
    name[200] = '\0';
    names(answers(waiting(w, path, (bj_connect_options){.name = name}), BJ_E_CONNECT), name);
}

static void w09_a_name_is_in_texts_beside_the_uri(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "second.qmp");
    bj_future *connected = waiting(w, path, (bj_connect_options){.name = "vm1"});
    bj_monitor *monitor = hold_monitor(w, bj_future_monitor(answers(connected, BJ_OK)));
    const char *both = text_of(w, "vm1 (%s)", path);

    assert_string_equal(bj_monitor_name(monitor), "vm1");
    assert_string_equal(bj_monitor_uri(monitor), path);
    assert_string_equal(bj_monitor_name(w->monitor), bj_monitor_uri(w->monitor));
    stop_qemu(w);
    names(expect(w, bj_monitor_execute(monitor, "query-version", NULL, 1), BJ_E_TIMEOUT), both);
    names(expect(w, bj_monitor_list(monitor, -3), BJ_E_INVAL), both);
    bj_future *closed = hold(w, bj_monitor_closed(monitor));
    kill_qemu(w);
    names(answers(closed, BJ_E_DISCONNECTED), both);
    names(answers(waiting(w, path, (bj_connect_options){.name = "vm1"}), BJ_E_CONNECT), both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE_TEST(w04_a_socket_that_comes_later),
        ALONE_TEST(w04_a_socket_nobody_listens_on_yet),
        ALONE_TEST(w04_one_that_hangs_up_before_it_greets),
        ALONE_TEST(w04_one_that_accepts_and_says_nothing),
        ALONE_TEST(w04_a_socket_that_never_comes_is_named_with_the_time),
        ALONE_TEST(w04_the_deadline_ends_an_endless_wait),
        ALONE_TEST(w04_a_try_that_hangs_ends_with_the_deadline),
        ALONE_TEST(w04_what_is_wrong_for_good_is_told_at_once),
        ALONE_TEST(w04_who_does_not_speak_qmp_is_not_waited_for),
        ALONE_TEST(w04_an_fd_is_not_waited_for),
        ALONE_TEST(w04_a_wait_can_be_cancelled),
        ALONE_TEST(w04_a_wait_ends_with_its_context),
        ALONE_TEST(bad_options_are_refused),
        cmocka_unit_test_setup_teardown(w04_a_monitor_that_another_client_has, world_daemon,
                                        world_end),
        cmocka_unit_test_setup_teardown(w09_a_name_is_in_texts_beside_the_uri, world_daemon,
                                        world_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
