/* SPDX-License-Identifier: MIT */
/*
 * What may happen in the tracker's world, and makes it happen; see explore_tracker_world.h.
 */
#include "explore_tracker_world.h"

#include <string.h>

const char *const order_words[] = {
    [VERB_COMPLETE] = "complete", [VERB_CANCEL] = "cancel", [VERB_FORCE] = "force",
    [VERB_DISMISS] = "dismiss",   [VERB_PAUSE] = "pause",   [VERB_RESUME] = "resume",
    [VERB_SET_SPEED] = "speed",   [VERB_CHANGE] = "change", [VERB_FINALIZE] = "finalize",
};

static const struct asking {
    const char *words;
    struct waiter waiter;
} questions[] = {
    {"ready", {.question = ASK_READY}},
    {"done", {.question = ASK_DONE}},
    {"released", {.question = ASK_RELEASED}},
    {"pivot", {.question = ASK_PIVOT}},
    {"finish", {.question = ASK_FINISH}},
    {"abort softly", {.question = ASK_ABORT}},
    {"abort by force", {.question = ASK_ABORT, .flags = BJ_ABORT_FORCE}},
    {"pause", {.question = ASK_VERB, .verb = VERB_PAUSE}},
    {"set-speed", {.question = ASK_VERB, .verb = VERB_SET_SPEED}},
    {"dismiss", {.question = ASK_VERB, .verb = VERB_DISMISS}},
};

#define QUESTIONS (int)(sizeof questions / sizeof questions[0])

/* Two numbers in one: the first is small. */
static int both(int low, int high)
{
    return high * 8 + low;
}

static int low(struct step step)
{
    return step.which % 8;
}

static int high(struct step step)
{
    return step.which / 8;
}

/* -------------------------------------------------------------------- listing */

struct steps {
    struct step *list;
    int count;
};

static void may(struct steps *steps, bool can, int kind, int which)
{
    if (can)
        steps->list[steps->count++] = (struct step){.kind = (uint8_t)kind, .which = (uint8_t)which};
}

bool world_is_by_itself(struct step step)
{
    return step.kind <= STEP_OWN_START;
}

static struct real_job others_job(const struct world *w)
{
    return (struct real_job){.mirror = !w->scenario->others_plain,
                             .kept = w->scenario->others_kept};
}

static bool may_be(const struct world *w, unsigned what)
{
    return w->scenario->may & what;
}

static bool has_slots(const struct world *w, int count)
{
    for (int i = 0; i < SLOTS; i++)
        count -= w->slots[i].refs == 0;
    return count <= 0;
}

/* The clock goes on and on; what matters is when QEMU has what is not known. */
static bool seeks(const struct world *w)
{
    const struct tracker *t = &w->tracker;
    bool asks = t->is_observed && t->link == LINK_UP && (!t->reports_created || t->seeks_all);
    bool finds = false;

    for (int id = 0; id < IDS; id++) {
        int run = w->rest.qemu.jobs[id].run;
        finds |= run > 0 && !(w->rest.past.announced[id] >> run & 1) && has_slots(w, 1);
    }
    return asks && finds && !t->list_is_out && t->count < t->limit;
}

static void list_own_steps(const struct world *w, struct steps *steps)
{
    struct qemu *q = (struct qemu *)&w->rest.qemu; /* asked only, not touched */
    const struct age *age = w->scenario->age;
    bool again = may_be(w, OTHERS_START) && !w->rest.started_again && q->runs[0] > 0;
    bool away = w->tracker.link == LINK_DOWN;
    bool room = q->lines + LINES_AT_ONCE <= WIRE_LINES;

    may(steps, q->lines > 0, STEP_HEAR, 0);
    may(steps, room && qemu_can_execute(q), STEP_EXECUTE, 0);
    may(steps, qemu_can_write(q), STEP_WRITE, 0);
    for (int id = 0; id < IDS; id++)
        may(steps, room && qemu_goes_on(q, age, id, false), STEP_GO_ON, id);
    for (int i = 0; i < SLOTS; i++)
        may(steps, w->slots[i].timer, STEP_TICK, i);
    may(steps, away, STEP_BACK, 0);
    may(steps, away && may_be(w, MAY_CHANGE), STEP_BACK, 1);
    may(steps, away && may_be(w, MAY_CHANGE), STEP_BACK, 2);
    may(steps, room && seeks(w), STEP_SEEK, 0);
    may(steps, room && again && qemu_starts_others(q, age, 0, others_job(w), false), STEP_OWN_START,
        0);
}

