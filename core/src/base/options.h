/* SPDX-License-Identifier: MIT */
/*
 * Options that begin with their size: the program may know them shorter than the library does, or
 * longer.
 */
#ifndef BJ_BASE_OPTIONS_H
#define BJ_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Copies what both know; the rest of *ret stays as it is. False: no release's options are so short.
 */
static inline bool options_read(void *ret, size_t size, const void *given, size_t given_size,
                                size_t shortest)
{
    if (given_size < shortest)
        return false;
    memcpy(ret, given, given_size < size ? given_size : size);
    return true;
}

#endif
