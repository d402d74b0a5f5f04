/* SPDX-License-Identifier: MIT */
/*
 * Messages read where they lie; see read_in_place.h. What is taken here is what message_parse()
 * would have found: tests/fuzz/fuzz_read_in_place.c compares.
 */
#include "qmp/read_in_place.h"
#include "base/json_text.h"

#include <string.h>

struct span {
    const char *at;
    size_t len;
    bool is_plain; /* of a string: without escapes */
};

struct cursor {
    const char *at;
    const char *end;
    size_t nesting_limit;
    size_t nesting;
    size_t tokens;
    unsigned seen;       /* members that have come; a second one is for the parser */
    unsigned seen_words; /* the same of the event's data */
    struct message *message;
    char *room;
    const char *room_end;
};

enum {
    SEEN_EVENT = 1,
    SEEN_TIMESTAMP = 2,
    SEEN_DATA = 4,
    SEEN_SECONDS = 8,
    SEEN_MICROSECONDS = 16,
    SEEN_RETURN = 32,
    SEEN_ID = 64
};

/* Takes the value of one member, or declines. */
typedef bool take_member(struct cursor *cursor, const struct span *key);

/* -------------------------------------------------------------------- tokens */

static bool is_space(char c)
{
    return (unsigned char)c <= ' ' && (c == ' ' || c == '\t' || c == '\r' || c == '\n');
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && is_space(*cursor->at))
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

/* How many bytes the UTF-8 character has that `at` begins with, which is not ASCII; 0: it is none.
 * What jansson takes: nothing longer than need be, no surrogate, nothing beyond U+10FFFF. */
static size_t utf8_length(const unsigned char *at, size_t len)
{
    size_t n = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || len < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool is_too_long = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_surrogate = at[0] == 0xed && at[1] > 0x9f;
    bool is_beyond = at[0] == 0xf4 && at[1] > 0x8f;
    return is_too_long || is_surrogate || is_beyond ? 0 : n;
}

/* The same for an escape. \u is for the parser. */
static size_t escape_length(const char *at, size_t len)
{
    return len >= 2 && at[1] && strchr("\"\\/bfnrt", at[1]) ? 2 : 0;
}

/* What means itself in a string. */
static const bool is_ordinary[256] = {
    [' ' ... '!'] = true,
    ['#' ... '['] = true,
    [']' ... 0x7f] = true,
};

/* An escape, or a character that is not ASCII. */
static bool skip_character(struct cursor *cursor, struct span *string)
{
    size_t len = (size_t)(cursor->end - cursor->at);
    size_t n = 0;

    if (len > 0 && *cursor->at == '\\') {
        n = escape_length(cursor->at, len);
        string->is_plain = false;
    } else if (len > 0) {
        n = utf8_length((const unsigned char *)cursor->at, len);
    }
    cursor->at += n;
    return n > 0;
}

static void skip_ordinary(struct cursor *cursor)
{
    const char *at = cursor->at;
    while (at < cursor->end && is_ordinary[(unsigned char)*at])
        at++;
    cursor->at = at;
}

static bool take_string(struct cursor *cursor, struct span *ret)
{
    if (!take(cursor, '"'))
        return false;
    cursor->tokens++;
    *ret = (struct span){.at = cursor->at, .is_plain = true};
    for (skip_ordinary(cursor); cursor->at == cursor->end || *cursor->at != '"';
         skip_ordinary(cursor))
        if (!skip_character(cursor, ret))
            return false;
    ret->len = (size_t)(cursor->at++ - ret->at);
    return true;
}

static bool take_literal(struct cursor *cursor, const char *literal)
{
    size_t len = strlen(literal);
    if ((size_t)(cursor->end - cursor->at) < len || memcmp(cursor->at, literal, len) != 0)
        return false;
    cursor->at += len;
    return true;
}

static bool take_number(struct cursor *cursor)
{
    bool is_integer;
    size_t len = json_text_number(cursor->at, (size_t)(cursor->end - cursor->at), &is_integer);
    cursor->at += len;
    return len > 0;
}

/* Fewer than 64 bits can overflow by. */
#define DIGITS_MAX 19

/* One that is not negative, and at most `limit`. */
static bool take_integer(struct cursor *cursor, int64_t limit, int64_t *ret)
{
    uint64_t number = 0;

    skip_space(cursor);
    const char *first = cursor->at, *at = first, *end = cursor->end;
    if (end - at > DIGITS_MAX)
        end = at + DIGITS_MAX;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    cursor->at = at;
    cursor->tokens++;
    *ret = (int64_t)number;
    return at > first && number <= (uint64_t)limit && (at == first + 1 || *first != '0');
}

/* -------------------------------------------------------------------- values */

static bool take_value(struct cursor *cursor, struct span *ret);

static bool skip_member(struct cursor *cursor, const struct span *key)
{
    (void)key;
    struct span value;
    return take_value(cursor, &value);
}

static bool enter(struct cursor *cursor, char opening)
{
    cursor->tokens++;
    return take(cursor, opening) && ++cursor->nesting <= cursor->nesting_limit;
}

static bool leave(struct cursor *cursor, char closing)
{
    cursor->nesting--;
    return take(cursor, closing);
}

static bool take_object(struct cursor *cursor, take_member *member)
{
    struct span key;

    if (!enter(cursor, '{'))
        return false;
    skip_space(cursor);
    if (cursor->at < cursor->end && *cursor->at == '}')
        return leave(cursor, '}');
    do
        if (!take_string(cursor, &key) || !take(cursor, ':') || !member(cursor, &key))
            return false;
    while (take(cursor, ','));
    return leave(cursor, '}');
}

