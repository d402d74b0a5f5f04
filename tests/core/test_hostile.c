/* SPDX-License-Identifier: MIT */
/*
 * Servers that mean harm: each costs a connection, or not even that, and never more memory than the
 * limits allow. Everyone who waits is answered.
 */
#include "counts.h"
#include "heap.h"
#include "peer.h"
#include "records.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB (1024LL * 1024)
#define SAY(p, text) peer_send(p, text, sizeof(text) - 1) /* with the NULs in it */

/* What a connection, a few futures and a watch may cost besides what the peer sends. */
#define SMALL (1 * MIB)

/* ---------------------------------------------------------------------- attacks */

typedef struct attack {
    const char *bytes; /* said when the victim's commands have come, and before they are answered */
    size_t len;
    void (*say)(peer *p, const struct attack *attack); /* or this is done */
    int number;
    bool drips;               /* and all is said a byte at a time */
    unsigned long long above; /* no command had an id as high as this */
} attack;

/* The victim's first commands: its last is the mirror's. */
#define COMMANDS 6

struct kept_command {
    char name[64];
    char id[32];
    char arguments[512];
};

static bool hear_all(peer *p, struct kept_command *kept)
{
    peer_command command;
    for (int i = 0; i < COMMANDS; i++) {
        if (!peer_hear(p, &command))
            return false;
        snprintf(kept[i].name, sizeof(kept[i].name), "%s", command.name);
        snprintf(kept[i].id, sizeof(kept[i].id), "%s", command.id);
        snprintf(kept[i].arguments, sizeof(kept[i].arguments), "%s", command.arguments);
    }
    return true;
}

static void greet_and_attack(peer *p, void *user)
{
    attack *a = user;
    struct kept_command kept[COMMANDS];

    peer_drip(p, a->drips);
    if (!peer_greet(p, peer_modern) || !hear_all(p, kept))
        return;
    a->above = strtoull(kept[COMMANDS - 1].id, NULL, 10) + 1;
    if (a->say)
        a->say(p, a);
    else
        peer_send(p, a->bytes, a->len);

    for (int i = 0; i < COMMANDS; i++)
        peer_obey(p, &(peer_command){kept[i].name, kept[i].id, kept[i].arguments});
    peer_serve(p);
}

/* A client of such a peer, and those who wait there. */
typedef struct victim {
    peer *peer;
    bj_monitor *monitor;
    bj_future *connected;
    bj_future *closed;
    bj_future *waits[4];
    bj_watch *watch; /* which nobody reads */
    long long mark;
} victim;

#define WAITS (sizeof(((victim *)NULL)->waits) / sizeof(bj_future *))

