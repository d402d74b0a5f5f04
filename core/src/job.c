/* SPDX-License-Identifier: MIT */
/*
 * The job machine; see job.h. Facts come in at the bottom of this file; above them the rules.
 */
#include "job.h"
#include "text.h"

#include <string.h>

/* 5.2 refuses complete in standby, where any change of the block graph can put a job for a moment:
 * sent again when it is ready again, but not for ever (B33). */
#define COMPLETES_MAX 16

static const char *const status_names[] = {
    [JOB_STATUS_NONE] = "",
    [JOB_STATUS_CREATED] = "created",
    [JOB_STATUS_RUNNING] = "running",
    [JOB_STATUS_PAUSED] = "paused",
    [JOB_STATUS_READY] = "ready",
    [JOB_STATUS_STANDBY] = "standby",
    [JOB_STATUS_WAITING] = "waiting",
    [JOB_STATUS_PENDING] = "pending",
    [JOB_STATUS_ABORTING] = "aborting",
    [JOB_STATUS_CONCLUDED] = "concluded",
    [JOB_STATUS_NULL] = "null",
};

const char *job_status_name(enum job_status status)
{
    return status_names[status];
}

enum job_status job_status_of(const char *name)
{
    for (int s = JOB_STATUS_CREATED; s <= JOB_STATUS_NULL; s++)
        if (strcmp(name, status_names[s]) == 0)
            return (enum job_status)s;
    return JOB_STATUS_NONE;
}

void job_init(struct job *job, const struct job_port *port, const struct job_traits *traits)
{
    *job = (struct job){.port = port, .traits = *traits};
}

void job_clear(struct job *job)
{
    job->text = text_unref(job->text);
}

bool job_is_over(const struct job *job)
{
    return job->outcome != BJ_OUTCOME_NONE;
}

/* Between its last word to us and its end: no verb can change anything any more. */
static bool is_ending(const struct job *job)
{
    return job->end != JOB_END_NONE || job->status >= JOB_STATUS_WAITING;
}

static bool stands_still(const struct job *job)
{
    return job->status == JOB_STATUS_PAUSED || job->status == JOB_STATUS_STANDBY;
}

static void set_text(struct job *job, const char *text)
{
    text_unref(job->text);
    job->text = text ? text_printf("%s", text) : NULL;
}

/* ------------------------------------------------------------------ waiters */

static void link_waiter(struct job *job, struct job_waiter *waiter)
{
    waiter->prev = NULL;
    waiter->next = job->waiters;
    if (job->waiters)
        job->waiters->prev = waiter;
    job->waiters = waiter;
}

static void unlink_waiter(struct job *job, struct job_waiter *waiter)
{
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        job->waiters = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    waiter->prev = waiter->next = NULL;
}

static void answer(struct job *job, struct job_waiter *waiter, int error, const char *error_class,
                   const char *text)
{
    unlink_waiter(job, waiter);
    job->port->answer(job, waiter,
                      &(struct job_answer){
                          .error = error,
                          .error_class = error_class,
                          .text = text,
                      });
}

typedef bool waiter_test(const struct job *job, const struct job_waiter *waiter);

static bool is_pivot(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_PIVOT;
}

static bool is_ready_wait(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_READY;
}

static bool is_force_abort(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_ABORT && (waiter->flags & BJ_ABORT_FORCE);
}

static bool is_soft_abort(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_ABORT && !(waiter->flags & BJ_ABORT_FORCE);
}

static bool is_escalating(const struct job *job, const struct job_waiter *waiter)
{
    return is_soft_abort(job, waiter) && waiter->force_after_ms > 0;
}

/* What a refused soft cancel is the end of; an escalating one still has its force. */
static bool is_plain_soft_abort(const struct job *job, const struct job_waiter *waiter)
{
    return is_soft_abort(job, waiter) && waiter->force_after_ms == 0;
}

static bool is_async_soft_abort(const struct job *job, const struct job_waiter *waiter)
{
    return is_soft_abort(job, waiter) && (waiter->flags & BJ_ABORT_ASYNC);
}

static bool is_async_force_abort(const struct job *job, const struct job_waiter *waiter)
{
    return is_force_abort(job, waiter) && (waiter->flags & BJ_ABORT_ASYNC);
}

