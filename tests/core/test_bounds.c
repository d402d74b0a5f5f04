/* SPDX-License-Identifier: MIT */
/*
 * What little that a peer sends could be made to cost much: told once, it is kept once, and words
 * are not longer than words.
 */
#include "../../bench/measure.h"
#include "counts.h"
#include "heap.h"
#include "peer.h"
#include "records.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (1024LL * 1024)
#define SMALL (1 * MIB) /* a connection and a few futures */

/* Says `unit` over and over. */
static bool say_times(peer *p, const char *unit, size_t count)
{
    char block[8192];
    size_t len = strlen(unit), held = sizeof block / len;
    for (size_t i = 0; i < held; i++)
        memcpy(block + i * len, unit, len);
    for (; count > held; count -= held)
        if (!peer_send(p, block, held * len))
            return false;
    return peer_send(p, block, count * len);
}

static void costs_at_most(long long mark, long long most)
{
    long long cost = heap_peak_since(mark);
    if (getenv("SHOW_COSTS"))
        print_message("    %.2f MiB of %.0f\n", (double)cost / MIB, (double)most / MIB);
    if (cost > most)
        fail_msg("%lld bytes, more than %lld", cost, most);
}

/* -------------------------------------------------------------------- job lists */

#define ROWS 4096
#define LONG_WORD 262144

static bool say_long_row(peer *p, const peer_command *command, const char *id, size_t len)
{
    return peer_tell(p, "{\"return\": [{\"device\": \"%s\", \"io-status\": \"ok\", \"type\": \"",
                     id) &&
           say_times(p, "x", len) && peer_say(p, "\", \"status\": \"") && say_times(p, "x", len) &&
           peer_tell(p, "\"}], \"id\": %s}\r\n", command->id);
}

/* One row with long words of a device, and many of jobs that are called the same. */
static void play_one_device_of_many_jobs(peer *p, void *user)
{
    (void)user;
    peer_command command;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "query-block-jobs") == 0)
            going = say_long_row(p, &command, "x", 1000);
        else if (strcmp(command.name, "query-jobs") == 0)
            going = peer_say(p, "{\"return\": [{\"id\": \"x\"}") &&
                    say_times(p, ",{\"id\": \"x\"}", ROWS - 1) &&
                    peer_tell(p, "], \"id\": %s}\r\n", command.id);
        else
            going = peer_obey(p, &command);
    }
}

static void c40_a_device_is_told_of_one_job(void **state)
{
    peer *p;
    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(*state, play_one_device_of_many_jobs, NULL, &p);
    bj_future *list = answers(bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);
    assert_int_equal(bj_future_info_count(list), ROWS);
    assert_int_equal(strlen(bj_future_info(list, 0)->type), 1000);
    assert_string_equal(bj_future_info(list, 0)->io_status, "ok");
    assert_int_equal(strlen(bj_future_info(list, 1)->type), 0);
    assert_int_equal(strlen(bj_future_info(list, 1)->io_status), 0);
    bj_future_unref(list);
    part_from_peer(monitor, p);
    costs_at_most(mark, SMALL + 4 * MIB);
}

/* After each query-status there is another job, whose type is as long as it likes. */
static void play_long_types(peer *p, void *user)
{
    (void)user;
    peer_command command;
    char id[32];
    int number = 0;
    bool going = peer_greet(p, "qmp_capabilities query-commands query-status query-block-jobs");
    while (going && peer_hear(p, &command)) {
        number += strcmp(command.name, "query-status") == 0;
        snprintf(id, sizeof id, "j%d", number);
        going = strcmp(command.name, "query-block-jobs") == 0
                    ? say_long_row(p, &command, id, LONG_WORD)
                    : peer_obey(p, &command);
    }
}

static void c40_a_long_word_is_none(void **state)
{
    enum { JOBS = 32 };
    world *w = *state;
    peer *p;
    char id[32];
    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(w, play_long_types, NULL, &p);
    for (int i = 1; i <= JOBS; i++) {
        bj_future *status = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
        bj_future_unref(answers(status, BJ_OK));
        bj_future *list = answers(bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);
        assert_int_equal(strlen(bj_future_info(list, 0)->type), 0);
        assert_int_equal(strlen(bj_future_info(list, 0)->status), 0);
        bj_future_unref(list);
        snprintf(id, sizeof id, "j%d", i);
        bj_future *attached = answers(bj_monitor_attach(monitor, id, BJ_TIMEOUT_NONE), BJ_OK);
        bj_job *job = hold_job(w, bj_future_job(attached));
        assert_int_equal(strlen(bj_job_type(job)), 0);
        bj_future_unref(attached);
    }
    part_from_peer(monitor, p);
    costs_at_most(mark, SMALL + 6 * MIB); /* two such replies */
}

