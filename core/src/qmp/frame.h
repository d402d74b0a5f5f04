/* SPDX-License-Identifier: MIT */
/*
 * Cuts a stream of bytes into JSON objects, by structure and not by line (-qmp-pretty), and stops a
 * peer that sends more than the limits before anything is parsed (B54, B56). No I/O.
 */
#ifndef BJ_QMP_FRAME_H
#define BJ_QMP_FRAME_H

#include <stdbool.h>
#include <stddef.h>

struct frame_limits {
    size_t bytes;
    size_t tokens; /* strings, numbers, words, objects and arrays: what costs memory when parsed */
    size_t nesting;
};

struct frame {
    struct frame_limits limits;

    /* The beginning of a message whose end has not come; NULL between messages. */
    char *data;
    size_t len;
    size_t capacity;

    /* Where the scanner stands in it. */
    size_t tokens; /* while it is read: the whole message's */
    size_t nesting;
    bool in_string;
    bool in_escape;
    bool in_scalar;
};

/* Where the messages go. */
struct frame_reader {
    /* One whole message; it may be changed but not kept. Not 0 stops frame_feed(). */
    int (*read)(void *user, char *text, size_t len);

    /* Called first with what comes between messages, and may take a message off its beginning
     * itself: *ret_used tells how many bytes it took, 0: none. The same answers. May be NULL. */
    int (*read_in_place)(void *user, const char *bytes, size_t len, size_t *ret_used);

    void *user;
};

void frame_init(struct frame *frame, const struct frame_limits *limits);
void frame_clear(struct frame *frame);
bool frame_is_empty(const struct frame *frame); /* between messages */

/* 0; or what the reader returned; or BJ_E_NOMEM; or BJ_E_PROTOCOL with *ret_reason, a static
 * string. After anything but 0 the stream can't go on. */
int frame_feed(struct frame *frame, char *bytes, size_t len, const struct frame_reader *reader,
               const char **ret_reason);

#endif
