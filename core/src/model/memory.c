/* SPDX-License-Identifier: MIT */
#include "model/memory.h"
#include "model/tables.h"

#include <string.h>

/* ------------------------------------------------------------------- identity */

static bool differ(const char *one, const char *other)
{
    return *one && *other && strcmp(one, other) != 0;
}

/* Whoever passes QEMU its socket may live longer than QEMU; but the next QEMU mostly has another
 * socket of the same name. A QEMU may have several sockets. */
static bool is_made_anew(const char *then, const char *now)
{
    const char *path = strchr(then, '@'), *path_now = strchr(now, '@');
    return path && path_now && strcmp(path, path_now) == 0 && differ(then, now);
}

/* A process alone proves nothing: another boot has the same numbers. */
enum same_peer identity_compare(const struct identity *then, const struct identity *now)
{
    bool is_known = *then->process && *now->process && *then->boot && *now->boot;

    if (differ(then->boot, now->boot))
        return PEER_REBOOTED;
    if (differ(then->process, now->process) || differ(then->version, now->version) ||
        is_made_anew(then->socket, now->socket))
        return PEER_OTHER;
    return is_known ? PEER_SAME : PEER_UNKNOWN;
}

/* ---------------------------------------------------------------------- rules */

/* A success has to be proved: that the job is gone proves none, nor that it had accepted a verb,
 * as it may have failed after that. */
const struct memory_rule memory_rules[] = {
    {IS_REBOOTED, RUN_IS_LOST, "the host was booted while the program was away"},
    {IS_OTHER_PEER, RUN_IS_LOST, "QEMU ended while the program was away: this is another one"},

    {IS_LISTED | BEGAN_LATER, RUN_IS_LOST, "its id was given to another job"},
    {IS_LISTED | BEGAN_BEFORE, RUN_GOES_ON, NULL},
    {IS_LISTED | IS_OTHER_TYPE, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job of another type"},
    {IS_LISTED | IS_EARLIER, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job whose work is not done"},
    {IS_LISTED | IS_UNREADY, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job that is not ready"},
    {IS_LISTED | HAS_DONE_LESS, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job that has done less"},
    {IS_LISTED | IS_OTHER_SIZE, RUN_IS_LOST,
     "it ended while the program was away: its id is now that of a job of another size"},
    {IS_LISTED | HAS_UNIQUE_ID, RUN_GOES_ON, NULL},
    {IS_LISTED | IS_UNKNOWN_PEER | FITS, RUN_FITS, NULL},
    {IS_LISTED | IS_UNKNOWN_PEER, RUN_IS_LOST,
     "whether this is the same QEMU as before can't be known, nor whether it is the same job"},
    {IS_LISTED, RUN_GOES_ON, NULL},

    {IS_UNKNOWN_PEER, RUN_IS_LOST,
     "it is gone, and whether this is the same QEMU as before can't be known"},
    {HAS_SWITCHED, RUN_PIVOTED, NULL},
    {WAS_CANCELLED, RUN_CANCELLED, NULL},
    {HAS_NOT_SWITCHED, RUN_IS_LOST,
     "it ended while the program was away, and has not switched the disk"},
    {WAS_LOOKED_AT, RUN_IS_LOST,
     "it ended while the program was away, and whether it has switched the disk is unknown"},
    {MAY_SWITCH, COMPARE_NOW, NULL},
    {0, RUN_IS_LOST, "it ended while the program was away, and QEMU keeps no trace of how"},
};
const size_t memory_rule_count = sizeof memory_rules / sizeof *memory_rules;

const struct memory_rule *memory_rule(unsigned conditions)
{
    const struct memory_rule *rule = memory_rules;
    while ((rule->when & conditions) != rule->when)
        rule++;
    return rule;
}

/* ----------------------------------------------------------------- conditions */

static unsigned if_so(bool so, enum memory_condition condition)
{
    return so ? condition : 0;
}

static unsigned of_peer(const struct memory *memory)
{
    return if_so(memory->peer == PEER_REBOOTED, IS_REBOOTED) |
           if_so(memory->peer == PEER_OTHER, IS_OTHER_PEER) |
           if_so(memory->peer == PEER_UNKNOWN, IS_UNKNOWN_PEER) |
           if_so(memory->facts & MEMORY_UNIQUE, HAS_UNIQUE_ID);
}

/* A guest that writes makes a mirror's total grow, and the active commit is one. A backup that
 * looks for what is allocated, before it copies, makes its total smaller. */
static bool is_other_size(const struct memory *memory, const char *type, int64_t total)
{
    bool grows = !*type || strcmp(type, "mirror") == 0 || strcmp(type, "commit") == 0;
    bool shrinks = memory->current <= 0;

    if (memory->total <= 0 || total <= 0)
        return false;
    return (total < memory->total && !shrinks) || (total > memory->total && !grows);
}

static bool fits(const struct memory *memory, const char *type, const struct row *row)
{
    return *memory->type && *type && memory->total > 0 && row->total > 0 && memory->current >= 0 &&
           row->current >= 0;
}

const struct memory_rule *memory_judge_row(const struct memory *memory, const char *type,
                                           const struct row *row)
{
    bool at_work = status_has_any(row->status, AT_WORK);
    bool is_ready = row->ready || status_has_any(row->status, SHOWS_READY);
    /* One that is over need not say any more that it was ready. */
    bool unready = !is_ready && (at_work || row->status == STATUS_NONE);
    bool had_worked = memory->facts & (MEMORY_DONE | MEMORY_ABORTING);

    return memory_rule(IS_LISTED | of_peer(memory) |
                       if_so(differ(memory->type, type), IS_OTHER_TYPE) |
                       if_so(memory->known == KNOWN_SINCE_LATER, BEGAN_LATER) |
                       if_so(memory->known == KNOWN_SINCE_EARLIER, BEGAN_BEFORE) |
                       if_so(had_worked && at_work, IS_EARLIER) |
                       if_so((memory->facts & MEMORY_READY) && unready, IS_UNREADY) |
                       if_so(row->current >= 0 && row->current < memory->current, HAS_DONE_LESS) |
                       if_so(is_other_size(memory, type, row->total), IS_OTHER_SIZE) |
                       if_so(fits(memory, type, row), FITS));
}

static unsigned of_absence(const struct memory *memory)
{
    bool was_taken = memory->facts & (MEMORY_CANCEL_TAKEN | MEMORY_FORCE_TAKEN);
    return of_peer(memory) | if_so((memory->facts & MEMORY_ABORTING) && was_taken, WAS_CANCELLED);
}

const struct memory_rule *memory_judge_absence(const struct memory *memory, bool may_switch)
{
    return memory_rule(of_absence(memory) | if_so(may_switch, MAY_SWITCH));
}

const struct memory_rule *memory_judge_graph(const struct memory *memory, enum disk_switch seen)
{
    return memory_rule(of_absence(memory) | WAS_LOOKED_AT | if_so(seen == SWITCHED, HAS_SWITCHED) |
                       if_so(seen == NOT_SWITCHED, HAS_NOT_SWITCHED));
}
