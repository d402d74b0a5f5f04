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

static struct starters starters_of(const char *command)
{
    struct starters starters;
    starters_init(&starters, has_one, (void *)command);
    return starters;
}

static void learn(struct starters *starters, const char *schema)
{
    json_t *value = json_loads(schema, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    starters_learn(starters, value);
    json_decref(value);
}

static void b40_from_4_0_on_all_take_both(void **state)
{
    (void)state;
    struct starters starters = starters_of("x-debug-query-block-graph");
    int both = TAKES_JOB_ID | TAKES_AUTO_DISMISS;
    assert_int_equal(starters_take(&starters, "blockdev-mirror"), both);
    assert_int_equal(starters_take(&starters, "drive-backup"), both);
    assert_int_equal(starters_take(&starters, "blockdev-create"), TAKES_JOB_ID);
    assert_int_equal(starters_take(&starters, "snapshot-save"), TAKES_JOB_ID);
}

static void b59_before_2_5_none_takes_either(void **state)
{
    (void)state;
    struct starters starters = starters_of(NULL);
    assert_int_equal(starters_take(&starters, "drive-mirror"), 0);
    assert_int_equal(starters_take(&starters, "block_stream"), 0);
    assert_int_equal(starters_take(&starters, "x-unknown"), 0);
}

static void b40_between_them_only_the_schema_tells(void **state)
{
    (void)state;
    struct starters starters = starters_of("query-qmp-schema");
    assert_int_equal(starters_take(&starters, "drive-mirror"), -1);
    assert_int_equal(starters_take(&starters, "transaction"), -1);
    /* As QEMU has it: a command's arguments are a type of their own, before or after it. */
    learn(&starters, "[{\"name\": \"12\", \"meta-type\": \"object\", \"members\": ["
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
    assert_int_equal(starters_take(&starters, "drive-mirror"), TAKES_JOB_ID);
    assert_int_equal(starters_take(&starters, "block-stream"), TAKES_JOB_ID);
    assert_int_equal(starters_take(&starters, "drive-backup"), TAKES_JOB_ID | TAKES_AUTO_DISMISS);
    assert_int_equal(starters_take(&starters, "block-commit"), 0);
    assert_int_equal(starters_take(&starters, "blockdev-mirror"), 0);
    assert_int_equal(starters_take(&starters, "x-unknown"), 0);
}

static void b59_no_schema_teaches_nothing(void **state)
{
    (void)state;
    static const char *const odd[] = {"7", "{}", "[]", "[[], {}, null, \"drive-mirror\"]"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct starters starters = starters_of("query-qmp-schema");
        learn(&starters, odd[i]);
        assert_int_equal(starters_take(&starters, "drive-mirror"), 0);
    }
    struct starters starters = starters_of("query-qmp-schema");
    starters_learn(&starters, NULL);
    assert_int_equal(starters_take(&starters, "drive-mirror"), 0);
}

static void b59_the_types_of_old_starters(void **state)
{
    (void)state;
    assert_string_equal(starter_of("block_stream")->type, "stream");
    assert_string_equal(starter_of("__com.redhat_drive-mirror")->type, "mirror");
    assert_string_equal(starter_of("__com.redhat_block-commit")->type, "commit");
    assert_null(starter_of("block-job-cancel"));
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
    struct starters starters = starters_of("query-qmp-schema");
    struct waiting w[4] = {0};
    for (int i = 0; i < 4; i++) {
        w[i].request.done = on_done;
        starters_wait(&starters, &w[i].request);
    }
    assert_true(starters_leave(&starters, &w[0].request));
    assert_true(starters_leave(&starters, &w[2].request));
    assert_false(starters_leave(&starters, &w[2].request));
    starters_wait(&starters, &w[0].request);

    turns = 0;
    starters_answer(&starters, &(struct driver_reply){0});
    starters_answer(&starters, &(struct driver_reply){0});
    assert_int_equal(turns, 3);
    assert_int_equal(w[1].turn, 1);
    assert_int_equal(w[3].turn, 2);
    assert_int_equal(w[0].turn, 3);
    assert_int_equal(starters.waiting_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b40_from_4_0_on_all_take_both),
        cmocka_unit_test(b59_before_2_5_none_takes_either),
        cmocka_unit_test(b40_between_them_only_the_schema_tells),
        cmocka_unit_test(b59_no_schema_teaches_nothing),
        cmocka_unit_test(b59_the_types_of_old_starters),
        cmocka_unit_test(b05_each_who_waits_is_answered_once_and_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
