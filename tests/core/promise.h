/* SPDX-License-Identifier: MIT */
/*
 * Futures that a test answers itself, and work for a context's loop: no QEMU is needed.
 */
#ifndef TESTS_PROMISE_H
#define TESTS_PROMISE_H

#include "base/container_of.h"
#include "base/ctx.h"
#include "delivery/future.h"

#include "cmocka_all.h"

#include <semaphore.h>
#include <stdlib.h>

/* What became of all promises of a test. */
typedef struct promises {
    atomic_int starts;
    atomic_int kept;   /* answered by their owner */
    atomic_int leaves; /* taken out again by a deadline or a cancellation */
    atomic_int destroys;
} promises;

typedef struct promise {
    bj_future future; /* first */
    promises *all;
    bool is_owed; /* the loop's own: between start, and answer or leave */
    struct loop_task keep;
    int error; /* that it is to be answered with */
} promise;

static inline void promise_start(bj_future *future)
{
    promise *p = (promise *)future;
    p->is_owed = true;
    atomic_fetch_add(&p->all->starts, 1);
}

static inline void promise_leave(bj_future *future)
{
    promise *p = (promise *)future;
    p->is_owed = false;
    atomic_fetch_add(&p->all->leaves, 1);
}

static inline void promise_destroy(bj_future *future)
{
    atomic_fetch_add(&((promise *)future)->all->destroys, 1);
}

static const struct future_ops promise_ops = {
    .start = promise_start,
    .leave = promise_leave,
    .destroy = promise_destroy,
};

static inline bj_future *promise_make(bj_ctx *ctx, promises *all, int64_t timeout_ms)
{
    promise *p = (promise *)future_new(ctx, sizeof *p, &promise_ops);
    assert_non_null(p);
    p->all = all;
    return future_launch(&p->future, timeout_ms, -1);
}

static inline void promise_run_keep(struct loop_task *task)
{
    promise *p = container_of(task, promise, keep);
    bj_future *future = &p->future;
    if (p->is_owed) {
        p->is_owed = false;
        atomic_fetch_add(&p->all->kept, 1);
        struct text *text = p->error == BJ_OK ? NULL : text_printf("the answer");
        future_answer(future, &(struct future_result){.error = p->error, .text = text});
    }
    future_unref_memory(future);
}

/* Its owner answers it, on the loop's thread; once a promise. */
static inline void promise_keep(bj_future *future, int error)
{
    promise *p = (promise *)future;
    p->error = error;
    p->keep.run = promise_run_keep;
    future_ref_memory(future);
    if (!loop_post(future->ctx->loop, &p->keep))
        future_unref_memory(future);
}

/* ------------------------------------------------------- on the loop's thread */

struct errand {
    struct loop_task task;
    void (*run)(void *user);
    void *user;
    sem_t done;
};

static inline void run_errand(struct loop_task *task)
{
    struct errand *errand = (struct errand *)task;
    if (errand->run)
        errand->run(errand->user);
    sem_post(&errand->done);
}

static inline void sem_wait_whole(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        continue; /* a signal */
}

/* Runs it there and returns when it has run. */
static inline void on_loop(bj_ctx *ctx, void (*run)(void *user), void *user)
{
    struct errand errand = {.task.run = run_errand, .run = run, .user = user};
    sem_init(&errand.done, 0, 0);
    assert_true(loop_post(ctx->loop, &errand.task));
    sem_wait_whole(&errand.done);
    sem_destroy(&errand.done);
}

/* All that was posted before, and what that has posted, has run. */
static inline void settle(bj_ctx *ctx)
{
    on_loop(ctx, NULL, NULL);
    on_loop(ctx, NULL, NULL);
}

/* ------------------------------------------------------------------- a bench */

typedef struct bench {
    bj_ctx *ctx;
    promises all;
} bench;

static inline int bench_setup(void **state)
{
    bench *b = calloc(1, sizeof *b);
    *state = b;
    return b && bj_ctx_new(&b->ctx) == BJ_OK ? 0 : -1;
}

static inline int bench_teardown(void **state)
{
    bench *b = *state;
    bj_ctx_unref(b->ctx); /* its thread is gone: nothing more is counted */
    free(b);
    return 0;
}

#define on_bench(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

#endif
