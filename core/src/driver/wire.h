/* SPDX-License-Identifier: MIT */
/*
 * Where a driver tells what goes over its wire, for a trace.
 */
#ifndef BJ_DRIVER_WIRE_H
#define BJ_DRIVER_WIRE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct text;

struct wire_line {
    bool is_sent;
    const char *bytes; /* not terminated; only valid during the call */
    size_t len;
    /* The same without secrets, as the driver knows them. NULL: no memory. Any thread. */
    struct text *(*mask)(const char *bytes, size_t len);
};

/* Outlives the driver. */
struct wire_tap {
    atomic_bool is_open; /* any thread; while it is not, nobody wants lines */
    void (*line)(struct wire_tap *tap, const struct wire_line *line); /* the loop's thread */
};

static inline bool wire_is_tapped(const struct wire_tap *tap)
{
    return atomic_load_explicit(&tap->is_open, memory_order_relaxed);
}

#endif
