/* SPDX-License-Identifier: MIT */
/*
 * A program that is killed and started again learns from its memos what became of its jobs.
 */
#include "api/memo_text.h"
#include "nodes.h"
#include "process.h"
#include "records.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------- the first life */

/* A program that writes down each memo, a line each. */
struct life {
    pid_t pid;
    FILE *memos;
    char memo[BJ_MEMO_SIZE + 1]; /* the last that was read */
};

static void need(bool so)
{
    if (!so)
        process_leave(1);
}

static bj_future *done(bj_future *future)
{
    need(bj_future_wait(future, BJ_TIMEOUT_NONE) == BJ_OK && bj_future_error(future) == BJ_OK);
    return future;
}

/* What this program is with arguments: starts a job if there is a command, and is killed. */
static void live(const char *path, const char *command, const char *arguments, int out)
{
    bj_watch_jobs_options options = {.size = sizeof options, .memos = true};
    bj_watch *watch;
    bj_ctx *ctx;
    const bj_record *record;

    need(bj_ctx_new(&ctx) == BJ_OK);
    bj_monitor *monitor = bj_future_monitor(done(bj_monitor_connect(ctx, path, BJ_TIMEOUT_NONE)));
    need(bj_monitor_watch_jobs(monitor, &options, &watch) == BJ_OK);
    bj_job *job =
        command
            ? bj_future_job(done(bj_monitor_start(monitor, command, arguments, BJ_TIMEOUT_NONE)))
            : NULL;
    while (bj_watch_next(watch, BJ_TIMEOUT_NONE, &record) == BJ_OK)
        if (record->kind == BJ_RECORD_MEMO)
            need(dprintf(out, "%s\n", record->text) > 0);
    need(job != NULL);
    process_leave(0);
}

static void end_life(void *thing)
{
    struct life *life = thing;
    process_end(&life->pid);
    fclose(life->memos);
    free(life);
}

static struct life *begin_first(world *w, const char *command, const char *arguments)
{
    struct life *life = calloc(1, sizeof *life);
    int pipes[2];

    assert_non_null(life);
    assert_int_equal(pipe(pipes), 0);
    const char *path = path_of(w, "second.qmp");
    char out[16];
    snprintf(out, sizeof out, "%d", pipes[1]);
    life->pid = fork();
    if (life->pid == 0) {
        close(pipes[0]);
        execl(program_invocation_name, program_invocation_name, out, path, command, arguments,
              NULL);
        process_leave(1);
    }
    close(pipes[1]);
    life->memos = fdopen(pipes[0], "r");
    world_keeps(w, life, end_life);
    return life;
}

/* The second life is not there yet. */
static struct life *begin_life(world *w, const char *command, const char *arguments)
{
    bj_monitor_close(w->monitor);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    w->monitor = NULL;
    return begin_first(w, command, arguments);
}

/* The next memo of the job with all these facts and, if it has one, what its disk is used by. */
static const char *await_memo(world *w, struct life *life, const char *id, unsigned facts,
                              bool graph)
{
    for (;;) {
        struct memo memo;
        const char *why;
        assert_non_null(fgets(life->memo, sizeof life->memo, life->memos));
        life->memo[strcspn(life->memo, "\n")] = '\0';
        assert_int_equal(memo_read(life->memo, &memo, &why), BJ_OK);
        bool is_it =
            strcmp(memo.id, id) == 0 && (memo.facts & facts) == facts && (!graph || memo.graph);
        memo_clear(&memo);
        if (is_it)
            return text_of(w, "%s", life->memo);
    }
}

static void kill_life(struct life *life)
{
    process_end(&life->pid);
}

/* ------------------------------------------------------------ the second life */

static bj_watch *remember_on(world *w, bj_monitor *monitor, const char *const *memos, size_t count)
{
    bj_watch_jobs_options options = {
        .size = sizeof options,
        .remembered = memos,
        .remembered_count = count,
    };
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch_jobs(monitor, &options, &watch), BJ_OK);
    return hold_watch(w, watch);
}

static void connect_again(world *w)
{
    w->monitor = connect_to(w, path_of(w, "first.qmp"));
}

static bj_watch *remember(world *w, const char *memo)
{
    if (!w->monitor)
        connect_again(w);
    return remember_on(w, w->monitor, &memo, 1);
}

static bj_job *expect_appeared(world *w, bj_watch *watch, const char *memo, bool resumed)
{
    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(record->text, memo);
    assert_int_equal(record->resumed, resumed);
    return hold_job(w, bj_job_ref(record->job));
}

static void expect_ended(bj_watch *watch, bj_outcome outcome, bool inferred, const char *word)
{
    const bj_record *record = next_record(watch);
    assert_string_equal(kind_name(record->kind), "ENDED");
    assert_string_equal(bj_outcome_name(record->outcome), bj_outcome_name(outcome));
    assert_int_equal(record->inferred, inferred);
    assert_non_null(strstr(record->text, word));
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_RELEASED);
}

