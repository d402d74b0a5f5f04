/* SPDX-License-Identifier: MIT */
/*
 * Watches of all jobs of a monitor; see watch_jobs.h.
 */
#include "api/watch_jobs.h"
#include "api/answers.h"
#include "api/memo.h"
#include "api/recall.h"
#include "base/container_of.h"
#include "base/options.h"

#include <stddef.h>

struct jobs_watch {
    bj_watch watch;                  /* first */
    struct progress_reader progress; /* with every_ms 0 it does not read */
    bool reads_progress;             /* the loop's own */
    bool wants_memos;
    struct recall recall; /* memos that wait for a connection */
};

static bj_monitor *watched_monitor(const bj_watch *watch)
{
    return watch->owner;
}

static struct jobs_watch *jobs_watch_of(bj_watch *watch)
{
    return (struct jobs_watch *)watch;
}

/* -------------------------------------------------------------------- changes */

static void push(bj_job *job, bj_watch *watch, bj_record_kind kind, struct text *text)
{
    bool appears = kind == BJ_RECORD_APPEARED;
    job_push(job, watch, kind,
             &(struct record_refs){
                 .name = appears ? job->type : NULL,
                 .text = text,
                 .job = job_value(job),
             });
}

static bool wants_memos(bj_watch *watch)
{
    return jobs_watch_of(watch)->wants_memos;
}

static void push_memo(bj_job *job, bj_watch *watch)
{
    struct text *memo = memo_text(job);
    if (memo)
        push(job, watch, BJ_RECORD_MEMO, memo);
    else
        watch_miss(watch);
    text_unref(memo);
}

/* What is true already. */
static void introduce(bj_job *job, bj_watch *watch)
{
    const struct machine *machine = &job->run.machine;

    push(job, watch, BJ_RECORD_APPEARED, job->remembered);
    if (wants_memos(watch) && !machine_is_over(machine))
        push_memo(job, watch);
    if (machine_is(machine, IS_READY))
        push(job, watch, BJ_RECORD_READY, NULL);
    if (machine_is_stalled(machine))
        push(job, watch, BJ_RECORD_STALLED, machine_text(machine));
    if (job->notice != NOTICE_NONE)
        push(job, watch, BJ_RECORD_STALLED, job->notice_text);
    if (!machine_is_over(machine))
        return;
    push(job, watch, BJ_RECORD_ENDED, machine_text(machine));
    if (machine_is(machine, IS_RELEASED))
        push(job, watch, BJ_RECORD_RELEASED, NULL);
}

void watch_jobs_announce(bj_job *job)
{
    for (bj_watch *watch = job->monitor->jobs_watches; watch; watch = watch->next)
        introduce(job, watch);
    job_note_observer(job);
}

void watch_jobs_push_all(bj_job *job, bj_record_kind kind, struct text *text)
{
    for (bj_watch *watch = job->monitor->jobs_watches; watch; watch = watch->next)
        push(job, watch, kind, text);
}

void watch_jobs_remember(bj_job *job)
{
    if (job->run.announcement != ANNOUNCED || machine_is_over(&job->run.machine))
        return;
    for (bj_watch *watch = job->monitor->jobs_watches; watch; watch = watch->next)
        if (wants_memos(watch))
            push_memo(job, watch);
}

/* An outcome that the block graph decides may come after QEMU has let go of the job. */
void watch_jobs_report(bj_job *job, enum report news, const char *words)
{
    const struct machine *machine = &job->run.machine;
    bool is_over = machine_is_over(machine);

    if (!job->monitor->jobs_watches || news == REPORT_STATUS ||
        (news == REPORT_RELEASED && !is_over))
        return;
    struct text *text = news == REPORT_ENDED ? text_ref(machine_text(machine))
                        : words              ? text_printf("%s", words)
                                             : NULL;
    watch_jobs_push_all(job, job_record_of(news), text);
    text_unref(text);
    if (news == REPORT_ENDED && machine_is(machine, IS_RELEASED))
        watch_jobs_push_all(job, BJ_RECORD_RELEASED, NULL);
}

void watch_jobs_miss(bj_monitor *monitor)
{
    for (bj_watch *watch = monitor->jobs_watches; watch; watch = watch->next)
        watch_miss(watch);
}

/* -------------------------------------------------------------------- seeking */

/* Before 3.0 QEMU says nothing of a new job, nor does libvirt; and a list can be refused. */
static bool needs_seeking(const bj_monitor *monitor)
{
    const struct tracker *t = &monitor->tracker;
    return t->link == LINK_UP && t->is_observed && (!t->reports_created || t->seeks_all);
}

static void on_seek_timer(void *user)
{
    bj_monitor *monitor = user;
    if (needs_seeking(monitor))
        tracker_seek(&monitor->tracker);
}

