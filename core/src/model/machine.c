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
    [STATUS_NONE] = "",
    [STATUS_CREATED] = "created",
    [STATUS_RUNNING] = "running",
    [STATUS_PAUSED] = "paused",
    [STATUS_READY] = "ready",
    [STATUS_STANDBY] = "standby",
    [STATUS_WAITING] = "waiting",
    [STATUS_PENDING] = "pending",
    [STATUS_ABORTING] = "aborting",
    [STATUS_CONCLUDED] = "concluded",
    [STATUS_NULL] = "null",
};

const char *job_status_name(enum status status)
{
    return status_names[status];
}

enum status job_status_of(const char *name)
{
    for (int s = STATUS_CREATED; s <= STATUS_NULL; s++)
        if (strcmp(name, status_names[s]) == 0)
            return (enum status)s;
    return STATUS_NONE;
}

void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits)
{
    *m = (struct machine){.port = port, .traits = *traits};
}

void machine_clear(struct machine *m)
{
    m->text = text_unref(m->text);
}

bool machine_is_over(const struct machine *m)
{
    return m->outcome != BJ_OUTCOME_NONE;
}

/* Its work is done or given up; what is left is QEMU's. */
static bool is_ending(const struct machine *m)
{
    return m->end != END_NONE || m->status >= STATUS_WAITING;
}

/* No verb changes anything any more. A job that waits or is pending can still be aborted. */
static bool is_beyond_verbs(const struct machine *m)
{
    return m->end != END_NONE || m->status >= STATUS_ABORTING;
}

static bool is_under_way(enum sent_state request)
{
    return request != NOT_SENT;
}

static bool is_aborting(const struct machine *m)
{
    return is_under_way(m->cancel) || is_under_way(m->force);
}

static bool abort_is_accepted(const struct machine *m)
{
    return m->cancel == ACCEPTED || m->force == ACCEPTED;
}

/* Comes to its end without anyone's help. A soft cancel of a ready job only means "finish the
 * copy", and a copy that stops waits to be resumed. */
static bool will_end(const struct machine *m)
{
    return m->force == ACCEPTED || (m->cancel == ACCEPTED && !m->ready);
}

static bool stands_still(const struct machine *m)
{
    return m->status == STATUS_PAUSED || m->status == STATUS_STANDBY;
}

static void set_text(struct machine *m, const char *text)
{
    text_unref(m->text);
    m->text = text ? text_printf("%.*s", TEXT_MAX, text) : NULL;
}

/* ------------------------------------------------------------------ waiters */

/* How many want what pursue() decides on: looking through ten thousand waiters for each new one
 * would cost their square. NULL: nothing of the kind, or not yet. */
static size_t *count_of(struct machine *m, const struct waiter *waiter)
{
    if (waiter->question == ASK_PIVOT)
        return waiter->held ? NULL : &m->pivots;
    if (waiter->question == ASK_ABORT)
        return waiter->flags & BJ_ABORT_FORCE ? &m->force_aborts : &m->soft_aborts;
    return NULL;
}

static void count_waiter(struct machine *m, const struct waiter *waiter, bool comes)
{
    size_t *count = count_of(m, waiter);
    if (count)
        *count = comes ? *count + 1 : *count - 1;
}

static void link_waiter(struct machine *m, struct waiter *waiter)
{
    waiter->prev = NULL;
    waiter->next = m->waiters;
    if (m->waiters)
        m->waiters->prev = waiter;
    m->waiters = waiter;
    count_waiter(m, waiter, true);
}

static void unlink_waiter(struct machine *m, struct waiter *waiter)
{
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        m->waiters = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    waiter->prev = waiter->next = NULL;
    count_waiter(m, waiter, false);
}

static void answer(struct machine *m, struct waiter *waiter, int error, const char *error_class,
                   const char *text)
{
    unlink_waiter(m, waiter);
    m->port->answer(m, waiter,
                    &(struct answer){
                        .error = error,
                        .error_class = error_class,
                        .text = text,
                    });
}

typedef bool waiter_test(const struct machine *m, const struct waiter *waiter);

static bool is_pivot(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_PIVOT;
}

/* One that is held back has no part in what becomes of a complete. */
static bool wants_complete(const struct machine *m, const struct waiter *waiter)
{
    return is_pivot(m, waiter) && !waiter->held;
}

static bool is_ready_wait(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_READY;
}

static bool is_released_wait(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_RELEASED;
}

static bool is_force_abort(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_ABORT && (waiter->flags & BJ_ABORT_FORCE);
}

static bool is_soft_abort(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_ABORT && !(waiter->flags & BJ_ABORT_FORCE);
}

/* What a refused soft cancel is the end of; an escalating one still has its force. */
static bool is_plain_soft_abort(const struct machine *m, const struct waiter *waiter)
{
    return is_soft_abort(m, waiter) && waiter->force_after_ms == 0;
}

static bool is_async_abort(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_ABORT && (waiter->flags & BJ_ABORT_ASYNC);
}

static bool is_async_soft_abort(const struct machine *m, const struct waiter *waiter)
{
    return is_async_abort(m, waiter) && is_soft_abort(m, waiter);
}

static bool waits_for_outcome(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    if (waiter->question == ASK_VERB)
        return waiter->verb == VERB_FINALIZE;
    return waiter->question != ASK_RELEASED;
}

/* A job that stands still does not carry out a pivot nor take a soft cancel; one that QEMU has
 * accepted takes its course. */
