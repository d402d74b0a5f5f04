/* SPDX-License-Identifier: MIT */
/*
 * The machine's world, one step at a time, and the rules; see explore_world.h.
 */
#include "explore_world.h"
#include "base/text.h"

#include <string.h>

#define STALL_MS 1000

/* Who gets the reply: a seat, counted from 1, or one of these. */
enum { FOR_MACHINE = 0, FOR_NOBODY = 100, FOR_USER, FOR_ATTACH, FOR_RAW };

static const char *const order_words[] = {
    [VERB_COMPLETE] = "complete", [VERB_CANCEL] = "cancel",
    [VERB_FORCE] = "force",       [VERB_PAUSE] = "pause",
    [VERB_RESUME] = "resume",     [VERB_SET_SPEED] = "set-speed",
    [VERB_CHANGE] = "change",     [VERB_FINALIZE] = "finalize",
    [VERB_DISMISS] = "dismiss",   [ORDER_BLOCK_JOBS] = "query-block-jobs",
    [ORDER_JOBS] = "query-jobs",  [ORDER_GRAPH] = "the graph",
};

static void say(struct world *w, const char *what, const char *which)
{
    if (w->log)
        fprintf(w->log, "          %s %s\n", what, which);
}

static void break_rule(struct world *w, const char *rule)
{
    if (!w->broken)
        w->broken = rule;
}

static void must(struct world *w, bool holds, const char *rule)
{
    if (!holds)
        break_rule(w, rule);
}

static const struct age *age_of(const struct world *w)
{
    return w->scenario->setting.age;
}

/* ------------------------------------------------------- the rules: sending */

static bool is_line_of(const struct line *line, int order)
{
    return line->kind == LINE_REPLY && line->a == order && line->c == FOR_MACHINE;
}

/* Sent by the machine for all, and not answered. */
static int flying(const struct world *w, int order)
{
    const struct qemu *q = &w->rest.qemu;
    int count = is_line_of(&q->held, order) + is_line_of(&q->cancel_held, order);

    for (int i = 0; i < q->orders; i++)
        count += q->commands[i].order == order && q->commands[i].asker == FOR_MACHINE;
    for (int i = 0; i < q->lines; i++)
        count += is_line_of(&q->wire[i], order);
    return count;
}

static bool is_abort(int order)
{
    return order == VERB_CANCEL || order == VERB_FORCE;
}

static void check_complete(struct world *w)
{
    const struct past *past = &w->rest.past;
    bool aborting = flying(w, VERB_CANCEL) || flying(w, VERB_FORCE);

    must(w, past->was_ready, "no complete before ready");
    must(w, !flying(w, VERB_COMPLETE), "one complete at a time");
    must(w, w->machine.sent[VERB_COMPLETE].state != ACCEPTED, "no second complete");
    must(w, !aborting && !w->machine.sent[VERB_CANCEL].state && !w->machine.sent[VERB_FORCE].state,
         "no complete beside an abort");
}

static bool is_pivot(const struct waiter *waiter)
{
    return waiter->question == ASK_PIVOT || waiter->question == ASK_FINISH;
}

/* One that is held back, or has left, wants nothing. */
static bool is_wanted(const struct world *w, enum verb verb)
{
    for (const struct waiter *waiter = w->machine.waiters; waiter; waiter = waiter->next) {
        bool force = waiter->flags & BJ_ABORT_FORCE;
        if (verb == VERB_COMPLETE && is_pivot(waiter) && !waiter->held)
            return true;
        if (waiter->question == ASK_ABORT && verb == (force ? VERB_FORCE : VERB_CANCEL))
            return true;
    }
    return false;
}

static void check_send(struct world *w, enum verb verb, const struct waiter *waiter)
{
    const struct machine *job = &w->machine;
    bool over = job->outcome != BJ_OUTCOME_NONE;
    bool kept = job->traits.kept && verb == VERB_DISMISS && waiter;

    must(w, w->rest.qemu.connected && !machine_is(job, IS_AWAY),
         "nothing is sent while nobody hears");
    must(w, !machine_is(job, IS_RELEASED) || kept, "nothing is sent once it is released");
    must(w, !over || verb == VERB_DISMISS, "nothing but dismiss after the end");
    if (verb == VERB_COMPLETE)
        check_complete(w);
    if (verb == VERB_COMPLETE || is_abort((int)verb)) {
        must(w, is_wanted(w, verb), "nothing is sent that nobody wants");
        must(w, job->end == END_NONE, "no complete and no cancel after the end");
        must(w, !flying(w, (int)verb), "no verb is sent twice");
    }
    if (verb == VERB_CANCEL)
        must(w, !flying(w, VERB_COMPLETE), "no cancel beside a complete that may be accepted");
    if (verb == VERB_DISMISS && !waiter) {
        must(w, job->traits.ours, "jobs of others are never dismissed");
        must(w, over, "no dismissal before the outcome");
        must(w, !flying(w, VERB_DISMISS) && !w->rest.past.dismissed, "one dismissal");
    }
}

/* ----------------------------------------------------- the rules: the truth */

/* A cut only excuses that when the end was reported before it, or to nobody. */
static bool is_switch_unknown(const struct world *w)
{
    return w->rest.past.untold || w->rest.past.neither || w->rest.qemu.end_unsaid;
}

/* Its end and the next run's start went unheard: nothing in the list tells the two apart. */
static bool is_mistaken(const struct world *w)
{
    const struct qemu *q = &w->rest.qemu;
    return q->run > 0 && q->end_unsaid && w->rest.past.was_away;
}

/* Our cancel was accepted after another client's complete, and nobody could look at the graph, or
 * nobody used the disk. */
static bool is_two_clients(const struct world *w)
{
    const struct past *past = &w->rest.past;
    return past->aborts && past->others && !past->neither && is_switch_unknown(w);
}

/* The text says so. */
static bool is_told_unknown(const struct world *w)
{
    return is_switch_unknown(w) && !w->rest.past.heard_complete && machine_text(&w->machine);
}

static bool is_true(const struct world *w, bj_outcome outcome)
{
    const struct qemu *q = &w->rest.qemu;
    const struct past *past = &w->rest.past;
    bool plain = !run_switches(w->scenario->setting.kind);

    if (is_mistaken(w))
        return outcome != BJ_OUTCOME_PIVOTED && outcome != BJ_OUTCOME_COPIED;
    switch (outcome) {
    case BJ_OUTCOME_PIVOTED:
        return q->completed && q->switched;
    case BJ_OUTCOME_COPIED:
        return q->completed && !plain && (!q->switched || is_two_clients(w));
    case BJ_OUTCOME_COMPLETED:
        return q->completed && (plain || is_told_unknown(w));
    case BJ_OUTCOME_CANCELLED:
        return q->cancelled;
    case BJ_OUTCOME_FAILED:
        return q->failed;
    case BJ_OUTCOME_LOST:
        return w->rest.lost || (past->was_away && q->end_unsaid);
    default:
        return false;
    }
}

