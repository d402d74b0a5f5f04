/* SPDX-License-Identifier: MIT */
/*
 * Raw commands to a real QEMU.
 */
#include "nodes.h"

static bj_future *execute(world *w, const char *command, const char *arguments)
{
    return hold(w, bj_monitor_execute(w->monitor, command, arguments, BJ_TIMEOUT_NONE));
}

static void b54_a_big_reply_arrives_whole(void **state)
{
    world *w = *state;
    const char *ours = bj_future_json(answers(execute(w, "query-qmp-schema", NULL), BJ_OK));
    assert_true(strlen(ours) > 64 * 1024);

    json_t *mine = json_loads(ours, 0, NULL);
    json_t *theirs = qmp(w, "query-qmp-schema", NULL);
    assert_true(json_equal(mine, theirs));
    json_decref(mine);
}

static void many_commands_keep_their_order(void **state)
{
    world *w = *state;
    bj_future *futures[300];
    for (int i = 0; i < 300; i++)
        futures[i] = execute(w, i % 2 ? "query-version" : "query-jobs", NULL);
    for (int i = 0; i < 300; i++)
        assert_int_equal(bj_future_json(answers(futures[i], BJ_OK))[0], i % 2 ? '{' : '[');
}

static void b55_integers_that_no_double_holds_are_exact(void **state)
{
    world *w = *state;
    add_null(w, "nothing", 1024 * 1024);
    answers(execute(w, "block-set-write-threshold",
                    JSON({"node-name": "nothing", "write-threshold": 9007199254740993})), BJ_OK);

    bj_future *nodes = answers(execute(w, "query-named-block-nodes", NULL), BJ_OK);
    assert_non_null(strstr(bj_future_json(nodes), "9007199254740993"));
}

static void a_refusal_has_qemus_class_and_text(void **state)
{
    world *w = *state;
    bj_future *refused =
        answers(execute(w, "blockdev-del", JSON({"node-name": "nonesuch"})), BJ_E_REFUSED);
    assert_string_equal(bj_future_error_class(refused), "GenericError");
    names(refused, "nonesuch");

    refused = answers(execute(w, "job-cancel", JSON({"id": "nonesuch"})), BJ_E_REFUSED);
    names(refused, "Job not found");
    refused = answers(execute(w, "block-job-cancel", JSON({"device": "nonesuch"})), BJ_E_REFUSED);
    assert_string_equal(bj_future_error_class(refused), "DeviceNotActive");
}

static void what_qemu_lacks_is_known(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_has_command(w->monitor, "job-dismiss"), 1);
    assert_int_equal(bj_monitor_has_command(w->monitor, "make-coffee"), 0);
    bj_future *refused = expect(
        w, bj_monitor_start(w->monitor, "make-coffee", NULL, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
    names(refused, "make-coffee");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b54_a_big_reply_arrives_whole),
        TEST(many_commands_keep_their_order),
        TEST(b55_integers_that_no_double_holds_are_exact),
        TEST(a_refusal_has_qemus_class_and_text),
        TEST(what_qemu_lacks_is_known),
    };
    return run_on_both(tests);
}
