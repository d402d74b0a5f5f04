/* SPDX-License-Identifier: MIT */
/*
 * Which driver an address is for.
 */
#ifndef BJ_API_OPEN_DRIVER_H
#define BJ_API_OPEN_DRIVER_H

#include "base/ctx.h"
#include "driver/address.h"
#include "driver/driver.h"

/* Starts connecting; takes over what is in `address`. `out_of_band`: the program wants to execute
 * commands so, where that is offered. NULL: no memory. */
struct driver *driver_open(bj_ctx *ctx, const char *uri, struct address *address, bool out_of_band,
                           const struct driver_sink *sink, void *user);

#endif
