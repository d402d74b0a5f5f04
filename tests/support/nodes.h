/* SPDX-License-Identifier: MIT */
/*
 * The steps of tests/support/qemu, as functions: what a test does to the world's QEMU behind the
 * library's back, disks for jobs, and the state of both.
 */
#ifndef TESTS_NODES_H
#define TESTS_NODES_H

#include "world.h"

/* As options of a job: it copies a first piece and then stands still, until its speed is set to 0.
 * So a test can look at a running job as long as it likes. A mirror's first piece is all there is,
 * so that a resume makes it ready; halted early it is 64 KiB. */
#define HALTED JSON({"speed": 1})
#define HALTED_EARLY JSON({"speed": 1, "buf-size": 65536})

/* As options of a mirror: it is under way for long enough to be met in the middle, and wakes up
 * often enough to notice that it shall pause: an old QEMU's job sleeps on. */
#define CREEPING JSON({"speed": 262144, "buf-size": 65536})

/* Starts a "daemon" or a "system" in the world's directory. With `tcp`, an address of this machine,
 * its first monitor is on a port there, which is answered. */
int start_qemu(world *w, const char *program, const char *tcp);

/* Kills it without a word to anyone; stops it; lets it go on. */
void kill_qemu(world *w);
void stop_qemu(world *w);
void go_on_qemu(world *w);

/* Ends this process's only connection to that socket, as QEMU might. */
void cut_connection(const char *path);

/* One command that must succeed, its arguments by a printf format or NULL; its "return", which
 * lives as long as the world. */
json_t *qmp(world *w, const char *command, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The next event of that name whose data has `key` = `value`; it may have come earlier. */
void await_event(world *w, const char *event, const char *key, const char *value);

/* JOB_STATUS_CHANGE of the job `id` to `status`. */
void await_status(world *w, const char *id, const char *status);

/* Waits until QEMU has gone: how the job `id` ended, BLOCK_JOB_COMPLETED or _CANCELLED; "" if it
 * did not say. */
const char *last_event_of(world *w, const char *id);

/* A raw disk full of data, and an empty one of the same size; NAME.raw in the directory. */
void add_disk(world *w, const char *name);
void add_empty(world *w, const char *name);
bool same_data(world *w, const char *one, const char *other);

/* A disk without a file. */
void add_null(world *w, const char *name, int bytes);

/* An empty disk of which the next `iotype` ("write" to its middle, "flush"), or all, fail with EIO.
 */
void add_failing_once(world *w, const char *name, const char *iotype);
void add_failing(world *w, const char *name, const char *iotype);

/* An empty disk that takes its first write and hardly any more, until the brake is released. What
 * is in flight then can't be cancelled. Skips the test where QEMU has no such brake. */
void add_braked(world *w, const char *name);
void release_brake(world *w, const char *name);

/* An empty disk of which the next write to its middle finds no space left. */
void add_full(world *w, const char *name);

/* An empty disk that has a server of its own, which stops answering, and goes on. */
void add_served(world *w, const char *name);
void hang(world *w, const char *name);
void answer(world *w, const char *name);

/* qcow2 disks "base" <- "middle" <- "active", with data of its own in each. */
void add_chain(world *w);

/* The node that backs another one now, "" for none. */
const char *backing_of(world *w, const char *name);

/* A guest that has the node as its disk (an NBD client); its writing to several places of it; and
 * the node that is its disk now: jobs switch it. */
void add_guest(world *w, const char *node);
void guest_writes(world *w, const char *node);
const char *disk_of_guest(world *w);

/* What query-jobs answers: a status, "" for a job it doesn't list. */
const char *status_of(world *w, const char *id);
size_t count_jobs(world *w);

#endif
