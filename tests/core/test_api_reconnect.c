/* SPDX-License-Identifier: MIT */
/*
 * Connections that end and are made again: waits go on, nothing is taken for what it is not, and
 * nothing is sent twice.
 */
#include "fake.h"
#include "peer.h"
#include "records.h"

#include <string.h>

static void reconnecting(world *w)
{
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

/* Until the watch has a record of that kind. */
static const bj_record *await_kind(bj_watch *watch, bj_record_kind kind)
{
    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != kind);
    return record;
}

static void go_away(world *w, bj_watch *watch)
{
    step(w, JSON({"do": "die"}));
    await_kind(watch, BJ_RECORD_DISCONNECTED);
}

static void come_back(world *w, bj_watch *watch, const char *jobs)
{
    step(w, "{\"do\": \"start\", \"jobs\": \"%s\"}", jobs);
    await_kind(watch, BJ_RECORD_RECONNECTED);
}

static bj_future *pivot(world *w, bj_job *job)
{
    return hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
}

static bj_future *done(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
}

/* ---------------------------------------------------------------- the same QEMU */

static void b45_waits_go_on_through_a_new_connection(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    bj_watch *of_job = watch_job(w, job, 0);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *pivoted = pivot(w, job);
    bj_future *released = hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));

    step(w, JSON({"do": "hang-up"}));
    assert_int_equal(await_kind(watch, BJ_RECORD_DISCONNECTED)->error, BJ_E_DISCONNECTED);
    await_kind(watch, BJ_RECORD_RECONNECTED);
    step(w, JSON({"do": "ready"}));

    answers(ready, BJ_OK);
    ends(pivoted, BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(released, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(news(w, of_job, BJ_RECORD_CLOSED), "READY ENDED CLOSED");
}

static void b45_the_monitor_is_not_closed_by_it(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));

    go_away(w, watch);
    assert_int_equal(bj_monitor_has_command(w->monitor, "quit"), BJ_E_DISCONNECTED);
    names(expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_E_DISCONNECTED), "again");
    come_back(w, watch, "keep");
    assert_int_equal(bj_monitor_has_command(w->monitor, "quit"), 1);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_false(bj_future_is_done(closed));
}

static void b45_commands_under_way_are_answered(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "stop", "what": "writing"}));
    bj_future *query = hold(w, bj_job_query(job, BJ_TIMEOUT_NONE));
    bj_future *pause = hold(w, bj_job_pause(job, BJ_TIMEOUT_NONE));
    await_sent(w, "query-block-jobs");
    await_sent(w, "job-pause");
    go_away(w, watch);

    answers(query, BJ_E_DISCONNECTED);
    answers(pause, BJ_E_DISCONNECTED);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
}

static void b45_a_watch_that_begins_meanwhile_hears_of_both(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *first = watch_monitor(w);
    step(w, JSON({"do": "die"}));
    await_kind(first, BJ_RECORD_DISCONNECTED);

    bj_watch *second = watch_monitor(w);
    const bj_record *record = next_record(second);
    assert_int_equal(record->kind, BJ_RECORD_DISCONNECTED);
    assert_int_equal(record->error, BJ_E_DISCONNECTED);
    assert_non_null(strstr(record->text, fake_path(w)));
    step(w, JSON({"do": "start", "jobs": "keep"}));
    assert_int_equal(next_record(second)->kind, BJ_RECORD_RECONNECTED);
}

static void b46_still_listed_goes_on(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));

    go_away(w, watch);
    step(w, JSON({"do": "ready"})); /* its event is seen by nobody */
    assert_false(bj_future_is_done(ready));
    come_back(w, watch, "keep");

    answers(ready, BJ_OK);
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b46_a_pivot_that_waited_happens_when_qemu_is_back(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    go_away(w, watch);
    bj_future *pivoted = pivot(w, job);
    step(w, JSON({"do": "ready"}));
    come_back(w, watch, "keep");
    ends(pivoted, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, "job-complete"), 1);
}

static void b46_concluded_while_away_has_its_outcome(void **state)
{
    static const struct {
        const char *step;
        int error;
        bj_outcome outcome;
    } cases[] = {
        {"{\"do\": \"finish\"}", BJ_OK, BJ_OUTCOME_PIVOTED},
        {"{\"do\": \"fail\", \"error\": \"No space left on device\"}", BJ_E_JOB_FAILED,
         BJ_OUTCOME_FAILED},
    };
    world *w = *state;
    for (int i = 0; i < 2; i++) {
        reconnecting(w);
        bj_watch *watch = watch_monitor(w);
        bj_job *job = fake_ready_mirror(w);
        step(w, JSON({"do": "hold-end"}));
        bj_future *pivoted = pivot(w, job);
        await_sent(w, "job-complete");
        expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK); /* complete has been accepted */

        go_away(w, watch);
        step(w, "%s", cases[i].step);
        come_back(w, watch, "keep");

        ends(pivoted, cases[i].error, cases[i].outcome);
        ends(hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE)), cases[i].error,
             cases[i].outcome);
        assert_int_equal(times_sent(w, "job-dismiss"), 1);
        next_fake(w);
    }
}

