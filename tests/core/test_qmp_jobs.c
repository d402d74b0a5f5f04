/* SPDX-License-Identifier: MIT */
/*
 * QEMU's words for jobs: each event and its fact, each verb and its command, lists and their rows.
 */
#include "delivery/future.h"
#include "qmp/job_words.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------------- events */

struct heard {
    struct message message;
    struct fact fact;
    bool is_fact;
};

static struct heard hear(const char *text)
{
    struct heard h;
    const char *reason;
    assert_int_equal(message_parse(text, strlen(text), &h.message, &reason), 0);
    h.is_fact = qmp_read_fact(&h.message, &h.fact);
    return h;
}

static void assert_fact(const char *text, enum fact_kind kind, const char *id)
{
    struct heard h = hear(text);
    assert_true(h.is_fact);
    assert_int_equal(h.fact.kind, kind);
    assert_string_equal(h.fact.id, id);
    message_clear(&h.message);
}

static void assert_no_fact(const char *text)
{
    struct heard h = hear(text);
    assert_false(h.is_fact);
    message_clear(&h.message);
}

#define BLOCK_JOB(name, more)                                                                      \
    "{\"event\": \"BLOCK_JOB_" name "\", \"data\": {\"device\": \"j\", \"type\": \"mirror\"" more  \
    "}, \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}"

static void each_event_and_its_fact(void **state)
{
    (void)state;
    assert_fact(BLOCK_JOB("READY", ", \"len\": 1, \"offset\": 1, \"speed\": 0"), FACT_READY, "j");
    assert_fact(BLOCK_JOB("COMPLETED", ", \"len\": 1, \"offset\": 1"), FACT_COMPLETED, "j");
    assert_fact(BLOCK_JOB("CANCELLED", ""), FACT_CANCELLED, "j");
    assert_fact(BLOCK_JOB("ERROR", ", \"operation\": \"write\", \"action\": \"stop\""),
                FACT_STOPPED, "j");
    assert_fact(
        "{\"event\": \"BLOCK_JOB_PENDING\", \"data\": {\"id\": \"j\", \"type\": \"mirror\"}}",
        FACT_PENDING, "j");
    assert_fact("{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\", \"id\": "
                "\"j\"}}",
                FACT_STATUS, "j");
}

static void a_facts_type_and_time(void **state)
{
    (void)state;
    struct heard h = hear(BLOCK_JOB("READY", ""));
    assert_string_equal(h.fact.type, "mirror");
    assert_int_equal(h.fact.timestamp_us, 1000002);
    message_clear(&h.message);
}

static void b11_the_error_of_completed(void **state)
{
    (void)state;
    struct heard h = hear(BLOCK_JOB("COMPLETED", ", \"error\": \"No space left on device\""));
    assert_string_equal(h.fact.error, "No space left on device");
    message_clear(&h.message);
    h = hear(BLOCK_JOB("COMPLETED", ", \"error\": \"\""));
    assert_non_null(h.fact.error);
    message_clear(&h.message);
    h = hear(BLOCK_JOB("COMPLETED", ""));
    assert_null(h.fact.error);
    message_clear(&h.message);
}

static void b12_an_error_that_does_not_stop_is_only_counted(void **state)
{
    (void)state;
    assert_fact(BLOCK_JOB("ERROR", ", \"action\": \"report\""), FACT_IO_ERROR, "j");
    assert_fact(BLOCK_JOB("ERROR", ", \"action\": \"ignore\""), FACT_IO_ERROR, "j");
    assert_fact(BLOCK_JOB("ERROR", ""), FACT_IO_ERROR, "j");
    struct heard h = hear(BLOCK_JOB("ERROR", ", \"operation\": \"write\""));
    assert_true(h.fact.writing);
    message_clear(&h.message);
    h = hear(BLOCK_JOB("ERROR", ", \"operation\": \"read\""));
    assert_false(h.fact.writing);
    message_clear(&h.message);
}

