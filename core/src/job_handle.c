/* SPDX-License-Identifier: MIT */
/*
 * bj_job: the machine's port to the world, and what programs ask of a job.
 */
#include "job_handle.h"
#include "ask.h"
#include "future.h"
#include "monitor.h"

#include <stdlib.h>
#include <string.h>

/* Someone's wait on a job, or someone's verb. */
struct job_wait {
    bj_future future;
    struct job_waiter waiter;
    struct job_request_slot slot; /* JOB_ASK_VERB */
    bj_job *job;                  /* a reference */
    bool linked;                  /* in the machine's list */
};

static bj_job *handle_of(struct job *machine)
{
    return (bj_job *)((char *)machine - offsetof(bj_job, machine));
}

static struct job_wait *wait_of(struct job_waiter *waiter)
{
    return (struct job_wait *)((char *)waiter - offsetof(struct job_wait, waiter));
}

static bj_ctx *ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* ------------------------------------------------------------ verbs on the way */

static void take_slot(struct job_request_slot *slot, bj_job *job, enum job_verb verb,
                      struct job_wait *wait)
{
    slot->job = bj_job_ref(job);
    slot->verb = verb;
    slot->wait = wait;
    if (wait)
        future_ref_memory(&wait->future);
}

/* May free the job. */
static void give_slot_back(struct job_request_slot *slot)
{
    bj_job *job = slot->job;
    struct job_wait *wait = slot->wait;

    slot->job = NULL;
    slot->wait = NULL;
    if (wait)
        future_unref_memory(&wait->future);
    bj_job_unref(job);
}

/* What a connection that ends answers is no news of the verb: job_lost() follows. */
static bool is_about_connection(int error)
{
    return error == BJ_E_DISCONNECTED || error == BJ_E_CLOSED || error == BJ_E_PROTOCOL ||
           error == BJ_E_CONNECT;
}

static void note_complete_accepted(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->timeline.complete_accepted = clock_realtime_us();
    ctx_unlock(ctx_of(job));
}

static void verb_done(struct job_request_slot *slot, const struct driver_reply *reply)
{
    bj_job *job = slot->job;
    const char *error_class = reply->error_class ? reply->error_class : "";
    struct job_wait *wait = slot->wait && slot->wait->linked ? slot->wait : NULL;

    if (reply->error == BJ_OK && slot->verb == JOB_COMPLETE)
        note_complete_accepted(job);
    if (!is_about_connection(reply->error))
        job_reply(&job->machine, slot->verb, wait ? &wait->waiter : NULL,
                  &(struct job_reply){
                      .accepted = reply->error == BJ_OK,
                      .no_job = strcmp(error_class, "DeviceNotActive") == 0,
                      .error = reply->error,
                      .error_class = error_class,
                      .text = reply->text,
                  });
    give_slot_back(slot);
}

static void on_verb_done(struct driver_request *request, struct driver_reply *reply)
{
    verb_done((struct job_request_slot *)request, reply);
}

static void run_verb_failed(struct loop_task *task)
{
    struct job_request_slot *slot =
        (struct job_request_slot *)((char *)task - offsetof(struct job_request_slot, failed));
    verb_done(slot, &(struct driver_reply){
                        .error = slot->error,
                        .text = bj_error_text(slot->error),
                    });
}

/* The machine must not be answered from inside its own call. */
static void fail_later(struct job_request_slot *slot, int error, void (*run)(struct loop_task *))
{
    slot->error = error;
    slot->failed.run = run;
    if (!loop_post(ctx_of(slot->job)->loop, &slot->failed))
        give_slot_back(slot);
}

static struct job_request_slot *slot_for(bj_job *job, enum job_verb verb, struct job_wait *wait)
{
    if (wait)
        return &wait->slot;
    switch (verb) {
    case JOB_COMPLETE:
        return &job->complete;
    case JOB_CANCEL:
        return &job->cancel;
    case JOB_CANCEL_FORCE:
        return &job->force;
    default:
        return &job->dismiss;
    }
}

