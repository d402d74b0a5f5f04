/* SPDX-License-Identifier: MIT */
/*
 * Monitors: connecting and ending, the table of runs, the upcalls of the driver.
 */
#include "monitor.h"
#include "address.h"
#include "future.h"
#include "job_handle.h"
#include "watch.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* A bj_monitor_closed() that waits. */
struct monitor_closed {
    bj_future future;
    struct monitor_closed *next;
    bj_monitor *monitor; /* a reference to its memory */
};

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
    text_unref(monitor->version);
    text_unref(monitor->over_text);
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

/* ----------------------------------------------------------------- the table */

static void finish_if_dismissed(bj_monitor *monitor);

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct job_key *)a)->id, ((const struct job_key *)b)->id);
}

bj_job *monitor_find_job(bj_monitor *monitor, const char *id)
{
    struct job_key key = {.id = id};
    void *node = tfind(&key, &monitor->jobs, compare_keys);
    return node ? *(bj_job **)node : NULL;
}

static void untable(bj_monitor *monitor, bj_job *job)
{
    tdelete(&job->key, &monitor->jobs, compare_keys);
    job->tabled = false;
    monitor->job_count--;
    job_retire(job);
    bj_job_unref(job);
}

void monitor_job_released(bj_monitor *monitor, bj_job *job)
{
    if (job->tabled)
        untable(monitor, job);
    finish_if_dismissed(monitor);
}

/* Gives the id to a run; whoever had it is over, whether we saw it or not (B20). */
static bool table(bj_monitor *monitor, bj_job *job)
{
    bj_job *before = monitor_find_job(monitor, text_str(job->id));
    if (before) {
        bj_job_ref(before);
        job_feed_lost(before, BJ_E_JOB_LOST,
                      "its id was given to another job, and its end was not seen");
        bj_job_unref(before);
    }
    if (!tsearch(&job->key, &monitor->jobs, compare_keys))
        return false;
    bj_job_ref(job);
    job->tabled = true;
    monitor->job_count++;
    return true;
}

bj_job *monitor_track_job(bj_monitor *monitor, const char *id, const char *type)
{
    if (monitor->job_count >= ctx_limit(monitor->ctx, BJ_LIMIT_JOBS)) {
        ctx_log(monitor->ctx, "%s: more jobs than the limit: %s is not followed",
                text_str(monitor->uri), id);
        return NULL;
    }
    bj_job *job = job_new(monitor, id, type, false);
    if (!job)
        return NULL;
    bool tabled = table(monitor, job);
    if (!tabled)
        job_retire(job);
    bj_job_unref(job); /* the table's is left */
    return tabled ? job : NULL;
}

/* ------------------------------------------------------------- starting runs */

int monitor_add_starting(bj_monitor *monitor, bj_job *job)
{
    if (monitor->job_count >= ctx_limit(monitor->ctx, BJ_LIMIT_JOBS))
        return BJ_E_BUSY;
    bj_job **last = &monitor->starting; /* of two with one id QEMU accepts the first */
    while (*last)
        last = &(*last)->next_starting;
    *last = bj_job_ref(job);
    job->next_starting = NULL;
    job->starting = true;
    monitor->job_count++;
    return BJ_OK;
}

static bool take_starting(bj_monitor *monitor, bj_job *job)
{
    for (bj_job **link = &monitor->starting; *link; link = &(*link)->next_starting) {
        if (*link == job) {
            *link = job->next_starting;
            job->starting = false;
            monitor->job_count--;
            return true;
        }
    }
    return false;
}

/* QEMU has told of it: from here on its id is its own. */
static bj_job *settle_starting(bj_monitor *monitor, bj_job *job)
{
    if (!take_starting(monitor, job))
        return NULL;
    bool tabled = table(monitor, job);
    if (!tabled) {
        job_feed_lost(job, BJ_E_JOB_LOST, bj_error_text(BJ_E_NOMEM));
        job_retire(job);
    }
    bj_job_unref(job); /* the list's */
    return tabled ? job : NULL;
}

static bj_job *find_starting(bj_monitor *monitor, const char *id)
{
    for (bj_job *job = monitor->starting; job; job = job->next_starting)
        if (strcmp(text_str(job->id), id) == 0)
            return job;
    return NULL;
}

void monitor_job_started(bj_monitor *monitor, bj_job *job)
{
    if (job->starting)
        settle_starting(monitor, job);
}