/* A job that never ran has no event, and nobody can ask for one that QEMU has dismissed. */
static bool is_without_reason(const struct world *w, bj_outcome outcome)
{
    const struct setting *setting = &w->scenario->setting;
    bool silent = setting->mute || w->scenario->begins == STATUS_CREATED;
    bool gone = (!setting->ours && !setting->dismiss) || w->rest.past.others;

    return silent && gone && outcome == BJ_OUTCOME_FAILED && w->rest.qemu.cancelled;
}

static const char *lie(bj_outcome outcome)
{
    static const char *const lies[] = {
        [BJ_OUTCOME_NONE] = "ended, and no outcome",
        [BJ_OUTCOME_COMPLETED] = "COMPLETED is not what happened",
        [BJ_OUTCOME_PIVOTED] = "PIVOTED is not what happened",
        [BJ_OUTCOME_COPIED] = "COPIED is not what happened",
        [BJ_OUTCOME_CANCELLED] = "CANCELLED is not what happened",
        [BJ_OUTCOME_FAILED] = "FAILED is not what happened",
        [BJ_OUTCOME_LOST] = "LOST, and it could be known",
    };
    return lies[outcome];
}

static void check_outcome(struct world *w)
{
    bj_outcome outcome = w->machine.outcome;
    if (!is_true(w, outcome) && !is_without_reason(w, outcome))
        break_rule(w, lie(outcome));
}

/* ----------------------------------------------------- the rules: answers */

static bool is_over_well(const struct world *w)
{
    bj_outcome outcome = w->machine.outcome;
    return outcome != BJ_OUTCOME_NONE && outcome != BJ_OUTCOME_FAILED && outcome != BJ_OUTCOME_LOST;
}

/* Concluded, a mirror and an active commit have given them back. */
static bool are_nodes_free(const struct world *w)
{
    const struct qemu *q = &w->rest.qemu;
    return machine_is(&w->machine, IS_RELEASED) || ((q->run > 0 || q->status >= STATUS_CONCLUDED) &&
                                                    w->scenario->setting.kind != RUN_PLAIN);
}

static bool is_for_release(const struct waiter *waiter)
{
    return (waiter->flags & released_flag(waiter->question)) != 0;
}

/* A COMPLETED that a job of another kind has is no success. */
static bool is_finished(const struct world *w)
{
    bj_outcome outcome = w->machine.outcome;
    return outcome == BJ_OUTCOME_PIVOTED ||
           (outcome == BJ_OUTCOME_COMPLETED && !run_switches(w->scenario->setting.kind));
}

static bool is_ok_true(const struct world *w, const struct waiter *waiter)
{
    const struct past *past = &w->rest.past;
    bj_outcome outcome = w->machine.outcome;
    bool over = outcome != BJ_OUTCOME_NONE && outcome != BJ_OUTCOME_LOST;

    if (is_for_release(waiter) && !are_nodes_free(w))
        return false;
    switch (waiter->question) {
    case ASK_READY:
        return (past->was_ready && machine_is(&w->machine, IS_READY)) ||
               outcome == BJ_OUTCOME_PIVOTED;
    case ASK_DONE:
        return is_over_well(w);
    case ASK_RELEASED:
        return is_over_well(w);
    case ASK_PIVOT:
        return outcome == BJ_OUTCOME_PIVOTED || (waiter->flags & BJ_PIVOT_ASYNC && past->completes);
    case ASK_FINISH:
        return is_finished(w);
    case ASK_ABORT:
        return over || (waiter->flags & BJ_ABORT_ASYNC && past->aborts);
    case ASK_VERB:
        return waiter->verb != VERB_FINALIZE || over;
    }
    return false;
}

/* Each verb that is sent for all has a bit; so has any that a caller has sent for itself. */
enum { A_VERB = 1 << SHARED_VERBS };

static unsigned refusable(const struct waiter *waiter)
{
    if (is_pivot(waiter))
        return 1 << VERB_COMPLETE;
    if (waiter->question == ASK_ABORT)
        return waiter->flags & BJ_ABORT_FORCE ? 1 << VERB_FORCE : 1 << VERB_CANCEL;
    return waiter->question == ASK_VERB ? A_VERB : 0;
}

/* What only wants to be accepted waits for that. */
static bool may_be_accepted(const struct world *w, const struct waiter *waiter)
{
    if (!(waiter->flags & async_flag(waiter->question)))
        return false;
    return waiter->question == ASK_PIVOT ? flying(w, VERB_COMPLETE)
                                         : flying(w, VERB_CANCEL) || flying(w, VERB_FORCE);
}

/* It has ended, and only somebody else's dismissal takes it away. */
static bool is_kept(const struct world *w)
{
    return w->rest.qemu.status >= STATUS_CONCLUDED && !w->scenario->setting.ours;
}

/* Whatever verb was accepted ends the job, which shows soon, instead of a refusal. */
static bool awaits_end(const struct world *w, const struct waiter *waiter)
{
    const struct qemu *q = &w->rest.qemu;
    bool ending = q->completing || q->copying || q->cancelling || q->status > STATUS_STANDBY;
    return is_pivot(waiter) && ending && q->run == 0 && !w->rest.past.denied && !age_of(w)->harm;
}

static bool is_error_true(const struct world *w, const struct waiter *waiter, int error)
{
    const struct past *past = &w->rest.past;
    bj_outcome outcome = w->machine.outcome;

    switch (error) {
    case BJ_E_JOB_FAILED:
        return outcome == BJ_OUTCOME_FAILED && waiter->question != ASK_ABORT;
    case BJ_E_JOB_LOST:
    case BJ_E_CLOSED:
        return outcome == BJ_OUTCOME_LOST || w->rest.lost || past->next_known;
    case BJ_E_JOB_ENDED:
        return (waiter->question == ASK_PIVOT && outcome != BJ_OUTCOME_PIVOTED &&
                outcome != BJ_OUTCOME_NONE) ||
               (waiter->question == ASK_FINISH && outcome != BJ_OUTCOME_NONE &&
                (!is_finished(w) || is_told_unknown(w))) ||
               (waiter->question == ASK_READY && outcome != BJ_OUTCOME_NONE &&
                !machine_is(&w->machine, IS_READY));
    case BJ_E_STALLED:
        return is_for_release(waiter) && outcome != BJ_OUTCOME_NONE
                   ? is_kept(w) && (is_finished(w) || !is_pivot(waiter))
                   : (past->stood || is_mistaken(w)) && outcome == BJ_OUTCOME_NONE &&
                         !may_be_accepted(w, waiter);
    case BJ_E_REFUSED:
        return past->refused & refusable(waiter) && (!awaits_end(w, waiter) || past->ticked);
    case BJ_E_NOT_READY:
        return waiter->question == ASK_PIVOT && waiter->flags & BJ_PIVOT_ONLY_IF_READY &&
               !machine_is(&w->machine, IS_READY);
    case BJ_E_STATE:
        return waiter->question != ASK_DONE && waiter->question != ASK_RELEASED;
    case BJ_E_DISCONNECTED:
        return past->was_away || w->rest.lost;
    default:
        return false;
    }
}