static void port_send(struct job *machine, enum job_verb verb, struct job_waiter *waiter)
{
    bj_job *job = handle_of(machine);
    struct driver *driver = job->monitor->driver;
    struct job_wait *wait = waiter ? wait_of(waiter) : NULL;
    struct job_request_slot *slot = slot_for(job, verb, wait);

    take_slot(slot, job, verb, wait);
    slot->request.done = on_verb_done;
    int r = driver ? driver->ops->verb(driver, &slot->request, text_str(job->id),
                                       text_str(job->type), verb, waiter ? waiter->speed : 0)
                   : BJ_E_DISCONNECTED;
    if (r != BJ_OK) {
        fail_later(slot, r, run_verb_failed);
        return;
    }
    if (verb == JOB_COMPLETE) {
        ctx_lock(ctx_of(job));
        job->timeline.complete_sent = clock_realtime_us();
        ctx_unlock(ctx_of(job));
    }
}

/* -------------------------------------------------------------------- queries */

static void port_query(struct job *machine);

void job_feed_row(bj_job *job, const bj_job_info *row)
{
    job_learn_type(job, row->type);
    bool io_error = row->paused && *row->io_status && strcmp(row->io_status, "ok") != 0;
    job_row(&job->machine, &(struct job_row){
                               .status = job_status_of(row->status),
                               .ready = row->ready,
                               .io_error = io_error,
                               .error = *row->error ? row->error : NULL,
                           });
}

static void feed_rows(bj_job *job, const struct info_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->rows[i].id, text_str(job->id)) == 0) {
            job_feed_row(job, &list->rows[i]);
            return;
        }
    }
    job_absent(&job->machine);
}

static void query_done(struct job_request_slot *slot, const struct driver_reply *reply)
{
    bj_job *job = slot->job;
    bool again = job->query_again;

    job->querying = job->query_again = false;
    if (reply->error == BJ_OK && !again)
        feed_rows(job, reply->infos);
    else if (!is_about_connection(reply->error) && !again)
        job_lost(&job->machine, BJ_E_JOB_LOST, "QEMU could not be asked how it ended");
    else if (again)
        port_query(&job->machine);
    give_slot_back(slot);
}

static void on_query_done(struct driver_request *request, struct driver_reply *reply)
{
    query_done((struct job_request_slot *)request, reply);
}

static void run_query_failed(struct loop_task *task)
{
    struct job_request_slot *slot =
        (struct job_request_slot *)((char *)task - offsetof(struct job_request_slot, failed));
    query_done(slot, &(struct driver_reply){.error = slot->error});
}

static void port_query(struct job *machine)
{
    bj_job *job = handle_of(machine);
    struct driver *driver = job->monitor->driver;

    if (job->querying) {
        job->query_again = true; /* what is on its way may be older than the question */
        return;
    }
    job->querying = true;
    take_slot(&job->query, job, JOB_COMPLETE, NULL);
    job->query.request.done = on_query_done;
    int r = driver ? driver->ops->query(driver, &job->query.request, true) : BJ_E_DISCONNECTED;
    if (r != BJ_OK)
        fail_later(&job->query, r, run_query_failed);
}

static void run_graph(struct loop_task *task)
{
    bj_job *job = (bj_job *)((char *)task - offsetof(bj_job, graph));
    job_graph(&job->machine, JOB_SWITCH_UNKNOWN);
    bj_job_unref(job);
}

static void port_graph(struct job *machine)
{
    bj_job *job = handle_of(machine);
    job->graph.run = run_graph;
    bj_job_ref(job);
    if (!loop_post(ctx_of(job)->loop, &job->graph))
        bj_job_unref(job);
}

/* --------------------------------------------------------------------- timers */

static void on_timer(bj_job *job, enum job_timer timer)
{
    bj_job_ref(job);
    job_tick(&job->machine, timer);
    bj_job_unref(job);
}

static void on_stall_timer(void *user)
{
    on_timer(user, JOB_TIMER_STALL);
}

