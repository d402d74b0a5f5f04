/* SPDX-License-Identifier: MIT */
/*
 * Whoever watches all jobs of a real QEMU sees every one, with its outcome.
 */
#include "nodes.h"
#include "records.h"

#include <string.h>

static void their_backup(world *w, const char *id)
{
    qmp(w, "blockdev-backup",
        JSON({"job-id": "%s", "device": "disk", "target": "copy", "sync": "full"}), id);
}

/* The changes of one job up to its RELEASED, as "APPEARED READY ENDED RELEASED". */
static const char *changes_of(world *w, bj_watch *watch, const char *id)
{
    const char *changes = "";
    const bj_record *record;
    do {
        record = next_record(watch);
        assert_non_null(record->job);
        assert_string_equal(bj_job_id(record->job), id);
        if (record->kind != BJ_RECORD_PROGRESS)
            changes = text_of(w, "%s%s%s", changes, *changes ? " " : "", kind_name(record->kind));
    } while (record->kind != BJ_RECORD_RELEASED);
    return changes;
}

static void b60_a_job_of_another_client_from_beginning_to_end(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_watch *watch = watch_jobs(w, 0);
    their_backup(w, "theirs");

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(record->name, "backup");
    assert_false(record->started);
    assert_int_equal(record->sequence, 1);
    record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_ENDED);
    assert_int_equal(record->outcome, BJ_OUTCOME_COMPLETED);
    assert_string_equal(bj_job_id(record->job), "theirs");
    assert_int_equal(bj_job_outcome(record->job), BJ_OUTCOME_COMPLETED);
    assert_true(bj_job_time(record->job, BJ_MOMENT_END_EVENT) > 0);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_RELEASED);
}

static void b60_a_hundred_short_jobs_of_another_client(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_watch *watch = watch_jobs(w, 0);
    for (int i = 0; i < 100; i++) {
        const char *id = text_of(w, "short%d", i);
        their_backup(w, id);
        await_status(w, id, "null");
    }
    for (int i = 0; i < 100; i++)
        assert_string_equal(changes_of(w, watch, text_of(w, "short%d", i)),
                            "APPEARED ENDED RELEASED");
}

static void b60_our_own_mirror(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_watch *watch = watch_jobs(w, 0);
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_true(record->started);
    assert_ptr_equal(record->job, job);
    assert_string_equal(changes_of(w, watch, bj_job_id(job)), "READY ENDED RELEASED");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
}

static void b60_jobs_that_are_there_already_come_first(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    qmp(w, "blockdev-mirror",
        JSON({"job-id": "old", "device": "disk", "target": "copy", "sync": "full"}));
    await_status(w, "old", "ready");
    bj_watch *watch = watch_jobs(w, 0);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(record->name, "mirror");
    assert_string_equal(bj_job_id(record->job), "old");
    bj_job *job = hold_job(w, bj_job_ref(record->job));
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_READY);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(changes_of(w, watch, "old"), "ENDED RELEASED");
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_PIVOTED);
}

static void b60_who_watches_later_is_told_of_the_same_jobs(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_watch *first = watch_jobs(w, 0);
    bj_job *job = mirror(w, "disk", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *second = watch_jobs(w, 0);
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);

    const char *expected = "APPEARED READY ENDED RELEASED";
    assert_string_equal(changes_of(w, first, bj_job_id(job)), expected);
    assert_string_equal(changes_of(w, second, bj_job_id(job)), expected);
}

static void b60_a_concluded_job_that_nobody_dismisses(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    qmp(w, "blockdev-backup",
        JSON({"job-id": "left", "device": "disk", "target": "copy", "sync": "full",
                                "auto-dismiss": false}));
    await_status(w, "left", "concluded");
    bj_watch *watch = watch_jobs(w, 0);

    assert_int_equal(next_record(watch)->kind, BJ_RECORD_APPEARED);
    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_ENDED);
    assert_int_equal(record->outcome, BJ_OUTCOME_COMPLETED);
    expect(w, bj_job_dismiss(record->job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_RELEASED);
}

static void b63_progress_of_all_jobs(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_watch *watch = watch_jobs(w, 1);
    bj_job *job = mirror(w, "disk", "copy", HALTED_EARLY);
    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_PROGRESS);
    assert_ptr_equal(record->job, job);
    assert_true(record->current < record->total);

    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_PROGRESS || record->current != record->total);
    bj_watch_close(watch);
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "CLOSED");
}

static void b45_the_end_of_the_connection(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_watch *watch = watch_jobs(w, 0);
    mirror(w, "disk", "copy", HALTED);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_APPEARED);
    kill_qemu(w);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_ENDED);
    assert_int_equal(record->outcome, BJ_OUTCOME_LOST);
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "RELEASED CLOSED");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b45_the_end_of_the_connection),
        TEST(b60_a_concluded_job_that_nobody_dismisses),
        TEST(b60_a_hundred_short_jobs_of_another_client),
        TEST(b60_a_job_of_another_client_from_beginning_to_end),
        TEST(b60_jobs_that_are_there_already_come_first),
        TEST(b60_our_own_mirror),
        TEST(b60_who_watches_later_is_told_of_the_same_jobs),
        TEST(b63_progress_of_all_jobs),
    };
    return run_on_both(tests);
}
