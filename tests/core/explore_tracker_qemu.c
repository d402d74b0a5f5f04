/* SPDX-License-Identifier: MIT */
/*
 * A small QEMU with jobs under two ids; see explore_tracker_qemu.h.
 */
#include "explore_tracker_qemu.h"

#include <string.h>

uint32_t *qemu_fate(struct qemu *q, int id, int run)
{
    return &q->fates[id][run - 1];
}

bool qemu_has(const struct qemu *q, int id, int run)
{
    return run > 0 && q->jobs[id].run == run;
}

static uint32_t *fate_of(struct qemu *q, int id)
{
    return qemu_fate(q, id, q->jobs[id].run);
}

/* --------------------------------------------------------------------- wire */

static bool is_end(const struct line *line)
{
    return line->kind == LINE_COMPLETED || line->kind == LINE_FAILED ||
           line->kind == LINE_CANCELLED;
}

static void note_unheard(struct qemu *q, const struct line *line)
{
    if (line->run == 0 || line->kind == LINE_REPLY)
        return;
    uint32_t *fate = qemu_fate(q, line->command.id, line->run);
    bool status = line->kind == LINE_STATUS;
    if (status && line->command.verb == STATUS_CREATED)
        *fate |= BEGAN_UNHEARD;
    if (is_end(line))
        *fate |= ENDED_UNHEARD;
    if (status && line->command.verb == STATUS_NULL)
        *fate |= LEFT_UNHEARD;
}

static void write_line(struct qemu *q, struct line line)
{
    if (!q->connected)
        note_unheard(q, &line);
    else if (q->lines == WIRE_LINES)
        q->overflow = true;
    else
        q->wire[q->lines++] = line;
}

static void say(struct qemu *q, enum line_kind kind, int id, int word)
{
    write_line(q, (struct line){
                      .kind = (uint8_t)kind,
                      .run = q->jobs[id].run,
                      .command = {.id = (uint8_t)id, .verb = (uint8_t)word},
                  });
}

struct line qemu_pop_line(struct qemu *q)
{
    struct line line = q->wire[0];
    q->lines--;
    memmove(q->wire, q->wire + 1, q->lines * sizeof q->wire[0]);
    memset(&q->wire[q->lines], 0, sizeof q->wire[0]);
    return line;
}

void qemu_push_command(struct qemu *q, struct command command)
{
    if (q->orders == ORDERS)
        q->overflow = true;
    else
        q->commands[q->orders++] = command;
}

static struct command pop_command(struct qemu *q)
{
    struct command command = q->commands[0];
    q->orders--;
    memmove(q->commands, q->commands + 1, q->orders * sizeof q->commands[0]);
    memset(&q->commands[q->orders], 0, sizeof q->commands[0]);
    return command;
}

/* What was on the wire in either direction is gone. */
void qemu_hang_up(struct qemu *q)
{
    for (int i = 0; i < q->lines; i++)
        note_unheard(q, &q->wire[i]);
    for (int id = 0; id < IDS; id++)
        for (int run = 0; run < RUNS_OF_ID; run++)
            if (q->fates[id][run] & ENDED)
                q->fates[id][run] |= CUT_AT_END;
    memset(q->wire, 0, sizeof q->wire);
    memset(q->commands, 0, sizeof q->commands);
    memset(&q->held, 0, sizeof q->held);
    memset(q->listed, 0, sizeof q->listed);
    memset(q->block_jobs, 0, sizeof q->block_jobs);
    q->lines = q->orders = 0;
    q->connected = false;
}

/* ----------------------------------------------------------------- the jobs */

static void set_status(struct qemu *q, const struct age *age, int id, enum status status)
{
    q->jobs[id].status = (uint8_t)status;
    if (age->statuses)
        say(q, LINE_STATUS, id, (int)status);
}

static bool works(const struct real_job *job)
{
    return job->run > 0 && job->status >= STATUS_RUNNING && job->status <= STATUS_STANDBY;
}

static void dismiss(struct qemu *q, const struct age *age, int id)
{
    set_status(q, age, id, STATUS_NULL);
    memset(&q->jobs[id], 0, sizeof q->jobs[id]);
}

/* Waiting, pending and the end come in one go. */
static void end(struct qemu *q, const struct age *age, int id, enum line_kind how)
{
    static const uint32_t fates[] = {
        [LINE_COMPLETED] = COMPLETED,
        [LINE_FAILED] = FAILED,
        [LINE_CANCELLED] = CANCELLED,
    };
    struct real_job *job = &q->jobs[id];

    *fate_of(q, id) |= ENDED | fates[how];
    if (how == LINE_COMPLETED && job->completing)
        *fate_of(q, id) |= DISK_SWITCHED;
    if (how == LINE_COMPLETED)
        set_status(q, age, id, STATUS_PENDING);
    else
        set_status(q, age, id, STATUS_ABORTING);
    say(q, how, id, 0);
    job->paused = job->completing = job->copying = job->cancelling = false;
    if (age->statuses || job->kept)
        set_status(q, age, id, STATUS_CONCLUDED);
    if (!job->kept)
        dismiss(q, age, id);
}

