/* SPDX-License-Identifier: MIT */
/*
 * Messages read where they lie: framed, validated and looked up in one pass, and no tree is built.
 * Events come by the ten thousand (B29), READY among them; and most replies say no more than {}.
 */
#ifndef BJ_QMP_READ_IN_PLACE_H
#define BJ_QMP_READ_IN_PLACE_H

#include "qmp/frame.h"
#include "qmp/message.h"

/* Where the words of such a message are kept, each with a NUL after it. */
struct message_room {
    char words[512];
};

/* Reads the message that `text` begins with and returns how many bytes it took. *ret refers to
 * `text` and to *room, and needs no message_clear().
 *
 * 0 for whatever is not a whole event or a whole "return" in plain spelling and within the limits,
 * be it half a message, another one, an escape where a word is needed, or no JSON at all: that is
 * for frame_feed() and message_parse(), which also know what is wrong with it. */
size_t read_in_place(const char *text, size_t len, const struct frame_limits *limits,
                     struct message_room *room, struct message *ret);

#endif