static int first_free(const bool *taken, int count)
{
    int i = 0;
    while (i < count && taken[i])
        i++;
    return i < count ? i : -1;
}

static bool can_wait(const struct world *w)
{
    for (int i = 0; i < WAITERS; i++)
        if (!w->seats[i].taken)
            return true;
    return false;
}

static void list_asking(const struct world *w, struct steps *steps)
{
    for (int slot = 0; slot < SLOTS; slot++)
        for (int q = 0; q < QUESTIONS; q++)
            may(steps, may_be(w, MAY_ASK) && w->slots[slot].has_handle && can_wait(w), STEP_ASK,
                both(slot, q));
    for (int i = 0; i < WAITERS; i++)
        may(steps, w->seats[i].taken, STEP_LEAVE, i);
}

/* A program that starts an id again while QEMU has created a job of it and the first start has no
 * reply: with another client's job in between the tracker can't tell the two starts apart, and
 * follows what recorded sessions with late replies need. */
static bool is_ambiguous(const struct world *w, int id)
{
    for (int i = 0; i < STARTS; i++)
        if (w->starting[i] && w->starts[i].run && w->starts[i].id == ids[id])
            return true;
    return false;
}

static void list_callers_steps(const struct world *w, struct steps *steps)
{
    bool up = w->tracker.link == LINK_UP;
    bool starts = up && may_be(w, MAY_START) && first_free(w->starting, STARTS) >= 0;
    bool attaches = up && may_be(w, MAY_ATTACH) && first_free(w->attaching, ATTACHMENTS) >= 0;
    bool sends = up && may_be(w, MAY_RAW) && !w->sending[0];
    bool open = up || w->tracker.link == LINK_DOWN;

    list_asking(w, steps);
    for (int id = 0; id < w->scenario->ids; id++) {
        may(steps, starts && has_slots(w, 2) && !is_ambiguous(w, id), STEP_START, id);
        may(steps, attaches && has_slots(w, 2), STEP_ATTACH, id);
        may(steps, sends, STEP_RAW, both(id, VERB_COMPLETE));
        may(steps, sends, STEP_RAW, both(id, VERB_CANCEL));
        may(steps, sends, STEP_RAW, both(id, VERB_PAUSE));
    }
    for (int i = 0; i < ATTACHMENTS; i++)
        may(steps, w->attaching[i], STEP_UNATTACH, i);
    may(steps, open && may_be(w, MAY_OBSERVE), STEP_OBSERVE, !w->tracker.is_observed);
    may(steps, open && may_be(w, MAY_CLOSE), STEP_CLOSE, 0);
}

static void list_others_steps(const struct world *w, struct steps *steps)
{
    static const enum verb verbs[] = {VERB_COMPLETE, VERB_CANCEL, VERB_FORCE, VERB_DISMISS};
    struct qemu *q = (struct qemu *)&w->rest.qemu;
    const struct age *age = w->scenario->age;

    for (int id = 0; id < w->scenario->ids; id++) {
        bool starts = may_be(w, OTHERS_MAY_START) && has_slots(w, 1);
        may(steps, starts && qemu_starts_others(q, age, id, others_job(w), false),
            STEP_OTHERS_START, id);
        for (int i = 0; i < 4; i++)
            may(steps, may_be(w, OTHERS_MAY_ACT) && qemu_takes_others(q, age, id, verbs[i], false),
                STEP_OTHERS_VERB, both(id, (int)verbs[i]));
        may(steps, may_be(w, MAY_FAIL) && qemu_fails(q, age, id, false), STEP_FAIL, id);
    }
}

static void list_accidents(const struct world *w, struct steps *steps)
{
    const struct qemu *q = &w->rest.qemu;
    const struct command *next = &q->commands[0];
    const struct line *held = &q->held;
    bool lists = held->kind == LINE_REPLY && held->command.order == ORDER_LIST &&
                 held->result == LIST_WHOLE && may_be(w, MAY_LIST_BADLY);
    bool balks = qemu_can_execute(q) && next->order == ORDER_START && q->jobs[next->id].run == 0 &&
                 q->runs[next->id] < RUNS_OF_ID;

    may(steps, may_be(w, MAY_BALK) && balks, STEP_BALK, 0);
    may(steps, may_be(w, MAY_CUT) && w->tracker.link == LINK_UP, STEP_CUT, 0);
    may(steps, may_be(w, MAY_LACK_MEMORY) && !w->rest.no_memory, STEP_NO_MEMORY, 0);
    may(steps, lists, STEP_LIST_FAILS, 0);
    for (int id = 0; id < w->scenario->ids; id++)
        may(steps, lists && q->listed[id].run > 0, STEP_LIST_IS_CUT, id);
}

