/* SPDX-License-Identifier: MIT */
/*
 * Monitors: connecting and ending, the upcalls of the driver, what is seen from outside.
 */
#include "api/monitor.h"
#include "api/answers.h"
#include "api/await_peer.h"
#include "api/job.h"
#include "api/open_driver.h"
#include "api/reconnect.h"
#include "api/trace.h"
#include "api/watch_jobs.h"
#include "api/wiring.h"
#include "base/container_of.h"
#include "delivery/future.h"
#include "delivery/watch.h"

#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------- memory */

bj_monitor *monitor_ref_memory(bj_monitor *monitor)
{
    atomic_fetch_add(&monitor->refs, 1);
    return monitor;
}

void monitor_unref_memory(bj_monitor *monitor)
{
    if (atomic_fetch_sub(&monitor->refs, 1) != 1)
        return;
    text_unref(monitor->uri);
    text_unref(monitor->name);
    text_unref(monitor->label);
    for (int i = 0; i < VERSIONS_MAX; i++)
        text_unref(monitor->versions[i]);
    text_unref(monitor->over_text);
    text_unref(monitor->away_text);
    if (monitor->legacy)
        monitor->legacy->free(monitor->legacy);
    ctx_unref(monitor->ctx);
    free(monitor);
}

bj_monitor *bj_monitor_ref(bj_monitor *monitor)
{
    if (monitor)
        atomic_fetch_add(&monitor->handles, 1);
    return monitor;
}

bj_monitor *bj_monitor_unref(bj_monitor *monitor)
{
    if (!monitor || ctx_is_forked(monitor->ctx) || atomic_fetch_sub(&monitor->handles, 1) != 1)
        return NULL;
    bj_monitor_close(monitor);
    monitor_unref_memory(monitor);
    return NULL;
}

/* -------------------------------------------------------------------- upcalls */

static bool inherit(bj_monitor *monitor)
{
    struct driver *driver = monitor->driver;
    struct driver_legacy *legacy = monitor->legacy;

    monitor->legacy = NULL;
    return !driver->ops->inherit || driver->ops->inherit(driver, legacy);
}

static void come_back(bj_monitor *monitor, bool is_another_version)
{
    const struct driver *driver = monitor->driver;
    bool is_another_process =
        driver->peer != 0 && monitor->peer != 0 && driver->peer != monitor->peer;

    is_another_process |= !inherit(monitor);
    monitor->peer = driver->peer;
    tracker_up(&monitor->tracker, driver->capabilities.has_status,
               is_another_process || is_another_version ? OTHER_QEMU : SAME_QEMU);
}

void monitor_is_back(bj_monitor *monitor)
{
    monitor_notify_watches(monitor, BJ_RECORD_RECONNECTED, BJ_OK, NULL);
}

/* Under the lock: whether it is another one than before. All that there were are kept, as callers
 * have pointers to them; after so many the display stays as it is. */
static bool set_version(bj_monitor *monitor, struct text *version)
{
    const struct text *before = monitor->version;
    const char *now = text_str(version);

    for (int i = 0; i < VERSIONS_MAX && monitor->version == before; i++) {
        if (!monitor->versions[i])
            monitor->versions[i] = text_ref(version);
        if (strcmp(text_str(monitor->versions[i]), now) == 0)
            monitor->version = monitor->versions[i];
    }
    return before && strcmp(text_str(before), now) != 0;
}

static void on_up(void *user, struct text *version)
{
    bj_monitor *monitor = user;
    bool was_away = monitor->state == MONITOR_AWAY;

    ctx_lock(monitor->ctx);
    if (was_away)
        monitor->driver = reconnect_done(monitor);
    monitor->state = MONITOR_OPEN;
    bool is_another_version = set_version(monitor, version);
    monitor->identity = monitor->driver->identity;
    ctx_unlock(monitor->ctx);
    if (was_away) {
        come_back(monitor, is_another_version);
        watch_jobs_up(monitor);
        return;
    }

    await_free(monitor->awaiting);
    monitor->awaiting = NULL;
    monitor->peer = monitor->driver->peer;
    tracker_up(&monitor->tracker, monitor->driver->capabilities.has_status, FIRST_TIME);
    bj_future *connect = monitor->connect;
    monitor->connect = NULL;
    if (connect)
        future_answer(connect,
                      &(struct future_result){.value = monitor_value(bj_monitor_ref(monitor))});
}

