/* SPDX-License-Identifier: MIT */
/*
 * JSON as text; see json_text.h.
 */
#include "base/json_text.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------- scanning */

/* The closing quote of the string that begins at text[at], or len. */
static size_t skip_string(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < len ? at : len;
}

static size_t skip_digits(const char *text, size_t len, size_t at)
{
    while (at < len && text[at] >= '0' && text[at] <= '9')
        at++;
    return at;
}

size_t json_text_number(const char *text, size_t len, bool *ret_integer)
{
    size_t begin = len > 0 && text[0] == '-' ? 1 : 0;
    size_t at = skip_digits(text, len, begin);
    size_t integer_end = at;

    if (at == begin || (text[begin] == '0' && at > begin + 1))
        return 0;
    if (at < len && text[at] == '.') {
        size_t fraction = at + 1;
        at = skip_digits(text, len, fraction);
        if (at == fraction)
            return 0;
    }
    if (at < len && (text[at] == 'e' || text[at] == 'E')) {
        size_t exponent = at + 1;
        if (exponent < len && (text[exponent] == '+' || text[exponent] == '-'))
            exponent++;
        at = skip_digits(text, len, exponent);
        if (at == exponent)
            return 0;
    }
    *ret_integer = at == integer_end;
    return at;
}

static bool overflows(const char *number, size_t len, bool is_integer)
{
    char digits[512];
    if (len >= sizeof digits)
        return true;
    memcpy(digits, number, len);
    digits[len] = '\0';

    errno = 0;
    if (is_integer)
        strtoll(digits, NULL, 10);
    else
        strtod(digits, NULL);
    return errno == ERANGE;
}

/* Writes 0 over every number that jansson could not hold. The parsed tree is only for us, who need
 * none of them; callers get the message's own text. False if something is no number. */
static bool blank_huge_numbers(char *text, size_t len)
{
    for (size_t at = 0; at < len; at++) {
        bool is_integer;
        if (text[at] == '"') {
            at = skip_string(text, len, at);
            continue;
        }
        if (text[at] != '-' && (text[at] < '0' || text[at] > '9'))
            continue;
        size_t n = json_text_number(text + at, len - at, &is_integer);
        if (n == 0)
            return false;
        if (overflows(text + at, n, is_integer)) {
            memset(text + at, ' ', n);
            text[at] = '0';
        }
        at += n - 1;
    }
    return true;
}

static json_t *load_huge(const char *text, size_t len, size_t flags, enum json_error_code *ret_code)
{
    char *copy = malloc(len ? len : 1);
    if (!copy) {
        *ret_code = json_error_out_of_memory;
        return NULL;
    }
    memcpy(copy, text, len);
    errno = 0;
    json_t *root = blank_huge_numbers(copy, len) ? json_loadb(copy, len, flags, NULL) : NULL;
    if (errno == ENOMEM)
        *ret_code = json_error_out_of_memory;
    free(copy);
    return root;
}

/* jansson calls some of its failures to get memory bad syntax; errno knows better. */
static json_t *load_or_code(const char *text, size_t len, size_t flags,
                            enum json_error_code *ret_code)
{
    json_error_t error = {0};
    errno = 0;
    json_t *root = json_loadb(text, len, flags, &error);
    *ret_code = errno == ENOMEM ? json_error_out_of_memory : json_error_code(&error);
    if (!root && *ret_code == json_error_numeric_overflow)
        root = load_huge(text, len, flags, ret_code);
    return root;
}

static bool is_lack_of_memory(enum json_error_code code)
{
    return code == json_error_out_of_memory || code == json_error_unknown;
}

json_t *json_text_load(const char *text, size_t len, size_t flags, bool *ret_no_memory)
{
    enum json_error_code code;
    json_t *root = load_or_code(text, len, flags, &code);
    *ret_no_memory = !root && is_lack_of_memory(code);
    return root;
}

/* The end of the value that begins at text[at], in a text known to be valid JSON. */
static size_t skip_value(const char *text, size_t len, size_t at)
{
    size_t depth = 0;

    for (; at < len; at++) {
        char c = text[at];
        if (c == '"')
            at = skip_string(text, len, at);
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth > 0)
            depth--;
        else if (depth == 0 && (c == ',' || c == '}'))
            break;
    }
    return at < len ? at : len;
}

static size_t skip_space(const char *text, size_t len, size_t at)
{
    while (at < len && strchr(" \t\r\n,:{", text[at]) && text[at])
        at++;
    return at;
}

const char *json_text_find(const char *text, size_t len, const char *key, size_t *ret_len)
{
    const char *found = NULL;
    size_t key_len = strlen(key);
    size_t at = skip_space(text, len, 0);

    while (at < len && text[at] == '"') {
        size_t end = skip_string(text, len, at);
        bool is_it = end - at - 1 == key_len && memcmp(text + at + 1, key, key_len) == 0;

        at = end + 1;
        while (at < len && strchr(" \t\r\n:", text[at]) && text[at])
            at++;
        end = skip_value(text, len, at);
        if (is_it) {
            found = text + at;
            *ret_len = end - at;
            while (*ret_len > 0 && strchr(" \t\r\n", found[*ret_len - 1]))
                (*ret_len)--;
        }
        at = skip_space(text, len, end);
    }
    return found;
}

