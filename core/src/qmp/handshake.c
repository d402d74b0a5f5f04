/* SPDX-License-Identifier: MIT */
/*
 * The negotiation of a QMP connection, and what it finds out about the QEMU.
 */
#include "base/container_of.h"
#include "qmp/dial.h"
#include "qmp/job_words.h"
#include "qmp/qmp.h"

#include <string.h>

struct text *qmp_stage(struct driver *driver, int64_t timeout_ms)
{
    struct qmp *qmp = qmp_of(driver);
    double seconds = (double)timeout_ms / 1000.;
    const char *host = qmp->dial ? dial_looks_up(qmp->dial) : NULL;

    if (host)
        return text_printf("no connection to %s within %.10g s: the name %s is still being looked "
                           "up: is the name server there?",
                           qmp_uri(qmp), seconds, host);
    switch (qmp->stage) {
    case QMP_CONNECTING:
        return text_printf(
            "no connection to %s within %.10g s: QEMU does not accept; another client "
            "may hold this monitor and others wait before us",
            qmp_uri(qmp), seconds);
    case QMP_GREETING:
        return text_printf(
            "no greeting from %s within %.10g s: another client may hold this monitor "
            "(QEMU serves one at a time: start it with a second -qmp), or it is no QMP "
            "socket, or QEMU is stopped",
            qmp_uri(qmp), seconds);
    default:
        return text_printf("%s greeted, but did not finish the negotiation within %.10g s: QEMU is "
                           "stopped or stuck",
                           qmp_uri(qmp), seconds);
    }
}

static void handshake_failed(struct qmp *qmp, const struct driver_reply *reply)
{
    if (reply->error == BJ_E_REFUSED)
        qmp_go_down(qmp, BJ_E_PROTOCOL,
                    text_printf("%s refused the negotiation: %s", qmp_uri(qmp), reply->text));
    else if (qmp->stage != QMP_DOWN)
        qmp_go_down(qmp, reply->error, text_printf("%s", bj_error_text(reply->error)));
}

/* A schema beyond the program's limits would end the connection: then it is not asked for. */
#define SCHEMA_BYTES (512 * 1024)
#define SCHEMA_TOKENS (128 * 1024)

static bool can_read_schema(bj_ctx *ctx)
{
    return ctx_limit(ctx, BJ_LIMIT_MESSAGE_BYTES) >= SCHEMA_BYTES &&
           ctx_limit(ctx, BJ_LIMIT_MESSAGE_TOKENS) >= SCHEMA_TOKENS;
}

static const char reopen_hint[] =
    "this QEMU pivots by " QMP_REOPEN ", for which the target and its format are not known here: "
    "bj_monitor_execute() it";

static void find_capabilities(struct qmp *qmp)
{
    bool has_status = qmp_knows_command(qmp, "query-jobs");

    qmp->driver.capabilities = (struct capabilities){
        .has_status = has_status,
        .has_graph = qmp_knows_command(qmp, "x-debug-query-block-graph"),
        .has_dismiss = qmp_verb_command(VERB_DISMISS, "", qmp_knows_command, qmp) != NULL,
        .has_ready_event = has_status || qmp_knows_command(qmp, "block-job-complete"),
        .hides_pauses = !has_status,
        .is_silent = qmp_knows_command(qmp, "block_job_cancel"),
        .no_repeats = qmp_knows_command(qmp, "__com.redhat_drive-mirror"),
        .passes_descriptors = qmp->passes_descriptors,
        .offers_out_of_band = qmp->offers_out_of_band,
        .executes_out_of_band = qmp->outbox.reads_ahead,
        .no_such_job_class = QMP_NO_SUCH_JOB,
        .complete_hint = qmp_knows_command(qmp, QMP_REOPEN) ? reopen_hint : NULL,
    };
}

static void commands_known(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, handshake);
    if (reply->error != BJ_OK) {
        handshake_failed(qmp, reply);
        return;
    }
    qmp->commands = command_set_find(qmp->ctx, reply->json, reply->json_len);
    const json_t *value = qmp->commands ? NULL : qmp_reply_value(reply);
    if (value)
        qmp->commands = command_set_new(qmp->ctx, reply->json, reply->json_len, value);
    if (!qmp->commands) {
        qmp_go_down(qmp, BJ_E_NOMEM, text_printf("out of memory"));
        return;
    }
    find_capabilities(qmp);
    start_commands_init(&qmp->start_commands, qmp_knows_command, qmp);
    if (!can_read_schema(qmp->ctx))
        qmp->start_commands.known = true;
    qmp->complete = qmp_verb_command(VERB_COMPLETE, "", qmp_knows_command, qmp);
    qmp->stage = QMP_UP;
    qmp->sink->up(qmp->user, qmp->version);
}

static void ask_handshake(struct qmp *qmp, const char *command, const char *arguments,
                          void (*done)(struct driver_request *, struct driver_reply *))
{
    qmp->handshake.done = done;
    int r = qmp_ask(qmp, &qmp->handshake, command, arguments, false);
    if (r != BJ_OK)
        qmp_go_down(qmp, r, text_printf("%s", bj_error_text(r)));
}

/* Only for a program that asks for it: QEMU then reads commands ahead, and we send few at a time.
 */
static bool negotiates_out_of_band(const struct qmp *qmp)
{
    return qmp->wants_out_of_band && qmp->offers_out_of_band;
}

static void negotiated(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, handshake);
    if (reply->error != BJ_OK) {
        handshake_failed(qmp, reply);
        return;
    }
    if (negotiates_out_of_band(qmp))
        outbox_enable_out_of_band(&qmp->outbox);
    ask_handshake(qmp, "query-commands", NULL, commands_known);
}

static bool has_string(const json_t *array, const char *string)
{
    size_t i;
    const json_t *member;

    json_array_foreach(array, i, member)
    {
        const char *value = json_string_value(member);
        if (value && strcmp(value, string) == 0)
            return true;
    }
    return false;
}

void qmp_read_greeting(struct qmp *qmp, const struct message *message)
{
    const json_t *version = json_object_get(json_object_get(message->value, "version"), "qemu");
    qmp->version =
        text_printf("%d.%d.%d", (int)json_integer_value(json_object_get(version, "major")),
                    (int)json_integer_value(json_object_get(version, "minor")),
                    (int)json_integer_value(json_object_get(version, "micro")));
    qmp->offers_out_of_band = has_string(json_object_get(message->value, "capabilities"), "oob");
    qmp->stage = QMP_NEGOTIATING;
    ask_handshake(qmp, "qmp_capabilities",
                  negotiates_out_of_band(qmp) ? "{\"enable\":[\"oob\"]}" : NULL, negotiated);
}
