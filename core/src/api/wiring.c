/* SPDX-License-Identifier: MIT */
/*
 * A tracker's port to the world: verbs and questions to the driver, answers to futures, news to
 * watches.
 */
#include "api/wiring.h"
#include "api/attach.h"
#include "api/fetch_rows.h"
#include "api/job_waits.h"
#include "api/memo.h"
#include "api/monitor.h"
#include "api/notices.h"
#include "api/start.h"
#include "api/watch_jobs.h"
#include "base/container_of.h"

static struct job_waiter *job_waiter_of(struct waiter *waiter)
{
    return (struct job_waiter *)waiter;
}

/* A verb that one caller gives has a wait of its own. */
static struct job_wait *wait_of(struct waiter *waiter)
{
    return container_of(waiter, struct job_wait, waiter);
}

static bj_ctx *ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* ------------------------------------------------------------ verbs on the way */

static void take_slot(struct job_request_slot *slot, bj_job *job, enum verb verb,
                      struct job_wait *wait)
{
    slot->job = bj_job_ref(job);
    slot->verb = verb;
    slot->wait = wait;
    if (wait)
        future_ref_memory(&wait->future);
}

/* What a slot held, for who still needs it: the slot may be taken again at once. */
struct taken {
    bj_job *job;
    struct job_wait *wait;
};

static struct taken empty_slot(struct job_request_slot *slot)
{
    struct taken taken = {.job = slot->job, .wait = slot->wait};
    slot->job = NULL;
    slot->wait = NULL;
    return taken;
}

/* May free the job. */
static void give_back(struct taken taken)
{
    if (taken.wait)
        future_unref_memory(&taken.wait->future);
    bj_job_unref(taken.job);
}

void job_give_slot_back(struct job_request_slot *slot)
{
    struct taken taken = empty_slot(slot);
    tracker_taken_back(&taken.job->run);
    give_back(taken);
}

static void note_complete_accepted(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->times[BJ_MOMENT_COMPLETE_ACCEPTED] = clock_realtime_us();
    ctx_unlock(ctx_of(job));
}

static void verb_done(struct job_request_slot *slot, const struct driver_reply *reply)
{
    enum verb verb = slot->verb;
    struct taken taken = empty_slot(slot);
    const char *error_class = reply->error_class ? reply->error_class : "";
    struct waiter *waiter = taken.wait && taken.wait->linked ? &taken.wait->waiter.base : NULL;

    if (reply->error == BJ_OK && verb == VERB_COMPLETE)
        note_complete_accepted(taken.job);
    job_notify_listeners(taken.job);
    tracker_replied(&taken.job->run, verb, waiter,
                    reply->is_lost
                        ? NULL
                        : &(struct verb_reply){
                              .for_all = !taken.wait,
                              .verdict = reply->error == BJ_OK ? VERDICT_ACCEPTED : reply->refusal,
                              .error = reply->error,
                              .error_class = error_class,
                              .text = reply->text,
                          });
    give_back(taken);
}

static void on_verb_done(struct driver_request *request, struct driver_reply *reply)
{
    verb_done((struct job_request_slot *)request, reply);
}

static void run_verb_failed(struct loop_task *task)
{
    struct job_request_slot *slot = container_of(task, struct job_request_slot, failed);
    const struct driver *driver = slot->job->monitor->driver;
    bool lacks_complete = slot->error == BJ_E_UNSUPPORTED && slot->verb == VERB_COMPLETE;
    const char *hint = lacks_complete && driver ? driver->capabilities.complete_hint : NULL;
    verb_done(slot, &(struct driver_reply){
                        .error = slot->error,
                        .text = hint ? hint : bj_error_text(slot->error),
                    });
}

/* The tracker must not be answered from inside its own call. */
static void fail_later(struct job_request_slot *slot, int error, void (*run)(struct loop_task *))
{
    slot->error = error;
    slot->failed.run = run;
    if (!loop_post(ctx_of(slot->job)->loop, &slot->failed))
        give_back(empty_slot(slot)); /* the loop has ended, and so has every wait */
}

static struct job_request_slot *slot_for(bj_job *job, enum verb verb, struct job_wait *wait)
{
    if (wait)
        return &wait->slot;
    switch (verb) {
    case VERB_COMPLETE:
        return &job->complete;
    case VERB_CANCEL:
        return &job->cancel;
    case VERB_FORCE:
        return &job->force;
    default:
        return &job->dismiss;
    }
}

static int send_verb(bj_job *job, struct job_request_slot *slot, const struct waiter *waiter)
{
    struct driver *driver = job->monitor->driver;

    if (!driver)
        return BJ_E_DISCONNECTED;
    return driver->ops->verb(driver, &slot->request,
                             &(struct driver_verb){
                                 .verb = slot->verb,
                                 .id = text_str(job->id),
                                 .type = text_str(job->type),
                                 .run_data = job->run_data,
                                 .speed = waiter ? waiter->speed : 0,
                                 .options = waiter ? waiter->options : NULL,
                             });
}

