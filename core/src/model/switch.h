/* SPDX-License-Identifier: MIT */
/*
 * Was the disk switched? QEMU's events of a pivot and of a soft cancel are the same, so where
 * another client gave the verb the block graph is compared with what it was (B15).
 *
 * While a mirror or an active commit is at work, a filter sits above its source, and whoever used
 * the source uses the filter:
 *
 *        before                at work                   pivoted          soft cancel
 *
 *     user                  user                      user             user
 *       |                     |                         |                |
 *       |                   filter ---- job           target           source    target
 *       |                     |          :
 *     source   target       source    target          source
 *
 * A mirror with `replaces` switches a node below its source instead: the users stay where they are,
 * and what led to that node leads to the target.
 *
 * Where nobody uses the source, source and target look the same afterwards, whatever was done. Only
 * a QEMU before 6.1 shows it, as its filter lives as long as the job.
 */
#ifndef BJ_MODEL_SWITCH_H
#define BJ_MODEL_SWITCH_H

#include "model/graph.h"
#include "model/words.h"

/* ---------------------------------------------------------------- the graph */

/* One edge, by what is the same in every query. */
struct switch_place {
    enum graph_kind kind;
    const char *parent;
    const char *edge;
};

/* That is more than a disk has: the nearest are taken, and fewer where names are long. */
#define SWITCH_PLACES_MAX 16

/* What the graph showed while the job was at work. All names are the graph's, until whoever keeps
 * this replaces them with copies. */
struct switch_before {
    bool has_target; /* else it is an intermediate commit, and nothing else here is set */
    const char *source, *target;
    bool is_used; /* by someone who can be found again, or counted */
    size_t above_count, below_count;
    struct switch_place above[SWITCH_PLACES_MAX]; /* they lead to the source */
    struct switch_place below[SWITCH_PLACES_MAX]; /* the source leads to them: `replaces` */
    /* Exports have no names and can only be counted. Those of the job itself are left out. */
    size_t exports, source_exports, target_exports;
};

/* False: the graph does not show what the job does. */
bool switch_record(const struct block_graph *graph, const char *job, struct switch_before *ret);

enum disk_switch switch_compare(const struct switch_before *before,
                                const struct block_graph *after);

/* --------------------------------------------------------------- the device */

/* A QEMU before 4.0 does not show its graph, but what each device has in it: a job whose device is
 * known has switched it when it is another image than before. "" for what is not known. */
struct switch_device {
    const char *name, *qdev;
    const char *node, *driver, *file; /* of the image in it */
};

bool switch_is_same_device(const struct switch_device *before, const struct switch_device *now);

/* `is_covered`: the old image lies under the new one, as another client has made a snapshot right
 * after the job. */
enum disk_switch switch_compare_device(const struct switch_device *before,
                                       const struct switch_device *now, bool is_covered);

#endif
