/* SPDX-License-Identifier: MIT */
/*
 * The pool: a lane's calls run in their order and one at a time, a lane that is stuck delays no
 * other, every call is answered once, and threads come and go.
 */
#include "counts.h"
#include "heap.h"
#include "pool.h"
#include "promise.h"
#include "scenario.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

/* A call whose steps are counted; it waits for `gate` if there is one. */
typedef struct errand_call {
    struct call call; /* first */
    struct road *road;
    int number;
    sem_t *gate;
} errand_call;

/* What became of a lane's calls. */
typedef struct road {
    bench *b;
    struct lane *lane;
    struct mailbox *mailbox;
    atomic_int at_once; /* that run now */
    atomic_bool overlapped, disordered;
    atomic_int begun, run, done, dropped;
    atomic_bool elsewhere; /* `done` came on another thread than the loop's */
    int last;              /* number that ran */
    sem_t began, over;     /* a post each */
} road;

static void run_errand_call(struct call *call)
{
    errand_call *e = (errand_call *)call;
    road *r = e->road;
    if (atomic_fetch_add(&r->at_once, 1) != 0)
        atomic_store(&r->overlapped, true);
    if (e->number != r->last + 1)
        atomic_store(&r->disordered, true);
    r->last = e->number;
    atomic_fetch_add(&r->begun, 1);
    sem_post(&r->began);
    if (e->gate)
        sem_wait_whole(e->gate);
    atomic_fetch_add(&r->run, 1);
    atomic_fetch_sub(&r->at_once, 1);
}

static void count_done(struct call *call)
{
    road *r = ((errand_call *)call)->road;
    if (!loop_is_current(r->b->ctx->loop))
        atomic_store(&r->elsewhere, true);
    atomic_fetch_add(&r->done, 1);
    sem_post(&r->over);
}

static void count_dropped(struct call *call)
{
    road *r = ((errand_call *)call)->road;
    atomic_fetch_add(&r->dropped, 1);
    sem_post(&r->over);
}

static void begin_road_in(road *r, bench *b, struct lane_group *group)
{
    *r = (road){.b = b};
    sem_init(&r->began, 0, 0);
    sem_init(&r->over, 0, 0);
    r->mailbox = mailbox_new(b->ctx->loop);
    assert_non_null(r->mailbox);
    r->lane = lane_new(r->mailbox, group);
    assert_non_null(r->lane);
}

static void begin_road(road *r, bench *b)
{
    begin_road_in(r, b, NULL);
}

/* None of its calls is under way. */
static void end_road(road *r)
{
    assert_null(lane_unref(r->lane));
    assert_null(mailbox_unref(r->mailbox));
    sem_destroy(&r->began);
    sem_destroy(&r->over);
}

static errand_call errand_on(road *r, int number, sem_t *gate)
{
    return (errand_call){
        .call = {.run = run_errand_call, .done = count_done, .dropped = count_dropped},
        .road = r,
        .number = number,
        .gate = gate,
    };
}

static void submit(road *r, errand_call *e, int number, sem_t *gate)
{
    *e = errand_on(r, number, gate);
    assert_true(lane_submit(r->lane, &e->call));
}

static void close_mailbox(void *mailbox)
{
    mailbox_close(mailbox);
}

/* ---------------------------------------------------------------------- lanes */

enum { ROADS = 20, ERRANDS = 500 };

static void b67_a_lane_runs_its_calls_in_order_and_one_at_a_time(void **state)
{
    road *roads = calloc(ROADS, sizeof *roads);
    errand_call *errands = calloc(ROADS * ERRANDS, sizeof *errands);
    assert_true(roads && errands);
    for (int i = 0; i < ROADS; i++)
        begin_road(&roads[i], *state);

    for (int n = 0; n < ERRANDS; n++)
        for (int i = 0; i < ROADS; i++)
            submit(&roads[i], &errands[n * ROADS + i], n + 1, NULL);

    for (int i = 0; i < ROADS; i++) {
        for (int n = 0; n < ERRANDS; n++)
            sem_wait_whole(&roads[i].over);
        assert_int_equal(roads[i].run, ERRANDS);
        assert_int_equal(roads[i].done, ERRANDS);
        assert_int_equal(roads[i].dropped, 0);
        assert_false(roads[i].overlapped);
        assert_false(roads[i].disordered);
        assert_false(roads[i].elsewhere);
        end_road(&roads[i]);
    }
    free(errands);
    free(roads);
}

