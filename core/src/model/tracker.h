/* SPDX-License-Identifier: MIT */
/*
 * What a monitor decides: which run of which job an event, a row of a job list or a reply is about.
 * Facts go in, effects come out by the port; each run has a job machine (machine.h), which is fed
 * here and nowhere else. No I/O, JSON, time, locks or memory of its own.
 *
 * QEMU carries out one command at a time, whoever sent it, and writes its reply before it takes the
 * next. What a job does by itself goes on meanwhile, and lists are made some time before they are
 * written. From that follow the rules:
 *
 *   - A reply that is read after a new run of the id was created is about the new run.
 *   - A start is an order, not a run: it gets the run that was created last when it is accepted.
 *     Where statuses are reported only "created" begins a run that may be a start's.
 *   - A row is from some moment between the question and its reply. It speaks of a run that had its
 *     id at both ends; a run that began in between is not in doubt. Absence from a list is proof
 *     for the same runs, unless the list was cut.
 *   - A row makes a run for those who attach only if no event of that id came since they asked;
 *     for those who observe all jobs, if no run of that id was known since the list was asked for.
 *
 *   - A run that is remembered from before the program was away begins as after a reconnect, and
 * its row, its absence or the graph decides whether it goes on (memory.h). Until that is known of
 *     all of them no other run is announced.
 *
 * A run is in `runs` until QEMU has let go of it and no order that names it is on its way: that is
 * what is walked when the connection ends. In `by_id` is the last run of each id, so that it is
 * noticed when another gets the id.
 */
#ifndef BJ_MODEL_TRACKER_H
#define BJ_MODEL_TRACKER_H

#include "base/id_tree.h"
#include "model/machine.h"
#include "model/memory.h"

enum link {
    LINK_DOWN, /* no connection: not yet, or it is being made again */
    LINK_UP,
    LINK_CLOSING, /* everyone has been answered; what is owed to QEMU is still sent */
    LINK_OVER
};

enum snapshot {
    SNAPSHOT_NONE,
    SNAPSHOT_WANTED, /* to be taken when there is a connection */
    SNAPSHOT_ASKED,
    SNAPSHOT_HELD,
    SNAPSHOT_VOID /* the graph does not show the job */
};

/* To those who observe all jobs. */
enum announcement {
    UNANNOUNCED,
    ANNOUNCED,
    UNOBSERVED /* it was over and gone before anybody observed */
};

struct tracker;
struct attachment;

/* One run of one job. Lies in its owner's memory: see port->hold and port->drop. */
struct run {
    struct machine machine; /* first */
    struct tracker *tracker;
    struct id_node node;     /* in by_id, if it is in_tree */
    struct run *next, *prev; /* in runs, if it is tracked */
    struct run *next_dirty;  /* in dirty, if it is_dirty */
    bool tracked, is_dirty;
    bool in_tree;       /* it was the last to have its id */
    bool has_id;        /* and has it still */
    bool is_superseded; /* another run was given its id */
    bool is_mute;       /* a verb of its was not sent, as there is no connection */
    bool has_type;      /* QEMU or the start has told its type */
    bool wants_row;     /* the next list is to tell */
    bool row_asked;     /* the list on its way is to tell */
    enum announcement announcement;
    enum snapshot snapshot;
    bool compares;                  /* the machine waits for the comparison of the graph */
    bool is_comparing;              /* which is on its way */
    unsigned in_flight;             /* orders that name it */
    struct attachment *attachments; /* that wait for its snapshot (C21) */

    bool is_listed;              /* it was found in a list: nobody has seen its beginning */
    bool is_unique;              /* nobody else has such an id */
    bool is_recalled;            /* it was remembered */
    bool is_resumed;             /* and goes on */
    bool is_inferred;            /* which no event proves, or how it ended */
    const struct memory *memory; /* until it is known what became of it; its owner's */
    unsigned remembered;         /* machine_memory_key() when port->remember was called last */
};

/* A command that starts a job, on its way. The caller's, as are its id and the spare. */
struct start {
    struct start *next, *prev;
    const char *id;
    const char *type;  /* "" if not known */
    bool ours;         /* it is dismissed by us once it is over (B40) */
    bool is_unique;    /* nobody else has such an id */
    bool comes_later;  /* the one before with its id had its run when it was sent */
    struct run *spare; /* for the run it will get: what is accepted must not lack memory */
    struct run *run;   /* the one created last with its id since; NULL: none */
};

