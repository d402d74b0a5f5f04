/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of the block graph: few queries, however many jobs there are, and never before a verb.
 */
#include "fake.h"

#define GRAPH_QUERY "x-debug-query-block-graph"
#define MANY 20

static void start_many(world *w, bj_job **jobs)
{
    for (int i = 0; i < MANY; i++)
        jobs[i] = mirror(w, text_of(w, "disk%d", i), text_of(w, "copy%d", i),
                         text_of(w, "{\"job-id\": \"job%d\"}", i));
}

static void complete_by_another(world *w, int i)
{
    step(w, JSON({"do": "ready", "job": "job%d"}), i);
    step(w, JSON({"do": "execute", "command": "job-complete", "arguments": {"id": "job%d"}}), i);
}

static void b29_one_query_of_the_graph_serves_all_jobs_that_wait_for_it(void **state)
{
    world *w = *state;
    bj_job *jobs[MANY];
    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph"}));
    start_many(w, jobs);
    assert_int_equal(times_sent(w, GRAPH_QUERY), 1);

    step(w, JSON({"do": "release"}));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, GRAPH_QUERY), 2);

    /* The second one has shown the disks of all but the first. */
    for (int i = 0; i < MANY; i++) {
        complete_by_another(w, i);
        expect_end(w, bj_job_done(jobs[i], BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK,
                   BJ_OUTCOME_PIVOTED);
    }
}

static void b15_the_comparisons_at_many_ends_are_few_queries(void **state)
{
    world *w = *state;
    bj_job *jobs[MANY];
    start_many(w, jobs);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    int before = times_sent(w, GRAPH_QUERY);

    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph"}));
    for (int i = 0; i < MANY; i++)
        complete_by_another(w, i);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK); /* all ends have been read */
    step(w, JSON({"do": "release"}));

    for (int i = 0; i < MANY; i++)
        expect_end(w, bj_job_done(jobs[i], BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK,
                   BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, GRAPH_QUERY), before + 2);
}

/* C21: what ends right after the attach can be compared. And nothing that is queued delays it. */
static void b15_attach_answers_when_the_graph_was_seen(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "query-version"}));
    bj_future *held =
        hold(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE));
    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph"}));
    step(w, JSON({"do": "execute", "command": "blockdev-mirror",
                  "arguments": {"job-id": "theirs", "device": "disk0", "target": "copy0",
                                "sync": "full"}}));
    bj_future *attached = hold(w, bj_monitor_attach(w->monitor, "theirs", BJ_TIMEOUT_NONE));
    await_sent(w, GRAPH_QUERY);
    assert_false(bj_future_is_done(attached));

    step(w, JSON({"do": "release", "command": "x-debug-query-block-graph"}));
    bj_job *job = hold_job(w, bj_future_job(answers(attached, BJ_OK)));
    step(w, JSON({"do": "ready", "job": "theirs"}));
    step(w, JSON({"do": "execute", "command": "job-complete", "arguments": {"id": "theirs"}}));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_false(bj_future_is_done(held));
}

static void b29_the_snapshot_of_a_started_job_comes_after_all_commands(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "query-version"}));
    bj_future *held =
        hold(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE));
    bj_job *job = mirror(w, "disk0", "copy0", NULL);
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, GRAPH_QUERY), 0);

    step(w, JSON({"do": "release"}));
    answers(held, BJ_OK);
    await_sent(w, GRAPH_QUERY);
}

static void b45_a_connection_that_ends_ends_the_snapshots(void **state)
{
    world *w = *state;
    bj_job *jobs[MANY];
    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph"}));
    start_many(w, jobs);

    step(w, JSON({"do": "die"}));

    for (int i = 0; i < MANY; i++)
        expect_end(w, bj_job_done(jobs[i], BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_LOST,
                   BJ_OUTCOME_LOST);
}

static void b71_snapshots_under_way_are_given_up_at_close(void **state)
{
    world *w = *state;
    bj_job *jobs[MANY];
    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph"}));
    start_many(w, jobs);

    bj_monitor_close(w->monitor);

    for (int i = 0; i < MANY; i++)
        expect(w, bj_job_done(jobs[i], BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b15_the_comparisons_at_many_ends_are_few_queries),
        FAKE_TEST(b29_one_query_of_the_graph_serves_all_jobs_that_wait_for_it),
        FAKE_TEST(b29_the_snapshot_of_a_started_job_comes_after_all_commands),
        FAKE_TEST(b15_attach_answers_when_the_graph_was_seen),
        FAKE_TEST(b45_a_connection_that_ends_ends_the_snapshots),
        FAKE_TEST(b71_snapshots_under_way_are_given_up_at_close),
    };
    return run_on_fake(tests);
}