/* It is true of the memo's job, and QEMU has no job left. */
static void expect_gone(world *w, const char *memo, bj_outcome outcome, bool inferred,
                        const char *word)
{
    bj_watch *watch = remember(w, memo);
    expect_appeared(w, watch, memo, false);
    if (outcome == BJ_OUTCOME_PIVOTED)
        assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect_ended(watch, outcome, inferred, word);
    assert_int_equal(count_jobs(w), 0);
}

static const char mirror_of_disk[] =
    JSON({"job-id": "job0", "device": "disk", "target": "copy", "sync": "full"});

static void their_mirror(world *w)
{
    qmp(w, "blockdev-mirror", "%s", mirror_of_disk);
}

static void add_used_disk(world *w)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    add_guest(w, "disk");
}

/* ---------------------------------------------------------------------- tests */

static void c13_our_mirror_goes_on(void **state)
{
    world *w = *state;
    add_used_disk(w);
    struct life *life = begin_life(w, "blockdev-mirror",
                                   JSON({"job-id": "job0", "device": "disk",
                                                               "target": "copy", "sync": "full",
                                                               "speed": 1, "buf-size": 65536}));
    const char *memo = await_memo(w, life, "job0", MEMORY_OURS, true);
    kill_life(life);

    bj_watch *watch = remember(w, memo);
    bj_job *job = expect_appeared(w, watch, memo, true);
    assert_string_equal(bj_job_type(job), "mirror");
    assert_true(bj_job_time(job, BJ_MOMENT_START_SENT) > 0);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect_ended(watch, BJ_OUTCOME_PIVOTED, false, "");
    assert_int_equal(count_jobs(w), 0); /* ours: it is dismissed */
}

static void c13_it_was_ready_and_still_is(void **state)
{
    world *w = *state;
    add_used_disk(w);
    struct life *life = begin_life(w, "blockdev-mirror", mirror_of_disk);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);

    bj_watch *watch = remember(w, memo);
    bj_job *job = expect_appeared(w, watch, memo, true);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    assert_true(bj_job_is_ready(job));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
    expect_ended(watch, BJ_OUTCOME_COPIED, false, "");
}

static void c13_ours_that_another_client_completed(void **state)
{
    world *w = *state;
    add_used_disk(w);
    struct life *life = begin_life(w, "blockdev-mirror", mirror_of_disk);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    qmp(w, "job-complete", JSON({"id": "job0"}));
    await_status(w, "job0", "concluded");

    expect_gone(w, memo, BJ_OUTCOME_PIVOTED, true, "");
    assert_string_equal(disk_of_guest(w), "copy");
}

static void c13_ours_that_failed(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_failing(w, "copy", "write");
    struct life *life = begin_life(w, "blockdev-backup",
                                   JSON({"job-id": "job0", "device": "disk", "target": "copy",
                                         "sync": "full", "on-target-error": "stop"}));
    const char *memo = await_memo(w, life, "job0", MEMORY_OURS, false);
    await_status(w, "job0", "paused");
    kill_life(life);
    qmp(w, "job-cancel", JSON({"id": "job0"}));
    await_status(w, "job0", "concluded");

    expect_gone(w, memo, BJ_OUTCOME_CANCELLED, false, "");
}

static void c13_theirs_that_was_completed(void **state)
{
    world *w = *state;
    add_used_disk(w);
    their_mirror(w);
    struct life *life = begin_life(w, NULL, NULL);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    qmp(w, "job-complete", JSON({"id": "job0"}));
    await_status(w, "job0", "null");

    expect_gone(w, memo, BJ_OUTCOME_PIVOTED, true, "");
}

static void c13_theirs_that_was_cancelled(void **state)
{
    world *w = *state;
    add_used_disk(w);
    their_mirror(w);
    struct life *life = begin_life(w, NULL, NULL);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    qmp(w, "block-job-cancel", JSON({"device": "job0"}));
    await_status(w, "job0", "null");

    bj_watch *watch = remember(w, memo);
    expect_appeared(w, watch, memo, false);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect_ended(watch, BJ_OUTCOME_LOST, false, "has not switched the disk");
}

static void c13_a_backup_of_theirs_that_is_gone(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    qmp(w, "blockdev-backup",
        JSON({"job-id": "job0", "device": "disk", "target": "copy", "sync": "full", "speed": 1}));
    struct life *life = begin_life(w, NULL, NULL);
    const char *memo = await_memo(w, life, "job0", 0, false);
    kill_life(life);
    qmp(w, "block-job-set-speed", JSON({"device": "job0", "speed": 0}));
    await_status(w, "job0", "null");

    expect_gone(w, memo, BJ_OUTCOME_LOST, false, "keeps no trace");
}

