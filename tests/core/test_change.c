/* SPDX-License-Identifier: MIT */
/*
 * Changing a job on a fake QEMU: what is sent, and what is refused before anything is.
 */
#include "fake.h"
#include "qmp/job_words.h"

#include <stdlib.h>

/* Connected to a QEMU of that version. */
static bj_job *mirror_on(world *w, const char *profile)
{
    step(w, JSON({"do": "die"}));
    step(w, JSON({"do": "start", "profile": "%s"}), profile);
    w->monitor = connect_to(w, fake_path(w));
    return fake_mirror(w);
}

static void b30_the_copy_mode_of_a_mirror_is_switched(void **state)
{
    world *w = *state;
    bj_job *job = mirror_on(w, "10.0");
    expect(w, bj_job_change(job, JSON({"copy-mode": "write-blocking"}), BJ_TIMEOUT_NONE), BJ_OK);

    assert_int_equal(times_sent(w, "block-job-change"), 1);
    assert_true(
        log_has(w, text_of(w, JSON("id": "%s", "type": "mirror", "copy-mode": "write-blocking"),
                                   bj_job_id(job))));
}

static void b30_a_qemu_without_it_is_told(void **state)
{
    world *w = *state;
    bj_job *job = mirror_on(w, "7.2");
    bj_future *unsupported =
        expect(w, bj_job_change(job, JSON({"copy-mode": "write-blocking"}), BJ_TIMEOUT_NONE),
                                BJ_E_UNSUPPORTED);

    names(unsupported, bj_job_id(job));
    assert_int_equal(times_sent(w, "block-job-change"), 0);
}

static void b44_a_type_that_the_caller_gives_is_sent(void **state)
{
    world *w = *state;
    bj_job *job = mirror_on(w, "10.0");
    bj_future *refused = expect(
        w, bj_job_change(job, JSON({"type": "commit", "copy-mode": "background"}), BJ_TIMEOUT_NONE),
                         BJ_E_REFUSED);

    names(refused, "not 'commit'");
    assert_string_equal(bj_future_error_class(refused), "GenericError");
}

static void change_is(const char *id, const char *type, const char *options, const char *sent)
{
    char *arguments = qmp_change_arguments(id, type, options);
    assert_string_equal(arguments, sent);
    free(arguments);
}

static void b44_whose_job_it_is_goes_before_the_options(void **state)
{
    (void)state;
    change_is("j", "mirror", "{}", "{\"id\":\"j\",\"type\":\"mirror\"}");
    change_is("j", "", "{ }", "{\"id\":\"j\"}");
    change_is("j\"", "mirror", " {\"n\": 18446744073709551617}",
              "{\"id\":\"j\\\"\",\"type\":\"mirror\",\"n\": 18446744073709551617}");
    change_is("j", "mirror", "{\"type\": \"x\"}", "{\"id\":\"j\",\"type\": \"x\"}");
}

static void b44_options_that_are_none_are_refused_here(void **state)
{
    static const char *const bad[] = {
        NULL, "", "7", "[]", "{\"copy-mode\"", "{\"a\": 1, \"a\": 2}", "{\"id\": \"other\"}",
    };
    world *w = *state;
    bj_job *job = mirror_on(w, "10.0");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        names(expect(w, bj_job_change(job, bad[i], BJ_TIMEOUT_NONE), BJ_E_INVAL), bj_job_id(job));

    expect(w, bj_job_change(NULL, "{}", BJ_TIMEOUT_NONE), BJ_E_INVAL);
    expect(w, bj_job_change(job, "{}", -7), BJ_E_INVAL);
    assert_int_equal(times_sent(w, "block-job-change"), 0);
}

static void b44_a_change_of_what_is_over_is_refused(void **state)
{
    world *w = *state;
    bj_job *job = mirror_on(w, "10.0");
    expect(w, bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK);

    names(expect(w, bj_job_change(job, "{}", BJ_TIMEOUT_NONE), BJ_E_STATE), bj_job_id(job));
}

static void b06_a_change_that_is_not_answered_in_time(void **state)
{
    world *w = *state;
    bj_job *job = mirror_on(w, "10.0");
    step(w, JSON({"do": "hold", "command": "block-job-change"}));
    names(expect(w, bj_job_change(job, JSON({"copy-mode": "background"}), 20), BJ_E_TIMEOUT),
                 bj_job_id(job));
    step(w, JSON({"do": "release"}));

    expect(w, bj_job_query(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_TEST(b30_the_copy_mode_of_a_mirror_is_switched),
        UNCONNECTED_TEST(b30_a_qemu_without_it_is_told),
        UNCONNECTED_TEST(b44_a_type_that_the_caller_gives_is_sent),
        cmocka_unit_test(b44_whose_job_it_is_goes_before_the_options),
        UNCONNECTED_TEST(b44_options_that_are_none_are_refused_here),
        UNCONNECTED_TEST(b44_a_change_of_what_is_over_is_refused),
        UNCONNECTED_TEST(b06_a_change_that_is_not_answered_in_time),
    };
    return run_on_fake(tests);
}
