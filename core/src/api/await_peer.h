/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a peer that may not be there yet: tried again until it is. The loop's thread.
 */
#ifndef BJ_API_AWAIT_PEER_H
#define BJ_API_AWAIT_PEER_H

#include "api/monitor.h"

struct awaiting;

/* Before the first try, for so long from now on; BJ_TIMEOUT_NONE: until connecting is given up.
 * NULL: no memory. */
struct awaiting *await_begin(bj_monitor *monitor, int64_t wait_ms);
void await_free(struct awaiting *awaiting); /* takes NULL */

/* A try has failed, as *text says: takes it over, and another will follow. False: it was the last;
 * then *text is the sentence for it all. */
bool await_again(struct awaiting *awaiting, struct text **text);

/* Why the last try has failed, for who gives up between two; NULL: there was none. */
const char *await_reason(const struct awaiting *awaiting);

#endif
