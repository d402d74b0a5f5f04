/* SPDX-License-Identifier: MIT */
/*
 * libvirt's event loop on ours (B68): its handles and timeouts do what libvirt's own do, from any
 * thread; it serves everyone where the program has none, and gives way where it has one.
 */
#include "counts.h"
#include "heap.h"
#include "process.h"
#include "scenario.h"
#include "service.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

enum {
    READABLE = VIR_EVENT_HANDLE_READABLE,
    WRITABLE = VIR_EVENT_HANDLE_WRITABLE,
    TROUBLE = VIR_EVENT_HANDLE_ERROR,
    HANGUP = VIR_EVENT_HANDLE_HANGUP
};

static void await(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        check(errno == EINTR);
}

static bool is_me(pthread_t thread)
{
    return pthread_equal(thread, pthread_self());
}

/* -------------------------------------------------------------------- listeners */

/* A handle or a timeout, and what came of it. */
typedef struct listener {
    atomic_int id;
    int fd;
    atomic_int calls;
    atomic_int events; /* of the last call */
    atomic_int frees;
    atomic_bool is_within, freed_within;
    _Atomic pthread_t thread; /* of the callbacks */
    sem_t called, freed;
    void (*_Atomic act)(struct listener *listener); /* in the callback */
} listener;

static void free_listener(void *opaque)
{
    listener *l = opaque;
    atomic_store(&l->freed_within, l->is_within);
    l->thread = pthread_self();
    atomic_fetch_add(&l->frees, 1);
    sem_post(&l->freed);
}

static void call_listener(listener *l, int events)
{
    atomic_store(&l->is_within, true);
    l->thread = pthread_self();
    atomic_store(&l->events, events);
    atomic_fetch_add(&l->calls, 1);
    void (*act)(listener *) = l->act;
    if (act)
        act(l);
    atomic_store(&l->is_within, false);
    sem_post(&l->called);
}

static void on_handle(int id, int fd, int events, void *opaque)
{
    listener *l = opaque;
    check(fd == l->fd);
    l->id = id; /* it may come before virEventAddHandle() has returned */
    call_listener(l, events);
}

static void on_timeout(int id, void *opaque)
{
    listener *l = opaque;
    l->id = id;
    call_listener(l, 0);
}

static void init_listener(listener *l)
{
    memset(l, 0, sizeof *l);
    l->fd = -1;
    sem_init(&l->called, 0, 0);
    sem_init(&l->freed, 0, 0);
}

static void listen_to(listener *l, int fd, int events, void (*act)(listener *l))
{
    init_listener(l);
    l->fd = fd;
    l->act = act;
    l->id = virEventAddHandle(fd, events, on_handle, l, free_listener);
    check(l->id > 0);
}

static void listen_to_time(listener *l, int ms, void (*act)(listener *l))
{
    init_listener(l);
    l->act = act;
    l->id = virEventAddTimeout(ms, on_timeout, l, free_listener);
    check(l->id > 0);
}

static void await_free(listener *l)
{
    await(&l->freed);
    check(l->frees == 1);
}

/* The loop has had a look at everything that was ready before. */
static void pass_a_round(void)
{
    for (int i = 0; i < 2; i++) {
        listener l;
        listen_to_time(&l, 0, NULL);
        await(&l.called);
        check(virEventRemoveTimeout(l.id) == 0);
        await_free(&l);
    }
}

static void take_byte(listener *l)
{
    char byte;
    check(read(l->fd, &byte, 1) == 1);
}

static void turn_off(listener *l)
{
    virEventUpdateHandle(l->id, 0);
}

static void make_pair(int pair[2])
{
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
}

/* ---------------------------------------------------------------------- handles */

