/* SPDX-License-Identifier: MIT */
/*
 * A connection that the program has lent: what libvirt does with our callbacks when a call about
 * them fails, and which thread calls libvirt. Some of libvirt's functions are called through the
 * ones here, which note the thread, or fail as libvirt can.
 */
#include "libvirt.h"
#include "records.h"
#include "scenario.h"

#include <dlfcn.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

/* ----------------------------------------------------------- the way to libvirt */

static struct {
    atomic_bool removal_fails, registration_fails;
    atomic_int opens, closes; /* of connections */
    atomic_int asked_alive;
    atomic_int job_events; /* were asked for */
    atomic_int on_loop;    /* calls on the thread below, which must not block */
    atomic_bool knows_loop;
    pthread_t loop;
    sem_t begun, may_free; /* of a registration that has failed */
} trick;

/* libvirt's own. */
#define NEXT(function) ((__typeof__(&function))(uintptr_t)dlsym(RTLD_NEXT, #function))

static void note_thread(void)
{
    if (atomic_load(&trick.knows_loop) && pthread_equal(trick.loop, pthread_self()))
        atomic_fetch_add(&trick.on_loop, 1);
}

virConnectPtr virConnectOpen(const char *name)
{
    note_thread();
    atomic_fetch_add(&trick.opens, 1);
    return NEXT(virConnectOpen)(name);
}

int virConnectIsAlive(virConnectPtr conn)
{
    note_thread();
    atomic_fetch_add(&trick.asked_alive, 1);
    return NEXT(virConnectIsAlive)(conn);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): a type here has that name */
int virDomainFree(virDomainPtr handle)
{
    note_thread();
    return NEXT(virDomainFree)(handle);
}

int virConnectClose(virConnectPtr conn)
{
    note_thread();
    int r = NEXT(virConnectClose)(conn);
    atomic_fetch_add(&trick.closes, 1);
    return r;
}

/* As when libvirtd refuses the call: the callback stays. */
int virConnectUnregisterCloseCallback(virConnectPtr conn, virConnectCloseFunc cb)
{
    return atomic_load(&trick.removal_fails) ? -1
                                             : NEXT(virConnectUnregisterCloseCallback)(conn, cb);
}

typedef struct failure {
    virFreeCallback ff;
    void *opaque;
} failure;

/* As libvirt does after it has called the callbacks. */
static void free_later(int timer, void *user)
{
    failure *failed = user;
    virEventRemoveTimeout(timer);
    sem_post(&trick.begun);
    while (sem_wait(&trick.may_free) != 0)
        continue;
    failed->ff(failed->opaque);
    free(failed);
}

/* The latest registration for block jobs. */
static struct {
    virConnectDomainEventBlockJobCallback cb;
    void *opaque;
} listening;

/* As when libvirtd refuses the call while libvirt calls callbacks: -1, and the opaque is freed. */
int virConnectDomainEventRegisterAny(virConnectPtr conn, virDomainPtr dom, int eventID,
                                     virConnectDomainEventGenericCallback cb, void *opaque,
                                     virFreeCallback freecb)
{
    if (eventID == VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2) {
        atomic_fetch_add(&trick.job_events, 1);
        listening.cb = (virConnectDomainEventBlockJobCallback)(void (*)(void))cb;
        listening.opaque = opaque;
    }
    if (!atomic_load(&trick.registration_fails))
        return NEXT(virConnectDomainEventRegisterAny)(conn, dom, eventID, cb, opaque, freecb);
    failure *failed = malloc(sizeof *failed);
    check(failed != NULL);
    *failed = (failure){.ff = freecb, .opaque = opaque};
    check(virEventAddTimeout(0, free_later, failed, NULL) >= 0);
    while (sem_wait(&trick.begun) != 0)
        continue;
    return -1;
}

/* --------------------------------------------------------------------- a lender */

typedef struct lender {
    virConnectPtr conn;
    virDomainPtr domain;
} lender;

