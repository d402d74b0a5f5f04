/* SPDX-License-Identifier: MIT */
/*
 * A bj_job: its memory, the facts it is fed, and what is known of it now; see job.h.
 */
#include "api/job.h"
#include "api/memo.h"
#include "api/monitor.h"
#include "api/notices.h"
#include "api/wiring.h"
#include "driver/job_list.h"

#include <stdlib.h>
#include <string.h>

static bj_ctx *ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* ---------------------------------------------------------------------- facts */

int64_t job_event_us(const bj_job *job)
{
    return job->monitor->fed == job ? job->monitor->event_us : 0;
}

/* What is done about a fact comes after it was seen. */
int64_t job_seen_us(const bj_job *job)
{
    return job->monitor->fed == job ? job->monitor->seen_us : clock_realtime_us();
}

/* The outcome may have to wait for a reply. */
static void note_end_event(bj_job *job)
{
    ctx_lock(ctx_of(job));
    if (!job->times[BJ_MOMENT_END_EVENT])
        job->times[BJ_MOMENT_END_EVENT] = job_event_us(job);
    ctx_unlock(ctx_of(job));
}

void job_add_listener(bj_job *job, struct job_listener *listener)
{
    listener->next = job->listeners;
    job->listeners = listener;
}

void job_remove_listener(bj_job *job, struct job_listener *listener)
{
    struct job_listener **link = &job->listeners;
    while (*link != listener)
        link = &(*link)->next;
    *link = listener->next;
}

void job_notify_listeners(bj_job *job)
{
    for (struct job_listener *l = job->listeners; l; l = l->next)
        l->notify(l);
}

void job_learn_disks(bj_job *job, const char *disks)
{
    char *names = disks && !job->disks ? strdup(disks) : NULL;
    if (!names)
        return;
    size_t len = strlen(names);
    for (char *end = names; (end = strchr(end, '\n'));)
        *end++ = '\0';

    struct text *text = text_new(names, len);
    free(names);
    ctx_lock(ctx_of(job));
    job->disks = text;
    ctx_unlock(ctx_of(job));
}

void job_hear(bj_job *job, const struct fact *fact)
{
    job->monitor->fed = job;
    job->monitor->event_us = fact->timestamp_us;
    job->monitor->seen_us = clock_realtime_us();
    job_learn_type(job, fact->type);
    if (fact->timestamp_us < job->memo.since_us)
        memo_note_beginning(job, fact->timestamp_us);
    if (fact->kind == FACT_COMPLETED)
        note_end_event(job);
    job_notify_listeners(job);
}

void job_note_progress(bj_job *job, const bj_job_info *info)
{
    ctx_lock(ctx_of(job));
    job->last_progress.current = info->current;
    job->last_progress.total = info->total;
    job->last_progress.speed = info->speed;
    ctx_unlock(ctx_of(job));
    memo_note_progress(job);
}

void job_see(bj_job *job, const struct job_row *row)
{
    const bj_job_info *info = &row->info;
    const struct machine_traits *traits = machine_traits(&job->run.machine);

    job_learn_type(job, info->type);
    job_learn_disks(job, row->disks);
    progress_saw(job, row);
    if (*info->status && !info->auto_dismiss && !traits->ours && !traits->undecided)
        machine_learn(&job->run.machine)->kept = true;
    job_notify_listeners(job);
}

void job_note_start(bj_job *job, int64_t sent_us, const char *device, struct text *run_data)
{
    job->device = device ? text_new(device, strlen(device)) : NULL;
    job->run_data = text_ref(run_data);
    ctx_lock(ctx_of(job));
    job->times[BJ_MOMENT_START_SENT] = sent_us;
    ctx_unlock(ctx_of(job));
}

/* -------------------------------------------------------------------- polling */

static bool needs_polling(const bj_job *job)
{
    const struct machine *machine = &job->run.machine;
    const struct machine_traits *traits = machine_traits(machine);
    bool misses_ready =
        job->has_no_ready_event && !machine_is(machine, IS_READY) && !traits->never_ready;
    bool is_wanted =
        machine_is_awaited(machine) || job->watches || job->monitor->tracker.is_observed;
    bool misses_pause =
        job->hides_pauses && !traits->has_status && machine_awaits_movement(machine);
    return (((traits->silent || misses_ready) && is_wanted) || misses_pause) &&
           !machine_is_over(machine);
}

static void set_poll_timer(bj_job *job)
{
    loop_timer_set(job->poll_timer, (int64_t)ctx_limit(ctx_of(job), BJ_LIMIT_POLL_MS));
}

static void on_poll_timer(void *user)
{
    bj_job *job = user;
    job->polls = needs_polling(job);
    if (!job->polls)
        return;
    set_poll_timer(job);
    run_want_row(&job->run);
}

static void prepare_pivot(bj_job *job)
{
    const struct machine *machine = &job->run.machine;
    struct driver *driver = job->monitor->driver;
    bool will_pivot = machine_awaits_pivot(machine) && !machine_is(machine, IS_READY) &&
                      !machine_traits(machine)->never_ready;

    if (will_pivot && !job->complete.job && driver && run_has_id(&job->run))
        driver->ops->prepare(driver, &job->complete.request, text_str(job->id));
}

void job_note_observer(bj_job *job)
{
    prepare_pivot(job);
    progress_note_observer(job);
    if (job->polls || !run_has_id(&job->run) || !needs_polling(job))
        return;
    if (!job->poll_timer)
        job->poll_timer = loop_timer_new(ctx_of(job)->loop, on_poll_timer, job);
    if (!job->poll_timer)
        return; /* the next one who wants it tries again */
    job->polls = true;
    set_poll_timer(job);
}

