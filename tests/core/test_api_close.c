/* SPDX-License-Identifier: MIT */
/*
 * Ends of a context: with everything pending, by its last reference, from a callback, and in the
 * child of a fork.
 */
#include "fake.h"
#include "peer.h"
#include "process.h"
#include "records.h"
#include "tally.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_answers_everything(void **state)
{
    world *w = *state;
    bj_monitor *m = w->monitor;
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "stop", "what": "all"}));
    bj_future *futures[] = {
        bj_monitor_closed(m),
        bj_monitor_execute(m, "query-status", NULL, BJ_TIMEOUT_NONE),
        bj_monitor_stream(m, "disk0", NULL, BJ_TIMEOUT_NONE),
        bj_monitor_attach(m, "x", BJ_TIMEOUT_NONE),
        bj_monitor_list(m, BJ_TIMEOUT_NONE),
        bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE),
        bj_job_ready(job, BJ_TIMEOUT_NONE),
        bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
        bj_job_done(job, BJ_DONE_RELEASED, 60 * 1000),
        bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE),
        bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE),
        bj_job_abort_escalate(job, 1000, BJ_TIMEOUT_NONE),
        bj_job_pause(job, BJ_TIMEOUT_NONE),
        bj_job_query(job, BJ_TIMEOUT_NONE),
    };
    enum { COUNT = sizeof(futures) / sizeof(futures[0]) };
    tally t = TALLY_INIT, records = TALLY_INIT;
    for (int i = 0; i < COUNT; i++) {
        hold(w, futures[i]);
        assert_int_equal(bj_future_on_done(futures[i], tally_closure(&t)), BJ_OK);
    }
    assert_int_equal(bj_watch_on_record(watch_monitor(w), tally_watch_closure(&records)), BJ_OK);
    bj_watch *watch = watch_job(w, job, 10);

    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    assert_int_equal(t.calls, COUNT);
    assert_int_equal(t.frees, COUNT);
    assert_int_equal(records.frees, 1);
    for (int i = 0; i < COUNT; i++) {
        assert_true(bj_future_is_done(futures[i]));
        if (bj_future_error(futures[i]) != BJ_E_CLOSED)
            fail_msg("%d: %s", i, bj_error_name(bj_future_error(futures[i])));
        assert_string_not_equal(bj_future_text(futures[i]), "");
    }
    const bj_record *record;
    do
        assert_int_equal(bj_watch_next(watch, BJ_TIMEOUT_NONE, &record), BJ_OK);
    while (record->kind != BJ_RECORD_CLOSED);
    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    expect(w, bj_monitor_connect(w->ctx, fake_path(w), BJ_TIMEOUT_NONE), BJ_E_CLOSED);
}

static void c106_a_monitor_that_is_over_is_closed_at_once(void **state)
{
    world *w = *state;
    bj_monitor_close(w->monitor);
    bj_future *first = answers(hold(w, bj_monitor_closed(w->monitor)), BJ_E_CLOSED);

    bj_future *later = hold(w, bj_monitor_closed(w->monitor));
    assert_true(bj_future_is_done(later));
    assert_int_equal(bj_future_error(later), BJ_E_CLOSED);
    assert_string_equal(bj_future_text(later), bj_future_text(first));
}

static void the_last_reference_closes_as_close_does(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *list = hold(w, bj_monitor_closed(w->monitor));
    assert_int_equal(bj_future_on_done(list, tally_closure(&t)), BJ_OK);

    assert_ptr_equal(bj_ctx_ref(w->ctx), w->ctx);
    bj_ctx_unref(w->ctx);
    w->ctx = bj_ctx_unref(w->ctx);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.frees, 1);
    answers(list, BJ_E_CLOSED);
}

static void unref_context(bj_future *future, void *user)
{
    world *w = user;
    (void)future;
    w->ctx = bj_ctx_unref(w->ctx);
}

static void the_last_reference_may_go_in_a_callback(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    t.then = unref_context;
    t.user = w;
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_on_done(list, tally_closure(&t)), BJ_OK);

    tally_await(&t, 1, 1);
    answers(closed, BJ_E_CLOSED);
}

