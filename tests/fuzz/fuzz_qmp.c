/* SPDX-License-Identifier: MIT */
/*
 * The whole library with a server that says anything: on a loop of this thread, so that nothing
 * depends on the clock. Everyone is answered, outcomes are latched, watches end.
 *
 * Input: what the server says. A byte below 32 is none of it but tells what happens in between; see
 * act_on().
 */
#include "fuzz.h"

#include <blockjob/blockjob.h>
#include <blockjob/ev.h>

#include <ev.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FUTURES 48
#define JOBS 12
#define WATCHES 6
#define IDS 64
#define TEXT_MAX 65536

struct scene {
    bj_ctx *ctx;
    bj_monitor *monitor;
    bj_group *group;
    int server; /* -1 once it has hung up */

    bj_future *futures[FUTURES];
    int future_count;
    bj_job *jobs[JOBS];
    bj_outcome outcomes[JOBS];
    int job_count;
    bj_watch *watches[WATCHES];
    int watch_count;

    char text[TEXT_MAX]; /* to be said */
    size_t text_len;
    char heard[TEXT_MAX];
    size_t heard_len;
    char ids[IDS][24]; /* of the commands that came */
    unsigned ids_heard, ids_answered;
    char job_id[64]; /* of the start that came last */
};

static struct ev_loop *loop;

/* ------------------------------------------------------------------- the server */

static void note_line(struct scene *s, const char *line)
{
    const char *id = NULL;
    for (const char *at = line; (at = strstr(at, "\"id\":")); at++)
        id = at + 5;
    if (id)
        snprintf(s->ids[s->ids_heard++ % IDS], sizeof s->ids[0], "%.*s",
                 (int)strspn(id, "0123456789"), id);
    const char *job = strstr(line, "\"job-id\":\"");
    if (job)
        snprintf(s->job_id, sizeof s->job_id, "%.*s", (int)strcspn(job + 10, "\""), job + 10);
}

static bool hear(struct scene *s)
{
    bool heard = false;
    ssize_t n;
    while ((n = recv(s->server, s->heard + s->heard_len, sizeof s->heard - s->heard_len - 1,
                     MSG_DONTWAIT)) > 0) {
        heard = true;
        s->heard_len += (size_t)n;
        s->heard[s->heard_len] = '\0';
        char *line = s->heard;
        for (char *end; (end = strchr(line, '\n')); line = end + 1) {
            *end = '\0';
            note_line(s, line);
        }
        s->heard_len = strlen(line);
        memmove(s->heard, line, s->heard_len + 1);
        if (s->heard_len > sizeof s->heard / 2)
            s->heard_len = 0; /* a caller's own arguments: no more of that line */
    }
    return heard;
}

static void check_outcomes(struct scene *s)
{
    for (int i = 0; i < s->job_count; i++) {
        bj_outcome now = bj_job_outcome(s->jobs[i]);
        must(s->outcomes[i] == BJ_OUTCOME_NONE || s->outcomes[i] == now, "an outcome is latched");
        s->outcomes[i] = now;
    }
}

static void keep_job(struct scene *s, bj_job *job)
{
    for (int i = 0; i < s->job_count; i++)
        if (s->jobs[i] == job)
            job = bj_job_unref(job);
    if (job && s->job_count < JOBS)
        s->jobs[s->job_count++] = job;
    else
        bj_job_unref(job);
}

static void take_results(struct scene *s)
{
    for (int i = 0; i < s->future_count; i++) {
        if (!s->monitor)
            s->monitor = bj_future_monitor(s->futures[i]);
        keep_job(s, bj_future_job(s->futures[i]));
    }
}

/* Until nothing moves any more: an answer takes the loop three rounds at most. */
static void run(struct scene *s)
{
    for (int quiet = 0; quiet < 3; quiet++) {
        ev_run(loop, EVRUN_NOWAIT);
        if (s->server >= 0 && hear(s))
            quiet = 0;
    }
    take_results(s);
    check_outcomes(s);
}