static void b46_a_complete_that_was_not_taken_is_sent_again(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    reconnecting(w);
    step(w, JSON({"do": "answer", "command": "job-complete", "return": {}})); /* and not done */
    step(w, JSON({"do": "when", "command": "job-complete", "at": "received",
                  "steps": [{"do": "hang-up"}]}));
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, "job-complete"), 2);
}

static void b46_a_complete_that_was_taken_is_not_sent_again(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    reconnecting(w);
    step(w, JSON({"do": "when", "command": "job-complete", "at": "done",
                  "steps": [{"do": "hang-up"}]}));
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, "job-complete"), 1);
}

/* The end comes on the new connection, before its first list. */
static void c113_an_end_that_comes_before_the_list_is_compared(void **state)
{
    world *w = *state;
    bj_job *job = start(w, "blockdev-mirror",
                        JSON({"job-id": "theirs", "device": "drive0",
                                                    "target": "copy", "sync": "full",
                                                    "auto-dismiss": true}));
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK); /* the graph is known, too */
    reconnecting(w);
    step(w, JSON({"do": "hold-end"}));
    step(w, JSON({"do": "when", "command": "job-complete", "at": "done",
                  "steps": [{"do": "hang-up"}]}));
    step(w, JSON({"do": "when", "command": "query-block-jobs", "at": "received",
                  "steps": [{"do": "finish", "job": "theirs"}]}));
    ends(pivot(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* What is not heard: that it is ready, and that another client has it pivoted. */
static void c20_a_job_that_is_pivoted_was_ready(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK); /* the graph is known, too */
    go_away(w, watch);
    step(w, JSON({"do": "ready"}));
    step(w, JSON({"do": "execute", "command": "job-complete", "arguments": {"id": "%s"}}),
                  bj_job_id(job));
    come_back(w, watch, "keep");

    ends(hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE)), BJ_OK, BJ_OUTCOME_PIVOTED);
    ends(hold(w, bj_job_ready(job, 0)), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_true(bj_job_is_ready(job));
}

/* C112: QEMU may have taken it, and a second one can end it. */
static void b46_a_raw_complete_whose_reply_is_lost_is_in_doubt(void **state)
{
    world *w = *state;
    reconnecting(w);
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_STALL_MS, 600000), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    step(w, JSON({"do": "when", "command": "job-complete", "at": "done",
                  "steps": [{"do": "hang-up"}]}));
    char arguments[128];
    snprintf(arguments, sizeof arguments, "{\"id\": \"%s\"}", bj_job_id(job));
    expect(w, bj_monitor_execute(w->monitor, "job-complete", arguments, BJ_TIMEOUT_NONE),
           BJ_E_DISCONNECTED);
    await_kind(watch, BJ_RECORD_RECONNECTED);

    bj_future *pivoted = pivot(w, job);
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK); /* whatever is sent goes before it */
    assert_int_equal(times_sent(w, "job-complete"), 1);
    step(w, JSON({"do": "finish"}));
    ends(pivoted, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void b63_progress_goes_on(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    bj_watch *of_job = watch_job(w, job, 1);
    await_kind(of_job, BJ_RECORD_PROGRESS);
    go_away(w, watch);
    come_back(w, watch, "keep");
    step(w, JSON({"do": "progress", "offset": 4096}));
    while (await_kind(of_job, BJ_RECORD_PROGRESS)->current != 4096)
        ;
}

/* -------------------------------------------------------------- another QEMU */

static void b46_gone_is_lost(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_ready_mirror(w);
    step(w, JSON({"do": "hold-end"}));
    bj_future *pivoted = pivot(w, job);
    bj_future *over = done(w, job);
    await_sent(w, "job-complete");

    go_away(w, watch);
    come_back(w, watch, "none");
    ends(pivoted, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    names(ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST), "vanished");
    assert_int_equal(bj_future_cause(over), BJ_OK); /* the monitor goes on */
    names(expect(w, bj_monitor_attach(w->monitor, bj_job_id(job), BJ_TIMEOUT_NONE), BJ_E_NO_JOB),
          bj_job_id(job));
}

static void b46_the_same_id_in_another_qemu_is_another_run(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_ready_mirror(w);
    bj_future *over = done(w, job);

    go_away(w, watch);
    step(w, JSON({"do": "start", "jobs": "none"}));
    step(w,
         "{\"do\": \"execute\", \"command\": \"blockdev-mirror\", \"arguments\": {\"job-id\": "
         "\"%s\", \"device\": \"drive0\", \"target\": \"copy\", \"sync\": \"full\"}}",
         bj_job_id(job));
    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

/* -------------------------------------------------------------------- giving up */

static void b45_given_up_is_told_to_all(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, 50), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    bj_future *over = done(w, job);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));

    step(w, JSON({"do": "die"}));
    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    assert_int_equal(bj_future_cause(over), BJ_E_DISCONNECTED);
    names(answers(closed, BJ_E_DISCONNECTED), "could not be made again");
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "DISCONNECTED CLOSED");
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, 50), BJ_E_DISCONNECTED);
}