static void watch_sockets(void)
{
    check(service_start() == BJ_OK);
    check(service_start() == BJ_OK);
    int pair[2];
    make_pair(pair);
    listener l;
    listen_to(&l, pair[0], READABLE, take_byte);
    for (int i = 1; i <= 3; i++) {
        check(write(pair[1], "x", 1) == 1);
        await(&l.called);
        check(l.events == READABLE && l.calls == i);
        check(!is_me(l.thread));
    }
    pass_a_round();
    check(l.calls == 3);

    l.act = turn_off;
    virEventUpdateHandle(l.id, READABLE | WRITABLE);
    await(&l.called);
    check(l.events == WRITABLE);
    pass_a_round();
    check(l.calls == 4); /* was turned off inside */

    check(virEventRemoveHandle(l.id) == 0);
    await_free(&l);
    check(!is_me(l.thread));
    check(virEventRemoveHandle(l.id) == -1);
    virEventUpdateHandle(l.id, READABLE);
    virEventUpdateTimeout(l.id, 0);
    check(virEventAddHandle(-1, READABLE, on_handle, NULL, NULL) == -1);
    pass_a_round();
    check(l.calls == 4 && l.frees == 1);
}

static void hang_up(int events, int expected)
{
    int pair[2];
    make_pair(pair);
    listener l;
    listen_to(&l, pair[0], events, turn_off);
    check(write(pair[1], "x", 1) == 1);
    if (!(events & READABLE)) {
        pass_a_round();
        check(l.calls == 0); /* data is not what it waits for */
    } else {
        await(&l.called);
        check(l.events == READABLE);
        virEventUpdateHandle(l.id, events);
    }
    close(pair[1]);
    do
        await(&l.called);
    while (!(l.events & HANGUP) && (virEventUpdateHandle(l.id, events), true));
    check(l.events == expected);
    check(virEventRemoveHandle(l.id) == 0);
    await_free(&l);
    close(pair[0]);
}

static void watch_hangups(void)
{
    check(service_start() == BJ_OK);
    hang_up(READABLE, READABLE | HANGUP);
    hang_up(HANGUP, HANGUP);
    hang_up(TROUBLE | HANGUP, HANGUP);

    int ends[2]; /* a pipe without a reader is an error */
    check(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    listener l;
    listen_to(&l, ends[1], TROUBLE, turn_off);
    pass_a_round();
    check(l.calls == 0);
    close(ends[0]);
    await(&l.called);
    check(l.events == TROUBLE);
    check(virEventRemoveHandle(l.id) == 0);
    await_free(&l);

    listener later; /* the wish for errors only comes later */
    int pair[2];
    make_pair(pair);
    listen_to(&later, pair[0], 0, turn_off);
    close(pair[1]);
    pass_a_round();
    check(later.calls == 0);
    virEventUpdateHandle(later.id, HANGUP);
    await(&later.called);
    check(later.events == HANGUP);
    check(virEventRemoveHandle(later.id) == 0);
    await_free(&later);
}

static void watch_files(void)
{
    check(service_start() == BJ_OK);
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : memfd_create("file", MFD_CLOEXEC);
        listener l;
        listen_to(&l, fd, READABLE, turn_off);
        await(&l.called);
        check(l.events == READABLE);
        pass_a_round();
        check(l.calls == 1);
        virEventUpdateHandle(l.id, WRITABLE);
        await(&l.called);
        check(l.events == WRITABLE);
        check(virEventRemoveHandle(l.id) == 0);
        await_free(&l);
        close(fd);
    }
}

static void remove_me(listener *l)
{
    check(virEventRemoveHandle(l->id) == 0);
    check(virEventRemoveHandle(l->id) == -1);
    check(l->frees == 0);
}

static void remove_inside(void)
{
    check(service_start() == BJ_OK);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listener l;
    listen_to(&l, fd, READABLE, remove_me);
    check(eventfd_write(fd, 1) == 0); /* stays readable */
    await(&l.called);
    await_free(&l);
    check(!l.freed_within);
    pass_a_round();
    check(l.calls == 1 && l.frees == 1);
}

/* While the loop's thread is inside the callback, another takes the handle away. */
static sem_t entered, leave;

static void dwell(listener *l)
{
    (void)l;
    sem_post(&entered);
    await(&leave);
}

