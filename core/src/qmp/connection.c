/* SPDX-License-Identifier: MIT */
/*
 * The QMP driver: one connection to one QEMU, its negotiation, and what is asked on it.
 */
#include "qmp/connection.h"
#include "driver/job_list.h"
#include "qmp/block_graph.h"
#include "qmp/command_set.h"
#include "qmp/dial.h"
#include "qmp/frame.h"
#include "qmp/job_words.h"
#include "qmp/message.h"
#include "qmp/outbox.h"
#include "qmp/start_arguments.h"
#include "qmp/start_commands.h"
#include "qmp/status_event.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum stage { QMP_CONNECTING, QMP_GREETING, QMP_NEGOTIATING, QMP_UP, QMP_DOWN };

/* A query: query-block-jobs, and query-jobs where that is there. */
struct query {
    struct driver_request block_jobs_request;
    struct driver_request jobs_request;
    struct driver_request *asker;
    struct qmp *qmp;
    json_t *block_jobs;
    json_t *jobs;
    int pending;
    int error;
    struct text *text;
};

struct qmp {
    struct driver driver;
    const struct driver_sink *sink;
    void *user;
    bj_ctx *ctx;
    struct text *uri;
    enum stage stage;

    struct dial *dial;
    int fd;
    bool is_duplicate; /* the socket itself is the caller's: fd:N */
    struct loop_io *io;
    struct frame frame;
    struct loop_task free_task;

    struct command_set *commands;
    const char *complete; /* its command; NULL: none. READY does not have to look it up */
    struct starters starters;
    struct text *version;
    struct driver_request handshake;
    struct driver_request look_request;
    struct look *looks_asked;  /* whom the look under way serves */
    struct look *looks_wanted; /* whom the next one will */

    struct outbox outbox;
};

static struct qmp *qmp_of(struct driver *driver)
{
    return (struct qmp *)driver;
}

static const char *uri_of(const struct qmp *qmp)
{
    return text_str(qmp->uri);
}

/* ---------------------------------------------------------------------- looks */

/* Each look at the block graph of a QEMU with many disks takes it a while, and no command is served
 * meanwhile: one serves all jobs that wait for it. One under way is too old for who comes now. */
struct look {
    struct look *next;
    struct driver_request *asker;
    const struct driver_sight *before;
    char id[];
};

static void serve_look(struct look *look, const struct driver_reply *reply,
                       const struct qmp_graph *graph)
{
    struct driver_reply seen = {.error = reply->error, .text = reply->text};

    if (reply->error == BJ_OK && look->before)
        seen.switched = qmp_compare(look->before, graph);
    else if (reply->error == BJ_OK)
        seen.sight = qmp_see(graph, look->id);
    look->asker->done(look->asker, &seen);
    qmp_unsee(seen.sight);
    free(look);
}

/* Takes them first: who is served may look again. */
static void serve_looks(struct look **looks, const struct driver_reply *reply)
{
    struct look *look = *looks;
    struct qmp_graph *graph = look && reply->error == BJ_OK ? qmp_graph_open(reply->value) : NULL;

    *looks = NULL;
    while (look) {
        struct look *next = look->next;
        serve_look(look, reply, graph);
        look = next;
    }
    qmp_graph_close(graph);
}

/* --------------------------------------------------------------------- ending */

/* Later, because those who call us are still reading from it. */
static void run_free(struct loop_task *task)
{
    struct qmp *qmp = (struct qmp *)((char *)task - offsetof(struct qmp, free_task));

    command_set_unref(qmp->ctx, qmp->commands);
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
    serve_looks(&qmp->looks_wanted, &(struct driver_reply){.error = error, .text = text});

    qmp->free_task.run = run_free;
    if (!loop_post(qmp->ctx->loop, &qmp->free_task))
        run_free(&qmp->free_task);
}

/* Takes over the reference to `text`. */
static void go_down(struct qmp *qmp, int error, struct text *text)
{
    hang_up(qmp, error, text_str(text));
    qmp->sink->down(qmp->user, error, text);
}

static void qmp_close(struct driver *driver, int error, const char *text)
{
    hang_up(qmp_of(driver), error, text);
}

/* -------------------------------------------------------------------- sending */