/* ---------------------------------------------------------- the rules: news */

static void check_news(struct world *w, enum report news)
{
    struct past *past = &w->rest.past;

    must(w, !past->told_released, "RELEASED is the last news");
    must(w, !past->told_ended || news == REPORT_RELEASED || news == REPORT_STATUS,
         "nothing but RELEASED and statuses after ENDED");
    switch (news) {
    case REPORT_READY:
        must(w, !past->told_ready, "READY is told once");
        must(w, past->was_ready, "READY is told of what was ready");
        past->told_ready = true;
        break;
    case REPORT_STALLED:
        must(w, past->stood || is_mistaken(w), "STALLED is told of what stands still");
        past->told_stalled = true;
        break;
    case REPORT_RESUMED:
        must(w, past->told_stalled, "RESUMED is told of what was STALLED");
        past->told_stalled = false;
        break;
    case REPORT_ENDED:
        must(w, w->machine.outcome != BJ_OUTCOME_NONE, "ENDED is told with an outcome");
        past->told_ended = true;
        break;
    case REPORT_RELEASED:
        must(w, past->told_ended, "RELEASED is told after ENDED");
        past->told_released = true;
        break;
    case REPORT_STATUS:
        break;
    }
}

/* --------------------------------------------------------------------- port */

static struct world *world_of(struct machine *job)
{
    return (struct world *)job;
}

static int seat_number(const struct world *w, const struct waiter *waiter)
{
    return waiter ? (int)((const struct seat *)waiter - w->seats) + 1 : FOR_MACHINE;
}

static void port_send(struct machine *job, enum verb verb, struct waiter *waiter)
{
    struct world *w = world_of(job);

    say(w, "sends", order_words[verb]);
    check_send(w, verb, waiter);
    qemu_push_command(&w->rest.qemu, (int)verb, seat_number(w, waiter));
}

static void push_query(struct world *w, int asker)
{
    if (age_of(w)->statuses)
        qemu_push_command(&w->rest.qemu, ORDER_BLOCK_JOBS, asker);
    qemu_push_command(&w->rest.qemu, ORDER_JOBS, asker);
}

static void port_list_jobs(struct machine *job)
{
    struct world *w = world_of(job);

    say(w, "asks for", "the jobs");
    must(w, w->rest.qemu.connected, "nothing is asked while nobody hears");
    if (w->rest.query_out)
        w->rest.query_again = true;
    else
        push_query(w, FOR_MACHINE);
    w->rest.query_out = true;
}

static void port_compare_graph(struct machine *job)
{
    struct world *w = world_of(job);

    say(w, "asks for", order_words[ORDER_GRAPH]);
    must(w, w->rest.qemu.connected, "nothing is asked while nobody hears");
    qemu_push_command(&w->rest.qemu, ORDER_GRAPH, FOR_MACHINE);
}

static void port_set_timer(struct machine *job, int64_t ms)
{
    world_of(job)->rest.timer = ms > 0;
}

/* A reply to come finds nobody any more. */
static void stand_up(struct world *w, const struct waiter *waiter)
{
    struct qemu *q = &w->rest.qemu;
    int number = seat_number(w, waiter);

    w->seats[number - 1] = (struct seat){.taken = false};
    for (int i = 0; i < q->orders; i++)
        if (q->commands[i].asker == number)
            q->commands[i].asker = FOR_NOBODY;
    for (int i = 0; i < q->lines; i++)
        if (q->wire[i].kind == LINE_REPLY && q->wire[i].c == number)
            q->wire[i].c = FOR_NOBODY;
    if (q->held.kind == LINE_REPLY && q->held.c == number)
        q->held.c = FOR_NOBODY;
}

static const char *const questions[] = {"ready", "done",   "released", "pivot",
                                        "abort", "finish", "verb"};

static void port_answer(struct machine *job, struct waiter *waiter, const struct answer *answer)
{
    struct world *w = world_of(job);
    struct waiter asked = *waiter;

    if (w->log)
        fprintf(w->log, "          answers %s: %s\n", questions[asked.question],
                bj_error_name(answer->error));
    must(w, w->seats[seat_number(w, waiter) - 1].taken, "each is answered once");
    for (const struct waiter *other = job->waiters; other; other = other->next)
        must(w, other != waiter, "nobody is in the list when it is answered");
    if (answer->error == BJ_OK)
        must(w, is_ok_true(w, &asked), "a success is told that was none");
    else
        must(w, is_error_true(w, &asked, answer->error), "an error is told that was none");
    must(w,
         answer->cause == (w->rest.lost && answer->error == BJ_E_JOB_LOST ? BJ_E_DISCONNECTED : 0),
         "what ended the connection is told of what was lost by that");
    stand_up(w, waiter);
}

static void port_report(struct machine *job, enum report news, const char *text)
{
    static const char *const words[] = {"status",  "READY", "STALLED",
                                        "RESUMED", "ENDED", "RELEASED"};
    struct world *w = world_of(job);

    if (news == REPORT_ENDED)
        text = bj_outcome_name(job->outcome);
    say(w, words[news], text ? text : "");
    check_news(w, news);
}

static const struct machine_port port = {
    .send = port_send,
    .list_jobs = port_list_jobs,
    .compare_graph = port_compare_graph,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
};

/* ---------------------------------------------------------------- beginning */

void world_begin(struct world *w, const struct scenario *scenario, int acts)
{
    const struct setting *setting = &scenario->setting;
    struct machine_traits traits = {
        .never_ready = setting->kind == RUN_PLAIN,
        .switches = setting->kind == RUN_MIRROR,
        .is_commit = setting->kind == RUN_COMMIT || setting->kind == RUN_INTERMEDIATE,
        .has_graph = setting->age->statuses,
        .ours = setting->ours && setting->age->dismissals,
        .kept = setting->dismiss && setting->age->dismissals,
        .has_status = setting->age->statuses,
        .silent = setting->age->no_cancelled,
        .no_repeats = setting->age->harm,
        .replaces = scenario->replaces,
        .stall_ms = STALL_MS,
    };
    memset(w, 0, sizeof *w);
    w->scenario = scenario;
    machine_init(&w->machine, &port, &traits);
    qemu_start(&w->rest.qemu, setting, scenario->begins);
    w->rest.acts = (uint8_t)acts;
    w->rest.past.attached = !scenario->attached;
    if (scenario->attached) {
        struct line row = qemu_row(&w->rest.qemu, setting);
        row.c = FOR_ATTACH;
        w->rest.qemu.wire[0] = row; /* what it said before was not for us */
        w->rest.qemu.lines = 1;
    }
}

