/* SPDX-License-Identifier: MIT */
/*
 * The truth about one run of one block job: a state machine without sockets, JSON or time. It is
 * fed facts and answers with effects; all rules of the contract are here, and what can be written
 * as data is in tables.h.
 *
 *   what is known        valid when
 *   -------------        ----------
 *   status               QEMU reports it (3.0 and later: events; else rows); STATUS_NONE before
 *   ready                once true, true forever (B27, B28)
 *   stall                the job is stalled, and someone has to act (B13)
 *   end                  the first terminal event that came; nothing after it changes it (B18)
 *   outcome              the end and the accepted verbs, put together; latched once
 *   released             QEMU has let go of the run
 *
 * End and outcome differ: a COMPLETED event may come before the reply that shows whether our
 * complete or our cancel was accepted (B02), and then the outcome waits for that reply.
 *
 * No port function may call back into the machine. One thread at a time.
 */
#ifndef BJ_MODEL_MACHINE_H
#define BJ_MODEL_MACHINE_H

#include "model/tables.h"
#include "model/words.h"

#include <blockjob/blockjob.h>

/* Someone who waits. Belongs to the caller; in the machine's list from machine_ask() until it is
 * answered or machine_leave(). */
struct waiter {
    struct waiter *prev, *next;
    enum question question;
    int flags;              /* bj_pivot_flags, bj_abort_flags or bj_finish_flags */
    int64_t force_after_ms; /* soft abort: then its owner calls machine_escalate(); 0: never */
    bool held;              /* pivot: not to be sent before machine_unhold() */
    enum verb verb;         /* ASK_VERB */
    int64_t speed;          /* VERB_SET_SPEED */
    const char *options;    /* VERB_CHANGE: a JSON object, the caller's */
};

struct answer {
    int error;               /* bj_error */
    int cause;               /* BJ_E_JOB_LOST: what ended the connection, if that is why */
    const char *error_class; /* BJ_E_REFUSED: QEMU's; else NULL */
    const char *text; /* why, without the job's name; NULL: the error and the outcome say it all */
};

/* What every observer is to learn. */
enum report {
    REPORT_STATUS,
    REPORT_READY,
    REPORT_STALLED,
    REPORT_RESUMED,
    REPORT_ENDED,
    REPORT_RELEASED /* nothing more can come of this run */
};

/* Why a job has stopped that a list shows to have no space left for what it writes. */
extern const char machine_no_space_text[];

struct machine;

/* The effects: what the machine wants done. */
struct machine_port {
    /* Write the verb; `waiter` is its only asker, or NULL when it is for all. Then machine_reply().
     */
    void (*send)(struct machine *m, enum verb verb, struct waiter *waiter);
    /* Ask QEMU for the job list; then machine_row() or machine_absent(). */
    void (*list_jobs)(struct machine *m);
    /* Compare the block graph: was the disk switched? Then machine_compared() (B15). */
    void (*compare_graph)(struct machine *m);
    /* Then machine_tick(); ms 0 stops it. For what may pass by itself: a job that is still for an
     * unknown reason, or concluded and not dismissed; a complete that QEMU may have taken or not,
     * or has refused because another client ends the job. */
    void (*set_timer)(struct machine *m, int64_t ms);
    /* The waiter is out of the list before this is called. */
    void (*answer)(struct machine *m, struct waiter *waiter, const struct answer *answer);
    void (*report)(struct machine *m, enum report report, const char *text);
};

struct machine_traits {
    bool never_ready; /* stream, backup, ...: ready will never come (B09) */
    bool switches;    /* a mirror: COMPLETED alone does not say how it ended */
    bool is_commit;   /* it switches if it is of the active layer, as READY or the graph shows */
    bool has_graph;   /* this QEMU's graph shows which layer that is */
    bool ours;        /* started here with auto-dismiss off: dismissed by us (B40) */
    bool undecided;   /* our start that may be its has no reply yet; see machine_decide_owner() */
    bool kept;        /* somebody else's, with auto-dismiss off: it stays after its end */
    bool has_status;  /* this QEMU reports statuses by events */
    bool silent;     /* it has no event for a cancel: a job that is gone was cancelled (B57, B58) */
    bool no_repeats; /* a cancel that is sent twice does harm there (RHEL 6.3, B59) */
    bool replaces;   /* a complete that is sent twice ends QEMU (B32) */
    int64_t stall_ms;              /* how long a job is still before it counts as stalled */
    const char *no_such_job_class; /* of the error that says so */
    const struct denial *denial;   /* no verb is taken, and ready need not be waited for to say so;
                                      static; NULL: they are */
};