static void b67_stuck_lanes_delay_no_other_up_to_the_most(void **state)
{
    enum { STUCK = POOL_THREADS_MAX };
    road *roads = calloc(STUCK + 1, sizeof *roads);
    errand_call *errands = calloc(STUCK + 2, sizeof *errands);
    assert_true(roads && errands);
    sem_t gate;
    sem_init(&gate, 0, 0);
    for (int i = 0; i <= STUCK; i++)
        begin_road(&roads[i], *state);

    for (int i = 0; i < STUCK - 1; i++)
        submit(&roads[i], &errands[i], 1, &gate);
    for (int i = 0; i < STUCK - 1; i++)
        sem_wait_whole(&roads[i].began);
    road *free_road = &roads[STUCK];
    submit(free_road, &errands[STUCK], 1, NULL);
    sem_wait_whole(&free_road->over); /* though all others are stuck */

    /* The last thread gets stuck, too: who comes now has to wait for one of them. */
    submit(&roads[STUCK - 1], &errands[STUCK - 1], 1, &gate);
    sem_wait_whole(&roads[STUCK - 1].began);
    submit(free_road, &errands[STUCK + 1], 2, NULL);
    settle(roads[0].b->ctx);
    assert_int_equal(free_road->begun, 1);
    sem_post(&gate);
    sem_wait_whole(&free_road->over);

    for (int i = 0; i < STUCK - 1; i++)
        sem_post(&gate);
    for (int i = 0; i < STUCK; i++)
        sem_wait_whole(&roads[i].over);
    for (int i = 0; i <= STUCK; i++)
        end_road(&roads[i]);
    sem_destroy(&gate);
    free(errands);
    free(roads);
}

static int threads_at_rest; /* with a context and no work: a sanitizer has some of its own */

static int count_at_rest(void **state)
{
    void *b;
    (void)state;
    if (bench_setup(&b) != 0)
        return -1;
    threads_at_rest = count_threads();
    return bench_teardown(&b);
}

static void await_threads(int count)
{
    const struct timespec while_they_go = {.tv_nsec = 10 * 1000 * 1000};
    while (count_threads() > count)
        nanosleep(&while_they_go, NULL);
}

/* Roads of one group that is stuck as a whole. */
typedef struct jam {
    struct lane_group *group;
    road roads[POOL_THREADS_MAX];
    errand_call errands[POOL_THREADS_MAX];
    sem_t gate;
} jam;

static jam *begin_jam(bench *b)
{
    jam *j = calloc(1, sizeof *j);
    assert_non_null(j);
    j->group = lane_group_new();
    assert_non_null(j->group);
    sem_init(&j->gate, 0, 0);
    for (int i = 0; i < POOL_THREADS_MAX; i++)
        begin_road_in(&j->roads[i], b, j->group);
    return j;
}

static int count_begun(const jam *j)
{
    int begun = 0;
    for (int i = 0; i < POOL_THREADS_MAX; i++)
        begun += atomic_load(&j->roads[i].begun);
    return begun;
}

/* All are submitted; `count` of them get a thread. */
static void get_stuck(jam *j, int count)
{
    for (int i = 0; i < POOL_THREADS_MAX; i++)
        submit(&j->roads[i], &j->errands[i], 1, &j->gate);
    for (int i = 0; i < count; i++)
        sem_wait_whole(&j->roads[i].began);
    settle(j->roads[0].b->ctx);
    assert_int_equal(count_begun(j), count);
}

static void end_jam(jam *j)
{
    for (int i = 0; i < POOL_THREADS_MAX; i++)
        sem_post(&j->gate);
    for (int i = 0; i < POOL_THREADS_MAX; i++) {
        sem_wait_whole(&j->roads[i].over);
        end_road(&j->roads[i]);
    }
    assert_ptr_equal(lane_group_ref(j->group), j->group);
    assert_null(lane_group_unref(j->group));
    assert_null(lane_group_unref(j->group));
    sem_destroy(&j->gate);
    free(j);
}

