/* SPDX-License-Identifier: MIT */
/*
 * Watches; see watch.h.
 */
#include "delivery/watch.h"
#include "base/container_of.h"
#include "delivery/future.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many records a callback gets before the loop has its turn again. */
#define CALLBACK_BATCH 64

/* ------------------------------------------------------------- as a queue's source */

static bj_watch *watch_of(struct queue_source *source)
{
    return container_of(source, bj_watch, source);
}

/* Losses are a record, too. */
static bool has_record(const bj_watch *watch)
{
    return watch->read < watch->pushed;
}

/* Keeps what they refer to and not the entries, which may lie in the watch. */
static int take_records(struct queue_source *source, bj_record *records, struct record_refs *refs,
                        int max, bool *ret_more)
{
    bj_watch *watch = watch_of(source);
    struct watch_entry *entry;
    int n = 0;

    for (; n < max && watch_take(watch, &records[n], &entry); n++) {
        refs[n] = (struct record_refs){0};
        if (!entry)
            continue;
        refs[n] = entry->refs;
        entry->refs = (struct record_refs){0};
        watch_entry_free(entry);
    }
    *ret_more = has_record(watch);
    return n;
}

static void ref_source(struct queue_source *source)
{
    watch_ref_memory(watch_of(source));
}

static void unref_source(struct queue_source *source)
{
    watch_unref_memory(watch_of(source));
}

/* bj_watch_unref() looks the other way round: one of both finds that nobody is left. */
static void forsake_source(struct queue_source *source)
{
    bj_watch *watch = watch_of(source);
    if (atomic_load(&watch->handles) == 0)
        bj_watch_close(watch);
}

static const struct queue_source_ops source_ops = {
    .take = take_records,
    .ref = ref_source,
    .unref = unref_source,
    .forsake = forsake_source,
};

/* -------------------------------------------------------------------- lines */

static void line_clear(struct watch_line *line)
{
    *line = (struct watch_line){.last = &line->first};
}

static size_t size_of(const struct watch_entry *entry)
{
    return strlen(text_str(entry->refs.name)) + strlen(text_str(entry->refs.text));
}

static void line_insert(struct watch_line *line, struct watch_entry **place,
                        struct watch_entry *entry)
{
    entry->next = *place;
    *place = entry;
    if (line->last == place)
        line->last = &entry->next;
    line->count++;
    line->bytes += size_of(entry);
}

static struct watch_entry *line_remove(struct watch_line *line, struct watch_entry **place)
{
    struct watch_entry *entry = *place;
    *place = entry->next;
    if (line->last == &entry->next)
        line->last = place;
    line->count--;
    line->bytes -= size_of(entry);
    return entry;
}

/* ------------------------------------------------------------------- memory */

static void run_begin(struct loop_task *task)
{
    bj_watch *watch = container_of(task, bj_watch, begin);

    ctx_lock(watch->ctx);
    bool ended = watch->ended;
    ctx_unlock(watch->ctx);
    if (!ended)
        watch->ops->begin(watch);
    watch_unref_memory(watch);
}

static void run_leave(struct loop_task *task)
{
    bj_watch *watch = container_of(task, bj_watch, leave);

    if (watch->listed)
        watch->ops->leave(watch);
    watch_unref_memory(watch);
}

bj_watch *watch_new(bj_ctx *ctx, size_t size, const struct watch_ops *ops, void *owner)
{
    bj_watch *watch = calloc(1, size);
    if (!watch) {
        ops->disown(owner);
        return NULL;
    }

    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->wake, &attr);
    pthread_condattr_destroy(&attr);

    atomic_init(&watch->refs, 2); /* all handles' and the begin task's */
    atomic_init(&watch->handles, 1);
    watch->ctx = ctx_ref(ctx);
    line_clear(&watch->ring);
    line_clear(&watch->kept);
    watch->limit = (size_t)ctx_limit(ctx, BJ_LIMIT_WATCH_RING);
    watch->byte_limit = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_BYTES);
    watch->source.ops = &source_ops;
    watch->ops = ops;
    watch->owner = owner;
    watch->begin.run = run_begin;
    watch->leave.run = run_leave;
    return watch;
}

