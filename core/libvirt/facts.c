/* SPDX-License-Identifier: MIT */
/*
 * libvirt's and QEMU's words about a domain's jobs, put together; see facts.h.
 *
 * libvirt passes on what QEMU says when it hears it, and says its own when it has dealt with it. It
 * deals with a job to its end before it starts another on the same disk. So it is always
 *
 *   QEMU created .. QEMU READY, libvirt READY .. QEMU COMPLETED, CANCELLED .. libvirt's end
 *
 * and all of that before the next created.
 */
#include "facts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum {
    DISKS_MAX = 4096, /* a domain has a handful; a peer that names more wants our memory */
    WORD_MAX_LEN = 1024,
    ERROR_MAX_LEN = 4096
};

enum qemu_end { QEMU_SAYS_NOTHING, QEMU_COMPLETED, QEMU_FAILED, QEMU_CANCELLED };

/* The job of a disk, or the backup. Lives as long as the facts. */
struct run {
    bool active; /* it is there, and libvirt has not reported its end */
    bool ready;
    bool ready_emitted;
    bool pivot_sent;

    /* Said by QEMU of the run that is active. */
    enum qemu_end end;
    char *error; /* QEMU_FAILED: its text; NULL: no memory for it */
    int64_t ready_us;
    int64_t end_us;

    unsigned starts; /* of ours that are on their way */
    bool begun;      /* what is known above is of a run that one of them has begun */
    bool taken;      /* libvirt has taken one, and nothing of its run was reported before */

    enum disk_switch switched; /* of the last that is over */
    struct backup_run backup;
    char disk[]; /* or BACKUP_ID */
};

struct facts {
    void (*emit)(void *user, const struct fact *fact);
    void *user;
    bool has_statuses; /* QEMU tells of each new run, and libvirt passes it on */
    uint64_t change_count;
    size_t count, room;
    struct run **runs; /* sorted by disk */
};

const char *facts_type_name(int type)
{
    switch (type) {
    case FACTS_PULL:
        return "stream";
    case FACTS_COPY:
        return "mirror";
    case FACTS_COMMIT:
    case FACTS_ACTIVE_COMMIT:
        return "commit";
    case FACTS_BACKUP:
        return "backup";
    default:
        return "";
    }
}

/* -------------------------------------------------------------------- memory */

struct facts *facts_new(void (*emit)(void *user, const struct fact *fact), void *user)
{
    struct facts *facts = calloc(1, sizeof *facts);
    if (facts) {
        facts->emit = emit;
        facts->user = user;
    }
    return facts;
}

void facts_free(struct facts *facts)
{
    if (!facts)
        return;
    for (size_t i = 0; i < facts->count; i++) {
        free(facts->runs[i]->error);
        backup_run_clear(&facts->runs[i]->backup);
        free(facts->runs[i]);
    }
    free(facts->runs);
    free(facts);
}