/* There may be thousands a second: they are counted, and that is all. */
static void note_io_error(bj_monitor *monitor, const struct fact *fact)
{
    struct run *run = tracker_find(&monitor->tracker, fact->id);
    if (run)
        progress_io_error(&job_of(run)->progress, fact->writing);
}

static void on_fact(void *user, const struct fact *fact)
{
    bj_monitor *monitor = user;
    if (fact->kind == FACT_IO_ERROR) {
        note_io_error(monitor, fact);
        return;
    }
    tracker_fact(&monitor->tracker, fact);
    monitor->fed = NULL;
}

/* Its row is kept however long the list is. */
static bool wants_row(void *user, const char *id)
{
    const bj_monitor *monitor = user;
    return tracker_wants_row(&monitor->tracker, id);
}

/* --------------------------------------------------------------------- ending */

static void leave_ctx(bj_monitor *monitor)
{
    monitor->in_ctx = false;
    ctx_leave(monitor->ctx, &monitor->member);
    monitor_unref_memory(monitor);
}

/* Nobody hangs (B45): whoever waits for anything here hears why it will not come. */
static void answer_everyone(bj_monitor *monitor, int error, struct text *text, bool lingers)
{
    bj_future *connect = monitor->connect;

    monitor->connect = NULL;
    if (connect)
        future_answer(connect, &(struct future_result){.error = error, .text = text_ref(text)});
    monitor->ending = text;
    if (lingers)
        tracker_close(&monitor->tracker, text_str(text));
    else
        tracker_over(&monitor->tracker, error, text_str(text));
    monitor->ending = NULL;
    monitor_end_watches(monitor, error, text);
    monitor_answer_closed(monitor, error, text);
}

/* Under the lock. */
static void set_over(bj_monitor *monitor, int error, struct text *text)
{
    monitor->state = MONITOR_OVER;
    monitor->over_error = error;
    monitor->over_text = text_ref(text);
}

/* The driver is gone or about to go. */
static void end(bj_monitor *monitor, int error, struct text *text)
{
    ctx_lock(monitor->ctx);
    bool was_over = monitor->state == MONITOR_OVER;
    if (!was_over)
        set_over(monitor, error, text);
    monitor->driver = NULL;
    ctx_unlock(monitor->ctx);

    await_free(monitor->awaiting);
    monitor->awaiting = NULL;
    reconnect_free(monitor->reconnect);
    monitor->reconnect = NULL;
    loop_timer_free(monitor->linger);
    loop_timer_free(monitor->seek_timer);
    progress_end(monitor);
    monitor->linger = monitor->seek_timer = NULL;
    monitor->lingering = false;
    if (was_over)
        tracker_over(&monitor->tracker, error, text_str(text)); /* for what it lingered for */
    else
        answer_everyone(monitor, error, text, false);
    trace_end(monitor, error, text);
    text_unref(text);
    leave_ctx(monitor);
}

/* They have numbers of that connection. */
static void unprepare_all(const bj_monitor *monitor)
{
    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        job_of(run)->unprepare(&job_of(run)->complete.request);
}

static bool go_away(bj_monitor *monitor, struct text *text)
{
    if (!reconnect_begin(monitor))
        return false;
    text_unref(monitor->away_text);
    monitor->away_text = text_ref(text);
    monitor->legacy = monitor->driver->legacy;
    monitor->driver->legacy = NULL;
    bool is_gone = monitor->driver->is_gone;
    ctx_lock(monitor->ctx);
    monitor->state = MONITOR_AWAY;
    monitor->driver = NULL;
    ctx_unlock(monitor->ctx);

    /* That it was coming back has not been reported yet. */
    bool was_back = !monitor->tracker.is_returning;
    unprepare_all(monitor);
    monitor->ending = text;
    tracker_away(&monitor->tracker);
    monitor->ending = NULL;
    if (was_back)
        monitor_notify_watches(monitor, BJ_RECORD_DISCONNECTED, BJ_E_DISCONNECTED, text);
    if (is_gone)
        tracker_peer_is_gone(&monitor->tracker, text_str(text));
    return true;
}

static bool is_closing(bj_monitor *monitor)
{
    ctx_lock(monitor->ctx);
    bool closing = monitor->closing;
    ctx_unlock(monitor->ctx);
    return closing;
}