/* Nor is a thread started for those that wait. */
static void c131_a_group_that_is_stuck_has_no_more_threads(void **state)
{
    await_threads(threads_at_rest);
    jam *stuck = begin_jam(*state);
    get_stuck(stuck, POOL_THREADS_MAX / 2);
    assert_int_equal(count_threads(), threads_at_rest + POOL_THREADS_MAX / 2);
    end_jam(stuck);
}

/* Each group that gets stuck takes what leaves as much to the others. */
static void c131_groups_that_are_stuck_leave_threads_to_others(void **state)
{
    jam *first = begin_jam(*state);
    jam *second = begin_jam(*state);
    jam *third = begin_jam(*state);
    road other;
    errand_call errands[2];
    begin_road(&other, *state);

    get_stuck(first, POOL_THREADS_MAX / 2);
    get_stuck(second, POOL_THREADS_MAX / 4);
    get_stuck(third, POOL_THREADS_MAX / 8);
    for (int i = 0; i < 2; i++) {
        submit(&other, &errands[i], i + 1, NULL);
        sem_wait_whole(&other.over);
    }
    end_road(&other);
    end_jam(first);
    end_jam(second);
    end_jam(third);
    assert_null(lane_group_unref(NULL));
}

/* A call that ends lets one of the stuck group begin, and the next call of its own lane, too. */
static void c131_a_lane_goes_on_beside_a_group_that_is_stuck(void **state)
{
    await_threads(threads_at_rest); /* one that sleeps would look for work before it goes */
    jam *stuck = begin_jam(*state);
    road roads[2];
    errand_call errands[4];
    sem_t gates[2];
    for (int i = 0; i < 2; i++) {
        sem_init(&gates[i], 0, 0);
        begin_road(&roads[i], *state);
        submit(&roads[i], &errands[i], 1, &gates[i]);
        sem_wait_whole(&roads[i].began);
    }
    submit(&roads[0], &errands[2], 2, NULL);
    submit(&roads[0], &errands[3], 3, NULL);

    get_stuck(stuck, POOL_THREADS_MAX / 2 - 1);
    sem_post(&gates[0]);
    for (int i = 0; i < 3; i++)
        sem_wait_whole(&roads[0].over);
    settle(roads[0].b->ctx);
    assert_int_equal(count_begun(stuck), POOL_THREADS_MAX / 2);
    sem_post(&gates[1]);
    sem_wait_whole(&roads[1].over);
    for (int i = 0; i < 2; i++) {
        end_road(&roads[i]);
        sem_destroy(&gates[i]);
    }
    end_jam(stuck);
}

static void b75_threads_go_when_there_is_nothing_to_do(void **state)
{
    await_threads(threads_at_rest); /* those of the tests before go */
    road roads[3];
    errand_call errands[3];
    sem_t gate;
    sem_init(&gate, 0, 0);
    for (int i = 0; i < 3; i++) {
        begin_road(&roads[i], *state);
        submit(&roads[i], &errands[i], 1, &gate);
    }
    for (int i = 0; i < 3; i++)
        sem_wait_whole(&roads[i].began);
    assert_int_equal(count_threads(), threads_at_rest + 3);
    for (int i = 0; i < 3; i++)
        sem_post(&gate);
    for (int i = 0; i < 3; i++)
        sem_wait_whole(&roads[i].over);
    await_threads(threads_at_rest);
    for (int i = 0; i < 3; i++)
        end_road(&roads[i]);
    sem_destroy(&gate);
}

