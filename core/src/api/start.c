/* SPDX-License-Identifier: MIT */
/*
 * Starting a job.
 */
#include "api/start.h"
#include "api/job.h"
#include "api/monitor.h"
#include "api/request.h"
#include "base/container_of.h"
#include "base/json_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------- start */

int start_begin(bj_monitor *monitor, struct start_order *order, struct start_plan *plan)
{
    bj_job *spare = job_new(monitor, plan->id, "");

    *order = (struct start_order){.plan = *plan, .sent_us = clock_realtime_us()};
    *plan = (struct start_plan){0};
    order->start.id = order->plan.id;
    order->start.type = order->plan.type;
    order->start.ours = order->plan.ours;
    order->start.is_unique = order->plan.has_own_id;
    order->start.spare = spare ? &spare->run : NULL;
    int r = spare ? tracker_start(&monitor->tracker, &order->start) : BJ_E_NOMEM;
    order->is_out = r == BJ_OK;
    return r;
}

void start_own(bj_job *job, struct start *start)
{
    const struct start_order *order = container_of(start, struct start_order, start);
    const struct start_plan *plan = &order->plan;
    struct machine_traits *traits = machine_learn(&job->run.machine);

    traits->kept = plan->kept;
    traits->replaces = plan->replaces;
    job_learn_type(job, plan->type);
    job_learn_disks(job, plan->disks);
    job_note_start(job, order->sent_us, plan->device, plan->run_data);
}

void start_over(struct request *request, const struct driver_reply *reply)
{
    for (size_t i = 0; i < request->start_count; i++) {
        struct start_order *order = &request->starts[i];
        if (order->is_out)
            tracker_started(&request->monitor->tracker, &order->start, request_result(reply));
        order->is_out = false;
    }
}

void start_orders_free(struct start_order *orders, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct run *spare = orders[i].start.spare;
        if (spare) {
            job_retire(job_of(spare));
            bj_job_unref(job_of(spare));
        }
        if (orders[i].start.run)
            bj_job_unref(job_of(orders[i].start.run));
        start_plan_clear(&orders[i].plan);
    }
    free(orders);
}

static int send_planned(struct request *request, struct driver *driver, struct start_plan *plan)
{
    if (!driver->ops->has_command(driver, plan->command))
        return BJ_E_UNSUPPORTED;
    request->starts = calloc(1, sizeof *request->starts);
    char *text = json_text_add_members(request->arguments, plan->members);
    const char *command = plan->command;
    int r = BJ_E_NOMEM;
    if (text && request->starts) {
        request->start_count = 1;
        r = start_begin(request->monitor, request->starts, plan);
    }
    if (r == BJ_OK)
        r = driver->ops->execute(driver, &request->driver_request,
                                 &(struct driver_command){.name = command, .arguments = text});
    free(text);
    return r;
}

static int send_start(struct request *request, struct driver *driver)
{
    struct start_plan plan;
    json_t *arguments = json_text_object(request->arguments, NULL); /* was one when it was asked */
    int r = arguments ? driver->ops->plan_start(driver, request->command, arguments, &plan)
                      : BJ_E_NOMEM;
    if (r == BJ_OK) {
        r = send_planned(request, driver, &plan);
        start_plan_clear(&plan);
    }
    json_decref(arguments);
    return r;
}

static void start_replied(struct request *request, struct driver_reply *reply)
{
    bj_job *job = start_job(&request->starts[0]);
    (void)reply;
    if (job)
        future_answer(&request->future,
                      &(struct future_result){.value = job_value(bj_job_ref(job))});
    else
        future_fail(&request->future, BJ_E_NOMEM,
                    "job %s was started, and there is no memory to follow it: attach to it",
                    request->starts[0].plan.id);
}

bj_future *bj_monitor_start(bj_monitor *monitor, const char *command, const char *arguments,
                            int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_start,
        .replied = start_replied,
        .over = start_over,
        .starts_runs = true,
    };
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    failed = request_set_command(request, command, arguments ? arguments : "{}");
    return failed ? failed : future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}

/* ------------------------------------------------------------ the usual jobs */

struct member {
    const char *name;
    const char *value;
};

/* The object's text without its braces, for json_text_add_members(). NULL: no memory. */
static char *members_text(const struct member *members, size_t count)
{
    json_t *object = json_object();
    int failed = object ? 0 : -1;
    for (size_t i = 0; i < count && !failed; i++)
        failed = json_object_set_new(object, members[i].name, json_string(members[i].value));
    char *text = failed ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (!text)
        return NULL;
    size_t len = strlen(text);
    text[len - 1] = '\0';
    memmove(text, text + 1, len - 1);
    return text;
}

/* `options` is checked here, because it is joined as text. */
static bj_future *start_usual(bj_monitor *monitor, const char *command, const char *options,
                              const struct member *members, size_t count, int64_t timeout_ms)
{
    if (!monitor)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(monitor->ctx))
        return future_static(BJ_E_FORKED);
    for (size_t i = 0; i < count; i++)
        if (!members[i].value)
            return future_failed(monitor->ctx, BJ_E_INVAL, "%s: %s is NULL", command,
                                 members[i].name);

    int error = BJ_OK;
    json_t *parsed = options ? json_text_object(options, &error) : NULL;
    if (options && !parsed && error == BJ_E_NOMEM)
        return future_static(BJ_E_NOMEM);
    if (options && !parsed)
        return future_failed(monitor->ctx, BJ_E_INVAL,
                             "%s: the options are not a JSON object: %.*s", command,
                             text_fit(options, QUOTED_MAX), options);
    json_decref(parsed);

    errno = 0; /* nothing else tells no memory from no UTF-8 */
    char *required = members_text(members, count);
    char *arguments = required ? json_text_add_members(options ? options : "{}", required) : NULL;
    bj_future *future;
    if (arguments)
        future = bj_monitor_start(monitor, command, arguments, timeout_ms);
    else if (errno == ENOMEM)
        future = future_static(BJ_E_NOMEM);
    else
        future =
            future_failed(monitor->ctx, BJ_E_INVAL, "%s: its arguments are not UTF-8", command);
    free(required);
    free(arguments);
    return future;
}

bj_future *bj_monitor_mirror(bj_monitor *monitor, const char *device, const char *target,
                             const char *sync, const char *options, int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}, {"target", target}, {"sync", sync}};
    return start_usual(monitor, START_MIRROR, options, members, 3, timeout_ms);
}

bj_future *bj_monitor_commit(bj_monitor *monitor, const char *device, const char *options,
                             int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}};
    return start_usual(monitor, START_COMMIT, options, members, 1, timeout_ms);
}

bj_future *bj_monitor_stream(bj_monitor *monitor, const char *device, const char *options,
                             int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}};
    return start_usual(monitor, START_STREAM, options, members, 1, timeout_ms);
}

bj_future *bj_monitor_backup(bj_monitor *monitor, const char *device, const char *target,
                             const char *sync, const char *options, int64_t timeout_ms)
{
    const struct member members[] = {{"device", device}, {"target", target}, {"sync", sync}};
    return start_usual(monitor, START_BACKUP, options, members, 3, timeout_ms);
}
