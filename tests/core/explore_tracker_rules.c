/* SPDX-License-Identifier: MIT */
/*
 * The rules of the tracker's world; see docs/explorer.md. What is true is what its QEMU knows.
 */
#include "explore_tracker_world.h"

#include <string.h>

void must(struct world *w, bool holds, const char *rule)
{
    if (!holds && !w->broken)
        w->broken = rule;
}

uint32_t world_fate(const struct world *w, int slot)
{
    const struct slot *s = &w->slots[slot];
    return s->run > 0 ? w->rest.qemu.fates[s->id][s->run - 1] : 0;
}

static uint32_t fate_of(const struct world *w, int id, int run)
{
    return run > 0 ? w->rest.qemu.fates[id][run - 1] : 0;
}

/* ------------------------------------------------- which run it is about */

static bool is_mistaken(const struct world *w, int id, int run);

/* Not called for a run that the explorer does not know yet. */
void check_announced(struct world *w, int number)
{
    const struct slot *slot = &w->slots[number];
    uint8_t bit = (uint8_t)(1 << slot->run);

    if (!slot->announced || slot->run == 0)
        return;
    const struct past *past = &w->rest.past;
    bool excused = past->list_failed || past->list_cut || is_mistaken(w, slot->id, slot->run);
    must(w, excused || !(past->announced[slot->id] & bit), "no run is announced twice");
    w->rest.past.announced[slot->id] |= bit;
}

/* Where the beginning of the next run went unheard, nothing tells it from the one before. */
static void check_identity(struct world *w, int number, const char *newer, const char *older)
{
    struct slot *slot = &w->slots[number];

    if (slot->run == 0) {
        slot->run = (uint8_t)w->now_run;
        check_announced(w, number);
    }
    if (slot->run == w->now_run)
        return;
    must(w, !(world_fate(w, number) & ELSEWHERE), "a job of another QEMU is another job");
    must(w, slot->run > w->now_run || fate_of(w, slot->id, w->now_run) & BEGAN_UNHEARD, newer);
    must(w, slot->run < w->now_run, older);
    slot->is_mistaken = true;
    slot->run = (uint8_t)w->now_run;
}

void check_event(struct world *w, int slot)
{
    check_identity(w, slot, "an event is of the run it is about, not of the one before",
                   "an event is of the run it is about, not of the next one");
}

void check_row(struct world *w, int slot)
{
    check_identity(w, slot, "a row is of the run it is about, not of the one before",
                   "a row is of the run it is about, not of the next one");
}

/* ------------------------------------------------------------------- sending */

static void check_dismissal(struct world *w, int number)
{
    const struct slot *slot = &w->slots[number];
    bool accepted = w->rest.past.accepted[slot->id] >> slot->run & 1;

    must(w, world_fate(w, number) & OURS || slot->is_guess || slot->is_mistaken,
         "jobs of others are never dismissed");
    must(w, accepted || slot->is_guess || slot->is_mistaken,
         "nothing is dismissed before its start was accepted");
}

void check_sending(struct world *w, int number, enum verb verb, const struct waiter *waiter)
{
    const struct slot *slot = &w->slots[number];

    must(w, slot->run == 0 || slot->run >= w->rest.past.heard[slot->id],
         "no verb is sent for a run whose id is known to be another's");
    must(w, w->tracker.link != LINK_CLOSING || verb == VERB_DISMISS,
         "nothing but dismissals once it is closed");
    if (verb == VERB_DISMISS && !waiter)
        check_dismissal(w, number);
}

/* ------------------------------------------------------------------- outcomes */

/* Whether the disk was switched could not be found out, or nobody wants to know. */
static bool is_untold(const struct world *w, int number)
{
    const struct slot *slot = &w->slots[number];
    bool over = w->rest.past.was_closed || w->rest.past.is_over;
    return !slot->has_handle || over || slot->saw_void || slot->is_mistaken ||
           world_fate(w, number) & CUT_AT_END;
}

/* Only a list could tell, and that was not to be had. */
static bool lacks_list(const struct world *w, uint32_t fate)
{
    const struct past *past = &w->rest.past;
    bool asked = past->was_away || past->refused || fate & ENDED;
    return (past->list_failed || past->list_cut) && asked;
}

