/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that go with a command: each with its own, whatever the socket takes at a time; and
 * each duplicate is closed once, whatever becomes of the command.
 */
#include "peer.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 16 /* that QEMU receives at a time */
#define LONG_LINE (16 * 1024)

/* The system's, but for what a test says. */
static atomic_int refusal; /* an errno; 0: none */

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    errno = atomic_load(&refusal);
    return errno ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

/* ------------------------------------------------------------- a QEMU that reads */

/* A command, and the descriptors that came with a byte of it. */
struct heard {
    size_t at; /* which byte */
    int count;
    ino_t files[MOST];
};

#define COMMANDS 24

struct script {
    sem_t reads; /* from here on */
    sem_t heard_all;
    int wanted;
    struct heard commands[COMMANDS];
    char line[LONG_LINE + 1024];
};

static struct script *new_script(int wanted)
{
    struct script *script = calloc(1, sizeof *script);
    assert_non_null(script);
    script->wanted = wanted;
    sem_init(&script->reads, 0, 0);
    sem_init(&script->heard_all, 0, 0);
    return script;
}

static void take(struct heard *heard, const struct cmsghdr *header, size_t at)
{
    int fds[MOST];
    struct stat file;
    heard->at = at;
    heard->count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(header), (size_t)heard->count * sizeof(int));
    for (int i = 0; i < heard->count; i++) {
        heard->files[i] = fstat(fds[i], &file) == 0 ? file.st_ino : 0;
        close(fds[i]);
    }
}

/* A line, a byte at a time as QEMU reads it. */
static bool hear_line(int fd, char *line, size_t size, struct heard *heard)
{
    for (size_t at = 0; at < size - 1; at++) {
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(MOST * sizeof(int))];
        } control;
        struct iovec byte = {.iov_base = line + at, .iov_len = 1};
        struct msghdr message = {
            .msg_iov = &byte,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof control.bytes,
        };
        if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) <= 0)
            return false;
        if (CMSG_FIRSTHDR(&message))
            take(heard, CMSG_FIRSTHDR(&message), at);
        line[at + 1] = '\0';
        if (line[at] == '\n')
            return true;
    }
    return false;
}

static void play_reader(peer *p, void *user)
{
    struct script *script = user;
    if (!peer_greet(p, peer_modern))
        return;
    sem_wait(&script->reads);
    for (int i = 0; i < script->wanted; i++) {
        if (!hear_line(peer_socket(p), script->line, sizeof script->line, &script->commands[i]))
            return;
        const char *id = strstr(script->line, "\"id\":");
        peer_tell(p, "{\"return\": {}, \"id\": %.*s}\r\n", (int)strspn(id + 5, "0123456789"),
                  id + 5);
    }
    sem_post(&script->heard_all);
}

/* Connected to one whose socket holds little. */
static bj_monitor *meet(world *w, peer_play *play, void *script, peer **ret_peer)
{
    int fd, least = 1;
    *ret_peer = peer_start(play, script);
    assert_int_equal(sscanf(peer_uri(*ret_peer), "fd:%d", &fd), 1);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    bj_future *future =
        answers(bj_monitor_connect(w->ctx, peer_uri(*ret_peer), BJ_TIMEOUT_DEFAULT), BJ_OK);
    bj_monitor *monitor = bj_future_monitor(future);
    bj_future_unref(future);
    peer_connected(*ret_peer);
    return monitor;
}

/* ------------------------------------------------------------------- commands */

static bj_future *execute_for(bj_monitor *monitor, const char *arguments, const int *fds,
                              size_t count, int64_t timeout_ms)
{
    const bj_execute_options options = {.size = sizeof options, .fds = fds, .fd_count = count};
    return bj_monitor_execute_with(monitor, "query-status", arguments, &options, timeout_ms);
}

static bj_future *execute(bj_monitor *monitor, const char *arguments, const int *fds, size_t count)
{
    return execute_for(monitor, arguments, fds, count, BJ_TIMEOUT_NONE);
}

/* More than any of these sockets takes at once. */
static const char *long_arguments(void)
{
    static char arguments[LONG_LINE];
    if (!arguments[0]) {
        memset(arguments, 'x', sizeof arguments - 1);
        memcpy(arguments, "{\"a\":\"", 6);
        memcpy(arguments + sizeof arguments - 3, "\"}", 2);
    }
    return arguments;
}

