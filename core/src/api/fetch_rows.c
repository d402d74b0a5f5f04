/* SPDX-License-Identifier: MIT */
/*
 * Fetches the rows of QEMU's job list for a monitor's tracker.
 */
#include "api/fetch_rows.h"
#include "api/job.h"
#include "api/monitor.h"
#include "api/watch_jobs.h"
#include "base/container_of.h"
#include "driver/job_list.h"

/* A row as the machine reads it, and where it is from. */
struct read_row {
    struct row row; /* first */
    const struct job_row *source;
};

void fetch_rows_saw(struct run *run, const struct row *row)
{
    job_see(job_of(run), ((const struct read_row *)row)->source);
}

static void feed_row(bj_monitor *monitor, const struct job_row *source)
{
    const bj_job_info *info = &source->info;
    struct read_row read = {
        .row =
            {
                .status = job_status_of(info->status),
                .ready = info->ready,
                .paused = info->paused,
                .hides_pause = monitor->driver->capabilities.has_bare_rows,
                .io_error = source->has_io_error,
                .no_space = source->lacks_space,
                .error = *info->error ? info->error : NULL,
                .cancelled = source->was_cancelled,
                .current = info->current,
                .total = info->total,
            },
        .source = source,
    };
    tracker_row(&monitor->tracker, info->id, info->type, &read.row);
}

static void rows_fetched(bj_monitor *monitor, const struct driver_reply *reply)
{
    enum list_end end = LIST_WHOLE;

    if (reply->is_lost)
        end = LIST_LOST;
    else if (reply->error != BJ_OK)
        end = LIST_FAILED;
    else if (reply->list && reply->list->is_cut)
        end = LIST_CUT;

    monitor->rows_reply = reply;
    for (size_t i = 0; reply->list && i < reply->list->count; i++)
        feed_row(monitor, &reply->list->rows[i]);
    tracker_list_over(&monitor->tracker, end);
    monitor->rows_reply = NULL;
    watch_jobs_listed(monitor);
    monitor_unref_memory(monitor);
}

static void on_rows(struct driver_request *request, struct driver_reply *reply)
{
    rows_fetched(container_of(request, bj_monitor, rows_request), reply);
}

/* Later: the tracker must not be fed from inside its own call. */
static void run_rows_failed(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, rows_failed);
    rows_fetched(monitor, &(struct driver_reply){.error = monitor->rows_error});
}

void fetch_rows(struct tracker *tracker)
{
    bj_monitor *monitor = container_of(tracker, bj_monitor, tracker);
    struct driver *driver = monitor->driver;

    monitor->rows_request.done = on_rows;
    monitor_ref_memory(monitor);
    int r = driver->ops->query(driver, &monitor->rows_request, true);
    if (r == BJ_OK)
        return;
    monitor->rows_error = r;
    monitor->rows_failed.run = run_rows_failed;
    if (!loop_post(monitor->ctx->loop, &monitor->rows_failed))
        monitor_unref_memory(monitor);
}
