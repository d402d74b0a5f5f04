/* SPDX-License-Identifier: MIT */
/*
 * Watches: one observer's bounded stream of records.
 */
#ifndef BJ_DELIVERY_WATCH_H
#define BJ_DELIVERY_WATCH_H

#include "base/ctx.h"
#include "delivery/queue.h"
#include "delivery/record.h"

#include <blockjob/blockjob.h>

struct watch_entry {
    struct watch_entry *next;
    bj_record record;
    struct record_refs refs;
    bool reserved; /* it lies in the watch, so that it needs no memory when its time comes */
};

/* First in, first out. */
struct watch_line {
    struct watch_entry *first;
    struct watch_entry **last;
    size_t count;
    size_t bytes; /* of the entries' strings */
};

/* For READY and ENDED, each of which comes once to the watch of one job. */
enum { WATCH_ONCE = 2 };

struct bj_watch {
    atomic_uint refs;
    atomic_uint handles;
    bj_ctx *ctx;

    /* Under the context's lock. Records are read in the order of their sequence, which the two
     * lines share; those that are missing from it were lost. */
    struct watch_line ring; /* the oldest of them are dropped */
    struct watch_line kept; /* READY, the latest STALLED, ENDED, CLOSED */
    size_t limit;           /* of the ring */
    size_t byte_limit;
    size_t kept_limit;           /* of many jobs; 0: none is dropped */
    uint64_t pushed, read;       /* the last sequence of each */
    uint64_t lost_ends;          /* that no LAGGED has reported yet */
    struct watch_entry *stalled; /* the latest, until it is read */
    bool stalled_is_kept;        /* it is too old for the ring */
    struct watch_entry *once;    /* WATCH_ONCE of its owner's, for the watch of one job; or NULL */
    struct watch_entry closed;
    bool closing; /* bj_watch_close() was here */
    bool ended;   /* CLOSED was pushed: nothing comes after it */
    bool drained; /* CLOSED was read */
    enum { WATCH_UNREAD, WATCH_CALLBACK, WATCH_QUEUE, WATCH_PULL } reader;
    bj_watch_closure closure;
    bool posted; /* `task` is on its way, to call the closure or to wake who sleeps */
    struct queue_source source;
    pthread_cond_t wake;        /* bj_watch_next() */
    struct watch_entry *pulled; /* what it gave out last */
    bj_record pulled_record;

    struct loop_task task;

    /* The loop's own: the list that it is in, a job's or a monitor's. */
    const struct watch_ops *ops;
    struct bj_watch *next;
    bool listed; /* the list has a reference */
    void *owner; /* a reference, which ops->disown() gives back */
    struct loop_task begin;
    struct loop_task leave;
};

struct watch_ops {
    void (*begin)(
        bj_watch *watch); /* the loop's thread: enter the list, tell what is true already */
    void (*leave)(bj_watch *watch); /* the loop's thread: out of the list */
    void (*disown)(void *owner);    /* any thread; takes no lock */
    void (*clear)(bj_watch *watch); /* the same: frees what it has besides; NULL: nothing */
};

/* `size` bytes that begin with a bj_watch, zeroed, until they go to watch_launch(). `owner` is a
 * reference, taken over also on failure. NULL: no memory. One handle, the caller's. */
bj_watch *watch_new(bj_ctx *ctx, size_t size, const struct watch_ops *ops, void *owner);

/* Begins; returns it. */
bj_watch *watch_launch(bj_watch *watch);

/* The loop's thread: into a list, out of it. */
void watch_link(bj_watch *watch, bj_watch **list);
void watch_unlink(bj_watch *watch, bj_watch **list);
bj_watch *watch_ref_memory(bj_watch *watch);
void watch_unref_memory(bj_watch *watch);

/* Any thread. Copies the record, and takes references to what its pointers are to point to.
 * Never fails: what can't be kept is counted as lost. */
void watch_push(bj_watch *watch, const bj_record *record, const struct record_refs *refs);

/* A record that could not even be made. */
void watch_miss(bj_watch *watch);

/* The last record; takes over the reference to `text`. */
void watch_end(bj_watch *watch, int error, struct text *text);

/* Under the context's lock: takes out one record. False if there is none. What *record points to
 * belongs to *ret_entry, which watch_entry_free() gives back, without the lock (NULL for LAGGED).
 */
bool watch_take(bj_watch *watch, bj_record *record, struct watch_entry **ret_entry);
void watch_entry_free(struct watch_entry *entry);

#endif
