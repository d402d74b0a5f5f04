/* SPDX-License-Identifier: MIT */
/*
 * Groups of mirrors whose disks have guests: all are switched, or none.
 */
#include "nodes.h"

#define COUNT 3

static const char *const disks[COUNT] = {"one", "two", "three"};
static const char *const copies[COUNT] = {"copy1", "copy2", "copy3"};

/* Mirrors of disks that each have a guest, and their group. */
typedef struct trio {
    bj_group *group;
    bj_job *jobs[COUNT];
} trio;

/* A guest is an NBD client; whose disk is the node that its export has now. */
static void add_guests(world *w)
{
    qmp(w, "nbd-server-start",
        JSON({"addr": {"type": "unix", "data": {"path": "%s"}}}), path_of(w, "guests.sock"));
    for (int i = 0; i < COUNT; i++)
        qmp(w, "block-export-add",
            JSON({"type": "nbd", "id": "%s", "name": "%s", "node-name": "%s",
                                    "writable": true}),
                 disks[i], disks[i], disks[i]);
}

static const char *node_of_guest(world *w, int guest)
{
    json_t *exports = qmp(w, "query-block-exports", NULL);
    size_t i;
    json_t *export;
    const char *found = "";
    json_array_foreach(exports, i, export)
    {
        if (strcmp(json_string_value(json_object_get(export, "id")), disks[guest]) == 0)
            found = text_of(w, "%s", json_string_value(json_object_get(export, "node-name")));
    }
    return found;
}

static void assert_all_switched(world *w)
{
    for (int i = 0; i < COUNT; i++)
        assert_string_equal(node_of_guest(w, i), copies[i]);
}

/* While a mirror runs its filter stands above the disk. */
static void assert_none_switched(world *w)
{
    for (int i = 0; i < COUNT; i++)
        assert_string_not_equal(node_of_guest(w, i), copies[i]);
}

/* The disks are there, with guests; the targets are the test's. */
static void add_disks(world *w)
{
    for (int i = 0; i < COUNT; i++)
        add_disk(w, disks[i]);
    add_guests(w);
}

/* All but the last run by themselves; that one has `options`. */
static trio start_trio(world *w, const char *options)
{
    trio t = {0};
    assert_int_equal(bj_group_new(w->ctx, &t.group), BJ_OK);
    hold_group(w, t.group);
    for (int i = 0; i < COUNT; i++) {
        t.jobs[i] = mirror(w, disks[i], copies[i], i == COUNT - 1 ? options : NULL);
        assert_int_equal(bj_group_add(t.group, t.jobs[i]), BJ_OK);
    }
    return t;
}

static trio start_usual_trio(world *w)
{
    add_disks(w);
    for (int i = 0; i < COUNT; i++)
        add_empty(w, copies[i]);
    return start_trio(w, HALTED_EARLY);
}

