/* SPDX-License-Identifier: MIT */
/*
 * Was the disk switched? QEMU's events of a pivot and of a soft cancel are the same, so where
 * another client gave the verb the block graph is compared with what it was (B15). No I/O.
 */
#ifndef BJ_QMP_BLOCK_GRAPH_H
#define BJ_QMP_BLOCK_GRAPH_H

#include "driver/driver.h"

#include <jansson.h>

/* What x-debug-query-block-graph (QEMU 4.0) says, or before 4.0 query-block, made ready for any
 * number of snapshots and comparisons; `root` must outlive it. NULL: larger than any QEMU's, or no
 * memory. */
struct qmp_graph;
struct qmp_graph *qmp_graph_open(const json_t *root);
void qmp_graph_close(struct qmp_graph *graph); /* takes NULL */

/* The users of a job's source when the snapshot was taken, and what is source and target; or what
 * was in the device. */
struct driver_snapshot;

/* `id` is the job's; in query-block's list the device's. NULL: it does not show that job, or no
 * memory; so for a graph that is NULL. */
struct driver_snapshot *qmp_graph_snapshot(const struct qmp_graph *graph, const char *id);
void qmp_free_snapshot(struct driver_snapshot *snapshot); /* takes NULL */

enum disk_switch qmp_graph_compare(const struct driver_snapshot *before,
                                   const struct qmp_graph *graph);

#endif
