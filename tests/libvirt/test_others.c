/* SPDX-License-Identifier: MIT */
/*
 * Jobs that another client of libvirt starts, pivots or aborts.
 */
#include "libvirt.h"

#include "records.h"
#include <libvirt/libvirt.h>

static void b51_attach_to_a_job_that_runs(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", true);
    bj_job *job = attach(w, "vda");
    assert_string_equal(bj_job_id(job), "vda");
    assert_string_equal(bj_job_type(job), "mirror");
    assert_false(bj_job_is_ready(job));
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));

    their_verb(w->domain, "vda", "release");

    answers(ready, BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

static void b51_attach_to_a_job_that_is_ready(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", false);
    await_mirror(w->domain, "vda", "ready");

    w->monitor = connect_to(w, w->domain->uri);
    bj_job *job = attach(w, "vda");
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, aborted_when_ready());
}

static void b51_attach_to_an_active_commit(void **state)
{
    world *w = *state;
    snapshot_vda(w, "over");
    virsh(w, text_of(w, "blockcommit %s vda --active", w->domain->name));
    bj_job *job = attach(w, "vda");
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(bj_job_type(job), "commit");
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
}

static void b69_the_path_leads_to_the_same_job(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", true);
    bj_job *by_target = attach(w, "vda");
    bj_job *by_path = attach(w, image_path(w, "vda"));
    assert_ptr_equal(by_target, by_path);
    assert_string_equal(bj_job_id(by_path), "vda");
}

static void b69_a_start_by_path_is_known_by_its_target(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, image_path(w, "vda"), empty_image(w, "copy"), REUSE);
    assert_string_equal(bj_job_id(job), "vda");
    assert_ptr_equal(attach(w, "vda"), job);

    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));

    /* The path is another now. */
    bj_job *next = mirror(w, image_path(w, "copy"), empty_image(w, "next"), REUSE);
    expect_end(w, bj_job_pivot(next, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "next"));
}

static void b15_another_clients_pivot_is_told(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    their_verb(w->domain, "vda", "pivot");

    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy"));
}

static void b66_another_clients_abort_of_a_ready_copy(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    their_verb(w->domain, "vda", "abort");

    ends(done, BJ_OK, aborted_when_ready());
    assert_true(same_image(image_path(w, "vda"), image_path(w, "copy")));
}

static void b66_another_clients_abort_of_a_running_copy(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    bj_future *pivot = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));

    their_verb(w->domain, "vda", "abort");

    ends(done, BJ_OK, BJ_OUTCOME_CANCELLED);
    ends(pivot, BJ_E_JOB_ENDED, BJ_OUTCOME_CANCELLED);
}

static void b20_another_clients_next_copy_is_another_job(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    their_copy(w->domain, "theirs", true);
    bj_job *theirs = attach(w, "vda");
    assert_ptr_not_equal(theirs, job);
    their_verb(w->domain, "vda", "abort");

    expect_end(w, bj_job_done(theirs, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
}

static void b53_two_monitors_two_contexts_tell_the_same(void **state)
{
    world *w = *state;
    bj_ctx *ctx;
    assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
    bj_future *connected = bj_monitor_connect(ctx, w->domain->uri, BJ_TIMEOUT_DEFAULT);
    answers(connected, BJ_OK);
    bj_monitor *monitor = bj_future_monitor(connected);
    bj_future_unref(connected);
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);
    bj_future *attached = bj_monitor_attach(monitor, "vda", BJ_TIMEOUT_DEFAULT);
    answers(attached, BJ_OK);
    bj_job *same = bj_future_job(attached);
    bj_future_unref(attached);
    bj_future *done = bj_job_done(same, BJ_DONE_OVER, BJ_TIMEOUT_NONE);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);

    bj_future_unref(done);
    bj_job_unref(same);
    bj_monitor_unref(monitor);
    bj_ctx_unref(ctx);
}

/* A connection that may only read hears nothing of QEMU's own events. */
static void c16_a_reader_learns_what_an_aborted_copy_is_worth(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    virConnectPtr theirs = virConnectOpenReadOnly(host_uri());
    assert_non_null(theirs);
    virDomainPtr lent = virDomainLookupByName(theirs, w->domain->name);
    bj_future *connected = bj_monitor_connect_domain(w->ctx, lent, BJ_TIMEOUT_NONE);
    bj_monitor *reader = hold_monitor(w, bj_future_monitor(expect(w, connected, BJ_OK)));
    bj_future *attached = expect(w, bj_monitor_attach(reader, "vda", BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *seen = hold_job(w, bj_future_job(attached));
    bj_future *done = hold(w, bj_job_done(seen, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, aborted_when_ready());

    ends(done, BJ_OK, aborted_when_ready());
    virDomainFree(lent);
    virConnectClose(theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(b15_another_clients_pivot_is_told),
        DOMAIN_TEST(b20_another_clients_next_copy_is_another_job),
        DOMAIN_TEST(b51_attach_to_a_job_that_is_ready),
        DOMAIN_TEST(b51_attach_to_a_job_that_runs),
        DOMAIN_TEST(b51_attach_to_an_active_commit),
        DOMAIN_TEST(b53_two_monitors_two_contexts_tell_the_same),
        DOMAIN_TEST(b66_another_clients_abort_of_a_ready_copy),
        DOMAIN_TEST(b66_another_clients_abort_of_a_running_copy),
        DOMAIN_TEST(b69_a_start_by_path_is_known_by_its_target),
        DOMAIN_TEST(b69_the_path_leads_to_the_same_job),
        DOMAIN_TEST(c16_a_reader_learns_what_an_aborted_copy_is_worth),
    };
    return run_on_libvirt(tests);
}
