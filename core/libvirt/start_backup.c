/* SPDX-License-Identifier: MIT */
/*
 * The commands that start a backup; see start_parts.h.
 */
#include "start_parts.h"

#include <stdlib.h>
#include <string.h>

int start_check_backup(struct start *start, struct text **ret_text)
{
    if (*start->strings[TARGET] != '<')
        return BJ_OK;
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: \"target\" must be a path; virDomainBackupBegin takes XML",
                                    start->command->name),
                        ret_text);
}

/* -------------------------------------------------------------------- options */

struct one_disk {
    const struct start *start;
    const char *target;
};

/* Disks that are not in the list are not backed up. */
static void write_backup(FILE *out, const void *user)
{
    const struct one_disk *one = user;
    (void)fputs("<domainbackup><disks><disk", out);
    start_write_attribute(out, "name", one->target);
    start_write_attribute(out, "backupmode", "full");
    start_write_place(out, one->start, "target");
    (void)fputs("</disks></domainbackup>", out);
}

static int refuse_disk(const struct start *start, const char *name, struct text **ret_text)
{
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: the domain has no disk \"%.*s\"", start->command->name,
                                    text_fit(name, QUOTED_MAX), name),
                        ret_text);
}

int start_prepare_backup(struct start *start, const struct disks *disks, struct text **ret_text)
{
    const struct disk *disk = disks_find(disks, start->strings[DISK]);
    if (!disk)
        return refuse_disk(start, start->strings[DISK], ret_text);

    const struct one_disk one = {start, disk->target};
    start->strings[XML] = start_write_xml(write_backup, &one);
    return start->strings[XML] && asprintf(&start->disks, "%s\n", disk->target) >= 0 ? BJ_OK
                                                                                     : BJ_E_NOMEM;
}

/* --------------------------------------------------------------- libvirt's XML */

/* libvirt makes no job on a disk that the XML leaves out, and does not object to it. */
static int check_disk(const struct start *start, const struct disks *disks, struct text **ret_text)
{
    const char *name = start->strings[DISK];
    const struct disk *disk = disks_find(disks, name);
    if (!disk)
        return refuse_disk(start, name, ret_text);
    if (disks_list_has(start->disks, disk->target))
        return BJ_OK;
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: \"backupxml\" leaves out the disk \"%.*s\"",
                                    start->command->name, text_fit(name, QUOTED_MAX), name),
                        ret_text);
}

int start_prepare_backup_xml(struct start *start, const struct disks *disks, struct text **ret_text)
{
    int r = disks_in_backup(disks, start->strings[XML], &start->disks);
    if (r == BJ_E_PROTOCOL)
        return start_refuse(
            BJ_E_INVAL,
            text_printf("%s: \"backupxml\" is not a <domainbackup> in XML", start->command->name),
            ret_text);
    return r == BJ_OK ? check_disk(start, disks, ret_text) : r;
}

/* ----------------------------------------------------------------------- call */

int start_call_backup(const struct start *start, virDomainPtr domain, const char *disk)
{
    (void)disk; /* is in the XML */
    return virDomainBackupBegin(domain, start->strings[XML], start->strings[CHECKPOINT],
                                start->flags);
}
