/* SPDX-License-Identifier: MIT */
/*
 * Futures that are one request to the driver; see request.h.
 */
#include "api/request.h"
#include "api/job.h"
#include "api/start.h"
#include "base/container_of.h"
#include "base/json_text.h"

#include <stdlib.h>
#include <string.h>

static struct request *request_of(bj_future *future)
{
    return (struct request *)future;
}

enum order_reply request_result(const struct driver_reply *reply)
{
    if (reply && reply->error == BJ_OK)
        return ORDER_ACCEPTED;
    return reply && reply->is_lost ? ORDER_LOST : ORDER_REFUSED;
}

static void fail(struct request *request, int error, const struct driver_reply *reply)
{
    const char *error_class = reply->error_class ? reply->error_class : "";
    const char *why = reply->text && *reply->text ? reply->text : bj_error_text(error);
    bool is_in_doubt = request->start_count > 0 && reply->is_lost;
    future_answer(&request->future,
                  &(struct future_result){
                      .error = error,
                      .text = is_in_doubt ? text_printf("%s; job %s may have been started: attach "
                                                        "to it",
                                                        why, request->starts[0].plan.id)
                                          : text_printf("%s", why),
                      .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                  });
}

static void close_descriptors(struct request *request)
{
    descriptors_close(request->descriptors);
    request->descriptors = NULL;
}

static void over(struct request *request, const struct driver_reply *reply)
{
    close_descriptors(request);
    if (request->kind->over)
        request->kind->over(request, reply);
}

static void on_done(struct driver_request *driver_request, struct driver_reply *reply)
{
    struct request *request = container_of(driver_request, struct request, driver_request);

    request->under_way = false;
    over(request, reply);
    if (!request->left && reply->error == BJ_OK)
        request->kind->replied(request, reply);
    else if (!request->left)
        fail(request, reply->error, reply);
    future_unref_memory(&request->future);
}

static void not_sent(struct request *request, int error)
{
    over(request, NULL);
    if (request->why)
        future_fail(&request->future, error, "%s", text_str(request->why));
    else if (error == BJ_E_UNSUPPORTED && request->command)
        future_fail(&request->future, error, "this QEMU has no command %s", request->command);
    else
        future_fail(&request->future, error, "%s: %s", monitor_label(request->monitor),
                    bj_error_text(error));
}

static void send_now(struct request *request, struct driver *driver)
{
    request->driver_request.done = on_done;
    int r = request->kind->send(request, driver);
    request->under_way = r == BJ_OK;
    if (r != BJ_OK) {
        not_sent(request, r);
        future_unref_memory(&request->future);
    }
}

/* Who leaves meanwhile is withdrawn, as nothing of it is written. */
static void on_probed(struct driver_request *driver_request, struct driver_reply *reply)
{
    struct request *request = container_of(driver_request, struct request, driver_request);

    if (reply->error == BJ_OK) {
        send_now(request, request->monitor->driver);
        return;
    }
    request->under_way = false;
    over(request, NULL);
    fail(request, reply->error, reply);
    future_unref_memory(&request->future);
}

static void probe(struct request *request, struct driver *driver)
{
    request->driver_request.done = on_probed;
    int r = driver->ops->probe(driver, &request->driver_request);
    request->under_way = r == BJ_OK;
    if (r != BJ_OK) {
        not_sent(request, r);
        future_unref_memory(&request->future);
    }
}

static void start(bj_future *future)
{
    struct request *request = request_of(future);
    struct text *text = NULL;

    int r = monitor_check_open(request->monitor, &text);
    if (r != BJ_OK) {
        over(request, NULL);
        future_answer(future, &(struct future_result){.error = r, .text = text});
        return;
    }
    struct driver *driver = request->monitor->driver;
    future_ref_memory(future);
    if (request->kind->starts_runs && driver->ops->takes(driver, request->command) < 0)
        probe(request, driver);
    else
        send_now(request, driver);
}

static void leave(bj_future *future)
{
    struct request *request = request_of(future);
    struct driver *driver = request->monitor->driver;

    request->left = true;
    if (!request->under_way || !driver || !driver->ops->withdraw(driver, &request->driver_request))
        return;
    request->under_way = false;
    over(request, NULL);
    future_unref_memory(future);
}

static void unstarted(bj_future *future)
{
    close_descriptors(request_of(future));
}

static struct text *late(bj_future *future)
{
    const struct request *request = request_of(future);
    const char *uri = monitor_label(request->monitor);
    double seconds = (double)future->timeout_ms / 1000.;
    const char *id = request->start_count > 0 ? request->starts[0].plan.id : "";

    if (request->start_count > 1)
        return text_printf("no answer from %s to %s within %.10g s: job %s and the others may yet "
                           "start; attach to what there is",
                           uri, request->command, seconds, id);
    if (request->start_count == 1)
        return text_printf(
            "no answer from %s to %s within %.10g s: job %s may yet start; attach to it", uri,
            request->command, seconds, id);
    return monitor_late_text(request->monitor, request->command, future->timeout_ms);
}

static void destroy(bj_future *future)
{
    struct request *request = request_of(future);
    free(request->command);
    free(request->arguments);
    free(request->raw_id);
    close_descriptors(request);
    text_unref(request->why);
    bj_job_unref(request->job);
    start_orders_free(request->starts, request->start_count);
    monitor_unref_memory(request->monitor);
}

static const struct future_ops request_ops = {
    .start = start,
    .unstarted = unstarted,
    .leave = leave,
    .late = late,
    .destroy = destroy,
};

struct request *request_new(bj_monitor *monitor, const struct request_kind *kind,
                            int64_t timeout_ms, bj_future **ret_failed)
{
    *ret_failed = monitor_refuse(monitor, timeout_ms);
    if (*ret_failed)
        return NULL;

    struct request *request =
        (struct request *)future_new(monitor->ctx, sizeof *request, &request_ops);
    if (!request) {
        *ret_failed = future_static(BJ_E_NOMEM);
        return NULL;
    }
    request->kind = kind;
    request->monitor = monitor_ref_memory(monitor);
    return request;
}

bj_future *request_set_command(struct request *request, const char *command, const char *arguments)
{
    bj_ctx *ctx = request->monitor->ctx;
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
                          "%s: the arguments are not a JSON object, or name a member twice: %.*s",
                          command, text_fit(arguments, QUOTED_MAX), arguments);
    json_decref(object);

    if (!failed) {
        request->command = strdup(command);
        request->arguments = arguments ? strdup(arguments) : NULL;
        if (!request->command || (arguments && !request->arguments))
            failed = future_static(BJ_E_NOMEM);
    }
    if (failed)
        bj_future_unref(&request->future);
    return failed;
}
