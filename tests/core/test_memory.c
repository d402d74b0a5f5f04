/* SPDX-License-Identifier: MIT */
/*
 * The Nth allocation fails, for every N: nothing crashes, hangs or leaks; everyone is told, and
 * what they are told is that memory is short, or what followed from it, or the truth.
 *
 * MEMORY_STRIDE=1 tries every N; without it enough of them for the time that a test may take.
 */
#include "api/memo_text.h"
#include "counts.h"
#include "heap.h"
#include "peer.h"
#include "qemus.h"
#include "world.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATIENCE_MS (60 * 1000)
#define PATIENCE_OF_A_TEST_S 600
#define RUNS_WHERE_IT_IS_SLOW 40 /* a sanitizer or valgrind, which keeps the books itself */

/* A program, from its beginning to its end. What fails ends it early. */
typedef struct program {
    peer *peer;
    const char *uri; /* NULL: the peer's own */
    bool has_options;
    bj_ctx *ctx;
    bj_monitor *monitor;
    bj_queue *queue;
    bj_watch *watches[4];
    int watch_count;
    bj_future *futures[32];
    int future_count;
    bj_job *jobs[8];
    int job_count;
    bj_group *group;
    int callbacks, frees; /* that ran */
    int promised;         /* callbacks that were registered */
} program;

typedef void deeds(program *p);

/* A job whose connection had to end is lost. */
static bool is_allowed(int error)
{
    if (error == BJ_OK)
        return true;
    if (!atomic_load(&heap_failed))
        return false;
    return error == BJ_E_NOMEM || error == BJ_E_JOB_LOST;
}

static long long number_now; /* of the allocation that fails */

static void check_error(int error, const char *text)
{
    if (!is_allowed(error))
        fail_msg("allocation %lld: %s: %s", number_now, bj_error_name(error), text);
}

/* ----------------------------------------------------------------------- asking */

/* Waits for the answer, and keeps the future. True if it is the one that was hoped for. */
static bool get(program *p, bj_future *future)
{
    assert_non_null(future);
    p->futures[p->future_count++] = future;
    if (bj_future_wait(future, PATIENCE_MS) != BJ_OK)
        fail_msg("allocation %lld: answer %d never came", number_now, p->future_count);
    int error = bj_future_error(future);
    check_error(error, bj_future_text(future));
    assert_true(error == BJ_OK || *bj_future_text(future));
    return error == BJ_OK;
}

static void count_call(bj_future *future, void *user)
{
    (void)future;
    ((program *)user)->callbacks++;
}

static void count_free(void *user)
{
    ((program *)user)->frees++;
}

static void call_back(program *p, bj_future *future)
{
    bj_closure closure = {.fn = count_call, .user = p, .free = count_free};
    int r = bj_future_on_done(future, closure);
    check_error(r, "a callback");
    if (r == BJ_OK)
        p->promised++;
    else
        p->frees--; /* at once */
}

static bj_job *start_mirror(program *p)
{
    bj_future *started = bj_monitor_mirror(p->monitor, "drive0", "copy", "full",
                                           "{\"buf-size\": 18446744073709551615}", PATIENCE_MS);
    if (!get(p, started))
        return NULL;
    bj_job *job = bj_future_job(started);
    assert_non_null(job);
    p->jobs[p->job_count++] = job;
    return job;
}

static void keep_watch(program *p, int error, bj_watch *const *watch)
{
    check_error(error, "a watch");
    if (error == BJ_OK)
        p->watches[p->watch_count++] = *watch;
}

/* ------------------------------------------------------------------------- acts */

static void do_nothing(program *p)
{
    (void)p;
}

/* A job that QEMU lists no more. Written once, while there is memory. */
static const char *remembered(void)
{
    static char memo[BJ_MEMO_SIZE];
    const struct memo gone = {
        .id = "gone",
        .type = "mirror",
        .since_us = 1,
        .changed_us = 1,
        .peer = {"", "", "", ""},
    };
    if (!*memo)
        memo_write(&gone, memo);
    return memo;
}