static void get_ready(struct qemu *q, const struct age *age, int id)
{
    q->jobs[id].ready = true;
    *fate_of(q, id) |= WAS_READY;
    set_status(q, age, id, STATUS_READY);
    say(q, LINE_READY, id, 0);
}

/* Before 3.0 a job ends in the main loop, after the reply to its start is written. */
static bool can_end(const struct qemu *q, const struct age *age, int id)
{
    const struct command *command = &q->held.command;
    bool is_starting = q->held.kind == LINE_REPLY && command->order == ORDER_START &&
                       command->id == id && q->held.run == q->jobs[id].run;
    return age->statuses || !is_starting;
}

bool qemu_goes_on(struct qemu *q, const struct age *age, int id, bool really)
{
    struct real_job *job = &q->jobs[id];
    bool ends = !job->mirror || job->completing || job->copying || job->cancelling;
    bool can = works(job) && !job->paused && (ends ? can_end(q, age, id) : !job->ready);

    if (!can || !really)
        return can;
    if (!ends)
        get_ready(q, age, id);
    else
        end(q, age, id, job->cancelling ? LINE_CANCELLED : LINE_COMPLETED);
    return true;
}

bool qemu_fails(struct qemu *q, const struct age *age, int id, bool really)
{
    const struct real_job *job = &q->jobs[id];
    bool can = works(job) && !job->paused && !job->cancelling && can_end(q, age, id);
    if (can && really)
        end(q, age, id, LINE_FAILED);
    return can;
}

static bool start(struct qemu *q, const struct age *age, int id, struct real_job job)
{
    if (q->jobs[id].run > 0 || q->runs[id] == RUNS_OF_ID)
        return false;
    job.run = ++q->runs[id];
    q->jobs[id] = job;
    *fate_of(q, id) =
        EXISTED | (job.mirror ? (unsigned)MIRROR : 0) | (job.kept ? (unsigned)KEPT : 0);
    set_status(q, age, id, STATUS_CREATED);
    if (!age->statuses)
        *fate_of(q, id) |= BEGAN_UNHEARD;
    return true;
}

bool qemu_starts_others(struct qemu *q, const struct age *age, int id, struct real_job job,
                        bool really)
{
    bool can = q->jobs[id].run == 0 && q->runs[id] < RUNS_OF_ID && q->held.kind == LINE_NONE;
    if (!can || !really)
        return can;
    start(q, age, id, job);
    set_status(q, age, id, STATUS_RUNNING);
    return true;
}

void qemu_replace(struct qemu *q, const struct age *age, bool has_job)
{
    memset(q->jobs, 0, sizeof q->jobs);
    for (int id = 0; id < IDS; id++)
        for (int run = 0; run < RUNS_OF_ID; run++)
            if (q->fates[id][run])
                q->fates[id][run] |= ELSEWHERE;
    q->connected = false; /* whatever it has said, nobody was there */
    if (has_job && start(q, age, 0, (struct real_job){.mirror = true}))
        set_status(q, age, 0, STATUS_RUNNING);
    q->connected = true;
}

/* -------------------------------------------------------------------- verbs */

static bool take_complete(struct real_job *job)
{
    if (!works(job) || !job->ready || job->copying || job->cancelling)
        return false;
    job->completing = true;
    return true;
}

static bool take_cancel(struct real_job *job, bool force)
{
    if (!works(job) || (!force && job->paused))
        return false;
    if (!job->ready || force)
        job->cancelling = true;
    else if (!job->completing)
        job->copying = true;
    if (job->paused)
        job->status = job->ready ? STATUS_READY : STATUS_RUNNING;
    job->paused = false;
    return true;
}

static bool take_pause(struct qemu *q, const struct age *age, int id)
{
    struct real_job *job = &q->jobs[id];
    if (!works(job) || job->paused || job->cancelling)
        return false;
    job->paused = true;
    *fate_of(q, id) |= STOOD;
    set_status(q, age, id, job->ready ? STATUS_STANDBY : STATUS_PAUSED);
    return true;
}

static bool take_dismiss(struct qemu *q, const struct age *age, int id)
{
    if (q->jobs[id].status != STATUS_CONCLUDED)
        return false;
    dismiss(q, age, id);
    return true;
}

static bool take(struct qemu *q, const struct age *age, int id, enum verb verb)
{
    struct real_job *job = &q->jobs[id];

    switch (verb) {
    case VERB_COMPLETE:
        return take_complete(job);
    case VERB_CANCEL:
    case VERB_FORCE:
        return take_cancel(job, verb == VERB_FORCE);
    case VERB_PAUSE:
        return take_pause(q, age, id);
    case VERB_DISMISS:
        return take_dismiss(q, age, id);
    default:
        return works(job);
    }
}

