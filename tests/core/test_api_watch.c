/* SPDX-License-Identifier: MIT */
/*
 * Watches: every observer sees everything in order; a slow one is told what it lost.
 */
#include "fake.h"
#include "records.h"
#include "tally.h"

#define RING 16

/* Emits `count` events, numbered from `first`, and waits until the library has seen them all. */
static void emit(world *w, int first, int count)
{
    for (int i = first; i < first + count; i++)
        step(w, JSON({"do": "emit", "event": "COUNTED", "data": {"n": %d}}), i);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static int number_of(const bj_record *record)
{
    assert_int_equal(record->kind, BJ_RECORD_EVENT);
    assert_string_equal(record->name, "COUNTED");
    json_t *data = json_loads(record->text, 0, NULL);
    int number = (int)json_integer_value(json_object_get(data, "n"));
    json_decref(data);
    return number;
}

static void b60_every_observer_sees_every_event_in_order(void **state)
{
    world *w = *state;
    bj_watch *watches[4];
    for (int i = 0; i < 4; i++)
        watches[i] = watch_monitor(w);
    emit(w, 0, 100);

    for (int i = 0; i < 4; i++) {
        for (int n = 0; n < 100; n++)
            assert_int_equal(number_of(next_record(watches[i])), n);
    }
}

static void an_event_has_its_name_data_and_time(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    step(w, JSON({"do": "emit", "event": "NO_DATA"}));
    step(w, JSON({"do": "emit", "event": "BIG", "data": {"n": 18446744073709551615}}));

    const bj_record *record = next_record(watch);
    assert_string_equal(record->name, "NO_DATA");
    assert_true(record->timestamp_us > 1000000000000000);
    assert_int_equal(record->error, BJ_OK);
    assert_int_equal(record->token, 0);
    record = next_record(watch);
    assert_string_equal(record->name, "BIG");
    assert_non_null(strstr(record->text, "18446744073709551615"));
}

static void b49_an_event_without_a_time_is_an_event(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    step(w, "{\"do\": \"raw\", \"text\": \"{\\\"event\\\": \\\"BARE\\\"}\\r\\n\"}");

    const bj_record *record = next_record(watch);
    assert_string_equal(record->name, "BARE");
    assert_int_equal(record->timestamp_us, 0);
}

static void b61_a_slow_reader_is_told_how_many_it_lost(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_WATCH_RING, RING), BJ_OK);
    bj_watch *slow = watch_monitor(w);
    bj_watch *fast = watch_monitor(w);
    for (int n = 0; n < 100; n++) {
        emit(w, n, 1);
        assert_int_equal(number_of(next_record(fast)), n);
    }

    const bj_record *lagged = next_record(slow);
    assert_int_equal(lagged->kind, BJ_RECORD_LAGGED);
    uint64_t lost = lagged->lost;
    assert_int_in_range(lost, 100 - RING, 99);
    for (int n = (int)lost; n < 100; n++)
        assert_int_equal(number_of(next_record(slow)), n);
    const bj_record *none;
    assert_int_equal(bj_watch_next(slow, 0, &none), BJ_E_TIMEOUT);
}

static bj_watch *watch_events(world *w, const char *const *names, size_t count)
{
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch_events(w->monitor, names, count, &watch), BJ_OK);
    return hold_watch(w, watch);
}

/* However many others there are. */
static void w09_a_flood_of_other_events_takes_no_room(void **state)
{
    world *w = *state;
    static const char *const names[] = {"WANTED", "NEVER_HEARD_OF", "LAST", "WANTED"};
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_WATCH_RING, 2), BJ_OK);
    bj_watch *choosy = watch_events(w, names, 4);
    bj_watch *other = watch_events(w, &names[2], 1);
    bj_watch *all = watch_events(w, NULL, 0);
    step(w, JSON({"do": "emit", "event": "WANTED", "data": {"n": 1}}));
    emit(w, 0, 100);
    step(w, JSON({"do": "emit", "event": "LAST"}));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);

    const bj_record *record = next_record(choosy);
    assert_int_equal(record->kind, BJ_RECORD_EVENT);
    assert_string_equal(record->name, "WANTED");
    assert_non_null(strstr(record->text, "1"));
    assert_int_equal(record->sequence, 1);
    record = next_record(choosy);
    assert_string_equal(record->name, "LAST");
    assert_int_equal(record->sequence, 2);
    const bj_record *none;
    assert_int_equal(bj_watch_next(choosy, 0, &none), BJ_E_TIMEOUT);
    assert_string_equal(next_record(other)->name, "LAST");
    assert_int_equal(next_record(all)->kind, BJ_RECORD_LAGGED);
}

