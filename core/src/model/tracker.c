/* SPDX-License-Identifier: MIT */
/*
 * Events, replies, and the connection; see tracker.h. The runs are in tracker_runs.c, what is on
 * its way and names an id in tracker_orders.c.
 */
#include "model/tracker_parts.h"

void tracker_init(struct tracker *t, const struct tracker_port *port, size_t limit)
{
    *t = (struct tracker){.port = port, .limit = limit};
}

/* --------------------------------------------------------------------- events */

static bool is_status(const struct fact *fact, enum status status)
{
    return fact->kind == FACT_STATUS && fact->status == status;
}

/* A start that was accepted before anything was reported of it. */
static bool is_its_first(const struct run *run)
{
    return machine_is_fresh(&run->machine) && !machine_is(&run->machine, IS_AWAY);
}

static bool is_of_type(const struct start *start, const char *type)
{
    return !*type || !*start->type || strcmp(start->type, type) == 0;
}

/* The start whose run may begin with this event; NULL: none. Where no event says "created" it can't
 * be told from the last of an earlier run that was not known, unless their types differ. */
static struct start *start_of(const struct tracker *t, const struct fact *fact)
{
    bool begins = is_status(fact, STATUS_CREATED) || !t->reports_created;
    struct start *start = begins ? tracker_find_start(t, fact->id) : NULL;
    return start && is_of_type(start, fact->type) ? start : NULL;
}

/* What has ended is never at work again: another run began where nobody heard it. */
static bool is_anothers(const struct run *run, const struct fact *fact)
{
    return fact->kind == FACT_STATUS && status_has_any(fact->status, AT_WORK) &&
           machine_has_end(&run->machine);
}

/* The run an event is about. A new one begins with "created"; before 3.0, which has no statuses,
 * with whatever comes first when nobody has the id. */
static struct run *run_of(struct tracker *t, const struct fact *fact)
{
    struct run *run = tracker_find(t, fact->id);
    bool created = is_status(fact, STATUS_CREATED);

    if (run && is_anothers(run, fact))
        run = NULL;
    if (run && run_doubts_fact(run, fact)) {
        run_drop_doubtful(run);
        run = NULL;
    }
    if (run && (!created || is_its_first(run)))
        return run;
    if (created)
        tracker_supersede(t, fact->id);
    if (is_status(fact, STATUS_NULL) || fact->earlier) {
        tracker_note_ended(t, fact->id);
        return NULL;
    }
    if (t->link != LINK_UP)
        return NULL; /* nobody will ask for it */
    return tracker_begin(t, fact->id, fact->type, start_of(t, fact), HEARD);
}

static void feed(struct run *run, const struct fact *fact)
{
    struct machine *machine = &run->machine;

    switch (fact->kind) {
    case FACT_STATUS:
        machine_status_event(machine, fact->status);
        break;
    case FACT_READY:
        machine_ready_event(machine);
        break;
    case FACT_COMPLETED:
        machine_completed_event(machine, fact->error);
        break;
    case FACT_CANCELLED:
        machine_cancelled_event(machine);
        break;
    case FACT_STOPPED:
        machine_stopped_event(machine, fact->error);
        break;
    case FACT_PENDING:
        machine_pending_event(machine);
        break;
    case FACT_IO_ERROR:
        break;
    }
}

void tracker_fact(struct tracker *t, const struct fact *fact)
{
    struct run *run = run_of(t, fact);
    if (run) {
        run->has_type |= *fact->type != '\0';
        t->port->heard(run, fact);
        feed(run, fact);
        run_touch(run);
    }
    tracker_settle(t);
}

/* -------------------------------------------------------------------- replies */

void tracker_note_lost(struct tracker *t)
{
    if (t->link == LINK_UP)
        t->link = LINK_DOWN;
}

void tracker_replied(struct run *run, enum verb verb, struct waiter *waiter,
                     const struct verb_reply *reply)
{
    /* One that is lost says nothing; nor does one that is about the next run of the id. */
    if (!reply)
        tracker_note_lost(run->tracker);
    if (reply && !run->is_superseded)
        machine_reply(&run->machine, verb, waiter, reply);
    run_give_back(run);
    tracker_settle(run->tracker);
}

void tracker_taken_back(struct run *run)
{
    run_give_back(run);
    tracker_settle(run->tracker);
}

