/* SPDX-License-Identifier: MIT */
/*
 * One helper for all tests of a program.
 */
#include "qemus.h"

#include "cmocka_all.h"

#include <stdlib.h>
#include <unistd.h>

static helper *started;
static pid_t starter;

/* A child of fork() has no helper. */
static void end(void)
{
    if (getpid() == starter)
        helper_end(started);
}

helper *qemus(void)
{
    if (!started) {
        started = helper_start((const char *const[]){"tests/support/qemu", NULL});
        starter = getpid();
        (void)atexit(end);
    }
    return started;
}

char *directory_new(void)
{
    json_t *answer = helper_do(qemus(), JSON({"do": "directory"}));
    char *directory = strdup(json_string_value(json_object_get(answer, "directory")));
    assert_non_null(directory);
    json_decref(answer);
    return directory;
}

void directory_end(char *directory)
{
    json_decref(helper_do(qemus(), JSON({"do": "end", "directory": "%s"}), directory));
    free(directory);
}
