/* SPDX-License-Identifier: MIT */
/*
 * Which driver an address is for.
 */
#ifndef BJ_API_OPEN_DRIVER_H
#define BJ_API_OPEN_DRIVER_H

#include "base/ctx.h"
#include "driver/address.h"
#include "driver/driver.h"

/* Starts connecting; takes over what is in `address`. `before` is what the driver of an earlier
 * connection has left, only to look at; NULL: there was none. NULL: no memory. */
struct driver *driver_open(bj_ctx *ctx, const char *uri, struct address *address,
                           const struct driver_legacy *before, const struct driver_sink *sink,
                           void *user);

#endif