static void give_back(void *user)
{
    lender *l = user;
    virDomainFree(l->domain);
    virConnectClose(l->conn);
    free(l);
}

/* libvirt has a loop by then. */
static lender *lend(world *w)
{
    lender *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->conn = virConnectOpen(host_uri());
    assert_non_null(l->conn);
    l->domain = virDomainLookupByName(l->conn, domain_of(w)->name);
    assert_non_null(l->domain);
    world_keeps(w, l, give_back);
    return l;
}

static bj_future *connecting(world *w, lender *l)
{
    return hold(w, bj_monitor_connect_domain(w->ctx, l->domain, BJ_TIMEOUT_DEFAULT));
}

static void await_closes(int count)
{
    const struct timespec shortly = {.tv_nsec = 1000 * 1000};
    while (atomic_load(&trick.closes) < count)
        nanosleep(&shortly, NULL);
}

static void post(int timer, void *sem)
{
    virEventRemoveTimeout(timer);
    sem_post(sem);
}

/* libvirt's loop has done what it was to do by now. */
static void pass_a_round(void)
{
    sem_t over;
    sem_init(&over, 0, 0);
    for (int i = 0; i < 2; i++) {
        assert_true(virEventAddTimeout(0, post, &over, NULL) >= 0);
        while (sem_wait(&over) != 0)
            continue;
    }
    sem_destroy(&over);
}

/* ------------------------------------------------------------------------ tests */

static void c132_a_close_callback_that_stays_is_called_later(void **state)
{
    world *w = *state;
    lender *l = lend(w);
    bj_monitor *monitor = hold_monitor(w, bj_future_monitor(answers(connecting(w, l), BJ_OK)));
    int closes = atomic_load(&trick.closes);
    atomic_store(&trick.removal_fails, true);
    bj_monitor_close(monitor);
    await_closes(closes + 1);
    atomic_store(&trick.removal_fails, false);

    kill_libvirtd();
    while (virConnectIsAlive(l->conn) == 1)
        pass_a_round();
    pass_a_round(); /* nobody is left who could have heard of it */
    start_libvirtd();
}

static void c132_a_registration_that_fails_may_be_freed_later(void **state)
{
    world *w = *state;
    lender *l = lend(w);
    atomic_store(&trick.registration_fails, true);
    int closes = atomic_load(&trick.closes);
    answers(connecting(w, l), BJ_E_CONNECT);
    await_closes(closes + 1);
    atomic_store(&trick.registration_fails, false);
    sem_post(&trick.may_free);
    pass_a_round();
}

static void on_program_closed(virConnectPtr conn, int reason, void *user)
{
    (void)conn, (void)reason, (void)user;
}

static void note_loop(bj_future *future, void *user)
{
    (void)future, (void)user;
    trick.loop = pthread_self();
    atomic_store(&trick.knows_loop, true);
}

/* From now on, until assert_loop_called_nothing(). */
static void watch_loop(bj_ctx *ctx, lender *l)
{
    atomic_store(&trick.knows_loop, false);
    bj_future *future = bj_monitor_connect_domain(ctx, l->domain, BJ_TIMEOUT_DEFAULT);
    assert_int_equal(bj_future_on_done(future, (bj_closure){.fn = note_loop}), BJ_OK);
    answers(future, BJ_OK);
    bj_future_unref(future);
    while (!atomic_load(&trick.knows_loop))
        pass_a_round();
    atomic_store(&trick.on_loop, 0);
}

static void assert_loop_called_nothing(void)
{
    assert_int_equal(atomic_load(&trick.on_loop), 0);
    atomic_store(&trick.knows_loop, false);
}