void world_clear(struct world *w)
{
    machine_clear(&w->machine);
}

/* ----------------------------------------------------------------- callers */

static const struct asking {
    const char *words;
    struct waiter waiter;
} callers_questions[] = {
    {"ready", {.question = ASK_READY}},
    {"done", {.question = ASK_DONE}},
    {"released", {.question = ASK_RELEASED, .flags = BJ_DONE_RELEASED}},
    {"pivot", {.question = ASK_PIVOT}},
    {"pivot, async", {.question = ASK_PIVOT, .flags = BJ_PIVOT_ASYNC}},
    {"pivot until released", {.question = ASK_PIVOT, .flags = BJ_PIVOT_RELEASED}},
    {"pivot, held back", {.question = ASK_PIVOT, .held = true}},
    {"pivot if ready", {.question = ASK_PIVOT, .flags = BJ_PIVOT_ONLY_IF_READY}},
    {"abort softly", {.question = ASK_ABORT}},
    {"abort by force", {.question = ASK_ABORT, .flags = BJ_ABORT_FORCE}},
    {"abort softly, async", {.question = ASK_ABORT, .flags = BJ_ABORT_ASYNC}},
    {"abort by force, async", {.question = ASK_ABORT, .flags = BJ_ABORT_FORCE | BJ_ABORT_ASYNC}},
    {"abort softly, by force later", {.question = ASK_ABORT, .force_after_ms = 500}},
    {"abort softly until released", {.question = ASK_ABORT, .flags = BJ_ABORT_RELEASED}},
    {"finish", {.question = ASK_FINISH}},
    {"finish until released", {.question = ASK_FINISH, .flags = BJ_FINISH_RELEASED}},
    {"pause", {.question = ASK_VERB, .verb = VERB_PAUSE}},
    {"resume", {.question = ASK_VERB, .verb = VERB_RESUME}},
    {"finalize", {.question = ASK_VERB, .verb = VERB_FINALIZE}},
    {"dismiss", {.question = ASK_VERB, .verb = VERB_DISMISS}},
};

#define QUESTIONS (int)(sizeof callers_questions / sizeof callers_questions[0])

static bool makes_sense(const struct world *w, int which)
{
    const struct waiter *waiter = &callers_questions[which].waiter;
    const struct setting *setting = &w->scenario->setting;

    if (waiter->question != ASK_VERB)
        return true;
    if (waiter->verb == VERB_FINALIZE)
        return setting->finalize;
    if (waiter->verb == VERB_DISMISS)
        return setting->ours || setting->dismiss;
    return setting->age->pauses;
}

static struct seat *free_seat(struct world *w)
{
    for (int i = 0; i < SEATS; i++)
        if (!w->seats[i].taken)
            return &w->seats[i];
    return NULL;
}

static void ask(struct world *w, int which)
{
    struct seat *seat = free_seat(w);
    seat->waiter = callers_questions[which].waiter;
    seat->taken = true;
    machine_ask(&w->machine, &seat->waiter);
}

static void leave(struct world *w, int which)
{
    machine_leave(&w->machine, &w->seats[which].waiter);
    stand_up(w, &w->seats[which].waiter);
}

/* ------------------------------------------------------------------ hearing */

static struct row read_row(const struct line *line)
{
    return (struct row){
        .status = (enum status)line->a,
        .ready = line->b & ROW_READY || line->a == STATUS_READY || line->a == STATUS_STANDBY,
        .paused = line->b & ROW_PAUSED,
        .io_error = line->b & ROW_IO_ERROR,
        .error = line->b & ROW_CANCELLED ? "Operation canceled"
                 : line->b & ROW_FAILED  ? "No space left on device"
                                         : NULL,
        .cancelled = line->b & ROW_CANCELLED,
    };
}

static void tell_row(struct world *w, const struct line *line)
{
    struct row row = read_row(line);
    bool listed = line->b & ROW_LISTED;

    if (machine_is(&w->machine, IS_RELEASED))
        return; /* nobody looks for it any more */
    if (machine_is(&w->machine, IS_AWAY) && listed)
        machine_reconnected_listed(&w->machine, &row);
    else if (machine_is(&w->machine, IS_AWAY))
        machine_reconnected_absent(&w->machine);
    else if (listed)
        machine_row(&w->machine, &row);
    else
        machine_absent(&w->machine);
}

static void hear_own_row(struct world *w, const struct line *line)
{
    bool again = w->rest.query_again;

    w->rest.query_out = w->rest.query_again = false;
    if (!again)
        tell_row(w, line);
    else if (!machine_is(&w->machine, IS_RELEASED))
        port_list_jobs(&w->machine); /* what it answers may be older than the question */
}

static void hear_row(struct world *w, const struct line *line)
{
    if (line->c == FOR_MACHINE) {
        hear_own_row(w, line);
    } else if (line->c == FOR_ATTACH) {
        w->rest.past.attached = true;
        tell_row(w, line);
    } else if (!(line->b & ROW_LISTED) && !machine_is(&w->machine, IS_RELEASED)) {
        machine_absent(&w->machine); /* a caller's query: only that it is gone is news */
    }
}

static void hear_reply(struct world *w, const struct line *line)
{
    enum verb verb = (enum verb)line->a;
    struct waiter *waiter = NULL;

    if (verb == VERB_COMPLETE && line->b == VERDICT_ACCEPTED && line->run == 0)
        w->rest.past.heard_complete = true;
    if (line->c == FOR_RAW) {
        machine_raw_reply(&w->machine, verb, line->b == VERDICT_ACCEPTED);
        return;
    }
    if (line->c != FOR_MACHINE && line->c != FOR_NOBODY)
        waiter = &w->seats[line->c - 1].waiter;
    machine_reply(
        &w->machine, verb, waiter,
        &(struct verb_reply){
            .for_all = line->c == FOR_MACHINE,
            .verdict = (enum verdict)line->b,
            .error = BJ_E_REFUSED,
            .error_class = line->b == VERDICT_NO_SUCH_JOB ? "DeviceNotActive" : "GenericError",
            .text = "QEMU said no",
        });
}

/* Whoever had the id is over, whether we saw it or not (B20). */
static void meet_next_run(struct world *w)
{
    w->rest.past.next_known = w->rest.past.untold = true;
    say(w, "gives", "the id to the next run");
    machine_lost(&w->machine, BJ_E_JOB_LOST, "its id was given to another job");
}

/* A run that was released hears nothing more, and a new run begins with "created"; where that was
 * not told, all is of the run that is known. */
static bool is_for_us(struct world *w, const struct line *line)
{
    bool created = line->kind == LINE_STATUS && line->a == STATUS_CREATED;

    if (line->run > 0 && created && !w->rest.past.next_known)
        meet_next_run(w);
    return !machine_is(&w->machine, IS_RELEASED) && (line->run == 0 || !w->rest.past.next_known);
}

