/* SPDX-License-Identifier: MIT */
/*
 * Loops on libev; see host.h. A loop has three watchers there: its epoll set, its first timer, and
 * one for fork(). All are active all the time, so that none has to be added when memory is short;
 * only `keeps` counts for ev_run().
 */
#include "base/host.h"
#include "base/container_of.h"

#include <blockjob/blockjob.h>

#include <ev.h>
#include <stdlib.h>

#define FAR_AWAY_S 1e9
#define NS_PER_S 1e9
#define DEAF_S .1 /* how often a set is looked at that libev could not take */

struct host {
    struct loop_host as_host;
    struct loop *loop;
    struct ev_loop *ev;
    ev_io set;
    ev_timer due;
    ev_fork forked;
    int64_t due_ns; /* when, monotonic; -1: never; 0: it has expired */
    bool keeps;     /* ev_run() from returning */
    bool hears;     /* of the set. If libev can't take it (fs.epoll.max_user_watches, memory), it
                     * says so only after it has slept; so until then its sleep is short */
};

static struct host *host_of(struct loop_host *host)
{
    return container_of(host, struct host, as_host);
}

static void keep(struct host *host, bool keeps)
{
    if (keeps && !host->keeps)
        ev_ref(host->ev);
    if (!keeps && host->keeps)
        ev_unref(host->ev);
    host->keeps = keeps;
}

static void listen_to_set(struct host *host, bool listens)
{
    if (listens == (bool)ev_is_active(&host->set))
        return;
    if (listens) {
        host->hears = false;
        loop_ring(host->loop);
        ev_io_start(host->ev, &host->set);
        ev_unref(host->ev);
    } else {
        ev_ref(host->ev);
        ev_io_stop(host->ev, &host->set);
    }
}

/* libev's idea of now may be old: then it calls too early, and is asked again. */
static void arm(struct host *host, int64_t due_ns)
{
    if (due_ns == host->due_ns && host->hears)
        return;
    double left = due_ns < 0 ? FAR_AWAY_S : (double)(due_ns - clock_monotonic_ns()) / NS_PER_S;
    if (!host->hears && left > DEAF_S)
        left = DEAF_S;
    host->due_ns = due_ns;
    host->due.repeat = left > 0. ? left : 1. / NS_PER_S; /* 0 would stop it */
    ev_timer_again(host->ev, &host->due);
}

static void drive(struct host *host)
{
    if (loop_drive(host->loop))
        return; /* it may have gone */
    /* Inside a callback of its own: until that has returned, ev_run() is to sleep. */
    listen_to_set(host, false);
    arm(host, -1);
}

static void on_set(struct ev_loop *ev, ev_io *io, int events)
{
    struct host *host = io->data;
    host->hears = !(events & EV_ERROR);
    if (!host->hears) /* libev has stopped the watcher */
        ev_ref(ev);
    drive(host);
}

static void on_due(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)events;
    struct host *host = timer->data;
    host->due_ns = 0;
    drive(host);
}

static void on_fork(struct ev_loop *ev, ev_fork *forked, int events)
{
    (void)ev, (void)events;
    drive(forked->data);
}

/* ------------------------------------------------------------- as a loop's host */

static void begin(struct loop_host *as_host)
{
    keep(host_of(as_host), false); /* an ev_run() in a callback would wait for what can't come */
}

static void end(struct loop_host *as_host, bool is_busy, int64_t due_ns)
{
    struct host *host = host_of(as_host);
    listen_to_set(host, true);
    arm(host, due_ns);
    keep(host, is_busy);
}

/* An ev_run() that is yet to begin finds the bell rung. */
static void keep_on(struct loop_host *as_host)
{
    struct host *host = host_of(as_host);
    if (ev_depth(host->ev) > 0)
        keep(host, true);
}

static bool is_running(struct loop_host *as_host)
{
    return ev_depth(host_of(as_host)->ev) > 0;
}

static void forget(struct loop_host *as_host)
{
    struct host *host = host_of(as_host);
    keep(host, false);
    listen_to_set(host, false);
    ev_ref(host->ev);
    ev_timer_stop(host->ev, &host->due);
    ev_ref(host->ev);
    ev_fork_stop(host->ev, &host->forked);
    free(host);
}

static void start(struct host *host)
{
    ev_io_init(&host->set, on_set, loop_set(host->loop), EV_READ);
    ev_init(&host->due, on_due);
    ev_fork_init(&host->forked, on_fork);
    host->set.data = host->due.data = host->forked.data = host;

    listen_to_set(host, true);
    arm(host, -1);
    ev_unref(host->ev);
    ev_fork_start(host->ev, &host->forked);
    ev_unref(host->ev);
    keep_on(&host->as_host); /* until its first turn, in which it learns its thread */
}

int loop_new_on(struct ev_loop *ev, struct loop **ret_loop)
{
    struct host *host = calloc(1, sizeof *host);
    if (!host)
        return BJ_E_NOMEM;
    host->as_host = (struct loop_host){
        .begin = begin,
        .end = end,
        .keep = keep_on,
        .is_running = is_running,
        .forget = forget,
    };
    host->ev = ev;
    int r = loop_new_hosted(&host->as_host, &host->loop);
    if (r != BJ_OK) {
        free(host);
        return r;
    }
    start(host);
    *ret_loop = host->loop;
    return BJ_OK;
}