/* A peer that breaks the protocol would do so again. */
static bool may_come_back(bj_monitor *monitor, int error)
{
    return error == BJ_E_DISCONNECTED && monitor->state == MONITOR_OPEN && !is_closing(monitor) &&
           (!monitor->driver->is_gone || monitor->driver->may_return) &&
           monitor_reconnect_ms(monitor) != 0;
}

static void on_waits(void *user, struct text *why)
{
    bj_monitor *monitor = user;
    reconnect_waits(monitor);
    tracker_peer_is_gone(&monitor->tracker, text_str(why));
    text_unref(why);
}

/* A peer that hangs up before the negotiation is over may be about to end, or to begin. */
static bool is_to_be_awaited(const bj_monitor *monitor, int error)
{
    return monitor->driver->is_absent || error == BJ_E_DISCONNECTED;
}

void monitor_not_there(bj_monitor *monitor, int error, struct text *text)
{
    monitor->driver = NULL; /* nobody else looks at it before it is up */
    if (!await_again(monitor->awaiting, &text))
        end(monitor, error, text);
}

static void on_down(void *user, int error, struct text *text)
{
    bj_monitor *monitor = user;

    if (monitor->state == MONITOR_AWAY) {
        reconnect_failed(monitor, text, reconnect_is_in_vain(monitor));
    } else if (monitor->awaiting && is_to_be_awaited(monitor, error)) {
        monitor_not_there(monitor, error, text);
    } else if (may_come_back(monitor, error) && go_away(monitor, text)) {
        text_unref(text);
    } else {
        end(monitor, error, text);
    }
}

void monitor_shut(bj_monitor *monitor, int error, struct text *text)
{
    if (!monitor->in_ctx) {
        text_unref(text);
        return;
    }
    if (monitor->driver)
        monitor->driver->ops->close(monitor->driver, error, text_str(text));
    end(monitor, error, text);
}

/* ------------------------------------------------------------------ lingering */

/* A job of ours that is over but not dismissed would stay in QEMU for good (B40), and QEMU drops
 * what a client has sent when it hangs up. Nor does it like to have a reply left over: the next
 * client gets it, or before 6.0 it may crash. So a monitor that is closed answers everyone at once,
 * and its connection stays for as long as QEMU takes for the dismissals and for all replies, or
 * this long. */
#define LINGER_MS 1000

static void finish_lingering(void *user)
{
    bj_monitor *monitor = user;
    monitor_shut(monitor, BJ_E_CLOSED, text_ref(monitor->over_text));
}

static void run_finish(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, finish_task);
    finish_lingering(monitor);
    monitor_unref_memory(monitor);
}

static bool is_owed(const bj_monitor *monitor)
{
    struct driver *driver = monitor->driver;
    return driver->ops->is_owed && driver->ops->is_owed(driver);
}

void monitor_finish_if_settled(bj_monitor *monitor)
{
    if (!monitor->lingering || monitor->tracker.runs || is_owed(monitor))
        return;
    monitor->lingering = false;
    monitor->finish_task.run = run_finish; /* later: the driver is still reading */
    monitor_ref_memory(monitor);
    if (!loop_post(monitor->ctx->loop, &monitor->finish_task))
        monitor_unref_memory(monitor);
}

void monitor_close_gently(bj_monitor *monitor, struct text *text)
{
    struct driver *driver = monitor->driver;

    if (monitor->state == MONITOR_OPEN &&
        (tracker_owes_dismissals(&monitor->tracker) || is_owed(monitor)))
        monitor->linger = loop_timer_new(monitor->ctx->loop, finish_lingering, monitor);
    if (!monitor->linger) {
        monitor_shut(monitor, BJ_E_CLOSED, text);
        return;
    }
    ctx_lock(monitor->ctx);
    set_over(monitor, BJ_E_CLOSED, text);
    ctx_unlock(monitor->ctx);

    monitor->lingering = true;
    answer_everyone(monitor, BJ_E_CLOSED, text, true);
    driver->ops->abandon(driver, BJ_E_CLOSED, text_str(text));
    text_unref(text);
    loop_timer_set(monitor->linger, LINGER_MS);
}

static bj_monitor *member_monitor(struct ctx_member *member)
{
    return container_of(member, bj_monitor, member);
}

