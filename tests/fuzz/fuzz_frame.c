/* SPDX-License-Identifier: MIT */
/*
 * The framing: a stream gives the same messages however it is cut into reads, those that jansson
 * sees in it, and none beyond the limits.
 *
 * Input: a byte that chooses the limits, a byte that chooses the cuts, the stream.
 */
#include "fuzz.h"
#include "qmp/frame.h"

#include <blockjob/blockjob.h>

#include <jansson.h>
#include <string.h>

#define MESSAGES_MAX 4096

/* What came of a stream. */
struct outcome {
    struct frame_limits limits;
    int error;
    size_t count;
    size_t lengths[MESSAGES_MAX];
    uint64_t digest; /* of all messages */
    size_t stop_at;  /* the sink refuses the message of this number */
    bool between;    /* the end is between two messages */
};

#define SINK_REFUSES (-1000)

struct size {
    size_t tokens;
    size_t depth;
};

static void add_size(struct size *size, const json_t *member, size_t key);

static struct size measure(const json_t *value)
{
    struct size size = {.tokens = 1};
    void *member = json_object_iter((json_t *)value); /* NULL for what is no object */

    for (; member; member = json_object_iter_next((json_t *)value, member))
        add_size(&size, json_object_iter_value(member), 1);
    for (size_t i = 0; i < json_array_size(value); i++)
        add_size(&size, json_array_get(value, i), 0);
    if (json_is_object(value) || json_is_array(value))
        size.depth++;
    return size;
}

static void add_size(struct size *size, const json_t *member, size_t key)
{
    struct size more = measure(member);
    size->tokens += key + more.tokens;
    size->depth = more.depth > size->depth ? more.depth : size->depth;
}

static void check_message(const struct frame_limits *limits, const char *text, size_t len)
{
    must(len >= 2 && text[0] == '{', "a message begins with a brace");
    must(len <= limits->bytes, "no message is longer than the limit");

    json_t *root = json_loadb(text, len, 0, NULL);
    if (!root)
        return;
    must(json_is_object(root), "a message is an object");
    struct size size = measure(root);
    must(size.tokens <= limits->tokens, "no message has more tokens than the limit");
    must(size.depth <= limits->nesting, "no message is nested deeper than the limit");
    json_decref(root);
}

static int sink(void *user, char *text, size_t len)
{
    struct outcome *o = user;
    check_message(&o->limits, text, len);
    for (size_t i = 0; i < len; i++)
        o->digest = (o->digest ^ (uint8_t)text[i]) * 0x100000001b3u;
    memset(text, '"', len); /* it may be changed */
    must(o->count < MESSAGES_MAX, "there are no more messages than fit into the input");
    o->lengths[o->count++] = len;
    return o->count == o->stop_at ? SINK_REFUSES : 0;
}

/* Feeds the stream in reads: 0, all at once; 1, byte by byte; else of sizes that `cuts` decides. */
static void feed(struct outcome *o, const uint8_t *bytes, size_t len, uint8_t cuts)
{
    struct frame frame;
    const char *reason = NULL;
    frame_init(&frame, &o->limits);

    unsigned dice = cuts;
    for (size_t at = 0; at < len && o->error == 0;) {
        dice = dice * 1103515245 + 12345;
        size_t size = cuts == 0 ? len : cuts == 1 ? 1 : 1 + (dice >> 16) % 23;
        size = size < len - at ? size : len - at;
        char *read = malloc(size); /* of its own size, so that a byte too far is seen */
        must(read != NULL, "there is memory");
        memcpy(read, bytes + at, size);
        o->error = frame_feed(&frame, read, size, &(struct frame_reader){.read = sink, .user = o},
                              &reason);
        free(read);
        must(frame.capacity <= 2 * (o->limits.bytes + 23) || frame.capacity <= len,
             "what is kept is bounded");
        at += size;
    }
    must(o->error == 0 || o->error == SINK_REFUSES || o->error == BJ_E_PROTOCOL,
         "it fails for a reason");
    must((o->error == BJ_E_PROTOCOL) == (reason != NULL), "the reason is told");
    o->between = frame_is_empty(&frame);
    frame_clear(&frame);
}

static struct frame_limits choose_limits(uint8_t choice)
{
    static const size_t bytes[] = {16, 80, 512, 1 << 20};
    static const size_t tokens[] = {3, 9, 40, 1 << 20};
    static const size_t nesting[] = {1, 3, 9, 256};
    return (struct frame_limits){
        .bytes = bytes[choice & 3],
        .tokens = tokens[choice >> 2 & 3],
        .nesting = nesting[choice >> 4 & 3],
    };
}

/* For as long as jansson finds whole objects, they are the messages. */
static void compare_with_jansson(const struct outcome *o, const uint8_t *bytes, size_t len)
{
    const char *text = (const char *)bytes;
    size_t at = 0;

    for (size_t i = 0;; i++) {
        while (at < len && strchr(" \t\r\n", text[at]) && text[at])
            at++;
        json_error_t error;
        json_t *root = at < len && text[at] == '{'
                           ? json_loadb(text + at, len - at, JSON_DISABLE_EOF_CHECK, &error)
                           : NULL;
        if (!root)
            return;
        json_decref(root);
        if (memchr(text + at, '\0', (size_t)error.position))
            return; /* which jansson overlooks here and there */
        if (i == o->count) {
            must(o->error != 0, "every whole object is a message, or the end");
            return;
        }
        must(o->lengths[i] == (size_t)error.position, "a message is a whole object");
        at += o->lengths[i];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size < 8192 ? size : 8192};
    uint8_t choice = take_byte(&input);
    uint8_t cuts = take_byte(&input);
    static struct outcome whole, cut, bytewise;
    size_t stop_at = choice & 0x40 ? 2 : 0;

    whole = cut = bytewise = (struct outcome){.limits = choose_limits(choice), .stop_at = stop_at};
    feed(&whole, input.at, input.left, 0);
    feed(&cut, input.at, input.left, cuts > 1 ? cuts : 2);
    feed(&bytewise, input.at, input.left, 1);
    must(whole.count == cut.count && whole.digest == cut.digest && whole.error == cut.error,
         "the cuts change nothing");
    must(whole.count == bytewise.count && whole.digest == bytewise.digest &&
             whole.error == bytewise.error,
         "other cuts change nothing");
    must(whole.error != 0 || whole.between == cut.between, "nor where it ends");
    compare_with_jansson(&whole, input.at, input.left);
    return 0;
}
