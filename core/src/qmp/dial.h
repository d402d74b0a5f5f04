/* SPDX-License-Identifier: MIT */
/*
 * From an address to a connected socket, without blocking the loop.
 */
#ifndef BJ_QMP_DIAL_H
#define BJ_QMP_DIAL_H

#include "base/ctx.h"
#include "driver/address.h"

struct dial;

/* `done` is called once, never from inside dial_start(): with a socket that is the callee's, or
 * with a bj_error and a sentence, a reference. Takes over what is in `address`. NULL: no memory. */
struct dial *dial_start(bj_ctx *ctx, struct address *address, const char *uri,
                        void (*done)(void *user, int fd, struct text *text), void *user);

/* Before `done` was called, or inside it. `done` will not be called. */
void dial_cancel(struct dial *dial);

/* The host whose name is being looked up; NULL: none. Belongs to it. */
const char *dial_looks_up(const struct dial *dial);

/* Inside `done`: why it failed may pass, as nobody listens there yet. */
bool dial_found_nobody(const struct dial *dial);

/* The sentence for a BJ_E_SYSTEM with that errno, or for BJ_E_NOMEM. */
struct text *dial_no_means(const char *uri, int error, int system_error);

#endif