void watch_jobs_listed(bj_monitor *monitor)
{
    if (!needs_seeking(monitor))
        return;
    if (!monitor->seek_timer)
        monitor->seek_timer = loop_timer_new(monitor->ctx->loop, on_seek_timer, monitor);
    if (monitor->seek_timer)
        loop_timer_set(monitor->seek_timer, (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_POLL_MS));
    else
        watch_jobs_miss(monitor);
}

/* ------------------------------------------------------------------- progress */

static void push_progress(bj_watch *watch, bj_job *job)
{
    watch_push(watch,
               &(bj_record){
                   .kind = BJ_RECORD_PROGRESS,
                   .current = job->last_progress.current,
                   .total = job->last_progress.total,
               },
               &(struct record_refs){.job = job_value(job)});
}

static void give_progress(struct progress_reader *reader)
{
    struct jobs_watch *watch = container_of(reader, struct jobs_watch, progress);
    const bj_monitor *monitor = watched_monitor(&watch->watch);

    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        if (run->announcement == ANNOUNCED && !machine_is_over(&run->machine) &&
            progress_is_new(job_of(run), reader))
            push_progress(&watch->watch, job_of(run));
}

static void begin_progress(struct jobs_watch *watch)
{
    watch->progress.give = give_progress;
    watch->reads_progress = progress_join(watched_monitor(&watch->watch), &watch->progress);
    if (!watch->reads_progress)
        watch_miss(&watch->watch);
}

static void end_progress(struct jobs_watch *watch)
{
    if (watch->reads_progress)
        progress_leave(watched_monitor(&watch->watch), &watch->progress);
    watch->reads_progress = false;
}

/* -------------------------------------------------------------------- watches */

static void begin_recall(bj_watch *watch)
{
    size_t missed = recall_begin(watched_monitor(watch), &jobs_watch_of(watch)->recall);
    for (; missed > 0; missed--)
        watch_miss(watch);
}

void watch_jobs_up(bj_monitor *monitor)
{
    bool seeks = false;
    for (bj_watch *watch = monitor->jobs_watches; watch; watch = watch->next) {
        seeks |= jobs_watch_of(watch)->recall.count > 0;
        begin_recall(watch);
    }
    if (seeks)
        tracker_seek(&monitor->tracker);
}

static void begin_job(bj_job *job, bj_watch *watch)
{
    introduce(job, watch);
    progress_note_observer(job);
}

static void begin_watch(bj_watch *watch)
{
    bj_monitor *monitor = watched_monitor(watch);
    struct tracker *t = &monitor->tracker;
    bool recalls = jobs_watch_of(watch)->recall.count > 0 && t->link == LINK_UP;

    if (!monitor_begin_watch(monitor, watch, &monitor->jobs_watches))
        return;
    if (recalls)
        begin_recall(watch);
    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        if (run->announcement == ANNOUNCED && (run->has_id || !machine_is_over(&run->machine)))
            begin_job(job_of(run), watch);
    if (recalls && t->is_observed)
        tracker_seek(t);
    tracker_observe(t, true);
    if (jobs_watch_of(watch)->progress.every_ms > 0)
        begin_progress(jobs_watch_of(watch));
}

static void leave_watch(bj_watch *watch)
{
    bj_monitor *monitor = watched_monitor(watch);

    end_progress(jobs_watch_of(watch));
    watch_unlink(watch, &monitor->jobs_watches);
    if (!monitor->jobs_watches)
        tracker_observe(&monitor->tracker, false);
}

static void clear_watch(bj_watch *watch)
{
    recall_clear(&jobs_watch_of(watch)->recall);
}

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_watch_jobs_options, progress_ms) + sizeof(int64_t))

static bool read_options(const bj_watch_jobs_options *given, bj_watch_jobs_options *ret)
{
    *ret = (bj_watch_jobs_options){0};
    if (!given)
        return true;
    return options_read(ret, sizeof *ret, given, given->size, SHORTEST_OPTIONS) &&
           ret->progress_ms >= 0;
}

int bj_monitor_watch_jobs(bj_monitor *monitor, const bj_watch_jobs_options *options,
                          bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = begin_watch,
        .leave = leave_watch,
        .disown = monitor_disown,
        .clear = clear_watch,
    };
    bj_watch_jobs_options read;
    if (!monitor || !ret_watch || !read_options(options, &read))
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    struct recall recall;
    int r = recall_read(read.remembered, read.remembered_count, &recall);
    struct jobs_watch *watch =
        r == BJ_OK ? (struct jobs_watch *)watch_new(monitor->ctx, sizeof *watch, &ops,
                                                    monitor_ref_memory(monitor))
                   : NULL;
    if (!watch) {
        recall_clear(&recall);
        return r == BJ_OK ? BJ_E_NOMEM : r;
    }
    watch->recall = recall;
    watch->wants_memos = read.memos;
    watch->watch.kept_limit = 2 * (size_t)ctx_limit(monitor->ctx, BJ_LIMIT_JOBS);
    watch->progress.every_ms = read.progress_ms;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}
