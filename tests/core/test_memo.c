/* SPDX-License-Identifier: MIT */
/*
 * Memos as text: what is written is read, within its bounds, and nothing else is.
 */
#include "api/memo_text.h"
#include "qmp/block_graph.h"

#include "cmocka_all.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static struct memo example(void)
{
    return (struct memo){
        .id = "job0",
        .type = "mirror",
        .since_us = 1700000000000000,
        .number = 0xfedcba9876543210,
        .changed_us = 1700000000000001,
        .facts = MEMORY_READY | MEMORY_OURS,
        .current = 5,
        .total = INT64_MAX,
        .peer = {"boot", "qemu 7.1", "7.2.22", "1@/run/a.qmp"},
        .start_us = 1699999999999999,
        .device = "disk",
        .run_data = "{}",
    };
}

static void must_read(const char *text, struct memo *ret)
{
    const char *why = NULL;
    if (memo_read(text, ret, &why) != BJ_OK)
        fail_msg("%s: %s", text, why);
}

static void must_refuse(const char *text, const char *word)
{
    struct memo memo;
    const char *why = NULL;
    assert_int_equal(memo_read(text, &memo, &why), BJ_E_INVAL);
    if (!strstr(why, word))
        fail_msg("%s: %s", word, why);
}

static void c13_what_is_written_is_read(void **state)
{
    (void)state;
    struct memo memo = example(), read;
    char text[BJ_MEMO_SIZE];

    size_t length = memo_write(&memo, text);
    assert_int_equal(length, strlen(text));
    must_read(text, &read);
    assert_string_equal(read.id, memo.id);
    assert_string_equal(read.type, memo.type);
    assert_int_equal(read.since_us, memo.since_us);
    assert_true(read.number == memo.number);
    assert_int_equal(read.changed_us, memo.changed_us);
    assert_int_equal(read.facts, memo.facts);
    assert_int_equal(read.current, memo.current);
    assert_int_equal(read.total, memo.total);
    assert_string_equal(read.peer.boot, memo.peer.boot);
    assert_string_equal(read.peer.process, memo.peer.process);
    assert_string_equal(read.peer.version, memo.peer.version);
    assert_string_equal(read.peer.socket, memo.peer.socket);
    assert_int_equal(read.start_us, memo.start_us);
    assert_string_equal(read.device, memo.device);
    assert_string_equal(read.run_data, memo.run_data);
    assert_null(read.graph);
    memo_clear(&read);
}

static void c13_it_is_printable(void **state)
{
    (void)state;
    struct memo memo = example(), read;
    char text[BJ_MEMO_SIZE];

    memo.id = "J\u00f6b \"\\\n\x01 \U0001f600";
    assert_true(memo_write(&memo, text) > 0);
    for (const char *c = text; *c; c++)
        assert_true(isprint((unsigned char)*c));
    must_read(text, &read);
    assert_string_equal(read.id, memo.id);
    memo_clear(&read);
}

/* ---------------------------------------------------------------------- bounds */

static char *long_name(size_t length)
{
    char *name = malloc(length + 1);
    assert_non_null(name);
    memset(name, 'x', length);
    name[length] = '\0';
    return name;
}

static void c13_the_graph_is_left_out_where_it_does_not_fit(void **state)
{
    (void)state;
    struct memo memo = example(), read;
    char text[BJ_MEMO_SIZE];
    char *node = long_name(BJ_MEMO_SIZE), *device = long_name(BJ_MEMO_SIZE);

    memo.graph = json_pack("{ss}", "source", node);
    assert_true(memo_write(&memo, text) > 0);
    must_read(text, &read);
    assert_null(read.graph);
    assert_string_equal(read.device, "disk");
    memo_clear(&read);

    memo.device = device;
    assert_true(memo_write(&memo, text) > 0);
    must_read(text, &read);
    assert_null(read.device);
    assert_string_equal(read.run_data, "{}");
    memo_clear(&read);
    json_decref(memo.graph);
    free(node);
    free(device);
}

static void c13_an_id_of_any_length(void **state)
{
    (void)state;
    struct memo memo = example(), read;
    size_t longest = 0;

    for (size_t length = BJ_MEMO_SIZE - 512; length < BJ_MEMO_SIZE + 2; length++) {
        char text[BJ_MEMO_SIZE];
        char *id = long_name(length);
        memo.id = id;
        size_t written = memo_write(&memo, text);
        assert_int_equal(written, strlen(text));
        if (written > 0) {
            must_read(text, &read);
            assert_string_equal(read.id, id);
            memo_clear(&read);
            longest = written;
        }
        free(id);
    }
    assert_int_equal(longest, BJ_MEMO_SIZE - 1);
}

