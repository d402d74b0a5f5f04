/* SPDX-License-Identifier: MIT */
#include "api/memo_text.h"
#include "base/json_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "bjm1." and a checksum of what follows, an object in JSON. */
#define PREFIX "bjm"
#define VERSION "1."
#define SUM_DIGITS 16
#define HEAD_LENGTH (sizeof PREFIX VERSION - 1 + SUM_DIGITS)

/* FNV-1a: against accidents. Who makes memos up can make any. */
static uint64_t sum_of(const char *text)
{
    uint64_t sum = 0xcbf29ce484222325;
    for (; *text; text++)
        sum = (sum ^ (unsigned char)*text) * 0x100000001b3;
    return sum;
}

/* -------------------------------------------------------------------- writing */

static json_t *object_of(const struct memo *memo)
{
    char number[SUM_DIGITS + 1];

    snprintf(number, sizeof number, "%016" PRIx64, memo->number);
    return json_pack("{ss,ss,s[IsI],si,s[II],s[ssss],sI}", "id", memo->id, "type", memo->type,
                     "run", (json_int_t)memo->since_us, number, (json_int_t)memo->changed_us,
                     "facts", (int)memo->facts, "at", (json_int_t)memo->current,
                     (json_int_t)memo->total, "peer", memo->peer.boot, memo->peer.process,
                     memo->peer.version, memo->peer.socket, "start", (json_int_t)memo->start_us);
}

/* 0: it does not fit, or there is no memory. */
static size_t write_object(const json_t *object, char *text)
{
    char *json = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
    size_t length = json ? HEAD_LENGTH + strlen(json) : 0;

    if (length >= BJ_MEMO_SIZE)
        length = 0;
    if (length > 0)
        snprintf(text, BJ_MEMO_SIZE, PREFIX VERSION "%016" PRIx64 "%s", sum_of(json), json);
    free(json);
    return length;
}

size_t memo_write(const struct memo *memo, char text[BJ_MEMO_SIZE])
{
    static const char *const may_be_missing[] = {"graph", "device", "data"};
    json_t *object = object_of(memo);

    if (object && memo->graph)
        json_object_set(object, "graph", memo->graph);
    if (object && memo->device)
        json_object_set_new(object, "device", json_string(memo->device));
    if (object && memo->run_data)
        json_object_set_new(object, "data", json_string(memo->run_data));

    size_t length = object ? write_object(object, text) : 0;
    for (size_t i = 0; object && length == 0 && i < 3; i++)
        if (json_object_del(object, may_be_missing[i]) == 0)
            length = write_object(object, text);
    json_decref(object);
    if (length == 0)
        text[0] = '\0';
    return length;
}

/* -------------------------------------------------------------------- reading */

static bool read_number(const char *digits, uint64_t *ret)
{
    char *end;
    *ret = strtoull(digits, &end, 16);
    return strlen(digits) == SUM_DIGITS && strspn(digits, "0123456789abcdef") == SUM_DIGITS;
}

static bool read_object(json_t *object, struct memo *ret)
{
    json_int_t since, changed, current, total, start;
    const char *number;
    int facts;

    *ret = (struct memo){.root = object};
    if (json_unpack(object, "{ss,ss,s[IsI!],si,s[II!],s[ssss!],sI,s?s,s?s,s?o!}", "id", &ret->id,
                    "type", &ret->type, "run", &since, &number, &changed, "facts", &facts, "at",
                    &current, &total, "peer", &ret->peer.boot, &ret->peer.process,
                    &ret->peer.version, &ret->peer.socket, "start", &start, "device", &ret->device,
                    "data", &ret->run_data, "graph", &ret->graph) != 0)
        return false;
    ret->since_us = since;
    ret->changed_us = changed;
    ret->facts = (unsigned)facts;
    ret->current = current;
    ret->total = total;
    ret->start_us = start;
    return read_number(number, &ret->number) && *ret->id && since > 0 && changed > 0 &&
           current >= -1 && total >= -1 && start >= 0 && !(ret->facts & ~(unsigned)MEMORY_ALL);
}

static const char *check_head(const char *text)
{
    char sum[SUM_DIGITS + 1];

    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0)
        return "it is not a memo of this library";
    if (strncmp(text + strlen(PREFIX), VERSION, strlen(VERSION)) != 0)
        return "it was made by another version of this library, which this one can't read";
    if (strnlen(text, BJ_MEMO_SIZE) == BJ_MEMO_SIZE)
        return "it is longer than a memo can be";
    if (strlen(text) < HEAD_LENGTH)
        return "it is cut short";
    snprintf(sum, sizeof sum, "%016" PRIx64, sum_of(text + HEAD_LENGTH));
    return memcmp(text + HEAD_LENGTH - SUM_DIGITS, sum, SUM_DIGITS) == 0
               ? NULL
               : "it was cut or changed: its checksum differs";
}

int memo_read(const char *text, struct memo *ret, const char **ret_why)
{
    *ret_why = check_head(text);
    if (*ret_why)
        return BJ_E_INVAL;

    const char *json = text + HEAD_LENGTH;
    bool no_memory = false;
    json_t *object = json_text_load(json, strlen(json), JSON_REJECT_DUPLICATES, &no_memory);
    errno = 0; /* nothing else tells no memory from no sense */
    if (object && read_object(object, ret))
        return BJ_OK;
    json_decref(object);
    if (no_memory || errno == ENOMEM) {
        *ret_why = "it can't be read for lack of memory";
        return BJ_E_NOMEM;
    }
    *ret_why = "its checksum is right, but it makes no sense: this library has not made it";
    return BJ_E_INVAL;
}

void memo_clear(struct memo *memo)
{
    json_decref(memo->root);
    memo->root = NULL;
}
