/* SPDX-License-Identifier: MIT */
/*
 * Was the disk switched? QEMU's events of a pivot and of a soft cancel are the same, so where
 * another client gave the verb the block graph is compared with what it was (B15). No I/O.
 */
#ifndef BJ_QMP_GRAPH_H
#define BJ_QMP_GRAPH_H

#include "driver.h"

#include <jansson.h>

/* Who used the source of a job when it was looked at, and what is source and target. Taken from
 * `root`, what x-debug-query-block-graph (QEMU 4.0) says while the job runs; before 4.0 from what
 * query-block says of a device. */
struct driver_sight;

/* `id` is the job's; of query-block's list the device's. NULL: it does not show that job, or no
 * memory. */
struct driver_sight *qmp_see(const json_t *root, const char *id);
void qmp_unsee(struct driver_sight *sight); /* takes NULL */

enum job_switch qmp_compare(const struct driver_sight *before, const json_t *root);

#endif
