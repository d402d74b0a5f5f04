/* SPDX-License-Identifier: MIT */
/*
 * Transactions on a fake QEMU: what is sent, byte for byte, and what goes wrong on the way.
 */
#include "fake.h"
#include "process.h"

#include <sys/wait.h>
#include <unistd.h>

#define BACKUP(disk, more)                                                                         \
    "{\"type\": \"blockdev-backup\", \"data\": {\"device\": \"" disk                               \
    "\", \"target\": \"copy-" disk "\", \"sync\": \"full\"" more "}}"
#define TWO "[" BACKUP("a", "") ", " BACKUP("b", "") "]"
#define TWO_NAMED "[" BACKUP("a", ", \"job-id\": \"a\"") ", " BACKUP("b", ", \"job-id\": \"b\"") "]"

static bj_future *begin(world *w, const char *actions, int flags)
{
    return hold(w, bj_monitor_transaction(w->monitor, actions, flags, BJ_TIMEOUT_NONE));
}

static bj_job *job_at(world *w, bj_future *begun, size_t index)
{
    return hold_job(w, bj_future_job_at(begun, index));
}

static bj_future *done(world *w, bj_job *job)
{
    return hold(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
}

static size_t jobs_listed(world *w)
{
    return bj_future_info_count(expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK));
}

/* What becomes of a text is in the log as Python writes JSON. */
static void b43_what_is_sent(void **state)
{
    world *w = *state;
    const char *actions =
        " [ {\"data\" : { },\"type\":\"drive-backup\"},\n"
        "{\"type\":\"bitmap\", \"data\":{\"data\": {\"n\": [18446744073709551617]}}},"
        "{\"type\":\"blockdev-backup\",\"data\":{\"job-id\":\"mine\","
        "\"auto-dismiss\":true,\"speed\":9007199254740993}},"
        "{\"x\":{\"data\":1},\"type\":\"blockdev-backup\",\"data\":{"
        "\"device\":\"}]{\\\"\",\"speed\":0}} ]";
    step(w, JSON({"do": "answer", "command": "transaction", "return": {}}));
    bj_future *begun = answers(begin(w, actions, BJ_TRANSACTION_GROUPED), BJ_OK);

    assert_int_equal(bj_future_job_count(begun), 3);
    const char *first = bj_job_id(job_at(w, begun, 0)), *last = bj_job_id(job_at(w, begun, 2));
    assert_string_equal(bj_job_id(job_at(w, begun, 1)), "mine");
    assert_true(log_has(
        w,
        text_of(
            w,
            "{\"execute\": \"transaction\", \"arguments\": {\"actions\": ["
            "{\"data\": {\"job-id\": \"%s\", \"auto-dismiss\": false}, \"type\": \"drive-backup\"}, "
            "{\"type\": \"bitmap\", \"data\": {\"data\": {\"n\": [18446744073709551617]}}}, "
            "{\"type\": \"blockdev-backup\", \"data\": {\"job-id\": \"mine\", "
            "\"auto-dismiss\": true, \"speed\": 9007199254740993}}, "
            "{\"x\": {\"data\": 1}, \"type\": \"blockdev-backup\", \"data\": {\"job-id\": \"%s\", "
            "\"auto-dismiss\": false, \"device\": \"}]{\\\"\", \"speed\": 0}}], "
            "\"properties\": {\"completion-mode\": \"grouped\"}}",
            first, last)));
}

static void b43_without_flags_no_properties_are_sent(void **state)
{
    world *w = *state;
    answers(begin(w, "[" BACKUP("alone", "") "]", BJ_TRANSACTION_EACH), BJ_OK);
    assert_true(log_has(w, "\"target\": \"copy-alone\", \"sync\": \"full\"}}]}, \"id\""));
}

static void b02_what_happens_before_the_reply_counts(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "when", "command": "transaction", "at": "done",
                  "steps": [{"do": "fail", "job": "a", "error": "Input/output error"},
                            {"do": "finish", "job": "b"}]}));
    bj_future *begun = answers(begin(w, TWO_NAMED, BJ_TRANSACTION_EACH), BJ_OK);

    names(ends(done(w, job_at(w, begun, 0)), BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED), "Input/output");
    ends(done(w, job_at(w, begun, 1)), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void b16_a_peer_of_the_group_is_cancelled(void **state)
{
    world *w = *state;
    bj_future *begun = answers(begin(w, TWO_NAMED, BJ_TRANSACTION_GROUPED), BJ_OK);
    bj_future *first = done(w, job_at(w, begun, 0)), *second = done(w, job_at(w, begun, 1));
    step(w, JSON({"do": "fail", "job": "b", "error": "No space left on device"}));

    ends(second, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    ends(first, BJ_OK, BJ_OUTCOME_CANCELLED);
}

static void b41_refused_no_job_is_left(void **state)
{
    world *w = *state;
    bj_future *refused =
        begin(w, "[" BACKUP("a", ", \"job-id\": \"a\"") ", " BACKUP("missing", "") "]", 0);
    assert_string_equal(bj_future_error_class(answers(refused, BJ_E_REFUSED)), "GenericError");
    assert_int_equal(bj_future_job_count(refused), 0);
    assert_null(bj_future_job_at(refused, 0));

    assert_int_equal(jobs_listed(w), 0);
    expect(w, bj_monitor_attach(w->monitor, "a", BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
    answers(begin(w, TWO_NAMED, BJ_TRANSACTION_EACH), BJ_OK);
}

static void b06_jobs_of_a_late_reply_can_be_found(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "transaction"}));
    bj_future *late = expect(
        w, bj_monitor_transaction(w->monitor, TWO_NAMED, BJ_TRANSACTION_EACH, 20), BJ_E_TIMEOUT);
    names(late, "transaction");
    names(late, "job a and the others");
    step(w, JSON({"do": "release"}));

    bj_job *job = attach(w, "b");
    step(w, JSON({"do": "finish", "job": "b"}));
    ends(done(w, job), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void b45_a_hang_up_before_the_reply(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "transaction"}));
    bj_future *begun = begin(w, TWO, BJ_TRANSACTION_GROUPED);
    await_sent(w, "transaction");
    step(w, JSON({"do": "hang-up"}));
    answers(begun, BJ_E_DISCONNECTED);
    assert_int_equal(bj_future_job_count(begun), 0);
}