/* Its end was never told to anyone, or nobody could be asked. */
static bool may_be_lost(const struct world *w, int number)
{
    const struct past *past = &w->rest.past;
    uint32_t fate = world_fate(w, number);
    bool unheard = fate & (ENDED_UNHEARD | LEFT_UNHEARD | CUT_AT_END);

    return past->was_closed || past->is_over || past->memory_failed || lacks_list(w, fate) ||
           fate & (ELSEWHERE | UNBORN) || (fate & ENDED && unheard);
}

static bool is_true(const struct world *w, int number, bj_outcome outcome)
{
    uint32_t fate = world_fate(w, number);
    bool mirror = fate & MIRROR;

    switch (outcome) {
    case BJ_OUTCOME_PIVOTED:
        return fate & COMPLETED && fate & DISK_SWITCHED;
    case BJ_OUTCOME_COPIED:
        return fate & COMPLETED && mirror && (!(fate & DISK_SWITCHED) || fate & OUR_ABORT);
    case BJ_OUTCOME_COMPLETED:
        return fate & COMPLETED && (!mirror || is_untold(w, number));
    case BJ_OUTCOME_CANCELLED:
        return fate & CANCELLED;
    case BJ_OUTCOME_FAILED:
        return fate & FAILED;
    case BJ_OUTCOME_LOST:
        return may_be_lost(w, number);
    default:
        return false;
    }
}

static const char *lie(const struct world *w, int number, bj_outcome outcome)
{
    const struct slot *slot = &w->slots[number];
    bool has = qemu_has(&w->rest.qemu, slot->id, slot->run);

    switch (outcome) {
    case BJ_OUTCOME_PIVOTED:
        return "PIVOTED is not what happened";
    case BJ_OUTCOME_COPIED:
        return "COPIED is not what happened";
    case BJ_OUTCOME_COMPLETED:
        return world_fate(w, number) & COMPLETED ? "unknown, and the graph could be asked"
                                                 : "COMPLETED is not what happened";
    case BJ_OUTCOME_CANCELLED:
        return "CANCELLED is not what happened";
    case BJ_OUTCOME_FAILED:
        return "FAILED is not what happened";
    default:
        return has ? "LOST is said of a job that QEMU has" : "LOST, and it could be known";
    }
}

void check_outcome(struct world *w, int number)
{
    struct slot *slot = &w->slots[number];
    bj_outcome outcome = w->runs[number].machine.outcome;
    bool told = outcome != BJ_OUTCOME_NONE && slot->outcome == BJ_OUTCOME_NONE;

    if (slot->run == 0)
        return;
    must(w, slot->outcome == BJ_OUTCOME_NONE || slot->outcome == outcome, "the outcome is latched");
    if (told && !slot->is_mistaken && !is_true(w, number, outcome))
        must(w, false, lie(w, number, outcome));
    slot->outcome = (uint8_t)outcome;
}

static void check_outcomes(struct world *w)
{
    for (int i = 0; i < SLOTS; i++)
        if (w->slots[i].refs > 0)
            check_outcome(w, i);
}

/* -------------------------------------------------------------------- answers */

/* Whoever waits for the nodes of a mirror that somebody else is to dismiss has them when it has
 * concluded. */
static bool is_free(const struct world *w, int number)
{
    const struct machine *machine = &w->runs[number].machine;
    return !w->scenario->plain && !machine_traits(machine)->ours &&
           machine->status == STATUS_CONCLUDED;
}

static bool is_ok_true(const struct world *w, int number, const struct waiter *asked)
{
    uint32_t fate = world_fate(w, number);
    bool well = fate & (COMPLETED | CANCELLED);
    bool has = qemu_has(&w->rest.qemu, w->slots[number].id, w->slots[number].run);

    switch (asked->question) {
    case ASK_READY:
        return fate & WAS_READY;
    case ASK_DONE:
        return well;
    case ASK_RELEASED:
        return well && (!has || is_free(w, number) || lacks_list(w, fate));
    case ASK_PIVOT:
        return fate & COMPLETED && fate & DISK_SWITCHED;
    case ASK_ABORT:
        return fate & ENDED;
    case ASK_FINISH:
        return fate & COMPLETED &&
               (!machine_traits(&w->runs[number].machine)->switches || fate & DISK_SWITCHED);
    case ASK_VERB:
        return asked->verb == VERB_DISMISS ? fate & ENDED : w->now_run == w->slots[number].run;
    }
    return false;
}

