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
    struct job_waiter waiter; /* first: the machine's port gets pointers to it */
    bool left;
    int answers;
    int error;
    char error_class[32];
    char text[160];
} seat;

typedef struct machine {
    struct job job;

    seat seats[SEATS];
    int seat_count;

    char said[4096];     /* verbs, questions and news, in order, since the last look */
    int statuses;        /* news of that kind */
    int64_t stall_timer; /* milliseconds; 0 while it is off */

    int flying[JOB_DISMISS + 1];               /* sent and not replied to */
    struct job_waiter *asker[JOB_DISMISS + 1]; /* of the verb of that kind that was sent last */
    bool query_out;
    bool graph_out;
    bool dismissed;     /* ours was accepted */
    bj_outcome outcome; /* the first that was seen */

    const char *broken; /* the promise that was broken first */
} machine;

static const char *const verb_words[] = {
    [JOB_COMPLETE] = "complete", [JOB_CANCEL] = "cancel",     [JOB_CANCEL_FORCE] = "force",
    [JOB_PAUSE] = "pause",       [JOB_RESUME] = "resume",     [JOB_SET_SPEED] = "speed",
    [JOB_CHANGE] = "change",     [JOB_FINALIZE] = "finalize", [JOB_DISMISS] = "dismiss",
};

static const char *const news_words[] = {
    [JOB_NEWS_READY] = "READY", [JOB_NEWS_STALLED] = "STALLED",   [JOB_NEWS_RESUMED] = "RESUMED",
    [JOB_NEWS_ENDED] = "ENDED", [JOB_NEWS_RELEASED] = "RELEASED",
};

static inline void machine_break(machine *m, const char *promise)
{
    if (!m->broken)
        m->broken = promise;
}

static inline void machine_say(machine *m, const char *word)
{
    size_t len = strlen(m->said);
    snprintf(m->said + len, sizeof m->said - len, "%s%s", len ? " " : "", word);
}

/* --------------------------------------------------------------------- port */

static inline bool machine_is_flying(const machine *m, enum job_verb verb)
{
    return m->flying[verb] > 0;
}

static inline void port_send(struct job *job, enum job_verb verb, struct job_waiter *waiter)
{
    machine *m = (machine *)job;
    bool aborting = job->cancel >= JOB_REQUEST_SENT || job->force >= JOB_REQUEST_SENT;

    if (verb == JOB_COMPLETE && !job->ready)
        machine_break(m, "no complete before ready");
    if (verb == JOB_COMPLETE && machine_is_flying(m, JOB_COMPLETE))
        machine_break(m, "one complete at a time");
    if (verb == JOB_COMPLETE && aborting)
        machine_break(m, "no complete after a cancel");
    if (verb <= JOB_CANCEL_FORCE && job->end != JOB_END_NONE)
        machine_break(m, "no complete and no cancel after the end");
    if (verb != JOB_DISMISS && job->outcome != BJ_OUTCOME_NONE)
        machine_break(m, "nothing but dismiss after the outcome");
    if (verb == JOB_DISMISS && !waiter && (machine_is_flying(m, JOB_DISMISS) || m->dismissed))
        machine_break(m, "one dismiss");
    if (verb == JOB_DISMISS && !waiter && job->outcome == BJ_OUTCOME_NONE)
        machine_break(m, "no dismiss before the outcome");

    m->flying[verb]++;
    m->asker[verb] = waiter;
    machine_say(m, verb_words[verb]);
}

static inline void port_query(struct job *job)
{
    machine *m = (machine *)job;
    m->query_out = true;
    machine_say(m, "query");
}

static inline void port_graph(struct job *job)
{
    machine *m = (machine *)job;
    m->graph_out = true;
    machine_say(m, "graph");
}

static inline void port_timer(struct job *job, int64_t ms)
{
    ((machine *)job)->stall_timer = ms;
}

static inline void port_answer(struct job *job, struct job_waiter *waiter,
                               const struct job_answer *answer)
{
    seat *s = (seat *)waiter;
    machine *m = (machine *)job;

    s->answers++;
    s->error = answer->error;
    snprintf(s->error_class, sizeof s->error_class, "%s",
             answer->error_class ? answer->error_class : "");
    snprintf(s->text, sizeof s->text, "%s", answer->text ? answer->text : "");

    if (s->answers > 1)
        machine_break(m, "one answer each");
    if (s->left)
        machine_break(m, "no answer to who has left");
    for (const struct job_waiter *w = job->waiters; w; w = w->next)
        if (w == waiter)
            machine_break(m, "out of the list before it is answered");
    for (int verb = 0; verb <= JOB_DISMISS; verb++)
        if (m->asker[verb] == waiter)
            m->asker[verb] = NULL;
}

