/* SPDX-License-Identifier: MIT */
/*
 * The QMP driver: one connection to one QEMU, how it begins and ends, and what comes in on it; see
 * qmp.h.
 */
#include "qmp/connection.h"
#include "base/container_of.h"
#include "qmp/block_graph.h"
#include "qmp/dial.h"
#include "qmp/job_words.h"
#include "qmp/peer.h"
#include "qmp/qmp.h"
#include "qmp/read_in_place.h"
#include "qmp/tap.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --------------------------------------------------------------------- ending */

/* Later, because those who call us are still reading from it. */
static void run_free(struct loop_task *task)
{
    struct qmp *qmp = container_of(task, struct qmp, free_task);

    command_set_unref(qmp->ctx, qmp->commands);
    made_up_ends_clear(&qmp->made_up_ends);
    text_unref(qmp->version);
    text_unref(qmp->uri);
    ctx_unref(qmp->ctx);
    free(qmp);
}

/* Ends the connection and answers everything; the rest of the stack may still touch qmp. */
static void hang_up(struct qmp *qmp, int error, const char *text)
{
    qmp->stage = QMP_DOWN;
    if (qmp->dial)
        dial_cancel(qmp->dial);
    qmp->dial = NULL;
    loop_io_free(qmp->io);
    qmp->io = NULL;
    if (qmp->fd >= 0 && !qmp->is_duplicate)
        shutdown(qmp->fd, SHUT_RDWR); /* a forked child may hold it, and so QEMU's monitor */
    if (qmp->fd >= 0)
        close(qmp->fd);
    qmp->fd = -1;
    frame_clear(&qmp->frame);

    outbox_fail(&qmp->outbox, error, text);
    qmp_fail_waiting_graph(qmp, error, text);

    qmp->free_task.run = run_free;
    if (!loop_post(qmp->ctx->loop, &qmp->free_task))
        run_free(&qmp->free_task);
}

void qmp_go_down(struct qmp *qmp, int error, struct text *text)
{
    hang_up(qmp, error, text_str(text));
    qmp->sink->down(qmp->user, error, text);
}

static void qmp_close(struct driver *driver, int error, const char *text)
{
    hang_up(qmp_of(driver), error, text);
}

/* -------------------------------------------------------------------- sending */

static void run_refuse(struct loop_task *task)
{
    struct qmp *qmp = container_of(task, struct qmp, refuse_task);
    qmp->refusing = false;
    outbox_refuse_unsendable(&qmp->outbox, qmp_uri(qmp));
    if (qmp->stage != QMP_DOWN)
        qmp_query_waiting_graph(qmp); /* no reply will come to tell that its turn is now */
}

/* Later: those who asked for it have not returned. */
static void refuse_unsendable(struct qmp *qmp)
{
    qmp->refuse_task.run = run_refuse;
    if (qmp->outbox.unsendable && !qmp->refusing)
        qmp->refusing = loop_post(qmp->ctx->loop, &qmp->refuse_task);
}

