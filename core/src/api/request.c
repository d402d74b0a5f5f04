/* SPDX-License-Identifier: MIT */
/*
 * Futures that are one request to the driver; see request.h. Raw commands and the list of jobs are
 * here.
 */
#include "api/request.h"
#include "api/job.h"
#include "base/container_of.h"
#include "base/json_text.h"

#include <stdlib.h>
#include <string.h>

static struct ask *ask_of(bj_future *future)
{
    return (struct ask *)future;
}

static void fail(struct ask *ask, int error, const struct driver_reply *reply)
{
    const char *error_class = reply->error_class ? reply->error_class : "";
    future_answer(&ask->future,
                  &(struct future_result){
                      .error = error,
                      .text = text_printf("%s", reply->text && *reply->text ? reply->text
                                                                            : bj_error_text(error)),
                      .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                  });
}

static void on_done(struct driver_request *request, struct driver_reply *reply)
{
    struct ask *ask = container_of(request, struct ask, request);

    ask->under_way = false;
    if (ask->kind->over)
        ask->kind->over(ask, reply);
    if (!ask->left && reply->error == BJ_OK)
        ask->kind->replied(ask, reply);
    else if (!ask->left)
        fail(ask, reply->error, reply);
    future_unref_memory(&ask->future);
}

static void not_sent(struct ask *ask, int error)
{
    if (ask->kind->over)
        ask->kind->over(ask, NULL);
    if (error == BJ_E_UNSUPPORTED && ask->command)
        future_fail(&ask->future, error, "this QEMU has no command %s", ask->command);
    else
        future_fail(&ask->future, error, "%s: %s", text_str(ask->monitor->uri),
                    bj_error_text(error));
}

static void send_now(struct ask *ask, struct driver *driver)
{
    ask->request.done = on_done;
    int r = ask->kind->send(ask, driver);
    ask->under_way = r == BJ_OK;
    if (r != BJ_OK) {
        not_sent(ask, r);
        future_unref_memory(&ask->future);
    }
}

/* Who leaves meanwhile is withdrawn, as nothing of it is written. */
static void on_probed(struct driver_request *request, struct driver_reply *reply)
{
    struct ask *ask = container_of(request, struct ask, request);

    if (reply->error == BJ_OK) {
        send_now(ask, ask->monitor->driver);
        return;
    }
    ask->under_way = false;
    if (ask->kind->over)
        ask->kind->over(ask, NULL);
    fail(ask, reply->error, reply);
    future_unref_memory(&ask->future);
}

static void probe(struct ask *ask, struct driver *driver)
{
    ask->request.done = on_probed;
    int r = driver->ops->probe(driver, &ask->request);
    ask->under_way = r == BJ_OK;
    if (r != BJ_OK) {
        not_sent(ask, r);
        future_unref_memory(&ask->future);
    }
}

static void start(bj_future *future)
{
    struct ask *ask = ask_of(future);
    struct text *text = NULL;

    int r = monitor_check_open(ask->monitor, &text);
    if (r != BJ_OK) {
        if (ask->kind->over)
            ask->kind->over(ask, NULL);
        future_answer(future, &(struct future_result){.error = r, .text = text});
        return;
    }
    struct driver *driver = ask->monitor->driver;
    future_ref_memory(future);
    if (ask->kind->starts_runs && driver->ops->takes(driver, ask->command) < 0)
        probe(ask, driver);
    else
        send_now(ask, driver);
}

static void leave(bj_future *future)
{
    struct ask *ask = ask_of(future);
    struct driver *driver = ask->monitor->driver;

    ask->left = true;
    if (!ask->under_way || !driver || !driver->ops->withdraw(driver, &ask->request))
        return;
    ask->under_way = false;
    if (ask->kind->over)
        ask->kind->over(ask, NULL);
    future_unref_memory(future);
}

static struct text *late(bj_future *future)
{
    const struct ask *ask = ask_of(future);
    const char *uri = text_str(ask->monitor->uri);
    double seconds = (double)future->timeout_ms / 1000.;

    if (ask->command && ask->job)
        return text_printf(
            "no answer from %s to %s within %.10g s: job %s may yet start; attach to it", uri,
            ask->command, seconds, bj_job_id(ask->job));
    if (ask->command && ask->jobs && ask->jobs->count > 0)
        return text_printf("no answer from %s to %s within %.10g s: job %s%s may yet start; attach "
                           "to what there is",
                           uri, ask->command, seconds, bj_job_id(ask->jobs->jobs[0]),
                           ask->jobs->count > 1 ? " and the others" : "");
    return text_printf(
        "no answer from %s%s%s within %.10g s: QEMU may be stopped or busy; what it was "
        "told it may still do",
        uri, ask->command ? " to " : "", ask->command ? ask->command : "", seconds);
}

static void destroy(bj_future *future)
{
    struct ask *ask = ask_of(future);
    free(ask->command);
    free(ask->arguments);
    free(ask->id);
    bj_job_unref(ask->job);
    job_array_free(ask->jobs);
    bj_job_unref(ask->target);
    monitor_unref_memory(ask->monitor);
}