static bool take_array(struct cursor *cursor)
{
    struct span value;

    if (!enter(cursor, '['))
        return false;
    skip_space(cursor);
    if (cursor->at < cursor->end && *cursor->at == ']')
        return leave(cursor, ']');
    do
        if (!take_value(cursor, &value))
            return false;
    while (take(cursor, ','));
    return leave(cursor, ']');
}

static bool take_scalar(struct cursor *cursor)
{
    cursor->tokens++;
    switch (*cursor->at) {
    case 't':
        return take_literal(cursor, "true");
    case 'f':
        return take_literal(cursor, "false");
    case 'n':
        return take_literal(cursor, "null");
    default:
        return take_number(cursor);
    }
}

/* Whatever it is; it is as deep as the limit at most, and so is the stack. */
static bool take_value(struct cursor *cursor, struct span *ret)
{
    struct span string;

    skip_space(cursor);
    ret->at = cursor->at;
    if (cursor->at == cursor->end)
        return false;
    char first = *cursor->at;
    bool taken = first == '"'   ? take_string(cursor, &string)
                 : first == '{' ? take_object(cursor, skip_member)
                 : first == '[' ? take_array(cursor)
                                : take_scalar(cursor);
    ret->len = (size_t)(cursor->at - ret->at);
    return taken;
}

/* ------------------------------------------------------------------- members */

static bool is(const struct span *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->at, text, key->len) == 0;
}

static bool is_first(struct cursor *cursor, const struct span *key, const char *text,
                     unsigned member)
{
    if (!is(key, text) || (cursor->seen & member))
        return false;
    cursor->seen |= member;
    return true;
}

/* NULL: there is no room for it. */
static const char *keep(struct cursor *cursor, const struct span *word)
{
    if ((size_t)(cursor->room_end - cursor->room) <= word->len)
        return NULL;
    char *kept = cursor->room;
    memcpy(kept, word->at, word->len);
    kept[word->len] = '\0';
    cursor->room += word->len + 1;
    return kept;
}

static bool keep_string(struct cursor *cursor, const char **ret)
{
    struct span string;
    if (!take_string(cursor, &string) || !string.is_plain)
        return false;
    *ret = keep(cursor, &string);
    return *ret != NULL;
}

static bool take_time(struct cursor *cursor, const struct span *key)
{
    const int64_t year_5000 = 100000000000;
    int64_t number;

    if (is_first(cursor, key, "seconds", SEEN_SECONDS) && take_integer(cursor, year_5000, &number))
        cursor->message->timestamp_us += number * 1000000;
    else if (is_first(cursor, key, "microseconds", SEEN_MICROSECONDS) &&
             take_integer(cursor, 999999, &number))
        cursor->message->timestamp_us += number;
    else
        return false;
    return true;
}

static bool take_datum(struct cursor *cursor, const struct span *key)
{
    int word = key->is_plain ? event_word_of(key->at, key->len) : -1;

    skip_space(cursor);
    bool is_string = cursor->at < cursor->end && *cursor->at == '"';
    if (!key->is_plain || (word >= 0 && (cursor->seen_words & 1u << word)))
        return false;
    if (word < 0 || !is_string)
        return word < 0 && skip_member(cursor, key);
    cursor->seen_words |= 1u << word;
    return keep_string(cursor, &cursor->message->words[word]);
}

static bool take_data(struct cursor *cursor)
{
    struct message *message = cursor->message;
    skip_space(cursor);
    message->raw = cursor->at;
    bool taken = take_object(cursor, take_datum);
    message->raw_len = (size_t)(cursor->at - message->raw);
    return taken;
}

static bool take_return(struct cursor *cursor)
{
    struct span value = {0};
    bool taken = take_value(cursor, &value);
    cursor->message->raw = value.at;
    cursor->message->raw_len = value.len;
    return taken;
}

/* Ours are positive. */
static bool take_id(struct cursor *cursor)
{
    cursor->message->has_id = true;
    return take_integer(cursor, INT64_MAX, &cursor->message->id);
}

static bool take_part(struct cursor *cursor, const struct span *key)
{
    if (is_first(cursor, key, "event", SEEN_EVENT))
        return keep_string(cursor, &cursor->message->name);
    if (is_first(cursor, key, "timestamp", SEEN_TIMESTAMP))
        return take_object(cursor, take_time);
    if (is_first(cursor, key, "data", SEEN_DATA))
        return take_data(cursor);
    if (is_first(cursor, key, "return", SEEN_RETURN))
        return take_return(cursor);
    return is_first(cursor, key, "id", SEEN_ID) && take_id(cursor);
}

/* ------------------------------------------------------------------ messages */

/* An event without members of a reply, or the other way round. */
static bool is_message(unsigned seen)
{
    unsigned of_event = SEEN_EVENT | SEEN_TIMESTAMP | SEEN_DATA;
    return seen & SEEN_EVENT ? !(seen & (SEEN_RETURN | SEEN_ID))
                             : (seen & SEEN_RETURN) && !(seen & of_event);
}

size_t read_in_place(const char *text, size_t len, const struct frame_limits *limits,
                     struct message_room *room, struct message *ret)
{
    struct cursor cursor = {
        .at = text,
        .end = text + len,
        .nesting_limit = limits->nesting,
        .message = ret,
        .room = room->words,
        .room_end = room->words + sizeof room->words,
    };
    *ret = (struct message){.name = "", .text = ""};
    skip_space(&cursor);
    const char *begin = cursor.at;
    if (!take_object(&cursor, take_part) || !is_message(cursor.seen))
        return 0;
    ret->kind = cursor.seen & SEEN_EVENT ? MESSAGE_EVENT : MESSAGE_RETURN;
    bool is_within =
        (size_t)(cursor.at - begin) <= limits->bytes && cursor.tokens <= limits->tokens;
    return is_within ? (size_t)(cursor.at - text) : 0;
}
