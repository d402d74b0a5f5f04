/* SPDX-License-Identifier: MIT */
/*
 * QEMU's words about a domain's jobs; see facts.h.
 */
#include "facts_parts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_MAX_LEN = 4096 };

static const char *string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static const char *last_of(const char *text, const char *word)
{
    const char *last = NULL;
    for (const char *at = text; (at = strstr(at, word)); at++)
        last = at;
    return last;
}

static bool is_part(const char *job)
{
    return strncmp(job, "backup-", strlen("backup-")) == 0;
}

/* libvirt calls its jobs by what they do, the disk and the node: "copy-vda-libvirt-2-format". Old
 * ones, which had no backups yet, have nodes that QEMU has named: "copy-sda-#block145". *ret is
 * malloc'ed; NULL: it is none of these. BJ_OK or BJ_E_NOMEM. */
static int disk_of(const char *job, char **ret)
{
    static const char *const kinds[] = {"copy-", "commit-", "pull-", "backup-"};
    const char *disk = NULL;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(job, kinds[i], strlen(kinds[i])) == 0)
            disk = job + strlen(kinds[i]);
    const char *node = disk ? last_of(disk, "-libvirt-") : NULL;
    if (disk && !node && !is_part(job))
        node = strrchr(disk, '-');
    *ret = node ? strndup(disk, (size_t)(node - disk)) : NULL;
    return node && !*ret ? BJ_E_NOMEM : BJ_OK;
}

/* "drive-virtio-disk0" is a migration's copy. */
static struct run *run_by_alias(const struct facts *facts, const char *job)
{
    static const char prefix[] = "drive-";
    if (strncmp(job, prefix, strlen(prefix)) != 0)
        return NULL;
    for (size_t i = 0; i < facts->count; i++)
        if (facts->runs[i]->alias && strcmp(facts->runs[i]->alias, job + strlen(prefix)) == 0)
            return facts->runs[i];
    return NULL;
}

/* QEMU's sentences are short. Not cut inside of a character. */
static char *copy_error(const char *error)
{
    size_t len = strnlen(error, ERROR_MAX_LEN + 1);
    if (len > ERROR_MAX_LEN)
        for (len = ERROR_MAX_LEN; len > 0 && ((unsigned char)error[len] & 0xC0) == 0x80;)
            len--;
    return strndup(error, len);
}

static const char *stop_reason(const json_t *data)
{
    const char *operation = string_at(data, "operation");
    if (strcmp(operation, "read") == 0)
        return "a read error stopped it, and libvirt has no call that resumes it";
    if (strcmp(operation, "write") == 0)
        return "a write error stopped it, and libvirt has no call that resumes it";
    return "an I/O error stopped it, and libvirt has no call that resumes it";
}

static const char *type_in(const json_t *data)
{
    static const int types[] = {FACTS_PULL, FACTS_COPY, FACTS_COMMIT, FACTS_BACKUP};
    const char *type = string_at(data, "type");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, facts_type_name(types[i])) == 0)
            return facts_type_name(types[i]);
    return "";
}

static bool is_backup(const struct run *run)
{
    return strcmp(run->disk, BACKUP_ID) == 0;
}

/* The jobs of a backup are all created before one ends. */
static void note_created(struct facts *facts, struct run *run)
{
    if (!run->active || run->backup.jobs == 0)
        facts_begin_run(facts, run);
    run->is_followed = true;
    run->backup.jobs += is_backup(run);
}

/* True: no job of the run is left. */
static bool note_null(struct run *run)
{
    bool was_counted = run->backup.jobs > 0;
    run->backup.jobs -= was_counted;
    return run->backup.jobs == 0 && was_counted == is_backup(run);
}

/* A run begins with created; one that libvirt will never speak of ends with null alone (B41).
 * libvirt acts on the status "ready", so that its own word may come before BLOCK_JOB_READY. */
static void note_status(struct facts *facts, struct run *run, const char *status,
                        int64_t timestamp_us)
{
    facts->has_statuses = true;
    if (strcmp(status, "created") == 0)
        note_created(facts, run);
    else if (strcmp(status, "ready") == 0 && run->ready_us == 0)
        run->ready_us = timestamp_us;
    else if (strcmp(status, "null") == 0 && note_null(run) && run->end == QEMU_SAYS_NOTHING &&
             !facts_is_of_earlier_run(facts, run))
        facts_clear_run(run);
}