static void victim_connect(world *w, victim *v, attack *a)
{
    *v = (victim){.mark = heap_mark()};
    v->peer = peer_start(greet_and_attack, a);
    v->connected = bj_monitor_connect(w->ctx, peer_uri(v->peer), BJ_TIMEOUT_NONE);
    peer_connected(v->peer);
    v->monitor = bj_future_monitor(answers(v->connected, BJ_OK));
    v->closed = bj_monitor_closed(v->monitor);
    v->waits[0] = bj_monitor_execute(v->monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
    v->waits[1] = bj_monitor_list(v->monitor, BJ_TIMEOUT_NONE);
    v->waits[2] = bj_monitor_attach(v->monitor, "nobody", BJ_TIMEOUT_NONE);
    v->waits[3] = bj_monitor_mirror(v->monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE);
}

static void victim_watch(victim *v)
{
    assert_int_equal(bj_monitor_watch(v->monitor, &v->watch), BJ_OK);
}

static void victim_end(victim *v)
{
    bj_monitor_close(v->monitor);
    for (size_t i = 0; i < WAITS; i++) {
        assert_int_equal(bj_future_wait(v->waits[i], BJ_TIMEOUT_NONE), BJ_OK);
        bj_future_unref(v->waits[i]);
    }
    assert_int_equal(bj_future_wait(v->closed, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future_unref(v->closed);
    bj_watch_unref(v->watch);
    bj_future_unref(v->connected);
    bj_monitor_unref(v->monitor);
    peer_end(v->peer);
}

static void costs_at_most(const victim *v, long long most)
{
    long long cost = heap_peak_since(v->mark);
    if (getenv("SHOW_COSTS"))
        print_message("    %.2f MiB of %.0f\n", (double)cost / MIB, (double)most / MIB);
    if (cost > most)
        fail_msg("%lld bytes, more than %lld", cost, most);
}

static void is_over(bj_future *future, int error)
{
    answers(future, error);
    assert_true(*bj_future_text(future));
    assert_true(strlen(bj_future_text(future)) < 4096);
}

/* The connection ends with that error, and so does all that waits on it. */
static void kills(world *w, attack *a, int error, long long most)
{
    victim v;
    victim_connect(w, &v, a);
    is_over(v.closed, error);
    for (size_t i = 0; i < WAITS; i++) {
        assert_int_equal(bj_future_wait(v.waits[i], BJ_TIMEOUT_NONE), BJ_OK);
        assert_int_not_equal(bj_future_error(v.waits[i]), BJ_OK);
        assert_true(*bj_future_text(v.waits[i]));
    }
    victim_end(&v);
    costs_at_most(&v, most);
}

/* The connection goes on, and a job on it is what it is. */
static void is_survived(victim *v, long long most)
{
    answers(v->waits[0], BJ_OK);
    answers(v->waits[1], BJ_OK);
    answers(v->waits[2], BJ_E_NO_JOB);
    bj_job *job = bj_future_job(answers(v->waits[3], BJ_OK));
    bj_future *pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
    ends(pivoted, BJ_OK, BJ_OUTCOME_PIVOTED);
    bj_future_unref(pivoted);
    bj_job_unref(job);
    victim_end(v);
    costs_at_most(v, most);
}

static void hurts_not(world *w, attack *a, long long most)
{
    victim v;
    victim_connect(w, &v, a);
    is_survived(&v, most);
}

static void hurts_not_who_watches(world *w, attack *a, long long most)
{
    victim v;
    victim_connect(w, &v, a);
    victim_watch(&v);
    is_survived(&v, most);
}

/* A sanitizer, or valgrind, counts for itself and takes its time. */
static int many(int count)
{
    return count_heap() == 0 ? count / 20 : count;
}

/* Says it over and over, in blocks, until `total` bytes are said or the other side hangs up. */
static bool say_over(peer *p, const char *begin, const char *again, long long total)
{
    char block[65536];
    size_t len = strlen(again), filled = 0;
    while (filled + len <= sizeof(block)) {
        memcpy(block + filled, again, len);
        filled += len;
    }
    if (!peer_say(p, begin))
        return false;
    for (long long said = 0; said < total; said += (long long)filled)
        if (!peer_send(p, block, filled))
            return false;
    return true;
}

/* -------------------------------------------------------------- what is no QMP */

static void b56_what_is_no_json_at_all(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } garbage[] = {
#define BYTES(text) {text, sizeof(text) - 1}
        BYTES("garbage\n"),
        BYTES("}\n"),
        BYTES("[]\n"),
        BYTES("[{\"event\": \"STOP\"}]\n"),
        BYTES("\0"),
        BYTES("{\"return\": \0{}}"),
        BYTES("{\"event\": \"ST\0OP\"}"),
        BYTES("\xef\xbb\xbf{\"event\": \"STOP\"}\r\n"), /* a byte order mark */
        BYTES("\xff\xfe{\0\"\0e\0"),                    /* UTF-16 */
        BYTES("{\"event\": \"\xff\xfe\"}\r\n"),
        BYTES("{\"event\": \"\xc0\xaf\"}\r\n"), /* longer than it need be */
        BYTES("{\"event\": \"\xed\xa0\x80\"}\r\n"),
        BYTES("{\"event\": \"\\ud800\"}\r\n"), /* half a pair */
        BYTES("{\"event\": \"\\udc00\\ud800\"}\r\n"),
        BYTES("{\"event\": \"a\nb\"}\r\n"),
        BYTES("{\"event\": \"STOP\"]\r\n"),
        BYTES("{\"event\": \"STOP\",}\r\n"),
        BYTES("{\"event\" \"STOP\"}\r\n"),
        BYTES("{event: STOP}\r\n"),
        BYTES("{'event': 'STOP'}\r\n"),
        BYTES("{\"return\": nul}\r\n"),
        BYTES("{\"return\": 01}\r\n"),
        BYTES("{\"return\": 1e}\r\n"),
        BYTES("{\"return\": 99999999999999999999x}\r\n"),
        BYTES("{\"return\": +1}\r\n"),
        BYTES("{\"return\": NaN}\r\n"),
        BYTES("{}\r\n"),
        BYTES("{\"surprise\": 1}\r\n"),
        BYTES("{\"event\": 5}\r\n"),
        BYTES("{\"event\": null}\r\n"),
        BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"),
        BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), /* TLS */
        BYTES("SSH-2.0-OpenSSH_9.2\r\n"),
        BYTES("\x1f\x8b\x08\x00\x00\x00\x00\x00"), /* gzip */
#undef BYTES
    };
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
        kills(*state, &(attack){.bytes = garbage[i].bytes, .len = garbage[i].len}, BJ_E_PROTOCOL,
              SMALL);
}

static void say_noise(peer *p, const attack *a)
{
    uint64_t dice = 0x9e3779b97f4a7c15u + (uint64_t)a->number;
    char block[4096];
    do {
        for (size_t i = 0; i < sizeof(block); i++) {
            dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
            block[i] = (char)(dice >> 32);
        }
        /* Some of it begins as a message does. */
        block[0] = a->number % 2 ? '{' : block[0];
    } while (peer_send(p, block, sizeof(block)));
}

static void b56_noise(void **state)
{
    for (int number = 0; number < 20; number++)
        kills(*state, &(attack){.say = say_noise, .number = number}, BJ_E_PROTOCOL,
              SMALL + 40 * MIB);
}

/* ------------------------------------------------------------------- the limits */

static void say_endlessly(peer *p, const attack *a)
{
    static const struct {
        const char *begin, *again;
    } floods[] = {
        {"{\"event\": \"", "xxxxxxxxxxxxxxxx"},
        {"{\"event\": \"", "\\\\\\\"\\u0041"},
        {"{\"event\": ", "                "},
        {"{\"return\": ", "1111111111111111"},
        {"{\"return\": ", "trueabcdefghijkl"},
        {"{\"return\": [", "{},{},{},{},"},
        {"{\"return\": [", "[],[],[],[],"},
        {"{\"return\": [", "\"\",\"\",\"\",\"\","},
        {"{\"return\": [", "1,2,3,4,5,6,7,8,"},
        {"{\"return\": {", "\"a\":1,\"a\":2,"},
        {"{\"return\": ", "[[[[[[[["},
        {"{\"return\": ", "{\"a\":{\"a\":{\"a\":"},
        {"", "{\"return\": "},
    };
    say_over(p, floods[a->number].begin, floods[a->number].again, 64 * MIB);
}

static void b56_messages_that_never_end(void **state)
{
    for (int number = 0; number < 13; number += many(20) == 20 ? 1 : 4)
        kills(*state, &(attack){.say = say_endlessly, .number = number}, BJ_E_PROTOCOL,
              SMALL + 2 * 16 * MIB);
}

/* As large as they may be: that costs what jansson needs for so many values, once. */
static void say_the_utmost(peer *p, const attack *a)
{
    static const char *const values[] = {"{}", "[]", "\"\"", "1", "null", "0.5", "1e999"};
    enum { COUNT = 1024 * 1024 - 8 };
    const char *value = values[a->number];
    char block[16 * 4096];
    size_t len = 0;
    for (int i = 0; i < 4096; i++)
        len += (size_t)sprintf(block + len, "%s,", value);

    if (!peer_say(p, "{\"event\": \"X\", \"data\": ["))
        return;
    int said = 0;
    for (; said + 4096 < COUNT; said += 4096)
        if (!peer_send(p, block, len))
            return;
    while (++said < COUNT)
        if (!peer_tell(p, "%s,", value))
            return;
    peer_tell(p, "%s]}\r\n", value);
}

static void b54_messages_as_large_as_the_limits(void **state)
{
    for (int number = many(20) == 20 ? 0 : 6; number < 7; number++)
        hurts_not(*state, &(attack){.say = say_the_utmost, .number = number}, 300 * MIB);
}

static void say_whitespace(peer *p, const attack *a)
{
    (void)a;
    say_over(p, "", " \t\r\n", 64 * MIB);
}

static void b56_nothing_at_all_for_ever(void **state)
{
    hurts_not(*state, &(attack){.say = say_whitespace}, SMALL);
}

/* ------------------------------------------------------------------------ floods */

/* Everything is told many times, with a number in it. */
typedef struct flood {
    const char *format;
    int count;
} flood;

/* Each of `count` texts has its number in it, three times at most. In blocks: one by one it would
 * be the kernel that is measured. */
static bool say_numbered(peer *p, const char *format, int count)
{
    static _Thread_local char block[65536];
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        if (len > sizeof(block) - 4096) {
            if (!peer_send(p, block, len))
                return false;
            len = 0;
        }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        /* cppcheck-suppress wrongPrintfScanfArgNum ; as many as are needed are taken */
        len += (size_t)snprintf(block + len, 4096, format, i, i, i);
#pragma GCC diagnostic pop
    }
    return peer_send(p, block, len);
}

