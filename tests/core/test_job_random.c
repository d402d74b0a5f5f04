/* SPDX-License-Identifier: MIT */
/*
 * The job machine in thousands of random stories, the same ones each time. In the first kind a peer
 * says anything in any order, and the promises that need no truth must hold. In the second kind a
 * small QEMU lives through a job, and what the machine says must be what happened there.
 */
#include "machine_fixture.h"

#define STORIES 20000
#define STEPS 60

static uint64_t dice;

static unsigned roll(unsigned sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (unsigned)((dice >> 33) % sides);
}

static bool one_in(unsigned n)
{
    return roll(n) == 0;
}

static void begin_story(unsigned number)
{
    dice = 0x9e3779b97f4a7c15u * (number + 1);
}

static void end_story(fixture *m, unsigned number)
{
    fixture_end(m);
    if (m->broken)
        fail_msg("story %u: %s; it did: %s", number, m->broken, m->said);
    fixture_free(m);
}

/* ------------------------------------------------------------------ callers */

static void ask_something(fixture *m)
{
    static const enum verb verbs[] = {VERB_PAUSE,  VERB_RESUME,   VERB_SET_SPEED,
                                      VERB_CHANGE, VERB_FINALIZE, VERB_DISMISS};
    static const int aborts[] = {BJ_ABORT_SOFT, BJ_ABORT_FORCE, BJ_ABORT_SOFT | BJ_ABORT_ASYNC,
                                 BJ_ABORT_FORCE | BJ_ABORT_ASYNC};
    if (m->seat_count == SEATS)
        return;
    enum verb which = verbs[roll(5)];

    switch (roll(9)) {
    case 0:
        ready(m);
        break;
    case 1:
        done(m);
        break;
    case 2:
        released(m);
        break;
    case 3:
    case 4:
        pivot(m);
        break;
    case 5:
        pivot_if_ready(m);
        break;
    case 6:
        abort_job(m, aborts[roll(4)]);
        break;
    case 7:
        escalate(m, 500);
        break;
    default:
        /* One at a time, and none where the machine sends it too: the bench tells them apart so. */
        if (!fixture_is_flying(m, which) && !(which == VERB_DISMISS && m->machine.traits.ours))
            verb(m, which);
        break;
    }
}

static void let_someone_leave(fixture *m)
{
    if (m->seat_count == 0)
        return;
    seat *s = &m->seats[roll((unsigned)m->seat_count)];
    if (!s->left && s->answers == 0)
        leave(m, s);
}

/* -------------------------------------------------------- anything goes */

static void say_anything(fixture *m)
{
    static const char *const facts[] = {
        "~created", "~running",  "~ready",    "~standby",    "~paused",          "~waiting",
        "~pending", "~aborting", "READY",     "ERROR(stop)", "PENDING",          "~running",
        "~ready",   "~standby",  "=running",  "=ready",      "=paused",          "tick",
        "escalate", "COMPLETED", "CANCELLED", "~concluded",  "COMPLETED{error}", "=concluded",
        "~null",    "absent",
    };
    unsigned common = 19, all = sizeof facts / sizeof facts[0];
    feed(m, facts[roll(one_in(8) ? all : common)]);
}

static void reply_anything(fixture *m)
{
    enum verb v = (enum verb)roll(VERB_COUNT);
    if (!fixture_is_flying(m, v))
        return;
    if (one_in(2))
        accept_verb(m, v);
    else
        refuse_verb(m, v, one_in(3));
    fixture_check(m);
}

static void b56_promises_hold_whatever_a_peer_says(void **state)
{
    (void)state;
    for (unsigned story = 0; story < STORIES; story++) {
        begin_story(story);
        fixture *m = fixture_new((struct machine_traits){
            .never_ready = one_in(6),
            .switches = one_in(2),
            .ours = one_in(2),
            .has_status = !one_in(4),
            .stall_ms = STALL_MS,
        });
        for (int step = 0; step < STEPS; step++) {
            switch (roll(6)) {
            case 0:
            case 1:
                ask_something(m);
                break;
            case 2:
                let_someone_leave(m);
                break;
            case 3:
                reply_anything(m);
                break;
            default:
                say_anything(m);
                break;
            }
            if (m->graph_out && one_in(3))
                graph_says(m, (enum disk_switch)roll(3));
            fixture_check(m);
        }
        end_story(m, story);
    }
}

/* ------------------------------------------------------------ a small QEMU */

#define LINES 4096

struct line {
    char word[24];
    bool is_row;
    struct row row;
};

