/* SPDX-License-Identifier: MIT */
/*
 * Backups that start as one, and what becomes of each.
 */
#include "nodes.h"

#include <stdlib.h>

/* An action that backs the disk `from` up to `to`, with more members. */
#define BACKUP(from, to, more)                                                                     \
    "{\"type\": \"blockdev-backup\", \"data\": {\"device\": \"" from "\", \"target\": \"" to       \
    "\", \"sync\": \"full\"" more "}}"
#define SLOW ", \"speed\": 1"

static void add_pair(world *w, const char *disk, const char *copy)
{
    add_disk(w, disk);
    add_empty(w, copy);
}

static void add_pairs(world *w)
{
    add_pair(w, "one", "copy1");
    add_pair(w, "two", "copy2");
}

static bj_future *begin(world *w, const char *actions, int flags)
{
    return hold(w, bj_monitor_transaction(w->monitor, actions, flags, BJ_TIMEOUT_NONE));
}

static bj_job *job_at(world *w, bj_future *begun, size_t index)
{
    return hold_job(w, bj_future_job_at(begun, index));
}

static bj_future *done(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
}

static void b43_several_jobs_start_as_one(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *begun = begin(w, "[" BACKUP("one", "copy1", "") ", " BACKUP("two", "copy2", "") "]",
                             BJ_TRANSACTION_EACH);
    answers(begun, BJ_OK);
    assert_int_equal(bj_future_job_count(begun), 2);
    assert_null(bj_future_job_at(begun, 2));
    assert_null(bj_future_job(begun));

    for (size_t i = 0; i < 2; i++) {
        bj_job *job = job_at(w, begun, i);
        assert_string_equal(bj_job_type(job), "backup");
        assert_memory_equal(bj_job_id(job), "bj-", 3);
        ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
    }
    assert_true(same_data(w, "one", "copy1"));
    assert_true(same_data(w, "two", "copy2"));
    assert_int_equal(count_jobs(w), 0); /* B40 */
}

