/* SPDX-License-Identifier: MIT */
/*
 * A job machine on a bench: what it is told is written as QEMU's events are written in the facts
 * ("~ready READY"), what it does is written down, and what it must never do is watched all along.
 */
#ifndef TESTS_MACHINE_H
#define TESTS_MACHINE_H

#include "base/text.h"
#include "model/machine.h"

#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NO_SPACE "No space left on device"
#define STALL_MS 1000
#define SEATS 64

/* Someone who waits, and what came of it. */
typedef struct seat {
    struct waiter waiter; /* first: the machine's port gets pointers to it */
    bool left;
    int answers;
    int error;
    char error_class[32];
    char text[160];
} seat;

typedef struct fixture {
    struct machine machine;

    seat seats[SEATS];
    int seat_count;

    char said[4096];     /* verbs, questions and news, in order, since the last look */
    int statuses;        /* news of that kind */
    int64_t stall_timer; /* milliseconds; 0 while it is off */

    int flying[VERB_COUNT];           /* sent and not replied to */
    struct waiter *asker[VERB_COUNT]; /* of the verb of that kind that was sent last */
    bool for_all[VERB_COUNT];         /* it was sent for all */
    bool query_out;
    bool graph_out;
    bool dismissed;     /* ours was accepted */
    bj_outcome outcome; /* the first that was seen */

    const char *broken; /* the promise that was broken first */
} fixture;

static const char *const verb_words[] = {
    [VERB_COMPLETE] = "complete", [VERB_CANCEL] = "cancel",     [VERB_FORCE] = "force",
    [VERB_PAUSE] = "pause",       [VERB_RESUME] = "resume",     [VERB_SET_SPEED] = "speed",
    [VERB_CHANGE] = "change",     [VERB_FINALIZE] = "finalize", [VERB_DISMISS] = "dismiss",
};

static const char *const news_words[] = {
    [REPORT_READY] = "READY", [REPORT_STALLED] = "STALLED",   [REPORT_RESUMED] = "RESUMED",
    [REPORT_ENDED] = "ENDED", [REPORT_RELEASED] = "RELEASED",
};

static inline void fixture_break(fixture *m, const char *promise)
{
    if (!m->broken)
        m->broken = promise;
}

static inline void fixture_say(fixture *m, const char *word)
{
    size_t len = strlen(m->said);
    snprintf(m->said + len, sizeof m->said - len, "%s%s", len ? " " : "", word);
}

/* --------------------------------------------------------------------- port */

static inline bool fixture_is_flying(const fixture *m, enum verb verb)
{
    return m->flying[verb] > 0;
}

static inline void port_send(struct machine *job, enum verb verb, struct waiter *waiter)
{
    fixture *m = (fixture *)job;
    bool aborting =
        job->sent[VERB_CANCEL].state >= IN_FLIGHT || job->sent[VERB_FORCE].state >= IN_FLIGHT;

    if (verb == VERB_COMPLETE && !machine_is(job, IS_READY))
        fixture_break(m, "no complete before ready");
    if (verb == VERB_COMPLETE && fixture_is_flying(m, VERB_COMPLETE))
        fixture_break(m, "one complete at a time");
    if (verb == VERB_COMPLETE && aborting)
        fixture_break(m, "no complete after a cancel");
    if (verb <= VERB_FORCE && job->end != END_NONE)
        fixture_break(m, "no complete and no cancel after the end");
    if (verb != VERB_DISMISS && job->outcome != BJ_OUTCOME_NONE)
        fixture_break(m, "nothing but dismiss after the outcome");
    if (verb == VERB_DISMISS && !waiter &&
        ((fixture_is_flying(m, VERB_DISMISS) && m->for_all[VERB_DISMISS]) || m->dismissed))
        fixture_break(m, "one dismiss");
    if (verb == VERB_DISMISS && !waiter && job->outcome == BJ_OUTCOME_NONE)
        fixture_break(m, "no dismiss before the outcome");

    m->flying[verb]++;
    m->asker[verb] = waiter;
    m->for_all[verb] = !waiter;
    fixture_say(m, verb_words[verb]);
}

