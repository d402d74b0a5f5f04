/* SPDX-License-Identifier: MIT */
/*
 * Completion queues. A queue does not hold records but those who have some: futures that are done
 * and watches whose ring is not empty. So delivering needs no memory, and a queue is as bounded as
 * they.
 */
#ifndef BJ_DELIVERY_QUEUE_H
#define BJ_DELIVERY_QUEUE_H

#include "base/ctx.h"
#include "delivery/record.h"

#include <blockjob/blockjob.h>

struct queue_source;

struct queue_source_ops {
    /* Under the context's lock: takes out up to `max` records and returns how many; their tokens
     * are filled in for it. *ret_more: it has others. */
    int (*take)(struct queue_source *source, bj_record *records, struct record_refs *refs, int max,
                bool *ret_more);
    void (*ref)(struct queue_source *source);     /* under the lock: of its memory */
    void (*unref)(struct queue_source *source);   /* without the lock, unless it is not the last */
    void (*forsake)(struct queue_source *source); /* without the lock: nobody reads any more */
};

/* Part of a future or a watch. Under the context's lock. */
struct queue_source {
    const struct queue_source_ops *ops;
    bj_queue *queue; /* a reference to its memory; NULL: delivers to none */
    uint64_t token;
    bool queued;
    struct queue_source *next;
    struct queue_source **bound_link; /* in the queue's list, which has a reference; NULL: not */
    struct queue_source *bound_next;
};

/* Under the context's lock. Bound until it has nothing more to report, or the queue's reader is
 * gone. */
int queue_bind(struct queue_source *source, bj_queue *queue, uint64_t token, const bj_ctx *ctx);
void queue_unbind(struct queue_source *source); /* the caller has a reference; or it is not bound */
void queue_push(struct queue_source *source);
bool queue_is_read(const struct queue_source *source); /* it delivers to a queue with a reader */

/* Without the lock; the source is queued no more. Takes NULL. */
void queue_unref_memory(bj_queue *queue);

#endif