/* What a child of fork() finds; 0 if all is as the header says. */
static int look_around_in_child(world *w, bj_job *job, bj_future *pending)
{
    if (bj_future_wait(pending, BJ_TIMEOUT_NONE) != BJ_E_FORKED)
        return 1;
    if (bj_ctx_close(w->ctx) != BJ_E_FORKED)
        return 2;
    if (bj_monitor_close(w->monitor) != BJ_E_FORKED)
        return 3;
    bj_future *list = bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE);
    if (bj_future_error(list) != BJ_E_FORKED)
        return 4;
    bj_future *ready = bj_job_ready(job, BJ_TIMEOUT_NONE);
    if (bj_future_error(ready) != BJ_E_FORKED)
        return 5;
    bj_future *connect = bj_monitor_connect(w->ctx, "/nowhere", BJ_TIMEOUT_NONE);
    if (bj_future_error(connect) != BJ_E_FORKED)
        return 6;
    bj_watch *watch;
    if (bj_monitor_watch(w->monitor, &watch) != BJ_E_FORKED ||
        bj_monitor_watch_jobs(w->monitor, NULL, &watch) != BJ_E_FORKED)
        return 7;
    bj_queue *queue;
    if (bj_queue_new(w->ctx, &queue) != BJ_E_FORKED)
        return 8;
    bj_future_unref(list);
    bj_future_unref(ready);
    bj_future_unref(connect);
    bj_future_unref(pending);
    bj_job_unref(job);
    bj_monitor_unref(w->monitor);
    return bj_ctx_unref(w->ctx) ? 9 : 0;
}

