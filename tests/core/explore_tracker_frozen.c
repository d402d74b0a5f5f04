/* SPDX-License-Identifier: MIT */
/*
 * The tracker's world without pointers and in one form only: runs are numbered by their place in
 * the tracker's list, waiters and all others by their place in theirs.
 */
#include "base/text.h"
#include "explore_tracker_world.h"

#include <stddef.h>
#include <string.h>

#define NONE 255

struct frozen_run {
    struct run run;
    struct slot slot;
    bool has_text;
};

struct frozen_waiter {
    struct waiter waiter;
    uint8_t slot; /* NONE: the seat is free */
};

struct frozen_attachment {
    struct attachment attachment;
    bool is_there, in_run;
    uint8_t id, run;
};

struct frozen_start {
    bool is_there, ours, comes_later;
    uint8_t id, run, spare;
};

struct frozen_raw {
    bool is_there;
    uint8_t id, run, verb;
};

struct frozen {
    struct rest rest;
    struct tracker tracker;
    struct frozen_waiter waiters[WAITERS];
    struct frozen_attachment attachments[ATTACHMENTS];
    struct frozen_start starts[STARTS];
    struct frozen_raw raws[RAWS];
    uint8_t count;
    struct frozen_run runs[SLOTS]; /* so many */
};

const size_t frozen_size = sizeof(struct frozen);

/* The new numbers, by the old ones. */
struct numbers {
    uint8_t slots[SLOTS], seats[WAITERS], attachments[ATTACHMENTS], starts[STARTS];
    uint8_t order[SLOTS]; /* the old ones, by the new ones */
    uint8_t count;
};

static uint8_t number_of(const struct world *w, const struct numbers *n, const struct run *run)
{
    return run ? n->slots[slot_of(w, run)] : NONE;
}

/* ------------------------------------------------------------------- freezing */

static void number_slot(struct numbers *n, int slot)
{
    n->order[n->count] = (uint8_t)slot;
    n->slots[slot] = n->count++;
}

static void number_slots(const struct world *w, struct numbers *n)
{
    for (const struct run *run = w->tracker.runs; run; run = run->next)
        number_slot(n, slot_of(w, run));
    for (int i = 0; i < SLOTS; i++)
        if (w->slots[i].refs > 0 && !w->runs[i].tracked)
            number_slot(n, i);
}

static void freeze_run(const struct world *w, int slot, struct frozen_run *f)
{
    memcpy(&f->run, &w->runs[slot], sizeof f->run);
    memcpy(&f->slot, &w->slots[slot], sizeof f->slot);
    f->has_text = f->run.machine.text != NULL;
    f->run.machine.port = NULL;
    f->run.machine.text = f->run.machine.refusal = f->run.machine.refusal_class = NULL;
    f->run.machine.waiters = NULL;
    f->run.tracker = NULL;
    memset(&f->run.node, 0, sizeof f->run.node);
    f->run.next = f->run.prev = f->run.next_dirty = NULL;
    f->run.attachments = NULL;
}

static void freeze_waiters(const struct world *w, struct numbers *n, struct frozen *f)
{
    int count = 0;

    for (int i = 0; i < n->count; i++) {
        const struct waiter *waiter = w->runs[n->order[i]].machine.waiters;
        for (; waiter; waiter = waiter->next) {
            const struct seat *seat = (const struct seat *)waiter;
            n->seats[seat - w->seats] = (uint8_t)count;
            memcpy(&f->waiters[count].waiter, waiter, sizeof *waiter);
            f->waiters[count].waiter.next = f->waiters[count].waiter.prev = NULL;
            f->waiters[count++].slot = (uint8_t)i;
        }
    }
    while (count < WAITERS)
        f->waiters[count++].slot = NONE;
}

static void freeze_attachment(const struct world *w, struct numbers *n, struct frozen *f,
                              const struct attachment *attachment, int *count, bool in_run)
{
    int old = (int)(attachment - w->attachments);
    struct frozen_attachment *a = &f->attachments[*count];

    memcpy(&a->attachment, attachment, sizeof *attachment);
    a->attachment.next = a->attachment.prev = NULL;
    a->attachment.run = NULL;
    a->attachment.id = NULL;
    a->is_there = true;
    a->in_run = in_run;
    a->id = (uint8_t)id_of(attachment->id);
    a->run = number_of(w, n, attachment->run);
    f->rest.attached_before[*count] = w->rest.attached_before[old];
    f->rest.attached_least[*count] = w->rest.attached_least[old];
    ++*count;
}