/* ---------------------------------------------------------------------- other */

static bool is_never_ready(const char *type)
{
    return *type && strcmp(type, "mirror") != 0 && strcmp(type, "commit") != 0;
}

static void set_type_traits(struct machine_traits *traits, const char *type)
{
    traits->never_ready = is_never_ready(type);
    traits->switches = strcmp(type, "mirror") == 0;
    traits->is_commit = strcmp(type, "commit") == 0;
}

void job_learn_type(bj_job *job, const char *type)
{
    if (!*type || *text_str(job->type))
        return;
    set_type_traits(machine_learn(&job->run.machine), type);
    ctx_lock(ctx_of(job));
    job->type = text_printf("%s", type);
    ctx_unlock(ctx_of(job));
}

/* --------------------------------------------------------------------- memory */

bj_job *job_new(bj_monitor *monitor, const char *id, const char *type)
{
    bj_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    const struct capabilities *can = &monitor->driver->capabilities;
    struct machine_traits traits = {
        .has_status = can->has_status,
        .has_graph = can->has_graph,
        .silent = can->is_silent,
        .no_repeats = can->no_repeats,
        .stall_ms = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_STALL_MS),
        .no_such_job_class = can->no_such_job_class,
        .denial = can->denial,
    };
    set_type_traits(&traits, type);
    memo_begin(job, monitor->ctx);
    atomic_init(&job->refs, 1);
    job->monitor = monitor_ref_memory(monitor);
    job->ops = monitor->driver->ops;
    job->unprepare = monitor->driver->ops->unprepare;
    job->has_no_ready_event = !can->has_ready_event;
    job->hides_pauses = can->hides_pauses;
    job->has_bare_rows = can->has_bare_rows;
    job->born = monitor->progress.questions;
    job->id = text_new(id, strlen(id));
    job->type = *type ? text_new(type, strlen(type)) : NULL;
    run_init(&job->run, &monitor->tracker, text_str(job->id), &traits);
    job->stall_timer = loop_timer_new(monitor->ctx->loop, job_on_stall_timer, job);

    if (job->id && (!*type || job->type) && job->stall_timer)
        return job;
    job_retire(job);
    bj_job_unref(job);
    return NULL;
}

void job_retire(bj_job *job)
{
    loop_timer_free(job->stall_timer);
    loop_timer_free(job->poll_timer);
    job->stall_timer = job->poll_timer = NULL;
    job->polls = false;
}

bj_job *bj_job_ref(bj_job *job)
{
    if (job)
        atomic_fetch_add(&job->refs, 1);
    return job;
}

bj_job *bj_job_unref(bj_job *job)
{
    if (!job || ctx_is_forked(ctx_of(job)) || atomic_fetch_sub(&job->refs, 1) != 1)
        return NULL;
    machine_clear(&job->run.machine);
    job->ops->free_snapshot(job->snapshot);
    text_unref(job->remembered);
    job->unprepare(&job->complete.request);
    text_unref(job->id);
    text_unref(job->device);
    text_unref(job->run_data);
    text_unref(job->type);
    text_unref(job->text);
    text_unref(job->disks);
    text_unref(job->notice_text);
    monitor_unref_memory(job->monitor);
    free(job);
    return NULL;
}

/* ------------------------------------------------------------ what is known now */

const char *bj_job_id(bj_job *job)
{
    return job ? text_str(job->id) : "";
}

bool job_is_usable(const bj_job *job)
{
    return job && !ctx_is_forked(ctx_of(job));
}

const char *bj_job_type(bj_job *job)
{
    if (!job_is_usable(job))
        return "";
    ctx_lock(ctx_of(job));
    const char *type = text_str(job->type);
    ctx_unlock(ctx_of(job));
    return type;
}

const char *bj_job_disk(bj_job *job, size_t index)
{
    if (!job_is_usable(job))
        return NULL;
    ctx_lock(ctx_of(job));
    const char *disk = text_str(job->disks); /* the last is followed by an empty one */
    ctx_unlock(ctx_of(job));
    for (; *disk && index > 0; index--)
        disk += strlen(disk) + 1;
    return *disk ? disk : NULL;
}

bool bj_job_is_ready(bj_job *job)
{
    if (!job_is_usable(job))
        return false;
    ctx_lock(ctx_of(job));
    bool ready = job->ready;
    ctx_unlock(ctx_of(job));
    return ready;
}

bj_outcome bj_job_outcome(bj_job *job)
{
    if (!job_is_usable(job))
        return BJ_OUTCOME_NONE;
    ctx_lock(ctx_of(job));
    bj_outcome outcome = job->outcome;
    ctx_unlock(ctx_of(job));
    return outcome;
}

const char *bj_job_text(bj_job *job)
{
    if (!job_is_usable(job))
        return "";
    ctx_lock(ctx_of(job));
    const char *text = text_str(job->text);
    ctx_unlock(ctx_of(job));
    return text;
}

int bj_job_cause(bj_job *job)
{
    if (!job)
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    ctx_lock(ctx_of(job));
    int cause = job->cause;
    ctx_unlock(ctx_of(job));
    return cause;
}

int64_t bj_job_time(bj_job *job, bj_moment moment)
{
    if (!job || (size_t)moment >= sizeof job->times / sizeof job->times[0])
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    ctx_lock(ctx_of(job));
    int64_t time_us = job->times[moment];
    ctx_unlock(ctx_of(job));
    return time_us;
}