#define STATUS_EVENT(status)                                                                       \
    "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"" status                          \
    "\", \"id\": \"j%d\"}}\r\n"
#define BLOCK_EVENT(name)                                                                          \
    "{\"event\": \"BLOCK_JOB_" name "\", \"data\": {\"device\": \"b%d\", \"type\": \"mirror\"}}\r\n"

static void say_events(peer *p, const attack *a)
{
    static const flood floods[] = {
        {"{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": %d}}\r\n", 100000},
        {"{\"event\": \"E%d\"}\r\n", 100000},
        {STATUS_EVENT("created"), 20000},
        {STATUS_EVENT("running"), 20000},
        {STATUS_EVENT("concluded"), 20000},
        {STATUS_EVENT("null"), 20000},
        {STATUS_EVENT("created") STATUS_EVENT("null"), 20000},
        {BLOCK_EVENT("READY"), 20000},
        {BLOCK_EVENT("COMPLETED"), 20000},
        {BLOCK_EVENT("READY") BLOCK_EVENT("COMPLETED"), 20000},
        {BLOCK_EVENT("CANCELLED"), 20000},
        {BLOCK_EVENT("ERROR"), 20000},
        {BLOCK_EVENT("PENDING"), 20000},
        {STATUS_EVENT("created") STATUS_EVENT("concluded") STATUS_EVENT("null"), 50000},
    };
    say_numbered(p, floods[a->number].format, many(floods[a->number].count));
}
#define FLOODS 14

/* 4,096 runs, with what each may have asked. */
#define MANY_JOBS (16 * MIB)

static void b56_floods_of_events(void **state)
{
    for (int number = 0; number < FLOODS; number++)
        hurts_not_who_watches(*state, &(attack){.say = say_events, .number = number},
                              SMALL + MANY_JOBS);
}

/* One job whose statuses, stalls and ends never stop, with a watch on it that nobody reads. */
static void say_much_of_one_job(peer *p, const attack *a)
{
    static const flood floods[] = {
        {"{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"created\", \"id\": \"j\"}}\r\n",
         50000},
        {"{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\", \"id\": \"j\"}}\r\n"
         "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"standby\", \"id\": \"j\"}}\r\n",
         50000},
        {"{\"event\": \"BLOCK_JOB_ERROR\", \"data\": {\"device\": \"j\", \"action\": \"stop\"}}\r\n"
         "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"running\", \"id\": \"j\"}}\r\n",
         50000},
        {"{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"j\", \"error\": \"%d\"}}\r\n",
         50000},
        {"{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"running\", \"id\": \"j\"}}\r\n"
         "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"null\", \"id\": \"j\"}}\r\n",
         50000},
    };
    say_numbered(p, floods[a->number].format, many(floods[a->number].count));
}

static void b56_one_job_told_of_for_ever(void **state)
{
    for (int number = 0; number < 5; number++)
        hurts_not_who_watches(*state, &(attack){.say = say_much_of_one_job, .number = number},
                              SMALL);
}

/* A watch keeps as many bytes as a message may have, however large the events are. */
static void say_large_events(peer *p, const attack *a)
{
    (void)a;
    for (int i = 0; i < 40; i++)
        if (!say_over(p, "{\"event\": \"LARGE\", \"data\": {\"x\": \"", "xxxxxxxxxxxxxxxx", MIB) ||
            !peer_say(p, "\"}}\r\n"))
            return;
}

static void b61_large_events_that_nobody_reads(void **state)
{
    hurts_not_who_watches(*state, &(attack){.say = say_large_events}, SMALL + 16 * MIB + 8 * MIB);
}

/* ---------------------------------------------------------------- absurd types */

static const char *const absurd[] = {
    "null",
    "true",
    "0",
    "-1",
    "5",
    "0.5",
    "1e999",
    "-1e999",
    "9223372036854775807",
    "9223372036854775808",
    "-99999999999999999999999999",
    "\"\"",
    "\"\\u0000\"",
    "\"null\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[\"j\"]",
    "{\"id\": \"j\", \"device\": \"j\"}",
    "[[[[[[[[[[]]]]]]]]]]",
};
#define ABSURD (sizeof(absurd) / sizeof(absurd[0]))

/* A member, and what it is when nothing is absurd. */
typedef struct member {
    const char *key;
    const char *value;
} member;

/* An object in which one member is that value, comes twice, or is not there. Returns its length. */
static size_t write_object(char *text, size_t size, const member *members, size_t count,
                           size_t which, const char *value)
{
    size_t len = (size_t)snprintf(text, size, "{");
    for (size_t i = 0; i < count; i++) {
        const char *separator = len > 1 ? ", " : "";
        bool is_it = i == which;
        if (is_it && !value)
            continue;
        len += (size_t)snprintf(text + len, size - len, "%s\"%s\": %s", separator, members[i].key,
                                is_it ? value : members[i].value);
    }
    return len + (size_t)snprintf(text + len, size - len, "}");
}

static bool say_event(peer *p, const char *name, const char *data, const char *timestamp)
{
    return peer_tell(p, "{\"event\": %s, \"data\": %s, \"timestamp\": %s}\r\n", name, data,
                     timestamp);
}