static void freeze_attachments(const struct world *w, struct numbers *n, struct frozen *f)
{
    int count = 0;

    memset(f->rest.attached_before, 0, sizeof f->rest.attached_before);
    memset(f->rest.attached_least, 0, sizeof f->rest.attached_least);
    for (const struct attachment *a = w->tracker.attachments; a; a = a->next)
        freeze_attachment(w, n, f, a, &count, false);
    for (int i = 0; i < n->count; i++)
        for (const struct attachment *a = w->runs[n->order[i]].attachments; a; a = a->next)
            freeze_attachment(w, n, f, a, &count, true);
}

static void freeze_starts(const struct world *w, struct numbers *n, struct frozen *f)
{
    int count = 0;

    for (const struct start *s = w->tracker.starts; s; s = s->next) {
        n->starts[s - w->starts] = (uint8_t)count;
        f->starts[count++] = (struct frozen_start){
            .is_there = true,
            .ours = s->ours,
            .comes_later = s->comes_later,
            .id = (uint8_t)id_of(s->id),
            .run = number_of(w, n, s->run),
            .spare = number_of(w, n, s->spare),
        };
    }
    for (const struct raw *raw = w->tracker.raws; raw; raw = raw->next)
        f->raws[0] = (struct frozen_raw){
            .is_there = true,
            .id = (uint8_t)id_of(raw->id),
            .run = number_of(w, n, raw->run),
            .verb = (uint8_t)raw->verb,
        };
}

static void renumber(struct command *command, const struct numbers *n)
{
    if (command->asker == NOBODY_WAITS)
        return;
    if (command->order == ORDER_START)
        command->asker = n->starts[command->asker];
    if (command->order == ORDER_VERB || command->order >= ORDER_SNAPSHOT)
        command->asker = n->slots[command->asker];
    if (command->order == ORDER_VERB && command->waiter != NOBODY_WAITS)
        command->waiter = n->seats[command->waiter];
}

static void renumber_all(struct qemu *q, const struct numbers *n)
{
    if (q->held.kind == LINE_REPLY)
        renumber(&q->held.command, n);
    for (int i = 0; i < q->orders; i++)
        renumber(&q->commands[i], n);
    for (int i = 0; i < q->lines; i++)
        if (q->wire[i].kind == LINE_REPLY)
            renumber(&q->wire[i].command, n);
}

static void freeze_tracker(const struct tracker *tracker, struct tracker *f)
{
    memcpy(f, tracker, sizeof *f);
    f->port = NULL;
    f->runs = f->last_run = f->dirty = NULL;
    f->by_id = NULL;
    f->starts = NULL;
    f->raws = NULL;
    f->attachments = NULL;
}

size_t world_freeze(const struct world *w, struct frozen *f)
{
    struct numbers n = {.count = 0};

    memset(f, 0, sizeof *f);
    memcpy(&f->rest, &w->rest, sizeof f->rest);
    freeze_tracker(&w->tracker, &f->tracker);
    number_slots(w, &n);
    freeze_waiters(w, &n, f);
    freeze_attachments(w, &n, f);
    freeze_starts(w, &n, f);
    renumber_all(&f->rest.qemu, &n);
    f->count = n.count;
    for (int i = 0; i < n.count; i++)
        freeze_run(w, n.order[i], &f->runs[i]);
    return offsetof(struct frozen, runs) + n.count * sizeof f->runs[0];
}

const struct frozen *world_keep(const struct world *w)
{
    static struct frozen kept;
    world_freeze(w, &kept);
    return &kept;
}

/* -------------------------------------------------------------------- thawing */

static struct text *why;

static struct text *any_text(void)
{
    if (!why)
        why = text_printf("why");
    return text_ref(why);
}

void world_forget_text(void)
{
    why = text_unref(why);
}

