/* SPDX-License-Identifier: MIT */
/*
 * What crosses on the wire: a command and the end of its job, a list and the end of a job that is
 * in it, a start and the events of another run with the same id.
 */
#include "fake.h"
#include "records.h"
#include "tally.h"

static bj_future *done(world *w, bj_job *job, int flags)
{
    return hold(w, bj_job_done(job, flags, BJ_TIMEOUT_NONE));
}

/* All that was read and asked before has had its effect: the library may ask QEMU something of its
 * own first, and something else when it has the answer, but not for ever. */
static void let_things_settle(world *w)
{
    for (int i = 0; i < 20; i++)
        expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
}

static bj_job *job_of(world *w, bj_future *started)
{
    return hold_job(w, bj_future_job(answers(started, BJ_OK)));
}

static void await_kind(bj_watch *watch, bj_record_kind kind)
{
    while (next_record(watch)->kind != kind)
        continue;
}

static int dismissals_sent(world *w)
{
    return times_sent(w, "job-dismiss") + times_sent(w, "block-job-dismiss");
}

/* ------------------------------------------------ a verb whose job is over before its reply */

/* Verbs that QEMU has taken and does not answer. */
#define VERBS 3
typedef struct unanswered {
    bj_future *futures[VERBS];
    tally tallies[VERBS];
} unanswered;

static unanswered *ask_verbs(world *w, bj_job *job)
{
    static unanswered verbs; /* a test that fails leaves closures behind */
    unanswered *u = &verbs;
    static const char *const commands[VERBS] = {"job-pause", "job-resume", "block-job-set-speed"};
    for (int i = 0; i < VERBS; i++) {
        step(w, JSON({"do": "answer", "command": "%s", "return": {}}), commands[i]);
        step(w, JSON({"do": "hold", "command": "%s"}), commands[i]);
    }
    u->futures[0] = hold(w, bj_job_pause(job, BJ_TIMEOUT_NONE));
    u->futures[1] = hold(w, bj_job_resume(job, BJ_TIMEOUT_NONE));
    u->futures[2] = hold(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE));
    for (int i = 0; i < VERBS; i++) {
        u->tallies[i] = (tally)TALLY_INIT;
        bj_future_on_done(u->futures[i], tally_closure(&u->tallies[i]));
    }
    await_sent(w, commands[2]);
    return u;
}

static void are_answered_once(const unanswered *u)
{
    for (int i = 0; i < VERBS; i++) {
        assert_true(bj_future_is_done(u->futures[i]));
        assert_int_not_equal(bj_future_error(u->futures[i]), BJ_OK);
        assert_string_not_equal(bj_future_text(u->futures[i]), "");
        assert_int_equal(u->tallies[i].calls, 1);
        assert_int_equal(u->tallies[i].frees, 1);
    }
}

static void close_gently(world *w)
{
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    assert_int_equal(bj_monitor_close(w->monitor), BJ_OK);
    answers(closed, BJ_E_CLOSED);
}

/* The job is over and awaits its dismissal when the monitor is closed, so that it lingers. */
static unanswered *close_between_end_and_dismissal(world *w, bool is_late)
{
    bj_job *job = fake_mirror(w);
    unanswered *u = ask_verbs(w, job);
    step(w, JSON({"do": "stop", "what": "reading"}));
    step(w, JSON({"do": "fail", "error": "Input/output error"}));
    answers(done(w, job, BJ_DONE_OVER), BJ_E_JOB_FAILED);

    close_gently(w);
    step(w, JSON({"do": "go", "what": "reading"}));
    await_sent(w, "job-dismiss");
    if (is_late)
        step(w, JSON({"do": "release"}));
    step(w, JSON({"do": "wait", "what": "disconnect", "timeout": 120}));
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    return u;
}

static void c01_a_verb_whose_job_ends_is_answered_by_the_close(void **state)
{
    are_answered_once(close_between_end_and_dismissal(*state, false));
}

static void c01_a_verb_whose_reply_comes_after_the_close_is_answered(void **state)
{
    are_answered_once(close_between_end_and_dismissal(*state, true));
}

#define THEIR_MIRROR                                                                               \
    JSON({"do": "execute", "command": "blockdev-mirror", "arguments": {                           \
        "job-id": "again", "device": "drive0", "target": "copy1", "sync": "full"}})

/* Another client completes it, so that it awaits the comparison of the graph; meanwhile its id is
 * given to another job. */
