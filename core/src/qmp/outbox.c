/* SPDX-License-Identifier: MIT */
/*
 * The commands on their way; see outbox.h.
 */
#include "qmp/outbox.h"
#include "qmp/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct command {
    struct command *next;
    struct driver_request *request; /* NULL: nobody waits for the reply */
    uint64_t id;
    bool urgent;
    bool out_of_band;
    bool is_dismissal;
    bool takes_descriptors;
    int error;                       /* why it can't be sent: errno; 0 */
    struct descriptors *descriptors; /* NULL once they are sent, with the line's first byte */
    char *line;                      /* NULL once it is written */
    size_t len;
    size_t written;
    char name[]; /* what an old QEMU's reply without id is matched by (B59) */
};

void outbox_init(struct outbox *outbox, uint64_t first_id, struct wire_tap *tap,
                 size_t in_flight_limit, size_t queued_limit)
{
    *outbox = (struct outbox){
        .next_id = first_id,
        .tap = tap,
        .in_flight_limit = in_flight_limit,
        .in_turn_limit = in_flight_limit,
        .queued_limit = queued_limit,
    };
    outbox->queued_last = &outbox->queued;
    outbox->in_flight_last = &outbox->in_flight;
}

/* With eight commands to execute QEMU stops reading, and so reads none that is to overtake them;
 * before 4.0 it drops the ninth. */
#define READ_AHEAD_LIMIT 7

