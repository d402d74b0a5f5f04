/* SPDX-License-Identifier: MIT */
/* What the files of the tracker share; nobody else includes it. */
#ifndef BJ_MODEL_TRACKER_PARTS_H
#define BJ_MODEL_TRACKER_PARTS_H

#include "model/tracker.h"

#include <stddef.h>
#include <string.h>

/* ------------------------------------------------------------ tracker_runs.c */

#define NOTHING_REMEMBERED (~0u) /* of run->remembered: it is to be told anew */

/* How it is known that a run has begun: by an event, by a start that was accepted, or by its row.
 */
enum beginning { HEARD, STARTED, LISTED };

/* A new run has the id, and takes over whatever is about it. NULL: no memory, or more jobs than the
 * limit. `start`: it may be this one's; STARTED: it is. */
struct run *tracker_begin(struct tracker *t, const char *id, const char *type, struct start *start,
                          enum beginning how);
/* Whoever had the id last, and may have it still; NULL: nobody who is tracked. */
struct run *tracker_find_last(const struct tracker *t, const char *id);

/* Another run has the id: what has no reply yet never reached the last one. */
void tracker_supersede(struct tracker *t, const char *id);

/* One more order names it, or one less. */
struct run *run_take(struct run *run);
void run_give_back(struct run *run);

/* A reply was lost: there is no connection, which tracker_away() or tracker_over() will confirm. */
void tracker_note_lost(struct tracker *t);

/* Whatever its id and the connection are. */
void run_send(struct run *run, enum verb verb, struct waiter *waiter);

/* Into `runs`; as the last that has the id. */
void run_track(struct run *run);
void run_enter_tree(struct run *run);
void run_vacate(struct run *run);   /* it has its id no more */
void run_announce(struct run *run); /* unless that is too early */

/* To be followed by tracker_settle(). */
void run_touch(struct run *run);
/* The last act of every entry: what follows from what has happened. */
void tracker_settle(struct tracker *t);

/* The graph was compared for it, or can't be. */
void run_compared(struct run *run, enum disk_switch result);

/* Those who observe all jobs are to have it. */
void run_observe(struct run *run);
void run_want_snapshot(struct run *run);
void run_mark_row_wanted(struct run *run);

/* ---------------------------------------------------------- tracker_orders.c */

/* The run's row, its absence or the list's failure, as they are. */
void run_feed_row(struct run *run, const struct row *row);

struct start *tracker_find_start(const struct tracker *t, const char *id);
/* A new run has the id, or a new one that can't be followed (NULL): what is on its way and names
 * the id is about it. `start`: it may be its; NULL: it is nobody's. */
void tracker_hand_on(struct tracker *t, const char *id, struct run *run, struct start *start,
                     enum beginning how);
/* A run that was not known has ended. */
void tracker_note_ended(struct tracker *t, const char *id);

void tracker_answer_attachments(struct tracker *t, int error); /* all */
void run_answer_attachments(struct run *run, int error); /* those that wait for its snapshot */

/* ---------------------------------------------------------- tracker_memory.c */

/* Of a run with a memory: what its row, its absence and the graph say of it. */
void run_recall_by_row(struct run *run, const char *type, const struct row *row);
void run_recall_by_absence(struct run *run); /* then its machine may hear of it as well */
void run_recall_by_graph(struct run *run, enum disk_switch seen);
/* It has ended without these. */
void run_recall_by_end(struct run *run);
/* This may be of another QEMU's job, and nothing shows whether it is. */
bool run_doubts_fact(const struct run *run, const struct fact *fact);
void run_drop_doubtful(struct run *run);
/* Nobody will find out any more: then nothing is reported of it, and the memory stays good. */
void run_forget_recalled(struct run *run);

#endif