static inline void port_list_jobs(struct machine *job)
{
    fixture *m = (fixture *)job;
    m->query_out = true;
    fixture_say(m, "query");
}

static inline void port_compare_graph(struct machine *job)
{
    fixture *m = (fixture *)job;
    m->graph_out = true;
    fixture_say(m, "graph");
}

static inline void port_set_timer(struct machine *job, int64_t ms)
{
    ((fixture *)job)->stall_timer = ms;
}

static inline void port_answer(struct machine *job, struct waiter *waiter,
                               const struct answer *answer)
{
    seat *s = (seat *)waiter;
    fixture *m = (fixture *)job;

    s->answers++;
    s->error = answer->error;
    snprintf(s->error_class, sizeof s->error_class, "%s",
             answer->error_class ? answer->error_class : "");
    snprintf(s->text, sizeof s->text, "%s", answer->text ? answer->text : "");

    if (s->answers > 1)
        fixture_break(m, "one answer each");
    if (s->left)
        fixture_break(m, "no answer to who has left");
    for (const struct waiter *w = job->waiters; w; w = w->next)
        if (w == waiter)
            fixture_break(m, "out of the list before it is answered");
    for (int verb = 0; verb < VERB_COUNT; verb++)
        if (m->asker[verb] == waiter)
            m->asker[verb] = NULL;
}

static inline void port_report(struct machine *job, enum report news, const char *text)
{
    fixture *m = (fixture *)job;
    (void)text;
    if (news == REPORT_STATUS)
        m->statuses++;
    else
        fixture_say(m, news_words[news]);
}

static const struct machine_port recording_port = {
    .send = port_send,
    .list_jobs = port_list_jobs,
    .compare_graph = port_compare_graph,
    .set_timer = port_set_timer,
    .answer = port_answer,
    .report = port_report,
};

/* -------------------------------------------------------------------- bench */

/* A mirror of another client, on a QEMU that tells statuses. */
static const struct machine_traits a_mirror = {
    .switches = true, .has_status = true, .stall_ms = STALL_MS};

static inline fixture *fixture_new(struct machine_traits traits)
{
    fixture *m = calloc(1, sizeof *m);
    assert_non_null(m);
    machine_init(&m->machine, &recording_port, &traits);
    return m;
}

static inline void fixture_check(fixture *m)
{
    if (!m->outcome)
        m->outcome = m->machine.outcome;
    if (m->outcome != m->machine.outcome)
        fixture_break(m, "the outcome is latched");
}

/* The connection ends: all who still wait are answered, whatever was going on. */
static inline void fixture_end(fixture *m)
{
    machine_lost(&m->machine, BJ_E_JOB_LOST, "the connection ended");
    fixture_check(m);
    for (int i = 0; i < m->seat_count; i++)
        if (!m->seats[i].left && m->seats[i].answers != 1)
            fixture_break(m, "nobody hangs");
}

static inline void fixture_free(fixture *m)
{
    machine_clear(&m->machine);
    free(m);
}

static inline int mirror_setup(void **state)
{
    *state = fixture_new(a_mirror);
    return 0;
}

static inline int fixture_teardown(void **state)
{
    fixture *m = *state;
    fixture_end(m);
    const char *broken = m->broken;
    fixture_free(m);
    if (broken)
        print_error("broken: %s\n", broken);
    return broken ? -1 : 0;
}

/* The same test's machine, of other traits. */
static inline void become(fixture *m, struct machine_traits traits)
{
    machine_init(&m->machine, &recording_port, &traits);
}

/* ------------------------------------------------------------------ callers */

