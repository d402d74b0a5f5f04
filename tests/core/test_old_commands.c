/* SPDX-License-Identifier: MIT */
/*
 * QEMUs before 4.0: what their jobs are called, which words their commands take, and whether
 * another client switched the disk.
 */
#include "fake.h"

#include <stdio.h>

static bj_future *starting(world *w, const char *command, const char *arguments)
{
    return hold(w, bj_monitor_start(w->monitor, command, arguments, BJ_TIMEOUT_NONE));
}

static bj_job *drive_mirror(world *w)
{
    return start(w, "drive-mirror",
                 JSON({"device": "drive0", "target": "/images/copy", "sync": "full"}));
}

static bj_future *done(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
}

static void other_client(world *w, const char *command, const char *key, bj_job *job)
{
    step(w, JSON({"do": "execute", "command": "%s", "arguments": {"%s": "%s"}}), command, key,
                  bj_job_id(job));
}

static void become_ready(world *w, bj_job *job)
{
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
}

static bool has_own_id(bj_job *job)
{
    return strncmp(bj_job_id(job), "bj-", 3) == 0;
}

/* ---------------------------------------------------------------------- names */

static void b40_a_qemu_of_4_0_is_not_asked_for_its_schema(void **state)
{
    world *w = *state;
    be(w, "5.2");
    bj_job *job = drive_mirror(w);
    assert_true(has_own_id(job));
    assert_true(log_has(w, "\"auto-dismiss\": false"));
    assert_int_equal(times_sent(w, "query-qmp-schema"), 0);
}

static void b40_ids_of_2_8_are_learnt_from_its_schema_once(void **state)
{
    world *w = *state;
    be(w, "2.8");
    bj_future *starts[5];
    for (int i = 0; i < 5; i++)
        starts[i] = starting(w, "blockdev-mirror",
                             text_of(w, JSON({"device": "d%d", "target": "c", "sync": "top"}), i));
    for (int i = 0; i < 5; i++) {
        answers(starts[i], BJ_OK);
        assert_true(has_own_id(hold_job(w, bj_future_job(starts[i]))));
    }
    assert_true(has_own_id(drive_mirror(w)));
    assert_int_equal(times_sent(w, "query-qmp-schema"), 1);
    assert_false(log_has(w, "auto-dismiss"));
}

static bj_job *pivot_a_drive_mirror(world *w)
{
    bj_job *job = drive_mirror(w);
    become_ready(w, job);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    return job;
}

static void b40_a_job_of_2_8_ends_with_its_event(void **state)
{
    world *w = *state;
    be(w, "2.8");
    bj_job *job = pivot_a_drive_mirror(w);
    ends(done(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, "block-job-complete"), 1);
}

