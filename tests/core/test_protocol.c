/* SPDX-License-Identifier: MIT */
/*
 * What QMP messages say, those of a hostile peer included.
 */
#include "base/json_text.h"
#include "qmp/message.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>

#include <stdio.h>
#include <stdlib.h>

/* Of memory of its own without a NUL behind it, so that a byte too far is seen. */
static char *parsed_text;

static int parse_bytes(const char *bytes, size_t len, struct message *ret)
{
    const char *reason = NULL;
    free(parsed_text);
    parsed_text = malloc(len ? len : 1);
    assert_non_null(parsed_text);
    memcpy(parsed_text, bytes, len);
    int r = message_parse(parsed_text, len, ret, &reason);
    assert_int_equal(r == BJ_E_PROTOCOL, reason != NULL);
    assert_memory_equal(parsed_text, bytes, len); /* never changed */
    return r;
}

static struct message parse(const char *text)
{
    struct message message;
    assert_int_equal(parse_bytes(text, strlen(text), &message), 0);
    return message;
}

static void assert_no_message(const char *text)
{
    struct message message;
    assert_int_equal(parse_bytes(text, strlen(text), &message), BJ_E_PROTOCOL);
    assert_null(message.root);
}

static void assert_raw(const char *text, const char *expected)
{
    struct message message = parse(text);
    assert_int_equal(message.raw_len, strlen(expected));
    assert_memory_equal(message.raw, expected, message.raw_len);
    message_clear(&message);
}

static int free_text(void **state)
{
    (void)state;
    free(parsed_text);
    parsed_text = NULL;
    return 0;
}

/* -------------------------------------------------------------------- kinds */

static void a_greeting(void **state)
{
    (void)state;
    struct message m = parse("{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, "
                             "\"capabilities\": [\"oob\"]}}");
    assert_int_equal(m.kind, MESSAGE_GREETING);
    assert_true(json_is_array(json_object_get(m.value, "capabilities")));
    message_clear(&m);
    assert_null(m.root);
}

static void a_return(void **state)
{
    (void)state;
    struct message m = parse("{\"return\": {\"a\": 1}, \"id\": 17}");
    assert_int_equal(m.kind, MESSAGE_RETURN);
    assert_int_equal(m.id, 17);
    assert_int_equal(json_integer_value(json_object_get(m.value, "a")), 1);
    message_clear(&m);
}

static void an_error(void **state)
{
    (void)state;
    struct message m = parse("{\"id\": 1, \"error\": {\"class\": \"DeviceNotActive\", \"desc\": "
                             "\"No active block job on device 'a'\"}}");
    assert_int_equal(m.kind, MESSAGE_ERROR);
    assert_string_equal(m.name, "DeviceNotActive");
    assert_string_equal(m.text, "No active block job on device 'a'");
    message_clear(&m);
}

static void an_error_that_says_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"error\": {}}", "{\"error\": null}",
                                        "{\"error\": {\"class\": 1, \"desc\": []}}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct message m = parse(texts[i]);
        assert_int_equal(m.kind, MESSAGE_ERROR);
        assert_string_equal(m.name, "");
        assert_string_equal(m.text, "");
        message_clear(&m);
    }
}

static void an_event(void **state)
{
    (void)state;
    struct message m = parse("{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456},"
                             " \"event\": \"BLOCK_JOB_READY\", \"data\": {\"device\": \"j\"}}");
    assert_int_equal(m.kind, MESSAGE_EVENT);
    assert_string_equal(m.name, "BLOCK_JOB_READY");
    assert_string_equal(json_string_value(json_object_get(m.value, "device")), "j");
    assert_int_equal(m.timestamp_us, 1700000000123456);
    message_clear(&m);
}

static void b50_an_event_without_data(void **state)
{
    (void)state;
    struct message m = parse("{\"event\": \"STOP\"}");
    assert_int_equal(m.kind, MESSAGE_EVENT);
    assert_null(m.value);
    assert_int_equal(m.raw_len, 0);
    message_clear(&m);
}

