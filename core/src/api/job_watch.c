/* SPDX-License-Identifier: MIT */
/*
 * A job's watches: news as records, and progress, which QEMU reports only on request.
 */
#include "api/job.h"
#include "api/monitor.h"
#include "base/container_of.h"

struct job_watch {
    bj_watch watch; /* first */
    struct watch_entry once[WATCH_ONCE];

    struct progress_reader progress; /* with every_ms 0 it does not read */
    bool reads_progress;             /* the loop's own */
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
    if (job_watch_of(watch)->reads_progress)
        progress_leave(watched_job(watch)->monitor, &job_watch_of(watch)->progress);
    job_watch_of(watch)->reads_progress = false;
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
                   .cause = ended ? machine_cause(machine) : BJ_OK,
                   .started = kind == BJ_RECORD_APPEARED && job->times[BJ_MOMENT_START_SENT] != 0,
                   .resumed = kind == BJ_RECORD_APPEARED && job->run.is_resumed,
                   .inferred = (kind == BJ_RECORD_APPEARED || ended) && job->run.is_inferred,
               },
               refs);
}

static void push_refs(const bj_job *job, bj_record_kind kind, const struct record_refs *refs)
{
    for (bj_watch *watch = job->watches; watch; watch = watch->next)
        job_push(job, watch, kind, refs);
}

void job_push_all(const bj_job *job, bj_record_kind kind, struct text *text)
{
    push_refs(job, kind, &(struct record_refs){.text = text});
}

void job_end_watches(bj_job *job)
{
    job_push_all(job, BJ_RECORD_ENDED, machine_text(&job->run.machine));
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
    push_refs(job, job_record_of(news), &refs);
    text_unref(text);
}

/* ------------------------------------------------------------------- progress */

static void give_progress(struct progress_reader *reader)
{
    struct job_watch *progress = container_of(reader, struct job_watch, progress);
    const bj_job *job = watched_job(&progress->watch);

    if (!progress_is_new(job, reader))
        return;
    watch_push(&progress->watch,
               &(bj_record){
                   .kind = BJ_RECORD_PROGRESS,
                   .current = job->last_progress.current,
                   .total = job->last_progress.total,
               },
               &(struct record_refs){0});
}

static void begin_progress(struct job_watch *progress)
{
    bj_monitor *monitor = watched_job(&progress->watch)->monitor;

    progress->progress.give = give_progress;
    progress->reads_progress = progress_join(monitor, &progress->progress);
    if (!progress->reads_progress)
        watch_miss(&progress->watch);
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
    if (job->notice != NOTICE_NONE)
        job_push(job, watch, BJ_RECORD_STALLED, &(struct record_refs){.text = job->notice_text});
    if (machine_is_over(machine)) {
        job_end_watches(job);
        return;
    }
    job_note_observer(job);
    if (job_watch_of(watch)->progress.every_ms > 0)
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
    watch->progress.every_ms = progress_ms;
    watch->watch.once = watch->once;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}
