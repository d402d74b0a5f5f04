/* SPDX-License-Identifier: MIT */
/*
 * Messages read where they lie: what is taken is what the parser reads, it ends where the framing
 * says that the message ends, and it is within the limits.
 *
 * Input: the bytes of a read.
 */
#include "../core/same_message.h"
#include "fuzz.h"
#include "qmp/read_in_place.h"

#include <blockjob/blockjob.h>

#include <string.h>

static const struct frame_limits limits = {.bytes = 1 << 16, .tokens = 500, .nesting = 20};

static void check_same(struct message *message, const char *text, size_t len)
{
    struct message parsed;
    const char *reason = NULL;

    must(message_parse(text, len, &parsed, &reason) == BJ_OK, "it is a message");
    must(!message->root, "no tree was built");
    must(different_part(message, &parsed) == NULL, "it is the message that the parser reads");
    if (message->kind == MESSAGE_RETURN) {
        const json_t *value = message_value(message);
        must(value && json_equal(value, parsed.value), "its value is the parser's");
    }
    message_clear(&parsed);
    message_clear(message);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): a reader gets its text so */
static int note_length(void *user, char *text, size_t len)
{
    (void)text;
    *(size_t *)user = len;
    return 1; /* the first is enough */
}

/* The framing finds the same end, within the same limits. */
static void check_end(const char *text, size_t len, size_t used)
{
    struct frame frame;
    const char *reason;
    size_t space = 0, length = 0;
    const struct frame_reader reader = {.read = note_length, .user = &length};

    while (strchr(" \t\r\n", text[space]))
        space++; /* `used` bytes of it are a message, which begins somewhere */
    frame_init(&frame, &limits);
    char *copy = malloc(len);
    must(copy != NULL, "there is memory");
    memcpy(copy, text, len);
    frame_feed(&frame, copy, len, &reader, &reason);
    must(space + length == used, "it ends where the message ends");
    free(copy);
    frame_clear(&frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message message;
    struct message_room room;
    const char *text = (const char *)data;

    size_t used = read_in_place(text, size, &limits, &room, &message);
    must(used <= size, "it takes no more than there is");
    if (used == 0)
        return 0;
    check_same(&message, text, used);
    check_end(text, size, used);
    return 0;
}