static bj_job *lose_the_id(world *w, unanswered **ret_verbs)
{
    bj_job *job = mirror(w, "drive0", "copy", JSON({"job-id": "again", "auto-dismiss": true}));
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    let_things_settle(w); /* its first look at the graph is over */
    *ret_verbs = ask_verbs(w, job);
    step(w, JSON({"do": "hold", "command": "x-debug-query-block-graph", "count": 0}));
    step(w, JSON({"do": "execute", "command": "job-complete", "arguments": {"id": "again"}}));
    step(w, JSON({"do": "wait", "what": "held", "command": "x-debug-query-block-graph"}));
    step(w, THEIR_MIRROR);
    let_things_settle(w);
    return job;
}

static void c02_a_run_without_its_id_is_answered_by_the_close(void **state)
{
    world *w = *state;
    unanswered *u;
    bj_job *job = lose_the_id(w, &u);
    bj_future *over = done(w, job, BJ_DONE_OVER);
    bj_future *released = done(w, job, BJ_DONE_RELEASED);

    close_gently(w);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    are_answered_once(u);
    assert_true(bj_future_is_done(over));
    assert_true(bj_future_is_done(released));
}

static void c02_a_run_without_its_id_is_answered_by_the_end_of_the_connection(void **state)
{
    world *w = *state;
    unanswered *u;
    bj_job *job = lose_the_id(w, &u);
    bj_future *released = done(w, job, BJ_DONE_RELEASED);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));

    step(w, JSON({"do": "hang-up"}));
    answers(closed, BJ_E_DISCONNECTED);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    are_answered_once(u);
    assert_true(bj_future_is_done(released));
}

static void c02_a_run_without_its_id_is_answered_when_qemu_is_back(void **state)
{
    world *w = *state;
    unanswered *u;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = lose_the_id(w, &u);
    bj_future *released = done(w, job, BJ_DONE_RELEASED);

    step(w, JSON({"do": "hang-up"}));
    await_kind(watch, BJ_RECORD_RECONNECTED);
    let_things_settle(w);
    step(w, JSON({"do": "release"})); /* the graph, should it have been asked for again */
    let_things_settle(w);
    are_answered_once(u);
    assert_true(bj_future_is_done(released));
}

/* ----------------------------------------------------- a list that is older than an end in it */

static void hold_lists(world *w)
{
    step(w, JSON({"do": "hold", "command": "query-block-jobs"}));
    step(w, JSON({"do": "hold", "command": "query-jobs"}));
}

/* Its lists are made, and the replies are still in QEMU. */
static bj_future *attach_late(world *w, const char *id)
{
    hold_lists(w);
    bj_future *attached = hold(w, bj_monitor_attach(w->monitor, id, BJ_TIMEOUT_NONE));
    step(w, JSON({"do": "wait", "what": "held", "command": "query-jobs"}));
    return attached;
}

/* There is no job of that id now: the caller is told so, or gets a job that is over. */
static void is_no_ghost(world *w, bj_future *attached)
{
    assert_int_equal(bj_future_wait(attached, 60 * 1000), BJ_OK);
    if (bj_future_error(attached) != BJ_OK) {
        answers(attached, BJ_E_NO_JOB);
        return;
    }
    bj_future *over = done(w, job_of(w, attached), BJ_DONE_OVER);
    let_things_settle(w);
    if (!bj_future_is_done(over))
        fail_msg("attached to a ghost, which runs for ever");
}

static void nothing_is_left(world *w)
{
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
    is_no_ghost(w, hold(w, bj_monitor_attach(w->monitor, "j", BJ_TIMEOUT_NONE)));
}

#define THEIR_BACKUP                                                                               \
    JSON({"do": "execute", "command": "blockdev-backup", "arguments": {                           \
        "job-id": "j", "device": "drive0", "target": "copy", "sync": "full"}})
#define OUR_BACKUP                                                                                 \
    JSON({"job-id": "j", "device": "drive0", "target": "copy", "sync": "full", "auto-dismiss": true})

static void c03_attach_while_a_job_ends(void **state)
{
    world *w = *state;
    step(w, THEIR_BACKUP);
    let_things_settle(w); /* it is known */
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    step(w, JSON({"do": "release"}));
    is_no_ghost(w, attached);
    nothing_is_left(w);
}

