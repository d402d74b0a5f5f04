/* SPDX-License-Identifier: MIT */
/*
 * Which process and which thread this is. Numbers of the kernel will not do: two processes may both
 * be number 1, each in a namespace of its own, and a pthread_t is soon used again. Any thread.
 */
#ifndef BJ_BASE_PROCESS_H
#define BJ_BASE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* From here on a child of fork() is known by its generation. BJ_OK, BJ_E_NOMEM. */
int process_count_forks(void);

/* Differs between a process and each child that it forks; no system call. */
unsigned process_generation(void);

/* The kernel's number of this thread; a system call only the first time. */
pid_t thread_number(void);
bool thread_is_alive(pid_t number); /* of this process */

#endif
