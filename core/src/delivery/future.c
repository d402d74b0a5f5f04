/* SPDX-License-Identifier: MIT */
/*
 * Futures; see future.h.
 */
#include "delivery/future.h"
#include "base/container_of.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct future_callback {
    struct loop_task task;
    struct future_callback *next;
    bj_future *future; /* a handle */
    bj_closure closure;
};

/* Someone in bj_future_wait(), on its stack. */
struct future_sleeper {
    struct future_sleeper *next;
    pthread_cond_t wake;
};

/* ------------------------------------------------------------- static ones */

static const struct {
    int error;
    const char *text;
} static_answers[] = {
    {BJ_E_INVAL, "a handle is NULL"},
    {BJ_E_NOMEM, "out of memory; nothing was done"},
    {BJ_E_FORKED, "the handle belongs to the parent process: connect anew after fork()"},
};

#define STATIC_FUTURES (sizeof static_answers / sizeof static_answers[0])

static bj_future static_futures[STATIC_FUTURES] = {
    {.done = true, .result.error = BJ_E_INVAL},
    {.done = true, .result.error = BJ_E_NOMEM},
    {.done = true, .result.error = BJ_E_FORKED},
};

bj_future *future_static(int error)
{
    size_t i = 0;
    while (i < STATIC_FUTURES - 1 && static_answers[i].error != error)
        i++;
    return &static_futures[i];
}

static bool is_static(const bj_future *future)
{
    return future >= static_futures && future < static_futures + STATIC_FUTURES;
}

/* ------------------------------------------------------------- as a queue's source */

static bj_future *future_of_source(struct queue_source *source)
{
    return container_of(source, bj_future, source);
}

/* Keeps the strings and not the future, whose result may be all that holds a monitor open. */
static int take_record(struct queue_source *source, bj_record *record, struct record_refs *refs,
                       int max, bool *ret_more)
{
    (void)max;
    const struct future_result *result = &future_of_source(source)->result;

    *refs = (struct record_refs){
        .name = text_ref(result->error_class),
        .text = text_ref(result->json ? result->json : result->text),
    };
    *record = (bj_record){
        .kind = BJ_RECORD_FUTURE,
        .error = result->error,
        .cause = result->cause,
        .outcome = result->outcome,
        .name = text_str(refs->name),
        .text = text_str(refs->text),
    };
    *ret_more = false;
    return 1;
}

static void ref_source(struct queue_source *source)
{
    future_ref_memory(future_of_source(source));
}

static void unref_source(struct queue_source *source)
{
    future_unref_memory(future_of_source(source));
}

/* drop_handle() looks the other way round: one of both finds that nobody is left. */
static void forsake_source(struct queue_source *source)
{
    bj_future *future = future_of_source(source);
    if (atomic_load(&future->handles) == 0)
        bj_future_cancel(future);
}

static const struct queue_source_ops source_ops = {
    .take = take_record,
    .ref = ref_source,
    .unref = unref_source,
    .forsake = forsake_source,
};

/* ------------------------------------------------------------------- memory */

void future_clear_result(struct future_result *result)
{
    text_unref(result->text);
    text_unref(result->error_class);
    text_unref(result->json);
    if (result->value.kind)
        result->value.kind->unref(result->value.data);
    *result = (struct future_result){0};
}

bj_future *future_new(bj_ctx *ctx, size_t size, const struct future_ops *ops)
{
    bj_future *future = calloc(1, size);
    if (!future)
        return NULL;
    atomic_init(&future->refs, 1);
    atomic_init(&future->handles, 1);
    future->ctx = ctx_ref(ctx);
    future->ops = ops;
    future->source.ops = &source_ops;
    future->deadline_ms = -1;
    return future;
}

bj_future *future_ref_memory(bj_future *future)
{
    atomic_fetch_add(&future->refs, 1);
    return future;
}

void future_unref_memory(bj_future *future)
{
    if (atomic_fetch_sub(&future->refs, 1) != 1)
        return;
    if (future->ops && future->ops->destroy)
        future->ops->destroy(future);
    loop_timer_free(future->timer);
    future_clear_result(&future->result);
    queue_unref_memory(future->source.queue);
    ctx_unref(future->ctx);
    free(future);
}

static bool is_read_by_queue(bj_future *future)
{
    ctx_lock(future->ctx);
    bool read = queue_is_read(&future->source);
    ctx_unlock(future->ctx);
    return read;
}

