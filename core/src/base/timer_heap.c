/* SPDX-License-Identifier: MIT */
/*
 * The pairing heap of timers; see timer_heap.h.
 */
#include "base/timer_heap.h"

#include <stddef.h>

/* Of two heaps one: the later becomes the first child of the earlier. Both take NULL. */
static struct timer_node *meld(struct timer_node *a, struct timer_node *b)
{
    if (!a || !b)
        return a ? a : b;
    struct timer_node *early = b->at < a->at ? b : a;
    struct timer_node *late = early == a ? b : a;

    late->next = early->child;
    if (late->next)
        late->next->previous = late;
    late->previous = early;
    early->child = late;
    early->next = early->previous = NULL;
    return early;
}

/* Of siblings one heap: melded by pairs from the first to the last, then the pairs from the last to
 * the first. */
static struct timer_node *meld_all(struct timer_node *sibling)
{
    struct timer_node *pairs = NULL, *all = NULL;

    while (sibling) {
        struct timer_node *a = sibling;
        struct timer_node *b = a->next;
        sibling = b ? b->next : NULL;
        struct timer_node *pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        struct timer_node *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        all = meld(all, pair);
    }
    if (all)
        all->previous = NULL;
    return all;
}

static void cut_out(struct timer_node *node)
{
    if (node->previous->child == node)
        node->previous->child = node->next;
    else
        node->previous->next = node->next;
    if (node->next)
        node->next->previous = node->previous;
}

void timer_heap_add(struct timer_heap *heap, struct timer_node *node, int64_t at)
{
    *node = (struct timer_node){.at = at, .is_in = true};
    heap->first = meld(heap->first, node);
}

void timer_heap_remove(struct timer_heap *heap, struct timer_node *node)
{
    if (!node->is_in)
        return;
    struct timer_node *later = meld_all(node->child);
    if (node == heap->first) {
        heap->first = later;
    } else {
        cut_out(node);
        heap->first = meld(heap->first, later);
    }
    *node = (struct timer_node){0};
}