/* A job that stands still does not carry out a pivot nor take a soft cancel; one that QEMU has
 * accepted takes its course. */
static bool is_hurt_by_pause(const struct job *job, const struct job_waiter *waiter)
{
    bool aborting = job->cancel == JOB_REQUEST_ACCEPTED || job->force == JOB_REQUEST_ACCEPTED;
    return is_pivot(job, waiter) || (!aborting && is_plain_soft_abort(job, waiter));
}

/* Nobody who paused it will resume it: those who wait for ready or the end must know as well. */
static bool is_hurt_by_error_stop(const struct job *job, const struct job_waiter *waiter)
{
    return waiter->question == JOB_ASK_READY || waiter->question == JOB_ASK_DONE ||
           waiter->question == JOB_ASK_RELEASED || is_hurt_by_pause(job, waiter);
}

static bool has_waiter(const struct job *job, waiter_test *test)
{
    for (const struct job_waiter *w = job->waiters; w; w = w->next)
        if (test(job, w))
            return true;
    return false;
}

static void answer_all(struct job *job, waiter_test *test, int error, const char *error_class,
                       const char *text)
{
    struct job_waiter *next;
    for (struct job_waiter *w = job->waiters; w; w = next) {
        next = w->next;
        if (test(job, w))
            answer(job, w, error, error_class, text);
    }
}

/* ---------------------------------------------------------------- decisions */

/* What a question gets from a job that is over. */
static int verdict(const struct job *job, const struct job_waiter *waiter)
{
    bj_outcome outcome = job->outcome;

    if (waiter->question == JOB_ASK_READY && job->ready)
        return BJ_OK;
    if (outcome == BJ_OUTCOME_LOST)
        return job->lost_error;
    if (waiter->question == JOB_ASK_ABORT)
        return BJ_OK;
    if (outcome == BJ_OUTCOME_FAILED)
        return BJ_E_JOB_FAILED;
    if (waiter->question == JOB_ASK_READY)
        return BJ_E_JOB_ENDED;
    if (waiter->question == JOB_ASK_PIVOT)
        return outcome == BJ_OUTCOME_PIVOTED ? BJ_OK : BJ_E_JOB_ENDED;
    return BJ_OK;
}

static void answer_over(struct job *job, struct job_waiter *waiter)
{
    int error = verdict(job, waiter);
    answer(job, waiter, error, NULL, error == BJ_OK || !job->text ? NULL : text_str(job->text));
}

static bool waits_for_outcome(const struct job_waiter *waiter)
{
    if (waiter->question == JOB_ASK_VERB)
        return waiter->verb == JOB_FINALIZE;
    return waiter->question != JOB_ASK_RELEASED;
}

static void dismiss_if_due(struct job *job)
{
    bool due = job->status == JOB_STATUS_CONCLUDED || !job->traits.has_status;

    if (!job->traits.ours || job->dismissing || !due || job->outcome == BJ_OUTCOME_LOST)
        return;
    job->dismissing = true;
    job->port->send(job, JOB_DISMISS, NULL);
}

static void release(struct job *job)
{
    if (job->released)
        return;
    job->released = true;

    struct job_waiter *next;
    for (struct job_waiter *w = job->waiters; w; w = next) {
        next = w->next;
        if (w->question == JOB_ASK_RELEASED)
            answer_over(job, w);
    }
    job->port->tell(job, JOB_NEWS_RELEASED, NULL);
}

static void latch(struct job *job, bj_outcome outcome)
{
    job->outcome = outcome;
    job->stall = JOB_STALL_NONE;
    for (int timer = 0; timer < JOB_TIMERS; timer++)
        job->port->timer(job, (enum job_timer)timer, 0);

    job->port->tell(job, JOB_NEWS_ENDED, text_str(job->text));

    struct job_waiter *next;
    for (struct job_waiter *w = job->waiters; w; w = next) {
        next = w->next;
        if (waits_for_outcome(w))
            answer_over(job, w);
    }

    dismiss_if_due(job);
    if (!job->traits.has_status && !job->traits.ours)
        release(job); /* before 3.0 the terminal event is the last that is heard of a run */
}

static bool is_in_flight(const struct job *job)
{
    return job->complete == JOB_REQUEST_SENT || job->cancel == JOB_REQUEST_SENT ||
           job->force == JOB_REQUEST_SENT;
}

