/* SPDX-License-Identifier: MIT */
/*
 * Transcripts of real QEMUs, from RHEL 6 on, played at the library (tests/traces/README.md).
 * tests/traces/pipe.py plays, and says line by line what is to be done and what is true then.
 */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATIENCE_MS 60000
#define WORDS_MAX 6
#define RUNS_MAX 16
#define CALLS_MAX 2048 /* they are numbered by the transcript's lines */

/* One transcript, as far as it was played. */
struct play {
    world *w;
    char name[128];
    bj_monitor *monitor;
    bj_watch *watch;
    _Atomic long events;
    bj_job *jobs[RUNS_MAX];
    bj_future *calls[CALLS_MAX];
    int runs_of_calls[CALLS_MAX]; /* a start's, else -1 */
};

static long number(const char *word, long limit)
{
    char *end;
    long value = strtol(word, &end, 10);
    assert_true(*word && !*end && value >= 0 && value < limit);
    return value;
}

static void fail_play(const struct play *play, const char *what, const char *text)
{
    fail_msg("%s: %s: %s", play->name, what, text);
}

/* ------------------------------------------------------------- what is to be done */

static void count_event(bj_watch *watch, const bj_record *record, void *user)
{
    struct play *play = user;
    (void)watch;
    if (record->kind == BJ_RECORD_EVENT)
        atomic_fetch_add(&play->events, 1);
    assert_int_not_equal(record->kind, BJ_RECORD_LAGGED);
}

static void do_connect(struct play *play, char **words)
{
    bj_future *connected = bj_monitor_connect(play->w->ctx, words[1], PATIENCE_MS);

    bj_monitor_unref(play->monitor);
    atomic_store(&play->events, 0);
    play->monitor = bj_future_monitor(answers(connected, BJ_OK));
    bj_future_unref(connected);
    assert_int_equal(bj_monitor_watch(play->monitor, &play->watch), BJ_OK);
    bj_watch_on_record(play->watch, (bj_watch_closure){.fn = count_event, .user = play});
}

static void take_job(struct play *play, long run, bj_future *future)
{
    bj_job_unref(play->jobs[run]);
    play->jobs[run] = bj_future_job(future);
    bj_future_unref(future);
}

static void do_attach(struct play *play, char **words)
{
    long run = number(words[1], RUNS_MAX);
    bj_future *attached = bj_monitor_attach(play->monitor, words[2], PATIENCE_MS);
    take_job(play, run, answers(attached, BJ_OK));
}

static void note_call(struct play *play, const char *word, int run, bj_future *future)
{
    long call = number(word, CALLS_MAX);
    play->calls[call] = future;
    play->runs_of_calls[call] = run;
}

static void do_start(struct play *play, char **words)
{
    int run = (int)number(words[1], RUNS_MAX);
    note_call(play, words[2], run,
              bj_monitor_start(play->monitor, words[3], words[4], PATIENCE_MS));
}

static void do_execute(struct play *play, char **words)
{
    note_call(
        play, words[1], -1,
        bj_monitor_execute(play->monitor, words[2], *words[3] ? words[3] : NULL, PATIENCE_MS));
}

static bj_future *give_verb(bj_job *job, const char *verb, const char *speed)
{
    if (strcmp(verb, "complete") == 0)
        return bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, PATIENCE_MS);
    if (strcmp(verb, "cancel") == 0)
        return bj_job_abort(job, BJ_ABORT_ASYNC, PATIENCE_MS);
    if (strcmp(verb, "force") == 0)
        return bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, PATIENCE_MS);
    if (strcmp(verb, "pause") == 0)
        return bj_job_pause(job, PATIENCE_MS);
    if (strcmp(verb, "resume") == 0)
        return bj_job_resume(job, PATIENCE_MS);
    if (strcmp(verb, "set-speed") == 0)
        return bj_job_set_speed(job, number(speed, INT32_MAX), PATIENCE_MS);
    if (strcmp(verb, "finalize") == 0)
        return bj_job_finalize(job, PATIENCE_MS);
    assert_string_equal(verb, "dismiss");
    return bj_job_dismiss(job, PATIENCE_MS);
}

static void do_verb(struct play *play, char **words)
{
    bj_job *job = play->jobs[number(words[1], RUNS_MAX)];
    note_call(play, words[2], -1, give_verb(job, words[3], words[4]));
}

/* --------------------------------------------------------------- what is true then */

/* The library may know better than QEMU's refusal, and say so (B39). */
static bool is_refusal(int error)
{
    return error == BJ_E_REFUSED || error == BJ_E_STATE || error == BJ_E_STALLED ||
           error == BJ_E_UNSUPPORTED;
}

static void do_replied(struct play *play, char **words)
{
    long call = number(words[1], CALLS_MAX);
    bj_future *future = play->calls[call];
    bool accepted = strcmp(words[2], "accepted") == 0;

    play->calls[call] = NULL;
    if (!future)
        return; /* what the library has sent on its own */
    assert_int_equal(bj_future_wait(future, PATIENCE_MS), BJ_OK);
    int error = bj_future_error(future);
    if (accepted ? error != BJ_OK : error != BJ_OK && !is_refusal(error))
        fail_play(play, words[2], bj_future_text(future));
    if (accepted && play->runs_of_calls[call] >= 0)
        take_job(play, play->runs_of_calls[call], future);
    else
        bj_future_unref(future);
}

