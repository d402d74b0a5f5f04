/* SPDX-License-Identifier: MIT */
/*
 * Ends that a QEMU has no event for: their event is made up, once (B57, B58). No I/O.
 */
#ifndef BJ_QMP_MADE_UP_ENDS_H
#define BJ_QMP_MADE_UP_ENDS_H

#include "driver/driver.h"

/* QEMU's own event may yet come for so many; the oldest are forgotten. */
enum { MADE_UP_MAX = 16 };

struct made_up_ends {
    struct text *ids[MADE_UP_MAX];
    int next;
};

void made_up_ends_add(struct made_up_ends *ends, struct text *id);
void made_up_ends_clear(struct made_up_ends *ends);

/* The fact is such an end, whose event was made up before it came; that is true once for each. */
bool made_up_ends_take(struct made_up_ends *ends, const struct fact *fact);

/* The data of the event, as QEMU would have it: JSON, for free(). NULL: no memory. */
char *made_up_end_data(const struct driver_end *end);

#define MADE_UP_END_EVENT "BLOCK_JOB_CANCELLED"

#endif
