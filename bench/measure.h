/* SPDX-License-Identifier: MIT */
/*
 * What a process uses, as it can see itself.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What malloc has given out, in all its arenas. */
static inline size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

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
