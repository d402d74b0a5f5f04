/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a monitor.
 */
#include "api/monitor.h"
#include "delivery/future.h"

#include <stdlib.h>
#include <string.h>

struct connect {
    bj_future future;
    bj_monitor *monitor; /* the first handle, until the answer takes one of its own */
    struct address address;
};

static void start_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;

    if (ctx_is_closing(future->ctx)) {
        future_fail(future, BJ_E_CLOSED, "the context was closed");
        return;
    }
    if (!monitor_open(connect->monitor, &connect->address, future))
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

static void leave_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    connect->monitor->connect = NULL;
    monitor_shut(connect->monitor, BJ_E_CLOSED, text_printf("connecting was given up"));
}

static struct text *late_connect(bj_future *future)
{
    struct driver *driver = ((struct connect *)future)->monitor->driver;
    return driver ? driver->ops->stage(driver, future->timeout_ms) : NULL;
}

static void destroy_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    address_clear(&connect->address);
    bj_monitor_unref(connect->monitor);
}

static bj_future *launch_connect(bj_ctx *ctx, const char *uri, struct address *address,
                                 bool out_of_band, int64_t timeout_ms)
{
    static const struct future_ops ops = {
        .start = start_connect,
        .leave = leave_connect,
        .late = late_connect,
        .destroy = destroy_connect,
    };
    bj_monitor *monitor = monitor_new(ctx, uri, address);
    struct connect *connect =
        monitor ? (struct connect *)future_new(ctx, sizeof *connect, &ops) : NULL;
    if (!connect) {
        address_clear(address);
        bj_monitor_unref(monitor);
        return future_static(BJ_E_NOMEM);
    }
    monitor->out_of_band = out_of_band;
    connect->monitor = monitor;
    connect->address = *address;
    return future_launch(&connect->future, timeout_ms, BJ_LIMIT_CONNECT_MS);
}

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_connect_options, out_of_band) + sizeof(bool))

/* The program may know options that are shorter than ours, or longer. */
static bool read_options(const bj_connect_options *given, bj_connect_options *ret)
{
    *ret = (bj_connect_options){0};
    if (!given)
        return true;
    if (given->size < SHORTEST_OPTIONS)
        return false;
    memcpy(ret, given, given->size < sizeof *ret ? given->size : sizeof *ret);
    return true;
}

bj_future *bj_monitor_connect(bj_ctx *ctx, const char *uri, int64_t timeout_ms)
{
    return bj_monitor_connect_with(ctx, uri, NULL, timeout_ms);
}

bj_future *bj_monitor_connect_with(bj_ctx *ctx, const char *uri, const bj_connect_options *options,
                                   int64_t timeout_ms)
{
    bj_connect_options read;
    if (!ctx)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(ctx))
        return future_static(BJ_E_FORKED);
    if (!uri)
        return future_failed(ctx, BJ_E_INVAL, "the uri of the monitor is NULL");
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative", uri,
                             (long long)timeout_ms);

    if (!read_options(options, &read))
        return future_failed(ctx, BJ_E_INVAL,
                             "%s: the size of bj_connect_options is %zu: it must be sizeof it", uri,
                             options->size);

    struct address address;
    struct text *text;
    int r = address_parse(uri, &address, &text);
    if (r == BJ_OK)
        return launch_connect(ctx, uri, &address, read.out_of_band, timeout_ms);

    bj_future *failed = future_failed(ctx, r, "%s", text_str(text));
    text_unref(text);
    return failed;
}

bj_future *bj_monitor_connect_domain(bj_ctx *ctx, struct _virDomain *domain, int64_t timeout_ms)
{
    if (!ctx)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(ctx))
        return future_static(BJ_E_FORKED);
    if (!domain)
        return future_failed(ctx, BJ_E_INVAL, "the domain to connect to is NULL");
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "a timeout of %lld ms is negative",
                             (long long)timeout_ms);

    struct address address;
    struct text *text;
    char *uri = NULL;
    int r = address_of_domain(domain, &address, &uri, &text);
    bj_future *future;
    if (r == BJ_OK) {
        future = launch_connect(ctx, uri, &address, false, timeout_ms);
    } else {
        future = future_failed(ctx, r, "%s", text_str(text));
        text_unref(text);
    }
    free(uri);
    return future;
}
