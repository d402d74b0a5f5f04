/* SPDX-License-Identifier: MIT */
#define COUNT_ROWS
#include "explore_tables.h"
#include "model/tables.h"

#include <stdio.h>

static const struct {
    unsigned condition;
    const char *text;
} conditions[] = {
    {IS_AWAY, "the connection is being made again"},
    {HAS_GAP, "events were missed, and no list has shown it at work since"},
    {COMPARING, "the block graph is being compared"},
    {NEVER_SWITCHES, "neither a mirror nor ready, and READY was not missed"},
    {COMPLETE_TAKEN, "our complete was accepted"},
    {WAS_ABORTING, "it was aborting"},
    {WAS_DONE, "it was waiting or pending"},
    {ABORT_TAKEN, "an abort was accepted"},
    {REPLY_OUT, "a complete or a cancel has no reply yet"},
    {NO_CANCEL_EVENT, "this QEMU has no event for a cancel"},
    {SAW_SWITCH, "the graph shows that the disk was switched"},
    {SAW_NO_SWITCH, "the graph shows that it was not"},
    {SAW_NO_TARGET, "the graph shows an intermediate commit"},
    {SAW_NEITHER, "the disk had users, and the graph shows neither"},
    {CANNOT_COMPARE, "the graph cannot be compared, or nobody used the disk"},
    {ONLY_ABORT_SENT, "an abort was accepted, and no complete was ever sent"},
};

static const char *const ends[] = {"none", "COMPLETED", "CANCELLED", "FAILED"};
static const char *const verbs[] = {"complete, of a ready job", "cancel", "force"};
static const char *const questions[] = {
    "ready", "done", "released", "pivot", "abort", "finish", "a verb of its own",
};
static const char *const vanishings[] = {"its status became null", "a job list lacks it",
                                         "so does the first list of a new connection"};
static const char *const stall_columns[] = {"paused", "stopped by an error", "pending"};

enum { VERBS = 3, VANISHINGS = 3, OUTCOMES = BJ_OUTCOME_LOST, STALLS = STALL_PENDING };

/* ----------------------------------------------------------------- printing */

static void print_header(const char *first, const char *const *names, int count)
{
    printf("| %s |", first);
    for (int i = 0; i < count; i++)
        printf(" %s |", names[i]);
    printf("\n|---|");
    for (int i = 0; i < count; i++)
        printf("---|");
    printf("\n");
}

static void print_when(unsigned when)
{
    const char *separator = "";
    for (size_t i = 0; i < sizeof conditions / sizeof *conditions; i++)
        if (when & conditions[i].condition) {
            printf("%s%s", separator, conditions[i].text);
            separator = "; ";
        }
    printf(when ? " |" : "else |");
}

static void print_verbs(void)
{
    static const char *const words[] = {[NOW] = "yes", [LATER] = "later", [NEVER] = "never"};
    const char *names[STATUS_COUNT];

    for (int s = 0; s < STATUS_COUNT; s++)
        names[s] = s == STATUS_NONE ? "unknown" : job_status_name((enum status)s);
    print_header("verb", names, STATUS_COUNT);
    for (int v = 0; v < VERBS; v++) {
        printf("| %s |", verbs[v]);
        for (int s = 0; s < STATUS_COUNT; s++)
            printf(" %s |", words[verb_taking((enum verb)v, (enum status)s)]);
        printf("\n");
    }
}

static void print_outcomes(void)
{
    print_header("terminal event", (const char *const[]){"the first that holds", "outcome"}, 2);
    for (size_t i = 0; i < outcome_rule_count; i++) {
        const struct outcome_rule *rule = &outcome_rules[i];
        printf("| %s | ", ends[rule->end]);
        print_when(rule->when);
        if (rule->then == DECIDED)
            printf(" %s%s |\n", bj_outcome_name(rule->outcome),
                   rule->unknown ? ", and whether the disk was switched is unknown" : "");
        else
            printf(" %s |\n", rule->then == COMPARE_GRAPH ? "compare the graph" : "wait");
    }
}

static void print_vanishings(void)
{
    print_header("how it vanished", (const char *const[]){"the first that holds", "end"}, 2);
    for (size_t i = 0; i < vanishing_rule_count; i++) {
        const struct vanishing_rule *rule = &vanishing_rules[i];
        printf("| %s | ", vanishings[rule->how]);
        print_when(rule->when);
        printf(" %s |\n", rule->end == END_NONE ? "LOST" : ends[rule->end]);
    }
}

static void print_answers(void)
{
    const char *names[OUTCOMES];
    for (int o = 0; o < OUTCOMES; o++)
        names[o] = bj_outcome_name((bj_outcome)(o + BJ_OUTCOME_COMPLETED));
    print_header("question", names, OUTCOMES);
    for (int q = 0; q < QUESTION_COUNT; q++) {
        printf("| %s |", questions[q]);
        for (int o = 0; o < OUTCOMES; o++) {
            bj_outcome outcome = (bj_outcome)(o + BJ_OUTCOME_COMPLETED);
            printf(" %s |", bj_error_name(answer_when_over((enum question)q, outcome)));
        }
        printf("\n");
    }
}

