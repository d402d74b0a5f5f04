/* SPDX-License-Identifier: MIT */
/*
 * The truth about one run of one block job: a state machine that knows neither sockets nor JSON nor
 * time. It is fed facts and gives back actions; all rules of the contract live here.
 *
 *   what is known        valid when
 *   -------------        ----------
 *   status               QEMU tells it (3.0 and later: events; else rows); JOB_STATUS_NONE before
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

enum job_status {
    JOB_STATUS_NONE, /* not told, or one we don't know (B49) */
    JOB_STATUS_CREATED,
    JOB_STATUS_RUNNING,
    JOB_STATUS_PAUSED,
    JOB_STATUS_READY,
    JOB_STATUS_STANDBY,
    JOB_STATUS_WAITING,
    JOB_STATUS_PENDING,
    JOB_STATUS_ABORTING,
    JOB_STATUS_CONCLUDED,
    JOB_STATUS_NULL
};

const char *job_status_name(enum job_status status);
enum job_status job_status_of(const char *name);

enum job_verb {
    JOB_COMPLETE,
    JOB_CANCEL,
    JOB_CANCEL_FORCE,
    JOB_PAUSE,
    JOB_RESUME,
    JOB_SET_SPEED,
    JOB_CHANGE,
    JOB_FINALIZE,
    JOB_DISMISS
};

/* How far a verb of ours has come. Complete and the two cancels are sent once for all who want
 * them (B32); the waiters say who does. */
enum job_request {
    JOB_REQUEST_NONE,
    JOB_REQUEST_SENT,
    JOB_REQUEST_UNKNOWN, /* the connection ended before the reply: taken or not */
    JOB_REQUEST_ACCEPTED
};

enum job_question {
    JOB_ASK_READY,
    JOB_ASK_DONE,
    JOB_ASK_RELEASED,
    JOB_ASK_PIVOT,
    JOB_ASK_ABORT,
    JOB_ASK_VERB /* pause, resume, ..., dismiss: a request of its own each */
};

/* Someone who waits. Belongs to the caller; in the machine's list from job_ask() until it is
 * answered or job_leave(). */
struct job_waiter {
    struct job_waiter *prev, *next;
    enum job_question question;
    int flags;              /* bj_pivot_flags or bj_abort_flags */
    int64_t force_after_ms; /* soft abort: then its owner calls job_escalate(); 0: never */
    bool held;              /* pivot: not to be sent before job_unhold() */
    enum job_verb verb;     /* JOB_ASK_VERB */
    int64_t speed;          /* JOB_SET_SPEED */
    const char *options;    /* JOB_CHANGE: a JSON object, the caller's */
};

struct job_answer {
    int error;               /* bj_error */
    const char *error_class; /* BJ_E_REFUSED: QEMU's; else NULL */
    const char *text; /* why, without the job's name; NULL: the error and the outcome say it all */
};

enum job_news {
    JOB_NEWS_STATUS,
    JOB_NEWS_READY,
    JOB_NEWS_STALLED,
    JOB_NEWS_RESUMED,
    JOB_NEWS_ENDED,
    JOB_NEWS_RELEASED /* nothing more can come of this run */
};

struct job;

/* What the machine wants done. */
struct job_port {
    /* Write the verb; `waiter` is its only asker, or NULL when it is for all. Then job_reply(). */
    void (*send)(struct job *job, enum job_verb verb, struct job_waiter *waiter);
    /* Ask QEMU for the jobs there are; then job_row() or job_absent(). */
    void (*query)(struct job *job);
    /* Look at the block graph whether the disk was switched; then job_graph() (B15). */
    void (*graph)(struct job *job);
    /* Then job_tick(); ms 0 stops it. For a job that stands still, nobody knows why; and for a
     * complete of which nobody knows whether QEMU has taken it. */
    void (*timer)(struct job *job, int64_t ms);
    /* The waiter is out of the list before this is called. */
    void (*answer)(struct job *job, struct job_waiter *waiter, const struct job_answer *answer);
    void (*tell)(struct job *job, enum job_news news, const char *text);
};

enum job_stall {
    JOB_STALL_NONE,
    JOB_STALL_PAUSED, /* by us, or by someone else */
    JOB_STALL_ERROR   /* on-error=stop or enospc */
};

