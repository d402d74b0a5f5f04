/* SPDX-License-Identifier: MIT */
/*
 * The job machine: what facts mean for what is known of the run. See machine.h; the verbs are in
 * machine_verbs.c, those who wait in waiters.c, the tables in tables.c.
 */
#include "base/text.h"
#include "model/machine_parts.h"

/* Bytes of an error text that are kept: QEMU's are sentences. */
#define TEXT_MAX 4096

const char machine_no_space_text[] =
    "no space is left for what it writes: enlarge the target's volume and resume it, or abort it "
    "with force";

const char machine_paused_text[] = "it is paused: resume it";

static const char io_error_text[] =
    "an I/O error stopped it: mend the cause and resume it, or abort it with force";

static const char cut_text[] = "it completed, and the connection ended before it was known whether "
                               "the disk was switched";

void machine_init(struct machine *m, const struct machine_port *port,
                  const struct machine_traits *traits)
{
    *m = (struct machine){.port = port, .traits = *traits};
}

void machine_clear(struct machine *m)
{
    m->text = text_unref(m->text);
    m->refusal = text_unref(m->refusal);
    m->refusal_class = text_unref(m->refusal_class);
}

struct text *machine_copy_text(const char *text)
{
    return text ? text_printf("%.*s", text_fit(text, TEXT_MAX), text) : NULL;
}

static void set_text(struct machine *m, const char *text)
{
    text_unref(m->text);
    m->text = machine_copy_text(text);
}

int machine_error(const struct machine *m)
{
    if (m->outcome == BJ_OUTCOME_FAILED)
        return BJ_E_JOB_FAILED;
    return m->outcome == BJ_OUTCOME_LOST ? m->lost_error : BJ_OK;
}

/* ------------------------------------------------------------------ the end */

void machine_release(struct machine *m)
{
    if (machine_is(m, IS_RELEASED))
        return;
    set_mark(m, IS_RELEASED, true);
    machine_answer_over(m, waiter_is_for_release);
    m->port->report(m, REPORT_RELEASED, NULL);
}

/* Before 3.0 the terminal event is the last of a run that is not ours. */
static void release_if_last(struct machine *m)
{
    if (!m->traits.has_status && !m->traits.ours && !m->traits.undecided)
        machine_release(m);
}

static void latch(struct machine *m, bj_outcome outcome)
{
    m->outcome = outcome;
    m->stall = STALL_NONE;
    machine_set_timer(m);
    m->port->report(m, REPORT_ENDED, text_str(m->text));
    machine_answer_over(m, waiter_is_for_outcome);

    machine_dismiss_if_due(m);
    release_if_last(m);
}

/* READY shows that a commit is one of the active layer, unless it came when nobody could see it:
 * then the graph is asked. */
static bool may_have_switched(const struct machine *m)
{
    bool can_be_seen = m->traits.is_commit && m->traits.has_graph;
    bool missed_ready = machine_is(m, HAS_GAP) || machine_is(m, FOUND_DONE);
    return m->traits.switches || machine_is(m, IS_READY) || (can_be_seen && missed_ready);
}

static unsigned conditions(const struct machine *m)
{
    bool never_sent = !was_sent(m, VERB_COMPLETE) && !m->sent[VERB_COMPLETE].was_unsure;
    bool abort_taken = abort_is_accepted(m);

    return m->marks | (may_have_switched(m) ? 0 : NEVER_SWITCHES) |
           (is_accepted(m, VERB_COMPLETE) ? COMPLETE_TAKEN : 0) | (abort_taken ? ABORT_TAKEN : 0) |
           (abort_taken && never_sent ? ONLY_ABORT_SENT : 0) |
           (machine_awaits_reply(m) ? REPLY_OUT : 0) | (m->traits.silent ? NO_CANCEL_EVENT : 0);
}

/* `seen` is what the comparison of the graph has just shown; `unknown` is the text if whether the
 * disk was switched stays unknown. */