static void b72_after_fork_the_child_gets_an_error(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_future *pending = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);
        process_leave(look_around_in_child(w, job, pending));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);

    /* The parent has noticed nothing. */
    assert_false(bj_future_is_done(pending));
    step(w, JSON({"do": "ready"}));
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b53_two_contexts_are_strangers(void **state)
{
    world *w = *state;
    bj_ctx *other;
    assert_int_equal(bj_ctx_new(&other), BJ_OK);
    bj_future *waiting = bj_monitor_connect(other, fake_path(w), BJ_TIMEOUT_NONE);
    assert_int_equal(bj_ctx_close(other), BJ_OK);
    answers(waiting, BJ_E_CLOSED);
    bj_future_unref(waiting);
    bj_ctx_unref(other);

    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static void count_lines(const char *message, void *user)
{
    atomic_int *lines = user;
    *lines += message[0] != '\0';
}

static void a_reply_for_nobody_is_worth_a_line(void **state)
{
    world *w = *state;
    atomic_int lines = 0;
    assert_int_equal(bj_ctx_set_log(w->ctx, count_lines, &lines), BJ_OK);
    step(w,
         "{\"do\": \"raw\", \"text\": \"{\\\"return\\\": {}, \\\"id\\\": \\\"nobody\\\"}\\r\\n\"}");
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(lines, 1);
    assert_int_equal(bj_ctx_set_log(w->ctx, NULL, NULL), BJ_OK);
}

typedef struct slow_log {
    bj_ctx *ctx;
    sem_t is_in, may_return;
    atomic_bool is_inside, was_inside; /* its call; when bj_ctx_set_log() had returned */
    atomic_int setter;                 /* the thread that sets it */
    atomic_bool is_set;
} slow_log;

static void log_slowly(const char *message, void *user)
{
    slow_log *l = user;
    (void)message;
    atomic_store(&l->is_inside, true);
    sem_post(&l->is_in);
    while (sem_wait(&l->may_return) != 0)
        continue;
    atomic_store(&l->is_inside, false);
}

static void *unset_log(void *user)
{
    slow_log *l = user;
    atomic_store(&l->setter, (int)syscall(SYS_gettid));
    bj_ctx_set_log(l->ctx, NULL, NULL);
    atomic_store(&l->was_inside, atomic_load(&l->is_inside));
    atomic_store(&l->is_set, true);
    return NULL;
}

static bool is_asleep(int thread)
{
    char path[64], state = 'R';
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    FILE *stat = thread ? fopen(path, "re") : NULL;
    if (!stat)
        return false;
    if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
        state = 'R';
    fclose(stat);
    return state == 'S';
}

static void c91_setting_the_log_waits_for_a_call(void **state)
{
    world *w = *state;
    slow_log l = {.ctx = w->ctx};
    pthread_t thread;
    sem_init(&l.is_in, 0, 0);
    sem_init(&l.may_return, 0, 0);
    assert_int_equal(bj_ctx_set_log(w->ctx, log_slowly, &l), BJ_OK);
    step(w,
         "{\"do\": \"raw\", \"text\": \"{\\\"return\\\": {}, \\\"id\\\": \\\"nobody\\\"}\\r\\n\"}");
    while (sem_wait(&l.is_in) != 0)
        continue;
    assert_int_equal(pthread_create(&thread, NULL, unset_log, &l), 0);
    while (!atomic_load(&l.is_set) && !is_asleep(atomic_load(&l.setter)))
        sched_yield();
    sem_post(&l.may_return);
    pthread_join(thread, NULL);
    assert_false(atomic_load(&l.was_inside));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    sem_destroy(&l.is_in);
    sem_destroy(&l.may_return);
}

/* ------------------------------------------------------- a QEMU that is slow */

/* It holds back the reply to a command until the test says so. */
typedef struct slow_qemu {
    const char *command;
    sem_t heard, may_answer;
    bool was_there; /* the client, when it was answered */
    int more;       /* commands that came after that */
} slow_qemu;

static void serve_slowly(peer *p, void *user)
{
    slow_qemu *q = user;
    peer_command command;

    if (!peer_greet(p, peer_modern))
        return;
    while (peer_hear(p, &command) && strcmp(command.name, q->command) != 0)
        peer_obey(p, &command);
    sem_post(&q->heard);
    while (sem_wait(&q->may_answer) != 0)
        continue;
    if (strcmp(q->command, "job-dismiss") == 0)
        peer_tell(p,
                  "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"null\", "
                  "\"id\": \"%s\"}, \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n",
                  peer_argument(p, &command, "id"));
    usleep(20 * 1000); /* who hangs up at that event would have done so */
    q->was_there = peer_answer(p, &command, "{}");
    while (peer_hear(p, &command))
        q->more++;
}

static peer *connect_to_slow(world *w, slow_qemu *q)
{
    assert_int_equal(sem_init(&q->heard, 0, 0), 0);
    assert_int_equal(sem_init(&q->may_answer, 0, 0), 0);
    peer *p = peer_start(serve_slowly, q);
    bj_future *connected = hold(w, bj_monitor_connect(w->ctx, peer_uri(p), BJ_TIMEOUT_NONE));
    peer_connected(p);
    w->monitor = hold_monitor(w, bj_future_monitor(answers(connected, BJ_OK)));
    return p;
}

static void close_and_let_answer(world *w, slow_qemu *q, peer *p)
{
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    while (sem_wait(&q->heard) != 0)
        continue;
    assert_int_equal(bj_monitor_close(w->monitor), BJ_OK);
    answers(closed, BJ_E_CLOSED);
    sem_post(&q->may_answer);
    peer_end(p);
    sem_destroy(&q->heard);
    sem_destroy(&q->may_answer);
}

/* QEMU 5.2 may crash when the client of a reply has gone, and later ones give it to the next. */
static void the_socket_stays_open_until_qemu_has_replied(void **state)
{
    world *w = *state;
    slow_qemu q = {.command = "query-status"};
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_IN_FLIGHT, 1), BJ_OK);
    peer *p = connect_to_slow(w, &q);
    bj_future *sent = hold(w, bj_monitor_execute(w->monitor, q.command, NULL, BJ_TIMEOUT_NONE));
    bj_future *queued =
        hold(w, bj_monitor_execute(w->monitor, "job-pause", "{\"id\": \"x\"}", BJ_TIMEOUT_NONE));

    close_and_let_answer(w, &q, p);
    answers(sent, BJ_E_CLOSED);
    answers(queued, BJ_E_CLOSED);
    assert_true(q.was_there);
    assert_int_equal(q.more, 0); /* what has not been sent by then never is */
}

