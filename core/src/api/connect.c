/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a monitor.
 */
#include "api/await_peer.h"
#include "api/monitor.h"
#include "api/trace.h"
#include "base/container_of.h"
#include "base/options.h"
#include "delivery/future.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 200

struct connect {
    bj_future future;
    bj_monitor *monitor; /* the first handle, until the answer takes one of its own */
    struct address address;
    int64_t wait_ms;
};

/* False: no memory. */
static bool begin(struct connect *connect)
{
    bj_monitor *monitor = connect->monitor;

    if (connect->wait_ms != 0) {
        monitor->awaiting = await_begin(monitor, connect->wait_ms);
        if (!monitor->awaiting)
            return false;
    }
    if (monitor_open(monitor, &connect->address, &connect->future))
        return true;
    await_free(monitor->awaiting);
    monitor->awaiting = NULL;
    return false;
}

static void start_connect(bj_future *future)
{
    if (ctx_is_closing(future->ctx))
        future_fail(future, BJ_E_CLOSED, "the context was closed");
    else if (!begin((struct connect *)future))
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

/* Its future has been started, or never will be: then its trace is over. */
static void run_launched(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, launched_task);
    if (monitor->state == MONITOR_CONNECTING && !monitor->connect)
        monitor_shut(monitor, BJ_E_CLOSED, text_printf("connecting was given up"));
    monitor_unref_memory(monitor);
}

static void leave_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    connect->monitor->connect = NULL;
    monitor_shut(connect->monitor, BJ_E_CLOSED, text_printf("connecting was given up"));
}

static struct text *join(struct text *now, const char *before)
{
    struct text *both = text_printf("%s; before that: %s", text_str(now), before);
    text_unref(now);
    return both;
}

/* Between two tries, or in one, which may have just begun. */
static struct text *late_connect(bj_future *future)
{
    const bj_monitor *monitor = ((struct connect *)future)->monitor;
    struct driver *driver = monitor->driver;
    const char *reason = await_reason(monitor->awaiting);
    struct text *stage = driver ? driver->ops->stage(driver, future->timeout_ms) : NULL;

    if (!reason)
        return stage;
    return stage ? join(stage, reason)
                 : text_printf("waited %.10g s in vain: %s", (double)future->timeout_ms / 1000.,
                               reason);
}

static void destroy_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    address_clear(&connect->address);
    bj_monitor_unref(connect->monitor);
}

/* --------------------------------------------------------------------- options */

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_connect_options, out_of_band) + sizeof(bool))

/* BJ_OK; or BJ_E_INVAL with a sentence. */
static int read_options(const bj_connect_options *given, bj_connect_options *ret,
                        const char **ret_why)
{
    *ret = (bj_connect_options){.size = sizeof *ret};
    if (!given)
        return BJ_OK;
    if (!options_read(ret, sizeof *ret, given, given->size, SHORTEST_OPTIONS)) {
        *ret_why = "the size of the options is not sizeof(bj_connect_options)";
        return BJ_E_INVAL;
    }
    if (ret->ret_trace)
        *ret->ret_trace = NULL;
    if (ret->name && ret->name[0] == '\0')
        ret->name = NULL;
    *ret_why = NULL;
    if (ret->name && strlen(ret->name) > NAME_MAX_BYTES)
        *ret_why = "the name of a monitor has at most 200 bytes";
    else if (ret->wait_ms < BJ_TIMEOUT_NONE)
        *ret_why = "the time to wait is negative";
    else if (ret->trace_flags & ~BJ_TRACE_MASKED)
        *ret_why = "the trace's flags are not bj_trace_flags";
    return *ret_why ? BJ_E_INVAL : BJ_OK;
}

/* The same, for what does not fit the address. */
static int check_address(const struct address *address, const bj_connect_options *options,
                         const char **ret_why)
{
    if (options->wait_ms != 0 && address_is_callers(address)) {
        *ret_why = "a connection of the program's own is there, or not: there is nothing to wait "
                   "for";
        return BJ_E_INVAL;
    }
    if ((options->trace || options->ret_trace) && address->kind == ADDRESS_LIBVIRT) {
        *ret_why = "the wire to a domain is libvirt's and can't be traced here: libvirt's log "
                   "(LIBVIRT_DEBUG=1) has its calls";
        return BJ_E_UNSUPPORTED;
    }
    return BJ_OK;
}

