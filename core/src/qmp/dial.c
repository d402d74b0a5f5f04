/* SPDX-License-Identifier: MIT */
/*
 * Connecting; see dial.h.
 */
#include "qmp/dial.h"
#include "base/text.h"
#include "qmp/lookup.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A UNIX socket whose backlog is full says EAGAIN and nothing tells when it no longer is (B47). */
#define RETRY_MS 20

struct dial {
    bj_ctx *ctx;
    struct address address;
    char *uri;
    void (*done)(void *user, int fd, struct text *text);
    void *user;

    struct loop_timer *timer; /* begins, and tries again */
    struct lookup *lookup;    /* of the host's name */
    struct addrinfo *found;
    const struct addrinfo *next; /* to be tried */
    int fd;                      /* connecting; -1 */
    struct loop_io *io;
    bool found_nobody;
};

/* A forked child may hold it, and so QEMU's monitor: hung up on, not only closed. */
static void drop_socket(struct dial *dial)
{
    loop_io_free(dial->io);
    dial->io = NULL;
    if (dial->fd >= 0) {
        shutdown(dial->fd, SHUT_RDWR);
        close(dial->fd);
    }
    dial->fd = -1;
}

void dial_cancel(struct dial *dial)
{
    drop_socket(dial);
    if (dial->lookup)
        lookup_cancel(dial->lookup);
    if (dial->found)
        freeaddrinfo(dial->found);
    loop_timer_free(dial->timer);
    address_clear(&dial->address);
    free(dial->uri);
    free(dial);
}

const char *dial_looks_up(const struct dial *dial)
{
    return dial->lookup ? dial->address.host : NULL;
}

static const char *remedy(int error)
{
    switch (error) {
    case ENOENT:
        return ": is QEMU running, with a -qmp for this path?";
    case ECONNREFUSED:
        return ": nobody listens there; QEMU may have ended";
    case EMFILE:
        return ": close files, or raise the limit of open files (ulimit -n)";
    case ENFILE:
        return ": the whole system has too many (fs.file-max)";
    case ENOSPC: /* epoll_ctl() */
        return ": raise the limit of what epoll watches for a user (fs.epoll.max_user_watches)";
    case EACCES:
    case EPERM:
        return ": connecting needs write permission on the socket and search permission on its folder";
    default:
        return "";
    }
}

static bool is_absence(int error)
{
    switch (error) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

bool dial_found_nobody(const struct dial *dial)
{
    return dial->found_nobody;
}

/* An address that does not do. */
static void fail(struct dial *dial, int error)
{
    dial->found_nobody = is_absence(error);
    dial->done(dial->user, BJ_E_CONNECT,
               text_printf("can't connect to %s: %s%s", dial->uri, strerror(error), remedy(error)));
}

struct text *dial_no_means(const char *uri, int error, int system_error)
{
    return error == BJ_E_NOMEM ? text_printf("out of memory")
                               : text_printf("the system lacks the means to connect to %s: %s%s",
                                             uri, strerror(system_error), remedy(system_error));
}

/* Nothing that another address would mend. */
static void give_up(struct dial *dial, int error, int system_error)
{
    dial->done(dial->user, error, dial_no_means(dial->uri, error, system_error));
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
    dial->done(dial->user, fd, NULL);
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
        if (errno == EAFNOSUPPORT)
            try_next(dial, errno);
        else
            give_up(dial, BJ_E_SYSTEM, errno);
        return;
    }
    int r = connect(dial->fd, address, len);
    if (r == 0) {
        connected(dial);
        return;
    }
    if (errno == EAGAIN && family == AF_UNIX) {
        drop_socket(dial);
        loop_timer_set(dial->timer, RETRY_MS);
        return;
    }
    if (errno != EINPROGRESS && errno != EINTR) {
        try_next(dial, errno);
        return;
    }
    r = loop_io_new(dial->ctx->loop, dial->fd, LOOP_WRITE, on_writable, dial, &dial->io);
    if (r != BJ_OK)
        give_up(dial, r, errno);
}

/* The next address of a host that has several; `error` is why the one before did not do. */
static void try_next(struct dial *dial, int error)
{
    drop_socket(dial);

    const struct addrinfo *next = dial->next;
    if (!next) {
        fail(dial, error);
        return;
    }
    dial->next = next->ai_next;
    try_connect(dial, next->ai_family, next->ai_addr, next->ai_addrlen);
}

/* -------------------------------------------------------------------- start */

static void try_found(struct dial *dial, struct addrinfo *found)
{
    dial->found = found;
    dial->next = found;
    try_next(dial, EHOSTUNREACH);
}

static void on_looked_up(void *user, int error, struct addrinfo *found, struct text *text)
{
    struct dial *dial = user;
    dial->lookup = NULL;
    if (error != BJ_OK)
        dial->done(dial->user, error, text);
    else
        try_found(dial, found);
}

static void begin_tcp(struct dial *dial)
{
    const struct address *address = &dial->address;
    struct addrinfo *found = lookup_figures(address->host, address->port);
    if (found) {
        try_found(dial, found);
        return;
    }
    int r =
        lookup_start(dial->ctx, address->host, address->port, on_looked_up, dial, &dial->lookup);
    if (r != BJ_OK)
        give_up(dial, r, EAGAIN);
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