static void what_is_no_message(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "{\"id\": 1}",
        "{\"event\": 5}",
        "{\"events\": \"x\"}",
        "{\"Return\": {}}",
        "",
        "{",
        "{\"return\"}",
        "{\"return\": }",
        "{\"return\": {}}}",
        "{'a':1}",
        "{\"return\": {},}",
        "[]",
        "5",
        "{\"return\": 01}",
        "{\"data\": {\"return\": {}}}",
        "{\"return\": {}} {\"return\": {}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_no_message(texts[i]);
}

static void keys_inside_strings_are_no_members(void **state)
{
    (void)state;
    assert_no_message("{\"id\": \"\\\"return\\\": {}\"}");
    assert_raw("{\"id\": \"return\", \"return\": \"\\\"return\\\": 1\"}", "\"\\\"return\\\": 1\"");
    assert_raw("{\"a\": \",\\\"return\\\":7,\", \"return\": 8}", "8");
}

/* ---------------------------------------------------------------------- ids */

static void ids_of_any_kind(void **state)
{
    (void)state;
    static const char *const ids[] = {"17", "\"17\"", "null", "true", "[1]", "{\"a\": 1}", "1.5"};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"return\": {}, \"id\": %s}", ids[i]);
        struct message m = parse(text);
        assert_true(m.has_id);
        assert_int_equal(m.id, i == 0 ? 17 : 0); /* ours are numbers, and none is 0 */
        message_clear(&m);
    }
}

static void a_missing_id(void **state)
{
    (void)state;
    struct message m = parse("{\"return\": {\"id\": 5}}");
    assert_null(m.id);
    message_clear(&m);
    m = parse("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"x\", \"id\": 1}}");
    assert_null(m.id);
    message_clear(&m);
}

/* ---------------------------------------------------------------------- raw */

static void raw_is_the_values_own_text(void **state)
{
    (void)state;
    assert_raw("{\"return\": {}}", "{}");
    assert_raw("{\"return\":[1,{\"b\":[]}],\"id\":1}", "[1,{\"b\":[]}]");
    assert_raw("{\"id\": 1, \"return\" :  {\"a\" : 1 }  }", "{\"a\" : 1 }");
    assert_raw("{\"return\": \"a\\\"}\"}", "\"a\\\"}\"");
    assert_raw("{\"return\": null, \"id\": 1}", "null");
    assert_raw("{\"return\": 5}", "5");
    assert_raw("{\r\n    \"return\": [\r\n        1\r\n    ]\r\n}", "[\r\n        1\r\n    ]");
    assert_raw("{\"event\": \"X\", \"data\": {\"data\": 1}, \"timestamp\": {}}", "{\"data\": 1}");
}

static void raw_is_not_a_member_of_a_member(void **state)
{
    (void)state;
    assert_raw("{\"id\": {\"return\": 1}, \"return\": 2}", "2");
    assert_raw("{\"a\": [{\"return\": 1}], \"return\": {\"return\": 3}, \"b\": {\"return\": 4}}",
               "{\"return\": 3}");
    assert_raw("{\"returns\": 1, \"retur\": 2, \"\": 3, \"return\": 4}", "4");
}

static void raw_and_value_agree_on_a_member_that_comes_twice(void **state)
{
    (void)state;
    struct message m = parse("{\"return\": 1, \"return\": 2}");
    char raw[8] = {0};
    memcpy(raw, m.raw, m.raw_len);
    assert_int_equal(json_integer_value(m.value), strtoll(raw, NULL, 10));
    message_clear(&m);
}

static void raw_and_value_agree_on_a_key_that_is_spelt_otherwise(void **state)
{
    (void)state;
    struct message m;
    const char *text = "{\"\\u0072eturn\": 1}";
    /* Whether such a key is one or not: they must agree. */
    if (parse_bytes(text, strlen(text), &m) != 0)
        return;
    assert_non_null(m.raw);
    assert_memory_equal(m.raw, "1", 1);
    message_clear(&m);
}

/* ------------------------------------------------------------------ numbers */

