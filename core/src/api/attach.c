/* SPDX-License-Identifier: MIT */
/*
 * Attaching to a job that is there already.
 */
#include "api/job.h"
#include "api/request.h"
#include "api/wiring.h"

#include <stdlib.h>
#include <string.h>

static int send_attach(struct request *request, struct driver *driver)
{
    return driver->ops->query(driver, &request->driver_request, false);
}

/* ------------------------------------------------------------------ the graph */

static int send_snapshot(struct request *request, struct driver *driver)
{
    return driver->ops->take_snapshot(driver, &request->driver_request, bj_job_id(request->job),
                                      NULL, true);
}

static void answer(struct request *request)
{
    bj_job_ref(request->job);
    future_answer(&request->future, &(struct future_result){.value = job_value(request->job)});
}

static void snapshot_taken(struct request *request, struct driver_reply *reply)
{
    job_keep_snapshot(request->job, reply);
    answer(request);
}

/* Whoever has attached may end the job at once, or have another client end it: without a snapshot
 * of before it could not be told how. */
static void answer_with_snapshot(struct request *request)
{
    static const struct request_kind kind = {
        .send = send_snapshot, .replied = snapshot_taken, .takes_refusals = true};
    if (!job_wants_snapshot(request->job) || !request_go_on(request, &kind))
        answer(request);
}

/* ------------------------------------------------------------------- the list */

/* The same run, for everyone who attaches to it: events may have made it known before. */
static void attach_replied(struct request *request, struct driver_reply *reply)
{
    bj_monitor *monitor = request->monitor;
    const char *id = monitor->driver->ops->id_of(monitor->driver, request->id);
    const struct job_row *row = job_list_find(reply->list, id);
    bj_job *job = monitor_find_job(monitor, id);

    if (!job && !row) {
        future_fail(&request->future, BJ_E_NO_JOB, "%s has no job %s: it has ended, or never was",
                    text_str(monitor->uri), request->id);
        return;
    }
    if (!job)
        job = monitor_track_job(monitor, id, row->info.type);
    if (!job) {
        future_fail(&request->future, BJ_E_BUSY, "%s: more jobs than the limit",
                    text_str(monitor->uri));
        return;
    }
    request->job = bj_job_ref(job);
    if (row)
        job_feed_row(job, row);
    answer_with_snapshot(request);
}

bj_future *bj_monitor_attach(bj_monitor *monitor, const char *id, int64_t timeout_ms)
{
    static const struct request_kind kind = {.send = send_attach, .replied = attach_replied};
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    if (id && *id && (request->id = strdup(id)))
        return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);

    bj_future_unref(&request->future);
    return id && *id ? future_static(BJ_E_NOMEM)
                     : future_failed(monitor->ctx, BJ_E_INVAL, "attaching needs the id of a job");
}
