/* SPDX-License-Identifier: MIT */
/*
 * What became of a run while the program was away: what is remembered of it, held against what QEMU
 * shows now. Pure.
 *
 * Ids are used again, and so are sockets. So a run goes on only where nothing speaks against it,
 * and has only the outcome that something proves; else it is LOST.
 */
#ifndef BJ_MODEL_MEMORY_H
#define BJ_MODEL_MEMORY_H

#include "model/words.h"

#include <stddef.h>

/* ------------------------------------------------------------------ identity */

/* A QEMU or a domain, by what stays the same for as long as it lives. "" is what is not known. */
struct identity {
    const char *boot;    /* of the host that `process` is of */
    const char *process; /* and when it began */
    const char *version; /* of QEMU */
    const char *socket;  /* when that was made, "@", and where it is */
};

enum same_peer { PEER_SAME, PEER_OTHER, PEER_REBOOTED, PEER_UNKNOWN };
enum same_peer identity_compare(const struct identity *then, const struct identity *now);

/* --------------------------------------------------------------------- memory */

/* What is remembered of a machine. The values are in memos that programs keep: they never change.
 */
enum memory_fact {
    MEMORY_READY = 1 << 0,
    MEMORY_DONE = 1 << 1,     /* it was waiting or pending */
    MEMORY_ABORTING = 1 << 2, /* it was aborting */
    MEMORY_COMPLETE_SENT = 1 << 3,
    MEMORY_CANCEL_SENT = 1 << 4,
    MEMORY_FORCE_SENT = 1 << 5,
    MEMORY_COMPLETE_TAKEN = 1 << 6, /* QEMU accepted it */
    MEMORY_CANCEL_TAKEN = 1 << 7,
    MEMORY_FORCE_TAKEN = 1 << 8,
    MEMORY_OURS = 1 << 9,    /* it is to be dismissed by us */
    MEMORY_UNIQUE = 1 << 10, /* its id was made up: no other job has it */
    MEMORY_ALL = (1 << 11) - 1
};

/* A run that is followed already, and has the id. */
enum known_run {
    KNOWN_NONE,
    KNOWN_SINCE_LATER,  /* its beginning was seen, after the last of this was */
    KNOWN_SINCE_EARLIER /* it had the id when the last of this was seen */
};

struct memory {
    unsigned facts;
    const char *type;       /* "" if it was not known */
    int64_t current, total; /* -1 if unknown */
    enum same_peer peer;
    enum known_run known;
};

/* Whatever has its id where it was followed is that run, not one that was given the id later: what
 * is remembered of verbs holds. */
static inline bool memory_is_certain(const struct memory *memory)
{
    return (memory->facts & MEMORY_UNIQUE) ||
           ((memory->facts & MEMORY_OURS) && memory->peer == PEER_SAME);
}

/* ---------------------------------------------------------------------- rules */

enum memory_condition {
    IS_REBOOTED = 1 << 0,       /* the host was booted since */
    IS_OTHER_PEER = 1 << 1,     /* it is another QEMU */
    IS_UNKNOWN_PEER = 1 << 2,   /* it may be another one */
    IS_LISTED = 1 << 3,         /* there is a job of its id; the next six are of that */
    IS_OTHER_TYPE = 1 << 4,     /* of another type */
    IS_OTHER_SIZE = 1 << 5,     /* its total is one that this run can't have */
    HAS_DONE_LESS = 1 << 6,     /* its current is less than it was */
    IS_UNREADY = 1 << 7,        /* it is at work and not ready, and this run was */
    IS_EARLIER = 1 << 8,        /* it is at work, and this run had done its work */
    FITS = 1 << 9,              /* type, total and current are known, and fit */
    HAS_UNIQUE_ID = 1 << 10,    /* an id that no other job has */
    MAY_SWITCH = 1 << 11,       /* the graph may show what became of it */
    WAS_LOOKED_AT = 1 << 12,    /* the graph was compared */
    HAS_SWITCHED = 1 << 13,     /* and shows that the disk was switched */
    HAS_NOT_SWITCHED = 1 << 14, /* or that it was not */
    WAS_CANCELLED = 1 << 15,    /* it was aborting, and QEMU had accepted our cancel */
    BEGAN_LATER = 1 << 16,      /* the job of its id began later, as was seen */
    BEGAN_BEFORE = 1 << 17      /* it had that id already when this run had it */
};

enum memory_verdict {
    RUN_GOES_ON, /* the job that is listed is this run */
    RUN_FITS,    /* the same, as far as can be told */
    RUN_IS_LOST, /* and what is listed is another */
    RUN_PIVOTED, /* by the graph */
    RUN_CANCELLED,
    COMPARE_NOW /* the graph is to be compared first */
};

/* The first whose conditions all hold applies. */
struct memory_rule {
    unsigned when;
    enum memory_verdict verdict;
    const char *text; /* RUN_IS_LOST: why */
};
extern const struct memory_rule memory_rules[];
extern const size_t memory_rule_count;
const struct memory_rule *memory_rule(unsigned conditions);

/* A job of its id is listed. `type` is "" if the list does not tell. */
const struct memory_rule *memory_judge_row(const struct memory *memory, const char *type,
                                           const struct row *row);
/* There is none. */
const struct memory_rule *memory_judge_absence(const struct memory *memory, bool may_switch);
const struct memory_rule *memory_judge_graph(const struct memory *memory, enum disk_switch seen);

#endif
