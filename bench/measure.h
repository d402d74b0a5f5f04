/* SPDX-License-Identifier: MIT */
/*
 * What a process uses, as it can see itself.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include "../tests/support/heap_in_use.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline size_t resident_bytes(void)
{
    size_t size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL || fscanf(file, "%zu %zu", &size, &resident) != 2) {
        perror("/proc/self/statm");
        exit(EXIT_FAILURE);
    }
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

#endif
