/* SPDX-License-Identifier: MIT */
/*
 * What may be asked of a domain: verbs, starts, lists, and whether a disk was switched. The loop's
 * thread.
 */
#ifndef BJ_DOMAIN_ASKED_H
#define BJ_DOMAIN_ASKED_H

#include "domain.h"

extern const struct driver_ops domain_ops;

/* Answers the lists that were held back for the end of a job, where it has come by now. */
void asked_release_lists(struct domain *domain);

/* No end has come; `user` is the domain. */
void asked_on_hold_timer(void *user);

#endif
