/* SPDX-License-Identifier: MIT */
/*
 * Jobs that a program remembers from an earlier life: memos become runs of a monitor's tracker,
 * which finds out what became of them.
 */
#ifndef BJ_API_RECALL_H
#define BJ_API_RECALL_H

#include "api/memo_text.h"
#include "api/monitor.h"
#include "base/text.h"

struct recalled {
    struct memo memo;
    struct text *text; /* as it was given */
};

struct recall {
    size_t count;
    struct recalled *memos;
};

/* Any thread. Of several memos of one run the latest counts. BJ_OK, BJ_E_INVAL, BJ_E_NOMEM; in any
 * case recall_clear() will do. */
int recall_read(const char *const *memos, size_t count, struct recall *ret);
void recall_clear(struct recall *recall);

/* The loop's thread, while there is a connection; then tracker_observe() or tracker_seek(). Clears
 * it. Returns how many runs could not be followed. */
size_t recall_begin(bj_monitor *monitor, struct recall *recall);

#endif
