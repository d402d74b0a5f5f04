/* SPDX-License-Identifier: MIT */
/*
 * The descriptors of a command; see descriptors.h.
 */
#include "base/descriptors.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* All of them before the first is duplicated, which may get the number of a later one. */
static bool are_open(const int *fds, size_t count, size_t *ret_bad)
{
    for (size_t i = 0; i < count; i++) {
        if (fcntl(fds[i], F_GETFD) < 0) {
            *ret_bad = i;
            return false;
        }
    }
    return true;
}

int descriptors_duplicate(const int *fds, size_t count, struct descriptors **ret, size_t *ret_bad)
{
    if (!are_open(fds, count, ret_bad))
        return BJ_E_INVAL;
    struct descriptors *made = malloc(sizeof *made + count * sizeof made->fds[0]);
    if (!made)
        return BJ_E_NOMEM;

    for (made->count = 0; made->count < count; made->count++) {
        int fd = fcntl(fds[made->count], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            int error = errno;
            descriptors_close(made);
            errno = error;
            return BJ_E_SYSTEM;
        }
        made->fds[made->count] = fd;
    }
    *ret = made;
    return BJ_OK;
}

void descriptors_close(struct descriptors *descriptors)
{
    for (size_t i = 0; descriptors && i < descriptors->count; i++)
        close(descriptors->fds[i]);
    free(descriptors);
}
