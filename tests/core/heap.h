/* SPDX-License-Identifier: MIT */
/*
 * The heap of the library and of jansson, counted: how much there is, how much there was at most;
 * and which allocation is to fail. A program that includes this is linked with --wrap for each of
 * these functions (see the Makefile), so that libev and the C library are not meant.
 */
#ifndef TESTS_HEAP_H
#define TESTS_HEAP_H

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static atomic_llong heap_bytes;
static atomic_llong heap_peak;

static atomic_llong heap_left; /* allocations until the one that fails; 0: none will */
static atomic_bool heap_failed;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *s);
void __real_free(void *memory);
void *__real_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
char *__wrap_strdup(const char *s);
void __wrap_free(void *memory);
int __wrap_vasprintf(char **ret, const char *format, va_list arguments);
int __wrap_asprintf(char **ret, const char *format, ...);
void *__wrap_tsearch(const void *key, void **root, int (*compare)(const void *, const void *));

static inline bool heap_refuses(void)
{
    if (atomic_load(&heap_left) <= 0 || atomic_fetch_sub(&heap_left, 1) != 1)
        return false;
    atomic_store(&heap_failed, true);
    errno = ENOMEM;
    return true;
}

static inline void *heap_gained(void *memory)
{
    long long bytes = memory ? (long long)malloc_usable_size(memory) : 0;
    long long now = atomic_fetch_add(&heap_bytes, bytes) + bytes;
    long long peak = atomic_load(&heap_peak);
    while (now > peak && !atomic_compare_exchange_weak(&heap_peak, &peak, now))
        continue;
    return memory;
}

static inline void heap_lost(void *memory)
{
    atomic_fetch_sub(&heap_bytes, memory ? (long long)malloc_usable_size(memory) : 0);
}

void *__wrap_malloc(size_t size)
{
    return heap_refuses() ? NULL : heap_gained(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return heap_refuses() ? NULL : heap_gained(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (heap_refuses())
        return NULL;
    long long before = memory ? (long long)malloc_usable_size(memory) : 0;
    void *moved = __real_realloc(memory, size);
    if (moved)
        atomic_fetch_sub(&heap_bytes, before);
    return heap_gained(moved);
}

char *__wrap_strdup(const char *s)
{
    return heap_refuses() ? NULL : heap_gained(__real_strdup(s));
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
    return __wrap_realloc(memory, count * size); /* of the library's own numbers, which are small */
}

void __wrap_free(void *memory)
{
    heap_lost(memory);
    __real_free(memory);
}

int __wrap_vasprintf(char **ret, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    *ret = len < 0 ? NULL : __wrap_malloc((size_t)len + 1);
    return *ret ? vsnprintf(*ret, (size_t)len + 1, format, arguments) : -1;
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int len = __wrap_vasprintf(ret, format, arguments);
    va_end(arguments);
    return len;
}

/* Its node is the C library's, but it is for us. */
void *__wrap_tsearch(const void *key, void **root, int (*compare)(const void *, const void *))
{
    return heap_refuses() ? NULL : __real_tsearch(key, root, compare);
}

/* The buffer of jansson's lexer (32 bytes and its doubles). When it can't grow jansson (2.14) goes
 * on and loses a letter or a digit in silence, which nobody can find out: see docs/guide.md,
 * "Bounds".
 */
static inline bool heap_is_lexer(size_t size)
{
    return size >= 32 && (size & (size - 1)) == 0;
}

static inline void *heap_jansson_malloc(size_t size)
{
    if (heap_is_lexer(size))
        return heap_gained(__real_malloc(size));
    return __wrap_malloc(size);
}

/* Once, before anything is allocated. */
static inline void heap_begin(void)
{
    json_set_alloc_funcs(heap_jansson_malloc, __wrap_free);
}

/* From here on: the most there is at any time above what there is now. */
static inline long long heap_mark(void)
{
    long long now = atomic_load(&heap_bytes);
    atomic_store(&heap_peak, now);
    return now;
}

static inline long long heap_peak_since(long long mark)
{
    return atomic_load(&heap_peak) - mark;
}

/* The Nth allocation from now on fails, whoever asks for it. */
static inline void heap_fail_at(long long number)
{
    atomic_store(&heap_failed, false);
    atomic_store(&heap_left, number);
}

/* None any more. Returns how many it would still have taken. */
static inline long long heap_stop(void)
{
    return atomic_exchange(&heap_left, 0);
}

#endif