/* Where the disk is, or belongs. */
static size_t place_of(const struct facts *facts, const char *disk)
{
    size_t low = 0, high = facts->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(facts->runs[middle]->disk, disk) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct run *run_at(const struct facts *facts, size_t place, const char *disk)
{
    bool is_there = place < facts->count && strcmp(facts->runs[place]->disk, disk) == 0;
    return is_there ? facts->runs[place] : NULL;
}

static struct run *find_run(const struct facts *facts, const char *disk)
{
    return run_at(facts, place_of(facts, disk), disk);
}

static bool make_room(struct facts *facts)
{
    if (facts->count < facts->room)
        return true;
    size_t room = facts->room ? facts->room * 2 : 8;
    struct run **runs = reallocarray(facts->runs, room, sizeof(struct run *));
    if (!runs)
        return false;
    facts->runs = runs;
    facts->room = room;
    return true;
}

static bool is_name(const char *disk)
{
    return *disk && strlen(disk) <= WORD_MAX_LEN;
}

/* *ret is NULL if it is not one that is to be remembered. BJ_OK or BJ_E_NOMEM. */
static int get_run(struct facts *facts, const char *disk, struct run **ret)
{
    size_t place = place_of(facts, disk);
    *ret = run_at(facts, place, disk);
    if (*ret || !is_name(disk) || facts->count == DISKS_MAX)
        return BJ_OK;

    size_t len = strlen(disk);
    struct run *run = make_room(facts) ? calloc(1, sizeof *run + len + 1) : NULL;
    if (!run)
        return BJ_E_NOMEM;
    memcpy(run->disk, disk, len + 1);
    memmove(&facts->runs[place + 1], &facts->runs[place],
            (facts->count - place) * sizeof(struct run *));
    facts->runs[place] = *ret = run;
    facts->count++;
    return BJ_OK;
}

/* ---------------------------------------------------------------------- runs */

static void clear(struct run *run)
{
    free(run->error);
    run->error = NULL;
    backup_run_clear(&run->backup);
    run->active = run->ready = run->ready_emitted = run->pivot_sent = false;
    run->end = QEMU_SAYS_NOTHING;
    run->ready_us = run->end_us = 0;
}

/* Nothing that was known is of this one. */
static void begin(struct facts *facts, struct run *run)
{
    facts->change_count++;
    clear(run);
    run->active = true;
    run->begun = run->starts > 0 && !run->taken;
    run->taken = false;
}

/* What comes now is of the run before the one that is being started. Where QEMU tells of each that
 * begins there is no doubt; else one that is known to be there has to end first. */
static bool is_of_earlier_run(const struct facts *facts, const struct run *run)
{
    bool is_starting = run->starts > 0 && !run->begun;
    return run->taken || (is_starting && (run->active || facts->has_statuses));
}

/* Something was reported of the job that the disk has. */
static void note_run(struct facts *facts, struct run *run)
{
    if (!run->active && is_of_earlier_run(facts, run))
        run->active = true;
    else if (!run->active)
        begin(facts, run);
}

/* Nothing more is to come of this run. Without a word of QEMU's what comes then is of the next. */
static void forget(struct facts *facts, struct run *run)
{
    facts->change_count++;
    clear(run);
    if (run->taken && !facts->has_statuses)
        begin(facts, run);
}

/* ------------------------------------------------------------- libvirt's words */

static bool can_switch(const struct run *run, int type)
{
    bool is_known = *facts_type_name(type) != '\0';
    return type == FACTS_COPY || type == FACTS_ACTIVE_COMMIT || (!is_known && run->ready);
}

/* False: it is nobody's. Once libvirt has taken the next run, the disk's name is that one's. */
static bool address(const struct facts *facts, const struct run *run, const char *type,
                    struct fact *fact)
{
    fact->id = run->disk;
    fact->type = type;
    fact->earlier = is_of_earlier_run(facts, run);
    return !run->taken;
}

static void emit_ready(const struct facts *facts, struct run *run, const char *type)
{
    struct fact fact = {.kind = FACT_READY, .timestamp_us = run->ready_us};
    bool is_news = !run->ready_emitted && address(facts, run, type, &fact);

    run->ready = run->ready_emitted = true;
    if (is_news)
        facts->emit(facts->user, &fact);
}

/* What libvirt calls canceled is what someone has asked it to abort, however it went (B17). A copy
 * that was ready is then whole (B66). */
static struct fact canceled(const struct run *run, int type)
{
    enum qemu_end end = run->end;
    if (end == QEMU_SAYS_NOTHING)
        end = can_switch(run, type) && run->ready && !run->pivot_sent ? QEMU_COMPLETED
                                                                      : QEMU_CANCELLED;
    if (end == QEMU_CANCELLED)
        return (struct fact){.kind = FACT_CANCELLED};
    return (struct fact){
        .kind = FACT_COMPLETED,
        .error = end != QEMU_FAILED ? NULL
                 : run->error       ? run->error
                                    : "it failed",
    };
}

/* libvirt knows why, but does not tell; a cancel that it was not asked for is an error to it. */
static struct fact failed(const struct run *run)
{
    if (run->end == QEMU_CANCELLED)
        return (struct fact){.kind = FACT_CANCELLED};
    const char *error =
        run->end == QEMU_FAILED && run->error ? run->error
        : run->end == QEMU_COMPLETED
            ? "QEMU has completed it, and libvirt says that it failed: libvirt's log has the reason"
            : "libvirt says that it failed, and no reason: libvirt's log or the guest's has it";
    return (struct fact){.kind = FACT_COMPLETED, .error = error};
}

static struct fact end_of(const struct run *run, int type, int status)
{
    if (status == FACTS_FAILED)
        return failed(run);
    if (status == FACTS_CANCELED)
        return canceled(run, type);
    return (struct fact){.kind = FACT_COMPLETED};
}

static enum disk_switch switch_of(const struct run *run, int type, int status)
{
    if (!can_switch(run, type) || status == FACTS_FAILED)
        return SWITCH_UNKNOWN;
    return status == FACTS_COMPLETED ? SWITCHED : NOT_SWITCHED;
}

/* Whether a commit that completed has switched is only asked of one that was ready. */
static bool has_been_ready(const struct fact *fact, int type)
{
    return type == FACTS_ACTIVE_COMMIT && fact->kind == FACT_COMPLETED && !fact->error;
}

static void finish(struct facts *facts, struct run *run, const char *type, struct fact *fact,
                   enum disk_switch switched)
{
    bool is_news = address(facts, run, type, fact);
    char *error = run->error; /* the fact's, until it was emitted */
    fact->timestamp_us = run->end_us;
    run->switched = switched;
    run->error = NULL;
    forget(facts, run);
    if (is_news)
        facts->emit(facts->user, fact);
    free(error);
}

static void emit_end(struct facts *facts, struct run *run, int type, int status)
{
    struct fact fact = end_of(run, type, status);
    if (has_been_ready(&fact, type))
        emit_ready(facts, run, facts_type_name(type));
    finish(facts, run, facts_type_name(type), &fact, switch_of(run, type, status));
}

static void emit_backup_end(struct facts *facts, struct run *run)
{
    char *error;
    enum backup_end end = backup_run_end(&run->backup, &error);
    struct fact fact = {
        .kind = end == BACKUP_CANCELLED ? FACT_CANCELLED : FACT_COMPLETED,
        .error = end != BACKUP_FAILED ? NULL
                 : error              ? error
                                      : "it failed",
    };
    finish(facts, run, facts_type_name(FACTS_BACKUP), &fact, SWITCH_UNKNOWN);
    free(error);
}

/* QEMU has said more of the part, and before, if libvirt hands it on. The last part to end ends the
 * backup: its result has come then. */
static int note_part(struct facts *facts, const char *disk, int status)
{
    struct run *run;
    int r = get_run(facts, BACKUP_ID, &run);
    if (!run)
        return r;
    note_run(facts, run);
    if (run->end == QEMU_SAYS_NOTHING)
        backup_run_part_ended(&run->backup, disk,
                              status == FACTS_FAILED     ? BACKUP_FAILED
                              : status == FACTS_CANCELED ? BACKUP_CANCELLED
                                                         : BACKUP_COMPLETED,
                              NULL);
    if (run->backup.result != BACKUP_GOES_ON)
        emit_backup_end(facts, run);
    return BJ_OK;
}

int facts_backup_result(struct facts *facts, bool succeeded, const char *error)
{
    struct run *run;
    int r = get_run(facts, BACKUP_ID, &run);
    if (!run)
        return r;
    note_run(facts, run);
    backup_run_result(&run->backup, succeeded, error);
    return BJ_OK;
}

int facts_block_job(struct facts *facts, const char *disk, int type, int status)
{
    struct run *run = NULL;
    bool is_end = status == FACTS_COMPLETED || status == FACTS_FAILED || status == FACTS_CANCELED;
    if (!is_end && status != FACTS_READY)
        return BJ_OK; /* one of a later libvirt */
    if (type == FACTS_BACKUP)
        return note_part(facts, disk, status);

    int r = get_run(facts, disk, &run);
    if (!run)
        return r;
    note_run(facts, run);
    if (is_end)
        emit_end(facts, run, type, status);
    else
        emit_ready(facts, run, facts_type_name(type));
    return BJ_OK;
}

/* ---------------------------------------------------------------- QEMU's words */

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

/* libvirt calls its jobs by what they do, the disk and the node: "copy-vda-libvirt-2-format". Those
 * of a QEMU without named nodes, before 4.2, are not recognised by their names. *ret is malloc'ed;
 * NULL: it is none of these. BJ_OK or BJ_E_NOMEM. */
static int disk_of(const char *job, char **ret)
{
    static const char *const kinds[] = {"copy-", "commit-", "pull-", "backup-"};
    const char *disk = NULL;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(job, kinds[i], strlen(kinds[i])) == 0)
            disk = job + strlen(kinds[i]);
    const char *node = disk ? last_of(disk, "-libvirt-") : NULL;
    if (disk && !node)
        node = strrchr(disk, '-');
    *ret = node ? strndup(disk, (size_t)(node - disk)) : NULL;
    return node && !*ret ? BJ_E_NOMEM : BJ_OK;
}