static void w09_the_end_comes_to_a_watch_of_some_events(void **state)
{
    world *w = *state;
    static const char *const names[] = {"NEVER_HEARD_OF"};
    bj_watch *watch = watch_events(w, names, 1);
    step(w, JSON({"do": "hang-up"}));
    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_CLOSED);
    assert_int_equal(record->error, BJ_E_DISCONNECTED);
}

static void w09_names_that_are_none(void **state)
{
    world *w = *state;
    static const char *const empty[] = {"SHUTDOWN", ""}, *const null[] = {"SHUTDOWN", NULL};
    static const char *many[1025];
    bj_watch *watch = NULL;
    for (size_t i = 0; i < 1025; i++)
        many[i] = "SHUTDOWN";

    assert_int_equal(bj_monitor_watch_events(w->monitor, empty, 2, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_events(w->monitor, null, 2, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_events(w->monitor, NULL, 1, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_events(w->monitor, many, 1025, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_events(w->monitor, many, 1024, NULL), BJ_E_INVAL);
    assert_null(watch);
    watch_events(w, many, 1024);
}

static void b61_ready_and_end_are_never_lost(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_WATCH_RING, 2), BJ_OK);
    bj_job *job = fake_mirror(w);
    bj_watch *watch = watch_job(w, job, 0);

    step(w, JSON({"do": "bounce", "times": 50}));
    step(w, JSON({"do": "ready"}));
    step(w, JSON({"do": "bounce", "times": 50}));
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    int ready = 0, ended = 0, lagged = 0;
    bj_record_kind last = BJ_RECORD_READY;
    while (last != BJ_RECORD_CLOSED) {
        const bj_record *record = next_record(watch);
        assert_true(last != BJ_RECORD_ENDED || record->kind == BJ_RECORD_CLOSED);
        ready += record->kind == BJ_RECORD_READY;
        ended += record->kind == BJ_RECORD_ENDED;
        lagged += record->kind == BJ_RECORD_LAGGED;
        last = record->kind;
    }
    assert_int_equal(ready, 1);
    assert_int_equal(ended, 1);
    assert_true(lagged > 0);
}

static void b61_a_stall_is_never_lost(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_WATCH_RING, 2), BJ_OK);
    bj_job *job = fake_mirror(w);
    bj_watch *watch = watch_job(w, job, 0);

    step(w, JSON({"do": "bounce", "times": 50}));
    step(w, JSON({"do": "io-error", "action": "stop"}));
    expect(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_STALLED);

    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_STALLED);
    assert_string_not_equal(record->text, "");
}

static void b27_bouncing_is_no_news(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    bj_watch *watch = watch_job(w, job, 0);

    step(w, JSON({"do": "bounce", "times": 20}));
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "READY ENDED CLOSED");
}

static void b04_a_watch_begins_with_what_is_true(void **state)
{
    world *w = *state;
    bj_job *job = fake_ready_mirror(w);
    assert_int_equal(next_record(watch_job(w, job, 0))->kind, BJ_RECORD_READY);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_OK);

    bj_watch *late = watch_job(w, job, 0);
    assert_string_equal(news(w, late, BJ_RECORD_CLOSED), "READY ENDED CLOSED");
}

static void b62_the_end_says_how(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_watch *watch = watch_job(w, job, 0);
    step(w, JSON({"do": "fail", "error": "No space left on device"}));

    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_ENDED);
    assert_int_equal(record->outcome, BJ_OUTCOME_FAILED);
    assert_int_equal(record->error, BJ_E_JOB_FAILED);
    assert_non_null(strstr(record->text, "No space left on device"));
    record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_CLOSED);
    assert_int_equal(record->error, BJ_OK);
    assert_int_equal(bj_watch_next(watch, BJ_TIMEOUT_NONE, &record), BJ_E_CLOSED);
}

static void b62_a_lost_connection_ends_with_the_reason(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    step(w, JSON({"do": "hang-up"}));

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_CLOSED);
    assert_int_equal(record->error, BJ_E_DISCONNECTED);
    assert_string_not_equal(record->text, "");
}

static void b62_a_closed_watch_ends(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_monitor(w);
    emit(w, 0, 3);
    bj_watch_close(watch);
    bj_watch_close(watch);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_CLOSED);
    assert_int_equal(record->error, BJ_E_CLOSED);
    assert_int_equal(bj_watch_next(watch, 0, &record), BJ_E_CLOSED);
}

