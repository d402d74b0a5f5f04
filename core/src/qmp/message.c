/* SPDX-License-Identifier: MIT */
/*
 * The messages of QMP; see message.h.
 */
#include "qmp/message.h"
#include "base/json_text.h"

#include <blockjob/blockjob.h>

#include <stdlib.h>
#include <string.h>

static const char *string_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static int64_t timestamp_of(const json_t *root)
{
    const json_t *t = json_object_get(root, "timestamp");
    json_int_t seconds = json_integer_value(json_object_get(t, "seconds"));
    json_int_t micros = json_integer_value(json_object_get(t, "microseconds"));

    /* QEMU says -1 when its clock failed. */
    if (seconds < 0 || seconds > INT64_MAX / 1000000 - 1 || micros < 0 || micros > 999999)
        return 0;
    return seconds * 1000000 + micros;
}

static const struct {
    const char *key;
    size_t len;
} event_words[EVENT_WORDS] = {
#define KEY(key)                                                                                   \
    {                                                                                              \
        key, sizeof key - 1                                                                        \
    }
    [WORD_ID] = KEY("id"),         [WORD_DEVICE] = KEY("device"),
    [WORD_TYPE] = KEY("type"),     [WORD_STATUS] = KEY("status"),
    [WORD_ERROR] = KEY("error"),   [WORD_OPERATION] = KEY("operation"),
    [WORD_ACTION] = KEY("action"),
#undef KEY
};

int event_word_of(const char *key, size_t len)
{
    for (int word = 0; word < EVENT_WORDS; word++)
        if (event_words[word].len == len && memcmp(event_words[word].key, key, len) == 0)
            return word;
    return -1;
}

static void read_event(const char *text, size_t len, struct message *m)
{
    const json_t *data = json_object_get(m->root, "data");

    m->kind = MESSAGE_EVENT;
    m->value = data;
    m->name = string_of(m->root, "event");
    m->timestamp_us = timestamp_of(m->root);
    m->raw = json_text_find(text, len, "data", &m->raw_len);
    for (int word = 0; word < EVENT_WORDS; word++)
        m->words[word] = json_string_value(json_object_get(data, event_words[word].key));
}

static int read_root(const char *text, size_t len, struct message *m)
{
    const json_t *value;

    if (json_is_string(json_object_get(m->root, "event"))) {
        read_event(text, len, m);
    } else if ((value = json_object_get(m->root, "return"))) {
        m->kind = MESSAGE_RETURN;
        m->value = value;
        m->raw = json_text_find(text, len, "return", &m->raw_len);
    } else if ((value = json_object_get(m->root, "error"))) {
        m->kind = MESSAGE_ERROR;
        m->name = string_of(value, "class");
        m->text = string_of(value, "desc");
    } else if ((value = json_object_get(m->root, "QMP"))) {
        m->kind = MESSAGE_GREETING;
        m->value = value;
    } else {
        return BJ_E_PROTOCOL;
    }
    const json_t *id = json_object_get(m->root, "id");
    m->has_id = id != NULL;
    m->id = json_integer_value(id);

    /* A key in another spelling ("\\u0072eturn"), which QEMU never uses. */
    bool has_raw = m->kind == MESSAGE_RETURN || m->kind == MESSAGE_EVENT;
    return has_raw && m->value && !m->raw ? BJ_E_PROTOCOL : 0;
}

int message_parse(const char *text, size_t len, struct message *ret, const char **ret_reason)
{
    *ret = (struct message){.name = "", .text = ""};

    /* jansson overlooks a NUL after a word or a number, and then the value's own text ends there.
     */
    bool no_memory = false;
    ret->root =
        memchr(text, '\0', len) ? NULL : json_text_load(text, len, JSON_ALLOW_NUL, &no_memory);
    if (!ret->root) {
        *ret_reason =
            no_memory ? "what can't be read for lack of memory" : "something that is not JSON";
        return no_memory ? BJ_E_NOMEM : BJ_E_PROTOCOL;
    }
    if (read_root(text, len, ret) != 0) {
        message_clear(ret);
        *ret_reason = "a JSON object that is no QMP message";
        return BJ_E_PROTOCOL;
    }
    return 0;
}

void message_clear(struct message *message)
{
    json_decref(message->root);
    *message = (struct message){0};
}

const json_t *message_value(struct message *message)
{
    bool no_memory;
    if (!message->value && message->raw) {
        message->root = json_text_load(message->raw, message->raw_len,
                                       JSON_ALLOW_NUL | JSON_DECODE_ANY, &no_memory);
        message->value = message->root;
    }
    return message->value;
}

/* Room for every 64-bit number and its end. */
#define DIGITS 21

static const char *decimal(uint64_t number, char digits[DIGITS])
{
    size_t at = DIGITS - 1;

    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return &digits[at];
}

char *message_command(const char *name, const char *arguments, uint64_t id, bool out_of_band,
                      size_t *ret_len)
{
    char digits[DIGITS];
    char *quoted = json_text_is_plain(name) ? NULL : json_text_quote(name);
    if (!quoted && !json_text_is_plain(name))
        return NULL;
    const char *mark = quoted ? "" : "\"";
    const char *parts[] = {
        out_of_band ? "{\"exec-oob\":" : "{\"execute\":",
        mark,
        quoted ? quoted : name,
        mark,
        arguments ? ",\"arguments\":" : "",
        arguments ? arguments : "",
        ",\"id\":",
        decimal(id, digits),
        "}\r\n",
    };
    char *line = json_text_join(parts, sizeof parts / sizeof parts[0], ret_len);
    free(quoted);
    return line;
}