static void close_member(struct ctx_member *member, struct text *why)
{
    bj_monitor *monitor = member_monitor(member);
    if (monitor->state == MONITOR_OVER)
        text_unref(why); /* it lingers */
    else
        monitor_close_gently(monitor, why);
}

static void shut_member(struct ctx_member *member, struct text *why)
{
    monitor_shut(member_monitor(member), BJ_E_CLOSED, why);
}

void monitor_enter_ctx(bj_monitor *monitor)
{
    static const struct ctx_member_ops ops = {.close = close_member, .shut = shut_member};

    if (monitor->in_ctx)
        return;
    monitor->in_ctx = true;
    monitor->member.ops = &ops;
    ctx_enter(monitor->ctx, &monitor_ref_memory(monitor)->member);
}

static void on_settled(void *user)
{
    monitor_finish_if_settled(user);
}

static void run_close(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, close_task);
    if (monitor->in_ctx && monitor->state != MONITOR_OVER)
        monitor_close_gently(monitor,
                             text_printf("the monitor %s was closed", monitor_label(monitor)));
    monitor_unref_memory(monitor);
}

int bj_monitor_close(bj_monitor *monitor)
{
    if (!monitor)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;

    ctx_lock(monitor->ctx);
    bool post = !monitor->closing && monitor->state != MONITOR_OVER;
    monitor->closing = true;
    if (post) {
        monitor->close_task.run = run_close;
        monitor_ref_memory(monitor);
        if (!loop_post(monitor->ctx->loop, &monitor->close_task))
            atomic_fetch_sub(&monitor->refs, 1); /* the caller's is left */
    }
    ctx_unlock(monitor->ctx);
    return BJ_OK;
}

int monitor_check_over(bj_monitor *monitor, struct text **ret_text)
{
    ctx_lock(monitor->ctx);
    int r = monitor->state == MONITOR_OVER ? monitor->over_error : BJ_OK;
    *ret_text = r == BJ_OK ? NULL : text_ref(monitor->over_text);
    ctx_unlock(monitor->ctx);
    return r;
}

int monitor_check_open(bj_monitor *monitor, struct text **ret_text)
{
    int r = monitor_check_over(monitor, ret_text);
    if (r != BJ_OK || monitor->state != MONITOR_AWAY)
        return r;
    *ret_text = text_printf("%s: the connection has ended and is being made again: ask when it is",
                            monitor_label(monitor));
    return BJ_E_DISCONNECTED;
}

bj_future *monitor_refuse(bj_monitor *monitor, int64_t timeout_ms)
{
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(monitor->ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative",
                             monitor_label(monitor), (long long)timeout_ms);
    return NULL;
}

struct text *monitor_late_text(const bj_monitor *monitor, const char *command, int64_t timeout_ms)
{
    return text_printf(
        "no answer from %s%s%s within %.10g s: QEMU may be stopped or busy; what it was "
        "told it may still do",
        monitor_label(monitor), command ? " to " : "", command ? command : "",
        (double)timeout_ms / 1000.);
}

/* ----------------------------------------------------------------- connecting */

static const struct driver_sink sink = {
    .tap = trace_tap,
    .up = on_up,
    .waits = on_waits,
    .fact = on_fact,
    .wants_row = wants_row,
    .wants_events = monitor_wants_events,
    .event = monitor_on_event,
    .settled = on_settled,
    .down = on_down,
};

bool monitor_open(bj_monitor *monitor, struct address *address, bj_future *connect)
{
    const struct driver_peer peer = {
        .uri = text_str(monitor->uri),
        .label = monitor_label(monitor),
        .out_of_band = monitor->out_of_band,
    };

    monitor->driver = driver_open(monitor->ctx, &peer, address, &sink, monitor);
    if (!monitor->driver)
        return false;
    monitor_enter_ctx(monitor);
    monitor->connect = connect;
    return true;
}

struct driver *monitor_dial(bj_monitor *monitor, struct text **ret_why)
{
    const char *uri = text_str(monitor->uri);
    struct address address;

    if (address_parse(uri, &address, ret_why) != BJ_OK)
        return NULL;
    const struct driver_peer peer = {
        .uri = uri,
        .label = monitor_label(monitor),
        .before = monitor->legacy,
        .out_of_band = monitor->out_of_band,
    };
    struct driver *driver = driver_open(monitor->ctx, &peer, &address, &sink, monitor);
    if (!driver)
        *ret_why = text_printf("%s", bj_error_text(BJ_E_NOMEM));
    return driver;
}