static void on_force_timer(void *user)
{
    on_timer(user, JOB_TIMER_FORCE);
}

static void port_timer(struct job *machine, enum job_timer timer, int64_t ms)
{
    struct loop_timer *t = handle_of(machine)->timers[timer];
    if (!t)
        return; /* retired */
    if (ms > 0)
        loop_timer_set(t, ms);
    else
        loop_timer_stop(t);
}

/* -------------------------------------------------------------------- answers */

static struct text *answer_text(const bj_job *job, const struct job_answer *answer)
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
        return text_printf("job %s ended as %s", id, bj_outcome_name(job->machine.outcome));
    default:
        return text_printf("job %s: %s", id, text ? text : bj_error_text(answer->error));
    }
}

static void port_answer(struct job *machine, struct job_waiter *waiter,
                        const struct job_answer *answer)
{
    struct job_wait *wait = wait_of(waiter);
    bj_job *job = handle_of(machine);
    const char *error_class = answer->error_class ? answer->error_class : "";

    wait->linked = false;
    future_answer(&wait->future,
                  &(struct future_result){
                      .error = answer->error,
                      .outcome = machine->outcome,
                      .text = answer_text(job, answer),
                      .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                  });
}

/* ----------------------------------------------------------------------- news */

static int done_error(const struct job *machine)
{
    if (machine->outcome == BJ_OUTCOME_FAILED)
        return BJ_E_JOB_FAILED;
    return machine->outcome == BJ_OUTCOME_LOST ? machine->lost_error : BJ_OK;
}

static void publish_ready(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->ready = true;
    job->timeline.ready_event = job->event_us;
    job->timeline.ready_seen = clock_realtime_us();
    ctx_unlock(ctx_of(job));
}

static void publish_end(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->outcome = job->machine.outcome;
    job->text = text_ref(job->machine.text);
    if (!job->timeline.end_event)
        job->timeline.end_event = job->event_us;
    job->timeline.end_seen = clock_realtime_us();
    ctx_unlock(ctx_of(job));
}

static void push_news(const bj_job *job, bj_watch *watch, bj_record_kind kind, struct text *name,
                      struct text *text)
{
    const struct job *machine = &job->machine;
    bool ended = kind == BJ_RECORD_ENDED;
    watch_push(watch,
               &(bj_record){
                   .kind = kind,
                   .error = ended ? done_error(machine) : BJ_OK,
                   .outcome = ended ? machine->outcome : BJ_OUTCOME_NONE,
                   .timestamp_us = job->event_us,
               },
               name, text);
}

static void push_all(const bj_job *job, bj_record_kind kind, struct text *name, struct text *text)
{
    for (bj_watch *watch = job->watches; watch; watch = watch->next)
        push_news(job, watch, kind, name, text);
}

static void end_watches(bj_job *job)
{
    push_all(job, BJ_RECORD_ENDED, NULL, job->machine.text);
    while (job->watches) {
        bj_watch *watch = watch_ref_memory(job->watches);
        watch_unlink(watch, &job->watches);
        watch_end(watch, BJ_OK, NULL);
        watch_unref_memory(watch);
    }
}

static void tell_watches(bj_job *job, enum job_news news, const char *words)
{
    static const bj_record_kind kinds[] = {
        [JOB_NEWS_STATUS] = BJ_RECORD_STATUS,
        [JOB_NEWS_READY] = BJ_RECORD_READY,
        [JOB_NEWS_STALLED] = BJ_RECORD_STALLED,
        [JOB_NEWS_RESUMED] = BJ_RECORD_RESUMED,
    };
    if (!job->watches)
        return;
    struct text *text = words ? text_printf("%s", words) : NULL;
    bool is_status = news == JOB_NEWS_STATUS;
    push_all(job, kinds[news], is_status ? text : NULL, is_status ? NULL : text);
    text_unref(text);
}

