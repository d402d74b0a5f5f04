/* SPDX-License-Identifier: MIT */
/*
 * What libvirt tells of a domain, on any thread: brought to the loop's thread, and told on.
 */
#ifndef BJ_DOMAIN_TOLD_H
#define BJ_DOMAIN_TOLD_H

#include "domain.h"

/* Its user is the domain. */
extern const struct session_sink told_sink;

/* The loop's thread: what was told while the domain was being opened happens now, which may be that
 * it goes down; or never. */
void told_release_early(struct domain *domain);
void told_drop_early(struct domain *domain);

/* facts_new()'s; the user is the domain. */
void told_fact(void *user, const struct driver_fact *fact);

/* Any thread: the connection has ended; virConnectCloseReason. */
void told_disconnected(void *user, int reason);

#endif
