/* SPDX-License-Identifier: MIT */
/*
 * JOB_STATUS_CHANGE, read where it lies; see status_event.h.
 */
#include "qmp/status_event.h"

#include <string.h>

struct cursor {
    const char *at;
    const char *end;
    unsigned seen; /* members that have come; a second one is for the parser */
};

enum {
    SEEN_EVENT = 1,
    SEEN_TIMESTAMP = 2,
    SEEN_DATA = 4,
    SEEN_SECONDS = 8,
    SEEN_MICROSECONDS = 16,
    SEEN_ID = 32,
    SEEN_STATUS = 64
};

struct word {
    const char *at;
    size_t len;
};

typedef bool read_member(struct cursor *cursor, const struct word *key, struct status_event *event);

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\t' ||
                                        *cursor->at == '\r' || *cursor->at == '\n'))
        cursor->at++;
}

static bool take(struct cursor *cursor, char wanted)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return false;
    cursor->at++;
    return true;
}

static bool take_word(struct cursor *cursor, struct word *ret)
{
    if (!take(cursor, '"'))
        return false;
    ret->at = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != '"') {
        if (*cursor->at < ' ' || *cursor->at > '~' || *cursor->at == '\\')
            return false;
        cursor->at++;
    }
    ret->len = (size_t)(cursor->at - ret->at);
    return take(cursor, '"');
}

static bool take_number(struct cursor *cursor, int64_t limit, int64_t *ret)
{
    int64_t number = 0;

    skip_space(cursor);
    const char *first = cursor->at;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9' && number <= limit)
        number = number * 10 + (*cursor->at++ - '0');
    *ret = number;
    size_t digits = (size_t)(cursor->at - first);
    return digits > 0 && number <= limit && (digits == 1 || *first != '0');
}

static bool take_object(struct cursor *cursor, read_member *read, struct status_event *event)
{
    struct word key;

    if (!take(cursor, '{'))
        return false;
    do
        if (!take_word(cursor, &key) || !take(cursor, ':') || !read(cursor, &key, event))
            return false;
    while (take(cursor, ','));
    return take(cursor, '}');
}

static bool is(const struct word *word, const char *text)
{
    return word->len == strlen(text) && memcmp(word->at, text, word->len) == 0;
}

static bool is_first(struct cursor *cursor, const struct word *key, const char *text,
                     unsigned member)
{
    if (!is(key, text) || (cursor->seen & member))
        return false;
    cursor->seen |= member;
    return true;
}

static bool copy(char *to, size_t size, const struct word *word)
{
    if (word->len >= size)
        return false;
    memcpy(to, word->at, word->len);
    to[word->len] = '\0';
    return true;
}

static bool read_time(struct cursor *cursor, const struct word *key, struct status_event *event)
{
    const int64_t year_5000 = 100000000000;
    int64_t number;

    if (is_first(cursor, key, "seconds", SEEN_SECONDS) && take_number(cursor, year_5000, &number))
        event->timestamp_us += number * 1000000;
    else if (is_first(cursor, key, "microseconds", SEEN_MICROSECONDS) &&
             take_number(cursor, 999999, &number))
        event->timestamp_us += number;
    else
        return false;
    return true;
}

static bool read_data(struct cursor *cursor, const struct word *key, struct status_event *event)
{
    struct word value;

    if (!take_word(cursor, &value))
        return false;
    if (is_first(cursor, key, "id", SEEN_ID))
        return copy(event->id, sizeof event->id, &value);
    return is_first(cursor, key, "status", SEEN_STATUS) &&
           copy(event->status, sizeof event->status, &value);
}

static bool read_event(struct cursor *cursor, const struct word *key, struct status_event *event)
{
    struct word name;

    if (is_first(cursor, key, "event", SEEN_EVENT))
        return take_word(cursor, &name) && is(&name, "JOB_STATUS_CHANGE");
    if (is_first(cursor, key, "timestamp", SEEN_TIMESTAMP))
        return take_object(cursor, read_time, event);
    return is_first(cursor, key, "data", SEEN_DATA) && take_object(cursor, read_data, event);
}

size_t status_event_begin(const char *text, size_t len, struct status_event *ret)
{
    struct cursor cursor = {.at = text, .end = text + len};

    *ret = (struct status_event){0};
    bool whole = take_object(&cursor, read_event, ret) && (cursor.seen & SEEN_EVENT) && *ret->id &&
                 *ret->status;
    return whole ? (size_t)(cursor.at - text) : 0;
}

bool status_event_read(const char *text, size_t len, struct status_event *ret)
{
    size_t used = status_event_begin(text, len, ret);
    struct cursor rest = {.at = text + used, .end = text + len};

    skip_space(&rest);
    return used > 0 && rest.at == rest.end;
}
