/* SPDX-License-Identifier: MIT */
/*
 * What the two sources of facts share: libvirt's words (facts.c) and QEMU's (facts_qemu.c); see
 * facts.h.
 */
#ifndef BJ_FACTS_PARTS_H
#define BJ_FACTS_PARTS_H

#include "facts.h"

enum qemu_end { QEMU_SAYS_NOTHING, QEMU_COMPLETED, QEMU_FAILED, QEMU_CANCELLED };

/* The job of a disk, or the backup. Lives as long as the facts. */
struct run {
    bool active;      /* it is there, and libvirt has not reported its end */
    uint64_t changed; /* the change count when it last began or ended */
    bool ready;
    bool ready_emitted;
    bool pivot_sent;
    bool is_migration;
    bool is_known;    /* whether it is a migration's, where QEMU is silent */
    bool is_followed; /* this libvirtd knows it from its beginning */

    /* Said by QEMU of the run that is active. */
    enum qemu_end end;
    char *error; /* QEMU_FAILED: its text; NULL: no memory for it */
    int64_t ready_us;
    int64_t end_us;

    unsigned starts; /* of ours that are on their way */
    bool begun;      /* what is known above is of a run that one of them has begun */
    bool taken;      /* libvirt has taken one, and nothing of its run was reported before */

    enum disk_switch switched; /* of the last that is over */
    char *alias;               /* of the disk; NULL: not known */
    struct backup_run backup;
    char disk[]; /* or BACKUP_ID */
};

struct facts {
    void (*emit)(void *user, const struct fact *fact);
    void *user;
    bool has_statuses; /* QEMU tells of each new run, and libvirt passes it on */
    bool lacks_qemu;   /* no event of QEMU's comes */
    bool aborts_hard;  /* this libvirt spoils a ready copy that it aborts */
    uint64_t change_count;
    size_t count, room;
    struct run **runs; /* sorted by disk */
};

/* *ret is NULL if it is not one that is to be remembered. BJ_OK or BJ_E_NOMEM. */
int facts_get_run(struct facts *facts, const char *disk, struct run **ret);

void facts_clear_run(struct run *run);

/* A new run: nothing that was known is of it. */
void facts_begin_run(struct facts *facts, struct run *run);

/* Something was reported of the job that the disk has. */
void facts_note_run(struct facts *facts, struct run *run);

/* What comes now is of the run before the one that is being started. */
bool facts_is_of_earlier_run(const struct facts *facts, const struct run *run);

/* Fills in whose fact it is. False: it is nobody's. */
bool facts_address(const struct facts *facts, const struct run *run, const char *type,
                   struct fact *fact);

#endif
