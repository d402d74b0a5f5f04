/* SPDX-License-Identifier: MIT */
/*
 * libblockjob inside a program's own libev loop: no thread is made.
 */
#ifndef BLOCKJOB_EV_H
#define BLOCKJOB_EV_H

#include "blockjob.h"
#include <ev.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A context on `loop`, which the program runs with ev_run(); it must outlive the context's close.
 * The context takes two descriptors and three watchers: an ev_io on an epoll set that holds all its
 * sockets, an ev_timer and an ev_fork. BJ_E_NOMEM, BJ_E_SYSTEM.
 *
 * ev_run(): while the context has no monitors and nothing pending it does not keep ev_run() from
 * returning. Callbacks run on the thread that runs the loop, out of ev_run(). An ev_run() inside a
 * callback serves the program's own watchers only, and does not wait for this context.
 *
 * Threads: call this on the loop's thread, and bj_ctx_close() there or when no thread is in
 * ev_run(); elsewhere it returns BJ_E_STATE, as far as it can know: a thread counts as the loop's
 * once the context has had a turn there. Everything else may come from any thread; the last
 * bj_ctx_unref(), if another thread runs the loop, closes the context in the loop's next turn. The
 * thread may change between two ev_run(), and may end; then the thread before calls nothing here
 * until the context has had a turn on the new one.
 *
 * bj_ctx_close() never blocks here and waits for no QEMU (let ev_run() return after
 * bj_monitor_close() first): it answers all that is pending, then runs the callbacks that are due,
 * inside it; or, if it is called in a callback, as soon as that has returned.
 *
 * fork(): a child that goes on with the loop calls ev_loop_fork(). Nothing of the context is in the
 * loop then, and a new context can be made on it. */
int bj_ctx_new_on_loop(struct ev_loop *loop, bj_ctx **ret_ctx);

#ifdef __cplusplus
}
#endif

#endif
