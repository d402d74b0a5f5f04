/* SPDX-License-Identifier: MIT */
/*
 * Making and ending worlds, and the sentences that tests are written in.
 */
#include "world.h"

#include "counts.h"
#include "libvirt.h"
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* No test ends by these: they only turn a hang into a failure. */
#define PATIENCE_MS (120 * 1000)
#define PATIENCE_OF_A_TEST_S 600

struct kept {
    struct kept *older;
    void *thing;
    void (*let_go)(void *thing);
};

void world_keeps(world *w, void *thing, void (*let_go)(void *thing))
{
    struct kept *kept = malloc(sizeof(*kept));
    assert_non_null(kept);
    *kept = (struct kept){.older = w->kept, .thing = thing, .let_go = let_go};
    w->kept = kept;
}

static void let_all_go(world *w)
{
    while (w->kept) {
        struct kept *kept = w->kept;
        w->kept = kept->older;
        kept->let_go(kept->thing);
        free(kept);
    }
}

static void let_go_future(void *thing)
{
    bj_future_unref(thing);
}

static void let_go_job(void *thing)
{
    bj_job_unref(thing);
}

static void let_go_group(void *thing)
{
    bj_group_unref(thing);
}

static void let_go_monitor(void *thing)
{
    bj_monitor_unref(thing);
}

static void let_go_watch(void *thing)
{
    bj_watch_unref(thing);
}

static void let_go_queue(void *thing)
{
    bj_queue_unref(thing);
}

bj_future *hold(world *w, bj_future *future)
{
    assert_non_null(future);
    world_keeps(w, future, let_go_future);
    return future;
}

bj_job *hold_job(world *w, bj_job *job)
{
    assert_non_null(job);
    world_keeps(w, job, let_go_job);
    return job;
}

bj_group *hold_group(world *w, bj_group *group)
{
    assert_non_null(group);
    world_keeps(w, group, let_go_group);
    return group;
}

bj_monitor *hold_monitor(world *w, bj_monitor *monitor)
{
    assert_non_null(monitor);
    world_keeps(w, monitor, let_go_monitor);
    return monitor;
}

bj_watch *hold_watch(world *w, bj_watch *watch)
{
    assert_non_null(watch);
    world_keeps(w, watch, let_go_watch);
    return watch;
}

bj_queue *hold_queue(world *w, bj_queue *queue)
{
    assert_non_null(queue);
    world_keeps(w, queue, let_go_queue);
    return queue;
}

const char *text_of(world *w, const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    assert_true(length >= 0);
    world_keeps(w, text, free);
    return text;
}

const char *path_of(world *w, const char *name)
{
    return text_of(w, "%s/%s", w->scratch.dir, name);
}

/* ------------------------------------------------------------------- worlds */

int world_alone(void **state)
{
    alarm(PATIENCE_OF_A_TEST_S);
    world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    *state = w;
    w->fds = count_fds();
    scratch_make(&w->scratch);
    assert_int_equal(bj_ctx_new(&w->ctx), BJ_OK);
    return 0;
}

/* The server inherits a socket that already listens: connecting never has to be tried twice. It
 * must not block: two threads of QEMU may go to accept the same client. */
