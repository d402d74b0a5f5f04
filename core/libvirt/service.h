/* SPDX-License-Identifier: MIT */
/*
 * libvirt's event loop, of which a process has one: ours, on a thread of its own, where the program
 * has registered none (B68).
 *
 * A program that registers one before our first connection has its own: ours is not there then.
 * One that registers later comes too late: libvirt keeps the first, and says so in its log. Its
 * connections work, but their callbacks run on our thread; virEventRunDefaultImpl() returns after
 * each, so that a loop around it sees what they did. Nothing more can be done: libvirt tells nobody
 * of a later registration, and can't change.
 *
 * A child of fork() inherits the registration and gets a thread when it first needs one; what its
 * parent had registered is not watched there.
 */
#ifndef BJ_SERVICE_H
#define BJ_SERVICE_H

#include <stdbool.h>

/* Any thread; before a connection is opened. The first call registers our loop unless libvirt has
 * one by then; others find what the first has done. Once registered it serves the process to its
 * end, the program's own connections included. BJ_OK, BJ_E_NOMEM, BJ_E_SYSTEM. */
int service_start(void);

/* A connection to a libvirtd that was opened before libvirt had a loop never hears an event, but
 * while a call of it is under way. `call` makes one, a few times at most: false if ours is the loop
 * and libvirt did not look after it meanwhile, as it does for connections that it listens to,
 * unless another thread keeps it busy. Blocks as `call` does. */
bool service_watches_connection(void (*call)(void *user), void *user);

/* `passed` is called by libvirt's loop, once, when it has called back for all events that it had
 * when this was called, unless the process ends first. Any thread, after service_start(). False:
 * there is no loop, or no memory. */
bool service_fence(void (*passed)(void *user), void *user);

/* A program's own loop may not notice what other threads do to it: libvirtaio's does not wake for a
 * timer, so that an event which libvirt has read during a call on another thread would wait there
 * for the next one. So each connection that we make calls on has a nudge, and wakes that loop after
 * each call, virConnectClose() included. */
struct nudge;

/* Any thread, after service_start(). NULL: the loop is ours and needs none, or it takes none. */
struct nudge *nudge_new(void);
void nudge_loop(struct nudge *nudge); /* any thread; takes NULL */
void nudge_free(struct nudge *nudge); /* any thread, also when it is nudged last; takes NULL */

#endif
