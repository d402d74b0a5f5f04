/* SPDX-License-Identifier: MIT */
/*
 * What goes over a monitor's wire, for the program's function and for watches.
 */
#ifndef BJ_API_TRACE_H
#define BJ_API_TRACE_H

#include "api/monitor.h"

void trace_init(bj_monitor *monitor);
struct wire_tap *trace_tap(void *user); /* of the driver's sink */

/* Before the monitor is opened: a watch of its wire. NULL: no memory. */
bj_watch *trace_watch(bj_monitor *monitor, int flags);

/* The loop's thread: there is no wire any more. */
void trace_end(bj_monitor *monitor, int error, struct text *text);

/* BJ_OK, or why there can be no such trace. */
int trace_check(const bj_monitor *monitor, int flags);

#endif
