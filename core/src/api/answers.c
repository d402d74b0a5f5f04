/* SPDX-License-Identifier: MIT */
/*
 * What a future may be answered with; see answers.h.
 */
#include "api/answers.h"

#include <stdlib.h>

void job_array_free(struct job_array *array)
{
    for (size_t i = 0; array && i < array->count; i++)
        bj_job_unref(array->jobs[i]);
    free(array);
}

/* -------------------------------------------------------------------- monitor */

static void unref_monitor(void *data)
{
    bj_monitor_unref(data);
}

static const struct value_kind monitor_kind = {.unref = unref_monitor};

struct value monitor_value(bj_monitor *monitor)
{
    return (struct value){.kind = &monitor_kind, .data = monitor};
}

bj_monitor *bj_future_monitor(bj_future *future)
{
    return bj_monitor_ref(future_value_of(future, &monitor_kind));
}

/* ------------------------------------------------------------------------ job */

static void ref_job(void *data)
{
    bj_job_ref(data);
}

static void unref_job(void *data)
{
    bj_job_unref(data);
}

static const struct value_kind job_kind = {.ref = ref_job, .unref = unref_job};

struct value job_value(bj_job *job)
{
    return (struct value){.kind = &job_kind, .data = job};
}

bj_job *bj_future_job(bj_future *future)
{
    return bj_job_ref(future_value_of(future, &job_kind));
}

/* ----------------------------------------------------------------------- jobs */

static void unref_jobs(void *data)
{
    job_array_free(data);
}

static const struct value_kind jobs_kind = {.unref = unref_jobs};

struct value jobs_value(struct job_array *jobs)
{
    return (struct value){.kind = &jobs_kind, .data = jobs};
}

size_t bj_future_job_count(bj_future *future)
{
    const struct job_array *jobs = future_value_of(future, &jobs_kind);
    return jobs ? jobs->count : 0;
}

bj_job *bj_future_job_at(bj_future *future, size_t index)
{
    const struct job_array *jobs = future_value_of(future, &jobs_kind);
    return jobs && index < jobs->count ? bj_job_ref(jobs->jobs[index]) : NULL;
}

/* ------------------------------------------------------------------- job list */

static void free_job_list(void *data)
{
    job_list_free(data);
}

static const struct value_kind job_list_kind = {.unref = free_job_list};

struct value job_list_value(struct job_list *list)
{
    return (struct value){.kind = &job_list_kind, .data = list};
}

size_t bj_future_info_count(bj_future *future)
{
    const struct job_list *list = future_value_of(future, &job_list_kind);
    return list ? list->count : 0;
}

const bj_job_info *bj_future_info(bj_future *future, size_t index)
{
    const struct job_list *list = future_value_of(future, &job_list_kind);
    return list && index < list->count ? &list->rows[index].info : NULL;
}
