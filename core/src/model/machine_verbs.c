/* SPDX-License-Identifier: MIT */
/*
 * The verbs of the machine: when each is sent, and what follows from its reply.
 */
#include "base/text.h"
#include "model/machine_parts.h"

/* 5.2 refuses complete in standby, where any change of the block graph can put a job for a moment:
 * sent again when it is ready again, but not forever (B33). */
#define COMPLETES_MAX 16
#define DISMISSES_MAX 3

/* ------------------------------------------------------------- what is sent */

/* The program has sent a complete or a cancel by itself, and has no reply. */
static bool awaits_raw(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].raw + m->sent[VERB_CANCEL].raw + m->sent[VERB_FORCE].raw > 0;
}

bool machine_awaits_reply(const struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++)
        if (m->sent[verb].state == IN_FLIGHT)
            return true;
    return awaits_raw(m);
}

static void send_shared(struct machine *m, enum verb verb)
{
    m->sent[verb].state = IN_FLIGHT;
    m->port->send(m, verb, NULL);
}

static bool is_taken_now(const struct machine *m, enum verb verb)
{
    return m->end == END_NONE && verb_taking(verb, m->status) == NOW;
}

static bool could_be_sent(const struct machine *m, enum verb verb)
{
    return !was_sent(m, verb) && m->sent[verb].delay == NO_DELAY && !awaits_raw(m) &&
           is_taken_now(m, verb);
}

static bool force_is_due(const struct machine *m)
{
    return m->force_aborts > 0 && could_be_sent(m, VERB_FORCE);
}

/* Once, and never again while a complete may yet be accepted: only its refusal, or a job that is
 * pending for its finalize, makes a soft cancel meaningful. */
static bool cancel_is_due(const struct machine *m)
{
    enum sent_state complete = m->sent[VERB_COMPLETE].state;
    bool too_late = complete == IN_FLIGHT || (complete == ACCEPTED && !machine_is(m, IS_PENDING));
    return m->soft_aborts > 0 && !is_aborting(m) && !too_late && !m->sent[VERB_CANCEL].refused &&
           !machine_is_stalled(m) && could_be_sent(m, VERB_CANCEL);
}

bool machine_can_pivot(const struct machine *m)
{
    bool could = !is_aborting(m) && machine_is(m, IS_READY) && is_taken_now(m, VERB_COMPLETE) &&
                 !machine_is_stalled(m);
    return !machine_is(m, IS_AWAY) && !awaits_raw(m) && (could || was_sent(m, VERB_COMPLETE));
}

/* Once, when QEMU will take it (B31), and never beside an abort (B34), nor beside what the program
 * has sent by itself and has no reply to (B32). */
static bool complete_is_due(const struct machine *m)
{
    return m->pivots > 0 && !was_sent(m, VERB_COMPLETE) && machine_can_pivot(m) &&
           m->sent[VERB_COMPLETE].delay == NO_DELAY;
}

/* Whoever has left wants nothing. An abort goes before a pivot that has not been sent. */
void machine_pursue(struct machine *m)
{
    if (machine_is_over(m) || machine_is(m, CHECKING_GONE) || machine_is(m, IS_AWAY))
        return;
    if (force_is_due(m))
        send_shared(m, VERB_FORCE);
    if (cancel_is_due(m)) {
        m->sent[VERB_CANCEL].in_pending = machine_is(m, IS_PENDING);
        send_shared(m, VERB_CANCEL);
    }
    if (complete_is_due(m)) {
        m->sent[VERB_COMPLETE].stood = false;
        send_shared(m, VERB_COMPLETE);
    }
}

void machine_dismiss_if_due(struct machine *m)
{
    bool due = m->status == STATUS_CONCLUDED || !m->traits.has_status;

    if (!m->traits.ours || was_sent(m, VERB_DISMISS) || machine_is(m, IS_RELEASED) || !due ||
        machine_is(m, IS_AWAY) || m->outcome == BJ_OUTCOME_LOST)
        return;
    m->sent[VERB_DISMISS].times++;
    send_shared(m, VERB_DISMISS);
}

/* Our dismiss was refused, and QEMU still lists the job: sent again, but not forever. */
void machine_dismiss_again(struct machine *m)
{
    if (m->sent[VERB_DISMISS].times < DISMISSES_MAX)
        machine_dismiss_if_due(m);
    else
        machine_release(m);
}

void machine_note_verb(struct machine *m, enum verb verb)
{
    m->pause.resuming |= verb == VERB_RESUME;
    if (verb == VERB_PAUSE) {
        m->pause.pausing = true;
        m->pause.stood = is_still(m);
    }
}

