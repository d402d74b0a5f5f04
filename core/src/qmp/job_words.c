/* SPDX-License-Identifier: MIT */
/*
 * QEMU's words for jobs; see job_words.h.
 */
#include "qmp/job_words.h"
#include "base/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "" if it is not there. */
static const char *string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* ------------------------------------------------------------------- events */

/* QEMU's ids and types are shorter than 128 bytes; a peer that sends more wants our memory. */
#define WORD_MAX 1024

static const char *word_of(const struct message *event, enum event_word word)
{
    return event->words[word] ? event->words[word] : "";
}

static const char *read_status(const struct message *event, struct fact *fact)
{
    fact->kind = FACT_STATUS;
    fact->status = job_status_of(word_of(event, WORD_STATUS));
    return word_of(event, WORD_ID);
}

static const char *read_block_job(const struct message *event, struct fact *fact)
{
    const char *id = word_of(event, WORD_DEVICE);
    fact->type = word_of(event, WORD_TYPE);
    return *id ? id : word_of(event, WORD_ID); /* PENDING's key is id (B42) */
}

static const char *stop_reason(const char *operation)
{
    if (strcmp(operation, "read") == 0)
        return "a read error stopped it: mend the source and resume it, or abort it with force";
    if (strcmp(operation, "write") == 0)
        return "a write error stopped it: make room or mend the target and resume it, or abort it "
               "with force";
    return "an I/O error stopped it: mend the cause and resume it, or abort it with force";
}

/* Of those that report their action as "report" the job ends by itself. */
static void read_error(const struct message *event, struct fact *fact)
{
    const char *operation = word_of(event, WORD_OPERATION);
    bool stops = strcmp(word_of(event, WORD_ACTION), "stop") == 0;

    fact->kind = stops ? FACT_STOPPED : FACT_IO_ERROR;
    fact->error = stops ? stop_reason(operation) : NULL;
    fact->writing = strcmp(operation, "write") == 0;
}

bool qmp_read_fact(const struct message *event, struct fact *ret)
{
    const char *name = event->name;
    const char *id = "";

    *ret = (struct fact){.type = "", .timestamp_us = event->timestamp_us};

    if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
        id = read_status(event, ret);
    } else if (strncmp(name, "BLOCK_JOB_", 10) == 0) {
        id = read_block_job(event, ret);
        name += 10;
        if (strcmp(name, "READY") == 0) {
            ret->kind = FACT_READY;
        } else if (strcmp(name, "COMPLETED") == 0) {
            ret->kind = FACT_COMPLETED;
            ret->error = event->words[WORD_ERROR];
        } else if (strcmp(name, "CANCELLED") == 0) {
            ret->kind = FACT_CANCELLED;
        } else if (strcmp(name, "PENDING") == 0) {
            ret->kind = FACT_PENDING;
        } else if (strcmp(name, "ERROR") == 0) {
            read_error(event, ret);
        } else {
            return false;
        }
    }
    ret->id = id;
    return *id != '\0' && strlen(id) <= WORD_MAX && strlen(ret->type) <= WORD_MAX;
}

/* -------------------------------------------------------------------- verbs */

