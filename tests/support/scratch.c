/* SPDX-License-Identifier: MIT */
/*
 * Temporary directories. One path cleans up after success, failure and crash alike: a shell that
 * waits for our end of a pipe to close.
 */
#include "scratch.h"

#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char janitor_script[] = "trap '' HUP INT TERM; cat >/dev/null; rm -rf -- \"$1\"";

void scratch_make(scratch *s)
{
    const char *tmp = getenv("TMPDIR");
    /* A UNIX socket's path has at most 107 bytes: a long TMPDIR is no place for one. */
    if (!tmp || strlen(tmp) > 40)
        tmp = "/tmp";
    snprintf(s->dir, sizeof(s->dir), "%s/blockjob-XXXXXX", tmp);
    assert_non_null(mkdtemp(s->dir));

    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    s->janitor = fork();
    assert_true(s->janitor >= 0);
    if (s->janitor == 0) {
        dup2(ends[0], STDIN_FILENO);
        execl("/bin/sh", "sh", "-c", janitor_script, "sh", s->dir, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    s->alive = ends[1];
}

void scratch_remove(scratch *s)
{
    if (s->janitor <= 0)
        return;
    close(s->alive);
    waitpid(s->janitor, NULL, 0);
    s->janitor = 0;
}