static void port_tell(struct job *machine, enum job_news news, const char *text)
{
    bj_job *job = handle_of(machine);

    switch (news) {
    case JOB_NEWS_ENDED:
        publish_end(job);
        end_watches(job);
        break;
    case JOB_NEWS_RELEASED:
        monitor_job_released(job->monitor, job);
        break;
    case JOB_NEWS_READY:
        publish_ready(job);
        tell_watches(job, news, text);
        break;
    default:
        tell_watches(job, news, text);
        break;
    }
}

static const struct job_port port = {
    .send = port_send,
    .query = port_query,
    .graph = port_graph,
    .timer = port_timer,
    .answer = port_answer,
    .tell = port_tell,
};

/* ---------------------------------------------------------------------- facts */

static void note_end_event(bj_job *job)
{
    ctx_lock(ctx_of(job));
    if (!job->timeline.end_event)
        job->timeline.end_event = job->event_us;
    ctx_unlock(ctx_of(job));
}

void job_feed(bj_job *job, const struct driver_fact *fact)
{
    struct job *machine = &job->machine;

    bj_job_ref(job); /* a fact may be the last thing that happens to it */
    job->event_us = fact->timestamp_us;
    job_learn_type(job, fact->type);

    switch (fact->kind) {
    case FACT_STATUS:
        job_status_event(machine, fact->status);
        break;
    case FACT_READY:
        job_ready_event(machine);
        break;
    case FACT_COMPLETED:
        note_end_event(job); /* the outcome may have to wait for a reply */
        job_completed_event(machine, fact->error);
        break;
    case FACT_CANCELLED:
        job_cancelled_event(machine);
        break;
    case FACT_STOPPED:
        job_stopped_event(machine, fact->error);
        break;
    case FACT_PENDING:
        job_pending_event(machine);
        break;
    }
    job->event_us = 0;
    bj_job_unref(job);
}

void job_feed_lost(bj_job *job, int error, const char *text)
{
    bj_job_ref(job);
    job_lost(&job->machine, error == BJ_E_CLOSED ? BJ_E_CLOSED : BJ_E_JOB_LOST, text);
    bj_job_unref(job);
}

void job_note_start_sent(bj_job *job)
{
    ctx_lock(ctx_of(job));
    job->timeline.start_sent = clock_realtime_us();
    ctx_unlock(ctx_of(job));
}

static bool is_never_ready(const char *type)
{
    return *type && strcmp(type, "mirror") != 0 && strcmp(type, "commit") != 0;
}

static void set_type_traits(struct job_traits *traits, const char *type)
{
    traits->never_ready = is_never_ready(type);
    traits->switches = strcmp(type, "mirror") == 0;
}

void job_learn_type(bj_job *job, const char *type)
{
    if (!*type || *text_str(job->type))
        return;
    set_type_traits(&job->machine.traits, type);
    ctx_lock(ctx_of(job));
    job->type = text_printf("%s", type);
    ctx_unlock(ctx_of(job));
}

/* --------------------------------------------------------------------- memory */

bj_job *job_new(bj_monitor *monitor, const char *id, const char *type, bool ours)
{
    bj_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    struct job_traits traits = {
        .ours = ours,
        .has_status = monitor->driver->has_status,
        .stall_ms = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_STALL_MS),
    };
    set_type_traits(&traits, type);
    atomic_init(&job->refs, 1);
    job->monitor = monitor_ref_memory(monitor);
    job->id = text_new(id, strlen(id));
    job->type = *type ? text_new(type, strlen(type)) : NULL;
    job->key.id = text_str(job->id);
    job_init(&job->machine, &port, &traits);
    job->timers[JOB_TIMER_STALL] = loop_timer_new(monitor->ctx->loop, on_stall_timer, job);
    job->timers[JOB_TIMER_FORCE] = loop_timer_new(monitor->ctx->loop, on_force_timer, job);

    bool whole = job->id && (!*type || job->type) && job->timers[JOB_TIMER_STALL] &&
                 job->timers[JOB_TIMER_FORCE];
    if (!whole) {
        job_retire(job);
        bj_job_unref(job);
        return NULL;
    }
    return job;
}

