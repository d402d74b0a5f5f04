/* SPDX-License-Identifier: MIT */
/*
 * A running backup of a domain: one job of libvirt's, which has a job of QEMU's for each of its
 * disks (its parts). It succeeds or fails as a whole, and libvirt removes the files of a failed
 * one, so that how a part has ended says nothing of the backup.
 *
 * Measured with libvirt 9.0: all parts are created before one ends; each part has a BLOCK_JOB_2 of
 * its own; JOB_COMPLETED, with the result of the whole, comes right before the last of them. Where
 * the domain is destroyed there is a JOB_COMPLETED, too, but no BLOCK_JOB_2 follows it.
 *
 * Pure, as facts.h.
 */
#ifndef BJ_BACKUP_RUN_H
#define BJ_BACKUP_RUN_H

#include <stdbool.h>

/* The id of the job. No disk has such a target. */
#define BACKUP_ID "backup"

/* Of a part, or of the whole. */
enum backup_end { BACKUP_COMPLETED, BACKUP_FAILED, BACKUP_CANCELLED };
enum backup_result { BACKUP_GOES_ON, BACKUP_SUCCEEDED, BACKUP_DID_NOT_SUCCEED };

struct backup_run {
    unsigned jobs; /* of QEMU's that are there */
    bool has_failed, was_cancelled;
    enum backup_result result;
    char *failed_disk; /* the first; NULL: none, or no memory */
    char *reason;      /* why, by QEMU or else by libvirt; NULL: the same */
};

void backup_run_clear(struct backup_run *backup);

/* What QEMU, or else libvirt, says of a part. `error` may be NULL. */
void backup_run_part_ended(struct backup_run *backup, const char *disk, enum backup_end end,
                           const char *error);

/* JOB_COMPLETED. */
void backup_run_result(struct backup_run *backup, bool succeeded, const char *error);

/* After the result: how the whole ended. A pull backup ends when its client cancels it, which
 * libvirt calls a success, and so it is. *ret_error is malloc'ed, or NULL for a lack of memory;
 * only of a backup that failed. */
enum backup_end backup_run_end(const struct backup_run *backup, char **ret_error);

#endif