static bool is_end(const struct line *line)
{
    return line->kind == LINE_COMPLETED || line->kind == LINE_FAILED ||
           line->kind == LINE_CANCELLED;
}

static void hear_event(struct world *w, const struct line *line)
{
    struct machine *job = &w->machine;

    w->rest.past.heard_end |= is_end(line);
    switch ((enum line_kind)line->kind) {
    case LINE_STATUS:
        machine_status_event(job, (enum status)line->a);
        break;
    case LINE_READY:
        machine_ready_event(job);
        break;
    case LINE_COMPLETED:
        machine_completed_event(job, NULL);
        break;
    case LINE_FAILED:
        machine_completed_event(job, "No space left on device");
        break;
    case LINE_CANCELLED:
        machine_cancelled_event(job);
        break;
    case LINE_STOPPED:
        machine_stopped_event(job, "a write error stopped it");
        break;
    case LINE_PENDING:
        machine_pending_event(job);
        break;
    default:
        break;
    }
}

static void hear(struct world *w)
{
    struct line line = qemu_pop_line(&w->rest.qemu);

    if (line.kind == LINE_ROW) {
        hear_row(w, &line);
    } else if (line.kind == LINE_GRAPH) {
        w->rest.past.untold = w->rest.past.untold || line.a == SWITCH_UNKNOWN;
        w->rest.past.neither = w->rest.past.neither || line.a == SWITCH_UNCLEAR;
        machine_compared(&w->machine, (enum disk_switch)line.a);
    } else if (line.kind == LINE_REPLY) {
        hear_reply(w, &line);
    } else if (is_for_us(w, &line)) {
        hear_event(w, &line);
    }
}

/* ------------------------------------------------------------------ reading */

/* That another client is ending the job is no refusal for anybody. */
static void note_refusal(struct world *w, struct command command)
{
    if (w->rest.qemu.held.b == VERDICT_ENDING && command.asker == FOR_MACHINE)
        return;
    if (command.asker == FOR_MACHINE && command.order < SHARED_VERBS)
        w->rest.past.refused |= (uint8_t)(1 << command.order);
    else if (command.asker != FOR_MACHINE && command.order < VERB_COUNT)
        w->rest.past.refused |= A_VERB;
}

static void note_reading(struct world *w, struct command command, bool accepted)
{
    struct past *past = &w->rest.past;
    bool ours = command.asker == FOR_MACHINE || command.asker == FOR_RAW;

    if (!accepted) {
        note_refusal(w, command);
        return;
    }
    if (command.order == VERB_COMPLETE && ours)
        past->completes = true;
    if (is_abort(command.order))
        past->aborts = true;
    if (command.order == VERB_DISMISS && command.asker == FOR_MACHINE && w->machine.traits.ours)
        past->dismissed = true;
}

static void read_command(struct world *w, enum sight sight)
{
    struct qemu *q = &w->rest.qemu;
    struct command command = qemu_next(q);
    bool second = command.order == VERB_COMPLETE && command.asker == FOR_MACHINE && q->completing &&
                  w->rest.past.completes && q->run == 0;

    bool second_cancel = command.order == VERB_CANCEL && command.asker == FOR_MACHINE &&
                         age_of(w)->harm && q->copying && !w->rest.past.others;

    must(w, !second || (w->rest.past.was_away && !w->scenario->replaces),
         "QEMU reads no second complete");
    must(w, !second_cancel, "no second cancel where it does harm");
    note_reading(w, command, qemu_read(q, &w->scenario->setting, sight));
}

/* -------------------------------------------------------------------- steps */

enum step_kind {
    /* What happens by itself. */
    STEP_HEAR,
    STEP_READ,
    STEP_READ_UNTOLD,
    STEP_READ_NEITHER,
    STEP_WRITE,
    STEP_ADVANCE,
    STEP_TOO_LATE,
    STEP_READY_LATE,
    STEP_RECONNECT,
    STEP_TICK,
    STEP_ESCALATE,
    STEP_POLL,
    /* What comes from outside. */
    STEP_ASK,
    STEP_RAW,
    STEP_QUERY,
    STEP_LEAVE,
    STEP_UNHOLD,
    STEP_OTHER,
    STEP_FAIL,
    STEP_STOP,
    STEP_BOUNCE,
    STEP_PEERS,
    STEP_EMPTY,
    STEP_AGAIN,
    STEP_DENY,
    STEP_HANG_UP
};

bool world_is_by_itself(struct step step)
{
    return step.kind <= STEP_POLL;
}

const char *world_step_text(const struct world *w, struct step step, char *text, size_t size)
{
    static const char *const words[] = {
        [STEP_READ] = "QEMU reads",
        [STEP_READ_UNTOLD] = "QEMU reads, and can't tell,",
        [STEP_READ_NEITHER] = "the users are elsewhere: QEMU reads",
        [STEP_WRITE] = "QEMU writes its reply",
        [STEP_ADVANCE] = "the job goes on",
        [STEP_TOO_LATE] = "the job is done before the cancel has an effect",
        [STEP_READY_LATE] = "the job gets ready in spite of the cancel",
        [STEP_RECONNECT] = "the connection is made again",
        [STEP_TICK] = "the timer fires",
        [STEP_ESCALATE] = "force is due",
        [STEP_POLL] = "a poll is due",
        [STEP_ASK] = "we ask:",
        [STEP_RAW] = "we send, raw,",
        [STEP_QUERY] = "we query the job",
        [STEP_LEAVE] = "we no longer wait for",
        [STEP_UNHOLD] = "the pivot is held back no longer",
        [STEP_OTHER] = "another client's",
        [STEP_FAIL] = "the job fails",
        [STEP_STOP] = "an error stops the job",
        [STEP_BOUNCE] = "the graph changes: the job stands still for a moment",
        [STEP_PEERS] = "its peers have finished",
        [STEP_EMPTY] = "there was nothing to copy",
        [STEP_AGAIN] = "another client starts a job of this id",
        [STEP_DENY] = "QEMU reads, and denies that there is such a job",
        [STEP_HANG_UP] = "the connection ends",
    };
    static const char *const lines[] = {
        [LINE_READY] = "READY",
        [LINE_COMPLETED] = "COMPLETED",
        [LINE_FAILED] = "COMPLETED{error}",
        [LINE_CANCELLED] = "CANCELLED",
        [LINE_STOPPED] = "ERROR(stop)",
        [LINE_PENDING] = "PENDING",
        [LINE_GRAPH] = "the graph",
    };
    static const char *const verdicts[] = {"refused", "refused: no such job",
                                           "refused: it is being ended", "accepted"};
    const struct qemu *q = &w->rest.qemu;
    const struct line *line = &q->wire[0];

    if (step.kind == STEP_ASK)
        snprintf(text, size, "%s %s", words[step.kind], callers_questions[step.which].words);
    else if (step.kind == STEP_RAW || step.kind == STEP_OTHER)
        snprintf(text, size, "%s %s", words[step.kind], order_words[step.which]);
    else if (step.kind == STEP_LEAVE)
        snprintf(text, size, "%s %s", words[step.kind],
                 questions[w->seats[step.which].waiter.question]);
    else if (step.kind >= STEP_READ && step.kind <= STEP_READ_NEITHER)
        snprintf(text, size, "%s %s", words[step.kind], order_words[q->commands[0].order]);
    else if (step.kind != STEP_HEAR)
        snprintf(text, size, "%s", words[step.kind]);
    else if (line->kind == LINE_STATUS)
        snprintf(text, size, "we hear ~%s", job_status_name((enum status)line->a));
    else if (line->kind == LINE_ROW)
        snprintf(text, size, "we hear a list: %s%s%s%s",
                 line->b & ROW_LISTED ? "it is " : "it is not there",
                 job_status_name((enum status)line->a), line->b & ROW_READY ? " (ready)" : "",
                 line->b & (ROW_CANCELLED | ROW_FAILED) ? " (error)" : "");
    else if (line->kind == LINE_REPLY)
        snprintf(text, size, "we hear %s %s", order_words[line->a], verdicts[line->b]);
    else
        snprintf(text, size, "we hear %s", lines[line->kind]);
    return text;
}