static void b62_a_closed_monitor_ends_its_watches(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_watch *of_job = watch_job(w, job, 0);
    bj_watch *of_monitor = watch_monitor(w);
    bj_monitor_close(w->monitor);

    news(w, of_job, BJ_RECORD_CLOSED);
    assert_int_equal(next_record(of_monitor)->kind, BJ_RECORD_CLOSED);
    /* Closing a monitor says nothing of the job. */
    assert_int_not_equal(bj_job_outcome(job), BJ_OUTCOME_CANCELLED);
}

static void a_watch_is_read_in_one_way(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT, refused = TALLY_INIT;
    const bj_record *record;
    bj_queue *queue;
    assert_int_equal(bj_queue_new(w->ctx, &queue), BJ_OK);
    hold_queue(w, queue);

    bj_watch *by_next = watch_monitor(w);
    assert_int_equal(bj_watch_next(by_next, 0, &record), BJ_E_TIMEOUT);
    assert_int_equal(bj_watch_deliver(by_next, queue, 1), BJ_E_STATE);
    assert_int_equal(bj_watch_on_record(by_next, tally_watch_closure(&refused)), BJ_E_STATE);

    bj_watch *by_queue = watch_monitor(w);
    assert_int_equal(bj_watch_deliver(by_queue, queue, 1), BJ_OK);
    assert_int_equal(bj_watch_deliver(by_queue, queue, 1), BJ_E_STATE);
    assert_int_equal(bj_watch_next(by_queue, 0, &record), BJ_E_STATE);

    bj_watch *by_callback = watch_monitor(w);
    assert_int_equal(bj_watch_on_record(by_callback, tally_watch_closure(&t)), BJ_OK);
    assert_int_equal(bj_watch_on_record(by_callback, tally_watch_closure(&refused)), BJ_E_STATE);
    assert_int_equal(bj_watch_next(by_callback, 0, &record), BJ_E_STATE);

    emit(w, 0, 5);
    tally_await(&t, 5, 0); /* closing drops what was not read */
    bj_watch_close(by_callback);
    tally_await(&t, 6, 1);
    assert_int_equal(t.error, BJ_E_CLOSED);
    tally_await(&refused, 0, 2);
}

static void b71_a_watch_callback_keeps_its_watch(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch(w->monitor, &watch), BJ_OK);
    assert_int_equal(bj_watch_on_record(watch, tally_watch_closure(&t)), BJ_OK);
    bj_watch_unref(watch);

    emit(w, 0, 10);
    bj_monitor_close(w->monitor);
    tally_await(&t, 11, 1);
}

static void b71_watch_callbacks_end_with_the_context(void **state)
{
    world *w = *state;
    tally t = TALLY_INIT;
    assert_int_equal(bj_watch_on_record(watch_monitor(w), tally_watch_closure(&t)), BJ_OK);

    assert_int_equal(bj_ctx_close(w->ctx), BJ_OK);
    assert_int_equal(t.calls, 1);
    assert_int_equal(t.frees, 1);
    assert_int_equal(t.error, BJ_E_CLOSED);
}

