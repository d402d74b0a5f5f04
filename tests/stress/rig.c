/* SPDX-License-Identifier: MIT */
/*
 * QEMU as a process with three monitors, and its witness on the last of them.
 */
#include "rig.h"

#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A QEMU that says nothing for so long does not live. */
#define PATIENCE_S 60

void rig_init(rig *r, const char *dir, int lane)
{
    *r = (rig){.fd = -1};
    for (int i = 0; i < 2; i++) {
        snprintf(r->path[i], sizeof(r->path[i]), "%s/%d%c.qmp", dir, lane, 'a' + i);
        snprintf(r->relayed[i], sizeof(r->relayed[i]), "%s/%d%c.relay", dir, lane, 'a' + i);
    }
}

/* Two threads of QEMU may go to accept the same client, so it must not block. */
static int listen_at(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* After fork: only what is async-signal-safe, for the library has threads. */
static void become(char *const argv[], const int listeners[2], int stdio)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(listeners[0], F_SETFD, 0);
    fcntl(listeners[1], F_SETFD, 0);
    dup2(stdio, STDIN_FILENO);
    dup2(stdio, STDOUT_FILENO);
    int null = open("/dev/null", O_WRONLY);
    if (!getenv("STRESS_STDERR"))
        dup2(null, STDERR_FILENO);
    execvp(argv[0], argv);
    _exit(127);
}

bool rig_start(rig *r, bool system)
{
    int ends[2];
    char listener[2][64];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const int listeners[2] = {listen_at(r->path[0]), listen_at(r->path[1])};
    for (int i = 0; i < 2; i++) {
        snprintf(listener[i], sizeof(listener[i]), "socket,id=c%d,fd=%d,server=on,wait=off", i,
                 listeners[i]);
    }
    const char *monitor = system ? "--mon" : "--monitor";
    const char *argv[] = {
        "qemu-storage-daemon",
        "--chardev",
        listener[0],
        monitor,
        "chardev=c0,mode=control",
        "--chardev",
        listener[1],
        monitor,
        "chardev=c1,mode=control",
        "--chardev",
        "stdio,id=last",
        monitor,
        "chardev=last,mode=control",
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
    };
    static const char *const of_system[] = {"-machine", "pc",   "-nodefaults",
                                            "-display", "none", "-S"};
    if (system) {
        argv[0] = "qemu-system-x86_64";
        memcpy(&argv[13], of_system, sizeof(of_system));
    }

    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0)
        become((char *const *)(uintptr_t)argv, listeners, ends[1]);
    close(listeners[0]);
    close(listeners[1]);
    close(ends[1]);
    r->fd = ends[0];
    fcntl(r->fd, F_SETFL, O_NONBLOCK);
    r->over = false;
    r->events = json_array();
    r->replies = json_object();

    /* Who connects to the other monitors before the last one greets may never be answered. */
    json_t *reply = rig_ask(r, "\"execute\": \"qmp_capabilities\"");
    bool served = json_object_get(reply, "return") != NULL;
    json_decref(reply);
    return served;
}

