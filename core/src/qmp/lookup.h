/* SPDX-License-Identifier: MIT */
/*
 * Host names: looked up by threads, as getaddrinfo() blocks, for half a minute where no name server
 * answers. The process has a few of them at a time; further names wait their turn.
 */
#ifndef BJ_QMP_LOOKUP_H
#define BJ_QMP_LOOKUP_H

#include "base/ctx.h"

struct addrinfo;
struct lookup;

/* The addresses are the callee's. Else `error` is a bj_error, and *text, a reference, the reason.
 */
typedef void lookup_done(void *user, int error, struct addrinfo *found, struct text *text);

/* The loop's thread. `done` is called once, later, there. BJ_E_NOMEM; BJ_E_SYSTEM: no thread. */
int lookup_start(bj_ctx *ctx, const char *host, const char *port, lookup_done *done, void *user,
                 struct lookup **ret);

/* Before `done` was called: it will not be. One that waits its turn goes; one under way keeps its
 * thread until getaddrinfo() returns. */
void lookup_cancel(struct lookup *lookup);

/* An address in figures, at once; NULL: it is none. */
struct addrinfo *lookup_figures(const char *host, const char *port);

#endif
