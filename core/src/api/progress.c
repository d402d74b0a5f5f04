/* SPDX-License-Identifier: MIT */
/*
 * Asking how far jobs are; see progress.h.
 */
#include "api/progress.h"
#include "api/job.h"
#include "api/monitor.h"
#include "api/notices.h"
#include "base/container_of.h"
#include "driver/job_list.h"

static struct progress_asker *asker_of(bj_monitor *monitor)
{
    return &monitor->progress;
}

static int64_t limit_ms(const bj_monitor *monitor)
{
    return (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_CONVERGE_MS);
}

/* ----------------------------------------------------------------------- when */

static bool is_anything_observed(const bj_monitor *monitor)
{
    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        if (notice_has_observer(job_of(run)))
            return true;
    return false;
}

static int64_t later(int64_t now_ms, int64_t ms)
{
    return ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + ms;
}

/* When to ask next; -1: nobody wants to know. */
static int64_t next_ms(bj_monitor *monitor, int64_t now_ms)
{
    int64_t next = is_anything_observed(monitor) ? later(now_ms, limit_ms(monitor)) : -1;

    for (struct progress_reader *r = asker_of(monitor)->readers; r; r = r->next)
        if (next < 0 || r->due_ms < next)
            next = r->due_ms;
    return next;
}

static void set_timer(bj_monitor *monitor, int64_t ms)
{
    asker_of(monitor)->is_set = true;
    loop_timer_set(asker_of(monitor)->timer, ms > 0 ? ms : 0);
}

static void ask_later(bj_monitor *monitor)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t next = next_ms(monitor, now_ms);

    asker_of(monitor)->is_set = false;
    if (next >= 0)
        set_timer(monitor, next - now_ms);
}

/* ------------------------------------------------------------------- the reply */

void progress_saw(bj_job *job, const struct job_row *row)
{
    const bj_job_info *info = &row->info;
    bool is_first = job->updated == 0;

    if (is_first || info->current != job->last_progress.current ||
        info->total != job->last_progress.total)
        job->updated = job->monitor->progress.updates + 1;
    job_note_progress(job, info);
    notice_see(job, row, clock_monotonic_ms());
}

bool progress_is_new(const bj_job *job, const struct progress_reader *reader)
{
    return job->updated > reader->updates;
}

/* A row may be that of the run before which had the same id, if it was asked for then. */
static void take_list(bj_monitor *monitor, const struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct job_row *row = &list->rows[i];
        struct run *run = tracker_find(&monitor->tracker, row->info.id);
        if (run && job_of(run)->born < asker_of(monitor)->questions)
            progress_saw(job_of(run), row);
    }
}

/* Who observes an unobserved job next need not hear of what was long ago. */
static void judge_all(bj_monitor *monitor, int64_t deaf_ms)
{
    for (struct run *run = monitor->tracker.runs; run; run = run->next) {
        if (notice_has_observer(job_of(run)))
            notice_judge(job_of(run), deaf_ms);
        else
            notice_end(job_of(run));
    }
}

static void serve_readers(bj_monitor *monitor, bool has_news)
{
    struct progress_asker *asker = asker_of(monitor);
    int64_t now_ms = clock_monotonic_ms();

    for (struct progress_reader *r = asker->readers; r; r = r->next) {
        if (r->due_ms > now_ms)
            continue;
        r->due_ms = later(now_ms, r->every_ms);
        if (!has_news)
            continue;
        r->give(r);
        r->updates = asker->updates;
    }
}

static void on_reply(struct driver_request *request, struct driver_reply *reply)
{
    struct progress_asker *asker = container_of(request, struct progress_asker, request);
    bj_monitor *monitor = container_of(asker, bj_monitor, progress);

    asker->is_asking = false;
    if (reply->list) {
        take_list(monitor, reply->list);
        asker->updates++;
        judge_all(monitor, 0);
    }
    serve_readers(monitor, reply->list != NULL);
    if (asker->timer)
        ask_later(monitor);
    monitor_unref_memory(monitor);
}

/* -------------------------------------------------------------------- asking */

static void ask(bj_monitor *monitor)
{
    struct progress_asker *asker = asker_of(monitor);
    struct driver *driver = monitor->driver;

    asker->request.done = on_reply;
    if (!driver || driver->ops->query(driver, &asker->request, false) != BJ_OK) {
        serve_readers(monitor, false);
        ask_later(monitor);
        return;
    }
    monitor_ref_memory(monitor);
    asker->is_asking = true;
    asker->questions++;
    asker->asked_ms = clock_monotonic_ms();
    set_timer(monitor, limit_ms(monitor));
}

static void on_timer(void *user)
{
    bj_monitor *monitor = user;
    struct progress_asker *asker = asker_of(monitor);

    if (asker->is_asking) {
        judge_all(monitor, clock_monotonic_ms() - asker->asked_ms);
        set_timer(monitor, limit_ms(monitor));
    } else if (asker->readers || is_anything_observed(monitor)) {
        ask(monitor);
    } else {
        judge_all(monitor, 0);
        asker->is_set = false;
    }
}

static bool make_timer(bj_monitor *monitor)
{
    struct progress_asker *asker = asker_of(monitor);
    if (!asker->timer)
        asker->timer = loop_timer_new(monitor->ctx->loop, on_timer, monitor);
    return asker->timer != NULL;
}

bool progress_join(bj_monitor *monitor, struct progress_reader *reader)
{
    struct progress_asker *asker = asker_of(monitor);

    if (!make_timer(monitor))
        return false;
    reader->due_ms = clock_monotonic_ms();
    reader->next = asker->readers;
    asker->readers = reader;
    if (!asker->is_asking)
        ask(monitor);
    return true;
}

void progress_leave(bj_monitor *monitor, struct progress_reader *reader)
{
    struct progress_reader **link = &asker_of(monitor)->readers;
    while (*link != reader)
        link = &(*link)->next;
    *link = reader->next;
    if (!asker_of(monitor)->is_asking && asker_of(monitor)->timer)
        ask_later(monitor); /* it may have been the only one in a hurry */
}

void progress_note_observer(bj_job *job)
{
    bj_monitor *monitor = job->monitor;

    if (!notice_has_observer(job))
        return;
    notice_begin(job);
    if (!asker_of(monitor)->is_set && make_timer(monitor))
        set_timer(monitor, limit_ms(monitor));
}

void progress_end(bj_monitor *monitor)
{
    loop_timer_free(asker_of(monitor)->timer);
    asker_of(monitor)->timer = NULL;
    asker_of(monitor)->is_set = false;
}
