/* SPDX-License-Identifier: MIT */
/*
 * The job machine, told anything in any order: the promises that need no truth hold (machine.h has
 * them), and everyone is answered once.
 *
 * Input: a byte that chooses the kind of job, then a byte for each thing that happens.
 */
#include "../core/machine_fixture.h"
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
    DEED_READY = FACTS,
    DEED_DONE,
    DEED_RELEASED,
    DEED_PIVOT,
    DEED_PIVOT_IF_READY,
    DEED_HELD_PIVOT,
    UNHOLD,
    DEED_ABORT,
    DEED_ESCALATE = DEED_ABORT + 4,
    DEED_VERB,
    ACCEPT = DEED_VERB + VERB_COUNT,
    REFUSE = ACCEPT + VERB_COUNT,
    REFUSE_GONE = REFUSE + VERB_COUNT,
    RAW_SENT = REFUSE_GONE + VERB_COUNT,
    RAW_ACCEPTED = RAW_SENT + VERB_FORCE + 1,
    RAW_REFUSED = RAW_ACCEPTED + VERB_FORCE + 1,
    LEAVE = RAW_REFUSED + VERB_FORCE + 1,
    DEEDS = LEAVE + 8
};

struct bench {
    fixture *m;
    unsigned raw[VERB_FORCE + 1]; /* on their way */
};

/* While the connection is being made again nothing is sent or asked (B46). */
static void send_checked(struct machine *job, enum verb verb, struct waiter *waiter)
{
    if (machine_is(job, IS_AWAY))
        fixture_break((fixture *)job, "nothing is sent while it is away");
    port_send(job, verb, waiter);
}

static void query_checked(struct machine *job)
{
    if (machine_is(job, IS_AWAY))
        fixture_break((fixture *)job, "nothing is asked while it is away");
    port_list_jobs(job);
}

static const struct machine_port checked_port = {
    .send = send_checked,
    .list_jobs = query_checked,
    .compare_graph = port_compare_graph,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
};

/* ----------------------------------------------------------------------- facts */

/* Away, only its coming back is a fact; and it does not come back who is not away. */
static bool is_possible(const fixture *m, const char *fact)
{
    bool is_return = fact[0] == '@' || strcmp(fact, "not-found") == 0;
    if (strcmp(fact, "tick") == 0)
        return m->stall_timer > 0;
    if (strcmp(fact, "escalate") == 0)
        return true;
    if (machine_is(&m->machine, IS_AWAY))
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

static void reply(fixture *m, int deed)
{
    int base = deed < REFUSE ? ACCEPT : deed < REFUSE_GONE ? REFUSE : REFUSE_GONE;
    enum verb which = (enum verb)(deed - base);
    if (!fixture_is_flying(m, which))
        return;
    if (base == ACCEPT)
        accept_verb(m, which);
    else
        refuse_verb(m, which, base == REFUSE_GONE);
}

static void do_raw(struct bench *b, int deed)
{
    int base = deed < RAW_ACCEPTED ? RAW_SENT : deed < RAW_REFUSED ? RAW_ACCEPTED : RAW_REFUSED;
    enum verb which = (enum verb)(deed - base);

    if (machine_is(&b->m->machine, IS_AWAY) || (base != RAW_SENT && b->raw[which] == 0))
        return;
    if (base == RAW_SENT) {
        b->raw[which]++;
        machine_raw_sent(&b->m->machine, which);
    } else {
        b->raw[which]--;
        machine_raw_reply(&b->m->machine, which, base == RAW_ACCEPTED);
    }
}

/* --------------------------------------------------------------------- callers */

/* One at a time, and none where the machine sends it too: the bench tells them apart so. */
static void ask_verb_of(fixture *m, enum verb which)
{
    bool is_own = which <= VERB_FORCE || (which == VERB_DISMISS && m->machine.traits.ours);
    if (!is_own && !fixture_is_flying(m, which))
        ask(m, (struct waiter){.question = ASK_VERB, .verb = which, .options = "{}"});
}

static void unhold(fixture *m)
{
    for (int i = 0; i < m->seat_count; i++) {
        seat *s = &m->seats[i];
        if (!s->left && s->answers == 0 && s->waiter.held)
            machine_unhold(&m->machine, &s->waiter);
    }
}

static void let_leave(fixture *m, int which)
{
    for (int i = 0; i < m->seat_count; i++) {
        seat *s = &m->seats[i];
        if (!s->left && s->answers == 0 && which-- == 0) {
            leave(m, s);
            return;
        }
    }
}

static void ask_something(fixture *m, int deed)
{
    switch (deed) {
    case DEED_READY:
        ready(m);
        break;
    case DEED_DONE:
        done(m);
        break;
    case DEED_RELEASED:
        released(m);
        break;
    case DEED_PIVOT:
        pivot(m);
        break;
    case DEED_PIVOT_IF_READY:
        pivot_if_ready(m);
        break;
    case DEED_HELD_PIVOT:
        ask(m, (struct waiter){.question = ASK_PIVOT, .held = true});
        break;
    case DEED_ESCALATE:
        escalate(m, 500);
        break;
    default:
        if (deed < DEED_ESCALATE)
            abort_job(m, deed - DEED_ABORT);
        else
            ask_verb_of(m, (enum verb)(deed - DEED_VERB));
        break;
    }
}

static void happen(struct bench *b, int deed)
{
    fixture *m = b->m;
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
    fixture_check(m);
}

static struct machine_traits choose_traits(uint8_t choice)
{
    return (struct machine_traits){
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
    struct bench b = {.m = fixture_new(choose_traits(take_byte(&input)))};

    b.m->machine.port = &checked_port;
    while (input.left > 0 && !b.m->broken)
        happen(&b, take_byte(&input) % DEEDS);
    if (!b.m->broken)
        fixture_end(b.m);
    if (b.m->broken)
        fprintf(stderr, "it did: %s\n", b.m->said);
    must(!b.m->broken, b.m->broken ? b.m->broken : "");
    fixture_free(b.m);
    return 0;
}