static void b13_the_reason_of_a_stop_names_the_side(void **state)
{
    (void)state;
    struct heard h = hear(BLOCK_JOB("ERROR", ", \"operation\": \"read\", \"action\": \"stop\""));
    assert_non_null(strstr(h.fact.error, "read"));
    message_clear(&h.message);
    h = hear(BLOCK_JOB("ERROR", ", \"operation\": \"write\", \"action\": \"stop\""));
    assert_non_null(strstr(h.fact.error, "write"));
    message_clear(&h.message);
    h = hear(BLOCK_JOB("ERROR", ", \"action\": \"stop\""));
    assert_true(*h.fact.error);
    message_clear(&h.message);
}

static void b50_only_the_id_is_needed(void **state)
{
    (void)state;
    assert_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": {\"device\": \"j\"}}", FACT_READY, "j");
    assert_fact("{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"j\"}}",
                FACT_COMPLETED, "j");
    assert_fact("{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"id\": \"j\"}}", FACT_STATUS, "j");
    struct heard h = hear("{\"event\": \"BLOCK_JOB_READY\", \"data\": {\"device\": \"j\"}}");
    assert_string_equal(h.fact.type, "");
    assert_int_equal(h.fact.timestamp_us, 0);
    message_clear(&h.message);
}

static void b50_without_an_id_it_is_no_fact(void **state)
{
    (void)state;
    assert_no_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": {}}");
    assert_no_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": {\"device\": \"\"}}");
    assert_no_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": {\"device\": 7}}");
    assert_no_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": [\"device\", \"j\"]}");
    assert_no_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": null}");
    assert_no_fact("{\"event\": \"BLOCK_JOB_READY\"}");
    assert_no_fact("{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"ready\"}}");
}

static void b42_the_id_may_have_either_key(void **state)
{
    (void)state;
    assert_fact("{\"event\": \"BLOCK_JOB_PENDING\", \"data\": {\"id\": \"j\"}}", FACT_PENDING, "j");
    assert_fact("{\"event\": \"BLOCK_JOB_PENDING\", \"data\": {\"device\": \"j\"}}", FACT_PENDING,
                "j");
    assert_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": {\"id\": \"j\"}}", FACT_READY, "j");
    assert_fact("{\"event\": \"BLOCK_JOB_READY\", \"data\": {\"device\": \"j\", \"id\": \"k\"}}",
                FACT_READY, "j");
}

static void b49_each_status_and_unknown_ones(void **state)
{
    (void)state;
    for (int s = STATUS_CREATED; s <= STATUS_NULL; s++) {
        char text[128];
        snprintf(text, sizeof text,
                 "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"id\": \"j\", \"status\": "
                 "\"%s\"}}",
                 job_status_name((enum status)s));
        struct heard h = hear(text);
        assert_int_equal(h.fact.status, s);
        message_clear(&h.message);
    }
    struct heard h = hear("{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"id\": \"j\", "
                          "\"status\": \"hibernating\"}}");
    assert_int_equal(h.fact.status, STATUS_NONE);
    message_clear(&h.message);
    h = hear("{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"id\": \"j\", \"status\": 3}}");
    assert_int_equal(h.fact.status, STATUS_NONE);
    message_clear(&h.message);
}

static void b49_other_events_are_no_facts(void **state)
{
    (void)state;
    assert_no_fact("{\"event\": \"SHUTDOWN\", \"data\": {\"device\": \"j\", \"id\": \"j\"}}");
    assert_no_fact("{\"event\": \"\", \"data\": {\"id\": \"j\"}}");
    assert_no_fact(BLOCK_JOB("", ""));
    assert_no_fact(BLOCK_JOB("RESTED", ""));
    assert_no_fact(BLOCK_JOB("READY_", ""));
    assert_no_fact("{\"event\": \"BLOCK_JOB\", \"data\": {\"device\": \"j\"}}");
}

/* -------------------------------------------------------------------- verbs */

static bool has_all(void *user, const char *command)
{
    (void)user, (void)command;
    return true;
}

static bool has_block_job_commands(void *user, const char *command)
{
    (void)user;
    return strncmp(command, "block-job-", 10) == 0;
}