static void b55_64_bit_integers_are_exact(void **state)
{
    (void)state;
    struct message m = parse("{\"return\": {\"offset\": 9223372036854775807, \"len\": "
                             "-9223372036854775808, \"odd\": 9007199254740993}}");
    assert_true(json_integer_value(json_object_get(m.value, "offset")) == INT64_MAX);
    assert_true(json_integer_value(json_object_get(m.value, "len")) == INT64_MIN);
    assert_true(json_integer_value(json_object_get(m.value, "odd")) == 9007199254740993);
    message_clear(&m);
}

static void b55_huge_numbers_are_survived_and_raw_is_exact(void **state)
{
    (void)state;
    static const char *const numbers[] = {
        "9223372036854775808",
        "18446744073709551615",
        "-9223372036854775809",
        "1e999",
        "-1E+999",
        "1.5e400",
        "18446744073709551615.0e400",
        "100000000000000000000000000000000000000000",
        "18446744073709551615e1",
        "0.18446744073709551615E-999",
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char value[256], text[320];
        snprintf(value, sizeof value, "{\"a\": %s, \"b\": [%s,%s], \"c\": \"%s\", \"d\": 7}",
                 numbers[i], numbers[i], numbers[i], numbers[i]);
        snprintf(text, sizeof text, "{\"return\": %s, \"id\": 3}", value);
        struct message m = parse(text);
        assert_int_equal(m.raw_len, strlen(value));
        assert_memory_equal(m.raw, value, m.raw_len);
        assert_int_equal(json_integer_value(json_object_get(m.value, "d")), 7);
        assert_string_equal(json_string_value(json_object_get(m.value, "c")), numbers[i]);
        assert_int_equal(m.id, 3);
        message_clear(&m);
    }
}

static void b55_numbers_of_hundreds_of_digits(void **state)
{
    (void)state;
    static const int lengths[] = {400, 511, 512, 513, 5000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char value[5001], text[5100];
        memset(value, '7', (size_t)lengths[i]);
        value[lengths[i]] = '\0';
        snprintf(text, sizeof text, "{\"return\": %s}", value);
        assert_raw(text, value);
    }
}

static void b55_huge_numbers_do_not_excuse_what_is_no_json(void **state)
{
    (void)state;
    assert_no_message("{\"return\": [18446744073709551615, }");
    assert_no_message("{\"return\": 18446744073709551615");
    assert_no_message("{\"return\": 18446744073709551615--1}");
    assert_no_message("{\"return\": 018446744073709551615}");
    assert_no_message("{\"return\": +18446744073709551615}");
    assert_no_message("{\"return\": 18446744073709551615.}");
    assert_no_message("{\"return\": 1e999e}");
    assert_no_message("{\"return\": 18446744073709551615e+}");
    assert_no_message("{\"return\": [18446744073709551615, -]}");
    assert_no_message("{\"return\": 18446744073709551615, \"a\": tru}");
}

static void b55_words_beside_huge_numbers_stay(void **state)
{
    (void)state;
    struct message m = parse("{\"return\": [18446744073709551615, true, false, null, -1, 2.5e3, "
                             "\"1e999 \\\" 1e999\"]}");
    assert_true(json_is_true(json_array_get(m.value, 1)));
    assert_true(json_is_false(json_array_get(m.value, 2)));
    assert_true(json_is_null(json_array_get(m.value, 3)));
    assert_int_equal(json_integer_value(json_array_get(m.value, 4)), -1);
    assert_true(json_real_value(json_array_get(m.value, 5)) == 2500.);
    assert_string_equal(json_string_value(json_array_get(m.value, 6)), "1e999 \" 1e999");
    message_clear(&m);
}

/* --------------------------------------------------------------- timestamps */