static void bad_options_for_all_jobs(void **state)
{
    world *w = *state;
    bj_watch *watch = NULL;
    const bj_watch_jobs_options unknown_size = {.progress_ms = 1};
    const bj_watch_jobs_options negative = {.size = sizeof negative, .progress_ms = -1};
    assert_int_equal(bj_monitor_watch_jobs(w->monitor, &unknown_size, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_jobs(w->monitor, &negative, &watch), BJ_E_INVAL);
    assert_int_equal(bj_monitor_watch_jobs(w->monitor, NULL, NULL), BJ_E_INVAL);
    assert_null(watch);
}

static void b60_all_jobs_of_a_monitor_that_is_over(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_jobs(w, 1);
    bj_monitor_close(w->monitor);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    assert_string_equal(news(w, watch, BJ_RECORD_CLOSED), "CLOSED");
    assert_string_equal(news(w, watch_jobs(w, 1), BJ_RECORD_CLOSED), "CLOSED");
}

/* Before 3.0 no event tells of a new job: whatever a list is asked for, it is looked at for all. */
static void b60_any_list_shows_a_job_that_no_event_did(void **state)
{
    world *w = *state;
    be(w, "2.12");
    bj_ctx_set_limit(w->ctx, BJ_LIMIT_POLL_MS, 3600 * 1000);
    bj_watch *watch = watch_jobs(w, 0);
    expect(w, bj_monitor_attach(w->monitor, "nothing", BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
    step(w, JSON({"do": "execute", "command": "blockdev-mirror",
                  "arguments": {"job-id": "theirs", "device": "drive0", "target": "copy",
                                "sync": "full"}}));
    expect(w, bj_monitor_attach(w->monitor, "nothing", BJ_TIMEOUT_NONE), BJ_E_NO_JOB);
    bj_monitor_close(w->monitor);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(bj_job_id(record->job), "theirs");
}

/* A list that QEMU does not give is asked for again. */
static void b60_all_jobs_in_spite_of_a_list_that_fails(void **state)
{
    world *w = *state;
    step(w, JSON({"do": "execute", "command": "blockdev-mirror",
                  "arguments": {"job-id": "theirs", "device": "drive0", "target": "copy",
                                "sync": "full"}}));
    bj_ctx_set_limit(w->ctx, BJ_LIMIT_POLL_MS, 1);
    w->monitor = connect_to(w, fake_path(w));
    step(w, JSON({"do": "answer", "command": "query-jobs", "count": 2,
                  "error": {"class": "GenericError", "desc": "not now"}}));
    bj_watch *watch = watch_jobs(w, 0);

    const bj_record *record = next_record(watch);
    assert_int_equal(record->kind, BJ_RECORD_APPEARED);
    assert_string_equal(bj_job_id(record->job), "theirs");
    assert_int_equal(times_sent(w, "query-jobs"), 3);
}

static void the_last_reference_closes_a_watch(void **state)
{
    world *w = *state;
    bj_watch *watch;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(bj_monitor_watch(w->monitor, &watch), BJ_OK);
        assert_ptr_equal(bj_watch_ref(watch), watch);
        assert_null(bj_watch_unref(watch));
        assert_null(bj_watch_unref(watch));
        emit(w, 0, 1);
    }
}

/* ASan sees what is not freed. */
static void a_watch_of_all_jobs_is_closed_with_ends_unread(void **state)
{
    world *w = *state;
    bj_watch *watch = watch_jobs(w, 0);
    bj_job *job = fake_ready_mirror(w);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_APPEARED);
    bj_watch_close(watch);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_CLOSED);
}

static void b63_progress_is_asked_only_while_watched(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_watch *silent = watch_job(w, job, 0);
    int before = times_sent(w, "query-jobs");
    bj_watch *watch = watch_job(w, job, 5);

    for (int offset = 1000; offset <= 3000; offset += 1000) {
        step(w, JSON({"do": "progress", "offset": %d, "len": 10000}), offset);
        const bj_record *record;
        do
            record = next_record(watch);
        while (record->kind != BJ_RECORD_PROGRESS || record->current != offset);
        assert_int_equal(record->total, 10000);
    }
    assert_true(times_sent(w, "query-jobs") > before);

    bj_watch_close(watch);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    int after = times_sent(w, "query-jobs");
    expect(w, bj_job_done(job, BJ_DONE_OVER, 50), BJ_E_TIMEOUT);
    assert_int_equal(times_sent(w, "query-jobs"), after);
    bj_watch_close(silent);
    assert_string_equal(news(w, silent, BJ_RECORD_CLOSED), "CLOSED");
}

static void b63_all_watches_share_one_question(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    news(w, watch_jobs(w, 0), BJ_RECORD_APPEARED); /* the first one asks which jobs there are */
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    int before = times_sent(w, "query-jobs");
    step(w, JSON({"do": "hold", "command": "query-jobs"}));
    bj_watch *watches[5];
    for (int i = 0; i < 5; i++)
        watches[i] = i % 2 == 0 ? watch_job(w, job, 1) : watch_jobs(w, 1000000);
    expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(times_sent(w, "query-jobs"), before + 1);

    step(w, JSON({"do": "release"}));
    for (int i = 0; i < 5; i++)
        while (next_record(watches[i])->kind != BJ_RECORD_PROGRESS)
            ;
}

static void b25_progress_never_looks_complete_before_ready(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_watch *watch = watch_job(w, job, 5);
    step(w, JSON({"do": "progress", "offset": 10000, "len": 10000}));

    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_PROGRESS || record->current < 9000);
    assert_true(record->current < record->total);
}

static void await_more_lists(world *w, int count)
{
    while (times_sent(w, "query-jobs") < count)
        expect(w, bj_monitor_execute(w->monitor, "query-version", NULL, BJ_TIMEOUT_NONE), BJ_OK);
}

static void b30_a_mirror_that_does_not_converge_is_told(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 20), BJ_OK);
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "progress", "offset": 1000, "len": 2000}));
    bj_watch *watch = watch_job(w, job, 1);
    await_stall(watch, "nothing has been copied");

    step(w, JSON({"do": "progress", "offset": 3000, "len": 4000})); /* as much is left */
    await_stall(watch, "the guest writes as fast as it is copied");
    step(w, JSON({"do": "progress", "offset": 3500, "len": 4000}));
    news(w, watch, BJ_RECORD_RESUMED);
    await_stall(watch, "nothing has been copied"); /* and told again */
    step(w, JSON({"do": "ready"}));
    assert_non_null(strstr(news(w, watch, BJ_RECORD_READY), "READY"));
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED); /* it disturbs no wait */
}