static bool is_block_job(const char *type)
{
    static const char *const types[] = {"", "mirror", "commit", "stream", "backup"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

enum { WORDS = 3 };
static const char *const words[][WORDS] = {
    /* 3.0; before, and deprecated since 10.1 (B38); RHEL 6.2 and 1.0.50 (B57) */
    [VERB_COMPLETE] = {"job-complete", "block-job-complete"},
    [VERB_CANCEL] = {"block-job-cancel", "block_job_cancel"}, /* job-cancel always forces */
    [VERB_FORCE] = {"job-cancel", "block-job-cancel", "block_job_cancel"},
    [VERB_PAUSE] = {"job-pause", "block-job-pause"},
    [VERB_RESUME] = {"job-resume", "block-job-resume"},
    [VERB_SET_SPEED] = {"block-job-set-speed", "block_job_set_speed"},
    [VERB_CHANGE] = {"block-job-change"},
    [VERB_FINALIZE] = {"job-finalize", "block-job-finalize"},
    [VERB_DISMISS] = {"job-dismiss", "block-job-dismiss"},
};

const char *qmp_verb_command(enum verb verb, const char *type, qmp_has_command *has, void *user)
{
    if (verb == VERB_CANCEL && !is_block_job(type) && has(user, "job-cancel"))
        return "job-cancel"; /* a job without a disk knows no other */

    for (int i = 0; i < WORDS && words[verb][i]; i++)
        if (has(user, words[verb][i]))
            return words[verb][i];
    return NULL;
}

/* Force came with complete, in 1.3; who had neither refuses the word (B59). */
static bool knows_force(const char *command, qmp_has_command *has, void *user)
{
    return strcmp(command, "block-job-cancel") == 0 && has(user, "block-job-complete");
}

char *qmp_verb_arguments(const char *command, enum verb verb, const char *id, int64_t speed,
                         qmp_has_command *has, void *user)
{
    bool takes_id = strncmp(command, "job-", 4) == 0 ||
                    strcmp(command, "block-job-finalize") == 0 ||
                    strcmp(command, "block-job-dismiss") == 0;
    const char *key = takes_id ? "id" : "device";
    bool is_underscored = strcmp(command, "block_job_set_speed") == 0;
    char *quoted = json_text_quote(id);
    char more[48] = "";
    if (!quoted)
        return NULL;
    if (verb == VERB_SET_SPEED)
        snprintf(more, sizeof more, ",\"%s\":%lld", is_underscored ? "value" : "speed",
                 (long long)speed);
    else if (verb == VERB_FORCE && knows_force(command, has, user))
        strcpy(more, ",\"force\":true");

    char *text = json_text_join((const char *[]){"{\"", key, "\":", quoted, more, "}"}, 6, NULL);
    free(quoted);
    return text;
}

static bool is_word_of(const char *command, enum verb verb)
{
    for (int i = 0; i < WORDS && words[verb][i]; i++)
        if (strcmp(words[verb][i], command) == 0)
            return true;
    return false;
}

const char *qmp_verb_of(const char *command, const json_t *arguments, enum verb *ret_verb)
{
    const char *id = string_at(arguments, "id");
    if (!*id)
        id = string_at(arguments, "device");
    if (!*id)
        return NULL;
    if (strcmp(command, QMP_REOPEN) == 0) {
        *ret_verb = VERB_COMPLETE;
        return id;
    }
    int verb = VERB_COMPLETE;
    while (verb < VERB_COUNT && !is_word_of(command, (enum verb)verb))
        verb++;
    if (verb == VERB_COUNT)
        return NULL;
    bool forces = json_is_true(json_object_get(arguments, "force"));
    *ret_verb = verb == VERB_CANCEL && forces ? VERB_FORCE : (enum verb)verb;
    return id;
}

char *qmp_change_arguments(const char *id, const char *type, const char *options)
{
    json_t *given = json_text_object(options, NULL); /* was one when it was asked */
    bool adds_type = *type && !json_object_get(given, "type");
    json_decref(given);

    char *quoted_id = json_text_quote(id);
    char *quoted_type = adds_type ? json_text_quote(type) : strdup("");
    char *members = NULL, *text = NULL;
    if (quoted_id && quoted_type)
        members = json_text_join(
            (const char *[]){"\"id\":", quoted_id, adds_type ? ",\"type\":" : "", quoted_type}, 4,
            NULL);
    if (members)
        text = json_text_add_members(options, members);
    free(members);
    free(quoted_type);
    free(quoted_id);
    return text;
}

/* --------------------------------------------------------------------- rows */

/* strdup(), with "" for what is not there. NULL: no memory. */
static const char *copy(const char *s)
{
    return *s ? strdup(s) : "";
}

static int64_t integer_at(const json_t *object, const char *key, int64_t missing)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : missing;
}

/* A fact that only query-block-jobs tells, or both; what `block` says is nearer to the job. */
static const char *either(const json_t *block, const json_t *job, const char *key)
{
    const char *value = string_at(block, key);
    return *value ? value : string_at(job, key);
}

/* current == total means "ready" to everyone who looks; so it is not shown while it does not (B25).
 */
static void show_unready(bj_job_info *row)
{
    bool can_be_ready = strcmp(row->type, "mirror") == 0 || strcmp(row->type, "commit") == 0;
    bool ends = job_status_of(row->status) >= STATUS_WAITING;

    if (!can_be_ready || row->ready || ends || row->current != row->total || row->current < 0)
        return;
    if (row->current > 0)
        row->current--;
    else
        row->total = 1;
}

/* A QEMU before 2.2 does not say ready: of a mirror, equal and not empty is a sign of it, and on
 * RHEL 6.3 the only one (B26). A commit may be one that never is ready. */
static void show_old(bj_job_info *row)
{
    bool is_mirror = strcmp(row->type, "mirror") == 0;

    row->ready = is_mirror && row->current == row->total && row->total > 0;
    if (is_mirror && row->total == 0)
        row->total = 1; /* it has not begun: 0 == 0 would say that it is done (B25) */
}

/* strerror(ECANCELED): the error of a job that was cancelled (B21). */
#define CANCELLED "Operation canceled"

static bool has_io_error(const bj_job_info *row)
{
    return row->paused && *row->io_status && strcmp(row->io_status, "ok") != 0;
}

/* "" for a word that is too long to be one (WORD_MAX). */
static const char *word(const char *value)
{
    return strlen(value) <= WORD_MAX ? value : "";
}

static bool fill_info(bj_job_info *row, const json_t *block, const json_t *job)
{
    const char *id = word(string_at(job, "id"));
    const char *status = word(either(block, job, "status"));
    enum status known = job_status_of(status);

    *row = (bj_job_info){
        .id = copy(*id ? id : word(string_at(block, "device"))),
        .type = copy(word(either(block, job, "type"))),
        .status = copy(status),
        .error = copy(either(block, job, "error")),
        .io_status = copy(word(string_at(block, "io-status"))),
        .current = integer_at(block, "offset", integer_at(job, "current-progress", -1)),
        .total = integer_at(block, "len", integer_at(job, "total-progress", -1)),
        .speed = integer_at(block, "speed", -1),
        .ready = json_is_true(json_object_get(block, "ready")) || known == STATUS_READY ||
                 known == STATUS_STANDBY,
        .paused = json_is_true(json_object_get(block, "paused")) || known == STATUS_PAUSED ||
                  known == STATUS_STANDBY,
        .auto_dismiss = json_is_true(json_object_get(block, "auto-dismiss")),
        .auto_finalize = json_is_true(json_object_get(block, "auto-finalize")),
    };
    if (!row->id || !row->type || !row->status || !row->error || !row->io_status)
        return false;
    if (json_object_get(block, "ready") || *status)
        show_unready(row);
    else
        show_old(row);
    return true;
}

static bool fill_row(struct job_row *row, const json_t *block, const json_t *job)
{
    if (!fill_info(&row->info, block, job))
        return false;
    row->was_cancelled = strcmp(row->info.error, CANCELLED) == 0;
    row->has_io_error = has_io_error(&row->info);
    row->lacks_space = row->has_io_error && strcmp(row->info.io_status, "nospace") == 0;
    return true;
}

static bool is_kept(const struct row_filter *filter, size_t index, const char *id)
{
    return index < filter->limit || (filter->wants_row && filter->wants_row(filter->user, id));
}

/* query-block-jobs by id, so that a long list costs no more than its length. NULL: no memory. */
static json_t *index_devices(const json_t *block_jobs, const struct row_filter *filter)
{
    json_t *index = json_object();
    for (size_t i = 0; index && i < json_array_size(block_jobs); i++) {
        json_t *row = json_array_get(block_jobs, i);
        const char *id = string_at(row, "device");
        if (is_kept(filter, i, id) && json_object_set(index, id, row) != 0) {
            json_decref(index);
            return NULL;
        }
    }
    return index;
}

static bool add_row(struct job_list *list, const json_t *block, const json_t *job)
{
    struct job_row *rows = list->rows;
    if ((list->count & (list->count - 1)) == 0) /* a power of two: it is full */
        rows = reallocarray(list->rows, list->count ? 2 * list->count : 1, sizeof *rows);
    if (!rows)
        return false;
    list->rows = rows;
    rows[list->count] = (struct job_row){0};
    return fill_row(&rows[list->count++], block, job); /* also a half-filled one is freed with it */
}

/* query-jobs lists every job; before 3.0 query-block-jobs did. What that says of a device is told
 * of one job: copied for each of many rows of its name it would cost far more than the peer has
 * sent. */
static bool add_rows(struct job_list *list, json_t *devices, const json_t *block_jobs,
                     const json_t *jobs, const struct row_filter *filter)
{
    const json_t *rows = jobs ? jobs : block_jobs;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *id = string_at(row, jobs ? "id" : "device");
        if (!is_kept(filter, i, id))
            continue;
        list->is_cut = list->count >= 2 * filter->limit; /* the same ids again and again */
        if (list->is_cut)
            break;
        const json_t *block = jobs ? json_object_get(devices, id) : row;
        if (!add_row(list, block, jobs ? row : NULL))
            return false;
        if (jobs && block)
            json_object_del(devices, id);
    }
    return true;
}

struct job_list *qmp_read_rows(const json_t *block_jobs, const json_t *jobs,
                               const struct row_filter *filter)
{
    struct job_list *list = calloc(1, sizeof *list);
    json_t *devices = list ? index_devices(block_jobs, filter) : NULL;
    bool whole = devices && add_rows(list, devices, block_jobs, jobs, filter);
    json_decref(devices);
    if (whole)
        return list;
    job_list_free(list);
    return NULL;
}
