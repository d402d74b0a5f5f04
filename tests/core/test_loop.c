/* SPDX-License-Identifier: MIT */
/*
 * The loop: what is posted runs once and in order, timers fire once, and nothing wakes it for fun.
 */
#include "base/host.h"
#include "base/timer_heap.h"
#include "promise.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --------------------------------------------------------------------- posts */

enum { POSTERS = 4, POSTS = 5000 };

struct numbered_task {
    struct loop_task task;
    struct poster *poster;
    int number;
};

struct poster {
    struct loop *loop;
    struct numbered_task *tasks;
    int next; /* that is to run: the loop's own */
    int runs;
    bool in_order;
};

static void run_numbered(struct loop_task *task)
{
    const struct numbered_task *t = (struct numbered_task *)task;
    struct poster *p = t->poster;
    p->in_order = p->in_order && t->number == p->next;
    p->next = t->number + 1;
    p->runs++;
}

static void *post_many(void *user)
{
    struct poster *p = user;
    for (int i = 0; i < POSTS; i++) {
        p->tasks[i] = (struct numbered_task){
            .task.run = run_numbered,
            .poster = p,
            .number = i,
        };
        loop_post(p->loop, &p->tasks[i].task);
    }
    return NULL;
}

static void posts_of_many_threads_run_once_and_in_each_ones_order(void **state)
{
    bench *b = *state;
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.loop = b->ctx->loop, .in_order = true};
        posters[i].tasks = calloc(POSTS, sizeof *posters[i].tasks);
        assert_non_null(posters[i].tasks);
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    settle(b->ctx);
    for (int i = 0; i < POSTERS; i++) {
        assert_int_equal(posters[i].runs, POSTS);
        assert_true(posters[i].in_order);
        free(posters[i].tasks);
    }
}

struct nest {
    struct loop_task outer, inner;
    struct loop *loop;
    sem_t done;
    bool inner_ran, was_inline;
    const bool *other; /* whether the inner one of another has run */
};

static void run_inner(struct loop_task *task)
{
    struct nest *n = (struct nest *)((char *)task - offsetof(struct nest, inner));
    n->inner_ran = true;
    sem_post(&n->done);
}

static void run_outer(struct loop_task *task)
{
    struct nest *n = (struct nest *)task;
    loop_post(n->loop, &n->inner);
    n->was_inline = n->inner_ran;
}

static void a_post_from_the_loop_runs_later(void **state)
{
    bench *b = *state;
    struct nest n = {
        .outer.run = run_outer,
        .inner.run = run_inner,
        .loop = b->ctx->loop,
    };
    sem_init(&n.done, 0, 0);
    loop_post(b->ctx->loop, &n.outer);
    sem_wait_whole(&n.done);
    assert_false(n.was_inline);
    sem_destroy(&n.done);
}

static void run_outer_with_a_wake(struct loop_task *task)
{
    struct nest *n = (struct nest *)task;
    loop_after_step(n->loop, &n->inner);
    n->was_inline = n->inner_ran;
}

static void run_after(struct loop_task *task)
{
    struct nest *n = (struct nest *)task;
    n->was_inline = !*n->other;
}

/* When it has returned, and before the next one. */
static void what_waits_for_the_end_of_a_step_runs_then(void **state)
{
    bench *b = *state;
    struct loop *loop = b->ctx->loop;
    struct nest n = {
        .outer.run = run_outer_with_a_wake,
        .inner.run = run_inner,
        .loop = loop,
    };
    struct nest next = {.outer.run = run_after, .other = &n.inner_ran};
    sem_init(&n.done, 0, 0);
    assert_false(loop_after_step(loop, &n.inner)); /* not on this thread */
    loop_post(loop, &n.outer);
    loop_post(loop, &next.outer);
    sem_wait_whole(&n.done);
    settle(b->ctx);
    assert_false(n.was_inline);
    assert_false(next.was_inline);
    sem_destroy(&n.done);
}

static void nobody_may_run_this(struct loop_task *task)
{
    (void)task;
    abort();
}