static void say(struct scene *s, const char *text, size_t len)
{
    if (len > sizeof s->text - s->text_len)
        return;
    memcpy(s->text + s->text_len, text, len);
    s->text_len += len;
}

static void flush(struct scene *s)
{
    for (size_t at = 0; at < s->text_len && s->server >= 0;) {
        ssize_t n = send(s->server, s->text + at, s->text_len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    s->text_len = 0;
    run(s);
}

static void hang_up(struct scene *s)
{
    flush(s);
    if (s->server >= 0)
        close(s->server);
    s->server = -1;
    run(s);
}

static void say_words(struct scene *s, const char *text)
{
    say(s, text, strlen(text));
}

static void answer_next(struct scene *s)
{
    if (s->ids_answered < s->ids_heard)
        s->ids_answered++;
    say_words(s, s->ids_answered ? s->ids[(s->ids_answered - 1) % IDS] : "0");
}

/* What the negotiation of a QEMU of today and of an old one is. */
static void negotiate(struct scene *s, const char *commands)
{
    say_words(s, "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 1, \"minor\": 2, \"major\": 7}}, "
                 "\"capabilities\": []}}");
    flush(s);
    say_words(s, "{\"return\": {}, \"id\": ");
    answer_next(s);
    say_words(s, "}");
    flush(s);
    say_words(s, "{\"return\": [");
    for (const char *separator = ""; *commands; separator = ", ") {
        size_t len = strcspn(commands, " ");
        say_words(s, separator);
        say_words(s, "{\"name\": \"");
        say(s, commands, len);
        say_words(s, "\"}");
        commands += len + strspn(commands + len, " ");
    }
    say_words(s, "], \"id\": ");
    answer_next(s);
    say_words(s, "}");
    flush(s);
}

/* ------------------------------------------------------------------ the program */

static void keep_future(struct scene *s, bj_future *future)
{
    must(future != NULL, "a future is never NULL");
    if (s->future_count < FUTURES)
        s->futures[s->future_count++] = future;
    else
        bj_future_unref(future);
}

/* Room for one more watch; NULL: there is none. */
static bj_watch **next_watch(struct scene *s)
{
    return s->watch_count < WATCHES ? &s->watches[s->watch_count] : NULL;
}

static void watch_job(struct scene *s, bj_job *job)
{
    bj_watch **watch = next_watch(s);
    if (watch && bj_job_watch(job, 0, watch) == BJ_OK)
        s->watch_count++;
}

static void watch_monitor(struct scene *s)
{
    bj_watch **watch = next_watch(s);
    if (watch && bj_monitor_watch(s->monitor, watch) == BJ_OK)
        s->watch_count++;
}

static void read_watches(struct scene *s)
{
    const bj_record *record;
    for (int i = 0; i < s->watch_count; i++)
        for (int n = 0; n < 100 && bj_watch_next(s->watches[i], 0, &record) == BJ_OK; n++)
            must(record->name && record->text, "a record's strings are there");
}

static void ask_monitor(struct scene *s, unsigned what)
{
    bj_monitor *m = s->monitor;
    switch (what) {
    case 0:
        keep_future(s, bj_monitor_mirror(m, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE));
        break;
    case 1:
        keep_future(s, bj_monitor_backup(m, "drive0", "copy", "full", "{\"job-id\": \"j\"}",
                                         BJ_TIMEOUT_NONE));
        break;
    case 2:
        keep_future(s, bj_monitor_attach(m, "j", BJ_TIMEOUT_NONE));
        break;
    case 3:
        keep_future(s, bj_monitor_list(m, BJ_TIMEOUT_NONE));
        break;
    case 4:
        keep_future(s, bj_monitor_execute(m, "job-complete", "{\"id\": \"j\"}", BJ_TIMEOUT_NONE));
        break;
    case 5:
        keep_future(s, bj_monitor_commit(m, "drive0", NULL, BJ_TIMEOUT_NONE));
        break;
    case 6:
        watch_monitor(s);
        break;
    default:
        keep_future(s, bj_monitor_execute(m, "query-status", NULL, BJ_TIMEOUT_NONE));
        break;
    }
}

static void ask_job(struct scene *s, unsigned what, bj_job *job)
{
    switch (what) {
    case 0:
        keep_future(s, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
        break;
    case 1:
        keep_future(s, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
        break;
    case 2:
        keep_future(s, bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE));
        break;
    case 3:
        keep_future(s, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
        break;
    case 4:
        keep_future(s, bj_job_ready(job, BJ_TIMEOUT_NONE));
        break;
    case 5:
        keep_future(s, bj_job_query(job, BJ_TIMEOUT_NONE));
        break;
    case 6:
        keep_future(s, bj_job_pause(job, BJ_TIMEOUT_NONE));
        break;
    case 7:
        keep_future(s, bj_job_resume(job, BJ_TIMEOUT_NONE));
        break;
    case 8:
        keep_future(s, bj_job_finalize(job, BJ_TIMEOUT_NONE));
        break;
    case 9:
        keep_future(s, bj_job_dismiss(job, BJ_TIMEOUT_NONE));
        break;
    case 10:
        keep_future(s, bj_job_set_speed(job, 1, BJ_TIMEOUT_NONE));
        break;
    case 11:
        keep_future(s, bj_job_change(job, "{\"copy-mode\": \"background\"}", BJ_TIMEOUT_NONE));
        break;
    case 12:
        watch_job(s, job);
        break;
    default:
        bj_group_add(s->group, job);
        break;
    }
}

static void ask_group(struct scene *s, unsigned what)
{
    switch (what) {
    case 0:
        keep_future(s, bj_group_pivot(s->group, BJ_TIMEOUT_NONE));
        break;
    case 1:
        keep_future(s, bj_group_done(s->group, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));
        break;
    case 2:
        keep_future(s, bj_group_any(s->group, BJ_DONE_OVER, BJ_TIMEOUT_NONE));
        break;
    default:
        keep_future(s, bj_group_abort(s->group, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE));
        break;
    }
}

static void let_go(struct scene *s, unsigned which)
{
    if (s->future_count == 0)
        return;
    int i = (int)(which % (unsigned)s->future_count);
    bj_future_unref(s->futures[i]);
    s->futures[i] = s->futures[--s->future_count];
}

/* What the program does: the upper bits say to whom, the lower ones what. */
static void do_something(struct scene *s, uint8_t what)
{
    flush(s);
    if (what < 0x40 && s->monitor)
        ask_monitor(s, what % 8);
    else if (what < 0xc0 && what >= 0x40 && s->job_count > 0)
        ask_job(s, what % 14, s->jobs[(what >> 4) % s->job_count]);
    else if (what >= 0xc0 && what < 0xe0)
        ask_group(s, what % 4);
    else if (what >= 0xe0 && what < 0xf0)
        let_go(s, what);
    else if (what == 0xf0)
        read_watches(s);
    else if (what == 0xf1)
        bj_monitor_close(s->monitor);
    run(s);
}

static const char modern[] =
    "query-jobs query-block-jobs x-debug-query-block-graph blockdev-mirror "
    "blockdev-backup block-commit block-job-cancel block-job-set-speed "
    "block-job-change job-complete job-cancel job-pause job-resume "
    "job-finalize job-dismiss query-status";
static const char old[] = "query-block-jobs blockdev-mirror blockdev-backup block-commit "
                          "block-job-cancel block-job-complete block-job-pause block-job-resume";
static const char oldest[] = "query-block-jobs block_job_cancel block-commit query-status";

static void act_on(struct scene *s, uint8_t byte, struct input *input)
{
    switch (byte) {
    case 1: /* the id of the last command */
        say_words(s, s->ids_heard ? s->ids[(s->ids_heard - 1) % IDS] : "0");
        break;
    case 2: /* of the next one that was not answered */
        answer_next(s);
        break;
    case 3:
        say_words(s, s->job_id);
        break;
    case 4:
        flush(s);
        break;
    case 5:
        do_something(s, take_byte(input));
        break;
    case 6:
        negotiate(s, modern);
        break;
    case 7:
        negotiate(s, old);
        break;
    case 8:
        negotiate(s, oldest);
        break;
    case 11:
        hang_up(s);
        break;
    default: /* tabs and line ends too */
        say(s, (const char *)&byte, 1);
        break;
    }
}

/* ---------------------------------------------------------------------- scenes */

static void set_limits(bj_ctx *ctx)
{
    bj_ctx_set_limit(ctx, BJ_LIMIT_MESSAGE_BYTES, 4096);
    bj_ctx_set_limit(ctx, BJ_LIMIT_MESSAGE_TOKENS, 300);
    bj_ctx_set_limit(ctx, BJ_LIMIT_MESSAGE_NESTING, 20);
    bj_ctx_set_limit(ctx, BJ_LIMIT_IN_FLIGHT, 4);
    bj_ctx_set_limit(ctx, BJ_LIMIT_QUEUED, 8);
    bj_ctx_set_limit(ctx, BJ_LIMIT_JOBS, 4);
    bj_ctx_set_limit(ctx, BJ_LIMIT_WATCH_RING, 4);
    bj_ctx_set_limit(ctx, BJ_LIMIT_STALL_MS, 1000000);
    bj_ctx_set_limit(ctx, BJ_LIMIT_POLL_MS, 1000000);
}

static void begin(struct scene *s)
{
    int fds[2];
    char uri[24];

    if (!loop)
        loop = ev_loop_new(EVFLAG_NOENV | EVFLAG_NOSIGMASK);
    must(loop && bj_ctx_new_on_loop(loop, &s->ctx) == BJ_OK, "there is a context");
    must(bj_group_new(s->ctx, &s->group) == BJ_OK, "there is a group");
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "there are sockets");
    set_limits(s->ctx);
    snprintf(uri, sizeof uri, "fd:%d", fds[0]);
    keep_future(s, bj_monitor_connect(s->ctx, uri, BJ_TIMEOUT_NONE));
    close(fds[0]);
    s->server = fds[1];
    run(s);
}

static void end(struct scene *s)
{
    const bj_record *record = NULL;

    hang_up(s);
    must(bj_ctx_close(s->ctx) == BJ_OK, "a context can be closed");
    for (int i = 0; i < s->future_count; i++) {
        must(bj_future_is_done(s->futures[i]), "everyone is answered");
        must(bj_future_error(s->futures[i]) == BJ_OK || *bj_future_text(s->futures[i]),
             "an error has a sentence");
    }
    for (int i = 0; i < s->watch_count; i++) {
        bj_record_kind last = BJ_RECORD_EVENT;
        while (bj_watch_next(s->watches[i], 0, &record) == BJ_OK)
            last = record->kind;
        must(bj_watch_next(s->watches[i], 0, &record) == BJ_E_CLOSED, "a watch ends");
        must(last == BJ_RECORD_CLOSED || last == BJ_RECORD_EVENT, "with a record that says so");
    }
    check_outcomes(s);
    for (int i = 0; i < s->future_count; i++)
        bj_future_unref(s->futures[i]);
    for (int i = 0; i < s->watch_count; i++)
        bj_watch_unref(s->watches[i]);
    for (int i = 0; i < s->job_count; i++)
        bj_job_unref(s->jobs[i]);
    bj_group_unref(s->group);
    bj_monitor_unref(s->monitor);
    bj_ctx_unref(s->ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size < 4096 ? size : 4096};
    struct scene *s = calloc(1, sizeof *s);
    must(s != NULL, "there is memory");

    begin(s);
    while (input.left > 0) {
        uint8_t byte = take_byte(&input);
        act_on(s, byte, &input);
    }
    flush(s);
    end(s);
    free(s);
    return 0;
}
