/* SPDX-License-Identifier: MIT */
#include "model/tables.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

#ifdef COUNT_ROWS
unsigned long rows_reached[TABLE_COUNT][ROWS_MAX];
#endif

/* ----------------------------------------------------------------- statuses */

static const struct {
    const char *name;
    unsigned traits;
} statuses[STATUS_COUNT] = {
    [STATUS_NONE] = {"", 0},
    [STATUS_CREATED] = {"created", AT_WORK},
    [STATUS_RUNNING] = {"running", AT_WORK | MOVES},
    [STATUS_PAUSED] = {"paused", AT_WORK | STILL},
    [STATUS_READY] = {"ready", AT_WORK | MOVES | SHOWS_READY},
    [STATUS_STANDBY] = {"standby", AT_WORK | STILL | SHOWS_READY},
    [STATUS_WAITING] = {"waiting", MOVES | DONE},
    [STATUS_PENDING] = {"pending", MOVES | DONE},
    [STATUS_ABORTING] = {"aborting", CLOSED},
    [STATUS_CONCLUDED] = {"concluded", CLOSED},
    [STATUS_NULL] = {"null", CLOSED},
};

const char *job_status_name(enum status status)
{
    return statuses[status].name;
}

enum status job_status_of(const char *name)
{
    for (int s = STATUS_CREATED; s <= STATUS_NULL; s++)
        if (strcmp(name, statuses[s].name) == 0)
            return (enum status)s;
    return STATUS_NONE;
}

bool status_has_any(enum status status, unsigned traits)
{
    return (statuses[status].traits & traits) != 0;
}

enum taking verb_taking(enum verb verb, enum status status)
{
    static const enum taking table[][STATUS_COUNT] = {
        /* none, created, running, paused, ready, standby, waiting, pending, aborting, concluded,
         * null */
        [VERB_COMPLETE] = {NOW, NOW, NOW, LATER, NOW, LATER, NEVER, NEVER, NEVER, NEVER, NEVER},
        [VERB_CANCEL] = {NOW, NOW, NOW, NOW, NOW, NOW, NOW, NOW, NEVER, NEVER, NEVER},
        [VERB_FORCE] = {NOW, NOW, NOW, NOW, NOW, NOW, NOW, NOW, NEVER, NEVER, NEVER},
    };
    REACHED(VERB_TABLE, verb * STATUS_COUNT + status);
    return table[verb][status];
}

/* --------------------------------------------------------------------- ends */

/* A mirror or an active commit may have switched the disk or not: COMPLETED alone does not say
 * (B14). Where it was not our complete it may have been another client's, even if QEMU accepted our
 * cancel after it: then the block graph decides (B15).
 *
 * Where nobody uses the disk the graph shows nothing, and our accepted soft cancel is believed.
 * That another client's complete came just before it can't be excluded, but to say so would spoil
 * each backup of an unused disk. */
const struct outcome_rule outcome_rules[] = {
    {END_FAILED, 0, .outcome = BJ_OUTCOME_FAILED},
    {END_CANCELLED, 0, .outcome = BJ_OUTCOME_CANCELLED},
    {END_COMPLETED, NEVER_SWITCHES, .outcome = BJ_OUTCOME_COMPLETED},
    /* also after a late force on 5.2 (B17) */
    {END_COMPLETED, COMPLETE_TAKEN, .outcome = BJ_OUTCOME_PIVOTED},
    {END_COMPLETED, SAW_SWITCH, .outcome = BJ_OUTCOME_PIVOTED},
    {END_COMPLETED, SAW_NO_SWITCH, .outcome = BJ_OUTCOME_COPIED},
    {END_COMPLETED, SAW_NO_TARGET, .outcome = BJ_OUTCOME_COMPLETED},
    {END_COMPLETED, SAW_NEITHER, .outcome = BJ_OUTCOME_COMPLETED, .unknown = true},
    {END_COMPLETED, CANNOT_COMPARE | ONLY_ABORT_SENT, .outcome = BJ_OUTCOME_COPIED},
    {END_COMPLETED, CANNOT_COMPARE, .outcome = BJ_OUTCOME_COMPLETED, .unknown = true},
    {END_COMPLETED, REPLY_OUT, .then = WAIT_FOR_REPLY}, /* it says which verb it was (B02) */
    {END_COMPLETED, IS_AWAY, .then = WAIT_FOR_REPLY},
    {END_COMPLETED, COMPARING, .then = WAIT_FOR_REPLY},
    {END_COMPLETED, 0, .then = COMPARE_GRAPH},
};
const size_t outcome_rule_count = COUNT(outcome_rules);

const struct outcome_rule *outcome_rule(enum end end, unsigned conditions)
{
    const struct outcome_rule *rule = outcome_rules;
    while (rule->end != end || (rule->when & conditions) != rule->when)
        rule++;
    REACHED(OUTCOME_TABLE, rule - outcome_rules);
    return rule;
}

/* Without a terminal event the statuses on the way decide. A job that completes or fails has an
 * event in every QEMU, and it comes before the first list without the job: where a QEMU reports no
 * cancellation, what is gone without an event was cancelled (B57). */