static void a_stopped_loop_refuses_posts(void **state)
{
    bench *b = *state;
    struct loop_task task = {.run = nobody_may_run_this};
    bj_ctx_close(b->ctx);
    assert_false(loop_post(b->ctx->loop, &task));
}

static void what_was_posted_before_the_stop_runs(void **state)
{
    bench *b = *state;
    struct poster p = {.loop = b->ctx->loop, .in_order = true};
    p.tasks = calloc(POSTS, sizeof *p.tasks);
    assert_non_null(p.tasks);
    post_many(&p);
    bj_ctx_close(b->ctx);
    assert_int_equal(p.runs, POSTS);
    assert_true(p.in_order);
    free(p.tasks);
}

static void ask_where(void *user)
{
    bench *b = user;
    atomic_store(&b->all.starts, loop_is_current(b->ctx->loop));
}

static void the_loop_knows_its_thread(void **state)
{
    bench *b = *state;
    assert_false(loop_is_current(b->ctx->loop));
    assert_false(loop_is_theirs(b->ctx->loop));
    on_loop(b->ctx, ask_where, b);
    assert_true(b->all.starts);
}

static void *ask_if_current(void *loop)
{
    return loop_is_current(loop) ? loop : NULL;
}

static void b72_a_later_thread_is_not_taken_for_the_loops(void **state)
{
    bench *b = *state;
    bj_ctx_close(b->ctx);
    for (int i = 0; i < 20; i++) { /* one of these gets the number of the thread that has gone */
        pthread_t thread;
        void *taken;
        assert_int_equal(pthread_create(&thread, NULL, ask_if_current, b->ctx->loop), 0);
        pthread_join(thread, &taken);
        assert_null(taken);
    }
}

/* -------------------------------------------------------------------- timers */

struct alarm_clock {
    bj_ctx *ctx;
    struct loop_timer *timers[3];
    int order[4], rings;
    sem_t rang;
};

static void ring(struct alarm_clock *c, int number)
{
    if (c->rings < 4)
        c->order[c->rings] = number;
    c->rings++;
    sem_post(&c->rang);
}

static void ring_0(void *user)
{
    ring(user, 0);
}

static void ring_1(void *user)
{
    ring(user, 1);
}

static void ring_2(void *user)
{
    ring(user, 2);
}

static void make_timers(void *user)
{
    static void (*const rings[])(void *) = {ring_0, ring_1, ring_2};
    struct alarm_clock *c = user;
    for (int i = 0; i < 3; i++)
        c->timers[i] = loop_timer_new(c->ctx->loop, rings[i], c);
}

static void free_timers(void *user)
{
    struct alarm_clock *c = user;
    for (int i = 0; i < 3; i++)
        loop_timer_free(c->timers[i]);
    loop_timer_free(NULL);
}

static void begin_timers(struct alarm_clock *c, bench *b)
{
    *c = (struct alarm_clock){.ctx = b->ctx};
    sem_init(&c->rang, 0, 0);
    on_loop(b->ctx, make_timers, c);
}

static void end_timers(struct alarm_clock *c)
{
    on_loop(c->ctx, free_timers, c);
    sem_destroy(&c->rang);
}

static void set_2_before_0(void *user)
{
    struct alarm_clock *c = user;
    loop_timer_set(c->timers[0], 20);
    loop_timer_set(c->timers[2], 0);
}

static void timers_fire_once_and_the_nearer_first(void **state)
{
    struct alarm_clock c;
    begin_timers(&c, *state);
    on_loop(c.ctx, set_2_before_0, &c);
    sem_wait_whole(&c.rang);
    sem_wait_whole(&c.rang);
    settle(c.ctx);
    assert_int_equal(c.rings, 2);
    assert_int_equal(c.order[0], 2);
    assert_int_equal(c.order[1], 0);
    end_timers(&c);
}

