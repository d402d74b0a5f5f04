/* SPDX-License-Identifier: MIT */
/*
 * QEMU dies, hangs, or belongs to someone else: nobody waits in vain, and nobody is told a tale.
 */
#include "nodes.h"
#include "records.h"

/* The waits of every kind on one job, and on its monitor. */
typedef struct waits {
    bj_future *ready, *done, *released, *pivot, *finish, *abort, *escalation, *command, *start,
        *attach;
    bj_future *list, *query, *pause, *closed;
    bj_watch *of_job, *of_monitor;
} waits;

/* With QEMU stopped, so that all of them are pending. */
static waits wait_for_everything(world *w, bj_job *job)
{
    stop_qemu(w);
    bj_monitor *m = w->monitor;
    return (waits){
        .of_job = watch_job(w, job, 0),
        .of_monitor = watch_monitor(w),
        .closed = hold(w, bj_monitor_closed(m)),
        .ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE)),
        .done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE)),
        .released = hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE)),
        .pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)),
        .pause = hold(w, bj_job_pause(job, BJ_TIMEOUT_NONE)),
        .finish = hold(w, bj_job_finish(job, BJ_FINISH_OVER, BJ_TIMEOUT_NONE)),
        .query = hold(w, bj_job_query(job, BJ_TIMEOUT_NONE)),
        .abort = hold(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE)),
        .escalation = hold(w, bj_job_abort_escalate(job, 60 * 1000, BJ_TIMEOUT_NONE)),
        .command = hold(w, bj_monitor_execute(m, "query-version", NULL, BJ_TIMEOUT_NONE)),
        .start = hold(w, bj_monitor_stream(m, "disk", NULL, BJ_TIMEOUT_NONE)),
        .attach = hold(w, bj_monitor_attach(m, "theirs", BJ_TIMEOUT_NONE)),
        .list = hold(w, bj_monitor_list(m, BJ_TIMEOUT_NONE)),
    };
}

static bj_job *halted_mirror(world *w)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    return mirror(w, "disk", "copy", HALTED_EARLY);
}

static void b45_killed_qemu_answers_every_wait(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    waits all = wait_for_everything(w, job);

    kill_qemu(w);

    ends(all.ready, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.released, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.abort, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.escalation, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    ends(all.finish, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    answers(all.pause, BJ_E_JOB_LOST);
    answers(all.query, BJ_E_DISCONNECTED);
    answers(all.command, BJ_E_DISCONNECTED);
    answers(all.start, BJ_E_DISCONNECTED);
    answers(all.attach, BJ_E_DISCONNECTED);
    answers(all.list, BJ_E_DISCONNECTED);
    names(answers(all.closed, BJ_E_DISCONNECTED), bj_monitor_uri(w->monitor));

    /* LOST for good, with the reason, also for who comes late. */
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_LOST);
    assert_string_not_equal(bj_job_text(job), "");
    ends(expect(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_E_JOB_LOST), BJ_E_JOB_LOST,
         BJ_OUTCOME_LOST);
    expect_end(w, bj_job_ready(job, 0), BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 0), BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, 0), BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);
    expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, 0), BJ_E_DISCONNECTED);
}

/* And of all other errors there is none. */
static void w09_a_job_is_lost_because_of_the_connection(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    waits all = wait_for_everything(w, job);
    assert_int_equal(bj_job_cause(job), BJ_OK);
    assert_int_equal(bj_future_cause(all.done), BJ_OK);

    kill_qemu(w);

    answers(all.done, BJ_E_JOB_LOST);
    assert_int_equal(bj_future_cause(all.done), BJ_E_DISCONNECTED);
    answers(all.pause, BJ_E_JOB_LOST);
    assert_int_equal(bj_future_cause(all.pause), BJ_E_DISCONNECTED);
    answers(all.command, BJ_E_DISCONNECTED);
    assert_int_equal(bj_future_cause(all.command), BJ_OK);

    const bj_record *record = next_record(all.of_job);
    while (record->kind != BJ_RECORD_ENDED)
        record = next_record(all.of_job);
    assert_int_equal(record->error, BJ_E_JOB_LOST);
    assert_int_equal(record->cause, BJ_E_DISCONNECTED);
    assert_int_equal(bj_job_cause(job), BJ_E_DISCONNECTED);
    bj_future *later = expect(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_E_JOB_LOST);
    assert_int_equal(bj_future_cause(later), BJ_E_DISCONNECTED);
}

static void w09_a_job_whose_monitor_was_closed_has_no_cause(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    bj_monitor_close(w->monitor);
    answers(done, BJ_E_CLOSED);
    assert_int_equal(bj_future_cause(done), BJ_OK);
    assert_int_equal(bj_job_cause(job), BJ_OK);
}

