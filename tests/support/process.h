/* SPDX-License-Identifier: MIT */
/*
 * Servers that a test starts: found on PATH, quiet, and dead when the test is.
 */
#ifndef TESTS_PROCESS_H
#define TESTS_PROCESS_H

#include <sys/types.h>

/* Starts argv[0]; of our fds it gets `fd0` and `fd1` (or -1). What it writes goes to the file
 * `log`; its standard output to a pipe instead where `ret_out` is given. */
pid_t process_start(const char *const argv[], const char *log, int fd0, int fd1, int *ret_out);

/* A child of fork() ends with that exit status, as another program: what only the parent's other
 * threads know of looks like a leak in it. */
_Noreturn void process_leave(int status);

/* Kills and reaps it, stopped or not; 0 is nobody. */
void process_end(pid_t *pid);

#endif