void outbox_enable_out_of_band(struct outbox *outbox)
{
    outbox->reads_ahead = true;
    if (outbox->in_turn_limit > READ_AHEAD_LIMIT)
        outbox->in_turn_limit = READ_AHEAD_LIMIT;
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

static struct command *make(struct outbox *outbox, const char *name, const char *arguments,
                            bool out_of_band)
{
    size_t name_size = strlen(name) + 1;
    struct command *command = calloc(1, sizeof *command + name_size);
    if (!command)
        return NULL;
    memcpy(command->name, name, name_size);
    command->id = outbox->next_id++;
    command->line = message_command(name, arguments, command->id, out_of_band, &command->len);
    if (!command->line) {
        free(command);
        return NULL;
    }
    command->out_of_band = out_of_band;
    return command;
}

struct command *command_new(struct outbox *outbox, const char *name, const char *arguments,
                            bool urgent)
{
    struct command *command = make(outbox, name, arguments, false);
    if (!command)
        return NULL;
    command->urgent = urgent;
    command->is_dismissal = is_dismissal(name) && urgent;
    return command;
}

struct command *command_new_raw(struct outbox *outbox, const struct driver_command *raw)
{
    struct command *command = make(outbox, raw->name, raw->arguments, raw->out_of_band);
    if (!command)
        return NULL;
    command->descriptors = raw->descriptors;
    command->takes_descriptors = raw->descriptors != NULL;
    return command;
}

static void close_descriptors(struct command *command)
{
    descriptors_close(command->descriptors);
    command->descriptors = NULL;
}

void command_free(struct command *command)
{
    if (!command)
        return;
    close_descriptors(command);
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
    close_descriptors(command); /* before anyone hears that it is over */
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
    outbox->out_of_band_count += command->out_of_band;
    outbox->descriptors_in_flight |= command->takes_descriptors;
}

/* A message of its own: a socket gives its descriptors to whoever reads its first byte. */
static ssize_t send_with_descriptors(const struct command *command, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DRIVER_DESCRIPTORS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    size_t size = command->descriptors->count * sizeof(int);
    struct iovec line = {.iov_base = command->line, .iov_len = command->len};
    struct msghdr message = {
        .msg_iov = &line,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(size),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), command->descriptors->fds, size);
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t send_some(struct command *command, int fd)
{
    if (!command->descriptors)
        return send(fd, command->line + command->written, command->len - command->written,
                    MSG_NOSIGNAL | MSG_DONTWAIT);
    ssize_t n = send_with_descriptors(command, fd);
    if (n > 0)
        close_descriptors(command);
    return n;
}

static bool is_end_of_connection(int error)
{
    return error == EPIPE || error == ECONNRESET || error == ENOTCONN;
}

/* False when the socket takes no more now; or with command->error. */
static bool write_command(struct command *command, int fd)
{
    while (command->written < command->len) {
        ssize_t n = send_some(command, fd);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return false;
        if (n < 0 && command->descriptors && !is_end_of_connection(errno)) {
            command->error = errno; /* and nothing of it was sent */
            return false;
        }
        if (n < 0) {
            shutdown(fd, SHUT_RDWR); /* reading gives what QEMU still said, then the end */
            return false;
        }
        command->written += (size_t)n;
    }
    return true;
}

/* QEMU keeps the descriptors of one message, those that came last, for the command that it executes
 * then. One that reads ahead would so give a command those of a later one: there, a command with
 * descriptors is alone with QEMU. */
static bool may_go(const struct outbox *outbox, const struct command *command)
{
    size_t in_turn = outbox->in_flight_count - outbox->out_of_band_count;

    if (command->out_of_band)
        return outbox->out_of_band_count < outbox->in_flight_limit;
    if (outbox->reads_ahead && (command->takes_descriptors || outbox->descriptors_in_flight))
        return in_turn == 0;
    return in_turn < outbox->in_turn_limit;
}

static void set_aside(struct outbox *outbox)
{
    struct command **last = &outbox->unsendable;
    while (*last)
        last = &(*last)->next;
    *last = take_queued(outbox);
    (*last)->next = NULL;
}

bool outbox_write(struct outbox *outbox, int fd)
{
    while (outbox->queued && may_go(outbox, outbox->queued)) {
        if (write_command(outbox->queued, fd)) {
            qmp_tell_sent(outbox->tap, outbox->queued->line, outbox->queued->len);
            add_in_flight(outbox, take_queued(outbox));
        } else if (outbox->queued->error) {
            set_aside(outbox);
        } else {
            return false;
        }
    }
    return true;
}

static int rank(const struct command *command)
{
    return command->out_of_band ? 2 : command->urgent;
}

/* Verbs go before everything that is not half written: a pivot must not wait for a list. */
void outbox_put(struct outbox *outbox, struct command *command, struct driver_request *request)
{
    struct command **link = outbox->queued_last;
    if (rank(command) > 0)
        for (link = &outbox->queued;
             *link && (rank(*link) >= rank(command) || (*link)->written > 0);)
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

void outbox_refuse_unsendable(struct outbox *outbox, const char *uri)
{
    while (outbox->unsendable) {
        struct command *command = outbox->unsendable;
        outbox->unsendable = command->next;
        struct text *text =
            text_printf("%s: the descriptors of %s could not be sent: %s%s", uri, command->name,
                        strerror(command->error),
                        command->error == ETOOMANYREFS
                            ? ": QEMU does not read, or raise the limit of open files (ulimit -n)"
                            : "");
        command_answer(command,
                       &(struct driver_reply){.error = BJ_E_SYSTEM, .text = text_str(text)});
        text_unref(text);
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
    struct command *unwritten = take_unwritten(outbox), *unsendable = outbox->unsendable;
    outbox->unsendable = NULL;
    fail_all(unsendable, error, text);
    abandon_all(outbox->in_flight, error, text);
    abandon_all(outbox->queued, error, text);
    fail_all(unwritten, error, text);
}

void outbox_fail(struct outbox *outbox, int error, const char *text)
{
    struct command *in_flight = outbox->in_flight;
    struct command *queued = outbox->queued;
    struct command *unsendable = outbox->unsendable;
    outbox->in_flight = outbox->queued = outbox->unsendable = NULL;
    fail_all(unsendable, error, text);
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
    outbox->out_of_band_count -= command->out_of_band;
    outbox->descriptors_in_flight &= !command->takes_descriptors;
    return command;
}