bj_watch *watch_launch(bj_watch *watch)
{
    bj_ctx *ctx = watch->ctx;
    if (ctx_is_closing(ctx) || !loop_post(ctx->loop, &watch->begin)) {
        watch_end(watch, BJ_E_CLOSED, text_printf("the context was closed"));
        watch_unref_memory(watch);
    }
    return watch;
}

bj_watch *watch_ref_memory(bj_watch *watch)
{
    atomic_fetch_add(&watch->refs, 1);
    return watch;
}

void watch_entry_free(struct watch_entry *entry)
{
    if (!entry)
        return;
    record_refs_clear(&entry->refs);
    if (!entry->reserved)
        free(entry);
}

static void free_entries(struct watch_entry *entry)
{
    while (entry) {
        struct watch_entry *next = entry->next;
        watch_entry_free(entry);
        entry = next;
    }
}

void watch_unref_memory(bj_watch *watch)
{
    if (atomic_fetch_sub(&watch->refs, 1) != 1)
        return;
    free_entries(watch->ring.first);
    free_entries(watch->kept.first);
    watch_entry_free(watch->pulled);
    queue_unref_memory(watch->source.queue);
    if (watch->ops->clear)
        watch->ops->clear(watch);
    watch->ops->disown(watch->owner);
    pthread_cond_destroy(&watch->wake);
    ctx_unref(watch->ctx);
    free(watch);
}

bj_watch *bj_watch_ref(bj_watch *watch)
{
    if (watch)
        atomic_fetch_add(&watch->handles, 1);
    return watch;
}

static bool is_read_elsewhere(bj_watch *watch)
{
    ctx_lock(watch->ctx);
    bool elsewhere = watch->reader == WATCH_CALLBACK || queue_is_read(&watch->source);
    ctx_unlock(watch->ctx);
    return elsewhere;
}

bj_watch *bj_watch_unref(bj_watch *watch)
{
    if (!watch || ctx_is_forked(watch->ctx) || atomic_fetch_sub(&watch->handles, 1) != 1)
        return NULL;
    if (!is_read_elsewhere(watch))
        bj_watch_close(watch);
    watch_unref_memory(watch);
    return NULL;
}

void watch_link(bj_watch *watch, bj_watch **list)
{
    while (*list)
        list = &(*list)->next;
    *list = watch_ref_memory(watch);
    watch->next = NULL;
    watch->listed = true;
}

void watch_unlink(bj_watch *watch, bj_watch **list)
{
    while (*list != watch)
        list = &(*list)->next;
    *list = watch->next;
    watch->listed = false;
    watch_unref_memory(watch);
}

/* -------------------------------------------------------------------- losses */

static bool is_too_full(const bj_watch *watch)
{
    const struct watch_line *ring = &watch->ring;
    return ring->count > watch->limit ||
           (ring->bytes + watch->kept.bytes > watch->byte_limit && ring->count > 1);
}

static bool keeps_too_many(const bj_watch *watch)
{
    const struct watch_line *kept = &watch->kept;
    return watch->kept_limit > 0 && kept->count > 1 &&
           (kept->count > watch->kept_limit || kept->bytes > watch->byte_limit);
}

/* Only the latest stall is worth keeping at any price. */
static struct watch_entry **place_of_stalled(bj_watch *watch)
{
    struct watch_entry **place = &watch->kept.first;
    while (*place && (*place)->record.sequence < watch->stalled->record.sequence)
        place = &(*place)->next;
    return place;
}

static void keep_stalled(bj_watch *watch)
{
    line_insert(&watch->kept, place_of_stalled(watch), watch->stalled);
    watch->stalled_is_kept = true;
}

/* Another is the latest. Returns what is to be freed without the lock. */
static struct watch_entry *set_stalled(bj_watch *watch, struct watch_entry *stalled)
{
    struct watch_entry **place = watch->stalled_is_kept ? place_of_stalled(watch) : NULL;
    struct watch_entry *dropped = place && *place ? line_remove(&watch->kept, place) : NULL;
    if (dropped)
        dropped->next = NULL;
    watch->stalled = stalled;
    watch->stalled_is_kept = false;
    return dropped;
}

/* What can't be kept is gone, which the gap in the sequence shows. Returns what is to be freed
 * without the lock. */