/* The program waits for its end itself: it is asked for. */
static void c133_the_loop_does_not_ask_whether_a_connection_is_alive(void **state)
{
    world *w = *state;
    lender *l = lend(w);
    assert_int_equal(virConnectRegisterCloseCallback(l->conn, on_program_closed, NULL, NULL), 0);
    watch_loop(w->ctx, l);
    w->monitor = hold_monitor(w, bj_future_monitor(answers(connecting(w, l), BJ_OK)));
    for (int asked = atomic_load(&trick.asked_alive); atomic_load(&trick.asked_alive) < asked + 3;)
        pass_a_round();
    expect(
        w,
        bj_monitor_mirror(w->monitor, "vdx", image_path(w, "copy"), "full", NULL, BJ_TIMEOUT_NONE),
        BJ_E_REFUSED);
    assert_loop_called_nothing();

    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    kill_libvirtd();
    answers(closed, BJ_E_DISCONNECTED);
    assert_loop_called_nothing();
    start_libvirtd();
}

/* The context ends at any moment of the opening, and has the last reference of all. */
static void c133_the_loop_frees_no_domain(void **state)
{
    enum { ROUNDS = 30 };
    world *w = *state;
    for (int i = 0; i < ROUNDS; i++) {
        bj_ctx *ctx;
        lender l = {.conn = virConnectOpen(host_uri())};
        assert_non_null(l.conn);
        l.domain = virDomainLookupByName(l.conn, w->domain->name);
        assert_non_null(l.domain);
        assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
        watch_loop(ctx, &l);
        bj_future *future = bj_monitor_connect_domain(ctx, l.domain, BJ_TIMEOUT_DEFAULT);
        virDomainFree(l.domain);
        virConnectClose(l.conn);
        assert_int_equal(bj_ctx_close(ctx), BJ_OK);
        bj_future_unref(future);
        bj_ctx_unref(ctx);
        assert_loop_called_nothing();
    }
}

static void *ask_for_statistics(void *of)
{
    struct _virDomainBlockStats statistics;
    virDomainBlockStats(of, "vda", &statistics, sizeof statistics);
    return NULL;
}