static void remove_from_outside(void)
{
    check(service_start() == BJ_OK);
    sem_init(&entered, 0, 0);
    sem_init(&leave, 0, 0);
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    listener l;
    listen_to(&l, fd, READABLE, dwell);
    await(&entered);
    check(virEventRemoveHandle(l.id) == 0); /* does not wait */
    close(fd);
    check(l.frees == 0);
    sem_post(&leave);
    await(&l.called);
    await_free(&l);
    check(!l.freed_within);
    pass_a_round();
    check(l.calls == 1);
}

static void share_an_fd(void)
{
    check(service_start() == BJ_OK);
    int pair[2];
    make_pair(pair);
    listener reader, writer;
    listen_to(&reader, pair[0], READABLE, take_byte);
    listen_to(&writer, pair[0], WRITABLE, turn_off);
    await(&writer.called);
    check(writer.events == WRITABLE && reader.calls == 0);
    check(virEventRemoveHandle(writer.id) == 0);
    await_free(&writer);
    check(write(pair[1], "x", 1) == 1);
    await(&reader.called);
    check(reader.events == READABLE);
    check(virEventRemoveHandle(reader.id) == 0);
    await_free(&reader);
}

/* In the wrong order, as poll() would forgive it. */
static void close_too_early(void)
{
    check(service_start() == BJ_OK);
    for (int i = 0; i < 200; i++) {
        int pair[2];
        make_pair(pair);
        listener l;
        listen_to(&l, pair[0], READABLE, take_byte);
        close(pair[0]);
        virEventUpdateHandle(l.id, WRITABLE);
        check(virEventRemoveHandle(l.id) == 0);
        await_free(&l);
        close(pair[1]);
    }
}

/* Who closes an fd gets its number again at once. */
static void reuse_an_fd(void)
{
    check(service_start() == BJ_OK);
    int pair[2];
    make_pair(pair);
    for (int i = 0; i < 500; i++) {
        listener l;
        listen_to(&l, pair[0], READABLE, take_byte);
        check(write(pair[1], "x", 1) == 1);
        await(&l.called);
        check(l.events == READABLE);
        check(virEventRemoveHandle(l.id) == 0);
        int next[2];
        make_pair(next);
        check(dup3(next[0], pair[0], O_CLOEXEC) == pair[0]);
        close(next[0]);
        close(pair[1]);
        pair[1] = next[1];
        await_free(&l);
    }
}

/* --------------------------------------------------------------------- timeouts */

static void turn_time_off(listener *l)
{
    virEventUpdateTimeout(l->id, -1);
}

