/* SPDX-License-Identifier: MIT */
/*
 * A context on the program's own libev loop: what a callback may do to it (close it, run the loop
 * again), what a child of fork() may, which thread may close it, and what closing costs.
 */
#include "peer.h"
#include "process.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>
#include <blockjob/ev.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS (60 * 1000)

enum { SEEN_MAX = 16, MANY = 64 };

/* A monitor, its server, and what a watch's callback saw. */
typedef struct watched {
    struct rig *rig;
    peer *peer;
    bj_monitor *monitor;
    bj_watch *watch;
    char seen[SEEN_MAX][32]; /* names of events */
    int events;
    int closed; /* CLOSED records */
    int frees;
    bool freed_inside;
} watched;

typedef struct rig {
    struct ev_loop *ev;
    bj_ctx *ctx;
    watched a, b;
    unsigned inside;  /* callbacks on the stack */
    bool was_entered; /* a callback inside another */
    void (*then)(struct rig *rig);
    bool ran_then;
    int ticks; /* of the program's own timer */
    int close_error;
} rig;

/* --------------------------------------------------------- the C library's, watched */

static atomic_int epoll_ctls;
static atomic_bool is_number_1; /* as in a namespace of its own */

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    atomic_fetch_add(&epoll_ctls, 1);
    return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

pid_t getpid(void)
{
    return atomic_load(&is_number_1) ? 1 : (pid_t)syscall(SYS_getpid);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* ------------------------------------------------------------------------ rigs */

static void serve(peer *p, void *user)
{
    (void)user;
    peer_greet(p, peer_modern);
}

static void say_event(const watched *w, const char *name)
{
    char text[128];
    snprintf(text, sizeof text, "{\"event\": \"%s\", \"data\": {}}\r\n", name);
    assert_true(peer_say(w->peer, text));
}

static void enter(rig *r)
{
    r->was_entered = r->was_entered || r->inside > 0;
    r->inside++;
}

static void do_then(rig *r)
{
    if (!r->then || r->ran_then)
        return;
    r->ran_then = true;
    r->then(r);
}

static void on_record(bj_watch *watch, const bj_record *record, void *user)
{
    watched *w = user;
    (void)watch;
    enter(w->rig);
    if (record->kind == BJ_RECORD_CLOSED)
        w->closed++;
    if (record->kind == BJ_RECORD_EVENT && w->events < SEEN_MAX)
        snprintf(w->seen[w->events++], sizeof w->seen[0], "%s", record->name);
    if (record->kind == BJ_RECORD_EVENT)
        do_then(w->rig);
    w->rig->inside--;
}

static void on_watch_free(void *user)
{
    watched *w = user;
    w->frees++;
    w->freed_inside = w->rig->inside > 0;
}

static void connect_watched(rig *r, watched *w)
{
    w->rig = r;
    w->peer = peer_start(serve, NULL);
    bj_future *connected = bj_monitor_connect(r->ctx, peer_uri(w->peer), PATIENCE_MS);
    while (!bj_future_is_done(connected))
        ev_run(r->ev, EVRUN_ONCE);
    peer_connected(w->peer);
    w->monitor = bj_future_monitor(connected);
    assert_non_null(w->monitor);
    bj_future_unref(connected);
    assert_int_equal(bj_monitor_watch(w->monitor, &w->watch), BJ_OK);
    bj_watch_closure closure = {.fn = on_record, .user = w, .free = on_watch_free};
    assert_int_equal(bj_watch_on_record(w->watch, closure), BJ_OK);
    ev_run(r->ev, EVRUN_NOWAIT);
}

static void rig_begin(rig *r)
{
    *r = (rig){.ev = ev_loop_new(EVFLAG_AUTO)};
    assert_non_null(r->ev);
    assert_int_equal(bj_ctx_new_on_loop(r->ev, &r->ctx), BJ_OK);
    connect_watched(r, &r->a);
    connect_watched(r, &r->b);
}

static void end_watched(watched *w)
{
    assert_int_equal(w->closed, 1);
    assert_int_equal(w->frees, 1);
    assert_false(w->freed_inside);
    bj_watch_unref(w->watch);
    bj_monitor_unref(w->monitor);
    peer_end(w->peer);
}

static void rig_end(rig *r)
{
    assert_int_equal(bj_ctx_close(r->ctx), BJ_OK);
    bj_ctx_unref(r->ctx);
    end_watched(&r->a);
    end_watched(&r->b);
    ev_loop_destroy(r->ev);
    assert_int_equal(r->inside, 0);
    assert_false(r->was_entered);
}

static void run_until_seen(rig *r, const watched *w, int events)
{
    while (w->events < events)
        ev_run(r->ev, EVRUN_ONCE);
}

/* --------------------------------------------------------- closing in a callback */

static void close_context(rig *r)
{
    r->close_error = bj_ctx_close(r->ctx);
}

static void c80_closing_in_a_watchs_callback_frees_nothing_in_use(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r);
    r.then = close_context;
    say_event(&r.a, "SHUTDOWN"); /* both are readable in one turn of the loop */
    say_event(&r.b, "SHUTDOWN");
    ev_run(r.ev, 0); /* with the context closed nothing is left */
    assert_true(r.ran_then);
    assert_int_equal(r.close_error, BJ_OK);
    rig_end(&r);
}