/* A little work, again and again, keeps one of many. */
static void b75_threads_that_are_not_needed_go_while_others_work(void **state)
{
    enum { MANY = 8 };
    const struct timespec now_and_then = {.tv_nsec = 10 * 1000 * 1000};
    road roads[MANY];
    errand_call errands[MANY];
    sem_t gate;
    sem_init(&gate, 0, 0);
    for (int i = 0; i < MANY; i++) {
        begin_road(&roads[i], *state);
        submit(&roads[i], &errands[i], 1, &gate);
    }
    for (int i = 0; i < MANY; i++)
        sem_wait_whole(&roads[i].began);
    for (int i = 0; i < MANY; i++)
        sem_post(&gate);
    for (int i = 0; i < MANY; i++)
        sem_wait_whole(&roads[i].over);

    for (int n = 2; count_threads() > threads_at_rest + 1; n++) {
        submit(&roads[n % MANY], &errands[n % MANY], 0, NULL);
        sem_wait_whole(&roads[n % MANY].over);
        nanosleep(&now_and_then, NULL);
    }
    for (int i = 0; i < MANY; i++)
        end_road(&roads[i]);
    sem_destroy(&gate);
}

/* -------------------------------------------------------------------- endings */

static void b71_after_the_close_calls_are_dropped_once(void **state)
{
    road r;
    begin_road(&r, *state);
    errand_call errands[3];
    sem_t gate;
    sem_init(&gate, 0, 0);
    submit(&r, &errands[0], 1, &gate);
    submit(&r, &errands[1], 2, NULL);
    sem_wait_whole(&r.began);
    on_loop(r.b->ctx, close_mailbox, r.mailbox);
    submit(&r, &errands[2], 3, NULL);
    sem_post(&gate);
    for (int i = 0; i < 3; i++)
        sem_wait_whole(&r.over);
    settle(r.b->ctx);
    assert_int_equal(r.run, 3);
    assert_int_equal(r.done, 0);
    assert_int_equal(r.dropped, 3);
    sem_destroy(&gate);
    end_road(&r);
}

static void b71_calls_outlive_the_loop_and_the_last_reference(void **state)
{
    bench *b = *state;
    road r;
    begin_road(&r, b);
    errand_call errands[2];
    sem_t gate;
    sem_init(&gate, 0, 0);
    submit(&r, &errands[0], 1, &gate);
    submit(&r, &errands[1], 2, NULL);
    sem_wait_whole(&r.began);

    assert_ptr_equal(lane_ref(r.lane), r.lane);
    assert_null(lane_unref(r.lane));
    assert_null(lane_unref(r.lane));
    on_loop(b->ctx, close_mailbox, r.mailbox);
    assert_null(mailbox_unref(r.mailbox));
    assert_int_equal(bj_ctx_close(b->ctx), BJ_OK); /* waits for no thread of the pool */
    assert_int_equal(r.run, 0);

    sem_post(&gate);
    sem_wait_whole(&r.over);
    sem_wait_whole(&r.over);
    assert_int_equal(r.run, 2);
    assert_int_equal(r.dropped, 2);
    r.lane = NULL;
    r.mailbox = NULL;
    end_road(&r);
    sem_destroy(&gate);
}

static void nobody_may_run_this(struct loop_task *task)
{
    (void)task;
    abort();
}

static void note_run(struct loop_task *task)
{
    *(void **)(task + 1) = task;
}

static void a_mailbox_keeps_what_was_posted_before_its_close(void **state)
{
    bench *b = *state;
    struct mailbox *mailbox = mailbox_new(b->ctx->loop);
    struct {
        struct loop_task task;
        void *ran;
    } before = {.task.run = note_run};
    struct loop_task after = {.run = nobody_may_run_this};
    assert_non_null(mailbox);
    assert_ptr_equal(mailbox_ref(mailbox), mailbox);
    assert_true(mailbox_post(mailbox, &before.task));
    on_loop(b->ctx, close_mailbox, mailbox);
    assert_false(mailbox_post(mailbox, &after));
    settle(b->ctx);
    assert_ptr_equal(before.ran, &before.task);
    assert_null(mailbox_unref(mailbox));
    assert_null(mailbox_unref(mailbox));
    assert_null(mailbox_unref(NULL));
    assert_null(lane_unref(NULL));
}