int world_steps(const struct world *w, struct step *ret_steps)
{
    const struct qemu *q = &w->rest.qemu;
    struct steps steps = {.list = ret_steps};

    if (w->tracker.link == LINK_OVER)
        return 0;
    list_own_steps(w, &steps);
    bool full = q->lines > WIRE_LINES / 2 || q->orders > ORDERS / 2;
    if (w->rest.acts > 0 && !full) {
        list_callers_steps(w, &steps);
        list_others_steps(w, &steps);
        list_accidents(w, &steps);
    }
    return steps.count;
}

/* --------------------------------------------------------------------- taking */

static void ask(struct world *w, int slot, int question)
{
    int number = 0;
    while (w->seats[number].taken)
        number++;
    struct seat *seat = &w->seats[number];
    memset(seat, 0, sizeof *seat);
    seat->waiter = questions[question].waiter;
    seat->taken = true;
    seat->slot = (uint8_t)slot;
    run_ask(&w->runs[slot], &seat->waiter);
}

static void leave(struct world *w, int number)
{
    run_leave(&w->runs[w->seats[number].slot], &w->seats[number].waiter);
    world_stand_up(w, number);
}

static void unattach(struct world *w, int number)
{
    tracker_unattach(&w->tracker, &w->attachments[number]);
    w->attaching[number] = false;
    memset(&w->attachments[number], 0, sizeof w->attachments[number]);
    w->rest.attached_before[number] = w->rest.attached_least[number] = 0;
}

static void close_monitor(struct world *w)
{
    w->rest.past.was_closed = true;
    bool was_up = w->tracker.link == LINK_UP;
    tracker_close(&w->tracker, "it was closed");
    world_lose_orders(w, true);
    if (!was_up || !tracker_owes_dismissals(&w->tracker))
        world_finish(w, BJ_E_CLOSED);
}

static void cut(struct world *w)
{
    world_lose_orders(w, false);
    w->rest.past.was_away = true;
    w->rest.past.returning = false;
    tracker_away(&w->tracker);
    world_lose_orders(w, false); /* what was asked for meanwhile */
    check_step(w);               /* what is not known yet may be known later */
    qemu_hang_up(&w->rest.qemu);
}

static void come_back(struct world *w, int which)
{
    bool another = which != 0;
    w->rest.qemu.connected = true;
    w->rest.past.returning = true;
    if (another)
        qemu_replace(&w->rest.qemu, w->scenario->age, may_be(w, OTHER_HAS));
    if (which == 2)
        tracker_peer_is_gone(&w->tracker, "its QEMU has ended");
    tracker_up(&w->tracker, w->scenario->age->statuses, another ? OTHER_QEMU : SAME_QEMU);
}

static void spoil_list(struct world *w, struct step step)
{
    struct qemu *q = &w->rest.qemu;

    if (step.kind == STEP_LIST_FAILS) {
        w->rest.past.list_failed = true;
        q->held.result = LIST_FAILED;
        memset(q->listed, 0, sizeof q->listed);
    } else {
        w->rest.past.list_cut = true;
        q->held.result = LIST_CUT;
        memset(&q->listed[step.which], 0, sizeof q->listed[step.which]);
    }
}

static void callers_act(struct world *w, struct step step)
{
    switch ((enum step_kind)step.kind) {
    case STEP_ASK:
        ask(w, low(step), high(step));
        break;
    case STEP_LEAVE:
        leave(w, step.which);
        break;
    case STEP_START:
        world_start(w, step.which);
        break;
    case STEP_ATTACH:
        world_attach(w, step.which);
        break;
    case STEP_UNATTACH:
        unattach(w, step.which);
        break;
    case STEP_RAW:
        world_raw(w, low(step), (enum verb)high(step));
        break;
    case STEP_OBSERVE:
        memset(w->rest.past.observed, 0, sizeof w->rest.past.observed);
        tracker_observe(&w->tracker, step.which);
        break;
    case STEP_CLOSE:
        close_monitor(w);
        break;
    default:
        break;
    }
}