/* Callbacks of futures, one after the other: each registers the next. */
typedef struct chain {
    rig *rig;
    int left;
    void (*step)(rig *r, int left); /* 0: the last */
} chain;

static void on_link(bj_future *future, void *user)
{
    chain *c = user;
    enter(c->rig);
    int left = --c->left;
    c->step(c->rig, left);
    if (left > 0)
        bj_future_on_done(future, (bj_closure){.fn = on_link, .user = c});
    c->rig->inside--;
}

static void begin_chain(chain *c)
{
    bj_future *failed = bj_monitor_connect(c->rig->ctx, "no address", PATIENCE_MS);
    assert_int_equal(bj_future_on_done(failed, (bj_closure){.fn = on_link, .user = c}), BJ_OK);
    bj_future_unref(failed);
}

static void say_then_close(rig *r, int left)
{
    if (left > 0)
        say_event(&r->a, "POWERDOWN"); /* read in the turn that runs the next link */
    else
        close_context(r);
}

static void c80_closing_while_a_monitor_is_read(void **state)
{
    (void)state;
    rig r;
    for (int links = 1; links < 5; links++) {
        rig_begin(&r);
        chain c = {.rig = &r, .left = links, .step = say_then_close};
        begin_chain(&c);
        ev_run(r.ev, 0);
        assert_int_equal(r.close_error, BJ_OK);
        rig_end(&r);
    }
}

/* -------------------------------------------------------- ev_run() in a callback */

static void tick(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)events;
    ((rig *)timer->data)->ticks++;
}

/* The program's own timer is served, the context is not. */
static void run_nested(rig *r)
{
    ev_timer timer;
    ev_timer_init(&timer, tick, 0., 0.);
    timer.data = r;
    ev_timer_start(r->ev, &timer);
    int before = r->a.events + r->b.events;
    while (ev_is_active(&timer))
        ev_run(r->ev, EVRUN_ONCE);
    ev_run(r->ev, EVRUN_NOWAIT);
    ev_run(r->ev, 0); /* nothing of the program's is left to wait for */
    assert_int_equal(r->ticks, 1);
    assert_int_equal(r->a.events + r->b.events, before);
}

static void say_both_and_run(rig *r, int left)
{
    if (left > 0)
        return;
    say_event(&r->b, "EVENT_OF_B");
    run_nested(r);
}

static void say_early_and_run(rig *r, int left)
{
    if (left == 2)
        say_event(&r->a, "EVENT_OF_A"); /* read in the turn that runs the last link */
    say_both_and_run(r, left);
}

static void c81_events_are_never_those_of_another_monitor(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r);
    chain c = {.rig = &r, .left = 4, .step = say_early_and_run};
    begin_chain(&c);
    run_until_seen(&r, &r.a, 1);
    run_until_seen(&r, &r.b, 1);
    assert_string_equal(r.a.seen[0], "EVENT_OF_A");
    assert_string_equal(r.b.seen[0], "EVENT_OF_B");
    assert_int_equal(r.a.events, 1);
    assert_int_equal(r.b.events, 1);
    rig_end(&r);
}