/* COMPLETED of a mirror or an active commit: which verb was it (B14)? */
static void decide_completed(struct job *job)
{
    if (!job->traits.switches && !job->ready) {
        latch(job, BJ_OUTCOME_COMPLETED);
    } else if (job->complete == JOB_REQUEST_ACCEPTED) {
        latch(job, BJ_OUTCOME_PIVOTED); /* also after a late force on 5.2 (B17) */
    } else if (is_in_flight(job)) {
        return; /* the reply will tell (B02) */
    } else if (job->cancel == JOB_REQUEST_ACCEPTED || job->force == JOB_REQUEST_ACCEPTED) {
        latch(job, BJ_OUTCOME_COPIED);
    } else if (!job->graph_asked) {
        job->graph_asked = true; /* someone else's verb (B15) */
        job->port->graph(job);
    }
}

static void decide(struct job *job)
{
    if (job_is_over(job))
        return;
    if (job->end == JOB_END_FAILED)
        latch(job, BJ_OUTCOME_FAILED);
    else if (job->end == JOB_END_CANCELLED)
        latch(job, BJ_OUTCOME_CANCELLED);
    else if (job->end == JOB_END_COMPLETED)
        decide_completed(job);
}

static void set_end(struct job *job, enum job_end end, const char *error)
{
    if (job->end != JOB_END_NONE || job_is_over(job))
        return; /* the first terminal event wins (B18) */
    job->end = end;
    set_text(job, error);
    decide(job);
}

static void latch_switch_unknown(struct job *job)
{
    set_text(job, "another client completed or cancelled it, and whether the disk was switched "
                  "can't be told");
    latch(job, BJ_OUTCOME_COMPLETED);
}

static void stall(struct job *job, enum job_stall kind, const char *reason)
{
    if (is_ending(job))
        return;
    if (job->stall != kind) {
        job->stall = kind;
        set_text(job, reason);
        job->port->timer(job, JOB_TIMER_STALL, 0);
        job->port->tell(job, JOB_NEWS_STALLED, reason);
    }
    answer_all(job, kind == JOB_STALL_ERROR ? is_hurt_by_error_stop : is_hurt_by_pause,
               BJ_E_STALLED, NULL, reason);
    if (job->complete == JOB_REQUEST_WANTED)
        job->complete = JOB_REQUEST_NONE;
}

static void unstall(struct job *job)
{
    if (job->stall == JOB_STALL_NONE)
        return;
    job->stall = JOB_STALL_NONE;
    set_text(job, NULL);
    job->port->tell(job, JOB_NEWS_RESUMED, NULL);
}

/* Complete goes out once, when QEMU will take it (B31). */
static void complete_if_due(struct job *job)
{
    if (job->complete != JOB_REQUEST_WANTED || !job->ready || stands_still(job) || is_ending(job))
        return;
    job->complete = JOB_REQUEST_SENT;
    job->completes++;
    job->stood = false;
    job->port->send(job, JOB_COMPLETE, NULL);
}

/* A soft cancel waits while a complete is in flight: only its refusal makes a cancel meaningful. */
static void cancel_if_due(struct job *job)
{
    if (job->cancel != JOB_REQUEST_WANTED || is_ending(job) || job->complete == JOB_REQUEST_SENT ||
        job->complete == JOB_REQUEST_ACCEPTED)
        return;
    job->cancel = JOB_REQUEST_SENT;
    job->port->send(job, JOB_CANCEL, NULL);
}

static void force_if_due(struct job *job)
{
    if (job->force != JOB_REQUEST_WANTED || job->end != JOB_END_NONE)
        return;
    job->force = JOB_REQUEST_SENT;
    job->port->send(job, JOB_CANCEL_FORCE, NULL);
}

/* A standstill of which nobody knows the reason: most last microseconds (any change of the block
 * graph drains the jobs), so it becomes a stall only if it lasts, and only if it hurts someone. */
static void watch_standstill(struct job *job)
{
    if (stands_still(job) && job->stall == JOB_STALL_NONE && has_waiter(job, is_hurt_by_pause))
        job->port->timer(job, JOB_TIMER_STALL, job->traits.stall_ms);
}

static void latch_ready(struct job *job)
{
    if (job->ready || job_is_over(job))
        return;
    job->ready = true;
    job->port->tell(job, JOB_NEWS_READY, NULL);
    complete_if_due(job); /* before the waiters are answered: the pivot must not wait for them */
    answer_all(job, is_ready_wait, BJ_OK, NULL, NULL);
}

