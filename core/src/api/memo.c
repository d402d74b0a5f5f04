/* SPDX-License-Identifier: MIT */
#include "api/memo.h"
#include "api/memo_text.h"
#include "api/monitor.h"
#include "api/watch_jobs.h"

#include <string.h>

/* Progress alone makes a new memo worth telling of when that much of the whole was done. */
#define PROGRESS_SHARE 8

static bj_ctx *ctx_of(const bj_job *job)
{
    return job->monitor->ctx;
}

/* -------------------------------------------------------------------- changes */

void memo_begin(bj_job *job, bj_ctx *ctx)
{
    job->memo.since_us = job->memo.changed_us = clock_realtime_us();
    job->memo.number = ctx->job_id_prefix + ++ctx->runs;
    job->last_progress.current = job->last_progress.total = -1;
}

void memo_note_beginning(bj_job *job, int64_t event_us)
{
    if (event_us <= 0)
        return; /* QEMU gave no time */
    ctx_lock(ctx_of(job));
    job->memo.since_us = event_us;
    ctx_unlock(ctx_of(job));
}

/* The clock may be set back. */
static int64_t later_than(int64_t before_us)
{
    int64_t now_us = clock_realtime_us();
    return now_us > before_us ? now_us : before_us + 1;
}

static void change(bj_job *job, unsigned facts)
{
    ctx_lock(ctx_of(job));
    job->memo.facts = facts;
    job->memo.changed_us = later_than(job->memo.changed_us);
    job->memo.told = job->last_progress.current;
    ctx_unlock(ctx_of(job));
    watch_jobs_remember(job);
}

void memo_note(bj_job *job, unsigned facts)
{
    change(job, facts);
}

void memo_note_progress(bj_job *job)
{
    int64_t done = job->last_progress.current - job->memo.told;
    bool is_first = job->memo.told < 0 && job->last_progress.total > 0;

    if (is_first || (done > 0 && done >= job->last_progress.total / PROGRESS_SHARE))
        change(job, job->memo.facts);
}

/* Where only the connection is over the job may go on, or wait for its dismissal. */
static bool is_over_in_qemu(const bj_job *job)
{
    const struct machine *machine = &job->run.machine;
    bool is_lost = machine_outcome(machine) == BJ_OUTCOME_LOST;
    bool is_ours = machine_traits(machine)->ours;
    enum link link = job->monitor->tracker.link;

    if (link == LINK_UP && machine_is(machine, IS_RELEASED))
        return true;
    if (link == LINK_CLOSING && machine_is(machine, IS_RELEASED))
        return !is_lost;
    return is_lost ? link == LINK_UP : !is_ours;
}

void memo_end(bj_job *job)
{
    bool is_over = is_over_in_qemu(job);

    ctx_lock(ctx_of(job));
    job->memo.is_over |= is_over;
    ctx_unlock(ctx_of(job));
}

/* ----------------------------------------------------------------- what is said */

static const char *str_or_null(const struct text *text)
{
    return text ? text_str(text) : NULL;
}

/* Under the lock. What it points to stays as long as the job. */
static struct memo memo_of(const bj_job *job, const struct driver_identity *identity)
{
    return (struct memo){
        .id = text_str(job->id),
        .type = text_str(job->type),
        .since_us = job->memo.since_us,
        .number = job->memo.number,
        .changed_us = job->memo.changed_us,
        .facts = job->memo.facts,
        .current = job->last_progress.current,
        .total = job->last_progress.total,
        .peer = {identity->boot, identity->process, text_str(job->monitor->version),
                 identity->socket},
        .start_us = job->times[BJ_MOMENT_START_SENT],
        .device = str_or_null(job->device),
        .run_data = str_or_null(job->run_data),
    };
}

static size_t write_memo(bj_job *job, char text[BJ_MEMO_SIZE])
{
    ctx_lock(ctx_of(job));
    struct driver_identity identity = job->monitor->identity;
    struct memo memo = memo_of(job, &identity);
    bool is_over = job->memo.is_over;
    struct driver_snapshot *snapshot =
        job->ops->hold_snapshot ? job->ops->hold_snapshot(job->snapshot) : NULL;
    ctx_unlock(ctx_of(job));

    memo.graph = snapshot ? job->ops->write_snapshot(snapshot) : NULL;
    text[0] = '\0';
    size_t length = is_over ? 0 : memo_write(&memo, text);
    json_decref(memo.graph);
    if (snapshot)
        job->ops->free_snapshot(snapshot);
    return length;
}

struct text *memo_text(bj_job *job)
{
    char text[BJ_MEMO_SIZE];
    size_t length = write_memo(job, text);
    return length > 0 ? text_new(text, length) : NULL;
}

int bj_job_memo(bj_job *job, char *buffer, size_t size)
{
    char text[BJ_MEMO_SIZE];

    if (!job || (!buffer && size > 0))
        return BJ_E_INVAL;
    if (!job_is_usable(job))
        return BJ_E_FORKED;
    size_t length = write_memo(job, text);
    if (size > 0 && length >= size)
        buffer[0] = '\0'; /* a part of it is worth nothing */
    else if (size > 0)
        memcpy(buffer, text, length + 1);
    return (int)length;
}

int bj_memo_check(const char *memo, const char **ret_why)
{
    struct memo read;
    const char *why = "it is NULL";
    int r = memo ? memo_read(memo, &read, &why) : BJ_E_INVAL;

    if (r == BJ_OK)
        memo_clear(&read);
    if (ret_why)
        *ret_why = r == BJ_OK ? "" : why;
    return r;
}