static void the_socket_stays_open_until_a_dismissal_is_answered(void **state)
{
    world *w = *state;
    slow_qemu q = {.command = "job-dismiss"};
    peer *p = connect_to_slow(w, &q);
    bj_job *job = mirror(w, "drive0", "copy", NULL);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);

    close_and_let_answer(w, &q, p);
    assert_true(q.was_there);
    assert_int_equal(q.more, 0);
}

/* It waits for the reply, and nobody waits for it. */
static void w09_a_close_that_does_not_wait(void **state)
{
    world *w = *state;
    slow_qemu q = {.command = "query-status"};
    peer *p = connect_to_slow(w, &q);
    bj_future *sent = hold(w, bj_monitor_execute(w->monitor, q.command, NULL, BJ_TIMEOUT_NONE));
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    while (sem_wait(&q.heard) != 0)
        continue;
    bj_ctx *ctx = bj_ctx_ref(w->ctx);

    assert_int_equal(bj_ctx_close_async(ctx), BJ_OK);
    assert_int_equal(bj_ctx_close_async(ctx), BJ_OK);
    answers(sent, BJ_E_CLOSED);
    answers(closed, BJ_E_CLOSED);
    expect(w, bj_monitor_connect(ctx, "unix:/nowhere", BJ_TIMEOUT_NONE), BJ_E_CLOSED);
    sem_post(&q.may_answer);
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    assert_int_equal(bj_ctx_close_async(ctx), BJ_OK);
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    peer_end(p);
    assert_true(q.was_there);
    bj_ctx_unref(ctx);
    sem_destroy(&q.heard);
    sem_destroy(&q.may_answer);
}

static void close_without_waiting(bj_future *future, void *user)
{
    world *w = user;
    (void)future;
    assert_int_equal(bj_ctx_close_async(w->ctx), BJ_OK);
    w->ctx = bj_ctx_unref(w->ctx);
}

static void w09_a_close_in_a_callback(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    t.then = close_without_waiting;
    t.user = w;
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_on_done(list, tally_closure(&t)), BJ_OK);

    tally_await(&t, 1, 1);
    answers(closed, BJ_E_CLOSED);
}

/* The thread goes by itself, and so does what is left of the context. */
static void w09_the_last_reference_does_not_wait_after_that(void **state)
{
    world *w = *state;
    slow_qemu q = {.command = "query-status"};
    peer *p = connect_to_slow(w, &q);
    bj_future *sent = hold(w, bj_monitor_execute(w->monitor, q.command, NULL, BJ_TIMEOUT_NONE));
    while (sem_wait(&q.heard) != 0)
        continue;

    assert_int_equal(bj_ctx_close_async(w->ctx), BJ_OK);
    w->ctx = bj_ctx_unref(w->ctx);
    answers(sent, BJ_E_CLOSED);
    sem_post(&q.may_answer);
    peer_end(p); /* reads until the thread has hung up */
    assert_true(q.was_there);
    sem_destroy(&q.heard);
    sem_destroy(&q.may_answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(a_reply_for_nobody_is_worth_a_line),
        FAKE_TEST(c91_setting_the_log_waits_for_a_call),
        FAKE_TEST(close_answers_everything),
        FAKE_TEST(c106_a_monitor_that_is_over_is_closed_at_once),
        FAKE_TEST(b53_two_contexts_are_strangers),
        FAKE_TEST(b72_after_fork_the_child_gets_an_error),
        FAKE_TEST(the_last_reference_closes_as_close_does),
        FAKE_TEST(the_last_reference_may_go_in_a_callback),
        ALONE_TEST(w09_a_close_that_does_not_wait),
        FAKE_TEST(w09_a_close_in_a_callback),
        ALONE_TEST(w09_the_last_reference_does_not_wait_after_that),
        ALONE_TEST(the_socket_stays_open_until_qemu_has_replied),
        ALONE_TEST(the_socket_stays_open_until_a_dismissal_is_answered),
    };
    return run_on_fake(tests);
}