static int listen_at(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* The last monitor is on the standard output: when it greets, the others are set up. QEMU (7.2)
 * never answers who connects a moment earlier, in one start out of a hundred. */
static void start_server(world *w, const char *const command[], const char *monitor_option,
                         int first, int second)
{
    const char *argv[32];
    size_t count = 0;
    while (command[count]) {
        argv[count] = command[count];
        count++;
    }
    const int fds[] = {first, second};
    for (int i = 0; i < 2; i++) {
        argv[count++] = "--chardev";
        argv[count++] = text_of(w, "socket,id=c%d,fd=%d,server=on,wait=off", i, fds[i]);
        argv[count++] = monitor_option;
        argv[count++] = text_of(w, "chardev=c%d,mode=control", i);
    }
    argv[count++] = "--chardev";
    argv[count++] = "stdio,id=last";
    argv[count++] = monitor_option;
    argv[count++] = "chardev=last,mode=control";
    argv[count] = NULL;

    int out;
    char byte;
    w->server = process_start(argv, path_of(w, "server.log"), first, second, &out);
    assert_int_equal(read(out, &byte, 1), 1);
    close(out);
}

static int with_server(void **state, const char *const command[], const char *monitor_option)
{
    world_alone(state);
    world *w = *state;
    int first = listen_at(path_of(w, "first.sock"));
    int second = listen_at(path_of(w, "second.sock"));
    start_server(w, command, monitor_option, first, second);
    close(first);
    close(second);

    w->other = client_open(path_of(w, "second.sock"));
    w->monitor = connect_to(w, text_of(w, "unix:%s", path_of(w, "first.sock")));
    return 0;
}

int world_daemon(void **state)
{
    static const char *const command[] = {"qemu-storage-daemon", NULL};
    return with_server(state, command, "--monitor");
}

int world_system(void **state)
{
    static const char *const command[] = {
        "qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-S", NULL,
    };
    return with_server(state, command, "--mon");
}

/* Which of the two world_real() is. */
static bool real_is_system;

int world_real(void **state)
{
    return real_is_system ? world_system(state) : world_daemon(state);
}

int run_tests_on_both(const struct CMUnitTest *tests, size_t count)
{
    real_is_system = false;
    print_message("on qemu-storage-daemon:\n");
    int failed = _cmocka_run_group_tests("daemon", tests, count, NULL, NULL);
    real_is_system = true;
    print_message("on qemu-system-x86_64:\n");
    return failed + _cmocka_run_group_tests("system", tests, count, NULL, NULL);
}

void world_kill_server(world *w)
{
    process_end(&w->server);
}

int world_end(void **state)
{
    world *w = *state;
    let_all_go(w);
    if (w->ctx) {
        assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
        bj_ctx_unref(w->ctx);
    }
    if (w->other)
        client_close(w->other);
    process_end(&w->server);
    scratch_remove(&w->scratch);

    int leaked = w->domain ? fds_left_by_libvirt(w->fds) : count_fds() - w->fds;
    free(w);
    alarm(0);
    assert_int_equal(leaked, 0);
    return 0;
}

/* ------------------------------------------------------------------ answers */

bj_future *answers_at(bj_future *future, int error, const char *file, int line)
{
    int waited = bj_future_wait(future, PATIENCE_MS);
    if (waited != BJ_OK) {
        print_error("%s instead of an answer\n", bj_error_name(waited));
        _fail(file, line);
    }
    if (bj_future_error(future) != error) {
        print_error("%s instead of %s: %s\n", bj_error_name(bj_future_error(future)),
                    bj_error_name(error), bj_future_text(future));
        _fail(file, line);
    }
    return future;
}

bj_future *ends_at(bj_future *future, int error, bj_outcome outcome, const char *file, int line)
{
    answers_at(future, error, file, line);
    if (bj_future_outcome(future) != outcome) {
        print_error("%s instead of %s\n", bj_outcome_name(bj_future_outcome(future)),
                    bj_outcome_name(outcome));
        _fail(file, line);
    }
    return future;
}

void names_at(bj_future *future, const char *word, const char *file, int line)
{
    if (strstr(bj_future_text(future), word))
        return;
    print_error("no \"%s\" in \"%s\"\n", word, bj_future_text(future));
    _fail(file, line);
}

bj_monitor *connect_to(world *w, const char *uri)
{
    bj_future *connected = expect(w, bj_monitor_connect(w->ctx, uri, PATIENCE_MS), BJ_OK);
    return hold_monitor(w, bj_future_monitor(connected));
}

bj_job *start(world *w, const char *command, const char *arguments)
{
    bj_future *started = bj_monitor_start(w->monitor, command, arguments, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

bj_job *mirror(world *w, const char *device, const char *target, const char *options)
{
    bj_future *started =
        bj_monitor_mirror(w->monitor, device, target, "full", options, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

bj_job *attach(world *w, const char *id)
{
    bj_future *attached = bj_monitor_attach(w->monitor, id, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, attached, BJ_OK)));
}