/* All that was asked of the loop before has been begun. */
static void catch_up(bj_monitor *monitor)
{
    bj_future_unref(answers(bj_monitor_list(monitor, 0), BJ_E_TIMEOUT));
}

/* The socket takes no more: a first line is half written. */
static bj_future *fill(bj_monitor *monitor)
{
    bj_future *filler = bj_monitor_execute(monitor, "query-status", long_arguments(), -1);
    catch_up(monitor);
    return filler;
}

static int new_file(ino_t *ret_inode)
{
    struct stat file = {0};
    int fd = memfd_create("passed", MFD_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &file) == 0);
    if (ret_inode)
        *ret_inode = file.st_ino;
    return fd;
}

static int passed; /* a file that the tests pass */

/* The descriptors that this process has of it, its own and the library's. */
static int holders(void)
{
    struct stat this, other;
    int count = 0;
    DIR *fds = opendir("/proc/self/fd");
    assert_int_equal(fstat(passed, &this), 0);
    for (struct dirent *entry = readdir(fds); entry; entry = readdir(fds))
        count += fstatat(dirfd(fds), entry->d_name, &other, 0) == 0 &&
                 other.st_ino == this.st_ino && other.st_dev == this.st_dev;
    closedir(fds);
    return count;
}

/* ------------------------------------------------------------- each with its own */

static const int counts[] = {0, 1, 2, 0, MOST, 1, 1, 0};

static void each_command_has_its_own(world *w, bool is_full)
{
    struct script *script = new_script(COMMANDS);
    bj_future *futures[COMMANDS];
    ino_t files[COMMANDS];
    peer *p;
    bj_monitor *monitor = meet(w, play_reader, script, &p);
    if (!is_full)
        sem_post(&script->reads);
    for (int i = 0; i < COMMANDS; i++) {
        int fds[MOST];
        fds[0] = new_file(&files[i]);
        for (int j = 1; j < MOST; j++)
            fds[j] = fds[0];
        futures[i] = execute(monitor, i % 3 ? NULL : long_arguments(), fds, (size_t)counts[i % 8]);
        close(fds[0]); /* the library has its own */
    }
    catch_up(monitor);
    if (is_full)
        sem_post(&script->reads);
    for (int i = 0; i < COMMANDS; i++)
        bj_future_unref(answers(futures[i], BJ_OK));
    part_from_peer(monitor, p);

    for (int i = 0; i < COMMANDS; i++) {
        const struct heard *heard = &script->commands[i];
        assert_int_equal(heard->at, 0);
        assert_int_equal(heard->count, counts[i % 8]);
        for (int j = 0; j < heard->count; j++)
            assert_int_equal(heard->files[j], files[i]);
    }
    free(script);
}

static void w07_each_command_has_its_own(void **state)
{
    each_command_has_its_own(*state, false);
}

static void w07_each_command_has_its_own_through_a_full_socket(void **state)
{
    each_command_has_its_own(*state, true);
}

static void w07_a_duplicate_is_closed_with_its_first_byte(void **state)
{
    struct script *script = new_script(1);
    peer *p;
    bj_monitor *monitor = meet(*state, play_reader, script, &p);
    bj_future *half = execute(monitor, long_arguments(), &passed, 1);
    catch_up(monitor);
    assert_false(bj_future_is_done(half));
    assert_int_equal(holders(), 1);
    sem_post(&script->reads);
    sem_wait(&script->heard_all);
    assert_int_equal(script->commands[0].count, 1);
    bj_future_unref(answers(half, BJ_OK));
    part_from_peer(monitor, p);
    free(script);
}

/* -------------------------------------------------------------- bad descriptors */

static void is_refused(bj_monitor *monitor, const bj_execute_options *options, const char *word)
{
    bj_future *refused =
        answers(bj_monitor_execute_with(monitor, "query-status", NULL, options, BJ_TIMEOUT_NONE),
                BJ_E_INVAL);
    names(refused, word);
    bj_future_unref(refused);
    assert_int_equal(holders(), 1);
}