static bool is_hurt_by_pause(const struct machine *m, const struct waiter *waiter)
{
    return is_pivot(m, waiter) || (!will_end(m) && is_plain_soft_abort(m, waiter));
}

/* Nobody who paused it will resume it: those who wait for ready or the end must know as well,
 * unless it is being aborted. */
static bool is_hurt_by_error_stop(const struct machine *m, const struct waiter *waiter)
{
    bool waits = waiter->question == ASK_READY || waiter->question == ASK_DONE ||
                 waiter->question == ASK_RELEASED;
    bool ends = is_under_way(m->force) || (is_under_way(m->cancel) && !m->ready);
    return (waits && !ends) || is_hurt_by_pause(m, waiter);
}

/* Pending waits for finalize. A soft cancel that came before it had its effect; only one that is
 * sent in pending ends the job. */
static bool is_hurt_by_pending(const struct machine *m, const struct waiter *waiter)
{
    bool copied = m->cancel == ACCEPTED && !m->cancelled_in_pending;
    return is_pivot(m, waiter) || (copied && is_plain_soft_abort(m, waiter));
}

static bool has_waiter(const struct machine *m, waiter_test *test)
{
    for (const struct waiter *w = m->waiters; w; w = w->next)
        if (test(m, w))
            return true;
    return false;
}

static void answer_all(struct machine *m, waiter_test *test, int error, const char *error_class,
                       const char *text)
{
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (test(m, w))
            answer(m, w, error, error_class, text);
    }
}

/* -------------------------------------------------------------------- verbs */

/* The program has sent such a verb by itself, and has no reply. */
static bool awaits_raw(const struct machine *m)
{
    return m->raw[VERB_COMPLETE] + m->raw[VERB_CANCEL] + m->raw[VERB_FORCE] > 0;
}

static void send_shared(struct machine *m, enum sent_state *request, enum verb verb)
{
    *request = IN_FLIGHT;
    m->port->send(m, verb, NULL);
}

static bool force_is_due(const struct machine *m)
{
    return !is_under_way(m->force) && m->force_aborts > 0 && !awaits_raw(m);
}

/* Once, and never again while a complete may yet be accepted: only its refusal, or a job that is
 * pending for its finalize, makes a soft cancel meaningful. */
static bool cancel_is_due(const struct machine *m)
{
    bool too_late = m->complete == IN_FLIGHT || (m->complete == ACCEPTED && !m->pending);
    return !is_aborting(m) && !too_late && !m->cancel_refused && m->stall == STALL_NONE &&
           m->soft_aborts > 0 && !awaits_raw(m);
}

bool machine_can_pivot(const struct machine *m)
{
    bool could = !is_aborting(m) && m->ready && !stands_still(m) && !is_ending(m);
    return !m->away && !awaits_raw(m) && (could || is_under_way(m->complete));
}

/* Once, when QEMU will take it (B31), and never beside an abort (B34), nor beside what the program
 * has sent by itself and has no reply to (B32). */
static bool complete_is_due(const struct machine *m)
{
    return !is_under_way(m->complete) && machine_can_pivot(m) && m->pivots > 0;
}

/* The one place that decides what is sent, from what the waiters want now: whoever has left wants
 * nothing. An abort goes before a pivot that has not been sent. */
static void pursue(struct machine *m)
{
    if (is_beyond_verbs(m) || machine_is_over(m) || m->gone_asked || m->away)
        return;
    if (force_is_due(m))
        send_shared(m, &m->force, VERB_FORCE);
    if (cancel_is_due(m)) {
        m->cancelled_in_pending = m->pending;
        send_shared(m, &m->cancel, VERB_CANCEL);
    }
    if (complete_is_due(m)) {
        m->completes++;
        m->stood = false;
        send_shared(m, &m->complete, VERB_COMPLETE);
    }
}

/* A standstill of which nobody knows the reason: most last microseconds (any change of the block
 * graph drains the jobs), so it becomes a stall only if it lasts, and only if it hurts someone. */
static bool is_unexplained(const struct machine *m)
{
    return stands_still(m) && m->stall == STALL_NONE && has_waiter(m, is_hurt_by_pause);
}

/* Someone waits for a pivot whose complete QEMU may have taken before the connection ended: it is
 * given time to show. */
static bool is_in_doubt(const struct machine *m)
{
    return m->complete == UNSURE && m->pivots > 0 && !m->doubted;
}

static void watch_standstill(struct machine *m)
{
    bool wanted =
        (is_unexplained(m) || is_in_doubt(m)) && !is_ending(m) && !machine_is_over(m) && !m->away;
    if (wanted == m->timer_runs)
        return;
    m->timer_runs = wanted;
    m->port->set_timer(m, wanted ? m->traits.stall_ms : 0);
}

/* ---------------------------------------------------------------- decisions */

/* What a question gets from a job that is over. */
static int verdict(const struct machine *m, const struct waiter *waiter)
{
    bj_outcome outcome = m->outcome;

    if (waiter->question == ASK_READY && m->ready)
        return BJ_OK;
    if (outcome == BJ_OUTCOME_LOST)
        return m->lost_error;
    if (waiter->question == ASK_ABORT)
        return BJ_OK;
    if (outcome == BJ_OUTCOME_FAILED)
        return BJ_E_JOB_FAILED;
    if (waiter->question == ASK_READY)
        return BJ_E_JOB_ENDED;
    if (waiter->question == ASK_PIVOT)
        return outcome == BJ_OUTCOME_PIVOTED ? BJ_OK : BJ_E_JOB_ENDED;
    return BJ_OK;
}