typedef struct qemu {
    fixture *m;

    /* How this one is. */
    bool is_mirror;
    bool is_5_2; /* refuses complete in standby; a late force is too late */
    bool finalizes;
    bool dismisses;
    bool has_job_commands; /* an unknown job is a GenericError to them */

    /* The job. */
    enum status status;
    bool is_ready;
    bool is_paused; /* until a resume: by someone, or by an error */
    bool by_error;
    bool completing, copying, cancelling, failing;
    bool draining;    /* force came too late: nothing holds it up any more */
    bool others_verb; /* another client completed or cancelled it */
    bool pivoted, completed, cancelled, failed;

    int commands_read[VERB_COUNT];
    bool query_read;

    struct line lines[LINES]; /* on the wire to us */
    int first, last;
} qemu;

static void write_line(qemu *q, const char *word)
{
    assert_true(q->last < LINES);
    struct line *line = &q->lines[q->last++];
    snprintf(line->word, sizeof line->word, "%s", word);
}

static void set_status(qemu *q, enum status status)
{
    char word[24];
    snprintf(word, sizeof word, "~%s", job_status_name(status));
    q->status = status;
    write_line(q, word);
}

static bool has_ended(const qemu *q)
{
    return q->completed || q->cancelled || q->failed;
}

static void conclude(qemu *q)
{
    set_status(q, STATUS_CONCLUDED);
    if (q->dismisses)
        set_status(q, STATUS_NULL);
}

static void finish(qemu *q)
{
    q->completed = true;
    q->pivoted = q->completing;
    write_line(q, "COMPLETED");
    conclude(q);
}

static void cancel(qemu *q)
{
    if (q->is_paused)
        set_status(q, STATUS_RUNNING);
    q->is_paused = false;
    set_status(q, STATUS_ABORTING);
    q->cancelled = true;
    write_line(q, "CANCELLED");
    conclude(q);
}

static void break_down(qemu *q)
{
    set_status(q, STATUS_ABORTING);
    q->failed = true;
    write_line(q, "COMPLETED{error}");
    conclude(q);
}

static void stand(qemu *q)
{
    set_status(q, q->is_ready ? STATUS_STANDBY : STATUS_PAUSED);
}

static void go_on(qemu *q)
{
    set_status(q, q->is_ready ? STATUS_READY : STATUS_RUNNING);
}

static bool works(const qemu *q)
{
    return q->status >= STATUS_RUNNING && q->status <= STATUS_STANDBY;
}

/* What is bound to happen next. False if nothing is, until someone does something. */
static bool advance(qemu *q)
{
    if (q->status == STATUS_NONE) {
        set_status(q, STATUS_CREATED);
    } else if (q->status == STATUS_CREATED) {
        set_status(q, STATUS_RUNNING);
    } else if (q->status == STATUS_WAITING) {
        set_status(q, STATUS_PENDING);
        if (q->finalizes)
            finish(q);
        else
            write_line(q, "PENDING");
    } else if (!works(q) || has_ended(q)) {
        return false;
    } else if (q->cancelling) {
        cancel(q);
    } else if (q->is_paused) {
        return false;
    } else if (q->failing) {
        break_down(q);
    } else if (q->status == STATUS_PAUSED || q->status == STATUS_STANDBY) {
        go_on(q);
    } else if (q->is_mirror && !q->is_ready) {
        q->is_ready = true;
        set_status(q, STATUS_READY);
        write_line(q, "READY");
    } else if (!q->is_mirror || q->completing || q->copying) {
        set_status(q, STATUS_WAITING);
    } else {
        return false;
    }
    return true;
}

/* What may happen besides. */
static void have_an_accident(qemu *q)
{
    if (!works(q) || q->draining || has_ended(q))
        return;
    if (one_in(12)) {
        q->failing = true;
    } else if (q->status == STATUS_RUNNING || q->status == STATUS_READY) {
        if (one_in(4)) {
            q->is_paused = q->by_error = true;
            write_line(q, "ERROR(stop)");
        }
        stand(q); /* or the graph changed somewhere: it goes on by itself */
    }
}

static bool take_complete(qemu *q)
{
    bool can = works(q) && q->is_ready && !q->completing && !q->copying && !q->cancelling;
    if (!can || (q->is_5_2 && q->status == STATUS_STANDBY))
        return false;
    q->completing = true;
    return true;
}

static bool take_cancel(qemu *q, bool force)
{
    bool runs = q->status >= STATUS_CREATED && q->status <= STATUS_PENDING;
    if (!runs || has_ended(q) || (!force && q->is_paused))
        return false;
    if (q->status == STATUS_WAITING || q->status == STATUS_PENDING)
        cancel(q);
    else if (!q->is_ready || (force && !(q->completing && q->is_5_2)))
        q->cancelling = true;
    else if (force)
        q->draining = true;
    else if (!q->completing)
        q->copying = true;
    q->is_paused = q->by_error = false; /* every cancel that is accepted resumes it */
    return true;
}

