/* SPDX-License-Identifier: MIT */
/*
 * What a search keeps; see explore_search_store.h.
 */
#include "explore_search_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NOBODY UINT32_MAX
#define CHUNK ((size_t)1 << 20)

/* `from` leads to `to`, both by number. */
struct edge {
    uint32_t from, to;
};

/* A test that has no memory has no verdict. */
static void *there(void *memory)
{
    if (!memory) {
        fputs("explore: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

void *get_room(size_t size)
{
    return there(calloc(1, size));
}

static void *grow(void *memory, size_t *room, size_t size)
{
    *room = *room ? *room * 2 : 4096;
    return there(realloc(memory, *room * size));
}

/* ----------------------------------------------------------------- hashing */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint64_t hash_of(const unsigned char *bytes, size_t size)
{
    uint64_t hash = 0x9e3779b97f4a7c15u;

    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = size - at;
        memcpy(&word, bytes + at, left < sizeof word ? left : sizeof word);
        hash = mix(hash ^ word) + at;
    }
    return hash;
}

double seen_mistaken(const struct seen *s)
{
    return (double)s->count * (double)s->count / 0x1p65;
}

/* ---------------------------------------------------------------- what was seen */

static void place(struct seen *s, uint32_t number)
{
    size_t slot = (size_t)s->hashes[number] & (s->slots - 1);
    while (s->table[slot] != NOBODY)
        slot = (slot + 1) & (s->slots - 1);
    s->table[slot] = number;
}

static void widen(struct seen *s)
{
    free(s->table);
    s->table = grow(NULL, &s->slots, sizeof *s->table);
    memset(s->table, 0xff, s->slots * sizeof *s->table);
    for (uint32_t i = 0; i < s->count; i++)
        place(s, i);
}

/* Its number, which is a new one if it was not seen. */
static uint32_t number_of(struct seen *s, uint64_t hash)
{
    if (s->count * 2 >= s->slots)
        widen(s);
    size_t slot = (size_t)hash & (s->slots - 1);
    while (s->table[slot] != NOBODY && s->hashes[s->table[slot]] != hash)
        slot = (slot + 1) & (s->slots - 1);
    if (s->table[slot] != NOBODY)
        return s->table[slot];
    if (s->count == s->room)
        s->hashes = grow(s->hashes, &s->room, sizeof *s->hashes);
    s->hashes[s->count] = hash;
    s->table[slot] = (uint32_t)s->count;
    return (uint32_t)s->count++;
}

static void add_edge(struct seen *s, uint32_t from, uint32_t to)
{
    if (s->edge_count == s->edge_room)
        s->edges = grow(s->edges, &s->edge_room, sizeof *s->edges);
    s->edges[s->edge_count++] = (struct edge){.from = from, .to = to};
}

/* A table that grows is there twice, so it has its size from the beginning. Pages that nothing was
 * put in cost nothing. With small ones a fifth of the time goes into finding them. */
void seen_open_by_hash(struct seen *s, size_t memory)
{
    s->by_hash = true;
    s->room = memory / sizeof *s->hashes;
    s->room = s->room < UINT32_MAX ? s->room : UINT32_MAX;
    void *room = mmap(NULL, s->room * sizeof *s->hashes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    s->hashes = there(room == MAP_FAILED ? NULL : room);
    madvise(room, s->room * sizeof *s->hashes, MADV_HUGEPAGE);
}

static bool is_new_hash(struct seen *s, uint64_t hash)
{
    hash += hash == 0;
    size_t slot = (size_t)((hash >> 32) * s->room >> 32);
    while (s->hashes[slot] != 0 && s->hashes[slot] != hash)
        slot = slot + 1 < s->room ? slot + 1 : 0;
    if (s->hashes[slot] == hash)
        return false;
    s->hashes[slot] = hash;
    s->count++;
    return true;
}

bool seen_add(struct seen *s, const unsigned char *bytes, size_t size, uint32_t from)
{
    uint64_t hash = hash_of(bytes, size);

    if (s->by_hash)
        return is_new_hash(s, hash);
    size_t count = s->count;
    uint32_t number = number_of(s, hash);
    if (count > 0)
        add_edge(s, from, number);
    return s->count > count;
}

size_t seen_bytes(const struct seen *s)
{
    return s->room * sizeof *s->hashes + s->slots * sizeof *s->table +
           s->edge_room * sizeof *s->edges;
}

bool seen_is_full(const struct seen *s)
{
    return s->by_hash && s->count > s->room / 4 * 3;
}

void seen_clear(struct seen *s)
{
    if (s->by_hash)
        munmap(s->hashes, s->room * sizeof *s->hashes);
    else
        free(s->hashes);
    free(s->table);
    free(s->edges);
}

/* ------------------------------------------------------------------- orders */

struct orders seen_orders(const struct seen *s)
{
    double *ways = get_room(s->count * sizeof *ways);
    uint32_t *before = get_room((s->count + 1) * sizeof *before);
    uint32_t *queue = get_room(s->count * sizeof *queue);
    size_t *begins = get_room((s->count + 2) * sizeof *begins);
    struct orders orders = {0};
    size_t head = 0, tail = 0;

    for (size_t i = 0; i < s->edge_count; i++) {
        before[s->edges[i].to] += s->edges[i].to != s->edges[i].from;
        begins[s->edges[i].from + 1]++;
    }
    for (size_t i = 0; i < s->count; i++)
        begins[i + 1] += begins[i]; /* edges are in the order of `from` */
    ways[0] = 1;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t at = queue[head++];
        if (begins[at] == begins[at + 1])
            orders.count += ways[at];
        for (size_t i = begins[at]; i < begins[at + 1]; i++) {
            uint32_t to = s->edges[i].to;
            if (to == at)
                continue;
            ways[to] += ways[at];
            if (--before[to] == 0)
                queue[tail++] = to;
        }
    }
    orders.at_least = tail < s->count;
    free(ways);
    free(before);
    free(queue);
    free(begins);
    return orders;
}

/* -------------------------------------------------------------------- queue */

struct chunk {
    struct chunk *next;
    size_t used;
    unsigned char bytes[CHUNK - 16];
};

static struct chunk *new_chunk(struct queue *queue)
{
    struct chunk *chunk = queue->spare;

    if (chunk) {
        queue->spare = chunk->next;
    } else {
        chunk = there(malloc(sizeof *chunk));
        queue->bytes += sizeof *chunk;
    }
    chunk->next = NULL;
    chunk->used = 0;
    return chunk;
}

static void append(struct chunk *chunk, const void *bytes, size_t size)
{
    memcpy(chunk->bytes + chunk->used, bytes, size);
    chunk->used += size;
}

void queue_put(struct queue *queue, const struct reached *reached)
{
    size_t size = 2 * sizeof(uint16_t) + reached->length + reached->size;

    if (!queue->last)
        queue->first = queue->last = new_chunk(queue);
    else if (queue->last->used + size > sizeof queue->last->bytes)
        queue->last = queue->last->next = new_chunk(queue);
    append(queue->last, &reached->length, sizeof reached->length);
    append(queue->last, &reached->size, sizeof reached->size);
    append(queue->last, reached->path, reached->length);
    append(queue->last, reached->packed, reached->size);
}

bool queue_take(struct queue *queue, struct reached *ret_reached)
{
    struct chunk *chunk = queue->first;

    if (chunk && queue->read == chunk->used && chunk->next) {
        queue->first = chunk->next;
        queue->read = 0;
        chunk->next = queue->spare;
        queue->spare = chunk;
        chunk = queue->first;
    }
    if (!chunk || queue->read == chunk->used)
        return false;
    const unsigned char *at = chunk->bytes + queue->read;
    memcpy(&ret_reached->length, at, sizeof ret_reached->length);
    memcpy(&ret_reached->size, at + sizeof(uint16_t), sizeof ret_reached->size);
    ret_reached->path = at + 2 * sizeof(uint16_t);
    ret_reached->packed = ret_reached->path + ret_reached->length;
    queue->read += 2 * sizeof(uint16_t) + ret_reached->length + ret_reached->size;
    return true;
}

static void free_chunks(struct chunk *chunk)
{
    while (chunk) {
        struct chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void queue_clear(struct queue *queue)
{
    free_chunks(queue->first);
    free_chunks(queue->spare);
    memset(queue, 0, sizeof *queue);
}

/* ------------------------------------------------------------------- packing */

/* A word is a mask of those of its bytes that are not zero, and then these. A mask of 0 is followed
 * by how many such words there are in a row. */
static unsigned char *pack_word(const unsigned char *word, unsigned char *to)
{
    unsigned char *mask = to++;
    unsigned there = 0;

    for (unsigned i = 0; i < 8; i++) { /* without a branch, which would be guessed wrong */
        *to = word[i];
        to += word[i] != 0;
        there |= (unsigned)(word[i] != 0) << i;
    }
    *mask = (unsigned char)there;
    return to;
}

static bool is_zero(const unsigned char *word)
{
    uint64_t value;
    memcpy(&value, word, sizeof value);
    return value == 0;
}

size_t pack(const void *bytes, size_t size, unsigned char *ret_packed)
{
    const unsigned char *word = bytes, *end = word + size;
    unsigned char *to = ret_packed;

    while (word < end) {
        unsigned zeros = 0;
        for (; word < end && zeros < 255 && is_zero(word); word += 8)
            zeros++;
        if (zeros > 0) {
            *to++ = 0;
            *to++ = (unsigned char)zeros;
        } else {
            to = pack_word(word, to);
            word += 8;
        }
    }
    return (size_t)(to - ret_packed);
}

void unpack(const unsigned char *packed, size_t size, void *ret_bytes)
{
    const unsigned char *end = packed + size;
    unsigned char *word = ret_bytes;

    while (packed < end) {
        unsigned mask = *packed++;
        size_t length = mask ? 8 : (size_t)*packed++ * 8;
        memset(word, 0, length);
        for (unsigned i = 0; i < 8 && mask >> i; i++)
            if (mask >> i & 1)
                word[i] = *packed++;
        word += length;
    }
}
