/* SPDX-License-Identifier: MIT */
/*
 * What the system refuses: descriptors, epoll watches, threads. Each call says so, with the reason
 * and the remedy; nothing aborts, hangs or blames QEMU. And how many threads look up names.
 */
#include "counts.h"
#include "fake.h"
#include "peer.h"

#include <arpa/inet.h>
#include <blockjob/ev.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATIENCE_MS (60 * 1000)

enum { FDS_MAX = 512, ENOUGH = 40, NAMES = 100, LOOKUPS_MAX = 16 };

/* --------------------------------------------------------- the C library's, refusing */

static atomic_int epoll_ctl_left; /* calls until the one that fails; 0: none will */
static atomic_bool epoll_ctl_failed;
static atomic_bool no_threads;
static atomic_bool no_routes;   /* connect() by TCP */
static atomic_bool holds_names; /* getaddrinfo() of a name waits for its turn */
static sem_t may_look_up;

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    if (op != EPOLL_CTL_DEL && atomic_load(&epoll_ctl_left) > 0 &&
        atomic_fetch_sub(&epoll_ctl_left, 1) == 1) {
        atomic_store(&epoll_ctl_failed, true);
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *user)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return atomic_load(&no_threads) ? EAGAIN : real(thread, attr, run, user);
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    if (atomic_load(&no_routes) && address->sa_family == AF_INET) {
        errno = EAGAIN;
        return -1;
    }
    return (int)syscall(SYS_connect, fd, address, len);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!atomic_load(&holds_names) || (hints->ai_flags & AI_NUMERICHOST))
        return real(name, service, hints, ret);
    while (sem_wait(&may_look_up) != 0)
        continue;
    return real("127.0.0.1", service, hints, ret);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* -------------------------------------------------------------------- descriptors */

typedef struct hoard {
    int fds[FDS_MAX];
    int count;
    struct rlimit before;
} hoard;

/* So many descriptors are free from here on. */
static void leave_free(hoard *h, int count)
{
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &h->before), 0);
    struct rlimit few = {.rlim_cur = FDS_MAX, .rlim_max = h->before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    h->count = 0;
    for (int fd; (fd = dup(STDERR_FILENO)) >= 0;)
        h->fds[h->count++] = fd;
    assert_int_in_range(h->count, count, FDS_MAX);
    while (count-- > 0)
        close(h->fds[--h->count]);
}

static void give_back(hoard *h)
{
    while (h->count > 0)
        close(h->fds[--h->count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &h->before), 0);
}

/* ------------------------------------------------------------------------ a program */

/* What is asked of a context, on a thread of its own or on `ev`. */
typedef struct program {
    struct ev_loop *ev; /* NULL: on a thread of its own */
    const char *remedy; /* that an error must name */
    bj_ctx *ctx;
    int refused;
} program;

static bj_future *await(program *p, bj_future *future)
{
    while (p->ev && !bj_future_is_done(future))
        ev_run(p->ev, EVRUN_ONCE);
    assert_int_equal(bj_future_wait(future, PATIENCE_MS), BJ_OK);
    return future;
}

/* True if it came about; else the system refused, and the text names the remedy. */
static bool came_about(program *p, bj_future *future, int expected)
{
    int error = bj_future_error(await(p, future));
    if (error == expected)
        return error == BJ_OK;
    if (error != BJ_E_SYSTEM || !strstr(bj_future_text(future), p->remedy))
        fail_msg("%s: %s", bj_error_name(error), bj_future_text(future));
    p->refused++;
    return false;
}

static void use(program *p, const char *uri)
{
    bj_future *connected = bj_monitor_connect(p->ctx, uri, PATIENCE_MS);
    bj_monitor *monitor = came_about(p, connected, BJ_OK) ? bj_future_monitor(connected) : NULL;
    if (monitor) {
        bj_future *list = bj_monitor_list(monitor, PATIENCE_MS);
        came_about(p, list, BJ_OK);
        bj_future_unref(list);
        bj_monitor_close(monitor);
    }
    bj_monitor_unref(monitor);
    bj_future_unref(connected);
}