void job_retire(bj_job *job)
{
    for (int timer = 0; timer < JOB_TIMERS; timer++) {
        loop_timer_free(job->timers[timer]);
        job->timers[timer] = NULL;
    }
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
    job_clear(&job->machine);
    text_unref(job->id);
    text_unref(job->type);
    text_unref(job->text);
    monitor_unref_memory(job->monitor);
    free(job);
    return NULL;
}

/* ------------------------------------------------------------ what is known now */

const char *bj_job_id(bj_job *job)
{
    return job ? text_str(job->id) : "";
}

static bool can_look(const bj_job *job)
{
    return job && !ctx_is_forked(ctx_of(job));
}

const char *bj_job_type(bj_job *job)
{
    if (!can_look(job))
        return "";
    ctx_lock(ctx_of(job));
    const char *type = text_str(job->type);
    ctx_unlock(ctx_of(job));
    return type;
}

bool bj_job_is_ready(bj_job *job)
{
    if (!can_look(job))
        return false;
    ctx_lock(ctx_of(job));
    bool ready = job->ready;
    ctx_unlock(ctx_of(job));
    return ready;
}

bj_outcome bj_job_outcome(bj_job *job)
{
    if (!can_look(job))
        return BJ_OUTCOME_NONE;
    ctx_lock(ctx_of(job));
    bj_outcome outcome = job->outcome;
    ctx_unlock(ctx_of(job));
    return outcome;
}

const char *bj_job_text(bj_job *job)
{
    if (!can_look(job))
        return "";
    ctx_lock(ctx_of(job));
    const char *text = text_str(job->text);
    ctx_unlock(ctx_of(job));
    return text;
}

int bj_job_timeline(bj_job *job, bj_timeline *ret_timeline)
{
    if (!job || !ret_timeline)
        return BJ_E_INVAL;
    if (!can_look(job))
        return BJ_E_FORKED;
    ctx_lock(ctx_of(job));
    *ret_timeline = job->timeline;
    ctx_unlock(ctx_of(job));
    return BJ_OK;
}

/* ---------------------------------------------------------------------- waits */

static struct job_wait *wait_of_future(bj_future *future)
{
    return (struct job_wait *)future;
}

static void start_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    bj_job *job = bj_job_ref(wait->job); /* an answer may let go of the wait */
    wait->linked = true;
    job_ask(&job->machine, &wait->waiter);
    bj_job_unref(job);
}

static void leave_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    struct driver *driver = wait->job->monitor->driver;

    wait->linked = false;
    job_leave(&wait->job->machine, &wait->waiter);
    if (wait->slot.job && driver && driver->ops->withdraw(driver, &wait->slot.request))
        give_slot_back(&wait->slot);
}

static struct text *late_wait(bj_future *future)
{
    static const char *const asked[] = {
        [JOB_ASK_READY] = "not ready",       [JOB_ASK_DONE] = "not over",
        [JOB_ASK_RELEASED] = "not released", [JOB_ASK_PIVOT] = "not pivoted",
        [JOB_ASK_ABORT] = "not over",        [JOB_ASK_VERB] = "no answer from QEMU",
    };
    const struct job_wait *wait = wait_of_future(future);
    return text_printf("job %s: %s within %.10g s; the job goes on", text_str(wait->job->id),
                       asked[wait->waiter.question], (double)future->timeout_ms / 1000.);
}

static void destroy_wait(bj_future *future)
{
    bj_job_unref(wait_of_future(future)->job);
}

static const struct future_ops wait_ops = {
    .start = start_wait,
    .leave = leave_wait,
    .late = late_wait,
    .destroy = destroy_wait,
};

static bj_future *launch_wait(bj_job *job, struct job_waiter waiter, int64_t timeout_ms)
{
    if (!job)
        return future_static(BJ_E_INVAL);
    if (!can_look(job))
        return future_static(BJ_E_FORKED);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx_of(job), BJ_E_INVAL, "job %s: a timeout of %lld ms is negative",
                             text_str(job->id), (long long)timeout_ms);

    struct job_wait *wait = (struct job_wait *)future_new(ctx_of(job), sizeof *wait, &wait_ops);
    if (!wait)
        return future_static(BJ_E_NOMEM);
    wait->job = bj_job_ref(job);
    wait->waiter = waiter;
    return future_launch(&wait->future, timeout_ms, -1);
}