static void b45_switched_off_it_gives_up(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_future *over = done(w, fake_mirror(w));
    go_away(w, watch);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, 0), BJ_OK);
    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

static void b45_closed_while_away(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_future *over = done(w, fake_mirror(w));
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    go_away(w, watch);
    bj_monitor_close(w->monitor);
    answers(over, BJ_E_CLOSED);
    answers(closed, BJ_E_CLOSED);
}

static void b45_the_context_is_closed_while_away(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_future *over = done(w, fake_mirror(w));
    go_away(w, watch);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    answers(over, BJ_E_CLOSED);
}

static void b06_a_deadline_passes_while_away(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    go_away(w, watch);
    expect(w, bj_job_done(job, BJ_DONE_OVER, 20), BJ_E_TIMEOUT);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
}

static void b56_a_peer_that_breaks_the_protocol_is_left(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_future *over = done(w, fake_mirror(w));
    step(w, JSON({"do": "raw", "text": "}"}));
    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_PROTOCOL);
}

/* RHEL 6's words, and no event for ready: such a one is asked by the clock. */
static const char peer_of_old[] = "qmp_capabilities query-commands query-status query-block-jobs "
                                  "blockdev-mirror block-job-cancel";

static bool refuse(peer *p, const peer_command *command)
{
    return peer_tell(p,
                     "{\"id\": %s, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n",
                     command->id);
}

static bool tell_ready(peer *p)
{
    return peer_tell(p, "{\"event\": \"BLOCK_JOB_READY\", "
                        "\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, "
                        "\"data\": {\"type\": \"mirror\", \"device\": \"drive0\", \"len\": 1, "
                        "\"offset\": 1, \"speed\": 0}}\r\n");
}

/* Its mirror is ready when it is asked for its status, and then it leaves. When it is back it
 * refuses all. */
static void leave_and_refuse(peer *p, void *user)
{
    int *visits = user;
    bool first = (*visits)++ == 0;
    peer_command command;
    bool going = peer_greet(p, peer_of_old);
    while (going && peer_hear(p, &command)) {
        going = first ? peer_answer(p, &command, "{}") : refuse(p, &command);
        if (first && strcmp(command.name, "query-status") == 0) {
            tell_ready(p);
            return;
        }
    }
}

/* It was asked by the clock before it was ready, and is not any more. */
static void b46_who_can_not_be_asked_about_has_lost_its_job(void **state)
{
    world *w = *state;
    int visits = 0;
    bj_ctx_set_limit(w->ctx, BJ_LIMIT_POLL_MS, 60 * 1000);
    peer *p = peer_listen(path_of(w, "old.sock"), leave_and_refuse, &visits);
    w->monitor = connect_to(w, path_of(w, "old.sock"));
    reconnecting(w);
    bj_job *job = mirror(w, "drive0", "copy", NULL);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *over = done(w, job);
    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    answers(ready, BJ_OK);
    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);

    bj_monitor_close(w->monitor);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    peer_end(p);
}

static void what_can_not_be_made_again_is_refused(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(NULL, 1000), BJ_E_INVAL);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, -2), BJ_E_INVAL);
}

/* ------------------------------------------------------------- another version */

static void come_back_as(world *w, bj_watch *watch, const char *profile, const char *jobs)
{
    go_away(w, watch);
    step(w, "{\"do\": \"start\", \"jobs\": \"%s\", \"profile\": \"%s\"}", jobs, profile);
    await_kind(watch, BJ_RECORD_RECONNECTED);
}

