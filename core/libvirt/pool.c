/* SPDX-License-Identifier: MIT */
/*
 * Threads for calls that block; see pool.h.
 */
#include "pool.h"
#include "base/container_of.h"
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

/* libvirt's client needs little, but what it calls into may not: GnuTLS, SASL, the resolver. */
#define STACK_SIZE (1024 * 1024)

struct lane {
    atomic_uint refs;
    struct mailbox *mailbox;

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
    unsigned threads;
    unsigned free; /* of these; the ones that have just been started, too */

    /* The one that fell asleep last is woken first: those that are not needed sleep on, and go. */
    struct sleeper *sleepers;

    struct lane *first; /* they wait for a thread */
    struct lane **last;
    unsigned waiting;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &pool.first};

/* --------------------------------------------------------------------- lanes */

struct lane *lane_new(struct mailbox *mailbox)
{
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    atomic_init(&lane->refs, 1);
    lane->mailbox = mailbox_ref(mailbox);
    lane->last = &lane->first;
    return lane;
}

struct lane *lane_ref(struct lane *lane)
{
    atomic_fetch_add(&lane->refs, 1);
    return lane;
}

struct lane *lane_unref(struct lane *lane)
{
    if (!lane || atomic_fetch_sub(&lane->refs, 1) != 1)
        return NULL;
    mailbox_unref(lane->mailbox);
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

static void append_lane(struct lane *lane)
{
    lane->next = NULL;
    *pool.last = lane;
    pool.last = &lane->next;
    pool.waiting++;
}

static struct lane *take_lane(void)
{
    struct lane *lane = pool.first;
    if (!(pool.first = lane->next))
        pool.last = &pool.first;
    pool.waiting--;
    return lane;
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
    if (!mailbox_post(lane->mailbox, &call->task))
        call->dropped(call);
}

/* The lock is held. Runs one call of the lane that has waited longest. */
static void serve_lane(void)
{
    struct lane *lane = take_lane();
    struct call *call = take_call(lane); /* NULL: it was withdrawn */

    if (call) {
        pool.free--;
        pthread_mutex_unlock(&pool.lock);
        run_call(lane, call);
        pthread_mutex_lock(&pool.lock);
        pool.free++;
    }
    if (lane->first) {
        append_lane(lane); /* behind the others; this thread takes one of them */
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

/* The lock is held. */
static void wake_sleeper(void)
{
    struct sleeper *sleeper = pool.sleepers;
    if (!sleeper)
        return; /* who is free has not fallen asleep yet */
    pool.sleepers = sleeper->next;
    pthread_cond_signal(&sleeper->woken);
}

/* The lock is held. Answers as pthread_cond_timedwait(). */
static int fall_asleep(struct sleeper *sleeper, const struct timespec *until)
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

/* The lock is held. False: nothing came for long. */
static bool await_lane(struct sleeper *sleeper)
{
    struct timespec until = clock_deadline(POOL_IDLE_MS);
    int r = 0;
    while (!pool.first && r != ETIMEDOUT)
        r = fall_asleep(sleeper, &until);
    return pool.first != NULL;
}

static void *serve(void *unused)
{
    (void)unused;
    struct sleeper sleeper;
    init_sleeper(&sleeper);

    pthread_mutex_lock(&pool.lock);
    while (await_lane(&sleeper))
        serve_lane();
    pool.free--;
    pool.threads--;
    pthread_mutex_unlock(&pool.lock);

    pthread_cond_destroy(&sleeper.woken);
    return NULL;
}

static void before_fork(void)
{
    pthread_mutex_lock(&pool.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&pool.lock);
}

/* Its threads are not here, and neither is what they do. */
static void begin_child(void)
{
    pool.threads = pool.free = pool.waiting = 0;
    pool.first = NULL;
    pool.last = &pool.first;
    pool.sleepers = NULL;
    pthread_mutex_unlock(&pool.lock);
}

static void init_pool(void)
{
    pthread_atfork(before_fork, after_fork, begin_child);
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

    if (started) {
        pool.threads++;
        pool.free++;
    }
    return started;
}

/* --------------------------------------------------------------------- calls */

bool lane_submit(struct lane *lane, struct call *call)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_pool);

    call->lane = lane;

    pthread_mutex_lock(&pool.lock);
    unsigned needed = pool.waiting + !lane->is_busy;
    while (pool.free < needed && pool.threads < POOL_THREADS_MAX && start_thread())
        continue;
    bool accepted = pool.threads > 0;
    if (accepted) {
        append_call(lane, call);
        if (!lane->is_busy) {
            lane->is_busy = true;
            append_lane(lane_ref(lane));
            wake_sleeper();
        }
    }
    pthread_mutex_unlock(&pool.lock);
    return accepted;
}

bool lane_withdraw(struct lane *lane, struct call *call)
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