static bj_future *bad_flags(bj_job *job, int flags)
{
    if (!job)
        return future_static(BJ_E_INVAL);
    if (!can_look(job))
        return future_static(BJ_E_FORKED);
    return future_failed(ctx_of(job), BJ_E_INVAL, "job %s: unknown flags 0x%x", text_str(job->id),
                         (unsigned)flags);
}

bj_future *bj_job_ready(bj_job *job, int64_t timeout_ms)
{
    return launch_wait(job, (struct job_waiter){.question = JOB_ASK_READY}, timeout_ms);
}

bj_future *bj_job_done(bj_job *job, int flags, int64_t timeout_ms)
{
    if (flags & ~BJ_DONE_RELEASED)
        return bad_flags(job, flags);
    enum job_question question = flags ? JOB_ASK_RELEASED : JOB_ASK_DONE;
    return launch_wait(job, (struct job_waiter){.question = question}, timeout_ms);
}

bj_future *bj_job_pivot(bj_job *job, int flags, int64_t timeout_ms)
{
    if (flags & ~BJ_PIVOT_ONLY_IF_READY)
        return bad_flags(job, flags);
    return launch_wait(job, (struct job_waiter){.question = JOB_ASK_PIVOT, .flags = flags},
                       timeout_ms);
}

bj_future *bj_job_abort(bj_job *job, int flags, int64_t timeout_ms)
{
    if (flags & ~(BJ_ABORT_FORCE | BJ_ABORT_ASYNC))
        return bad_flags(job, flags);
    return launch_wait(job, (struct job_waiter){.question = JOB_ASK_ABORT, .flags = flags},
                       timeout_ms);
}

bj_future *bj_job_abort_escalate(bj_job *job, int64_t force_after_ms, int64_t timeout_ms)
{
    if (job && can_look(job) && force_after_ms <= 0)
        return future_failed(
            ctx_of(job), BJ_E_INVAL,
            "job %s: escalating after %lld ms is no delay: abort with force instead",
            text_str(job->id), (long long)force_after_ms);
    return launch_wait(
        job, (struct job_waiter){.question = JOB_ASK_ABORT, .force_after_ms = force_after_ms},
        timeout_ms);
}

static bj_future *launch_verb(bj_job *job, enum job_verb verb, int64_t speed, int64_t timeout_ms)
{
    return launch_wait(job,
                       (struct job_waiter){.question = JOB_ASK_VERB, .verb = verb, .speed = speed},
                       timeout_ms);
}

bj_future *bj_job_pause(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, JOB_PAUSE, 0, timeout_ms);
}

bj_future *bj_job_resume(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, JOB_RESUME, 0, timeout_ms);
}

bj_future *bj_job_set_speed(bj_job *job, int64_t bytes_per_second, int64_t timeout_ms)
{
    if (job && can_look(job) && bytes_per_second < 0)
        return future_failed(ctx_of(job), BJ_E_INVAL, "job %s: a speed of %lld is negative",
                             text_str(job->id), (long long)bytes_per_second);
    return launch_verb(job, JOB_SET_SPEED, bytes_per_second, timeout_ms);
}

bj_future *bj_job_finalize(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, JOB_FINALIZE, 0, timeout_ms);
}

bj_future *bj_job_dismiss(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, JOB_DISMISS, 0, timeout_ms);
}

/* -------------------------------------------------------------------- watches */

static bj_job *watched_job(bj_watch *watch)
{
    return watch->owner;
}

static void ask_progress(void *user);

static const bj_job_info *find_row(const struct info_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->rows[i].id, id) == 0)
            return &list->rows[i];
    return NULL;
}