static void answer_over(struct machine *m, struct waiter *waiter)
{
    int error = verdict(m, waiter);
    answer(m, waiter, error, NULL, error == BJ_OK || !m->text ? NULL : text_str(m->text));
}

static void answer_all_over(struct machine *m, waiter_test *test)
{
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (test(m, w))
            answer_over(m, w);
    }
}

static void dismiss_if_due(struct machine *m)
{
    bool due = m->status == STATUS_CONCLUDED || !m->traits.has_status;

    if (!m->traits.ours || m->dismissing || m->released || !due || m->away ||
        m->outcome == BJ_OUTCOME_LOST)
        return;
    m->dismissing = true;
    m->dismisses++;
    m->port->send(m, VERB_DISMISS, NULL);
}

static void release(struct machine *m)
{
    if (m->released)
        return;
    m->released = true;
    answer_all_over(m, is_released_wait);
    m->port->report(m, REPORT_RELEASED, NULL);
}

static void latch(struct machine *m, bj_outcome outcome)
{
    m->outcome = outcome;
    m->stall = STALL_NONE;
    watch_standstill(m);
    m->port->report(m, REPORT_ENDED, text_str(m->text));
    answer_all_over(m, waits_for_outcome);

    dismiss_if_due(m);
    if (!m->traits.has_status && !m->traits.ours)
        release(m); /* before 3.0 the terminal event is the last that is heard of a run */
}

static bool is_in_flight(const struct machine *m)
{
    return m->complete == IN_FLIGHT || m->cancel == IN_FLIGHT || m->force == IN_FLIGHT ||
           awaits_raw(m);
}

/* A mirror or an active commit: COMPLETED alone does not say how it ended. */
static bool may_switch(const struct machine *m)
{
    return m->traits.switches || m->ready;
}

static bool needs_graph(const struct machine *m)
{
    return m->end == END_COMPLETED && may_switch(m) && m->complete != ACCEPTED;
}

/* Which verb was it (B14)? Where it was not our complete it may have been another client's, even if
 * QEMU accepted our cancel after it: the graph is looked at (B15). */
static void decide_completed(struct machine *m)
{
    if (!may_switch(m)) {
        latch(m, BJ_OUTCOME_COMPLETED);
    } else if (m->complete == ACCEPTED) {
        latch(m, BJ_OUTCOME_PIVOTED); /* also after a late force on 5.2 (B17) */
    } else if (!is_in_flight(m) && !m->graph_asked && !m->away) {
        m->graph_asked = true; /* else the reply will tell (B02), or QEMU when it is back */
        m->port->compare_graph(m);
    }
}

static void decide(struct machine *m)
{
    if (machine_is_over(m))
        return;
    if (m->end == END_FAILED)
        latch(m, BJ_OUTCOME_FAILED);
    else if (m->end == END_CANCELLED)
        latch(m, BJ_OUTCOME_CANCELLED);
    else if (m->end == END_COMPLETED)
        decide_completed(m);
}

static void set_end(struct machine *m, enum end end, const char *error)
{
    if (m->end != END_NONE || machine_is_over(m))
        return; /* the first terminal event wins (B18) */
    m->end = end;
    m->heard = true;
    set_text(m, error);
    decide(m);
}

/* Nobody could look at the graph: then it is what the verb that was accepted says. */
static void latch_unseen(struct machine *m, const char *reason)
{
    if (abort_is_accepted(m) && m->complete == NOT_SENT && !m->maybe_completing) {
        latch(m, BJ_OUTCOME_COPIED);
        return;
    }
    set_text(m, reason);
    latch(m, BJ_OUTCOME_COMPLETED);
}

static void answer_hurt(struct machine *m)
{
    waiter_test *test = m->stall == STALL_ERROR ? is_hurt_by_error_stop : is_hurt_by_pause;
    if (m->stall != STALL_NONE)
        answer_all(m, test, BJ_E_STALLED, NULL, text_str(m->text));
}

/* A stop by an error stays one until it is resumed, whatever else holds the job as well. */
static void stall(struct machine *m, enum stall kind, const char *reason)
{
    if (is_ending(m))
        return;
    if (m->stall < kind) {
        m->stall = kind;
        m->paused_rows = 0; /* a list that is on its way may be older */
        set_text(m, reason);
        watch_standstill(m);
        m->port->report(m, REPORT_STALLED, reason);
    }
    answer_hurt(m);
}

static void unstall(struct machine *m)
{
    if (m->stall == STALL_NONE)
        return;
    m->stall = STALL_NONE;
    if (stands_still(m) && !m->traits.has_status)
        m->status = m->ready ? STATUS_READY : STATUS_RUNNING; /* no event says so */
    set_text(m, NULL);
    m->port->report(m, REPORT_RESUMED, NULL);
}

static void goes_on(struct machine *m)
{
    unstall(m);
    if (m->pause_seen)
        m->pausing = false;
}

/* Complete goes out first of all: the pivot must not wait for those who are told. */
static bool latch_ready(struct machine *m)
{
    if (m->ready || machine_is_over(m))
        return false;
    m->ready = true;
    pursue(m);
    return true;
}

