/* SPDX-License-Identifier: MIT */
/*
 * Raw commands.
 */
#include "api/job.h"
#include "api/request.h"

#include <stdlib.h>

/* A verb that the program sends by itself: its job is to know, or it would take it for another
 * client's. */
static void note_verb(struct request *request, struct driver *driver)
{
    if (!driver->ops->is_verb || !driver->ops->is_verb(driver, request->command, request->arguments,
                                                       &request->raw.verb, &request->raw_id))
        return;
    request->raw.id = request->raw_id;
    tracker_raw(&request->monitor->tracker, &request->raw);
}

static int send_execute(struct request *request, struct driver *driver)
{
    int r = driver->ops->execute(driver, &request->driver_request, request->command,
                                 request->arguments);
    if (r == BJ_OK)
        note_verb(request, driver);
    return r;
}

static void execute_over(struct request *request, const struct driver_reply *reply)
{
    if (!request->raw_id)
        return;
    if (request->raw.run)
        job_notify_listeners(job_of(request->raw.run));
    tracker_raw_replied(&request->monitor->tracker, &request->raw, request_result(reply));
}

static void execute_replied(struct request *request, struct driver_reply *reply)
{
    struct text *json = text_new(reply->json, reply->json_len);
    if (json)
        future_answer(&request->future, &(struct future_result){.json = json});
    else
        future_fail(&request->future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

bj_future *bj_monitor_execute(bj_monitor *monitor, const char *command, const char *arguments,
                              int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_execute,
        .replied = execute_replied,
        .over = execute_over,
    };
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    failed = request_set_command(request, command, arguments);
    return failed ? failed : future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}
