/* SPDX-License-Identifier: MIT */
/*
 * Why libvirt has refused a verb.
 */
#include "verdict.h"

#include "cmocka_all.h"

enum { OTHER_CODE = 1 };

/* A pivot, or an abort, that libvirt calls not valid. */
static void check_both(struct aftermath after, enum verdict pivot, enum verdict abort)
{
    const int code = VERDICT_CODE_OPERATION_INVALID;
    assert_int_equal(verdict_of(JUDGE_PIVOT, code, &after), pivot);
    assert_int_equal(verdict_of(JUDGE_ABORT, code, &after), abort);
}

static void c30_another_client_is_ending_the_job(void **state)
{
    (void)state;
    check_both((struct aftermath){true, true, true}, VERDICT_ENDING, VERDICT_ENDING);
    check_both((struct aftermath){true, true, false}, VERDICT_ENDING, VERDICT_ENDING);
    /* A pull has no mirror that shows it, and no pivot. */
    check_both((struct aftermath){true, false, true}, VERDICT_REFUSED, VERDICT_ENDING);
}

static void c30_the_job_has_ended_meanwhile(void **state)
{
    (void)state;
    check_both((struct aftermath){true, false, false}, VERDICT_NO_SUCH_JOB, VERDICT_NO_SUCH_JOB);
}

static void c30_what_could_not_be_asked_is_refused(void **state)
{
    (void)state;
    check_both((struct aftermath){0}, VERDICT_REFUSED, VERDICT_REFUSED);
}

static void c30_only_a_verb_that_ends_a_job_is_looked_into(void **state)
{
    (void)state;
    const int invalid = VERDICT_CODE_OPERATION_INVALID;
    assert_true(verdict_needs_aftermath(JUDGE_PIVOT, invalid));
    assert_true(verdict_needs_aftermath(JUDGE_ABORT, invalid));
    assert_false(verdict_needs_aftermath(JUDGE_SPEED, invalid));
    assert_false(verdict_needs_aftermath(JUDGE_PIVOT, OTHER_CODE));
    assert_int_equal(verdict_of(JUDGE_SPEED, invalid, NULL), VERDICT_REFUSED);
    assert_int_equal(verdict_of(JUDGE_ABORT, OTHER_CODE, NULL), VERDICT_REFUSED);
}

static void c30_an_invalid_argument_is_a_disk_without_a_job(void **state)
{
    (void)state;
    for (int verb = JUDGE_PIVOT; verb <= JUDGE_SPEED; verb++)
        assert_int_equal(verdict_of((enum verdict_verb)verb, VERDICT_CODE_INVALID_ARG, NULL),
                         VERDICT_NO_SUCH_JOB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c30_an_invalid_argument_is_a_disk_without_a_job),
        cmocka_unit_test(c30_another_client_is_ending_the_job),
        cmocka_unit_test(c30_only_a_verb_that_ends_a_job_is_looked_into),
        cmocka_unit_test(c30_the_job_has_ended_meanwhile),
        cmocka_unit_test(c30_what_could_not_be_asked_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
