/* SPDX-License-Identifier: MIT */
/*
 * The commands on their way to one QEMU: queued, written, and in flight until their replies come.
 *
 * So many are in flight at a time; the rest waits, urgent ones first. A reply finds its command by
 * the id, and without one as B59 has it. No I/O but send(); the loop's thread.
 */
#ifndef BJ_OUTBOX_H
#define BJ_OUTBOX_H

#include "driver.h"
#include "protocol.h"

#include <stdint.h>

/* A command from when it is made until its reply. */
struct command;

struct outbox {
    uint64_t next_id;
    struct command *queued; /* the first may be half written */
    struct command **queued_last;
    size_t queued_count;
    struct command *in_flight;
    struct command **in_flight_last;
    size_t in_flight_count;
    size_t in_flight_limit;
    size_t queued_limit; /* for whom outbox_is_full() matters */
};

void outbox_init(struct outbox *outbox, uint64_t first_id, size_t in_flight_limit,
                 size_t queued_limit);

/* `arguments` as protocol_command() takes them. An urgent one goes before those that are not. NULL:
 * no memory. */
struct command *outbox_make(struct outbox *outbox, const char *name, const char *arguments,
                            bool urgent);
void command_free(struct command *command); /* one that was not put into it; takes NULL */

/* Takes the command over; `request` is told the reply, or why there is none. */
void outbox_put(struct outbox *outbox, struct command *command, struct driver_request *request);

/* Writes what may be in flight. False when the socket takes no more now. */
bool outbox_write(struct outbox *outbox, int fd);

bool outbox_is_full(const struct outbox *outbox);
bool outbox_is_empty(const struct outbox *outbox); /* QEMU owes nothing */

/* False: it was written, or is not there. */
bool outbox_withdraw(struct outbox *outbox, const struct driver_request *request);

/* Answers all but our dismissals, and forgets what QEMU has seen nothing of; the replies to the
 * rest still come. */
void outbox_abandon(struct outbox *outbox, int error, const char *text);

/* Answers all, and is empty. */
void outbox_fail(struct outbox *outbox, int error, const char *text);

/* Takes out the command that this reply is for, to be given to command_answer(). NULL: there is
 * none. */
struct command *outbox_match(struct outbox *outbox, const struct message *message,
                             bool (*has_command)(void *user, const char *command), void *user);

/* Tells whoever waits for it, and frees it. */
void command_answer(struct command *command, struct driver_reply *reply);

#endif