static bool has_none(void *user, const char *command)
{
    (void)user, (void)command;
    return false;
}

static void assert_verb(qmp_has_command *has, enum verb verb, const char *type, const char *command,
                        const char *arguments)
{
    const char *got = qmp_verb_command(verb, type, has, NULL);
    assert_string_equal(got, command);
    char *text = qmp_verb_arguments(got, verb, "j", 5000000000, has, NULL);
    json_t *object = json_loads(text, 0, NULL);
    json_t *expected = json_loads(arguments, 0, NULL);
    assert_non_null(expected);
    assert_true(json_equal(object, expected));
    json_decref(object);
    json_decref(expected);
    free(text);
}

static void b38_each_verb_on_a_qemu_with_job_commands(void **state)
{
    (void)state;
    assert_verb(has_all, VERB_COMPLETE, "mirror", "job-complete", "{\"id\": \"j\"}");
    assert_verb(has_all, VERB_CANCEL, "mirror", "block-job-cancel", "{\"device\": \"j\"}");
    assert_verb(has_all, VERB_FORCE, "mirror", "job-cancel", "{\"id\": \"j\"}");
    assert_verb(has_all, VERB_PAUSE, "mirror", "job-pause", "{\"id\": \"j\"}");
    assert_verb(has_all, VERB_RESUME, "mirror", "job-resume", "{\"id\": \"j\"}");
    assert_verb(has_all, VERB_SET_SPEED, "mirror", "block-job-set-speed",
                "{\"device\": \"j\", \"speed\": 5000000000}");
    assert_verb(has_all, VERB_FINALIZE, "mirror", "job-finalize", "{\"id\": \"j\"}");
    assert_verb(has_all, VERB_DISMISS, "mirror", "job-dismiss", "{\"id\": \"j\"}");
}

static void b38_each_verb_on_a_qemu_without(void **state)
{
    (void)state;
    qmp_has_command *has = has_block_job_commands;
    assert_verb(has, VERB_COMPLETE, "mirror", "block-job-complete", "{\"device\": \"j\"}");
    assert_verb(has, VERB_CANCEL, "mirror", "block-job-cancel", "{\"device\": \"j\"}");
    assert_verb(has, VERB_FORCE, "mirror", "block-job-cancel",
                "{\"device\": \"j\", \"force\": true}");
    assert_verb(has, VERB_PAUSE, "mirror", "block-job-pause", "{\"device\": \"j\"}");
    assert_verb(has, VERB_RESUME, "mirror", "block-job-resume", "{\"device\": \"j\"}");
    assert_verb(has, VERB_SET_SPEED, "mirror", "block-job-set-speed",
                "{\"device\": \"j\", \"speed\": 5000000000}");
    assert_verb(has, VERB_FINALIZE, "mirror", "block-job-finalize", "{\"id\": \"j\"}");
    assert_verb(has, VERB_DISMISS, "mirror", "block-job-dismiss", "{\"id\": \"j\"}");
}

