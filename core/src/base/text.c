/* SPDX-License-Identifier: MIT */
/*
 * Immutable, shared strings; see text.h.
 */
#include "base/text.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    atomic_uint refs; /* 0: static, never freed */
    char s[];
};

static struct text out_of_memory = {.s = "out of memory"};

static struct text *text_alloc(size_t len)
{
    struct text *text = malloc(sizeof *text + len + 1);
    if (text) {
        atomic_init(&text->refs, 1);
        text->s[len] = '\0';
    }
    return text;
}

struct text *text_new(const char *bytes, size_t len)
{
    struct text *text = text_alloc(len);
    if (text)
        memcpy(text->s, bytes, len);
    return text;
}

struct text *text_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);

    int len = vsnprintf(NULL, 0, format, args);
    struct text *text = len < 0 ? NULL : text_alloc((size_t)len);
    if (text)
        vsnprintf(text->s, (size_t)len + 1, format, again);

    va_end(again);
    va_end(args);
    return text ? text : &out_of_memory;
}

static bool goes_on(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

int text_fit(const char *s, int most)
{
    enum { LONGEST = 4 }; /* bytes of a character */
    int len = (int)strnlen(s, (size_t)most + 1);
    if (len <= most)
        return len;
    for (int cut = 0; cut < LONGEST && cut <= most; cut++)
        if (!goes_on(s[most - cut]))
            return most - cut;
    return most; /* it is not UTF-8 */
}

struct text *text_ref(struct text *text)
{
    if (text && text != &out_of_memory)
        atomic_fetch_add_explicit(&text->refs, 1, memory_order_relaxed);
    return text;
}

struct text *text_unref(struct text *text)
{
    if (text && text != &out_of_memory &&
        atomic_fetch_sub_explicit(&text->refs, 1, memory_order_acq_rel) == 1)
        free(text);
    return NULL;
}

const char *text_str(const struct text *text)
{
    return text ? text->s : "";
}