void tracker_snapshot(struct run *run, enum snapshot result)
{
    run->snapshot = run->is_superseded ? SNAPSHOT_VOID : result; /* it may show the next run */
    if (run->snapshot == SNAPSHOT_HELD)
        run->remembered = NOTHING_REMEMBERED;
    if (result == SNAPSHOT_WANTED)
        tracker_note_lost(run->tracker);
    run_give_back(run);
    tracker_settle(run->tracker);
}

void tracker_compared(struct run *run, enum disk_switch result, bool lost)
{
    run->is_comparing = false;
    if (lost)
        tracker_note_lost(run->tracker);
    if (!lost && run->compares) {
        run->compares = false;
        run_compared(run, result);
    }
    run_give_back(run);
    tracker_settle(run->tracker);
}

/* -------------------------------------------------------------- the connection */

static void lose(struct run *run, int why, const char *text)
{
    run->compares = false;
    machine_lost(&run->machine, why, text);
    run_touch(run);
}

static void lose_all(struct tracker *t, int why, const char *text)
{
    for (struct run *run = t->runs; run; run = run->next)
        lose(run, why, text);
}

/* Whoever holds the socket may be another QEMU than before: it can't know our jobs, and its own are
 * not ours even where the ids are the same (B46). */
static void come_back(struct tracker *t, bool another)
{
    t->is_returning = true;
    t->list_wanted = true;
    t->seeks_all = t->is_observed;
    if (another)
        lose_all(t, BJ_E_JOB_LOST,
                 "the socket belongs to another QEMU now, and its end was not seen");
    for (struct run *run = t->runs; run; run = run->next) {
        run_mark_row_wanted(run);
        run_touch(run);
    }
}

void tracker_up(struct tracker *t, bool reports_created, enum comeback comeback)
{
    t->link = LINK_UP;
    t->reports_created = reports_created;
    if (comeback != FIRST_TIME)
        come_back(t, comeback == OTHER_QEMU);
    tracker_settle(t);
}

/* One whose id is another's by now waits only for the comparison of the graph, which can still be
 * made when QEMU is back. */
static void disconnect(struct run *run)
{
    if (run->has_id) {
        run->compares = false;
        run->wants_row = run->row_asked = false;
        machine_disconnected(&run->machine);
    } else {
        machine_drop_verbs(&run->machine);
    }
    run_touch(run);
}

void tracker_away(struct tracker *t)
{
    t->link = LINK_DOWN;
    t->is_returning = t->list_wanted = false;
    tracker_answer_attachments(t, BJ_E_DISCONNECTED);
    for (struct run *run = t->runs; run; run = run->next)
        disconnect(run);
    tracker_settle(t);
}

void tracker_peer_is_gone(struct tracker *t, const char *text)
{
    lose_all(t, BJ_E_JOB_LOST, text);
    tracker_settle(t);
}

bool tracker_owes_dismissals(const struct tracker *t)
{
    const struct run *run = t->runs;
    while (run && !machine_owes_dismissal(&run->machine))
        run = run->next;
    return run != NULL;
}

/* Ours that waits for a list is not dismissed: QEMU has refused that, or it may not be there. One
 * that may have concluded while there was no connection is, as the list would come too late. */
static void close_run(struct run *run, const char *text)
{
    if (run->memory) {
        run_forget_recalled(run);
        lose(run, BJ_E_CLOSED, text);
        return;
    }
    const struct machine *machine = &run->machine;
    bool is_away = machine_is(machine, IS_AWAY);
    bool may_have_concluded = is_away && run->has_id && machine_traits(machine)->ours;
    bool is_sought = is_away || run->wants_row || run->row_asked;

    if (machine_owes_dismissal(machine) && !is_sought) {
        machine_abandon(&run->machine, BJ_E_CLOSED, text);
        run_touch(run);
        return;
    }
    lose(run, BJ_E_CLOSED, text);
    if (may_have_concluded) /* QEMU refuses to dismiss what has not */
        run_send(run, VERB_DISMISS, NULL);
}

void tracker_close(struct tracker *t, const char *text)
{
    t->link = LINK_CLOSING;
    t->is_returning = t->list_wanted = t->seeks_all = false;
    tracker_answer_attachments(t, BJ_E_CLOSED);
    for (struct run *run = t->runs; run; run = run->next)
        close_run(run, text);
    tracker_settle(t);
}

void tracker_over(struct tracker *t, int error, const char *text)
{
    t->link = LINK_OVER;
    t->is_returning = t->list_wanted = false;
    tracker_answer_attachments(t, error);
    for (struct run *run = t->runs; run; run = run->next)
        if (run->memory)
            run_forget_recalled(run);
    lose_all(t, error, text);
    tracker_settle(t);
}
