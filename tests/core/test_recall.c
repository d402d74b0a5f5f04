/* SPDX-License-Identifier: MIT */
/*
 * What became of a remembered run: every combination of what is known, against the rules said once
 * more in other words.
 */
#include "model/memory.h"
#include "model/tables.h"

#include "cmocka_all.h"

#include <string.h>

#define CONDITIONS 18

/* As the explorers do it, for explore_mutations.py. */
static void promise(bool is_kept, const char *rule)
{
    if (is_kept)
        return;
    print_message("  BROKEN: %s\n", rule);
    fail();
}

static const char as_said[] = "the rules are as they are said";
static const char proved[] = "a success is proved";
static const char goes_on[] = "a job goes on if nothing speaks against it";
#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool has(unsigned conditions, unsigned any)
{
    return (conditions & any) != 0;
}

static enum memory_verdict of_listed(unsigned c)
{
    if (has(c, BEGAN_LATER))
        return RUN_IS_LOST;
    if (has(c, BEGAN_BEFORE))
        return RUN_GOES_ON;
    if (has(c, IS_OTHER_TYPE | IS_OTHER_SIZE | HAS_DONE_LESS | IS_UNREADY | IS_EARLIER))
        return RUN_IS_LOST;
    if (has(c, HAS_UNIQUE_ID) || !has(c, IS_UNKNOWN_PEER))
        return RUN_GOES_ON;
    return has(c, FITS) ? RUN_FITS : RUN_IS_LOST;
}

static enum memory_verdict of_gone(unsigned c)
{
    if (has(c, IS_UNKNOWN_PEER))
        return RUN_IS_LOST;
    if (has(c, HAS_SWITCHED))
        return RUN_PIVOTED;
    if (has(c, WAS_CANCELLED))
        return RUN_CANCELLED;
    return has(c, MAY_SWITCH) && !has(c, WAS_LOOKED_AT | HAS_NOT_SWITCHED) ? COMPARE_NOW
                                                                           : RUN_IS_LOST;
}

static enum memory_verdict expected(unsigned c)
{
    if (has(c, IS_REBOOTED | IS_OTHER_PEER))
        return RUN_IS_LOST;
    return has(c, IS_LISTED) ? of_listed(c) : of_gone(c);
}

static void c13_every_combination_of_conditions(void **state)
{
    (void)state;
    bool reached[64] = {false};

    assert_true(memory_rule_count <= COUNT(reached));
    for (unsigned c = 0; c < 1u << CONDITIONS; c++) {
        const struct memory_rule *rule = memory_rule(c);
        promise(rule->verdict == expected(c), as_said);
        assert_int_equal(rule->text != NULL, rule->verdict == RUN_IS_LOST);
        reached[rule - memory_rules] = true;
    }
    for (size_t i = 0; i < memory_rule_count; i++)
        promise(reached[i], "each rule applies to something");
}

/* ------------------------------------------------------------------------ rows */

static const char *const types[] = {"", "mirror", "backup"};
static const int64_t dones[] = {-1, 0, 5, 9}, totals[] = {-1, 0, 10, 20};
static const unsigned facts[] = {
    0, MEMORY_READY, MEMORY_DONE, MEMORY_ABORTING, MEMORY_UNIQUE, MEMORY_OURS};
static const enum same_peer peers[] = {PEER_SAME, PEER_OTHER, PEER_REBOOTED, PEER_UNKNOWN};

static bool speaks_against(const struct memory *m, const char *type, const struct row *row)
{
    bool at_work = status_has_any(row->status, AT_WORK);
    bool shows_ready = row->ready || status_has_any(row->status, SHOWS_READY);
    bool grows = strcmp(type, "backup") != 0;
    bool both_sizes = m->total > 0 && row->total > 0;

    return (*m->type && *type && strcmp(m->type, type) != 0) ||
           (row->current >= 0 && m->current > row->current) ||
           (m->facts == MEMORY_READY && !shows_ready && (at_work || row->status == STATUS_NONE)) ||
           (has(m->facts, MEMORY_DONE | MEMORY_ABORTING) && at_work) ||
           (both_sizes && row->total > m->total && !grows) ||
           (both_sizes && row->total < m->total && m->current > 0);
}

static enum memory_verdict of_row(const struct memory *m, const char *type, const struct row *row)
{
    bool all_known =
        *m->type && *type && m->total > 0 && row->total > 0 && m->current >= 0 && row->current >= 0;

    if (m->peer == PEER_OTHER || m->peer == PEER_REBOOTED || speaks_against(m, type, row))
        return RUN_IS_LOST;
    if (m->peer == PEER_SAME || m->facts == MEMORY_UNIQUE)
        return RUN_GOES_ON;
    return all_known ? RUN_FITS : RUN_IS_LOST;
}

