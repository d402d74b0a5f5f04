/* SPDX-License-Identifier: MIT */
/*
 * libvirt's and QEMU's words about a domain's jobs, put together; see facts.h. How QEMU's are read
 * is in facts_qemu.c.
 *
 * libvirt passes on what QEMU says when it hears it, and says its own when it has dealt with it. It
 * deals with a job to its end before it starts another on the same disk. So it is always
 *
 *   QEMU created .. QEMU READY, libvirt READY .. QEMU COMPLETED, CANCELLED .. libvirt's end
 *
 * and all of that before the next created.
 */
#include "facts_parts.h"

#include <stdlib.h>
#include <string.h>

enum {
    DISKS_MAX = 4096, /* a domain has a handful; a peer that names more wants our memory */
    WORD_MAX_LEN = 1024
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
        free(facts->runs[i]->alias);
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

int facts_get_run(struct facts *facts, const char *disk, struct run **ret)
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

/* --------------------------------------------------------------------- settings */

void facts_set_version(struct facts *facts, unsigned long version)
{
    facts->aborts_hard = version > 0 && version < FACTS_FIRST_SOFT_ABORT;
}

void facts_lack_qemu(struct facts *facts)
{
    facts->lacks_qemu = true;
}

static bool same_text(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* A disk that was unplugged may have left it to another. */
static void take_alias(struct facts *facts, const char *alias)
{
    for (size_t i = 0; alias && i < facts->count; i++)
        if (same_text(facts->runs[i]->alias, alias)) {
            free(facts->runs[i]->alias);
            facts->runs[i]->alias = NULL;
        }
}

int facts_set_alias(struct facts *facts, const char *disk, const char *alias)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (!run || same_text(run->alias, alias))
        return r;

    char *copy = alias ? strdup(alias) : NULL;
    if (alias && !copy)
        return BJ_E_NOMEM;
    take_alias(facts, alias);
    free(run->alias);
    run->alias = copy;
    return BJ_OK;
}

/* ---------------------------------------------------------------------- runs */

void facts_clear_run(struct run *run)
{
    free(run->error);
    run->error = NULL;
    backup_run_clear(&run->backup);
    run->active = run->ready = run->ready_emitted = false;
    run->pivot_sent = run->is_migration = run->is_known = run->is_followed = false;
    run->end = QEMU_SAYS_NOTHING;
    run->ready_us = run->end_us = 0;
}

void facts_begin_run(struct facts *facts, struct run *run)
{
    run->changed = ++facts->change_count;
    facts_clear_run(run);
    run->active = true;
    run->begun = run->starts > 0 && !run->taken;
    run->is_known = run->is_followed = run->begun || run->taken;
    run->taken = false;
}

/* Where QEMU tells of each run that begins there is no doubt; else one that is known to be there
 * has to end first. */
bool facts_is_of_earlier_run(const struct facts *facts, const struct run *run)
{
    bool is_starting = run->starts > 0 && !run->begun;
    return run->taken || (is_starting && (run->active || facts->has_statuses));
}

void facts_note_run(struct facts *facts, struct run *run)
{
    if (!run->active && facts_is_of_earlier_run(facts, run))
        run->active = true;
    else if (!run->active)
        facts_begin_run(facts, run);
}

/* Nothing more is to come of this run. Without a word of QEMU's what comes then is of the next. */
static void forget(struct facts *facts, struct run *run)
{
    run->changed = ++facts->change_count;
    facts_clear_run(run);
    if (run->taken && !facts->has_statuses)
        facts_begin_run(facts, run);
}

/* ------------------------------------------------------------- libvirt's words */

/* Where QEMU is silent only a list shows whether a copy is a migration's. */
static bool is_in_doubt(const struct facts *facts, const struct run *run, int type)
{
    return facts->lacks_qemu && !run->is_known && type == FACTS_COPY;
}

static const char *type_of(const struct facts *facts, const struct run *run, int type)
{
    if (run->is_migration)
        return FACTS_MIGRATION;
    return is_in_doubt(facts, run, type) ? "" : facts_type_name(type);
}

static bool can_switch(const struct run *run, int type)
{
    bool is_known = *facts_type_name(type) != '\0';
    if (run->is_migration)
        return false;
    return type == FACTS_COPY || type == FACTS_ACTIVE_COMMIT || (!is_known && run->ready);
}

/* Once libvirt has taken the next run, the disk's name is that one's. */
bool facts_address(const struct facts *facts, const struct run *run, const char *type,
                   struct fact *fact)
{
    fact->id = run->disk;
    fact->type = type;
    fact->earlier = facts_is_of_earlier_run(facts, run);
    return !run->taken;
}

/* Nobody can do anything about a migration's copy that is ready. */
static void emit_ready(const struct facts *facts, struct run *run, int type)
{
    struct fact fact = {.kind = FACT_READY, .timestamp_us = run->ready_us};
    bool is_news = !run->ready_emitted && !run->is_migration &&
                   facts_address(facts, run, type_of(facts, run, type), &fact);

    run->ready = run->ready_emitted = true;
    if (is_news)
        facts->emit(facts->user, &fact);
}

/* Whether a copy that was aborted is whole, where QEMU is silent. */
static bool is_whole(const struct facts *facts, const struct run *run, int type)
{
    return can_switch(run, type) && run->ready && !run->pivot_sent && !facts->aborts_hard;
}

/* What libvirt calls canceled is what someone has asked it to abort, however it went (B17). A copy
 * that was ready is then whole (B66). */
static struct fact canceled(const struct facts *facts, const struct run *run, int type)
{
    enum qemu_end end = run->end;
    if (end == QEMU_SAYS_NOTHING)
        end = is_whole(facts, run, type) ? QEMU_COMPLETED : QEMU_CANCELLED;
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
        : run->is_migration
            ? "the migration was cancelled or has failed: libvirt's log or the guest's has the reason"
            : "libvirt says that it failed, and no reason: libvirt's log or the guest's has it";
    return (struct fact){.kind = FACT_COMPLETED, .error = error};
}

static struct fact end_of(const struct facts *facts, const struct run *run, int type, int status)
{
    if (status == FACTS_FAILED)
        return failed(run);
    if (status == FACTS_CANCELED)
        return canceled(facts, run, type);
    return (struct fact){.kind = FACT_COMPLETED};
}

/* A libvirtd that was killed while it pivoted or aborted a copy leaves the next one a job that has
 * concluded, and no word of what it was told to do: that one says completed of both, and takes
 * neither disk for switched. */
static enum disk_switch switch_of(const struct facts *facts, const struct run *run, int type,
                                  int status)
{
    if (!can_switch(run, type) || is_in_doubt(facts, run, type) || status == FACTS_FAILED)
        return SWITCH_UNKNOWN;
    if (status != FACTS_COMPLETED)
        return NOT_SWITCHED;
    return run->is_followed || run->pivot_sent ? SWITCHED : SWITCH_UNKNOWN;
}

/* Whether a commit that completed has switched is only asked of one that was ready. */
static bool has_been_ready(const struct fact *fact, int type)
{
    return type == FACTS_ACTIVE_COMMIT && fact->kind == FACT_COMPLETED && !fact->error;
}

static void finish(struct facts *facts, struct run *run, const char *type, struct fact *fact,
                   enum disk_switch switched)
{
    bool is_news = facts_address(facts, run, type, fact);
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
    struct fact fact = end_of(facts, run, type, status);
    if (has_been_ready(&fact, type))
        emit_ready(facts, run, type);
    finish(facts, run, type_of(facts, run, type), &fact, switch_of(facts, run, type, status));
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
    int r = facts_get_run(facts, BACKUP_ID, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
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
    int r = facts_get_run(facts, BACKUP_ID, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    backup_run_result(&run->backup, succeeded, error);
    return BJ_OK;
}

static bool is_end(int status)
{
    return status == FACTS_COMPLETED || status == FACTS_FAILED || status == FACTS_CANCELED;
}

const char *facts_ended_id(const struct facts *facts, const char *disk, int type, int status)
{
    if (!is_end(status) || type != FACTS_BACKUP)
        return is_end(status) ? disk : NULL;
    const struct run *run = find_run(facts, BACKUP_ID);
    return run && run->backup.result != BACKUP_GOES_ON ? BACKUP_ID : NULL;
}

int facts_block_job(struct facts *facts, const char *disk, int type, int status)
{
    struct run *run = NULL;
    if (!is_end(status) && status != FACTS_READY)
        return BJ_OK; /* one of a later libvirt */
    if (type == FACTS_BACKUP)
        return is_end(status) ? note_part(facts, disk, status) : BJ_OK;

    int r = facts_get_run(facts, disk, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    run->is_known |= status == FACTS_CANCELED; /* which no migration is */
    if (is_end(status))
        emit_end(facts, run, type, status);
    else
        emit_ready(facts, run, type);
    return BJ_OK;
}

/* ------------------------------------------------------------------- our words */

int facts_start_sent(struct facts *facts, const char *disk)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
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
        facts_begin_run(facts, run);
    run->is_known |= !in_doubt;
    run->is_followed |= !in_doubt;
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

void facts_pivot_refused(struct facts *facts, const char *disk, uint64_t change_count)
{
    struct run *run = find_run(facts, disk);
    if (run && run->changed <= change_count)
        run->pivot_sent = false;
}

static int note_row(struct facts *facts, const char *disk, bool ready, bool is_migration)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (run && !facts_is_of_earlier_run(facts, run)) {
        if (!run->active)
            facts_begin_run(facts, run);
        run->ready |= ready;
        run->is_migration |= is_migration;
        run->is_known = true;
    }
    return r;
}

int facts_row(struct facts *facts, const char *disk, bool ready)
{
    return note_row(facts, disk, ready, false);
}

int facts_migration_row(struct facts *facts, const char *disk)
{
    return note_row(facts, disk, false, true);
}

int facts_end_unseen(struct facts *facts, const char *disk, bool is_commit)
{
    struct run *run;
    int r = facts_get_run(facts, disk, &run);
    if (!run)
        return r;
    facts_note_run(facts, run);
    run->is_followed = true; /* the disk has shown it */
    return facts_block_job(facts, disk, is_commit ? FACTS_ACTIVE_COMMIT : FACTS_COPY,
                           FACTS_COMPLETED);
}

void facts_forget(struct facts *facts, const char *disk)
{
    struct run *run = find_run(facts, disk);
    if (run) {
        run->taken = false;
        facts_clear_run(run);
    }
}

uint64_t facts_change_count(const struct facts *facts)
{
    return facts->change_count;
}

bool facts_has_changed_since(const struct facts *facts, const char *disk, uint64_t change_count)
{
    const struct run *run = find_run(facts, disk);
    return run && run->changed > change_count;
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

bool facts_is_migration(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && run->is_migration && !run->taken;
}

bool facts_owes_earlier_end(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run && run->taken;
}

enum disk_switch facts_switched(const struct facts *facts, const char *disk)
{
    const struct run *run = find_run(facts, disk);
    return run ? run->switched : SWITCH_UNKNOWN;
}
