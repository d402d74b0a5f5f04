/* SPDX-License-Identifier: MIT */
/* What the files of the machine share; nobody else includes it. */
#ifndef BJ_MODEL_MACHINE_PARTS_H
#define BJ_MODEL_MACHINE_PARTS_H

#include "model/machine.h"

/* -------------------------------------------------------- what state means */

static inline bool is_still(const struct machine *m)
{
    return status_has_any(m->status, STILL);
}

/* Its work is done or given up; what is left is QEMU's. */
static inline bool is_ending(const struct machine *m)
{
    return m->end != END_NONE || status_has_any(m->status, DONE | CLOSED);
}

/* QEMU will never take this verb again. */
static inline bool is_too_late(const struct machine *m, enum verb verb)
{
    return m->end != END_NONE || verb_taking(verb, m->status) == NEVER;
}

static inline bool was_sent(const struct machine *m, enum verb verb)
{
    return m->sent[verb].state != NOT_SENT;
}

static inline bool is_accepted(const struct machine *m, enum verb verb)
{
    return m->sent[verb].state == ACCEPTED;
}

static inline bool is_aborting(const struct machine *m)
{
    return was_sent(m, VERB_CANCEL) || was_sent(m, VERB_FORCE);
}

static inline bool abort_is_accepted(const struct machine *m)
{
    return is_accepted(m, VERB_CANCEL) || is_accepted(m, VERB_FORCE);
}

static inline void set_mark(struct machine *m, enum condition mark, bool value)
{
    m->marks = value ? m->marks | mark : m->marks & ~(unsigned)mark;
}

struct text *machine_copy_text(const char *text); /* cut; takes NULL */

/* ---------------------------------------------------------------- waiters.c */

typedef bool waiter_test(const struct machine *m, const struct waiter *waiter);
waiter_test waiter_is_any, waiter_is_for_ready, waiter_is_for_release;
waiter_test waiter_is_for_outcome, waiter_is_verb;
waiter_test waiter_wants_complete; /* a pivot that is not held back */
waiter_test waiter_wants_force;    /* force, or a soft abort that has escalated */
waiter_test waiter_wants_cancel;   /* a soft abort that will not escalate */
waiter_test waiter_is_async_abort, waiter_is_async_soft_abort;
waiter_test waiter_is_hurt_by_pause, waiter_is_hurt_by_pending;

void machine_answer(struct machine *m, struct waiter *waiter, int error, const char *error_class,
                    const char *text);
void machine_answer_all(struct machine *m, waiter_test *test, int error, const char *error_class,
                        const char *text);
void machine_answer_over(struct machine *m, waiter_test *test); /* with the outcome */
void machine_answer_hurt(struct machine *m); /* all whose wait a stall makes pointless */
void machine_answer_kept(struct machine *m); /* all whom only a dismissal would help */

/* Whether the stall may be over, unheard; then a list shows it, after which all whom it hurts are
 * answered, or go on. */
bool machine_doubts_stall(struct machine *m);

/* It is over, and QEMU keeps it until somebody else dismisses it; whether its nodes are free. */
bool machine_is_kept(const struct machine *m);
bool machine_is_free(const struct machine *m);

extern const char pivoting_text[], pending_text[], machine_paused_text[];

/* ---------------------------------------------------------- machine_verbs.c */

/* Sends what is due: the one place that decides it, from what the waiters want now. */
void machine_pursue(struct machine *m);
/* What was refused because another client may be ending the job had time to show. */
void machine_end_delays(struct machine *m);
void machine_forget_unwanted(struct machine *m); /* that nobody waits for any more */
/* Starts the timer or stops it. */
void machine_set_timer(struct machine *m);
void machine_note_verb(struct machine *m, enum verb verb);
void machine_dismiss_if_due(struct machine *m);
void machine_dismiss_again(struct machine *m);
bool machine_awaits_reply(const struct machine *m); /* to a complete or a cancel, ours or raw */
bool machine_doubts_complete(const struct machine *m);
void machine_complete_was_not_taken(struct machine *m);
void machine_is_not_gone(struct machine *m);

/* Replies that will not come: after a cut, after a later list, after the first list of a new
 * connection. */
void machine_forget_replies(struct machine *m);
void machine_drop_replies(struct machine *m);
void machine_doubt_cancels(struct machine *m);

/* ---------------------------------------------------------------- machine.c */

/* What follows from everything that happens: the outcome if it is known, what is due, the timer.
 * Each function of machine.h that may leave the run going on otherwise than before ends with it. */
void machine_settle(struct machine *m);
void machine_release(struct machine *m);
void machine_stall(struct machine *m, enum stall kind, const char *reason);
void machine_unstall(struct machine *m);

#endif
