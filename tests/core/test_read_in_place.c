/* SPDX-License-Identifier: MIT */
/*
 * Messages read where they lie: they are what the parser reads, or they are left to the parser.
 */
#include "model/words.h"
#include "qmp/frame.h"
#include "qmp/read_in_place.h"
#include "same_message.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>

#include <stdio.h>
#include <stdlib.h>

static const struct frame_limits wide = {.bytes = 1 << 20, .tokens = 10000, .nesting = 64};

#define ORDINARY                                                                                   \
    "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": "             \
    "\"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\", \"id\": \"bj-0-1\"}}"

/* From memory of its own, so that a byte too far is seen. How many bytes were taken; then they have
 * to be what the parser reads. */
static size_t read_both_ways(const char *bytes, size_t len, const struct frame_limits *limits)
{
    char *text = malloc(len ? len : 1);
    assert_non_null(text);
    memcpy(text, bytes, len);

    struct message message, parsed;
    struct message_room room;
    const char *reason;
    size_t used = read_in_place(text, len, limits, &room, &message);
    if (used > 0) {
        if (message_parse(text, used, &parsed, &reason) != 0)
            fail_msg("no message: %.*s", (int)len, text);
        const char *part = different_part(&message, &parsed);
        if (part)
            fail_msg("%s is not the same: %.*s", part, (int)len, text);
        message_clear(&parsed);
    }
    free(text);
    return used;
}

/* As a whole. */
static bool is_taken(const char *text)
{
    size_t used = read_both_ways(text, strlen(text), &wide);
    assert_true(used == 0 || used == strlen(text));
    return used > 0;
}

static void what_qemu_sends_is_taken(void **state)
{
    (void)state;
    static const char *const texts[] = {
        ORDINARY,
        "{\"timestamp\":{\"seconds\":1,\"microseconds\":0},\"event\":\"JOB_STATUS_CHANGE\","
        "\"data\":{\"status\":\"running\",\"id\":\"j\"}}",
        "{\r\n    \"timestamp\": {\r\n        \"seconds\": 1,\r\n        \"microseconds\": 2\r\n"
        "    },\r\n    \"event\": \"JOB_STATUS_CHANGE\",\r\n    \"data\": {\r\n        \"status\": "
        "\"null\",\r\n        \"id\": \"j\"\r\n    }\r\n}",
        "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 6}, \"event\": \"BLOCK_JOB_READY\", "
        "\"data\": {\"device\": \"j\", \"len\": 4194304, \"offset\": 4194304, \"speed\": 0, "
        "\"type\": \"mirror\"}}",
        "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 6}, \"event\": \"BLOCK_JOB_COMPLETED\", "
        "\"data\": {\"device\": \"j\", \"len\": 1, \"offset\": 0, \"speed\": 0, \"type\": "
        "\"mirror\", \"error\": \"No space left on device\"}}",
        "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 6}, \"event\": \"BLOCK_JOB_ERROR\", "
        "\"data\": {\"device\": \"j\", \"operation\": \"write\", \"action\": \"stop\"}}",
        "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 6}, \"event\": \"STOP\"}",
        "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 6}, \"event\": \"X\", \"data\": "
        "{\"path\": \"/a \\\"b\\\"\", \"n\": [1, -2.5e3, true, false, null, {}, []], \"\xc3\xa4\": "
        "\"\xf0\x9f\x98\x80\"}}",
        "{\"return\": {}, \"id\": 4294967297}",
        "{\"id\": 7, \"return\": [{\"name\": \"quit\"}, {\"name\": \"stop\"}]}",
        "{\"return\": \"a\\nb\"}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_true(is_taken(texts[i]));
}

static void each_status_is_taken(void **state)
{
    (void)state;
    for (int s = STATUS_CREATED; s <= STATUS_NULL; s++) {
        char text[256];
        snprintf(text, sizeof text,
                 "{\"timestamp\": {\"seconds\": 5, \"microseconds\": 999999}, \"event\": "
                 "\"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"%s\", \"id\": \"drive0\"}}",
                 job_status_name((enum status)s));
        assert_true(is_taken(text));
    }
}

static void the_odd_is_left_to_the_parser_or_read_as_it_reads(void **state)
{
    (void)state;
    static const char *const inner[] = {
        "\"status\": \"ready\", \"id\": \"j\", \"id\": \"k\"",
        "\"status\": \"ready\", \"status\": \"null\", \"id\": \"j\"",
        "\"status\": \"ready\"",
        "\"id\": \"j\"",
        "\"id\": \"\", \"status\": \"ready\"",
        "\"id\": \"j\", \"status\": \"hibernating\"",
        "\"id\": \"j\", \"status\": \"\"",
        "\"id\": \"\\u006a\", \"status\": \"ready\"",
        "\"id\": \"a\\\"b\", \"status\": \"ready\"",
        "\"id\": \"\xc3\xa4\", \"status\": \"ready\"",
        "\"id\": 5, \"status\": \"ready\"",
        "\"id\": \"j\", \"status\": null",
        "\"id\": \"j\", \"status\": \"ready\", \"more\": {\"a\": [1]}",
        "\"id\": \"j\", \"status\": \"ready\",",
        "",
    };
    static const char *const outer[] = {
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}}",
        "{\"data\": {%s}, \"event\": \"JOB_STATUS_CHANGE\"}",
        "{\"data\": {%s}}",
        "{\"event\": \"JOB_STATUS_CHANGED\", \"data\": {%s}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"event\": \"STOP\", \"data\": {%s}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"data\": {}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"id\": \"first\"}, \"data\": {%s}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}} {}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"return\": {}, \"id\": 1}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": -1, "
        "\"microseconds\": -1}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": 1, "
        "\"microseconds\": 1000000}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": 1, "
        "\"seconds\": 2, \"microseconds\": 5}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": 1}, "
        "\"timestamp\": {\"seconds\": 2}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": 01, "
        "\"microseconds\": 5}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": 1.5, "
        "\"microseconds\": 5}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"seconds\": "
        "99999999999999999999, \"microseconds\": 5}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {\"microseconds\": 5}}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}, \"timestamp\": {}}",
        "[{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {%s}}]",
    };
    for (size_t o = 0; o < sizeof outer / sizeof outer[0]; o++) {
        for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
            char text[512];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(text, sizeof text, outer[o], inner[i]);
#pragma GCC diagnostic pop
            read_both_ways(text, strlen(text), &wide);
        }
    }
}

