/* SPDX-License-Identifier: MIT */
/*
 * What the commands that start jobs take: from the list of commands, from the schema, and who waits
 * to know.
 */
#include "qmp/start_commands.h"

#include "cmocka_all.h"

#include <string.h>

/* A QEMU that has the one command which is named, or none. */
static bool has_one(void *user, const char *command)
{
    return user && strcmp(user, command) == 0;
}

static struct start_commands commands_of(const char *command)
{
    struct start_commands commands;
    start_commands_init(&commands, has_one, (void *)command);
    return commands;
}

static void learn(struct start_commands *commands, const char *schema)
{
    json_t *value = json_loads(schema, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    start_commands_learn(commands, value);
    json_decref(value);
}

static void b40_from_4_0_on_all_take_both(void **state)
{
    (void)state;
    struct start_commands commands = commands_of("x-debug-query-block-graph");
    int both = TAKES_JOB_ID | TAKES_AUTO_DISMISS;
    assert_int_equal(start_commands_take(&commands, "blockdev-mirror"), both);
    assert_int_equal(start_commands_take(&commands, "drive-backup"), both);
    assert_int_equal(start_commands_take(&commands, "blockdev-create"), TAKES_JOB_ID);
    assert_int_equal(start_commands_take(&commands, "snapshot-save"), TAKES_JOB_ID);
}

static void b59_before_2_5_none_takes_either(void **state)
{
    (void)state;
    struct start_commands commands = commands_of(NULL);
    assert_int_equal(start_commands_take(&commands, "drive-mirror"), 0);
    assert_int_equal(start_commands_take(&commands, "block_stream"), 0);
    assert_int_equal(start_commands_take(&commands, "x-unknown"), 0);
}

static void b40_between_them_only_the_schema_tells(void **state)
{
    (void)state;
    struct start_commands commands = commands_of("query-qmp-schema");
    assert_int_equal(start_commands_take(&commands, "drive-mirror"), -1);
    assert_int_equal(start_commands_take(&commands, "transaction"), -1);
    /* As QEMU has it: a command's arguments are a type of their own, before or after it. */
    learn(&commands, "[{\"name\": \"12\", \"meta-type\": \"object\", \"members\": ["
                     "{\"name\": \"job-id\", \"type\": \"str\", \"default\": null}, "
                     "{\"name\": \"device\", \"type\": \"str\"}]}, "
                     "{\"name\": \"drive-mirror\", \"meta-type\": \"command\", \"arg-type\": "
                     "\"12\", \"ret-type\": \"0\"}, "
                     "{\"name\": \"block-stream\", \"meta-type\": \"command\", \"arg-type\": "
                     "\"12\", \"ret-type\": \"0\"}, "
                     "{\"name\": \"drive-backup\", \"meta-type\": \"command\", \"arg-type\": "
                     "\"13\", \"ret-type\": \"0\"}, "
                     "{\"name\": \"block-commit\", \"meta-type\": \"command\", \"arg-type\": "
                     "\"14\", \"ret-type\": \"0\"}, "
                     "{\"name\": \"drive-mirror\", \"meta-type\": \"object\", \"members\": []}, "
                     "{\"name\": \"13\", \"meta-type\": \"object\", \"members\": ["
                     "{\"name\": \"job-id\", \"type\": \"str\", \"default\": null}, "
                     "{\"name\": \"auto-dismiss\", \"type\": \"bool\", \"default\": null}]}, "
                     "{\"name\": \"14\", \"meta-type\": \"object\", \"members\": []}]");
    assert_int_equal(start_commands_take(&commands, "drive-mirror"), TAKES_JOB_ID);
    assert_int_equal(start_commands_take(&commands, "block-stream"), TAKES_JOB_ID);
    assert_int_equal(start_commands_take(&commands, "drive-backup"),
                     TAKES_JOB_ID | TAKES_AUTO_DISMISS);
    assert_int_equal(start_commands_take(&commands, "block-commit"), 0);
    assert_int_equal(start_commands_take(&commands, "blockdev-mirror"), 0);
    assert_int_equal(start_commands_take(&commands, "x-unknown"), 0);
}

static void b59_no_schema_teaches_nothing(void **state)
{
    (void)state;
    static const char *const odd[] = {"7", "{}", "[]", "[[], {}, null, \"drive-mirror\"]"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct start_commands commands = commands_of("query-qmp-schema");
        learn(&commands, odd[i]);
        assert_int_equal(start_commands_take(&commands, "drive-mirror"), 0);
    }
    struct start_commands commands = commands_of("query-qmp-schema");
    start_commands_learn(&commands, NULL);
    assert_int_equal(start_commands_take(&commands, "drive-mirror"), 0);
}

static void b59_the_types_of_old_start_commands(void **state)
{
    (void)state;
    assert_string_equal(start_command_find("block_stream")->type, "stream");
    assert_string_equal(start_command_find("__com.redhat_drive-mirror")->type, "mirror");
    assert_string_equal(start_command_find("__com.redhat_block-commit")->type, "commit");
    assert_null(start_command_find("block-job-cancel"));
}

/* ------------------------------------------------------------------- waiting */

struct waiting {
    struct driver_request request;
    int turn; /* 0: not done */
};

static int turns;

static void on_done(struct driver_request *request, struct driver_reply *reply)
{
    assert_int_equal(reply->error, BJ_OK);
    ((struct waiting *)request)->turn = ++turns;
}

static void b05_each_who_waits_is_answered_once_and_in_turn(void **state)
{
    (void)state;
    struct start_commands commands = commands_of("query-qmp-schema");
    struct waiting w[4] = {0};
    for (int i = 0; i < 4; i++) {
        w[i].request.done = on_done;
        start_commands_wait(&commands, &w[i].request);
    }
    assert_true(start_commands_leave(&commands, &w[0].request));
    assert_true(start_commands_leave(&commands, &w[2].request));
    assert_false(start_commands_leave(&commands, &w[2].request));
    start_commands_wait(&commands, &w[0].request);

    turns = 0;
    start_commands_answer(&commands, &(struct driver_reply){0});
    start_commands_answer(&commands, &(struct driver_reply){0});
    assert_int_equal(turns, 3);
    assert_int_equal(w[1].turn, 1);
    assert_int_equal(w[3].turn, 2);
    assert_int_equal(w[0].turn, 3);
    assert_int_equal(commands.waiting_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b40_from_4_0_on_all_take_both),
        cmocka_unit_test(b59_before_2_5_none_takes_either),
        cmocka_unit_test(b40_between_them_only_the_schema_tells),
        cmocka_unit_test(b59_no_schema_teaches_nothing),
        cmocka_unit_test(b59_the_types_of_old_start_commands),
        cmocka_unit_test(b05_each_who_waits_is_answered_once_and_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
