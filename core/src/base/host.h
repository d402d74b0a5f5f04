/* SPDX-License-Identifier: MIT */
/*
 * Loops that another loop runs, the program's on libev. host.c is the only file that knows libev.
 */
#ifndef BJ_BASE_HOST_H
#define BJ_BASE_HOST_H

#include "base/loop.h"

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
int loop_new_on(struct ev_loop *ev, struct loop **ret_loop);

/* For host.c. */
int loop_new_hosted(struct loop_host *host, struct loop **ret_loop);
int loop_set(const struct loop *loop);   /* an fd that is readable when there is something to do */
void loop_ring(const struct loop *loop); /* makes it readable */
/* Runs what is due. False: nothing was run, as something of the loop is on the stack already. */
bool loop_drive(struct loop *loop);

#endif
