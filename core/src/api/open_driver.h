/* SPDX-License-Identifier: MIT */
/*
 * Which driver an address is for.
 */
#ifndef BJ_API_OPEN_DRIVER_H
#define BJ_API_OPEN_DRIVER_H

#include "base/ctx.h"
#include "driver/address.h"
#include "driver/driver.h"

/* Starts connecting; takes over what is in `address`, which `uri` says. `label` is what texts call
 * the peer. NULL: no memory. */
struct driver *driver_open(bj_ctx *ctx, const char *uri, const char *label, struct address *address,
                           const struct driver_sink *sink, void *user);

#endif
