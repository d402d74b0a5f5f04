/* SPDX-License-Identifier: MIT */
/*
 * The driver's operations on a domain: verbs, starts, lists, and whether a disk was switched. The
 * loop's thread.
 */
#ifndef BJ_DOMAIN_OPERATIONS_H
#define BJ_DOMAIN_OPERATIONS_H

#include "domain.h"

extern const struct driver_ops domain_ops;

/* Answers the lists that were held back for the end of a job, where it has come by now. */
void domain_release_lists(struct domain *domain);

/* No end has come; `user` is the domain. */
void domain_on_hold_timer(void *user);

#endif
