/* SPDX-License-Identifier: MIT */
/*
 * A connection that the program has lent: what libvirt does with our callbacks when a call about
 * them fails, and which thread calls libvirt. Some of libvirt's functions are called through the
 * ones here, which note the thread, or fail as libvirt can.
 */
#include "libvirt.h"
#include "scenario.h"

#include <dlfcn.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

/* ----------------------------------------------------------- the way to libvirt */

static struct {
    atomic_bool removal_fails, registration_fails;
    atomic_int closes;     /* of connections */
    sem_t begun, may_free; /* of a registration that has failed */
} trick;

/* libvirt's own. */
#define NEXT(function) ((__typeof__(&function))(uintptr_t)dlsym(RTLD_NEXT, #function))

int virConnectClose(virConnectPtr conn)
{
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

/* As when libvirtd refuses the call while libvirt calls callbacks: -1, and the opaque is freed. */
int virConnectDomainEventRegisterAny(virConnectPtr conn, virDomainPtr about, int event,
                                     virConnectDomainEventGenericCallback cb, void *opaque,
                                     virFreeCallback ff)
{
    if (!atomic_load(&trick.registration_fails))
        return NEXT(virConnectDomainEventRegisterAny)(conn, about, event, cb, opaque, ff);
    failure *failed = malloc(sizeof *failed);
    check(failed != NULL);
    *failed = (failure){.ff = ff, .opaque = opaque};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(c132_a_close_callback_that_stays_is_called_later),
        DOMAIN_TEST(c132_a_registration_that_fails_may_be_freed_later),
    };
    sem_init(&trick.begun, 0, 0);
    sem_init(&trick.may_free, 0, 0);
    return run_on_libvirt(tests);
}