/* -------------------------------------------------------------- the block graph */

#define GRAPH_JOBS 16 /* as many as the peer has */
#define LONG_NAME 262144

/* Started jobs, by the ids that they were started with. */
struct started {
    char ids[GRAPH_JOBS][64];
    int count;
};

static bool say_vertex(peer *p, int id, const char *name, size_t repeated)
{
    return peer_tell(p, ", {\"id\": %d, \"type\": \"%s\", \"name\": \"%s", id,
                     id == 4 ? "block-backend" : "block-driver", name) &&
           say_times(p, "x", repeated) && peer_say(p, "\"}");
}

/* All jobs are at the same source, which is used by a device, with names as long as is asked. */
static bool say_graph(peer *p, const peer_command *command, const struct started *started,
                      bool by_long_names)
{
    size_t user = by_long_names ? 0 : LONG_NAME, node = by_long_names ? LONG_NAME : 0;
    bool said = peer_say(p, "{\"return\": {\"nodes\": [{\"id\": 0, \"type\": \"other\"}") &&
                say_vertex(p, 1, "filter", 0) && say_vertex(p, 2, "source", node) &&
                say_vertex(p, 3, "target", node) && say_vertex(p, 4, "disk", user);
    for (int i = 0; said && i < started->count; i++)
        said = peer_tell(p, ", {\"id\": %d, \"type\": \"block-job\", \"name\": \"%s\"}", 100 + i,
                         started->ids[i]);
    said = said && peer_say(p, "], \"edges\": [{\"parent\": 4, \"child\": 1, \"name\": \"root") &&
           say_times(p, "x", user) &&
           peer_say(p, "\"}, {\"parent\": 1, \"child\": 2, \"name\": \"backing\"}, "
                       "{\"parent\": 4, \"child\": 2, \"name\": \"other\"}");
    for (int i = 0; said && i < started->count; i++)
        said = peer_tell(p,
                         ", {\"parent\": %d, \"child\": 1, \"name\": \"main node\"}, "
                         "{\"parent\": %d, \"child\": 2, \"name\": \"source\"}, "
                         "{\"parent\": %d, \"child\": 3, \"name\": \"target\"}",
                         100 + i, 100 + i, 100 + i);
    return said && peer_tell(p, "]}, \"id\": %s}\r\n", command->id);
}

static void play_graph(peer *p, bool by_long_names)
{
    static struct started started;
    peer_command command;
    started.count = 0;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "blockdev-mirror") == 0 && started.count < GRAPH_JOBS)
            snprintf(started.ids[started.count++], sizeof started.ids[0], "%s",
                     peer_argument(p, &command, "job-id"));
        going = strcmp(command.name, "x-debug-query-block-graph") == 0
                    ? say_graph(p, &command, &started, by_long_names)
                    : peer_obey(p, &command);
    }
}

static void play_long_nodes(peer *p, void *user)
{
    (void)user;
    play_graph(p, true);
}

static void play_long_users(peer *p, void *user)
{
    (void)user;
    play_graph(p, false);
}

static void long_names_are_not_kept(world *w, peer_play *play)
{
    peer *p;
    long long mark = heap_mark();
    bj_monitor *monitor = meet_peer(w, play, NULL, &p);
    for (int i = 0; i < GRAPH_JOBS; i++) {
        bj_future *started =
            bj_monitor_mirror(monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE);
        bj_job *job = hold_job(w, bj_future_job(answers(started, BJ_OK)));
        bj_future *attached = bj_monitor_attach(monitor, bj_job_id(job), BJ_TIMEOUT_NONE);
        answers(attached, BJ_OK); /* the graph was seen */
        bj_job *same = bj_future_job(attached);
        assert_ptr_equal(same, job);
        bj_job_unref(same);
        bj_future_unref(attached);
        bj_future_unref(started);
    }
    part_from_peer(monitor, p);
    costs_at_most(mark, SMALL + 4 * MIB);
}

