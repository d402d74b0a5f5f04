/* SPDX-License-Identifier: MIT */
/*
 * Hosts that accept a connection and do not answer: each has one thread, however often it is
 * tried, and healthy domains do not notice.
 */
#include "counts.h"
#include "libvirt.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The kernel completes connections to it; nobody accepts them, until forward() does. */
typedef struct hung_host {
    int fd;
    const char *uri; /* of a domain there */
    pthread_t thread;
    int served, daemon; /* a connection that is forwarded, and where to; -1: none */
} hung_host;

static hung_host begin_hung_host(world *w)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    hung_host h = {
        .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .served = -1, .daemon = -1};
    assert_true(h.fd >= 0);
    assert_int_equal(bind(h.fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(h.fd, 4096), 0);
    assert_int_equal(getsockname(h.fd, (struct sockaddr *)&address, &size), 0);
    h.uri = text_of(w, "qemu+tcp://127.0.0.1:%d/session#%s", ntohs(address.sin_port),
                    domain_of(w)->name);
    return h;
}

/* Its attempts fail. */
static void end_hung_host(const hung_host *h)
{
    close(h->fd);
}

static bj_future *try_host(world *w, const hung_host *h, int64_t timeout_ms)
{
    return bj_monitor_connect(w->ctx, h->uri, timeout_ms);
}

static void give_up_on(world *w, const hung_host *h)
{
    bj_future *future = try_host(w, h, 1);
    answers(future, BJ_E_TIMEOUT);
    bj_future_unref(future);
}

static bool pass_on(int from, int to)
{
    char bytes[65536];
    ssize_t size = read(from, bytes, sizeof bytes);
    return size > 0 && write(to, bytes, (size_t)size) == size;
}

static void *run_forwarding(void *user)
{
    const hung_host *h = user;
    struct pollfd fds[] = {{.fd = h->served, .events = POLLIN},
                           {.fd = h->daemon, .events = POLLIN}};
    bool goes_on = true;
    while (goes_on && poll(fds, 2, -1) > 0)
        for (int i = 0; i < 2 && goes_on; i++)
            if (fds[i].revents)
                goes_on = pass_on(fds[i].fd, fds[1 - i].fd);
    shutdown(h->served, SHUT_RDWR);
    shutdown(h->daemon, SHUT_RDWR);
    return NULL;
}

/* It was only slow: the first connection reaches a libvirtd after all. */
static void begin_forwarding(hung_host *h)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = strstr(host_uri(), "socket=") + strlen("socket=");
    assert_int_in_range(strlen(path), 1, sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path));
    h->served = accept(h->fd, NULL, NULL);
    assert_true(h->served >= 0);
    h->daemon = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(h->daemon, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(pthread_create(&h->thread, NULL, run_forwarding, h), 0);
}

static void end_forwarding(const hung_host *h)
{
    pthread_join(h->thread, NULL);
    close(h->served);
    close(h->daemon);
}

static bool has_connection(const hung_host *h)
{
    struct pollfd now = {.fd = h->fd, .events = POLLIN};
    return poll(&now, 1, 0) > 0;
}

/* ------------------------------------------------------------------------ tests */

static void c131_a_hung_host_keeps_one_thread(void **state)
{
    enum { ATTEMPTS = 2000 };
    world *w = *state;
    hung_host h = begin_hung_host(w);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
    give_up_on(w, &h);
    int threads = count_threads();
    for (int i = 0; i < ATTEMPTS; i++)
        give_up_on(w, &h);
    assert_int_in_range(count_threads(), 1, threads + 1); /* one may have begun and go again */

    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
    bj_monitor *next = hold_monitor(
        w, bj_future_monitor(expect(
               w, bj_monitor_connect(w->ctx, add_domain(w)->uri, BJ_TIMEOUT_DEFAULT), BJ_OK)));
    expect(w, bj_monitor_list(next, BJ_TIMEOUT_DEFAULT), BJ_OK);
    end_hung_host(&h);
}

static void c131_an_abandoned_attempt_is_adopted(void **state)
{
    world *w = *state;
    hung_host h = begin_hung_host(w);
    give_up_on(w, &h);
    bj_future *future = hold(w, try_host(w, &h, BJ_TIMEOUT_NONE));
    begin_forwarding(&h);
    bj_monitor *monitor = bj_future_monitor(answers(future, BJ_OK));
    assert_false(has_connection(&h)); /* there was no second one */
    expect(w, bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_monitor_close(monitor);
    bj_monitor_unref(monitor);
    end_forwarding(&h);
    end_hung_host(&h);
}

static void c131_a_connection_that_nobody_wants_any_more_is_closed(void **state)
{
    world *w = *state;
    hung_host h = begin_hung_host(w);
    give_up_on(w, &h);
    begin_forwarding(&h);
    end_forwarding(&h);
    end_hung_host(&h);
}

static bool has_connection_soon(const hung_host *h)
{
    struct pollfd now = {.fd = h->fd, .events = POLLIN};
    return poll(&now, 1, 60 * 1000) > 0;
}

/* Once it has answered, the others need not wait for one after the other; should it then hang, each
 * answer has cost it one thread more. */
static void w08_a_host_that_has_answered_is_tried_twice_at_once(void **state)
{
    enum { WAITING = 50 };
    world *w = *state;
    bj_future *futures[WAITING];
    hung_host h = begin_hung_host(w);
    give_up_on(w, &h);
    for (int i = 0; i < WAITING; i++)
        futures[i] = hold(w, try_host(w, &h, BJ_TIMEOUT_NONE));
    begin_forwarding(&h);
    bj_monitor *monitor = bj_future_monitor(answers(futures[0], BJ_OK));
    expect(w, bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);

    int hung[2];
    for (int i = 0; i < 2; i++) {
        assert_true(has_connection_soon(&h));
        hung[i] = accept(h.fd, NULL, NULL);
    }
    assert_false(has_connection(&h)); /* there is no third one */

    end_hung_host(&h); /* whoever has not been answered is refused */
    for (int i = 0; i < 2; i++)
        close(hung[i]);
    for (int i = 1; i < WAITING; i++)
        answers(futures[i], BJ_E_CONNECT);
    bj_monitor_close(monitor);
    bj_monitor_unref(monitor);
    end_forwarding(&h);
}

static void c131_a_failed_attempt_answers_all_who_waited(void **state)
{
    enum { WAITING = 100 };
    world *w = *state;
    bj_future *futures[WAITING];
    hung_host h = begin_hung_host(w);
    give_up_on(w, &h);
    for (int i = 0; i < WAITING; i++)
        futures[i] = hold(w, try_host(w, &h, BJ_TIMEOUT_NONE));
    end_hung_host(&h); /* the first attempt fails, and the next one: it is refused */
    for (int i = 0; i < WAITING; i++)
        answers(futures[i], BJ_E_CONNECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(c131_a_hung_host_keeps_one_thread),
        DOMAIN_TEST(c131_an_abandoned_attempt_is_adopted),
        DOMAIN_TEST(c131_a_connection_that_nobody_wants_any_more_is_closed),
        DOMAIN_TEST(c131_a_failed_attempt_answers_all_who_waited),
        DOMAIN_TEST(w08_a_host_that_has_answered_is_tried_twice_at_once),
    };
    return run_on_libvirt(tests);
}