struct steps {
    struct step *list;
    int count;
};

static void may(struct steps *steps, bool can, int kind, int which)
{
    if (can)
        steps->list[steps->count++] = (struct step){.kind = (uint8_t)kind, .which = (uint8_t)which};
}

/* Where no event tells what is awaited, it is asked for (B58). */
static bool can_poll(const struct world *w)
{
    const struct machine *job = &w->machine;
    bool misses_ready =
        age_of(w)->no_ready && !machine_is(job, IS_READY) && !job->traits.never_ready;
    bool misses_pause = !job->traits.has_status &&
                        (job->pivots > 0 || job->soft_aborts > 0 || job->force_aborts > 0);
    bool misses = misses_pause || ((job->traits.silent || misses_ready) && job->waiters);
    bool hears = w->rest.qemu.connected && !machine_is(job, IS_AWAY) && !w->rest.query_out;

    return misses && hears && job->outcome == BJ_OUTCOME_NONE;
}

static void list_own_steps(const struct world *w, struct steps *steps)
{
    const struct setting *setting = &w->scenario->setting;
    struct qemu *q = (struct qemu *)&w->rest.qemu; /* asked only, not touched */
    bool graph = qemu_can_read(q) && qemu_next(q).order == ORDER_GRAPH;

    may(steps, q->lines > 0, STEP_HEAR, 0);
    may(steps, qemu_can_read(q), STEP_READ, 0);
    may(steps, graph, STEP_READ_UNTOLD, 0);
    may(steps, graph && run_switches(setting->kind), STEP_READ_NEITHER, 0);
    may(steps, qemu_can_write(q), STEP_WRITE, 0);
    may(steps, qemu_advance(q, setting, false), STEP_ADVANCE, 0);
    may(steps, qemu_is_too_late(q, setting, false), STEP_TOO_LATE, 0);
    may(steps, qemu_gets_ready_late(q, setting, false), STEP_READY_LATE, 0);
    may(steps, !q->connected && !w->rest.lost, STEP_RECONNECT, 0);
    may(steps, w->rest.timer, STEP_TICK, 0);
    for (int i = 0; i < SEATS; i++)
        may(steps, w->seats[i].taken && w->seats[i].waiter.force_after_ms > 0, STEP_ESCALATE, i);
    may(steps, can_poll(w), STEP_POLL, 0);
}

static bool others_verb_counts(const struct world *w, enum verb verb)
{
    struct qemu q = w->rest.qemu;
    return verb != VERB_SET_SPEED && verb != VERB_CHANGE &&
           qemu_takes_others(&q, &w->scenario->setting, verb);
}

static void list_callers_steps(const struct world *w, struct steps *steps)
{
    bool seat = !w->seats[SEATS - 1].taken; /* thawed, they are taken in their order */
    bool room = w->rest.past.attached && seat;

    for (int i = 0; i < QUESTIONS; i++)
        may(steps, room && makes_sense(w, i), STEP_ASK, i);
    for (int i = 0; i < SEATS; i++)
        may(steps, w->seats[i].taken, STEP_LEAVE, i);
    for (int i = 0; i < SEATS; i++)
        may(steps, w->seats[i].taken && w->seats[i].waiter.held, STEP_UNHOLD, i);
    bool sends = room && w->rest.qemu.connected && !machine_is(&w->machine, IS_AWAY) &&
                 !machine_is(&w->machine, IS_RELEASED);
    may(steps, sends, STEP_QUERY, 0);
    for (int verb = VERB_COMPLETE; verb <= VERB_FORCE; verb++)
        may(steps, sends, STEP_RAW, verb);
}

static void list_outside_steps(const struct world *w, struct steps *steps)
{
    const struct setting *setting = &w->scenario->setting;
    struct qemu *q = (struct qemu *)&w->rest.qemu;

    for (int verb = VERB_COMPLETE; verb < VERB_COUNT; verb++)
        may(steps, q->run == 0 && others_verb_counts(w, (enum verb)verb), STEP_OTHER, verb);
    may(steps, qemu_fails(q, setting, false), STEP_FAIL, 0);
    may(steps, qemu_stops(q, setting, false), STEP_STOP, 0);
    may(steps, qemu_bounces(q, setting, false), STEP_BOUNCE, 0);
    may(steps, qemu_lets_peers_finish(q, setting, false), STEP_PEERS, 0);
    may(steps, qemu_completes_empty(q, setting, false), STEP_EMPTY, 0);
    may(steps, w->scenario->again && qemu_starts_again(q, setting, false), STEP_AGAIN, 0);
    may(steps, qemu_denies(q, setting, false), STEP_DENY, 0);
    may(steps, w->scenario->reconnects && q->connected && w->rest.past.attached, STEP_HANG_UP, 0);
}

int world_steps(const struct world *w, struct step *ret_steps)
{
    struct steps steps = {.list = ret_steps};

    list_own_steps(w, &steps);
    bool full = w->rest.qemu.lines > WIRE_LINES / 2 || w->rest.qemu.orders > ORDERS / 2;
    if (w->rest.acts > 0 && !w->rest.lost && !full) {
        list_callers_steps(w, &steps);
        list_outside_steps(w, &steps);
    }
    return steps.count;
}

/* Of a run that was released nobody tells that the connection has ended; only its replies do. */
static void fail_verbs(struct world *w)
{
    struct verb_reply reply = {.error = BJ_E_DISCONNECTED, .error_class = "", .text = "it ended"};

    for (int i = 0; i < SEATS; i++)
        if (w->seats[i].taken && w->seats[i].waiter.question == ASK_VERB)
            machine_reply(&w->machine, w->seats[i].waiter.verb, &w->seats[i].waiter, &reply);
}