static void w02_nothing_is_asked_that_nobody_wants_to_know(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 1), BJ_OK);
    bj_job *job = fake_mirror(w);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    int before = times_sent(w, "query-jobs");
    assert_int_equal(bj_future_wait(closed, 50), BJ_E_TIMEOUT);
    assert_int_equal(times_sent(w, "query-jobs"), before);

    bj_future *done = bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    await_more_lists(w, before + 2);
    bj_future_cancel(done);
    bj_future_unref(done);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    int after = times_sent(w, "query-jobs");
    assert_int_equal(bj_future_wait(closed, 50), BJ_E_TIMEOUT);
    assert_true(times_sent(w, "query-jobs") <= after + 1); /* the one that was on its way */
}

static void c51_errors_that_are_ignored_are_one_record(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    bj_watch *watch = watch_job(w, job, 0);
    for (int i = 0; i < 100; i++)
        step(w, JSON({"do": "io-error", "action": "ignore", "operation": "write"}));
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);

    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 20), BJ_OK);
    watch_job(w, job, 1); /* the first one asks for nothing for a day */
    const bj_record *record = await_stall(watch, "100 errors writing to the target were ignored");
    assert_true(record->sequence < 100);
    bj_watch_close(watch);
    assert_int_equal(next_record(watch)->kind, BJ_RECORD_CLOSED);
}

/* What is left of it is more than any number; UBSan sees that. */
static void c90_progress_beyond_all_numbers(void **state)
{
    world *w = *state;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_CONVERGE_MS, 1), BJ_OK);
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "progress", "offset": -9223372036854775807,
                  "len": 9223372036854775807}));
    bj_watch *watch = watch_job(w, job, 1);
    const bj_record *record;
    do
        record = next_record(watch);
    while (record->kind != BJ_RECORD_PROGRESS);
    step(w, JSON({"do": "ready"}));
    assert_non_null(strstr(news(w, watch, BJ_RECORD_READY), "READY"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b60_every_observer_sees_every_event_in_order),
        FAKE_TEST(an_event_has_its_name_data_and_time),
        FAKE_TEST(b49_an_event_without_a_time_is_an_event),
        FAKE_TEST(b61_a_slow_reader_is_told_how_many_it_lost),
        FAKE_TEST(w09_a_flood_of_other_events_takes_no_room),
        FAKE_TEST(w09_the_end_comes_to_a_watch_of_some_events),
        FAKE_TEST(w09_names_that_are_none),
        FAKE_TEST(b61_ready_and_end_are_never_lost),
        FAKE_TEST(b61_a_stall_is_never_lost),
        FAKE_TEST(b27_bouncing_is_no_news),
        FAKE_TEST(b04_a_watch_begins_with_what_is_true),
        UNCONNECTED_TEST(b60_all_jobs_in_spite_of_a_list_that_fails),
        FAKE_TEST(b60_any_list_shows_a_job_that_no_event_did),
        FAKE_TEST(b60_all_jobs_of_a_monitor_that_is_over),
        FAKE_TEST(bad_options_for_all_jobs),
        FAKE_TEST(b62_the_end_says_how),
        FAKE_TEST(b62_a_lost_connection_ends_with_the_reason),
        FAKE_TEST(b62_a_closed_watch_ends),
        FAKE_TEST(b62_a_closed_monitor_ends_its_watches),
        FAKE_TEST(a_watch_is_read_in_one_way),
        FAKE_TEST(b71_a_watch_callback_keeps_its_watch),
        FAKE_TEST(b71_watch_callbacks_end_with_the_context),
        FAKE_TEST(the_last_reference_closes_a_watch),
        FAKE_TEST(a_watch_of_all_jobs_is_closed_with_ends_unread),
        FAKE_TEST(b63_progress_is_asked_only_while_watched),
        FAKE_TEST(b63_all_watches_share_one_question),
        FAKE_TEST(b25_progress_never_looks_complete_before_ready),
        FAKE_TEST(b30_a_mirror_that_does_not_converge_is_told),
        FAKE_TEST(w02_nothing_is_asked_that_nobody_wants_to_know),
        FAKE_TEST(c51_errors_that_are_ignored_are_one_record),
        FAKE_TEST(c90_progress_beyond_all_numbers),
    };
    return run_on_fake(tests);
}
