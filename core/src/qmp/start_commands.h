/* SPDX-License-Identifier: MIT */
/*
 * The commands that start jobs, and what each takes on the QEMU at hand. Asked of QEMU where its
 * list of commands does not tell; no I/O here.
 */
#ifndef BJ_QMP_START_COMMANDS_H
#define BJ_QMP_START_COMMANDS_H

#include "driver/driver.h"
#include "qmp/job_words.h"

#include <jansson.h>

enum { START_COMMANDS = 10 };

struct start_command {
    const char *command;
    const char *type;
    bool auto_dismisses; /* the others are never dismissed by QEMU anyway */
};

/* NULL: not one we know; of such jobs QEMU tells the type. */
const struct start_command *start_command_find(const char *command);

/* What they take, and who waits to know. */
struct start_commands {
    bool known;
    bool modern; /* 4.0 and later: also those that we don't know take an id */
    unsigned char takes[START_COMMANDS]; /* enum driver_takes */

    struct driver_request request; /* for the schema */
    bool under_way;
    struct driver_request *waiting;
    size_t waiting_count;
};

/* From the list of commands, as far as that tells. */
void start_commands_init(struct start_commands *commands, qmp_has_command *has, void *user);
/* enum driver_takes; -1: not known yet. */
int start_commands_take(const struct start_commands *commands, const char *command);

/* `request` is done once the schema is known, in its turn. */
void start_commands_wait(struct start_commands *commands, struct driver_request *request);
bool start_commands_leave(struct start_commands *commands, const struct driver_request *request);
void start_commands_answer(struct start_commands *commands, struct driver_reply *reply);

/* The reply to query-qmp-schema. What is not in it, no command takes. */
void start_commands_learn(struct start_commands *commands, const json_t *schema);

#endif
