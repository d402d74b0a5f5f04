/* SPDX-License-Identifier: MIT */
/*
 * A monitor whose connection has ended and is being made again (B45, B46). The loop's thread.
 */
#ifndef BJ_RECONNECT_H
#define BJ_RECONNECT_H

#include "monitor.h"

struct reconnect;

/* The connection has ended: tries until the monitor's time is over. False: no memory. */
bool reconnect_begin(bj_monitor *monitor, struct text *why);

/* An attempt has failed / succeeded. */
void reconnect_failed(bj_monitor *monitor, struct text *why);
void reconnect_done(bj_monitor *monitor);

void reconnect_free(struct reconnect *reconnect); /* takes NULL */

#endif
