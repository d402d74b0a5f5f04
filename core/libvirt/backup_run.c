/* SPDX-License-Identifier: MIT */
/*
 * A running backup of a domain; see backup_run.h.
 */
#include "backup_run.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_MAX_LEN = 4096 }; /* QEMU's and libvirt's sentences are short */

void backup_run_clear(struct backup_run *backup)
{
    free(backup->failed_disk);
    free(backup->reason);
    *backup = (struct backup_run){0};
}

static void note_reason(struct backup_run *backup, const char *error)
{
    if (!backup->reason && error)
        backup->reason = strndup(error, (size_t)text_fit(error, ERROR_MAX_LEN));
}

void backup_run_part_ended(struct backup_run *backup, const char *disk, enum backup_end end,
                           const char *error)
{
    backup->was_cancelled |= end == BACKUP_CANCELLED;
    if (end != BACKUP_FAILED)
        return;
    if (!backup->has_failed)
        backup->failed_disk = strdup(disk);
    backup->has_failed = true;
    note_reason(backup, error);
}

void backup_run_result(struct backup_run *backup, bool succeeded, const char *error)
{
    backup->result = succeeded ? BACKUP_SUCCEEDED : BACKUP_DID_NOT_SUCCEED;
    note_reason(backup, error);
}

enum backup_end backup_run_end(const struct backup_run *backup, char **ret_error)
{
    const char *reason = backup->reason
                             ? backup->reason
                             : "libvirt says that the backup failed, and no reason: libvirt's log "
                               "or the guest's has it";
    *ret_error = NULL;
    if (backup->result == BACKUP_SUCCEEDED)
        return BACKUP_COMPLETED;
    if (!backup->has_failed && backup->was_cancelled)
        return BACKUP_CANCELLED;
    if (!backup->failed_disk)
        *ret_error = strdup(reason);
    else if (asprintf(ret_error, "%s: %s", backup->failed_disk, reason) < 0)
        *ret_error = NULL;
    return BACKUP_FAILED;
}