static void timestamps_that_are_none(void **state)
{
    (void)state;
    static const char *const stamps[] = {
        "{\"seconds\": -1, \"microseconds\": -1}",
        "{\"seconds\": 5, \"microseconds\": -1}",
        "{\"seconds\": 5, \"microseconds\": 1000000}",
        "{\"seconds\": 9223372036854775807, \"microseconds\": 0}",
        "{\"seconds\": 9223372036854, \"microseconds\": 999999}",
        "{\"seconds\": 18446744073709551615, \"microseconds\": 0}",
        "{}",
        "[]",
        "null",
        "\"now\"",
    };
    for (size_t i = 0; i < sizeof stamps / sizeof stamps[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"event\": \"X\", \"timestamp\": %s}", stamps[i]);
        struct message m = parse(text);
        assert_int_equal(m.timestamp_us, 0);
        message_clear(&m);
    }
    struct message m = parse("{\"event\": \"X\"}");
    assert_int_equal(m.timestamp_us, 0);
    message_clear(&m);
}

static void a_timestamp_far_from_now(void **state)
{
    (void)state;
    struct message m =
        parse("{\"event\": \"X\", \"timestamp\": {\"microseconds\": 999999, \"seconds\": "
              "4000000000}}");
    assert_true(m.timestamp_us == 4000000000999999);
    message_clear(&m);
}

/* ------------------------------------------------------------------- letters */

static void b56_bytes_that_are_no_text(void **state)
{
    (void)state;
    assert_no_message("{\"return\": \"\xff\"}");
    assert_no_message("{\"return\": \"\xc0\xaf\"}");         /* overlong */
    assert_no_message("{\"return\": \"\xed\xa0\x80\"}");     /* a surrogate */
    assert_no_message("{\"return\": \"\xf4\x90\x80\x80\"}"); /* beyond Unicode */
    assert_no_message("{\"return\": \"\xe2\x82\"}");         /* cut off */
    assert_no_message("{\"return\": \"\\ud800\"}");          /* half a pair */
    assert_no_message("{\"return\": \"\\udc00\\ud800\"}");
    assert_no_message("{\"return\": \"\\u12g4\"}");
    assert_no_message("{\"return\": \"\\x41\"}");
    assert_no_message("{\"return\": \"a\nb\"}");
}

static void b56_letters_of_all_the_world(void **state)
{
    (void)state;
    struct message m = parse("{\"return\": \"\xc3\xa4 \\ud83d\\ude00 \xf0\x9f\x98\x80\"}");
    assert_string_equal(json_string_value(m.value), "\xc3\xa4 \xf0\x9f\x98\x80 \xf0\x9f\x98\x80");
    message_clear(&m);
}

static void b56_a_nul_in_a_string_is_a_letter(void **state)
{
    (void)state;
    struct message m = parse("{\"event\": \"X\", \"data\": {\"device\": \"x\\u0000y\"}}");
    assert_int_equal(json_string_length(json_object_get(m.value, "device")), 3);
    message_clear(&m);
    assert_no_message("{\"event\": \"X\", \"data\": {\"a\\u0000b\": 1}}"); /* no key has one */
}

static void b56_a_nul_byte_is_no_json(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"return\": {}#}",     "{\"return\": \"#\"}",        "{\"return\": [1#, 2]}",
        "{\"return\": [true#]}", "{\"return\": null#}",        "{#\"return\": {}}",
        "{\"return\": {}, #}",   "{\"return\": 1, \"a\": 2#}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char bytes[64];
        struct message m;
        size_t len = strlen(texts[i]);
        strcpy(bytes, texts[i]);
        *strchr(bytes, '#') = '\0';
        assert_int_equal(parse_bytes(bytes, len, &m), BJ_E_PROTOCOL);
    }
}

static void b56_as_deep_as_a_limit_can_be_set(void **state)
{
    (void)state;
    enum { DEPTH = 1023 };
    char text[2 * DEPTH + 32];
    size_t at = (size_t)sprintf(text, "{\"return\": ");
    memset(text + at, '[', DEPTH);
    memset(text + at + DEPTH, ']', DEPTH);
    strcpy(text + at + 2 * DEPTH, "}");
    struct message m = parse(text);
    assert_int_equal(m.raw_len, 2 * DEPTH);
    message_clear(&m);
}

/* ------------------------------------------------------------------ commands */

static void assert_command(const char *name, const char *arguments, uint64_t id,
                           const char *expected)
{
    size_t len = 0;
    char *line = message_command(name, arguments, id, false, &len);
    assert_non_null(line);
    assert_string_equal(line, expected);
    assert_int_equal(len, strlen(expected));
    free(line);
}