/* A verb that is sent once for all who want it (B32): the waiters say who does. */
enum sent_state {
    NOT_SENT,
    IN_FLIGHT,
    UNSURE, /* the connection ended before the reply: taken or not */
    ACCEPTED
};
/* After a refusal that may be due to another client, who is ending the job. */
enum delay {
    NO_DELAY,
    THEN_REFUSED, /* if it has not ended until then, that is the answer */
    THEN_SENT     /* it is sent again then */
};
struct sent {
    enum sent_state state;
    unsigned raw;    /* sent by the program itself as raw commands, not answered yet */
    unsigned times;  /* complete: how often a standstill excused a refusal; dismiss: was sent */
    bool stood;      /* complete: the job was still since it was sent (5.2 refuses it there) */
    bool was_unsure; /* complete: its reply was lost once */
    bool refused;    /* cancel: and not asked for again since */
    bool in_pending; /* cancel: the job was pending when it was sent */
    bool is_checked; /* it met "no such job": a list shows whether there is one */
    enum delay delay;
};
#define SHARED_VERBS (VERB_FORCE + 1) /* complete and the two cancels */

struct machine {
    const struct machine_port *port;
    struct machine_traits traits;

    unsigned marks; /* enum condition */
    enum status status;
    enum stall stall;
    enum end end;
    bj_outcome outcome;
    int lost_error; /* BJ_E_JOB_LOST or BJ_E_CLOSED once the outcome is LOST */
    int lost_cause; /* of a BJ_E_JOB_LOST: what ended the connection; BJ_OK: something else */
    struct text
        *text; /* why it FAILED, was LOST, or why a switch is unknown; also a stall's reason */

    struct sent sent[VERB_DISMISS + 1];
    struct text *refusal, *refusal_class; /* THEN_REFUSED: QEMU's words */
    struct {
        bool resuming; /* a resume was sent, and no stop came since */
        bool pausing;  /* a pause was sent, and nothing ended it since */
        bool stood;    /* the job was still since */
        int rows;      /* in a row, where no event reports a pause; < 0: rows that are not paused */
    } pause;

    struct waiter *waiters;
    size_t pivots, held_pivots, soft_aborts, force_aborts; /* of them; a finish is a pivot */
};

void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits);
void machine_clear(struct machine *m); /* nobody waits any more */

/* -------------------------------------------------------------------- state */

static inline const struct machine_traits *machine_traits(const struct machine *m)
{
    return &m->traits;
}

/* To complete what was known of the job when it began. */
static inline struct machine_traits *machine_learn(struct machine *m)
{
    return &m->traits;
}

static inline bool machine_is(const struct machine *m, enum condition mark)
{
    return (m->marks & mark) != 0;
}

/* BJ_OUTCOME_NONE until it is over. */
static inline bj_outcome machine_outcome(const struct machine *m)
{
    return m->outcome;
}

static inline bool machine_is_over(const struct machine *m)
{
    return m->outcome != BJ_OUTCOME_NONE;
}

/* Its terminal event came; the outcome may still depend on a reply or the block graph. */
static inline bool machine_has_end(const struct machine *m)
{
    return m->end != END_NONE;
}

/* A complete or an abort was accepted, or it is going the way of one. */
static inline bool machine_is_told_to_end(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].state == ACCEPTED || m->sent[VERB_CANCEL].state == ACCEPTED ||
           m->sent[VERB_FORCE].state == ACCEPTED || m->status == STATUS_ABORTING;
}

/* No status was seen yet. */
static inline bool machine_is_fresh(const struct machine *m)
{
    return m->status == STATUS_NONE;
}

static inline bool machine_is_stalled(const struct machine *m)
{
    return m->stall != STALL_NONE;
}

/* Why it failed, was lost or is stalled; NULL: no reason. The machine's. */
static inline struct text *machine_text(const struct machine *m)
{
    return m->text;
}

/* BJ_OK, BJ_E_JOB_FAILED, or why it was lost. */
int machine_error(const struct machine *m);

/* What ended the connection, if it was lost by that; else BJ_OK. */
int machine_cause(const struct machine *m);

static inline bool machine_is_awaited(const struct machine *m)
{
    return m->waiters != NULL;
}

static inline bool machine_awaits_pivot(const struct machine *m)
{
    return m->pivots > 0 && !machine_is_over(m);
}

/* Someone waits for what a job that is paused does not do. */
static inline bool machine_awaits_movement(const struct machine *m)
{
    return m->pivots + m->held_pivots + m->soft_aborts + m->force_aborts > 0;
}

/* A pivot would be sent at once, or is under way. Can change with every fact. */
bool machine_can_pivot(const struct machine *m);