static void b38_a_soft_cancel_is_block_job_cancel_for_all_kinds_that_know_it(void **state)
{
    (void)state;
    static const char *const types[] = {"", "mirror", "commit", "stream", "backup"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        assert_verb(has_all, VERB_CANCEL, types[i], "block-job-cancel", "{\"device\": \"j\"}");
}

static void b52_a_job_without_a_disk_is_cancelled_by_job_cancel(void **state)
{
    (void)state;
    assert_verb(has_all, VERB_CANCEL, "create", "job-cancel", "{\"id\": \"j\"}");
    assert_verb(has_all, VERB_CANCEL, "snapshot-save", "job-cancel", "{\"id\": \"j\"}");
}

/* A QEMU that has the commands which are listed, a space before and after each. */
static bool is_listed(void *user, const char *command)
{
    const char *list = user;
    size_t len = strlen(command);
    for (const char *at = list; (at = strstr(at, command)); at += len)
        if (at > list && at[-1] == ' ' && at[len] == ' ')
            return true;
    return false;
}

#define RHEL_6_2 " block_job_cancel block_job_set_speed block_stream query-block-jobs "
#define RHEL_6_3                                                                                   \
    " block-job-cancel block-job-set-speed block-stream query-block-jobs "                         \
    "__com.redhat_drive-mirror __com.redhat_drive-reopen "
#define AGE_1_1 " block-job-cancel block-job-set-speed block-stream query-block-jobs "
#define AGE_1_3 AGE_1_1 "block-job-pause block-job-resume block-job-complete "
#define AGE_2_12 AGE_1_3 "block-job-finalize block-job-dismiss "
#define AGE_3_0                                                                                    \
    AGE_2_12 "job-pause job-resume job-complete job-cancel job-finalize job-dismiss query-jobs "

#define DEVICE "{\"device\":\"j\"}"
#define FORCED "{\"device\":\"j\",\"force\":true}"
#define AN_ID "{\"id\":\"j\"}"
#define SPEED "{\"device\":\"j\",\"speed\":7}"
#define VALUE "{\"device\":\"j\",\"value\":7}"

/* What each QEMU took and refused in recorded sessions. */
static void b59_the_words_of_each_age(void **state)
{
    (void)state;
    enum { VERBS = VERB_COUNT };
    static const struct {
        const char *commands;
        const char *words[VERBS][2];
    } ages[] = {
        {RHEL_6_2,
         {
             [VERB_CANCEL] = {"block_job_cancel", DEVICE},
             [VERB_FORCE] = {"block_job_cancel", DEVICE},
             [VERB_SET_SPEED] = {"block_job_set_speed", VALUE},
         }},
        {RHEL_6_3,
         {
             [VERB_CANCEL] = {"block-job-cancel", DEVICE},
             [VERB_FORCE] = {"block-job-cancel", DEVICE}, /* force is InvalidParameter */
             [VERB_SET_SPEED] = {"block-job-set-speed", SPEED},
         }},
        {AGE_1_1,
         {
             [VERB_CANCEL] = {"block-job-cancel", DEVICE},
             [VERB_FORCE] = {"block-job-cancel", DEVICE},
             [VERB_SET_SPEED] = {"block-job-set-speed", SPEED},
         }},
        {AGE_1_3,
         {
             [VERB_COMPLETE] = {"block-job-complete", DEVICE},
             [VERB_CANCEL] = {"block-job-cancel", DEVICE},
             [VERB_FORCE] = {"block-job-cancel", FORCED},
             [VERB_PAUSE] = {"block-job-pause", DEVICE},
             [VERB_RESUME] = {"block-job-resume", DEVICE},
             [VERB_SET_SPEED] = {"block-job-set-speed", SPEED},
         }},
        {AGE_2_12,
         {
             [VERB_COMPLETE] = {"block-job-complete", DEVICE},
             [VERB_CANCEL] = {"block-job-cancel", DEVICE},
             [VERB_FORCE] = {"block-job-cancel", FORCED},
             [VERB_PAUSE] = {"block-job-pause", DEVICE},
             [VERB_RESUME] = {"block-job-resume", DEVICE},
             [VERB_SET_SPEED] = {"block-job-set-speed", SPEED},
             [VERB_FINALIZE] = {"block-job-finalize", AN_ID},
             [VERB_DISMISS] = {"block-job-dismiss", AN_ID},
         }},
        {AGE_3_0,
         {
             [VERB_COMPLETE] = {"job-complete", AN_ID},
             [VERB_CANCEL] = {"block-job-cancel", DEVICE},
             [VERB_FORCE] = {"job-cancel", AN_ID},
             [VERB_PAUSE] = {"job-pause", AN_ID},
             [VERB_RESUME] = {"job-resume", AN_ID},
             [VERB_SET_SPEED] = {"block-job-set-speed", SPEED},
             [VERB_FINALIZE] = {"job-finalize", AN_ID},
             [VERB_DISMISS] = {"job-dismiss", AN_ID},
         }},
    };
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        void *commands = (void *)ages[i].commands;
        for (int v = 0; v < VERBS; v++) {
            enum verb verb = (enum verb)v;
            const char *command = qmp_verb_command(verb, "mirror", is_listed, commands);
            if (!ages[i].words[v][0]) {
                assert_null(command);
                continue;
            }
            assert_non_null(command);
            assert_string_equal(command, ages[i].words[v][0]);
            char *text = qmp_verb_arguments(command, verb, "j", 7, is_listed, commands);
            assert_string_equal(text, ages[i].words[v][1]);
            free(text);
        }
    }
}

