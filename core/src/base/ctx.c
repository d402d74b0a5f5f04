/* SPDX-License-Identifier: MIT */
/*
 * Contexts; see ctx.h.
 */
#include "base/ctx.h"
#include "base/container_of.h"
#include "base/host.h"
#include "base/process.h"
#include "base/text.h"

#include <blockjob/ev.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static const uint64_t default_limits[LIMITS] = {
    [BJ_LIMIT_MESSAGE_BYTES] = 16 * 1024 * 1024,
    [BJ_LIMIT_MESSAGE_TOKENS] = 1024 * 1024,
    [BJ_LIMIT_MESSAGE_NESTING] = 256,
    [BJ_LIMIT_IN_FLIGHT] = 64,
    [BJ_LIMIT_QUEUED] = 1024,
    [BJ_LIMIT_JOBS] = 4096,
    [BJ_LIMIT_WATCH_RING] = 256,
    [BJ_LIMIT_CONNECT_MS] = 10 * 1000,
    [BJ_LIMIT_COMMAND_MS] = 60 * 1000,
    [BJ_LIMIT_STALL_MS] = 1000,
    [BJ_LIMIT_POLL_MS] = 500,
    [BJ_LIMIT_CONVERGE_MS] = 10000,
};

/* --------------------------------------------------------------------- memory */

bj_ctx *ctx_ref(bj_ctx *ctx)
{
    atomic_fetch_add(&ctx->refs, 1);
    return ctx;
}

bj_ctx *ctx_unref(bj_ctx *ctx)
{
    if (atomic_fetch_sub(&ctx->refs, 1) != 1)
        return NULL;
    loop_free(ctx->loop);
    if (ctx->free_command_sets)
        ctx->free_command_sets(ctx);
    pthread_cond_destroy(&ctx->log_returned);
    pthread_mutex_destroy(&ctx->lock);
    pthread_mutex_destroy(&ctx->close_lock);
    free(ctx);
    return NULL;
}

bool ctx_is_forked(const bj_ctx *ctx)
{
    return ctx->generation != process_generation();
}

bool ctx_is_closing(bj_ctx *ctx)
{
    ctx_lock(ctx);
    bool closing = ctx->closing;
    ctx_unlock(ctx);
    return closing;
}

void ctx_lock(bj_ctx *ctx)
{
    pthread_mutex_lock(&ctx->lock);
}

void ctx_unlock(bj_ctx *ctx)
{
    pthread_mutex_unlock(&ctx->lock);
}

static uint64_t random_prefix(void)
{
    uint64_t prefix;
    if (getrandom(&prefix, sizeof prefix, GRND_NONBLOCK) != sizeof prefix)
        prefix = (uint64_t)clock_realtime_us() ^ (uint64_t)getpid() << 44;
    return prefix;
}

static int new_on(struct ev_loop *theirs, bj_ctx **ret_ctx)
{
    bj_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return BJ_E_NOMEM;
    int r = theirs ? loop_new_on(theirs, &ctx->loop) : loop_new(&ctx->loop);
    if (r != BJ_OK) {
        free(ctx);
        return r;
    }
    atomic_init(&ctx->refs, 1);
    atomic_init(&ctx->handles, 1);
    ctx->generation = process_generation();
    ctx->job_id_prefix = random_prefix();
    pthread_mutex_init(&ctx->lock, NULL);
    pthread_mutex_init(&ctx->close_lock, NULL);
    pthread_cond_init(&ctx->log_returned, NULL);
    for (int i = 0; i < LIMITS; i++)
        ctx->limits[i] = default_limits[i];
    *ret_ctx = ctx;
    return BJ_OK;
}

int bj_ctx_new(bj_ctx **ret_ctx)
{
    if (!ret_ctx)
        return BJ_E_INVAL;
    bj_ctx *ctx;
    int r = new_on(NULL, &ctx);
    if (r == BJ_OK && (r = loop_start(ctx->loop)) != BJ_OK)
        ctx_unref(ctx);
    if (r == BJ_OK)
        *ret_ctx = ctx;
    return r;
}

int bj_ctx_new_on_loop(struct ev_loop *loop, bj_ctx **ret_ctx)
{
    return loop && ret_ctx ? new_on(loop, ret_ctx) : BJ_E_INVAL;
}

/* -------------------------------------------------------------------- closing */

static void run_leaving(struct loop_task *task)
{
    loop_stop(container_of(task, bj_ctx, leaving)->loop);
}

static void stop_if_empty(bj_ctx *ctx)
{
    if (!ctx_is_closing(ctx) || ctx->members || loop_is_theirs(ctx->loop))
        return;
    ctx->leaving.run = run_leaving; /* later: the driver is still on the stack */
    loop_post(ctx->loop, &ctx->leaving);
}

void ctx_enter(bj_ctx *ctx, struct ctx_member *member)
{
    member->next = ctx->members;
    ctx->members = member;
}

void ctx_leave(bj_ctx *ctx, struct ctx_member *member)
{
    struct ctx_member **link = &ctx->members;
    while (*link != member)
        link = &(*link)->next;
    *link = member->next;
    stop_if_empty(ctx);
}

static struct text *closed_text(void)
{
    return text_printf("the context was closed");
}

static void set_closing(bj_ctx *ctx)
{
    ctx_lock(ctx);
    ctx->closing = true;
    ctx_unlock(ctx);
}

/* On our loop's thread: answers everyone; the loop stops when the last member has gone. */
static void begin_closing(bj_ctx *ctx)
{
    struct ctx_member *next;

    set_closing(ctx);
    if (!ctx->members)
        stop_if_empty(ctx);
    for (struct ctx_member *member = ctx->members; member; member = next) {
        next = member->next;
        member->ops->close(member, closed_text());
    }
}