static const char *const job_events[] = {
    "\"JOB_STATUS_CHANGE\"",   "\"BLOCK_JOB_READY\"",    "\"BLOCK_JOB_COMPLETED\"",
    "\"BLOCK_JOB_CANCELLED\"", "\"BLOCK_JOB_ERROR\"",    "\"BLOCK_JOB_PENDING\"",
    "\"BLOCK_JOB_SURPRISE\"",  "\"JOB_STATUS_CHANGE \"",
};

static void say_absurd_events(peer *p, const attack *a)
{
    static const member data[] = {
        {"id", "\"j\""},         {"device", "\"j\""},
        {"status", "\"ready\""}, {"type", "\"mirror\""},
        {"error", "\"failed\""}, {"len", "7"},
        {"offset", "7"},         {"speed", "0"},
        {"action", "\"stop\""},  {"operation", "\"write\""},
    };
    static const member time[] = {{"seconds", "1"}, {"microseconds", "2"}};
    static const char usual_time[] = "{\"seconds\": 1, \"microseconds\": 2}";
    enum { DATA = sizeof(data) / sizeof(data[0]) };
    char usual_data[1024], text[1024];
    (void)a;

    write_object(usual_data, sizeof(usual_data), data, DATA, DATA, NULL);
    for (size_t e = 0; e < sizeof(job_events) / sizeof(job_events[0]); e++) {
        const char *event = job_events[e];
        for (size_t v = 0; v <= ABSURD; v++) {
            const char *value = v < ABSURD ? absurd[v] : NULL;
            for (size_t i = 0; i < DATA; i++) {
                write_object(text, sizeof(text), data, DATA, i, value);
                say_event(p, event, text, usual_time);
            }
            for (size_t i = 0; i < 2; i++) {
                write_object(text, sizeof(text), time, 2, i, value);
                say_event(p, event, usual_data, text);
            }
            if (value) {
                say_event(p, event, value, usual_time);
                say_event(p, event, usual_data, value);
            }
        }
        peer_tell(p, "{\"event\": %s}\r\n", event);
    }
}

static void b50_events_of_absurd_types(void **state)
{
    hurts_not(*state, &(attack){.say = say_absurd_events}, SMALL);
    hurts_not_who_watches(*state, &(attack){.say = say_absurd_events}, SMALL);
}

/* -------------------------------------------------------------- absurd replies */

/* What is answered to queries: rows as they should not be, one after the other. */
typedef struct replies {
    size_t next;
    size_t count;
} replies;

static const member row_members[] = {
    {"id", "\"j\""},
    {"device", "\"j\""},
    {"type", "\"mirror\""},
    {"status", "\"running\""},
    {"error", "\"failed\""},
    {"io-status", "\"ok\""},
    {"offset", "7"},
    {"len", "9"},
    {"current-progress", "7"},
    {"total-progress", "9"},
    {"speed", "0"},
    {"ready", "true"},
    {"paused", "false"},
    {"auto-dismiss", "true"},
    {"auto-finalize", "true"},
};
#define ROW_MEMBERS (sizeof(row_members) / sizeof(row_members[0]))
#define ROWS (ROW_MEMBERS * (ABSURD + 1))

/* The row of that number; after those, what is no row, and what is no list. */
static void write_rows(char *text, size_t size, size_t number)
{
    if (number < ROWS) {
        char row[1024];
        size_t v = number % (ABSURD + 1);
        write_object(row, sizeof(row), row_members, ROW_MEMBERS, number / (ABSURD + 1),
                     v < ABSURD ? absurd[v] : NULL);
        snprintf(text, size, "[%s, %s]", row, row);
    } else if (number < ROWS + ABSURD) {
        snprintf(text, size, "[%s]", absurd[number - ROWS]);
    } else {
        snprintf(text, size, "%s", absurd[(number - ROWS) % ABSURD]);
    }
}
#define LISTS (ROWS + 2 * ABSURD)

static void play_absurd_rows(peer *p, void *user)
{
    (void)user;
    peer_command command;
    char rows[4096];
    size_t queries = 0;

    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "query-jobs") != 0 &&
            strcmp(command.name, "query-block-jobs") != 0) {
            going = peer_obey(p, &command);
            continue;
        }
        write_rows(rows, sizeof(rows), queries++ / 2);
        going = peer_answer(p, &command, rows);
    }
}

/* BJ_OK, or the error that is allowed. */
static bool is_ok_or(bj_future *future, int error)
{
    assert_int_equal(bj_future_wait(future, BJ_TIMEOUT_NONE), BJ_OK);
    if (bj_future_error(future) != BJ_OK)
        answers(future, error);
    return bj_future_error(future) == BJ_OK;
}

static void look_at_rows(bj_future *list)
{
    size_t letters = 0;
    for (size_t i = 0; i < bj_future_info_count(list); i++) {
        const bj_job_info *row = bj_future_info(list, i);
        letters += strlen(row->id) + strlen(row->type) + strlen(row->status) + strlen(row->error) +
                   strlen(row->io_status);
    }
    assert_true(letters < 10000);
}

static void b49_rows_of_absurd_types(void **state)
{
    peer *p;
    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(*state, play_absurd_rows, NULL, &p);
    for (size_t i = 0; i < (size_t)many((int)LISTS); i++) {
        bj_future *list = bj_monitor_list(monitor, BJ_TIMEOUT_NONE);
        if (is_ok_or(list, BJ_E_PROTOCOL))
            look_at_rows(list);
        bj_future_unref(list);
    }
    part_from_peer(monitor, p);

    /* The same, asked by those who attach: the row is about their job, or there is none. */
    monitor = meet_peer(*state, play_absurd_rows, NULL, &p);
    for (size_t i = 0; i < (size_t)many((int)LISTS); i++) {
        bj_future *attached = bj_monitor_attach(monitor, "j", BJ_TIMEOUT_NONE);
        assert_int_equal(bj_future_wait(attached, BJ_TIMEOUT_NONE), BJ_OK);
        int error = bj_future_error(attached);
        assert_true(error == BJ_OK || error == BJ_E_NO_JOB || error == BJ_E_PROTOCOL);
        bj_future_unref(attached);
    }
    part_from_peer(monitor, p);
    assert_true(heap_peak_since(mark) < SMALL);
}

