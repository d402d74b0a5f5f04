/* SPDX-License-Identifier: MIT */
/*
 * The truth about one run of one block job: a state machine that knows neither sockets nor JSON nor
 * time. It is fed facts and gives back actions; all rules of the contract live here.
 *
 *   what is known        valid when
 *   -------------        ----------
 *   status               QEMU tells it (3.0 and later: events; else rows); STATUS_NONE before
 *   ready                once true, true for ever (B27, B28)
 *   stall                the job stands still and someone has to act (B13)
 *   end                  the first terminal event that came; nothing after it changes it (B18)
 *   outcome              the end and the verbs that were accepted, put together; latched once
 *   released             QEMU has let go of the run
 *
 * End and outcome differ: a COMPLETED event may come before the reply that tells whether our
 * complete or our cancel was accepted (B02), and then the outcome waits for that reply.
 *
 * No port function may call back into the machine. One thread at a time.
 */
#ifndef BJ_MODEL_MACHINE_H
#define BJ_MODEL_MACHINE_H

#include <blockjob/blockjob.h>

enum status {
    STATUS_NONE, /* not told, or one we don't know (B49) */
    STATUS_CREATED,
    STATUS_RUNNING,
    STATUS_PAUSED,
    STATUS_READY,
    STATUS_STANDBY,
    STATUS_WAITING,
    STATUS_PENDING,
    STATUS_ABORTING,
    STATUS_CONCLUDED,
    STATUS_NULL
};

const char *job_status_name(enum status status);
enum status job_status_of(const char *name);

enum verb {
    VERB_COMPLETE,
    VERB_CANCEL,
    VERB_FORCE,
    VERB_PAUSE,
    VERB_RESUME,
    VERB_SET_SPEED,
    VERB_CHANGE,
    VERB_FINALIZE,
    VERB_DISMISS
};

/* How far a verb of ours has come. Complete and the two cancels are sent once for all who want
 * them (B32); the waiters say who does. */
enum sent_state {
    NOT_SENT,
    IN_FLIGHT,
    UNSURE, /* the connection ended before the reply: taken or not */
    ACCEPTED
};

enum question {
    ASK_READY,
    ASK_DONE,
    ASK_RELEASED,
    ASK_PIVOT,
    ASK_ABORT,
    ASK_VERB /* pause, resume, ..., dismiss: a request of its own each */
};

/* Someone who waits. Belongs to the caller; in the machine's list from machine_ask() until it is
 * answered or machine_leave(). */
struct waiter {
    struct waiter *prev, *next;
    enum question question;
    int flags;              /* bj_pivot_flags or bj_abort_flags */
    int64_t force_after_ms; /* soft abort: then its owner calls machine_escalate(); 0: never */
    bool held;              /* pivot: not to be sent before machine_unhold() */
    enum verb verb;         /* ASK_VERB */
    int64_t speed;          /* VERB_SET_SPEED */
    const char *options;    /* VERB_CHANGE: a JSON object, the caller's */
};

struct answer {
    int error;               /* bj_error */
    const char *error_class; /* BJ_E_REFUSED: QEMU's; else NULL */
    const char *text; /* why, without the job's name; NULL: the error and the outcome say it all */
};

enum report {
    REPORT_STATUS,
    REPORT_READY,
    REPORT_STALLED,
    REPORT_RESUMED,
    REPORT_ENDED,
    REPORT_RELEASED /* nothing more can come of this run */
};

struct machine;

/* What the machine wants done. */
struct machine_port {
    /* Write the verb; `waiter` is its only asker, or NULL when it is for all. Then machine_reply().
     */
    void (*send)(struct machine *m, enum verb verb, struct waiter *waiter);
    /* Ask QEMU for the jobs there are; then machine_row() or machine_absent(). */
    void (*list_jobs)(struct machine *m);
    /* Look at the block graph whether the disk was switched; then machine_compared() (B15). */
    void (*compare_graph)(struct machine *m);
    /* Then machine_tick(); ms 0 stops it. For a job that stands still, nobody knows why; and for a
     * complete of which nobody knows whether QEMU has taken it. */
    void (*set_timer)(struct machine *m, int64_t ms);
    /* The waiter is out of the list before this is called. */
    void (*answer)(struct machine *m, struct waiter *waiter, const struct answer *answer);
    void (*report)(struct machine *m, enum report news, const char *text);
};

enum stall {
    STALL_NONE,
    STALL_PAUSED, /* by us, or by someone else */
    STALL_ERROR   /* on-error=stop or enospc */
};

enum end { END_NONE, END_COMPLETED, END_CANCELLED, END_FAILED };

struct machine_traits {
    bool never_ready; /* stream, backup, ...: ready will never come (B09) */
    bool switches;    /* a mirror: COMPLETED alone does not say how it ended */
    bool ours;        /* started here with auto-dismiss off: dismissed by us (B40) */
    bool kept;        /* somebody else's, with auto-dismiss off: it stays after its end */
    bool has_status;  /* this QEMU tells statuses by events */
    bool silent;      /* it has no event for a cancel: gone is cancelled there (B57, B58) */
    bool no_repeats;  /* a cancel that is sent twice does harm there (RHEL 6.3, B59) */
    bool replaces;    /* a complete that is sent twice ends QEMU (B32) */
    int64_t stall_ms; /* how long a standstill may last before it is called one */
};