static struct run *run_at(struct world *w, uint8_t number)
{
    return number == NONE ? NULL : &w->runs[number];
}

/* Only a run knows it. */
static const struct machine_port *port_of_machines(void)
{
    static struct run fresh;
    static const struct machine_traits any;

    if (!fresh.machine.port)
        run_init(&fresh, NULL, "", &any);
    return fresh.machine.port;
}

static void thaw_run(struct world *w, int i, const struct frozen_run *f)
{
    struct run *run = &w->runs[i];
    struct tracker *t = &w->tracker;

    memcpy(run, &f->run, sizeof *run);
    memcpy(&w->slots[i], &f->slot, sizeof f->slot);
    run->machine.port = port_of_machines();
    run->machine.text = f->has_text ? any_text() : NULL;
    if (run->machine.sent[VERB_COMPLETE].delay == THEN_REFUSED)
        run->machine.refusal = any_text();
    run->tracker = t;
    run->node.id = ids[f->slot.id];
    if (run->in_tree)
        id_tree_add(&t->by_id, &run->node, run->node.id);
    if (!run->tracked)
        return;
    run->prev = t->last_run;
    if (t->last_run)
        t->last_run->next = run;
    else
        t->runs = run;
    t->last_run = run;
}

static void thaw_waiters(struct world *w, const struct frozen *f)
{
    for (int i = WAITERS - 1; i >= 0; i--) {
        struct seat *seat = &w->seats[i];
        if (f->waiters[i].slot == NONE)
            continue;
        struct machine *machine = &w->runs[f->waiters[i].slot].machine;
        memcpy(&seat->waiter, &f->waiters[i].waiter, sizeof seat->waiter);
        seat->taken = true;
        seat->slot = f->waiters[i].slot;
        seat->waiter.next = machine->waiters;
        if (machine->waiters)
            machine->waiters->prev = &seat->waiter;
        machine->waiters = &seat->waiter;
    }
}

static void thaw_attachments(struct world *w, const struct frozen *f)
{
    for (int i = ATTACHMENTS - 1; i >= 0; i--) {
        const struct frozen_attachment *from = &f->attachments[i];
        struct attachment *a = &w->attachments[i];
        if (!from->is_there)
            continue;
        memcpy(a, &from->attachment, sizeof *a);
        a->id = ids[from->id];
        a->run = run_at(w, from->run);
        w->attaching[i] = true;
        struct attachment **list = from->in_run ? &a->run->attachments : &w->tracker.attachments;
        a->next = *list;
        if (*list)
            (*list)->prev = a;
        *list = a;
    }
}

static void thaw_starts(struct world *w, const struct frozen *f)
{
    for (int i = STARTS - 1; i >= 0; i--) {
        const struct frozen_start *from = &f->starts[i];
        struct start *s = &w->starts[i];
        if (!from->is_there)
            continue;
        *s = (struct start){
            .id = ids[from->id],
            .type = type_of(!w->scenario->plain),
            .ours = from->ours,
            .comes_later = from->comes_later,
            .run = run_at(w, from->run),
            .spare = run_at(w, from->spare),
            .next = w->tracker.starts,
        };
        if (s->next)
            s->next->prev = s;
        w->tracker.starts = s;
        w->starting[i] = true;
    }
    if (!f->raws[0].is_there)
        return;
    w->raws[0] = (struct raw){
        .id = ids[f->raws[0].id],
        .verb = (enum verb)f->raws[0].verb,
        .run = run_at(w, f->raws[0].run),
    };
    w->tracker.raws = &w->raws[0];
    w->sending[0] = true;
}

void world_thaw(struct world *w, const struct frozen *f, const struct scenario *scenario)
{
    memset(w, 0, sizeof *w);
    w->scenario = scenario;
    memcpy(&w->rest, &f->rest, sizeof w->rest);
    memcpy(&w->tracker, &f->tracker, sizeof w->tracker);
    w->tracker.port = &world_port;
    for (int i = 0; i < f->count; i++)
        thaw_run(w, i, &f->runs[i]);
    thaw_waiters(w, f);
    thaw_attachments(w, f);
    thaw_starts(w, f);
}
