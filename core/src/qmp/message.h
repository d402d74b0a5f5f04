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

struct message {
    enum message_kind kind;
    json_t *root; /* owned: message_clear() */

    /* All of these belong to root or to the text that was parsed. */
    const json_t *id;    /* replies; NULL if QEMU gave none */
    const json_t *value; /* greeting: "QMP"; return: "return"; event: "data", or NULL */
    const char *raw;     /* the value's own text, so that every integer in it is exact (B55) */
    size_t raw_len;
    const char *name;     /* event: its name; error: its class, or "" */
    const char *text;     /* error: its description, or "" */
    int64_t timestamp_us; /* event: microseconds since 1970, or 0 */
};

/* 0, BJ_E_NOMEM, or BJ_E_PROTOCOL with *ret_reason, a static string. `text` is changed only where
 * it holds a number that no 64-bit integer or double can hold, and only in a copy. */
int message_parse(const char *text, size_t len, struct message *ret, const char **ret_reason);
void message_clear(struct message *message);

/* One command as a line. `arguments` is the text of a JSON object or NULL. malloc'ed; NULL when
 * memory is short. */
char *message_command(const char *name, const char *arguments, uint64_t id, size_t *ret_len);

#endif
