/* SPDX-License-Identifier: MIT */
/*
 * The requests on a QMP connection: commands, verbs, the job list, what start commands take.
 */
#include "base/container_of.h"
#include "base/json_text.h"
#include "driver/job_list.h"
#include "qmp/job_words.h"
#include "qmp/qmp.h"
#include "qmp/start_arguments.h"

#include <stdlib.h>
#include <string.h>

int qmp_execute(struct driver *driver, struct driver_request *request,
                const struct driver_command *command)
{
    struct qmp *qmp = qmp_of(driver);
    if (outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct command *raw = command_new_raw(&qmp->outbox, command);
    if (!raw)
        return BJ_E_NOMEM;
    qmp_submit(qmp, raw, request);
    return BJ_OK;
}

static int ask_unless_full(struct qmp *qmp, struct driver_request *request, const char *name,
                           const char *arguments)
{
    const struct driver_command command = {.name = name, .arguments = arguments};
    return qmp_execute(&qmp->driver, request, &command);
}

bool qmp_withdraw(struct driver *driver, struct driver_request *request)
{
    struct qmp *qmp = qmp_of(driver);

    if (start_commands_leave(&qmp->start_commands, request))
        return true;
    return outbox_withdraw(&qmp->outbox, request);
}

bool qmp_is_owed(struct driver *driver)
{
    return !outbox_is_empty(&qmp_of(driver)->outbox);
}

void qmp_abandon(struct driver *driver, int error, const char *text)
{
    struct qmp *qmp = qmp_of(driver);
    qmp_fail_waiting_graph(qmp, error, text);
    outbox_abandon(&qmp->outbox, error, text);
}

bool qmp_has(struct driver *driver, const char *command)
{
    return qmp_knows_command(qmp_of(driver), command);
}

int qmp_takes(struct driver *driver, const char *command)
{
    return start_commands_take(&qmp_of(driver)->start_commands, command);
}

/* One schema for all who wait: it is 150 to 250 kB. Refused or odd, it teaches nothing, and the
 * jobs go without ids. */
static void schema_known(struct driver_request *request, struct driver_reply *reply)
{
    struct start_commands *commands = container_of(request, struct start_commands, request);
    const json_t *schema = qmp_reply_value(reply);
    bool is_answer = reply->error == BJ_OK || reply->error == BJ_E_REFUSED;
    struct driver_reply known = {
        .error = is_answer ? BJ_OK : reply->error,
        .is_lost = reply->is_lost,
        .text = reply->text,
    };

    commands->under_way = false;
    if (is_answer)
        start_commands_learn(commands, schema);
    start_commands_answer(commands, &known);
}

int qmp_probe(struct driver *driver, struct driver_request *request)
{
    struct qmp *qmp = qmp_of(driver);
    struct start_commands *commands = &qmp->start_commands;
    if (commands->waiting_count >= qmp->outbox.queued_limit || outbox_is_full(&qmp->outbox))
        return BJ_E_BUSY;

    commands->request.done = schema_known;
    int r = commands->under_way ? BJ_OK
                                : qmp_ask(qmp, &commands->request, "query-qmp-schema", NULL, false);
    if (r != BJ_OK)
        return r;
    commands->under_way = true;
    start_commands_wait(commands, request);
    return BJ_OK;
}

bool qmp_is_verb(struct driver *driver, const char *command, const char *arguments,
                 enum verb *ret_verb, char **ret_id)
{
    (void)driver;
    json_t *object = arguments ? json_text_object(arguments, NULL) : NULL;
    const char *id = qmp_verb_of(command, object, ret_verb);
    *ret_id = id ? strdup(id) : NULL;
    json_decref(object);
    return *ret_id != NULL;
}

void qmp_prepare(struct driver *driver, struct driver_request *request, const char *id)
{
    struct qmp *qmp = qmp_of(driver);
    char *arguments =
        qmp->complete && !request->prepared
            ? qmp_verb_arguments(qmp->complete, VERB_COMPLETE, id, 0, qmp_knows_command, qmp)
            : NULL;
    if (arguments)
        request->prepared = command_new(&qmp->outbox, qmp->complete, arguments, true);
    free(arguments);
}

void qmp_unprepare(struct driver_request *request)
{
    command_free(request->prepared);
    request->prepared = NULL;
}

static int send_verb_command(struct qmp *qmp, struct driver_request *request,
                             const struct driver_verb *verb)
{
    const char *name = verb->verb == VERB_COMPLETE
                           ? qmp->complete
                           : qmp_verb_command(verb->verb, verb->type, qmp_knows_command, qmp);
    if (!name)
        return BJ_E_UNSUPPORTED;
    char *arguments =
        verb->verb == VERB_CHANGE
            ? qmp_change_arguments(verb->id, verb->type, verb->options)
            : qmp_verb_arguments(name, verb->verb, verb->id, verb->speed, qmp_knows_command, qmp);
    int r = arguments ? qmp_ask(qmp, request, name, arguments, true) : BJ_E_NOMEM;
    free(arguments);
    return r;
}

int qmp_verb(struct driver *driver, struct driver_request *request, const struct driver_verb *verb)
{
    struct qmp *qmp = qmp_of(driver);
    struct command *prepared = request->prepared;
    if (verb->verb == VERB_COMPLETE && verb->run_data)
        return ask_unless_full(qmp, request, QMP_REOPEN, text_str(verb->run_data));
    if (prepared && qmp->stage != QMP_DOWN) {
        request->prepared = NULL;
        qmp_submit(qmp, prepared, request);
        return BJ_OK;
    }
    /* One per job is bounded by itself. */
    bool shared = verb->verb <= VERB_FORCE || verb->verb == VERB_DISMISS;
    return !shared && outbox_is_full(&qmp->outbox) ? BJ_E_BUSY
                                                   : send_verb_command(qmp, request, verb);
}

/* ----------------------------------------------------------------------- ends */

void qmp_make_up_end(struct driver *driver, const struct driver_end *end)
{
    struct qmp *qmp = qmp_of(driver);
    char *data = made_up_end_data(end);

    made_up_ends_add(&qmp->made_up_ends, end->id);
    if (qmp->sink->wants_events(qmp->user))
        qmp->sink->event(qmp->user, MADE_UP_END_EVENT, data, data ? strlen(data) : 0,
                         clock_realtime_us());
    free(data);
}

/* -------------------------------------------------------------------- queries */

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
    bool is_lost;
    struct text *text;
};

