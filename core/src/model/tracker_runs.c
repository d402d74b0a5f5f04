/* SPDX-License-Identifier: MIT */
/*
 * The runs of a tracker: how one begins and ends, what its machine wants, and the after-work of
 * every entry.
 */
#include "base/container_of.h"
#include "model/tracker_parts.h"

static struct run *run_of_machine(struct machine *machine)
{
    return container_of(machine, struct run, machine);
}

/* --------------------------------------------------------------- membership */

void run_track(struct run *run)
{
    struct tracker *t = run->tracker;

    run->tracked = true;
    run->next = NULL;
    run->prev = t->last_run;
    if (t->last_run)
        t->last_run->next = run;
    else
        t->runs = run;
    t->last_run = run;
}

static unsigned memory_of(const struct run *run)
{
    return machine_memory(&run->machine) | (run->is_unique ? MEMORY_UNIQUE : 0);
}

static unsigned memory_key(const struct run *run)
{
    return machine_memory_key(&run->machine) | (unsigned)run->is_unique << 10;
}

/* After its end it stays as it was. */
static bool has_news_to_remember(const struct run *run)
{
    return run->remembered != memory_key(run) && !machine_has_end(&run->machine) &&
           !machine_is_over(&run->machine);
}

/* Most of what happens leads to nothing more. */
static bool has_after_work(const struct run *run)
{
    return !run->has_id || run->is_superseded || run->is_mute || run->compares ||
           run->attachments || run->snapshot == SNAPSHOT_WANTED ||
           (run->tracker->is_observed && run->announcement == UNANNOUNCED) || run->memory ||
           (run->wants_row && run->tracker->link == LINK_CLOSING) || has_news_to_remember(run);
}

void run_touch(struct run *run)
{
    if (run->is_dirty || !has_after_work(run))
        return;
    run->is_dirty = true;
    run->next_dirty = run->tracker->dirty;
    run->tracker->dirty = run;
}

struct run *run_take(struct run *run)
{
    run->in_flight++;
    return run;
}

void run_give_back(struct run *run)
{
    run->in_flight--;
    run_touch(run);
}

struct run *tracker_find_last(const struct tracker *t, const char *id)
{
    struct id_node *node = id_tree_find(t->by_id, id);
    return node ? container_of(node, struct run, node) : NULL;
}

struct run *tracker_find(const struct tracker *t, const char *id)
{
    struct run *last = tracker_find_last(t, id);
    return last && last->has_id ? last : NULL;
}

void run_enter_tree(struct run *run)
{
    id_tree_add(&run->tracker->by_id, &run->node, run->node.id);
    run->in_tree = true;
}

static void leave_tree(struct run *run)
{
    if (run->in_tree)
        id_tree_remove(&run->tracker->by_id, &run->node);
    run->in_tree = false;
}

static void untrack(struct run *run)
{
    struct tracker *t = run->tracker;

    run->tracked = false;
    if (run->prev)
        run->prev->next = run->next;
    else
        t->runs = run->next;
    if (run->next)
        run->next->prev = run->prev;
    else
        t->last_run = run->prev;
    leave_tree(run);
    t->port->over(run);
    t->port->drop(run);
}

void run_vacate(struct run *run)
{
    run->tracker->count -= run->has_id;
    run->has_id = run->wants_row = run->row_asked = false;
    run_touch(run);
}

void tracker_supersede(struct tracker *t, const char *id)
{
    struct run *last = tracker_find_last(t, id);

    if (!last)
        return;
    last->is_superseded = true;
    leave_tree(last);
    machine_superseded(&last->machine);
    run_vacate(last);
}

static struct run *new_run(struct tracker *t, const char *id, const char *type, struct start *start,
                           enum beginning how)
{
    if (start && start->spare) {
        struct run *spare = start->spare;
        start->spare = NULL;
        t->count--;
        return spare;
    }
    if (t->count < t->limit || how == STARTED)
        return t->port->new_run(t, id, type);
    t->port->ignored(t, id);
    return NULL;
}

struct run *tracker_begin(struct tracker *t, const char *id, const char *type, struct start *start,
                          enum beginning how)
{
    tracker_supersede(t, id);
    struct run *run = new_run(t, id, type, start, how);
    if (run) {
        run_track(run);
        run_enter_tree(run);
        run->has_id = true;
        run->is_listed = how == LISTED;
        run->has_type = *type != '\0';
        t->count++;
        run_touch(run);
    }
    tracker_hand_on(t, id, run, start, how);
    if (run && t->is_observed)
        run_observe(run);
    return run;
}

/* -------------------------------------------------------- the machine's port */

static bool is_connected(const struct tracker *t)
{
    return t->link == LINK_UP || t->link == LINK_CLOSING;
}