static bool is_part(const char *job)
{
    return strncmp(job, "backup-", strlen("backup-")) == 0;
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
        begin(facts, run);
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
             !is_of_earlier_run(facts, run))
        clear(run);
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
    bool stops = strcmp(string_at(data, "action"), "stop") == 0; /* else it ends nothing (B12) */
    if (stops && address(facts, run, type_in(data), &fact))
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
    note_run(facts, run);
    if (strcmp(event, "BLOCK_JOB_READY") == 0)
        run->ready_us = timestamp_us;
    else if (strcmp(event, "BLOCK_JOB_COMPLETED") == 0)
        note_end(run, disk, error ? QEMU_FAILED : QEMU_COMPLETED, error, timestamp_us);
    else if (strcmp(event, "BLOCK_JOB_CANCELLED") == 0)
        note_end(run, disk, QEMU_CANCELLED, NULL, timestamp_us);
    else
        note_error(facts, run, data, timestamp_us);
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
    if (object)
        r = disk_of(string_at(object, key), &disk);
    if (disk)
        r = get_run(facts, is_part(string_at(object, key)) ? BACKUP_ID : disk, &run);
    if (run)
        note_event(facts, run, disk, event, object, timestamp_us);
    free(disk);
    json_decref(object);
    return r;
}

/* ------------------------------------------------------------------- our words */