static void w07_what_makes_no_sense_is_named(void **state)
{
    struct script *script = new_script(0);
    peer *p;
    bj_monitor *monitor = meet(*state, play_reader, script, &p);
    int fds[MOST + 1];
    bj_execute_options options = {.size = sizeof options, .fds = fds, .fd_count = 2};
    for (int i = 0; i <= MOST; i++)
        fds[i] = passed;

    fds[1] = -1;
    is_refused(monitor, &options, "descriptor -1");
    const int closed[] = {passed, dup(passed)}; /* of the next number that is free */
    close(closed[1]);
    options.fds = closed;
    is_refused(monitor, &options, "(the 2. of 2) is not open");
    options.fds = fds;
    fds[1] = passed;
    options.fd_count = MOST + 1;
    is_refused(monitor, &options, "17 descriptors");
    options.fd_count = (size_t)-1;
    is_refused(monitor, &options, "too many");
    options.fd_count = 1;
    options.out_of_band = true;
    is_refused(monitor, &options, "out of band");
    options.out_of_band = false;
    options.fds = NULL;
    is_refused(monitor, &options, "NULL");
    options.size = 8;
    is_refused(monitor, &options, "bj_execute_options");
    sem_post(&script->reads);
    part_from_peer(monitor, p);
    free(script);
}

static void w07_no_descriptor_to_spare_is_named(void **state)
{
    struct script *script = new_script(0);
    peer *p;
    bj_monitor *monitor = meet(*state, play_reader, script, &p);
    const int fds[] = {passed, passed};
    struct rlimit before, now;
    getrlimit(RLIMIT_NOFILE, &before);
    int next = dup(passed); /* the lowest number that is free */
    close(next);
    now = (struct rlimit){.rlim_cur = (rlim_t)next + 1, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &now);
    bj_future *refused = execute(monitor, NULL, fds, 2);
    setrlimit(RLIMIT_NOFILE, &before);
    names(answers(refused, BJ_E_SYSTEM), "ulimit -n");
    assert_int_equal(holders(), 1);
    bj_future_unref(refused);
    sem_post(&script->reads);
    part_from_peer(monitor, p);
    free(script);
}

/* ------------------------------------------------------------- closed, not sent */

/* A command that waits behind a full socket, with that many descriptors. */
static bj_future *wait_behind(bj_monitor *monitor, int count, int64_t timeout_ms)
{
    int fds[MOST];
    for (int i = 0; i < count; i++)
        fds[i] = passed;
    bj_future *waiting = execute_for(monitor, NULL, fds, (size_t)count, timeout_ms);
    return waiting;
}

static void w07_what_is_not_sent_is_closed(void **state)
{
    struct script *script = new_script(1);
    peer *p;
    bj_monitor *monitor = meet(*state, play_reader, script, &p);
    bj_future *filler = fill(monitor);

    bj_future *cancelled = wait_behind(monitor, 3, BJ_TIMEOUT_NONE);
    assert_int_equal(holders(), 1 + 3);
    bj_future_cancel(cancelled);
    catch_up(monitor);
    assert_int_equal(holders(), 1);
    bj_future_unref(cancelled);

    bj_future *late = answers(wait_behind(monitor, MOST, 1), BJ_E_TIMEOUT);
    catch_up(monitor);
    assert_int_equal(holders(), 1);
    bj_future_unref(late);

    sem_post(&script->reads);
    bj_future_unref(answers(filler, BJ_OK));
    part_from_peer(monitor, p);
    assert_int_equal(script->commands[0].count, 0);
    free(script);
}

static void w07_what_is_too_much_is_closed(void **state)
{
    world *w = *state;
    struct script *script = new_script(1);
    peer *p;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_QUEUED, 1), BJ_OK);
    bj_monitor *monitor = meet(w, play_reader, script, &p);
    bj_future *filler = bj_monitor_execute(monitor, "query-status", long_arguments(), -1);
    bj_future *busy = answers(wait_behind(monitor, 2, BJ_TIMEOUT_NONE), BJ_E_BUSY);
    assert_int_equal(holders(), 1);
    bj_future_unref(busy);
    sem_post(&script->reads);
    bj_future_unref(answers(filler, BJ_OK));
    part_from_peer(monitor, p);
    free(script);
}

/* The connection, the monitor or the context ends before the command is sent. */
static void play_end(peer *p, void *user)
{
    struct script *script = user;
    if (!peer_greet(p, peer_modern))
        return;
    sem_wait(&script->reads);
    peer_hang_up(p);
}

static void w07_what_a_lost_connection_leaves_is_closed(void **state)
{
    struct script *script = new_script(0);
    peer *p;
    bj_monitor *monitor = meet(*state, play_end, script, &p);
    bj_future *filler = fill(monitor);
    bj_future *lost = wait_behind(monitor, 3, BJ_TIMEOUT_NONE);
    sem_post(&script->reads);
    answers(lost, BJ_E_DISCONNECTED);
    bj_future *after = answers(wait_behind(monitor, 3, BJ_TIMEOUT_NONE), BJ_E_DISCONNECTED);
    assert_int_equal(holders(), 1);
    bj_future_unref(after);
    bj_future_unref(lost);
    bj_future_unref(filler);
    part_from_peer(monitor, p);
    free(script);
}