static void flush(struct qmp *qmp)
{
    bool blocked = !outbox_write(&qmp->outbox, qmp->fd);
    loop_io_want(qmp->io, blocked ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    refuse_unsendable(qmp);
}

void qmp_submit(struct qmp *qmp, struct command *command, struct driver_request *request)
{
    outbox_put(&qmp->outbox, command, request);
    flush(qmp);
}

int qmp_ask(struct qmp *qmp, struct driver_request *request, const char *name,
            const char *arguments, bool urgent)
{
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct command *command = command_new(&qmp->outbox, name, arguments, urgent);
    if (!command)
        return BJ_E_NOMEM;
    qmp_submit(qmp, command, request);
    return BJ_OK;
}

/* -------------------------------------------------------------------- replies */

const json_t *qmp_reply_value(struct driver_reply *reply)
{
    if (reply->error != BJ_OK)
        return NULL;
    const json_t *value = message_value(reply->message);
    if (!value) {
        reply->error = BJ_E_NOMEM;
        reply->text = bj_error_text(BJ_E_NOMEM);
    }
    return value;
}

static void read_reply(struct qmp *qmp, struct message *message)
{
    struct command *command = outbox_match(&qmp->outbox, message, qmp_knows_command, qmp);
    if (!command) {
        ctx_log(qmp->ctx, "%s sent a reply to a command that is not under way", qmp_uri(qmp));
        return;
    }
    bool refused = message->kind == MESSAGE_ERROR;
    struct driver_reply reply = {
        .error = refused ? BJ_E_REFUSED : BJ_OK,
        .refusal = refused && strcmp(message->name, QMP_NO_SUCH_JOB) == 0 ? VERDICT_NO_SUCH_JOB
                                                                          : VERDICT_REFUSED,
        .error_class = message->name,
        .text = message->text,
        .json = message->raw,
        .json_len = message->raw_len,
        .message = message,
    };
    command_answer(command, &reply);
    if (qmp->stage != QMP_DOWN)
        flush(qmp);
    if (qmp->stage != QMP_DOWN)
        qmp_query_waiting_graph(qmp);
    if (qmp->stage != QMP_DOWN && !qmp_is_owed(&qmp->driver))
        qmp->sink->settled(qmp->user);
}

/* Before it is up nobody can hold a job, and it is not known yet what this QEMU tells. */
static void read_event(struct qmp *qmp, const struct message *message)
{
    struct fact fact;

    if (qmp->stage != QMP_UP)
        return;
    bool is_fact = qmp_read_fact(message, &fact);
    if (is_fact && made_up_ends_take(&qmp->made_up_ends, &fact))
        return;
    if (qmp->sink->wants_events(qmp->user))
        qmp->sink->event(qmp->user, message->name, message->raw, message->raw_len,
                         message->timestamp_us);
    if (is_fact)
        qmp->sink->fact(qmp->user, &fact);
}

/* -------------------------------------------------------------------- reading */

static void read_message(struct qmp *qmp, struct message *message)
{
    if (message->kind == MESSAGE_EVENT)
        read_event(qmp, message);
    else if (message->kind != MESSAGE_GREETING && qmp->stage > QMP_GREETING)
        read_reply(qmp, message);
    else if (message->kind == MESSAGE_GREETING && qmp->stage == QMP_GREETING)
        qmp_read_greeting(qmp, message);
    else /* QEMU gives us what it owed to the client before: 60 of 5,000 quick reconnects to 7.2 */
        ctx_log(qmp->ctx, "%s sent what does not belong there", qmp_uri(qmp));
    message_clear(message);
}

static int read_in_buffer(void *user, const char *bytes, size_t len, size_t *ret_used)
{
    struct qmp *qmp = user;
    struct message_room room;
    struct message message;

    *ret_used = read_in_place(bytes, len, &qmp->frame.limits, &room, &message);
    if (*ret_used > 0) {
        qmp_tell_received(qmp->tap, bytes, *ret_used);
        read_message(qmp, &message);
    }
    return qmp->stage == QMP_DOWN ? BJ_E_CLOSED : 0;
}

/* The tree of a message with so many tokens may take 16 MiB and more. malloc would keep them. */
#define TOKENS_OF_A_LARGE_TREE 65536

static void give_memory_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static int read_whole(void *user, char *text, size_t len)
{
    struct qmp *qmp = user;
    size_t tokens = qmp->frame.tokens; /* as long as the connection lives */
    struct message_room room;
    struct message message;
    const char *reason = NULL;

    qmp_tell_received(qmp->tap, text, len);
    if (read_in_place(text, len, &qmp->frame.limits, &room, &message) == 0) {
        int r = message_parse(text, len, &message, &reason);
        if (r != BJ_OK) {
            qmp_go_down(qmp, r, text_printf("%s sent %s", qmp_uri(qmp), reason));
            return r;
        }
    }
    read_message(qmp, &message);
    if (tokens >= TOKENS_OF_A_LARGE_TREE)
        give_memory_back();
    return qmp->stage == QMP_DOWN ? BJ_E_CLOSED : 0;
}

/* Mostly ECONNRESET, even when QEMU quits in peace. */
static void end_of_stream(struct qmp *qmp, int error)
{
    const char *what = qmp->stage == QMP_UP ? "QEMU has ended, or closed this monitor"
                                            : "it was closed before the negotiation was over";
    if (error)
        qmp_go_down(qmp, BJ_E_DISCONNECTED,
                    text_printf("the connection to %s is over: %s (%s)", qmp_uri(qmp), what,
                                strerror(error)));
    else
        qmp_go_down(qmp, BJ_E_DISCONNECTED,
                    text_printf("the connection to %s is over: %s", qmp_uri(qmp), what));
}

static void feed(struct qmp *qmp, size_t len)
{
    const char *reason = NULL;
    const struct frame_reader reader = {
        .read = read_whole,
        .read_in_place = read_in_buffer,
        .user = qmp,
    };
    int r = frame_feed(&qmp->frame, qmp->ctx->read_buffer, len, &reader, &reason);

    if (r == 0 || qmp->stage == QMP_DOWN)
        return;
    if (r == BJ_E_PROTOCOL)
        qmp_go_down(qmp, r,
                    text_printf("%s sent %s: it does not speak QMP, or not within the limits",
                                qmp_uri(qmp), reason));
    else
        qmp_go_down(qmp, r, text_printf("%s", bj_error_text(r)));
}

static void on_ready(void *user, int events)
{
    struct qmp *qmp = user;

    if (events & LOOP_READ) {
        ssize_t n = recv(qmp->fd, qmp->ctx->read_buffer, READ_BUFFER, MSG_DONTWAIT);
        int error = errno;

        /* Who began to watch before QEMU sent this is to see it, however late we got to run. */
        if (!loop_run_posted(qmp->ctx->loop) || qmp->stage == QMP_DOWN)
            return;
        if (n > 0)
            feed(qmp, (size_t)n);
        else if (n == 0)
            end_of_stream(qmp, 0);
        else if (error != EAGAIN && error != EWOULDBLOCK && error != EINTR)
            end_of_stream(qmp, error);
    }
    if ((events & LOOP_WRITE) && qmp->stage != QMP_DOWN)
        flush(qmp);
}

/* -------------------------------------------------------------------- opening */

/* SCM_RIGHTS does. */
static bool passes_descriptors(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

static void on_dialled(void *user, int fd, struct text *text)
{
    struct qmp *qmp = user;
    qmp->driver.is_absent = dial_found_nobody(qmp->dial);
    dial_cancel(qmp->dial);
    qmp->dial = NULL;

    if (fd < 0) {
        qmp_go_down(qmp, fd, text);
        return;
    }
    qmp->fd = fd;
    qmp->driver.peer = peer_process(fd);
    if (!qmp->is_duplicate) /* else whoever made it need not be QEMU */
        peer_identify(fd, qmp->driver.peer, &qmp->driver.identity);
    qmp->passes_descriptors = passes_descriptors(fd);
    qmp->stage = QMP_GREETING;
    int r = loop_io_new(qmp->ctx->loop, fd, LOOP_READ, on_ready, qmp, &qmp->io);
    if (r != BJ_OK)
        qmp_go_down(qmp, r, dial_no_means(qmp_uri(qmp), r, errno));
}

/* Another number for each connection: replies to the client before may still come to us. */
static uint64_t first_id(bj_ctx *ctx)
{
    uint64_t connection = ctx->job_id_prefix + ++ctx->connections;
    return ((connection & 0x7fffffff) << 32) + 1;
}

static const struct driver_ops qmp_ops = {
    .execute = qmp_execute,
    .transaction = qmp_transaction,
    .verb = qmp_verb,
    .prepare = qmp_prepare,
    .unprepare = qmp_unprepare,
    .query = qmp_query,
    .take_snapshot = qmp_take_snapshot,
    .compare_snapshot = qmp_compare_snapshot,
    .free_snapshot = qmp_free_snapshot,
    .hold_snapshot = qmp_hold_snapshot,
    .write_snapshot = qmp_write_snapshot,
    .read_snapshot = qmp_read_snapshot,
    .withdraw = qmp_withdraw,
    .abandon = qmp_abandon,
    .is_owed = qmp_is_owed,
    .has_command = qmp_has,
    .is_verb = qmp_is_verb,
    .make_up_end = qmp_make_up_end,
    .plan_start = qmp_plan_start,
    .id_of = qmp_id_of,
    .probe = qmp_probe,
    .takes = qmp_takes,
    .stage = qmp_stage,
    .close = qmp_close,
};

struct driver *qmp_open(bj_ctx *ctx, const char *uri, struct address *address, bool out_of_band,
                        const struct driver_sink *sink, void *user)
{
    struct qmp *qmp = calloc(1, sizeof *qmp);
    if (!qmp) {
        address_clear(address);
        return NULL;
    }
    qmp->driver.ops = &qmp_ops;
    qmp->sink = sink;
    qmp->user = user;
    qmp->uri = text_printf("%s", uri);
    qmp->tap = sink->tap(user);
    qmp->fd = -1;
    qmp->is_duplicate = address->kind == ADDRESS_FD;
    qmp->wants_out_of_band = out_of_band;
    outbox_init(&qmp->outbox, first_id(ctx), qmp->tap, (size_t)ctx_limit(ctx, BJ_LIMIT_IN_FLIGHT),
                (size_t)ctx_limit(ctx, BJ_LIMIT_QUEUED));
    frame_init(&qmp->frame, &(struct frame_limits){
                                .bytes = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_BYTES),
                                .tokens = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_TOKENS),
                                .nesting = (size_t)ctx_limit(ctx, BJ_LIMIT_MESSAGE_NESTING),
                            });
    qmp->dial = dial_start(ctx, address, uri, on_dialled, qmp);
    if (!qmp->dial) {
        text_unref(qmp->uri);
        free(qmp);
        return NULL;
    }
    qmp->ctx = ctx_ref(ctx);
    return &qmp->driver;
}
