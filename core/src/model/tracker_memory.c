/* SPDX-License-Identifier: MIT */
/*
 * Runs that are remembered from before the program was away: which of them go on, and how the
 * others ended.
 */
#include "model/tracker_parts.h"

bool tracker_can_recall(const struct tracker *t)
{
    return t->count < t->limit;
}

static void begin_recalled(struct run *run, const struct memory *memory)
{
    run->is_recalled = true;
    run->is_unique = memory->facts & MEMORY_UNIQUE;
    run->has_type = *memory->type != '\0';
    run->memory = memory;
    run->tracker->recalled++;
    machine_recall(&run->machine, memory);
    run_track(run);
    run_touch(run);
}

void tracker_recall(struct tracker *t, struct run *run, const struct memory *memory)
{
    tracker_supersede(t, run->node.id); /* one that has ended */
    begin_recalled(run, memory);
    run_enter_tree(run);
    run->has_id = true;
    t->count++;
    run_mark_row_wanted(run);
}

void tracker_recall_lost(struct run *run, const struct memory *memory, const char *why)
{
    begin_recalled(run, memory);
    machine_lost(&run->machine, BJ_E_JOB_LOST, why);
}

bool tracker_recall_found(struct run *run, const struct memory *memory, const char *type,
                          const struct row *now)
{
    enum memory_verdict verdict = memory_judge_row(memory, type, now)->verdict;

    if (run->is_recalled || verdict == RUN_IS_LOST)
        return false;
    run->is_recalled = true;
    run->is_resumed = !machine_is_over(&run->machine);
    run->is_inferred = verdict == RUN_FITS;
    run->is_unique = memory->facts & MEMORY_UNIQUE;
    machine_adopt(&run->machine, memory);
    run_touch(run);
    return true;
}

/* ------------------------------------------------------------------- deciding */

static void forget_memory(struct run *run)
{
    run->memory = NULL;
    run->tracker->recalled--;
}

/* It is announced before those that wait for it. */
static void announce_recalled(struct run *run)
{
    struct tracker *t = run->tracker;

    run_announce(run);
    run_touch(run);
    if (t->recalled > 0)
        return;
    for (struct run *other = t->runs; other; other = other->next)
        run_touch(other);
}

static void settle_lost(struct run *run, const char *why)
{
    forget_memory(run);
    machine_lost(&run->machine, BJ_E_JOB_LOST, why);
    announce_recalled(run);
}

/* How a job ended that nobody saw end is an inference where the graph shows it. */
static void settle_same(struct run *run, bool is_inferred, const struct row *row)
{
    bool is_concluded = row->status == STATUS_CONCLUDED;

    forget_memory(run);
    run_feed_row(run, row);
    run->is_inferred = is_inferred || (is_concluded && run->compares);
    run->is_resumed = run->has_id && !is_concluded && !machine_is_over(&run->machine);
    announce_recalled(run);
}

void run_recall_by_row(struct run *run, const char *type, const struct row *row)
{
    const struct memory_rule *rule = memory_judge_row(run->memory, type, row);

    run->row_asked = false;
    if (rule->verdict == RUN_IS_LOST)
        settle_lost(run, rule->text);
    else
        settle_same(run, rule->verdict == RUN_FITS, row);
}

static void settle_gone(struct run *run, const struct memory_rule *rule)
{
    if (rule->verdict == COMPARE_NOW) {
        run_vacate(run);
        run->compares = true;
        return;
    }
    if (rule->verdict == RUN_IS_LOST) {
        settle_lost(run, rule->text);
        return;
    }
    forget_memory(run);
    run->is_inferred = true;
    if (rule->verdict == RUN_PIVOTED)
        machine_pivoted_unseen(&run->machine);
    else
        machine_cancelled_unseen(&run->machine);
    announce_recalled(run);
}

/* Its end came before the list: only the outcome may be missing. */
static void settle_ended(struct run *run)
{
    run->is_inferred = !memory_is_certain(run->memory);
    forget_memory(run);
    machine_reconnected_absent(&run->machine);
    announce_recalled(run);
}

void run_recall_by_absence(struct run *run)
{
    bool can_compare = machine_may_switch(&run->machine) && run->snapshot == SNAPSHOT_HELD;

    if (machine_has_end(&run->machine))
        settle_ended(run);
    else
        settle_gone(run, memory_judge_absence(run->memory, can_compare));
}

void run_recall_by_graph(struct run *run, enum disk_switch seen)
{
    settle_gone(run, memory_judge_graph(run->memory, seen));
}

void run_recall_by_end(struct run *run)
{
    bool is_lost = machine_outcome(&run->machine) == BJ_OUTCOME_LOST;

    run->is_inferred = !is_lost && !memory_is_certain(run->memory);
    forget_memory(run);
    announce_recalled(run);
}

static bool is_terminal(const struct fact *fact)
{
    return fact->kind == FACT_COMPLETED || fact->kind == FACT_CANCELLED ||
           (fact->kind == FACT_STATUS && status_has_any(fact->status, CLOSED));
}

bool run_doubts_fact(const struct run *run, const struct fact *fact)
{
    return run->memory && run->memory->peer != PEER_SAME && !memory_is_certain(run->memory) &&
           is_terminal(fact);
}

void run_drop_doubtful(struct run *run)
{
    settle_lost(run, "a job of its id ended before it was known whether it is the same one");
}

void run_forget_recalled(struct run *run)
{
    forget_memory(run);
    run->announcement = UNOBSERVED;
}
