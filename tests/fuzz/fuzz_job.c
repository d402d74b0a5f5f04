/* SPDX-License-Identifier: MIT */
/*
 * The job machine, told anything in any order: the promises that need no truth hold (machine.h has
 * them), and everyone is answered once.
 *
 * Input: a byte that chooses the kind of job, then a byte for each thing that happens.
 */
#include "../core/machine.h"
#include "fuzz.h"

static const char *const facts[] = {
    "~created",   "~running",   "~ready",      "~standby",
    "~paused",    "~waiting",   "~pending",    "~aborting",
    "~concluded", "~null",      "READY",       "COMPLETED",
    "CANCELLED",  "PENDING",    "ERROR(stop)", "COMPLETED{error}",
    "tick",       "escalate",   "=running",    "=ready",
    "=paused",    "=standby",   "=pending",    "=concluded",
    "switched",   "unswitched", "absent",      "disconnected",
    "not-found",  "@running",   "@ready",      "@paused",
    "@standby",   "@waiting",   "@pending",    "@aborting",
    "@concluded",
};
#define FACTS (sizeof facts / sizeof facts[0])

/* Asks besides, and verbs that the program sends by itself. */
enum deed {
    ASK_READY = FACTS,
    ASK_DONE,
    ASK_RELEASED,
    ASK_PIVOT,
    ASK_PIVOT_IF_READY,
    ASK_HELD_PIVOT,
    UNHOLD,
    ASK_ABORT,
    ASK_ESCALATE = ASK_ABORT + 4,
    ASK_VERB,
    ACCEPT = ASK_VERB + JOB_DISMISS + 1,
    REFUSE = ACCEPT + JOB_DISMISS + 1,
    REFUSE_GONE = REFUSE + JOB_DISMISS + 1,
    RAW_SENT = REFUSE_GONE + JOB_DISMISS + 1,
    RAW_ACCEPTED = RAW_SENT + JOB_CANCEL_FORCE + 1,
    RAW_REFUSED = RAW_ACCEPTED + JOB_CANCEL_FORCE + 1,
    LEAVE = RAW_REFUSED + JOB_CANCEL_FORCE + 1,
    DEEDS = LEAVE + 8
};

struct bench {
    machine *m;
    unsigned raw[JOB_CANCEL_FORCE + 1]; /* on their way */
};

/* While the connection is being made again nothing is sent or asked (B46). */
static void send_checked(struct job *job, enum job_verb verb, struct job_waiter *waiter)
{
    if (job->away)
        machine_break((machine *)job, "nothing is sent while it is away");
    port_send(job, verb, waiter);
}

static void query_checked(struct job *job)
{
    if (job->away)
        machine_break((machine *)job, "nothing is asked while it is away");
    port_query(job);
}

static const struct job_port checked_port = {
    .send = send_checked,
    .query = query_checked,
    .graph = port_graph,
    .timer = port_timer,
    .answer = port_answer,
    .tell = port_tell,
};

/* ----------------------------------------------------------------------- facts */

/* Away, only its coming back is a fact; and it does not come back who is not away. */
static bool is_possible(const machine *m, const char *fact)
{
    bool is_return = fact[0] == '@' || strcmp(fact, "not-found") == 0;
    if (strcmp(fact, "tick") == 0)
        return m->stall_timer > 0;
    if (strcmp(fact, "escalate") == 0)
        return true;
    if (m->job.away)
        return is_return;
    if (strcmp(fact, "switched") == 0 || strcmp(fact, "unswitched") == 0)
        return m->graph_out;
    return !is_return;
}

static void feed_fact(struct bench *b, const char *fact)
{
    if (!is_possible(b->m, fact))
        return;
    if (strcmp(fact, "disconnected") == 0) {
        memset(b->raw, 0, sizeof b->raw);
        b->m->dismissed = false; /* if it is listed again it was not */
    }
    feed_word(b->m, fact);
}

static void reply(machine *m, int deed)
{
    int base = deed < REFUSE ? ACCEPT : deed < REFUSE_GONE ? REFUSE : REFUSE_GONE;
    enum job_verb which = (enum job_verb)(deed - base);
    if (!machine_is_flying(m, which))
        return;
    if (base == ACCEPT)
        accept_verb(m, which);
    else
        refuse_verb(m, which, base == REFUSE_GONE);
}

