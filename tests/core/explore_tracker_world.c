/* SPDX-License-Identifier: MIT */
/*
 * The tracker's world: its port, its callers, and the lines that are read; see
 * explore_tracker_world.h.
 */
#include "explore_tracker_world.h"

#include <string.h>

#define STALL_MS 1000

const char *const ids[IDS] = {"a", "b"};

const char *type_of(bool mirror)
{
    return mirror ? "mirror" : "backup";
}

int id_of(const char *id)
{
    return id[0] == 'b';
}

void world_say(struct world *w, const char *what, const char *which)
{
    if (w->log)
        fprintf(w->log, "          %s %s\n", what, which);
}

/* ------------------------------------------------------------------- memory */

static struct world *world_of(struct tracker *t)
{
    return (struct world *)t;
}

int slot_of(const struct world *w, const struct run *run)
{
    return (int)(run - w->runs);
}

static struct run *take_slot(struct world *w, int id, bool mirror)
{
    const struct age *age = w->scenario->age;
    static struct machine_traits traits; /* its padding, too, is always the same */
    traits = (struct machine_traits){
        .never_ready = !mirror,
        .switches = mirror,
        .has_status = age->statuses,
        .stall_ms = STALL_MS,
    };
    for (int i = 0; i < SLOTS; i++) {
        if (w->slots[i].refs > 0)
            continue;
        w->slots[i] = (struct slot){.refs = 1, .id = (uint8_t)id};
        memset(&w->runs[i], 0, sizeof w->runs[i]);
        run_init(&w->runs[i], &w->tracker, ids[id], &traits);
        return &w->runs[i];
    }
    must(w, false, "(the explorer has too little room for runs)");
    return NULL;
}

static void give_slot_back(struct world *w, int slot)
{
    must(w, w->slots[slot].refs > 0, "no reference is given back twice");
    if (w->slots[slot].refs == 0 || --w->slots[slot].refs > 0)
        return;
    check_outcome(w, slot);
    must(w, w->slots[slot].is_spare || machine_is(&w->runs[slot].machine, IS_RELEASED),
         "no run is dropped before it is released");
    must(w, !w->slots[slot].announced || w->slots[slot].told_end, "what is announced has an end");
    must(w, !w->runs[slot].tracked, "what is tracked is held");
    must(w, !w->runs[slot].machine.waiters, "nobody waits for a run that is gone");
    machine_clear(&w->runs[slot].machine);
    memset(&w->runs[slot], 0, sizeof w->runs[slot]);
    w->slots[slot] = (struct slot){.refs = 0};
}

/* The graph shows nothing of a job that had ended by then. */
void world_take_handle(struct world *w, struct run *run)
{
    struct slot *slot = &w->slots[slot_of(w, run)];
    slot->refs += !slot->has_handle;
    slot->has_handle = true;
    uint32_t fate = world_fate(w, slot_of(w, run));
    slot->saw_void |= fate & MIRROR && fate & ENDED;
}

/* A program that waits for nothing, of a run that is over, has no more to ask of it. */
void world_tidy(struct world *w)
{
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &w->slots[i];
        const struct run *run = &w->runs[i];
        bool idle = slot->has_handle && !run->tracked && !run->machine.waiters;
        if (!idle || !machine_is(&run->machine, IS_RELEASED))
            continue;
        give_slot_back(w, i);
        slot->has_handle = false;
    }
}

/* --------------------------------------------------------------------- port */

static struct run *port_new_run(struct tracker *t, const char *id, const char *type)
{
    struct world *w = world_of(t);
    bool mirror = strcmp(type, "mirror") == 0;

    if (w->rest.no_memory) {
        w->rest.no_memory = false;
        w->rest.past.memory_failed = true;
        w->rest.past.unfollowed[id_of(id)] = true;
        world_say(w, "has", "no memory for a run");
        return NULL;
    }
    must(w, t->count < t->limit || w->is_accepting || w->is_hanging_up,
         "no more runs than the limit");
    return take_slot(w, id_of(id), mirror);
}

static void port_hold(struct run *run)
{
    struct world *w = world_of(run->tracker);
    w->slots[slot_of(w, run)].refs++;
}

static void port_drop(struct run *run)
{
    struct world *w = world_of(run->tracker);
    give_slot_back(w, slot_of(w, run));
}

