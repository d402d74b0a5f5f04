/* SPDX-License-Identifier: MIT */
/*
 * The short way for JOB_STATUS_CHANGE says what the parser says, or leaves it to the parser.
 */
#include "qmp/job_words.h"
#include "qmp/status_event.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#define ORDINARY                                                                                   \
    "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": "             \
    "\"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\", \"id\": \"bj-0-1\"}}"

/* From memory of its own, so that a byte too far is seen. True if the short way took it; then the
 * long one has to agree. */
static bool read_both_ways(const char *bytes, size_t len)
{
    char *text = malloc(len ? len : 1);
    assert_non_null(text);
    memcpy(text, bytes, len);

    struct status_event event;
    bool taken = status_event_read(text, len, &event);
    if (taken) {
        struct message message;
        struct fact fact;
        const char *reason;
        if (message_parse(text, len, &message, &reason) != 0)
            fail_msg("no message: %.*s", (int)len, text);
        if (!qmp_read_fact(&message, &fact))
            fail_msg("no fact: %.*s", (int)len, text);
        if (fact.kind != FACT_STATUS || strcmp(fact.id, event.id) != 0 ||
            fact.status != job_status_of(event.status) || fact.timestamp_us != event.timestamp_us)
            fail_msg("not the same: %.*s", (int)len, text);
        message_clear(&message);
    }
    free(text);
    return taken;
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
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_true(read_both_ways(texts[i], strlen(texts[i])));
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
        assert_true(read_both_ways(text, strlen(text)));
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
            read_both_ways(text, strlen(text));
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
        read_both_ways(text, (size_t)n);
    }
}

static void half_a_message_is_not_taken(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof ORDINARY - 1; len++)
        assert_false(read_both_ways(ORDINARY, len));
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
        taken += read_both_ways(text, len);
    }
    assert_true(taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_qemu_sends_is_taken),
        cmocka_unit_test(each_status_is_taken),
        cmocka_unit_test(the_odd_is_left_to_the_parser_or_read_as_it_reads),
        cmocka_unit_test(ids_of_any_length),
        cmocka_unit_test(half_a_message_is_not_taken),
        cmocka_unit_test(b56_spoilt_messages_are_read_as_the_parser_reads_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