static struct watch_entry *make_room(bj_watch *watch, struct watch_entry *dropped)
{
    while (is_too_full(watch) || keeps_too_many(watch)) {
        struct watch_line *line = is_too_full(watch) ? &watch->ring : &watch->kept;
        struct watch_entry *entry = line_remove(line, &line->first);
        if (entry == watch->stalled) {
            keep_stalled(watch);
            continue;
        }
        watch->lost_ends += entry->record.kind == BJ_RECORD_ENDED;
        entry->next = dropped;
        dropped = entry;
    }
    return dropped;
}

/* --------------------------------------------------------------------- pushing */

static bool is_to_keep(bj_record_kind kind)
{
    return kind == BJ_RECORD_READY || kind == BJ_RECORD_ENDED || kind == BJ_RECORD_CLOSED;
}

static struct watch_entry *new_entry(bj_watch *watch, bj_record_kind kind)
{
    struct watch_entry *entry;

    if (kind == BJ_RECORD_CLOSED)
        entry = &watch->closed;
    else if (kind == BJ_RECORD_READY && watch->once)
        entry = &watch->once[0];
    else if (kind == BJ_RECORD_ENDED && watch->once)
        entry = &watch->once[1];
    else
        return calloc(1, sizeof *entry);
    *entry = (struct watch_entry){.reserved = true};
    return entry;
}

static void post_callback(bj_watch *watch);

static void run_wake(struct loop_task *task)
{
    bj_watch *watch = container_of(task, bj_watch, task);

    ctx_lock(watch->ctx);
    watch->posted = false;
    pthread_cond_signal(&watch->wake);
    ctx_unlock(watch->ctx);
    watch_unref_memory(watch);
}

/* Once for all that a read brings. */
static void wake_puller(bj_watch *watch)
{
    if (watch->posted)
        return;
    watch->task.run = run_wake;
    watch->posted = loop_after_step(watch->ctx->loop, &watch->task);
    if (watch->posted)
        watch_ref_memory(watch);
    else
        pthread_cond_signal(&watch->wake);
}

static void wake_reader(bj_watch *watch)
{
    if (watch->reader == WATCH_CALLBACK)
        post_callback(watch);
    else if (watch->reader == WATCH_QUEUE)
        queue_push(&watch->source);
    else if (watch->reader == WATCH_PULL)
        wake_puller(watch);
}

/* Under the lock. After bj_watch_close() nothing comes but CLOSED. */
static bool takes(const bj_watch *watch, bj_record_kind kind)
{
    return !watch->ended && (!watch->closing || kind == BJ_RECORD_CLOSED);
}

static void miss(bj_watch *watch, bj_record_kind kind)
{
    watch->pushed++;
    watch->lost_ends += kind == BJ_RECORD_ENDED;
    wake_reader(watch);
}

/* Under the lock; returns what is to be freed without it. */
static struct watch_entry *push(bj_watch *watch, const bj_record *record,
                                const struct record_refs *refs)
{
    struct watch_entry *entry = new_entry(watch, record->kind);
    if (!entry) {
        miss(watch, record->kind);
        return NULL;
    }
    struct watch_line *line = is_to_keep(record->kind) ? &watch->kept : &watch->ring;
    entry->record = *record;
    entry->record.sequence = ++watch->pushed;
    entry->refs = (struct record_refs){text_ref(refs->name), text_ref(refs->text), refs->job};
    value_ref(&refs->job);
    line_insert(line, line->last, entry);
    bool is_latest_stall = record->kind == BJ_RECORD_STALLED && watch->kept_limit == 0;
    struct watch_entry *dropped = is_latest_stall ? set_stalled(watch, entry) : NULL;

    watch->ended = record->kind == BJ_RECORD_CLOSED;
    wake_reader(watch);
    if (watch->ended)
        queue_unbind(&watch->source);
    return make_room(watch, dropped);
}

void watch_push(bj_watch *watch, const bj_record *record, const struct record_refs *refs)
{
    ctx_lock(watch->ctx);
    struct watch_entry *dropped = takes(watch, record->kind) ? push(watch, record, refs) : NULL;
    ctx_unlock(watch->ctx);
    free_entries(dropped);
}

void watch_miss(bj_watch *watch)
{
    ctx_lock(watch->ctx);
    if (takes(watch, BJ_RECORD_EVENT))
        miss(watch, BJ_RECORD_EVENT);
    ctx_unlock(watch->ctx);
}