static void port_over(struct run *run)
{
    struct world *w = world_of(run->tracker);
    w->slots[slot_of(w, run)].timer = false;
}

static void port_ignored(struct tracker *t, const char *id)
{
    struct world *w = world_of(t);
    world_say(w, "does not follow", id);
    w->rest.past.memory_failed = true;
    w->rest.past.unfollowed[id_of(id)] = true;
    must(w, t->count >= t->limit, "nothing is ignored below the limit");
}

static void learn_type(struct run *run, const struct world *w)
{
    int slot = slot_of(w, run);
    if (!w->slots[slot].run)
        return;
    bool mirror = world_fate(w, slot) & MIRROR;
    machine_learn(&run->machine)->never_ready = !mirror;
    machine_learn(&run->machine)->switches = mirror;
    if (!machine_traits(&run->machine)->ours && !machine_traits(&run->machine)->undecided)
        machine_learn(&run->machine)->kept = (world_fate(w, slot) & KEPT) != 0;
}

static void port_heard(struct run *run, const struct fact *fact)
{
    struct world *w = world_of(run->tracker);
    (void)fact;
    check_event(w, slot_of(w, run));
    learn_type(run, w);
}

static void port_saw(struct run *run, const struct row *row)
{
    struct world *w = world_of(run->tracker);
    (void)row;
    check_row(w, slot_of(w, run));
    learn_type(run, w);
}

static void port_own(struct run *run, struct start *start)
{
    struct world *w = world_of(run->tracker);
    must(w, strcmp(start->id, run->node.id) == 0, "a start gets a run of its id");
}

static int seat_number(const struct world *w, const struct waiter *waiter)
{
    return waiter ? (int)((const struct seat *)waiter - w->seats) : NOBODY_WAITS;
}

static void push(struct world *w, struct command command)
{
    must(w, w->tracker.link == LINK_UP || w->tracker.link == LINK_CLOSING,
         "nothing is sent while nobody hears");
    must(w, w->tracker.link != LINK_CLOSING || command.order == ORDER_VERB,
         "nothing but dismissals once it is closed");
    qemu_push_command(&w->rest.qemu, command);
}

static void port_send(struct run *run, enum verb verb, struct waiter *waiter)
{
    struct world *w = world_of(run->tracker);
    int slot = slot_of(w, run);

    world_say(w, "sends", order_words[verb]);
    check_sending(w, slot, verb, waiter);
    push(w, (struct command){
                .order = ORDER_VERB,
                .id = w->slots[slot].id,
                .verb = (uint8_t)verb,
                .asker = (uint8_t)slot,
                .waiter = (uint8_t)seat_number(w, waiter),
                .for_all = !waiter,
            });
}

static void port_ask_list(struct tracker *t)
{
    struct world *w = world_of(t);
    world_say(w, "asks for", "the list");
    must(w, !w->rest.list_is_out, "one list at a time");
    w->rest.list_is_out = true;
    if (t->reports_created)
        push(w, (struct command){.order = ORDER_BLOCK_JOBS});
    push(w, (struct command){.order = ORDER_LIST});
}

static bool is_of(const struct command *command, int order, int asker)
{
    return command->order == order && command->asker == asker;
}

/* On their way to QEMU, or their replies to us. */
static int orders_out(const struct world *w, int order, int asker)
{
    const struct qemu *q = &w->rest.qemu;
    int count = q->held.kind == LINE_REPLY && is_of(&q->held.command, order, asker);

    for (int i = 0; i < q->orders; i++)
        count += is_of(&q->commands[i], order, asker);
    for (int i = 0; i < q->lines; i++)
        count += q->wire[i].kind == LINE_REPLY && is_of(&q->wire[i].command, order, asker);
    return count;
}

static void ask_graph(struct world *w, int slot, enum order order)
{
    must(w, orders_out(w, ORDER_SNAPSHOT, slot) + orders_out(w, ORDER_COMPARE, slot) == 0,
         "one look at the graph at a time for each run");
    push(w, (struct command){
                .order = (uint8_t)order,
                .id = w->slots[slot].id,
                .asker = (uint8_t)slot,
                .before = w->slots[slot].snapshot_of,
            });
}

