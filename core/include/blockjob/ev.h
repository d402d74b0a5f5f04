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

/* A context on `loop`, which the program runs with ev_run(). Call this, bj_ctx_close() and the last
 * bj_ctx_unref() on the loop's thread (there they do not block); everything else may come from any
 * thread. The loop must outlive the context's close. While the context has no monitors and nothing
 * pending it does not keep ev_run() from returning. Callbacks run on the loop's thread, out of
 * ev_run(), but those that bj_ctx_close() owes run inside it; it waits for no QEMU, so let ev_run()
 * return after bj_monitor_close() first. */
int bj_ctx_new_on_loop(struct ev_loop *loop, bj_ctx **ret_ctx);

#ifdef __cplusplus
}
#endif

#endif