void watch_end(bj_watch *watch, int error, struct text *text)
{
    watch_push(watch, &(bj_record){.kind = BJ_RECORD_CLOSED, .error = error},
               &(struct record_refs){.text = text});
    text_unref(text);
}

/* --------------------------------------------------------------------- taking */

static struct watch_line *line_of_next(bj_watch *watch)
{
    const struct watch_entry *ring = watch->ring.first, *kept = watch->kept.first;
    bool is_kept = !ring || (kept && kept->record.sequence < ring->record.sequence);
    return is_kept ? &watch->kept : &watch->ring;
}

static bool take_lost(bj_watch *watch, const struct watch_entry *next, bj_record *record)
{
    uint64_t last = next ? next->record.sequence - 1 : watch->pushed;
    uint64_t lost = last - watch->read;
    uint64_t lost_ends = watch->lost_ends < lost ? watch->lost_ends : lost;
    if (lost == 0)
        return false;
    *record = (bj_record){
        .kind = BJ_RECORD_LAGGED,
        .lost = lost,
        .lost_ends = lost_ends,
        .name = "",
        .text = "",
    };
    watch->read = last;
    watch->lost_ends -= lost_ends;
    return true;
}

bool watch_take(bj_watch *watch, bj_record *record, struct watch_entry **ret_entry)
{
    struct watch_line *line = line_of_next(watch);

    *ret_entry = NULL;
    if (take_lost(watch, line->first, record))
        return true;
    if (!line->first)
        return false;

    struct watch_entry *entry = line_remove(line, &line->first);
    watch->read = entry->record.sequence;
    if (watch->stalled == entry) {
        watch->stalled = NULL;
        watch->stalled_is_kept = false;
    }
    if (entry->record.kind == BJ_RECORD_CLOSED)
        watch->drained = true;

    *record = entry->record;
    record->name = text_str(entry->refs.name);
    record->text = text_str(entry->refs.text);
    record->job = entry->refs.job.data;
    *ret_entry = entry;
    return true;
}

/* ------------------------------------------------------------------ readers */

static void finish_callback(bj_watch *watch)
{
    if (watch->closure.free)
        watch->closure.free(watch->closure.user);
    watch_unref_memory(watch); /* the callback's */
}

/* A batch of records for the callback; the task has a reference, because the batch may close the
 * watch and another task be on its way. */
static bool run_batch(bj_watch *watch)
{
    bool over = false;

    ctx_lock(watch->ctx);
    watch->posted = false;
    for (int n = 0; n < CALLBACK_BATCH && !over; n++) {
        bj_record record;
        struct watch_entry *entry;
        if (!watch_take(watch, &record, &entry))
            break;
        over = record.kind == BJ_RECORD_CLOSED;
        ctx_unlock(watch->ctx);
        watch->closure.fn(watch, &record, watch->closure.user);
        if (ctx_is_forked(watch->ctx))
            return false; /* in the child, which has nothing to do with it */
        watch_entry_free(entry);
        ctx_lock(watch->ctx);
    }
    if (has_record(watch) && !over)
        post_callback(watch);
    ctx_unlock(watch->ctx);
    return over;
}

static void run_callback(struct loop_task *task)
{
    bj_watch *watch = container_of(task, bj_watch, task);
    bool over = run_batch(watch);
    if (ctx_is_forked(watch->ctx))
        return;
    if (over)
        finish_callback(watch);
    watch_unref_memory(watch); /* the task's */
}

static void post_callback(bj_watch *watch)
{
    if (watch->posted)
        return;
    watch->task.run = run_callback;
    watch->posted = loop_post(watch->ctx->loop, &watch->task);
    if (watch->posted)
        watch_ref_memory(watch);
}

static int bind_callback(bj_watch *watch, bj_watch_closure closure)
{
    ctx_lock(watch->ctx);
    int r = watch->reader == WATCH_UNREAD ? BJ_OK : BJ_E_STATE;
    if (r == BJ_OK && watch->ctx->closing)
        r = BJ_E_CLOSED;
    if (r == BJ_OK) {
        watch->closure = closure;
        post_callback(watch);
        r = watch->posted ? BJ_OK : BJ_E_CLOSED;
    }
    if (r == BJ_OK) {
        watch->reader = WATCH_CALLBACK;
        watch_ref_memory(watch);
    }
    ctx_unlock(watch->ctx);
    return r;
}