static void port_take_snapshot(struct run *run, bool urgent)
{
    struct world *w = world_of(run->tracker);
    (void)urgent;
    world_say(w, "asks for", "a snapshot");
    w->slots[slot_of(w, run)].snapshot_of = 0;
    ask_graph(w, slot_of(w, run), ORDER_SNAPSHOT);
}

static void port_compare(struct run *run)
{
    struct world *w = world_of(run->tracker);
    world_say(w, "asks for", "a comparison");
    ask_graph(w, slot_of(w, run), ORDER_COMPARE);
}

static void port_set_timer(struct run *run, int64_t ms)
{
    struct world *w = world_of(run->tracker);
    w->slots[slot_of(w, run)].timer = ms > 0;
}

static void forget(struct command *command, int seat)
{
    if (command->order == ORDER_VERB && command->waiter == seat)
        command->waiter = NOBODY_WAITS;
}

/* A reply to come finds nobody any more. */
void world_stand_up(struct world *w, int seat)
{
    struct qemu *q = &w->rest.qemu;

    memset(&w->seats[seat], 0, sizeof w->seats[seat]);
    if (q->held.kind == LINE_REPLY)
        forget(&q->held.command, seat);
    for (int i = 0; i < q->orders; i++)
        forget(&q->commands[i], seat);
    for (int i = 0; i < q->lines; i++)
        if (q->wire[i].kind == LINE_REPLY)
            forget(&q->wire[i].command, seat);
}

static void port_answer(struct run *run, struct waiter *waiter, const struct answer *answer)
{
    struct world *w = world_of(run->tracker);
    int number = seat_number(w, waiter);
    struct waiter asked = *waiter;

    world_say(w, "answers a waiter:", bj_error_name(answer->error));
    must(w, w->seats[number].taken, "each is answered once");
    must(w, w->seats[number].slot == slot_of(w, run), "each is answered by its run");
    check_answer(w, slot_of(w, run), &asked, answer);
    world_stand_up(w, number);
}

static void port_report(struct run *run, enum report report, const char *text)
{
    static const char *const words[] = {"status",  "READY", "STALLED",
                                        "RESUMED", "ENDED", "RELEASED"};
    struct world *w = world_of(run->tracker);
    if (report == REPORT_ENDED)
        text = bj_outcome_name(run->machine.outcome);
    world_say(w, words[report], text ? text : "");
    if (report == REPORT_ENDED)
        w->slots[slot_of(w, run)].told_end = w->slots[slot_of(w, run)].announced;
}

static void port_announce(struct run *run)
{
    struct world *w = world_of(run->tracker);
    struct slot *slot = &w->slots[slot_of(w, run)];

    world_say(w, "announces", run->node.id);
    must(w, w->tracker.is_observed, "nothing is announced to nobody");
    must(w, !slot->announced, "each run is announced once");
    must(w, !machine_traits(&run->machine)->undecided, "what is announced is known to be whose");
    must(w,
         run->has_type || machine_is_over(&run->machine) || w->rest.past.list_failed ||
             w->rest.past.list_cut,
         "the type is asked for");
    slot->announced = true;
    slot->told_end = machine_is_over(&run->machine);
    check_announced(w, slot_of(w, run));
}

/* What a program remembers decides nothing. */
static void port_remember(struct run *run, unsigned facts)
{
    must(world_of(run->tracker), !machine_is_over(&run->machine) && facts <= MEMORY_ALL,
         "what is remembered is of a run that goes on");
}

static void port_attached(struct tracker *t, struct attachment *attachment, int error)
{
    struct world *w = world_of(t);
    int number = (int)(attachment - w->attachments);

    world_say(w, "answers who attaches:", bj_error_name(error));
    must(w, w->attaching[number], "each who attaches is answered once");
    check_attached(w, number, error);
    if (error == BJ_OK && attachment->run)
        world_take_handle(w, attachment->run);
    w->attaching[number] = false;
    memset(attachment, 0, sizeof *attachment);
    w->rest.attached_before[number] = w->rest.attached_least[number] = 0;
}

static bool port_name(struct tracker *t, struct attachment *attachment)
{
    (void)t;
    (void)attachment;
    return false;
}

