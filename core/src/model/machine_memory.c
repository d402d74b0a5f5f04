/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of a machine, and one that begins with what was.
 */
#include "model/machine_parts.h"
#include "model/memory.h"

static const struct {
    enum verb verb;
    unsigned sent, taken;
} verbs[] = {
    {VERB_COMPLETE, MEMORY_COMPLETE_SENT, MEMORY_COMPLETE_TAKEN},
    {VERB_CANCEL, MEMORY_CANCEL_SENT, MEMORY_CANCEL_TAKEN},
    {VERB_FORCE, MEMORY_FORCE_SENT, MEMORY_FORCE_TAKEN},
};
#define VERBS (sizeof verbs / sizeof *verbs)

unsigned machine_memory(const struct machine *m)
{
    unsigned facts =
        (machine_is(m, IS_READY) ? MEMORY_READY : 0) | (machine_is(m, WAS_DONE) ? MEMORY_DONE : 0) |
        (machine_is(m, WAS_ABORTING) ? MEMORY_ABORTING : 0) | (m->traits.ours ? MEMORY_OURS : 0);

    for (size_t i = 0; i < VERBS; i++) {
        const struct sent *sent = &m->sent[verbs[i].verb];
        if (sent->state == ACCEPTED)
            facts |= verbs[i].taken;
        else if (sent->state != NOT_SENT || sent->raw > 0 || sent->was_unsure)
            facts |= verbs[i].sent;
    }
    return facts;
}

/* Where another run may have the id by now, a verb that was accepted may have been another's. */
static void recall_verbs(struct machine *m, const struct memory *memory)
{
    enum sent_state taken = memory_is_certain(memory) ? ACCEPTED : UNSURE;

    for (size_t i = 0; i < VERBS; i++) {
        struct sent *sent = &m->sent[verbs[i].verb];
        if (sent->state != NOT_SENT)
            continue;
        if (memory->facts & verbs[i].taken)
            sent->state = taken;
        else if (memory->facts & verbs[i].sent)
            sent->state = UNSURE;
        sent->was_unsure = verbs[i].verb == VERB_COMPLETE && sent->state == UNSURE;
    }
}

void machine_recall(struct machine *m, const struct memory *memory)
{
    set_mark(m, IS_READY, memory->facts & MEMORY_READY);
    set_mark(m, WAS_DONE, memory->facts & MEMORY_DONE);
    set_mark(m, WAS_ABORTING, memory->facts & MEMORY_ABORTING);
    m->marks |= IS_AWAY | HAS_GAP;
    m->traits.ours = memory->facts & MEMORY_OURS;
    recall_verbs(m, memory);
}

void machine_adopt(struct machine *m, const struct memory *memory)
{
    recall_verbs(m, memory);
    if (!(memory->facts & MEMORY_OURS))
        return;
    m->traits.ours = true;
    m->traits.kept = false;
    if (machine_is_over(m))
        machine_dismiss_if_due(m);
}

/* Nobody lists it any more. */
static void end_unseen(struct machine *m)
{
    set_mark(m, IS_AWAY, false);
    m->status = STATUS_NULL;
}

void machine_pivoted_unseen(struct machine *m)
{
    end_unseen(m);
    m->end = END_COMPLETED;
    machine_compared(m, SWITCHED);
}

void machine_cancelled_unseen(struct machine *m)
{
    end_unseen(m);
    machine_cancelled_event(m);
}
