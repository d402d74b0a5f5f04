/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a real qemu-storage-daemon by TCP, and what is said when that fails.
 */
#include "nodes.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static void connects_to(world *w, const char *address, const char *host)
{
    int port = start_qemu(w, "daemon", address);
    w->monitor = connect_to(w, text_of(w, "tcp:%s:%d", host, port));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static void tcp_by_address(void **state)
{
    connects_to(*state, "127.0.0.1", "127.0.0.1");
}

static void tcp_by_name(void **state)
{
    connects_to(*state, "127.0.0.1", "localhost");
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof(loopback)) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static void tcp_by_ipv6_address(void **state)
{
    if (!has_ipv6())
        skip();
    connects_to(*state, "::1", "[::1]");
}

static void a_port_nobody_listens_on_is_named(void **state)
{
    world *w = *state;
    int port = start_qemu(w, "daemon", "127.0.0.1");
    const char *uri = text_of(w, "tcp:127.0.0.1:%d", port);
    kill_qemu(w);

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