static void ids_of_any_length(void **state)
{
    (void)state;
    for (size_t len = 1; len < 1200; len++) {
        char id[1200], text[1400];
        memset(id, 'i', len);
        id[len] = '\0';
        int n = snprintf(text, sizeof text,
                         "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\", "
                         "\"id\": \"%s\"}, \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}",
                         id);
        read_both_ways(text, (size_t)n, &wide);
    }
}

static void half_a_message_is_not_taken(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof ORDINARY - 1; len++)
        assert_int_equal(read_both_ways(ORDINARY, len, &wide), 0);
}

/* Bytes changed, dropped and doubled, in pairs: still the same, or not taken. */
static void b56_spoilt_messages_are_read_as_the_parser_reads_them(void **state)
{
    (void)state;
    static const char alphabet[] = "{}[]\":,\\ 0123456789-+.eEdatsimuecornsJOB_\n\0\xc3\xff";
    uint64_t dice = 0x2545f4914f6cdd1du;
    int taken = 0;
    for (int story = 0; story < 200000; story++) {
        char text[2 * sizeof ORDINARY];
        size_t len = sizeof ORDINARY - 1;
        memcpy(text, ORDINARY, len);
        for (int change = 0; change < 1 + story % 3; change++) {
            dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
            size_t at = (size_t)((dice >> 20) % len);
            char letter = alphabet[(dice >> 40) % (sizeof alphabet - 1)];
            switch (dice % 4) {
            case 0:
                memmove(text + at, text + at + 1, --len - at);
                break;
            case 1:
                memmove(text + at + 1, text + at, len++ - at);
                break;
            default:
                text[at] = letter;
                break;
            }
        }
        taken += read_both_ways(text, len, &wide) > 0;
    }
    assert_true(taken > 1000);
}

