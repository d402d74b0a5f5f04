/* SPDX-License-Identifier: MIT */
/*
 * A context: the loop, the lock over all that several threads see, the limits, and its members,
 * which it ends when it is closed.
 */
#ifndef BJ_BASE_CTX_H
#define BJ_BASE_CTX_H

#include "base/loop.h"

#include <blockjob/blockjob.h>

#include <pthread.h>
#include <stdatomic.h>

#define LIMITS (BJ_LIMIT_CONVERGE_MS + 1)

/* Short, so that a watch's callbacks have their turn before its ring is full: about 120 events. */
#define READ_BUFFER 16384

struct text;
struct ctx_member;

/* The loop's thread. Both take over the reference to `why`; the member leaves by ctx_leave(). */
struct ctx_member_ops {
    void (*close)(struct ctx_member *member, struct text *why); /* it leaves now or later */
    void (*shut)(struct ctx_member *member, struct text *why);  /* it leaves before this returns */
};

/* Part of a monitor. */
struct ctx_member {
    const struct ctx_member_ops *ops;
    struct ctx_member *next;
};

struct bj_ctx {
    atomic_uint refs;    /* of the memory: every object of the context holds one */
    atomic_uint handles; /* of the program */
    unsigned generation; /* of the process that made it */
    struct loop *loop;

    /* Guards what any thread may ask: futures, queues, watches, what jobs publish, the limits.
     * Never held while a callback runs. */
    pthread_mutex_t lock;
    bool closing; /* nothing new is begun; the loop stops when the last member has gone */
    uint64_t limits[LIMITS];
    bj_log_fn log;
    void *log_user;
    bool logging;                 /* it is being called */
    pthread_cond_t call_returned; /* a log's or a trace's */

    pthread_mutex_t close_lock; /* one closes, the others wait for it */
    bool closed;
    bool closes_itself; /* nobody need wait for the thread, which has a reference to the memory */
    struct loop_task leaving; /* stops the loop, once the last member has gone */

    /* The loop's own. */
    struct ctx_member *members;
    struct command_set *command_sets;       /* shared by the monitors of like QEMUs */
    void (*free_command_sets)(bj_ctx *ctx); /* NULL: there has been none */
    uint64_t job_id_prefix;                 /* random */
    uint64_t runs;                          /* of jobs that it has followed */
    uint64_t job_ids;
    uint64_t connections;
    char read_buffer[READ_BUFFER];
};

bj_ctx *ctx_ref(bj_ctx *ctx);
bj_ctx *ctx_unref(bj_ctx *ctx);

bool ctx_is_forked(const bj_ctx *ctx);
bool ctx_is_closing(bj_ctx *ctx);

void ctx_lock(bj_ctx *ctx);
void ctx_unlock(bj_ctx *ctx);

uint64_t ctx_limit(bj_ctx *ctx, bj_limit limit);

/* The loop's thread. */
void ctx_enter(bj_ctx *ctx, struct ctx_member *member);
void ctx_leave(bj_ctx *ctx, struct ctx_member *member); /* one that has entered */
void ctx_log(bj_ctx *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
