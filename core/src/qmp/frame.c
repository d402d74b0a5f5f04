/* SPDX-License-Identifier: MIT */
/*
 * The framing of QMP; see frame.h.
 */
#include "qmp/frame.h"

#include <blockjob/blockjob.h>

#include <stdlib.h>
#include <string.h>

void frame_init(struct frame *frame, const struct frame_limits *limits)
{
    *frame = (struct frame){.limits = *limits};
}

void frame_clear(struct frame *frame)
{
    free(frame->data);
    frame_init(frame, &(struct frame_limits){0});
}

bool frame_is_empty(const struct frame *frame)
{
    return frame->nesting == 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int count_token(struct frame *frame, const char **ret_reason)
{
    if (++frame->tokens <= frame->limits.tokens)
        return 0;
    *ret_reason = "a message with more tokens than the limit";
    return BJ_E_PROTOCOL;
}

static int open_nesting(struct frame *frame, const char **ret_reason)
{
    frame->in_scalar = false;
    if (++frame->nesting > frame->limits.nesting) {
        *ret_reason = "a message nested deeper than the limit";
        return BJ_E_PROTOCOL;
    }
    return count_token(frame, ret_reason);
}

static void scan_in_string(struct frame *frame, char c)
{
    if (frame->in_escape)
        frame->in_escape = false;
    else if (c == '\\')
        frame->in_escape = true;
    else if (c == '"')
        frame->in_string = false;
}

/* Takes the scanner over one byte inside a message. */
static int scan(struct frame *frame, char c, const char **ret_reason)
{
    if (frame->in_string) {
        scan_in_string(frame, c);
        return 0;
    }

    switch (c) {
    case '{':
    case '[':
        return open_nesting(frame, ret_reason);
    case '}':
    case ']':
        frame->in_scalar = false;
        frame->nesting--;
        return 0;
    case '"':
        frame->in_scalar = false;
        frame->in_string = true;
        return count_token(frame, ret_reason);
    case ',':
    case ':':
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        frame->in_scalar = false;
        return 0;
    default:
        if (frame->in_scalar)
            return 0;
        frame->in_scalar = true;
        return count_token(frame, ret_reason);
    }
}

/* Where the message that begins at, or goes on with, bytes[0] ends: *ret_used bytes belong to it,
 * *ret_whole if its last one is among them. */
static int measure(struct frame *frame, const char *bytes, size_t len, size_t *ret_used,
                   bool *ret_whole, const char **ret_reason)
{
    size_t used = 0;
    int r = 0;

    do
        r = scan(frame, bytes[used++], ret_reason);
    while (r == 0 && frame->nesting > 0 && used < len);

    if (r == 0 && frame->len + used > frame->limits.bytes) {
        *ret_reason = "a message longer than the limit";
        r = BJ_E_PROTOCOL;
    }
    *ret_used = used;
    *ret_whole = frame->nesting == 0;
    return r;
}

static int keep(struct frame *frame, const char *bytes, size_t len)
{
    if (frame->capacity - frame->len < len) {
        size_t capacity = frame->capacity * 2;
        if (capacity > frame->limits.bytes)
            capacity = frame->limits.bytes;
        if (capacity < frame->len + len)
            capacity = frame->len + len;
        char *data = realloc(frame->data, capacity);
        if (!data)
            return BJ_E_NOMEM;
        frame->data = data;
        frame->capacity = capacity;
    }
    memcpy(frame->data + frame->len, bytes, len);
    frame->len += len;
    return 0;
}

/* Hands over the message that ends with these bytes: straight from the reader's buffer when it
 * all lies there, else from ours, which is given back at once so that idle monitors cost nothing.
 */
static int emit(struct frame *frame, char *bytes, size_t len, const struct frame_reader *reader)
{
    int r;
    if (!frame->data) {
        r = reader->read(reader->user, bytes, len);
        frame->tokens = 0;
        return r;
    }

    r = keep(frame, bytes, len);
    char *text = frame->data;
    size_t text_len = frame->len;
    frame->data = NULL;
    frame->len = frame->capacity = 0;

    if (r == 0)
        r = reader->read(reader->user, text, text_len);
    frame->tokens = 0;
    free(text);
    return r;
}

/* What begins, or goes on, with bytes[0]. */
static int take_bytes(struct frame *frame, char *bytes, size_t len,
                      const struct frame_reader *reader, size_t *ret_used, const char **ret_reason)
{
    bool whole;
    int r = measure(frame, bytes, len, ret_used, &whole, ret_reason);
    if (r != 0)
        return r;
    return whole ? emit(frame, bytes, *ret_used, reader) : keep(frame, bytes, *ret_used);
}

/* The same between messages. */
static int take_message(struct frame *frame, char *bytes, size_t len,
                        const struct frame_reader *reader, size_t *ret_used,
                        const char **ret_reason)
{
    *ret_used = 0;
    if (is_space(bytes[0])) {
        *ret_used = 1;
        return 0;
    }
    if (bytes[0] != '{') {
        *ret_reason = "something that is not a JSON object";
        return BJ_E_PROTOCOL;
    }
    int r = reader->read_in_place ? reader->read_in_place(reader->user, bytes, len, ret_used) : 0;
    return r != 0 || *ret_used > 0 ? r
                                   : take_bytes(frame, bytes, len, reader, ret_used, ret_reason);
}

int frame_feed(struct frame *frame, char *bytes, size_t len, const struct frame_reader *reader,
               const char **ret_reason)
{
    int r = 0;
    for (size_t at = 0, used; r == 0 && at < len; at += used) {
        bool is_between = frame->nesting == 0;
        r = is_between ? take_message(frame, bytes + at, len - at, reader, &used, ret_reason)
                       : take_bytes(frame, bytes + at, len - at, reader, &used, ret_reason);
    }
    return r;
}