/* `disk` is only needed for a part of a backup. */
static void note_end(struct run *run, const char *disk, enum qemu_end end, const char *error,
                     int64_t timestamp_us)
{
    free(run->error);
    run->error = end == QEMU_FAILED ? copy_error(error) : NULL;
    run->end = end;
    run->end_us = timestamp_us;
    if (is_backup(run))
        backup_run_part_ended(&run->backup, disk,
                              end == QEMU_FAILED      ? BACKUP_FAILED
                              : end == QEMU_CANCELLED ? BACKUP_CANCELLED
                                                      : BACKUP_COMPLETED,
                              error);
}

static void note_error(const struct facts *facts, const struct run *run, const json_t *data,
                       int64_t timestamp_us)
{
    struct fact fact = {
        .kind = FACT_STOPPED,
        .error = stop_reason(data),
        .timestamp_us = timestamp_us,
    };
    const char *type = run->is_migration ? FACTS_MIGRATION : type_in(data);
    bool stops = strcmp(string_at(data, "action"), "stop") == 0; /* else it ends nothing (B12) */
    if (stops && facts_address(facts, run, type, &fact))
        facts->emit(facts->user, &fact);
}

static void note_event(struct facts *facts, struct run *run, const char *disk, const char *event,
                       const json_t *data, int64_t timestamp_us)
{
    const char *error = json_string_value(json_object_get(data, "error"));

    if (strcmp(event, "JOB_STATUS_CHANGE") == 0) {
        note_status(facts, run, string_at(data, "status"), timestamp_us);
        return;
    }
    facts_note_run(facts, run);
    if (strcmp(event, "BLOCK_JOB_READY") == 0)
        run->ready_us = timestamp_us;
    else if (strcmp(event, "BLOCK_JOB_COMPLETED") == 0)
        note_end(run, disk, error ? QEMU_FAILED : QEMU_COMPLETED, error, timestamp_us);
    else if (strcmp(event, "BLOCK_JOB_CANCELLED") == 0)
        note_end(run, disk, QEMU_CANCELLED, NULL, timestamp_us);
    else
        note_error(facts, run, data, timestamp_us);
}

static void note_migration_event(struct facts *facts, struct run *run, const char *event,
                                 const json_t *data, int64_t timestamp_us)
{
    if (strcmp(event, "JOB_STATUS_CHANGE") != 0)
        facts_note_run(facts, run);
    run->is_migration = true;
    note_event(facts, run, run->disk, event, data, timestamp_us);
    run->is_migration = run->active; /* "created" has cleared it */
}

/* What tells the job; NULL: the event is not about one. */
static const char *key_of(const char *event)
{
    static const char *const block_job[] = {"BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED",
                                            "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR"};
    for (size_t i = 0; i < sizeof block_job / sizeof block_job[0]; i++)
        if (strcmp(event, block_job[i]) == 0)
            return "device";
    return strcmp(event, "JOB_STATUS_CHANGE") == 0 ? "id" : NULL;
}

/* No number in it matters, and one of QEMU's may be beyond jansson's (B55). */
static int parse(const char *data, json_t **ret)
{
    json_error_t error;
    *ret = json_loads(data, JSON_DECODE_INT_AS_REAL, &error);
    return !*ret && json_error_code(&error) == json_error_out_of_memory ? BJ_E_NOMEM : BJ_OK;
}

int facts_qemu_event(struct facts *facts, const char *event, const char *data, int64_t timestamp_us)
{
    const char *key = key_of(event);
    json_t *object = NULL;
    char *disk = NULL;
    struct run *run = NULL;

    int r = key && data ? parse(data, &object) : BJ_OK;
    struct run *migrating = object ? run_by_alias(facts, string_at(object, key)) : NULL;
    if (object && !migrating)
        r = disk_of(string_at(object, key), &disk);
    if (disk)
        r = facts_get_run(facts, is_part(string_at(object, key)) ? BACKUP_ID : disk, &run);
    if (run)
        note_event(facts, run, disk, event, object, timestamp_us);
    if (migrating)
        note_migration_event(facts, migrating, event, object, timestamp_us);
    free(disk);
    json_decref(object);
    return r;
}