static void a_command_is_a_line(void **state)
{
    (void)state;
    assert_command("query-jobs", NULL, 1, "{\"execute\":\"query-jobs\",\"id\":1}\r\n");
    assert_command("job-cancel", "{\"id\": \"j\"}", UINT64_MAX,
                   "{\"execute\":\"job-cancel\",\"arguments\":{\"id\": "
                   "\"j\"},\"id\":18446744073709551615}\r\n");
}

static void b55_arguments_are_sent_as_they_are(void **state)
{
    (void)state;
    assert_command("x", "{\"a\": 18446744073709551615, \"b\":1.10}", 2,
                   "{\"execute\":\"x\",\"arguments\":{\"a\": 18446744073709551615, "
                   "\"b\":1.10},\"id\":2}\r\n");
}

static void a_commands_name_is_quoted(void **state)
{
    (void)state;
    assert_command("a\",\"id\":7,\"x\":\"\\", NULL, 1,
                   "{\"execute\":\"a\\\",\\\"id\\\":7,\\\"x\\\":\\\"\\\\\",\"id\":1}\r\n");
    assert_command("a\nb", NULL, 1, "{\"execute\":\"a\\nb\",\"id\":1}\r\n");
}

static void objects_that_callers_give(void **state)
{
    (void)state;
    static const char *const objects[] = {"{}", " { } ", "{\"a\": 18446744073709551615}",
                                          "{\"a\": {\"b\": []}}\n"};
    static const char *const others[] = {
        "", " ", "[]", "1", "null", "{", "{}x", "{a}", "{\"a\": 1} {}", "\"{}\"", "{\"a\":1,}"};
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        json_t *object = json_text_object(objects[i], NULL);
        assert_true(json_is_object(object));
        json_decref(object);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int error = BJ_OK;
        assert_null(json_text_object(others[i], &error));
        assert_int_equal(error, BJ_E_INVAL);
    }
}