void monitor_open_again(bj_monitor *monitor)
{
    struct text *why = NULL;

    monitor->driver = monitor_dial(monitor, &why);
    if (!monitor->driver)
        monitor_not_there(monitor, BJ_E_CONNECT, why);
}

int64_t monitor_reconnect_ms(bj_monitor *monitor)
{
    ctx_lock(monitor->ctx);
    int64_t ms = monitor->reconnect_ms;
    ctx_unlock(monitor->ctx);
    return ms;
}

static void run_unwant(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, unwant_task);
    ctx_lock(monitor->ctx);
    monitor->unwanting = false;
    ctx_unlock(monitor->ctx);
    if (monitor->reconnect)
        reconnect_is_unwanted(monitor);
    monitor_unref_memory(monitor);
}

/* Under the lock. An attempt that waits for a start has no limit of its own. */
static void unwant(bj_monitor *monitor)
{
    monitor->unwanting = true;
    monitor->unwant_task.run = run_unwant;
    monitor_ref_memory(monitor);
    if (!loop_post(monitor->ctx->loop, &monitor->unwant_task))
        atomic_fetch_sub(&monitor->refs, 1); /* the caller's is left */
}

int bj_monitor_set_reconnect(bj_monitor *monitor, int64_t give_up_after_ms)
{
    if (!monitor || give_up_after_ms < BJ_TIMEOUT_NONE || monitor->is_callers)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    ctx_lock(monitor->ctx);
    int r = monitor->state == MONITOR_OVER ? monitor->over_error : BJ_OK;
    if (r == BJ_OK)
        monitor->reconnect_ms = give_up_after_ms;
    if (r == BJ_OK && give_up_after_ms == 0 && monitor->state == MONITOR_AWAY &&
        !monitor->unwanting)
        unwant(monitor);
    ctx_unlock(monitor->ctx);
    return r;
}

static struct text *label_of(const bj_monitor *monitor)
{
    return monitor->name ? text_printf("%s (%s)", text_str(monitor->name), text_str(monitor->uri))
                         : text_ref(monitor->uri);
}

bj_monitor *monitor_new(bj_ctx *ctx, const char *uri, const char *name,
                        const struct address *address)
{
    bj_monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor)
        return NULL;
    atomic_init(&monitor->refs, 1);
    atomic_init(&monitor->handles, 1);
    monitor->ctx = ctx_ref(ctx);
    tracker_init(&monitor->tracker, &monitor_port, (size_t)ctx_limit(ctx, BJ_LIMIT_JOBS));
    monitor->uri = text_new(uri, strlen(uri)); /* it is connected to again by this */
    monitor->name = name ? text_new(name, strlen(name)) : NULL;
    monitor->is_callers = address_is_callers(address);
    monitor->has_wire = address->kind != ADDRESS_LIBVIRT;
    trace_init(monitor);
    if (!monitor->uri || (name && !monitor->name))
        return bj_monitor_unref(monitor);
    monitor->label = label_of(monitor);
    return monitor;
}

/* ------------------------------------------------------------ what is known now */

const char *bj_monitor_uri(bj_monitor *monitor)
{
    return monitor ? text_str(monitor->uri) : "";
}

const char *bj_monitor_name(bj_monitor *monitor)
{
    return monitor ? text_str(monitor->name ? monitor->name : monitor->uri) : "";
}

const char *bj_monitor_qemu_version(bj_monitor *monitor)
{
    if (!monitor || ctx_is_forked(monitor->ctx))
        return "";
    ctx_lock(monitor->ctx);
    const char *version = text_str(monitor->version);
    ctx_unlock(monitor->ctx);
    return version;
}

int bj_monitor_has_command(bj_monitor *monitor, const char *command)
{
    if (!monitor || !command)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;

    ctx_lock(monitor->ctx);
    int r = monitor->over_error;
    if (monitor->state == MONITOR_OPEN) /* then the driver and what it knows of commands stay */
        r = monitor->driver->ops->has_command(monitor->driver, command) ? 1 : 0;
    else if (monitor->state == MONITOR_AWAY)
        r = BJ_E_DISCONNECTED;
    ctx_unlock(monitor->ctx);
    return r;
}
