/* SPDX-License-Identifier: MIT */
/*
 * JSON that stays text where it can: callers' arguments and QEMU's replies pass through unchanged,
 * so that every number in them is exact.
 */
#ifndef BJ_BASE_JSON_TEXT_H
#define BJ_BASE_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Parses it; numbers beyond 64 bits become 0. NULL: *ret_no_memory says whether that is why. */
json_t *json_text_load(const char *text, size_t len, size_t flags, bool *ret_no_memory);

/* The length of the JSON number that `text` begins with; 0: it begins with none. */
size_t json_text_number(const char *text, size_t len, bool *ret_integer);

/* The text of the value of `key` in the object `text`, known to be valid; without the spaces around
 * it. NULL: there is none. */
const char *json_text_find(const char *text, size_t len, const char *key, size_t *ret_len);

/* Whether a string needs no escapes, as most names and ids: the way to complete must be short. */
bool json_text_is_plain(const char *s);

/* A string as JSON has it, in its quotes. malloc'ed; NULL: no memory, or not UTF-8. */
char *json_text_quote(const char *s);

/* The texts one after the other. ret_len may be NULL. malloc'ed; NULL: no memory. */
char *json_text_join(const char *const *parts, size_t count, size_t *ret_len);

/* Parses a JSON object a caller gave, numbers beyond 64 bits included; NULL if it is none, or one
 * that QEMU would not take (a member twice, a NUL, nested too deep): then *ret_error is BJ_E_INVAL,
 * or BJ_E_NOMEM. ret_error may be NULL. */
json_t *json_text_object(const char *text, int *ret_error);

json_t *json_text_array(const char *text, int *ret_error); /* the same for an array */

/* `text`, a valid JSON object, with `members` ("\"a\":1,\"b\":2") put before its own. malloc'ed. */
char *json_text_add_members(const char *text, const char *members);

/* The same for the object that is the member `key` of each object in `text`, a valid JSON array;
 * NULL: that one stays as it is. BJ_OK; BJ_E_NOMEM; BJ_E_INVAL: one has no such member, or spells
 * the key with escapes. *ret is malloc'ed. */
int json_text_add_members_in(const char *text, const char *key, const char *const *members,
                             char **ret);

#endif
