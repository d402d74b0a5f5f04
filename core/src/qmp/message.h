/* SPDX-License-Identifier: MIT */
/*
 * What a QMP message says. Text in, structures out; no I/O and no memory of earlier messages.
 */
#ifndef BJ_QMP_MESSAGE_H
#define BJ_QMP_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum message_kind { MESSAGE_GREETING, MESSAGE_RETURN, MESSAGE_ERROR, MESSAGE_EVENT };

/* The strings in an event's data that say which job it is about, and what of it. */
enum event_word {
    WORD_ID,
    WORD_DEVICE,
    WORD_TYPE,
    WORD_STATUS,
    WORD_ERROR,
    WORD_OPERATION,
    WORD_ACTION,
    EVENT_WORDS
};

struct message {
    enum message_kind kind;
    json_t *root; /* owned: message_clear(); NULL of one that was read in place */

    /* All of these belong to root or to the text that was read. */
    const json_t *value; /* greeting: "QMP"; return: "return"; event: "data". NULL: there is none,
                            or it was read in place: message_value() */
    const char *raw;     /* the own text of "return", or of an event's "data" (NULL: it has none),
                            so that every integer in it is exact (B55) */
    size_t raw_len;
    const char *name;               /* event: its name; error: its class, or "" */
    const char *text;               /* error: its description, or "" */
    const char *words[EVENT_WORDS]; /* event; NULL: not there, or no string */
    int64_t timestamp_us;           /* event: microseconds since 1970, or 0 */
    int64_t id;                     /* replies; 0 if it is no number */
    bool has_id;                    /* QEMU gave one */
};

/* Which word `key` is the key of; -1: of none. */
int event_word_of(const char *key, size_t len);

/* 0, BJ_E_NOMEM, or BJ_E_PROTOCOL with *ret_reason, a static string. `text` is changed only where
 * it holds a number that no 64-bit integer or double can hold, and only in a copy. */
int message_parse(const char *text, size_t len, struct message *ret, const char **ret_reason);
void message_clear(struct message *message);

/* What "return" says, as a tree, which is built when somebody asks and belongs to the message.
 * NULL: no memory. */
const json_t *message_value(struct message *message);

/* One command as a line, to be executed in turn or out of band. `arguments` is the text of a JSON
 * object or NULL. malloc'ed; NULL when memory is short. */
char *message_command(const char *name, const char *arguments, uint64_t id, bool out_of_band,
                      size_t *ret_len);

#endif
