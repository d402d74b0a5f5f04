//go:build !libblockjob_system

/* SPDX-License-Identifier: MIT */
/*
 * libblockjob's libvirt driver in one file; see docs/embedding.md.
 * Made by `make amalgamation` from libblockjob's sources: change those.
 *
 * MIT License
 *
 * Copyright (c) 2026 The libblockjob authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files (the "Software"), to deal
 * in the Software without restriction, including without limitation the rights
 * to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 * copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all
 * copies or substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 * IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 * FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 * AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 * LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 * SOFTWARE.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#ifndef _TIME_BITS
#define _TIME_BITS 64
#endif
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-const-variable"
#pragma GCC diagnostic ignored "-Wshadow"

#include "blockjob.h"

static const char * driver_bj_error_name ( int error ) ;
static const char * driver_bj_error_text ( int error ) ;
static const char * driver_bj_outcome_name ( bj_outcome outcome ) ;
static const char * driver_bj_version ( void ) ;
static int driver_bj_version_number ( void ) ;
#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* ---- core/src/base/error.c ---- */

/*
 * Names and short sentences for error codes and outcomes.
 */

struct base_error__word {
    const char *name;
    const char *text;
};

static const struct base_error__word errors[] = {
    [BJ_OK] = {"BJ_OK", "success"},
    [-BJ_E_INVAL] = {"BJ_E_INVAL", "an argument makes no sense"},
    [-BJ_E_NOMEM] = {"BJ_E_NOMEM", "out of memory"},
    [-BJ_E_SYSTEM] = {"BJ_E_SYSTEM",
                      "the operating system refused a file descriptor, a thread or an epoll watch: "
                      "see ulimit -n, ulimit -u, fs.epoll.max_user_watches"},
    [-BJ_E_FORKED] = {"BJ_E_FORKED", "the object belongs to the parent process: connect anew"},
    [-BJ_E_DEADLOCK] = {"BJ_E_DEADLOCK",
                        "a blocking call on the loop's own thread would never return"},
    [-BJ_E_PENDING] = {"BJ_E_PENDING", "there is no answer yet"},
    [-BJ_E_TIMEOUT] = {"BJ_E_TIMEOUT", "the deadline passed; nothing was done to the job"},
    [-BJ_E_CANCELLED] = {"BJ_E_CANCELLED", "the wait was cancelled; the job goes on"},
    [-BJ_E_CLOSED] = {"BJ_E_CLOSED", "closed by this program"},
    [-BJ_E_BUSY] = {"BJ_E_BUSY", "a limit of the context was reached; nothing was sent"},
    [-BJ_E_UNSUPPORTED] = {"BJ_E_UNSUPPORTED", "this QEMU has no such command"},
    [-BJ_E_CONNECT] = {"BJ_E_CONNECT", "no connection could be made"},
    [-BJ_E_PROTOCOL] = {"BJ_E_PROTOCOL",
                        "the peer does not speak QMP, or said more than the limits allow"},
    [-BJ_E_DISCONNECTED] = {"BJ_E_DISCONNECTED", "the connection ended before the answer came"},
    [-BJ_E_REFUSED] = {"BJ_E_REFUSED", "QEMU refused the command"},
    [-BJ_E_NO_JOB] = {"BJ_E_NO_JOB", "there is no such job"},
    [-BJ_E_NOT_READY] = {"BJ_E_NOT_READY", "the job is not ready"},
    [-BJ_E_STALLED] = {"BJ_E_STALLED", "the job stands still: resume it, or abort it with force"},
    [-BJ_E_STATE] = {"BJ_E_STATE", "that does not fit what the job is or does"},
    [-BJ_E_JOB_FAILED] = {"BJ_E_JOB_FAILED", "the job failed"},
    [-BJ_E_JOB_LOST] = {"BJ_E_JOB_LOST", "how the job ended can't be known"},
    [-BJ_E_JOB_ENDED] = {"BJ_E_JOB_ENDED", "the job ended otherwise than asked"},
};

static const char *const outcomes[] = {
    [BJ_OUTCOME_NONE] = "NONE",           [BJ_OUTCOME_COMPLETED] = "COMPLETED",
    [BJ_OUTCOME_PIVOTED] = "PIVOTED",     [BJ_OUTCOME_COPIED] = "COPIED",
    [BJ_OUTCOME_CANCELLED] = "CANCELLED", [BJ_OUTCOME_FAILED] = "FAILED",
    [BJ_OUTCOME_LOST] = "LOST",
};

static const struct base_error__word *error_word(int error)
{
    static const struct base_error__word unknown = {"BJ_E_?", "unknown error code"};
    size_t n = sizeof errors / sizeof errors[0];

    if (error > 0 || error <= -(int)n)
        return &unknown;
    return &errors[-error];
}

static const char *driver_bj_error_name(int error)
{
    return error_word(error)->name;
}

static const char *driver_bj_error_text(int error)
{
    return error_word(error)->text;
}

static const char *driver_bj_outcome_name(bj_outcome outcome)
{
    size_t index = (size_t)outcome;
    return index < sizeof outcomes / sizeof outcomes[0] ? outcomes[index] : "?";
}

#define STRING(x) #x
#define VERSION(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)

static int driver_bj_version_number(void)
{
    return BJ_VERSION_NUMBER;
}

static const char *driver_bj_version(void)
{
    return VERSION(BJ_VERSION_MAJOR, BJ_VERSION_MINOR, BJ_VERSION_PATCH);
}
#undef STRING
#undef VERSION
/* ---- core/src/base/loop.c ---- */

/*
 * The event loop on epoll; see loop.h.
 */
/* ---- core/src/base/loop.h ---- */

/*
 * The event loop of a context: an epoll set of its own for sockets, an eventfd in it for what other
 * threads post, and timers. A thread of its own runs it, or another loop, the program's, does so
 * (base/host.h). All functions belong to the loop's thread, except the ones that say otherwise.
 *
 * The one rule for what calls what: while anything of a loop is on a stack, nothing else of that
 * loop runs. An ev_run() inside a callback serves the program's own watchers only. What is freed
 * meanwhile stays until the outermost frame returns.
 */

struct loop;

/* Without descriptors or memory, BJ_E_SYSTEM or BJ_E_NOMEM. It runs once loop_start() was called.
 */
static int loop_new(struct loop **ret_loop);
static int loop_start(struct loop *loop); /* any thread, once; BJ_E_SYSTEM */
/* Before loop_start(): for a thread that runs the code of others. */
static void loop_set_stack(struct loop *loop, size_t bytes);
static void loop_free(struct loop *loop); /* stopped, or never started */

/* In a task, or between loop_enter() and loop_leave(): it stops as soon as there is nothing left to
 * run. After that loop_post() refuses. */
static void loop_stop(struct loop *loop);
static void loop_join(struct loop *loop); /* another thread than the loop's */
/* Instead of joining: the thread calls `gone` as its last act. */
static void loop_detach(struct loop *loop);
static void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user);

/* Any thread: whether this is the loop's thread. Of a program's loop: the one that runs it now, as
 * far as can be known: that which ran it last, or made the context. */
static bool loop_is_current(const struct loop *loop);
static bool loop_is_theirs(const struct loop *loop); /* any thread */

/* For calls from outside on a program's loop: what lies between is a frame of the loop's.
 * BJ_E_STATE while another thread runs it. */
static int loop_enter(struct loop *loop);
static void loop_leave(struct loop *loop);

/* Work for the loop's thread, in the order it was posted; lies in the poster's own memory, so that
 * posting can't fail for lack of it. False once the loop has stopped: it will not run. */
struct loop_task {
    struct loop_task *next;
    void (*run)(struct loop_task *task);
};
static bool loop_post(struct loop *loop, struct loop_task *task); /* any thread */

/* Not in a task. Runs now what has been posted by now: for who has just taken from the world what
 * must not overtake it. False: a callback has forked, and this is the child, which must not touch
 * what it shares with its parent. */
static bool loop_run_posted(struct loop *loop);

/* Runs it when the task, the socket's handler or the timer's that is running now has returned: what
 * a read causes many times needs to be done once. False: none is running on this thread. The task
 * may not be given twice before it ran. */
static bool loop_after_step(struct loop *loop, struct loop_task *task);

/* As long as it is held, a loop of theirs that has nothing else to wait for goes on: for what other
 * threads will post. */
static void loop_hold(struct loop *loop);
static void loop_unhold(struct loop *loop);

/* A socket. `ready` is called while it is readable, or writable if asked for; never both 0. */
enum { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_io;
/* Any thread. BJ_E_NOMEM; BJ_E_SYSTEM with the reason in errno. */
static int loop_io_new(struct loop *loop, int fd, int events, void (*ready)(void *user, int events),
                void *user, struct loop_io **ret_io);
static void loop_io_want(struct loop_io *io, int events);
static void loop_io_free(struct loop_io *io); /* before the fd is closed; takes NULL */

/* A timer on the monotonic clock; calls once after loop_timer_set(). Any thread may make one; NULL:
 * no memory. */
struct loop_timer;
static struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user);
static void loop_timer_set(struct loop_timer *timer, int64_t ms); /* from now; again moves it */
static void loop_timer_stop(struct loop_timer *timer);
static void loop_timer_free(struct loop_timer *timer); /* takes NULL */

/* Any thread. Nano- and milliseconds of the monotonic clock, microseconds since 1970. */
static int64_t clock_monotonic_ns(void);
static int64_t clock_monotonic_ms(void);
static int64_t clock_realtime_us(void);

/* Any thread. The moment `ms` after `when`; the last one that time_t can hold if that is later.
 * `ms` is not negative. */
static struct timespec clock_add_ms(struct timespec when, int64_t ms);
/* Any thread. The same after now, for pthread_cond_timedwait() by the monotonic clock. */
static struct timespec clock_deadline(int64_t ms);

/* ---- core/src/base/container_of.h ---- */

/*
 * From a part of a struct to the whole.
 */

/* The `type` whose `member` the pointer points to. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* ---- core/src/base/host.h ---- */

/*
 * Loops that another loop runs, the program's on libev. host.c is the only file that knows libev.
 */

struct ev_loop;

/* What a loop asks of the one that runs it. The loop's thread. */
struct loop_host {
    /* Before the loop's code runs, and after it: at `due_ns` (monotonic; -1: never) its first timer
     * is due; `is_busy`: it waits for something, so the host must not return yet. */
    void (*begin)(struct loop_host *host);
    void (*end)(struct loop_host *host, bool is_busy, int64_t due_ns);
    void (*keep)(struct loop_host *host);       /* outside of both: it has become busy */
    bool (*is_running)(struct loop_host *host); /* any thread */
    /* It has stopped, or this is a child of fork(): the host forgets it, and frees itself. */
    void (*forget)(struct loop_host *host);
};

/* A loop on `ev`, on whose thread this is called. Errors as of loop_new(). */
int loop_new_on(struct ev_loop *ev, struct loop **ret_loop);

/* For host.c. */
static int loop_new_hosted(struct loop_host *host, struct loop **ret_loop);
static int loop_set(const struct loop *loop);   /* an fd that is readable when there is something to do */
static void loop_ring(const struct loop *loop); /* makes it readable */
/* Runs what is due. False: nothing was run, as something of the loop is on the stack already. */
static bool loop_drive(struct loop *loop);

/* ---- core/src/base/process.h ---- */

/*
 * Which process and which thread this is. Numbers of the kernel will not do: two processes may both
 * be number 1, each in a namespace of its own, and a pthread_t is soon used again. Any thread.
 */

/* From here on a child of fork() is known by its generation. BJ_OK, BJ_E_NOMEM. */
static int process_count_forks(void);

/* Differs between a process and each child that it forks; no system call. */
static unsigned process_generation(void);

/* The kernel's number of this thread; a system call only the first time. */
static pid_t thread_number(void);
static bool thread_is_alive(pid_t number); /* of this process */

/* ---- core/src/base/timer_heap.h ---- */

/*
 * Timers, the next one first: a pairing heap whose links lie in the timers, so that arming one
 * needs no memory and can't fail. Adding takes constant time, removing logarithmic (amortized).
 */

struct timer_node {
    int64_t at;
    struct timer_node *child;    /* the first of those that are due later */
    struct timer_node *next;     /* sibling */
    struct timer_node *previous; /* sibling; the first one's parent */
    bool is_in;
};

struct timer_heap {
    struct timer_node *first; /* NULL: none is armed */
};

static void timer_heap_add(struct timer_heap *heap, struct timer_node *node, int64_t at); /* not in it */
static void timer_heap_remove(struct timer_heap *heap, struct timer_node *node); /* in it, or not */

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

static int64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

static int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

static int64_t clock_realtime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static struct timespec clock_add_ms(struct timespec when, int64_t ms)
{
    int64_t nanos = when.tv_nsec + ms % 1000 * NS_PER_MS;
    int64_t seconds = ms / 1000 + nanos / 1000000000;
    if (seconds > LAST_SECOND - when.tv_sec)
        return (struct timespec){.tv_sec = (time_t)LAST_SECOND};
    when.tv_sec += (time_t)seconds;
    when.tv_nsec = (long)(nanos % 1000000000);
    return when;
}

static struct timespec clock_deadline(int64_t ms)
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

static void loop_ring(const struct loop *loop)
{
    eventfd_write(loop->bell, 1); /* full only after 2^64 of them */
}

static int loop_new_hosted(struct loop_host *host, struct loop **ret_loop)
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

static int loop_new(struct loop **ret_loop)
{
    return loop_new_hosted(NULL, ret_loop);
}

static int loop_set(const struct loop *loop)
{
    return loop->set;
}

static void loop_free(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool in_use = loop->depth > 0;
    loop->freed = true;
    pthread_mutex_unlock(&loop->lock);
    if (!in_use)
        destroy(loop);
}

/* ---------------------------------------------------------------------- tasks */

static bool loop_post(struct loop *loop, struct loop_task *task)
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

static bool loop_after_step(struct loop *loop, struct loop_task *task)
{
    if (!loop_is_current(loop) || !loop->steps)
        return false;
    task->next = loop->wakes;
    loop->wakes = task;
    return true;
}

/* What these post is for the next time, after sockets and timers had their turn. */
static bool loop_run_posted(struct loop *loop)
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

static uint32_t base_loop__to_epoll(int events)
{
    return ((events & LOOP_READ) ? (uint32_t)EPOLLIN : 0) |
           ((events & LOOP_WRITE) ? (uint32_t)EPOLLOUT : 0);
}

static int loop_io_new(struct loop *loop, int fd, int events, void (*ready)(void *user, int events),
                void *user, struct loop_io **ret_io)
{
    struct loop_io *io = calloc(1, sizeof *io);
    if (!io)
        return BJ_E_NOMEM;
    *io = (struct loop_io){.loop = loop, .fd = fd, .wanted = events, .ready = ready, .user = user};
    struct epoll_event event = {.events = base_loop__to_epoll(events), .data.ptr = io};
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

static void loop_io_want(struct loop_io *io, int events)
{
    struct epoll_event event = {.events = base_loop__to_epoll(events), .data.ptr = io};
    if (io->wanted != events && epoll_ctl(io->loop->set, EPOLL_CTL_MOD, io->fd, &event) == 0)
        io->wanted = events;
}

/* Out of the set by name: another fd of the same socket, a forked child's for example, would keep
 * it in there. An event of it may have been taken out already. */
static void loop_io_free(struct loop_io *io)
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
static void base_loop__on_event(struct loop_io *io, uint32_t happened)
{
    uint32_t read = EPOLLIN | EPOLLERR | EPOLLHUP, write = EPOLLOUT | EPOLLERR | EPOLLHUP;
    int events = ((happened & read) ? LOOP_READ : 0) | ((happened & write) ? LOOP_WRITE : 0);

    if (io && io->ready && (events & io->wanted))
        io->ready(io->user, events & io->wanted);
}

static struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user)
{
    struct loop_timer *timer = calloc(1, sizeof *timer);
    if (!timer)
        return NULL;
    timer->loop = loop;
    timer->expired = expired;
    timer->user = user;
    return timer;
}

static void loop_timer_set(struct loop_timer *timer, int64_t ms)
{
    int64_t now = clock_monotonic_ns();
    int64_t at = ms > (INT64_MAX - now) / NS_PER_MS ? INT64_MAX : now + ms * NS_PER_MS;
    timer_heap_remove(&timer->loop->timers, &timer->node);
    timer_heap_add(&timer->loop->timers, &timer->node, at);
}

static void loop_timer_stop(struct loop_timer *timer)
{
    timer_heap_remove(&timer->loop->timers, &timer->node);
}

static void loop_timer_free(struct loop_timer *timer)
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
        base_loop__on_event(events[i].data.ptr, events[i].events);
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
static void base_loop__finish(struct loop *loop)
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

static int loop_enter(struct loop *loop)
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
static void loop_leave(struct loop *loop)
{
    bool outermost = loop->depth == 1; /* nobody else changes it */
    if (outermost)
        free_dead(loop);
    if (outermost && loop->stopping && loop->host)
        base_loop__finish(loop);
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

static bool loop_drive(struct loop *loop)
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

static void loop_set_stack(struct loop *loop, size_t bytes)
{
    loop->stack = bytes;
}

static int loop_start(struct loop *loop)
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

static void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    pthread_mutex_unlock(&loop->lock);
}

static void loop_join(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
}

static void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user)
{
    loop->gone = gone;
    loop->gone_user = user;
}

static void loop_detach(struct loop *loop)
{
    pthread_detach(loop->thread);
}

static void loop_hold(struct loop *loop)
{
    loop->holds++;
}

static void loop_unhold(struct loop *loop)
{
    loop->holds--;
}

static bool loop_is_current(const struct loop *loop)
{
    return loop->current == thread_number();
}

static bool loop_is_theirs(const struct loop *loop)
{
    return loop->is_theirs;
}
#undef STACK_SIZE
#undef LAST_SECOND
#undef NS_PER_MS
#undef EVENTS_PER_TURN
#undef TURNS_PER_DRIVE
/* ---- core/src/base/process.c ---- */

/*
 * Processes and threads; see process.h.
 */

static atomic_uint generation;
/* Of the thread's number. Not thread-local storage: GCC 12's leak checker crashes on that of a
 * library which was loaded later, and musl loads none with the fast kind. */
static pthread_key_t number;

static void base_process__begin_child(void)
{
    atomic_fetch_add(&generation, 1);
    (void)pthread_setspecific(number, NULL);
}

static int process_count_forks(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool has_key;
    static atomic_bool counts;

    if (atomic_load(&counts))
        return BJ_OK;
    pthread_mutex_lock(&lock);
    has_key = has_key || pthread_key_create(&number, NULL) == 0;
    if (has_key && !counts)
        counts = pthread_atfork(NULL, NULL, base_process__begin_child) == 0;
    pthread_mutex_unlock(&lock);
    return atomic_load(&counts) ? BJ_OK : BJ_E_NOMEM;
}

static unsigned process_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

static pid_t thread_number(void)
{
    pid_t known = (pid_t)(intptr_t)pthread_getspecific(number);
    if (known != 0)
        return known;
    known = (pid_t)syscall(SYS_gettid);
    (void)pthread_setspecific(number, (void *)(intptr_t)known); /* without memory: asked again */
    return known;
}

static bool thread_is_alive(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}
/* ---- core/src/base/text.c ---- */

/*
 * Immutable, shared strings; see text.h.
 */
/* ---- core/src/base/text.h ---- */

/*
 * Immutable strings that several owners share: error sentences, event data, JSON replies.
 * Any thread.
 */

struct text;

/* NULL when memory is short. */
static struct text *text_new(const char *bytes, size_t len);

/* Never NULL: when memory is short it is the sentence that says so. */
static struct text *text_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The most bytes of it that make whole characters (UTF-8) and are no more than `most`: for "%.*s".
 */
static int text_fit(const char *s, int most);

/* As much of a caller's text as an error sentence repeats. */
#define QUOTED_MAX 200

static struct text *text_ref(struct text *text); /* NULL stays NULL */
static struct text *text_unref(struct text *text);

/* "" for NULL. Belongs to the text. */
static const char *text_str(const struct text *text);

struct text {
    atomic_uint refs; /* 0: static, never freed */
    char s[];
};

static struct text out_of_memory = {.s = "out of memory"};

static struct text *text_alloc(size_t len)
{
    struct text *text = malloc(sizeof *text + len + 1);
    if (text) {
        atomic_init(&text->refs, 1);
        text->s[len] = '\0';
    }
    return text;
}

static struct text *text_new(const char *bytes, size_t len)
{
    struct text *text = text_alloc(len);
    if (text)
        memcpy(text->s, bytes, len);
    return text;
}

static struct text *text_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);

    int len = vsnprintf(NULL, 0, format, args);
    struct text *text = len < 0 ? NULL : text_alloc((size_t)len);
    if (text)
        vsnprintf(text->s, (size_t)len + 1, format, again);

    va_end(again);
    va_end(args);
    return text ? text : &out_of_memory;
}

static bool goes_on(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

static int text_fit(const char *s, int most)
{
    enum { LONGEST = 4 }; /* bytes of a character */
    int len = (int)strnlen(s, (size_t)most + 1);
    if (len <= most)
        return len;
    for (int cut = 0; cut < LONGEST && cut <= most; cut++)
        if (!goes_on(s[most - cut]))
            return most - cut;
    return most; /* it is not UTF-8 */
}

static struct text *text_ref(struct text *text)
{
    if (text && text != &out_of_memory)
        atomic_fetch_add_explicit(&text->refs, 1, memory_order_relaxed);
    return text;
}

static struct text *text_unref(struct text *text)
{
    if (text && text != &out_of_memory &&
        atomic_fetch_sub_explicit(&text->refs, 1, memory_order_acq_rel) == 1)
        free(text);
    return NULL;
}

static const char *text_str(const struct text *text)
{
    return text ? text->s : "";
}
/* ---- core/src/base/timer_heap.c ---- */

/*
 * The pairing heap of timers; see timer_heap.h.
 */

/* Of two heaps one: the later becomes the first child of the earlier. Both take NULL. */
static struct timer_node *meld(struct timer_node *a, struct timer_node *b)
{
    if (!a || !b)
        return a ? a : b;
    struct timer_node *early = b->at < a->at ? b : a;
    struct timer_node *late = early == a ? b : a;

    late->next = early->child;
    if (late->next)
        late->next->previous = late;
    late->previous = early;
    early->child = late;
    early->next = early->previous = NULL;
    return early;
}

/* Of siblings one heap: melded by pairs from the first to the last, then the pairs from the last to
 * the first. */
static struct timer_node *meld_all(struct timer_node *sibling)
{
    struct timer_node *pairs = NULL, *all = NULL;

    while (sibling) {
        struct timer_node *a = sibling;
        struct timer_node *b = a->next;
        sibling = b ? b->next : NULL;
        struct timer_node *pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        struct timer_node *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        all = meld(all, pair);
    }
    if (all)
        all->previous = NULL;
    return all;
}

static void cut_out(struct timer_node *node)
{
    if (node->previous->child == node)
        node->previous->child = node->next;
    else
        node->previous->next = node->next;
    if (node->next)
        node->next->previous = node->previous;
}

static void timer_heap_add(struct timer_heap *heap, struct timer_node *node, int64_t at)
{
    *node = (struct timer_node){.at = at, .is_in = true};
    heap->first = meld(heap->first, node);
}

static void timer_heap_remove(struct timer_heap *heap, struct timer_node *node)
{
    if (!node->is_in)
        return;
    struct timer_node *later = meld_all(node->child);
    if (node == heap->first) {
        heap->first = later;
    } else {
        cut_out(node);
        heap->first = meld(heap->first, later);
    }
    *node = (struct timer_node){0};
}
/* ---- core/src/driver/job_list.c ---- */

/*
 * Rows about jobs; see job_list.h.
 */
/* ---- core/src/driver/job_list.h ---- */

/*
 * QEMU's list of jobs: what programs read of each, and what only the machine has to know.
 */

struct job_row {
    bj_job_info info;   /* its strings are malloc'ed, or "" */
    bool was_cancelled; /* it is over, and its error is that it was cancelled (B21) */
    bool has_io_error;  /* an I/O error has paused it */
    bool lacks_space;   /* and it was that no space is left */
    char *disks;        /* malloc'ed, those it works on, a newline after each; NULL: not known */
};

struct job_list {
    size_t count;
    bool is_cut; /* rows are missing that somebody asked for */
    struct job_row *rows;
};

static const struct job_row *job_list_find(const struct job_list *list, const char *id); /* NULL: none */
static void job_list_free(struct job_list *list);                                        /* takes NULL */
static void job_list_free_rows(struct job_list *list); /* what the rows own, not their array */

static const struct job_row *job_list_find(const struct job_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->rows[i].info.id, id) == 0)
            return &list->rows[i];
    return NULL;
}

static void job_list_free_rows(struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const bj_job_info *row = &list->rows[i].info;
        const char *const strings[] = {row->id, row->type, row->status, row->error, row->io_status};
        for (size_t s = 0; s < sizeof strings / sizeof strings[0]; s++)
            if (strings[s] && *strings[s])
                free((char *)strings[s]);
        free(list->rows[i].disks);
    }
}

static void job_list_free(struct job_list *list)
{
    if (!list)
        return;
    job_list_free_rows(list);
    free(list->rows);
    free(list);
}
/* ---- core/libvirt/backup_run.c ---- */

/*
 * A running backup of a domain; see backup_run.h.
 */
/* ---- core/libvirt/backup_run.h ---- */

/*
 * A running backup of a domain: one job of libvirt's, which has a job of QEMU's for each of its
 * disks (its parts). It succeeds or fails as a whole, and libvirt removes the files of a failed
 * one, so that how a part has ended says nothing of the backup.
 *
 * Measured with libvirt 9.0: all parts are created before one ends; each part has a BLOCK_JOB_2 of
 * its own; JOB_COMPLETED, with the result of the whole, comes right before the last of them. Where
 * the domain is destroyed there is a JOB_COMPLETED, too, but no BLOCK_JOB_2 follows it.
 *
 * Pure, as facts.h.
 */

/* The id of the job. No disk has such a target. */
#define BACKUP_ID "backup"

/* Of a part, or of the whole. */
enum backup_end { BACKUP_COMPLETED, BACKUP_FAILED, BACKUP_CANCELLED };
enum backup_result { BACKUP_GOES_ON, BACKUP_SUCCEEDED, BACKUP_DID_NOT_SUCCEED };

struct backup_run {
    unsigned jobs; /* of QEMU's that are there */
    bool has_failed, was_cancelled;
    enum backup_result result;
    char *failed_disk; /* the first; NULL: none, or no memory */
    char *reason;      /* why, by QEMU or else by libvirt; NULL: the same */
};

static void backup_run_clear(struct backup_run *backup);

/* What QEMU, or else libvirt, says of a part. `error` may be NULL. */
static void backup_run_part_ended(struct backup_run *backup, const char *disk, enum backup_end end,
                           const char *error);

/* JOB_COMPLETED. */
static void backup_run_result(struct backup_run *backup, bool succeeded, const char *error);

/* After the result: how the whole ended. A pull backup ends when its client cancels it, which
 * libvirt calls a success, and so it is. *ret_error is malloc'ed, or NULL for a lack of memory;
 * only of a backup that failed. */
static enum backup_end backup_run_end(const struct backup_run *backup, char **ret_error);

enum { libvirt_backup_run__ERROR_MAX_LEN = 4096 }; /* QEMU's and libvirt's sentences are short */

static void backup_run_clear(struct backup_run *backup)
{
    free(backup->failed_disk);
    free(backup->reason);
    *backup = (struct backup_run){0};
}

static void note_reason(struct backup_run *backup, const char *error)
{
    if (!backup->reason && error)
        backup->reason = strndup(error, (size_t)text_fit(error, libvirt_backup_run__ERROR_MAX_LEN));
}

static void backup_run_part_ended(struct backup_run *backup, const char *disk, enum backup_end end,
                           const char *error)
{
    backup->was_cancelled |= end == BACKUP_CANCELLED;
    if (end != BACKUP_FAILED)
        return;
    if (!backup->has_failed)
        backup->failed_disk = strdup(disk);
    backup->has_failed = true;
    note_reason(backup, error);
}

static void backup_run_result(struct backup_run *backup, bool succeeded, const char *error)
{
    backup->result = succeeded ? BACKUP_SUCCEEDED : BACKUP_DID_NOT_SUCCEED;
    note_reason(backup, error);
}

static enum backup_end backup_run_end(const struct backup_run *backup, char **ret_error)
{
    const char *reason = backup->reason
                             ? backup->reason
                             : "libvirt says that the backup failed, and no reason: libvirt's log "
                               "or the guest's has it";
    *ret_error = NULL;
    if (backup->result == BACKUP_SUCCEEDED)
        return BACKUP_COMPLETED;
    if (!backup->has_failed && backup->was_cancelled)
        return BACKUP_CANCELLED;
    if (!backup->failed_disk)
        *ret_error = strdup(reason);
    else if (asprintf(ret_error, "%s: %s", backup->failed_disk, reason) < 0)
        *ret_error = NULL;
    return BACKUP_FAILED;
}
/* ---- core/libvirt/calls.c ---- */

/*
 * The calls of libvirt; see calls.h.
 */
/* ---- core/libvirt/calls.h ---- */

/*
 * The calls of libvirt that a driver makes on a domain. Each may block for long: threads of the
 * pool only. Never virDomainQemuMonitorCommand(): it taints the domain.
 */

/* ---- core/libvirt/disks.h ---- */

/*
 * A domain's disks, out of its XML: by which names each goes (B69), and what libvirt says there of
 * the job on it. No I/O; any thread.
 */

struct disk {
    char *target;      /* "vda" */
    char *alias;       /* libvirt names the job of a migration by it, and no other; NULL: none is */
    char *source;      /* the path of a file or a device, the name of a network disk; NULL: none */
    bool has_mirror;   /* a copy or an active commit is at work */
    bool mirror_ready; /* and was ready once (B27): libvirt takes a pivot, or has taken it */
    bool is_ending;    /* libvirt has taken a pivot or an abort of it */
    char *mirror;      /* where it goes to, as `source`; NULL: not given */
    bool is_commit;    /* it is an active commit */
    bool is_backed_up; /* by a backup that does not say of which disks it is */
};

struct disks {
    size_t count;
    struct disk *disks;
    char *backup; /* the list of those that the running backup is of; NULL: none */
};

/* BJ_OK; BJ_E_NOMEM; BJ_E_PROTOCOL: it is not a domain's XML. Nothing to clear then. */
static int disks_parse(const char *xml, struct disks *ret);
static void disks_clear(struct disks *disks);

/* By target, or by the path of its source. NULL: none. */
static const struct disk *disks_find(const struct disks *disks, const char *name);

/* The targets of the disks that a <domainbackup> is of, as libvirt reads it, a newline after each;
 * malloc'ed. BJ_OK; BJ_E_NOMEM; BJ_E_PROTOCOL: it is no such XML. */
static int disks_in_backup(const struct disks *disks, const char *xml, char **ret);
/* NULL is an empty list. */
static bool disks_list_has(const char *list, const char *target);

/* ---- core/libvirt/start_calls.h ---- */

/*
 * The commands that start a domain's jobs, as JSON, and the calls of libvirt that they are.
 *
 *   block-commit, block-stream, blockdev-mirror, blockdev-backup: the usual jobs of blockjob.h
 *   backup: a backup of several disks, with its options
 *   virDomainBlockCopy, virDomainBlockCommit, virDomainBlockPull, virDomainBlockRebase,
 *   virDomainBackupBegin: libvirt's own words
 *
 * A "bandwidth", of the usual jobs also "speed" as QEMU has it, is in bytes a second, "flags" are
 * words without VIR_DOMAIN_..., and the "disk" of virDomainBackupBegin must be one of those that
 * the backup is of.
 */

struct start;

static bool start_is_known(const char *command);

/* What is wrong with the arguments is said here, before libvirt is asked: an unknown member, a
 * member of the wrong type, a flag that there is not. BJ_OK; BJ_E_INVAL or BJ_E_UNSUPPORTED with a
 * sentence in *ret_text; BJ_E_NOMEM. A member that is null is as if it were not there. Any thread.
 */
static int start_parse(const char *command, const json_t *arguments, struct start **ret,
                struct text **ret_text);
static void start_free(struct start *start); /* takes NULL */

/* As given: a target or a path. NULL: a backup that does not name one. */
static const char *start_disk(const struct start *start);
static const char *start_type(const struct start *start); /* QEMU's word; "" if it is unknown */
static bool start_is_backup(const struct start *start);
/* Of a backup that was prepared: see disks_in_backup(). NULL: it is none, or was not. */
static const char *start_disks(const struct start *start);

/* What is wrong with it for a domain of these disks; once, before start_call(). As start_parse().
 */
static int start_prepare(struct start *start, const struct disks *disks, struct text **ret_text);

/* Blocks: a thread of the pool. 0; -1, and virGetLastError() says why; BJ_E_NOMEM. `target` is the
 * disk's. */
static int start_call(const struct start *start, virDomainPtr domain, const char *target);

/* ---- core/libvirt/verdict.h ---- */

/*
 * What it means that libvirt has refused a verb: told from the error's code, and from what libvirt
 * knew of the disk afterwards. Never from a sentence, which may be in any language.
 *
 * Pure: no I/O, no libvirt. Any thread.
 */

/* ---- core/src/model/words.h ---- */

/*
 * The words that all layers share: what a job's status is, which verbs there are, what a job list
 * says of a job and what QEMU answers to a verb.
 */

enum status {
    STATUS_NONE, /* not reported, or one we don't know (B49) */
    STATUS_CREATED,
    STATUS_RUNNING,
    STATUS_PAUSED,
    STATUS_READY,
    STATUS_STANDBY,
    STATUS_WAITING,
    STATUS_PENDING,
    STATUS_ABORTING,
    STATUS_CONCLUDED,
    STATUS_NULL
};
#define STATUS_COUNT (STATUS_NULL + 1)

const char *job_status_name(enum status status);
enum status job_status_of(const char *name);

/* The first four are sent once for all who want them; see struct sent in machine.h. */
enum verb {
    VERB_COMPLETE,
    VERB_CANCEL,
    VERB_FORCE,
    VERB_DISMISS,
    VERB_PAUSE,
    VERB_RESUME,
    VERB_SET_SPEED,
    VERB_CHANGE,
    VERB_FINALIZE
};
#define VERB_COUNT (VERB_FINALIZE + 1)

/* What QEMU, or libvirt, made of a verb. */
enum verdict {
    VERDICT_REFUSED,
    VERDICT_NO_SUCH_JOB, /* refused because it knows no such job */
    VERDICT_ENDING,      /* refused because another client is ending the job */
    VERDICT_ACCEPTED
};

/* QEMU's reply to a verb. */
struct verb_reply {
    bool for_all; /* to what the machine sent for all, not for one waiter */
    enum verdict verdict;
    int error; /* bj_error, unless it was accepted */
    const char *error_class;
    const char *text;
};

/* Why a connection takes no verb at all. */
struct denial {
    const char *error_class;
    const char *text; /* with the remedy */
};

/* What an event says of a job. */
enum fact_kind {
    FACT_STATUS,
    FACT_READY,
    FACT_COMPLETED,
    FACT_CANCELLED,
    FACT_STOPPED,
    FACT_PENDING,
    FACT_IO_ERROR /* that did not stop it: no machine is fed it, as it changes nothing (B12) */
};

struct fact {
    enum fact_kind kind;
    const char *id;
    const char *type;   /* "" if not reported */
    bool earlier;       /* of a run before the one whose start is under way */
    enum status status; /* FACT_STATUS */
    const char *error;  /* FACT_COMPLETED: NULL if none; FACT_STOPPED: the reason */
    bool writing;       /* FACT_IO_ERROR */
    int64_t timestamp_us;
};

/* What a job list says of a job. */
struct row {
    enum status status;
    bool ready;
    bool paused;
    bool hides_pause;       /* the list does not report whether it is paused */
    bool io_error;          /* io-status is not ok, and it is paused */
    bool no_space;          /* and that is why */
    const char *error;      /* of a concluded job; NULL if none */
    bool cancelled;         /* and that error is that it was cancelled (B21) */
    int64_t current, total; /* how far it is; -1 if not reported */
};

/* Whether the disk was switched to the mirror's target, or to the commit's base. */
enum disk_switch {
    SWITCH_UNKNOWN, /* nothing can show it: nobody uses the disk, or it can't be looked at */
    SWITCH_UNCLEAR, /* the disk had users, and what they use now shows neither */
    SWITCHED,
    NOT_SWITCHED,
    SWITCHES_NOTHING /* the job has nothing to switch to: an intermediate commit */
};

/* virErrorNumber, by its numbers; calls.c asserts that they are the same. */
enum verdict_code { VERDICT_CODE_INVALID_ARG = 8, VERDICT_CODE_OPERATION_INVALID = 55 };

enum verdict_verb { JUDGE_PIVOT, JUDGE_ABORT, JUDGE_SPEED };

/* What libvirt said of the disk after it had refused, in this order: its XML shows a mirror on its
 * way out in more than one state, but it tells of jobs only when it has dealt with an end. */
struct aftermath {
    bool is_known;  /* it could be asked */
    bool is_ending; /* the disk's mirror, by the XML */
    bool has_job;
};

/* The aftermath is only needed where this says so. */
static bool verdict_needs_aftermath(enum verdict_verb verb, int code);
static enum verdict verdict_of(enum verdict_verb verb, int code, const struct aftermath *after);

/* Why a call failed. `code` is libvirt's, 0 for a lack of memory. */
struct call_error {
    int code;
    char *message; /* malloc'ed; NULL: no memory */
};

static void call_error_clear(struct call_error *error);

/* All answer whether it went well; *ret_error is only set where it did not. */

/* Whether a call has failed because the domain does not run any more: by the error's code and by
 * what libvirt says now, never by a sentence. libvirt can find that it can't talk to QEMU before it
 * knows that QEMU is gone: then it is asked again, for half a minute at most (B10), or until
 * `given_up`. */
static bool call_found_gone(virDomainPtr domain, const struct call_error *error,
                     const atomic_bool *given_up);

/* The run that a verb is for: as long as none of the flags is set, and the disk's mirror leads to
 * that target. */
struct call_run {
    const char *disk;
    const char *mirror;           /* NULL: not known */
    const atomic_bool *has_ended; /* it has */
    const atomic_bool *given_up;  /* nobody wants it any more */
};

/* The verb is not for what is on the disk now. */
static bool call_refuse_ended(struct call_error *ret_error);

/* libvirt can tell READY before it takes a pivot (error 83); then it is asked again, for a few
 * seconds at most (B64), as long as it is the same run. */
static bool call_pivot(virDomainPtr domain, const struct call_run *run, struct call_error *ret_error);
static bool call_abort(virDomainPtr domain, const char *disk, struct call_error *ret_error);
static bool call_set_speed(virDomainPtr domain, const char *disk, int64_t bytes_per_second,
                    struct call_error *ret_error);
/* What it means that one of these was refused. */
static enum verdict call_verdict(virDomainPtr domain, const char *disk, enum verdict_verb verb,
                          const struct call_error *error);

/* The same of the backup. Where there is none libvirt's error is that of a disk without a job. The
 * speed is each disk's. */
static bool call_abort_backup(virDomainPtr domain, struct call_error *ret_error);
static bool call_set_backup_speed(virDomainPtr domain, int64_t bytes_per_second,
                           struct call_error *ret_error);
static bool call_start(virDomainPtr domain, const struct start *start, const char *disk,
                struct call_error *ret_error);

/* When this returns, the connection has received all events of what had happened before. */
static void call_sync(virDomainPtr domain);

static bool call_disks(virDomainPtr domain, struct disks *ret, struct call_error *ret_error);
/* The jobs on those disks; and which of them the backup is of, if one runs. */
static bool call_rows(virDomainPtr domain, struct disks *disks, struct job_list **ret,
               struct call_error *ret_error);

/* ---- core/libvirt/facts.h ---- */

/*
 * What libvirt and QEMU report of a domain's jobs, combined into the facts of the job machine.
 *
 * libvirt's BLOCK_JOB_2 says that a job is ready or over, and means it: what it says is also what
 * libvirt's own state is, so that a pivot after its READY is taken (B64). Why a job failed, and
 * whether a cancelled copy is worth something (B66), only QEMU's own events say, which come before
 * it, if the driver hands them on; without them what is known of the job decides.
 *
 * Pure: no I/O, no libvirt. The loop's thread.
 */

/* ---- core/src/driver/driver.h ---- */

/*
 * The seam between a monitor and what it speaks: verbs go down, facts come up. A driver lives on
 * the loop's thread and never blocks it.
 */

/* ---- core/src/driver/capabilities.h ---- */

/*
 * What the QEMU at hand can do and reports, as far as a caller of its driver has to know.
 */

struct capabilities {
    bool has_status;      /* statuses come as events (QEMU 3.0) */
    bool has_graph;       /* the block graph can be queried (QEMU 4.0) */
    bool has_dismiss;     /* jobs can be started so that they wait for it */
    bool has_ready_event; /* QEMU 1.3; not RHEL 6 */
    bool hides_pauses;    /* no event reports a pause (before 3.0) */
    bool has_bare_rows;   /* a list does not show whether a job is paused (libvirt) */
    bool is_silent;       /* there may be no event for a cancel (RHEL 6.2) */
    bool no_repeats;      /* a cancel must not be repeated (RHEL 6.3) */

    bool passes_descriptors;   /* a command can take descriptors along: a UNIX socket */
    bool offers_out_of_band;   /* commands can be executed out of band, if that is asked for */
    bool executes_out_of_band; /* and it was */

    /* The class of the errors that refuse a verb because there is no such job; never NULL. */
    const char *no_such_job_class;
    /* Where there is no complete for a run: what to do instead, a sentence; NULL: nothing. */
    const char *complete_hint;
    const struct denial *denial; /* this connection takes no verb; static; NULL: it does */
};

/* What a command that starts a job takes on this QEMU. */
enum driver_takes { TAKES_JOB_ID = 1, TAKES_AUTO_DISMISS = 2 };

/* ---- core/src/driver/start_plan.h ---- */

/*
 * How a run is started on the QEMU at hand: by which command, under which id, with what added to
 * the caller's arguments.
 */

/* The usual jobs are started by these names with every driver. */
#define START_MIRROR "blockdev-mirror"
#define START_COMMIT "block-commit"
#define START_STREAM "block-stream"
#define START_BACKUP "blockdev-backup"

struct start_plan {
    const char *command; /* or the name that this QEMU has for it */
    char *id;            /* "" if nothing says it */
    char *members;       /* for json_text_add_members(), before the caller's own; may be "" */
    char *device;        /* what it runs on; NULL: not known */
    char *disks; /* the domain's disks that it works on, a newline after each; NULL: the same */
    const char *type;      /* "" if QEMU will have to report it */
    bool ours;             /* dismissed by us once it is over (B40) */
    bool has_own_id;       /* the id was made up for it */
    bool kept;             /* the caller will dismiss it */
    bool replaces;         /* a second complete might end QEMU (B32) */
    struct text *run_data; /* the driver's own, for the verbs of this run; NULL: nothing */
};

static inline void start_plan_clear(struct start_plan *plan)
{
    free(plan->id);
    free(plan->members);
    free(plan->device);
    free(plan->disks);
    text_unref(plan->run_data);
}

/* ---- core/src/model/machine.h ---- */

/*
 * The truth about one run of one block job: a state machine without sockets, JSON or time. It is
 * fed facts and answers with effects; all rules of the contract are here, and what can be written
 * as data is in tables.h.
 *
 *   what is known        valid when
 *   -------------        ----------
 *   status               QEMU reports it (3.0 and later: events; else rows); STATUS_NONE before
 *   ready                once true, true forever (B27, B28)
 *   stall                the job is stalled, and someone has to act (B13)
 *   end                  the first terminal event that came; nothing after it changes it (B18)
 *   outcome              the end and the accepted verbs, put together; latched once
 *   released             QEMU has let go of the run
 *
 * End and outcome differ: a COMPLETED event may come before the reply that shows whether our
 * complete or our cancel was accepted (B02), and then the outcome waits for that reply.
 *
 * No port function may call back into the machine. One thread at a time.
 */

/* ---- core/src/model/tables.h ---- */

/*
 * What the job machine knows by heart, as data: what each status means, when QEMU takes a verb, how
 * a run has ended, what a question gets from a job that is over, and who is told that it is
 * stalled. docs/machine.md shows these tables; they are printed from here.
 *
 * In a list of rules the first whose conditions all hold applies; the last one needs none.
 */

/* ----------------------------------------------------------------- statuses */

enum status_trait {
    AT_WORK = 1 << 0, /* from created to standby */
    MOVES = 1 << 1,   /* it is not paused, or no longer */
    STILL = 1 << 2,   /* it is paused, or drained for a moment */
    SHOWS_READY = 1 << 3 /* only a job that is ready has it */,
    DONE = 1 << 4,  /* its work is done; it waits for its transaction or for finalize */
    CLOSED = 1 << 5 /* nothing changes how it ends */
};

bool status_has_any(enum status status, unsigned traits);

/* Whether QEMU takes a complete (of a job that is ready) or a cancel. */
enum taking { NOW, LATER, NEVER };
enum taking verb_taking(enum verb verb, enum status status);

/* --------------------------------------------------------------- conditions */

/* What is known of a run besides its status. The machine keeps the marks; the rest follows from
 * other fields, or is what the graph has just shown. */
enum condition {
    IS_READY = 1 << 0,      /* it was ready once, which stays true (B27, B28) */
    IS_PENDING = 1 << 1,    /* it waits for finalize (B42) */
    WAS_DONE = 1 << 2,      /* it was waiting or pending */
    WAS_ABORTING = 1 << 3,  /* it was aborting */
    IS_RELEASED = 1 << 4,   /* QEMU has let go of it */
    END_ASSUMED = 1 << 5,   /* this QEMU has no event for such an end (B57) */
    IS_AWAY = 1 << 6,       /* the connection ended and is being made again: nothing is sent */
    HAS_GAP = 1 << 7,       /* events were missed, and no list has shown it at work since */
    HEARD_EVENT = 1 << 8,   /* an event came since: it is newer than the list we asked for */
    CHECKING_GONE = 1 << 9, /* a verb met "no such job", and a list is to decide */
    COMPARING = 1 << 10,    /* the block graph is being compared */
    IS_DOUBTED = 1 << 11,   /* a list is to show whether QEMU took complete before a cut */
    TIMER_RUNS = 1 << 12,
    FOUND_DONE = 1 << 13,     /* the first that was seen of it is that its work is done */
    ENDED_HERE = 1 << 14,     /* its end was heard on this connection */
    CHECKING_STALL = 1 << 15, /* a list is to show whether it still is stalled */

    NEVER_SWITCHES = 1 << 16,  /* neither a mirror nor ever ready: the disk stays as it is */
    COMPLETE_TAKEN = 1 << 17,  /* QEMU accepted our complete */
    ABORT_TAKEN = 1 << 18,     /* QEMU accepted our cancel, soft or force */
    ONLY_ABORT_SENT = 1 << 19, /* the same, and complete was never sent */
    REPLY_OUT = 1 << 20,       /* a complete or a cancel has no reply yet */
    NO_CANCEL_EVENT = 1 << 21, /* this QEMU reports no cancellation (RHEL 6) */
    IS_UNCLEAR = 1 << 22,      /* it completed, and whether the disk was switched is unknown */

    SAW_SWITCH = 1 << 24,    /* the block graph shows that the disk was switched */
    SAW_NO_SWITCH = 1 << 25, /* it shows that the disk was not */
    SAW_NO_TARGET = 1 << 26, /* it shows an intermediate commit */
    SAW_NEITHER = 1 << 27,   /* the disk had users, and what they use now shows neither */
    CANNOT_COMPARE = 1 << 28 /* nobody can look any more, or nobody used the disk */
};

/* --------------------------------------------------------------------- ends */

enum end { END_NONE, END_COMPLETED, END_CANCELLED, END_FAILED };

/* Which outcome the first terminal event leads to. */
struct outcome_rule {
    enum end end;
    unsigned when; /* conditions, all of which hold */
    enum { DECIDED, WAIT_FOR_REPLY, COMPARE_GRAPH } then;
    bj_outcome outcome; /* DECIDED */
    bool unknown;       /* whether the disk was switched is unknown; the text says why */
};
extern const struct outcome_rule outcome_rules[];
extern const size_t outcome_rule_count;
const struct outcome_rule *outcome_rule(enum end end, unsigned conditions);

/* How a run that is gone without a terminal event has ended. */
enum vanishing {
    VANISHED_NULL,     /* its status became null */
    VANISHED_UNLISTED, /* a job list does not have it */
    VANISHED_AWAY      /* nor does the first list of a new connection */
};
struct vanishing_rule {
    enum vanishing how;
    unsigned when;
    enum end end;     /* END_NONE: LOST */
    const char *text; /* why it is LOST or FAILED */
};
extern const struct vanishing_rule vanishing_rules[];
extern const size_t vanishing_rule_count;
const struct vanishing_rule *vanishing_rule(enum vanishing how, unsigned conditions);

/* ---------------------------------------------------------------- questions */

enum question {
    ASK_READY,
    ASK_DONE,
    ASK_RELEASED,
    ASK_PIVOT,
    ASK_ABORT,
    ASK_FINISH, /* pivot what becomes ready; the rest just ends */
    ASK_VERB    /* pause, resume, ..., dismiss: a request of its own each */
};
#define QUESTION_COUNT (ASK_VERB + 1)

/* What a question gets once the run has its outcome; BJ_E_JOB_LOST stands for why it was lost. */
int answer_when_over(enum question question, bj_outcome outcome);

/* Of its flags, those that say when a question is answered if all goes well: as soon as QEMU has
 * accepted its verb, or only when QEMU has also let go of the job's nodes; 0: it has none. */
int async_flag(enum question question);
int released_flag(enum question question);

enum stall {
    STALL_NONE,
    STALL_PAUSED, /* by us, or by someone else */
    STALL_ERROR,  /* on-error=stop or enospc */
    STALL_PENDING /* no stall of the job: it waits for finalize, as IS_PENDING says */
};

/* Whether a question is answered STALLED. An abort is a soft one that does not escalate. */
enum when_stalled {
    NEVER_STALLED,
    STALLED,
    UNLESS_ENDING,      /* not if an accepted abort will end the job */
    UNLESS_ABORTED,     /* not if an abort that ends it was sent */
    IF_CANCELLED_BEFORE /* if the soft cancel was accepted before it was pending */
};
enum when_stalled when_stalled(enum question question, enum stall stall);

/* -------------------------------------------------------------------- tests */

/* The explorer counts which rows are reached; the library is built without. */
#ifdef COUNT_ROWS
enum table { VERB_TABLE, OUTCOME_TABLE, VANISHING_TABLE, ANSWER_TABLE, STALL_TABLE, TABLE_COUNT };
#define ROWS_MAX 64
extern unsigned long rows_reached[TABLE_COUNT][ROWS_MAX];
#define REACHED(table, row) (rows_reached[table][row]++)
#else
#define REACHED(table, row) ((void)0)
#endif

/* Someone who waits. Belongs to the caller; in the machine's list from machine_ask() until it is
 * answered or machine_leave(). */
struct waiter {
    struct waiter *prev, *next;
    enum question question;
    int flags;              /* bj_pivot_flags, bj_abort_flags or bj_finish_flags */
    int64_t force_after_ms; /* soft abort: then its owner calls machine_escalate(); 0: never */
    bool held;              /* pivot: not to be sent before machine_unhold() */
    enum verb verb;         /* ASK_VERB */
    int64_t speed;          /* VERB_SET_SPEED */
    const char *options;    /* VERB_CHANGE: a JSON object, the caller's */
};

struct answer {
    int error;               /* bj_error */
    int cause;               /* BJ_E_JOB_LOST: what ended the connection, if that is why */
    const char *error_class; /* BJ_E_REFUSED: QEMU's; else NULL */
    const char *text; /* why, without the job's name; NULL: the error and the outcome say it all */
};

/* What every observer is to learn. */
enum report {
    REPORT_STATUS,
    REPORT_READY,
    REPORT_STALLED,
    REPORT_RESUMED,
    REPORT_ENDED,
    REPORT_RELEASED /* nothing more can come of this run */
};

/* Why a job has stopped that a list shows to have no space left for what it writes. */
extern const char machine_no_space_text[];

struct machine;

/* The effects: what the machine wants done. */
struct machine_port {
    /* Write the verb; `waiter` is its only asker, or NULL when it is for all. Then machine_reply().
     */
    void (*send)(struct machine *m, enum verb verb, struct waiter *waiter);
    /* Ask QEMU for the job list; then machine_row() or machine_absent(). */
    void (*list_jobs)(struct machine *m);
    /* Compare the block graph: was the disk switched? Then machine_compared() (B15). */
    void (*compare_graph)(struct machine *m);
    /* Then machine_tick(); ms 0 stops it. For what may pass by itself: a job that is still for an
     * unknown reason, or concluded and not dismissed; a complete that QEMU may have taken or not,
     * or has refused because another client ends the job. */
    void (*set_timer)(struct machine *m, int64_t ms);
    /* The waiter is out of the list before this is called. */
    void (*answer)(struct machine *m, struct waiter *waiter, const struct answer *answer);
    void (*report)(struct machine *m, enum report report, const char *text);
};

struct machine_traits {
    bool never_ready; /* stream, backup, ...: ready will never come (B09) */
    bool switches;    /* a mirror: COMPLETED alone does not say how it ended */
    bool is_commit;   /* it switches if it is of the active layer, as READY or the graph shows */
    bool has_graph;   /* this QEMU's graph shows which layer that is */
    bool ours;        /* started here with auto-dismiss off: dismissed by us (B40) */
    bool undecided;   /* our start that may be its has no reply yet; see machine_decide_owner() */
    bool kept;        /* somebody else's, with auto-dismiss off: it stays after its end */
    bool has_status;  /* this QEMU reports statuses by events */
    bool silent;     /* it has no event for a cancel: a job that is gone was cancelled (B57, B58) */
    bool no_repeats; /* a cancel that is sent twice does harm there (RHEL 6.3, B59) */
    bool replaces;   /* a complete that is sent twice ends QEMU (B32) */
    int64_t stall_ms;              /* how long a job is still before it counts as stalled */
    const char *no_such_job_class; /* of the error that says so */
    const struct denial *denial;   /* no verb is taken, and ready need not be waited for to say so;
                                      static; NULL: they are */
};

/* A verb that is sent once for all who want it (B32): the waiters say who does. */
enum sent_state {
    NOT_SENT,
    IN_FLIGHT,
    UNSURE, /* the connection ended before the reply: taken or not */
    ACCEPTED
};
/* After a refusal that may be due to another client, who is ending the job. */
enum delay {
    NO_DELAY,
    THEN_REFUSED, /* if it has not ended until then, that is the answer */
    THEN_SENT     /* it is sent again then */
};
struct sent {
    enum sent_state state;
    unsigned raw;    /* sent by the program itself as raw commands, not answered yet */
    unsigned times;  /* complete: how often a standstill excused a refusal; dismiss: was sent */
    bool stood;      /* complete: the job was still since it was sent (5.2 refuses it there) */
    bool was_unsure; /* complete: its reply was lost once */
    bool refused;    /* cancel: and not asked for again since */
    bool in_pending; /* cancel: the job was pending when it was sent */
    bool is_checked; /* it met "no such job": a list shows whether there is one */
    enum delay delay;
};
#define SHARED_VERBS (VERB_FORCE + 1) /* complete and the two cancels */

struct machine {
    const struct machine_port *port;
    struct machine_traits traits;

    unsigned marks; /* enum condition */
    enum status status;
    enum stall stall;
    enum end end;
    bj_outcome outcome;
    int lost_error; /* BJ_E_JOB_LOST or BJ_E_CLOSED once the outcome is LOST */
    int lost_cause; /* of a BJ_E_JOB_LOST: what ended the connection; BJ_OK: something else */
    struct text
        *text; /* why it FAILED, was LOST, or why a switch is unknown; also a stall's reason */

    struct sent sent[VERB_DISMISS + 1];
    struct text *refusal, *refusal_class; /* THEN_REFUSED: QEMU's words */
    struct {
        bool resuming; /* a resume was sent, and no stop came since */
        bool pausing;  /* a pause was sent, and nothing ended it since */
        bool stood;    /* the job was still since */
        int rows;      /* in a row, where no event reports a pause; < 0: rows that are not paused */
    } pause;

    struct waiter *waiters;
    size_t pivots, held_pivots, soft_aborts, force_aborts; /* of them; a finish is a pivot */
};

void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits);
void machine_clear(struct machine *m); /* nobody waits any more */

/* -------------------------------------------------------------------- state */

static inline const struct machine_traits *machine_traits(const struct machine *m)
{
    return &m->traits;
}

/* To complete what was known of the job when it began. */
static inline struct machine_traits *machine_learn(struct machine *m)
{
    return &m->traits;
}

static inline bool machine_is(const struct machine *m, enum condition mark)
{
    return (m->marks & mark) != 0;
}

/* BJ_OUTCOME_NONE until it is over. */
static inline bj_outcome machine_outcome(const struct machine *m)
{
    return m->outcome;
}

static inline bool machine_is_over(const struct machine *m)
{
    return m->outcome != BJ_OUTCOME_NONE;
}

/* Its terminal event came; the outcome may still depend on a reply or the block graph. */
static inline bool machine_has_end(const struct machine *m)
{
    return m->end != END_NONE;
}

/* A complete or an abort was accepted, or it is going the way of one. */
static inline bool machine_is_told_to_end(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].state == ACCEPTED || m->sent[VERB_CANCEL].state == ACCEPTED ||
           m->sent[VERB_FORCE].state == ACCEPTED || m->status == STATUS_ABORTING;
}

/* No status was seen yet. */
static inline bool machine_is_fresh(const struct machine *m)
{
    return m->status == STATUS_NONE;
}

static inline bool machine_is_stalled(const struct machine *m)
{
    return m->stall != STALL_NONE;
}

/* Why it failed, was lost or is stalled; NULL: no reason. The machine's. */
static inline struct text *machine_text(const struct machine *m)
{
    return m->text;
}

/* BJ_OK, BJ_E_JOB_FAILED, or why it was lost. */
int machine_error(const struct machine *m);

/* What ended the connection, if it was lost by that; else BJ_OK. */
int machine_cause(const struct machine *m);

static inline bool machine_is_awaited(const struct machine *m)
{
    return m->waiters != NULL;
}

static inline bool machine_awaits_pivot(const struct machine *m)
{
    return m->pivots > 0 && !machine_is_over(m);
}

/* Someone waits for what a job that is paused does not do. */
static inline bool machine_awaits_movement(const struct machine *m)
{
    return m->pivots + m->held_pivots + m->soft_aborts + m->force_aborts > 0;
}

/* A pivot would be sent at once, or is under way. Can change with every fact. */
bool machine_can_pivot(const struct machine *m);

/* The block graph of now may one day show whether it switched the disk. */
static inline bool machine_may_switch(const struct machine *m)
{
    return !m->traits.never_ready && !machine_is_over(m) && !machine_has_end(m);
}

/* The graph of after its end shows whether it did, without a snapshot of before. */
static inline bool machine_needs_no_snapshot(const struct machine *m)
{
    return m->traits.is_commit && m->traits.has_graph;
}

/* It is over, and QEMU keeps it until we dismiss it. */
static inline bool machine_owes_dismissal(const struct machine *m)
{
    return m->traits.ours && machine_is_over(m) && !machine_is(m, IS_RELEASED) &&
           m->outcome != BJ_OUTCOME_LOST;
}

/* Differs where machine_memory() does: that is asked for with each event, and this is cheap. */
static inline unsigned machine_memory_key(const struct machine *m)
{
    const struct sent *sent = m->sent;
    unsigned raw =
        sent[VERB_COMPLETE].raw << 18 | sent[VERB_CANCEL].raw << 22 | sent[VERB_FORCE].raw << 26;
    unsigned states = sent[VERB_COMPLETE].state << 12 | sent[VERB_CANCEL].state << 14 |
                      sent[VERB_FORCE].state << 16;

    return (m->marks & (IS_READY | WAS_DONE | WAS_ABORTING)) | (unsigned)m->traits.ours << 8 |
           (unsigned)sent[VERB_COMPLETE].was_unsure << 9 | states | raw;
}

/* ------------------------------------------------------------------ callers */

/* Callers come and go. machine_ask() may answer at once (B04). */
void machine_ask(struct machine *m, struct waiter *waiter);
void machine_leave(struct machine *m, struct waiter *waiter);
void machine_escalate(struct machine *m, struct waiter *waiter); /* a soft abort becomes force */
void machine_unhold(struct machine *m, struct waiter *waiter);   /* a held pivot is wanted now */

/* -------------------------------------------------------------------- facts */

/* Every text is copied. */
void machine_status_event(struct machine *m, enum status status);
void machine_ready_event(struct machine *m);
void machine_completed_event(struct machine *m, const char *error); /* NULL: no error */
void machine_cancelled_event(struct machine *m);
void machine_stopped_event(struct machine *m,
                           const char *reason); /* BLOCK_JOB_ERROR, action stop (B12) */
void machine_pending_event(struct machine *m);  /* waits for finalize */

/* The reply to a verb. `waiter` as it was in send(): NULL if that was for all, or if it has left.
 */
void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply);

/* A verb that the program has sent by itself, as a raw command: on its way, answered. */
void machine_raw_sent(struct machine *m, enum verb verb);
void machine_raw_reply(struct machine *m, enum verb verb, bool accepted);

/* What a job list says. Never overrules an event (B28). */
void machine_row(struct machine *m, const struct row *row);
void machine_absent(struct machine *m);
void machine_list_failed(struct machine *m); /* it was not to be had */

void machine_compared(struct machine *m, enum disk_switch result);

void machine_tick(struct machine *m);

/* The connection has ended and is being made again; then one of the other two: QEMU lists the job,
 * or does not (B45, B46). */
void machine_disconnected(struct machine *m);
void machine_reconnected_listed(struct machine *m, const struct row *row);
void machine_reconnected_absent(struct machine *m);

/* What is to be remembered of it (enum memory_fact, without MEMORY_UNIQUE). */
unsigned machine_memory(const struct machine *m);
/* It begins with what is remembered of it, as after machine_disconnected(); then as there, or it
 * ended unseen. */
struct memory;
void machine_recall(struct machine *m, const struct memory *memory);
void machine_pivoted_unseen(struct machine *m);
void machine_cancelled_unseen(struct machine *m);
/* It turns out to be the run of that memory. */
void machine_adopt(struct machine *m, const struct memory *memory);

/* Until it is known whose it is, it is neither dismissed nor let go of before QEMU does. */
void machine_decide_owner(struct machine *m, bool ours);

/* Another run has its id: QEMU let go of it, and what has no reply yet has not reached it. */
void machine_superseded(struct machine *m);

/* No verb can be sent: those who wait for one are answered. */
void machine_drop_verbs(struct machine *m);

/* Everyone is answered, although it goes on: all that is left to do is to dismiss it. */
void machine_abandon(struct machine *m, int error, const char *reason);

/* No more facts will come: it was closed (BJ_E_CLOSED), it vanished (BJ_E_JOB_LOST), or the
 * connection is over, by any other error. */
void machine_lost(struct machine *m, int why, const char *reason);

struct descriptors;
struct job_list;
struct wire_tap;
struct json_t;
struct driver_legacy;
struct driver_snapshot; /* what used a job's disk when it was taken; the driver's */

/* Text in it is only valid during the call. */
struct driver_reply {
    int error; /* BJ_OK, or why not */
    /* The connection ended before the reply. That is no news of what was asked, nor of a job: they
     * hear of that end itself. */
    bool is_lost;
    enum verdict refusal;    /* a verb that was refused: VERDICT_REFUSED, or more precisely */
    const char *error_class; /* BJ_E_REFUSED */
    const char *text;
    const char *json; /* execute: the value, not terminated */
    size_t json_len;
    void *message;                    /* the whole, for the driver itself */
    struct job_list *list;            /* query; whoever keeps it sets this to NULL */
    struct driver_snapshot *snapshot; /* take_snapshot; the same; NULL: it does not show the job */
    enum disk_switch switched;        /* compare_snapshot */
};

/* A request to the driver; lies in the asker's memory. `done` is called exactly once for what
 * was taken, also when the connection ends; never from inside the call that asked. */
struct driver_request {
    void (*done)(struct driver_request *request, struct driver_reply *reply);
    struct driver_request *next; /* the driver's own */
    void *prepared;              /* the same; NULL: nothing */
};

/* As many descriptors as QEMU receives with one message. */
#define DRIVER_DESCRIPTORS_MAX 16

/* A command as the program gives it. What it asks for beyond its name and arguments needs a driver
 * whose capabilities have it. */
struct driver_command {
    const char *name;
    const char *arguments;           /* a JSON object; NULL: none */
    struct descriptors *descriptors; /* BJ_OK: the driver has taken them over; NULL: none */
    bool out_of_band;
};

/* A verb, and what the driver may need to know of the run it is for. */
struct driver_verb {
    enum verb verb;
    const char *id;
    const char *type;      /* "" if not known */
    struct text *run_data; /* start_plan's; NULL: none */
    int64_t speed;         /* VERB_SET_SPEED */
    const char *options;   /* VERB_CHANGE: a JSON object */
};

/* A run that was cancelled and of whose end this QEMU reports nothing. */
struct driver_end {
    struct text *id;
    const char *type;
    int64_t current, total, speed; /* of its last row */
};

/* Before `up` none of these but close and stage may be called. All that return int answer BJ_OK, or
 * why nothing was asked: BJ_E_BUSY, BJ_E_NOMEM, BJ_E_UNSUPPORTED, BJ_E_DISCONNECTED. */
struct driver;
struct driver_ops {
    int (*execute)(struct driver *driver, struct driver_request *request,
                   const struct driver_command *command);
    /* The command that starts the runs of `actions`, a JSON array as QEMU's transaction takes it,
     * all or none; `grouped`: they also end so. NULL: there is none. */
    int (*transaction)(struct driver *driver, struct driver_request *request, const char *actions,
                       bool grouped);
    int (*verb)(struct driver *driver, struct driver_request *request,
                const struct driver_verb *verb);
    /* Makes complete ready to be sent, so that READY has to wait for nothing. No memory: then it is
     * made when it is sent. Given back by verb() or unprepare(), which also outlives the driver. */
    void (*prepare)(struct driver *driver, struct driver_request *request, const char *id);
    void (*unprepare)(struct driver_request *request);
    /* `urgent`: for a machine, which needs it to tell an end; goes first and is never BJ_E_BUSY. */
    int (*query)(struct driver *driver, struct driver_request *request, bool urgent);
    /* Records what uses the job's disk; later, whether the disk was switched since. `device` is
     * what the job was started on, NULL if that is not known. BJ_E_UNSUPPORTED: there is no way to
     * know. `urgent`: someone waits for it; else it may yield to all other requests. `before` is
     * NULL if no snapshot was taken. */
    int (*take_snapshot)(struct driver *driver, struct driver_request *request, const char *id,
                         const char *device, bool urgent);
    int (*compare_snapshot)(struct driver *driver, struct driver_request *request, const char *id,
                            const struct driver_snapshot *before);
    void (*free_snapshot)(struct driver_snapshot *snapshot); /* takes NULL */
    /* Any thread: a reference, which free_snapshot() gives back; takes NULL. */
    struct driver_snapshot *(*hold_snapshot)(struct driver_snapshot *snapshot);
    /* Any thread: a snapshot as JSON, and back; NULL: no memory, or it is none. */
    struct json_t *(*write_snapshot)(const struct driver_snapshot *snapshot);
    struct driver_snapshot *(*read_snapshot)(const struct json_t *json);

    /* Takes back a request that was not written yet: true, and `done` is not called. */
    bool (*withdraw)(struct driver *driver, struct driver_request *request);
    bool (*has_command)(struct driver *driver, const char *command);
    /* Someone wants events, before whatever is asked for from now on. NULL: they come anyway. */
    void (*listen)(struct driver *driver);

    /* Whether the command is a job's verb; *ret_id is malloc'ed. NULL: none is. */
    bool (*is_verb)(struct driver *driver, const char *command, const char *arguments,
                    enum verb *ret_verb, char **ret_id);

    /* `arguments` is what the caller gives; where takes() is -1, after a probe. BJ_OK; then
     * start_plan_clear(). BJ_E_NOMEM: nothing to clear. */
    int (*plan_start)(struct driver *driver, const char *command, const struct json_t *arguments,
                      struct start_plan *ret);
    /* Makes up the event of such an end for those who watch events. QEMU's own, should it come
     * after all, is then neither a fact nor an event. NULL: this driver has no such ends. */
    void (*make_up_end)(struct driver *driver, const struct driver_end *end);
    /* The id of the job that callers know by this name; NULL: that name. Belongs to the driver,
     * until its next call. */
    const char *(*id_of)(struct driver *driver, const char *name);

    /* Finds out what the commands that start jobs take: once a connection, and only where the list
     * of commands does not tell. An error of the reply is one of the connection. */
    int (*probe)(struct driver *driver, struct driver_request *request);
    /* enum driver_takes; -1: not known before a probe. */
    int (*takes)(struct driver *driver, const char *command);

    /* What the driver of an earlier connection has left, before anything is asked of this one:
     * whether both speak to the same peer. Takes it over; NULL: there was none. NULL: only `peer`
     * tells. */
    bool (*inherit)(struct driver *driver, struct driver_legacy *legacy);

    /* Answers all requests but dismissals with `error`; none comes after. What was not written yet
     * is not sent any more. For a monitor that lingers. */
    void (*abandon)(struct driver *driver, int error, const char *text);
    /* Whether a command is on its way to QEMU, or its reply to us; then settled() comes. NULL: that
     * is no reason to linger. */
    bool (*is_owed)(struct driver *driver);

    /* Why connecting takes so long: the sentence of a deadline. */
    struct text *(*stage)(struct driver *driver, int64_t timeout_ms);

    /* Answers all requests with `error` and goes; no upcall comes from it or after it. */
    void (*close)(struct driver *driver, int error, const char *text);
};

/* What a driver knows of its peer and of the jobs there that no later list shows. */
struct driver_legacy {
    void (*free)(struct driver_legacy *legacy);
};

/* See struct identity; "" for what is not known. */
struct driver_identity {
    char boot[40];
    char process[80];
    char socket[144];
};

struct driver {
    const struct driver_ops *ops;

    /* Valid from `up` on. */
    struct capabilities capabilities;
    struct driver_identity identity;
    bool is_gone;                 /* from before `down` on: what it spoke to is no more */
    bool may_return;              /* the same, but someone may start it again, as another peer */
    bool is_absent;               /* before `up`: what it sought is not there, but may come */
    struct driver_legacy *legacy; /* during `down`, and whoever keeps it sets this to NULL */
    int64_t peer; /* the process that listens, or what else tells it; 0: not known */
};

/* Who is sought. */
struct driver_peer {
    const char *uri;
    const char *label; /* what texts call it */
    /* What the driver of an earlier connection has left, only to look at; NULL: there was none. */
    const struct driver_legacy *before;
    bool out_of_band; /* the program wants to execute commands so, where that is offered */
};

/* ------------------------------------------------------------------ upcalls */

/* Where the facts go; `user` is the one given at opening. */
struct driver_sink {
    /* Where the lines go, of a driver that has a wire. Asked for at opening. */
    struct wire_tap *(*tap)(void *user);

    void (*up)(void *user, struct text *version); /* of QEMU; NULL: not known */
    /* Before it: what the driver before spoke to is no more, and this one is connected to where it
     * can be started again, and waits for that. Takes over the reference to `why`. */
    void (*waits)(void *user, struct text *why);
    void (*fact)(void *user, const struct fact *fact);

    /* The row of this job is not left out of a list, however long that is. */
    bool (*wants_row)(void *user, const char *id);

    /* Every event, if someone wants them. `data` is JSON, not terminated; NULL: none. */
    bool (*wants_events)(void *user);
    void (*event)(void *user, const char *name, const char *data, size_t data_len,
                  int64_t timestamp_us);

    /* Nothing is_owed() any more; the driver is still reading. */
    void (*settled)(void *user);

    /* The connection is over, all requests have been answered, the driver is about to free itself.
     * Takes over the reference to `text`. */
    void (*down)(void *user, int error, struct text *text);
};

/* virConnectDomainEventBlockJobStatus and virDomainBlockJobType, by their numbers: facts.c checks
 * nothing of libvirt's headers, domain_events.c asserts that they are the same. */
enum facts_status { FACTS_COMPLETED = 0, FACTS_FAILED = 1, FACTS_CANCELED = 2, FACTS_READY = 3 };
enum facts_type {
    FACTS_PULL = 1,
    FACTS_COPY = 2,
    FACTS_COMMIT = 3,
    FACTS_ACTIVE_COMMIT = 4,
    FACTS_BACKUP = 5
};

/* QEMU's word: "stream", "mirror", "commit", "backup"; "" for others. */
static const char *facts_type_name(int type);

/* The type of a copy that libvirt makes for a migration with the disks' storage. To libvirt's
 * events it is FACTS_COPY, but it switches nothing on this host. */
#define FACTS_MIGRATION "migration"

/* The first libvirt that aborts a ready copy softly, so that its target stays whole. Those before
 * cancel it by force, which leaves a target that is not (C16). */
#define FACTS_FIRST_SOFT_ABORT 7003000UL

/* One a connection: what was missed between two of them is in none. */
struct facts;

/* `emit` is called from inside the functions below, and may call them. NULL: no memory. */
static struct facts *facts_new(void (*emit)(void *user, const struct fact *fact), void *user);
static void facts_free(struct facts *facts); /* takes NULL */

/* The version of the libvirt that handles the jobs, as virConnectGetLibVersion() has it; 0: not
 * known. Before anything is reported. */
static void facts_set_version(struct facts *facts, unsigned long version);

/* None of QEMU's events will come. Before anything is reported. */
static void facts_lack_qemu(struct facts *facts);

/* The alias of a disk, by which libvirt names a migration's job and no other
 * ("drive-virtio-disk0"); NULL: there is none. BJ_OK or BJ_E_NOMEM. */
static int facts_set_alias(struct facts *facts, const char *disk, const char *alias);

/* The id of the job that this BLOCK_JOB_2 is about to end; NULL: it ends none. */
static const char *facts_ended_id(const struct facts *facts, const char *disk, int type, int status);

/* BLOCK_JOB_2. BJ_OK or BJ_E_NOMEM. */
static int facts_block_job(struct facts *facts, const char *disk, int type, int status);

/* JOB_COMPLETED of a backup, which is one job under the id BACKUP_ID; see backup_run.h. `error` may
 * be NULL. BJ_OK or BJ_E_NOMEM. */
static int facts_backup_result(struct facts *facts, bool succeeded, const char *error);

/* An event of QEMU's: its name and its data (a JSON object; NULL: none). Only those of libvirt's
 * block jobs matter ("copy-vda-libvirt-2-format" is about vda, "backup-vda-libvirt-2-format" about
 * a part of the backup). BJ_OK or BJ_E_NOMEM. */
static int facts_qemu_event(struct facts *facts, const char *event, const char *data,
                     int64_t timestamp_us);

/* Here and below, `disk` is the job's id: a disk's target, or BACKUP_ID.
 *
 * Our own calls, before they are made; and how the start of a job went. What is reported while a
 * start is on its way is of a run before (the fact says `earlier`), unless QEMU has reported a new
 * one since. BJ_OK or BJ_E_NOMEM. */
static int facts_start_sent(struct facts *facts, const char *disk);
static void facts_start_over(struct facts *facts, const char *disk, bool accepted);
static void facts_pivot_sent(struct facts *facts, const char *disk);

/* The pivot that was sent at that facts_change_count() was refused, or was not sent after all. */
static void facts_pivot_refused(struct facts *facts, const char *disk, uint64_t change_count);

/* What a list said: there is a job on the disk, and maybe it is ready. Never takes back what an
 * event said. BJ_OK or BJ_E_NOMEM. */
static int facts_row(struct facts *facts, const char *disk, bool ready);

/* The same of a migration's copy. */
static int facts_migration_row(struct facts *facts, const char *disk);

/* A list lacks the job, and its end is not on its way either: the disk has been switched, so it was
 * completed. BJ_OK or BJ_E_NOMEM. */
static int facts_end_unseen(struct facts *facts, const char *disk, bool is_commit);

/* The same, and how it ended is not known. */
static void facts_forget(struct facts *facts, const char *disk);

/* How many times so far a job has begun or ended: a list that was asked for before the last may be
 * older than what is known here. */
static uint64_t facts_change_count(const struct facts *facts);
/* One has begun or ended on this disk since it was that. */
static bool facts_has_changed_since(const struct facts *facts, const char *disk, uint64_t change_count);

/* A job is known to be there and its end was not reported yet. */
static bool facts_is_active(const struct facts *facts, const char *disk);
static bool facts_is_ready(const struct facts *facts, const char *disk);
static bool facts_is_migration(const struct facts *facts, const char *disk);

/* libvirt has taken the start of one, and what is reported next is of the one before. */
static bool facts_owes_earlier_end(const struct facts *facts, const char *disk);

/* Of the last job on the disk that is over: whether the disk was switched. */
static enum disk_switch facts_switched(const struct facts *facts, const char *disk);

/* For how long, and how often, libvirt is asked again that is about to hear that a job is ready. */
#define PIVOT_PATIENCE_MS 5000
#define PIVOT_FIRST_PAUSE_MS 2
#define PIVOT_LONGEST_PAUSE_MS 100

/* For how long, and how often, libvirt is asked whether QEMU is gone that it can't talk to. */
#define GONE_PATIENCE_MS 30000
#define GONE_PAUSE_MS 20

/* Two, and as many for a daemon that only passes on what another one says. */
#define SYNC_CALLS 4

static bool libvirt_calls__failed(struct call_error *ret_error)
{
    const char *message = virGetLastErrorMessage();
    ret_error->code = virGetLastErrorCode();
    ret_error->message = message ? strdup(message) : NULL;
    return false;
}

static bool no_memory(struct call_error *ret_error)
{
    *ret_error = (struct call_error){0};
    return false;
}

static void call_error_clear(struct call_error *error)
{
    free(error->message);
    *error = (struct call_error){0};
}

/* ---------------------------------------------------------------------- verbs */

static void pause_for(int ms)
{
    const struct timespec pause = {.tv_nsec = (long)ms * 1000 * 1000};
    nanosleep(&pause, NULL);
}

static bool is_too_early(int result)
{
    return result < 0 && virGetLastErrorCode() == VIR_ERR_BLOCK_COPY_ACTIVE;
}

/* Those that libvirt has for what it can't talk to, and for much else. */
static bool may_be_about_monitor(int code)
{
    return code == VIR_ERR_INTERNAL_ERROR || code == VIR_ERR_SYSTEM_ERROR ||
           code == VIR_ERR_OPERATION_FAILED;
}

/* libvirt asks QEMU itself for these, whatever its disks and jobs are. */
static bool cannot_talk(virDomainPtr domain)
{
    virDomainBlockStatsStruct stats;
    return virDomainBlockStats(domain, "", &stats, sizeof stats) < 0 &&
           may_be_about_monitor(virGetLastErrorCode());
}

/* 1, 0; -1: not known. A transient domain is forgotten together with its QEMU. */
static int is_active(virDomainPtr domain)
{
    int active = virDomainIsActive(domain);
    return active < 0 && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? 0 : active;
}

static bool call_found_gone(virDomainPtr domain, const struct call_error *error,
                     const atomic_bool *given_up)
{
    int waited = 0;
    while (may_be_about_monitor(error->code) && waited < GONE_PATIENCE_MS &&
           !atomic_load(given_up) && cannot_talk(domain)) {
        pause_for(GONE_PAUSE_MS);
        waited += GONE_PAUSE_MS;
    }
    return error->code == VIR_ERR_NO_DOMAIN || is_active(domain) == 0;
}

static bool call_refuse_ended(struct call_error *ret_error)
{
    const char *message = "the job has ended, and what is on the disk now is another one";
    *ret_error = (struct call_error){.code = VIR_ERR_INVALID_ARG, .message = strdup(message)};
    return false;
}

static bool is_same_run(virDomainPtr domain, const struct call_run *run)
{
    struct call_error ignored = {0};
    struct disks disks = {0};

    if (atomic_load(run->has_ended))
        return false;
    if (!run->mirror)
        return true;
    call_disks(domain, &disks, &ignored);
    const struct disk *disk = disks_find(&disks, run->disk);
    bool is_same = disk && disk->mirror && strcmp(disk->mirror, run->mirror) == 0;
    call_error_clear(&ignored);
    disks_clear(&disks);
    return is_same;
}

static bool call_pivot(virDomainPtr domain, const struct call_run *run, struct call_error *ret_error)
{
    const unsigned flags = VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC;
    int pause = PIVOT_FIRST_PAUSE_MS;
    int waited = 0;

    int result = virDomainBlockJobAbort(domain, run->disk, flags);
    while (is_too_early(result) && waited < PIVOT_PATIENCE_MS && !atomic_load(run->given_up)) {
        pause_for(pause);
        waited += pause;
        pause = 2 * pause < PIVOT_LONGEST_PAUSE_MS ? 2 * pause : PIVOT_LONGEST_PAUSE_MS;
        if (!is_same_run(domain, run))
            return call_refuse_ended(ret_error);
        result = virDomainBlockJobAbort(domain, run->disk, flags);
    }
    return result == 0 ? true : libvirt_calls__failed(ret_error);
}

static bool call_abort(virDomainPtr domain, const char *disk, struct call_error *ret_error)
{
    int result = virDomainBlockJobAbort(domain, disk, VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC);
    return result == 0 ? true : libvirt_calls__failed(ret_error);
}

static bool call_set_speed(virDomainPtr domain, const char *disk, int64_t bytes_per_second,
                    struct call_error *ret_error)
{
    int result = virDomainBlockJobSetSpeed(domain, disk, (unsigned long)bytes_per_second,
                                           VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES);
    return result == 0 ? true : libvirt_calls__failed(ret_error);
}

_Static_assert((int)VERDICT_CODE_INVALID_ARG == VIR_ERR_INVALID_ARG &&
                   (int)VERDICT_CODE_OPERATION_INVALID == VIR_ERR_OPERATION_INVALID,
               "verdict.h has libvirt's numbers");

static struct aftermath look_at(virDomainPtr domain, const char *disk)
{
    virDomainBlockJobInfo info;
    struct call_error ignored = {0};
    struct disks disks = {0};
    struct aftermath after = {0};

    bool is_read = call_disks(domain, &disks, &ignored);
    const struct disk *found = disks_find(&disks, disk);
    int jobs = virDomainGetBlockJobInfo(domain, disk, &info, 0);
    after.is_known = is_read && jobs >= 0;
    after.is_ending = found && found->is_ending;
    after.has_job = jobs > 0;
    call_error_clear(&ignored);
    disks_clear(&disks);
    return after;
}

static enum verdict call_verdict(virDomainPtr domain, const char *disk, enum verdict_verb verb,
                          const struct call_error *error)
{
    struct aftermath after = {0};
    if (verdict_needs_aftermath(verb, error->code))
        after = look_at(domain, disk);
    return verdict_of(verb, error->code, &after);
}

static bool call_start(virDomainPtr domain, const struct start *start, const char *disk,
                struct call_error *ret_error)
{
    int result = start_call(start, domain, disk);
    if (result == BJ_E_NOMEM)
        return no_memory(ret_error);
    return result == 0 ? true : libvirt_calls__failed(ret_error);
}

/* ----------------------------------------------------------------------- lists */

/* libvirtd sends its events in one turn of its loop, in which it also reads requests: by the turn
 * in which it reads the second, those of before the first are on their way. */
static void call_sync(virDomainPtr domain)
{
    for (int i = 0; i < SYNC_CALLS; i++)
        virDomainIsActive(domain);
}

static bool parsed(int error, struct call_error *ret_error)
{
    if (error != BJ_E_PROTOCOL)
        return error == BJ_OK ? true : no_memory(ret_error);
    ret_error->code = VIR_ERR_XML_ERROR;
    ret_error->message = strdup("libvirt's description of the domain can't be read");
    return false;
}

static bool call_disks(virDomainPtr domain, struct disks *ret, struct call_error *ret_error)
{
    char *xml = virDomainGetXMLDesc(domain, 0);
    if (!xml)
        return libvirt_calls__failed(ret_error);
    int r = disks_parse(xml, ret);
    free(xml);
    return parsed(r, ret_error);
}

static void free_row(struct job_row *row)
{
    struct job_list list = {.count = 1, .rows = row};
    job_list_free_rows(&list);
}

/* Takes the row over, whose strings may be NULL for a lack of memory: then the answer is false. */
static bool add_row(struct job_list *list, struct job_row row)
{
    row.info.status = row.info.error = row.info.io_status = "";
    if (row.info.id && row.info.type && row.disks) {
        list->rows[list->count++] = row;
        return true;
    }
    free_row(&row);
    return false;
}

static bool add_disk_row(struct job_list *list, const struct disk *disk, const char *type,
                         const virDomainBlockJobInfo *info)
{
    char *line = NULL;
    if (asprintf(&line, "%s\n", disk->target) < 0)
        line = NULL;
    return add_row(list, (struct job_row){
                             .info.id = strdup(disk->target),
                             .info.type = *type ? strdup(type) : "",
                             .info.current = (int64_t)info->cur,
                             .info.total = (int64_t)info->end,
                             .info.speed = (int64_t)info->bandwidth,
                             .info.ready = disk->has_mirror && disk->mirror_ready,
                             .disks = line,
                         });
}

/* Jobs on the disk; < 0: an error. */
static int look_at_job(virDomainPtr domain, const char *disk, virDomainBlockJobInfo *ret)
{
    *ret = (virDomainBlockJobInfo){0};
    int found =
        virDomainGetBlockJobInfo(domain, disk, ret, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES);
    bool is_unplugged = found < 0 && virGetLastErrorCode() == VIR_ERR_INVALID_ARG;
    return is_unplugged ? 0 : found;
}

/* libvirt lists a migration's copy as it lists any other, and reports it so. But all others are in
 * the domain's XML for as long as they are listed. *disk is what the XML says now. */
static bool is_migration(const struct disk *disk, const virDomainBlockJobInfo *info)
{
    return info->type == FACTS_COPY && !disk->has_mirror;
}

/* What a part of the backup does is in the backup's own row. */
static bool libvirt_calls__is_part(const virDomainBlockJobInfo *info)
{
    return info->type == FACTS_BACKUP;
}

/* A copy may have begun since the XML was read: what is there now counts. */
static bool add_job_again(virDomainPtr domain, const char *target, struct job_list *list,
                          struct call_error *ret_error)
{
    struct disks now = {0};
    virDomainBlockJobInfo info;

    if (!call_disks(domain, &now, ret_error))
        return false;
    const struct disk *disk = disks_find(&now, target);
    int found = disk ? look_at_job(domain, target, &info) : 0;
    bool went_well = found >= 0 || libvirt_calls__failed(ret_error);
    if (found > 0 && !libvirt_calls__is_part(&info)) {
        bool migrates = is_migration(disk, &info);
        const char *type = migrates ? FACTS_MIGRATION : facts_type_name(info.type);
        went_well = add_disk_row(list, disk, type, &info) || no_memory(ret_error);
    }
    disks_clear(&now);
    return went_well;
}

static bool add_job(virDomainPtr domain, const struct disk *disk, struct job_list *list,
                    struct call_error *ret_error)
{
    virDomainBlockJobInfo info;
    int found = look_at_job(domain, disk->target, &info);
    if (found < 0)
        return libvirt_calls__failed(ret_error);
    if (found > 0 && is_migration(disk, &info))
        return add_job_again(domain, disk->target, list, ret_error);
    return found == 0 || libvirt_calls__is_part(&info) ||
           add_disk_row(list, disk, facts_type_name(info.type), &info) || no_memory(ret_error);
}

/* Where no job of the whole domain runs there is no backup: to ask for one is an error, which
 * libvirt prints on a connection of the program's. */
static bool may_have_backup(virDomainPtr domain)
{
    virDomainJobInfo info;
    return virDomainGetJobInfo(domain, &info) != 0 || info.type != VIR_DOMAIN_JOB_NONE;
}

/* *ret is NULL where none runs. */
static bool find_backup(virDomainPtr domain, const struct disks *disks, char **ret,
                        struct call_error *ret_error)
{
    *ret = NULL;
    if (!may_have_backup(domain))
        return true;
    char *xml = virDomainBackupGetXMLDesc(domain, 0);
    if (!xml) {
        int code = virGetLastErrorCode();
        bool is_none = code == VIR_ERR_NO_DOMAIN_BACKUP || code == VIR_ERR_NO_SUPPORT;
        return is_none ? true : libvirt_calls__failed(ret_error);
    }
    int r = disks_in_backup(disks, xml, ret);
    free(xml);
    return parsed(r, ret_error);
}

/* Of one that pulls libvirt counts nothing. */
static void read_progress(virDomainPtr domain, bj_job_info *info)
{
    virTypedParameterPtr parameters = NULL;
    unsigned long long current = 0;
    unsigned long long total = 0;
    int count = 0;
    int type;

    info->current = info->total = info->speed = -1;
    if (virDomainGetJobStats(domain, &type, &parameters, &count, 0) == 0 &&
        virTypedParamsGetULLong(parameters, count, VIR_DOMAIN_JOB_DISK_PROCESSED, &current) > 0 &&
        virTypedParamsGetULLong(parameters, count, VIR_DOMAIN_JOB_DISK_TOTAL, &total) > 0) {
        info->current = (int64_t)current;
        info->total = (int64_t)total;
    }
    virTypedParamsFree(parameters, count);
}

static bool add_backup_row(virDomainPtr domain, struct disks *disks, struct job_list *list,
                           struct call_error *ret_error)
{
    if (!find_backup(domain, disks, &disks->backup, ret_error))
        return false;
    if (!disks->backup)
        return true;
    struct job_row row = {
        .info.id = strdup(BACKUP_ID),
        .info.type = strdup(facts_type_name(FACTS_BACKUP)),
        .disks = strdup(disks->backup),
    };
    read_progress(domain, &row.info);
    return add_row(list, row) ? true : no_memory(ret_error);
}

static bool call_rows(virDomainPtr domain, struct disks *disks, struct job_list **ret,
               struct call_error *ret_error)
{
    struct job_list *list = calloc(1, sizeof *list);
    if (list)
        list->rows = calloc(disks->count + 1, sizeof *list->rows);
    bool went_well = (list && list->rows) || no_memory(ret_error);

    for (size_t i = 0; went_well && i < disks->count; i++)
        went_well = add_job(domain, &disks->disks[i], list, ret_error);
    went_well = went_well && add_backup_row(domain, disks, list, ret_error);
    if (went_well)
        *ret = list;
    else
        job_list_free(list);
    return went_well;
}

/* -------------------------------------------------------------------- the backup */

static bool no_backup(struct call_error *ret_error)
{
    ret_error->code = VIR_ERR_INVALID_ARG;
    ret_error->message = strdup("the domain has no backup");
    return false;
}

static bool lacks_backup(virDomainPtr domain)
{
    char *xml = virDomainBackupGetXMLDesc(domain, 0);
    free(xml);
    return !xml && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_BACKUP;
}

/* libvirt ends whatever job the domain has; and the backup may end meanwhile. */
static bool call_abort_backup(virDomainPtr domain, struct call_error *ret_error)
{
    if (lacks_backup(domain))
        return no_backup(ret_error);
    if (virDomainAbortJob(domain) == 0)
        return true;
    libvirt_calls__failed(ret_error);
    if (!lacks_backup(domain))
        return false;
    call_error_clear(ret_error);
    return no_backup(ret_error);
}

/* A part that is over has no speed. libvirt may not know yet that it is, and QEMU refuses. */
static bool part_may_be_over(int code)
{
    return code == VIR_ERR_INVALID_ARG || code == VIR_ERR_INTERNAL_ERROR;
}

/* One part that takes it is enough. */
static bool call_set_backup_speed(virDomainPtr domain, int64_t bytes_per_second,
                           struct call_error *ret_error)
{
    struct disks disks = {0};
    bool is_set = false;
    bool went_well = call_disks(domain, &disks, ret_error) &&
                     find_backup(domain, &disks, &disks.backup, ret_error);

    for (size_t i = 0; went_well && i < disks.count; i++) {
        if (!disks_list_has(disks.backup, disks.disks[i].target))
            continue;
        call_error_clear(ret_error);
        bool is_taken = call_set_speed(domain, disks.disks[i].target, bytes_per_second, ret_error);
        is_set |= is_taken;
        went_well = is_taken || part_may_be_over(ret_error->code);
    }
    disks_clear(&disks);
    if (!went_well || (!is_set && ret_error->code == VIR_ERR_INTERNAL_ERROR))
        return false;
    call_error_clear(ret_error);
    return is_set ? true : no_backup(ret_error);
}
#undef PIVOT_PATIENCE_MS
#undef PIVOT_FIRST_PAUSE_MS
#undef PIVOT_LONGEST_PAUSE_MS
#undef GONE_PATIENCE_MS
#undef GONE_PAUSE_MS
#undef SYNC_CALLS
/* ---- core/libvirt/connection.c ---- */

/*
 * Connections to libvirt; see connection.h.
 */
/* ---- core/libvirt/connection.h ---- */

/*
 * Connections to libvirt, and what libvirt tells on them.
 *
 * One of ours serves one domain: libvirtd works on five calls of a client at a time
 * (max_client_requests), so that domains which are stuck would delay others on the same connection
 * (B67); and only the domain that is first asked for on a connection has QEMU's own events sent, by
 * the filter in libvirtd. A connection of the program's serves all domains that it gives us: there
 * the events of all are asked for, once, and given to whom they are about. Those of jobs, which
 * with QEMU's own are many, only when someone needs them.
 */

/* Who wants to hear of a domain. The functions are called on threads of libvirt's, under a lock:
 * they may only post. Lies in its owner's memory, from joining to connection_leave(). */
struct connection_user {
    struct connection_user *next;
    unsigned char uuid[VIR_UUID_BUFLEN]; /* the domain's */
    bool hears_jobs;                     /* the first three are called */
    void (*block_job)(struct connection_user *user, const char *disk, int type, int status);
    void (*backup_result)(struct connection_user *user, bool succeeded, const char *error);
    void (*qemu_event)(struct connection_user *user, const char *name, const char *data,
                       long long seconds, unsigned micros);
    /* virDomainEventType, and its detail */
    void (*lifecycle)(struct connection_user *user, int event, int detail);
    void (*ended)(struct connection_user *user, int reason); /* virConnectCloseReason; once */
};

/* Which domain of a connection. */
struct domain_key {
    const char *name; /* or its UUID */
    bool is_uuid;     /* and nothing else */
};

struct connection;

/* These block: threads of the pool. NULL: *ret_why is libvirt's sentence, malloc'ed, or NULL for a
 * lack of memory. */

/* One of ours, which is taken over, for that domain. *ret_domain is the caller's; *ret_is_gone:
 * there is no such domain. */
static struct connection *connection_join(virConnectPtr handle, const struct domain_key *key,
                                   struct connection_user *user, virDomainPtr *ret_domain,
                                   bool *ret_is_gone, char **ret_why);
/* That of the program's domain; it is kept open while we use it. */
static struct connection *connection_join_theirs(virDomainPtr domain, struct connection_user *user,
                                          char **ret_why);
/* libvirt reports the events of jobs from here on, as it does on one of ours at once. False: as
 * above. After it connection_hands_on_qemu_events() is known, and connection_is_read_only(). */
static bool connection_listen_to_jobs(struct connection *connection, char **ret_why);
static void connection_leave(struct connection *connection, struct connection_user *user);

/* Any thread: this user hears of them. */
static void connection_hear_jobs(struct connection *connection, struct connection_user *user);

/* After each call of libvirt's on it: see service.h. */
static void connection_nudge(const struct connection *connection);

/* These block, too. libvirt never reads the program's connection but during a call, because it was
 * opened before there was a loop. */
static bool connection_is_deaf(const struct connection *connection, virDomainPtr domain);
static bool connection_is_alive(struct connection *connection);

/* Any thread; these ask nobody. */
static bool connection_is_read_only(const struct connection *connection);
/* False: the program itself listens for its end, and there can be only one who does:
 * connection_is_alive() is to be asked now and then. */
static bool connection_hands_on_qemu_events(const struct connection *connection);
static bool connection_reports_end(const struct connection *connection);

/* ---- core/libvirt/registration.h ---- */

/*
 * What libvirt holds of us: the opaque of a callback. It outlives its owner where it must, since
 * libvirt keeps a callback whose removal has failed, and may call the free function of one whose
 * registration has failed.
 */

struct registration;

/* Any thread. NULL: no memory. */
static struct registration *registration_new(void *owner);

/* A callback of libvirt's, with its opaque. The owner stays until registration_leave(); NULL, and
 * nothing to leave: it has gone. */
static void *registration_enter(struct registration *registration);
static void registration_leave(struct registration *registration);

/* A virFreeCallback. libvirt may hold locks of its own: only memory is freed. */
static void registration_freed(void *opaque);

/* What the owner knows about libvirt's reference when it lets go of its own. */
enum registration_state {
    REGISTRATION_KEPT,    /* libvirt has it, and will call the free function */
    REGISTRATION_GONE,    /* libvirt has it no more, or never had it */
    REGISTRATION_DOUBTFUL /* registering has failed: the free function is called soon, or never */
};

/* Any thread but in a callback of it: no callback has the owner from here on. Takes NULL. */
static void registration_drop(struct registration *registration, enum registration_state state);

/* ---- core/libvirt/service.h ---- */

/*
 * libvirt's event loop, of which a process has one: ours, on a thread of its own, where the program
 * has registered none (B68).
 *
 * A program that registers one before our first connection has its own: ours is not there then.
 * One that registers later comes too late: libvirt keeps the first, and says so in its log. Its
 * connections work, but their callbacks run on our thread; virEventRunDefaultImpl() returns after
 * each, so that a loop around it sees what they did. Nothing more can be done: libvirt tells nobody
 * of a later registration, and can't change.
 *
 * A child of fork() inherits the registration and gets a thread when it first needs one; what its
 * parent had registered is not watched there.
 */

/* Any thread; before a connection is opened. The first call registers our loop unless libvirt has
 * one by then; others find what the first has done. Once registered it serves the process to its
 * end, the program's own connections included. BJ_OK, BJ_E_NOMEM, BJ_E_SYSTEM. */
static int service_start(void);

/* A connection to a libvirtd that was opened before libvirt had a loop never hears an event, but
 * while a call of it is under way. `call` makes one, a few times at most: false if ours is the loop
 * and libvirt did not look after it meanwhile, as it does for connections that it listens to,
 * unless another thread keeps it busy. Blocks as `call` does. */
static bool service_watches_connection(void (*call)(void *user), void *user);

/* `passed` is called by libvirt's loop, once, when it has called back for all events that it had
 * when this was called, unless the process ends first. Any thread, after service_start(). False:
 * there is no loop, or no memory. */
static bool service_fence(void (*passed)(void *user), void *user);

/* A program's own loop may not notice what other threads do to it: libvirtaio's does not wake for a
 * timer, so that an event which libvirt has read during a call on another thread would wait there
 * for the next one. So each connection that we make calls on has a nudge, and wakes that loop after
 * each call, virConnectClose() included. */
struct nudge;

/* Any thread, after service_start(). NULL: the loop is ours and needs none, or it takes none. */
static struct nudge *nudge_new(void);
static void nudge_loop(struct nudge *nudge); /* any thread; takes NULL */
static void nudge_free(struct nudge *nudge); /* any thread, also when it is nudged last; takes NULL */

/* A host that does not answer for so long is given up; libvirt's own clients do the same. */
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

/* An event that libvirt reports. */
struct listening {
    int id; /* -1: it does not */
    struct registration *registration;
};

struct connection {
    virConnectPtr handle;
    struct nudge *nudge;
    struct registration *closing; /* NULL: libvirt does not report the end */
    struct listening lifecycle, block_job, job_completed, qemu_event;
    bool is_read_only; /* as was found out when it began to listen to jobs */

    pthread_mutex_t lock;
    struct connection_user *users;
    bool has_ended;
    int reason; /* why */

    /* The program's, under the lock of the list. */
    struct connection *next;
    bool is_listed;
    bool is_changing; /* it is being opened or closed, without the lock: wait */
    bool has_failed;
    bool listens_to_jobs;
    unsigned joined;
    char *error; /* why; NULL: no memory */
};

/* The connections of the program's that we use. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct connection *first;
} theirs = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void libvirt_connection__before_fork(void)
{
    pthread_mutex_lock(&theirs.lock);
}

static void libvirt_connection__after_fork(void)
{
    pthread_mutex_unlock(&theirs.lock);
}

/* What the parent uses, and what its threads were about to do, is the parent's. */
static void libvirt_connection__begin_child(void)
{
    theirs.first = NULL;
    pthread_cond_init(&theirs.changed, NULL); /* the parent's may have had waiters */
    libvirt_connection__after_fork();
}

static void init_theirs(void)
{
    pthread_atfork(libvirt_connection__before_fork, libvirt_connection__after_fork, libvirt_connection__begin_child);
}

/* ---------------------------------------------------------------------- memory */

static struct connection *connection_new(void)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    pthread_mutex_init(&connection->lock, NULL);
    connection->lifecycle.id = connection->block_job.id = connection->job_completed.id =
        connection->qemu_event.id = -1;
    return connection;
}

static void connection_free(struct connection *connection)
{
    pthread_mutex_destroy(&connection->lock);
    free(connection->error);
    free(connection);
}

static char *last_message(void)
{
    const char *message = virGetLastErrorMessage();
    return message ? strdup(message) : NULL;
}

/* ---------------------------------------------------------------------- events */

static bool is_about(const struct connection_user *user, virDomainPtr domain)
{
    unsigned char uuid[VIR_UUID_BUFLEN];
    return virDomainGetUUID(domain, uuid) == 0 && memcmp(uuid, user->uuid, sizeof uuid) == 0;
}

static bool hears_of(const struct connection_user *user, virDomainPtr domain)
{
    return user->hears_jobs && is_about(user, domain);
}

static struct connection *enter(void *registration)
{
    struct connection *connection = registration_enter(registration);
    if (connection)
        pthread_mutex_lock(&connection->lock);
    return connection;
}

static void leave(struct connection *connection, void *registration)
{
    if (!connection)
        return;
    pthread_mutex_unlock(&connection->lock);
    registration_leave(registration);
}

static struct connection_user *users_of(struct connection *connection)
{
    return connection ? connection->users : NULL;
}

static void libvirt_connection__on_block_job(virConnectPtr handle, virDomainPtr domain, const char *disk, int type,
                         int status, void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (hears_of(user, domain))
            user->block_job(user, disk, type, status);
    leave(connection, opaque);
}

static void on_job_completed(virConnectPtr handle, virDomainPtr domain,
                             virTypedParameterPtr parameters, int count, void *opaque)
{
    int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
    int succeeded = 0;
    const char *error = NULL;

    (void)handle;
    virTypedParamsGetInt(parameters, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsGetBoolean(parameters, count, VIR_DOMAIN_JOB_SUCCESS, &succeeded);
    virTypedParamsGetString(parameters, count, VIR_DOMAIN_JOB_ERRMSG, &error);
    if (operation != VIR_DOMAIN_JOB_OPERATION_BACKUP)
        return;

    struct connection *connection = enter(opaque);
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (hears_of(user, domain))
            user->backup_result(user, succeeded != 0, error);
    leave(connection, opaque);
}

static int libvirt_connection__on_lifecycle(virConnectPtr handle, virDomainPtr domain, int event, int detail,
                        void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (is_about(user, domain))
            user->lifecycle(user, event, detail);
    leave(connection, opaque);
    return 0;
}

static void libvirt_connection__on_qemu_event(virConnectPtr handle, virDomainPtr domain, const char *event,
                          long long seconds, unsigned micros, const char *details, void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (hears_of(user, domain))
            user->qemu_event(user, event, details, seconds, micros);
    leave(connection, opaque);
}

/* The lock is held. */
static void libvirt_connection__note_end(struct connection *connection, int reason)
{
    connection->has_ended = true;
    connection->reason = reason;
    for (struct connection_user *user = connection->users; user; user = user->next)
        user->ended(user, reason);
}

static void on_closed(virConnectPtr handle, int reason, void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    if (connection)
        libvirt_connection__note_end(connection, reason);
    leave(connection, opaque);
}

/* ---------------------------------------------------------------- registrations */

/* What libvirt answered when it was asked to report an event: an id, or -1. */
static void libvirt_connection__begin(struct listening *listening, struct registration *registration, int id)
{
    if (id < 0)
        registration_drop(registration, REGISTRATION_DOUBTFUL);
    else
        *listening = (struct listening){.id = id, .registration = registration};
}

/* False: *ret_why is libvirt's sentence, or NULL for a lack of memory. */
static bool libvirt_connection__listen(struct connection *connection, struct listening *listening, virDomainPtr filter,
                   int event, virConnectDomainEventGenericCallback fn, char **ret_why)
{
    struct registration *registration = registration_new(connection);
    if (!registration)
        return false;
    int id = virConnectDomainEventRegisterAny(connection->handle, filter, event, fn, registration,
                                              registration_freed);
    if (id < 0)
        *ret_why = last_message();
    libvirt_connection__begin(listening, registration, id);
    return id >= 0;
}

/* Not every driver hands QEMU's events on, nor to everyone: then libvirt's own must do. */
static bool listen_to_qemu(struct connection *connection, virDomainPtr filter)
{
    struct registration *registration = registration_new(connection);
    if (!registration)
        return false;
    int id = virConnectDomainQemuMonitorEventRegister(
        connection->handle, filter, NULL, libvirt_connection__on_qemu_event, registration, registration_freed, 0);
    connection->is_read_only = id < 0 && virGetLastErrorCode() == VIR_ERR_OPERATION_DENIED;
    libvirt_connection__begin(&connection->qemu_event, registration, id);
    return true;
}

/* Not where the program itself waits for the end: there can be only one who does. */
static bool listen_to_end(struct connection *connection)
{
    struct registration *registration = registration_new(connection);
    if (!registration)
        return false;
    if (virConnectRegisterCloseCallback(connection->handle, on_closed, registration,
                                        registration_freed) == 0)
        connection->closing = registration;
    else
        registration_drop(registration, REGISTRATION_GONE);
    return true;
}

/* `filter`: only that domain's; NULL: all. False: *ret_why as above. */
static bool register_life(struct connection *connection, virDomainPtr filter, char **ret_why)
{
    return listen_to_end(connection) &&
           libvirt_connection__listen(connection, &connection->lifecycle, filter, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                  VIR_DOMAIN_EVENT_CALLBACK(libvirt_connection__on_lifecycle), ret_why);
}

static bool register_jobs(struct connection *connection, virDomainPtr filter, char **ret_why)
{
    return listen_to_qemu(connection, filter) &&
           libvirt_connection__listen(connection, &connection->block_job, filter, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                  VIR_DOMAIN_EVENT_CALLBACK(libvirt_connection__on_block_job), ret_why) &&
           libvirt_connection__listen(connection, &connection->job_completed, filter, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
                  VIR_DOMAIN_EVENT_CALLBACK(on_job_completed), ret_why);
}

static bool has_ended(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    bool ended = connection->has_ended;
    pthread_mutex_unlock(&connection->lock);
    return ended;
}

/* The removal is a call to libvirtd, too; libvirt frees what it holds also where that fails. It
 * must be made even when the connection has ended, and libvirt prints that: each holds the
 * connection. */
static void stop_listening(struct connection *connection, struct listening *listening,
                           int (*deregister)(virConnectPtr handle, int id))
{
    if (listening->id >= 0)
        deregister(connection->handle, listening->id);
    registration_drop(listening->registration, REGISTRATION_KEPT);
    *listening = (struct listening){.id = -1};
}

static void stop_listening_to_jobs(struct connection *connection)
{
    stop_listening(connection, &connection->block_job, virConnectDomainEventDeregisterAny);
    stop_listening(connection, &connection->job_completed, virConnectDomainEventDeregisterAny);
    stop_listening(connection, &connection->qemu_event, virConnectDomainQemuMonitorEventDeregister);
}

/* Where libvirt can't remove it, it frees it when the connection ends; as it has done where it has
 * reported the end. */
static void stop_listening_to_end(struct connection *connection)
{
    bool removed = connection->closing && !has_ended(connection) &&
                   virConnectUnregisterCloseCallback(connection->handle, on_closed) == 0;
    registration_drop(connection->closing, removed ? REGISTRATION_GONE : REGISTRATION_KEPT);
}

static void close_handle(struct connection *connection)
{
    if (connection->handle) {
        stop_listening_to_jobs(connection);
        stop_listening(connection, &connection->lifecycle, virConnectDomainEventDeregisterAny);
        stop_listening_to_end(connection);
        virConnectClose(connection->handle);
    }
    nudge_free(connection->nudge);
}

/* -------------------------------------------------------------------- users */

static void link_user(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&connection->lock);
    user->next = connection->users;
    connection->users = user;
    if (connection->has_ended)
        user->ended(user, connection->reason);
    pthread_mutex_unlock(&connection->lock);
}

static void unlink_user(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&connection->lock);
    struct connection_user **link = &connection->users;
    while (*link && *link != user)
        link = &(*link)->next;
    if (*link)
        *link = user->next;
    pthread_mutex_unlock(&connection->lock);
}

static void libvirt_connection__unlist(struct connection *connection)
{
    struct connection **link = &theirs.first;
    while (*link && *link != connection)
        link = &(*link)->next;
    if (*link)
        *link = connection->next;
}

/* libvirt takes our functions once a connection: who comes now has to wait until they are free. */
static void leave_theirs(struct connection *connection)
{
    pthread_mutex_lock(&theirs.lock);
    bool is_last = --connection->joined == 0;
    if (is_last) {
        connection->is_changing = true;
        pthread_mutex_unlock(&theirs.lock);
        close_handle(connection);
        pthread_mutex_lock(&theirs.lock);
        libvirt_connection__unlist(connection);
        pthread_cond_broadcast(&theirs.changed);
    }
    pthread_mutex_unlock(&theirs.lock);
    if (is_last)
        connection_free(connection);
}

static void connection_leave(struct connection *connection, struct connection_user *user)
{
    unlink_user(connection, user);
    if (connection->is_listed) {
        leave_theirs(connection);
        return;
    }
    close_handle(connection);
    connection_free(connection);
}

/* ------------------------------------------------------------------------ ours */

/* What the program does about errors is its own affair, and so is what libvirt prints. */
static void ignore_error(void *user, virErrorPtr error)
{
    (void)user, (void)error;
}

static virDomainPtr look_up(virConnectPtr handle, const struct domain_key *key)
{
    const char *name = key->name;
    if (key->is_uuid)
        return virDomainLookupByUUIDString(handle, name);
    virDomainPtr domain = virDomainLookupByName(handle, name);
    bool may_be_uuid = !domain && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN &&
                       strspn(name, "0123456789abcdefABCDEF-") == strlen(name) &&
                       strlen(name) >= (size_t)2 * VIR_UUID_BUFLEN;
    return may_be_uuid ? virDomainLookupByUUIDString(handle, name) : domain;
}

static void set_up_ours(struct connection *connection)
{
    virConnSetErrorFunc(connection->handle, NULL, ignore_error);
    connection->nudge = nudge_new();
    /* Not possible for a driver in this process, which can't get lost either. */
    virConnectSetKeepAlive(connection->handle, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
}

/* Its events are registered before its state is read: nothing is missed. */
static bool libvirt_connection__join_ours(struct connection *connection, const struct domain_key *key,
                      struct connection_user *user, virDomainPtr *ret_domain, bool *ret_is_gone,
                      char **ret_why)
{
    set_up_ours(connection);
    *ret_domain = look_up(connection->handle, key);
    if (!*ret_domain || virDomainGetUUID(*ret_domain, user->uuid) != 0) {
        *ret_is_gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
        *ret_why = last_message();
        return false;
    }
    user->hears_jobs = true;
    link_user(connection, user);
    return register_life(connection, *ret_domain, ret_why) &&
           register_jobs(connection, *ret_domain, ret_why);
}

static struct connection *connection_join(virConnectPtr handle, const struct domain_key *key,
                                   struct connection_user *user, virDomainPtr *ret_domain,
                                   bool *ret_is_gone, char **ret_why)
{
    struct connection *connection = connection_new();
    *ret_domain = NULL;
    *ret_is_gone = false;
    *ret_why = NULL;
    if (!connection) {
        virConnectClose(handle);
        return NULL;
    }
    connection->handle = handle;
    if (libvirt_connection__join_ours(connection, key, user, ret_domain, ret_is_gone, ret_why)) {
        connection_nudge(connection);
        return connection;
    }
    if (*ret_domain)
        virDomainFree(*ret_domain);
    connection_leave(connection, user);
    return NULL;
}

/* ---------------------------------------------------------------------- theirs */

static struct connection *find_theirs(virConnectPtr handle)
{
    struct connection *connection = theirs.first;
    while (connection && connection->handle != handle)
        connection = connection->next;
    return connection;
}

/* NULL: no memory. */
static struct connection *list_theirs(virConnectPtr handle)
{
    struct connection *connection = connection_new();
    if (!connection)
        return NULL;
    connection->handle = handle;
    connection->is_listed = true;
    connection->next = theirs.first;
    theirs.first = connection;
    return connection;
}

/* Under the lock, which is let go of meanwhile: who comes first does it for all. */
static void open_theirs(struct connection *connection)
{
    connection->is_changing = true;
    pthread_mutex_unlock(&theirs.lock);
    char *error = NULL;
    bool registered = virConnectRef(connection->handle) == 0;
    if (registered) {
        connection->nudge = nudge_new();
        registered = register_life(connection, NULL, &error);
        nudge_loop(connection->nudge);
    } else {
        error = last_message();
    }
    pthread_mutex_lock(&theirs.lock);
    connection->has_failed = !registered;
    connection->error = error;
    connection->is_changing = false;
    pthread_cond_broadcast(&theirs.changed);
}

static struct connection *connection_join_theirs(virDomainPtr domain, struct connection_user *user,
                                          char **ret_why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    virConnectPtr handle = virDomainGetConnect(domain);
    struct connection *connection;

    pthread_once(&once, init_theirs);
    *ret_why = NULL;
    if (!handle || virDomainGetUUID(domain, user->uuid) != 0) {
        *ret_why = last_message();
        return NULL;
    }
    pthread_mutex_lock(&theirs.lock);
    while ((connection = find_theirs(handle)) &&
           (connection->is_changing || connection->has_failed))
        pthread_cond_wait(&theirs.changed, &theirs.lock);
    bool is_new = !connection;
    if (is_new)
        connection = list_theirs(handle);
    if (connection)
        connection->joined++;
    if (connection && is_new)
        open_theirs(connection);
    bool has_failed = connection && connection->has_failed;
    if (has_failed && connection->error)
        *ret_why = strdup(connection->error);
    pthread_mutex_unlock(&theirs.lock);

    if (has_failed)
        leave_theirs(connection);
    else if (connection)
        link_user(connection, user);
    return has_failed ? NULL : connection;
}

/* Under the lock, which is let go of meanwhile. */
static bool begin_to_listen(struct connection *connection, char **ret_why)
{
    connection->is_changing = true;
    pthread_mutex_unlock(&theirs.lock);
    bool listens = register_jobs(connection, NULL, ret_why);
    if (!listens)
        stop_listening_to_jobs(connection);
    nudge_loop(connection->nudge);
    pthread_mutex_lock(&theirs.lock);
    connection->is_changing = false;
    pthread_cond_broadcast(&theirs.changed);
    return listens;
}

static bool connection_listen_to_jobs(struct connection *connection, char **ret_why)
{
    *ret_why = NULL;
    if (!connection->is_listed)
        return true;
    pthread_mutex_lock(&theirs.lock);
    while (connection->is_changing)
        pthread_cond_wait(&theirs.changed, &theirs.lock);
    if (!connection->listens_to_jobs)
        connection->listens_to_jobs = begin_to_listen(connection, ret_why);
    bool listens = connection->listens_to_jobs;
    pthread_mutex_unlock(&theirs.lock);
    return listens;
}

static void connection_hear_jobs(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&connection->lock);
    user->hears_jobs = true;
    pthread_mutex_unlock(&connection->lock);
}

/* --------------------------------------------------------------------- looking */

static void connection_nudge(const struct connection *connection)
{
    nudge_loop(connection->nudge);
}

static void ask_if_active(void *domain)
{
    virDomainIsActive(domain);
}

/* libvirt's client refuses to keep a connection alive that no loop reads. It is asked for an
 * interval that it can't take from anyone, so that nothing changes: then its RPC code refuses. */
static bool lacks_loop(virConnectPtr handle)
{
    if (virConnectSetKeepAlive(handle, INT_MAX, 1) >= 0)
        return false;
    const virError *error = virGetLastError();
    return error && error->domain == VIR_FROM_REMOTE && error->code == VIR_ERR_INTERNAL_ERROR;
}

/* The first is a hint: another thread's call on the connection, which may hang, reads it for all
 * others. The second is certain, but libvirt prints a line. */
static bool connection_is_deaf(const struct connection *connection, virDomainPtr domain)
{
    return !service_watches_connection(ask_if_active, domain) && lacks_loop(connection->handle);
}

static bool connection_is_alive(struct connection *connection)
{
    return !has_ended(connection) && virConnectIsAlive(connection->handle) == 1;
}

static bool connection_is_read_only(const struct connection *connection)
{
    return connection->is_read_only;
}

static bool connection_hands_on_qemu_events(const struct connection *connection)
{
    return connection->qemu_event.id >= 0;
}

static bool connection_reports_end(const struct connection *connection)
{
    return connection->closing != NULL;
}
#undef KEEPALIVE_INTERVAL_S
#undef KEEPALIVE_COUNT
/* ---- core/libvirt/copies.c ---- */

/*
 * What is remembered of a domain's copies; see copies.h.
 */
/* ---- core/libvirt/copies.h ---- */

/*
 * Where each copy and active commit of a domain leads to, out of the domain's XML: by that it is
 * known again on another connection, and by that it shows that it has switched its disk although
 * nobody has seen its end.
 *
 * Pure: no I/O, no libvirt. The loop's thread.
 */

struct copies {
    size_t count, room;
    struct copy *copies;
};

enum copy_fate {
    COPY_UNKNOWN,  /* nothing is known of one, or its source and its target have the same name */
    COPY_GOES_ON,  /* the disk has a mirror that leads to the same target */
    COPY_REPLACED, /* its mirror leads elsewhere: it is another job's */
    COPY_SWITCHED, /* it has none, and what was the target is its source */
    COPY_GONE      /* it has none, and its source is another image */
};

/* Takes note of all mirrors that there are. BJ_OK or BJ_E_NOMEM. */
static int copies_note(struct copies *copies, const struct disks *now);
static void copies_forget(struct copies *copies, const char *target);
static void copies_clear(struct copies *copies);

/* Its end has come, and what is left to ask is whether it has switched the disk. */
static void copies_end(struct copies *copies, const char *target);
static bool copies_has_switched(const struct copies *copies, const char *target, const struct disks *now);

/* What has become of the last that was noted on the disk, and has not ended. */
static enum copy_fate copies_fate(const struct copies *copies, const char *target,
                           const struct disks *now);

/* Where such a one leads to; NULL: not known. Belongs to the copies. */
static const char *copies_mirror(const struct copies *copies, const char *target);
static bool copies_is_commit(const struct copies *copies, const char *target);

struct copy {
    char *target; /* the disk's */
    char *source;
    char *mirror;
    bool is_commit;
    bool has_ended;
};

static void clear_copy(struct copy *copy)
{
    free(copy->target);
    free(copy->source);
    free(copy->mirror);
}

static struct copy *find_copy(const struct copies *copies, const char *target)
{
    for (size_t i = 0; i < copies->count; i++)
        if (strcmp(copies->copies[i].target, target) == 0)
            return &copies->copies[i];
    return NULL;
}

static void copies_forget(struct copies *copies, const char *target)
{
    struct copy *copy = find_copy(copies, target);
    if (!copy)
        return;
    clear_copy(copy);
    *copy = copies->copies[--copies->count];
}

static void copies_clear(struct copies *copies)
{
    for (size_t i = 0; i < copies->count; i++)
        clear_copy(&copies->copies[i]);
    free(copies->copies);
    *copies = (struct copies){0};
}

static bool libvirt_copies__make_room(struct copies *copies)
{
    if (copies->count < copies->room)
        return true;
    size_t room = copies->room ? copies->room * 2 : 4;
    struct copy *more = reallocarray(copies->copies, room, sizeof *more);
    if (!more)
        return false;
    copies->copies = more;
    copies->room = room;
    return true;
}

static int note(struct copies *copies, const struct disk *disk)
{
    struct copy copy = {
        .target = strdup(disk->target),
        .source = strdup(disk->source),
        .mirror = strdup(disk->mirror),
        .is_commit = disk->is_commit,
    };
    copies_forget(copies, disk->target);
    if (copy.target && copy.source && copy.mirror && libvirt_copies__make_room(copies)) {
        copies->copies[copies->count++] = copy;
        return BJ_OK;
    }
    clear_copy(&copy);
    return BJ_E_NOMEM;
}

static int copies_note(struct copies *copies, const struct disks *now)
{
    int r = BJ_OK;
    for (size_t i = 0; r == BJ_OK && i < now->count; i++) {
        const struct disk *disk = &now->disks[i];
        if (disk->has_mirror && disk->mirror && disk->source)
            r = note(copies, disk);
    }
    return r;
}

static void copies_end(struct copies *copies, const char *target)
{
    struct copy *copy = find_copy(copies, target);
    if (copy)
        copy->has_ended = true;
}

static enum copy_fate fate_of(const struct copy *copy, const struct disk *disk)
{
    if (!copy || !disk)
        return COPY_UNKNOWN;
    if (disk->has_mirror && disk->mirror)
        return strcmp(disk->mirror, copy->mirror) == 0 ? COPY_GOES_ON : COPY_REPLACED;
    if (disk->has_mirror || !disk->source || strcmp(copy->source, copy->mirror) == 0)
        return COPY_UNKNOWN;
    return strcmp(disk->source, copy->mirror) == 0 ? COPY_SWITCHED : COPY_GONE;
}

static bool copies_has_switched(const struct copies *copies, const char *target, const struct disks *now)
{
    return fate_of(find_copy(copies, target), disks_find(now, target)) == COPY_SWITCHED;
}

static const struct copy *find_running(const struct copies *copies, const char *target)
{
    const struct copy *copy = find_copy(copies, target);
    return copy && !copy->has_ended ? copy : NULL;
}

static enum copy_fate copies_fate(const struct copies *copies, const char *target, const struct disks *now)
{
    return fate_of(find_running(copies, target), disks_find(now, target));
}

static const char *copies_mirror(const struct copies *copies, const char *target)
{
    const struct copy *copy = find_running(copies, target);
    return copy ? copy->mirror : NULL;
}

static bool copies_is_commit(const struct copies *copies, const char *target)
{
    const struct copy *copy = find_running(copies, target);
    return copy && copy->is_commit;
}
/* ---- core/libvirt/disks.c ---- */

/*
 * A domain's disks, out of its XML; see disks.h.
 */

/* --------------------------------------------------------------------- nodes */

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

static const xmlNode *child_of(const xmlNode *node, const char *name)
{
    for (const xmlNode *child = node->children; child; child = child->next)
        if (is_element(child, name))
            return child;
    return NULL;
}

/* "" if it is not there. Belongs to the node. References to entities are left in a document, and
 * then this is none: no domain has them. */
static const char *attribute_of(const xmlNode *node, const char *name)
{
    const xmlAttr *attribute = xmlHasNsProp(node, (const xmlChar *)name, NULL);
    const xmlNode *text = attribute ? attribute->children : NULL;
    bool is_text = text && text->type == XML_TEXT_NODE && !text->next && text->content;
    return is_text ? (const char *)text->content : "";
}

static bool attribute_is(const xmlNode *node, const char *name, const char *value)
{
    return strcmp(attribute_of(node, name), value) == 0;
}

/* *ret is malloc'ed; NULL: it is not there, or empty. False: no memory. */
static bool copy_attribute(const xmlNode *node, const char *name, char **ret)
{
    const char *value = attribute_of(node, name);
    *ret = *value ? strdup(value) : NULL;
    return !*value || *ret;
}

/* --------------------------------------------------------------------- disks */

/* The attribute of <source> that says where it is. An nvme has none: it is a PCI address. */
static const struct {
    const char *type;
    const char *attribute;
} places[] = {
    {"file", "file"},     {"block", "dev"},      {"network", "name"},
    {"volume", "volume"}, {"vhostuser", "path"}, {"dir", "dir"},
};

/* Of a <disk> or a <mirror>: its own <source>, not one of what backs it. */
static bool read_source(const xmlNode *node, char **ret)
{
    const xmlNode *source = child_of(node, "source");
    *ret = NULL;
    if (!source)
        return true;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (attribute_is(node, "type", places[i].type))
            return copy_attribute(source, places[i].attribute, ret);
    return copy_attribute(source, "file", ret); /* the type of old */
}

/* Ready is "yes" once it is, and then what was done about it: "pivot" is taken of a ready one only,
 * "abort" of any. */
static bool read_mirror(const xmlNode *mirror, struct disk *disk)
{
    disk->has_mirror = true;
    disk->is_commit = attribute_is(mirror, "job", "active-commit");
    disk->mirror_ready =
        attribute_is(mirror, "ready", "yes") || attribute_is(mirror, "ready", "pivot");
    disk->is_ending =
        attribute_is(mirror, "ready", "pivot") || attribute_is(mirror, "ready", "abort");
    return read_source(mirror, &disk->mirror) &&
           (disk->mirror || copy_attribute(mirror, "file", &disk->mirror)); /* before 1.2.7 */
}

static void clear_disk(struct disk *disk)
{
    free(disk->target);
    free(disk->alias);
    free(disk->source);
    free(disk->mirror);
}

/* With a QEMU before 4.2 there are no node names, of which <source> has the index, and all jobs are
 * named by the alias. */
static bool read_alias(const xmlNode *node, struct disk *disk)
{
    const xmlNode *alias = child_of(node, "alias");
    const xmlNode *source = child_of(node, "source");
    bool has_nodes = source && *attribute_of(source, "index");
    return !alias || !has_nodes || copy_attribute(alias, "name", &disk->alias);
}

/* One without a target can have no job, and its target stays NULL. False: no memory. */
static bool read_disk(const xmlNode *node, struct disk *disk)
{
    const xmlNode *target = child_of(node, "target");
    const xmlNode *mirror = child_of(node, "mirror");

    *disk = (struct disk){0};
    if (!target)
        return true;
    bool is_read = copy_attribute(target, "dev", &disk->target) && read_alias(node, disk) &&
                   read_source(node, &disk->source) && (!mirror || read_mirror(mirror, disk));
    bool is_empty = !disk->source && !attribute_is(node, "type", "nvme");
    disk->is_backed_up = !is_empty && !child_of(node, "readonly");
    return is_read;
}

static size_t count_disks(const xmlNode *devices)
{
    size_t count = 0;
    for (const xmlNode *child = devices->children; child; child = child->next)
        count += is_element(child, "disk");
    return count;
}

static int read_disks(const xmlNode *devices, struct disks *disks)
{
    size_t count = count_disks(devices);
    disks->disks = calloc(count ? count : 1, sizeof *disks->disks);
    if (!disks->disks)
        return BJ_E_NOMEM;

    for (const xmlNode *child = devices->children; child; child = child->next) {
        struct disk *disk = &disks->disks[disks->count];
        if (!is_element(child, "disk"))
            continue;
        if (!read_disk(child, disk)) {
            clear_disk(disk);
            return BJ_E_NOMEM;
        }
        if (disk->target)
            disks->count++;
        else
            clear_disk(disk);
    }
    return BJ_OK;
}

/* ---------------------------------------------------------------------- text */

/* Instead of a sentence on stderr. */
#if LIBXML_VERSION >= 21200
static void libvirt_disks__note_error(void *user, const xmlError *error)
#else
static void libvirt_disks__note_error(void *user, xmlError *error)
#endif
{
    bool *no_memory = ((xmlParserCtxt *)user)->_private;
    *no_memory |= error->code == XML_ERR_NO_MEMORY;
}

/* Entities are left as they are, and nothing is fetched. The parser's own limits hold: no XML that
 * passed through libvirt's protocol is beyond them. */
static xmlDoc *parse_with(xmlParserCtxt *parser, const char *xml, size_t len, int *ret_error)
{
    bool no_memory = false;
    /* cppcheck-suppress autoVariables ; taken back below */
    parser->_private = &no_memory;
    parser->sax->serror = libvirt_disks__note_error;
    xmlResetLastError();
    xmlDoc *doc = xmlCtxtReadMemory(parser, xml, (int)len, NULL, NULL, XML_PARSE_NONET);

    const xmlError *last = xmlGetLastError(); /* of the tree, which does not know the parser */
    no_memory |= last && last->code == XML_ERR_NO_MEMORY;
    no_memory |= !doc && parser->errNo == XML_ERR_OK; /* the parser had not begun */
    *ret_error = no_memory ? BJ_E_NOMEM : doc ? BJ_OK : BJ_E_PROTOCOL;
    parser->_private = NULL;
    if (doc && no_memory)
        xmlFreeDoc(doc);
    return no_memory ? NULL : doc;
}

/* NULL: *ret_error says why; also if it is not about a `name`. */
static xmlDoc *libvirt_disks__parse(const char *xml, const char *name, int *ret_error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, xmlInitParser); /* which is not made for several threads at once */

    size_t len = strlen(xml);
    *ret_error = BJ_E_PROTOCOL;
    if (len == 0 || len > INT_MAX)
        return NULL;
    xmlParserCtxt *parser = xmlNewParserCtxt();
    *ret_error = BJ_E_NOMEM;
    xmlDoc *doc = parser ? parse_with(parser, xml, len, ret_error) : NULL;
    xmlFreeParserCtxt(parser);

    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    if (!doc || (root && is_element(root, name) && !doc->intSubset))
        return doc;
    xmlFreeDoc(doc);
    *ret_error = BJ_E_PROTOCOL;
    return NULL;
}

static int disks_parse(const char *xml, struct disks *ret)
{
    int error;
    xmlDoc *doc = libvirt_disks__parse(xml, "domain", &error);
    if (!doc)
        return error;

    const xmlNode *devices = child_of(xmlDocGetRootElement(doc), "devices");
    struct disks disks = {0};
    if (devices)
        error = read_disks(devices, &disks);
    xmlFreeDoc(doc);
    if (error == BJ_OK)
        *ret = disks;
    else
        disks_clear(&disks);
    return error;
}

static void disks_clear(struct disks *disks)
{
    for (size_t i = 0; i < disks->count; i++)
        clear_disk(&disks->disks[i]);
    free(disks->disks);
    free(disks->backup);
    *disks = (struct disks){0};
}

static const struct disk *disks_find(const struct disks *disks, const char *name)
{
    const struct disk *found = NULL;

    for (size_t i = 0; i < disks->count; i++)
        if (strcmp(disks->disks[i].target, name) == 0)
            return &disks->disks[i];
    for (size_t i = 0; i < disks->count; i++) {
        const struct disk *disk = &disks->disks[i];
        if (!disk->source || strcmp(disk->source, name) != 0)
            continue;
        if (found)
            return NULL;
        found = disk;
    }
    return found;
}

/* -------------------------------------------------------------------- backups */

static const xmlNode *find_target(const xmlNode *list, const char *target)
{
    for (const xmlNode *child = list->children; child; child = child->next)
        if (is_element(child, "disk") && attribute_is(child, "name", target))
            return child;
    return NULL;
}

static bool is_in_backup(const xmlNode *list, const struct disk *disk)
{
    const xmlNode *found = list ? find_target(list, disk->target) : NULL;
    return list ? found && !attribute_is(found, "backup", "no") : disk->is_backed_up;
}

/* malloc'ed; NULL: no memory. */
static char *list_backup(const struct disks *disks, const xmlNode *list)
{
    size_t room = 1;
    for (size_t i = 0; i < disks->count; i++)
        room += strlen(disks->disks[i].target) + 1;

    char *text = malloc(room);
    char *end = text;
    for (size_t i = 0; text && i < disks->count; i++)
        if (is_in_backup(list, &disks->disks[i])) {
            end = stpcpy(end, disks->disks[i].target);
            *end++ = '\n';
        }
    if (text)
        *end = '\0';
    return text;
}

static int disks_in_backup(const struct disks *disks, const char *xml, char **ret)
{
    int error;
    xmlDoc *doc = libvirt_disks__parse(xml, "domainbackup", &error);
    if (!doc)
        return error;
    *ret = list_backup(disks, child_of(xmlDocGetRootElement(doc), "disks"));
    xmlFreeDoc(doc);
    return *ret ? BJ_OK : BJ_E_NOMEM;
}

static bool disks_list_has(const char *list, const char *target)
{
    size_t len = strlen(target);
    while (list && *list) {
        size_t line = strcspn(list, "\n");
        if (line == len && memcmp(list, target, len) == 0)
            return true;
        list += line + (list[line] == '\n');
    }
    return false;
}
/* ---- core/libvirt/domain.c ---- */

/*
 * A domain's driver opens, is up, and ends; see domain.h.
 */
/* ---- core/libvirt/domain.h ---- */

/*
 * The libvirt driver: one domain. The driver's operations (domain_operations.h) become requests,
 * which are calls on a lane of the domain's own (domain_request.h); libvirt's events
 * (domain_events.h) become facts. Both come back to the loop's thread through the mailbox, and
 * only there is anything here changed.
 */

/* ---- core/src/driver/module.h ---- */

/*
 * A driver that is a library of its own, found at run time, so that the core needs nothing of what
 * it needs; or is linked into the program. It holds copies of the core's files that it uses (see
 * the Makefile), so both must be of one version.
 */

#define DRIVER_MODULE_FILE "libblockjob-libvirt.so.0"
#define DRIVER_MODULE_SYMBOL "blockjob_driver_module"

struct _virDomain;
struct loop;

struct driver_module {
    const char *version; /* BJ_VERSION_... of its making, as "0.1.0" */

    /* Any thread. BJ_OK; BJ_E_INVAL with a sentence. */
    int (*check)(const char *uri, struct text **ret_text);
    /* Any thread. The address of a domain, for display: malloc'ed; NULL: no memory. */
    char *(*uri_of)(struct _virDomain *domain);
    void (*ref)(struct _virDomain *domain);
    void (*unref)(struct _virDomain *domain);

    /* The loop's thread. As driver_open(); takes over the reference to `domain`, which may be NULL:
     * then peer->uri, which was checked, says which; or peer->before does. */
    struct driver *(*open)(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *domain, const struct driver_sink *sink, void *user);
};

/* Any thread. BJ_OK; BJ_E_UNSUPPORTED, BJ_E_SYSTEM with a sentence about what `wanted` it. */
int driver_module_load(const char *wanted, const struct driver_module **ret,
                       struct text **ret_text);

/* ---- core/libvirt/endpoint.h ---- */

/*
 * Where connections lead to: the URI that they are opened with. A host that does not answer can
 * hold a thread for ever, so an endpoint has one attempt to connect under way, whoever began it,
 * until it has answered; then twice as many with each answer, to a limit, while someone waits: on a
 * long way, one after the other would take too long. Those who want a connection wait in a row: the
 * first one gets it, also when the one for whom it was begun has given up. When an attempt fails,
 * all who waited when it began are told why.
 */

/* ---- core/libvirt/pool.h ---- */

/*
 * Threads for libvirt's calls, each of which may block for seconds or for ever (B67). The calls of
 * one lane (a domain's) run one after the other in their order, those of several lanes side by
 * side: a lane that is stuck delays no other. Threads come when there is work and go when there is
 * none for a while; at most POOL_THREADS_MAX, all signals blocked. Nothing waits for them when the
 * process exits. A child of fork() begins with an empty pool: the calls its parent had submitted
 * are the parent's.
 *
 * Lanes that are likely to get stuck together, because they lead to one host, form a group. A group
 * begins a call only while it has fewer threads than all calls together leave free: one that is
 * stuck as a whole gets half of them at most, two get a third each, and there is always a thread
 * for a group that has none.
 */

/* ---- core/libvirt/mailbox.h ---- */

/*
 * The way from libvirt's threads to a context's loop, which may be gone before they are: libvirt's
 * calls can block for ever.
 */

struct mailbox;

static struct mailbox *mailbox_new(struct loop *loop); /* NULL: no memory */
static struct mailbox *mailbox_ref(struct mailbox *mailbox);
static struct mailbox *mailbox_unref(struct mailbox *mailbox); /* takes NULL */

/* The loop's thread: nothing is posted any more; what was posted before still runs. */
static void mailbox_close(struct mailbox *mailbox);

/* Any thread. False once it is closed: the task will not run. */
static bool mailbox_post(struct mailbox *mailbox, struct loop_task *task);

enum { POOL_THREADS_MAX = 256 };

/* A thread goes when it has had nothing to do for so long. */
enum { POOL_IDLE_MS = 2000 };

/* Lies in its owner's memory, from lane_submit() until one of `done` and `dropped` is called. */
struct call {
    struct call *next;
    struct loop_task task;
    struct lane *lane;
    void (*run)(struct call *call);     /* a thread of the pool */
    void (*done)(struct call *call);    /* the loop's thread, after run() */
    void (*dropped)(struct call *call); /* instead, on the pool's: the mailbox was closed before */
};

struct lane_group;
struct lane;

/* Any thread. For one who submits calls under a lock that a fork handler takes: before it registers
 * that. */
static void pool_init(void);

static struct lane_group *lane_group_new(void); /* NULL: no memory */
static struct lane_group *lane_group_ref(struct lane_group *group);
static struct lane_group *lane_group_unref(struct lane_group *group); /* takes NULL */

/* Without a mailbox its calls are always dropped when they have run. Without a group it is one of
 * its own. NULL: no memory. */
static struct lane *lane_new(struct mailbox *mailbox, struct lane_group *group);
/* The last reference may go while calls are under way: they are run to their end. */
static struct lane *lane_ref(struct lane *lane);
static struct lane *lane_unref(struct lane *lane); /* takes NULL */

/* Any thread. False: the pool has no thread and the system gives none; nothing of the call will be
 * called. Where it has some, but not one for this lane, the call waits for one. */
static bool lane_submit(struct lane *lane, struct call *call);

/* Any thread. True: it had not begun, and nothing of it will be called. Only for a call that was
 * submitted to this lane and of which neither `done` nor `dropped` was called. */
static bool lane_withdraw(struct lane *lane, struct call *call);

struct endpoint;

/* Wants a connection of its own. Lies in its owner's memory, from endpoint_open() until `opened` is
 * called or it is withdrawn. */
struct opening {
    struct opening *next;
    uint64_t number; /* in the order in which they came */
    bool is_absent;  /* from `opened` on: no daemon is there, but one may come */
    /* A thread of the pool; only hands on. The handle is the receiver's; NULL: there is none, and
     * `error` is BJ_E_SYSTEM or the like, or BJ_OK if libvirt says `why`, malloc'ed, NULL for a
     * lack of memory. */
    void (*opened)(struct opening *opening, virConnectPtr handle, int error, char *why);
};

/* Any thread; none of them blocks. */

/* A `uri` of NULL is libvirt's default. NULL: no memory. */
static struct endpoint *endpoint_get(const char *uri, bool read_only);
static struct endpoint *endpoint_unref(struct endpoint *endpoint); /* takes NULL */

/* For the calls on its connections. */
static struct lane_group *endpoint_group(struct endpoint *endpoint);

/* False: no thread; `opened` is not called. */
static bool endpoint_open(struct endpoint *endpoint, struct opening *opening);
/* True: `opened` will not be called. */
static bool endpoint_withdraw(struct endpoint *endpoint, struct opening *opening);

/* ---- core/libvirt/session.h ---- */

/*
 * A domain as libvirt hands it out: its connection and its handle. All of
 * this blocks and belongs to the pool's threads, one at a time; what libvirt has to tell comes on
 * threads of libvirt's.
 */

/* Called on any thread; may only post. `user` is referenced for as long as one of them can come. */
struct session_sink {
    void (*block_job)(void *user, const char *disk, int type, int status); /* BLOCK_JOB_2 */
    void (*backup_result)(void *user, bool succeeded, const char *error);  /* JOB_COMPLETED */
    void (*qemu_event)(void *user, const char *name, const char *data, long long seconds,
                       unsigned micros);
    /* What a program's connection turned out to be when it began to listen to jobs: before the
     * first of their events. */
    void (*listening)(void *user, bool has_qemu_events, bool is_read_only);
    void (*lifecycle)(void *user, int event, int detail); /* virDomainEventType, and its detail */
    void (*disconnected)(void *user, int reason);         /* virConnectCloseReason */
    void *(*ref)(void *user);
    void (*unref)(void *user);
};

/* Why there is none. */
struct session_failure {
    char *why;    /* libvirt's sentence, malloc'ed; NULL: no memory */
    bool is_gone; /* there is no such domain, or it does not run */
    int error;    /* BJ_E_SYSTEM, ...: it came to no call of libvirt's; BJ_OK: it did */

    /* The program's connection never reads an event, as it was opened before there was a loop: one
     * of ours to this URI, malloc'ed, must do, with the same rights. NULL: that is not why. */
    char *substitute;
    bool is_read_only;
    char uuid[VIR_UUID_STRING_BUFLEN]; /* the domain's */
};

/* Where a session comes from; all but the key is taken over in any case. */
struct session_source {
    virDomainPtr theirs;   /* the program's domain; NULL: */
    virConnectPtr handle;  /* a connection of ours, */
    struct domain_key key; /* and the domain on it */
};

static void session_failure_clear(struct session_failure *failure);

struct session;

/* Its events are registered by then: what is read of the domain after misses none. NULL:
 * *ret_failure says why. */
static struct session *session_open(const struct session_source *source, const struct session_sink *sink,
                             void *user, struct session_failure *ret_failure);
static void session_close(struct session *session);

/* From here on the events of jobs are reported, as those of one of ours are at once; again:
 * nothing. False: *ret_why as session_failure's. */
static bool session_listen(struct session *session, char **ret_why);

/* Whether the domain runs; else as above. */
static bool session_runs(const struct session *session, struct session_failure *ret_failure);
static bool session_is_persistent(const struct session *session);
/* It does not run: someone may start it again, here. One that has moved to another host runs. */
static bool session_may_be_started(const struct session *session);

/* Any thread. Gives back a reference that may be the last one, which closes its connection: a
 * thread of the pool does it. Without memory or a thread it is kept for good. */
static void session_release_domain(virDomainPtr domain);

static virDomainPtr session_domain(const struct session *session);

/* After each call of libvirt's on the domain (service.h says why). */
static void session_called(const struct session *session);

/* Asks libvirtd where nobody reports the end. */
static bool session_is_alive(const struct session *session);
/* Any thread; these ask nobody. The first three: once it has listened, until when that is not
 * known. */
static bool session_listens(const struct session *session);
static bool session_hands_on_qemu_events(const struct session *session);
static bool session_is_read_only(const struct session *session); /* no verb is taken there */
/* False: session_is_alive() is to be asked now and then. */
static bool session_reports_end(const struct session *session);

enum stage {
    STAGE_OPENING, /* the session is being made; its events are kept for later */
    STAGE_ASLEEP,  /* it is made, the domain does not run, and its start is waited for */
    STAGE_UP,      /* requests and facts */
    STAGE_DOWN     /* the monitor has been informed; calls that are under way come back to nobody */
};

struct event;
struct request;

/* Which QEMU it is, as far as libvirt tells: another domain may have the same name, and the same
 * domain another QEMU. */
struct identity {
    unsigned char uuid[VIR_UUID_BUFLEN];
    unsigned number;
};

struct domain {
    struct driver driver; /* first */
    atomic_uint refs;
    struct loop *loop;
    const struct driver_sink *sink;
    void *user;
    struct text *uri; /* what texts call it */
    struct mailbox *mailbox;
    struct lane *lane;
    atomic_bool given_up;      /* down: calls that wait need not go on */
    atomic_size_t event_bytes; /* of events that wait for the loop */
    atomic_bool missed;        /* memory was short for one, or they were too many */
    struct loop_task missed_task;

    /* A domain of the program's has its connection; else one is waited for. */
    struct endpoint *endpoint;
    struct opening wanted;
    struct call opening, looking, closing, checking;
    bool is_alive; /* as the last check found it */
    struct {
        virDomainPtr theirs;
        virConnectPtr handle;
        char *name; /* on a connection of ours */
        bool is_uuid;
        bool may_sleep; /* who opens it waits until it is started */
        struct session *session;
        enum found { FOUND_NOTHING, FOUND_ASLEEP, FOUND_RUNNING } state;
        bool is_persistent;
        struct session_failure failure;
        struct disks disks;
        struct identity identity;
        unsigned long version; /* of libvirt */
    } found;                   /* what opening works with; the pool's until it is over */

    /* The loop's own. */
    enum stage stage;
    struct session *session;
    struct event *early; /* that came while it was opening */
    struct event **early_last;
    struct facts *facts;
    struct disks disks;
    struct identity identity;
    bool is_persistent; /* it stays defined when it stops */
    bool has_slept;     /* before it was up */
    bool listens;       /* the events of jobs are reported */
    struct copies copies;
    bool is_returning; /* the copies are those of an earlier connection: the next list judges */
    struct request *requests; /* not answered yet */
    size_t request_count;
    struct {
        bool is_out;
        uint64_t number; /* of the last that was sent */
    } fence;
    struct loop_timer *alive_timer; /* NULL: the connection tells of its end */
};

/* driver_module.open */
static struct driver *domain_open(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *theirs, const struct driver_sink *sink, void *user);

static inline struct domain *domain_of(struct driver *driver)
{
    return (struct domain *)driver;
}

/* Any thread; `user` is the domain. */
static void *domain_ref(void *user);
static void domain_unref(void *user);

/* The loop's thread. The last that the monitor hears; takes over the reference to `text`. Only who
 * has a reference to the domain may touch it after. */
static void domain_go_down(struct domain *domain, int error, bool is_gone, struct text *text);
static void domain_lose_memory(struct domain *domain);

/* The loop's thread. The events of jobs are reported from here on. */
static void domain_note_listening(struct domain *domain, bool has_qemu_events, bool is_read_only);

/* The loop's thread. One that is asleep has been started. */
static void domain_wake(struct domain *domain);

/* driver_ops.close, .inherit */
static void domain_close(struct driver *driver, int error, const char *text);
static bool domain_inherit(struct driver *driver, struct driver_legacy *legacy);

/* ---- core/libvirt/domain_events.h ---- */

/*
 * libvirt's events about a domain, which come on any thread: brought to the loop's thread, where
 * they become facts.
 */

/* Its user is the domain. */
__extension__ static const struct session_sink domain_session_sink;

/* The loop's thread: the events that came while the domain was being opened take effect now, which
 * may be that it goes down; or never. */
static void domain_replay_early_events(struct domain *domain);
static void domain_drop_early_events(struct domain *domain);

/* facts_new()'s; the user is the domain. */
static void domain_on_fact(void *user, const struct fact *fact);

/* Any thread: the connection has ended; virConnectCloseReason. */
static void domain_on_disconnected(void *user, int reason);

/* ---- core/libvirt/domain_lists.h ---- */

/*
 * Lists of a domain's jobs, and what it means that one is missing in them. The loop's thread.
 *
 * libvirt's list and its events come by different ways: a list may lack a job whose end has not
 * been reported yet. Such a list is held back until a fence has passed through libvirtd and through
 * libvirt's event loop, behind which there can be no such end. What then has no end was missed, and
 * the domain's XML decides whether a copy has switched its disk.
 */

/* driver_ops.query */
static int domain_query(struct driver *driver, struct driver_request *asker, bool urgent);

/* Answers the lists that were held back for the end of a job, where it has come by now. */
static void domain_release_lists(struct domain *domain);

/* The XML that was read last; takes over what is in it. Where memory is short for an alias, less is
 * known of how a migration's copy ends. */
static void domain_take_disks(struct domain *domain, struct disks *disks);

/* Remembers where the copies lead to that are at work. */
static void domain_note_copies(struct domain *domain);

/* ---- core/libvirt/domain_operations.h ---- */

/*
 * The driver's operations on a domain: verbs, starts, and whether a disk was switched. The
 * loop's thread.
 */

__extension__ static const struct driver_ops domain_ops;

/* ---- core/libvirt/domain_request.h ---- */

/*
 * A request to libvirt: a call on the domain's lane, or none, and its answer. The loop's
 * thread; what a call fills in is the pool's while it is under way.
 */

struct request_kind {
    bool is_pivot;
    /* A thread of the pool; whether it went well. NULL: there is nothing to call. */
    bool (*call)(struct request *request);
    /* The same thread, after a call that was refused: what that means. NULL: nothing more. */
    enum verdict (*judge)(const struct request *request);
    /* The loop's thread, after a call that went well, if someone still asks: fills the reply.
     * False: it is not over yet. NULL: nothing to fill. */
    bool (*over)(struct request *request, struct driver_reply *reply);
};

struct request {
    struct call call; /* first */
    struct loop_task later;
    struct request *prev, *next;
    const struct request_kind *kind;
    struct domain *domain;        /* a reference */
    struct driver_request *asker; /* NULL once it is answered */
    char *disk;                   /* NULL: none */
    struct start *start;          /* of a job */
    int64_t speed;
    int error; /* where there is nothing to call */
    struct text *text;

    bool went_well;
    bool is_gone; /* the domain does not run any more */
    bool is_lost; /* nor is there a connection */
    enum verdict refusal;
    struct call_error call_error;
    char error_class[16];
    struct disks disks;
    struct job_list *list;
    uint64_t change_count; /* facts_change_count() when the list or the pivot was asked for */
    unsigned lists;        /* how often it was made */
    bool is_urgent;        /* a list that a machine wants */
    bool held;             /* a list that waits for an end; no call is under way */
    uint64_t fence;        /* held: the number of the fence behind which no end can be */
    atomic_bool is_moot;   /* a verb: the run that it is for has ended */
    char *mirror;          /* a verb: where that run leads to; NULL: not known */
};

/* The class of the errors that refuse a verb because there is no job on the disk: the number of
 * VIR_ERR_INVALID_ARG. */
#define NO_SUCH_JOB_CLASS "8"
/* Of those that refuse everything on a read-only connection: that of VIR_ERR_OPERATION_DENIED. */
#define DENIED_CLASS "29"

/* NULL: no memory. */
static struct request *request_new(struct driver *driver, const struct request_kind *kind,
                            struct driver_request *asker, const char *disk);

/* Takes the request over, which may be NULL for a lack of memory. BJ_OK, BJ_E_BUSY, BJ_E_NOMEM. */
static int request_launch(struct request *request);

/* An answer that needs no call; takes over the reference to `text`. */
static int request_answer_later(struct driver *driver, struct driver_request *asker, int error,
                         struct text *text);
/* The same, for what the connection takes not at all; the driver's capabilities say why. */
static int request_deny(struct driver *driver, struct driver_request *asker);

/* Makes its call, also once more. False: no thread, or no memory. */
static bool request_submit(struct request *request);

/* After its call, or for one that is held. True: it is over, answered and gone. False: it is held,
 * or its call is made again. */
static bool request_finish(struct request *request);

/* One that was not launched. */
static void request_free(struct request *request);

/* The run on the disk has ended: the verbs for it are not called any more. */
static void request_verbs_are_moot(struct domain *domain, const char *disk);

static void request_answer_all(struct domain *domain, int error, const char *text);

/* A thread of the pool. */
static virDomainPtr request_handle(const struct request *request);

/* driver_ops.abandon, .withdraw */
static void domain_abandon(struct driver *driver, int error, const char *text);
static bool domain_withdraw(struct driver *driver, struct driver_request *asker);

/* ---- core/libvirt/uri.h ---- */

/*
 * The address of a domain: the URI of a connection, as libvirt has it, the domain's name, and
 * ?readonly where nobody means to steer its jobs. That is behind the name, as what is in the URI
 * itself is libvirt's. Pure.
 */

struct domain_address {
    char *connection; /* libvirt's URI; NULL: its default */
    char *name;       /* or the UUID */
    bool is_read_only;
};

/* BJ_OK; BJ_E_INVAL, and *ret_why goes on from the uri to a sentence; BJ_E_NOMEM. */
static int domain_address_parse(const char *uri, struct domain_address *ret, const char **ret_why);
static void domain_address_clear(struct domain_address *address);

/* The driver works in this process: there is no connection that could miss events. */
static bool uri_is_in_process(const char *uri);

/* The same connection, whose ssh asks nobody for a password at the terminal, unless the URI itself
 * decides about that. malloc'ed; NULL: no memory. */
static char *uri_unattended(const char *uri);

/* How often a connection of the program's is asked whether it is there, where nobody says so. */
#define ALIVE_MS 1000

static void *domain_ref(void *user)
{
    struct domain *domain = user;
    atomic_fetch_add(&domain->refs, 1);
    return domain;
}

static void domain_unref(void *user)
{
    struct domain *domain = user;
    if (atomic_fetch_sub(&domain->refs, 1) != 1)
        return;
    if (domain->found.theirs) /* it was not opened at all */
        session_release_domain(domain->found.theirs);
    free(domain->found.name);
    session_failure_clear(&domain->found.failure);
    disks_clear(&domain->found.disks);
    text_unref(domain->uri);
    lane_unref(domain->lane);
    endpoint_unref(domain->endpoint);
    mailbox_unref(domain->mailbox);
    free(domain);
}

/* ----------------------------------------------------------------------- legacy */

struct legacy {
    struct driver_legacy base; /* first */
    struct identity identity;
    bool has_stopped; /* that QEMU: whatever is there next is another one */
    struct copies copies;
};

static void free_legacy(struct driver_legacy *base)
{
    struct legacy *legacy = (struct legacy *)base;
    copies_clear(&legacy->copies);
    free(legacy);
}

/* No memory: then the next driver finds another QEMU, of which it can't be wrong. */
static void leave_legacy(struct domain *domain)
{
    struct legacy *legacy = calloc(1, sizeof *legacy);
    if (!legacy)
        return;
    legacy->base.free = free_legacy;
    legacy->identity = domain->identity;
    legacy->has_stopped = domain->driver.is_gone;
    legacy->copies = domain->copies;
    domain->copies = (struct copies){0};
    domain->driver.legacy = &legacy->base;
}

static bool domain_inherit(struct driver *driver, struct driver_legacy *base)
{
    struct domain *domain = domain_of(driver);
    struct legacy *legacy = (struct legacy *)base;
    if (!legacy)
        return false;

    bool is_same =
        !legacy->has_stopped && !domain->has_slept &&
        memcmp(legacy->identity.uuid, domain->identity.uuid, sizeof domain->identity.uuid) == 0 &&
        legacy->identity.number == domain->identity.number;
    if (is_same) {
        copies_clear(&domain->copies);
        domain->copies = legacy->copies;
        domain->is_returning = true;
        legacy->copies = (struct copies){0};
    }
    free_legacy(base);
    return is_same;
}

/* ----------------------------------------------------------------------- ending */

static struct domain *of_closing(struct call *call)
{
    return container_of(call, struct domain, closing);
}

static void take_leave(struct call *call)
{
    session_close(of_closing(call)->session);
}

static void has_left(struct call *call)
{
    domain_unref(of_closing(call));
}

/* It blocks, and waits behind whatever is stuck on the lane. */
static void leave_session(struct domain *domain)
{
    if (!domain->session)
        return;
    domain->closing = (struct call){.run = take_leave, .done = has_left, .dropped = has_left};
    domain_ref(domain);
    if (!lane_submit(domain->lane, &domain->closing)) /* no thread: the session stays for good */
        domain_unref(domain);
}

/* Gives back what the loop has of it; calls under way have the rest. */
static void libvirt_domain__release(struct domain *domain)
{
    domain->stage = STAGE_DOWN;
    atomic_store(&domain->given_up, true);
    mailbox_close(domain->mailbox);
    loop_timer_free(domain->alive_timer);
    domain->alive_timer = NULL;
    loop_unhold(domain->loop);
    domain_drop_early_events(domain);
    facts_free(domain->facts);
    domain->facts = NULL;
    disks_clear(&domain->disks);
    copies_clear(&domain->copies);
    if (domain->driver.legacy)
        domain->driver.legacy->free(domain->driver.legacy);
    domain->driver.legacy = NULL;
    leave_session(domain);
    if (endpoint_withdraw(domain->endpoint, &domain->wanted))
        domain_unref(domain);
    domain_unref(domain);
}

static void domain_go_down(struct domain *domain, int error, bool is_gone, struct text *text)
{
    domain->stage = STAGE_DOWN;
    domain->driver.is_gone = is_gone;
    leave_legacy(domain);
    request_answer_all(domain, error, text_str(text));
    domain->sink->down(domain->user, error, text);
    libvirt_domain__release(domain);
}

static void domain_close(struct driver *driver, int error, const char *text)
{
    struct domain *domain = domain_of(driver);
    domain->stage = STAGE_DOWN;
    request_answer_all(domain, error, text);
    libvirt_domain__release(domain);
}

static void domain_lose_memory(struct domain *domain)
{
    domain_go_down(domain, BJ_E_DISCONNECTED, false,
                   text_printf("%s: out of memory for what libvirt tells", text_str(domain->uri)));
}

/* ---------------------------------------------------------------------- opening */

static struct domain *of_opening(struct call *call)
{
    return container_of(call, struct domain, opening);
}

static enum found read_domain(struct domain *domain, const struct session *session)
{
    virDomainPtr handle = session_domain(session);
    struct call_error error = {0};

    domain->found.is_persistent = session_is_persistent(session);
    domain->found.identity.number = virDomainGetID(handle);
    virDomainGetUUID(handle, domain->found.identity.uuid);
    if (virConnectGetLibVersion(virDomainGetConnect(handle), &domain->found.version) != 0)
        domain->found.version = 0;
    if (call_disks(handle, &domain->found.disks, &error))
        return FOUND_RUNNING;
    domain->found.failure.why = error.message;
    return FOUND_NOTHING;
}

static enum found look(struct domain *domain, const struct session *session)
{
    struct session_failure *failure = &domain->found.failure;
    session_failure_clear(failure);
    if (session_runs(session, failure))
        return read_domain(domain, session);
    bool is_asleep = failure->is_gone && domain->found.may_sleep && session_may_be_started(session);
    return is_asleep ? FOUND_ASLEEP : FOUND_NOTHING;
}

/* Also where nobody waits any more: what it has to give back may block. */
static void run_open(struct call *call)
{
    struct domain *domain = of_opening(call);
    const struct session_source source = {
        .theirs = domain->found.theirs,
        .handle = domain->found.handle,
        .key = {.name = domain->found.name, .is_uuid = domain->found.is_uuid},
    };

    domain->found.theirs = NULL;
    domain->found.handle = NULL;
    if (source.theirs || source.handle)
        domain->found.session =
            session_open(&source, &domain_session_sink, domain, &domain->found.failure);
    if (!domain->found.session)
        return;
    domain->found.state = look(domain, domain->found.session);
    session_called(domain->found.session);
    if (domain->found.state == FOUND_NOTHING) {
        session_close(domain->found.session);
        domain->found.session = NULL;
    }
}

/* A thread of the pool, so there is one for the call. */
static void on_connection(struct opening *opening, virConnectPtr handle, int error, char *why)
{
    struct domain *domain = container_of(opening, struct domain, wanted);
    domain->found.handle = handle;
    domain->found.failure.error = error;
    domain->found.failure.why = why;
    lane_submit(domain->lane, &domain->opening);
}

static void not_opened(struct domain *domain)
{
    const struct session_failure *failure = &domain->found.failure;
    int error = failure->error == BJ_OK ? BJ_E_CONNECT : failure->error;
    const char *why = driver_bj_error_text(failure->error == BJ_OK ? BJ_E_NOMEM : failure->error);
    domain->driver.is_absent = failure->is_gone || domain->wanted.is_absent;
    domain_go_down(domain, error, failure->is_gone,
                   text_printf("%s: %s", text_str(domain->uri), failure->why ? failure->why : why));
}

static struct domain *of_checking(struct call *call)
{
    return container_of(call, struct domain, checking);
}

static void run_check(struct call *call)
{
    struct domain *domain = of_checking(call);
    domain->is_alive = atomic_load(&domain->given_up) || session_is_alive(domain->session);
    session_called(domain->session);
}

static void checked(struct call *call)
{
    struct domain *domain = of_checking(call);
    if (domain->stage != STAGE_DOWN && domain->is_alive)
        loop_timer_set(domain->alive_timer, ALIVE_MS);
    else if (domain->stage != STAGE_DOWN)
        domain_on_disconnected(domain, VIR_CONNECT_CLOSE_REASON_ERROR);
    domain_unref(domain);
}

static void checked_in_vain(struct call *call)
{
    domain_unref(of_checking(call));
}

/* Behind what else is on the lane: a call that fails asks the same. */
static void on_alive_timer(void *user)
{
    struct domain *domain = domain_ref(user);
    domain->checking = (struct call){.run = run_check, .done = checked, .dropped = checked_in_vain};
    if (lane_submit(domain->lane, &domain->checking))
        return;
    loop_timer_set(domain->alive_timer, ALIVE_MS);
    domain_unref(domain);
}

static bool make_timers(struct domain *domain)
{
    bool asks = !session_reports_end(domain->session);
    if (asks)
        domain->alive_timer = loop_timer_new(domain->loop, on_alive_timer, domain);
    if (domain->alive_timer)
        loop_timer_set(domain->alive_timer, ALIVE_MS);
    return !asks || domain->alive_timer;
}

static const struct denial read_only = {
    .error_class = DENIED_CLASS,
    .text =
        "the connection to libvirt is read only, and there no job is started or steered: connect "
        "without ?readonly, or lend a connection that virConnectOpen() has opened",
};

static void note_capabilities(struct domain *domain)
{
    struct capabilities *can = &domain->driver.capabilities;
    can->has_ready_event = true;
    can->has_bare_rows = true;
    can->no_such_job_class = NO_SUCH_JOB_CLASS;
}

static void domain_note_listening(struct domain *domain, bool has_qemu_events, bool is_read_only)
{
    domain->listens = true;
    domain->driver.capabilities.denial = is_read_only ? &read_only : NULL;
    if (!has_qemu_events)
        facts_lack_qemu(domain->facts);
}

static void go_up(struct domain *domain)
{
    domain->stage = STAGE_UP;
    domain_take_disks(domain, &domain->found.disks);
    facts_set_version(domain->facts, domain->found.version);
    note_capabilities(domain);
    if (session_listens(domain->session))
        domain_note_listening(domain, session_hands_on_qemu_events(domain->session),
                              session_is_read_only(domain->session));
    domain->identity = domain->found.identity;
    domain->is_persistent = domain->found.is_persistent;
    if (copies_note(&domain->copies, &domain->disks) != BJ_OK) {
        domain_lose_memory(domain);
        return;
    }
    domain->sink->up(domain->user, NULL); /* libvirt knows its host's QEMU, not the domain's */
    domain_replay_early_events(domain);
}

/* It stays asleep if it was started before, and has stopped again: so what has come meanwhile is
 * looked through. */
static void libvirt_domain__fall_asleep(struct domain *domain)
{
    bool is_news = !domain->has_slept;
    domain->stage = STAGE_ASLEEP;
    domain->has_slept = true;
    if (is_news)
        domain->sink->waits(domain->user,
                            text_printf("%s: %s", text_str(domain->uri),
                                        domain->found.failure.why ? domain->found.failure.why
                                                                  : driver_bj_error_text(BJ_E_NOMEM)));
    domain_replay_early_events(domain);
}

static void take_found(struct domain *domain)
{
    if (domain->found.state == FOUND_NOTHING)
        not_opened(domain);
    else if (domain->found.state == FOUND_ASLEEP)
        libvirt_domain__fall_asleep(domain);
    else
        go_up(domain);
}

static struct domain *of_looking(struct call *call)
{
    return container_of(call, struct domain, looking);
}

static void run_look(struct call *call)
{
    struct domain *domain = of_looking(call);
    domain->found.state = look(domain, domain->session);
    session_called(domain->session);
}

static void looked(struct call *call)
{
    struct domain *domain = of_looking(call);
    if (domain->stage != STAGE_DOWN)
        take_found(domain);
    domain_unref(domain);
}

static void looked_in_vain(struct call *call)
{
    domain_unref(of_looking(call));
}

static void domain_wake(struct domain *domain)
{
    domain->stage = STAGE_OPENING;
    domain->looking = (struct call){.run = run_look, .done = looked, .dropped = looked_in_vain};
    domain_ref(domain);
    if (lane_submit(domain->lane, &domain->looking))
        return;
    domain_unref(domain);
    domain_lose_memory(domain);
}

static bool want_connection(struct domain *domain)
{
    domain->wanted.opened = on_connection;
    domain_ref(domain);
    if (endpoint_open(domain->endpoint, &domain->wanted))
        return true;
    domain_unref(domain);
    return false;
}

/* The program's connection never reads an event. */
static bool want_substitute(struct domain *domain)
{
    struct session_failure *failure = &domain->found.failure;
    struct endpoint *endpoint = endpoint_get(failure->substitute, failure->is_read_only);
    domain->found.name = strdup(failure->uuid);
    domain->found.is_uuid = true;
    session_failure_clear(failure);
    if (!endpoint || !domain->found.name) {
        endpoint_unref(endpoint);
        return false;
    }
    endpoint_unref(domain->endpoint);
    domain->endpoint = endpoint;
    return want_connection(domain);
}

static void take_session(struct domain *domain)
{
    domain->session = domain->found.session;
    domain->found.session = NULL;
    if (domain->stage == STAGE_DOWN)
        leave_session(domain);
    else if (!domain->session)
        not_opened(domain);
    else if (make_timers(domain))
        take_found(domain);
    else
        domain_lose_memory(domain);
}

static void opened(struct call *call)
{
    struct domain *domain = of_opening(call);
    bool is_deaf = domain->found.failure.substitute && domain->stage != STAGE_DOWN;
    if (!is_deaf || !want_substitute(domain))
        take_session(domain);
    domain_unref(domain);
}

/* It was closed meanwhile. */
static void opened_in_vain(struct call *call)
{
    struct domain *domain = of_opening(call);
    if (domain->found.session)
        session_close(domain->found.session);
    domain_unref(domain);
}

/* The one that it was before, whatever the domain of its name is now. */
static void seek_by_uuid(struct domain *domain, const struct driver_legacy *before)
{
    const struct legacy *legacy = (const struct legacy *)before;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    char *at = uuid;
    for (size_t i = 0; i < sizeof legacy->identity.uuid; i++)
        at += sprintf(at, "%02x", legacy->identity.uuid[i]);
    free(domain->found.name);
    domain->found.name = strdup(uuid);
    domain->found.is_uuid = domain->found.may_sleep = true;
}

/* The address was checked. */
static bool equip(struct domain *domain, const struct driver_peer *peer)
{
    struct domain_address address = {0};
    const char *why;
    bool is_parsed = domain_address_parse(peer->uri, &address, &why) == BJ_OK;
    domain->found.name = domain->found.theirs ? NULL : address.name;
    if (is_parsed && !domain->found.theirs)
        address.name = NULL;
    if (peer->before)
        seek_by_uuid(domain, peer->before);
    domain->endpoint = is_parsed ? endpoint_get(address.connection, address.is_read_only) : NULL;
    domain_address_clear(&address);

    domain->uri = text_new(peer->label, strlen(peer->label));
    domain->mailbox = mailbox_new(domain->loop);
    if (domain->mailbox && domain->endpoint)
        domain->lane = lane_new(domain->mailbox, endpoint_group(domain->endpoint));
    domain->facts = facts_new(domain_on_fact, domain);
    return domain->uri && domain->lane && domain->facts &&
           (domain->found.name || domain->found.theirs);
}

static bool libvirt_domain__begin(struct domain *domain)
{
    domain->opening = (struct call){.run = run_open, .done = opened, .dropped = opened_in_vain};
    if (!domain->found.theirs)
        return want_connection(domain);
    domain_ref(domain);
    if (lane_submit(domain->lane, &domain->opening))
        return true;
    domain_unref(domain);
    return false;
}

static struct driver *domain_open(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *theirs, const struct driver_sink *sink, void *user)
{
    struct domain *domain = calloc(1, sizeof *domain);
    if (!domain) {
        if (theirs)
            session_release_domain(theirs);
        return NULL;
    }
    atomic_init(&domain->refs, 1);
    domain->driver.ops = &domain_ops;
    domain->loop = loop;
    domain->sink = sink;
    domain->user = user;
    domain->found.theirs = theirs;
    domain->early_last = &domain->early;
    if (equip(domain, peer) && libvirt_domain__begin(domain)) {
        loop_hold(loop);
        return &domain->driver;
    }
    facts_free(domain->facts);
    domain_unref(domain);
    return NULL;
}
#undef ALIVE_MS
/* ---- core/libvirt/domain_events.c ---- */

/*
 * libvirt's and QEMU's events on their way to the loop; see domain_events.h.
 */

_Static_assert((int)FACTS_COMPLETED == VIR_DOMAIN_BLOCK_JOB_COMPLETED &&
                   (int)FACTS_FAILED == VIR_DOMAIN_BLOCK_JOB_FAILED &&
                   (int)FACTS_CANCELED == VIR_DOMAIN_BLOCK_JOB_CANCELED &&
                   (int)FACTS_READY == VIR_DOMAIN_BLOCK_JOB_READY,
               "facts.h has libvirt's numbers");
_Static_assert((int)FACTS_PULL == VIR_DOMAIN_BLOCK_JOB_TYPE_PULL &&
                   (int)FACTS_COPY == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY &&
                   (int)FACTS_COMMIT == VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT &&
                   (int)FACTS_ACTIVE_COMMIT == VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT &&
                   (int)FACTS_BACKUP == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP,
               "facts.h has libvirt's numbers");

/* The bytes of events that wait for the loop: more are dropped, and the connection with them. One
 * of libvirt's messages has 32 MiB at most. */
#define EVENT_BYTES_MAX ((size_t)64 * 1024 * 1024)

/* Something that libvirt tells, on its way to the loop. */
struct event {
    struct loop_task task; /* first */
    struct event *next;    /* while the session is being made */
    struct domain *domain; /* a reference */
    size_t bytes;
    void (*happen)(struct domain *domain, const struct event *event);
    /* Of a block job, or of the domain's life; status: its detail, why the connection has ended, or
     * whether a backup has succeeded. Whether QEMU's events are handed on, and nothing is steered.
     */
    int type, status;
    int64_t timestamp_us;
    char *name; /* the disk, or QEMU's event */
    char *data; /* of QEMU's; or an error; NULL: none */
};

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static void event_free(struct event *event)
{
    atomic_fetch_sub(&event->domain->event_bytes, event->bytes);
    domain_unref(event->domain);
    free(event->name);
    free(event->data);
    free(event);
}

/* ----------------------------------------------------------------------- events */

static void domain_on_fact(void *user, const struct fact *fact)
{
    struct domain *domain = user;
    domain->sink->fact(domain->user, fact);
}

/* A late end of the run before changes nothing for the one that libvirt has taken since. */
static void libvirt_domain_events__note_end(struct domain *domain, const char *id)
{
    if (facts_owes_earlier_end(domain->facts, id))
        return;
    request_verbs_are_moot(domain, id);
    copies_end(&domain->copies, id);
}

static void happen_block_job(struct domain *domain, const struct event *event)
{
    const char *ended = facts_ended_id(domain->facts, event->name, event->type, event->status);
    if (ended)
        libvirt_domain_events__note_end(domain, ended);
    if (facts_block_job(domain->facts, event->name, event->type, event->status) == BJ_OK)
        domain_release_lists(domain);
    else
        domain_lose_memory(domain);
}

static void happen_backup_result(struct domain *domain, const struct event *event)
{
    if (facts_backup_result(domain->facts, event->status != 0, event->data) != BJ_OK)
        domain_lose_memory(domain);
}

static void happen_qemu_event(struct domain *domain, const struct event *event)
{
    int r = facts_qemu_event(domain->facts, event->name, event->data, event->timestamp_us);
    if (domain->sink->wants_events(domain->user))
        domain->sink->event(domain->user, event->name, event->data, length_of(event->data),
                            event->timestamp_us);
    if (r != BJ_OK)
        domain_lose_memory(domain);
}

static void happen_listening(struct domain *domain, const struct event *event)
{
    domain_note_listening(domain, event->type != 0, event->status != 0);
}

static const char *stop_text(int detail)
{
    switch (detail) {
    case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
        return "the domain was shut down";
    case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
        return "the domain was destroyed";
    case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
        return "the domain's guest has crashed";
    case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
        return "the domain has migrated to another host";
    case VIR_DOMAIN_EVENT_STOPPED_SAVED:
        return "the domain was saved";
    case VIR_DOMAIN_EVENT_STOPPED_FAILED:
        return "the domain's QEMU has died";
    default:
        return "the domain was stopped";
    }
}

/* One that has moved runs elsewhere. */
static void stop(struct domain *domain, int detail)
{
    domain->driver.may_return =
        domain->is_persistent && detail != VIR_DOMAIN_EVENT_STOPPED_MIGRATED;
    domain_go_down(domain, BJ_E_DISCONNECTED, true,
                   text_printf("%s: %s, and its jobs are gone with its QEMU", text_str(domain->uri),
                               stop_text(detail)));
}

static void happen_lifecycle(struct domain *domain, const struct event *event)
{
    bool is_renamed = event->type == VIR_DOMAIN_EVENT_UNDEFINED &&
                      event->status == VIR_DOMAIN_EVENT_UNDEFINED_RENAMED;
    if (event->type == VIR_DOMAIN_EVENT_DEFINED)
        domain->is_persistent = true;
    else if (event->type == VIR_DOMAIN_EVENT_UNDEFINED && !is_renamed)
        domain->is_persistent = false;
    else if (event->type == VIR_DOMAIN_EVENT_STOPPED)
        stop(domain, event->status);
}

/* While it is asleep. A domain that is undefined then is no more: a look finds nothing. */
static void happen_asleep(struct domain *domain, const struct event *event)
{
    bool may_change =
        event->type == VIR_DOMAIN_EVENT_STARTED || event->type == VIR_DOMAIN_EVENT_UNDEFINED;
    if (event->happen == happen_lifecycle && may_change)
        domain_wake(domain);
}

static const char *disconnect_text(int reason)
{
    switch (reason) {
    case VIR_CONNECT_CLOSE_REASON_EOF:
        return "libvirtd has closed the connection";
    case VIR_CONNECT_CLOSE_REASON_KEEPALIVE:
        return "libvirtd does not answer any more";
    case VIR_CONNECT_CLOSE_REASON_CLIENT:
        return "the program has closed the connection to libvirt";
    default:
        return "the connection to libvirt has ended";
    }
}

static void happen_disconnected(struct domain *domain, const struct event *event)
{
    domain_go_down(domain, BJ_E_DISCONNECTED, false,
                   text_printf("%s: %s", text_str(domain->uri), disconnect_text(event->status)));
}

/* What came before is about an earlier QEMU. */
static bool begins_anew(const struct event *event)
{
    return event->happen == happen_lifecycle && event->type == VIR_DOMAIN_EVENT_STARTED;
}

static void libvirt_domain_events__on_event(struct loop_task *task)
{
    struct event *event = (struct event *)task;
    struct domain *domain = event->domain;

    if (domain->stage == STAGE_OPENING) {
        if (begins_anew(event))
            domain_drop_early_events(domain);
        event->next = NULL;
        *domain->early_last = event;
        domain->early_last = &event->next;
        return;
    }
    if (domain->stage == STAGE_ASLEEP && event->happen != happen_disconnected)
        happen_asleep(domain, event);
    else if (domain->stage != STAGE_DOWN)
        event->happen(domain, event);
    event_free(event);
}

static void on_missed(struct loop_task *task)
{
    struct domain *domain = container_of(task, struct domain, missed_task);
    if (domain->stage == STAGE_UP || domain->stage == STAGE_ASLEEP)
        domain_lose_memory(domain);
    domain_unref(domain);
}

/* Any thread. */
static void miss(struct domain *domain)
{
    if (atomic_exchange(&domain->missed, true))
        return;
    domain->missed_task.run = on_missed;
    domain_ref(domain);
    if (!mailbox_post(domain->mailbox, &domain->missed_task))
        domain_unref(domain);
}

/* Any thread. NULL: no memory, or too many. */
static struct event *event_new(struct domain *domain, const char *name, const char *data,
                               void (*happen)(struct domain *domain, const struct event *event))
{
    struct event *event = calloc(1, sizeof *event);
    if (!event)
        return NULL;
    event->task.run = libvirt_domain_events__on_event;
    event->domain = domain_ref(domain);
    event->happen = happen;
    event->name = name ? strdup(name) : NULL;
    event->data = data ? strdup(data) : NULL;
    event->bytes = sizeof *event + length_of(name) + length_of(data);
    size_t waiting = atomic_fetch_add(&domain->event_bytes, event->bytes);
    bool fits = waiting + event->bytes <= EVENT_BYTES_MAX;
    if (fits && (!name || event->name) && (!data || event->data))
        return event;
    event_free(event);
    return NULL;
}

static void post_event(struct domain *domain, struct event *event)
{
    if (!event)
        miss(domain);
    else if (!mailbox_post(domain->mailbox, &event->task))
        event_free(event);
}

static void libvirt_domain_events__on_block_job(void *user, const char *disk, int type, int status)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, disk, NULL, happen_block_job);
    if (event) {
        event->type = type;
        event->status = status;
    }
    post_event(domain, event);
}

static void libvirt_domain_events__on_backup_result(void *user, bool succeeded, const char *error)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, NULL, error, happen_backup_result);
    if (event)
        event->status = succeeded;
    post_event(domain, event);
}

static void libvirt_domain_events__on_qemu_event(void *user, const char *name, const char *data, long long seconds,
                          unsigned micros)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, name, data, happen_qemu_event);
    if (event)
        event->timestamp_us = (int64_t)seconds * 1000000 + micros;
    post_event(domain, event);
}

static void post_pair(struct domain *domain, int type, int status,
                      void (*happen)(struct domain *domain, const struct event *event))
{
    struct event *event = event_new(domain, NULL, NULL, happen);
    if (event) {
        event->type = type;
        event->status = status;
    }
    post_event(domain, event);
}

static void on_listening(void *user, bool has_qemu_events, bool is_read_only)
{
    post_pair(user, has_qemu_events, is_read_only, happen_listening);
}

static void libvirt_domain_events__on_lifecycle(void *user, int type, int detail)
{
    post_pair(user, type, detail, happen_lifecycle);
}

static void domain_on_disconnected(void *user, int reason)
{
    post_pair(user, 0, reason, happen_disconnected);
}

static const struct session_sink domain_session_sink = {
    .block_job = libvirt_domain_events__on_block_job,
    .backup_result = libvirt_domain_events__on_backup_result,
    .qemu_event = libvirt_domain_events__on_qemu_event,
    .listening = on_listening,
    .lifecycle = libvirt_domain_events__on_lifecycle,
    .disconnected = domain_on_disconnected,
    .ref = domain_ref,
    .unref = domain_unref,
};

/* ------------------------------------------------------------------------ early */

static void domain_replay_early_events(struct domain *domain)
{
    struct event *early = domain->early;
    domain->early = NULL;
    domain->early_last = &domain->early;
    while (early) {
        struct event *event = early;
        early = event->next;
        libvirt_domain_events__on_event(&event->task);
    }
    if (atomic_load(&domain->missed) && domain->stage != STAGE_DOWN)
        domain_lose_memory(domain); /* for one that came while it was opening */
}

static void domain_drop_early_events(struct domain *domain)
{
    while (domain->early) {
        struct event *event = domain->early;
        domain->early = event->next;
        event_free(event);
    }
    domain->early_last = &domain->early;
}
#undef EVENT_BYTES_MAX
/* ---- core/libvirt/domain_lists.c ---- */

/*
 * Lists of a domain's jobs; see domain_lists.h.
 */

/* How often a list is made again because a job has begun or ended meanwhile. */
#define LISTS_MAX 8

static void domain_take_disks(struct domain *domain, struct disks *disks)
{
    disks_clear(&domain->disks);
    domain->disks = *disks;
    *disks = (struct disks){0};
    for (size_t i = 0; i < domain->disks.count; i++)
        facts_set_alias(domain->facts, domain->disks.disks[i].target, domain->disks.disks[i].alias);
}

/* One that is over is none of those that are known. */
static void domain_note_copies(struct domain *domain)
{
    if (domain->is_returning)
        return; /* those of before are still to be compared */
    int r = copies_note(&domain->copies, &domain->disks);
    for (size_t i = 0; i < domain->disks.count; i++)
        if (!facts_is_active(domain->facts, domain->disks.disks[i].target))
            copies_forget(&domain->copies, domain->disks.disks[i].target);
    if (r != BJ_OK)
        domain_lose_memory(domain);
}

/* The ids that a job of the domain can have; NULL past the last. */
static const char *job_id(const struct domain *domain, size_t index)
{
    const struct disks *disks = &domain->disks;
    if (index == disks->count)
        return BACKUP_ID;
    return index < disks->count ? disks->disks[index].target : NULL;
}

/* ------------------------------------------------------------------ what is missing */

static bool is_listed(const struct request *request, const char *id)
{
    return job_list_find(request->list, id) != NULL;
}

/* The job is known from before the list, libvirt has not reported its end, and its list lacks it:
 * the end is on its way, and it tells more (a list never overrules an event, B28). */
static bool is_missing(const struct request *request, const char *id)
{
    const struct facts *facts = request->domain->facts;
    return facts_is_active(facts, id) &&
           !facts_has_changed_since(facts, id, request->change_count) && !is_listed(request, id);
}

static bool is_ahead(const struct request *request)
{
    const char *id;
    for (size_t i = 0; (id = job_id(request->domain, i)); i++)
        if (is_missing(request, id))
            return true;
    return false;
}

/* No end has come, and none will. */
static void decide_by_xml(struct domain *domain, const char *id, const struct disks *now)
{
    enum copy_fate fate = copies_fate(&domain->copies, id, now);
    bool is_commit = copies_is_commit(&domain->copies, id);
    int r = BJ_OK;

    copies_forget(&domain->copies, id);
    if (fate == COPY_SWITCHED)
        r = facts_end_unseen(domain->facts, id, is_commit);
    else
        facts_forget(domain->facts, id);
    if (r != BJ_OK)
        domain_lose_memory(domain);
}

/* ---------------------------------------------------------------------------- fences */

struct libvirt_domain_lists__fence {
    struct call call; /* first */
    struct loop_task passed;
    atomic_uint refs; /* the call's, and that of its way through libvirt's loop */
    struct domain *domain;
    uint64_t number;
    struct disks disks; /* as they were behind it */
};

static void fence_unref(struct libvirt_domain_lists__fence *fence)
{
    if (atomic_fetch_sub(&fence->refs, 1) != 1)
        return;
    domain_unref(fence->domain);
    disks_clear(&fence->disks);
    free(fence);
}

static struct libvirt_domain_lists__fence *fence_of(struct loop_task *task)
{
    return container_of(task, struct libvirt_domain_lists__fence, passed);
}

/* A thread of libvirt's. */
static void has_passed(void *user)
{
    struct libvirt_domain_lists__fence *fence = user;
    if (!mailbox_post(fence->domain->mailbox, &fence->passed))
        fence_unref(fence);
}

static void run_fence(struct call *call)
{
    struct libvirt_domain_lists__fence *fence = (struct libvirt_domain_lists__fence *)call;
    struct session *session = fence->domain->session;
    struct call_error ignored = {0};

    call_sync(session_domain(session));
    call_disks(session_domain(session), &fence->disks, &ignored);
    call_error_clear(&ignored);
    if (!service_fence(has_passed, fence))
        has_passed(fence); /* there is no loop, and no event */
    session_called(session);
}

static void fence_is_made(struct call *call)
{
    fence_unref((struct libvirt_domain_lists__fence *)call);
}

static void fence_is_dropped(struct call *call)
{
    fence_unref((struct libvirt_domain_lists__fence *)call);
}

static bool settle_missing(struct request *request, const struct libvirt_domain_lists__fence *fence)
{
    struct domain *domain = request->domain;
    const char *id;
    for (size_t i = 0; domain->stage == STAGE_UP && (id = job_id(domain, i)); i++)
        if (is_missing(request, id))
            decide_by_xml(domain, id, &fence->disks);
    return domain->stage == STAGE_UP;
}

static bool is_behind(const struct request *request, const struct libvirt_domain_lists__fence *fence)
{
    return request->held && request->fence <= fence->number;
}

static void send_fence_if_due(struct domain *domain);

static void settle_held(struct domain *domain, const struct libvirt_domain_lists__fence *fence)
{
    struct request *request = domain->requests;
    while (request) {
        if (!is_behind(request, fence)) {
            request = request->next;
            continue;
        }
        if (settle_missing(request, fence))
            request_finish(request);
        request = domain->requests; /* whatever has become of the others */
    }
}

static void libvirt_domain_lists__on_fence(struct loop_task *task)
{
    struct libvirt_domain_lists__fence *fence = fence_of(task);
    struct domain *domain = fence->domain;

    if (domain->stage == STAGE_UP) {
        domain->fence.is_out = false;
        settle_held(domain, fence);
    }
    if (domain->stage == STAGE_UP)
        send_fence_if_due(domain);
    fence_unref(fence);
}

static bool send_fence(struct domain *domain)
{
    struct libvirt_domain_lists__fence *fence = calloc(1, sizeof *fence);
    if (!fence)
        return false;
    atomic_init(&fence->refs, 2);
    fence->domain = domain_ref(domain);
    fence->number = ++domain->fence.number;
    fence->passed.run = libvirt_domain_lists__on_fence;
    fence->call =
        (struct call){.run = run_fence, .done = fence_is_made, .dropped = fence_is_dropped};
    if (lane_submit(domain->lane, &fence->call)) {
        domain->fence.is_out = true;
        return true;
    }
    domain_unref(domain);
    free(fence);
    return false;
}

static void send_fence_if_due(struct domain *domain)
{
    const struct request *request = domain->requests;
    while (request && !request->held)
        request = request->next;
    if (request && !domain->fence.is_out && !send_fence(domain))
        domain_lose_memory(domain);
}

/* A fence that is out may have left libvirtd before the list. */
static bool hold(struct request *request)
{
    struct domain *domain = request->domain;
    request->fence = domain->fence.number + 1;
    request->held = domain->fence.is_out || send_fence(domain);
    return request->held;
}

/* ----------------------------------------------------------------------------- lists */

static bool run_list(struct request *request)
{
    disks_clear(&request->disks);
    job_list_free(request->list);
    request->list = NULL;
    call_error_clear(&request->call_error);
    return call_disks(request_handle(request), &request->disks, &request->call_error) &&
           call_rows(request_handle(request), &request->disks, &request->list,
                     &request->call_error);
}

/* A machine has to know: that the domain's job lock is held for longer than libvirt waits for it
 * tells nothing about the job. */
static bool run_urgent_list(struct request *request)
{
    bool went_well;
    do
        went_well = run_list(request);
    while (!went_well && request->call_error.code == VIR_ERR_OPERATION_TIMEOUT &&
           !atomic_load(&request->domain->given_up));
    return went_well;
}

static void leave_out(struct job_list *list, const char *id)
{
    const struct job_row *row = job_list_find(list, id);
    if (!row)
        return;
    struct job_row *left = &list->rows[row - list->rows];
    struct job_list single = {.count = 1, .rows = left};
    job_list_free_rows(&single);
    *left = list->rows[--list->count];
}

/* What is in the list of a job that has ended since it was asked for is older than that. */
static void leave_out_ended(const struct request *request)
{
    const struct facts *facts = request->domain->facts;
    const char *id;
    for (size_t i = 0; (id = job_id(request->domain, i)); i++)
        if (facts_has_changed_since(facts, id, request->change_count) &&
            !facts_is_active(facts, id))
            leave_out(request->list, id);
}

static void note_rows(const struct request *request)
{
    struct facts *facts = request->domain->facts;
    for (size_t i = 0; i < request->list->count; i++) {
        const bj_job_info *row = &request->list->rows[i].info;
        if (facts_has_changed_since(facts, row->id, request->change_count))
            continue;
        if (strcmp(row->type, FACTS_MIGRATION) == 0)
            facts_migration_row(facts, row->id);
        else
            facts_row(facts, row->id, row->ready);
    }
}

/* The jobs that were there before the connection ended: a copy is only the same if it leads to the
 * same target, and one that is not there any more may have switched its disk. */
static void judge_returned(struct request *request)
{
    struct domain *domain = request->domain;
    for (size_t i = 0; i < domain->disks.count && domain->stage == STAGE_UP; i++) {
        const char *disk = domain->disks.disks[i].target;
        enum copy_fate fate = copies_fate(&domain->copies, disk, &domain->disks);
        if (fate == COPY_UNKNOWN || fate == COPY_GOES_ON)
            continue;
        leave_out(request->list, disk);
        decide_by_xml(domain, disk, &domain->disks);
    }
    domain->is_returning = false;
}

/* A job has ended since the list was asked for, and may be in it; or has begun, and may not be. */
static bool is_stale(const struct request *request)
{
    return request->change_count != facts_change_count(request->domain->facts) &&
           request->lists < LISTS_MAX;
}

static bool make_again(struct request *request)
{
    uint64_t before = request->change_count;
    request->change_count = facts_change_count(request->domain->facts);
    request->lists++;
    if (request_submit(request))
        return true;
    request->change_count = before;
    return false;
}

/* Where memory is short the connection is over, and the asker has been answered. */
static void read_list(struct request *request)
{
    struct domain *domain = request->domain;
    domain_take_disks(domain, &request->disks);
    leave_out_ended(request);
    if (domain->is_returning && request->is_urgent)
        judge_returned(request);
    if (domain->stage == STAGE_UP) {
        note_rows(request);
        domain_note_copies(domain);
    }
    if (domain->stage == STAGE_UP && is_ahead(request) && !hold(request))
        domain_lose_memory(domain);
}

static bool listed(struct request *request, struct driver_reply *reply)
{
    if (!request->held) {
        if (is_stale(request) && make_again(request))
            return false;
        read_list(request);
        if (request->held)
            return false;
    }
    reply->list = request->list;
    request->list = NULL;
    return true;
}

static struct request *first_complete(const struct domain *domain)
{
    struct request *request = domain->requests;
    while (request && !(request->held && !is_ahead(request)))
        request = request->next;
    return request;
}

static void domain_release_lists(struct domain *domain)
{
    for (struct request *request; (request = first_complete(domain));)
        request_finish(request);
}

static int domain_query(struct driver *driver, struct driver_request *asker, bool urgent)
{
    static const struct request_kind anyone = {.call = run_list, .over = listed};
    static const struct request_kind machine = {.call = run_urgent_list, .over = listed};
    struct request *request = request_new(driver, urgent ? &machine : &anyone, asker, NULL);
    if (request) {
        request->is_urgent = urgent;
        request->change_count = facts_change_count(domain_of(driver)->facts);
    }
    return request_launch(request);
}
#undef LISTS_MAX
/* ---- core/libvirt/domain_operations.c ---- */

/*
 * The driver's operations on a domain; see domain_operations.h.
 */

struct driver_snapshot {
    int nothing; /* libvirt itself reports a switch: nothing has to be recorded before */
};

/* ------------------------------------------------------------------------ verbs */

static bool libvirt_domain_operations__is_backup(const struct request *request)
{
    return strcmp(request->disk, BACKUP_ID) == 0;
}

static bool run_pivot(struct request *request)
{
    const struct call_run run = {
        .disk = request->disk,
        .mirror = request->mirror,
        .has_ended = &request->is_moot,
        .given_up = &request->domain->given_up,
    };
    return call_pivot(request_handle(request), &run, &request->call_error);
}

static bool run_abort(struct request *request)
{
    virDomainPtr handle = request_handle(request);
    return libvirt_domain_operations__is_backup(request) ? call_abort_backup(handle, &request->call_error)
                              : call_abort(handle, request->disk, &request->call_error);
}

static bool run_set_speed(struct request *request)
{
    virDomainPtr handle = request_handle(request);
    return libvirt_domain_operations__is_backup(request)
               ? call_set_backup_speed(handle, request->speed, &request->call_error)
               : call_set_speed(handle, request->disk, request->speed, &request->call_error);
}

static enum verdict judge_pivot(const struct request *request)
{
    return call_verdict(request_handle(request), request->disk, JUDGE_PIVOT, &request->call_error);
}

static enum verdict judge_abort(const struct request *request)
{
    return call_verdict(request_handle(request), request->disk, JUDGE_ABORT, &request->call_error);
}

static enum verdict judge_speed(const struct request *request)
{
    return call_verdict(request_handle(request), request->disk, JUDGE_SPEED, &request->call_error);
}

static int refuse_verb(struct driver *driver, struct driver_request *asker, const char *what)
{
    return request_answer_later(driver, asker, BJ_E_UNSUPPORTED,
                                text_printf("libvirt has no call that %s", what));
}

static const struct request_kind pivot_kind = {
    .call = run_pivot,
    .judge = judge_pivot,
    .is_pivot = true,
};
static const struct request_kind abort_kind = {.call = run_abort, .judge = judge_abort};
static const struct request_kind speed_kind = {.call = run_set_speed, .judge = judge_speed};

/* The mirror is that of the run which the verb is for. */
static int bind_verb(struct request *request)
{
    const struct domain *domain = request->domain;
    const char *mirror = copies_mirror(&domain->copies, request->disk);

    request->change_count = facts_change_count(domain->facts);
    request->mirror = mirror ? strdup(mirror) : NULL;
    return !mirror || request->mirror ? BJ_OK : BJ_E_NOMEM;
}

static int launch_verb(struct driver *driver, const struct request_kind *kind,
                       struct driver_request *asker, const char *disk, int64_t speed)
{
    struct request *request = request_new(driver, kind, asker, disk);
    if (!request)
        return BJ_E_NOMEM;
    request->speed = speed;
    if (bind_verb(request) != BJ_OK) {
        request_free(request);
        return BJ_E_NOMEM;
    }
    if (kind->is_pivot)
        facts_pivot_sent(domain_of(driver)->facts, disk);
    return request_launch(request);
}

/* libvirt would let a verb wait until the migration is over, and then it may meet another job. */
static int refuse_in_migration(struct driver *driver, struct driver_request *asker)
{
    return request_answer_later(
        driver, asker, BJ_E_UNSUPPORTED,
        text_printf("it is a part of the domain's migration, and no verb is for a part: "
                    "virDomainAbortJob (virsh domjobabort) cancels the migration"));
}

static int domain_verb(struct driver *driver, struct driver_request *asker,
                       const struct driver_verb *verb)
{
    struct facts *facts = domain_of(driver)->facts;
    const char *id = verb->id;

    if (facts_is_migration(facts, id))
        return refuse_in_migration(driver, asker);
    if (driver->capabilities.denial)
        return request_deny(driver, asker);
    switch (verb->verb) {
    case VERB_COMPLETE:
        return launch_verb(driver, &pivot_kind, asker, id, 0);
    case VERB_CANCEL:
        return launch_verb(driver, &abort_kind, asker, id, 0);
    case VERB_FORCE:
        if (facts_is_ready(facts, id))
            return refuse_verb(driver, asker, "aborts a ready copy by force: abort it softly");
        return launch_verb(driver, &abort_kind, asker, id, 0);
    case VERB_SET_SPEED:
        return launch_verb(driver, &speed_kind, asker, id, verb->speed);
    case VERB_PAUSE:
        return refuse_verb(driver, asker, "pauses a block job");
    case VERB_RESUME:
        return refuse_verb(driver, asker, "resumes a block job");
    case VERB_CHANGE:
        return refuse_verb(driver, asker, "changes a block job's options");
    case VERB_FINALIZE:
        return refuse_verb(driver, asker, "finalizes a block job: it does so itself");
    case VERB_DISMISS:
        return refuse_verb(driver, asker, "dismisses a block job: it does so itself");
    }
    return BJ_E_UNSUPPORTED;
}

static void domain_prepare(struct driver *driver, struct driver_request *request, const char *id)
{
    (void)driver, (void)request, (void)id; /* a call of libvirt's has nothing to be made before */
}

static void domain_unprepare(struct driver_request *request)
{
    (void)request;
}

/* ----------------------------------------------------------------------- starts */

static bool domain_has_command(struct driver *driver, const char *command)
{
    (void)driver;
    return start_is_known(command);
}

static bool run_nothing(struct request *request)
{
    (void)request;
    return true;
}

static void tell_nobody(struct driver_request *asker, struct driver_reply *reply)
{
    (void)asker, (void)reply;
}

/* Any call does it. */
static void domain_listen(struct driver *driver)
{
    static const struct request_kind kind = {.call = run_nothing};
    static struct driver_request nobody = {.done = tell_nobody};
    if (!domain_of(driver)->listens)
        request_launch(request_new(driver, &kind, &nobody, NULL));
}

static bool run_disks(struct request *request)
{
    return call_disks(request_handle(request), &request->disks, &request->call_error);
}
/* This XML was read alone: of a backup what the last list said still counts. */
static void take_xml(struct request *request)
{
    struct disks *known = &request->domain->disks;
    request->disks.backup = known->backup;
    known->backup = NULL;
    domain_take_disks(request->domain, &request->disks);
}

static bool probed(struct request *request, struct driver_reply *reply)
{
    (void)reply;
    take_xml(request);
    return true;
}

/* Disks come and go: they are looked up for each start. */
static int domain_takes(struct driver *driver, const char *command)
{
    (void)driver, (void)command;
    return -1;
}

static int domain_probe(struct driver *driver, struct driver_request *asker)
{
    static const struct request_kind kind = {.call = run_disks, .over = probed};
    return request_launch(request_new(driver, &kind, asker, NULL));
}

static const char *target_of(struct driver *driver, const char *name)
{
    const struct disk *disk = disks_find(&domain_of(driver)->disks, name);
    return disk ? disk->target : name;
}

static const char *domain_id_of(struct driver *driver, const char *name)
{
    const char *target = target_of(driver, name);
    return disks_list_has(domain_of(driver)->disks.backup, target) ? BACKUP_ID : target;
}

/* The id of the job that it starts. */
static const char *start_id(struct driver *driver, const struct start *start)
{
    return start_is_backup(start) ? BACKUP_ID : target_of(driver, start_disk(start));
}

/* malloc'ed; NULL: no memory. */
static char *list_start(const struct start *start, const char *id)
{
    const char *disks = start ? start_disks(start) : "";
    char *line = NULL;
    if (disks)
        return strdup(disks);
    return asprintf(&line, "%s\n", id) < 0 ? NULL : line;
}

/* What is wrong with the arguments is said when it is to be started. */
static int domain_plan_start(struct driver *driver, const char *command,
                             const struct json_t *arguments, struct start_plan *ret)
{
    struct start *start = NULL;
    struct text *text = NULL;
    int r = start_parse(command, arguments, &start, &text);
    text_unref(text);
    text = NULL;
    if (r == BJ_OK)
        r = start_prepare(start, &domain_of(driver)->disks, &text);
    text_unref(text);
    if (r == BJ_E_NOMEM) {
        start_free(start);
        return r;
    }

    const char *id = start ? start_id(driver, start) : "";
    *ret = (struct start_plan){
        .command = command,
        .id = strdup(id),
        .members = strdup(""),
        .device = strdup(id),
        .disks = list_start(start, id),
        .type = start ? start_type(start) : "",
    };
    start_free(start);
    if (ret->id && ret->members && ret->device && ret->disks)
        return BJ_OK;
    start_plan_clear(ret);
    return BJ_E_NOMEM;
}

/* Where a copy leads to is read at once: its end may come before the next list. */
static bool run_start(struct request *request)
{
    struct call_error ignored = {0};
    if (!call_start(request_handle(request), request->start, request->disk, &request->call_error))
        return false;
    call_disks(request_handle(request), &request->disks, &ignored);
    call_error_clear(&ignored);
    return true;
}

static bool started(struct request *request, struct driver_reply *reply)
{
    (void)reply;
    if (request->disks.disks)
        take_xml(request);
    domain_note_copies(request->domain);
    return true;
}

static int launch_start(struct driver *driver, struct driver_request *asker, struct start *start)
{
    static const struct request_kind kind = {.call = run_start, .over = started};
    struct request *request = request_new(driver, &kind, asker, start_id(driver, start));
    if (request)
        request->start = start;
    else
        start_free(start);

    if (!request || facts_start_sent(request->domain->facts, request->disk) == BJ_OK)
        return request_launch(request);
    request_free(request);
    return BJ_E_NOMEM;
}

/* It was JSON when it was asked. */
static int read_error(const char *command, const json_error_t *error, struct text **ret_text)
{
    if (json_error_code(error) == json_error_out_of_memory)
        return BJ_E_NOMEM;
    *ret_text = text_printf("%s: a number in its arguments is too large for libvirt", command);
    return BJ_E_INVAL;
}

static int domain_execute(struct driver *driver, struct driver_request *asker,
                          const struct driver_command *raw)
{
    const char *command = raw->name, *arguments = raw->arguments;
    if (start_is_known(command) && driver->capabilities.denial)
        return request_deny(driver, asker);

    struct start *start = NULL;
    struct text *text = NULL;
    json_error_t error;
    json_t *object = arguments ? json_loads(arguments, 0, &error) : json_object();
    int r = BJ_E_UNSUPPORTED;

    if (!start_is_known(command))
        text = text_printf("%s: raw commands are not for libvirt's domains, which they would "
                           "taint: use libvirt's own calls, or a monitor of QEMU's",
                           command);
    else if (object)
        r = start_parse(command, object, &start, &text);
    else
        r = arguments ? read_error(command, &error, &text) : BJ_E_NOMEM;
    json_decref(object);
    if (r == BJ_OK)
        r = start_prepare(start, &domain_of(driver)->disks, &text);
    if (r == BJ_OK)
        return launch_start(driver, asker, start);
    start_free(start);
    return r == BJ_E_NOMEM ? r : request_answer_later(driver, asker, r, text);
}

/* ------------------------------------------------------------------ the switch */

static bool snapshot_taken(struct request *request, struct driver_reply *reply)
{
    (void)request;
    reply->snapshot = calloc(1, sizeof *reply->snapshot);
    return true;
}

static bool compared(struct request *request, struct driver_reply *reply)
{
    reply->switched = facts_switched(request->domain->facts, request->disk);
    return true;
}

static bool run_compare(struct request *request)
{
    return call_disks(request_handle(request), &request->disks, &request->call_error);
}

/* That the disk is what it was says nothing: libvirtd may have been killed over a pivot of which
 * its successor does not know. */
static bool compared_by_xml(struct request *request, struct driver_reply *reply)
{
    const struct copies *copies = &request->domain->copies;
    if (copies_has_switched(copies, request->disk, &request->disks))
        reply->switched = SWITCHED;
    return true;
}

static int domain_take_snapshot(struct driver *driver, struct driver_request *asker, const char *id,
                                const char *device, bool urgent)
{
    static const struct request_kind kind = {.over = snapshot_taken};
    (void)device, (void)urgent;
    return request_launch(request_new(driver, &kind, asker, id));
}

static int domain_compare_snapshot(struct driver *driver, struct driver_request *asker,
                                   const char *id, const struct driver_snapshot *before)
{
    static const struct request_kind known = {.over = compared};
    static const struct request_kind unknown = {.call = run_compare, .over = compared_by_xml};
    const struct domain *domain = domain_of(driver);
    bool is_known = facts_switched(domain->facts, id) != SWITCH_UNKNOWN;
    (void)before;
    return request_launch(request_new(driver, is_known ? &known : &unknown, asker, id));
}

static void domain_free_snapshot(struct driver_snapshot *snapshot)
{
    free(snapshot);
}

/* -------------------------------------------------------------------------- all */

static struct text *domain_stage(struct driver *driver, int64_t timeout_ms)
{
    const struct domain *domain = domain_of(driver);
    if (domain->stage == STAGE_ASLEEP)
        return text_printf("%s: the domain was not started again", text_str(domain->uri));
    return text_printf("libvirt did not answer for %s within %.10g s: its daemon or the way to it "
                       "may hang, or the domain's job lock is held",
                       text_str(domain->uri), (double)timeout_ms / 1000.);
}

static const struct driver_ops domain_ops = {
    .execute = domain_execute,
    .verb = domain_verb,
    .prepare = domain_prepare,
    .unprepare = domain_unprepare,
    .query = domain_query,
    .take_snapshot = domain_take_snapshot,
    .compare_snapshot = domain_compare_snapshot,
    .free_snapshot = domain_free_snapshot,
    .withdraw = domain_withdraw,
    .abandon = domain_abandon,
    .has_command = domain_has_command,
    .listen = domain_listen,
    .plan_start = domain_plan_start,
    .id_of = domain_id_of,
    .probe = domain_probe,
    .takes = domain_takes,
    .inherit = domain_inherit,
    .stage = domain_stage,
    .close = domain_close,
};
/* ---- core/libvirt/domain_request.c ---- */

/*
 * A request's way to libvirt and back; see domain_request.h.
 */

/* Requests that wait for libvirt: more are refused. */
#define REQUESTS_MAX 1024

static void request_free(struct request *request)
{
    domain_unref(request->domain);
    free(request->disk);
    free(request->mirror);
    start_free(request->start);
    text_unref(request->text);
    free(request->call_error.message);
    disks_clear(&request->disks);
    job_list_free(request->list);
    free(request);
}

/* -------------------------------------------------------------------- answering */

static void link_request(struct request *request)
{
    struct domain *domain = request->domain;
    request->next = domain->requests;
    if (request->next)
        request->next->prev = request;
    domain->requests = request;
    domain->request_count++;
}

static void unlink_request(struct request *request)
{
    if (request->prev)
        request->prev->next = request->next;
    else
        request->domain->requests = request->next;
    if (request->next)
        request->next->prev = request->prev;
    request->prev = request->next = NULL;
    request->domain->request_count--;
}

/* The asker is answered now, and only once. The call may still be under way. */
static void answer(struct request *request, struct driver_reply *reply)
{
    struct driver_request *asker = request->asker;
    request->asker = NULL;
    unlink_request(request);
    if (asker)
        asker->done(asker, reply);
}

static void request_verbs_are_moot(struct domain *domain, const char *disk)
{
    for (struct request *request = domain->requests; request; request = request->next)
        if (request->kind->judge && strcmp(request->disk, disk) == 0)
            atomic_store(&request->is_moot, true);
}

static void request_answer_all(struct domain *domain, int error, const char *text)
{
    while (domain->requests) {
        struct request *request = domain->requests;
        answer(request, &(struct driver_reply){.error = error, .is_lost = true, .text = text});
        if (request->held)
            request_free(request); /* no call brings it back */
    }
}

/* --------------------------------------------------------------------- requests */

static const char *end_text(const struct request *request)
{
    return request->is_gone ? "the domain does not run any more"
                            : "the connection to libvirt has ended";
}

_Static_assert(VIR_ERR_INVALID_ARG == 8, "NO_SUCH_JOB_CLASS is that number");
_Static_assert(VIR_ERR_OPERATION_DENIED == 29, "DENIED_CLASS is that number");

static void fill_error(struct request *request, struct driver_reply *reply)
{
    const struct call_error *error = &request->call_error;

    if (request->is_lost || request->is_gone) {
        reply->error = BJ_E_DISCONNECTED;
        reply->is_lost = true;
        reply->text = end_text(request);
        return;
    }
    reply->error = error->message ? BJ_E_REFUSED : BJ_E_NOMEM;
    reply->text = error->message ? error->message : driver_bj_error_text(BJ_E_NOMEM);
    (void)snprintf(request->error_class, sizeof request->error_class, "%d", error->code);
    reply->error_class = error->message ? request->error_class : NULL;
    reply->refusal = request->refusal;
}

/* A pivot whose reply is lost may have been taken. */
static void note_result(const struct request *request, bool went_well)
{
    struct facts *facts = request->domain->facts;
    bool is_refused = !went_well && !request->is_lost && !request->is_gone;

    if (facts && request->start) {
        facts_start_over(facts, request->disk, went_well);
        if (went_well)
            request_verbs_are_moot(request->domain, request->disk); /* they were for another */
    }
    if (facts && request->kind->is_pivot && is_refused)
        facts_pivot_refused(facts, request->disk, request->change_count);
}

static bool request_finish(struct request *request)
{
    struct driver_reply reply = {.error = request->error, .text = text_str(request->text)};

    note_result(request, request->went_well);
    if (request->kind->call && !request->went_well)
        fill_error(request, &reply);
    else if (request->kind->over && request->asker && !request->kind->over(request, &reply))
        return false;
    if (request->asker)
        answer(request, &reply);
    job_list_free(reply.list); /* unless somebody has kept it */
    free(reply.snapshot);      /* the same, as driver_ops.free_snapshot does */
    request_free(request);
    return true;
}

static void on_called(struct call *call)
{
    struct request *request = (struct request *)call;
    struct domain *domain = domain_ref(request->domain);
    bool is_up = domain->stage == STAGE_UP;

    request->is_lost &= is_up;
    bool is_over = is_up && (request->is_lost || request->is_gone);
    bool is_gone = request->is_gone && !request->is_lost;
    struct text *text = text_printf("%s: %s", text_str(domain->uri), end_text(request));
    request_finish(request);
    domain->driver.may_return = domain->is_persistent;
    if (is_over && domain->stage == STAGE_UP)
        domain_go_down(domain, BJ_E_DISCONNECTED, is_gone, text);
    else
        text_unref(text);
    domain_unref(domain);
}

static void on_dropped(struct call *call)
{
    request_free((struct request *)call);
}

/* What the call causes is heard of. */
static bool libvirt_domain_request__listen(struct request *request)
{
    char *why;
    if (session_listen(request->domain->session, &why))
        return true;
    request->call_error =
        (struct call_error){.code = VIR_ERR_OPERATION_UNSUPPORTED, .message = why};
    return false;
}

static bool make_call(struct request *request)
{
    if (atomic_load(&request->is_moot))
        return call_refuse_ended(&request->call_error);
    return libvirt_domain_request__listen(request) && request->kind->call(request);
}

static void run_request(struct call *call)
{
    struct request *request = (struct request *)call;
    request->went_well = make_call(request);
    request->is_gone = !request->went_well && request->call_error.message &&
                       call_found_gone(session_domain(request->domain->session),
                                       &request->call_error, &request->domain->given_up);
    request->is_lost = !request->went_well && !session_is_alive(request->domain->session);
    if (!request->went_well && !request->is_lost && !request->is_gone && request->kind->judge)
        request->refusal = request->kind->judge(request);
    session_called(request->domain->session);
}

static void run_later(struct loop_task *task)
{
    request_finish(container_of(task, struct request, later));
}

static bool request_submit(struct request *request)
{
    if (request->kind->call) {
        request->call = (struct call){.run = run_request, .done = on_called, .dropped = on_dropped};
        return lane_submit(request->domain->lane, &request->call);
    }
    request->later.run = run_later;
    return loop_post(request->domain->loop, &request->later);
}

static struct request *request_new(struct driver *driver, const struct request_kind *kind,
                            struct driver_request *asker, const char *disk)
{
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->kind = kind;
    request->domain = domain_ref(domain_of(driver));
    request->asker = asker;
    request->disk = disk ? strdup(disk) : NULL;
    if (!disk || request->disk)
        return request;
    request_free(request);
    return NULL;
}

static int request_launch(struct request *request)
{
    if (!request)
        return BJ_E_NOMEM;
    int r = request->domain->request_count < REQUESTS_MAX ? BJ_OK : BJ_E_BUSY;
    if (r == BJ_OK)
        r = request_submit(request) ? BJ_OK : BJ_E_NOMEM;
    if (r == BJ_OK) {
        link_request(request);
        return BJ_OK;
    }
    note_result(request, false);
    request_free(request);
    return r;
}

static int request_answer_later(struct driver *driver, struct driver_request *asker, int error,
                         struct text *text)
{
    static const struct request_kind kind = {0};
    struct request *request = request_new(driver, &kind, asker, NULL);
    if (request) {
        request->error = error;
        request->text = text;
    } else {
        text_unref(text);
    }
    return request_launch(request);
}

static bool denied(struct request *request, struct driver_reply *reply)
{
    const struct denial *denial = request->domain->driver.capabilities.denial;
    reply->error = BJ_E_REFUSED;
    reply->error_class = denial->error_class;
    reply->text = denial->text;
    return true;
}

static int request_deny(struct driver *driver, struct driver_request *asker)
{
    static const struct request_kind kind = {.over = denied};
    return request_launch(request_new(driver, &kind, asker, NULL));
}

static void domain_abandon(struct driver *driver, int error, const char *text)
{
    request_answer_all(domain_of(driver), error, text);
}

static bool domain_withdraw(struct driver *driver, struct driver_request *asker)
{
    struct request *request = domain_of(driver)->requests;
    while (request && request->asker != asker)
        request = request->next;
    if (!request || !request->kind->call || request->held ||
        !lane_withdraw(request->domain->lane, &request->call))
        return false;
    note_result(request, false);
    unlink_request(request);
    request_free(request);
    return true;
}

static virDomainPtr request_handle(const struct request *request)
{
    return session_domain(request->domain->session);
}
#undef REQUESTS_MAX
/* ---- core/libvirt/endpoint.c ---- */

/*
 * Where connections lead to; see endpoint.h.
 */

/* Attempts at once. sshd refuses those that have not logged in beyond ten (MaxStartups), libvirtd
 * beyond twenty (max_anonymous_clients). */
enum { WINDOW_MAX = 8 };

struct endpoint {
    struct endpoint *next;
    unsigned refs; /* each attempt has one */
    char *uri;     /* NULL: libvirt's default */
    bool read_only;
    struct lane_group *group;

    unsigned attempts;     /* under way */
    unsigned window;       /* so many may be */
    struct opening *first; /* they wait, in the order of their numbers */
    struct opening **last;
    unsigned waiting;
    uint64_t last_number;
};

struct attempt {
    struct call call; /* first */
    struct endpoint *endpoint;
    uint64_t covers; /* the number of the last that waited when it began */
};

/* All of them. The pool's lock may be taken under this one. */
static struct {
    pthread_mutex_t lock;
    struct endpoint *first;
} endpoints = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void libvirt_endpoint__lock(void)
{
    pthread_mutex_lock(&endpoints.lock);
}

static void libvirt_endpoint__unlock(void)
{
    pthread_mutex_unlock(&endpoints.lock);
}

/* What the parent waits for is the parent's. */
static void libvirt_endpoint__begin_child(void)
{
    endpoints.first = NULL;
    libvirt_endpoint__unlock();
}

static void init_endpoints(void)
{
    pool_init();
    pthread_atfork(libvirt_endpoint__lock, libvirt_endpoint__unlock, libvirt_endpoint__begin_child);
}

/* ---------------------------------------------------------------------- memory */

static void endpoint_free(struct endpoint *endpoint)
{
    lane_group_unref(endpoint->group);
    free(endpoint->uri);
    free(endpoint);
}

static struct endpoint *endpoint_new(const char *uri, bool read_only)
{
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return NULL;
    endpoint->refs = 1;
    endpoint->read_only = read_only;
    endpoint->last = &endpoint->first;
    endpoint->window = 1;
    endpoint->uri = uri ? uri_unattended(uri) : NULL;
    endpoint->group = lane_group_new();
    if (endpoint->group && (endpoint->uri || !uri))
        return endpoint;
    endpoint_free(endpoint);
    return NULL;
}

static bool is_same(const struct endpoint *one, const struct endpoint *other)
{
    bool same_uri =
        one->uri && other->uri ? strcmp(one->uri, other->uri) == 0 : one->uri == other->uri;
    return same_uri && one->read_only == other->read_only;
}

static struct endpoint *endpoint_get(const char *uri, bool read_only)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_endpoints);

    struct endpoint *wanted = endpoint_new(uri, read_only);
    if (!wanted)
        return NULL;
    libvirt_endpoint__lock();
    struct endpoint *endpoint = endpoints.first;
    while (endpoint && !is_same(endpoint, wanted))
        endpoint = endpoint->next;
    if (endpoint) {
        endpoint->refs++;
    } else {
        wanted->next = endpoints.first;
        endpoints.first = wanted;
    }
    libvirt_endpoint__unlock();
    if (!endpoint)
        return wanted;
    endpoint_free(wanted);
    return endpoint;
}

/* The lock is held. One of a parent is not in the list. */
static void libvirt_endpoint__unlist(const struct endpoint *endpoint)
{
    struct endpoint **at = &endpoints.first;
    while (*at && *at != endpoint)
        at = &(*at)->next;
    if (*at)
        *at = endpoint->next;
}

static struct endpoint *endpoint_unref(struct endpoint *endpoint)
{
    if (!endpoint)
        return NULL;
    libvirt_endpoint__lock();
    bool is_last = --endpoint->refs == 0;
    if (is_last)
        libvirt_endpoint__unlist(endpoint);
    libvirt_endpoint__unlock();
    if (is_last)
        endpoint_free(endpoint);
    return NULL;
}

static struct lane_group *endpoint_group(struct endpoint *endpoint)
{
    return endpoint->group;
}

/* -------------------------------------------------------------------- attempts */

/* The lock is held, for all three. */
static struct opening *take_first(struct endpoint *endpoint)
{
    struct opening *opening = endpoint->first;
    if (!opening)
        return NULL;
    if (!(endpoint->first = opening->next))
        endpoint->last = &endpoint->first;
    endpoint->waiting--;
    return opening;
}

static void run_attempt(struct call *call);
static void attempt_over(struct call *call);

static bool begin_attempt(struct endpoint *endpoint)
{
    struct lane *lane = lane_new(NULL, endpoint->group);
    struct attempt *attempt = calloc(1, sizeof *attempt);
    if (attempt)
        *attempt = (struct attempt){
            .call = {.run = run_attempt, .dropped = attempt_over},
            .endpoint = endpoint,
            .covers = endpoint->last_number,
        };
    bool begun = lane && attempt && lane_submit(lane, &attempt->call);
    if (begun) {
        endpoint->attempts++;
        endpoint->refs++;
    } else {
        free(attempt);
    }
    lane_unref(lane);
    return begun;
}

/* False: those who wait, wait for nothing. */
static bool begin_attempts(struct endpoint *endpoint)
{
    while (endpoint->attempts < endpoint->window && endpoint->attempts < endpoint->waiting &&
           begin_attempt(endpoint))
        continue;
    return endpoint->attempts > 0 || endpoint->waiting == 0;
}

static void note_answer(struct endpoint *endpoint, bool is_good)
{
    libvirt_endpoint__lock();
    endpoint->window *= 2;
    if (endpoint->window > WINDOW_MAX)
        endpoint->window = WINDOW_MAX;
    if (!is_good)
        endpoint->window = 1;
    libvirt_endpoint__unlock();
}

/* The one who has waited longest gets it; nobody may be left who wants it. */
static void hand_over(struct endpoint *endpoint, virConnectPtr handle)
{
    libvirt_endpoint__lock();
    struct opening *opening = take_first(endpoint);
    libvirt_endpoint__unlock();
    if (opening)
        opening->opened(opening, handle, BJ_OK, NULL);
    else
        virConnectClose(handle);
}

static struct opening *take_covered(struct endpoint *endpoint, uint64_t covers)
{
    libvirt_endpoint__lock();
    bool is_covered = endpoint->first && endpoint->first->number <= covers;
    struct opening *opening = is_covered ? take_first(endpoint) : NULL;
    libvirt_endpoint__unlock();
    return opening;
}

/* Nobody listens on its socket, or its host is not reached; libvirt has the system's error beside
 * its own. */
static bool lacks_daemon(void)
{
    const virError *error = virGetLastError();
    if (!error || error->code != VIR_ERR_SYSTEM_ERROR)
        return false;
    switch (error->int1) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static void tell_failure(struct endpoint *endpoint, uint64_t covers, int error, bool is_absent,
                         const char *why)
{
    for (struct opening *opening; (opening = take_covered(endpoint, covers));) {
        opening->is_absent = is_absent;
        opening->opened(opening, NULL, error, why ? strdup(why) : NULL);
    }
}

static void run_attempt(struct call *call)
{
    struct attempt *attempt = (struct attempt *)call;
    struct endpoint *endpoint = attempt->endpoint;
    virConnectPtr handle = NULL;

    int r = service_start();
    if (r == BJ_OK) /* nobody is asked for a password: auth.conf has it */
        handle = endpoint->read_only ? virConnectOpenReadOnly(endpoint->uri)
                                     : virConnectOpen(endpoint->uri);
    const char *why = handle || r != BJ_OK ? NULL : virGetLastErrorMessage();
    bool is_absent = why && lacks_daemon();
    note_answer(endpoint, handle != NULL);
    if (handle)
        hand_over(endpoint, handle);
    else
        tell_failure(endpoint, attempt->covers, r, is_absent, why);
}

static void attempt_over(struct call *call)
{
    struct endpoint *endpoint = ((struct attempt *)call)->endpoint;
    free(call);
    libvirt_endpoint__lock();
    endpoint->attempts--;
    if (endpoint->attempts == 0 && endpoint->waiting == 0)
        endpoint->window = 1; /* it may be another time before the next one comes */
    bool goes_on = begin_attempts(endpoint);
    libvirt_endpoint__unlock();
    if (!goes_on)
        tell_failure(endpoint, UINT64_MAX, BJ_E_SYSTEM, false, NULL);
    endpoint_unref(endpoint);
}

static bool endpoint_open(struct endpoint *endpoint, struct opening *opening)
{
    opening->next = NULL;
    opening->is_absent = false;
    libvirt_endpoint__lock();
    opening->number = ++endpoint->last_number;
    *endpoint->last = opening;
    endpoint->last = &opening->next;
    endpoint->waiting++;
    bool accepted = begin_attempts(endpoint);
    if (!accepted)
        take_first(endpoint); /* it is alone */
    libvirt_endpoint__unlock();
    return accepted;
}

static bool endpoint_withdraw(struct endpoint *endpoint, struct opening *opening)
{
    libvirt_endpoint__lock();
    struct opening **at = &endpoint->first;
    while (*at && *at != opening)
        at = &(*at)->next;
    bool found = *at != NULL;
    if (found && !(*at = opening->next))
        endpoint->last = at;
    endpoint->waiting -= found;
    libvirt_endpoint__unlock();
    return found;
}
/* ---- core/libvirt/facts.c ---- */

/*
 * libvirt's and QEMU's words about a domain's jobs, put together; see facts.h. How QEMU's are read
 * is in facts_qemu.c.
 *
 * libvirt passes on what QEMU says when it hears it, and says its own when it has dealt with it. It
 * deals with a job to its end before it starts another on the same disk. So it is always
 *
 *   QEMU created .. QEMU READY, libvirt READY .. QEMU COMPLETED, CANCELLED .. libvirt's end
 *
 * and all of that before the next created.
 */
/* ---- core/libvirt/facts_parts.h ---- */

/*
 * What the two sources of facts share: libvirt's words (facts.c) and QEMU's (facts_qemu.c); see
 * facts.h.
 */

enum qemu_end { QEMU_SAYS_NOTHING, QEMU_COMPLETED, QEMU_FAILED, QEMU_CANCELLED };

/* The job of a disk, or the backup. Lives as long as the facts. */
struct run {
    bool active;      /* it is there, and libvirt has not reported its end */
    uint64_t changed; /* the change count when it last began or ended */
    bool ready;
    bool ready_emitted;
    bool pivot_sent;
    bool is_migration;
    bool is_known;    /* whether it is a migration's, where QEMU is silent */
    bool is_followed; /* this libvirtd knows it from its beginning */

    /* Said by QEMU of the run that is active. */
    enum qemu_end end;
    char *error; /* QEMU_FAILED: its text; NULL: no memory for it */
    int64_t ready_us;
    int64_t end_us;

    unsigned starts; /* of ours that are on their way */
    bool begun;      /* what is known above is of a run that one of them has begun */
    bool taken;      /* libvirt has taken one, and nothing of its run was reported before */

    enum disk_switch switched; /* of the last that is over */
    char *alias;               /* of the disk; NULL: not known */
    struct backup_run backup;
    char disk[]; /* or BACKUP_ID */
};

struct facts {
    void (*emit)(void *user, const struct fact *fact);
    void *user;
    bool has_statuses; /* QEMU tells of each new run, and libvirt passes it on */
    bool lacks_qemu;   /* no event of QEMU's comes */
    bool aborts_hard;  /* this libvirt spoils a ready copy that it aborts */
    uint64_t change_count;
    size_t count, room;
    struct run **runs; /* sorted by disk */
};

/* *ret is NULL if it is not one that is to be remembered. BJ_OK or BJ_E_NOMEM. */
static int facts_get_run(struct facts *facts, const char *disk, struct run **ret);

static void facts_clear_run(struct run *run);

/* A new run: nothing that was known is of it. */
static void facts_begin_run(struct facts *facts, struct run *run);

/* Something was reported of the job that the disk has. */
static void facts_note_run(struct facts *facts, struct run *run);

/* What comes now is of the run before the one that is being started. */
static bool facts_is_of_earlier_run(const struct facts *facts, const struct run *run);

/* Fills in whose fact it is. False: it is nobody's. */
static bool facts_address(const struct facts *facts, const struct run *run, const char *type,
                   struct fact *fact);

enum {
    DISKS_MAX = 4096, /* a domain has a handful; a peer that names more wants our memory */
    WORD_MAX_LEN = 1024
};

static const char *facts_type_name(int type)
{
    switch (type) {
    case FACTS_PULL:
        return "stream";
    case FACTS_COPY:
        return "mirror";
    case FACTS_COMMIT:
    case FACTS_ACTIVE_COMMIT:
        return "commit";
    case FACTS_BACKUP:
        return "backup";
    default:
        return "";
    }
}

/* -------------------------------------------------------------------- memory */

static struct facts *facts_new(void (*emit)(void *user, const struct fact *fact), void *user)
{
    struct facts *facts = calloc(1, sizeof *facts);
    if (facts) {
        facts->emit = emit;
        facts->user = user;
    }
    return facts;
}

static void facts_free(struct facts *facts)
{
    if (!facts)
        return;
    for (size_t i = 0; i < facts->count; i++) {
        free(facts->runs[i]->error);
        free(facts->runs[i]->alias);
        backup_run_clear(&facts->runs[i]->backup);
        free(facts->runs[i]);
    }
    free(facts->runs);
    free(facts);
}

/* Where the disk is, or belongs. */
static size_t place_of(const struct facts *facts, const char *disk)
{
    size_t low = 0, high = facts->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(facts->runs[middle]->disk, disk) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct run *run_at(const struct facts *facts, size_t place, const char *disk)
{
    bool is_there = place < facts->count && strcmp(facts->runs[place]->disk, disk) == 0;
    return is_there ? facts->runs[place] : NULL;
}

static struct run *find_run(const struct facts *facts, const char *disk)
{
    return run_at(facts, place_of(facts, disk), disk);
}

static bool libvirt_facts__make_room(struct facts *facts)
{
    if (facts->count < facts->room)
        return true;
    size_t room = facts->room ? facts->room * 2 : 8;
    struct run **runs = reallocarray(facts->runs, room, sizeof(struct run *));
    if (!runs)
        return false;
    facts->runs = runs;
    facts->room = room;
    return true;
}

static bool is_name(const char *disk)
{
    return *disk && strlen(disk) <= WORD_MAX_LEN;
}

static int facts_get_run(struct facts *facts, const char *disk, struct run **ret)
{
    size_t place = place_of(facts, disk);
    *ret = run_at(facts, place, disk);
    if (*ret || !is_name(disk) || facts->count == DISKS_MAX)
        return BJ_OK;

    size_t len = strlen(disk);
    struct run *run = libvirt_facts__make_room(facts) ? calloc(1, sizeof *run + len + 1) : NULL;
    if (!run)
        return BJ_E_NOMEM;
    memcpy(run->disk, disk, len + 1);
    memmove(&facts->runs[place + 1], &facts->runs[place],
            (facts->count - place) * sizeof(struct run *));
    facts->runs[place] = *ret = run;
    facts->count++;
    return BJ_OK;
}

/* --------------------------------------------------------------------- settings */

static void facts_set_version(struct facts *facts, unsigned long version)
{
    facts->aborts_hard = version > 0 && version < FACTS_FIRST_SOFT_ABORT;
}

static void facts_lack_qemu(struct facts *facts)
{
    facts->lacks_qemu = true;
}

static bool same_text(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* A disk that was unplugged may have left it to another. */
static void take_alias(struct facts *facts, const char *alias)
{
    for (size_t i = 0; alias && i < facts->count; i++)
        if (same_text(facts->runs[i]->alias, alias)) {
            free(facts->runs[i]->alias);
            facts->runs[i]->alias = NULL;
        }
}

static int facts_set_alias(struct facts *facts, const char *disk, const char *alias)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (!run || same_text(run->alias, alias))
        return r;

    char *copy = alias ? strdup(alias) : NULL;
    if (alias && !copy)
        return BJ_E_NOMEM;
    take_alias(facts, alias);
    free(run->alias);
    run->alias = copy;
    return BJ_OK;
}

/* ---------------------------------------------------------------------- runs */

static void facts_clear_run(struct run *run)
{
    free(run->error);
    run->error = NULL;
    backup_run_clear(&run->backup);
    run->active = run->ready = run->ready_emitted = false;
    run->pivot_sent = run->is_migration = run->is_known = run->is_followed = false;
    run->end = QEMU_SAYS_NOTHING;
    run->ready_us = run->end_us = 0;
}

static void facts_begin_run(struct facts *facts, struct run *run)
{
    run->changed = ++facts->change_count;
    facts_clear_run(run);
    run->active = true;
    run->begun = run->starts > 0 && !run->taken;
    run->is_known = run->is_followed = run->begun || run->taken;
    run->taken = false;
}

/* Where QEMU tells of each run that begins there is no doubt; else one that is known to be there
 * has to end first. */
static bool facts_is_of_earlier_run(const struct facts *facts, const struct run *run)
{
    bool is_starting = run->starts > 0 && !run->begun;
    return run->taken || (is_starting && (run->active || facts->has_statuses));
}

static void facts_note_run(struct facts *facts, struct run *run)
{
    if (!run->active && facts_is_of_earlier_run(facts, run))
        run->active = true;
    else if (!run->active)
        facts_begin_run(facts, run);
}

/* Nothing more is to come of this run. Without a word of QEMU's what comes then is of the next. */
static void forget(struct facts *facts, struct run *run)
{
    run->changed = ++facts->change_count;
    facts_clear_run(run);
    if (run->taken && !facts->has_statuses)
        facts_begin_run(facts, run);
}

/* ------------------------------------------------------------- libvirt's words */

/* Where QEMU is silent only a list shows whether a copy is a migration's. */
static bool is_in_doubt(const struct facts *facts, const struct run *run, int type)
{
    return facts->lacks_qemu && !run->is_known && type == FACTS_COPY;
}

static const char *type_of(const struct facts *facts, const struct run *run, int type)
{
    if (run->is_migration)
        return FACTS_MIGRATION;
    return is_in_doubt(facts, run, type) ? "" : facts_type_name(type);
}

static bool can_switch(const struct run *run, int type)
{
    bool is_known = *facts_type_name(type) != '\0';
    if (run->is_migration)
        return false;
    return type == FACTS_COPY || type == FACTS_ACTIVE_COMMIT || (!is_known && run->ready);
}

/* Once libvirt has taken the next run, the disk's name is that one's. */
static bool facts_address(const struct facts *facts, const struct run *run, const char *type,
                   struct fact *fact)
{
    fact->id = run->disk;
    fact->type = type;
    fact->earlier = facts_is_of_earlier_run(facts, run);
    return !run->taken;
}

/* Nobody can do anything about a migration's copy that is ready. */
static void emit_ready(const struct facts *facts, struct run *run, int type)
{
    struct fact fact = {.kind = FACT_READY, .timestamp_us = run->ready_us};
    bool is_news = !run->ready_emitted && !run->is_migration &&
                   facts_address(facts, run, type_of(facts, run, type), &fact);

    run->ready = run->ready_emitted = true;
    if (is_news)
        facts->emit(facts->user, &fact);
}

/* Whether a copy that was aborted is whole, where QEMU is silent. */
static bool is_whole(const struct facts *facts, const struct run *run, int type)
{
    return can_switch(run, type) && run->ready && !run->pivot_sent && !facts->aborts_hard;
}

/* What libvirt calls canceled is what someone has asked it to abort, however it went (B17). A copy
 * that was ready is then whole (B66). */
static struct fact canceled(const struct facts *facts, const struct run *run, int type)
{
    enum qemu_end end = run->end;
    if (end == QEMU_SAYS_NOTHING)
        end = is_whole(facts, run, type) ? QEMU_COMPLETED : QEMU_CANCELLED;
    if (end == QEMU_CANCELLED)
        return (struct fact){.kind = FACT_CANCELLED};
    return (struct fact){
        .kind = FACT_COMPLETED,
        .error = end != QEMU_FAILED ? NULL
                 : run->error       ? run->error
                                    : "it failed",
    };
}

/* libvirt knows why, but does not tell; a cancel that it was not asked for is an error to it. */
static struct fact libvirt_facts__failed(const struct run *run)
{
    if (run->end == QEMU_CANCELLED)
        return (struct fact){.kind = FACT_CANCELLED};
    const char *error =
        run->end == QEMU_FAILED && run->error ? run->error
        : run->end == QEMU_COMPLETED
            ? "QEMU has completed it, and libvirt says that it failed: libvirt's log has the reason"
        : run->is_migration
            ? "the migration was cancelled or has failed: libvirt's log or the guest's has the reason"
            : "libvirt says that it failed, and no reason: libvirt's log or the guest's has it";
    return (struct fact){.kind = FACT_COMPLETED, .error = error};
}

static struct fact end_of(const struct facts *facts, const struct run *run, int type, int status)
{
    if (status == FACTS_FAILED)
        return libvirt_facts__failed(run);
    if (status == FACTS_CANCELED)
        return canceled(facts, run, type);
    return (struct fact){.kind = FACT_COMPLETED};
}

/* A libvirtd that was killed while it pivoted or aborted a copy leaves the next one a job that has
 * concluded, and no word of what it was told to do: that one says completed of both, and takes
 * neither disk for switched. */
static enum disk_switch switch_of(const struct facts *facts, const struct run *run, int type,
                                  int status)
{
    if (!can_switch(run, type) || is_in_doubt(facts, run, type) || status == FACTS_FAILED)
        return SWITCH_UNKNOWN;
    if (status != FACTS_COMPLETED)
        return NOT_SWITCHED;
    return run->is_followed || run->pivot_sent ? SWITCHED : SWITCH_UNKNOWN;
}

/* Whether a commit that completed has switched is only asked of one that was ready. */
static bool has_been_ready(const struct fact *fact, int type)
{
    return type == FACTS_ACTIVE_COMMIT && fact->kind == FACT_COMPLETED && !fact->error;
}

static void libvirt_facts__finish(struct facts *facts, struct run *run, const char *type, struct fact *fact,
                   enum disk_switch switched)
{
    bool is_news = facts_address(facts, run, type, fact);
    char *error = run->error; /* the fact's, until it was emitted */
    fact->timestamp_us = run->end_us;
    run->switched = switched;
    run->error = NULL;
    forget(facts, run);
    if (is_news)
        facts->emit(facts->user, fact);
    free(error);
}

static void emit_end(struct facts *facts, struct run *run, int type, int status)
{
    struct fact fact = end_of(facts, run, type, status);
    if (has_been_ready(&fact, type))
        emit_ready(facts, run, type);
    libvirt_facts__finish(facts, run, type_of(facts, run, type), &fact, switch_of(facts, run, type, status));
}

static void emit_backup_end(struct facts *facts, struct run *run)
{
    char *error;
    enum backup_end end = backup_run_end(&run->backup, &error);
    struct fact fact = {
        .kind = end == BACKUP_CANCELLED ? FACT_CANCELLED : FACT_COMPLETED,
        .error = end != BACKUP_FAILED ? NULL
                 : error              ? error
                                      : "it failed",
    };
    libvirt_facts__finish(facts, run, facts_type_name(FACTS_BACKUP), &fact, SWITCH_UNKNOWN);
    free(error);
}

/* QEMU has said more of the part, and before, if libvirt hands it on. The last part to end ends the
 * backup: its result has come then. */
static int note_part(struct facts *facts, const char *disk, int status)
{
    struct run *run;
    int r = facts_get_run(facts, BACKUP_ID, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    if (run->end == QEMU_SAYS_NOTHING)
        backup_run_part_ended(&run->backup, disk,
                              status == FACTS_FAILED     ? BACKUP_FAILED
                              : status == FACTS_CANCELED ? BACKUP_CANCELLED
                                                         : BACKUP_COMPLETED,
                              NULL);
    if (run->backup.result != BACKUP_GOES_ON)
        emit_backup_end(facts, run);
    return BJ_OK;
}

static int facts_backup_result(struct facts *facts, bool succeeded, const char *error)
{
    struct run *run;
    int r = facts_get_run(facts, BACKUP_ID, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    backup_run_result(&run->backup, succeeded, error);
    return BJ_OK;
}

static bool is_end(int status)
{
    return status == FACTS_COMPLETED || status == FACTS_FAILED || status == FACTS_CANCELED;
}

static const char *facts_ended_id(const struct facts *facts, const char *disk, int type, int status)
{
    if (!is_end(status) || type != FACTS_BACKUP)
        return is_end(status) ? disk : NULL;
    const struct run *run = find_run(facts, BACKUP_ID);
    return run && run->backup.result != BACKUP_GOES_ON ? BACKUP_ID : NULL;
}

static int facts_block_job(struct facts *facts, const char *disk, int type, int status)
{
    struct run *run = NULL;
    if (!is_end(status) && status != FACTS_READY)
        return BJ_OK; /* one of a later libvirt */
    if (type == FACTS_BACKUP)
        return is_end(status) ? note_part(facts, disk, status) : BJ_OK;

    int r = facts_get_run(facts, disk, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    run->is_known |= status == FACTS_CANCELED; /* which no migration is */
    if (is_end(status))
        emit_end(facts, run, type, status);
    else
        emit_ready(facts, run, type);
    return BJ_OK;
}

/* ------------------------------------------------------------------- our words */

static int facts_start_sent(struct facts *facts, const char *disk)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (run)
        run->starts++;
    return r;
}

/* libvirt takes one only when the run before has ended; that need not have reached us. */
static void start_taken(struct facts *facts, struct run *run)
{
    bool in_doubt = run->active || facts->has_statuses;
    if (run->begun)
        return;
    if (in_doubt)
        run->taken = true;
    else
        facts_begin_run(facts, run);
    run->is_known |= !in_doubt;
    run->is_followed |= !in_doubt;
}

static void facts_start_over(struct facts *facts, const char *disk, bool accepted)
{
    struct run *run = find_run(facts, disk);
    if (!run || run->starts == 0)
        return;
    run->starts--;
    if (accepted)
        start_taken(facts, run);
    run->begun = false; /* what others begin is to come */
}

static void facts_pivot_sent(struct facts *facts, const char *disk)
{
    struct run *run = find_run(facts, disk);
    if (run)
        run->pivot_sent = true;
}

static void facts_pivot_refused(struct facts *facts, const char *disk, uint64_t change_count)
{
    struct run *run = find_run(facts, disk);
    if (run && run->changed <= change_count)
        run->pivot_sent = false;
}

static int note_row(struct facts *facts, const char *disk, bool ready, bool is_migration)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (run && !facts_is_of_earlier_run(facts, run)) {
        if (!run->active)
            facts_begin_run(facts, run);
        run->ready |= ready;
        run->is_migration |= is_migration;
        run->is_known = true;
    }
    return r;
}

static int facts_row(struct facts *facts, const char *disk, bool ready)
{
    return note_row(facts, disk, ready, false);
}

static int facts_migration_row(struct facts *facts, const char *disk)
{
    return note_row(facts, disk, false, true);
}

static int facts_end_unseen(struct facts *facts, const char *disk, bool is_commit)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    run->is_followed = true; /* the disk has shown it */
    return facts_block_job(facts, disk, is_commit ? FACTS_ACTIVE_COMMIT : FACTS_COPY,
                           FACTS_COMPLETED);
}

static void facts_forget(struct facts *facts, const char *disk)
{
    struct run *run = find_run(facts, disk);
    if (run) {
        run->taken = false;
        facts_clear_run(run);
    }
}

static uint64_t facts_change_count(const struct facts *facts)
{
    return facts->change_count;
}

static bool facts_has_changed_since(const struct facts *facts, const char *disk, uint64_t change_count)
{
    const struct run *run = find_run(facts, disk);
    return run && run->changed > change_count;
}

static bool facts_is_active(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && (run->active || run->taken);
}

static bool facts_is_ready(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && run->ready && !run->taken;
}

static bool facts_is_migration(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && run->is_migration && !run->taken;
}

static bool facts_owes_earlier_end(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && run->taken;
}

static enum disk_switch facts_switched(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run ? run->switched : SWITCH_UNKNOWN;
}
/* ---- core/libvirt/facts_qemu.c ---- */

/*
 * QEMU's words about a domain's jobs; see facts.h.
 */

enum { libvirt_facts_qemu__ERROR_MAX_LEN = 4096 };

static const char *string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static const char *last_of(const char *text, const char *word)
{
    const char *last = NULL;
    for (const char *at = text; (at = strstr(at, word)); at++)
        last = at;
    return last;
}

static bool libvirt_facts_qemu__is_part(const char *job)
{
    return strncmp(job, "backup-", strlen("backup-")) == 0;
}

/* libvirt calls its jobs by what they do, the disk and the node: "copy-vda-libvirt-2-format". Old
 * ones, which had no backups yet, have nodes that QEMU has named: "copy-sda-#block145". *ret is
 * malloc'ed; NULL: it is none of these. BJ_OK or BJ_E_NOMEM. */
static int disk_of(const char *job, char **ret)
{
    static const char *const kinds[] = {"copy-", "commit-", "pull-", "backup-"};
    const char *disk = NULL;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(job, kinds[i], strlen(kinds[i])) == 0)
            disk = job + strlen(kinds[i]);
    const char *node = disk ? last_of(disk, "-libvirt-") : NULL;
    if (disk && !node && !libvirt_facts_qemu__is_part(job))
        node = strrchr(disk, '-');
    *ret = node ? strndup(disk, (size_t)(node - disk)) : NULL;
    return node && !*ret ? BJ_E_NOMEM : BJ_OK;
}

/* "drive-virtio-disk0" is a migration's copy. */
static struct run *run_by_alias(const struct facts *facts, const char *job)
{
    static const char prefix[] = "drive-";
    if (strncmp(job, prefix, strlen(prefix)) != 0)
        return NULL;
    for (size_t i = 0; i < facts->count; i++)
        if (facts->runs[i]->alias && strcmp(facts->runs[i]->alias, job + strlen(prefix)) == 0)
            return facts->runs[i];
    return NULL;
}

/* QEMU's sentences are short. Not cut inside of a character. */
static char *copy_error(const char *error)
{
    size_t len = strnlen(error, libvirt_facts_qemu__ERROR_MAX_LEN + 1);
    if (len > libvirt_facts_qemu__ERROR_MAX_LEN)
        for (len = libvirt_facts_qemu__ERROR_MAX_LEN; len > 0 && ((unsigned char)error[len] & 0xC0) == 0x80;)
            len--;
    return strndup(error, len);
}

static const char *stop_reason(const json_t *data)
{
    const char *operation = string_at(data, "operation");
    if (strcmp(operation, "read") == 0)
        return "a read error stopped it, and libvirt has no call that resumes it";
    if (strcmp(operation, "write") == 0)
        return "a write error stopped it, and libvirt has no call that resumes it";
    return "an I/O error stopped it, and libvirt has no call that resumes it";
}

static const char *type_in(const json_t *data)
{
    static const int types[] = {FACTS_PULL, FACTS_COPY, FACTS_COMMIT, FACTS_BACKUP};
    const char *type = string_at(data, "type");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, facts_type_name(types[i])) == 0)
            return facts_type_name(types[i]);
    return "";
}

static bool libvirt_facts_qemu__is_backup(const struct run *run)
{
    return strcmp(run->disk, BACKUP_ID) == 0;
}

/* The jobs of a backup are all created before one ends. */
static void note_created(struct facts *facts, struct run *run)
{
    if (!run->active || run->backup.jobs == 0)
        facts_begin_run(facts, run);
    run->is_followed = true;
    run->backup.jobs += libvirt_facts_qemu__is_backup(run);
}

/* True: no job of the run is left. */
static bool note_null(struct run *run)
{
    bool was_counted = run->backup.jobs > 0;
    run->backup.jobs -= was_counted;
    return run->backup.jobs == 0 && was_counted == libvirt_facts_qemu__is_backup(run);
}

/* A run begins with created; one that libvirt will never speak of ends with null alone (B41).
 * libvirt acts on the status "ready", so that its own word may come before BLOCK_JOB_READY. */
static void note_status(struct facts *facts, struct run *run, const char *status,
                        int64_t timestamp_us)
{
    facts->has_statuses = true;
    if (strcmp(status, "created") == 0)
        note_created(facts, run);
    else if (strcmp(status, "ready") == 0 && run->ready_us == 0)
        run->ready_us = timestamp_us;
    else if (strcmp(status, "null") == 0 && note_null(run) && run->end == QEMU_SAYS_NOTHING &&
             !facts_is_of_earlier_run(facts, run))
        facts_clear_run(run);
}

/* `disk` is only needed for a part of a backup. */
static void libvirt_facts_qemu__note_end(struct run *run, const char *disk, enum qemu_end end, const char *error,
                     int64_t timestamp_us)
{
    free(run->error);
    run->error = end == QEMU_FAILED ? copy_error(error) : NULL;
    run->end = end;
    run->end_us = timestamp_us;
    if (libvirt_facts_qemu__is_backup(run))
        backup_run_part_ended(&run->backup, disk,
                              end == QEMU_FAILED      ? BACKUP_FAILED
                              : end == QEMU_CANCELLED ? BACKUP_CANCELLED
                                                      : BACKUP_COMPLETED,
                              error);
}

static void libvirt_facts_qemu__note_error(const struct facts *facts, const struct run *run, const json_t *data,
                       int64_t timestamp_us)
{
    struct fact fact = {
        .kind = FACT_STOPPED,
        .error = stop_reason(data),
        .timestamp_us = timestamp_us,
    };
    const char *type = run->is_migration ? FACTS_MIGRATION : type_in(data);
    bool stops = strcmp(string_at(data, "action"), "stop") == 0; /* else it ends nothing (B12) */
    if (stops && facts_address(facts, run, type, &fact))
        facts->emit(facts->user, &fact);
}

static void note_event(struct facts *facts, struct run *run, const char *disk, const char *event,
                       const json_t *data, int64_t timestamp_us)
{
    const char *error = json_string_value(json_object_get(data, "error"));

    if (strcmp(event, "JOB_STATUS_CHANGE") == 0) {
        note_status(facts, run, string_at(data, "status"), timestamp_us);
        return;
    }
    facts_note_run(facts, run);
    if (strcmp(event, "BLOCK_JOB_READY") == 0)
        run->ready_us = timestamp_us;
    else if (strcmp(event, "BLOCK_JOB_COMPLETED") == 0)
        libvirt_facts_qemu__note_end(run, disk, error ? QEMU_FAILED : QEMU_COMPLETED, error, timestamp_us);
    else if (strcmp(event, "BLOCK_JOB_CANCELLED") == 0)
        libvirt_facts_qemu__note_end(run, disk, QEMU_CANCELLED, NULL, timestamp_us);
    else
        libvirt_facts_qemu__note_error(facts, run, data, timestamp_us);
}

static void note_migration_event(struct facts *facts, struct run *run, const char *event,
                                 const json_t *data, int64_t timestamp_us)
{
    if (strcmp(event, "JOB_STATUS_CHANGE") != 0)
        facts_note_run(facts, run);
    run->is_migration = true;
    note_event(facts, run, run->disk, event, data, timestamp_us);
    run->is_migration = run->active; /* "created" has cleared it */
}

/* What tells the job; NULL: the event is not about one. */
static const char *key_of(const char *event)
{
    static const char *const block_job[] = {"BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED",
                                            "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR"};
    for (size_t i = 0; i < sizeof block_job / sizeof block_job[0]; i++)
        if (strcmp(event, block_job[i]) == 0)
            return "device";
    return strcmp(event, "JOB_STATUS_CHANGE") == 0 ? "id" : NULL;
}

/* No number in it matters, and one of QEMU's may be beyond jansson's (B55). */
static int libvirt_facts_qemu__parse(const char *data, json_t **ret)
{
    json_error_t error;
    *ret = json_loads(data, JSON_DECODE_INT_AS_REAL, &error);
    return !*ret && json_error_code(&error) == json_error_out_of_memory ? BJ_E_NOMEM : BJ_OK;
}

static int facts_qemu_event(struct facts *facts, const char *event, const char *data, int64_t timestamp_us)
{
    const char *key = key_of(event);
    json_t *object = NULL;
    char *disk = NULL;
    struct run *run = NULL;

    int r = key && data ? libvirt_facts_qemu__parse(data, &object) : BJ_OK;
    struct run *migrating = object ? run_by_alias(facts, string_at(object, key)) : NULL;
    if (object && !migrating)
        r = disk_of(string_at(object, key), &disk);
    if (disk)
        r = facts_get_run(facts, libvirt_facts_qemu__is_part(string_at(object, key)) ? BACKUP_ID : disk, &run);
    if (run)
        note_event(facts, run, disk, event, object, timestamp_us);
    if (migrating)
        note_migration_event(facts, migrating, event, object, timestamp_us);
    free(disk);
    json_decref(object);
    return r;
}
/* ---- core/libvirt/mailbox.c ---- */

/*
 * The way from libvirt's threads to a context's loop; see mailbox.h.
 */

struct mailbox {
    atomic_uint refs;
    pthread_mutex_t lock;
    struct loop *loop; /* NULL: closed */
};

static struct mailbox *mailbox_new(struct loop *loop)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (!mailbox)
        return NULL;
    atomic_init(&mailbox->refs, 1);
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->loop = loop;
    return mailbox;
}

static struct mailbox *mailbox_ref(struct mailbox *mailbox)
{
    atomic_fetch_add(&mailbox->refs, 1);
    return mailbox;
}

static struct mailbox *mailbox_unref(struct mailbox *mailbox)
{
    if (!mailbox || atomic_fetch_sub(&mailbox->refs, 1) != 1)
        return NULL;
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
    return NULL;
}

static void mailbox_close(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->loop = NULL;
    pthread_mutex_unlock(&mailbox->lock);
}

static bool mailbox_post(struct mailbox *mailbox, struct loop_task *task)
{
    pthread_mutex_lock(&mailbox->lock); /* also while posting: after the close the loop may go */
    bool posted = mailbox->loop && loop_post(mailbox->loop, task);
    pthread_mutex_unlock(&mailbox->lock);
    return posted;
}
/* ---- core/libvirt/module.c ---- */

/*
 * What the core finds in this library; see driver/module.h.
 */

#define TEXT_OF(number) #number
#define VERSION_OF(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

static int check(const char *uri, struct text **ret_text)
{
    struct domain_address address;
    const char *why;
    int r = domain_address_parse(uri, &address, &why);
    if (r == BJ_OK)
        domain_address_clear(&address);
    else
        *ret_text = why ? text_printf("%s %s", uri, why) : text_printf("%s", driver_bj_error_text(r));
    return r;
}

/* The same letters as domain_address_parse() reads: what is odd as %20. */
static void append_encoded(char *out, const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._~";
    out += strlen(out);
    for (; *name; name++)
        out += strchr(plain, *name) ? sprintf(out, "%c", *name)
                                    : sprintf(out, "%%%02X", (unsigned char)*name);
}

static char *uri_of(struct _virDomain *domain)
{
    char *connection = virConnectGetURI(virDomainGetConnect(domain));
    const char *name = virDomainGetName(domain);
    if (!name)
        name = "?"; /* no domain at all: connecting will say so */
    size_t size = (connection ? strlen(connection) : 0) + strlen("libvirt:#") + 3 * strlen(name);
    char *uri = calloc(1, size + 1);
    if (uri) {
        strcpy(uri, connection ? connection : "libvirt:");
        if (connection)
            strcat(uri, "#");
        append_encoded(uri, name);
    }
    free(connection);
    return uri;
}

static void ref(struct _virDomain *domain)
{
    virDomainRef(domain);
}

extern const struct driver_module blockjob_driver_module;
const struct driver_module blockjob_driver_module = {
    .version = VERSION_OF(BJ_VERSION_MAJOR, BJ_VERSION_MINOR, BJ_VERSION_PATCH),
    .check = check,
    .uri_of = uri_of,
    .ref = ref,
    .unref = session_release_domain,
    .open = domain_open,
};
#undef TEXT_OF
#undef VERSION_OF
/* ---- core/libvirt/pool.c ---- */

/*
 * Threads for calls that block; see pool.h.
 */

/* libvirt's client needs little, but what it calls into may not: GnuTLS, SASL, the resolver. */
#define STACK_SIZE (1024 * 1024)

struct lane_group {
    atomic_uint refs;

    /* Under the pool's lock. */
    unsigned running; /* calls */
    unsigned waiting; /* lanes */
    struct lane *first;
    struct lane **last;
    struct lane_group *next; /* that has lanes which wait */
};

struct lane {
    atomic_uint refs;
    struct mailbox *mailbox; /* NULL: none */
    struct lane_group *group;

    /* Under the pool's lock. */
    struct lane *next; /* that waits for a thread */
    struct call *first;
    struct call **last;
    bool is_busy; /* it waits for a thread, or a thread runs one of its calls: holds a reference */
};

/* A thread without work; on its stack. */
struct sleeper {
    struct sleeper *next;
    pthread_cond_t woken;
};

/* Never destroyed: threads that are stuck in libvirt are there when the process exits. */
static struct {
    pthread_mutex_t lock;
    unsigned threads; /* the ones that have just been started, too */
    unsigned running; /* calls */

    /* The one that fell asleep last is woken first: those that are not needed sleep on, and go. */
    struct sleeper *sleepers;

    struct lane_group *first; /* groups with lanes that wait: each has its turn */
    struct lane_group **last;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &pool.first};

/* --------------------------------------------------------------------- lanes */

static struct lane_group *lane_group_new(void)
{
    struct lane_group *group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    atomic_init(&group->refs, 1);
    group->last = &group->first;
    return group;
}

static struct lane_group *lane_group_ref(struct lane_group *group)
{
    atomic_fetch_add(&group->refs, 1);
    return group;
}

static struct lane_group *lane_group_unref(struct lane_group *group)
{
    if (group && atomic_fetch_sub(&group->refs, 1) == 1)
        free(group);
    return NULL;
}

static struct lane *lane_new(struct mailbox *mailbox, struct lane_group *group)
{
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->group = group ? lane_group_ref(group) : lane_group_new();
    if (!lane->group) {
        free(lane);
        return NULL;
    }
    atomic_init(&lane->refs, 1);
    lane->mailbox = mailbox ? mailbox_ref(mailbox) : NULL;
    lane->last = &lane->first;
    return lane;
}

static struct lane *lane_ref(struct lane *lane)
{
    atomic_fetch_add(&lane->refs, 1);
    return lane;
}

static struct lane *lane_unref(struct lane *lane)
{
    if (!lane || atomic_fetch_sub(&lane->refs, 1) != 1)
        return NULL;
    mailbox_unref(lane->mailbox);
    lane_group_unref(lane->group);
    free(lane);
    return NULL;
}

static void append_call(struct lane *lane, struct call *call)
{
    call->next = NULL;
    *lane->last = call;
    lane->last = &call->next;
}

static struct call *take_call(struct lane *lane)
{
    struct call *call = lane->first;
    if (call && !(lane->first = call->next))
        lane->last = &lane->first;
    return call;
}

/* The pool's lock is held for all that follows. */

static void append_group(struct lane_group *group)
{
    group->next = NULL;
    *pool.last = group;
    pool.last = &group->next;
}

static void append_lane(struct lane *lane)
{
    struct lane_group *group = lane->group;
    lane->next = NULL;
    *group->last = lane;
    group->last = &lane->next;
    if (group->waiting++ == 0)
        append_group(group);
}

static bool has_share(const struct lane_group *group)
{
    return group->running < POOL_THREADS_MAX - pool.running;
}

/* The one whose turn it is; NULL: none may begin a call. */
static struct lane_group **next_group(void)
{
    struct lane_group **at = &pool.first;
    while (*at && !has_share(*at))
        at = &(*at)->next;
    return *at ? at : NULL;
}

static struct lane *take_lane(struct lane_group **at)
{
    struct lane_group *group = *at;
    struct lane *lane = group->first;

    if (!(*at = group->next))
        pool.last = at;
    if (!(group->first = lane->next))
        group->last = &group->first;
    if (--group->waiting > 0)
        append_group(group);
    return lane;
}

/* How many lanes may begin a call now. Each that does leaves its group one thread more, and all of
 * them one thread less. */
static unsigned count_ready(void)
{
    unsigned ready = 0;
    for (const struct lane_group *group = pool.first; group; group = group->next) {
        unsigned left = POOL_THREADS_MAX - pool.running - ready;
        unsigned share = left > group->running ? (left - group->running + 1) / 2 : 0;
        ready += group->waiting < share ? group->waiting : share;
    }
    return ready;
}

/* ------------------------------------------------------------------- threads */

static void run_done(struct loop_task *task)
{
    struct call *call = container_of(task, struct call, task);
    call->done(call);
}

static void run_call(struct lane *lane, struct call *call)
{
    call->run(call);
    call->task.run = run_done;
    if (!lane->mailbox || !mailbox_post(lane->mailbox, &call->task))
        call->dropped(call);
}

/* The lock is held. */
static void wake_sleeper(void)
{
    struct sleeper *sleeper = pool.sleepers;
    if (!sleeper)
        return; /* who is free has not fallen asleep yet */
    pool.sleepers = sleeper->next;
    pthread_cond_signal(&sleeper->woken);
}

static bool start_thread(void);

/* The lock is held. */
static void start_threads(void)
{
    unsigned ready = count_ready();
    while (pool.threads - pool.running < ready && pool.threads < POOL_THREADS_MAX && start_thread())
        continue;
}

/* The lock is held. This thread takes one of the lanes; another may take the next. */
static void share_out(void)
{
    if (count_ready() < 2)
        return;
    start_threads();
    wake_sleeper();
}

/* The lock is held, which is let go of meanwhile. */
static void run_next(struct lane *lane, struct call *call)
{
    lane->group->running++;
    pool.running++;
    pthread_mutex_unlock(&pool.lock);
    run_call(lane, call);
    pthread_mutex_lock(&pool.lock);
    lane->group->running--;
    pool.running--;
}

/* The lock is held. Runs one call of the lane. */
static void serve_lane(struct lane *lane)
{
    struct call *call = take_call(lane); /* NULL: it was withdrawn */
    if (call)
        run_next(lane, call);
    if (lane->first) {
        append_lane(lane); /* behind the others */
        share_out();
        return;
    }
    lane->is_busy = false;
    lane_unref(lane);
}

static void init_sleeper(struct sleeper *sleeper)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sleeper->woken, &attr);
    pthread_condattr_destroy(&attr);
}

/* The lock is held. Answers as pthread_cond_timedwait(). */
static int libvirt_pool__fall_asleep(struct sleeper *sleeper, const struct timespec *until)
{
    sleeper->next = pool.sleepers;
    pool.sleepers = sleeper;
    int r = pthread_cond_timedwait(&sleeper->woken, &pool.lock, until);

    struct sleeper **at = &pool.sleepers;
    while (*at && *at != sleeper)
        at = &(*at)->next;
    if (*at) /* it woke by itself */
        *at = sleeper->next;
    return r;
}

/* The lock is held. NULL: nothing came for long. */
static struct lane *await_lane(struct sleeper *sleeper)
{
    struct timespec until = clock_deadline(POOL_IDLE_MS);
    struct lane_group **group;
    int r = 0;
    while (!(group = next_group()) && r != ETIMEDOUT)
        r = libvirt_pool__fall_asleep(sleeper, &until);
    return group ? take_lane(group) : NULL;
}

static void *serve(void *unused)
{
    (void)unused;
    struct sleeper sleeper;
    init_sleeper(&sleeper);

    pthread_mutex_lock(&pool.lock);
    for (struct lane *lane; (lane = await_lane(&sleeper));)
        serve_lane(lane);
    pool.threads--;
    pthread_mutex_unlock(&pool.lock);

    pthread_cond_destroy(&sleeper.woken);
    return NULL;
}

static void libvirt_pool__before_fork(void)
{
    pthread_mutex_lock(&pool.lock);
}

static void libvirt_pool__after_fork(void)
{
    pthread_mutex_unlock(&pool.lock);
}

/* Its threads are not here, and neither is what they do. */
static void libvirt_pool__begin_child(void)
{
    pool.threads = pool.running = 0;
    pool.first = NULL;
    pool.last = &pool.first;
    pool.sleepers = NULL;
    pthread_mutex_unlock(&pool.lock);
}

static void register_fork_handlers(void)
{
    pthread_atfork(libvirt_pool__before_fork, libvirt_pool__after_fork, libvirt_pool__begin_child);
}

static void pool_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handlers);
}

/* The lock is held. */
static bool start_thread(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;

    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, &attr, serve, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);

    pool.threads += started;
    return started;
}

/* --------------------------------------------------------------------- calls */

static bool lane_submit(struct lane *lane, struct call *call)
{
    pool_init();

    call->lane = lane;

    pthread_mutex_lock(&pool.lock);
    bool accepted = pool.threads > 0 || start_thread();
    if (accepted) {
        append_call(lane, call);
        if (!lane->is_busy) {
            lane->is_busy = true;
            append_lane(lane_ref(lane));
            start_threads();
            wake_sleeper();
        }
    }
    pthread_mutex_unlock(&pool.lock);
    return accepted;
}

static bool lane_withdraw(struct lane *lane, struct call *call)
{
    pthread_mutex_lock(&pool.lock);
    struct call **at = &lane->first;
    while (*at && *at != call)
        at = &(*at)->next;
    bool found = *at != NULL;
    if (found) {
        *at = call->next;
        if (!call->next)
            lane->last = at;
    }
    pthread_mutex_unlock(&pool.lock);
    return found;
}
#undef STACK_SIZE
/* ---- core/libvirt/registration.c ---- */

/*
 * What libvirt holds of us; see registration.h.
 */

struct registration {
    atomic_uint refs;  /* the owner's, libvirt's, and that of a timeout which settles a doubt */
    atomic_bool freed; /* libvirt's reference is gone */
    pthread_mutex_t lock;
    void *owner; /* NULL: it has gone */
};

static struct registration *registration_new(void *owner)
{
    struct registration *registration = calloc(1, sizeof *registration);
    if (!registration)
        return NULL;
    atomic_init(&registration->refs, 2);
    pthread_mutex_init(&registration->lock, NULL);
    registration->owner = owner;
    return registration;
}

static void unref(struct registration *registration)
{
    if (atomic_fetch_sub(&registration->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&registration->lock);
    free(registration);
}

static void *registration_enter(struct registration *registration)
{
    pthread_mutex_lock(&registration->lock);
    void *owner = registration->owner;
    if (!owner)
        pthread_mutex_unlock(&registration->lock);
    return owner;
}

static void registration_leave(struct registration *registration)
{
    pthread_mutex_unlock(&registration->lock);
}

static void registration_freed(void *opaque)
{
    struct registration *registration = opaque;
    if (!atomic_exchange(&registration->freed, true))
        unref(registration);
}

static void on_settled(int timeout, void *opaque)
{
    struct registration *registration = opaque;
    virEventRemoveTimeout(timeout);
    registration_freed(registration);
    unref(registration);
}

/* A registration that fails while libvirt delivers events is removed, and freed, when that is over.
 * libvirt delivers on its loop's thread, in a timeout: one that begins now comes after it. Without
 * a timeout the memory is left to libvirt. */
static void settle(struct registration *registration)
{
    atomic_fetch_add(&registration->refs, 1);
    if (virEventAddTimeout(0, on_settled, registration, NULL) < 0)
        unref(registration);
}

static void registration_drop(struct registration *registration, enum registration_state state)
{
    if (!registration)
        return;
    pthread_mutex_lock(&registration->lock);
    registration->owner = NULL;
    pthread_mutex_unlock(&registration->lock);

    if (state == REGISTRATION_GONE)
        registration_freed(registration);
    else if (state == REGISTRATION_DOUBTFUL)
        settle(registration);
    unref(registration);
}
/* ---- core/libvirt/service.c ---- */

/*
 * libvirt's event loop on ours; see service.h.
 *
 * What libvirt wants of a watch is kept under the lock, where any thread changes it, and what comes
 * is held against that: a change is in force when the function that made it returns. A timer is the
 * loop's thread's, which is told by a post.
 *
 * An fd belongs to others, who may close it as soon as they have taken its handle away, or before;
 * the number is then another file's. So the loop is given an epoll that has the fd in it: any
 * thread changes what that waits for, and a closed fd leaves it.
 */

/* Callbacks of the program's own connections run there, which count on a program's stack. */
#define STACK_SIZE (8 * 1024 * 1024)

/* A call leaves the handle alone when another thread, in a call of its own, has taken it over. */
enum { HEARING_TRIES = 5 };

enum { BUCKETS = 256 };

/* A handle or a timeout of libvirt's. */
struct watch {
    struct watch *next; /* in its bucket */
    int id;             /* one series for both kinds: none is ever used twice in a while */
    void *opaque;
    virFreeCallback ff;

    /* Under the lock. */
    bool removed;
    bool posted; /* `task` is on its way */
    struct loop_task task;

    /* A handle. */
    virEventHandleCallback on_event; /* NULL: a timeout */
    int fd;
    int events;
    int epoll; /* -1: none */
    struct loop_io *io;

    /* A timeout. */
    virEventTimeoutCallback on_timeout;
    int interval_ms; /* -1: off */
    int64_t due_ms;
    struct loop_timer *timer;
};

enum whose { UNDECIDED, DECIDING, OURS, THEIRS };

static struct {
    pthread_mutex_t lock; /* held for moments; nobody else's code runs under it */
    pthread_cond_t decided;
    enum whose whose;
    struct loop *loop; /* NULL: no thread, in a child of fork() for example */
    struct watch *buckets[BUCKETS];
    int last_id;
    struct loop *parents_loop; /* in a child of fork(): kept, so that nothing takes it for lost */
    struct watch *parents_watches;
    int always_ready; /* an eventfd, for fds that an epoll does not take; -1: none so far */
    void (*wake_default)(void *context);
} service = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .decided = PTHREAD_COND_INITIALIZER,
    .always_ready = -1,
};

static void libvirt_service__lock(void)
{
    pthread_mutex_lock(&service.lock);
}

static void libvirt_service__unlock(void)
{
    pthread_mutex_unlock(&service.lock);
}

/* -------------------------------------------------------------------- thread */

/* The lock is held. */
static int start_loop(void)
{
    struct loop *loop;
    int r = loop_new(&loop);
    if (r != BJ_OK)
        return r;
    loop_set_stack(loop, STACK_SIZE);
    r = loop_start(loop);
    if (r != BJ_OK)
        loop_free(loop);
    else
        service.loop = loop;
    return r;
}

struct stop {
    struct loop_task task;
    struct loop *loop;
};

static void run_stop(struct loop_task *task)
{
    loop_stop(((struct stop *)task)->loop);
}

/* Nothing is registered with it. */
static void stop_loop(void)
{
    libvirt_service__lock();
    struct stop stop = {.task.run = run_stop, .loop = service.loop};
    service.loop = NULL;
    libvirt_service__unlock();

    loop_post(stop.loop, &stop.task);
    loop_join(stop.loop);
    loop_free(stop.loop);
}

static void libvirt_service__before_fork(void)
{
    libvirt_service__lock();
}

static void libvirt_service__after_fork(void)
{
    libvirt_service__unlock();
}

static void leave_to_parent(struct watch *watches)
{
    struct watch **end = &watches;
    while (*end)
        end = &(*end)->next;
    *end = service.parents_watches;
    service.parents_watches = watches;
}

/* The parent's loop and watches are left as they are: their locks may be held for ever, and their
 * fds are shared. */
static void libvirt_service__begin_child(void)
{
    if (service.loop)
        service.parents_loop = service.loop;
    service.loop = NULL;
    for (int i = 0; i < BUCKETS; i++) {
        leave_to_parent(service.buckets[i]);
        service.buckets[i] = NULL;
    }
    if (service.whose == DECIDING)
        service.whose = UNDECIDED;
    pthread_cond_init(&service.decided, NULL); /* the parent's may have had waiters */
    libvirt_service__unlock();
}

/* ------------------------------------------------------------------- watches */

static struct watch **bucket(int id)
{
    return &service.buckets[(unsigned)id % BUCKETS];
}

static struct watch *find(int id)
{
    struct watch *watch = *bucket(id);
    while (watch && watch->id != id)
        watch = watch->next;
    return watch;
}

static int unused_id(void)
{
    do
        service.last_id = service.last_id == INT_MAX ? 1 : service.last_id + 1;
    while (find(service.last_id));
    return service.last_id;
}

static void free_memory(struct watch *watch)
{
    loop_io_free(watch->io);
    if (watch->epoll >= 0)
        close(watch->epoll);
    loop_timer_free(watch->timer);
    free(watch);
}

/* The loop's thread, the lock is held. */
static void apply_interval(struct watch *watch)
{
    if (watch->removed || watch->interval_ms < 0) {
        loop_timer_stop(watch->timer);
        return;
    }
    int64_t left_ms = watch->due_ms - clock_monotonic_ms();
    loop_timer_set(watch->timer, left_ms > 0 ? left_ms : 0);
}

static void apply(struct watch *watch)
{
    if (!watch->on_event) /* of a handle the epoll knows already */
        apply_interval(watch);
}

static void run_watch(struct loop_task *task)
{
    struct watch *watch = container_of(task, struct watch, task);
    libvirt_service__lock();
    watch->posted = false;
    bool removed = watch->removed;
    apply(watch);
    libvirt_service__unlock();

    if (!removed)
        return;
    if (watch->ff)
        watch->ff(watch->opaque);
    free_memory(watch);
}

/* The lock is held. */
static void post(struct watch *watch)
{
    if (!watch->posted)
        watch->posted = loop_post(service.loop, &watch->task);
}

static void changed(struct watch *watch)
{
    if (loop_is_current(service.loop))
        apply(watch);
    else
        post(watch);
}

static struct watch *new_watch(void *opaque, virFreeCallback ff)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->opaque = opaque;
    watch->ff = ff;
    watch->task.run = run_watch;
    watch->epoll = -1;
    return watch;
}

/* ------------------------------------------------------------------- handles */

/* Whoever runs virEventRunDefaultImpl() though the loop is ours waits for something to happen. */
static void wake_default(void)
{
    if (service.wake_default)
        service.wake_default(NULL);
}

static short to_poll(int events)
{
    return (short)(((events & VIR_EVENT_HANDLE_READABLE) ? POLLIN : 0) |
                   ((events & VIR_EVENT_HANDLE_WRITABLE) ? POLLOUT : 0));
}

static uint32_t libvirt_service__to_epoll(int events)
{
    return ((events & VIR_EVENT_HANDLE_READABLE) ? (uint32_t)EPOLLIN : 0) |
           ((events & VIR_EVENT_HANDLE_WRITABLE) ? (uint32_t)EPOLLOUT : 0);
}

static int from_poll(short events)
{
    return ((events & POLLIN) ? VIR_EVENT_HANDLE_READABLE : 0) |
           ((events & POLLOUT) ? VIR_EVENT_HANDLE_WRITABLE : 0) |
           ((events & (POLLERR | POLLNVAL)) ? VIR_EVENT_HANDLE_ERROR : 0) |
           ((events & POLLHUP) ? VIR_EVENT_HANDLE_HANGUP : 0);
}

/* What the epoll says is old by now. */
static void on_ready(void *user, int unused)
{
    (void)unused;
    struct watch *watch = user;

    libvirt_service__lock();
    struct pollfd now = {.fd = watch->fd, .events = to_poll(watch->events)};
    bool happened = !watch->removed && watch->events && poll(&now, 1, 0) > 0;
    libvirt_service__unlock();

    if (!happened)
        return;
    watch->on_event(watch->id, watch->fd, from_poll(now.revents), watch->opaque);
    wake_default();
}

/* A file, or /dev/null: poll() says that it is ready, and an epoll does not take it. */
static int add_always_ready(int epoll, struct epoll_event *event)
{
    if (service.always_ready < 0)
        service.always_ready = eventfd(1, EFD_CLOEXEC);
    int r = epoll_ctl(epoll, EPOLL_CTL_MOD, service.always_ready, event);
    return r == 0 ? 0 : epoll_ctl(epoll, EPOLL_CTL_ADD, service.always_ready, event);
}

/* The lock is held. An epoll waits for errors always: who wants nothing must not be in it. */
static int wait_for(const struct watch *watch, int events)
{
    struct epoll_event event = {.events = libvirt_service__to_epoll(events)};

    if (!events) {
        epoll_ctl(watch->epoll, EPOLL_CTL_DEL, watch->fd, &event);
        epoll_ctl(watch->epoll, EPOLL_CTL_DEL, service.always_ready, &event);
        return 0;
    }
    int r = epoll_ctl(watch->epoll, EPOLL_CTL_MOD, watch->fd, &event);
    if (r != 0 && errno == ENOENT)
        r = epoll_ctl(watch->epoll, EPOLL_CTL_ADD, watch->fd, &event);
    return r != 0 && errno == EPERM ? add_always_ready(watch->epoll, &event) : r;
}

/* The lock is held. */
static int insert(struct watch *watch)
{
    watch->id = unused_id();
    watch->next = *bucket(watch->id);
    *bucket(watch->id) = watch;
    changed(watch);
    return watch->id;
}

static int remove_watch(int id, bool is_handle)
{
    libvirt_service__lock();
    struct watch **at = bucket(id);
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    struct watch *watch = *at;
    bool found = watch && (watch->on_event != NULL) == is_handle;
    if (found) {
        *at = watch->next;
        watch->removed = true;
        if (is_handle)
            wait_for(watch, 0);
        changed(watch);
        post(watch); /* its opaque goes later, also when this is the loop's thread */
    }
    libvirt_service__unlock();
    return found ? 0 : -1;
}

/* The lock is held. */
static bool equip_handle(struct watch *watch)
{
    if (!service.loop && start_loop() != BJ_OK)
        return false;
    watch->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (watch->epoll < 0 || wait_for(watch, watch->events) != 0)
        return false;
    return loop_io_new(service.loop, watch->epoll, LOOP_READ, on_ready, watch, &watch->io) == BJ_OK;
}

/* A thread that asks whether its calls on a connection touch a handle of this loop. Not a variable
 * of the thread's: leak checkers can't read those of a library that is loaded late. */
struct asker {
    struct asker *next;
    pthread_t thread;
    bool touched;
};

static struct asker *askers; /* under the lock */

static void note_touched(void)
{
    for (struct asker *asker = askers; asker; asker = asker->next)
        if (pthread_equal(asker->thread, pthread_self()))
            asker->touched = true;
}

static int add_handle(int fd, int events, virEventHandleCallback on_event, void *opaque,
                      virFreeCallback ff)
{
    struct watch *watch = fd >= 0 && on_event ? new_watch(opaque, ff) : NULL;
    if (!watch)
        return -1;
    watch->on_event = on_event;
    watch->fd = fd;
    watch->events = events;

    libvirt_service__lock();
    int id = equip_handle(watch) ? insert(watch) : -1;
    libvirt_service__unlock();

    if (id < 0)
        free_memory(watch);
    return id;
}

static void update_handle(int id, int events)
{
    libvirt_service__lock();
    note_touched();
    struct watch *watch = find(id);
    if (watch && watch->on_event && watch->events != events) {
        watch->events = events;
        wait_for(watch, events);
    }
    libvirt_service__unlock();
}

static int remove_handle(int id)
{
    return remove_watch(id, true);
}

/* ------------------------------------------------------------------ timeouts */

static void set_interval(struct watch *watch, int interval_ms)
{
    watch->interval_ms = interval_ms;
    watch->due_ms = clock_monotonic_ms() + interval_ms;
}

static void on_due(void *user)
{
    struct watch *watch = user;

    libvirt_service__lock();
    bool is_due =
        !watch->removed && watch->interval_ms >= 0 && watch->due_ms <= clock_monotonic_ms();
    if (is_due)
        set_interval(watch, watch->interval_ms);
    apply_interval(watch);
    libvirt_service__unlock();

    if (!is_due)
        return;
    watch->on_timeout(watch->id, watch->opaque);
    wake_default();
}

/* Stands for a timeout that asks whether it reaches us. */
static void is_it_ours(int id, void *opaque)
{
    (void)id;
    *(bool *)opaque = true;
}

static int add_timeout(int interval_ms, virEventTimeoutCallback on_timeout, void *opaque,
                       virFreeCallback ff)
{
    if (on_timeout == is_it_ours) {
        is_it_ours(0, opaque);
        return -1;
    }
    struct watch *watch = on_timeout ? new_watch(opaque, ff) : NULL;
    if (!watch)
        return -1;
    watch->on_timeout = on_timeout;
    set_interval(watch, interval_ms);

    libvirt_service__lock();
    if (service.loop || start_loop() == BJ_OK)
        watch->timer = loop_timer_new(service.loop, on_due, watch);
    int id = watch->timer ? insert(watch) : -1;
    libvirt_service__unlock();

    if (id < 0)
        free_memory(watch);
    return id;
}

static void update_timeout(int id, int interval_ms)
{
    libvirt_service__lock();
    struct watch *watch = find(id);
    if (watch && !watch->on_event) {
        set_interval(watch, interval_ms);
        changed(watch);
    }
    libvirt_service__unlock();
}

static int remove_timeout(int id)
{
    return remove_watch(id, false);
}

/* -------------------------------------------------------------- registration */

/* Whose loop libvirt has; UNDECIDED: none. */
static enum whose ask_whose(void)
{
    bool ours = false;
    int id = virEventAddTimeout(-1, is_it_ours, &ours, NULL);
    if (id >= 0)
        virEventRemoveTimeout(id);
    return ours ? OURS : id >= 0 ? THEIRS : UNDECIDED;
}

static int start_loop_once(void)
{
    libvirt_service__lock();
    int r = service.loop ? BJ_OK : start_loop();
    libvirt_service__unlock();
    return r;
}

static int register_ours(enum whose *ret_whose)
{
    int r = start_loop_once();
    if (r != BJ_OK)
        return r;

    virEventRegisterImpl(add_handle, update_handle, remove_handle, add_timeout, update_timeout,
                         remove_timeout);
    *ret_whose = ask_whose();
    if (*ret_whose == OURS)
        return BJ_OK;
    stop_loop(); /* the program has just registered one */
    *ret_whose = THEIRS;
    return BJ_OK;
}

static int decide(enum whose *ret_whose)
{
    *ret_whose = ask_whose();
    switch (*ret_whose) {
    case OURS: /* a child of fork(), whose parent was about to say so */
        return start_loop_once();
    case THEIRS:
        return BJ_OK;
    default:
        return register_ours(ret_whose);
    }
}

static void init_service(void)
{
    *(void **)&service.wake_default = dlsym(RTLD_DEFAULT, "g_main_context_wakeup");
    pthread_atfork(libvirt_service__before_fork, libvirt_service__after_fork, libvirt_service__begin_child);
}

static int service_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_service);

    libvirt_service__lock();
    while (service.whose == DECIDING)
        pthread_cond_wait(&service.decided, &service.lock);
    if (service.whose != UNDECIDED) {
        int r = service.whose == THEIRS || service.loop ? BJ_OK : start_loop();
        libvirt_service__unlock();
        return r;
    }
    service.whose = DECIDING;
    libvirt_service__unlock();

    /* Asked without the lock: the program's loop may take locks of its own. */
    enum whose whose = UNDECIDED;
    int r = virInitialize() == 0 ? decide(&whose) : BJ_E_SYSTEM;

    libvirt_service__lock();
    service.whose = r == BJ_OK ? whose : UNDECIDED;
    pthread_cond_broadcast(&service.decided);
    libvirt_service__unlock();
    return r;
}

static bool service_watches_connection(void (*call)(void *user), void *user)
{
    struct asker asker = {.thread = pthread_self()};

    libvirt_service__lock();
    asker.touched = service.whose != OURS;
    asker.next = askers;
    askers = &asker;
    libvirt_service__unlock();

    /* Nobody else sets it, as it is this thread's. */
    for (int i = 0; i < HEARING_TRIES && !asker.touched; i++)
        call(user);

    libvirt_service__lock();
    struct asker **link = &askers;
    while (*link != &asker)
        link = &(*link)->next;
    *link = asker.next;
    libvirt_service__unlock();
    return asker.touched;
}

/* -------------------------------------------------------------------- fences */

/* Timeouts that are due in one turn come in any order; what was due before the first turn is not
 * left over for the second. */
enum { FENCE_TURNS = 2 };

struct libvirt_service__fence {
    void (*passed)(void *user);
    void *user;
    int turns;
};

static void libvirt_service__on_fence(int id, void *opaque)
{
    struct libvirt_service__fence *fence = opaque;
    if (++fence->turns != FENCE_TURNS)
        return;
    virEventRemoveTimeout(id);
    fence->passed(fence->user);
}

static bool service_fence(void (*passed)(void *user), void *user)
{
    struct libvirt_service__fence *fence = calloc(1, sizeof *fence);
    if (!fence)
        return false;
    fence->passed = passed;
    fence->user = user;
    if (virEventAddTimeout(0, libvirt_service__on_fence, fence, free) >= 0)
        return true;
    free(fence);
    return false;
}

/* -------------------------------------------------------------------- nudges */

struct nudge {
    int fd; /* an eventfd; what is added tells what for */
};

static const uint64_t wake_up = 1, go_away = (uint64_t)1 << 32;

/* The program's loop. */
static void on_nudge(int id, int fd, int events, void *opaque)
{
    (void)events, (void)opaque;
    uint64_t sum = 0;
    if (read(fd, &sum, sizeof sum) == sizeof sum && sum >= go_away)
        virEventRemoveHandle(id);
}

static void free_nudge(void *opaque)
{
    struct nudge *nudge = opaque;
    close(nudge->fd);
    free(nudge);
}

static void write_nudge(const struct nudge *nudge, uint64_t what)
{
    if (nudge && write(nudge->fd, &what, sizeof what) < 0)
        return; /* it is full of nudges already */
}

static struct nudge *nudge_new(void)
{
    libvirt_service__lock();
    bool theirs = service.whose == THEIRS;
    libvirt_service__unlock();

    struct nudge *nudge = theirs ? calloc(1, sizeof *nudge) : NULL;
    if (!nudge)
        return NULL;
    nudge->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (nudge->fd >= 0 &&
        virEventAddHandle(nudge->fd, VIR_EVENT_HANDLE_READABLE, on_nudge, nudge, free_nudge) >= 0)
        return nudge;
    if (nudge->fd >= 0)
        close(nudge->fd);
    free(nudge);
    return NULL;
}

static void nudge_loop(struct nudge *nudge)
{
    write_nudge(nudge, wake_up);
}

/* After this their loop may have freed it. */
static void nudge_free(struct nudge *nudge)
{
    write_nudge(nudge, go_away);
}
#undef STACK_SIZE
/* ---- core/libvirt/session.c ---- */

/*
 * A domain as libvirt hands it out; see session.h.
 */

struct session {
    const struct session_sink *sink;
    void *user;
    struct connection_user connection_user;
    struct connection *connection;
    virDomainPtr domain;
    bool listens; /* to the events of jobs; the pool's */
};

/* ---------------------------------------------------------------------- events */

static struct session *session_of(struct connection_user *user)
{
    return container_of(user, struct session, connection_user);
}

static void libvirt_session__on_block_job(struct connection_user *user, const char *disk, int type, int status)
{
    const struct session *session = session_of(user);
    session->sink->block_job(session->user, disk, type, status);
}

static void libvirt_session__on_backup_result(struct connection_user *user, bool succeeded, const char *error)
{
    const struct session *session = session_of(user);
    session->sink->backup_result(session->user, succeeded, error);
}

static void libvirt_session__on_qemu_event(struct connection_user *user, const char *name, const char *data,
                          long long seconds, unsigned micros)
{
    const struct session *session = session_of(user);
    session->sink->qemu_event(session->user, name, data, seconds, micros);
}

static void libvirt_session__on_lifecycle(struct connection_user *user, int event, int detail)
{
    const struct session *session = session_of(user);
    session->sink->lifecycle(session->user, event, detail);
}

static void on_ended(struct connection_user *user, int reason)
{
    const struct session *session = session_of(user);
    session->sink->disconnected(session->user, reason);
}

/* --------------------------------------------------------------------- opening */

static void session_close(struct session *session)
{
    if (session->domain)
        virDomainFree(session->domain);
    if (session->connection)
        connection_leave(session->connection, &session->connection_user);
    session->sink->unref(session->user);
    free(session);
}

static void session_failure_clear(struct session_failure *failure)
{
    free(failure->why);
    free(failure->substitute);
    *failure = (struct session_failure){0};
}

static bool libvirt_session__join_ours(struct session *session, const struct session_source *source,
                      struct session_failure *failure)
{
    session->connection = connection_join(source->handle, &source->key, &session->connection_user,
                                          &session->domain, &failure->is_gone, &failure->why);
    if (!session->connection)
        session->domain = NULL;
    session->listens = session->connection != NULL;
    return session->listens;
}

/* A driver in this process has no connection that could be deaf. It does no harm to go on where
 * libvirt can't be asked: the next call fails. */
static bool check_hearing(const struct session *session, struct session_failure *failure)
{
    if (!connection_is_deaf(session->connection, session->domain))
        return true;
    char *uri = virConnectGetURI(virDomainGetConnect(session->domain));
    if (!uri || uri_is_in_process(uri) ||
        virDomainGetUUIDString(session->domain, failure->uuid) != 0) {
        free(uri);
        return true;
    }
    char *ignored;
    connection_listen_to_jobs(session->connection, &ignored); /* which shows what it may do */
    free(ignored);
    failure->substitute = uri;
    failure->is_read_only = connection_is_read_only(session->connection);
    return false;
}

static bool join_theirs(struct session *session, struct session_failure *failure)
{
    session->connection =
        connection_join_theirs(session->domain, &session->connection_user, &failure->why);
    return session->connection && check_hearing(session, failure);
}

static void note_failure(struct session_failure *failure)
{
    const char *message = virGetLastErrorMessage();
    failure->is_gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
    failure->why = message ? strdup(message) : NULL;
}

static bool session_listen(struct session *session, char **ret_why)
{
    *ret_why = NULL;
    if (session->listens)
        return true;
    if (!connection_listen_to_jobs(session->connection, ret_why))
        return false;
    session->sink->listening(session->user, connection_hands_on_qemu_events(session->connection),
                             connection_is_read_only(session->connection));
    connection_hear_jobs(session->connection, &session->connection_user);
    session->listens = true;
    return true;
}

static bool session_runs(const struct session *session, struct session_failure *ret_failure)
{
    *ret_failure = (struct session_failure){0};
    int active = virDomainIsActive(session->domain);
    if (active < 0)
        note_failure(ret_failure);
    ret_failure->is_gone |= active == 0;
    if (active == 0 && asprintf(&ret_failure->why, "domain %s is not running",
                                virDomainGetName(session->domain)) < 0)
        ret_failure->why = NULL;
    return active > 0;
}

static bool session_is_persistent(const struct session *session)
{
    return virDomainIsPersistent(session->domain) == 1;
}

static bool session_may_be_started(const struct session *session)
{
    int state = VIR_DOMAIN_NOSTATE;
    int reason = 0;
    if (!session_is_persistent(session) ||
        virDomainGetState(session->domain, &state, &reason, 0) != 0)
        return false;
    return state != VIR_DOMAIN_SHUTOFF || reason != VIR_DOMAIN_SHUTOFF_MIGRATED;
}

static bool set_up(struct session *session, const struct session_source *source,
                   struct session_failure *failure)
{
    return source->theirs ? join_theirs(session, failure) : libvirt_session__join_ours(session, source, failure);
}

static void libvirt_session__release(const struct session_source *source)
{
    if (source->theirs)
        virDomainFree(source->theirs);
    if (source->handle)
        virConnectClose(source->handle);
}

static struct session *session_open(const struct session_source *source, const struct session_sink *sink,
                             void *user, struct session_failure *ret_failure)
{
    struct session *session = calloc(1, sizeof *session);
    *ret_failure = (struct session_failure){0};
    if (!session) {
        libvirt_session__release(source);
        return NULL;
    }
    session->sink = sink;
    session->user = sink->ref(user);
    session->connection_user = (struct connection_user){
        .block_job = libvirt_session__on_block_job,
        .backup_result = libvirt_session__on_backup_result,
        .qemu_event = libvirt_session__on_qemu_event,
        .lifecycle = libvirt_session__on_lifecycle,
        .ended = on_ended,
    };
    session->domain = source->theirs;
    int r = source->theirs ? service_start() : BJ_OK; /* one of ours has a loop */
    if (r == BJ_OK && set_up(session, source, ret_failure))
        return session;
    ret_failure->error = r;
    session_close(session);
    return NULL;
}

/* -------------------------------------------------------------------- releasing */

struct farewell {
    struct call call; /* first */
    struct lane *lane;
    virDomainPtr domain;
};

static void say_farewell(struct call *call)
{
    virDomainFree(((struct farewell *)call)->domain);
}

static void farewell_free(struct call *call)
{
    struct farewell *farewell = (struct farewell *)call;
    lane_unref(farewell->lane);
    free(farewell);
}

static void session_release_domain(virDomainPtr domain)
{
    struct farewell *farewell = calloc(1, sizeof *farewell);
    if (!farewell)
        return;
    farewell->call = (struct call){.run = say_farewell, .dropped = farewell_free};
    farewell->domain = domain;
    farewell->lane = lane_new(NULL, NULL);
    if (!farewell->lane || !lane_submit(farewell->lane, &farewell->call))
        farewell_free(&farewell->call);
}

/* --------------------------------------------------------------------- looking */

static virDomainPtr session_domain(const struct session *session)
{
    return session->domain;
}

static void session_called(const struct session *session)
{
    connection_nudge(session->connection);
}

/* A proxy's connection (virtproxyd's) can be there when the one behind it has ended. */
static bool reaches_driver(virDomainPtr domain)
{
    if (virDomainIsActive(domain) >= 0)
        return true;
    const virError *error = virGetLastError();
    return error && error->domain != VIR_FROM_RPC;
}

static bool session_is_alive(const struct session *session)
{
    return connection_is_alive(session->connection) &&
           (connection_reports_end(session->connection) || reaches_driver(session->domain));
}

static bool session_listens(const struct session *session)
{
    return session->listens;
}

static bool session_hands_on_qemu_events(const struct session *session)
{
    return connection_hands_on_qemu_events(session->connection);
}

static bool session_is_read_only(const struct session *session)
{
    return connection_is_read_only(session->connection);
}

static bool session_reports_end(const struct session *session)
{
    return connection_reports_end(session->connection);
}
/* ---- core/libvirt/start_backup.c ---- */

/*
 * The commands that start a backup; see start_parts.h.
 */
/* ---- core/libvirt/start_parts.h ---- */

/*
 * The parts of a start that its commands share; see start_calls.h.
 */

enum string {
    DISK,
    TARGET,
    TARGET_TYPE,
    FORMAT,
    BASE,
    TOP,
    XML,
    CHECKPOINT_XML,
    MODE,
    SERVER,
    INCREMENTAL,
    CHECKPOINT,
    STRINGS
};
enum { NOT_KEPT = STRINGS };
enum number { BANDWIDTH, GRANULARITY, BUF_SIZE, NUMBERS };

struct start {
    const struct command *command;
    char *strings[STRINGS]; /* NULL: not given */
    unsigned long long numbers[NUMBERS];
    const char *number_names[NUMBERS]; /* as which each was given; NULL: it was not */
    unsigned flags;
    unsigned given; /* those of the flags that were given, as true or as false */
    json_t *paths;  /* a backup by options: each disk's target or scratch file; else NULL */
    char *disks;    /* a backup, once it is prepared: those it is of, see disks_in_backup() */
};

struct command {
    const char *name;
    const char *type;
    const struct member *members;
    /* What no single member shows. As start_parse(); NULL: nothing. */
    int (*check)(struct start *start, struct text **ret_text);
    /* What the domain's disks show. As start_prepare(); NULL: nothing. */
    int (*prepare)(struct start *start, const struct disks *disks, struct text **ret_text);
    int (*call)(const struct start *start, virDomainPtr domain, const char *disk);
};

static int start_refuse(int error, struct text *text, struct text **ret_text);

/* ------------------------------------------------------------------------ XML */

/* malloc'ed; NULL: no memory. */
static char *start_write_xml(void (*write)(FILE *out, const void *user), const void *user);
static void start_write_attribute(FILE *out, const char *name, const char *value);
static void start_write_part(FILE *out, const char *name, const char *value, size_t len);
static void start_write_element(FILE *out, const char *name, const char *text);
/* The end of <disk>. `element` is what libvirt calls the place: <source> of a copy, <target> or
 * <scratch> of a backup. */
static void start_write_place(FILE *out, const struct start *start, const char *element, const char *path);

/* -------------------------------------------------------------------- backups */

static int start_check_backup(struct start *start, struct text **ret_text);
static int start_check_disk_backup(struct start *start, struct text **ret_text); /* blockdev-backup */
static int start_prepare_backup(struct start *start, const struct disks *disks, struct text **ret_text);
static int start_prepare_backup_xml(struct start *start, const struct disks *disks,
                             struct text **ret_text);
static int start_call_backup(const struct start *start, virDomainPtr domain, const char *disk);

static int refuse(const struct start *start, const char *what, struct text **ret_text)
{
    return start_refuse(BJ_E_INVAL, text_printf("%s: %s", start->command->name, what), ret_text);
}

/* -------------------------------------------------------------------- options */

static bool pulls(const struct start *start)
{
    return start->strings[MODE] && strcmp(start->strings[MODE], "pull") == 0;
}

static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text && strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* Where the port is in HOST:PORT, which may be [HOST]:PORT. NULL: it is no such address. */
static const char *find_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    bool is_port = colon && colon > address && colon[1] &&
                   strspn(colon + 1, "0123456789") == strlen(colon + 1);
    return is_port ? colon + 1 : NULL;
}

static bool is_server(const char *server)
{
    const char *path = after(server, "unix:");
    const char *address = after(server, "tcp:");
    return path ? *path == '/' : address && find_port(address);
}

static int start_check_backup(struct start *start, struct text **ret_text)
{
    const char *server = start->strings[SERVER];
    if (!pulls(start))
        return server ? refuse(start, "\"server\" is for \"mode\": \"pull\"", ret_text) : BJ_OK;
    if (!server)
        return refuse(start, "\"server\" is missing: a client pulls the backup from it", ret_text);
    if (!is_server(server))
        return refuse(start, "\"server\" must be unix:PATH or tcp:HOST:PORT", ret_text);
    return start->strings[FORMAT] ? refuse(start, "\"format\" is for \"mode\": \"push\"", ret_text)
                                  : BJ_OK;
}

static int start_check_disk_backup(struct start *start, struct text **ret_text)
{
    if (*start->strings[TARGET] == '<')
        return refuse(start, "\"target\" must be a path; virDomainBackupBegin takes XML", ret_text);
    start->paths = json_pack("{ss}", start->strings[DISK], start->strings[TARGET]);
    return start->paths ? BJ_OK : BJ_E_NOMEM;
}

/* ------------------------------------------------------------------------ XML */

struct backup {
    const struct start *start;
    const struct disks *disks;
};

static void write_address(FILE *out, const char *address)
{
    const char *port = find_port(address);
    size_t len = (size_t)(port - 1 - address);
    bool has_brackets = *address == '[' && address[len - 1] == ']';

    start_write_part(out, "name", address + has_brackets, has_brackets ? len - 2 : len);
    start_write_attribute(out, "port", port);
}

static void write_server(FILE *out, const char *server)
{
    const char *path = after(server, "unix:");
    (void)fputs("<server", out);
    start_write_attribute(out, "transport", path ? "unix" : "tcp");
    if (path)
        start_write_attribute(out, "socket", path);
    else
        write_address(out, after(server, "tcp:"));
    (void)fputs("/>", out);
}

/* Disks that are not in the list are not backed up. */
static void write_backup(FILE *out, const void *user)
{
    const struct backup *backup = user;
    const struct start *start = backup->start;
    const char *incremental = start->strings[INCREMENTAL];
    const char *name;
    json_t *path;

    (void)fputs(pulls(start) ? "<domainbackup mode=\"pull\">" : "<domainbackup>", out);
    if (incremental)
        start_write_element(out, "incremental", incremental);
    if (pulls(start))
        write_server(out, start->strings[SERVER]);
    (void)fputs("<disks>", out);
    json_object_foreach(start->paths, name, path)
    {
        (void)fputs("<disk", out);
        start_write_attribute(out, "name", disks_find(backup->disks, name)->target);
        if (!incremental)
            start_write_attribute(out, "backupmode", "full");
        start_write_place(out, start, pulls(start) ? "scratch" : "target", json_string_value(path));
    }
    (void)fputs("</disks></domainbackup>", out);
}

/* Of the same disks. */
static void write_checkpoint(FILE *out, const void *user)
{
    const struct backup *backup = user;
    const char *name;
    json_t *path;

    (void)fputs("<domaincheckpoint>", out);
    start_write_element(out, "name", backup->start->strings[CHECKPOINT]);
    (void)fputs("<disks>", out);
    json_object_foreach(backup->start->paths, name, path)
    {
        (void)fputs("<disk", out);
        start_write_attribute(out, "name", disks_find(backup->disks, name)->target);
        (void)fputs(" checkpoint=\"bitmap\"/>", out);
    }
    (void)fputs("</disks></domaincheckpoint>", out);
}

static int refuse_disk(const struct start *start, const char *what, const char *name,
                       struct text **ret_text)
{
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: %s \"%.*s\"", start->command->name, what,
                                    text_fit(name, QUOTED_MAX), name),
                        ret_text);
}

/* A disk can be named in two ways, by its target and by its path. */
static bool is_named_before(const struct start *start, const struct disks *disks, const char *name)
{
    const struct disk *disk = disks_find(disks, name);
    const char *other;
    json_t *path;
    json_object_foreach(start->paths, other, path)
    {
        if (strcmp(other, name) == 0)
            return false;
        if (disks_find(disks, other) == disk)
            return true;
    }
    return false;
}

static int check_disks(const struct start *start, const struct disks *disks, struct text **ret_text)
{
    const char *name;
    json_t *path;
    json_object_foreach(start->paths, name, path)
    {
        if (!disks_find(disks, name))
            return refuse_disk(start, "the domain has no disk", name, ret_text);
        if (is_named_before(start, disks, name))
            return refuse_disk(start, "\"disks\" has twice the disk", name, ret_text);
    }
    return BJ_OK;
}

static int start_prepare_backup(struct start *start, const struct disks *disks, struct text **ret_text)
{
    const struct backup backup = {start, disks};
    int r = check_disks(start, disks, ret_text);
    if (r != BJ_OK)
        return r;
    start->strings[XML] = start_write_xml(write_backup, &backup);
    if (start->strings[CHECKPOINT])
        start->strings[CHECKPOINT_XML] = start_write_xml(write_checkpoint, &backup);
    if (!start->strings[XML] || (start->strings[CHECKPOINT] && !start->strings[CHECKPOINT_XML]))
        return BJ_E_NOMEM;
    return disks_in_backup(disks, start->strings[XML], &start->disks);
}

/* --------------------------------------------------------------- libvirt's XML */

/* libvirt makes no job on a disk that the XML leaves out, and does not object to it. */
static int check_disk(const struct start *start, const struct disks *disks, struct text **ret_text)
{
    const char *name = start->strings[DISK];
    const struct disk *disk = name ? disks_find(disks, name) : NULL;
    if (!name || (disk && disks_list_has(start->disks, disk->target)))
        return BJ_OK;
    return refuse_disk(start, disk ? "\"backupxml\" leaves out the disk" : "the domain has no disk",
                       name, ret_text);
}

static int start_prepare_backup_xml(struct start *start, const struct disks *disks, struct text **ret_text)
{
    int r = disks_in_backup(disks, start->strings[XML], &start->disks);
    if (r == BJ_E_PROTOCOL)
        return refuse(start, "\"backupxml\" is not a <domainbackup> in XML", ret_text);
    return r == BJ_OK ? check_disk(start, disks, ret_text) : r;
}

/* ----------------------------------------------------------------------- call */

static int start_call_backup(const struct start *start, virDomainPtr domain, const char *disk)
{
    (void)disk; /* is in the XML */
    return virDomainBackupBegin(domain, start->strings[XML], start->strings[CHECKPOINT_XML],
                                start->flags);
}
/* ---- core/libvirt/start_calls.c ---- */

/*
 * The commands that start a domain's jobs; see start_calls.h.
 */

/* -------------------------------------------------------------------- tables */

/* A word, and the flag of the call that it stands for; 0: none is needed. */
struct libvirt_start_calls__word {
    const char *name;
    unsigned flag;
};

enum { NO_SUCH_FLAG = 1U << 30 }; /* this libvirt is too old for it */

#if LIBVIR_CHECK_VERSION(8, 0, 0)
#define SYNCHRONOUS_WRITES VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
#else
#define SYNCHRONOUS_WRITES NO_SUCH_FLAG
#endif

static const struct libvirt_start_calls__word copy_flags[] = {
    {"SHALLOW", VIR_DOMAIN_BLOCK_COPY_SHALLOW},
    {"REUSE_EXT", VIR_DOMAIN_BLOCK_COPY_REUSE_EXT},
    {"TRANSIENT_JOB", VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB},
    {"SYNCHRONOUS_WRITES", SYNCHRONOUS_WRITES},
    {NULL, 0},
};
static const struct libvirt_start_calls__word commit_flags[] = {
    {"SHALLOW", VIR_DOMAIN_BLOCK_COMMIT_SHALLOW},
    {"DELETE", VIR_DOMAIN_BLOCK_COMMIT_DELETE},
    {"ACTIVE", VIR_DOMAIN_BLOCK_COMMIT_ACTIVE},
    {"RELATIVE", VIR_DOMAIN_BLOCK_COMMIT_RELATIVE},
    {NULL, 0},
};
static const struct libvirt_start_calls__word rebase_flags[] = {
    {"SHALLOW", VIR_DOMAIN_BLOCK_REBASE_SHALLOW},
    {"REUSE_EXT", VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT},
    {"COPY_RAW", VIR_DOMAIN_BLOCK_REBASE_COPY_RAW},
    {"COPY", VIR_DOMAIN_BLOCK_REBASE_COPY},
    {"RELATIVE", VIR_DOMAIN_BLOCK_REBASE_RELATIVE},
    {"COPY_DEV", VIR_DOMAIN_BLOCK_REBASE_COPY_DEV},
    {NULL, 0},
};
static const struct libvirt_start_calls__word backup_flags[] = {
    {"REUSE_EXTERNAL", VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL},
    {NULL, 0},
};
static const struct libvirt_start_calls__word mirror_syncs[] = {
    {"full", 0}, {"top", VIR_DOMAIN_BLOCK_COPY_SHALLOW}, {NULL, 0}};
static const struct libvirt_start_calls__word backup_syncs[] = {{"full", 0}, {NULL, 0}};
static const struct libvirt_start_calls__word copy_modes[] = {
    {"background", 0}, {"write-blocking", SYNCHRONOUS_WRITES}, {NULL, 0}};
static const struct libvirt_start_calls__word backup_modes[] = {{"push", 0}, {"pull", 0}, {NULL, 0}};
static const struct libvirt_start_calls__word target_types[] = {{"file", 0}, {"block", 0}, {NULL, 0}};

enum kind {
    IS_STRING,  /* not empty; `place` is an enum string */
    IS_WORD,    /* the same, or NOT_KEPT; one of `words` */
    IS_NUMBER,  /* 0 to `max`; `place` is an enum number */
    IS_BOOLEAN, /* whether `flag` is set */
    IS_PATHS,   /* an object, of disks and their paths */
    IS_FLAGS    /* an array of `words` */
};

struct member {
    const char *name;
    enum kind kind;
    int place;
    bool required;
    const struct libvirt_start_calls__word *words;
    unsigned flag;
    unsigned long long max;
};

static const struct member mirror_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"target", IS_STRING, .place = TARGET, .required = true},
    {"sync", IS_WORD, .place = NOT_KEPT, .required = true, .words = mirror_syncs},
    {"target-type", IS_WORD, .place = TARGET_TYPE, .words = target_types},
    {"format", IS_STRING, .place = FORMAT},
    {"reuse", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COPY_REUSE_EXT},
    {"transient", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB},
    {"copy-mode", IS_WORD, .place = NOT_KEPT, .words = copy_modes},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULLONG_MAX},
    {"speed", IS_NUMBER, .place = BANDWIDTH, .max = ULLONG_MAX},
    {"granularity", IS_NUMBER, .place = GRANULARITY, .max = UINT_MAX},
    {"buf-size", IS_NUMBER, .place = BUF_SIZE, .max = ULLONG_MAX},
    {.name = NULL},
};
static const struct member block_commit_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"top", IS_STRING, .place = TOP},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"speed", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"active", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_ACTIVE},
    {"shallow", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_SHALLOW},
    {"relative", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_RELATIVE},
    {"delete", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_DELETE},
    {.name = NULL},
};
static const struct member stream_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"speed", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"relative", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_REBASE_RELATIVE},
    {.name = NULL},
};
static const struct member blockdev_backup_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"target", IS_STRING, .place = TARGET, .required = true},
    {"sync", IS_WORD, .place = NOT_KEPT, .required = true, .words = backup_syncs},
    {"target-type", IS_WORD, .place = TARGET_TYPE, .words = target_types},
    {"format", IS_STRING, .place = FORMAT},
    {"reuse", IS_BOOLEAN, .flag = VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL},
    {.name = NULL},
};
static const struct member backup_members[] = {
    {"disks", IS_PATHS, .required = true},
    {"mode", IS_WORD, .place = MODE, .words = backup_modes},
    {"server", IS_STRING, .place = SERVER},
    {"incremental", IS_STRING, .place = INCREMENTAL},
    {"checkpoint", IS_STRING, .place = CHECKPOINT},
    {"target-type", IS_WORD, .place = TARGET_TYPE, .words = target_types},
    {"format", IS_STRING, .place = FORMAT},
    {"reuse", IS_BOOLEAN, .flag = VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL},
    {.name = NULL},
};
static const struct member copy_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"destxml", IS_STRING, .place = XML, .required = true},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULLONG_MAX},
    {"granularity", IS_NUMBER, .place = GRANULARITY, .max = UINT_MAX},
    {"buf-size", IS_NUMBER, .place = BUF_SIZE, .max = ULLONG_MAX},
    {"flags", IS_FLAGS, .words = copy_flags},
    {.name = NULL},
};
static const struct member commit_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"top", IS_STRING, .place = TOP},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"flags", IS_FLAGS, .words = commit_flags},
    {.name = NULL},
};
static const struct member pull_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {.name = NULL},
};
static const struct member rebase_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"flags", IS_FLAGS, .words = rebase_flags},
    {.name = NULL},
};
static const struct member backup_begin_members[] = {
    {"disk", IS_STRING, .place = DISK},
    {"backupxml", IS_STRING, .place = XML, .required = true},
    {"checkpointxml", IS_STRING, .place = CHECKPOINT_XML},
    {"flags", IS_FLAGS, .words = backup_flags},
    {.name = NULL},
};

/* ----------------------------------------------------------------------- XML */

static void write_copy(FILE *out, const void *start)
{
    (void)fputs("<disk", out);
    start_write_place(out, start, "source", ((const struct start *)start)->strings[TARGET]);
}

/* --------------------------------------------------------------------- calls */

static void add_parameter(virTypedParameter *parameters, int *count, const char *name, int type,
                          unsigned long long value)
{
    virTypedParameter *parameter = &parameters[*count];
    if (value == 0)
        return; /* as libvirt likes it */
    *parameter = (virTypedParameter){.type = type};
    snprintf(parameter->field, sizeof parameter->field, "%s", name);
    if (type == VIR_TYPED_PARAM_UINT)
        parameter->value.ui = (unsigned)value;
    else
        parameter->value.ul = value;
    ++*count;
}

static int call_copy(const struct start *start, virDomainPtr domain, const char *disk)
{
    virTypedParameter parameters[NUMBERS];
    int count = 0;
    add_parameter(parameters, &count, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH, VIR_TYPED_PARAM_ULLONG,
                  start->numbers[BANDWIDTH]);
    add_parameter(parameters, &count, VIR_DOMAIN_BLOCK_COPY_GRANULARITY, VIR_TYPED_PARAM_UINT,
                  start->numbers[GRANULARITY]);
    add_parameter(parameters, &count, VIR_DOMAIN_BLOCK_COPY_BUF_SIZE, VIR_TYPED_PARAM_ULLONG,
                  start->numbers[BUF_SIZE]);
    return virDomainBlockCopy(domain, disk, start->strings[XML], count ? parameters : NULL, count,
                              start->flags);
}

static int call_mirror(const struct start *start, virDomainPtr domain, const char *disk)
{
    char *target = start->strings[TARGET];
    struct start copy = *start;
    bool is_xml = *target == '<';

    copy.strings[XML] = is_xml ? target : start_write_xml(write_copy, start);
    if (!copy.strings[XML])
        return BJ_E_NOMEM;
    int r = call_copy(&copy, domain, disk);
    if (!is_xml)
        free(copy.strings[XML]);
    return r;
}

static int call_commit(const struct start *start, virDomainPtr domain, const char *disk)
{
    return virDomainBlockCommit(domain, disk, start->strings[BASE], start->strings[TOP],
                                (unsigned long)start->numbers[BANDWIDTH],
                                start->flags | VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES);
}

static int call_pull(const struct start *start, virDomainPtr domain, const char *disk)
{
    return virDomainBlockPull(domain, disk, (unsigned long)start->numbers[BANDWIDTH],
                              start->flags | VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES);
}

static int call_rebase(const struct start *start, virDomainPtr domain, const char *disk)
{
    return virDomainBlockRebase(domain, disk, start->strings[BASE],
                                (unsigned long)start->numbers[BANDWIDTH],
                                start->flags | VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES);
}

static int call_stream(const struct start *start, virDomainPtr domain, const char *disk)
{
    return start->strings[BASE] ? call_rebase(start, domain, disk) : call_pull(start, domain, disk);
}

/* -------------------------------------------------------------------- checks */

static int check_mirror(struct start *start, struct text **ret_text)
{
    const char *extra = start->strings[FORMAT]        ? "format"
                        : start->strings[TARGET_TYPE] ? "target-type"
                                                      : NULL;
    if (*start->strings[TARGET] != '<' || !extra)
        return BJ_OK;
    return start_refuse(
        BJ_E_INVAL,
        text_printf("%s: \"%s\" goes with a target that is a path; this one is XML, which says it",
                    start->command->name, extra),
        ret_text);
}

/* As with QEMU, what is committed is the active layer, unless it is said. */
static int check_commit(struct start *start, struct text **ret_text)
{
    (void)ret_text;
    if (!start->strings[TOP] && !(start->given & VIR_DOMAIN_BLOCK_COMMIT_ACTIVE))
        start->flags |= VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
    return BJ_OK;
}

static int check_stream(struct start *start, struct text **ret_text)
{
    if (start->strings[BASE] || !(start->flags & VIR_DOMAIN_BLOCK_REBASE_RELATIVE))
        return BJ_OK;
    return start_refuse(
        BJ_E_INVAL,
        text_printf("%s: \"relative\" is about the name of a \"base\", and there is none",
                    start->command->name),
        ret_text);
}

static const struct command commands[] = {
    {"blockdev-mirror", "mirror", mirror_members, check_mirror, NULL, call_mirror},
    {"block-commit", "commit", block_commit_members, check_commit, NULL, call_commit},
    {"block-stream", "stream", stream_members, check_stream, NULL, call_stream},
    {"blockdev-backup", "backup", blockdev_backup_members, start_check_disk_backup,
     start_prepare_backup, start_call_backup},
    {"backup", "backup", backup_members, start_check_backup, start_prepare_backup,
     start_call_backup},
    {"virDomainBlockCopy", "mirror", copy_members, NULL, NULL, call_copy},
    {"virDomainBlockCommit", "commit", commit_members, NULL, NULL, call_commit},
    {"virDomainBlockPull", "stream", pull_members, NULL, NULL, call_pull},
    {"virDomainBlockRebase", "stream", rebase_members, NULL, NULL, call_rebase},
    {"virDomainBackupBegin", "backup", backup_begin_members, NULL, start_prepare_backup_xml,
     start_call_backup},
};

static const struct command *command_of(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static bool start_is_known(const char *command)
{
    return command_of(command) != NULL;
}

/* ------------------------------------------------------------------- members */

/* For a sentence: "full", "top". The tables are short. */
struct list {
    char text[256];
    size_t len;
};

static void add_to_list(struct list *list, const char *word)
{
    size_t room = sizeof list->text - list->len;
    int len = snprintf(list->text + list->len, room, "%s\"%s\"", list->len ? ", " : "", word);
    if (len > 0 && (size_t)len < room)
        list->len += (size_t)len;
}

static struct list list_words(const struct libvirt_start_calls__word *words)
{
    struct list list = {.text = ""};
    for (; words->name; words++)
        add_to_list(&list, words->name);
    return list;
}

static struct list list_members(const struct member *members)
{
    struct list list = {.text = ""};
    for (; members->name; members++)
        add_to_list(&list, members->name);
    return list;
}

static int refuse_value(const struct start *start, const struct member *member, const char *what,
                        const char *words, struct text **ret_text)
{
    return start_refuse(
        BJ_E_INVAL,
        text_printf("%s: \"%s\" must be %s%s", start->command->name, member->name, what, words),
        ret_text);
}

/* A string that C can hold. NULL: it is none, or an empty one. */
static const char *string_of(const json_t *value)
{
    const char *string = json_string_value(value);
    bool is_whole = string && *string && strlen(string) == json_string_length(value);
    return is_whole ? string : NULL;
}

static int read_string(struct start *start, const struct member *member, const json_t *value,
                       struct text **ret_text)
{
    const char *string = string_of(value);
    if (!string)
        return refuse_value(start, member, "a string that is not empty", "", ret_text);
    free(start->strings[member->place]);
    start->strings[member->place] = strdup(string);
    return start->strings[member->place] ? BJ_OK : BJ_E_NOMEM;
}

static const struct libvirt_start_calls__word *find_word(const struct libvirt_start_calls__word *words, const char *name)
{
    for (; name && words->name; words++)
        if (strcmp(words->name, name) == 0)
            return words;
    return NULL;
}

static int set_flag(struct start *start, const struct member *member, const struct libvirt_start_calls__word *word,
                    struct text **ret_text)
{
    if (word->flag == NO_SUCH_FLAG)
        return start_refuse(BJ_E_UNSUPPORTED,
                            text_printf("%s: this libvirt is too old for \"%s\" of \"%s\"",
                                        start->command->name, word->name, member->name),
                            ret_text);
    start->flags |= word->flag;
    return BJ_OK;
}

static int read_word(struct start *start, const struct member *member, const json_t *value,
                     struct text **ret_text)
{
    const struct libvirt_start_calls__word *word = find_word(member->words, string_of(value));
    if (!word) {
        struct list list = list_words(member->words);
        return refuse_value(start, member, member->words[1].name ? "one of " : "", list.text,
                            ret_text);
    }
    int r = set_flag(start, member, word, ret_text);
    bool is_kept = r == BJ_OK && member->place != NOT_KEPT;
    return is_kept ? read_string(start, member, value, ret_text) : r;
}

static int read_number(struct start *start, const struct member *member, const json_t *value,
                       struct text **ret_text)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (unsigned long long)number > member->max)
        return refuse_value(start, member, "an integer, not negative and not too large", "",
                            ret_text);
    const char *other = start->number_names[member->place];
    if (other)
        return start_refuse(BJ_E_INVAL,
                            text_printf("%s: \"%s\" and \"%s\" are the same: give one of them",
                                        start->command->name, other, member->name),
                            ret_text);
    start->number_names[member->place] = member->name;
    start->numbers[member->place] = (unsigned long long)number;
    return BJ_OK;
}

static int read_boolean(struct start *start, const struct member *member, const json_t *value,
                        struct text **ret_text)
{
    if (!json_is_boolean(value))
        return refuse_value(start, member, "true or false", "", ret_text);
    start->given |= member->flag;
    if (json_is_true(value))
        start->flags |= member->flag;
    return BJ_OK;
}

static int read_paths(struct start *start, const struct member *member, const json_t *value,
                      struct text **ret_text)
{
    const char *disk;
    json_t *path;
    bool is_good = json_object_size(value) > 0;

    json_object_foreach((json_t *)value, disk, path)
    {
        const char *string = string_of(path);
        is_good &= *disk && string && *string == '/';
    }
    if (!is_good)
        return refuse_value(start, member, "an object of disks and absolute paths, not empty", "",
                            ret_text);
    start->paths = json_incref((json_t *)value);
    return BJ_OK;
}

static int read_flags(struct start *start, const struct member *member, const json_t *value,
                      struct text **ret_text)
{
    int r = json_is_array(value) ? BJ_OK : BJ_E_INVAL;
    for (size_t i = 0; r == BJ_OK && i < json_array_size(value); i++) {
        const struct libvirt_start_calls__word *word = find_word(member->words, string_of(json_array_get(value, i)));
        r = word ? set_flag(start, member, word, ret_text) : BJ_E_INVAL;
    }
    if (r != BJ_E_INVAL)
        return r;
    struct list list = list_words(member->words);
    return refuse_value(start, member, "an array of flags, of which there are ", list.text,
                        ret_text);
}

static int read_member(struct start *start, const struct member *member, const json_t *value,
                       struct text **ret_text)
{
    switch (member->kind) {
    case IS_STRING:
        return read_string(start, member, value, ret_text);
    case IS_WORD:
        return read_word(start, member, value, ret_text);
    case IS_NUMBER:
        return read_number(start, member, value, ret_text);
    case IS_BOOLEAN:
        return read_boolean(start, member, value, ret_text);
    case IS_PATHS:
        return read_paths(start, member, value, ret_text);
    default:
        return read_flags(start, member, value, ret_text);
    }
}

/* ------------------------------------------------------------------- parsing */

/* What QEMU's commands take, and libvirt decides. */
static const char *why_not(const char *name)
{
    if (strcmp(name, "job-id") == 0)
        return "the job of a domain goes by the name of its disk";
    if (strcmp(name, "auto-dismiss") == 0 || strcmp(name, "auto-finalize") == 0)
        return "libvirt sees to that";
    return NULL;
}

static int refuse_member(const struct command *command, const char *name, struct text **ret_text)
{
    const char *why = why_not(name);
    if (why)
        return start_refuse(
            BJ_E_UNSUPPORTED,
            text_printf("%s: \"%s\" can't be given to libvirt: %s", command->name, name, why),
            ret_text);
    struct list list = list_members(command->members);
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: libvirt has no \"%.*s\" for it; there are %s",
                                    command->name, text_fit(name, QUOTED_MAX), name, list.text),
                        ret_text);
}

/* null is as if it were not there. */
static int read_members(struct start *start, const json_t *arguments, struct text **ret_text)
{
    for (const struct member *member = start->command->members; member->name; member++) {
        const json_t *value = json_object_get(arguments, member->name);
        int r = BJ_OK;
        if (value && !json_is_null(value))
            r = read_member(start, member, value, ret_text);
        else if (member->required)
            r = start_refuse(
                BJ_E_INVAL,
                text_printf("%s: \"%s\" is missing", start->command->name, member->name), ret_text);
        if (r != BJ_OK)
            return r;
    }
    return BJ_OK;
}

static int find_unknown_members(const struct command *command, const json_t *arguments,
                                struct text **ret_text)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)arguments, name, value)
    {
        const struct member *member = command->members;
        while (member->name && strcmp(member->name, name) != 0)
            member++;
        if (!member->name)
            return refuse_member(command, name, ret_text);
    }
    return BJ_OK;
}

static int start_parse(const char *command, const json_t *arguments, struct start **ret,
                struct text **ret_text)
{
    const struct command *known = command_of(command);
    if (!known)
        return start_refuse(BJ_E_UNSUPPORTED,
                            text_printf("%.*s: it starts no job of a libvirt domain",
                                        text_fit(command, QUOTED_MAX), command),
                            ret_text);
    if (!json_is_object(arguments))
        return start_refuse(
            BJ_E_INVAL, text_printf("%s: its arguments are not a JSON object", command), ret_text);
    int r = find_unknown_members(known, arguments, ret_text);
    if (r != BJ_OK)
        return r;

    struct start *start = calloc(1, sizeof *start);
    if (!start)
        return BJ_E_NOMEM;
    start->command = known;
    r = read_members(start, arguments, ret_text);
    if (r == BJ_OK && known->check)
        r = known->check(start, ret_text);
    if (r == BJ_OK)
        *ret = start;
    else
        start_free(start);
    return r;
}

static void start_free(struct start *start)
{
    for (int i = 0; start && i < STRINGS; i++)
        free(start->strings[i]);
    if (start) {
        free(start->disks);
        json_decref(start->paths);
    }
    free(start);
}

static const char *start_disk(const struct start *start)
{
    return start->strings[DISK];
}

static const char *start_type(const struct start *start)
{
    bool is_copy =
        start->command->members == rebase_members && start->flags & VIR_DOMAIN_BLOCK_REBASE_COPY;
    return is_copy ? "mirror" : start->command->type;
}

static bool start_is_backup(const struct start *start)
{
    return start->command->call == start_call_backup;
}

static const char *start_disks(const struct start *start)
{
    return start->disks;
}

static int start_prepare(struct start *start, const struct disks *disks, struct text **ret_text)
{
    const struct command *command = start->command;
    return command->prepare ? command->prepare(start, disks, ret_text) : BJ_OK;
}

static int start_call(const struct start *start, virDomainPtr domain, const char *target)
{
    return start->command->call(start, domain, target);
}
#undef SYNCHRONOUS_WRITES
/* ---- core/libvirt/start_parts.c ---- */

/*
 * The parts of a start that its commands share; see start_parts.h.
 */

static int start_refuse(int error, struct text *text, struct text **ret_text)
{
    *ret_text = text;
    return error;
}

/* ------------------------------------------------------------------------ XML */

static char *start_write_xml(void (*write)(FILE *out, const void *user), const void *user)
{
    char *xml = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&xml, &len);
    if (!out)
        return NULL;
    write(out, user);
    bool failed = ferror(out);
    if (fclose(out) == 0 && !failed)
        return xml;
    free(xml);
    return NULL;
}

/* libxml2's writer leaves out in silence what it has no memory for. */
static void write_text(FILE *out, const char *text, size_t len)
{
    for (const char *end = text + len; text < end; text++)
        (void)(strchr("<>&\"'\t\n\r", *text) ? fprintf(out, "&#%d;", *text) : fputc(*text, out));
}

static void start_write_part(FILE *out, const char *name, const char *value, size_t len)
{
    (void)fprintf(out, " %s=\"", name);
    write_text(out, value, len);
    (void)fputc('"', out);
}

static void start_write_attribute(FILE *out, const char *name, const char *value)
{
    start_write_part(out, name, value, strlen(value));
}

static void start_write_element(FILE *out, const char *name, const char *text)
{
    (void)fprintf(out, "<%s>", name);
    write_text(out, text, strlen(text));
    (void)fprintf(out, "</%s>", name);
}

/* An element without content. */
static void write_empty(FILE *out, const char *name, const char *attribute, const char *value)
{
    (void)fprintf(out, "<%s", name);
    start_write_attribute(out, attribute, value);
    (void)fputs("/>", out);
}

static void start_write_place(FILE *out, const struct start *start, const char *element, const char *path)
{
    const char *type = start->strings[TARGET_TYPE];
    const char *format = start->strings[FORMAT];
    bool is_block = type && strcmp(type, "block") == 0;

    start_write_attribute(out, "type", is_block ? "block" : "file");
    (void)fputc('>', out);
    write_empty(out, element, is_block ? "dev" : "file", path);
    if (format)
        write_empty(out, "driver", "type", format);
    (void)fputs("</disk>", out);
}
/* ---- core/libvirt/uri.c ---- */

/*
 * The address of a domain; see uri.h.
 */

static int hex_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(digits, c | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* %20 and the like, in place. False: something that is no such. */
static bool decode(char *text)
{
    char *out = text;
    for (const char *in = text; *in; out++) {
        if (*in != '%') {
            *out = *in++;
            continue;
        }
        int high = hex_of(in[1]);
        int low = high < 0 ? -1 : hex_of(in[2]);
        if (low < 0 || (high == 0 && low == 0))
            return false;
        *out = (char)(high * 16 + low);
        in += 3;
    }
    *out = '\0';
    return true;
}

static void domain_address_clear(struct domain_address *address)
{
    free(address->connection);
    free(address->name);
    *address = (struct domain_address){0};
}

/* Takes the options off the name. A question mark of the name itself is %3F. False: one that there
 * is not. */
static bool take_options(struct domain_address *address)
{
    char *options = strchr(address->name, '?');
    if (!options)
        return true;
    *options++ = '\0';
    address->is_read_only = true;
    return strcmp(options, "readonly") == 0;
}

/* NULL: nothing is. */
static const char *find_fault(struct domain_address *address)
{
    if (!take_options(address))
        return "has something else than ?readonly behind the domain's name: write a question mark "
               "of the name itself as %3F";
    if (!decode(address->name) || *address->name == '\0')
        return "names no domain: use the URI of a connection, # and the domain's name or UUID, as "
               "in qemu:///system#vm1";
    return NULL;
}

static int domain_address_parse(const char *uri, struct domain_address *ret, const char **ret_why)
{
    static const char by_default[] = "libvirt:";
    bool is_default = strncmp(uri, by_default, strlen(by_default)) == 0;
    const char *hash = strrchr(uri, '#');
    const char *name = is_default ? uri + strlen(by_default) : hash ? hash + 1 : "";
    size_t connection = hash ? (size_t)(hash - uri) : 0;

    *ret = (struct domain_address){
        .connection = is_default ? NULL : strndup(uri, connection),
        .name = strdup(name),
    };
    int r = (is_default || ret->connection) && ret->name ? BJ_OK : BJ_E_NOMEM;
    *ret_why = r == BJ_OK ? find_fault(ret) : NULL;
    if (*ret_why)
        r = BJ_E_INVAL;
    if (r != BJ_OK)
        domain_address_clear(ret);
    return r;
}

/* ----------------------------------------------------------------- connections */

/* "//" and the host, or "": where a URI's authority begins. */
static const char *authority_of(const char *uri)
{
    const char *colon = strchr(uri, ':');
    return colon && strncmp(colon, "://", 3) == 0 ? colon + 3 : "";
}

/* As libvirt decides it: a scheme without a transport, and no host. */
static bool uri_is_in_process(const char *uri)
{
    const char *path = authority_of(uri);
    size_t length = strcspn(path, "?#");

    if (strncmp(uri, "test:///", 8) == 0)
        return true;
    return strncmp(uri, "qemu:///", 8) == 0 && length == strlen("/embed") &&
           strncmp(path, "/embed", length) == 0;
}

/* libvirt ignores the case of these names. NULL: the URI has none of that name. */
static const char *find_parameter(const char *uri, const char *name)
{
    size_t length = strlen(name);
    const char *at = strchr(uri, '?');
    while (at && !(strncasecmp(at + 1, name, length) == 0 && strchr("=&;", at[1 + length])))
        at = strpbrk(at + 1, "&;");
    return at ? at + 1 : NULL;
}

static bool is_over_ssh(const char *uri)
{
    static const char transport[] = "+ssh://";
    size_t scheme = strcspn(uri, "+:");
    return strncmp(uri + scheme, transport, strlen(transport)) == 0;
}

static char *uri_unattended(const char *uri)
{
    char *unattended;
    if (!is_over_ssh(uri) || find_parameter(uri, "no_tty"))
        return strdup(uri);
    const char *separator = strchr(uri, '?') ? "&" : "?";
    return asprintf(&unattended, "%s%sno_tty=1", uri, separator) < 0 ? NULL : unattended;
}
/* ---- core/libvirt/verdict.c ---- */

/*
 * Why libvirt has refused a verb; see verdict.h.
 */

static bool verdict_needs_aftermath(enum verdict_verb verb, int code)
{
    return verb != JUDGE_SPEED && code == VERDICT_CODE_OPERATION_INVALID;
}

/* Of a domain that runs, libvirt says "not valid" of a verb because it has taken another client's,
 * or because QEMU's job is over and its end is about to be dealt with. Of a pivot it also says so
 * where the job has none, so there the mirror has to show it. */
static enum verdict not_valid(enum verdict_verb verb, const struct aftermath *after)
{
    if (!after->is_known)
        return VERDICT_REFUSED;
    if (after->is_ending)
        return VERDICT_ENDING;
    if (!after->has_job)
        return VERDICT_NO_SUCH_JOB; /* it has ended meanwhile */
    return verb == JUDGE_ABORT ? VERDICT_ENDING : VERDICT_REFUSED;
}

static enum verdict verdict_of(enum verdict_verb verb, int code, const struct aftermath *after)
{
    if (code == VERDICT_CODE_INVALID_ARG)
        return VERDICT_NO_SUCH_JOB;
    return verdict_needs_aftermath(verb, code) ? not_valid(verb, after) : VERDICT_REFUSED;
}