/* That call's thread reads the connection for all others: libvirt's loop is not asked to. */
static void c135_a_call_that_hangs_makes_no_connection_deaf(void **state)
{
    world *w = *state;
    lender *l = lend(w);
    domain *other = add_domain(w);
    virDomainPtr hung = virDomainLookupByName(l->conn, other->name);
    assert_non_null(hung);
    pthread_t thread;
    /* libvirt before 10.1 can miss that a second call has come: then it sees it with the next pong.
     */
    assert_int_equal(virConnectSetKeepAlive(l->conn, 1, 60), 0);
    stop_domain(other);
    assert_int_equal(pthread_create(&thread, NULL, ask_for_statistics, hung), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(virDomainIsActive(l->domain), 1); /* the thread has gone ahead meanwhile */

    int opens = atomic_load(&trick.opens);
    bj_future *future = hold(w, bj_monitor_connect_domain(w->ctx, l->domain, BJ_TIMEOUT_NONE));
    w->monitor = hold_monitor(w, bj_future_monitor(answers(future, BJ_OK)));
    assert_int_equal(atomic_load(&trick.opens), opens);
    go_on_domain(other);
    pthread_join(thread, NULL);
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    virDomainFree(hung);
}

static void wait_for(bj_future *future, void *sem)
{
    (void)future;
    while (sem_wait(sem) != 0)
        continue;
}

/* While a callback of the program's lasts, what libvirt reports waits in memory. */
static void c139_events_that_wait_are_bounded_in_bytes(void **state)
{
    enum { EVENTS = 80, BYTES = 1024 * 1024 };
    world *w = *state;
    lender *l = lend(w);
    bj_monitor *monitor = hold_monitor(w, bj_future_monitor(answers(connecting(w, l), BJ_OK)));
    bj_future *closed = hold(w, bj_monitor_closed(monitor));
    char *disk = calloc(1, BYTES + 1);
    assert_non_null(disk);
    memset(disk, 'v', BYTES);
    sem_t go_on;
    sem_init(&go_on, 0, 0);
    bj_future *list = hold(w, bj_monitor_list(monitor, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_on_done(list, (bj_closure){.fn = wait_for, .user = &go_on}), BJ_OK);
    answers(list, BJ_OK);
    for (int i = 0; i < EVENTS; i++)
        listening.cb(l->conn, l->domain, disk, VIR_DOMAIN_BLOCK_JOB_TYPE_COPY,
                     VIR_DOMAIN_BLOCK_JOB_READY, listening.opaque);
    sem_post(&go_on);
    answers(closed, BJ_E_DISCONNECTED);
    sem_destroy(&go_on);
    free(disk);
}

/* -------------------------------------------------------- what is asked, and printed */

static void assert_asked(int times)
{
    assert_int_equal(atomic_exchange(&trick.job_events, 0), times);
}

static bj_monitor *connect_lent(world *w, lender *l)
{
    return hold_monitor(w, bj_future_monitor(answers(connecting(w, l), BJ_OK)));
}

/* The events of all jobs of all domains of a host are many. */
static void w08_events_of_jobs_are_asked_for_when_someone_needs_them(void **state)
{
    world *w = *state;
    lender *l = lend(w);
    atomic_store(&trick.job_events, 0);
    bj_monitor *idle = connect_lent(w, l);
    bj_future *closed = hold(w, bj_monitor_closed(idle));
    w->monitor = connect_lent(w, l);
    assert_asked(0);

    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    assert_asked(1);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    watch_monitor(w);
    assert_asked(0); /* again */

    destroy_domain(w->domain); /* of that it hears all the same */
    answers(closed, BJ_E_DISCONNECTED);
}

static void w08_a_watch_needs_them_and_so_does_who_attaches(void **state)
{
    world *w = *state;
    lender *l = lend(w);
    w->monitor = connect_lent(w, l);
    atomic_store(&trick.job_events, 0);
    bj_watch *events = watch_monitor(w);
    their_copy(w->domain, "copy", true);
    bj_job *job = attach(w, "vda");
    assert_asked(1);
    their_verb(w->domain, "vda", "release");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    while (strcmp(next_record(events)->name, "BLOCK_JOB_READY") != 0)
        continue;

    /* Another monitor of the connection begins later. */
    bj_monitor *first = w->monitor;
    w->monitor = connect_lent(w, l);
    bj_job *same = attach(w, "vda");
    assert_asked(0);
    their_verb(w->domain, "vda", "abort");
    expect_end(w, bj_job_done(same, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, aborted_when_ready());
    w->monitor = first;
}

static void count_error(void *counter, virErrorPtr error)
{
    if (error->level == VIR_ERR_ERROR)
        atomic_fetch_add((atomic_int *)counter, 1);
}

static void c59_where_nothing_is_refused_nothing_is_printed(void **state)
{
    static atomic_int printed; /* it is libvirt's to the end */
    world *w = *state;
    lender *l = lend(w);
    virSetErrorFunc(&printed, count_error);
    w->monitor = connect_lent(w, l);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    int closes = atomic_load(&trick.closes);
    bj_monitor_close(w->monitor);
    await_closes(closes + 1);
    virSetErrorFunc(NULL, NULL);
    assert_int_equal(atomic_load(&printed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(c132_a_close_callback_that_stays_is_called_later),
        DOMAIN_TEST(c132_a_registration_that_fails_may_be_freed_later),
        DOMAIN_TEST(c133_the_loop_does_not_ask_whether_a_connection_is_alive),
        DOMAIN_TEST(c133_the_loop_frees_no_domain),
        DOMAIN_TEST(c135_a_call_that_hangs_makes_no_connection_deaf),
        DOMAIN_TEST(c139_events_that_wait_are_bounded_in_bytes),
        DOMAIN_TEST(w08_events_of_jobs_are_asked_for_when_someone_needs_them),
        DOMAIN_TEST(w08_a_watch_needs_them_and_so_does_who_attaches),
        DOMAIN_TEST(c59_where_nothing_is_refused_nothing_is_printed),
    };
    sem_init(&trick.begun, 0, 0);
    sem_init(&trick.may_free, 0, 0);
    return run_on_libvirt(tests);
}
