/* SPDX-License-Identifier: MIT */
/*
 * Completion queues; see queue.h.
 */
#include "delivery/queue.h"
#include "base/container_of.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct bj_queue {
    atomic_uint refs;    /* of the memory: each source that is bound to it has one */
    atomic_uint handles; /* of the program */
    bj_ctx *ctx;
    int fd;

    /* Under the context's lock. */
    struct queue_source *first;
    struct queue_source **last;
    struct queue_source *bound; /* all that may report yet; a reference to each */
    bool dead;                  /* nobody will read it any more */
    bool waking;                /* `wake` is on its way */
    struct loop_task wake;

    /* The reader's own. */
    bj_record *records;         /* before they are given out in the caller's size */
    struct record_refs *held;   /* of the last batch, until the next one */
    struct queue_source **done; /* read, to be given back without the lock */
    size_t held_count;
    size_t done_count;
    size_t capacity; /* of these */
};

/* ------------------------------------------------------------------ sources */

int queue_bind(struct queue_source *source, bj_queue *queue, uint64_t token, const bj_ctx *ctx)
{
    if (queue->ctx != ctx)
        return BJ_E_INVAL;
    if (source->queue)
        return BJ_E_STATE;
    atomic_fetch_add(&queue->refs, 1);
    source->queue = queue;
    source->token = token;
    source->ops->ref(source);
    source->bound_next = queue->bound;
    if (queue->bound)
        queue->bound->bound_link = &source->bound_next;
    source->bound_link = &queue->bound;
    queue->bound = source;
    return BJ_OK;
}

void queue_unbind(struct queue_source *source)
{
    if (!source->bound_link)
        return;
    *source->bound_link = source->bound_next;
    if (source->bound_next)
        source->bound_next->bound_link = source->bound_link;
    source->bound_link = NULL;
    source->ops->unref(source);
}

bool queue_is_read(const struct queue_source *source)
{
    return source->queue && !source->queue->dead;
}

static void signal_fd(const bj_queue *queue)
{
    eventfd_write(queue->fd, 1); /* can't be full: it is 0 when this is called */
}

static void run_wake(struct loop_task *task)
{
    bj_queue *queue = container_of(task, bj_queue, wake);

    ctx_lock(queue->ctx);
    queue->waking = false;
    if (queue->first)
        signal_fd(queue);
    ctx_unlock(queue->ctx);
    queue_unref_memory(queue);
}

/* Once for all that a read brings: else the reader would run for the first of it alone. */
static void wake_reader(bj_queue *queue)
{
    if (queue->waking)
        return;
    queue->wake.run = run_wake;
    queue->waking = loop_after_step(queue->ctx->loop, &queue->wake);
    if (queue->waking)
        atomic_fetch_add(&queue->refs, 1);
    else
        signal_fd(queue);
}

static void append(bj_queue *queue, struct queue_source *source)
{
    source->queued = true;
    source->next = NULL;
    *queue->last = source;
    queue->last = &source->next;
}

void queue_push(struct queue_source *source)
{
    bj_queue *queue = source->queue;

    if (queue->dead || source->queued)
        return;
    source->ops->ref(source);
    bool was_empty = queue->first == NULL;
    append(queue, source);
    if (was_empty)
        wake_reader(queue);
}

static struct queue_source *pop(bj_queue *queue)
{
    struct queue_source *source = queue->first;
    queue->first = source->next;
    if (!queue->first)
        queue->last = &queue->first;
    source->queued = false;
    return source;
}

/* ------------------------------------------------------------------- memory */

int bj_queue_new(bj_ctx *ctx, bj_queue **ret_queue)
{
    if (!ctx || !ret_queue)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;

    bj_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return BJ_E_NOMEM;
    queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->fd < 0) {
        free(queue);
        return BJ_E_SYSTEM;
    }
    atomic_init(&queue->refs, 1);
    atomic_init(&queue->handles, 1);
    queue->ctx = ctx_ref(ctx);
    queue->last = &queue->first;
    *ret_queue = queue;
    return BJ_OK;
}

void queue_unref_memory(bj_queue *queue)
{
    if (!queue || atomic_fetch_sub(&queue->refs, 1) != 1)
        return;
    ctx_unref(queue->ctx);
    free(queue->records);
    free(queue->held);
    free(queue->done);
    free(queue);
}

bj_queue *bj_queue_ref(bj_queue *queue)
{
    if (queue)
        atomic_fetch_add(&queue->handles, 1);
    return queue;
}

static void release_held(bj_queue *queue)
{
    for (size_t i = 0; i < queue->held_count; i++)
        record_refs_clear(&queue->held[i]);
    queue->held_count = 0;
}