static void run_with_more_to_read(rig *r)
{
    say_event(&r->a, "SECOND");
    say_event(&r->b, "OTHER");
    run_nested(r);
}

static void c81_no_callback_runs_inside_another(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r);
    r.then = run_with_more_to_read;
    say_event(&r.a, "FIRST");
    run_until_seen(&r, &r.a, 2);
    run_until_seen(&r, &r.b, 1);
    assert_string_equal(r.a.seen[0], "FIRST");
    assert_string_equal(r.a.seen[1], "SECOND");
    rig_end(&r);
}

static void run_and_close(rig *r)
{
    run_nested(r);
    close_context(r);
    ev_run(r->ev, 0); /* what is owed comes when the callback has returned */
    assert_int_equal(r->a.closed + r->b.closed, 0);
}

static void c80_closing_after_a_nested_run(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r);
    r.then = run_and_close;
    say_event(&r.a, "FIRST");
    say_event(&r.b, "OTHER");
    ev_run(r.ev, 0);
    assert_int_equal(r.close_error, BJ_OK);
    rig_end(&r);
}

/* Made and used in the program's last callback: nothing else keeps ev_run(). */
typedef struct late_context {
    bj_ctx *ctx;
    int error;
} late_context;

static void keep_error(bj_future *future, void *user)
{
    ((late_context *)user)->error = bj_future_error(future);
}

static void use_context(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)events;
    late_context *late = timer->data;
    bj_future *failed = bj_monitor_connect(late->ctx, "unix:/nowhere", PATIENCE_MS);
    bj_future_on_done(failed, (bj_closure){.fn = keep_error, .user = late});
    bj_future_unref(failed);
}

static void make_context(struct ev_loop *ev, ev_timer *timer, int events)
{
    late_context *late = timer->data;
    assert_int_equal(bj_ctx_new_on_loop(ev, &late->ctx), BJ_OK);
    use_context(ev, timer, events);
}

static void a_context_made_inside_ev_run_is_run(void **state)
{
    (void)state;
    struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO);
    late_context late = {0};
    ev_timer timer;
    ev_timer_init(&timer, make_context, 0., 0.);
    timer.data = &late;
    ev_timer_start(ev, &timer);
    ev_run(ev, 0);
    assert_int_equal(late.error, BJ_E_CONNECT);

    late.error = BJ_OK;
    ev_timer_init(&timer, use_context, 0., 0.);
    ev_timer_start(ev, &timer);
    ev_run(ev, 0);
    assert_int_equal(late.error, BJ_E_CONNECT);
    assert_int_equal(bj_ctx_close(late.ctx), BJ_OK);
    bj_ctx_unref(late.ctx);
    ev_loop_destroy(ev);
}

/* Deadlines need no descriptor, and keep ev_run() until they have passed. */
static void deadlines_pass_on_the_programs_loop(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r);
    bj_future *late[3];
    for (int i = 0; i < 3; i++)
        late[i] = bj_monitor_execute(r.a.monitor, "query-status", NULL, 5 * (3 - i));
    for (int i = 0; i < 3; i++) {
        while (!bj_future_is_done(late[i]))
            ev_run(r.ev, EVRUN_ONCE);
        assert_int_equal(bj_future_error(late[i]), BJ_E_TIMEOUT);
        bj_future_unref(late[i]);
    }
    rig_end(&r);
}

/* ----------------------------------------------------------------------- fork() */

static int be_child(rig *r, int go)
{
    char byte;
    alarm(60);
    if (read(go, &byte, 1) != 1)
        return 1;
    ev_loop_fork(r->ev);
    if (ev_run(r->ev, 0)) /* nothing is left in it that it would wait for */
        return 2;
    if (r->a.events != 0 || r->b.events != 0)
        return 3;
    if (bj_monitor_close(r->a.monitor) != BJ_E_FORKED || bj_ctx_close(r->ctx) != BJ_E_FORKED)
        return 4;
    bj_ctx *own;
    if (bj_ctx_new_on_loop(r->ev, &own) != BJ_OK)
        return 5;
    bj_future *failed = bj_monitor_connect(own, "unix:/nowhere", PATIENCE_MS);
    ev_run(r->ev, 0);
    if (bj_future_error(failed) != BJ_E_CONNECT)
        return 6;
    bj_future_unref(failed);
    return bj_ctx_close(own) == BJ_OK && !bj_ctx_unref(own) ? 0 : 7;
}