static void hang_up(struct world *w)
{
    qemu_hang_up(&w->rest.qemu);
    w->rest.query_out = w->rest.query_again = false;
    w->rest.past.was_away = true;
    w->rest.past.untold |= w->rest.past.heard_end;
    if (machine_is(&w->machine, IS_RELEASED))
        fail_verbs(w);
    else
        machine_disconnected(&w->machine);
}

static void reconnect(struct world *w)
{
    w->rest.qemu.connected = true;
    if (machine_is(&w->machine, IS_RELEASED))
        return;
    w->rest.query_out = true;
    push_query(w, FOR_MACHINE);
}

static void act(struct world *w, struct step step)
{
    const struct setting *setting = &w->scenario->setting;
    struct qemu *q = &w->rest.qemu;

    switch ((enum step_kind)step.kind) {
    case STEP_ASK:
        ask(w, step.which);
        break;
    case STEP_RAW:
        machine_raw_sent(&w->machine, (enum verb)step.which);
        qemu_push_command(q, step.which, FOR_RAW);
        break;
    case STEP_QUERY:
        push_query(w, FOR_USER);
        break;
    case STEP_LEAVE:
        leave(w, step.which);
        break;
    case STEP_UNHOLD:
        machine_unhold(&w->machine, &w->seats[step.which].waiter);
        break;
    case STEP_OTHER:
        w->rest.past.others = true;
        qemu_takes_others(q, setting, (enum verb)step.which);
        break;
    case STEP_FAIL:
        qemu_fails(q, setting, true);
        break;
    case STEP_STOP:
        qemu_stops(q, setting, true);
        break;
    case STEP_BOUNCE:
        qemu_bounces(q, setting, true);
        break;
    case STEP_PEERS:
        qemu_lets_peers_finish(q, setting, true);
        break;
    case STEP_EMPTY:
        qemu_completes_empty(q, setting, true);
        break;
    case STEP_AGAIN:
        qemu_starts_again(q, setting, true);
        break;
    case STEP_DENY:
        w->rest.past.denied = true;
        note_refusal(w, qemu_next(q));
        qemu_denies(q, setting, true);
        break;
    case STEP_HANG_UP:
        hang_up(w);
        break;
    default:
        break;
    }
}

static void happen(struct world *w, struct step step)
{
    const struct setting *setting = &w->scenario->setting;
    struct qemu *q = &w->rest.qemu;

    switch ((enum step_kind)step.kind) {
    case STEP_HEAR:
        hear(w);
        break;
    case STEP_READ:
        read_command(w, SHOWS_TRUTH);
        break;
    case STEP_READ_UNTOLD:
        read_command(w, SHOWS_NOTHING);
        break;
    case STEP_READ_NEITHER:
        read_command(w, SHOWS_NEITHER);
        break;
    case STEP_WRITE:
        qemu_write(q);
        break;
    case STEP_ADVANCE:
        qemu_advance(q, setting, true);
        break;
    case STEP_TOO_LATE:
        qemu_is_too_late(q, setting, true);
        break;
    case STEP_READY_LATE:
        qemu_gets_ready_late(q, setting, true);
        break;
    case STEP_RECONNECT:
        reconnect(w);
        break;
    case STEP_TICK:
        w->rest.timer = false;
        w->rest.past.ticked = true;
        machine_tick(&w->machine);
        break;
    case STEP_ESCALATE:
        machine_escalate(&w->machine, &w->seats[step.which].waiter);
        break;
    case STEP_POLL:
        port_list_jobs(&w->machine);
        break;
    default:
        break;
    }
}

static void note_truth(struct world *w)
{
    const struct qemu *q = &w->rest.qemu;
    struct past *past = &w->rest.past;

    if (q->run > 0)
        return;
    past->was_ready = past->was_ready || q->ready;
    past->stood = past->stood || q->paused || q->status == STATUS_PAUSED ||
                  q->status == STATUS_STANDBY || q->status == STATUS_WAITING ||
                  q->status == STATUS_PENDING;
}

static void check_latched(struct world *w)
{
    struct past *past = &w->rest.past;

    if (past->outcome == BJ_OUTCOME_NONE && w->machine.outcome != BJ_OUTCOME_NONE) {
        check_outcome(w);
        must(w, past->told_ended, "ENDED is told");
    } else {
        must(w, past->outcome == w->machine.outcome, "the outcome is latched");
    }
    past->outcome = (uint8_t)w->machine.outcome;
}

void world_do(struct world *w, struct step step)
{
    note_truth(w);
    if (world_is_by_itself(step)) {
        happen(w, step);
    } else {
        w->rest.acts--;
        act(w, step);
    }
    note_truth(w);
    must(w, !w->rest.qemu.overflow, "(the explorer's wire is too short)");
    check_latched(w);
}

/* ------------------------------------------------------------------ judging */