static void fail_to_connect(program *p, const char *uri)
{
    bj_future *connected = bj_monitor_connect(p->ctx, uri, PATIENCE_MS);
    assert_false(came_about(p, connected, BJ_E_CONNECT));
    bj_future_unref(connected);
}

static bool open_context(program *p)
{
    int r = p->ev ? bj_ctx_new_on_loop(p->ev, &p->ctx) : bj_ctx_new(&p->ctx);
    assert_true(r == BJ_OK || r == BJ_E_SYSTEM);
    p->refused += r == BJ_E_SYSTEM;
    return r == BJ_OK;
}

static void make_queue(program *p)
{
    bj_queue *queue = NULL;
    int r = bj_queue_new(p->ctx, &queue);
    assert_true(r == BJ_OK || r == BJ_E_SYSTEM);
    p->refused += r == BJ_E_SYSTEM;
    bj_queue_unref(queue);
}

/* A port that nobody listens at. */
static int unused_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void play(program *p, world *w, const char *tcp)
{
    if (!open_context(p))
        return;
    make_queue(p);
    use(p, fake_path(w));
    fail_to_connect(p, text_of(w, "tcp:127.0.0.1:%s", tcp));
    fail_to_connect(p, text_of(w, "tcp:localhost:%s", tcp));
    assert_int_equal(bj_ctx_close(p->ctx), BJ_OK);
    bj_ctx_unref(p->ctx);
}

static void serve(peer *p, void *user)
{
    (void)user;
    if (peer_greet(p, peer_modern))
        peer_serve(p);
}

/* The same on a socket that the program has, which costs a descriptor in the call already. */
static void play_on_socket(program *p)
{
    peer *server = peer_start(serve, NULL);
    hoard h;
    leave_free(&h, 3);
    if (open_context(p)) {
        int spare = dup(STDERR_FILENO);
        use(p, peer_uri(server));
        close(spare);
        bj_ctx_close(p->ctx);
        bj_ctx_unref(p->ctx);
    }
    give_back(&h);
    peer_end(server);
}

static void sweep(world *w, bool is_own_loop)
{
    const char *tcp = text_of(w, "%d", unused_port());
    int refused = 1;
    for (int count = 0; refused > 0; count++) {
        program p = {.remedy = "open files"};
        assert_int_in_range(count, 0, ENOUGH);
        p.ev = is_own_loop ? ev_loop_new(EVFLAG_AUTO) : NULL;
        if (p.ev)
            ev_run(p.ev, EVRUN_NOWAIT); /* its own descriptors are the program's affair */
        hoard h;
        leave_free(&h, count);
        play(&p, w, tcp);
        give_back(&h);
        refused = p.refused;
        if (p.ev)
            ev_loop_destroy(p.ev);
    }
}

static void c43_every_number_of_free_descriptors(void **state)
{
    sweep(*state, false);
}

static void c43_every_number_of_free_descriptors_on_the_programs_loop(void **state)
{
    sweep(*state, true);
}

static void c43_a_socket_that_cant_be_duplicated(void **state)
{
    (void)state;
    program p = {.remedy = "open files"};
    play_on_socket(&p);
    assert_int_equal(p.refused, 1);
    p = (program){.remedy = "open files", .ev = ev_loop_new(EVFLAG_AUTO)};
    play_on_socket(&p);
    assert_int_equal(p.refused, 1);
    ev_loop_destroy(p.ev);
}

static void c43_no_descriptor_to_connect_again(void **state)
{
    world *w = *state;
    hoard h;
    const bj_record *record;
    bj_monitor *monitor = connect_to(w, fake_path(w));
    assert_int_equal(bj_monitor_set_reconnect(monitor, 3000), BJ_OK);
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch(monitor, &watch), BJ_OK);
    hold_watch(w, watch);
    leave_free(&h, 0);
    step(w, JSON({"do": "die"}));
    assert_int_equal(bj_watch_next(watch, PATIENCE_MS, &record), BJ_OK);
    assert_int_equal(record->kind, BJ_RECORD_DISCONNECTED);
    for (int fd; (fd = dup(STDERR_FILENO)) >= 0;)
        h.fds[h.count++] = fd; /* the connection's own */
    bj_future *closed = hold(w, bj_monitor_closed(monitor));
    answers(closed, BJ_E_DISCONNECTED);
    give_back(&h);
    names(closed, "open files");
}

