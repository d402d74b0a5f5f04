/* SPDX-License-Identifier: MIT */
/*
 * The event loop on libev; see loop.h.
 */
#include "base/loop.h"

#include <blockjob/blockjob.h>
#include <blockjob/ev.h>

#include <ev.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define STACK_SIZE (512 * 1024) /* jansson recurses, a level of nesting at a time */
#define LAST_SECOND ((int64_t)(UINT64_MAX >> (65 - 8 * sizeof(time_t)))) /* of a time_t */

struct loop {
    struct ev_loop *ev;
    bool theirs;
    ev_async wake;
    ev_periodic clock_guard;

    pthread_t thread;
    size_t stack; /* bytes */
    void (*gone)(void *user);
    void *gone_user;

    pthread_mutex_t lock;
    pthread_t current; /* the thread the loop runs on */
    bool has_current;
    struct loop_task *round; /* being run */
    struct loop_task *first; /* for the next round */
    struct loop_task **last;
    bool stopping; /* stops as soon as there is nothing left to run */
    bool stopped;

    unsigned waking; /* how often on_wake() is on the stack */
    bool freed;      /* and frees the loop when it is through */
    bool held; /* ev_ref: tasks were posted on the loop's thread, ev_run() must not return yet */
};

struct loop_io {
    ev_io ev;
    struct loop *loop;
    void (*ready)(void *user, int events);
    void *user;
};

struct loop_timer {
    ev_timer ev;
    struct loop *loop;
    void (*expired)(void *user);
    void *user;
};

int64_t clock_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_realtime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct timespec clock_add_ms(struct timespec when, int64_t ms)
{
    int64_t nanos = when.tv_nsec + ms % 1000 * 1000000;
    int64_t seconds = ms / 1000 + nanos / 1000000000;
    if (seconds > LAST_SECOND - when.tv_sec)
        return (struct timespec){.tv_sec = (time_t)LAST_SECOND};
    when.tv_sec += (time_t)seconds;
    when.tv_nsec = (long)(nanos % 1000000000);
    return when;
}

struct timespec clock_deadline(int64_t ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return clock_add_ms(now, ms);
}

/* -------------------------------------------------------------------- tasks */

/* The next task of this round; the first call after a round begins the next. */
static struct loop_task *take_task(struct loop *loop, bool new_round)
{
    pthread_mutex_lock(&loop->lock);
    if (!loop->round && new_round) {
        loop->round = loop->first;
        loop->first = NULL;
        loop->last = &loop->first;
    }
    struct loop_task *task = loop->round;
    if (task)
        loop->round = task->next;
    loop->current = pthread_self();
    loop->has_current = true;
    pthread_mutex_unlock(&loop->lock);
    return task;
}

static void set_held(struct loop *loop, bool held)
{
    if (loop->theirs && held && !loop->held)
        ev_ref(loop->ev);
    if (loop->theirs && !held && loop->held)
        ev_unref(loop->ev);
    loop->held = held;
}

/* Shut only when nothing is left to run: who was promised a callback gets it. */
static bool shut_if_idle(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool idle = !loop->first && !loop->round;
    if (idle && loop->stopping)
        loop->stopped = true;
    pthread_mutex_unlock(&loop->lock);
    return idle;
}

/* Also before the memory goes, which a handle may keep: no fd stays for it. */
static void close_ev(struct loop *loop)
{
    if (!loop->theirs && loop->ev)
        ev_loop_destroy(loop->ev);
    loop->ev = NULL;
}