static void b62_killed_qemu_ends_every_watch(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    waits all = wait_for_everything(w, job);

    kill_qemu(w);

    assert_string_equal(news(w, all.of_job, BJ_RECORD_ENDED), "ENDED");
    const bj_record *closed = next_record(all.of_job);
    assert_int_equal(closed->kind, BJ_RECORD_CLOSED);
    assert_int_equal(closed->error, BJ_OK);

    assert_string_equal(news(w, all.of_monitor, BJ_RECORD_CLOSED), "CLOSED");
    const bj_record *none;
    assert_int_equal(bj_watch_next(all.of_monitor, 0, &none), BJ_E_CLOSED);
}

static void b10_a_pivot_under_way_when_qemu_dies_is_lost(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    stop_qemu(w);
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    kill_qemu(w);

    ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_job_ready(job, 0), BJ_OK);
}

static void b03_an_outcome_survives_qemu(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    kill_qemu(w);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, 0), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b16_quit_with_a_ready_mirror_is_told_truthfully(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    expect(w, bj_monitor_execute(w->monitor, "quit", NULL, BJ_TIMEOUT_DEFAULT), BJ_OK);

    /* QEMU's own event on the way out decides: it cancels from 6.2 on, before it completes (and
     * whether that is a switch can't be asked any more), and the old daemon says nothing. */
    const char *last = last_event_of(w, bj_job_id(job));
    if (strcmp(last, "BLOCK_JOB_CANCELLED") == 0)
        ends(done, BJ_OK, BJ_OUTCOME_CANCELLED);
    else if (strcmp(last, "BLOCK_JOB_COMPLETED") == 0)
        ends(done, BJ_OK, BJ_OUTCOME_COMPLETED);
    else
        ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

static void b48_a_stopped_qemu_is_met_by_deadlines(void **state)
{
    world *w = *state;
    bj_job *job = halted_mirror(w);
    stop_qemu(w);

    bj_future *command = hold(w, bj_monitor_execute(w->monitor, "query-version", NULL, 30));
    bj_future *query = hold(w, bj_job_query(job, 30));
    bj_future *pause = hold(w, bj_job_pause(job, 30));
    bj_future *list = hold(w, bj_monitor_list(w->monitor, 30));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, 30));
    names(answers(command, BJ_E_TIMEOUT), "query-version");
    names(answers(query, BJ_E_TIMEOUT), bj_monitor_uri(w->monitor));
    answers(pause, BJ_E_TIMEOUT);
    answers(list, BJ_E_TIMEOUT);
    names(answers(done, BJ_E_TIMEOUT), bj_job_id(job));

    /* The late replies go to nobody, and what comes after them goes where it belongs. */
    go_on_qemu(w);
    bj_future *nodes = bj_monitor_execute(w->monitor, "query-named-block-nodes", NULL, 60 * 1000);
    assert_int_equal(bj_future_json(expect(w, nodes, BJ_OK))[0], '[');
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b47_a_monitor_held_by_another_client(void **state)
{
    world *w = *state;
    const char *held = path_of(w, "second.qmp");
    bj_monitor *theirs = connect_to(w, held);

    bj_future *refused = expect(w, bj_monitor_connect(w->ctx, held, 50), BJ_E_TIMEOUT);
    names(refused, held);
    names(refused, "another client");
    names(refused, "-qmp");
    assert_null(bj_future_monitor(refused));

    bj_monitor_close(theirs);
    connect_to(w, held);
}

static void b47_a_held_monitor_with_a_full_backlog(void **state)
{
    world *w = *state;
    const char *held = path_of(w, "second.qmp");
    connect_to(w, held);
    bj_future *many[8];

    /* The kernel answers EAGAIN to some of these; it is the same to the caller. */
    for (int i = 0; i < 8; i++)
        many[i] = hold(w, bj_monitor_connect(w->ctx, held, 100));
    for (int i = 0; i < 8; i++)
        names(answers(many[i], BJ_E_TIMEOUT), held);
}

static void b47_a_held_monitor_becomes_free_in_time(void **state)
{
    world *w = *state;
    const char *held = path_of(w, "second.qmp");
    bj_monitor *theirs = connect_to(w, held);
    bj_future *first = hold(w, bj_monitor_connect(w->ctx, held, BJ_TIMEOUT_NONE));
    bj_future *second = hold(w, bj_monitor_connect(w->ctx, held, BJ_TIMEOUT_NONE));

    bj_monitor_close(theirs);
    answers(first, BJ_OK);
    bj_monitor_close(hold_monitor(w, bj_future_monitor(first)));
    answers(second, BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b03_an_outcome_survives_qemu),
        TEST(b10_a_pivot_under_way_when_qemu_dies_is_lost),
        TEST(b16_quit_with_a_ready_mirror_is_told_truthfully),
        TEST(b45_killed_qemu_answers_every_wait),
        TEST(w09_a_job_is_lost_because_of_the_connection),
        TEST(w09_a_job_whose_monitor_was_closed_has_no_cause),
        TEST(b47_a_monitor_held_by_another_client),
        TEST(b47_a_held_monitor_with_a_full_backlog),
        TEST(b47_a_held_monitor_becomes_free_in_time),
        TEST(b48_a_stopped_qemu_is_met_by_deadlines),
        TEST(b62_killed_qemu_ends_every_watch),
    };
    return run_on_both(tests);
}
