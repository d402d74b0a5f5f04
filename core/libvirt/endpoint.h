/* SPDX-License-Identifier: MIT */
/*
 * Where connections lead to: the URI that they are opened with. A host that does not answer can
 * hold a thread for ever, so an endpoint has one attempt to connect under way, whoever began it,
 * until it has answered; then twice as many with each answer, to a limit, while someone waits: on a
 * long way, one after the other would take too long. Those who want a connection wait in a row: the
 * first one gets it, also when the one for whom it was begun has given up. When an attempt fails,
 * all who waited when it began are told why.
 */
#ifndef BJ_ENDPOINT_H
#define BJ_ENDPOINT_H

#include "pool.h"

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stdint.h>

struct endpoint;

/* Wants a connection of its own. Lies in its owner's memory, from endpoint_open() until `opened` is
 * called or it is withdrawn. */
struct opening {
    struct opening *next;
    uint64_t number; /* in the order in which they came */
    bool is_absent;  /* from `opened` on: no daemon is there, but one may come */
    /* A thread of the pool; only hands on. The handle is the receiver's; NULL: there is none, and
     * `error` is BJ_E_SYSTEM or the like, or BJ_OK if libvirt says `why`, malloc'ed, NULL for a
     * lack of memory. */
    void (*opened)(struct opening *opening, virConnectPtr handle, int error, char *why);
};

/* Any thread; none of them blocks. */

/* A `uri` of NULL is libvirt's default. NULL: no memory. */
struct endpoint *endpoint_get(const char *uri, bool read_only);
struct endpoint *endpoint_unref(struct endpoint *endpoint); /* takes NULL */

/* For the calls on its connections. */
struct lane_group *endpoint_group(struct endpoint *endpoint);

/* False: no thread; `opened` is not called. */
bool endpoint_open(struct endpoint *endpoint, struct opening *opening);
/* True: `opened` will not be called. */
bool endpoint_withdraw(struct endpoint *endpoint, struct opening *opening);

#endif
