/* SPDX-License-Identifier: MIT */
/*
 * The commands on their way to one QEMU: queued, written, and in flight until their replies come.
 *
 * So many are in flight at a time; the rest waits, urgent ones first, and before these what is
 * executed out of band. A reply finds its command by the id, and without one as B59 has it. No I/O
 * but writing to the socket; the loop's thread.
 */
#ifndef BJ_QMP_OUTBOX_H
#define BJ_QMP_OUTBOX_H

#include "base/descriptors.h"
#include "driver/driver.h"
#include "qmp/job_words.h"
#include "qmp/message.h"

#include <stdint.h>

/* A command from when it is made until its reply. */
struct command;

struct wire_tap;

struct outbox {
    uint64_t next_id;
    struct command *queued; /* the first may be half written */
    struct command **queued_last;
    size_t queued_count;
    struct command *in_flight;
    struct command **in_flight_last;
    size_t in_flight_count;
    size_t out_of_band_count;   /* those of them that are executed out of band */
    bool descriptors_in_flight; /* one of them has taken descriptors along */
    size_t in_flight_limit;     /* out of band; and in turn: */
    size_t in_turn_limit;
    bool reads_ahead;           /* QEMU does, while it executes */
    struct wire_tap *tap;       /* where what was sent is told */
    size_t queued_limit;        /* what outbox_is_full() goes by; outbox_put() takes more */
    struct command *unsendable; /* the system refused to send their descriptors */
};

void outbox_init(struct outbox *outbox, uint64_t first_id, struct wire_tap *tap,
                 size_t in_flight_limit, size_t queued_limit);

/* QEMU has agreed to execute commands out of band. */
void outbox_enable_out_of_band(struct outbox *outbox);

/* `arguments` as message_command() takes them. An urgent one goes before those that are not. NULL:
 * no memory. */
struct command *command_new(struct outbox *outbox, const char *name, const char *arguments,
                            bool urgent);
/* The program's own; takes over its descriptors, unless there is no memory. */
struct command *command_new_raw(struct outbox *outbox, const struct driver_command *raw);
/* One that was not put into it, which may be gone by now; takes NULL. */
void command_free(struct command *command);

/* Takes the command over; `request` gets the reply, or why there is none. */
void outbox_put(struct outbox *outbox, struct command *command, struct driver_request *request);

/* Writes what may be in flight. False when the socket takes no more now, or is broken: then it is
 * shut down, and reading tells. Leaves out what is `unsendable`. */
bool outbox_write(struct outbox *outbox, int fd);
/* Answers those. */
void outbox_refuse_unsendable(struct outbox *outbox, const char *uri);

bool outbox_is_full(const struct outbox *outbox);
bool outbox_is_empty(const struct outbox *outbox); /* QEMU owes nothing */

/* True: the command is gone, and the request gets no reply. False: it was written, if only in
 * part, or is not there. */
bool outbox_withdraw(struct outbox *outbox, const struct driver_request *request);

/* Answers all but our dismissals, which still go, and forgets the others that QEMU has seen nothing
 * of. The replies to what was written still come. */
void outbox_abandon(struct outbox *outbox, int error, const char *text);

/* Answers all. The end: nothing may be put into it after. */
void outbox_fail(struct outbox *outbox, int error, const char *text);

/* Takes out the command that this reply is for, to be given to command_answer(). NULL: there is
 * none. */
struct command *outbox_match(struct outbox *outbox, const struct message *message,
                             qmp_has_command *has_command, void *user);

/* Tells whoever waits for it, and frees it. */
void command_answer(struct command *command, struct driver_reply *reply);

#endif
