/* SPDX-License-Identifier: MIT */
/*
 * What comes back after libvirtd was away: the same QEMU with the same copy, or something else that
 * has the same names; and what became of a copy meanwhile.
 */
#include "libvirt.h"
#include "records.h"

#include <unistd.h>

/* The way to libvirtd that the monitor has: without it, it can't come back. */
static const char *link_path;

static const char *socket_path(void)
{
    const char *socket = strstr(host_uri(), "socket=");
    assert_non_null(socket);
    return socket + strlen("socket=");
}

static void open_way(void)
{
    assert_int_equal(symlink(socket_path(), link_path), 0);
}

static void close_way(void)
{
    assert_int_equal(unlink(link_path), 0);
}

/* Connected by that way, for ever. */
static int world_with_a_way(void **state)
{
    world_domain_unconnected(state);
    world *w = *state;
    link_path = path_of(w, "way");
    open_way();
    w->monitor =
        connect_to(w, text_of(w, "qemu+unix:///session?socket=%s#%s", link_path, w->domain->name));
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    return 0;
}

/* Libvirtd dies, and the monitor knows it. */
static bj_watch *lose_libvirtd(world *w)
{
    bj_watch *watch = watch_monitor(w);
    close_way();
    kill_libvirtd();
    assert_string_equal(news(w, watch, BJ_RECORD_DISCONNECTED), "DISCONNECTED");
    return watch;
}

/* As after a restart of the host: libvirtd has never heard of the domain. */
static void forget_domain(world *w)
{
    kill_domain(w->domain);
    const char *socket = socket_path();
    int folder = (int)(strrchr(socket, '/') - socket);
    const char *state = text_of(w, "%.*s/qemu/run/%s.xml", folder, socket, w->domain->name);
    assert_int_equal(unlink(state), 0);
}

static bj_future *done_of(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
}

static bj_job *ready_copy_to_store(world *w)
{
    bj_job *job = mirror(w, "vda", network_store(w, false), JSON({"reuse": true}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    return job;
}

/* ------------------------------------------------------------------- who it is */

/* First, as it needs the number that libvirtd gives its first domain. */
static void c130_another_domain_of_that_name(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    const char *number = virsh(w, text_of(w, "domid %s", w->domain->name));
    lose_libvirtd(w);
    forget_domain(w);

    start_libvirtd();
    domain *other = add_domain_named(w, w->domain->name);
    assert_string_equal(virsh(w, text_of(w, "domid %s", other->name)), number);
    their_copy(other, "theirs", false);
    await_mirror(other, "vda", "ready");
    open_way();

    ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    assert_string_not_equal(bj_future_text(pivot), "");
    assert_string_equal(mirror_of(w, other, "vda"), "ready");
}

static void c130_another_clients_copy_of_the_same_disk(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    lose_libvirtd(w);

    start_libvirtd();
    their_verb(w->domain, "vda", "abort");
    their_copy(w->domain, "theirs", false);
    await_mirror(w->domain, "vda", "ready");
    open_way();

    ends(pivot, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
    assert_string_equal(mirror_of(w, w->domain, "vda"), "ready");
    expect_end(w, bj_job_pivot(attach(w, "vda"), BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void c130_the_same_copy_goes_on(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    bj_watch *watch = lose_libvirtd(w);

    start_libvirtd();
    open_way();
    assert_string_equal(news(w, watch, BJ_RECORD_RECONNECTED), "RECONNECTED");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);

    ends(pivot, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

/* ------------------------------------------------------------- what became of it */

static void c19_a_pivot_that_ends_while_libvirtd_is_away(void **state)
{
    world *w = *state;
    bj_job *job = ready_copy_to_store(w);
    bj_future *done = done_of(w, job);
    stop_store(w->domain);
    virsh(w, text_of(w, "blockjob %s vda --pivot --async", w->domain->name));
    lose_libvirtd(w);

    go_on_store(w->domain);
    start_libvirtd();
    await_mirror(w->domain, "vda", "none");
    open_way();

    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
}

static void c19_a_pivot_by_another_client_while_we_are_away(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    bj_future *done = done_of(w, job);
    lose_libvirtd(w);

    start_libvirtd();
    their_verb(w->domain, "vda", "release");
    await_mirror(w->domain, "vda", "ready");
    their_verb(w->domain, "vda", "pivot");
    open_way();

    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
    expect(w, bj_job_ready(job, 0), BJ_OK);
}

static void c19_an_active_commit_that_pivots_while_we_are_away(void **state)
{
    world *w = *state;
    snapshot_vda(w, "over");
    bj_job *job = start(w, "block-commit", JSON({"device": "vda"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = done_of(w, job);
    lose_libvirtd(w);

    start_libvirtd();
    their_verb(w->domain, "vda", "pivot");
    open_way();

    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* The disk is what it was: aborted, or failed. */
static void c19_an_abort_while_we_are_away_is_lost(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = done_of(w, job);
    lose_libvirtd(w);

    start_libvirtd();
    their_verb(w->domain, "vda", "abort");
    open_way();

    ends(done, BJ_E_JOB_LOST, BJ_OUTCOME_LOST);
}

#define WAY_TEST(name) cmocka_unit_test_setup_teardown(name, world_with_a_way, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WAY_TEST(c130_another_domain_of_that_name),
        WAY_TEST(c130_another_clients_copy_of_the_same_disk),
        WAY_TEST(c130_the_same_copy_goes_on),
        WAY_TEST(c19_a_pivot_by_another_client_while_we_are_away),
        WAY_TEST(c19_a_pivot_that_ends_while_libvirtd_is_away),
        WAY_TEST(c19_an_abort_while_we_are_away_is_lost),
        WAY_TEST(c19_an_active_commit_that_pivots_while_we_are_away),
    };
    return run_on_libvirt(tests);
}
