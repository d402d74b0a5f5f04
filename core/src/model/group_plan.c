/* SPDX-License-Identifier: MIT */
/*
 * The tables and the few steps of a wait on several jobs; see group_plan.h.
 */
#include "model/group_plan.h"

/* -------------------------------------------------------------------- tables */

enum kind { IS_OK, IS_STALLED, IS_OTHER_ERROR };

/* What an answer does to the group. All but the last matter only if none has decided before. */
enum weight {
    NOTHING,
    DECIDES,
    ROLLS_BACK, /* it decides, and the others are aborted */
    ENDS,       /* it decides at once */
    OVERRULES   /* the same, whatever has decided before */
};

/* One that stands still overrules for done: then not all will be over. */
static const enum weight weights[GROUP_GOALS][IS_OTHER_ERROR + 1] = {
    [GROUP_READY] = {[IS_STALLED] = ENDS, [IS_OTHER_ERROR] = ENDS},
    [GROUP_DONE] = {[IS_STALLED] = OVERRULES, [IS_OTHER_ERROR] = DECIDES},
    [GROUP_ANY] = {[IS_OK] = ENDS, [IS_STALLED] = ENDS, [IS_OTHER_ERROR] = ENDS},
    [GROUP_ABORT] = {[IS_STALLED] = DECIDES, [IS_OTHER_ERROR] = DECIDES},
    [GROUP_PIVOT] = {[IS_STALLED] = ROLLS_BACK, [IS_OTHER_ERROR] = ROLLS_BACK},
    [GROUP_SWITCH] = {[IS_STALLED] = DECIDES, [IS_OTHER_ERROR] = DECIDES},
};

static const enum group_goal next_goal[] = {
    [ROLLS_BACK] = GROUP_ROLLBACK,
    [ENDS] = GROUP_OVER,
    [OVERRULES] = GROUP_OVER,
};

/* What is due for a part. What stands still takes no soft abort. */
static const enum group_act acts[GROUP_GOALS][PART_STAGES] = {
    [GROUP_READY] = {[PART_NEW] = GROUP_ASK},
    [GROUP_DONE] = {[PART_NEW] = GROUP_ASK},
    [GROUP_ANY] = {[PART_NEW] = GROUP_ASK},
    [GROUP_ABORT] = {[PART_NEW] = GROUP_ASK},
    [GROUP_PIVOT] = {[PART_NEW] = GROUP_ASK_HELD},
    [GROUP_SWITCH] = {[PART_HELD] = GROUP_LET_GO},
    [GROUP_ROLLBACK] = {[PART_NEW] = GROUP_ABORT_SOFT,
                        [PART_HELD] = GROUP_LEAVE,
                        [PART_IDLE] = GROUP_ABORT_SOFT,
                        [PART_UNABORTED] = GROUP_ABORT_FORCE},
    [GROUP_OVER] = {[PART_ASKED] = GROUP_LEAVE,
                    [PART_HELD] = GROUP_LEAVE,
                    [PART_ABORTED] = GROUP_LEAVE,
                    [PART_FORCED] = GROUP_LEAVE},
};

static const enum part_stage stage_after_act[GROUP_ACTS] = {
    [GROUP_ASK] = PART_ASKED,  [GROUP_ASK_HELD] = PART_HELD,      [GROUP_LET_GO] = PART_ASKED,
    [GROUP_LEAVE] = PART_IDLE, [GROUP_ABORT_SOFT] = PART_ABORTED, [GROUP_ABORT_FORCE] = PART_FORCED,
};

/* Of a part whose job goes on. */
static const enum part_stage stage_after_answer[PART_STAGES] = {
    [PART_ASKED] = PART_IDLE,
    [PART_HELD] = PART_IDLE,
    [PART_ABORTED] = PART_UNABORTED,
    [PART_FORCED] = PART_SETTLED,
};

/* --------------------------------------------------------------------- parts */

static bool owes_answer(const struct group_part *part)
{
    return acts[GROUP_OVER][part->stage] == GROUP_LEAVE;
}

static void move_to(struct group_plan *plan, struct group_part *part, enum part_stage stage)
{
    plan->owed -= owes_answer(part);
    part->stage = stage;
    plan->owed += owes_answer(part);
}

