/* SPDX-License-Identifier: MIT */
/*
 * What malloc has given out, by its own account. For the tests and the benchmarks.
 */
#ifndef TESTS_HEAP_IN_USE_H
#define TESTS_HEAP_IN_USE_H

#include <malloc.h>
#include <stddef.h>

/* Bytes, in all arenas. */
static inline size_t heap_in_use(void)
{
#if __GLIBC_PREREQ(2, 33)
    struct mallinfo2 info = mallinfo2();
#else
    struct mallinfo info = mallinfo(); /* good for 2 GiB */
#endif
    return (size_t)info.uordblks + (size_t)info.hblkhd;
}

#endif
