/* SPDX-License-Identifier: MIT */
/*
 * Messages of QMP without the secrets in them. Pure; any thread.
 */
#ifndef BJ_QMP_SECRETS_H
#define BJ_QMP_SECRETS_H

#include <stddef.h>

struct text;

/* The same bytes, but *** for each secret (blockjob.h has which). It need not be JSON. NULL: no
 * memory. */
struct text *secrets_mask(const char *bytes, size_t len);

#endif
