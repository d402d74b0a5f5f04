/* SPDX-License-Identifier: MIT */
/*
 * Starting several jobs as one (B43).
 */
#include "api/job.h"
#include "api/request.h"
#include "api/start.h"
#include "base/json_text.h"
#include "qmp/start_commands.h"

#include <stdlib.h>
#include <string.h>

/* What is added to the data of each action; NULL where nothing is. */
struct additions {
    size_t count;
    char *members[];
};

static struct additions *new_additions(size_t count)
{
    struct additions *additions = calloc(1, sizeof *additions + count * sizeof(char *));
    if (additions)
        additions->count = count;
    return additions;
}

static void free_additions(struct additions *additions)
{
    for (size_t i = 0; additions && i < additions->count; i++)
        free(additions->members[i]);
    free(additions);
}

static const char *type_of(const json_t *action)
{
    return json_string_value(json_object_get(action, "type"));
}

static bool starts_job(const json_t *action)
{
    return start_command_find(type_of(action)) != NULL;
}

static size_t count_starts(const json_t *actions)
{
    size_t count = 0, i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        count += starts_job(action);
    }
    return count;
}

/* -------------------------------------------------------------------- sending */

/* Each is known before the first byte is sent (B01). */
static int begin_starts(struct request *request, struct driver *driver, const json_t *actions,
                        struct additions *additions)
{
    int r = BJ_OK;
    size_t i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        struct start_plan plan;
        if (!starts_job(action))
            continue;
        r = driver->ops->plan_start(driver, type_of(action), json_object_get(action, "data"),
                                    &plan);
        if (r != BJ_OK)
            break;
        additions->members[i] = plan.members;
        plan.members = NULL;
        r = start_begin(request->monitor, &request->starts[request->start_count++], &plan);
        if (r != BJ_OK)
            break;
    }
    return r;
}

static int send_actions(struct request *request, struct driver *driver,
                        const struct additions *additions)
{
    char *actions = NULL;
    int r = json_text_add_members_in(request->arguments, "data",
                                     (const char *const *)additions->members, &actions);
    if (r != BJ_OK)
        return r;
    r = driver->ops->transaction(driver, &request->driver_request, actions, request->is_grouped);
    free(actions);
    return r;
}

static int send_transaction(struct request *request, struct driver *driver)
{
    if (!driver->ops->transaction || !driver->ops->has_command(driver, request->command))
        return BJ_E_UNSUPPORTED;
    json_t *actions = json_text_array(request->arguments, NULL); /* was one when it was asked */
    struct additions *additions = new_additions(json_array_size(actions));
    request->starts = calloc(count_starts(actions) + 1, sizeof *request->starts);

    int r = actions && additions && request->starts
                ? begin_starts(request, driver, actions, additions)
                : BJ_E_NOMEM;
    if (r == BJ_OK)
        r = send_actions(request, driver, additions);
    free_additions(additions);
    json_decref(actions);
    return r;
}

/* NULL: there is no memory to follow them all. */
static struct job_array *started_jobs(const struct request *request)
{
    size_t count = request->start_count;
    struct job_array *jobs = calloc(1, sizeof *jobs + count * sizeof(bj_job *));

    for (size_t i = 0; jobs && i < count; i++) {
        bj_job *job = start_job(&request->starts[i]);
        if (!job) {
            job_array_free(jobs);
            return NULL;
        }
        jobs->jobs[jobs->count++] = bj_job_ref(job);
    }
    return jobs;
}

static void transaction_replied(struct request *request, struct driver_reply *reply)
{
    struct job_array *jobs = started_jobs(request);
    (void)reply;
    if (jobs)
        future_answer(&request->future, &(struct future_result){.value = jobs_value(jobs)});
    else
        future_fail(&request->future, BJ_E_NOMEM,
                    "the jobs were started, and there is no memory to follow them: attach to them");
}

/* --------------------------------------------------------------------- asking */

/* The first that is none, or whose data can't be added to; -1: all are actions. */
static int find_misfit(const json_t *actions)
{
    size_t i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        bool has_data = json_is_object(json_object_get(action, "data"));
        if (!type_of(action) || (starts_job(action) && !has_data))
            return (int)i;
    }
    return -1;
}

/* Adds nothing, which shows whether something could be. */
static int try_adding(const char *text, const json_t *actions)
{
    struct additions *additions = new_additions(json_array_size(actions));
    char *same = NULL;
    int r = additions ? BJ_OK : BJ_E_NOMEM;
    size_t i;
    const json_t *action;

    json_array_foreach(actions, i, action)
    {
        if (r == BJ_OK && starts_job(action) && !(additions->members[i] = strdup("")))
            r = BJ_E_NOMEM;
    }
    if (r == BJ_OK)
        r = json_text_add_members_in(text, "data", (const char *const *)additions->members, &same);
    free(same);
    free_additions(additions);
    return r;
}

/* NULL; or why these are no actions. */
static bj_future *check_actions(bj_ctx *ctx, const char *text, const json_t *actions)
{
    if (!actions)
        return future_failed(ctx, BJ_E_INVAL,
                             "transaction: the actions are not a JSON array, or name a member "
                             "twice: %.*s",
                             text ? text_fit(text, QUOTED_MAX) : QUOTED_MAX, text ? text : "NULL");
    int misfit = find_misfit(actions);
    if (misfit >= 0)
        return future_failed(ctx, BJ_E_INVAL,
                             "transaction: action %d is not {\"type\": \"...\", \"data\": {...}}",
                             misfit);
    int r = try_adding(text, actions);
    if (r == BJ_E_INVAL)
        return future_failed(ctx, r, "transaction: \"data\" is spelt with escapes");
    return r == BJ_OK ? NULL : future_static(r);
}

static bj_future *set_actions(struct request *request, const char *text)
{
    int error = BJ_OK;
    json_t *actions = text ? json_text_array(text, &error) : NULL;
    if (text && !actions && error == BJ_E_NOMEM)
        return future_static(BJ_E_NOMEM);
    bj_future *failed = check_actions(request->monitor->ctx, text, actions);
    json_decref(actions);
    if (failed)
        return failed;
    request->command = strdup("transaction");
    request->arguments = strdup(text);
    return request->command && request->arguments ? NULL : future_static(BJ_E_NOMEM);
}

bj_future *bj_monitor_transaction(bj_monitor *monitor, const char *actions, int flags,
                                  int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_transaction,
        .replied = transaction_replied,
        .over = start_over,
        .starts_runs = true,
    };
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    request->is_grouped = flags & BJ_TRANSACTION_GROUPED;
    if (flags & ~BJ_TRANSACTION_GROUPED)
        failed = future_failed(monitor->ctx, BJ_E_INVAL, "transaction: unknown flags 0x%x",
                               (unsigned)flags);
    else
        failed = set_actions(request, actions);
    if (!failed)
        return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
    bj_future_unref(&request->future);
    return failed;
}
