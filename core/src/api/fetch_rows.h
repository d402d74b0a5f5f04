/* SPDX-License-Identifier: MIT */
/*
 * QEMU's job list, for the tracker of a monitor: two functions of its port.
 */
#ifndef BJ_API_FETCH_ROWS_H
#define BJ_API_FETCH_ROWS_H

#include "model/tracker.h"

void fetch_rows(struct tracker *tracker);                    /* ask_list */
void fetch_rows_saw(struct run *run, const struct row *row); /* saw */

#endif
