/* SPDX-License-Identifier: MIT */
/*
 * Those who wait for a run: what each of them wants, and when it is answered.
 */
#include "base/text.h"
#include "model/machine_parts.h"

const char pending_text[] = "it is pending: finalize it, then wait for done";
const char pivoting_text[] = "a pivot is under way: only force aborts it";

static const char kept_text[] =
    "it is over, and QEMU keeps its nodes until somebody dismisses it: dismiss it";
static const char away_text[] = "the connection to QEMU is being made again: ask when it is";

/* ----------------------------------------------------------------- the list */

static bool is_pivot(const struct waiter *waiter)
{
    return waiter->question == ASK_PIVOT || waiter->question == ASK_FINISH;
}

/* How many want what machine_pursue() decides on: looking through ten thousand waiters for each new
 * one would cost their square. NULL: nothing of the kind. */
static size_t *count_of(struct machine *m, const struct waiter *waiter)
{
    if (is_pivot(waiter))
        return waiter->held ? &m->held_pivots : &m->pivots;
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

/* ------------------------------------------------------------ what one wants */

bool waiter_is_any(const struct machine *m, const struct waiter *waiter)
{
    (void)m, (void)waiter;
    return true;
}

/* Once the job is over nobody wants a verb any more: what is left to wait for is its release. One
 * that is held back has no part in what becomes of a complete. */
bool waiter_wants_complete(const struct machine *m, const struct waiter *waiter)
{
    return is_pivot(waiter) && !waiter->held && !machine_is_over(m);
}

bool waiter_is_for_ready(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_READY;
}

bool waiter_is_for_release(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_RELEASED ||
           (waiter->flags & released_flag(waiter->question)) != 0;
}

bool waiter_is_verb(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_VERB;
}

bool waiter_wants_force(const struct machine *m, const struct waiter *waiter)
{
    return waiter->question == ASK_ABORT && (waiter->flags & BJ_ABORT_FORCE) && !machine_is_over(m);
}

static bool is_soft_abort(const struct waiter *waiter)
{
    return waiter->question == ASK_ABORT && !(waiter->flags & BJ_ABORT_FORCE);
}

/* A refused soft cancel is the end of this one; one that escalates still has its force. */
bool waiter_wants_cancel(const struct machine *m, const struct waiter *waiter)
{
    return is_soft_abort(waiter) && waiter->force_after_ms == 0 && !machine_is_over(m);
}

static bool is_async(const struct waiter *waiter, enum question question)
{
    return waiter->question == question && (waiter->flags & async_flag(question));
}

bool waiter_is_async_pivot(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return is_async(waiter, ASK_PIVOT) && !waiter->held;
}

bool waiter_is_async_abort(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return is_async(waiter, ASK_ABORT);
}

bool waiter_is_async_soft_abort(const struct machine *m, const struct waiter *waiter)
{
    return waiter_is_async_abort(m, waiter) && is_soft_abort(waiter);
}

bool waiter_is_for_outcome(const struct machine *m, const struct waiter *waiter)
{
    if (waiter->question == ASK_VERB)
        return waiter->verb == VERB_FINALIZE;
    return !waiter_is_for_release(m, waiter);
}

/* ------------------------------------------------------------------ stalled */

/* A soft cancel of a ready job only means "finish the copy", and a copy that stops waits to be
 * resumed; every other abort ends the job without anyone's help, once it is `state`. */
static bool abort_ends_it(const struct machine *m, enum sent_state state)
{
    return m->sent[VERB_FORCE].state >= state ||
           (m->sent[VERB_CANCEL].state >= state && !machine_is(m, IS_READY));
}

/* It is done when QEMU has accepted, whatever becomes of the job; a refusal is told then. */
static bool awaits_acceptance(const struct machine *m, const struct waiter *waiter)
{
    bool aborts = m->sent[VERB_CANCEL].state == IN_FLIGHT || m->sent[VERB_FORCE].state == IN_FLIGHT;
    bool completes = m->sent[VERB_COMPLETE].state == IN_FLIGHT;
    return (aborts && waiter_is_async_abort(m, waiter)) ||
           (completes && waiter_is_async_pivot(m, waiter));
}

static bool is_hurt(const struct machine *m, const struct waiter *waiter, enum stall stall)
{
    if (waiter->question == ASK_ABORT && !waiter_wants_cancel(m, waiter))
        return false;
    if (machine_is_over(m) || awaits_acceptance(m, waiter))
        return false;
    switch (when_stalled(waiter->question, stall)) {
    case NEVER_STALLED:
        return false;
    case STALLED:
        return true;
    case UNLESS_ENDING:
        return !abort_ends_it(m, ACCEPTED);
    case UNLESS_ABORTED:
        return !abort_ends_it(m, IN_FLIGHT);
    case IF_CANCELLED_BEFORE:
        return is_accepted(m, VERB_CANCEL) && !m->sent[VERB_CANCEL].in_pending;
    }
    return false;
}

bool waiter_is_hurt_by_pause(const struct machine *m, const struct waiter *waiter)
{
    return is_hurt(m, waiter, STALL_PAUSED);
}

bool waiter_is_hurt_by_pending(const struct machine *m, const struct waiter *waiter)
{
    return is_hurt(m, waiter, STALL_PENDING);
}

static bool is_hurt_now(const struct machine *m, const struct waiter *waiter)
{
    return is_hurt(m, waiter, m->stall);
}

/* ------------------------------------------------------------------ answers */

void machine_answer(struct machine *m, struct waiter *waiter, int error, const char *error_class,
                    const char *text)
{
    unlink_waiter(m, waiter);
    m->port->answer(m, waiter,
                    &(struct answer){
                        .error = error,
                        .cause = error == BJ_E_JOB_LOST ? m->lost_cause : BJ_OK,
                        .error_class = error_class,
                        .text = text,
                    });
}

void machine_answer_all(struct machine *m, waiter_test *test, int error, const char *error_class,
                        const char *text)
{
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (test(m, w))
            machine_answer(m, w, error, error_class, text);
    }
}