/* ------------------------------------------------------------------ callers */

static void ask_ready(struct job *job, struct job_waiter *waiter)
{
    if (job->ready)
        answer(job, waiter, BJ_OK, NULL, NULL);
    else if (job->traits.never_ready)
        answer(job, waiter, BJ_E_STATE, NULL, "a job of this type is never ready: wait for done");
    else if (job->stall == JOB_STALL_ERROR)
        answer(job, waiter, BJ_E_STALLED, NULL, text_str(job->text));
}

static void ask_done(struct job *job, struct job_waiter *waiter)
{
    if (job->stall == JOB_STALL_ERROR)
        answer(job, waiter, BJ_E_STALLED, NULL, text_str(job->text));
}

static void ask_pivot(struct job *job, struct job_waiter *waiter)
{
    bool aborting = job->cancel != JOB_REQUEST_NONE || job->force != JOB_REQUEST_NONE;

    if (job->traits.never_ready) {
        answer(job, waiter, BJ_E_STATE, NULL, "a job of this type has no pivot: wait for done");
    } else if (aborting) {
        answer(job, waiter, BJ_E_STATE, NULL, "it is being aborted"); /* B34 */
    } else if (job->stall != JOB_STALL_NONE) {
        answer(job, waiter, BJ_E_STALLED, NULL, text_str(job->text));
    } else if (!job->ready && (waiter->flags & BJ_PIVOT_ONLY_IF_READY)) {
        answer(job, waiter, BJ_E_NOT_READY, NULL, NULL);
    } else {
        if (job->complete == JOB_REQUEST_NONE)
            job->complete = JOB_REQUEST_WANTED;
        complete_if_due(job);
        watch_standstill(job);
    }
}

static void ask_force(struct job *job, struct job_waiter *waiter)
{
    if (job->force == JOB_REQUEST_ACCEPTED && (waiter->flags & BJ_ABORT_ASYNC)) {
        answer(job, waiter, BJ_OK, NULL, NULL);
        return;
    }
    if (job->force == JOB_REQUEST_NONE)
        job->force = JOB_REQUEST_WANTED;
    force_if_due(job);
}

/* The first escalation that was asked for stands. */
static void arm_force(struct job *job, int64_t ms)
{
    if (job->force_armed)
        return;
    job->force_armed = true;
    job->port->timer(job, JOB_TIMER_FORCE, ms);
}

static void ask_soft_abort(struct job *job, struct job_waiter *waiter)
{
    bool pivoting = job->complete == JOB_REQUEST_SENT || job->complete == JOB_REQUEST_ACCEPTED;
    bool accepted = job->cancel == JOB_REQUEST_ACCEPTED || job->force == JOB_REQUEST_ACCEPTED;

    if (accepted && (waiter->flags & BJ_ABORT_ASYNC)) {
        answer(job, waiter, BJ_OK, NULL, NULL);
        return;
    }
    if (job->stall != JOB_STALL_NONE && waiter->force_after_ms == 0) {
        answer(job, waiter, BJ_E_STALLED, NULL, text_str(job->text));
        return;
    }
    if (pivoting && (waiter->flags & BJ_ABORT_ASYNC)) {
        answer(job, waiter, BJ_E_STATE, NULL, "a pivot is under way: only force aborts it");
        return;
    }
    if (waiter->force_after_ms > 0)
        arm_force(job, waiter->force_after_ms);
    if (job->complete == JOB_REQUEST_WANTED)
        job->complete = JOB_REQUEST_NONE; /* its waiters learn how the job ended (B34) */
    if (job->cancel == JOB_REQUEST_NONE && job->force == JOB_REQUEST_NONE)
        job->cancel = JOB_REQUEST_WANTED; /* never a second: RHEL 6 would turn it into a hard one */
    cancel_if_due(job);
    watch_standstill(job);
}