static void b43_each_has_a_fate_of_its_own(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *begun =
        begin(w, "[" BACKUP("one", "copy1", SLOW) ", " BACKUP("two", "copy2", "") "]",
              BJ_TRANSACTION_EACH);
    answers(begun, BJ_OK);
    bj_job *first = job_at(w, begun, 0), *second = job_at(w, begun, 1);
    ends(done(w, second), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(bj_job_outcome(first), BJ_OUTCOME_NONE);

    expect_end(w, bj_job_abort(first, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_job_outcome(second), BJ_OUTCOME_COMPLETED);
}

static void b43_of_a_group_one_that_is_cancelled_cancels_the_others(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *begun =
        begin(w, "[" BACKUP("one", "copy1", SLOW) ", " BACKUP("two", "copy2", SLOW) "]",
              BJ_TRANSACTION_GROUPED);
    answers(begun, BJ_OK);
    bj_future *first = done(w, job_at(w, begun, 0));
    bj_future *second = done(w, job_at(w, begun, 1));
    expect_end(w, bj_job_abort(job_at(w, begun, 1), BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_CANCELLED);

    ends(first, BJ_OK, BJ_OUTCOME_CANCELLED); /* B16 */
    ends(second, BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_int_equal(count_jobs(w), 0);
}

static void b43_of_a_group_one_that_fails_cancels_the_others(void **state)
{
    world *w = *state;
    add_pair(w, "one", "copy1");
    add_disk(w, "two");
    add_failing(w, "bad", "write");
    bj_future *begun = begin(w, "[" BACKUP("one", "copy1", SLOW) ", " BACKUP("two", "bad", "") "]",
                             BJ_TRANSACTION_GROUPED);
    answers(begun, BJ_OK);

    ends(done(w, job_at(w, begun, 0)), BJ_OK, BJ_OUTCOME_CANCELLED);
    names(ends(done(w, job_at(w, begun, 1)), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED),
          "Input/output error");
    assert_int_equal(count_jobs(w), 0);
}

static void b43_a_group_ends_together(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *begun =
        begin(w, "[" BACKUP("one", "copy1", SLOW) ", " BACKUP("two", "copy2", "") "]",
              BJ_TRANSACTION_GROUPED);
    answers(begun, BJ_OK);
    bj_job *first = job_at(w, begun, 0), *second = job_at(w, begun, 1);
    await_status(w, bj_job_id(second), "waiting");
    assert_int_equal(bj_job_outcome(second), BJ_OUTCOME_NONE);
    expect(w, bj_job_set_speed(first, 0, BJ_TIMEOUT_NONE), BJ_OK);

    ends(done(w, first), BJ_OK, BJ_OUTCOME_COMPLETED);
    ends(done(w, second), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void b41_refused_none_of_the_jobs_is_left(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *refused = begin(
        w,
        "[" BACKUP("one", "copy1", ", \"job-id\": \"first\"") ", " BACKUP("two", "missing", "") "]",
        BJ_TRANSACTION_EACH);
    names(answers(refused, BJ_E_REFUSED), "missing");
    assert_string_equal(bj_future_error_class(refused), "GenericError");
    assert_int_equal(bj_future_job_count(refused), 0);

    bj_future *begun = begin(w, "[" BACKUP("one", "copy1", ", \"job-id\": \"first\"") "]", 0);
    answers(begun, BJ_OK); /* the node and the id are free */
    bj_job *job = job_at(w, begun, 0);
    assert_string_equal(bj_job_id(job), "first");
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(count_jobs(w), 0);
}

/* What starts no job is left as it is, an integer beyond any double too. */
static void b43_actions_that_start_no_job(void **state)
{
    world *w = *state;
    add_pairs(w);
    const char *actions =
        "[ {\"type\": \"block-dirty-bitmap-add\",\n \"data\": {\"node\": \"one\", \"name\": \"b0\","
        " \"granularity\": 65536}},\t" BACKUP("one", "copy1", "") "]";
    bj_future *begun = answers(begin(w, actions, BJ_TRANSACTION_EACH), BJ_OK);
    assert_int_equal(bj_future_job_count(begun), 1);
    ends(done(w, job_at(w, begun, 0)), BJ_OK, BJ_OUTCOME_COMPLETED);

    qmp(w, "block-dirty-bitmap-remove", JSON({"node": "one", "name": "b0"})); /* it is there */
    begun = answers(begin(w, "[]", BJ_TRANSACTION_EACH), BJ_OK);
    assert_int_equal(bj_future_job_count(begun), 0);
}

static void b40_an_explicit_auto_dismiss_is_the_callers(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *begun = answers(
        begin(w, "[" BACKUP("one", "copy1", ", \"auto-dismiss\": false, \"job-id\": \"mine\"") "]",
              BJ_TRANSACTION_GROUPED),
        BJ_OK);
    bj_job *job = job_at(w, begun, 0);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(status_of(w, "mine"), "concluded");
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(count_jobs(w), 0);
}

static void b08_a_group_of_a_transactions_jobs(void **state)
{
    world *w = *state;
    add_pairs(w);
    bj_future *begun =
        answers(begin(w, "[" BACKUP("one", "copy1", SLOW) ", " BACKUP("two", "copy2", SLOW) "]",
                      BJ_TRANSACTION_GROUPED),
                BJ_OK);
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    hold_group(w, group);
    for (size_t i = 0; i < bj_future_job_count(begun); i++)
        assert_int_equal(bj_group_add(group, job_at(w, begun, i)), BJ_OK);

    expect_end(w, bj_group_abort(group, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_CANCELLED);
    expect(w, bj_group_done(group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(count_jobs(w), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b43_several_jobs_start_as_one),
        TEST(b43_each_has_a_fate_of_its_own),
        TEST(b43_of_a_group_one_that_is_cancelled_cancels_the_others),
        TEST(b43_of_a_group_one_that_fails_cancels_the_others),
        TEST(b43_a_group_ends_together),
        TEST(b41_refused_none_of_the_jobs_is_left),
        TEST(b43_actions_that_start_no_job),
        TEST(b40_an_explicit_auto_dismiss_is_the_callers),
        TEST(b08_a_group_of_a_transactions_jobs),
    };
    return run_on_both(tests);
}