static void w07_what_a_closed_monitor_leaves_is_closed(void **state)
{
    struct script *script = new_script(0);
    peer *p;
    bj_monitor *monitor = meet(*state, play_end, script, &p);
    bj_future *filler = fill(monitor);
    bj_future *waiting = wait_behind(monitor, 3, BJ_TIMEOUT_NONE);
    bj_monitor_close(monitor);
    answers(waiting, BJ_E_CLOSED);
    assert_int_equal(holders(), 1);
    bj_future *after = answers(wait_behind(monitor, 3, BJ_TIMEOUT_NONE), BJ_E_CLOSED);
    assert_int_equal(holders(), 1);
    bj_future_unref(after);
    bj_future_unref(waiting);
    bj_future_unref(filler);
    sem_post(&script->reads);
    part_from_peer(monitor, p);
    free(script);
}

static void w07_what_a_closed_context_leaves_is_closed(void **state)
{
    (void)state;
    struct script *script = new_script(0);
    world own = {0};
    peer *p;
    assert_int_equal(bj_ctx_new(&own.ctx), BJ_OK);
    bj_monitor *monitor = meet(&own, play_end, script, &p);
    bj_future *filler = fill(monitor);
    bj_future *waiting = wait_behind(monitor, 3, BJ_TIMEOUT_NONE);
    sem_post(&script->reads);
    assert_int_equal(bj_ctx_close(own.ctx), BJ_OK);
    bj_future *after = answers(wait_behind(monitor, 3, BJ_TIMEOUT_NONE), BJ_E_CLOSED);
    peer_end(p);
    bj_ctx_unref(own.ctx);
    assert_int_equal(holders(), 1); /* although the futures are still held */
    bj_future_unref(after);
    bj_future_unref(waiting);
    bj_future_unref(filler);
    bj_monitor_unref(monitor);
    free(script);
}

static void hold_up(bj_future *future, void *user)
{
    (void)future;
    sem_wait(user);
}

static void w07_what_is_cancelled_before_it_begins_is_closed(void **state)
{
    struct script *script = new_script(0);
    peer *p;
    sem_t loop_goes;
    sem_init(&loop_goes, 0, 0);
    bj_monitor *monitor = meet(*state, play_end, script, &p);
    bj_future *held = bj_monitor_list(monitor, 0);
    assert_int_equal(bj_future_on_done(held, (bj_closure){.fn = hold_up, .user = &loop_goes}),
                     BJ_OK);
    answers(held, BJ_E_TIMEOUT);

    bj_future *cancelled = wait_behind(monitor, 3, BJ_TIMEOUT_NONE);
    bj_future_cancel(cancelled);
    sem_post(&loop_goes);
    catch_up(monitor);
    assert_int_equal(holders(), 1);
    bj_future_unref(cancelled);
    bj_future_unref(held);
    sem_post(&script->reads);
    part_from_peer(monitor, p);
    sem_destroy(&loop_goes);
    free(script);
}

static void w07_what_the_system_refuses_to_send_is_named(void **state)
{
    struct script *script = new_script(2);
    peer *p;
    bj_monitor *monitor = meet(*state, play_reader, script, &p);
    atomic_store(&refusal, ETOOMANYREFS);
    bj_future *refused = answers(wait_behind(monitor, 3, BJ_TIMEOUT_NONE), BJ_E_SYSTEM);
    names(refused, "query-status");
    names(refused, "ulimit");
    assert_int_equal(holders(), 1);
    bj_future_unref(refused);
    atomic_store(&refusal, 0);

    sem_post(&script->reads); /* the connection is none the worse */
    bj_future_unref(answers(execute(monitor, NULL, NULL, 0), BJ_OK));
    bj_future_unref(answers(execute(monitor, NULL, &passed, 1), BJ_OK));
    part_from_peer(monitor, p);
    assert_int_equal(script->commands[0].count, 0);
    assert_int_equal(script->commands[1].count, 1);
    free(script);
}

/* ------------------------------------------------------------------ reconnecting */

struct connections {
    int number;
    struct heard heard;
};

