/* SPDX-License-Identifier: MIT */
/*
 * What is on its way to QEMU and names an id: starts, raw verbs, attachments. Which run each is
 * about can change while it is on its way.
 */
#include "model/tracker_parts.h"

/* The three lists are alike: a pointer to the next and to the one before. */
#define LINK(list, item)                                                                           \
    do {                                                                                           \
        (item)->prev = NULL;                                                                       \
        (item)->next = (list);                                                                     \
        if (list)                                                                                  \
            (list)->prev = (item);                                                                 \
        (list) = (item);                                                                           \
    } while (0)
#define UNLINK(list, item)                                                                         \
    do {                                                                                           \
        if ((item)->prev)                                                                          \
            (item)->prev->next = (item)->next;                                                     \
        else                                                                                       \
            (list) = (item)->next;                                                                 \
        if ((item)->next)                                                                          \
            (item)->next->prev = (item)->prev;                                                     \
    } while (0)

/* --------------------------------------------------------------------- starts */

/* Of several with one id QEMU accepts the one that was sent first, and what was created before it
 * is accepted was another client's; unless the first had its run when the next was sent: then that
 * run was not the next one's, and this one may be. */
struct start *tracker_find_start(const struct tracker *t, const char *id)
{
    struct start *first = NULL, *later = NULL;
    for (struct start *s = t->starts; s; s = s->next) {
        if (strcmp(s->id, id) != 0)
            continue;
        first = s;
        later = s->comes_later && !s->run ? s : later;
    }
    return later && first->run ? later : first;
}

/* The run is not its, or it is and that has been noted. */
static void let_go(struct start *start, bool ours)
{
    struct run *run = start->run;

    start->run = NULL;
    if (!run)
        return;
    machine_decide_owner(&run->machine, ours);
    run_give_back(run);
}

int tracker_start(struct tracker *t, struct start *start)
{
    if (t->count >= t->limit)
        return BJ_E_BUSY;
    const struct start *before = tracker_find_start(t, start->id);
    start->comes_later = before && before->run;
    t->count++; /* its spare */
    start->run = NULL;
    LINK(t->starts, start);
    return BJ_OK;
}

static void give_start(struct tracker *t, struct start *start)
{
    if (!start->run)
        return;
    t->port->own(start->run, start);
    start->run->is_unique = start->is_unique;
    start->run->has_type |= *start->type != '\0';
    run_want_snapshot(start->run);
}

/* The one that was created last is its; where no event says so, or it could not be followed, there
 * is one now. */
static void accept_start(struct tracker *t, struct start *start)
{
    struct run *run = !start->run && t->reports_created ? tracker_find(t, start->id) : NULL;

    if (run)
        start->run = run_take(run); /* "created" could not be followed, what came then could */
    else if (!start->run)
        tracker_begin(t, start->id, "", start, STARTED);
    give_start(t, start);
}

/* QEMU may have carried it out before the connection ended: then the list of the next one shows the
 * job, and it is ours (B40). */
static void doubt_start(struct tracker *t, struct start *start)
{
    bool is_closed = t->link == LINK_CLOSING || t->link == LINK_OVER;

    if (!start->run && !is_closed && !tracker_find(t, start->id))
        tracker_begin(t, start->id, "", start, STARTED);
    give_start(t, start);
}

/* What was created may be that of the next one that is on its way. */
static void refuse_start(struct tracker *t, struct start *start)
{
    struct run *run = start->run;
    struct start *next = run ? tracker_find_start(t, start->id) : NULL;

    if (!next || next == start || next->run)
        return;
    start->run = NULL;
    next->run = run;
}

void tracker_started(struct tracker *t, struct start *start, enum order_reply reply)
{
    if (reply == ORDER_LOST)
        tracker_note_lost(t);
    if (reply == ORDER_ACCEPTED)
        accept_start(t, start);
    else if (reply == ORDER_LOST)
        doubt_start(t, start);
    else
        refuse_start(t, start);

    UNLINK(t->starts, start);
    t->count -= start->spare != NULL;
    struct run *run = start->run;
    let_go(start, reply != ORDER_REFUSED && start->ours);
    if (reply == ORDER_ACCEPTED && run) {
        t->port->hold(run);
        start->run = run;
    }
    tracker_settle(t);
}

/* ------------------------------------------------------------------ raw verbs */

static void give_raw(struct raw *raw, struct run *run)
{
    raw->run = run_take(run);
    machine_raw_sent(&run->machine, raw->verb);
    run_touch(run);
}

/* `accepted`: QEMU took it for this run. */
static void take_raw_back(struct raw *raw, bool accepted)
{
    struct run *run = raw->run;

    raw->run = NULL;
    if (!run)
        return;
    machine_raw_reply(&run->machine, raw->verb, accepted);
    run_give_back(run);
}

void tracker_raw(struct tracker *t, struct raw *raw)
{
    struct run *run = tracker_find(t, raw->id);

    LINK(t->raws, raw);
    raw->run = NULL;
    if (run)
        give_raw(raw, run);
    tracker_settle(t);
}

