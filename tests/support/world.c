/* SPDX-License-Identifier: MIT */
/*
 * Making and ending worlds, and the sentences that tests are written in.
 */
#include "world.h"

#include "counts.h"
#include "libvirt.h"
#include "nodes.h"
#include "peer.h"
#include "process.h"
#include "qemus.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* No test ends by these: they only turn a hang into a failure. */
#define PATIENCE_MS (120 * 1000)
#define PATIENCE_OF_A_TEST_S 600

#define DAY_MS (24 * 3600 * 1000)

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
    return text_of(w, "%s/%s", w->dir, name);
}

/* ------------------------------------------------------------------- worlds */

int world_alone(void **state)
{
    alarm(PATIENCE_OF_A_TEST_S);
    world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    *state = w;
    w->dir = directory_new();
    w->fds = count_fds(); /* the helper's is none of the test's */
    assert_int_equal(bj_ctx_new(&w->ctx), BJ_OK);
    /* However slow the machine is, nothing is asked by the clock unless the test wants it. */
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, DAY_MS), BJ_OK);
    return 0;
}

static int with_qemu(void **state, const char *program)
{
    world_alone(state);
    world *w = *state;
    start_qemu(w, program, NULL);
    w->monitor = connect_to(w, text_of(w, "unix:%s", path_of(w, "first.qmp")));
    return 0;
}

int world_daemon(void **state)
{
    return with_qemu(state, "daemon");
}

int world_system(void **state)
{
    return with_qemu(state, "system");
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

/* A context whose last reference went in a callback closes after that; the alarm is the limit. */
static void await_fds(int count)
{
    while (count_fds() > count)
        sched_yield();
}

int world_end(void **state)
{
    world *w = *state;
    bool closes_itself = !w->ctx;
    let_all_go(w);
    if (w->ctx) {
        assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
        bj_ctx_unref(w->ctx);
    }
    process_end(&w->server);
    directory_end(w->dir);

    if (closes_itself && !w->domain)
        await_fds(w->fds);
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

bj_monitor *meet_peer(world *w, peer_play *play, void *user, peer **ret_peer)
{
    *ret_peer = peer_start(play, user);
    bj_future *connected = bj_monitor_connect(w->ctx, peer_uri(*ret_peer), BJ_TIMEOUT_NONE);
    peer_connected(*ret_peer);
    bj_monitor *monitor = bj_future_monitor(answers(connected, BJ_OK));
    bj_future_unref(connected);
    return monitor;
}

void part_from_peer(bj_monitor *monitor, peer *p)
{
    bj_monitor_unref(monitor);
    peer_end(p);
}
