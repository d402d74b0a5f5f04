/* SPDX-License-Identifier: MIT */
/*
 * Descriptors and commands out of band, with a real qemu-system-x86_64.
 */
#include "counts.h"
#include "nodes.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bj_future *pass(world *w, const char *command, const char *arguments, int fd)
{
    const bj_execute_options options = {.size = sizeof options, .fds = &fd, .fd_count = 1};
    return hold(w,
                bj_monitor_execute_with(w->monitor, command, arguments, &options, BJ_TIMEOUT_NONE));
}

static bj_future *execute(world *w, const char *command, const char *arguments)
{
    return hold(w, bj_monitor_execute(w->monitor, command, arguments, BJ_TIMEOUT_NONE));
}

static bj_future *out_of_band(world *w, const char *command, const char *arguments)
{
    const bj_execute_options options = {.size = sizeof options, .out_of_band = true};
    return hold(w,
                bj_monitor_execute_with(w->monitor, command, arguments, &options, BJ_TIMEOUT_NONE));
}

static void connect_out_of_band(world *w)
{
    const bj_connect_options options = {.size = sizeof options, .out_of_band = true};
    bj_future *future = hold(
        w, bj_monitor_connect_with(w->ctx, path_of(w, "first.qmp"), &options, BJ_TIMEOUT_DEFAULT));
    bj_monitor_close(w->monitor); /* QEMU serves one at a time */
    w->monitor = hold_monitor(w, bj_future_monitor(answers(future, BJ_OK)));
}

/* For reading only, as QEMU is to use it. */
static int new_file(world *w, const char *name, int bytes)
{
    int fd = open(path_of(w, name), O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(truncate(path_of(w, name), bytes), 0);
    return fd;
}

static void w07_getfd_keeps_what_it_was_given(void **state)
{
    world *w = *state;
    int fd = new_file(w, "one", 0), before = count_fds();
    answers(pass(w, "getfd", JSON({"fdname": "one"}), fd), BJ_OK);
    assert_int_equal(count_fds(), before);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* it is still ours */
    answers(execute(w, "closefd", JSON({"fdname": "one"})), BJ_OK);
    names(answers(execute(w, "closefd", JSON({"fdname": "one"})), BJ_E_REFUSED), "one");
    names(answers(execute(w, "getfd", JSON({"fdname": "one"})), BJ_E_REFUSED), "SCM_RIGHTS");
    close(fd);
}

/* Which file QEMU has in the set of that number. */
static void has_file(world *w, int number, const char *name, int bytes)
{
    const char *node = text_of(w, "node%d", number);
    answers(execute(w, "blockdev-add",
                    text_of(w,
                            "{\"driver\": \"raw\", \"node-name\": \"%s\", \"read-only\": true, "
                            "\"file\": {\"driver\": \"file\", \"filename\": \"/dev/fdset/%d\"}}",
                            node, number)),
            BJ_OK);
    json_t *nodes = qmp(w, "query-named-block-nodes", NULL);
    size_t i;
    json_t *row;
    json_array_foreach(nodes, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "node-name")), node) == 0) {
            json_t *image = json_object_get(row, "image");
            assert_int_equal(json_integer_value(json_object_get(image, "virtual-size")), bytes);
            return;
        }
    }
    fail_msg("%s: no node %s", name, node);
}

/* Files of sizes of their own, all sent before the first reply is there. */
static void each_set_has_its_file(world *w)
{
    enum { FILES = 50 };
    bj_future *added[FILES], *looked[FILES];
    int before = count_fds();
    for (int i = 0; i < FILES; i++) {
        int fd = new_file(w, text_of(w, "file%d", i), 512 * (i + 1));
        const char *arguments =
            text_of(w, "{\"fdset-id\": %d, \"opaque\": \"file%d\"}", 100 + i, i);
        added[i] = pass(w, "add-fd", arguments, fd);
        looked[i] = execute(w, "query-fdsets", NULL);
        close(fd);
    }
    for (int i = 0; i < FILES; i++) {
        answers(added[i], BJ_OK);
        bj_future *sets = answers(looked[i], BJ_OK);
        assert_non_null(strstr(bj_future_json(sets), text_of(w, "\"file%d\"", i)));
    }
    assert_int_equal(count_fds(), before);
    for (int i = 0; i < FILES; i++)
        has_file(w, 100 + i, text_of(w, "file%d", i), 512 * (i + 1));
}

static void w07_each_set_has_its_file(void **state)
{
    each_set_has_its_file(*state);
}

static void w07_each_set_has_its_file_out_of_band_too(void **state)
{
    connect_out_of_band(*state);
    each_set_has_its_file(*state);
}

static void w07_qemu_uses_the_first_of_several(void **state)
{
    world *w = *state;
    int fds[16], before = count_fds();
    for (int i = 0; i < 16; i++)
        fds[i] = new_file(w, text_of(w, "of%d", i), 512 * (i + 1));
    const bj_execute_options options = {.size = sizeof options, .fds = fds, .fd_count = 16};
    expect(w, bj_monitor_execute_with(w->monitor, "add-fd",
                                      JSON({"fdset-id": 7}), &options, BJ_TIMEOUT_NONE), BJ_OK);
    for (int i = 0; i < 16; i++)
        close(fds[i]);
    assert_int_equal(count_fds(), before);
    has_file(w, 7, "of0", 512);
}

/* A server that accepts nobody: whoever adds its disk waits, and QEMU with them. */
static int silent_server(world *w)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path_of(w, "nbd"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void w07_a_hanging_qemu_answers_out_of_band(void **state)
{
    world *w = *state;
    connect_out_of_band(w);
    int server = silent_server(w);
    bj_future *hanging = execute(
        w, "blockdev-add",
        text_of(w,
                "{\"driver\": \"nbd\", \"node-name\": \"far\", \"server\": {\"type\": \"unix\", "
                "\"path\": \"%s\"}}",
                path_of(w, "nbd")));
    bj_future *behind = execute(w, "query-version", NULL);
    answers(out_of_band(w, "query-yank", NULL), BJ_OK);
    names(answers(out_of_band(
        w, "yank",
        JSON({"instances": [{"type": "block-node",
                                                              "node-name": "nonesuch"}]})), BJ_E_REFUSED),
        "not found");
    bj_future *refused = answers(out_of_band(w, "query-version", NULL), BJ_E_REFUSED);
    names(refused, "OOB");
    assert_false(bj_future_is_done(hanging));
    assert_false(bj_future_is_done(behind));
    close(server);
    answers(hanging, BJ_E_REFUSED);
    answers(behind, BJ_OK);
}

static void w07_jobs_go_their_way_with_it(void **state)
{
    world *w = *state;
    add_disk(w, "source");
    add_empty(w, "target");
    connect_out_of_band(w);
    bj_job *job = mirror(w, "source", "target", NULL);
    bj_future *pivoted = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    answers(out_of_band(w, "query-yank", NULL), BJ_OK);
    ends(pivoted, BJ_OK, BJ_OUTCOME_PIVOTED);
}

#define SYSTEM_TEST(name) cmocka_unit_test_setup_teardown(name, world_system, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SYSTEM_TEST(w07_getfd_keeps_what_it_was_given),
        SYSTEM_TEST(w07_each_set_has_its_file),
        SYSTEM_TEST(w07_each_set_has_its_file_out_of_band_too),
        SYSTEM_TEST(w07_qemu_uses_the_first_of_several),
        SYSTEM_TEST(w07_a_hanging_qemu_answers_out_of_band),
        SYSTEM_TEST(w07_jobs_go_their_way_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