static void turn_to(struct group_plan *plan, enum group_goal goal)
{
    plan->goal = goal;
    plan->cursor = plan->first;
}

void group_plan_add(struct group_plan *plan, struct group_part *part)
{
    if (plan->last)
        plan->last->next = part;
    else
        plan->first = part;
    plan->last = part;
}

void group_plan_begin(struct group_plan *plan, enum group_goal goal)
{
    turn_to(plan, goal);
}

/* --------------------------------------------------------------------- facts */

static void decide(struct group_plan *plan, struct group_part *part, int error)
{
    plan->decider = part;
    plan->error = error;
}

void group_plan_unfit(struct group_plan *plan, struct group_part *part, bj_outcome outcome)
{
    part->outcome = outcome;
    decide(plan, part, BJ_E_STATE);
    turn_to(plan, GROUP_OVER);
}

static enum weight weigh(const struct group_plan *plan, int error)
{
    enum kind kind = error == BJ_OK ? IS_OK : error == BJ_E_STALLED ? IS_STALLED : IS_OTHER_ERROR;
    enum weight weight = weights[plan->goal][kind];
    return plan->decider && weight != OVERRULES ? NOTHING : weight;
}

bool group_plan_answered(struct group_plan *plan, struct group_part *part, int error,
                         bj_outcome outcome)
{
    enum weight weight = weigh(plan, error);

    part->outcome = outcome;
    if (weight != NOTHING)
        decide(plan, part, error);
    if (weight >= ROLLS_BACK)
        turn_to(plan, next_goal[weight]);

    bool is_left_alone = outcome != BJ_OUTCOME_NONE || part == plan->decider;
    move_to(plan, part, is_left_alone ? PART_SETTLED : stage_after_answer[part->stage]);
    if (acts[plan->goal][part->stage] != GROUP_WAIT)
        plan->cursor = plan->first;
    return weight != NOTHING;
}

void group_plan_quit(struct group_plan *plan)
{
    plan->is_finished = true;
    turn_to(plan, GROUP_OVER);
}

/* -------------------------------------------------------------------- orders */

/* One that owes nothing has been pivoted by another caller. */
static bool all_could_be_sent(const struct group_plan *plan)
{
    for (const struct group_part *part = plan->first; part; part = part->next)
        if (owes_answer(part) && !part->can_pivot)
            return false;
    return true;
}

/* Nothing is due for any part. */
static bool turns(struct group_plan *plan)
{
    if (plan->goal == GROUP_OVER)
        return false;
    if (plan->owed == 0)
        turn_to(plan, GROUP_OVER);
    else if (plan->goal == GROUP_PIVOT && all_could_be_sent(plan))
        turn_to(plan, GROUP_SWITCH);
    else
        return false;
    return true;
}

static enum group_act act_due(struct group_plan *plan)
{
    do {
        for (; plan->cursor; plan->cursor = plan->cursor->next)
            if (acts[plan->goal][plan->cursor->stage] != GROUP_WAIT)
                return acts[plan->goal][plan->cursor->stage];
    } while (turns(plan));
    return plan->goal == GROUP_OVER && !plan->is_finished ? GROUP_FINISH : GROUP_WAIT;
}

struct group_order group_plan_next(struct group_plan *plan)
{
    enum group_act act = act_due(plan);

    if (plan->cursor)
        move_to(plan, plan->cursor, stage_after_act[act]);
    if (act == GROUP_FINISH)
        plan->is_finished = true;
    return (struct group_order){.act = act, .part = plan->cursor};
}

bj_outcome group_plan_outcome(const struct group_plan *plan)
{
    if (plan->decider)
        return plan->decider->outcome;
    for (const struct group_part *part = plan->first->next; part; part = part->next)
        if (part->outcome != plan->first->outcome)
            return BJ_OUTCOME_NONE;
    return plan->first->outcome;
}

bool group_plan_is_late(const struct group_plan *plan, const struct group_part *part)
{
    bool only_waits_for_others = plan->goal == GROUP_PIVOT && part->can_pivot;
    return plan->goal != GROUP_OVER && owes_answer(part) && !only_waits_for_others;
}
