//go:build !libblockjob_system

/* SPDX-License-Identifier: MIT */
/*
 * libblockjob in one file; see docs/embedding.md.
 * Made by `make amalgamation` from libblockjob's sources: change those.
 *
 * MIT License
 *
 * Copyright (c) 2026 The libblockjob authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files (the "Software"), to deal
 * in the Software without restriction, including without limitation the rights
 * to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 * copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all
 * copies or substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 * IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 * FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 * AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 * LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 * SOFTWARE.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#ifndef _TIME_BITS
#define _TIME_BITS 64
#endif
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-const-variable"
#pragma GCC diagnostic ignored "-Wshadow"

#include "blockjob.h"

#include <dlfcn.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- core/src/api/answers.c ---- */

/*
 * What a future may be answered with; see answers.h.
 */
/* ---- core/src/api/answers.h ---- */

/*
 * What a future may be answered with: a monitor, a job, several jobs, or QEMU's list of jobs.
 */

/* ---- core/src/delivery/future.h ---- */

/*
 * Futures: one answer, delivered exactly once to everyone who asked for it in any of the ways there
 * are (callback, blocking wait, queue).
 *
 * The life of one that has work to do: future_new(), future_launch() on any thread; ops->start() on
 * the loop's; then either the owner calls future_answer(), or a deadline or a cancellation comes
 * first and ops->leave() takes it out of whatever it waited in.
 */

/* ---- core/src/base/ctx.h ---- */

/*
 * A context: the loop, the lock over all that several threads see, the limits, and its members,
 * which it ends when it is closed.
 */

/* ---- core/src/base/loop.h ---- */

/*
 * The event loop of a context: an epoll set of its own for sockets, an eventfd in it for what other
 * threads post, and timers. A thread of its own runs it, or another loop, the program's, does so
 * (base/host.h). All functions belong to the loop's thread, except the ones that say otherwise.
 *
 * The one rule for what calls what: while anything of a loop is on a stack, nothing else of that
 * loop runs. An ev_run() inside a callback serves the program's own watchers only. What is freed
 * meanwhile stays until the outermost frame returns.
 */

struct loop;

/* Without descriptors or memory, BJ_E_SYSTEM or BJ_E_NOMEM. It runs once loop_start() was called.
 */
static int loop_new(struct loop **ret_loop);
static int loop_start(struct loop *loop); /* any thread, once; BJ_E_SYSTEM */
/* Before loop_start(): for a thread that runs the code of others. */
static void loop_set_stack(struct loop *loop, size_t bytes);
static void loop_free(struct loop *loop); /* stopped, or never started */

/* In a task, or between loop_enter() and loop_leave(): it stops as soon as there is nothing left to
 * run. After that loop_post() refuses. */
static void loop_stop(struct loop *loop);
static void loop_join(struct loop *loop); /* another thread than the loop's */
/* Instead of joining: the thread calls `gone` as its last act. */
static void loop_detach(struct loop *loop);
static void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user);

/* Any thread: whether this is the loop's thread. Of a program's loop: the one that runs it now, as
 * far as can be known: that which ran it last, or made the context. */
static bool loop_is_current(const struct loop *loop);
static bool loop_is_theirs(const struct loop *loop); /* any thread */

/* For calls from outside on a program's loop: what lies between is a frame of the loop's.
 * BJ_E_STATE while another thread runs it. */
static int loop_enter(struct loop *loop);
static void loop_leave(struct loop *loop);

/* Work for the loop's thread, in the order it was posted; lies in the poster's own memory, so that
 * posting can't fail for lack of it. False once the loop has stopped: it will not run. */
struct loop_task {
    struct loop_task *next;
    void (*run)(struct loop_task *task);
};
static bool loop_post(struct loop *loop, struct loop_task *task); /* any thread */

/* Not in a task. Runs now what has been posted by now: for who has just taken from the world what
 * must not overtake it. False: a callback has forked, and this is the child, which must not touch
 * what it shares with its parent. */
static bool loop_run_posted(struct loop *loop);

/* Runs it when the task, the socket's handler or the timer's that is running now has returned: what
 * a read causes many times needs to be done once. False: none is running on this thread. The task
 * may not be given twice before it ran. */
static bool loop_after_step(struct loop *loop, struct loop_task *task);

/* As long as it is held, a loop of theirs that has nothing else to wait for goes on: for what other
 * threads will post. */
static void loop_hold(struct loop *loop);
static void loop_unhold(struct loop *loop);

/* A socket. `ready` is called while it is readable, or writable if asked for; never both 0. */
enum { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_io;
/* Any thread. BJ_E_NOMEM; BJ_E_SYSTEM with the reason in errno. */
static int loop_io_new(struct loop *loop, int fd, int events, void (*ready)(void *user, int events),
                void *user, struct loop_io **ret_io);
static void loop_io_want(struct loop_io *io, int events);
static void loop_io_free(struct loop_io *io); /* before the fd is closed; takes NULL */

/* A timer on the monotonic clock; calls once after loop_timer_set(). Any thread may make one; NULL:
 * no memory. */
struct loop_timer;
static struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user);
static void loop_timer_set(struct loop_timer *timer, int64_t ms); /* from now; again moves it */
static void loop_timer_stop(struct loop_timer *timer);
static void loop_timer_free(struct loop_timer *timer); /* takes NULL */

/* Any thread. Nano- and milliseconds of the monotonic clock, microseconds since 1970. */
static int64_t clock_monotonic_ns(void);
static int64_t clock_monotonic_ms(void);
static int64_t clock_realtime_us(void);

/* Any thread. The moment `ms` after `when`; the last one that time_t can hold if that is later.
 * `ms` is not negative. */
static struct timespec clock_add_ms(struct timespec when, int64_t ms);
/* Any thread. The same after now, for pthread_cond_timedwait() by the monotonic clock. */
static struct timespec clock_deadline(int64_t ms);

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

static bj_ctx *ctx_ref(bj_ctx *ctx);
static bj_ctx *ctx_unref(bj_ctx *ctx);

static bool ctx_is_forked(const bj_ctx *ctx);
static bool ctx_is_closing(bj_ctx *ctx);

static void ctx_lock(bj_ctx *ctx);
static void ctx_unlock(bj_ctx *ctx);

static uint64_t ctx_limit(bj_ctx *ctx, bj_limit limit);

/* The loop's thread. */
static void ctx_enter(bj_ctx *ctx, struct ctx_member *member);
static void ctx_leave(bj_ctx *ctx, struct ctx_member *member); /* one that has entered */
static void ctx_log(bj_ctx *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- core/src/base/text.h ---- */

/*
 * Immutable strings that several owners share: error sentences, event data, JSON replies.
 * Any thread.
 */

struct text;

/* NULL when memory is short. */
static struct text *text_new(const char *bytes, size_t len);

/* Never NULL: when memory is short it is the sentence that says so. */
static struct text *text_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The most bytes of it that make whole characters (UTF-8) and are no more than `most`: for "%.*s".
 */
static int text_fit(const char *s, int most);

/* As much of a caller's text as an error sentence repeats. */
#define QUOTED_MAX 200

static struct text *text_ref(struct text *text); /* NULL stays NULL */
static struct text *text_unref(struct text *text);

/* "" for NULL. Belongs to the text. */
static const char *text_str(const struct text *text);

/* ---- core/src/delivery/queue.h ---- */

/*
 * Completion queues. A queue does not hold records but those who have some: futures that are done
 * and watches whose ring is not empty. So delivering needs no memory, and a queue is as bounded as
 * they.
 */

/* ---- core/src/delivery/record.h ---- */

/*
 * What the pointers of a record, or of a future's result, lie in.
 */

/* Something that a layer above knows, and knows again by its kind. */
struct value_kind {
    void (*ref)(void *data);   /* NULL: it is never shared */
    void (*unref)(void *data); /* any thread, without the context's lock; takes NULL */
};

struct value {
    const struct value_kind *kind; /* NULL: none */
    void *data;                    /* a reference */
};

static inline void value_ref(const struct value *value)
{
    if (value->kind)
        value->kind->ref(value->data);
}

static inline void value_clear(struct value *value)
{
    if (value->kind)
        value->kind->unref(value->data);
    *value = (struct value){0};
}

/* References; NULL is "". */
struct record_refs {
    struct text *name;
    struct text *text;
    struct value job;
};

static inline void record_refs_clear(struct record_refs *refs)
{
    refs->name = text_unref(refs->name);
    refs->text = text_unref(refs->text);
    value_clear(&refs->job);
}

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
static int queue_bind(struct queue_source *source, bj_queue *queue, uint64_t token, const bj_ctx *ctx);
static void queue_unbind(struct queue_source *source); /* the caller has a reference; or it is not bound */
static void queue_push(struct queue_source *source);
static bool queue_is_read(const struct queue_source *source); /* it delivers to a queue with a reader */

/* Without the lock; the source is queued no more. Takes NULL. */
static void queue_unref_memory(bj_queue *queue);

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
static void future_clear_result(struct future_result *result);

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
static bj_future *future_new(bj_ctx *ctx, size_t size, const struct future_ops *ops);

/* A future that is done already: for what can't be asked. Never NULL. */
static bj_future *future_failed(bj_ctx *ctx, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The static ones, for when there is no context to speak of: BJ_E_INVAL (a NULL handle),
 * BJ_E_NOMEM, BJ_E_FORKED. */
static bj_future *future_static(int error);

/* Starts its work; returns it. `limit`: the deadline of BJ_TIMEOUT_DEFAULT, -1 for none. */
static bj_future *future_launch(bj_future *future, int64_t timeout_ms, int limit);

/* 0, or BJ_E_INVAL: negative, and neither NONE nor DEFAULT. */
static int future_check_timeout(int64_t timeout_ms);

/* The loop's thread; the owner has let go of it. Takes over what is in `result`. */
static void future_answer(bj_future *future, struct future_result *result);

/* The same for an error alone. */
static void future_fail(bj_future *future, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Any thread: what it was answered with, if that is of this kind; else NULL. Belongs to it. */
static void *future_value_of(bj_future *future, const struct value_kind *kind);

static bj_future *future_ref_memory(bj_future *future);
static void future_unref_memory(bj_future *future);

/* ---- core/src/driver/job_list.h ---- */

/*
 * QEMU's list of jobs: what programs read of each, and what only the machine has to know.
 */

struct job_row {
    bj_job_info info;   /* its strings are malloc'ed, or "" */
    bool was_cancelled; /* it is over, and its error is that it was cancelled (B21) */
    bool has_io_error;  /* an I/O error has paused it */
    bool lacks_space;   /* and it was that no space is left */
    char *disks;        /* malloc'ed, those it works on, a newline after each; NULL: not known */
};

struct job_list {
    size_t count;
    bool is_cut; /* rows are missing that somebody asked for */
    struct job_row *rows;
};

static const struct job_row *job_list_find(const struct job_list *list, const char *id); /* NULL: none */
static void job_list_free(struct job_list *list);                                        /* takes NULL */
static void job_list_free_rows(struct job_list *list); /* what the rows own, not their array */

/* References. */
struct job_array {
    size_t count;
    bj_job *jobs[];
};
static void job_array_free(struct job_array *array); /* takes NULL */

/* For a future's result; each takes over what it is given. */
static struct value monitor_value(bj_monitor *monitor);
static struct value job_value(bj_job *job);
static struct value jobs_value(struct job_array *jobs);
static struct value job_list_value(struct job_list *list);

static void job_array_free(struct job_array *array)
{
    for (size_t i = 0; array && i < array->count; i++)
        bj_job_unref(array->jobs[i]);
    free(array);
}

/* -------------------------------------------------------------------- monitor */

static void unref_monitor(void *data)
{
    bj_monitor_unref(data);
}

static const struct value_kind monitor_kind = {.unref = unref_monitor};

static struct value monitor_value(bj_monitor *monitor)
{
    return (struct value){.kind = &monitor_kind, .data = monitor};
}

bj_monitor *bj_future_monitor(bj_future *future)
{
    return bj_monitor_ref(future_value_of(future, &monitor_kind));
}

/* ------------------------------------------------------------------------ job */

static void ref_job(void *data)
{
    bj_job_ref(data);
}

static void unref_job(void *data)
{
    bj_job_unref(data);
}

static const struct value_kind job_kind = {.ref = ref_job, .unref = unref_job};

static struct value job_value(bj_job *job)
{
    return (struct value){.kind = &job_kind, .data = job};
}

bj_job *bj_future_job(bj_future *future)
{
    return bj_job_ref(future_value_of(future, &job_kind));
}

/* ----------------------------------------------------------------------- jobs */

static void unref_jobs(void *data)
{
    job_array_free(data);
}

static const struct value_kind jobs_kind = {.unref = unref_jobs};

static struct value jobs_value(struct job_array *jobs)
{
    return (struct value){.kind = &jobs_kind, .data = jobs};
}

size_t bj_future_job_count(bj_future *future)
{
    const struct job_array *jobs = future_value_of(future, &jobs_kind);
    return jobs ? jobs->count : 0;
}

bj_job *bj_future_job_at(bj_future *future, size_t index)
{
    const struct job_array *jobs = future_value_of(future, &jobs_kind);
    return jobs && index < jobs->count ? bj_job_ref(jobs->jobs[index]) : NULL;
}

/* ------------------------------------------------------------------- job list */

static void free_job_list(void *data)
{
    job_list_free(data);
}

static const struct value_kind job_list_kind = {.unref = free_job_list};

static struct value job_list_value(struct job_list *list)
{
    return (struct value){.kind = &job_list_kind, .data = list};
}

size_t bj_future_info_count(bj_future *future)
{
    const struct job_list *list = future_value_of(future, &job_list_kind);
    return list ? list->count : 0;
}

const bj_job_info *bj_future_info(bj_future *future, size_t index)
{
    const struct job_list *list = future_value_of(future, &job_list_kind);
    return list && index < list->count ? &list->rows[index].info : NULL;
}
/* ---- core/src/api/attach.c ---- */

/*
 * Attaching to a job that is there already.
 */
/* ---- core/src/api/attach.h ---- */

/*
 * Attaching to a job that is there already: two functions of the tracker's port.
 */

/* ---- core/src/model/tracker.h ---- */

/*
 * What a monitor decides: which run of which job an event, a row of a job list or a reply is about.
 * Facts go in, effects come out by the port; each run has a job machine (machine.h), which is fed
 * here and nowhere else. No I/O, JSON, time, locks or memory of its own.
 *
 * QEMU carries out one command at a time, whoever sent it, and writes its reply before it takes the
 * next. What a job does by itself goes on meanwhile, and lists are made some time before they are
 * written. From that follow the rules:
 *
 *   - A reply that is read after a new run of the id was created is about the new run.
 *   - A start is an order, not a run: it gets the run that was created last when it is accepted.
 *     Where statuses are reported only "created" begins a run that may be a start's.
 *   - A row is from some moment between the question and its reply. It speaks of a run that had its
 *     id at both ends; a run that began in between is not in doubt. Absence from a list is proof
 *     for the same runs, unless the list was cut.
 *   - A row makes a run for those who attach only if no event of that id came since they asked;
 *     for those who observe all jobs, if no run of that id was known since the list was asked for.
 *
 *   - A run that is remembered from before the program was away begins as after a reconnect, and
 * its row, its absence or the graph decides whether it goes on (memory.h). Until that is known of
 *     all of them no other run is announced.
 *
 * A run is in `runs` until QEMU has let go of it and no order that names it is on its way: that is
 * what is walked when the connection ends. In `by_id` is the last run of each id, so that it is
 * noticed when another gets the id.
 */

/* ---- core/src/base/id_tree.h ---- */

/*
 * A search tree by text whose nodes lie in what they stand for: adding to it can't fail. A treap
 * whose ranks are hashes of the texts, so that its shape does not depend on who came first.
 */

struct id_node {
    const char *id;
    uint32_t rank;
    struct id_node *left, *right;
};

static struct id_node *id_tree_find(struct id_node *root, const char *id); /* NULL: none has it */
static void id_tree_add(struct id_node **root, struct id_node *node, const char *id); /* nobody has it */
static void id_tree_remove(struct id_node **root, struct id_node *node);              /* it is in there */

/* ---- core/src/model/machine.h ---- */

/*
 * The truth about one run of one block job: a state machine without sockets, JSON or time. It is
 * fed facts and answers with effects; all rules of the contract are here, and what can be written
 * as data is in tables.h.
 *
 *   what is known        valid when
 *   -------------        ----------
 *   status               QEMU reports it (3.0 and later: events; else rows); STATUS_NONE before
 *   ready                once true, true forever (B27, B28)
 *   stall                the job is stalled, and someone has to act (B13)
 *   end                  the first terminal event that came; nothing after it changes it (B18)
 *   outcome              the end and the accepted verbs, put together; latched once
 *   released             QEMU has let go of the run
 *
 * End and outcome differ: a COMPLETED event may come before the reply that shows whether our
 * complete or our cancel was accepted (B02), and then the outcome waits for that reply.
 *
 * No port function may call back into the machine. One thread at a time.
 */

/* ---- core/src/model/tables.h ---- */

/*
 * What the job machine knows by heart, as data: what each status means, when QEMU takes a verb, how
 * a run has ended, what a question gets from a job that is over, and who is told that it is
 * stalled. docs/machine.md shows these tables; they are printed from here.
 *
 * In a list of rules the first whose conditions all hold applies; the last one needs none.
 */

/* ---- core/src/model/words.h ---- */

/*
 * The words that all layers share: what a job's status is, which verbs there are, what a job list
 * says of a job and what QEMU answers to a verb.
 */

enum status {
    STATUS_NONE, /* not reported, or one we don't know (B49) */
    STATUS_CREATED,
    STATUS_RUNNING,
    STATUS_PAUSED,
    STATUS_READY,
    STATUS_STANDBY,
    STATUS_WAITING,
    STATUS_PENDING,
    STATUS_ABORTING,
    STATUS_CONCLUDED,
    STATUS_NULL
};
#define STATUS_COUNT (STATUS_NULL + 1)

static const char *job_status_name(enum status status);
static enum status job_status_of(const char *name);

/* The first four are sent once for all who want them; see struct sent in machine.h. */
enum verb {
    VERB_COMPLETE,
    VERB_CANCEL,
    VERB_FORCE,
    VERB_DISMISS,
    VERB_PAUSE,
    VERB_RESUME,
    VERB_SET_SPEED,
    VERB_CHANGE,
    VERB_FINALIZE
};
#define VERB_COUNT (VERB_FINALIZE + 1)

/* What QEMU, or libvirt, made of a verb. */
enum verdict {
    VERDICT_REFUSED,
    VERDICT_NO_SUCH_JOB, /* refused because it knows no such job */
    VERDICT_ENDING,      /* refused because another client is ending the job */
    VERDICT_ACCEPTED
};

/* QEMU's reply to a verb. */
struct verb_reply {
    bool for_all; /* to what the machine sent for all, not for one waiter */
    enum verdict verdict;
    int error; /* bj_error, unless it was accepted */
    const char *error_class;
    const char *text;
};

/* Why a connection takes no verb at all. */
struct denial {
    const char *error_class;
    const char *text; /* with the remedy */
};

/* What an event says of a job. */
enum fact_kind {
    FACT_STATUS,
    FACT_READY,
    FACT_COMPLETED,
    FACT_CANCELLED,
    FACT_STOPPED,
    FACT_PENDING,
    FACT_IO_ERROR /* that did not stop it: no machine is fed it, as it changes nothing (B12) */
};

struct fact {
    enum fact_kind kind;
    const char *id;
    const char *type;   /* "" if not reported */
    bool earlier;       /* of a run before the one whose start is under way */
    enum status status; /* FACT_STATUS */
    const char *error;  /* FACT_COMPLETED: NULL if none; FACT_STOPPED: the reason */
    bool writing;       /* FACT_IO_ERROR */
    int64_t timestamp_us;
};

/* What a job list says of a job. */
struct row {
    enum status status;
    bool ready;
    bool paused;
    bool hides_pause;       /* the list does not report whether it is paused */
    bool io_error;          /* io-status is not ok, and it is paused */
    bool no_space;          /* and that is why */
    const char *error;      /* of a concluded job; NULL if none */
    bool cancelled;         /* and that error is that it was cancelled (B21) */
    int64_t current, total; /* how far it is; -1 if not reported */
};

/* Whether the disk was switched to the mirror's target, or to the commit's base. */
enum disk_switch {
    SWITCH_UNKNOWN, /* nothing can show it: nobody uses the disk, or it can't be looked at */
    SWITCH_UNCLEAR, /* the disk had users, and what they use now shows neither */
    SWITCHED,
    NOT_SWITCHED,
    SWITCHES_NOTHING /* the job has nothing to switch to: an intermediate commit */
};

/* ----------------------------------------------------------------- statuses */

enum status_trait {
    AT_WORK = 1 << 0, /* from created to standby */
    MOVES = 1 << 1,   /* it is not paused, or no longer */
    STILL = 1 << 2,   /* it is paused, or drained for a moment */
    SHOWS_READY = 1 << 3 /* only a job that is ready has it */,
    DONE = 1 << 4,  /* its work is done; it waits for its transaction or for finalize */
    CLOSED = 1 << 5 /* nothing changes how it ends */
};

static bool status_has_any(enum status status, unsigned traits);

/* Whether QEMU takes a complete (of a job that is ready) or a cancel. */
enum taking { NOW, LATER, NEVER };
static enum taking verb_taking(enum verb verb, enum status status);

/* --------------------------------------------------------------- conditions */

/* What is known of a run besides its status. The machine keeps the marks; the rest follows from
 * other fields, or is what the graph has just shown. */
enum condition {
    IS_READY = 1 << 0,      /* it was ready once, which stays true (B27, B28) */
    IS_PENDING = 1 << 1,    /* it waits for finalize (B42) */
    WAS_DONE = 1 << 2,      /* it was waiting or pending */
    WAS_ABORTING = 1 << 3,  /* it was aborting */
    IS_RELEASED = 1 << 4,   /* QEMU has let go of it */
    END_ASSUMED = 1 << 5,   /* this QEMU has no event for such an end (B57) */
    IS_AWAY = 1 << 6,       /* the connection ended and is being made again: nothing is sent */
    HAS_GAP = 1 << 7,       /* events were missed, and no list has shown it at work since */
    HEARD_EVENT = 1 << 8,   /* an event came since: it is newer than the list we asked for */
    CHECKING_GONE = 1 << 9, /* a verb met "no such job", and a list is to decide */
    COMPARING = 1 << 10,    /* the block graph is being compared */
    IS_DOUBTED = 1 << 11,   /* a list is to show whether QEMU took complete before a cut */
    TIMER_RUNS = 1 << 12,
    FOUND_DONE = 1 << 13,     /* the first that was seen of it is that its work is done */
    ENDED_HERE = 1 << 14,     /* its end was heard on this connection */
    CHECKING_STALL = 1 << 15, /* a list is to show whether it still is stalled */

    NEVER_SWITCHES = 1 << 16,  /* neither a mirror nor ever ready: the disk stays as it is */
    COMPLETE_TAKEN = 1 << 17,  /* QEMU accepted our complete */
    ABORT_TAKEN = 1 << 18,     /* QEMU accepted our cancel, soft or force */
    ONLY_ABORT_SENT = 1 << 19, /* the same, and complete was never sent */
    REPLY_OUT = 1 << 20,       /* a complete or a cancel has no reply yet */
    NO_CANCEL_EVENT = 1 << 21, /* this QEMU reports no cancellation (RHEL 6) */
    IS_UNCLEAR = 1 << 22,      /* it completed, and whether the disk was switched is unknown */

    SAW_SWITCH = 1 << 24,    /* the block graph shows that the disk was switched */
    SAW_NO_SWITCH = 1 << 25, /* it shows that the disk was not */
    SAW_NO_TARGET = 1 << 26, /* it shows an intermediate commit */
    SAW_NEITHER = 1 << 27,   /* the disk had users, and what they use now shows neither */
    CANNOT_COMPARE = 1 << 28 /* nobody can look any more, or nobody used the disk */
};

/* --------------------------------------------------------------------- ends */

enum end { END_NONE, END_COMPLETED, END_CANCELLED, END_FAILED };

/* Which outcome the first terminal event leads to. */
struct outcome_rule {
    enum end end;
    unsigned when; /* conditions, all of which hold */
    enum { DECIDED, WAIT_FOR_REPLY, COMPARE_GRAPH } then;
    bj_outcome outcome; /* DECIDED */
    bool unknown;       /* whether the disk was switched is unknown; the text says why */
};
__extension__ static const struct outcome_rule outcome_rules[];
__extension__ static const size_t outcome_rule_count;
static const struct outcome_rule *outcome_rule(enum end end, unsigned conditions);

/* How a run that is gone without a terminal event has ended. */
enum vanishing {
    VANISHED_NULL,     /* its status became null */
    VANISHED_UNLISTED, /* a job list does not have it */
    VANISHED_AWAY      /* nor does the first list of a new connection */
};
struct vanishing_rule {
    enum vanishing how;
    unsigned when;
    enum end end;     /* END_NONE: LOST */
    const char *text; /* why it is LOST or FAILED */
};
__extension__ static const struct vanishing_rule vanishing_rules[];
__extension__ static const size_t vanishing_rule_count;
static const struct vanishing_rule *vanishing_rule(enum vanishing how, unsigned conditions);

/* ---------------------------------------------------------------- questions */

enum question {
    ASK_READY,
    ASK_DONE,
    ASK_RELEASED,
    ASK_PIVOT,
    ASK_ABORT,
    ASK_FINISH, /* pivot what becomes ready; the rest just ends */
    ASK_VERB    /* pause, resume, ..., dismiss: a request of its own each */
};
#define QUESTION_COUNT (ASK_VERB + 1)

/* What a question gets once the run has its outcome; BJ_E_JOB_LOST stands for why it was lost. */
static int answer_when_over(enum question question, bj_outcome outcome);

/* Of its flags, those that say when a question is answered if all goes well: as soon as QEMU has
 * accepted its verb, or only when QEMU has also let go of the job's nodes; 0: it has none. */
static int async_flag(enum question question);
static int released_flag(enum question question);

enum stall {
    STALL_NONE,
    STALL_PAUSED, /* by us, or by someone else */
    STALL_ERROR,  /* on-error=stop or enospc */
    STALL_PENDING /* no stall of the job: it waits for finalize, as IS_PENDING says */
};

/* Whether a question is answered STALLED. An abort is a soft one that does not escalate. */
enum when_stalled {
    NEVER_STALLED,
    STALLED,
    UNLESS_ENDING,      /* not if an accepted abort will end the job */
    UNLESS_ABORTED,     /* not if an abort that ends it was sent */
    IF_CANCELLED_BEFORE /* if the soft cancel was accepted before it was pending */
};
static enum when_stalled when_stalled(enum question question, enum stall stall);

/* -------------------------------------------------------------------- tests */

/* The explorer counts which rows are reached; the library is built without. */
#ifdef COUNT_ROWS
enum table { VERB_TABLE, OUTCOME_TABLE, VANISHING_TABLE, ANSWER_TABLE, STALL_TABLE, TABLE_COUNT };
#define ROWS_MAX 64
__extension__ static unsigned long rows_reached[TABLE_COUNT][ROWS_MAX];
#define REACHED(table, row) (rows_reached[table][row]++)
#else
#define REACHED(table, row) ((void)0)
#endif

/* Someone who waits. Belongs to the caller; in the machine's list from machine_ask() until it is
 * answered or machine_leave(). */
struct waiter {
    struct waiter *prev, *next;
    enum question question;
    int flags;              /* bj_pivot_flags, bj_abort_flags or bj_finish_flags */
    int64_t force_after_ms; /* soft abort: then its owner calls machine_escalate(); 0: never */
    bool held;              /* pivot: not to be sent before machine_unhold() */
    enum verb verb;         /* ASK_VERB */
    int64_t speed;          /* VERB_SET_SPEED */
    const char *options;    /* VERB_CHANGE: a JSON object, the caller's */
};

struct answer {
    int error;               /* bj_error */
    int cause;               /* BJ_E_JOB_LOST: what ended the connection, if that is why */
    const char *error_class; /* BJ_E_REFUSED: QEMU's; else NULL */
    const char *text; /* why, without the job's name; NULL: the error and the outcome say it all */
};

/* What every observer is to learn. */
enum report {
    REPORT_STATUS,
    REPORT_READY,
    REPORT_STALLED,
    REPORT_RESUMED,
    REPORT_ENDED,
    REPORT_RELEASED /* nothing more can come of this run */
};

/* Why a job has stopped that a list shows to have no space left for what it writes. */
__extension__ static const char machine_no_space_text[];

struct machine;

/* The effects: what the machine wants done. */
struct machine_port {
    /* Write the verb; `waiter` is its only asker, or NULL when it is for all. Then machine_reply().
     */
    void (*send)(struct machine *m, enum verb verb, struct waiter *waiter);
    /* Ask QEMU for the job list; then machine_row() or machine_absent(). */
    void (*list_jobs)(struct machine *m);
    /* Compare the block graph: was the disk switched? Then machine_compared() (B15). */
    void (*compare_graph)(struct machine *m);
    /* Then machine_tick(); ms 0 stops it. For what may pass by itself: a job that is still for an
     * unknown reason, or concluded and not dismissed; a complete that QEMU may have taken or not,
     * or has refused because another client ends the job. */
    void (*set_timer)(struct machine *m, int64_t ms);
    /* The waiter is out of the list before this is called. */
    void (*answer)(struct machine *m, struct waiter *waiter, const struct answer *answer);
    void (*report)(struct machine *m, enum report report, const char *text);
};

struct machine_traits {
    bool never_ready; /* stream, backup, ...: ready will never come (B09) */
    bool switches;    /* a mirror: COMPLETED alone does not say how it ended */
    bool is_commit;   /* it switches if it is of the active layer, as READY or the graph shows */
    bool has_graph;   /* this QEMU's graph shows which layer that is */
    bool ours;        /* started here with auto-dismiss off: dismissed by us (B40) */
    bool undecided;   /* our start that may be its has no reply yet; see machine_decide_owner() */
    bool kept;        /* somebody else's, with auto-dismiss off: it stays after its end */
    bool has_status;  /* this QEMU reports statuses by events */
    bool silent;     /* it has no event for a cancel: a job that is gone was cancelled (B57, B58) */
    bool no_repeats; /* a cancel that is sent twice does harm there (RHEL 6.3, B59) */
    bool replaces;   /* a complete that is sent twice ends QEMU (B32) */
    int64_t stall_ms;              /* how long a job is still before it counts as stalled */
    const char *no_such_job_class; /* of the error that says so */
    const struct denial *denial;   /* no verb is taken, and ready need not be waited for to say so;
                                      static; NULL: they are */
};

/* A verb that is sent once for all who want it (B32): the waiters say who does. */
enum sent_state {
    NOT_SENT,
    IN_FLIGHT,
    UNSURE, /* the connection ended before the reply: taken or not */
    ACCEPTED
};
/* After a refusal that may be due to another client, who is ending the job. */
enum delay {
    NO_DELAY,
    THEN_REFUSED, /* if it has not ended until then, that is the answer */
    THEN_SENT     /* it is sent again then */
};
struct sent {
    enum sent_state state;
    unsigned raw;    /* sent by the program itself as raw commands, not answered yet */
    unsigned times;  /* complete: how often a standstill excused a refusal; dismiss: was sent */
    bool stood;      /* complete: the job was still since it was sent (5.2 refuses it there) */
    bool was_unsure; /* complete: its reply was lost once */
    bool refused;    /* cancel: and not asked for again since */
    bool in_pending; /* cancel: the job was pending when it was sent */
    bool is_checked; /* it met "no such job": a list shows whether there is one */
    enum delay delay;
};
#define SHARED_VERBS (VERB_FORCE + 1) /* complete and the two cancels */

struct machine {
    const struct machine_port *port;
    struct machine_traits traits;

    unsigned marks; /* enum condition */
    enum status status;
    enum stall stall;
    enum end end;
    bj_outcome outcome;
    int lost_error; /* BJ_E_JOB_LOST or BJ_E_CLOSED once the outcome is LOST */
    int lost_cause; /* of a BJ_E_JOB_LOST: what ended the connection; BJ_OK: something else */
    struct text
        *text; /* why it FAILED, was LOST, or why a switch is unknown; also a stall's reason */

    struct sent sent[VERB_DISMISS + 1];
    struct text *refusal, *refusal_class; /* THEN_REFUSED: QEMU's words */
    struct {
        bool resuming; /* a resume was sent, and no stop came since */
        bool pausing;  /* a pause was sent, and nothing ended it since */
        bool stood;    /* the job was still since */
        int rows;      /* in a row, where no event reports a pause; < 0: rows that are not paused */
    } pause;

    struct waiter *waiters;
    size_t pivots, held_pivots, soft_aborts, force_aborts; /* of them; a finish is a pivot */
};

static void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits);
static void machine_clear(struct machine *m); /* nobody waits any more */

/* -------------------------------------------------------------------- state */

static inline const struct machine_traits *machine_traits(const struct machine *m)
{
    return &m->traits;
}

/* To complete what was known of the job when it began. */
static inline struct machine_traits *machine_learn(struct machine *m)
{
    return &m->traits;
}

static inline bool machine_is(const struct machine *m, enum condition mark)
{
    return (m->marks & mark) != 0;
}

/* BJ_OUTCOME_NONE until it is over. */
static inline bj_outcome machine_outcome(const struct machine *m)
{
    return m->outcome;
}

static inline bool machine_is_over(const struct machine *m)
{
    return m->outcome != BJ_OUTCOME_NONE;
}

/* Its terminal event came; the outcome may still depend on a reply or the block graph. */
static inline bool machine_has_end(const struct machine *m)
{
    return m->end != END_NONE;
}

/* A complete or an abort was accepted, or it is going the way of one. */
static inline bool machine_is_told_to_end(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].state == ACCEPTED || m->sent[VERB_CANCEL].state == ACCEPTED ||
           m->sent[VERB_FORCE].state == ACCEPTED || m->status == STATUS_ABORTING;
}

/* No status was seen yet. */
static inline bool machine_is_fresh(const struct machine *m)
{
    return m->status == STATUS_NONE;
}

static inline bool machine_is_stalled(const struct machine *m)
{
    return m->stall != STALL_NONE;
}

/* Why it failed, was lost or is stalled; NULL: no reason. The machine's. */
static inline struct text *machine_text(const struct machine *m)
{
    return m->text;
}

/* BJ_OK, BJ_E_JOB_FAILED, or why it was lost. */
static int machine_error(const struct machine *m);

/* What ended the connection, if it was lost by that; else BJ_OK. */
static int machine_cause(const struct machine *m);

static inline bool machine_is_awaited(const struct machine *m)
{
    return m->waiters != NULL;
}

static inline bool machine_awaits_pivot(const struct machine *m)
{
    return m->pivots > 0 && !machine_is_over(m);
}

/* Someone waits for what a job that is paused does not do. */
static inline bool machine_awaits_movement(const struct machine *m)
{
    return m->pivots + m->held_pivots + m->soft_aborts + m->force_aborts > 0;
}

/* A pivot would be sent at once, or is under way. Can change with every fact. */
static bool machine_can_pivot(const struct machine *m);

/* The block graph of now may one day show whether it switched the disk. */
static inline bool machine_may_switch(const struct machine *m)
{
    return !m->traits.never_ready && !machine_is_over(m) && !machine_has_end(m);
}

/* The graph of after its end shows whether it did, without a snapshot of before. */
static inline bool machine_needs_no_snapshot(const struct machine *m)
{
    return m->traits.is_commit && m->traits.has_graph;
}

/* It is over, and QEMU keeps it until we dismiss it. */
static inline bool machine_owes_dismissal(const struct machine *m)
{
    return m->traits.ours && machine_is_over(m) && !machine_is(m, IS_RELEASED) &&
           m->outcome != BJ_OUTCOME_LOST;
}

/* Differs where machine_memory() does: that is asked for with each event, and this is cheap. */
static inline unsigned machine_memory_key(const struct machine *m)
{
    const struct sent *sent = m->sent;
    unsigned raw =
        sent[VERB_COMPLETE].raw << 18 | sent[VERB_CANCEL].raw << 22 | sent[VERB_FORCE].raw << 26;
    unsigned states = sent[VERB_COMPLETE].state << 12 | sent[VERB_CANCEL].state << 14 |
                      sent[VERB_FORCE].state << 16;

    return (m->marks & (IS_READY | WAS_DONE | WAS_ABORTING)) | (unsigned)m->traits.ours << 8 |
           (unsigned)sent[VERB_COMPLETE].was_unsure << 9 | states | raw;
}

/* ------------------------------------------------------------------ callers */

/* Callers come and go. machine_ask() may answer at once (B04). */
static void machine_ask(struct machine *m, struct waiter *waiter);
static void machine_leave(struct machine *m, struct waiter *waiter);
static void machine_escalate(struct machine *m, struct waiter *waiter); /* a soft abort becomes force */
static void machine_unhold(struct machine *m, struct waiter *waiter);   /* a held pivot is wanted now */

/* -------------------------------------------------------------------- facts */

/* Every text is copied. */
static void machine_status_event(struct machine *m, enum status status);
static void machine_ready_event(struct machine *m);
static void machine_completed_event(struct machine *m, const char *error); /* NULL: no error */
static void machine_cancelled_event(struct machine *m);
static void machine_stopped_event(struct machine *m,
                           const char *reason); /* BLOCK_JOB_ERROR, action stop (B12) */
static void machine_pending_event(struct machine *m);  /* waits for finalize */

/* The reply to a verb. `waiter` as it was in send(): NULL if that was for all, or if it has left.
 */
static void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply);

/* A verb that the program has sent by itself, as a raw command: on its way, answered. */
static void machine_raw_sent(struct machine *m, enum verb verb);
static void machine_raw_reply(struct machine *m, enum verb verb, bool accepted);

/* What a job list says. Never overrules an event (B28). */
static void machine_row(struct machine *m, const struct row *row);
static void machine_absent(struct machine *m);
static void machine_list_failed(struct machine *m); /* it was not to be had */

static void machine_compared(struct machine *m, enum disk_switch result);

static void machine_tick(struct machine *m);

/* The connection has ended and is being made again; then one of the other two: QEMU lists the job,
 * or does not (B45, B46). */
static void machine_disconnected(struct machine *m);
static void machine_reconnected_listed(struct machine *m, const struct row *row);
static void machine_reconnected_absent(struct machine *m);

/* What is to be remembered of it (enum memory_fact, without MEMORY_UNIQUE). */
static unsigned machine_memory(const struct machine *m);
/* It begins with what is remembered of it, as after machine_disconnected(); then as there, or it
 * ended unseen. */
struct memory;
static void machine_recall(struct machine *m, const struct memory *memory);
static void machine_pivoted_unseen(struct machine *m);
static void machine_cancelled_unseen(struct machine *m);
/* It turns out to be the run of that memory. */
static void machine_adopt(struct machine *m, const struct memory *memory);

/* Until it is known whose it is, it is neither dismissed nor let go of before QEMU does. */
static void machine_decide_owner(struct machine *m, bool ours);

/* Another run has its id: QEMU let go of it, and what has no reply yet has not reached it. */
static void machine_superseded(struct machine *m);

/* No verb can be sent: those who wait for one are answered. */
static void machine_drop_verbs(struct machine *m);

/* Everyone is answered, although it goes on: all that is left to do is to dismiss it. */
static void machine_abandon(struct machine *m, int error, const char *reason);

/* No more facts will come: it was closed (BJ_E_CLOSED), it vanished (BJ_E_JOB_LOST), or the
 * connection is over, by any other error. */
static void machine_lost(struct machine *m, int why, const char *reason);

/* ---- core/src/model/memory.h ---- */

/*
 * What became of a run while the program was away: what is remembered of it, held against what QEMU
 * shows now. Pure.
 *
 * Ids are used again, and so are sockets. So a run goes on only where nothing speaks against it,
 * and has only the outcome that something proves; else it is LOST.
 */

/* ------------------------------------------------------------------ identity */

/* A QEMU or a domain, by what stays the same for as long as it lives. "" is what is not known. */
struct identity {
    const char *boot;    /* of the host that `process` is of */
    const char *process; /* and when it began */
    const char *version; /* of QEMU */
    const char *socket;  /* when that was made, "@", and where it is */
};

enum same_peer { PEER_SAME, PEER_OTHER, PEER_REBOOTED, PEER_UNKNOWN };
static enum same_peer identity_compare(const struct identity *then, const struct identity *now);

/* --------------------------------------------------------------------- memory */

/* What is remembered of a machine. The values are in memos that programs keep: they never change.
 */
enum memory_fact {
    MEMORY_READY = 1 << 0,
    MEMORY_DONE = 1 << 1,     /* it was waiting or pending */
    MEMORY_ABORTING = 1 << 2, /* it was aborting */
    MEMORY_COMPLETE_SENT = 1 << 3,
    MEMORY_CANCEL_SENT = 1 << 4,
    MEMORY_FORCE_SENT = 1 << 5,
    MEMORY_COMPLETE_TAKEN = 1 << 6, /* QEMU accepted it */
    MEMORY_CANCEL_TAKEN = 1 << 7,
    MEMORY_FORCE_TAKEN = 1 << 8,
    MEMORY_OURS = 1 << 9,    /* it is to be dismissed by us */
    MEMORY_UNIQUE = 1 << 10, /* its id was made up: no other job has it */
    MEMORY_ALL = (1 << 11) - 1
};

/* A run that is followed already, and has the id. */
enum known_run {
    KNOWN_NONE,
    KNOWN_SINCE_LATER,  /* its beginning was seen, after the last of this was */
    KNOWN_SINCE_EARLIER /* it had the id when the last of this was seen */
};

struct memory {
    unsigned facts;
    const char *type;       /* "" if it was not known */
    int64_t current, total; /* -1 if unknown */
    enum same_peer peer;
    enum known_run known;
};

/* Whatever has its id where it was followed is that run, not one that was given the id later: what
 * is remembered of verbs holds. */
static inline bool memory_is_certain(const struct memory *memory)
{
    return (memory->facts & MEMORY_UNIQUE) ||
           ((memory->facts & MEMORY_OURS) && memory->peer == PEER_SAME);
}

/* ---------------------------------------------------------------------- rules */

enum memory_condition {
    IS_REBOOTED = 1 << 0,       /* the host was booted since */
    IS_OTHER_PEER = 1 << 1,     /* it is another QEMU */
    IS_UNKNOWN_PEER = 1 << 2,   /* it may be another one */
    IS_LISTED = 1 << 3,         /* there is a job of its id; the next six are of that */
    IS_OTHER_TYPE = 1 << 4,     /* of another type */
    IS_OTHER_SIZE = 1 << 5,     /* its total is one that this run can't have */
    HAS_DONE_LESS = 1 << 6,     /* its current is less than it was */
    IS_UNREADY = 1 << 7,        /* it is at work and not ready, and this run was */
    IS_EARLIER = 1 << 8,        /* it is at work, and this run had done its work */
    FITS = 1 << 9,              /* type, total and current are known, and fit */
    HAS_UNIQUE_ID = 1 << 10,    /* an id that no other job has */
    MAY_SWITCH = 1 << 11,       /* the graph may show what became of it */
    WAS_LOOKED_AT = 1 << 12,    /* the graph was compared */
    HAS_SWITCHED = 1 << 13,     /* and shows that the disk was switched */
    HAS_NOT_SWITCHED = 1 << 14, /* or that it was not */
    WAS_CANCELLED = 1 << 15,    /* it was aborting, and QEMU had accepted our cancel */
    BEGAN_LATER = 1 << 16,      /* the job of its id began later, as was seen */
    BEGAN_BEFORE = 1 << 17      /* it had that id already when this run had it */
};

enum memory_verdict {
    RUN_GOES_ON, /* the job that is listed is this run */
    RUN_FITS,    /* the same, as far as can be told */
    RUN_IS_LOST, /* and what is listed is another */
    RUN_PIVOTED, /* by the graph */
    RUN_CANCELLED,
    COMPARE_NOW /* the graph is to be compared first */
};

/* The first whose conditions all hold applies. */
struct memory_rule {
    unsigned when;
    enum memory_verdict verdict;
    const char *text; /* RUN_IS_LOST: why */
};
__extension__ static const struct memory_rule memory_rules[];
__extension__ static const size_t memory_rule_count;
static const struct memory_rule *memory_rule(unsigned conditions);

/* A job of its id is listed. `type` is "" if the list does not tell. */
static const struct memory_rule *memory_judge_row(const struct memory *memory, const char *type,
                                           const struct row *row);
/* There is none. */
static const struct memory_rule *memory_judge_absence(const struct memory *memory, bool may_switch);
static const struct memory_rule *memory_judge_graph(const struct memory *memory, enum disk_switch seen);

enum link {
    LINK_DOWN, /* no connection: not yet, or it is being made again */
    LINK_UP,
    LINK_CLOSING, /* everyone has been answered; what is owed to QEMU is still sent */
    LINK_OVER
};

enum snapshot {
    SNAPSHOT_NONE,
    SNAPSHOT_WANTED, /* to be taken when there is a connection */
    SNAPSHOT_ASKED,
    SNAPSHOT_HELD,
    SNAPSHOT_VOID /* the graph does not show the job */
};

/* To those who observe all jobs. */
enum announcement {
    UNANNOUNCED,
    ANNOUNCED,
    UNOBSERVED /* it was over and gone before anybody observed */
};

struct tracker;
struct attachment;

/* One run of one job. Lies in its owner's memory: see port->hold and port->drop. */
struct run {
    struct machine machine; /* first */
    struct tracker *tracker;
    struct id_node node;     /* in by_id, if it is in_tree */
    struct run *next, *prev; /* in runs, if it is tracked */
    struct run *next_dirty;  /* in dirty, if it is_dirty */
    bool tracked, is_dirty;
    bool in_tree;       /* it was the last to have its id */
    bool has_id;        /* and has it still */
    bool is_superseded; /* another run was given its id */
    bool is_mute;       /* a verb of its was not sent, as there is no connection */
    bool has_type;      /* QEMU or the start has told its type */
    bool wants_row;     /* the next list is to tell */
    bool row_asked;     /* the list on its way is to tell */
    enum announcement announcement;
    enum snapshot snapshot;
    bool compares;                  /* the machine waits for the comparison of the graph */
    bool is_comparing;              /* which is on its way */
    unsigned in_flight;             /* orders that name it */
    struct attachment *attachments; /* that wait for its snapshot (C21) */

    bool is_listed;              /* it was found in a list: nobody has seen its beginning */
    bool is_unique;              /* nobody else has such an id */
    bool is_recalled;            /* it was remembered */
    bool is_resumed;             /* and goes on */
    bool is_inferred;            /* which no event proves, or how it ended */
    const struct memory *memory; /* until it is known what became of it; its owner's */
    unsigned remembered;         /* machine_memory_key() when port->remember was called last */
};

/* A command that starts a job, on its way. The caller's, as are its id and the spare. */
struct start {
    struct start *next, *prev;
    const char *id;
    const char *type;  /* "" if not known */
    bool ours;         /* it is dismissed by us once it is over (B40) */
    bool is_unique;    /* nobody else has such an id */
    bool comes_later;  /* the one before with its id had its run when it was sent */
    struct run *spare; /* for the run it will get: what is accepted must not lack memory */
    struct run *run;   /* the one created last with its id since; NULL: none */
};

/* A verb that the program sends as a raw command, on its way. */
struct raw {
    struct raw *next, *prev;
    const char *id;
    enum verb verb;
    struct run *run; /* who has the id, as far as is known */
};

/* Someone who attaches. */
struct attachment {
    struct attachment *next, *prev;
    const char *id;
    struct run *run; /* who has had the id since it asked; NULL: nobody, as far as is known */
    bool was_ended;  /* the id had a run that was not known, and it has ended */
    bool is_listed;  /* QEMU has it; without a run: it could not be followed */
    bool was_named;  /* port->name was asked */
    bool is_asked;   /* the list on its way is to tell; else the next */
    bool has_row;    /* the list has told: it waits for the run's snapshot */
};

enum order_reply {
    ORDER_ACCEPTED,
    ORDER_REFUSED, /* or never sent */
    ORDER_LOST     /* the connection ended first */
};

enum list_end {
    LIST_WHOLE,
    LIST_CUT,    /* rows are missing */
    LIST_FAILED, /* QEMU did not give it */
    LIST_LOST    /* the connection ended first */
};

/* None may call back into the tracker. */
struct tracker_port {
    /* A run that QEMU speaks of; run_init() was called. One reference, the tracker's. NULL: no
     * memory. */
    struct run *(*new_run)(struct tracker *t, const char *id, const char *type);
    void (*hold)(struct run *run); /* the tracker wants a reference */
    void (*drop)(struct run *run); /* and gives it back */
    void (*over)(struct run *run); /* it is tracked no more: its timers can go */
    void (*ignored)(struct tracker *t, const char *id); /* more jobs than the limit */

    /* What is known of the run besides, before its machine is fed. */
    void (*heard)(struct run *run, const struct fact *fact);
    void (*saw)(struct run *run, const struct row *row);
    void (*own)(struct run *run, struct start *start); /* it is the start's */

    void (*send)(struct run *run, enum verb verb, struct waiter *waiter); /* tracker_replied() */
    void (*ask_list)(struct tracker *t); /* tracker_row() for each, then tracker_list_over() */
    void (*take_snapshot)(struct run *run, bool urgent); /* tracker_snapshot() */
    void (*compare)(struct run *run);                    /* tracker_compared() */
    void (*set_timer)(struct run *run, int64_t ms);      /* run_tick() */
    void (*answer)(struct run *run, struct waiter *waiter, const struct answer *answer);
    void (*report)(struct run *run, enum report report, const char *text);
    /* To those who observe all jobs: it is known what it is and whose. Once a run, before any of
     * its reports that they are to have. */
    void (*announce)(struct run *run);

    /* What is to be remembered of it (enum memory_fact) is other than before. */
    void (*remember)(struct run *run, unsigned facts);

    /* It is out of the tracker's list; with its run, or with why there is none. */
    void (*attached)(struct tracker *t, struct attachment *attachment, int error);
    /* Gives it the id that QEMU knows the job by, if that is another: true. */
    bool (*name)(struct tracker *t, struct attachment *attachment);

    void (*is_back)(struct tracker *t);    /* the runs' rows were fetched after a reconnect */
    void (*is_settled)(struct tracker *t); /* LINK_CLOSING: no run is left */
};

struct tracker {
    const struct tracker_port *port;
    enum link link;
    bool reports_created; /* this QEMU reports statuses */
    bool is_returning;    /* connected again, and the runs' rows are not there yet */
    size_t limit, count;  /* of runs that have their id, and of starts that have no run yet */
    struct run *runs, *last_run;
    struct id_node *by_id;
    struct run *dirty; /* whose after-work is to be done */
    struct start *starts;
    struct raw *raws;
    struct attachment *attachments;
    bool list_wanted, list_is_out;

    bool is_observed;  /* somebody observes all jobs */
    bool seeks_all;    /* the next list is to tell of jobs that are not known */
    bool all_asked;    /* so is the list on its way */
    bool all_in_doubt; /* but since then one has begun that could not be followed */
    size_t recalled;   /* runs of which it is not known yet what became of them */
};

static void tracker_init(struct tracker *t, const struct tracker_port *port, size_t limit);
static void run_init(struct run *run, struct tracker *t, const char *id,
              const struct machine_traits *traits);

/* ------------------------------------------------------------- what is known */

static struct run *tracker_find(const struct tracker *t, const char *id); /* NULL: nobody has the id */

/* Somebody asks for the row of this id, or follows its job. */
static bool tracker_wants_row(const struct tracker *t, const char *id);

/* It has its id, and so has a row in QEMU's list. */
static inline bool run_has_id(const struct run *run)
{
    return run->has_id;
}

/* ------------------------------------------------------------------- callers */

/* See machine_ask() and the others in machine.h. */
static void run_ask(struct run *run, struct waiter *waiter);
static void run_leave(struct run *run, struct waiter *waiter);
static void run_escalate(struct run *run, struct waiter *waiter);
static void run_unhold(struct run *run, struct waiter *waiter);
static void run_tick(struct run *run);
static void run_want_row(struct run *run); /* its next row, for its machine */

/* BJ_OK: it may be sent, and tracker_started() follows. BJ_E_BUSY: more jobs than the limit. */
static int tracker_start(struct tracker *t, struct start *start);
/* It was accepted: `run` is set, with a reference. */
static void tracker_started(struct tracker *t, struct start *start, enum order_reply reply);

/* It was sent; then tracker_raw_replied(). */
static void tracker_raw(struct tracker *t, struct raw *raw);
static void tracker_raw_replied(struct tracker *t, struct raw *raw, enum order_reply reply);

/* Then port->attached(), maybe at once; or tracker_unattach(). */
static void tracker_attach(struct tracker *t, struct attachment *attachment);
static void tracker_unattach(struct tracker *t, struct attachment *attachment);

/* From now on every run is announced, also those that QEMU has already; or no more. */
static void tracker_observe(struct tracker *t, bool observe);
/* A new run may have begun, and no event says so. */
static void tracker_seek(struct tracker *t);

/* ------------------------------------------------------------- what is remembered */

/* `run` was made by the caller, as port->new_run() does it, of what is remembered; the tracker
 * takes the reference over. While there is a connection; then tracker_observe() or tracker_seek().
 */
static bool tracker_can_recall(const struct tracker *t); /* else there are more jobs than the limit */
static void tracker_recall(struct tracker *t, struct run *run, const struct memory *memory);
/* It is known already that it does not go on. */
static void tracker_recall_lost(struct run *run, const struct memory *memory, const char *why);
/* The run that has the id, which is as `now` says, is the one that is remembered: true. */
static bool tracker_recall_found(struct run *run, const struct memory *memory, const char *type,
                          const struct row *now);

/* --------------------------------------------------------------------- facts */

static void tracker_fact(struct tracker *t, const struct fact *fact);

/* NULL: the connection ended first. `waiter`: as it was sent, or NULL if it has left. */
static void tracker_replied(struct run *run, enum verb verb, struct waiter *waiter,
                     const struct verb_reply *reply);
/* A verb whose waiter has left was taken back before it was written. */
static void tracker_taken_back(struct run *run);

static void tracker_row(struct tracker *t, const char *id, const char *type, const struct row *row);
static void tracker_list_over(struct tracker *t, enum list_end end);
/* A list that was asked for when the run had its id, and still has, lacks it. */
static void run_absent(struct run *run);

/* SNAPSHOT_HELD, SNAPSHOT_VOID, or SNAPSHOT_WANTED: the connection ended first. */
static void tracker_snapshot(struct run *run, enum snapshot result);
/* `lost`: the connection ended first. */
static void tracker_compared(struct run *run, enum disk_switch result, bool lost);

/* -------------------------------------------------------------- the connection */

enum comeback { FIRST_TIME, SAME_QEMU, OTHER_QEMU };
static void tracker_up(struct tracker *t, bool reports_created, enum comeback comeback);
/* The replies that were out have been given as lost. It is being made again. */
static void tracker_away(struct tracker *t);
/* While it is: what was at its other end is no more, and its jobs are not either; `text` says why.
 */
static void tracker_peer_is_gone(struct tracker *t, const char *text);
/* Everyone is answered; nothing but due dismissals is sent, until is_settled() or tracker_over().
 * `text` says why, for BJ_E_CLOSED. */
static void tracker_close(struct tracker *t, const char *text);
static void tracker_over(struct tracker *t, int error, const char *text);
/* What must be sent before the connection can be closed. */
static bool tracker_owes_dismissals(const struct tracker *t);

static void attach_answered(struct tracker *tracker, struct attachment *attachment, int error);
static bool attach_name(struct tracker *tracker, struct attachment *attachment); /* name */

/* ---- core/src/api/job.h ---- */

/*
 * A bj_job: one run, wired to a monitor. What any thread may ask of it is published
 * under the context's lock; all else is the loop's.
 */

/* ---- core/src/delivery/watch.h ---- */

/*
 * Watches: one observer's bounded stream of records.
 */

struct watch_entry {
    struct watch_entry *next;
    bj_record record;
    struct record_refs refs;
    bool reserved; /* it lies in the watch, so that it needs no memory when its time comes */
};

/* First in, first out. */
struct watch_line {
    struct watch_entry *first;
    struct watch_entry **last;
    size_t count;
    size_t bytes; /* of the entries' strings */
};

/* For READY and ENDED, each of which comes once to the watch of one job. */
enum { WATCH_ONCE = 2 };

struct bj_watch {
    atomic_uint refs;
    atomic_uint handles;
    bj_ctx *ctx;

    /* Under the context's lock. Records are read in the order of their sequence, which the two
     * lines share; those that are missing from it were lost. */
    struct watch_line ring; /* the oldest of them are dropped */
    struct watch_line kept; /* READY, the latest STALLED, ENDED, CLOSED */
    size_t limit;           /* of the ring */
    size_t byte_limit;
    size_t kept_limit;           /* of many jobs; 0: none is dropped */
    uint64_t pushed, read;       /* the last sequence of each */
    uint64_t lost_ends;          /* that no LAGGED has reported yet */
    struct watch_entry *stalled; /* the latest, until it is read */
    bool stalled_is_kept;        /* it is too old for the ring */
    struct watch_entry *once;    /* WATCH_ONCE of its owner's, for the watch of one job; or NULL */
    struct watch_entry closed;
    bool closing; /* bj_watch_close() was here */
    bool ended;   /* CLOSED was pushed: nothing comes after it */
    bool drained; /* CLOSED was read */
    enum { WATCH_UNREAD, WATCH_CALLBACK, WATCH_QUEUE, WATCH_PULL } reader;
    bj_watch_closure closure;
    bool posted; /* `task` is on its way, to call the closure or to wake who sleeps */
    struct queue_source source;
    pthread_cond_t wake;        /* bj_watch_next() */
    struct watch_entry *pulled; /* what it gave out last */
    bj_record pulled_record;

    struct loop_task task;

    /* The loop's own: the list that it is in, a job's or a monitor's. */
    const struct watch_ops *ops;
    struct bj_watch *next;
    bool listed; /* the list has a reference */
    void *owner; /* a reference, which ops->disown() gives back */
    struct loop_task begin;
    struct loop_task leave;
};

struct watch_ops {
    void (*begin)(
        bj_watch *watch); /* the loop's thread: enter the list, tell what is true already */
    void (*leave)(bj_watch *watch); /* the loop's thread: out of the list */
    void (*disown)(void *owner);    /* any thread; takes no lock */
    void (*clear)(bj_watch *watch); /* the same: frees what it has besides; NULL: nothing */
};

/* `size` bytes that begin with a bj_watch, zeroed, until they go to watch_launch(). `owner` is a
 * reference, taken over also on failure. NULL: no memory. One handle, the caller's. */
static bj_watch *watch_new(bj_ctx *ctx, size_t size, const struct watch_ops *ops, void *owner);

/* Begins; returns it. */
static bj_watch *watch_launch(bj_watch *watch);

/* The loop's thread: into a list, out of it. */
static void watch_link(bj_watch *watch, bj_watch **list);
static void watch_unlink(bj_watch *watch, bj_watch **list);
static bj_watch *watch_ref_memory(bj_watch *watch);
static void watch_unref_memory(bj_watch *watch);

/* Any thread. Copies the record, and takes references to what its pointers are to point to.
 * Never fails: what can't be kept is counted as lost. */
static void watch_push(bj_watch *watch, const bj_record *record, const struct record_refs *refs);

/* A record that could not even be made. */
static void watch_miss(bj_watch *watch);

/* The last record; takes over the reference to `text`. */
static void watch_end(bj_watch *watch, int error, struct text *text);

/* Under the context's lock: takes out one record. False if there is none. What *record points to
 * belongs to *ret_entry, which watch_entry_free() gives back, without the lock (NULL for LAGGED).
 */
static bool watch_take(bj_watch *watch, bj_record *record, struct watch_entry **ret_entry);
static void watch_entry_free(struct watch_entry *entry);

/* ---- core/src/driver/driver.h ---- */

/*
 * The seam between a monitor and what it speaks: verbs go down, facts come up. A driver lives on
 * the loop's thread and never blocks it.
 */

/* ---- core/src/driver/capabilities.h ---- */

/*
 * What the QEMU at hand can do and reports, as far as a caller of its driver has to know.
 */

struct capabilities {
    bool has_status;      /* statuses come as events (QEMU 3.0) */
    bool has_graph;       /* the block graph can be queried (QEMU 4.0) */
    bool has_dismiss;     /* jobs can be started so that they wait for it */
    bool has_ready_event; /* QEMU 1.3; not RHEL 6 */
    bool hides_pauses;    /* no event reports a pause (before 3.0) */
    bool has_bare_rows;   /* a list does not show whether a job is paused (libvirt) */
    bool is_silent;       /* there may be no event for a cancel (RHEL 6.2) */
    bool no_repeats;      /* a cancel must not be repeated (RHEL 6.3) */

    bool passes_descriptors;   /* a command can take descriptors along: a UNIX socket */
    bool offers_out_of_band;   /* commands can be executed out of band, if that is asked for */
    bool executes_out_of_band; /* and it was */

    /* The class of the errors that refuse a verb because there is no such job; never NULL. */
    const char *no_such_job_class;
    /* Where there is no complete for a run: what to do instead, a sentence; NULL: nothing. */
    const char *complete_hint;
    const struct denial *denial; /* this connection takes no verb; static; NULL: it does */
};

/* What a command that starts a job takes on this QEMU. */
enum driver_takes { TAKES_JOB_ID = 1, TAKES_AUTO_DISMISS = 2 };

/* ---- core/src/driver/start_plan.h ---- */

/*
 * How a run is started on the QEMU at hand: by which command, under which id, with what added to
 * the caller's arguments.
 */

/* The usual jobs are started by these names with every driver. */
#define START_MIRROR "blockdev-mirror"
#define START_COMMIT "block-commit"
#define START_STREAM "block-stream"
#define START_BACKUP "blockdev-backup"

struct start_plan {
    const char *command; /* or the name that this QEMU has for it */
    char *id;            /* "" if nothing says it */
    char *members;       /* for json_text_add_members(), before the caller's own; may be "" */
    char *device;        /* what it runs on; NULL: not known */
    char *disks; /* the domain's disks that it works on, a newline after each; NULL: the same */
    const char *type;      /* "" if QEMU will have to report it */
    bool ours;             /* dismissed by us once it is over (B40) */
    bool has_own_id;       /* the id was made up for it */
    bool kept;             /* the caller will dismiss it */
    bool replaces;         /* a second complete might end QEMU (B32) */
    struct text *run_data; /* the driver's own, for the verbs of this run; NULL: nothing */
};

static inline void start_plan_clear(struct start_plan *plan)
{
    free(plan->id);
    free(plan->members);
    free(plan->device);
    free(plan->disks);
    text_unref(plan->run_data);
}

struct descriptors;
struct job_list;
struct wire_tap;
struct json_t;
struct driver_legacy;
struct driver_snapshot; /* what used a job's disk when it was taken; the driver's */

/* Text in it is only valid during the call. */
struct driver_reply {
    int error; /* BJ_OK, or why not */
    /* The connection ended before the reply. That is no news of what was asked, nor of a job: they
     * hear of that end itself. */
    bool is_lost;
    enum verdict refusal;    /* a verb that was refused: VERDICT_REFUSED, or more precisely */
    const char *error_class; /* BJ_E_REFUSED */
    const char *text;
    const char *json; /* execute: the value, not terminated */
    size_t json_len;
    void *message;                    /* the whole, for the driver itself */
    struct job_list *list;            /* query; whoever keeps it sets this to NULL */
    struct driver_snapshot *snapshot; /* take_snapshot; the same; NULL: it does not show the job */
    enum disk_switch switched;        /* compare_snapshot */
};

/* A request to the driver; lies in the asker's memory. `done` is called exactly once for what
 * was taken, also when the connection ends; never from inside the call that asked. */
struct driver_request {
    void (*done)(struct driver_request *request, struct driver_reply *reply);
    struct driver_request *next; /* the driver's own */
    void *prepared;              /* the same; NULL: nothing */
};

/* As many descriptors as QEMU receives with one message. */
#define DRIVER_DESCRIPTORS_MAX 16

/* A command as the program gives it. What it asks for beyond its name and arguments needs a driver
 * whose capabilities have it. */
struct driver_command {
    const char *name;
    const char *arguments;           /* a JSON object; NULL: none */
    struct descriptors *descriptors; /* BJ_OK: the driver has taken them over; NULL: none */
    bool out_of_band;
};

/* A verb, and what the driver may need to know of the run it is for. */
struct driver_verb {
    enum verb verb;
    const char *id;
    const char *type;      /* "" if not known */
    struct text *run_data; /* start_plan's; NULL: none */
    int64_t speed;         /* VERB_SET_SPEED */
    const char *options;   /* VERB_CHANGE: a JSON object */
};

/* A run that was cancelled and of whose end this QEMU reports nothing. */
struct driver_end {
    struct text *id;
    const char *type;
    int64_t current, total, speed; /* of its last row */
};

/* Before `up` none of these but close and stage may be called. All that return int answer BJ_OK, or
 * why nothing was asked: BJ_E_BUSY, BJ_E_NOMEM, BJ_E_UNSUPPORTED, BJ_E_DISCONNECTED. */
struct driver;
struct driver_ops {
    int (*execute)(struct driver *driver, struct driver_request *request,
                   const struct driver_command *command);
    /* The command that starts the runs of `actions`, a JSON array as QEMU's transaction takes it,
     * all or none; `grouped`: they also end so. NULL: there is none. */
    int (*transaction)(struct driver *driver, struct driver_request *request, const char *actions,
                       bool grouped);
    int (*verb)(struct driver *driver, struct driver_request *request,
                const struct driver_verb *verb);
    /* Makes complete ready to be sent, so that READY has to wait for nothing. No memory: then it is
     * made when it is sent. Given back by verb() or unprepare(), which also outlives the driver. */
    void (*prepare)(struct driver *driver, struct driver_request *request, const char *id);
    void (*unprepare)(struct driver_request *request);
    /* `urgent`: for a machine, which needs it to tell an end; goes first and is never BJ_E_BUSY. */
    int (*query)(struct driver *driver, struct driver_request *request, bool urgent);
    /* Records what uses the job's disk; later, whether the disk was switched since. `device` is
     * what the job was started on, NULL if that is not known. BJ_E_UNSUPPORTED: there is no way to
     * know. `urgent`: someone waits for it; else it may yield to all other requests. `before` is
     * NULL if no snapshot was taken. */
    int (*take_snapshot)(struct driver *driver, struct driver_request *request, const char *id,
                         const char *device, bool urgent);
    int (*compare_snapshot)(struct driver *driver, struct driver_request *request, const char *id,
                            const struct driver_snapshot *before);
    void (*free_snapshot)(struct driver_snapshot *snapshot); /* takes NULL */
    /* Any thread: a reference, which free_snapshot() gives back; takes NULL. */
    struct driver_snapshot *(*hold_snapshot)(struct driver_snapshot *snapshot);
    /* Any thread: a snapshot as JSON, and back; NULL: no memory, or it is none. */
    struct json_t *(*write_snapshot)(const struct driver_snapshot *snapshot);
    struct driver_snapshot *(*read_snapshot)(const struct json_t *json);

    /* Takes back a request that was not written yet: true, and `done` is not called. */
    bool (*withdraw)(struct driver *driver, struct driver_request *request);
    bool (*has_command)(struct driver *driver, const char *command);
    /* Someone wants events, before whatever is asked for from now on. NULL: they come anyway. */
    void (*listen)(struct driver *driver);

    /* Whether the command is a job's verb; *ret_id is malloc'ed. NULL: none is. */
    bool (*is_verb)(struct driver *driver, const char *command, const char *arguments,
                    enum verb *ret_verb, char **ret_id);

    /* `arguments` is what the caller gives; where takes() is -1, after a probe. BJ_OK; then
     * start_plan_clear(). BJ_E_NOMEM: nothing to clear. */
    int (*plan_start)(struct driver *driver, const char *command, const struct json_t *arguments,
                      struct start_plan *ret);
    /* Makes up the event of such an end for those who watch events. QEMU's own, should it come
     * after all, is then neither a fact nor an event. NULL: this driver has no such ends. */
    void (*make_up_end)(struct driver *driver, const struct driver_end *end);
    /* The id of the job that callers know by this name; NULL: that name. Belongs to the driver,
     * until its next call. */
    const char *(*id_of)(struct driver *driver, const char *name);

    /* Finds out what the commands that start jobs take: once a connection, and only where the list
     * of commands does not tell. An error of the reply is one of the connection. */
    int (*probe)(struct driver *driver, struct driver_request *request);
    /* enum driver_takes; -1: not known before a probe. */
    int (*takes)(struct driver *driver, const char *command);

    /* What the driver of an earlier connection has left, before anything is asked of this one:
     * whether both speak to the same peer. Takes it over; NULL: there was none. NULL: only `peer`
     * tells. */
    bool (*inherit)(struct driver *driver, struct driver_legacy *legacy);

    /* Answers all requests but dismissals with `error`; none comes after. What was not written yet
     * is not sent any more. For a monitor that lingers. */
    void (*abandon)(struct driver *driver, int error, const char *text);
    /* Whether a command is on its way to QEMU, or its reply to us; then settled() comes. NULL: that
     * is no reason to linger. */
    bool (*is_owed)(struct driver *driver);

    /* Why connecting takes so long: the sentence of a deadline. */
    struct text *(*stage)(struct driver *driver, int64_t timeout_ms);

    /* Answers all requests with `error` and goes; no upcall comes from it or after it. */
    void (*close)(struct driver *driver, int error, const char *text);
};

/* What a driver knows of its peer and of the jobs there that no later list shows. */
struct driver_legacy {
    void (*free)(struct driver_legacy *legacy);
};

/* See struct identity; "" for what is not known. */
struct driver_identity {
    char boot[40];
    char process[80];
    char socket[144];
};

struct driver {
    const struct driver_ops *ops;

    /* Valid from `up` on. */
    struct capabilities capabilities;
    struct driver_identity identity;
    bool is_gone;                 /* from before `down` on: what it spoke to is no more */
    bool may_return;              /* the same, but someone may start it again, as another peer */
    bool is_absent;               /* before `up`: what it sought is not there, but may come */
    struct driver_legacy *legacy; /* during `down`, and whoever keeps it sets this to NULL */
    int64_t peer; /* the process that listens, or what else tells it; 0: not known */
};

/* Who is sought. */
struct driver_peer {
    const char *uri;
    const char *label; /* what texts call it */
    /* What the driver of an earlier connection has left, only to look at; NULL: there was none. */
    const struct driver_legacy *before;
    bool out_of_band; /* the program wants to execute commands so, where that is offered */
};

/* ------------------------------------------------------------------ upcalls */

/* Where the facts go; `user` is the one given at opening. */
struct driver_sink {
    /* Where the lines go, of a driver that has a wire. Asked for at opening. */
    struct wire_tap *(*tap)(void *user);

    void (*up)(void *user, struct text *version); /* of QEMU; NULL: not known */
    /* Before it: what the driver before spoke to is no more, and this one is connected to where it
     * can be started again, and waits for that. Takes over the reference to `why`. */
    void (*waits)(void *user, struct text *why);
    void (*fact)(void *user, const struct fact *fact);

    /* The row of this job is not left out of a list, however long that is. */
    bool (*wants_row)(void *user, const char *id);

    /* Every event, if someone wants them. `data` is JSON, not terminated; NULL: none. */
    bool (*wants_events)(void *user);
    void (*event)(void *user, const char *name, const char *data, size_t data_len,
                  int64_t timestamp_us);

    /* Nothing is_owed() any more; the driver is still reading. */
    void (*settled)(void *user);

    /* The connection is over, all requests have been answered, the driver is about to free itself.
     * Takes over the reference to `text`. */
    void (*down)(void *user, int error, struct text *text);
};

/* ---- core/src/model/progress.h ---- */

/*
 * Whether a job makes progress, judged by what is seen of it now and then, and if not, why not. It
 * reads no clock: whoever looks says when that was.
 */

/* What those who wait for the job or watch it are to learn. */
enum notice {
    NOTICE_NONE,
    NOTICE_NO_SPACE,   /* stopped: there is no space left for what it writes */
    NOTICE_STOPPED,    /* stopped by another I/O error */
    NOTICE_PAUSED,     /* somebody has paused it */
    NOTICE_PENDING,    /* its work is done, and it waits to be finalized */
    NOTICE_WAITING,    /* its work is done, and it waits for the others of its transaction */
    NOTICE_UNANSWERED, /* QEMU does not answer */
    NOTICE_ERRORS,     /* I/O errors are ignored, and nothing is copied */
    NOTICE_ENDING,     /* it was told to end, and does not */
    NOTICE_SPEED,      /* its speed limit lets nothing through */
    NOTICE_SILENT,     /* nothing is copied: its source or its target does not answer */
    NOTICE_GUEST       /* it copies, and as much is left as before: the guest writes as fast */
};
#define NOTICE_COUNT (NOTICE_GUEST + 1)

enum progress_condition {
    /* The state of the job, as it is known otherwise. */
    SEEN_STOPPED = 1 << 0,
    SEEN_NO_SPACE = 1 << 1, /* and that is why */
    SEEN_PAUSED = 1 << 2,
    SEEN_PENDING = 1 << 3,
    SEEN_WAITING = 1 << 4,
    SEEN_READY = 1 << 5,
    SEEN_ENDING = 1 << 6,     /* a complete or an abort was accepted */
    SEEN_COPYING = 1 << 7,    /* of a kind whose numbers grow with what it does */
    SEEN_CONVERGING = 1 << 8, /* it is to become ready, and is not yet */

    /* What follows from looking again. */
    FOUND_DEAF = 1 << 9,     /* QEMU was asked, and has not answered for too long */
    FOUND_STILL = 1 << 10,   /* nothing has changed for too long */
    FOUND_NUMBERS = 1 << 11, /* how far it is is known */
    FOUND_ERRORS = 1 << 12,  /* there were I/O errors since */
    FOUND_SLOW = 1 << 13,    /* its speed limit alone explains that */
    FOUND_AS_MUCH = 1 << 14  /* as much is left to copy as long ago */
};
#define PROGRESS_CONDITIONS 15

/* The first rule applies whose conditions all hold; the last one needs none. */
struct notice_rule {
    enum notice notice;
    unsigned when;
};
__extension__ static const struct notice_rule notice_rules[];
__extension__ static const size_t notice_rule_count;
static enum notice progress_notice(unsigned conditions);

/* One look at a job. */
struct sample {
    int64_t current, total, speed; /* of its row; < 0: unknown */
    unsigned state;                /* SEEN_... */
};

/* What was seen of one run. Times are monotonic milliseconds. */
struct progress {
    bool has_begun;
    int64_t seen_ms;   /* the last look */
    int64_t moved_ms;  /* since when it is as it was then */
    int64_t shrunk_ms; /* since when no less is left to copy */
    int64_t current, left, least_left, speed;
    unsigned state;
    uint64_t read_errors, write_errors; /* since moved_ms */
};

/* From now on it is observed; nothing is copied yet. Again: nothing happens. */
static void progress_begin(struct progress *p, unsigned state, int64_t now_ms);
static void progress_see(struct progress *p, const struct sample *sample, int64_t now_ms);
static void progress_io_error(struct progress *p, bool writing); /* one that did not stop it */

/* FOUND_..., as of the last look; `limit_ms`, more than 0, is how long is too long. */
static unsigned progress_found(const struct progress *p, int64_t limit_ms);
/* For how long nothing has moved, or no less is left, as of the last look. */
static int64_t progress_still_ms(const struct progress *p);
static int64_t progress_as_much_ms(const struct progress *p);

struct job_row;
struct job_wait;

/* What a memo has of a job that nothing else keeps. */
struct memo_state {
    unsigned facts;     /* enum memory_fact */
    int64_t since_us;   /* when it became known; by QEMU's clock, if an event came then */
    uint64_t number;    /* random: it tells runs of an id apart */
    int64_t changed_us; /* more in each memo of the run */
    bool is_over;       /* in QEMU: there is nothing to remember */
    int64_t told;       /* the current of the last BJ_RECORD_MEMO */
};

/* A verb under way. The verbs that are sent once for all lie in the job, the others in their wait.
 */
struct job_request_slot {
    struct driver_request request;
    struct loop_task failed; /* delivers what the driver would not take */
    bj_job *job;             /* a reference while it is under way */
    enum verb verb;
    struct job_wait *wait; /* a reference while it is under way; NULL: for all */
    int error;
};

/* Notified after each fact that the machine was fed. Must not call the machine. */
struct job_listener {
    struct job_listener *next;
    void (*notify)(struct job_listener *listener);
};

struct bj_job {
    struct run run; /* first */
    atomic_uint refs;
    bj_monitor *monitor; /* a reference to its memory */
    struct text *id;
    struct text *device;   /* what it was started on; NULL: not known */
    struct text *run_data; /* the driver's own, for its verbs; NULL: none */

    /* Published, under the context's lock. */
    struct text *type;
    struct text *text;
    struct text *disks; /* each with a NUL; set once; NULL: not known */
    bool ready;
    bj_outcome outcome;
    int cause; /* bj_error: what ended the connection, if it was lost by that */
    int64_t times[BJ_MOMENT_END_SEEN + 1]; /* by bj_moment */
    struct driver_snapshot *snapshot;      /* NULL: none */
    struct {
        int64_t current, total, speed;
    } last_progress; /* of a row */
    struct memo_state memo;

    /* The loop's own. */
    struct loop_timer *stall_timer; /* NULL once it is retired */
    bj_watch *watches;
    struct job_listener *listeners;
    struct job_request_slot complete, cancel, force, dismiss;
    bool polls;                    /* the next one runs */
    struct loop_timer *poll_timer; /* where QEMU has no event for what is awaited (B58); or NULL */
    bool has_no_ready_event, hides_pauses, has_bare_rows;
    bool row_is_paused, row_lacks_space;      /* of a row */
    uint64_t updated;                         /* the monitor's update that had news of it last */
    uint64_t born;                            /* how many questions had been asked before it was */
    struct progress progress;                 /* as the rows show it */
    enum notice notice;                       /* that its observers have; api/notices.h */
    struct text *notice_text;                 /* the sentence of then; NULL: there is none */
    struct job_request_slot take_snapshot;    /* of what uses its disk, while it runs */
    struct job_request_slot compare_snapshot; /* and after its end */
    const struct driver_ops *ops;             /* that made it, which outlive the driver */
    void (*unprepare)(struct driver_request *request);
    struct text *remembered; /* the memo that it began with; NULL: none */
    struct memory memory;    /* the same for its tracker */
};

static inline bj_job *job_of(struct run *run)
{
    return (bj_job *)run;
}

/* The loop's thread. NULL: no memory. One reference, the caller's. */
static bj_job *job_new(bj_monitor *monitor, const char *id, const char *type);

/* The loop's thread: it is fed no more facts. */
static void job_retire(bj_job *job);

/* The loop's thread: what is known of it besides, before its machine is fed. */
static void job_learn_type(bj_job *job, const char *type);
static void job_hear(bj_job *job, const struct fact *fact);
static void job_see(bj_job *job, const struct job_row *row);
static void job_note_progress(bj_job *job, const bj_job_info *info); /* of a list */
static void job_learn_disks(bj_job *job, const char *disks); /* a newline after each; NULL: not known */
static void job_note_start(bj_job *job, int64_t sent_us, const char *device, struct text *run_data);

/* The loop's thread: when QEMU said what it is being fed now, 0: that is no event; and when we had
 * it. */
static int64_t job_event_us(const bj_job *job);
static int64_t job_seen_us(const bj_job *job);

/* The loop's thread: someone waits for it or watches it. Where QEMU has no event for what is
 * awaited, it is asked by the clock for as long as that is so (B58). */
static void job_note_observer(bj_job *job);

/* Any thread: false for NULL and after fork(). */
static bool job_is_usable(const bj_job *job);

/* The loop's thread. */
static void job_add_listener(bj_job *job, struct job_listener *listener);
static void job_remove_listener(bj_job *job, struct job_listener *listener); /* one that was added */
static void job_notify_listeners(bj_job *job);

/* The loop's thread: job_watch.c. One record about the job, for one watch; and what kind of record
 * a report is. */
static void job_push(const bj_job *job, bj_watch *watch, bj_record_kind kind,
              const struct record_refs *refs);
static void job_push_all(const bj_job *job, bj_record_kind kind, struct text *text);
static bj_record_kind job_record_of(enum report news);
static void job_notify_watches(bj_job *job, enum report news, const char *words);
static void job_end_watches(bj_job *job);

/* ---- core/src/api/monitor.h ---- */

/*
 * Monitors: what is known about one QEMU (monitor.c, connect.c), its watches (monitor_watch.c,
 * watch_jobs.c), its job list (fetch_rows.c), and connecting again (reconnect.c). What a monitor
 * decides about jobs is its tracker's.
 */

/* ---- core/src/api/progress.h ---- */

/*
 * Asking how far a monitor's jobs are, which no event reports: one question at a time, for all jobs
 * and all who want to know, and only while somebody does. Those who asked for progress set the
 * pace; without them those who wait for a job or watch it do, as no progress is to be reported to
 * them (notices.h). The loop's thread.
 */

struct job_row;

/* Who wants to know how far jobs are; lies in its owner's memory. */
struct progress_reader {
    struct progress_reader *next;
    int64_t every_ms;
    int64_t due_ms;   /* monotonic */
    uint64_t updates; /* how many there had been when it was given some last */
    void (*give)(struct progress_reader *reader);
};

/* Of a monitor. */
struct progress_asker {
    struct loop_timer *timer; /* NULL: there was no need */
    bool is_set;
    struct driver_request request;
    bool is_asking; /* then it has a reference to the monitor */
    int64_t asked_ms;
    uint64_t questions; /* that were asked */
    uint64_t updates;   /* replies that were read */
    struct progress_reader *readers;
};

/* From now on it is given what is new, in steps of every_ms, soon for the first time. False: no
 * memory. */
static bool progress_join(bj_monitor *monitor, struct progress_reader *reader);
static void progress_leave(bj_monitor *monitor, struct progress_reader *reader); /* one that has joined */

/* Whether there is something new for the reader about this job. */
static bool progress_is_new(const bj_job *job, const struct progress_reader *reader);

/* A list has shown it. */
static void progress_saw(bj_job *job, const struct job_row *row);

/* Somebody waits for it or watches it. */
static void progress_note_observer(bj_job *job);

/* Nothing more will be asked. */
static void progress_end(bj_monitor *monitor);

/* ---- core/src/driver/address.h ---- */

/*
 * Monitor addresses: unix:/path, tcp:host:port, fd:N, and libvirt's domains.
 */

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP, ADDRESS_FD, ADDRESS_LIBVIRT };

struct driver_module;
struct _virDomain;

struct address {
    enum address_kind kind;
    struct sockaddr_un path;            /* ADDRESS_UNIX */
    char *host;                         /* ADDRESS_TCP; malloc'ed, without brackets */
    char *port;                         /* points into host's memory */
    int fd;                             /* ADDRESS_FD; a duplicate, ours; else -1 */
    const struct driver_module *module; /* ADDRESS_LIBVIRT */
    struct _virDomain *domain;          /* the same; a reference; NULL: the uri says which */
};

/* BJ_OK; or BJ_E_INVAL, BJ_E_NOMEM or BJ_E_SYSTEM with a sentence in *ret_text. */
static int address_parse(const char *uri, struct address *ret, struct text **ret_text);
static void address_clear(struct address *address);

/* A reference to the domain, and what its uri would be, malloc'ed; else as above. */
static int address_of_domain(struct _virDomain *domain, struct address *ret, char **ret_uri,
                      struct text **ret_text);

/* What it leads to is the program's own. */
static bool address_is_callers(const struct address *address);

/* ---- core/src/driver/wire.h ---- */

/*
 * Where a driver tells what goes over its wire, for a trace.
 */

struct text;

struct wire_line {
    bool is_sent;
    const char *bytes; /* not terminated; only valid during the call */
    size_t len;
    /* The same without secrets, as the driver knows them. NULL: no memory. Any thread. */
    struct text *(*mask)(const char *bytes, size_t len);
};

/* Outlives the driver. */
struct wire_tap {
    atomic_bool is_open; /* any thread; while it is not, nobody wants lines */
    void (*line)(struct wire_tap *tap, const struct wire_line *line); /* the loop's thread */
};

static inline bool wire_is_tapped(const struct wire_tap *tap)
{
    return atomic_load_explicit(&tap->is_open, memory_order_relaxed);
}

enum monitor_state {
    MONITOR_CONNECTING,
    MONITOR_OPEN,
    MONITOR_AWAY, /* the connection has ended and is being made again */
    MONITOR_OVER
};

/* Of the QEMUs that a monitor has been connected to, one after the other. */
enum { VERSIONS_MAX = 8 };

struct bj_monitor {
    atomic_uint refs;    /* of the memory; all handles together hold one, so does being open */
    atomic_uint handles; /* of the program */
    bj_ctx *ctx;
    struct text *uri;
    struct text *name;  /* as the program calls it; NULL: by its uri */
    struct text *label; /* what texts call it */
    bool is_callers;    /* the connection is the program's own: it can't be made again */
    bool has_wire;      /* that can be traced */
    bool out_of_band;   /* negotiated with each connection */
    struct wire_tap tap;

    /* Under the context's lock. */
    enum monitor_state state;
    struct text *version;            /* one of these, or NULL */
    struct driver_identity identity; /* of the latest QEMU */
    struct text *versions[VERSIONS_MAX];
    int over_error;
    struct text *over_text;
    bool closing;         /* close_task is, or was, on its way */
    bool unwanting;       /* unwant_task is on its way */
    int64_t reconnect_ms; /* 0: never; -1: for ever */
    struct {
        bj_trace_fn fn; /* NULL: none */
        void *user;
        int flags;
        bool is_called;
        bool is_watched;
    } trace;

    /* The loop's own. */
    struct loop_task close_task;
    struct loop_task unwant_task; /* nobody wants it to connect again any more */
    struct loop_task finish_task;
    struct loop_timer *linger; /* until when, once it is closed */
    bool lingering;
    struct ctx_member member;
    struct loop_task launched_task;
    bool in_ctx;                  /* from its first dialling, or trace, until it is over */
    struct driver *driver;        /* NULL while there is no connection */
    int64_t peer;                 /* the process at the other end; 0: not known */
    struct driver_legacy *legacy; /* of the last that was up; NULL: none */
    struct awaiting *awaiting;    /* of a peer that may not be there yet; NULL: nothing */
    struct reconnect *reconnect;
    struct text
        *away_text;     /* why the connection ended that was, or is being, made again; or NULL */
    bj_future *connect; /* who waits for it to open; NULL: nobody */
    struct tracker tracker;
    struct driver_request rows_request; /* of its list */
    struct loop_task rows_failed;
    int rows_error;
    const struct driver_reply *rows_reply; /* while it is fed that list */
    struct text *ending;                   /* while it is told that the connection is over: why */
    const bj_job *fed;                     /* which is fed an event; NULL: none */
    int64_t event_us, seen_us;             /* the event's timestamp, and when it was read */
    bj_watch *watches;
    bj_watch *jobs_watches;        /* those of all its jobs */
    bj_watch *traces;              /* of the wire */
    struct loop_timer *seek_timer; /* for those of all jobs; NULL: there was no need */
    struct progress_asker progress;
    struct monitor_closed *closed; /* futures of bj_monitor_closed() */
};

/* Not connected to anything yet; `name` may be NULL. NULL: no memory. One handle, the caller's. */
static bj_monitor *monitor_new(bj_ctx *ctx, const char *uri, const char *name,
                        const struct address *address);

static inline const char *monitor_label(const bj_monitor *monitor)
{
    return text_str(monitor->label);
}

/* The loop's thread: it is ended with its context, which does not close yet. */
static void monitor_enter_ctx(bj_monitor *monitor);

/* The loop's thread: starts connecting; `connect` is answered once it is open, or over. Takes over
 * what is in `address`. False: no memory. */
static bool monitor_open(bj_monitor *monitor, struct address *address, bj_future *connect);
/* For who awaits the peer: the same once more; a try has failed, and its driver is gone. Takes over
 * the reference to `text`. */
static void monitor_open_again(bj_monitor *monitor);
static void monitor_not_there(bj_monitor *monitor, int error, struct text *text);

/* BJ_OK; else BJ_E_CLOSED, ... with a sentence for a future in *ret_text. Over: for good. */
static int monitor_check_over(bj_monitor *monitor, struct text **ret_text);
static int monitor_check_open(bj_monitor *monitor, struct text **ret_text);
static int64_t monitor_reconnect_ms(bj_monitor *monitor); /* any thread */

/* monitor_closed.c, the loop's thread: those who wait for its end. */
static void monitor_answer_closed(bj_monitor *monitor, int error, struct text *text);

/* monitor_watch.c, the loop's thread. What becomes of the connection, to all its watches. */
static void monitor_notify_watches(const bj_monitor *monitor, bj_record_kind kind, int error,
                            struct text *text);
static void monitor_end_watches(bj_monitor *monitor, int error, struct text *text);
static void monitor_end_watch_list(bj_watch **list, int error, struct text *text);
/* Of the driver's sink. */
static bool monitor_wants_events(void *user);
static void monitor_on_event(void *user, const char *name, const char *data, size_t data_len,
                      int64_t timestamp_us);
/* Puts it into the list, and reports that the connection is away; false: the monitor is over, and
 * so is the watch. */
static bool monitor_begin_watch(bj_monitor *monitor, bj_watch *watch, bj_watch **list);
static void monitor_disown(void *monitor); /* of its memory */

/* NULL; or a failed future for the caller: no monitor, after fork(), a bad timeout. Any thread. */
static bj_future *monitor_refuse(bj_monitor *monitor, int64_t timeout_ms);
/* Why a command has no answer; NULL: no command in particular. */
static struct text *monitor_late_text(const bj_monitor *monitor, const char *command, int64_t timeout_ms);

/* The loop's thread: two functions of the tracker's port. */
static void monitor_is_back(bj_monitor *monitor);
static void monitor_finish_if_settled(bj_monitor *monitor);

/* Connects anew; NULL: *ret_why says why not. */
static struct driver *monitor_dial(bj_monitor *monitor, struct text **ret_why);

/* Ends it at once; gently: after the jobs that are ours and over have been dismissed, and QEMU has
 * answered all it was asked. Both answer everyone at once and take over the reference to `text`. */
static void monitor_shut(bj_monitor *monitor, int error, struct text *text);
static void monitor_close_gently(bj_monitor *monitor, struct text *text);
static bj_monitor *monitor_ref_memory(bj_monitor *monitor);
static void monitor_unref_memory(bj_monitor *monitor);

/* ---- core/src/base/container_of.h ---- */

/*
 * From a part of a struct to the whole.
 */

/* The `type` whose `member` the pointer points to. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

struct attach {
    bj_future future;
    struct attachment attachment;
    bj_monitor *monitor; /* a reference to its memory */
    char *id;            /* what the caller calls the job */
    char *real_id;       /* and what the driver calls it; NULL: the same */
};

static struct attach *attach_of(bj_future *future)
{
    return (struct attach *)future;
}

static bool attach_name(struct tracker *tracker, struct attachment *attachment)
{
    struct attach *attach = container_of(attachment, struct attach, attachment);
    struct driver *driver = container_of(tracker, bj_monitor, tracker)->driver;
    const char *id = driver->ops->id_of(driver, attach->id);

    if (strcmp(id, attach->id) == 0)
        return false;
    attach->real_id = strdup(id);
    if (attach->real_id)
        attachment->id = attach->real_id;
    return attach->real_id != NULL;
}

/* The list that QEMU did not give, or the end of the connection. */
static void fail_with_monitor(struct attach *attach, int error)
{
    const bj_monitor *monitor = attach->monitor;
    const struct driver_reply *reply = monitor->rows_reply;
    bool has_reply = reply && reply->error != BJ_OK;
    const char *why = has_reply && reply->text && *reply->text ? reply->text
                      : monitor->ending                        ? text_str(monitor->ending)
                                                               : bj_error_text(error);
    const char *error_class = has_reply && reply->error_class ? reply->error_class : "";

    future_answer(&attach->future,
                  &(struct future_result){
                      .error = has_reply ? reply->error : error,
                      .text = text_printf("%s", why),
                      .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                  });
}

static void attach_answered(struct tracker *tracker, struct attachment *attachment, int error)
{
    struct attach *attach = container_of(attachment, struct attach, attachment);
    const char *uri = text_str(container_of(tracker, bj_monitor, tracker)->uri);

    if (error == BJ_OK)
        future_answer(&attach->future, &(struct future_result){
                                           .value = job_value(bj_job_ref(job_of(attachment->run))),
                                       });
    else if (error == BJ_E_NO_JOB)
        future_fail(&attach->future, error, "%s has no job %s: it has ended, or never was", uri,
                    attach->id);
    else if (error == BJ_E_BUSY)
        future_fail(&attach->future, error, "%s: more jobs than the limit", uri);
    else
        fail_with_monitor(attach, error);
}

static void api_attach__start(bj_future *future)
{
    struct attach *attach = attach_of(future);
    struct text *text = NULL;

    int r = monitor_check_open(attach->monitor, &text);
    if (r == BJ_OK)
        tracker_attach(&attach->monitor->tracker, &attach->attachment);
    else
        future_answer(future, &(struct future_result){.error = r, .text = text});
}

static void api_attach__leave(bj_future *future)
{
    struct attach *attach = attach_of(future);
    tracker_unattach(&attach->monitor->tracker, &attach->attachment);
}

static struct text *api_attach__late(bj_future *future)
{
    return monitor_late_text(attach_of(future)->monitor, NULL, future->timeout_ms);
}

static void api_attach__destroy(bj_future *future)
{
    struct attach *attach = attach_of(future);
    free(attach->id);
    free(attach->real_id);
    monitor_unref_memory(attach->monitor);
}

bj_future *bj_monitor_attach(bj_monitor *monitor, const char *id, int64_t timeout_ms)
{
    static const struct future_ops ops = {
        .start = api_attach__start,
        .leave = api_attach__leave,
        .late = api_attach__late,
        .destroy = api_attach__destroy,
    };
    bj_future *refused = monitor_refuse(monitor, timeout_ms);
    if (refused)
        return refused;
    if (!id || !*id)
        return future_failed(monitor->ctx, BJ_E_INVAL, "attaching needs the id of a job");

    struct attach *attach = (struct attach *)future_new(monitor->ctx, sizeof *attach, &ops);
    if (!attach)
        return future_static(BJ_E_NOMEM);
    attach->monitor = monitor_ref_memory(monitor);
    attach->id = strdup(id);
    if (!attach->id) {
        bj_future_unref(&attach->future);
        return future_static(BJ_E_NOMEM);
    }
    attach->attachment.id = attach->id;
    return future_launch(&attach->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}
/* ---- core/src/api/await_peer.c ---- */

/*
 * Awaiting a peer; see await_peer.h.
 *
 * By trying, as the kernel tells of a new file but not of a socket that begins to listen, and a
 * libvirtd that is not there tells nothing. A try takes microseconds where nobody is. One that gets
 * no answer is made anew as well: a QEMU that is just starting may forget the first client of a
 * socket, and be reminded of it by the next.
 */
/* ---- core/src/api/await_peer.h ---- */

/*
 * Connecting to a peer that may not be there yet: tried again until it is. The loop's thread.
 */

struct awaiting;

/* Before the first try, for so long from now on; BJ_TIMEOUT_NONE: until connecting is given up.
 * NULL: no memory. */
static struct awaiting *await_begin(bj_monitor *monitor, int64_t wait_ms);
static void await_free(struct awaiting *awaiting); /* takes NULL */

/* A try has failed, as *text says: takes it over, and another will follow. False: it was the last;
 * then *text is the sentence for it all. */
static bool await_again(struct awaiting *awaiting, struct text **text);

/* Why the last try has failed, for who gives up between two; NULL: there was none. */
static const char *await_reason(const struct awaiting *awaiting);

#define FIRST_DELAY_MS 20
#define LONGEST_DELAY_MS 500
#define FIRST_PATIENCE_MS 2000 /* with a try; then twice as long, for a machine that is slow */

struct awaiting {
    bj_monitor *monitor;
    struct loop_timer *timer; /* of the next try; during one, of the patience with it */
    int64_t wait_ms;
    int64_t deadline_ms; /* monotonic; INT64_MAX: none */
    int64_t delay_ms;
    int64_t patience_ms;
    struct text *why;
};

static int64_t api_await_peer__time_left(const struct awaiting *awaiting)
{
    return awaiting->deadline_ms - clock_monotonic_ms();
}

/* The last try has the time that connecting has without waiting. */
static void lose_patience(struct awaiting *awaiting)
{
    struct driver *driver = awaiting->monitor->driver;
    if (api_await_peer__time_left(awaiting) <= 0)
        return;
    struct text *why = driver->ops->stage(driver, awaiting->patience_ms);
    awaiting->patience_ms *= 2;
    driver->ops->close(driver, BJ_E_CLOSED, text_str(why));
    monitor_not_there(awaiting->monitor, BJ_E_TIMEOUT, why);
}

/* Then its timer is next, and a try would only hide why those before have failed. */
static bool is_deadline_due(const bj_monitor *monitor)
{
    int64_t deadline_ms = monitor->connect->deadline_ms;
    return deadline_ms >= 0 && clock_monotonic_ms() >= deadline_ms;
}

static void api_await_peer__on_timer(void *user)
{
    struct awaiting *awaiting = user;
    if (awaiting->monitor->driver) {
        lose_patience(awaiting);
    } else if (!is_deadline_due(awaiting->monitor)) {
        loop_timer_set(awaiting->timer, awaiting->patience_ms);
        monitor_open_again(awaiting->monitor);
    }
}

static void await_free(struct awaiting *awaiting)
{
    if (!awaiting)
        return;
    loop_timer_free(awaiting->timer);
    text_unref(awaiting->why);
    free(awaiting);
}

static struct awaiting *await_begin(bj_monitor *monitor, int64_t wait_ms)
{
    struct awaiting *awaiting = calloc(1, sizeof *awaiting);
    if (!awaiting)
        return NULL;
    int64_t now = clock_monotonic_ms();
    bool is_endless = wait_ms < 0 || wait_ms > INT64_MAX - now;

    awaiting->monitor = monitor;
    awaiting->wait_ms = wait_ms;
    awaiting->deadline_ms = is_endless ? INT64_MAX : now + wait_ms;
    awaiting->delay_ms = FIRST_DELAY_MS;
    awaiting->patience_ms = FIRST_PATIENCE_MS;
    awaiting->timer = loop_timer_new(monitor->ctx->loop, api_await_peer__on_timer, awaiting);
    if (!awaiting->timer) {
        free(awaiting);
        return NULL;
    }
    loop_timer_set(awaiting->timer, awaiting->patience_ms);
    return awaiting;
}

static struct text *in_vain(const struct awaiting *awaiting, struct text *why)
{
    struct text *text =
        text_printf("waited %.10g s in vain: %s", (double)awaiting->wait_ms / 1000., text_str(why));
    text_unref(why);
    return text;
}

static bool await_again(struct awaiting *awaiting, struct text **text)
{
    int64_t left = api_await_peer__time_left(awaiting);
    if (left <= 0) {
        *text = in_vain(awaiting, *text);
        return false;
    }
    text_unref(awaiting->why);
    awaiting->why = *text;
    loop_timer_set(awaiting->timer, awaiting->delay_ms < left ? awaiting->delay_ms : left);
    awaiting->delay_ms *= 2;
    if (awaiting->delay_ms > LONGEST_DELAY_MS)
        awaiting->delay_ms = LONGEST_DELAY_MS;
    return true;
}

static const char *await_reason(const struct awaiting *awaiting)
{
    return awaiting && awaiting->why ? text_str(awaiting->why) : NULL;
}
#undef FIRST_DELAY_MS
#undef LONGEST_DELAY_MS
#undef FIRST_PATIENCE_MS
/* ---- core/src/api/connect.c ---- */

/*
 * Connecting to a monitor.
 */

/* ---- core/src/api/trace.h ---- */

/*
 * What goes over a monitor's wire, for the program's function and for watches.
 */

static void trace_init(bj_monitor *monitor);
static struct wire_tap *trace_tap(void *user); /* of the driver's sink */

/* Before the monitor is opened: a watch of its wire. NULL: no memory. */
static bj_watch *trace_watch(bj_monitor *monitor, int flags);

/* The loop's thread: there is no wire any more. */
static void trace_end(bj_monitor *monitor, int error, struct text *text);

/* BJ_OK, or why there can be no such trace. */
static int trace_check(const bj_monitor *monitor, int flags);

/* ---- core/src/base/options.h ---- */

/*
 * Options that begin with their size: the program may know them shorter than the library does, or
 * longer.
 */

/* Copies what both know; the rest of *ret stays as it is. False: no release's options are so short.
 */
static inline bool options_read(void *ret, size_t size, const void *given, size_t given_size,
                                size_t shortest)
{
    if (given_size < shortest)
        return false;
    memcpy(ret, given, given_size < size ? given_size : size);
    return true;
}

#define NAME_MAX_BYTES 200

struct connect {
    bj_future future;
    bj_monitor *monitor; /* the first handle, until the answer takes one of its own */
    struct address address;
    int64_t wait_ms;
};

/* False: no memory. */
static bool api_connect__begin(struct connect *connect)
{
    bj_monitor *monitor = connect->monitor;

    if (connect->wait_ms != 0) {
        monitor->awaiting = await_begin(monitor, connect->wait_ms);
        if (!monitor->awaiting)
            return false;
    }
    if (monitor_open(monitor, &connect->address, &connect->future))
        return true;
    await_free(monitor->awaiting);
    monitor->awaiting = NULL;
    return false;
}

static void start_connect(bj_future *future)
{
    if (ctx_is_closing(future->ctx))
        future_fail(future, BJ_E_CLOSED, "the context was closed");
    else if (!api_connect__begin((struct connect *)future))
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

/* Its future has been started, or never will be: then its trace is over. */
static void run_launched(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, launched_task);
    if (monitor->state == MONITOR_CONNECTING && !monitor->connect)
        monitor_shut(monitor, BJ_E_CLOSED, text_printf("connecting was given up"));
    monitor_unref_memory(monitor);
}

static void leave_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    connect->monitor->connect = NULL;
    monitor_shut(connect->monitor, BJ_E_CLOSED, text_printf("connecting was given up"));
}

static struct text *join(struct text *now, const char *before)
{
    struct text *both = text_printf("%s; before that: %s", text_str(now), before);
    text_unref(now);
    return both;
}

/* Between two tries, or in one, which may have just begun. */
static struct text *late_connect(bj_future *future)
{
    const bj_monitor *monitor = ((struct connect *)future)->monitor;
    struct driver *driver = monitor->driver;
    const char *reason = await_reason(monitor->awaiting);
    struct text *stage = driver ? driver->ops->stage(driver, future->timeout_ms) : NULL;

    if (!reason)
        return stage;
    return stage ? join(stage, reason)
                 : text_printf("waited %.10g s in vain: %s", (double)future->timeout_ms / 1000.,
                               reason);
}

static void destroy_connect(bj_future *future)
{
    struct connect *connect = (struct connect *)future;
    address_clear(&connect->address);
    bj_monitor_unref(connect->monitor);
}

/* --------------------------------------------------------------------- options */

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_connect_options, out_of_band) + sizeof(bool))

/* BJ_OK; or BJ_E_INVAL with a sentence. */
static int api_connect__read_options(const bj_connect_options *given, bj_connect_options *ret,
                        const char **ret_why)
{
    *ret = (bj_connect_options){.size = sizeof *ret};
    if (!given)
        return BJ_OK;
    if (!options_read(ret, sizeof *ret, given, given->size, SHORTEST_OPTIONS)) {
        *ret_why = "the size of the options is not sizeof(bj_connect_options)";
        return BJ_E_INVAL;
    }
    if (ret->ret_trace)
        *ret->ret_trace = NULL;
    if (ret->name && ret->name[0] == '\0')
        ret->name = NULL;
    *ret_why = NULL;
    if (ret->name && strlen(ret->name) > NAME_MAX_BYTES)
        *ret_why = "the name of a monitor has at most 200 bytes";
    else if (ret->wait_ms < BJ_TIMEOUT_NONE)
        *ret_why = "the time to wait is negative";
    else if (ret->trace_flags & ~BJ_TRACE_MASKED)
        *ret_why = "the trace's flags are not bj_trace_flags";
    return *ret_why ? BJ_E_INVAL : BJ_OK;
}

/* The same, for what does not fit the address. */
static int check_address(const struct address *address, const bj_connect_options *options,
                         const char **ret_why)
{
    if (options->wait_ms != 0 && address_is_callers(address)) {
        *ret_why = "a connection of the program's own is there, or not: there is nothing to wait "
                   "for";
        return BJ_E_INVAL;
    }
    if ((options->trace || options->ret_trace) && address->kind == ADDRESS_LIBVIRT) {
        *ret_why = "the wire to a domain is libvirt's and can't be traced here: libvirt's log "
                   "(LIBVIRT_DEBUG=1) has its calls";
        return BJ_E_UNSUPPORTED;
    }
    return BJ_OK;
}

/* ------------------------------------------------------------------- connecting */

/* One deadline: that of a try which begins when the waiting ends. */
static int64_t deadline_of(bj_ctx *ctx, int64_t wait_ms, int64_t timeout_ms)
{
    if (timeout_ms == BJ_TIMEOUT_DEFAULT)
        timeout_ms = (int64_t)ctx_limit(ctx, BJ_LIMIT_CONNECT_MS);
    if (timeout_ms == BJ_TIMEOUT_NONE || wait_ms == BJ_TIMEOUT_NONE)
        return timeout_ms;
    return timeout_ms > INT64_MAX - wait_ms ? INT64_MAX : timeout_ms + wait_ms;
}

static struct connect *connect_new(bj_ctx *ctx)
{
    static const struct future_ops ops = {
        .start = start_connect,
        .leave = leave_connect,
        .late = late_connect,
        .destroy = destroy_connect,
    };
    return (struct connect *)future_new(ctx, sizeof(struct connect), &ops);
}

/* False: no memory. */
static bool set_traces(bj_monitor *monitor, const bj_connect_options *options)
{
    if (options->trace)
        bj_monitor_set_trace(monitor, options->trace_flags, options->trace, options->trace_user);
    if (!options->ret_trace)
        return true;
    *options->ret_trace = trace_watch(monitor, options->trace_flags);
    return *options->ret_trace != NULL;
}

static bj_future *api_connect__launch(struct connect *connect, int64_t timeout_ms)
{
    bj_monitor *monitor = monitor_ref_memory(connect->monitor);
    bj_future *future = future_launch(&connect->future, timeout_ms, -1);

    monitor->launched_task.run = run_launched;
    if (!loop_post(monitor->ctx->loop, &monitor->launched_task))
        monitor_unref_memory(monitor);
    return future;
}

static bj_future *launch_connect(bj_ctx *ctx, const char *uri, struct address *address,
                                 const bj_connect_options *options, int64_t timeout_ms)
{
    bj_monitor *monitor = monitor_new(ctx, uri, options->name, address);
    struct connect *connect = monitor ? connect_new(ctx) : NULL;
    if (connect) {
        connect->monitor = monitor;
        connect->address = *address;
        connect->wait_ms = options->wait_ms;
        monitor->out_of_band = options->out_of_band;
    }
    if (connect && set_traces(monitor, options))
        return api_connect__launch(connect, deadline_of(ctx, options->wait_ms, timeout_ms));
    if (connect) {
        bj_future_unref(&connect->future);
    } else {
        address_clear(address);
        bj_monitor_unref(monitor);
    }
    return future_static(BJ_E_NOMEM);
}

/* What was taken into the address is given back, or goes into the monitor. */
static bj_future *connect_to(bj_ctx *ctx, const char *uri, struct address *address,
                             const bj_connect_options *options, int64_t timeout_ms)
{
    const char *why;
    int r = check_address(address, options, &why);
    if (r == BJ_OK)
        return launch_connect(ctx, uri, address, options, timeout_ms);
    address_clear(address);
    return future_failed(ctx, r, "%s: %s", uri, why);
}

bj_future *bj_monitor_connect_with(bj_ctx *ctx, const char *uri, const bj_connect_options *options,
                                   int64_t timeout_ms)
{
    const char *why;
    bj_connect_options read;

    int r = api_connect__read_options(options, &read, &why);
    if (!ctx)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(ctx))
        return future_static(BJ_E_FORKED);
    if (!uri)
        return future_failed(ctx, BJ_E_INVAL, "the uri of the monitor is NULL");
    if (r != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "%s: %s", uri, why);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative", uri,
                             (long long)timeout_ms);

    struct address address;
    struct text *text;
    r = address_parse(uri, &address, &text);
    if (r == BJ_OK)
        return connect_to(ctx, uri, &address, &read, timeout_ms);

    bj_future *failed = future_failed(ctx, r, "%s", text_str(text));
    text_unref(text);
    return failed;
}

bj_future *bj_monitor_connect(bj_ctx *ctx, const char *uri, int64_t timeout_ms)
{
    return bj_monitor_connect_with(ctx, uri, NULL, timeout_ms);
}

bj_future *bj_monitor_connect_domain(bj_ctx *ctx, struct _virDomain *domain, int64_t timeout_ms)
{
    if (!ctx)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(ctx))
        return future_static(BJ_E_FORKED);
    if (!domain)
        return future_failed(ctx, BJ_E_INVAL, "the domain to connect to is NULL");
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(ctx, BJ_E_INVAL, "a timeout of %lld ms is negative",
                             (long long)timeout_ms);

    struct address address;
    struct text *text;
    char *uri = NULL;
    int r = address_of_domain(domain, &address, &uri, &text);
    bj_future *future;
    if (r == BJ_OK) {
        future = connect_to(ctx, uri, &address, &(bj_connect_options){0}, timeout_ms);
    } else {
        future = future_failed(ctx, r, "%s", text_str(text));
        text_unref(text);
    }
    free(uri);
    return future;
}
#undef NAME_MAX_BYTES
#undef SHORTEST_OPTIONS
/* ---- core/src/api/execute.c ---- */

/*
 * Raw commands.
 */

/* ---- core/src/api/request.h ---- */

/*
 * Futures whose answer is one reply of the driver.
 */

/* ---- core/src/base/descriptors.h ---- */

/*
 * File descriptors that a command takes along: duplicates, closed once whatever becomes of it.
 */

struct descriptors {
    size_t count;
    int fds[];
};

/* At least one. BJ_OK; or BJ_E_NOMEM; BJ_E_INVAL: fds[*ret_bad] is not open; BJ_E_SYSTEM, with the
 * reason in errno. */
static int descriptors_duplicate(const int *fds, size_t count, struct descriptors **ret, size_t *ret_bad);
static void descriptors_close(struct descriptors *descriptors); /* takes NULL */

struct request;

struct request_kind {
    /* The loop's thread. BJ_OK: `driver_request` is under way. */
    int (*send)(struct request *request, struct driver *driver);
    /* QEMU's reply without error, someone still listens: answers the future. */
    void (*replied)(struct request *request, struct driver_reply *reply);
    /* Whatever came of it, and whether anyone listens or not: before the future is answered. NULL:
     * nothing to do. `reply` is NULL if nothing was sent. */
    void (*over)(struct request *request, const struct driver_reply *reply);
    /* It starts jobs, and can only be sent once it is known what the commands for that take. */
    bool starts_runs;
};

struct request {
    bj_future future;
    struct driver_request driver_request;
    const struct request_kind *kind;
    bj_monitor *monitor; /* a reference to its memory */
    bool under_way;
    bool left; /* nobody listens any more */

    /* What a kind needs; freed with it. */
    bj_job *job;                /* query: whose row it is */
    bool had_id;                /* query: it had its id when the list was asked for */
    struct start_order *starts; /* of `start_count` jobs; NULL: none */
    size_t start_count;
    bool is_grouped; /* a transaction's */
    char *command;
    char *arguments;
    struct descriptors *descriptors; /* execute: until the driver takes them over, or it is over */
    bool out_of_band;                /* the same */
    struct text *why;                /* execute: why it was not sent; NULL: the usual sentence */
    struct raw raw;                  /* execute: of a verb */
    char *raw_id;                    /* the same; NULL: it is none */
};

/* What became of an order: the reply to its command; NULL: nothing was sent. */
static enum order_reply request_result(const struct driver_reply *reply);

/* NULL: *ret_failed is the caller's answer (NULL handle, bad timeout, fork, memory). */
static struct request *request_new(bj_monitor *monitor, const struct request_kind *kind,
                            int64_t timeout_ms, bj_future **ret_failed);

/* Checks and copies both. NULL; or a failed future for the caller, and the request is gone. */
static bj_future *request_set_command(struct request *request, const char *command, const char *arguments);

/* A verb that the program sends by itself: its job is to know, or it would take it for another
 * client's. */
static void note_verb(struct request *request, struct driver *driver)
{
    if (!driver->ops->is_verb || !driver->ops->is_verb(driver, request->command, request->arguments,
                                                       &request->raw.verb, &request->raw_id))
        return;
    request->raw.id = request->raw_id;
    tracker_raw(&request->monitor->tracker, &request->raw);
}

/* NULL; or why this peer can't be given the command as it is. */
static struct text *find_obstacle(const struct request *request, const struct driver *driver)
{
    const struct capabilities *peer = &driver->capabilities;
    const char *uri = text_str(request->monitor->uri);
    const char *version = bj_monitor_qemu_version(request->monitor);
    const char *space = *version ? " " : ""; /* libvirt does not tell which it is */

    if (request->descriptors && !peer->passes_descriptors)
        return text_printf(
            "%s: descriptors can't go with %s: only a UNIX socket of QEMU takes them", uri,
            request->command);
    if (!request->out_of_band || peer->executes_out_of_band)
        return NULL;
    return peer->offers_out_of_band
               ? text_printf("%s: QEMU %s was not asked to execute commands such as %s out of "
                             "band: connect with the option out_of_band",
                             uri, version, request->command)
               : text_printf("%s: %s can't be executed out of band: QEMU%s%s does not offer that "
                             "here (4.0 and later do, on a socket)",
                             uri, request->command, space, version);
}

static int send_execute(struct request *request, struct driver *driver)
{
    request->why = find_obstacle(request, driver);
    if (request->why)
        return BJ_E_UNSUPPORTED;
    int r = driver->ops->execute(driver, &request->driver_request,
                                 &(struct driver_command){
                                     .name = request->command,
                                     .arguments = request->arguments,
                                     .descriptors = request->descriptors,
                                     .out_of_band = request->out_of_band,
                                 });
    if (r != BJ_OK)
        return r;
    request->descriptors = NULL;
    note_verb(request, driver);
    return BJ_OK;
}

static void execute_over(struct request *request, const struct driver_reply *reply)
{
    if (!request->raw_id)
        return;
    if (request->raw.run)
        job_notify_listeners(job_of(request->raw.run));
    tracker_raw_replied(&request->monitor->tracker, &request->raw, request_result(reply));
}

static void execute_replied(struct request *request, struct driver_reply *reply)
{
    struct text *json = text_new(reply->json, reply->json_len);
    if (json)
        future_answer(&request->future, &(struct future_result){.json = json});
    else
        future_fail(&request->future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_execute_options, out_of_band) + sizeof(bool))

/* NULL; or why they make no sense. */
static bj_future *api_execute__read_options(bj_ctx *ctx, const bj_execute_options *given,
                               bj_execute_options *ret)
{
    *ret = (bj_execute_options){0};
    if (!given)
        return NULL;
    if (!options_read(ret, sizeof *ret, given, given->size, SHORTEST_OPTIONS))
        return future_failed(ctx, BJ_E_INVAL,
                             "the size of bj_execute_options is %zu: it must be sizeof it",
                             given->size);
    if (ret->fd_count > DRIVER_DESCRIPTORS_MAX)
        return future_failed(ctx, BJ_E_INVAL,
                             "%zu descriptors are too many for one command: QEMU receives %d",
                             ret->fd_count, DRIVER_DESCRIPTORS_MAX);
    if (ret->fd_count > 0 && !ret->fds)
        return future_failed(ctx, BJ_E_INVAL, "the array of %zu descriptors is NULL",
                             ret->fd_count);
    if (ret->fd_count > 0 && ret->out_of_band)
        return future_failed(ctx, BJ_E_INVAL,
                             "descriptors can't go with a command that is executed out of band");
    return NULL;
}

/* NULL; or the failed future. */
static bj_future *take_options(struct request *request, const bj_execute_options *options)
{
    bj_ctx *ctx = request->monitor->ctx;
    size_t bad = 0;

    request->out_of_band = options->out_of_band;
    if (options->fd_count == 0)
        return NULL;
    int r = descriptors_duplicate(options->fds, options->fd_count, &request->descriptors, &bad);
    int error = errno;
    if (r == BJ_E_INVAL)
        return future_failed(ctx, r, "%s: descriptor %d (the %zu. of %zu) is not open",
                             request->command, options->fds[bad], bad + 1, options->fd_count);
    if (r == BJ_E_SYSTEM)
        return future_failed(ctx, r,
                             "%s: a descriptor can't be duplicated: %s: close files, or raise the "
                             "limit of open files (ulimit -n)",
                             request->command, strerror(error));
    return r == BJ_OK ? NULL : future_static(r);
}

bj_future *bj_monitor_execute_with(bj_monitor *monitor, const char *command, const char *arguments,
                                   const bj_execute_options *options, int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_execute,
        .replied = execute_replied,
        .over = execute_over,
    };
    bj_execute_options read;
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    failed = request_set_command(request, command, arguments);
    if (failed)
        return failed;
    failed = api_execute__read_options(monitor->ctx, options, &read);
    if (!failed)
        failed = take_options(request, &read);
    if (!failed)
        return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
    bj_future_unref(&request->future);
    return failed;
}

bj_future *bj_monitor_execute(bj_monitor *monitor, const char *command, const char *arguments,
                              int64_t timeout_ms)
{
    return bj_monitor_execute_with(monitor, command, arguments, NULL, timeout_ms);
}
#undef SHORTEST_OPTIONS
/* ---- core/src/api/fetch_rows.c ---- */

/*
 * Fetches the rows of QEMU's job list for a monitor's tracker.
 */
/* ---- core/src/api/fetch_rows.h ---- */

/*
 * QEMU's job list, for the tracker of a monitor: two functions of its port.
 */

static void fetch_rows(struct tracker *tracker);                    /* ask_list */
static void fetch_rows_saw(struct run *run, const struct row *row); /* saw */

/* ---- core/src/api/watch_jobs.h ---- */

/*
 * Watches of all jobs of a monitor. What they are given, and when, the tracker decides: a run is
 * announced once it is known what it is, and its reports follow. The loop's thread.
 */

/* Of the tracker's port. */
static void watch_jobs_announce(bj_job *job);
/* Of a run that was announced. */
static void watch_jobs_report(bj_job *job, enum report news, const char *words);
static void watch_jobs_push_all(bj_job *job, bj_record_kind kind, struct text *text);
/* One more change that nobody can be given. */
static void watch_jobs_miss(bj_monitor *monitor);

/* The same: what is to be remembered of it is other than before. */
static void watch_jobs_remember(bj_job *job);
/* The connection was made again. */
static void watch_jobs_up(bj_monitor *monitor);

/* A list has come, or could not be had: when the next is to be asked for. */
static void watch_jobs_listed(bj_monitor *monitor);

/* A row as the machine reads it, and where it is from. */
struct read_row {
    struct row row; /* first */
    const struct job_row *source;
};

static void fetch_rows_saw(struct run *run, const struct row *row)
{
    job_see(job_of(run), ((const struct read_row *)row)->source);
}

static void feed_row(bj_monitor *monitor, const struct job_row *source)
{
    const bj_job_info *info = &source->info;
    struct read_row read = {
        .row =
            {
                .status = job_status_of(info->status),
                .ready = info->ready,
                .paused = info->paused,
                .hides_pause = monitor->driver->capabilities.has_bare_rows,
                .io_error = source->has_io_error,
                .no_space = source->lacks_space,
                .error = *info->error ? info->error : NULL,
                .cancelled = source->was_cancelled,
                .current = info->current,
                .total = info->total,
            },
        .source = source,
    };
    tracker_row(&monitor->tracker, info->id, info->type, &read.row);
}

static void rows_fetched(bj_monitor *monitor, const struct driver_reply *reply)
{
    enum list_end end = LIST_WHOLE;

    if (reply->is_lost)
        end = LIST_LOST;
    else if (reply->error != BJ_OK)
        end = LIST_FAILED;
    else if (reply->list && reply->list->is_cut)
        end = LIST_CUT;

    monitor->rows_reply = reply;
    for (size_t i = 0; reply->list && i < reply->list->count; i++)
        feed_row(monitor, &reply->list->rows[i]);
    tracker_list_over(&monitor->tracker, end);
    monitor->rows_reply = NULL;
    watch_jobs_listed(monitor);
    monitor_unref_memory(monitor);
}

static void on_rows(struct driver_request *request, struct driver_reply *reply)
{
    rows_fetched(container_of(request, bj_monitor, rows_request), reply);
}

/* Later: the tracker must not be fed from inside its own call. */
static void run_rows_failed(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, rows_failed);
    rows_fetched(monitor, &(struct driver_reply){.error = monitor->rows_error});
}

static void fetch_rows(struct tracker *tracker)
{
    bj_monitor *monitor = container_of(tracker, bj_monitor, tracker);
    struct driver *driver = monitor->driver;

    monitor->rows_request.done = on_rows;
    monitor_ref_memory(monitor);
    int r = driver->ops->query(driver, &monitor->rows_request, true);
    if (r == BJ_OK)
        return;
    monitor->rows_error = r;
    monitor->rows_failed.run = run_rows_failed;
    if (!loop_post(monitor->ctx->loop, &monitor->rows_failed))
        monitor_unref_memory(monitor);
}
/* ---- core/src/api/group.c ---- */

/*
 * Groups: several jobs that are awaited, pivoted or given up together (B08). A wait asks the
 * machine of each of its jobs as the job's own waits do; what follows from the answers is decided
 * by model/group_plan.h. An answer is only written down, because a machine must not be called while
 * it answers: the plan's orders are carried out in a task.
 */

/* ---- core/src/api/job_waits.h ---- */

/*
 * Waits on a job: a future and the waiter that the machine knows.
 */

/* A waiter of the machine whose answer goes to a future, or to one part of a group. */
struct job_waiter {
    struct waiter base; /* first: the machine knows no more */
    /* Takes over what is in `result`; must not call the machine. */
    void (*answered)(struct job_waiter *waiter, struct future_result *result);
};

/* Also a verb of one caller: pause, resume, ... */
struct job_wait {
    bj_future future;
    struct job_waiter waiter;
    struct job_request_slot slot;  /* ASK_VERB */
    bj_job *job;                   /* a reference */
    char *options;                 /* VERB_CHANGE; freed with it */
    bool linked;                   /* in the machine's list */
    struct loop_timer *escalation; /* NULL: a wait that never escalates */
};

#define JOB_ABORT_FLAGS (BJ_ABORT_FORCE | BJ_ABORT_ASYNC | BJ_ABORT_RELEASED)

/* Whether all flags are known, and none excludes another. */
static bool job_flags_fit(enum question question, int flags, int known);
/* A sentence for flags that are not as they should be. */
static struct text *job_flags_text(const char *whose, int flags, int known);

/* ---- core/src/api/notices.h ---- */

/*
 * Notices: that a job makes no progress, with the cause and the remedy, for those who wait for it
 * or watch it. What is amiss the model decides (model/progress.h); here are the sentences, and who
 * gets them. The loop's thread.
 */

/* What a list has shown of it. */
static void notice_see(bj_job *job, const struct job_row *row, int64_t now_ms);

/* From now on somebody observes it; or nobody. */
static void notice_begin(bj_job *job);
static void notice_end(bj_job *job);

/* Whether somebody would be given its notices. */
static bool notice_has_observer(const bj_job *job);

/* Reports what has changed to those who watch; `deaf_ms`: for how long QEMU has not answered. */
static void notice_judge(bj_job *job, int64_t deaf_ms);

/* Its observers have been told otherwise how it stands. */
static void notice_forget(bj_job *job);

/* What is amiss now, also if that has not lasted yet; NULL: nothing is. A reference. */
static struct text *notice_text(const bj_job *job);

/* ---- core/src/model/group_plan.h ---- */

/*
 * What becomes of a wait on several jobs (B08): whom it asks for what, and which answer is the
 * group's. Facts go in, orders come out one at a time; what an answer means and what is due then
 * are tables. No I/O, JSON, time, locks or memory of its own.
 *
 *   ready, done, any, abort   all are asked; the answer is that of the first that decides
 *   pivot                     all are asked, and held until every one could be sent; then all are
 *                             let go, and each goes its own way
 *                             or one fails before: the others are aborted, softly, and by force
 *                             where that is refused, and then its error is the answer
 *
 * A fact may be told at any time, also while an order is carried out. Orders are asked for where a
 * machine may be called: not while it answers.
 */

enum group_goal {
    GROUP_READY,
    GROUP_DONE,
    GROUP_ANY,
    GROUP_ABORT,
    GROUP_PIVOT,    /* what it begins with */
    GROUP_SWITCH,   /* it becomes this once all could be sent */
    GROUP_ROLLBACK, /* or this, if one fails before */
    GROUP_OVER
};
#define GROUP_GOALS (GROUP_OVER + 1)

enum part_stage {
    PART_NEW,
    PART_ASKED,     /* owes an answer */
    PART_HELD,      /* owes one, to a pivot that is held */
    PART_IDLE,      /* owes none, and its job goes on */
    PART_ABORTED,   /* owes one to a soft abort */
    PART_UNABORTED, /* which has come to nothing */
    PART_FORCED,    /* owes one to a forced abort */
    PART_SETTLED    /* its job is over, or is left alone */
};
#define PART_STAGES (PART_SETTLED + 1)

/* One job of the wait. Lies in its owner's memory. */
struct group_part {
    struct group_part *next;
    enum part_stage stage;
    bool can_pivot;
    bj_outcome outcome; /* as of its last answer */
};

struct group_plan {
    enum group_goal goal;
    struct group_part *first, *last;
    struct group_part *cursor;  /* nothing is due for those before it */
    size_t owed;                /* answers */
    struct group_part *decider; /* whose answer is that of the group; NULL: none yet */
    int error;                  /* the decider's, or BJ_OK */
    bool is_finished;           /* answered, or nobody listens any more */
};

enum group_act {
    GROUP_WAIT,       /* nothing is due before the next fact */
    GROUP_ASK,        /* the part's job, what the group was asked */
    GROUP_ASK_HELD,   /* the same, and it is not to be sent before GROUP_LET_GO */
    GROUP_LET_GO,     /* see machine_unhold() */
    GROUP_LEAVE,      /* see machine_leave() */
    GROUP_ABORT_SOFT, /* the part's job */
    GROUP_ABORT_FORCE,
    GROUP_FINISH /* nobody owes an answer any more; the group's is the decider's */
};
#define GROUP_ACTS (GROUP_FINISH + 1)

struct group_order {
    enum group_act act;
    struct group_part *part; /* NULL: GROUP_WAIT, GROUP_FINISH */
};

/* Both are zeroed before. */
static void group_plan_add(struct group_plan *plan, struct group_part *part);
static void group_plan_begin(struct group_plan *plan, enum group_goal goal);

/* --------------------------------------------------------------------- facts */

/* GROUP_PIVOT: its job is of a kind that has no pivot. Told before anything is asked, so that
 * nothing has to be undone. */
static void group_plan_unfit(struct group_plan *plan, struct group_part *part, bj_outcome outcome);

/* Its pivot would be sent at once, or is under way; or no more. */
static inline void group_plan_can_pivot(struct group_part *part, bool can)
{
    part->can_pivot = can;
}

/* True: it decides, so far. BJ_OUTCOME_NONE: its job goes on. */
static bool group_plan_answered(struct group_plan *plan, struct group_part *part, int error,
                         bj_outcome outcome);

/* Nobody listens any more: whoever is asked is left, and nothing finishes. */
static void group_plan_quit(struct group_plan *plan);

/* -------------------------------------------------------------------- orders */

static struct group_order group_plan_next(struct group_plan *plan);

/* The decider's; or how all ended, if they did so alike. */
static bj_outcome group_plan_outcome(const struct group_plan *plan);

/* It owes an answer, and does not only wait for others. */
static bool group_plan_is_late(const struct group_plan *plan, const struct group_part *part);

struct bj_group {
    atomic_uint refs;
    bj_ctx *ctx; /* a reference to its memory */

    /* Under the context's lock. */
    bj_job **jobs; /* references */
    size_t count;
    size_t room;
};

/* One job of a wait. */
struct part {
    struct job_waiter waiter; /* first: the machine gives it back */
    struct group_part plan;
    struct job_listener listener;
    struct group_wait *wait;
    bj_job *job; /* a reference */
};

struct group_wait {
    bj_future future;
    struct group_plan plan;
    struct waiter question;
    struct loop_task step;
    bool step_posted;
    bool listening;              /* to all jobs */
    struct future_result answer; /* the decider's */
    size_t count;
    struct part parts[];
};

/* --------------------------------------------------------------------- groups */

int bj_group_new(bj_ctx *ctx, bj_group **ret_group)
{
    if (!ctx || !ret_group)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    bj_group *group = calloc(1, sizeof *group);
    if (!group)
        return BJ_E_NOMEM;
    atomic_init(&group->refs, 1);
    group->ctx = ctx_ref(ctx);
    *ret_group = group;
    return BJ_OK;
}

bj_group *bj_group_ref(bj_group *group)
{
    if (group)
        atomic_fetch_add(&group->refs, 1);
    return group;
}

bj_group *bj_group_unref(bj_group *group)
{
    if (!group || ctx_is_forked(group->ctx) || atomic_fetch_sub(&group->refs, 1) != 1)
        return NULL;
    for (size_t i = 0; i < group->count; i++)
        bj_job_unref(group->jobs[i]);
    ctx_unref(group->ctx);
    free(group->jobs);
    free(group);
    return NULL;
}

static bool api_group__has_job(const bj_group *group, const bj_job *job)
{
    for (size_t i = 0; i < group->count; i++)
        if (group->jobs[i] == job)
            return true;
    return false;
}

static bool api_group__make_room(bj_group *group)
{
    if (group->count < group->room)
        return true;
    size_t room = group->room ? 2 * group->room : 8;
    bj_job **jobs = reallocarray(group->jobs, room, sizeof(bj_job *));
    if (!jobs)
        return false;
    group->jobs = jobs;
    group->room = room;
    return true;
}

/* Under the lock. */
static int add_job(bj_group *group, bj_job *job)
{
    if (api_group__has_job(group, job))
        return BJ_OK;
    if (!api_group__make_room(group))
        return BJ_E_NOMEM;
    group->jobs[group->count++] = bj_job_ref(job);
    return BJ_OK;
}

int bj_group_add(bj_group *group, bj_job *job)
{
    if (!group || !job)
        return BJ_E_INVAL;
    if (ctx_is_forked(group->ctx))
        return BJ_E_FORKED;
    if (job->monitor->ctx != group->ctx)
        return BJ_E_INVAL;
    ctx_lock(group->ctx);
    int r = add_job(group, job);
    ctx_unlock(group->ctx);
    return r;
}

/* ---------------------------------------------------------------------- facts */

static struct part *part_of(struct group_part *part)
{
    return part ? container_of(part, struct part, plan) : NULL;
}

static void run_step(struct loop_task *task);

/* What is posted runs after the machines have given all answers that are due now. */
static void post_step(struct group_wait *wait)
{
    if (wait->step_posted)
        return;
    wait->step.run = run_step;
    future_ref_memory(&wait->future);
    wait->step_posted = loop_post(wait->future.ctx->loop, &wait->step);
    if (!wait->step_posted)
        future_unref_memory(&wait->future); /* the starter's is left */
}

static void part_answered(struct job_waiter *waiter, struct future_result *result)
{
    struct part *part = (struct part *)waiter;
    struct group_wait *wait = part->wait;

    if (group_plan_answered(&wait->plan, &part->plan, result->error, result->outcome)) {
        future_clear_result(&wait->answer);
        wait->answer = *result;
    } else {
        future_clear_result(result);
    }
    post_step(wait);
}

static void on_job_fact(struct job_listener *listener)
{
    struct part *part = container_of(listener, struct part, listener);
    post_step(part->wait);
}

static void listen_to_all(struct group_wait *wait)
{
    wait->listening = true;
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        part->listener.notify = on_job_fact;
        job_add_listener(part->job, &part->listener);
    }
}

static void stop_listening(struct group_wait *wait)
{
    for (size_t i = 0; wait->listening && i < wait->count; i++)
        job_remove_listener(wait->parts[i].job, &wait->parts[i].listener);
    wait->listening = false;
}

static void note_who_can_pivot(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        group_plan_can_pivot(&part->plan, machine_can_pivot(&part->job->run.machine));
    }
}

/* --------------------------------------------------------------------- orders */

static void ask_part(struct part *part, struct waiter question)
{
    part->waiter = (struct job_waiter){.base = question, .answered = part_answered};
    run_ask(&part->job->run, &part->waiter.base);
    job_note_observer(part->job);
}

static void abort_part(struct part *part, int flags)
{
    ask_part(part, (struct waiter){.question = ASK_ABORT, .flags = flags});
}

static void api_group__finish(struct group_wait *wait)
{
    struct part *decider = part_of(wait->plan.decider);

    if (decider)
        wait->answer.value = job_value(bj_job_ref(decider->job));
    wait->answer.outcome = group_plan_outcome(&wait->plan);
    future_answer(&wait->future, &wait->answer);
}

static void carry_out(struct group_wait *wait, enum group_act act, struct part *part)
{
    struct waiter question = wait->question;

    switch (act) {
    case GROUP_ASK:
    case GROUP_ASK_HELD:
        question.held = act == GROUP_ASK_HELD;
        ask_part(part, question);
        break;
    case GROUP_LET_GO:
        run_unhold(&part->job->run, &part->waiter.base);
        break;
    case GROUP_LEAVE:
        run_leave(&part->job->run, &part->waiter.base);
        break;
    case GROUP_ABORT_SOFT:
        abort_part(part, BJ_ABORT_SOFT);
        break;
    case GROUP_ABORT_FORCE:
        abort_part(part, BJ_ABORT_FORCE);
        break;
    case GROUP_FINISH:
        api_group__finish(wait);
        break;
    case GROUP_WAIT:
        break;
    }
}

/* Nothing is touched after GROUP_FINISH: the answer may have freed the wait. */
static void carry_out_orders(struct group_wait *wait)
{
    struct group_order order;
    do {
        order = group_plan_next(&wait->plan);
        if (wait->plan.goal != GROUP_PIVOT)
            stop_listening(wait);
        carry_out(wait, order.act, part_of(order.part));
    } while (order.part);
}

static void run_step(struct loop_task *task)
{
    struct group_wait *wait = container_of(task, struct group_wait, step);

    wait->step_posted = false;
    if (wait->plan.goal == GROUP_PIVOT)
        note_who_can_pivot(wait);
    carry_out_orders(wait);
    future_unref_memory(&wait->future);
}

/* -------------------------------------------------------------------- the future */

static struct group_wait *api_group__wait_of(bj_future *future)
{
    return (struct group_wait *)future;
}

static void note_unfit(struct group_wait *wait, struct part *part)
{
    group_plan_unfit(&wait->plan, &part->plan, machine_outcome(&part->job->run.machine));
    wait->answer = (struct future_result){
        .error = wait->plan.error,
        .text = text_printf("job %s: a job of this type has no pivot: wait for done",
                            bj_job_id(part->job)),
    };
}

static struct part *find_unfit(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++)
        if (machine_traits(&wait->parts[i].job->run.machine)->never_ready)
            return &wait->parts[i];
    return NULL;
}

static void begin_pivot(struct group_wait *wait)
{
    struct part *unfit = find_unfit(wait);
    if (unfit) {
        note_unfit(wait, unfit);
        return;
    }
    listen_to_all(wait);
    post_step(wait); /* all may be able to pivot already */
}

static void api_group__start_wait(bj_future *future)
{
    struct group_wait *wait = api_group__wait_of(future);

    if (wait->plan.goal == GROUP_PIVOT)
        begin_pivot(wait);
    carry_out_orders(wait);
}

static void api_group__leave_wait(bj_future *future)
{
    struct group_wait *wait = api_group__wait_of(future);
    group_plan_quit(&wait->plan);
    carry_out_orders(wait);
}

static struct text *api_group__late_wait(bj_future *future)
{
    static const char *const unmet[] = {
        [GROUP_READY] = "not ready",   [GROUP_DONE] = "not over",   [GROUP_ANY] = "not over",
        [GROUP_ABORT] = "not over",    [GROUP_PIVOT] = "not ready", [GROUP_SWITCH] = "not pivoted",
        [GROUP_ROLLBACK] = "not over",
    };
    struct group_wait *wait = api_group__wait_of(future);
    const struct part *first = NULL;
    size_t late = 0;

    note_who_can_pivot(wait);
    for (size_t i = wait->count; i-- > 0;) {
        if (group_plan_is_late(&wait->plan, &wait->parts[i].plan)) {
            first = &wait->parts[i];
            late++;
        }
    }
    if (!first)
        return NULL;
    struct text *notice = notice_text(first->job);
    struct text *text =
        text_printf("%zu of %zu jobs %s within %.10g s, job %s among them; %s", late, wait->count,
                    unmet[wait->plan.goal], (double)future->timeout_ms / 1000.,
                    bj_job_id(first->job), notice ? text_str(notice) : "all go on");
    text_unref(notice);
    return text;
}

static void api_group__destroy_wait(bj_future *future)
{
    struct group_wait *wait = api_group__wait_of(future);
    for (size_t i = 0; i < wait->count; i++)
        bj_job_unref(wait->parts[i].job);
    future_clear_result(&wait->answer);
}

static const struct future_ops api_group__wait_ops = {
    .start = api_group__start_wait,
    .leave = api_group__leave_wait,
    .late = api_group__late_wait,
    .destroy = api_group__destroy_wait,
};

/* Under the lock. NULL: no memory. */
static struct group_wait *snapshot(bj_group *group)
{
    size_t size = sizeof(struct group_wait) + group->count * sizeof(struct part);
    struct group_wait *wait = (struct group_wait *)future_new(group->ctx, size, &api_group__wait_ops);
    if (!wait)
        return NULL;
    wait->count = group->count;
    for (size_t i = 0; i < wait->count; i++) {
        wait->parts[i] = (struct part){.wait = wait, .job = bj_job_ref(group->jobs[i])};
        group_plan_add(&wait->plan, &wait->parts[i].plan);
    }
    return wait;
}

static bj_future *api_group__bad_flags(bj_group *group, int flags, int known)
{
    struct text *text = job_flags_text("a group", flags, known);
    bj_future *future = future_failed(group->ctx, BJ_E_INVAL, "%s", text_str(text));
    text_unref(text);
    return future;
}

static bj_future *api_group__launch(bj_group *group, enum group_goal goal, struct waiter question,
                         int known_flags, int64_t timeout_ms)
{
    if (!group)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(group->ctx))
        return future_static(BJ_E_FORKED);
    if (!job_flags_fit(question.question, question.flags, known_flags))
        return api_group__bad_flags(group, question.flags, known_flags);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(group->ctx, BJ_E_INVAL, "a group: a timeout of %lld ms is negative",
                             (long long)timeout_ms);

    ctx_lock(group->ctx);
    struct group_wait *wait = snapshot(group);
    ctx_unlock(group->ctx);
    if (!wait)
        return future_static(BJ_E_NOMEM);
    if (wait->count == 0) {
        bj_future_unref(&wait->future);
        return future_failed(group->ctx, BJ_E_INVAL, "the group is empty: add its jobs first");
    }
    group_plan_begin(&wait->plan, goal);
    wait->question = question;
    return future_launch(&wait->future, timeout_ms, -1);
}

bj_future *bj_group_ready(bj_group *group, int64_t timeout_ms)
{
    return api_group__launch(group, GROUP_READY, (struct waiter){.question = ASK_READY}, 0, timeout_ms);
}

static struct waiter end_question(int flags)
{
    return (struct waiter){
        .question = flags & BJ_DONE_RELEASED ? ASK_RELEASED : ASK_DONE,
        .flags = flags,
    };
}

bj_future *bj_group_done(bj_group *group, int flags, int64_t timeout_ms)
{
    return api_group__launch(group, GROUP_DONE, end_question(flags), BJ_DONE_RELEASED, timeout_ms);
}

bj_future *bj_group_any(bj_group *group, int flags, int64_t timeout_ms)
{
    return api_group__launch(group, GROUP_ANY, end_question(flags), BJ_DONE_RELEASED, timeout_ms);
}

bj_future *bj_group_pivot(bj_group *group, int64_t timeout_ms)
{
    return api_group__launch(group, GROUP_PIVOT, (struct waiter){.question = ASK_PIVOT}, 0, timeout_ms);
}

bj_future *bj_group_abort(bj_group *group, int flags, int64_t timeout_ms)
{
    return api_group__launch(group, GROUP_ABORT, (struct waiter){.question = ASK_ABORT, .flags = flags},
                  JOB_ABORT_FLAGS, timeout_ms);
}
/* ---- core/src/api/job.c ---- */

/*
 * A bj_job: its memory, the facts it is fed, and what is known of it now; see job.h.
 */

/* ---- core/src/api/memo.h ---- */

/*
 * What a job is remembered by: its memo is made of what it publishes, when somebody wants it.
 */

/* The loop's thread: of a new job; of the tracker's port; of a list; it has ended, or is released.
 */
static void memo_begin(bj_job *job, bj_ctx *ctx);
static void memo_note_beginning(bj_job *job, int64_t event_us); /* it is no younger than the event */
static void memo_note(bj_job *job, unsigned facts);
static void memo_note_progress(bj_job *job);
static void memo_end(bj_job *job);

/* Any thread: NULL: it has none. A reference. */
static struct text *memo_text(bj_job *job);

/* ---- core/src/api/wiring.h ---- */

/*
 * The port of a monitor's tracker; see model/tracker.h.
 */

__extension__ static const struct tracker_port monitor_port;

/* A verb is no longer under way: it was taken back, or is answered as lost. May free the job. */
static void job_give_slot_back(struct job_request_slot *slot);

/* What the job's stall timer calls; `user` is the bj_job. */
static void job_on_stall_timer(void *user);

static bj_ctx *api_job__ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* ---------------------------------------------------------------------- facts */

static int64_t job_event_us(const bj_job *job)
{
    return job->monitor->fed == job ? job->monitor->event_us : 0;
}

/* What is done about a fact comes after it was seen. */
static int64_t job_seen_us(const bj_job *job)
{
    return job->monitor->fed == job ? job->monitor->seen_us : clock_realtime_us();
}

/* The outcome may have to wait for a reply. */
static void note_end_event(bj_job *job)
{
    ctx_lock(api_job__ctx_of(job));
    if (!job->times[BJ_MOMENT_END_EVENT])
        job->times[BJ_MOMENT_END_EVENT] = job_event_us(job);
    ctx_unlock(api_job__ctx_of(job));
}

static void job_add_listener(bj_job *job, struct job_listener *listener)
{
    listener->next = job->listeners;
    job->listeners = listener;
}

static void job_remove_listener(bj_job *job, struct job_listener *listener)
{
    struct job_listener **link = &job->listeners;
    while (*link != listener)
        link = &(*link)->next;
    *link = listener->next;
}

static void job_notify_listeners(bj_job *job)
{
    for (struct job_listener *l = job->listeners; l; l = l->next)
        l->notify(l);
}

static void job_learn_disks(bj_job *job, const char *disks)
{
    char *names = disks && !job->disks ? strdup(disks) : NULL;
    if (!names)
        return;
    size_t len = strlen(names);
    for (char *end = names; (end = strchr(end, '\n'));)
        *end++ = '\0';

    struct text *text = text_new(names, len);
    free(names);
    ctx_lock(api_job__ctx_of(job));
    job->disks = text;
    ctx_unlock(api_job__ctx_of(job));
}

static void job_hear(bj_job *job, const struct fact *fact)
{
    job->monitor->fed = job;
    job->monitor->event_us = fact->timestamp_us;
    job->monitor->seen_us = clock_realtime_us();
    job_learn_type(job, fact->type);
    if (fact->timestamp_us < job->memo.since_us)
        memo_note_beginning(job, fact->timestamp_us);
    if (fact->kind == FACT_COMPLETED)
        note_end_event(job);
    job_notify_listeners(job);
}

static void job_note_progress(bj_job *job, const bj_job_info *info)
{
    ctx_lock(api_job__ctx_of(job));
    job->last_progress.current = info->current;
    job->last_progress.total = info->total;
    job->last_progress.speed = info->speed;
    ctx_unlock(api_job__ctx_of(job));
    memo_note_progress(job);
}

static void job_see(bj_job *job, const struct job_row *row)
{
    const bj_job_info *info = &row->info;
    const struct machine_traits *traits = machine_traits(&job->run.machine);

    job_learn_type(job, info->type);
    job_learn_disks(job, row->disks);
    progress_saw(job, row);
    if (*info->status && !info->auto_dismiss && !traits->ours && !traits->undecided)
        machine_learn(&job->run.machine)->kept = true;
    job_notify_listeners(job);
}

static void job_note_start(bj_job *job, int64_t sent_us, const char *device, struct text *run_data)
{
    job->device = device ? text_new(device, strlen(device)) : NULL;
    job->run_data = text_ref(run_data);
    ctx_lock(api_job__ctx_of(job));
    job->times[BJ_MOMENT_START_SENT] = sent_us;
    ctx_unlock(api_job__ctx_of(job));
}

/* -------------------------------------------------------------------- polling */

static bool needs_polling(const bj_job *job)
{
    const struct machine *machine = &job->run.machine;
    const struct machine_traits *traits = machine_traits(machine);
    bool misses_ready =
        job->has_no_ready_event && !machine_is(machine, IS_READY) && !traits->never_ready;
    bool is_wanted =
        machine_is_awaited(machine) || job->watches || job->monitor->tracker.is_observed;
    bool misses_pause =
        job->hides_pauses && !traits->has_status && machine_awaits_movement(machine);
    return (((traits->silent || misses_ready) && is_wanted) || misses_pause) &&
           !machine_is_over(machine);
}

static void set_poll_timer(bj_job *job)
{
    loop_timer_set(job->poll_timer, (int64_t)ctx_limit(api_job__ctx_of(job), BJ_LIMIT_POLL_MS));
}

static void on_poll_timer(void *user)
{
    bj_job *job = user;
    job->polls = needs_polling(job);
    if (!job->polls)
        return;
    set_poll_timer(job);
    run_want_row(&job->run);
}

static void prepare_pivot(bj_job *job)
{
    const struct machine *machine = &job->run.machine;
    struct driver *driver = job->monitor->driver;
    bool will_pivot = machine_awaits_pivot(machine) && !machine_is(machine, IS_READY) &&
                      !machine_traits(machine)->never_ready;

    if (will_pivot && !job->complete.job && driver && run_has_id(&job->run))
        driver->ops->prepare(driver, &job->complete.request, text_str(job->id));
}

static void job_note_observer(bj_job *job)
{
    prepare_pivot(job);
    progress_note_observer(job);
    if (job->polls || !run_has_id(&job->run) || !needs_polling(job))
        return;
    if (!job->poll_timer)
        job->poll_timer = loop_timer_new(api_job__ctx_of(job)->loop, on_poll_timer, job);
    if (!job->poll_timer)
        return; /* the next one who wants it tries again */
    job->polls = true;
    set_poll_timer(job);
}

/* ---------------------------------------------------------------------- other */

static bool is_never_ready(const char *type)
{
    return *type && strcmp(type, "mirror") != 0 && strcmp(type, "commit") != 0;
}

static void set_type_traits(struct machine_traits *traits, const char *type)
{
    traits->never_ready = is_never_ready(type);
    traits->switches = strcmp(type, "mirror") == 0;
    traits->is_commit = strcmp(type, "commit") == 0;
}

static void job_learn_type(bj_job *job, const char *type)
{
    if (!*type || *text_str(job->type))
        return;
    set_type_traits(machine_learn(&job->run.machine), type);
    ctx_lock(api_job__ctx_of(job));
    job->type = text_printf("%s", type);
    ctx_unlock(api_job__ctx_of(job));
}

/* --------------------------------------------------------------------- memory */

static bj_job *job_new(bj_monitor *monitor, const char *id, const char *type)
{
    bj_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    const struct capabilities *can = &monitor->driver->capabilities;
    struct machine_traits traits = {
        .has_status = can->has_status,
        .has_graph = can->has_graph,
        .silent = can->is_silent,
        .no_repeats = can->no_repeats,
        .stall_ms = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_STALL_MS),
        .no_such_job_class = can->no_such_job_class,
        .denial = can->denial,
    };
    set_type_traits(&traits, type);
    memo_begin(job, monitor->ctx);
    atomic_init(&job->refs, 1);
    job->monitor = monitor_ref_memory(monitor);
    job->ops = monitor->driver->ops;
    job->unprepare = monitor->driver->ops->unprepare;
    job->has_no_ready_event = !can->has_ready_event;
    job->hides_pauses = can->hides_pauses;
    job->has_bare_rows = can->has_bare_rows;
    job->born = monitor->progress.questions;
    job->id = text_new(id, strlen(id));
    job->type = *type ? text_new(type, strlen(type)) : NULL;
    run_init(&job->run, &monitor->tracker, text_str(job->id), &traits);
    job->stall_timer = loop_timer_new(monitor->ctx->loop, job_on_stall_timer, job);

    if (job->id && (!*type || job->type) && job->stall_timer)
        return job;
    job_retire(job);
    bj_job_unref(job);
    return NULL;
}

static void job_retire(bj_job *job)
{
    loop_timer_free(job->stall_timer);
    loop_timer_free(job->poll_timer);
    job->stall_timer = job->poll_timer = NULL;
    job->polls = false;
}

bj_job *bj_job_ref(bj_job *job)
{
    if (job)
        atomic_fetch_add(&job->refs, 1);
    return job;
}

bj_job *bj_job_unref(bj_job *job)
{
    if (!job || ctx_is_forked(api_job__ctx_of(job)) || atomic_fetch_sub(&job->refs, 1) != 1)
        return NULL;
    machine_clear(&job->run.machine);
    job->ops->free_snapshot(job->snapshot);
    text_unref(job->remembered);
    job->unprepare(&job->complete.request);
    text_unref(job->id);
    text_unref(job->device);
    text_unref(job->run_data);
    text_unref(job->type);
    text_unref(job->text);
    text_unref(job->disks);
    text_unref(job->notice_text);
    monitor_unref_memory(job->monitor);
    free(job);
    return NULL;
}

/* ------------------------------------------------------------ what is known now */

const char *bj_job_id(bj_job *job)
{
    return job ? text_str(job->id) : "";
}

static bool job_is_usable(const bj_job *job)
{
    return job && !ctx_is_forked(api_job__ctx_of(job));
}

const char *bj_job_type(bj_job *job)
{
    if (!job_is_usable(job))
        return "";
    ctx_lock(api_job__ctx_of(job));
    const char *type = text_str(job->type);
    ctx_unlock(api_job__ctx_of(job));
    return type;
}

const char *bj_job_disk(bj_job *job, size_t index)
{
    if (!job_is_usable(job))
        return NULL;
    ctx_lock(api_job__ctx_of(job));
    const char *disk = text_str(job->disks); /* the last is followed by an empty one */
    ctx_unlock(api_job__ctx_of(job));
    for (; *disk && index > 0; index--)
        disk += strlen(disk) + 1;
    return *disk ? disk : NULL;
}

bool bj_job_is_ready(bj_job *job)
{
    if (!job_is_usable(job))
        return false;
    ctx_lock(api_job__ctx_of(job));
    bool ready = job->ready;
    ctx_unlock(api_job__ctx_of(job));
    return ready;
}

bj_outcome bj_job_outcome(bj_job *job)
{
    if (!job_is_usable(job))
        return BJ_OUTCOME_NONE;
    ctx_lock(api_job__ctx_of(job));
    bj_outcome outcome = job->outcome;
    ctx_unlock(api_job__ctx_of(job));
    return outcome;
}

const char *bj_job_text(bj_job *job)
{
    if (!job_is_usable(job))
        return "";
    ctx_lock(api_job__ctx_of(job));
    const char *text = text_str(job->text);
    ctx_unlock(api_job__ctx_of(job));
    return text;
}

int bj_job_cause(bj_job *job)
{
    if (!job)
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    ctx_lock(api_job__ctx_of(job));
    int cause = job->cause;
    ctx_unlock(api_job__ctx_of(job));
    return cause;
}

int64_t bj_job_time(bj_job *job, bj_moment moment)
{
    if (!job || (size_t)moment >= sizeof job->times / sizeof job->times[0])
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    ctx_lock(api_job__ctx_of(job));
    int64_t time_us = job->times[moment];
    ctx_unlock(api_job__ctx_of(job));
    return time_us;
}
/* ---- core/src/api/job_waits.c ---- */

/*
 * What programs await of a job: ready, done, pivot, abort, the other verbs.
 */

/* ---- core/src/base/json_text.h ---- */

/*
 * JSON that stays text where it can: callers' arguments and QEMU's replies pass through unchanged,
 * so that every number in them is exact.
 */

/* Parses it; numbers beyond 64 bits become 0. NULL: *ret_no_memory says whether that is why. */
static json_t *json_text_load(const char *text, size_t len, size_t flags, bool *ret_no_memory);

/* The length of the JSON number that `text` begins with; 0: it begins with none. */
static size_t json_text_number(const char *text, size_t len, bool *ret_integer);

/* The text of the value of `key` in the object `text`, known to be valid; without the spaces around
 * it. NULL: there is none. */
static const char *json_text_find(const char *text, size_t len, const char *key, size_t *ret_len);

/* Whether a string needs no escapes, as most names and ids: the way to complete must be short. */
static bool json_text_is_plain(const char *s);

/* A string as JSON has it, in its quotes. malloc'ed; NULL: no memory, or not UTF-8. */
static char *json_text_quote(const char *s);

/* The texts one after the other. ret_len may be NULL. malloc'ed; NULL: no memory. */
static char *json_text_join(const char *const *parts, size_t count, size_t *ret_len);

/* Parses a JSON object a caller gave, numbers beyond 64 bits included; NULL if it is none, or one
 * that QEMU would not take (a member twice, a NUL, nested too deep): then *ret_error is BJ_E_INVAL,
 * or BJ_E_NOMEM. ret_error may be NULL. */
static json_t *json_text_object(const char *text, int *ret_error);

static json_t *json_text_array(const char *text, int *ret_error); /* the same for an array */

/* `text`, a valid JSON object, with `members` ("\"a\":1,\"b\":2") put before its own. malloc'ed. */
static char *json_text_add_members(const char *text, const char *members);

/* The same for the object that is the member `key` of each object in `text`, a valid JSON array;
 * NULL: that one stays as it is. BJ_OK; BJ_E_NOMEM; BJ_E_INVAL: one has no such member, or spells
 * the key with escapes. *ret is malloc'ed. */
static int json_text_add_members_in(const char *text, const char *key, const char *const *members,
                             char **ret);

/* ---------------------------------------------------------------------- waits */

static struct job_wait *wait_of_future(bj_future *future)
{
    return (struct job_wait *)future;
}

static void on_escalation(void *user)
{
    struct job_wait *wait = user;
    if (wait->linked)
        run_escalate(&wait->job->run, &wait->waiter.base);
}

static bool arm_escalation(struct job_wait *wait)
{
    if (wait->waiter.base.force_after_ms == 0)
        return true;
    wait->escalation = loop_timer_new(wait->future.ctx->loop, on_escalation, wait);
    if (wait->escalation)
        loop_timer_set(wait->escalation, wait->waiter.base.force_after_ms);
    return wait->escalation != NULL;
}

static void disarm_escalation(struct job_wait *wait)
{
    loop_timer_free(wait->escalation);
    wait->escalation = NULL;
}

/* It is out of the machine's list. */
static void unlink_wait(struct job_wait *wait)
{
    wait->linked = false;
    disarm_escalation(wait);
}

static void answer_wait(struct job_waiter *waiter, struct future_result *result)
{
    struct job_wait *wait = container_of(waiter, struct job_wait, waiter);
    unlink_wait(wait);
    future_answer(&wait->future, result);
}

static void api_job_waits__start_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    if (!arm_escalation(wait)) {
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
        return;
    }
    bj_job *job = bj_job_ref(wait->job); /* an answer may let go of the wait */
    wait->linked = true;
    run_ask(&job->run, &wait->waiter.base);
    job_note_observer(job);
    bj_job_unref(job);
}

static void api_job_waits__leave_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    struct driver *driver = wait->job->monitor->driver;

    unlink_wait(wait);
    run_leave(&wait->job->run, &wait->waiter.base);
    if (wait->slot.job && driver && driver->ops->withdraw(driver, &wait->slot.request))
        job_give_slot_back(&wait->slot);
}

static struct text *api_job_waits__late_wait(bj_future *future)
{
    static const char *const unmet[] = {
        [ASK_READY] = "not ready",          [ASK_DONE] = "not over",
        [ASK_RELEASED] = "not released",    [ASK_PIVOT] = "not pivoted",
        [ASK_ABORT] = "not over",           [ASK_FINISH] = "not finished",
        [ASK_VERB] = "no answer from QEMU",
    };
    const struct job_wait *wait = wait_of_future(future);
    bool over = machine_is_over(&wait->job->run.machine);
    struct text *notice = over ? NULL : notice_text(wait->job);
    const char *state = over     ? "QEMU still has its nodes"
                        : notice ? text_str(notice)
                                 : "the job goes on";
    struct text *text = text_printf("job %s: %s within %.10g s; %s", text_str(wait->job->id),
                                    over ? unmet[ASK_RELEASED] : unmet[wait->waiter.base.question],
                                    (double)future->timeout_ms / 1000., state);
    text_unref(notice);
    return text;
}

static void api_job_waits__destroy_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    bj_job_unref(wait->job);
    free(wait->options);
}

static const struct future_ops api_job_waits__wait_ops = {
    .start = api_job_waits__start_wait,
    .leave = api_job_waits__leave_wait,
    .late = api_job_waits__late_wait,
    .destroy = api_job_waits__destroy_wait,
};

static bool keep_options(struct job_wait *wait)
{
    wait->options = strdup(wait->waiter.base.options);
    wait->waiter.base.options = wait->options;
    return wait->options != NULL;
}

static bj_future *launch_wait(bj_job *job, struct waiter waiter, int64_t timeout_ms)
{
    if (!job)
        return future_static(BJ_E_INVAL);
    if (!job_is_usable(job))
        return future_static(BJ_E_FORKED);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(job->monitor->ctx, BJ_E_INVAL,
                             "job %s: a timeout of %lld ms is negative", text_str(job->id),
                             (long long)timeout_ms);

    struct job_wait *wait =
        (struct job_wait *)future_new(job->monitor->ctx, sizeof *wait, &api_job_waits__wait_ops);
    if (!wait)
        return future_static(BJ_E_NOMEM);
    wait->job = bj_job_ref(job);
    wait->waiter = (struct job_waiter){.base = waiter, .answered = answer_wait};
    if (waiter.options && !keep_options(wait)) {
        bj_future_unref(&wait->future);
        return future_static(BJ_E_NOMEM);
    }
    return future_launch(&wait->future, timeout_ms, -1);
}

static bool job_flags_fit(enum question question, int flags, int known)
{
    int async = async_flag(question);
    int both = async | released_flag(question);
    return (flags & ~known) == 0 && (async == 0 || (flags & both) != both);
}

static struct text *job_flags_text(const char *whose, int flags, int known)
{
    if (flags & ~known)
        return text_printf("%s: unknown flags 0x%x", whose, (unsigned)flags);
    return text_printf("%s: ASYNC ends the wait before RELEASED begins: choose one of them", whose);
}

static bj_future *api_job_waits__bad_flags(bj_job *job, int flags, int known)
{
    if (!job)
        return future_static(BJ_E_INVAL);
    if (!job_is_usable(job))
        return future_static(BJ_E_FORKED);
    struct text *text = job_flags_text(text_str(job->id), flags, known);
    bj_future *future = future_failed(job->monitor->ctx, BJ_E_INVAL, "job %s", text_str(text));
    text_unref(text);
    return future;
}

static bj_future *launch_question(bj_job *job, struct waiter waiter, int known, int64_t timeout_ms)
{
    if (!job_flags_fit(waiter.question, waiter.flags, known))
        return api_job_waits__bad_flags(job, waiter.flags, known);
    return launch_wait(job, waiter, timeout_ms);
}

bj_future *bj_job_ready(bj_job *job, int64_t timeout_ms)
{
    return launch_wait(job, (struct waiter){.question = ASK_READY}, timeout_ms);
}

bj_future *bj_job_done(bj_job *job, int flags, int64_t timeout_ms)
{
    return launch_question(job,
                           (struct waiter){
                               .question = flags & BJ_DONE_RELEASED ? ASK_RELEASED : ASK_DONE,
                               .flags = flags,
                           },
                           BJ_DONE_RELEASED, timeout_ms);
}

bj_future *bj_job_pivot(bj_job *job, int flags, int64_t timeout_ms)
{
    return launch_question(job, (struct waiter){.question = ASK_PIVOT, .flags = flags},
                           BJ_PIVOT_ONLY_IF_READY | BJ_PIVOT_ASYNC | BJ_PIVOT_RELEASED, timeout_ms);
}

bj_future *bj_job_finish(bj_job *job, int flags, int64_t timeout_ms)
{
    return launch_question(job, (struct waiter){.question = ASK_FINISH, .flags = flags},
                           BJ_FINISH_RELEASED, timeout_ms);
}

bj_future *bj_job_abort(bj_job *job, int flags, int64_t timeout_ms)
{
    return launch_question(job, (struct waiter){.question = ASK_ABORT, .flags = flags},
                           JOB_ABORT_FLAGS, timeout_ms);
}

bj_future *bj_job_abort_escalate(bj_job *job, int64_t force_after_ms, int64_t timeout_ms)
{
    if (job && job_is_usable(job) && force_after_ms <= 0)
        return future_failed(
            job->monitor->ctx, BJ_E_INVAL,
            "job %s: escalating after %lld ms is no delay: abort with force instead",
            text_str(job->id), (long long)force_after_ms);
    return launch_wait(
        job, (struct waiter){.question = ASK_ABORT, .force_after_ms = force_after_ms}, timeout_ms);
}

static bj_future *launch_verb(bj_job *job, enum verb verb, int64_t speed, int64_t timeout_ms)
{
    return launch_wait(job, (struct waiter){.question = ASK_VERB, .verb = verb, .speed = speed},
                       timeout_ms);
}

bj_future *bj_job_pause(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_PAUSE, 0, timeout_ms);
}

bj_future *bj_job_resume(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_RESUME, 0, timeout_ms);
}

bj_future *bj_job_set_speed(bj_job *job, int64_t bytes_per_second, int64_t timeout_ms)
{
    if (job && job_is_usable(job) && bytes_per_second < 0)
        return future_failed(job->monitor->ctx, BJ_E_INVAL, "job %s: a speed of %lld is negative",
                             text_str(job->id), (long long)bytes_per_second);
    return launch_verb(job, VERB_SET_SPEED, bytes_per_second, timeout_ms);
}

bj_future *bj_job_finalize(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_FINALIZE, 0, timeout_ms);
}

bj_future *bj_job_dismiss(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_DISMISS, 0, timeout_ms);
}

/* The id is the job's: a second one would be no JSON that QEMU takes. */
static int check_options(const char *options)
{
    int error = BJ_E_INVAL;
    json_t *object = options ? json_text_object(options, &error) : NULL;
    if (object)
        error = json_object_get(object, "id") ? BJ_E_INVAL : BJ_OK;
    json_decref(object);
    return error;
}

bj_future *bj_job_change(bj_job *job, const char *options, int64_t timeout_ms)
{
    int error = job && job_is_usable(job) ? check_options(options) : BJ_OK;
    if (error == BJ_E_NOMEM)
        return future_static(error);
    if (error != BJ_OK)
        return future_failed(
            job->monitor->ctx, error,
            "job %s: the options are not a JSON object, or have an \"id\" in it: %.*s",
            text_str(job->id), options ? text_fit(options, QUOTED_MAX) : QUOTED_MAX,
            options ? options : "NULL");
    return launch_wait(
        job, (struct waiter){.question = ASK_VERB, .verb = VERB_CHANGE, .options = options},
        timeout_ms);
}
/* ---- core/src/api/job_watch.c ---- */

/*
 * A job's watches: news as records, and progress, which QEMU reports only on request.
 */

struct job_watch {
    bj_watch watch; /* first */
    struct watch_entry once[WATCH_ONCE];

    struct progress_reader progress; /* with every_ms 0 it does not read */
    bool reads_progress;             /* the loop's own */
};

static bj_job *watched_job(const bj_watch *watch)
{
    return watch->owner;
}

static struct job_watch *job_watch_of(bj_watch *watch)
{
    return (struct job_watch *)watch;
}

/* The list's reference goes. */
static void unlink_watch(bj_watch *watch)
{
    if (job_watch_of(watch)->reads_progress)
        progress_leave(watched_job(watch)->monitor, &job_watch_of(watch)->progress);
    job_watch_of(watch)->reads_progress = false;
    watch_unlink(watch, &watched_job(watch)->watches);
}

/* ----------------------------------------------------------------------- news */

static void job_push(const bj_job *job, bj_watch *watch, bj_record_kind kind,
              const struct record_refs *refs)
{
    const struct machine *machine = &job->run.machine;
    bool ended = kind == BJ_RECORD_ENDED;
    watch_push(watch,
               &(bj_record){
                   .kind = kind,
                   .error = ended ? machine_error(machine) : BJ_OK,
                   .outcome = ended ? machine_outcome(machine) : BJ_OUTCOME_NONE,
                   .timestamp_us = job_event_us(job),
                   .cause = ended ? machine_cause(machine) : BJ_OK,
                   .started = kind == BJ_RECORD_APPEARED && job->times[BJ_MOMENT_START_SENT] != 0,
                   .resumed = kind == BJ_RECORD_APPEARED && job->run.is_resumed,
                   .inferred = (kind == BJ_RECORD_APPEARED || ended) && job->run.is_inferred,
               },
               refs);
}

static void push_refs(const bj_job *job, bj_record_kind kind, const struct record_refs *refs)
{
    for (bj_watch *watch = job->watches; watch; watch = watch->next)
        job_push(job, watch, kind, refs);
}

static void job_push_all(const bj_job *job, bj_record_kind kind, struct text *text)
{
    push_refs(job, kind, &(struct record_refs){.text = text});
}

static void job_end_watches(bj_job *job)
{
    job_push_all(job, BJ_RECORD_ENDED, machine_text(&job->run.machine));
    while (job->watches) {
        bj_watch *watch = watch_ref_memory(job->watches);
        unlink_watch(watch);
        watch_end(watch, BJ_OK, NULL);
        watch_unref_memory(watch);
    }
}

static bj_record_kind job_record_of(enum report news)
{
    static const bj_record_kind kinds[] = {
        [REPORT_STATUS] = BJ_RECORD_STATUS,   [REPORT_READY] = BJ_RECORD_READY,
        [REPORT_STALLED] = BJ_RECORD_STALLED, [REPORT_RESUMED] = BJ_RECORD_RESUMED,
        [REPORT_ENDED] = BJ_RECORD_ENDED,     [REPORT_RELEASED] = BJ_RECORD_RELEASED,
    };
    return kinds[news];
}

static void job_notify_watches(bj_job *job, enum report news, const char *words)
{
    if (!job->watches)
        return;
    struct text *text = words ? text_printf("%s", words) : NULL;
    struct record_refs refs = {0};
    if (news == REPORT_STATUS)
        refs.name = text;
    else
        refs.text = text;
    push_refs(job, job_record_of(news), &refs);
    text_unref(text);
}

/* ------------------------------------------------------------------- progress */

static void api_job_watch__give_progress(struct progress_reader *reader)
{
    struct job_watch *progress = container_of(reader, struct job_watch, progress);
    const bj_job *job = watched_job(&progress->watch);

    if (!progress_is_new(job, reader))
        return;
    watch_push(&progress->watch,
               &(bj_record){
                   .kind = BJ_RECORD_PROGRESS,
                   .current = job->last_progress.current,
                   .total = job->last_progress.total,
               },
               &(struct record_refs){0});
}

static void api_job_watch__begin_progress(struct job_watch *progress)
{
    bj_monitor *monitor = watched_job(&progress->watch)->monitor;

    progress->progress.give = api_job_watch__give_progress;
    progress->reads_progress = progress_join(monitor, &progress->progress);
    if (!progress->reads_progress)
        watch_miss(&progress->watch);
}

/* -------------------------------------------------------------------- watches */

static void api_job_watch__begin_watch(bj_watch *watch)
{
    bj_job *job = watched_job(watch);
    const struct machine *machine = &job->run.machine;

    watch_link(watch, &job->watches);
    if (machine_is(machine, IS_READY))
        job_push(job, watch, BJ_RECORD_READY, &(struct record_refs){0});
    if (machine_is_stalled(machine))
        job_push(job, watch, BJ_RECORD_STALLED,
                 &(struct record_refs){.text = machine_text(machine)});
    if (job->notice != NOTICE_NONE)
        job_push(job, watch, BJ_RECORD_STALLED, &(struct record_refs){.text = job->notice_text});
    if (machine_is_over(machine)) {
        job_end_watches(job);
        return;
    }
    job_note_observer(job);
    if (job_watch_of(watch)->progress.every_ms > 0)
        api_job_watch__begin_progress(job_watch_of(watch));
}

static void disown_job(void *owner)
{
    bj_job_unref(owner);
}

int bj_job_watch(bj_job *job, int64_t progress_ms, bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = api_job_watch__begin_watch,
        .leave = unlink_watch,
        .disown = disown_job,
    };
    if (!job || !ret_watch || progress_ms < 0)
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    struct job_watch *watch =
        (struct job_watch *)watch_new(job->monitor->ctx, sizeof *watch, &ops, bj_job_ref(job));
    if (!watch)
        return BJ_E_NOMEM;
    watch->progress.every_ms = progress_ms;
    watch->watch.once = watch->once;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}
/* ---- core/src/api/list.c ---- */

/*
 * QEMU's list of jobs, as programs ask for it: all rows, or that of one job.
 */

/* ------------------------------------------------------------------- all jobs */

static int send_list(struct request *request, struct driver *driver)
{
    return driver->ops->query(driver, &request->driver_request, false);
}

/* Answers with the first `count` rows of the reply. */
static void answer_list(struct request *request, struct driver_reply *reply, size_t count)
{
    struct job_list *list = reply->list;
    reply->list = NULL;

    struct job_list rest = {.count = list->count - count,
                            .rows = list->rows ? list->rows + count : NULL};
    job_list_free_rows(&rest);
    list->count = count;
    future_answer(&request->future, &(struct future_result){.value = job_list_value(list)});
}

static void list_replied(struct request *request, struct driver_reply *reply)
{
    size_t limit = (size_t)ctx_limit(request->monitor->ctx, BJ_LIMIT_JOBS);
    answer_list(request, reply, reply->list->count < limit ? reply->list->count : limit);
}

bj_future *bj_monitor_list(bj_monitor *monitor, int64_t timeout_ms)
{
    static const struct request_kind kind = {.send = send_list, .replied = list_replied};
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    return request ? future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS) : failed;
}

/* -------------------------------------------------------------------- one job */

static int send_query(struct request *request, struct driver *driver)
{
    request->had_id = run_has_id(&request->job->run);
    return driver->ops->query(driver, &request->driver_request, false);
}

/* Whose id may be another run's by now, or was already, has no row. */
static void query_replied(struct request *request, struct driver_reply *reply)
{
    const char *id = text_str(request->job->id);
    bool has_id = request->had_id && run_has_id(&request->job->run);
    const struct job_row *row = has_id ? job_list_find(reply->list, id) : NULL;
    if (!row) {
        if (has_id && !reply->list->is_cut)
            run_absent(&request->job->run); /* an event of its end came before this reply */
        future_fail(&request->future, BJ_E_NO_JOB, "job %s is gone: %s", id,
                    request->job->outcome == BJ_OUTCOME_NONE
                        ? "it is no longer listed"
                        : bj_outcome_name(request->job->outcome));
        return;
    }
    struct job_row first = reply->list->rows[0];
    size_t index = (size_t)(row - reply->list->rows);
    reply->list->rows[0] = *row;
    reply->list->rows[index] = first;
    answer_list(request, reply, 1);
}

bj_future *bj_job_query(bj_job *job, int64_t timeout_ms)
{
    static const struct request_kind kind = {.send = send_query, .replied = query_replied};

    if (!job)
        return future_static(BJ_E_INVAL);
    bj_future *failed;
    struct request *request = request_new(job->monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    request->job = bj_job_ref(job);
    return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}
/* ---- core/src/api/memo.c ---- */

/* ---- core/src/api/memo_text.h ---- */

/*
 * Memos as text: what a program keeps of a job for its next life. Any thread.
 */

/* All strings are the caller's, or lie in `root`. */
struct memo {
    const char *id, *type; /* the type: "" if not known */
    int64_t since_us;      /* when the run became known */
    uint64_t number;       /* tells runs of one id apart */
    int64_t changed_us;    /* when it was so; more in each memo of the run */
    unsigned facts;        /* enum memory_fact */
    int64_t current, total;
    struct identity peer;
    int64_t start_us;              /* when its start was sent; 0: not by us */
    const char *device, *run_data; /* what the driver wants to know of the run; NULL: nothing */
    json_t *graph;                 /* the driver's snapshot; NULL: none */
    json_t *root;                  /* of memo_read() */
};

/* The length; 0: it has none, as it is too long, or for lack of memory. What may be missing is left
 * out where it does not fit: the graph first. */
static size_t memo_write(const struct memo *memo, char text[BJ_MEMO_SIZE]);

/* BJ_OK; then memo_clear(). BJ_E_INVAL, BJ_E_NOMEM: *ret_why says why, and is static. */
static int memo_read(const char *text, struct memo *ret, const char **ret_why);
static void memo_clear(struct memo *memo);

/* Progress alone makes a new memo worth telling of when that much of the whole was done. */
#define PROGRESS_SHARE 8

static bj_ctx *api_memo__ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* -------------------------------------------------------------------- changes */

static void memo_begin(bj_job *job, bj_ctx *ctx)
{
    job->memo.since_us = job->memo.changed_us = clock_realtime_us();
    job->memo.number = ctx->job_id_prefix + ++ctx->runs;
    job->last_progress.current = job->last_progress.total = -1;
}

static void memo_note_beginning(bj_job *job, int64_t event_us)
{
    if (event_us <= 0)
        return; /* QEMU gave no time */
    ctx_lock(api_memo__ctx_of(job));
    job->memo.since_us = event_us;
    ctx_unlock(api_memo__ctx_of(job));
}

/* The clock may be set back. */
static int64_t later_than(int64_t before_us)
{
    int64_t now_us = clock_realtime_us();
    return now_us > before_us ? now_us : before_us + 1;
}

static void change(bj_job *job, unsigned facts)
{
    ctx_lock(api_memo__ctx_of(job));
    job->memo.facts = facts;
    job->memo.changed_us = later_than(job->memo.changed_us);
    job->memo.told = job->last_progress.current;
    ctx_unlock(api_memo__ctx_of(job));
    watch_jobs_remember(job);
}

static void memo_note(bj_job *job, unsigned facts)
{
    change(job, facts);
}

static void memo_note_progress(bj_job *job)
{
    int64_t done = job->last_progress.current - job->memo.told;
    bool is_first = job->memo.told < 0 && job->last_progress.total > 0;

    if (is_first || (done > 0 && done >= job->last_progress.total / PROGRESS_SHARE))
        change(job, job->memo.facts);
}

/* Where only the connection is over the job may go on, or wait for its dismissal. */
static bool is_over_in_qemu(const bj_job *job)
{
    const struct machine *machine = &job->run.machine;
    bool is_lost = machine_outcome(machine) == BJ_OUTCOME_LOST;
    bool is_ours = machine_traits(machine)->ours;
    enum link link = job->monitor->tracker.link;

    if (link == LINK_UP && machine_is(machine, IS_RELEASED))
        return true;
    if (link == LINK_CLOSING && machine_is(machine, IS_RELEASED))
        return !is_lost;
    return is_lost ? link == LINK_UP : !is_ours;
}

static void memo_end(bj_job *job)
{
    bool is_over = is_over_in_qemu(job);

    ctx_lock(api_memo__ctx_of(job));
    job->memo.is_over |= is_over;
    ctx_unlock(api_memo__ctx_of(job));
}

/* ----------------------------------------------------------------- what is said */

static const char *str_or_null(const struct text *text)
{
    return text ? text_str(text) : NULL;
}

/* Under the lock. What it points to stays as long as the job. */
static struct memo memo_of(const bj_job *job, const struct driver_identity *identity)
{
    return (struct memo){
        .id = text_str(job->id),
        .type = text_str(job->type),
        .since_us = job->memo.since_us,
        .number = job->memo.number,
        .changed_us = job->memo.changed_us,
        .facts = job->memo.facts,
        .current = job->last_progress.current,
        .total = job->last_progress.total,
        .peer = {identity->boot, identity->process, text_str(job->monitor->version),
                 identity->socket},
        .start_us = job->times[BJ_MOMENT_START_SENT],
        .device = str_or_null(job->device),
        .run_data = str_or_null(job->run_data),
    };
}

static size_t write_memo(bj_job *job, char text[BJ_MEMO_SIZE])
{
    ctx_lock(api_memo__ctx_of(job));
    struct driver_identity identity = job->monitor->identity;
    struct memo memo = memo_of(job, &identity);
    bool is_over = job->memo.is_over;
    struct driver_snapshot *snapshot =
        job->ops->hold_snapshot ? job->ops->hold_snapshot(job->snapshot) : NULL;
    ctx_unlock(api_memo__ctx_of(job));

    memo.graph = snapshot ? job->ops->write_snapshot(snapshot) : NULL;
    text[0] = '\0';
    size_t length = is_over ? 0 : memo_write(&memo, text);
    json_decref(memo.graph);
    if (snapshot)
        job->ops->free_snapshot(snapshot);
    return length;
}

static struct text *memo_text(bj_job *job)
{
    char text[BJ_MEMO_SIZE];
    size_t length = write_memo(job, text);
    return length > 0 ? text_new(text, length) : NULL;
}

int bj_job_memo(bj_job *job, char *buffer, size_t size)
{
    char text[BJ_MEMO_SIZE];

    if (!job || (!buffer && size > 0))
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    size_t length = write_memo(job, text);
    if (size > 0 && length >= size)
        buffer[0] = '\0'; /* a part of it is worth nothing */
    else if (size > 0)
        memcpy(buffer, text, length + 1);
    return (int)length;
}

int bj_memo_check(const char *memo, const char **ret_why)
{
    struct memo read;
    const char *why = "it is NULL";
    int r = memo ? memo_read(memo, &read, &why) : BJ_E_INVAL;

    if (r == BJ_OK)
        memo_clear(&read);
    if (ret_why)
        *ret_why = r == BJ_OK ? "" : why;
    return r;
}
#undef PROGRESS_SHARE
/* ---- core/src/api/memo_text.c ---- */

/* "bjm1." and a checksum of what follows, an object in JSON. */
#define PREFIX "bjm"
#define VERSION "1."
#define SUM_DIGITS 16
#define HEAD_LENGTH (sizeof PREFIX VERSION - 1 + SUM_DIGITS)

/* FNV-1a: against accidents. Who makes memos up can make any. */
static uint64_t sum_of(const char *text)
{
    uint64_t sum = 0xcbf29ce484222325;
    for (; *text; text++)
        sum = (sum ^ (unsigned char)*text) * 0x100000001b3;
    return sum;
}

/* -------------------------------------------------------------------- writing */

static json_t *object_of(const struct memo *memo)
{
    char number[SUM_DIGITS + 1];

    snprintf(number, sizeof number, "%016" PRIx64, memo->number);
    return json_pack("{ss,ss,s[IsI],si,s[II],s[ssss],sI}", "id", memo->id, "type", memo->type,
                     "run", (json_int_t)memo->since_us, number, (json_int_t)memo->changed_us,
                     "facts", (int)memo->facts, "at", (json_int_t)memo->current,
                     (json_int_t)memo->total, "peer", memo->peer.boot, memo->peer.process,
                     memo->peer.version, memo->peer.socket, "start", (json_int_t)memo->start_us);
}

/* 0: it does not fit, or there is no memory. */
static size_t write_object(const json_t *object, char *text)
{
    char *json = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    size_t length = json ? HEAD_LENGTH + strlen(json) : 0;

    if (length >= BJ_MEMO_SIZE)
        length = 0;
    if (length > 0)
        snprintf(text, BJ_MEMO_SIZE, PREFIX VERSION "%016" PRIx64 "%s", sum_of(json), json);
    free(json);
    return length;
}

static size_t memo_write(const struct memo *memo, char text[BJ_MEMO_SIZE])
{
    static const char *const may_be_missing[] = {"graph", "device", "data"};
    json_t *object = object_of(memo);

    if (object && memo->graph)
        json_object_set(object, "graph", memo->graph);
    if (object && memo->device)
        json_object_set_new(object, "device", json_string(memo->device));
    if (object && memo->run_data)
        json_object_set_new(object, "data", json_string(memo->run_data));

    size_t length = object ? write_object(object, text) : 0;
    for (size_t i = 0; object && length == 0 && i < 3; i++)
        if (json_object_del(object, may_be_missing[i]) == 0)
            length = write_object(object, text);
    json_decref(object);
    if (length == 0)
        text[0] = '\0';
    return length;
}

/* -------------------------------------------------------------------- reading */

static bool read_number(const char *digits, uint64_t *ret)
{
    char *end;
    *ret = strtoull(digits, &end, 16);
    return strlen(digits) == SUM_DIGITS && strspn(digits, "0123456789abcdef") == SUM_DIGITS;
}

static bool read_object(json_t *object, struct memo *ret)
{
    json_int_t since, changed, current, total, start;
    const char *number;
    int facts;

    *ret = (struct memo){.root = object};
    if (json_unpack(object, "{ss,ss,s[IsI!],si,s[II!],s[ssss!],sI,s?s,s?s,s?o!}", "id", &ret->id,
                    "type", &ret->type, "run", &since, &number, &changed, "facts", &facts, "at",
                    &current, &total, "peer", &ret->peer.boot, &ret->peer.process,
                    &ret->peer.version, &ret->peer.socket, "start", &start, "device", &ret->device,
                    "data", &ret->run_data, "graph", &ret->graph) != 0)
        return false;
    ret->since_us = since;
    ret->changed_us = changed;
    ret->facts = (unsigned)facts;
    ret->current = current;
    ret->total = total;
    ret->start_us = start;
    return read_number(number, &ret->number) && *ret->id && since > 0 && changed > 0 &&
           current >= -1 && total >= -1 && start >= 0 && !(ret->facts & ~(unsigned)MEMORY_ALL);
}

static const char *check_head(const char *text)
{
    char sum[SUM_DIGITS + 1];

    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0)
        return "it is not a memo of this library";
    if (strncmp(text + strlen(PREFIX), VERSION, strlen(VERSION)) != 0)
        return "it was made by another version of this library, which this one can't read";
    if (strnlen(text, BJ_MEMO_SIZE) == BJ_MEMO_SIZE)
        return "it is longer than a memo can be";
    if (strlen(text) < HEAD_LENGTH)
        return "it is cut short";
    snprintf(sum, sizeof sum, "%016" PRIx64, sum_of(text + HEAD_LENGTH));
    return memcmp(text + HEAD_LENGTH - SUM_DIGITS, sum, SUM_DIGITS) == 0
               ? NULL
               : "it was cut or changed: its checksum differs";
}

static int memo_read(const char *text, struct memo *ret, const char **ret_why)
{
    *ret_why = check_head(text);
    if (*ret_why)
        return BJ_E_INVAL;

    const char *json = text + HEAD_LENGTH;
    bool no_memory = false;
    json_t *object = json_text_load(json, strlen(json), JSON_REJECT_DUPLICATES, &no_memory);
    errno = 0; /* nothing else tells no memory from no sense */
    if (object && read_object(object, ret))
        return BJ_OK;
    json_decref(object);
    if (no_memory || errno == ENOMEM) {
        *ret_why = "it can't be read for lack of memory";
        return BJ_E_NOMEM;
    }
    *ret_why = "its checksum is right, but it makes no sense: this library has not made it";
    return BJ_E_INVAL;
}

static void memo_clear(struct memo *memo)
{
    json_decref(memo->root);
    memo->root = NULL;
}
#undef PREFIX
#undef VERSION
#undef SUM_DIGITS
#undef HEAD_LENGTH
/* ---- core/src/api/monitor.c ---- */

/*
 * Monitors: connecting and ending, the upcalls of the driver, what is seen from outside.
 */

/* ---- core/src/api/open_driver.h ---- */

/*
 * Which driver an address is for.
 */

/* Starts connecting; takes over what is in `address`, which peer->uri says. NULL: no memory. */
static struct driver *driver_open(bj_ctx *ctx, const struct driver_peer *peer, struct address *address,
                           const struct driver_sink *sink, void *user);

/* ---- core/src/api/reconnect.h ---- */

/*
 * A monitor whose connection has ended and is being made again (B45, B46). The loop's thread.
 */

struct reconnect;

/* The connection has ended: tries until the monitor's time is over. False: no memory. */
static bool reconnect_begin(bj_monitor *monitor);

/* An attempt has failed, and another would be in vain if what is sought is no more; one has
 * succeeded, with this driver, and it is over. */
static bool reconnect_is_in_vain(const bj_monitor *monitor);
/* One waits until what is sought is started again, which has no other limit than the monitor's; and
 * nobody wants that any more. */
static void reconnect_waits(bj_monitor *monitor);
static void reconnect_is_unwanted(bj_monitor *monitor);
static void reconnect_failed(bj_monitor *monitor, struct text *why, bool in_vain);
static struct driver *reconnect_done(bj_monitor *monitor);

static void reconnect_free(struct reconnect *reconnect); /* gives up; takes NULL */

/* --------------------------------------------------------------------- memory */

static bj_monitor *monitor_ref_memory(bj_monitor *monitor)
{
    atomic_fetch_add(&monitor->refs, 1);
    return monitor;
}

static void monitor_unref_memory(bj_monitor *monitor)
{
    if (atomic_fetch_sub(&monitor->refs, 1) != 1)
        return;
    text_unref(monitor->uri);
    text_unref(monitor->name);
    text_unref(monitor->label);
    for (int i = 0; i < VERSIONS_MAX; i++)
        text_unref(monitor->versions[i]);
    text_unref(monitor->over_text);
    text_unref(monitor->away_text);
    if (monitor->legacy)
        monitor->legacy->free(monitor->legacy);
    ctx_unref(monitor->ctx);
    free(monitor);
}

bj_monitor *bj_monitor_ref(bj_monitor *monitor)
{
    if (monitor)
        atomic_fetch_add(&monitor->handles, 1);
    return monitor;
}

bj_monitor *bj_monitor_unref(bj_monitor *monitor)
{
    if (!monitor || ctx_is_forked(monitor->ctx) || atomic_fetch_sub(&monitor->handles, 1) != 1)
        return NULL;
    bj_monitor_close(monitor);
    monitor_unref_memory(monitor);
    return NULL;
}

/* -------------------------------------------------------------------- upcalls */

static bool inherit(bj_monitor *monitor)
{
    struct driver *driver = monitor->driver;
    struct driver_legacy *legacy = monitor->legacy;

    monitor->legacy = NULL;
    return !driver->ops->inherit || driver->ops->inherit(driver, legacy);
}

static void api_monitor__come_back(bj_monitor *monitor, bool is_another_version)
{
    const struct driver *driver = monitor->driver;
    bool is_another_process =
        driver->peer != 0 && monitor->peer != 0 && driver->peer != monitor->peer;

    is_another_process |= !inherit(monitor);
    monitor->peer = driver->peer;
    tracker_up(&monitor->tracker, driver->capabilities.has_status,
               is_another_process || is_another_version ? OTHER_QEMU : SAME_QEMU);
}

static void monitor_is_back(bj_monitor *monitor)
{
    monitor_notify_watches(monitor, BJ_RECORD_RECONNECTED, BJ_OK, NULL);
}

/* Under the lock: whether it is another one than before. All that there were are kept, as callers
 * have pointers to them; after so many the display stays as it is. */
static bool set_version(bj_monitor *monitor, struct text *version)
{
    const struct text *before = monitor->version;
    const char *now = text_str(version);

    for (int i = 0; i < VERSIONS_MAX && monitor->version == before; i++) {
        if (!monitor->versions[i])
            monitor->versions[i] = text_ref(version);
        if (strcmp(text_str(monitor->versions[i]), now) == 0)
            monitor->version = monitor->versions[i];
    }
    return before && strcmp(text_str(before), now) != 0;
}

static void on_up(void *user, struct text *version)
{
    bj_monitor *monitor = user;
    bool was_away = monitor->state == MONITOR_AWAY;

    ctx_lock(monitor->ctx);
    if (was_away)
        monitor->driver = reconnect_done(monitor);
    monitor->state = MONITOR_OPEN;
    bool is_another_version = set_version(monitor, version);
    monitor->identity = monitor->driver->identity;
    ctx_unlock(monitor->ctx);
    if (was_away) {
        api_monitor__come_back(monitor, is_another_version);
        watch_jobs_up(monitor);
        return;
    }

    await_free(monitor->awaiting);
    monitor->awaiting = NULL;
    monitor->peer = monitor->driver->peer;
    tracker_up(&monitor->tracker, monitor->driver->capabilities.has_status, FIRST_TIME);
    bj_future *connect = monitor->connect;
    monitor->connect = NULL;
    if (connect)
        future_answer(connect,
                      &(struct future_result){.value = monitor_value(bj_monitor_ref(monitor))});
}

/* There may be thousands a second: they are counted, and that is all. */
static void note_io_error(bj_monitor *monitor, const struct fact *fact)
{
    struct run *run = tracker_find(&monitor->tracker, fact->id);
    if (run)
        progress_io_error(&job_of(run)->progress, fact->writing);
}

static void on_fact(void *user, const struct fact *fact)
{
    bj_monitor *monitor = user;
    if (fact->kind == FACT_IO_ERROR) {
        note_io_error(monitor, fact);
        return;
    }
    tracker_fact(&monitor->tracker, fact);
    monitor->fed = NULL;
}

/* Its row is kept however long the list is. */
static bool wants_row(void *user, const char *id)
{
    const bj_monitor *monitor = user;
    return tracker_wants_row(&monitor->tracker, id);
}

/* --------------------------------------------------------------------- ending */

static void leave_ctx(bj_monitor *monitor)
{
    monitor->in_ctx = false;
    ctx_leave(monitor->ctx, &monitor->member);
    monitor_unref_memory(monitor);
}

/* Nobody hangs (B45): whoever waits for anything here hears why it will not come. */
static void answer_everyone(bj_monitor *monitor, int error, struct text *text, bool lingers)
{
    bj_future *connect = monitor->connect;

    monitor->connect = NULL;
    if (connect)
        future_answer(connect, &(struct future_result){.error = error, .text = text_ref(text)});
    monitor->ending = text;
    if (lingers)
        tracker_close(&monitor->tracker, text_str(text));
    else
        tracker_over(&monitor->tracker, error, text_str(text));
    monitor->ending = NULL;
    monitor_end_watches(monitor, error, text);
    monitor_answer_closed(monitor, error, text);
}

/* Under the lock. */
static void set_over(bj_monitor *monitor, int error, struct text *text)
{
    monitor->state = MONITOR_OVER;
    monitor->over_error = error;
    monitor->over_text = text_ref(text);
}

/* The driver is gone or about to go. */
static void api_monitor__end(bj_monitor *monitor, int error, struct text *text)
{
    ctx_lock(monitor->ctx);
    bool was_over = monitor->state == MONITOR_OVER;
    if (!was_over)
        set_over(monitor, error, text);
    monitor->driver = NULL;
    ctx_unlock(monitor->ctx);

    await_free(monitor->awaiting);
    monitor->awaiting = NULL;
    reconnect_free(monitor->reconnect);
    monitor->reconnect = NULL;
    loop_timer_free(monitor->linger);
    loop_timer_free(monitor->seek_timer);
    progress_end(monitor);
    monitor->linger = monitor->seek_timer = NULL;
    monitor->lingering = false;
    if (was_over)
        tracker_over(&monitor->tracker, error, text_str(text)); /* for what it lingered for */
    else
        answer_everyone(monitor, error, text, false);
    trace_end(monitor, error, text);
    text_unref(text);
    leave_ctx(monitor);
}

/* They have numbers of that connection. */
static void unprepare_all(const bj_monitor *monitor)
{
    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        job_of(run)->unprepare(&job_of(run)->complete.request);
}

static bool go_away(bj_monitor *monitor, struct text *text)
{
    if (!reconnect_begin(monitor))
        return false;
    text_unref(monitor->away_text);
    monitor->away_text = text_ref(text);
    monitor->legacy = monitor->driver->legacy;
    monitor->driver->legacy = NULL;
    bool is_gone = monitor->driver->is_gone;
    ctx_lock(monitor->ctx);
    monitor->state = MONITOR_AWAY;
    monitor->driver = NULL;
    ctx_unlock(monitor->ctx);

    /* That it was coming back has not been reported yet. */
    bool was_back = !monitor->tracker.is_returning;
    unprepare_all(monitor);
    monitor->ending = text;
    tracker_away(&monitor->tracker);
    monitor->ending = NULL;
    if (was_back)
        monitor_notify_watches(monitor, BJ_RECORD_DISCONNECTED, BJ_E_DISCONNECTED, text);
    if (is_gone)
        tracker_peer_is_gone(&monitor->tracker, text_str(text));
    return true;
}

static bool is_closing(bj_monitor *monitor)
{
    ctx_lock(monitor->ctx);
    bool closing = monitor->closing;
    ctx_unlock(monitor->ctx);
    return closing;
}

/* A peer that breaks the protocol would do so again. */
static bool may_come_back(bj_monitor *monitor, int error)
{
    return error == BJ_E_DISCONNECTED && monitor->state == MONITOR_OPEN && !is_closing(monitor) &&
           (!monitor->driver->is_gone || monitor->driver->may_return) &&
           monitor_reconnect_ms(monitor) != 0;
}

static void on_waits(void *user, struct text *why)
{
    bj_monitor *monitor = user;
    reconnect_waits(monitor);
    tracker_peer_is_gone(&monitor->tracker, text_str(why));
    text_unref(why);
}

/* A peer that hangs up before the negotiation is over may be about to end, or to begin. */
static bool is_to_be_awaited(const bj_monitor *monitor, int error)
{
    return monitor->driver->is_absent || error == BJ_E_DISCONNECTED;
}

static void monitor_not_there(bj_monitor *monitor, int error, struct text *text)
{
    monitor->driver = NULL; /* nobody else looks at it before it is up */
    if (!await_again(monitor->awaiting, &text))
        api_monitor__end(monitor, error, text);
}

static void on_down(void *user, int error, struct text *text)
{
    bj_monitor *monitor = user;

    if (monitor->state == MONITOR_AWAY) {
        reconnect_failed(monitor, text, reconnect_is_in_vain(monitor));
    } else if (monitor->awaiting && is_to_be_awaited(monitor, error)) {
        monitor_not_there(monitor, error, text);
    } else if (may_come_back(monitor, error) && go_away(monitor, text)) {
        text_unref(text);
    } else {
        api_monitor__end(monitor, error, text);
    }
}

static void monitor_shut(bj_monitor *monitor, int error, struct text *text)
{
    if (!monitor->in_ctx) {
        text_unref(text);
        return;
    }
    if (monitor->driver)
        monitor->driver->ops->close(monitor->driver, error, text_str(text));
    api_monitor__end(monitor, error, text);
}

/* ------------------------------------------------------------------ lingering */

/* A job of ours that is over but not dismissed would stay in QEMU for good (B40), and QEMU drops
 * what a client has sent when it hangs up. Nor does it like to have a reply left over: the next
 * client gets it, or before 6.0 it may crash. So a monitor that is closed answers everyone at once,
 * and its connection stays for as long as QEMU takes for the dismissals and for all replies, or
 * this long. */
#define LINGER_MS 1000

static void finish_lingering(void *user)
{
    bj_monitor *monitor = user;
    monitor_shut(monitor, BJ_E_CLOSED, text_ref(monitor->over_text));
}

static void run_finish(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, finish_task);
    finish_lingering(monitor);
    monitor_unref_memory(monitor);
}

static bool is_owed(const bj_monitor *monitor)
{
    struct driver *driver = monitor->driver;
    return driver->ops->is_owed && driver->ops->is_owed(driver);
}

static void monitor_finish_if_settled(bj_monitor *monitor)
{
    if (!monitor->lingering || monitor->tracker.runs || is_owed(monitor))
        return;
    monitor->lingering = false;
    monitor->finish_task.run = run_finish; /* later: the driver is still reading */
    monitor_ref_memory(monitor);
    if (!loop_post(monitor->ctx->loop, &monitor->finish_task))
        monitor_unref_memory(monitor);
}

static void monitor_close_gently(bj_monitor *monitor, struct text *text)
{
    struct driver *driver = monitor->driver;

    if (monitor->state == MONITOR_OPEN &&
        (tracker_owes_dismissals(&monitor->tracker) || is_owed(monitor)))
        monitor->linger = loop_timer_new(monitor->ctx->loop, finish_lingering, monitor);
    if (!monitor->linger) {
        monitor_shut(monitor, BJ_E_CLOSED, text);
        return;
    }
    ctx_lock(monitor->ctx);
    set_over(monitor, BJ_E_CLOSED, text);
    ctx_unlock(monitor->ctx);

    monitor->lingering = true;
    answer_everyone(monitor, BJ_E_CLOSED, text, true);
    driver->ops->abandon(driver, BJ_E_CLOSED, text_str(text));
    text_unref(text);
    loop_timer_set(monitor->linger, LINGER_MS);
}

static bj_monitor *member_monitor(struct ctx_member *member)
{
    return container_of(member, bj_monitor, member);
}

static void close_member(struct ctx_member *member, struct text *why)
{
    bj_monitor *monitor = member_monitor(member);
    if (monitor->state == MONITOR_OVER)
        text_unref(why); /* it lingers */
    else
        monitor_close_gently(monitor, why);
}

static void shut_member(struct ctx_member *member, struct text *why)
{
    monitor_shut(member_monitor(member), BJ_E_CLOSED, why);
}

static void monitor_enter_ctx(bj_monitor *monitor)
{
    static const struct ctx_member_ops ops = {.close = close_member, .shut = shut_member};

    if (monitor->in_ctx)
        return;
    monitor->in_ctx = true;
    monitor->member.ops = &ops;
    ctx_enter(monitor->ctx, &monitor_ref_memory(monitor)->member);
}

static void on_settled(void *user)
{
    monitor_finish_if_settled(user);
}

static void run_close(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, close_task);
    if (monitor->in_ctx && monitor->state != MONITOR_OVER)
        monitor_close_gently(monitor,
                             text_printf("the monitor %s was closed", monitor_label(monitor)));
    monitor_unref_memory(monitor);
}

int bj_monitor_close(bj_monitor *monitor)
{
    if (!monitor)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;

    ctx_lock(monitor->ctx);
    bool post = !monitor->closing && monitor->state != MONITOR_OVER;
    monitor->closing = true;
    if (post) {
        monitor->close_task.run = run_close;
        monitor_ref_memory(monitor);
        if (!loop_post(monitor->ctx->loop, &monitor->close_task))
            atomic_fetch_sub(&monitor->refs, 1); /* the caller's is left */
    }
    ctx_unlock(monitor->ctx);
    return BJ_OK;
}

static int monitor_check_over(bj_monitor *monitor, struct text **ret_text)
{
    ctx_lock(monitor->ctx);
    int r = monitor->state == MONITOR_OVER ? monitor->over_error : BJ_OK;
    *ret_text = r == BJ_OK ? NULL : text_ref(monitor->over_text);
    ctx_unlock(monitor->ctx);
    return r;
}

static int monitor_check_open(bj_monitor *monitor, struct text **ret_text)
{
    int r = monitor_check_over(monitor, ret_text);
    if (r != BJ_OK || monitor->state != MONITOR_AWAY)
        return r;
    *ret_text = text_printf("%s: the connection has ended and is being made again: ask when it is",
                            monitor_label(monitor));
    return BJ_E_DISCONNECTED;
}

static bj_future *monitor_refuse(bj_monitor *monitor, int64_t timeout_ms)
{
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(monitor->ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative",
                             monitor_label(monitor), (long long)timeout_ms);
    return NULL;
}

static struct text *monitor_late_text(const bj_monitor *monitor, const char *command, int64_t timeout_ms)
{
    return text_printf(
        "no answer from %s%s%s within %.10g s: QEMU may be stopped or busy; what it was "
        "told it may still do",
        monitor_label(monitor), command ? " to " : "", command ? command : "",
        (double)timeout_ms / 1000.);
}

/* ----------------------------------------------------------------- connecting */

static const struct driver_sink sink = {
    .tap = trace_tap,
    .up = on_up,
    .waits = on_waits,
    .fact = on_fact,
    .wants_row = wants_row,
    .wants_events = monitor_wants_events,
    .event = monitor_on_event,
    .settled = on_settled,
    .down = on_down,
};

static bool monitor_open(bj_monitor *monitor, struct address *address, bj_future *connect)
{
    const struct driver_peer peer = {
        .uri = text_str(monitor->uri),
        .label = monitor_label(monitor),
        .out_of_band = monitor->out_of_band,
    };

    monitor->driver = driver_open(monitor->ctx, &peer, address, &sink, monitor);
    if (!monitor->driver)
        return false;
    monitor_enter_ctx(monitor);
    monitor->connect = connect;
    return true;
}

static struct driver *monitor_dial(bj_monitor *monitor, struct text **ret_why)
{
    const char *uri = text_str(monitor->uri);
    struct address address;

    if (address_parse(uri, &address, ret_why) != BJ_OK)
        return NULL;
    const struct driver_peer peer = {
        .uri = uri,
        .label = monitor_label(monitor),
        .before = monitor->legacy,
        .out_of_band = monitor->out_of_band,
    };
    struct driver *driver = driver_open(monitor->ctx, &peer, &address, &sink, monitor);
    if (!driver)
        *ret_why = text_printf("%s", bj_error_text(BJ_E_NOMEM));
    return driver;
}

static void monitor_open_again(bj_monitor *monitor)
{
    struct text *why = NULL;

    monitor->driver = monitor_dial(monitor, &why);
    if (!monitor->driver)
        monitor_not_there(monitor, BJ_E_CONNECT, why);
}

static int64_t monitor_reconnect_ms(bj_monitor *monitor)
{
    ctx_lock(monitor->ctx);
    int64_t ms = monitor->reconnect_ms;
    ctx_unlock(monitor->ctx);
    return ms;
}

static void run_unwant(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, unwant_task);
    ctx_lock(monitor->ctx);
    monitor->unwanting = false;
    ctx_unlock(monitor->ctx);
    if (monitor->reconnect)
        reconnect_is_unwanted(monitor);
    monitor_unref_memory(monitor);
}

/* Under the lock. An attempt that waits for a start has no limit of its own. */
static void unwant(bj_monitor *monitor)
{
    monitor->unwanting = true;
    monitor->unwant_task.run = run_unwant;
    monitor_ref_memory(monitor);
    if (!loop_post(monitor->ctx->loop, &monitor->unwant_task))
        atomic_fetch_sub(&monitor->refs, 1); /* the caller's is left */
}

int bj_monitor_set_reconnect(bj_monitor *monitor, int64_t give_up_after_ms)
{
    if (!monitor || give_up_after_ms < BJ_TIMEOUT_NONE || monitor->is_callers)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    ctx_lock(monitor->ctx);
    int r = monitor->state == MONITOR_OVER ? monitor->over_error : BJ_OK;
    if (r == BJ_OK)
        monitor->reconnect_ms = give_up_after_ms;
    if (r == BJ_OK && give_up_after_ms == 0 && monitor->state == MONITOR_AWAY &&
        !monitor->unwanting)
        unwant(monitor);
    ctx_unlock(monitor->ctx);
    return r;
}

static struct text *label_of(const bj_monitor *monitor)
{
    return monitor->name ? text_printf("%s (%s)", text_str(monitor->name), text_str(monitor->uri))
                         : text_ref(monitor->uri);
}

static bj_monitor *monitor_new(bj_ctx *ctx, const char *uri, const char *name,
                        const struct address *address)
{
    bj_monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor)
        return NULL;
    atomic_init(&monitor->refs, 1);
    atomic_init(&monitor->handles, 1);
    monitor->ctx = ctx_ref(ctx);
    tracker_init(&monitor->tracker, &monitor_port, (size_t)ctx_limit(ctx, BJ_LIMIT_JOBS));
    monitor->uri = text_new(uri, strlen(uri)); /* it is connected to again by this */
    monitor->name = name ? text_new(name, strlen(name)) : NULL;
    monitor->is_callers = address_is_callers(address);
    monitor->has_wire = address->kind != ADDRESS_LIBVIRT;
    trace_init(monitor);
    if (!monitor->uri || (name && !monitor->name))
        return bj_monitor_unref(monitor);
    monitor->label = label_of(monitor);
    return monitor;
}

/* ------------------------------------------------------------ what is known now */

const char *bj_monitor_uri(bj_monitor *monitor)
{
    return monitor ? text_str(monitor->uri) : "";
}

const char *bj_monitor_name(bj_monitor *monitor)
{
    return monitor ? text_str(monitor->name ? monitor->name : monitor->uri) : "";
}

const char *bj_monitor_qemu_version(bj_monitor *monitor)
{
    if (!monitor || ctx_is_forked(monitor->ctx))
        return "";
    ctx_lock(monitor->ctx);
    const char *version = text_str(monitor->version);
    ctx_unlock(monitor->ctx);
    return version;
}

int bj_monitor_has_command(bj_monitor *monitor, const char *command)
{
    if (!monitor || !command)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;

    ctx_lock(monitor->ctx);
    int r = monitor->over_error;
    if (monitor->state == MONITOR_OPEN) /* then the driver and what it knows of commands stay */
        r = monitor->driver->ops->has_command(monitor->driver, command) ? 1 : 0;
    else if (monitor->state == MONITOR_AWAY)
        r = BJ_E_DISCONNECTED;
    ctx_unlock(monitor->ctx);
    return r;
}
#undef LINGER_MS
/* ---- core/src/api/monitor_closed.c ---- */

/*
 * Waiting for the end of a monitor: bj_monitor_closed().
 */

/* A bj_monitor_closed() that waits. */
struct monitor_closed {
    bj_future future;
    struct monitor_closed *next;
    bj_monitor *monitor; /* a reference to its memory */
};

static void monitor_answer_closed(bj_monitor *monitor, int error, struct text *text)
{
    while (monitor->closed) {
        struct monitor_closed *closed = monitor->closed;
        monitor->closed = closed->next;
        future_answer(&closed->future,
                      &(struct future_result){.error = error, .text = text_ref(text)});
    }
}

static void start_closed(bj_future *future)
{
    struct monitor_closed *closed = (struct monitor_closed *)future;
    struct text *text;

    int r = monitor_check_over(closed->monitor, &text);
    if (r != BJ_OK) {
        future_answer(future, &(struct future_result){.error = r, .text = text});
        return;
    }
    closed->next = closed->monitor->closed;
    closed->monitor->closed = closed;
}

static void leave_closed(bj_future *future)
{
    struct monitor_closed *closed = (struct monitor_closed *)future;
    struct monitor_closed **link = &closed->monitor->closed;
    while (*link != closed)
        link = &(*link)->next;
    *link = closed->next;
}

static void destroy_closed(bj_future *future)
{
    monitor_unref_memory(((struct monitor_closed *)future)->monitor);
}

bj_future *bj_monitor_closed(bj_monitor *monitor)
{
    static const struct future_ops ops = {
        .start = start_closed,
        .leave = leave_closed,
        .destroy = destroy_closed,
    };
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);

    struct text *text;
    int r = monitor_check_over(monitor, &text);
    if (r != BJ_OK) {
        bj_future *over = future_failed(monitor->ctx, r, "%s", text_str(text));
        text_unref(text);
        return over;
    }
    struct monitor_closed *closed =
        (struct monitor_closed *)future_new(monitor->ctx, sizeof *closed, &ops);
    if (!closed)
        return future_static(BJ_E_NOMEM);
    closed->monitor = monitor_ref_memory(monitor);
    return future_launch(&closed->future, BJ_TIMEOUT_NONE, -1);
}
/* ---- core/src/api/monitor_watch.c ---- */

/*
 * A monitor's watches: QEMU's events as records, and what becomes of the connection.
 */

enum { NAMES_MAX = 1024 };

struct events_watch {
    bj_watch watch; /* first */
    bool is_choosy; /* it has only the events of these names */
    char names[];   /* each with a NUL, and an empty one after the last */
};

/* ----------------------------------------------------------------------- news */

static void notify_list(bj_watch *list, bj_record_kind kind, int error, struct text *text)
{
    for (bj_watch *watch = list; watch; watch = watch->next)
        watch_push(watch, &(bj_record){.kind = kind, .error = error},
                   &(struct record_refs){.text = text});
}

static void monitor_notify_watches(const bj_monitor *monitor, bj_record_kind kind, int error,
                            struct text *text)
{
    notify_list(monitor->watches, kind, error, text);
    notify_list(monitor->jobs_watches, kind, error, text);
}

static bool wants_event(const bj_watch *watch, const char *name)
{
    const struct events_watch *events = (const struct events_watch *)watch;
    const char *wanted = events->names;
    if (!events->is_choosy)
        return true;
    while (*wanted && strcmp(wanted, name) != 0)
        wanted += strlen(wanted) + 1;
    return *wanted != '\0';
}

static bool is_wanted(const bj_monitor *monitor, const char *name)
{
    const bj_watch *watch = monitor->watches;
    while (watch && !wants_event(watch, name))
        watch = watch->next;
    return watch != NULL;
}

static bool monitor_wants_events(void *user)
{
    const bj_monitor *monitor = user;
    return monitor->watches != NULL;
}

static void monitor_on_event(void *user, const char *name, const char *data, size_t data_len,
                      int64_t timestamp_us)
{
    bj_monitor *monitor = user;
    if (!is_wanted(monitor, name))
        return;
    struct text *name_text = text_new(name, strlen(name));
    struct text *data_text = data ? text_new(data, data_len) : NULL;
    bool whole = name_text && (!data || data_text);

    for (bj_watch *watch = monitor->watches; watch; watch = watch->next) {
        if (!wants_event(watch, name))
            continue;
        if (whole)
            watch_push(watch, &(bj_record){.kind = BJ_RECORD_EVENT, .timestamp_us = timestamp_us},
                       &(struct record_refs){.name = name_text, .text = data_text});
        else
            watch_miss(watch);
    }
    text_unref(name_text);
    text_unref(data_text);
}

static void monitor_end_watch_list(bj_watch **list, int error, struct text *text)
{
    while (*list) {
        bj_watch *watch = watch_ref_memory(*list);
        watch->ops->leave(watch);
        watch_end(watch, error, text_ref(text));
        watch_unref_memory(watch);
    }
}

static void monitor_end_watches(bj_monitor *monitor, int error, struct text *text)
{
    monitor_end_watch_list(&monitor->watches, error, text);
    monitor_end_watch_list(&monitor->jobs_watches, error, text);
}

/* -------------------------------------------------------------------- watches */

static bool monitor_begin_watch(bj_monitor *monitor, bj_watch *watch, bj_watch **list)
{
    struct text *text;

    int r = monitor_check_over(monitor, &text);
    if (r != BJ_OK) {
        watch_end(watch, r, text);
        return false;
    }
    watch_link(watch, list);
    if (monitor->state == MONITOR_AWAY || monitor->tracker.is_returning) /* it will hear the rest */
        watch_push(watch, &(bj_record){.kind = BJ_RECORD_DISCONNECTED, .error = BJ_E_DISCONNECTED},
                   &(struct record_refs){.text = monitor->away_text});
    return true;
}

static void api_monitor_watch__begin_watch(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    if (!monitor_begin_watch(monitor, watch, &monitor->watches) || monitor->state != MONITOR_OPEN)
        return;
    if (monitor->driver->ops->listen)
        monitor->driver->ops->listen(monitor->driver);
}

static void api_monitor_watch__leave_watch(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    watch_unlink(watch, &monitor->watches);
}

static void monitor_disown(void *monitor)
{
    monitor_unref_memory(monitor);
}

/* BJ_E_INVAL: there are too many, or one is none. */
static int measure_names(const char *const *names, size_t count, size_t *ret_size)
{
    if (count > NAMES_MAX || (count > 0 && !names))
        return BJ_E_INVAL;
    *ret_size = 1;
    for (size_t i = 0; i < count; i++) {
        if (!names[i] || !*names[i])
            return BJ_E_INVAL;
        *ret_size += strlen(names[i]) + 1;
    }
    return BJ_OK;
}

int bj_monitor_watch_events(bj_monitor *monitor, const char *const *names, size_t count,
                            bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = api_monitor_watch__begin_watch,
        .leave = api_monitor_watch__leave_watch,
        .disown = monitor_disown,
    };
    size_t size;
    if (!monitor || !ret_watch || measure_names(names, count, &size) != BJ_OK)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    struct events_watch *watch = (struct events_watch *)watch_new(
        monitor->ctx, sizeof *watch + size, &ops, monitor_ref_memory(monitor));
    if (!watch)
        return BJ_E_NOMEM;
    watch->is_choosy = count > 0;
    char *end = watch->names;
    for (size_t i = 0; i < count; i++)
        end = stpcpy(end, names[i]) + 1;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}

int bj_monitor_watch(bj_monitor *monitor, bj_watch **ret_watch)
{
    return bj_monitor_watch_events(monitor, NULL, 0, ret_watch);
}
/* ---- core/src/api/notices.c ---- */

/*
 * Notices; see notices.h.
 */

/* ---------------------------------------------------------------------- facts */

/* A job of another kind does its work without saying how far it is. libvirt does not tell a backup
 * that is pulled, whose numbers may rest, from one that is pushed. */
static bool copies(const bj_job *job)
{
    static const char *const types[] = {"mirror", "commit", "stream", "backup"};
    const char *type = text_str(job->type);
    size_t count = sizeof types / sizeof types[0] - job->has_bare_rows;

    for (size_t i = 0; i < count; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

static unsigned state_of(const bj_job *job)
{
    const struct machine *m = &job->run.machine;
    bool is_stopped = m->stall == STALL_ERROR;
    bool is_paused = m->stall == STALL_PAUSED || status_has_any(m->status, STILL) ||
                     (job->row_is_paused && !machine_traits(m)->has_status);
    bool is_copying = copies(job) && !status_has_any(m->status, DONE | CLOSED);
    bool is_converging = is_copying && !machine_is(m, IS_READY) && !machine_traits(m)->never_ready;

    return (is_stopped ? SEEN_STOPPED : 0) | (job->row_lacks_space ? SEEN_NO_SPACE : 0) |
           (is_paused ? SEEN_PAUSED : 0) | (machine_is(m, IS_PENDING) ? SEEN_PENDING : 0) |
           (m->status == STATUS_WAITING ? SEEN_WAITING : 0) |
           (machine_is(m, IS_READY) ? SEEN_READY : 0) |
           (machine_is_told_to_end(m) ? SEEN_ENDING : 0) | (is_copying ? SEEN_COPYING : 0) |
           (is_converging ? SEEN_CONVERGING : 0);
}

static void notice_see(bj_job *job, const struct job_row *row, int64_t now_ms)
{
    const bj_job_info *info = &row->info;

    job->row_is_paused = info->paused;
    job->row_lacks_space = row->lacks_space;
    progress_see(&job->progress,
                 &(struct sample){
                     .current = info->current,
                     .total = info->total,
                     .speed = info->speed,
                     .state = state_of(job),
                 },
                 now_ms);
}

static void notice_begin(bj_job *job)
{
    if (!job->progress.has_begun)
        progress_begin(&job->progress, state_of(job), clock_monotonic_ms());
}

static int64_t api_notices__limit_ms(const bj_job *job)
{
    return (int64_t)ctx_limit(job->monitor->ctx, BJ_LIMIT_CONVERGE_MS);
}

/* What was found is about the state of then. */
static unsigned conditions_of(const bj_job *job)
{
    unsigned state = state_of(job);
    bool is_same = state == job->progress.state;
    return state | (is_same ? progress_found(&job->progress, api_notices__limit_ms(job)) : 0);
}

/* ------------------------------------------------------------------ sentences */

/* Of so many milliseconds, in seconds; the fraction only where there is little else. */
static double seconds(int64_t ms)
{
    int64_t whole = ms / 1000;
    return whole > 0 ? (double)whole : (double)ms / 1000.;
}

static struct text *errors_text(const struct progress *p)
{
    double still_s = seconds(progress_still_ms(p));
    unsigned long long reads = p->read_errors, writes = p->write_errors;

    if (reads == 0)
        return text_printf("%llu errors writing to the target were ignored, and nothing has been "
                           "copied for %.10g s: mend the target, or abort the job",
                           writes, still_s);
    if (writes == 0)
        return text_printf("%llu errors reading the source were ignored, and nothing has been "
                           "copied for %.10g s: mend the source, or abort the job",
                           reads, still_s);
    return text_printf("%llu errors writing to the target and %llu reading the source were "
                       "ignored, and nothing has been copied for %.10g s: mend both, or abort the "
                       "job",
                       writes, reads, still_s);
}

static struct text *silent_text(const bj_job *job)
{
    const struct progress *p = &job->progress;
    bool is_backup = strcmp(text_str(job->type), "backup") == 0;

    return text_printf(
        "nothing has been copied for %.10g s: its source or its target does not answer%s%s; look "
        "at the storage they are on",
        seconds(progress_still_ms(p)),
        p->current == 0 ? ", or the target is still being prepared" : "",
        is_backup ? ", or it has only to copy what the guest overwrites (sync none)" : "");
}

static struct text *guest_text(const struct progress *p)
{
    double as_much_s = seconds(progress_as_much_ms(p));
    long long speed = (long long)p->speed;

    if (speed > 0)
        return text_printf("what is left to copy has not shrunk for %.10g s: the guest writes as "
                           "fast as it is copied; raise the speed limit of %lld bytes per second, "
                           "slow the guest, or change the copy-mode to write-blocking",
                           as_much_s, speed);
    return text_printf("what is left to copy has not shrunk for %.10g s: the guest writes as fast "
                       "as it is copied; slow the guest, or change the copy-mode to write-blocking",
                       as_much_s);
}

static const char api_notices__pending_text[] = "its work is done, and it is pending until somebody finalizes "
                                   "it: finalize it, or abort it";

static struct text *sentence(const bj_job *job, enum notice notice, int64_t deaf_ms)
{
    static const char *const fixed[NOTICE_COUNT] = {
        [NOTICE_NO_SPACE] = machine_no_space_text,
        [NOTICE_STOPPED] = "an I/O error stopped it: mend the cause and resume it",
        [NOTICE_PAUSED] = "it is paused: resume it",
        [NOTICE_PENDING] = api_notices__pending_text,
        [NOTICE_WAITING] = "its work is done, and it waits for the other jobs of its transaction",
    };
    const struct progress *p = &job->progress;
    double still_s = seconds(progress_still_ms(p));

    switch (notice) {
    case NOTICE_UNANSWERED:
        return text_printf("QEMU has not answered for %.10g s: it is stopped, or itself waits for "
                           "a disk that does not answer",
                           seconds(deaf_ms));
    case NOTICE_ERRORS:
        return errors_text(p);
    case NOTICE_ENDING:
        return text_printf("it was told to end %.10g s ago or earlier and is not over: its source "
                           "or its target does not answer; look at the storage they are on",
                           still_s);
    case NOTICE_SPEED:
        return text_printf("nothing has been copied for %.10g s: its speed limit of %lld bytes per "
                           "second lets nothing through; raise it, or set it to 0",
                           still_s, (long long)p->speed);
    case NOTICE_SILENT:
        return silent_text(job);
    case NOTICE_GUEST:
        return guest_text(p);
    default:
        return text_printf("%s", fixed[notice]);
    }
}

static struct text *notice_text(const bj_job *job)
{
    const struct machine *m = &job->run.machine;
    unsigned conditions = conditions_of(job);

    if (machine_is_over(m))
        return NULL;
    if (conditions & (SEEN_PAUSED | SEEN_PENDING | SEEN_WAITING))
        conditions |= FOUND_STILL;
    enum notice notice = progress_notice(conditions);
    if (notice == NOTICE_NONE)
        return NULL;
    bool has_reason = notice == NOTICE_STOPPED || notice == NOTICE_PAUSED;
    return has_reason && machine_is_stalled(m) ? text_ref(machine_text(m))
                                               : sentence(job, notice, 0);
}

/* ------------------------------------------------------------------ observers */

static bool notice_has_observer(const bj_job *job)
{
    const struct run *run = &job->run;
    bool is_watched =
        job->watches || (job->monitor->jobs_watches && run->announcement == ANNOUNCED);
    return run_has_id(run) && !machine_is_over(&run->machine) &&
           (is_watched || machine_is_awaited(&run->machine));
}

static void notice_forget(bj_job *job)
{
    job->notice = NOTICE_NONE;
    text_unref(job->notice_text);
    job->notice_text = NULL;
}

/* The machine has reported that it is stopped, or paused, and perhaps why. */
static bool is_reported(const bj_job *job, enum notice notice)
{
    const struct machine *m = &job->run.machine;

    if (notice == NOTICE_NO_SPACE)
        return strcmp(text_str(machine_text(m)), machine_no_space_text) == 0;
    return machine_is_stalled(m) && (notice == NOTICE_STOPPED || notice == NOTICE_PAUSED);
}

static void notice_end(bj_job *job)
{
    notice_forget(job);
    job->progress.has_begun = false;
}

static void report(bj_job *job, struct text *text)
{
    bj_record_kind kind = job->notice == NOTICE_NONE ? BJ_RECORD_RESUMED : BJ_RECORD_STALLED;

    job_push_all(job, kind, text);
    if (job->run.announcement == ANNOUNCED)
        watch_jobs_push_all(job, kind, text);
}

static void notice_judge(bj_job *job, int64_t deaf_ms)
{
    enum notice notice =
        progress_notice(conditions_of(job) | (deaf_ms >= api_notices__limit_ms(job) ? FOUND_DEAF : 0));

    if (is_reported(job, notice))
        notice = NOTICE_NONE;
    if (notice == job->notice)
        return;
    notice_forget(job);
    job->notice = notice;
    job->notice_text = notice == NOTICE_NONE ? NULL : sentence(job, notice, deaf_ms);
    report(job, job->notice_text);
}
/* ---- core/src/api/open_driver.c ---- */

/*
 * Which driver an address is for; see open_driver.h.
 */

/* ---- core/src/driver/module.h ---- */

/*
 * A driver that is a library of its own, found at run time, so that the core needs nothing of what
 * it needs; or is linked into the program. It holds copies of the core's files that it uses (see
 * the Makefile), so both must be of one version.
 */

#define DRIVER_MODULE_FILE "libblockjob-libvirt.so.0"
#define DRIVER_MODULE_SYMBOL "blockjob_driver_module"

struct _virDomain;
struct loop;

struct driver_module {
    const char *version; /* BJ_VERSION_... of its making, as "0.1.0" */

    /* Any thread. BJ_OK; BJ_E_INVAL with a sentence. */
    int (*check)(const char *uri, struct text **ret_text);
    /* Any thread. The address of a domain, for display: malloc'ed; NULL: no memory. */
    char *(*uri_of)(struct _virDomain *domain);
    void (*ref)(struct _virDomain *domain);
    void (*unref)(struct _virDomain *domain);

    /* The loop's thread. As driver_open(); takes over the reference to `domain`, which may be NULL:
     * then peer->uri, which was checked, says which; or peer->before does. */
    struct driver *(*open)(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *domain, const struct driver_sink *sink, void *user);
};

/* Any thread. BJ_OK; BJ_E_UNSUPPORTED, BJ_E_SYSTEM with a sentence about what `wanted` it. */
static int driver_module_load(const char *wanted, const struct driver_module **ret,
                       struct text **ret_text);

/* ---- core/src/qmp/connection.h ---- */

/*
 * The QMP driver: one connection to one QEMU.
 */

/* Starts connecting; takes over what is in `address`. NULL: no memory. */
static struct driver *qmp_open(bj_ctx *ctx, const char *uri, struct address *address, bool out_of_band,
                        const struct driver_sink *sink, void *user);

static struct driver *driver_open(bj_ctx *ctx, const struct driver_peer *peer, struct address *address,
                           const struct driver_sink *sink, void *user)
{
    if (address->kind != ADDRESS_LIBVIRT)
        return qmp_open(ctx, peer->label, address, peer->out_of_band, sink, user);

    struct _virDomain *domain = address->domain;
    address->domain = NULL;
    return address->module->open(ctx->loop, peer, domain, sink, user);
}
/* ---- core/src/api/progress.c ---- */

/*
 * Asking how far jobs are; see progress.h.
 */

static struct progress_asker *asker_of(bj_monitor *monitor)
{
    return &monitor->progress;
}

static int64_t api_progress__limit_ms(const bj_monitor *monitor)
{
    return (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_CONVERGE_MS);
}

/* ----------------------------------------------------------------------- when */

static bool is_anything_observed(const bj_monitor *monitor)
{
    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        if (notice_has_observer(job_of(run)))
            return true;
    return false;
}

static int64_t later(int64_t now_ms, int64_t ms)
{
    return ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + ms;
}

/* When to ask next; -1: nobody wants to know. */
static int64_t next_ms(bj_monitor *monitor, int64_t now_ms)
{
    int64_t next = is_anything_observed(monitor) ? later(now_ms, api_progress__limit_ms(monitor)) : -1;

    for (struct progress_reader *r = asker_of(monitor)->readers; r; r = r->next)
        if (next < 0 || r->due_ms < next)
            next = r->due_ms;
    return next;
}

static void set_timer(bj_monitor *monitor, int64_t ms)
{
    asker_of(monitor)->is_set = true;
    loop_timer_set(asker_of(monitor)->timer, ms > 0 ? ms : 0);
}

static void ask_later(bj_monitor *monitor)
{
    int64_t now_ms = clock_monotonic_ms();
    int64_t next = next_ms(monitor, now_ms);

    asker_of(monitor)->is_set = false;
    if (next >= 0)
        set_timer(monitor, next - now_ms);
}

/* ------------------------------------------------------------------- the reply */

static void progress_saw(bj_job *job, const struct job_row *row)
{
    const bj_job_info *info = &row->info;
    bool is_first = job->updated == 0;

    if (is_first || info->current != job->last_progress.current ||
        info->total != job->last_progress.total)
        job->updated = job->monitor->progress.updates + 1;
    job_note_progress(job, info);
    notice_see(job, row, clock_monotonic_ms());
}

static bool progress_is_new(const bj_job *job, const struct progress_reader *reader)
{
    return job->updated > reader->updates;
}

/* A row may be that of the run before which had the same id, if it was asked for then. */
static void take_list(bj_monitor *monitor, const struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct job_row *row = &list->rows[i];
        struct run *run = tracker_find(&monitor->tracker, row->info.id);
        if (run && job_of(run)->born < asker_of(monitor)->questions)
            progress_saw(job_of(run), row);
    }
}

/* Who observes an unobserved job next need not hear of what was long ago. */
static void judge_all(bj_monitor *monitor, int64_t deaf_ms)
{
    for (struct run *run = monitor->tracker.runs; run; run = run->next) {
        if (notice_has_observer(job_of(run)))
            notice_judge(job_of(run), deaf_ms);
        else
            notice_end(job_of(run));
    }
}

static void serve_readers(bj_monitor *monitor, bool has_news)
{
    struct progress_asker *asker = asker_of(monitor);
    int64_t now_ms = clock_monotonic_ms();

    for (struct progress_reader *r = asker->readers; r; r = r->next) {
        if (r->due_ms > now_ms)
            continue;
        r->due_ms = later(now_ms, r->every_ms);
        if (!has_news)
            continue;
        r->give(r);
        r->updates = asker->updates;
    }
}

static void on_reply(struct driver_request *request, struct driver_reply *reply)
{
    struct progress_asker *asker = container_of(request, struct progress_asker, request);
    bj_monitor *monitor = container_of(asker, bj_monitor, progress);

    asker->is_asking = false;
    if (reply->list) {
        take_list(monitor, reply->list);
        asker->updates++;
        judge_all(monitor, 0);
    }
    serve_readers(monitor, reply->list != NULL);
    if (asker->timer)
        ask_later(monitor);
    monitor_unref_memory(monitor);
}

/* -------------------------------------------------------------------- asking */

static void ask(bj_monitor *monitor)
{
    struct progress_asker *asker = asker_of(monitor);
    struct driver *driver = monitor->driver;

    asker->request.done = on_reply;
    if (!driver || driver->ops->query(driver, &asker->request, false) != BJ_OK) {
        serve_readers(monitor, false);
        ask_later(monitor);
        return;
    }
    monitor_ref_memory(monitor);
    asker->is_asking = true;
    asker->questions++;
    asker->asked_ms = clock_monotonic_ms();
    set_timer(monitor, api_progress__limit_ms(monitor));
}

static void api_progress__on_timer(void *user)
{
    bj_monitor *monitor = user;
    struct progress_asker *asker = asker_of(monitor);

    if (asker->is_asking) {
        judge_all(monitor, clock_monotonic_ms() - asker->asked_ms);
        set_timer(monitor, api_progress__limit_ms(monitor));
    } else if (asker->readers || is_anything_observed(monitor)) {
        ask(monitor);
    } else {
        judge_all(monitor, 0);
        asker->is_set = false;
    }
}

static bool make_timer(bj_monitor *monitor)
{
    struct progress_asker *asker = asker_of(monitor);
    if (!asker->timer)
        asker->timer = loop_timer_new(monitor->ctx->loop, api_progress__on_timer, monitor);
    return asker->timer != NULL;
}

static bool progress_join(bj_monitor *monitor, struct progress_reader *reader)
{
    struct progress_asker *asker = asker_of(monitor);

    if (!make_timer(monitor))
        return false;
    reader->due_ms = clock_monotonic_ms();
    reader->next = asker->readers;
    asker->readers = reader;
    if (!asker->is_asking)
        ask(monitor);
    return true;
}

static void progress_leave(bj_monitor *monitor, struct progress_reader *reader)
{
    struct progress_reader **link = &asker_of(monitor)->readers;
    while (*link != reader)
        link = &(*link)->next;
    *link = reader->next;
    if (!asker_of(monitor)->is_asking && asker_of(monitor)->timer)
        ask_later(monitor); /* it may have been the only one in a hurry */
}

static void progress_note_observer(bj_job *job)
{
    bj_monitor *monitor = job->monitor;

    if (!notice_has_observer(job))
        return;
    notice_begin(job);
    if (!asker_of(monitor)->is_set && make_timer(monitor))
        set_timer(monitor, api_progress__limit_ms(monitor));
}

static void progress_end(bj_monitor *monitor)
{
    loop_timer_free(asker_of(monitor)->timer);
    asker_of(monitor)->timer = NULL;
    asker_of(monitor)->is_set = false;
}
/* ---- core/src/api/recall.c ---- */

/* ---- core/src/api/recall.h ---- */

/*
 * Jobs that a program remembers from an earlier life: memos become runs of a monitor's tracker,
 * which finds out what became of them.
 */

struct recalled {
    struct memo memo;
    struct text *text; /* as it was given */
};

struct recall {
    size_t count;
    struct recalled *memos;
};

/* Any thread. Of several memos of one run the latest counts. BJ_OK, BJ_E_INVAL, BJ_E_NOMEM; in any
 * case recall_clear() will do. */
static int recall_read(const char *const *memos, size_t count, struct recall *ret);
static void recall_clear(struct recall *recall);

/* The loop's thread, while there is a connection; then tracker_observe() or tracker_seek(). Clears
 * it. Returns how many runs could not be followed. */
static size_t recall_begin(bj_monitor *monitor, struct recall *recall);

/* -------------------------------------------------------------------- reading */

static int order(int64_t one, int64_t other)
{
    return (one > other) - (one < other);
}

/* Of an id the latest run first, and of that the latest memo. */
static int compare(const void *a, const void *b)
{
    const struct memo *one = &((const struct recalled *)a)->memo;
    const struct memo *other = &((const struct recalled *)b)->memo;
    int r = strcmp(one->id, other->id);

    r = r ? r : order(other->since_us, one->since_us);
    r = r ? r : (one->number > other->number) - (one->number < other->number);
    r = r ? r : order(other->changed_us, one->changed_us);
    return r ? r : order(other->current, one->current);
}

static bool is_same_run(const struct memo *one, const struct memo *other)
{
    return strcmp(one->id, other->id) == 0 && one->number == other->number;
}

static void clear(struct recalled *recalled)
{
    memo_clear(&recalled->memo);
    text_unref(recalled->text);
}

static void recall_clear(struct recall *recall)
{
    for (size_t i = 0; i < recall->count; i++)
        clear(&recall->memos[i]);
    free(recall->memos);
    *recall = (struct recall){0};
}

static void drop_earlier_memos(struct recall *recall)
{
    size_t kept = 0;

    for (size_t i = 0; i < recall->count; i++) {
        struct recalled *next = &recall->memos[i];
        if (kept > 0 && is_same_run(&recall->memos[kept - 1].memo, &next->memo))
            clear(next);
        else
            recall->memos[kept++] = *next;
    }
    recall->count = kept;
}

static int read_one(const char *memo, struct recall *ret)
{
    struct recalled *recalled = &ret->memos[ret->count];
    const char *why;
    int r = memo ? memo_read(memo, &recalled->memo, &why) : BJ_E_INVAL;

    if (r != BJ_OK)
        return r;
    ret->count++;
    recalled->text = text_new(memo, strlen(memo));
    return recalled->text ? BJ_OK : BJ_E_NOMEM;
}

static int recall_read(const char *const *memos, size_t count, struct recall *ret)
{
    int r = BJ_OK;

    *ret = (struct recall){0};
    if (count == 0)
        return BJ_OK;
    if (!memos)
        return BJ_E_INVAL;
    ret->memos = calloc(count, sizeof *ret->memos);
    if (!ret->memos)
        return BJ_E_NOMEM;
    for (size_t i = 0; r == BJ_OK && i < count; i++)
        r = read_one(memos[i], ret);
    if (r != BJ_OK)
        return r;
    qsort(ret->memos, ret->count, sizeof *ret->memos, compare);
    drop_earlier_memos(ret);
    return BJ_OK;
}

/* ------------------------------------------------------------------ beginning */

static struct identity identity_now(const bj_monitor *monitor)
{
    const struct driver_identity *now = &monitor->identity;
    return (struct identity){now->boot, now->process, text_str(monitor->version), now->socket};
}

static struct text *api_recall__copy(const char *text)
{
    return text ? text_new(text, strlen(text)) : NULL;
}

/* What the job is by the memo. */
static void take_over(bj_job *job, struct recalled *recalled)
{
    const struct memo *memo = &recalled->memo;
    struct driver_snapshot *snapshot = memo->graph && job->ops->read_snapshot && !job->snapshot
                                           ? job->ops->read_snapshot(memo->graph)
                                           : NULL;

    if (snapshot)
        job->run.snapshot = SNAPSHOT_HELD;
    if (!job->device)
        job->device = api_recall__copy(memo->device);
    if (!job->run_data)
        job->run_data = api_recall__copy(memo->run_data);
    text_unref(job->remembered);
    job->remembered = recalled->text;
    recalled->text = NULL;
    ctx_lock(job->monitor->ctx);
    if (snapshot)
        job->snapshot = snapshot;
    job->memo.since_us = memo->since_us;
    job->memo.number = memo->number;
    if (job->memo.changed_us < memo->changed_us)
        job->memo.changed_us = memo->changed_us;
    if (!job->times[BJ_MOMENT_START_SENT])
        job->times[BJ_MOMENT_START_SENT] = memo->start_us;
    ctx_unlock(job->monitor->ctx);
}

static bj_job *make_job(bj_monitor *monitor, struct recalled *recalled, const struct memory *memory)
{
    bj_job *job = job_new(monitor, recalled->memo.id, recalled->memo.type);
    if (!job)
        return NULL;
    take_over(job, recalled);
    job->memory = *memory;
    job->memory.type = text_str(job->type);
    ctx_lock(monitor->ctx);
    job->ready = memory->facts & MEMORY_READY;
    job->last_progress.current = memory->current;
    job->last_progress.total = memory->total;
    job->memo.facts = memory->facts;
    ctx_unlock(monitor->ctx);
    return job;
}

/* As the program's handles have it. */
static struct row row_of(const bj_job *job)
{
    return (struct row){
        .status = job->run.machine.status,
        .ready = machine_is(&job->run.machine, IS_READY),
        .current = job->last_progress.current,
        .total = job->last_progress.total,
    };
}

/* Someone has the id already: true, if that is this run. */
static bool is_followed(bj_job *job, struct recalled *recalled, struct memory *memory)
{
    struct row now = row_of(job);
    bool is_before = recalled->memo.changed_us < job->memo.since_us;
    bool began_unseen = job->run.is_listed;

    if (job->memo.number == recalled->memo.number)
        return true;
    memory->known = !is_before     ? KNOWN_SINCE_EARLIER
                    : began_unseen ? KNOWN_NONE
                                   : KNOWN_SINCE_LATER;
    if (!tracker_recall_found(&job->run, memory, text_str(job->type), &now))
        return false;
    take_over(job, recalled);
    return true;
}

/* False: it can't be followed. */
static bool api_recall__begin(bj_monitor *monitor, struct recalled *recalled)
{
    const struct memo *memo = &recalled->memo;
    struct tracker *t = &monitor->tracker;
    struct identity now = identity_now(monitor);
    struct memory memory = {
        .facts = memo->facts,
        .type = memo->type,
        .current = memo->current,
        .total = memo->total,
        .peer = identity_compare(&memo->peer, &now),
    };
    bool is_gone = memory.peer == PEER_OTHER || memory.peer == PEER_REBOOTED;
    struct run *last = tracker_find(t, memo->id);

    if (last && !is_gone && is_followed(job_of(last), recalled, &memory))
        return true;
    bj_job *job = tracker_can_recall(t) ? make_job(monitor, recalled, &memory) : NULL;
    if (!job)
        return false;
    if (is_gone)
        tracker_recall_lost(&job->run, &job->memory, memory_judge_absence(&memory, false)->text);
    else if (last)
        tracker_recall_lost(&job->run, &job->memory, "its id was given to another job");
    else
        tracker_recall(t, &job->run, &job->memory);
    return true;
}

static size_t recall_begin(bj_monitor *monitor, struct recall *recall)
{
    size_t missed = 0;
    for (size_t i = 0; i < recall->count; i++)
        missed += !api_recall__begin(monitor, &recall->memos[i]);
    recall_clear(recall);
    return missed;
}
/* ---- core/src/api/reconnect.c ---- */

/*
 * Connecting again; see reconnect.h.
 */

#define FIRST_DELAY_MS 100
#define LONGEST_DELAY_MS 1000

struct reconnect {
    bj_monitor *monitor;
    struct driver *driver;    /* connecting; the monitor's once it is up */
    struct loop_timer *timer; /* of the next attempt; while one is under way, its deadline */
    int64_t deadline_ms;      /* monotonic; -1: none */
    int64_t delay_ms;
    bool waits;       /* the driver, for a start */
    struct text *why; /* why the latest attempt failed; NULL: there was none */
};

static void close_driver(struct reconnect *reconnect, const char *why)
{
    if (reconnect->driver)
        reconnect->driver->ops->close(reconnect->driver, BJ_E_CLOSED, why);
    reconnect->driver = NULL;
}

static void reconnect_free(struct reconnect *reconnect)
{
    if (!reconnect)
        return;
    close_driver(reconnect, "connecting was given up");
    loop_timer_free(reconnect->timer);
    text_unref(reconnect->why);
    free(reconnect);
}

static int64_t api_reconnect__time_left(const struct reconnect *reconnect)
{
    return reconnect->deadline_ms < 0 ? INT64_MAX : reconnect->deadline_ms - clock_monotonic_ms();
}

static bool is_given_up(const struct reconnect *reconnect)
{
    return api_reconnect__time_left(reconnect) <= 0 || monitor_reconnect_ms(reconnect->monitor) == 0;
}

static void api_reconnect__give_up(struct reconnect *reconnect)
{
    bj_monitor *monitor = reconnect->monitor;
    const char *why = reconnect->why ? text_str(reconnect->why) : "nobody tried";
    monitor_shut(
        monitor, BJ_E_DISCONNECTED,
        text_printf("%s; it could not be made again: %s", text_str(monitor->away_text), why));
}

static void wait_for_next(struct reconnect *reconnect)
{
    int64_t left = api_reconnect__time_left(reconnect);
    int64_t delay = reconnect->delay_ms < left ? reconnect->delay_ms : left;

    reconnect->delay_ms *= 2;
    if (reconnect->delay_ms > LONGEST_DELAY_MS)
        reconnect->delay_ms = LONGEST_DELAY_MS;
    loop_timer_set(reconnect->timer, delay > 0 ? delay : 0);
}

static bool reconnect_is_in_vain(const bj_monitor *monitor)
{
    const struct driver *driver = monitor->reconnect->driver;
    return driver->is_gone && !driver->may_return;
}

static void reconnect_failed(bj_monitor *monitor, struct text *why, bool in_vain)
{
    struct reconnect *reconnect = monitor->reconnect;
    if (in_vain)
        reconnect->deadline_ms = 0;
    reconnect->driver = NULL;
    reconnect->waits = false;
    text_unref(reconnect->why);
    reconnect->why = why;
    wait_for_next(reconnect);
}

static void attempt(struct reconnect *reconnect)
{
    bj_monitor *monitor = reconnect->monitor;
    int64_t limit = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_CONNECT_MS);
    int64_t left = api_reconnect__time_left(reconnect);
    struct text *why = NULL;

    reconnect->driver = monitor_dial(monitor, &why);
    if (!reconnect->driver)
        reconnect_failed(monitor, why, false);
    else
        loop_timer_set(reconnect->timer, left < limit ? left : limit);
}

/* The attempt has taken too long. */
static void abandon_attempt(struct reconnect *reconnect)
{
    bj_monitor *monitor = reconnect->monitor;
    int64_t limit = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_CONNECT_MS);
    struct text *why = reconnect->driver->ops->stage(reconnect->driver, limit);

    close_driver(reconnect, text_str(why));
    reconnect_failed(monitor, why, false);
}

static void api_reconnect__on_timer(void *user)
{
    struct reconnect *reconnect = user;

    if (reconnect->driver)
        abandon_attempt(reconnect);
    else if (is_given_up(reconnect))
        api_reconnect__give_up(reconnect);
    else
        attempt(reconnect);
}

static void reconnect_waits(bj_monitor *monitor)
{
    struct reconnect *reconnect = monitor->reconnect;
    reconnect->waits = true;
    if (reconnect->deadline_ms < 0)
        loop_timer_stop(reconnect->timer);
    else
        loop_timer_set(reconnect->timer, api_reconnect__time_left(reconnect));
}

static void reconnect_is_unwanted(bj_monitor *monitor)
{
    struct reconnect *reconnect = monitor->reconnect;
    if (reconnect->waits && is_given_up(reconnect))
        abandon_attempt(reconnect);
}

static bool reconnect_begin(bj_monitor *monitor)
{
    struct reconnect *reconnect = calloc(1, sizeof *reconnect);
    if (!reconnect)
        return false;
    int64_t give_up_after_ms = monitor_reconnect_ms(monitor);

    reconnect->monitor = monitor;
    reconnect->delay_ms = FIRST_DELAY_MS;
    reconnect->deadline_ms =
        give_up_after_ms < 0 || give_up_after_ms > INT64_MAX - clock_monotonic_ms()
            ? -1
            : clock_monotonic_ms() + give_up_after_ms;
    reconnect->timer = loop_timer_new(monitor->ctx->loop, api_reconnect__on_timer, reconnect);
    if (!reconnect->timer) {
        free(reconnect);
        return false;
    }
    monitor->reconnect = reconnect;
    wait_for_next(reconnect);
    return true;
}

static struct driver *reconnect_done(bj_monitor *monitor)
{
    struct reconnect *reconnect = monitor->reconnect;
    struct driver *driver = reconnect->driver;

    reconnect->driver = NULL;
    monitor->reconnect = NULL;
    reconnect_free(reconnect);
    return driver;
}
#undef FIRST_DELAY_MS
#undef LONGEST_DELAY_MS
/* ---- core/src/api/request.c ---- */

/*
 * Futures that are one request to the driver; see request.h.
 */

/* ---- core/src/api/start.h ---- */

/*
 * Jobs that are being started. The loop's thread only.
 */

struct start_order {
    struct start start;
    struct start_plan plan;
    int64_t sent_us;
    bool is_out; /* it has no reply yet */
};

/* Takes over what is in `plan`, also when it fails. BJ_OK: it may be sent, and start_over()
 * follows; else BJ_E_NOMEM or BJ_E_BUSY. */
static int start_begin(bj_monitor *monitor, struct start_order *order, struct start_plan *plan);

/* What became of those that are out; see struct request_kind. */
struct request;
static void start_over(struct request *request, const struct driver_reply *reply);

/* The job that was started; NULL: it runs, but there is no memory to follow it. */
static inline bj_job *start_job(const struct start_order *order)
{
    return order->start.run ? job_of(order->start.run) : NULL;
}

static void start_own(bj_job *job, struct start *start); /* the tracker's port: own */
static void start_orders_free(struct start_order *orders, size_t count);

static struct request *request_of(bj_future *future)
{
    return (struct request *)future;
}

static enum order_reply request_result(const struct driver_reply *reply)
{
    if (reply && reply->error == BJ_OK)
        return ORDER_ACCEPTED;
    return reply && reply->is_lost ? ORDER_LOST : ORDER_REFUSED;
}

static void api_request__fail(struct request *request, int error, const struct driver_reply *reply)
{
    const char *error_class = reply->error_class ? reply->error_class : "";
    const char *why = reply->text && *reply->text ? reply->text : bj_error_text(error);
    bool is_in_doubt = request->start_count > 0 && reply->is_lost;
    future_answer(&request->future,
                  &(struct future_result){
                      .error = error,
                      .text = is_in_doubt ? text_printf("%s; job %s may have been started: attach "
                                                        "to it",
                                                        why, request->starts[0].plan.id)
                                          : text_printf("%s", why),
                      .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                  });
}

static void api_request__close_descriptors(struct request *request)
{
    descriptors_close(request->descriptors);
    request->descriptors = NULL;
}

static void over(struct request *request, const struct driver_reply *reply)
{
    api_request__close_descriptors(request);
    if (request->kind->over)
        request->kind->over(request, reply);
}

static void on_done(struct driver_request *driver_request, struct driver_reply *reply)
{
    struct request *request = container_of(driver_request, struct request, driver_request);

    request->under_way = false;
    over(request, reply);
    if (!request->left && reply->error == BJ_OK)
        request->kind->replied(request, reply);
    else if (!request->left)
        api_request__fail(request, reply->error, reply);
    future_unref_memory(&request->future);
}

static void not_sent(struct request *request, int error)
{
    over(request, NULL);
    if (request->why)
        future_fail(&request->future, error, "%s", text_str(request->why));
    else if (error == BJ_E_UNSUPPORTED && request->command)
        future_fail(&request->future, error, "this QEMU has no command %s", request->command);
    else
        future_fail(&request->future, error, "%s: %s", monitor_label(request->monitor),
                    bj_error_text(error));
}

static void send_now(struct request *request, struct driver *driver)
{
    request->driver_request.done = on_done;
    int r = request->kind->send(request, driver);
    request->under_way = r == BJ_OK;
    if (r != BJ_OK) {
        not_sent(request, r);
        future_unref_memory(&request->future);
    }
}

/* Who leaves meanwhile is withdrawn, as nothing of it is written. */
static void on_probed(struct driver_request *driver_request, struct driver_reply *reply)
{
    struct request *request = container_of(driver_request, struct request, driver_request);

    if (reply->error == BJ_OK) {
        send_now(request, request->monitor->driver);
        return;
    }
    request->under_way = false;
    over(request, NULL);
    api_request__fail(request, reply->error, reply);
    future_unref_memory(&request->future);
}

static void probe(struct request *request, struct driver *driver)
{
    request->driver_request.done = on_probed;
    int r = driver->ops->probe(driver, &request->driver_request);
    request->under_way = r == BJ_OK;
    if (r != BJ_OK) {
        not_sent(request, r);
        future_unref_memory(&request->future);
    }
}

static void api_request__start(bj_future *future)
{
    struct request *request = request_of(future);
    struct text *text = NULL;

    int r = monitor_check_open(request->monitor, &text);
    if (r != BJ_OK) {
        over(request, NULL);
        future_answer(future, &(struct future_result){.error = r, .text = text});
        return;
    }
    struct driver *driver = request->monitor->driver;
    future_ref_memory(future);
    if (request->kind->starts_runs && driver->ops->takes(driver, request->command) < 0)
        probe(request, driver);
    else
        send_now(request, driver);
}

static void api_request__leave(bj_future *future)
{
    struct request *request = request_of(future);
    struct driver *driver = request->monitor->driver;

    request->left = true;
    if (!request->under_way || !driver || !driver->ops->withdraw(driver, &request->driver_request))
        return;
    request->under_way = false;
    over(request, NULL);
    future_unref_memory(future);
}

static void unstarted(bj_future *future)
{
    api_request__close_descriptors(request_of(future));
}

static struct text *api_request__late(bj_future *future)
{
    const struct request *request = request_of(future);
    const char *uri = monitor_label(request->monitor);
    double seconds = (double)future->timeout_ms / 1000.;
    const char *id = request->start_count > 0 ? request->starts[0].plan.id : "";

    if (request->start_count > 1)
        return text_printf("no answer from %s to %s within %.10g s: job %s and the others may yet "
                           "start; attach to what there is",
                           uri, request->command, seconds, id);
    if (request->start_count == 1)
        return text_printf(
            "no answer from %s to %s within %.10g s: job %s may yet start; attach to it", uri,
            request->command, seconds, id);
    return monitor_late_text(request->monitor, request->command, future->timeout_ms);
}

static void api_request__destroy(bj_future *future)
{
    struct request *request = request_of(future);
    free(request->command);
    free(request->arguments);
    free(request->raw_id);
    api_request__close_descriptors(request);
    text_unref(request->why);
    bj_job_unref(request->job);
    start_orders_free(request->starts, request->start_count);
    monitor_unref_memory(request->monitor);
}

static const struct future_ops request_ops = {
    .start = api_request__start,
    .unstarted = unstarted,
    .leave = api_request__leave,
    .late = api_request__late,
    .destroy = api_request__destroy,
};

static struct request *request_new(bj_monitor *monitor, const struct request_kind *kind,
                            int64_t timeout_ms, bj_future **ret_failed)
{
    *ret_failed = monitor_refuse(monitor, timeout_ms);
    if (*ret_failed)
        return NULL;

    struct request *request =
        (struct request *)future_new(monitor->ctx, sizeof *request, &request_ops);
    if (!request) {
        *ret_failed = future_static(BJ_E_NOMEM);
        return NULL;
    }
    request->kind = kind;
    request->monitor = monitor_ref_memory(monitor);
    return request;
}

static bj_future *request_set_command(struct request *request, const char *command, const char *arguments)
{
    bj_ctx *ctx = request->monitor->ctx;
    bj_future *failed = NULL;
    int error = BJ_OK;
    json_t *object = arguments ? json_text_object(arguments, &error) : NULL;

    if (!command || !*command)
        failed = future_failed(ctx, BJ_E_INVAL, "a command needs a name");
    else if (arguments && !object && error == BJ_E_NOMEM)
        failed = future_static(BJ_E_NOMEM);
    else if (arguments && !object)
        failed =
            future_failed(ctx, BJ_E_INVAL,
                          "%s: the arguments are not a JSON object, or name a member twice: %.*s",
                          command, text_fit(arguments, QUOTED_MAX), arguments);
    json_decref(object);

    if (!failed) {
        request->command = strdup(command);
        request->arguments = arguments ? strdup(arguments) : NULL;
        if (!request->command || (arguments && !request->arguments))
            failed = future_static(BJ_E_NOMEM);
    }
    if (failed)
        bj_future_unref(&request->future);
    return failed;
}
/* ---- core/src/api/start.c ---- */

/*
 * Starting a job.
 */

/* ---------------------------------------------------------------------- start */

static int start_begin(bj_monitor *monitor, struct start_order *order, struct start_plan *plan)
{
    bj_job *spare = job_new(monitor, plan->id, "");

    *order = (struct start_order){.plan = *plan, .sent_us = clock_realtime_us()};
    *plan = (struct start_plan){0};
    order->start.id = order->plan.id;
    order->start.type = order->plan.type;
    order->start.ours = order->plan.ours;
    order->start.is_unique = order->plan.has_own_id;
    order->start.spare = spare ? &spare->run : NULL;
    int r = spare ? tracker_start(&monitor->tracker, &order->start) : BJ_E_NOMEM;
    order->is_out = r == BJ_OK;
    return r;
}

static void start_own(bj_job *job, struct start *start)
{
    const struct start_order *order = container_of(start, struct start_order, start);
    const struct start_plan *plan = &order->plan;
    struct machine_traits *traits = machine_learn(&job->run.machine);

    traits->kept = plan->kept;
    traits->replaces = plan->replaces;
    job_learn_type(job, plan->type);
    job_learn_disks(job, plan->disks);
    job_note_start(job, order->sent_us, plan->device, plan->run_data);
}

static void start_over(struct request *request, const struct driver_reply *reply)
{
    for (size_t i = 0; i < request->start_count; i++) {
        struct start_order *order = &request->starts[i];
        if (order->is_out)
            tracker_started(&request->monitor->tracker, &order->start, request_result(reply));
        order->is_out = false;
    }
}

static void start_orders_free(struct start_order *orders, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct run *spare = orders[i].start.spare;
        if (spare) {
            job_retire(job_of(spare));
            bj_job_unref(job_of(spare));
        }
        if (orders[i].start.run)
            bj_job_unref(job_of(orders[i].start.run));
        start_plan_clear(&orders[i].plan);
    }
    free(orders);
}

static int send_planned(struct request *request, struct driver *driver, struct start_plan *plan)
{
    if (!driver->ops->has_command(driver, plan->command))
        return BJ_E_UNSUPPORTED;
    request->starts = calloc(1, sizeof *request->starts);
    char *text = json_text_add_members(request->arguments, plan->members);
    const char *command = plan->command;
    int r = BJ_E_NOMEM;
    if (text && request->starts) {
        request->start_count = 1;
        r = start_begin(request->monitor, request->starts, plan);
    }
    if (r == BJ_OK)
        r = driver->ops->execute(driver, &request->driver_request,
                                 &(struct driver_command){.name = command, .arguments = text});
    free(text);
    return r;
}

static int send_start(struct request *request, struct driver *driver)
{
    struct start_plan plan;
    json_t *arguments = json_text_object(request->arguments, NULL); /* was one when it was asked */
    int r = arguments ? driver->ops->plan_start(driver, request->command, arguments, &plan)
                      : BJ_E_NOMEM;
    if (r == BJ_OK) {
        r = send_planned(request, driver, &plan);
        start_plan_clear(&plan);
    }
    json_decref(arguments);
    return r;
}

static void start_replied(struct request *request, struct driver_reply *reply)
{
    bj_job *job = start_job(&request->starts[0]);
    (void)reply;
    if (job)
        future_answer(&request->future,
                      &(struct future_result){.value = job_value(bj_job_ref(job))});
    else
        future_fail(&request->future, BJ_E_NOMEM,
                    "job %s was started, and there is no memory to follow it: attach to it",
                    request->starts[0].plan.id);
}

bj_future *bj_monitor_start(bj_monitor *monitor, const char *command, const char *arguments,
                            int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_start,
        .replied = start_replied,
        .over = start_over,
        .starts_runs = true,
    };
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    failed = request_set_command(request, command, arguments ? arguments : "{}");
    return failed ? failed : future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}

/* ------------------------------------------------------------ the usual jobs */

struct member {
    const char *name;
    const char *value;
};

/* The object's text without its braces, for json_text_add_members(). NULL: no memory. */
static char *members_text(const struct member *members, size_t count)
{
    json_t *object = json_object();
    int failed = object ? 0 : -1;
    for (size_t i = 0; i < count && !failed; i++)
        failed = json_object_set_new(object, members[i].name, json_string(members[i].value));
    char *text = failed ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text)
        return NULL;
    size_t len = strlen(text);
    text[len - 1] = '\0';
    memmove(text, text + 1, len - 1);
    return text;
}

/* `options` is checked here, because it is joined as text. */
static bj_future *start_usual(bj_monitor *monitor, const char *command, const char *options,
                              const struct member *members, size_t count, int64_t timeout_ms)
{
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);
    for (size_t i = 0; i < count; i++)
        if (!members[i].value)
            return future_failed(monitor->ctx, BJ_E_INVAL, "%s: %s is NULL", command,
                                 members[i].name);

    int error = BJ_OK;
    json_t *parsed = options ? json_text_object(options, &error) : NULL;
    if (options && !parsed && error == BJ_E_NOMEM)
        return future_static(BJ_E_NOMEM);
    if (options && !parsed)
        return future_failed(monitor->ctx, BJ_E_INVAL,
                             "%s: the options are not a JSON object: %.*s", command,
                             text_fit(options, QUOTED_MAX), options);
    json_decref(parsed);

    errno = 0; /* nothing else tells no memory from no UTF-8 */
    char *required = members_text(members, count);
    char *arguments = required ? json_text_add_members(options ? options : "{}", required) : NULL;
    bj_future *future;
    if (arguments)
        future = bj_monitor_start(monitor, command, arguments, timeout_ms);
    else if (errno == ENOMEM)
        future = future_static(BJ_E_NOMEM);
    else
        future =
            future_failed(monitor->ctx, BJ_E_INVAL, "%s: its arguments are not UTF-8", command);
    free(required);
    free(arguments);
    return future;
}

bj_future *bj_monitor_mirror(bj_monitor *monitor, const char *device, const char *target,
                             const char *sync, const char *options, int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}, {"target", target}, {"sync", sync}};
    return start_usual(monitor, START_MIRROR, options, members, 3, timeout_ms);
}

bj_future *bj_monitor_commit(bj_monitor *monitor, const char *device, const char *options,
                             int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}};
    return start_usual(monitor, START_COMMIT, options, members, 1, timeout_ms);
}

bj_future *bj_monitor_stream(bj_monitor *monitor, const char *device, const char *options,
                             int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}};
    return start_usual(monitor, START_STREAM, options, members, 1, timeout_ms);
}

bj_future *bj_monitor_backup(bj_monitor *monitor, const char *device, const char *target,
                             const char *sync, const char *options, int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}, {"target", target}, {"sync", sync}};
    return start_usual(monitor, START_BACKUP, options, members, 3, timeout_ms);
}
/* ---- core/src/api/trace.c ---- */

/*
 * Traces; see trace.h.
 */

/* A line is shorter than most that a watch keeps, and a burst of them longer. */
#define LINES_A_RECORD 16

struct wire_watch {
    bj_watch watch; /* first */
    int flags;
};

/* ----------------------------------------------------------------------- lines */

static struct text *text_of(const struct wire_line *line, int flags)
{
    return flags & BJ_TRACE_MASKED ? line->mask(line->bytes, line->len)
                                   : text_new(line->bytes, line->len);
}

static bj_record record_of(const struct wire_line *line)
{
    return (bj_record){
        .kind = line->is_sent ? BJ_RECORD_SENT : BJ_RECORD_RECEIVED,
        .timestamp_us = clock_realtime_us(),
    };
}

static void call(bj_trace_fn fn, void *user, int flags, const bj_monitor *monitor,
                 const struct wire_line *line)
{
    struct text *text = text_of(line, flags);
    bj_record record = record_of(line);
    record.name = text_str(monitor->name ? monitor->name : monitor->uri);
    record.text = text_str(text);
    if (!text) {
        record.kind = BJ_RECORD_LAGGED;
        record.lost = 1;
    }
    fn(&record, user);
    text_unref(text);
}

static void tell_function(bj_monitor *monitor, const struct wire_line *line)
{
    ctx_lock(monitor->ctx);
    bj_trace_fn fn = monitor->trace.fn;
    void *user = monitor->trace.user;
    int flags = monitor->trace.flags;
    monitor->trace.is_called = fn != NULL;
    ctx_unlock(monitor->ctx);
    if (!fn)
        return;

    call(fn, user, flags, monitor, line);

    ctx_lock(monitor->ctx);
    monitor->trace.is_called = false;
    pthread_cond_broadcast(&monitor->ctx->call_returned);
    ctx_unlock(monitor->ctx);
}

static void tell_watch(const bj_monitor *monitor, struct wire_watch *watch,
                       const struct wire_line *line)
{
    struct text *text = text_of(line, watch->flags);
    bj_record record = record_of(line);
    if (text)
        watch_push(&watch->watch, &record,
                   &(struct record_refs){
                       .name = monitor->name ? monitor->name : monitor->uri,
                       .text = text,
                   });
    else
        watch_miss(&watch->watch);
    text_unref(text);
}

static void on_line(struct wire_tap *tap, const struct wire_line *line)
{
    bj_monitor *monitor = container_of(tap, bj_monitor, tap);

    tell_function(monitor, line);
    for (bj_watch *watch = monitor->traces; watch; watch = watch->next)
        tell_watch(monitor, (struct wire_watch *)watch, line);
}

static struct wire_tap *trace_tap(void *user)
{
    bj_monitor *monitor = user;
    return &monitor->tap;
}

static void trace_init(bj_monitor *monitor)
{
    atomic_init(&monitor->tap.is_open, false);
    monitor->tap.line = on_line;
}

/* Under the lock. */
static void open_or_close_tap(bj_monitor *monitor)
{
    atomic_store(&monitor->tap.is_open, monitor->trace.fn || monitor->trace.is_watched);
}

/* --------------------------------------------------------------------- watches */

static void set_watched(bj_monitor *monitor)
{
    ctx_lock(monitor->ctx);
    monitor->trace.is_watched = monitor->traces != NULL;
    open_or_close_tap(monitor);
    ctx_unlock(monitor->ctx);
}

/* Before the monitor begins to connect, which it may never do: its context ends the watch as well.
 */
static void begin_trace(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    if (ctx_is_closing(monitor->ctx)) {
        watch_end(watch, BJ_E_CLOSED, text_printf("the context was closed"));
        return;
    }
    monitor_enter_ctx(monitor);
    if (monitor_begin_watch(monitor, watch, &monitor->traces))
        set_watched(monitor);
}

static void leave_trace(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    watch_unlink(watch, &monitor->traces);
    set_watched(monitor);
}

static bj_watch *trace_watch(bj_monitor *monitor, int flags)
{
    static const struct watch_ops ops = {
        .begin = begin_trace,
        .leave = leave_trace,
        .disown = monitor_disown,
    };
    struct wire_watch *watch = (struct wire_watch *)watch_new(monitor->ctx, sizeof *watch, &ops,
                                                              monitor_ref_memory(monitor));
    if (!watch)
        return NULL;
    watch->watch.limit *= LINES_A_RECORD;
    watch->flags = flags;
    return watch_launch(&watch->watch);
}

static void trace_end(bj_monitor *monitor, int error, struct text *text)
{
    monitor_end_watch_list(&monitor->traces, error, text);
}

/* -------------------------------------------------------------------- function */

static int trace_check(const bj_monitor *monitor, int flags)
{
    if (flags & ~BJ_TRACE_MASKED)
        return BJ_E_INVAL;
    return monitor->has_wire ? BJ_OK : BJ_E_UNSUPPORTED;
}

int bj_monitor_set_trace(bj_monitor *monitor, int flags, bj_trace_fn fn, void *user)
{
    if (!monitor)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    int r = trace_check(monitor, flags);
    if (r != BJ_OK)
        return r;

    bool here = loop_is_current(monitor->ctx->loop); /* then no call is under way, or it is ours */
    ctx_lock(monitor->ctx);
    monitor->trace.fn = fn;
    monitor->trace.user = user;
    monitor->trace.flags = flags;
    open_or_close_tap(monitor);
    while (monitor->trace.is_called && !here)
        pthread_cond_wait(&monitor->ctx->call_returned, &monitor->ctx->lock);
    ctx_unlock(monitor->ctx);
    return BJ_OK;
}
#undef LINES_A_RECORD
/* ---- core/src/api/transaction.c ---- */

/*
 * Starting several jobs as one (B43).
 */

/* ---- core/src/qmp/start_commands.h ---- */

/*
 * The commands that start jobs, and what each takes on the QEMU at hand. Asked of QEMU where its
 * list of commands does not tell; no I/O here.
 */

/* ---- core/src/qmp/job_words.h ---- */

/*
 * QEMU's words for jobs: events into facts, verbs into commands, lists into rows. No I/O.
 */

/* ---- core/src/qmp/message.h ---- */

/*
 * What a QMP message says. Text in, structures out; no I/O and no memory of earlier messages.
 */

enum message_kind { MESSAGE_GREETING, MESSAGE_RETURN, MESSAGE_ERROR, MESSAGE_EVENT };

/* The strings in an event's data that say which job it is about, and what of it. */
enum event_word {
    WORD_ID,
    WORD_DEVICE,
    WORD_TYPE,
    WORD_STATUS,
    WORD_ERROR,
    WORD_OPERATION,
    WORD_ACTION,
    EVENT_WORDS
};

struct message {
    enum message_kind kind;
    json_t *root; /* owned: message_clear(); NULL of one that was read in place */

    /* All of these belong to root or to the text that was read. */
    const json_t *value; /* greeting: "QMP"; return: "return"; event: "data". NULL: there is none,
                            or it was read in place: message_value() */
    const char *raw;     /* the own text of "return", or of an event's "data" (NULL: it has none),
                            so that every integer in it is exact (B55) */
    size_t raw_len;
    const char *name;               /* event: its name; error: its class, or "" */
    const char *text;               /* error: its description, or "" */
    const char *words[EVENT_WORDS]; /* event; NULL: not there, or no string */
    int64_t timestamp_us;           /* event: microseconds since 1970, or 0 */
    int64_t id;                     /* replies; 0 if it is no number */
    bool has_id;                    /* QEMU gave one */
};

/* Which word `key` is the key of; -1: of none. */
static int event_word_of(const char *key, size_t len);

/* 0, BJ_E_NOMEM, or BJ_E_PROTOCOL with *ret_reason, a static string. `text` is changed only where
 * it holds a number that no 64-bit integer or double can hold, and only in a copy. */
static int message_parse(const char *text, size_t len, struct message *ret, const char **ret_reason);
static void message_clear(struct message *message);

/* What "return" says, as a tree, which is built when somebody asks and belongs to the message.
 * NULL: no memory. */
static const json_t *message_value(struct message *message);

/* One command as a line, to be executed in turn or out of band. `arguments` is the text of a JSON
 * object or NULL. malloc'ed; NULL when memory is short. */
static char *message_command(const char *name, const char *arguments, uint64_t id, bool out_of_band,
                      size_t *ret_len);

/* The class of the errors that refuse a verb because there is no such job. */
#define QMP_NO_SUCH_JOB "DeviceNotActive"

/* RHEL 6.3 has this instead of complete, for a mirror (B59). */
#define QMP_REOPEN "__com.redhat_drive-reopen"

/* False if the event is not about a job, or does not say about which (B49, B50). The fact's strings
 * belong to the message. */
static bool qmp_read_fact(const struct message *event, struct fact *ret);

/* The command for a verb; `has` tells which commands there are. NULL: this QEMU has none. */
typedef bool qmp_has_command(void *user, const char *command);
static const char *qmp_verb_command(enum verb verb, const char *type, qmp_has_command *has, void *user);

/* Its arguments, as text for free(). NULL: no memory. */
static char *qmp_verb_arguments(const char *command, enum verb verb, const char *id, int64_t speed,
                         qmp_has_command *has, void *user);

/* The arguments of VERB_CHANGE: `options`, a JSON object without an id, and whose job it is. As
 * text for free(). NULL: no memory. */
static char *qmp_change_arguments(const char *id, const char *type, const char *options);

/* Which rows are read: the first `limit`, and those that are wanted. */
struct row_filter {
    size_t limit;
    bool (*wants_row)(void *user, const char *id); /* NULL: no more */
    void *user;
};

/* The rows of query-block-jobs and of query-jobs (NULL before 3.0), a row a job. NULL: no memory.
 */
static struct job_list *qmp_read_rows(const json_t *block_jobs, const json_t *jobs,
                               const struct row_filter *filter);

/* The id of the job whose verb the command is; NULL: it is none. `arguments` may be NULL. */
static const char *qmp_verb_of(const char *command, const json_t *arguments, enum verb *ret_verb);

enum { START_COMMANDS = 10 };

struct start_command {
    const char *command;
    const char *type;
    bool auto_dismisses; /* the others are never dismissed by QEMU anyway */
};

/* NULL: not one we know; of such jobs QEMU tells the type. */
static const struct start_command *start_command_find(const char *command);

/* What they take, and who waits to know. */
struct start_commands {
    bool known;
    bool modern; /* 4.0 and later: also those that we don't know take an id */
    unsigned char takes[START_COMMANDS]; /* enum driver_takes */

    struct driver_request request; /* for the schema */
    bool under_way;
    struct driver_request *waiting;
    size_t waiting_count;
};

/* From the list of commands, as far as that tells. */
static void start_commands_init(struct start_commands *commands, qmp_has_command *has, void *user);
/* enum driver_takes; -1: not known yet. */
static int start_commands_take(const struct start_commands *commands, const char *command);

/* `request` is done once the schema is known, in its turn. */
static void start_commands_wait(struct start_commands *commands, struct driver_request *request);
static bool start_commands_leave(struct start_commands *commands, const struct driver_request *request);
static void start_commands_answer(struct start_commands *commands, struct driver_reply *reply);

/* The reply to query-qmp-schema. What is not in it, no command takes. */
static void start_commands_learn(struct start_commands *commands, const json_t *schema);

/* What is added to the data of each action; NULL where nothing is. */
struct additions {
    size_t count;
    char *members[];
};

static struct additions *new_additions(size_t count)
{
    struct additions *additions = calloc(1, sizeof *additions + count * sizeof(char *));
    if (additions)
        additions->count = count;
    return additions;
}

static void free_additions(struct additions *additions)
{
    for (size_t i = 0; additions && i < additions->count; i++)
        free(additions->members[i]);
    free(additions);
}

static const char *type_of(const json_t *action)
{
    return json_string_value(json_object_get(action, "type"));
}

static bool starts_job(const json_t *action)
{
    return start_command_find(type_of(action)) != NULL;
}

static size_t count_starts(const json_t *actions)
{
    size_t count = 0, i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        count += starts_job(action);
    }
    return count;
}

/* -------------------------------------------------------------------- sending */

/* Each is known before the first byte is sent (B01). */
static int begin_starts(struct request *request, struct driver *driver, const json_t *actions,
                        struct additions *additions)
{
    int r = BJ_OK;
    size_t i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        struct start_plan plan;
        if (!starts_job(action))
            continue;
        r = driver->ops->plan_start(driver, type_of(action), json_object_get(action, "data"),
                                    &plan);
        if (r != BJ_OK)
            break;
        additions->members[i] = plan.members;
        plan.members = NULL;
        r = start_begin(request->monitor, &request->starts[request->start_count++], &plan);
        if (r != BJ_OK)
            break;
    }
    return r;
}

static int send_actions(struct request *request, struct driver *driver,
                        const struct additions *additions)
{
    char *actions = NULL;
    int r = json_text_add_members_in(request->arguments, "data",
                                     (const char *const *)additions->members, &actions);
    if (r != BJ_OK)
        return r;
    r = driver->ops->transaction(driver, &request->driver_request, actions, request->is_grouped);
    free(actions);
    return r;
}

static int send_transaction(struct request *request, struct driver *driver)
{
    if (!driver->ops->transaction || !driver->ops->has_command(driver, request->command))
        return BJ_E_UNSUPPORTED;
    json_t *actions = json_text_array(request->arguments, NULL); /* was one when it was asked */
    struct additions *additions = new_additions(json_array_size(actions));
    request->starts = calloc(count_starts(actions) + 1, sizeof *request->starts);

    int r = actions && additions && request->starts
                ? begin_starts(request, driver, actions, additions)
                : BJ_E_NOMEM;
    if (r == BJ_OK)
        r = send_actions(request, driver, additions);
    free_additions(additions);
    json_decref(actions);
    return r;
}

/* NULL: there is no memory to follow them all. */
static struct job_array *started_jobs(const struct request *request)
{
    size_t count = request->start_count;
    struct job_array *jobs = calloc(1, sizeof *jobs + count * sizeof(bj_job *));

    for (size_t i = 0; jobs && i < count; i++) {
        bj_job *job = start_job(&request->starts[i]);
        if (!job) {
            job_array_free(jobs);
            return NULL;
        }
        jobs->jobs[jobs->count++] = bj_job_ref(job);
    }
    return jobs;
}

static void transaction_replied(struct request *request, struct driver_reply *reply)
{
    struct job_array *jobs = started_jobs(request);
    (void)reply;
    if (jobs)
        future_answer(&request->future, &(struct future_result){.value = jobs_value(jobs)});
    else
        future_fail(&request->future, BJ_E_NOMEM,
                    "the jobs were started, and there is no memory to follow them: attach to them");
}

/* --------------------------------------------------------------------- asking */

/* The first that is none, or whose data can't be added to; -1: all are actions. */
static int find_misfit(const json_t *actions)
{
    size_t i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        bool has_data = json_is_object(json_object_get(action, "data"));
        if (!type_of(action) || (starts_job(action) && !has_data))
            return (int)i;
    }
    return -1;
}

/* Adds nothing, which shows whether something could be. */
static int try_adding(const char *text, const json_t *actions)
{
    struct additions *additions = new_additions(json_array_size(actions));
    char *same = NULL;
    int r = additions ? BJ_OK : BJ_E_NOMEM;
    size_t i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        if (r == BJ_OK && starts_job(action) && !(additions->members[i] = strdup("")))
            r = BJ_E_NOMEM;
    }
    if (r == BJ_OK)
        r = json_text_add_members_in(text, "data", (const char *const *)additions->members, &same);
    free(same);
    free_additions(additions);
    return r;
}

/* NULL; or why these are no actions. */
static bj_future *check_actions(bj_ctx *ctx, const char *text, const json_t *actions)
{
    if (!actions)
        return future_failed(ctx, BJ_E_INVAL,
                             "transaction: the actions are not a JSON array, or name a member "
                             "twice: %.*s",
                             text ? text_fit(text, QUOTED_MAX) : QUOTED_MAX, text ? text : "NULL");
    int misfit = find_misfit(actions);
    if (misfit >= 0)
        return future_failed(ctx, BJ_E_INVAL,
                             "transaction: action %d is not {\"type\": \"...\", \"data\": {...}}",
                             misfit);
    int r = try_adding(text, actions);
    if (r == BJ_E_INVAL)
        return future_failed(ctx, r, "transaction: \"data\" is spelt with escapes");
    return r == BJ_OK ? NULL : future_static(r);
}

static bj_future *set_actions(struct request *request, const char *text)
{
    int error = BJ_OK;
    json_t *actions = text ? json_text_array(text, &error) : NULL;
    if (text && !actions && error == BJ_E_NOMEM)
        return future_static(BJ_E_NOMEM);
    bj_future *failed = check_actions(request->monitor->ctx, text, actions);
    json_decref(actions);
    if (failed)
        return failed;
    request->command = strdup("transaction");
    request->arguments = strdup(text);
    return request->command && request->arguments ? NULL : future_static(BJ_E_NOMEM);
}

bj_future *bj_monitor_transaction(bj_monitor *monitor, const char *actions, int flags,
                                  int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_transaction,
        .replied = transaction_replied,
        .over = start_over,
        .starts_runs = true,
    };
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    request->is_grouped = flags & BJ_TRANSACTION_GROUPED;
    if (flags & ~BJ_TRANSACTION_GROUPED)
        failed = future_failed(monitor->ctx, BJ_E_INVAL, "transaction: unknown flags 0x%x",
                               (unsigned)flags);
    else
        failed = set_actions(request, actions);
    if (!failed)
        return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
    bj_future_unref(&request->future);
    return failed;
}
/* ---- core/src/api/watch_jobs.c ---- */

/*
 * Watches of all jobs of a monitor; see watch_jobs.h.
 */

struct jobs_watch {
    bj_watch watch;                  /* first */
    struct progress_reader progress; /* with every_ms 0 it does not read */
    bool reads_progress;             /* the loop's own */
    bool wants_memos;
    struct recall recall; /* memos that wait for a connection */
};

static bj_monitor *watched_monitor(const bj_watch *watch)
{
    return watch->owner;
}

static struct jobs_watch *jobs_watch_of(bj_watch *watch)
{
    return (struct jobs_watch *)watch;
}

/* -------------------------------------------------------------------- changes */

static void api_watch_jobs__push(bj_job *job, bj_watch *watch, bj_record_kind kind, struct text *text)
{
    bool appears = kind == BJ_RECORD_APPEARED;
    job_push(job, watch, kind,
             &(struct record_refs){
                 .name = appears ? job->type : NULL,
                 .text = text,
                 .job = job_value(job),
             });
}

static bool wants_memos(bj_watch *watch)
{
    return jobs_watch_of(watch)->wants_memos;
}

static void push_memo(bj_job *job, bj_watch *watch)
{
    struct text *memo = memo_text(job);
    if (memo)
        api_watch_jobs__push(job, watch, BJ_RECORD_MEMO, memo);
    else
        watch_miss(watch);
    text_unref(memo);
}

/* What is true already. */
static void introduce(bj_job *job, bj_watch *watch)
{
    const struct machine *machine = &job->run.machine;

    api_watch_jobs__push(job, watch, BJ_RECORD_APPEARED, job->remembered);
    if (wants_memos(watch) && !machine_is_over(machine))
        push_memo(job, watch);
    if (machine_is(machine, IS_READY))
        api_watch_jobs__push(job, watch, BJ_RECORD_READY, NULL);
    if (machine_is_stalled(machine))
        api_watch_jobs__push(job, watch, BJ_RECORD_STALLED, machine_text(machine));
    if (job->notice != NOTICE_NONE)
        api_watch_jobs__push(job, watch, BJ_RECORD_STALLED, job->notice_text);
    if (!machine_is_over(machine))
        return;
    api_watch_jobs__push(job, watch, BJ_RECORD_ENDED, machine_text(machine));
    if (machine_is(machine, IS_RELEASED))
        api_watch_jobs__push(job, watch, BJ_RECORD_RELEASED, NULL);
}

static void watch_jobs_announce(bj_job *job)
{
    for (bj_watch *watch = job->monitor->jobs_watches; watch; watch = watch->next)
        introduce(job, watch);
    job_note_observer(job);
}

static void watch_jobs_push_all(bj_job *job, bj_record_kind kind, struct text *text)
{
    for (bj_watch *watch = job->monitor->jobs_watches; watch; watch = watch->next)
        api_watch_jobs__push(job, watch, kind, text);
}

static void watch_jobs_remember(bj_job *job)
{
    if (job->run.announcement != ANNOUNCED || machine_is_over(&job->run.machine))
        return;
    for (bj_watch *watch = job->monitor->jobs_watches; watch; watch = watch->next)
        if (wants_memos(watch))
            push_memo(job, watch);
}

/* An outcome that the block graph decides may come after QEMU has let go of the job. */
static void watch_jobs_report(bj_job *job, enum report news, const char *words)
{
    const struct machine *machine = &job->run.machine;
    bool is_over = machine_is_over(machine);

    if (!job->monitor->jobs_watches || news == REPORT_STATUS ||
        (news == REPORT_RELEASED && !is_over))
        return;
    struct text *text = news == REPORT_ENDED ? text_ref(machine_text(machine))
                        : words              ? text_printf("%s", words)
                                             : NULL;
    watch_jobs_push_all(job, job_record_of(news), text);
    text_unref(text);
    if (news == REPORT_ENDED && machine_is(machine, IS_RELEASED))
        watch_jobs_push_all(job, BJ_RECORD_RELEASED, NULL);
}

static void watch_jobs_miss(bj_monitor *monitor)
{
    for (bj_watch *watch = monitor->jobs_watches; watch; watch = watch->next)
        watch_miss(watch);
}

/* -------------------------------------------------------------------- seeking */

/* Before 3.0 QEMU says nothing of a new job, nor does libvirt; and a list can be refused. */
static bool needs_seeking(const bj_monitor *monitor)
{
    const struct tracker *t = &monitor->tracker;
    return t->link == LINK_UP && t->is_observed && (!t->reports_created || t->seeks_all);
}

static void on_seek_timer(void *user)
{
    bj_monitor *monitor = user;
    if (needs_seeking(monitor))
        tracker_seek(&monitor->tracker);
}

static void watch_jobs_listed(bj_monitor *monitor)
{
    if (!needs_seeking(monitor))
        return;
    if (!monitor->seek_timer)
        monitor->seek_timer = loop_timer_new(monitor->ctx->loop, on_seek_timer, monitor);
    if (monitor->seek_timer)
        loop_timer_set(monitor->seek_timer, (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_POLL_MS));
    else
        watch_jobs_miss(monitor);
}

/* ------------------------------------------------------------------- progress */

static void push_progress(bj_watch *watch, bj_job *job)
{
    watch_push(watch,
               &(bj_record){
                   .kind = BJ_RECORD_PROGRESS,
                   .current = job->last_progress.current,
                   .total = job->last_progress.total,
               },
               &(struct record_refs){.job = job_value(job)});
}

static void api_watch_jobs__give_progress(struct progress_reader *reader)
{
    struct jobs_watch *watch = container_of(reader, struct jobs_watch, progress);
    const bj_monitor *monitor = watched_monitor(&watch->watch);

    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        if (run->announcement == ANNOUNCED && !machine_is_over(&run->machine) &&
            progress_is_new(job_of(run), reader))
            push_progress(&watch->watch, job_of(run));
}

static void api_watch_jobs__begin_progress(struct jobs_watch *watch)
{
    watch->progress.give = api_watch_jobs__give_progress;
    watch->reads_progress = progress_join(watched_monitor(&watch->watch), &watch->progress);
    if (!watch->reads_progress)
        watch_miss(&watch->watch);
}

static void end_progress(struct jobs_watch *watch)
{
    if (watch->reads_progress)
        progress_leave(watched_monitor(&watch->watch), &watch->progress);
    watch->reads_progress = false;
}

/* -------------------------------------------------------------------- watches */

static void begin_recall(bj_watch *watch)
{
    size_t missed = recall_begin(watched_monitor(watch), &jobs_watch_of(watch)->recall);
    for (; missed > 0; missed--)
        watch_miss(watch);
}

static void watch_jobs_up(bj_monitor *monitor)
{
    bool seeks = false;
    for (bj_watch *watch = monitor->jobs_watches; watch; watch = watch->next) {
        seeks |= jobs_watch_of(watch)->recall.count > 0;
        begin_recall(watch);
    }
    if (seeks)
        tracker_seek(&monitor->tracker);
}

static void begin_job(bj_job *job, bj_watch *watch)
{
    introduce(job, watch);
    progress_note_observer(job);
}

static void api_watch_jobs__begin_watch(bj_watch *watch)
{
    bj_monitor *monitor = watched_monitor(watch);
    struct tracker *t = &monitor->tracker;
    bool recalls = jobs_watch_of(watch)->recall.count > 0 && t->link == LINK_UP;

    if (!monitor_begin_watch(monitor, watch, &monitor->jobs_watches))
        return;
    if (recalls)
        begin_recall(watch);
    for (struct run *run = monitor->tracker.runs; run; run = run->next)
        if (run->announcement == ANNOUNCED && (run->has_id || !machine_is_over(&run->machine)))
            begin_job(job_of(run), watch);
    if (recalls && t->is_observed)
        tracker_seek(t);
    tracker_observe(t, true);
    if (jobs_watch_of(watch)->progress.every_ms > 0)
        api_watch_jobs__begin_progress(jobs_watch_of(watch));
}

static void api_watch_jobs__leave_watch(bj_watch *watch)
{
    bj_monitor *monitor = watched_monitor(watch);

    end_progress(jobs_watch_of(watch));
    watch_unlink(watch, &monitor->jobs_watches);
    if (!monitor->jobs_watches)
        tracker_observe(&monitor->tracker, false);
}

static void clear_watch(bj_watch *watch)
{
    recall_clear(&jobs_watch_of(watch)->recall);
}

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_watch_jobs_options, progress_ms) + sizeof(int64_t))

static bool api_watch_jobs__read_options(const bj_watch_jobs_options *given, bj_watch_jobs_options *ret)
{
    *ret = (bj_watch_jobs_options){0};
    if (!given)
        return true;
    return options_read(ret, sizeof *ret, given, given->size, SHORTEST_OPTIONS) &&
           ret->progress_ms >= 0;
}

int bj_monitor_watch_jobs(bj_monitor *monitor, const bj_watch_jobs_options *options,
                          bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = api_watch_jobs__begin_watch,
        .leave = api_watch_jobs__leave_watch,
        .disown = monitor_disown,
        .clear = clear_watch,
    };
    bj_watch_jobs_options read;
    if (!monitor || !ret_watch || !api_watch_jobs__read_options(options, &read))
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    struct recall recall;
    int r = recall_read(read.remembered, read.remembered_count, &recall);
    struct jobs_watch *watch =
        r == BJ_OK ? (struct jobs_watch *)watch_new(monitor->ctx, sizeof *watch, &ops,
                                                    monitor_ref_memory(monitor))
                   : NULL;
    if (!watch) {
        recall_clear(&recall);
        return r == BJ_OK ? BJ_E_NOMEM : r;
    }
    watch->recall = recall;
    watch->wants_memos = read.memos;
    watch->watch.kept_limit = 2 * (size_t)ctx_limit(monitor->ctx, BJ_LIMIT_JOBS);
    watch->progress.every_ms = read.progress_ms;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}
#undef SHORTEST_OPTIONS
/* ---- core/src/api/wiring.c ---- */

/*
 * A tracker's port to the world: verbs and questions to the driver, answers to futures, news to
 * watches.
 */

static struct job_waiter *job_waiter_of(struct waiter *waiter)
{
    return (struct job_waiter *)waiter;
}

/* A verb that one caller gives has a wait of its own. */
static struct job_wait *api_wiring__wait_of(struct waiter *waiter)
{
    return container_of(waiter, struct job_wait, waiter);
}

static bj_ctx *api_wiring__ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* ------------------------------------------------------------ verbs on the way */

static void take_slot(struct job_request_slot *slot, bj_job *job, enum verb verb,
                      struct job_wait *wait)
{
    slot->job = bj_job_ref(job);
    slot->verb = verb;
    slot->wait = wait;
    if (wait)
        future_ref_memory(&wait->future);
}

/* What a slot held, for who still needs it: the slot may be taken again at once. */
struct taken {
    bj_job *job;
    struct job_wait *wait;
};

static struct taken empty_slot(struct job_request_slot *slot)
{
    struct taken taken = {.job = slot->job, .wait = slot->wait};
    slot->job = NULL;
    slot->wait = NULL;
    return taken;
}

/* May free the job. */
static void give_back(struct taken taken)
{
    if (taken.wait)
        future_unref_memory(&taken.wait->future);
    bj_job_unref(taken.job);
}

static void job_give_slot_back(struct job_request_slot *slot)
{
    struct taken taken = empty_slot(slot);
    tracker_taken_back(&taken.job->run);
    give_back(taken);
}

static void note_complete_accepted(bj_job *job)
{
    ctx_lock(api_wiring__ctx_of(job));
    job->times[BJ_MOMENT_COMPLETE_ACCEPTED] = clock_realtime_us();
    ctx_unlock(api_wiring__ctx_of(job));
}

static void verb_done(struct job_request_slot *slot, const struct driver_reply *reply)
{
    enum verb verb = slot->verb;
    struct taken taken = empty_slot(slot);
    const char *error_class = reply->error_class ? reply->error_class : "";
    struct waiter *waiter = taken.wait && taken.wait->linked ? &taken.wait->waiter.base : NULL;

    if (reply->error == BJ_OK && verb == VERB_COMPLETE)
        note_complete_accepted(taken.job);
    job_notify_listeners(taken.job);
    tracker_replied(&taken.job->run, verb, waiter,
                    reply->is_lost
                        ? NULL
                        : &(struct verb_reply){
                              .for_all = !taken.wait,
                              .verdict = reply->error == BJ_OK ? VERDICT_ACCEPTED : reply->refusal,
                              .error = reply->error,
                              .error_class = error_class,
                              .text = reply->text,
                          });
    give_back(taken);
}

static void on_verb_done(struct driver_request *request, struct driver_reply *reply)
{
    verb_done((struct job_request_slot *)request, reply);
}

static void run_verb_failed(struct loop_task *task)
{
    struct job_request_slot *slot = container_of(task, struct job_request_slot, failed);
    const struct driver *driver = slot->job->monitor->driver;
    bool lacks_complete = slot->error == BJ_E_UNSUPPORTED && slot->verb == VERB_COMPLETE;
    const char *hint = lacks_complete && driver ? driver->capabilities.complete_hint : NULL;
    verb_done(slot, &(struct driver_reply){
                        .error = slot->error,
                        .text = hint ? hint : bj_error_text(slot->error),
                    });
}

/* The tracker must not be answered from inside its own call. */
static void fail_later(struct job_request_slot *slot, int error, void (*run)(struct loop_task *))
{
    slot->error = error;
    slot->failed.run = run;
    if (!loop_post(api_wiring__ctx_of(slot->job)->loop, &slot->failed))
        give_back(empty_slot(slot)); /* the loop has ended, and so has every wait */
}

static struct job_request_slot *slot_for(bj_job *job, enum verb verb, struct job_wait *wait)
{
    if (wait)
        return &wait->slot;
    switch (verb) {
    case VERB_COMPLETE:
        return &job->complete;
    case VERB_CANCEL:
        return &job->cancel;
    case VERB_FORCE:
        return &job->force;
    default:
        return &job->dismiss;
    }
}

static int send_verb(bj_job *job, struct job_request_slot *slot, const struct waiter *waiter)
{
    struct driver *driver = job->monitor->driver;

    if (!driver)
        return BJ_E_DISCONNECTED;
    return driver->ops->verb(driver, &slot->request,
                             &(struct driver_verb){
                                 .verb = slot->verb,
                                 .id = text_str(job->id),
                                 .type = text_str(job->type),
                                 .run_data = job->run_data,
                                 .speed = waiter ? waiter->speed : 0,
                                 .options = waiter ? waiter->options : NULL,
                             });
}

static void api_wiring__port_send(struct run *run, enum verb verb, struct waiter *waiter)
{
    bj_job *job = job_of(run);
    struct job_wait *wait = waiter ? api_wiring__wait_of(waiter) : NULL;
    struct job_request_slot *slot = slot_for(job, verb, wait);

    int64_t sent_us = verb == VERB_COMPLETE ? clock_realtime_us() : 0;

    take_slot(slot, job, verb, wait);
    slot->request.done = on_verb_done;
    int r = send_verb(job, slot, waiter);
    if (r != BJ_OK) {
        fail_later(slot, r, run_verb_failed);
        return;
    }
    if (verb == VERB_COMPLETE) {
        ctx_lock(api_wiring__ctx_of(job));
        job->times[BJ_MOMENT_COMPLETE_SENT] = sent_us;
        ctx_unlock(api_wiring__ctx_of(job));
    }
}

/* ------------------------------------------------------------------ snapshots */

static enum snapshot keep_snapshot(bj_job *job, struct driver_reply *reply)
{
    if (reply->is_lost)
        return SNAPSHOT_WANTED;
    /* After the end it may show what came then: 5.2 still has the filter of a job that waits for
     * its dismissal. */
    if (!reply->snapshot || machine_has_end(&job->run.machine))
        return SNAPSHOT_VOID;
    ctx_lock(api_wiring__ctx_of(job));
    struct driver_snapshot *before = job->snapshot;
    job->snapshot = reply->snapshot;
    ctx_unlock(api_wiring__ctx_of(job));
    job->ops->free_snapshot(before);
    reply->snapshot = NULL;
    return SNAPSHOT_HELD;
}

static void snapshot_taken(struct job_request_slot *slot, enum snapshot result)
{
    struct taken taken = empty_slot(slot);
    tracker_snapshot(&taken.job->run, result);
    give_back(taken);
}

static void on_snapshot(struct driver_request *request, struct driver_reply *reply)
{
    struct job_request_slot *slot = (struct job_request_slot *)request;
    snapshot_taken(slot, keep_snapshot(slot->job, reply));
}

static void run_snapshot_failed(struct loop_task *task)
{
    snapshot_taken(container_of(task, struct job_request_slot, failed), SNAPSHOT_VOID);
}

static void port_take_snapshot(struct run *run, bool urgent)
{
    bj_job *job = job_of(run);
    struct driver *driver = job->monitor->driver;

    take_slot(&job->take_snapshot, job, VERB_COMPLETE, NULL);
    job->take_snapshot.request.done = on_snapshot;
    int r = driver->ops->take_snapshot(driver, &job->take_snapshot.request, text_str(job->id),
                                       job->device ? text_str(job->device) : NULL, urgent);
    if (r != BJ_OK)
        fail_later(&job->take_snapshot, r, run_snapshot_failed);
}

static void compared(struct job_request_slot *slot, const struct driver_reply *reply)
{
    struct taken taken = empty_slot(slot);
    tracker_compared(&taken.job->run, reply->error == BJ_OK ? reply->switched : SWITCH_UNKNOWN,
                     reply->is_lost);
    give_back(taken);
}

static void on_compared(struct driver_request *request, struct driver_reply *reply)
{
    compared((struct job_request_slot *)request, reply);
}

static void run_compare_failed(struct loop_task *task)
{
    struct job_request_slot *slot = container_of(task, struct job_request_slot, failed);
    compared(slot, &(struct driver_reply){.error = slot->error});
}

static void port_compare(struct run *run)
{
    bj_job *job = job_of(run);
    struct driver *driver = job->monitor->driver;

    take_slot(&job->compare_snapshot, job, VERB_COMPLETE, NULL);
    job->compare_snapshot.request.done = on_compared;
    int r = driver->ops->compare_snapshot(driver, &job->compare_snapshot.request, text_str(job->id),
                                          job->snapshot);
    if (r != BJ_OK)
        fail_later(&job->compare_snapshot, r, run_compare_failed);
}

/* ---------------------------------------------------------------------- timer */

static void job_on_stall_timer(void *user)
{
    bj_job *job = bj_job_ref(user);
    run_tick(&job->run);
    bj_job_unref(job);
}

static void api_wiring__port_set_timer(struct run *run, int64_t ms)
{
    struct loop_timer *timer = job_of(run)->stall_timer;
    if (!timer)
        return; /* retired */
    if (ms > 0)
        loop_timer_set(timer, ms);
    else
        loop_timer_stop(timer);
}

/* -------------------------------------------------------------------- answers */

static struct text *answer_text(const bj_job *job, const struct answer *answer)
{
    const char *id = text_str(job->id);
    const char *text = answer->text;

    switch (answer->error) {
    case BJ_OK:
        return NULL;
    case BJ_E_JOB_FAILED:
    case BJ_E_REFUSED:
        return text_printf("%s", text ? text : bj_error_text(answer->error)); /* QEMU's own words */
    case BJ_E_JOB_ENDED:
        return text_printf("job %s ended as %s%s%s", id,
                           bj_outcome_name(machine_outcome(&job->run.machine)), text ? ": " : "",
                           text ? text : "");
    default:
        return text_printf("job %s: %s", id, text ? text : bj_error_text(answer->error));
    }
}

static void api_wiring__port_answer(struct run *run, struct waiter *waiter, const struct answer *answer)
{
    struct job_waiter *job_waiter = job_waiter_of(waiter);
    const char *error_class = answer->error_class ? answer->error_class : "";

    job_waiter->answered(job_waiter,
                         &(struct future_result){
                             .error = answer->error,
                             .cause = answer->cause,
                             .outcome = machine_outcome(&run->machine),
                             .text = answer_text(job_of(run), answer),
                             .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                         });
}

/* ----------------------------------------------------------------------- news */

static void publish_ready(bj_job *job)
{
    ctx_lock(api_wiring__ctx_of(job));
    job->ready = true;
    job->times[BJ_MOMENT_READY_EVENT] = job_event_us(job);
    job->times[BJ_MOMENT_READY_SEEN] = job_seen_us(job);
    ctx_unlock(api_wiring__ctx_of(job));
}

static void publish_end(bj_job *job)
{
    ctx_lock(api_wiring__ctx_of(job));
    job->outcome = machine_outcome(&job->run.machine);
    job->ready |= job->outcome == BJ_OUTCOME_PIVOTED; /* also if nobody has heard of it */
    job->text = text_ref(machine_text(&job->run.machine));
    job->cause = machine_cause(&job->run.machine);
    if (!job->times[BJ_MOMENT_END_EVENT])
        job->times[BJ_MOMENT_END_EVENT] = job_event_us(job);
    job->times[BJ_MOMENT_END_SEEN] = job_seen_us(job);
    ctx_unlock(api_wiring__ctx_of(job));
}

/* This QEMU has no event for it; whoever watches events is to see one (B57). */
static void make_up_end(bj_job *job)
{
    struct driver *driver = job->monitor->driver;
    if (driver && driver->ops->make_up_end)
        driver->ops->make_up_end(driver, &(struct driver_end){
                                             .id = job->id,
                                             .type = text_str(job->type),
                                             .current = job->last_progress.current,
                                             .total = job->last_progress.total,
                                             .speed = job->last_progress.speed,
                                         });
}

static void api_wiring__port_report(struct run *run, enum report news, const char *text)
{
    bj_job *job = job_of(run);

    if (news == REPORT_STALLED || news == REPORT_RESUMED || news == REPORT_ENDED)
        notice_forget(job);
    switch (news) {
    case REPORT_ENDED:
        publish_end(job);
        memo_end(job);
        if (machine_is(&run->machine, END_ASSUMED))
            make_up_end(job);
        job_end_watches(job);
        break;
    case REPORT_RELEASED:
        memo_end(job);
        break;
    case REPORT_READY:
        publish_ready(job);
        job_notify_watches(job, news, text);
        break;
    default:
        job_notify_watches(job, news, text);
        break;
    }
    if (run->announcement == ANNOUNCED)
        watch_jobs_report(job, news, text);
}

/* ----------------------------------------------------------------------- runs */

static bj_monitor *monitor_of(struct tracker *tracker)
{
    return container_of(tracker, bj_monitor, tracker);
}

static struct run *port_new_run(struct tracker *tracker, const char *id, const char *type)
{
    bj_job *job = job_new(monitor_of(tracker), id, type);
    return job ? &job->run : NULL;
}

static void port_hold(struct run *run)
{
    bj_job_ref(job_of(run));
}

static void port_drop(struct run *run)
{
    bj_job_unref(job_of(run));
}

static void port_over(struct run *run)
{
    job_retire(job_of(run));
}

static void port_announce(struct run *run)
{
    watch_jobs_announce(job_of(run));
}

static void port_remember(struct run *run, unsigned facts)
{
    memo_note(job_of(run), facts);
}

static void port_ignored(struct tracker *tracker, const char *id)
{
    bj_monitor *monitor = monitor_of(tracker);
    watch_jobs_miss(monitor);
    ctx_log(monitor->ctx, "%s: more jobs than the limit: %s is not followed",
            monitor_label(monitor), id);
}

static void port_heard(struct run *run, const struct fact *fact)
{
    job_hear(job_of(run), fact);
}

static void port_own(struct run *run, struct start *start)
{
    start_own(job_of(run), start);
}

static void port_is_back(struct tracker *tracker)
{
    monitor_is_back(monitor_of(tracker));
}

static void port_is_settled(struct tracker *tracker)
{
    monitor_finish_if_settled(monitor_of(tracker));
}

static const struct tracker_port monitor_port = {
    .new_run = port_new_run,
    .hold = port_hold,
    .drop = port_drop,
    .over = port_over,
    .ignored = port_ignored,
    .heard = port_heard,
    .saw = fetch_rows_saw,
    .own = port_own,
    .send = api_wiring__port_send,
    .ask_list = fetch_rows,
    .take_snapshot = port_take_snapshot,
    .compare = port_compare,
    .set_timer = api_wiring__port_set_timer,
    .answer = api_wiring__port_answer,
    .report = api_wiring__port_report,
    .announce = port_announce,
    .remember = port_remember,
    .attached = attach_answered,
    .name = attach_name,
    .is_back = port_is_back,
    .is_settled = port_is_settled,
};
/* ---- core/src/base/ctx.c ---- */

/*
 * Contexts; see ctx.h.
 */

/* ---- core/src/base/host.h ---- */

/*
 * Loops that another loop runs, the program's on libev. host.c is the only file that knows libev.
 */

struct ev_loop;

/* What a loop asks of the one that runs it. The loop's thread. */
struct loop_host {
    /* Before the loop's code runs, and after it: at `due_ns` (monotonic; -1: never) its first timer
     * is due; `is_busy`: it waits for something, so the host must not return yet. */
    void (*begin)(struct loop_host *host);
    void (*end)(struct loop_host *host, bool is_busy, int64_t due_ns);
    void (*keep)(struct loop_host *host);       /* outside of both: it has become busy */
    bool (*is_running)(struct loop_host *host); /* any thread */
    /* It has stopped, or this is a child of fork(): the host forgets it, and frees itself. */
    void (*forget)(struct loop_host *host);
};

/* A loop on `ev`, on whose thread this is called. Errors as of loop_new(). */
static int loop_new_on(struct ev_loop *ev, struct loop **ret_loop);

/* For host.c. */
static int loop_new_hosted(struct loop_host *host, struct loop **ret_loop);
static int loop_set(const struct loop *loop);   /* an fd that is readable when there is something to do */
static void loop_ring(const struct loop *loop); /* makes it readable */
/* Runs what is due. False: nothing was run, as something of the loop is on the stack already. */
static bool loop_drive(struct loop *loop);

/* ---- core/src/base/process.h ---- */

/*
 * Which process and which thread this is. Numbers of the kernel will not do: two processes may both
 * be number 1, each in a namespace of its own, and a pthread_t is soon used again. Any thread.
 */

/* From here on a child of fork() is known by its generation. BJ_OK, BJ_E_NOMEM. */
static int process_count_forks(void);

/* Differs between a process and each child that it forks; no system call. */
static unsigned process_generation(void);

/* The kernel's number of this thread; a system call only the first time. */
static pid_t thread_number(void);
static bool thread_is_alive(pid_t number); /* of this process */

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

static bj_ctx *ctx_ref(bj_ctx *ctx)
{
    atomic_fetch_add(&ctx->refs, 1);
    return ctx;
}

static bj_ctx *ctx_unref(bj_ctx *ctx)
{
    if (atomic_fetch_sub(&ctx->refs, 1) != 1)
        return NULL;
    loop_free(ctx->loop);
    if (ctx->free_command_sets)
        ctx->free_command_sets(ctx);
    pthread_cond_destroy(&ctx->call_returned);
    pthread_mutex_destroy(&ctx->lock);
    pthread_mutex_destroy(&ctx->close_lock);
    free(ctx);
    return NULL;
}

static bool ctx_is_forked(const bj_ctx *ctx)
{
    return ctx->generation != process_generation();
}

static bool ctx_is_closing(bj_ctx *ctx)
{
    ctx_lock(ctx);
    bool closing = ctx->closing;
    ctx_unlock(ctx);
    return closing;
}

static void ctx_lock(bj_ctx *ctx)
{
    pthread_mutex_lock(&ctx->lock);
}

static void ctx_unlock(bj_ctx *ctx)
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
    pthread_cond_init(&ctx->call_returned, NULL);
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

static void ctx_enter(bj_ctx *ctx, struct ctx_member *member)
{
    member->next = ctx->members;
    ctx->members = member;
}

static void ctx_leave(bj_ctx *ctx, struct ctx_member *member)
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
    if (!ctx->closed && ctx->closes_itself) {
        loop_join(ctx->loop);
        ctx->closed = true;
    } else if (!ctx->closed) {
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

/* The thread ends by itself, and what is left of the context then goes with it. */
static void begin_closing_itself(bj_ctx *ctx)
{
    ctx->closes_itself = true;
    loop_on_gone(ctx->loop, drop_memory, ctx_ref(ctx));
    ctx->leaving.run = run_closing_inside;
    loop_post(ctx->loop, &ctx->leaving);
}

int bj_ctx_close_async(bj_ctx *ctx)
{
    if (!ctx)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    if (loop_is_theirs(ctx->loop))
        return close_theirs(ctx);
    if (pthread_mutex_trylock(&ctx->close_lock) != 0)
        return BJ_OK; /* another thread is closing it, and may wait for that */
    if (!ctx->closed && !ctx->closes_itself)
        begin_closing_itself(ctx);
    pthread_mutex_unlock(&ctx->close_lock);
    return BJ_OK;
}

/* The last handle was given back, and nobody waits for the thread. */
static void let_it_close_itself(bj_ctx *ctx)
{
    ctx->closed = true;
    loop_detach(ctx->loop);
    ctx_unref(ctx);
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
    bool joined = ctx->closed;
    int r = joined || ctx->closes_itself ? BJ_OK : bj_ctx_close(ctx);

    if (r == BJ_E_DEADLOCK) /* inside a callback nobody can wait for the thread */
        begin_closing_itself(ctx);
    if (ctx->closes_itself && !joined)
        let_it_close_itself(ctx);
    else if (r == BJ_E_STATE)
        close_from_afar(ctx);
    else
        ctx_unref(ctx);
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

static uint64_t ctx_limit(bj_ctx *ctx, bj_limit limit)
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
        pthread_cond_wait(&ctx->call_returned, &ctx->lock);
    ctx_unlock(ctx);
    return BJ_OK;
}

#define MESSAGE_MAX 511

static void ctx_log(bj_ctx *ctx, const char *format, ...)
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
    pthread_cond_broadcast(&ctx->call_returned);
    ctx_unlock(ctx);
}
#undef MESSAGE_MAX
/* ---- core/src/base/descriptors.c ---- */

/*
 * The descriptors of a command; see descriptors.h.
 */

/* All of them before the first is duplicated, which may get the number of a later one. */
static bool are_open(const int *fds, size_t count, size_t *ret_bad)
{
    for (size_t i = 0; i < count; i++) {
        if (fcntl(fds[i], F_GETFD) < 0) {
            *ret_bad = i;
            return false;
        }
    }
    return true;
}

static int descriptors_duplicate(const int *fds, size_t count, struct descriptors **ret, size_t *ret_bad)
{
    if (!are_open(fds, count, ret_bad))
        return BJ_E_INVAL;
    struct descriptors *made = malloc(sizeof *made + count * sizeof made->fds[0]);
    if (!made)
        return BJ_E_NOMEM;

    for (made->count = 0; made->count < count; made->count++) {
        int fd = fcntl(fds[made->count], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            int error = errno;
            descriptors_close(made);
            errno = error;
            return BJ_E_SYSTEM;
        }
        made->fds[made->count] = fd;
    }
    *ret = made;
    return BJ_OK;
}

static void descriptors_close(struct descriptors *descriptors)
{
    for (size_t i = 0; descriptors && i < descriptors->count; i++)
        close(descriptors->fds[i]);
    free(descriptors);
}
/* ---- core/src/base/error.c ---- */

/*
 * Names and short sentences for error codes and outcomes.
 */

struct word {
    const char *name;
    const char *text;
};

static const struct word errors[] = {
    [BJ_OK] = {"BJ_OK", "success"},
    [-BJ_E_INVAL] = {"BJ_E_INVAL", "an argument makes no sense"},
    [-BJ_E_NOMEM] = {"BJ_E_NOMEM", "out of memory"},
    [-BJ_E_SYSTEM] = {"BJ_E_SYSTEM",
                      "the operating system refused a file descriptor, a thread or an epoll watch: "
                      "see ulimit -n, ulimit -u, fs.epoll.max_user_watches"},
    [-BJ_E_FORKED] = {"BJ_E_FORKED", "the object belongs to the parent process: connect anew"},
    [-BJ_E_DEADLOCK] = {"BJ_E_DEADLOCK",
                        "a blocking call on the loop's own thread would never return"},
    [-BJ_E_PENDING] = {"BJ_E_PENDING", "there is no answer yet"},
    [-BJ_E_TIMEOUT] = {"BJ_E_TIMEOUT", "the deadline passed; nothing was done to the job"},
    [-BJ_E_CANCELLED] = {"BJ_E_CANCELLED", "the wait was cancelled; the job goes on"},
    [-BJ_E_CLOSED] = {"BJ_E_CLOSED", "closed by this program"},
    [-BJ_E_BUSY] = {"BJ_E_BUSY", "a limit of the context was reached; nothing was sent"},
    [-BJ_E_UNSUPPORTED] = {"BJ_E_UNSUPPORTED", "this QEMU has no such command"},
    [-BJ_E_CONNECT] = {"BJ_E_CONNECT", "no connection could be made"},
    [-BJ_E_PROTOCOL] = {"BJ_E_PROTOCOL",
                        "the peer does not speak QMP, or said more than the limits allow"},
    [-BJ_E_DISCONNECTED] = {"BJ_E_DISCONNECTED", "the connection ended before the answer came"},
    [-BJ_E_REFUSED] = {"BJ_E_REFUSED", "QEMU refused the command"},
    [-BJ_E_NO_JOB] = {"BJ_E_NO_JOB", "there is no such job"},
    [-BJ_E_NOT_READY] = {"BJ_E_NOT_READY", "the job is not ready"},
    [-BJ_E_STALLED] = {"BJ_E_STALLED", "the job stands still: resume it, or abort it with force"},
    [-BJ_E_STATE] = {"BJ_E_STATE", "that does not fit what the job is or does"},
    [-BJ_E_JOB_FAILED] = {"BJ_E_JOB_FAILED", "the job failed"},
    [-BJ_E_JOB_LOST] = {"BJ_E_JOB_LOST", "how the job ended can't be known"},
    [-BJ_E_JOB_ENDED] = {"BJ_E_JOB_ENDED", "the job ended otherwise than asked"},
};

static const char *const outcomes[] = {
    [BJ_OUTCOME_NONE] = "NONE",           [BJ_OUTCOME_COMPLETED] = "COMPLETED",
    [BJ_OUTCOME_PIVOTED] = "PIVOTED",     [BJ_OUTCOME_COPIED] = "COPIED",
    [BJ_OUTCOME_CANCELLED] = "CANCELLED", [BJ_OUTCOME_FAILED] = "FAILED",
    [BJ_OUTCOME_LOST] = "LOST",
};

static const struct word *error_word(int error)
{
    static const struct word unknown = {"BJ_E_?", "unknown error code"};
    size_t n = sizeof errors / sizeof errors[0];

    if (error > 0 || error <= -(int)n)
        return &unknown;
    return &errors[-error];
}

const char *bj_error_name(int error)
{
    return error_word(error)->name;
}

const char *bj_error_text(int error)
{
    return error_word(error)->text;
}

const char *bj_outcome_name(bj_outcome outcome)
{
    size_t index = (size_t)outcome;
    return index < sizeof outcomes / sizeof outcomes[0] ? outcomes[index] : "?";
}

#define STRING(x) #x
#define VERSION(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)

int bj_version_number(void)
{
    return BJ_VERSION_NUMBER;
}

const char *bj_version(void)
{
    return VERSION(BJ_VERSION_MAJOR, BJ_VERSION_MINOR, BJ_VERSION_PATCH);
}
#undef STRING
#undef VERSION
/* ---- core/src/base/host.c ---- */

/*
 * Loops on libev; see host.h. A loop has three watchers there: its epoll set, its first timer, and
 * one for fork(). All are active all the time, so that none has to be added when memory is short;
 * only `keeps` counts for ev_run().
 */

#define FAR_AWAY_S 1e9
#define NS_PER_S 1e9
#define DEAF_S .1 /* how often a set is looked at that libev could not take */

struct host {
    struct loop_host as_host;
    struct loop *loop;
    struct ev_loop *ev;
    ev_io set;
    ev_timer due;
    ev_fork forked;
    int64_t due_ns; /* when, monotonic; -1: never; 0: it has expired */
    bool keeps;     /* ev_run() from returning */
    bool hears;     /* of the set. If libev can't take it (fs.epoll.max_user_watches, memory), it
                     * says so only after it has slept; so until then its sleep is short */
};

static struct host *host_of(struct loop_host *host)
{
    return container_of(host, struct host, as_host);
}

static void base_host__keep(struct host *host, bool keeps)
{
    if (keeps && !host->keeps)
        ev_ref(host->ev);
    if (!keeps && host->keeps)
        ev_unref(host->ev);
    host->keeps = keeps;
}

static void listen_to_set(struct host *host, bool listens)
{
    if (listens == (bool)ev_is_active(&host->set))
        return;
    if (listens) {
        host->hears = false;
        loop_ring(host->loop);
        ev_io_start(host->ev, &host->set);
        ev_unref(host->ev);
    } else {
        ev_ref(host->ev);
        ev_io_stop(host->ev, &host->set);
    }
}

/* libev's idea of now may be old: then it calls too early, and is asked again. */
static void arm(struct host *host, int64_t due_ns)
{
    if (due_ns == host->due_ns && host->hears)
        return;
    double left = due_ns < 0 ? FAR_AWAY_S : (double)(due_ns - clock_monotonic_ns()) / NS_PER_S;
    if (!host->hears && left > DEAF_S)
        left = DEAF_S;
    host->due_ns = due_ns;
    host->due.repeat = left > 0. ? left : 1. / NS_PER_S; /* 0 would stop it */
    ev_timer_again(host->ev, &host->due);
}

static void drive(struct host *host)
{
    if (loop_drive(host->loop))
        return; /* it may have gone */
    /* Inside a callback of its own: until that has returned, ev_run() is to sleep. */
    listen_to_set(host, false);
    arm(host, -1);
}

static void on_set(struct ev_loop *ev, ev_io *io, int events)
{
    struct host *host = io->data;
    host->hears = !(events & EV_ERROR);
    if (!host->hears) /* libev has stopped the watcher */
        ev_ref(ev);
    drive(host);
}

static void on_due(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)events;
    struct host *host = timer->data;
    host->due_ns = 0;
    drive(host);
}

static void on_fork(struct ev_loop *ev, ev_fork *forked, int events)
{
    (void)ev, (void)events;
    drive(forked->data);
}

/* ------------------------------------------------------------- as a loop's host */

static void base_host__begin(struct loop_host *as_host)
{
    base_host__keep(host_of(as_host), false); /* an ev_run() in a callback would wait for what can't come */
}

static void base_host__end(struct loop_host *as_host, bool is_busy, int64_t due_ns)
{
    struct host *host = host_of(as_host);
    listen_to_set(host, true);
    arm(host, due_ns);
    base_host__keep(host, is_busy);
}

/* An ev_run() that is yet to begin finds the bell rung. */
static void keep_on(struct loop_host *as_host)
{
    struct host *host = host_of(as_host);
    if (ev_depth(host->ev) > 0)
        base_host__keep(host, true);
}

static bool is_running(struct loop_host *as_host)
{
    return ev_depth(host_of(as_host)->ev) > 0;
}

static void forget(struct loop_host *as_host)
{
    struct host *host = host_of(as_host);
    base_host__keep(host, false);
    listen_to_set(host, false);
    ev_ref(host->ev);
    ev_timer_stop(host->ev, &host->due);
    ev_ref(host->ev);
    ev_fork_stop(host->ev, &host->forked);
    free(host);
}

static void base_host__start(struct host *host)
{
    ev_io_init(&host->set, on_set, loop_set(host->loop), EV_READ);
    ev_init(&host->due, on_due);
    ev_fork_init(&host->forked, on_fork);
    host->set.data = host->due.data = host->forked.data = host;

    listen_to_set(host, true);
    arm(host, -1);
    ev_unref(host->ev);
    ev_fork_start(host->ev, &host->forked);
    ev_unref(host->ev);
    keep_on(&host->as_host); /* until its first turn, in which it learns its thread */
}

static int loop_new_on(struct ev_loop *ev, struct loop **ret_loop)
{
    struct host *host = calloc(1, sizeof *host);
    if (!host)
        return BJ_E_NOMEM;
    host->as_host = (struct loop_host){
        .begin = base_host__begin,
        .end = base_host__end,
        .keep = keep_on,
        .is_running = is_running,
        .forget = forget,
    };
    host->ev = ev;
    int r = loop_new_hosted(&host->as_host, &host->loop);
    if (r != BJ_OK) {
        free(host);
        return r;
    }
    base_host__start(host);
    *ret_loop = host->loop;
    return BJ_OK;
}
#undef FAR_AWAY_S
#undef NS_PER_S
#undef DEAF_S
/* ---- core/src/base/id_tree.c ---- */

/* FNV-1a, and mixed once more: similar ids are to get unlike ranks. */
static uint32_t rank_of(const char *id)
{
    uint32_t hash = 2166136261u;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    hash = (hash ^ hash >> 16) * 0x7feb352du;
    return hash ^ hash >> 15;
}

static struct id_node *id_tree_find(struct id_node *root, const char *id)
{
    while (root) {
        int order = strcmp(id, root->id);
        if (order == 0)
            return root;
        root = order < 0 ? root->left : root->right;
    }
    return NULL;
}

static void id_tree_add(struct id_node **root, struct id_node *node, const char *id)
{
    node->id = id;
    node->rank = rank_of(id);

    struct id_node **at = root;
    while (*at && (*at)->rank >= node->rank)
        at = strcmp(id, (*at)->id) < 0 ? &(*at)->left : &(*at)->right;

    /* What was there is split into what comes before the new node and what comes after it. */
    struct id_node *rest = *at, **before = &node->left, **after = &node->right;
    *at = node;
    while (rest) {
        bool is_before = strcmp(rest->id, id) < 0;
        struct id_node ***end = is_before ? &before : &after;
        **end = rest;
        *end = is_before ? &rest->right : &rest->left;
        rest = **end;
    }
    *before = *after = NULL;
}

static void id_tree_remove(struct id_node **root, struct id_node *node)
{
    struct id_node **at = root;
    while (*at != node)
        at = strcmp(node->id, (*at)->id) < 0 ? &(*at)->left : &(*at)->right;

    struct id_node *left = node->left, *right = node->right;
    while (left && right) {
        bool left_first = left->rank >= right->rank;
        struct id_node **from = left_first ? &left : &right;
        *at = *from;
        at = left_first ? &(*from)->right : &(*from)->left;
        *from = *at;
    }
    *at = left ? left : right;
    node->left = node->right = NULL;
}
/* ---- core/src/base/json_text.c ---- */

/*
 * JSON as text; see json_text.h.
 */

/* -------------------------------------------------------------------- scanning */

/* The closing quote of the string that begins at text[at], or len. */
static size_t skip_string(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < len ? at : len;
}

static size_t skip_digits(const char *text, size_t len, size_t at)
{
    while (at < len && text[at] >= '0' && text[at] <= '9')
        at++;
    return at;
}

static size_t json_text_number(const char *text, size_t len, bool *ret_integer)
{
    size_t begin = len > 0 && text[0] == '-' ? 1 : 0;
    size_t at = skip_digits(text, len, begin);
    size_t integer_end = at;

    if (at == begin || (text[begin] == '0' && at > begin + 1))
        return 0;
    if (at < len && text[at] == '.') {
        size_t fraction = at + 1;
        at = skip_digits(text, len, fraction);
        if (at == fraction)
            return 0;
    }
    if (at < len && (text[at] == 'e' || text[at] == 'E')) {
        size_t exponent = at + 1;
        if (exponent < len && (text[exponent] == '+' || text[exponent] == '-'))
            exponent++;
        at = skip_digits(text, len, exponent);
        if (at == exponent)
            return 0;
    }
    *ret_integer = at == integer_end;
    return at;
}

static bool overflows(const char *number, size_t len, bool is_integer)
{
    char digits[512];
    if (len >= sizeof digits)
        return true;
    memcpy(digits, number, len);
    digits[len] = '\0';

    errno = 0;
    if (is_integer)
        strtoll(digits, NULL, 10);
    else
        strtod(digits, NULL);
    return errno == ERANGE;
}

/* Writes 0 over every number that jansson could not hold. The parsed tree is only for us, who need
 * none of them; callers get the message's own text. False if something is no number. */
static bool blank_huge_numbers(char *text, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        bool is_integer;
        if (text[at] == '"') {
            at = skip_string(text, len, at);
            continue;
        }
        if (text[at] != '-' && (text[at] < '0' || text[at] > '9'))
            continue;
        size_t n = json_text_number(text + at, len - at, &is_integer);
        if (n == 0)
            return false;
        if (overflows(text + at, n, is_integer)) {
            memset(text + at, ' ', n);
            text[at] = '0';
        }
        at += n - 1;
    }
    return true;
}

static json_t *load_huge(const char *text, size_t len, size_t flags, enum json_error_code *ret_code)
{
    char *copy = malloc(len ? len : 1);
    if (!copy) {
        *ret_code = json_error_out_of_memory;
        return NULL;
    }
    memcpy(copy, text, len);
    errno = 0;
    json_t *root = blank_huge_numbers(copy, len) ? json_loadb(copy, len, flags, NULL) : NULL;
    if (errno == ENOMEM)
        *ret_code = json_error_out_of_memory;
    free(copy);
    return root;
}

/* jansson calls some of its failures to get memory bad syntax; errno knows better. */
static json_t *load_or_code(const char *text, size_t len, size_t flags,
                            enum json_error_code *ret_code)
{
    json_error_t error = {0};
    errno = 0;
    json_t *root = json_loadb(text, len, flags, &error);
    *ret_code = errno == ENOMEM ? json_error_out_of_memory : json_error_code(&error);
    if (!root && *ret_code == json_error_numeric_overflow)
        root = load_huge(text, len, flags, ret_code);
    return root;
}

static bool is_lack_of_memory(enum json_error_code code)
{
    return code == json_error_out_of_memory || code == json_error_unknown;
}

static json_t *json_text_load(const char *text, size_t len, size_t flags, bool *ret_no_memory)
{
    enum json_error_code code;
    json_t *root = load_or_code(text, len, flags, &code);
    *ret_no_memory = !root && is_lack_of_memory(code);
    return root;
}

/* The end of the value that begins at text[at], in a text known to be valid JSON. */
static size_t skip_value(const char *text, size_t len, size_t at)
{
    size_t depth = 0;

    for (; at < len; at++) {
        char c = text[at];
        if (c == '"')
            at = skip_string(text, len, at);
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth > 0)
            depth--;
        else if (depth == 0 && (c == ',' || c == '}'))
            break;
    }
    return at < len ? at : len;
}

static size_t base_json_text__skip_space(const char *text, size_t len, size_t at)
{
    while (at < len && strchr(" \t\r\n,:{", text[at]) && text[at])
        at++;
    return at;
}

static const char *json_text_find(const char *text, size_t len, const char *key, size_t *ret_len)
{
    const char *found = NULL;
    size_t key_len = strlen(key);
    size_t at = base_json_text__skip_space(text, len, 0);

    while (at < len && text[at] == '"') {
        size_t end = skip_string(text, len, at);
        bool is_it = end - at - 1 == key_len && memcmp(text + at + 1, key, key_len) == 0;

        at = end + 1;
        while (at < len && strchr(" \t\r\n:", text[at]) && text[at])
            at++;
        end = skip_value(text, len, at);
        if (is_it) {
            found = text + at;
            *ret_len = end - at;
            while (*ret_len > 0 && strchr(" \t\r\n", found[*ret_len - 1]))
                (*ret_len)--;
        }
        at = base_json_text__skip_space(text, len, end);
    }
    return found;
}

/* --------------------------------------------------------------------- making */

/* Not by asprintf(), whose code is cold when READY comes. */
static char *json_text_join(const char *const *parts, size_t count, size_t *ret_len)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += strlen(parts[i]);
    char *joined = malloc(len + 1);
    if (!joined)
        return NULL;

    char *at = joined;
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, parts[i]);
    *at = '\0';
    if (ret_len)
        *ret_len = len;
    return joined;
}

static bool json_text_is_plain(const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return s[strspn(s, plain)] == '\0';
}

static char *json_text_quote(const char *s)
{
    if (json_text_is_plain(s))
        return json_text_join((const char *[]){"\"", s, "\""}, 3, NULL);

    json_t *string = json_string(s);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    return quoted;
}

/* -------------------------------------------------------------------- reading */

/* QEMU's own limit. */
#define NESTING_MAX 1024

static bool is_too_deep(const char *text, size_t len)
{
    size_t depth = 0;
    for (size_t at = 0; at < len; at++) {
        if (text[at] == '"')
            at = skip_string(text, len, at);
        else if (text[at] == '{' || text[at] == '[')
            depth++;
        else if (text[at] == '}' || text[at] == ']')
            depth--;
        if (depth > NESTING_MAX)
            return true;
    }
    return false;
}

/* As strict as QEMU, whose error reply to bad syntax has no id. */
static json_t *load_strictly(const char *text, json_type type, int *ret_error)
{
    bool no_memory = false;
    size_t len = strlen(text);
    json_t *root = is_too_deep(text, len)
                       ? NULL
                       : json_text_load(text, len, JSON_REJECT_DUPLICATES, &no_memory);

    if (ret_error)
        *ret_error = no_memory ? BJ_E_NOMEM : BJ_E_INVAL;
    if (root && json_typeof(root) != type) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static json_t *json_text_object(const char *text, int *ret_error)
{
    return load_strictly(text, JSON_OBJECT, ret_error);
}

static json_t *json_text_array(const char *text, int *ret_error)
{
    return load_strictly(text, JSON_ARRAY, ret_error);
}

static char *json_text_add_members(const char *text, const char *members)
{
    const char *rest = strchr(text, '{') + 1;
    while (strchr(" \t\r\n", *rest) && *rest)
        rest++;

    char *joined = NULL;
    const char *comma = *rest == '}' || !*members ? "" : ",";
    return asprintf(&joined, "{%s%s%s", members, comma, rest) < 0 ? NULL : joined;
}

/* The end of the object that begins at text[at], in a text known to be valid JSON. */
static size_t skip_object(const char *text, size_t len, size_t at)
{
    size_t depth = 0;

    do {
        if (text[at] == '"')
            at = skip_string(text, len, at);
        else if (text[at] == '{' || text[at] == '[')
            depth++;
        else if (text[at] == '}' || text[at] == ']')
            depth--;
        at++;
    } while (depth > 0 && at < len);
    return at;
}

/* The object from text[begin] to text[end], with the members in it. */
static int add_within(FILE *out, const char *text, size_t begin, size_t end, const char *key,
                      const char *members)
{
    size_t len;
    const char *value = json_text_find(text + begin, end - begin, key, &len);
    if (!value || *value != '{')
        return BJ_E_INVAL;

    bool is_empty = value[1 + strspn(value + 1, " \t\r\n")] == '}';
    fwrite(text + begin, 1, (size_t)(value + 1 - (text + begin)), out);
    fputs(members, out);
    fputs(is_empty || !*members ? "" : ",", out);
    fwrite(value + 1, 1, (size_t)(text + end - (value + 1)), out);
    return BJ_OK;
}

static int add_within_all(FILE *out, const char *text, const char *key, const char *const *members)
{
    size_t len = strlen(text);
    size_t done = 0, begin;
    int r = BJ_OK;

    for (size_t i = 0; r == BJ_OK && (begin = done + strcspn(text + done, "{")) < len; i++) {
        size_t end = skip_object(text, len, begin);
        fwrite(text + done, 1, begin - done, out);
        if (members[i])
            r = add_within(out, text, begin, end, key, members[i]);
        else
            fwrite(text + begin, 1, end - begin, out);
        done = end;
    }
    fputs(text + done, out);
    return r;
}

static int json_text_add_members_in(const char *text, const char *key, const char *const *members,
                             char **ret)
{
    char *joined = NULL;
    size_t len;
    FILE *out = open_memstream(&joined, &len);
    if (!out)
        return BJ_E_NOMEM;
    int r = add_within_all(out, text, key, members);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed || !joined) /* glibc's fclose() is silent about it */
        r = BJ_E_NOMEM;
    if (r == BJ_OK)
        *ret = joined;
    else
        free(joined);
    return r;
}
#undef NESTING_MAX
/* ---- core/src/base/loop.c ---- */

/*
 * The event loop on epoll; see loop.h.
 */

/* ---- core/src/base/timer_heap.h ---- */

/*
 * Timers, the next one first: a pairing heap whose links lie in the timers, so that arming one
 * needs no memory and can't fail. Adding takes constant time, removing logarithmic (amortized).
 */

struct timer_node {
    int64_t at;
    struct timer_node *child;    /* the first of those that are due later */
    struct timer_node *next;     /* sibling */
    struct timer_node *previous; /* sibling; the first one's parent */
    bool is_in;
};

struct timer_heap {
    struct timer_node *first; /* NULL: none is armed */
};

static void timer_heap_add(struct timer_heap *heap, struct timer_node *node, int64_t at); /* not in it */
static void timer_heap_remove(struct timer_heap *heap, struct timer_node *node); /* in it, or not */

#define STACK_SIZE (512 * 1024) /* jansson recurses, a level of nesting at a time */
#define LAST_SECOND ((int64_t)(UINT64_MAX >> (65 - 8 * sizeof(time_t)))) /* of a time_t */
#define NS_PER_MS 1000000

#define EVENTS_PER_TURN 64
/* So often a program's loop is asked for more before its other watchers have their turn. */
#define TURNS_PER_DRIVE 8

struct loop {
    int set;                /* an epoll with all that is waited for; -1 once it has stopped */
    int bell;               /* an eventfd in it; edge-triggered, so that nobody has to read it */
    struct loop_host *host; /* NULL: a thread of our own, or forgotten */
    bool is_theirs;
    unsigned generation; /* of the process that made it */

    pthread_t thread;
    size_t stack; /* bytes */
    void (*gone)(void *user);
    void *gone_user;

    _Atomic pid_t current; /* the thread that runs it, or ran it last; 0: none */
    atomic_uint depth;     /* frames of it on that thread's stack */
    atomic_bool has_posts;
    atomic_bool is_awake; /* looks at the posts before it sleeps: the bell need not ring */
    atomic_bool has_run;  /* a host has: then `current` is not only a guess */

    pthread_mutex_t lock;
    struct loop_task *first; /* of the posts */
    struct loop_task **last;
    bool stopping; /* stops as soon as there is nothing left to run */
    bool stopped;

    /* The loop's own. */
    struct timer_heap timers;
    atomic_size_t ios; /* that wait; any thread makes one */
    size_t holds;      /* loop_hold() */
    struct loop_io *dead;
    struct loop_task *wakes; /* loop_after_step() */
    bool steps;              /* one is under way */
    bool freed;              /* and goes when the outermost frame returns */
};

struct loop_io {
    struct loop *loop;
    int fd;
    int wanted;
    void (*ready)(void *user, int events); /* NULL: freed */
    void *user;
    struct loop_io *next; /* of the dead */
};

struct loop_timer {
    struct timer_node node;
    struct loop *loop;
    void (*expired)(void *user);
    void *user;
};

/* --------------------------------------------------------------------- clocks */

static int64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

static int64_t clock_monotonic_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

static int64_t clock_realtime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static struct timespec clock_add_ms(struct timespec when, int64_t ms)
{
    int64_t nanos = when.tv_nsec + ms % 1000 * NS_PER_MS;
    int64_t seconds = ms / 1000 + nanos / 1000000000;
    if (seconds > LAST_SECOND - when.tv_sec)
        return (struct timespec){.tv_sec = (time_t)LAST_SECOND};
    when.tv_sec += (time_t)seconds;
    when.tv_nsec = (long)(nanos % 1000000000);
    return when;
}

static struct timespec clock_deadline(int64_t ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return clock_add_ms(now, ms);
}

/* --------------------------------------------------------------------- memory */

static bool is_forked(const struct loop *loop)
{
    return loop->generation != process_generation();
}

/* Also before the memory goes, which a handle may keep: no fd stays for it. */
static void close_fds(struct loop *loop)
{
    if (loop->bell >= 0)
        close(loop->bell);
    if (loop->set >= 0)
        close(loop->set);
    loop->bell = loop->set = -1;
}

static void base_loop__destroy(struct loop *loop)
{
    if (loop->host)
        loop->host->forget(loop->host);
    close_fds(loop);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static int open_fds(struct loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    loop->set = epoll_create1(EPOLL_CLOEXEC);
    loop->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool open = loop->set >= 0 && loop->bell >= 0 &&
                epoll_ctl(loop->set, EPOLL_CTL_ADD, loop->bell, &event) == 0;
    return open ? BJ_OK : BJ_E_SYSTEM;
}

static void loop_ring(const struct loop *loop)
{
    eventfd_write(loop->bell, 1); /* full only after 2^64 of them */
}

static int loop_new_hosted(struct loop_host *host, struct loop **ret_loop)
{
    int r = process_count_forks();
    struct loop *loop = r == BJ_OK ? calloc(1, sizeof *loop) : NULL;
    if (!loop)
        return BJ_E_NOMEM;
    pthread_mutex_init(&loop->lock, NULL);
    r = open_fds(loop);
    if (r != BJ_OK) {
        base_loop__destroy(loop);
        return r;
    }
    loop->generation = process_generation();
    loop->stack = STACK_SIZE;
    loop->last = &loop->first;
    loop->host = host;
    loop->is_theirs = host != NULL;
    loop->current = host ? thread_number() : 0;
    loop->is_awake = host != NULL; /* it rings, so that its first turn tells its thread */
    *ret_loop = loop;
    return BJ_OK;
}

static int loop_new(struct loop **ret_loop)
{
    return loop_new_hosted(NULL, ret_loop);
}

static int loop_set(const struct loop *loop)
{
    return loop->set;
}

static void loop_free(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool in_use = loop->depth > 0;
    loop->freed = true;
    pthread_mutex_unlock(&loop->lock);
    if (!in_use)
        base_loop__destroy(loop);
}

/* ---------------------------------------------------------------------- tasks */

static bool loop_post(struct loop *loop, struct loop_task *task)
{
    task->next = NULL;

    pthread_mutex_lock(&loop->lock);
    bool accepted = !loop->stopped;
    if (accepted) {
        *loop->last = task;
        loop->last = &task->next;
        loop->has_posts = true;
        if (!atomic_exchange(&loop->is_awake, true))
            loop_ring(loop); /* under the lock: after it has stopped the bell is closed */
    }
    bool keeps = accepted && loop->has_run && loop->depth == 0 && loop_is_current(loop);
    pthread_mutex_unlock(&loop->lock); /* from here on another thread may free it */

    if (keeps)
        loop->host->keep(loop->host);
    return accepted;
}

static struct loop_task *take_posts(struct loop *loop)
{
    if (!loop->has_posts)
        return NULL;
    pthread_mutex_lock(&loop->lock);
    struct loop_task *task = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    loop->has_posts = false;
    pthread_mutex_unlock(&loop->lock);
    return task;
}

/* False: in a child. */
static bool end_step(struct loop *loop)
{
    if (is_forked(loop))
        return false;
    while (loop->wakes) {
        struct loop_task *task = loop->wakes;
        loop->wakes = task->next;
        task->run(task);
    }
    loop->steps = false;
    return true;
}

static bool loop_after_step(struct loop *loop, struct loop_task *task)
{
    if (!loop_is_current(loop) || !loop->steps)
        return false;
    task->next = loop->wakes;
    loop->wakes = task;
    return true;
}

/* What these post is for the next time, after sockets and timers had their turn. */
static bool loop_run_posted(struct loop *loop)
{
    bool is_within = loop->steps; /* a socket's */
    for (struct loop_task *next, *task = take_posts(loop); task; task = next) {
        next = task->next;
        loop->steps = true;
        task->run(task);
        if (!end_step(loop))
            return false;
    }
    loop->steps = is_within;
    return true;
}

/* Stops only when nothing is left to run: who was promised a callback gets it. */
static void stop_if_due(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopped = loop->stopping && !loop->first;
    pthread_mutex_unlock(&loop->lock);
}

/* Before it sleeps: whether it may. Who posts after that rings. */
static bool is_idle(struct loop *loop)
{
    loop->is_awake = false;
    if (loop->has_posts)
        loop->is_awake = true;
    else if (loop->stopping)
        stop_if_due(loop);
    return !loop->is_awake;
}

/* ------------------------------------------------------------- sockets and timers */

static uint32_t to_epoll(int events)
{
    return ((events & LOOP_READ) ? (uint32_t)EPOLLIN : 0) |
           ((events & LOOP_WRITE) ? (uint32_t)EPOLLOUT : 0);
}

static int loop_io_new(struct loop *loop, int fd, int events, void (*ready)(void *user, int events),
                void *user, struct loop_io **ret_io)
{
    struct loop_io *io = calloc(1, sizeof *io);
    if (!io)
        return BJ_E_NOMEM;
    *io = (struct loop_io){.loop = loop, .fd = fd, .wanted = events, .ready = ready, .user = user};
    struct epoll_event event = {.events = to_epoll(events), .data.ptr = io};
    if (epoll_ctl(loop->set, EPOLL_CTL_ADD, fd, &event) != 0) {
        int error = errno;
        free(io);
        errno = error;
        return BJ_E_SYSTEM;
    }
    loop->ios++;
    *ret_io = io;
    return BJ_OK;
}

static void loop_io_want(struct loop_io *io, int events)
{
    struct epoll_event event = {.events = to_epoll(events), .data.ptr = io};
    if (io->wanted != events && epoll_ctl(io->loop->set, EPOLL_CTL_MOD, io->fd, &event) == 0)
        io->wanted = events;
}

/* Out of the set by name: another fd of the same socket, a forked child's for example, would keep
 * it in there. An event of it may have been taken out already. */
static void loop_io_free(struct loop_io *io)
{
    if (!io)
        return;
    struct loop *loop = io->loop;
    epoll_ctl(loop->set, EPOLL_CTL_DEL, io->fd, &(struct epoll_event){0});
    loop->ios--;
    io->ready = NULL;
    io->next = loop->dead;
    loop->dead = io;
}

static void free_dead(struct loop *loop)
{
    while (loop->dead) {
        struct loop_io *io = loop->dead;
        loop->dead = io->next;
        free(io);
    }
}

/* An error is for whoever waits, whatever for. */
static void on_event(struct loop_io *io, uint32_t happened)
{
    uint32_t read = EPOLLIN | EPOLLERR | EPOLLHUP, write = EPOLLOUT | EPOLLERR | EPOLLHUP;
    int events = ((happened & read) ? LOOP_READ : 0) | ((happened & write) ? LOOP_WRITE : 0);

    if (io && io->ready && (events & io->wanted))
        io->ready(io->user, events & io->wanted);
}

static struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user)
{
    struct loop_timer *timer = calloc(1, sizeof *timer);
    if (!timer)
        return NULL;
    timer->loop = loop;
    timer->expired = expired;
    timer->user = user;
    return timer;
}

static void loop_timer_set(struct loop_timer *timer, int64_t ms)
{
    int64_t now = clock_monotonic_ns();
    int64_t at = ms > (INT64_MAX - now) / NS_PER_MS ? INT64_MAX : now + ms * NS_PER_MS;
    timer_heap_remove(&timer->loop->timers, &timer->node);
    timer_heap_add(&timer->loop->timers, &timer->node, at);
}

static void loop_timer_stop(struct loop_timer *timer)
{
    timer_heap_remove(&timer->loop->timers, &timer->node);
}

static void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    loop_timer_stop(timer);
    free(timer);
}

/* Those that are armed meanwhile are for the next turn. */
static void run_timers(struct loop *loop)
{
    int64_t now = loop->timers.first ? clock_monotonic_ns() : 0;

    bool goes_on = true;

    while (goes_on && loop->timers.first && loop->timers.first->at <= now) {
        struct loop_timer *timer = container_of(loop->timers.first, struct loop_timer, node);
        loop_timer_stop(timer);
        loop->steps = true;
        timer->expired(timer->user);
        goes_on = end_step(loop);
    }
}

/* ---------------------------------------------------------------------- turns */

/* Sleeps for `ms` (-1: as long as nothing happens), then runs what is due: posts first, so that
 * rings are read before more comes in. */
static void turn(struct loop *loop, int ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(loop->set, events, EVENTS_PER_TURN, ms);

    loop->is_awake = true;
    bool goes_on = loop_run_posted(loop);
    for (int i = 0; i < count && goes_on; i++) {
        loop->steps = true;
        on_event(events[i].data.ptr, events[i].events);
        goes_on = end_step(loop);
    }
    if (goes_on)
        run_timers(loop);
    free_dead(loop);
}

/* Until the first timer is due; -1: there is none. */
static int sleep_ms(const struct loop *loop)
{
    if (!loop->timers.first)
        return -1;
    int64_t left = loop->timers.first->at - clock_monotonic_ns();
    int64_t ms = left / NS_PER_MS + (left % NS_PER_MS > 0);
    return ms > INT_MAX ? INT_MAX : ms > 0 ? (int)ms : 0;
}

/* A callback that forks and returns in the child ends here: the child had only this thread. */
static void *run(void *user)
{
    struct loop *loop = user;

    loop->current = thread_number();
    loop->depth = 1;
    while (true) {
        bool idle = is_idle(loop);
        if (loop->stopped)
            break;
        turn(loop, idle ? sleep_ms(loop) : 0);
        if (is_forked(loop))
            return NULL;
    }
    loop->current = 0;
    loop->depth = 0;
    close_fds(loop);
    if (loop->gone)
        loop->gone(loop->gone_user);
    return NULL;
}

/* -------------------------------------------------------------- a program's loop */

static void forget_in_child(struct loop *loop)
{
    if (loop->host)
        loop->host->forget(loop->host);
    loop->host = NULL;
}

/* Runs what is owed, at the end of the outermost frame. */
static void base_loop__finish(struct loop *loop)
{
    while (!is_forked(loop) && !is_idle(loop))
        loop_run_posted(loop);
    free_dead(loop);
    if (is_forked(loop))
        return;
    loop->host->forget(loop->host);
    loop->host = NULL;
    close_fds(loop);
}

static void rest(struct loop *loop)
{
    bool idle = is_idle(loop);
    bool waits = loop->ios > 0 || loop->holds > 0 || loop->timers.first;
    if (!idle)
        loop_ring(loop); /* the host has other watchers, which are to have their turn */
    int64_t due_ns = loop->timers.first ? loop->timers.first->at : -1;
    loop->host->end(loop->host, waits || !idle, due_ns);
}

static int loop_enter(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool is_ours_to_run =
        loop_is_current(loop) || (loop->depth == 0 && (!thread_is_alive(loop->current) ||
                                                       !loop->host->is_running(loop->host)));
    if (is_ours_to_run)
        loop->current = thread_number();
    bool outermost = is_ours_to_run && loop->depth++ == 0;
    pthread_mutex_unlock(&loop->lock);

    if (outermost && loop->host)
        loop->host->begin(loop->host);
    return is_ours_to_run ? BJ_OK : BJ_E_STATE;
}

/* A callback, or another thread meanwhile, may have given back the last of the context. */
static void loop_leave(struct loop *loop)
{
    bool outermost = loop->depth == 1; /* nobody else changes it */
    if (outermost)
        free_dead(loop);
    if (outermost && loop->stopping && loop->host)
        base_loop__finish(loop);
    else if (outermost && loop->host && !is_forked(loop))
        rest(loop);
    if (is_forked(loop)) {
        forget_in_child(loop);
        return;
    }

    pthread_mutex_lock(&loop->lock);
    bool freed = --loop->depth == 0 && loop->freed;
    pthread_mutex_unlock(&loop->lock);
    if (freed)
        base_loop__destroy(loop);
}

static bool loop_drive(struct loop *loop)
{
    if (is_forked(loop)) {
        forget_in_child(loop);
        return true;
    }
    if (loop->depth > 0)
        return false;
    loop->current = thread_number();
    loop->has_run = true;
    loop->depth = 1;
    loop->host->begin(loop->host);
    for (int i = 0; i < TURNS_PER_DRIVE && !is_forked(loop) && (i == 0 || loop->has_posts); i++)
        turn(loop, 0);
    loop_leave(loop);
    return true;
}

/* --------------------------------------------------------------------- thread */

static void loop_set_stack(struct loop *loop, size_t bytes)
{
    loop->stack = bytes;
}

static int loop_start(struct loop *loop)
{
    pthread_attr_t attr;
    sigset_t all, before;
    size_t least = (size_t)PTHREAD_STACK_MIN;
    size_t stack = loop->stack < least ? least : loop->stack;

    if (pthread_attr_init(&attr) != 0)
        return BJ_E_SYSTEM;
    pthread_attr_setstacksize(&attr, stack);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&loop->thread, &attr, run, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return r == 0 ? BJ_OK : BJ_E_SYSTEM;
}

static void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    pthread_mutex_unlock(&loop->lock);
}

static void loop_join(struct loop *loop)
{
    pthread_join(loop->thread, NULL);
}

static void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user)
{
    loop->gone = gone;
    loop->gone_user = user;
}

static void loop_detach(struct loop *loop)
{
    pthread_detach(loop->thread);
}

static void loop_hold(struct loop *loop)
{
    loop->holds++;
}

static void loop_unhold(struct loop *loop)
{
    loop->holds--;
}

static bool loop_is_current(const struct loop *loop)
{
    return loop->current == thread_number();
}

static bool loop_is_theirs(const struct loop *loop)
{
    return loop->is_theirs;
}
#undef STACK_SIZE
#undef LAST_SECOND
#undef NS_PER_MS
#undef EVENTS_PER_TURN
#undef TURNS_PER_DRIVE
/* ---- core/src/base/process.c ---- */

/*
 * Processes and threads; see process.h.
 */

static atomic_uint generation;
/* Of the thread's number. Not thread-local storage: GCC 12's leak checker crashes on that of a
 * library which was loaded later, and musl loads none with the fast kind. */
static pthread_key_t number;

static void base_process__begin_child(void)
{
    atomic_fetch_add(&generation, 1);
    (void)pthread_setspecific(number, NULL);
}

static int process_count_forks(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool has_key;
    static atomic_bool counts;

    if (atomic_load(&counts))
        return BJ_OK;
    pthread_mutex_lock(&lock);
    has_key = has_key || pthread_key_create(&number, NULL) == 0;
    if (has_key && !counts)
        counts = pthread_atfork(NULL, NULL, base_process__begin_child) == 0;
    pthread_mutex_unlock(&lock);
    return atomic_load(&counts) ? BJ_OK : BJ_E_NOMEM;
}

static unsigned process_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

static pid_t thread_number(void)
{
    pid_t known = (pid_t)(intptr_t)pthread_getspecific(number);
    if (known != 0)
        return known;
    known = (pid_t)syscall(SYS_gettid);
    (void)pthread_setspecific(number, (void *)(intptr_t)known); /* without memory: asked again */
    return known;
}

static bool thread_is_alive(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}
/* ---- core/src/base/text.c ---- */

/*
 * Immutable, shared strings; see text.h.
 */

struct text {
    atomic_uint refs; /* 0: static, never freed */
    char s[];
};

static struct text out_of_memory = {.s = "out of memory"};

static struct text *text_alloc(size_t len)
{
    struct text *text = malloc(sizeof *text + len + 1);
    if (text) {
        atomic_init(&text->refs, 1);
        text->s[len] = '\0';
    }
    return text;
}

static struct text *text_new(const char *bytes, size_t len)
{
    struct text *text = text_alloc(len);
    if (text)
        memcpy(text->s, bytes, len);
    return text;
}

static struct text *text_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);

    int len = vsnprintf(NULL, 0, format, args);
    struct text *text = len < 0 ? NULL : text_alloc((size_t)len);
    if (text)
        vsnprintf(text->s, (size_t)len + 1, format, again);

    va_end(again);
    va_end(args);
    return text ? text : &out_of_memory;
}

static bool goes_on(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

static int text_fit(const char *s, int most)
{
    enum { LONGEST = 4 }; /* bytes of a character */
    int len = (int)strnlen(s, (size_t)most + 1);
    if (len <= most)
        return len;
    for (int cut = 0; cut < LONGEST && cut <= most; cut++)
        if (!goes_on(s[most - cut]))
            return most - cut;
    return most; /* it is not UTF-8 */
}

static struct text *text_ref(struct text *text)
{
    if (text && text != &out_of_memory)
        atomic_fetch_add_explicit(&text->refs, 1, memory_order_relaxed);
    return text;
}

static struct text *text_unref(struct text *text)
{
    if (text && text != &out_of_memory &&
        atomic_fetch_sub_explicit(&text->refs, 1, memory_order_acq_rel) == 1)
        free(text);
    return NULL;
}

static const char *text_str(const struct text *text)
{
    return text ? text->s : "";
}
/* ---- core/src/base/timer_heap.c ---- */

/*
 * The pairing heap of timers; see timer_heap.h.
 */

/* Of two heaps one: the later becomes the first child of the earlier. Both take NULL. */
static struct timer_node *meld(struct timer_node *a, struct timer_node *b)
{
    if (!a || !b)
        return a ? a : b;
    struct timer_node *early = b->at < a->at ? b : a;
    struct timer_node *late = early == a ? b : a;

    late->next = early->child;
    if (late->next)
        late->next->previous = late;
    late->previous = early;
    early->child = late;
    early->next = early->previous = NULL;
    return early;
}

/* Of siblings one heap: melded by pairs from the first to the last, then the pairs from the last to
 * the first. */
static struct timer_node *meld_all(struct timer_node *sibling)
{
    struct timer_node *pairs = NULL, *all = NULL;

    while (sibling) {
        struct timer_node *a = sibling;
        struct timer_node *b = a->next;
        sibling = b ? b->next : NULL;
        struct timer_node *pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        struct timer_node *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        all = meld(all, pair);
    }
    if (all)
        all->previous = NULL;
    return all;
}

static void cut_out(struct timer_node *node)
{
    if (node->previous->child == node)
        node->previous->child = node->next;
    else
        node->previous->next = node->next;
    if (node->next)
        node->next->previous = node->previous;
}

static void timer_heap_add(struct timer_heap *heap, struct timer_node *node, int64_t at)
{
    *node = (struct timer_node){.at = at, .is_in = true};
    heap->first = meld(heap->first, node);
}

static void timer_heap_remove(struct timer_heap *heap, struct timer_node *node)
{
    if (!node->is_in)
        return;
    struct timer_node *later = meld_all(node->child);
    if (node == heap->first) {
        heap->first = later;
    } else {
        cut_out(node);
        heap->first = meld(heap->first, later);
    }
    *node = (struct timer_node){0};
}
/* ---- core/src/delivery/future.c ---- */

/*
 * Futures; see future.h.
 */

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

static bj_future *future_static(int error)
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

static void delivery_future__ref_source(struct queue_source *source)
{
    future_ref_memory(future_of_source(source));
}

static void delivery_future__unref_source(struct queue_source *source)
{
    future_unref_memory(future_of_source(source));
}

/* drop_handle() looks the other way round: one of both finds that nobody is left. */
static void delivery_future__forsake_source(struct queue_source *source)
{
    bj_future *future = future_of_source(source);
    if (atomic_load(&future->handles) == 0)
        bj_future_cancel(future);
}

static const struct queue_source_ops delivery_future__source_ops = {
    .take = take_record,
    .ref = delivery_future__ref_source,
    .unref = delivery_future__unref_source,
    .forsake = delivery_future__forsake_source,
};

/* ------------------------------------------------------------------- memory */

static void future_clear_result(struct future_result *result)
{
    text_unref(result->text);
    text_unref(result->error_class);
    text_unref(result->json);
    if (result->value.kind)
        result->value.kind->unref(result->value.data);
    *result = (struct future_result){0};
}

static bj_future *future_new(bj_ctx *ctx, size_t size, const struct future_ops *ops)
{
    bj_future *future = calloc(1, size);
    if (!future)
        return NULL;
    atomic_init(&future->refs, 1);
    atomic_init(&future->handles, 1);
    future->ctx = ctx_ref(ctx);
    future->ops = ops;
    future->source.ops = &delivery_future__source_ops;
    future->deadline_ms = -1;
    return future;
}

static bj_future *future_ref_memory(bj_future *future)
{
    atomic_fetch_add(&future->refs, 1);
    return future;
}

static void future_unref_memory(bj_future *future)
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

static void future_answer(bj_future *future, struct future_result *result)
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

static void future_fail(bj_future *future, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct text *sentence = write_sentence(format, args);
    va_end(args);
    future_answer(future, &(struct future_result){.error = error, .text = sentence});
}

static bj_future *future_failed(bj_ctx *ctx, int error, const char *format, ...)
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
static void delivery_future__leave(bj_future *future)
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

static void delivery_future__run_leave(struct loop_task *task)
{
    delivery_future__leave(container_of(task, bj_future, task));
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
        future->task.run = delivery_future__run_leave;
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
        delivery_future__leave(future);
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

static int future_check_timeout(int64_t timeout_ms)
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

static bj_future *future_launch(bj_future *future, int64_t timeout_ms, int limit)
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

static void delivery_future__run_callback(struct loop_task *task)
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
    callback->task.run = delivery_future__run_callback;
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

static void *future_value_of(bj_future *future, const struct value_kind *kind)
{
    const struct future_result *result = answer_of(future);
    return result && result->value.kind == kind ? result->value.data : NULL;
}
#undef STATIC_FUTURES
#undef SENTENCE_MAX
/* ---- core/src/delivery/queue.c ---- */

/*
 * Completion queues; see queue.h.
 */

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

static int queue_bind(struct queue_source *source, bj_queue *queue, uint64_t token, const bj_ctx *ctx)
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

static void queue_unbind(struct queue_source *source)
{
    if (!source->bound_link)
        return;
    *source->bound_link = source->bound_next;
    if (source->bound_next)
        source->bound_next->bound_link = source->bound_link;
    source->bound_link = NULL;
    source->ops->unref(source);
}

static bool queue_is_read(const struct queue_source *source)
{
    return source->queue && !source->queue->dead;
}

static void signal_fd(const bj_queue *queue)
{
    eventfd_write(queue->fd, 1); /* can't be full: it is 0 when this is called */
}

static void delivery_queue__run_wake(struct loop_task *task)
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
static void delivery_queue__wake_reader(bj_queue *queue)
{
    if (queue->waking)
        return;
    queue->wake.run = delivery_queue__run_wake;
    queue->waking = loop_after_step(queue->ctx->loop, &queue->wake);
    if (queue->waking)
        atomic_fetch_add(&queue->refs, 1);
    else
        signal_fd(queue);
}

static void delivery_queue__append(bj_queue *queue, struct queue_source *source)
{
    source->queued = true;
    source->next = NULL;
    *queue->last = source;
    queue->last = &source->next;
}

static void queue_push(struct queue_source *source)
{
    bj_queue *queue = source->queue;

    if (queue->dead || source->queued)
        return;
    source->ops->ref(source);
    bool was_empty = queue->first == NULL;
    delivery_queue__append(queue, source);
    if (was_empty)
        delivery_queue__wake_reader(queue);
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

static void queue_unref_memory(bj_queue *queue)
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

static int delivery_queue__make_room(bj_queue *queue, int max)
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
        delivery_queue__append(queue, source); /* with its reference */
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
    if (delivery_queue__make_room(queue, max) != BJ_OK)
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
#undef SHORTEST_RECORD
/* ---- core/src/delivery/watch.c ---- */

/*
 * Watches; see watch.h.
 */

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

static void delivery_watch__ref_source(struct queue_source *source)
{
    watch_ref_memory(watch_of(source));
}

static void delivery_watch__unref_source(struct queue_source *source)
{
    watch_unref_memory(watch_of(source));
}

/* bj_watch_unref() looks the other way round: one of both finds that nobody is left. */
static void delivery_watch__forsake_source(struct queue_source *source)
{
    bj_watch *watch = watch_of(source);
    if (atomic_load(&watch->handles) == 0)
        bj_watch_close(watch);
}

static const struct queue_source_ops delivery_watch__source_ops = {
    .take = take_records,
    .ref = delivery_watch__ref_source,
    .unref = delivery_watch__unref_source,
    .forsake = delivery_watch__forsake_source,
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

static void delivery_watch__run_leave(struct loop_task *task)
{
    bj_watch *watch = container_of(task, bj_watch, leave);

    if (watch->listed)
        watch->ops->leave(watch);
    watch_unref_memory(watch);
}

static bj_watch *watch_new(bj_ctx *ctx, size_t size, const struct watch_ops *ops, void *owner)
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
    watch->source.ops = &delivery_watch__source_ops;
    watch->ops = ops;
    watch->owner = owner;
    watch->begin.run = run_begin;
    watch->leave.run = delivery_watch__run_leave;
    return watch;
}

static bj_watch *watch_launch(bj_watch *watch)
{
    bj_ctx *ctx = watch->ctx;
    if (ctx_is_closing(ctx) || !loop_post(ctx->loop, &watch->begin)) {
        watch_end(watch, BJ_E_CLOSED, text_printf("the context was closed"));
        watch_unref_memory(watch);
    }
    return watch;
}

static bj_watch *watch_ref_memory(bj_watch *watch)
{
    atomic_fetch_add(&watch->refs, 1);
    return watch;
}

static void watch_entry_free(struct watch_entry *entry)
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

static void watch_unref_memory(bj_watch *watch)
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

static void watch_link(bj_watch *watch, bj_watch **list)
{
    while (*list)
        list = &(*list)->next;
    *list = watch_ref_memory(watch);
    watch->next = NULL;
    watch->listed = true;
}

static void watch_unlink(bj_watch *watch, bj_watch **list)
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
static struct watch_entry *delivery_watch__make_room(bj_watch *watch, struct watch_entry *dropped)
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

static void delivery_watch__run_wake(struct loop_task *task)
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
    watch->task.run = delivery_watch__run_wake;
    watch->posted = loop_after_step(watch->ctx->loop, &watch->task);
    if (watch->posted)
        watch_ref_memory(watch);
    else
        pthread_cond_signal(&watch->wake);
}

static void delivery_watch__wake_reader(bj_watch *watch)
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
    delivery_watch__wake_reader(watch);
}

/* Under the lock; returns what is to be freed without it. */
static struct watch_entry *delivery_watch__push(bj_watch *watch, const bj_record *record,
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
    delivery_watch__wake_reader(watch);
    if (watch->ended)
        queue_unbind(&watch->source);
    return delivery_watch__make_room(watch, dropped);
}

static void watch_push(bj_watch *watch, const bj_record *record, const struct record_refs *refs)
{
    ctx_lock(watch->ctx);
    struct watch_entry *dropped = takes(watch, record->kind) ? delivery_watch__push(watch, record, refs) : NULL;
    ctx_unlock(watch->ctx);
    free_entries(dropped);
}

static void watch_miss(bj_watch *watch)
{
    ctx_lock(watch->ctx);
    if (takes(watch, BJ_RECORD_EVENT))
        miss(watch, BJ_RECORD_EVENT);
    ctx_unlock(watch->ctx);
}

static void watch_end(bj_watch *watch, int error, struct text *text)
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

static bool watch_take(bj_watch *watch, bj_record *record, struct watch_entry **ret_entry)
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

static void delivery_watch__run_callback(struct loop_task *task)
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
    watch->task.run = delivery_watch__run_callback;
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
#undef CALLBACK_BATCH
/* ---- core/src/driver/address.c ---- */

/*
 * Monitor addresses; see address.h.
 */

static int parse_unix(const char *path, struct address *ret, struct text **ret_text)
{
    size_t len = strlen(path);

    if (len == 0) {
        *ret_text = text_printf("the monitor address \"unix:\" lacks a path");
        return BJ_E_INVAL;
    }
    if (len >= sizeof ret->path.sun_path) {
        *ret_text =
            text_printf("the socket path %s is longer than the %zu bytes that the system allows",
                        path, sizeof ret->path.sun_path - 1);
        return BJ_E_INVAL;
    }
    ret->kind = ADDRESS_UNIX;
    ret->path.sun_family = AF_UNIX;
    memcpy(ret->path.sun_path, path, len + 1);
    return BJ_OK;
}

static bool is_port(const char *port)
{
    char *end;
    errno = 0;
    long number = strtol(port, &end, 10);
    return *port >= '0' && *port <= '9' && !*end && errno == 0 && number >= 1 && number <= 65535;
}

/* Takes the brackets off [::1]; false if `host` is neither that nor a name or an IPv4 address. */
static bool unwrap_host(char *host)
{
    size_t len = strlen(host);

    if (host[0] != '[')
        return len > 0 && !strpbrk(host, "[]:");
    if (len < 3 || host[len - 1] != ']')
        return false;
    host[len - 1] = '\0';
    memmove(host, host + 1, len - 1);
    return !strpbrk(host, "[]");
}

static int parse_tcp(const char *rest, struct address *ret, struct text **ret_text)
{
    char *host = strdup(rest);
    if (!host) {
        *ret_text = text_printf("out of memory");
        return BJ_E_NOMEM;
    }
    char *colon = strrchr(host, ':');
    if (colon)
        *colon = '\0';
    if (!colon || !is_port(colon + 1) || !unwrap_host(host)) {
        *ret_text = text_printf("tcp:%s is not tcp:HOST:PORT with a port from 1 to 65535, or "
                                "tcp:[ADDRESS]:PORT for IPv6",
                                rest);
        free(host);
        return BJ_E_INVAL;
    }
    ret->kind = ADDRESS_TCP;
    ret->host = host;
    ret->port = colon + 1;
    return BJ_OK;
}

static int parse_fd(const char *number, struct address *ret, struct text **ret_text)
{
    char *end;
    errno = 0;
    long fd = strtol(number, &end, 10);
    int type;
    socklen_t len = sizeof type;

    if (*number < '0' || *number > '9' || *end || errno || fd > 0x7fffffff) {
        *ret_text = text_printf("fd:%s is not fd:NUMBER", number);
        return BJ_E_INVAL;
    }
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;
    if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM ||
        getpeername((int)fd, (struct sockaddr *)&peer, &peer_len) != 0) {
        *ret_text = text_printf("fd:%ld is not an open, connected stream socket", fd);
        return BJ_E_INVAL;
    }
    ret->kind = ADDRESS_FD;
    ret->fd = fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
    if (ret->fd < 0) {
        *ret_text = text_printf("can't duplicate fd:%ld: %s", fd, strerror(errno));
        return BJ_E_SYSTEM;
    }
    return BJ_OK;
}

static int parse_libvirt(const char *uri, struct address *ret, struct text **ret_text)
{
    ret->kind = ADDRESS_LIBVIRT;
    int r = driver_module_load(uri, &ret->module, ret_text);
    return r == BJ_OK ? ret->module->check(uri, ret_text) : r;
}

static int address_parse(const char *uri, struct address *ret, struct text **ret_text)
{
    *ret = (struct address){.fd = -1};

    if (uri[0] == '/')
        return parse_unix(uri, ret, ret_text);
    if (strncmp(uri, "unix:", 5) == 0)
        return parse_unix(uri + 5, ret, ret_text);
    if (strncmp(uri, "tcp:", 4) == 0)
        return parse_tcp(uri + 4, ret, ret_text);
    if (strncmp(uri, "fd:", 3) == 0)
        return parse_fd(uri + 3, ret, ret_text);
    if (strncmp(uri, "qemu", 4) == 0 || strncmp(uri, "libvirt:", 8) == 0)
        return parse_libvirt(uri, ret, ret_text);
    *ret_text = text_printf("\"%s\" is no monitor address: use unix:PATH, tcp:HOST:PORT, fd:NUMBER "
                            "or, for a domain of libvirt's, qemu:///system#NAME",
                            uri);
    return BJ_E_INVAL;
}

static int address_of_domain(struct _virDomain *domain, struct address *ret, char **ret_uri,
                      struct text **ret_text)
{
    *ret = (struct address){.kind = ADDRESS_LIBVIRT, .fd = -1};
    int r = driver_module_load("a domain of libvirt's", &ret->module, ret_text);
    if (r != BJ_OK)
        return r;
    *ret_uri = ret->module->uri_of(domain);
    if (!*ret_uri) {
        *ret_text = text_printf("%s", bj_error_text(BJ_E_NOMEM));
        return BJ_E_NOMEM;
    }
    ret->domain = domain;
    ret->module->ref(domain);
    return BJ_OK;
}

static bool address_is_callers(const struct address *address)
{
    return address->kind == ADDRESS_FD || address->domain;
}

static void address_clear(struct address *address)
{
    free(address->host);
    if (address->fd >= 0)
        close(address->fd);
    if (address->domain)
        address->module->unref(address->domain);
    *address = (struct address){.fd = -1};
}
/* ---- core/src/driver/job_list.c ---- */

/*
 * Rows about jobs; see job_list.h.
 */

static const struct job_row *job_list_find(const struct job_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->rows[i].info.id, id) == 0)
            return &list->rows[i];
    return NULL;
}

static void job_list_free_rows(struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const bj_job_info *row = &list->rows[i].info;
        const char *const strings[] = {row->id, row->type, row->status, row->error, row->io_status};
        for (size_t s = 0; s < sizeof strings / sizeof strings[0]; s++)
            if (strings[s] && *strings[s])
                free((char *)strings[s]);
        free(list->rows[i].disks);
    }
}

static void job_list_free(struct job_list *list)
{
    if (!list)
        return;
    job_list_free_rows(list);
    free(list->rows);
    free(list);
}
/* ---- core/src/driver/module.c ---- */

/*
 * Finding the libvirt driver; see module.h.
 */

/* Beside the object that this code is in, as `make` and pip put it; NULL: it is not there. */
static char *find_beside(void)
{
    Dl_info info;
    if (!dladdr(DRIVER_MODULE_FILE, &info) || !info.dli_fname)
        return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    char *path = NULL;
    if (!slash || asprintf(&path, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname,
                           DRIVER_MODULE_FILE) < 0)
        return NULL;
    if (access(path, R_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* The driver that is linked into the program with the core, where one is (docs/embedding.md). */
extern const struct driver_module blockjob_driver_module __attribute__((weak));

/* Never unloaded (it is linked so): threads run in it, and
 * opening it again is cheap. */
static void *open_module(void)
{
    char *beside = find_beside();
    void *handle = dlopen(beside ? beside : DRIVER_MODULE_FILE, RTLD_NOW);
    free(beside);
    return handle;
}

/* Then the driver may well be there, but can't be opened now; dlopen() leaves no errno. */
static bool driver_module__lacks_descriptors(void)
{
    int fd = open("/", O_PATH | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == EMFILE || errno == ENFILE);
}

static int find_installed(const char *wanted, const struct driver_module **ret,
                          struct text **ret_text)
{
    void *handle = open_module();
    const struct driver_module *module = handle ? dlsym(handle, DRIVER_MODULE_SYMBOL) : NULL;
    if (!handle && driver_module__lacks_descriptors()) {
        *ret_text = text_printf("can't load the libvirt driver for %s: %s", wanted, dlerror());
        return BJ_E_SYSTEM;
    }
    if (!module) {
        *ret_text = text_printf("%s needs the libvirt driver of libblockjob, which is built where "
                                "libvirt is: %s",
                                wanted, dlerror());
        return BJ_E_UNSUPPORTED;
    }
    *ret = module;
    return BJ_OK;
}

static int driver_module_load(const char *wanted, const struct driver_module **ret, struct text **ret_text)
{
    const struct driver_module *linked = &blockjob_driver_module, *module = linked;
    int r = linked ? BJ_OK : find_installed(wanted, &module, ret_text);
    if (r != BJ_OK)
        return r;
    if (strcmp(module->version, bj_version()) != 0) {
        *ret_text = text_printf("%s needs %s of version %s, but it is of version %s: %s both anew",
                                wanted, linked ? "a linked libvirt driver" : DRIVER_MODULE_FILE,
                                bj_version(), module->version, linked ? "build" : "install");
        return BJ_E_UNSUPPORTED;
    }
    *ret = module;
    return BJ_OK;
}
/* ---- core/src/model/graph.c ---- */

/* ---- core/src/model/graph.h ---- */

/*
 * QEMU's block graph, as plain arrays: who uses which node. The arrays and all names belong to
 * whoever reads the graph; what is here fills nothing but sorts, so that finding is cheap for many
 * jobs.
 */

enum graph_kind {
    GRAPH_NODE,    /* an image, or a filter */
    GRAPH_BACKEND, /* a guest's disk or an export: the latter has no name */
    GRAPH_JOB,
    GRAPH_OTHER
};

struct graph_vertex {
    int64_t id; /* made anew for each query: only kind and name identify it later */
    enum graph_kind kind;
    const char *name;
};

struct graph_name {
    const struct graph_vertex *vertex;
};

struct graph_edge {
    const struct graph_vertex *parent, *child;
    const char *name;
    bool takes_permission; /* to read or to write what is below */
};

struct block_graph {
    size_t vertex_count;
    struct graph_vertex *vertices; /* by id */
    struct graph_name *by_name;    /* and kind */
    size_t edge_count;
    struct graph_edge *below; /* by parent */
    struct graph_edge *above; /* the same, by child */
};

struct graph_edges {
    const struct graph_edge *first;
    size_t count;
};

/* First the vertices are filled in and sorted, then `below`, whose edges refer to them. The other
 * two arrays have room for as many. */
static void graph_sort_vertices(struct block_graph *graph);
static void graph_sort_edges(struct block_graph *graph);

/* NULL: there is none. */
static const struct graph_vertex *graph_vertex_of(const struct block_graph *graph, int64_t id);
/* NULL: there is none, or there are several that can't be told apart. */
static const struct graph_vertex *graph_find(const struct block_graph *graph, enum graph_kind kind,
                                      const char *name);

static struct graph_edges graph_below(const struct block_graph *graph, const struct graph_vertex *parent);
static struct graph_edges graph_above(const struct block_graph *graph, const struct graph_vertex *child);

/* The only edge of that name below a vertex; NULL: there is none, or there are several. */
static const struct graph_edge *graph_edge_below(const struct block_graph *graph,
                                          const struct graph_vertex *parent, const char *name);
/* What it leads to. */
static const struct graph_vertex *graph_child(const struct block_graph *graph,
                                       const struct graph_vertex *parent, const char *name);

/* More edges than that no vertex of a QEMU has. */
#define FAN_MAX 1024

/* ------------------------------------------------------------------ sorting */

static int by_id(const void *a, const void *b)
{
    int64_t one = ((const struct graph_vertex *)a)->id;
    int64_t other = ((const struct graph_vertex *)b)->id;
    return (one > other) - (one < other);
}

static int by_name(const void *a, const void *b)
{
    const struct graph_vertex *one = ((const struct graph_name *)a)->vertex;
    const struct graph_vertex *other = ((const struct graph_name *)b)->vertex;
    int names = strcmp(one->name, other->name);
    return names ? names : (one->kind > other->kind) - (one->kind < other->kind);
}

static int by_parent(const void *a, const void *b)
{
    const struct graph_vertex *one = ((const struct graph_edge *)a)->parent;
    const struct graph_vertex *other = ((const struct graph_edge *)b)->parent;
    return (one > other) - (one < other);
}

static int by_child(const void *a, const void *b)
{
    const struct graph_vertex *one = ((const struct graph_edge *)a)->child;
    const struct graph_vertex *other = ((const struct graph_edge *)b)->child;
    return (one > other) - (one < other);
}

static void graph_sort_vertices(struct block_graph *graph)
{
    qsort(graph->vertices, graph->vertex_count, sizeof *graph->vertices, by_id);
    for (size_t i = 0; i < graph->vertex_count; i++)
        graph->by_name[i].vertex = &graph->vertices[i];
    qsort(graph->by_name, graph->vertex_count, sizeof *graph->by_name, by_name);
}

static void graph_sort_edges(struct block_graph *graph)
{
    memcpy(graph->above, graph->below, graph->edge_count * sizeof *graph->above);
    qsort(graph->below, graph->edge_count, sizeof *graph->below, by_parent);
    qsort(graph->above, graph->edge_count, sizeof *graph->above, by_child);
}

/* ------------------------------------------------------------------ finding */

static const struct graph_vertex *graph_vertex_of(const struct block_graph *graph, int64_t id)
{
    struct graph_vertex key = {.id = id};
    return bsearch(&key, graph->vertices, graph->vertex_count, sizeof key, by_id);
}

static const struct graph_vertex *graph_find(const struct block_graph *graph, enum graph_kind kind,
                                      const char *name)
{
    const struct graph_vertex vertex = {.kind = kind, .name = name};
    const struct graph_name key = {.vertex = &vertex};
    const struct graph_name *first = graph->by_name;
    const struct graph_name *end = first + graph->vertex_count;
    const struct graph_name *at = bsearch(&key, first, graph->vertex_count, sizeof key, by_name);
    if (!at)
        return NULL;
    bool is_only_one = (at == first || by_name(at - 1, &key) != 0) &&
                       (at + 1 == end || by_name(at + 1, &key) != 0);
    return is_only_one ? at->vertex : NULL;
}

/* Of the sorted edges those that are equal to `key`. */
static struct graph_edges find_edges(const struct graph_edge *sorted, size_t count,
                                     const struct graph_edge *key,
                                     int (*order)(const void *, const void *))
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order(&sorted[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    struct graph_edges found = {.first = &sorted[low]};
    while (low + found.count < count && found.count < FAN_MAX &&
           order(&sorted[low + found.count], key) == 0)
        found.count++;
    return found;
}

static struct graph_edges graph_below(const struct block_graph *graph, const struct graph_vertex *parent)
{
    struct graph_edge key = {.parent = parent};
    return find_edges(graph->below, graph->edge_count, &key, by_parent);
}

static struct graph_edges graph_above(const struct block_graph *graph, const struct graph_vertex *child)
{
    struct graph_edge key = {.child = child};
    return find_edges(graph->above, graph->edge_count, &key, by_child);
}

static const struct graph_edge *graph_edge_below(const struct block_graph *graph,
                                          const struct graph_vertex *parent, const char *name)
{
    const struct graph_edges edges = graph_below(graph, parent);
    const struct graph_edge *found = NULL;

    for (const struct graph_edge *edge = edges.first; edge < edges.first + edges.count; edge++) {
        if (strcmp(edge->name, name) != 0)
            continue;
        if (found)
            return NULL;
        found = edge;
    }
    return found;
}

static const struct graph_vertex *graph_child(const struct block_graph *graph,
                                       const struct graph_vertex *parent, const char *name)
{
    const struct graph_edge *edge = graph_edge_below(graph, parent, name);
    return edge ? edge->child : NULL;
}
#undef FAN_MAX
/* ---- core/src/model/group_plan.c ---- */

/*
 * The tables and the few steps of a wait on several jobs; see group_plan.h.
 */

/* -------------------------------------------------------------------- tables */

enum kind { IS_OK, IS_STALLED, IS_OTHER_ERROR };

/* What an answer does to the group. All but the last matter only if none has decided before. */
enum weight {
    NOTHING,
    DECIDES,
    ROLLS_BACK, /* it decides, and the others are aborted */
    ENDS,       /* it decides at once */
    OVERRULES   /* the same, whatever has decided before */
};

/* One that stands still overrules for done: then not all will be over. */
static const enum weight weights[GROUP_GOALS][IS_OTHER_ERROR + 1] = {
    [GROUP_READY] = {[IS_STALLED] = ENDS, [IS_OTHER_ERROR] = ENDS},
    [GROUP_DONE] = {[IS_STALLED] = OVERRULES, [IS_OTHER_ERROR] = DECIDES},
    [GROUP_ANY] = {[IS_OK] = ENDS, [IS_STALLED] = ENDS, [IS_OTHER_ERROR] = ENDS},
    [GROUP_ABORT] = {[IS_STALLED] = DECIDES, [IS_OTHER_ERROR] = DECIDES},
    [GROUP_PIVOT] = {[IS_STALLED] = ROLLS_BACK, [IS_OTHER_ERROR] = ROLLS_BACK},
    [GROUP_SWITCH] = {[IS_STALLED] = DECIDES, [IS_OTHER_ERROR] = DECIDES},
};

static const enum group_goal next_goal[] = {
    [ROLLS_BACK] = GROUP_ROLLBACK,
    [ENDS] = GROUP_OVER,
    [OVERRULES] = GROUP_OVER,
};

/* What is due for a part. What stands still takes no soft abort. */
static const enum group_act acts[GROUP_GOALS][PART_STAGES] = {
    [GROUP_READY] = {[PART_NEW] = GROUP_ASK},
    [GROUP_DONE] = {[PART_NEW] = GROUP_ASK},
    [GROUP_ANY] = {[PART_NEW] = GROUP_ASK},
    [GROUP_ABORT] = {[PART_NEW] = GROUP_ASK},
    [GROUP_PIVOT] = {[PART_NEW] = GROUP_ASK_HELD},
    [GROUP_SWITCH] = {[PART_HELD] = GROUP_LET_GO},
    [GROUP_ROLLBACK] = {[PART_NEW] = GROUP_ABORT_SOFT,
                        [PART_HELD] = GROUP_LEAVE,
                        [PART_IDLE] = GROUP_ABORT_SOFT,
                        [PART_UNABORTED] = GROUP_ABORT_FORCE},
    [GROUP_OVER] = {[PART_ASKED] = GROUP_LEAVE,
                    [PART_HELD] = GROUP_LEAVE,
                    [PART_ABORTED] = GROUP_LEAVE,
                    [PART_FORCED] = GROUP_LEAVE},
};

static const enum part_stage stage_after_act[GROUP_ACTS] = {
    [GROUP_ASK] = PART_ASKED,  [GROUP_ASK_HELD] = PART_HELD,      [GROUP_LET_GO] = PART_ASKED,
    [GROUP_LEAVE] = PART_IDLE, [GROUP_ABORT_SOFT] = PART_ABORTED, [GROUP_ABORT_FORCE] = PART_FORCED,
};

/* Of a part whose job goes on. */
static const enum part_stage stage_after_answer[PART_STAGES] = {
    [PART_ASKED] = PART_IDLE,
    [PART_HELD] = PART_IDLE,
    [PART_ABORTED] = PART_UNABORTED,
    [PART_FORCED] = PART_SETTLED,
};

/* --------------------------------------------------------------------- parts */

static bool owes_answer(const struct group_part *part)
{
    return acts[GROUP_OVER][part->stage] == GROUP_LEAVE;
}

static void move_to(struct group_plan *plan, struct group_part *part, enum part_stage stage)
{
    plan->owed -= owes_answer(part);
    part->stage = stage;
    plan->owed += owes_answer(part);
}

static void turn_to(struct group_plan *plan, enum group_goal goal)
{
    plan->goal = goal;
    plan->cursor = plan->first;
}

static void group_plan_add(struct group_plan *plan, struct group_part *part)
{
    if (plan->last)
        plan->last->next = part;
    else
        plan->first = part;
    plan->last = part;
}

static void group_plan_begin(struct group_plan *plan, enum group_goal goal)
{
    turn_to(plan, goal);
}

/* --------------------------------------------------------------------- facts */

static void model_group_plan__decide(struct group_plan *plan, struct group_part *part, int error)
{
    plan->decider = part;
    plan->error = error;
}

static void group_plan_unfit(struct group_plan *plan, struct group_part *part, bj_outcome outcome)
{
    part->outcome = outcome;
    model_group_plan__decide(plan, part, BJ_E_STATE);
    turn_to(plan, GROUP_OVER);
}

static enum weight weigh(const struct group_plan *plan, int error)
{
    enum kind kind = error == BJ_OK ? IS_OK : error == BJ_E_STALLED ? IS_STALLED : IS_OTHER_ERROR;
    enum weight weight = weights[plan->goal][kind];
    return plan->decider && weight != OVERRULES ? NOTHING : weight;
}

static bool group_plan_answered(struct group_plan *plan, struct group_part *part, int error,
                         bj_outcome outcome)
{
    enum weight weight = weigh(plan, error);

    part->outcome = outcome;
    if (weight != NOTHING)
        model_group_plan__decide(plan, part, error);
    if (weight >= ROLLS_BACK)
        turn_to(plan, next_goal[weight]);

    bool is_left_alone = outcome != BJ_OUTCOME_NONE || part == plan->decider;
    move_to(plan, part, is_left_alone ? PART_SETTLED : stage_after_answer[part->stage]);
    if (acts[plan->goal][part->stage] != GROUP_WAIT)
        plan->cursor = plan->first;
    return weight != NOTHING;
}

static void group_plan_quit(struct group_plan *plan)
{
    plan->is_finished = true;
    turn_to(plan, GROUP_OVER);
}

/* -------------------------------------------------------------------- orders */

/* One that owes nothing has been pivoted by another caller. */
static bool all_could_be_sent(const struct group_plan *plan)
{
    for (const struct group_part *part = plan->first; part; part = part->next)
        if (owes_answer(part) && !part->can_pivot)
            return false;
    return true;
}

/* Nothing is due for any part. */
static bool turns(struct group_plan *plan)
{
    if (plan->goal == GROUP_OVER)
        return false;
    if (plan->owed == 0)
        turn_to(plan, GROUP_OVER);
    else if (plan->goal == GROUP_PIVOT && all_could_be_sent(plan))
        turn_to(plan, GROUP_SWITCH);
    else
        return false;
    return true;
}

static enum group_act act_due(struct group_plan *plan)
{
    do {
        for (; plan->cursor; plan->cursor = plan->cursor->next)
            if (acts[plan->goal][plan->cursor->stage] != GROUP_WAIT)
                return acts[plan->goal][plan->cursor->stage];
    } while (turns(plan));
    return plan->goal == GROUP_OVER && !plan->is_finished ? GROUP_FINISH : GROUP_WAIT;
}

static struct group_order group_plan_next(struct group_plan *plan)
{
    enum group_act act = act_due(plan);

    if (plan->cursor)
        move_to(plan, plan->cursor, stage_after_act[act]);
    if (act == GROUP_FINISH)
        plan->is_finished = true;
    return (struct group_order){.act = act, .part = plan->cursor};
}

static bj_outcome group_plan_outcome(const struct group_plan *plan)
{
    if (plan->decider)
        return plan->decider->outcome;
    for (const struct group_part *part = plan->first->next; part; part = part->next)
        if (part->outcome != plan->first->outcome)
            return BJ_OUTCOME_NONE;
    return plan->first->outcome;
}

static bool group_plan_is_late(const struct group_plan *plan, const struct group_part *part)
{
    bool only_waits_for_others = plan->goal == GROUP_PIVOT && part->can_pivot;
    return plan->goal != GROUP_OVER && owes_answer(part) && !only_waits_for_others;
}
/* ---- core/src/model/machine.c ---- */

/*
 * The job machine: what facts mean for what is known of the run. See machine.h; the verbs are in
 * machine_verbs.c, those who wait in waiters.c, the tables in tables.c.
 */

/* ---- core/src/model/machine_parts.h ---- */

/* What the files of the machine share; nobody else includes it. */

/* -------------------------------------------------------- what state means */

static inline bool is_still(const struct machine *m)
{
    return status_has_any(m->status, STILL);
}

/* Its work is done or given up; what is left is QEMU's. */
static inline bool is_ending(const struct machine *m)
{
    return m->end != END_NONE || status_has_any(m->status, DONE | CLOSED);
}

/* QEMU will never take this verb again. */
static inline bool is_too_late(const struct machine *m, enum verb verb)
{
    return m->end != END_NONE || verb_taking(verb, m->status) == NEVER;
}

static inline bool was_sent(const struct machine *m, enum verb verb)
{
    return m->sent[verb].state != NOT_SENT;
}

static inline bool is_accepted(const struct machine *m, enum verb verb)
{
    return m->sent[verb].state == ACCEPTED;
}

static inline bool is_aborting(const struct machine *m)
{
    return was_sent(m, VERB_CANCEL) || was_sent(m, VERB_FORCE);
}

static inline bool abort_is_accepted(const struct machine *m)
{
    return is_accepted(m, VERB_CANCEL) || is_accepted(m, VERB_FORCE);
}

static inline void set_mark(struct machine *m, enum condition mark, bool value)
{
    m->marks = value ? m->marks | mark : m->marks & ~(unsigned)mark;
}

static struct text *machine_copy_text(const char *text); /* cut; takes NULL */

/* ---------------------------------------------------------------- waiters.c */

typedef bool waiter_test(const struct machine *m, const struct waiter *waiter);
static waiter_test waiter_is_any, waiter_is_for_ready, waiter_is_for_release;
static waiter_test waiter_is_for_outcome, waiter_is_verb;
static waiter_test waiter_wants_complete; /* a pivot or a finish that is not held back */
static waiter_test waiter_wants_force;    /* force, or a soft abort that has escalated */
static waiter_test waiter_wants_cancel;   /* a soft abort that will not escalate */
static waiter_test waiter_is_async_pivot, waiter_is_async_abort, waiter_is_async_soft_abort;
static waiter_test waiter_is_hurt_by_pause, waiter_is_hurt_by_pending;

static void machine_answer(struct machine *m, struct waiter *waiter, int error, const char *error_class,
                    const char *text);
static void machine_answer_all(struct machine *m, waiter_test *test, int error, const char *error_class,
                        const char *text);
static void machine_answer_over(struct machine *m, waiter_test *test); /* with the outcome */
static void machine_answer_hurt(struct machine *m); /* all whose wait a stall makes pointless */
static void machine_answer_kept(struct machine *m); /* all whom only a dismissal would help */

/* Whether the stall may be over, unheard; then a list shows it, after which all whom it hurts are
 * answered, or go on. */
static bool machine_doubts_stall(struct machine *m);

/* It is over, and QEMU keeps it until somebody else dismisses it; whether its nodes are free. */
static bool machine_is_kept(const struct machine *m);
static bool machine_is_free(const struct machine *m);

__extension__ static const char pivoting_text[], pending_text[], machine_paused_text[];

/* ---------------------------------------------------------- machine_verbs.c */

/* Sends what is due: the one place that decides it, from what the waiters want now. */
static void machine_pursue(struct machine *m);
/* What was refused because another client may be ending the job had time to show. */
static void machine_end_delays(struct machine *m);
static void machine_forget_unwanted(struct machine *m); /* that nobody waits for any more */
/* Starts the timer or stops it. */
static void machine_set_timer(struct machine *m);
static void machine_note_verb(struct machine *m, enum verb verb);
static void machine_dismiss_if_due(struct machine *m);
static void machine_dismiss_again(struct machine *m);
static bool machine_awaits_reply(const struct machine *m); /* to a complete or a cancel, ours or raw */
static bool machine_doubts_complete(const struct machine *m);
static void machine_complete_was_not_taken(struct machine *m);
static void machine_is_not_gone(struct machine *m);

/* Replies that will not come: after a cut, after a later list, after the first list of a new
 * connection. */
static void machine_forget_replies(struct machine *m);
static void machine_drop_replies(struct machine *m);
static void machine_doubt_cancels(struct machine *m);

/* ---------------------------------------------------------------- machine.c */

/* What follows from everything that happens: the outcome if it is known, what is due, the timer.
 * Each function of machine.h that may leave the run going on otherwise than before ends with it. */
static void machine_settle(struct machine *m);
static void machine_release(struct machine *m);
static void machine_stall(struct machine *m, enum stall kind, const char *reason);
static void machine_unstall(struct machine *m);

/* Bytes of an error text that are kept: QEMU's are sentences. */
#define TEXT_MAX 4096

static const char machine_no_space_text[] =
    "no space is left for what it writes: enlarge the target's volume and resume it, or abort it "
    "with force";

static const char machine_paused_text[] = "it is paused: resume it";

static const char io_error_text[] =
    "an I/O error stopped it: mend the cause and resume it, or abort it with force";

static const char cut_text[] = "it completed, and the connection ended before it was known whether "
                               "the disk was switched";

static void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits)
{
    *m = (struct machine){.port = port, .traits = *traits};
}

static void machine_clear(struct machine *m)
{
    m->text = text_unref(m->text);
    m->refusal = text_unref(m->refusal);
    m->refusal_class = text_unref(m->refusal_class);
}

static struct text *machine_copy_text(const char *text)
{
    return text ? text_printf("%.*s", text_fit(text, TEXT_MAX), text) : NULL;
}

static void set_text(struct machine *m, const char *text)
{
    text_unref(m->text);
    m->text = machine_copy_text(text);
}

static int machine_error(const struct machine *m)
{
    if (m->outcome == BJ_OUTCOME_FAILED)
        return BJ_E_JOB_FAILED;
    return m->outcome == BJ_OUTCOME_LOST ? m->lost_error : BJ_OK;
}

static int machine_cause(const struct machine *m)
{
    return m->outcome == BJ_OUTCOME_LOST ? m->lost_cause : BJ_OK;
}

/* ------------------------------------------------------------------ the end */

static void machine_release(struct machine *m)
{
    if (machine_is(m, IS_RELEASED))
        return;
    set_mark(m, IS_RELEASED, true);
    machine_answer_over(m, waiter_is_for_release);
    m->port->report(m, REPORT_RELEASED, NULL);
}

/* Before 3.0 the terminal event is the last of a run that is not ours. */
static void release_if_last(struct machine *m)
{
    if (!m->traits.has_status && !m->traits.ours && !m->traits.undecided)
        machine_release(m);
}

static void latch(struct machine *m, bj_outcome outcome)
{
    m->outcome = outcome;
    m->stall = STALL_NONE;
    machine_set_timer(m);
    m->port->report(m, REPORT_ENDED, text_str(m->text));
    machine_answer_over(m, waiter_is_for_outcome);

    machine_dismiss_if_due(m);
    release_if_last(m);
}

/* READY shows that a commit is one of the active layer, unless it came when nobody could see it:
 * then the graph is asked. */
static bool may_have_switched(const struct machine *m)
{
    bool can_be_seen = m->traits.is_commit && m->traits.has_graph;
    bool missed_ready = machine_is(m, HAS_GAP) || machine_is(m, FOUND_DONE);
    return m->traits.switches || machine_is(m, IS_READY) || (can_be_seen && missed_ready);
}

static unsigned conditions(const struct machine *m)
{
    bool never_sent = !was_sent(m, VERB_COMPLETE) && !m->sent[VERB_COMPLETE].was_unsure;
    bool abort_taken = abort_is_accepted(m);

    return m->marks | (may_have_switched(m) ? 0 : NEVER_SWITCHES) |
           (is_accepted(m, VERB_COMPLETE) ? COMPLETE_TAKEN : 0) | (abort_taken ? ABORT_TAKEN : 0) |
           (abort_taken && never_sent ? ONLY_ABORT_SENT : 0) |
           (machine_awaits_reply(m) ? REPLY_OUT : 0) | (m->traits.silent ? NO_CANCEL_EVENT : 0);
}

/* `seen` is what the comparison of the graph has just shown; `unknown` is the text if whether the
 * disk was switched stays unknown. */
static void decide_by(struct machine *m, unsigned seen, const char *unknown)
{
    if (machine_is_over(m) || m->end == END_NONE)
        return;
    const struct outcome_rule *rule = outcome_rule(m->end, conditions(m) | seen);
    switch (rule->then) {
    case DECIDED:
        set_mark(m, IS_UNCLEAR, rule->unknown);
        if (rule->unknown)
            set_text(m, unknown);
        latch(m, rule->outcome);
        break;
    case COMPARE_GRAPH:
        set_mark(m, COMPARING, true);
        m->port->compare_graph(m);
        break;
    case WAIT_FOR_REPLY:
        break;
    }
}

static void model_machine__decide(struct machine *m)
{
    decide_by(m, 0, NULL);
}

/* The last act of everything that happens to a machine. */
static void machine_settle(struct machine *m)
{
    model_machine__decide(m);
    machine_forget_unwanted(m);
    machine_pursue(m);
    machine_set_timer(m);
    if (m->status == STATUS_NULL && machine_is_over(m))
        machine_release(m);
    else if (machine_is_free(m))
        machine_answer_over(m, waiter_is_for_release);
}

static void set_end(struct machine *m, enum end end, const char *error)
{
    if (m->end != END_NONE || machine_is_over(m))
        return; /* the first terminal event wins (B18) */
    m->end = end;
    set_mark(m, HEARD_EVENT, true);
    set_mark(m, ENDED_HERE, true);
    set_text(m, error);
    model_machine__decide(m);
}

/* It is gone, and there was no terminal event. */
static void vanish(struct machine *m, enum vanishing how)
{
    const struct vanishing_rule *rule = vanishing_rule(how, conditions(m));

    if (rule->end == END_NONE)
        machine_lost(m, BJ_E_JOB_LOST, rule->text);
    else
        set_end(m, rule->end, rule->text);
}

/* ----------------------------------------------------------- ready and stall */

/* Complete goes out first of all: the pivot must not wait for the observers. */
static bool latch_ready(struct machine *m)
{
    if (machine_is(m, IS_READY) || machine_is_over(m))
        return false;
    set_mark(m, IS_READY, true);
    if (status_has_any(m->status, STILL) && !m->traits.has_status)
        m->status = STATUS_READY; /* what only a row has shown is older */
    machine_pursue(m);
    return true;
}

static void announce_ready(struct machine *m)
{
    m->port->report(m, REPORT_READY, NULL);
    machine_answer_all(m, waiter_is_for_ready, BJ_OK, NULL, NULL);
}

/* A stop by an error stays one until it is resumed, whatever else holds the job as well. */
static void machine_stall(struct machine *m, enum stall kind, const char *reason)
{
    if (machine_is_over(m) || is_ending(m))
        return;
    set_mark(m, CHECKING_STALL, false);
    if (m->stall < kind) {
        m->stall = kind;
        m->pause.rows = 0; /* a list that is on its way may be older */
        set_text(m, reason);
        machine_set_timer(m);
        m->port->report(m, REPORT_STALLED, reason);
    }
    machine_answer_hurt(m);
}

static void machine_unstall(struct machine *m)
{
    if (!machine_is_stalled(m))
        return;
    m->stall = STALL_NONE;
    set_mark(m, CHECKING_STALL, false);
    if (is_still(m) && !m->traits.has_status) /* no event says so */
        m->status = machine_is(m, IS_READY) ? STATUS_READY : STATUS_RUNNING;
    set_text(m, NULL);
    m->port->report(m, REPORT_RESUMED, NULL);
}

/* Before 3.0 nothing reports that another client has resumed it; and later only a job that had come
 * to its standstill has a status for that. */
static bool may_have_resumed(const struct machine *m)
{
    bool never_stood = m->stall == STALL_PAUSED && !is_still(m);
    return !m->traits.has_status || never_stood || machine_is(m, IS_AWAY);
}

static bool machine_doubts_stall(struct machine *m)
{
    if (!may_have_resumed(m))
        return false;
    if (!machine_is(m, CHECKING_STALL) && !machine_is(m, IS_AWAY))
        m->port->list_jobs(m);
    set_mark(m, CHECKING_STALL, true);
    return true;
}

static void confirm_stall(struct machine *m)
{
    set_mark(m, CHECKING_STALL, false);
    machine_answer_hurt(m);
}

static void moves(struct machine *m)
{
    machine_unstall(m);
    if (m->pause.stood)
        m->pause.pausing = false;
}

static void set_pending(struct machine *m)
{
    set_mark(m, IS_PENDING, true);
    machine_answer_all(m, waiter_is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

/* ------------------------------------------------------------------- events */

/* Also of a status that only a row reported. */
static void note_status(struct machine *m, enum status status)
{
    m->status = status;
    if (is_still(m))
        m->sent[VERB_COMPLETE].stood = m->pause.stood = true;
    if (status_has_any(status, DONE))
        set_mark(m, WAS_DONE, true);
    if (status == STATUS_ABORTING)
        set_mark(m, WAS_ABORTING, true);
}

/* Without a BLOCK_JOB event (a job without a disk, or a transaction that failed before the job ran)
 * only QEMU's list has the error. */
static void concluded(struct machine *m)
{
    if (machine_is_over(m))
        machine_dismiss_if_due(m);
    else if (m->end == END_NONE || machine_awaits_reply(m))
        m->port->list_jobs(m);
}

static void model_machine__enter(struct machine *m, enum status status)
{
    m->traits.has_status = true;
    note_status(m, status);
    bool became_ready = status == STATUS_READY && latch_ready(m);
    if (status != STATUS_NULL)
        m->port->report(m, REPORT_STATUS, job_status_name(status));

    if (status_has_any(status, MOVES))
        moves(m);
    if (became_ready)
        announce_ready(m);
    if (status == STATUS_CONCLUDED)
        concluded(m);
    if (status == STATUS_NULL && !machine_is_over(m) && m->end == END_NONE)
        vanish(m, VANISHED_NULL);
}

static void machine_status_event(struct machine *m, enum status status)
{
    if (machine_is(m, IS_RELEASED) || status == STATUS_NONE)
        return;
    set_mark(m, HEARD_EVENT, true);
    if (status == m->status) {
        if (status_has_any(status, MOVES))
            moves(m); /* it was still while we were away */
    } else {
        model_machine__enter(m, status);
    }
    machine_settle(m);
}

static void machine_ready_event(struct machine *m)
{
    set_mark(m, HEARD_EVENT, true);
    if (latch_ready(m))
        announce_ready(m);
    machine_settle(m);
}

static void machine_completed_event(struct machine *m, const char *error)
{
    set_end(m, error ? END_FAILED : END_COMPLETED, error);
    machine_settle(m);
}

static void machine_cancelled_event(struct machine *m)
{
    set_end(m, END_CANCELLED, NULL);
    machine_settle(m);
}

/* A job that is still after force was accepted is not ended by it: before 2.12 it only finishes the
 * copy of a ready mirror. Sent again it resumes the job. */
static void refute_force(struct machine *m)
{
    if (is_accepted(m, VERB_FORCE))
        m->sent[VERB_FORCE].state = NOT_SENT;
}

static void machine_stopped_event(struct machine *m, const char *reason)
{
    set_mark(m, HEARD_EVENT, true);
    m->pause.resuming = false; /* what was resumed has stopped again */
    m->pause.rows = 0;
    refute_force(m);
    machine_stall(m, STALL_ERROR, reason);
    machine_settle(m);
}

static void machine_pending_event(struct machine *m)
{
    set_mark(m, HEARD_EVENT, true);
    if (m->end == END_NONE)
        set_pending(m);
    machine_settle(m);
}

static void machine_tick(struct machine *m)
{
    set_mark(m, TIMER_RUNS, false);
    machine_end_delays(m);
    if (machine_is_kept(m)) {
        machine_answer_kept(m);
    } else if (is_still(m)) {
        machine_stall(m, STALL_PAUSED,
                      "it stands still: another client has paused it, or its I/O hangs: resume it, "
                      "or look at its disks");
    } else if (machine_doubts_complete(m)) {
        set_mark(m, IS_DOUBTED, true);
        m->port->list_jobs(m);
    }
    machine_settle(m);
}

/* --------------------------------------------------------------------- rows */

/* A list may be older than the last event. */
static void note_concluded(struct machine *m)
{
    if (m->status != STATUS_NULL)
        note_status(m, STATUS_CONCLUDED);
}

static void concluded_row(struct machine *m, const struct row *row)
{
    note_concluded(m);
    if (m->end != END_NONE)
        machine_drop_replies(m);
    else if (!row->error)
        set_end(m, END_COMPLETED, NULL);
    else if (row->cancelled)
        set_end(m, END_CANCELLED, NULL);
    else
        set_end(m, END_FAILED, row->error);
}

/* Events, where there are any, are newer than a row (B28); only who comes later learns from it. */
static void adopt_status(struct machine *m, enum status status)
{
    bool is_news = m->status == STATUS_NONE || !m->traits.has_status;
    bool is_older = machine_is(m, IS_READY) && status == STATUS_PAUSED; /* than READY */
    if (!is_news || is_older || status == STATUS_NONE)
        return;
    note_status(m, status);
    if (status == STATUS_PENDING)
        set_pending(m); /* in a list it is only seen when it waits for finalize */
}

/* Before 3.0 no event reports that another client has paused it or resumed it, and a list shows the
 * drains of a moment, too, and may be older than what is known: so twice (B13). */
static void adopt_pause(struct machine *m, const struct row *row)
{
    bool paused = row->paused;
    if (m->traits.has_status || row->hides_pause)
        return;
    bool again = paused ? m->pause.rows > 0 : m->pause.rows < 0;
    m->pause.rows = (paused ? 1 : -1) * (again ? 2 : 1);
    if (paused && again) {
        refute_force(m);
        machine_stall(m, STALL_PAUSED, machine_paused_text);
    } else if (again) {
        machine_unstall(m);
    } else if (machine_is_stalled(m) && (!paused || is_accepted(m, VERB_FORCE))) {
        m->port->list_jobs(m); /* nobody else may ask a second time */
    }
}

/* The list was asked for since the stall. Where no event reports a pause, two rows have to agree
 * (adopt_pause), and the second is on its way. */
static void settle_stall(struct machine *m, const struct row *row)
{
    bool moving =
        m->traits.has_status && !is_still(m) && !row->paused && status_has_any(row->status, MOVES);
    bool undecided = !m->traits.has_status && m->pause.rows == -1;

    if (!machine_is(m, CHECKING_STALL) || undecided)
        return;
    if (moving)
        machine_unstall(m);
    confirm_stall(m);
}

/* What a row of a job that has not concluded says of verbs whose effect is unknown. */
static void settle_doubts(struct machine *m, const struct row *row, bool ready)
{
    struct sent *complete = &m->sent[VERB_COMPLETE];

    if (machine_is(m, CHECKING_GONE))
        machine_is_not_gone(m);
    if (machine_is(m, IS_DOUBTED) && ready && !is_ending(m))
        machine_complete_was_not_taken(m);
    if (complete->state == UNSURE && !ready && !status_has_any(row->status, DONE | CLOSED))
        complete->state = NOT_SENT; /* QEMU takes none before ready */
}

static void adopt_row(struct machine *m, const struct row *row, bool ready)
{
    adopt_status(m, row->status);
    if (row->io_error && m->status == row->status)
        machine_stall(m, STALL_ERROR, row->no_space ? machine_no_space_text : io_error_text);
    adopt_pause(m, row);
    settle_stall(m, row);
    settle_doubts(m, row, ready);
}

static void machine_row(struct machine *m, const struct row *row)
{
    if (machine_is(m, IS_RELEASED))
        return;
    if (machine_is_over(m)) {
        machine_dismiss_again(m);
        machine_settle(m);
        return;
    }
    bool ready = row->ready || status_has_any(row->status, SHOWS_READY);
    if (machine_is_fresh(m) && status_has_any(row->status, DONE | CLOSED))
        set_mark(m, FOUND_DONE, true);
    if (ready && latch_ready(m))
        announce_ready(m);
    if (row->status == STATUS_CONCLUDED)
        concluded_row(m, row);
    else
        adopt_row(m, row, ready);
    machine_settle(m);
}

static void machine_absent(struct machine *m)
{
    if (machine_is(m, IS_RELEASED))
        return;
    if (!machine_is_over(m) && m->end == END_NONE) {
        set_mark(m, END_ASSUMED, m->traits.silent);
        vanish(m, VANISHED_UNLISTED);
    }
    if (machine_is_over(m))
        machine_release(m);
}

/* Its last statuses may have been missed: ours is dismissed, which shows what it has become. */
static void list_failed_when_over(struct machine *m)
{
    bool was_away = machine_is(m, IS_AWAY);

    set_mark(m, IS_AWAY, false);
    if (was_away && m->traits.ours)
        note_status(m, STATUS_CONCLUDED);
    else if (was_away)
        machine_release(m);
    machine_dismiss_again(m);
}

/* Only what nothing else will show is lost by it. */
static void list_failed_at_work(struct machine *m)
{
    bool is_closed = m->status == STATUS_CONCLUDED || m->status == STATUS_NULL;

    if (machine_is(m, ENDED_HERE))
        set_mark(m, IS_AWAY, false);
    else if (machine_is(m, IS_AWAY) || (m->end == END_NONE && is_closed))
        machine_lost(m, BJ_E_JOB_LOST, "QEMU could not be asked how it ended");
    else if (machine_is(m, CHECKING_GONE))
        machine_is_not_gone(m);
    else if (machine_is(m, CHECKING_STALL))
        confirm_stall(m);
    set_mark(m, IS_DOUBTED, false);
}

static void machine_list_failed(struct machine *m)
{
    if (machine_is(m, IS_RELEASED))
        return;
    if (machine_is_over(m))
        list_failed_when_over(m);
    else
        list_failed_at_work(m);
    machine_settle(m);
}

static void machine_compared(struct machine *m, enum disk_switch result)
{
    static const unsigned seen[] = {
        [SWITCH_UNKNOWN] = CANNOT_COMPARE,
        [SWITCH_UNCLEAR] = SAW_NEITHER,
        [SWITCHED] = SAW_SWITCH,
        [NOT_SWITCHED] = SAW_NO_SWITCH,
        [SWITCHES_NOTHING] = SAW_NO_TARGET,
    };
    bool is_known_to_switch = m->traits.switches || machine_is(m, IS_READY);
    if (machine_is_over(m))
        return;
    decide_by(m, seen[result],
              is_known_to_switch ? "it completed by another client's verb, and whether the disk "
                                   "was switched is unknown"
                                 : "it completed unseen, and whether it was a commit of the active "
                                   "layer that has switched the disk is unknown");
    machine_settle(m);
}

/* ------------------------------------------------------------ the connection */

static void machine_lost(struct machine *m, int why, const char *reason)
{
    int error = why == BJ_E_CLOSED ? why : BJ_E_JOB_LOST;

    if (m->outcome != BJ_OUTCOME_LOST)
        m->lost_cause = why == error ? BJ_OK : why;
    if (machine_is(m, IS_RELEASED))
        machine_drop_verbs(m);
    decide_by(m, CANNOT_COMPARE, cut_text);
    if (!machine_is_over(m)) {
        m->lost_error = error;
        set_text(m, reason);
        latch(m, BJ_OUTCOME_LOST);
    }
    machine_answer_all(m, waiter_is_any, error, NULL, reason);
    machine_release(m);
}

static void machine_decide_owner(struct machine *m, bool ours)
{
    if (!m->traits.undecided)
        return;
    m->traits.undecided = false;
    m->traits.ours = ours;
    if (!machine_is_over(m))
        return;
    machine_dismiss_if_due(m);
    release_if_last(m);
}

static void machine_superseded(struct machine *m)
{
    machine_drop_replies(m);
    if (!machine_is_over(m) && m->end == END_NONE)
        machine_lost(m, BJ_E_JOB_LOST, "its id was given to another job, and its end was not seen");
    note_status(m, STATUS_NULL);
    set_mark(m, IS_AWAY, false);
    machine_settle(m);
    machine_answer_all(m, waiter_is_verb, BJ_E_STATE, NULL, "it is over");
}

static void machine_abandon(struct machine *m, int error, const char *reason)
{
    machine_answer_all(m, waiter_is_any, error, NULL, reason);
}

static void machine_disconnected(struct machine *m)
{
    machine_drop_verbs(m);
    if (machine_is(m, IS_RELEASED))
        return;
    m->marks &= ~(unsigned)(HEARD_EVENT | ENDED_HERE | CHECKING_GONE | CHECKING_STALL | COMPARING |
                            IS_DOUBTED);
    m->marks |= IS_AWAY | HAS_GAP;
    machine_forget_replies(m);
    machine_settle(m);
}

/* A run that has ended is never at work again, nor is one that was ready just running: the id is
 * another run's. */
static bool is_another_run(const struct machine *m, const struct row *row)
{
    bool at_work = status_has_any(row->status, AT_WORK);
    bool not_ready = at_work && !status_has_any(row->status, SHOWS_READY);
    return (m->end != END_NONE && at_work) || (machine_is(m, IS_READY) && !row->ready && not_ready);
}

/* What it became in the meantime. */
static void catch_up(struct machine *m, const struct row *row)
{
    if (row->status != STATUS_NONE && row->status != m->status) {
        note_status(m, row->status);
        if (row->status != STATUS_CONCLUDED)
            m->port->report(m, REPORT_STATUS, job_status_name(row->status));
    }
    if (status_has_any(row->status, AT_WORK) && status_has_any(row->status, MOVES))
        moves(m);
    if (row->status == STATUS_PENDING && !machine_is(m, IS_PENDING))
        set_pending(m);
}

static void machine_reconnected_listed(struct machine *m, const struct row *row)
{
    bool is_newest = !machine_is(m, HEARD_EVENT); /* else events since know better */

    if (is_newest && is_another_run(m, row)) {
        machine_reconnected_absent(m);
        return;
    }
    set_mark(m, IS_AWAY, false);
    if (status_has_any(row->status, AT_WORK))
        set_mark(m, HAS_GAP, false); /* whatever it has done since was reported */
    if (is_newest && m->end == END_NONE)
        catch_up(m, row);
    else if (row->status == STATUS_CONCLUDED)
        note_concluded(m);
    machine_doubt_cancels(m);
    set_mark(m, CHECKING_STALL, machine_is_stalled(m)); /* for those who had hoped for a cancel */
    machine_row(m, row);
}

/* Its end was seen before. If that was on another connection, the graph of now may be another
 * QEMU's. */
static void decide_unlisted(struct machine *m)
{
    note_status(m, STATUS_NULL);
    if (machine_is(m, ENDED_HERE))
        model_machine__decide(m);
    else
        decide_by(m, CANNOT_COMPARE, cut_text);
}

static void machine_reconnected_absent(struct machine *m)
{
    set_mark(m, IS_AWAY, false);
    if (!machine_is_over(m) && m->end == END_NONE)
        vanish(m, VANISHED_AWAY);
    else if (!machine_is_over(m))
        decide_unlisted(m);
    if (machine_is_over(m))
        machine_release(m);
}
#undef TEXT_MAX
/* ---- core/src/model/machine_memory.c ---- */

/*
 * What is remembered of a machine, and one that begins with what was.
 */

static const struct {
    enum verb verb;
    unsigned sent, taken;
} verbs[] = {
    {VERB_COMPLETE, MEMORY_COMPLETE_SENT, MEMORY_COMPLETE_TAKEN},
    {VERB_CANCEL, MEMORY_CANCEL_SENT, MEMORY_CANCEL_TAKEN},
    {VERB_FORCE, MEMORY_FORCE_SENT, MEMORY_FORCE_TAKEN},
};
#define VERBS (sizeof verbs / sizeof *verbs)

static unsigned machine_memory(const struct machine *m)
{
    unsigned facts =
        (machine_is(m, IS_READY) ? MEMORY_READY : 0) | (machine_is(m, WAS_DONE) ? MEMORY_DONE : 0) |
        (machine_is(m, WAS_ABORTING) ? MEMORY_ABORTING : 0) | (m->traits.ours ? MEMORY_OURS : 0);

    for (size_t i = 0; i < VERBS; i++) {
        const struct sent *sent = &m->sent[verbs[i].verb];
        if (sent->state == ACCEPTED)
            facts |= verbs[i].taken;
        else if (sent->state != NOT_SENT || sent->raw > 0 || sent->was_unsure)
            facts |= verbs[i].sent;
    }
    return facts;
}

/* Where another run may have the id by now, a verb that was accepted may have been another's. */
static void recall_verbs(struct machine *m, const struct memory *memory)
{
    enum sent_state taken = memory_is_certain(memory) ? ACCEPTED : UNSURE;

    for (size_t i = 0; i < VERBS; i++) {
        struct sent *sent = &m->sent[verbs[i].verb];
        if (sent->state != NOT_SENT)
            continue;
        if (memory->facts & verbs[i].taken)
            sent->state = taken;
        else if (memory->facts & verbs[i].sent)
            sent->state = UNSURE;
        sent->was_unsure = verbs[i].verb == VERB_COMPLETE && sent->state == UNSURE;
    }
}

static void machine_recall(struct machine *m, const struct memory *memory)
{
    set_mark(m, IS_READY, memory->facts & MEMORY_READY);
    set_mark(m, WAS_DONE, memory->facts & MEMORY_DONE);
    set_mark(m, WAS_ABORTING, memory->facts & MEMORY_ABORTING);
    m->marks |= IS_AWAY | HAS_GAP;
    m->traits.ours = memory->facts & MEMORY_OURS;
    recall_verbs(m, memory);
}

static void machine_adopt(struct machine *m, const struct memory *memory)
{
    recall_verbs(m, memory);
    if (!(memory->facts & MEMORY_OURS))
        return;
    m->traits.ours = true;
    m->traits.kept = false;
    if (machine_is_over(m))
        machine_dismiss_if_due(m);
}

/* Nobody lists it any more. */
static void end_unseen(struct machine *m)
{
    set_mark(m, IS_AWAY, false);
    m->status = STATUS_NULL;
}

static void machine_pivoted_unseen(struct machine *m)
{
    end_unseen(m);
    m->end = END_COMPLETED;
    machine_compared(m, SWITCHED);
}

static void machine_cancelled_unseen(struct machine *m)
{
    end_unseen(m);
    machine_cancelled_event(m);
}
#undef VERBS
/* ---- core/src/model/machine_verbs.c ---- */

/*
 * The verbs of the machine: when each is sent, and what follows from its reply.
 */

/* 5.2 refuses complete in standby, where any change of the block graph can put a job for a moment:
 * sent again when it is ready again, but not forever (B33). */
#define COMPLETES_MAX 16
#define DISMISSES_MAX 3

/* ------------------------------------------------------------- what is sent */

/* The program has sent a complete or a cancel by itself, and has no reply. */
static bool awaits_raw(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].raw + m->sent[VERB_CANCEL].raw + m->sent[VERB_FORCE].raw > 0;
}

static bool machine_awaits_reply(const struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++)
        if (m->sent[verb].state == IN_FLIGHT)
            return true;
    return awaits_raw(m);
}

static void send_shared(struct machine *m, enum verb verb)
{
    m->sent[verb].state = IN_FLIGHT;
    m->port->send(m, verb, NULL);
}

static bool is_taken_now(const struct machine *m, enum verb verb)
{
    return m->end == END_NONE && verb_taking(verb, m->status) == NOW;
}

static bool could_be_sent(const struct machine *m, enum verb verb)
{
    return !was_sent(m, verb) && m->sent[verb].delay == NO_DELAY && !awaits_raw(m) &&
           is_taken_now(m, verb);
}

static bool force_is_due(const struct machine *m)
{
    return m->force_aborts > 0 && could_be_sent(m, VERB_FORCE);
}

/* Once, and never again while a complete may yet be accepted: only its refusal, or a job that is
 * pending for its finalize, makes a soft cancel meaningful. */
static bool cancel_is_due(const struct machine *m)
{
    enum sent_state complete = m->sent[VERB_COMPLETE].state;
    bool too_late = complete == IN_FLIGHT || (complete == ACCEPTED && !machine_is(m, IS_PENDING));
    return m->soft_aborts > 0 && !is_aborting(m) && !too_late && !m->sent[VERB_CANCEL].refused &&
           !machine_is_stalled(m) && could_be_sent(m, VERB_CANCEL);
}

static bool machine_can_pivot(const struct machine *m)
{
    bool could = !is_aborting(m) && machine_is(m, IS_READY) && is_taken_now(m, VERB_COMPLETE) &&
                 !machine_is_stalled(m);
    return !machine_is(m, IS_AWAY) && !awaits_raw(m) && (could || was_sent(m, VERB_COMPLETE));
}

/* Once, when QEMU will take it (B31), and never beside an abort (B34), nor beside what the program
 * has sent by itself and has no reply to (B32). */
static bool complete_is_due(const struct machine *m)
{
    return machine_awaits_pivot(m) && !was_sent(m, VERB_COMPLETE) && machine_can_pivot(m) &&
           m->sent[VERB_COMPLETE].delay == NO_DELAY;
}

/* Whoever has left wants nothing. An abort goes before a pivot that has not been sent. */
static void machine_pursue(struct machine *m)
{
    if (machine_is_over(m) || machine_is(m, CHECKING_GONE) || machine_is(m, IS_AWAY))
        return;
    if (force_is_due(m))
        send_shared(m, VERB_FORCE);
    if (cancel_is_due(m)) {
        m->sent[VERB_CANCEL].in_pending = machine_is(m, IS_PENDING);
        send_shared(m, VERB_CANCEL);
    }
    if (complete_is_due(m)) {
        m->sent[VERB_COMPLETE].stood = false;
        send_shared(m, VERB_COMPLETE);
    }
}

static void machine_dismiss_if_due(struct machine *m)
{
    bool due = m->status == STATUS_CONCLUDED || !m->traits.has_status;

    if (!m->traits.ours || was_sent(m, VERB_DISMISS) || machine_is(m, IS_RELEASED) || !due ||
        machine_is(m, IS_AWAY) || m->outcome == BJ_OUTCOME_LOST)
        return;
    m->sent[VERB_DISMISS].times++;
    send_shared(m, VERB_DISMISS);
}

/* Our dismiss was refused, and QEMU still lists the job: sent again, but not forever. */
static void machine_dismiss_again(struct machine *m)
{
    if (m->sent[VERB_DISMISS].times < DISMISSES_MAX)
        machine_dismiss_if_due(m);
    else
        machine_release(m);
}

static void machine_note_verb(struct machine *m, enum verb verb)
{
    m->pause.resuming |= verb == VERB_RESUME;
    if (verb == VERB_PAUSE) {
        m->pause.pausing = true;
        m->pause.stood = is_still(m);
    }
}

/* -------------------------------------------------------------------- timer */

static bool has_waiter(const struct machine *m, waiter_test *test)
{
    for (const struct waiter *w = m->waiters; w; w = w->next)
        if (test(m, w))
            return true;
    return false;
}

/* A job that is still for an unknown reason: mostly for microseconds (any change of the block graph
 * drains the jobs), so it counts as stalled only if that lasts, and only if it hurts someone. */
static bool is_unexplained(const struct machine *m)
{
    return is_still(m) && !machine_is_stalled(m) && has_waiter(m, waiter_is_hurt_by_pause);
}

/* Someone waits for a pivot whose complete QEMU may have taken before the connection ended: it is
 * given time to show. */
static bool machine_doubts_complete(const struct machine *m)
{
    return m->sent[VERB_COMPLETE].state == UNSURE && machine_awaits_pivot(m) &&
           !machine_is(m, IS_DOUBTED);
}

static bool has_delay(const struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++)
        if (m->sent[verb].delay != NO_DELAY)
            return true;
    return false;
}

/* Whoever keeps the job may be about to dismiss it. */
static bool is_kept_from(const struct machine *m, waiter_test *waiter)
{
    return machine_is_kept(m) && !machine_is_free(m) && has_waiter(m, waiter);
}

static void machine_set_timer(struct machine *m)
{
    bool moves_on = is_ending(m) || machine_is_over(m);
    bool wanted = moves_on ? is_kept_from(m, waiter_is_for_release)
                           : is_unexplained(m) || machine_doubts_complete(m) || has_delay(m);

    wanted = wanted && !machine_is(m, IS_AWAY);
    if (wanted == machine_is(m, TIMER_RUNS))
        return;
    set_mark(m, TIMER_RUNS, wanted);
    m->port->set_timer(m, wanted ? m->traits.stall_ms : 0);
}

/* ------------------------------------------------ complete, cancel and force */

/* RHEL 6.2 answers a cancel when the job is gone, and reports nothing more of it; 1.0.50 has the
 * same commands and an event (B57). */
static void list_if_silent(struct machine *m)
{
    if (m->traits.silent && m->end == END_NONE)
        m->port->list_jobs(m);
}

/* What was accepted can't be withdrawn: whoever only wanted that need not stay. */
static void complete_accepted(struct machine *m)
{
    machine_answer_all(m, waiter_is_async_pivot, BJ_OK, NULL, NULL);
    if (!machine_is(m, IS_PENDING))
        machine_answer_all(m, waiter_is_async_soft_abort, BJ_E_STATE, NULL, pivoting_text);
}

static void cancel_accepted(struct machine *m)
{
    machine_answer_all(m, waiter_is_async_soft_abort, BJ_OK, NULL, NULL);
    list_if_silent(m);
    if (machine_is(m, IS_PENDING))
        machine_answer_all(m, waiter_is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

static void force_accepted(struct machine *m)
{
    machine_answer_all(m, waiter_is_async_abort, BJ_OK, NULL, NULL);
    list_if_silent(m);
    if (machine_is_stalled(m) && !m->traits.has_status)
        m->port->list_jobs(m); /* did that stop come before it, or after it? */
}

/* What differs between the verbs that are sent once for all. */
static const struct {
    waiter_test *wanted_by;              /* whom a refusal answers */
    void (*accepted)(struct machine *m); /* what else an acceptance means */
} shared[SHARED_VERBS] = {
    [VERB_COMPLETE] = {waiter_wants_complete, complete_accepted},
    [VERB_CANCEL] = {waiter_wants_cancel, cancel_accepted},
    [VERB_FORCE] = {waiter_wants_force, force_accepted},
};

static void shared_accepted(struct machine *m, enum verb verb)
{
    m->sent[verb].state = ACCEPTED;
    shared[verb].accepted(m);
}

/* QEMU knows of no such job although we have seen no end: a list decides. */
static bool list_if_gone(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    if (reply->verdict != VERDICT_NO_SUCH_JOB)
        return false;
    m->sent[verb].is_checked = true;
    set_mark(m, CHECKING_GONE, true);
    m->port->list_jobs(m);
    return true;
}

/* In standby 5.2 refuses what it takes a moment later (B33). */
static bool is_sent_again(struct machine *m, enum verb verb)
{
    struct sent *sent = &m->sent[verb];
    return verb == VERB_COMPLETE && sent->stood && ++sent->times < COMPLETES_MAX;
}

/* QEMU refuses complete while another client's cancel drains the job, in which neither a status nor
 * a list tells it from one that goes on: how it ends, if it does, shows soon. libvirt says so, for
 * any verb, and as long as it lasts. */
static bool is_delayed(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    struct sent *sent = &m->sent[verb];
    bool may_be_ending = verb == VERB_COMPLETE && reply->error == BJ_E_REFUSED && !sent->stood;

    if (reply->verdict == VERDICT_ENDING) {
        sent->delay = THEN_SENT;
    } else if (may_be_ending) {
        sent->delay = THEN_REFUSED;
        m->refusal = machine_copy_text(reply->text);
        m->refusal_class = machine_copy_text(reply->error_class);
    }
    return sent->delay != NO_DELAY;
}

static void forget_delay(struct machine *m, enum verb verb)
{
    if (m->sent[verb].delay == THEN_REFUSED) {
        m->refusal = text_unref(m->refusal);
        m->refusal_class = text_unref(m->refusal_class);
    }
    m->sent[verb].delay = NO_DELAY;
}

/* A soft abort that had joined a force learns of the pivot beside it. */
static void answer_refused(struct machine *m, enum verb verb, int error, const char *error_class,
                           const char *text)
{
    machine_answer_all(m, shared[verb].wanted_by, error, error_class, text);
    if (is_accepted(m, VERB_COMPLETE) && !is_aborting(m))
        complete_accepted(m);
}

static void meet_refusal(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    if (verb == VERB_CANCEL && is_still(m))
        machine_stall(
            m, STALL_PAUSED,
            "it is paused, and QEMU refuses a soft cancel then: resume it, or abort it with force");
    else if (!list_if_gone(m, verb, reply) && !is_delayed(m, verb, reply))
        answer_refused(m, verb, reply->error, reply->error_class, reply->text);
}

static void shared_refused(struct machine *m, enum verb verb, const struct verb_reply *reply)
{
    m->sent[verb].state = NOT_SENT;
    m->sent[verb].refused = verb == VERB_CANCEL && reply->verdict != VERDICT_ENDING;
    if (!machine_is_over(m) && !is_too_late(m, verb) && !is_sent_again(m, verb))
        meet_refusal(m, verb, reply);
    /* Those who had hoped for an acceptance. */
    machine_answer_hurt(m);
    if (machine_is(m, IS_PENDING))
        machine_answer_all(m, waiter_is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

/* The list shows the job whose verb met "no such job": then that verb was refused, and no other. */
static void machine_is_not_gone(struct machine *m)
{
    set_mark(m, CHECKING_GONE, false);
    for (int verb = 0; verb < SHARED_VERBS; verb++) {
        if (!m->sent[verb].is_checked)
            continue;
        m->sent[verb].is_checked = false;
        answer_refused(m, (enum verb)verb, BJ_E_REFUSED, m->traits.no_such_job_class, NULL);
    }
}

/* It was ready when QEMU was back, and still is: whatever happened to our complete, it had no
 * effect. */
static void machine_complete_was_not_taken(struct machine *m)
{
    set_mark(m, IS_DOUBTED, false);
    if (m->sent[VERB_COMPLETE].state != UNSURE)
        return;
    if (m->traits.replaces)
        machine_answer_all(
            m, waiter_wants_complete, BJ_E_DISCONNECTED, NULL,
            "whether QEMU has taken complete before the connection ended is unknown, and a "
            "second one might end this QEMU: wait for done, or abort it");
    else
        m->sent[VERB_COMPLETE].state = NOT_SENT;
}

static void machine_end_delays(struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++) {
        if (m->sent[verb].delay == THEN_REFUSED)
            answer_refused(m, (enum verb)verb, BJ_E_REFUSED, text_str(m->refusal_class),
                           m->refusal ? text_str(m->refusal) : NULL);
        forget_delay(m, (enum verb)verb);
    }
}

/* Whoever asks when all have left has the verb sent at once. */
static void machine_forget_unwanted(struct machine *m)
{
    if (m->pivots == 0)
        forget_delay(m, VERB_COMPLETE);
    if (m->soft_aborts == 0)
        forget_delay(m, VERB_CANCEL);
    if (m->force_aborts == 0)
        forget_delay(m, VERB_FORCE);
}

/* -------------------------------------------------------------- other verbs */

/* The library's own dismiss. Refused: someone else was faster, or QEMU could not; the list shows
 * which. */
static void dismiss_reply(struct machine *m, const struct verb_reply *reply)
{
    bool accepted = reply->verdict == VERDICT_ACCEPTED;

    m->sent[VERB_DISMISS].state = accepted ? ACCEPTED : NOT_SENT;
    if (accepted ? !m->traits.has_status : reply->verdict == VERDICT_NO_SUCH_JOB)
        machine_release(m);
    else if (!accepted && !machine_is(m, IS_RELEASED))
        m->port->list_jobs(m);
}

static void verb_refused(struct machine *m, struct waiter *waiter, const struct verb_reply *reply)
{
    bool gone = machine_is(m, IS_RELEASED) || m->status == STATUS_NULL ||
                (reply->verdict == VERDICT_NO_SUCH_JOB && machine_is_over(m));

    /* Our own state says more than QEMU's class and text (B39). */
    if (waiter->verb == VERB_DISMISS && gone)
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (waiter->verb != VERB_DISMISS && machine_is_over(m))
        machine_answer(m, waiter, BJ_E_STATE, NULL, "it is over");
    else
        machine_answer(m, waiter, reply->error, reply->error_class, reply->text);
}

static void machine_drop_verbs(struct machine *m)
{
    static const struct verb_reply unknown = {
        .error = BJ_E_DISCONNECTED,
        .text = "the connection ended before QEMU answered: it may have been done, or not",
    };
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (waiter_is_verb(m, w))
            verb_refused(m, w, &unknown);
    }
}

/* Unless someone has resumed it again before the reply. */
static void pause_accepted(struct machine *m)
{
    if (m->pause.pausing)
        machine_stall(m, STALL_PAUSED, machine_paused_text);
    m->pause.pausing = false;
}

/* No event need follow: it may not have come to a standstill yet. A stop that came since may have
 * been before it or after it: the next event decides, or else QEMU's list. */
static void resume_accepted(struct machine *m)
{
    if (m->pause.resuming)
        machine_unstall(m);
    else if (machine_is_stalled(m) && !m->traits.has_status)
        m->port->list_jobs(m);
}

static void verb_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                       const struct verb_reply *reply)
{
    bool accepted = reply->verdict == VERDICT_ACCEPTED;

    if (verb == VERB_PAUSE && accepted)
        pause_accepted(m);
    if (verb == VERB_RESUME && accepted)
        resume_accepted(m);

    if (!waiter)
        return;
    if (!accepted)
        verb_refused(m, waiter, reply);
    else if (verb != VERB_FINALIZE || machine_is_over(m))
        machine_answer(m, waiter, BJ_OK, NULL, NULL); /* finalize is answered with the outcome */
}

/* ------------------------------------------------------------------ replies */

static void machine_reply(struct machine *m, enum verb verb, struct waiter *waiter,
                   const struct verb_reply *reply)
{
    if (!reply->for_all)
        verb_reply(m, verb, waiter, reply);
    else if (verb == VERB_DISMISS)
        dismiss_reply(m, reply);
    else if (reply->verdict == VERDICT_ACCEPTED)
        shared_accepted(m, verb);
    else
        shared_refused(m, verb, reply);

    machine_settle(m); /* an end may have waited for this reply */
}

static void machine_raw_sent(struct machine *m, enum verb verb)
{
    if (verb < SHARED_VERBS)
        m->sent[verb].raw++;
    machine_note_verb(m, verb);
}

static void machine_raw_reply(struct machine *m, enum verb verb, bool accepted)
{
    if (verb < SHARED_VERBS)
        m->sent[verb].raw -= m->sent[verb].raw > 0;
    if (accepted && verb < SHARED_VERBS)
        shared_accepted(m, verb);
    else if (accepted)
        verb_reply(m, verb, NULL, &(struct verb_reply){.verdict = VERDICT_ACCEPTED});
    machine_settle(m);
}

/* ------------------------------------------------------- cuts and late lists */

/* The connection ended: the replies that are out will not come. */
static void machine_forget_replies(struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++) {
        struct sent *sent = &m->sent[verb];
        if (sent->state == IN_FLIGHT || (sent->state == NOT_SENT && sent->raw > 0))
            sent->state = UNSURE;
        sent->raw = 0;
        sent->refused &= !sent->is_checked; /* nobody was told so */
        sent->is_checked = false;
        forget_delay(m, (enum verb)verb);
    }
    m->sent[VERB_COMPLETE].was_unsure |= m->sent[VERB_COMPLETE].state == UNSURE;
    m->sent[VERB_DISMISS].state = NOT_SENT;
    m->sent[VERB_DISMISS].times = 0;
    m->pause.resuming = m->pause.pausing = false;
}

/* QEMU answers in order: once it has answered a list that was asked for later, a reply that has not
 * come will not come. */
static void machine_drop_replies(struct machine *m)
{
    for (int verb = 0; verb < SHARED_VERBS; verb++)
        if (m->sent[verb].state == IN_FLIGHT)
            m->sent[verb].state = NOT_SENT;
}

/* The list that was asked for says more than the reply that is lost. A cancel is sent again, where
 * that does no harm; complete only when it was given time to show. */
static void machine_doubt_cancels(struct machine *m)
{
    if (m->traits.no_repeats)
        return;
    for (int verb = VERB_CANCEL; verb <= VERB_FORCE; verb++)
        if (m->sent[verb].state == UNSURE)
            m->sent[verb].state = NOT_SENT;
}
#undef COMPLETES_MAX
#undef DISMISSES_MAX
/* ---- core/src/model/memory.c ---- */

/* ------------------------------------------------------------------- identity */

static bool differ(const char *one, const char *other)
{
    return *one && *other && strcmp(one, other) != 0;
}

/* Whoever passes QEMU its socket may live longer than QEMU; but the next QEMU mostly has another
 * socket of the same name. A QEMU may have several sockets. */
static bool is_made_anew(const char *then, const char *now)
{
    const char *path = strchr(then, '@'), *path_now = strchr(now, '@');
    return path && path_now && strcmp(path, path_now) == 0 && differ(then, now);
}

/* A process alone proves nothing: another boot has the same numbers. */
static enum same_peer identity_compare(const struct identity *then, const struct identity *now)
{
    bool is_known = *then->process && *now->process && *then->boot && *now->boot;

    if (differ(then->boot, now->boot))
        return PEER_REBOOTED;
    if (differ(then->process, now->process) || differ(then->version, now->version) ||
        is_made_anew(then->socket, now->socket))
        return PEER_OTHER;
    return is_known ? PEER_SAME : PEER_UNKNOWN;
}

/* ---------------------------------------------------------------------- rules */

/* A success has to be proved: that the job is gone proves none, nor that it had accepted a verb,
 * as it may have failed after that. */
static const struct memory_rule memory_rules[] = {
    {IS_REBOOTED, RUN_IS_LOST, "the host was booted while the program was away"},
    {IS_OTHER_PEER, RUN_IS_LOST, "QEMU ended while the program was away: this is another one"},

    {IS_LISTED | BEGAN_LATER, RUN_IS_LOST, "its id was given to another job"},
    {IS_LISTED | BEGAN_BEFORE, RUN_GOES_ON, NULL},
    {IS_LISTED | IS_OTHER_TYPE, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job of another type"},
    {IS_LISTED | IS_EARLIER, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job whose work is not done"},
    {IS_LISTED | IS_UNREADY, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job that is not ready"},
    {IS_LISTED | HAS_DONE_LESS, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job that has done less"},
    {IS_LISTED | IS_OTHER_SIZE, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job of another size"},
    {IS_LISTED | HAS_UNIQUE_ID, RUN_GOES_ON, NULL},
    {IS_LISTED | IS_UNKNOWN_PEER | FITS, RUN_FITS, NULL},
    {IS_LISTED | IS_UNKNOWN_PEER, RUN_IS_LOST,
     "whether this is the same QEMU as before can't be known, nor whether it is the same job"},
    {IS_LISTED, RUN_GOES_ON, NULL},

    {IS_UNKNOWN_PEER, RUN_IS_LOST,
     "it is gone, and whether this is the same QEMU as before can't be known"},
    {HAS_SWITCHED, RUN_PIVOTED, NULL},
    {WAS_CANCELLED, RUN_CANCELLED, NULL},
    {HAS_NOT_SWITCHED, RUN_IS_LOST,
     "it ended while the program was away, and has not switched the disk"},
    {WAS_LOOKED_AT, RUN_IS_LOST,
     "it ended while the program was away, and whether it has switched the disk is unknown"},
    {MAY_SWITCH, COMPARE_NOW, NULL},
    {0, RUN_IS_LOST, "it ended while the program was away, and QEMU keeps no trace of how"},
};
static const size_t memory_rule_count = sizeof memory_rules / sizeof *memory_rules;

static const struct memory_rule *memory_rule(unsigned conditions)
{
    const struct memory_rule *rule = memory_rules;
    while ((rule->when & conditions) != rule->when)
        rule++;
    return rule;
}

/* ----------------------------------------------------------------- conditions */

static unsigned if_so(bool so, enum memory_condition condition)
{
    return so ? condition : 0;
}

static unsigned of_peer(const struct memory *memory)
{
    return if_so(memory->peer == PEER_REBOOTED, IS_REBOOTED) |
           if_so(memory->peer == PEER_OTHER, IS_OTHER_PEER) |
           if_so(memory->peer == PEER_UNKNOWN, IS_UNKNOWN_PEER) |
           if_so(memory->facts & MEMORY_UNIQUE, HAS_UNIQUE_ID);
}

/* A guest that writes makes a mirror's total grow, and the active commit is one. A backup that
 * looks for what is allocated, before it copies, makes its total smaller. */
static bool is_other_size(const struct memory *memory, const char *type, int64_t total)
{
    bool grows = !*type || strcmp(type, "mirror") == 0 || strcmp(type, "commit") == 0;
    bool shrinks = memory->current <= 0;

    if (memory->total <= 0 || total <= 0)
        return false;
    return (total < memory->total && !shrinks) || (total > memory->total && !grows);
}

static bool fits(const struct memory *memory, const char *type, const struct row *row)
{
    return *memory->type && *type && memory->total > 0 && row->total > 0 && memory->current >= 0 &&
           row->current >= 0;
}

static const struct memory_rule *memory_judge_row(const struct memory *memory, const char *type,
                                           const struct row *row)
{
    bool at_work = status_has_any(row->status, AT_WORK);
    bool is_ready = row->ready || status_has_any(row->status, SHOWS_READY);
    /* One that is over need not say any more that it was ready. */
    bool unready = !is_ready && (at_work || row->status == STATUS_NONE);
    bool had_worked = memory->facts & (MEMORY_DONE | MEMORY_ABORTING);

    return memory_rule(IS_LISTED | of_peer(memory) |
                       if_so(differ(memory->type, type), IS_OTHER_TYPE) |
                       if_so(memory->known == KNOWN_SINCE_LATER, BEGAN_LATER) |
                       if_so(memory->known == KNOWN_SINCE_EARLIER, BEGAN_BEFORE) |
                       if_so(had_worked && at_work, IS_EARLIER) |
                       if_so((memory->facts & MEMORY_READY) && unready, IS_UNREADY) |
                       if_so(row->current >= 0 && row->current < memory->current, HAS_DONE_LESS) |
                       if_so(is_other_size(memory, type, row->total), IS_OTHER_SIZE) |
                       if_so(fits(memory, type, row), FITS));
}

static unsigned of_absence(const struct memory *memory)
{
    bool was_taken = memory->facts & (MEMORY_CANCEL_TAKEN | MEMORY_FORCE_TAKEN);
    return of_peer(memory) | if_so((memory->facts & MEMORY_ABORTING) && was_taken, WAS_CANCELLED);
}

static const struct memory_rule *memory_judge_absence(const struct memory *memory, bool may_switch)
{
    return memory_rule(of_absence(memory) | if_so(may_switch, MAY_SWITCH));
}

static const struct memory_rule *memory_judge_graph(const struct memory *memory, enum disk_switch seen)
{
    return memory_rule(of_absence(memory) | WAS_LOOKED_AT | if_so(seen == SWITCHED, HAS_SWITCHED) |
                       if_so(seen == NOT_SWITCHED, HAS_NOT_SWITCHED));
}
/* ---- core/src/model/progress.c ---- */

/*
 * Whether a job makes progress; see progress.h.
 */

/* A job copies so much at once, if need be, and pays for it by a pause afterwards: QEMU's largest
 * buffer of a mirror. */
#define PIECE_BYTES (INT64_C(16) << 20)

/* What is known for sure comes first, then what follows from that nothing moves, from the surest
 * reason to the likeliest. */
static const struct notice_rule notice_rules[] = {
    {NOTICE_UNANSWERED, FOUND_DEAF},
    {NOTICE_NO_SPACE, SEEN_STOPPED | SEEN_NO_SPACE},
    {NOTICE_STOPPED, SEEN_STOPPED},
    {NOTICE_PAUSED, SEEN_PAUSED | FOUND_STILL},
    {NOTICE_NONE, SEEN_PAUSED},
    {NOTICE_PENDING, SEEN_PENDING | FOUND_STILL},
    {NOTICE_NONE, SEEN_PENDING},
    {NOTICE_WAITING, SEEN_WAITING | FOUND_STILL},
    {NOTICE_NONE, SEEN_WAITING},
    {NOTICE_ERRORS, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS | FOUND_ERRORS},
    {NOTICE_ENDING, FOUND_STILL | SEEN_ENDING},
    {NOTICE_SPEED, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS | FOUND_SLOW},
    {NOTICE_SILENT, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS},
    {NOTICE_GUEST, FOUND_AS_MUCH | SEEN_CONVERGING},
    {NOTICE_NONE, 0},
};
static const size_t notice_rule_count = sizeof notice_rules / sizeof notice_rules[0];

static enum notice progress_notice(unsigned conditions)
{
    const struct notice_rule *rule = notice_rules;
    while ((rule->when & conditions) != rule->when)
        rule++;
    return rule->notice;
}

static void progress_begin(struct progress *p, unsigned state, int64_t now_ms)
{
    if (p->has_begun)
        return;
    *p = (struct progress){
        .has_begun = true,
        .seen_ms = now_ms,
        .moved_ms = now_ms,
        .shrunk_ms = now_ms,
        .left = -1,
        .least_left = -1,
        .state = state,
    };
}

/* A mirror that is ready and equal has nothing to copy. */
static bool has_nothing_to_do(const struct sample *sample, int64_t left)
{
    return left == 0 && (sample->state & SEEN_READY) && !(sample->state & SEEN_ENDING);
}

static void progress_see(struct progress *p, const struct sample *sample, int64_t now_ms)
{
    progress_begin(p, sample->state, now_ms);
    bool is_known = sample->current >= 0 && sample->total >= sample->current;
    int64_t left = is_known ? sample->total - sample->current : -1;
    bool changed = sample->state != p->state;

    if (changed || sample->current != p->current || has_nothing_to_do(sample, left)) {
        p->moved_ms = now_ms;
        p->read_errors = p->write_errors = 0;
    }
    if (changed || left < 0 || p->least_left < 0 || left < p->least_left) {
        p->shrunk_ms = now_ms;
        p->least_left = left;
    }
    p->seen_ms = now_ms;
    p->current = sample->current;
    p->left = left;
    p->speed = sample->speed;
    p->state = sample->state;
}

static void progress_io_error(struct progress *p, bool writing)
{
    p->write_errors += writing;
    p->read_errors += !writing;
}

static int64_t progress_still_ms(const struct progress *p)
{
    return p->seen_ms - p->moved_ms;
}

static int64_t progress_as_much_ms(const struct progress *p)
{
    return p->seen_ms - p->shrunk_ms;
}

static bool is_slow(const struct progress *p)
{
    int64_t still_ms = progress_still_ms(p);
    return p->speed > 0 && still_ms > 0 && p->speed < PIECE_BYTES * 1000 / still_ms;
}

static unsigned progress_found(const struct progress *p, int64_t limit_ms)
{
    return (progress_still_ms(p) >= limit_ms ? FOUND_STILL : 0) |
           (progress_as_much_ms(p) >= limit_ms ? FOUND_AS_MUCH : 0) |
           (p->left >= 0 ? FOUND_NUMBERS : 0) |
           (p->read_errors || p->write_errors ? FOUND_ERRORS : 0) | (is_slow(p) ? FOUND_SLOW : 0);
}
#undef PIECE_BYTES
/* ---- core/src/model/switch.c ---- */

/* ---- core/src/model/switch.h ---- */

/*
 * Was the disk switched? QEMU's events of a pivot and of a soft cancel are the same, so where
 * another client gave the verb the block graph is compared with what it was (B15).
 *
 * While a mirror or an active commit is at work, a filter sits above its source, and whoever used
 * the source uses the filter:
 *
 *        before                at work                   pivoted          soft cancel
 *
 *     user                  user                      user             user
 *       |                     |                         |                |
 *       |                   filter ---- job           target           source    target
 *       |                     |          :
 *     source   target       source    target          source
 *
 * A mirror with `replaces` switches a node below its source instead: the users stay where they are,
 * and what led to that node leads to the target.
 *
 * Where nobody uses the source, source and target look the same afterwards, whatever was done. Only
 * a QEMU before 6.1 shows it, as its filter lives as long as the job.
 */

/* ---------------------------------------------------------------- the graph */

/* One edge, by what is the same in every query. */
struct switch_place {
    enum graph_kind kind;
    const char *parent;
    const char *edge;
};

/* That is more than a disk has: the nearest are taken, and fewer where names are long. */
#define SWITCH_PLACES_MAX 16

/* What the graph showed while the job was at work. All names are the graph's, until whoever keeps
 * this replaces them with copies. */
struct switch_before {
    bool has_target; /* else it is an intermediate commit, and nothing else here is set */
    const char *source, *target;
    bool is_used; /* by someone who can be found again, or counted */
    size_t above_count, below_count;
    struct switch_place above[SWITCH_PLACES_MAX]; /* they lead to the source */
    struct switch_place below[SWITCH_PLACES_MAX]; /* the source leads to them: `replaces` */
    /* Exports have no names and can only be counted. Those of the job itself are left out. */
    size_t exports, source_exports, target_exports;
};

/* False: the graph does not show what the job does. */
static bool switch_record(const struct block_graph *graph, const char *job, struct switch_before *ret);

static enum disk_switch switch_compare(const struct switch_before *before,
                                const struct block_graph *after);

/* --------------------------------------------------------------- the device */

/* A QEMU before 4.0 does not show its graph, but what each device has in it: a job whose device is
 * known has switched it when it is another image than before. "" for what is not known. */
struct switch_device {
    const char *name, *qdev;
    const char *node, *driver, *file; /* of the image in it */
};

static bool switch_is_same_device(const struct switch_device *before, const struct switch_device *now);

/* `is_covered`: the old image lies under the new one, as another client has made a snapshot right
 * after the job. */
static enum disk_switch switch_compare_device(const struct switch_device *before,
                                       const struct switch_device *now, bool is_covered);

/* From a user down to the source or the target: filters and snapshots of other clients. */
#define DEPTH_MAX 64
/* QEMU's own names have 31 bytes, a guest's device has a path. */
#define NAME_MAX_BYTES 1024
/* With so many bytes of names no more places are taken: each of thousands of jobs keeps them. */
#define PLACES_MAX_BYTES 2048

/* ----------------------------------------------------------------- recording */

static bool is_nameless_backend(const struct graph_vertex *vertex)
{
    return vertex->kind == GRAPH_BACKEND && !*vertex->name;
}

/* A user without a name, or another job, can't be found again. */
static bool can_be_found_again(const struct graph_edge *edge)
{
    return *edge->parent->name && edge->parent->kind != GRAPH_JOB &&
           strlen(edge->parent->name) <= NAME_MAX_BYTES && strlen(edge->name) <= NAME_MAX_BYTES;
}

/* QEMU gives such names to filters, which come and go with their jobs. */
static bool is_implicit(const struct graph_vertex *vertex)
{
    return *vertex->name == '#';
}

/* Places above the source, or below it. */
struct places {
    struct switch_place *list;
    size_t *count;
    size_t bytes;
};

static bool is_full(const struct places *places)
{
    return *places->count == SWITCH_PLACES_MAX || places->bytes > PLACES_MAX_BYTES;
}

static void add_place(struct places *places, const struct graph_edge *edge)
{
    places->list[(*places->count)++] = (struct switch_place){
        .kind = edge->parent->kind, .parent = edge->parent->name, .edge = edge->name};
    places->bytes += strlen(edge->parent->name) + strlen(edge->name);
}

/* The source's parents, and theirs: the nearest first, of which one is the job's own filter. */
static void record_above(struct switch_before *ret, const struct block_graph *graph,
                         const struct graph_vertex *source, const struct graph_vertex *filter)
{
    const struct graph_vertex *queue[SWITCH_PLACES_MAX + 1] = {source};
    struct places above = {.list = ret->above, .count = &ret->above_count};

    for (size_t done = 0; done <= ret->above_count && queue[done]; done++) {
        struct graph_edges edges = graph_above(graph, queue[done]);
        for (size_t i = 0; i < edges.count && !is_full(&above); i++) {
            const struct graph_edge *edge = &edges.first[i];
            if (!can_be_found_again(edge))
                continue;
            if (edge->parent != filter && !is_implicit(edge->parent))
                ret->is_used = true;
            add_place(&above, edge);
            queue[ret->above_count] = edge->parent;
        }
    }
}

/* A job replaces nodes of filters and of a quorum, never one in a backing chain. */
static void record_below(struct switch_before *ret, const struct block_graph *graph,
                         const struct graph_vertex *source)
{
    const struct graph_vertex *queue[SWITCH_PLACES_MAX + 1] = {source};
    struct places below = {.list = ret->below, .count = &ret->below_count};

    for (size_t done = 0; done <= ret->below_count && queue[done]; done++) {
        struct graph_edges edges = graph_below(graph, queue[done]);
        for (size_t i = 0; i < edges.count && !is_full(&below); i++) {
            const struct graph_edge *edge = &edges.first[i];
            if (!can_be_found_again(edge) || strcmp(edge->name, "backing") == 0)
                continue;
            add_place(&below, edge);
            queue[ret->below_count] = edge->child;
        }
    }
}

static size_t count_exports(const struct block_graph *graph, const char *node)
{
    const struct graph_vertex *vertex = graph_find(graph, GRAPH_NODE, node);
    struct graph_edges edges = vertex ? graph_above(graph, vertex) : (struct graph_edges){0};
    size_t count = 0;
    for (size_t i = 0; i < edges.count; i++)
        count += is_nameless_backend(edges.first[i].parent);
    return count;
}

/* A job has a backend without a name above its target; before 6.1 also one above its filter, which
 * takes the permissions that the job's own edge takes since. */
static void record_exports(struct switch_before *ret, const struct block_graph *graph,
                           const struct graph_edge *filter)
{
    size_t on_filter = count_exports(graph, filter->child->name);
    size_t on_target = count_exports(graph, ret->target);
    size_t own = filter->takes_permission ? 0 : 1;

    ret->exports = on_filter > own ? on_filter - own : 0;
    ret->source_exports = count_exports(graph, ret->source);
    ret->target_exports = on_target > 0 ? on_target - 1 : 0;
    ret->is_used = ret->is_used || ret->exports > 0;
}

static bool switch_record(const struct block_graph *graph, const char *job, struct switch_before *ret)
{
    const struct graph_vertex *vertex = graph_find(graph, GRAPH_JOB, job);
    if (!vertex)
        return false;
    const struct graph_edge *filter = graph_edge_below(graph, vertex, "main node");
    const struct graph_vertex *source = graph_child(graph, vertex, "source");
    const struct graph_vertex *target = graph_child(graph, vertex, "target");

    *ret = (struct switch_before){.has_target = target != NULL};
    if (!target)
        return graph_child(graph, vertex, "base") != NULL;
    if (!filter || !source || strlen(source->name) > NAME_MAX_BYTES ||
        strlen(target->name) > NAME_MAX_BYTES)
        return false;
    ret->source = source->name;
    ret->target = target->name;
    record_above(ret, graph, source, filter->child);
    record_below(ret, graph, source);
    record_exports(ret, graph, filter);
    return true;
}

/* ----------------------------------------------------------------- comparing */

static const struct graph_vertex *child_of(const struct block_graph *graph,
                                           const struct switch_place *place)
{
    const struct graph_vertex *parent = graph_find(graph, place->kind, place->parent);
    return parent ? graph_child(graph, parent, place->edge) : NULL;
}

static bool is_node(const struct graph_vertex *vertex, const char *name)
{
    return vertex->kind == GRAPH_NODE && strcmp(vertex->name, name) == 0;
}

/* Which of the two comes first below a user: another job's filter, or a snapshot, may have come
 * between. */
static enum disk_switch find_first(const struct switch_before *before,
                                   const struct block_graph *after,
                                   const struct graph_vertex *vertex)
{
    for (int depth = 0; vertex && depth < DEPTH_MAX; depth++) {
        if (is_node(vertex, before->target))
            return SWITCHED;
        if (is_node(vertex, before->source))
            return NOT_SWITCHED;
        const struct graph_vertex *backing = graph_child(after, vertex, "backing");
        vertex = backing ? backing : graph_child(after, vertex, "file");
    }
    return SWITCH_UNKNOWN;
}

/* SWITCH_UNCLEAR: they disagree, so something else has happened as well. */
static enum disk_switch compare_above(const struct switch_before *before,
                                      const struct block_graph *after)
{
    enum disk_switch result = SWITCH_UNKNOWN;

    for (size_t i = 0; i < before->above_count; i++) {
        enum disk_switch found = find_first(before, after, child_of(after, &before->above[i]));
        if (found == SWITCH_UNKNOWN)
            continue;
        if (result != SWITCH_UNKNOWN && result != found)
            return SWITCH_UNCLEAR;
        result = found;
    }
    return result;
}

static bool is_replaced_below(const struct switch_before *before, const struct block_graph *after)
{
    for (size_t i = 0; i < before->below_count; i++) {
        const struct graph_vertex *child = child_of(after, &before->below[i]);
        if (child && is_node(child, before->target))
            return true;
    }
    return false;
}

static bool model_switch__has_job(const struct block_graph *graph, const char *node)
{
    const struct graph_vertex *vertex = graph_find(graph, GRAPH_NODE, node);
    struct graph_edges edges = vertex ? graph_above(graph, vertex) : (struct graph_edges){0};
    for (size_t i = 0; i < edges.count; i++)
        if (edges.first[i].parent->kind == GRAPH_JOB)
            return true;
    return false;
}

/* Those that were above the filter are above the target, or above the source again. Exports that
 * were above neither before come and go with other clients: only where the filter had some can they
 * show anything. A job that was started meanwhile has some of its own. */
static enum disk_switch compare_exports(const struct switch_before *before,
                                        const struct block_graph *after)
{
    bool came_to_source = count_exports(after, before->source) > before->source_exports;
    bool came_to_target = count_exports(after, before->target) > before->target_exports;

    if (before->exports == 0 || came_to_source == came_to_target ||
        model_switch__has_job(after, before->source) || model_switch__has_job(after, before->target))
        return SWITCH_UNKNOWN;
    return came_to_target ? SWITCHED : NOT_SWITCHED;
}

static enum disk_switch switch_compare(const struct switch_before *before, const struct block_graph *after)
{
    if (!before->has_target)
        return SWITCHES_NOTHING;
    if (is_replaced_below(before, after))
        return SWITCHED;
    enum disk_switch result = compare_above(before, after);
    if (result == SWITCH_UNKNOWN)
        result = compare_exports(before, after);
    bool shows_something = after->vertex_count > 0;
    return result == SWITCH_UNKNOWN && before->is_used && shows_something ? SWITCH_UNCLEAR : result;
}

/* ---------------------------------------------------------------- the device */

static bool switch_is_same_device(const struct switch_device *before, const struct switch_device *now)
{
    if (*before->name)
        return strcmp(now->name, before->name) == 0;
    return *before->qdev && strcmp(now->qdev, before->qdev) == 0;
}

/* The name identifies the image: null-co:// and the like are all called the same. */
static bool names_image(const char *file)
{
    return *file && strncmp(file, "null-", 5) != 0;
}

/* A node that has a name, and is no filter which comes and goes with a job. Unnamed ones have had
 * one from QEMU since 2.5. */
static bool has_stable_node(const struct switch_device *device)
{
    return *device->node && strcmp(device->driver, "mirror_top") != 0;
}

static enum disk_switch switch_compare_device(const struct switch_device *before,
                                       const struct switch_device *now, bool is_covered)
{
    bool nodes_are_known = has_stable_node(before) && has_stable_node(now);
    bool files_are_known = names_image(before->file) && names_image(now->file);
    bool node_differs = nodes_are_known && strcmp(before->node, now->node) != 0;
    bool file_differs = files_are_known && strcmp(before->file, now->file) != 0;

    if (file_differs && is_covered)
        return SWITCH_UNKNOWN;
    if (file_differs || node_differs)
        return SWITCHED;
    return files_are_known || nodes_are_known ? NOT_SWITCHED : SWITCH_UNKNOWN;
}
#undef DEPTH_MAX
#undef NAME_MAX_BYTES
#undef PLACES_MAX_BYTES
/* ---- core/src/model/tables.c ---- */

#define COUNT(array) (sizeof(array) / sizeof *(array))

#ifdef COUNT_ROWS
static unsigned long rows_reached[TABLE_COUNT][ROWS_MAX];
#endif

/* ----------------------------------------------------------------- statuses */

static const struct {
    const char *name;
    unsigned traits;
} statuses[STATUS_COUNT] = {
    [STATUS_NONE] = {"", 0},
    [STATUS_CREATED] = {"created", AT_WORK},
    [STATUS_RUNNING] = {"running", AT_WORK | MOVES},
    [STATUS_PAUSED] = {"paused", AT_WORK | STILL},
    [STATUS_READY] = {"ready", AT_WORK | MOVES | SHOWS_READY},
    [STATUS_STANDBY] = {"standby", AT_WORK | STILL | SHOWS_READY},
    [STATUS_WAITING] = {"waiting", MOVES | DONE},
    [STATUS_PENDING] = {"pending", MOVES | DONE},
    [STATUS_ABORTING] = {"aborting", CLOSED},
    [STATUS_CONCLUDED] = {"concluded", CLOSED},
    [STATUS_NULL] = {"null", CLOSED},
};

static const char *job_status_name(enum status status)
{
    return statuses[status].name;
}

static enum status job_status_of(const char *name)
{
    for (int s = STATUS_CREATED; s <= STATUS_NULL; s++)
        if (strcmp(name, statuses[s].name) == 0)
            return (enum status)s;
    return STATUS_NONE;
}

static bool status_has_any(enum status status, unsigned traits)
{
    return (statuses[status].traits & traits) != 0;
}

static enum taking verb_taking(enum verb verb, enum status status)
{
    static const enum taking table[][STATUS_COUNT] = {
        /* none, created, running, paused, ready, standby, waiting, pending, aborting, concluded,
         * null */
        [VERB_COMPLETE] = {NOW, NOW, NOW, LATER, NOW, LATER, NEVER, NEVER, NEVER, NEVER, NEVER},
        [VERB_CANCEL] = {NOW, NOW, NOW, NOW, NOW, NOW, NOW, NOW, NEVER, NEVER, NEVER},
        [VERB_FORCE] = {NOW, NOW, NOW, NOW, NOW, NOW, NOW, NOW, NEVER, NEVER, NEVER},
    };
    REACHED(VERB_TABLE, verb * STATUS_COUNT + status);
    return table[verb][status];
}

/* --------------------------------------------------------------------- ends */

/* A mirror or an active commit may have switched the disk or not: COMPLETED alone does not say
 * (B14). Where it was not our complete it may have been another client's, even if QEMU accepted our
 * cancel after it: then the block graph decides (B15).
 *
 * Where nobody uses the disk the graph shows nothing, and our accepted soft cancel is believed.
 * That another client's complete came just before it can't be excluded, but to say so would spoil
 * each backup of an unused disk. */
static const struct outcome_rule outcome_rules[] = {
    {END_FAILED, 0, .outcome = BJ_OUTCOME_FAILED},
    {END_CANCELLED, 0, .outcome = BJ_OUTCOME_CANCELLED},
    {END_COMPLETED, NEVER_SWITCHES, .outcome = BJ_OUTCOME_COMPLETED},
    /* also after a late force on 5.2 (B17) */
    {END_COMPLETED, COMPLETE_TAKEN, .outcome = BJ_OUTCOME_PIVOTED},
    {END_COMPLETED, SAW_SWITCH, .outcome = BJ_OUTCOME_PIVOTED},
    {END_COMPLETED, SAW_NO_SWITCH, .outcome = BJ_OUTCOME_COPIED},
    {END_COMPLETED, SAW_NO_TARGET, .outcome = BJ_OUTCOME_COMPLETED},
    {END_COMPLETED, SAW_NEITHER, .outcome = BJ_OUTCOME_COMPLETED, .unknown = true},
    {END_COMPLETED, CANNOT_COMPARE | ONLY_ABORT_SENT, .outcome = BJ_OUTCOME_COPIED},
    {END_COMPLETED, CANNOT_COMPARE, .outcome = BJ_OUTCOME_COMPLETED, .unknown = true},
    {END_COMPLETED, REPLY_OUT, .then = WAIT_FOR_REPLY}, /* it says which verb it was (B02) */
    {END_COMPLETED, IS_AWAY, .then = WAIT_FOR_REPLY},
    {END_COMPLETED, COMPARING, .then = WAIT_FOR_REPLY},
    {END_COMPLETED, 0, .then = COMPARE_GRAPH},
};
static const size_t outcome_rule_count = COUNT(outcome_rules);

static const struct outcome_rule *outcome_rule(enum end end, unsigned conditions)
{
    const struct outcome_rule *rule = outcome_rules;
    while (rule->end != end || (rule->when & conditions) != rule->when)
        rule++;
    REACHED(OUTCOME_TABLE, rule - outcome_rules);
    return rule;
}

/* Without a terminal event the statuses on the way decide. A job that completes or fails has an
 * event in every QEMU, and it comes before the first list without the job: where a QEMU reports no
 * cancellation, what is gone without an event was cancelled (B57). */
static const struct vanishing_rule vanishing_rules[] = {
    {VANISHED_NULL, HAS_GAP, END_NONE, "it vanished, and its end was not seen"},
    {VANISHED_NULL, WAS_ABORTING | ABORT_TAKEN, END_CANCELLED, NULL},
    {VANISHED_NULL, WAS_ABORTING, END_FAILED, "it was aborted, and QEMU gave no reason"},
    {VANISHED_NULL, WAS_DONE, END_COMPLETED, NULL},
    {VANISHED_NULL, ABORT_TAKEN, END_CANCELLED, NULL},
    {VANISHED_NULL, 0, END_NONE, "it vanished, and its end was not seen"},
    {VANISHED_UNLISTED, NO_CANCEL_EVENT, END_CANCELLED, NULL},
    {VANISHED_UNLISTED, 0, END_NONE, "it is gone, and its end was not seen"}, /* B10 */
    {VANISHED_AWAY, 0, END_NONE,
     "it vanished while there was no connection to QEMU, and its end was not seen"},
};
static const size_t vanishing_rule_count = COUNT(vanishing_rules);

static const struct vanishing_rule *vanishing_rule(enum vanishing how, unsigned conditions)
{
    const struct vanishing_rule *rule = vanishing_rules;
    while (rule->how != how || (rule->when & conditions) != rule->when)
        rule++;
    REACHED(VANISHING_TABLE, rule - vanishing_rules);
    return rule;
}

/* ---------------------------------------------------------------- questions */

static int answer_when_over(enum question question, bj_outcome outcome)
{
    enum { OK = BJ_OK, ENDED = BJ_E_JOB_ENDED, FAILED = BJ_E_JOB_FAILED, LOST = BJ_E_JOB_LOST };
    static const int table[QUESTION_COUNT][BJ_OUTCOME_LOST] = {
        /* COMPLETED, PIVOTED, COPIED, CANCELLED, FAILED, LOST */
        /* Unless READY was seen. What has pivoted was ready, seen or not; what is COPIED need not
         * have been: QEMU 1.7 completes an empty mirror without READY. */
        [ASK_READY] = {ENDED, OK, ENDED, ENDED, FAILED, LOST},
        [ASK_DONE] = {OK, OK, OK, OK, FAILED, LOST},
        [ASK_RELEASED] = {OK, OK, OK, OK, FAILED, LOST},
        [ASK_PIVOT] = {ENDED, OK, ENDED, ENDED, FAILED, LOST},
        [ASK_ABORT] = {OK, OK, OK, OK, OK, LOST},
        [ASK_FINISH] = {OK, OK, ENDED, ENDED, FAILED, LOST}, /* COMPLETED: unless IS_UNCLEAR */
        [ASK_VERB] = {OK, OK, OK, OK, FAILED, LOST}, /* finalize, which waits for the outcome */
    };
    unsigned column = outcome - BJ_OUTCOME_COMPLETED;
    REACHED(ANSWER_TABLE, question * BJ_OUTCOME_LOST + column);
    return table[question][column];
}

static int async_flag(enum question question)
{
    static const int flags[QUESTION_COUNT] = {
        [ASK_PIVOT] = BJ_PIVOT_ASYNC,
        [ASK_ABORT] = BJ_ABORT_ASYNC,
    };
    return flags[question];
}

static int released_flag(enum question question)
{
    static const int flags[QUESTION_COUNT] = {
        [ASK_RELEASED] = BJ_DONE_RELEASED,
        [ASK_PIVOT] = BJ_PIVOT_RELEASED,
        [ASK_ABORT] = BJ_ABORT_RELEASED,
        [ASK_FINISH] = BJ_FINISH_RELEASED,
    };
    return flags[question];
}

/* Nobody who paused it will resume it after an I/O error: those who wait for ready or the end must
 * know as well. A job that is stalled neither carries out a pivot nor takes a soft cancel; and
 * pending waits for finalize, where only a soft cancel that is sent then ends the job. */
static enum when_stalled when_stalled(enum question question, enum stall stall)
{
    static const enum when_stalled table[QUESTION_COUNT][STALL_PENDING] = {
        /* paused, stopped by an error, pending */
        [ASK_READY] = {NEVER_STALLED, UNLESS_ABORTED, NEVER_STALLED},
        [ASK_DONE] = {NEVER_STALLED, UNLESS_ABORTED, NEVER_STALLED},
        [ASK_RELEASED] = {NEVER_STALLED, UNLESS_ABORTED, NEVER_STALLED},
        [ASK_PIVOT] = {STALLED, STALLED, STALLED},
        [ASK_ABORT] = {UNLESS_ENDING, UNLESS_ENDING, IF_CANCELLED_BEFORE},
        [ASK_FINISH] = {STALLED, STALLED, STALLED},
        [ASK_VERB] = {NEVER_STALLED, NEVER_STALLED, NEVER_STALLED},
    };
    unsigned column = stall - STALL_PAUSED;
    REACHED(STALL_TABLE, question * STALL_PENDING + column);
    return table[question][column];
}
#undef COUNT
/* ---- core/src/model/tracker.c ---- */

/*
 * Events, replies, and the connection; see tracker.h. The runs are in tracker_runs.c, what is on
 * its way and names an id in tracker_orders.c.
 */
/* ---- core/src/model/tracker_parts.h ---- */

/* What the files of the tracker share; nobody else includes it. */

/* ------------------------------------------------------------ tracker_runs.c */

#define NOTHING_REMEMBERED (~0u) /* of run->remembered: it is to be told anew */

/* How it is known that a run has begun: by an event, by a start that was accepted, or by its row.
 */
enum beginning { HEARD, STARTED, LISTED };

/* A new run has the id, and takes over whatever is about it. NULL: no memory, or more jobs than the
 * limit. `start`: it may be this one's; STARTED: it is. */
static struct run *tracker_begin(struct tracker *t, const char *id, const char *type, struct start *start,
                          enum beginning how);
/* Whoever had the id last, and may have it still; NULL: nobody who is tracked. */
static struct run *tracker_find_last(const struct tracker *t, const char *id);

/* Another run has the id: what has no reply yet never reached the last one. */
static void tracker_supersede(struct tracker *t, const char *id);

/* One more order names it, or one less. */
static struct run *run_take(struct run *run);
static void run_give_back(struct run *run);

/* A reply was lost: there is no connection, which tracker_away() or tracker_over() will confirm. */
static void tracker_note_lost(struct tracker *t);

/* Whatever its id and the connection are. */
static void run_send(struct run *run, enum verb verb, struct waiter *waiter);

/* Into `runs`; as the last that has the id. */
static void run_track(struct run *run);
static void run_enter_tree(struct run *run);
static void run_vacate(struct run *run);   /* it has its id no more */
static void run_announce(struct run *run); /* unless that is too early */

/* To be followed by tracker_settle(). */
static void run_touch(struct run *run);
/* The last act of every entry: what follows from what has happened. */
static void tracker_settle(struct tracker *t);

/* The graph was compared for it, or can't be. */
static void run_compared(struct run *run, enum disk_switch result);

/* Those who observe all jobs are to have it. */
static void run_observe(struct run *run);
static void run_want_snapshot(struct run *run);
static void run_mark_row_wanted(struct run *run);

/* ---------------------------------------------------------- tracker_orders.c */

/* The run's row, its absence or the list's failure, as they are. */
static void run_feed_row(struct run *run, const struct row *row);

static struct start *tracker_find_start(const struct tracker *t, const char *id);
/* A new run has the id, or a new one that can't be followed (NULL): what is on its way and names
 * the id is about it. `start`: it may be its; NULL: it is nobody's. */
static void tracker_hand_on(struct tracker *t, const char *id, struct run *run, struct start *start,
                     enum beginning how);
/* A run that was not known has ended. */
static void tracker_note_ended(struct tracker *t, const char *id);

static void tracker_answer_attachments(struct tracker *t, int error); /* all */
static void run_answer_attachments(struct run *run, int error); /* those that wait for its snapshot */

/* ---------------------------------------------------------- tracker_memory.c */

/* Of a run with a memory: what its row, its absence and the graph say of it. */
static void run_recall_by_row(struct run *run, const char *type, const struct row *row);
static void run_recall_by_absence(struct run *run); /* then its machine may hear of it as well */
static void run_recall_by_graph(struct run *run, enum disk_switch seen);
/* It has ended without these. */
static void run_recall_by_end(struct run *run);
/* This may be of another QEMU's job, and nothing shows whether it is. */
static bool run_doubts_fact(const struct run *run, const struct fact *fact);
static void run_drop_doubtful(struct run *run);
/* Nobody will find out any more: then nothing is reported of it, and the memory stays good. */
static void run_forget_recalled(struct run *run);

static void tracker_init(struct tracker *t, const struct tracker_port *port, size_t limit)
{
    *t = (struct tracker){.port = port, .limit = limit};
}

/* --------------------------------------------------------------------- events */

static bool is_status(const struct fact *fact, enum status status)
{
    return fact->kind == FACT_STATUS && fact->status == status;
}

/* A start that was accepted before anything was reported of it. */
static bool is_its_first(const struct run *run)
{
    return machine_is_fresh(&run->machine) && !machine_is(&run->machine, IS_AWAY);
}

static bool is_of_type(const struct start *start, const char *type)
{
    return !*type || !*start->type || strcmp(start->type, type) == 0;
}

/* The start whose run may begin with this event; NULL: none. Where no event says "created" it can't
 * be told from the last of an earlier run that was not known, unless their types differ. */
static struct start *start_of(const struct tracker *t, const struct fact *fact)
{
    bool begins = is_status(fact, STATUS_CREATED) || !t->reports_created;
    struct start *start = begins ? tracker_find_start(t, fact->id) : NULL;
    return start && is_of_type(start, fact->type) ? start : NULL;
}

/* What has ended is never at work again: another run began where nobody heard it. */
static bool is_anothers(const struct run *run, const struct fact *fact)
{
    return fact->kind == FACT_STATUS && status_has_any(fact->status, AT_WORK) &&
           machine_has_end(&run->machine);
}

/* The run an event is about. A new one begins with "created"; before 3.0, which has no statuses,
 * with whatever comes first when nobody has the id. */
static struct run *run_of(struct tracker *t, const struct fact *fact)
{
    struct run *run = tracker_find(t, fact->id);
    bool created = is_status(fact, STATUS_CREATED);

    if (run && is_anothers(run, fact))
        run = NULL;
    if (run && run_doubts_fact(run, fact)) {
        run_drop_doubtful(run);
        run = NULL;
    }
    if (run && (!created || is_its_first(run)))
        return run;
    if (created)
        tracker_supersede(t, fact->id);
    if (is_status(fact, STATUS_NULL) || fact->earlier) {
        tracker_note_ended(t, fact->id);
        return NULL;
    }
    if (t->link != LINK_UP)
        return NULL; /* nobody will ask for it */
    return tracker_begin(t, fact->id, fact->type, start_of(t, fact), HEARD);
}

static void model_tracker__feed(struct run *run, const struct fact *fact)
{
    struct machine *machine = &run->machine;

    switch (fact->kind) {
    case FACT_STATUS:
        machine_status_event(machine, fact->status);
        break;
    case FACT_READY:
        machine_ready_event(machine);
        break;
    case FACT_COMPLETED:
        machine_completed_event(machine, fact->error);
        break;
    case FACT_CANCELLED:
        machine_cancelled_event(machine);
        break;
    case FACT_STOPPED:
        machine_stopped_event(machine, fact->error);
        break;
    case FACT_PENDING:
        machine_pending_event(machine);
        break;
    case FACT_IO_ERROR:
        break;
    }
}

static void tracker_fact(struct tracker *t, const struct fact *fact)
{
    struct run *run = run_of(t, fact);
    if (run) {
        run->has_type |= *fact->type != '\0';
        t->port->heard(run, fact);
        model_tracker__feed(run, fact);
        run_touch(run);
    }
    tracker_settle(t);
}

/* -------------------------------------------------------------------- replies */

static void tracker_note_lost(struct tracker *t)
{
    if (t->link == LINK_UP)
        t->link = LINK_DOWN;
}

static void tracker_replied(struct run *run, enum verb verb, struct waiter *waiter,
                     const struct verb_reply *reply)
{
    /* One that is lost says nothing; nor does one that is about the next run of the id. */
    if (!reply)
        tracker_note_lost(run->tracker);
    if (reply && !run->is_superseded)
        machine_reply(&run->machine, verb, waiter, reply);
    run_give_back(run);
    tracker_settle(run->tracker);
}

static void tracker_taken_back(struct run *run)
{
    run_give_back(run);
    tracker_settle(run->tracker);
}

static void tracker_snapshot(struct run *run, enum snapshot result)
{
    run->snapshot = run->is_superseded ? SNAPSHOT_VOID : result; /* it may show the next run */
    if (run->snapshot == SNAPSHOT_HELD)
        run->remembered = NOTHING_REMEMBERED;
    if (result == SNAPSHOT_WANTED)
        tracker_note_lost(run->tracker);
    run_give_back(run);
    tracker_settle(run->tracker);
}

static void tracker_compared(struct run *run, enum disk_switch result, bool lost)
{
    run->is_comparing = false;
    if (lost)
        tracker_note_lost(run->tracker);
    if (!lost && run->compares) {
        run->compares = false;
        run_compared(run, result);
    }
    run_give_back(run);
    tracker_settle(run->tracker);
}

/* -------------------------------------------------------------- the connection */

static void lose(struct run *run, int why, const char *text)
{
    run->compares = false;
    machine_lost(&run->machine, why, text);
    run_touch(run);
}

static void lose_all(struct tracker *t, int why, const char *text)
{
    for (struct run *run = t->runs; run; run = run->next)
        lose(run, why, text);
}

/* Whoever holds the socket may be another QEMU than before: it can't know our jobs, and its own are
 * not ours even where the ids are the same (B46). */
static void model_tracker__come_back(struct tracker *t, bool another)
{
    t->is_returning = true;
    t->list_wanted = true;
    t->seeks_all = t->is_observed;
    if (another)
        lose_all(t, BJ_E_JOB_LOST,
                 "the socket belongs to another QEMU now, and its end was not seen");
    for (struct run *run = t->runs; run; run = run->next) {
        run_mark_row_wanted(run);
        run_touch(run);
    }
}

static void tracker_up(struct tracker *t, bool reports_created, enum comeback comeback)
{
    t->link = LINK_UP;
    t->reports_created = reports_created;
    if (comeback != FIRST_TIME)
        model_tracker__come_back(t, comeback == OTHER_QEMU);
    tracker_settle(t);
}

/* One whose id is another's by now waits only for the comparison of the graph, which can still be
 * made when QEMU is back. */
static void disconnect(struct run *run)
{
    if (run->has_id) {
        run->compares = false;
        run->wants_row = run->row_asked = false;
        machine_disconnected(&run->machine);
    } else {
        machine_drop_verbs(&run->machine);
    }
    run_touch(run);
}

static void tracker_away(struct tracker *t)
{
    t->link = LINK_DOWN;
    t->is_returning = t->list_wanted = false;
    tracker_answer_attachments(t, BJ_E_DISCONNECTED);
    for (struct run *run = t->runs; run; run = run->next)
        disconnect(run);
    tracker_settle(t);
}

static void tracker_peer_is_gone(struct tracker *t, const char *text)
{
    lose_all(t, BJ_E_JOB_LOST, text);
    tracker_settle(t);
}

static bool tracker_owes_dismissals(const struct tracker *t)
{
    const struct run *run = t->runs;
    while (run && !machine_owes_dismissal(&run->machine))
        run = run->next;
    return run != NULL;
}

/* Ours that waits for a list is not dismissed: QEMU has refused that, or it may not be there. One
 * that may have concluded while there was no connection is, as the list would come too late. */
static void close_run(struct run *run, const char *text)
{
    if (run->memory) {
        run_forget_recalled(run);
        lose(run, BJ_E_CLOSED, text);
        return;
    }
    const struct machine *machine = &run->machine;
    bool is_away = machine_is(machine, IS_AWAY);
    bool may_have_concluded = is_away && run->has_id && machine_traits(machine)->ours;
    bool is_sought = is_away || run->wants_row || run->row_asked;

    if (machine_owes_dismissal(machine) && !is_sought) {
        machine_abandon(&run->machine, BJ_E_CLOSED, text);
        run_touch(run);
        return;
    }
    lose(run, BJ_E_CLOSED, text);
    if (may_have_concluded) /* QEMU refuses to dismiss what has not */
        run_send(run, VERB_DISMISS, NULL);
}

static void tracker_close(struct tracker *t, const char *text)
{
    t->link = LINK_CLOSING;
    t->is_returning = t->list_wanted = t->seeks_all = false;
    tracker_answer_attachments(t, BJ_E_CLOSED);
    for (struct run *run = t->runs; run; run = run->next)
        close_run(run, text);
    tracker_settle(t);
}

static void tracker_over(struct tracker *t, int error, const char *text)
{
    t->link = LINK_OVER;
    t->is_returning = t->list_wanted = false;
    tracker_answer_attachments(t, error);
    for (struct run *run = t->runs; run; run = run->next)
        if (run->memory)
            run_forget_recalled(run);
    lose_all(t, error, text);
    tracker_settle(t);
}
/* ---- core/src/model/tracker_memory.c ---- */

/*
 * Runs that are remembered from before the program was away: which of them go on, and how the
 * others ended.
 */

static bool tracker_can_recall(const struct tracker *t)
{
    return t->count < t->limit;
}

static void begin_recalled(struct run *run, const struct memory *memory)
{
    run->is_recalled = true;
    run->is_unique = memory->facts & MEMORY_UNIQUE;
    run->has_type = *memory->type != '\0';
    run->memory = memory;
    run->tracker->recalled++;
    machine_recall(&run->machine, memory);
    run_track(run);
    run_touch(run);
}

static void tracker_recall(struct tracker *t, struct run *run, const struct memory *memory)
{
    tracker_supersede(t, run->node.id); /* one that has ended */
    begin_recalled(run, memory);
    run_enter_tree(run);
    run->has_id = true;
    t->count++;
    run_mark_row_wanted(run);
}

static void tracker_recall_lost(struct run *run, const struct memory *memory, const char *why)
{
    begin_recalled(run, memory);
    machine_lost(&run->machine, BJ_E_JOB_LOST, why);
}

static bool tracker_recall_found(struct run *run, const struct memory *memory, const char *type,
                          const struct row *now)
{
    enum memory_verdict verdict = memory_judge_row(memory, type, now)->verdict;

    if (run->is_recalled || verdict == RUN_IS_LOST)
        return false;
    run->is_recalled = true;
    run->is_resumed = !machine_is_over(&run->machine);
    run->is_inferred = verdict == RUN_FITS;
    run->is_unique = memory->facts & MEMORY_UNIQUE;
    machine_adopt(&run->machine, memory);
    run_touch(run);
    return true;
}

/* ------------------------------------------------------------------- deciding */

static void forget_memory(struct run *run)
{
    run->memory = NULL;
    run->tracker->recalled--;
}

/* It is announced before those that wait for it. */
static void announce_recalled(struct run *run)
{
    struct tracker *t = run->tracker;

    run_announce(run);
    run_touch(run);
    if (t->recalled > 0)
        return;
    for (struct run *other = t->runs; other; other = other->next)
        run_touch(other);
}

static void settle_lost(struct run *run, const char *why)
{
    forget_memory(run);
    machine_lost(&run->machine, BJ_E_JOB_LOST, why);
    announce_recalled(run);
}

/* How a job ended that nobody saw end is an inference where the graph shows it. */
static void settle_same(struct run *run, bool is_inferred, const struct row *row)
{
    bool is_concluded = row->status == STATUS_CONCLUDED;

    forget_memory(run);
    run_feed_row(run, row);
    run->is_inferred = is_inferred || (is_concluded && run->compares);
    run->is_resumed = run->has_id && !is_concluded && !machine_is_over(&run->machine);
    announce_recalled(run);
}

static void run_recall_by_row(struct run *run, const char *type, const struct row *row)
{
    const struct memory_rule *rule = memory_judge_row(run->memory, type, row);

    run->row_asked = false;
    if (rule->verdict == RUN_IS_LOST)
        settle_lost(run, rule->text);
    else
        settle_same(run, rule->verdict == RUN_FITS, row);
}

static void settle_gone(struct run *run, const struct memory_rule *rule)
{
    if (rule->verdict == COMPARE_NOW) {
        run_vacate(run);
        run->compares = true;
        return;
    }
    if (rule->verdict == RUN_IS_LOST) {
        settle_lost(run, rule->text);
        return;
    }
    forget_memory(run);
    run->is_inferred = true;
    if (rule->verdict == RUN_PIVOTED)
        machine_pivoted_unseen(&run->machine);
    else
        machine_cancelled_unseen(&run->machine);
    announce_recalled(run);
}

/* Its end came before the list: only the outcome may be missing. */
static void settle_ended(struct run *run)
{
    run->is_inferred = !memory_is_certain(run->memory);
    forget_memory(run);
    machine_reconnected_absent(&run->machine);
    announce_recalled(run);
}

static void run_recall_by_absence(struct run *run)
{
    bool can_compare = machine_may_switch(&run->machine) && run->snapshot == SNAPSHOT_HELD;

    if (machine_has_end(&run->machine))
        settle_ended(run);
    else
        settle_gone(run, memory_judge_absence(run->memory, can_compare));
}

static void run_recall_by_graph(struct run *run, enum disk_switch seen)
{
    settle_gone(run, memory_judge_graph(run->memory, seen));
}

static void run_recall_by_end(struct run *run)
{
    bool is_lost = machine_outcome(&run->machine) == BJ_OUTCOME_LOST;

    run->is_inferred = !is_lost && !memory_is_certain(run->memory);
    forget_memory(run);
    announce_recalled(run);
}

static bool is_terminal(const struct fact *fact)
{
    return fact->kind == FACT_COMPLETED || fact->kind == FACT_CANCELLED ||
           (fact->kind == FACT_STATUS && status_has_any(fact->status, CLOSED));
}

static bool run_doubts_fact(const struct run *run, const struct fact *fact)
{
    return run->memory && run->memory->peer != PEER_SAME && !memory_is_certain(run->memory) &&
           is_terminal(fact);
}

static void run_drop_doubtful(struct run *run)
{
    settle_lost(run, "a job of its id ended before it was known whether it is the same one");
}

static void run_forget_recalled(struct run *run)
{
    forget_memory(run);
    run->announcement = UNOBSERVED;
}
/* ---- core/src/model/tracker_orders.c ---- */

/*
 * What is on its way to QEMU and names an id: starts, raw verbs, attachments. Which run each is
 * about can change while it is on its way.
 */

/* The three lists are alike: a pointer to the next and to the one before. */
#define LINK(list, item)                                                                           \
    do {                                                                                           \
        (item)->prev = NULL;                                                                       \
        (item)->next = (list);                                                                     \
        if (list)                                                                                  \
            (list)->prev = (item);                                                                 \
        (list) = (item);                                                                           \
    } while (0)
#define UNLINK(list, item)                                                                         \
    do {                                                                                           \
        if ((item)->prev)                                                                          \
            (item)->prev->next = (item)->next;                                                     \
        else                                                                                       \
            (list) = (item)->next;                                                                 \
        if ((item)->next)                                                                          \
            (item)->next->prev = (item)->prev;                                                     \
    } while (0)

/* --------------------------------------------------------------------- starts */

/* Of several with one id QEMU accepts the one that was sent first, and what was created before it
 * is accepted was another client's; unless the first had its run when the next was sent: then that
 * run was not the next one's, and this one may be. */
static struct start *tracker_find_start(const struct tracker *t, const char *id)
{
    struct start *first = NULL, *later = NULL;
    for (struct start *s = t->starts; s; s = s->next) {
        if (strcmp(s->id, id) != 0)
            continue;
        first = s;
        later = s->comes_later && !s->run ? s : later;
    }
    return later && first->run ? later : first;
}

/* The run is not its, or it is and that has been noted. */
static void let_go(struct start *start, bool ours)
{
    struct run *run = start->run;

    start->run = NULL;
    if (!run)
        return;
    machine_decide_owner(&run->machine, ours);
    run_give_back(run);
}

static int tracker_start(struct tracker *t, struct start *start)
{
    if (t->count >= t->limit)
        return BJ_E_BUSY;
    const struct start *before = tracker_find_start(t, start->id);
    start->comes_later = before && before->run;
    t->count++; /* its spare */
    start->run = NULL;
    LINK(t->starts, start);
    return BJ_OK;
}

static void give_start(struct tracker *t, struct start *start)
{
    if (!start->run)
        return;
    t->port->own(start->run, start);
    start->run->is_unique = start->is_unique;
    start->run->has_type |= *start->type != '\0';
    run_want_snapshot(start->run);
}

/* The one that was created last is its; where no event says so, or it could not be followed, there
 * is one now. */
static void accept_start(struct tracker *t, struct start *start)
{
    struct run *run = !start->run && t->reports_created ? tracker_find(t, start->id) : NULL;

    if (run)
        start->run = run_take(run); /* "created" could not be followed, what came then could */
    else if (!start->run)
        tracker_begin(t, start->id, "", start, STARTED);
    give_start(t, start);
}

/* QEMU may have carried it out before the connection ended: then the list of the next one shows the
 * job, and it is ours (B40). */
static void doubt_start(struct tracker *t, struct start *start)
{
    bool is_closed = t->link == LINK_CLOSING || t->link == LINK_OVER;

    if (!start->run && !is_closed && !tracker_find(t, start->id))
        tracker_begin(t, start->id, "", start, STARTED);
    give_start(t, start);
}

/* What was created may be that of the next one that is on its way. */
static void refuse_start(struct tracker *t, struct start *start)
{
    struct run *run = start->run;
    struct start *next = run ? tracker_find_start(t, start->id) : NULL;

    if (!next || next == start || next->run)
        return;
    start->run = NULL;
    next->run = run;
}

static void tracker_started(struct tracker *t, struct start *start, enum order_reply reply)
{
    if (reply == ORDER_LOST)
        tracker_note_lost(t);
    if (reply == ORDER_ACCEPTED)
        accept_start(t, start);
    else if (reply == ORDER_LOST)
        doubt_start(t, start);
    else
        refuse_start(t, start);

    UNLINK(t->starts, start);
    t->count -= start->spare != NULL;
    struct run *run = start->run;
    let_go(start, reply != ORDER_REFUSED && start->ours);
    if (reply == ORDER_ACCEPTED && run) {
        t->port->hold(run);
        start->run = run;
    }
    tracker_settle(t);
}

/* ------------------------------------------------------------------ raw verbs */

static void give_raw(struct raw *raw, struct run *run)
{
    raw->run = run_take(run);
    machine_raw_sent(&run->machine, raw->verb);
    run_touch(run);
}

/* `accepted`: QEMU took it for this run. */
static void take_raw_back(struct raw *raw, bool accepted)
{
    struct run *run = raw->run;

    raw->run = NULL;
    if (!run)
        return;
    machine_raw_reply(&run->machine, raw->verb, accepted);
    run_give_back(run);
}

static void tracker_raw(struct tracker *t, struct raw *raw)
{
    struct run *run = tracker_find(t, raw->id);

    LINK(t->raws, raw);
    raw->run = NULL;
    if (run)
        give_raw(raw, run);
    tracker_settle(t);
}

static void tracker_raw_replied(struct tracker *t, struct raw *raw, enum order_reply reply)
{
    struct run *run = raw->run;

    UNLINK(t->raws, raw);
    if (reply == ORDER_LOST)
        tracker_note_lost(t);
    else
        take_raw_back(raw, reply == ORDER_ACCEPTED);
    if (reply == ORDER_LOST && run) /* it hears of the end of the connection by itself */
        run_give_back(run);
    raw->run = NULL;
    tracker_settle(t);
}

/* ---------------------------------------------------------------- attachments */

static void tracker_attach(struct tracker *t, struct attachment *attachment)
{
    struct run *run = tracker_find(t, attachment->id);

    LINK(t->attachments, attachment);
    attachment->run = run ? run_take(run) : NULL;
    attachment->was_ended = attachment->is_listed = attachment->was_named = false;
    attachment->has_row = attachment->is_asked = false;
    t->list_wanted = true;
    if (run)
        run_mark_row_wanted(run);
    tracker_settle(t);
}

static void unlink_attachment(struct tracker *t, struct attachment *attachment)
{
    struct run *run = attachment->run;

    if (run && attachment->has_row)
        UNLINK(run->attachments, attachment);
    else
        UNLINK(t->attachments, attachment);
    if (run)
        run_give_back(run);
}

static void tracker_unattach(struct tracker *t, struct attachment *attachment)
{
    unlink_attachment(t, attachment);
    tracker_settle(t);
}

static void answer_attachment(struct tracker *t, struct attachment *attachment, int error)
{
    unlink_attachment(t, attachment);
    t->port->attached(t, attachment, error);
}

static void tracker_answer_attachments(struct tracker *t, int error)
{
    while (t->attachments)
        answer_attachment(t, t->attachments, error);
    for (struct run *run = t->runs; run; run = run->next)
        run_answer_attachments(run, error);
}

static void run_answer_attachments(struct run *run, int error)
{
    while (run->attachments)
        answer_attachment(run->tracker, run->attachments, error);
}

static void tracker_note_ended(struct tracker *t, const char *id)
{
    for (struct attachment *a = t->attachments; a; a = a->next)
        if (strcmp(a->id, id) == 0)
            a->was_ended = true;
}

/* Whoever attaches may end the job at once, or have another client end it: without a snapshot of
 * before it could not be told how (C21). */
static void wait_for_snapshot(struct tracker *t, struct attachment *attachment)
{
    struct run *run = attachment->run;

    UNLINK(t->attachments, attachment);
    attachment->has_row = true;
    LINK(run->attachments, attachment);
    run_want_snapshot(run);
}

/* Unless the list has just shown what is left of it. */
static bool is_gone(const struct attachment *attachment)
{
    const struct run *run = attachment->run;
    return machine_outcome(&run->machine) == BJ_OUTCOME_LOST ||
           (!run->has_id && !attachment->is_listed);
}

/* The list may know the job by another name: then it is looked for once more. */
static bool is_looked_for_again(struct tracker *t, struct attachment *attachment)
{
    if (attachment->run || attachment->was_named || attachment->is_listed)
        return false;
    attachment->was_named = true;
    if (!t->port->name(t, attachment))
        return false;
    struct run *run = tracker_find(t, attachment->id);
    attachment->run = run ? run_take(run) : NULL;
    attachment->is_asked = false;
    t->list_wanted = true;
    return true;
}

static int why_none(const struct tracker *t, const struct attachment *attachment, enum list_end end)
{
    if (attachment->is_listed)
        return t->count >= t->limit ? BJ_E_BUSY : BJ_E_NOMEM;
    if (end == LIST_CUT)
        return BJ_E_BUSY;
    return end == LIST_WHOLE ? BJ_E_NO_JOB : BJ_E_REFUSED;
}

static void finish_attachment(struct tracker *t, struct attachment *attachment, enum list_end end)
{
    struct run *run = attachment->run;

    if (end == LIST_WHOLE && is_looked_for_again(t, attachment))
        return;
    if (!run)
        answer_attachment(t, attachment, why_none(t, attachment, end));
    else if (is_gone(attachment))
        answer_attachment(t, attachment, BJ_E_NO_JOB);
    else
        wait_for_snapshot(t, attachment);
}

/* ---------------------------------------------------------------- handing on */

static void hand_on_raws(struct tracker *t, const char *id, struct run *run)
{
    for (struct raw *raw = t->raws; raw; raw = raw->next) {
        if (strcmp(raw->id, id) != 0)
            continue;
        take_raw_back(raw, false); /* its reply would have come before the new run */
        if (run)
            give_raw(raw, run);
    }
}

/* The list on its way may be older than a run that it does not list; or than what could not be
 * followed. */
static void hand_on_attachments(struct tracker *t, const char *id, struct run *run,
                                enum beginning how)
{
    for (struct attachment *a = t->attachments; a; a = a->next) {
        if (strcmp(a->id, id) != 0)
            continue;
        if (a->run)
            run_give_back(a->run);
        a->run = run ? run_take(run) : NULL;
        if (!run) {
            a->was_ended = a->is_listed = true;
        } else if (how != LISTED) {
            a->is_asked = false;
            run_mark_row_wanted(run);
        }
    }
}

static void hand_on_start(struct start *start, struct run *run)
{
    let_go(start, false); /* what was created before is another client's */
    if (!run)
        return;
    start->run = run_take(run);
    machine_learn(&run->machine)->undecided = true;
    if (start->is_unique)
        machine_decide_owner(&run->machine, start->ours);
}

static void tracker_hand_on(struct tracker *t, const char *id, struct run *run, struct start *start,
                     enum beginning how)
{
    if (start)
        hand_on_start(start, run);
    hand_on_raws(t, id, run);
    hand_on_attachments(t, id, run, how);
    t->all_in_doubt |= t->all_asked && !run; /* the list may show the one before */
}

/* ---------------------------------------------------------------------- lists */

static void run_feed_row(struct run *run, const struct row *row)
{
    run->row_asked = false;
    run->tracker->port->saw(run, row);
    if (machine_is(&run->machine, IS_AWAY))
        machine_reconnected_listed(&run->machine, row);
    else
        machine_row(&run->machine, row);
    run_touch(run);
}

static bool tracker_wants_row(const struct tracker *t, const char *id)
{
    for (const struct attachment *a = t->attachments; a; a = a->next)
        if (strcmp(a->id, id) == 0)
            return true;
    return tracker_find(t, id) != NULL;
}

static struct run *begin_listed(struct tracker *t, const char *id, const char *type)
{
    struct run *run = tracker_begin(t, id, type, NULL, LISTED);
    if (run)
        run->row_asked = true;
    return run;
}

/* The list shows it to those who attach, and no event of the id came since they asked: it is that
 * very run. */
static struct run *begin_by_row(struct tracker *t, const char *id, const char *type)
{
    struct run *run = NULL;
    for (struct attachment *a = t->attachments; a; a = a->next) {
        if (!a->is_asked || a->run || a->was_ended || a->is_listed || strcmp(a->id, id) != 0)
            continue;
        a->is_listed = true;
        if (!run)
            run = begin_listed(t, id, type); /* and gives it to all of them */
    }
    return run;
}

/* The row is of what has ended: before 3.0 no event tells that a concluded job is gone. */
static void show_what_is_left(struct tracker *t, struct run *last, const struct row *row)
{
    if (t->reports_created || row->status != STATUS_CONCLUDED)
        return;
    run_feed_row(last, row);
    for (struct attachment *a = t->attachments; a; a = a->next)
        a->is_listed |= a->run == last;
}

/* Who attaches to an id that turns out to be another run's by now attaches to that. */
static void forget_run(struct tracker *t, struct run *run)
{
    for (struct attachment *a = t->attachments; a; a = a->next) {
        if (a->run != run)
            continue;
        a->run = NULL;
        run_give_back(run);
    }
}

static void tracker_row(struct tracker *t, const char *id, const char *type, const struct row *row)
{
    struct run *last = tracker_find_last(t, id);
    struct run *run = last && last->has_id ? last : NULL;

    if (run && run->row_asked) {
        run->has_type |= *type != '\0';
        if (run->memory)
            run_recall_by_row(run, type, row);
        else
            run_feed_row(run, row);
        if (run->has_id)
            return;
        forget_run(t, run); /* the row showed that it is gone */
        last = run = NULL;
    }
    if (!run && last)
        show_what_is_left(t, last, row);
    if (!run)
        run = begin_by_row(t, id, type);
    if (!run && !last && t->all_asked && !t->all_in_doubt)
        run = begin_listed(t, id, type);
    if (run && run->row_asked)
        run_feed_row(run, row);
}

static void feed_absence(struct run *run)
{
    if (run->memory)
        run_recall_by_absence(run);
    else if (machine_is(&run->machine, IS_AWAY))
        machine_reconnected_absent(&run->machine);
    else
        machine_absent(&run->machine);
}

static void finish_row(struct run *run, enum list_end end)
{
    run->row_asked = false;
    if (end == LIST_WHOLE)
        feed_absence(run);
    else if (end != LIST_LOST) /* else it hears of the end of the connection by itself */
        machine_list_failed(&run->machine);
    run_touch(run);
}

static void tracker_list_over(struct tracker *t, enum list_end end)
{
    bool is_to_repeat = t->all_asked && t->all_in_doubt && end == LIST_WHOLE;

    t->seeks_all |= t->all_asked && end == LIST_FAILED; /* by the next list that there is */
    t->list_is_out = t->all_asked = false;
    if (end == LIST_LOST)
        tracker_note_lost(t);
    for (struct run *run = t->runs; run; run = run->next) {
        if (run->row_asked)
            finish_row(run, end);
        run_touch(run);
    }

    struct attachment *next;
    for (struct attachment *a = end == LIST_LOST ? NULL : t->attachments; a; a = next) {
        next = a->next;
        if (a->is_asked)
            finish_attachment(t, a, end);
    }
    if (is_to_repeat)
        tracker_seek(t);
    tracker_settle(t);
    if (t->is_returning && end != LIST_LOST && !t->list_is_out) {
        t->is_returning = false;
        t->port->is_back(t);
    }
}
#undef LINK
#undef UNLINK
/* ---- core/src/model/tracker_runs.c ---- */

/*
 * The runs of a tracker: how one begins and ends, what its machine wants, and the after-work of
 * every entry.
 */

static struct run *run_of_machine(struct machine *machine)
{
    return container_of(machine, struct run, machine);
}

/* --------------------------------------------------------------- membership */

static void run_track(struct run *run)
{
    struct tracker *t = run->tracker;

    run->tracked = true;
    run->next = NULL;
    run->prev = t->last_run;
    if (t->last_run)
        t->last_run->next = run;
    else
        t->runs = run;
    t->last_run = run;
}

static unsigned memory_of(const struct run *run)
{
    return machine_memory(&run->machine) | (run->is_unique ? MEMORY_UNIQUE : 0);
}

static unsigned memory_key(const struct run *run)
{
    return machine_memory_key(&run->machine) | (unsigned)run->is_unique << 10;
}

/* After its end it stays as it was. */
static bool has_news_to_remember(const struct run *run)
{
    return run->remembered != memory_key(run) && !machine_has_end(&run->machine) &&
           !machine_is_over(&run->machine);
}

/* Most of what happens leads to nothing more. */
static bool has_after_work(const struct run *run)
{
    return !run->has_id || run->is_superseded || run->is_mute || run->compares ||
           run->attachments || run->snapshot == SNAPSHOT_WANTED ||
           (run->tracker->is_observed && run->announcement == UNANNOUNCED) || run->memory ||
           (run->wants_row && run->tracker->link == LINK_CLOSING) || has_news_to_remember(run);
}

static void run_touch(struct run *run)
{
    if (run->is_dirty || !has_after_work(run))
        return;
    run->is_dirty = true;
    run->next_dirty = run->tracker->dirty;
    run->tracker->dirty = run;
}

static struct run *run_take(struct run *run)
{
    run->in_flight++;
    return run;
}

static void run_give_back(struct run *run)
{
    run->in_flight--;
    run_touch(run);
}

static struct run *tracker_find_last(const struct tracker *t, const char *id)
{
    struct id_node *node = id_tree_find(t->by_id, id);
    return node ? container_of(node, struct run, node) : NULL;
}

static struct run *tracker_find(const struct tracker *t, const char *id)
{
    struct run *last = tracker_find_last(t, id);
    return last && last->has_id ? last : NULL;
}

static void run_enter_tree(struct run *run)
{
    id_tree_add(&run->tracker->by_id, &run->node, run->node.id);
    run->in_tree = true;
}

static void leave_tree(struct run *run)
{
    if (run->in_tree)
        id_tree_remove(&run->tracker->by_id, &run->node);
    run->in_tree = false;
}

static void untrack(struct run *run)
{
    struct tracker *t = run->tracker;

    run->tracked = false;
    if (run->prev)
        run->prev->next = run->next;
    else
        t->runs = run->next;
    if (run->next)
        run->next->prev = run->prev;
    else
        t->last_run = run->prev;
    leave_tree(run);
    t->port->over(run);
    t->port->drop(run);
}

static void run_vacate(struct run *run)
{
    run->tracker->count -= run->has_id;
    run->has_id = run->wants_row = run->row_asked = false;
    run_touch(run);
}

static void tracker_supersede(struct tracker *t, const char *id)
{
    struct run *last = tracker_find_last(t, id);

    if (!last)
        return;
    last->is_superseded = true;
    leave_tree(last);
    machine_superseded(&last->machine);
    run_vacate(last);
}

static struct run *new_run(struct tracker *t, const char *id, const char *type, struct start *start,
                           enum beginning how)
{
    if (start && start->spare) {
        struct run *spare = start->spare;
        start->spare = NULL;
        t->count--;
        return spare;
    }
    if (t->count < t->limit || how == STARTED)
        return t->port->new_run(t, id, type);
    t->port->ignored(t, id);
    return NULL;
}

static struct run *tracker_begin(struct tracker *t, const char *id, const char *type, struct start *start,
                          enum beginning how)
{
    tracker_supersede(t, id);
    struct run *run = new_run(t, id, type, start, how);
    if (run) {
        run_track(run);
        run_enter_tree(run);
        run->has_id = true;
        run->is_listed = how == LISTED;
        run->has_type = *type != '\0';
        t->count++;
        run_touch(run);
    }
    tracker_hand_on(t, id, run, start, how);
    if (run && t->is_observed)
        run_observe(run);
    return run;
}

/* -------------------------------------------------------- the machine's port */

static bool is_connected(const struct tracker *t)
{
    return t->link == LINK_UP || t->link == LINK_CLOSING;
}

/* One that QEMU has let go of comes back for a dismissal (B44), unless another has its id. */
static void track_again(struct run *run)
{
    if (tracker_find_last(run->tracker, run->node.id)) {
        run->is_superseded = true;
        return;
    }
    run->tracker->port->hold(run);
    run_track(run);
    run_enter_tree(run);
}

static void run_send(struct run *run, enum verb verb, struct waiter *waiter)
{
    run->in_flight++;
    run->tracker->port->send(run, verb, waiter);
}

static void model_tracker_runs__port_send(struct machine *machine, enum verb verb, struct waiter *waiter)
{
    struct run *run = run_of_machine(machine);
    struct tracker *t = run->tracker;

    if (!run->tracked && is_connected(t))
        track_again(run);
    run->is_mute = !is_connected(t);
    run_touch(run); /* the after-work answers those whose verb is not sent */
    if (!run->is_superseded && !run->is_mute)
        run_send(run, verb, waiter);
}

static void run_mark_row_wanted(struct run *run)
{
    if (!run->has_id)
        return;
    run->wants_row = true;
    run->tracker->list_wanted = true;
}

static void port_list_jobs(struct machine *machine)
{
    struct run *run = run_of_machine(machine);
    run_mark_row_wanted(run);
    run_touch(run);
}

static void port_compare_graph(struct machine *machine)
{
    struct run *run = run_of_machine(machine);
    run->compares = true;
    run_touch(run);
}

static void model_tracker_runs__port_set_timer(struct machine *machine, int64_t ms)
{
    struct run *run = run_of_machine(machine);
    run->tracker->port->set_timer(run, ms);
}

static void model_tracker_runs__port_answer(struct machine *machine, struct waiter *waiter, const struct answer *answer)
{
    struct run *run = run_of_machine(machine);
    run->tracker->port->answer(run, waiter, answer);
}

static void model_tracker_runs__port_report(struct machine *machine, enum report report, const char *text)
{
    struct run *run = run_of_machine(machine);
    if (report == REPORT_RELEASED)
        run_vacate(run);
    run->tracker->port->report(run, report, text);
}

static const struct machine_port machine_port = {
    .send = model_tracker_runs__port_send,
    .list_jobs = port_list_jobs,
    .compare_graph = port_compare_graph,
    .set_timer = model_tracker_runs__port_set_timer,
    .answer = model_tracker_runs__port_answer,
    .report = model_tracker_runs__port_report,
};

static void run_init(struct run *run, struct tracker *t, const char *id,
              const struct machine_traits *traits)
{
    *run = (struct run){.tracker = t, .node.id = id};
    machine_init(&run->machine, &machine_port, traits);
}

/* ------------------------------------------------------------- the after-work */

static void run_want_snapshot(struct run *run)
{
    if (run->snapshot != SNAPSHOT_ASKED && run->snapshot != SNAPSHOT_HELD)
        run->snapshot = SNAPSHOT_WANTED;
    run_touch(run);
}

static void pursue_snapshot(struct run *run)
{
    struct tracker *t = run->tracker;

    if (run->snapshot == SNAPSHOT_WANTED && !(run->has_id && machine_may_switch(&run->machine)))
        run->snapshot = SNAPSHOT_NONE;
    if (run->snapshot == SNAPSHOT_WANTED && t->link == LINK_UP) {
        run->snapshot = SNAPSHOT_ASKED;
        run->in_flight++;
        t->port->take_snapshot(run, run->attachments != NULL);
    }
    if (run->snapshot != SNAPSHOT_ASKED && run->snapshot != SNAPSHOT_WANTED)
        run_answer_attachments(run, BJ_OK);
}

static void run_compared(struct run *run, enum disk_switch result)
{
    if (run->memory && !machine_has_end(&run->machine))
        run_recall_by_graph(run, result);
    else
        machine_compared(&run->machine, result);
}

static void pursue_comparison(struct run *run)
{
    struct tracker *t = run->tracker;
    bool waits = run->is_comparing || t->link == LINK_DOWN || run->snapshot == SNAPSHOT_ASKED;

    if (!run->compares || waits)
        return;
    bool can_compare = run->snapshot == SNAPSHOT_HELD || machine_needs_no_snapshot(&run->machine);
    if (can_compare && t->link == LINK_UP) {
        run->is_comparing = true;
        run->in_flight++;
        t->port->compare(run);
    } else {
        run->compares = false;
        run_compared(run, SWITCH_UNKNOWN);
    }
}

/* Before anybody is told of the run, who may ask for it. */
static void remember(struct run *run)
{
    if (!has_news_to_remember(run))
        return;
    run->remembered = memory_key(run);
    run->tracker->port->remember(run, memory_of(run));
}

/* The list, or that of the next connection, tells what no event has. */
static bool waits_for_type(const struct run *run)
{
    bool will_tell = run->wants_row || run->row_asked || run->tracker->link == LINK_DOWN ||
                     machine_is(&run->machine, IS_AWAY);
    return will_tell && !run->has_type && !machine_is_over(&run->machine);
}

static bool waits_to_be_announced(const struct run *run)
{
    const struct tracker *t = run->tracker;
    bool waits_for_recalled = run->memory || (t->recalled > 0 && !run->is_recalled);
    return !t->is_observed || run->announcement != UNANNOUNCED || waits_for_recalled ||
           machine_traits(&run->machine)->undecided || waits_for_type(run);
}

static void run_announce(struct run *run)
{
    if (waits_to_be_announced(run))
        return;
    run->announcement = ANNOUNCED;
    run->tracker->port->announce(run);
}

static void run_observe(struct run *run)
{
    bool is_over = machine_is_over(&run->machine) && !run->memory;

    if (!run->has_id && is_over && run->announcement == UNANNOUNCED)
        run->announcement = UNOBSERVED;
    run_want_snapshot(run);
    if (!run->has_type)
        run_mark_row_wanted(run);
}

/* Nothing is sent any more but dismissals: what only a list could tell is let go of. */
static void forgo_row(struct run *run)
{
    run->wants_row = false;
    machine_absent(&run->machine);
}

static bool is_done_with(const struct run *run)
{
    return !run->has_id && run->in_flight == 0 && !run->compares && !run->is_dirty &&
           !run->tracker->all_asked && !machine_is_awaited(&run->machine);
}

/* Its end was heard, or no list will show it. */
static bool is_found_out(const struct run *run)
{
    return machine_is_over(&run->machine) || !machine_is(&run->machine, IS_AWAY);
}

static void after_work(struct run *run)
{
    if (run->is_superseded)
        machine_superseded(&run->machine);
    if (run->is_mute)
        machine_drop_verbs(&run->machine);
    run->is_mute = false;
    if (run->memory && is_found_out(run))
        run_recall_by_end(run);
    remember(run);
    pursue_snapshot(run);
    pursue_comparison(run);
    if (run->tracker->link == LINK_CLOSING && run->wants_row)
        forgo_row(run);
    run_announce(run);
    if (run->tracked && is_done_with(run))
        untrack(run);
}

static void ask_list(struct tracker *t)
{
    for (struct run *run = t->runs; run; run = run->next) {
        run->row_asked |= run->wants_row;
        run->wants_row = false;
    }
    for (struct attachment *a = t->attachments; a; a = a->next)
        a->is_asked = true;
    t->all_asked = t->seeks_all || (t->is_observed && !t->reports_created);
    t->seeks_all = t->all_in_doubt = false;
    t->list_wanted = false;
    t->list_is_out = true;
    t->port->ask_list(t);
}

static void tracker_settle(struct tracker *t)
{
    while (t->dirty) {
        struct run *run = t->dirty;
        t->dirty = run->next_dirty;
        run->is_dirty = false;
        after_work(run);
    }
    if (t->list_wanted && !t->list_is_out && t->link == LINK_UP)
        ask_list(t);
    if (t->link == LINK_CLOSING && !t->runs)
        t->port->is_settled(t);
}

/* -------------------------------------------------------------------- callers */

static void settle_run(struct run *run)
{
    run_touch(run);
    tracker_settle(run->tracker);
}

static void run_ask(struct run *run, struct waiter *waiter)
{
    machine_ask(&run->machine, waiter);
    settle_run(run);
}

static void run_leave(struct run *run, struct waiter *waiter)
{
    machine_leave(&run->machine, waiter);
    settle_run(run);
}

static void run_escalate(struct run *run, struct waiter *waiter)
{
    machine_escalate(&run->machine, waiter);
    settle_run(run);
}

static void run_unhold(struct run *run, struct waiter *waiter)
{
    machine_unhold(&run->machine, waiter);
    settle_run(run);
}

static void run_tick(struct run *run)
{
    machine_tick(&run->machine);
    settle_run(run);
}

static void run_want_row(struct run *run)
{
    run_mark_row_wanted(run);
    settle_run(run);
}

static void run_absent(struct run *run)
{
    if (run->has_id)
        machine_absent(&run->machine);
    settle_run(run);
}

static void tracker_seek(struct tracker *t)
{
    t->seeks_all = t->is_observed;
    t->list_wanted |= t->is_observed;
    tracker_settle(t);
}

/* Whoever remembered them is gone, and what is left of a job that nobody asks for is not touched.
 */
static void forget_recalled(struct tracker *t)
{
    for (struct run *run = t->runs; run; run = run->next) {
        if (!run->memory)
            continue;
        run_forget_recalled(run);
        machine_lost(&run->machine, BJ_E_CLOSED, "nobody waits for what became of it");
        run_touch(run);
    }
}

static void tracker_observe(struct tracker *t, bool observe)
{
    bool begins = observe && !t->is_observed;

    t->is_observed = observe;
    if (!observe) {
        forget_recalled(t);
        tracker_settle(t);
    }
    for (struct run *run = begins ? t->runs : NULL; run; run = run->next)
        run_observe(run);
    if (begins)
        tracker_seek(t);
}
/* ---- core/src/model/waiters.c ---- */

/*
 * Those who wait for a run: what each of them wants, and when it is answered.
 */

static const char pending_text[] = "it is pending: finalize it, then wait for done";
static const char pivoting_text[] = "a pivot is under way: only force aborts it";

static const char kept_text[] =
    "it is over, and QEMU keeps its nodes until somebody dismisses it: dismiss it";
static const char away_text[] = "the connection to QEMU is being made again: ask when it is";

/* ----------------------------------------------------------------- the list */

static bool is_pivot(const struct waiter *waiter)
{
    return waiter->question == ASK_PIVOT || waiter->question == ASK_FINISH;
}

/* How many want what machine_pursue() decides on: looking through ten thousand waiters for each new
 * one would cost their square. NULL: nothing of the kind. */
static size_t *count_of(struct machine *m, const struct waiter *waiter)
{
    if (is_pivot(waiter))
        return waiter->held ? &m->held_pivots : &m->pivots;
    if (waiter->question == ASK_ABORT)
        return waiter->flags & BJ_ABORT_FORCE ? &m->force_aborts : &m->soft_aborts;
    return NULL;
}

static void count_waiter(struct machine *m, const struct waiter *waiter, bool comes)
{
    size_t *count = count_of(m, waiter);
    if (count)
        *count = comes ? *count + 1 : *count - 1;
}

static void link_waiter(struct machine *m, struct waiter *waiter)
{
    waiter->prev = NULL;
    waiter->next = m->waiters;
    if (m->waiters)
        m->waiters->prev = waiter;
    m->waiters = waiter;
    count_waiter(m, waiter, true);
}

static void unlink_waiter(struct machine *m, struct waiter *waiter)
{
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        m->waiters = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    waiter->prev = waiter->next = NULL;
    count_waiter(m, waiter, false);
}

/* ------------------------------------------------------------ what one wants */

static bool waiter_is_any(const struct machine *m, const struct waiter *waiter)
{
    (void)m, (void)waiter;
    return true;
}

/* Once the job is over nobody wants a verb any more: what is left to wait for is its release. One
 * that is held back has no part in what becomes of a complete. */
static bool waiter_wants_complete(const struct machine *m, const struct waiter *waiter)
{
    return is_pivot(waiter) && !waiter->held && !machine_is_over(m);
}

static bool waiter_is_for_ready(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_READY;
}

static bool waiter_is_for_release(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_RELEASED ||
           (waiter->flags & released_flag(waiter->question)) != 0;
}

static bool waiter_is_verb(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return waiter->question == ASK_VERB;
}

static bool waiter_wants_force(const struct machine *m, const struct waiter *waiter)
{
    return waiter->question == ASK_ABORT && (waiter->flags & BJ_ABORT_FORCE) && !machine_is_over(m);
}

static bool is_soft_abort(const struct waiter *waiter)
{
    return waiter->question == ASK_ABORT && !(waiter->flags & BJ_ABORT_FORCE);
}

/* A refused soft cancel is the end of this one; one that escalates still has its force. */
static bool waiter_wants_cancel(const struct machine *m, const struct waiter *waiter)
{
    return is_soft_abort(waiter) && waiter->force_after_ms == 0 && !machine_is_over(m);
}

static bool is_async(const struct waiter *waiter, enum question question)
{
    return waiter->question == question && (waiter->flags & async_flag(question));
}

static bool waiter_is_async_pivot(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return is_async(waiter, ASK_PIVOT) && !waiter->held;
}

static bool waiter_is_async_abort(const struct machine *m, const struct waiter *waiter)
{
    (void)m;
    return is_async(waiter, ASK_ABORT);
}

static bool waiter_is_async_soft_abort(const struct machine *m, const struct waiter *waiter)
{
    return waiter_is_async_abort(m, waiter) && is_soft_abort(waiter);
}

static bool waiter_is_for_outcome(const struct machine *m, const struct waiter *waiter)
{
    if (waiter->question == ASK_VERB)
        return waiter->verb == VERB_FINALIZE;
    return !waiter_is_for_release(m, waiter);
}

/* ------------------------------------------------------------------ stalled */

/* A soft cancel of a ready job only means "finish the copy", and a copy that stops waits to be
 * resumed; every other abort ends the job without anyone's help, once it is `state`. */
static bool abort_ends_it(const struct machine *m, enum sent_state state)
{
    return m->sent[VERB_FORCE].state >= state ||
           (m->sent[VERB_CANCEL].state >= state && !machine_is(m, IS_READY));
}

/* It is done when QEMU has accepted, whatever becomes of the job; a refusal is told then. */
static bool awaits_acceptance(const struct machine *m, const struct waiter *waiter)
{
    bool aborts = m->sent[VERB_CANCEL].state == IN_FLIGHT || m->sent[VERB_FORCE].state == IN_FLIGHT;
    bool completes = m->sent[VERB_COMPLETE].state == IN_FLIGHT;
    return (aborts && waiter_is_async_abort(m, waiter)) ||
           (completes && waiter_is_async_pivot(m, waiter));
}

static bool is_hurt(const struct machine *m, const struct waiter *waiter, enum stall stall)
{
    if (waiter->question == ASK_ABORT && !waiter_wants_cancel(m, waiter))
        return false;
    if (machine_is_over(m) || awaits_acceptance(m, waiter))
        return false;
    switch (when_stalled(waiter->question, stall)) {
    case NEVER_STALLED:
        return false;
    case STALLED:
        return true;
    case UNLESS_ENDING:
        return !abort_ends_it(m, ACCEPTED);
    case UNLESS_ABORTED:
        return !abort_ends_it(m, IN_FLIGHT);
    case IF_CANCELLED_BEFORE:
        return is_accepted(m, VERB_CANCEL) && !m->sent[VERB_CANCEL].in_pending;
    }
    return false;
}

static bool waiter_is_hurt_by_pause(const struct machine *m, const struct waiter *waiter)
{
    return is_hurt(m, waiter, STALL_PAUSED);
}

static bool waiter_is_hurt_by_pending(const struct machine *m, const struct waiter *waiter)
{
    return is_hurt(m, waiter, STALL_PENDING);
}

static bool is_hurt_now(const struct machine *m, const struct waiter *waiter)
{
    return is_hurt(m, waiter, m->stall);
}

/* ------------------------------------------------------------------ answers */

static void machine_answer(struct machine *m, struct waiter *waiter, int error, const char *error_class,
                    const char *text)
{
    unlink_waiter(m, waiter);
    m->port->answer(m, waiter,
                    &(struct answer){
                        .error = error,
                        .cause = error == BJ_E_JOB_LOST ? m->lost_cause : BJ_OK,
                        .error_class = error_class,
                        .text = text,
                    });
}

static void machine_answer_all(struct machine *m, waiter_test *test, int error, const char *error_class,
                        const char *text)
{
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (test(m, w))
            machine_answer(m, w, error, error_class, text);
    }
}

static void machine_answer_hurt(struct machine *m)
{
    if (machine_is_stalled(m))
        machine_answer_all(m, is_hurt_now, BJ_E_STALLED, NULL, text_str(m->text));
}

static int error_when_over(const struct machine *m, const struct waiter *waiter)
{
    int error = answer_when_over(waiter->question, m->outcome);

    if (waiter->question == ASK_READY && machine_is(m, IS_READY))
        return BJ_OK;
    if (waiter->question == ASK_FINISH && machine_is(m, IS_UNCLEAR))
        return BJ_E_JOB_ENDED;
    return error == BJ_E_JOB_LOST ? m->lost_error : error;
}

static void answer_over(struct machine *m, struct waiter *waiter)
{
    int error = error_when_over(m, waiter);
    machine_answer(m, waiter, error, NULL, error == BJ_OK || !m->text ? NULL : text_str(m->text));
}

static void machine_answer_over(struct machine *m, waiter_test *test)
{
    struct waiter *next;
    for (struct waiter *w = m->waiters; w; w = next) {
        next = w->next;
        if (test(m, w))
            answer_over(m, w);
    }
}

/* --------------------------------------------------------------- released */

static bool machine_is_kept(const struct machine *m)
{
    return machine_is_over(m) && m->status == STATUS_CONCLUDED && !m->traits.ours &&
           !m->traits.undecided && !machine_is(m, IS_RELEASED);
}

/* A mirror or an active commit gives its nodes back in the end; a stream or an inner commit has
 * them until it is dismissed. */
static bool machine_is_free(const struct machine *m)
{
    bool gives_back = m->traits.switches || machine_is(m, IS_READY);
    return machine_is(m, IS_RELEASED) || (machine_is_kept(m) && gives_back);
}

static bool fails_when_over(const struct machine *m, const struct waiter *waiter)
{
    return waiter_is_for_release(m, waiter) && error_when_over(m, waiter) != BJ_OK;
}

/* How it ended matters more than that it is kept. */
static void machine_answer_kept(struct machine *m)
{
    machine_answer_over(m, fails_when_over);
    machine_answer_all(m, waiter_is_for_release, BJ_E_STALLED, NULL, kept_text);
}

/* ------------------------------------------------------------------ callers */

/* If there is a stall that hurts it, it is answered: now, or when a list has confirmed it. */
static bool answered_as_hurt(struct machine *m, struct waiter *waiter)
{
    if (!machine_is_stalled(m) || !is_hurt_now(m, waiter))
        return false;
    if (!machine_doubts_stall(m))
        machine_answer(m, waiter, BJ_E_STALLED, NULL, text_str(m->text));
    return true;
}

static void ask_ready(struct machine *m, struct waiter *waiter)
{
    if (machine_is(m, IS_READY))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (m->traits.never_ready)
        machine_answer(m, waiter, BJ_E_STATE, NULL,
                       "a job of this type is never ready: wait for done");
    else
        answered_as_hurt(m, waiter);
}

static void ask_finish(struct machine *m, struct waiter *waiter)
{
    if (is_aborting(m))
        machine_answer(m, waiter, BJ_E_STATE, NULL, "it is being aborted"); /* B34 */
    else if (waiter_is_async_pivot(m, waiter) && is_accepted(m, VERB_COMPLETE))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (machine_is(m, IS_PENDING) && waiter_is_hurt_by_pending(m, waiter))
        machine_answer(m, waiter, BJ_E_STALLED, NULL, pending_text); /* B42 */
    else
        answered_as_hurt(m, waiter);
}

static void ask_pivot(struct machine *m, struct waiter *waiter)
{
    bool only_if_ready = waiter->flags & BJ_PIVOT_ONLY_IF_READY;

    if (m->traits.never_ready)
        machine_answer(m, waiter, BJ_E_STATE, NULL,
                       "a job of this type has no pivot: wait for done");
    else if (m->traits.denial)
        machine_answer(m, waiter, BJ_E_REFUSED, m->traits.denial->error_class,
                       m->traits.denial->text);
    else if (only_if_ready && !machine_is(m, IS_READY) && !is_aborting(m) &&
             !machine_is(m, IS_PENDING))
        machine_answer(m, waiter, BJ_E_NOT_READY, NULL, NULL);
    else
        ask_finish(m, waiter);
}

static void ask_soft_abort(struct machine *m, struct waiter *waiter)
{
    bool async = waiter_is_async_abort(m, waiter);
    bool pivoting = was_sent(m, VERB_COMPLETE) && !machine_is(m, IS_PENDING);

    m->sent[VERB_CANCEL].refused = false; /* that was another caller's */
    if (async && abort_is_accepted(m))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
    else if (machine_is(m, IS_PENDING) && waiter_is_hurt_by_pending(m, waiter))
        machine_answer(m, waiter, BJ_E_STALLED, NULL, pending_text);
    else if (async && pivoting && !is_aborting(m))
        machine_answer(m, waiter, BJ_E_STATE, NULL, pivoting_text);
    else
        answered_as_hurt(m, waiter);
}

static void ask_abort(struct machine *m, struct waiter *waiter)
{
    if (!waiter_wants_force(m, waiter))
        ask_soft_abort(m, waiter);
    else if (waiter_is_async_abort(m, waiter) && is_accepted(m, VERB_FORCE))
        machine_answer(m, waiter, BJ_OK, NULL, NULL);
}

static void ask_dismiss_over(struct machine *m, struct waiter *waiter)
{
    bool may_be_there = !machine_is(m, IS_RELEASED) || (m->traits.kept && !m->traits.has_status);

    if (!may_be_there || m->traits.ours)
        machine_answer(m, waiter, BJ_OK, NULL, NULL); /* ours we dismiss ourselves, once (B40) */
    else if (machine_is(m, IS_AWAY))
        machine_answer(m, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    else
        m->port->send(m, VERB_DISMISS, waiter);
}

static void ask_verb(struct machine *m, struct waiter *waiter)
{
    if (m->outcome == BJ_OUTCOME_LOST) {
        answer_over(m, waiter);
    } else if (machine_is_over(m) && waiter->verb == VERB_DISMISS) {
        ask_dismiss_over(m, waiter);
    } else if (machine_is_over(m) || (m->end != END_NONE && waiter->verb != VERB_DISMISS)) {
        machine_answer(m, waiter, BJ_E_STATE, NULL, "it is over");
    } else if (machine_is(m, IS_AWAY)) {
        machine_answer(m, waiter, BJ_E_DISCONNECTED, NULL, away_text);
    } else {
        machine_note_verb(m, waiter->verb);
        m->port->send(m, waiter->verb, waiter);
    }
}

static void ask_running(struct machine *m, struct waiter *waiter)
{
    switch (waiter->question) {
    case ASK_READY:
        ask_ready(m, waiter);
        break;
    case ASK_DONE:
    case ASK_RELEASED:
        answered_as_hurt(m, waiter);
        break;
    case ASK_PIVOT:
        ask_pivot(m, waiter);
        break;
    case ASK_ABORT:
        ask_abort(m, waiter);
        break;
    case ASK_FINISH:
        ask_finish(m, waiter);
        break;
    case ASK_VERB:
        break;
    }
    machine_settle(m);
}

static void machine_ask(struct machine *m, struct waiter *waiter)
{
    link_waiter(m, waiter);

    if (waiter->question == ASK_VERB)
        ask_verb(m, waiter);
    else if (!machine_is_over(m))
        ask_running(m, waiter);
    else if (!waiter_is_for_release(m, waiter) || machine_is_free(m))
        answer_over(m, waiter);
    else
        machine_set_timer(m);
}

static void machine_leave(struct machine *m, struct waiter *waiter)
{
    unlink_waiter(m, waiter);
    machine_settle(m); /* a pivot may have waited for this abort to be over */
}

static void machine_escalate(struct machine *m, struct waiter *waiter)
{
    count_waiter(m, waiter, false);
    waiter->flags |= BJ_ABORT_FORCE;
    count_waiter(m, waiter, true);
    waiter->force_after_ms = 0;
    machine_settle(m);
}

static void machine_unhold(struct machine *m, struct waiter *waiter)
{
    count_waiter(m, waiter, false);
    waiter->held = false;
    count_waiter(m, waiter, true);
    machine_settle(m);
}
/* ---- core/src/qmp/block_graph.c ---- */

/* ---- core/src/qmp/block_graph.h ---- */

/*
 * Reads QEMU's block graph, and keeps what model/switch.h records of it. No I/O.
 */

/* What x-debug-query-block-graph (QEMU 4.0) says, or before 4.0 query-block, made ready for any
 * number of snapshots and comparisons; `root` must outlive it. NULL: larger than any QEMU's, or no
 * memory. */
struct qmp_graph;
static struct qmp_graph *qmp_graph_open(const json_t *root);
static void qmp_graph_close(struct qmp_graph *graph); /* takes NULL */

/* `id` is the job's; in query-block's list the device's. NULL: it does not show that job, or no
 * memory; so for a graph that is NULL. */
static struct driver_snapshot *qmp_graph_snapshot(const struct qmp_graph *graph, const char *id);
static struct driver_snapshot *qmp_hold_snapshot(struct driver_snapshot *snapshot);
static void qmp_free_snapshot(struct driver_snapshot *snapshot); /* takes NULL */

static json_t *qmp_write_snapshot(const struct driver_snapshot *snapshot);
static struct driver_snapshot *qmp_read_snapshot(const json_t *json);

/* Without a snapshot of before, only a job that has nothing to switch to is told, while it is
 * listed. */
static enum disk_switch qmp_graph_compare(const struct driver_snapshot *before,
                                   const struct qmp_graph *graph, const char *id);

struct device {
    struct switch_device is;
    const json_t *inserted;
};

/* All strings are those of the reply. */
struct qmp_graph {
    struct block_graph graph;
    size_t device_count;
    struct device *devices; /* query-block's */
};

/* Its strings are in `texts`. */
struct driver_snapshot {
    atomic_uint refs;
    bool is_of_device;
    struct switch_before before;
    struct switch_device device;
    char texts[];
};

/* More than that no QEMU has; the graph is not read then. */
#define NODES_MAX 16384

static const char *qmp_block_graph__string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* -------------------------------------------------------------------- opening */

static enum graph_kind kind_of(const char *type)
{
    return strcmp(type, "block-driver") == 0    ? GRAPH_NODE
           : strcmp(type, "block-backend") == 0 ? GRAPH_BACKEND
           : strcmp(type, "block-job") == 0     ? GRAPH_JOB
                                                : GRAPH_OTHER;
}

static void open_nodes(struct block_graph *graph, const json_t *nodes)
{
    size_t i;
    const json_t *node;

    json_array_foreach(nodes, i, node)
    {
        graph->vertices[graph->vertex_count++] = (struct graph_vertex){
            .id = json_integer_value(json_object_get(node, "id")),
            .kind = kind_of(qmp_block_graph__string_at(node, "type")),
            .name = qmp_block_graph__string_at(node, "name"),
        };
    }
    graph_sort_vertices(graph);
}

static const struct graph_vertex *end_of(const struct block_graph *graph, const json_t *edge,
                                         const char *key)
{
    return graph_vertex_of(graph, json_integer_value(json_object_get(edge, key)));
}

static void open_edges(struct block_graph *graph, const json_t *edges)
{
    size_t i;
    const json_t *edge;

    json_array_foreach(edges, i, edge)
    {
        const json_t *permissions = json_object_get(edge, "perm");
        struct graph_edge known = {
            .parent = end_of(graph, edge, "parent"),
            .child = end_of(graph, edge, "child"),
            .name = qmp_block_graph__string_at(edge, "name"),
            .takes_permission = !permissions || json_array_size(permissions) > 0,
        };
        if (known.parent && known.child)
            graph->below[graph->edge_count++] = known;
    }
    graph_sort_edges(graph);
}

static struct switch_device device_of(const json_t *device)
{
    const json_t *inserted = json_object_get(device, "inserted");
    return (struct switch_device){
        .name = qmp_block_graph__string_at(device, "device"),
        .qdev = qmp_block_graph__string_at(device, "qdev"),
        .node = qmp_block_graph__string_at(inserted, "node-name"),
        .driver = qmp_block_graph__string_at(inserted, "drv"),
        .file = qmp_block_graph__string_at(inserted, "file"),
    };
}

static void open_devices(struct qmp_graph *graph, const json_t *devices)
{
    size_t i;
    const json_t *device;

    json_array_foreach(devices, i, device)
    {
        graph->devices[graph->device_count++] = (struct device){
            .is = device_of(device), .inserted = json_object_get(device, "inserted")};
    }
}

static bool qmp_block_graph__make_room(struct qmp_graph *graph, size_t nodes, size_t edges, size_t devices)
{
    struct block_graph *g = &graph->graph;

    g->vertices = calloc(nodes + 1, sizeof *g->vertices);
    g->by_name = calloc(nodes + 1, sizeof *g->by_name);
    g->below = calloc(edges + 1, sizeof *g->below);
    g->above = calloc(edges + 1, sizeof *g->above);
    graph->devices = calloc(devices + 1, sizeof *graph->devices);
    return g->vertices && g->by_name && g->below && g->above && graph->devices;
}

static struct qmp_graph *qmp_graph_open(const json_t *root)
{
    const json_t *nodes = json_object_get(root, "nodes");
    const json_t *edges = json_object_get(root, "edges");
    size_t node_count = json_array_size(nodes);
    size_t edge_count = json_array_size(edges);
    size_t device_count = json_array_size(root);
    if (node_count > NODES_MAX || edge_count > NODES_MAX || device_count > NODES_MAX)
        return NULL;

    struct qmp_graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        return NULL;
    if (!qmp_block_graph__make_room(graph, node_count, edge_count, device_count)) {
        qmp_graph_close(graph);
        return NULL;
    }
    open_nodes(&graph->graph, nodes);
    open_edges(&graph->graph, edges);
    open_devices(graph, root);
    return graph;
}

static void qmp_graph_close(struct qmp_graph *graph)
{
    if (!graph)
        return;
    free(graph->graph.vertices);
    free(graph->graph.by_name);
    free(graph->graph.below);
    free(graph->graph.above);
    free(graph->devices);
    free(graph);
}

/* --------------------------------------------------------------------- before */

/* Copies a text to the end of those that are there, unless that is only to be measured. */
static void qmp_block_graph__keep(const char **text, char *texts, size_t *size)
{
    size_t text_size = strlen(*text) + 1;
    if (texts)
        *text = memcpy(texts + *size, *text, text_size);
    *size += text_size;
}

static void keep_places(struct switch_place *places, size_t count, char *texts, size_t *size)
{
    for (size_t i = 0; i < count; i++) {
        qmp_block_graph__keep(&places[i].parent, texts, size);
        qmp_block_graph__keep(&places[i].edge, texts, size);
    }
}

static size_t keep_before(struct switch_before *before, char *texts)
{
    size_t size = 0;
    if (!before->has_target)
        return 0;
    qmp_block_graph__keep(&before->source, texts, &size);
    qmp_block_graph__keep(&before->target, texts, &size);
    keep_places(before->above, before->above_count, texts, &size);
    keep_places(before->below, before->below_count, texts, &size);
    return size;
}

/* Copies the names. */
static struct driver_snapshot *new_snapshot(struct switch_before *before)
{
    struct driver_snapshot *snapshot = calloc(1, sizeof *snapshot + keep_before(before, NULL));
    if (!snapshot)
        return NULL;
    atomic_init(&snapshot->refs, 1);
    snapshot->before = *before;
    keep_before(&snapshot->before, snapshot->texts);
    return snapshot;
}

static struct driver_snapshot *snapshot_job(const struct qmp_graph *graph, const char *id)
{
    struct switch_before before;
    return switch_record(&graph->graph, id, &before) ? new_snapshot(&before) : NULL;
}

/* By its name; a device that has none may be meant by its node. */
static const struct device *find_device(const struct qmp_graph *graph, const char *name)
{
    for (size_t i = 0; *name && i < graph->device_count; i++)
        if (strcmp(graph->devices[i].is.name, name) == 0)
            return &graph->devices[i];
    for (size_t i = 0; *name && i < graph->device_count; i++)
        if (strcmp(graph->devices[i].is.node, name) == 0)
            return &graph->devices[i];
    return NULL;
}

/* An image's name is a path, or JSON. A longer one only a peer sends who wants our memory. */
#define FILE_MAX_BYTES 4096

static size_t keep_device(struct switch_device *device, char *texts)
{
    const char **const members[] = {&device->name, &device->qdev, &device->node, &device->driver,
                                    &device->file};
    size_t size = 0;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (strlen(*members[i]) > FILE_MAX_BYTES)
            *members[i] = "";
        qmp_block_graph__keep(members[i], texts, &size);
    }
    return size;
}

static struct driver_snapshot *new_device_snapshot(struct switch_device *device)
{
    struct driver_snapshot *snapshot = calloc(1, sizeof *snapshot + keep_device(device, NULL));
    if (!snapshot)
        return NULL;
    atomic_init(&snapshot->refs, 1);
    snapshot->is_of_device = true;
    snapshot->device = *device;
    keep_device(&snapshot->device, snapshot->texts);
    return snapshot;
}

static struct driver_snapshot *snapshot_device(const struct qmp_graph *graph, const char *name)
{
    const struct device *device = find_device(graph, name);
    if (!device || !device->inserted)
        return NULL;
    struct switch_device is = device->is;
    return new_device_snapshot(&is);
}

static struct driver_snapshot *qmp_graph_snapshot(const struct qmp_graph *graph, const char *id)
{
    if (!graph)
        return NULL;
    return graph->device_count > 0 ? snapshot_device(graph, id) : snapshot_job(graph, id);
}

static struct driver_snapshot *qmp_hold_snapshot(struct driver_snapshot *snapshot)
{
    if (snapshot)
        atomic_fetch_add(&snapshot->refs, 1);
    return snapshot;
}

static void qmp_free_snapshot(struct driver_snapshot *snapshot)
{
    if (snapshot && atomic_fetch_sub(&snapshot->refs, 1) == 1)
        free(snapshot);
}

/* -------------------------------------------------------------------- as JSON */

static json_t *write_places(const struct switch_place *places, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++)
        json_array_append_new(
            array, json_pack("[iss]", (int)places[i].kind, places[i].parent, places[i].edge));
    return array;
}

static json_t *write_device(const struct switch_device *device)
{
    return json_pack("{s:[sssss]}", "device", device->name, device->qdev, device->node,
                     device->driver, device->file);
}

static json_t *qmp_write_snapshot(const struct driver_snapshot *snapshot)
{
    const struct switch_before *before = &snapshot->before;

    if (snapshot->is_of_device)
        return write_device(&snapshot->device);
    if (!before->has_target)
        return json_object();
    return json_pack("{ss,ss,sb,s[III],so,so}", "source", before->source, "target", before->target,
                     "used", before->is_used, "exports", (json_int_t)before->exports,
                     (json_int_t)before->source_exports, (json_int_t)before->target_exports,
                     "above", write_places(before->above, before->above_count), "below",
                     write_places(before->below, before->below_count));
}

static bool read_places(const json_t *array, struct switch_place *places, size_t *ret_count)
{
    size_t count = json_array_size(array);

    if (!json_is_array(array) || count > SWITCH_PLACES_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        int kind;
        if (json_unpack(json_array_get(array, i), "[iss!]", &kind, &places[i].parent,
                        &places[i].edge) != 0 ||
            kind < GRAPH_NODE || kind > GRAPH_OTHER)
            return false;
        places[i].kind = (enum graph_kind)kind;
    }
    *ret_count = count;
    return true;
}

static struct driver_snapshot *read_device(json_t *json)
{
    struct switch_device device;
    bool is_one = json_unpack(json, "{s:[sssss!]!}", "device", &device.name, &device.qdev,
                              &device.node, &device.driver, &device.file) == 0;
    return is_one ? new_device_snapshot(&device) : NULL;
}

static bool read_before(json_t *json, struct switch_before *ret)
{
    json_int_t exports[3];
    int is_used;
    json_t *above, *below;
    bool is_one = json_unpack(json, "{ss,ss,sb,s[III!],so,so!}", "source", &ret->source, "target",
                              &ret->target, "used", &is_used, "exports", &exports[0], &exports[1],
                              &exports[2], "above", &above, "below", &below) == 0 &&
                  read_places(above, ret->above, &ret->above_count) &&
                  read_places(below, ret->below, &ret->below_count);

    if (!is_one || exports[0] < 0 || exports[1] < 0 || exports[2] < 0)
        return false;
    ret->has_target = true;
    ret->is_used = is_used;
    ret->exports = (size_t)exports[0];
    ret->source_exports = (size_t)exports[1];
    ret->target_exports = (size_t)exports[2];
    return true;
}

static struct driver_snapshot *qmp_read_snapshot(const json_t *json)
{
    struct switch_before before = {0};
    json_t *object = (json_t *)json; /* json_unpack() changes nothing */

    if (json_object_get(json, "device"))
        return read_device(object);
    bool is_one =
        json_is_object(json) && (json_object_size(json) == 0 || read_before(object, &before));
    return is_one ? new_snapshot(&before) : NULL;
}

/* ---------------------------------------------------------------------- after */

static bool is_backed_by(const json_t *inserted, const char *file)
{
    const json_t *image = json_object_get(inserted, "image");

    if (strcmp(qmp_block_graph__string_at(inserted, "backing_file"), file) == 0)
        return true;
    while ((image = json_object_get(image, "backing-image")))
        if (strcmp(qmp_block_graph__string_at(image, "filename"), file) == 0)
            return true;
    return false;
}

static enum disk_switch compare_device(const struct switch_device *before,
                                       const struct qmp_graph *graph)
{
    for (size_t i = 0; i < graph->device_count; i++) {
        const struct device *now = &graph->devices[i];
        if (switch_is_same_device(before, &now->is))
            return switch_compare_device(before, &now->is,
                                         is_backed_by(now->inserted, before->file));
    }
    return SWITCH_UNKNOWN;
}

/* An intermediate commit shows what it is also when it is over. */
static enum disk_switch compare_nothing(const struct qmp_graph *graph, const char *id)
{
    struct switch_before now;
    bool is_known = switch_record(&graph->graph, id, &now);
    return is_known && !now.has_target ? SWITCHES_NOTHING : SWITCH_UNKNOWN;
}

static enum disk_switch qmp_graph_compare(const struct driver_snapshot *before,
                                   const struct qmp_graph *graph, const char *id)
{
    if (!graph)
        return SWITCH_UNKNOWN;
    if (!before)
        return compare_nothing(graph, id);
    return before->is_of_device ? compare_device(&before->device, graph)
                                : switch_compare(&before->before, &graph->graph);
}
#undef NODES_MAX
#undef FILE_MAX_BYTES
/* ---- core/src/qmp/command_set.c ---- */

/*
 * Shared sets of commands; see command_set.h.
 */
/* ---- core/src/qmp/command_set.h ---- */

/*
 * The commands that a QEMU has. Monitors of like QEMUs share one set: it is most of what an idle
 * monitor would cost. The loop's thread only.
 */

struct command_set;

/* The set of a reply to query-commands that had this text: one that is there. NULL: none is. */
static struct command_set *command_set_find(bj_ctx *ctx, const char *json, size_t len);

/* The set of another text, and what it says. NULL: no memory. */
static struct command_set *command_set_new(bj_ctx *ctx, const char *json, size_t len,
                                    const json_t *commands);

/* The latest that nobody uses any more is kept: a program may connect to one QEMU after another.
 * Takes NULL. */
static void command_set_unref(bj_ctx *ctx, struct command_set *set);
static bool command_set_has(const struct command_set *set, const char *command);

struct command_set {
    struct command_set *next;
    unsigned refs;
    json_t *names; /* an object, name -> true */
    size_t len;
    char json[]; /* what it was read from: a QEMU of the same build sends the same */
};

static json_t *read_names(const json_t *commands)
{
    json_t *names = json_object();
    size_t i;
    const json_t *command;

    json_array_foreach(commands, i, command)
    {
        const char *name = json_string_value(json_object_get(command, "name"));
        if (name && json_object_set_new(names, name, json_true()) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

static struct command_set *command_set_find(bj_ctx *ctx, const char *json, size_t len)
{
    for (struct command_set *set = ctx->command_sets; set; set = set->next) {
        if (set->len == len && memcmp(set->json, json, len) == 0) {
            set->refs++;
            return set;
        }
    }
    return NULL;
}

static void free_set(struct command_set *set)
{
    json_decref(set->names);
    free(set);
}

/* Those that nobody uses, but for `kept`. */
static void free_unused(bj_ctx *ctx, const struct command_set *kept)
{
    struct command_set **link = &ctx->command_sets;
    while (*link) {
        struct command_set *set = *link;
        if (set->refs > 0 || set == kept) {
            link = &set->next;
            continue;
        }
        *link = set->next;
        free_set(set);
    }
}

static void free_all(bj_ctx *ctx)
{
    free_unused(ctx, NULL);
}

static struct command_set *command_set_new(bj_ctx *ctx, const char *json, size_t len,
                                    const json_t *commands)
{
    struct command_set *set = malloc(sizeof *set + len);
    json_t *names = set ? read_names(commands) : NULL;
    if (!names) {
        free(set);
        return NULL;
    }
    *set = (struct command_set){.next = ctx->command_sets, .refs = 1, .names = names, .len = len};
    memcpy(set->json, json, len);
    ctx->command_sets = set;
    ctx->free_command_sets = free_all;
    return set;
}

static void command_set_unref(bj_ctx *ctx, struct command_set *set)
{
    if (set && --set->refs == 0)
        free_unused(ctx, set);
}

static bool command_set_has(const struct command_set *set, const char *command)
{
    return set && json_object_get(set->names, command);
}
/* ---- core/src/qmp/connection.c ---- */

/*
 * The QMP driver: one connection to one QEMU, how it begins and ends, and what comes in on it; see
 * qmp.h.
 */

/* ---- core/src/qmp/dial.h ---- */

/*
 * From an address to a connected socket, without blocking the loop.
 */

struct dial;

/* `done` is called once, never from inside dial_start(): with a socket that is the callee's, or
 * with a bj_error and a sentence, a reference. Takes over what is in `address`. NULL: no memory. */
static struct dial *dial_start(bj_ctx *ctx, struct address *address, const char *uri,
                        void (*done)(void *user, int fd, struct text *text), void *user);

/* Before `done` was called, or inside it. `done` will not be called. */
static void dial_cancel(struct dial *dial);

/* The host whose name is being looked up; NULL: none. Belongs to it. */
static const char *dial_looks_up(const struct dial *dial);

/* Inside `done`: why it failed may pass, as nobody listens there yet. */
static bool dial_found_nobody(const struct dial *dial);

/* The sentence for a BJ_E_SYSTEM with that errno, or for BJ_E_NOMEM. */
static struct text *dial_no_means(const char *uri, int error, int system_error);

/* ---- core/src/qmp/peer.h ---- */

/*
 * The process at the other end of a UNIX socket.
 */

/* Who called listen() on it; 0: not known. */
static int64_t peer_process(int fd);

/* Which process that is, also for one that connects later: its number and when it began, of this
 * boot of the host. Nothing where it can't be known: of a process in another pid namespace, of one
 * that hides, and of this process, which has only passed the socket on. */
static void peer_identify(int fd, int64_t process, struct driver_identity *ret);

/* ---- core/src/qmp/qmp.h ---- */

/*
 * The QMP driver, for its own files: the connection (connection.c), its negotiation (handshake.c),
 * its requests (requests.c), and snapshots of what uses a disk (snapshots.c). The loop's thread.
 */

/* ---- core/src/qmp/frame.h ---- */

/*
 * Cuts a stream of bytes into JSON objects, by structure and not by line (-qmp-pretty), and stops a
 * peer that sends more than the limits before anything is parsed (B54, B56). No I/O.
 */

struct frame_limits {
    size_t bytes;
    size_t tokens; /* strings, numbers, words, objects and arrays: what costs memory when parsed */
    size_t nesting;
};

struct frame {
    struct frame_limits limits;

    /* The beginning of a message whose end has not come; NULL between messages. */
    char *data;
    size_t len;
    size_t capacity;

    /* Where the scanner stands in it. */
    size_t tokens; /* while it is read: the whole message's */
    size_t nesting;
    bool in_string;
    bool in_escape;
    bool in_scalar;
};

/* Where the messages go. */
struct frame_reader {
    /* One whole message; it may be changed but not kept. Not 0 stops frame_feed(). */
    int (*read)(void *user, char *text, size_t len);

    /* Called first with what comes between messages, and may take a message off its beginning
     * itself: *ret_used tells how many bytes it took, 0: none. The same answers. May be NULL. */
    int (*read_in_place)(void *user, const char *bytes, size_t len, size_t *ret_used);

    void *user;
};

static void frame_init(struct frame *frame, const struct frame_limits *limits);
static void frame_clear(struct frame *frame);
static bool frame_is_empty(const struct frame *frame); /* between messages */

/* 0; or what the reader returned; or BJ_E_NOMEM; or BJ_E_PROTOCOL with *ret_reason, a static
 * string. After anything but 0 the stream can't go on. */
static int frame_feed(struct frame *frame, char *bytes, size_t len, const struct frame_reader *reader,
               const char **ret_reason);

/* ---- core/src/qmp/made_up_ends.h ---- */

/*
 * Ends that a QEMU has no event for: their event is made up, once (B57, B58). No I/O.
 */

/* QEMU's own event may yet come for so many; the oldest are forgotten. */
enum { MADE_UP_MAX = 16 };

struct made_up_ends {
    struct text *ids[MADE_UP_MAX];
    int next;
};

static void made_up_ends_add(struct made_up_ends *ends, struct text *id);
static void made_up_ends_clear(struct made_up_ends *ends);

/* The fact is such an end, whose event was made up before it came; that is true once for each. */
static bool made_up_ends_take(struct made_up_ends *ends, const struct fact *fact);

/* The data of the event, as QEMU would have it: JSON, for free(). NULL: no memory. */
static char *made_up_end_data(const struct driver_end *end);

#define MADE_UP_END_EVENT "BLOCK_JOB_CANCELLED"

/* ---- core/src/qmp/outbox.h ---- */

/*
 * The commands on their way to one QEMU: queued, written, and in flight until their replies come.
 *
 * So many are in flight at a time; the rest waits, urgent ones first, and before these what is
 * executed out of band. A reply finds its command by the id, and without one as B59 has it. No I/O
 * but writing to the socket; the loop's thread.
 */

/* A command from when it is made until its reply. */
struct command;

struct wire_tap;

struct outbox {
    uint64_t next_id;
    struct command *queued; /* the first may be half written */
    struct command **queued_last;
    size_t queued_count;
    struct command *in_flight;
    struct command **in_flight_last;
    size_t in_flight_count;
    size_t out_of_band_count;   /* those of them that are executed out of band */
    bool descriptors_in_flight; /* one of them has taken descriptors along */
    size_t in_flight_limit;     /* out of band; and in turn: */
    size_t in_turn_limit;
    bool reads_ahead;           /* QEMU does, while it executes */
    struct wire_tap *tap;       /* where what was sent is told */
    size_t queued_limit;        /* what outbox_is_full() goes by; outbox_put() takes more */
    struct command *unsendable; /* the system refused to send their descriptors */
};

static void outbox_init(struct outbox *outbox, uint64_t first_id, struct wire_tap *tap,
                 size_t in_flight_limit, size_t queued_limit);

/* QEMU has agreed to execute commands out of band. */
static void outbox_enable_out_of_band(struct outbox *outbox);

/* `arguments` as message_command() takes them. An urgent one goes before those that are not. NULL:
 * no memory. */
static struct command *command_new(struct outbox *outbox, const char *name, const char *arguments,
                            bool urgent);
/* The program's own; takes over its descriptors, unless there is no memory. */
static struct command *command_new_raw(struct outbox *outbox, const struct driver_command *raw);
/* One that was not put into it, which may be gone by now; takes NULL. */
static void command_free(struct command *command);

/* Takes the command over; `request` gets the reply, or why there is none. */
static void outbox_put(struct outbox *outbox, struct command *command, struct driver_request *request);

/* Writes what may be in flight. False when the socket takes no more now, or is broken: then it is
 * shut down, and reading tells. Leaves out what is `unsendable`. */
static bool outbox_write(struct outbox *outbox, int fd);
/* Answers those. */
static void outbox_refuse_unsendable(struct outbox *outbox, const char *uri);

static bool outbox_is_full(const struct outbox *outbox);
static bool outbox_is_empty(const struct outbox *outbox); /* QEMU owes nothing */

/* True: the command is gone, and the request gets no reply. False: it was written, if only in
 * part, or is not there. */
static bool outbox_withdraw(struct outbox *outbox, const struct driver_request *request);

/* Answers all but our dismissals, which still go, and forgets the others that QEMU has seen nothing
 * of. The replies to what was written still come. */
static void outbox_abandon(struct outbox *outbox, int error, const char *text);

/* Answers all. The end: nothing may be put into it after. */
static void outbox_fail(struct outbox *outbox, int error, const char *text);

/* Takes out the command that this reply is for, to be given to command_answer(). NULL: there is
 * none. */
static struct command *outbox_match(struct outbox *outbox, const struct message *message,
                             qmp_has_command *has_command, void *user);

/* Tells whoever waits for it, and frees it. */
static void command_answer(struct command *command, struct driver_reply *reply);

struct graph_request;

enum stage { QMP_CONNECTING, QMP_GREETING, QMP_NEGOTIATING, QMP_UP, QMP_DOWN };

struct qmp {
    struct driver driver;
    const struct driver_sink *sink;
    void *user;
    bj_ctx *ctx;
    struct text *uri; /* what texts call it */
    struct wire_tap *tap;
    enum stage stage;

    struct dial *dial;
    int fd;
    bool is_duplicate; /* the socket itself is the caller's: fd:N */
    struct loop_io *io;
    struct frame frame;
    struct loop_task refuse_task; /* of what is unsendable */
    bool refusing;                /* it is on its way */
    struct loop_task free_task;

    struct command_set *commands;
    const char *complete; /* its command; NULL: none. READY does not have to look it up */
    struct start_commands start_commands;
    struct text *version;
    struct driver_request handshake;
    bool wants_out_of_band; /* the program does */
    bool offers_out_of_band;
    bool passes_descriptors;
    struct driver_request graph_query;
    struct graph_request *graph_requests_sent;    /* answered by the query under way */
    struct graph_request *graph_requests_waiting; /* and by the next one */
    struct made_up_ends made_up_ends;

    struct outbox outbox;
};

static inline struct qmp *qmp_of(struct driver *driver)
{
    return (struct qmp *)driver;
}

static inline const char *qmp_uri(const struct qmp *qmp)
{
    return text_str(qmp->uri);
}

/* `user` is the struct qmp: a qmp_has_command. */
static inline bool qmp_knows_command(void *user, const char *command)
{
    return command_set_has(((const struct qmp *)user)->commands, command);
}

/* -------------------------------------------------------------- connection.c */

/* BJ_OK; or why nothing was asked: BJ_E_DISCONNECTED, BJ_E_NOMEM. */
static int qmp_ask(struct qmp *qmp, struct driver_request *request, const char *name,
            const char *arguments, bool urgent);

/* The value that a command returned, as a tree that belongs to the reply. NULL: reply->error says
 * why there is none. */
static const json_t *qmp_reply_value(struct driver_reply *reply);

/* Sends a command that was made before; takes it over. */
static void qmp_submit(struct qmp *qmp, struct command *command, struct driver_request *request);

/* Ends the connection and answers everything; the rest of the stack may still touch qmp. Takes over
 * the reference to `text`. */
static void qmp_go_down(struct qmp *qmp, int error, struct text *text);

/* --------------------------------------------------------------- handshake.c */

static void qmp_read_greeting(struct qmp *qmp, const struct message *message);
static struct text *qmp_stage(struct driver *driver, int64_t timeout_ms);

/* ---------------------------------------------------------------- requests.c */

static int qmp_execute(struct driver *driver, struct driver_request *request,
                const struct driver_command *command);
static bool qmp_withdraw(struct driver *driver, struct driver_request *request);
static bool qmp_is_owed(struct driver *driver);
static void qmp_abandon(struct driver *driver, int error, const char *text);
static bool qmp_has(struct driver *driver, const char *command);
static int qmp_takes(struct driver *driver, const char *command);
static int qmp_probe(struct driver *driver, struct driver_request *request);
static bool qmp_is_verb(struct driver *driver, const char *command, const char *arguments,
                 enum verb *ret_verb, char **ret_id);
static void qmp_prepare(struct driver *driver, struct driver_request *request, const char *id);
static void qmp_unprepare(struct driver_request *request);
static int qmp_transaction(struct driver *driver, struct driver_request *request, const char *actions,
                    bool grouped);
static int qmp_verb(struct driver *driver, struct driver_request *request, const struct driver_verb *verb);
static void qmp_make_up_end(struct driver *driver, const struct driver_end *end);
static int qmp_query(struct driver *driver, struct driver_request *request, bool urgent);
static int qmp_plan_start(struct driver *driver, const char *command, const struct json_t *arguments,
                   struct start_plan *ret);
static const char *qmp_id_of(struct driver *driver, const char *name);

/* --------------------------------------------------------------- snapshots.c */

static int qmp_take_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                      const char *device, bool urgent);
static int qmp_compare_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                         const struct driver_snapshot *before);

/* A command is over: a query of the graph that yielded to it may go now. */
static void qmp_query_waiting_graph(struct qmp *qmp);

/* Answers the requests for the graph that no query was sent for yet. */
static void qmp_fail_waiting_graph(struct qmp *qmp, int error, const char *text);

/* ---- core/src/qmp/read_in_place.h ---- */

/*
 * Messages read where they lie: framed, validated and looked up in one pass, and no tree is built.
 * Events come by the ten thousand (B29), READY among them; and most replies say no more than {}.
 */

/* Where the words of such a message are kept, each with a NUL after it. */
struct message_room {
    char words[512];
};

/* Reads the message that `text` begins with and returns how many bytes it took. *ret refers to
 * `text` and to *room, and needs no message_clear().
 *
 * 0 for whatever is not a whole event or a whole "return" in plain spelling and within the limits,
 * be it half a message, another one, an escape where a word is needed, or no JSON at all: that is
 * for frame_feed() and message_parse(), which also know what is wrong with it. */
static size_t read_in_place(const char *text, size_t len, const struct frame_limits *limits,
                     struct message_room *room, struct message *ret);

/* ---- core/src/qmp/tap.h ---- */

/*
 * QMP's lines on their way to a trace. Without one they cost a look at a flag.
 */

/* ---- core/src/qmp/secrets.h ---- */

/*
 * Messages of QMP without the secrets in them. Pure; any thread.
 */

struct text;

/* The same bytes, but *** for each secret (blockjob.h has which). It need not be JSON. NULL: no
 * memory. */
static struct text *secrets_mask(const char *bytes, size_t len);

static inline void qmp_tell_received(struct wire_tap *tap, const char *line, size_t len)
{
    if (wire_is_tapped(tap))
        tap->line(tap, &(struct wire_line){.bytes = line, .len = len, .mask = secrets_mask});
}

/* The line has the end that QEMU reads. */
static inline void qmp_tell_sent(struct wire_tap *tap, const char *line, size_t len)
{
    if (!wire_is_tapped(tap))
        return;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    tap->line(
        tap, &(struct wire_line){.is_sent = true, .bytes = line, .len = len, .mask = secrets_mask});
}

/* --------------------------------------------------------------------- ending */

/* Later, because those who call us are still reading from it. */
static void run_free(struct loop_task *task)
{
    struct qmp *qmp = container_of(task, struct qmp, free_task);

    command_set_unref(qmp->ctx, qmp->commands);
    made_up_ends_clear(&qmp->made_up_ends);
    text_unref(qmp->version);
    text_unref(qmp->uri);
    ctx_unref(qmp->ctx);
    free(qmp);
}

/* Ends the connection and answers everything; the rest of the stack may still touch qmp. */
static void hang_up(struct qmp *qmp, int error, const char *text)
{
    qmp->stage = QMP_DOWN;
    if (qmp->dial)
        dial_cancel(qmp->dial);
    qmp->dial = NULL;
    loop_io_free(qmp->io);
    qmp->io = NULL;
    if (qmp->fd >= 0 && !qmp->is_duplicate)
        shutdown(qmp->fd, SHUT_RDWR); /* a forked child may hold it, and so QEMU's monitor */
    if (qmp->fd >= 0)
        close(qmp->fd);
    qmp->fd = -1;
    frame_clear(&qmp->frame);

    outbox_fail(&qmp->outbox, error, text);
    qmp_fail_waiting_graph(qmp, error, text);

    qmp->free_task.run = run_free;
    if (!loop_post(qmp->ctx->loop, &qmp->free_task))
        run_free(&qmp->free_task);
}

static void qmp_go_down(struct qmp *qmp, int error, struct text *text)
{
    hang_up(qmp, error, text_str(text));
    qmp->sink->down(qmp->user, error, text);
}

static void qmp_close(struct driver *driver, int error, const char *text)
{
    hang_up(qmp_of(driver), error, text);
}

/* -------------------------------------------------------------------- sending */

static void run_refuse(struct loop_task *task)
{
    struct qmp *qmp = container_of(task, struct qmp, refuse_task);
    qmp->refusing = false;
    outbox_refuse_unsendable(&qmp->outbox, qmp_uri(qmp));
    if (qmp->stage != QMP_DOWN)
        qmp_query_waiting_graph(qmp); /* no reply will come to tell that its turn is now */
}

/* Later: those who asked for it have not returned. */
static void refuse_unsendable(struct qmp *qmp)
{
    qmp->refuse_task.run = run_refuse;
    if (qmp->outbox.unsendable && !qmp->refusing)
        qmp->refusing = loop_post(qmp->ctx->loop, &qmp->refuse_task);
}

static void flush(struct qmp *qmp)
{
    bool blocked = !outbox_write(&qmp->outbox, qmp->fd);
    loop_io_want(qmp->io, blocked ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    refuse_unsendable(qmp);
}

static void qmp_submit(struct qmp *qmp, struct command *command, struct driver_request *request)
{
    outbox_put(&qmp->outbox, command, request);
    flush(qmp);
}

static int qmp_ask(struct qmp *qmp, struct driver_request *request, const char *name,
            const char *arguments, bool urgent)
{
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct command *command = command_new(&qmp->outbox, name, arguments, urgent);
    if (!command)
        return BJ_E_NOMEM;
    qmp_submit(qmp, command, request);
    return BJ_OK;
}

/* -------------------------------------------------------------------- replies */

static const json_t *qmp_reply_value(struct driver_reply *reply)
{
    if (reply->error != BJ_OK)
        return NULL;
    const json_t *value = message_value(reply->message);
    if (!value) {
        reply->error = BJ_E_NOMEM;
        reply->text = bj_error_text(BJ_E_NOMEM);
    }
    return value;
}

static void read_reply(struct qmp *qmp, struct message *message)
{
    struct command *command = outbox_match(&qmp->outbox, message, qmp_knows_command, qmp);
    if (!command) {
        ctx_log(qmp->ctx, "%s sent a reply to a command that is not under way", qmp_uri(qmp));
        return;
    }
    bool refused = message->kind == MESSAGE_ERROR;
    struct driver_reply reply = {
        .error = refused ? BJ_E_REFUSED : BJ_OK,
        .refusal = refused && strcmp(message->name, QMP_NO_SUCH_JOB) == 0 ? VERDICT_NO_SUCH_JOB
                                                                          : VERDICT_REFUSED,
        .error_class = message->name,
        .text = message->text,
        .json = message->raw,
        .json_len = message->raw_len,
        .message = message,
    };
    command_answer(command, &reply);
    if (qmp->stage != QMP_DOWN)
        flush(qmp);
    if (qmp->stage != QMP_DOWN)
        qmp_query_waiting_graph(qmp);
    if (qmp->stage != QMP_DOWN && !qmp_is_owed(&qmp->driver))
        qmp->sink->settled(qmp->user);
}

/* Before it is up nobody can hold a job, and it is not known yet what this QEMU tells. */
static void qmp_connection__read_event(struct qmp *qmp, const struct message *message)
{
    struct fact fact;

    if (qmp->stage != QMP_UP)
        return;
    bool is_fact = qmp_read_fact(message, &fact);
    if (is_fact && made_up_ends_take(&qmp->made_up_ends, &fact))
        return;
    if (qmp->sink->wants_events(qmp->user))
        qmp->sink->event(qmp->user, message->name, message->raw, message->raw_len,
                         message->timestamp_us);
    if (is_fact)
        qmp->sink->fact(qmp->user, &fact);
}

/* -------------------------------------------------------------------- reading */

static void read_message(struct qmp *qmp, struct message *message)
{
    if (message->kind == MESSAGE_EVENT)
        qmp_connection__read_event(qmp, message);
    else if (message->kind != MESSAGE_GREETING && qmp->stage > QMP_GREETING)
        read_reply(qmp, message);
    else if (message->kind == MESSAGE_GREETING && qmp->stage == QMP_GREETING)
        qmp_read_greeting(qmp, message);
    else /* QEMU gives us what it owed to the client before: 60 of 5,000 quick reconnects to 7.2 */
        ctx_log(qmp->ctx, "%s sent what does not belong there", qmp_uri(qmp));
    message_clear(message);
}

static int read_in_buffer(void *user, const char *bytes, size_t len, size_t *ret_used)
{
    struct qmp *qmp = user;
    struct message_room room;
    struct message message;

    *ret_used = read_in_place(bytes, len, &qmp->frame.limits, &room, &message);
    if (*ret_used > 0) {
        qmp_tell_received(qmp->tap, bytes, *ret_used);
        read_message(qmp, &message);
    }
    return qmp->stage == QMP_DOWN ? BJ_E_CLOSED : 0;
}

/* The tree of a message with so many tokens may take 16 MiB and more. malloc would keep them. */
#define TOKENS_OF_A_LARGE_TREE 65536

static void give_memory_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static int read_whole(void *user, char *text, size_t len)
{
    struct qmp *qmp = user;
    size_t tokens = qmp->frame.tokens; /* as long as the connection lives */
    struct message_room room;
    struct message message;
    const char *reason = NULL;

    qmp_tell_received(qmp->tap, text, len);
    if (read_in_place(text, len, &qmp->frame.limits, &room, &message) == 0) {
        int r = message_parse(text, len, &message, &reason);
        if (r != BJ_OK) {
            qmp_go_down(qmp, r, text_printf("%s sent %s", qmp_uri(qmp), reason));
            return r;
        }
    }
    read_message(qmp, &message);
    if (tokens >= TOKENS_OF_A_LARGE_TREE)
        give_memory_back();
    return qmp->stage == QMP_DOWN ? BJ_E_CLOSED : 0;
}

/* Mostly ECONNRESET, even when QEMU quits in peace. */
static void end_of_stream(struct qmp *qmp, int error)
{
    const char *what = qmp->stage == QMP_UP ? "QEMU has ended, or closed this monitor"
                                            : "it was closed before the negotiation was over";
    if (error)
        qmp_go_down(qmp, BJ_E_DISCONNECTED,
                    text_printf("the connection to %s is over: %s (%s)", qmp_uri(qmp), what,
                                strerror(error)));
    else
        qmp_go_down(qmp, BJ_E_DISCONNECTED,
                    text_printf("the connection to %s is over: %s", qmp_uri(qmp), what));
}

static void qmp_connection__feed(struct qmp *qmp, size_t len)
{
    const char *reason = NULL;
    const struct frame_reader reader = {
        .read = read_whole,
        .read_in_place = read_in_buffer,
        .user = qmp,
    };
    int r = frame_feed(&qmp->frame, qmp->ctx->read_buffer, len, &reader, &reason);

    if (r == 0 || qmp->stage == QMP_DOWN)
        return;
    if (r == BJ_E_PROTOCOL)
        qmp_go_down(qmp, r,
                    text_printf("%s sent %s: it does not speak QMP, or not within the limits",
                                qmp_uri(qmp), reason));
    else
        qmp_go_down(qmp, r, text_printf("%s", bj_error_text(r)));
}

static void on_ready(void *user, int events)
{
    struct qmp *qmp = user;

    if (events & LOOP_READ) {
        ssize_t n = recv(qmp->fd, qmp->ctx->read_buffer, READ_BUFFER, MSG_DONTWAIT);
        int error = errno;

        /* Who began to watch before QEMU sent this is to see it, however late we got to run. */
        if (!loop_run_posted(qmp->ctx->loop) || qmp->stage == QMP_DOWN)
            return;
        if (n > 0)
            qmp_connection__feed(qmp, (size_t)n);
        else if (n == 0)
            end_of_stream(qmp, 0);
        else if (error != EAGAIN && error != EWOULDBLOCK && error != EINTR)
            end_of_stream(qmp, error);
    }
    if ((events & LOOP_WRITE) && qmp->stage != QMP_DOWN)
        flush(qmp);
}

/* -------------------------------------------------------------------- opening */

/* SCM_RIGHTS does. */
static bool passes_descriptors(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

static void on_dialled(void *user, int fd, struct text *text)
{
    struct qmp *qmp = user;
    qmp->driver.is_absent = dial_found_nobody(qmp->dial);
    dial_cancel(qmp->dial);
    qmp->dial = NULL;

    if (fd < 0) {
        qmp_go_down(qmp, fd, text);
        return;
    }
    qmp->fd = fd;
    qmp->driver.peer = peer_process(fd);
    if (!qmp->is_duplicate) /* else whoever made it need not be QEMU */
        peer_identify(fd, qmp->driver.peer, &qmp->driver.identity);
    qmp->passes_descriptors = passes_descriptors(fd);
    qmp->stage = QMP_GREETING;
    int r = loop_io_new(qmp->ctx->loop, fd, LOOP_READ, on_ready, qmp, &qmp->io);
    if (r != BJ_OK)
        qmp_go_down(qmp, r, dial_no_means(qmp_uri(qmp), r, errno));
}

/* Another number for each connection: replies to the client before may still come to us. */
static uint64_t first_id(bj_ctx *ctx)
{
    uint64_t connection = ctx->job_id_prefix + ++ctx->connections;
    return ((connection & 0x7fffffff) << 32) + 1;
}

static const struct driver_ops qmp_ops = {
    .execute = qmp_execute,
    .transaction = qmp_transaction,
    .verb = qmp_verb,
    .prepare = qmp_prepare,
    .unprepare = qmp_unprepare,
    .query = qmp_query,
    .take_snapshot = qmp_take_snapshot,
    .compare_snapshot = qmp_compare_snapshot,
    .free_snapshot = qmp_free_snapshot,
    .hold_snapshot = qmp_hold_snapshot,
    .write_snapshot = qmp_write_snapshot,
    .read_snapshot = qmp_read_snapshot,
    .withdraw = qmp_withdraw,
    .abandon = qmp_abandon,
    .is_owed = qmp_is_owed,
    .has_command = qmp_has,
    .is_verb = qmp_is_verb,
    .make_up_end = qmp_make_up_end,
    .plan_start = qmp_plan_start,
    .id_of = qmp_id_of,
    .probe = qmp_probe,
    .takes = qmp_takes,
    .stage = qmp_stage,
    .close = qmp_close,
};

static struct driver *qmp_open(bj_ctx *ctx, const char *uri, struct address *address, bool out_of_band,
                        const struct driver_sink *sink, void *user)
{
    struct qmp *qmp = calloc(1, sizeof *qmp);
    if (!qmp) {
        address_clear(address);
        return NULL;
    }
    qmp->driver.ops = &qmp_ops;
    qmp->sink = sink;
    qmp->user = user;
    qmp->uri = text_printf("%s", uri);
    qmp->tap = sink->tap(user);
    qmp->fd = -1;
    qmp->is_duplicate = address->kind == ADDRESS_FD;
    qmp->wants_out_of_band = out_of_band;
    outbox_init(&qmp->outbox, first_id(ctx), qmp->tap, (size_t)ctx_limit(ctx, BJ_LIMIT_IN_FLIGHT),
                (size_t)ctx_limit(ctx, BJ_LIMIT_QUEUED));
    frame_init(&qmp->frame, &(struct frame_limits){
                                .bytes = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_BYTES),
                                .tokens = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_TOKENS),
                                .nesting = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_NESTING),
                            });
    qmp->dial = dial_start(ctx, address, uri, on_dialled, qmp);
    if (!qmp->dial) {
        text_unref(qmp->uri);
        free(qmp);
        return NULL;
    }
    qmp->ctx = ctx_ref(ctx);
    return &qmp->driver;
}
#undef TOKENS_OF_A_LARGE_TREE
/* ---- core/src/qmp/dial.c ---- */

/*
 * Connecting; see dial.h.
 */

/* ---- core/src/qmp/lookup.h ---- */

/*
 * Host names: looked up by threads, as getaddrinfo() blocks, for half a minute where no name server
 * answers. The process has a few of them at a time; further names wait their turn.
 */

struct addrinfo;
struct lookup;

/* The addresses are the callee's. Else `error` is a bj_error, and *text, a reference, the reason.
 */
typedef void lookup_done(void *user, int error, struct addrinfo *found, struct text *text);

/* The loop's thread. `done` is called once, later, there. BJ_E_NOMEM; BJ_E_SYSTEM: no thread. */
static int lookup_start(bj_ctx *ctx, const char *host, const char *port, lookup_done *done, void *user,
                 struct lookup **ret);

/* Before `done` was called: it will not be. One that waits its turn goes; one under way keeps its
 * thread until getaddrinfo() returns. */
static void lookup_cancel(struct lookup *lookup);

/* An address in figures, at once; NULL: it is none. */
static struct addrinfo *lookup_figures(const char *host, const char *port);

/* A UNIX socket whose backlog is full says EAGAIN and nothing tells when it no longer is (B47). */
#define RETRY_MS 20

struct dial {
    bj_ctx *ctx;
    struct address address;
    char *uri;
    void (*done)(void *user, int fd, struct text *text);
    void *user;

    struct loop_timer *timer; /* begins, and tries again */
    struct lookup *lookup;    /* of the host's name */
    struct addrinfo *found;
    const struct addrinfo *next; /* to be tried */
    int fd;                      /* connecting; -1 */
    struct loop_io *io;
    bool found_nobody;
};

/* A forked child may hold it, and so QEMU's monitor: hung up on, not only closed. */
static void drop_socket(struct dial *dial)
{
    loop_io_free(dial->io);
    dial->io = NULL;
    if (dial->fd >= 0) {
        shutdown(dial->fd, SHUT_RDWR);
        close(dial->fd);
    }
    dial->fd = -1;
}

static void dial_cancel(struct dial *dial)
{
    drop_socket(dial);
    if (dial->lookup)
        lookup_cancel(dial->lookup);
    if (dial->found)
        freeaddrinfo(dial->found);
    loop_timer_free(dial->timer);
    address_clear(&dial->address);
    free(dial->uri);
    free(dial);
}

static const char *dial_looks_up(const struct dial *dial)
{
    return dial->lookup ? dial->address.host : NULL;
}

static const char *remedy(int error)
{
    switch (error) {
    case ENOENT:
        return ": is QEMU running, with a -qmp for this path?";
    case ECONNREFUSED:
        return ": nobody listens there; QEMU may have ended";
    case EMFILE:
        return ": close files, or raise the limit of open files (ulimit -n)";
    case ENFILE:
        return ": the whole system has too many (fs.file-max)";
    case ENOSPC: /* epoll_ctl() */
        return ": raise the limit of what epoll watches for a user (fs.epoll.max_user_watches)";
    case EACCES:
    case EPERM:
        return ": connecting needs write permission on the socket and search permission on its folder";
    default:
        return "";
    }
}

static bool is_absence(int error)
{
    switch (error) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static bool dial_found_nobody(const struct dial *dial)
{
    return dial->found_nobody;
}

/* An address that does not do. */
static void qmp_dial__fail(struct dial *dial, int error)
{
    dial->found_nobody = is_absence(error);
    dial->done(dial->user, BJ_E_CONNECT,
               text_printf("can't connect to %s: %s%s", dial->uri, strerror(error), remedy(error)));
}

static struct text *dial_no_means(const char *uri, int error, int system_error)
{
    return error == BJ_E_NOMEM ? text_printf("out of memory")
                               : text_printf("the system lacks the means to connect to %s: %s%s",
                                             uri, strerror(system_error), remedy(system_error));
}

/* Nothing that another address would mend. */
static void qmp_dial__give_up(struct dial *dial, int error, int system_error)
{
    dial->done(dial->user, error, dial_no_means(dial->uri, error, system_error));
}

static void try_next(struct dial *dial, int error);

static void connected(struct dial *dial)
{
    int fd = dial->fd;
    int on = 1;

    loop_io_free(dial->io);
    dial->io = NULL;
    dial->fd = -1;
    if (dial->address.kind == ADDRESS_TCP)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    dial->done(dial->user, fd, NULL);
}

static void on_writable(void *user, int events)
{
    (void)events;
    struct dial *dial = user;
    int error = 0;
    socklen_t len = sizeof error;

    getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error == 0)
        connected(dial);
    else
        try_next(dial, error);
}

static void try_connect(struct dial *dial, int family, const struct sockaddr *address,
                        socklen_t len)
{
    dial->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (dial->fd < 0) {
        if (errno == EAFNOSUPPORT)
            try_next(dial, errno);
        else
            qmp_dial__give_up(dial, BJ_E_SYSTEM, errno);
        return;
    }
    int r = connect(dial->fd, address, len);
    if (r == 0) {
        connected(dial);
        return;
    }
    if (errno == EAGAIN && family == AF_UNIX) {
        drop_socket(dial);
        loop_timer_set(dial->timer, RETRY_MS);
        return;
    }
    if (errno != EINPROGRESS && errno != EINTR) {
        try_next(dial, errno);
        return;
    }
    r = loop_io_new(dial->ctx->loop, dial->fd, LOOP_WRITE, on_writable, dial, &dial->io);
    if (r != BJ_OK)
        qmp_dial__give_up(dial, r, errno);
}

/* The next address of a host that has several; `error` is why the one before did not do. */
static void try_next(struct dial *dial, int error)
{
    drop_socket(dial);

    const struct addrinfo *next = dial->next;
    if (!next) {
        qmp_dial__fail(dial, error);
        return;
    }
    dial->next = next->ai_next;
    try_connect(dial, next->ai_family, next->ai_addr, next->ai_addrlen);
}

/* -------------------------------------------------------------------- start */

static void try_found(struct dial *dial, struct addrinfo *found)
{
    dial->found = found;
    dial->next = found;
    try_next(dial, EHOSTUNREACH);
}

static void on_looked_up(void *user, int error, struct addrinfo *found, struct text *text)
{
    struct dial *dial = user;
    dial->lookup = NULL;
    if (error != BJ_OK)
        dial->done(dial->user, error, text);
    else
        try_found(dial, found);
}

static void begin_tcp(struct dial *dial)
{
    const struct address *address = &dial->address;
    struct addrinfo *found = lookup_figures(address->host, address->port);
    if (found) {
        try_found(dial, found);
        return;
    }
    int r =
        lookup_start(dial->ctx, address->host, address->port, on_looked_up, dial, &dial->lookup);
    if (r != BJ_OK)
        qmp_dial__give_up(dial, r, EAGAIN);
}

static void qmp_dial__begin(void *user)
{
    struct dial *dial = user;

    switch (dial->address.kind) {
    case ADDRESS_UNIX:
        try_connect(dial, AF_UNIX, (const struct sockaddr *)&dial->address.path,
                    sizeof dial->address.path);
        break;
    case ADDRESS_TCP:
        begin_tcp(dial);
        break;
    case ADDRESS_FD:
        dial->fd = dial->address.fd;
        dial->address.fd = -1;
        connected(dial);
        break;
    case ADDRESS_LIBVIRT: /* has a driver of its own */
        break;
    }
}

static struct dial *dial_start(bj_ctx *ctx, struct address *address, const char *uri,
                        void (*done)(void *user, int fd, struct text *text), void *user)
{
    struct dial *dial = calloc(1, sizeof *dial);
    if (!dial) {
        address_clear(address);
        return NULL;
    }
    dial->ctx = ctx;
    dial->address = *address;
    *address = (struct address){.fd = -1};
    dial->done = done;
    dial->user = user;
    dial->fd = -1;
    dial->uri = strdup(uri);
    dial->timer = loop_timer_new(ctx->loop, qmp_dial__begin, dial);
    if (!dial->uri || !dial->timer) {
        dial_cancel(dial);
        return NULL;
    }
    loop_timer_set(dial->timer, 0);
    return dial;
}
#undef RETRY_MS
/* ---- core/src/qmp/frame.c ---- */

/*
 * The framing of QMP; see frame.h.
 */

static void frame_init(struct frame *frame, const struct frame_limits *limits)
{
    *frame = (struct frame){.limits = *limits};
}

static void frame_clear(struct frame *frame)
{
    free(frame->data);
    frame_init(frame, &(struct frame_limits){0});
}

static bool frame_is_empty(const struct frame *frame)
{
    return frame->nesting == 0;
}

static bool qmp_frame__is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int count_token(struct frame *frame, const char **ret_reason)
{
    if (++frame->tokens <= frame->limits.tokens)
        return 0;
    *ret_reason = "a message with more tokens than the limit";
    return BJ_E_PROTOCOL;
}

static int open_nesting(struct frame *frame, const char **ret_reason)
{
    frame->in_scalar = false;
    if (++frame->nesting > frame->limits.nesting) {
        *ret_reason = "a message nested deeper than the limit";
        return BJ_E_PROTOCOL;
    }
    return count_token(frame, ret_reason);
}

static void scan_in_string(struct frame *frame, char c)
{
    if (frame->in_escape)
        frame->in_escape = false;
    else if (c == '\\')
        frame->in_escape = true;
    else if (c == '"')
        frame->in_string = false;
}

/* Takes the scanner over one byte inside a message. */
static int scan(struct frame *frame, char c, const char **ret_reason)
{
    if (frame->in_string) {
        scan_in_string(frame, c);
        return 0;
    }

    switch (c) {
    case '{':
    case '[':
        return open_nesting(frame, ret_reason);
    case '}':
    case ']':
        frame->in_scalar = false;
        frame->nesting--;
        return 0;
    case '"':
        frame->in_scalar = false;
        frame->in_string = true;
        return count_token(frame, ret_reason);
    case ',':
    case ':':
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        frame->in_scalar = false;
        return 0;
    default:
        if (frame->in_scalar)
            return 0;
        frame->in_scalar = true;
        return count_token(frame, ret_reason);
    }
}

/* Where the message that begins at, or goes on with, bytes[0] ends: *ret_used bytes belong to it,
 * *ret_whole if its last one is among them. */
static int measure(struct frame *frame, const char *bytes, size_t len, size_t *ret_used,
                   bool *ret_whole, const char **ret_reason)
{
    size_t used = 0;
    int r = 0;

    do
        r = scan(frame, bytes[used++], ret_reason);
    while (r == 0 && frame->nesting > 0 && used < len);

    if (r == 0 && frame->len + used > frame->limits.bytes) {
        *ret_reason = "a message longer than the limit";
        r = BJ_E_PROTOCOL;
    }
    *ret_used = used;
    *ret_whole = frame->nesting == 0;
    return r;
}

static int qmp_frame__keep(struct frame *frame, const char *bytes, size_t len)
{
    if (frame->capacity - frame->len < len) {
        size_t capacity = frame->capacity * 2;
        if (capacity > frame->limits.bytes)
            capacity = frame->limits.bytes;
        if (capacity < frame->len + len)
            capacity = frame->len + len;
        char *data = realloc(frame->data, capacity);
        if (!data)
            return BJ_E_NOMEM;
        frame->data = data;
        frame->capacity = capacity;
    }
    memcpy(frame->data + frame->len, bytes, len);
    frame->len += len;
    return 0;
}

/* Hands over the message that ends with these bytes: straight from the reader's buffer when it
 * all lies there, else from ours, which is given back at once so that idle monitors cost nothing.
 */
static int emit(struct frame *frame, char *bytes, size_t len, const struct frame_reader *reader)
{
    int r;
    if (!frame->data) {
        r = reader->read(reader->user, bytes, len);
        frame->tokens = 0;
        return r;
    }

    r = qmp_frame__keep(frame, bytes, len);
    char *text = frame->data;
    size_t text_len = frame->len;
    frame->data = NULL;
    frame->len = frame->capacity = 0;

    if (r == 0)
        r = reader->read(reader->user, text, text_len);
    frame->tokens = 0;
    free(text);
    return r;
}

/* What begins, or goes on, with bytes[0]. */
static int take_bytes(struct frame *frame, char *bytes, size_t len,
                      const struct frame_reader *reader, size_t *ret_used, const char **ret_reason)
{
    bool whole;
    int r = measure(frame, bytes, len, ret_used, &whole, ret_reason);
    if (r != 0)
        return r;
    return whole ? emit(frame, bytes, *ret_used, reader) : qmp_frame__keep(frame, bytes, *ret_used);
}

/* The same between messages. */
static int take_message(struct frame *frame, char *bytes, size_t len,
                        const struct frame_reader *reader, size_t *ret_used,
                        const char **ret_reason)
{
    *ret_used = 0;
    if (qmp_frame__is_space(bytes[0])) {
        *ret_used = 1;
        return 0;
    }
    if (bytes[0] != '{') {
        *ret_reason = "something that is not a JSON object";
        return BJ_E_PROTOCOL;
    }
    int r = reader->read_in_place ? reader->read_in_place(reader->user, bytes, len, ret_used) : 0;
    return r != 0 || *ret_used > 0 ? r
                                   : take_bytes(frame, bytes, len, reader, ret_used, ret_reason);
}

static int frame_feed(struct frame *frame, char *bytes, size_t len, const struct frame_reader *reader,
               const char **ret_reason)
{
    int r = 0;
    for (size_t at = 0, used; r == 0 && at < len; at += used) {
        bool is_between = frame->nesting == 0;
        r = is_between ? take_message(frame, bytes + at, len - at, reader, &used, ret_reason)
                       : take_bytes(frame, bytes + at, len - at, reader, &used, ret_reason);
    }
    return r;
}
/* ---- core/src/qmp/handshake.c ---- */

/*
 * The negotiation of a QMP connection, and what it finds out about the QEMU.
 */

static struct text *qmp_stage(struct driver *driver, int64_t timeout_ms)
{
    struct qmp *qmp = qmp_of(driver);
    double seconds = (double)timeout_ms / 1000.;
    const char *host = qmp->dial ? dial_looks_up(qmp->dial) : NULL;

    if (host)
        return text_printf("no connection to %s within %.10g s: the name %s is still being looked "
                           "up: is the name server there?",
                           qmp_uri(qmp), seconds, host);
    switch (qmp->stage) {
    case QMP_CONNECTING:
        return text_printf(
            "no connection to %s within %.10g s: QEMU does not accept; another client "
            "may hold this monitor and others wait before us",
            qmp_uri(qmp), seconds);
    case QMP_GREETING:
        return text_printf(
            "no greeting from %s within %.10g s: another client may hold this monitor "
            "(QEMU serves one at a time: start it with a second -qmp), or it is no QMP "
            "socket, or QEMU is stopped",
            qmp_uri(qmp), seconds);
    default:
        return text_printf("%s greeted, but did not finish the negotiation within %.10g s: QEMU is "
                           "stopped or stuck",
                           qmp_uri(qmp), seconds);
    }
}

static void handshake_failed(struct qmp *qmp, const struct driver_reply *reply)
{
    if (reply->error == BJ_E_REFUSED)
        qmp_go_down(qmp, BJ_E_PROTOCOL,
                    text_printf("%s refused the negotiation: %s", qmp_uri(qmp), reply->text));
    else if (qmp->stage != QMP_DOWN)
        qmp_go_down(qmp, reply->error, text_printf("%s", bj_error_text(reply->error)));
}

/* A schema beyond the program's limits would end the connection: then it is not asked for. */
#define SCHEMA_BYTES (512 * 1024)
#define SCHEMA_TOKENS (128 * 1024)

static bool can_read_schema(bj_ctx *ctx)
{
    return ctx_limit(ctx, BJ_LIMIT_MESSAGE_BYTES) >= SCHEMA_BYTES &&
           ctx_limit(ctx, BJ_LIMIT_MESSAGE_TOKENS) >= SCHEMA_TOKENS;
}

static const char reopen_hint[] =
    "this QEMU pivots by " QMP_REOPEN ", for which the target and its format are not known here: "
    "bj_monitor_execute() it";

static void find_capabilities(struct qmp *qmp)
{
    bool has_status = qmp_knows_command(qmp, "query-jobs");

    qmp->driver.capabilities = (struct capabilities){
        .has_status = has_status,
        .has_graph = qmp_knows_command(qmp, "x-debug-query-block-graph"),
        .has_dismiss = qmp_verb_command(VERB_DISMISS, "", qmp_knows_command, qmp) != NULL,
        .has_ready_event = has_status || qmp_knows_command(qmp, "block-job-complete"),
        .hides_pauses = !has_status,
        .is_silent = qmp_knows_command(qmp, "block_job_cancel"),
        .no_repeats = qmp_knows_command(qmp, "__com.redhat_drive-mirror"),
        .passes_descriptors = qmp->passes_descriptors,
        .offers_out_of_band = qmp->offers_out_of_band,
        .executes_out_of_band = qmp->outbox.reads_ahead,
        .no_such_job_class = QMP_NO_SUCH_JOB,
        .complete_hint = qmp_knows_command(qmp, QMP_REOPEN) ? reopen_hint : NULL,
    };
}

static void commands_known(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, handshake);
    if (reply->error != BJ_OK) {
        handshake_failed(qmp, reply);
        return;
    }
    qmp->commands = command_set_find(qmp->ctx, reply->json, reply->json_len);
    const json_t *value = qmp->commands ? NULL : qmp_reply_value(reply);
    if (value)
        qmp->commands = command_set_new(qmp->ctx, reply->json, reply->json_len, value);
    if (!qmp->commands) {
        qmp_go_down(qmp, BJ_E_NOMEM, text_printf("out of memory"));
        return;
    }
    find_capabilities(qmp);
    start_commands_init(&qmp->start_commands, qmp_knows_command, qmp);
    if (!can_read_schema(qmp->ctx))
        qmp->start_commands.known = true;
    qmp->complete = qmp_verb_command(VERB_COMPLETE, "", qmp_knows_command, qmp);
    qmp->stage = QMP_UP;
    qmp->sink->up(qmp->user, qmp->version);
}

static void ask_handshake(struct qmp *qmp, const char *command, const char *arguments,
                          void (*done)(struct driver_request *, struct driver_reply *))
{
    qmp->handshake.done = done;
    int r = qmp_ask(qmp, &qmp->handshake, command, arguments, false);
    if (r != BJ_OK)
        qmp_go_down(qmp, r, text_printf("%s", bj_error_text(r)));
}

/* Only for a program that asks for it: QEMU then reads commands ahead, and we send few at a time.
 */
static bool negotiates_out_of_band(const struct qmp *qmp)
{
    return qmp->wants_out_of_band && qmp->offers_out_of_band;
}

static void negotiated(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, handshake);
    if (reply->error != BJ_OK) {
        handshake_failed(qmp, reply);
        return;
    }
    if (negotiates_out_of_band(qmp))
        outbox_enable_out_of_band(&qmp->outbox);
    ask_handshake(qmp, "query-commands", NULL, commands_known);
}

static bool has_string(const json_t *array, const char *string)
{
    size_t i;
    const json_t *member;

    json_array_foreach(array, i, member)
    {
        const char *value = json_string_value(member);
        if (value && strcmp(value, string) == 0)
            return true;
    }
    return false;
}

static void qmp_read_greeting(struct qmp *qmp, const struct message *message)
{
    const json_t *version = json_object_get(json_object_get(message->value, "version"), "qemu");
    qmp->version =
        text_printf("%d.%d.%d", (int)json_integer_value(json_object_get(version, "major")),
                    (int)json_integer_value(json_object_get(version, "minor")),
                    (int)json_integer_value(json_object_get(version, "micro")));
    qmp->offers_out_of_band = has_string(json_object_get(message->value, "capabilities"), "oob");
    qmp->stage = QMP_NEGOTIATING;
    ask_handshake(qmp, "qmp_capabilities",
                  negotiates_out_of_band(qmp) ? "{\"enable\":[\"oob\"]}" : NULL, negotiated);
}
#undef SCHEMA_BYTES
#undef SCHEMA_TOKENS
/* ---- core/src/qmp/job_words.c ---- */

/*
 * QEMU's words for jobs; see job_words.h.
 */

/* "" if it is not there. */
static const char *qmp_job_words__string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* ------------------------------------------------------------------- events */

/* QEMU's ids and types are shorter than 128 bytes; a peer that sends more wants our memory. */
#define WORD_MAX 1024

static const char *qmp_job_words__word_of(const struct message *event, enum event_word word)
{
    return event->words[word] ? event->words[word] : "";
}

static const char *read_status(const struct message *event, struct fact *fact)
{
    fact->kind = FACT_STATUS;
    fact->status = job_status_of(qmp_job_words__word_of(event, WORD_STATUS));
    return qmp_job_words__word_of(event, WORD_ID);
}

static const char *read_block_job(const struct message *event, struct fact *fact)
{
    const char *id = qmp_job_words__word_of(event, WORD_DEVICE);
    fact->type = qmp_job_words__word_of(event, WORD_TYPE);
    return *id ? id : qmp_job_words__word_of(event, WORD_ID); /* PENDING's key is id (B42) */
}

static const char *stop_reason(const char *operation)
{
    if (strcmp(operation, "read") == 0)
        return "a read error stopped it: mend the source and resume it, or abort it with force";
    if (strcmp(operation, "write") == 0)
        return "a write error stopped it: make room or mend the target and resume it, or abort it "
               "with force";
    return "an I/O error stopped it: mend the cause and resume it, or abort it with force";
}

/* Of those that report their action as "report" the job ends by itself. */
static void read_error(const struct message *event, struct fact *fact)
{
    const char *operation = qmp_job_words__word_of(event, WORD_OPERATION);
    bool stops = strcmp(qmp_job_words__word_of(event, WORD_ACTION), "stop") == 0;

    fact->kind = stops ? FACT_STOPPED : FACT_IO_ERROR;
    fact->error = stops ? stop_reason(operation) : NULL;
    fact->writing = strcmp(operation, "write") == 0;
}

static bool qmp_read_fact(const struct message *event, struct fact *ret)
{
    const char *name = event->name;
    const char *id = "";

    *ret = (struct fact){.type = "", .timestamp_us = event->timestamp_us};

    if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
        id = read_status(event, ret);
    } else if (strncmp(name, "BLOCK_JOB_", 10) == 0) {
        id = read_block_job(event, ret);
        name += 10;
        if (strcmp(name, "READY") == 0) {
            ret->kind = FACT_READY;
        } else if (strcmp(name, "COMPLETED") == 0) {
            ret->kind = FACT_COMPLETED;
            ret->error = event->words[WORD_ERROR];
        } else if (strcmp(name, "CANCELLED") == 0) {
            ret->kind = FACT_CANCELLED;
        } else if (strcmp(name, "PENDING") == 0) {
            ret->kind = FACT_PENDING;
        } else if (strcmp(name, "ERROR") == 0) {
            read_error(event, ret);
        } else {
            return false;
        }
    }
    ret->id = id;
    return *id != '\0' && strlen(id) <= WORD_MAX && strlen(ret->type) <= WORD_MAX;
}

/* -------------------------------------------------------------------- verbs */

static bool is_block_job(const char *type)
{
    static const char *const types[] = {"", "mirror", "commit", "stream", "backup"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

enum { WORDS = 3 };
static const char *const words[][WORDS] = {
    /* 3.0; before, and deprecated since 10.1 (B38); RHEL 6.2 and 1.0.50 (B57) */
    [VERB_COMPLETE] = {"job-complete", "block-job-complete"},
    [VERB_CANCEL] = {"block-job-cancel", "block_job_cancel"}, /* job-cancel always forces */
    [VERB_FORCE] = {"job-cancel", "block-job-cancel", "block_job_cancel"},
    [VERB_PAUSE] = {"job-pause", "block-job-pause"},
    [VERB_RESUME] = {"job-resume", "block-job-resume"},
    [VERB_SET_SPEED] = {"block-job-set-speed", "block_job_set_speed"},
    [VERB_CHANGE] = {"block-job-change"},
    [VERB_FINALIZE] = {"job-finalize", "block-job-finalize"},
    [VERB_DISMISS] = {"job-dismiss", "block-job-dismiss"},
};

static const char *qmp_verb_command(enum verb verb, const char *type, qmp_has_command *has, void *user)
{
    if (verb == VERB_CANCEL && !is_block_job(type) && has(user, "job-cancel"))
        return "job-cancel"; /* a job without a disk knows no other */

    for (int i = 0; i < WORDS && words[verb][i]; i++)
        if (has(user, words[verb][i]))
            return words[verb][i];
    return NULL;
}

/* Force came with complete, in 1.3; who had neither refuses the word (B59). */
static bool knows_force(const char *command, qmp_has_command *has, void *user)
{
    return strcmp(command, "block-job-cancel") == 0 && has(user, "block-job-complete");
}

static char *qmp_verb_arguments(const char *command, enum verb verb, const char *id, int64_t speed,
                         qmp_has_command *has, void *user)
{
    bool takes_id = strncmp(command, "job-", 4) == 0 ||
                    strcmp(command, "block-job-finalize") == 0 ||
                    strcmp(command, "block-job-dismiss") == 0;
    const char *key = takes_id ? "id" : "device";
    bool is_underscored = strcmp(command, "block_job_set_speed") == 0;
    char *quoted = json_text_quote(id);
    char more[48] = "";
    if (!quoted)
        return NULL;
    if (verb == VERB_SET_SPEED)
        snprintf(more, sizeof more, ",\"%s\":%lld", is_underscored ? "value" : "speed",
                 (long long)speed);
    else if (verb == VERB_FORCE && knows_force(command, has, user))
        strcpy(more, ",\"force\":true");

    char *text = json_text_join((const char *[]){"{\"", key, "\":", quoted, more, "}"}, 6, NULL);
    free(quoted);
    return text;
}

static bool is_word_of(const char *command, enum verb verb)
{
    for (int i = 0; i < WORDS && words[verb][i]; i++)
        if (strcmp(words[verb][i], command) == 0)
            return true;
    return false;
}

static const char *qmp_verb_of(const char *command, const json_t *arguments, enum verb *ret_verb)
{
    const char *id = qmp_job_words__string_at(arguments, "id");
    if (!*id)
        id = qmp_job_words__string_at(arguments, "device");
    if (!*id)
        return NULL;
    if (strcmp(command, QMP_REOPEN) == 0) {
        *ret_verb = VERB_COMPLETE;
        return id;
    }
    int verb = VERB_COMPLETE;
    while (verb < VERB_COUNT && !is_word_of(command, (enum verb)verb))
        verb++;
    if (verb == VERB_COUNT)
        return NULL;
    bool forces = json_is_true(json_object_get(arguments, "force"));
    *ret_verb = verb == VERB_CANCEL && forces ? VERB_FORCE : (enum verb)verb;
    return id;
}

static char *qmp_change_arguments(const char *id, const char *type, const char *options)
{
    json_t *given = json_text_object(options, NULL); /* was one when it was asked */
    bool adds_type = *type && !json_object_get(given, "type");
    json_decref(given);

    char *quoted_id = json_text_quote(id);
    char *quoted_type = adds_type ? json_text_quote(type) : strdup("");
    char *members = NULL, *text = NULL;
    if (quoted_id && quoted_type)
        members = json_text_join(
            (const char *[]){"\"id\":", quoted_id, adds_type ? ",\"type\":" : "", quoted_type}, 4,
            NULL);
    if (members)
        text = json_text_add_members(options, members);
    free(members);
    free(quoted_type);
    free(quoted_id);
    return text;
}

/* --------------------------------------------------------------------- rows */

/* strdup(), with "" for what is not there. NULL: no memory. */
static const char *qmp_job_words__copy(const char *s)
{
    return *s ? strdup(s) : "";
}

static int64_t integer_at(const json_t *object, const char *key, int64_t missing)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : missing;
}

/* A fact that only query-block-jobs tells, or both; what `block` says is nearer to the job. */
static const char *either(const json_t *block, const json_t *job, const char *key)
{
    const char *value = qmp_job_words__string_at(block, key);
    return *value ? value : qmp_job_words__string_at(job, key);
}

/* current == total means "ready" to everyone who looks; so it is not shown while it does not (B25).
 */
static void show_unready(bj_job_info *row)
{
    bool can_be_ready = strcmp(row->type, "mirror") == 0 || strcmp(row->type, "commit") == 0;
    bool ends = job_status_of(row->status) >= STATUS_WAITING;

    if (!can_be_ready || row->ready || ends || row->current != row->total || row->current < 0)
        return;
    if (row->current > 0)
        row->current--;
    else
        row->total = 1;
}

/* A QEMU before 2.2 does not say ready: of a mirror, equal and not empty is a sign of it, and on
 * RHEL 6.3 the only one (B26). A commit may be one that never is ready. */
static void show_old(bj_job_info *row)
{
    bool is_mirror = strcmp(row->type, "mirror") == 0;

    row->ready = is_mirror && row->current == row->total && row->total > 0;
    if (is_mirror && row->total == 0)
        row->total = 1; /* it has not begun: 0 == 0 would say that it is done (B25) */
}

/* strerror(ECANCELED): the error of a job that was cancelled (B21). */
#define CANCELLED "Operation canceled"

static bool has_io_error(const bj_job_info *row)
{
    return row->paused && *row->io_status && strcmp(row->io_status, "ok") != 0;
}

/* "" for a word that is too long to be one (WORD_MAX). */
static const char *word(const char *value)
{
    return strlen(value) <= WORD_MAX ? value : "";
}

static bool fill_info(bj_job_info *row, const json_t *block, const json_t *job)
{
    const char *id = word(qmp_job_words__string_at(job, "id"));
    const char *status = word(either(block, job, "status"));
    enum status known = job_status_of(status);

    *row = (bj_job_info){
        .id = qmp_job_words__copy(*id ? id : word(qmp_job_words__string_at(block, "device"))),
        .type = qmp_job_words__copy(word(either(block, job, "type"))),
        .status = qmp_job_words__copy(status),
        .error = qmp_job_words__copy(either(block, job, "error")),
        .io_status = qmp_job_words__copy(word(qmp_job_words__string_at(block, "io-status"))),
        .current = integer_at(block, "offset", integer_at(job, "current-progress", -1)),
        .total = integer_at(block, "len", integer_at(job, "total-progress", -1)),
        .speed = integer_at(block, "speed", -1),
        .ready = json_is_true(json_object_get(block, "ready")) || known == STATUS_READY ||
                 known == STATUS_STANDBY,
        .paused = json_is_true(json_object_get(block, "paused")) || known == STATUS_PAUSED ||
                  known == STATUS_STANDBY,
        .auto_dismiss = json_is_true(json_object_get(block, "auto-dismiss")),
        .auto_finalize = json_is_true(json_object_get(block, "auto-finalize")),
    };
    if (!row->id || !row->type || !row->status || !row->error || !row->io_status)
        return false;
    if (json_object_get(block, "ready") || *status)
        show_unready(row);
    else
        show_old(row);
    return true;
}

static bool fill_row(struct job_row *row, const json_t *block, const json_t *job)
{
    if (!fill_info(&row->info, block, job))
        return false;
    row->was_cancelled = strcmp(row->info.error, CANCELLED) == 0;
    row->has_io_error = has_io_error(&row->info);
    row->lacks_space = row->has_io_error && strcmp(row->info.io_status, "nospace") == 0;
    return true;
}

static bool is_kept(const struct row_filter *filter, size_t index, const char *id)
{
    return index < filter->limit || (filter->wants_row && filter->wants_row(filter->user, id));
}

/* query-block-jobs by id, so that a long list costs no more than its length. NULL: no memory. */
static json_t *index_devices(const json_t *block_jobs, const struct row_filter *filter)
{
    json_t *index = json_object();
    for (size_t i = 0; index && i < json_array_size(block_jobs); i++) {
        json_t *row = json_array_get(block_jobs, i);
        const char *id = qmp_job_words__string_at(row, "device");
        if (is_kept(filter, i, id) && json_object_set(index, id, row) != 0) {
            json_decref(index);
            return NULL;
        }
    }
    return index;
}

static bool add_row(struct job_list *list, const json_t *block, const json_t *job)
{
    struct job_row *rows = list->rows;
    if ((list->count & (list->count - 1)) == 0) /* a power of two: it is full */
        rows = reallocarray(list->rows, list->count ? 2 * list->count : 1, sizeof *rows);
    if (!rows)
        return false;
    list->rows = rows;
    rows[list->count] = (struct job_row){0};
    return fill_row(&rows[list->count++], block, job); /* also a half-filled one is freed with it */
}

/* query-jobs lists every job; before 3.0 query-block-jobs did. What that says of a device is told
 * of one job: copied for each of many rows of its name it would cost far more than the peer has
 * sent. */
static bool add_rows(struct job_list *list, json_t *devices, const json_t *block_jobs,
                     const json_t *jobs, const struct row_filter *filter)
{
    const json_t *rows = jobs ? jobs : block_jobs;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *id = qmp_job_words__string_at(row, jobs ? "id" : "device");
        if (!is_kept(filter, i, id))
            continue;
        list->is_cut = list->count >= 2 * filter->limit; /* the same ids again and again */
        if (list->is_cut)
            break;
        const json_t *block = jobs ? json_object_get(devices, id) : row;
        if (!add_row(list, block, jobs ? row : NULL))
            return false;
        if (jobs && block)
            json_object_del(devices, id);
    }
    return true;
}

static struct job_list *qmp_read_rows(const json_t *block_jobs, const json_t *jobs,
                               const struct row_filter *filter)
{
    struct job_list *list = calloc(1, sizeof *list);
    json_t *devices = list ? index_devices(block_jobs, filter) : NULL;
    bool whole = devices && add_rows(list, devices, block_jobs, jobs, filter);
    json_decref(devices);
    if (whole)
        return list;
    job_list_free(list);
    return NULL;
}
#undef WORD_MAX
#undef CANCELLED
/* ---- core/src/qmp/lookup.c ---- */

/*
 * Host names; see lookup.h.
 */

#define THREADS_MAX 16 /* of the process */

struct lookup {
    struct loop_task task;
    bj_ctx *ctx;
    lookup_done *done; /* the loop's own; NULL: cancelled */
    void *user;
    char *host;
    char *port;

    /* Under the lock: in the queue. */
    struct lookup *next;
    bool is_queued;

    struct addrinfo *found;
    int error;        /* getaddrinfo()'s */
    int system_error; /* errno */
};

static struct {
    pthread_mutex_t lock;
    struct lookup *first, **last; /* no thread has them yet */
    unsigned threads;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .last = &queue.first};

/* --------------------------------------------------------------------- queue */

static void before_fork(void)
{
    pthread_mutex_lock(&queue.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&queue.lock);
}

/* Threads and look-ups are the parent's. */
static void qmp_lookup__begin_child(void)
{
    queue.first = NULL;
    queue.last = &queue.first;
    queue.threads = 0;
    after_fork();
}

static bool is_prepared;

static void prepare_once(void)
{
    is_prepared = pthread_atfork(before_fork, after_fork, qmp_lookup__begin_child) == 0;
}

static bool prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare_once);
    return is_prepared;
}

static void qmp_lookup__append(struct lookup *lookup)
{
    lookup->is_queued = true;
    *queue.last = lookup;
    queue.last = &lookup->next;
}

static bool qmp_lookup__take_out(struct lookup *lookup)
{
    struct lookup **link = &queue.first;

    if (!lookup->is_queued)
        return false;
    while (*link != lookup)
        link = &(*link)->next;
    *link = lookup->next;
    if (!*link)
        queue.last = link;
    lookup->is_queued = false;
    return true;
}

/* NULL: this thread is not needed any more. */
static struct lookup *take_first(void)
{
    pthread_mutex_lock(&queue.lock);
    struct lookup *lookup = queue.first;
    if (lookup)
        qmp_lookup__take_out(lookup);
    else
        queue.threads--;
    pthread_mutex_unlock(&queue.lock);
    return lookup;
}

/* ------------------------------------------------------------------- threads */

static void free_lookup(struct lookup *lookup)
{
    if (lookup->found)
        freeaddrinfo(lookup->found);
    free(lookup->host);
    free(lookup->port);
    ctx_unref(lookup->ctx);
    free(lookup);
}

static int look_up(const char *host, const char *port, int flags, struct addrinfo **ret)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    return getaddrinfo(host, port, &hints, ret);
}

static void *run_thread(void *unused)
{
    for (struct lookup *lookup; (lookup = take_first());) {
        errno = 0;
        lookup->error = look_up(lookup->host, lookup->port, 0, &lookup->found);
        lookup->system_error = errno;
        if (!loop_post(lookup->ctx->loop, &lookup->task))
            free_lookup(lookup);
    }
    return unused;
}

static int start_thread(void)
{
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&thread, NULL, run_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        pthread_detach(thread);
    return r;
}

/* Where no thread can be made those that there are will do. */
static bool submit(struct lookup *lookup)
{
    pthread_mutex_lock(&queue.lock);
    qmp_lookup__append(lookup);
    if (queue.threads < THREADS_MAX && start_thread() == 0)
        queue.threads++;
    bool is_served = queue.threads > 0 || !qmp_lookup__take_out(lookup);
    pthread_mutex_unlock(&queue.lock);
    return is_served;
}

/* --------------------------------------------------------------------- answers */

static bool qmp_lookup__lacks_descriptors(int error)
{
    return error == EMFILE || error == ENFILE;
}

/* Without descriptors getaddrinfo() may say anything, for example that there is no such name. */
static void qmp_lookup__answer(struct lookup *lookup)
{
    int error = lookup->error, system_error = lookup->system_error;
    struct addrinfo *found = lookup->found;

    lookup->found = NULL;
    if (error == 0)
        lookup->done(lookup->user, BJ_OK, found, NULL);
    else if (error == EAI_MEMORY)
        lookup->done(lookup->user, BJ_E_NOMEM, NULL, text_printf("%s", bj_error_text(BJ_E_NOMEM)));
    else if (error == EAI_SYSTEM || qmp_lookup__lacks_descriptors(system_error))
        lookup->done(lookup->user, BJ_E_SYSTEM, NULL,
                     text_printf("can't look up %s: %s", lookup->host, strerror(system_error)));
    else
        lookup->done(lookup->user, BJ_E_CONNECT, NULL,
                     text_printf("can't look up %s: %s", lookup->host, gai_strerror(error)));
}

static void run_looked_up(struct loop_task *task)
{
    struct lookup *lookup = (struct lookup *)task;
    if (lookup->done) {
        loop_unhold(lookup->ctx->loop);
        qmp_lookup__answer(lookup);
    }
    free_lookup(lookup);
}

static struct lookup *new_lookup(bj_ctx *ctx, const char *host, const char *port)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return NULL;
    lookup->task.run = run_looked_up;
    lookup->ctx = ctx_ref(ctx);
    lookup->host = strdup(host);
    lookup->port = strdup(port);
    if (lookup->host && lookup->port)
        return lookup;
    free_lookup(lookup);
    return NULL;
}

static int lookup_start(bj_ctx *ctx, const char *host, const char *port, lookup_done *done, void *user,
                 struct lookup **ret)
{
    struct lookup *lookup = prepare() ? new_lookup(ctx, host, port) : NULL;
    if (!lookup)
        return BJ_E_NOMEM;
    lookup->done = done;
    lookup->user = user;
    if (!submit(lookup)) {
        free_lookup(lookup);
        return BJ_E_SYSTEM;
    }
    loop_hold(ctx->loop);
    *ret = lookup;
    return BJ_OK;
}

static void lookup_cancel(struct lookup *lookup)
{
    pthread_mutex_lock(&queue.lock);
    bool is_mine = qmp_lookup__take_out(lookup);
    pthread_mutex_unlock(&queue.lock);

    loop_unhold(lookup->ctx->loop);
    lookup->done = NULL;
    if (is_mine)
        free_lookup(lookup);
}

static struct addrinfo *lookup_figures(const char *host, const char *port)
{
    struct addrinfo *found = NULL;
    return look_up(host, port, AI_NUMERICHOST, &found) == 0 ? found : NULL;
}
#undef THREADS_MAX
/* ---- core/src/qmp/made_up_ends.c ---- */

/*
 * Ends that a QEMU has no event for; see made_up_ends.h.
 */

static void made_up_ends_add(struct made_up_ends *ends, struct text *id)
{
    text_unref(ends->ids[ends->next]);
    ends->ids[ends->next] = text_ref(id);
    ends->next = (ends->next + 1) % MADE_UP_MAX;
}

static void made_up_ends_clear(struct made_up_ends *ends)
{
    for (int i = 0; i < MADE_UP_MAX; i++)
        ends->ids[i] = text_unref(ends->ids[i]);
}

static bool made_up_ends_take(struct made_up_ends *ends, const struct fact *fact)
{
    if (fact->kind != FACT_CANCELLED)
        return false;
    for (int i = 0; i < MADE_UP_MAX; i++) {
        if (!ends->ids[i] || strcmp(text_str(ends->ids[i]), fact->id) != 0)
            continue;
        ends->ids[i] = text_unref(ends->ids[i]);
        return true;
    }
    return false;
}

static char *made_up_end_data(const struct driver_end *end)
{
    json_t *data = json_pack("{s:s, s:s, s:I, s:I, s:I}", "device", text_str(end->id), "type",
                             end->type, "len", (json_int_t)end->total, "offset",
                             (json_int_t)end->current, "speed", (json_int_t)end->speed);
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(data);
    return text;
}
/* ---- core/src/qmp/message.c ---- */

/*
 * The messages of QMP; see message.h.
 */

static const char *string_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static int64_t timestamp_of(const json_t *root)
{
    const json_t *t = json_object_get(root, "timestamp");
    json_int_t seconds = json_integer_value(json_object_get(t, "seconds"));
    json_int_t micros = json_integer_value(json_object_get(t, "microseconds"));

    /* QEMU says -1 when its clock failed. */
    if (seconds < 0 || seconds > INT64_MAX / 1000000 - 1 || micros < 0 || micros > 999999)
        return 0;
    return seconds * 1000000 + micros;
}

static const struct {
    const char *key;
    size_t len;
} event_words[EVENT_WORDS] = {
#define KEY(key)                                                                                   \
    {                                                                                              \
        key, sizeof key - 1                                                                        \
    }
    [WORD_ID] = KEY("id"),         [WORD_DEVICE] = KEY("device"),
    [WORD_TYPE] = KEY("type"),     [WORD_STATUS] = KEY("status"),
    [WORD_ERROR] = KEY("error"),   [WORD_OPERATION] = KEY("operation"),
    [WORD_ACTION] = KEY("action"),
#undef KEY
};

static int event_word_of(const char *key, size_t len)
{
    for (int word = 0; word < EVENT_WORDS; word++)
        if (event_words[word].len == len && memcmp(event_words[word].key, key, len) == 0)
            return word;
    return -1;
}

static void qmp_message__read_event(const char *text, size_t len, struct message *m)
{
    const json_t *data = json_object_get(m->root, "data");

    m->kind = MESSAGE_EVENT;
    m->value = data;
    m->name = string_of(m->root, "event");
    m->timestamp_us = timestamp_of(m->root);
    m->raw = json_text_find(text, len, "data", &m->raw_len);
    for (int word = 0; word < EVENT_WORDS; word++)
        m->words[word] = json_string_value(json_object_get(data, event_words[word].key));
}

static int read_root(const char *text, size_t len, struct message *m)
{
    const json_t *value;

    if (json_is_string(json_object_get(m->root, "event"))) {
        qmp_message__read_event(text, len, m);
    } else if ((value = json_object_get(m->root, "return"))) {
        m->kind = MESSAGE_RETURN;
        m->value = value;
        m->raw = json_text_find(text, len, "return", &m->raw_len);
    } else if ((value = json_object_get(m->root, "error"))) {
        m->kind = MESSAGE_ERROR;
        m->name = string_of(value, "class");
        m->text = string_of(value, "desc");
    } else if ((value = json_object_get(m->root, "QMP"))) {
        m->kind = MESSAGE_GREETING;
        m->value = value;
    } else {
        return BJ_E_PROTOCOL;
    }
    const json_t *id = json_object_get(m->root, "id");
    m->has_id = id != NULL;
    m->id = json_integer_value(id);

    /* A key in another spelling ("\\u0072eturn"), which QEMU never uses. */
    bool has_raw = m->kind == MESSAGE_RETURN || m->kind == MESSAGE_EVENT;
    return has_raw && m->value && !m->raw ? BJ_E_PROTOCOL : 0;
}

static int message_parse(const char *text, size_t len, struct message *ret, const char **ret_reason)
{
    *ret = (struct message){.name = "", .text = ""};

    /* jansson overlooks a NUL after a word or a number, and then the value's own text ends there.
     */
    bool no_memory = false;
    ret->root =
        memchr(text, '\0', len) ? NULL : json_text_load(text, len, JSON_ALLOW_NUL, &no_memory);
    if (!ret->root) {
        *ret_reason =
            no_memory ? "what can't be read for lack of memory" : "something that is not JSON";
        return no_memory ? BJ_E_NOMEM : BJ_E_PROTOCOL;
    }
    if (read_root(text, len, ret) != 0) {
        message_clear(ret);
        *ret_reason = "a JSON object that is no QMP message";
        return BJ_E_PROTOCOL;
    }
    return 0;
}

static void message_clear(struct message *message)
{
    json_decref(message->root);
    *message = (struct message){0};
}

static const json_t *message_value(struct message *message)
{
    bool no_memory;
    if (!message->value && message->raw) {
        message->root = json_text_load(message->raw, message->raw_len,
                                       JSON_ALLOW_NUL | JSON_DECODE_ANY, &no_memory);
        message->value = message->root;
    }
    return message->value;
}

/* Room for every 64-bit number and its end. */
#define DIGITS 21

static const char *decimal(uint64_t number, char digits[DIGITS])
{
    size_t at = DIGITS - 1;

    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return &digits[at];
}

static char *message_command(const char *name, const char *arguments, uint64_t id, bool out_of_band,
                      size_t *ret_len)
{
    char digits[DIGITS];
    char *quoted = json_text_is_plain(name) ? NULL : json_text_quote(name);
    if (!quoted && !json_text_is_plain(name))
        return NULL;
    const char *mark = quoted ? "" : "\"";
    const char *parts[] = {
        out_of_band ? "{\"exec-oob\":" : "{\"execute\":",
        mark,
        quoted ? quoted : name,
        mark,
        arguments ? ",\"arguments\":" : "",
        arguments ? arguments : "",
        ",\"id\":",
        decimal(id, digits),
        "}\r\n",
    };
    char *line = json_text_join(parts, sizeof parts / sizeof parts[0], ret_len);
    free(quoted);
    return line;
}
#undef KEY
#undef DIGITS
/* ---- core/src/qmp/outbox.c ---- */

/*
 * The commands on their way; see outbox.h.
 */

struct command {
    struct command *next;
    struct driver_request *request; /* NULL: nobody waits for the reply */
    uint64_t id;
    bool urgent;
    bool out_of_band;
    bool is_dismissal;
    bool takes_descriptors;
    int error;                       /* why it can't be sent: errno; 0 */
    struct descriptors *descriptors; /* NULL once they are sent, with the line's first byte */
    char *line;                      /* NULL once it is written */
    size_t len;
    size_t written;
    char name[]; /* what an old QEMU's reply without id is matched by (B59) */
};

static void outbox_init(struct outbox *outbox, uint64_t first_id, struct wire_tap *tap,
                 size_t in_flight_limit, size_t queued_limit)
{
    *outbox = (struct outbox){
        .next_id = first_id,
        .tap = tap,
        .in_flight_limit = in_flight_limit,
        .in_turn_limit = in_flight_limit,
        .queued_limit = queued_limit,
    };
    outbox->queued_last = &outbox->queued;
    outbox->in_flight_last = &outbox->in_flight;
}

/* With eight commands to execute QEMU stops reading, and so reads none that is to overtake them;
 * before 4.0 it drops the ninth. */
#define READ_AHEAD_LIMIT 7

static void outbox_enable_out_of_band(struct outbox *outbox)
{
    outbox->reads_ahead = true;
    if (outbox->in_turn_limit > READ_AHEAD_LIMIT)
        outbox->in_turn_limit = READ_AHEAD_LIMIT;
}

static bool outbox_is_full(const struct outbox *outbox)
{
    return outbox->queued_count >= outbox->queued_limit;
}

static bool outbox_is_empty(const struct outbox *outbox)
{
    return !outbox->in_flight && !outbox->queued;
}

/* ------------------------------------------------------------------- commands */

/* 2.12 has the second only. */
static bool is_dismissal(const char *name)
{
    return strcmp(name, "job-dismiss") == 0 || strcmp(name, "block-job-dismiss") == 0;
}

static struct command *make(struct outbox *outbox, const char *name, const char *arguments,
                            bool out_of_band)
{
    size_t name_size = strlen(name) + 1;
    struct command *command = calloc(1, sizeof *command + name_size);
    if (!command)
        return NULL;
    memcpy(command->name, name, name_size);
    command->id = outbox->next_id++;
    command->line = message_command(name, arguments, command->id, out_of_band, &command->len);
    if (!command->line) {
        free(command);
        return NULL;
    }
    command->out_of_band = out_of_band;
    return command;
}

static struct command *command_new(struct outbox *outbox, const char *name, const char *arguments,
                            bool urgent)
{
    struct command *command = make(outbox, name, arguments, false);
    if (!command)
        return NULL;
    command->urgent = urgent;
    command->is_dismissal = is_dismissal(name) && urgent;
    return command;
}

static struct command *command_new_raw(struct outbox *outbox, const struct driver_command *raw)
{
    struct command *command = make(outbox, raw->name, raw->arguments, raw->out_of_band);
    if (!command)
        return NULL;
    command->descriptors = raw->descriptors;
    command->takes_descriptors = raw->descriptors != NULL;
    return command;
}

static void qmp_outbox__close_descriptors(struct command *command)
{
    descriptors_close(command->descriptors);
    command->descriptors = NULL;
}

static void command_free(struct command *command)
{
    if (!command)
        return;
    qmp_outbox__close_descriptors(command);
    free(command->line);
    free(command);
}

static void give_reply(struct command *command, struct driver_reply *reply)
{
    struct driver_request *request = command->request;
    command->request = NULL;
    if (request)
        request->done(request, reply);
}

static void command_answer(struct command *command, struct driver_reply *reply)
{
    qmp_outbox__close_descriptors(command); /* before anyone hears that it is over */
    give_reply(command, reply);
    command_free(command);
}

/* -------------------------------------------------------------------- sending */

static struct command *take_queued(struct outbox *outbox)
{
    struct command *command = outbox->queued;
    outbox->queued = command->next;
    if (!outbox->queued)
        outbox->queued_last = &outbox->queued;
    outbox->queued_count--;
    return command;
}

static void add_in_flight(struct outbox *outbox, struct command *command)
{
    free(command->line);
    command->line = NULL;
    command->next = NULL;
    *outbox->in_flight_last = command;
    outbox->in_flight_last = &command->next;
    outbox->in_flight_count++;
    outbox->out_of_band_count += command->out_of_band;
    outbox->descriptors_in_flight |= command->takes_descriptors;
}

/* A message of its own: a socket gives its descriptors to whoever reads its first byte. */
static ssize_t send_with_descriptors(const struct command *command, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DRIVER_DESCRIPTORS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    size_t size = command->descriptors->count * sizeof(int);
    struct iovec line = {.iov_base = command->line, .iov_len = command->len};
    struct msghdr message = {
        .msg_iov = &line,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(size),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), command->descriptors->fds, size);
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t send_some(struct command *command, int fd)
{
    if (!command->descriptors)
        return send(fd, command->line + command->written, command->len - command->written,
                    MSG_NOSIGNAL | MSG_DONTWAIT);
    ssize_t n = send_with_descriptors(command, fd);
    if (n > 0)
        qmp_outbox__close_descriptors(command);
    return n;
}

static bool is_end_of_connection(int error)
{
    return error == EPIPE || error == ECONNRESET || error == ENOTCONN;
}

/* False when the socket takes no more now; or with command->error. */
static bool write_command(struct command *command, int fd)
{
    while (command->written < command->len) {
        ssize_t n = send_some(command, fd);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return false;
        if (n < 0 && command->descriptors && !is_end_of_connection(errno)) {
            command->error = errno; /* and nothing of it was sent */
            return false;
        }
        if (n < 0) {
            shutdown(fd, SHUT_RDWR); /* reading gives what QEMU still said, then the end */
            return false;
        }
        command->written += (size_t)n;
    }
    return true;
}

/* QEMU keeps the descriptors of one message, those that came last, for the command that it executes
 * then. One that reads ahead would so give a command those of a later one: there, a command with
 * descriptors is alone with QEMU. */
static bool may_go(const struct outbox *outbox, const struct command *command)
{
    size_t in_turn = outbox->in_flight_count - outbox->out_of_band_count;

    if (command->out_of_band)
        return outbox->out_of_band_count < outbox->in_flight_limit;
    if (outbox->reads_ahead && (command->takes_descriptors || outbox->descriptors_in_flight))
        return in_turn == 0;
    return in_turn < outbox->in_turn_limit;
}

static void set_aside(struct outbox *outbox)
{
    struct command **last = &outbox->unsendable;
    while (*last)
        last = &(*last)->next;
    *last = take_queued(outbox);
    (*last)->next = NULL;
}

static bool outbox_write(struct outbox *outbox, int fd)
{
    while (outbox->queued && may_go(outbox, outbox->queued)) {
        if (write_command(outbox->queued, fd)) {
            qmp_tell_sent(outbox->tap, outbox->queued->line, outbox->queued->len);
            add_in_flight(outbox, take_queued(outbox));
        } else if (outbox->queued->error) {
            set_aside(outbox);
        } else {
            return false;
        }
    }
    return true;
}

static int rank(const struct command *command)
{
    return command->out_of_band ? 2 : command->urgent;
}

/* Verbs go before everything that is not half written: a pivot must not wait for a list. */
static void outbox_put(struct outbox *outbox, struct command *command, struct driver_request *request)
{
    struct command **link = outbox->queued_last;
    if (rank(command) > 0)
        for (link = &outbox->queued;
             *link && (rank(*link) >= rank(command) || (*link)->written > 0);)
            link = &(*link)->next;

    command->request = request;
    command->next = *link;
    *link = command;
    if (!command->next)
        outbox->queued_last = &command->next;
    outbox->queued_count++;
}

/* -------------------------------------------------------------- without replies */

static void qmp_outbox__take_out(struct outbox *outbox, struct command **link)
{
    struct command *command = *link;
    *link = command->next;
    if (outbox->queued_last == &command->next)
        outbox->queued_last = link;
    outbox->queued_count--;
}

static bool outbox_withdraw(struct outbox *outbox, const struct driver_request *request)
{
    for (struct command **link = &outbox->queued; *link; link = &(*link)->next) {
        struct command *command = *link;
        if (command->request != request || command->written > 0)
            continue;
        qmp_outbox__take_out(outbox, link);
        command_free(command);
        return true;
    }
    return false;
}

static void fail_all(struct command *command, int error, const char *text)
{
    while (command) {
        struct command *next = command->next;
        command_answer(command,
                       &(struct driver_reply){.error = error, .is_lost = true, .text = text});
        command = next;
    }
}

static void outbox_refuse_unsendable(struct outbox *outbox, const char *uri)
{
    while (outbox->unsendable) {
        struct command *command = outbox->unsendable;
        outbox->unsendable = command->next;
        struct text *text =
            text_printf("%s: the descriptors of %s could not be sent: %s%s", uri, command->name,
                        strerror(command->error),
                        command->error == ETOOMANYREFS
                            ? ": QEMU does not read, or raise the limit of open files (ulimit -n)"
                            : "");
        command_answer(command,
                       &(struct driver_reply){.error = BJ_E_SYSTEM, .text = text_str(text)});
        text_unref(text);
    }
}

/* Those that QEMU has seen nothing of and need not; in their order. */
static struct command *take_unwritten(struct outbox *outbox)
{
    struct command *taken = NULL, **taken_last = &taken, **link = &outbox->queued;

    while (*link) {
        struct command *command = *link;
        if (command->is_dismissal || command->written > 0) {
            link = &command->next;
            continue;
        }
        qmp_outbox__take_out(outbox, link);
        command->next = NULL;
        *taken_last = command;
        taken_last = &command->next;
    }
    return taken;
}

static void abandon_all(struct command *command, int error, const char *text)
{
    for (; command; command = command->next)
        if (!command->is_dismissal)
            give_reply(command,
                       &(struct driver_reply){.error = error, .is_lost = true, .text = text});
}

static void outbox_abandon(struct outbox *outbox, int error, const char *text)
{
    struct command *unwritten = take_unwritten(outbox), *unsendable = outbox->unsendable;
    outbox->unsendable = NULL;
    fail_all(unsendable, error, text);
    abandon_all(outbox->in_flight, error, text);
    abandon_all(outbox->queued, error, text);
    fail_all(unwritten, error, text);
}

static void outbox_fail(struct outbox *outbox, int error, const char *text)
{
    struct command *in_flight = outbox->in_flight;
    struct command *queued = outbox->queued;
    struct command *unsendable = outbox->unsendable;
    outbox->in_flight = outbox->queued = outbox->unsendable = NULL;
    fail_all(unsendable, error, text);
    fail_all(in_flight, error, text);
    fail_all(queued, error, text);
}

/* -------------------------------------------------------------------- replies */

static struct command **find_id(struct outbox *outbox, int64_t id)
{
    for (struct command **link = &outbox->in_flight; *link; link = &(*link)->next)
        if ((int64_t)(*link)->id == id)
            return link;
    return NULL;
}

/* A reply without id (B59): 2.12 sends one for a command that it has not; RHEL 6.2 for its cancel;
 * all for what they can't parse, in the order of the commands. */
static struct command **find_without_id(struct outbox *outbox, const struct message *message,
                                        qmp_has_command *has_command, void *user)
{
    bool is_error = message->kind == MESSAGE_ERROR;
    bool unknown = is_error && strcmp(message->name, "CommandNotFound") == 0;

    for (struct command **link = &outbox->in_flight; *link; link = &(*link)->next) {
        const char *name = (*link)->name;
        if (unknown ? !has_command(user, name) : strcmp(name, "block_job_cancel") == 0)
            return link;
    }
    bool is_first = is_error || outbox->in_flight_count == 1;
    return outbox->in_flight && is_first ? &outbox->in_flight : NULL;
}

static struct command *outbox_match(struct outbox *outbox, const struct message *message,
                             qmp_has_command *has_command, void *user)
{
    struct command **link = message->has_id ? find_id(outbox, message->id)
                                            : find_without_id(outbox, message, has_command, user);
    struct command *command = link ? *link : NULL;
    if (!command)
        return NULL;
    *link = command->next;
    if (outbox->in_flight_last == &command->next)
        outbox->in_flight_last = link;
    outbox->in_flight_count--;
    outbox->out_of_band_count -= command->out_of_band;
    outbox->descriptors_in_flight &= !command->takes_descriptors;
    return command;
}
#undef READ_AHEAD_LIMIT
/* ---- core/src/qmp/peer.c ---- */

/* Of /proc/PID/stat, after the name: when the process began, in ticks since the host was booted. */
#define TICKS_FIELD 20

static int64_t peer_process(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    return known ? peer.pid : 0;
}

/* "" if it can't be read. */
static void read_line(const char *path, char *line, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, size - 1);

    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

/* The name may have spaces and parentheses in it. NULL: it is not there. */
static const char *find_ticks(const char *stat)
{
    const char *field = strrchr(stat, ')');
    for (int i = 0; field && i < TICKS_FIELD; i++)
        field = strchr(field + 1, ' ');
    return field ? field + 1 : NULL;
}

/* That file's time of change is that of its making. */
static void identify_socket(int fd, struct driver_identity *ret)
{
    union {
        struct sockaddr any;
        struct sockaddr_un local;
    } name = {0};
    socklen_t size = sizeof name;
    struct stat file;

    if (getpeername(fd, &name.any, &size) != 0 || name.any.sa_family != AF_UNIX ||
        name.local.sun_path[0] != '/' || stat(name.local.sun_path, &file) != 0)
        return;
    snprintf(ret->socket, sizeof ret->socket, "%lld.%09ld@%.*s", (long long)file.st_mtim.tv_sec,
             file.st_mtim.tv_nsec, (int)sizeof name.local.sun_path, name.local.sun_path);
}

static void peer_identify(int fd, int64_t process, struct driver_identity *ret)
{
    char path[40], stat[1024], boot[sizeof ret->boot];

    *ret = (struct driver_identity){0};
    identify_socket(fd, ret);
    if (process <= 0 || process == getpid())
        return;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)process);
    read_line(path, stat, sizeof stat);
    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    const char *ticks = find_ticks(stat);
    if (!ticks || !*boot)
        return;
    memcpy(ret->boot, boot, sizeof boot);
    snprintf(ret->process, sizeof ret->process, "qemu %lld.%.*s", (long long)process,
             (int)strcspn(ticks, " "), ticks);
}
#undef TICKS_FIELD
/* ---- core/src/qmp/read_in_place.c ---- */

/*
 * Messages read where they lie; see read_in_place.h. What is taken here is what message_parse()
 * would have found: tests/fuzz/fuzz_read_in_place.c compares.
 */

struct qmp_read_in_place__span {
    const char *at;
    size_t len;
    bool is_plain; /* of a string: without escapes */
};

struct cursor {
    const char *at;
    const char *end;
    size_t nesting_limit;
    size_t nesting;
    size_t tokens;
    unsigned seen;       /* members that have come; a second one is for the parser */
    unsigned seen_words; /* the same of the event's data */
    struct message *message;
    char *room;
    const char *room_end;
};

enum {
    SEEN_EVENT = 1,
    SEEN_TIMESTAMP = 2,
    SEEN_DATA = 4,
    SEEN_SECONDS = 8,
    SEEN_MICROSECONDS = 16,
    SEEN_RETURN = 32,
    SEEN_ID = 64
};

/* Takes the value of one member, or declines. */
typedef bool take_member(struct cursor *cursor, const struct qmp_read_in_place__span *key);

/* -------------------------------------------------------------------- tokens */

static bool qmp_read_in_place__is_space(char c)
{
    return (unsigned char)c <= ' ' && (c == ' ' || c == '\t' || c == '\r' || c == '\n');
}

static void qmp_read_in_place__skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && qmp_read_in_place__is_space(*cursor->at))
        cursor->at++;
}

static bool take(struct cursor *cursor, char wanted)
{
    qmp_read_in_place__skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return false;
    cursor->at++;
    return true;
}

/* How many bytes the UTF-8 character has that `at` begins with, which is not ASCII; 0: it is none.
 * What jansson takes: nothing longer than need be, no surrogate, nothing beyond U+10FFFF. */
static size_t utf8_length(const unsigned char *at, size_t len)
{
    size_t n = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || len < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool is_too_long = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_surrogate = at[0] == 0xed && at[1] > 0x9f;
    bool is_beyond = at[0] == 0xf4 && at[1] > 0x8f;
    return is_too_long || is_surrogate || is_beyond ? 0 : n;
}

/* The same for an escape. \u is for the parser. */
static size_t escape_length(const char *at, size_t len)
{
    return len >= 2 && at[1] && strchr("\"\\/bfnrt", at[1]) ? 2 : 0;
}

/* What means itself in a string. */
static const bool is_ordinary[256] = {
    [' ' ... '!'] = true,
    ['#' ... '['] = true,
    [']' ... 0x7f] = true,
};

/* An escape, or a character that is not ASCII. */
static bool skip_character(struct cursor *cursor, struct qmp_read_in_place__span *string)
{
    size_t len = (size_t)(cursor->end - cursor->at);
    size_t n = 0;

    if (len > 0 && *cursor->at == '\\') {
        n = escape_length(cursor->at, len);
        string->is_plain = false;
    } else if (len > 0) {
        n = utf8_length((const unsigned char *)cursor->at, len);
    }
    cursor->at += n;
    return n > 0;
}

static void skip_ordinary(struct cursor *cursor)
{
    const char *at = cursor->at;
    while (at < cursor->end && is_ordinary[(unsigned char)*at])
        at++;
    cursor->at = at;
}

static bool take_string(struct cursor *cursor, struct qmp_read_in_place__span *ret)
{
    if (!take(cursor, '"'))
        return false;
    cursor->tokens++;
    *ret = (struct qmp_read_in_place__span){.at = cursor->at, .is_plain = true};
    for (skip_ordinary(cursor); cursor->at == cursor->end || *cursor->at != '"';
         skip_ordinary(cursor))
        if (!skip_character(cursor, ret))
            return false;
    ret->len = (size_t)(cursor->at++ - ret->at);
    return true;
}

static bool take_literal(struct cursor *cursor, const char *literal)
{
    size_t len = strlen(literal);
    if ((size_t)(cursor->end - cursor->at) < len || memcmp(cursor->at, literal, len) != 0)
        return false;
    cursor->at += len;
    return true;
}

static bool take_number(struct cursor *cursor)
{
    bool is_integer;
    size_t len = json_text_number(cursor->at, (size_t)(cursor->end - cursor->at), &is_integer);
    cursor->at += len;
    return len > 0;
}

/* Fewer than 64 bits can overflow by. */
#define DIGITS_MAX 19

/* One that is not negative, and at most `limit`. */
static bool take_integer(struct cursor *cursor, int64_t limit, int64_t *ret)
{
    uint64_t number = 0;

    qmp_read_in_place__skip_space(cursor);
    const char *first = cursor->at, *at = first, *end = cursor->end;
    if (end - at > DIGITS_MAX)
        end = at + DIGITS_MAX;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    cursor->at = at;
    cursor->tokens++;
    *ret = (int64_t)number;
    return at > first && number <= (uint64_t)limit && (at == first + 1 || *first != '0');
}

/* -------------------------------------------------------------------- values */

static bool take_value(struct cursor *cursor, struct qmp_read_in_place__span *ret);

static bool skip_member(struct cursor *cursor, const struct qmp_read_in_place__span *key)
{
    (void)key;
    struct qmp_read_in_place__span value;
    return take_value(cursor, &value);
}

static bool qmp_read_in_place__enter(struct cursor *cursor, char opening)
{
    cursor->tokens++;
    return take(cursor, opening) && ++cursor->nesting <= cursor->nesting_limit;
}

static bool qmp_read_in_place__leave(struct cursor *cursor, char closing)
{
    cursor->nesting--;
    return take(cursor, closing);
}

static bool take_object(struct cursor *cursor, take_member *member)
{
    struct qmp_read_in_place__span key;

    if (!qmp_read_in_place__enter(cursor, '{'))
        return false;
    qmp_read_in_place__skip_space(cursor);
    if (cursor->at < cursor->end && *cursor->at == '}')
        return qmp_read_in_place__leave(cursor, '}');
    do
        if (!take_string(cursor, &key) || !take(cursor, ':') || !member(cursor, &key))
            return false;
    while (take(cursor, ','));
    return qmp_read_in_place__leave(cursor, '}');
}

static bool take_array(struct cursor *cursor)
{
    struct qmp_read_in_place__span value;

    if (!qmp_read_in_place__enter(cursor, '['))
        return false;
    qmp_read_in_place__skip_space(cursor);
    if (cursor->at < cursor->end && *cursor->at == ']')
        return qmp_read_in_place__leave(cursor, ']');
    do
        if (!take_value(cursor, &value))
            return false;
    while (take(cursor, ','));
    return qmp_read_in_place__leave(cursor, ']');
}

static bool take_scalar(struct cursor *cursor)
{
    cursor->tokens++;
    switch (*cursor->at) {
    case 't':
        return take_literal(cursor, "true");
    case 'f':
        return take_literal(cursor, "false");
    case 'n':
        return take_literal(cursor, "null");
    default:
        return take_number(cursor);
    }
}

/* Whatever it is; it is as deep as the limit at most, and so is the stack. */
static bool take_value(struct cursor *cursor, struct qmp_read_in_place__span *ret)
{
    struct qmp_read_in_place__span string;

    qmp_read_in_place__skip_space(cursor);
    ret->at = cursor->at;
    if (cursor->at == cursor->end)
        return false;
    char first = *cursor->at;
    bool taken = first == '"'   ? take_string(cursor, &string)
                 : first == '{' ? take_object(cursor, skip_member)
                 : first == '[' ? take_array(cursor)
                                : take_scalar(cursor);
    ret->len = (size_t)(cursor->at - ret->at);
    return taken;
}

/* ------------------------------------------------------------------- members */

static bool is(const struct qmp_read_in_place__span *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->at, text, key->len) == 0;
}

static bool is_first(struct cursor *cursor, const struct qmp_read_in_place__span *key, const char *text,
                     unsigned member)
{
    if (!is(key, text) || (cursor->seen & member))
        return false;
    cursor->seen |= member;
    return true;
}

/* NULL: there is no room for it. */
static const char *qmp_read_in_place__keep(struct cursor *cursor, const struct qmp_read_in_place__span *word)
{
    if ((size_t)(cursor->room_end - cursor->room) <= word->len)
        return NULL;
    char *kept = cursor->room;
    memcpy(kept, word->at, word->len);
    kept[word->len] = '\0';
    cursor->room += word->len + 1;
    return kept;
}

static bool keep_string(struct cursor *cursor, const char **ret)
{
    struct qmp_read_in_place__span string;
    if (!take_string(cursor, &string) || !string.is_plain)
        return false;
    *ret = qmp_read_in_place__keep(cursor, &string);
    return *ret != NULL;
}

static bool take_time(struct cursor *cursor, const struct qmp_read_in_place__span *key)
{
    const int64_t year_5000 = 100000000000;
    int64_t number;

    if (is_first(cursor, key, "seconds", SEEN_SECONDS) && take_integer(cursor, year_5000, &number))
        cursor->message->timestamp_us += number * 1000000;
    else if (is_first(cursor, key, "microseconds", SEEN_MICROSECONDS) &&
             take_integer(cursor, 999999, &number))
        cursor->message->timestamp_us += number;
    else
        return false;
    return true;
}

static bool take_datum(struct cursor *cursor, const struct qmp_read_in_place__span *key)
{
    int word = key->is_plain ? event_word_of(key->at, key->len) : -1;

    qmp_read_in_place__skip_space(cursor);
    bool is_string = cursor->at < cursor->end && *cursor->at == '"';
    if (!key->is_plain || (word >= 0 && (cursor->seen_words & 1u << word)))
        return false;
    if (word < 0 || !is_string)
        return word < 0 && skip_member(cursor, key);
    cursor->seen_words |= 1u << word;
    return keep_string(cursor, &cursor->message->words[word]);
}

static bool take_data(struct cursor *cursor)
{
    struct message *message = cursor->message;
    qmp_read_in_place__skip_space(cursor);
    message->raw = cursor->at;
    bool taken = take_object(cursor, take_datum);
    message->raw_len = (size_t)(cursor->at - message->raw);
    return taken;
}

static bool take_return(struct cursor *cursor)
{
    struct qmp_read_in_place__span value = {0};
    bool taken = take_value(cursor, &value);
    cursor->message->raw = value.at;
    cursor->message->raw_len = value.len;
    return taken;
}

/* Ours are positive. */
static bool take_id(struct cursor *cursor)
{
    cursor->message->has_id = true;
    return take_integer(cursor, INT64_MAX, &cursor->message->id);
}

static bool take_part(struct cursor *cursor, const struct qmp_read_in_place__span *key)
{
    if (is_first(cursor, key, "event", SEEN_EVENT))
        return keep_string(cursor, &cursor->message->name);
    if (is_first(cursor, key, "timestamp", SEEN_TIMESTAMP))
        return take_object(cursor, take_time);
    if (is_first(cursor, key, "data", SEEN_DATA))
        return take_data(cursor);
    if (is_first(cursor, key, "return", SEEN_RETURN))
        return take_return(cursor);
    return is_first(cursor, key, "id", SEEN_ID) && take_id(cursor);
}

/* ------------------------------------------------------------------ messages */

/* An event without members of a reply, or the other way round. */
static bool is_message(unsigned seen)
{
    unsigned of_event = SEEN_EVENT | SEEN_TIMESTAMP | SEEN_DATA;
    return seen & SEEN_EVENT ? !(seen & (SEEN_RETURN | SEEN_ID))
                             : (seen & SEEN_RETURN) && !(seen & of_event);
}

static size_t read_in_place(const char *text, size_t len, const struct frame_limits *limits,
                     struct message_room *room, struct message *ret)
{
    struct cursor cursor = {
        .at = text,
        .end = text + len,
        .nesting_limit = limits->nesting,
        .message = ret,
        .room = room->words,
        .room_end = room->words + sizeof room->words,
    };
    *ret = (struct message){.name = "", .text = ""};
    qmp_read_in_place__skip_space(&cursor);
    const char *begin = cursor.at;
    if (!take_object(&cursor, take_part) || !is_message(cursor.seen))
        return 0;
    ret->kind = cursor.seen & SEEN_EVENT ? MESSAGE_EVENT : MESSAGE_RETURN;
    bool is_within =
        (size_t)(cursor.at - begin) <= limits->bytes && cursor.tokens <= limits->tokens;
    return is_within ? (size_t)(cursor.at - text) : 0;
}
#undef DIGITS_MAX
/* ---- core/src/qmp/requests.c ---- */

/*
 * The requests on a QMP connection: commands, verbs, the job list, what start commands take.
 */

/* ---- core/src/qmp/start_arguments.h ---- */

/*
 * What a run that is about to be started is called on the QEMU at hand, and what is added to the
 * arguments of the command that starts it. The loop's thread only.
 */

/* driver_ops.plan_start; the driver has been probed. */
static int qmp_make_plan(struct driver *driver, bj_ctx *ctx, const char *given_command,
                  const struct json_t *arguments, struct start_plan *ret);

static int qmp_execute(struct driver *driver, struct driver_request *request,
                const struct driver_command *command)
{
    struct qmp *qmp = qmp_of(driver);
    if (outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct command *raw = command_new_raw(&qmp->outbox, command);
    if (!raw)
        return BJ_E_NOMEM;
    qmp_submit(qmp, raw, request);
    return BJ_OK;
}

static int ask_unless_full(struct qmp *qmp, struct driver_request *request, const char *name,
                           const char *arguments)
{
    const struct driver_command command = {.name = name, .arguments = arguments};
    return qmp_execute(&qmp->driver, request, &command);
}

static bool qmp_withdraw(struct driver *driver, struct driver_request *request)
{
    struct qmp *qmp = qmp_of(driver);

    if (start_commands_leave(&qmp->start_commands, request))
        return true;
    return outbox_withdraw(&qmp->outbox, request);
}

static bool qmp_is_owed(struct driver *driver)
{
    return !outbox_is_empty(&qmp_of(driver)->outbox);
}

static void qmp_abandon(struct driver *driver, int error, const char *text)
{
    struct qmp *qmp = qmp_of(driver);
    qmp_fail_waiting_graph(qmp, error, text);
    outbox_abandon(&qmp->outbox, error, text);
}

static bool qmp_has(struct driver *driver, const char *command)
{
    return qmp_knows_command(qmp_of(driver), command);
}

static int qmp_takes(struct driver *driver, const char *command)
{
    return start_commands_take(&qmp_of(driver)->start_commands, command);
}

/* One schema for all who wait: it is 150 to 250 kB. Refused or odd, it teaches nothing, and the
 * jobs go without ids. */
static void schema_known(struct driver_request *request, struct driver_reply *reply)
{
    struct start_commands *commands = container_of(request, struct start_commands, request);
    const json_t *schema = qmp_reply_value(reply);
    bool is_answer = reply->error == BJ_OK || reply->error == BJ_E_REFUSED;
    struct driver_reply known = {
        .error = is_answer ? BJ_OK : reply->error,
        .is_lost = reply->is_lost,
        .text = reply->text,
    };

    commands->under_way = false;
    if (is_answer)
        start_commands_learn(commands, schema);
    start_commands_answer(commands, &known);
}

static int qmp_probe(struct driver *driver, struct driver_request *request)
{
    struct qmp *qmp = qmp_of(driver);
    struct start_commands *commands = &qmp->start_commands;
    if (commands->waiting_count >= qmp->outbox.queued_limit || outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;

    commands->request.done = schema_known;
    int r = commands->under_way ? BJ_OK
                                : qmp_ask(qmp, &commands->request, "query-qmp-schema", NULL, false);
    if (r != BJ_OK)
        return r;
    commands->under_way = true;
    start_commands_wait(commands, request);
    return BJ_OK;
}

static bool qmp_is_verb(struct driver *driver, const char *command, const char *arguments,
                 enum verb *ret_verb, char **ret_id)
{
    (void)driver;
    json_t *object = arguments ? json_text_object(arguments, NULL) : NULL;
    const char *id = qmp_verb_of(command, object, ret_verb);
    *ret_id = id ? strdup(id) : NULL;
    json_decref(object);
    return *ret_id != NULL;
}

static void qmp_prepare(struct driver *driver, struct driver_request *request, const char *id)
{
    struct qmp *qmp = qmp_of(driver);
    char *arguments =
        qmp->complete && !request->prepared
            ? qmp_verb_arguments(qmp->complete, VERB_COMPLETE, id, 0, qmp_knows_command, qmp)
            : NULL;
    if (arguments)
        request->prepared = command_new(&qmp->outbox, qmp->complete, arguments, true);
    free(arguments);
}

static void qmp_unprepare(struct driver_request *request)
{
    command_free(request->prepared);
    request->prepared = NULL;
}

static int send_verb_command(struct qmp *qmp, struct driver_request *request,
                             const struct driver_verb *verb)
{
    const char *name = verb->verb == VERB_COMPLETE
                           ? qmp->complete
                           : qmp_verb_command(verb->verb, verb->type, qmp_knows_command, qmp);
    if (!name)
        return BJ_E_UNSUPPORTED;
    char *arguments =
        verb->verb == VERB_CHANGE
            ? qmp_change_arguments(verb->id, verb->type, verb->options)
            : qmp_verb_arguments(name, verb->verb, verb->id, verb->speed, qmp_knows_command, qmp);
    int r = arguments ? qmp_ask(qmp, request, name, arguments, true) : BJ_E_NOMEM;
    free(arguments);
    return r;
}

static int qmp_verb(struct driver *driver, struct driver_request *request, const struct driver_verb *verb)
{
    struct qmp *qmp = qmp_of(driver);
    struct command *prepared = request->prepared;
    if (verb->verb == VERB_COMPLETE && verb->run_data)
        return ask_unless_full(qmp, request, QMP_REOPEN, text_str(verb->run_data));
    if (prepared && qmp->stage != QMP_DOWN) {
        request->prepared = NULL;
        qmp_submit(qmp, prepared, request);
        return BJ_OK;
    }
    /* One per job is bounded by itself. */
    bool shared = verb->verb <= VERB_FORCE || verb->verb == VERB_DISMISS;
    return !shared && outbox_is_full(&qmp->outbox) ? BJ_E_BUSY
                                                   : send_verb_command(qmp, request, verb);
}

/* ----------------------------------------------------------------------- ends */

static void qmp_make_up_end(struct driver *driver, const struct driver_end *end)
{
    struct qmp *qmp = qmp_of(driver);
    char *data = made_up_end_data(end);

    made_up_ends_add(&qmp->made_up_ends, end->id);
    if (qmp->sink->wants_events(qmp->user))
        qmp->sink->event(qmp->user, MADE_UP_END_EVENT, data, data ? strlen(data) : 0,
                         clock_realtime_us());
    free(data);
}

/* -------------------------------------------------------------------- queries */

/* A query: query-block-jobs, and query-jobs where that is there. */
struct query {
    struct driver_request block_jobs_request;
    struct driver_request jobs_request;
    struct driver_request *asker;
    struct qmp *qmp;
    json_t *block_jobs;
    json_t *jobs;
    int pending;
    int error;
    bool is_lost;
    struct text *text;
};

static void finish_query(struct query *query)
{
    struct driver_reply reply = {
        .error = query->error,
        .is_lost = query->is_lost,
        .text = text_str(query->text),
    };
    const struct row_filter filter = {
        .limit = (size_t)ctx_limit(query->qmp->ctx, BJ_LIMIT_JOBS),
        .wants_row = query->qmp->sink->wants_row,
        .user = query->qmp->user,
    };

    if (query->error == BJ_OK) {
        reply.list = qmp_read_rows(query->block_jobs, query->jobs, &filter);
        if (!reply.list)
            reply.error = BJ_E_NOMEM;
    }
    query->asker->done(query->asker, &reply);

    job_list_free(reply.list);
    json_decref(query->block_jobs);
    json_decref(query->jobs);
    text_unref(query->text);
    free(query);
}

static void query_part_done(struct query *query, json_t **part, struct driver_reply *reply)
{
    const json_t *rows = qmp_reply_value(reply);

    if (reply->error == BJ_OK && json_is_array(rows)) {
        *part = json_incref((json_t *)rows);
    } else if (query->error == BJ_OK) {
        query->error = reply->error != BJ_OK ? reply->error : BJ_E_PROTOCOL;
        query->text = text_printf("%s", reply->text ? reply->text : bj_error_text(query->error));
    }
    query->is_lost |= reply->is_lost;
    if (--query->pending == 0)
        finish_query(query);
}

static void block_jobs_done(struct driver_request *request, struct driver_reply *reply)
{
    struct query *query = container_of(request, struct query, block_jobs_request);
    query_part_done(query, &query->block_jobs, reply);
}

static void jobs_done(struct driver_request *request, struct driver_reply *reply)
{
    struct query *query = container_of(request, struct query, jobs_request);
    query_part_done(query, &query->jobs, reply);
}

static int qmp_query(struct driver *driver, struct driver_request *request, bool urgent)
{
    struct qmp *qmp = qmp_of(driver);
    if (!urgent && outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;

    struct query *query = calloc(1, sizeof *query);
    if (!query)
        return BJ_E_NOMEM;
    query->qmp = qmp;
    query->asker = request;
    query->block_jobs_request.done = block_jobs_done;
    query->jobs_request.done = jobs_done;

    int r = qmp_ask(qmp, &query->block_jobs_request, "query-block-jobs", NULL, urgent);
    if (r != BJ_OK) {
        free(query);
        return r;
    }
    query->pending = 1;
    if (!qmp_knows_command(qmp, "query-jobs"))
        return BJ_OK;
    if (qmp_ask(qmp, &query->jobs_request, "query-jobs", NULL, urgent) == BJ_OK)
        query->pending++;
    else
        query->error = BJ_E_NOMEM;
    return BJ_OK;
}

/* --------------------------------------------------------------------- starts */

static int qmp_transaction(struct driver *driver, struct driver_request *request, const char *actions,
                    bool grouped)
{
    const char *parts[] = {
        "{\"actions\":",
        actions,
        grouped ? ",\"properties\":{\"completion-mode\":\"grouped\"}" : "",
        "}",
    };
    char *arguments = json_text_join(parts, sizeof parts / sizeof parts[0], NULL);
    int r =
        arguments ? ask_unless_full(qmp_of(driver), request, "transaction", arguments) : BJ_E_NOMEM;
    free(arguments);
    return r;
}

static int qmp_plan_start(struct driver *driver, const char *command, const struct json_t *arguments,
                   struct start_plan *ret)
{
    return qmp_make_plan(driver, qmp_of(driver)->ctx, command, arguments, ret);
}

static const char *qmp_id_of(struct driver *driver, const char *name)
{
    (void)driver;
    return name;
}
/* ---- core/src/qmp/secrets.c ---- */

/*
 * Secrets in messages; see secrets.h. Bytes are looked at and not parsed: a trace shows what is on
 * the wire, whatever it is.
 */

static const char MASK[] = "***";
enum { MASK_LEN = sizeof MASK - 1 };

/* A part of the message. */
struct qmp_secrets__span {
    const char *at;
    size_t len;
};

/* What strings that are members of these names hold. */
static const char *const secret_names[] = {
    "password",        /* set_password, change-vnc-password, block_passwd */
    "data",            /* a secret object's; the keys of send-key, which may be a password */
    "secret",          /* sev-inject-launch-secret */
    "key",      "arg", /* change: VNC's password before 6.0 */
};

/* The first words of a human monitor's lines that have a secret somewhere after. */
static const char *const secret_commands[] = {
    "set_password", "change", "object_add", "block_passwd", "sendkey",
};

static bool is_among(const char *const *words, size_t count, struct qmp_secrets__span span)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(words[i]) == span.len && memcmp(words[i], span.at, span.len) == 0)
            return true;
    return false;
}

/* "props.data" is data, too. */
static struct qmp_secrets__span last_part(struct qmp_secrets__span name)
{
    for (size_t i = name.len; i > 0; i--)
        if (name.at[i - 1] == '.')
            return (struct qmp_secrets__span){name.at + i, name.len - i};
    return name;
}

static bool is_secret_name(struct qmp_secrets__span name)
{
    return is_among(secret_names, sizeof secret_names / sizeof secret_names[0], last_part(name));
}

static bool is_command_line(struct qmp_secrets__span name)
{
    static const char *const command_line[] = {"command-line"};
    return is_among(command_line, 1, name);
}

/* --------------------------------------------------------------------- strings */

struct output {
    char *bytes;
    size_t len;
};

static void put(struct output *out, const char *bytes, size_t len)
{
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void put_mask(struct output *out)
{
    put(out, MASK, MASK_LEN);
}

static void put_command_line(struct output *out, struct qmp_secrets__span line)
{
    size_t word = 0;
    while (word < line.len && line.at[word] != ' ')
        word++;
    bool hides = is_among(secret_commands, sizeof secret_commands / sizeof secret_commands[0],
                          (struct qmp_secrets__span){line.at, word});
    if (!hides || word == line.len) {
        put(out, line.at, line.len);
        return;
    }
    put(out, line.at, word + 1);
    put_mask(out);
}

/* The part of "scheme://user:password@host" that is the password; its length is 0 if there is none.
 * iSCSI has user%password. */
static struct qmp_secrets__span password_in(struct qmp_secrets__span url)
{
    const char *end = url.at + url.len;
    const char *authority = memmem(url.at, url.len, "://", 3);
    if (!authority)
        return (struct qmp_secrets__span){end, 0};
    authority += 3;

    const char *password = NULL;
    for (const char *at = authority; at < end && *at != '/' && *at != '"'; at++) {
        if (*at == '@' && password)
            return (struct qmp_secrets__span){password, (size_t)(at - password)};
        if ((*at == ':' || *at == '%') && !password)
            password = at + 1;
    }
    return (struct qmp_secrets__span){end, 0};
}

static void put_string(struct output *out, struct qmp_secrets__span string)
{
    struct qmp_secrets__span password = password_in(string);
    size_t before = (size_t)(password.at - string.at);
    if (password.len == 0) {
        put(out, string.at, string.len);
        return;
    }
    put(out, string.at, before);
    put_mask(out);
    put(out, password.at + password.len, string.len - before - password.len);
}

/* --------------------------------------------------------------------- messages */

/* The string whose first letter this is, without its quotes; to the end of the bytes if it has none
 * itself. */
static struct qmp_secrets__span qmp_secrets__string_at(const char *at, const char *end)
{
    const char *begin = at;
    while (at < end && *at != '"')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return (struct qmp_secrets__span){begin, (size_t)(at - begin)};
}

static const char *after_space(const char *at, const char *end)
{
    while (at < end && strchr(" \t\r\n", *at) && *at)
        at++;
    return at;
}

static void put_value(struct output *out, struct qmp_secrets__span name, struct qmp_secrets__span value)
{
    if (is_secret_name(name))
        put_mask(out);
    else if (is_command_line(name))
        put_command_line(out, value);
    else
        put_string(out, value);
}

/* A name that is followed by a string is that string's; else it was a value itself. */
static void mask(struct output *out, const char *at, const char *end)
{
    struct qmp_secrets__span name = {at, 0};

    while (at < end) {
        char c = *at++;
        put(out, &c, 1);
        if (c == '"') {
            struct qmp_secrets__span string = qmp_secrets__string_at(at, end);
            const char *next = string.at + string.len;
            bool is_name = next < end && (next = after_space(next + 1, end)) < end && *next == ':';
            if (is_name)
                put(out, string.at, string.len);
            else
                put_value(out, name, string);
            name = is_name ? string : (struct qmp_secrets__span){end, 0};
            at = string.at + string.len;
            if (at < end)
                put(out, at++, 1);
        } else if (c != ':' && !strchr(" \t\r\n", c)) {
            name = (struct qmp_secrets__span){end, 0};
        }
    }
}

static struct text *secrets_mask(const char *bytes, size_t len)
{
    /* What is hidden may be shorter than its mask, but not with the name or the "://" before it. */
    struct output out = {.bytes = malloc(2 * len + MASK_LEN + 1)};
    if (!out.bytes)
        return NULL;
    mask(&out, bytes, bytes + len);
    struct text *masked = text_new(out.bytes, out.len);
    free(out.bytes);
    return masked;
}
/* ---- core/src/qmp/snapshots.c ---- */

/*
 * Snapshots of what uses a job's disk, and comparing with them: one query of the block graph
 * answers all requests that wait for it, and yields to what is urgent.
 */

/* A QEMU with many disks takes a while to list its block graph, and serves no command meanwhile: so
 * one query answers all requests that wait for it. A query already in flight may predate a new
 * request, which therefore needs the next one. */
struct graph_request {
    struct graph_request *next;
    struct driver_request *asker;
    bool compares;                        /* else it takes a snapshot */
    const struct driver_snapshot *before; /* to compare with; NULL: there is none */
    bool urgent;
    char id[];
};

static void qmp_snapshots__answer(struct graph_request *request, const struct driver_reply *reply,
                   const struct qmp_graph *graph)
{
    struct driver_reply result = {
        .error = reply->error,
        .is_lost = reply->is_lost,
        .text = reply->text,
    };

    if (reply->error == BJ_OK && request->compares)
        result.switched = qmp_graph_compare(request->before, graph, request->id);
    else if (reply->error == BJ_OK)
        result.snapshot = qmp_graph_snapshot(graph, request->id);
    request->asker->done(request->asker, &result);
    qmp_free_snapshot(result.snapshot);
    free(request);
}

/* Takes them first: an asker that is answered may ask again. */
static void answer_all(struct graph_request **requests, struct driver_reply *reply)
{
    struct graph_request *request = *requests;
    const json_t *nodes = request ? qmp_reply_value(reply) : NULL;
    struct qmp_graph *graph = nodes ? qmp_graph_open(nodes) : NULL;

    *requests = NULL;
    while (request) {
        struct graph_request *next = request->next;
        qmp_snapshots__answer(request, reply, graph);
        request = next;
    }
    qmp_graph_close(graph);
}

static void graph_read(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, graph_query);
    answer_all(&qmp->graph_requests_sent, reply);
}

/* A snapshot that nobody waits for yields to queued commands; a comparison decides how a job ended,
 * and does not. */
static bool graph_can_wait(const struct qmp *qmp)
{
    if (outbox_is_empty(&qmp->outbox))
        return false;
    for (const struct graph_request *r = qmp->graph_requests_waiting; r; r = r->next)
        if (r->urgent)
            return false;
    return true;
}

static int query_graph(struct qmp *qmp)
{
    if (!qmp->graph_requests_waiting || qmp->graph_requests_sent || graph_can_wait(qmp))
        return BJ_OK;
    bool has_graph = qmp->driver.capabilities.has_graph;
    const char *command = has_graph ? "x-debug-query-block-graph" : "query-block";

    qmp->graph_query.done = graph_read;
    int r = qmp_ask(qmp, &qmp->graph_query, command, NULL, false);
    if (r == BJ_OK) {
        qmp->graph_requests_sent = qmp->graph_requests_waiting;
        qmp->graph_requests_waiting = NULL;
    }
    return r;
}

static void qmp_query_waiting_graph(struct qmp *qmp)
{
    int r = query_graph(qmp);
    if (r != BJ_OK)
        answer_all(&qmp->graph_requests_waiting,
                   &(struct driver_reply){.error = r, .is_lost = r == BJ_E_DISCONNECTED});
}

static int request_graph(struct qmp *qmp, const struct graph_request *what, const char *id)
{
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct graph_request *request = calloc(1, sizeof *request + strlen(id) + 1);
    if (!request)
        return BJ_E_NOMEM;
    *request = *what;
    memcpy(request->id, id, strlen(id) + 1);
    request->next = qmp->graph_requests_waiting;
    qmp->graph_requests_waiting = request;

    int r = query_graph(qmp);
    if (r != BJ_OK) {
        qmp->graph_requests_waiting = request->next;
        free(request);
    }
    return r;
}

static int qmp_take_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                      const char *device, bool urgent)
{
    struct qmp *qmp = qmp_of(driver);
    bool by_device = device && !driver->capabilities.has_graph;
    return request_graph(qmp, &(struct graph_request){.asker = request, .urgent = urgent},
                         by_device ? device : id);
}

static int qmp_compare_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                         const struct driver_snapshot *before)
{
    const struct graph_request what = {
        .asker = request, .compares = true, .before = before, .urgent = true};
    return request_graph(qmp_of(driver), &what, id);
}

static void qmp_fail_waiting_graph(struct qmp *qmp, int error, const char *text)
{
    answer_all(&qmp->graph_requests_waiting,
               &(struct driver_reply){.error = error, .is_lost = true, .text = text});
}
/* ---- core/src/qmp/start_arguments.c ---- */

/*
 * What a run that is about to be started is called on the QEMU at hand; see start_arguments.h.
 */

static char *new_id(bj_ctx *ctx)
{
    char *id = NULL;
    int len = asprintf(&id, "bj-%016llx-%llu", (unsigned long long)ctx->job_id_prefix,
                       (unsigned long long)++ctx->job_ids);
    return len < 0 ? NULL : id;
}

/* The command, or the name that this QEMU has for it. */
static const char *qmp_start_arguments__word_of(struct driver *driver, const char *command)
{
    bool is_stream = strcmp(command, "block-stream") == 0;
    bool is_old = is_stream && !driver->ops->has_command(driver, command) &&
                  driver->ops->has_command(driver, "block_stream");
    return is_old ? "block_stream" : command;
}

static char *added_members(const char *id, bool add_dismiss)
{
    char *members = NULL;
    int len =
        asprintf(&members, "%s%s%s%s%s", id ? "\"job-id\":\"" : "", id ? id : "", id ? "\"" : "",
                 id && add_dismiss ? "," : "", add_dismiss ? "\"auto-dismiss\":false" : "");
    return len < 0 ? NULL : members;
}

/* RHEL 6.3 has no complete; there __com.redhat_drive-reopen in sync ends the mirror and opens its
 * copy (B59). Without the format QEMU would guess it from what the guest has written. NULL: *ret_r
 * tells whether memory is short. */
static struct text *reopen_arguments(const char *command, const json_t *arguments, int *ret_r)
{
    const char *device = json_string_value(json_object_get(arguments, "device"));
    const char *target = json_string_value(json_object_get(arguments, "target"));
    const char *format = json_string_value(json_object_get(arguments, "format"));

    *ret_r = BJ_OK;
    if (strcmp(command, "__com.redhat_drive-mirror") != 0 || !device || !target || !format)
        return NULL;
    json_t *reopen =
        json_pack("{s:s, s:s, s:s}", "device", device, "new-image-file", target, "format", format);
    char *json = reopen ? json_dumps(reopen, JSON_COMPACT) : NULL;
    struct text *text = json ? text_new(json, strlen(json)) : NULL;
    json_decref(reopen);
    free(json);
    *ret_r = text ? BJ_OK : BJ_E_NOMEM;
    return text;
}

static int qmp_make_plan(struct driver *driver, bj_ctx *ctx, const char *given_command,
                  const json_t *arguments, struct start_plan *ret)
{
    const char *command = qmp_start_arguments__word_of(driver, given_command);
    const struct start_command *known = start_command_find(command);
    unsigned takes = (unsigned)driver->ops->takes(driver, command);
    const char *given = json_string_value(json_object_get(arguments, "job-id"));
    const char *device = json_string_value(json_object_get(arguments, "device"));
    const json_t *auto_dismiss = json_object_get(arguments, "auto-dismiss");

    /* A QEMU without a schema is older than job ids; RHEL 6.2 ignores what it does not know. */
    bool can_name = takes & TAKES_JOB_ID || driver->ops->has_command(driver, "query-qmp-schema");
    bool add_id = !given && takes & TAKES_JOB_ID;
    bool add_dismiss =
        !auto_dismiss && takes & TAKES_AUTO_DISMISS && driver->capabilities.has_dismiss;
    bool stays = !known || !known->auto_dismisses; /* a job that QEMU itself never dismisses */
    char *id = add_id              ? new_id(ctx)
               : given && can_name ? strdup(given)
                                   : strdup(device ? device : "");

    int r;
    *ret = (struct start_plan){
        .command = command,
        .run_data = reopen_arguments(command, arguments, &r),
        .id = id,
        .has_own_id = add_id,
        .members = id ? added_members(add_id ? id : NULL, add_dismiss) : NULL,
        .device = device ? strdup(device) : NULL,
        .type = known ? known->type : "",
        .kept = json_is_false(auto_dismiss),
        .replaces = json_object_get(arguments, "replaces") != NULL,
        .ours = add_dismiss || (stays && !auto_dismiss && driver->capabilities.has_status),
    };
    if (r == BJ_OK && ret->members && (!device || ret->device))
        return BJ_OK;
    start_plan_clear(ret);
    return BJ_E_NOMEM;
}
/* ---- core/src/qmp/start_commands.c ---- */

/*
 * The commands that start jobs; see start_commands.h.
 */

static const struct start_command table[START_COMMANDS] = {
    {"blockdev-mirror", "mirror", true},
    {"drive-mirror", "mirror", true},
    {"block-commit", "commit", true},
    {"block-stream", "stream", true},
    {"blockdev-backup", "backup", true},
    {"drive-backup", "backup", true},
    {"blockdev-create", "create", false},
    {"block_stream", "stream", false},              /* RHEL 6.2, 1.0.50 */
    {"__com.redhat_drive-mirror", "mirror", false}, /* RHEL 6.3 */
    {"__com.redhat_block-commit", "commit", false}, /* RHEL 6.8 */
};

static int index_of(const char *command)
{
    for (int i = 0; command && i < START_COMMANDS; i++)
        if (strcmp(table[i].command, command) == 0)
            return i;
    return -1;
}

static const struct start_command *start_command_find(const char *command)
{
    int i = index_of(command);
    return i < 0 ? NULL : &table[i];
}

/* Job ids came with 2.7, auto-dismiss with 2.12, 3.0 and 3.1, a command at a time. 4.0 has both
 * everywhere, and is recognised by its query of the block graph; before 2.5, which had no schema,
 * there was neither. In between only the schema tells. */
static void start_commands_init(struct start_commands *commands, qmp_has_command *has, void *user)
{
    *commands = (struct start_commands){.modern = has(user, "x-debug-query-block-graph")};
    commands->known = commands->modern || !has(user, "query-qmp-schema");
    if (commands->modern)
        for (int i = 0; i < START_COMMANDS; i++)
            commands->takes[i] =
                table[i].auto_dismisses ? TAKES_JOB_ID | TAKES_AUTO_DISMISS : TAKES_JOB_ID;
}

static int start_commands_take(const struct start_commands *commands, const char *command)
{
    int i = index_of(command);
    if (!commands->known)
        return -1;
    if (i >= 0)
        return commands->takes[i];
    return commands->modern ? TAKES_JOB_ID : 0;
}

static void start_commands_wait(struct start_commands *commands, struct driver_request *request)
{
    struct driver_request **last = &commands->waiting;
    while (*last)
        last = &(*last)->next;
    request->next = NULL;
    *last = request;
    commands->waiting_count++;
}

static bool start_commands_leave(struct start_commands *commands, const struct driver_request *request)
{
    for (struct driver_request **link = &commands->waiting; *link; link = &(*link)->next) {
        if (*link == request) {
            *link = request->next;
            commands->waiting_count--;
            return true;
        }
    }
    return false;
}

static void start_commands_answer(struct start_commands *commands, struct driver_reply *reply)
{
    while (commands->waiting) {
        struct driver_request *request = commands->waiting;
        commands->waiting = request->next;
        commands->waiting_count--;
        request->done(request, reply);
    }
}

static unsigned char members_taken(const json_t *type)
{
    unsigned char takes = 0;
    size_t i;
    const json_t *member;

    json_array_foreach(json_object_get(type, "members"), i, member)
    {
        const char *name = json_string_value(json_object_get(member, "name"));
        if (name && strcmp(name, "job-id") == 0)
            takes |= TAKES_JOB_ID;
        else if (name && strcmp(name, "auto-dismiss") == 0)
            takes |= TAKES_AUTO_DISMISS;
    }
    return takes;
}

static bool is_of(const json_t *entry, const char *meta_type)
{
    const char *value = json_string_value(json_object_get(entry, "meta-type"));
    return value && strcmp(value, meta_type) == 0;
}

/* A command names the type of its arguments, which may stand anywhere. */
static void start_commands_learn(struct start_commands *commands, const json_t *schema)
{
    const json_t *types[START_COMMANDS] = {0};
    size_t i;
    const json_t *entry;

    json_array_foreach(schema, i, entry)
    {
        int command = index_of(json_string_value(json_object_get(entry, "name")));
        if (command >= 0 && is_of(entry, "command"))
            types[command] = json_object_get(entry, "arg-type");
    }
    json_array_foreach(schema, i, entry)
    {
        for (int s = 0; s < START_COMMANDS; s++)
            if (types[s] && json_equal(types[s], json_object_get(entry, "name")) &&
                is_of(entry, "object"))
                commands->takes[s] = members_taken(entry);
    }
    commands->known = true;
}
