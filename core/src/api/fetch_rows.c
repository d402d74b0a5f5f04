/* SPDX-License-Identifier: MIT */
/*
 * Fetches the rows of QEMU's job list for the runs that want theirs: one query serves all of them,
 * and a second only those that wanted theirs while the first was under way, because its reply may
 * be older than their wish.
 */
#include "api/job.h"
#include "api/monitor.h"
#include "base/container_of.h"
#include "driver/job_list.h"

static void request_rows(bj_monitor *monitor);

/* The runs that a query was sent for, with a reference each: their row may be the last fact about
 * them. Linked through themselves, because a lack of memory must leave none of them waiting. */
struct batch {
    bj_job *first;
    bj_job **last;
};

static void collect_requested(bj_job *job, void *user)
{
    struct batch *batch = user;
    if (job->row_state != ROW_REQUESTED)
        return;
    job->row_state = ROW_NOT_WANTED;
    job->fetched_row = NULL;
    job->next_requested = NULL;
    *batch->last = bj_job_ref(job);
    batch->last = &job->next_requested;
}

static void find_rows(bj_monitor *monitor, const struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        bj_job *job = monitor_find_job(monitor, list->rows[i].info.id);
        if (job)
            job->fetched_row = &list->rows[i];
    }
}

static void feed_rows(bj_monitor *monitor, const struct driver_reply *reply)
{
    struct batch batch = {.last = &batch.first};
    monitor_each_job(monitor, collect_requested, &batch);

    if (reply->list)
        find_rows(monitor, reply->list);
    bj_job *next;
    for (bj_job *job = batch.first; job; job = next) {
        next = job->next_requested;
        if (reply->error != BJ_OK)
            job_feed_list_failed(job);
        else
            job_feed_listed(job, job->fetched_row);
        job->fetched_row = NULL;
        bj_job_unref(job);
    }
}

static void rows_fetched(bj_monitor *monitor, const struct driver_reply *reply)
{
    monitor->rows_requested = false;
    if (!reply->is_lost)
        feed_rows(monitor, reply);
    if (monitor->rows_wanted)
        request_rows(monitor);
    if (!reply->is_lost && !monitor->rows_requested)
        monitor_all_rows_fetched(monitor);
    monitor_unref_memory(monitor);
}

static void on_rows(struct driver_request *request, struct driver_reply *reply)
{
    rows_fetched(container_of(request, bj_monitor, rows_request), reply);
}

/* Later: a run must not be fed from inside its own call. */
static void run_rows_failed(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, rows_failed);
    rows_fetched(monitor, &(struct driver_reply){
                              .error = monitor->rows_error,
                              .is_lost = monitor->rows_error == BJ_E_DISCONNECTED,
                          });
}

static void mark_requested(bj_job *job, void *user)
{
    (void)user;
    if (job->row_state == ROW_WANTED)
        job->row_state = ROW_REQUESTED;
}

static void request_rows(bj_monitor *monitor)
{
    struct driver *driver = monitor->driver;
    if (monitor->rows_requested || !driver)
        return; /* requested again when the reply is there, or when QEMU is back */

    monitor_each_job(monitor, mark_requested, NULL);
    monitor->rows_wanted = false;
    monitor->rows_requested = true;
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

void monitor_want_row(bj_monitor *monitor, bj_job *job)
{
    job->row_state = ROW_WANTED;
    monitor->rows_wanted = true;
    request_rows(monitor);
}

static void want_row(bj_job *job, void *user)
{
    (void)user;
    job->row_state = ROW_WANTED;
}

void monitor_want_all_rows(bj_monitor *monitor)
{
    monitor_each_job(monitor, want_row, NULL);
    monitor->rows_wanted = true;
    request_rows(monitor);
}