static void others_ready(world *w, const trio *t)
{
    expect(w, bj_job_ready(t->jobs[0], BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_ready(t->jobs[1], BJ_TIMEOUT_NONE), BJ_OK);
}

static void let_run(world *w, bj_job *job)
{
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
}

static bj_future *pivot(world *w, const trio *t)
{
    return hold(w, bj_group_pivot(t->group, BJ_TIMEOUT_NONE));
}

static void decided_by(bj_future *future, bj_job *job)
{
    bj_job *decider = bj_future_job(future);
    bj_job_unref(decider);
    assert_ptr_equal(decider, job);
}

/* And when QEMU has let go of all mirrors, the filters are gone. */
static void assert_all_are_back(world *w, const trio *t)
{
    bj_future *end = hold(w, bj_group_done(t->group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(end, BJ_TIMEOUT_NONE), BJ_OK);
    for (int i = 0; i < COUNT; i++)
        assert_string_equal(node_of_guest(w, i), disks[i]);
    assert_int_equal(count_jobs(w), 0);
}

static void assert_outcomes(const trio *t, bj_outcome others, bj_outcome last)
{
    assert_int_equal(bj_job_outcome(t->jobs[0]), others);
    assert_int_equal(bj_job_outcome(t->jobs[1]), others);
    assert_int_equal(bj_job_outcome(t->jobs[2]), last);
}

static void b08_all_are_pivoted_once_the_last_is_ready(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    bj_future *ready = hold(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE));
    bj_future *pivoting = pivot(w, &t);
    others_ready(w, &t);
    assert_none_switched(w);
    assert_int_equal(bj_future_error(ready), BJ_E_PENDING);
    assert_int_equal(bj_future_error(pivoting), BJ_E_PENDING);
    let_run(w, t.jobs[2]);

    answers(ready, BJ_OK);
    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_group_done(t.group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_all_switched(w);
    for (int i = 0; i < COUNT; i++)
        assert_true(same_data(w, disks[i], copies[i]));
    assert_int_equal(count_jobs(w), 0);
}

static void b08_one_that_fails_leaves_all_disks_as_they_are(void **state)
{
    world *w = *state;
    add_disks(w);
    add_empty(w, copies[0]);
    add_empty(w, copies[1]);
    add_failing(w, copies[2], "write");
    trio t = start_trio(w, HALTED_EARLY);
    bj_future *pivoting = pivot(w, &t);
    others_ready(w, &t);
    let_run(w, t.jobs[2]);

    names(ends(pivoting, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "Input/output error");
    decided_by(pivoting, t.jobs[2]);
    assert_outcomes(&t, BJ_OUTCOME_COPIED, BJ_OUTCOME_FAILED);
    assert_all_are_back(w, &t);
}

static void b13_one_that_stands_still_leaves_all_disks_as_they_are(void **state)
{
    world *w = *state;
    add_disks(w);
    add_empty(w, copies[0]);
    add_empty(w, copies[1]);
    add_failing_once(w, copies[2], "write");
    trio t = start_trio(w, JSON({"speed": 1, "buf-size": 65536, "on-target-error": "stop"}));
    bj_future *pivoting = pivot(w, &t);
    others_ready(w, &t);
    let_run(w, t.jobs[2]);

    ends(pivoting, BJ_E_STALLED, BJ_OUTCOME_NONE);
    decided_by(pivoting, t.jobs[2]);
    assert_outcomes(&t, BJ_OUTCOME_COPIED, BJ_OUTCOME_NONE);
    assert_none_switched(w);

    /* It is its owner's to mend. */
    expect(w, bj_job_resume(t.jobs[2], BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(t.jobs[2], BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(node_of_guest(w, 2), copies[2]);
}

static void b13_what_stands_still_is_rolled_back_by_force(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    others_ready(w, &t);
    expect(w, bj_job_pause(t.jobs[0], BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pause(t.jobs[1], BJ_TIMEOUT_NONE), BJ_OK);
    await_status(w, bj_job_id(t.jobs[1]), "standby");
    bj_future *pivoting = pivot(w, &t);

    answers(pivoting, BJ_E_STALLED);
    decided_by(pivoting, t.jobs[0]);
    assert_int_equal(bj_job_outcome(t.jobs[0]), BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_outcome(t.jobs[1]), BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_job_outcome(t.jobs[2]), BJ_OUTCOME_CANCELLED);
    assert_none_switched(w);
}

static void b16_one_that_another_client_cancels_leaves_all_disks(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    bj_future *pivoting = pivot(w, &t);
    others_ready(w, &t);
    qmp(w, "job-cancel", JSON({"id": "%s"}), bj_job_id(t.jobs[2]));

    ends(pivoting, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
    assert_outcomes(&t, BJ_OUTCOME_COPIED, BJ_OUTCOME_CANCELLED);
    assert_all_are_back(w, &t);
}

static void b06_after_a_deadline_nothing_is_switched(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    others_ready(w, &t);
    names(expect(w, bj_group_pivot(t.group, 20), BJ_E_TIMEOUT), "1 of 3 jobs not ready");
    let_run(w, t.jobs[2]);
    expect(w, bj_group_ready(t.group, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);

    assert_outcomes(&t, BJ_OUTCOME_NONE, BJ_OUTCOME_NONE);
    assert_none_switched(w);
    ends(pivot(w, &t), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_all_switched(w);
}

static void b08_abort_all(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    others_ready(w, &t);
    expect(w, bj_group_abort(t.group, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);

    assert_outcomes(&t, BJ_OUTCOME_COPIED, BJ_OUTCOME_CANCELLED);
    assert_all_are_back(w, &t);
    assert_true(same_data(w, disks[0], copies[0]));
}

static void b37_abort_all_async(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    expect(w, bj_group_abort(t.group, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    assert_all_are_back(w, &t);
}

static void b08_any_is_the_first_that_is_over(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    others_ready(w, &t);
    bj_future *any = hold(w, bj_group_any(t.group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
    expect(w, bj_job_pivot(t.jobs[1], BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    ends(any, BJ_OK, BJ_OUTCOME_PIVOTED);
    decided_by(any, t.jobs[1]);
    assert_string_equal(node_of_guest(w, 1), copies[1]);
}

static void b08_one_that_was_pivoted_before_goes_along(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    bj_future *pivoting = pivot(w, &t);
    others_ready(w, &t);
    expect(w, bj_job_pivot(t.jobs[0], BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    let_run(w, t.jobs[2]);

    ends(pivoting, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_all_switched(w);
}

static void b45_a_qemu_that_dies_answers_groups(void **state)
{
    world *w = *state;
    trio t = start_usual_trio(w);
    bj_future *pivoting = pivot(w, &t);
    bj_future *end = hold(w, bj_group_done(t.group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
    others_ready(w, &t);
    kill_qemu(w);

    ends(pivoting, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(end, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b08_all_are_pivoted_once_the_last_is_ready),
        TEST(b08_one_that_fails_leaves_all_disks_as_they_are),
        TEST(b13_one_that_stands_still_leaves_all_disks_as_they_are),
        TEST(b13_what_stands_still_is_rolled_back_by_force),
        TEST(b16_one_that_another_client_cancels_leaves_all_disks),
        TEST(b06_after_a_deadline_nothing_is_switched),
        TEST(b08_abort_all),
        TEST(b37_abort_all_async),
        TEST(b08_any_is_the_first_that_is_over),
        TEST(b08_one_that_was_pivoted_before_goes_along),
        TEST(b45_a_qemu_that_dies_answers_groups),
    };
    return run_on_both(tests);
}