static void drop_handle(bj_future *future)
{
    if (atomic_fetch_sub(&future->handles, 1) != 1)
        return;
    if (!is_read_by_queue(future))
        bj_future_cancel(future);
    future_unref_memory(future);
}

bj_future *bj_future_ref(bj_future *future)
{
    if (future && !is_static(future))
        atomic_fetch_add(&future->handles, 1);
    return future;
}

bj_future *bj_future_unref(bj_future *future)
{
    if (future && !is_static(future) && !ctx_is_forked(future->ctx))
        drop_handle(future);
    return NULL;
}

/* --------------------------------------------------------------- completion */

/* Under the lock. False if it was done before; then nothing was taken from `result`. */
static bool complete(bj_future *future, struct future_result *result)
{
    if (future->done)
        return false;
    future->done = true;
    future->result = *result;
    *result = (struct future_result){0};

    for (struct future_sleeper *s = future->sleepers; s; s = s->next)
        pthread_cond_signal(&s->wake);

    struct future_callback *next;
    for (struct future_callback *c = future->callbacks; c; c = next) {
        next = c->next; /* the loop's thread may be faster than us */
        loop_post(future->ctx->loop, &c->task);
    }
    future->callbacks = NULL;
    if (future->source.queue)
        queue_push(&future->source);
    queue_unbind(&future->source);
    return true;
}

/* The loop is through with it. */
static void settle(bj_future *future)
{
    if (future->timer)
        loop_timer_stop(future->timer);
    loop_timer_free(future->timer);
    future->timer = NULL;
    future_unref_memory(future);
}

void future_answer(bj_future *future, struct future_result *result)
{
    bj_ctx *ctx = future->ctx;

    ctx_lock(ctx);
    complete(future, result);
    future->started = false;
    bool posted = future->posted; /* then run_leave() settles it */
    ctx_unlock(ctx);

    future_clear_result(result);
    if (!posted)
        settle(future);
}

#define SENTENCE_MAX 1023

static struct text *write_sentence(const char *format, va_list args)
{
    char sentence[SENTENCE_MAX + 2]; /* one byte more shows where a character is cut */
    vsnprintf(sentence, sizeof sentence, format, args);
    return text_printf("%.*s", text_fit(sentence, SENTENCE_MAX), sentence);
}

void future_fail(bj_future *future, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct text *sentence = write_sentence(format, args);
    va_end(args);
    future_answer(future, &(struct future_result){.error = error, .text = sentence});
}

bj_future *future_failed(bj_ctx *ctx, int error, const char *format, ...)
{
    bj_future *future = future_new(ctx, sizeof *future, NULL);
    if (!future)
        return future_static(BJ_E_NOMEM);

    va_list args;
    va_start(args, format);
    future->result.text = write_sentence(format, args);
    va_end(args);
    future->result.error = error;
    future->done = true;
    return future;
}

/* Out of what it waits in, with whatever answer it has got meanwhile. */
static void leave(bj_future *future)
{
    ctx_lock(future->ctx);
    bool started = future->started;
    future->started = false;
    future->posted = false;
    ctx_unlock(future->ctx);

    if (started && future->ops->leave)
        future->ops->leave(future);
    settle(future);
}

static void run_leave(struct loop_task *task)
{
    leave(container_of(task, bj_future, task));
}

void bj_future_cancel(bj_future *future)
{
    if (!future || is_static(future) || ctx_is_forked(future->ctx))
        return;
    struct future_result result = {
        .error = BJ_E_CANCELLED,
        .text = text_printf("%s", bj_error_text(BJ_E_CANCELLED)),
    };

    ctx_lock(future->ctx);
    if (complete(future, &result) && future->started && !future->posted) {
        future->posted = true;
        future->task.run = run_leave;
        loop_post(future->ctx->loop, &future->task);
    }
    ctx_unlock(future->ctx);
    future_clear_result(&result);
}

/* ---------------------------------------------------------------- launching */

static void expire(void *user)
{
    bj_future *future = user;
    struct text *text = future->ops->late ? future->ops->late(future) : NULL;
    if (!text)
        text = text_printf("not done within %.10g s; what was waited for goes on",
                           (double)future->timeout_ms / 1000.);
    struct future_result result = {.error = BJ_E_TIMEOUT, .text = text};

    ctx_lock(future->ctx);
    complete(future, &result);
    bool posted = future->posted;
    ctx_unlock(future->ctx);

    future_clear_result(&result);
    if (!posted)
        leave(future);
}