/* --------------------------------------------------------------------- making */

/* Not by asprintf(), whose code is cold when READY comes. */
char *json_text_join(const char *const *parts, size_t count, size_t *ret_len)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += strlen(parts[i]);
    char *joined = malloc(len + 1);
    if (!joined)
        return NULL;

    char *at = joined;
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, parts[i]);
    *at = '\0';
    if (ret_len)
        *ret_len = len;
    return joined;
}

bool json_text_is_plain(const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return s[strspn(s, plain)] == '\0';
}

char *json_text_quote(const char *s)
{
    if (json_text_is_plain(s))
        return json_text_join((const char *[]){"\"", s, "\""}, 3, NULL);

    json_t *string = json_string(s);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    return quoted;
}

/* -------------------------------------------------------------------- reading */

/* QEMU's own limit. */
#define NESTING_MAX 1024

static bool is_too_deep(const char *text, size_t len)
{
    size_t depth = 0;
    for (size_t at = 0; at < len; at++) {
        if (text[at] == '"')
            at = skip_string(text, len, at);
        else if (text[at] == '{' || text[at] == '[')
            depth++;
        else if (text[at] == '}' || text[at] == ']')
            depth--;
        if (depth > NESTING_MAX)
            return true;
    }
    return false;
}

/* As strict as QEMU, whose error reply to bad syntax has no id. */
static json_t *load_strictly(const char *text, json_type type, int *ret_error)
{
    bool no_memory = false;
    size_t len = strlen(text);
    json_t *root = is_too_deep(text, len)
                       ? NULL
                       : json_text_load(text, len, JSON_REJECT_DUPLICATES, &no_memory);

    if (ret_error)
        *ret_error = no_memory ? BJ_E_NOMEM : BJ_E_INVAL;
    if (root && json_typeof(root) != type) {
        json_decref(root);
        return NULL;
    }
    return root;
}

json_t *json_text_object(const char *text, int *ret_error)
{
    return load_strictly(text, JSON_OBJECT, ret_error);
}

json_t *json_text_array(const char *text, int *ret_error)
{
    return load_strictly(text, JSON_ARRAY, ret_error);
}

char *json_text_add_members(const char *text, const char *members)
{
    const char *rest = strchr(text, '{') + 1;
    while (strchr(" \t\r\n", *rest) && *rest)
        rest++;

    char *joined = NULL;
    const char *comma = *rest == '}' || !*members ? "" : ",";
    return asprintf(&joined, "{%s%s%s", members, comma, rest) < 0 ? NULL : joined;
}

/* The end of the object that begins at text[at], in a text known to be valid JSON. */
static size_t skip_object(const char *text, size_t len, size_t at)
{
    size_t depth = 0;

    do {
        if (text[at] == '"')
            at = skip_string(text, len, at);
        else if (text[at] == '{' || text[at] == '[')
            depth++;
        else if (text[at] == '}' || text[at] == ']')
            depth--;
        at++;
    } while (depth > 0 && at < len);
    return at;
}

/* The object from text[begin] to text[end], with the members in it. */
static int add_within(FILE *out, const char *text, size_t begin, size_t end, const char *key,
                      const char *members)
{
    size_t len;
    const char *value = json_text_find(text + begin, end - begin, key, &len);
    if (!value || *value != '{')
        return BJ_E_INVAL;

    bool is_empty = value[1 + strspn(value + 1, " \t\r\n")] == '}';
    fwrite(text + begin, 1, (size_t)(value + 1 - (text + begin)), out);
    fputs(members, out);
    fputs(is_empty || !*members ? "" : ",", out);
    fwrite(value + 1, 1, (size_t)(text + end - (value + 1)), out);
    return BJ_OK;
}

static int add_within_all(FILE *out, const char *text, const char *key, const char *const *members)
{
    size_t len = strlen(text);
    size_t done = 0, begin;
    int r = BJ_OK;

    for (size_t i = 0; r == BJ_OK && (begin = done + strcspn(text + done, "{")) < len; i++) {
        size_t end = skip_object(text, len, begin);
        fwrite(text + done, 1, begin - done, out);
        if (members[i])
            r = add_within(out, text, begin, end, key, members[i]);
        else
            fwrite(text + begin, 1, end - begin, out);
        done = end;
    }
    fputs(text + done, out);
    return r;
}

int json_text_add_members_in(const char *text, const char *key, const char *const *members,
                             char **ret)
{
    char *joined = NULL;
    size_t len;
    FILE *out = open_memstream(&joined, &len);
    if (!out)
        return BJ_E_NOMEM;
    int r = add_within_all(out, text, key, members);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed || !joined) /* glibc's fclose() is silent about it */
        r = BJ_E_NOMEM;
    if (r == BJ_OK)
        *ret = joined;
    else
        free(joined);
    return r;
}
