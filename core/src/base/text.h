/* SPDX-License-Identifier: MIT */
/*
 * Immutable strings that several owners share: error sentences, event data, JSON replies.
 * Any thread.
 */
#ifndef BJ_BASE_TEXT_H
#define BJ_BASE_TEXT_H

#include <stddef.h>

struct text;

/* NULL when memory is short. */
struct text *text_new(const char *bytes, size_t len);

/* Never NULL: when memory is short it is the sentence that says so. */
struct text *text_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The most bytes of it that make whole characters (UTF-8) and are no more than `most`: for "%.*s".
 */
int text_fit(const char *s, int most);

/* As much of a caller's text as an error sentence repeats. */
#define QUOTED_MAX 200

struct text *text_ref(struct text *text); /* NULL stays NULL */
struct text *text_unref(struct text *text);

/* "" for NULL. Belongs to the text. */
const char *text_str(const struct text *text);

#endif