static void finish_query(struct query *query)
{
    struct driver_reply reply = {
        .error = query->error,
        .is_lost = query->is_lost,
        .text = text_str(query->text),
    };
    const struct row_filter filter = {
        .limit = (size_t)ctx_limit(query->qmp->ctx, BJ_LIMIT_JOBS),
        .wants_row = query->qmp->sink->wants_row,
        .user = query->qmp->user,
    };

    if (query->error == BJ_OK) {
        reply.list = qmp_read_rows(query->block_jobs, query->jobs, &filter);
        if (!reply.list)
            reply.error = BJ_E_NOMEM;
    }
    query->asker->done(query->asker, &reply);

    job_list_free(reply.list);
    json_decref(query->block_jobs);
    json_decref(query->jobs);
    text_unref(query->text);
    free(query);
}

static void query_part_done(struct query *query, json_t **part, struct driver_reply *reply)
{
    const json_t *rows = qmp_reply_value(reply);

    if (reply->error == BJ_OK && json_is_array(rows)) {
        *part = json_incref((json_t *)rows);
    } else if (query->error == BJ_OK) {
        query->error = reply->error != BJ_OK ? reply->error : BJ_E_PROTOCOL;
        query->text = text_printf("%s", reply->text ? reply->text : bj_error_text(query->error));
    }
    query->is_lost |= reply->is_lost;
    if (--query->pending == 0)
        finish_query(query);
}

static void block_jobs_done(struct driver_request *request, struct driver_reply *reply)
{
    struct query *query = container_of(request, struct query, block_jobs_request);
    query_part_done(query, &query->block_jobs, reply);
}

static void jobs_done(struct driver_request *request, struct driver_reply *reply)
{
    struct query *query = container_of(request, struct query, jobs_request);
    query_part_done(query, &query->jobs, reply);
}

int qmp_query(struct driver *driver, struct driver_request *request, bool urgent)
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

    int r = qmp_ask(qmp, &query->block_jobs_request, "query-block-jobs", NULL, urgent);
    if (r != BJ_OK) {
        free(query);
        return r;
    }
    query->pending = 1;
    if (!qmp_knows_command(qmp, "query-jobs"))
        return BJ_OK;
    if (qmp_ask(qmp, &query->jobs_request, "query-jobs", NULL, urgent) == BJ_OK)
        query->pending++;
    else
        query->error = BJ_E_NOMEM;
    return BJ_OK;
}

/* --------------------------------------------------------------------- starts */

int qmp_transaction(struct driver *driver, struct driver_request *request, const char *actions,
                    bool grouped)
{
    const char *parts[] = {
        "{\"actions\":",
        actions,
        grouped ? ",\"properties\":{\"completion-mode\":\"grouped\"}" : "",
        "}",
    };
    char *arguments = json_text_join(parts, sizeof parts / sizeof parts[0], NULL);
    int r =
        arguments ? ask_unless_full(qmp_of(driver), request, "transaction", arguments) : BJ_E_NOMEM;
    free(arguments);
    return r;
}

int qmp_plan_start(struct driver *driver, const char *command, const struct json_t *arguments,
                   struct start_plan *ret)
{
    return qmp_make_plan(driver, qmp_of(driver)->ctx, command, arguments, ret);
}

const char *qmp_id_of(struct driver *driver, const char *name)
{
    (void)driver;
    return name;
}