static inline void port_tell(struct job *job, enum job_news news, const char *text)
{
    machine *m = (machine *)job;
    (void)text;
    if (news == JOB_NEWS_STATUS)
        m->statuses++;
    else
        machine_say(m, news_words[news]);
}

static const struct job_port recording_port = {
    .send = port_send,
    .query = port_query,
    .graph = port_graph,
    .timer = port_timer,
    .answer = port_answer,
    .tell = port_tell,
};

/* -------------------------------------------------------------------- bench */

/* A mirror of another client, on a QEMU that tells statuses. */
static const struct job_traits a_mirror = {
    .switches = true, .has_status = true, .stall_ms = STALL_MS};

static inline machine *machine_new(struct job_traits traits)
{
    machine *m = calloc(1, sizeof *m);
    assert_non_null(m);
    job_init(&m->job, &recording_port, &traits);
    return m;
}

static inline void machine_check(machine *m)
{
    if (!m->outcome)
        m->outcome = m->job.outcome;
    if (m->outcome != m->job.outcome)
        machine_break(m, "the outcome is latched");
}

/* The connection ends: all who still wait are answered, whatever was going on. */
static inline void machine_end(machine *m)
{
    job_lost(&m->job, BJ_E_JOB_LOST, "the connection ended");
    machine_check(m);
    for (int i = 0; i < m->seat_count; i++)
        if (!m->seats[i].left && m->seats[i].answers != 1)
            machine_break(m, "nobody hangs");
}

static inline void machine_free(machine *m)
{
    job_clear(&m->job);
    free(m);
}

static inline int mirror_setup(void **state)
{
    *state = machine_new(a_mirror);
    return 0;
}

static inline int machine_teardown(void **state)
{
    machine *m = *state;
    machine_end(m);
    const char *broken = m->broken;
    machine_free(m);
    if (broken)
        print_error("broken: %s\n", broken);
    return broken ? -1 : 0;
}

/* The same test's machine, of other traits. */
static inline void become(machine *m, struct job_traits traits)
{
    job_init(&m->job, &recording_port, &traits);
}

/* ------------------------------------------------------------------ callers */

static inline seat *ask(machine *m, struct job_waiter waiter)
{
    assert_true(m->seat_count < SEATS);
    seat *s = &m->seats[m->seat_count++];
    s->waiter = waiter;
    job_ask(&m->job, &s->waiter);
    machine_check(m);
    return s;
}

static inline seat *ready(machine *m)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_READY});
}

static inline seat *done(machine *m)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_DONE});
}

static inline seat *released(machine *m)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_RELEASED});
}

static inline seat *pivot(machine *m)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_PIVOT});
}

static inline seat *pivot_if_ready(machine *m)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_PIVOT, .flags = BJ_PIVOT_ONLY_IF_READY});
}

static inline seat *abort_job(machine *m, int flags)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_ABORT, .flags = flags});
}

static inline seat *escalate(machine *m, int64_t force_after_ms)
{
    return ask(m, (struct job_waiter){
                      .question = JOB_ASK_ABORT,
                      .force_after_ms = force_after_ms,
                  });
}

static inline seat *verb(machine *m, enum job_verb which)
{
    return ask(m, (struct job_waiter){.question = JOB_ASK_VERB, .verb = which});
}

static inline void leave(machine *m, seat *s)
{
    s->left = true;
    for (int v = 0; v <= JOB_DISMISS; v++)
        if (m->asker[v] == &s->waiter)
            m->asker[v] = NULL;
    job_leave(&m->job, &s->waiter);
}

/* -------------------------------------------------------------------- facts */

static inline enum job_verb verb_of(const char *word)
{
    int v = 0;
    while (strcmp(verb_words[v], word) != 0)
        v++;
    return (enum job_verb)v;
}

