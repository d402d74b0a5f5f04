/* SPDX-License-Identifier: MIT */
/*
 * The process at the other end of a UNIX socket.
 */
#ifndef BJ_QMP_PEER_H
#define BJ_QMP_PEER_H

#include "driver/driver.h"

/* Who called listen() on it; 0: not known. */
int64_t peer_process(int fd);

/* Which process that is, also for one that connects later: its number and when it began, of this
 * boot of the host. Nothing where it can't be known: of a process in another pid namespace, of one
 * that hides, and of this process, which has only passed the socket on. */
void peer_identify(int fd, int64_t process, struct driver_identity *ret);

#endif