/* The block graph, first as it should be, then absurd; or absurd from the beginning. */
#define GRAPH(node, edge)                                                                          \
    "{\"nodes\": [{\"id\": 1, \"type\": \"block-job\", \"name\": \"%s\"}, "                        \
    "{\"id\": 2, \"type\": \"block-driver\", \"name\": \"filter\"}, "                              \
    "{\"id\": 3, \"type\": \"block-driver\", \"name\": \"source\"}, "                              \
    "{\"id\": 4, \"type\": \"block-driver\", \"name\": \"target\"}, "                              \
    "{\"id\": 5, \"type\": \"block-backend\", \"name\": \"disk\"}" node "], "                      \
    "\"edges\": [{\"name\": \"main node\", \"parent\": 1, \"child\": 2}, "                         \
    "{\"name\": \"source\", \"parent\": 1, \"child\": 3}, "                                        \
    "{\"name\": \"target\", \"parent\": 1, \"child\": 4}, "                                        \
    "{\"name\": \"root\", \"parent\": 5, \"child\": 2}" edge "]}"

static void write_graph(char *text, size_t size, const char *id, size_t number)
{
    const char *value = absurd[number % ABSURD];
    switch (number / ABSURD) {
    case 0:
        snprintf(text, size, "%s", value);
        break;
    case 1:
        snprintf(text, size, "{\"nodes\": %s, \"edges\": %s}", value, value);
        break;
    case 2:
        snprintf(text, size, GRAPH(", %s", ", %s"), id, value, value);
        break;
    case 3:
        snprintf(text, size, GRAPH(", {\"id\": %s, \"type\": %s, \"name\": %s}", ""), id, value,
                 value, value);
        break;
    case 4:
        snprintf(text, size, GRAPH("", ", {\"name\": %s, \"parent\": %s, \"child\": %s}"), id,
                 value, value, value);
        break;
    default:
        snprintf(text, size, GRAPH("", ", {\"name\": \"root\", \"parent\": 5, \"child\": %s}"), id,
                 value);
        break;
    }
}
#define GRAPHS (6 * ABSURD)

/* A mirror that another client completes: the library looks at the graph when it begins and when it
 * has ended. The device's name says how the graphs are to be. */
static void play_graphs(peer *p, void *user)
{
    (void)user;
    peer_command command;
    char id[64] = "", text[4096];
    size_t number = 0;
    bool good = false, going = peer_greet(p, peer_modern);

    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "blockdev-mirror") == 0) {
            snprintf(id, sizeof(id), "%s", peer_argument(p, &command, "job-id"));
            number = strtoul(peer_argument(p, &command, "device"), NULL, 10);
            good = number >= GRAPHS;
        }
        if (strcmp(command.name, "x-debug-query-block-graph") != 0) {
            going = peer_obey(p, &command);
            continue;
        }
        if (good)
            snprintf(text, sizeof(text), GRAPH("", ""), id);
        else
            write_graph(text, sizeof(text), id, number % GRAPHS);
        good = false;
        going =
            peer_answer(p, &command, text) &&
            peer_tell(p,
                      "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"%s\"}}\r\n"
                      "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"concluded\", "
                      "\"id\": \"%s\"}}\r\n",
                      id, id);
    }
}

static void b15_graphs_of_absurd_types(void **state)
{
    peer *p;
    bj_monitor *monitor = meet_peer(*state, play_graphs, NULL, &p);
    for (size_t i = 0; i < (size_t)many((int)(2 * GRAPHS)); i++) {
        char device[32];
        snprintf(device, sizeof(device), "%zu", i);
        bj_future *started =
            bj_monitor_mirror(monitor, device, "copy", "full", NULL, BJ_TIMEOUT_NONE);
        bj_job *job = bj_future_job(answers(started, BJ_OK));
        bj_future *done = bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE);
        answers(done, BJ_OK);
        assert_true(bj_future_outcome(done) == BJ_OUTCOME_COMPLETED ||
                    bj_future_outcome(done) == BJ_OUTCOME_COPIED ||
                    bj_future_outcome(done) == BJ_OUTCOME_PIVOTED);
        bj_future_unref(done);
        bj_future_unref(started);
        bj_job_unref(job);
    }
    part_from_peer(monitor, p);
}

/* --------------------------------------------------------------- replies gone wrong */

static void say_replies_for_nobody(peer *p, const attack *a)
{
    for (size_t v = 0; v < ABSURD; v++)
        peer_tell(
            p,
            "{\"return\": {}, \"id\": %s}\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"\"}, "
            "\"id\": %s}\r\n",
            absurd[v], absurd[v]);
    for (int i = 0; i < 1000; i++) /* before the command */
        peer_tell(p, "{\"return\": {}, \"id\": %llu}\r\n", a->above + (unsigned)i);
    peer_say(p, "{\"return\": {}, \"event\": \"STOP\", \"error\": {}, \"QMP\": {}}\r\n"
                "{\"return\": {}}\r\n{\"QMP\": {}}\r\n{\"QMP\": null, \"id\": 1}\r\n"
                "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 1}}, \"capabilities\": []}}\r\n");
}

static void b48_replies_for_nobody(void **state)
{
    hurts_not(*state, &(attack){.say = say_replies_for_nobody}, SMALL);
}

static void play_everything_twice(peer *p, void *user)
{
    (void)user;
    peer_command command;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command))
        going =
            peer_answer(p, &command, "[]") && peer_answer(p, &command, "[1]") &&
            peer_tell(
                p, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": %s}\r\n",
                command.id);
}

static void b56_replies_twice(void **state)
{
    peer *p;
    bj_monitor *monitor = meet_peer(*state, play_everything_twice, NULL, &p);
    for (int i = 0; i < 100; i++) {
        bj_future *told = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
        assert_string_equal(bj_future_json(answers(told, BJ_OK)), "[]");
        bj_future_unref(told);
    }
    part_from_peer(monitor, p);
}