static void flush(struct qmp *qmp)
{
    bool blocked = !outbox_write(&qmp->outbox, qmp->fd);
    loop_io_want(qmp->io, blocked ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void submit(struct qmp *qmp, struct command *command, struct driver_request *request)
{
    outbox_put(&qmp->outbox, command, request);
    flush(qmp);
}

static int ask(struct qmp *qmp, struct driver_request *request, const char *name,
               const char *arguments, bool urgent)
{
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct command *command = command_new(&qmp->outbox, name, arguments, urgent);
    if (!command)
        return BJ_E_NOMEM;
    submit(qmp, command, request);
    return BJ_OK;
}

static int qmp_execute(struct driver *driver, struct driver_request *request, const char *name,
                       const char *arguments)
{
    struct qmp *qmp = qmp_of(driver);
    if (outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;
    return ask(qmp, request, name, arguments, false);
}

static bool qmp_withdraw(struct driver *driver, struct driver_request *request)
{
    struct qmp *qmp = qmp_of(driver);

    if (starters_leave(&qmp->starters, request))
        return true;
    return outbox_withdraw(&qmp->outbox, request);
}

static bool qmp_is_owed(struct driver *driver)
{
    return !outbox_is_empty(&qmp_of(driver)->outbox);
}

static void qmp_abandon(struct driver *driver, int error, const char *text)
{
    struct qmp *qmp = qmp_of(driver);
    serve_looks(&qmp->looks_wanted, &(struct driver_reply){.error = error, .text = text});
    outbox_abandon(&qmp->outbox, error, text);
}

static bool has_command(void *user, const char *command)
{
    const struct qmp *qmp = user;
    return command_set_has(qmp->commands, command);
}

static bool qmp_has(struct driver *driver, const char *command)
{
    return has_command(qmp_of(driver), command);
}

static int qmp_takes(struct driver *driver, const char *command)
{
    return starters_take(&qmp_of(driver)->starters, command);
}

/* One schema for all who wait: it is 150 to 250 kB. Refused or odd, it teaches nothing, and the
 * jobs go without ids. */
static void schema_known(struct driver_request *request, struct driver_reply *reply)
{
    struct starters *starters =
        (struct starters *)((char *)request - offsetof(struct starters, request));
    bool is_answer = reply->error == BJ_OK || reply->error == BJ_E_REFUSED;
    struct driver_reply known = {.error = is_answer ? BJ_OK : reply->error, .text = reply->text};

    starters->under_way = false;
    if (is_answer)
        starters_learn(starters, reply->error == BJ_OK ? reply->value : NULL);
    starters_answer(starters, &known);
}

/* A schema beyond the program's limits would end the connection: then it is not asked for. */
#define SCHEMA_BYTES (512 * 1024)
#define SCHEMA_TOKENS (128 * 1024)

static bool can_read_schema(bj_ctx *ctx)
{
    return ctx_limit(ctx, BJ_LIMIT_MESSAGE_BYTES) >= SCHEMA_BYTES &&
           ctx_limit(ctx, BJ_LIMIT_MESSAGE_TOKENS) >= SCHEMA_TOKENS;
}

static int qmp_probe(struct driver *driver, struct driver_request *request)
{
    struct qmp *qmp = qmp_of(driver);
    struct starters *starters = &qmp->starters;
    if (starters->waiting_count >= qmp->outbox.queued_limit || outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;

    starters->request.done = schema_known;
    int r =
        starters->under_way ? BJ_OK : ask(qmp, &starters->request, "query-qmp-schema", NULL, false);
    if (r != BJ_OK)
        return r;
    starters->under_way = true;
    starters_wait(starters, request);
    return BJ_OK;
}

static bool qmp_is_verb(struct driver *driver, const char *command, const char *arguments,
                        enum job_verb *ret_verb, char **ret_id)
{
    (void)driver;
    json_t *object = arguments ? protocol_object(arguments, NULL) : NULL;
    const char *id = qmp_verb_of(command, object, ret_verb);
    *ret_id = id ? strdup(id) : NULL;
    json_decref(object);
    return *ret_id != NULL;
}

static void qmp_prepare(struct driver *driver, struct driver_request *request, const char *id)
{
    struct qmp *qmp = qmp_of(driver);
    char *arguments = qmp->complete && !request->prepared
                          ? qmp_verb_arguments(qmp->complete, JOB_COMPLETE, id, 0, has_command, qmp)
                          : NULL;
    if (arguments)
        request->prepared = command_new(&qmp->outbox, qmp->complete, arguments, true);
    free(arguments);
}

static void qmp_unprepare(struct driver_request *request)
{
    command_free(request->prepared);
    request->prepared = NULL;
}

static int qmp_verb(struct driver *driver, struct driver_request *request, const char *id,
                    const char *type, enum job_verb verb, int64_t speed, const char *options)
{
    struct qmp *qmp = qmp_of(driver);
    struct command *prepared = request->prepared;
    if (prepared && qmp->stage != QMP_DOWN) {
        request->prepared = NULL;
        submit(qmp, prepared, request);
        return BJ_OK;
    }
    bool shared =
        verb <= JOB_CANCEL_FORCE || verb == JOB_DISMISS; /* one a job: bounded by itself */
    if (!shared && outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;

    const char *name =
        verb == JOB_COMPLETE ? qmp->complete : qmp_verb_command(verb, type, has_command, qmp);
    if (!name)
        return BJ_E_UNSUPPORTED;
    char *arguments = verb == JOB_CHANGE
                          ? qmp_change_arguments(id, type, options)
                          : qmp_verb_arguments(name, verb, id, speed, has_command, qmp);
    int r = arguments ? ask(qmp, request, name, arguments, true) : BJ_E_NOMEM;
    free(arguments);
    return r;
}

/* -------------------------------------------------------------------- queries */

static void finish_query(struct query *query)
{
    struct driver_reply reply = {.error = query->error, .text = text_str(query->text)};
    size_t limit = (size_t)ctx_limit(query->qmp->ctx, BJ_LIMIT_JOBS);

    if (query->error == BJ_OK) {
        reply.infos = qmp_read_rows(query->block_jobs, query->jobs, limit);
        if (!reply.infos)
            reply.error = BJ_E_NOMEM;
    }
    query->asker->done(query->asker, &reply);

    info_list_free(reply.infos);
    json_decref(query->block_jobs);
    json_decref(query->jobs);
    text_unref(query->text);
    free(query);
}

static void query_part_done(struct query *query, json_t **part, struct driver_reply *reply)
{
    const json_t *rows = reply->value;

    if (reply->error == BJ_OK && json_is_array(rows)) {
        *part = json_incref((json_t *)rows);
    } else if (query->error == BJ_OK) {
        query->error = reply->error != BJ_OK ? reply->error : BJ_E_PROTOCOL;
        query->text = text_printf("%s", reply->text ? reply->text : bj_error_text(query->error));
    }
    if (--query->pending == 0)
        finish_query(query);
}

static void block_jobs_done(struct driver_request *request, struct driver_reply *reply)
{
    struct query *query =
        (struct query *)((char *)request - offsetof(struct query, block_jobs_request));
    query_part_done(query, &query->block_jobs, reply);
}

static void jobs_done(struct driver_request *request, struct driver_reply *reply)
{
    struct query *query = (struct query *)((char *)request - offsetof(struct query, jobs_request));
    query_part_done(query, &query->jobs, reply);
}

static int qmp_query(struct driver *driver, struct driver_request *request, bool urgent)
{
    struct qmp *qmp = qmp_of(driver);
    if (!urgent && outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;

    struct query *query = calloc(1, sizeof *query);
    if (!query)
        return BJ_E_NOMEM;
    query->qmp = qmp;
    query->asker = request;
    query->block_jobs_request.done = block_jobs_done;
    query->jobs_request.done = jobs_done;

    int r = ask(qmp, &query->block_jobs_request, "query-block-jobs", NULL, urgent);
    if (r != BJ_OK) {
        free(query);
        return r;
    }
    query->pending = 1;
    if (!has_command(qmp, "query-jobs"))
        return BJ_OK;
    if (ask(qmp, &query->jobs_request, "query-jobs", NULL, urgent) == BJ_OK)
        query->pending++;
    else
        query->error = BJ_E_NOMEM;
    return BJ_OK;
}

/* ---------------------------------------------------------------------- graph */

static void looked(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = (struct qmp *)((char *)request - offsetof(struct qmp, look_request));
    serve_looks(&qmp->looks_asked, reply);
}

/* Who only wants to know what is there now lets all commands go first; who has to tell how a job
 * ended does not. */
static bool looks_can_wait(const struct qmp *qmp)
{
    if (outbox_is_empty(&qmp->outbox))
        return false;
    for (const struct look *look = qmp->looks_wanted; look; look = look->next)
        if (look->before)
            return false;
    return true;
}

static int look_for_all(struct qmp *qmp)
{
    if (!qmp->looks_wanted || qmp->looks_asked || looks_can_wait(qmp))
        return BJ_OK;
    bool has_graph = has_command(qmp, "x-debug-query-block-graph"); /* 4.0 */
    const char *command = has_graph ? "x-debug-query-block-graph" : "query-block";

    qmp->look_request.done = looked;
    int r = ask(qmp, &qmp->look_request, command, NULL, false);
    if (r == BJ_OK) {
        qmp->looks_asked = qmp->looks_wanted;
        qmp->looks_wanted = NULL;
    }
    return r;
}

/* A command is over: now they may be let through. */
static void look_again(struct qmp *qmp)
{
    int r = look_for_all(qmp);
    if (r != BJ_OK)
        serve_looks(&qmp->looks_wanted, &(struct driver_reply){.error = r});
}

static int qmp_look(struct driver *driver, struct driver_request *request, const char *id,
                    const char *device, const struct driver_sight *before)
{
    struct qmp *qmp = qmp_of(driver);
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    if (device && !has_command(qmp, "x-debug-query-block-graph"))
        id = device;

    struct look *look = calloc(1, sizeof *look + strlen(id) + 1);
    if (!look)
        return BJ_E_NOMEM;
    look->asker = request;
    look->before = before;
    memcpy(look->id, id, strlen(id) + 1);
    look->next = qmp->looks_wanted;
    qmp->looks_wanted = look;

    int r = look_for_all(qmp);
    if (r != BJ_OK) {
        qmp->looks_wanted = look->next;
        free(look);
    }
    return r;
}

/* ------------------------------------------------------------------- handshake */

static struct text *qmp_stage(struct driver *driver, int64_t timeout_ms)
{
    struct qmp *qmp = qmp_of(driver);
    double seconds = (double)timeout_ms / 1000.;

    switch (qmp->stage) {
    case QMP_CONNECTING:
        return text_printf(
            "no connection to %s within %.10g s: QEMU does not accept; another client "
            "may hold this monitor and others wait before us",
            uri_of(qmp), seconds);
    case QMP_GREETING:
        return text_printf(
            "no greeting from %s within %.10g s: another client may hold this monitor "
            "(QEMU serves one at a time: start it with a second -qmp), or it is no QMP "
            "socket, or QEMU is stopped",
            uri_of(qmp), seconds);
    default:
        return text_printf("%s greeted, but did not finish the negotiation within %.10g s: QEMU is "
                           "stopped or stuck",
                           uri_of(qmp), seconds);
    }
}

static void handshake_failed(struct qmp *qmp, const struct driver_reply *reply)
{
    if (reply->error == BJ_E_REFUSED)
        go_down(qmp, BJ_E_PROTOCOL,
                text_printf("%s refused the negotiation: %s", uri_of(qmp), reply->text));
    else if (qmp->stage != QMP_DOWN)
        go_down(qmp, reply->error, text_printf("%s", bj_error_text(reply->error)));
}

static void commands_known(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = (struct qmp *)((char *)request - offsetof(struct qmp, handshake));
    if (reply->error != BJ_OK) {
        handshake_failed(qmp, reply);
        return;
    }
    qmp->commands = command_set_get(qmp->ctx, reply->value);
    if (!qmp->commands) {
        go_down(qmp, BJ_E_NOMEM, text_printf("out of memory"));
        return;
    }
    qmp->driver.has_status = has_command(qmp, "query-jobs");
    qmp->driver.hides_pauses = !qmp->driver.has_status;
    qmp->driver.has_ready_event = qmp->driver.has_status || has_command(qmp, "block-job-complete");
    qmp->driver.is_silent = has_command(qmp, "block_job_cancel");
    qmp->driver.no_repeats = has_command(qmp, "__com.redhat_drive-mirror");
    qmp->driver.has_dismiss = qmp_verb_command(JOB_DISMISS, "", has_command, qmp) != NULL;
    starters_init(&qmp->starters, has_command, qmp);
    if (!can_read_schema(qmp->ctx))
        qmp->starters.known = true;
    qmp->complete = qmp_verb_command(JOB_COMPLETE, "", has_command, qmp);
    qmp->stage = QMP_UP;
    qmp->sink->up(qmp->user, qmp->version);
}

static void ask_handshake(struct qmp *qmp, const char *command,
                          void (*done)(struct driver_request *, struct driver_reply *))
{
    qmp->handshake.done = done;
    int r = ask(qmp, &qmp->handshake, command, NULL, false);
    if (r != BJ_OK)
        go_down(qmp, r, text_printf("%s", bj_error_text(r)));
}

static void negotiated(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = (struct qmp *)((char *)request - offsetof(struct qmp, handshake));
    if (reply->error != BJ_OK)
        handshake_failed(qmp, reply);
    else
        ask_handshake(qmp, "query-commands", commands_known);
}

static void read_greeting(struct qmp *qmp, const struct message *message)
{
    const json_t *version = json_object_get(json_object_get(message->value, "version"), "qemu");
    qmp->version =
        text_printf("%d.%d.%d", (int)json_integer_value(json_object_get(version, "major")),
                    (int)json_integer_value(json_object_get(version, "minor")),
                    (int)json_integer_value(json_object_get(version, "micro")));
    qmp->stage = QMP_NEGOTIATING;
    ask_handshake(qmp, "qmp_capabilities", negotiated);
}

/* -------------------------------------------------------------------- replies */

static void read_reply(struct qmp *qmp, const struct message *message)
{
    struct command *command = outbox_match(&qmp->outbox, message, has_command, qmp);
    if (!command) {
        ctx_log(qmp->ctx, "%s sent a reply to a command that is not under way", uri_of(qmp));
        return;
    }
    bool refused = message->kind == MESSAGE_ERROR;
    struct driver_reply reply = {
        .error = refused ? BJ_E_REFUSED : BJ_OK,
        .error_class = message->name,
        .text = message->text,
        .json = message->raw,
        .json_len = message->raw_len,
        .value = message->value,
    };
    command_answer(command, &reply);
    if (qmp->stage != QMP_DOWN)
        flush(qmp);
    if (qmp->stage != QMP_DOWN)
        look_again(qmp);
    if (qmp->stage != QMP_DOWN && !qmp_is_owed(&qmp->driver))
        qmp->sink->settled(qmp->user);
}

/* Before it is up nobody can hold a job, and it is not known yet what this QEMU tells. */
static void read_event(struct qmp *qmp, const struct message *message)
{
    struct driver_fact fact;

    if (qmp->stage != QMP_UP)
        return;
    bool is_fact = qmp_read_fact(message, &fact);
    if (is_fact && qmp->sink->is_told(qmp->user, &fact))
        return;
    if (qmp->sink->wants_events(qmp->user))
        qmp->sink->event(qmp->user, message->name, message->raw, message->raw_len,
                         message->timestamp_us);
    if (is_fact)
        qmp->sink->fact(qmp->user, &fact);
}

/* -------------------------------------------------------------------- reading */

/* The short way from READY to complete, and through the floods of 10.0 (B29). Who watches events
 * wants them as they are. */
static bool has_short_way(const struct qmp *qmp)
{
    return qmp->stage == QMP_UP && !qmp->sink->wants_events(qmp->user);
}

static void feed_status(struct qmp *qmp, const struct status_event *event)
{
    struct driver_fact fact = {
        .kind = FACT_STATUS,
        .id = event->id,
        .type = "",
        .status = job_status_of(event->status),
        .timestamp_us = event->timestamp_us,
    };
    qmp->sink->fact(qmp->user, &fact);
}

static bool read_status_event(struct qmp *qmp, const char *text, size_t len)
{
    struct status_event event;
    if (!has_short_way(qmp) || !status_event_read(text, len, &event))
        return false;
    feed_status(qmp, &event);
    return true;
}

/* The statuses that a read begins with need no framing either; returns how many bytes they took. */
static size_t read_first_statuses(struct qmp *qmp, const char *text, size_t len)
{
    size_t at = 0;
    struct status_event event;

    for (size_t used; frame_is_empty(&qmp->frame) && has_short_way(qmp) &&
                      (used = status_event_begin(text + at, len - at, &event)) > 0;
         at += used)
        feed_status(qmp, &event);
    return at;
}

static int read_message(void *user, char *text, size_t len)
{
    struct qmp *qmp = user;
    struct message message;
    const char *reason = NULL;

    if (read_status_event(qmp, text, len))
        return qmp->stage == QMP_DOWN ? BJ_E_CLOSED : 0;

    int r = protocol_parse(text, len, &message, &reason);
    if (r != BJ_OK) {
        go_down(qmp, r, text_printf("%s sent %s", uri_of(qmp), reason));
        return r;
    }
    if (message.kind == MESSAGE_EVENT)
        read_event(qmp, &message);
    else if (message.kind != MESSAGE_GREETING && qmp->stage > QMP_GREETING)
        read_reply(qmp, &message);
    else if (message.kind == MESSAGE_GREETING && qmp->stage == QMP_GREETING)
        read_greeting(qmp, &message);
    else /* QEMU gives us what it owed to the client before: 60 of 5,000 quick reconnects to 7.2 */
        ctx_log(qmp->ctx, "%s sent what does not belong there", uri_of(qmp));
    message_clear(&message);
    return qmp->stage == QMP_DOWN ? BJ_E_CLOSED : 0;
}

/* Mostly ECONNRESET, even when QEMU quits in peace. */
static void end_of_stream(struct qmp *qmp, int error)
{
    const char *what = qmp->stage == QMP_UP ? "QEMU has ended, or closed this monitor"
                                            : "it was closed before the negotiation was over";
    if (error)
        go_down(qmp, BJ_E_DISCONNECTED,
                text_printf("the connection to %s is over: %s (%s)", uri_of(qmp), what,
                            strerror(error)));
    else
        go_down(qmp, BJ_E_DISCONNECTED,
                text_printf("the connection to %s is over: %s", uri_of(qmp), what));
}

static void feed(struct qmp *qmp, size_t len)
{
    const char *reason = NULL;
    char *text = qmp->ctx->read_buffer;
    size_t at = read_first_statuses(qmp, text, len);
    int r = frame_feed(&qmp->frame, text + at, len - at, read_message, qmp, &reason);

    if (r == 0 || qmp->stage == QMP_DOWN)
        return;
    if (r == BJ_E_PROTOCOL)
        go_down(qmp, r,
                text_printf("%s sent %s: it does not speak QMP, or not within the limits",
                            uri_of(qmp), reason));
    else
        go_down(qmp, r, text_printf("%s", bj_error_text(r)));
}

static void on_ready(void *user, int events)
{
    struct qmp *qmp = user;

    if (events & LOOP_READ) {
        ssize_t n = recv(qmp->fd, qmp->ctx->read_buffer, READ_BUFFER, MSG_DONTWAIT);
        int error = errno;

        /* Who began to watch before QEMU sent this is to see it, however late we got to run. */
        loop_run_posted(qmp->ctx->loop);
        if (qmp->stage == QMP_DOWN)
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

/* Who called listen() on it. */
static int64_t peer_of(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    return known ? peer.pid : 0;
}

static void on_dialled(void *user, int fd, struct text *text)
{
    struct qmp *qmp = user;
    dial_cancel(qmp->dial);
    qmp->dial = NULL;

    if (fd < 0) {
        go_down(qmp, BJ_E_CONNECT, text);
        return;
    }
    qmp->fd = fd;
    qmp->driver.peer = peer_of(fd);
    qmp->stage = QMP_GREETING;
    qmp->io = loop_io_new(qmp->ctx->loop, fd, on_ready, qmp);
    if (qmp->io)
        loop_io_want(qmp->io, LOOP_READ);
    else
        go_down(qmp, BJ_E_NOMEM, text_printf("out of memory"));
}

/* Another number for each connection: replies to the client before may still come to us. */
static uint64_t first_id(bj_ctx *ctx)
{
    uint64_t connection = ctx->job_id_prefix + ++ctx->connections;
    return ((connection & 0x7fffffff) << 32) + 1;
}

static int qmp_name_run(struct driver *driver, const char *command, const struct json_t *arguments,
                        struct naming *ret)
{
    return qmp_name(driver, qmp_of(driver)->ctx, command, arguments, ret);
}

static const char *qmp_id_of(struct driver *driver, const char *name)
{
    (void)driver;
    return name;
}

static const struct driver_ops qmp_ops = {
    .execute = qmp_execute,
    .verb = qmp_verb,
    .prepare = qmp_prepare,
    .unprepare = qmp_unprepare,
    .query = qmp_query,
    .look = qmp_look,
    .unsee = qmp_unsee,
    .withdraw = qmp_withdraw,
    .abandon = qmp_abandon,
    .is_owed = qmp_is_owed,
    .has_command = qmp_has,
    .is_verb = qmp_is_verb,
    .name = qmp_name_run,
    .id_of = qmp_id_of,
    .probe = qmp_probe,
    .takes = qmp_takes,
    .stage = qmp_stage,
    .close = qmp_close,
};

struct driver *qmp_open(bj_ctx *ctx, const char *uri, struct address *address,
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
    qmp->fd = -1;
    qmp->is_duplicate = address->kind == ADDRESS_FD;
    outbox_init(&qmp->outbox, first_id(ctx), (size_t)ctx_limit(ctx, BJ_LIMIT_IN_FLIGHT),
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