/* Hangs up before it has read what it is sent; the second time it listens. */
static void play_twice(peer *p, void *user)
{
    struct connections *connections = user;
    char line[1024];
    if (!peer_greet(p, peer_modern))
        return;
    if (connections->number++ == 0) {
        char byte;
        recv(peer_socket(p), &byte, 1, MSG_PEEK);
        return;
    }
    while (hear_line(peer_socket(p), line, sizeof line, &connections->heard))
        peer_tell(p, "{\"return\": [], \"id\": %s\r\n", strstr(line, "\"id\":") + 5);
}

static void w07_nothing_is_sent_again_after_a_reconnect(void **state)
{
    world *w = *state;
    struct connections connections = {0};
    int fd = new_file(NULL);
    peer *p = peer_listen(path_of(w, "qmp"), play_twice, &connections);
    bj_monitor *monitor = connect_to(w, path_of(w, "qmp"));
    assert_int_equal(bj_monitor_set_reconnect(monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *watch;
    const bj_record *record;
    assert_int_equal(bj_monitor_watch(monitor, &watch), BJ_OK);
    bj_future_unref(answers(execute(monitor, NULL, &fd, 1), BJ_E_DISCONNECTED));
    do
        assert_int_equal(bj_watch_next(watch, BJ_TIMEOUT_NONE, &record), BJ_OK);
    while (record->kind != BJ_RECORD_RECONNECTED);
    bj_future_unref(answers(execute(monitor, NULL, NULL, 0), BJ_OK));
    bj_watch_unref(watch);
    bj_future *closed = bj_monitor_closed(monitor);
    bj_monitor_close(monitor);
    bj_future_unref(answers(closed, BJ_E_CLOSED));
    peer_end(p);
    assert_int_equal(connections.number, 2);
    assert_int_equal(connections.heard.count, 0);
    close(fd);
}

/* --------------------------------------------------------------------------- TCP */

/* Both ends of a TCP connection of this machine. */
static void tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address, len), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listener);
}

/* A line, and the answer to it. */
static void reply(int fd, const char *value)
{
    char line[1024], said[256];
    struct heard nothing;
    assert_true(hear_line(fd, line, sizeof line, &nothing));
    int len = snprintf(said, sizeof said, "{\"return\": %s, \"id\": %s\r\n", value,
                       strstr(line, "\"id\":") + 5);
    assert_int_equal(write(fd, said, (size_t)len), len);
}

static void w07_a_descriptor_over_tcp_is_refused(void **state)
{
    world *w = *state;
    static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
    int fds[2];
    tcp_pair(fds);
    bj_future *connecting =
        bj_monitor_connect(w->ctx, text_of(w, "fd:%d", fds[0]), BJ_TIMEOUT_DEFAULT);
    assert_int_equal(write(fds[1], greeting, sizeof greeting - 1), sizeof greeting - 1);
    reply(fds[1], "{}");
    reply(fds[1], "[]");
    bj_monitor *monitor = hold_monitor(w, bj_future_monitor(answers(connecting, BJ_OK)));
    bj_future_unref(connecting);

    bj_future *refused = answers(wait_behind(monitor, 3, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
    names(refused, "UNIX");
    names(refused, "query-status");
    names(refused, bj_monitor_uri(monitor));
    assert_int_equal(holders(), 1);
    bj_future_unref(refused);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE_TEST(w07_each_command_has_its_own),
        ALONE_TEST(w07_each_command_has_its_own_through_a_full_socket),
        ALONE_TEST(w07_a_duplicate_is_closed_with_its_first_byte),
        ALONE_TEST(w07_what_makes_no_sense_is_named),
        ALONE_TEST(w07_no_descriptor_to_spare_is_named),
        ALONE_TEST(w07_what_is_not_sent_is_closed),
        ALONE_TEST(w07_what_is_too_much_is_closed),
        ALONE_TEST(w07_what_a_lost_connection_leaves_is_closed),
        ALONE_TEST(w07_what_a_closed_monitor_leaves_is_closed),
        ALONE_TEST(w07_what_a_closed_context_leaves_is_closed),
        ALONE_TEST(w07_what_is_cancelled_before_it_begins_is_closed),
        ALONE_TEST(w07_what_the_system_refuses_to_send_is_named),
        ALONE_TEST(w07_nothing_is_sent_again_after_a_reconnect),
        ALONE_TEST(w07_a_descriptor_over_tcp_is_refused),
    };
    passed = new_file(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
