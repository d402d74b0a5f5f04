/* SPDX-License-Identifier: MIT */
/*
 * libvirt's event loop, of which a process has one: ours, on a thread of its own, where the program
 * has registered none (B68).
 */
#ifndef BJ_SERVICE_H
#define BJ_SERVICE_H

/* Any thread; before a connection is opened. The first call registers our loop unless libvirt has
 * one by then; others find what the first has done. Once registered it serves the process to its
 * end, the program's own connections included. BJ_OK, BJ_E_NOMEM, BJ_E_SYSTEM. */
int service_start(void);

#endif