static void turn_time_off_at_three(listener *l)
{
    if (l->calls == 3)
        virEventUpdateTimeout(l->id, -1);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void keep_time(void)
{
    check(service_start() == BJ_OK);
    listener l;
    listen_to_time(&l, -1, turn_time_off);
    pass_a_round();
    check(l.calls == 0);
    virEventUpdateTimeout(l.id, 0);
    await(&l.called);
    pass_a_round();
    check(l.calls == 1);

    virEventUpdateTimeout(l.id, 1000 * 1000);
    virEventUpdateTimeout(l.id, 0); /* another time is in force at once */
    await(&l.called);
    virEventUpdateTimeout(l.id, 20);
    virEventUpdateTimeout(l.id, 1000 * 1000);
    int64_t begun = now_ms();
    while (now_ms() < begun + 50)
        pass_a_round();
    check(l.calls == 2);

    l.act = turn_time_off_at_three;
    atomic_store(&l.calls, 0);
    begun = now_ms();
    virEventUpdateTimeout(l.id, 10); /* comes again and again */
    for (int i = 0; i < 3; i++)
        await(&l.called);
    check(now_ms() >= begun + 30);
    pass_a_round();
    check(l.calls == 3);

    check(virEventRemoveHandle(l.id) == -1); /* is none */
    check(virEventRemoveTimeout(l.id) == 0);
    await_free(&l);
    check(!is_me(l.thread));
    check(virEventRemoveTimeout(l.id) == -1);
    virEventUpdateTimeout(l.id, 0);
    check(virEventAddTimeout(0, NULL, NULL, NULL) == -1);
    pass_a_round();
    check(l.calls == 3 && l.frees == 1);
}

static void remove_my_time(listener *l)
{
    check(virEventRemoveTimeout(l->id) == 0);
    check(l->frees == 0);
}

static void remove_time_inside(void)
{
    check(service_start() == BJ_OK);
    listener l;
    listen_to_time(&l, -1, remove_my_time);
    virEventUpdateTimeout(l.id, 0);
    await(&l.called);
    await_free(&l);
    check(!l.freed_within && l.calls == 1);
}

/* ---------------------------------------------------------------------- threads */

enum { HANDS = 6, DEEDS = 400 };

static void *add_and_remove(void *user)
{
    unsigned seed = *(unsigned *)user;
    for (int i = 0; i < DEEDS; i++) {
        int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        listener handle, time;
        listen_to(&handle, fd, rand_r(&seed) % 2 ? READABLE : 0, NULL);
        listen_to_time(&time, rand_r(&seed) % 3 - 1, NULL);
        for (int n = rand_r(&seed) % 4; n > 0; n--) {
            virEventUpdateHandle(handle.id, rand_r(&seed) % 16);
            virEventUpdateTimeout(time.id, rand_r(&seed) % 3 - 1);
        }
        check(virEventRemoveHandle(handle.id) == 0);
        close(fd);
        check(virEventRemoveTimeout(time.id) == 0);
        await_free(&handle);
        await_free(&time);
    }
    return NULL;
}

static void use_many_hands(void)
{
    check(service_start() == BJ_OK);
    pthread_t hands[HANDS];
    unsigned seeds[HANDS];
    for (int i = 0; i < HANDS; i++) {
        seeds[i] = (unsigned)i + 1;
        check(pthread_create(&hands[i], NULL, add_and_remove, &seeds[i]) == 0);
    }
    for (int i = 0; i < HANDS; i++)
        pthread_join(hands[i], NULL);
}

static void *start_service(void *unused)
{
    (void)unused;
    check(service_start() == BJ_OK);
    return NULL;
}

static void start_at_once(void)
{
    int threads = count_threads();
    pthread_t starters[8];
    for (int i = 0; i < 8; i++)
        check(pthread_create(&starters[i], NULL, start_service, NULL) == 0);
    for (int i = 0; i < 8; i++)
        pthread_join(starters[i], NULL);
    pass_a_round();
    check(count_threads() >= threads + 1); /* a sanitizer may have got one, too */
    check(count_threads() <= threads + 2);
}

static void run_out_of_memory(void)
{
    int tries = 0;
    do {
        atomic_store(&heap_failed, false);
        atomic_store(&heap_left, ++tries);
        int r = service_start();
        check(r == BJ_OK || (heap_failed && r != BJ_OK));
    } while (heap_failed);
    atomic_store(&heap_left, 0);
    check(tries > 1);

    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fds = count_fds();
    for (int nth = 1; nth <= 2; nth++) {
        atomic_store(&heap_left, nth);
        check(virEventAddHandle(fd, READABLE, on_handle, NULL, NULL) == -1);
        atomic_store(&heap_left, nth);
        check(virEventAddTimeout(0, on_timeout, NULL, NULL) == -1);
    }
    check(count_fds() == fds);
    check(heap_left == 0);
}

/* --------------------------------------------------------- connections of others */

/* libvirt's built-in driver, with a domain whose comings and goings are listened to. */
typedef struct guest {
    virConnectPtr connection;
    virDomainPtr domain;
    int registration;
    atomic_int events;
    _Atomic pthread_t thread;
    sem_t heard;
    bool *quit; /* set when an event comes */
    sem_t freed;
} guest;

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *opaque)
{
    (void)connection, (void)domain, (void)event, (void)detail;
    guest *g = opaque;
    g->thread = pthread_self();
    atomic_fetch_add(&g->events, 1);
    if (g->quit)
        *g->quit = true;
    sem_post(&g->heard);
    return 0;
}

static void free_guest(void *opaque)
{
    sem_post(&((guest *)opaque)->freed);
}

static void be_silent(void *user, virErrorPtr error)
{
    (void)user, (void)error;
}