static bool arm_deadline(bj_future *future)
{
    if (future->deadline_ms < 0)
        return true;
    future->timer = loop_timer_new(future->ctx->loop, expire, future);
    if (!future->timer)
        return false;
    int64_t left = future->deadline_ms - clock_monotonic_ms();
    loop_timer_set(future->timer, left > 0 ? left : 0);
    return true;
}

static void not_started(bj_future *future)
{
    if (future->ops->unstarted)
        future->ops->unstarted(future);
}

static void run_start(struct loop_task *task)
{
    bj_future *future = container_of(task, bj_future, task);

    ctx_lock(future->ctx);
    future->posted = false;
    bool cancelled = future->done;
    future->started = !cancelled;
    ctx_unlock(future->ctx);

    bool may_start = !cancelled && arm_deadline(future);
    if (!may_start)
        not_started(future);
    if (cancelled)
        settle(future);
    else if (!may_start)
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
    else if (future->ops->start)
        future->ops->start(future);
}

int future_check_timeout(int64_t timeout_ms)
{
    return timeout_ms < BJ_TIMEOUT_DEFAULT ? BJ_E_INVAL : BJ_OK;
}

static void set_deadline(bj_future *future, int64_t timeout_ms, int limit)
{
    if (timeout_ms == BJ_TIMEOUT_DEFAULT && limit >= 0)
        timeout_ms = (int64_t)ctx_limit(future->ctx, (bj_limit)limit);
    if (timeout_ms < 0)
        return;
    int64_t now = clock_monotonic_ms();
    future->timeout_ms = timeout_ms;
    future->deadline_ms = timeout_ms > INT64_MAX - now ? INT64_MAX : now + timeout_ms;
}

/* Once closing has begun nothing new is begun, or a callback that tries again would never let it
 * end. */
static bool post_start(bj_future *future)
{
    ctx_lock(future->ctx);
    future->posted = !future->ctx->closing && loop_post(future->ctx->loop, &future->task);
    bool posted = future->posted;
    ctx_unlock(future->ctx);
    return posted;
}

bj_future *future_launch(bj_future *future, int64_t timeout_ms, int limit)
{
    set_deadline(future, timeout_ms, limit);
    future->task.run = run_start;
    future_ref_memory(future);
    if (post_start(future))
        return future;

    not_started(future);
    future->done = true;
    future->result = (struct future_result){
        .error = BJ_E_CLOSED,
        .text = text_printf("the context was closed"),
    };
    future_unref_memory(future);
    return future;
}

/* ---------------------------------------------------------------- listening */

static void run_callback(struct loop_task *task)
{
    struct future_callback *callback = (struct future_callback *)task;

    bj_ctx *ctx = callback->future->ctx;
    callback->closure.fn(callback->future, callback->closure.user);
    if (ctx_is_forked(ctx))
        return; /* in the child, which has nothing to do with it */
    if (callback->closure.free)
        callback->closure.free(callback->closure.user);
    drop_handle(callback->future);
    free(callback);
}

static int add_callback(bj_future *future, bj_closure closure)
{
    struct future_callback *callback = calloc(1, sizeof *callback);
    if (!callback)
        return BJ_E_NOMEM;
    callback->task.run = run_callback;
    callback->closure = closure;
    callback->future = bj_future_ref(future);

    ctx_lock(future->ctx);
    bool posted = true;
    if (future->done) {
        posted = !future->ctx->closing && loop_post(future->ctx->loop, &callback->task);
    } else {
        struct future_callback **last = &future->callbacks;
        while (*last)
            last = &(*last)->next;
        *last = callback;
    }
    ctx_unlock(future->ctx);

    if (posted)
        return BJ_OK;
    drop_handle(future);
    free(callback);
    return BJ_E_CLOSED;
}

int bj_future_on_done(bj_future *future, bj_closure closure)
{
    int r;
    if (!future || !closure.fn)
        r = BJ_E_INVAL;
    else if (is_static(future))
        r = future->result.error; /* it has no loop to call from */
    else if (ctx_is_forked(future->ctx))
        r = BJ_E_FORKED;
    else
        r = add_callback(future, closure);

    if (r != BJ_OK && closure.free)
        closure.free(closure.user);
    return r;
}