/* --------------------------------------------------------------------------- epoll */

static void refuse_each(world *w, bool is_own_loop)
{
    atomic_store(&epoll_ctl_failed, true);
    for (int number = 1; atomic_load(&epoll_ctl_failed); number++) {
        program p = {.remedy = "fs.epoll.max_user_watches"};
        assert_int_in_range(number, 1, ENOUGH);
        p.ev = is_own_loop ? ev_loop_new(EVFLAG_AUTO) : NULL;
        atomic_store(&epoll_ctl_failed, false);
        atomic_store(&epoll_ctl_left, number);
        if (open_context(&p)) {
            use(&p, fake_path(w));
            assert_int_equal(bj_ctx_close(p.ctx), BJ_OK);
            bj_ctx_unref(p.ctx);
        }
        atomic_store(&epoll_ctl_left, 0);
        if (p.ev)
            ev_loop_destroy(p.ev);
    }
}

static void c86_each_epoll_ctl_is_refused(void **state)
{
    refuse_each(*state, false);
}

/* libev's, too: then the context is looked at from time to time until libev takes it. */
static void c86_each_epoll_ctl_is_refused_on_the_programs_loop(void **state)
{
    refuse_each(*state, true);
}

/* ------------------------------------------------------------------------- threads */

static void c43_no_thread_for_a_context(void **state)
{
    (void)state;
    bj_ctx *ctx = NULL;
    int fds = count_fds();
    atomic_store(&no_threads, true);
    assert_int_equal(bj_ctx_new(&ctx), BJ_E_SYSTEM);
    atomic_store(&no_threads, false);
    assert_null(ctx);
    assert_int_equal(count_fds(), fds);
}

static void c43_no_thread_for_a_name(void **state)
{
    world *w = *state;
    atomic_store(&no_threads, true);
    bj_future *connect = hold(w, bj_monitor_connect(w->ctx, "tcp:localhost:1", PATIENCE_MS));
    answers(connect, BJ_E_SYSTEM);
    atomic_store(&no_threads, false);
    names(connect, "tcp:localhost:1");
}

static bj_future *connect_to_name(world *w, int number, const char *port, int64_t timeout_ms)
{
    return bj_monitor_connect(w->ctx, text_of(w, "tcp:host%d.example:%s", number, port),
                              timeout_ms);
}

static void let_look_up(int count)
{
    while (count-- > 0)
        sem_post(&may_look_up);
}

static void c88_few_threads_look_up_names(void **state)
{
    world *w = *state;
    const char *port = text_of(w, "%d", unused_port());
    int threads = count_threads();
    atomic_store(&holds_names, true);
    for (int i = 0; i < NAMES; i++) {
        bj_future *late = connect_to_name(w, i, port, 1);
        answers(late, BJ_E_TIMEOUT); /* those that wait for a thread, too */
        names(late, text_of(w, "host%d.example", i));
        bj_future_unref(late);
    }
    assert_int_in_range(count_threads() - threads, 1, LOOKUPS_MAX);
    /* The loop has given up the last of them when it has done something that came after. */
    answers(hold(w, bj_monitor_connect(w->ctx, text_of(w, "tcp:127.0.0.1:%s", port), PATIENCE_MS)),
            BJ_E_CONNECT);

    /* What was given up takes no thread any more; what waits has its turn. */
    bj_future *last = hold(w, connect_to_name(w, NAMES, port, PATIENCE_MS));
    let_look_up(LOOKUPS_MAX + 1);
    answers(last, BJ_E_CONNECT);
    while (count_threads() > threads)
        usleep(1000);
    atomic_store(&holds_names, false);
}

static void c88_a_closed_context_waits_for_no_name(void **state)
{
    world *w = *state;
    int threads = count_threads();
    atomic_store(&holds_names, true);
    for (int i = 0; i < 2 * LOOKUPS_MAX; i++)
        hold(w, connect_to_name(w, i, "1", BJ_TIMEOUT_NONE));
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    let_look_up(LOOKUPS_MAX);
    while (count_threads() >= threads) /* the context's own has gone as well */
        usleep(1000);
    atomic_store(&holds_names, false);
}