static void decide_by(struct machine *m, unsigned seen, const char *unknown)
{
    if (machine_is_over(m) || m->end == END_NONE)
        return;
    const struct outcome_rule *rule = outcome_rule(m->end, conditions(m) | seen);
    switch (rule->then) {
    case DECIDED:
        if (rule->unknown)
            set_text(m, unknown);
        latch(m, rule->outcome);
        break;
    case COMPARE_GRAPH:
        set_mark(m, COMPARING, true);
        m->port->compare_graph(m);
        break;
    case WAIT_FOR_REPLY:
        break;
    }
}

static void decide(struct machine *m)
{
    decide_by(m, 0, NULL);
}

/* The last act of everything that happens to a machine. */
void machine_settle(struct machine *m)
{
    decide(m);
    machine_forget_unwanted(m);
    machine_pursue(m);
    machine_set_timer(m);
    if (m->status == STATUS_NULL && machine_is_over(m))
        machine_release(m);
    else if (machine_is_free(m))
        machine_answer_over(m, waiter_is_for_release);
}

static void set_end(struct machine *m, enum end end, const char *error)
{
    if (m->end != END_NONE || machine_is_over(m))
        return; /* the first terminal event wins (B18) */
    m->end = end;
    set_mark(m, HEARD_EVENT, true);
    set_mark(m, ENDED_HERE, true);
    set_text(m, error);
    decide(m);
}

/* It is gone, and there was no terminal event. */
static void vanish(struct machine *m, enum vanishing how)
{
    const struct vanishing_rule *rule = vanishing_rule(how, conditions(m));

    if (rule->end == END_NONE)
        machine_lost(m, BJ_E_JOB_LOST, rule->text);
    else
        set_end(m, rule->end, rule->text);
}

/* ----------------------------------------------------------- ready and stall */

/* Complete goes out first of all: the pivot must not wait for the observers. */
static bool latch_ready(struct machine *m)
{
    if (machine_is(m, IS_READY) || machine_is_over(m))
        return false;
    set_mark(m, IS_READY, true);
    if (status_has_any(m->status, STILL) && !m->traits.has_status)
        m->status = STATUS_READY; /* what only a row has shown is older */
    machine_pursue(m);
    return true;
}

static void announce_ready(struct machine *m)
{
    m->port->report(m, REPORT_READY, NULL);
    machine_answer_all(m, waiter_is_for_ready, BJ_OK, NULL, NULL);
}

/* A stop by an error stays one until it is resumed, whatever else holds the job as well. */
void machine_stall(struct machine *m, enum stall kind, const char *reason)
{
    if (machine_is_over(m) || is_ending(m))
        return;
    set_mark(m, CHECKING_STALL, false);
    if (m->stall < kind) {
        m->stall = kind;
        m->pause.rows = 0; /* a list that is on its way may be older */
        set_text(m, reason);
        machine_set_timer(m);
        m->port->report(m, REPORT_STALLED, reason);
    }
    machine_answer_hurt(m);
}

void machine_unstall(struct machine *m)
{
    if (!machine_is_stalled(m))
        return;
    m->stall = STALL_NONE;
    set_mark(m, CHECKING_STALL, false);
    if (is_still(m) && !m->traits.has_status) /* no event says so */
        m->status = machine_is(m, IS_READY) ? STATUS_READY : STATUS_RUNNING;
    set_text(m, NULL);
    m->port->report(m, REPORT_RESUMED, NULL);
}

/* Before 3.0 nothing reports that another client has resumed it; and later only a job that had come
 * to its standstill has a status for that. */
static bool may_have_resumed(const struct machine *m)
{
    bool never_stood = m->stall == STALL_PAUSED && !is_still(m);
    return !m->traits.has_status || never_stood || machine_is(m, IS_AWAY);
}

