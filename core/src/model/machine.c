/* SPDX-License-Identifier: MIT */
/*
 * The job machine; see machine.h. Facts come in at the bottom of this file; above them the rules.
 */
#include "model/machine.h"
#include "base/text.h"

#include <string.h>

/* 5.2 refuses complete in standby, where any change of the block graph can put a job for a moment:
 * sent again when it is ready again, but not for ever (B33). */
#define COMPLETES_MAX 16
#define DISMISSES_MAX 3

/* Bytes of an error text that are kept: QEMU's are sentences. */
#define TEXT_MAX 4096

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

/* Its work is done or given up; what is left is QEMU's. */
static bool is_ending(const struct job *job)
{
    return job->end != JOB_END_NONE || job->status >= JOB_STATUS_WAITING;
}

/* No verb changes anything any more. A job that waits or is pending can still be aborted. */
static bool is_beyond_verbs(const struct job *job)
{
    return job->end != JOB_END_NONE || job->status >= JOB_STATUS_ABORTING;
}

static bool is_under_way(enum job_request request)
{
    return request != JOB_REQUEST_NONE;
}

static bool is_aborting(const struct job *job)
{
    return is_under_way(job->cancel) || is_under_way(job->force);
}

static bool abort_is_accepted(const struct job *job)
{
    return job->cancel == JOB_REQUEST_ACCEPTED || job->force == JOB_REQUEST_ACCEPTED;
}

/* Comes to its end without anyone's help. A soft cancel of a ready job only means "finish the
 * copy", and a copy that stops waits to be resumed. */
static bool will_end(const struct job *job)
{
    return job->force == JOB_REQUEST_ACCEPTED ||
           (job->cancel == JOB_REQUEST_ACCEPTED && !job->ready);
}

static bool stands_still(const struct job *job)
{
    return job->status == JOB_STATUS_PAUSED || job->status == JOB_STATUS_STANDBY;
}

static void set_text(struct job *job, const char *text)
{
    text_unref(job->text);
    job->text = text ? text_printf("%.*s", TEXT_MAX, text) : NULL;
}

/* ------------------------------------------------------------------ waiters */

/* How many want what pursue() decides on: looking through ten thousand waiters for each new one
 * would cost their square. NULL: nothing of the kind, or not yet. */
static size_t *count_of(struct job *job, const struct job_waiter *waiter)
{
    if (waiter->question == JOB_ASK_PIVOT)
        return waiter->held ? NULL : &job->pivots;
    if (waiter->question == JOB_ASK_ABORT)
        return waiter->flags & BJ_ABORT_FORCE ? &job->force_aborts : &job->soft_aborts;
    return NULL;
}

static void count_waiter(struct job *job, const struct job_waiter *waiter, bool comes)
{
    size_t *count = count_of(job, waiter);
    if (count)
        *count = comes ? *count + 1 : *count - 1;
}

