/* SPDX-License-Identifier: MIT */
/*
 * The event loop on epoll; see loop.h.
 */
#include "base/loop.h"
#include "base/container_of.h"
#include "base/host.h"
#include "base/process.h"
#include "base/timer_heap.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_SIZE (512 * 1024) /* jansson recurses, a level of nesting at a time */
#define LAST_SECOND ((int64_t)(UINT64_MAX >> (65 - 8 * sizeof(time_t)))) /* of a time_t */
#define NS_PER_MS 1000000

#define EVENTS_PER_TURN 64
/* So often a program's loop is asked for more before its other watchers have their turn. */
#define TURNS_PER_DRIVE 8

struct loop {
    int set;                /* an epoll with all that is waited for; -1 once it has stopped */
    int bell;               /* an eventfd in it; edge-triggered, so that nobody has to read it */
    struct loop_host *host; /* NULL: a thread of our own, or forgotten */
    bool is_theirs;
    unsigned generation; /* of the process that made it */

    pthread_t thread;
    size_t stack; /* bytes */
    void (*gone)(void *user);
    void *gone_user;

    _Atomic pid_t current; /* the thread that runs it, or ran it last; 0: none */
    atomic_uint depth;     /* frames of it on that thread's stack */
    atomic_bool has_posts;
    atomic_bool is_awake; /* looks at the posts before it sleeps: the bell need not ring */
    atomic_bool has_run;  /* a host has: then `current` is not only a guess */

    pthread_mutex_t lock;
    struct loop_task *first; /* of the posts */
    struct loop_task **last;
    bool stopping; /* stops as soon as there is nothing left to run */
    bool stopped;

    /* The loop's own. */
    struct timer_heap timers;
    atomic_size_t ios; /* that wait; any thread makes one */
    size_t holds;      /* loop_hold() */
    struct loop_io *dead;
    struct loop_task *wakes; /* loop_after_step() */
    bool steps;              /* one is under way */
    bool freed;              /* and goes when the outermost frame returns */
};

struct loop_io {
    struct loop *loop;
    int fd;
    int wanted;
    void (*ready)(void *user, int events); /* NULL: freed */
    void *user;
    struct loop_io *next; /* of the dead */
};

struct loop_timer {
    struct timer_node node;
    struct loop *loop;
    void (*expired)(void *user);
    void *user;
};

/* --------------------------------------------------------------------- clocks */

int64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

