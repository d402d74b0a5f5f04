/* SPDX-License-Identifier: MIT */
/*
 * What comes back after libvirtd was away: the same QEMU with the same copy, or something else that
 * has the same names; and what became of a copy meanwhile.
 */
#include "api/memo_text.h"
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

/* --------------------------------------------------- the program was away */

/* The memo of the only job, once it is known how far that is; its monitor is closed then. */
static const char *memo_of_a_life(world *w)
{
    bj_watch_jobs_options options = {.size = sizeof options, .memos = true};
    bj_watch *watch;
    bj_monitor *monitor = connect_to(w, w->domain->uri);
    assert_int_equal(bj_monitor_watch_jobs(monitor, &options, &watch), BJ_OK);
    hold_watch(w, watch);

    const char *text = NULL;
    while (!text) {
        const bj_record *record = next_record(watch);
        struct memo memo = {0};
        const char *why;
        if (record->kind != BJ_RECORD_MEMO)
            continue;
        assert_int_equal(memo_read(record->text, &memo, &why), BJ_OK);
        if (memo.total > 0)
            text = text_of(w, "%s", record->text);
        memo_clear(&memo);
    }
    bj_monitor_close(monitor);
    expect(w, bj_monitor_closed(monitor), BJ_E_CLOSED);
    return text;
}

static bj_watch *remember(world *w, const char *memo)
{
    bj_watch_jobs_options options = {
        .size = sizeof options,
        .remembered = &memo,
        .remembered_count = 1,
    };
    bj_watch *watch;
    bj_monitor *monitor = connect_to(w, w->domain->uri);
    assert_int_equal(bj_monitor_watch_jobs(monitor, &options, &watch), BJ_OK);
    return hold_watch(w, watch);
}

static void c19_a_copy_that_is_remembered_goes_on(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", true);
    const char *memo = memo_of_a_life(w);

    bj_watch *watch = remember(w, memo);
    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(record->text, memo);
    assert_true(record->resumed && record->inferred); /* by all that is known */
    bj_job *job = hold_job(w, bj_job_ref(record->job));
    their_verb(w->domain, "vda", "release");
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void c19_a_remembered_copy_that_is_gone_is_lost(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", true);
    const char *memo = memo_of_a_life(w);
    their_verb(w->domain, "vda", "abort");
    await_mirror(w->domain, "vda", "none");

    bj_watch *watch = remember(w, memo);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_APPEARED);
    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_ENDED);
    assert_int_equal(record->outcome, BJ_OUTCOME_LOST);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_RELEASED);
}

#define WAY_TEST(name) cmocka_unit_test_setup_teardown(name, world_with_a_way, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WAY_TEST(c130_another_domain_of_that_name),
        WAY_TEST(c130_another_clients_copy_of_the_same_disk),
        WAY_TEST(c130_the_same_copy_goes_on),
        UNCONNECTED_DOMAIN_TEST(c19_a_copy_that_is_remembered_goes_on),
        UNCONNECTED_DOMAIN_TEST(c19_a_remembered_copy_that_is_gone_is_lost),
        WAY_TEST(c19_a_pivot_by_another_client_while_we_are_away),
        WAY_TEST(c19_a_pivot_that_ends_while_libvirtd_is_away),
        WAY_TEST(c19_an_abort_while_we_are_away_is_lost),
        WAY_TEST(c19_an_active_commit_that_pivots_while_we_are_away),
    };
    return run_on_libvirt(tests);
}
