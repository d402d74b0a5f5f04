/* SPDX-License-Identifier: MIT */
/*
 * The libvirt driver: one domain.
 */
#ifndef BJ_DOMAIN_H
#define BJ_DOMAIN_H

#include "driver_module.h"

/* driver_module.open */
struct driver *domain_open(struct loop *loop, const char *uri, struct _virDomain *theirs,
                           const struct driver_sink *sink, void *user);

#endif