static void move_and_stop(void *user)
{
    struct alarm_clock *c = user;
    loop_timer_set(c->timers[0], 0);
    loop_timer_set(c->timers[0], 1000 * 1000); /* moved away */
    loop_timer_set(c->timers[1], 0);
    loop_timer_stop(c->timers[1]);
    loop_timer_stop(c->timers[1]);
    loop_timer_set(c->timers[2], 1000 * 1000);
    loop_timer_set(c->timers[2], 2); /* moved here */
}

static void a_timer_can_be_moved_and_stopped(void **state)
{
    struct alarm_clock c;
    begin_timers(&c, *state);
    on_loop(c.ctx, move_and_stop, &c);
    sem_wait_whole(&c.rang);
    settle(c.ctx);
    assert_int_equal(c.rings, 1);
    assert_int_equal(c.order[0], 2);
    end_timers(&c);
}

static void set_all_and_free(void *user)
{
    struct alarm_clock *c = user;
    for (int i = 0; i < 3; i++)
        loop_timer_set(c->timers[i], 0);
    free_timers(c);
    c->timers[0] = c->timers[1] = c->timers[2] = NULL;
}

static void a_timer_that_is_gone_does_not_fire(void **state)
{
    struct alarm_clock c;
    begin_timers(&c, *state);
    on_loop(c.ctx, set_all_and_free, &c);
    settle(c.ctx);
    assert_int_equal(c.rings, 0);
    end_timers(&c);
}

enum { HEAPED = 2000 };

/* Random timers, some of which are taken out or moved before they are due. */
static void the_heap_gives_the_next_timer_first(void **state)
{
    (void)state;
    static struct timer_node nodes[HEAPED];
    struct timer_heap heap = {0};
    uint64_t dice = 88172645463325252u;
    int armed = 0;
    for (int i = 0; i < 4 * HEAPED; i++) {
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        struct timer_node *node = &nodes[dice % HEAPED];
        armed -= node->is_in;
        timer_heap_remove(&heap, node);
        timer_heap_remove(&heap, node); /* it is not in there any more */
        if (dice % 3 == 0)
            continue;
        timer_heap_add(&heap, node, (int64_t)(dice >> 40));
        armed++;
    }
    for (int64_t last = 0; armed > 0; armed--) {
        struct timer_node *first = heap.first;
        assert_non_null(first);
        assert_true(first->is_in && first->at >= last);
        last = first->at;
        timer_heap_remove(&heap, first);
    }
    assert_null(heap.first);
}

/* ------------------------------------------------------------- their own loop */

static void on_their_loop_ev_run_returns_when_nothing_is_left(void **state)
{
    (void)state;
    struct ev_loop *ev = ev_loop_new(EVFLAG_AUTO);
    struct loop *loop;
    assert_int_equal(loop_new_on(ev, &loop), BJ_OK);
    assert_true(loop_is_theirs(loop));
    assert_true(loop_is_current(loop));
    ev_run(ev, 0); /* would hang */

    struct nest n = {.outer.run = run_outer, .inner.run = run_inner, .loop = loop};
    sem_init(&n.done, 0, 0);
    assert_true(loop_post(loop, &n.outer));
    ev_run(ev, 0);
    assert_true(n.inner_ran); /* what a post posts is something left */
    assert_false(n.was_inline);
    sem_destroy(&n.done);

    struct loop_task task = {.run = nobody_may_run_this};
    struct nest last = {.outer.run = run_outer, .inner.run = run_inner, .loop = loop};
    sem_init(&last.done, 0, 0);
    assert_true(loop_post(loop, &last.outer));
    assert_int_equal(loop_enter(loop), BJ_OK);
    loop_stop(loop);
    loop_leave(loop);
    assert_true(last.inner_ran); /* who was promised a call gets it */
    sem_destroy(&last.done);
    assert_false(loop_post(loop, &task));
    loop_free(loop);
    ev_loop_destroy(ev);
}

/* ---------------------------------------------------------------------- idle */

static void note_tid(void *user)
{
    *(pid_t *)user = (pid_t)syscall(SYS_gettid);
}

/* The system call that the thread sleeps in, with its arguments; "" while it runs. */
static bool read_syscall(pid_t tid, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    if (len < 0)
        return false;
    text[len] = '\0';
    return true;
}