bool machine_doubts_stall(struct machine *m)
{
    if (!may_have_resumed(m))
        return false;
    if (!machine_is(m, CHECKING_STALL) && !machine_is(m, IS_AWAY))
        m->port->list_jobs(m);
    set_mark(m, CHECKING_STALL, true);
    return true;
}

static void confirm_stall(struct machine *m)
{
    set_mark(m, CHECKING_STALL, false);
    machine_answer_hurt(m);
}

static void moves(struct machine *m)
{
    machine_unstall(m);
    if (m->pause.stood)
        m->pause.pausing = false;
}

static void set_pending(struct machine *m)
{
    set_mark(m, IS_PENDING, true);
    machine_answer_all(m, waiter_is_hurt_by_pending, BJ_E_STALLED, NULL, pending_text);
}

/* ------------------------------------------------------------------- events */

/* Also of a status that only a row reported. */
static void note_status(struct machine *m, enum status status)
{
    m->status = status;
    if (is_still(m))
        m->sent[VERB_COMPLETE].stood = m->pause.stood = true;
    if (status_has_any(status, DONE))
        set_mark(m, WAS_DONE, true);
    if (status == STATUS_ABORTING)
        set_mark(m, WAS_ABORTING, true);
}

/* Without a BLOCK_JOB event (a job without a disk, or a transaction that failed before the job ran)
 * only QEMU's list has the error. */
static void concluded(struct machine *m)
{
    if (machine_is_over(m))
        machine_dismiss_if_due(m);
    else if (m->end == END_NONE || machine_awaits_reply(m))
        m->port->list_jobs(m);
}

static void enter(struct machine *m, enum status status)
{
    m->traits.has_status = true;
    note_status(m, status);
    bool became_ready = status == STATUS_READY && latch_ready(m);
    if (status != STATUS_NULL)
        m->port->report(m, REPORT_STATUS, job_status_name(status));

    if (status_has_any(status, MOVES))
        moves(m);
    if (became_ready)
        announce_ready(m);
    if (status == STATUS_CONCLUDED)
        concluded(m);
    if (status == STATUS_NULL && !machine_is_over(m) && m->end == END_NONE)
        vanish(m, VANISHED_NULL);
}

void machine_status_event(struct machine *m, enum status status)
{
    if (machine_is(m, IS_RELEASED) || status == STATUS_NONE)
        return;
    set_mark(m, HEARD_EVENT, true);
    if (status == m->status) {
        if (status_has_any(status, MOVES))
            moves(m); /* it was still while we were away */
    } else {
        enter(m, status);
    }
    machine_settle(m);
}

void machine_ready_event(struct machine *m)
{
    set_mark(m, HEARD_EVENT, true);
    if (latch_ready(m))
        announce_ready(m);
    machine_settle(m);
}

void machine_completed_event(struct machine *m, const char *error)
{
    set_end(m, error ? END_FAILED : END_COMPLETED, error);
    machine_settle(m);
}

void machine_cancelled_event(struct machine *m)
{
    set_end(m, END_CANCELLED, NULL);
    machine_settle(m);
}

/* A job that is still after force was accepted is not ended by it: before 2.12 it only finishes the
 * copy of a ready mirror. Sent again it resumes the job. */
static void refute_force(struct machine *m)
{
    if (is_accepted(m, VERB_FORCE))
        m->sent[VERB_FORCE].state = NOT_SENT;
}

void machine_stopped_event(struct machine *m, const char *reason)
{
    set_mark(m, HEARD_EVENT, true);
    m->pause.resuming = false; /* what was resumed has stopped again */
    m->pause.rows = 0;
    refute_force(m);
    machine_stall(m, STALL_ERROR, reason);
    machine_settle(m);
}

void machine_pending_event(struct machine *m)
{
    set_mark(m, HEARD_EVENT, true);
    if (m->end == END_NONE)
        set_pending(m);
    machine_settle(m);
}