static inline void reply_with(machine *m, enum job_verb v, const struct job_reply *reply)
{
    assert_true(machine_is_flying(m, v));
    struct job_waiter *waiter = m->asker[v];
    m->flying[v]--;
    m->asker[v] = NULL;
    job_reply(&m->job, v, waiter, reply);
}

static inline void accept_verb(machine *m, enum job_verb v)
{
    m->dismissed = m->dismissed || (v == JOB_DISMISS && !m->asker[v]);
    reply_with(m, v, &(struct job_reply){.accepted = true});
}

static inline void refuse_verb(machine *m, enum job_verb v, bool no_job)
{
    reply_with(m, v,
               &(struct job_reply){
                   .no_job = no_job,
                   .error = BJ_E_REFUSED,
                   .error_class = no_job ? "DeviceNotActive" : "GenericError",
                   .text = "QEMU said no",
               });
}

static inline void row_says(machine *m, struct job_row row)
{
    m->query_out = false;
    job_row(&m->job, &row);
}

static inline void graph_says(machine *m, enum job_switch result)
{
    m->graph_out = false;
    job_graph(&m->job, result);
}

/* Replies that were under way do not come any more. */
static inline void machine_disconnect(machine *m)
{
    for (int v = 0; v <= JOB_DISMISS; v++) {
        m->flying[v] = 0;
        m->asker[v] = NULL;
    }
    m->query_out = m->graph_out = false;
    job_disconnected(&m->job);
}

static inline void found_says(machine *m, struct job_row row)
{
    row.ready |= row.status == JOB_STATUS_READY || row.status == JOB_STATUS_STANDBY;
    job_found(&m->job, &row);
}

static inline void tick(machine *m)
{
    m->stall_timer = 0;
    job_tick(&m->job);
}

/* The delays of all soft aborts that have one are over. */
static inline void escalate_all(machine *m)
{
    for (int i = 0; i < m->seat_count; i++) {
        seat *s = &m->seats[i];
        if (!s->left && s->answers == 0 && s->waiter.force_after_ms > 0)
            job_escalate(&m->job, &s->waiter);
    }
}

static inline void feed_word(machine *m, const char *word)
{
    struct job *job = &m->job;

    if (word[0] == '~')
        job_status_event(job, job_status_of(word + 1));
    else if (word[0] == '+')
        accept_verb(m, verb_of(word + 1));
    else if (word[0] == '-')
        refuse_verb(m, verb_of(word + 1), false);
    else if (word[0] == '!')
        refuse_verb(m, verb_of(word + 1), true);
    else if (word[0] == '=')
        row_says(m, (struct job_row){.status = job_status_of(word + 1)});
    else if (strcmp(word, "READY") == 0)
        job_ready_event(job);
    else if (strcmp(word, "COMPLETED") == 0)
        job_completed_event(job, NULL);
    else if (strcmp(word, "COMPLETED{error}") == 0)
        job_completed_event(job, NO_SPACE);
    else if (strcmp(word, "CANCELLED") == 0)
        job_cancelled_event(job);
    else if (strcmp(word, "ERROR(stop)") == 0)
        job_stopped_event(job, "a write error stopped it");
    else if (strcmp(word, "PENDING") == 0)
        job_pending_event(job);
    else if (strcmp(word, "absent") == 0)
        job_absent(job);
    else if (strcmp(word, "switched") == 0)
        graph_says(m, JOB_SWITCHED);
    else if (strcmp(word, "unswitched") == 0)
        graph_says(m, JOB_NOT_SWITCHED);
    else if (strcmp(word, "disconnected") == 0)
        machine_disconnect(m);
    else if (strcmp(word, "not-found") == 0)
        job_not_found(job);
    else if (word[0] == '@')
        found_says(m, (struct job_row){.status = job_status_of(word + 1)});
    else if (strcmp(word, "tick") == 0)
        tick(m);
    else if (strcmp(word, "escalate") == 0)
        escalate_all(m);
    else
        fail_msg("no such fact: %s", word);
    machine_check(m);
}

/* Facts as they come: "~x" a status, "READY" an event, "+complete" a verb that was accepted,
 * "-complete" one refused, "!complete" one refused because there is no such job, "=x" a row, "@x"
 * the row of a job that QEMU still lists after "disconnected". */
static inline void feed(machine *m, const char *facts)
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
    assert_string_equal(bj_outcome_name((m)->job.outcome), bj_outcome_name(expected))

#endif
