/* SPDX-License-Identifier: MIT */
/*
 * The job machine with pivots that are held back until a group is ready.
 */
#include "machine_fixture.h"

static seat *held(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_PIVOT, .held = true});
}

static void unhold(fixture *m, seat *s)
{
    machine_unhold(&m->machine, &s->waiter);
    fixture_check(m);
}

static void b08_nothing_is_sent_for_a_held_pivot(void **state)
{
    fixture *m = *state;
    seat *p = held(m);
    assert_false(machine_can_pivot(&m->machine));
    feed(m, TO_READY);
    assert_true(machine_can_pivot(&m->machine));
    assert_waiting(p);
    assert_said(m, "READY");

    unhold(m, p);
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
    assert_outcome(m, BJ_OUTCOME_PIVOTED);
}

static void b08_one_let_go_before_ready_waits_for_it(void **state)
{
    fixture *m = *state;
    seat *p = held(m);
    unhold(m, p);
    feed(m, TO_READY);
    assert_said(m, "complete READY");
    feed(m, "+complete " END_OK);
    assert_answered(p, BJ_OK);
}

static void b07_one_that_leaves_wants_nothing(void **state)
{
    fixture *m = *state;
    seat *p = held(m);
    seat *other = held(m);
    feed(m, TO_READY);
    leave(m, p);
    forget_said(m);
    assert_said(m, "");
    unhold(m, other);
    assert_said(m, "complete");
    feed(m, "+complete " END_OK);
    assert_answered(other, BJ_OK);
}

static void b32_it_shares_the_complete_of_another(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = held(m);
    seat *other = pivot(m);
    assert_true(machine_can_pivot(&m->machine)); /* it is under way */
    unhold(m, p);
    feed(m, "+complete " END_OK);

    assert_answered(p, BJ_OK);
    assert_answered(other, BJ_OK);
    assert_said(m, "READY complete ENDED RELEASED");
}

static void b33_the_refusal_of_anothers_complete_is_not_its_own(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = held(m);
    seat *other = pivot(m);
    feed(m, "-complete tick");
    assert_answered(other, BJ_E_REFUSED);
    assert_waiting(p);
    assert_true(machine_can_pivot(&m->machine));

    unhold(m, p);
    feed(m, "-complete tick");
    assert_answered(p, BJ_E_REFUSED);
    feed(m, END_CANCELLED);
}

static void b13_it_is_told_of_every_standstill(void **state)
{
    fixture *m = *state;
    seat *by_error = held(m);
    feed(m, "~created ~running ERROR(stop)");
    assert_answered(by_error, BJ_E_STALLED);
    feed(m, "~paused ~running ~ready READY ~standby");
    seat *by_nobody = held(m);
    assert_false(machine_can_pivot(&m->machine));
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "tick");
    assert_answered(by_nobody, BJ_E_STALLED);
    feed(m, "~ready PENDING");
    assert_answered(held(m), BJ_E_STALLED);
}

static void b09_it_is_told_of_every_end(void **state)
{
    fixture *m = *state;
    seat *p = held(m);
    feed(m, "~created ~running " END_CANCELLED);
    assert_answered(p, BJ_E_JOB_ENDED);
    assert_answered(held(m), BJ_E_JOB_ENDED);
}

static void b34_it_is_refused_while_an_abort_is_under_way(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *before = held(m);
    seat *a = abort_job(m, BJ_ABORT_SOFT);
    assert_false(machine_can_pivot(&m->machine));
    assert_answered(held(m), BJ_E_STATE);
    feed(m, "+cancel " END_OK " unswitched");
    assert_answered(a, BJ_OK);
    assert_answered(before, BJ_E_JOB_ENDED);
}

static void b45_it_waits_for_the_connection(void **state)
{
    fixture *m = *state;
    feed(m, TO_READY);
    seat *p = held(m);
    feed(m, "disconnected");
    assert_false(machine_can_pivot(&m->machine));
    assert_waiting(p);
    feed(m, "@ready");
    assert_true(machine_can_pivot(&m->machine));

    feed(m, "disconnected not-found");
    assert_answered(p, BJ_E_JOB_LOST);
}

#define on_a_mirror(test) cmocka_unit_test_setup_teardown(test, mirror_setup, fixture_teardown)

/* C115: QEMU may have taken another's complete before a cut, and that one has left. */
static void b46_one_let_go_with_a_complete_in_doubt_has_the_doubt_settled(void **state)
{
    fixture *m = *state;
    seat *p = held(m);
    seat *other = pivot(m);
    feed(m, TO_READY " disconnected");
    leave(m, other);
    feed(m, "@ready");
    assert_int_equal(m->stall_timer, 0);
    unhold(m, p);
    assert_int_equal(m->stall_timer, STALL_MS);
    feed(m, "tick");
    forget_said(m);
    feed(m, "=ready");
    assert_said(m, "complete");
}

/* C115: where no event reports a pause, whoever is held back wants to learn of it as well. */
static void b58_one_held_back_is_polled_for(void **state)
{
    fixture *m = *state;
    assert_false(machine_awaits_movement(&m->machine));
    seat *p = held(m);
    assert_true(machine_awaits_movement(&m->machine));
    unhold(m, p);
    assert_true(machine_awaits_movement(&m->machine));
    leave(m, p);
    assert_false(machine_awaits_movement(&m->machine));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_a_mirror(b08_nothing_is_sent_for_a_held_pivot),
        on_a_mirror(b08_one_let_go_before_ready_waits_for_it),
        on_a_mirror(b07_one_that_leaves_wants_nothing),
        on_a_mirror(b32_it_shares_the_complete_of_another),
        on_a_mirror(b33_the_refusal_of_anothers_complete_is_not_its_own),
        on_a_mirror(b13_it_is_told_of_every_standstill),
        on_a_mirror(b09_it_is_told_of_every_end),
        on_a_mirror(b34_it_is_refused_while_an_abort_is_under_way),
        on_a_mirror(b45_it_waits_for_the_connection),
        on_a_mirror(b46_one_let_go_with_a_complete_in_doubt_has_the_doubt_settled),
        on_a_mirror(b58_one_held_back_is_polled_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
