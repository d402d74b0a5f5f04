/* SPDX-License-Identifier: MIT */
/*
 * A domain's disks, out of its XML: by which names each goes (B69), and what libvirt says there of
 * the job on it. No I/O; any thread.
 */
#ifndef BJ_DISKS_H
#define BJ_DISKS_H

#include <stdbool.h>
#include <stddef.h>

struct disk {
    char *target;      /* "vda" */
    char *alias;       /* libvirt names the job of a migration by it, and no other; NULL: none is */
    char *source;      /* the path of a file or a device, the name of a network disk; NULL: none */
    bool has_mirror;   /* a copy or an active commit is at work */
    bool mirror_ready; /* and was ready once (B27): libvirt takes a pivot, or has taken it */
    bool is_ending;    /* libvirt has taken a pivot or an abort of it */
    char *mirror;      /* where it goes to, as `source`; NULL: not given */
    bool is_commit;    /* it is an active commit */
    bool is_backed_up; /* by a backup that does not say of which disks it is */
};

struct disks {
    size_t count;
    struct disk *disks;
    char *backup; /* the list of those that the running backup is of; NULL: none */
};

/* BJ_OK; BJ_E_NOMEM; BJ_E_PROTOCOL: it is not a domain's XML. Nothing to clear then. */
int disks_parse(const char *xml, struct disks *ret);
void disks_clear(struct disks *disks);

/* By target, or by the path of its source. NULL: none. */
const struct disk *disks_find(const struct disks *disks, const char *name);

/* The targets of the disks that a <domainbackup> is of, as libvirt reads it, a newline after each;
 * malloc'ed. BJ_OK; BJ_E_NOMEM; BJ_E_PROTOCOL: it is no such XML. */
int disks_in_backup(const struct disks *disks, const char *xml, char **ret);
/* NULL is an empty list. */
bool disks_list_has(const char *list, const char *target);

#endif
