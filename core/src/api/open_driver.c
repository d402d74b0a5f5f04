/* SPDX-License-Identifier: MIT */
/*
 * Which driver an address is for; see open_driver.h.
 */
#include "api/open_driver.h"
#include "driver/module.h"
#include "qmp/connection.h"

struct driver *driver_open(bj_ctx *ctx, const char *uri, struct address *address, bool out_of_band,
                           const struct driver_sink *sink, void *user)
{
    if (address->kind != ADDRESS_LIBVIRT)
        return qmp_open(ctx, uri, address, out_of_band, sink, user);

    struct _virDomain *domain = address->domain;
    address->domain = NULL;
    return address->module->open(ctx->loop, uri, domain, sink, user);
}
