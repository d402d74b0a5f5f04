/* SPDX-License-Identifier: MIT */
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
#include "service.h"
#include "base/container_of.h"

#include "base/loop.h"

#include <blockjob/blockjob.h>

#include <dlfcn.h>
#include <errno.h>
#include <libvirt/libvirt.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

static void lock(void)
{
    pthread_mutex_lock(&service.lock);
}

static void unlock(void)
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
    lock();
    struct stop stop = {.task.run = run_stop, .loop = service.loop};
    service.loop = NULL;
    unlock();

    loop_post(stop.loop, &stop.task);
    loop_join(stop.loop);
    loop_free(stop.loop);
}

static void before_fork(void)
{
    lock();
}

static void after_fork(void)
{
    unlock();
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
static void begin_child(void)
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
    unlock();
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
    lock();
    watch->posted = false;
    bool removed = watch->removed;
    apply(watch);
    unlock();

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

static uint32_t to_epoll(int events)
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

    lock();
    struct pollfd now = {.fd = watch->fd, .events = to_poll(watch->events)};
    bool happened = !watch->removed && watch->events && poll(&now, 1, 0) > 0;
    unlock();

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
    struct epoll_event event = {.events = to_epoll(events)};

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
    lock();
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
    unlock();
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

    lock();
    int id = equip_handle(watch) ? insert(watch) : -1;
    unlock();

    if (id < 0)
        free_memory(watch);
    return id;
}

static void update_handle(int id, int events)
{
    lock();
    note_touched();
    struct watch *watch = find(id);
    if (watch && watch->on_event && watch->events != events) {
        watch->events = events;
        wait_for(watch, events);
    }
    unlock();
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

    lock();
    bool is_due =
        !watch->removed && watch->interval_ms >= 0 && watch->due_ms <= clock_monotonic_ms();
    if (is_due)
        set_interval(watch, watch->interval_ms);
    apply_interval(watch);
    unlock();

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

    lock();
    if (service.loop || start_loop() == BJ_OK)
        watch->timer = loop_timer_new(service.loop, on_due, watch);
    int id = watch->timer ? insert(watch) : -1;
    unlock();

    if (id < 0)
        free_memory(watch);
    return id;
}

static void update_timeout(int id, int interval_ms)
{
    lock();
    struct watch *watch = find(id);
    if (watch && !watch->on_event) {
        set_interval(watch, interval_ms);
        changed(watch);
    }
    unlock();
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
    lock();
    int r = service.loop ? BJ_OK : start_loop();
    unlock();
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
    pthread_atfork(before_fork, after_fork, begin_child);
}

int service_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_service);

    lock();
    while (service.whose == DECIDING)
        pthread_cond_wait(&service.decided, &service.lock);
    if (service.whose != UNDECIDED) {
        int r = service.whose == THEIRS || service.loop ? BJ_OK : start_loop();
        unlock();
        return r;
    }
    service.whose = DECIDING;
    unlock();

    /* Asked without the lock: the program's loop may take locks of its own. */
    enum whose whose = UNDECIDED;
    int r = virInitialize() == 0 ? decide(&whose) : BJ_E_SYSTEM;

    lock();
    service.whose = r == BJ_OK ? whose : UNDECIDED;
    pthread_cond_broadcast(&service.decided);
    unlock();
    return r;
}

bool service_watches_connection(void (*call)(void *user), void *user)
{
    struct asker asker = {.thread = pthread_self()};

    lock();
    asker.touched = service.whose != OURS;
    asker.next = askers;
    askers = &asker;
    unlock();

    /* Nobody else sets it, as it is this thread's. */
    for (int i = 0; i < HEARING_TRIES && !asker.touched; i++)
        call(user);

    lock();
    struct asker **link = &askers;
    while (*link != &asker)
        link = &(*link)->next;
    *link = asker.next;
    unlock();
    return asker.touched;
}

/* -------------------------------------------------------------------- fences */

/* Timeouts that are due in one turn come in any order; what was due before the first turn is not
 * left over for the second. */
enum { FENCE_TURNS = 2 };

struct fence {
    void (*passed)(void *user);
    void *user;
    int turns;
};

static void on_fence(int id, void *opaque)
{
    struct fence *fence = opaque;
    if (++fence->turns != FENCE_TURNS)
        return;
    virEventRemoveTimeout(id);
    fence->passed(fence->user);
}

bool service_fence(void (*passed)(void *user), void *user)
{
    struct fence *fence = calloc(1, sizeof *fence);
    if (!fence)
        return false;
    fence->passed = passed;
    fence->user = user;
    if (virEventAddTimeout(0, on_fence, fence, free) >= 0)
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

struct nudge *nudge_new(void)
{
    lock();
    bool theirs = service.whose == THEIRS;
    unlock();

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

void nudge_loop(struct nudge *nudge)
{
    write_nudge(nudge, wake_up);
}

/* After this their loop may have freed it. */
void nudge_free(struct nudge *nudge)
{
    write_nudge(nudge, go_away);
}