static inline seat *ask(fixture *m, struct waiter waiter)
{
    assert_true(m->seat_count < SEATS);
    seat *s = &m->seats[m->seat_count++];
    s->waiter = waiter;
    machine_ask(&m->machine, &s->waiter);
    fixture_check(m);
    return s;
}

static inline seat *ready(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_READY});
}

static inline seat *done(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_DONE});
}

static inline seat *released(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_RELEASED});
}

static inline seat *pivot(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_PIVOT});
}

static inline seat *pivot_if_ready(fixture *m)
{
    return ask(m, (struct waiter){.question = ASK_PIVOT, .flags = BJ_PIVOT_ONLY_IF_READY});
}

static inline seat *abort_job(fixture *m, int flags)
{
    return ask(m, (struct waiter){.question = ASK_ABORT, .flags = flags});
}

static inline seat *escalate(fixture *m, int64_t force_after_ms)
{
    return ask(m, (struct waiter){
                      .question = ASK_ABORT,
                      .force_after_ms = force_after_ms,
                  });
}

static inline seat *verb(fixture *m, enum verb which)
{
    return ask(m, (struct waiter){.question = ASK_VERB, .verb = which});
}

static inline void leave(fixture *m, seat *s)
{
    s->left = true;
    for (int v = 0; v < VERB_COUNT; v++)
        if (m->asker[v] == &s->waiter)
            m->asker[v] = NULL;
    machine_leave(&m->machine, &s->waiter);
}

/* -------------------------------------------------------------------- facts */

static inline enum verb verb_of(const char *word)
{
    int v = 0;
    while (strcmp(verb_words[v], word) != 0)
        v++;
    return (enum verb)v;
}

static inline void reply_with(fixture *m, enum verb v, const struct verb_reply *reply)
{
    assert_true(fixture_is_flying(m, v));
    struct waiter *waiter = m->asker[v];
    m->flying[v]--;
    m->asker[v] = NULL;
    struct verb_reply whole = *reply;
    whole.for_all = m->for_all[v];
    machine_reply(&m->machine, v, waiter, &whole);
}

static inline void accept_verb(fixture *m, enum verb v)
{
    m->dismissed = m->dismissed || (v == VERB_DISMISS && !m->asker[v]);
    reply_with(m, v, &(struct verb_reply){.verdict = VERDICT_ACCEPTED});
}

static inline void refuse_verb(fixture *m, enum verb v, bool no_job)
{
    reply_with(m, v,
               &(struct verb_reply){
                   .verdict = no_job ? VERDICT_NO_SUCH_JOB : VERDICT_REFUSED,
                   .error = BJ_E_REFUSED,
                   .error_class = no_job ? "DeviceNotActive" : "GenericError",
                   .text = "QEMU said no",
               });
}

static inline void row_says(fixture *m, struct row row)
{
    m->query_out = false;
    machine_row(&m->machine, &row);
}

static inline void graph_says(fixture *m, enum disk_switch result)
{
    m->graph_out = false;
    machine_compared(&m->machine, result);
}

/* Replies that were under way do not come any more. */
static inline void fixture_disconnect(fixture *m)
{
    for (int v = 0; v < VERB_COUNT; v++) {
        m->flying[v] = 0;
        m->asker[v] = NULL;
    }
    m->query_out = m->graph_out = false;
    machine_disconnected(&m->machine);
}

static inline void found_says(fixture *m, struct row row)
{
    row.ready |= row.status == STATUS_READY || row.status == STATUS_STANDBY;
    machine_reconnected_listed(&m->machine, &row);
}

static inline void tick(fixture *m)
{
    m->stall_timer = 0;
    machine_tick(&m->machine);
}

/* The delays of all soft aborts that have one are over. */
static inline void escalate_all(fixture *m)
{
    for (int i = 0; i < m->seat_count; i++) {
        seat *s = &m->seats[i];
        if (!s->left && s->answers == 0 && s->waiter.force_after_ms > 0)
            machine_escalate(&m->machine, &s->waiter);
    }
}

