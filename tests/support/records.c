/* SPDX-License-Identifier: MIT */
/*
 * What watches and queues tell, as text that a test can compare.
 */
#include "records.h"

#include <poll.h>
#include <stdbool.h>

#define PATIENCE_MS (120 * 1000)

const char *kind_name(bj_record_kind kind)
{
    static const char *const names[] = {
        [BJ_RECORD_FUTURE] = "FUTURE",
        [BJ_RECORD_EVENT] = "EVENT",
        [BJ_RECORD_DISCONNECTED] = "DISCONNECTED",
        [BJ_RECORD_RECONNECTED] = "RECONNECTED",
        [BJ_RECORD_STATUS] = "STATUS",
        [BJ_RECORD_READY] = "READY",
        [BJ_RECORD_STALLED] = "STALLED",
        [BJ_RECORD_RESUMED] = "RESUMED",
        [BJ_RECORD_PROGRESS] = "PROGRESS",
        [BJ_RECORD_ENDED] = "ENDED",
        [BJ_RECORD_LAGGED] = "LAGGED",
        [BJ_RECORD_CLOSED] = "CLOSED",
        [BJ_RECORD_APPEARED] = "APPEARED",
        [BJ_RECORD_RELEASED] = "RELEASED",
        [BJ_RECORD_SENT] = "SENT",
        [BJ_RECORD_RECEIVED] = "RECEIVED",
        [BJ_RECORD_MEMO] = "MEMO",
    };
    assert_true((size_t)kind < sizeof(names) / sizeof(names[0]));
    return names[kind];
}

bj_watch *watch_job(world *w, bj_job *job, int64_t progress_ms)
{
    bj_watch *watch;
    assert_int_equal(bj_job_watch(job, progress_ms, &watch), BJ_OK);
    return hold_watch(w, watch);
}

bj_watch *watch_monitor(world *w)
{
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch(w->monitor, &watch), BJ_OK);
    return hold_watch(w, watch);
}

bj_watch *watch_jobs(world *w, int64_t progress_ms)
{
    bj_watch_jobs_options options = {.size = sizeof options, .progress_ms = progress_ms};
    bj_watch *watch;
    assert_int_equal(bj_monitor_watch_jobs(w->monitor, &options, &watch), BJ_OK);
    return hold_watch(w, watch);
}

const bj_record *next_record(bj_watch *watch)
{
    const bj_record *record;
    assert_int_equal(bj_watch_next(watch, PATIENCE_MS, &record), BJ_OK);
    return record;
}

static bool comes_in_any_number(bj_record_kind kind)
{
    return kind == BJ_RECORD_STATUS || kind == BJ_RECORD_PROGRESS || kind == BJ_RECORD_EVENT;
}

static const char *add_word(world *w, const char *text, const char *word)
{
    return text_of(w, "%s%s%s", text, text[0] ? " " : "", word);
}

const char *news(world *w, bj_watch *watch, bj_record_kind until)
{
    const char *text = "";
    const bj_record *record;
    do {
        record = next_record(watch);
        if (!comes_in_any_number(record->kind))
            text = add_word(w, text, kind_name(record->kind));
    } while (record->kind != until && record->kind != BJ_RECORD_CLOSED);
    return text;
}

const bj_record *await_stall(bj_watch *watch, const char *words)
{
    const bj_record *record;
    do {
        record = next_record(watch);
        assert_int_not_equal(record->kind, BJ_RECORD_CLOSED);
    } while (record->kind != BJ_RECORD_STALLED || !strstr(record->text, words));
    return record;
}

const char *statuses(world *w, bj_watch *watch, bj_record_kind until)
{
    const char *text = "";
    const bj_record *record;
    do {
        record = next_record(watch);
        if (record->kind == BJ_RECORD_STATUS)
            text = add_word(w, text, record->name);
    } while (record->kind != until && record->kind != BJ_RECORD_CLOSED);
    return text;
}

int read_queue(bj_queue *queue, bj_record *records, int max)
{
    struct pollfd readable = {.fd = bj_queue_fd(queue), .events = POLLIN};
    assert_int_equal(poll(&readable, 1, PATIENCE_MS), 1);
    int count = bj_queue_read(queue, records, sizeof(bj_record), max);
    assert_true(count > 0);
    return count;
}