static void ask_verb(struct job *job, struct job_waiter *waiter)
{
    if (!job_is_over(job)) {
        job->port->send(job, waiter->verb, waiter);
    } else if (waiter->verb == JOB_FINALIZE) {
        answer_over(job, waiter);
    } else if (waiter->verb != JOB_DISMISS) {
        answer(job, waiter, BJ_E_STATE, NULL, "it is over");
    } else if (job->released || job->dismissing || job->outcome == BJ_OUTCOME_LOST) {
        answer(job, waiter, job->outcome == BJ_OUTCOME_LOST ? job->lost_error : BJ_OK, NULL,
               job->outcome == BJ_OUTCOME_LOST ? text_str(job->text) : NULL);
    } else {
        job->port->send(job, JOB_DISMISS, waiter);
    }
}

void job_ask(struct job *job, struct job_waiter *waiter)
{
    link_waiter(job, waiter);

    if (waiter->question == JOB_ASK_VERB) {
        ask_verb(job, waiter);
        return;
    }
    if (job_is_over(job)) {
        bool owed = waiter->question == JOB_ASK_RELEASED && !job->released &&
                    job->outcome != BJ_OUTCOME_LOST;
        if (!owed)
            answer_over(job, waiter);
        return;
    }

    switch (waiter->question) {
    case JOB_ASK_READY:
        ask_ready(job, waiter);
        break;
    case JOB_ASK_DONE:
    case JOB_ASK_RELEASED:
        ask_done(job, waiter);
        break;
    case JOB_ASK_PIVOT:
        ask_pivot(job, waiter);
        break;
    case JOB_ASK_ABORT:
        if (is_force_abort(job, waiter))
            ask_force(job, waiter);
        else
            ask_soft_abort(job, waiter);
        break;
    case JOB_ASK_VERB:
        break;
    }
}

void job_leave(struct job *job, struct job_waiter *waiter)
{
    unlink_waiter(job, waiter);

    /* What was not sent yet, and nobody listens for any more, must not surprise anyone later. */
    if (job->complete == JOB_REQUEST_WANTED && !has_waiter(job, is_pivot))
        job->complete = JOB_REQUEST_NONE;
    if (job->cancel == JOB_REQUEST_WANTED && !has_waiter(job, is_soft_abort))
        job->cancel = JOB_REQUEST_NONE;
    if (job->force_armed && !has_waiter(job, is_escalating)) {
        job->force_armed = false;
        job->port->timer(job, JOB_TIMER_FORCE, 0);
    }
}

/* -------------------------------------------------------------------- facts */

void job_ready_event(struct job *job)
{
    latch_ready(job);
}

/* Concluded without a BLOCK_JOB event: a job without a disk, or a transaction that failed before
 * the job ran. Only QEMU's list has the error. */
static void concluded(struct job *job)
{
    if (job->end == JOB_END_NONE && !job_is_over(job))
        job->port->query(job);
    if (job_is_over(job))
        dismiss_if_due(job);
}

/* Null, and no terminal event: what the statuses on the way say. */
static void vanished(struct job *job)
{
    if (job_is_over(job) || job->end != JOB_END_NONE)
        return;
    if (job->cancel == JOB_REQUEST_ACCEPTED || job->force == JOB_REQUEST_ACCEPTED)
        set_end(job, JOB_END_CANCELLED, NULL);
    else if (job->aborted)
        set_end(job, JOB_END_FAILED, "it was aborted, and QEMU gave no reason");
    else if (job->finished)
        set_end(job, JOB_END_COMPLETED, NULL);
    else
        job_lost(job, BJ_E_JOB_LOST, "it vanished, and its end was not seen");
}

static void goes_on(struct job *job, bool was_still)
{
    if (was_still)
        job->port->timer(job, JOB_TIMER_STALL, 0);
    unstall(job);
    if (job->status == JOB_STATUS_READY)
        latch_ready(job);
    complete_if_due(job);
    cancel_if_due(job);
}

void job_status_event(struct job *job, enum job_status status)
{
    if (job->released || status == job->status || status == JOB_STATUS_NONE)
        return;
    bool was_still = stands_still(job);
    job->status = status;
    if (status != JOB_STATUS_NULL)
        job->port->tell(job, JOB_NEWS_STATUS, job_status_name(status));

    switch (status) {
    case JOB_STATUS_RUNNING:
    case JOB_STATUS_READY:
        goes_on(job, was_still);
        break;
    case JOB_STATUS_PAUSED:
    case JOB_STATUS_STANDBY:
        job->stood = true;
        watch_standstill(job);
        break;
    case JOB_STATUS_WAITING:
    case JOB_STATUS_PENDING:
        job->finished = true;
        break;
    case JOB_STATUS_ABORTING:
        job->aborted = true;
        break;
    case JOB_STATUS_CONCLUDED:
        concluded(job);
        break;
    case JOB_STATUS_NULL:
        vanished(job);
        if (job_is_over(job))
            release(job);
        break;
    default:
        break;
    }
}