static bool take_pause(qemu *q)
{
    if (!works(q) || q->draining || has_ended(q) || q->is_paused)
        return false;
    q->is_paused = true;
    if (q->status == STATUS_RUNNING || q->status == STATUS_READY)
        stand(q);
    return true;
}

static bool take_resume(qemu *q)
{
    if (!works(q) || !q->is_paused)
        return false;
    q->is_paused = q->by_error = false;
    go_on(q);
    return true;
}

static bool take(qemu *q, enum verb v)
{
    switch (v) {
    case VERB_COMPLETE:
        return take_complete(q);
    case VERB_CANCEL:
    case VERB_FORCE:
        return take_cancel(q, v == VERB_FORCE);
    case VERB_PAUSE:
        return take_pause(q);
    case VERB_RESUME:
        return take_resume(q);
    case VERB_SET_SPEED:
    case VERB_CHANGE:
        return works(q);
    case VERB_FINALIZE:
        if (q->status != STATUS_PENDING)
            return false;
        finish(q);
        return true;
    case VERB_DISMISS:
        if (q->status != STATUS_CONCLUDED)
            return false;
        set_status(q, STATUS_NULL);
        return true;
    }
    return false;
}

static void reply_to(qemu *q, enum verb v, bool accepted, bool unknown)
{
    char word[24];
    char sign = accepted ? '+' : unknown && !q->has_job_commands ? '!' : '-';
    snprintf(word, sizeof word, "%c%s", sign, verb_words[v]);
    write_line(q, word);
}

/* Reads one of our commands; the events that it causes come before its reply or after it. */
static bool read_command(qemu *q)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        enum verb v = (enum verb)i;
        if (q->m->flying[v] <= q->commands_read[v])
            continue;
        q->commands_read[v]++;
        if (v == VERB_COMPLETE && q->completing && !q->others_verb && !has_ended(q))
            fail_msg("a second complete: this QEMU has aborted; it did: %s", q->m->said);
        bool unknown = q->status == STATUS_NULL;
        bool accepted = take(q, v);
        while (v != VERB_DISMISS && accepted && one_in(2) && advance(q))
            continue;
        reply_to(q, v, accepted, unknown);
        return true;
    }
    return false;
}

static void write_row(qemu *q)
{
    if (q->status == STATUS_NONE || q->status == STATUS_NULL) {
        write_line(q, "absent");
        return;
    }
    write_line(q, "");
    struct line *line = &q->lines[q->last - 1];
    line->is_row = true;
    line->row = (struct row){
        .status = q->status,
        .ready = q->is_ready,
        .io_error = q->by_error && q->is_paused,
        .error = q->failed      ? NO_SPACE
                 : q->cancelled ? "Operation canceled"
                                : NULL,
        .cancelled = q->cancelled,
    };
}

static bool read_query(qemu *q)
{
    if (!q->m->query_out || q->query_read)
        return false;
    q->query_read = true;
    write_row(q);
    return true;
}

/* Takes the next line off the wire. */
static bool hear(qemu *q)
{
    if (q->first == q->last)
        return false;
    struct line *line = &q->lines[q->first++];
    fixture *m = q->m;

    if (line->is_row || strcmp(line->word, "absent") == 0) {
        q->query_read = false;
        m->query_out = false;
    }
    if (line->is_row)
        machine_row(&m->machine, &line->row);
    else if (strchr("+-!", line->word[0]))
        q->commands_read[verb_of(line->word + 1)]--, feed(m, line->word);
    else
        feed(m, line->word);
    fixture_check(m);
    return true;
}

static void let_another_client_act(qemu *q)
{
    enum verb v = (enum verb)roll(VERB_FINALIZE + 1);
    bool is_fatal = v <= VERB_FORCE;
    if (v == VERB_COMPLETE && q->completing)
        return;
    if (take(q, v) && is_fatal)
        q->others_verb = true;
}

static bool answer_graph(qemu *q)
{
    if (!q->m->graph_out)
        return false;
    enum disk_switch truth = q->pivoted ? SWITCHED : NOT_SWITCHED;
    graph_says(q->m, one_in(2) ? truth : SWITCH_UNKNOWN);
    return true;
}

static bool has_escalation(const fixture *m)
{
    for (int i = 0; i < m->seat_count; i++)
        if (!m->seats[i].left && m->seats[i].answers == 0 && m->seats[i].waiter.force_after_ms > 0)
            return true;
    return false;
}

static bool expire(fixture *m)
{
    if (m->stall_timer == 0 && !has_escalation(m))
        return false;
    feed(m, m->stall_timer > 0 ? "tick" : "escalate");
    return true;
}

/* Until nothing more happens by itself. */
static void let_it_settle(qemu *q)
{
    while (read_command(q) || read_query(q) || advance(q) || hear(q) || answer_graph(q) ||
           expire(q->m))
        continue;
}

