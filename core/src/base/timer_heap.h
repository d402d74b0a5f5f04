/* SPDX-License-Identifier: MIT */
/*
 * Timers, the next one first: a pairing heap whose links lie in the timers, so that arming one
 * needs no memory and can't fail. Adding takes constant time, removing logarithmic (amortized).
 */
#ifndef BJ_BASE_TIMER_HEAP_H
#define BJ_BASE_TIMER_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct timer_node {
    int64_t at;
    struct timer_node *child;    /* the first of those that are due later */
    struct timer_node *next;     /* sibling */
    struct timer_node *previous; /* sibling; the first one's parent */
    bool is_in;
};

struct timer_heap {
    struct timer_node *first; /* NULL: none is armed */
};

void timer_heap_add(struct timer_heap *heap, struct timer_node *node, int64_t at); /* not in it */
void timer_heap_remove(struct timer_heap *heap, struct timer_node *node); /* in it, or not */

#endif