static void assert_ended_well(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void c82_a_child_on_the_programs_loop_leaves_the_parents_streams_alone(void **state)
{
    (void)state;
    rig r;
    int pipe_fds[2];
    rig_begin(&r);
    bj_future *waiting = bj_monitor_closed(r.a.monitor);
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0)
        process_leave(be_child(&r, pipe_fds[0]));
    say_event(&r.a, "SHUTDOWN");
    assert_int_equal(write(pipe_fds[1], "", 1), 1);
    assert_ended_well(child);
    close(pipe_fds[0]);
    close(pipe_fds[1]);

    run_until_seen(&r, &r.a, 1);
    assert_string_equal(r.a.seen[0], "SHUTDOWN");
    assert_false(bj_future_is_done(waiting));
    bj_future_unref(waiting);
    rig_end(&r);
}

static pid_t fork_inside_pid;

/* The child goes on in the middle of a read. */
static void fork_inside(rig *r)
{
    (void)r;
    fork_inside_pid = fork();
    if (fork_inside_pid == 0)
        alarm(60);
}

static void c82_a_child_that_returns_from_a_callback(void **state)
{
    (void)state;
    rig r;
    rig_begin(&r);
    r.then = fork_inside;
    say_event(&r.a, "FIRST");
    say_event(&r.a, "SECOND");
    say_event(&r.b, "OTHER");
    while (!r.ran_then)
        ev_run(r.ev, EVRUN_ONCE);
    if (fork_inside_pid == 0) {
        ev_loop_fork(r.ev);
        ev_run(r.ev, 0);
        process_leave(r.a.events == 1 && bj_ctx_close(r.ctx) == BJ_E_FORKED ? 0 : 1);
    }
    assert_ended_well(fork_inside_pid);
    run_until_seen(&r, &r.a, 2);
    run_until_seen(&r, &r.b, 1);
    rig_end(&r);
}

static void c82_a_child_with_the_parents_number_is_a_child(void **state)
{
    (void)state;
    bj_ctx *ctx;
    atomic_store(&is_number_1, true);
    assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        process_leave(bj_ctx_close(ctx) == BJ_E_FORKED ? 0 : 1);
    }
    assert_ended_well(child);
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    bj_ctx_unref(ctx);
    atomic_store(&is_number_1, false);
}

/* --------------------------------------------------------------------- threads */

static void *begin_in_thread(void *user)
{
    rig *r = user;
    rig_begin(r);
    return NULL;
}

static void *run_once(void *user)
{
    ev_run(((rig *)user)->ev, EVRUN_NOWAIT);
    return NULL;
}

static void *wait_a_moment(void *future)
{
    static int error;
    error = bj_future_wait(future, 1);
    return &error;
}

static void *in_thread(void *(*run)(void *), void *user)
{
    pthread_t thread;
    void *answer;
    assert_int_equal(pthread_create(&thread, NULL, run, user), 0);
    assert_int_equal(pthread_join(thread, &answer), 0);
    return answer;
}

static void c87_a_context_outlives_the_thread_of_its_loop(void **state)
{
    (void)state;
    rig r;
    in_thread(begin_in_thread, &r);
    rig_end(&r); /* it can be closed here */
    in_thread(begin_in_thread, &r);
    in_thread(run_once, &r); /* and after it has run elsewhere */
    rig_end(&r);
}

static void c87_a_later_thread_is_not_taken_for_the_loops(void **state)
{
    (void)state;
    rig r;
    in_thread(begin_in_thread, &r);
    bj_future *pending = bj_monitor_closed(r.a.monitor);
    for (int i = 0; i < 20; i++) { /* one of these gets the handle of the thread that has gone */
        const int *error = in_thread(wait_a_moment, pending);
        assert_int_equal(*error, BJ_E_TIMEOUT);
    }
    bj_future_unref(pending);
    rig_end(&r);
}

