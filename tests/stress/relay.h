/* SPDX-License-Identifier: MIT */
/*
 * Stands between a client and QEMU, and hangs up on both when told: so a connection ends while QEMU
 * lives on.
 */
#ifndef STRESS_RELAY_H
#define STRESS_RELAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct relay {
    pthread_t thread;
    int listener;
    int wake[2];
    atomic_bool over;
    const char *target; /* QEMU's socket; must outlive the relay */
} relay;

void relay_start(relay *r, const char *path, const char *target);
void relay_cut(relay *r); /* any thread */
void relay_end(relay *r);

#endif