/* ------------------------------------------------------------------- connecting */

/* One deadline: that of a try which begins when the waiting ends. */
static int64_t deadline_of(bj_ctx *ctx, int64_t wait_ms, int64_t timeout_ms)
{
    if (timeout_ms == BJ_TIMEOUT_DEFAULT)
        timeout_ms = (int64_t)ctx_limit(ctx, BJ_LIMIT_CONNECT_MS);
    if (timeout_ms == BJ_TIMEOUT_NONE || wait_ms == BJ_TIMEOUT_NONE)
        return timeout_ms;
    return timeout_ms > INT64_MAX - wait_ms ? INT64_MAX : timeout_ms + wait_ms;
}

static struct connect *connect_new(bj_ctx *ctx)
{
    static const struct future_ops ops = {
        .start = start_connect,
        .leave = leave_connect,
        .late = late_connect,
        .destroy = destroy_connect,
    };
    return (struct connect *)future_new(ctx, sizeof(struct connect), &ops);
}

/* False: no memory. */
static bool set_traces(bj_monitor *monitor, const bj_connect_options *options)
{
    if (options->trace)
        bj_monitor_set_trace(monitor, options->trace_flags, options->trace, options->trace_user);
    if (!options->ret_trace)
        return true;
    *options->ret_trace = trace_watch(monitor, options->trace_flags);
    return *options->ret_trace != NULL;
}

static bj_future *launch(struct connect *connect, int64_t timeout_ms)
{
    bj_monitor *monitor = monitor_ref_memory(connect->monitor);
    bj_future *future = future_launch(&connect->future, timeout_ms, -1);

    monitor->launched_task.run = run_launched;
    if (!loop_post(monitor->ctx->loop, &monitor->launched_task))
        monitor_unref_memory(monitor);
    return future;
}

static bj_future *launch_connect(bj_ctx *ctx, const char *uri, struct address *address,
                                 const bj_connect_options *options, int64_t timeout_ms)
{
    bj_monitor *monitor = monitor_new(ctx, uri, options->name, address);
    struct connect *connect = monitor ? connect_new(ctx) : NULL;
    if (connect) {
        connect->monitor = monitor;
        connect->address = *address;
        connect->wait_ms = options->wait_ms;
        monitor->out_of_band = options->out_of_band;
    }
    if (connect && set_traces(monitor, options))
        return launch(connect, deadline_of(ctx, options->wait_ms, timeout_ms));
    if (connect) {
        bj_future_unref(&connect->future);
    } else {
        address_clear(address);
        bj_monitor_unref(monitor);
    }
    return future_static(BJ_E_NOMEM);
}

/* What was taken into the address is given back, or goes into the monitor. */
static bj_future *connect_to(bj_ctx *ctx, const char *uri, struct address *address,
                             const bj_connect_options *options, int64_t timeout_ms)
{
    const char *why;
    int r = check_address(address, options, &why);
    if (r == BJ_OK)
        return launch_connect(ctx, uri, address, options, timeout_ms);
    address_clear(address);
    return future_failed(ctx, r, "%s: %s", uri, why);
}

bj_future *bj_monitor_connect_with(bj_ctx *ctx, const char *uri, const bj_connect_options *options,
                                   int64_t timeout_ms)
{
    const char *why;
    bj_connect_options read;

    int r = read_options(options, &read, &why);
    if (!ctx)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(ctx))
        return future_static(BJ_E_FORKED);
    if (!uri)
        return future_failed(ctx, BJ_E_INVAL, "the uri of the monitor is NULL");
    if (r != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "%s: %s", uri, why);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative", uri,
                             (long long)timeout_ms);

    struct address address;
    struct text *text;
    r = address_parse(uri, &address, &text);
    if (r == BJ_OK)
        return connect_to(ctx, uri, &address, &read, timeout_ms);

    bj_future *failed = future_failed(ctx, r, "%s", text_str(text));
    text_unref(text);
    return failed;
}

bj_future *bj_monitor_connect(bj_ctx *ctx, const char *uri, int64_t timeout_ms)
{
    return bj_monitor_connect_with(ctx, uri, NULL, timeout_ms);
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
        future = connect_to(ctx, uri, &address, &(bj_connect_options){0}, timeout_ms);
    } else {
        future = future_failed(ctx, r, "%s", text_str(text));
        text_unref(text);
    }
    free(uri);
    return future;
}
