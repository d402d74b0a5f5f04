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

struct lane_group *lane_group_new(void)
{
    struct lane_group *group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    atomic_init(&group->refs, 1);
    group->last = &group->first;
    return group;
}

struct lane_group *lane_group_ref(struct lane_group *group)
{
    atomic_fetch_add(&group->refs, 1);
    return group;
}

struct lane_group *lane_group_unref(struct lane_group *group)
{
    if (group && atomic_fetch_sub(&group->refs, 1) == 1)
        free(group);
    return NULL;
}

struct lane *lane_new(struct mailbox *mailbox, struct lane_group *group)
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

/* The lock is held. NULL: nothing came for long. */
static struct lane *await_lane(struct sleeper *sleeper)
{
    struct timespec until = clock_deadline(POOL_IDLE_MS);
    struct lane_group **group;
    int r = 0;
    while (!(group = next_group()) && r != ETIMEDOUT)
        r = fall_asleep(sleeper, &until);
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
    pool.threads = pool.running = 0;
    pool.first = NULL;
    pool.last = &pool.first;
    pool.sleepers = NULL;
    pthread_mutex_unlock(&pool.lock);
}

static void register_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, begin_child);
}

void pool_init(void)
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

bool lane_submit(struct lane *lane, struct call *call)
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
