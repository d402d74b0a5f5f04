/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a real qemu-storage-daemon by TCP, and what is said when that fails.
 */
#include "process.h"
#include "world.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket that listens on a free port of the loopback; the port goes to *ret_port. */
static int listen_on(int family, int *ret_port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr *address = family == AF_INET6 ? (void *)&six : (void *)&four;
    socklen_t size = family == AF_INET6 ? sizeof(six) : sizeof(four);

    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, address, size) != 0)
        skip(); /* a machine without IPv6 */
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, address, &size), 0);
    *ret_port = ntohs(family == AF_INET6 ? six.sin6_port : four.sin_port);
    return fd;
}

static void connects_to(world *w, int family, const char *host)
{
    int port;
    int listener = listen_on(family, &port);
    const char *const argv[] = {
        "qemu-storage-daemon",
        "--chardev",
        text_of(w, "socket,id=qmp,fd=%d,server=on,wait=off", listener),
        "--monitor",
        "chardev=qmp",
        NULL,
    };
    w->server = process_start(argv, path_of(w, "server.log"), listener, -1, NULL);
    close(listener);

    w->monitor = connect_to(w, text_of(w, "tcp:%s:%d", host, port));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static void tcp_by_address(void **state)
{
    connects_to(*state, AF_INET, "127.0.0.1");
}

static void tcp_by_name(void **state)
{
    connects_to(*state, AF_INET, "localhost");
}

static void tcp_by_ipv6_address(void **state)
{
    connects_to(*state, AF_INET6, "[::1]");
}

static void a_port_nobody_listens_on_is_named(void **state)
{
    world *w = *state;
    int port;
    close(listen_on(AF_INET, &port));
    const char *uri = text_of(w, "tcp:127.0.0.1:%d", port);

    bj_future *refused = expect(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_NONE), BJ_E_CONNECT);
    names(refused, uri);
    names(refused, "refused");
}

static void a_host_that_does_not_exist_is_named(void **state)
{
    world *w = *state;
    /* Too long for a name: known to be wrong without asking anyone on the network. */
    const char *uri = text_of(w, "tcp:%064d:4444", 0);

    bj_future *refused = expect(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_NONE), BJ_E_CONNECT);
    names(refused, uri);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE_TEST(tcp_by_address),
        ALONE_TEST(tcp_by_name),
        ALONE_TEST(tcp_by_ipv6_address),
        ALONE_TEST(a_port_nobody_listens_on_is_named),
        ALONE_TEST(a_host_that_does_not_exist_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