static void announce_ready(struct machine *m)
{
    m->port->report(m, REPORT_READY, NULL);
    answer_all(m, is_ready_wait, BJ_OK, NULL, NULL);
}

/* ------------------------------------------------------------------ callers */

static const char *const pending_text = "it is pending: finalize it, then wait for done";

static void answer_stalled(struct machine *m, struct waiter *waiter)
{
    answer(m, waiter, BJ_E_STALLED, NULL, text_str(m->text));
}

static void ask_ready(struct machine *m, struct waiter *waiter)
{
    if (m->ready)
        answer(m, waiter, BJ_OK, NULL, NULL);
    else if (m->traits.never_ready)
        answer(m, waiter, BJ_E_STATE, NULL, "a job of this type is never ready: wait for done");
    else if (m->stall == STALL_ERROR && is_hurt_by_error_stop(m, waiter))
        answer_stalled(m, waiter);
}

static void ask_done(struct machine *m, struct waiter *waiter)
{
    if (m->stall == STALL_ERROR && is_hurt_by_error_stop(m, waiter))
        answer_stalled(m, waiter);
}

static void ask_pivot(struct machine *m, struct waiter *waiter)
{
    if (m->traits.never_ready)
        answer(m, waiter, BJ_E_STATE, NULL, "a job of this type has no pivot: wait for done");
    else if (is_aborting(m))
        answer(m, waiter, BJ_E_STATE, NULL, "it is being aborted"); /* B34 */
    else if (m->pending)
        answer(m, waiter, BJ_E_STALLED, NULL, pending_text); /* B42 */
    else if (m->stall != STALL_NONE)
        answer_stalled(m, waiter);
    else if (!m->ready && (waiter->flags & BJ_PIVOT_ONLY_IF_READY))
        answer(m, waiter, BJ_E_NOT_READY, NULL, NULL);
}

static const char *const pivoting_text = "a pivot is under way: only force aborts it";

static void ask_soft_abort(struct machine *m, struct waiter *waiter)
{
    bool async = is_async_abort(m, waiter);
    bool pivoting = is_under_way(m->complete) && !m->pending;

    m->cancel_refused = false; /* that was another caller's */
    if (async && abort_is_accepted(m))
        answer(m, waiter, BJ_OK, NULL, NULL);
    else if (m->pending && is_hurt_by_pending(m, waiter))
        answer(m, waiter, BJ_E_STALLED, NULL, pending_text);
    else if (m->stall != STALL_NONE && is_hurt_by_pause(m, waiter))
        answer_stalled(m, waiter);
    else if (async && pivoting && !is_aborting(m))
        answer(m, waiter, BJ_E_STATE, NULL, pivoting_text);
}

static void ask_abort(struct machine *m, struct waiter *waiter)
{
    if (!is_force_abort(m, waiter))
        ask_soft_abort(m, waiter);
    else if (is_async_abort(m, waiter) && m->force == ACCEPTED)
        answer(m, waiter, BJ_OK, NULL, NULL);
}

static void note_verb_sent(struct machine *m, enum verb verb)
{
    m->resuming |= verb == VERB_RESUME;
    if (verb == VERB_PAUSE) {
        m->pausing = true;
        m->pause_seen = stands_still(m);
    }
}

static const char *const away_text = "the connection to QEMU is being made again: ask when it is";

