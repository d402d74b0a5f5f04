/* SPDX-License-Identifier: MIT */
/*
 * Changing a mirror while it runs, where QEMU can (8.2).
 */
#include "nodes.h"

static const char write_blocking[] = JSON({"copy-mode": "write-blocking"});

static bj_job *copying(world *w)
{
    add_disk(w, "disk");
    add_empty(w, "copy");
    return mirror(w, "disk", "copy", HALTED);
}

static void b30_a_mirror_changes_its_copy_mode(void **state)
{
    world *w = *state;
    bj_job *job = copying(w);
    if (bj_monitor_has_command(w->monitor, "block-job-change") != 1)
        skip(); /* before 8.2 */

    expect(w, bj_job_change(job, write_blocking, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *back = expect(
        w, bj_job_change(job, JSON({"copy-mode": "background"}), BJ_TIMEOUT_NONE), BJ_E_REFUSED);
    assert_string_equal(bj_future_error_class(back), "GenericError");
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b30_before_8_2_there_is_no_change(void **state)
{
    world *w = *state;
    bj_job *job = copying(w);
    if (bj_monitor_has_command(w->monitor, "block-job-change") == 1)
        skip();

    names(expect(w, bj_job_change(job, write_blocking, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED),
          bj_job_id(job));
    assert_string_equal(status_of(w, bj_job_id(job)), "running");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(b30_a_mirror_changes_its_copy_mode),
        TEST(b30_before_8_2_there_is_no_change),
    };
    return run_on_both(tests);
}
