/* SPDX-License-Identifier: MIT */
/*
 * Tests that want a process of their own: what they look at, a process has once.
 */
#ifndef TESTS_SCENARIO_H
#define TESTS_SCENARIO_H

#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* TSan allows a child of fork() no thread if there were others; GCC 12's ASan leaves its
 * allocator's locks as the other threads held them, and the child waits for ever. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CAN_FORK_WITH_THREADS false
#else
#define CAN_FORK_WITH_THREADS true
#endif

enum { SCENARIO_FAILED = 1, SCENARIO_SKIPPED = 77 };

/* In a scenario, instead of cmocka's. */
#define check(condition) check_that((condition), #condition, __FILE__, __LINE__)

static inline void check_that(bool holds, const char *what, const char *file, int line)
{
    if (holds)
        return;
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    _exit(SCENARIO_FAILED);
}

/* The test's own process must have one thread only. The scenario ends by exit(). */
static inline void play(void (*scenario)(void))
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(300);
        scenario();
        exit(EXIT_SUCCESS);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SCENARIO_SKIPPED)
        skip();
    assert_int_equal(status, 0);
}

#endif
