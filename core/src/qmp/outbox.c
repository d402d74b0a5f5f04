/* SPDX-License-Identifier: MIT */
/*
 * The commands on their way; see outbox.h.
 */
#include "qmp/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct command {
    struct command *next;
    struct driver_request *request; /* NULL: nobody waits for the reply */
    uint64_t id;
    bool urgent;
    bool is_dismissal;
    char *line; /* NULL once it is written */
    size_t len;
    size_t written;
    char name[]; /* what an old QEMU's reply without id is matched by (B59) */
};

void outbox_init(struct outbox *outbox, uint64_t first_id, size_t in_flight_limit,
                 size_t queued_limit)
{
    *outbox = (struct outbox){
        .next_id = first_id,
        .in_flight_limit = in_flight_limit,
        .queued_limit = queued_limit,
    };
    outbox->queued_last = &outbox->queued;
    outbox->in_flight_last = &outbox->in_flight;
}

bool outbox_is_full(const struct outbox *outbox)
{
    return outbox->queued_count >= outbox->queued_limit;
}

bool outbox_is_empty(const struct outbox *outbox)
{
    return !outbox->in_flight && !outbox->queued;
}

/* ------------------------------------------------------------------- commands */

/* 2.12 has the second only. */
static bool is_dismissal(const char *name)
{
    return strcmp(name, "job-dismiss") == 0 || strcmp(name, "block-job-dismiss") == 0;
}

struct command *command_new(struct outbox *outbox, const char *name, const char *arguments,
                            bool urgent)
{
    size_t name_size = strlen(name) + 1;
    struct command *command = calloc(1, sizeof *command + name_size);
    if (!command)
        return NULL;
    memcpy(command->name, name, name_size);
    command->id = outbox->next_id++;
    command->line = message_command(name, arguments, command->id, &command->len);
    if (!command->line) {
        free(command);
        return NULL;
    }
    command->urgent = urgent;
    command->is_dismissal = is_dismissal(name) && urgent;
    return command;
}

void command_free(struct command *command)
{
    if (command)
        free(command->line);
    free(command);
}

static void give_reply(struct command *command, struct driver_reply *reply)
{
    struct driver_request *request = command->request;
    command->request = NULL;
    if (request)
        request->done(request, reply);
}

void command_answer(struct command *command, struct driver_reply *reply)
{
    give_reply(command, reply);
    command_free(command);
}

/* -------------------------------------------------------------------- sending */

static struct command *take_queued(struct outbox *outbox)
{
    struct command *command = outbox->queued;
    outbox->queued = command->next;
    if (!outbox->queued)
        outbox->queued_last = &outbox->queued;
    outbox->queued_count--;
    return command;
}

static void add_in_flight(struct outbox *outbox, struct command *command)
{
    free(command->line);
    command->line = NULL;
    command->next = NULL;
    *outbox->in_flight_last = command;
    outbox->in_flight_last = &command->next;
    outbox->in_flight_count++;
}

