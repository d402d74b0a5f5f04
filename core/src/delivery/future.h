/* SPDX-License-Identifier: MIT */
/*
 * Futures: one answer, delivered exactly once to everyone who asked for it in any of the ways there
 * are (callback, blocking wait, queue).
 *
 * The life of one that has work to do: future_new(), future_launch() on any thread; ops->start() on
 * the loop's; then either the owner calls future_answer(), or a deadline or a cancellation comes
 * first and ops->leave() takes it out of whatever it waited in.
 */
#ifndef BJ_DELIVERY_FUTURE_H
#define BJ_DELIVERY_FUTURE_H

#include "base/ctx.h"
#include "base/loop.h"
#include "base/text.h"
#include "delivery/queue.h"

#include <blockjob/blockjob.h>

/* All references in it belong to it. */
struct future_result {
    int error;
    int cause; /* bj_error: of a BJ_E_JOB_LOST, what ended the connection, if that is why */
    bj_outcome outcome;
    struct text *text;
    struct text *error_class;
    struct text *json;
    struct value value; /* what it may be answered with besides its texts */
};

/* Lets go of what is in it. */
void future_clear_result(struct future_result *result);

struct future_ops {
    void (*start)(bj_future *future);        /* the loop's thread; NULL: nothing to start */
    void (*unstarted)(bj_future *future);    /* any thread; instead of start; NULL: nothing to do */
    void (*leave)(bj_future *future);        /* the loop's thread; after start, before any answer */
    struct text *(*late)(bj_future *future); /* the sentence of its BJ_E_TIMEOUT; NULL: the usual */
    void (*destroy)(bj_future *future);      /* any thread; NULL: nothing of its own */
};

struct future_callback;
struct future_sleeper;

struct bj_future {
    atomic_uint refs;    /* of the memory; all handles together hold one */
    atomic_uint handles; /* of the program and its callbacks */
    bj_ctx *ctx;         /* NULL: one of the static futures, done since ever */
    const struct future_ops *ops;

    /* Under the context's lock. */
    bool done;
    bool posted;  /* `task` is on its way to the loop */
    bool started; /* between ops->start() and its answer or ops->leave() */
    struct future_result result;
    struct future_callback *callbacks;
    struct future_sleeper *sleepers;
    struct queue_source source;

    /* The loop's own. */
    struct loop_task task;
    struct loop_timer *timer;
    int64_t timeout_ms;
    int64_t deadline_ms; /* monotonic; -1: none */
};

/* `size` bytes that begin with a bj_future, zeroed; NULL: no memory. One handle, the caller's. */
bj_future *future_new(bj_ctx *ctx, size_t size, const struct future_ops *ops);

/* A future that is done already: for what can't be asked. Never NULL. */
bj_future *future_failed(bj_ctx *ctx, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The static ones, for when there is no context to speak of: BJ_E_INVAL (a NULL handle),
 * BJ_E_NOMEM, BJ_E_FORKED. */
bj_future *future_static(int error);

/* Starts its work; returns it. `limit`: the deadline of BJ_TIMEOUT_DEFAULT, -1 for none. */
bj_future *future_launch(bj_future *future, int64_t timeout_ms, int limit);

/* 0, or BJ_E_INVAL: negative, and neither NONE nor DEFAULT. */
int future_check_timeout(int64_t timeout_ms);

/* The loop's thread; the owner has let go of it. Takes over what is in `result`. */
void future_answer(bj_future *future, struct future_result *result);

/* The same for an error alone. */
void future_fail(bj_future *future, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Any thread: what it was answered with, if that is of this kind; else NULL. Belongs to it. */
void *future_value_of(bj_future *future, const struct value_kind *kind);

bj_future *future_ref_memory(bj_future *future);
void future_unref_memory(bj_future *future);

#endif
