/* SPDX-License-Identifier: MIT */
/*
 * The short way for JOB_STATUS_CHANGE: what it reads is what the parser reads, and where it ends
 * is where the message ends.
 *
 * Input: the bytes of a read.
 */
#include "fuzz.h"
#include "qmp/frame.h"
#include "qmp/job_words.h"
#include "qmp/status_event.h"

#include <string.h>

static void check_same(const struct status_event *event, const char *text, size_t len)
{
    struct message m;
    struct fact fact;
    const char *reason;

    must(memchr(event->id, '\0', sizeof event->id) != NULL, "the id ends");
    must(memchr(event->status, '\0', sizeof event->status) != NULL, "the status ends");
    must(message_parse(text, len, &m, &reason) == BJ_OK, "it is a message");
    must(m.kind == MESSAGE_EVENT && strcmp(m.name, "JOB_STATUS_CHANGE") == 0, "it is that event");
    must(qmp_read_fact(&m, &fact) && fact.kind == FACT_STATUS, "it is a fact");
    must(strcmp(fact.id, event->id) == 0, "it has the same id");
    must(fact.status == job_status_of(event->status), "it has the same status");
    must(fact.timestamp_us == event->timestamp_us, "it has the same time");
    message_clear(&m);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it is a frame_sink */
static int note_length(void *user, char *text, size_t len)
{
    (void)text;
    *(size_t *)user = len;
    return 1; /* the first is enough */
}

/* The framing finds the same end. */
static void check_end(const char *text, size_t len, size_t used)
{
    struct frame frame;
    const char *reason;
    size_t space = 0, length = 0;

    while (strchr(" \t\r\n", text[space]))
        space++; /* `used` bytes of it are an event, which begins somewhere */
    frame_init(&frame, &(struct frame_limits){.bytes = 1 << 20, .tokens = 1 << 20, .nesting = 256});
    char *copy = malloc(len);
    must(copy != NULL, "there is memory");
    memcpy(copy, text, len);
    frame_feed(&frame, copy, len, note_length, &length, &reason);
    must(space + length == used, "it ends where the message ends");
    free(copy);
    frame_clear(&frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status_event event;
    const char *text = (const char *)data;

    size_t used = status_event_begin(text, size, &event);
    must(used <= size, "it takes no more than there is");
    bool whole = status_event_read(text, size, &event);
    must(!whole || used > 0, "the whole has a beginning");
    if (used == 0)
        return 0;
    status_event_begin(text, size, &event);
    check_same(&event, text, used);
    check_end(text, size, used);
    return 0;
}