void monitor_job_refused(bj_monitor *monitor, bj_job *job)
{
    if (take_starting(monitor, job)) {
        job_retire(job);
        bj_job_unref(job);
    } else if (job->tabled) { /* created, then thought better of (B41) */
        job_feed_lost(job, BJ_E_JOB_LOST, "QEMU refused to start it");
        monitor_job_released(monitor, job);
    }
}

/* -------------------------------------------------------------------- upcalls */

static void on_up(void *user, struct text *version)
{
    bj_monitor *monitor = user;

    ctx_lock(monitor->ctx);
    monitor->state = MONITOR_OPEN;
    monitor->version = text_ref(version);
    ctx_unlock(monitor->ctx);

    bj_future *connect = monitor->connect;
    monitor->connect = NULL;
    if (connect)
        future_answer(connect, &(struct future_result){.monitor = bj_monitor_ref(monitor)});
}

/* The run a fact is about. A new run begins with "created"; before 3.0, which has no statuses, with
 * whatever comes first when the id is nobody's. */
static bj_job *run_of(bj_monitor *monitor, const struct driver_fact *fact)
{
    bool created = fact->kind == FACT_STATUS && fact->status == JOB_STATUS_CREATED;
    bool gone = fact->kind == FACT_STATUS && fact->status == JOB_STATUS_NULL;

    bj_job *job = monitor_find_job(monitor, fact->id);
    bool is_its_first = job && job->machine.status == JOB_STATUS_NONE;
    if (job && (!created || is_its_first))
        return job;
    if (monitor->lingering)
        return NULL; /* nobody will ask for it */
    bj_job *starting = find_starting(monitor, fact->id);
    if (starting)
        return settle_starting(monitor, starting);
    return gone ? NULL : monitor_track_job(monitor, fact->id, fact->type);
}

static void on_fact(void *user, const struct driver_fact *fact)
{
    bj_job *job = run_of(user, fact);
    if (job)
        job_feed(job, fact);
}

static bool wants_events(void *user)
{
    const bj_monitor *monitor = user;
    return monitor->watches != NULL;
}

static void on_event(void *user, const char *name, const char *data, size_t data_len,
                     int64_t timestamp_us)
{
    bj_monitor *monitor = user;
    struct text *name_text = text_new(name, strlen(name));
    struct text *data_text = data ? text_new(data, data_len) : NULL;
    bool whole = name_text && (!data || data_text);

    for (bj_watch *watch = monitor->watches; watch; watch = watch->next) {
        if (whole)
            watch_push(watch, &(bj_record){.kind = BJ_RECORD_EVENT, .timestamp_us = timestamp_us},
                       name_text, data_text);
        else
            watch_miss(watch);
    }
    text_unref(name_text);
    text_unref(data_text);
}

/* --------------------------------------------------------------------- ending */

static void lose_starting(bj_monitor *monitor, int error, const char *text)
{
    while (monitor->starting) {
        bj_job *job = bj_job_ref(monitor->starting);
        take_starting(monitor, job);
        bj_job_unref(job); /* the list's */
        job_feed_lost(job, error, text);
        job_retire(job);
        bj_job_unref(job);
    }
}

struct loss {
    bool lingering; /* those that are to be dismissed stay */
    bj_job *job;
};

static void pick_job_to_lose(const void *node, VISIT visit, void *user)
{
    struct loss *loss = user;
    bj_job *job = *(bj_job *const *)node;

    if ((visit == preorder || visit == leaf) && !(loss->lingering && job_owes_dismissal(job)))
        loss->job = job;
}

static bj_job *first_job_to_lose(const bj_monitor *monitor)
{
    struct loss loss = {.lingering = monitor->lingering};
    twalk_r(monitor->jobs, pick_job_to_lose, &loss);
    return loss.job;
}

static void lose_jobs(bj_monitor *monitor, int error, const char *text)
{
    lose_starting(monitor, error, text);
    for (bj_job *job; (job = bj_job_ref(first_job_to_lose(monitor)));) {
        job_feed_lost(job, error, text);
        if (job->tabled)
            untable(monitor, job);
        bj_job_unref(job);
    }
}

static void end_watches(bj_monitor *monitor, int error, struct text *text)
{
    while (monitor->watches) {
        bj_watch *watch = watch_ref_memory(monitor->watches);
        watch_unlink(watch, &monitor->watches);
        watch_end(watch, error, text_ref(text));
        watch_unref_memory(watch);
    }
}

static void answer_closed(bj_monitor *monitor, int error, struct text *text)
{
    while (monitor->closed) {
        struct monitor_closed *closed = monitor->closed;
        monitor->closed = closed->next;
        future_answer(&closed->future,
                      &(struct future_result){.error = error, .text = text_ref(text)});
    }
}

