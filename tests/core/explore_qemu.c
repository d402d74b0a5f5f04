/* SPDX-License-Identifier: MIT */
/*
 * A small QEMU with one block job; see explore_qemu.h.
 */
#include "explore_qemu.h"

#include <string.h>

/* --------------------------------------------------------------------- wire */

static void write_line(struct qemu *q, struct line line)
{
    if (!q->connected)
        return;
    if (q->lines == WIRE_LINES) {
        q->overflow = true;
        return;
    }
    line.run = q->run;
    q->wire[q->lines++] = line;
}

static void say(struct qemu *q, enum line_kind kind)
{
    write_line(q, (struct line){.kind = (uint8_t)kind});
}

struct line qemu_pop_line(struct qemu *q)
{
    struct line line = q->wire[0];
    q->lines--;
    memmove(q->wire, q->wire + 1, q->lines * sizeof q->wire[0]);
    q->wire[q->lines] = (struct line){0};
    return line;
}

void qemu_push_command(struct qemu *q, int order, int asker)
{
    if (q->orders == ORDERS) {
        q->overflow = true;
        return;
    }
    q->commands[q->orders++] = (struct command){.order = (uint8_t)order, .asker = (uint8_t)asker};
}

static struct command pop_command(struct qemu *q)
{
    struct command command = q->commands[0];
    q->orders--;
    memmove(q->commands, q->commands + 1, q->orders * sizeof q->commands[0]);
    q->commands[q->orders] = (struct command){0};
    return command;
}

/* What was on the wire in either direction is gone. */
void qemu_hang_up(struct qemu *q)
{
    for (int i = 0; i < q->lines; i++) {
        const struct line *line = &q->wire[i];
        bool end = line->kind == LINE_COMPLETED || line->kind == LINE_FAILED ||
                   line->kind == LINE_CANCELLED;
        q->end_unsaid = q->end_unsaid || (end && line->run == 0);
    }
    memset(q->wire, 0, sizeof q->wire);
    memset(q->commands, 0, sizeof q->commands);
    q->held = q->cancel_held = (struct line){0};
    q->lines = q->orders = 0;
    q->block_status = q->block_flags = 0;
    q->connected = false;
}

/* ----------------------------------------------------------------- the job */

static void set_status(struct qemu *q, const struct setting *setting, enum status status)
{
    q->status = (uint8_t)status;
    if (setting->age->statuses)
        write_line(q, (struct line){.kind = LINE_STATUS, .a = (uint8_t)status});
}

bool qemu_has_ended(const struct qemu *q)
{
    return q->status >= STATUS_CONCLUDED;
}

static bool stands(const struct qemu *q)
{
    return q->status == STATUS_PAUSED || q->status == STATUS_STANDBY;
}

static bool works(const struct qemu *q)
{
    return q->status >= STATUS_RUNNING && q->status <= STATUS_STANDBY;
}

static bool moves(const struct qemu *q)
{
    return q->status == STATUS_RUNNING || q->status == STATUS_READY;
}

void qemu_start(struct qemu *q, const struct setting *setting, enum status status)
{
    *q = (struct qemu){.connected = true};
    set_status(q, setting, status);
    q->ready = status == STATUS_READY || status == STATUS_STANDBY;
    q->paused = stands(q);
}

static void stand(struct qemu *q, const struct setting *setting)
{
    set_status(q, setting, q->ready ? STATUS_STANDBY : STATUS_PAUSED);
}

static void go_on(struct qemu *q, const struct setting *setting)
{
    set_status(q, setting, q->ready ? STATUS_READY : STATUS_RUNNING);
}

static void conclude(struct qemu *q, const struct setting *setting)
{
    bool stays = (setting->ours || setting->dismiss) && setting->age->dismissals;

    q->paused = q->by_error = q->completing = q->copying = q->cancelling = q->draining = false;
    if (q->run == 0 && !q->connected)
        q->end_unsaid = true;
    if (setting->age->statuses || stays)
        set_status(q, setting, STATUS_CONCLUDED);
    if (!stays)
        set_status(q, setting, STATUS_NULL);
}

