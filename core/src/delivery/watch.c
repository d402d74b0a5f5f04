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
    return watch->first || watch->lost > 0;
}

/* Keeps the strings and not the entries, which may lie in the watch. */
static int take_records(struct queue_source *source, bj_record *records,
                        struct queue_strings *strings, int max, bool *ret_more)
{
    bj_watch *watch = watch_of(source);
    struct watch_entry *entry;
    int n = 0;

    for (; n < max && watch_take(watch, &records[n], &entry); n++) {
        strings[n] = (struct queue_strings){0};
        if (!entry)
            continue;
        strings[n] = (struct queue_strings){.name = entry->name, .text = entry->text};
        entry->name = entry->text = NULL;
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
    watch->last = &watch->first;
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
    entry->name = text_unref(entry->name);
    entry->text = text_unref(entry->text);
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
    free_entries(watch->first);
    watch_entry_free(watch->pulled);
    queue_unref_memory(watch->source.queue);
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

/* --------------------------------------------------------------------- ring */

static struct watch_entry *new_entry(bj_watch *watch, bj_record_kind kind)
{
    struct watch_entry *entry;

    if (kind == BJ_RECORD_READY)
        entry = &watch->reserved[0];
    else if (kind == BJ_RECORD_ENDED)
        entry = &watch->reserved[1];
    else if (kind == BJ_RECORD_CLOSED)
        entry = &watch->reserved[2];
    else
        return calloc(1, sizeof *entry);
    *entry = (struct watch_entry){.reserved = true, .kept = true};
    return entry;
}

static size_t size_of(const struct watch_entry *entry)
{
    return strlen(text_str(entry->name)) + strlen(text_str(entry->text));
}

static bool is_too_full(const bj_watch *watch)
{
    return watch->ring > watch->limit || (watch->bytes > watch->byte_limit && watch->ring > 1);
}

/* The oldest record that may be lost goes; the one after it will say so. */
static struct watch_entry *drop_oldest(bj_watch *watch)
{
    struct watch_entry **link = &watch->first;
    while ((*link)->kept)
        link = &(*link)->next;

    struct watch_entry *entry = *link;
    *link = entry->next;
    if (entry->next)
        entry->next->lost_before += entry->lost_before + 1;
    else
        watch->lost += entry->lost_before + 1;
    if (watch->last == &entry->next)
        watch->last = link;
    watch->ring--;
    watch->bytes -= size_of(entry);
    return entry;
}

/* Returns what is to be freed without the lock. */
static struct watch_entry *make_room(bj_watch *watch)
{
    struct watch_entry *dropped = NULL;
    while (is_too_full(watch)) {
        struct watch_entry *entry = drop_oldest(watch);
        entry->next = dropped;
        dropped = entry;
    }
    return dropped;
}

static void append(bj_watch *watch, struct watch_entry *entry)
{
    entry->next = NULL;
    entry->lost_before = watch->lost;
    watch->lost = 0;
    *watch->last = entry;
    watch->last = &entry->next;
    watch->bytes += size_of(entry);
    if (!entry->kept)
        watch->ring++;
}

/* Only the latest stall is worth keeping at any price. */
static void keep_stalled(bj_watch *watch, struct watch_entry *entry)
{
    if (watch->stalled) {
        watch->stalled->kept = false;
        watch->ring++;
    }
    watch->stalled = entry;
    entry->kept = true;
}

static void post_callback(bj_watch *watch);

static void wake_reader(bj_watch *watch)
{
    if (watch->reader == WATCH_CALLBACK)
        post_callback(watch);
    else if (watch->reader == WATCH_QUEUE)
        queue_push(&watch->source);
    else
        pthread_cond_signal(&watch->wake);
}

/* Under the lock. After bj_watch_close() nothing comes but CLOSED. */
static void miss(bj_watch *watch)
{
    if (watch->ended || watch->closing)
        return;
    watch->lost++;
    wake_reader(watch);
}

/* Under the lock; returns what is to be freed without it. */
static struct watch_entry *push(bj_watch *watch, const bj_record *record, struct text *name,
                                struct text *text)
{
    if (watch->ended || (watch->closing && record->kind != BJ_RECORD_CLOSED))
        return NULL;
    struct watch_entry *entry = new_entry(watch, record->kind);
    if (!entry) {
        miss(watch);
        return NULL;
    }
    entry->record = *record;
    entry->name = text_ref(name);
    entry->text = text_ref(text);
    if (record->kind == BJ_RECORD_STALLED)
        keep_stalled(watch, entry);

    append(watch, entry);
    watch->ended = record->kind == BJ_RECORD_CLOSED;
    wake_reader(watch);
    if (watch->ended)
        queue_unbind(&watch->source);
    return make_room(watch);
}

void watch_push(bj_watch *watch, const bj_record *record, struct text *name, struct text *text)
{
    ctx_lock(watch->ctx);
    struct watch_entry *dropped = push(watch, record, name, text);
    ctx_unlock(watch->ctx);
    free_entries(dropped);
}

void watch_miss(bj_watch *watch)
{
    ctx_lock(watch->ctx);
    miss(watch);
    ctx_unlock(watch->ctx);
}

void watch_end(bj_watch *watch, int error, struct text *text)
{
    watch_push(watch, &(bj_record){.kind = BJ_RECORD_CLOSED, .error = error}, NULL, text);
    text_unref(text);
}

static bool take_lost(bj_watch *watch, bj_record *record)
{
    uint64_t *lost = watch->first ? &watch->first->lost_before : &watch->lost;
    if (*lost == 0)
        return false;
    *record = (bj_record){.kind = BJ_RECORD_LAGGED, .lost = *lost, .name = "", .text = ""};
    *lost = 0;
    return true;
}

bool watch_take(bj_watch *watch, bj_record *record, struct watch_entry **ret_entry)
{
    *ret_entry = NULL;
    if (take_lost(watch, record))
        return true;
    struct watch_entry *entry = watch->first;
    if (!entry)
        return false;

    watch->first = entry->next;
    if (!watch->first)
        watch->last = &watch->first;
    watch->bytes -= size_of(entry);
    if (!entry->kept)
        watch->ring--;
    if (watch->stalled == entry)
        watch->stalled = NULL;
    if (entry->record.kind == BJ_RECORD_CLOSED)
        watch->drained = true;

    *record = entry->record;
    record->name = text_str(entry->name);
    record->text = text_str(entry->text);
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
    if (r == BJ_OK) {
        struct watch_entry *before = watch->pulled;
        watch_take(watch, &watch->pulled_record, &watch->pulled);
        watch_entry_free(before);
        *ret_record = &watch->pulled_record;
    }
    ctx_unlock(watch->ctx);
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
    struct watch_entry *entries = watch->first;
    watch->first = NULL;
    watch->last = &watch->first;
    watch->ring = 0;
    watch->bytes = 0;
    watch->lost = 0;
    watch->stalled = NULL;
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
