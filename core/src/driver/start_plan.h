/* SPDX-License-Identifier: MIT */
/*
 * How a run is started on the QEMU at hand: by which command, under which id, with what added to
 * the caller's arguments.
 */
#ifndef BJ_DRIVER_START_PLAN_H
#define BJ_DRIVER_START_PLAN_H

#include <stdbool.h>
#include <stdlib.h>

struct start_plan {
    const char *command; /* or the name that this QEMU has for it */
    char *id;            /* "" if nothing says it */
    char *members;       /* for json_text_add_members(), before the caller's arguments; may be "" */
    char *reopen;        /* RHEL 6.3: the arguments of what switches its disk; NULL: nothing does */
    char *device;        /* what it runs on; NULL: not told */
    const char *type;    /* "" if it will have to be told */
    bool ours;           /* dismissed by us once it is over (B40) */
    bool kept;           /* the caller will dismiss it */
    bool replaces;       /* a second complete might end QEMU (B32) */
};

static inline void start_plan_clear(struct start_plan *plan)
{
    free(plan->id);
    free(plan->members);
    free(plan->device);
    free(plan->reopen);
}

#endif