static void do_ready(struct play *play, char **words)
{
    bj_job *job = play->jobs[number(words[1], RUNS_MAX)];
    int error;
    do { /* stalled it may be until the events on their way have come */
        bj_future *ready = bj_job_ready(job, PATIENCE_MS);
        bj_future_wait(ready, BJ_TIMEOUT_NONE);
        error = bj_future_error(ready);
        bj_future_unref(ready);
    } while (error == BJ_E_STALLED);
    if (error != BJ_OK)
        fail_play(play, "ready", bj_error_name(error));
}

static bool is_among(const char *name, const char *names)
{
    size_t len = strlen(name);
    for (const char *at = names; at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* Its watch tells the end whatever stalls come before it. */
static void await_end(struct play *play, bj_job *job)
{
    const bj_record *record = NULL;
    bj_watch *watch;

    assert_int_equal(bj_job_watch(job, 0, &watch), BJ_OK);
    do
        if (bj_watch_next(watch, PATIENCE_MS, &record) != BJ_OK)
            fail_play(play, "over", "the job does not end");
    while (record->kind != BJ_RECORD_ENDED);
    bj_watch_unref(watch);
}

static void do_over(struct play *play, char **words)
{
    bj_job *job = play->jobs[number(words[1], RUNS_MAX)];

    await_end(play, job);
    const char *outcome = bj_outcome_name(bj_job_outcome(job));
    if (!is_among(outcome, words[2]))
        fail_play(play, words[2], outcome);
    if (*words[3])
        assert_string_equal(bj_job_text(job), words[3]);
}

static void forget_calls(struct play *play)
{
    for (long i = 0; i < CALLS_MAX; i++) {
        if (!play->calls[i])
            continue;
        assert_int_equal(bj_future_wait(play->calls[i], PATIENCE_MS), BJ_OK);
        play->calls[i] = bj_future_unref(play->calls[i]);
    }
}

static void do_gone(struct play *play, char **words)
{
    bj_future *closed = bj_monitor_closed(play->monitor);
    bj_future_unref(answers(closed, BJ_E_DISCONNECTED));
    forget_calls(play);
    play->watch = bj_watch_unref(play->watch);

    long events = atomic_load(&play->events);
    assert_int_in_range(events, number(words[1], INT32_MAX), number(words[2], INT32_MAX));
}

/* ---------------------------------------------------------------------------- lines */

static void do_end(struct play *play, char **words)
{
    (void)words;
    for (long i = 0; i < RUNS_MAX; i++)
        play->jobs[i] = bj_job_unref(play->jobs[i]);
    play->monitor = bj_monitor_unref(play->monitor);
}

static void do_play(struct play *play, char **words)
{
    do_end(play, NULL);
    snprintf(play->name, sizeof play->name, "%s", words[1]);
}

static const struct {
    const char *word;
    int words;
    void (*act)(struct play *play, char **words);
    bool is_acknowledged;
} deeds[] = {
    {"play", 2, do_play, false},      {"connect", 2, do_connect, true},
    {"attach", 3, do_attach, true},   {"start", 5, do_start, false},
    {"verb", 5, do_verb, false},      {"execute", 4, do_execute, false},
    {"replied", 3, do_replied, true}, {"ready", 2, do_ready, true},
    {"over", 4, do_over, true},       {"gone", 3, do_gone, true},
    {"end", 1, do_end, false},
};

static int split(char *line, char **words)
{
    int count = 0;
    line[strcspn(line, "\n")] = '\0';
    while (line && count < WORDS_MAX)
        words[count++] = strsep(&line, "\t");
    return count;
}

static void do_line(struct play *play, char *line, int acks)
{
    char *words[WORDS_MAX];
    int count = split(line, words);

    for (size_t i = 0; i < sizeof deeds / sizeof deeds[0]; i++) {
        if (strcmp(words[0], deeds[i].word) != 0)
            continue;
        assert_int_equal(count, deeds[i].words);
        deeds[i].act(play, words);
        if (deeds[i].is_acknowledged)
            assert_int_equal(write(acks, "ok\n", 3), 3);
        return;
    }
    fail_play(play, "unknown", words[0]);
}

/* All of tests/traces/some. */
static void play_some(world *w, struct play *play)
{
    int acks[2];
    assert_int_equal(pipe2(acks, O_CLOEXEC), 0);
    fcntl(acks[0], F_SETFD, 0);
    FILE *lines = popen(text_of(w,
                                "exec python3 tests/traces/pipe.py --acks %d "
                                "$(cat tests/traces/some) </dev/null",
                                acks[0]),
                        "re");
    close(acks[0]);
    assert_non_null(lines);

    char *line = NULL;
    size_t size = 0;
    bool ended = false;
    while (!ended && getline(&line, &size, lines) > 0) {
        ended = strncmp(line, "end", 3) == 0;
        do_line(play, line, acks[1]);
    }
    free(line);
    close(acks[1]);
    pclose(lines);
    if (!ended)
        fail_play(play, "not played to its end", "see above");
}

static void b59_transcripts_are_told_as_they_were(void **state)
{
    struct play *play = calloc(1, sizeof *play);
    assert_non_null(play);
    play->w = *state;
    bj_ctx_set_limit(play->w->ctx, BJ_LIMIT_POLL_MS, 5);
    play_some(play->w, play);
    free(play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {ALONE_TEST(b59_transcripts_are_told_as_they_were)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
