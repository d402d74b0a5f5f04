/* SPDX-License-Identifier: MIT */
/*
 * Monitors that only look: on a read-only connection, by its address.
 */
#include "libvirt.h"
#include "records.h"

static const char *reader_uri(world *w)
{
    return text_of(w, "%s?readonly", w->domain->uri);
}

/* The world's own monitor is the reader. */
static int world_with_a_reader(void **state)
{
    world_domain_unconnected(state);
    world *w = *state;
    w->monitor = connect_to(w, reader_uri(w));
    return 0;
}

static void is_denied(world *w, bj_future *future)
{
    names(expect(w, future, BJ_E_REFUSED), "read only");
    names(future, "?readonly");
    assert_string_equal(bj_future_error_class(future), "29");
}

static void w08_a_reader_sees_another_clients_copy(void **state)
{
    world *w = *state;
    bj_watch *jobs = watch_jobs(w, 0);
    their_copy(w->domain, "copy", true);
    bj_job *job = attach(w, "vda");
    assert_string_equal(bj_job_type(job), "mirror");
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 1);
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    their_verb(w->domain, "vda", "release");
    answers(ready, BJ_OK);
    their_verb(w->domain, "vda", "pivot");

    ends(done, BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(news(w, jobs, BJ_RECORD_ENDED), "APPEARED READY ENDED");
}

static void w08_a_reader_sees_another_clients_backup(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    bj_watch *jobs = watch_jobs(w, 0);
    their_backup(w->domain, text_of(w,
                                    "<domainbackup><disks><disk name='vda' type='file'>"
                                    "<target file='%s'/></disk><disk name='vdb' backup='no'/>"
                                    "</disks></domainbackup>",
                                    image_path(w, "backup")));
    news(w, jobs, BJ_RECORD_ENDED);
}

static void w08_a_reader_steers_nothing(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", true);
    bj_job *job = attach(w, "vda");

    is_denied(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)); /* it is not ready */
    is_denied(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    is_denied(w, bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE));
    is_denied(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE));
    is_denied(w, bj_job_pause(job, BJ_TIMEOUT_NONE));

    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    assert_string_equal(mirror_of(w, w->domain, "vda"), "running");
    their_verb(w->domain, "vda", "abort");
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void w08_a_reader_starts_nothing(void **state)
{
    world *w = *state;
    is_denied(w, bj_monitor_mirror(w->monitor, "vda", image_path(w, "copy"), "full", NULL,
                                   BJ_TIMEOUT_NONE));
    is_denied(
        w, bj_monitor_start(w->monitor, "backup", JSON({"disks": {"vda": "/b"}}), BJ_TIMEOUT_NONE));
    is_denied(w, bj_monitor_start(w->monitor, "virDomainBlockPull",
                                  JSON({"disk": "vda"}), BJ_TIMEOUT_NONE));
    expect(w, bj_monitor_execute(w->monitor, "query-block", NULL, BJ_TIMEOUT_NONE),
           BJ_E_UNSUPPORTED);
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
}

/* Each has a connection of the kind that it asked for, whoever came first. */
static void w08_readers_and_writers_of_one_host(void **state)
{
    world *w = *state;
    bj_future *readers[4], *writers[4];
    for (int i = 0; i < 4; i++) {
        readers[i] = hold(w, bj_monitor_connect(w->ctx, reader_uri(w), BJ_TIMEOUT_NONE));
        writers[i] = hold(w, bj_monitor_connect(w->ctx, w->domain->uri, BJ_TIMEOUT_NONE));
    }
    their_copy(w->domain, "copy", true);
    for (int i = 0; i < 4; i++) {
        w->monitor = hold_monitor(w, bj_future_monitor(answers(readers[i], BJ_OK)));
        is_denied(w, bj_job_set_speed(attach(w, "vda"), 1 << 20, BJ_TIMEOUT_NONE));
        w->monitor = hold_monitor(w, bj_future_monitor(answers(writers[i], BJ_OK)));
        expect(w, bj_job_set_speed(attach(w, "vda"), 1, BJ_TIMEOUT_NONE), BJ_OK);
    }
    bj_future *done = bj_job_done(attach(w, "vda"), BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    expect_end(w, bj_job_abort(attach(w, "vda"), BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_CANCELLED);
    ends(hold(w, done), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void w08_a_reader_that_comes_back_is_a_reader(void **state)
{
    world *w = *state;
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    their_copy(w->domain, "copy", true);
    bj_job *job = attach(w, "vda");
    bj_watch *watch = watch_monitor(w);

    kill_libvirtd();
    start_libvirtd();
    news(w, watch, BJ_RECORD_RECONNECTED);

    is_denied(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    is_denied(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE));
    their_verb(w->domain, "vda", "abort");
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void w08_a_group_with_a_readers_job_is_not_pivoted(void **state)
{
    world *w = *state;
    their_copy(w->domain, "copy", true);
    bj_job *mine = attach(w, "vda");
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    hold_group(w, group);
    assert_int_equal(bj_group_add(group, mine), BJ_OK);
    bj_future *pivot = bj_group_pivot(group, BJ_TIMEOUT_NONE);
    names(expect(w, pivot, BJ_E_REFUSED), "read only");
    assert_string_equal(mirror_of(w, w->domain, "vda"), "running");
}

static void w08_options_of_an_address(void **state)
{
    world *w = *state;
    names(expect(w,
                 bj_monitor_connect(w->ctx, text_of(w, "%s?ro", w->domain->uri), BJ_TIMEOUT_NONE),
                 BJ_E_INVAL),
          "%3F");
    names(expect(w, bj_monitor_connect(w->ctx, domain_uri(w, "no-vm?readonly"), BJ_TIMEOUT_NONE),
                 BJ_E_CONNECT),
          "no-vm");
    add_domain_named(w, "what?readonly");
    w->monitor = connect_to(w, domain_uri(w, "what%3Freadonly"));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = start(w, "block-stream", JSON({"device": "vda"}));
    expect(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK);
}

#define READER_TEST(name) cmocka_unit_test_setup_teardown(name, world_with_a_reader, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        READER_TEST(w08_a_reader_sees_another_clients_copy),
        READER_TEST(w08_a_reader_sees_another_clients_backup),
        READER_TEST(w08_a_reader_steers_nothing),
        READER_TEST(w08_a_reader_starts_nothing),
        READER_TEST(w08_a_reader_that_comes_back_is_a_reader),
        READER_TEST(w08_a_group_with_a_readers_job_is_not_pivoted),
        UNCONNECTED_DOMAIN_TEST(w08_readers_and_writers_of_one_host),
        UNCONNECTED_DOMAIN_TEST(w08_options_of_an_address),
    };
    return run_on_libvirt(tests);
}
