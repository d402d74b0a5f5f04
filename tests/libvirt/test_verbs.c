/* SPDX-License-Identifier: MIT */
/*
 * Verbs that meet another client's: a job that somebody ends is ended once, and all learn how.
 */
#include "libvirt.h"

#include <libvirt/libvirt.h>
#include <stdatomic.h>
#include <unistd.h>

enum { CLIENTS = 3, ROUNDS = 12 };

/* Ready, into a store that can be stopped: then a pivot or an abort takes as long as that lasts. */
static bj_job *ready_copy(world *w)
{
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_STALL_MS, 10), BJ_OK);
    bj_job *job = mirror(w, "vda", network_store(w, false), JSON({"reuse": true}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    return job;
}

/* Another client begins to end vda's copy, which goes on until the store does. Not so an abort that
 * is not soft: that is the job's end. */
static void begin_to(world *w, const char *verb)
{
    stop_store(w->domain);
    virsh(w, text_of(w, "blockjob %s vda --%s --async", w->domain->name, verb));
    assert_string_equal(mirror_of(w, w->domain, "vda"), verb);
}

/* It is not refused while the other client's verb is at work, however often it is tried. */
static void waits_for_the_end(bj_future *future)
{
    assert_int_equal(bj_future_wait(future, 200), BJ_E_TIMEOUT);
}

static bj_future *pivot_of(world *w, bj_job *job)
{
    return hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
}

static bj_future *abort_of(world *w, bj_job *job)
{
    return hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
}

static void c30_a_pivot_beside_a_pivot(void **state)
{
    world *w = *state;
    bj_job *job = ready_copy(w);
    begin_to(w, "pivot");

    bj_future *pivot = pivot_of(w, job);
    waits_for_the_end(pivot);
    go_on_store(w->domain);

    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void c30_a_pivot_beside_an_abort(void **state)
{
    needs_libvirt_that_can("abort softly");
    world *w = *state;
    bj_job *job = ready_copy(w);
    begin_to(w, "abort");

    bj_future *pivot = pivot_of(w, job);
    waits_for_the_end(pivot);
    go_on_store(w->domain);

    ends(pivot, BJ_E_JOB_ENDED, BJ_OUTCOME_COPIED);
}

static void c30_an_abort_beside_a_pivot(void **state)
{
    world *w = *state;
    bj_job *job = ready_copy(w);
    begin_to(w, "pivot");

    bj_future *abort = abort_of(w, job);
    waits_for_the_end(abort);
    go_on_store(w->domain);

    ends(abort, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void c30_an_abort_beside_an_abort(void **state)
{
    needs_libvirt_that_can("abort softly");
    world *w = *state;
    bj_job *job = ready_copy(w);
    begin_to(w, "abort");

    bj_future *abort = abort_of(w, job);
    waits_for_the_end(abort);
    go_on_store(w->domain);

    ends(abort, BJ_OK, BJ_OUTCOME_COPIED);
}

/* The manager that gave the verb is gone; the one that is started instead gives it again. */
static void c30_a_verb_after_the_managers_restart(void **state)
{
    world *w = *state;
    ready_copy(w);
    begin_to(w, "pivot");

    w->monitor = connect_to(w, w->domain->uri);
    bj_job *job = attach(w, "vda");
    bj_future *pivot = pivot_of(w, job);
    waits_for_the_end(pivot);
    go_on_store(w->domain);

    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* ------------------------------------------------------------------ late events */

/* A callback of the program's own, in libvirt's loop, that takes its time. */
static atomic_bool callback_is_in, callback_may_go;

static int on_lifecycle(virConnectPtr connection, virDomainPtr about, int event, int detail,
                        void *opaque)
{
    (void)connection, (void)about, (void)event, (void)detail, (void)opaque;
    atomic_store(&callback_is_in, true);
    while (!atomic_load(&callback_may_go))
        usleep(1000);
    return 0;
}

/* From now on what libvirt reports waits behind the callback. */
static int occupy_loop(virConnectPtr connection, world *w)
{
    atomic_store(&callback_is_in, false);
    atomic_store(&callback_may_go, false);
    int id = virConnectDomainEventRegisterAny(connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                              VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), NULL, NULL);
    assert_true(id >= 0);
    define_inactive_domain(text_of(w, "idle-%s", w->domain->name));
    while (!atomic_load(&callback_is_in))
        usleep(1000);
    return id;
}

static void release_loop(virConnectPtr connection, int id)
{
    atomic_store(&callback_may_go, true);
    assert_int_equal(virConnectDomainEventDeregisterAny(connection, id), 0);
    assert_true(virConnectClose(connection) >= 0);
}

static virConnectPtr own_connection(void)
{
    virConnectPtr connection = virConnectOpen(host_uri());
    assert_non_null(connection);
    return connection;
}

/* The list lacks the job, and its end waits for as long as the callback takes. */
static void c134_an_end_that_waits_behind_the_programs_callback(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    virConnectPtr connection = own_connection();
    int id = occupy_loop(connection, w);
    their_verb(w->domain, "vda", "pivot");

    bj_future *pivot = pivot_of(w, job);
    bj_future *list = hold(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_wait(pivot, 3000), BJ_E_TIMEOUT);
    release_loop(connection, id);

    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
    answers(list, BJ_OK);
}

/* It has no definition, and libvirt has forgotten it; that it has stopped is on its way. */
static void c137_a_transient_domain_that_is_gone(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    virConnectPtr connection = own_connection();
    int id = occupy_loop(connection, w);
    destroy_domain(w->domain);

    bj_future *abort = abort_of(w, job);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    ends(abort, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    answers(closed, BJ_E_DISCONNECTED);
    release_loop(connection, id);
}

/* ---------------------------------------------------------------- many clients */

typedef struct client {
    bj_ctx *ctx;
    bj_monitor *monitor;
    bj_job *job;
    bj_future *verb;
} client;

static void open_client(client *c, const char *uri)
{
    assert_int_equal(bj_ctx_new(&c->ctx), BJ_OK);
    bj_future *connected = bj_monitor_connect(c->ctx, uri, BJ_TIMEOUT_DEFAULT);
    answers(connected, BJ_OK);
    c->monitor = bj_future_monitor(connected);
    bj_future_unref(connected);
}

static void attach_client(client *c)
{
    bj_future *attached = bj_monitor_attach(c->monitor, "vda", BJ_TIMEOUT_DEFAULT);
    answers(attached, BJ_OK);
    c->job = bj_future_job(attached);
    bj_future_unref(attached);
}

static void close_client(client *c)
{
    bj_monitor_unref(c->monitor);
    bj_ctx_unref(c->ctx);
}

/* The bits of `round` say which of them pivot. */
static void end_at_once(client *clients, int round)
{
    for (int i = 0; i < CLIENTS; i++)
        attach_client(&clients[i]);
    for (int i = 0; i < CLIENTS; i++)
        clients[i].verb = (round >> i) & 1
                              ? bj_job_pivot(clients[i].job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)
                              : bj_job_abort(clients[i].job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(bj_future_wait(clients[i].verb, BJ_TIMEOUT_NONE), BJ_OK);
}

/* All have learnt the same, which is the truth. Whoever wanted it to pivot is told if it did not.
 */
static void agree(world *w, client *clients, int round, const char *target)
{
    bool pivoted = strcmp(source_of(w, w->domain, "vda"), target) == 0;
    for (int i = 0; i < CLIENTS; i++) {
        bool wants_pivot = (round >> i) & 1;
        bj_outcome outcome = bj_job_outcome(clients[i].job);
        answers(clients[i].verb, wants_pivot && !pivoted ? BJ_E_JOB_ENDED : BJ_OK);
        if (pivoted)
            assert_int_equal(outcome, BJ_OUTCOME_PIVOTED);
        else
            assert_true(outcome == BJ_OUTCOME_COPIED || outcome == BJ_OUTCOME_CANCELLED);
        bj_future_unref(clients[i].verb);
        bj_job_unref(clients[i].job);
    }
}

static void c30_three_clients_end_one_copy(void **state)
{
    world *w = *state;
    client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        open_client(&clients[i], w->domain->uri);

    for (int round = 0; round < ROUNDS; round++) {
        const char *name = text_of(w, "copy%d", round);
        their_copy(w->domain, name, false);
        await_mirror(w->domain, "vda", "ready");
        end_at_once(clients, round);
        agree(w, clients, round, image_path(w, name));
    }
    for (int i = 0; i < CLIENTS; i++)
        close_client(&clients[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(c134_an_end_that_waits_behind_the_programs_callback),
        DOMAIN_TEST(c137_a_transient_domain_that_is_gone),
        DOMAIN_TEST(c30_a_pivot_beside_a_pivot),
        DOMAIN_TEST(c30_a_pivot_beside_an_abort),
        DOMAIN_TEST(c30_a_verb_after_the_managers_restart),
        DOMAIN_TEST(c30_an_abort_beside_a_pivot),
        DOMAIN_TEST(c30_an_abort_beside_an_abort),
        DOMAIN_TEST(c30_three_clients_end_one_copy),
    };
    return run_on_libvirt(tests);
}
