/* SPDX-License-Identifier: MIT */
/*
 * One client at a time, bytes both ways, on a thread of its own.
 */
#include "relay.h"

#include "cmocka_all.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    return address;
}

static int connect_to_target(const relay *r)
{
    struct sockaddr_un address = address_of(r->target);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* False when one of the two has nothing more to say, or takes nothing more. */
static bool pass_on(int from, int to)
{
    char piece[65536];
    ssize_t got = read(from, piece, sizeof(piece));
    for (ssize_t sent = 0, n; sent < got; sent += n) {
        n = send(to, piece + sent, (size_t)(got - sent), MSG_NOSIGNAL);
        if (n <= 0)
            return false;
    }
    return got > 0;
}

static void serve(relay *r, int client, int server)
{
    struct pollfd fds[] = {
        {.fd = client, .events = POLLIN},
        {.fd = server, .events = POLLIN},
        {.fd = r->wake[0], .events = POLLIN},
    };
    for (bool goes_on = true; goes_on;) {
        poll(fds, 3, -1);
        if (fds[2].revents)
            return;
        if (fds[0].revents)
            goes_on = pass_on(client, server);
        if (goes_on && fds[1].revents)
            goes_on = pass_on(server, client);
    }
}

static void *run(void *user)
{
    relay *r = user;
    struct pollfd fds[] = {{.fd = r->listener, .events = POLLIN},
                           {.fd = r->wake[0], .events = POLLIN}};
    while (!atomic_load(&r->over)) {
        char byte;
        poll(fds, 2, -1);
        if (fds[1].revents) {
            assert_int_equal(read(r->wake[0], &byte, 1), 1);
            continue;
        }
        int client = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
        int server = connect_to_target(r);
        if (client >= 0 && server >= 0)
            serve(r, client, server);
        close(client);
        close(server);
    }
    return NULL;
}

void relay_start(relay *r, const char *path, const char *target)
{
    struct sockaddr_un address = address_of(path);
    *r = (relay){.target = target};
    r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    assert_int_equal(bind(r->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(r->listener, 4), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r->wake), 0);
    assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
}

void relay_cut(relay *r)
{
    assert_int_equal(write(r->wake[1], "", 1), 1);
}

void relay_end(relay *r)
{
    atomic_store(&r->over, true);
    relay_cut(r);
    pthread_join(r->thread, NULL);
    close(r->listener);
    close(r->wake[0]);
    close(r->wake[1]);
}