static void leave_ctx(bj_monitor *monitor)
{
    bj_monitor **link = &monitor->ctx->monitors;
    while (*link != monitor)
        link = &(*link)->next;
    *link = monitor->next;
    ctx_monitor_left(monitor->ctx);
    monitor_unref_memory(monitor);
}

/* Nobody hangs (B45): whoever waits for anything here hears why it will not come. */
static void answer_everyone(bj_monitor *monitor, int error, struct text *text)
{
    bj_future *connect = monitor->connect;

    monitor->connect = NULL;
    if (connect)
        future_answer(connect, &(struct future_result){.error = error, .text = text_ref(text)});
    lose_jobs(monitor, error, text_str(text));
    end_watches(monitor, error, text);
    answer_closed(monitor, error, text);
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
    bool told = monitor->state == MONITOR_OVER;
    if (!told)
        set_over(monitor, error, text);
    monitor->driver = NULL;
    ctx_unlock(monitor->ctx);

    loop_timer_free(monitor->linger);
    monitor->linger = NULL;
    monitor->lingering = false;
    if (told)
        lose_jobs(monitor, error, text_str(text)); /* those it lingered for */
    else
        answer_everyone(monitor, error, text);
    text_unref(text);
    leave_ctx(monitor);
}

static void on_down(void *user, int error, struct text *text)
{
    end(user, error, text);
}

void monitor_shut(bj_monitor *monitor, int error, struct text *text)
{
    struct driver *driver = monitor->driver;
    if (!driver) {
        text_unref(text);
        return;
    }
    driver->ops->close(driver, error, text_str(text));
    end(monitor, error, text);
}

/* ------------------------------------------------------------------ lingering */

/* A job of ours that is over but not dismissed would stay in QEMU for good (B40), and QEMU drops
 * what a client has sent when it hangs up. So a monitor that is closed answers everyone at once,
 * and its connection stays for as long as QEMU takes for the dismissals, or this long. */
#define LINGER_MS 1000

static void finish_lingering(void *user)
{
    bj_monitor *monitor = user;
    monitor_shut(monitor, BJ_E_CLOSED, text_ref(monitor->over_text));
}

static void run_finish(struct loop_task *task)
{
    bj_monitor *monitor = (bj_monitor *)((char *)task - offsetof(bj_monitor, finish_task));
    finish_lingering(monitor);
    monitor_unref_memory(monitor);
}

static void finish_if_dismissed(bj_monitor *monitor)
{
    if (!monitor->lingering || monitor->jobs)
        return;
    monitor->lingering = false;
    monitor->finish_task.run = run_finish; /* later: the driver is still reading */
    monitor_ref_memory(monitor);
    if (!loop_post(monitor->ctx->loop, &monitor->finish_task))
        monitor_unref_memory(monitor);
}

static void note_owed(const void *node, VISIT visit, void *user)
{
    bool *owed = user;
    if (visit == preorder || visit == leaf)
        *owed |= job_owes_dismissal(*(bj_job *const *)node);
}

static bool owes_dismissals(const bj_monitor *monitor)
{
    bool owed = false;
    twalk_r(monitor->jobs, note_owed, &owed);
    return owed;
}

void monitor_close_gently(bj_monitor *monitor, struct text *text)
{
    struct driver *driver = monitor->driver;

    if (monitor->state == MONITOR_OPEN && owes_dismissals(monitor))
        monitor->linger = loop_timer_new(monitor->ctx->loop, finish_lingering, monitor);
    if (!monitor->linger) {
        monitor_shut(monitor, BJ_E_CLOSED, text);
        return;
    }
    ctx_lock(monitor->ctx);
    set_over(monitor, BJ_E_CLOSED, text);
    ctx_unlock(monitor->ctx);

    monitor->lingering = true;
    answer_everyone(monitor, BJ_E_CLOSED, text);
    driver->ops->abandon(driver, BJ_E_CLOSED, text_str(text));
    text_unref(text);
    loop_timer_set(monitor->linger, LINGER_MS);
}

