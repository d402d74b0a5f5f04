/* SPDX-License-Identifier: MIT */
/*
 * What observers of a real QEMU see.
 */
#include "nodes.h"
#include "records.h"
#include "tally.h"

static void b60_a_mirrors_story_in_order(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);
    bj_watch *one = watch_job(w, job, 0);
    bj_watch *other = watch_job(w, job, 0);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    assert_string_equal(news(w, one, BJ_RECORD_CLOSED), "READY ENDED CLOSED");
    const char *story = statuses(w, other, BJ_RECORD_CLOSED);
    if (!strstr(story, "ready waiting pending"))
        fail_msg("%s", story);
}

static void b60_the_records_carry_qemus_times(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED);
    bj_watch *watch = watch_job(w, job, 0);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    const bj_record *record;
    do {
        record = next_record(watch);
        if (record->kind == BJ_RECORD_READY)
            assert_true(record->timestamp_us == bj_job_time(job, BJ_MOMENT_READY_EVENT));
        if (record->kind == BJ_RECORD_ENDED) {
            assert_true(record->timestamp_us == bj_job_time(job, BJ_MOMENT_END_EVENT));
            assert_int_equal(record->outcome, BJ_OUTCOME_PIVOTED);
            assert_int_equal(record->error, BJ_OK);
        }
    } while (record->kind != BJ_RECORD_CLOSED);
}

static void b60_a_monitors_watch_sees_all_jobs(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    add_disk(w, "disk");
    add_empty(w, "copy");
    qmp(w, "blockdev-backup",
        JSON({"job-id": "theirs", "device": "disk", "target": "copy",
                                "sync": "full"}));

    const bj_record *record;
    do {
        record = next_record(watch);
        assert_int_equal(record->kind, BJ_RECORD_EVENT);
    } while (strcmp(record->name, "BLOCK_JOB_COMPLETED") != 0);
    assert_non_null(strstr(record->text, "\"theirs\""));
    assert_true(record->timestamp_us > 0);
}

static void b63_progress_is_streamed(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    bj_watch *watch = watch_job(w, job, 1);

    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_PROGRESS);
    assert_true(record->current < record->total);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_PROGRESS || record->current != record->total);
    assert_true(bj_job_is_ready(job));
    bj_watch_close(watch);
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "CLOSED");
}

static void w09_only_the_named_events_are_seen(void **state)
{
    world *w = *state;
    static const char *const names[] = {"BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"};
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch_events(w->monitor, names, 2, &watch), BJ_OK);
    hold_watch(w, watch);
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_pivot(job, BJ_PIVOT_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    assert_string_equal(next_record(watch)->name, "BLOCK_JOB_READY");
    assert_string_equal(next_record(watch)->name, "BLOCK_JOB_COMPLETED");
    const bj_record *none;
    assert_int_equal(bj_watch_next(watch, 0, &none), BJ_E_TIMEOUT);
}

static void b71_a_watchs_callback_runs_for_each_record(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    bj_watch *watch;
    assert_int_equal(bj_job_watch(job, 0, &watch), BJ_OK);
    assert_int_equal(bj_watch_on_record(watch, tally_watch_closure(&t)), BJ_OK);
    bj_watch_unref(watch);
    tally_await(&t, 3, 1); /* READY ENDED CLOSED */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b60_a_mirrors_story_in_order),       TEST(b60_the_records_carry_qemus_times),
        TEST(b60_a_monitors_watch_sees_all_jobs), TEST(b63_progress_is_streamed),
        TEST(w09_only_the_named_events_are_seen), TEST(b71_a_watchs_callback_runs_for_each_record),
    };
    return run_on_both(tests);
}