static void say_end(struct qemu *q, const struct setting *setting, enum line_kind kind)
{
    bool unknown = kind == LINE_CANCELLED && setting->age->no_cancelled;
    if (!setting->mute && !unknown)
        say(q, kind);
    else if (unknown && q->run == 0)
        q->end_unsaid = true;
}

static void finish(struct qemu *q, const struct setting *setting)
{
    if (q->run == 0) {
        q->completed = true;
        q->switched = q->completing;
    }
    say_end(q, setting, LINE_COMPLETED);
    conclude(q, setting);
}

static void cancel(struct qemu *q, const struct setting *setting)
{
    if (stands(q))
        go_on(q, setting);
    set_status(q, setting, STATUS_ABORTING);
    if (q->run == 0)
        q->cancelled = true;
    say_end(q, setting, LINE_CANCELLED);
    conclude(q, setting);
}

/* Waiting, pending and the end come in one go unless something holds them up. */
static void get_done(struct qemu *q, const struct setting *setting)
{
    set_status(q, setting, STATUS_PENDING);
    if (!setting->finalize)
        finish(q, setting);
    else
        say(q, LINE_PENDING);
}

static void stop_working(struct qemu *q, const struct setting *setting)
{
    set_status(q, setting, STATUS_WAITING);
    if (!setting->peers)
        get_done(q, setting);
}

static void get_ready(struct qemu *q, const struct setting *setting)
{
    q->ready = true;
    set_status(q, setting, STATUS_READY);
    if (!setting->age->no_ready)
        say(q, LINE_READY);
}

static bool can_be_ready(const struct setting *setting)
{
    return run_switches(setting->kind);
}

enum step { STEP_NONE, STEP_RUN, STEP_CANCEL, STEP_STAND, STEP_GO_ON, STEP_READY, STEP_STOP };

static enum step next_step(const struct qemu *q, const struct setting *setting)
{
    if (q->run > 0 && !q->cancelling)
        return STEP_NONE; /* the next run of the id just runs */
    if (q->status == STATUS_CREATED)
        return STEP_RUN;
    if (!works(q))
        return STEP_NONE;
    if (q->cancelling)
        return STEP_CANCEL;
    if (q->paused)
        return moves(q) ? STEP_STAND : STEP_NONE;
    if (stands(q))
        return STEP_GO_ON;
    if (can_be_ready(setting) && !q->ready)
        return STEP_READY;
    if (!can_be_ready(setting) || q->completing || q->copying)
        return STEP_STOP;
    return STEP_NONE;
}

bool qemu_advance(struct qemu *q, const struct setting *setting, bool really)
{
    enum step step = next_step(q, setting);
    if (!really)
        return step != STEP_NONE;
    switch (step) {
    case STEP_RUN:
        set_status(q, setting, STATUS_RUNNING);
        break;
    case STEP_CANCEL:
        cancel(q, setting);
        break;
    case STEP_STAND:
        stand(q, setting);
        break;
    case STEP_GO_ON:
        go_on(q, setting);
        break;
    case STEP_READY:
        get_ready(q, setting);
        break;
    case STEP_STOP:
        stop_working(q, setting);
        break;
    case STEP_NONE:
        break;
    }
    return step != STEP_NONE;
}

/* ---------------------------------------------------------------- accidents */

/* A cancel was accepted, and the work was done before it had an effect (B17). */
bool qemu_is_too_late(struct qemu *q, const struct setting *setting, bool really)
{
    bool late =
        can_be_ready(setting) ? setting->age->late_force && q->ready : setting->age->late_plain;
    bool can = works(q) && q->run == 0 && q->cancelling && !q->paused && late;
    if (can && really)
        stop_working(q, setting);
    return can;
}

