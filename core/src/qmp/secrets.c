/* SPDX-License-Identifier: MIT */
/*
 * Secrets in messages; see secrets.h. Bytes are looked at and not parsed: a trace shows what is on
 * the wire, whatever it is.
 */
#include "qmp/secrets.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char MASK[] = "***";
enum { MASK_LEN = sizeof MASK - 1 };

/* A part of the message. */
struct span {
    const char *at;
    size_t len;
};

/* What strings that are members of these names hold. */
static const char *const secret_names[] = {
    "password",        /* set_password, change-vnc-password, block_passwd */
    "data",            /* a secret object's; the keys of send-key, which may be a password */
    "secret",          /* sev-inject-launch-secret */
    "key",      "arg", /* change: VNC's password before 6.0 */
};

/* The first words of a human monitor's lines that have a secret somewhere after. */
static const char *const secret_commands[] = {
    "set_password", "change", "object_add", "block_passwd", "sendkey",
};

static bool is_among(const char *const *words, size_t count, struct span span)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(words[i]) == span.len && memcmp(words[i], span.at, span.len) == 0)
            return true;
    return false;
}

/* "props.data" is data, too. */
static struct span last_part(struct span name)
{
    for (size_t i = name.len; i > 0; i--)
        if (name.at[i - 1] == '.')
            return (struct span){name.at + i, name.len - i};
    return name;
}

static bool is_secret_name(struct span name)
{
    return is_among(secret_names, sizeof secret_names / sizeof secret_names[0], last_part(name));
}

static bool is_command_line(struct span name)
{
    static const char *const command_line[] = {"command-line"};
    return is_among(command_line, 1, name);
}

/* --------------------------------------------------------------------- strings */

struct output {
    char *bytes;
    size_t len;
};

static void put(struct output *out, const char *bytes, size_t len)
{
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void put_mask(struct output *out)
{
    put(out, MASK, MASK_LEN);
}

static void put_command_line(struct output *out, struct span line)
{
    size_t word = 0;
    while (word < line.len && line.at[word] != ' ')
        word++;
    bool hides = is_among(secret_commands, sizeof secret_commands / sizeof secret_commands[0],
                          (struct span){line.at, word});
    if (!hides || word == line.len) {
        put(out, line.at, line.len);
        return;
    }
    put(out, line.at, word + 1);
    put_mask(out);
}

/* The part of "scheme://user:password@host" that is the password; its length is 0 if there is none.
 * iSCSI has user%password. */
static struct span password_in(struct span url)
{
    const char *end = url.at + url.len;
    const char *authority = memmem(url.at, url.len, "://", 3);
    if (!authority)
        return (struct span){end, 0};
    authority += 3;

    const char *password = NULL;
    for (const char *at = authority; at < end && *at != '/' && *at != '"'; at++) {
        if (*at == '@' && password)
            return (struct span){password, (size_t)(at - password)};
        if ((*at == ':' || *at == '%') && !password)
            password = at + 1;
    }
    return (struct span){end, 0};
}

static void put_string(struct output *out, struct span string)
{
    struct span password = password_in(string);
    size_t before = (size_t)(password.at - string.at);
    if (password.len == 0) {
        put(out, string.at, string.len);
        return;
    }
    put(out, string.at, before);
    put_mask(out);
    put(out, password.at + password.len, string.len - before - password.len);
}

/* --------------------------------------------------------------------- messages */

/* The string whose first letter this is, without its quotes; to the end of the bytes if it has none
 * itself. */
static struct span string_at(const char *at, const char *end)
{
    const char *begin = at;
    while (at < end && *at != '"')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return (struct span){begin, (size_t)(at - begin)};
}

static const char *after_space(const char *at, const char *end)
{
    while (at < end && strchr(" \t\r\n", *at) && *at)
        at++;
    return at;
}

static void put_value(struct output *out, struct span name, struct span value)
{
    if (is_secret_name(name))
        put_mask(out);
    else if (is_command_line(name))
        put_command_line(out, value);
    else
        put_string(out, value);
}

/* A name that is followed by a string is that string's; else it was a value itself. */
static void mask(struct output *out, const char *at, const char *end)
{
    struct span name = {at, 0};

    while (at < end) {
        char c = *at++;
        put(out, &c, 1);
        if (c == '"') {
            struct span string = string_at(at, end);
            const char *next = string.at + string.len;
            bool is_name = next < end && (next = after_space(next + 1, end)) < end && *next == ':';
            if (is_name)
                put(out, string.at, string.len);
            else
                put_value(out, name, string);
            name = is_name ? string : (struct span){end, 0};
            at = string.at + string.len;
            if (at < end)
                put(out, at++, 1);
        } else if (c != ':' && !strchr(" \t\r\n", c)) {
            name = (struct span){end, 0};
        }
    }
}

struct text *secrets_mask(const char *bytes, size_t len)
{
    /* What is hidden may be shorter than its mask, but not with the name or the "://" before it. */
    struct output out = {.bytes = malloc(2 * len + MASK_LEN + 1)};
    if (!out.bytes)
        return NULL;
    mask(&out, bytes, bytes + len);
    struct text *masked = text_new(out.bytes, out.len);
    free(out.bytes);
    return masked;
}