int64_t clock_realtime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct timespec clock_add_ms(struct timespec when, int64_t ms)
{
    int64_t nanos = when.tv_nsec + ms % 1000 * NS_PER_MS;
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

/* --------------------------------------------------------------------- memory */

static bool is_forked(const struct loop *loop)
{
    return loop->generation != process_generation();
}

/* Also before the memory goes, which a handle may keep: no fd stays for it. */
static void close_fds(struct loop *loop)
{
    if (loop->bell >= 0)
        close(loop->bell);
    if (loop->set >= 0)
        close(loop->set);
    loop->bell = loop->set = -1;
}

static void destroy(struct loop *loop)
{
    if (loop->host)
        loop->host->forget(loop->host);
    close_fds(loop);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static int open_fds(struct loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    loop->set = epoll_create1(EPOLL_CLOEXEC);
    loop->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool open = loop->set >= 0 && loop->bell >= 0 &&
                epoll_ctl(loop->set, EPOLL_CTL_ADD, loop->bell, &event) == 0;
    return open ? BJ_OK : BJ_E_SYSTEM;
}

void loop_ring(const struct loop *loop)
{
    eventfd_write(loop->bell, 1); /* full only after 2^64 of them */
}

int loop_new_hosted(struct loop_host *host, struct loop **ret_loop)
{
    int r = process_count_forks();
    struct loop *loop = r == BJ_OK ? calloc(1, sizeof *loop) : NULL;
    if (!loop)
        return BJ_E_NOMEM;
    pthread_mutex_init(&loop->lock, NULL);
    r = open_fds(loop);
    if (r != BJ_OK) {
        destroy(loop);
        return r;
    }
    loop->generation = process_generation();
    loop->stack = STACK_SIZE;
    loop->last = &loop->first;
    loop->host = host;
    loop->is_theirs = host != NULL;
    loop->current = host ? thread_number() : 0;
    loop->is_awake = host != NULL; /* it rings, so that its first turn tells its thread */
    *ret_loop = loop;
    return BJ_OK;
}

int loop_new(struct loop **ret_loop)
{
    return loop_new_hosted(NULL, ret_loop);
}

int loop_set(const struct loop *loop)
{
    return loop->set;
}

void loop_free(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool in_use = loop->depth > 0;
    loop->freed = true;
    pthread_mutex_unlock(&loop->lock);
    if (!in_use)
        destroy(loop);
}

/* ---------------------------------------------------------------------- tasks */

bool loop_post(struct loop *loop, struct loop_task *task)
{
    task->next = NULL;

    pthread_mutex_lock(&loop->lock);
    bool accepted = !loop->stopped;
    if (accepted) {
        *loop->last = task;
        loop->last = &task->next;
        loop->has_posts = true;
        if (!atomic_exchange(&loop->is_awake, true))
            loop_ring(loop); /* under the lock: after it has stopped the bell is closed */
    }
    bool keeps = accepted && loop->has_run && loop->depth == 0 && loop_is_current(loop);
    pthread_mutex_unlock(&loop->lock); /* from here on another thread may free it */

    if (keeps)
        loop->host->keep(loop->host);
    return accepted;
}

static struct loop_task *take_posts(struct loop *loop)
{
    if (!loop->has_posts)
        return NULL;
    pthread_mutex_lock(&loop->lock);
    struct loop_task *task = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    loop->has_posts = false;
    pthread_mutex_unlock(&loop->lock);
    return task;
}

/* False: in a child. */
static bool end_step(struct loop *loop)
{
    if (is_forked(loop))
        return false;
    while (loop->wakes) {
        struct loop_task *task = loop->wakes;
        loop->wakes = task->next;
        task->run(task);
    }
    loop->steps = false;
    return true;
}

bool loop_after_step(struct loop *loop, struct loop_task *task)
{
    if (!loop_is_current(loop) || !loop->steps)
        return false;
    task->next = loop->wakes;
    loop->wakes = task;
    return true;
}

/* What these post is for the next time, after sockets and timers had their turn. */
bool loop_run_posted(struct loop *loop)
{
    bool is_within = loop->steps; /* a socket's */
    for (struct loop_task *next, *task = take_posts(loop); task; task = next) {
        next = task->next;
        loop->steps = true;
        task->run(task);
        if (!end_step(loop))
            return false;
    }
    loop->steps = is_within;
    return true;
}

/* Stops only when nothing is left to run: who was promised a callback gets it. */
static void stop_if_due(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopped = loop->stopping && !loop->first;
    pthread_mutex_unlock(&loop->lock);
}

/* Before it sleeps: whether it may. Who posts after that rings. */
static bool is_idle(struct loop *loop)
{
    loop->is_awake = false;
    if (loop->has_posts)
        loop->is_awake = true;
    else if (loop->stopping)
        stop_if_due(loop);
    return !loop->is_awake;
}

/* ------------------------------------------------------------- sockets and timers */

static uint32_t to_epoll(int events)
{
    return ((events & LOOP_READ) ? (uint32_t)EPOLLIN : 0) |
           ((events & LOOP_WRITE) ? (uint32_t)EPOLLOUT : 0);
}

int loop_io_new(struct loop *loop, int fd, int events, void (*ready)(void *user, int events),
                void *user, struct loop_io **ret_io)
{
    struct loop_io *io = calloc(1, sizeof *io);
    if (!io)
        return BJ_E_NOMEM;
    *io = (struct loop_io){.loop = loop, .fd = fd, .wanted = events, .ready = ready, .user = user};
    struct epoll_event event = {.events = to_epoll(events), .data.ptr = io};
    if (epoll_ctl(loop->set, EPOLL_CTL_ADD, fd, &event) != 0) {
        int error = errno;
        free(io);
        errno = error;
        return BJ_E_SYSTEM;
    }
    loop->ios++;
    *ret_io = io;
    return BJ_OK;
}

void loop_io_want(struct loop_io *io, int events)
{
    struct epoll_event event = {.events = to_epoll(events), .data.ptr = io};
    if (io->wanted != events && epoll_ctl(io->loop->set, EPOLL_CTL_MOD, io->fd, &event) == 0)
        io->wanted = events;
}

/* Out of the set by name: another fd of the same socket, a forked child's for example, would keep
 * it in there. An event of it may have been taken out already. */
void loop_io_free(struct loop_io *io)
{
    if (!io)
        return;
    struct loop *loop = io->loop;
    epoll_ctl(loop->set, EPOLL_CTL_DEL, io->fd, &(struct epoll_event){0});
    loop->ios--;
    io->ready = NULL;
    io->next = loop->dead;
    loop->dead = io;
}

static void free_dead(struct loop *loop)
{
    while (loop->dead) {
        struct loop_io *io = loop->dead;
        loop->dead = io->next;
        free(io);
    }
}

/* An error is for whoever waits, whatever for. */
static void on_event(struct loop_io *io, uint32_t happened)
{
    uint32_t read = EPOLLIN | EPOLLERR | EPOLLHUP, write = EPOLLOUT | EPOLLERR | EPOLLHUP;
    int events = ((happened & read) ? LOOP_READ : 0) | ((happened & write) ? LOOP_WRITE : 0);

    if (io && io->ready && (events & io->wanted))
        io->ready(io->user, events & io->wanted);
}

struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user)
{
    struct loop_timer *timer = calloc(1, sizeof *timer);
    if (!timer)
        return NULL;
    timer->loop = loop;
    timer->expired = expired;
    timer->user = user;
    return timer;
}

void loop_timer_set(struct loop_timer *timer, int64_t ms)
{
    int64_t now = clock_monotonic_ns();
    int64_t at = ms > (INT64_MAX - now) / NS_PER_MS ? INT64_MAX : now + ms * NS_PER_MS;
    timer_heap_remove(&timer->loop->timers, &timer->node);
    timer_heap_add(&timer->loop->timers, &timer->node, at);
}

void loop_timer_stop(struct loop_timer *timer)
{
    timer_heap_remove(&timer->loop->timers, &timer->node);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    loop_timer_stop(timer);
    free(timer);
}

/* Those that are armed meanwhile are for the next turn. */
static void run_timers(struct loop *loop)
{
    int64_t now = loop->timers.first ? clock_monotonic_ns() : 0;

    bool goes_on = true;

    while (goes_on && loop->timers.first && loop->timers.first->at <= now) {
        struct loop_timer *timer = container_of(loop->timers.first, struct loop_timer, node);
        loop_timer_stop(timer);
        loop->steps = true;
        timer->expired(timer->user);
        goes_on = end_step(loop);
    }
}

/* ---------------------------------------------------------------------- turns */

/* Sleeps for `ms` (-1: as long as nothing happens), then runs what is due: posts first, so that
 * rings are read before more comes in. */
static void turn(struct loop *loop, int ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(loop->set, events, EVENTS_PER_TURN, ms);

    loop->is_awake = true;
    bool goes_on = loop_run_posted(loop);
    for (int i = 0; i < count && goes_on; i++) {
        loop->steps = true;
        on_event(events[i].data.ptr, events[i].events);
        goes_on = end_step(loop);
    }
    if (goes_on)
        run_timers(loop);
    free_dead(loop);
}

/* Until the first timer is due; -1: there is none. */
static int sleep_ms(const struct loop *loop)
{
    if (!loop->timers.first)
        return -1;
    int64_t left = loop->timers.first->at - clock_monotonic_ns();
    int64_t ms = left / NS_PER_MS + (left % NS_PER_MS > 0);
    return ms > INT_MAX ? INT_MAX : ms > 0 ? (int)ms : 0;
}

/* A callback that forks and returns in the child ends here: the child had only this thread. */
static void *run(void *user)
{
    struct loop *loop = user;

    loop->current = thread_number();
    loop->depth = 1;
    while (true) {
        bool idle = is_idle(loop);
        if (loop->stopped)
            break;
        turn(loop, idle ? sleep_ms(loop) : 0);
        if (is_forked(loop))
            return NULL;
    }
    loop->current = 0;
    loop->depth = 0;
    close_fds(loop);
    if (loop->gone)
        loop->gone(loop->gone_user);
    return NULL;
}

/* -------------------------------------------------------------- a program's loop */

static void forget_in_child(struct loop *loop)
{
    if (loop->host)
        loop->host->forget(loop->host);
    loop->host = NULL;
}

/* Runs what is owed, at the end of the outermost frame. */
static void finish(struct loop *loop)
{
    while (!is_forked(loop) && !is_idle(loop))
        loop_run_posted(loop);
    free_dead(loop);
    if (is_forked(loop))
        return;
    loop->host->forget(loop->host);
    loop->host = NULL;
    close_fds(loop);
}

static void rest(struct loop *loop)
{
    bool idle = is_idle(loop);
    bool waits = loop->ios > 0 || loop->holds > 0 || loop->timers.first;
    if (!idle)
        loop_ring(loop); /* the host has other watchers, which are to have their turn */
    int64_t due_ns = loop->timers.first ? loop->timers.first->at : -1;
    loop->host->end(loop->host, waits || !idle, due_ns);
}

int loop_enter(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool is_ours_to_run =
        loop_is_current(loop) || (loop->depth == 0 && (!thread_is_alive(loop->current) ||
                                                       !loop->host->is_running(loop->host)));
    if (is_ours_to_run)
        loop->current = thread_number();
    bool outermost = is_ours_to_run && loop->depth++ == 0;
    pthread_mutex_unlock(&loop->lock);

    if (outermost && loop->host)
        loop->host->begin(loop->host);
    return is_ours_to_run ? BJ_OK : BJ_E_STATE;
}

/* A callback, or another thread meanwhile, may have given back the last of the context. */
void loop_leave(struct loop *loop)
{
    bool outermost = loop->depth == 1; /* nobody else changes it */
    if (outermost)
        free_dead(loop);
    if (outermost && loop->stopping && loop->host)
        finish(loop);
    else if (outermost && loop->host && !is_forked(loop))
        rest(loop);
    if (is_forked(loop)) {
        forget_in_child(loop);
        return;
    }

    pthread_mutex_lock(&loop->lock);
    bool freed = --loop->depth == 0 && loop->freed;
    pthread_mutex_unlock(&loop->lock);
    if (freed)
        destroy(loop);
}

bool loop_drive(struct loop *loop)
{
    if (is_forked(loop)) {
        forget_in_child(loop);
        return true;
    }
    if (loop->depth > 0)
        return false;
    loop->current = thread_number();
    loop->has_run = true;
    loop->depth = 1;
    loop->host->begin(loop->host);
    for (int i = 0; i < TURNS_PER_DRIVE && !is_forked(loop) && (i == 0 || loop->has_posts); i++)
        turn(loop, 0);
    loop_leave(loop);
    return true;
}

/* --------------------------------------------------------------------- thread */

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
    return r == 0 ? BJ_OK : BJ_E_SYSTEM;
}

void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    pthread_mutex_unlock(&loop->lock);
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

void loop_hold(struct loop *loop)
{
    loop->holds++;
}

void loop_unhold(struct loop *loop)
{
    loop->holds--;
}

bool loop_is_current(const struct loop *loop)
{
    return loop->current == thread_number();
}

bool loop_is_theirs(const struct loop *loop)
{
    return loop->is_theirs;
}