static void open_guest(guest *g)
{
    memset(g, 0, sizeof *g);
    sem_init(&g->heard, 0, 0);
    sem_init(&g->freed, 0, 0);
    virSetErrorFunc(NULL, be_silent);
    g->connection = virConnectOpen("test:///default");
    check(g->connection != NULL);
    g->domain = virDomainLookupByName(g->connection, "test");
    check(g->domain != NULL);
    g->registration =
        virConnectDomainEventRegisterAny(g->connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), g, free_guest);
    check(g->registration >= 0);
}

static void close_guest(guest *g)
{
    check(virConnectDomainEventDeregisterAny(g->connection, g->registration) == 0);
    virDomainFree(g->domain);
    virConnectClose(g->connection);
}

static void *suspend(void *user)
{
    check(virDomainSuspend(((guest *)user)->domain) == 0);
    return NULL;
}

static void suspend_from_elsewhere(guest *g)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, suspend, g) == 0);
    pthread_join(thread, NULL);
}

static void serve_everyone(void)
{
    check(service_start() == BJ_OK);
    check(nudge_new() == NULL); /* ours needs none */
    nudge_loop(NULL);
    nudge_free(NULL);
    guest g;
    open_guest(&g);
    suspend_from_elsewhere(&g);
    await(&g.heard);
    check(!is_me(g.thread));
    check(virDomainResume(g.domain) == 0);
    await(&g.heard);
    close_guest(&g);
    await(&g.freed);
    pass_a_round();
    check(g.events == 2);
}

/* -------------------------------------------------------------- the program's own */

static bool over;

static void give_way_to_libvirts_own(void)
{
    check(virEventRegisterDefaultImpl() == 0);
    int threads = count_threads();
    check(service_start() == BJ_OK);
    check(service_start() == BJ_OK);
    check(count_threads() == threads);

    guest g;
    open_guest(&g);
    over = false;
    g.quit = &over;
    check(virDomainSuspend(g.domain) == 0);
    while (!over)
        check(virEventRunDefaultImpl() == 0);
    check(is_me(g.thread));
    close_guest(&g);
}

/* A loop of the program's that is not made for threads, like libvirtaio's: a timeout that another
 * thread sets it sees when it wakes for something else. */
typedef struct modest_watch {
    bool is_used, is_timeout, is_removed;
    int fd, interval;
    virEventHandleCallback on_event;
    virEventTimeoutCallback on_timeout;
    void *opaque;
    virFreeCallback ff;
} modest_watch;

enum { MODEST = 32 };

static struct {
    pthread_mutex_t lock;
    modest_watch watches[MODEST];
    int epoll;
    atomic_int adds;
} modest = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int add_modest(modest_watch watch)
{
    pthread_mutex_lock(&modest.lock);
    atomic_fetch_add(&modest.adds, 1);
    int id = 0;
    while (modest.watches[id].is_used)
        check(++id < MODEST);
    watch.is_used = true;
    modest.watches[id] = watch;
    pthread_mutex_unlock(&modest.lock);
    return id;
}

static void update_handle(int id, int events)
{
    struct epoll_event event = {
        .events = (events & READABLE) ? (uint32_t)EPOLLIN : 0,
        .data.u32 = (uint32_t)id,
    };
    epoll_ctl(modest.epoll, EPOLL_CTL_MOD, modest.watches[id].fd, &event);
}

static int add_handle(int fd, int events, virEventHandleCallback on_event, void *opaque,
                      virFreeCallback ff)
{
    struct epoll_event event = {0};
    int id = add_modest((modest_watch){.fd = fd, .on_event = on_event, .opaque = opaque, .ff = ff});
    epoll_ctl(modest.epoll, EPOLL_CTL_ADD, fd, &event);
    update_handle(id, events);
    return id;
}

static int add_timeout(int interval, virEventTimeoutCallback on_due, void *opaque,
                       virFreeCallback ff)
{
    return add_modest((modest_watch){.is_timeout = true,
                                     .interval = interval,
                                     .on_timeout = on_due,
                                     .opaque = opaque,
                                     .ff = ff});
}

