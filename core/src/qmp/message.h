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
int protocol_parse(const char *text, size_t len, struct message *ret, const char **ret_reason);
void message_clear(struct message *message);

/* A string as JSON has it, in its quotes. malloc'ed; NULL: no memory, or not UTF-8. */
char *protocol_quote(const char *s);

/* The texts one after the other. ret_len may be NULL. malloc'ed; NULL: no memory. */
char *protocol_join(const char *const *parts, size_t count, size_t *ret_len);

/* One command as a line. `arguments` is the text of a JSON object or NULL. malloc'ed; NULL when
 * memory is short. */
char *protocol_command(const char *name, const char *arguments, uint64_t id, size_t *ret_len);

/* Parses a JSON object a caller gave, numbers beyond 64 bits included; NULL if it is none, or one
 * that QEMU would not take (a member twice, a NUL, nested too deep): then *ret_error is BJ_E_INVAL,
 * or BJ_E_NOMEM. ret_error may be NULL. */
json_t *protocol_object(const char *text, int *ret_error);

json_t *protocol_array(const char *text, int *ret_error); /* the same for an array */

/* `text`, a valid JSON object, with `members` ("\"a\":1,\"b\":2") put before its own. malloc'ed. */
char *protocol_add_members(const char *text, const char *members);

/* The same for the object that is the member `key` of each object in `text`, a valid JSON array;
 * NULL: that one stays as it is. BJ_OK; BJ_E_NOMEM; BJ_E_INVAL: one has no such member, or spells
 * the key with escapes. *ret is malloc'ed. */
int protocol_add_members_in(const char *text, const char *key, const char *const *members,
                            char **ret);

#endif
