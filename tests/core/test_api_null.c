/* SPDX-License-Identifier: MIT */
/*
 * Every function of the public header, once with NULL handles and arguments: an error, or the
 * neutral answer; never a crash, and never a NULL future.
 */
#include "cmocka_all.h"

#include <blockjob/ev.h>

#include <stdio.h>
#include <stdlib.h>

/* A future that is done already, with that error, and can be printed. */
static void is_inval(bj_future *future)
{
    assert_non_null(future);
    assert_int_equal(bj_future_wait(future, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_error(future), BJ_E_INVAL);
    assert_string_not_equal(bj_future_text(future), "");
    assert_null(bj_future_unref(future));
}

static void null_contexts(void **state)
{
    (void)state;
    uint64_t value = 7;
    bj_queue *queue = (bj_queue *)&value;

    assert_int_equal(bj_ctx_new(NULL), BJ_E_INVAL);
    assert_int_equal(bj_ctx_new_on_loop(NULL, NULL), BJ_E_INVAL);
    assert_null(bj_ctx_ref(NULL));
    assert_null(bj_ctx_unref(NULL));
    assert_int_equal(bj_ctx_close(NULL), BJ_E_INVAL);
    assert_int_equal(bj_ctx_close_async(NULL), BJ_E_INVAL);
    assert_int_equal(bj_ctx_set_limit(NULL, BJ_LIMIT_JOBS, 1), BJ_E_INVAL);
    assert_int_equal(bj_ctx_get_limit(NULL, BJ_LIMIT_JOBS, &value), BJ_E_INVAL);
    assert_int_equal(value, 7);
    assert_int_equal(bj_ctx_set_log(NULL, NULL, NULL), BJ_E_INVAL);
    assert_int_equal(bj_queue_new(NULL, &queue), BJ_E_INVAL);
    assert_ptr_equal(queue, &value);
}

static void null_futures(void **state)
{
    (void)state;
    assert_null(bj_future_ref(NULL));
    assert_null(bj_future_unref(NULL));
    assert_int_equal(bj_future_on_done(NULL, (bj_closure){0}), BJ_E_INVAL);
    assert_int_equal(bj_future_wait(NULL, 0), BJ_E_INVAL);
    assert_int_equal(bj_future_deliver(NULL, NULL, 0), BJ_E_INVAL);
    bj_future_cancel(NULL);
    assert_true(bj_future_is_done(NULL)); /* it has an answer: BJ_E_INVAL */
    assert_int_equal(bj_future_error(NULL), BJ_E_INVAL);
    assert_non_null(bj_future_text(NULL));
    assert_non_null(bj_future_error_class(NULL));
    assert_int_equal(bj_future_cause(NULL), BJ_OK);
    assert_int_equal(bj_future_outcome(NULL), BJ_OUTCOME_NONE);
    assert_null(bj_future_monitor(NULL));
    assert_null(bj_future_job(NULL));
    assert_null(bj_future_json(NULL));
    assert_int_equal(bj_future_job_count(NULL), 0);
    assert_null(bj_future_job_at(NULL, 0));
    assert_int_equal(bj_future_info_count(NULL), 0);
    assert_null(bj_future_info(NULL, 0));
}

static void null_monitors(void **state)
{
    (void)state;
    bj_watch *watch = NULL;

    is_inval(bj_monitor_connect(NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_connect_with(NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_connect_domain(NULL, NULL, BJ_TIMEOUT_DEFAULT));
    bj_watch *trace = (bj_watch *)&watch;
    bj_connect_options options = {.size = sizeof options, .ret_trace = &trace};
    is_inval(bj_monitor_connect_with(NULL, NULL, &options, BJ_TIMEOUT_DEFAULT));
    assert_null(trace);
    assert_int_equal(bj_monitor_set_trace(NULL, BJ_TRACE_PLAIN, NULL, NULL), BJ_E_INVAL);
    assert_non_null(bj_monitor_name(NULL));
    assert_null(bj_monitor_ref(NULL));
    assert_null(bj_monitor_unref(NULL));
    assert_int_equal(bj_monitor_close(NULL), BJ_E_INVAL);
    assert_int_equal(bj_monitor_set_reconnect(NULL, 0), BJ_E_INVAL);
    is_inval(bj_monitor_closed(NULL));
    assert_non_null(bj_monitor_uri(NULL));
    assert_non_null(bj_monitor_qemu_version(NULL));
    assert_int_equal(bj_monitor_has_command(NULL, NULL), BJ_E_INVAL);
    is_inval(bj_monitor_execute(NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_execute_with(NULL, NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_start(NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_mirror(NULL, NULL, NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_commit(NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_stream(NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_backup(NULL, NULL, NULL, NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_transaction(NULL, NULL, BJ_TRANSACTION_EACH, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_attach(NULL, NULL, BJ_TIMEOUT_DEFAULT));
    is_inval(bj_monitor_list(NULL, BJ_TIMEOUT_DEFAULT));
    assert_int_equal(bj_monitor_watch(NULL, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_events(NULL, NULL, 0, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_jobs(NULL, NULL, &watch), BJ_E_INVAL);
    assert_null(watch);
}

static void null_jobs(void **state)
{
    (void)state;
    bj_watch *watch = NULL;

    assert_null(bj_job_ref(NULL));
    assert_null(bj_job_unref(NULL));
    assert_non_null(bj_job_id(NULL));
    assert_non_null(bj_job_type(NULL));
    assert_null(bj_job_disk(NULL, 0));
    assert_false(bj_job_is_ready(NULL));
    assert_int_equal(bj_job_outcome(NULL), BJ_OUTCOME_NONE);
    assert_int_equal(bj_job_cause(NULL), BJ_E_INVAL);
    assert_non_null(bj_job_text(NULL));
    assert_int_equal(bj_job_memo(NULL, NULL, 0), BJ_E_INVAL);
    assert_int_equal(bj_memo_check(NULL, NULL), BJ_E_INVAL);
    assert_int_equal(bj_job_time(NULL, BJ_MOMENT_END_SEEN), BJ_E_INVAL);
    is_inval(bj_job_ready(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_job_done(NULL, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    is_inval(bj_job_pivot(NULL, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    is_inval(bj_job_finish(NULL, BJ_FINISH_OVER, BJ_TIMEOUT_NONE));
    is_inval(bj_job_abort(NULL, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
    is_inval(bj_job_abort_escalate(NULL, 0, BJ_TIMEOUT_NONE));
    is_inval(bj_job_pause(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_job_resume(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_job_set_speed(NULL, 0, BJ_TIMEOUT_NONE));
    is_inval(bj_job_finalize(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_job_dismiss(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_job_change(NULL, NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_job_query(NULL, BJ_TIMEOUT_NONE));
    assert_int_equal(bj_job_watch(NULL, 0, &watch), BJ_E_INVAL);
    assert_null(watch);
}

static void null_groups(void **state)
{
    (void)state;
    bj_group *group = NULL;

    assert_int_equal(bj_group_new(NULL, &group), BJ_E_INVAL);
    assert_null(group);
    assert_null(bj_group_ref(NULL));
    assert_null(bj_group_unref(NULL));
    assert_int_equal(bj_group_add(NULL, NULL), BJ_E_INVAL);
    is_inval(bj_group_ready(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_group_done(NULL, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    is_inval(bj_group_any(NULL, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
    is_inval(bj_group_pivot(NULL, BJ_TIMEOUT_NONE));
    is_inval(bj_group_abort(NULL, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
}

static void null_watches_and_queues(void **state)
{
    (void)state;
    const bj_record *record = NULL;
    bj_record records[1];

    assert_null(bj_watch_ref(NULL));
    assert_null(bj_watch_unref(NULL));
    assert_int_equal(bj_watch_on_record(NULL, (bj_watch_closure){0}), BJ_E_INVAL);
    assert_int_equal(bj_watch_deliver(NULL, NULL, 0), BJ_E_INVAL);
    assert_int_equal(bj_watch_next(NULL, 0, &record), BJ_E_INVAL);
    assert_null(record);
    bj_watch_close(NULL);
    assert_null(bj_queue_ref(NULL));
    assert_null(bj_queue_unref(NULL));
    assert_int_equal(bj_queue_fd(NULL), BJ_E_INVAL);
    assert_int_equal(bj_queue_read(NULL, records, sizeof(bj_record), 1), BJ_E_INVAL);
}

static void names_and_texts_are_never_null(void **state)
{
    (void)state;
    for (int error = BJ_E_JOB_ENDED - 2; error <= 2; error++) {
        assert_string_not_equal(bj_error_name(error), "");
        assert_string_not_equal(bj_error_text(error), "");
    }
    for (int outcome = -1; outcome <= BJ_OUTCOME_LOST + 1; outcome++)
        assert_string_not_equal(bj_outcome_name((bj_outcome)outcome), "");

    assert_string_equal(bj_error_name(BJ_E_TIMEOUT), "BJ_E_TIMEOUT");
    assert_string_equal(bj_error_name(BJ_E_JOB_ENDED), "BJ_E_JOB_ENDED");
    assert_string_equal(bj_outcome_name(BJ_OUTCOME_PIVOTED), "PIVOTED");
}

static void the_version_is_that_of_the_header(void **state)
{
    (void)state;
    char version[32];
    snprintf(version, sizeof(version), "%d.%d.%d", BJ_VERSION_MAJOR, BJ_VERSION_MINOR,
             BJ_VERSION_PATCH);
    assert_string_equal(bj_version(), version);
    assert_int_equal(bj_version_number(), BJ_VERSION_NUMBER);
}

static char *read_text(const char *path)
{
    static char texts[2][64 * 1024];
    static int used;
    char *text = texts[used++];
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof(texts[0]), file);
    assert_int_in_range(length, 1, sizeof(texts[0]) - 1);
    fclose(file);
    return text;
}

/* A function that is new in the header is new here: this file has each of their names. */
static void no_function_is_forgotten(void **state)
{
    (void)state;
    char *this_file = read_text(__FILE__);
    char *header = read_text("core/include/blockjob/blockjob.h");

    int found = 0;
    for (char *line = strtok(header, "\n"); line; line = strtok(NULL, "\n")) {
        /* A declaration starts its line; comments, fields and typedefs don't look like one. */
        char *end = strchr(line, '(');
        if (!end || strchr(" /*#}", line[0]) || strncmp(line, "typedef", 7) == 0)
            continue;
        char *name = end;
        while (name > line && name[-1] != ' ' && name[-1] != '*')
            name--;
        end[1] = '\0';
        if (!strstr(this_file, name))
            fail_msg("%s) is not called here", name);
        found++;
    }
    assert_true(found > 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_contexts),
        cmocka_unit_test(null_futures),
        cmocka_unit_test(null_monitors),
        cmocka_unit_test(null_jobs),
        cmocka_unit_test(null_groups),
        cmocka_unit_test(null_watches_and_queues),
        cmocka_unit_test(names_and_texts_are_never_null),
        cmocka_unit_test(the_version_is_that_of_the_header),
        cmocka_unit_test(no_function_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