static void update_timeout(int id, int interval)
{
    pthread_mutex_lock(&modest.lock);
    modest.watches[id].interval = interval;
    pthread_mutex_unlock(&modest.lock);
}

static int remove_modest(int id)
{
    pthread_mutex_lock(&modest.lock);
    modest_watch *watch = &modest.watches[id];
    check(watch->is_used && !watch->is_removed);
    watch->is_removed = true;
    if (!watch->is_timeout)
        epoll_ctl(modest.epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    pthread_mutex_unlock(&modest.lock);
    return 0;
}

static void register_modest(void)
{
    modest.epoll = epoll_create1(EPOLL_CLOEXEC);
    virEventRegisterImpl(add_handle, update_handle, remove_modest, add_timeout, update_timeout,
                         remove_modest);
}

static modest_watch look_at(int id)
{
    pthread_mutex_lock(&modest.lock);
    modest_watch watch = modest.watches[id];
    if (watch.is_removed)
        modest.watches[id] = (modest_watch){0};
    pthread_mutex_unlock(&modest.lock);
    return watch;
}

/* Waits for a handle, without an end; then sees to all that is to do. */
static void run_modest(void)
{
    struct epoll_event event;
    while (epoll_wait(modest.epoll, &event, 1, -1) != 1)
        check(errno == EINTR);
    modest_watch ready = look_at((int)event.data.u32);
    if (ready.is_used && !ready.is_removed)
        ready.on_event((int)event.data.u32, ready.fd, READABLE, ready.opaque);
    for (int id = 0; id < MODEST; id++) {
        modest_watch w = look_at(id);
        if (w.is_used && w.is_timeout && !w.is_removed && w.interval >= 0)
            w.on_timeout(id, w.opaque);
        else if (w.is_removed && w.ff)
            w.ff(w.opaque);
    }
}

static int modest_in_use(void)
{
    int count = 0;
    pthread_mutex_lock(&modest.lock);
    for (int id = 0; id < MODEST; id++)
        count += modest.watches[id].is_used;
    pthread_mutex_unlock(&modest.lock);
    return count;
}

static void *call_and_nudge(void *user)
{
    guest *g = user;
    struct nudge *nudge = nudge_new();
    check(nudge != NULL);
    check(virDomainSuspend(g->domain) == 0);
    nudge_loop(nudge);
    await(&g->heard); /* though that loop waits for its handles only */
    check(virDomainResume(g->domain) == 0);
    nudge_free(nudge); /* is the last one */
    await(&g->heard);
    check(virDomainSuspend(g->domain) == 0);
    return NULL;
}

static void give_way_and_nudge(void)
{
    register_modest();
    int threads = count_threads();
    check(service_start() == BJ_OK);
    check(count_threads() == threads);
    check(modest_in_use() <= 1); /* a timeout that is to go */

    guest g;
    open_guest(&g);
    int fds = count_fds();
    pthread_t thread;
    struct nudge *other = nudge_new();
    check(other != NULL);
    check(pthread_create(&thread, NULL, call_and_nudge, &g) == 0);
    while (g.events < 2)
        run_modest();
    check(is_me(g.thread));
    pthread_join(thread, NULL);
    nudge_free(other);
    while (count_fds() > fds) /* the nudges go where they were used */
        run_modest();
    close_guest(&g);
}

static void give_way_to_half_a_loop(void)
{
    virEventRegisterImpl(add_handle, update_handle, remove_modest, NULL, NULL, NULL);
    int threads = count_threads();
    check(service_start() == BJ_OK);
    check(count_threads() == threads || !CAN_FORK_WITH_THREADS); /* TSan gets one of its own */
    check(virEventAddTimeout(0, on_timeout, NULL, NULL) == -1);  /* as if we were not there */
    check(virEventAddHandle(0, 0, on_handle, NULL, NULL) == 0);
    check(modest.adds == 1);
}

/* A program's loop that comes too late is not called. */
static void stay(void)
{
    check(service_start() == BJ_OK);
    register_modest();
    guest g;
    open_guest(&g);
    suspend_from_elsewhere(&g);
    await(&g.heard);
    check(!is_me(g.thread));
    close_guest(&g);
    await(&g.freed);
    check(modest.adds == 0);
    check(service_start() == BJ_OK);
    check(nudge_new() == NULL);
}

static atomic_bool quit_run;

static void quit(listener *l)
{
    (void)l;
    atomic_store(&quit_run, true);
}

static void stay_with_libvirts_own_running(void)
{
    check(service_start() == BJ_OK);
    check(virEventRegisterDefaultImpl() == 0);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listener l;
    listen_to_time(&l, 30, quit);
    while (!quit_run) /* as programs do; the callback comes on another thread */
        check(virEventRunDefaultImpl() == 0);
    check(virEventRemoveTimeout(l.id) == 0);
    await_free(&l);

    atomic_store(&quit_run, false);
    listen_to(&l, fd, READABLE, quit);
    check(eventfd_write(fd, 1) == 0);
    while (!quit_run)
        check(virEventRunDefaultImpl() == 0);
    check(virEventRemoveHandle(l.id) == 0);
    await_free(&l);
}

static void touch(void *id)
{
    virEventUpdateHandle(*(int *)id, READABLE);
}

static void do_nothing(void *unused)
{
    (void)unused;
}

static void *touch_elsewhere(void *id)
{
    touch(id);
    return NULL;
}

static void touch_on_another_thread(void *id)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, touch_elsewhere, id) == 0);
    pthread_join(thread, NULL);
}

