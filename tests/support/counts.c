/* SPDX-License-Identifier: MIT */
/*
 * Counting fds, threads and heap by what the kernel and the C library say.
 */
#include "counts.h"

#include "cmocka_all.h"
#include "heap_in_use.h"

#include <dirent.h>

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int count = 0;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

int count_fds(void)
{
    return count_entries("/proc/self/fd");
}

int count_threads(void)
{
    return count_entries("/proc/self/task");
}

size_t count_heap(void)
{
    return heap_in_use();
}
