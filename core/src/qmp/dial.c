/* SPDX-License-Identifier: MIT */
/*
 * Connecting; see dial.h.
 */
#include "qmp/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A UNIX socket whose backlog is full says EAGAIN and nothing tells when it no longer is (B47). */
#define RETRY_MS 20

/* A host name being looked up, by a thread of its own: getaddrinfo() blocks. */
struct lookup {
    struct loop_task task;
    bj_ctx *ctx;
    struct dial *dial; /* the loop's own; NULL when it no longer waits */
    char *host;
    char *port;
    struct addrinfo *found;
    int error;
};

struct dial {
    bj_ctx *ctx;
    struct address address;
    char *uri;
    void (*done)(void *user, int fd, struct text *text);
    void *user;

    struct loop_timer *timer; /* begins, and tries again */
    struct lookup *lookup;
    struct addrinfo *found;
    const struct addrinfo *next; /* to be tried */
    int fd;                      /* connecting; -1 */
    struct loop_io *io;
};

void dial_cancel(struct dial *dial)
{
    loop_io_free(dial->io);
    if (dial->fd >= 0)
        close(dial->fd);
    if (dial->lookup)
        dial->lookup->dial = NULL;
    if (dial->found)
        freeaddrinfo(dial->found);
    loop_timer_free(dial->timer);
    address_clear(&dial->address);
    free(dial->uri);
    free(dial);
}

static void finish(struct dial *dial, int fd, struct text *text)
{
    dial->done(dial->user, fd, text);
}

static const char *remedy(int error)
{
    switch (error) {
    case ENOENT:
        return ": is QEMU running, with a -qmp for this path?";
    case ECONNREFUSED:
        return ": nobody listens there; QEMU may have ended";
    case EACCES:
    case EPERM:
        return ": connecting needs write permission on the socket and search permission on its folder";
    default:
        return "";
    }
}

static void fail(struct dial *dial, int error)
{
    finish(dial, -1,
           text_printf("can't connect to %s: %s%s", dial->uri, strerror(error), remedy(error)));
}

static void try_next(struct dial *dial, int error);

static void connected(struct dial *dial)
{
    int fd = dial->fd;
    int on = 1;

    loop_io_free(dial->io);
    dial->io = NULL;
    dial->fd = -1;
    if (dial->address.kind == ADDRESS_TCP)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    finish(dial, fd, NULL);
}

static void on_writable(void *user, int events)
{
    (void)events;
    struct dial *dial = user;
    int error = 0;
    socklen_t len = sizeof error;

    getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error == 0)
        connected(dial);
    else
        try_next(dial, error);
}

static void try_connect(struct dial *dial, int family, const struct sockaddr *address,
                        socklen_t len)
{
    dial->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (dial->fd < 0) {
        fail(dial, errno);
        return;
    }
    int r = connect(dial->fd, address, len);
    if (r == 0) {
        connected(dial);
        return;
    }
    if (errno == EAGAIN) {
        close(dial->fd);
        dial->fd = -1;
        loop_timer_set(dial->timer, RETRY_MS);
        return;
    }
    if (errno != EINPROGRESS && errno != EINTR) {
        try_next(dial, errno);
        return;
    }
    dial->io = loop_io_new(dial->ctx->loop, dial->fd, on_writable, dial);
    if (dial->io)
        loop_io_want(dial->io, LOOP_WRITE);
    else
        fail(dial, ENOMEM);
}

/* The next address of a host that has several; `error` is why the one before did not do. */
static void try_next(struct dial *dial, int error)
{
    loop_io_free(dial->io);
    dial->io = NULL;
    if (dial->fd >= 0)
        close(dial->fd);
    dial->fd = -1;

    const struct addrinfo *next = dial->next;
    if (!next) {
        fail(dial, error);
        return;
    }
    dial->next = next->ai_next;
    try_connect(dial, next->ai_family, next->ai_addr, next->ai_addrlen);
}

/* ------------------------------------------------------------------ look-up */

static void free_lookup(struct lookup *lookup)
{
    if (lookup->found)
        freeaddrinfo(lookup->found);
    free(lookup->host);
    free(lookup->port);
    ctx_unref(lookup->ctx);
    free(lookup);
}

static void run_looked_up(struct loop_task *task)
{
    struct lookup *lookup = (struct lookup *)task;
    struct dial *dial = lookup->dial;

    if (dial) {
        dial->lookup = NULL;
        dial->found = lookup->found;
        dial->next = lookup->found;
        lookup->found = NULL;
    }
    int error = lookup->error;
    if (dial && error)
        finish(dial, -1, text_printf("can't connect to %s: %s", dial->uri, gai_strerror(error)));
    else if (dial)
        try_next(dial, EHOSTUNREACH);
    free_lookup(lookup);
}

static int look_up(const char *host, const char *port, int flags, struct addrinfo **ret)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    return getaddrinfo(host, port, &hints, ret);
}

static void *lookup_thread(void *user)
{
    struct lookup *lookup = user;
    lookup->error = look_up(lookup->host, lookup->port, 0, &lookup->found);
    if (!loop_post(lookup->ctx->loop, &lookup->task))
        free_lookup(lookup);
    return NULL;
}

static int start_thread(void *(*run)(void *), void *user)
{
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&thread, NULL, run, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        pthread_detach(thread);
    return r;
}

static void look_up_name(struct dial *dial)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup) {
        fail(dial, ENOMEM);
        return;
    }
    lookup->task.run = run_looked_up;
    lookup->ctx = ctx_ref(dial->ctx);
    lookup->dial = dial;
    lookup->host = strdup(dial->address.host);
    lookup->port = strdup(dial->address.port);
    int error = lookup->host && lookup->port ? start_thread(lookup_thread, lookup) : ENOMEM;
    if (error) {
        free_lookup(lookup);
        fail(dial, error);
        return;
    }
    dial->lookup = lookup;
}

/* -------------------------------------------------------------------- start */

static void begin_tcp(struct dial *dial)
{
    if (look_up(dial->address.host, dial->address.port, AI_NUMERICHOST, &dial->found) != 0) {
        look_up_name(dial);
        return;
    }
    dial->next = dial->found;
    try_next(dial, EHOSTUNREACH);
}

static void begin(void *user)
{
    struct dial *dial = user;

    switch (dial->address.kind) {
    case ADDRESS_UNIX:
        try_connect(dial, AF_UNIX, (const struct sockaddr *)&dial->address.path,
                    sizeof dial->address.path);
        break;
    case ADDRESS_TCP:
        begin_tcp(dial);
        break;
    case ADDRESS_FD:
        dial->fd = dial->address.fd;
        dial->address.fd = -1;
        connected(dial);
        break;
    case ADDRESS_LIBVIRT: /* has a driver of its own */
        break;
    }
}

struct dial *dial_start(bj_ctx *ctx, struct address *address, const char *uri,
                        void (*done)(void *user, int fd, struct text *text), void *user)
{
    struct dial *dial = calloc(1, sizeof *dial);
    if (!dial) {
        address_clear(address);
        return NULL;
    }
    dial->ctx = ctx;
    dial->address = *address;
    *address = (struct address){.fd = -1};
    dial->done = done;
    dial->user = user;
    dial->fd = -1;
    dial->uri = strdup(uri);
    dial->timer = loop_timer_new(ctx->loop, begin, dial);
    if (!dial->uri || !dial->timer) {
        dial_cancel(dial);
        return NULL;
    }
    loop_timer_set(dial->timer, 0);
    return dial;
}
