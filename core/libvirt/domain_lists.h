/* SPDX-License-Identifier: MIT */
/*
 * Lists of a domain's jobs, and what it means that one is missing in them. The loop's thread.
 *
 * libvirt's list and its events come by different ways: a list may lack a job whose end has not
 * been reported yet. Such a list is held back until a fence has passed through libvirtd and through
 * libvirt's event loop, behind which there can be no such end. What then has no end was missed, and
 * the domain's XML decides whether a copy has switched its disk.
 */
#ifndef BJ_DOMAIN_LISTS_H
#define BJ_DOMAIN_LISTS_H

#include "domain.h"

/* driver_ops.query */
int domain_query(struct driver *driver, struct driver_request *asker, bool urgent);

/* Answers the lists that were held back for the end of a job, where it has come by now. */
void domain_release_lists(struct domain *domain);

/* The XML that was read last; takes over what is in it. Where memory is short for an alias, less is
 * known of how a migration's copy ends. */
void domain_take_disks(struct domain *domain, struct disks *disks);

/* Remembers where the copies lead to that are at work. */
void domain_note_copies(struct domain *domain);

#endif