static void c13_another_run_of_its_id(void **state)
{
    world *w = *state;
    add_used_disk(w);
    their_mirror(w);
    struct life *life = begin_life(w, NULL, NULL);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    qmp(w, "job-cancel", JSON({"id": "job0"}));
    await_status(w, "job0", "null");
    qmp(w, "blockdev-mirror",
        JSON({"job-id": "job0", "device": "disk", "target": "copy", "sync": "full", "speed": 1,
              "buf-size": 65536}));

    bj_watch *watch = remember(w, memo);
    bj_job *before = expect_appeared(w, watch, memo, false);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect_ended(watch, BJ_OUTCOME_LOST, false, "a job that is not ready");
    bj_job *now = expect_appeared(w, watch, "", false);
    assert_ptr_not_equal(before, now);
    assert_string_equal(bj_job_id(now), "job0");
    expect(w, bj_job_abort(now, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

static void c13_another_qemu(void **state)
{
    world *w = *state;
    add_used_disk(w);
    their_mirror(w);
    struct life *life = begin_life(w, NULL, NULL);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    kill_qemu(w);
    start_qemu(w, "daemon", NULL);
    add_null(w, "disk", 4 * 1024 * 1024);
    add_null(w, "copy", 4 * 1024 * 1024);
    their_mirror(w);
    await_status(w, "job0", "ready");

    bj_monitor *monitor = connect_to(w, path_of(w, "second.qmp"));
    bj_watch *watch = remember_on(w, monitor, &memo, 1);
    expect_appeared(w, watch, memo, false);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect_ended(watch, BJ_OUTCOME_LOST, false, "this is another one");
    expect_appeared(w, watch, "", false); /* what the new one has */
}

static void c13_memos_of_one_process(void **state)
{
    world *w = *state;
    char early[BJ_MEMO_SIZE], late[BJ_MEMO_SIZE];
    add_used_disk(w);
    bj_watch *first = watch_jobs(w, 0);
    bj_job *job = mirror(w, "disk", "copy", NULL);
    assert_true(bj_job_memo(job, early, sizeof early) > 0);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(bj_job_memo(job, late, sizeof late) > 0);
    assert_string_not_equal(early, late);

    bj_watch *watch = remember_on(w, w->monitor, (const char *const[]){early, late}, 2);
    assert_ptr_equal(next_record(watch)->job, job);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(news(w, watch, BJ_RECORD_RELEASED), "READY ENDED RELEASED");
    assert_string_equal(news(w, first, BJ_RECORD_RELEASED), "APPEARED READY ENDED RELEASED");
    assert_int_equal(bj_job_memo(job, late, sizeof late), 0);
    assert_string_equal(late, "");
}

static void c13_a_job_that_was_attached_before(void **state)
{
    world *w = *state;
    add_used_disk(w);
    struct life *life = begin_life(w, "blockdev-mirror", mirror_of_disk);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    connect_again(w);
    bj_job *job = attach(w, "job0");

    bj_watch *watch = remember(w, memo);
    assert_ptr_equal(expect_appeared(w, watch, memo, true), job);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(news(w, watch, BJ_RECORD_RELEASED), "READY ENDED RELEASED");
    assert_int_equal(count_jobs(w), 0); /* it is ours again, and so dismissed */
}

static void c13_whoever_takes_over_has_seen_it_begin(void **state)
{
    world *w = *state;
    add_used_disk(w);
    struct life *life = begin_first(w, "blockdev-mirror", mirror_of_disk);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);

    bj_watch *watch = remember(w, memo);
    expect_appeared(w, watch, memo, true);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    qmp(w, "job-complete", JSON({"id": "job0"}));
    expect_ended(watch, BJ_OUTCOME_PIVOTED, false, "");
    assert_int_equal(count_jobs(w), 0);
}

static void c13_whoever_takes_over_has_seen_another_begin(void **state)
{
    world *w = *state;
    add_used_disk(w);
    their_mirror(w);
    struct life *life = begin_first(w, NULL, NULL);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    qmp(w, "job-cancel", JSON({"id": "job0"}));
    await_status(w, "job0", "null");
    their_mirror(w);
    bj_job *now = attach(w, "job0");
    expect(w, bj_job_ready(now, BJ_TIMEOUT_NONE), BJ_OK);

    bj_watch *watch = remember(w, memo);
    expect_appeared(w, watch, memo, false);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect_ended(watch, BJ_OUTCOME_LOST, false, "given to another job");
    assert_ptr_equal(expect_appeared(w, watch, "", false), now);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect(w, bj_job_abort(now, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

/* As a program that ends in peace does it. */
static void c13_a_monitor_that_was_closed(void **state)
{
    world *w = *state;
    char memo[BJ_MEMO_SIZE];
    add_used_disk(w);
    bj_watch *first = watch_jobs(w, 0);
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    bj_monitor_close(w->monitor);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    assert_string_equal(news(w, first, BJ_RECORD_CLOSED), "APPEARED ENDED RELEASED CLOSED");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_LOST);
    assert_true(bj_job_memo(job, memo, sizeof memo) > 0);

    connect_again(w);
    bj_watch *watch = remember(w, memo);
    bj_job *again = expect_appeared(w, watch, memo, true);
    expect(w, bj_job_abort(again, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(news(w, watch, BJ_RECORD_RELEASED), "ENDED RELEASED");
    assert_int_equal(bj_job_memo(again, memo, sizeof memo), 0);
}

static void c13_a_connection_that_is_being_made_again(void **state)
{
    world *w = *state;
    add_used_disk(w);
    struct life *life = begin_life(w, "blockdev-mirror", mirror_of_disk);
    const char *memo = await_memo(w, life, "job0", MEMORY_READY, true);
    kill_life(life);
    connect_again(w);
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *events = watch_monitor(w);
    cut_connection(path_of(w, "first.qmp"));
    assert_string_equal(news(w, events, BJ_RECORD_DISCONNECTED), "DISCONNECTED");

    bj_watch *watch = remember(w, memo);
    const bj_record *record = next_record(watch);
    while (record->kind == BJ_RECORD_DISCONNECTED || record->kind == BJ_RECORD_RECONNECTED)
        record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(record->text, memo);
    assert_true(record->resumed);
    expect(w, bj_job_abort(record->job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);
}

static const char *made_up_memo(world *w, const char *id)
{
    char memo[BJ_MEMO_SIZE];
    const struct memo gone = {
        .id = id,
        .type = "mirror",
        .since_us = 1,
        .changed_us = 1,
        .peer = {"", "", "", ""},
    };
    assert_true(memo_write(&gone, memo) > 0);
    return text_of(w, "%s", memo);
}

static void c13_more_memos_than_jobs_can_be_followed(void **state)
{
    world *w = *state;
    const char *const memos[] = {made_up_memo(w, "a"), made_up_memo(w, "b"), made_up_memo(w, "c")};
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_JOBS, 1), BJ_OK);
    bj_monitor *monitor = connect_to(w, path_of(w, "second.qmp"));

    bj_watch *watch = remember_on(w, monitor, memos, 3);
    const bj_record *record;
    uint64_t lost = 0;
    while ((record = next_record(watch))->kind == BJ_RECORD_LAGGED)
        lost += record->lost; /* the reader may come between two of them */
    assert_int_equal(lost, 2);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(record->text, memos[0]);
    expect_ended(watch, BJ_OUTCOME_LOST, false, "can't be known");
}

static void c13_bad_memos(void **state)
{
    world *w = *state;
    char memo[BJ_MEMO_SIZE];
    const char *why;
    add_used_disk(w);
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    assert_true(bj_job_memo(job, memo, sizeof memo) > 0);
    assert_int_equal(bj_memo_check(memo, &why), BJ_OK);
    memo[strlen(memo) / 2] ^= 1;
    assert_int_equal(bj_memo_check(memo, &why), BJ_E_INVAL);
    assert_non_null(strstr(why, "checksum"));

    const char *const memos[] = {memo};
    bj_watch_jobs_options options = {
        .size = sizeof options,
        .remembered = memos,
        .remembered_count = 1,
    };
    bj_watch *watch = NULL;
    assert_int_equal(bj_monitor_watch_jobs(w->monitor, &options, &watch), BJ_E_INVAL);
    assert_null(watch);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        live(argv[2], argc > 3 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL, atoi(argv[1]));
    const struct CMUnitTest tests[] = {
        TEST(c13_a_backup_of_theirs_that_is_gone),
        TEST(c13_a_job_that_was_attached_before),
        TEST(c13_a_connection_that_is_being_made_again),
        TEST(c13_a_monitor_that_was_closed),
        TEST(c13_another_qemu),
        TEST(c13_another_run_of_its_id),
        TEST(c13_bad_memos),
        TEST(c13_it_was_ready_and_still_is),
        TEST(c13_memos_of_one_process),
        TEST(c13_more_memos_than_jobs_can_be_followed),
        TEST(c13_our_mirror_goes_on),
        TEST(c13_ours_that_another_client_completed),
        TEST(c13_ours_that_failed),
        TEST(c13_theirs_that_was_cancelled),
        TEST(c13_theirs_that_was_completed),
        TEST(c13_whoever_takes_over_has_seen_another_begin),
        TEST(c13_whoever_takes_over_has_seen_it_begin),
    };
    return run_on_both(tests);
}