static bool is_error_true(const struct world *w, int number, const struct waiter *asked, int error)
{
    uint32_t fate = world_fate(w, number);
    const struct past *past = &w->rest.past;

    switch (error) {
    case BJ_E_JOB_FAILED:
        return fate & FAILED;
    case BJ_E_JOB_LOST:
        return w->runs[number].machine.outcome == BJ_OUTCOME_LOST || past->is_over ||
               (asked->question == ASK_RELEASED && past->was_away);
    case BJ_E_CLOSED:
        return past->was_closed || past->is_over;
    case BJ_E_DISCONNECTED:
        return past->was_away || past->is_over || w->is_hanging_up ||
               (past->was_closed && asked->question == ASK_VERB);
    case BJ_E_JOB_ENDED:
        return fate & ENDED;
    case BJ_E_STALLED: /* or it waits for somebody else's dismissal */
        return fate & STOOD ||
               (asked->question == ASK_RELEASED && !machine_traits(&w->runs[number].machine)->ours);
    case BJ_E_REFUSED:
        return past->refused;
    case BJ_E_STATE:
        return asked->question != ASK_DONE && asked->question != ASK_RELEASED;
    default:
        return false;
    }
}

void check_answer(struct world *w, int slot, const struct waiter *asked,
                  const struct answer *answer)
{
    if (w->slots[slot].is_mistaken || w->slots[slot].run == 0)
        return;
    if (answer->error == BJ_OK)
        must(w, is_ok_true(w, slot, asked), "a success is told that was none");
    else
        must(w, is_error_true(w, slot, asked, answer->error), "an error is told that was none");
}

/* ---------------------------------------------------------------- attachments */

static void check_attached_run(struct world *w, int number)
{
    const struct attachment *a = &w->attachments[number];
    const struct slot *slot = &w->slots[slot_of(w, a->run)];

    must(w, strcmp(a->id, ids[slot->id]) == 0, "who attaches gets a run of that id");
    must(w, !a->run->is_superseded || !w->is_listing, "who attaches gets the last run of the id");
    must(w, slot->run == 0 || slot->is_mistaken || slot->run >= w->rest.attached_least[number],
         "who attaches gets no run of before");
}

static void check_no_job(struct world *w, int number)
{
    const struct past *past = &w->rest.past;
    int id = id_of(w->attachments[number].id);
    int before = w->rest.attached_before[number];
    bool excused = past->memory_failed || lacks_list(w, fate_of(w, id, before));

    must(w, !qemu_has(&w->rest.qemu, id, before) || excused,
         "NO_JOB is said of a job that QEMU has");
}

void check_attached(struct world *w, int number, int error)
{
    const struct past *past = &w->rest.past;
    bool true_error = false;

    if (error == BJ_OK) {
        must(w, w->attachments[number].run != NULL, "who attaches gets a run");
        if (w->attachments[number].run)
            check_attached_run(w, number);
        return;
    }
    if (error == BJ_E_NO_JOB) {
        check_no_job(w, number);
        true_error = true;
    }
    true_error |=
        error == BJ_E_DISCONNECTED && (past->was_away || past->is_over || w->is_hanging_up);
    true_error |= error == BJ_E_JOB_LOST && past->is_over;
    true_error |= error == BJ_E_CLOSED && (past->was_closed || past->is_over);
    true_error |= error == BJ_E_BUSY && (past->memory_failed || past->list_cut);
    true_error |= error == BJ_E_NOMEM && past->memory_failed;
    true_error |= error == BJ_E_REFUSED && past->list_failed;
    must(w, true_error, "who attaches is told an error that was none");
}

/* -------------------------------------------------------------------- replies */

void check_started(struct world *w, const struct run *run, const struct line *line)
{
    if (line->result != VERDICT_ACCEPTED)
        return;
    must(w, run != NULL, "a start that is accepted has a run");
    if (!run)
        return;
    const struct slot *slot = &w->slots[slot_of(w, run)];
    must(w, slot->run == line->run && slot->id == line->command.id,
         "a start has the run that it created");
}