static void tell_the_deaf(void)
{
    check(service_start() == BJ_OK);
    listener l;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listen_to(&l, fd, 0, NULL);
    int id = l.id;
    check(service_watches_connection(touch, &id));
    check(!service_watches_connection(do_nothing, NULL));
    check(!service_watches_connection(touch_on_another_thread, &id));
}

static void trust_a_loop_of_the_programs(void)
{
    check(virEventRegisterDefaultImpl() == 0);
    check(service_start() == BJ_OK);
    check(service_watches_connection(do_nothing, NULL));
}

/* ------------------------------------------------------------------------ forking */

static void use_in_child(int inherited, int inherited_time)
{
    check(virEventRemoveHandle(inherited) == -1);
    virEventUpdateHandle(inherited, READABLE);
    virEventUpdateTimeout(inherited_time, 0);
    check(virEventRemoveTimeout(inherited_time) == -1);

    guest g; /* one of its own is served */
    open_guest(&g);
    suspend_from_elsewhere(&g);
    await(&g.heard);
    close_guest(&g);
    await(&g.freed);
    check(service_start() == BJ_OK);
    pass_a_round();
}

static void be_forked(void)
{
    check(service_start() == BJ_OK);
    listener handle, time;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listen_to(&handle, fd, READABLE, take_byte);
    listen_to_time(&time, -1, NULL);
    listener busy; /* the lock is often held */
    listen_to_time(&busy, 0, NULL);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        check(child >= 0);
        if (child == 0) {
            alarm(100);
            use_in_child(handle.id, time.id);
            process_leave(EXIT_SUCCESS);
        }
        int status;
        check(waitpid(child, &status, 0) == child);
        check(status == 0);
    }
    pass_a_round(); /* nothing has changed here */
    check(virEventRemoveHandle(handle.id) == 0);
    check(virEventRemoveTimeout(time.id) == 0);
    check(virEventRemoveTimeout(busy.id) == 0);
    await_free(&handle);
    await_free(&time);
    await_free(&busy);
}

static void leave_while_it_works(void)
{
    static listener busy;
    static guest g;
    check(service_start() == BJ_OK);
    listen_to_time(&busy, 0, NULL);
    open_guest(&g);
    suspend_from_elsewhere(&g);
    await(&busy.called);
}

/* --------------------------------------------------------------------------- tests */

#define SCENARIO(test, scenario)                                                                   \
    static void test(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        play(scenario);                                                                            \
    }