int bj_watch_on_record(bj_watch *watch, bj_watch_closure closure)
{
    int r;
    if (!watch || !closure.fn)
        r = BJ_E_INVAL;
    else if (ctx_is_forked(watch->ctx))
        r = BJ_E_FORKED;
    else
        r = bind_callback(watch, closure);

    if (r != BJ_OK && closure.free)
        closure.free(closure.user);
    return r;
}

int bj_watch_deliver(bj_watch *watch, bj_queue *queue, uint64_t token)
{
    if (!watch || !queue)
        return BJ_E_INVAL;
    if (ctx_is_forked(watch->ctx))
        return BJ_E_FORKED;

    ctx_lock(watch->ctx);
    int r = watch->reader == WATCH_UNREAD ? queue_bind(&watch->source, queue, token, watch->ctx)
                                          : BJ_E_STATE;
    if (r == BJ_OK) {
        watch->reader = WATCH_QUEUE;
        if (has_record(watch))
            queue_push(&watch->source);
        if (watch->ended)
            queue_unbind(&watch->source);
    }
    ctx_unlock(watch->ctx);
    return r;
}

/* Under the lock. */
static int sleep_for_record(bj_watch *watch, int64_t timeout_ms)
{
    bool is_endless = timeout_ms < 0;
    struct timespec deadline = clock_deadline(is_endless ? 0 : timeout_ms);

    int r = 0;
    while (!has_record(watch) && !watch->drained && r != ETIMEDOUT)
        r = is_endless ? pthread_cond_wait(&watch->wake, &watch->ctx->lock)
                       : pthread_cond_timedwait(&watch->wake, &watch->ctx->lock, &deadline);
    if (has_record(watch))
        return BJ_OK;
    return watch->drained ? BJ_E_CLOSED : BJ_E_TIMEOUT;
}

static int pull(bj_watch *watch, int64_t timeout_ms, const bj_record **ret_record)
{
    bool here = loop_is_current(watch->ctx->loop);
    int r = BJ_OK;

    ctx_lock(watch->ctx);
    if (watch->reader != WATCH_UNREAD && watch->reader != WATCH_PULL)
        r = BJ_E_STATE;
    else if (!has_record(watch) && here && timeout_ms != 0)
        r = watch->drained ? BJ_E_CLOSED : BJ_E_DEADLOCK;
    if (r == BJ_OK) {
        watch->reader = WATCH_PULL;
        r = sleep_for_record(watch, timeout_ms);
    }
    struct watch_entry *before = r == BJ_OK ? watch->pulled : NULL;
    if (r == BJ_OK) {
        watch_take(watch, &watch->pulled_record, &watch->pulled);
        *ret_record = &watch->pulled_record;
    }
    ctx_unlock(watch->ctx);
    watch_entry_free(before);
    return r;
}

int bj_watch_next(bj_watch *watch, int64_t timeout_ms, const bj_record **ret_record)
{
    if (!watch || !ret_record || future_check_timeout(timeout_ms) != BJ_OK)
        return BJ_E_INVAL;
    if (ctx_is_forked(watch->ctx))
        return BJ_E_FORKED;
    return pull(watch, timeout_ms, ret_record);
}

/* Under the lock: takes out all that was not read. */
static struct watch_entry *take_all(bj_watch *watch)
{
    *watch->ring.last = watch->kept.first; /* which is the first if the ring is empty */
    struct watch_entry *entries = watch->ring.first;

    line_clear(&watch->ring);
    line_clear(&watch->kept);
    watch->read = watch->pushed;
    watch->lost_ends = 0;
    watch->stalled = NULL;
    watch->stalled_is_kept = false;
    return entries;
}

void bj_watch_close(bj_watch *watch)
{
    if (!watch || ctx_is_forked(watch->ctx))
        return;

    ctx_lock(watch->ctx);
    bool ended = watch->ended || watch->closing;
    struct watch_entry *unread = ended ? NULL : take_all(watch);
    watch->closing = true;
    if (!ended) {
        watch_ref_memory(watch);
        if (!loop_post(watch->ctx->loop, &watch->leave))
            atomic_fetch_sub(&watch->refs, 1); /* the caller's handle is left */
    }
    ctx_unlock(watch->ctx);

    free_entries(unread);
    if (!ended)
        watch_end(watch, BJ_E_CLOSED, text_printf("the watch was closed"));
}