static void destroy(struct loop *loop)
{
    close_ev(loop);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static void enter_wake(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->waking++;
    pthread_mutex_unlock(&loop->lock);
}

/* One of the tasks, or another thread meanwhile, may have given back the last of the context. */
static void leave_wake(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool freed = loop->freed;
    bool last = --loop->waking == 0;
    pthread_mutex_unlock(&loop->lock);

    if (freed && last)
        destroy(loop);
}

/* One round of tasks; those they post are for the next, after sockets and timers had their turn. */
static void run_round(struct loop *loop)
{
    bool first = true;
    for (struct loop_task *task; (task = take_task(loop, first)); first = false)
        task->run(task);
}

void loop_run_posted(struct loop *loop)
{
    enter_wake(loop);
    run_round(loop);
    leave_wake(loop);
}

static void on_wake(struct ev_loop *ev, ev_async *async, int events)
{
    (void)ev, (void)events;
    struct loop *loop = async->data;

    enter_wake(loop);
    run_round(loop);
    bool idle = shut_if_idle(loop);
    if (!loop->stopped || !loop->theirs)
        set_held(loop, !idle);
    if (loop->stopped && !loop->theirs)
        ev_break(loop->ev, EVBREAK_ALL);
    leave_wake(loop);
}

bool loop_post(struct loop *loop, struct loop_task *task)
{
    task->next = NULL;

    pthread_mutex_lock(&loop->lock);
    bool accepted = !loop->stopped;
    bool here = loop->has_current && pthread_equal(loop->current, pthread_self());
    if (accepted) {
        *loop->last = task;
        loop->last = &task->next;
        ev_async_send(loop->ev, &loop->wake); /* under the lock: after loop_stop() none is sent */
    }
    pthread_mutex_unlock(&loop->lock);

    if (accepted && here)
        set_held(loop, true);
    return accepted;
}

/* ------------------------------------------------------------------- thread */

static void never(struct ev_loop *ev, ev_periodic *periodic, int events)
{
    (void)ev, (void)periodic, (void)events;
}

int loop_new(struct loop **ret_loop, struct ev_loop *theirs)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return BJ_E_NOMEM;
    loop->ev = theirs ? theirs : ev_loop_new(EVFLAG_NOENV | EVFLAG_NOSIGMASK);
    if (!loop->ev) {
        free(loop);
        return BJ_E_SYSTEM;
    }
    loop->theirs = theirs != NULL;
    loop->stack = STACK_SIZE;
    loop->last = &loop->first;
    loop->current = pthread_self();
    loop->has_current = loop->theirs;
    pthread_mutex_init(&loop->lock, NULL);

    ev_async_init(&loop->wake, on_wake);
    ev_set_priority(&loop->wake,
                    EV_MAXPRI); /* callbacks before the next read, so rings stay short */
    loop->wake.data = loop;
    ev_async_start(loop->ev, &loop->wake);

    if (theirs) {
        ev_unref(loop->ev);
    } else {
        /* With a periodic, libev hears of clock jumps from the kernel and sleeps as long as nothing
         * happens; without, it wakes every minute to look. */
        ev_periodic_init(&loop->clock_guard, never, 1e10, 0, NULL);
        ev_periodic_start(loop->ev, &loop->clock_guard);
    }
    *ret_loop = loop;
    return BJ_OK;
}

static void set_current(struct loop *loop, bool current)
{
    pthread_mutex_lock(&loop->lock);
    loop->current = pthread_self();
    loop->has_current = current;
    pthread_mutex_unlock(&loop->lock);
}

static void *run(void *user)
{
    struct loop *loop = user;

    set_current(loop, true);
    ev_run(loop->ev, 0);
    set_current(loop, false); /* the next thread may well get this one's number */
    close_ev(loop);
    if (loop->gone)
        loop->gone(loop->gone_user);
    return NULL;
}

void loop_set_stack(struct loop *loop, size_t bytes)
{
    loop->stack = bytes;
}

int loop_start(struct loop *loop)
{
    pthread_attr_t attr;
    sigset_t all, before;
    size_t least = (size_t)PTHREAD_STACK_MIN;
    size_t stack = loop->stack < least ? least : loop->stack;

    if (pthread_attr_init(&attr) != 0)
        return BJ_E_SYSTEM;
    pthread_attr_setstacksize(&attr, stack);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&loop->thread, &attr, run, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);

    if (r != 0)
        return BJ_E_SYSTEM;

    pthread_mutex_lock(&loop->lock);
    loop->current = loop->thread;
    loop->has_current = true;
    pthread_mutex_unlock(&loop->lock);
    return BJ_OK;
}