static void b07_a_transaction_that_nobody_awaits_goes_on(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "hold", "command": "transaction"}));
    bj_future *begun = begin(w, TWO_NAMED, BJ_TRANSACTION_EACH);
    await_sent(w, "transaction");
    bj_future_cancel(begun);
    answers(begun, BJ_E_CANCELLED);
    step(w, JSON({"do": "release"}));

    assert_int_equal(jobs_listed(w), 2);
}

static void b40_jobs_beyond_the_limit_are_not_started(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_JOBS, 1), BJ_OK);
    w->monitor = connect_to(w, fake_path(w));
    answers(begin(w, TWO, BJ_TRANSACTION_EACH), BJ_E_BUSY);
    assert_int_equal(times_sent(w, "transaction"), 0);

    /* The one that fitted is forgotten, too. */
    answers(begin(w, "[" BACKUP("a", "") "]", BJ_TRANSACTION_EACH), BJ_OK);
}

static void a_qemu_without_transactions_is_told(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "answer", "command": "query-commands",
                  "return": [{"name": "query-block-jobs"}, {"name": "query-commands"}]}));
    w->monitor = connect_to(w, fake_path(w));
    names(answers(begin(w, TWO, BJ_TRANSACTION_EACH), BJ_E_UNSUPPORTED), "transaction");
}

static void misuse_is_told(void **state)
{
    static const struct {
        const char *actions, *word;
    } bad[] = {
        {NULL, "not a JSON array"},
        {"", "not a JSON array"},
        {"{}", "not a JSON array"},
        {"[", "not a JSON array"},
        {"[{\"type\": \"blockdev-backup\", \"data\": {}, \"data\": {}}]", "twice"},
        {"[7]", "action 0"},
        {"[{}]", "action 0"},
        {"[{\"type\": 7, \"data\": {}}]", "action 0"},
        {"[{\"type\": \"abort\", \"data\": {}}, {\"type\": \"blockdev-backup\"}]", "action 1"},
        {"[{\"type\": \"blockdev-backup\", \"data\": []}]", "action 0"},
        {"[{\"type\": \"blockdev-backup\", \"d\\u0061ta\": {}}]", "escapes"},
    };
    world *w = *state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        names(answers(begin(w, bad[i].actions, BJ_TRANSACTION_EACH), BJ_E_INVAL), bad[i].word);

    names(answers(begin(w, "[]", 2), BJ_E_INVAL), "0x2");
    expect(w, bj_monitor_transaction(w->monitor, "[]", 0, -9), BJ_E_INVAL);
    expect(w, bj_monitor_transaction(NULL, "[]", 0, BJ_TIMEOUT_NONE), BJ_E_INVAL);
    assert_int_equal(bj_future_job_count(NULL), 0);
    assert_null(bj_future_job_at(NULL, 0));
    assert_int_equal(times_sent(w, "transaction"), 0);
}

static void b72_a_child_is_told_that_it_is_one(void **state)
{
    world *w = *state;
    pid_t child = fork();
    if (child == 0) {
        bj_future *forked = bj_monitor_transaction(w->monitor, TWO, 0, BJ_TIMEOUT_NONE);
        process_leave(bj_future_error(forked) == BJ_E_FORKED ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b43_what_is_sent),
        FAKE_TEST(b43_without_flags_no_properties_are_sent),
        FAKE_TEST(b02_what_happens_before_the_reply_counts),
        FAKE_TEST(b16_a_peer_of_the_group_is_cancelled),
        FAKE_TEST(b41_refused_no_job_is_left),
        FAKE_TEST(b06_jobs_of_a_late_reply_can_be_found),
        FAKE_TEST(b45_a_hang_up_before_the_reply),
        FAKE_TEST(b07_a_transaction_that_nobody_awaits_goes_on),
        UNCONNECTED_TEST(b40_jobs_beyond_the_limit_are_not_started),
        UNCONNECTED_TEST(a_qemu_without_transactions_is_told),
        FAKE_TEST(misuse_is_told),
        FAKE_TEST(b72_a_child_is_told_that_it_is_one),
    };
    return run_on_fake(tests);
}
