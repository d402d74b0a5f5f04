/* SPDX-License-Identifier: MIT */
/*
 * Servers that a test starts: found on PATH, quiet, and dead when the test is.
 */
#ifndef TESTS_PROCESS_H
#define TESTS_PROCESS_H

#include <sys/types.h>

/* Starts argv[0]; its output goes to the file `log`; of our fds it gets `fd0` and `fd1` (or -1). */
pid_t process_start(const char *const argv[], const char *log, int fd0, int fd1);

/* Kills and reaps it, stopped or not; 0 is nobody. */
void process_end(pid_t *pid);

/* Prints what it wrote, for a test that is about to fail. */
void process_show_log(const char *log);

#endif