static void pivot_and_watch(program *p)
{
    bj_watch *watch = NULL;
    static const char *const names[] = {"BLOCK_JOB_READY"};
    const bj_watch_jobs_options options = {
        .size = sizeof options,
        .progress_ms = 1000000,
        .remembered = (const char *const[]){remembered()},
        .remembered_count = 1,
        .memos = true,
    };
    keep_watch(p, bj_monitor_watch(p->monitor, &watch), &watch);
    keep_watch(p, bj_monitor_watch_events(p->monitor, names, 1, &watch), &watch);
    keep_watch(p, bj_monitor_watch_jobs(p->monitor, &options, &watch), &watch);
    bj_job *job = start_mirror(p);
    if (!job)
        return;
    keep_watch(p, bj_job_watch(job, 1000000, &watch), &watch);
    int r = bj_queue_new(p->ctx, &p->queue);
    check_error(r, "a queue");
    bj_future *ready = bj_job_ready(job, PATIENCE_MS);
    call_back(p, ready);
    get(p, ready);

    bj_future *pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, PATIENCE_MS);
    if (p->queue)
        check_error(bj_future_deliver(pivoted, p->queue, 7), "delivering");
    if (!get(p, pivoted))
        return;
    assert_int_equal(bj_future_outcome(pivoted), BJ_OUTCOME_PIVOTED);
    get(p, bj_job_done(job, BJ_DONE_RELEASED, PATIENCE_MS));
    if (p->queue) {
        bj_record records[4];
        r = bj_queue_read(p->queue, records, sizeof(bj_record), 4);
        check_error(r < 0 ? r : BJ_OK, "reading a queue");
    }
}

static bj_future *pass_descriptors(program *p)
{
    const int fds[] = {0, 0};
    const bj_execute_options options = {.size = sizeof options, .fds = fds, .fd_count = 2};
    return bj_monitor_execute_with(p->monitor, "query-status", NULL, &options, PATIENCE_MS);
}

static void steer(program *p)
{
    bj_job *job = start_mirror(p);
    if (!job)
        return;
    bj_future *attached = bj_monitor_attach(p->monitor, bj_job_id(job), PATIENCE_MS);
    if (get(p, attached))
        p->jobs[p->job_count++] = bj_future_job(attached);
    if (!get(p, bj_monitor_execute(p->monitor, "query-status", "{\"a\": [1e999]}", PATIENCE_MS)) ||
        !get(p, pass_descriptors(p)) || !get(p, bj_monitor_list(p->monitor, PATIENCE_MS)) ||
        !get(p, bj_job_query(job, PATIENCE_MS)) ||
        !get(p, bj_job_set_speed(job, 1000, PATIENCE_MS)) ||
        !get(p, bj_job_change(job, "{\"copy-mode\": \"write-blocking\"}", PATIENCE_MS)) ||
        !get(p, bj_job_pause(job, PATIENCE_MS)) || !get(p, bj_job_resume(job, PATIENCE_MS)))
        return;
    get(p, bj_job_abort_escalate(job, 100, PATIENCE_MS));

    job = start_mirror(p);
    if (!job)
        return;
    if (!get(p, bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, PATIENCE_MS)))
        return;
    bj_future *done = bj_job_done(job, BJ_DONE_OVER, PATIENCE_MS);
    if (get(p, done))
        assert_int_equal(bj_future_outcome(done), BJ_OUTCOME_CANCELLED);
}

static void move_together(program *p)
{
    static const char actions[] =
        "[{\"type\": \"blockdev-mirror\", \"data\": {\"device\": \"a\", \"target\": \"b\", \"sync\": "
        "\"full\"}}, {\"type\": \"blockdev-mirror\", \"data\": {\"device\": \"c\", \"target\": \"d\", "
        "\"sync\": \"full\"}}]";
    check_error(bj_group_new(p->ctx, &p->group), "a group");
    bj_future *started =
        bj_monitor_transaction(p->monitor, actions, BJ_TRANSACTION_EACH, PATIENCE_MS);
    if (!get(p, started) || !p->group)
        return;
    for (size_t i = 0; i < bj_future_job_count(started); i++) {
        bj_job *job = bj_future_job_at(started, i);
        p->jobs[p->job_count++] = job;
        check_error(bj_group_add(p->group, job), "adding to a group");
    }
    if (!get(p, bj_group_ready(p->group, PATIENCE_MS)) ||
        !get(p, bj_group_pivot(p->group, PATIENCE_MS)))
        return;
    get(p, bj_group_any(p->group, BJ_DONE_OVER, PATIENCE_MS));
    get(p, bj_group_done(p->group, BJ_DONE_OVER, PATIENCE_MS));
    get(p, bj_group_abort(p->group, BJ_ABORT_SOFT, PATIENCE_MS));
}