/* -------------------------------------------------------------------- timer */

static bool has_waiter(const struct machine *m, waiter_test *test)
{
    for (const struct waiter *w = m->waiters; w; w = w->next)
        if (test(m, w))
            return true;
    return false;
}

/* A job that is still for an unknown reason: mostly for microseconds (any change of the block graph
 * drains the jobs), so it counts as stalled only if that lasts, and only if it hurts someone. */
static bool is_unexplained(const struct machine *m)
{
    return is_still(m) && !machine_is_stalled(m) && has_waiter(m, waiter_is_hurt_by_pause);
}

/* Someone waits for a pivot whose complete QEMU may have taken before the connection ended: it is
 * given time to show. */
bool machine_doubts_complete(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].state == UNSURE && m->pivots > 0 && !machine_is(m, IS_DOUBTED);
}

static bool has_delay(const struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++)
        if (m->sent[verb].delay != NO_DELAY)
            return true;
    return false;
}

/* Whoever keeps the job may be about to dismiss it. */
static bool is_kept_from(const struct machine *m, waiter_test *waiter)
{
    return machine_is_kept(m) && !machine_is_free(m) && has_waiter(m, waiter);
}

void machine_set_timer(struct machine *m)
{
    bool moves_on = is_ending(m) || machine_is_over(m);
    bool wanted = moves_on ? is_kept_from(m, waiter_is_for_release)
                           : is_unexplained(m) || machine_doubts_complete(m) || has_delay(m);

    wanted = wanted && !machine_is(m, IS_AWAY);
    if (wanted == machine_is(m, TIMER_RUNS))
        return;
    set_mark(m, TIMER_RUNS, wanted);
    m->port->set_timer(m, wanted ? m->traits.stall_ms : 0);
}

/* ------------------------------------------------ complete, cancel and force */

/* RHEL 6.2 answers a cancel when the job is gone, and reports nothing more of it; 1.0.50 has the
 * same commands and an event (B57). */
static void list_if_silent(struct machine *m)
{
    if (m->traits.silent && m->end == END_NONE)
        m->port->list_jobs(m);
}

static void complete_accepted(struct machine *m)
{
    if (!machine_is(m, IS_PENDING))
        machine_answer_all(m, waiter_is_async_soft_abort, BJ_E_STATE, NULL, pivoting_text);
}