/* False when the socket takes no more now. */
static bool write_command(struct command *command, int fd)
{
    while (command->written < command->len) {
        ssize_t n = send(fd, command->line + command->written, command->len - command->written,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            shutdown(fd, SHUT_RDWR); /* reading gives what QEMU still said, then the end */
        if (n < 0)
            return false;
        command->written += (size_t)n;
    }
    return true;
}

bool outbox_write(struct outbox *outbox, int fd)
{
    while (outbox->queued && outbox->in_flight_count < outbox->in_flight_limit) {
        if (!write_command(outbox->queued, fd))
            return false;
        add_in_flight(outbox, take_queued(outbox));
    }
    return true;
}

/* Verbs go before everything that is not half written: a pivot must not wait for a list. */
void outbox_put(struct outbox *outbox, struct command *command, struct driver_request *request)
{
    struct command **link = outbox->queued_last;
    if (command->urgent)
        for (link = &outbox->queued; *link && ((*link)->urgent || (*link)->written > 0);)
            link = &(*link)->next;

    command->request = request;
    command->next = *link;
    *link = command;
    if (!command->next)
        outbox->queued_last = &command->next;
    outbox->queued_count++;
}

/* -------------------------------------------------------------- without replies */

static void take_out(struct outbox *outbox, struct command **link)
{
    struct command *command = *link;
    *link = command->next;
    if (outbox->queued_last == &command->next)
        outbox->queued_last = link;
    outbox->queued_count--;
}

bool outbox_withdraw(struct outbox *outbox, const struct driver_request *request)
{
    for (struct command **link = &outbox->queued; *link; link = &(*link)->next) {
        struct command *command = *link;
        if (command->request != request || command->written > 0)
            continue;
        take_out(outbox, link);
        command_free(command);
        return true;
    }
    return false;
}

static void fail_all(struct command *command, int error, const char *text)
{
    while (command) {
        struct command *next = command->next;
        command_answer(command,
                       &(struct driver_reply){.error = error, .is_lost = true, .text = text});
        command = next;
    }
}

/* Those that QEMU has seen nothing of and need not; in their order. */
static struct command *take_unwritten(struct outbox *outbox)
{
    struct command *taken = NULL, **taken_last = &taken, **link = &outbox->queued;

    while (*link) {
        struct command *command = *link;
        if (command->is_dismissal || command->written > 0) {
            link = &command->next;
            continue;
        }
        take_out(outbox, link);
        command->next = NULL;
        *taken_last = command;
        taken_last = &command->next;
    }
    return taken;
}

static void abandon_all(struct command *command, int error, const char *text)
{
    for (; command; command = command->next)
        if (!command->is_dismissal)
            give_reply(command,
                       &(struct driver_reply){.error = error, .is_lost = true, .text = text});
}

void outbox_abandon(struct outbox *outbox, int error, const char *text)
{
    struct command *unwritten = take_unwritten(outbox);
    abandon_all(outbox->in_flight, error, text);
    abandon_all(outbox->queued, error, text);
    fail_all(unwritten, error, text);
}

void outbox_fail(struct outbox *outbox, int error, const char *text)
{
    struct command *in_flight = outbox->in_flight;
    struct command *queued = outbox->queued;
    outbox->in_flight = outbox->queued = NULL;
    fail_all(in_flight, error, text);
    fail_all(queued, error, text);
}

/* -------------------------------------------------------------------- replies */

static struct command **find_id(struct outbox *outbox, int64_t id)
{
    for (struct command **link = &outbox->in_flight; *link; link = &(*link)->next)
        if ((int64_t)(*link)->id == id)
            return link;
    return NULL;
}

/* A reply without id (B59): 2.12 sends one for a command that it has not; RHEL 6.2 for its cancel;
 * all for what they can't parse, in the order of the commands. */
static struct command **find_without_id(struct outbox *outbox, const struct message *message,
                                        qmp_has_command *has_command, void *user)
{
    bool is_error = message->kind == MESSAGE_ERROR;
    bool unknown = is_error && strcmp(message->name, "CommandNotFound") == 0;

    for (struct command **link = &outbox->in_flight; *link; link = &(*link)->next) {
        const char *name = (*link)->name;
        if (unknown ? !has_command(user, name) : strcmp(name, "block_job_cancel") == 0)
            return link;
    }
    bool is_first = is_error || outbox->in_flight_count == 1;
    return outbox->in_flight && is_first ? &outbox->in_flight : NULL;
}

struct command *outbox_match(struct outbox *outbox, const struct message *message,
                             qmp_has_command *has_command, void *user)
{
    struct command **link = message->has_id ? find_id(outbox, message->id)
                                            : find_without_id(outbox, message, has_command, user);
    struct command *command = link ? *link : NULL;
    if (!command)
        return NULL;
    *link = command->next;
    if (outbox->in_flight_last == &command->next)
        outbox->in_flight_last = link;
    outbox->in_flight_count--;
    return command;
}