static void try_rows(struct memory *m, const char *type)
{
    struct row row = {0};

    for (row.status = STATUS_NONE; row.status <= STATUS_CONCLUDED; row.status++)
        for (int ready = 0; ready < 2; ready++)
            for (size_t d = 0; d < COUNT(dones); d++)
                for (size_t t = 0; t < COUNT(totals); t++) {
                    row.ready = ready;
                    row.current = dones[d];
                    row.total = totals[t];
                    promise(memory_judge_row(m, type, &row)->verdict == of_row(m, type, &row),
                            goes_on);
                }
}

static void try_memories(struct memory *m)
{
    for (size_t was = 0; was < COUNT(types); was++)
        for (size_t is = 0; is < COUNT(types); is++)
            for (size_t d = 0; d < COUNT(dones); d++)
                for (size_t t = 0; t < COUNT(totals); t++) {
                    m->type = types[was];
                    m->current = dones[d];
                    m->total = totals[t];
                    try_rows(m, types[is]);
                }
}

static void c13_every_row(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(facts); f++)
        for (size_t p = 0; p < COUNT(peers); p++)
            try_memories(&(struct memory){.facts = facts[f], .peer = peers[p]});
}

/* ------------------------------------------------------------------ no row */

static void c13_a_success_is_proved(void **state)
{
    (void)state;
    for (unsigned f = 0; f <= MEMORY_ALL; f++)
        for (size_t p = 0; p < COUNT(peers); p++) {
            struct memory m = {.facts = f, .type = "mirror", .peer = peers[p]};
            bool cancelled = has(f, MEMORY_ABORTING) &&
                             has(f, MEMORY_CANCEL_TAKEN | MEMORY_FORCE_TAKEN) &&
                             m.peer == PEER_SAME;
            enum memory_verdict unproved = cancelled ? RUN_CANCELLED : RUN_IS_LOST;
            enum memory_verdict switched = m.peer == PEER_SAME ? RUN_PIVOTED : RUN_IS_LOST;

            promise(memory_judge_graph(&m, SWITCHED)->verdict == switched, proved);
            promise(memory_judge_graph(&m, NOT_SWITCHED)->verdict == unproved, proved);
            promise(memory_judge_graph(&m, SWITCH_UNKNOWN)->verdict == unproved, proved);
            promise(memory_judge_graph(&m, SWITCH_UNCLEAR)->verdict == unproved, proved);
            promise(memory_judge_absence(&m, false)->verdict == unproved, proved);
        }
}

static void c13_a_verb_that_was_accepted_is_only_believed_of_that_run(void **state)
{
    (void)state;
    assert_true(memory_is_certain(&(struct memory){.facts = MEMORY_UNIQUE, .peer = PEER_UNKNOWN}));
    assert_true(memory_is_certain(&(struct memory){.facts = MEMORY_OURS, .peer = PEER_SAME}));
    assert_false(memory_is_certain(&(struct memory){.facts = MEMORY_OURS, .peer = PEER_UNKNOWN}));
    assert_false(memory_is_certain(&(struct memory){.facts = MEMORY_READY, .peer = PEER_SAME}));
}

/* -------------------------------------------------------------------- the peer */

static enum same_peer compare(struct identity now)
{
    return identity_compare(&(struct identity){"boot", "7.1", "7.2", "1@/a"}, &now);
}

static void c13_which_qemu_it_is(void **state)
{
    (void)state;
    assert_int_equal(compare((struct identity){"boot", "7.1", "7.2", "1@/a"}), PEER_SAME);
    assert_int_equal(compare((struct identity){"boot", "7.1", "7.2", "2@/b"}), PEER_SAME);
    assert_int_equal(compare((struct identity){"boot", "7.1", "7.2", ""}), PEER_SAME);
    assert_int_equal(compare((struct identity){"boot", "7.1", "7.2", "2@/a"}), PEER_OTHER);
    assert_int_equal(compare((struct identity){"boot", "7.2", "7.2", "1@/a"}), PEER_OTHER);
    assert_int_equal(compare((struct identity){"boot", "7.1", "8.0", "1@/a"}), PEER_OTHER);
    assert_int_equal(compare((struct identity){"root", "7.1", "7.2", "1@/a"}), PEER_REBOOTED);
    assert_int_equal(compare((struct identity){"", "", "7.2", "1@/a"}), PEER_UNKNOWN);
    assert_int_equal(compare((struct identity){"boot", "", "7.2", "1@/a"}), PEER_UNKNOWN);
    assert_int_equal(compare((struct identity){"", "", "", ""}), PEER_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c13_a_success_is_proved),
        cmocka_unit_test(c13_a_verb_that_was_accepted_is_only_believed_of_that_run),
        cmocka_unit_test(c13_every_combination_of_conditions),
        cmocka_unit_test(c13_every_row),
        cmocka_unit_test(c13_which_qemu_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