static void cancel_accepted(struct machine *m)
{
    machine_answer_all(m, waiter_is_async_soft_abort, BJ_OK, NULL, NULL);
    list_if_silent(m);
    if (machine_is(m, IS_PENDING))
        machine_answer_all(m, waiter_is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

static void force_accepted(struct machine *m)
{
    machine_answer_all(m, waiter_is_async_abort, BJ_OK, NULL, NULL);
    list_if_silent(m);
    if (machine_is_stalled(m) && !m->traits.has_status)
        m->port->list_jobs(m); /* did that stop come before it, or after it? */
}

/* What differs between the verbs that are sent once for all. */
static const struct {
    waiter_test *wanted_by;              /* whom a refusal answers */
    void (*accepted)(struct machine *m); /* what else an acceptance means */
} shared[SHARED_VERBS] = {
    [VERB_COMPLETE] = {waiter_wants_complete, complete_accepted},
    [VERB_CANCEL] = {waiter_wants_cancel, cancel_accepted},
    [VERB_FORCE] = {waiter_wants_force, force_accepted},
};

static void shared_accepted(struct machine *m, enum verb verb)
{
    m->sent[verb].state = ACCEPTED;
    shared[verb].accepted(m);
}

/* QEMU knows of no such job although we have seen no end: a list decides. */
static bool list_if_gone(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    if (reply->verdict != VERDICT_NO_SUCH_JOB)
        return false;
    m->sent[verb].is_checked = true;
    set_mark(m, CHECKING_GONE, true);
    m->port->list_jobs(m);
    return true;
}

/* In standby 5.2 refuses what it takes a moment later (B33). */
static bool is_sent_again(struct machine *m, enum verb verb)
{
    struct sent *sent = &m->sent[verb];
    return verb == VERB_COMPLETE && sent->stood && ++sent->times < COMPLETES_MAX;
}

/* QEMU refuses complete while another client's cancel drains the job, in which neither a status nor
 * a list tells it from one that goes on: how it ends, if it does, shows soon. libvirt says so, for
 * any verb, and as long as it lasts. */
static bool is_delayed(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    struct sent *sent = &m->sent[verb];
    bool may_be_ending = verb == VERB_COMPLETE && reply->error == BJ_E_REFUSED && !sent->stood;

    if (reply->verdict == VERDICT_ENDING) {
        sent->delay = THEN_SENT;
    } else if (may_be_ending) {
        sent->delay = THEN_REFUSED;
        m->refusal = machine_copy_text(reply->text);
        m->refusal_class = machine_copy_text(reply->error_class);
    }
    return sent->delay != NO_DELAY;
}

static void forget_delay(struct machine *m, enum verb verb)
{
    if (m->sent[verb].delay == THEN_REFUSED) {
        m->refusal = text_unref(m->refusal);
        m->refusal_class = text_unref(m->refusal_class);
    }
    m->sent[verb].delay = NO_DELAY;
}

/* A soft abort that had joined a force learns of the pivot beside it. */
static void answer_refused(struct machine *m, enum verb verb, int error, const char *error_class,
                           const char *text)
{
    machine_answer_all(m, shared[verb].wanted_by, error, error_class, text);
    if (is_accepted(m, VERB_COMPLETE) && !is_aborting(m))
        complete_accepted(m);
}

static void shared_refused(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    m->sent[verb].state = NOT_SENT;
    m->sent[verb].refused = verb == VERB_CANCEL && reply->verdict != VERDICT_ENDING;
    if (machine_is_over(m) || is_too_late(m, verb) || is_sent_again(m, verb))
        return;
    if (verb == VERB_CANCEL && is_still(m))
        machine_stall(
            m, STALL_PAUSED,
            "it is paused, and QEMU refuses a soft cancel then: resume it, or abort it with force");
    else if (!list_if_gone(m, verb, reply) && !is_delayed(m, verb, reply))
        answer_refused(m, verb, reply->error, reply->error_class, reply->text);
    machine_answer_hurt(m); /* those who had hoped for the cancel */
}

/* The list shows the job whose verb met "no such job": then that verb was refused, and no other. */
void machine_is_not_gone(struct machine *m)
{
    set_mark(m, CHECKING_GONE, false);
    for (int verb = 0; verb < SHARED_VERBS; verb++) {
        if (!m->sent[verb].is_checked)
            continue;
        m->sent[verb].is_checked = false;
        answer_refused(m, (enum verb)verb, BJ_E_REFUSED, m->traits.no_such_job_class, NULL);
    }
}

/* It was ready when QEMU was back, and still is: whatever happened to our complete, it had no
 * effect. */
void machine_complete_was_not_taken(struct machine *m)
{
    set_mark(m, IS_DOUBTED, false);
    if (m->sent[VERB_COMPLETE].state != UNSURE)
        return;
    if (m->traits.replaces)
        machine_answer_all(
            m, waiter_wants_complete, BJ_E_DISCONNECTED, NULL,
            "whether QEMU has taken complete before the connection ended is unknown, and a "
            "second one might end this QEMU: wait for done, or abort it");
    else
        m->sent[VERB_COMPLETE].state = NOT_SENT;
}

void machine_end_delays(struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++) {
        if (m->sent[verb].delay == THEN_REFUSED)
            answer_refused(m, (enum verb)verb, BJ_E_REFUSED, text_str(m->refusal_class),
                           m->refusal ? text_str(m->refusal) : NULL);
        forget_delay(m, (enum verb)verb);
    }
}

/* Whoever asks when all have left has the verb sent at once. */
void machine_forget_unwanted(struct machine *m)
{
    if (m->pivots == 0)
        forget_delay(m, VERB_COMPLETE);
    if (m->soft_aborts == 0)
        forget_delay(m, VERB_CANCEL);
    if (m->force_aborts == 0)
        forget_delay(m, VERB_FORCE);
}

/* -------------------------------------------------------------- other verbs */

/* The library's own dismiss. Refused: someone else was faster, or QEMU could not; the list shows
 * which. */
static void dismiss_reply(struct machine *m, const struct verb_reply *reply)
{
    bool accepted = reply->verdict == VERDICT_ACCEPTED;

    m->sent[VERB_DISMISS].state = accepted ? ACCEPTED : NOT_SENT;
    if (accepted ? !m->traits.has_status : reply->verdict == VERDICT_NO_SUCH_JOB)
        machine_release(m);
    else if (!accepted && !machine_is(m, IS_RELEASED))
        m->port->list_jobs(m);
}

static void verb_refused(struct machine *m, struct waiter *waiter, const struct verb_reply *reply)
{
    bool gone = machine_is(m, IS_RELEASED) || m->status == STATUS_NULL ||
                (reply->verdict == VERDICT_NO_SUCH_JOB && machine_is_over(m));

    /* Our own state says more than QEMU's class and text (B39). */
    if (waiter->verb == VERB_DISMISS && gone)
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (waiter->verb != VERB_DISMISS && machine_is_over(m))
        machine_answer(m, waiter, BJ_E_STATE, NULL, "it is over");
    else
        machine_answer(m, waiter, reply->error, reply->error_class, reply->text);
}

void machine_drop_verbs(struct machine *m)
{
    static const struct verb_reply unknown = {
        .error = BJ_E_DISCONNECTED,
        .text = "the connection ended before QEMU answered: it may have been done, or not",
    };
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (waiter_is_verb(m, w))
            verb_refused(m, w, &unknown);
    }
}