int facts_start_sent(struct facts *facts, const char *disk)
{
    struct run *run;
    int r = get_run(facts, disk, &run);
    if (run)
        run->starts++;
    return r;
}

/* libvirt takes one only when the run before has ended; that need not have reached us. */
static void start_taken(struct facts *facts, struct run *run)
{
    bool in_doubt = run->active || facts->has_statuses;
    if (run->begun)
        return;
    if (in_doubt)
        run->taken = true;
    else
        begin(facts, run);
}

void facts_start_over(struct facts *facts, const char *disk, bool accepted)
{
    struct run *run = find_run(facts, disk);
    if (!run || run->starts == 0)
        return;
    run->starts--;
    if (accepted)
        start_taken(facts, run);
    run->begun = false; /* what others begin is to come */
}

void facts_pivot_sent(struct facts *facts, const char *disk)
{
    struct run *run = find_run(facts, disk);
    if (run)
        run->pivot_sent = true;
}

int facts_row(struct facts *facts, const char *disk, bool ready)
{
    struct run *run;
    int r = get_run(facts, disk, &run);
    if (run && !is_of_earlier_run(facts, run)) {
        if (!run->active)
            begin(facts, run);
        run->ready |= ready;
    }
    return r;
}

void facts_forget(struct facts *facts, const char *disk)
{
    struct run *run = find_run(facts, disk);
    if (run) {
        run->taken = false;
        clear(run);
    }
}

uint64_t facts_change_count(const struct facts *facts)
{
    return facts->change_count;
}

bool facts_is_active(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && (run->active || run->taken);
}

bool facts_is_ready(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && run->ready && !run->taken;
}

enum disk_switch facts_switched(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run ? run->switched : SWITCH_UNKNOWN;
}