void job_completed_event(struct job *job, const char *error)
{
    set_end(job, error ? JOB_END_FAILED : JOB_END_COMPLETED, error);
}

void job_cancelled_event(struct job *job)
{
    set_end(job, JOB_END_CANCELLED, NULL);
}

void job_stopped_event(struct job *job, const char *reason)
{
    if (job->end == JOB_END_NONE)
        stall(job, JOB_STALL_ERROR, reason);
}

void job_pending_event(struct job *job)
{
    answer_all(job, is_pivot, BJ_E_STALLED, NULL,
               "it is pending: finalize it, then wait for done (B42)");
}

void job_tick(struct job *job, enum job_timer timer)
{
    if (job_is_over(job))
        return;
    if (timer == JOB_TIMER_FORCE) {
        if (job->force == JOB_REQUEST_NONE)
            job->force = JOB_REQUEST_WANTED;
        force_if_due(job);
    } else if (stands_still(job)) {
        stall(job, JOB_STALL_PAUSED,
              "it stands still: another client has paused it, or its I/O hangs");
    }
}

void job_row(struct job *job, const struct job_row *row)
{
    if (job_is_over(job) || job->released)
        return;
    if (row->ready || row->status == JOB_STATUS_READY || row->status == JOB_STATUS_STANDBY)
        latch_ready(job);

    if (row->status == JOB_STATUS_CONCLUDED) {
        job->status = JOB_STATUS_CONCLUDED;
        if (!row->error)
            set_end(job, JOB_END_COMPLETED, NULL);
        else if (strcmp(row->error, "Operation canceled") == 0) /* B21 */
            set_end(job, JOB_END_CANCELLED, NULL);
        else
            set_end(job, JOB_END_FAILED, row->error);
        return;
    }

    if (job->status == JOB_STATUS_NONE)
        job->status = row->status; /* events, once there are any, know better */
    if (row->io_error && job->status == row->status)
        stall(job, JOB_STALL_ERROR, "an I/O error stopped it");
    if (job->gone_asked && job->end == JOB_END_NONE) {
        job->gone_asked = false;
        if (job->complete == JOB_REQUEST_NONE)
            answer_all(job, is_pivot, BJ_E_REFUSED, "DeviceNotActive", NULL);
        if (job->cancel == JOB_REQUEST_NONE && job->force == JOB_REQUEST_NONE)
            answer_all(job, is_plain_soft_abort, BJ_E_REFUSED, "DeviceNotActive", NULL);
    }
    complete_if_due(job);
}

void job_absent(struct job *job)
{
    if (job->released)
        return;
    if (!job_is_over(job) && job->end == JOB_END_NONE)
        job_lost(job, BJ_E_JOB_LOST, "it is gone, and its end was not seen"); /* B10 */
    if (job_is_over(job))
        release(job);
}

void job_graph(struct job *job, enum job_switch result)
{
    if (job_is_over(job))
        return;
    if (result == JOB_SWITCHED)
        latch(job, BJ_OUTCOME_PIVOTED);
    else if (result == JOB_NOT_SWITCHED)
        latch(job, BJ_OUTCOME_COPIED);
    else
        latch_switch_unknown(job);
    if (job->status == JOB_STATUS_NULL)
        release(job);
}

void job_lost(struct job *job, int error, const char *reason)
{
    if (!job_is_over(job) && job->end == JOB_END_COMPLETED) {
        latch_switch_unknown(job);
    } else if (!job_is_over(job)) {
        job->lost_error = error;
        set_text(job, reason);
        latch(job, BJ_OUTCOME_LOST);
    }

    struct job_waiter *next;
    for (struct job_waiter *w = job->waiters; w; w = next) {
        next = w->next;
        answer(job, w, error, NULL, reason);
    }
    release(job);
}

/* ------------------------------------------------------------------ replies */