void tracker_raw_replied(struct tracker *t, struct raw *raw, enum order_reply reply)
{
    struct run *run = raw->run;

    UNLINK(t->raws, raw);
    if (reply == ORDER_LOST)
        tracker_note_lost(t);
    else
        take_raw_back(raw, reply == ORDER_ACCEPTED);
    if (reply == ORDER_LOST && run) /* it hears of the end of the connection by itself */
        run_give_back(run);
    raw->run = NULL;
    tracker_settle(t);
}

/* ---------------------------------------------------------------- attachments */

void tracker_attach(struct tracker *t, struct attachment *attachment)
{
    struct run *run = tracker_find(t, attachment->id);

    LINK(t->attachments, attachment);
    attachment->run = run ? run_take(run) : NULL;
    attachment->was_ended = attachment->is_listed = attachment->was_named = false;
    attachment->has_row = attachment->is_asked = false;
    t->list_wanted = true;
    if (run)
        run_mark_row_wanted(run);
    tracker_settle(t);
}

static void unlink_attachment(struct tracker *t, struct attachment *attachment)
{
    struct run *run = attachment->run;

    if (run && attachment->has_row)
        UNLINK(run->attachments, attachment);
    else
        UNLINK(t->attachments, attachment);
    if (run)
        run_give_back(run);
}

void tracker_unattach(struct tracker *t, struct attachment *attachment)
{
    unlink_attachment(t, attachment);
    tracker_settle(t);
}

static void answer_attachment(struct tracker *t, struct attachment *attachment, int error)
{
    unlink_attachment(t, attachment);
    t->port->attached(t, attachment, error);
}

void tracker_answer_attachments(struct tracker *t, int error)
{
    while (t->attachments)
        answer_attachment(t, t->attachments, error);
    for (struct run *run = t->runs; run; run = run->next)
        run_answer_attachments(run, error);
}

void run_answer_attachments(struct run *run, int error)
{
    while (run->attachments)
        answer_attachment(run->tracker, run->attachments, error);
}

void tracker_note_ended(struct tracker *t, const char *id)
{
    for (struct attachment *a = t->attachments; a; a = a->next)
        if (strcmp(a->id, id) == 0)
            a->was_ended = true;
}

/* Whoever attaches may end the job at once, or have another client end it: without a snapshot of
 * before it could not be told how (C21). */
static void wait_for_snapshot(struct tracker *t, struct attachment *attachment)
{
    struct run *run = attachment->run;

    UNLINK(t->attachments, attachment);
    attachment->has_row = true;
    LINK(run->attachments, attachment);
    run_want_snapshot(run);
}

/* Unless the list has just shown what is left of it. */
static bool is_gone(const struct attachment *attachment)
{
    const struct run *run = attachment->run;
    return machine_outcome(&run->machine) == BJ_OUTCOME_LOST ||
           (!run->has_id && !attachment->is_listed);
}

/* The list may know the job by another name: then it is looked for once more. */
static bool is_looked_for_again(struct tracker *t, struct attachment *attachment)
{
    if (attachment->run || attachment->was_named || attachment->is_listed)
        return false;
    attachment->was_named = true;
    if (!t->port->name(t, attachment))
        return false;
    struct run *run = tracker_find(t, attachment->id);
    attachment->run = run ? run_take(run) : NULL;
    attachment->is_asked = false;
    t->list_wanted = true;
    return true;
}

static int why_none(const struct tracker *t, const struct attachment *attachment, enum list_end end)
{
    if (attachment->is_listed)
        return t->count >= t->limit ? BJ_E_BUSY : BJ_E_NOMEM;
    if (end == LIST_CUT)
        return BJ_E_BUSY;
    return end == LIST_WHOLE ? BJ_E_NO_JOB : BJ_E_REFUSED;
}

static void finish_attachment(struct tracker *t, struct attachment *attachment, enum list_end end)
{
    struct run *run = attachment->run;

    if (end == LIST_WHOLE && is_looked_for_again(t, attachment))
        return;
    if (!run)
        answer_attachment(t, attachment, why_none(t, attachment, end));
    else if (is_gone(attachment))
        answer_attachment(t, attachment, BJ_E_NO_JOB);
    else
        wait_for_snapshot(t, attachment);
}

/* ---------------------------------------------------------------- handing on */

static void hand_on_raws(struct tracker *t, const char *id, struct run *run)
{
    for (struct raw *raw = t->raws; raw; raw = raw->next) {
        if (strcmp(raw->id, id) != 0)
            continue;
        take_raw_back(raw, false); /* its reply would have come before the new run */
        if (run)
            give_raw(raw, run);
    }
}

/* The list on its way may be older than a run that it does not list; or than what could not be
 * followed. */
static void hand_on_attachments(struct tracker *t, const char *id, struct run *run,
                                enum beginning how)
{
    for (struct attachment *a = t->attachments; a; a = a->next) {
        if (strcmp(a->id, id) != 0)
            continue;
        if (a->run)
            run_give_back(a->run);
        a->run = run ? run_take(run) : NULL;
        if (!run) {
            a->was_ended = a->is_listed = true;
        } else if (how != LISTED) {
            a->is_asked = false;
            run_mark_row_wanted(run);
        }
    }
}