static const struct future_ops ask_ops = {
    .start = start,
    .leave = leave,
    .late = late,
    .destroy = destroy,
};

static bj_future *refuse(bj_monitor *monitor, int64_t timeout_ms)
{
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(monitor->ctx, BJ_E_INVAL, "%s: a timeout of %lld ms is negative",
                             text_str(monitor->uri), (long long)timeout_ms);
    return NULL;
}

struct ask *ask_new(bj_monitor *monitor, const struct ask_kind *kind, int64_t timeout_ms,
                    bj_future **ret_failed)
{
    *ret_failed = refuse(monitor, timeout_ms);
    if (*ret_failed)
        return NULL;

    struct ask *ask = (struct ask *)future_new(monitor->ctx, sizeof *ask, &ask_ops);
    if (!ask) {
        *ret_failed = future_static(BJ_E_NOMEM);
        return NULL;
    }
    ask->kind = kind;
    ask->monitor = monitor_ref_memory(monitor);
    return ask;
}

void ask_answer_infos(struct ask *ask, struct driver_reply *reply, size_t count)
{
    struct job_list *infos = reply->infos;
    reply->infos = NULL;

    struct job_list rest = {.count = infos->count - count, .rows = infos->rows + count};
    job_list_free_rows(&rest);
    infos->count = count;
    future_answer(&ask->future, &(struct future_result){.value = infos_value(infos)});
}

/* -------------------------------------------------------------------- execute */

/* A verb that the program sends by itself: its job is to know, or it would take it for another
 * client's. */
static void note_verb(struct ask *ask, struct driver *driver)
{
    char *id = NULL;
    if (!driver->ops->is_verb ||
        !driver->ops->is_verb(driver, ask->command, ask->arguments, &ask->verb, &id))
        return;
    ask->target = bj_job_ref(monitor_find_job(ask->monitor, id));
    if (ask->target)
        machine_raw_sent(&ask->target->machine, ask->verb);
    free(id);
}

static int send_execute(struct ask *ask, struct driver *driver)
{
    int r = driver->ops->execute(driver, &ask->request, ask->command, ask->arguments);
    if (r == BJ_OK)
        note_verb(ask, driver);
    return r;
}

static void execute_over(struct ask *ask, const struct driver_reply *reply)
{
    if (ask->target)
        job_feed_raw_reply(ask->target, ask->verb, reply && reply->error == BJ_OK);
}

static void execute_replied(struct ask *ask, struct driver_reply *reply)
{
    struct text *json = text_new(reply->json, reply->json_len);
    if (json)
        future_answer(&ask->future, &(struct future_result){.json = json});
    else
        future_fail(&ask->future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

bj_future *bj_monitor_execute(bj_monitor *monitor, const char *command, const char *arguments,
                              int64_t timeout_ms)
{
    static const struct ask_kind kind = {
        .send = send_execute,
        .replied = execute_replied,
        .over = execute_over,
    };
    bj_future *failed;
    struct ask *ask = ask_new(monitor, &kind, timeout_ms, &failed);
    if (!ask)
        return failed;
    failed = ask_set_command(ask, command, arguments);
    return failed ? failed : future_launch(&ask->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}

bj_future *ask_set_command(struct ask *ask, const char *command, const char *arguments)
{
    bj_ctx *ctx = ask->monitor->ctx;
    bj_future *failed = NULL;
    int error = BJ_OK;
    json_t *object = arguments ? json_text_object(arguments, &error) : NULL;

    if (!command || !*command)
        failed = future_failed(ctx, BJ_E_INVAL, "a command needs a name");
    else if (arguments && !object && error == BJ_E_NOMEM)
        failed = future_static(BJ_E_NOMEM);
    else if (arguments && !object)
        failed =
            future_failed(ctx, BJ_E_INVAL,
                          "%s: the arguments are not a JSON object, or name a member twice: %.200s",
                          command, arguments);
    json_decref(object);

    if (!failed) {
        ask->command = strdup(command);
        ask->arguments = arguments ? strdup(arguments) : NULL;
        if (!ask->command || (arguments && !ask->arguments))
            failed = future_static(BJ_E_NOMEM);
    }
    if (failed)
        bj_future_unref(&ask->future);
    return failed;
}

/* ----------------------------------------------------------------------- list */

static int send_list(struct ask *ask, struct driver *driver)
{
    return driver->ops->query(driver, &ask->request, false);
}

static void list_replied(struct ask *ask, struct driver_reply *reply)
{
    ask_answer_infos(ask, reply, reply->infos->count);
}

bj_future *bj_monitor_list(bj_monitor *monitor, int64_t timeout_ms)
{
    static const struct ask_kind kind = {.send = send_list, .replied = list_replied};
    bj_future *failed;
    struct ask *ask = ask_new(monitor, &kind, timeout_ms, &failed);
    return ask ? future_launch(&ask->future, timeout_ms, BJ_LIMIT_COMMAND_MS) : failed;
}
