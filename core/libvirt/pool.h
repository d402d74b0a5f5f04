/* SPDX-License-Identifier: MIT */
/*
 * Threads for libvirt's calls, each of which may block for seconds or for ever (B67). The calls of
 * one lane (a domain's) run one after the other in their order, those of several lanes side by
 * side: a lane that is stuck delays no other. Threads come when there is work and go when there is
 * none for a while; at most POOL_THREADS_MAX, all signals blocked. Nothing waits for them when the
 * process exits. A child of fork() begins with an empty pool: the calls its parent had submitted
 * are the parent's.
 *
 * Lanes that are likely to get stuck together, because they lead to one host, form a group. A group
 * begins a call only while it has fewer threads than all calls together leave free: one that is
 * stuck as a whole gets half of them at most, two get a third each, and there is always a thread
 * for a group that has none.
 */
#ifndef BJ_POOL_H
#define BJ_POOL_H

#include "mailbox.h"

enum { POOL_THREADS_MAX = 256 };

/* A thread goes when it has had nothing to do for so long. */
enum { POOL_IDLE_MS = 2000 };

/* Lies in its owner's memory, from lane_submit() until one of `done` and `dropped` is called. */
struct call {
    struct call *next;
    struct loop_task task;
    struct lane *lane;
    void (*run)(struct call *call);     /* a thread of the pool */
    void (*done)(struct call *call);    /* the loop's thread, after run() */
    void (*dropped)(struct call *call); /* instead, on the pool's: the mailbox was closed before */
};

struct lane_group;
struct lane;

/* Any thread. For one who submits calls under a lock that a fork handler takes: before it registers
 * that. */
void pool_init(void);

struct lane_group *lane_group_new(void); /* NULL: no memory */
struct lane_group *lane_group_ref(struct lane_group *group);
struct lane_group *lane_group_unref(struct lane_group *group); /* takes NULL */

/* Without a mailbox its calls are always dropped when they have run. Without a group it is one of
 * its own. NULL: no memory. */
struct lane *lane_new(struct mailbox *mailbox, struct lane_group *group);
/* The last reference may go while calls are under way: they are run to their end. */
struct lane *lane_ref(struct lane *lane);
struct lane *lane_unref(struct lane *lane); /* takes NULL */

/* Any thread. False: the pool has no thread and the system gives none; nothing of the call will be
 * called. Where it has some, but not one for this lane, the call waits for one. */
bool lane_submit(struct lane *lane, struct call *call);

/* Any thread. True: it had not begun, and nothing of it will be called. Only for a call that was
 * submitted to this lane and of which neither `done` nor `dropped` was called. */
bool lane_withdraw(struct lane *lane, struct call *call);

#endif