static void hand_on_start(struct start *start, struct run *run)
{
    let_go(start, false); /* what was created before is another client's */
    if (!run)
        return;
    start->run = run_take(run);
    machine_learn(&run->machine)->undecided = true;
    if (start->is_unique)
        machine_decide_owner(&run->machine, start->ours);
}

void tracker_hand_on(struct tracker *t, const char *id, struct run *run, struct start *start,
                     enum beginning how)
{
    if (start)
        hand_on_start(start, run);
    hand_on_raws(t, id, run);
    hand_on_attachments(t, id, run, how);
    t->all_in_doubt |= t->all_asked && !run; /* the list may show the one before */
}

/* ---------------------------------------------------------------------- lists */

void run_feed_row(struct run *run, const struct row *row)
{
    run->row_asked = false;
    run->tracker->port->saw(run, row);
    if (machine_is(&run->machine, IS_AWAY))
        machine_reconnected_listed(&run->machine, row);
    else
        machine_row(&run->machine, row);
    run_touch(run);
}

bool tracker_wants_row(const struct tracker *t, const char *id)
{
    for (const struct attachment *a = t->attachments; a; a = a->next)
        if (strcmp(a->id, id) == 0)
            return true;
    return tracker_find(t, id) != NULL;
}

static struct run *begin_listed(struct tracker *t, const char *id, const char *type)
{
    struct run *run = tracker_begin(t, id, type, NULL, LISTED);
    if (run)
        run->row_asked = true;
    return run;
}

/* The list shows it to those who attach, and no event of the id came since they asked: it is that
 * very run. */
static struct run *begin_by_row(struct tracker *t, const char *id, const char *type)
{
    struct run *run = NULL;
    for (struct attachment *a = t->attachments; a; a = a->next) {
        if (!a->is_asked || a->run || a->was_ended || a->is_listed || strcmp(a->id, id) != 0)
            continue;
        a->is_listed = true;
        if (!run)
            run = begin_listed(t, id, type); /* and gives it to all of them */
    }
    return run;
}

/* The row is of what has ended: before 3.0 no event tells that a concluded job is gone. */
static void show_what_is_left(struct tracker *t, struct run *last, const struct row *row)
{
    if (t->reports_created || row->status != STATUS_CONCLUDED)
        return;
    run_feed_row(last, row);
    for (struct attachment *a = t->attachments; a; a = a->next)
        a->is_listed |= a->run == last;
}

/* Who attaches to an id that turns out to be another run's by now attaches to that. */
static void forget_run(struct tracker *t, struct run *run)
{
    for (struct attachment *a = t->attachments; a; a = a->next) {
        if (a->run != run)
            continue;
        a->run = NULL;
        run_give_back(run);
    }
}

void tracker_row(struct tracker *t, const char *id, const char *type, const struct row *row)
{
    struct run *last = tracker_find_last(t, id);
    struct run *run = last && last->has_id ? last : NULL;

    if (run && run->row_asked) {
        run->has_type |= *type != '\0';
        if (run->memory)
            run_recall_by_row(run, type, row);
        else
            run_feed_row(run, row);
        if (run->has_id)
            return;
        forget_run(t, run); /* the row showed that it is gone */
        last = run = NULL;
    }
    if (!run && last)
        show_what_is_left(t, last, row);
    if (!run)
        run = begin_by_row(t, id, type);
    if (!run && !last && t->all_asked && !t->all_in_doubt)
        run = begin_listed(t, id, type);
    if (run && run->row_asked)
        run_feed_row(run, row);
}

static void feed_absence(struct run *run)
{
    if (run->memory)
        run_recall_by_absence(run);
    else if (machine_is(&run->machine, IS_AWAY))
        machine_reconnected_absent(&run->machine);
    else
        machine_absent(&run->machine);
}

static void finish_row(struct run *run, enum list_end end)
{
    run->row_asked = false;
    if (end == LIST_WHOLE)
        feed_absence(run);
    else if (end != LIST_LOST) /* else it hears of the end of the connection by itself */
        machine_list_failed(&run->machine);
    run_touch(run);
}

void tracker_list_over(struct tracker *t, enum list_end end)
{
    bool is_to_repeat = t->all_asked && t->all_in_doubt && end == LIST_WHOLE;

    t->seeks_all |= t->all_asked && end == LIST_FAILED; /* by the next list that there is */
    t->list_is_out = t->all_asked = false;
    if (end == LIST_LOST)
        tracker_note_lost(t);
    for (struct run *run = t->runs; run; run = run->next) {
        if (run->row_asked)
            finish_row(run, end);
        run_touch(run);
    }

    struct attachment *next;
    for (struct attachment *a = end == LIST_LOST ? NULL : t->attachments; a; a = next) {
        next = a->next;
        if (a->is_asked)
            finish_attachment(t, a, end);
    }
    if (is_to_repeat)
        tracker_seek(t);
    tracker_settle(t);
    if (t->is_returning && end != LIST_LOST && !t->list_is_out) {
        t->is_returning = false;
        t->port->is_back(t);
    }
}
