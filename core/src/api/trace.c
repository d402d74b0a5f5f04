/* SPDX-License-Identifier: MIT */
/*
 * Traces; see trace.h.
 */
#include "api/trace.h"
#include "base/container_of.h"
#include "delivery/watch.h"

/* A line is shorter than most that a watch keeps, and a burst of them longer. */
#define LINES_A_RECORD 16

struct wire_watch {
    bj_watch watch; /* first */
    int flags;
};

/* ----------------------------------------------------------------------- lines */

static struct text *text_of(const struct wire_line *line, int flags)
{
    return flags & BJ_TRACE_MASKED ? line->mask(line->bytes, line->len)
                                   : text_new(line->bytes, line->len);
}

static bj_record record_of(const struct wire_line *line)
{
    return (bj_record){
        .kind = line->is_sent ? BJ_RECORD_SENT : BJ_RECORD_RECEIVED,
        .timestamp_us = clock_realtime_us(),
    };
}

static void call(bj_trace_fn fn, void *user, int flags, const bj_monitor *monitor,
                 const struct wire_line *line)
{
    struct text *text = text_of(line, flags);
    bj_record record = record_of(line);
    record.name = text_str(monitor->name ? monitor->name : monitor->uri);
    record.text = text_str(text);
    if (!text) {
        record.kind = BJ_RECORD_LAGGED;
        record.lost = 1;
    }
    fn(&record, user);
    text_unref(text);
}

static void tell_function(bj_monitor *monitor, const struct wire_line *line)
{
    ctx_lock(monitor->ctx);
    bj_trace_fn fn = monitor->trace.fn;
    void *user = monitor->trace.user;
    int flags = monitor->trace.flags;
    monitor->trace.is_called = fn != NULL;
    ctx_unlock(monitor->ctx);
    if (!fn)
        return;

    call(fn, user, flags, monitor, line);

    ctx_lock(monitor->ctx);
    monitor->trace.is_called = false;
    pthread_cond_broadcast(&monitor->ctx->call_returned);
    ctx_unlock(monitor->ctx);
}

static void tell_watch(const bj_monitor *monitor, struct wire_watch *watch,
                       const struct wire_line *line)
{
    struct text *text = text_of(line, watch->flags);
    bj_record record = record_of(line);
    if (text)
        watch_push(&watch->watch, &record,
                   &(struct record_refs){
                       .name = monitor->name ? monitor->name : monitor->uri,
                       .text = text,
                   });
    else
        watch_miss(&watch->watch);
    text_unref(text);
}

static void on_line(struct wire_tap *tap, const struct wire_line *line)
{
    bj_monitor *monitor = container_of(tap, bj_monitor, tap);

    tell_function(monitor, line);
    for (bj_watch *watch = monitor->traces; watch; watch = watch->next)
        tell_watch(monitor, (struct wire_watch *)watch, line);
}

struct wire_tap *trace_tap(void *user)
{
    bj_monitor *monitor = user;
    return &monitor->tap;
}

void trace_init(bj_monitor *monitor)
{
    atomic_init(&monitor->tap.is_open, false);
    monitor->tap.line = on_line;
}

/* Under the lock. */
static void open_or_close_tap(bj_monitor *monitor)
{
    atomic_store(&monitor->tap.is_open, monitor->trace.fn || monitor->trace.is_watched);
}

/* --------------------------------------------------------------------- watches */

static void set_watched(bj_monitor *monitor)
{
    ctx_lock(monitor->ctx);
    monitor->trace.is_watched = monitor->traces != NULL;
    open_or_close_tap(monitor);
    ctx_unlock(monitor->ctx);
}

/* Before the monitor begins to connect, which it may never do: its context ends the watch as well.
 */
static void begin_trace(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    if (ctx_is_closing(monitor->ctx)) {
        watch_end(watch, BJ_E_CLOSED, text_printf("the context was closed"));
        return;
    }
    monitor_enter_ctx(monitor);
    if (monitor_begin_watch(monitor, watch, &monitor->traces))
        set_watched(monitor);
}

static void leave_trace(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    watch_unlink(watch, &monitor->traces);
    set_watched(monitor);
}

bj_watch *trace_watch(bj_monitor *monitor, int flags)
{
    static const struct watch_ops ops = {
        .begin = begin_trace,
        .leave = leave_trace,
        .disown = monitor_disown,
    };
    struct wire_watch *watch = (struct wire_watch *)watch_new(monitor->ctx, sizeof *watch, &ops,
                                                              monitor_ref_memory(monitor));
    if (!watch)
        return NULL;
    watch->watch.limit *= LINES_A_RECORD;
    watch->flags = flags;
    return watch_launch(&watch->watch);
}

void trace_end(bj_monitor *monitor, int error, struct text *text)
{
    monitor_end_watch_list(&monitor->traces, error, text);
}

/* -------------------------------------------------------------------- function */

int trace_check(const bj_monitor *monitor, int flags)
{
    if (flags & ~BJ_TRACE_MASKED)
        return BJ_E_INVAL;
    return monitor->has_wire ? BJ_OK : BJ_E_UNSUPPORTED;
}

int bj_monitor_set_trace(bj_monitor *monitor, int flags, bj_trace_fn fn, void *user)
{
    if (!monitor)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    int r = trace_check(monitor, flags);
    if (r != BJ_OK)
        return r;

    bool here = loop_is_current(monitor->ctx->loop); /* then no call is under way, or it is ours */
    ctx_lock(monitor->ctx);
    monitor->trace.fn = fn;
    monitor->trace.user = user;
    monitor->trace.flags = flags;
    open_or_close_tap(monitor);
    while (monitor->trace.is_called && !here)
        pthread_cond_wait(&monitor->ctx->call_returned, &monitor->ctx->lock);
    ctx_unlock(monitor->ctx);
    return BJ_OK;
}
