/* SPDX-License-Identifier: MIT */
/*
 * Where each copy and active commit of a domain leads to, out of the domain's XML: by that it is
 * known again on another connection, and by that it shows that it has switched its disk although
 * nobody has seen its end.
 *
 * Pure: no I/O, no libvirt. The loop's thread.
 */
#ifndef BJ_COPIES_H
#define BJ_COPIES_H

#include "disks.h"

struct copies {
    size_t count, room;
    struct copy *copies;
};

enum copy_fate {
    COPY_UNKNOWN,  /* nothing is known of one, or its source and its target have the same name */
    COPY_GOES_ON,  /* the disk has a mirror that leads to the same target */
    COPY_REPLACED, /* its mirror leads elsewhere: it is another job's */
    COPY_SWITCHED, /* it has none, and what was the target is its source */
    COPY_GONE      /* it has none, and its source is another image */
};

/* Takes note of all mirrors that there are. BJ_OK or BJ_E_NOMEM. */
int copies_note(struct copies *copies, const struct disks *now);
void copies_forget(struct copies *copies, const char *target);
void copies_clear(struct copies *copies);

/* Its end has come, and what is left to ask is whether it has switched the disk. */
void copies_end(struct copies *copies, const char *target);
bool copies_has_switched(const struct copies *copies, const char *target, const struct disks *now);

/* What has become of the last that was noted on the disk, and has not ended. */
enum copy_fate copies_fate(const struct copies *copies, const char *target,
                           const struct disks *now);

/* Where such a one leads to; NULL: not known. Belongs to the copies. */
const char *copies_mirror(const struct copies *copies, const char *target);
bool copies_is_commit(const struct copies *copies, const char *target);

#endif
