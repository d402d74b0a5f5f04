/* SPDX-License-Identifier: MIT */
/*
 * What a masked trace shows of messages that carry secrets, and of those that carry none.
 */
#include "base/text.h"
#include "qmp/secrets.h"

#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

/* From memory of its own, so that a byte too far is seen. */
static struct text *masked(const char *line, size_t len)
{
    char *bytes = malloc(len ? len : 1);
    assert_non_null(bytes);
    memcpy(bytes, line, len);
    struct text *text = secrets_mask(bytes, len);
    free(bytes);
    assert_non_null(text);
    return text;
}

static void becomes(const char *line, const char *wanted)
{
    struct text *text = masked(line, strlen(line));
    assert_string_equal(text_str(text), wanted);
    text_unref(text);
}

static void stays(const char *line)
{
    becomes(line, line);
}

static void secrets_of_commands_are_masked(void **state)
{
    (void)state;
    becomes("{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"secret\",\"id\":\"s0\","
            "\"data\":\"letmein\",\"format\":\"raw\"},\"id\":7}",
            "{\"execute\":\"object-add\",\"arguments\":{\"qom-type\":\"secret\",\"id\":\"s0\","
            "\"data\":\"***\",\"format\":\"raw\"},\"id\":7}");
    becomes("{\"execute\":\"object-add\",\"arguments\":{\"props\":{\"data\": \"a\\\"b\"}}}",
            "{\"execute\":\"object-add\",\"arguments\":{\"props\":{\"data\": \"***\"}}}");
    becomes(
        "{\"execute\":\"set_password\",\"arguments\":{\"protocol\":\"vnc\",\"password\" :\t\"\"}}",
        "{\"execute\":\"set_password\",\"arguments\":{\"protocol\":\"vnc\",\"password\" :\t\"***\"}}");
    becomes("{\"arguments\":{\"device\":\"vnc\",\"target\":\"password\",\"arg\":\"x\"}}",
            "{\"arguments\":{\"device\":\"vnc\",\"target\":\"password\",\"arg\":\"***\"}}");
    becomes("{\"keys\":[{\"type\":\"qcode\",\"data\":\"p\"}]}",
            "{\"keys\":[{\"type\":\"qcode\",\"data\":\"***\"}]}");
    becomes("{\"secret\":\"c2V2\",\"props.data\":\"x\"}",
            "{\"secret\":\"***\",\"props.data\":\"***\"}");
}

static void lines_of_the_human_monitor_are_masked(void **state)
{
    (void)state;
    becomes("{\"command-line\":\"set_password vnc letmein\"}",
            "{\"command-line\":\"set_password ***\"}");
    becomes("{\"command-line\":\"object_add secret,id=s,data=x\"}",
            "{\"command-line\":\"object_add ***\"}");
    stays("{\"command-line\":\"info block\"}");
    stays("{\"command-line\":\"set_password\"}");
}

static void passwords_in_urls_are_masked(void **state)
{
    (void)state;
    becomes("{\"filename\":\"https://joe:letmein@host/disk\"}",
            "{\"filename\":\"https://joe:***@host/disk\"}");
    becomes("[\"iscsi://joe%letmein@host/t/0\"]", "[\"iscsi://joe%***@host/t/0\"]");
    stays("{\"filename\":\"nbd://[::1]:10809/a@b\"}");
    stays("{\"filename\":\"ssh://joe@host/disk\"}");
    stays("{\"filename\":\"https://host:443/disk\"}");
}

static void all_else_keeps_its_bytes(void **state)
{
    (void)state;
    stays("");
    stays("{\"timestamp\": {\"seconds\": 1}, \"event\": \"X\", \"data\": {\"id\": \"job\"}}");
    stays("{\"execute\":\"expire_password\",\"arguments\":{\"time\":\"never\"}}");
    stays("{\"driver\":\"luks\",\"key-secret\":\"s0\",\"password-secret\":\"s1\"}");
    stays("{\"data\":[\"x\"],\"password\":null,\"key\":{\"x\":\"y\"},\"a\":\"password\"}");
    stays("[\"password\",\"x\"]");
    stays("no JSON: \"password\" \"x");
}

/* Wherever the bytes end, nothing beyond them is read, and nothing is shown that was hidden. */
static void cut_lines_are_masked_as_far_as_they_go(void **state)
{
    (void)state;
    static const char line[] = "{\"password\": \"letmein\", \"url\": \"ftp://a:xyzzy@b\\\\\"}";
    for (size_t len = 0; len < sizeof line; len++) {
        struct text *text = masked(line, len);
        assert_null(strstr(text_str(text), "letm"));
        text_unref(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_of_commands_are_masked),
        cmocka_unit_test(lines_of_the_human_monitor_are_masked),
        cmocka_unit_test(passwords_in_urls_are_masked),
        cmocka_unit_test(all_else_keeps_its_bytes),
        cmocka_unit_test(cut_lines_are_masked_as_far_as_they_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
