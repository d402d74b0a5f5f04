/* SPDX-License-Identifier: MIT */
/*
 * Whether another client's verb has switched the disk, on a real qemu-storage-daemon and a real
 * QEMU: the block graph shows it, or the outcome says that it is unknown.
 */
#include "nodes.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

/* While the loop is held, the library neither reads nor writes: QEMU has done all that the test
 * makes it do meanwhile before the library looks. */
static sem_t is_held, may_go_on;

static void hold_here(bj_future *future, void *user)
{
    (void)future, (void)user;
    sem_post(&is_held);
    while (sem_wait(&may_go_on) != 0)
        ;
}

static void let_loop_go(void *loop)
{
    sem_post(loop);
}

static void hold_loop(world *w)
{
    assert_int_equal(sem_init(&is_held, 0, 0), 0);
    assert_int_equal(sem_init(&may_go_on, 0, 0), 0);
    world_keeps(w, &may_go_on, let_loop_go); /* also where the test fails */
    bj_future *listed = hold(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_future_on_done(listed, (bj_closure){.fn = hold_here}), BJ_OK);
    while (sem_wait(&is_held) != 0)
        ;
}

/* The snapshot that a start takes has come: it yields to the commands that are there before it. */
static void await_snapshot(world *w)
{
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static bj_job *ready_mirror(world *w, const char *device, const char *options)
{
    bj_job *job = mirror(w, device, "copy", options);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    await_snapshot(w);
    return job;
}

static void complete(world *w, const char *id)
{
    qmp(w, "job-complete", JSON({"id": "%s"}), id);
}

static void cancel_softly(world *w, const char *id)
{
    qmp(w, "block-job-cancel", JSON({"device": "%s"}), id);
}

/* ------------------------------------------------------------------- replaces */

/* "top" is above "disk", in one of three ways. */
static void add_top(world *w, const char *driver)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    if (strcmp(driver, "quorum") == 0) {
        add_disk(w, "other");
        qmp(w, "blockdev-add",
            JSON({"driver": "quorum", "node-name": "top", "vote-threshold": 1,
                  "children": ["disk", "other"]}));
        return;
    }
    qmp(w, "blockdev-add",
        JSON({"driver": "%s", "node-name": "top", "%s": "disk"}), driver,
             strcmp(driver, "blkdebug") == 0 ? "image" : "file");
}

/* The node below the source is replaced; those who use the source stay there. */
static void replace_below(world *w, const char *driver, bool is_used,
                          void (*end)(world *w, const char *id), bj_outcome outcome)
{
    add_top(w, driver);
    if (is_used)
        add_guest(w, "top");
    bj_job *job = ready_mirror(w, "top", JSON({"replaces": "disk"}));
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    end(w, bj_job_id(job));
    ends(done, BJ_OK, outcome);
}

static void c10_a_filter_whose_disk_was_replaced(void **state)
{
    replace_below(*state, "copy-on-read", true, complete, BJ_OUTCOME_PIVOTED);
}

static void c10_a_filter_whose_disk_was_not_replaced(void **state)
{
    replace_below(*state, "copy-on-read", true, cancel_softly, BJ_OUTCOME_COPIED);
}

static void c10_blkdebug_whose_disk_was_replaced(void **state)
{
    replace_below(*state, "blkdebug", true, complete, BJ_OUTCOME_PIVOTED);
}

static void c10_a_quorum_whose_disk_was_replaced(void **state)
{
    replace_below(*state, "quorum", true, complete, BJ_OUTCOME_PIVOTED);
}

static void c10_a_quorum_whose_disk_was_not_replaced(void **state)
{
    replace_below(*state, "quorum", true, cancel_softly, BJ_OUTCOME_COPIED);
}

static void c10_a_filter_that_nobody_uses_whose_disk_was_replaced(void **state)
{
    replace_below(*state, "copy-on-read", false, complete, BJ_OUTCOME_PIVOTED);
}

/* -------------------------------------------------------- a disk nobody uses */

/* Another client ends a mirror of a disk that nobody uses, and exports a node before the library
 * looks. On a QEMU whose filter outlives the job (5.2) the filter tells. */
static void end_and_export(world *w, void (*end)(world *w, const char *id), const char *exported,
                           bj_outcome truth)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = ready_mirror(w, "disk", NULL);
    bj_future *done = hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));

    hold_loop(w);
    end(w, bj_job_id(job));
    await_event(w, "BLOCK_JOB_COMPLETED", "device", bj_job_id(job));
    add_guest(w, exported);
    let_loop_go(&may_go_on);

    answers(done, BJ_OK);
    if (bj_job_outcome(job) == truth)
        return;
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_COMPLETED);
    assert_string_not_equal(bj_job_text(job), "");
}

static void c83_an_export_of_the_target_is_no_switch(void **state)
{
    end_and_export(*state, cancel_softly, "copy", BJ_OUTCOME_COPIED);
}

static void c83_an_export_of_the_source_does_not_hide_a_switch(void **state)
{
    end_and_export(*state, complete, "disk", BJ_OUTCOME_PIVOTED);
}

/* The usual way to make a backup. */
static void c17_our_soft_cancel_of_a_disk_that_nobody_uses_is_a_copy(void **state)
{
    world *w = *state;
    add_disk(w, "disk");
    add_empty(w, "copy");
    bj_job *job = ready_mirror(w, "disk", NULL);

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COPIED);
    assert_string_equal(bj_job_text(job), "");
}

