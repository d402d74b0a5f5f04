/* SPDX-License-Identifier: MIT */
/*
 * File descriptors that a command takes along: duplicates, closed once whatever becomes of it.
 */
#ifndef BJ_BASE_DESCRIPTORS_H
#define BJ_BASE_DESCRIPTORS_H

#include <stddef.h>

struct descriptors {
    size_t count;
    int fds[];
};

/* At least one. BJ_OK; or BJ_E_NOMEM; BJ_E_INVAL: fds[*ret_bad] is not open; BJ_E_SYSTEM, with the
 * reason in errno. */
int descriptors_duplicate(const int *fds, size_t count, struct descriptors **ret, size_t *ret_bad);
void descriptors_close(struct descriptors *descriptors); /* takes NULL */

#endif
