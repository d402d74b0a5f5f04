/* SPDX-License-Identifier: MIT */
/*
 * Attaching to a job that is there already: two functions of the tracker's port.
 */
#ifndef BJ_API_ATTACH_H
#define BJ_API_ATTACH_H

#include "model/tracker.h"

void attach_answered(struct tracker *tracker, struct attachment *attachment, int error);
bool attach_name(struct tracker *tracker, struct attachment *attachment); /* name */

#endif