static void play_errors_of_absurd_types(peer *p, void *user)
{
    (void)user;
    peer_command command;
    bool going = peer_greet(p, peer_modern);
    for (size_t i = 0; going && peer_hear(p, &command); i++) {
        const char *value = absurd[i % ABSURD];
        switch (i / ABSURD) {
        case 0:
            going = peer_tell(p, "{\"error\": %s, \"id\": %s}\r\n", value, command.id);
            break;
        case 1:
            going = peer_tell(p, "{\"error\": {\"class\": %s, \"desc\": %s}, \"id\": %s}\r\n",
                              value, value, command.id);
            break;
        case 2:
            going = peer_tell(p, "{\"error\": %s}\r\n", value); /* without an id (B59) */
            break;
        default:
            going = peer_tell(p, "{\"id\": %s, \"return\": %s}\r\n", command.id, value);
            break;
        }
    }
}

static void b56_errors_of_absurd_types(void **state)
{
    peer *p;
    bj_monitor *monitor = meet_peer(*state, play_errors_of_absurd_types, NULL, &p);
    for (size_t i = 0; i < 4 * ABSURD; i++) {
        bj_future *told = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
        answers(told, i < 3 * ABSURD ? BJ_E_REFUSED : BJ_OK);
        if (i >= 3 * ABSURD)
            assert_string_equal(bj_future_json(told), absurd[i % ABSURD]); /* B55 */
        bj_future_unref(told);
    }
    part_from_peer(monitor, p);
}

/* Errors as large as a message may be: a job keeps a sentence of it. */
static void play_huge_errors(peer *p, void *user)
{
    (void)user;
    peer_command command;
    if (!peer_greet(p, peer_modern))
        return;
    while (peer_hear(p, &command)) {
        bool is_start = strcmp(command.name, "blockdev-mirror") == 0;
        bool is_refused = strcmp(command.name, "query-status") == 0;
        if (!is_refused && !peer_obey(p, &command))
            return;
        if (is_start &&
            (!peer_tell(p, "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"%s\", ",
                        peer_argument(p, &command, "job-id")) ||
             !say_over(p, "\"error\": \"", "No space left. ", many(20) * MIB * 3 / 4) ||
             !peer_say(p, "\"}}\r\n")))
            return;
        if (is_refused &&
            (!peer_tell(p, "{\"id\": %s, \"error\": {\"class\": \"GenericError\", ", command.id) ||
             !say_over(p, "\"desc\": \"", "Not so. ", many(20) * MIB * 3 / 4) ||
             !peer_say(p, "\"}}\r\n")))
            return;
    }
}

