/* SPDX-License-Identifier: MIT */
/*
 * Framing: whole messages come out, however they came in; what is too much is stopped.
 */
#include "qmp/frame.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>

#include <stdio.h>
#include <stdlib.h>

static const struct frame_limits wide = {.bytes = 1 << 20, .tokens = 10000, .nesting = 64};

/* What came out, a '|' after each message. */
struct outlet {
    char seen[4096];
    int count;
    int stop_at; /* the sink's answer becomes 7 at that message */
};

static int note_message(void *user, char *text, size_t len)
{
    struct outlet *out = user;
    size_t at = strlen(out->seen);
    assert_true(at + len + 2 < sizeof out->seen);
    memcpy(out->seen + at, text, len);
    strcpy(out->seen + at + len, "|");
    memset(text, 'x', len); /* it may be changed */
    return ++out->count == out->stop_at ? 7 : 0;
}

/* From memory of its own, so that a byte too far is seen. */
static int feed(struct frame *frame, const char *bytes, size_t len, struct outlet *out,
                const char **ret_reason)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    const struct frame_reader reader = {.read = note_message, .user = out};
    int r = frame_feed(frame, copy, len, &reader, ret_reason);
    free(copy);
    return r;
}

static int feed_text(struct frame *frame, const char *text, struct outlet *out)
{
    const char *reason = NULL;
    int r = feed(frame, text, strlen(text), out, &reason);
    assert_int_equal(r == BJ_E_PROTOCOL, reason != NULL);
    return r;
}

/* In two pieces, cut at every byte, and byte by byte: the same comes out. */
static void assert_framed(const char *stream, const char *expected)
{
    size_t len = strlen(stream);
    for (size_t cut = 0; cut <= len; cut++) {
        struct frame frame;
        struct outlet out = {0};
        const char *reason = NULL;
        frame_init(&frame, &wide);
        assert_int_equal(feed(&frame, stream, cut, &out, &reason), 0);
        assert_int_equal(feed(&frame, stream + cut, len - cut, &out, &reason), 0);
        assert_string_equal(out.seen, expected);
        assert_null(frame.data);
        frame_clear(&frame);
    }

    struct frame frame;
    struct outlet out = {0};
    const char *reason = NULL;
    frame_init(&frame, &wide);
    for (size_t at = 0; at < len; at++)
        assert_int_equal(feed(&frame, stream + at, 1, &out, &reason), 0);
    assert_string_equal(out.seen, expected);
    assert_null(frame.data);
    frame_clear(&frame);
}

static void one_message(void **state)
{
    (void)state;
    assert_framed("{\"return\": {}}\r\n", "{\"return\": {}}|");
    assert_framed("{}", "{}|");
}

static void several_messages_in_one_read(void **state)
{
    (void)state;
    assert_framed("{\"a\": 1}\r\n{\"b\": [2, {}]}\r\n{\"c\": \"\"}\r\n",
                  "{\"a\": 1}|{\"b\": [2, {}]}|{\"c\": \"\"}|");
    assert_framed("{}{}{\"a\":{}}{}", "{}|{}|{\"a\":{}}|{}|");
}

static void a_message_over_several_lines(void **state)
{
    (void)state;
    assert_framed("{\r\n    \"return\": {\r\n        \"a\": [\r\n\t1\r\n]\r\n    }\r\n}\r\n{}",
                  "{\r\n    \"return\": {\r\n        \"a\": [\r\n\t1\r\n]\r\n    }\r\n}|{}|");
}

static void braces_in_strings_are_letters(void **state)
{
    (void)state;
    assert_framed("{\"a}{][\": \"}}}\"}{\"b\": \"{\"}", "{\"a}{][\": \"}}}\"}|{\"b\": \"{\"}|");
}

static void escaped_quotes_end_no_string(void **state)
{
    (void)state;
    assert_framed("{\"a\\\"}\": \"\\\\\"}{\"b\": \"\\\\\\\"}\"}",
                  "{\"a\\\"}\": \"\\\\\"}|{\"b\": \"\\\\\\\"}\"}|");
    assert_framed("{\"a\": \"\\u007d\"}", "{\"a\": \"\\u007d\"}|");
}

static void white_space_between_messages_is_nothing(void **state)
{
    (void)state;
    assert_framed(" \t\r\n\n\n  {} \r\n \t {}\n", "{}|{}|");
    assert_framed("\r\n", "");
    assert_framed("", "");
}

static void a_half_message_is_none(void **state)
{
    (void)state;
    struct frame frame;
    struct outlet out = {0};
    frame_init(&frame, &wide);
    assert_int_equal(feed_text(&frame, "{\"a\": [1, 2", &out), 0);
    assert_int_equal(out.count, 0);
    assert_non_null(frame.data);
    frame_clear(&frame);
    assert_null(frame.data);
}