void machine_tick(struct machine *m)
{
    set_mark(m, TIMER_RUNS, false);
    machine_end_delays(m);
    if (machine_is_kept(m)) {
        machine_answer_kept(m);
    } else if (is_still(m)) {
        machine_stall(m, STALL_PAUSED,
                      "it stands still: another client has paused it, or its I/O hangs: resume it, "
                      "or look at its disks");
    } else if (machine_doubts_complete(m)) {
        set_mark(m, IS_DOUBTED, true);
        m->port->list_jobs(m);
    }
    machine_settle(m);
}

/* --------------------------------------------------------------------- rows */

/* A list may be older than the last event. */
static void note_concluded(struct machine *m)
{
    if (m->status != STATUS_NULL)
        note_status(m, STATUS_CONCLUDED);
}

static void concluded_row(struct machine *m, const struct row *row)
{
    note_concluded(m);
    if (m->end != END_NONE)
        machine_drop_replies(m);
    else if (!row->error)
        set_end(m, END_COMPLETED, NULL);
    else if (row->cancelled)
        set_end(m, END_CANCELLED, NULL);
    else
        set_end(m, END_FAILED, row->error);
}

/* Events, where there are any, are newer than a row (B28); only who comes later learns from it. */
static void adopt_status(struct machine *m, enum status status)
{
    bool is_news = m->status == STATUS_NONE || !m->traits.has_status;
    bool is_older = machine_is(m, IS_READY) && status == STATUS_PAUSED; /* than READY */
    if (!is_news || is_older || status == STATUS_NONE)
        return;
    note_status(m, status);
    if (status == STATUS_PENDING)
        set_pending(m); /* in a list it is only seen when it waits for finalize */
}

/* Before 3.0 no event reports that another client has paused it or resumed it, and a list shows the
 * drains of a moment, too, and may be older than what is known: so twice (B13). */
static void adopt_pause(struct machine *m, const struct row *row)
{
    bool paused = row->paused;
    if (m->traits.has_status || row->hides_pause)
        return;
    bool again = paused ? m->pause.rows > 0 : m->pause.rows < 0;
    m->pause.rows = (paused ? 1 : -1) * (again ? 2 : 1);
    if (paused && again) {
        refute_force(m);
        machine_stall(m, STALL_PAUSED, machine_paused_text);
    } else if (again) {
        machine_unstall(m);
    } else if (machine_is_stalled(m) && (!paused || is_accepted(m, VERB_FORCE))) {
        m->port->list_jobs(m); /* nobody else may ask a second time */
    }
}

/* The list was asked for since the stall. Where no event reports a pause, two rows have to agree
 * (adopt_pause), and the second is on its way. */
static void settle_stall(struct machine *m, const struct row *row)
{
    bool moving =
        m->traits.has_status && !is_still(m) && !row->paused && status_has_any(row->status, MOVES);
    bool undecided = !m->traits.has_status && m->pause.rows == -1;

    if (!machine_is(m, CHECKING_STALL) || undecided)
        return;
    if (moving)
        machine_unstall(m);
    confirm_stall(m);
}

/* What a row of a job that has not concluded says of verbs whose effect is unknown. */
static void settle_doubts(struct machine *m, const struct row *row, bool ready)
{
    struct sent *complete = &m->sent[VERB_COMPLETE];

    if (machine_is(m, CHECKING_GONE))
        machine_is_not_gone(m);
    if (machine_is(m, IS_DOUBTED) && ready && !is_ending(m))
        machine_complete_was_not_taken(m);
    if (complete->state == UNSURE && !ready && !status_has_any(row->status, DONE | CLOSED))
        complete->state = NOT_SENT; /* QEMU takes none before ready */
}

static void adopt_row(struct machine *m, const struct row *row, bool ready)
{
    adopt_status(m, row->status);
    if (row->io_error && m->status == row->status)
        machine_stall(m, STALL_ERROR, row->no_space ? machine_no_space_text : io_error_text);
    adopt_pause(m, row);
    settle_stall(m, row);
    settle_doubts(m, row, ready);
}