/* Returns the sources that were bound, with their references. */
static struct queue_source *unbind_all(bj_queue *queue)
{
    struct queue_source *bound = queue->bound;
    queue->bound = NULL;
    for (struct queue_source *source = bound; source; source = source->bound_next)
        source->bound_link = NULL;
    return bound;
}

static void forsake_all(struct queue_source *bound)
{
    while (bound) {
        struct queue_source *next = bound->bound_next;
        bound->ops->forsake(bound);
        bound->ops->unref(bound);
        bound = next;
    }
}

bj_queue *bj_queue_unref(bj_queue *queue)
{
    if (!queue || ctx_is_forked(queue->ctx) || atomic_fetch_sub(&queue->handles, 1) != 1)
        return NULL;

    ctx_lock(queue->ctx);
    queue->dead = true;
    struct queue_source *source = queue->first;
    queue->first = NULL;
    queue->last = &queue->first;
    struct queue_source *bound = unbind_all(queue);
    ctx_unlock(queue->ctx);

    while (source) {
        struct queue_source *next = source->next;
        source->ops->unref(source);
        source = next;
    }
    forsake_all(bound);
    release_held(queue);
    close(queue->fd);
    queue_unref_memory(queue);
    return NULL;
}

int bj_queue_fd(bj_queue *queue)
{
    if (!queue)
        return BJ_E_INVAL;
    return ctx_is_forked(queue->ctx) ? BJ_E_FORKED : queue->fd;
}

/* ------------------------------------------------------------------ reading */

static int make_room(bj_queue *queue, int max)
{
    size_t capacity = (size_t)max;
    if (queue->capacity >= capacity)
        return BJ_OK;
    bj_record *records = reallocarray(queue->records, capacity, sizeof *records);
    if (records)
        queue->records = records;
    struct record_refs *held = reallocarray(queue->held, capacity, sizeof *held);
    if (held)
        queue->held = held;
    struct queue_source **done = reallocarray(queue->done, capacity, sizeof(struct queue_source *));
    if (done)
        queue->done = done;
    if (!records || !held || !done)
        return BJ_E_NOMEM;
    queue->capacity = capacity;
    return BJ_OK;
}

static void release_done(bj_queue *queue)
{
    for (size_t i = 0; i < queue->done_count; i++)
        queue->done[i]->ops->unref(queue->done[i]);
    queue->done_count = 0;
}

/* Of one source; one that still has records goes to the end of the line. */
static int read_source(bj_queue *queue, struct queue_source *source, bj_record *records, int max)
{
    bool more = false;
    int n = source->ops->take(source, records, queue->held + queue->held_count, max, &more);

    queue->held_count += (size_t)n;
    for (int i = 0; i < n; i++)
        records[i].token = source->token;
    if (more)
        append(queue, source); /* with its reference */
    else if (n > 0)
        queue->done[queue->done_count++] = source;
    else
        source->ops->unref(source); /* not the last: whoever has just emptied it has one */
    return n;
}

static int read_sources(bj_queue *queue, bj_record *records, int max)
{
    int n = 0;
    while (n < max && queue->first)
        n += read_source(queue, pop(queue), records + n, max - n);
    return n;
}

/* What the records of the first release end with, and so do the shortest that there are. */
#define SHORTEST_RECORD (offsetof(bj_record, text) + sizeof(const char *))

/* The caller may know records that are shorter than ours, or longer. */
static void give_out(const bj_queue *queue, void *records, size_t record_size, int count)
{
    size_t known = record_size < sizeof(bj_record) ? record_size : sizeof(bj_record);
    char *record = records;

    for (int i = 0; i < count; i++, record += record_size) {
        memcpy(record, &queue->records[i], known);
        memset(record + known, 0, record_size - known);
    }
}

int bj_queue_read(bj_queue *queue, bj_record *records, size_t record_size, int max)
{
    if (!queue || !records || record_size < SHORTEST_RECORD || max <= 0)
        return BJ_E_INVAL;
    if (ctx_is_forked(queue->ctx))
        return BJ_E_FORKED;

    release_held(queue);
    if (make_room(queue, max) != BJ_OK)
        return BJ_E_NOMEM;

    bool is_ours = record_size == sizeof(bj_record);
    ctx_lock(queue->ctx);
    int n = read_sources(queue, is_ours ? records : queue->records, max);
    if (!queue->first) {
        eventfd_t count;
        eventfd_read(queue->fd, &count);
    }
    ctx_unlock(queue->ctx);
    release_done(queue);
    if (!is_ours)
        give_out(queue, records, record_size, n);
    return n;
}