static void live_a_step(qemu *q)
{
    switch (roll(12)) {
    case 0:
    case 1:
        ask_something(q->m);
        break;
    case 2:
        if (one_in(3))
            let_someone_leave(q->m);
        break;
    case 3:
        if (one_in(4))
            have_an_accident(q);
        break;
    case 4:
        if (one_in(4))
            let_another_client_act(q);
        break;
    case 5:
        if (one_in(3))
            expire(q->m);
        break;
    case 6:
        advance(q);
        break;
    case 7:
        read_command(q);
        break;
    case 8:
        read_query(q);
        answer_graph(q);
        break;
    default:
        hear(q);
        break;
    }
}

/* ---------------------------------------------------------------- the truth */

static bool is_true(const qemu *q)
{
    switch (q->m->machine.outcome) {
    case BJ_OUTCOME_PIVOTED:
        return q->completed && q->pivoted;
    case BJ_OUTCOME_COPIED:
        /* A soft cancel is accepted after another client's complete as well: nobody can tell. */
        return q->completed && q->is_mirror && (!q->pivoted || q->others_verb);
    case BJ_OUTCOME_COMPLETED:
        return q->completed && (!q->is_mirror || q->others_verb);
    case BJ_OUTCOME_CANCELLED:
        return q->cancelled;
    case BJ_OUTCOME_FAILED:
        return q->failed;
    default:
        return !has_ended(q);
    }
}

/* Whether the seat may still be waiting, now that nothing more happens by itself. */
static bool may_wait(const qemu *q, const seat *s)
{
    switch (s->waiter.question) {
    case ASK_DONE:
        return !has_ended(q) && !q->by_error;
    case ASK_READY:
        return !has_ended(q) && !q->is_ready && !q->by_error;
    case ASK_RELEASED:
        return q->status != STATUS_NULL && !(q->by_error && !has_ended(q));
    default:
        return false; /* a verb, a pivot, an abort: done, or told why not */
    }
}

static bool told_the_truth(const qemu *q, const seat *s)
{
    bj_outcome outcome = q->m->machine.outcome;
    if (s->error != BJ_OK)
        return true;
    if (s->waiter.question == ASK_PIVOT)
        return outcome == BJ_OUTCOME_PIVOTED;
    if (s->waiter.question == ASK_DONE)
        return outcome != BJ_OUTCOME_NONE && outcome != BJ_OUTCOME_FAILED;
    return s->waiter.question != ASK_READY || q->is_ready;
}

static void judge(const qemu *q, unsigned story)
{
    static const char *const questions[] = {"ready", "done",   "released", "pivot",
                                            "abort", "finish", "verb"};
    const fixture *m = q->m;

    if (!is_true(q))
        fail_msg("story %u: %s is not what happened; it did: %s", story,
                 bj_outcome_name(m->machine.outcome), m->said);
    for (int i = 0; i < m->seat_count; i++) {
        const seat *s = &m->seats[i];
        const char *who = questions[s->waiter.question];
        if (!s->left && s->answers == 0 && !may_wait(q, s))
            fail_msg("story %u: %s (flags %d) hangs in %s; it did: %s", story, who, s->waiter.flags,
                     job_status_name(q->status), m->said);
        if (s->answers == 1 && !told_the_truth(q, s))
            fail_msg("story %u: %s was told a success that was none; it did: %s", story, who,
                     m->said);
    }
    if (m->machine.traits.ours && q->status == STATUS_CONCLUDED)
        fail_msg("story %u: nobody dismissed it; it did: %s", story, m->said);
}

static void b17_what_is_said_is_what_happened_and_nobody_hangs(void **state)
{
    (void)state;
    for (unsigned story = 0; story < STORIES; story++) {
        begin_story(story);
        bool mirrors = !one_in(4), ours = one_in(2);
        qemu *q = calloc(1, sizeof *q);
        assert_non_null(q);
        q->m = fixture_new((struct machine_traits){
            .never_ready = !mirrors,
            .switches = mirrors && one_in(2), /* else an active commit */
            .ours = ours,
            .has_status = true,
            .stall_ms = STALL_MS,
        });
        q->is_mirror = mirrors;
        q->finalizes = !one_in(6);
        q->is_5_2 = q->finalizes && one_in(2);
        q->dismisses = !ours && !one_in(4);
        q->has_job_commands = one_in(2);

        for (int step = 0; step < STEPS; step++)
            live_a_step(q);
        let_it_settle(q);
        judge(q, story);

        end_story(q->m, story);
        free(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b56_promises_hold_whatever_a_peer_says),
        cmocka_unit_test(b17_what_is_said_is_what_happened_and_nobody_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
