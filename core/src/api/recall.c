/* SPDX-License-Identifier: MIT */
#include "api/recall.h"
#include "api/job.h"

#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------- reading */

static int order(int64_t one, int64_t other)
{
    return (one > other) - (one < other);
}

/* Of an id the latest run first, and of that the latest memo. */
static int compare(const void *a, const void *b)
{
    const struct memo *one = &((const struct recalled *)a)->memo;
    const struct memo *other = &((const struct recalled *)b)->memo;
    int r = strcmp(one->id, other->id);

    r = r ? r : order(other->since_us, one->since_us);
    r = r ? r : (one->number > other->number) - (one->number < other->number);
    r = r ? r : order(other->changed_us, one->changed_us);
    return r ? r : order(other->current, one->current);
}

static bool is_same_run(const struct memo *one, const struct memo *other)
{
    return strcmp(one->id, other->id) == 0 && one->number == other->number;
}

static void clear(struct recalled *recalled)
{
    memo_clear(&recalled->memo);
    text_unref(recalled->text);
}

void recall_clear(struct recall *recall)
{
    for (size_t i = 0; i < recall->count; i++)
        clear(&recall->memos[i]);
    free(recall->memos);
    *recall = (struct recall){0};
}

static void drop_earlier_memos(struct recall *recall)
{
    size_t kept = 0;

    for (size_t i = 0; i < recall->count; i++) {
        struct recalled *next = &recall->memos[i];
        if (kept > 0 && is_same_run(&recall->memos[kept - 1].memo, &next->memo))
            clear(next);
        else
            recall->memos[kept++] = *next;
    }
    recall->count = kept;
}

static int read_one(const char *memo, struct recall *ret)
{
    struct recalled *recalled = &ret->memos[ret->count];
    const char *why;
    int r = memo ? memo_read(memo, &recalled->memo, &why) : BJ_E_INVAL;

    if (r != BJ_OK)
        return r;
    ret->count++;
    recalled->text = text_new(memo, strlen(memo));
    return recalled->text ? BJ_OK : BJ_E_NOMEM;
}

int recall_read(const char *const *memos, size_t count, struct recall *ret)
{
    int r = BJ_OK;

    *ret = (struct recall){0};
    if (count == 0)
        return BJ_OK;
    if (!memos)
        return BJ_E_INVAL;
    ret->memos = calloc(count, sizeof *ret->memos);
    if (!ret->memos)
        return BJ_E_NOMEM;
    for (size_t i = 0; r == BJ_OK && i < count; i++)
        r = read_one(memos[i], ret);
    if (r != BJ_OK)
        return r;
    qsort(ret->memos, ret->count, sizeof *ret->memos, compare);
    drop_earlier_memos(ret);
    return BJ_OK;
}

/* ------------------------------------------------------------------ beginning */

static struct identity identity_now(const bj_monitor *monitor)
{
    const struct driver_identity *now = &monitor->identity;
    return (struct identity){now->boot, now->process, text_str(monitor->version), now->socket};
}

static struct text *copy(const char *text)
{
    return text ? text_new(text, strlen(text)) : NULL;
}

/* What the job is by the memo. */
static void take_over(bj_job *job, struct recalled *recalled)
{
    const struct memo *memo = &recalled->memo;
    struct driver_snapshot *snapshot = memo->graph && job->ops->read_snapshot && !job->snapshot
                                           ? job->ops->read_snapshot(memo->graph)
                                           : NULL;

    if (snapshot)
        job->run.snapshot = SNAPSHOT_HELD;
    if (!job->device)
        job->device = copy(memo->device);
    if (!job->run_data)
        job->run_data = copy(memo->run_data);
    text_unref(job->remembered);
    job->remembered = recalled->text;
    recalled->text = NULL;
    ctx_lock(job->monitor->ctx);
    if (snapshot)
        job->snapshot = snapshot;
    job->memo.since_us = memo->since_us;
    job->memo.number = memo->number;
    if (job->memo.changed_us < memo->changed_us)
        job->memo.changed_us = memo->changed_us;
    if (!job->times[BJ_MOMENT_START_SENT])
        job->times[BJ_MOMENT_START_SENT] = memo->start_us;
    ctx_unlock(job->monitor->ctx);
}

static bj_job *make_job(bj_monitor *monitor, struct recalled *recalled, const struct memory *memory)
{
    bj_job *job = job_new(monitor, recalled->memo.id, recalled->memo.type);
    if (!job)
        return NULL;
    take_over(job, recalled);
    job->memory = *memory;
    job->memory.type = text_str(job->type);
    ctx_lock(monitor->ctx);
    job->ready = memory->facts & MEMORY_READY;
    job->last_progress.current = memory->current;
    job->last_progress.total = memory->total;
    job->memo.facts = memory->facts;
    ctx_unlock(monitor->ctx);
    return job;
}

/* As the program's handles have it. */
static struct row row_of(const bj_job *job)
{
    return (struct row){
        .status = job->run.machine.status,
        .ready = machine_is(&job->run.machine, IS_READY),
        .current = job->last_progress.current,
        .total = job->last_progress.total,
    };
}

/* Someone has the id already: true, if that is this run. */
static bool is_followed(bj_job *job, struct recalled *recalled, struct memory *memory)
{
    struct row now = row_of(job);
    bool is_before = recalled->memo.changed_us < job->memo.since_us;
    bool began_unseen = job->run.is_listed;

    if (job->memo.number == recalled->memo.number)
        return true;
    memory->known = !is_before     ? KNOWN_SINCE_EARLIER
                    : began_unseen ? KNOWN_NONE
                                   : KNOWN_SINCE_LATER;
    if (!tracker_recall_found(&job->run, memory, text_str(job->type), &now))
        return false;
    take_over(job, recalled);
    return true;
}

/* False: it can't be followed. */
static bool begin(bj_monitor *monitor, struct recalled *recalled)
{
    const struct memo *memo = &recalled->memo;
    struct tracker *t = &monitor->tracker;
    struct identity now = identity_now(monitor);
    struct memory memory = {
        .facts = memo->facts,
        .type = memo->type,
        .current = memo->current,
        .total = memo->total,
        .peer = identity_compare(&memo->peer, &now),
    };
    bool is_gone = memory.peer == PEER_OTHER || memory.peer == PEER_REBOOTED;
    struct run *last = tracker_find(t, memo->id);

    if (last && !is_gone && is_followed(job_of(last), recalled, &memory))
        return true;
    bj_job *job = tracker_can_recall(t) ? make_job(monitor, recalled, &memory) : NULL;
    if (!job)
        return false;
    if (is_gone)
        tracker_recall_lost(&job->run, &job->memory, memory_judge_absence(&memory, false)->text);
    else if (last)
        tracker_recall_lost(&job->run, &job->memory, "its id was given to another job");
    else
        tracker_recall(t, &job->run, &job->memory);
    return true;
}

size_t recall_begin(bj_monitor *monitor, struct recall *recall)
{
    size_t missed = 0;
    for (size_t i = 0; i < recall->count; i++)
        missed += !begin(monitor, &recall->memos[i]);
    recall_clear(recall);
    return missed;
}