/* A verb that the program sends as a raw command, on its way. */
struct raw {
    struct raw *next, *prev;
    const char *id;
    enum verb verb;
    struct run *run; /* who has the id, as far as is known */
};

/* Someone who attaches. */
struct attachment {
    struct attachment *next, *prev;
    const char *id;
    struct run *run; /* who has had the id since it asked; NULL: nobody, as far as is known */
    bool was_ended;  /* the id had a run that was not known, and it has ended */
    bool is_listed;  /* QEMU has it; without a run: it could not be followed */
    bool was_named;  /* port->name was asked */
    bool is_asked;   /* the list on its way is to tell; else the next */
    bool has_row;    /* the list has told: it waits for the run's snapshot */
};

enum order_reply {
    ORDER_ACCEPTED,
    ORDER_REFUSED, /* or never sent */
    ORDER_LOST     /* the connection ended first */
};

enum list_end {
    LIST_WHOLE,
    LIST_CUT,    /* rows are missing */
    LIST_FAILED, /* QEMU did not give it */
    LIST_LOST    /* the connection ended first */
};

/* None may call back into the tracker. */
struct tracker_port {
    /* A run that QEMU speaks of; run_init() was called. One reference, the tracker's. NULL: no
     * memory. */
    struct run *(*new_run)(struct tracker *t, const char *id, const char *type);
    void (*hold)(struct run *run); /* the tracker wants a reference */
    void (*drop)(struct run *run); /* and gives it back */
    void (*over)(struct run *run); /* it is tracked no more: its timers can go */
    void (*ignored)(struct tracker *t, const char *id); /* more jobs than the limit */

    /* What is known of the run besides, before its machine is fed. */
    void (*heard)(struct run *run, const struct fact *fact);
    void (*saw)(struct run *run, const struct row *row);
    void (*own)(struct run *run, struct start *start); /* it is the start's */

    void (*send)(struct run *run, enum verb verb, struct waiter *waiter); /* tracker_replied() */
    void (*ask_list)(struct tracker *t); /* tracker_row() for each, then tracker_list_over() */
    void (*take_snapshot)(struct run *run, bool urgent); /* tracker_snapshot() */
    void (*compare)(struct run *run);                    /* tracker_compared() */
    void (*set_timer)(struct run *run, int64_t ms);      /* run_tick() */
    void (*answer)(struct run *run, struct waiter *waiter, const struct answer *answer);
    void (*report)(struct run *run, enum report report, const char *text);
    /* To those who observe all jobs: it is known what it is and whose. Once a run, before any of
     * its reports that they are to have. */
    void (*announce)(struct run *run);

    /* What is to be remembered of it (enum memory_fact) is other than before. */
    void (*remember)(struct run *run, unsigned facts);

    /* It is out of the tracker's list; with its run, or with why there is none. */
    void (*attached)(struct tracker *t, struct attachment *attachment, int error);
    /* Gives it the id that QEMU knows the job by, if that is another: true. */
    bool (*name)(struct tracker *t, struct attachment *attachment);

    void (*is_back)(struct tracker *t);    /* the runs' rows were fetched after a reconnect */
    void (*is_settled)(struct tracker *t); /* LINK_CLOSING: no run is left */
};

struct tracker {
    const struct tracker_port *port;
    enum link link;
    bool reports_created; /* this QEMU reports statuses */
    bool is_returning;    /* connected again, and the runs' rows are not there yet */
    size_t limit, count;  /* of runs that have their id, and of starts that have no run yet */
    struct run *runs, *last_run;
    struct id_node *by_id;
    struct run *dirty; /* whose after-work is to be done */
    struct start *starts;
    struct raw *raws;
    struct attachment *attachments;
    bool list_wanted, list_is_out;

    bool is_observed;  /* somebody observes all jobs */
    bool seeks_all;    /* the next list is to tell of jobs that are not known */
    bool all_asked;    /* so is the list on its way */
    bool all_in_doubt; /* but since then one has begun that could not be followed */
    size_t recalled;   /* runs of which it is not known yet what became of them */
};

void tracker_init(struct tracker *t, const struct tracker_port *port, size_t limit);
void run_init(struct run *run, struct tracker *t, const char *id,
              const struct machine_traits *traits);