/* The server leaves, and is there again. */
static void come_back(program *p)
{
    bj_watch *watch = NULL;
    const bj_record *record;
    keep_watch(p, bj_monitor_watch(p->monitor, &watch), &watch);
    check_error(bj_monitor_set_reconnect(p->monitor, BJ_TIMEOUT_NONE), "reconnecting");
    bj_job *job = start_mirror(p);
    if (!job || !watch)
        return;
    bj_watch *jobs = NULL;
    keep_watch(p, bj_monitor_watch_jobs(p->monitor, NULL, &jobs), &jobs);
    keep_watch(p, bj_job_watch(job, 0, &watch), &watch);
    watch = p->watches[0];
    if (!get(p, bj_job_ready(job, PATIENCE_MS)) ||
        !get(p, bj_monitor_execute(p->monitor, "query-status", NULL, PATIENCE_MS)))
        return;
    do
        if (bj_watch_next(watch, PATIENCE_MS, &record) != BJ_OK)
            fail_msg("allocation %lld: the connection did not end", number_now);
    while (record->kind != BJ_RECORD_DISCONNECTED && record->kind != BJ_RECORD_CLOSED &&
           record->kind != BJ_RECORD_LAGGED);
    bj_future *pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, PATIENCE_MS);
    if (!get(p, pivoted))
        return;
    assert_int_equal(bj_future_outcome(pivoted), BJ_OUTCOME_PIVOTED);
    get(p, bj_job_done(job, BJ_DONE_RELEASED, PATIENCE_MS));
}

/* --------------------------------------------------------------------- programs */

/* Its first client it leaves after query-status. */
static void serve_and_leave(peer *p, void *user)
{
    int *visits = user;
    bool first = (*visits)++ == 0;
    peer_command command;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command))
        going = peer_obey(p, &command) && !(first && strcmp(command.name, "query-status") == 0);
}

static void serve(peer *p, void *user)
{
    (void)user;
    if (peer_greet(p, peer_modern))
        peer_serve(p);
}

static void drain_watch(bj_watch *watch)
{
    const bj_record *record;
    int r;
    while ((r = bj_watch_next(watch, PATIENCE_MS, &record)) == BJ_OK)
        assert_true(record->name && record->text);
    assert_int_equal(r, BJ_E_CLOSED);
}

static void end_program(program *p)
{
    if (p->monitor)
        bj_monitor_close(p->monitor);
    if (p->ctx)
        assert_int_equal(bj_ctx_close(p->ctx), BJ_OK);
    for (int i = 0; i < p->watch_count; i++) {
        drain_watch(p->watches[i]);
        bj_watch_unref(p->watches[i]);
    }
    assert_int_equal(p->callbacks, p->promised);
    assert_int_equal(p->frees, p->promised);
    for (int i = 0; i < p->future_count; i++)
        bj_future_unref(p->futures[i]);
    for (int i = 0; i < p->job_count; i++)
        bj_job_unref(p->jobs[i]);
    bj_group_unref(p->group);
    bj_queue_unref(p->queue);
    bj_monitor_unref(p->monitor);
    bj_ctx_unref(p->ctx);
}

static void ignore_line(const bj_record *record, void *user)
{
    (void)user;
    assert_true(record->name && record->text);
}

/* With all that there is. A socket of the program's own is not waited for. */
static bj_future *connect_with_options(program *p, const char *uri)
{
    bj_watch *trace = NULL;
    bj_connect_options options = {
        .size = sizeof options,
        .name = "vm1",
        .wait_ms = p->uri ? PATIENCE_MS : 0,
        .trace_flags = BJ_TRACE_MASKED,
        .trace = ignore_line,
        .ret_trace = &trace,
    };
    bj_future *connected = bj_monitor_connect_with(p->ctx, uri, &options, PATIENCE_MS);
    if (trace)
        keep_watch(p, BJ_OK, &trace);
    return connected;
}