static void c41_long_names_of_the_graph_are_not_kept(void **state)
{
    long_names_are_not_kept(*state, play_long_nodes);
    long_names_are_not_kept(*state, play_long_users);
}

/* ---------------------------------------------------------------- large messages */

#define OBJECTS 1000000 /* about as many tokens as a message may have */

static void play_many_objects(peer *p, void *user)
{
    (void)user;
    peer_command command;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "query-status") == 0)
            going = peer_say(p, "{\"return\": [{}") && say_times(p, ",{}", OBJECTS - 1) &&
                    peer_tell(p, "], \"id\": %s}\r\n", command.id);
        else
            going = peer_obey(p, &command);
    }
}

static void c44_a_large_message_does_not_stay_in_memory(void **state)
{
    peer *p;
    if (count_heap() == 0) /* a sanitizer or valgrind keeps what was freed */
        skip();
    bj_monitor *monitor = meet_peer(*state, play_many_objects, NULL, &p);
    bj_future *list = answers(bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future_unref(list);
    size_t before = resident_bytes();

    bj_future *large = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
    assert_true(strlen(bj_future_json(answers(large, BJ_OK))) > 2 * (size_t)OBJECTS);
    bj_future_unref(large);
    list = answers(bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK); /* the tree has gone */
    bj_future_unref(list);

    size_t after = resident_bytes();
    part_from_peer(monitor, p);
    if (after > before + 32 * MIB)
        fail_msg("%zu KiB stay", (after - before) / 1024);
}

/* As long a reply as there may be: one string, or as many small ones as there may be. */
#define LONGEST (16 * MIB)
#define MOST_STRINGS 1000000

static bool say_longest(peer *p, const peer_command *command)
{
    return peer_say(p, "{\"return\": \"") && say_times(p, "x", LONGEST - 100) &&
           peer_tell(p, "\", \"id\": %s}\r\n", command->id);
}

static bool say_many_strings(peer *p, const peer_command *command)
{
    return peer_say(p, "{\"return\": [\"0123456789\"") &&
           say_times(p, ",\"0123456789\"", MOST_STRINGS) &&
           peer_tell(p, "], \"id\": %s}\r\n", command->id);
}

static void play_longest(peer *p, void *user)
{
    (void)user;
    peer_command command;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "query-status") == 0)
            going = say_longest(p, &command);
        else if (strcmp(command.name, "query-jobs") == 0)
            going = say_many_strings(p, &command);
        else
            going = peer_obey(p, &command);
    }
}

static void reply_costs(bj_monitor *monitor, const char *command, long long most)
{
    long long mark = heap_mark();
    bj_future *reply = bj_monitor_execute(monitor, command, NULL, BJ_TIMEOUT_NONE);
    assert_true(strlen(bj_future_json(answers(reply, BJ_OK))) > 12 * MIB);
    costs_at_most(mark, most);
    bj_future_unref(reply);
    bj_future_unref(
        answers(bj_monitor_execute(monitor, "query-block-jobs", NULL, BJ_TIMEOUT_NONE), BJ_OK));
    if (atomic_load(&heap_bytes) > mark + SMALL)
        fail_msg("%lld bytes stay", atomic_load(&heap_bytes) - mark);
}

/* Its text, and the caller's copy. */
static void w07_the_longest_replies_cost_what_the_limits_allow(void **state)
{
    peer *p;
    bj_monitor *monitor = meet_peer(*state, play_longest, NULL, &p);
    reply_costs(monitor, "query-status", SMALL + 2 * LONGEST);
    reply_costs(monitor, "query-jobs", SMALL + 2 * LONGEST);
    part_from_peer(monitor, p);
}

static void w07_a_longer_reply_costs_no_more_than_the_limit_allows(void **state)
{
    world *w = *state;
    peer *p;
    assert_int_equal(bj_ctx_set_limit(w->ctx, BJ_LIMIT_MESSAGE_BYTES, 1 * MIB), BJ_OK);
    bj_monitor *monitor = meet_peer(w, play_longest, NULL, &p);
    long long mark = heap_mark();
    bj_future *reply = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
    answers(reply, BJ_E_PROTOCOL);
    names(reply, "longer than the limit");
    costs_at_most(mark, SMALL + 1 * MIB);
    bj_future_unref(reply);
    part_from_peer(monitor, p);
}

/* ------------------------------------------------------------------- long texts */