void machine_row(struct machine *m, const struct row *row)
{
    if (machine_is(m, IS_RELEASED))
        return;
    if (machine_is_over(m)) {
        machine_dismiss_again(m);
        machine_settle(m);
        return;
    }
    bool ready = row->ready || status_has_any(row->status, SHOWS_READY);
    if (machine_is_fresh(m) && status_has_any(row->status, DONE | CLOSED))
        set_mark(m, FOUND_DONE, true);
    if (ready && latch_ready(m))
        announce_ready(m);
    if (row->status == STATUS_CONCLUDED)
        concluded_row(m, row);
    else
        adopt_row(m, row, ready);
    machine_settle(m);
}

void machine_absent(struct machine *m)
{
    if (machine_is(m, IS_RELEASED))
        return;
    if (!machine_is_over(m) && m->end == END_NONE) {
        set_mark(m, END_ASSUMED, m->traits.silent);
        vanish(m, VANISHED_UNLISTED);
    }
    if (machine_is_over(m))
        machine_release(m);
}

/* Its last statuses may have been missed: ours is dismissed, which shows what it has become. */
static void list_failed_when_over(struct machine *m)
{
    bool was_away = machine_is(m, IS_AWAY);

    set_mark(m, IS_AWAY, false);
    if (was_away && m->traits.ours)
        note_status(m, STATUS_CONCLUDED);
    else if (was_away)
        machine_release(m);
    machine_dismiss_again(m);
}

/* Only what nothing else will show is lost by it. */
static void list_failed_at_work(struct machine *m)
{
    bool is_closed = m->status == STATUS_CONCLUDED || m->status == STATUS_NULL;

    if (machine_is(m, ENDED_HERE))
        set_mark(m, IS_AWAY, false);
    else if (machine_is(m, IS_AWAY) || (m->end == END_NONE && is_closed))
        machine_lost(m, BJ_E_JOB_LOST, "QEMU could not be asked how it ended");
    else if (machine_is(m, CHECKING_GONE))
        machine_is_not_gone(m);
    else if (machine_is(m, CHECKING_STALL))
        confirm_stall(m);
    set_mark(m, IS_DOUBTED, false);
}

void machine_list_failed(struct machine *m)
{
    if (machine_is(m, IS_RELEASED))
        return;
    if (machine_is_over(m))
        list_failed_when_over(m);
    else
        list_failed_at_work(m);
    machine_settle(m);
}

void machine_compared(struct machine *m, enum disk_switch result)
{
    static const unsigned seen[] = {
        [SWITCH_UNKNOWN] = CANNOT_COMPARE,
        [SWITCH_UNCLEAR] = SAW_NEITHER,
        [SWITCHED] = SAW_SWITCH,
        [NOT_SWITCHED] = SAW_NO_SWITCH,
        [SWITCHES_NOTHING] = SAW_NO_TARGET,
    };
    bool is_known_to_switch = m->traits.switches || machine_is(m, IS_READY);
    if (machine_is_over(m))
        return;
    decide_by(m, seen[result],
              is_known_to_switch ? "it completed by another client's verb, and whether the disk "
                                   "was switched is unknown"
                                 : "it completed unseen, and whether it was a commit of the active "
                                   "layer that has switched the disk is unknown");
    machine_settle(m);
}

/* ------------------------------------------------------------ the connection */

void machine_lost(struct machine *m, int error, const char *reason)
{
    if (machine_is(m, IS_RELEASED))
        machine_drop_verbs(m);
    decide_by(m, CANNOT_COMPARE, cut_text);
    if (!machine_is_over(m)) {
        m->lost_error = error;
        set_text(m, reason);
        latch(m, BJ_OUTCOME_LOST);
    }
    machine_answer_all(m, waiter_is_any, error, NULL, reason);
    machine_release(m);
}