static void port_is_back(struct tracker *t)
{
    struct world *w = world_of(t);
    world_say(w, "is", "back");
    must(w, w->rest.past.returning, "that it is back is told once");
    w->rest.past.returning = false;
}

static void port_is_settled(struct tracker *t)
{
    struct world *w = world_of(t);
    must(w, t->link == LINK_CLOSING, "only what is closed is settled");
    w->rest.settled = true;
}

const struct tracker_port world_port = {
    .new_run = port_new_run,
    .hold = port_hold,
    .drop = port_drop,
    .over = port_over,
    .ignored = port_ignored,
    .heard = port_heard,
    .saw = port_saw,
    .own = port_own,
    .send = port_send,
    .ask_list = port_ask_list,
    .take_snapshot = port_take_snapshot,
    .compare = port_compare,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
    .announce = port_announce,
    .remember = port_remember,
    .attached = port_attached,
    .name = port_name,
    .is_back = port_is_back,
    .is_settled = port_is_settled,
};

/* ---------------------------------------------------------------- the callers */

void world_start(struct world *w, int id)
{
    int number = 0;
    while (w->starting[number])
        number++;
    struct start *start = &w->starts[number];
    memset(start, 0, sizeof *start);
    start->id = ids[id];
    start->type = type_of(!w->scenario->plain);
    start->ours = w->scenario->age->dismissals;
    start->spare = take_slot(w, id, !w->scenario->plain);
    if (!start->spare)
        return;
    w->slots[slot_of(w, start->spare)].is_spare = true;
    if (tracker_start(&w->tracker, start) == BJ_OK) {
        w->starting[number] = true;
        push(w,
             (struct command){.order = ORDER_START, .id = (uint8_t)id, .asker = (uint8_t)number});
        return;
    }
    must(w, w->tracker.count >= w->tracker.limit, "nothing is BUSY below the limit");
    give_slot_back(w, slot_of(w, start->spare));
    memset(start, 0, sizeof *start);
}

void world_attach(struct world *w, int id)
{
    const struct qemu *q = &w->rest.qemu;
    int number = 0;
    while (w->attaching[number])
        number++;
    const struct run *known = tracker_find(&w->tracker, ids[id]);
    int least = known ? w->slots[slot_of(w, known)].run : w->rest.past.heard[id] + 1;
    if (q->jobs[id].run > 0 && q->jobs[id].run < least)
        least = q->jobs[id].run;

    w->attaching[number] = true;
    w->rest.attached_before[number] = q->jobs[id].run;
    const struct past *past = &w->rest.past;
    bool forgot = past->memory_failed || past->list_failed || past->list_cut;
    w->rest.attached_least[number] = (uint8_t)(forgot ? 0 : least);
    memset(&w->attachments[number], 0, sizeof w->attachments[number]);
    w->attachments[number].id = ids[id];
    tracker_attach(&w->tracker, &w->attachments[number]);
}

void world_raw(struct world *w, int id, enum verb verb)
{
    struct raw *raw = &w->raws[0];
    memset(raw, 0, sizeof *raw);
    raw->id = ids[id];
    raw->verb = verb;
    w->sending[0] = true;
    tracker_raw(&w->tracker, raw);
    push(w, (struct command){.order = ORDER_RAW, .id = (uint8_t)id, .verb = (uint8_t)verb});
}

/* ------------------------------------------------------------------ replies */

static void start_is_over(struct world *w, int number, enum order_reply reply,
                          const struct line *line)
{
    struct start *start = &w->starts[number];

    if (reply == ORDER_LOST && start->run)
        w->slots[slot_of(w, start->run)].is_guess = true;
    w->is_accepting = reply == ORDER_ACCEPTED;
    tracker_started(&w->tracker, start, reply);
    w->is_accepting = false;
    world_name_slots(w);
    struct run *run = reply == ORDER_ACCEPTED ? start->run : NULL;
    if (line)
        check_started(w, run, line);
    if (start->spare)
        give_slot_back(w, slot_of(w, start->spare));
    if (run) {
        world_take_handle(w, run);
        w->slots[slot_of(w, run)].refs--; /* the one that it came with */
        learn_type(run, w);
    }
    w->starting[number] = false;
    memset(start, 0, sizeof *start);
}

