/* SPDX-License-Identifier: MIT */
/*
 * Another client: a small blocking QMP client that shares no code with the library. It sets
 * scenes, gives verbs behind the library's back, and says what QEMU itself knows.
 */
#ifndef TESTS_CLIENT_H
#define TESTS_CLIENT_H

#include <jansson.h>

/* JSON({"speed": 1}) is the string of that text. */
#define JSON(...) #__VA_ARGS__

typedef struct client client;

/* Connects to a UNIX socket and negotiates. */
client *client_open(const char *path);
void client_close(client *c);

/* One command, its arguments by a printf format or NULL; the caller owns the whole reply. */
json_t *client_try(client *c, const char *command, const char *format, ...);

/* The same for a command that must succeed; answers its "return". */
json_t *client_do(client *c, const char *command, const char *format, ...);

/* The next event of that name whose data has `key` = `value`; it may have come earlier. */
void client_await(client *c, const char *event, const char *key, const char *value);

/* JOB_STATUS_CHANGE of the job `id` to `status`. */
void client_await_status(client *c, const char *id, const char *status);

/* Reads to the end of the connection: how the job `id` ended, BLOCK_JOB_COMPLETED or _CANCELLED; ""
 * if it did not say. */
const char *client_last_of(client *c, const char *id);

#endif
