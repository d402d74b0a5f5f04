/* SPDX-License-Identifier: MIT */
/*
 * The QMP driver: one connection to one QEMU.
 */
#ifndef BJ_QMP_CONNECTION_H
#define BJ_QMP_CONNECTION_H

#include "base/ctx.h"
#include "driver/address.h"
#include "driver/driver.h"

/* Starts connecting; takes over what is in `address`. NULL: no memory. */
struct driver *qmp_open(bj_ctx *ctx, const char *uri, struct address *address, bool out_of_band,
                        const struct driver_sink *sink, void *user);

#endif