static void do_raw(struct bench *b, int deed)
{
    int base = deed < RAW_ACCEPTED ? RAW_SENT : deed < RAW_REFUSED ? RAW_ACCEPTED : RAW_REFUSED;
    enum job_verb which = (enum job_verb)(deed - base);

    if (b->m->job.away || (base != RAW_SENT && b->raw[which] == 0))
        return;
    if (base == RAW_SENT) {
        b->raw[which]++;
        job_raw_sent(&b->m->job, which);
    } else {
        b->raw[which]--;
        job_raw_reply(&b->m->job, which, base == RAW_ACCEPTED);
    }
}

/* --------------------------------------------------------------------- callers */

/* One at a time, and none where the machine sends it too: the bench tells them apart so. */
static void ask_verb_of(machine *m, enum job_verb which)
{
    bool is_own = which <= JOB_CANCEL_FORCE || (which == JOB_DISMISS && m->job.traits.ours);
    if (!is_own && !machine_is_flying(m, which))
        ask(m, (struct job_waiter){.question = JOB_ASK_VERB, .verb = which, .options = "{}"});
}

static void unhold(machine *m)
{
    for (int i = 0; i < m->seat_count; i++) {
        seat *s = &m->seats[i];
        if (!s->left && s->answers == 0 && s->waiter.held)
            job_unhold(&m->job, &s->waiter);
    }
}

static void let_leave(machine *m, int which)
{
    for (int i = 0; i < m->seat_count; i++) {
        seat *s = &m->seats[i];
        if (!s->left && s->answers == 0 && which-- == 0) {
            leave(m, s);
            return;
        }
    }
}

static void ask_something(machine *m, int deed)
{
    switch (deed) {
    case ASK_READY:
        ready(m);
        break;
    case ASK_DONE:
        done(m);
        break;
    case ASK_RELEASED:
        released(m);
        break;
    case ASK_PIVOT:
        pivot(m);
        break;
    case ASK_PIVOT_IF_READY:
        pivot_if_ready(m);
        break;
    case ASK_HELD_PIVOT:
        ask(m, (struct job_waiter){.question = JOB_ASK_PIVOT, .held = true});
        break;
    case ASK_ESCALATE:
        escalate(m, 500);
        break;
    default:
        if (deed < ASK_ESCALATE)
            abort_job(m, deed - ASK_ABORT);
        else
            ask_verb_of(m, (enum job_verb)(deed - ASK_VERB));
        break;
    }
}

static void happen(struct bench *b, int deed)
{
    machine *m = b->m;
    if (deed < (int)FACTS)
        feed_fact(b, facts[deed]);
    else if (deed == UNHOLD)
        unhold(m);
    else if (deed >= LEAVE)
        let_leave(m, deed - LEAVE);
    else if (deed >= RAW_SENT)
        do_raw(b, deed);
    else if (deed >= ACCEPT)
        reply(m, deed);
    else if (m->seat_count < SEATS)
        ask_something(m, deed);
    machine_check(m);
}

static struct job_traits choose_traits(uint8_t choice)
{
    return (struct job_traits){
        .never_ready = (choice & 3) == 3,
        .switches = (choice & 3) < 2,
        .ours = choice & 4,
        .has_status = !(choice & 8),
        .silent = (choice & 0x18) == 0x18,
        .no_repeats = choice & 0x20,
        .replaces = choice & 0x40,
        .stall_ms = STALL_MS,
    };
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    struct bench b = {.m = machine_new(choose_traits(take_byte(&input)))};

    b.m->job.port = &checked_port;
    while (input.left > 0 && !b.m->broken)
        happen(&b, take_byte(&input) % DEEDS);
    if (!b.m->broken)
        machine_end(b.m);
    if (b.m->broken)
        fprintf(stderr, "it did: %s\n", b.m->said);
    must(!b.m->broken, b.m->broken ? b.m->broken : "");
    machine_free(b.m);
    return 0;
}