void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    pthread_mutex_unlock(&loop->lock);
}

void loop_stop_theirs(struct loop *loop)
{
    loop_stop(loop);
    do
        for (struct loop_task *task; (task = take_task(loop, true));)
            task->run(task);
    while (!shut_if_idle(loop));

    set_held(loop, false);
    ev_ref(loop->ev);
    ev_async_stop(loop->ev, &loop->wake);
}

void loop_join(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
}

void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user)
{
    loop->gone = gone;
    loop->gone_user = user;
}

void loop_detach(struct loop *loop)
{
    pthread_detach(loop->thread);
}

void loop_free(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool in_use = loop->waking > 0;
    loop->freed = true;
    pthread_mutex_unlock(&loop->lock);
    if (!in_use)
        destroy(loop);
}

void loop_hold(struct loop *loop)
{
    ev_ref(loop->ev);
}

void loop_unhold(struct loop *loop)
{
    ev_unref(loop->ev);
}

bool loop_is_current(const struct loop *loop)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&loop->lock;
    pthread_mutex_lock(lock);
    bool current = loop->has_current && pthread_equal(loop->current, pthread_self());
    pthread_mutex_unlock(lock);
    return current;
}

bool loop_is_theirs(const struct loop *loop)
{
    return loop->theirs;
}

/* ------------------------------------------------------- sockets and timers */

static void on_io(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    struct loop_io *io = watcher->data;
    io->ready(io->user,
              ((events & EV_READ) ? LOOP_READ : 0) | ((events & EV_WRITE) ? LOOP_WRITE : 0));
}

struct loop_io *loop_io_new(struct loop *loop, int fd, void (*ready)(void *user, int events),
                            void *user)
{
    struct loop_io *io = calloc(1, sizeof *io);
    if (!io)
        return NULL;
    io->loop = loop;
    io->ready = ready;
    io->user = user;
    ev_io_init(&io->ev, on_io, fd, 0);
    io->ev.data = io;
    return io;
}

void loop_io_want(struct loop_io *io, int events)
{
    int wanted = ((events & LOOP_READ) ? EV_READ : 0) | ((events & LOOP_WRITE) ? EV_WRITE : 0);

    if (ev_is_active(&io->ev) && (io->ev.events & (EV_READ | EV_WRITE)) == wanted)
        return;
    ev_io_stop(io->loop->ev, &io->ev);
    ev_io_set(&io->ev, io->ev.fd, wanted);
    if (wanted)
        ev_io_start(io->loop->ev, &io->ev);
}

void loop_io_free(struct loop_io *io)
{
    if (!io)
        return;
    ev_io_stop(io->loop->ev, &io->ev);
    free(io);
}

static void on_timer(struct ev_loop *ev, ev_timer *watcher, int events)
{
    (void)ev, (void)events;
    struct loop_timer *timer = watcher->data;
    timer->expired(timer->user);
}

struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user)
{
    struct loop_timer *timer = calloc(1, sizeof *timer);
    if (!timer)
        return NULL;
    timer->loop = loop;
    timer->expired = expired;
    timer->user = user;
    ev_timer_init(&timer->ev, on_timer, 0., 0.);
    timer->ev.data = timer;
    return timer;
}

void loop_timer_set(struct loop_timer *timer, int64_t ms)
{
    ev_timer_stop(timer->loop->ev, &timer->ev);
    ev_now_update(timer->loop->ev); /* a callback before us may have taken long */
    ev_timer_set(&timer->ev, (double)ms / 1000., 0.);
    ev_timer_start(timer->loop->ev, &timer->ev);
}

void loop_timer_stop(struct loop_timer *timer)
{
    ev_timer_stop(timer->loop->ev, &timer->ev);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    ev_timer_stop(timer->loop->ev, &timer->ev);
    free(timer);
}