void machine_decide_owner(struct machine *m, bool ours)
{
    if (!m->traits.undecided)
        return;
    m->traits.undecided = false;
    m->traits.ours = ours;
    if (!machine_is_over(m))
        return;
    machine_dismiss_if_due(m);
    release_if_last(m);
}

void machine_superseded(struct machine *m)
{
    machine_drop_replies(m);
    if (!machine_is_over(m) && m->end == END_NONE)
        machine_lost(m, BJ_E_JOB_LOST, "its id was given to another job, and its end was not seen");
    note_status(m, STATUS_NULL);
    set_mark(m, IS_AWAY, false);
    machine_settle(m);
    machine_answer_all(m, waiter_is_verb, BJ_E_STATE, NULL, "it is over");
}

void machine_abandon(struct machine *m, int error, const char *reason)
{
    machine_answer_all(m, waiter_is_any, error, NULL, reason);
}

void machine_disconnected(struct machine *m)
{
    machine_drop_verbs(m);
    if (machine_is(m, IS_RELEASED))
        return;
    m->marks &= ~(unsigned)(HEARD_EVENT | ENDED_HERE | CHECKING_GONE | CHECKING_STALL | COMPARING |
                            IS_DOUBTED);
    m->marks |= IS_AWAY | HAS_GAP;
    machine_forget_replies(m);
    machine_settle(m);
}

/* A run that has ended is never at work again, nor is one that was ready just running: the id is
 * another run's. */
static bool is_another_run(const struct machine *m, const struct row *row)
{
    bool at_work = status_has_any(row->status, AT_WORK);
    bool not_ready = at_work && !status_has_any(row->status, SHOWS_READY);
    return (m->end != END_NONE && at_work) || (machine_is(m, IS_READY) && !row->ready && not_ready);
}

/* What it became in the meantime. */
static void catch_up(struct machine *m, const struct row *row)
{
    if (row->status != STATUS_NONE && row->status != m->status) {
        note_status(m, row->status);
        if (row->status != STATUS_CONCLUDED)
            m->port->report(m, REPORT_STATUS, job_status_name(row->status));
    }
    if (status_has_any(row->status, AT_WORK) && status_has_any(row->status, MOVES))
        moves(m);
    if (row->status == STATUS_PENDING && !machine_is(m, IS_PENDING))
        set_pending(m);
}

void machine_reconnected_listed(struct machine *m, const struct row *row)
{
    bool is_newest = !machine_is(m, HEARD_EVENT); /* else events since know better */

    if (is_newest && is_another_run(m, row)) {
        machine_reconnected_absent(m);
        return;
    }
    set_mark(m, IS_AWAY, false);
    if (status_has_any(row->status, AT_WORK))
        set_mark(m, HAS_GAP, false); /* whatever it has done since was reported */
    if (is_newest && m->end == END_NONE)
        catch_up(m, row);
    else if (row->status == STATUS_CONCLUDED)
        note_concluded(m);
    machine_doubt_cancels(m);
    set_mark(m, CHECKING_STALL, machine_is_stalled(m)); /* for those who had hoped for a cancel */
    machine_row(m, row);
}

/* Its end was seen before. If that was on another connection, the graph of now may be another
 * QEMU's. */
static void decide_unlisted(struct machine *m)
{
    note_status(m, STATUS_NULL);
    if (machine_is(m, ENDED_HERE))
        decide(m);
    else
        decide_by(m, CANNOT_COMPARE, cut_text);
}

void machine_reconnected_absent(struct machine *m)
{
    set_mark(m, IS_AWAY, false);
    if (!machine_is_over(m) && m->end == END_NONE)
        vanish(m, VANISHED_AWAY);
    else if (!machine_is_over(m))
        decide_unlisted(m);
    if (machine_is_over(m))
        machine_release(m);
}
