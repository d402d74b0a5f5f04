/* SPDX-License-Identifier: MIT */
/*
 * How a run is started on the QEMU at hand: by which command, under which id, with what added to
 * the caller's arguments.
 */
#ifndef BJ_DRIVER_START_PLAN_H
#define BJ_DRIVER_START_PLAN_H

#include "base/text.h"

#include <stdbool.h>
#include <stdlib.h>

/* The usual jobs are started by these names with every driver. */
#define START_MIRROR "blockdev-mirror"
#define START_COMMIT "block-commit"
#define START_STREAM "block-stream"
#define START_BACKUP "blockdev-backup"

struct start_plan {
    const char *command; /* or the name that this QEMU has for it */
    char *id;            /* "" if nothing says it */
    char *members;       /* for json_text_add_members(), before the caller's own; may be "" */
    char *device;        /* what it runs on; NULL: not known */
    char *disks; /* the domain's disks that it works on, a newline after each; NULL: the same */
    const char *type;      /* "" if QEMU will have to report it */
    bool ours;             /* dismissed by us once it is over (B40) */
    bool has_own_id;       /* the id was made up for it */
    bool kept;             /* the caller will dismiss it */
    bool replaces;         /* a second complete might end QEMU (B32) */
    struct text *run_data; /* the driver's own, for the verbs of this run; NULL: nothing */
};

static inline void start_plan_clear(struct start_plan *plan)
{
    free(plan->id);
    free(plan->members);
    free(plan->device);
    free(plan->disks);
    text_unref(plan->run_data);
}

#endif