/* QEMU 7.2 and later take both, in this order, and pivot. */
static void c17_our_soft_cancel_after_another_clients_complete_is_a_pivot(void **state)
{
    world *w = *state;
    if (!bj_monitor_has_command(w->monitor, "blockdev-reopen"))
        skip();
    add_disk(w, "disk");
    add_empty(w, "below-copy");
    qmp(w, "object-add", JSON({"qom-type": "throttle-group", "id": "brake"}));
    qmp(w, "blockdev-add",
        JSON({"driver": "throttle", "node-name": "copy", "throttle-group": "brake",
              "file": "below-copy"}));
    add_guest(w, "disk");
    bj_job *job = ready_mirror(w, "disk", NULL);

    /* What the guest writes can't be copied, so that the job goes on after complete. */
    qmp(w, "qom-set",
        JSON({"path": "/objects/brake", "property": "limits", "value": {"bps-write": 1}}));
    guest_writes(w, "disk");
    complete(w, bj_job_id(job));
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    release_brake(w, "copy");

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    assert_string_equal(disk_of_guest(w), "copy");
}

/* -------------------------------------------------------------------- commits */

#define ACTIVE JSON({"device": "active", "speed": 1})
#define INTERMEDIATE JSON({"device": "active", "top-node": "middle", "speed": 1})

/* All that happens to it after its first piece happens while there is no connection. */
static bj_job *commit_while_away(world *w, const char *arguments,
                                 void (*end)(world *w, const char *id))
{
    add_chain(w);
    add_guest(w, "active");
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_job *job = start(w, "block-commit", arguments);
    await_snapshot(w);

    hold_loop(w);
    cut_connection(path_of(w, "first.qmp"));
    qmp(w, "block-job-set-speed", JSON({"device": "%s", "speed": 0}), bj_job_id(job));
    if (end) {
        await_event(w, "BLOCK_JOB_READY", "device", bj_job_id(job));
        end(w, bj_job_id(job));
    }
    await_status(w, bj_job_id(job), "concluded");
    let_loop_go(&may_go_on);
    return job;
}

static void c13_an_active_commit_that_was_completed_while_away(void **state)
{
    world *w = *state;
    bj_job *job = commit_while_away(w, ACTIVE, complete);

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(disk_of_guest(w), "base");
}

static void c13_an_active_commit_that_was_cancelled_softly_while_away(void **state)
{
    world *w = *state;
    bj_job *job = commit_while_away(w, ACTIVE, cancel_softly);

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COPIED);
    assert_string_equal(disk_of_guest(w), "active");
}

static void c13_an_intermediate_commit_that_ended_while_away(void **state)
{
    world *w = *state;
    bj_job *job = commit_while_away(w, INTERMEDIATE, NULL);

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(bj_job_text(job), "");
}

/* By a client that has seen nothing of it. */
static bj_job *attach_late(world *w, const char *id)
{
    bj_monitor *late = connect_to(w, text_of(w, "unix:%s", path_of(w, "second.qmp")));
    bj_future *attached = expect(w, bj_monitor_attach(late, id, BJ_TIMEOUT_NONE), BJ_OK);
    return hold_job(w, bj_future_job(attached));
}

static void c13_attach_to_a_concluded_active_commit(void **state)
{
    world *w = *state;
    add_chain(w);
    add_guest(w, "active");
    qmp(w, "block-commit", JSON({"job-id": "theirs", "device": "active", "auto-dismiss": false}));
    await_event(w, "BLOCK_JOB_READY", "device", "theirs");
    complete(w, "theirs");
    await_status(w, "theirs", "concluded");
    bj_job *job = attach_late(w, "theirs");

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_non_null(strstr(bj_job_text(job), "unknown"));
}

static void c13_attach_to_a_concluded_intermediate_commit(void **state)
{
    world *w = *state;
    add_chain(w);
    qmp(w, "block-commit",
        JSON({"job-id": "theirs", "device": "active", "top-node": "middle",
                                "auto-dismiss": false}));
    await_status(w, "theirs", "concluded");
    bj_job *job = attach_late(w, "theirs");

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_string_equal(bj_job_text(job), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(c10_a_filter_whose_disk_was_replaced),
        TEST(c10_a_filter_whose_disk_was_not_replaced),
        TEST(c10_blkdebug_whose_disk_was_replaced),
        TEST(c10_a_quorum_whose_disk_was_replaced),
        TEST(c10_a_quorum_whose_disk_was_not_replaced),
        TEST(c10_a_filter_that_nobody_uses_whose_disk_was_replaced),
        TEST(c13_an_active_commit_that_was_completed_while_away),
        TEST(c13_an_active_commit_that_was_cancelled_softly_while_away),
        TEST(c13_an_intermediate_commit_that_ended_while_away),
        TEST(c13_attach_to_a_concluded_active_commit),
        TEST(c13_attach_to_a_concluded_intermediate_commit),
        TEST(c17_our_soft_cancel_after_another_clients_complete_is_a_pivot),
        TEST(c17_our_soft_cancel_of_a_disk_that_nobody_uses_is_a_copy),
        TEST(c83_an_export_of_the_source_does_not_hide_a_switch),
        TEST(c83_an_export_of_the_target_is_no_switch),
    };
    return run_on_both(tests);
}