static void others_act(struct world *w, struct step step)
{
    struct qemu *q = &w->rest.qemu;
    const struct age *age = w->scenario->age;

    switch ((enum step_kind)step.kind) {
    case STEP_OTHERS_START:
        qemu_starts_others(q, age, step.which, others_job(w), true);
        break;
    case STEP_OTHERS_VERB:
        qemu_takes_others(q, age, low(step), (enum verb)high(step), true);
        break;
    case STEP_FAIL:
        qemu_fails(q, age, step.which, true);
        break;
    case STEP_BALK:
        qemu_execute(q, age, !w->scenario->plain, true);
        break;
    case STEP_CUT:
        cut(w);
        break;
    case STEP_NO_MEMORY:
        w->rest.no_memory = true;
        break;
    case STEP_LIST_FAILS:
    case STEP_LIST_IS_CUT:
        spoil_list(w, step);
        break;
    default:
        break;
    }
}

static void act(struct world *w, struct step step)
{
    if (step.kind <= STEP_CLOSE)
        callers_act(w, step);
    else
        others_act(w, step);
}

static void happen(struct world *w, struct step step)
{
    struct qemu *q = &w->rest.qemu;
    const struct age *age = w->scenario->age;

    switch ((enum step_kind)step.kind) {
    case STEP_HEAR:
        world_hear(w);
        break;
    case STEP_EXECUTE:
        qemu_execute(q, age, !w->scenario->plain, false);
        break;
    case STEP_WRITE:
        qemu_write(q);
        break;
    case STEP_GO_ON:
        qemu_goes_on(q, age, step.which, true);
        break;
    case STEP_TICK:
        w->slots[step.which].timer = false;
        run_tick(&w->runs[step.which]);
        break;
    case STEP_BACK:
        come_back(w, step.which);
        break;
    case STEP_SEEK:
        tracker_seek(&w->tracker);
        break;
    case STEP_OWN_START:
        w->rest.started_again = true;
        qemu_starts_others(q, age, 0, others_job(w), true);
        break;
    default:
        break;
    }
}

void world_do(struct world *w, struct step step)
{
    if (world_is_by_itself(step)) {
        happen(w, step);
    } else {
        w->rest.acts--;
        act(w, step);
    }
    if (w->rest.settled && w->tracker.link == LINK_CLOSING) {
        world_lose_orders(w, false);
        world_finish(w, BJ_E_CLOSED);
    }
    w->rest.settled = false;
    world_tidy(w);
    check_step(w);
}

static void settle(struct world *w)
{
    struct qemu *q = &w->rest.qemu;

    while (q->lines > 0 || qemu_can_write(q) || qemu_can_execute(q)) {
        if (q->lines > 0)
            world_hear(w);
        else if (qemu_can_write(q))
            qemu_write(q);
        else
            qemu_execute(q, w->scenario->age, !w->scenario->plain, false);
    }
    world_tidy(w);
}

static void miss(struct world *w)
{
    struct qemu *q = &w->rest.qemu;
    while (q->lines > 0)
        qemu_pop_line(q);
}

static void set_up(struct world *w)
{
    for (const struct step *next = w->scenario->setup; next->kind != STEP_NONE; next++) {
        struct step step = *next;
        if (step.kind == STEP_SETTLE)
            settle(w);
        else if (step.kind == STEP_MISS)
            miss(w);
        else if (world_is_by_itself(step))
            happen(w, step);
        else
            act(w, step);
    }
    check_step(w);
}

void world_begin(struct world *w, const struct scenario *scenario, int acts)
{
    memset(w, 0, sizeof *w);
    w->scenario = scenario;
    w->rest.qemu.connected = true;
    w->rest.acts = (uint8_t)acts;
    tracker_init(&w->tracker, &world_port, scenario->limit ? (size_t)scenario->limit : 100);
    tracker_up(&w->tracker, scenario->age->statuses, FIRST_TIME);
    set_up(w);
}

/* -------------------------------------------------------------------- telling */