static void b56_huge_errors(void **state)
{
    peer *p;
    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(*state, play_huge_errors, NULL, &p);
    bj_future *refused = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
    answers(refused, BJ_E_REFUSED);
    bj_future_unref(refused);

    bj_future *started =
        bj_monitor_mirror(monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE);
    bj_job *job = bj_future_job(answers(started, BJ_OK));
    bj_future *done = bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    ends(done, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    assert_memory_equal(bj_job_text(job), "No space left. ", 15);
    assert_true(strlen(bj_job_text(job)) <= 4096);
    bj_future_unref(done);
    bj_future_unref(started);
    bj_job_unref(job);
    part_from_peer(monitor, p);
    assert_true(heap_peak_since(mark) < SMALL + 5 * 16 * MIB);
}

/* 100,000 rows. */
static void play_long_lists(peer *p, void *user)
{
    (void)user;
    peer_command command;
    if (!peer_greet(p, peer_modern))
        return;
    while (peer_hear(p, &command)) {
        if (!peer_say(p, "{\"return\": ["))
            return;
        if (!say_numbered(p, "{\"id\": \"j%d\", \"device\": \"j%d\", \"status\": \"running\"}, ",
                          100000) ||
            !peer_tell(p, "{}], \"id\": %s}\r\n", command.id))
            return;
    }
}

static void b56_lists_without_an_end(void **state)
{
    peer *p;
    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(*state, play_long_lists, NULL, &p);
    bj_future *list = bj_monitor_list(monitor, BJ_TIMEOUT_NONE);
    assert_int_equal(bj_future_info_count(answers(list, BJ_OK)), 4096);
    bj_future_unref(list);
    part_from_peer(monitor, p);
    assert_true(heap_peak_since(mark) < 300 * MIB);
}

/* ------------------------------------------------------------------ negotiations */

/* What is said instead of the greeting, or of a reply in the negotiation. */
typedef struct negotiation {
    const char *greeting;
    size_t len;           /* of it */
    const char *accepted; /* the reply to qmp_capabilities, without its id */
    const char *commands; /* and to query-commands */
} negotiation;

static void play_negotiation(peer *p, void *user)
{
    const negotiation *n = user;
    peer_command command;
    if (n->greeting ? !peer_send(p, n->greeting, n->len)
                    : !peer_say(p, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"))
        return;
    const char *accepted = n->accepted ? n->accepted : "\"return\": {}";
    if (n->greeting || !peer_hear(p, &command) ||
        !peer_tell(p, "{%s, \"id\": %s}\r\n", accepted, command.id)) {
        peer_hang_up(p);
        return;
    }
    if (peer_hear(p, &command))
        peer_tell(p, "{%s, \"id\": %s}\r\n", n->commands, command.id);
    peer_serve(p);
}

/* Answers how that connecting ended. */
static int negotiate(world *w, negotiation *n)
{
    peer *p = peer_start(play_negotiation, n);
    bj_future *connected = bj_monitor_connect(w->ctx, peer_uri(p), BJ_TIMEOUT_NONE);
    peer_connected(p);
    assert_int_equal(bj_future_wait(connected, BJ_TIMEOUT_NONE), BJ_OK);
    int error = bj_future_error(connected);
    assert_true(error == BJ_OK || *bj_future_text(connected));
    bj_monitor *monitor = bj_future_monitor(connected);
    bj_future_unref(connected);
    bj_monitor_unref(monitor);
    peer_end(p);
    return error;
}

static void b56_half_a_greeting(void **state)
{
    static const char greeting[] =
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "
        "\"major\": 7}}, \"capabilities\": [\"oob\"]}}";
    for (size_t len = 0; len < sizeof(greeting) - 1; len++)
        assert_int_equal(negotiate(*state, &(negotiation){.greeting = greeting, .len = len}),
                         BJ_E_DISCONNECTED);
}

static void b56_greetings_of_absurd_types(void **state)
{
    for (size_t v = 0; v < ABSURD; v++) {
        static const char *const forms[] = {
            "{\"QMP\": %s}",
            "{\"QMP\": {\"version\": %s}}",
            "{\"QMP\": {\"version\": {\"qemu\": %s}}}",
            "{\"QMP\": {\"version\": {\"qemu\": {\"major\": %s, \"minor\": 1, \"micro\": 2}}}}",
        };
        for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
            char text[1024];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            int len = snprintf(text, sizeof(text), forms[f], absurd[v]);
#pragma GCC diagnostic pop
            assert_int_equal(
                negotiate(*state, &(negotiation){.greeting = text, .len = (size_t)len}),
                BJ_E_DISCONNECTED); /* by then it was a greeting */
        }
    }
}

static void b56_negotiations_of_absurd_types(void **state)
{
    for (size_t v = 0; v < ABSURD; v++) {
        char accepted[256], commands[256];
        snprintf(accepted, sizeof(accepted), "\"error\": %s", absurd[v]);
        assert_int_equal(negotiate(*state, &(negotiation){.accepted = accepted}), BJ_E_PROTOCOL);

        /* Without commands it is of little use, but it is a QEMU. */
        snprintf(commands, sizeof(commands), "\"return\": %s", absurd[v]);
        assert_int_equal(negotiate(*state, &(negotiation){.commands = commands}), BJ_OK);
        snprintf(commands, sizeof(commands), "\"return\": [%s, {\"name\": %s}]", absurd[v],
                 absurd[v]);
        assert_int_equal(negotiate(*state, &(negotiation){.commands = commands}), BJ_OK);
    }
}

/* ------------------------------------------------------------------ slow and silent */

static void b56_a_byte_at_a_time(void **state)
{
    hurts_not(*state, &(attack){.bytes = "", .drips = true}, SMALL);
}

/* A gate that a peer waits at, and a test opens. */
typedef struct gate {
    int fds[2];
} gate;

static void gate_make(gate *g)
{
    assert_int_equal(pipe(g->fds), 0);
}

static void gate_open(gate *g)
{
    close(g->fds[1]);
}

static void gate_pass(gate *g)
{
    char byte;
    while (read(g->fds[0], &byte, 1) > 0)
        continue;
    close(g->fds[0]);
}

static void play_greeting_that_never_ends(peer *p, void *user)
{
    peer_drip(p, true);
    peer_say(p, "{\"QMP\": {\"version\": ");
    gate_pass(user);
}

static void b47_a_greeting_that_never_ends(void **state)
{
    world *w = *state;
    gate g;
    gate_make(&g);
    peer *p = peer_start(play_greeting_that_never_ends, &g);
    bj_future *connected = bj_monitor_connect(w->ctx, peer_uri(p), 100);
    peer_connected(p);
    answers(connected, BJ_E_TIMEOUT);
    names(connected, "no greeting");
    bj_future_unref(connected);
    gate_open(&g);
    peer_end(p);
}

static void play_deaf(peer *p, void *user)
{
    peer_greet(p, peer_modern);
    gate_pass(user); /* reads nothing until then */
}

static void b56_a_peer_that_never_reads(void **state)
{
    enum { COMMANDS_ASKED = 3000, MOST = 64 + 1024 };
    world *w = *state;
    peer *p;
    gate g;
    gate_make(&g);
    static bj_future *futures[COMMANDS_ASKED];
    static char arguments[4096];
    snprintf(arguments, sizeof(arguments), "{\"x\": \"%4000d\"}", 0);

    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(w, play_deaf, &g, &p);
    for (int i = 0; i < COMMANDS_ASKED; i++)
        futures[i] = bj_monitor_execute(monitor, "query-status", arguments, BJ_TIMEOUT_NONE);
    answers(futures[COMMANDS_ASKED - 1], BJ_E_BUSY);
    names(futures[COMMANDS_ASKED - 1], "limit");
    assert_int_equal(bj_monitor_close(monitor), BJ_OK);

    int busy = 0;
    for (int i = 0; i < COMMANDS_ASKED; i++) {
        assert_int_equal(bj_future_wait(futures[i], BJ_TIMEOUT_NONE), BJ_OK);
        int error = bj_future_error(futures[i]);
        assert_true(error == BJ_E_BUSY || error == BJ_E_CLOSED);
        busy += error == BJ_E_BUSY;
        bj_future_unref(futures[i]);
    }
    assert_true(busy >= COMMANDS_ASKED - MOST);
    gate_open(&g);
    part_from_peer(monitor, p);
    /* Each has its arguments, as the caller gave them and as they are sent. */
    assert_true(heap_peak_since(mark) < SMALL + COMMANDS_ASKED * 2 * 5000LL);
}

/* -------------------------------------------------------------------- closing */

static void play_storm(peer *p, void *user)
{
    (void)user;
    if (!peer_greet(p, peer_modern))
        return;
    for (int i = 0;; i++)
        if (!peer_tell(p,
                       STATUS_EVENT("created") STATUS_EVENT("concluded") BLOCK_EVENT("COMPLETED")
                           STATUS_EVENT("null") "{\"return\": {}, \"id\": %d}\r\n",
                       i, i, i, i, i))
            return;
}

static void count_record(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch, (void)record;
    ++*(int *)user;
}

static void b56_storms_while_it_is_closed(void **state)
{
    (void)state;
    /* Each takes the second that a closed monitor waits for replies. */
    for (int round = 0; round < 6; round++) {
        peer *p;
        world w = {0};
        int records = 0;
        assert_int_equal(bj_ctx_new(&w.ctx), BJ_OK);
        bj_monitor *monitor = meet_peer(&w, play_storm, NULL, &p);
        bj_watch *watch, *unread;
        assert_int_equal(bj_monitor_watch(monitor, &watch), BJ_OK);
        assert_int_equal(bj_monitor_watch(monitor, &unread), BJ_OK);
        assert_int_equal(
            bj_watch_on_record(watch, (bj_watch_closure){.fn = count_record, .user = &records}),
            BJ_OK);
        bj_future *pending = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
        bj_future *closed = bj_monitor_closed(monitor);
        if (round % 2)
            assert_int_equal(bj_monitor_close(monitor), BJ_OK);
        assert_int_equal(bj_ctx_close(w.ctx), BJ_OK);

        answers(pending, BJ_E_CLOSED);
        answers(closed, BJ_E_CLOSED);
        assert_true(records > 0);
        bj_future_unref(pending);
        bj_future_unref(closed);
        bj_watch_unref(watch);
        bj_watch_unref(unread);
        part_from_peer(monitor, p);
        bj_ctx_unref(w.ctx);
    }
}

/* ----------------------------------------------------------------- coming back */

/* What a server says to those who come back, before it is itself again. */
static const char *const comebacks[] = {
    "",
    "garbage",
    "{\"QMP\": {\"version\"",
    "{\"event\": \"SHUTDOWN\"}\r\n{\"return\": {}}\r\n",
};
#define COMEBACKS ((int)(sizeof(comebacks) / sizeof(comebacks[0])))

/* The first of its clients it leaves when its mirror runs. */
static void play_flapping(peer *p, void *user)
{
    int *visit = user;
    int number = (*visit)++;
    peer_command command;

    if (number > 0 && number <= COMEBACKS) {
        peer_say(p, comebacks[number - 1]);
        return;
    }
    if (!peer_greet(p, peer_modern))
        return;
    if (number > 0) {
        peer_serve(p);
        return;
    }
    while (peer_hear(p, &command) && peer_obey(p, &command))
        if (strcmp(command.name, "query-status") == 0)
            return;
}

static void b45_a_server_that_flaps(void **state)
{
    world *w = *state;
    int visits = 0;
    peer *p = peer_listen(path_of(w, "flapping.sock"), play_flapping, &visits);
    long long mark = heap_mark();
    w->monitor = connect_to(w, path_of(w, "flapping.sock"));
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    bj_job *job = mirror(w, "drive0", "copy", NULL);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE), BJ_OK);
    while (next_record(watch)->kind != BJ_RECORD_DISCONNECTED)
        continue;

    /* Asked while it is away, and answered when the server is itself again. */
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_true(visits >= 2);
    bj_monitor_close(w->monitor);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    peer_end(p);
    assert_true(heap_peak_since(mark) < SMALL);
}

