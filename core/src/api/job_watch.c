/* SPDX-License-Identifier: MIT */
/*
 * A job's watches: news as records, and progress, which QEMU reports only on request.
 */
#include "api/job.h"
#include "api/monitor.h"
#include "base/container_of.h"
#include "driver/job_list.h"

#include <string.h>

struct job_watch {
    bj_watch watch; /* first */
    struct watch_entry once[WATCH_ONCE];

    /* Progress; the loop's own. */
    int64_t progress_ms;      /* how often; 0: never */
    struct loop_timer *timer; /* asks again */
    struct driver_request request;
    bool asking;            /* then it has a reference */
    int64_t current, total; /* last reported */
    int64_t least_left;     /* to copy, that was seen; -1: nothing was */
    int64_t least_left_ms;  /* when; monotonic */
    bool reported_stalled;  /* that it does not shrink (B30) */
};

static bj_job *watched_job(const bj_watch *watch)
{
    return watch->owner;
}

static struct job_watch *job_watch_of(bj_watch *watch)
{
    return (struct job_watch *)watch;
}

/* The list's reference goes. */
static void unlink_watch(bj_watch *watch)
{
    loop_timer_free(job_watch_of(watch)->timer);
    job_watch_of(watch)->timer = NULL;
    watch_unlink(watch, &watched_job(watch)->watches);
}

/* ----------------------------------------------------------------------- news */

void job_push(const bj_job *job, bj_watch *watch, bj_record_kind kind,
              const struct record_refs *refs)
{
    const struct machine *machine = &job->run.machine;
    bool ended = kind == BJ_RECORD_ENDED;
    watch_push(watch,
               &(bj_record){
                   .kind = kind,
                   .error = ended ? machine_error(machine) : BJ_OK,
                   .outcome = ended ? machine_outcome(machine) : BJ_OUTCOME_NONE,
                   .timestamp_us = job_event_us(job),
                   .started = kind == BJ_RECORD_APPEARED && job->times[BJ_MOMENT_START_SENT] != 0,
                   .resumed = kind == BJ_RECORD_APPEARED && job->run.is_resumed,
                   .inferred = (kind == BJ_RECORD_APPEARED || ended) && job->run.is_inferred,
               },
               refs);
}

static void push_all(const bj_job *job, bj_record_kind kind, const struct record_refs *refs)
{
    for (bj_watch *watch = job->watches; watch; watch = watch->next)
        job_push(job, watch, kind, refs);
}

void job_end_watches(bj_job *job)
{
    push_all(job, BJ_RECORD_ENDED, &(struct record_refs){.text = machine_text(&job->run.machine)});
    while (job->watches) {
        bj_watch *watch = watch_ref_memory(job->watches);
        unlink_watch(watch);
        watch_end(watch, BJ_OK, NULL);
        watch_unref_memory(watch);
    }
}

bj_record_kind job_record_of(enum report news)
{
    static const bj_record_kind kinds[] = {
        [REPORT_STATUS] = BJ_RECORD_STATUS,   [REPORT_READY] = BJ_RECORD_READY,
        [REPORT_STALLED] = BJ_RECORD_STALLED, [REPORT_RESUMED] = BJ_RECORD_RESUMED,
        [REPORT_ENDED] = BJ_RECORD_ENDED,     [REPORT_RELEASED] = BJ_RECORD_RELEASED,
    };
    return kinds[news];
}

void job_notify_watches(bj_job *job, enum report news, const char *words)
{
    if (!job->watches)
        return;
    struct text *text = words ? text_printf("%s", words) : NULL;
    struct record_refs refs = {0};
    if (news == REPORT_STATUS)
        refs.name = text;
    else
        refs.text = text;
    push_all(job, job_record_of(news), &refs);
    text_unref(text);
}

/* ------------------------------------------------------------------- progress */

static void push_convergence(struct job_watch *progress, bool stalled, struct text *text)
{
    progress->reported_stalled = stalled;
    watch_push(&progress->watch,
               &(bj_record){.kind = stalled ? BJ_RECORD_STALLED : BJ_RECORD_RESUMED},
               &(struct record_refs){.text = text});
}