static bool may_wait(const struct world *w, const struct waiter *waiter)
{
    const struct qemu *q = &w->rest.qemu;
    bool next = q->run > 0 && !is_mistaken(w);
    bool ended = qemu_has_ended(q) || next;
    bool peers = q->status == STATUS_WAITING;

    if (is_for_release(waiter) && ended)
        return q->status != STATUS_NULL && !is_kept(w) && !next && !q->by_error;
    switch (waiter->question) {
    case ASK_DONE:
        return !ended && !q->by_error;
    case ASK_READY:
        return !ended && !q->ready && !q->by_error;
    case ASK_RELEASED:
        return q->status != STATUS_NULL && !is_kept(w) && !next && !q->by_error;
    case ASK_FINISH:
        return peers;
    case ASK_PIVOT:
        if (waiter->flags & BJ_PIVOT_ASYNC)
            return peers && !w->rest.past.heard_complete;
        return peers || (waiter->held && !ended);
    case ASK_ABORT:
        return peers && !(waiter->flags & (BJ_ABORT_FORCE | BJ_ABORT_ASYNC));
    case ASK_VERB:
        return false;
    }
    return false;
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

/* Frozen worlds have one form, their padding too. */
static bool is_same(const struct frozen *one, const struct frozen *other)
{
    const unsigned char *a = (const unsigned char *)one, *b = (const unsigned char *)other;
    size_t at = 0;
    while (at < sizeof *one && a[at] == b[at])
        at++;
    return at == sizeof *one;
}

/* A poll that changes nothing is no hope. */
static bool is_quiet_but_for_polls(const struct world *w, struct step poll)
{
    struct frozen before, after;
    struct world scratch;
    struct step steps[STEPS_MAX];

    world_freeze(w, &before);
    world_thaw(&scratch, &before, w->scenario);
    world_do(&scratch, poll);
    for (int i = 0; i < 8 && world_steps(&scratch, steps) > 0 && world_is_by_itself(steps[0]) &&
                    steps[0].kind != STEP_POLL;
         i++)
        world_do(&scratch, steps[0]);
    world_freeze(&scratch, &after);
    world_clear(&scratch);
    return is_same(&before, &after);
}

static bool is_quiet(const struct world *w, const struct step *steps, int count)
{
    if (count == 0 || !world_is_by_itself(steps[0]))
        return true;
    bool only = count == 1 || !world_is_by_itself(steps[1]);
    return only && steps[0].kind == STEP_POLL && is_quiet_but_for_polls(w, steps[0]);
}

/* Where nothing reports what another client resumes, whoever asks next finds out. */
static bool looks_again(const struct world *w)
{
    struct frozen now;
    struct world scratch;
    struct step steps[STEPS_MAX];

    world_freeze(w, &now);
    world_thaw(&scratch, &now, w->scenario);
    scratch.rest.acts = 0;
    struct seat *seat = free_seat(&scratch);
    if (!seat) {
        world_clear(&scratch);
        return true;
    }
    *seat = (struct seat){.waiter.question = ASK_ABORT, .taken = true};
    machine_ask(&scratch.machine, &seat->waiter);
    for (int i = 0; i < 16 && machine_is_stalled(&scratch.machine); i++)
        if (world_steps(&scratch, steps) > 0)
            world_do(&scratch, steps[0]);
    bool stalled = machine_is_stalled(&scratch.machine);
    world_clear(&scratch);
    return !stalled;
}

static void judge_job(struct world *w)
{
    const struct qemu *q = &w->rest.qemu;
    const struct machine *job = &w->machine;
    bool ended = qemu_has_ended(q) || q->run > 0;
    bool knows = age_of(w)->statuses || job->waiters || !age_of(w)->no_cancelled;

    if (ended && knows)
        must(w, job->outcome != BJ_OUTCOME_NONE, "what has ended has an outcome");
    if (ended && q->status == STATUS_NULL && knows)
        must(w, machine_is(job, IS_RELEASED), "what is gone is released");
    if (job->traits.ours && job->outcome != BJ_OUTCOME_LOST)
        must(w, q->status != STATUS_CONCLUDED || q->run > 0, "ours are dismissed");
    if (ended)
        return;
    must(w, job->outcome == BJ_OUTCOME_NONE, "what goes on has no outcome");
    must(w, !q->by_error || job->stall == STALL_ERROR, "a stop by an error is told");
    must(w, q->paused || job->stall == STALL_NONE || looks_again(w), "what goes on is not STALLED");
    must(w, !q->ready || machine_is(job, IS_READY) || (age_of(w)->no_ready && !job->waiters),
         "READY is told");
}

void world_judge(struct world *w, const struct step *steps, int count)
{
    if (w->broken || is_mistaken(w) || !is_quiet(w, steps, count))
        return;
    for (const struct waiter *waiter = w->machine.waiters; waiter; waiter = waiter->next)
        if (!may_wait(w, waiter))
            break_rule(w, hanging(waiter));
    must(w, !w->rest.query_out, "each query is answered");
    judge_job(w);
}

void world_cut(struct world *w)
{
    w->rest.lost = true;
    w->rest.past.untold = true;
    machine_lost(&w->machine, BJ_E_DISCONNECTED, "the connection ended");
    must(w, !w->machine.waiters, "nobody hangs when the connection ends");
    must(w, machine_is(&w->machine, IS_RELEASED), "all is released when the connection ends");
    check_latched(w);
}

/* ----------------------------------------------------------------- freezing */

/* Seats are numbered by their place in the machine's list. */
static void renumber(uint8_t *asker, const uint8_t *numbers)
{
    if (*asker >= 1 && *asker <= SEATS)
        *asker = numbers[*asker];
}

static void renumber_line(struct line *line, const uint8_t *numbers)
{
    if (line->kind == LINE_REPLY)
        renumber(&line->c, numbers);
}

static void renumber_all(struct qemu *q, const uint8_t *numbers)
{
    for (int i = 0; i < q->orders; i++)
        renumber(&q->commands[i].asker, numbers);
    for (int i = 0; i < q->lines; i++)
        renumber_line(&q->wire[i], numbers);
    renumber_line(&q->held, numbers);
}

/* Whatever it says, the machine behaves alike. */
static struct text *why;

void world_open(void)
{
    why = text_printf("why");
}

void world_close(void)
{
    why = text_unref(why);
}

size_t world_freeze(const struct world *w, struct frozen *frozen)
{
    uint8_t numbers[SEATS + 1] = {0};
    int count = 0;

    memset(frozen, 0, sizeof *frozen);
    memcpy(&frozen->machine, &w->machine, sizeof frozen->machine);
    frozen->machine.port = NULL;
    frozen->machine.text = frozen->machine.refusal = frozen->machine.refusal_class = NULL;
    frozen->machine.waiters = NULL;
    frozen->has_text = w->machine.text != NULL;
    frozen->rest = w->rest;
    for (const struct waiter *waiter = w->machine.waiters; waiter; waiter = waiter->next) {
        numbers[seat_number(w, waiter)] = (uint8_t)(count + 1);
        frozen->seats[count++] = (struct frozen_seat){
            .question = (uint8_t)(waiter->question + 1),
            .flags = (uint8_t)waiter->flags,
            .verb = (uint8_t)waiter->verb,
            .escalates = waiter->force_after_ms > 0,
            .held = waiter->held,
        };
    }
    renumber_all(&frozen->rest.qemu, numbers);
    return sizeof *frozen;
}

static void thaw_seats(struct world *w, const struct frozen *f)
{
    struct waiter *last = NULL;

    for (int i = 0; i < SEATS && f->seats[i].question; i++) {
        struct waiter *waiter = &w->seats[i].waiter;
        w->seats[i].taken = true;
        *waiter = (struct waiter){
            .prev = last,
            .question = (enum question)(f->seats[i].question - 1),
            .flags = f->seats[i].flags,
            .verb = (enum verb)f->seats[i].verb,
            .force_after_ms = f->seats[i].escalates ? 500 : 0,
            .held = f->seats[i].held,
        };
        if (last)
            last->next = waiter;
        else
            w->machine.waiters = waiter;
        last = waiter;
    }
}

void world_thaw(struct world *w, const struct frozen *f, const struct scenario *scenario)
{
    memset(w->seats, 0, sizeof w->seats);
    w->scenario = scenario;
    w->broken = NULL;
    w->log = NULL;
    memcpy(&w->machine, &f->machine, sizeof w->machine);
    w->machine.port = &port;
    w->machine.text = f->has_text ? text_ref(why) : NULL;
    if (w->machine.sent[VERB_COMPLETE].delay == THEN_REFUSED)
        w->machine.refusal = text_ref(why);
    w->rest = f->rest;
    thaw_seats(w, f);
}