/* No character is cut: each is an e with an accent, of two bytes. */
static void is_whole(const char *text, size_t least)
{
    size_t len = strlen(text);
    if (len < least)
        fail_msg("%s has less than %zu bytes", text, least);
    for (size_t at = 0; at < len; at++) {
        bool is_first = (unsigned char)text[at] == 0xc3;
        bool goes_on = ((unsigned char)text[at + 1] & 0xc0) == 0x80;
        if (is_first != goes_on)
            fail_msg("a character is cut at byte %zu of %zu: ...%s", at, len, text + len - 8);
    }
}

#define ACCENTS 4000

/* Says a reason of accents, of another length for each query-status and so cut in another place. */
static bool say_reason(peer *p, const peer_command *command, int number)
{
    return peer_tell(p, "{\"id\": %s, \"error\": {\"class\": \"GenericError\", \"desc\": \"%s",
                     command->id, number % 2 ? "x" : "") &&
           say_times(p, "\xc3\xa9", ACCENTS) && peer_say(p, "\"}}\r\n");
}

static void play_long_reasons(peer *p, void *user)
{
    (void)user;
    peer_command command;
    int number = 0;
    bool going = peer_greet(p, peer_modern);
    while (going && peer_hear(p, &command)) {
        if (strcmp(command.name, "query-status") == 0)
            going = say_reason(p, &command, number++);
        else
            going = peer_obey(p, &command);
        if (strcmp(command.name, "blockdev-backup") == 0)
            going = going &&
                    peer_tell(p,
                              "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"%s\", "
                              "\"error\": \"%s",
                              peer_argument(p, &command, "job-id"), number++ % 2 ? "x" : "") &&
                    say_times(p, "\xc3\xa9", ACCENTS) && peer_say(p, "\"}}\r\n");
    }
}

static void a_backup_fails(bj_monitor *monitor)
{
    bj_future *started =
        bj_monitor_backup(monitor, "drive0", "copy", "full", NULL, BJ_TIMEOUT_NONE);
    bj_job *job = bj_future_job(answers(started, BJ_OK));
    bj_future *done = bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    ends(done, BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    is_whole(bj_job_text(job), 4000);
    is_whole(bj_future_text(done), 1000);
    bj_future_unref(done);
    bj_future_unref(started);
    bj_job_unref(job);
}

static void c89_no_text_is_cut_within_a_character(void **state)
{
    char options[1002];
    peer *p;
    bj_monitor *monitor = meet_peer(*state, play_long_reasons, NULL, &p);
    for (int i = 0; i < 2; i++) {
        bj_future *refused = bj_monitor_execute(monitor, "query-status", NULL, BJ_TIMEOUT_NONE);
        is_whole(bj_future_text(answers(refused, BJ_E_REFUSED)), 1000);
        bj_future_unref(refused);
        a_backup_fails(monitor);

        options[0] = 'x'; /* in one of the two rounds */
        for (size_t at = (size_t)i; at + 2 < sizeof options; at += 2)
            memcpy(options + at, "\xc3\xa9", 3);
        bj_future *unsent = bj_monitor_execute(monitor, "stop", options, BJ_TIMEOUT_NONE);
        is_whole(bj_future_text(answers(unsent, BJ_E_INVAL)), 200);
        bj_future_unref(unsent);
        unsent = bj_monitor_stream(monitor, options, options, BJ_TIMEOUT_NONE);
        is_whole(bj_future_text(answers(unsent, BJ_E_INVAL)), 200);
        bj_future_unref(unsent);
        unsent = bj_monitor_transaction(monitor, options, BJ_TRANSACTION_EACH, BJ_TIMEOUT_NONE);
        is_whole(bj_future_text(answers(unsent, BJ_E_INVAL)), 200);
        bj_future_unref(unsent);
    }
    part_from_peer(monitor, p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE_TEST(c40_a_device_is_told_of_one_job),
        ALONE_TEST(c40_a_long_word_is_none),
        ALONE_TEST(c41_long_names_of_the_graph_are_not_kept),
        ALONE_TEST(c44_a_large_message_does_not_stay_in_memory),
        ALONE_TEST(w07_the_longest_replies_cost_what_the_limits_allow),
        ALONE_TEST(w07_a_longer_reply_costs_no_more_than_the_limit_allows),
        ALONE_TEST(c89_no_text_is_cut_within_a_character),
    };
    heap_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