/* One that QEMU has let go of comes back for a dismissal (B44), unless another has its id. */
static void track_again(struct run *run)
{
    if (tracker_find_last(run->tracker, run->node.id)) {
        run->is_superseded = true;
        return;
    }
    run->tracker->port->hold(run);
    run_track(run);
    run_enter_tree(run);
}

void run_send(struct run *run, enum verb verb, struct waiter *waiter)
{
    run->in_flight++;
    run->tracker->port->send(run, verb, waiter);
}

static void port_send(struct machine *machine, enum verb verb, struct waiter *waiter)
{
    struct run *run = run_of_machine(machine);
    struct tracker *t = run->tracker;

    if (!run->tracked && is_connected(t))
        track_again(run);
    run->is_mute = !is_connected(t);
    run_touch(run); /* the after-work answers those whose verb is not sent */
    if (!run->is_superseded && !run->is_mute)
        run_send(run, verb, waiter);
}

void run_mark_row_wanted(struct run *run)
{
    if (!run->has_id)
        return;
    run->wants_row = true;
    run->tracker->list_wanted = true;
}

static void port_list_jobs(struct machine *machine)
{
    struct run *run = run_of_machine(machine);
    run_mark_row_wanted(run);
    run_touch(run);
}

static void port_compare_graph(struct machine *machine)
{
    struct run *run = run_of_machine(machine);
    run->compares = true;
    run_touch(run);
}

static void port_set_timer(struct machine *machine, int64_t ms)
{
    struct run *run = run_of_machine(machine);
    run->tracker->port->set_timer(run, ms);
}

static void port_answer(struct machine *machine, struct waiter *waiter, const struct answer *answer)
{
    struct run *run = run_of_machine(machine);
    run->tracker->port->answer(run, waiter, answer);
}

static void port_report(struct machine *machine, enum report report, const char *text)
{
    struct run *run = run_of_machine(machine);
    if (report == REPORT_RELEASED)
        run_vacate(run);
    run->tracker->port->report(run, report, text);
}

static const struct machine_port machine_port = {
    .send = port_send,
    .list_jobs = port_list_jobs,
    .compare_graph = port_compare_graph,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
};

void run_init(struct run *run, struct tracker *t, const char *id,
              const struct machine_traits *traits)
{
    *run = (struct run){.tracker = t, .node.id = id};
    machine_init(&run->machine, &machine_port, traits);
}

/* ------------------------------------------------------------- the after-work */

void run_want_snapshot(struct run *run)
{
    if (run->snapshot != SNAPSHOT_ASKED && run->snapshot != SNAPSHOT_HELD)
        run->snapshot = SNAPSHOT_WANTED;
    run_touch(run);
}

static void pursue_snapshot(struct run *run)
{
    struct tracker *t = run->tracker;

    if (run->snapshot == SNAPSHOT_WANTED && !(run->has_id && machine_may_switch(&run->machine)))
        run->snapshot = SNAPSHOT_NONE;
    if (run->snapshot == SNAPSHOT_WANTED && t->link == LINK_UP) {
        run->snapshot = SNAPSHOT_ASKED;
        run->in_flight++;
        t->port->take_snapshot(run, run->attachments != NULL);
    }
    if (run->snapshot != SNAPSHOT_ASKED && run->snapshot != SNAPSHOT_WANTED)
        run_answer_attachments(run, BJ_OK);
}

void run_compared(struct run *run, enum disk_switch result)
{
    if (run->memory && !machine_has_end(&run->machine))
        run_recall_by_graph(run, result);
    else
        machine_compared(&run->machine, result);
}

static void pursue_comparison(struct run *run)
{
    struct tracker *t = run->tracker;
    bool waits = run->is_comparing || t->link == LINK_DOWN || run->snapshot == SNAPSHOT_ASKED;

    if (!run->compares || waits)
        return;
    bool can_compare = run->snapshot == SNAPSHOT_HELD || machine_needs_no_snapshot(&run->machine);
    if (can_compare && t->link == LINK_UP) {
        run->is_comparing = true;
        run->in_flight++;
        t->port->compare(run);
    } else {
        run->compares = false;
        run_compared(run, SWITCH_UNKNOWN);
    }
}

/* Before anybody is told of the run, who may ask for it. */
static void remember(struct run *run)
{
    if (!has_news_to_remember(run))
        return;
    run->remembered = memory_key(run);
    run->tracker->port->remember(run, memory_of(run));
}

/* The list, or that of the next connection, tells what no event has. */
static bool waits_for_type(const struct run *run)
{
    bool will_tell = run->wants_row || run->row_asked || run->tracker->link == LINK_DOWN ||
                     machine_is(&run->machine, IS_AWAY);
    return will_tell && !run->has_type && !machine_is_over(&run->machine);
}