/* ------------------------------------------------------------------- bad memos */

static void c13_every_changed_byte_is_noticed(void **state)
{
    (void)state;
    struct memo memo = example(), read;
    char text[BJ_MEMO_SIZE];
    size_t length = memo_write(&memo, text);

    for (size_t i = 0; i < length; i++)
        for (int bit = 0; bit < 8; bit++) {
            const char *why;
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_int_equal(memo_read(text, &read, &why), BJ_E_INVAL);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    must_read(text, &read);
    memo_clear(&read);
}

static void c13_every_cut_is_noticed(void **state)
{
    (void)state;
    struct memo memo = example();
    char text[BJ_MEMO_SIZE];
    size_t length = memo_write(&memo, text);

    while (length > 0) {
        struct memo read;
        const char *why;
        text[--length] = '\0';
        assert_int_equal(memo_read(text, &read, &why), BJ_E_INVAL);
    }
}

static void c13_why_it_is_no_memo(void **state)
{
    (void)state;
    struct memo memo = example();
    char text[BJ_MEMO_SIZE], later[BJ_MEMO_SIZE + 16];
    memo_write(&memo, text);

    must_refuse("", "not a memo");
    must_refuse("{\"id\": 1}", "not a memo");
    must_refuse("bjm2.0123", "another version");
    must_refuse("bjm1.0123", "cut short");
    snprintf(later, sizeof later, "%s\n", text);
    must_refuse(later, "checksum");
    memset(later, 'x', sizeof later - 1);
    memcpy(later, text, 5);
    later[sizeof later - 1] = '\0';
    must_refuse(later, "longer");
}

/* With a checksum that is right: whoever makes one up. */
static void must_refuse_made_up(struct memo memo)
{
    char text[BJ_MEMO_SIZE];
    if (memo_write(&memo, text) > 0)
        must_refuse(text, "makes no sense");
}

static void c13_made_up_memos(void **state)
{
    (void)state;
    struct memo memo = example();

    memo.id = "";
    must_refuse_made_up(memo);
    memo = example();
    memo.facts = MEMORY_ALL + 1;
    must_refuse_made_up(memo);
    memo = example();
    memo.since_us = 0;
    must_refuse_made_up(memo);
    memo = example();
    memo.current = -2;
    must_refuse_made_up(memo);
    memo = example();
    memo.start_us = -1;
    must_refuse_made_up(memo);
}

/* ------------------------------------------------------------------- the graph */

static void same_again(const char *json, bool is_one)
{
    json_t *given = json_loads(json, 0, NULL);
    assert_non_null(given);
    struct driver_snapshot *snapshot = qmp_read_snapshot(given);
    if ((snapshot != NULL) != is_one)
        fail_msg("%s", json);
    json_t *written = snapshot ? qmp_write_snapshot(snapshot) : NULL;
    assert_true(!is_one || json_equal(written, given));
    json_decref(written);
    json_decref(given);
    qmp_free_snapshot(snapshot);
}

static void c13_the_graph_is_written_and_read(void **state)
{
    (void)state;
    same_again("{}", true);
    same_again("{\"source\": \"a\", \"target\": \"b\", \"used\": true, \"exports\": [1, 2, 3],"
               " \"above\": [[0, \"p\", \"e\"], [1, \"q\", \"root\"]], \"below\": []}",
               true);
    same_again("{\"device\": [\"d\", \"q\", \"n\", \"qcow2\", \"/a\"]}", true);
    same_again("[]", false);
    same_again("{\"source\": \"a\"}", false);
    same_again("{\"device\": [\"d\"]}", false);
    same_again("{\"source\": \"a\", \"target\": \"b\", \"used\": true, \"exports\": [1, 2, -3],"
               " \"above\": [], \"below\": []}",
               false);
    same_again("{\"source\": \"a\", \"target\": \"b\", \"used\": true, \"exports\": [1, 2, 3],"
               " \"above\": [[7, \"p\", \"e\"]], \"below\": []}",
               false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c13_an_id_of_any_length),
        cmocka_unit_test(c13_every_changed_byte_is_noticed),
        cmocka_unit_test(c13_every_cut_is_noticed),
        cmocka_unit_test(c13_it_is_printable),
        cmocka_unit_test(c13_made_up_memos),
        cmocka_unit_test(c13_the_graph_is_left_out_where_it_does_not_fit),
        cmocka_unit_test(c13_the_graph_is_written_and_read),
        cmocka_unit_test(c13_what_is_written_is_read),
        cmocka_unit_test(c13_why_it_is_no_memo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