/* READY after a cancel that was accepted: race 4. */
bool qemu_gets_ready_late(struct qemu *q, const struct setting *setting, bool really)
{
    bool can = q->status == STATUS_RUNNING && q->run == 0 && q->cancelling && !q->ready &&
               can_be_ready(setting);
    if (can && really)
        get_ready(q, setting);
    return can;
}

bool qemu_fails(struct qemu *q, const struct setting *setting, bool really)
{
    bool unborn = q->status == STATUS_CREATED; /* a transaction that never ran it: no event */
    bool can = (moves(q) || unborn) && q->run == 0 && !q->paused && !q->cancelling;
    if (!can || !really)
        return can;
    set_status(q, setting, STATUS_ABORTING);
    q->failed = true;
    if (!unborn)
        say_end(q, setting, LINE_FAILED);
    conclude(q, setting);
    return true;
}

bool qemu_stops(struct qemu *q, const struct setting *setting, bool really)
{
    bool can = moves(q) && q->run == 0 && !q->paused && !q->cancelling && !q->draining &&
               setting->age->pauses && !setting->mute;
    if (!can || !really)
        return can;
    q->paused = q->by_error = true;
    say(q, LINE_STOPPED);
    stand(q, setting);
    return true;
}

/* Any change of the graph drains the jobs; it goes on by itself. */
bool qemu_bounces(struct qemu *q, const struct setting *setting, bool really)
{
    bool can = moves(q) && q->run == 0 && !q->paused && setting->age->statuses;
    if (can && really)
        stand(q, setting);
    return can;
}

bool qemu_lets_peers_finish(struct qemu *q, const struct setting *setting, bool really)
{
    bool can = q->status == STATUS_WAITING && setting->peers;
    if (can && really)
        get_done(q, setting);
    return can;
}

bool qemu_completes_empty(struct qemu *q, const struct setting *setting, bool really)
{
    bool can = setting->age->empty_completes && q->status == STATUS_RUNNING && !q->ready &&
               q->run == 0 && setting->kind == RUN_MIRROR && !q->cancelling && !q->paused;
    if (can && really)
        stop_working(q, setting);
    return can;
}

/* Another client takes the same id for another job. */
bool qemu_starts_again(struct qemu *q, const struct setting *setting, bool really)
{
    bool can = q->status == STATUS_NULL && q->run == 0;
    if (!can || !really)
        return can;
    q->run = 1;
    q->ready = false;
    set_status(q, setting, STATUS_CREATED);
    set_status(q, setting, STATUS_RUNNING);
    return true;
}

/* Another client's pause has an effect at once. */
bool qemu_takes_others(struct qemu *q, const struct setting *setting, enum verb verb)
{
    bool taken = qemu_takes(q, setting, verb);
    if (taken && verb == VERB_PAUSE && moves(q))
        stand(q, setting);
    if (taken && verb == VERB_RESUME && stands(q))
        go_on(q, setting);
    return taken;
}

/* -------------------------------------------------------------------- verbs */

static bool take_complete(struct qemu *q, const struct setting *setting)
{
    const struct age *age = setting->age;
    bool can = works(q) && q->ready && !q->copying && !q->cancelling && !q->draining;

    if (!can || (age->standby_refuses && (stands(q) || q->paused)))
        return false;
    q->completing = true;
    if (age->reopen)
        stop_working(q, setting);
    return true;
}

static void take_ready_cancel(struct qemu *q, const struct age *age, bool force)
{
    bool soft = !force || age->soft_force;

    if (age->harm && q->copying)
        q->cancelling = true;
    else if (q->completing && (soft || age->late_force))
        q->draining = true;
    else if (soft)
        q->copying = true;
    else
        q->cancelling = true;
}