static void garbage_between_messages_ends_the_stream(void **state)
{
    (void)state;
    static const char *const garbage[] = {"x",    "[1]", "\"a\"",           "}",           "1",
                                          "null", ":",   "SSH-2.0-OpenSSH", "HTTP/1.1 400"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        struct frame frame;
        struct outlet out = {0};
        frame_init(&frame, &wide);
        assert_int_equal(feed_text(&frame, "{\"a\": 1}\r\n", &out), 0);
        assert_int_equal(feed_text(&frame, garbage[i], &out), BJ_E_PROTOCOL);
        assert_string_equal(out.seen, "{\"a\": 1}|");
        frame_clear(&frame);
    }
}

static void garbage_with_a_nul_ends_the_stream(void **state)
{
    (void)state;
    struct frame frame;
    struct outlet out = {0};
    const char *reason = NULL;
    frame_init(&frame, &wide);
    assert_int_equal(feed(&frame, "\0{}", 3, &out, &reason), BJ_E_PROTOCOL);
    assert_non_null(reason);
    frame_clear(&frame);
}

static void the_sink_stops_the_feeding(void **state)
{
    (void)state;
    struct frame frame;
    struct outlet out = {.stop_at = 2};
    frame_init(&frame, &wide);
    assert_int_equal(feed_text(&frame, "{\"a\":1}{\"b\":2}{\"c\":3}", &out), 7);
    assert_string_equal(out.seen, "{\"a\":1}|{\"b\":2}|");
    frame_clear(&frame);
}

static void the_sink_stops_at_a_message_that_came_in_pieces(void **state)
{
    (void)state;
    struct frame frame;
    struct outlet out = {.stop_at = 1};
    frame_init(&frame, &wide);
    assert_int_equal(feed_text(&frame, "{\"a\"", &out), 0);
    assert_int_equal(feed_text(&frame, ":1}{}", &out), 7);
    assert_null(frame.data);
    frame_clear(&frame);
}

static void a_message_in_one_read_costs_no_memory(void **state)
{
    (void)state;
    struct frame frame;
    struct outlet out = {0};
    frame_init(&frame, &wide);
    assert_int_equal(feed_text(&frame, "{\"a\": [1, 2, 3]}\r\n", &out), 0);
    assert_null(frame.data);
    assert_int_equal(frame.capacity, 0);
}

/* ------------------------------------------------------------------- limits */

/* As one piece, and byte by byte. */
static void assert_limit(const struct frame_limits *limits, const char *text, int expected)
{
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        struct frame frame;
        struct outlet out = {0};
        int r = 0;
        frame_init(&frame, limits);
        if (!bytewise)
            r = feed_text(&frame, text, &out);
        for (size_t at = 0; bytewise && text[at] && r == 0; at++)
            r = feed_text(&frame, (char[]){text[at], '\0'}, &out);
        assert_int_equal(r, expected);
        assert_int_equal(out.count, expected == 0 ? 1 : 0);
        frame_clear(&frame);
    }
}

static void b54_as_many_bytes_as_the_limit_and_no_more(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 16, .tokens = 100, .nesting = 100};
    assert_limit(&limits, "{\"a\":\"12345678\"}", 0);
    assert_limit(&limits, "{\"a\":\"123456789\"}", BJ_E_PROTOCOL);
    assert_limit(&limits, "{\"a\":\"never ends, and is stopped all the same", BJ_E_PROTOCOL);
}

static void b54_white_space_inside_counts_outside_does_not(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 8, .tokens = 100, .nesting = 100};
    assert_limit(&limits, "\r\n\r\n\r\n\r\n\r\n{\"a\": 1}\r\n\r\n\r\n", 0);
    assert_limit(&limits, "{\"a\":  1}", BJ_E_PROTOCOL);
}

static void b54_a_large_message_arrives_whole(void **state)
{
    (void)state;
    enum { BODY = 300000 };
    char *text = malloc(BODY + 16);
    assert_non_null(text);
    strcpy(text, "{\"a\":\"");
    memset(text + 6, '}', BODY);
    strcpy(text + 6 + BODY, "\"}");
    size_t len = strlen(text), got = 0;

    struct frame frame;
    frame_init(&frame, &wide);
    struct outlet out = {0};
    const char *reason = NULL;
    /* All but the last byte in reads of a usual size; nothing comes out until then. */
    for (size_t at = 0; at < len - 1; at += got) {
        got = len - 1 - at < 4096 ? len - 1 - at : 4096;
        assert_int_equal(feed(&frame, text + at, got, &out, &reason), 0);
    }
    assert_int_equal(frame.len, len - 1);
    assert_memory_equal(frame.data, text, len - 1);
    frame_clear(&frame);
    free(text);
}

