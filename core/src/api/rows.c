/* SPDX-License-Identifier: MIT */
/*
 * What QEMU's list says of the runs that want to know: one question for all of them, and a second
 * only for those who asked while the first was under way, because its answer may be older than
 * their question.
 */
#include "api/job.h"
#include "api/monitor.h"
#include "base/container_of.h"
#include "driver/job_list.h"

static void ask_rows(bj_monitor *monitor);

/* Those whose question was asked, with a reference each: what they are told may be the last of
 * them. Linked through themselves, because a lack of memory must leave none of them waiting. */
struct asked {
    bj_job *first;
    bj_job **last;
};

static void collect_asked(bj_job *job, void *user)
{
    struct asked *asked = user;
    if (job->row != ROW_ASKED)
        return;
    job->row = ROW_NONE;
    job->found = NULL;
    job->next_asked = NULL;
    *asked->last = bj_job_ref(job);
    asked->last = &job->next_asked;
}

static void find_rows(bj_monitor *monitor, const struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        bj_job *job = monitor_find_job(monitor, list->rows[i].id);
        if (job)
            job->found = &list->rows[i];
    }
}

static void tell_rows(bj_monitor *monitor, const struct driver_reply *reply)
{
    struct asked asked = {.last = &asked.first};
    monitor_each_job(monitor, collect_asked, &asked);

    if (reply->list)
        find_rows(monitor, reply->list);
    bj_job *next;
    for (bj_job *job = asked.first; job; job = next) {
        next = job->next_asked;
        if (reply->error != BJ_OK)
            job_feed_silence(job);
        else
            job_feed_listed(job, job->found);
        job->found = NULL;
        bj_job_unref(job);
    }
}

static void rows_done(bj_monitor *monitor, const struct driver_reply *reply)
{
    monitor->rows_asked = false;
    if (!is_about_connection(reply->error))
        tell_rows(monitor, reply);
    if (monitor->rows_wanted)
        ask_rows(monitor);
    if (!is_about_connection(reply->error) && !monitor->rows_asked)
        monitor_rows_told(monitor);
    monitor_unref_memory(monitor);
}

static void on_rows(struct driver_request *request, struct driver_reply *reply)
{
    rows_done(container_of(request, bj_monitor, rows_request), reply);
}

/* Later: whoever asks must not be answered from inside its own call. */
static void run_rows_failed(struct loop_task *task)
{
    bj_monitor *monitor = container_of(task, bj_monitor, rows_failed);
    rows_done(monitor, &(struct driver_reply){.error = monitor->rows_error});
}

static void note_asked(bj_job *job, void *user)
{
    (void)user;
    if (job->row == ROW_WANTED)
        job->row = ROW_ASKED;
}

static void ask_rows(bj_monitor *monitor)
{
    struct driver *driver = monitor->driver;
    if (monitor->rows_asked || !driver)
        return; /* asked again when the answer is there, or when QEMU is back */

    monitor_each_job(monitor, note_asked, NULL);
    monitor->rows_wanted = false;
    monitor->rows_asked = true;
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
    job->row = ROW_WANTED;
    monitor->rows_wanted = true;
    ask_rows(monitor);
}

static void want_row(bj_job *job, void *user)
{
    (void)user;
    job->row = ROW_WANTED;
}

void monitor_want_all_rows(bj_monitor *monitor)
{
    monitor_each_job(monitor, want_row, NULL);
    monitor->rows_wanted = true;
    ask_rows(monitor);
}