static void link_waiter(struct job *job, struct job_waiter *waiter)
{
    waiter->prev = NULL;
    waiter->next = job->waiters;
    if (job->waiters)
        job->waiters->prev = waiter;
    job->waiters = waiter;
    count_waiter(job, waiter, true);
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
    count_waiter(job, waiter, false);
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

/* One that is held back has no part in what becomes of a complete. */
static bool wants_complete(const struct job *job, const struct job_waiter *waiter)
{
    return is_pivot(job, waiter) && !waiter->held;
}

static bool is_ready_wait(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_READY;
}

static bool is_released_wait(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_RELEASED;
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

/* What a refused soft cancel is the end of; an escalating one still has its force. */
static bool is_plain_soft_abort(const struct job *job, const struct job_waiter *waiter)
{
    return is_soft_abort(job, waiter) && waiter->force_after_ms == 0;
}

static bool is_async_abort(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_ABORT && (waiter->flags & BJ_ABORT_ASYNC);
}

static bool is_async_soft_abort(const struct job *job, const struct job_waiter *waiter)
{
    return is_async_abort(job, waiter) && is_soft_abort(job, waiter);
}

static bool waits_for_outcome(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    if (waiter->question == JOB_ASK_VERB)
        return waiter->verb == JOB_FINALIZE;
    return waiter->question != JOB_ASK_RELEASED;
}

/* A job that stands still does not carry out a pivot nor take a soft cancel; one that QEMU has
 * accepted takes its course. */
static bool is_hurt_by_pause(const struct job *job, const struct job_waiter *waiter)
{
    return is_pivot(job, waiter) || (!will_end(job) && is_plain_soft_abort(job, waiter));
}

/* Nobody who paused it will resume it: those who wait for ready or the end must know as well,
 * unless it is being aborted. */
static bool is_hurt_by_error_stop(const struct job *job, const struct job_waiter *waiter)
{
    bool waits = waiter->question == JOB_ASK_READY || waiter->question == JOB_ASK_DONE ||
                 waiter->question == JOB_ASK_RELEASED;
    bool ends = is_under_way(job->force) || (is_under_way(job->cancel) && !job->ready);
    return (waits && !ends) || is_hurt_by_pause(job, waiter);
}

/* Pending waits for finalize. A soft cancel that came before it had its effect; only one that is
 * sent in pending ends the job. */
static bool is_hurt_by_pending(const struct job *job, const struct job_waiter *waiter)
{
    bool copied = job->cancel == JOB_REQUEST_ACCEPTED && !job->cancelled_in_pending;
    return is_pivot(job, waiter) || (copied && is_plain_soft_abort(job, waiter));
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

/* -------------------------------------------------------------------- verbs */

/* The program has sent such a verb by itself, and has no reply. */
static bool awaits_raw(const struct job *job)
{
    return job->raw[JOB_COMPLETE] + job->raw[JOB_CANCEL] + job->raw[JOB_CANCEL_FORCE] > 0;
}

static void send_shared(struct job *job, enum job_request *request, enum job_verb verb)
{
    *request = JOB_REQUEST_SENT;
    job->port->send(job, verb, NULL);
}

static bool force_is_due(const struct job *job)
{
    return !is_under_way(job->force) && job->force_aborts > 0 && !awaits_raw(job);
}

/* Once, and never again while a complete may yet be accepted: only its refusal, or a job that is
 * pending for its finalize, makes a soft cancel meaningful. */
static bool cancel_is_due(const struct job *job)
{
    bool too_late = job->complete == JOB_REQUEST_SENT ||
                    (job->complete == JOB_REQUEST_ACCEPTED && !job->pending);
    return !is_aborting(job) && !too_late && !job->cancel_refused && job->stall == JOB_STALL_NONE &&
           job->soft_aborts > 0 && !awaits_raw(job);
}

bool job_can_pivot(const struct job *job)
{
    bool could = !is_aborting(job) && job->ready && !stands_still(job) && !is_ending(job);
    return !job->away && !awaits_raw(job) && (could || is_under_way(job->complete));
}

/* Once, when QEMU will take it (B31), and never beside an abort (B34), nor beside what the program
 * has sent by itself and has no reply to (B32). */
static bool complete_is_due(const struct job *job)
{
    return !is_under_way(job->complete) && job_can_pivot(job) && job->pivots > 0;
}

/* The one place that decides what is sent, from what the waiters want now: whoever has left wants
 * nothing. An abort goes before a pivot that has not been sent. */
static void pursue(struct job *job)
{
    if (is_beyond_verbs(job) || job_is_over(job) || job->gone_asked || job->away)
        return;
    if (force_is_due(job))
        send_shared(job, &job->force, JOB_CANCEL_FORCE);
    if (cancel_is_due(job)) {
        job->cancelled_in_pending = job->pending;
        send_shared(job, &job->cancel, JOB_CANCEL);
    }
    if (complete_is_due(job)) {
        job->completes++;
        job->stood = false;
        send_shared(job, &job->complete, JOB_COMPLETE);
    }
}

/* A standstill of which nobody knows the reason: most last microseconds (any change of the block
 * graph drains the jobs), so it becomes a stall only if it lasts, and only if it hurts someone. */
static bool is_unexplained(const struct job *job)
{
    return stands_still(job) && job->stall == JOB_STALL_NONE && has_waiter(job, is_hurt_by_pause);
}

/* Someone waits for a pivot whose complete QEMU may have taken before the connection ended: it is
 * given time to show. */
static bool is_in_doubt(const struct job *job)
{
    return job->complete == JOB_REQUEST_UNKNOWN && job->pivots > 0 && !job->doubted;
}

static void watch_standstill(struct job *job)
{
    bool wanted = (is_unexplained(job) || is_in_doubt(job)) && !is_ending(job) &&
                  !job_is_over(job) && !job->away;
    if (wanted == job->timer_runs)
        return;
    job->timer_runs = wanted;
    job->port->timer(job, wanted ? job->traits.stall_ms : 0);
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

static void answer_all_over(struct job *job, waiter_test *test)
{
    struct job_waiter *next;
    for (struct job_waiter *w = job->waiters; w; w = next) {
        next = w->next;
        if (test(job, w))
            answer_over(job, w);
    }
}

static void dismiss_if_due(struct job *job)
{
    bool due = job->status == JOB_STATUS_CONCLUDED || !job->traits.has_status;

    if (!job->traits.ours || job->dismissing || job->released || !due || job->away ||
        job->outcome == BJ_OUTCOME_LOST)
        return;
    job->dismissing = true;
    job->dismisses++;
    job->port->send(job, JOB_DISMISS, NULL);
}

static void release(struct job *job)
{
    if (job->released)
        return;
    job->released = true;
    answer_all_over(job, is_released_wait);
    job->port->tell(job, JOB_NEWS_RELEASED, NULL);
}

static void latch(struct job *job, bj_outcome outcome)
{
    job->outcome = outcome;
    job->stall = JOB_STALL_NONE;
    watch_standstill(job);
    job->port->tell(job, JOB_NEWS_ENDED, text_str(job->text));
    answer_all_over(job, waits_for_outcome);

    dismiss_if_due(job);
    if (!job->traits.has_status && !job->traits.ours)
        release(job); /* before 3.0 the terminal event is the last that is heard of a run */
}

static bool is_in_flight(const struct job *job)
{
    return job->complete == JOB_REQUEST_SENT || job->cancel == JOB_REQUEST_SENT ||
           job->force == JOB_REQUEST_SENT || awaits_raw(job);
}

/* A mirror or an active commit: COMPLETED alone does not say how it ended. */
static bool may_switch(const struct job *job)
{
    return job->traits.switches || job->ready;
}

static bool needs_graph(const struct job *job)
{
    return job->end == JOB_END_COMPLETED && may_switch(job) &&
           job->complete != JOB_REQUEST_ACCEPTED;
}

/* Which verb was it (B14)? Where it was not our complete it may have been another client's, even if
 * QEMU accepted our cancel after it: the graph is looked at (B15). */
static void decide_completed(struct job *job)
{
    if (!may_switch(job)) {
        latch(job, BJ_OUTCOME_COMPLETED);
    } else if (job->complete == JOB_REQUEST_ACCEPTED) {
        latch(job, BJ_OUTCOME_PIVOTED); /* also after a late force on 5.2 (B17) */
    } else if (!is_in_flight(job) && !job->graph_asked && !job->away) {
        job->graph_asked = true; /* else the reply will tell (B02), or QEMU when it is back */
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
    job->heard = true;
    set_text(job, error);
    decide(job);
}

/* Nobody could look at the graph: then it is what the verb that was accepted says. */
static void latch_unseen(struct job *job, const char *reason)
{
    if (abort_is_accepted(job) && job->complete == JOB_REQUEST_NONE && !job->maybe_completing) {
        latch(job, BJ_OUTCOME_COPIED);
        return;
    }
    set_text(job, reason);
    latch(job, BJ_OUTCOME_COMPLETED);
}

static void answer_hurt(struct job *job)
{
    waiter_test *test = job->stall == JOB_STALL_ERROR ? is_hurt_by_error_stop : is_hurt_by_pause;
    if (job->stall != JOB_STALL_NONE)
        answer_all(job, test, BJ_E_STALLED, NULL, text_str(job->text));
}

/* A stop by an error stays one until it is resumed, whatever else holds the job as well. */
static void stall(struct job *job, enum job_stall kind, const char *reason)
{
    if (is_ending(job))
        return;
    if (job->stall < kind) {
        job->stall = kind;
        job->paused_rows = 0; /* a list that is on its way may be older */
        set_text(job, reason);
        watch_standstill(job);
        job->port->tell(job, JOB_NEWS_STALLED, reason);
    }
    answer_hurt(job);
}

static void unstall(struct job *job)
{
    if (job->stall == JOB_STALL_NONE)
        return;
    job->stall = JOB_STALL_NONE;
    if (stands_still(job) && !job->traits.has_status)
        job->status = job->ready ? JOB_STATUS_READY : JOB_STATUS_RUNNING; /* no event says so */
    set_text(job, NULL);
    job->port->tell(job, JOB_NEWS_RESUMED, NULL);
}

static void goes_on(struct job *job)
{
    unstall(job);
    if (job->pause_seen)
        job->pausing = false;
}

/* Complete goes out first of all: the pivot must not wait for those who are told. */
static bool latch_ready(struct job *job)
{
    if (job->ready || job_is_over(job))
        return false;
    job->ready = true;
    pursue(job);
    return true;
}

static void announce_ready(struct job *job)
{
    job->port->tell(job, JOB_NEWS_READY, NULL);
    answer_all(job, is_ready_wait, BJ_OK, NULL, NULL);
}

/* ------------------------------------------------------------------ callers */

static const char *const pending_text = "it is pending: finalize it, then wait for done";

static void answer_stalled(struct job *job, struct job_waiter *waiter)
{
    answer(job, waiter, BJ_E_STALLED, NULL, text_str(job->text));
}

static void ask_ready(struct job *job, struct job_waiter *waiter)
{
    if (job->ready)
        answer(job, waiter, BJ_OK, NULL, NULL);
    else if (job->traits.never_ready)
        answer(job, waiter, BJ_E_STATE, NULL, "a job of this type is never ready: wait for done");
    else if (job->stall == JOB_STALL_ERROR && is_hurt_by_error_stop(job, waiter))
        answer_stalled(job, waiter);
}

static void ask_done(struct job *job, struct job_waiter *waiter)
{
    if (job->stall == JOB_STALL_ERROR && is_hurt_by_error_stop(job, waiter))
        answer_stalled(job, waiter);
}

static void ask_pivot(struct job *job, struct job_waiter *waiter)
{
    if (job->traits.never_ready)
        answer(job, waiter, BJ_E_STATE, NULL, "a job of this type has no pivot: wait for done");
    else if (is_aborting(job))
        answer(job, waiter, BJ_E_STATE, NULL, "it is being aborted"); /* B34 */
    else if (job->pending)
        answer(job, waiter, BJ_E_STALLED, NULL, pending_text); /* B42 */
    else if (job->stall != JOB_STALL_NONE)
        answer_stalled(job, waiter);
    else if (!job->ready && (waiter->flags & BJ_PIVOT_ONLY_IF_READY))
        answer(job, waiter, BJ_E_NOT_READY, NULL, NULL);
}

static const char *const pivoting_text = "a pivot is under way: only force aborts it";

static void ask_soft_abort(struct job *job, struct job_waiter *waiter)
{
    bool async = is_async_abort(job, waiter);
    bool pivoting = is_under_way(job->complete) && !job->pending;

    job->cancel_refused = false; /* that was another caller's */
    if (async && abort_is_accepted(job))
        answer(job, waiter, BJ_OK, NULL, NULL);
    else if (job->pending && is_hurt_by_pending(job, waiter))
        answer(job, waiter, BJ_E_STALLED, NULL, pending_text);
    else if (job->stall != JOB_STALL_NONE && is_hurt_by_pause(job, waiter))
        answer_stalled(job, waiter);
    else if (async && pivoting && !is_aborting(job))
        answer(job, waiter, BJ_E_STATE, NULL, pivoting_text);
}

static void ask_abort(struct job *job, struct job_waiter *waiter)
{
    if (!is_force_abort(job, waiter))
        ask_soft_abort(job, waiter);
    else if (is_async_abort(job, waiter) && job->force == JOB_REQUEST_ACCEPTED)
        answer(job, waiter, BJ_OK, NULL, NULL);
}

static void note_verb_sent(struct job *job, enum job_verb verb)
{
    job->resuming |= verb == JOB_RESUME;
    if (verb == JOB_PAUSE) {
        job->pausing = true;
        job->pause_seen = stands_still(job);
    }
}

static const char *const away_text = "the connection to QEMU is being made again: ask when it is";

static void ask_dismiss_over(struct job *job, struct job_waiter *waiter)
{
    bool may_be_there = !job->released || (job->traits.kept && !job->traits.has_status);

    if (!may_be_there || job->traits.ours)
        answer(job, waiter, BJ_OK, NULL, NULL); /* ours we dismiss ourselves, once (B40) */
    else if (job->away)
        answer(job, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    else
        job->port->send(job, JOB_DISMISS, waiter);
}

static void ask_verb(struct job *job, struct job_waiter *waiter)
{
    if (job->outcome == BJ_OUTCOME_LOST) {
        answer_over(job, waiter);
    } else if (job_is_over(job) && waiter->verb == JOB_DISMISS) {
        ask_dismiss_over(job, waiter);
    } else if (job_is_over(job)) {
        answer(job, waiter, BJ_E_STATE, NULL, "it is over");
    } else if (job->away) {
        answer(job, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    } else {
        note_verb_sent(job, waiter->verb);
        job->port->send(job, waiter->verb, waiter);
    }
}

static void ask_running(struct job *job, struct job_waiter *waiter)
{
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
        ask_abort(job, waiter);
        break;
    case JOB_ASK_VERB:
        break;
    }
    pursue(job);
    watch_standstill(job);
}

void job_ask(struct job *job, struct job_waiter *waiter)
{
    link_waiter(job, waiter);

    if (waiter->question == JOB_ASK_VERB)
        ask_verb(job, waiter);
    else if (!job_is_over(job))
        ask_running(job, waiter);
    else if (waiter->question != JOB_ASK_RELEASED || job->released)
        answer_over(job, waiter);
}

void job_leave(struct job *job, struct job_waiter *waiter)
{
    unlink_waiter(job, waiter);
    pursue(job); /* a pivot may have waited for this abort to be over */
    watch_standstill(job);
}

void job_escalate(struct job *job, struct job_waiter *waiter)
{
    count_waiter(job, waiter, false);
    waiter->flags |= BJ_ABORT_FORCE;
    count_waiter(job, waiter, true);
    waiter->force_after_ms = 0;
    pursue(job);
}

void job_unhold(struct job *job, struct job_waiter *waiter)
{
    waiter->held = false;
    count_waiter(job, waiter, true);
    pursue(job);
}

/* -------------------------------------------------------------------- facts */

void job_ready_event(struct job *job)
{
    job->heard = true;
    if (latch_ready(job))
        announce_ready(job);
}

/* Without a BLOCK_JOB event (a job without a disk, or a transaction that failed before the job ran)
 * only QEMU's list has the error. And QEMU answers in order: when it has answered a query, a reply
 * to an earlier verb that has not come will not come. */
static void concluded(struct job *job)
{
    bool ask = job->end == JOB_END_NONE || is_in_flight(job);

    if (job_is_over(job))
        dismiss_if_due(job);
    else if (ask)
        job->port->query(job);
}

static void forget_in_flight(struct job *job)
{
    if (job->complete == JOB_REQUEST_SENT)
        job->complete = JOB_REQUEST_NONE;
    if (job->cancel == JOB_REQUEST_SENT)
        job->cancel = JOB_REQUEST_NONE;
    if (job->force == JOB_REQUEST_SENT)
        job->force = JOB_REQUEST_NONE;
    decide(job);
}

/* Null, and no terminal event: what the statuses on the way say. */
static void vanished(struct job *job)
{
    if (job_is_over(job) || job->end != JOB_END_NONE)
        return;
    if (job->gap)
        job_lost(job, BJ_E_JOB_LOST, "it vanished, and its end was not seen");
    else if (job->aborted && !abort_is_accepted(job))
        set_end(job, JOB_END_FAILED, "it was aborted, and QEMU gave no reason");
    else if (job->aborted || (abort_is_accepted(job) && !job->finished))
        set_end(job, JOB_END_CANCELLED, NULL);
    else if (job->finished)
        set_end(job, JOB_END_COMPLETED, NULL);
    else
        job_lost(job, BJ_E_JOB_LOST, "it vanished, and its end was not seen");
}

/* Also of a status that only a row told. */
static void note_status(struct job *job, enum job_status status)
{
    job->status = status;
    if (stands_still(job))
        job->stood = job->pause_seen = true;
    if (status == JOB_STATUS_WAITING || status == JOB_STATUS_PENDING)
        job->finished = true;
    if (status == JOB_STATUS_ABORTING)
        job->aborted = true;
}

static bool is_going_on(enum job_status status)
{
    return status == JOB_STATUS_RUNNING || status == JOB_STATUS_READY ||
           status == JOB_STATUS_WAITING || status == JOB_STATUS_PENDING;
}

void job_status_event(struct job *job, enum job_status status)
{
    if (job->released || status == JOB_STATUS_NONE)
        return;
    job->heard = true;
    if (status == job->status) {
        if (is_going_on(status))
            goes_on(job); /* it stood still while nobody listened */
        return;
    }
    job->traits.has_status = true;
    note_status(job, status);
    bool became_ready = status == JOB_STATUS_READY && latch_ready(job);
    if (status != JOB_STATUS_NULL)
        job->port->tell(job, JOB_NEWS_STATUS, job_status_name(status));

    if (is_going_on(status))
        goes_on(job);
    if (became_ready)
        announce_ready(job);
    if (status == JOB_STATUS_CONCLUDED)
        concluded(job);
    if (status == JOB_STATUS_NULL)
        vanished(job);

    pursue(job);
    watch_standstill(job);
    if (status == JOB_STATUS_NULL && job_is_over(job))
        release(job);
}

void job_completed_event(struct job *job, const char *error)
{
    set_end(job, error ? JOB_END_FAILED : JOB_END_COMPLETED, error);
}

void job_cancelled_event(struct job *job)
{
    set_end(job, JOB_END_CANCELLED, NULL);
}

/* What stands still after force was accepted is not ended by it: before 2.12 it only finishes the
 * copy of a ready mirror. Sent again it resumes the job. */
static void refute_force(struct job *job)
{
    if (job->force == JOB_REQUEST_ACCEPTED)
        job->force = JOB_REQUEST_NONE;
}

void job_stopped_event(struct job *job, const char *reason)
{
    job->heard = true;
    job->resuming = false; /* what was resumed has stopped again */
    job->paused_rows = 0;
    refute_force(job);
    stall(job, JOB_STALL_ERROR, reason);
    pursue(job);
}

static void set_pending(struct job *job)
{
    job->pending = true;
    answer_all(job, is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
    pursue(job);
}

void job_pending_event(struct job *job)
{
    job->heard = true;
    if (job->end == JOB_END_NONE)
        set_pending(job);
}

void job_tick(struct job *job)
{
    job->timer_runs = false;
    if (stands_still(job)) {
        stall(job, JOB_STALL_PAUSED,
              "it stands still: another client has paused it, or its I/O hangs");
    } else if (is_in_doubt(job)) {
        job->doubted = true;
        job->port->query(job);
    }
}

/* What a list says may be older than the last event. */
static void note_concluded(struct job *job)
{
    if (job->status != JOB_STATUS_NULL)
        note_status(job, JOB_STATUS_CONCLUDED);
}

static void concluded_row(struct job *job, const char *error)
{
    note_concluded(job);
    if (job->end != JOB_END_NONE)
        forget_in_flight(job);
    else if (!error)
        set_end(job, JOB_END_COMPLETED, NULL);
    else if (strcmp(error, "Operation canceled") == 0) /* B21 */
        set_end(job, JOB_END_CANCELLED, NULL);
    else
        set_end(job, JOB_END_FAILED, error);
}

/* Events, where there are any, know better than a row (B28); only who comes later learns from it.
 */
static void adopt_status(struct job *job, enum job_status status)
{
    bool news = job->status == JOB_STATUS_NONE || !job->traits.has_status;
    if (!news || status == JOB_STATUS_NONE)
        return;
    note_status(job, status);
    if (status == JOB_STATUS_PENDING)
        set_pending(job); /* in a list it is only seen when it waits for finalize */
}

/* Before 3.0 no event tells that another client has paused it or resumed it, and a list shows the
 * drains of a moment, too, and may be older than what is known: so twice (B13). */
static void adopt_pause(struct job *job, const struct job_row *row)
{
    bool paused = row->paused;
    if (job->traits.has_status || row->hides_pause)
        return;
    bool again = paused ? job->paused_rows > 0 : job->paused_rows < 0;
    job->paused_rows = (paused ? 1 : -1) * (again ? 2 : 1);
    if (paused && again) {
        refute_force(job);
        stall(job, JOB_STALL_PAUSED, "it is paused");
    } else if (again) {
        unstall(job);
    } else if (job->stall != JOB_STALL_NONE && (!paused || job->force == JOB_REQUEST_ACCEPTED)) {
        job->port->query(job); /* nobody else may ask a second time */
    }
}

/* QEMU lists a job that a verb was told is not there: then the verb was refused. */
static void not_gone(struct job *job)
{
    job->gone_asked = false;
    if (!is_under_way(job->complete))
        answer_all(job, wants_complete, BJ_E_REFUSED, "DeviceNotActive", NULL);
    if (!is_aborting(job))
        answer_all(job, is_plain_soft_abort, BJ_E_REFUSED, "DeviceNotActive", NULL);
    if (!is_under_way(job->force))
        answer_all(job, is_force_abort, BJ_E_REFUSED, "DeviceNotActive", NULL);
}

/* Our dismiss was refused, and there it still is: asked again, but not for ever. */
static void still_there(struct job *job)
{
    if (job->dismisses < DISMISSES_MAX)
        dismiss_if_due(job);
    else
        release(job);
}

/* It was ready when QEMU was back, and still is: whatever happened to our complete, it had no
 * effect. */
static void complete_was_not_taken(struct job *job)
{
    job->doubted = false;
    if (job->complete != JOB_REQUEST_UNKNOWN)
        return;
    if (job->traits.replaces)
        answer_all(job, wants_complete, BJ_E_DISCONNECTED, NULL,
                   "whether QEMU has taken complete before the connection ended can't be told, and "
                   "a second one might end this QEMU: wait for done, or abort it");
    else
        job->complete = JOB_REQUEST_NONE;
}

void job_row(struct job *job, const struct job_row *row)
{
    if (job->released)
        return;
    if (job_is_over(job)) {
        still_there(job);
        return;
    }
    bool ready = row->ready || row->status == JOB_STATUS_READY || row->status == JOB_STATUS_STANDBY;
    if (ready && latch_ready(job))
        announce_ready(job);
    if (row->status == JOB_STATUS_CONCLUDED) {
        concluded_row(job, row->error);
        return;
    }
    adopt_status(job, row->status);
    if (row->io_error && job->status == row->status)
        stall(job, JOB_STALL_ERROR, "an I/O error stopped it");
    adopt_pause(job, row);
    if (job->gone_asked)
        not_gone(job);
    if (job->doubted && ready && !is_ending(job))
        complete_was_not_taken(job);
    if (job->complete == JOB_REQUEST_UNKNOWN && !ready && row->status < JOB_STATUS_WAITING)
        job->complete = JOB_REQUEST_NONE; /* QEMU takes none before ready */
    pursue(job);
    watch_standstill(job);
}

/* A job that completes or fails has an event in every QEMU, and it comes before the first list that
 * lacks the job. So what is gone without one from a QEMU that has none for a cancel was cancelled
 * (B57). */
static void make_up_end(struct job *job)
{
    job->made_up = true;
    set_end(job, JOB_END_CANCELLED, NULL);
}

void job_absent(struct job *job)
{
    if (job->released)
        return;
    if (!job_is_over(job) && job->end == JOB_END_NONE) {
        if (job->traits.silent)
            make_up_end(job);
        else
            job_lost(job, BJ_E_JOB_LOST, "it is gone, and its end was not seen"); /* B10 */
    }
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
        latch_unseen(job, "it completed by another client's verb, and whether the disk was "
                          "switched can't be told");
    if (job->status == JOB_STATUS_NULL)
        release(job);
}

static bool is_anyone(const struct job *job, const struct job_waiter *waiter)
{
    (void)job, (void)waiter;
    return true;
}

void job_lost(struct job *job, int error, const char *reason)
{
    if (!job_is_over(job) && job->end == JOB_END_COMPLETED) {
        latch_unseen(job, "it completed, and the connection ended before it could be told "
                          "whether the disk was switched");
    } else if (!job_is_over(job)) {
        job->lost_error = error;
        set_text(job, reason);
        latch(job, BJ_OUTCOME_LOST);
    }
    answer_all(job, is_anyone, error, NULL, reason);
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
    /* In standby 5.2 refuses what it takes a moment later (B33). */
    bool again = job->stood && job->completes < COMPLETES_MAX;

    job->complete = JOB_REQUEST_NONE;
    if (!is_ending(job) && !again && !ask_if_gone(job, reply))
        answer_all(job, wants_complete, reply->error, reply->error_class, reply->text);
}

static void complete_accepted(struct job *job)
{
    job->complete = JOB_REQUEST_ACCEPTED;
    if (!job->pending)
        answer_all(job, is_async_soft_abort, BJ_E_STATE, NULL, pivoting_text);
}

static void complete_reply(struct job *job, const struct job_reply *reply)
{
    if (reply->accepted)
        complete_accepted(job);
    else
        complete_refused(job, reply);
}

static void cancel_refused(struct job *job, const struct job_reply *reply)
{
    job->cancel = JOB_REQUEST_NONE;
    job->cancel_refused = true;
    if (is_beyond_verbs(job))
        return;
    if (stands_still(job))
        stall(job, JOB_STALL_PAUSED, "it is paused, and QEMU refuses a soft cancel then");
    else if (!ask_if_gone(job, reply))
        answer_all(job, is_plain_soft_abort, reply->error, reply->error_class, reply->text);
    answer_hurt(job); /* those who had hoped for the cancel */
}

/* RHEL 6.2 answers a cancel when the job is gone, and says no more of it; 1.0.50 has the same words
 * and an event (B57). */
static void ask_if_over(struct job *job)
{
    if (job->traits.silent && job->end == JOB_END_NONE)
        job->port->query(job);
}

static void cancel_accepted(struct job *job)
{
    job->cancel = JOB_REQUEST_ACCEPTED;
    answer_all(job, is_async_soft_abort, BJ_OK, NULL, NULL);
    ask_if_over(job);
    if (job->pending)
        answer_all(job, is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

static void cancel_reply(struct job *job, const struct job_reply *reply)
{
    if (reply->accepted)
        cancel_accepted(job);
    else
        cancel_refused(job, reply);
}

static void force_accepted(struct job *job)
{
    job->force = JOB_REQUEST_ACCEPTED;
    answer_all(job, is_async_abort, BJ_OK, NULL, NULL);
    ask_if_over(job);
    if (job->stall != JOB_STALL_NONE && !job->traits.has_status)
        job->port->query(job); /* did that stop come before it, or after it? */
}

static void force_reply(struct job *job, const struct job_reply *reply)
{
    if (reply->accepted) {
        force_accepted(job);
        return;
    }
    job->force = JOB_REQUEST_NONE;
    if (!is_beyond_verbs(job) && !ask_if_gone(job, reply))
        answer_all(job, is_force_abort, reply->error, reply->error_class, reply->text);
    answer_hurt(job);
}

/* The library's own dismiss. Refused: someone else was faster, or QEMU could not; ask which. */
static void dismiss_reply(struct job *job, const struct job_reply *reply)
{
    job->dismissing = reply->accepted;
    if (reply->accepted ? !job->traits.has_status : reply->no_job)
        release(job);
    else if (!reply->accepted && !job->released)
        job->port->query(job);
}

static void verb_refused(struct job *job, struct job_waiter *waiter, const struct job_reply *reply)
{
    bool gone =
        job->released || job->status == JOB_STATUS_NULL || (reply->no_job && job_is_over(job));

    /* Our own state says more than QEMU's class and text (B39). */
    if (waiter->verb == JOB_DISMISS && gone)
        answer(job, waiter, BJ_OK, NULL, NULL);
    else if (waiter->verb != JOB_DISMISS && job_is_over(job))
        answer(job, waiter, BJ_E_STATE, NULL, "it is over");
    else
        answer(job, waiter, reply->error, reply->error_class, reply->text);
}

/* Unless someone has resumed it again before we hear of it. */
static void pause_accepted(struct job *job)
{
    if (job->pausing)
        stall(job, JOB_STALL_PAUSED, "it is paused");
    job->pausing = false;
}

/* No event need follow: it may not have come to a standstill yet. A stop that came since may have
 * been before it or after it: the next event tells, or else QEMU's list. */
static void resume_accepted(struct job *job)
{
    if (job->resuming)
        unstall(job);
    else if (job->stall != JOB_STALL_NONE && !job->traits.has_status)
        job->port->query(job);
}

static void verb_reply(struct job *job, enum job_verb verb, struct job_waiter *waiter,
                       const struct job_reply *reply)
{
    if (verb == JOB_PAUSE && reply->accepted)
        pause_accepted(job);
    if (verb == JOB_RESUME && reply->accepted)
        resume_accepted(job);

    if (!waiter)
        return;
    if (!reply->accepted)
        verb_refused(job, waiter, reply);
    else if (verb != JOB_FINALIZE || job_is_over(job))
        answer(job, waiter, BJ_OK, NULL, NULL); /* finalize is answered with the outcome */
}

void job_reply(struct job *job, enum job_verb verb, struct job_waiter *waiter,
               const struct job_reply *reply)
{
    if (waiter)
        verb_reply(job, verb, waiter, reply);
    else if (verb == JOB_COMPLETE)
        complete_reply(job, reply);
    else if (verb == JOB_CANCEL)
        cancel_reply(job, reply);
    else if (verb == JOB_CANCEL_FORCE)
        force_reply(job, reply);
    else if (verb == JOB_DISMISS && job->dismissing)
        dismiss_reply(job, reply);
    else
        verb_reply(job, verb, NULL, reply);

    decide(job); /* an end may have waited for this reply */
    pursue(job);
    watch_standstill(job);
    if (job->status == JOB_STATUS_NULL && job_is_over(job))
        release(job);
}

/* ------------------------------------------------------------- raw commands */

static bool is_shared_verb(enum job_verb verb)
{
    return verb == JOB_COMPLETE || verb == JOB_CANCEL || verb == JOB_CANCEL_FORCE;
}

void job_raw_sent(struct job *job, enum job_verb verb)
{
    if (is_shared_verb(verb))
        job->raw[verb]++;
    note_verb_sent(job, verb);
}

static void raw_accepted(struct job *job, enum job_verb verb)
{
    if (verb == JOB_COMPLETE)
        complete_accepted(job);
    else if (verb == JOB_CANCEL)
        cancel_accepted(job);
    else if (verb == JOB_CANCEL_FORCE)
        force_accepted(job);
    else if (verb == JOB_PAUSE)
        pause_accepted(job);
    else if (verb == JOB_RESUME)
        resume_accepted(job);
}

void job_raw_reply(struct job *job, enum job_verb verb, bool accepted)
{
    if (is_shared_verb(verb))
        job->raw[verb] -= job->raw[verb] > 0;
    if (accepted)
        raw_accepted(job, verb);
    decide(job);
    pursue(job);
    watch_standstill(job);
}

/* -------------------------------------------------------------- reconnecting */

static bool is_verb(const struct job *job, const struct job_waiter *waiter)
{
    (void)job;
    return waiter->question == JOB_ASK_VERB;
}

static void forget_reply(enum job_request *request, unsigned *raw)
{
    if (*request == JOB_REQUEST_SENT || (*request == JOB_REQUEST_NONE && *raw > 0))
        *request = JOB_REQUEST_UNKNOWN;
    *raw = 0;
}

void job_disconnected(struct job *job)
{
    if (job->released)
        return;
    job->away = job->gap = true;
    job->heard = false;
    job->dismissing = false;
    job->dismisses = 0;
    job->gone_asked = job->graph_asked = job->doubted = job->resuming = job->pausing = false;
    forget_reply(&job->complete, &job->raw[JOB_COMPLETE]);
    job->maybe_completing |= job->complete == JOB_REQUEST_UNKNOWN;
    forget_reply(&job->cancel, &job->raw[JOB_CANCEL]);
    forget_reply(&job->force, &job->raw[JOB_CANCEL_FORCE]);
    answer_all(job, is_verb, BJ_E_DISCONNECTED, NULL,
               "the connection ended before QEMU answered: it may have been done, or not");
    watch_standstill(job);
}

/* The query that was asked for says more than the reply that is lost. A cancel is sent again, where
 * that does no harm; complete only when it was given time to show. */
static void doubt_cancels(struct job *job)
{
    if (job->traits.no_repeats)
        return;
    if (job->cancel == JOB_REQUEST_UNKNOWN)
        job->cancel = JOB_REQUEST_NONE;
    if (job->force == JOB_REQUEST_UNKNOWN)
        job->force = JOB_REQUEST_NONE;
}

/* What has ended is never at work again, nor is what was ready just running: the id is another
 * run's. */
static bool is_another_run(const struct job *job, const struct job_row *row)
{
    bool ended = job->end != JOB_END_NONE;
    bool not_ready = row->status == JOB_STATUS_CREATED || row->status == JOB_STATUS_RUNNING ||
                     row->status == JOB_STATUS_PAUSED;
    bool at_work =
        not_ready || row->status == JOB_STATUS_READY || row->status == JOB_STATUS_STANDBY;
    return (ended && at_work) || (job->ready && !row->ready && not_ready);
}

/* What it became while nobody listened. */
static void adopt_row(struct job *job, const struct job_row *row)
{
    if (row->status != JOB_STATUS_NONE && row->status != job->status) {
        note_status(job, row->status);
        if (row->status != JOB_STATUS_CONCLUDED)
            job->port->tell(job, JOB_NEWS_STATUS, job_status_name(row->status));
    }
    if (row->status == JOB_STATUS_RUNNING || row->status == JOB_STATUS_READY)
        goes_on(job);
    if (row->status == JOB_STATUS_PENDING && !job->pending)
        set_pending(job);
}

void job_found(struct job *job, const struct job_row *row)
{
    if (!job->heard && is_another_run(job, row)) {
        job_not_found(job);
        return;
    }
    job->away = false;
    if (row->status >= JOB_STATUS_CREATED && row->status <= JOB_STATUS_STANDBY)
        job->gap = false; /* whatever it has done since was heard */
    if (!job->heard && job->end == JOB_END_NONE)
        adopt_row(job, row);
    else if (row->status == JOB_STATUS_CONCLUDED)
        note_concluded(job);
    doubt_cancels(job);
    answer_hurt(job); /* those who had hoped for such a cancel */
    decide(job);
    job_row(job, row);
}

/* Its end was seen before the connection ended. The graph there is now may be another QEMU's. */
static void decide_unlisted(struct job *job)
{
    note_status(job, JOB_STATUS_NULL);
    if (needs_graph(job))
        latch_unseen(job, "it completed, and the connection ended before it could be told whether "
                          "the disk was switched");
    else
        decide(job);
}

void job_not_found(struct job *job)
{
    job->away = false;
    if (!job_is_over(job) && job->end == JOB_END_NONE)
        job_lost(job, BJ_E_JOB_LOST,
                 "it vanished while there was no connection to QEMU, and its end was not seen");
    else if (!job_is_over(job))
        decide_unlisted(job);
    if (job_is_over(job))
        release(job);
}