static void raw_is_over(struct world *w, enum order_reply reply)
{
    tracker_raw_replied(&w->tracker, &w->raws[0], reply);
    w->sending[0] = false;
    memset(&w->raws[0], 0, sizeof w->raws[0]);
}

static void hear_verb(struct world *w, const struct line *line)
{
    const struct command *command = &line->command;
    bool waits = command->waiter != NOBODY_WAITS;
    bool no_such_job = line->result == VERDICT_NO_SUCH_JOB;

    w->rest.past.refused |= line->result != VERDICT_ACCEPTED;
    tracker_replied(&w->runs[command->asker], (enum verb)command->verb,
                    waits && !command->for_all ? &w->seats[command->waiter].waiter : NULL,
                    &(struct verb_reply){
                        .for_all = command->for_all,
                        .verdict = (enum verdict)line->result,
                        .error = BJ_E_REFUSED,
                        .error_class = no_such_job ? "DeviceNotActive" : "GenericError",
                        .text = "QEMU said no",
                    });
    check_reply(w, command->asker, line);
}

static void tell_row(struct world *w, int id)
{
    const struct listed listed = w->rest.qemu.listed[id];
    struct row row = {
        .status = w->scenario->age->statuses || w->scenario->age->dismissals
                      ? (enum status)listed.status
                      : STATUS_NONE,
        .ready = listed.ready,
        .paused = listed.paused,
        .error = listed.cancelled ? "Operation canceled"
                 : listed.failed  ? "No space left on device"
                                  : NULL,
        .cancelled = listed.cancelled,
    };
    w->now_id = id;
    w->now_run = listed.run;
    tracker_row(&w->tracker, ids[id], type_of(listed.mirror), &row);
    world_name_slots(w);
}

static void hear_list(struct world *w, const struct line *line)
{
    w->rest.list_is_out = false;
    for (int id = 0; id < IDS && line->result != LIST_FAILED; id++)
        if (w->rest.qemu.listed[id].run > 0)
            tell_row(w, id);
    w->now_run = 0;
    memset(w->rest.qemu.listed, 0, sizeof w->rest.qemu.listed);
    w->is_listing = true;
    tracker_list_over(&w->tracker, (enum list_end)line->result);
    w->is_listing = false;
}

static void hear_snapshot(struct world *w, const struct line *line)
{
    struct slot *slot = &w->slots[line->command.asker];
    slot->snapshot_of = line->result == SNAPSHOT_HELD ? line->run : 0;
    slot->saw_void |= line->result != SNAPSHOT_HELD || line->run != slot->run;
    tracker_snapshot(&w->runs[line->command.asker], (enum snapshot)line->result);
}

static void hear_reply(struct world *w, const struct line *line)
{
    bool accepted = line->result == VERDICT_ACCEPTED;

    if (line->command.asker == NOBODY_WAITS)
        return;
    switch ((enum order)line->command.order) {
    case ORDER_VERB:
        hear_verb(w, line);
        break;
    case ORDER_START:
        start_is_over(w, line->command.asker, accepted ? ORDER_ACCEPTED : ORDER_REFUSED, line);
        break;
    case ORDER_RAW:
        raw_is_over(w, accepted ? ORDER_ACCEPTED : ORDER_REFUSED);
        check_raw_reply(w, line);
        break;
    case ORDER_BLOCK_JOBS:
        break;
    case ORDER_LIST:
        hear_list(w, line);
        break;
    case ORDER_SNAPSHOT:
        hear_snapshot(w, line);
        break;
    case ORDER_COMPARE:
        tracker_compared(&w->runs[line->command.asker], (enum disk_switch)line->result, false);
        break;
    }
}

static void hear_event(struct world *w, const struct line *line)
{
    static const enum fact_kind kinds[] = {
        [LINE_STATUS] = FACT_STATUS,       [LINE_READY] = FACT_READY,
        [LINE_COMPLETED] = FACT_COMPLETED, [LINE_FAILED] = FACT_COMPLETED,
        [LINE_CANCELLED] = FACT_CANCELLED,
    };
    bool mirror = *qemu_fate(&w->rest.qemu, line->command.id, line->run) & MIRROR;

    if (line->run > w->rest.past.heard[line->command.id])
        w->rest.past.heard[line->command.id] = line->run;
    if (line->kind == LINE_STATUS && line->command.verb == STATUS_CREATED &&
        w->tracker.is_observed && w->tracker.link == LINK_UP)
        w->rest.past.observed[line->command.id] |= (uint8_t)(1 << line->run);
    tracker_fact(&w->tracker,
                 &(struct fact){
                     .kind = kinds[line->kind],
                     .id = ids[line->command.id],
                     .type = line->kind == LINE_STATUS ? "" : type_of(mirror),
                     .status = (enum status)line->command.verb,
                     .error = line->kind == LINE_FAILED ? "No space left on device" : NULL,
                 });
}