/* Like a flapping one, but its second client is only greeted: the connection is up, and ends before
 * the job list. */
static void play_faltering(peer *p, void *user)
{
    peer_command command;
    switch (atomic_fetch_add((atomic_int *)user, 1)) {
    case 0:
        peer_greet(p, peer_modern);
        while (peer_hear(p, &command) && peer_obey(p, &command))
            if (strcmp(command.name, "query-status") == 0)
                return;
        return;
    case 1:
        peer_greet(p, peer_modern);
        return;
    default:
        if (peer_greet(p, peer_modern))
            peer_serve(p);
    }
}

static void b45_a_cut_while_coming_back_is_reported_once(void **state)
{
    world *w = *state;
    atomic_int visits = 0;
    peer *p = peer_listen(path_of(w, "faltering.sock"), play_faltering, &visits);
    w->monitor = connect_to(w, path_of(w, "faltering.sock"));
    assert_int_equal(bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_watch *watch = watch_monitor(w);
    mirror(w, "drive0", "copy", NULL);
    expect(w, bj_monitor_execute(w->monitor, "query-status", NULL, BJ_TIMEOUT_NONE), BJ_OK);

    assert_string_equal(news(w, watch, BJ_RECORD_RECONNECTED), "DISCONNECTED RECONNECTED");

    assert_true(atomic_load(&visits) >= 3);
    bj_monitor_close(w->monitor);
    expect(w, bj_monitor_closed(w->monitor), BJ_E_CLOSED);
    peer_end(p);
}

static void play_revolving_door(peer *p, void *user)
{
    peer_greet(p, peer_modern);
    atomic_fetch_add((atomic_int *)user, 1);
}

/* It never is itself again: those who wait are answered when the program gives up. */
static void b45_a_server_that_only_greets(void **state)
{
    world *w = *state;
    atomic_int visits = 0;
    peer *p = peer_listen(path_of(w, "door.sock"), play_revolving_door, &visits);
    long long mark = heap_mark();
    w->monitor = connect_to(w, path_of(w, "door.sock"));
    int r = bj_monitor_set_reconnect(w->monitor, BJ_TIMEOUT_NONE);
    if (r == BJ_OK) { /* it was faster than the door */
        bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
        while (atomic_load(&visits) < 5 && !bj_future_is_done(closed))
            usleep(1000);
        bj_monitor_close(w->monitor);
        assert_int_equal(bj_future_wait(closed, BJ_TIMEOUT_NONE), BJ_OK);
    }
    peer_end(p);
    assert_true(heap_peak_since(mark) < SMALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE_TEST(b56_what_is_no_json_at_all),
        ALONE_TEST(b56_noise),
        ALONE_TEST(b56_messages_that_never_end),
        ALONE_TEST(b54_messages_as_large_as_the_limits),
        ALONE_TEST(b56_nothing_at_all_for_ever),
        ALONE_TEST(b56_floods_of_events),
        ALONE_TEST(b56_one_job_told_of_for_ever),
        ALONE_TEST(b61_large_events_that_nobody_reads),
        ALONE_TEST(b50_events_of_absurd_types),
        ALONE_TEST(b49_rows_of_absurd_types),
        ALONE_TEST(b15_graphs_of_absurd_types),
        ALONE_TEST(b48_replies_for_nobody),
        ALONE_TEST(b56_replies_twice),
        ALONE_TEST(b56_errors_of_absurd_types),
        ALONE_TEST(b56_huge_errors),
        ALONE_TEST(b56_lists_without_an_end),
        ALONE_TEST(b56_half_a_greeting),
        ALONE_TEST(b56_greetings_of_absurd_types),
        ALONE_TEST(b56_negotiations_of_absurd_types),
        ALONE_TEST(b56_a_byte_at_a_time),
        ALONE_TEST(b47_a_greeting_that_never_ends),
        ALONE_TEST(b56_a_peer_that_never_reads),
        ALONE_TEST(b56_storms_while_it_is_closed),
        ALONE_TEST(b45_a_server_that_flaps),
        ALONE_TEST(b45_a_cut_while_coming_back_is_reported_once),
        ALONE_TEST(b45_a_server_that_only_greets),
    };
    heap_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
