/* SPDX-License-Identifier: MIT */
/*
 * Which driver an address is for; see open_driver.h.
 */
#include "api/open_driver.h"
#include "driver/module.h"
#include "qmp/connection.h"

struct driver *driver_open(bj_ctx *ctx, const struct driver_peer *peer, struct address *address,
                           const struct driver_sink *sink, void *user)
{
    if (address->kind != ADDRESS_LIBVIRT)
        return qmp_open(ctx, peer->label, address, peer->out_of_band, sink, user);

    struct _virDomain *domain = address->domain;
    address->domain = NULL;
    return address->module->open(ctx->loop, peer, domain, sink, user);
}
