/* SPDX-License-Identifier: MIT */
/*
 * Children of fork() in tests.
 */
#ifndef TESTS_PROCESS_H
#define TESTS_PROCESS_H

#include <sys/types.h>

/* A child of fork() ends with that exit status, as another program: what only the parent's other
 * threads know of looks like a leak in it. */
_Noreturn void process_leave(int status);

/* Kills and reaps it, stopped or not; 0 is nobody. */
void process_end(pid_t *pid);

#endif