bool rig_lives(rig *r)
{
    siginfo_t info = {.si_pid = 0};
    return r->pid > 0 && waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

int rig_end(rig *r)
{
    int status = 0;
    if (r->pid > 0) {
        if (rig_lives(r))
            kill(r->pid, SIGKILL);
        waitpid(r->pid, &status, 0);
        r->pid = 0;
    }
    while (r->fd >= 0 && !r->over)
        rig_read(r, -1);
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    free(r->rest);
    r->rest = NULL;
    r->rest_length = 0;
    json_decref(r->events);
    json_decref(r->replies);
    r->events = r->replies = NULL;
    return status;
}

static void take_message(rig *r, const char *line)
{
    json_t *message = json_loads(line, 0, NULL);
    const char *id = json_string_value(json_object_get(message, "id"));
    if (json_object_get(message, "event"))
        json_array_append(r->events, message);
    else if (id)
        json_object_set(r->replies, id, message);
    json_decref(message);
}

static void take_lines(rig *r)
{
    char *line = r->rest;
    char *end;
    while ((end = memchr(line, '\n', r->rest_length - (size_t)(line - r->rest)))) {
        *end = '\0';
        take_message(r, line);
        line = end + 1;
    }
    r->rest_length -= (size_t)(line - r->rest);
    memmove(r->rest, line, r->rest_length);
}

void rig_read(rig *r, int timeout_ms)
{
    enum { PIECE = 65536 };
    struct pollfd readable = {.fd = r->fd, .events = POLLIN};
    if (r->over || poll(&readable, 1, timeout_ms) <= 0)
        return;
    for (;;) {
        r->rest = realloc(r->rest, r->rest_length + PIECE);
        assert_non_null(r->rest);
        ssize_t got = read(r->fd, r->rest + r->rest_length, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            r->over = true;
            return;
        }
        r->rest_length += (size_t)got;
        take_lines(r);
    }
}

static uint64_t send_command(rig *r, const char *format, va_list arguments)
{
    char text[1024];
    if (r->over)
        return 0;
    int length = vsnprintf(text, sizeof(text), format, arguments);
    assert_true(length >= 0 && (size_t)length < sizeof(text));

    char line[1200];
    length = snprintf(line, sizeof(line), "{%s, \"id\": \"%llu\"}\r\n", text,
                      (unsigned long long)++r->next_id);
    /* Few and small: they fit into the socket even while QEMU is stopped. */
    ssize_t sent = send(r->fd, line, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == length ? r->next_id : 0;
}

uint64_t rig_send(rig *r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    uint64_t id = send_command(r, format, arguments);
    va_end(arguments);
    return id;
}

json_t *rig_ask(rig *r, const char *format, ...)
{
    char key[32];
    va_list arguments;
    va_start(arguments, format);
    snprintf(key, sizeof(key), "%llu", (unsigned long long)send_command(r, format, arguments));
    va_end(arguments);

    json_t *reply = NULL;
    for (time_t end = time(NULL) + PATIENCE_S; time(NULL) < end && strcmp(key, "0") != 0;) {
        reply = json_object_get(r->replies, key);
        if (reply || r->over)
            break;
        rig_read(r, 50);
    }
    return json_incref(reply);
}

/* The position after the `created` of the `run`th run; runs count from 0. */
static size_t begin_of(json_t *events, const char *id, int run)
{
    size_t i;
    json_t *event;
    json_array_foreach(events, i, event)
    {
        json_t *data = json_object_get(event, "data");
        const char *status = json_string_value(json_object_get(data, "status"));
        const char *of = json_string_value(json_object_get(data, "id"));
        if (status && of && strcmp(status, "created") == 0 && strcmp(of, id) == 0 && run-- == 0)
            return i + 1;
    }
    return json_array_size(events);
}

static bool is_of(json_t *event, const char *name, const char *id)
{
    json_t *data = json_object_get(event, "data");
    const char *told = json_string_value(json_object_get(event, "event"));
    const char *device = json_string_value(json_object_get(data, "device"));
    return told && device && strcmp(told, name) == 0 && strcmp(device, id) == 0;
}

const char *last_of(json_t *events, const char *id, int run, json_t **ret_data)
{
    static const char *const names[] = {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"};
    size_t end = begin_of(events, id, run + 1);
    for (size_t i = begin_of(events, id, run); i < end; i++) {
        json_t *event = json_array_get(events, i);
        for (int n = 0; n < 2; n++) {
            if (is_of(event, names[n], id)) {
                *ret_data = json_object_get(event, "data");
                return names[n];
            }
        }
    }
    *ret_data = NULL;
    return "";
}

bool was_ready(json_t *events, const char *id, int run)
{
    size_t end = begin_of(events, id, run + 1);
    for (size_t i = begin_of(events, id, run); i < end; i++) {
        if (is_of(json_array_get(events, i), "BLOCK_JOB_READY", id))
            return true;
    }
    return false;
}
