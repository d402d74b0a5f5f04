/* SPDX-License-Identifier: MIT */
/*
 * Reads QEMU's block graph, and keeps what model/switch.h records of it. No I/O.
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

/* `id` is the job's; in query-block's list the device's. NULL: it does not show that job, or no
 * memory; so for a graph that is NULL. */
struct driver_snapshot *qmp_graph_snapshot(const struct qmp_graph *graph, const char *id);
struct driver_snapshot *qmp_hold_snapshot(struct driver_snapshot *snapshot);
void qmp_free_snapshot(struct driver_snapshot *snapshot); /* takes NULL */

json_t *qmp_write_snapshot(const struct driver_snapshot *snapshot);
struct driver_snapshot *qmp_read_snapshot(const json_t *json);

/* Without a snapshot of before, only a job that has nothing to switch to is told, while it is
 * listed. */
enum disk_switch qmp_graph_compare(const struct driver_snapshot *before,
                                   const struct qmp_graph *graph, const char *id);

#endif