static void on_progress(struct driver_request *request, struct driver_reply *reply)
{
    bj_watch *watch = (bj_watch *)((char *)request - offsetof(bj_watch, request));
    const char *id = text_str(watched_job(watch)->id);
    const bj_job_info *row = reply->error == BJ_OK ? find_row(reply->infos, id) : NULL;

    watch->asking = false;
    if (row && watch->listed && (row->current != watch->current || row->total != watch->total)) {
        watch->current = row->current;
        watch->total = row->total;
        watch_push(watch,
                   &(bj_record){
                       .kind = BJ_RECORD_PROGRESS,
                       .current = row->current,
                       .total = row->total,
                   },
                   NULL, NULL);
    }
    if (watch->listed)
        loop_timer_set(watch->timer, watch->progress_ms);
    watch_unref_memory(watch);
}

static void ask_progress(void *user)
{
    bj_watch *watch = user;
    struct driver *driver = watched_job(watch)->monitor->driver;

    if (watch->asking || !driver)
        return;
    watch->request.done = on_progress;
    if (driver->ops->query(driver, &watch->request, false) != BJ_OK) {
        loop_timer_set(watch->timer, watch->progress_ms);
        return;
    }
    watch->asking = true;
    watch_ref_memory(watch);
}

static void begin_watch(bj_watch *watch)
{
    bj_job *job = watched_job(watch);
    const struct job *machine = &job->machine;

    watch_link(watch, &job->watches);
    if (machine->ready)
        push_news(job, watch, BJ_RECORD_READY, NULL, NULL);
    if (machine->stall != JOB_STALL_NONE)
        push_news(job, watch, BJ_RECORD_STALLED, NULL, machine->text);
    if (job_is_over(machine)) {
        end_watches(job);
        return;
    }
    if (watch->progress_ms == 0)
        return;
    watch->timer = loop_timer_new(watch->ctx->loop, ask_progress, watch);
    if (watch->timer)
        ask_progress(watch);
    else
        watch_miss(watch);
}

static void leave_watch(bj_watch *watch)
{
    watch_unlink(watch, &watched_job(watch)->watches);
}

static void destroy_watch(bj_watch *watch)
{
    bj_job_unref(watched_job(watch));
}

int bj_job_watch(bj_job *job, int64_t progress_ms, bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = begin_watch,
        .leave = leave_watch,
        .destroy = destroy_watch,
    };
    if (!job || !ret_watch || progress_ms < 0)
        return BJ_E_INVAL;
    if (!can_look(job))
        return BJ_E_FORKED;
    return watch_new(ctx_of(job), &ops, bj_job_ref(job), progress_ms, ret_watch);
}

/* ---------------------------------------------------------------------- query */

static int send_query(struct ask *ask, struct driver *driver)
{
    return driver->ops->query(driver, &ask->request, false);
}

static void query_replied(struct ask *ask, struct driver_reply *reply)
{
    const char *id = text_str(ask->job->id);
    const bj_job_info *row = find_row(reply->infos, id);
    if (!row) {
        future_fail(&ask->future, BJ_E_NO_JOB, "job %s is gone: %s", id,
                    ask->job->outcome == BJ_OUTCOME_NONE ? "it is no longer listed"
                                                         : bj_outcome_name(ask->job->outcome));
        return;
    }
    size_t index = (size_t)(row - reply->infos->rows);
    bj_job_info asked = reply->infos->rows[index];
    reply->infos->rows[index] = reply->infos->rows[0];
    reply->infos->rows[0] = asked;
    ask_answer_infos(ask, reply, 1);
}

bj_future *bj_job_query(bj_job *job, int64_t timeout_ms)
{
    static const struct ask_kind kind = {.send = send_query, .replied = query_replied};

    if (!job)
        return future_static(BJ_E_INVAL);
    struct ask *ask;
    bj_future *failed = ask_new(job->monitor, &kind, timeout_ms, &ask);
    if (failed)
        return failed;
    ask->job = bj_job_ref(job);
    return future_launch(&ask->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}
