/* SPDX-License-Identifier: MIT */
/*
 * A tracker with a run that is remembered, and all that can happen until it is known what became of
 * it: every order of a few steps, and many random orders of more. What must hold is checked all
 * along; an order in which it does not is printed.
 */
#include "cmocka_all.h"
#include "model/tracker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID "job0"
#define RUNS 24
#define DEPTH 4
#define LENGTH 14
#define RANDOM_ORDERS 300000

struct spare_run {
    struct run run; /* first */
    int refs;
    int announced, ended;
};

static struct {
    struct tracker tracker;
    struct spare_run runs[RUNS];
    int count;
    struct memory memory;
    struct run *remembered;

    /* On their way. */
    bool list, is_over, is_closing;
    struct run *snapshots[RUNS], *comparisons[RUNS], *verbs[RUNS];
    enum verb verb[RUNS];
    int snapshot_count, comparison_count, verb_count;

    bool completed; /* was heard, or listed */
    bool switched, unswitched;
    bool listed; /* it was in a list, or its end was heard */
    const char *broken;
} now;

static void must(bool kept, const char *promise)
{
    if (!kept && !now.broken)
        now.broken = promise;
}

static struct spare_run *of(struct run *run)
{
    return (struct spare_run *)run;
}

/* ------------------------------------------------------------------------ port */

static struct run *new_run(struct tracker *t, const char *id, const char *type)
{
    static const struct machine_traits traits = {
        .switches = true, .has_status = true, .stall_ms = 1000};
    (void)type;
    assert_true(now.count < RUNS);
    struct spare_run *run = &now.runs[now.count++];
    run->refs = 1;
    run_init(&run->run, t, id, &traits);
    return &run->run;
}

static void hold(struct run *run)
{
    of(run)->refs++;
}

static void drop(struct run *run)
{
    if (--of(run)->refs == 0)
        machine_clear(&run->machine);
}

static void ignore_run(struct run *run)
{
    (void)run;
}

static void ignored(struct tracker *t, const char *id)
{
    (void)t, (void)id;
}

static void heard(struct run *run, const struct fact *fact)
{
    (void)run, (void)fact;
}

static void saw(struct run *run, const struct row *row)
{
    (void)run, (void)row;
}

static void own(struct run *run, struct start *start)
{
    (void)run, (void)start;
}

static void send(struct run *run, enum verb verb, struct waiter *waiter)
{
    (void)waiter;
    must(!run->memory, "nothing is sent for a run of which it is not known whether it is there");
    must(run != now.remembered || now.listed, "what is dismissed was there");
    assert_true(now.verb_count < RUNS);
    now.verbs[now.verb_count] = run;
    now.verb[now.verb_count++] = verb;
}

static void ask_list(struct tracker *t)
{
    (void)t;
    now.list = true;
}

static void take_snapshot(struct run *run, bool urgent)
{
    (void)urgent;
    assert_true(now.snapshot_count < RUNS);
    now.snapshots[now.snapshot_count++] = run;
}

static void compare(struct run *run)
{
    assert_true(now.comparison_count < RUNS);
    now.comparisons[now.comparison_count++] = run;
}

static void set_timer(struct run *run, int64_t ms)
{
    (void)run, (void)ms;
}

static void answer(struct run *run, struct waiter *waiter, const struct answer *is)
{
    (void)run, (void)waiter, (void)is;
}

static void check_outcome(struct run *run)
{
    const struct memory *memory = &now.memory;
    bool is_certain = memory_is_certain(memory);
    bool took_complete = is_certain && (memory->facts & MEMORY_COMPLETE_TAKEN);
    bool took_cancel = is_certain && (memory->facts & (MEMORY_CANCEL_TAKEN | MEMORY_FORCE_TAKEN));

    if (run != now.remembered)
        return;
    switch (machine_outcome(&run->machine)) {
    case BJ_OUTCOME_PIVOTED:
        must(now.switched || (took_complete && now.completed), "a pivot is proved");
        break;
    case BJ_OUTCOME_COPIED:
        must(now.completed && (now.unswitched || took_cancel), "a copy is proved");
        break;
    case BJ_OUTCOME_COMPLETED:
        must(now.completed, "what has completed was seen to");
        break;
    default:
        break;
    }
}

static void report(struct run *run, enum report is, const char *text)
{
    (void)text;
    if (is != REPORT_ENDED)
        return;
    check_outcome(run);
    of(run)->ended += run->announcement == ANNOUNCED;
}

static void announce(struct run *run)
{
    must(now.tracker.is_observed, "nothing is announced to nobody");
    must(!run->memory, "it is announced when it is known what became of it");
    must(run->is_recalled || now.tracker.recalled == 0, "what is remembered comes first");
    must(!(run->is_resumed && machine_is_over(&run->machine)), "what goes on is not over");
    must(++of(run)->announced == 1, "each run is announced once");
    of(run)->ended += machine_is_over(&run->machine);
}

static void remember(struct run *run, unsigned facts)
{
    (void)run, (void)facts;
}

static void attached(struct tracker *t, struct attachment *attachment, int error)
{
    (void)t, (void)attachment, (void)error;
}