static void ask_dismiss_over(struct machine *m, struct waiter *waiter)
{
    bool may_be_there = !m->released || (m->traits.kept && !m->traits.has_status);

    if (!may_be_there || m->traits.ours)
        answer(m, waiter, BJ_OK, NULL, NULL); /* ours we dismiss ourselves, once (B40) */
    else if (m->away)
        answer(m, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    else
        m->port->send(m, VERB_DISMISS, waiter);
}

static void ask_verb(struct machine *m, struct waiter *waiter)
{
    if (m->outcome == BJ_OUTCOME_LOST) {
        answer_over(m, waiter);
    } else if (machine_is_over(m) && waiter->verb == VERB_DISMISS) {
        ask_dismiss_over(m, waiter);
    } else if (machine_is_over(m)) {
        answer(m, waiter, BJ_E_STATE, NULL, "it is over");
    } else if (m->away) {
        answer(m, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    } else {
        note_verb_sent(m, waiter->verb);
        m->port->send(m, waiter->verb, waiter);
    }
}

static void ask_running(struct machine *m, struct waiter *waiter)
{
    switch (waiter->question) {
    case ASK_READY:
        ask_ready(m, waiter);
        break;
    case ASK_DONE:
    case ASK_RELEASED:
        ask_done(m, waiter);
        break;
    case ASK_PIVOT:
        ask_pivot(m, waiter);
        break;
    case ASK_ABORT:
        ask_abort(m, waiter);
        break;
    case ASK_VERB:
        break;
    }
    pursue(m);
    watch_standstill(m);
}

void machine_ask(struct machine *m, struct waiter *waiter)
{
    link_waiter(m, waiter);

    if (waiter->question == ASK_VERB)
        ask_verb(m, waiter);
    else if (!machine_is_over(m))
        ask_running(m, waiter);
    else if (waiter->question != ASK_RELEASED || m->released)
        answer_over(m, waiter);
}

void machine_leave(struct machine *m, struct waiter *waiter)
{
    unlink_waiter(m, waiter);
    pursue(m); /* a pivot may have waited for this abort to be over */
    watch_standstill(m);
}

void machine_escalate(struct machine *m, struct waiter *waiter)
{
    count_waiter(m, waiter, false);
    waiter->flags |= BJ_ABORT_FORCE;
    count_waiter(m, waiter, true);
    waiter->force_after_ms = 0;
    pursue(m);
}

void machine_unhold(struct machine *m, struct waiter *waiter)
{
    waiter->held = false;
    count_waiter(m, waiter, true);
    pursue(m);
}

/* -------------------------------------------------------------------- facts */

void machine_ready_event(struct machine *m)
{
    m->heard = true;
    if (latch_ready(m))
        announce_ready(m);
}

/* Without a BLOCK_JOB event (a job without a disk, or a transaction that failed before the job ran)
 * only QEMU's list has the error. And QEMU answers in order: when it has answered a query, a reply
 * to an earlier verb that has not come will not come. */
static void concluded(struct machine *m)
{
    bool ask = m->end == END_NONE || is_in_flight(m);

    if (machine_is_over(m))
        dismiss_if_due(m);
    else if (ask)
        m->port->list_jobs(m);
}

static void forget_in_flight(struct machine *m)
{
    if (m->complete == IN_FLIGHT)
        m->complete = NOT_SENT;
    if (m->cancel == IN_FLIGHT)
        m->cancel = NOT_SENT;
    if (m->force == IN_FLIGHT)
        m->force = NOT_SENT;
    decide(m);
}

/* Null, and no terminal event: what the statuses on the way say. */
static void vanished(struct machine *m)
{
    if (machine_is_over(m) || m->end != END_NONE)
        return;
    if (m->gap)
        machine_lost(m, BJ_E_JOB_LOST, "it vanished, and its end was not seen");
    else if (m->aborted && !abort_is_accepted(m))
        set_end(m, END_FAILED, "it was aborted, and QEMU gave no reason");
    else if (m->aborted || (abort_is_accepted(m) && !m->finished))
        set_end(m, END_CANCELLED, NULL);
    else if (m->finished)
        set_end(m, END_COMPLETED, NULL);
    else
        machine_lost(m, BJ_E_JOB_LOST, "it vanished, and its end was not seen");
}

/* Also of a status that only a row told. */
static void note_status(struct machine *m, enum status status)
{
    m->status = status;
    if (stands_still(m))
        m->stood = m->pause_seen = true;
    if (status == STATUS_WAITING || status == STATUS_PENDING)
        m->finished = true;
    if (status == STATUS_ABORTING)
        m->aborted = true;
}

static bool is_going_on(enum status status)
{
    return status == STATUS_RUNNING || status == STATUS_READY || status == STATUS_WAITING ||
           status == STATUS_PENDING;
}

void machine_status_event(struct machine *m, enum status status)
{
    if (m->released || status == STATUS_NONE)
        return;
    m->heard = true;
    if (status == m->status) {
        if (is_going_on(status))
            goes_on(m); /* it stood still while nobody listened */
        return;
    }
    m->traits.has_status = true;
    note_status(m, status);
    bool became_ready = status == STATUS_READY && latch_ready(m);
    if (status != STATUS_NULL)
        m->port->report(m, REPORT_STATUS, job_status_name(status));

    if (is_going_on(status))
        goes_on(m);
    if (became_ready)
        announce_ready(m);
    if (status == STATUS_CONCLUDED)
        concluded(m);
    if (status == STATUS_NULL)
        vanished(m);

    pursue(m);
    watch_standstill(m);
    if (status == STATUS_NULL && machine_is_over(m))
        release(m);
}

void machine_completed_event(struct machine *m, const char *error)
{
    set_end(m, error ? END_FAILED : END_COMPLETED, error);
}

void machine_cancelled_event(struct machine *m)
{
    set_end(m, END_CANCELLED, NULL);
}

/* What stands still after force was accepted is not ended by it: before 2.12 it only finishes the
 * copy of a ready mirror. Sent again it resumes the job. */
static void refute_force(struct machine *m)
{
    if (m->force == ACCEPTED)
        m->force = NOT_SENT;
}

void machine_stopped_event(struct machine *m, const char *reason)
{
    m->heard = true;
    m->resuming = false; /* what was resumed has stopped again */
    m->paused_rows = 0;
    refute_force(m);
    stall(m, STALL_ERROR, reason);
    pursue(m);
}

static void set_pending(struct machine *m)
{
    m->pending = true;
    answer_all(m, is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
    pursue(m);
}

void machine_pending_event(struct machine *m)
{
    m->heard = true;
    if (m->end == END_NONE)
        set_pending(m);
}

void machine_tick(struct machine *m)
{
    m->timer_runs = false;
    if (stands_still(m)) {
        stall(m, STALL_PAUSED, "it stands still: another client has paused it, or its I/O hangs");
    } else if (is_in_doubt(m)) {
        m->doubted = true;
        m->port->list_jobs(m);
    }
}

/* What a list says may be older than the last event. */
static void note_concluded(struct machine *m)
{
    if (m->status != STATUS_NULL)
        note_status(m, STATUS_CONCLUDED);
}

static void concluded_row(struct machine *m, const char *error)
{
    note_concluded(m);
    if (m->end != END_NONE)
        forget_in_flight(m);
    else if (!error)
        set_end(m, END_COMPLETED, NULL);
    else if (strcmp(error, "Operation canceled") == 0) /* B21 */
        set_end(m, END_CANCELLED, NULL);
    else
        set_end(m, END_FAILED, error);
}

/* Events, where there are any, know better than a row (B28); only who comes later learns from it.
 */
static void adopt_status(struct machine *m, enum status status)
{
    bool news = m->status == STATUS_NONE || !m->traits.has_status;
    if (!news || status == STATUS_NONE)
        return;
    note_status(m, status);
    if (status == STATUS_PENDING)
        set_pending(m); /* in a list it is only seen when it waits for finalize */
}

/* Before 3.0 no event tells that another client has paused it or resumed it, and a list shows the
 * drains of a moment, too, and may be older than what is known: so twice (B13). */
static void adopt_pause(struct machine *m, const struct row *row)
{
    bool paused = row->paused;
    if (m->traits.has_status || row->hides_pause)
        return;
    bool again = paused ? m->paused_rows > 0 : m->paused_rows < 0;
    m->paused_rows = (paused ? 1 : -1) * (again ? 2 : 1);
    if (paused && again) {
        refute_force(m);
        stall(m, STALL_PAUSED, "it is paused");
    } else if (again) {
        unstall(m);
    } else if (m->stall != STALL_NONE && (!paused || m->force == ACCEPTED)) {
        m->port->list_jobs(m); /* nobody else may ask a second time */
    }
}

/* QEMU lists a job that a verb was told is not there: then the verb was refused. */
static void not_gone(struct machine *m)
{
    m->gone_asked = false;
    if (!is_under_way(m->complete))
        answer_all(m, wants_complete, BJ_E_REFUSED, "DeviceNotActive", NULL);
    if (!is_aborting(m))
        answer_all(m, is_plain_soft_abort, BJ_E_REFUSED, "DeviceNotActive", NULL);
    if (!is_under_way(m->force))
        answer_all(m, is_force_abort, BJ_E_REFUSED, "DeviceNotActive", NULL);
}

/* Our dismiss was refused, and there it still is: asked again, but not for ever. */
static void still_there(struct machine *m)
{
    if (m->dismisses < DISMISSES_MAX)
        dismiss_if_due(m);
    else
        release(m);
}

/* It was ready when QEMU was back, and still is: whatever happened to our complete, it had no
 * effect. */
static void complete_was_not_taken(struct machine *m)
{
    m->doubted = false;
    if (m->complete != UNSURE)
        return;
    if (m->traits.replaces)
        answer_all(m, wants_complete, BJ_E_DISCONNECTED, NULL,
                   "whether QEMU has taken complete before the connection ended can't be told, and "
                   "a second one might end this QEMU: wait for done, or abort it");
    else
        m->complete = NOT_SENT;
}

void machine_row(struct machine *m, const struct row *row)
{
    if (m->released)
        return;
    if (machine_is_over(m)) {
        still_there(m);
        return;
    }
    bool ready = row->ready || row->status == STATUS_READY || row->status == STATUS_STANDBY;
    if (ready && latch_ready(m))
        announce_ready(m);
    if (row->status == STATUS_CONCLUDED) {
        concluded_row(m, row->error);
        return;
    }
    adopt_status(m, row->status);
    if (row->io_error && m->status == row->status)
        stall(m, STALL_ERROR, "an I/O error stopped it");
    adopt_pause(m, row);
    if (m->gone_asked)
        not_gone(m);
    if (m->doubted && ready && !is_ending(m))
        complete_was_not_taken(m);
    if (m->complete == UNSURE && !ready && row->status < STATUS_WAITING)
        m->complete = NOT_SENT; /* QEMU takes none before ready */
    pursue(m);
    watch_standstill(m);
}

/* A job that completes or fails has an event in every QEMU, and it comes before the first list that
 * lacks the job. So what is gone without one from a QEMU that has none for a cancel was cancelled
 * (B57). */
static void make_up_end(struct machine *m)
{
    m->made_up = true;
    set_end(m, END_CANCELLED, NULL);
}

void machine_absent(struct machine *m)
{
    if (m->released)
        return;
    if (!machine_is_over(m) && m->end == END_NONE) {
        if (m->traits.silent)
            make_up_end(m);
        else
            machine_lost(m, BJ_E_JOB_LOST, "it is gone, and its end was not seen"); /* B10 */
    }
    if (machine_is_over(m))
        release(m);
}

void machine_compared(struct machine *m, enum disk_switch result)
{
    if (machine_is_over(m))
        return;
    if (result == SWITCHED)
        latch(m, BJ_OUTCOME_PIVOTED);
    else if (result == NOT_SWITCHED)
        latch(m, BJ_OUTCOME_COPIED);
    else
        latch_unseen(m, "it completed by another client's verb, and whether the disk was "
                        "switched can't be told");
    if (m->status == STATUS_NULL)
        release(m);
}

static bool is_anyone(const struct machine *m, const struct waiter *waiter)
{
    (void)m, (void)waiter;
    return true;
}

void machine_lost(struct machine *m, int error, const char *reason)
{
    if (!machine_is_over(m) && m->end == END_COMPLETED) {
        latch_unseen(m, "it completed, and the connection ended before it could be told "
                        "whether the disk was switched");
    } else if (!machine_is_over(m)) {
        m->lost_error = error;
        set_text(m, reason);
        latch(m, BJ_OUTCOME_LOST);
    }
    answer_all(m, is_anyone, error, NULL, reason);
    release(m);
}

/* ------------------------------------------------------------------ replies */

/* QEMU knows of no such job although we have seen no end: ask what there is. */
static bool ask_if_gone(struct machine *m, const struct verb_reply *reply)
{
    if (!reply->no_job)
        return false;
    m->gone_asked = true;
    m->port->list_jobs(m);
    return true;
}

static void complete_refused(struct machine *m, const struct verb_reply *reply)
{
    /* In standby 5.2 refuses what it takes a moment later (B33). */
    bool again = m->stood && m->completes < COMPLETES_MAX;

    m->complete = NOT_SENT;
    if (!is_ending(m) && !again && !ask_if_gone(m, reply))
        answer_all(m, wants_complete, reply->error, reply->error_class, reply->text);
}

static void complete_accepted(struct machine *m)
{
    m->complete = ACCEPTED;
    if (!m->pending)
        answer_all(m, is_async_soft_abort, BJ_E_STATE, NULL, pivoting_text);
}

static void complete_reply(struct machine *m, const struct verb_reply *reply)
{
    if (reply->accepted)
        complete_accepted(m);
    else
        complete_refused(m, reply);
}

static void cancel_refused(struct machine *m, const struct verb_reply *reply)
{
    m->cancel = NOT_SENT;
    m->cancel_refused = true;
    if (is_beyond_verbs(m))
        return;
    if (stands_still(m))
        stall(m, STALL_PAUSED, "it is paused, and QEMU refuses a soft cancel then");
    else if (!ask_if_gone(m, reply))
        answer_all(m, is_plain_soft_abort, reply->error, reply->error_class, reply->text);
    answer_hurt(m); /* those who had hoped for the cancel */
}

/* RHEL 6.2 answers a cancel when the job is gone, and says no more of it; 1.0.50 has the same words
 * and an event (B57). */
static void ask_if_over(struct machine *m)
{
    if (m->traits.silent && m->end == END_NONE)
        m->port->list_jobs(m);
}

static void cancel_accepted(struct machine *m)
{
    m->cancel = ACCEPTED;
    answer_all(m, is_async_soft_abort, BJ_OK, NULL, NULL);
    ask_if_over(m);
    if (m->pending)
        answer_all(m, is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

static void cancel_reply(struct machine *m, const struct verb_reply *reply)
{
    if (reply->accepted)
        cancel_accepted(m);
    else
        cancel_refused(m, reply);
}

static void force_accepted(struct machine *m)
{
    m->force = ACCEPTED;
    answer_all(m, is_async_abort, BJ_OK, NULL, NULL);
    ask_if_over(m);
    if (m->stall != STALL_NONE && !m->traits.has_status)
        m->port->list_jobs(m); /* did that stop come before it, or after it? */
}

static void force_reply(struct machine *m, const struct verb_reply *reply)
{
    if (reply->accepted) {
        force_accepted(m);
        return;
    }
    m->force = NOT_SENT;
    if (!is_beyond_verbs(m) && !ask_if_gone(m, reply))
        answer_all(m, is_force_abort, reply->error, reply->error_class, reply->text);
    answer_hurt(m);
}

/* The library's own dismiss. Refused: someone else was faster, or QEMU could not; ask which. */
static void dismiss_reply(struct machine *m, const struct verb_reply *reply)
{
    m->dismissing = reply->accepted;
    if (reply->accepted ? !m->traits.has_status : reply->no_job)
        release(m);
    else if (!reply->accepted && !m->released)
        m->port->list_jobs(m);
}

static void verb_refused(struct machine *m, struct waiter *waiter, const struct verb_reply *reply)
{
    bool gone = m->released || m->status == STATUS_NULL || (reply->no_job && machine_is_over(m));

    /* Our own state says more than QEMU's class and text (B39). */
    if (waiter->verb == VERB_DISMISS && gone)
        answer(m, waiter, BJ_OK, NULL, NULL);
    else if (waiter->verb != VERB_DISMISS && machine_is_over(m))
        answer(m, waiter, BJ_E_STATE, NULL, "it is over");
    else
        answer(m, waiter, reply->error, reply->error_class, reply->text);
}

/* Unless someone has resumed it again before we hear of it. */
static void pause_accepted(struct machine *m)
{
    if (m->pausing)
        stall(m, STALL_PAUSED, "it is paused");
    m->pausing = false;
}

/* No event need follow: it may not have come to a standstill yet. A stop that came since may have
 * been before it or after it: the next event tells, or else QEMU's list. */
static void resume_accepted(struct machine *m)
{
    if (m->resuming)
        unstall(m);
    else if (m->stall != STALL_NONE && !m->traits.has_status)
        m->port->list_jobs(m);
}

static void verb_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                       const struct verb_reply *reply)
{
    if (verb == VERB_PAUSE && reply->accepted)
        pause_accepted(m);
    if (verb == VERB_RESUME && reply->accepted)
        resume_accepted(m);

    if (!waiter)
        return;
    if (!reply->accepted)
        verb_refused(m, waiter, reply);
    else if (verb != VERB_FINALIZE || machine_is_over(m))
        answer(m, waiter, BJ_OK, NULL, NULL); /* finalize is answered with the outcome */
}

void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply)
{
    if (waiter)
        verb_reply(m, verb, waiter, reply);
    else if (verb == VERB_COMPLETE)
        complete_reply(m, reply);
    else if (verb == VERB_CANCEL)
        cancel_reply(m, reply);
    else if (verb == VERB_FORCE)
        force_reply(m, reply);
    else if (verb == VERB_DISMISS && m->dismissing)
        dismiss_reply(m, reply);
    else
        verb_reply(m, verb, NULL, reply);

    decide(m); /* an end may have waited for this reply */
    pursue(m);
    watch_standstill(m);
    if (m->status == STATUS_NULL && machine_is_over(m))
        release(m);
}

/* ------------------------------------------------------------- raw commands */

static bool is_shared_verb(enum verb verb)
{
    return verb == VERB_COMPLETE || verb == VERB_CANCEL || verb == VERB_FORCE;
}

void machine_raw_sent(struct machine *m, enum verb verb)
{
    if (is_shared_verb(verb))
        m->raw[verb]++;
    note_verb_sent(m, verb);
}

static void raw_accepted(struct machine *m, enum verb verb)
{
    if (verb == VERB_COMPLETE)
        complete_accepted(m);
    else if (verb == VERB_CANCEL)
        cancel_accepted(m);
    else if (verb == VERB_FORCE)
        force_accepted(m);
    else if (verb == VERB_PAUSE)
        pause_accepted(m);
    else if (verb == VERB_RESUME)
        resume_accepted(m);
}

void machine_raw_reply(struct machine *m, enum verb verb, bool accepted)
{
    if (is_shared_verb(verb))
        m->raw[verb] -= m->raw[verb] > 0;
    if (accepted)
        raw_accepted(m, verb);
    decide(m);
    pursue(m);
    watch_standstill(m);
}

/* -------------------------------------------------------------- reconnecting */

static bool is_verb(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_VERB;
}

static void forget_reply(enum sent_state *request, unsigned *raw)
{
    if (*request == IN_FLIGHT || (*request == NOT_SENT && *raw > 0))
        *request = UNSURE;
    *raw = 0;
}

void machine_disconnected(struct machine *m)
{
    if (m->released)
        return;
    m->away = m->gap = true;
    m->heard = false;
    m->dismissing = false;
    m->dismisses = 0;
    m->gone_asked = m->graph_asked = m->doubted = m->resuming = m->pausing = false;
    forget_reply(&m->complete, &m->raw[VERB_COMPLETE]);
    m->maybe_completing |= m->complete == UNSURE;
    forget_reply(&m->cancel, &m->raw[VERB_CANCEL]);
    forget_reply(&m->force, &m->raw[VERB_FORCE]);
    answer_all(m, is_verb, BJ_E_DISCONNECTED, NULL,
               "the connection ended before QEMU answered: it may have been done, or not");
    watch_standstill(m);
}

/* The query that was asked for says more than the reply that is lost. A cancel is sent again, where
 * that does no harm; complete only when it was given time to show. */
static void doubt_cancels(struct machine *m)
{
    if (m->traits.no_repeats)
        return;
    if (m->cancel == UNSURE)
        m->cancel = NOT_SENT;
    if (m->force == UNSURE)
        m->force = NOT_SENT;
}

/* What has ended is never at work again, nor is what was ready just running: the id is another
 * run's. */
static bool is_another_run(const struct machine *m, const struct row *row)
{
    bool ended = m->end != END_NONE;
    bool not_ready = row->status == STATUS_CREATED || row->status == STATUS_RUNNING ||
                     row->status == STATUS_PAUSED;
    bool at_work = not_ready || row->status == STATUS_READY || row->status == STATUS_STANDBY;
    return (ended && at_work) || (m->ready && !row->ready && not_ready);
}

/* What it became while nobody listened. */
static void adopt_row(struct machine *m, const struct row *row)
{
    if (row->status != STATUS_NONE && row->status != m->status) {
        note_status(m, row->status);
        if (row->status != STATUS_CONCLUDED)
            m->port->report(m, REPORT_STATUS, job_status_name(row->status));
    }
    if (row->status == STATUS_RUNNING || row->status == STATUS_READY)
        goes_on(m);
    if (row->status == STATUS_PENDING && !m->pending)
        set_pending(m);
}

void machine_reconnected_listed(struct machine *m, const struct row *row)
{
    if (!m->heard && is_another_run(m, row)) {
        machine_reconnected_absent(m);
        return;
    }
    m->away = false;
    if (row->status >= STATUS_CREATED && row->status <= STATUS_STANDBY)
        m->gap = false; /* whatever it has done since was heard */
    if (!m->heard && m->end == END_NONE)
        adopt_row(m, row);
    else if (row->status == STATUS_CONCLUDED)
        note_concluded(m);
    doubt_cancels(m);
    answer_hurt(m); /* those who had hoped for such a cancel */
    decide(m);
    machine_row(m, row);
}

/* Its end was seen before the connection ended. The graph there is now may be another QEMU's. */
static void decide_unlisted(struct machine *m)
{
    note_status(m, STATUS_NULL);
    if (needs_graph(m))
        latch_unseen(m, "it completed, and the connection ended before it could be told whether "
                        "the disk was switched");
    else
        decide(m);
}

void machine_reconnected_absent(struct machine *m)
{
    m->away = false;
    if (!machine_is_over(m) && m->end == END_NONE)
        machine_lost(m, BJ_E_JOB_LOST,
                     "it vanished while there was no connection to QEMU, and its end was not seen");
    else if (!machine_is_over(m))
        decide_unlisted(m);
    if (machine_is_over(m))
        release(m);
}