void world_name_slots(struct world *w)
{
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &w->slots[i];
        if (!w->runs[i].tracked || !w->runs[i].has_id || slot->run > 0 || slot->id != w->now_id)
            continue;
        slot->run = (uint8_t)w->now_run;
        slot->is_guess = slot->is_guess || w->is_hanging_up;
        slot->is_spare = false;
        check_announced(w, i);
    }
}

void world_hear(struct world *w)
{
    struct line line = qemu_pop_line(&w->rest.qemu);

    w->now_id = line.command.id;
    w->now_run = line.run;
    if (line.kind == LINE_REPLY && line.command.order == ORDER_START &&
        line.result == VERDICT_ACCEPTED && line.command.asker != NOBODY_WAITS)
        w->rest.past.accepted[line.command.id] |= 1u << line.run;
    if (line.kind == LINE_REPLY)
        hear_reply(w, &line);
    else
        hear_event(w, &line);
    w->now_run = 0;
}

/* -------------------------------------------------------------- the connection */

static void lose(struct world *w, struct command command)
{
    if (command.asker == NOBODY_WAITS)
        return;
    w->now_id = command.id;
    w->now_run = 0;
    switch ((enum order)command.order) {
    case ORDER_VERB:
        tracker_replied(&w->runs[command.asker], (enum verb)command.verb,
                        command.waiter == NOBODY_WAITS ? NULL : &w->seats[command.waiter].waiter,
                        NULL);
        break;
    case ORDER_START:
        start_is_over(w, command.asker, ORDER_LOST, NULL);
        break;
    case ORDER_RAW:
        raw_is_over(w, ORDER_LOST);
        break;
    case ORDER_BLOCK_JOBS:
        break;
    case ORDER_LIST:
        w->rest.list_is_out = false;
        tracker_list_over(&w->tracker, LIST_LOST);
        break;
    case ORDER_SNAPSHOT:
        tracker_snapshot(&w->runs[command.asker], SNAPSHOT_WANTED);
        break;
    case ORDER_COMPARE:
        tracker_compared(&w->runs[command.asker], SWITCH_UNKNOWN, true);
        break;
    }
}

/* A reply that comes later finds nobody. */
static void lose_here(struct world *w, struct command *command, bool but_dismissals)
{
    bool stays = but_dismissals && command->order == ORDER_VERB && command->verb == VERB_DISMISS &&
                 command->for_all;
    struct command lost = *command;

    if (stays)
        return;
    command->asker = command->waiter = NOBODY_WAITS;
    lose(w, lost);
}

/* The oldest first; not what is asked for meanwhile. */
void world_lose_orders(struct world *w, bool but_dismissals)
{
    struct qemu *q = &w->rest.qemu;
    int count = q->orders;

    w->is_hanging_up = true;
    for (int i = 0; i < q->lines; i++)
        if (q->wire[i].kind == LINE_REPLY)
            lose_here(w, &q->wire[i].command, but_dismissals);
    if (q->held.kind == LINE_REPLY)
        lose_here(w, &q->held.command, but_dismissals);
    for (int i = 0; i < count; i++)
        lose_here(w, &q->commands[i], but_dismissals);
    w->is_hanging_up = false;
}

void world_finish(struct world *w, int error)
{
    w->rest.past.is_over = true;
    tracker_over(&w->tracker, error, "the connection ended");
    world_lose_orders(w, false);
    qemu_hang_up(&w->rest.qemu);
    world_tidy(w);
}

void world_clear(struct world *w)
{
    for (int i = 0; i < SLOTS; i++)
        if (w->slots[i].refs > 0)
            machine_clear(&w->runs[i].machine);
}