static void play(program *p, deeds *act)
{
    int r = bj_ctx_new(&p->ctx);
    check_error(r, "a context");
    if (r != BJ_OK)
        return;
    const char *uri = p->uri ? p->uri : peer_uri(p->peer);
    bj_future *connected = p->has_options ? connect_with_options(p, uri)
                                          : bj_monitor_connect(p->ctx, uri, PATIENCE_MS);
    if (!p->uri)
        peer_connected(p->peer);
    if (!get(p, connected))
        return;
    p->monitor = bj_future_monitor(connected);
    act(p);
}

/* What a test does, and how. */
typedef struct test_story {
    deeds *act;
    peer_play *play;
    const char *path; /* that the peer listens at; NULL: it is connected */
    bool has_options;
    long long runs; /* that it takes, about; each waits when it connects again */
} test_story;

/* The whole program, in which that allocation fails. False if it has not as many. */
static bool play_with_failure(const test_story *story, long long number, long long *ret_count)
{
    program p = {.uri = story->path, .has_options = story->has_options};
    int visits = 0, fds = count_fds();
    long long before = atomic_load(&heap_bytes);
    p.peer = story->path ? peer_listen(story->path, story->play, &visits)
                         : peer_start(story->play, &visits);

    number_now = number;
    heap_fail_at(number);
    play(&p, story->act);
    end_program(&p);
    *ret_count = number - heap_stop();
    bool failed = atomic_load(&heap_failed);

    peer_end(p.peer);
    if (story->path)
        unlink(story->path);
    long long left = atomic_load(&heap_bytes) - before;
    if (left > 0) /* what open_memstream() has allocated is freed, too */
        fail_msg("allocation %lld: %lld bytes leaked", number, left);
    if (count_fds() != fds)
        fail_msg("allocation %lld: %d descriptors instead of %d", number, count_fds(), fds);
    return failed;
}

static void fail_each(const test_story *story)
{
    alarm(PATIENCE_OF_A_TEST_S);
    const long long never = INT64_MAX;
    const char *asked = getenv("MEMORY_STRIDE");
    long long all, count;
    play_with_failure(story, never, &all);
    bool slow = count_heap() == 0 && story->runs > RUNS_WHERE_IT_IS_SLOW;
    long long runs = slow ? RUNS_WHERE_IT_IS_SLOW : story->runs;
    long long stride = asked ? strtoll(asked, NULL, 10) : all / runs + 1;

    long long number = 1;
    while (play_with_failure(story, number, &count))
        number += stride;
    print_message("of %lld allocations one in %lld failed, in a run of its own\n", all, stride);
    alarm(0);
}

static void no_memory_to_connect(void **state)
{
    (void)state;
    fail_each(&(test_story){.act = do_nothing, .play = serve, .runs = 300});
}

static void no_memory_to_connect_with_options(void **state)
{
    (void)state;
    fail_each(&(test_story){.act = do_nothing, .play = serve, .has_options = true, .runs = 300});
}

static void no_memory_to_await_a_peer(void **state)
{
    (void)state;
    char path[256];
    char *dir = directory_new();
    snprintf(path, sizeof(path), "%s/qmp.sock", dir);
    fail_each(&(test_story){
        .act = do_nothing, .play = serve, .path = path, .has_options = true, .runs = 40});
    directory_end(dir);
}

static void no_memory_to_pivot_and_watch(void **state)
{
    (void)state;
    fail_each(&(test_story){.act = pivot_and_watch, .play = serve, .runs = 300});
}

static void no_memory_to_steer(void **state)
{
    (void)state;
    fail_each(&(test_story){.act = steer, .play = serve, .runs = 300});
}

static void no_memory_for_groups_and_transactions(void **state)
{
    (void)state;
    fail_each(&(test_story){.act = move_together, .play = serve, .runs = 300});
}

static void no_memory_to_connect_again(void **state)
{
    (void)state;
    char path[256];
    char *dir = directory_new();
    snprintf(path, sizeof(path), "%s/qmp.sock", dir);
    fail_each(&(test_story){.act = come_back, .play = serve_and_leave, .path = path, .runs = 40});
    directory_end(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_memory_to_connect),
        cmocka_unit_test(no_memory_to_connect_with_options),
        cmocka_unit_test(no_memory_to_await_a_peer),
        cmocka_unit_test(no_memory_to_pivot_and_watch),
        cmocka_unit_test(no_memory_to_steer),
        cmocka_unit_test(no_memory_for_groups_and_transactions),
        cmocka_unit_test(no_memory_to_connect_again),
    };
    remembered();
    heap_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
