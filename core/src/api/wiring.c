/* SPDX-License-Identifier: MIT */
/*
 * The job machine's port to the world: verbs and questions to the driver, answers to futures, news
 * to watches.
 */
#include "api/wiring.h"
#include "api/job_waits.h"
#include "api/monitor.h"
#include "base/container_of.h"

static bj_job *handle_of(struct machine *machine)
{
    return container_of(machine, bj_job, machine);
}

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
    give_back(empty_slot(slot));
}

static void note_complete_accepted(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->timeline.complete_accepted = clock_realtime_us();
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
    if (!reply->is_lost || machine_is(&taken.job->machine, IS_RELEASED))
        job_feed_reply(taken.job, verb, waiter,
                       &(struct verb_reply){
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
                        .is_lost = slot->error == BJ_E_DISCONNECTED,
                        .text = hint ? hint : bj_error_text(slot->error),
                    });
}

/* The machine must not be answered from inside its own call. */
static void fail_later(struct job_request_slot *slot, int error, void (*run)(struct loop_task *))
{
    slot->error = error;
    slot->failed.run = run;
    if (!loop_post(ctx_of(slot->job)->loop, &slot->failed))
        job_give_slot_back(slot);
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

static void port_send(struct machine *machine, enum verb verb, struct waiter *waiter)
{
    bj_job *job = handle_of(machine);
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
        job->timeline.complete_sent = sent_us;
        ctx_unlock(ctx_of(job));
    }
}

/* -------------------------------------------------------------------- queries */

static void port_list_jobs(struct machine *machine)
{
    bj_job *job = handle_of(machine);
    monitor_want_row(job->monitor, job);
}

/* ------------------------------------------------------------------ snapshots */

void job_keep_snapshot(bj_job *job, struct driver_reply *reply)
{
    /* After the end it may show what came then. */
    if (job->snapshot || machine_has_end(&job->machine))
        return;
    job->snapshot = reply->snapshot;
    reply->snapshot = NULL;
}

bool job_wants_snapshot(const bj_job *job)
{
    bool switches = *text_str(job->type) == '\0' || !machine_traits(&job->machine)->never_ready;
    return switches && !job->snapshot && !machine_is_over(&job->machine);
}

static void on_snapshot(struct driver_request *request, struct driver_reply *reply)
{
    struct job_request_slot *slot = (struct job_request_slot *)request;
    job_keep_snapshot(slot->job, reply);
    job_give_slot_back(slot);
}

void job_take_snapshot(bj_job *job)
{
    struct driver *driver = job->monitor->driver;

    if (!job_wants_snapshot(job) || job->take_snapshot.job)
        return;
    take_slot(&job->take_snapshot, job, VERB_COMPLETE, NULL);
    job->take_snapshot.request.done = on_snapshot;
    if (driver->ops->take_snapshot(driver, &job->take_snapshot.request, text_str(job->id),
                                   job->device ? text_str(job->device) : NULL, false) != BJ_OK)
        job_give_slot_back(&job->take_snapshot); /* another client's verb then leaves it unknown */
}

static void compared(struct job_request_slot *slot, const struct driver_reply *reply)
{
    if (reply->error == BJ_OK)
        machine_compared(&slot->job->machine, reply->switched);
    else if (!reply->is_lost || !slot->job->tracked)
        machine_compared(&slot->job->machine, SWITCH_UNKNOWN);
    job_give_slot_back(slot);
}

static void on_compared(struct driver_request *request, struct driver_reply *reply)
{
    compared((struct job_request_slot *)request, reply);
}

static void run_compare_failed(struct loop_task *task)
{
    struct job_request_slot *slot = container_of(task, struct job_request_slot, failed);
    compared(slot, &(struct driver_reply){
                       .error = slot->error,
                       .is_lost = slot->error == BJ_E_DISCONNECTED,
                   });
}

static void port_compare_graph(struct machine *machine)
{
    bj_job *job = handle_of(machine);
    struct driver *driver = job->monitor->driver;

    take_slot(&job->compare_snapshot, job, VERB_COMPLETE, NULL);
    job->compare_snapshot.request.done = on_compared;
    const struct machine_traits *traits = machine_traits(machine);
    bool can_compare = job->snapshot || (traits->is_commit && traits->has_graph);
    int r = !driver        ? BJ_E_DISCONNECTED
            : !can_compare ? BJ_E_UNSUPPORTED
                           : driver->ops->compare_snapshot(driver, &job->compare_snapshot.request,
                                                           text_str(job->id), job->snapshot);
    if (r != BJ_OK)
        fail_later(&job->compare_snapshot, r, run_compare_failed);
}

/* ---------------------------------------------------------------------- timer */

void job_on_stall_timer(void *user)
{
    bj_job *job = bj_job_ref(user);
    machine_tick(&job->machine);
    bj_job_unref(job);
}

static void port_set_timer(struct machine *machine, int64_t ms)
{
    struct loop_timer *timer = handle_of(machine)->stall_timer;
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
        return text_printf("job %s ended as %s", id,
                           bj_outcome_name(machine_outcome(&job->machine)));
    default:
        return text_printf("job %s: %s", id, text ? text : bj_error_text(answer->error));
    }
}

static void port_answer(struct machine *machine, struct waiter *waiter, const struct answer *answer)
{
    struct job_waiter *job_waiter = job_waiter_of(waiter);
    const char *error_class = answer->error_class ? answer->error_class : "";

    job_waiter->answered(job_waiter,
                         &(struct future_result){
                             .error = answer->error,
                             .outcome = machine_outcome(machine),
                             .text = answer_text(handle_of(machine), answer),
                             .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                         });
}

/* ----------------------------------------------------------------------- news */

/* What is done about a fact comes after it was seen. */
static int64_t seen_now(const bj_job *job)
{
    return job->seen_us ? job->seen_us : clock_realtime_us();
}

static void publish_ready(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->ready = true;
    job->timeline.ready_event = job->event_us;
    job->timeline.ready_seen = seen_now(job);
    ctx_unlock(ctx_of(job));
}

static void publish_end(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->outcome = machine_outcome(&job->machine);
    job->text = text_ref(machine_text(&job->machine));
    if (!job->timeline.end_event)
        job->timeline.end_event = job->event_us;
    job->timeline.end_seen = seen_now(job);
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

static void port_report(struct machine *machine, enum report news, const char *text)
{
    bj_job *job = handle_of(machine);

    switch (news) {
    case REPORT_ENDED:
        publish_end(job);
        if (machine_is(machine, END_ASSUMED))
            make_up_end(job);
        job_end_watches(job);
        break;
    case REPORT_RELEASED:
        monitor_job_released(job->monitor, job);
        break;
    case REPORT_READY:
        publish_ready(job);
        job_notify_watches(job, news, text);
        break;
    default:
        job_notify_watches(job, news, text);
        break;
    }
}

const struct machine_port job_port = {
    .send = port_send,
    .list_jobs = port_list_jobs,
    .compare_graph = port_compare_graph,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
};