struct closing {
    struct loop_task task;
    bj_ctx *ctx;
};

static void run_closing(struct loop_task *task)
{
    struct closing *closing = (struct closing *)task;
    begin_closing(closing->ctx);
}

/* Their loop waits for nobody: what QEMU has not dismissed by now, stays. In a callback the
 * callbacks that are due follow as soon as it has returned. */
static int close_theirs(bj_ctx *ctx)
{
    struct loop *loop = ctx->loop;

    if (ctx->closed)
        return BJ_OK;
    if (loop_enter(loop) != BJ_OK)
        return BJ_E_STATE;
    ctx->closed = true;
    set_closing(ctx);
    while (ctx->members)
        ctx->members->ops->shut(ctx->members, closed_text());
    loop_stop(loop);
    loop_leave(loop);
    return BJ_OK;
}

static int close_ours(bj_ctx *ctx)
{
    if (loop_is_current(ctx->loop))
        return BJ_E_DEADLOCK;

    pthread_mutex_lock(&ctx->close_lock);
    if (!ctx->closed) {
        struct closing closing = {.task.run = run_closing, .ctx = ctx};
        loop_post(ctx->loop, &closing.task);
        loop_join(ctx->loop);
        ctx->closed = true;
    }
    pthread_mutex_unlock(&ctx->close_lock);
    return BJ_OK;
}

int bj_ctx_close(bj_ctx *ctx)
{
    if (!ctx)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    return loop_is_theirs(ctx->loop) ? close_theirs(ctx) : close_ours(ctx);
}

bj_ctx *bj_ctx_ref(bj_ctx *ctx)
{
    if (ctx)
        atomic_fetch_add(&ctx->handles, 1);
    return ctx;
}

static void drop_memory(void *user)
{
    ctx_unref(user);
}

static void run_closing_inside(struct loop_task *task)
{
    begin_closing(container_of(task, bj_ctx, leaving));
}

/* The last handle was given back inside a callback: nobody can wait for the thread, so it ends by
 * itself, and what is left of the context goes with it. */
static void close_from_inside(bj_ctx *ctx)
{
    ctx->closed = true;
    loop_on_gone(ctx->loop, drop_memory, ctx);
    loop_detach(ctx->loop);
    ctx->leaving.run = run_closing_inside;
    loop_post(ctx->loop, &ctx->leaving);
}

static void run_closing_theirs(struct loop_task *task)
{
    bj_ctx *ctx = container_of(task, bj_ctx, leaving);
    close_theirs(ctx);
    ctx_unref(ctx);
}

/* The last handle was given back while another thread runs the program's loop: that one closes it.
 */
static void close_from_afar(bj_ctx *ctx)
{
    ctx->leaving.run = run_closing_theirs;
    loop_post(ctx->loop, &ctx->leaving);
}

bj_ctx *bj_ctx_unref(bj_ctx *ctx)
{
    if (!ctx || ctx_is_forked(ctx) || atomic_fetch_sub(&ctx->handles, 1) != 1)
        return NULL;
    int r = ctx->closed ? BJ_OK : bj_ctx_close(ctx);
    if (r == BJ_OK)
        ctx_unref(ctx);
    else if (r == BJ_E_DEADLOCK)
        close_from_inside(ctx);
    else if (r == BJ_E_STATE)
        close_from_afar(ctx);
    return NULL;
}

/* --------------------------------------------------------------- limits, log */

int bj_ctx_set_limit(bj_ctx *ctx, bj_limit limit, uint64_t value)
{
    if (!ctx || (unsigned)limit >= LIMITS || value == 0 || value > INT64_MAX)
        return BJ_E_INVAL;
    if (limit == BJ_LIMIT_MESSAGE_NESTING && value > 1024)
        return BJ_E_INVAL; /* jansson recurses once a level */
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    ctx_lock(ctx);
    ctx->limits[limit] = value;
    ctx_unlock(ctx);
    return BJ_OK;
}

uint64_t ctx_limit(bj_ctx *ctx, bj_limit limit)
{
    ctx_lock(ctx);
    uint64_t value = ctx->limits[limit];
    ctx_unlock(ctx);
    return value;
}

int bj_ctx_get_limit(bj_ctx *ctx, bj_limit limit, uint64_t *ret_value)
{
    if (!ctx || (unsigned)limit >= LIMITS || !ret_value)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    *ret_value = ctx_limit(ctx, limit);
    return BJ_OK;
}

int bj_ctx_set_log(bj_ctx *ctx, bj_log_fn fn, void *user)
{
    if (!ctx)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    bool here = loop_is_current(ctx->loop); /* then no call is under way, or this is inside it */
    ctx_lock(ctx);
    ctx->log = fn;
    ctx->log_user = user;
    while (ctx->logging && !here)
        pthread_cond_wait(&ctx->log_returned, &ctx->lock);
    ctx_unlock(ctx);
    return BJ_OK;
}

#define MESSAGE_MAX 511

void ctx_log(bj_ctx *ctx, const char *format, ...)
{
    ctx_lock(ctx);
    bj_log_fn log = ctx->log;
    void *user = ctx->log_user;
    ctx->logging = log != NULL;
    ctx_unlock(ctx);
    if (!log)
        return;

    char message[MESSAGE_MAX + 2];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    message[text_fit(message, MESSAGE_MAX)] = '\0';
    log(message, user);

    ctx_lock(ctx);
    ctx->logging = false;
    pthread_cond_broadcast(&ctx->log_returned);
    ctx_unlock(ctx);
}
