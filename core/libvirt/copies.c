/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of a domain's copies; see copies.h.
 */
#include "copies.h"

#include <blockjob/blockjob.h>
#include <stdlib.h>
#include <string.h>

struct copy {
    char *target; /* the disk's */
    char *source;
    char *mirror;
    bool is_commit;
    bool has_ended;
};

static void clear_copy(struct copy *copy)
{
    free(copy->target);
    free(copy->source);
    free(copy->mirror);
}

static struct copy *find_copy(const struct copies *copies, const char *target)
{
    for (size_t i = 0; i < copies->count; i++)
        if (strcmp(copies->copies[i].target, target) == 0)
            return &copies->copies[i];
    return NULL;
}

void copies_forget(struct copies *copies, const char *target)
{
    struct copy *copy = find_copy(copies, target);
    if (!copy)
        return;
    clear_copy(copy);
    *copy = copies->copies[--copies->count];
}

void copies_clear(struct copies *copies)
{
    for (size_t i = 0; i < copies->count; i++)
        clear_copy(&copies->copies[i]);
    free(copies->copies);
    *copies = (struct copies){0};
}

static bool make_room(struct copies *copies)
{
    if (copies->count < copies->room)
        return true;
    size_t room = copies->room ? copies->room * 2 : 4;
    struct copy *more = reallocarray(copies->copies, room, sizeof *more);
    if (!more)
        return false;
    copies->copies = more;
    copies->room = room;
    return true;
}

static int note(struct copies *copies, const struct disk *disk)
{
    struct copy copy = {
        .target = strdup(disk->target),
        .source = strdup(disk->source),
        .mirror = strdup(disk->mirror),
        .is_commit = disk->is_commit,
    };
    copies_forget(copies, disk->target);
    if (copy.target && copy.source && copy.mirror && make_room(copies)) {
        copies->copies[copies->count++] = copy;
        return BJ_OK;
    }
    clear_copy(&copy);
    return BJ_E_NOMEM;
}

int copies_note(struct copies *copies, const struct disks *now)
{
    int r = BJ_OK;
    for (size_t i = 0; r == BJ_OK && i < now->count; i++) {
        const struct disk *disk = &now->disks[i];
        if (disk->has_mirror && disk->mirror && disk->source)
            r = note(copies, disk);
    }
    return r;
}

void copies_end(struct copies *copies, const char *target)
{
    struct copy *copy = find_copy(copies, target);
    if (copy)
        copy->has_ended = true;
}

static enum copy_fate fate_of(const struct copy *copy, const struct disk *disk)
{
    if (!copy || !disk)
        return COPY_UNKNOWN;
    if (disk->has_mirror && disk->mirror)
        return strcmp(disk->mirror, copy->mirror) == 0 ? COPY_GOES_ON : COPY_REPLACED;
    if (disk->has_mirror || !disk->source || strcmp(copy->source, copy->mirror) == 0)
        return COPY_UNKNOWN;
    return strcmp(disk->source, copy->mirror) == 0 ? COPY_SWITCHED : COPY_GONE;
}

bool copies_has_switched(const struct copies *copies, const char *target, const struct disks *now)
{
    return fate_of(find_copy(copies, target), disks_find(now, target)) == COPY_SWITCHED;
}

static const struct copy *find_running(const struct copies *copies, const char *target)
{
    const struct copy *copy = find_copy(copies, target);
    return copy && !copy->has_ended ? copy : NULL;
}

enum copy_fate copies_fate(const struct copies *copies, const char *target, const struct disks *now)
{
    return fate_of(find_running(copies, target), disks_find(now, target));
}

const char *copies_mirror(const struct copies *copies, const char *target)
{
    const struct copy *copy = find_running(copies, target);
    return copy ? copy->mirror : NULL;
}

bool copies_is_commit(const struct copies *copies, const char *target)
{
    const struct copy *copy = find_running(copies, target);
    return copy && copy->is_commit;
}