static void print_stalls(void)
{
    static const char *const words[] = {
        [NEVER_STALLED] = "–",
        [STALLED] = "STALLED",
        [UNLESS_ENDING] = "unless an accepted abort ends the job",
        [UNLESS_ABORTED] = "unless an abort that ends the job was sent",
        [IF_CANCELLED_BEFORE] = "if the cancel was accepted before",
    };
    print_header("question", stall_columns, STALLS);
    for (int q = 0; q < QUESTION_COUNT; q++) {
        printf("| %s |", questions[q]);
        for (int s = 0; s < STALLS; s++)
            printf(" %s |", words[when_stalled((enum question)q, (enum stall)(s + STALL_PAUSED))]);
        printf("\n");
    }
}

void tables_print(void)
{
    printf("### When QEMU takes a verb\n\n");
    print_verbs();
    printf("\n### How a run has ended\n\n");
    print_outcomes();
    printf("\n### How a run without a terminal event has ended\n\n");
    print_vanishings();
    printf("\n### What a question gets from a run that is over\n\n");
    print_answers();
    printf("\n### When a question is answered STALLED\n\n");
    print_stalls();
}

/* ----------------------------------------------------------------- coverage */

static void name_verb(int row)
{
    printf("%s in %s", verbs[row / STATUS_COUNT],
           job_status_name((enum status)(row % STATUS_COUNT)));
}

static void name_outcome(int row)
{
    printf("%s, ", ends[outcome_rules[row].end]);
    print_when(outcome_rules[row].when);
}

static void name_vanishing(int row)
{
    printf("%s, ", vanishings[vanishing_rules[row].how]);
    print_when(vanishing_rules[row].when);
}

static void name_answer(int row)
{
    printf("%s of a run that is %s", questions[row / OUTCOMES],
           bj_outcome_name((bj_outcome)(row % OUTCOMES + BJ_OUTCOME_COMPLETED)));
}

static void name_stall(int row)
{
    printf("%s of a run that is %s", questions[row / STALLS], stall_columns[row % STALLS]);
}

/* What no QEMU shows that keeps its rules. The library must have an answer all the same; the unit
 * tests ask for it. */
static const struct {
    enum table table;
    int row;
} unreachable[] = {
    /* a job that was ready is neither created nor paused again */
    {VERB_TABLE, VERB_COMPLETE *STATUS_COUNT + STATUS_CREATED},
    {VERB_TABLE, VERB_COMPLETE *STATUS_COUNT + STATUS_PAUSED},
    /* how it ended is reported before it is concluded, and it is over before it is null */
    {VERB_TABLE, VERB_COMPLETE *STATUS_COUNT + STATUS_CONCLUDED},
    {VERB_TABLE, VERB_COMPLETE *STATUS_COUNT + STATUS_NULL},
    {VERB_TABLE, VERB_CANCEL *STATUS_COUNT + STATUS_NULL},
    {VERB_TABLE, VERB_FORCE *STATUS_COUNT + STATUS_NULL},
    /* before null it was done or aborting, unless events were missed */
    {VANISHING_TABLE, 4},
    {VANISHING_TABLE, 5},
    /* only a list that is cut or wrong lacks a job whose end was not reported */
    {VANISHING_TABLE, 7},
    /* what can be ready was ready before it is pending */
    {STALL_TABLE, ASK_READY *STALLS + STALL_PENDING - STALL_PAUSED},
};

static bool is_unreachable(enum table table, int row)
{
    for (size_t i = 0; i < sizeof unreachable / sizeof *unreachable; i++)
        if (unreachable[i].table == table && unreachable[i].row == row)
            return true;
    return false;
}

int tables_report(void)
{
    const struct {
        int rows;
        void (*name)(int row);
    } tables[TABLE_COUNT] = {
        [VERB_TABLE] = {VERBS * STATUS_COUNT, name_verb},
        [OUTCOME_TABLE] = {(int)outcome_rule_count, name_outcome},
        [VANISHING_TABLE] = {(int)vanishing_rule_count, name_vanishing},
        [ANSWER_TABLE] = {QUESTION_COUNT * OUTCOMES, name_answer},
        [STALL_TABLE] = {QUESTION_COUNT * STALLS, name_stall},
    };
    int all = 0, wrong = 0;

    for (int t = 0; t < TABLE_COUNT; t++)
        for (int row = 0; row < tables[t].rows; row++) {
            bool reached = rows_reached[t][row] > 0;
            bool expected = !is_unreachable((enum table)t, row);
            all += expected;
            if (reached == expected)
                continue;
            wrong++;
            printf(reached ? "  REACHED ALL THE SAME: " : "  NOT REACHED: ");
            tables[t].name(row);
            printf("\n");
        }
    printf("tables: %d rows that must be reached, %d wrong\n", all, wrong);
    return wrong;
}
