/* SPDX-License-Identifier: MIT */
/*
 * From a part of a struct to the whole.
 */
#ifndef BJ_BASE_CONTAINER_OF_H
#define BJ_BASE_CONTAINER_OF_H

#include <stddef.h>

/* The `type` whose `member` the pointer points to. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
