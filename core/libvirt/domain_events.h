/* SPDX-License-Identifier: MIT */
/*
 * libvirt's events about a domain, which come on any thread: brought to the loop's thread, where
 * they become facts.
 */
#ifndef BJ_DOMAIN_EVENTS_H
#define BJ_DOMAIN_EVENTS_H

#include "domain.h"

/* Its user is the domain. */
extern const struct session_sink domain_session_sink;

/* The loop's thread: the events that came while the domain was being opened take effect now, which
 * may be that it goes down; or never. */
void domain_replay_early_events(struct domain *domain);
void domain_drop_early_events(struct domain *domain);

/* facts_new()'s; the user is the domain. */
void domain_on_fact(void *user, const struct fact *fact);

/* Any thread: the connection has ended; virConnectCloseReason. */
void domain_on_disconnected(void *user, int reason);

#endif