void machine_answer_hurt(struct machine *m)
{
    if (machine_is_stalled(m))
        machine_answer_all(m, is_hurt_now, BJ_E_STALLED, NULL, text_str(m->text));
}

static int error_when_over(const struct machine *m, const struct waiter *waiter)
{
    int error = answer_when_over(waiter->question, m->outcome);

    if (waiter->question == ASK_READY && machine_is(m, IS_READY))
        return BJ_OK;
    if (waiter->question == ASK_FINISH && machine_is(m, IS_UNCLEAR))
        return BJ_E_JOB_ENDED;
    return error == BJ_E_JOB_LOST ? m->lost_error : error;
}

static void answer_over(struct machine *m, struct waiter *waiter)
{
    int error = error_when_over(m, waiter);
    machine_answer(m, waiter, error, NULL, error == BJ_OK || !m->text ? NULL : text_str(m->text));
}

void machine_answer_over(struct machine *m, waiter_test *test)
{
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (test(m, w))
            answer_over(m, w);
    }
}

/* --------------------------------------------------------------- released */

bool machine_is_kept(const struct machine *m)
{
    return machine_is_over(m) && m->status == STATUS_CONCLUDED && !m->traits.ours &&
           !m->traits.undecided && !machine_is(m, IS_RELEASED);
}

/* A mirror or an active commit gives its nodes back in the end; a stream or an inner commit has
 * them until it is dismissed. */
bool machine_is_free(const struct machine *m)
{
    bool gives_back = m->traits.switches || machine_is(m, IS_READY);
    return machine_is(m, IS_RELEASED) || (machine_is_kept(m) && gives_back);
}

static bool fails_when_over(const struct machine *m, const struct waiter *waiter)
{
    return waiter_is_for_release(m, waiter) && error_when_over(m, waiter) != BJ_OK;
}

/* How it ended matters more than that it is kept. */
void machine_answer_kept(struct machine *m)
{
    machine_answer_over(m, fails_when_over);
    machine_answer_all(m, waiter_is_for_release, BJ_E_STALLED, NULL, kept_text);
}

/* ------------------------------------------------------------------ callers */

/* If there is a stall that hurts it, it is answered: now, or when a list has confirmed it. */
static bool answered_as_hurt(struct machine *m, struct waiter *waiter)
{
    if (!machine_is_stalled(m) || !is_hurt_now(m, waiter))
        return false;
    if (!machine_doubts_stall(m))
        machine_answer(m, waiter, BJ_E_STALLED, NULL, text_str(m->text));
    return true;
}

static void ask_ready(struct machine *m, struct waiter *waiter)
{
    if (machine_is(m, IS_READY))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (m->traits.never_ready)
        machine_answer(m, waiter, BJ_E_STATE, NULL,
                       "a job of this type is never ready: wait for done");
    else
        answered_as_hurt(m, waiter);
}

static void ask_finish(struct machine *m, struct waiter *waiter)
{
    if (is_aborting(m))
        machine_answer(m, waiter, BJ_E_STATE, NULL, "it is being aborted"); /* B34 */
    else if (waiter_is_async_pivot(m, waiter) && is_accepted(m, VERB_COMPLETE))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (machine_is(m, IS_PENDING) && waiter_is_hurt_by_pending(m, waiter))
        machine_answer(m, waiter, BJ_E_STALLED, NULL, pending_text); /* B42 */
    else
        answered_as_hurt(m, waiter);
}