static void a_call_that_has_not_begun_can_be_withdrawn(void **state)
{
    road r;
    begin_road(&r, *state);
    errand_call errands[4];
    sem_t gate;
    sem_init(&gate, 0, 0);
    submit(&r, &errands[0], 1, &gate);
    sem_wait_whole(&r.began);
    submit(&r, &errands[1], 0, NULL); /* a number that would be out of order */
    submit(&r, &errands[2], 2, NULL);
    submit(&r, &errands[3], 0, NULL);
    assert_true(lane_withdraw(r.lane, &errands[1].call));
    assert_true(lane_withdraw(r.lane, &errands[3].call));
    assert_false(lane_withdraw(r.lane, &errands[1].call));
    assert_false(lane_withdraw(r.lane, &errands[0].call));
    submit(&r, &errands[1], 3, NULL); /* the end of the queue is where it belongs */
    sem_post(&gate);
    for (int i = 0; i < 3; i++)
        sem_wait_whole(&r.over);
    assert_int_equal(r.run, 3);
    assert_int_equal(r.done, 3);
    assert_false(r.disordered);
    sem_destroy(&gate);
    end_road(&r);
}

/* Who withdraws while threads look for work: it runs, or is withdrawn; never both, never none. */
static void withdrawing_races_with_running(void **state)
{
    enum { ROUNDS = 3000 };
    road r;
    begin_road(&r, *state);
    int withdrawn = 0;
    for (int i = 0; i < ROUNDS; i++) {
        errand_call errand;
        submit(&r, &errand, 0, NULL);
        if (lane_withdraw(r.lane, &errand.call))
            withdrawn++;
        else
            sem_wait_whole(&r.over);
    }
    assert_int_equal(r.run + withdrawn, ROUNDS);
    assert_int_equal(r.done, r.run);
    end_road(&r);
}

/* ---------------------------------------------------------------------- system */

typedef struct signal_call {
    struct call call;
    sigset_t blocked;
    sem_t done;
} signal_call;

static void note_signals(struct call *call)
{
    pthread_sigmask(SIG_SETMASK, NULL, &((signal_call *)call)->blocked);
}

static void post_done(struct call *call)
{
    sem_post(&((signal_call *)call)->done);
}

static void b75_the_programs_signals_are_its_own(void **state)
{
    road r;
    begin_road(&r, *state);
    signal_call s = {.call = {.run = note_signals, .done = post_done}};
    sem_init(&s.done, 0, 0);
    assert_true(lane_submit(r.lane, &s.call));
    sem_wait_whole(&s.done);
    assert_true(sigismember(&s.blocked, SIGINT));
    assert_true(sigismember(&s.blocked, SIGCHLD));
    assert_true(sigismember(&s.blocked, SIGPIPE));
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_false(sigismember(&mine, SIGINT));
    sem_destroy(&s.done);
    end_road(&r);
}

static void when_memory_is_short_there_is_no_lane(void **state)
{
    bench *b = *state;
    atomic_store(&heap_left, 1);
    assert_null(mailbox_new(b->ctx->loop));
    struct mailbox *mailbox = mailbox_new(b->ctx->loop);
    assert_non_null(mailbox);
    atomic_store(&heap_left, 1);
    assert_null(lane_new(mailbox, NULL));
    mailbox_unref(mailbox);
}

/* These need a process of their own, without threads so far. */

static bench *make_bench(void)
{
    void *state;
    check(bench_setup(&state) == 0);
    return state;
}

static void be_denied_threads(void)
{
    bench *b = make_bench();
    struct rlimit none = {0, 0};
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        exit(SCENARIO_SKIPPED); /* root may always make one */
    check(setrlimit(RLIMIT_NPROC, &none) == 0);

    road r;
    begin_road(&r, b);
    errand_call e = errand_on(&r, 1, NULL);
    check(!lane_submit(r.lane, &e.call));
    check(!lane_withdraw(r.lane, &e.call));
    settle(b->ctx);
    check(r.begun == 0 && r.done == 0 && r.dropped == 0);
    end_road(&r);
    bench_teardown((void **)&b);
    _exit(EXIT_SUCCESS); /* a sanitizer would need a thread to look for leaks */
}

static void where_there_is_no_thread_nothing_is_called(void **state)
{
    (void)state;
    play(be_denied_threads);
}