static void b38_a_qemu_that_has_neither(void **state)
{
    (void)state;
    for (int v = VERB_COMPLETE; v < VERB_COUNT; v++)
        assert_null(qmp_verb_command((enum verb)v, "mirror", has_none, NULL));
}

static void an_id_is_quoted(void **state)
{
    (void)state;
    char *text = qmp_verb_arguments("job-cancel", VERB_FORCE, "a\",\"b\":\"\\\n", 0, has_all, NULL);
    assert_string_equal(text, "{\"id\":\"a\\\",\\\"b\\\":\\\"\\\\\\n\"}");
    free(text);
}

/* --------------------------------------------------------------------- rows */

static struct job_list *read_rows(const char *block_jobs, const char *jobs, size_t limit)
{
    json_t *block = json_loads(block_jobs, JSON_DECODE_ANY, NULL);
    json_t *job = jobs ? json_loads(jobs, JSON_DECODE_ANY, NULL) : NULL;
    assert_non_null(block);
    assert_int_equal(jobs != NULL, job != NULL);
    struct job_list *list = qmp_read_rows(block, job, &(struct row_filter){.limit = limit});
    json_decref(block);
    json_decref(job);
    assert_non_null(list);
    return list;
}

static void rows_of_both_lists_are_one(void **state)
{
    (void)state;
    struct job_list *list = read_rows(
        "[{\"device\": \"j\", \"type\": \"mirror\", \"len\": 9007199254740993, \"offset\": 5, "
        "\"speed\": 7, \"io-status\": \"ok\", \"ready\": true, \"paused\": false, \"status\": "
        "\"ready\", \"auto-finalize\": true, \"auto-dismiss\": false, \"busy\": false}]",
        "[{\"id\": \"j\", \"type\": \"mirror\", \"status\": \"ready\", \"current-progress\": 1, "
        "\"total-progress\": 2}]",
        10);
    assert_int_equal(list->count, 1);
    const bj_job_info *row = &list->rows[0].info;
    assert_string_equal(row->id, "j");
    assert_string_equal(row->type, "mirror");
    assert_string_equal(row->status, "ready");
    assert_string_equal(row->error, "");
    assert_string_equal(row->io_status, "ok");
    assert_int_equal(row->current, 5);
    assert_true(row->total == 9007199254740993);
    assert_int_equal(row->speed, 7);
    assert_true(row->ready);
    assert_false(row->paused);
    assert_false(row->auto_dismiss);
    assert_true(row->auto_finalize);
    job_list_free(list);
}