static void what_only_the_parser_can_judge_is_left_to_it(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"QMP\": {\"version\": {}, \"capabilities\": []}}",
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 1}",
        "{\"return\": {}, \"id\": \"one\"}",
        "{\"return\": {}, \"id\": -1}",
        "{\"return\": {}, \"id\": 1.0}",
        "{\"return\": {}, \"id\": 01}",
        "{\"return\": {}, \"return\": []}",
        "{\"return\": \"\\u00e4\"}",
        "{\"return\": \"\\q\"}",
        "{\"return\": \"a\nb\"}",
        "{\"return\": \"a\n\"}",
        "{\"return\": \"\xc0\x80\"}",
        "{\"return\": \"\xed\xa0\x80\"}",
        "{\"return\": \"\xf4\x90\x80\x80\"}",
        "{\"return\": \"\xe2\x82\"}",
        "{\"return\": \"\x80\"}",
        "{\"return\": [1,]}",
        "{\"return\": {\"a\" 1}}",
        "{\"return\": 1.}",
        "{\"return\": tru}",
        "{\"return\": }",
        "{\"re\\u0074urn\": {}}",
        "{}",
        "{\"event\": \"A\", \"id\": 5}",
        "{\"event\": \"A\", \"return\": {}}",
        "{\"event\": \"A\", \"data\": [1]}",
        "{\"event\": \"A\", \"data\": {\"i\\u0064\": \"x\"}}",
        "{\"event\": \"A\", \"data\": {\"id\": 5}}",
        "{\"event\": \"A\\\"\"}",
        "{\"event\": 5}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (is_taken(texts[i]))
            fail_msg("taken: %s", texts[i]);
}

static void only_one_message_is_taken(void **state)
{
    (void)state;
    const char *two = "\r\n {\"return\": {}, \"id\": 1}\r\n{\"return\": {}, \"id\": 2}";
    assert_int_equal(read_both_ways(two, strlen(two), &wide),
                     strlen("\r\n {\"return\": {}, \"id\": 1}"));
}

/* {"return": {"a": [1, "b"]}}: 7 tokens, 3 deep, 27 bytes. */
static void b56_what_exceeds_a_limit_is_left_to_the_framing(void **state)
{
    (void)state;
    const char *text = "{\"return\": {\"a\": [1, \"b\"]}}";
    static const struct {
        struct frame_limits limits;
        bool fits;
    } cases[] = {
        {{.bytes = 27, .tokens = 7, .nesting = 3}, true},
        {{.bytes = 26, .tokens = 7, .nesting = 3}, false},
        {{.bytes = 27, .tokens = 6, .nesting = 3}, false},
        {{.bytes = 27, .tokens = 7, .nesting = 2}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(read_both_ways(text, strlen(text), &cases[i].limits) > 0, cases[i].fits);
}

/* NOLINTNEXTLINE(readability-non-const-parameter): a reader gets its text so */
static int note_nothing(void *user, char *text, size_t len)
{
    (void)text, (void)len;
    ++*(int *)user;
    return 0;
}

static int take_in_place(void *user, const char *bytes, size_t len, size_t *ret_used)
{
    struct message message;
    struct message_room room;
    (void)user;
    *ret_used = read_in_place(bytes, len, &wide, &room, &message);
    return 0;
}

/* A read that ends within a message leaves that one to the framing, and no other. */
static void after_half_a_message_the_next_is_read_in_place(void **state)
{
    (void)state;
    int framed = 0;
    struct frame frame;
    const char *reason;
    const struct frame_reader reader = {note_nothing, take_in_place, &framed};
    char text[] = ORDINARY "\r\n" ORDINARY "\r\n" ORDINARY "\r\n" ORDINARY "\r\n";
    size_t cut = sizeof ORDINARY + 30;

    frame_init(&frame, &wide);
    assert_int_equal(frame_feed(&frame, text, cut, &reader, &reason), 0);
    assert_int_equal(framed, 0);
    assert_int_equal(frame_feed(&frame, text + cut, sizeof text - 1 - cut, &reader, &reason), 0);
    assert_int_equal(framed, 1);
    assert_true(frame_is_empty(&frame));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_qemu_sends_is_taken),
        cmocka_unit_test(each_status_is_taken),
        cmocka_unit_test(the_odd_is_left_to_the_parser_or_read_as_it_reads),
        cmocka_unit_test(ids_of_any_length),
        cmocka_unit_test(half_a_message_is_not_taken),
        cmocka_unit_test(what_only_the_parser_can_judge_is_left_to_it),
        cmocka_unit_test(only_one_message_is_taken),
        cmocka_unit_test(b56_what_exceeds_a_limit_is_left_to_the_framing),
        cmocka_unit_test(after_half_a_message_the_next_is_read_in_place),
        cmocka_unit_test(b56_spoilt_messages_are_read_as_the_parser_reads_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