static inline void feed_word(fixture *m, const char *word)
{
    struct machine *job = &m->machine;

    if (word[0] == '~')
        machine_status_event(job, job_status_of(word + 1));
    else if (word[0] == '+')
        accept_verb(m, verb_of(word + 1));
    else if (word[0] == '-')
        refuse_verb(m, verb_of(word + 1), false);
    else if (word[0] == '!')
        refuse_verb(m, verb_of(word + 1), true);
    else if (word[0] == '=')
        row_says(m, (struct row){.status = job_status_of(word + 1)});
    else if (strcmp(word, "READY") == 0)
        machine_ready_event(job);
    else if (strcmp(word, "COMPLETED") == 0)
        machine_completed_event(job, NULL);
    else if (strcmp(word, "COMPLETED{error}") == 0)
        machine_completed_event(job, NO_SPACE);
    else if (strcmp(word, "CANCELLED") == 0)
        machine_cancelled_event(job);
    else if (strcmp(word, "ERROR(stop)") == 0)
        machine_stopped_event(job, "a write error stopped it");
    else if (strcmp(word, "PENDING") == 0)
        machine_pending_event(job);
    else if (strcmp(word, "absent") == 0)
        machine_absent(job);
    else if (strcmp(word, "switched") == 0)
        graph_says(m, SWITCHED);
    else if (strcmp(word, "unswitched") == 0)
        graph_says(m, NOT_SWITCHED);
    else if (strcmp(word, "unseen") == 0)
        graph_says(m, SWITCH_UNKNOWN);
    else if (strcmp(word, "neither") == 0)
        graph_says(m, SWITCH_UNCLEAR);
    else if (strcmp(word, "intermediate") == 0)
        graph_says(m, SWITCHES_NOTHING);
    else if (strcmp(word, "disconnected") == 0)
        fixture_disconnect(m);
    else if (strcmp(word, "not-found") == 0)
        machine_reconnected_absent(job);
    else if (word[0] == '@')
        found_says(m, (struct row){.status = job_status_of(word + 1)});
    else if (strcmp(word, "tick") == 0)
        tick(m);
    else if (strcmp(word, "escalate") == 0)
        escalate_all(m);
    else
        fail_msg("no such fact: %s", word);
    fixture_check(m);
}

/* Facts as they come: "~x" a status, "READY" an event, "+complete" a verb that was accepted,
 * "-complete" one refused, "!complete" one refused because there is no such job, "=x" a row, "@x"
 * the row of a job that QEMU still lists after "disconnected". */
static inline void feed(fixture *m, const char *facts)
{
    char words[512];
    char *rest = NULL;
    assert_true(strlen(facts) < sizeof words);
    strcpy(words, facts);
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        feed_word(m, word);
}

#define TO_READY "~created ~running ~ready READY"
#define END_OK "~waiting ~pending COMPLETED ~concluded ~null"
#define END_CANCELLED "~aborting CANCELLED ~concluded ~null"

/* -------------------------------------------------------------- assertions */

/* What it did since the last look: verbs, questions and news in their order. */
#define assert_said(m, expected)                                                                   \
    do {                                                                                           \
        assert_string_equal((m)->said, expected);                                                  \
        (m)->said[0] = '\0';                                                                       \
    } while (0)

#define forget_said(m) ((m)->said[0] = '\0')

#define assert_waiting(s) assert_int_equal((s)->answers, 0)

#define assert_answered(s, expected)                                                               \
    do {                                                                                           \
        assert_int_equal((s)->answers, 1);                                                         \
        assert_string_equal(bj_error_name((s)->error), bj_error_name(expected));                   \
    } while (0)

#define assert_outcome(m, expected)                                                                \
    assert_string_equal(bj_outcome_name((m)->machine.outcome), bj_outcome_name(expected))

#endif
