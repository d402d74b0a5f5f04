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

enum { STARTERS = 10 };

struct starter {
    const char *command;
    const char *type;
    bool auto_dismisses; /* the others are never dismissed by QEMU anyway */
};

/* NULL: not one we know; of such jobs QEMU tells the type. */
const struct starter *starter_of(const char *command);

/* What they take, and who waits to know. */
struct starters {
    bool known;
    bool modern;                   /* 4.0 and later: also those that we don't know take an id */
    unsigned char takes[STARTERS]; /* enum driver_takes */

    struct driver_request request; /* for the schema */
    bool under_way;
    struct driver_request *waiting;
    size_t waiting_count;
};

/* From the list of commands, as far as that tells. */
void starters_init(struct starters *starters, qmp_has_command *has, void *user);
/* enum driver_takes; -1: not known yet. */
int starters_take(const struct starters *starters, const char *command);

/* `request` is done once the schema is known, in its turn. */
void starters_wait(struct starters *starters, struct driver_request *request);
bool starters_leave(struct starters *starters, const struct driver_request *request);
void starters_answer(struct starters *starters, struct driver_reply *reply);

/* The reply to query-qmp-schema. What is not in it, no command takes. */
void starters_learn(struct starters *starters, const json_t *schema);

#endif
