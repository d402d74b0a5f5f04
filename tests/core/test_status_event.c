/* SPDX-License-Identifier: MIT */
/*
 * JOB_STATUS_CHANGE read where it lies says what the parser would, or leaves it to the parser.
 */
#include "protocol.h"
#include "qmp_jobs.h"
#include "status_event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define EVENT(time, data)                                                                          \
    "{\"timestamp\": " time ", \"event\": \"JOB_STATUS_CHANGE\", \"data\": " data "}"
#define TIME "{\"seconds\": 1795356136, \"microseconds\": 996787}"
#define DATA "{\"status\": \"ready\", \"id\": \"job-1\"}"

static bool reads(const char *text, struct status_event *event)
{
    return status_event_read(text, strlen(text), event);
}

static void b29_it_says_what_the_parser_says(void **state)
{
    (void)state;
    static const char *const texts[] = {
        EVENT(TIME, DATA),
        EVENT("{\"microseconds\":7,\"seconds\":1}", "{\"id\":\"a\",\"status\":\"null\"}"),
        "{\"event\":\"JOB_STATUS_CHANGE\",\"data\":{\"id\":\"a b\",\"status\":\"standby\"},"
        "\"timestamp\":{\"seconds\":0,\"microseconds\":0}}",
        "\r\n {\n\t\"data\": {\"id\": \"x\", \"status\": \"created\"}, \"event\": \"JOB_STATUS_CHANGE\"} \n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct status_event event;
        struct message message;
        struct driver_fact fact;
        const char *reason;

        assert_true(reads(texts[i], &event));
        assert_int_equal(protocol_parse(texts[i], strlen(texts[i]), &message, &reason), 0);
        assert_true(qmp_read_fact(&message, &fact));
        assert_string_equal(event.id, fact.id);
        assert_int_equal(job_status_of(event.status), fact.status);
        assert_int_equal(event.timestamp_us, fact.timestamp_us);
        message_clear(&message);
    }
}

static void whatever_else_is_left_to_the_parser(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "[]",
        EVENT(TIME, "{}"),
        EVENT(TIME, "{\"status\": \"ready\"}"),
        EVENT(TIME, "{\"status\": \"ready\", \"id\": \"\"}"),
        EVENT(TIME, "{\"status\": \"ready\", \"id\": \"a\\u0062\"}"),
        EVENT(TIME, "{\"status\": \"ready\", \"id\": \"\xc3\xa4\"}"),
        EVENT(TIME, "{\"status\": \"ready\", \"id\": \"a\", \"more\": \"b\"}"),
        EVENT(TIME, "{\"status\": \"ready\", \"id\": 1}"),
        EVENT(TIME, "{\"status\": \"a status of tomorrow\", \"id\": \"a\"}"),
        EVENT("{\"seconds\": -1, \"microseconds\": -1}", DATA),
        EVENT("{\"seconds\": 01, \"microseconds\": 1}", DATA),
        EVENT("{\"seconds\": 1, \"microseconds\": 1000000}", DATA),
        EVENT("{\"seconds\": 1e3, \"microseconds\": 1}", DATA),
        EVENT(TIME, DATA) "x",
        EVENT(TIME, DATA) "{}",
        "{\"event\": \"BLOCK_JOB_READY\", \"data\": " DATA "}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": " DATA ", \"id\": 1}",
        "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": " DATA ",}",
        "{\"event\": \"JOB_STATUS_CHANGE\" \"data\": " DATA "}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct status_event event;
        if (reads(texts[i], &event))
            fail_msg("%s", texts[i]);
    }
}

static void no_part_of_it_is_enough(void **state)
{
    (void)state;
    const char *text = EVENT(TIME, DATA);
    struct status_event event;

    for (size_t len = 0; len < strlen(text); len++)
        assert_false(status_event_read(text, len, &event));
}

static void an_id_that_is_too_long_is_left_to_the_parser(void **state)
{
    (void)state;
    char text[512];
    char id[160];
    struct status_event event;

    for (size_t len = 1; len < sizeof id; len++) {
        memset(id, 'x', len);
        id[len] = '\0';
        snprintf(
            text, sizeof text,
            "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"id\": \"%s\", \"status\": \"ready\"}}",
            id);
        assert_int_equal(reads(text, &event), len < sizeof event.id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b29_it_says_what_the_parser_says),
        cmocka_unit_test(whatever_else_is_left_to_the_parser),
        cmocka_unit_test(no_part_of_it_is_enough),
        cmocka_unit_test(an_id_that_is_too_long_is_left_to_the_parser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
