/* SPDX-License-Identifier: MIT */
/*
 * A monitor whose connection has ended and is being made again (B45, B46). The loop's thread.
 */
#ifndef BJ_API_RECONNECT_H
#define BJ_API_RECONNECT_H

#include "api/monitor.h"

struct reconnect;

/* The connection has ended: tries until the monitor's time is over. False: no memory. */
bool reconnect_begin(bj_monitor *monitor);

/* An attempt has failed, and another would be in vain if what is sought is no more; one has
 * succeeded, with this driver, and it is over. */
bool reconnect_is_in_vain(const bj_monitor *monitor);
/* One waits until what is sought is started again, which has no other limit than the monitor's; and
 * nobody wants that any more. */
void reconnect_waits(bj_monitor *monitor);
void reconnect_is_unwanted(bj_monitor *monitor);
void reconnect_failed(bj_monitor *monitor, struct text *why, bool in_vain);
struct driver *reconnect_done(bj_monitor *monitor);

void reconnect_free(struct reconnect *reconnect); /* gives up; takes NULL */

#endif