static void port_send(struct run *run, enum verb verb, struct waiter *waiter)
{
    bj_job *job = job_of(run);
    struct job_wait *wait = waiter ? wait_of(waiter) : NULL;
    struct job_request_slot *slot = slot_for(job, verb, wait);

    int64_t sent_us = verb == VERB_COMPLETE ? clock_realtime_us() : 0;

    take_slot(slot, job, verb, wait);
    slot->request.done = on_verb_done;
    int r = send_verb(job, slot, waiter);
    if (r != BJ_OK) {
        fail_later(slot, r, run_verb_failed);
        return;
    }
    if (verb == VERB_COMPLETE) {
        ctx_lock(ctx_of(job));
        job->times[BJ_MOMENT_COMPLETE_SENT] = sent_us;
        ctx_unlock(ctx_of(job));
    }
}

/* ------------------------------------------------------------------ snapshots */

static enum snapshot keep_snapshot(bj_job *job, struct driver_reply *reply)
{
    if (reply->is_lost)
        return SNAPSHOT_WANTED;
    /* After the end it may show what came then: 5.2 still has the filter of a job that waits for
     * its dismissal. */
    if (!reply->snapshot || machine_has_end(&job->run.machine))
        return SNAPSHOT_VOID;
    ctx_lock(ctx_of(job));
    struct driver_snapshot *before = job->snapshot;
    job->snapshot = reply->snapshot;
    ctx_unlock(ctx_of(job));
    job->ops->free_snapshot(before);
    reply->snapshot = NULL;
    return SNAPSHOT_HELD;
}

static void snapshot_taken(struct job_request_slot *slot, enum snapshot result)
{
    struct taken taken = empty_slot(slot);
    tracker_snapshot(&taken.job->run, result);
    give_back(taken);
}

static void on_snapshot(struct driver_request *request, struct driver_reply *reply)
{
    struct job_request_slot *slot = (struct job_request_slot *)request;
    snapshot_taken(slot, keep_snapshot(slot->job, reply));
}

static void run_snapshot_failed(struct loop_task *task)
{
    snapshot_taken(container_of(task, struct job_request_slot, failed), SNAPSHOT_VOID);
}

static void port_take_snapshot(struct run *run, bool urgent)
{
    bj_job *job = job_of(run);
    struct driver *driver = job->monitor->driver;

    take_slot(&job->take_snapshot, job, VERB_COMPLETE, NULL);
    job->take_snapshot.request.done = on_snapshot;
    int r = driver->ops->take_snapshot(driver, &job->take_snapshot.request, text_str(job->id),
                                       job->device ? text_str(job->device) : NULL, urgent);
    if (r != BJ_OK)
        fail_later(&job->take_snapshot, r, run_snapshot_failed);
}

static void compared(struct job_request_slot *slot, const struct driver_reply *reply)
{
    struct taken taken = empty_slot(slot);
    tracker_compared(&taken.job->run, reply->error == BJ_OK ? reply->switched : SWITCH_UNKNOWN,
                     reply->is_lost);
    give_back(taken);
}

static void on_compared(struct driver_request *request, struct driver_reply *reply)
{
    compared((struct job_request_slot *)request, reply);
}

static void run_compare_failed(struct loop_task *task)
{
    struct job_request_slot *slot = container_of(task, struct job_request_slot, failed);
    compared(slot, &(struct driver_reply){.error = slot->error});
}

static void port_compare(struct run *run)
{
    bj_job *job = job_of(run);
    struct driver *driver = job->monitor->driver;

    take_slot(&job->compare_snapshot, job, VERB_COMPLETE, NULL);
    job->compare_snapshot.request.done = on_compared;
    int r = driver->ops->compare_snapshot(driver, &job->compare_snapshot.request, text_str(job->id),
                                          job->snapshot);
    if (r != BJ_OK)
        fail_later(&job->compare_snapshot, r, run_compare_failed);
}

/* ---------------------------------------------------------------------- timer */

void job_on_stall_timer(void *user)
{
    bj_job *job = bj_job_ref(user);
    run_tick(&job->run);
    bj_job_unref(job);
}

static void port_set_timer(struct run *run, int64_t ms)
{
    struct loop_timer *timer = job_of(run)->stall_timer;
    if (!timer)
        return; /* retired */
    if (ms > 0)
        loop_timer_set(timer, ms);
    else
        loop_timer_stop(timer);
}

/* -------------------------------------------------------------------- answers */

static struct text *answer_text(const bj_job *job, const struct answer *answer)
{
    const char *id = text_str(job->id);
    const char *text = answer->text;

    switch (answer->error) {
    case BJ_OK:
        return NULL;
    case BJ_E_JOB_FAILED:
    case BJ_E_REFUSED:
        return text_printf("%s", text ? text : bj_error_text(answer->error)); /* QEMU's own words */
    case BJ_E_JOB_ENDED:
        return text_printf("job %s ended as %s%s%s", id,
                           bj_outcome_name(machine_outcome(&job->run.machine)), text ? ": " : "",
                           text ? text : "");
    default:
        return text_printf("job %s: %s", id, text ? text : bj_error_text(answer->error));
    }
}

