/* SPDX-License-Identifier: MIT */
/*
 * Whether a message that was read in place is the one that the parser reads from the same text.
 */
#ifndef BJ_TESTS_SAME_MESSAGE_H
#define BJ_TESTS_SAME_MESSAGE_H

#include "qmp/message.h"

#include <string.h>

static bool same_string(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_words(const struct message *a, const struct message *b)
{
    for (int word = 0; word < EVENT_WORDS; word++)
        if (!same_string(a->words[word], b->words[word]))
            return false;
    return true;
}

/* NULL if they are the same; else where they differ. Both are of the very same bytes. */
static const char *different_part(const struct message *in_place, const struct message *parsed)
{
    if (in_place->kind != parsed->kind)
        return "the kind";
    if (!same_string(in_place->name, parsed->name) || !same_string(in_place->text, parsed->text))
        return "the name";
    if (in_place->raw != parsed->raw || in_place->raw_len != parsed->raw_len)
        return "the value's text";
    if (!same_words(in_place, parsed))
        return "the words";
    if (in_place->timestamp_us != parsed->timestamp_us)
        return "the time";
    if (in_place->has_id != parsed->has_id || in_place->id != parsed->id)
        return "the id";
    return NULL;
}

#endif