/* What is sent once for all counts for the run that it has reached, and for no other. */
void check_reply(struct world *w, int slot, const struct line *line)
{
    const struct machine *machine = &w->runs[slot].machine;
    enum verb verb = (enum verb)line->command.verb;
    bool shared = line->command.for_all && verb <= VERB_FORCE;

    if (w->slots[slot].refs == 0 || !shared || line->result != VERDICT_ACCEPTED)
        return;
    bool counts = machine->sent[verb].state == ACCEPTED;
    if (w->slots[slot].run == line->run)
        must(w, counts || machine_is(machine, IS_RELEASED), "a reply counts for the run it is of");
    else
        must(w, !counts || machine_is_over(machine) || w->slots[slot].is_mistaken,
             "a reply counts for no other run");
}

void check_raw_reply(struct world *w, const struct line *line)
{
    enum verb verb = (enum verb)line->command.verb;

    if (line->result != VERDICT_ACCEPTED || verb > VERB_FORCE)
        return;
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *slot = &w->slots[i];
        const struct machine *machine = &w->runs[i].machine;
        bool of_it = slot->refs > 0 && slot->id == line->command.id && slot->run == line->run;
        if (!of_it || !w->runs[i].has_id || slot->is_mistaken)
            continue;
        must(w, machine->sent[verb].state == ACCEPTED || machine_is_over(machine),
             "a raw verb counts for the run that it has reached");
    }
}

/* ----------------------------------------------------------------- after each */

void check_step(struct world *w)
{
    const struct qemu *q = &w->rest.qemu;
    must(w, !q->overflow, "(the explorer's wire is too short)");
    must(w, !w->tracker.dirty, "the after-work is done");
    check_outcomes(w);
}

/* -------------------------------------------------------------------- at rest */

static bool may_wait(const struct world *w, const struct seat *seat)
{
    const struct slot *slot = &w->slots[seat->slot];
    const struct real_job *job = &w->rest.qemu.jobs[slot->id];
    bool has = qemu_has(&w->rest.qemu, slot->id, slot->run);
    bool goes_on = has && !(world_fate(w, seat->slot) & ENDED);

    switch (seat->waiter.question) {
    case ASK_READY:
        return goes_on && !job->ready;
    case ASK_DONE:
        return goes_on;
    case ASK_RELEASED:
        return has;
    case ASK_PIVOT:
    case ASK_FINISH:
    case ASK_ABORT: /* before 3.0 only rows tell, which are asked for by the clock */
        return goes_on && job->paused && !w->scenario->age->statuses;
    default:
        return false;
    }
}

static const char *hanging(const struct waiter *waiter)
{
    static const char *const rules[] = {
        [ASK_READY] = "nobody hangs: ready",       [ASK_DONE] = "nobody hangs: done",
        [ASK_RELEASED] = "nobody hangs: released", [ASK_PIVOT] = "nobody hangs: pivot",
        [ASK_ABORT] = "nobody hangs: abort",       [ASK_FINISH] = "nobody hangs: finish",
        [ASK_VERB] = "nobody hangs: verb",
    };
    return rules[waiter->question];
}

static void judge_run(struct world *w, int number)
{
    const struct slot *slot = &w->slots[number];
    const struct run *run = &w->runs[number];
    bool has = qemu_has(&w->rest.qemu, slot->id, slot->run);

    if (!run->tracked)
        return;
    must(w, has, "no run is tracked that QEMU does not have");
    must(w, run->in_flight == 0, "what is on its way comes back");
    must(w,
         !run->compares && !run->wants_row && !run->row_asked && run->snapshot != SNAPSHOT_WANTED,
         "what is wanted is asked for");
}

/* Unless nobody could tell any more that it is ours. */
static void judge_ours(struct world *w, int id)
{
    const struct qemu *q = &w->rest.qemu;
    const struct past *past = &w->rest.past;
    const struct real_job *job = &q->jobs[id];
    bool known = job->run > 0 && past->accepted[id] >> job->run & 1;
    bool excused = past->list_failed || past->list_cut || past->memory_failed || past->was_closed;

    if (known && !excused && !(fate_of(w, id, job->run) & (ELSEWHERE | CUT_AT_END)))
        must(w, job->status != STATUS_CONCLUDED, "ours are dismissed");
}

/* Its beginning fell into a gap, and its row was taken for the run before. */
static bool is_mistaken(const struct world *w, int id, int run)
{
    return fate_of(w, id, run) & BEGAN_UNHEARD;
}

static bool has_mistaken(const struct world *w)
{
    for (int i = 0; i < SLOTS; i++)
        if (w->slots[i].refs > 0 && w->slots[i].is_mistaken)
            return true;
    return false;
}