static void b63_an_idle_loop_sleeps_until_something_happens(void **state)
{
    bench *b = *state;
    pid_t tid = 0;
    on_loop(b->ctx, note_tid, &tid);

    char text[256];
    long number = -1;
    unsigned long long args[4] = {0};
    do {
        if (!read_syscall(tid, text, sizeof text)) {
            skip(); /* this kernel, or this container, does not show it */
        }
        if (sscanf(text, "%ld %llx %llx %llx %llx", &number, &args[0], &args[1], &args[2],
                   &args[3]) != 5)
            number = -1;
    } while (number != SYS_epoll_pwait
#ifdef SYS_epoll_wait
             && number != SYS_epoll_wait
#endif
    );
    /* A minute would be a poll; libev's longest sleep is weeks. */
    int timeout_ms = (int)(unsigned)args[3];
    assert_true(timeout_ms == -1 || timeout_ms > 24 * 60 * 60 * 1000);
}

/* -------------------------------------------------------------------- clocks */

static void assert_moment(struct timespec actual, time_t seconds, long nanos)
{
    assert_true(actual.tv_sec == seconds);
    assert_int_equal(actual.tv_nsec, nanos);
}

static void a_deadline_is_later_by_so_many_milliseconds(void **state)
{
    (void)state;
    const struct timespec when = {.tv_sec = 7, .tv_nsec = 999000001};
    assert_moment(clock_add_ms(when, 0), 7, 999000001);
    assert_moment(clock_add_ms(when, 1), 8, 1);
    assert_moment(clock_add_ms(when, 2), 8, 1000001);
    assert_moment(clock_add_ms(when, 3600001), 3608, 1);
}

/* Where time_t has 32 bits 68 years are too far. */
static void a_deadline_too_far_for_time_t_is_its_last_second(void **state)
{
    (void)state;
    const int bits = 8 * (int)sizeof(time_t);
    const time_t last = (time_t)(UINT64_MAX >> (65 - bits));
    const struct timespec late = {.tv_sec = last - 1, .tv_nsec = 500000000};
    assert_moment(clock_add_ms(late, 499), last - 1, 999000000);
    assert_moment(clock_add_ms(late, 500), last, 0);
    assert_moment(clock_add_ms(late, 1499), last, 999000000);
    assert_moment(clock_add_ms(late, 1500), last, 0);
    assert_moment(clock_add_ms(late, INT64_MAX), last, 0);

    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    static const int64_t far[] = {INT32_MAX * 1000LL, UINT32_MAX * 1000LL, INT64_MAX - 1,
                                  INT64_MAX};
    for (int i = 0; i < 4; i++) {
        struct timespec deadline = clock_deadline(far[i]);
        assert_true(deadline.tv_sec > now.tv_sec + 24 * 60 * 60);
        assert_true(deadline.tv_nsec >= 0 && deadline.tv_nsec < 1000000000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_bench(posts_of_many_threads_run_once_and_in_each_ones_order),
        on_bench(a_post_from_the_loop_runs_later),
        on_bench(what_waits_for_the_end_of_a_step_runs_then),
        on_bench(a_stopped_loop_refuses_posts),
        on_bench(what_was_posted_before_the_stop_runs),
        on_bench(the_loop_knows_its_thread),
        on_bench(b72_a_later_thread_is_not_taken_for_the_loops),
        on_bench(timers_fire_once_and_the_nearer_first),
        on_bench(a_timer_can_be_moved_and_stopped),
        on_bench(a_timer_that_is_gone_does_not_fire),
        cmocka_unit_test(the_heap_gives_the_next_timer_first),
        on_bench(on_their_loop_ev_run_returns_when_nothing_is_left),
        on_bench(b63_an_idle_loop_sleeps_until_something_happens),
        cmocka_unit_test(a_deadline_is_later_by_so_many_milliseconds),
        cmocka_unit_test(a_deadline_too_far_for_time_t_is_its_last_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
