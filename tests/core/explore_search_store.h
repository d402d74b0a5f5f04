/* SPDX-License-Identifier: MIT */
/*
 * What a search keeps: of each world that was seen a hash, and those that were not gone on from
 * yet, packed and first in, first out.
 */
#ifndef TESTS_EXPLORE_SEARCH_STORE_H
#define TESTS_EXPLORE_SEARCH_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *get_room(size_t size); /* zeros; without memory the program ends */

/* ------------------------------------------------------------- what was seen */

struct seen {
    size_t count;
    bool by_hash;     /* nothing but hashes is kept */
    uint64_t *hashes; /* in the order in which they were seen; by_hash: a table, 0 is nobody's */
    size_t room;
    uint32_t *table; /* numbers of what was seen, by hash; a power of two */
    size_t slots;
    struct edge *edges;
    size_t edge_count, edge_room;
};

/* Before the first: only hashes, in so much memory. */
void seen_open_by_hash(struct seen *seen, size_t memory);
/* Says whether it is new. `from`: the number of the world that leads to it; they count from 0. */
bool seen_add(struct seen *seen, const unsigned char *bytes, size_t size, uint32_t from);
size_t seen_bytes(const struct seen *seen); /* of memory */
bool seen_is_full(const struct seen *seen);
/* The probability that any two had the same hash, and were taken for one. */
double seen_mistaken(const struct seen *seen);
void seen_clear(struct seen *seen);

/* How many ways lead from the beginning to where nothing more happens: each node's number is added
 * to its successors' once all its predecessors have added to it. A node in a circle (a poll that
 * finds nothing new) is never that far; it stays out, and the number is a lower bound. */
struct orders {
    double count;
    bool at_least;
};
struct orders seen_orders(const struct seen *seen); /* not by_hash */

/* -------------------------------------------------------------- what is next */

struct reached {
    const uint8_t *path; /* which of the steps that could be taken, each time */
    const unsigned char *packed;
    uint16_t length, size; /* in bytes */
};

struct queue {
    struct chunk *first, *last, *spare;
    size_t read;  /* of the first */
    size_t bytes; /* of memory */
};

void queue_put(struct queue *queue, const struct reached *reached);
/* What it points to is there until the next call. False: it is empty. */
bool queue_take(struct queue *queue, struct reached *ret_reached);
void queue_clear(struct queue *queue);

/* Whole words: behind `size` bytes come zeros. */
#define PACKED_MAX(size) ((size) / 8 * 9 + 10)
/* The same bytes are packed in the same way. Returns how many there are then. */
size_t pack(const void *bytes, size_t size, unsigned char *ret_packed);
void unpack(const unsigned char *packed, size_t size, void *ret_bytes);

#endif