static bool no_name(struct tracker *t, struct attachment *attachment)
{
    (void)t, (void)attachment;
    return false;
}

static void ignore_tracker(struct tracker *t)
{
    (void)t;
}

static const struct tracker_port port = {
    .new_run = new_run,
    .hold = hold,
    .drop = drop,
    .over = ignore_run,
    .ignored = ignored,
    .heard = heard,
    .saw = saw,
    .own = own,
    .send = send,
    .ask_list = ask_list,
    .take_snapshot = take_snapshot,
    .compare = compare,
    .set_timer = set_timer,
    .answer = answer,
    .report = report,
    .announce = announce,
    .remember = remember,
    .attached = attached,
    .name = no_name,
    .is_back = ignore_tracker,
    .is_settled = ignore_tracker,
};

/* ----------------------------------------------------------------------- steps */

static void status(enum status is)
{
    tracker_fact(&now.tracker,
                 &(struct fact){.kind = FACT_STATUS, .id = ID, .type = "", .status = is});
}

/* What is heard while another run has the id is of that. */
static bool is_its(void)
{
    return now.remembered && tracker_find(&now.tracker, ID) == now.remembered;
}

static void end(enum fact_kind kind, const char *error)
{
    now.completed |= is_its() && kind == FACT_COMPLETED && !error;
    now.listed |= is_its();
    tracker_fact(&now.tracker,
                 &(struct fact){.kind = kind, .id = ID, .type = "mirror", .error = error});
}

static void list(enum list_end how, const struct row *row)
{
    now.list = false;
    if (row) {
        now.listed |= is_its();
        now.completed |= is_its() && row->status == STATUS_CONCLUDED && !row->error;
        tracker_row(&now.tracker, ID, "mirror", row);
    }
    tracker_list_over(&now.tracker, how);
}

static void list_row(enum status is, int64_t current, const char *error)
{
    bool ready = is == STATUS_READY || is == STATUS_CONCLUDED;
    list(LIST_WHOLE,
         &(struct row){
             .status = is, .ready = ready, .current = current, .total = 10, .error = error});
}

static void graph(enum disk_switch is, bool lost)
{
    struct run *run = now.comparisons[--now.comparison_count];
    now.switched |= run == now.remembered && is == SWITCHED;
    now.unswitched |= run == now.remembered && is == NOT_SWITCHED;
    tracker_compared(run, is, lost);
}

static void snapshot(enum snapshot is)
{
    tracker_snapshot(now.snapshots[--now.snapshot_count], is);
}

static void reply(const struct verb_reply *is)
{
    struct run *run = now.verbs[--now.verb_count];
    tracker_replied(run, now.verb[now.verb_count], NULL, is);
}

static void lose_replies(void)
{
    if (now.list)
        list(LIST_LOST, NULL);
    while (now.comparison_count > 0)
        graph(SWITCH_UNKNOWN, true);
    while (now.verb_count > 0)
        reply(NULL);
    while (now.snapshot_count > 0)
        snapshot(SNAPSHOT_WANTED);
}

static void cut(void)
{
    lose_replies();
    tracker_away(&now.tracker);
}

static void finish(void)
{
    if (now.is_over)
        return;
    now.is_over = true;
    lose_replies();
    tracker_over(&now.tracker, BJ_E_JOB_LOST, "the connection ended");
}

static void accept_verb(void)
{
    reply(&(struct verb_reply){.for_all = true, .verdict = VERDICT_ACCEPTED});
}