bool qemu_takes_others(struct qemu *q, const struct age *age, int id, enum verb verb, bool really)
{
    struct qemu copy = *q;
    bool can = q->held.kind == LINE_NONE && take(&copy, age, id, verb);
    if (!can || !really)
        return can;
    *fate_of(q, id) |= OTHERS;
    return take(q, age, id, verb);
}

/* ----------------------------------------------------------------- commands */

bool qemu_can_execute(const struct qemu *q)
{
    return q->orders > 0 && q->held.kind == LINE_NONE;
}

bool qemu_can_write(const struct qemu *q)
{
    return q->held.kind != LINE_NONE;
}

void qemu_write(struct qemu *q)
{
    write_line(q, q->held);
    memset(&q->held, 0, sizeof q->held);
}

static enum verdict carry_out(struct qemu *q, const struct age *age, struct command command)
{
    enum verb verb = (enum verb)command.verb;
    bool unknown = q->jobs[command.id].run == 0;
    bool classy = !age->statuses || verb == VERB_CANCEL;

    if (unknown)
        return classy ? VERDICT_NO_SUCH_JOB : VERDICT_REFUSED;
    if (verb == VERB_CANCEL || verb == VERB_FORCE) {
        struct real_job copy = q->jobs[command.id];
        if (take_cancel(&copy, verb == VERB_FORCE))
            *fate_of(q, command.id) |= OUR_ABORT;
    }
    return take(q, age, command.id, verb) ? VERDICT_ACCEPTED : VERDICT_REFUSED;
}

static enum verdict start_ours(struct qemu *q, const struct age *age, int id, bool mirror,
                               bool balks)
{
    if (!start(q, age, id, (struct real_job){.mirror = mirror, .kept = age->dismissals}))
        return VERDICT_REFUSED;
    *fate_of(q, id) |= OURS;
    if (!balks) {
        set_status(q, age, id, STATUS_RUNNING);
        return VERDICT_ACCEPTED;
    }
    *fate_of(q, id) |= UNBORN | ENDED;
    dismiss(q, age, id);
    return VERDICT_REFUSED;
}

static struct listed row_of(struct qemu *q, int id)
{
    const struct real_job *job = &q->jobs[id];
    uint32_t fate = job->run ? *fate_of(q, id) : 0;
    return (struct listed){
        .run = job->run,
        .status = job->status,
        .mirror = job->mirror,
        .ready = job->ready && works(job),
        .paused = job->paused,
        .failed = (fate & FAILED) != 0,
        .cancelled = (fate & CANCELLED) != 0,
    };
}

static void list(struct qemu *q)
{
    for (int id = 0; id < IDS; id++) {
        struct listed row = row_of(q, id), older = q->block_jobs[id];
        q->listed[id] = row.run > 0 && older.run > 0 ? older : row;
        q->listed[id].failed = row.failed;
        q->listed[id].cancelled = row.cancelled;
    }
    memset(q->block_jobs, 0, sizeof q->block_jobs);
}

/* What is read of its reply is put together with the next one's. */
static bool list_block_jobs(struct qemu *q, struct command command)
{
    for (int id = 0; id < IDS && command.order == ORDER_BLOCK_JOBS; id++)
        q->block_jobs[id] = row_of(q, id);
    return command.order == ORDER_BLOCK_JOBS;
}

static enum disk_switch compare(const struct qemu *q, struct command command)
{
    if (command.before == 0)
        return SWITCH_UNKNOWN;
    bool switched = q->fates[command.id][command.before - 1] & DISK_SWITCHED;
    return switched ? SWITCHED : NOT_SWITCHED;
}

void qemu_execute(struct qemu *q, const struct age *age, bool mirror, bool balks)
{
    struct command command = pop_command(q);
    if (list_block_jobs(q, command))
        return;
    int result = 0;
    uint8_t run = q->jobs[command.id].run;

    switch ((enum order)command.order) {
    case ORDER_BLOCK_JOBS:
        break;
    case ORDER_VERB:
    case ORDER_RAW:
        result = (int)carry_out(q, age, command);
        break;
    case ORDER_START:
        result = (int)start_ours(q, age, command.id, mirror, balks);
        run = result == VERDICT_ACCEPTED ? q->jobs[command.id].run : 0;
        break;
    case ORDER_LIST:
        list(q);
        result = LIST_WHOLE;
        break;
    case ORDER_SNAPSHOT:
        result = works(&q->jobs[command.id]) ? SNAPSHOT_HELD : SNAPSHOT_VOID;
        break;
    case ORDER_COMPARE:
        result = (int)compare(q, command);
        break;
    }
    q->held = (struct line){
        .kind = LINE_REPLY, .run = run, .result = (uint8_t)result, .command = command};
}