static void port_answer(struct run *run, struct waiter *waiter, const struct answer *answer)
{
    struct job_waiter *job_waiter = job_waiter_of(waiter);
    const char *error_class = answer->error_class ? answer->error_class : "";

    job_waiter->answered(job_waiter,
                         &(struct future_result){
                             .error = answer->error,
                             .cause = answer->cause,
                             .outcome = machine_outcome(&run->machine),
                             .text = answer_text(job_of(run), answer),
                             .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                         });
}

/* ----------------------------------------------------------------------- news */

static void publish_ready(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->ready = true;
    job->times[BJ_MOMENT_READY_EVENT] = job_event_us(job);
    job->times[BJ_MOMENT_READY_SEEN] = job_seen_us(job);
    ctx_unlock(ctx_of(job));
}

static void publish_end(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->outcome = machine_outcome(&job->run.machine);
    job->ready |= job->outcome == BJ_OUTCOME_PIVOTED; /* also if nobody has heard of it */
    job->text = text_ref(machine_text(&job->run.machine));
    job->cause = machine_cause(&job->run.machine);
    if (!job->times[BJ_MOMENT_END_EVENT])
        job->times[BJ_MOMENT_END_EVENT] = job_event_us(job);
    job->times[BJ_MOMENT_END_SEEN] = job_seen_us(job);
    ctx_unlock(ctx_of(job));
}

/* This QEMU has no event for it; whoever watches events is to see one (B57). */
static void make_up_end(bj_job *job)
{
    struct driver *driver = job->monitor->driver;
    if (driver && driver->ops->make_up_end)
        driver->ops->make_up_end(driver, &(struct driver_end){
                                             .id = job->id,
                                             .type = text_str(job->type),
                                             .current = job->last_progress.current,
                                             .total = job->last_progress.total,
                                             .speed = job->last_progress.speed,
                                         });
}

static void port_report(struct run *run, enum report news, const char *text)
{
    bj_job *job = job_of(run);

    if (news == REPORT_STALLED || news == REPORT_RESUMED || news == REPORT_ENDED)
        notice_forget(job);
    switch (news) {
    case REPORT_ENDED:
        publish_end(job);
        memo_end(job);
        if (machine_is(&run->machine, END_ASSUMED))
            make_up_end(job);
        job_end_watches(job);
        break;
    case REPORT_RELEASED:
        memo_end(job);
        break;
    case REPORT_READY:
        publish_ready(job);
        job_notify_watches(job, news, text);
        break;
    default:
        job_notify_watches(job, news, text);
        break;
    }
    if (run->announcement == ANNOUNCED)
        watch_jobs_report(job, news, text);
}

/* ----------------------------------------------------------------------- runs */

static bj_monitor *monitor_of(struct tracker *tracker)
{
    return container_of(tracker, bj_monitor, tracker);
}

static struct run *port_new_run(struct tracker *tracker, const char *id, const char *type)
{
    bj_job *job = job_new(monitor_of(tracker), id, type);
    return job ? &job->run : NULL;
}

static void port_hold(struct run *run)
{
    bj_job_ref(job_of(run));
}

static void port_drop(struct run *run)
{
    bj_job_unref(job_of(run));
}

static void port_over(struct run *run)
{
    job_retire(job_of(run));
}

static void port_announce(struct run *run)
{
    watch_jobs_announce(job_of(run));
}

static void port_remember(struct run *run, unsigned facts)
{
    memo_note(job_of(run), facts);
}

static void port_ignored(struct tracker *tracker, const char *id)
{
    bj_monitor *monitor = monitor_of(tracker);
    watch_jobs_miss(monitor);
    ctx_log(monitor->ctx, "%s: more jobs than the limit: %s is not followed",
            monitor_label(monitor), id);
}

static void port_heard(struct run *run, const struct fact *fact)
{
    job_hear(job_of(run), fact);
}

static void port_own(struct run *run, struct start *start)
{
    start_own(job_of(run), start);
}

static void port_is_back(struct tracker *tracker)
{
    monitor_is_back(monitor_of(tracker));
}

static void port_is_settled(struct tracker *tracker)
{
    monitor_finish_if_settled(monitor_of(tracker));
}

const struct tracker_port monitor_port = {
    .new_run = port_new_run,
    .hold = port_hold,
    .drop = port_drop,
    .over = port_over,
    .ignored = port_ignored,
    .heard = port_heard,
    .saw = fetch_rows_saw,
    .own = port_own,
    .send = port_send,
    .ask_list = fetch_rows,
    .take_snapshot = port_take_snapshot,
    .compare = port_compare,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
    .announce = port_announce,
    .remember = port_remember,
    .attached = attach_answered,
    .name = attach_name,
    .is_back = port_is_back,
    .is_settled = port_is_settled,
};