static void b40_a_given_id_is_kept(void **state)
{
    world *w = *state;
    be(w, "2.8");
    bj_job *job = start(w, "block-stream", JSON({"device": "drive0", "job-id": "mine"}));
    assert_string_equal(bj_job_id(job), "mine");
    step(w, JSON({"do": "finish"}));
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void runs_by_its_device(world *w)
{
    bj_job *job = drive_mirror(w);
    assert_string_equal(bj_job_id(job), "drive0");
    assert_false(log_has(w, "job-id"));
    become_ready(w, job);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b59_a_schema_that_is_refused_leaves_the_devices_name(void **state)
{
    world *w = *state;
    be(w, "2.8");
    step(w, JSON({
             "do": "answer",
             "command": "query-qmp-schema",
             "error": {"class": "GenericError", "desc": "not today"}
         }));
    runs_by_its_device(w);
}

static void b59_a_schema_that_is_odd_leaves_the_devices_name(void **state)
{
    static const char *const odd[] = {
        "7",
        "{}",
        "[]",
        "[1, null, {}, [[]]]",
        JSON([{"name": 1, "meta-type": 2}, {"name": "drive-mirror", "meta-type": "command"}]),
              JSON([{"name": "drive-mirror", "meta-type": "command", "arg-type": "gone"}]),
                   JSON([
            {"name": "drive-mirror", "meta-type": "command", "arg-type": "a"},
            {"name": "a", "meta-type": "object", "members": {"name": "job-id"}}
        ]),
                           JSON([
            {"name": "drive-mirror", "meta-type": "command", "arg-type": "a"},
            {"name": "a", "meta-type": "object", "members": [{"name": 7}, "job-id", {}, null]}
        ]),
                                    JSON([
            {"name": "drive-mirror", "meta-type": "command", "arg-type": "a"},
            {"name": "a", "meta-type": "enum", "members": [{"name": "job-id"}]}
        ]),
                                    };
    world *w = *state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        be(w, "2.8");
        step(w, JSON({"do": "answer", "command": "query-qmp-schema", "return": %s}), odd[i]);
        runs_by_its_device(w);
    }
}

static void b54_a_schema_beyond_the_limits_is_not_asked_for(void **state)
{
    static const struct {
        bj_limit limit;
        uint64_t value;
    } limits[] = {{BJ_LIMIT_MESSAGE_BYTES, 65536}, {BJ_LIMIT_MESSAGE_TOKENS, 10000}};
    world *w = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bj_ctx_set_limit(w->ctx, limits[i].limit, limits[i].value), BJ_OK);
        be(w, "2.8");
        runs_by_its_device(w);
        assert_int_equal(times_sent(w, "query-qmp-schema"), 0);
        assert_int_equal(bj_ctx_set_limit(w->ctx, limits[i].limit, 1 << 20), BJ_OK);
    }
}

static void b59_before_2_7_a_run_has_its_devices_name(void **state)
{
    static const char *const ages[] = {"1.3", "1.7", "2.0", "2.1", "2.2", "2.3"};
    world *w = *state;
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        be(w, ages[i]);
        runs_by_its_device(w);
        assert_int_equal(times_sent(w, "query-qmp-schema"), 0);
    }
}

/* Auto-dismiss came to backup first. */
static void b40_2_12_keeps_only_a_backup(void **state)
{
    world *w = *state;
    be(w, "2.12");
    bj_job *copy = drive_mirror(w);
    assert_true(has_own_id(copy));
    assert_false(log_has(w, "auto-dismiss"));
    become_ready(w, copy);
    expect_end(w, bj_job_abort(copy, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COPIED);
    ends(done(w, copy), BJ_OK, BJ_OUTCOME_COPIED);
    assert_int_equal(times_sent(w, "block-job-dismiss"), 0);

    bj_job *backup =
        start(w, "drive-backup", JSON({"device": "drive0", "target": "/images/b", "sync": "full"}));
    assert_true(has_own_id(backup));
    assert_true(log_has(w, "\"auto-dismiss\": false"));
    step(w, JSON({"do": "finish"}));
    ends(done(w, backup), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(times_sent(w, "block-job-dismiss"), 1);
    expect(w, bj_monitor_attach(w->monitor, bj_job_id(backup), BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
}

/* No event tells on 2.12 that it is dismissed. */
static void b44_a_job_that_its_caller_keeps_is_dismissed_when_asked(void **state)
{
    world *w = *state;
    be(w, "2.12");
    const char *arguments = JSON({
        "device": "drive0",
        "job-id": "b",
        "target": "/images/b",
        "sync": "full",
        "auto-dismiss": false
    });
    bj_job *job = start(w, "drive-backup", arguments);
    step(w, JSON({"do": "finish"}));
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(times_sent(w, "block-job-dismiss"), 0);
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, "block-job-dismiss"), 1);
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_attach(w->monitor, "b", BJ_TIMEOUT_NONE), BJ_E_NO_JOB);

    step(w, JSON({"do": "execute", "command": "drive-backup", "arguments": %s}), arguments);
    step(w, JSON({"do": "finish"}));
    job = attach(w, "b");
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_attach(w->monitor, "b", BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
}

static void b40_3_1_keeps_all(void **state)
{
    world *w = *state;
    be(w, "3.1");
    bj_job *job = drive_mirror(w);
    assert_true(log_has(w, "\"auto-dismiss\": false"));
    become_ready(w, job);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    ends(done(w, job), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, "job-dismiss"), 1);
    assert_int_equal(times_sent(w, "query-qmp-schema"), 1);
}

static void b40_what_could_not_be_dismissed_is_not_kept(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "die"}));
    step(w, JSON({"do": "start", "profile": "2.12"}));
    step(w, JSON({"do": "log", "clear": true}));
    step(w, JSON({
             "do": "answer",
             "command": "query-commands",
             "return": [
                 {"name": "query-qmp-schema"},
                 {"name": "query-block-jobs"},
                 {"name": "drive-backup"}
             ]
         }));
    w->monitor = connect_to(w, fake_path(w));
    bj_job *job =
        start(w, "drive-backup", JSON({"device": "drive0", "target": "/images/b", "sync": "full"}));
    assert_true(has_own_id(job));
    assert_false(log_has(w, "auto-dismiss"));
}