/* Every job that QEMU has, and every one whose beginning was read. */
static void judge_announcements(struct world *w, int id)
{
    const struct past *past = &w->rest.past;
    const struct real_job *job = &w->rest.qemu.jobs[id];
    bool excused = past->unfollowed[id] || past->list_cut || past->list_failed;
    uint8_t due = past->observed[id];

    for (int run = 1; run <= RUNS_OF_ID; run++)
        if (fate_of(w, id, run) & ENDED_UNHEARD) /* the next one was taken for it */
            due &= (uint8_t) ~(1 << run);
    if (job->run > 0)
        due |= (uint8_t)(1 << job->run);
    must(w, excused || !(due & ~past->announced[id]), "every job is announced");
}

void world_judge(struct world *w, const struct step *steps, int count)
{
    bool rests = count == 0 || !world_is_by_itself(steps[0]);

    if (w->broken || !rests || w->tracker.link == LINK_OVER)
        return;
    for (int i = 0; i < ATTACHMENTS; i++)
        must(w, !w->attaching[i], "nobody hangs: attach");
    must(w, w->tracker.link != LINK_CLOSING, "nobody hangs: close");
    must(w, !w->tracker.list_is_out && !w->tracker.list_wanted, "each list comes");
    must(w, !w->rest.past.returning, "that it is back is told");
    if (has_mistaken(w))
        return;
    for (int i = 0; i < WAITERS; i++)
        if (w->seats[i].taken && !may_wait(w, &w->seats[i]))
            must(w, false, hanging(&w->seats[i].waiter));
    for (int i = 0; i < SLOTS; i++)
        judge_run(w, i);
    for (int id = 0; id < IDS; id++)
        judge_ours(w, id);
    for (int id = 0; id < IDS && w->tracker.is_observed; id++)
        judge_announcements(w, id);
}

/* ------------------------------------------------------------------ the last */

static void check_nobody_waits(struct world *w, const char *verb, const char *others,
                               const char *attach)
{
    for (int i = 0; i < WAITERS; i++)
        if (w->seats[i].taken)
            must(w, false, w->seats[i].waiter.question == ASK_VERB ? verb : others);
    for (int i = 0; i < ATTACHMENTS; i++)
        must(w, !w->attaching[i], attach);
}

static void check_empty(struct world *w)
{
    must(w, !w->tracker.starts && !w->tracker.raws, "each order comes back");
    must(w, !w->tracker.runs && !w->tracker.by_id && w->tracker.count == 0,
         "no run is tracked in the end");
    for (int i = 0; i < SLOTS; i++)
        must(w, w->slots[i].refs == 0, "each hold has its drop");
    must(w, !w->tracker.dirty, "the after-work is done");
}

/* The monitor is closed here, and then the connection ends. */
static void close_copy(struct world *w)
{
    w->rest.past.was_closed = true;
    tracker_close(&w->tracker, "it was closed");
    check_nobody_waits(w, "nobody hangs when it is closed: verb", "nobody hangs when it is closed",
                       "nobody hangs when it is closed: attach");
    check_outcomes(w);
    world_lose_orders(w, false);
    world_finish(w, BJ_E_CLOSED);
    check_outcomes(w);
    world_tidy(w);
    check_empty(w);
}

static void end_copy(struct world *w)
{
    world_lose_orders(w, false);
    w->rest.past.is_over = true;
    world_finish(w, BJ_E_DISCONNECTED);
    check_nobody_waits(w, "nobody hangs when the connection ends: verb",
                       "nobody hangs when the connection ends",
                       "nobody hangs when the connection ends: attach");
    check_outcomes(w);
    world_tidy(w);
    check_empty(w);
}

void world_cut(struct world *w)
{
    FILE *log = w->log;

    if (w->tracker.link == LINK_OVER) {
        check_nobody_waits(w, "nobody hangs when the connection ends: verb",
                           "nobody hangs when the connection ends",
                           "nobody hangs when the connection ends: attach");
        check_empty(w);
        return;
    }
    const struct frozen *before = world_keep(w);
    end_copy(w);
    if (w->broken || w->tracker.link == LINK_CLOSING)
        return;
    world_clear(w);
    world_thaw(w, before, w->scenario);
    w->log = log;
    world_say(w, "or the monitor", "is closed");
    if (w->tracker.link != LINK_CLOSING)
        close_copy(w);
}