static const char *line_text(const struct world *w, char *text, size_t size)
{
    static const char *const orders[] = {"",         "start",        "raw",           "",
                                         "the list", "the snapshot", "the comparison"};
    static const char *const verdicts[] = {"refused", "refused: no such job", "accepted"};
    static const char *const events[] = {"",         "", "READY", "COMPLETED", "COMPLETED{error}",
                                         "CANCELLED"};
    const struct line *line = &w->rest.qemu.wire[0];
    const struct command *command = &line->command;
    const char *id = ids[command->id];
    const struct listed *listed = w->rest.qemu.listed;

    if (line->kind == LINE_STATUS)
        snprintf(text, size, "we hear ~%s of %s%d", job_status_name((enum status)command->verb), id,
                 line->run);
    else if (line->kind != LINE_REPLY)
        snprintf(text, size, "we hear %s of %s%d", events[line->kind], id, line->run);
    else if (command->order == ORDER_LIST)
        snprintf(text, size, "we hear the list: %s %s, %s%s",
                 listed[0].run ? job_status_name((enum status)listed[0].status) : "no", ids[0],
                 listed[1].run ? ids[1] : "", line->result == LIST_WHOLE ? "" : " (spoilt)");
    else if (command->order >= ORDER_SNAPSHOT)
        snprintf(text, size, "we hear %s of %s%d: %d", orders[command->order], id, line->run,
                 line->result);
    else
        snprintf(text, size, "we hear %s %s %s%d %s", orders[command->order],
                 command->order == ORDER_START ? "of" : order_words[command->verb], id, line->run,
                 verdicts[line->result]);
    return text;
}

static const char *order_text(const struct world *w, char *text, size_t size)
{
    static const char *const orders[] = {
        "",           "the start of", "the raw",       "query-block-jobs",
        "query-jobs", "the snapshot", "the comparison"};
    const struct command *command = &w->rest.qemu.commands[0];
    bool verb = command->order == ORDER_VERB || command->order == ORDER_RAW;
    bool list = command->order == ORDER_BLOCK_JOBS || command->order == ORDER_LIST;

    snprintf(text, size, "QEMU carries out %s %s %s", orders[command->order],
             verb ? order_words[command->verb] : "", list ? "" : ids[command->id]);
    return text;
}

static const char *const words[] = {
    [STEP_WRITE] = "QEMU writes its reply",
    [STEP_GO_ON] = "the job goes on:",
    [STEP_TICK] = "the timer fires: run",
    [STEP_BACK] =
        "the connection is made again, 1 to another QEMU, 2 when the end of the one before was known:",
    [STEP_SEEK] = "the clock asks for all jobs",
    [STEP_OWN_START] = "another client starts a job:",
    [STEP_LEAVE] = "nobody waits any more: waiter",
    [STEP_START] = "we start",
    [STEP_ATTACH] = "we attach to",
    [STEP_UNATTACH] = "we no longer attach: number",
    [STEP_OBSERVE] = "we observe all jobs, 0 no more:",
    [STEP_CLOSE] = "we close the monitor",
    [STEP_OTHERS_START] = "another client starts a job:",
    [STEP_FAIL] = "the job fails:",
    [STEP_BALK] = "QEMU gives the start up once the job is created",
    [STEP_CUT] = "the connection ends",
    [STEP_NO_MEMORY] = "memory is short",
    [STEP_LIST_FAILS] = "QEMU fails to list its jobs",
    [STEP_LIST_IS_CUT] = "the list is cut, without",
};

const char *world_step_text(const struct world *w, struct step step, char *text, size_t size)
{
    bool numbered = step.kind == STEP_TICK || step.kind == STEP_BACK || step.kind == STEP_LEAVE ||
                    step.kind == STEP_UNATTACH;
    bool bare = step.kind == STEP_WRITE || step.kind == STEP_CLOSE || step.kind == STEP_CUT ||
                step.kind == STEP_BALK || step.kind == STEP_NO_MEMORY ||
                step.kind == STEP_LIST_FAILS;

    if (step.kind == STEP_HEAR)
        return line_text(w, text, size);
    if (step.kind == STEP_EXECUTE)
        return order_text(w, text, size);
    if (step.kind == STEP_ASK)
        snprintf(text, size, "we ask run %d, %s%d: %s", low(step), ids[w->slots[low(step)].id],
                 w->slots[low(step)].run, questions[high(step)].words);
    else if (step.kind == STEP_RAW || step.kind == STEP_OTHERS_VERB)
        snprintf(text, size, "%s %s %s",
                 step.kind == STEP_RAW ? "we send, raw," : "another client's",
                 order_words[high(step)], ids[low(step)]);
    else if (bare)
        snprintf(text, size, "%s", words[step.kind]);
    else if (numbered)
        snprintf(text, size, "%s %d", words[step.kind], step.which);
    else
        snprintf(text, size, "%s %s", words[step.kind], ids[step.which]);
    return text;
}