static void c91_a_dismissal_that_waits_survives_a_close(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_IN_FLIGHT, 1), BJ_OK);
    be(w, "2.12");
    bj_job *job =
        start(w, "drive-backup", JSON({"device": "drive0", "target": "/images/b", "sync": "full"}));
    step(w, JSON({"do": "hold", "command": "query-status"}));
    bj_future *held =
        hold(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE));
    await_sent(w, "query-status");
    step(w, JSON({"do": "finish"}));
    expect(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, "block-job-dismiss"), 0);
    assert_int_equal(bj_monitor_close(w->monitor), BJ_OK);
    answers(held, BJ_E_CLOSED);
    step(w, JSON({"do": "release"}));
    await_sent(w, "block-job-dismiss");
}

/* ----------------------------------------------- while the schema is on its way */

static bj_future *start_while_the_schema_is_held(world *w)
{
    be(w, "2.8");
    step(w, JSON({"do": "hold", "command": "query-qmp-schema"}));
    bj_future *started =
        starting(w, "blockdev-mirror", JSON({"device": "d", "target": "c", "sync": "full"}));
    await_sent(w, "query-qmp-schema");
    return started;
}

static void b07_who_leaves_before_the_schema_has_come_starts_nothing(void **state)
{
    world *w = *state;
    bj_future *left = start_while_the_schema_is_held(w);
    bj_future *stays = starting(w, "block-stream", JSON({"device": "drive0"}));
    bj_future_cancel(left);
    answers(left, BJ_E_CANCELLED);
    step(w, JSON({"do": "release"}));
    answers(stays, BJ_OK);
    assert_int_equal(times_sent(w, "blockdev-mirror"), 0);
    assert_int_equal(times_sent(w, "block-stream"), 1);
}

static void b06_the_deadline_of_a_start_covers_the_schema(void **state)
{
    world *w = *state;
    be(w, "2.8");
    step(w, JSON({"do": "drop", "command": "query-qmp-schema"}));
    bj_future *late =
        hold(w, bj_monitor_start(w->monitor, "block-stream", JSON({"device": "drive0"}), 100));
    answers(late, BJ_E_TIMEOUT);
    assert_int_equal(times_sent(w, "block-stream"), 0);
}

static void b45_a_start_is_answered_when_qemu_ends_before_its_schema_has_come(void **state)
{
    world *w = *state;
    bj_future *started = start_while_the_schema_is_held(w);
    step(w, JSON({"do": "die"}));
    answers(started, BJ_E_DISCONNECTED);
}

static void b71_a_start_is_answered_when_the_monitor_is_closed_meanwhile(void **state)
{
    world *w = *state;
    bj_future *started = start_while_the_schema_is_held(w);
    assert_int_equal(bj_monitor_close(w->monitor), BJ_OK);
    answers(started, BJ_E_CLOSED);
}