static void run_close(struct loop_task *task)
{
    bj_monitor *monitor = (bj_monitor *)((char *)task - offsetof(bj_monitor, close_task));
    if (monitor->driver && monitor->state != MONITOR_OVER)
        monitor_close_gently(monitor,
                             text_printf("the monitor %s was closed", text_str(monitor->uri)));
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

int monitor_check_open(bj_monitor *monitor, struct text **ret_text)
{
    ctx_lock(monitor->ctx);
    int r = monitor->state == MONITOR_OVER ? monitor->over_error : BJ_OK;
    *ret_text = r == BJ_OK ? NULL : text_ref(monitor->over_text);
    ctx_unlock(monitor->ctx);
    return r;
}

/* ----------------------------------------------------------------- connecting */

struct connect {
    bj_future future;
    bj_monitor *monitor; /* the first handle, until the answer takes one of its own */
    struct address address;
};

static const struct driver_sink sink = {
    .up = on_up,
    .fact = on_fact,
    .wants_events = wants_events,
    .event = on_event,
    .down = on_down,
};

static void start_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    bj_monitor *monitor = connect->monitor;
    bj_ctx *ctx = monitor->ctx;

    if (ctx_is_closing(ctx)) {
        future_fail(future, BJ_E_CLOSED, "the context was closed");
        return;
    }
    monitor->driver = qmp_open(ctx, text_str(monitor->uri), &connect->address, &sink, monitor);
    if (!monitor->driver) {
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
        return;
    }
    monitor->next = ctx->monitors;
    ctx->monitors = monitor_ref_memory(monitor);
    monitor->connect = future;
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

static bj_monitor *monitor_new(bj_ctx *ctx, const char *uri)
{
    bj_monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor)
        return NULL;
    atomic_init(&monitor->refs, 1);
    atomic_init(&monitor->handles, 1);
    monitor->ctx = ctx_ref(ctx);
    monitor->uri = text_printf("%s", uri);
    return monitor;
}

static bj_future *launch_connect(bj_ctx *ctx, const char *uri, struct address *address,
                                 int64_t timeout_ms)
{
    static const struct future_ops ops = {
        .start = start_connect,
        .leave = leave_connect,
        .late = late_connect,
        .destroy = destroy_connect,
    };
    bj_monitor *monitor = monitor_new(ctx, uri);
    struct connect *connect =
        monitor ? (struct connect *)future_new(ctx, sizeof *connect, &ops) : NULL;
    if (!connect) {
        address_clear(address);
        bj_monitor_unref(monitor);
        return future_static(BJ_E_NOMEM);
    }
    connect->monitor = monitor;
    connect->address = *address;
    return future_launch(&connect->future, timeout_ms, BJ_LIMIT_CONNECT_MS);
}

bj_future *bj_monitor_connect(bj_ctx *ctx, const char *uri, int64_t timeout_ms)
{
    if (!ctx)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(ctx))
        return future_static(BJ_E_FORKED);
    if (!uri)
        return future_failed(ctx, BJ_E_INVAL, "the uri of the monitor is NULL");
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative", uri,
                             (long long)timeout_ms);

    struct address address;
    struct text *text;
    int r = address_parse(uri, &address, &text);
    if (r == BJ_OK)
        return launch_connect(ctx, uri, &address, timeout_ms);

    bj_future *failed = future_failed(ctx, r, "%s", text_str(text));
    text_unref(text);
    return failed;
}

/* --------------------------------------------------------------------- closed */

static void start_closed(bj_future *future)
{
    struct monitor_closed *closed = (struct monitor_closed *)future;
    struct text *text;

    int r = monitor_check_open(closed->monitor, &text);
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

    struct monitor_closed *closed =
        (struct monitor_closed *)future_new(monitor->ctx, sizeof *closed, &ops);
    if (!closed)
        return future_static(BJ_E_NOMEM);
    closed->monitor = monitor_ref_memory(monitor);
    return future_launch(&closed->future, BJ_TIMEOUT_NONE, -1);
}

/* -------------------------------------------------------------------- looking */

const char *bj_monitor_uri(bj_monitor *monitor)
{
    return monitor ? text_str(monitor->uri) : "";
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
    ctx_unlock(monitor->ctx);
    return r;
}

/* -------------------------------------------------------------------- watches */

static void begin_watch(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    struct text *text;

    int r = monitor_check_open(monitor, &text);
    if (r == BJ_OK)
        watch_link(watch, &monitor->watches);
    else
        watch_end(watch, r, text);
}

static void leave_watch(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    watch_unlink(watch, &monitor->watches);
}

static void disown_monitor(void *owner)
{
    monitor_unref_memory(owner);
}

int bj_monitor_watch(bj_monitor *monitor, bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = begin_watch,
        .leave = leave_watch,
        .disown = disown_monitor,
    };
    if (!monitor || !ret_watch)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    return watch_new(monitor->ctx, &ops, monitor_ref_memory(monitor), 0, ret_watch);
}