static void c90_the_version_is_that_of_the_qemu_now_connected(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    const char *first = bj_monitor_qemu_version(w->monitor);
    assert_memory_equal(first, "7.2", 3);
    come_back_as(w, watch, "10.0", "none");
    assert_memory_equal(bj_monitor_qemu_version(w->monitor), "10.0", 4);
    assert_memory_equal(first, "7.2", 3); /* it belongs to the monitor */
    come_back_as(w, watch, "7.2", "none");
    assert_ptr_equal(bj_monitor_qemu_version(w->monitor), first);
}

/* Who called listen() is the same process here, as where QEMU is passed its socket. */
static void c91_a_qemu_of_another_version_is_another(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    bj_future *over = done(w, job);
    come_back_as(w, watch, "10.0", "keep");
    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    names(over, "another QEMU");
}

/* ThreadSanitizer sees who reads without the lock. */
static void play_and_hang_up(peer *p, void *user)
{
    (void)user;
    if (peer_greet(p, peer_modern))
        peer_hang_up(p);
}

static void c90_closing_while_the_connection_ends(void **state)
{
    world *w = *state;
    for (int i = 0; i < 1000; i++) {
        peer *p = peer_start(play_and_hang_up, NULL);
        bj_future *connected = bj_monitor_connect(w->ctx, peer_uri(p), BJ_TIMEOUT_NONE);
        peer_connected(p);
        assert_int_equal(bj_future_wait(connected, BJ_TIMEOUT_NONE), BJ_OK);
        bj_monitor *monitor = bj_future_monitor(connected);
        if (monitor)
            bj_monitor_close(monitor);
        bj_monitor_unref(monitor);
        bj_future_unref(connected);
        peer_end(p);
    }
}

/* ------------------------------------------------------ a list that is none */

/* Only the list has the error of a job without a disk. */
static void c117_a_list_that_is_none_ends_the_wait_for_it(void **state)
{
    world *w = *state;
    bj_job *job =
        start(w, "blockdev-create",
              JSON({"job-id": "c", "options": {"driver": "file", "filename": "x", "size": 1}}));
    bj_future *over = done(w, job);
    step(w, JSON({"do": "answer", "command": "query-jobs", "return": 7}));
    step(w, JSON({"do": "fail", "error": "No space left on device"}));

    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK); /* the connection goes on */
}

static void c117_a_list_that_is_none_leaves_no_job_away(void **state)
{
    world *w = *state;
    reconnecting(w);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = fake_mirror(w);
    bj_future *over = done(w, job);
    step(w, JSON({"do": "answer", "command": "query-jobs", "return": 7}));
    step(w, JSON({"do": "hang-up"}));
    await_kind(watch, BJ_RECORD_RECONNECTED);

    ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b45_waits_go_on_through_a_new_connection),
        FAKE_TEST(b45_the_monitor_is_not_closed_by_it),
        FAKE_TEST(b45_commands_under_way_are_answered),
        FAKE_TEST(b45_a_watch_that_begins_meanwhile_hears_of_both),
        FAKE_TEST(b46_still_listed_goes_on),
        FAKE_TEST(b46_a_pivot_that_waited_happens_when_qemu_is_back),
        FAKE_TEST(b46_concluded_while_away_has_its_outcome),
        FAKE_TEST(c20_a_job_that_is_pivoted_was_ready),
        FAKE_TEST(b46_a_complete_that_was_not_taken_is_sent_again),
        FAKE_TEST(b46_a_complete_that_was_taken_is_not_sent_again),
        FAKE_TEST(c113_an_end_that_comes_before_the_list_is_compared),
        FAKE_TEST(b46_a_raw_complete_whose_reply_is_lost_is_in_doubt),
        FAKE_TEST(b63_progress_goes_on),
        FAKE_TEST(b46_gone_is_lost),
        FAKE_TEST(b46_the_same_id_in_another_qemu_is_another_run),
        FAKE_TEST(c90_the_version_is_that_of_the_qemu_now_connected),
        FAKE_TEST(c91_a_qemu_of_another_version_is_another),
        UNCONNECTED_TEST(c90_closing_while_the_connection_ends),
        FAKE_TEST(b45_given_up_is_told_to_all),
        FAKE_TEST(b45_switched_off_it_gives_up),
        FAKE_TEST(b45_closed_while_away),
        FAKE_TEST(b45_the_context_is_closed_while_away),
        FAKE_TEST(b06_a_deadline_passes_while_away),
        FAKE_TEST(b56_a_peer_that_breaks_the_protocol_is_left),
        ALONE_TEST(b46_who_can_not_be_asked_about_has_lost_its_job),
        FAKE_TEST(c117_a_list_that_is_none_ends_the_wait_for_it),
        FAKE_TEST(c117_a_list_that_is_none_leaves_no_job_away),
        FAKE_TEST(what_can_not_be_made_again_is_refused),
    };
    return run_on_fake(tests);
}
