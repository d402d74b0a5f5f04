/* SPDX-License-Identifier: MIT */
/*
 * The driver's operations on a domain: verbs, starts, and whether a disk was switched. The
 * loop's thread.
 */
#ifndef BJ_DOMAIN_OPERATIONS_H
#define BJ_DOMAIN_OPERATIONS_H

#include "domain.h"

extern const struct driver_ops domain_ops;

#endif