enum job_end { JOB_END_NONE, JOB_END_COMPLETED, JOB_END_CANCELLED, JOB_END_FAILED };

struct job_traits {
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

struct job {
    const struct job_port *port;
    struct job_traits traits;

    enum job_status status;
    bool ready;
    enum job_stall stall;
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

    enum job_end end;
    bj_outcome outcome;
    int lost_error; /* BJ_E_JOB_LOST or BJ_E_CLOSED once outcome is LOST */
    struct text
        *text; /* why it FAILED, was LOST, or why a switch is unknown; also a stall's reason */

    enum job_request complete;
    enum job_request cancel;
    enum job_request force;
    unsigned raw[JOB_CANCEL_FORCE + 1]; /* sent by the program itself, not answered yet */
    bool cancelled_in_pending;          /* when it was sent */
    bool cancel_refused;                /* and not asked for again since */
    bool dismissing;
    unsigned dismisses; /* how often ours was sent */
    bool graph_asked;
    bool gone_asked; /* a verb met "no such job", and a query is to tell */
    bool stood;      /* it left ready for standby since complete was sent (5.2 refuses it there) */
    bool doubted;    /* whether QEMU has taken complete was asked a while after it came back */
    bool maybe_completing; /* the reply to a complete was lost once */
    unsigned completes;    /* how often complete was sent (B33) */

    struct job_waiter *waiters;
    size_t pivots, soft_aborts, force_aborts; /* of them */
};

void job_init(struct job *job, const struct job_port *port, const struct job_traits *traits);
void job_clear(struct job *job); /* nobody waits any more */

bool job_is_over(const struct job *job);

/* Callers come and go. job_ask() may answer at once (B04). */
void job_ask(struct job *job, struct job_waiter *waiter);
void job_leave(struct job *job, struct job_waiter *waiter);
void job_escalate(struct job *job, struct job_waiter *waiter); /* a soft abort becomes force */
void job_unhold(struct job *job, struct job_waiter *waiter);   /* a held pivot is wanted now */

/* A pivot would be sent at once, or is under way. Can change with every fact. */
bool job_can_pivot(const struct job *job);

/* Facts. Every text is copied. */
void job_status_event(struct job *job, enum job_status status);
void job_ready_event(struct job *job);
void job_completed_event(struct job *job, const char *error); /* NULL: no error */
void job_cancelled_event(struct job *job);
void job_stopped_event(struct job *job,
                       const char *reason); /* BLOCK_JOB_ERROR, action stop (B12) */
void job_pending_event(struct job *job);    /* waits for finalize */

/* The reply to a verb. `waiter` as it was in send(), NULL if it has left. */
struct job_reply {
    bool accepted;
    bool no_job; /* the error class says that there is no such job */
    int error;   /* bj_error, when not accepted */
    const char *error_class;
    const char *text;
};
void job_reply(struct job *job, enum job_verb verb, struct job_waiter *waiter,
               const struct job_reply *reply);

/* A verb that the program has sent by itself, as a raw command: on its way, answered. */
void job_raw_sent(struct job *job, enum job_verb verb);
void job_raw_reply(struct job *job, enum job_verb verb, bool accepted);

/* What a query said. Never overrules an event (B28). */
struct job_row {
    enum job_status status;
    bool ready;
    bool paused;
    bool hides_pause;  /* the list does not tell whether it is paused */
    bool io_error;     /* io-status is not ok, and it is paused */
    const char *error; /* of a concluded job; NULL if none */
};
void job_row(struct job *job, const struct job_row *row);
void job_absent(struct job *job);

enum job_switch { JOB_SWITCH_UNKNOWN, JOB_SWITCHED, JOB_NOT_SWITCHED };
void job_graph(struct job *job, enum job_switch result);

void job_tick(struct job *job);

/* The connection has ended and is being made again; then one of the other two: QEMU lists the job,
 * or does not (B45, B46). */
void job_disconnected(struct job *job);
void job_found(struct job *job, const struct job_row *row);
void job_not_found(struct job *job);

/* Nothing more will be heard: the connection is over (BJ_E_JOB_LOST) or was closed (BJ_E_CLOSED).
 */
void job_lost(struct job *job, int error, const char *reason);

#endif