static bool take_cancel(struct qemu *q, const struct setting *setting, bool force)
{
    bool runs = q->status >= STATUS_CREATED && q->status <= STATUS_PENDING;

    if (!runs || (!force && q->paused))
        return false;
    if (q->status == STATUS_CREATED || q->status >= STATUS_WAITING)
        cancel(q, setting);
    else if (!q->ready)
        q->cancelling = true;
    else
        take_ready_cancel(q, setting->age, force);
    q->paused = q->by_error = false; /* every cancel that is accepted resumes it */
    return true;
}

static bool take_pause(struct qemu *q, const struct setting *setting)
{
    if (!setting->age->pauses || !works(q) || q->draining || q->cancelling || q->paused)
        return false;
    q->paused = true;
    return true;
}

static bool take_resume(struct qemu *q, const struct setting *setting)
{
    if (!works(q) || !q->paused)
        return false;
    bool again = q->by_error && q->ready && setting->age->ready_again;
    q->paused = q->by_error = false;
    if (again)
        say(q, LINE_READY);
    if (!setting->age->statuses && stands(q))
        go_on(q, setting); /* nothing would tell when */
    return true;
}

static bool take_finalize(struct qemu *q, const struct setting *setting)
{
    if (q->status != STATUS_PENDING)
        return false;
    finish(q, setting);
    return true;
}

static bool take_dismiss(struct qemu *q, const struct setting *setting)
{
    if (q->status != STATUS_CONCLUDED)
        return false;
    set_status(q, setting, STATUS_NULL);
    return true;
}

bool qemu_takes(struct qemu *q, const struct setting *setting, enum verb verb)
{
    switch (verb) {
    case VERB_COMPLETE:
        return take_complete(q, setting);
    case VERB_CANCEL:
    case VERB_FORCE:
        return take_cancel(q, setting, verb == VERB_FORCE);
    case VERB_PAUSE:
        return take_pause(q, setting);
    case VERB_RESUME:
        return take_resume(q, setting);
    case VERB_FINALIZE:
        return take_finalize(q, setting);
    case VERB_DISMISS:
        return take_dismiss(q, setting);
    default:
        return works(q);
    }
}

/* ----------------------------------------------------------------- commands */

static struct line row_of(int status, int flags)
{
    return (struct line){.kind = LINE_ROW, .a = (uint8_t)status, .b = (uint8_t)flags};
}

struct line qemu_row(const struct qemu *q, const struct setting *setting)
{
    int flags = ROW_LISTED;

    if (q->status == STATUS_NULL)
        return row_of(STATUS_NONE, 0);
    if (q->ready && q->status <= STATUS_STANDBY)
        flags |= ROW_READY;
    if (q->paused)
        flags |= q->by_error ? ROW_PAUSED | ROW_IO_ERROR : ROW_PAUSED;
    if (q->status == STATUS_CONCLUDED && q->run == 0)
        flags |= q->failed ? ROW_FAILED : q->cancelled ? ROW_CANCELLED : 0;
    return row_of(setting->age->row_status ? q->status : STATUS_NONE, flags);
}

/* query-jobs, put together with what query-block-jobs has said a moment before: what that says is
 * nearer to the job, and older. */
static struct line joined_row(const struct qemu *q, const struct setting *setting)
{
    struct line row = qemu_row(q, setting);

    if (!(row.b & ROW_LISTED) || !(q->block_flags & ROW_LISTED))
        return row;
    row.a = q->block_status;
    row.b = (uint8_t)(q->block_flags | (row.b & (ROW_CANCELLED | ROW_FAILED)));
    return row;
}

bool qemu_can_read(const struct qemu *q)
{
    return q->orders > 0 && q->held.kind == LINE_NONE;
}

struct command qemu_next(const struct qemu *q)
{
    return q->commands[0];
}

static void see_block_jobs(struct qemu *q, const struct setting *setting)
{
    struct line row = setting->mute ? row_of(STATUS_NONE, 0) : qemu_row(q, setting);
    q->block_status = row.a;
    q->block_flags = row.b;
}

