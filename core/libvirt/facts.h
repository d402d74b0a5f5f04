/* SPDX-License-Identifier: MIT */
/*
 * What libvirt and QEMU report of a domain's jobs, combined into the facts of the job machine.
 *
 * libvirt's BLOCK_JOB_2 says that a job is ready or over, and means it: what it says is also what
 * libvirt's own state is, so that a pivot after its READY is taken (B64). Why a job failed, and
 * whether a cancelled copy is worth something (B66), only QEMU's own events say, which come before
 * it, if the driver hands them on; without them what is known of the job decides.
 *
 * Pure: no I/O, no libvirt. The loop's thread.
 */
#ifndef BJ_FACTS_H
#define BJ_FACTS_H

#include "backup_run.h"
#include "driver/driver.h"

/* virConnectDomainEventBlockJobStatus and virDomainBlockJobType, by their numbers: facts.c checks
 * nothing of libvirt's headers, domain_events.c asserts that they are the same. */
enum facts_status { FACTS_COMPLETED = 0, FACTS_FAILED = 1, FACTS_CANCELED = 2, FACTS_READY = 3 };
enum facts_type {
    FACTS_PULL = 1,
    FACTS_COPY = 2,
    FACTS_COMMIT = 3,
    FACTS_ACTIVE_COMMIT = 4,
    FACTS_BACKUP = 5
};

/* QEMU's word: "stream", "mirror", "commit", "backup"; "" for others. */
const char *facts_type_name(int type);

/* The type of a copy that libvirt makes for a migration with the disks' storage. To libvirt's
 * events it is FACTS_COPY, but it switches nothing on this host. */
#define FACTS_MIGRATION "migration"

/* The first libvirt that aborts a ready copy softly, so that its target stays whole. Those before
 * cancel it by force, which leaves a target that is not (C16). */
#define FACTS_FIRST_SOFT_ABORT 7003000UL

/* One a connection: what was missed between two of them is in none. */
struct facts;

/* `emit` is called from inside the functions below, and may call them. NULL: no memory. */
struct facts *facts_new(void (*emit)(void *user, const struct fact *fact), void *user);
void facts_free(struct facts *facts); /* takes NULL */

/* The version of the libvirt that handles the jobs, as virConnectGetLibVersion() has it; 0: not
 * known. Before anything is reported. */
void facts_set_version(struct facts *facts, unsigned long version);

/* None of QEMU's events will come. Before anything is reported. */
void facts_lack_qemu(struct facts *facts);

/* The alias of a disk, by which libvirt names a migration's job and no other
 * ("drive-virtio-disk0"); NULL: there is none. BJ_OK or BJ_E_NOMEM. */
int facts_set_alias(struct facts *facts, const char *disk, const char *alias);

/* The id of the job that this BLOCK_JOB_2 is about to end; NULL: it ends none. */
const char *facts_ended_id(const struct facts *facts, const char *disk, int type, int status);

/* BLOCK_JOB_2. BJ_OK or BJ_E_NOMEM. */
int facts_block_job(struct facts *facts, const char *disk, int type, int status);

/* JOB_COMPLETED of a backup, which is one job under the id BACKUP_ID; see backup_run.h. `error` may
 * be NULL. BJ_OK or BJ_E_NOMEM. */
int facts_backup_result(struct facts *facts, bool succeeded, const char *error);

/* An event of QEMU's: its name and its data (a JSON object; NULL: none). Only those of libvirt's
 * block jobs matter ("copy-vda-libvirt-2-format" is about vda, "backup-vda-libvirt-2-format" about
 * a part of the backup). BJ_OK or BJ_E_NOMEM. */
int facts_qemu_event(struct facts *facts, const char *event, const char *data,
                     int64_t timestamp_us);

/* Here and below, `disk` is the job's id: a disk's target, or BACKUP_ID.
 *
 * Our own calls, before they are made; and how the start of a job went. What is reported while a
 * start is on its way is of a run before (the fact says `earlier`), unless QEMU has reported a new
 * one since. BJ_OK or BJ_E_NOMEM. */
int facts_start_sent(struct facts *facts, const char *disk);
void facts_start_over(struct facts *facts, const char *disk, bool accepted);
void facts_pivot_sent(struct facts *facts, const char *disk);

/* The pivot that was sent at that facts_change_count() was refused, or was not sent after all. */
void facts_pivot_refused(struct facts *facts, const char *disk, uint64_t change_count);

/* What a list said: there is a job on the disk, and maybe it is ready. Never takes back what an
 * event said. BJ_OK or BJ_E_NOMEM. */
int facts_row(struct facts *facts, const char *disk, bool ready);

/* The same of a migration's copy. */
int facts_migration_row(struct facts *facts, const char *disk);

/* A list lacks the job, and its end is not on its way either: the disk has been switched, so it was
 * completed. BJ_OK or BJ_E_NOMEM. */
int facts_end_unseen(struct facts *facts, const char *disk, bool is_commit);

/* The same, and how it ended is not known. */
void facts_forget(struct facts *facts, const char *disk);

/* How many times so far a job has begun or ended: a list that was asked for before the last may be
 * older than what is known here. */
uint64_t facts_change_count(const struct facts *facts);
/* One has begun or ended on this disk since it was that. */
bool facts_has_changed_since(const struct facts *facts, const char *disk, uint64_t change_count);

/* A job is known to be there and its end was not reported yet. */
bool facts_is_active(const struct facts *facts, const char *disk);
bool facts_is_ready(const struct facts *facts, const char *disk);
bool facts_is_migration(const struct facts *facts, const char *disk);

/* libvirt has taken the start of one, and what is reported next is of the one before. */
bool facts_owes_earlier_end(const struct facts *facts, const char *disk);

/* Of the last job on the disk that is over: whether the disk was switched. */
enum disk_switch facts_switched(const struct facts *facts, const char *disk);

#endif