static void b56_as_many_tokens_as_the_limit_and_no_more(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 1000, .tokens = 6, .nesting = 100};
    assert_limit(&limits, "{\"a\":[1,2,true]}", 0);
    assert_limit(&limits, "{\"a\":[1,2,3,4]}", BJ_E_PROTOCOL);
    assert_limit(&limits, "{\"a\":[{},{},[]]}", 0);
    assert_limit(&limits, "{\"a\":[{},{},{},{}]}", BJ_E_PROTOCOL);
    assert_limit(&limits, "{\"a\":[\"\",\"\",null]}", 0);
    assert_limit(&limits, "{\"a\":[\"\",\"\",\"\",\"\"]}", BJ_E_PROTOCOL);
    assert_limit(&limits, "{\"a\":[1 2 3 4", BJ_E_PROTOCOL); /* even if it is no JSON */
}

static void b56_a_token_in_two_pieces_is_one(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 1000, .tokens = 3, .nesting = 100};
    assert_limit(&limits, "{\"key\":123456789}", 0);
    assert_limit(&limits, "{\"key\":\"a \\\" , : b\"}", 0);
}

static void b56_tokens_are_counted_anew_for_each_message(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 1000, .tokens = 3, .nesting = 1};
    struct frame frame;
    struct outlet out = {0};
    frame_init(&frame, &limits);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(feed_text(&frame, "{\"a\"", &out), 0);
        assert_int_equal(feed_text(&frame, ":1}", &out), 0);
    }
    assert_int_equal(out.count, 100);
}

static void b56_as_deep_as_the_limit_and_no_deeper(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 1000, .tokens = 100, .nesting = 4};
    assert_limit(&limits, "{\"a\":[{\"b\":[]}]}", 0);
    assert_limit(&limits, "{\"a\":[{\"b\":[[]]}]}", BJ_E_PROTOCOL);
    assert_limit(&limits, "{\"a\":\"[[[[[[[[[[[[\"}", 0);
}

static void b56_a_flood_is_stopped_before_it_is_kept(void **state)
{
    (void)state;
    const struct frame_limits limits = {.bytes = 1 << 20, .tokens = 100, .nesting = 4};
    struct frame frame;
    struct outlet out = {0};
    frame_init(&frame, &limits);
    assert_int_equal(feed_text(&frame, "{\"a\":[", &out), 0);
    int r = 0, rounds = 0;
    for (; r == 0 && rounds < 1000; rounds++)
        r = feed_text(&frame, "{},{},{},", &out);
    assert_int_equal(r, BJ_E_PROTOCOL);
    assert_true(rounds < 40);
    assert_true(frame.capacity < 1000);
    frame_clear(&frame);
}

static void brackets_that_do_not_match_are_left_to_the_parser(void **state)
{
    (void)state;
    assert_framed("{\"a\":]{}", "{\"a\":]|{}|");
    assert_framed("{]{}", "{]|{}|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message),
        cmocka_unit_test(several_messages_in_one_read),
        cmocka_unit_test(a_message_over_several_lines),
        cmocka_unit_test(braces_in_strings_are_letters),
        cmocka_unit_test(escaped_quotes_end_no_string),
        cmocka_unit_test(white_space_between_messages_is_nothing),
        cmocka_unit_test(a_half_message_is_none),
        cmocka_unit_test(garbage_between_messages_ends_the_stream),
        cmocka_unit_test(garbage_with_a_nul_ends_the_stream),
        cmocka_unit_test(the_sink_stops_the_feeding),
        cmocka_unit_test(the_sink_stops_at_a_message_that_came_in_pieces),
        cmocka_unit_test(a_message_in_one_read_costs_no_memory),
        cmocka_unit_test(b54_as_many_bytes_as_the_limit_and_no_more),
        cmocka_unit_test(b54_white_space_inside_counts_outside_does_not),
        cmocka_unit_test(b54_a_large_message_arrives_whole),
        cmocka_unit_test(b56_as_many_tokens_as_the_limit_and_no_more),
        cmocka_unit_test(b56_a_token_in_two_pieces_is_one),
        cmocka_unit_test(b56_tokens_are_counted_anew_for_each_message),
        cmocka_unit_test(b56_as_deep_as_the_limit_and_no_deeper),
        cmocka_unit_test(b56_a_flood_is_stopped_before_it_is_kept),
        cmocka_unit_test(brackets_that_do_not_match_are_left_to_the_parser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