static void members_are_put_before_an_objects_own(void **state)
{
    (void)state;
    static const struct {
        const char *object, *members, *joined;
    } cases[] = {
        {"{}", "\"a\":1", "{\"a\":1}"},
        {"{ }", "\"a\":1", "{\"a\":1}"},
        {" \r\n{\t\n } ", "\"a\":1,\"b\":2", "{\"a\":1,\"b\":2} "},
        {"{\"c\": {}}", "\"a\":1", "{\"a\":1,\"c\": {}}"},
        {"  {  \"c\": \"{\" }", "\"a\":1", "{\"a\":1,\"c\": \"{\" }"},
        {"{}", "", "{}"},
        {"{\"c\":1}", "", "{\"c\":1}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = json_text_add_members(cases[i].object, cases[i].members);
        assert_non_null(joined);
        json_t *got = json_loads(joined, 0, NULL);
        json_t *expected = json_loads(cases[i].joined, 0, NULL);
        assert_non_null(got);
        assert_true(json_equal(got, expected));
        json_decref(got);
        json_decref(expected);
        free(joined);
    }
}

static void b55_added_members_leave_the_others_text_alone(void **state)
{
    (void)state;
    char *joined = json_text_add_members("{\"speed\": 18446744073709551615}", "\"a\":1");
    assert_string_equal(joined, "{\"a\":1,\"speed\": 18446744073709551615}");
    free(joined);
}

static void members_are_put_into_each_object_of_an_array(void **state)
{
    (void)state;
    static const char *const members[] = {"\"n\":1", NULL, "", "\"n\":4"};
    static const struct {
        const char *array, *joined;
    } cases[] = {
        {"[]", "[]"},
        {" [ ] ", " [ ] "},
        {"[{\"d\":{}}]", "[{\"d\":{\"n\":1}}]"},
        {"[{\"d\" : { } }]", "[{\"d\" : {\"n\":1 } }]"},
        {"[{\"d\": {\"a\": [{}, {\"d\": {}}]}, \"e\": 1}]",
         "[{\"d\": {\"n\":1,\"a\": [{}, {\"d\": {}}]}, \"e\": 1}]"},
        {"[{\"e\": {\"d\": {}}, \"d\": {}}]", "[{\"e\": {\"d\": {}}, \"d\": {\"n\":1}}]"},
        {"[{\"d\": {}}, {}, {\"d\": {\"a\":18446744073709551617}},\n{\"d\": {\"}]\\\"\": \"{\"}}]",
         "[{\"d\": {\"n\":1}}, {}, {\"d\": {\"a\":18446744073709551617}},\n{\"d\": "
         "{\"n\":4,\"}]\\\"\": \"{\"}}]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *joined = NULL;
        assert_int_equal(json_text_add_members_in(cases[i].array, "d", members, &joined), BJ_OK);
        assert_string_equal(joined, cases[i].joined);
        free(joined);
    }
}

static void an_array_without_room_for_members(void **state)
{
    (void)state;
    static const char *const members[] = {"\"n\":1"};
    static const char *const others[] = {"[{}]", "[{\"d\": []}]", "[{\"e\": {\"d\": {}}}]",
                                         "[{\"\\u0064\": {}}]", "[{\"d\": 1}]"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char *joined = NULL;
        assert_int_equal(json_text_add_members_in(others[i], "d", members, &joined), BJ_E_INVAL);
        assert_null(joined);
    }
}

static void arrays_that_callers_give(void **state)
{
    (void)state;
    json_t *array = json_text_array(" [1, 18446744073709551617] ", NULL);
    assert_int_equal(json_array_size(array), 2);
    json_decref(array);
    assert_null(json_text_array("{}", NULL));
    assert_null(json_text_array("[{\"a\":1,\"a\":2}]", NULL));
    assert_null(json_text_array("[] []", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greeting),
        cmocka_unit_test(a_return),
        cmocka_unit_test(an_error),
        cmocka_unit_test(an_error_that_says_nothing),
        cmocka_unit_test(an_event),
        cmocka_unit_test(b50_an_event_without_data),
        cmocka_unit_test(what_is_no_message),
        cmocka_unit_test(keys_inside_strings_are_no_members),
        cmocka_unit_test(ids_of_any_kind),
        cmocka_unit_test(a_missing_id),
        cmocka_unit_test(raw_is_the_values_own_text),
        cmocka_unit_test(raw_is_not_a_member_of_a_member),
        cmocka_unit_test(raw_and_value_agree_on_a_member_that_comes_twice),
        cmocka_unit_test(raw_and_value_agree_on_a_key_that_is_spelt_otherwise),
        cmocka_unit_test(b55_64_bit_integers_are_exact),
        cmocka_unit_test(b55_huge_numbers_are_survived_and_raw_is_exact),
        cmocka_unit_test(b55_numbers_of_hundreds_of_digits),
        cmocka_unit_test(b55_huge_numbers_do_not_excuse_what_is_no_json),
        cmocka_unit_test(b55_words_beside_huge_numbers_stay),
        cmocka_unit_test(timestamps_that_are_none),
        cmocka_unit_test(a_timestamp_far_from_now),
        cmocka_unit_test(b56_bytes_that_are_no_text),
        cmocka_unit_test(b56_letters_of_all_the_world),
        cmocka_unit_test(b56_a_nul_in_a_string_is_a_letter),
        cmocka_unit_test(b56_a_nul_byte_is_no_json),
        cmocka_unit_test(b56_as_deep_as_a_limit_can_be_set),
        cmocka_unit_test(a_command_is_a_line),
        cmocka_unit_test(b55_arguments_are_sent_as_they_are),
        cmocka_unit_test(a_commands_name_is_quoted),
        cmocka_unit_test(objects_that_callers_give),
        cmocka_unit_test(members_are_put_before_an_objects_own),
        cmocka_unit_test(b55_added_members_leave_the_others_text_alone),
        cmocka_unit_test(members_are_put_into_each_object_of_an_array),
        cmocka_unit_test(an_array_without_room_for_members),
        cmocka_unit_test(arrays_that_callers_give),
    };
    return cmocka_run_group_tests(tests, NULL, free_text);
}
