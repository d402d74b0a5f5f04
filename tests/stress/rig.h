/* SPDX-License-Identifier: MIT */
/*
 * A QEMU to be ill-treated, and the witness: a client on a monitor of its own that shares nothing
 * with the library, keeps every event, gives verbs without waiting, and says what became of disks.
 */
#ifndef STRESS_RIG_H
#define STRESS_RIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PATH_BYTES 108

typedef struct rig {
    char path[2][PATH_BYTES];    /* of the sockets for two clients of the library */
    char relayed[2][PATH_BYTES]; /* and where they go when their connections are to be cut */
    pid_t pid;
    int fd;          /* the witness's; -1 when there is no QEMU */
    bool over;       /* nothing more comes from it */
    json_t *events;  /* all, in order */
    json_t *replies; /* by id, as text */
    uint64_t next_id;
    char *rest; /* of the last line read */
    size_t rest_length;
} rig;

/* The rig's sockets are in `dir`, by the number of the lane. */
void rig_init(rig *r, const char *dir, int lane);

/* Starts QEMU and waits until the witness is served; false if that did not come about. */
bool rig_start(rig *r, bool system);

/* Kills it if it lives, reads what it has said, and waits for it; answers how it had ended. */
int rig_end(rig *r);

/* True while QEMU's process has not ended. */
bool rig_lives(rig *r);

/* Sends a command and does not wait; answers its id, or 0 if QEMU is gone. */
uint64_t rig_send(rig *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sends it and waits for the whole reply, which the caller owns; NULL if QEMU is gone or silent. */
json_t *rig_ask(rig *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes in what has come, and waits up to that long for the first of it. */
void rig_read(rig *r, int timeout_ms);

/* How the `run`th run of the job `id` ended: the event's name; "" if it was not told. `ret_data`
 * is the event's data. */
const char *last_of(json_t *events, const char *id, int run, json_t **ret_data);
bool was_ready(json_t *events, const char *id, int run);

#endif