static void get_no_second_thread(void)
{
    bench *b = make_bench();
    road roads[2];
    errand_call errands[2];
    sem_t gate;
    sem_init(&gate, 0, 0);
    begin_road(&roads[0], b);
    begin_road(&roads[1], b);
    submit(&roads[0], &errands[0], 1, &gate);
    sem_wait_whole(&roads[0].began);
    struct rlimit none = {0, 0};
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        exit(SCENARIO_SKIPPED);
    check(setrlimit(RLIMIT_NPROC, &none) == 0);

    submit(&roads[1], &errands[1], 1, NULL);
    check(roads[1].begun == 0);
    sem_post(&gate);
    sem_wait_whole(&roads[1].over); /* by the one thread that there is */
    sem_wait_whole(&roads[0].over);
    end_road(&roads[0]);
    end_road(&roads[1]);
    bench_teardown((void **)&b);
    _exit(EXIT_SUCCESS);
}

static void where_there_are_few_threads_lanes_wait_for_one(void **state)
{
    (void)state;
    play(get_no_second_thread);
}

static void leave_with_stuck_threads(void)
{
    static road roads[5]; /* static: the threads keep looking at them */
    static errand_call errands[5];
    static sem_t gate;
    sem_init(&gate, 0, 0);
    bench *b = make_bench();
    for (int i = 0; i < 5; i++) {
        begin_road(&roads[i], b);
        submit(&roads[i], &errands[i], 1, &gate);
        sem_wait_whole(&roads[i].began);
    }
}

static void b67_stuck_threads_do_not_keep_a_process(void **state)
{
    (void)state;
    play(leave_with_stuck_threads);
}

/* A child has none of the parent's threads. Its own contexts work. */
static void use_the_pool_in_a_child(void *user)
{
    road *parents = user;
    errand_call e = errand_on(parents, 1, NULL);
    check(!lane_submit(parents->lane, &e.call) || lane_withdraw(parents->lane, &e.call));
    bench *b = make_bench();
    road r;
    begin_road(&r, b);
    errand_call own;
    submit(&r, &own, 1, NULL);
    sem_wait_whole(&r.over);
    check(r.done == 1);
    _exit(EXIT_SUCCESS);
}

static void b72_a_child_begins_with_an_empty_pool(void **state)
{
    if (!CAN_FORK_WITH_THREADS)
        skip();
    road roads[3];
    errand_call errands[3];
    sem_t gate;
    sem_init(&gate, 0, 0);
    for (int i = 0; i < 3; i++) {
        begin_road(&roads[i], *state);
        submit(&roads[i], &errands[i], 1, i < 2 ? &gate : NULL); /* two at work, one idle */
        sem_wait_whole(&roads[i].began);
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        use_the_pool_in_a_child(&roads[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    sem_post(&gate);
    sem_post(&gate);
    for (int i = 0; i < 3; i++) {
        sem_wait_whole(&roads[i].over);
        end_road(&roads[i]);
    }
    sem_destroy(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: these fork, and need a process without threads. */
        cmocka_unit_test(where_there_is_no_thread_nothing_is_called),
        cmocka_unit_test(where_there_are_few_threads_lanes_wait_for_one),
        cmocka_unit_test(b67_stuck_threads_do_not_keep_a_process),
        on_bench(b67_a_lane_runs_its_calls_in_order_and_one_at_a_time),
        on_bench(b67_stuck_lanes_delay_no_other_up_to_the_most),
        on_bench(c131_groups_that_are_stuck_leave_threads_to_others),
        on_bench(c131_a_group_that_is_stuck_has_no_more_threads),
        on_bench(c131_a_lane_goes_on_beside_a_group_that_is_stuck),
        on_bench(b75_threads_go_when_there_is_nothing_to_do),
        on_bench(b75_threads_that_are_not_needed_go_while_others_work),
        on_bench(b71_after_the_close_calls_are_dropped_once),
        on_bench(b71_calls_outlive_the_loop_and_the_last_reference),
        on_bench(a_mailbox_keeps_what_was_posted_before_its_close),
        on_bench(a_call_that_has_not_begun_can_be_withdrawn),
        on_bench(withdrawing_races_with_running),
        on_bench(b75_the_programs_signals_are_its_own),
        on_bench(when_memory_is_short_there_is_no_lane),
        on_bench(b72_a_child_begins_with_an_empty_pool),
    };
    return cmocka_run_group_tests(tests, count_at_rest, NULL);
}
