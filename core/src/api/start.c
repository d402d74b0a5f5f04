/* SPDX-License-Identifier: MIT */
/*
 * Starting a job.
 */
#include "api/start.h"
#include "api/job.h"
#include "api/monitor.h"
#include "api/request.h"
#include "api/wiring.h"
#include "base/json_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------- start */

bj_job *start_run(bj_monitor *monitor, const struct start_plan *plan, int *ret_error)
{
    bj_job *job = job_new(monitor, plan->id, plan->type, plan->ours);
    *ret_error = BJ_E_NOMEM;
    if (!job)
        return NULL;
    machine_learn(&job->machine)->kept = plan->kept;
    machine_learn(&job->machine)->replaces = plan->replaces;
    if (plan->device)
        job->device = text_new(plan->device, strlen(plan->device));
    job->run_data = text_ref(plan->run_data);

    *ret_error = monitor_add_starting(monitor, job);
    if (*ret_error == BJ_OK) {
        job_note_start_sent(job);
        return job;
    }
    job_retire(job);
    bj_job_unref(job);
    return NULL;
}

static int send_planned(struct request *request, struct driver *driver,
                        const struct start_plan *plan)
{
    if (!driver->ops->has_command(driver, plan->command))
        return BJ_E_UNSUPPORTED;
    char *text = json_text_add_members(request->arguments, plan->members);
    int r = BJ_E_NOMEM;
    if (text)
        request->job = start_run(request->monitor, plan, &r);
    if (request->job)
        r = driver->ops->execute(driver, &request->driver_request, plan->command, text);
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

void start_finished(bj_job *job, const struct driver_reply *reply)
{
    if (reply && reply->error == BJ_OK) {
        monitor_start_accepted(job->monitor, job);
        job_take_snapshot(job);
    } else if (!reply || !reply->is_lost) {
        monitor_start_refused(job->monitor, job);
    }
}

static void start_over(struct request *request, const struct driver_reply *reply)
{
    if (request->job)
        start_finished(request->job, reply);
}

static void start_replied(struct request *request, struct driver_reply *reply)
{
    (void)reply;
    future_answer(&request->future,
                  &(struct future_result){.value = job_value(bj_job_ref(request->job))});
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
                             "%s: the options are not a JSON object: %.200s", command, options);
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