static void on_failed(bj_future *future, void *user)
{
    *(int *)user = bj_future_error(future);
}

static void c88_a_name_keeps_the_programs_loop(void **state)
{
    world *w = *state;
    struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO);
    bj_ctx *ctx;
    int error = BJ_OK; /* of the callback, for which ev_run() waits */
    const char *uri = text_of(w, "tcp:localhost:%d", unused_port());
    assert_int_equal(bj_ctx_new_on_loop(ev, &ctx), BJ_OK);
    bj_future *connect = bj_monitor_connect(ctx, uri, BJ_TIMEOUT_NONE);
    bj_future_on_done(connect, (bj_closure){.fn = on_failed, .user = &error});
    ev_run(ev, 0);
    assert_int_equal(error, BJ_E_CONNECT);
    bj_future_unref(connect);
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    bj_ctx_unref(ctx);
    ev_loop_destroy(ev);
}

/* ---------------------------------------------------------------------------- TCP */

/* connect(2): "insufficient entries in the routing cache"; no full backlog, as of a UNIX socket. */
static void c90_a_connect_that_is_to_be_tried_again(void **state)
{
    world *w = *state;
    atomic_store(&no_routes, true);
    bj_future *connecting = hold(w, bj_monitor_connect(w->ctx, "tcp:127.0.0.1:1", 10 * 1000));
    answers(connecting, BJ_E_CONNECT);
    atomic_store(&no_routes, false);
    names(connecting, "tcp:127.0.0.1:1");
}

static int tcp_state(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_state : -1;
}

/* A duplicate of the socket that is connecting, as a forked child has it; -1: there is none yet. */
static int find_connecting(void)
{
    for (int fd = 0; fd < FDS_MAX; fd++)
        if (tcp_state(fd) == TCP_SYN_SENT)
            return (int)syscall(SYS_dup, fd); /* TSan takes dup() for a race */
    return -1;
}

/* A listener whose backlog is full does not answer. */
static int fill_listener(struct sockaddr_in *address, int *ret_filler)
{
    socklen_t len = sizeof *address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)address, len), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)address, &len), 0);
    assert_int_equal(listen(listener, 0), 0);
    *ret_filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*ret_filler, (struct sockaddr *)address, len), 0);
    return listener;
}

static void c91_a_connecting_socket_is_hung_up_on(void **state)
{
    world *w = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int filler, child_has;
    int listener = fill_listener(&address, &filler);
    const char *uri = text_of(w, "tcp:127.0.0.1:%d", ntohs(address.sin_port));
    bj_future *connecting = hold(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_NONE));
    while ((child_has = find_connecting()) < 0)
        usleep(1000);
    bj_future_cancel(connecting);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK); /* after that it has been given up */
    assert_int_equal(tcp_state(child_has), TCP_CLOSE);
    close(child_has);
    close(filler);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(c43_every_number_of_free_descriptors),
        UNCONNECTED_TEST(c43_every_number_of_free_descriptors_on_the_programs_loop),
        UNCONNECTED_TEST(c43_a_socket_that_cant_be_duplicated),
        UNCONNECTED_TEST(c43_no_descriptor_to_connect_again),
        UNCONNECTED_TEST(c43_no_thread_for_a_context),
        UNCONNECTED_TEST(c43_no_thread_for_a_name),
        UNCONNECTED_TEST(c86_each_epoll_ctl_is_refused),
        UNCONNECTED_TEST(c86_each_epoll_ctl_is_refused_on_the_programs_loop),
        UNCONNECTED_TEST(c90_a_connect_that_is_to_be_tried_again),
        UNCONNECTED_TEST(c91_a_connecting_socket_is_hung_up_on),
        UNCONNECTED_TEST(c88_few_threads_look_up_names),
        UNCONNECTED_TEST(c88_a_closed_context_waits_for_no_name),
        UNCONNECTED_TEST(c88_a_name_keeps_the_programs_loop),
    };
    sem_init(&may_look_up, 0, 0);
    return run_on_fake(tests);
}