static void c03_attach_while_a_job_ends_that_began_before(void **state)
{
    world *w = *state;
    step(w, THEIR_BACKUP);
    w->monitor = connect_to(w, fake_path(w));
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    step(w, JSON({"do": "release"}));
    is_no_ghost(w, attached);
    nothing_is_left(w);
}

/* Only the first of the two lists has it. */
static void c03_attach_while_a_job_ends_between_two_lists(void **state)
{
    world *w = *state;
    step(w, THEIR_BACKUP);
    let_things_settle(w);
    step(w, JSON({"do": "when", "command": "query-block-jobs", "at": "done",
                  "steps": [{"do": "finish", "job": "j"}]}));
    is_no_ghost(w, hold(w, bj_monitor_attach(w->monitor, "j", BJ_TIMEOUT_NONE)));
    nothing_is_left(w);
}

static void c03_attach_while_a_job_of_the_library_ends(void **state)
{
    world *w = *state;
    bj_job *job = start(w, "blockdev-backup", OUR_BACKUP);
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    step(w, JSON({"do": "release"}));
    is_no_ghost(w, attached);
    ends(done(w, job, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_COMPLETED);
    nothing_is_left(w);
}

static void c03_attach_while_the_library_dismisses_a_job(void **state)
{
    world *w = *state;
    bj_future *started = bj_monitor_backup(w->monitor, "drive0", "copy", "full",
                                           JSON({"job-id": "j"}), BJ_TIMEOUT_NONE);
    bj_job *job = job_of(w, hold(w, started));
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    ends(done(w, job, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_COMPLETED);
    step(w, JSON({"do": "release"}));
    is_no_ghost(w, attached);
    nothing_is_left(w);
}

/* The late list is about the run before. */
static void c03_attach_while_an_id_is_used_again(void **state)
{
    world *w = *state;
    bj_job *first = start(w, "blockdev-backup", OUR_BACKUP);
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    step(w, THEIR_BACKUP);
    step(w, JSON({"do": "release"}));
    ends(done(w, first, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_COMPLETED);
    if (bj_future_wait(attached, 60 * 1000) != BJ_OK || bj_future_error(attached) != BJ_OK)
        answers(attached, BJ_E_NO_JOB);

    bj_job *second = attach(w, "j");
    assert_ptr_not_equal(first, second);
    assert_int_equal(bj_job_outcome(second), BJ_OUTCOME_NONE);
    step(w, JSON({"do": "fail", "error": "Input/output error"}));
    ends(done(w, second, BJ_DONE_OVER), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    is_no_ghost(w, attached);
    nothing_is_left(w);
}

/* What a ghost does to the next job of its id. */
static void c03_an_id_used_again_after_a_late_list(void **state)
{
    world *w = *state;
    bj_job *first = start(w, "blockdev-backup", OUR_BACKUP);
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    step(w, JSON({"do": "release"}));
    ends(done(w, first, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(bj_future_wait(attached, 60 * 1000), BJ_OK);

    bj_job *second = start(w, "blockdev-backup", OUR_BACKUP);
    assert_ptr_equal(attach(w, "j"), second);
    is_no_ghost(w, attached);
    step(w, JSON({"do": "finish"}));
    ends(done(w, second, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_COMPLETED);
    nothing_is_left(w);
}

static void c03_a_late_list_leaves_room_for_the_next_job(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_JOBS, 1), BJ_OK);
    step(w, THEIR_BACKUP);
    bj_future *attached = attach_late(w, "j");
    step(w, JSON({"do": "finish"}));
    step(w, JSON({"do": "release"}));
    assert_int_equal(bj_future_wait(attached, 60 * 1000), BJ_OK);
    let_things_settle(w);
    fake_ready_mirror(w);
}

/* --------------------------------------------------- a raw verb right behind a start */

/* Both are written before QEMU says anything about the job. */
static bj_job *start_and_execute(world *w, const char *verb, const char *arguments)
{
    fake_mirror(w); /* what the start takes is known by now */
    step(w, JSON({"do": "when", "command": "blockdev-mirror", "at": "done",
                  "steps": [{"do": "ready"}]}));
    step(w, JSON({"do": "stop", "what": "writing"}));
    bj_future *started =
        hold(w, bj_monitor_start(w->monitor, "blockdev-mirror",
                                 JSON({"job-id": "x", "device": "drive1", "target": "copy1",
                                  "sync": "full", "auto-dismiss": true}),
                                      BJ_TIMEOUT_NONE));
    bj_future *executed = hold(w, bj_monitor_execute(w->monitor, verb, arguments, BJ_TIMEOUT_NONE));
    await_sent(w, verb);
    step(w, JSON({"do": "go", "what": "writing"}));
    answers(executed, BJ_OK);
    return job_of(w, started);
}

static void c18_a_raw_cancel_right_behind_its_start(void **state)
{
    world *w = *state;
    bj_job *job = start_and_execute(w, "block-job-cancel", JSON({"device": "x"}));
    ends(done(w, job, BJ_DONE_OVER), BJ_OK, BJ_OUTCOME_COPIED);
}

static void c18_a_raw_complete_right_behind_its_start(void **state)
{
    world *w = *state;
    bj_job *job = start_and_execute(w, "job-complete", JSON({"id": "x"}));
    ends(done(w, job, BJ_DONE_OVER), BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* It says nothing of the next run of that id. */
static void c18_a_raw_verb_is_one_runs(void **state)
{
    world *w = *state;
    bj_job *first = start_and_execute(w, "block-job-cancel", JSON({"device": "x"}));
    ends(done(w, first, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_COPIED);

    bj_job *second = mirror(w, "drive2", "copy2", JSON({"job-id": "x"}));
    step(w, JSON({"do": "ready", "job": "x"}));
    expect(w, bj_job_ready(second, BJ_TIMEOUT_NONE), BJ_OK);
    let_things_settle(w); /* its first look at the graph is over */
    step(w, JSON({"do": "execute", "command": "job-complete", "arguments": {"id": "x"}}));
    ends(done(w, second, BJ_DONE_OVER), BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* ------------------------------------ events of another run while a start is under way */

/* What another client does with its "x" before QEMU does our start of that id. */
static bj_job *start_behind(world *w, const char *steps)
{
    step(w,
         "{\"do\": \"when\", \"command\": \"blockdev-mirror\", \"at\": \"received\", "
         "\"steps\": [%s]}",
         steps);
    bj_job *job = mirror(w, "drive1", "copy1", JSON({"job-id": "x"}));
    let_things_settle(w);
    return job;
}

static void is_a_job_of_its_own(world *w, bj_job *job)
{
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    assert_int_equal(dismissals_sent(w), 0);
    step(w, JSON({"do": "ready", "job": "x"}));
    ends(hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)), BJ_OK,
         BJ_OUTCOME_PIVOTED);
    ends(done(w, job, BJ_DONE_RELEASED), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(dismissals_sent(w), 1);
}

#define THEIR_X                                                                                    \
    JSON({"do": "execute", "command": "blockdev-backup", "arguments": {                           \
        "job-id": "x", "device": "drive0", "target": "copy", "sync": "full"}})
/* And stays when it is over. */
#define THEIR_KEPT_X                                                                               \
    "{\"do\": \"execute\", \"command\": \"blockdev-backup\", \"arguments\": {"                     \
    "\"job-id\": \"x\", \"device\": \"drive0\", \"target\": \"copy\", \"sync\": \"full\", "        \
    "\"auto-dismiss\": false}}"

static void c111_an_old_run_ends_while_its_id_is_started_again(void **state)
{
    world *w = *state;
    step(w, THEIR_X);
    w->monitor = connect_to(w, fake_path(w)); /* and knows nothing of it */
    bj_job *job = start_behind(w, JSON({"do": "finish", "job": "x"}));
    is_a_job_of_its_own(w, job);
}

static void c111_an_old_run_is_dismissed_while_its_id_is_started_again(void **state)
{
    world *w = *state;
    step(w, THEIR_KEPT_X);
    step(w, JSON({"do": "finish", "job": "x"}));
    w->monitor = connect_to(w, fake_path(w));
    bj_job *job = start_behind(
        w, JSON({"do": "execute", "command": "job-dismiss", "arguments": {"id": "x"}}));
    is_a_job_of_its_own(w, job);
}

/* The same id at the same moment: QEMU refuses ours. */
static void c92_a_refused_start_ends_no_job_of_another_client(void **state)
{
    world *w = *state;
    step(w,
         "{\"do\": \"when\", \"command\": \"blockdev-mirror\", \"at\": \"received\", "
         "\"steps\": [%s]}",
         THEIR_KEPT_X);
    step(w, JSON({"do": "hold", "command": "blockdev-mirror"}));
    bj_future *started = hold(w, bj_monitor_mirror(w->monitor, "drive1", "copy1", "full",
                                                   JSON({"job-id": "x"}), BJ_TIMEOUT_NONE));
    step(w, JSON({"do": "wait", "what": "held", "command": "blockdev-mirror"}));
    bj_job *theirs = attach(w, "x");
    step(w, JSON({"do": "release"}));
    answers(started, BJ_E_REFUSED);
    let_things_settle(w);

    assert_int_equal(bj_job_outcome(theirs), BJ_OUTCOME_NONE);
    step(w, JSON({"do": "finish", "job": "x"}));
    ends(done(w, theirs, BJ_DONE_OVER), BJ_OK, BJ_OUTCOME_COMPLETED);
    let_things_settle(w);
    assert_int_equal(dismissals_sent(w), 0); /* jobs of others are not dismissed */
}

/* ------------------------------------------------- starts and the end of the connection */

/* QEMU does it, and neither its events nor its reply are read. */
static bj_future *start_unheard(world *w)
{
    int before = times_sent(w, "blockdev-mirror");
    step(w, JSON({"do": "stop", "what": "writing"}));
    bj_future *started =
        hold(w, bj_monitor_mirror(w->monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE));
    step(w, JSON({"do": "wait", "command": "blockdev-mirror", "count": %d, "timeout": 120}),
                 before + 1);
    return started;
}

/* The first start that a connection sees may need more of QEMU than its reply. */
static void start_the_first(world *w)
{
    bj_job *first = fake_mirror(w);
    step(w, JSON({"do": "fail", "error": "Input/output error"}));
    answers(done(w, first, BJ_DONE_RELEASED), BJ_E_JOB_FAILED);
}

/* The connection ends with the reply to a start, and is made again: the start's answer. */
static bj_future *lose_a_start(world *w)
{
    start_the_first(w);
    bj_watch *watch = watch_monitor(w);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *started = start_unheard(w);
    step(w, JSON({"do": "hang-up"}));
    step(w, JSON({"do": "go", "what": "writing"}));
    await_kind(watch, BJ_RECORD_RECONNECTED);
    let_things_settle(w);
    assert_int_equal(bj_future_wait(started, 60 * 1000), BJ_OK);
    return started;
}

static void c118_a_start_whose_reply_is_lost_names_its_job(void **state)
{
    world *w = *state;
    bj_future *started = lose_a_start(w);
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 1);
    if (bj_future_error(started) != BJ_OK)
        names(started, bj_future_info(list, 0)->id);
}

static void c118_a_job_whose_start_was_lost_is_dismissed(void **state)
{
    world *w = *state;
    bj_future *started = lose_a_start(w);
    step(w, JSON({"do": "fail", "error": "Input/output error"}));
    let_things_settle(w);
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
    if (bj_future_error(started) == BJ_OK)
        answers(done(w, job_of(w, started), BJ_DONE_OVER), BJ_E_JOB_FAILED);
}

/* It ended while the connection was away; the list that says so is on its way. */
static void c118_a_close_before_the_list_dismisses_what_is_in_it(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    fake_mirror(w);
    hold_lists(w);
    step(w, JSON({"do": "die"}));
    await_kind(watch, BJ_RECORD_DISCONNECTED);
    step(w, JSON({"do": "fail", "error": "Input/output error"}));
    step(w, JSON({"do": "start", "jobs": "keep"}));
    step(w, JSON({"do": "wait", "what": "held", "command": "query-jobs", "timeout": 120}));

    close_gently(w);
    step(w, JSON({"do": "release"}));
    step(w, JSON({"do": "wait", "what": "disconnect", "count": 2, "timeout": 120}));
    assert_int_equal(dismissals_sent(w), 1);
}

static void c120_a_start_that_a_close_answers_names_its_job(void **state)
{
    world *w = *state;
    start_the_first(w);
    bj_future *started = start_unheard(w);
    close_gently(w);
    assert_int_equal(bj_future_wait(started, 60 * 1000), BJ_OK);
    step(w, JSON({"do": "hang-up"}));
    step(w, JSON({"do": "go", "what": "writing"}));

    w->monitor = connect_to(w, fake_path(w));
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 1);
    answers(started, BJ_E_CLOSED);
    names(started, bj_future_info(list, 0)->id);
}

/* Our job has ended, and nobody heard that its id went to another client's, until that one moves.
 */
static void c20_an_id_that_changed_hands_unheard(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *ours =
        start(w, "blockdev-backup",
              JSON({
                           "job-id": "j", "device": "drive0", "target": "copy", "sync": "full"}));
    step(w, JSON({"do": "stop", "what": "reading"}));
    step(w, JSON({"do": "fail", "error": "Input/output error"}));
    answers(done(w, ours, BJ_DONE_OVER), BJ_E_JOB_FAILED);

    hold_lists(w);
    step(w, JSON({"do": "die"}));
    await_kind(watch, BJ_RECORD_DISCONNECTED);
    step(w, JSON({"do": "execute", "command": "job-dismiss", "arguments": {"id": "j"}}));
    step(w, THEIR_BACKUP);
    step(w, JSON({"do": "go", "what": "reading"}));
    step(w, JSON({"do": "start", "jobs": "keep"}));
    step(w, JSON({"do": "wait", "what": "held", "command": "query-jobs", "timeout": 120}));
    step(w, JSON({"do": "execute", "command": "job-pause", "arguments": {"id": "j"}}));
    let_things_settle(w);
    step(w, JSON({"do": "release"}));

    bj_job *theirs = attach(w, "j");
    assert_int_equal(bj_job_outcome(theirs), BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_outcome(ours), BJ_OUTCOME_FAILED);
}

/* ------------------------------------------------------------------------ limits */

/* There is no room for the second run, whose events are not the first one's. */
static void c120_events_of_a_run_beyond_the_limit_are_nobodys(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_JOBS, 1), BJ_OK);
    w->monitor = connect_to(w, fake_path(w));
    bj_job *first = start(w, "blockdev-backup", OUR_BACKUP);
    bj_future *over = done(w, first, BJ_DONE_OVER);
    step(w, JSON({"do": "vanish", "job": "j"})); /* its end is not seen */
    step(w, THEIR_BACKUP);
    step(w, JSON({"do": "finish", "job": "j"}));
    let_things_settle(w);
    if (bj_future_is_done(over))
        ends(over, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

static void c120_a_time_to_come_back_is_as_long_as_it_likes(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, INT64_MAX), BJ_OK);
    step(w, JSON({"do": "hang-up"}));
    await_kind(watch, BJ_RECORD_RECONNECTED);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(c01_a_verb_whose_job_ends_is_answered_by_the_close),
        FAKE_TEST(c01_a_verb_whose_reply_comes_after_the_close_is_answered),
        FAKE_TEST(c02_a_run_without_its_id_is_answered_by_the_close),
        FAKE_TEST(c02_a_run_without_its_id_is_answered_by_the_end_of_the_connection),
        FAKE_TEST(c02_a_run_without_its_id_is_answered_when_qemu_is_back),
        FAKE_TEST(c03_attach_while_a_job_ends),
        UNCONNECTED_TEST(c03_attach_while_a_job_ends_that_began_before),
        FAKE_TEST(c03_attach_while_a_job_ends_between_two_lists),
        FAKE_TEST(c03_attach_while_a_job_of_the_library_ends),
        FAKE_TEST(c03_attach_while_the_library_dismisses_a_job),
        FAKE_TEST(c03_attach_while_an_id_is_used_again),
        FAKE_TEST(c03_an_id_used_again_after_a_late_list),
        FAKE_TEST(c03_a_late_list_leaves_room_for_the_next_job),
        FAKE_TEST(c18_a_raw_cancel_right_behind_its_start),
        FAKE_TEST(c18_a_raw_complete_right_behind_its_start),
        FAKE_TEST(c18_a_raw_verb_is_one_runs),
        FAKE_TEST(c92_a_refused_start_ends_no_job_of_another_client),
        UNCONNECTED_TEST(c111_an_old_run_ends_while_its_id_is_started_again),
        UNCONNECTED_TEST(c111_an_old_run_is_dismissed_while_its_id_is_started_again),
        FAKE_TEST(c118_a_start_whose_reply_is_lost_names_its_job),
        FAKE_TEST(c118_a_job_whose_start_was_lost_is_dismissed),
        FAKE_TEST(c118_a_close_before_the_list_dismisses_what_is_in_it),
        FAKE_TEST(c20_an_id_that_changed_hands_unheard),
        FAKE_TEST(c120_a_start_that_a_close_answers_names_its_job),
        UNCONNECTED_TEST(c120_events_of_a_run_beyond_the_limit_are_nobodys),
        FAKE_TEST(c120_a_time_to_come_back_is_as_long_as_it_likes),
    };
    return run_on_fake(tests);
}
