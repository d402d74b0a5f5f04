/* SPDX-License-Identifier: MIT */
/*
 * Memos that anybody may have written: what is read can be written, and is the same then.
 *
 * Input: 0 and a text as it is given; or another byte and the object in it, to which the right
 * checksum is added.
 */
#include "api/memo_text.h"
#include "fuzz.h"
#include "qmp/block_graph.h"

#include <inttypes.h>
#include <string.h>

static char *with_checksum(const char *json)
{
    size_t size = strlen(json) + 32;
    char *text = malloc(size);
    uint64_t sum = 0xcbf29ce484222325;

    must(text != NULL, "there is memory");
    for (const char *c = json; *c; c++)
        sum = (sum ^ (unsigned char)*c) * 0x100000001b3;
    snprintf(text, size, "bjm1.%016" PRIx64 "%s", sum, json);
    return text;
}

static void check_graph(const struct memo *memo)
{
    struct driver_snapshot *snapshot = memo->graph ? qmp_read_snapshot(memo->graph) : NULL;
    if (!snapshot)
        return;
    json_t *written = qmp_write_snapshot(snapshot);
    struct driver_snapshot *again = written ? qmp_read_snapshot(written) : NULL;
    must(again != NULL, "a snapshot that was read can be written and read");
    qmp_free_snapshot(again);
    json_decref(written);
    qmp_free_snapshot(snapshot);
}

static void check_memo(const struct memo *memo)
{
    char text[BJ_MEMO_SIZE];
    struct memo again;
    const char *why;

    must(*memo->id && memo->current >= -1 && memo->total >= -1, "its members are in range");
    check_graph(memo);
    if (memo_write(memo, text) == 0)
        return; /* escaped it is too long */
    must(memo_read(text, &again, &why) == BJ_OK, "what was read can be written");
    must(strcmp(again.id, memo->id) == 0 && again.facts == memo->facts &&
             again.number == memo->number && again.changed_us == memo->changed_us,
         "and is the same");
    memo_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    bool is_raw = take_byte(&input) == 0;
    size_t len;
    char *given = take_text(&input, &len);
    char *text = is_raw ? given : with_checksum(given);
    struct memo memo;
    const char *why = NULL;

    if (memo_read(text, &memo, &why) == BJ_OK) {
        check_memo(&memo);
        memo_clear(&memo);
    } else {
        must(why && strncmp(why, "it", 2) == 0, "it is said why not");
    }
    if (text != given)
        free(text);
    free(given);
    return 0;
}