struct machine {
    const struct machine_port *port;
    struct machine_traits traits;

    enum status status;
    bool ready;
    enum stall stall;
    bool timer_runs;
    bool resuming;   /* a resume was sent, and no stop came since */
    bool pausing;    /* a pause was sent, and nothing ended it since */
    bool pause_seen; /* a standstill came since */
    int paused_rows; /* one after the other, where no event tells of a pause; < 0: not paused */
    bool released;
    bool pending;  /* waits for finalize (B42) */
    bool finished; /* was waiting or pending: what was to be done is done */
    bool aborted;  /* was aborting */
    bool away;     /* the connection has ended and is being made again: nothing is sent */
    bool gap;      /* events were missed, and no list has shown it at work since */
    bool heard;    /* an event came since: it knows better than the list that was asked for */
    bool made_up;  /* its end is one that QEMU has no event for */

    enum end end;
    bj_outcome outcome;
    int lost_error; /* BJ_E_JOB_LOST or BJ_E_CLOSED once outcome is LOST */
    struct text
        *text; /* why it FAILED, was LOST, or why a switch is unknown; also a stall's reason */

    enum sent_state complete;
    enum sent_state cancel;
    enum sent_state force;
    unsigned raw[VERB_FORCE + 1]; /* sent by the program itself, not answered yet */
    bool cancelled_in_pending;    /* when it was sent */
    bool cancel_refused;          /* and not asked for again since */
    bool dismissing;
    unsigned dismisses; /* how often ours was sent */
    bool graph_asked;
    bool gone_asked; /* a verb met "no such job", and a query is to tell */
    bool stood;      /* it left ready for standby since complete was sent (5.2 refuses it there) */
    bool doubted;    /* whether QEMU has taken complete was asked a while after it came back */
    bool maybe_completing; /* the reply to a complete was lost once */
    unsigned completes;    /* how often complete was sent (B33) */

    struct waiter *waiters;
    size_t pivots, soft_aborts, force_aborts; /* of them */
};

void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits);
void machine_clear(struct machine *m); /* nobody waits any more */

bool machine_is_over(const struct machine *m);

/* Callers come and go. machine_ask() may answer at once (B04). */
void machine_ask(struct machine *m, struct waiter *waiter);
void machine_leave(struct machine *m, struct waiter *waiter);
void machine_escalate(struct machine *m, struct waiter *waiter); /* a soft abort becomes force */
void machine_unhold(struct machine *m, struct waiter *waiter);   /* a held pivot is wanted now */

/* A pivot would be sent at once, or is under way. Can change with every fact. */
bool machine_can_pivot(const struct machine *m);

/* Facts. Every text is copied. */
void machine_status_event(struct machine *m, enum status status);
void machine_ready_event(struct machine *m);
void machine_completed_event(struct machine *m, const char *error); /* NULL: no error */
void machine_cancelled_event(struct machine *m);
void machine_stopped_event(struct machine *m,
                           const char *reason); /* BLOCK_JOB_ERROR, action stop (B12) */
void machine_pending_event(struct machine *m);  /* waits for finalize */

/* The reply to a verb. `waiter` as it was in send(), NULL if it has left. */
struct verb_reply {
    bool accepted;
    bool no_job; /* the error class says that there is no such job */
    int error;   /* bj_error, when not accepted */
    const char *error_class;
    const char *text;
};
void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply);

/* A verb that the program has sent by itself, as a raw command: on its way, answered. */
void machine_raw_sent(struct machine *m, enum verb verb);
void machine_raw_reply(struct machine *m, enum verb verb, bool accepted);

/* What a query said. Never overrules an event (B28). */
struct row {
    enum status status;
    bool ready;
    bool paused;
    bool hides_pause;  /* the list does not tell whether it is paused */
    bool io_error;     /* io-status is not ok, and it is paused */
    const char *error; /* of a concluded job; NULL if none */
};
void machine_row(struct machine *m, const struct row *row);
void machine_absent(struct machine *m);

enum disk_switch { SWITCH_UNKNOWN, SWITCHED, NOT_SWITCHED };
void machine_compared(struct machine *m, enum disk_switch result);

void machine_tick(struct machine *m);

/* The connection has ended and is being made again; then one of the other two: QEMU lists the job,
 * or does not (B45, B46). */
void machine_disconnected(struct machine *m);
void machine_reconnected_listed(struct machine *m, const struct row *row);
void machine_reconnected_absent(struct machine *m);

/* Nothing more will be heard: the connection is over (BJ_E_JOB_LOST) or was closed (BJ_E_CLOSED).
 */
void machine_lost(struct machine *m, int error, const char *reason);

#endif