SCENARIO(b68_sockets_are_watched_for_what_is_wanted, watch_sockets)
SCENARIO(b68_a_hangup_is_told_from_data, watch_hangups)
SCENARIO(b68_files_are_always_ready, watch_files)
SCENARIO(b68_a_handle_is_freed_once_and_not_inside_its_callback, remove_inside)
SCENARIO(b68_a_handle_can_be_removed_during_its_callback, remove_from_outside)
SCENARIO(b68_handles_can_share_an_fd, share_an_fd)
SCENARIO(b68_an_fd_can_be_closed_too_early, close_too_early)
SCENARIO(b68_the_number_of_an_fd_can_be_used_again, reuse_an_fd)
SCENARIO(b68_timeouts_come_again_until_they_are_turned_off, keep_time)
SCENARIO(b68_a_timeout_is_freed_once_and_not_inside_its_callback, remove_time_inside)
SCENARIO(b68_any_thread_may_change_anything, use_many_hands)
SCENARIO(b68_who_starts_it_at_once_finds_one, start_at_once)
SCENARIO(b68_a_lack_of_memory_is_told, run_out_of_memory)
SCENARIO(b68_without_a_loop_of_the_programs_ours_serves_all, serve_everyone)
SCENARIO(b68_it_gives_way_to_libvirts_own_loop, give_way_to_libvirts_own)
SCENARIO(b68_a_loop_that_does_not_notice_is_nudged, give_way_and_nudge)
SCENARIO(b68_it_gives_way_to_a_loop_that_is_not_whole, give_way_to_half_a_loop)
SCENARIO(b68_a_loop_that_comes_later_is_not_needed, stay)
SCENARIO(b68_libvirts_own_loop_can_be_run_later, stay_with_libvirts_own_running)
SCENARIO(b68_a_connection_that_is_deaf_is_told, tell_the_deaf)
SCENARIO(b68_a_loop_of_the_programs_is_trusted, trust_a_loop_of_the_programs)
SCENARIO(b68_a_process_can_end_while_it_works, leave_while_it_works)

static void b68_a_child_has_a_loop_of_its_own(void **state)
{
    (void)state;
    if (!CAN_FORK_WITH_THREADS)
        skip();
    play(be_forked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b68_sockets_are_watched_for_what_is_wanted),
        cmocka_unit_test(b68_a_hangup_is_told_from_data),
        cmocka_unit_test(b68_files_are_always_ready),
        cmocka_unit_test(b68_a_handle_is_freed_once_and_not_inside_its_callback),
        cmocka_unit_test(b68_a_handle_can_be_removed_during_its_callback),
        cmocka_unit_test(b68_handles_can_share_an_fd),
        cmocka_unit_test(b68_an_fd_can_be_closed_too_early),
        cmocka_unit_test(b68_the_number_of_an_fd_can_be_used_again),
        cmocka_unit_test(b68_timeouts_come_again_until_they_are_turned_off),
        cmocka_unit_test(b68_a_timeout_is_freed_once_and_not_inside_its_callback),
        cmocka_unit_test(b68_any_thread_may_change_anything),
        cmocka_unit_test(b68_who_starts_it_at_once_finds_one),
        cmocka_unit_test(b68_a_lack_of_memory_is_told),
        cmocka_unit_test(b68_without_a_loop_of_the_programs_ours_serves_all),
        cmocka_unit_test(b68_it_gives_way_to_libvirts_own_loop),
        cmocka_unit_test(b68_a_loop_that_does_not_notice_is_nudged),
        cmocka_unit_test(b68_it_gives_way_to_a_loop_that_is_not_whole),
        cmocka_unit_test(b68_a_loop_that_comes_later_is_not_needed),
        cmocka_unit_test(b68_libvirts_own_loop_can_be_run_later),
        cmocka_unit_test(b68_a_connection_that_is_deaf_is_told),
        cmocka_unit_test(b68_a_loop_of_the_programs_is_trusted),
        cmocka_unit_test(b68_a_process_can_end_while_it_works),
        cmocka_unit_test(b68_a_child_has_a_loop_of_its_own),
    };
    setenv("LIBVIRT_LOG_OUTPUTS", "4:stderr", 1); /* nothing of loops that came too late */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
