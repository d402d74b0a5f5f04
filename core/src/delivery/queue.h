/* SPDX-License-Identifier: MIT */
/*
 * Completion queues. A queue does not hold records but those who have some: futures that are done
 * and watches whose ring is not empty. So delivering needs no memory, and a queue is as bounded as
 * they.
 */
#ifndef BJ_DELIVERY_QUEUE_H
#define BJ_DELIVERY_QUEUE_H

#include "base/ctx.h"

#include <blockjob/blockjob.h>

/* Part of a future or a watch. Under the context's lock. */
struct queue_source {
    bj_queue *queue; /* a reference to its memory; NULL: delivers to none */
    uint64_t token;
    bool is_watch;
    bool queued;
    struct queue_source *next;
};

/* Under the context's lock. */
int queue_bind(struct queue_source *source, bj_queue *queue, uint64_t token, const bj_ctx *ctx);
void queue_push(struct queue_source *source);

/* Without the lock; the source is queued no more. Takes NULL. */
void queue_unref_memory(bj_queue *queue);

#endif
