/* SPDX-License-Identifier: MIT */
/*
 * A driver that is a library of its own, found at run time, so that the core needs nothing of what
 * it needs; or is linked into the program. It holds copies of the core's files that it uses (see
 * the Makefile), so both must be of one version.
 */
#ifndef BJ_DRIVER_MODULE_H
#define BJ_DRIVER_MODULE_H

#include "base/text.h"
#include "driver/driver.h"

#define DRIVER_MODULE_FILE "libblockjob-libvirt.so.0"
#define DRIVER_MODULE_SYMBOL "blockjob_driver_module"

struct _virDomain;
struct loop;

struct driver_module {
    const char *version; /* BJ_VERSION_... of its making, as "0.1.0" */

    /* Any thread. BJ_OK; BJ_E_INVAL with a sentence. */
    int (*check)(const char *uri, struct text **ret_text);
    /* Any thread. The address of a domain, for display: malloc'ed; NULL: no memory. */
    char *(*uri_of)(struct _virDomain *domain);
    void (*ref)(struct _virDomain *domain);
    void (*unref)(struct _virDomain *domain);

    /* The loop's thread. As driver_open(); takes over the reference to `domain`, which may be NULL:
     * then peer->uri, which was checked, says which; or peer->before does. */
    struct driver *(*open)(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *domain, const struct driver_sink *sink, void *user);
};

/* Any thread. BJ_OK; BJ_E_UNSUPPORTED, BJ_E_SYSTEM with a sentence about what `wanted` it. */
int driver_module_load(const char *wanted, const struct driver_module **ret,
                       struct text **ret_text);

#endif
