/* SPDX-License-Identifier: MIT */
/*
 * Which driver an address is for.
 */
#ifndef BJ_API_OPEN_DRIVER_H
#define BJ_API_OPEN_DRIVER_H

#include "base/ctx.h"
#include "driver/address.h"
#include "driver/driver.h"

/* Starts connecting; takes over what is in `address`, which peer->uri says. NULL: no memory. */
struct driver *driver_open(bj_ctx *ctx, const struct driver_peer *peer, struct address *address,
                           const struct driver_sink *sink, void *user);

#endif