static void stop_running(struct ev_loop *ev, ev_async *async, int events)
{
    (void)async, (void)events;
    ev_break(ev, EVBREAK_ALL);
}

static void *run_on(void *ev)
{
    ev_run(ev, 0);
    return NULL;
}

static void c87_the_last_reference_may_go_on_another_thread(void **state)
{
    (void)state;
    pthread_t thread;
    rig r;
    rig_begin(&r);
    ev_async stop;
    ev_async_init(&stop, stop_running);
    ev_async_start(r.ev, &stop);
    bj_future *closed = bj_monitor_closed(r.a.monitor);
    bj_future *ended = bj_monitor_closed(r.b.monitor);
    peer_hang_up(r.b.peer);
    assert_int_equal(pthread_create(&thread, NULL, run_on, r.ev), 0);
    while (bj_future_wait(ended, PATIENCE_MS) == BJ_E_DEADLOCK)
        continue; /* until the loop has had its first turn there */

    bj_ctx_unref(r.ctx);
    assert_int_equal(bj_future_wait(closed, PATIENCE_MS), BJ_OK);
    assert_int_equal(bj_future_error(closed), BJ_E_CLOSED);
    bj_future_unref(closed);
    bj_future_unref(ended);
    ev_async_send(r.ev, &stop);
    pthread_join(thread, NULL);
    ev_async_stop(r.ev, &stop);
    end_watched(&r.a);
    end_watched(&r.b);
    ev_loop_destroy(r.ev);
}

/* ----------------------------------------------------------------------- costs */

static void c85_closing_is_linear_whoever_else_has_the_sockets(void **state)
{
    (void)state;
    peer *peers[MANY];
    bj_monitor *monitors[MANY];
    struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO);
    bj_ctx *ctx;
    assert_int_equal(bj_ctx_new_on_loop(ev, &ctx), BJ_OK);
    for (int i = 0; i < MANY; i++) {
        peers[i] = peer_start(serve, NULL);
        bj_future *connected = bj_monitor_connect(ctx, peer_uri(peers[i]), PATIENCE_MS);
        while (!bj_future_is_done(connected))
            ev_run(ev, EVRUN_ONCE);
        monitors[i] = bj_future_monitor(connected);
        assert_non_null(monitors[i]);
        bj_future_unref(connected);
    }
    atomic_store(&epoll_ctls, 0);
    for (int i = 0; i < MANY; i++) { /* the duplicates stay open; each has something to read */
        peer_say(peers[i], "{\"event\": \"STOP\", \"data\": {}}\r\n");
        bj_monitor_close(monitors[i]);
        bj_monitor_unref(monitors[i]);
        ev_run(ev, EVRUN_NOWAIT);
    }
    ev_run(ev, 0);
    assert_int_in_range(atomic_load(&epoll_ctls), 1, 3 * MANY);
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    bj_ctx_unref(ctx);
    for (int i = 0; i < MANY; i++)
        peer_end(peers[i]);
    ev_loop_destroy(ev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c80_closing_in_a_watchs_callback_frees_nothing_in_use),
        cmocka_unit_test(c80_closing_while_a_monitor_is_read),
        cmocka_unit_test(c80_closing_after_a_nested_run),
        cmocka_unit_test(c81_events_are_never_those_of_another_monitor),
        cmocka_unit_test(c81_no_callback_runs_inside_another),
        cmocka_unit_test(c82_a_child_on_the_programs_loop_leaves_the_parents_streams_alone),
        cmocka_unit_test(c82_a_child_that_returns_from_a_callback),
        cmocka_unit_test(c82_a_child_with_the_parents_number_is_a_child),
        cmocka_unit_test(c85_closing_is_linear_whoever_else_has_the_sockets),
        cmocka_unit_test(a_context_made_inside_ev_run_is_run),
        cmocka_unit_test(deadlines_pass_on_the_programs_loop),
        cmocka_unit_test(c87_a_context_outlives_the_thread_of_its_loop),
        cmocka_unit_test(c87_a_later_thread_is_not_taken_for_the_loops),
        cmocka_unit_test(c87_the_last_reference_may_go_on_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
