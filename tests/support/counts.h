/* SPDX-License-Identifier: MIT */
/*
 * What this process holds: for tests that nothing leaks.
 */
#ifndef TESTS_COUNTS_H
#define TESTS_COUNTS_H

#include <stddef.h>

int count_fds(void);
int count_threads(void);
/* Bytes allocated and not freed; 0 where a sanitizer or valgrind keeps the books itself. */
size_t count_heap(void);

#endif