static bool waits_to_be_announced(const struct run *run)
{
    const struct tracker *t = run->tracker;
    bool waits_for_recalled = run->memory || (t->recalled > 0 && !run->is_recalled);
    return !t->is_observed || run->announcement != UNANNOUNCED || waits_for_recalled ||
           machine_traits(&run->machine)->undecided || waits_for_type(run);
}

void run_announce(struct run *run)
{
    if (waits_to_be_announced(run))
        return;
    run->announcement = ANNOUNCED;
    run->tracker->port->announce(run);
}

void run_observe(struct run *run)
{
    bool is_over = machine_is_over(&run->machine) && !run->memory;

    if (!run->has_id && is_over && run->announcement == UNANNOUNCED)
        run->announcement = UNOBSERVED;
    run_want_snapshot(run);
    if (!run->has_type)
        run_mark_row_wanted(run);
}

/* Nothing is sent any more but dismissals: what only a list could tell is let go of. */
static void forgo_row(struct run *run)
{
    run->wants_row = false;
    machine_absent(&run->machine);
}

static bool is_done_with(const struct run *run)
{
    return !run->has_id && run->in_flight == 0 && !run->compares && !run->is_dirty &&
           !run->tracker->all_asked && !machine_is_awaited(&run->machine);
}

/* Its end was heard, or no list will show it. */
static bool is_found_out(const struct run *run)
{
    return machine_is_over(&run->machine) || !machine_is(&run->machine, IS_AWAY);
}

static void after_work(struct run *run)
{
    if (run->is_superseded)
        machine_superseded(&run->machine);
    if (run->is_mute)
        machine_drop_verbs(&run->machine);
    run->is_mute = false;
    if (run->memory && is_found_out(run))
        run_recall_by_end(run);
    remember(run);
    pursue_snapshot(run);
    pursue_comparison(run);
    if (run->tracker->link == LINK_CLOSING && run->wants_row)
        forgo_row(run);
    run_announce(run);
    if (run->tracked && is_done_with(run))
        untrack(run);
}

static void ask_list(struct tracker *t)
{
    for (struct run *run = t->runs; run; run = run->next) {
        run->row_asked |= run->wants_row;
        run->wants_row = false;
    }
    for (struct attachment *a = t->attachments; a; a = a->next)
        a->is_asked = true;
    t->all_asked = t->seeks_all || (t->is_observed && !t->reports_created);
    t->seeks_all = t->all_in_doubt = false;
    t->list_wanted = false;
    t->list_is_out = true;
    t->port->ask_list(t);
}

void tracker_settle(struct tracker *t)
{
    while (t->dirty) {
        struct run *run = t->dirty;
        t->dirty = run->next_dirty;
        run->is_dirty = false;
        after_work(run);
    }
    if (t->list_wanted && !t->list_is_out && t->link == LINK_UP)
        ask_list(t);
    if (t->link == LINK_CLOSING && !t->runs)
        t->port->is_settled(t);
}

/* -------------------------------------------------------------------- callers */

static void settle_run(struct run *run)
{
    run_touch(run);
    tracker_settle(run->tracker);
}

void run_ask(struct run *run, struct waiter *waiter)
{
    machine_ask(&run->machine, waiter);
    settle_run(run);
}

void run_leave(struct run *run, struct waiter *waiter)
{
    machine_leave(&run->machine, waiter);
    settle_run(run);
}

void run_escalate(struct run *run, struct waiter *waiter)
{
    machine_escalate(&run->machine, waiter);
    settle_run(run);
}

void run_unhold(struct run *run, struct waiter *waiter)
{
    machine_unhold(&run->machine, waiter);
    settle_run(run);
}

void run_tick(struct run *run)
{
    machine_tick(&run->machine);
    settle_run(run);
}

void run_want_row(struct run *run)
{
    run_mark_row_wanted(run);
    settle_run(run);
}

void run_absent(struct run *run)
{
    if (run->has_id)
        machine_absent(&run->machine);
    settle_run(run);
}

void tracker_seek(struct tracker *t)
{
    t->seeks_all = t->is_observed;
    t->list_wanted |= t->is_observed;
    tracker_settle(t);
}

/* Whoever remembered them is gone, and what is left of a job that nobody asks for is not touched.
 */
static void forget_recalled(struct tracker *t)
{
    for (struct run *run = t->runs; run; run = run->next) {
        if (!run->memory)
            continue;
        run_forget_recalled(run);
        machine_lost(&run->machine, BJ_E_CLOSED, "nobody waits for what became of it");
        run_touch(run);
    }
}

void tracker_observe(struct tracker *t, bool observe)
{
    bool begins = observe && !t->is_observed;

    t->is_observed = observe;
    if (!observe) {
        forget_recalled(t);
        tracker_settle(t);
    }
    for (struct run *run = begins ? t->runs : NULL; run; run = run->next)
        run_observe(run);
    if (begins)
        tracker_seek(t);
}
