/* SPDX-License-Identifier: MIT */
/*
 * Commit, pull and backup of a domain's disk, in the library's words and in libvirt's.
 */
#include "libvirt.h"

static bj_job *commit(world *w, const char *options)
{
    bj_future *started = bj_monitor_commit(w->monitor, "vda", options, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

static bj_job *stream(world *w, const char *options)
{
    bj_future *started = bj_monitor_stream(w->monitor, "vda", options, BJ_TIMEOUT_NONE);
    return hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
}

static void b14_an_active_commit_is_pivoted(void **state)
{
    world *w = *state;
    snapshot_vda(w, "over");
    bj_job *job = commit(w, JSON({"active": true}));

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(bj_job_type(job), "commit");
    assert_string_equal(mirror_of(w, w->domain, "vda"), "ready");
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);

    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
    assert_int_equal(layers_of(w->domain, "vda"), 1);
}

static void b66_an_active_commit_given_up(void **state)
{
    world *w = *state;
    const char *over = snapshot_vda(w, "over");
    bj_job *job = commit(w, JSON({"active": true}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);

    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, aborted_when_ready());

    assert_string_equal(source_of(w, w->domain, "vda"), over);
    assert_int_equal(layers_of(w->domain, "vda"), 2);
}

static void b09_an_intermediate_commit_completes(void **state)
{
    world *w = *state;
    const char *middle = snapshot_vda(w, "middle");
    const char *top = snapshot_vda(w, "top");
    bj_job *job =
        commit(w, text_of(w, JSON({"top": "%s", "base": "%s"}), middle, image_path(w, "vda")));
    bj_future *ready = hold(w, bj_job_ready(job, BJ_TIMEOUT_NONE));

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);

    bj_future_wait(ready, BJ_TIMEOUT_NONE);
    assert_int_not_equal(bj_future_error(ready), BJ_OK);
    assert_string_equal(source_of(w, w->domain, "vda"), top);
    assert_int_equal(layers_of(w->domain, "vda"), 2);
}

static void b09_a_pull_completes(void **state)
{
    world *w = *state;
    const char *over = snapshot_vda(w, "over");
    bj_job *job = stream(w, NULL);

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);

    assert_string_equal(bj_job_type(job), "stream");
    assert_string_equal(source_of(w, w->domain, "vda"), over);
    assert_int_equal(layers_of(w->domain, "vda"), 1);
}

static void b09_a_pull_down_to_a_base(void **state)
{
    world *w = *state;
    const char *middle = snapshot_vda(w, "middle");
    snapshot_vda(w, "top");
    snapshot_vda(w, "peak");
    bj_job *job = stream(w, text_of(w, JSON({"base": "%s"}), middle));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_int_equal(layers_of(w->domain, "vda"), 3);
}

static void b16_a_pull_is_cancelled(void **state)
{
    world *w = *state;
    snapshot_vda(w, "over");
    bj_job *job = stream(w, JSON({"bandwidth": 1}));

    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_E_STATE);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_int_equal(layers_of(w->domain, "vda"), 2);
}

static void b09_a_backup_completes(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    const char *target = image_path(w, "backup");
    bj_future *started = bj_monitor_backup(w->monitor, "vdb", target, "full",
                                           JSON({"format": "qcow2"}), BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));

    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);

    assert_string_equal(bj_job_id(job), "backup");
    assert_string_equal(bj_job_disk(job, 0), "vdb");
    assert_null(bj_job_disk(job, 1));
    assert_string_equal(bj_job_type(job), "backup");
    assert_string_equal(source_of(w, w->domain, "vdb"), image_path(w, "vdb"));
    assert_true(same_image(target, image_path(w, "vdb")));
}

static void b19_jobs_on_two_disks_keep_apart(void **state)
{
    world *w = *state;
    bj_job *first = mirror(w, "vda", empty_image(w, "copy-a"), REUSE);
    bj_job *second = mirror(w, "vdb", empty_image(w, "copy-b"), REUSE_HALTED);

    expect_end(w, bj_job_pivot(first, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);

    assert_false(bj_job_is_ready(second));
    assert_int_equal(bj_job_outcome(second), BJ_OUTCOME_NONE);
    expect_end(w, bj_job_abort(second, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_CANCELLED);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy-a"));
    assert_string_equal(source_of(w, w->domain, "vdb"), image_path(w, "vdb"));
}

static void b08_a_group_of_two_disks_is_pivoted(void **state)
{
    world *w = *state;
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    hold_group(w, group);
    bj_group_add(group, mirror(w, "vda", empty_image(w, "copy-a"), REUSE));
    bj_group_add(group, mirror(w, "vdb", empty_image(w, "copy-b"), REUSE));

    expect_end(w, bj_group_pivot(group, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_PIVOTED);

    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "copy-a"));
    assert_string_equal(source_of(w, w->domain, "vdb"), image_path(w, "copy-b"));
}

static void b08_a_group_is_rolled_back(void **state)
{
    world *w = *state;
    bj_group *group;
    assert_int_equal(bj_group_new(w->ctx, &group), BJ_OK);
    hold_group(w, group);
    bj_job *good = mirror(w, "vda", empty_image(w, "copy-a"), REUSE);
    bj_job *bad = mirror(w, "vdb", empty_image(w, "copy-b"), REUSE_HALTED);
    bj_group_add(group, good);
    bj_group_add(group, bad);
    bj_future *pivot = hold(w, bj_group_pivot(group, BJ_TIMEOUT_NONE));

    their_verb(w->domain, "vdb", "abort");

    answers(pivot, BJ_E_JOB_ENDED);
    expect(w, bj_group_done(group, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
    assert_string_equal(source_of(w, w->domain, "vdb"), image_path(w, "vdb"));
}

static void b15_the_list_has_every_job(void **state)
{
    world *w = *state;
    assert_int_equal(
        bj_future_info_count(expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK)), 0);
    mirror(w, "vda", empty_image(w, "copy-a"), REUSE_HALTED);
    bj_job *ready = mirror(w, "vdb", empty_image(w, "copy-b"), REUSE);
    expect(w, bj_job_ready(ready, BJ_TIMEOUT_NONE), BJ_OK);

    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);

    assert_int_equal(bj_future_info_count(list), 2);
    for (size_t i = 0; i < 2; i++) {
        const bj_job_info *info = bj_future_info(list, i);
        assert_string_equal(info->type, "mirror");
        assert_int_equal(info->ready, strcmp(info->id, "vdb") == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(b08_a_group_is_rolled_back),
        DOMAIN_TEST(b08_a_group_of_two_disks_is_pivoted),
        DOMAIN_TEST(b09_a_backup_completes),
        DOMAIN_TEST(b09_a_pull_completes),
        DOMAIN_TEST(b09_a_pull_down_to_a_base),
        DOMAIN_TEST(b09_an_intermediate_commit_completes),
        DOMAIN_TEST(b14_an_active_commit_is_pivoted),
        DOMAIN_TEST(b15_the_list_has_every_job),
        DOMAIN_TEST(b16_a_pull_is_cancelled),
        DOMAIN_TEST(b19_jobs_on_two_disks_keep_apart),
        DOMAIN_TEST(b66_an_active_commit_given_up),
    };
    return run_on_libvirt(tests);
}
