/* SPDX-License-Identifier: MIT */
/*
 * The job machine that begins with what is remembered of it.
 */
#include "machine_fixture.h"
#include "model/memory.h"

static const unsigned of_ours = MEMORY_READY | MEMORY_OURS;

static void recall(fixture *m, unsigned facts, enum same_peer peer)
{
    become(m, a_mirror);
    machine_recall(&m->machine, &(struct memory){.facts = facts, .type = "mirror", .peer = peer});
    forget_said(m);
}

static void c13_our_complete_that_was_accepted_is_a_pivot(void **state)
{
    fixture *m = *state;
    recall(m, of_ours | MEMORY_COMPLETE_TAKEN, PEER_SAME);
    feed(m, "@concluded");
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
    assert_said(m, "ENDED dismiss");
}

static void c13_so_it_is_of_an_id_that_was_made_up(void **state)
{
    fixture *m = *state;
    recall(m, of_ours | MEMORY_UNIQUE | MEMORY_COMPLETE_TAKEN, PEER_UNKNOWN);
    feed(m, "@concluded");
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void c13_else_the_graph_decides(void **state)
{
    fixture *m = *state;
    recall(m, of_ours | MEMORY_COMPLETE_TAKEN, PEER_UNKNOWN);
    feed(m, "@concluded");
    assert_said(m, "graph");
    feed(m, "unswitched");
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void c13_and_without_one_nothing_is_believed(void **state)
{
    fixture *m = *state;
    recall(m, MEMORY_READY | MEMORY_COMPLETE_TAKEN, PEER_SAME); /* theirs */
    feed(m, "@concluded unseen");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void c13_nor_is_a_cancel(void **state)
{
    fixture *m = *state;
    recall(m, MEMORY_READY | MEMORY_CANCEL_TAKEN, PEER_SAME);
    feed(m, "@concluded unseen");
    assert_outcome(m, BJ_OUTCOME_COMPLETED);
}

static void c13_our_cancel_that_was_accepted_is_a_copy(void **state)
{
    fixture *m = *state;
    recall(m, of_ours | MEMORY_CANCEL_TAKEN, PEER_SAME);
    feed(m, "@concluded unseen");
    assert_outcome(m, BJ_OUTCOME_COPIED);
}

static void c13_a_complete_that_was_accepted_is_not_sent_again(void **state)
{
    fixture *m = *state;
    recall(m, of_ours | MEMORY_COMPLETE_TAKEN, PEER_SAME);
    feed(m, "@ready");
    seat *p = pivot(m);
    assert_waiting(p);
    assert_int_equal(m->flying[VERB_COMPLETE], 0);
    feed(m, END_OK);
    assert_answered(p, BJ_OK);
}

static void c13_a_complete_without_a_reply_is_sent_again_when_it_had_time(void **state)
{
    fixture *m = *state;
    recall(m, of_ours | MEMORY_COMPLETE_SENT, PEER_SAME);
    feed(m, "@ready");
    seat *p = pivot(m);
    assert_int_equal(m->flying[VERB_COMPLETE], 0);
    tick(m);
    feed(m, "=ready");
    assert_int_equal(m->flying[VERB_COMPLETE], 1);
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void c13_what_is_remembered_is_what_was(void **state)
{
    fixture *m = *state;
    for (unsigned facts = 0; facts <= MEMORY_ALL; facts++) {
        /* Of a verb one of the two is remembered. */
        if ((facts & MEMORY_UNIQUE) || (facts & (facts >> 3) & 0x38))
            continue;
        recall(m, facts, PEER_SAME);
        unsigned taken = MEMORY_COMPLETE_TAKEN | MEMORY_CANCEL_TAKEN | MEMORY_FORCE_TAKEN;
        unsigned doubted = facts & MEMORY_OURS ? 0 : facts & taken;
        assert_int_equal(machine_memory(&m->machine), (facts & ~doubted) | doubted >> 3);
    }
}

static void c13_it_ended_unseen(void **state)
{
    fixture *m = *state;
    recall(m, of_ours, PEER_SAME);
    machine_pivoted_unseen(&m->machine);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
    assert_said(m, "ENDED RELEASED");

    recall(m, of_ours, PEER_SAME);
    m->outcome = BJ_OUTCOME_NONE;
    machine_cancelled_unseen(&m->machine);
    assert_outcome(m, BJ_OUTCOME_CANCELLED);
    assert_said(m, "ENDED RELEASED");
}

static void c13_an_end_that_is_heard_before_the_list(void **state)
{
    fixture *m = *state;
    recall(m, MEMORY_READY, PEER_SAME);
    feed(m, "COMPLETED ~concluded ~null");
    assert_outcome(m, BJ_OUTCOME_NONE);
    machine_reconnected_absent(&m->machine);
    feed(m, "switched");
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

int main(void)
{
#define on_a_mirror(test) cmocka_unit_test_setup_teardown(test, mirror_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        on_a_mirror(c13_a_complete_that_was_accepted_is_not_sent_again),
        on_a_mirror(c13_a_complete_without_a_reply_is_sent_again_when_it_had_time),
        on_a_mirror(c13_an_end_that_is_heard_before_the_list),
        on_a_mirror(c13_and_without_one_nothing_is_believed),
        on_a_mirror(c13_nor_is_a_cancel),
        on_a_mirror(c13_else_the_graph_decides),
        on_a_mirror(c13_it_ended_unseen),
        on_a_mirror(c13_our_cancel_that_was_accepted_is_a_copy),
        on_a_mirror(c13_our_complete_that_was_accepted_is_a_pivot),
        on_a_mirror(c13_so_it_is_of_an_id_that_was_made_up),
        on_a_mirror(c13_what_is_remembered_is_what_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