/* Unless someone has resumed it again before the reply. */
static void pause_accepted(struct machine *m)
{
    if (m->pause.pausing)
        machine_stall(m, STALL_PAUSED, machine_paused_text);
    m->pause.pausing = false;
}

/* No event need follow: it may not have come to a standstill yet. A stop that came since may have
 * been before it or after it: the next event decides, or else QEMU's list. */
static void resume_accepted(struct machine *m)
{
    if (m->pause.resuming)
        machine_unstall(m);
    else if (machine_is_stalled(m) && !m->traits.has_status)
        m->port->list_jobs(m);
}

static void verb_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                       const struct verb_reply *reply)
{
    bool accepted = reply->verdict == VERDICT_ACCEPTED;

    if (verb == VERB_PAUSE && accepted)
        pause_accepted(m);
    if (verb == VERB_RESUME && accepted)
        resume_accepted(m);

    if (!waiter)
        return;
    if (!accepted)
        verb_refused(m, waiter, reply);
    else if (verb != VERB_FINALIZE || machine_is_over(m))
        machine_answer(m, waiter, BJ_OK, NULL, NULL); /* finalize is answered with the outcome */
}

/* ------------------------------------------------------------------ replies */

void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply)
{
    if (!reply->for_all)
        verb_reply(m, verb, waiter, reply);
    else if (verb == VERB_DISMISS)
        dismiss_reply(m, reply);
    else if (reply->verdict == VERDICT_ACCEPTED)
        shared_accepted(m, verb);
    else
        shared_refused(m, verb, reply);

    machine_settle(m); /* an end may have waited for this reply */
}

void machine_raw_sent(struct machine *m, enum verb verb)
{
    if (verb < SHARED_VERBS)
        m->sent[verb].raw++;
    machine_note_verb(m, verb);
}

void machine_raw_reply(struct machine *m, enum verb verb, bool accepted)
{
    if (verb < SHARED_VERBS)
        m->sent[verb].raw -= m->sent[verb].raw > 0;
    if (accepted && verb < SHARED_VERBS)
        shared_accepted(m, verb);
    else if (accepted)
        verb_reply(m, verb, NULL, &(struct verb_reply){.verdict = VERDICT_ACCEPTED});
    machine_settle(m);
}

/* ------------------------------------------------------- cuts and late lists */

/* The connection ended: the replies that are out will not come. */
void machine_forget_replies(struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++) {
        struct sent *sent = &m->sent[verb];
        if (sent->state == IN_FLIGHT || (sent->state == NOT_SENT && sent->raw > 0))
            sent->state = UNSURE;
        sent->raw = 0;
        sent->refused &= !sent->is_checked; /* nobody was told so */
        sent->is_checked = false;
        forget_delay(m, (enum verb)verb);
    }
    m->sent[VERB_COMPLETE].was_unsure |= m->sent[VERB_COMPLETE].state == UNSURE;
    m->sent[VERB_DISMISS].state = NOT_SENT;
    m->sent[VERB_DISMISS].times = 0;
    m->pause.resuming = m->pause.pausing = false;
}

/* QEMU answers in order: once it has answered a list that was asked for later, a reply that has not
 * come will not come. */
void machine_drop_replies(struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++)
        if (m->sent[verb].state == IN_FLIGHT)
            m->sent[verb].state = NOT_SENT;
}

/* The list that was asked for says more than the reply that is lost. A cancel is sent again, where
 * that does no harm; complete only when it was given time to show. */
void machine_doubt_cancels(struct machine *m)
{
    if (m->traits.no_repeats)
        return;
    for (int verb = VERB_CANCEL; verb <= VERB_FORCE; verb++)
        if (m->sent[verb].state == UNSURE)
            m->sent[verb].state = NOT_SENT;
}
