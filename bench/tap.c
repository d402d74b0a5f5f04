/* SPDX-License-Identifier: MIT */
/*
 * Stands between a client and QEMU, and measures how long the client takes from READY to complete.
 *
 *     tap LISTEN_SOCKET QEMU_SOCKET
 *
 * The clock starts when READY is handed on to the client, and stops when complete has come from
 * it. The status event that QEMU sends just before READY is kept back until READY is there: a
 * client that goes by it would be done before the clock starts.
 *
 * One client at a time; for each connection one line: nanoseconds, or "-" where one of the two was
 * not seen whole. Ends when stdin does.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* One of the two directions. Each has a thread: the one that awaits complete sleeps, and need not
 * wait until the client leaves it the processor on which READY was sent. */
struct direction {
    int from;
    int to;
    const char *word; /* what is looked for */
    const char *herald;
    int64_t seen_ns; /* when the word came; 0 if it has not */
    char buffer[1 << 16];
};

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

static bool contains(const char *data, size_t size, const char *word)
{
    return memmem(data, size, word, strlen(word)) != NULL;
}

/* As read(), but the word comes in one piece with its herald. */
static ssize_t read_whole(struct direction *d)
{
    size_t size = 0;

    do {
        ssize_t got = read(d->from, d->buffer + size, sizeof d->buffer - size);
        if (got <= 0)
            return got;
        size += (size_t)got;
    } while (d->herald != NULL && d->seen_ns == 0 && contains(d->buffer, size, d->herald) &&
             !contains(d->buffer, size, d->word));
    return (ssize_t)size;
}

static bool send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* Until one of the two hangs up; then both do. */
static void *carry(void *user)
{
    struct direction *d = user;
    ssize_t got;

    while ((got = read_whole(d)) > 0) {
        int64_t now = now_ns();
        if (d->seen_ns == 0 && contains(d->buffer, (size_t)got, d->word))
            d->seen_ns = now;
        if (!send_all(d->to, d->buffer, (size_t)got))
            break;
    }
    shutdown(d->from, SHUT_RDWR);
    shutdown(d->to, SHUT_RDWR);
    return NULL;
}

/* Returns 0 if there was nothing to measure. */
static int64_t relay(int client, int qemu)
{
    static struct direction down, up;
    pthread_t thread;

    down.from = up.to = qemu;
    down.to = up.from = client;
    down.herald = "\"status\": \"ready\"";
    down.word = "\"BLOCK_JOB_READY\"";
    up.word = "job-complete\""; /* also block-job-complete */
    down.seen_ns = up.seen_ns = 0;

    errno = pthread_create(&thread, NULL, carry, &up);
    if (errno != 0)
        fail("pthread_create");
    carry(&down);
    pthread_join(thread, NULL);
    return down.seen_ns != 0 && up.seen_ns != 0 ? up.seen_ns - down.seen_ns : 0;
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

        if (latency_ns == 0)
            puts("-");
        else
            printf("%" PRId64 "\n", latency_ns);
        fflush(stdout);
    }
}