/* False: it can't happen now. */
static bool take(int step)
{
    bool is_up = now.tracker.link == LINK_UP;
    /* clang-format off */
    enum {
        GONE, READY, CONCLUDED, CONCLUDED_BADLY, ANOTHER, CUT_SHORT, FAILED, /* the list */
        SEES_SWITCH, SEES_NO_SWITCH, SEES_NOTHING, HAS_SNAPSHOT, HAS_NONE, REPLY,
        S_CREATED, S_RUNNING, S_READY, S_CONCLUDED, S_NULL, COMPLETED, FAILED_EVENT, CANCELLED,
        CUT, BACK, BACK_ANOTHER, UNWATCHED, SHUT
    };
    if ((step <= FAILED && !now.list) || (step >= SEES_SWITCH && step <= SEES_NOTHING && now.comparison_count == 0) ||
        ((step == HAS_SNAPSHOT || step == HAS_NONE) && now.snapshot_count == 0) ||
        (step == REPLY && now.verb_count == 0) ||
        (step >= S_CREATED && step <= CUT && !is_up) ||
        ((step == BACK || step == BACK_ANOTHER) && now.tracker.link != LINK_DOWN) ||
        ((step == UNWATCHED || step == SHUT) && (now.is_closing || !now.tracker.is_observed)))
        return false;
    switch (step) {
    case GONE: list(LIST_WHOLE, NULL); break;
    case READY: list_row(STATUS_READY, 8, NULL); break;
    case CONCLUDED: list_row(STATUS_CONCLUDED, 10, NULL); break;
    case CONCLUDED_BADLY: list_row(STATUS_CONCLUDED, 10, "no space"); break;
    case ANOTHER: list_row(STATUS_RUNNING, 1, NULL); break;
    case CUT_SHORT: list(LIST_CUT, NULL); break;
    case FAILED: list(LIST_FAILED, NULL); break;
    case SEES_SWITCH: graph(SWITCHED, false); break;
    case SEES_NO_SWITCH: graph(NOT_SWITCHED, false); break;
    case SEES_NOTHING: graph(SWITCH_UNKNOWN, false); break;
    case HAS_SNAPSHOT: snapshot(SNAPSHOT_HELD); break;
    case HAS_NONE: snapshot(SNAPSHOT_VOID); break;
    case REPLY: accept_verb(); break;
    case S_CREATED: status(STATUS_CREATED); break;
    case S_RUNNING: status(STATUS_RUNNING); break;
    case S_READY: status(STATUS_READY); break;
    case S_CONCLUDED: status(STATUS_CONCLUDED); break;
    case S_NULL: status(STATUS_NULL); break;
    case COMPLETED: end(FACT_COMPLETED, NULL); break;
    case FAILED_EVENT: end(FACT_COMPLETED, "no space"); break;
    case CANCELLED: end(FACT_CANCELLED, NULL); break;
    case CUT: cut(); break;
    case BACK: tracker_up(&now.tracker, true, SAME_QEMU); break;
    case BACK_ANOTHER: tracker_up(&now.tracker, true, OTHER_QEMU); break;
    case UNWATCHED: tracker_observe(&now.tracker, false); break;
    case SHUT:
        now.is_closing = true;
        tracker_close(&now.tracker, "closed");
        break;
    default: break;
    }
    /* clang-format on */
    return true;
}
#define STEP_COUNT 26

/* ---------------------------------------------------------------------- orders */

static void begin(unsigned facts, enum same_peer peer)
{
    memset(&now, 0, sizeof now);
    now.memory =
        (struct memory){.facts = facts, .type = "mirror", .current = 5, .total = 10, .peer = peer};
    tracker_init(&now.tracker, &port, 8);
    tracker_up(&now.tracker, true, FIRST_TIME);
    now.remembered = new_run(&now.tracker, ID, "mirror");
    now.remembered->snapshot = SNAPSHOT_HELD;
    hold(now.remembered); /* the program's */
    tracker_recall(&now.tracker, now.remembered, &now.memory);
    tracker_observe(&now.tracker, true);
}

static void check_end(void)
{
    finish();
    for (int i = 0; i < now.count; i++) {
        struct spare_run *run = &now.runs[i];
        must(run->announced == run->ended, "what is announced has one end");
        must(&run->run == now.remembered || run->refs == 0, "nothing is kept");
    }
    must(now.remembered->memory == NULL && now.tracker.recalled == 0, "nothing stays undecided");
    must(of(now.remembered)->refs == 1, "what is remembered is let go of");
    drop(now.remembered);
}

static void fail_order(const int *steps, int length, unsigned facts)
{
    print_message("  BROKEN: %s\n  facts %#x, steps", now.broken, facts);
    for (int i = 0; i < length; i++)
        print_message(" %d", steps[i]);
    print_message("\n");
    fail();
}

static void play(const int *steps, int length, unsigned facts, enum same_peer peer)
{
    begin(facts, peer);
    for (int i = 0; i < length && !now.broken; i++)
        take(steps[i]);
    check_end();
    if (now.broken)
        fail_order(steps, length, facts);
}

static const unsigned remembered[] = {
    MEMORY_READY,
    MEMORY_READY | MEMORY_COMPLETE_TAKEN,
    MEMORY_READY | MEMORY_OURS | MEMORY_COMPLETE_TAKEN,
    MEMORY_READY | MEMORY_OURS | MEMORY_CANCEL_TAKEN,
    MEMORY_OURS | MEMORY_UNIQUE,
    MEMORY_OURS | MEMORY_ABORTING | MEMORY_FORCE_TAKEN,
};
#define MEMORIES (sizeof remembered / sizeof *remembered)

static void c13_every_order_of_a_few_steps(void **state)
{
    (void)state;
    int steps[DEPTH] = {0};
    for (size_t m = 0; m < MEMORIES; m++)
        for (int peer = 0; peer < 2; peer++) {
            bool more = true;
            while (more) {
                play(steps, DEPTH, remembered[m], peer ? PEER_UNKNOWN : PEER_SAME);
                int at = DEPTH - 1;
                while (at >= 0 && ++steps[at] == STEP_COUNT)
                    steps[at--] = 0;
                more = at >= 0;
            }
        }
}

static void c13_many_orders_of_more(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252;
    for (int i = 0; i < RANDOM_ORDERS; i++) {
        int steps[LENGTH];
        for (int n = 0; n < LENGTH; n++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            steps[n] = (int)(seed % STEP_COUNT);
        }
        play(steps, LENGTH, remembered[(size_t)i % MEMORIES],
             (seed & 1 << 20) ? PEER_SAME : PEER_UNKNOWN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c13_every_order_of_a_few_steps),
        cmocka_unit_test(c13_many_orders_of_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