static void rows_find_each_other_in_any_order(void **state)
{
    (void)state;
    struct job_list *list =
        read_rows("[{\"device\": \"b\", \"speed\": 2}, {\"device\": \"c\", \"speed\": 3}, "
                  "{\"device\": \"a\", \"speed\": 1}]",
                  "[{\"id\": \"a\"}, {\"id\": \"x\"}, {\"id\": \"b\"}, {\"id\": \"c\"}]", 10);
    static const int64_t speeds[] = {1, -1, 2, 3};
    assert_int_equal(list->count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(list->rows[i].info.speed, speeds[i]);
    job_list_free(list);
}

static void b52_a_job_without_a_disk_has_a_row(void **state)
{
    (void)state;
    struct job_list *list =
        read_rows("[]",
                  "[{\"id\": \"c\", \"type\": \"create\", \"status\": \"concluded\", "
                  "\"current-progress\": 1, \"total-progress\": 1, \"error\": \"bad size\"}]",
                  10);
    assert_int_equal(list->count, 1);
    const bj_job_info *row = &list->rows[0].info;
    assert_string_equal(row->id, "c");
    assert_string_equal(row->status, "concluded");
    assert_string_equal(row->error, "bad size");
    assert_string_equal(row->io_status, "");
    assert_int_equal(row->current, 1);
    assert_int_equal(row->total, 1);
    assert_int_equal(row->speed, -1);
    job_list_free(list);
}

static void b59_before_3_0_there_is_one_list(void **state)
{
    (void)state;
    struct job_list *list =
        read_rows("[{\"device\": \"drive0\", \"type\": \"stream\", \"len\": 10, \"offset\": 4, "
                  "\"speed\": 0}, {\"device\": \"drive1\", \"type\": \"stream\", \"len\": 8, "
                  "\"offset\": 8, \"speed\": 1, \"paused\": true, \"io-status\": \"nospace\"}]",
                  NULL, 10);
    assert_int_equal(list->count, 2);
    assert_string_equal(list->rows[0].info.id, "drive0");
    assert_string_equal(list->rows[0].info.status, "");
    assert_int_equal(list->rows[0].info.current, 4);
    assert_string_equal(list->rows[1].info.id, "drive1");
    assert_true(list->rows[1].info.paused);
    assert_string_equal(list->rows[1].info.io_status, "nospace");
    job_list_free(list);
}

static void b25_current_never_equals_total_while_unready(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        int64_t current, total;
    } cases[] = {
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"ready\": false", 7, 8},
        {"\"type\": \"mirror\", \"offset\": 0, \"len\": 0, \"ready\": false", 0, 1},
        {"\"type\": \"commit\", \"offset\": 8, \"len\": 8, \"ready\": false", 7, 8},
        {"\"type\": \"mirror\", \"offset\": 7, \"len\": 8, \"ready\": false", 7, 8},
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"ready\": true", 8, 8},
        {"\"type\": \"mirror\", \"offset\": 0, \"len\": 0, \"ready\": true", 0, 0}, /* B24 */
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 9, \"ready\": true", 8, 9},
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"status\": \"standby\"", 8, 8},
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"status\": \"waiting\"", 8, 8},
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"status\": \"pending\"", 8, 8},
        {"\"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"status\": \"concluded\"", 8, 8},
        {"\"type\": \"stream\", \"offset\": 8, \"len\": 8, \"ready\": false", 8, 8},
        {"\"type\": \"backup\", \"offset\": 0, \"len\": 0, \"ready\": false", 0, 0},
        {"\"type\": \"mirror\", \"ready\": false", -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[160];
        snprintf(text, sizeof text, "[{\"device\": \"j\", %s}]", cases[i].row);
        struct job_list *list = read_rows(text, NULL, 10);
        assert_int_equal(list->rows[0].info.current, cases[i].current);
        assert_int_equal(list->rows[0].info.total, cases[i].total);
        job_list_free(list);
    }
}

static void b26_a_qemu_that_knows_no_ready_shows_what_it_says(void **state)
{
    (void)state;
    struct job_list *list = read_rows(
        "[{\"device\": \"j\", \"type\": \"mirror\", \"offset\": 8, \"len\": 8, \"speed\": 0}, "
        "{\"device\": \"k\", \"type\": \"mirror\", \"offset\": 0, \"len\": 0, \"speed\": 0}]",
        NULL, 10);
    assert_true(list->rows[0].info.ready); /* the only sign there is */
    assert_int_equal(list->rows[0].info.current, 8);
    assert_false(list->rows[1].info.ready); /* B23 */
    job_list_free(list);
}