/* QEMU knows of no such job although we have seen no end: ask what there is. */
static bool ask_if_gone(struct job *job, const struct job_reply *reply)
{
    if (!reply->no_job)
        return false;
    job->gone_asked = true;
    job->port->query(job);
    return true;
}

static void complete_refused(struct job *job, const struct job_reply *reply)
{
    job->complete = JOB_REQUEST_NONE;
    if (is_ending(job)) {
        decide(job); /* it was too late, or another client's verb came first */
    } else if ((stands_still(job) || job->stood) && job->completes < COMPLETES_MAX &&
               has_waiter(job, is_pivot)) {
        job->complete = JOB_REQUEST_WANTED; /* B33 */
        complete_if_due(job);
        watch_standstill(job);
    } else if (!ask_if_gone(job, reply)) {
        answer_all(job, is_pivot, reply->error, reply->error_class, reply->text);
    }
    cancel_if_due(job);
}

static void complete_reply(struct job *job, const struct job_reply *reply)
{
    if (reply->accepted) {
        job->complete = JOB_REQUEST_ACCEPTED;
        decide(job);
    } else {
        complete_refused(job, reply);
    }
}

static void soft_cancel_refused(struct job *job, const struct job_reply *reply)
{
    job->cancel = JOB_REQUEST_NONE;
    if (is_ending(job))
        decide(job);
    else if (stands_still(job))
        stall(job, JOB_STALL_PAUSED, "it is paused, and QEMU refuses a soft cancel then");
    else if (!ask_if_gone(job, reply))
        answer_all(job, is_plain_soft_abort, reply->error, reply->error_class, reply->text);
}

static void force_refused(struct job *job, const struct job_reply *reply)
{
    job->force = JOB_REQUEST_NONE;
    if (is_ending(job))
        decide(job);
    else if (!ask_if_gone(job, reply))
        answer_all(job, is_force_abort, reply->error, reply->error_class, reply->text);
}

static void cancel_reply(struct job *job, const struct job_reply *reply)
{
    if (!reply->accepted) {
        soft_cancel_refused(job, reply);
        return;
    }
    job->cancel = JOB_REQUEST_ACCEPTED;
    answer_all(job, is_async_soft_abort, BJ_OK, NULL, NULL);
    decide(job);
}

static void force_reply(struct job *job, const struct job_reply *reply)
{
    if (!reply->accepted) {
        force_refused(job, reply);
        return;
    }
    job->force = JOB_REQUEST_ACCEPTED;
    answer_all(job, is_async_force_abort, BJ_OK, NULL, NULL);
    decide(job);
}

/* The library's own dismiss: refused means that someone else was faster (B40). */
static void dismissed(struct job *job)
{
    if (!job->traits.has_status || job->status == JOB_STATUS_NULL)
        release(job);
}

static void verb_reply(struct job *job, struct job_waiter *waiter, enum job_verb verb,
                       const struct job_reply *reply)
{
    if (verb == JOB_PAUSE && reply->accepted)
        stall(job, JOB_STALL_PAUSED, "it is paused");
    if (verb == JOB_RESUME && reply->accepted)
        unstall(job);
    if (!waiter)
        return;

    if (reply->accepted && verb == JOB_FINALIZE && !job_is_over(job))
        return; /* answered with the outcome */
    if (reply->accepted)
        answer(job, waiter, BJ_OK, NULL, NULL);
    else if (reply->no_job && job_is_over(job))
        answer(job, waiter, verb == JOB_DISMISS ? BJ_OK : BJ_E_STATE, NULL,
               verb == JOB_DISMISS ? NULL : "it is over"); /* B39 */
    else
        answer(job, waiter, reply->error, reply->error_class, reply->text);
}

void job_reply(struct job *job, enum job_verb verb, struct job_waiter *waiter,
               const struct job_reply *reply)
{
    switch (verb) {
    case JOB_COMPLETE:
        complete_reply(job, reply);
        break;
    case JOB_CANCEL:
        cancel_reply(job, reply);
        break;
    case JOB_CANCEL_FORCE:
        force_reply(job, reply);
        break;
    case JOB_DISMISS:
        if (waiter)
            verb_reply(job, waiter, verb, reply);
        else
            dismissed(job);
        break;
    default:
        verb_reply(job, waiter, verb, reply);
        break;
    }
    if (job->status == JOB_STATUS_NULL && job_is_over(job))
        release(job);
}