/* ---------------------------------------------------------------------- verbs */

static void b38_force_on_2_8_is_a_word_of_block_job_cancel(void **state)
{
    world *w = *state;
    be(w, "2.8");
    bj_job *job = drive_mirror(w);
    expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_true(log_has(w, "\"force\": true"));
}

static void b38_what_2_8_has_no_word_for_is_unsupported(void **state)
{
    world *w = *state;
    be(w, "2.8");
    bj_job *job = drive_mirror(w);
    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_resume(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_set_speed(job, 1 << 20, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_finalize(job, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
    expect(w, bj_job_dismiss(job, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
}

static void b38_before_1_3_a_cancel_is_only_a_cancel(void **state)
{
    static const char *const ages[] = {"1.1", "rhel6.3"};
    world *w = *state;
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        be(w, ages[i]);
        bj_job *job = start(w, "block-stream", JSON({"device": "drive0"}));
        expect(w, bj_job_set_speed(job, 1 << 20, BJ_TIMEOUT_NONE), BJ_OK);
        expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
        expect_end(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK,
                   BJ_OUTCOME_CANCELLED);
        assert_false(log_has(w, "force"));
    }
}

/* ------------------------------------------------------------------- queries (C114) */

static void c114_a_finished_run_has_not_the_row_of_the_next_one(void **state)
{
    world *w = *state;
    be(w, "1.7");
    bj_job *first = pivot_a_drive_mirror(w);
    bj_job *next = drive_mirror(w);
    assert_string_equal(bj_job_id(next), bj_job_id(first));

    names(expect(w, bj_job_query(first, BJ_TIMEOUT_NONE), BJ_E_NO_JOB), "PIVOTED");
    expect(w, bj_job_query(next, BJ_TIMEOUT_NONE), BJ_OK);
}

static void c114_a_run_that_ends_while_it_is_queried_has_not_the_row_of_the_next_one(void **state)
{
    world *w = *state;
    be(w, "1.7");
    bj_job *first = drive_mirror(w);
    step(w, JSON({
             "do": "when", "command": "query-block-jobs", "at": "received",
             "steps": [
                 {"do": "fail", "job": "drive0"},
                 {"do": "execute", "command": "block-stream", "arguments": {"device": "drive0"}}
             ]
         }));
    names(expect(w, bj_job_query(first, BJ_TIMEOUT_NONE), BJ_E_NO_JOB), "FAILED");
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 1); /* that of the stream */
}

/* ------------------------------------------------------------------------ RHEL 6 */

static void b57_rhel_6_2_streams_by_its_own_words(void **state)
{
    world *w = *state;
    be(w, "rhel6.2");
    bj_future *started =
        expect(w, bj_monitor_stream(w->monitor, "drive0", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = hold_job(w, bj_future_job(started));
    assert_string_equal(bj_job_id(job), "drive0");
    assert_string_equal(bj_job_type(job), "stream");
    assert_int_equal(times_sent(w, "block_stream"), 1);
    expect(w, bj_job_set_speed(job, 7, BJ_TIMEOUT_NONE), BJ_OK);
    assert_true(log_has(w, "\"value\": 7"));
    step(w, JSON({"do": "finish"}));
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
}

/* It ignores what it does not know. */
static void b59_an_id_that_rhel_6_2_does_not_take_is_not_the_runs(void **state)
{
    world *w = *state;
    be(w, "rhel6.2");
    bj_job *job = start(w, "block-stream", JSON({"device": "drive0", "job-id": "mine"}));
    assert_string_equal(bj_job_id(job), "drive0");
    step(w, JSON({"do": "finish"}));
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static bj_job *redhat_mirror(world *w, const char *format)
{
    return start(
        w, "__com.redhat_drive-mirror",
        text_of(w, JSON({"device": "drive0", "target": "/images/copy", "full": true%s}), format));
}

static void b59_rhel_6_3_pivots_by_drive_reopen(void **state)
{
    world *w = *state;
    be(w, "rhel6.3");
    bj_job *job = redhat_mirror(w, ", \"format\": \"qcow2\"");
    assert_string_equal(bj_job_id(job), "drive0");
    assert_string_equal(bj_job_type(job), "mirror");
    bj_future *pivots[3];
    for (int i = 0; i < 3; i++)
        pivots[i] = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, "__com.redhat_drive-reopen"), 0); /* it would cancel the job */
    step(w, JSON({"do": "ready"}));
    for (int i = 0; i < 3; i++)
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_int_equal(times_sent(w, "__com.redhat_drive-reopen"), 1);
    assert_true(log_has(w, "\"new-image-file\": \"/images/copy\""));
    assert_true(log_has(w, "\"format\": \"qcow2\""));
}

static void b59_a_raw_drive_reopen_is_a_pivot(void **state)
{
    world *w = *state;
    be(w, "rhel6.3");
    bj_job *job = redhat_mirror(w, "");
    bj_future *end = done(w, job);
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_execute(w->monitor, "__com.redhat_drive-reopen",
                                 JSON({"device": "drive0", "new-image-file": "/images/copy"}),
                                      BJ_TIMEOUT_NONE),
                                 BJ_OK);
    ends(end, BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* Before it is in sync, it cancels the job (B17). */
static void b59_a_raw_drive_reopen_that_is_too_early_cancels(void **state)
{
    world *w = *state;
    be(w, "rhel6.3");
    bj_job *job = redhat_mirror(w, "");
    bj_future *end = done(w, job);
    expect(w, bj_monitor_execute(w->monitor, "__com.redhat_drive-reopen",
                                 JSON({"device": "drive0", "new-image-file": "/images/copy"}),
                                      BJ_TIMEOUT_NONE),
                                 BJ_E_REFUSED);
    ends(end, BJ_OK, BJ_OUTCOME_CANCELLED);
}

/* The job was in sync when QEMU was asked, and is not any more: reopen cancels it. */
static void b59_a_drive_reopen_that_cancels_the_job_is_no_pivot(void **state)
{
    world *w = *state;
    be(w, "rhel6.3");
    bj_job *job = redhat_mirror(w, ", \"format\": \"raw\"");
    step(w, JSON({
             "do": "when",
             "command": "__com.redhat_drive-reopen",
             "at": "received",
             "steps": [ {
                 "do": "execute",
                 "command": "block-job-cancel",
                 "arguments": {"device": "drive0"}
             } ]
         }));
    step(w, JSON({
             "do": "answer",
             "command": "__com.redhat_drive-reopen",
             "error": {"class": "DeviceInUse", "desc": "Device 'drive0' is in use"}
         }));
    step(w, JSON({"do": "ready"}));
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_JOB_ENDED,
               BJ_OUTCOME_COPIED);
}

static void cannot_be_pivoted(world *w, bj_job *job)
{
    step(w, JSON({"do": "ready"}));
    names(expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED),
          "__com.redhat_drive-reopen");
    assert_int_equal(times_sent(w, "__com.redhat_drive-reopen"), 0);
}

static void b59_without_its_format_a_mirror_of_rhel_6_3_is_not_reopened(void **state)
{
    world *w = *state;
    be(w, "rhel6.3");
    cannot_be_pivoted(w, redhat_mirror(w, ""));
}

static void b59_another_clients_mirror_of_rhel_6_3_is_pivoted_by_hand(void **state)
{
    world *w = *state;
    be(w, "rhel6.3");
    step(w, JSON({
             "do": "execute",
             "command": "__com.redhat_drive-mirror",
             "arguments": {"device": "drive0", "target": "/images/copy", "full": true}
         }));
    bj_job *job = attach(w, "drive0");
    bj_future *end = done(w, job);
    cannot_be_pivoted(w, job);
    step(w, JSON({
             "do": "execute",
             "command": "__com.redhat_drive-reopen",
             "arguments": {"device": "drive0", "new-image-file": "/images/copy"}
         }));
    ends(end, BJ_OK, BJ_OUTCOME_PIVOTED);
}

/* --------------------------------------------------------- another client's verb */

static void sees_the_others_verb(world *w, bj_job *job, const char *verb, bj_outcome outcome)
{
    bj_future *end = done(w, job);
    become_ready(w, job);
    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK); /* the first look is over then */
    other_client(w, verb, "device", job);
    ends(end, BJ_OK, outcome);
}

static const char *const ages_of_complete[] = {"1.3", "1.7", "2.0",  "2.1", "2.2",
                                               "2.3", "2.8", "2.12", "3.1"};
enum { AGES = sizeof ages_of_complete / sizeof ages_of_complete[0] };

static void b15_before_4_0_another_clients_pivot_is_seen_by_the_device(void **state)
{
    world *w = *state;
    for (int i = 0; i < AGES; i++) {
        be(w, ages_of_complete[i]);
        sees_the_others_verb(w, drive_mirror(w), "block-job-complete", BJ_OUTCOME_PIVOTED);
    }
}

static void b15_before_4_0_another_clients_soft_cancel_is_seen_by_the_device(void **state)
{
    world *w = *state;
    for (int i = 0; i < AGES; i++) {
        be(w, ages_of_complete[i]);
        sees_the_others_verb(w, drive_mirror(w), "block-job-cancel", BJ_OUTCOME_COPIED);
    }
}

static void b15_before_4_0_an_active_commit_is_seen_by_the_device(void **state)
{
    static const char *const ages[] = {"2.0", "2.1", "2.3", "2.8", "2.12", "3.1"};
    world *w = *state;
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        be(w, ages[i]);
        bj_job *job = start(w, "block-commit",
                            JSON({"device": "drive0", "top": "drive0", "base": "/images/base"}));
        sees_the_others_verb(w, job, "block-job-complete", BJ_OUTCOME_PIVOTED);
    }
}

static void b15_a_job_that_was_attached_by_its_devices_name(void **state)
{
    world *w = *state;
    be(w, "2.8");
    step(w, JSON({
             "do": "execute",
             "command": "drive-mirror",
             "arguments": {"device": "drive0", "target": "/images/copy", "sync": "full"}
         }));
    sees_the_others_verb(w, attach(w, "drive0"), "block-job-complete", BJ_OUTCOME_PIVOTED);
}

static void b15_where_the_device_is_not_known_the_switch_is_not(void **state)
{
    world *w = *state;
    be(w, "2.8");
    step(w, JSON({
             "do": "execute",
             "command": "drive-mirror",
             "arguments": {
                 "device": "drive0",
                 "job-id": "theirs",
                 "target": "/images/copy",
                 "sync": "full"
             }
         }));
    bj_job *job = attach(w, "theirs");
    sees_the_others_verb(w, job, "block-job-complete", BJ_OUTCOME_COMPLETED);
    assert_non_null(strstr(bj_job_text(job), "switched"));
}

/* The look and our cancel are on their way when another client pivots: the look sees what came of
 * that. */
static void b15_a_look_that_came_too_late_is_none(void **state)
{
    world *w = *state;
    be(w, "2.8");
    step(w, JSON({
             "do": "when",
             "command": "drive-mirror",
             "at": "replied",
             "steps": [ {"do": "stop", "what": "reading"} ]
         }));
    bj_job *job = drive_mirror(w);
    bj_future *aborted = hold(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    expect(w, bj_job_ready(job, 1), BJ_E_TIMEOUT); /* the cancel is written then */
    step(w, JSON({"do": "ready"}));
    other_client(w, "block-job-complete", "device", job);
    step(w, JSON({"do": "go", "what": "reading"}));
    ends(aborted, BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(times_sent(w, "block-job-cancel"), 1);
    assert_non_null(strstr(bj_job_text(job), "switched"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(b40_a_qemu_of_4_0_is_not_asked_for_its_schema),
        UNCONNECTED_TEST(b40_ids_of_2_8_are_learnt_from_its_schema_once),
        UNCONNECTED_TEST(b40_a_job_of_2_8_ends_with_its_event),
        UNCONNECTED_TEST(b40_a_given_id_is_kept),
        UNCONNECTED_TEST(b59_a_schema_that_is_refused_leaves_the_devices_name),
        UNCONNECTED_TEST(b59_a_schema_that_is_odd_leaves_the_devices_name),
        UNCONNECTED_TEST(b54_a_schema_beyond_the_limits_is_not_asked_for),
        UNCONNECTED_TEST(b59_before_2_7_a_run_has_its_devices_name),
        UNCONNECTED_TEST(b40_2_12_keeps_only_a_backup),
        UNCONNECTED_TEST(b44_a_job_that_its_caller_keeps_is_dismissed_when_asked),
        UNCONNECTED_TEST(b40_3_1_keeps_all),
        UNCONNECTED_TEST(b40_what_could_not_be_dismissed_is_not_kept),
        UNCONNECTED_TEST(c91_a_dismissal_that_waits_survives_a_close),
        UNCONNECTED_TEST(b07_who_leaves_before_the_schema_has_come_starts_nothing),
        UNCONNECTED_TEST(b06_the_deadline_of_a_start_covers_the_schema),
        UNCONNECTED_TEST(b45_a_start_is_answered_when_qemu_ends_before_its_schema_has_come),
        UNCONNECTED_TEST(b71_a_start_is_answered_when_the_monitor_is_closed_meanwhile),
        UNCONNECTED_TEST(b38_force_on_2_8_is_a_word_of_block_job_cancel),
        UNCONNECTED_TEST(b38_what_2_8_has_no_word_for_is_unsupported),
        UNCONNECTED_TEST(b38_before_1_3_a_cancel_is_only_a_cancel),
        UNCONNECTED_TEST(c114_a_finished_run_has_not_the_row_of_the_next_one),
        UNCONNECTED_TEST(c114_a_run_that_ends_while_it_is_queried_has_not_the_row_of_the_next_one),
        UNCONNECTED_TEST(b57_rhel_6_2_streams_by_its_own_words),
        UNCONNECTED_TEST(b59_an_id_that_rhel_6_2_does_not_take_is_not_the_runs),
        UNCONNECTED_TEST(b59_rhel_6_3_pivots_by_drive_reopen),
        UNCONNECTED_TEST(b59_a_raw_drive_reopen_is_a_pivot),
        UNCONNECTED_TEST(b59_a_raw_drive_reopen_that_is_too_early_cancels),
        UNCONNECTED_TEST(b59_a_drive_reopen_that_cancels_the_job_is_no_pivot),
        UNCONNECTED_TEST(b59_without_its_format_a_mirror_of_rhel_6_3_is_not_reopened),
        UNCONNECTED_TEST(b59_another_clients_mirror_of_rhel_6_3_is_pivoted_by_hand),
        UNCONNECTED_TEST(b15_before_4_0_another_clients_pivot_is_seen_by_the_device),
        UNCONNECTED_TEST(b15_before_4_0_another_clients_soft_cancel_is_seen_by_the_device),
        UNCONNECTED_TEST(b15_before_4_0_an_active_commit_is_seen_by_the_device),
        UNCONNECTED_TEST(b15_a_job_that_was_attached_by_its_devices_name),
        UNCONNECTED_TEST(b15_where_the_device_is_not_known_the_switch_is_not),
        UNCONNECTED_TEST(b15_a_look_that_came_too_late_is_none),
    };
    return run_on_fake(tests);
}