/* Rows of recorded sessions, RHEL 6.3 and 1.1 to 2.3. */
static void b26_ready_in_rows_of_each_age(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        bool ready;
        int64_t current, total;
    } cases[] = {
        /* RHEL 6.3, 1.1: no event tells ready, no field */
        {"\"type\": \"mirror\", \"len\": 67108864, \"offset\": 67108864, \"speed\": 0", true,
         67108864, 67108864},
        {"\"type\": \"mirror\", \"len\": 67108864, \"offset\": 67043328, \"speed\": 0", false,
         67043328, 67108864},
        {"\"type\": \"mirror\", \"len\": 0, \"offset\": 0, \"speed\": 0", false, 0, 1},
        {"\"type\": \"stream\", \"len\": 8388608, \"offset\": 8388608, \"speed\": 0", false,
         8388608, 8388608},
        /* 1.3 to 2.1: of a commit nobody knows which kind it is */
        {"\"io-status\": \"ok\", \"busy\": true, \"type\": \"mirror\", \"len\": 8, \"paused\": false, "
         "\"offset\": 8, \"speed\": 0",
         true, 8, 8},
        {"\"io-status\": \"ok\", \"busy\": true, \"type\": \"commit\", \"len\": 8, \"paused\": false, "
         "\"offset\": 8, \"speed\": 0",
         false, 8, 8},
        {"\"io-status\": \"ok\", \"busy\": true, \"type\": \"backup\", \"len\": 8, \"paused\": false, "
         "\"offset\": 8, \"speed\": 0",
         false, 8, 8},
        /* 2.2 and later */
        {"\"io-status\": \"ok\", \"busy\": true, \"type\": \"mirror\", \"len\": 8, \"paused\": false, "
         "\"offset\": 8, \"speed\": 0, \"ready\": false",
         false, 7, 8},
        {"\"io-status\": \"ok\", \"busy\": true, \"type\": \"commit\", \"len\": 8, \"paused\": false, "
         "\"offset\": 8, \"speed\": 0, \"ready\": true",
         true, 8, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[{\"device\": \"drive0\", %s}]", cases[i].row);
        struct job_list *list = read_rows(text, NULL, 10);
        const bj_job_info *row = &list->rows[0].info;
        assert_string_equal(row->id, "drive0");
        assert_int_equal(row->ready, cases[i].ready);
        assert_int_equal(row->current, cases[i].current);
        assert_int_equal(row->total, cases[i].total);
        assert_string_equal(row->status, "");
        assert_false(row->paused);
        job_list_free(list);
    }
}

static void b49_fields_that_are_missing_or_of_another_kind(void **state)
{
    (void)state;
    struct job_list *list = read_rows(
        "[{}, {\"device\": 5, \"type\": [], \"len\": \"8\", \"offset\": 1.5, \"ready\": \"yes\", "
        "\"paused\": 1, \"status\": null, \"error\": {}}, 7, null, {\"device\": \"j\"}]",
        NULL, 10);
    assert_int_equal(list->count, 5);
    for (size_t i = 0; i < list->count; i++) {
        const bj_job_info *row = &list->rows[i].info;
        assert_string_equal(row->id, i == 4 ? "j" : "");
        assert_string_equal(row->type, "");
        assert_string_equal(row->status, "");
        assert_string_equal(row->error, "");
        assert_int_equal(row->current, -1);
        assert_int_equal(row->total, -1);
        assert_int_equal(row->speed, -1);
        assert_false(row->ready);
        assert_false(row->paused);
    }
    job_list_free(list);
}

static void b21_a_row_says_whether_its_job_was_cancelled(void **state)
{
    (void)state;
    struct job_list *list =
        read_rows("[]",
                  "[{\"id\": \"a\", \"status\": \"concluded\", \"error\": \"Operation canceled\"},"
                  " {\"id\": \"b\", \"status\": \"concluded\", \"error\": \"Input/output error\"},"
                  " {\"id\": \"c\", \"status\": \"concluded\"}]",
                  10);
    assert_true(list->rows[0].was_cancelled);
    assert_false(list->rows[1].was_cancelled);
    assert_false(list->rows[2].was_cancelled);
    job_list_free(list);
}

static void b13_a_row_says_whether_an_io_error_has_paused_its_job(void **state)
{
    (void)state;
    struct job_list *list =
        read_rows("[{\"device\": \"a\", \"io-status\": \"nospace\", \"paused\": true},"
                  " {\"device\": \"b\", \"io-status\": \"nospace\", \"paused\": false},"
                  " {\"device\": \"c\", \"io-status\": \"ok\", \"paused\": true},"
                  " {\"device\": \"d\", \"paused\": true}]",
                  NULL, 10);
    assert_true(list->rows[0].has_io_error);
    for (int i = 1; i < 4; i++)
        assert_false(list->rows[i].has_io_error);
    job_list_free(list);
}

static void b49_a_status_unknown_to_us_is_passed_on(void **state)
{
    (void)state;
    struct job_list *list =
        read_rows("[]", "[{\"id\": \"j\", \"type\": \"dance\", \"status\": \"hibernating\"}]", 10);
    assert_string_equal(list->rows[0].info.status, "hibernating");
    assert_string_equal(list->rows[0].info.type, "dance");
    job_list_free(list);
}

static void b56_as_many_rows_as_the_limit_and_no_more(void **state)
{
    (void)state;
    const char *rows = "[{\"id\": \"a\"}, {\"id\": \"b\"}, {\"id\": \"c\"}]";
    for (size_t limit = 1; limit < 5; limit++) {
        struct job_list *list = read_rows("[]", rows, limit);
        assert_int_equal(list->count, limit < 3 ? limit : 3);
        job_list_free(list);
    }
}

static void b56_lists_that_are_none(void **state)
{
    (void)state;
    static const char *const lists[] = {"{}", "\"x\"", "5", "null", "[]"};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct job_list *list = read_rows(lists[i], lists[i], 10);
        assert_int_equal(list->count, 0);
        job_list_free(list);
        list = read_rows(lists[i], NULL, 10);
        assert_int_equal(list->count, 0);
        job_list_free(list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_event_and_its_fact),
        cmocka_unit_test(a_facts_type_and_time),
        cmocka_unit_test(b11_the_error_of_completed),
        cmocka_unit_test(b12_an_error_that_does_not_stop_is_only_counted),
        cmocka_unit_test(b13_the_reason_of_a_stop_names_the_side),
        cmocka_unit_test(b50_only_the_id_is_needed),
        cmocka_unit_test(b50_without_an_id_it_is_no_fact),
        cmocka_unit_test(b42_the_id_may_have_either_key),
        cmocka_unit_test(b49_each_status_and_unknown_ones),
        cmocka_unit_test(b49_other_events_are_no_facts),
        cmocka_unit_test(b38_each_verb_on_a_qemu_with_job_commands),
        cmocka_unit_test(b38_each_verb_on_a_qemu_without),
        cmocka_unit_test(b38_a_soft_cancel_is_block_job_cancel_for_all_kinds_that_know_it),
        cmocka_unit_test(b52_a_job_without_a_disk_is_cancelled_by_job_cancel),
        cmocka_unit_test(b59_the_words_of_each_age),
        cmocka_unit_test(b38_a_qemu_that_has_neither),
        cmocka_unit_test(an_id_is_quoted),
        cmocka_unit_test(rows_of_both_lists_are_one),
        cmocka_unit_test(rows_find_each_other_in_any_order),
        cmocka_unit_test(b52_a_job_without_a_disk_has_a_row),
        cmocka_unit_test(b59_before_3_0_there_is_one_list),
        cmocka_unit_test(b25_current_never_equals_total_while_unready),
        cmocka_unit_test(b26_a_qemu_that_knows_no_ready_shows_what_it_says),
        cmocka_unit_test(b26_ready_in_rows_of_each_age),
        cmocka_unit_test(b21_a_row_says_whether_its_job_was_cancelled),
        cmocka_unit_test(b13_a_row_says_whether_an_io_error_has_paused_its_job),
        cmocka_unit_test(b49_fields_that_are_missing_or_of_another_kind),
        cmocka_unit_test(b49_a_status_unknown_to_us_is_passed_on),
        cmocka_unit_test(b56_as_many_rows_as_the_limit_and_no_more),
        cmocka_unit_test(b56_lists_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