/* Only query-block-jobs has an io-status. */
static struct line list_jobs(struct qemu *q, const struct setting *setting)
{
    struct line row = joined_row(q, setting);
    if (setting->age->statuses && !(q->block_flags & ROW_LISTED))
        row.b &= (uint8_t)~ROW_IO_ERROR;
    q->block_status = q->block_flags = 0;
    return row;
}

static struct line see_graph(const struct qemu *q, const struct setting *setting, enum sight sight)
{
    enum disk_switch truth = !run_switches(setting->kind) ? SWITCHES_NOTHING
                             : q->switched                ? SWITCHED
                                                          : NOT_SWITCHED;
    const enum disk_switch seen[] = {
        [SHOWS_TRUTH] = truth, [SHOWS_NOTHING] = SWITCH_UNKNOWN, [SHOWS_NEITHER] = SWITCH_UNCLEAR};
    return (struct line){.kind = LINE_GRAPH, .a = (uint8_t)seen[sight]};
}

static bool is_being_ended(const struct qemu *q)
{
    return works(q) && (q->completing || q->copying || q->cancelling);
}

static enum verdict refusal(const struct qemu *q, const struct setting *setting, int order)
{
    if (setting->age->says_ending && is_being_ended(q))
        return VERDICT_ENDING;
    bool unknown = q->status == STATUS_NULL;
    bool classy = !setting->age->statuses || (order == VERB_CANCEL && !setting->mute);
    return unknown && classy ? VERDICT_NO_SUCH_JOB : VERDICT_REFUSED;
}

static bool is_cancel(int order)
{
    return order == VERB_CANCEL || order == VERB_FORCE;
}

static bool carry_out(struct qemu *q, const struct setting *setting, struct command command)
{
    bool late = setting->age->no_cancelled && is_cancel(command.order);
    bool busy = late && q->cancel_held.kind != LINE_NONE; /* DeviceInUse */
    enum verdict no = refusal(q, setting, command.order);
    bool accepted =
        !busy && no != VERDICT_ENDING && qemu_takes(q, setting, (enum verb)command.order);
    struct line reply = {
        .kind = LINE_REPLY,
        .a = command.order,
        .b = (uint8_t)(accepted ? VERDICT_ACCEPTED : no),
        .c = command.asker,
    };

    if (late && accepted)
        q->cancel_held = reply;
    else
        q->held = reply;
    return accepted;
}

bool qemu_denies(struct qemu *q, const struct setting *setting, bool really)
{
    bool can =
        qemu_can_read(q) && q->commands[0].order <= VERB_FORCE && !setting->age->no_cancelled;

    if (!can || !really)
        return can;
    struct command command = pop_command(q);
    q->held = (struct line){
        .kind = LINE_REPLY,
        .a = command.order,
        .b = VERDICT_NO_SUCH_JOB,
        .c = command.asker,
    };
    return true;
}

bool qemu_read(struct qemu *q, const struct setting *setting, enum sight sight)
{
    struct command command = pop_command(q);

    if (command.order == ORDER_BLOCK_JOBS) {
        see_block_jobs(q, setting);
    } else if (command.order == ORDER_JOBS) {
        q->held = list_jobs(q, setting);
        q->held.c = command.asker;
    } else if (command.order == ORDER_GRAPH) {
        q->held = see_graph(q, setting, sight);
    } else {
        return carry_out(q, setting, command);
    }
    return false;
}

static bool can_write_cancel(const struct qemu *q)
{
    return q->cancel_held.kind != LINE_NONE && (q->status == STATUS_NULL || q->run > 0);
}

bool qemu_can_write(const struct qemu *q)
{
    return q->held.kind != LINE_NONE || can_write_cancel(q);
}

void qemu_write(struct qemu *q)
{
    struct line *held = can_write_cancel(q) ? &q->cancel_held : &q->held;
    write_line(q, *held);
    *held = (struct line){0};
}