/* ------------------------------------------------------------- what is known */

struct run *tracker_find(const struct tracker *t, const char *id); /* NULL: nobody has the id */

/* Somebody asks for the row of this id, or follows its job. */
bool tracker_wants_row(const struct tracker *t, const char *id);

/* It has its id, and so has a row in QEMU's list. */
static inline bool run_has_id(const struct run *run)
{
    return run->has_id;
}

/* ------------------------------------------------------------------- callers */

/* See machine_ask() and the others in machine.h. */
void run_ask(struct run *run, struct waiter *waiter);
void run_leave(struct run *run, struct waiter *waiter);
void run_escalate(struct run *run, struct waiter *waiter);
void run_unhold(struct run *run, struct waiter *waiter);
void run_tick(struct run *run);
void run_want_row(struct run *run); /* its next row, for its machine */

/* BJ_OK: it may be sent, and tracker_started() follows. BJ_E_BUSY: more jobs than the limit. */
int tracker_start(struct tracker *t, struct start *start);
/* It was accepted: `run` is set, with a reference. */
void tracker_started(struct tracker *t, struct start *start, enum order_reply reply);

/* It was sent; then tracker_raw_replied(). */
void tracker_raw(struct tracker *t, struct raw *raw);
void tracker_raw_replied(struct tracker *t, struct raw *raw, enum order_reply reply);

/* Then port->attached(), maybe at once; or tracker_unattach(). */
void tracker_attach(struct tracker *t, struct attachment *attachment);
void tracker_unattach(struct tracker *t, struct attachment *attachment);

/* From now on every run is announced, also those that QEMU has already; or no more. */
void tracker_observe(struct tracker *t, bool observe);
/* A new run may have begun, and no event says so. */
void tracker_seek(struct tracker *t);

/* ------------------------------------------------------------- what is remembered */

/* `run` was made by the caller, as port->new_run() does it, of what is remembered; the tracker
 * takes the reference over. While there is a connection; then tracker_observe() or tracker_seek().
 */
bool tracker_can_recall(const struct tracker *t); /* else there are more jobs than the limit */
void tracker_recall(struct tracker *t, struct run *run, const struct memory *memory);
/* It is known already that it does not go on. */
void tracker_recall_lost(struct run *run, const struct memory *memory, const char *why);
/* The run that has the id, which is as `now` says, is the one that is remembered: true. */
bool tracker_recall_found(struct run *run, const struct memory *memory, const char *type,
                          const struct row *now);

/* --------------------------------------------------------------------- facts */

void tracker_fact(struct tracker *t, const struct fact *fact);

/* NULL: the connection ended first. `waiter`: as it was sent, or NULL if it has left. */
void tracker_replied(struct run *run, enum verb verb, struct waiter *waiter,
                     const struct verb_reply *reply);
/* A verb whose waiter has left was taken back before it was written. */
void tracker_taken_back(struct run *run);

void tracker_row(struct tracker *t, const char *id, const char *type, const struct row *row);
void tracker_list_over(struct tracker *t, enum list_end end);
/* A list that was asked for when the run had its id, and still has, lacks it. */
void run_absent(struct run *run);

/* SNAPSHOT_HELD, SNAPSHOT_VOID, or SNAPSHOT_WANTED: the connection ended first. */
void tracker_snapshot(struct run *run, enum snapshot result);
/* `lost`: the connection ended first. */
void tracker_compared(struct run *run, enum disk_switch result, bool lost);

/* -------------------------------------------------------------- the connection */

enum comeback { FIRST_TIME, SAME_QEMU, OTHER_QEMU };
void tracker_up(struct tracker *t, bool reports_created, enum comeback comeback);
/* The replies that were out have been given as lost. It is being made again. */
void tracker_away(struct tracker *t);
/* While it is: what was at its other end is no more, and its jobs are not either; `text` says why.
 */
void tracker_peer_is_gone(struct tracker *t, const char *text);
/* Everyone is answered; nothing but due dismissals is sent, until is_settled() or tracker_over().
 * `text` says why, for BJ_E_CLOSED. */
void tracker_close(struct tracker *t, const char *text);
void tracker_over(struct tracker *t, int error, const char *text);
/* What must be sent before the connection can be closed. */
bool tracker_owes_dismissals(const struct tracker *t);

#endif
