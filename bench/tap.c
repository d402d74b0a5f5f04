/* SPDX-License-Identifier: MIT */
/*
 * Stands between a client and QEMU, and measures how long the client takes from READY to complete.
 *
 *     tap LISTEN_SOCKET QEMU_SOCKET
 *
 * The clock starts when READY has been handed on to the client, and stops when complete has come
 * from it. The status event that QEMU sends just before READY is kept back until READY is there:
 * a client that goes by it would be done before the clock starts.
 *
 * One client at a time; for each connection one line: nanoseconds, or "-" where one of the two was
 * not seen whole. Ends when stdin does.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    fprintf(stderr, "tap: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool contains(const char *data, ssize_t size, const char *word)
{
    return memmem(data, (size_t)size, word, strlen(word)) != NULL;
}

static bool send_all(int fd, const char *data, ssize_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, (size_t)size, MSG_NOSIGNAL);
        if (sent < 0)
            return false;
        data += sent;
        size -= sent;
    }
    return true;
}

/* As read(), but what says that the job is ready comes in one piece. */
static ssize_t read_whole(int fd, char *buffer, size_t size)
{
    ssize_t got = read(fd, buffer, size);

    while (got > 0 && contains(buffer, got, "\"status\": \"ready\"") &&
           !contains(buffer, got, "\"BLOCK_JOB_READY\"")) {
        ssize_t more = read(fd, buffer + got, size - (size_t)got);
        if (more <= 0)
            return more;
        got += more;
    }
    return got;
}

/* Until one of the two hangs up. Returns -1 if there was nothing to measure. */
static int64_t relay(int client, int qemu)
{
    static char buffer[1 << 16];
    struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = qemu, .events = POLLIN}};
    int64_t ready_ns = 0, latency_ns = -1;

    for (;;) {
        if (poll(fds, 2, -1) < 0)
            fail("poll");

        for (int i = 0; i < 2; i++) {
            if (fds[i].revents == 0)
                continue;
            ssize_t got = ready_ns == 0 ? read_whole(fds[i].fd, buffer, sizeof buffer)
                                        : read(fds[i].fd, buffer, sizeof buffer);
            int64_t come_ns = now_ns();
            if (got <= 0 || !send_all(fds[1 - i].fd, buffer, got))
                return latency_ns;
            int64_t gone_ns = now_ns();

            if (fds[i].fd == qemu && contains(buffer, got, "\"BLOCK_JOB_READY\""))
                ready_ns = gone_ns;
            /* job-complete and block-job-complete */
            if (fds[i].fd == client && ready_ns != 0 && contains(buffer, got, "job-complete\""))
                latency_ns = come_ns - ready_ns;
        }
    }
}

static int make_socket(const char *path, struct sockaddr_un *ret_address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd < 0)
        fail("socket");
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((size_t)snprintf(ret_address->sun_path, sizeof ret_address->sun_path, "%s", path) >=
        sizeof ret_address->sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct sockaddr_un own, qemu;

    if (argc != 3) {
        fprintf(stderr, "usage: tap LISTEN_SOCKET QEMU_SOCKET\n");
        return EXIT_FAILURE;
    }
    int listener = make_socket(argv[1], &own);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, 1) != 0)
        fail(argv[1]);
    puts("listening");
    fflush(stdout);

    for (;;) {
        struct pollfd fds[2] = {{.fd = listener, .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            fail("poll");
        if (fds[1].revents != 0)
            return EXIT_SUCCESS;

        int from = accept(listener, NULL, NULL);
        int to = make_socket(argv[2], &qemu);
        if (from < 0 || connect(to, (struct sockaddr *)&qemu, sizeof qemu) != 0)
            fail(argv[2]);
        int64_t latency_ns = relay(from, to);
        close(from);
        close(to);

        if (latency_ns < 0)
            puts("-");
        else
            printf("%" PRId64 "\n", latency_ns);
        fflush(stdout);
    }
}
