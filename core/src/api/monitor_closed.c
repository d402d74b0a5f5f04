/* SPDX-License-Identifier: MIT */
/*
 * Waiting for the end of a monitor: bj_monitor_closed().
 */
#include "api/monitor.h"
#include "delivery/future.h"

/* A bj_monitor_closed() that waits. */
struct monitor_closed {
    bj_future future;
    struct monitor_closed *next;
    bj_monitor *monitor; /* a reference to its memory */
};

void monitor_answer_closed(bj_monitor *monitor, int error, struct text *text)
{
    while (monitor->closed) {
        struct monitor_closed *closed = monitor->closed;
        monitor->closed = closed->next;
        future_answer(&closed->future,
                      &(struct future_result){.error = error, .text = text_ref(text)});
    }
}

static void start_closed(bj_future *future)
{
    struct monitor_closed *closed = (struct monitor_closed *)future;
    struct text *text;

    int r = monitor_check_over(closed->monitor, &text);
    if (r != BJ_OK) {
        future_answer(future, &(struct future_result){.error = r, .text = text});
        return;
    }
    closed->next = closed->monitor->closed;
    closed->monitor->closed = closed;
}

static void leave_closed(bj_future *future)
{
    struct monitor_closed *closed = (struct monitor_closed *)future;
    struct monitor_closed **link = &closed->monitor->closed;
    while (*link != closed)
        link = &(*link)->next;
    *link = closed->next;
}

static void destroy_closed(bj_future *future)
{
    monitor_unref_memory(((struct monitor_closed *)future)->monitor);
}

bj_future *bj_monitor_closed(bj_monitor *monitor)
{
    static const struct future_ops ops = {
        .start = start_closed,
        .leave = leave_closed,
        .destroy = destroy_closed,
    };
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);

    struct text *text;
    int r = monitor_check_over(monitor, &text);
    if (r != BJ_OK) {
        bj_future *over = future_failed(monitor->ctx, r, "%s", text_str(text));
        text_unref(text);
        return over;
    }
    struct monitor_closed *closed =
        (struct monitor_closed *)future_new(monitor->ctx, sizeof *closed, &ops);
    if (!closed)
        return future_static(BJ_E_NOMEM);
    closed->monitor = monitor_ref_memory(monitor);
    return future_launch(&closed->future, BJ_TIMEOUT_NONE, -1);
}