/* A guest that writes faster than the mirror copies keeps it from ever being ready (B30). */
static void check_convergence(struct job_watch *progress, const bj_job_info *row)
{
    const struct machine *machine = &watched_job(&progress->watch)->run.machine;
    int64_t limit_ms = (int64_t)ctx_limit(progress->watch.ctx, BJ_LIMIT_CONVERGE_MS);
    bool is_known = row->current >= 0 && row->total >= 0;
    int64_t left = is_known ? row->total - row->current : -1;
    int64_t now_ms = clock_monotonic_ms();
    bool shrinks = progress->least_left < 0 || left < progress->least_left;

    if (machine_is(machine, IS_READY) || machine_traits(machine)->never_ready ||
        machine_is_stalled(machine) || !is_known || shrinks) {
        progress->least_left = left;
        progress->least_left_ms = now_ms;
        if (progress->reported_stalled)
            push_convergence(progress, false, NULL);
    } else if (!progress->reported_stalled && now_ms - progress->least_left_ms >= limit_ms) {
        struct text *text = text_printf(
            "what is left to copy has not shrunk for %.10g s: the guest writes as fast as it is "
            "copied, or the speed is too low; raise the speed, or change its copy-mode to "
            "write-blocking",
            (double)limit_ms / 1000.);
        push_convergence(progress, true, text);
        text_unref(text);
    }
}

static void on_progress(struct driver_request *request, struct driver_reply *reply)
{
    struct job_watch *progress = container_of(request, struct job_watch, request);
    bj_watch *watch = &progress->watch;
    const char *id = text_str(watched_job(watch)->id);
    bool is_its = reply->error == BJ_OK && run_has_id(&watched_job(watch)->run);
    const struct job_row *listed = is_its ? job_list_find(reply->list, id) : NULL;
    const bj_job_info *row = listed ? &listed->info : NULL;

    progress->asking = false;
    if (row && watch->listed)
        check_convergence(progress, row);
    if (row && watch->listed &&
        (row->current != progress->current || row->total != progress->total)) {
        progress->current = row->current;
        progress->total = row->total;
        watch_push(watch,
                   &(bj_record){
                       .kind = BJ_RECORD_PROGRESS,
                       .current = row->current,
                       .total = row->total,
                   },
                   &(struct record_refs){0});
    }
    if (watch->listed)
        loop_timer_set(progress->timer, progress->progress_ms);
    watch_unref_memory(watch);
}

static void ask_progress(void *user)
{
    struct job_watch *progress = user;
    struct driver *driver = watched_job(&progress->watch)->monitor->driver;

    if (progress->asking)
        return;
    progress->request.done = on_progress;
    if (!driver || driver->ops->query(driver, &progress->request, false) != BJ_OK) {
        loop_timer_set(progress->timer, progress->progress_ms);
        return;
    }
    progress->asking = true;
    watch_ref_memory(&progress->watch);
}

static void begin_progress(struct job_watch *progress)
{
    bj_watch *watch = &progress->watch;

    progress->least_left = -1;
    progress->timer = loop_timer_new(watch->ctx->loop, ask_progress, progress);
    if (progress->timer)
        ask_progress(progress);
    else
        watch_miss(watch);
}

/* -------------------------------------------------------------------- watches */

static void begin_watch(bj_watch *watch)
{
    bj_job *job = watched_job(watch);
    const struct machine *machine = &job->run.machine;

    watch_link(watch, &job->watches);
    if (machine_is(machine, IS_READY))
        job_push(job, watch, BJ_RECORD_READY, &(struct record_refs){0});
    if (machine_is_stalled(machine))
        job_push(job, watch, BJ_RECORD_STALLED,
                 &(struct record_refs){.text = machine_text(machine)});
    if (machine_is_over(machine)) {
        job_end_watches(job);
        return;
    }
    job_note_observer(job);
    if (job_watch_of(watch)->progress_ms > 0)
        begin_progress(job_watch_of(watch));
}

static void disown_job(void *owner)
{
    bj_job_unref(owner);
}

int bj_job_watch(bj_job *job, int64_t progress_ms, bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = begin_watch,
        .leave = unlink_watch,
        .disown = disown_job,
    };
    if (!job || !ret_watch || progress_ms < 0)
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    struct job_watch *watch =
        (struct job_watch *)watch_new(job->monitor->ctx, sizeof *watch, &ops, bj_job_ref(job));
    if (!watch)
        return BJ_E_NOMEM;
    watch->progress_ms = progress_ms;
    watch->watch.once = watch->once;
    watch->current = watch->total = -1;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}
