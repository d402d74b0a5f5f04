/* SPDX-License-Identifier: MIT */
/*
 * A temporary directory that goes away with the test, even if the test program crashes.
 */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <sys/types.h>

typedef struct scratch {
    char dir[64];
    pid_t janitor; /* removes the directory once `alive` is closed, by us or by our death */
    int alive;
} scratch;

void scratch_make(scratch *s);
void scratch_remove(scratch *s);

#endif
