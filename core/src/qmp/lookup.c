/* SPDX-License-Identifier: MIT */
/*
 * Host names; see lookup.h.
 */
#include "qmp/lookup.h"
#include "base/text.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

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
static void begin_child(void)
{
    queue.first = NULL;
    queue.last = &queue.first;
    queue.threads = 0;
    after_fork();
}

static bool is_prepared;

static void prepare_once(void)
{
    is_prepared = pthread_atfork(before_fork, after_fork, begin_child) == 0;
}

static bool prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare_once);
    return is_prepared;
}

static void append(struct lookup *lookup)
{
    lookup->is_queued = true;
    *queue.last = lookup;
    queue.last = &lookup->next;
}

static bool take_out(struct lookup *lookup)
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
        take_out(lookup);
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
    append(lookup);
    if (queue.threads < THREADS_MAX && start_thread() == 0)
        queue.threads++;
    bool is_served = queue.threads > 0 || !take_out(lookup);
    pthread_mutex_unlock(&queue.lock);
    return is_served;
}

/* --------------------------------------------------------------------- answers */

static bool lacks_descriptors(int error)
{
    return error == EMFILE || error == ENFILE;
}

/* Without descriptors getaddrinfo() may say anything, for example that there is no such name. */
static void answer(struct lookup *lookup)
{
    int error = lookup->error, system_error = lookup->system_error;
    struct addrinfo *found = lookup->found;

    lookup->found = NULL;
    if (error == 0)
        lookup->done(lookup->user, BJ_OK, found, NULL);
    else if (error == EAI_MEMORY)
        lookup->done(lookup->user, BJ_E_NOMEM, NULL, text_printf("%s", bj_error_text(BJ_E_NOMEM)));
    else if (error == EAI_SYSTEM || lacks_descriptors(system_error))
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
        answer(lookup);
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

int lookup_start(bj_ctx *ctx, const char *host, const char *port, lookup_done *done, void *user,
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

void lookup_cancel(struct lookup *lookup)
{
    pthread_mutex_lock(&queue.lock);
    bool is_mine = take_out(lookup);
    pthread_mutex_unlock(&queue.lock);

    loop_unhold(lookup->ctx->loop);
    lookup->done = NULL;
    if (is_mine)
        free_lookup(lookup);
}

struct addrinfo *lookup_figures(const char *host, const char *port)
{
    struct addrinfo *found = NULL;
    return look_up(host, port, AI_NUMERICHOST, &found) == 0 ? found : NULL;
}
