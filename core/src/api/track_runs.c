/* SPDX-License-Identifier: MIT */
/*
 * Tracks the runs of a monitor's jobs: in a table by id those that QEMU has reported, and in a list
 * those whose start was requested (B01, B20).
 */
#include "api/job.h"
#include "api/monitor.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------- the table */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct table_key *)a)->id, ((const struct table_key *)b)->id);
}

bj_job *monitor_find_job(bj_monitor *monitor, const char *id)
{
    struct table_key key = {.id = id};
    void *node = tfind(&key, &monitor->run_table, compare_keys);
    return node ? *(bj_job **)node : NULL;
}

static void list_tracked(bj_monitor *monitor, bj_job *job)
{
    job->next = NULL;
    job->tracked_link = monitor->last_tracked;
    *job->tracked_link = job;
    monitor->last_tracked = &job->next;
}

static void unlist_tracked(bj_monitor *monitor, const bj_job *job)
{
    *job->tracked_link = job->next;
    if (job->next)
        job->next->tracked_link = job->tracked_link;
    else
        monitor->last_tracked = job->tracked_link;
}

static void untrack(bj_monitor *monitor, bj_job *job)
{
    tdelete(&job->table_key, &monitor->run_table, compare_keys);
    unlist_tracked(monitor, job);
    job->tracked = false;
    monitor->job_count--;
    job_retire(job);
    bj_job_unref(job);
}

void monitor_job_released(bj_monitor *monitor, bj_job *job)
{
    if (job->tracked)
        untrack(monitor, job);
    monitor_finish_if_settled(monitor);
}

/* Whoever had the id is over, whether we saw it or not (B20); one whose end was seen may still be
 * waiting for the comparison of the graph that decides how. */
static void end_previous_run(bj_monitor *monitor, bj_job *before)
{
    bj_job_ref(before);
    if (before->compare_snapshot.job)
        untrack(monitor, before);
    else
        job_feed_lost(before, BJ_E_JOB_LOST,
                      "its id was given to another job, and its end was not seen");
    bj_job_unref(before);
}

/* Gives the id to a run. */
static bool track(bj_monitor *monitor, bj_job *job)
{
    bj_job *before = monitor_find_job(monitor, text_str(job->id));
    if (before)
        end_previous_run(monitor, before);
    if (!tsearch(&job->table_key, &monitor->run_table, compare_keys))
        return false;
    list_tracked(monitor, bj_job_ref(job));
    job->tracked = true;
    monitor->job_count++;
    return true;
}

bj_job *monitor_track_job(bj_monitor *monitor, const char *id, const char *type)
{
    if (monitor->job_count >= ctx_limit(monitor->ctx, BJ_LIMIT_JOBS)) {
        ctx_log(monitor->ctx, "%s: more jobs than the limit: %s is not followed",
                text_str(monitor->uri), id);
        return NULL;
    }
    bj_job *job = job_new(monitor, id, type, false);
    if (!job)
        return NULL;
    bool tracked = track(monitor, job);
    if (!tracked)
        job_retire(job);
    bj_job_unref(job); /* the table's is left */
    return tracked ? job : NULL;
}

void monitor_each_job(const bj_monitor *monitor, void (*visit)(bj_job *job, void *user), void *user)
{
    for (bj_job *job = monitor->tracked; job; job = job->next)
        visit(job, user);
}

/* ------------------------------------------------------------- starting runs */

int monitor_add_starting(bj_monitor *monitor, bj_job *job)
{
    if (monitor->job_count >= ctx_limit(monitor->ctx, BJ_LIMIT_JOBS))
        return BJ_E_BUSY;
    bj_job **last = &monitor->starting; /* of two with one id QEMU accepts the first */
    while (*last)
        last = &(*last)->next;
    *last = bj_job_ref(job);
    job->next = NULL;
    job->starting = true;
    monitor->job_count++;
    return BJ_OK;
}

static bool take_starting(bj_monitor *monitor, bj_job *job)
{
    for (bj_job **link = &monitor->starting; *link; link = &(*link)->next) {
        if (*link == job) {
            *link = job->next;
            job->starting = false;
            monitor->job_count--;
            return true;
        }
    }
    return false;
}

/* QEMU has reported it: from here on its id is its own. */
bj_job *monitor_track_starting(bj_monitor *monitor, bj_job *job)
{
    if (!take_starting(monitor, job))
        return NULL;
    bool tracked = track(monitor, job);
    if (!tracked) {
        job_feed_lost(job, BJ_E_JOB_LOST, bj_error_text(BJ_E_NOMEM));
        job_retire(job);
    }
    bj_job_unref(job); /* the list's */
    return tracked ? job : NULL;
}

bj_job *monitor_find_starting(bj_monitor *monitor, const char *id)
{
    for (bj_job *job = monitor->starting; job; job = job->next)
        if (strcmp(text_str(job->id), id) == 0)
            return job;
    return NULL;
}

void monitor_start_accepted(bj_monitor *monitor, bj_job *job)
{
    if (job->starting)
        monitor_track_starting(monitor, job);
}

void monitor_start_refused(bj_monitor *monitor, bj_job *job)
{
    if (take_starting(monitor, job)) {
        job_retire(job);
        bj_job_unref(job);
    } else if (job->tracked) { /* created, then thought better of (B41) */
        job_feed_lost(job, BJ_E_JOB_LOST, "QEMU refused to start it");
        monitor_job_released(monitor, job);
    }
}

/* ---------------------------------------------------------------------- losing */

void monitor_lose_starting(bj_monitor *monitor, int error, const char *text)
{
    while (monitor->starting) {
        bj_job *job = bj_job_ref(monitor->starting);
        take_starting(monitor, job);
        bj_job_unref(job); /* the list's */
        job_feed_lost(job, error, text);
        job_retire(job);
        bj_job_unref(job);
    }
}

/* While the monitor lingers, those that are to be dismissed stay. */
static bj_job *first_job_to_lose(const bj_monitor *monitor)
{
    bj_job *job = monitor->tracked;
    while (job && monitor->lingering && job_owes_dismissal(job))
        job = job->next;
    return job;
}

void monitor_lose_jobs(bj_monitor *monitor, int error, const char *text)
{
    monitor_lose_starting(monitor, error, text);
    for (bj_job *job; (job = bj_job_ref(first_job_to_lose(monitor)));) {
        job_feed_lost(job, error, text);
        if (job->tracked)
            untrack(monitor, job);
        bj_job_unref(job);
    }
}

bool monitor_owes_dismissals(const bj_monitor *monitor)
{
    const bj_job *job = monitor->tracked;
    while (job && !job_owes_dismissal(job))
        job = job->next;
    return job != NULL;
}