/* Under the lock, which it gives up while it sleeps. */
static int sleep_until_done(bj_future *future, int64_t timeout_ms)
{
    bool is_endless = timeout_ms < 0;
    struct timespec deadline = clock_deadline(is_endless ? 0 : timeout_ms);

    struct future_sleeper self = {.next = future->sleepers};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&self.wake, &attr);
    pthread_condattr_destroy(&attr);
    future->sleepers = &self;

    int r = 0;
    while (!future->done && r != ETIMEDOUT)
        r = is_endless ? pthread_cond_wait(&self.wake, &future->ctx->lock)
                       : pthread_cond_timedwait(&self.wake, &future->ctx->lock, &deadline);

    struct future_sleeper **link = &future->sleepers;
    while (*link != &self)
        link = &(*link)->next;
    *link = self.next;
    pthread_cond_destroy(&self.wake);
    return future->done ? BJ_OK : BJ_E_TIMEOUT;
}

int bj_future_wait(bj_future *future, int64_t timeout_ms)
{
    if (!future || future_check_timeout(timeout_ms) != BJ_OK)
        return BJ_E_INVAL;
    if (is_static(future))
        return BJ_OK;
    if (ctx_is_forked(future->ctx))
        return BJ_E_FORKED;
    if (bj_future_is_done(future))
        return BJ_OK;
    if (timeout_ms == 0)
        return BJ_E_TIMEOUT;
    if (loop_is_current(future->ctx->loop))
        return BJ_E_DEADLOCK;

    future_ref_memory(future);
    ctx_lock(future->ctx);
    int r = sleep_until_done(future, timeout_ms);
    ctx_unlock(future->ctx);
    future_unref_memory(future);
    return r;
}

int bj_future_deliver(bj_future *future, bj_queue *queue, uint64_t token)
{
    if (!future || !queue)
        return BJ_E_INVAL;
    if (is_static(future))
        return future->result.error;
    if (ctx_is_forked(future->ctx))
        return BJ_E_FORKED;

    ctx_lock(future->ctx);
    int r = queue_bind(&future->source, queue, token, future->ctx);
    if (r == BJ_OK && future->done) {
        queue_push(&future->source);
        queue_unbind(&future->source);
    }
    ctx_unlock(future->ctx);
    return r;
}

/* ------------------------------------------------------------------ answers */

/* The answer, once there is one; it never changes then, so no lock is needed to read it. */
static const struct future_result *answer_of(bj_future *future)
{
    return future && bj_future_is_done(future) ? &future->result : NULL;
}

bool bj_future_is_done(bj_future *future)
{
    if (!future || is_static(future))
        return true;
    if (ctx_is_forked(future->ctx))
        return true;
    ctx_lock(future->ctx);
    bool done = future->done;
    ctx_unlock(future->ctx);
    return done;
}

int bj_future_error(bj_future *future)
{
    if (!future)
        return BJ_E_INVAL;
    if (!is_static(future) && ctx_is_forked(future->ctx))
        return BJ_E_FORKED;
    const struct future_result *result = answer_of(future);
    return result ? result->error : BJ_E_PENDING;
}

const char *bj_future_text(bj_future *future)
{
    if (!future)
        return static_answers[0].text;
    if (is_static(future))
        return static_answers[future - static_futures].text;
    if (ctx_is_forked(future->ctx))
        return bj_error_text(BJ_E_FORKED);
    const struct future_result *result = answer_of(future);
    return result ? text_str(result->text) : "";
}

int bj_future_cause(bj_future *future)
{
    const struct future_result *result = answer_of(future);
    return result ? result->cause : BJ_OK;
}

const char *bj_future_error_class(bj_future *future)
{
    const struct future_result *result = answer_of(future);
    return result ? text_str(result->error_class) : "";
}

bj_outcome bj_future_outcome(bj_future *future)
{
    const struct future_result *result = answer_of(future);
    return result ? result->outcome : BJ_OUTCOME_NONE;
}

const char *bj_future_json(bj_future *future)
{
    const struct future_result *result = answer_of(future);
    return result && result->json ? text_str(result->json) : NULL;
}

void *future_value_of(bj_future *future, const struct value_kind *kind)
{
    const struct future_result *result = answer_of(future);
    return result && result->value.kind == kind ? result->value.data : NULL;
}