const struct vanishing_rule vanishing_rules[] = {
    {VANISHED_NULL, HAS_GAP, END_NONE, "it vanished, and its end was not seen"},
    {VANISHED_NULL, WAS_ABORTING | ABORT_TAKEN, END_CANCELLED, NULL},
    {VANISHED_NULL, WAS_ABORTING, END_FAILED, "it was aborted, and QEMU gave no reason"},
    {VANISHED_NULL, WAS_DONE, END_COMPLETED, NULL},
    {VANISHED_NULL, ABORT_TAKEN, END_CANCELLED, NULL},
    {VANISHED_NULL, 0, END_NONE, "it vanished, and its end was not seen"},
    {VANISHED_UNLISTED, NO_CANCEL_EVENT, END_CANCELLED, NULL},
    {VANISHED_UNLISTED, 0, END_NONE, "it is gone, and its end was not seen"}, /* B10 */
    {VANISHED_AWAY, 0, END_NONE,
     "it vanished while there was no connection to QEMU, and its end was not seen"},
};
const size_t vanishing_rule_count = COUNT(vanishing_rules);

const struct vanishing_rule *vanishing_rule(enum vanishing how, unsigned conditions)
{
    const struct vanishing_rule *rule = vanishing_rules;
    while (rule->how != how || (rule->when & conditions) != rule->when)
        rule++;
    REACHED(VANISHING_TABLE, rule - vanishing_rules);
    return rule;
}

/* ---------------------------------------------------------------- questions */

int answer_when_over(enum question question, bj_outcome outcome)
{
    enum { OK = BJ_OK, ENDED = BJ_E_JOB_ENDED, FAILED = BJ_E_JOB_FAILED, LOST = BJ_E_JOB_LOST };
    static const int table[QUESTION_COUNT][BJ_OUTCOME_LOST] = {
        /* COMPLETED, PIVOTED, COPIED, CANCELLED, FAILED, LOST */
        /* Unless READY was seen. What has pivoted was ready, seen or not; what is COPIED need not
         * have been: QEMU 1.7 completes an empty mirror without READY. */
        [ASK_READY] = {ENDED, OK, ENDED, ENDED, FAILED, LOST},
        [ASK_DONE] = {OK, OK, OK, OK, FAILED, LOST},
        [ASK_RELEASED] = {OK, OK, OK, OK, FAILED, LOST},
        [ASK_PIVOT] = {ENDED, OK, ENDED, ENDED, FAILED, LOST},
        [ASK_ABORT] = {OK, OK, OK, OK, OK, LOST},
        [ASK_FINISH] = {OK, OK, ENDED, ENDED, FAILED, LOST}, /* COMPLETED: unless IS_UNCLEAR */
        [ASK_VERB] = {OK, OK, OK, OK, FAILED, LOST}, /* finalize, which waits for the outcome */
    };
    unsigned column = outcome - BJ_OUTCOME_COMPLETED;
    REACHED(ANSWER_TABLE, question * BJ_OUTCOME_LOST + column);
    return table[question][column];
}

int async_flag(enum question question)
{
    static const int flags[QUESTION_COUNT] = {
        [ASK_PIVOT] = BJ_PIVOT_ASYNC,
        [ASK_ABORT] = BJ_ABORT_ASYNC,
    };
    return flags[question];
}

int released_flag(enum question question)
{
    static const int flags[QUESTION_COUNT] = {
        [ASK_RELEASED] = BJ_DONE_RELEASED,
        [ASK_PIVOT] = BJ_PIVOT_RELEASED,
        [ASK_ABORT] = BJ_ABORT_RELEASED,
        [ASK_FINISH] = BJ_FINISH_RELEASED,
    };
    return flags[question];
}

/* Nobody who paused it will resume it after an I/O error: those who wait for ready or the end must
 * know as well. A job that is stalled neither carries out a pivot nor takes a soft cancel; and
 * pending waits for finalize, where only a soft cancel that is sent then ends the job. */
enum when_stalled when_stalled(enum question question, enum stall stall)
{
    static const enum when_stalled table[QUESTION_COUNT][STALL_PENDING] = {
        /* paused, stopped by an error, pending */
        [ASK_READY] = {NEVER_STALLED, UNLESS_ABORTED, NEVER_STALLED},
        [ASK_DONE] = {NEVER_STALLED, UNLESS_ABORTED, NEVER_STALLED},
        [ASK_RELEASED] = {NEVER_STALLED, UNLESS_ABORTED, NEVER_STALLED},
        [ASK_PIVOT] = {STALLED, STALLED, STALLED},
        [ASK_ABORT] = {UNLESS_ENDING, UNLESS_ENDING, IF_CANCELLED_BEFORE},
        [ASK_FINISH] = {STALLED, STALLED, STALLED},
        [ASK_VERB] = {NEVER_STALLED, NEVER_STALLED, NEVER_STALLED},
    };
    unsigned column = stall - STALL_PAUSED;
    REACHED(STALL_TABLE, question * STALL_PENDING + column);
    return table[question][column];
}
