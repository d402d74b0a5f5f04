/* SPDX-License-Identifier: MIT */
/*
 * Attaching to a job that is there already.
 */
#include "api/attach.h"
#include "api/answers.h"
#include "api/job.h"
#include "api/monitor.h"
#include "base/container_of.h"
#include "delivery/future.h"

#include <stdlib.h>
#include <string.h>

struct attach {
    bj_future future;
    struct attachment attachment;
    bj_monitor *monitor; /* a reference to its memory */
    char *id;            /* what the caller calls the job */
    char *real_id;       /* and what the driver calls it; NULL: the same */
};

static struct attach *attach_of(bj_future *future)
{
    return (struct attach *)future;
}

bool attach_name(struct tracker *tracker, struct attachment *attachment)
{
    struct attach *attach = container_of(attachment, struct attach, attachment);
    struct driver *driver = container_of(tracker, bj_monitor, tracker)->driver;
    const char *id = driver->ops->id_of(driver, attach->id);

    if (strcmp(id, attach->id) == 0)
        return false;
    attach->real_id = strdup(id);
    if (attach->real_id)
        attachment->id = attach->real_id;
    return attach->real_id != NULL;
}

/* The list that QEMU did not give, or the end of the connection. */
static void fail_with_monitor(struct attach *attach, int error)
{
    const bj_monitor *monitor = attach->monitor;
    const struct driver_reply *reply = monitor->rows_reply;
    bool has_reply = reply && reply->error != BJ_OK;
    const char *why = has_reply && reply->text && *reply->text ? reply->text
                      : monitor->ending                        ? text_str(monitor->ending)
                                                               : bj_error_text(error);
    const char *error_class = has_reply && reply->error_class ? reply->error_class : "";

    future_answer(&attach->future,
                  &(struct future_result){
                      .error = has_reply ? reply->error : error,
                      .text = text_printf("%s", why),
                      .error_class = *error_class ? text_printf("%s", error_class) : NULL,
                  });
}

void attach_answered(struct tracker *tracker, struct attachment *attachment, int error)
{
    struct attach *attach = container_of(attachment, struct attach, attachment);
    const char *uri = text_str(container_of(tracker, bj_monitor, tracker)->uri);

    if (error == BJ_OK)
        future_answer(&attach->future, &(struct future_result){
                                           .value = job_value(bj_job_ref(job_of(attachment->run))),
                                       });
    else if (error == BJ_E_NO_JOB)
        future_fail(&attach->future, error, "%s has no job %s: it has ended, or never was", uri,
                    attach->id);
    else if (error == BJ_E_BUSY)
        future_fail(&attach->future, error, "%s: more jobs than the limit", uri);
    else
        fail_with_monitor(attach, error);
}

static void start(bj_future *future)
{
    struct attach *attach = attach_of(future);
    struct text *text = NULL;

    int r = monitor_check_open(attach->monitor, &text);
    if (r == BJ_OK)
        tracker_attach(&attach->monitor->tracker, &attach->attachment);
    else
        future_answer(future, &(struct future_result){.error = r, .text = text});
}

static void leave(bj_future *future)
{
    struct attach *attach = attach_of(future);
    tracker_unattach(&attach->monitor->tracker, &attach->attachment);
}

static struct text *late(bj_future *future)
{
    return monitor_late_text(attach_of(future)->monitor, NULL, future->timeout_ms);
}

static void destroy(bj_future *future)
{
    struct attach *attach = attach_of(future);
    free(attach->id);
    free(attach->real_id);
    monitor_unref_memory(attach->monitor);
}

bj_future *bj_monitor_attach(bj_monitor *monitor, const char *id, int64_t timeout_ms)
{
    static const struct future_ops ops = {
        .start = start,
        .leave = leave,
        .late = late,
        .destroy = destroy,
    };
    bj_future *refused = monitor_refuse(monitor, timeout_ms);
    if (refused)
        return refused;
    if (!id || !*id)
        return future_failed(monitor->ctx, BJ_E_INVAL, "attaching needs the id of a job");

    struct attach *attach = (struct attach *)future_new(monitor->ctx, sizeof *attach, &ops);
    if (!attach)
        return future_static(BJ_E_NOMEM);
    attach->monitor = monitor_ref_memory(monitor);
    attach->id = strdup(id);
    if (!attach->id) {
        bj_future_unref(&attach->future);
        return future_static(BJ_E_NOMEM);
    }
    attach->attachment.id = attach->id;
    return future_launch(&attach->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
}
