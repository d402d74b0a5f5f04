/* SPDX-License-Identifier: MIT */
/*
 * Migrations that take the disks along: libvirt copies each to the other host, by a job of its own.
 * And what is left to say where QEMU's events are not to be had.
 */
#include "libvirt.h"

#include <libvirt/libvirt.h>
#include <string.h>
#include <unistd.h>

/* A slow migration of ordinary disks may be over before anybody attaches: then another is tried. */
enum { TRIES = 20 };

static int world_of_migrations(void **state)
{
    start_other_host();
    return world_alone(state);
}
#define MIGRATION_TEST(name) cmocka_unit_test_setup_teardown(name, world_of_migrations, world_end)

static void connect_world(world *w, domain *d)
{
    w->domain = d;
    w->monitor = connect_to(w, d->uri);
}

/* The job of the migration that has begun; NULL: it is over. */
static bj_job *attach_to_migration(world *w)
{
    int error = BJ_E_NO_JOB;
    bj_future *attached = NULL;

    while (error == BJ_E_NO_JOB) {
        attached = hold(w, bj_monitor_attach(w->monitor, "vda", BJ_TIMEOUT_DEFAULT));
        bj_future_wait(attached, BJ_TIMEOUT_NONE);
        error = bj_future_error(attached);
        usleep(1000);
    }
    if (error == BJ_E_DISCONNECTED)
        return NULL;
    assert_int_equal(error, BJ_OK);
    return hold_job(w, bj_future_job(attached));
}

/* An ordinary domain that migrates slowly, and the job of its vda. */
static bj_job *migrate_slowly(world *w)
{
    bj_job *job = NULL;
    need_other_host();
    for (int i = 0; !job && i < TRIES; i++) {
        connect_world(w, add_domain(w));
        begin_migration(w->domain, true);
        job = attach_to_migration(w);
    }
    assert_non_null(job);
    assert_string_equal(bj_job_type(job), "migration");
    return job;
}

/* For minutes. */
static bj_job *migrate_for_long(world *w)
{
    need_other_host();
    connect_world(w, add_large_domain(w));
    begin_migration(w->domain, true);
    bj_job *job = attach_to_migration(w);
    assert_non_null(job);
    return job;
}

/* The first row of the list; NULL: there is none, or the domain has gone. */
static const bj_job_info *look_at_row(world *w)
{
    bj_future *list = hold(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE));
    bj_future_wait(list, BJ_TIMEOUT_NONE);
    return bj_future_info(list, 0);
}

static void expect_stayed(world *w)
{
    assert_string_not_equal(end_migration(w, w->domain), "");
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
}

static void refuses_verbs(world *w, bj_job *job)
{
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_STATE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_E_STATE);
    names(expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED),
          "virsh domjobabort");
    names(expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED),
          "virsh domjobabort");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
}

static void c11_a_migration_is_listed_but_takes_no_verb(void **state)
{
    world *w = *state;
    bj_job *job = migrate_for_long(w);
    const bj_job_info *row = look_at_row(w);
    assert_non_null(row);
    assert_string_equal(row->id, "vda");
    assert_string_equal(row->type, "migration");
    assert_false(row->ready);

    refuses_verbs(w, job);

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    assert_true(abort_migration(w->domain));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    expect_stayed(w);
}

static void c11_a_migration_that_succeeds_is_completed(void **state)
{
    world *w = *state;
    bj_job *job = migrate_slowly(w);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(end_migration(w, w->domain), "");

    bj_future *ended = expect(w, bj_monitor_closed(w->monitor), BJ_E_DISCONNECTED);
    names(ended, "has migrated to another host");
}

/* Until the guest is about to change hosts a migration that is given up cancels its copies; then
 * they are completed, and it may still fail. */
static void c11_a_migration_given_up_late_has_not_switched(void **state)
{
    world *w = *state;
    bj_job *job = migrate_slowly(w);
    const bj_job_info *row = look_at_row(w);
    while (row && row->current < row->total) {
        usleep(1000);
        row = look_at_row(w);
    }

    abort_migration(w->domain); /* unless it is over */

    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    bj_future_wait(done, BJ_TIMEOUT_NONE);
    bool has_moved = *end_migration(w, w->domain) == '\0';
    bj_outcome outcome = bj_job_outcome(job);
    assert_true(outcome == BJ_OUTCOME_COMPLETED || (outcome == BJ_OUTCOME_CANCELLED && !has_moved));
}

/* ------------------------------------------------------------------ no events */

/* A connection that may only look gets none of QEMU's events. */
struct reader {
    virConnectPtr connection;
    virDomainPtr domain;
};

static void close_reader(void *user)
{
    struct reader *reader = user;
    virDomainFree(reader->domain);
    virConnectClose(reader->connection);
    free(reader);
}

/* The world's monitor is the reader's then. The library's loop must be there before it. */
static void read_only(world *w)
{
    struct reader *reader = calloc(1, sizeof *reader);
    assert_non_null(reader);
    world_keeps(w, reader, close_reader);
    connect_to(w, w->domain->uri);
    reader->connection = virConnectOpenReadOnly(host_uri());
    assert_non_null(reader->connection);
    reader->domain = virDomainLookupByName(reader->connection, w->domain->name);
    assert_non_null(reader->domain);
    bj_future *connected =
        expect(w, bj_monitor_connect_domain(w->ctx, reader->domain, BJ_TIMEOUT_DEFAULT), BJ_OK);
    w->monitor = hold_monitor(w, bj_future_monitor(connected));
}

static void c11_a_reader_is_told_that_a_migration_ended(void **state)
{
    world *w = *state;
    need_other_host();
    w->domain = add_large_domain(w);
    read_only(w);
    begin_migration(w->domain, true);
    bj_job *job = attach_to_migration(w);
    assert_non_null(job);
    assert_string_equal(bj_job_type(job), "migration");
    refuses_verbs(w, job);

    assert_true(abort_migration(w->domain));

    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    names(ends(done, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "was cancelled or has failed");
    expect_stayed(w);
}

static void c15_a_readers_refused_pivot_spoils_no_copy(void **state)
{
    world *w = *state;
    w->domain = add_domain(w);
    read_only(w);
    their_copy(w->domain, "copy", false);
    await_mirror(w->domain, "vda", "ready");
    bj_job *job = attach(w, "vda");
    names(expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_REFUSED),
          "read only");

    their_verb(w->domain, "vda", "abort");

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, aborted_when_ready());
    if (libvirt_can("abort softly"))
        assert_true(same_image(image_path(w, "vda"), image_path(w, "copy")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MIGRATION_TEST(c11_a_migration_given_up_late_has_not_switched),
        MIGRATION_TEST(c11_a_migration_is_listed_but_takes_no_verb),
        MIGRATION_TEST(c11_a_migration_that_succeeds_is_completed),
        MIGRATION_TEST(c11_a_reader_is_told_that_a_migration_ended),
        cmocka_unit_test_setup_teardown(c15_a_readers_refused_pivot_spoils_no_copy, world_alone,
                                        world_end),
    };
    return run_on_libvirt(tests);
}
