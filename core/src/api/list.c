/* SPDX-License-Identifier: MIT */
/*
 * QEMU's list of jobs, as programs ask for it: all rows, or that of one job.
 */
#include "api/job.h"
#include "api/request.h"

/* ------------------------------------------------------------------- all jobs */

static int send_list(struct request *request, struct driver *driver)
{
    return driver->ops->query(driver, &request->driver_request, false);
}

/* Answers with the first `count` rows of the reply. */
static void answer_list(struct request *request, struct driver_reply *reply, size_t count)
{
    struct job_list *list = reply->list;
    reply->list = NULL;

    struct job_list rest = {.count = list->count - count,
                            .rows = list->rows ? list->rows + count : NULL};
    job_list_free_rows(&rest);
    list->count = count;
    future_answer(&request->future, &(struct future_result){.value = job_list_value(list)});
}

static void list_replied(struct request *request, struct driver_reply *reply)
{
    size_t limit = (size_t)ctx_limit(request->monitor->ctx, BJ_LIMIT_JOBS);
    answer_list(request, reply, reply->list->count < limit ? reply->list->count : limit);
}

bj_future *bj_monitor_list(bj_monitor *monitor, int64_t timeout_ms)
{
    static const struct request_kind kind = {.send = send_list, .replied = list_replied};
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    return request ? future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS) : failed;
}

/* -------------------------------------------------------------------- one job */

static int send_query(struct request *request, struct driver *driver)
{
    request->had_id = run_has_id(&request->job->run);
    return driver->ops->query(driver, &request->driver_request, false);
}

/* Whose id may be another run's by now, or was already, has no row. */
static void query_replied(struct request *request, struct driver_reply *reply)
{
    const char *id = text_str(request->job->id);
    bool has_id = request->had_id && run_has_id(&request->job->run);
    const struct job_row *row = has_id ? job_list_find(reply->list, id) : NULL;
    if (!row) {
        if (has_id && !reply->list->is_cut)
            run_absent(&request->job->run); /* an event of its end came before this reply */
        future_fail(&request->future, BJ_E_NO_JOB, "job %s is gone: %s", id,
                    request->job->outcome == BJ_OUTCOME_NONE
                        ? "it is no longer listed"
                        : bj_outcome_name(request->job->outcome));
        return;
    }
    struct job_row first = reply->list->rows[0];
    size_t index = (size_t)(row - reply->list->rows);
    reply->list->rows[0] = *row;
    reply->list->rows[index] = first;
    answer_list(request, reply, 1);
}

bj_future *bj_job_query(bj_job *job, int64_t timeout_ms)
{
    static const struct request_kind kind = {.send = send_query, .replied = query_replied};

    if (!job)
        return future_static(BJ_E_INVAL);
    bj_future *failed;
    struct request *request = request_new(job->monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    request->job = bj_job_ref(job);
    return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}