/* The block graph of now may one day show whether it switched the disk. */
static inline bool machine_may_switch(const struct machine *m)
{
    return !m->traits.never_ready && !machine_is_over(m) && !machine_has_end(m);
}

/* The graph of after its end shows whether it did, without a snapshot of before. */
static inline bool machine_needs_no_snapshot(const struct machine *m)
{
    return m->traits.is_commit && m->traits.has_graph;
}

/* It is over, and QEMU keeps it until we dismiss it. */
static inline bool machine_owes_dismissal(const struct machine *m)
{
    return m->traits.ours && machine_is_over(m) && !machine_is(m, IS_RELEASED) &&
           m->outcome != BJ_OUTCOME_LOST;
}

/* Differs where machine_memory() does: that is asked for with each event, and this is cheap. */
static inline unsigned machine_memory_key(const struct machine *m)
{
    const struct sent *sent = m->sent;
    unsigned raw =
        sent[VERB_COMPLETE].raw << 18 | sent[VERB_CANCEL].raw << 22 | sent[VERB_FORCE].raw << 26;
    unsigned states = sent[VERB_COMPLETE].state << 12 | sent[VERB_CANCEL].state << 14 |
                      sent[VERB_FORCE].state << 16;

    return (m->marks & (IS_READY | WAS_DONE | WAS_ABORTING)) | (unsigned)m->traits.ours << 8 |
           (unsigned)sent[VERB_COMPLETE].was_unsure << 9 | states | raw;
}

/* ------------------------------------------------------------------ callers */

/* Callers come and go. machine_ask() may answer at once (B04). */
void machine_ask(struct machine *m, struct waiter *waiter);
void machine_leave(struct machine *m, struct waiter *waiter);
void machine_escalate(struct machine *m, struct waiter *waiter); /* a soft abort becomes force */
void machine_unhold(struct machine *m, struct waiter *waiter);   /* a held pivot is wanted now */

/* -------------------------------------------------------------------- facts */

/* Every text is copied. */
void machine_status_event(struct machine *m, enum status status);
void machine_ready_event(struct machine *m);
void machine_completed_event(struct machine *m, const char *error); /* NULL: no error */
void machine_cancelled_event(struct machine *m);
void machine_stopped_event(struct machine *m,
                           const char *reason); /* BLOCK_JOB_ERROR, action stop (B12) */
void machine_pending_event(struct machine *m);  /* waits for finalize */

/* The reply to a verb. `waiter` as it was in send(): NULL if that was for all, or if it has left.
 */
void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply);

/* A verb that the program has sent by itself, as a raw command: on its way, answered. */
void machine_raw_sent(struct machine *m, enum verb verb);
void machine_raw_reply(struct machine *m, enum verb verb, bool accepted);

/* What a job list says. Never overrules an event (B28). */
void machine_row(struct machine *m, const struct row *row);
void machine_absent(struct machine *m);
void machine_list_failed(struct machine *m); /* it was not to be had */

void machine_compared(struct machine *m, enum disk_switch result);

void machine_tick(struct machine *m);

/* The connection has ended and is being made again; then one of the other two: QEMU lists the job,
 * or does not (B45, B46). */
void machine_disconnected(struct machine *m);
void machine_reconnected_listed(struct machine *m, const struct row *row);
void machine_reconnected_absent(struct machine *m);

/* What is to be remembered of it (enum memory_fact, without MEMORY_UNIQUE). */
unsigned machine_memory(const struct machine *m);
/* It begins with what is remembered of it, as after machine_disconnected(); then as there, or it
 * ended unseen. */
struct memory;
void machine_recall(struct machine *m, const struct memory *memory);
void machine_pivoted_unseen(struct machine *m);
void machine_cancelled_unseen(struct machine *m);
/* It turns out to be the run of that memory. */
void machine_adopt(struct machine *m, const struct memory *memory);

/* Until it is known whose it is, it is neither dismissed nor let go of before QEMU does. */
void machine_decide_owner(struct machine *m, bool ours);

/* Another run has its id: QEMU let go of it, and what has no reply yet has not reached it. */
void machine_superseded(struct machine *m);

/* No verb can be sent: those who wait for one are answered. */
void machine_drop_verbs(struct machine *m);

/* Everyone is answered, although it goes on: all that is left to do is to dismiss it. */
void machine_abandon(struct machine *m, int error, const char *reason);

/* No more facts will come: it was closed (BJ_E_CLOSED), it vanished (BJ_E_JOB_LOST), or the
 * connection is over, by any other error. */
void machine_lost(struct machine *m, int why, const char *reason);

#endif