static void ask_pivot(struct machine *m, struct waiter *waiter)
{
    bool only_if_ready = waiter->flags & BJ_PIVOT_ONLY_IF_READY;

    if (m->traits.never_ready)
        machine_answer(m, waiter, BJ_E_STATE, NULL,
                       "a job of this type has no pivot: wait for done");
    else if (m->traits.denial)
        machine_answer(m, waiter, BJ_E_REFUSED, m->traits.denial->error_class,
                       m->traits.denial->text);
    else if (only_if_ready && !machine_is(m, IS_READY) && !is_aborting(m) &&
             !machine_is(m, IS_PENDING))
        machine_answer(m, waiter, BJ_E_NOT_READY, NULL, NULL);
    else
        ask_finish(m, waiter);
}

static void ask_soft_abort(struct machine *m, struct waiter *waiter)
{
    bool async = waiter_is_async_abort(m, waiter);
    bool pivoting = was_sent(m, VERB_COMPLETE) && !machine_is(m, IS_PENDING);

    m->sent[VERB_CANCEL].refused = false; /* that was another caller's */
    if (async && abort_is_accepted(m))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (machine_is(m, IS_PENDING) && waiter_is_hurt_by_pending(m, waiter))
        machine_answer(m, waiter, BJ_E_STALLED, NULL, pending_text);
    else if (async && pivoting && !is_aborting(m))
        machine_answer(m, waiter, BJ_E_STATE, NULL, pivoting_text);
    else
        answered_as_hurt(m, waiter);
}

static void ask_abort(struct machine *m, struct waiter *waiter)
{
    if (!waiter_wants_force(m, waiter))
        ask_soft_abort(m, waiter);
    else if (waiter_is_async_abort(m, waiter) && is_accepted(m, VERB_FORCE))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
}

static void ask_dismiss_over(struct machine *m, struct waiter *waiter)
{
    bool may_be_there = !machine_is(m, IS_RELEASED) || (m->traits.kept && !m->traits.has_status);

    if (!may_be_there || m->traits.ours)
        machine_answer(m, waiter, BJ_OK, NULL, NULL); /* ours we dismiss ourselves, once (B40) */
    else if (machine_is(m, IS_AWAY))
        machine_answer(m, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    else
        m->port->send(m, VERB_DISMISS, waiter);
}

static void ask_verb(struct machine *m, struct waiter *waiter)
{
    if (m->outcome == BJ_OUTCOME_LOST) {
        answer_over(m, waiter);
    } else if (machine_is_over(m) && waiter->verb == VERB_DISMISS) {
        ask_dismiss_over(m, waiter);
    } else if (machine_is_over(m) || (m->end != END_NONE && waiter->verb != VERB_DISMISS)) {
        machine_answer(m, waiter, BJ_E_STATE, NULL, "it is over");
    } else if (machine_is(m, IS_AWAY)) {
        machine_answer(m, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    } else {
        machine_note_verb(m, waiter->verb);
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
        answered_as_hurt(m, waiter);
        break;
    case ASK_PIVOT:
        ask_pivot(m, waiter);
        break;
    case ASK_ABORT:
        ask_abort(m, waiter);
        break;
    case ASK_FINISH:
        ask_finish(m, waiter);
        break;
    case ASK_VERB:
        break;
    }
    machine_settle(m);
}

void machine_ask(struct machine *m, struct waiter *waiter)
{
    link_waiter(m, waiter);

    if (waiter->question == ASK_VERB)
        ask_verb(m, waiter);
    else if (!machine_is_over(m))
        ask_running(m, waiter);
    else if (!waiter_is_for_release(m, waiter) || machine_is_free(m))
        answer_over(m, waiter);
    else
        machine_set_timer(m);
}

void machine_leave(struct machine *m, struct waiter *waiter)
{
    unlink_waiter(m, waiter);
    machine_settle(m); /* a pivot may have waited for this abort to be over */
}

void machine_escalate(struct machine *m, struct waiter *waiter)
{
    count_waiter(m, waiter, false);
    waiter->flags |= BJ_ABORT_FORCE;
    count_waiter(m, waiter, true);
    waiter->force_after_ms = 0;
    machine_settle(m);
}

void machine_unhold(struct machine *m, struct waiter *waiter)
{
    count_waiter(m, waiter, false);
    waiter->held = false;
    count_waiter(m, waiter, true);
    machine_settle(m);
}
