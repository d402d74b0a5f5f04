/* SPDX-License-Identifier: MIT */
/*
 * Two clients of the library and a foreign one race pivots, aborts and pauses of several jobs in
 * one QEMU, which is killed, stopped and continued, told to quit, or left alone, at random moments.
 * What the library says of it is then compared with what a witness has seen, which owes it nothing.
 *
 *     stress [SECONDS [SEED]]     10 s, or $STRESS_SECONDS; with a seed only that round, repeated
 *
 * A round is made of its seed alone, but for the time that things take.
 */
#include "relay.h"
#include "rig.h"

#include "cmocka_all.h"
#include "qemus.h"

#include <blockjob/blockjob.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Nothing here takes a second of it on a machine that is busy with all the others. */
#define PATIENCE_MS (60 * 1000)

enum { LANES = 3, SLOTS = 6, MAX_ACTIONS = 64, MAX_ASKS = 160 };

/* Who gives a verb: the two clients of the library, or the witness. */
enum who { ONE, TWO, WITNESS };

typedef enum verb {
    PIVOT,
    PIVOT_IF_READY,
    SOFT,
    FORCE,
    SOFT_ASYNC,
    FORCE_ASYNC,
    ESCALATE,
    READY,
    DONE,
    RELEASED,
    QUERY,
    PAUSE,
    RESUME,
    RAW_COMPLETE,
    RAW_CANCEL,
    UNLIMIT,
    VERBS
} verb;

static const char *const verb_names[VERBS] = {
    "pivot",    "pivot if ready", "soft",       "force",    "soft async", "force async",
    "escalate", "ready",          "done",       "released", "query",      "pause",
    "resume",   "raw complete",   "raw cancel", "unlimit",
};

typedef enum fate { LIVES, CUT, KILLED, RESTARTED, STOPPED, STOPPED_AND_KILLED, QUITS, FATES } fate;
static const char *const fate_names[FATES] = {"lives",      "is cut off",
                                              "is killed",  "is killed and restarted",
                                              "is stopped", "is stopped and killed",
                                              "quits"};

typedef struct action {
    int at_us;
    int slot;
    enum who who;
    verb verb;
    int64_t timeout_ms;
    bool cancelled; /* the future is cancelled at once: nobody listens */
} action;

/* How often a callback ran, and its free. */
typedef struct tally {
    atomic_int calls;
    atomic_int frees;
} tally;

typedef struct ask {
    bj_future *future;
    verb verb;
    int slot;
    enum who who;
    bool deadline;
    bool cancelled;
    tally tally;
} ask;

/* What a job's watch has told. */
typedef struct news {
    pthread_mutex_t mutex;
    int ready;
    int ended;
    int closed;
    int after_closed;
    bj_outcome outcome;
    bool lagged;
} news;

/* A job as one client of the library knows it. */
typedef struct known {
    bj_job *job; /* NULL: this client never got hold of it */
    bj_watch *watch;
    news news;
} known;

typedef struct side {
    bj_monitor *monitor;
    bj_watch *watch;
    pthread_mutex_t mutex;
    json_t *events; /* that its monitor's watch has told */
    bool is_over;   /* it was when it was asked to be connected again */
    int left;       /* how often its connection was told to have ended, */
    int came_back;  /* and to have been made again */
    atomic_int closed;
    known runs[SLOTS];
} side;

typedef struct slot {
    char id[16];
    bool backup;
    enum who owner;
    unsigned asked[3]; /* verbs that each has given, as bits */
} slot;

typedef struct round {
    uint64_t seed;
    uint64_t random;
    const char *dir;
    rig *rig;
    fate fate;
    relay relay[2];  /* where connections are cut */
    bool system;     /* a guest's QEMU, and not the daemon */
    bool reconnects; /* the clients of the library wish to be connected again */
    int fate_at_us;
    int stopped_us;
    int slots;
    slot slot[SLOTS];
    side side[2];
    action actions[MAX_ACTIONS];
    int action_count;
    ask asks[MAX_ASKS];
    int ask_count;
    atomic_int watches; /* whose closures are not freed yet */
    struct timespec begin;
    json_t *first_events; /* that the witness of a QEMU has seen that was restarted since */
    bool alive;           /* QEMU has answered to the end */
    json_t *guests;       /* as they were when all was over */
    int wrong;
} round;

typedef struct lane {
    pthread_t thread;
    rig rig;
    int number;
} lane;

static bj_ctx *contexts[2];
static struct timespec end_of_all;
static uint64_t first_seed;
static bool one_seed;
static atomic_ullong next_round;
static atomic_int failures;
static atomic_int rounds, jobs, answers, crashes, unsure, fates[FATES],
    outcomes[BJ_OUTCOME_LOST + 1];

/* ------------------------------------------------------------------- chance */

static uint64_t draw(round *r)
{
    uint64_t z = r->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int below(round *r, int limit)
{
    return (int)(draw(r) % (uint64_t)limit);
}

static bool chance(round *r, int percent)
{
    return below(r, 100) < percent;
}

/* --------------------------------------------------------------------- time */

static int64_t elapsed_us(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)(now.tv_sec - since->tv_sec) * 1000000 + (now.tv_nsec - since->tv_nsec) / 1000;
}

static void sleep_until(const struct timespec *since, int at_us)
{
    int64_t left = at_us - elapsed_us(since);
    if (left > 0)
        usleep((useconds_t)left);
}

/* ---------------------------------------------------------------- the plan */

static void plan_actions(round *r, int horizon_us)
{
    static const verb of_library[] = {
        PIVOT,      PIVOT,        PIVOT,      PIVOT_IF_READY, SOFT,    SOFT,    FORCE,    FORCE,
        SOFT_ASYNC, FORCE_ASYNC,  ESCALATE,   READY,          READY,   DONE,    RELEASED, QUERY,
        PAUSE,      RAW_COMPLETE, RAW_CANCEL, UNLIMIT,        UNLIMIT, UNLIMIT,
    };
    static const verb of_witness[] = {RAW_COMPLETE, RAW_COMPLETE, SOFT,   FORCE,
                                      RAW_CANCEL,   PAUSE,        UNLIMIT};

    for (int s = 0; s < r->slots; s++) {
        for (int n = 1 + below(r, 6); n > 0 && r->action_count < MAX_ACTIONS - 1; n--) {
            action *a = &r->actions[r->action_count++];
            *a = (action){.at_us = below(r, horizon_us),
                          .slot = s,
                          .who = (enum who)(chance(r, 25) ? WITNESS : below(r, 2)),
                          .timeout_ms = chance(r, 20) ? below(r, 6) : BJ_TIMEOUT_NONE,
                          .cancelled = chance(r, 7)};
            a->verb = a->who == WITNESS
                          ? of_witness[below(r, sizeof(of_witness) / sizeof(of_witness[0]))]
                          : of_library[below(r, sizeof(of_library) / sizeof(of_library[0]))];
            if (a->verb == PAUSE) {
                action *resume = &r->actions[r->action_count++];
                *resume = *a;
                resume->verb = RESUME;
                resume->at_us += 100 + below(r, 3000);
            }
        }
    }
}

static int earlier(const void *one, const void *other)
{
    return ((const action *)one)->at_us - ((const action *)other)->at_us;
}

static void plan(round *r)
{
    static const int horizons_us[] = {1000, 5000, 5000, 20000, 60000};
    static const fate chances[] = {CUT,
                                   CUT,
                                   LIVES,
                                   LIVES,
                                   LIVES,
                                   LIVES,
                                   KILLED,
                                   KILLED,
                                   RESTARTED,
                                   RESTARTED,
                                   STOPPED,
                                   STOPPED,
                                   STOPPED_AND_KILLED,
                                   QUITS};
    int horizon_us = horizons_us[below(r, 5)];

    r->fate = chances[below(r, sizeof(chances) / sizeof(chances[0]))];
    r->system = chance(r, 25);
    r->reconnects = r->fate == RESTARTED || r->fate == CUT || chance(r, 20);
    r->fate_at_us = below(r, horizon_us + 2000);
    r->stopped_us = below(r, 20000);
    r->slots = 1 + below(r, SLOTS);
    for (int s = 0; s < r->slots; s++) {
        snprintf(r->slot[s].id, sizeof(r->slot[s].id), "job%d", s);
        r->slot[s].backup = chance(r, 10);
        r->slot[s].owner = (enum who)below(r, 2);
    }
    plan_actions(r, horizon_us);
    qsort(r->actions, (size_t)r->action_count, sizeof(r->actions[0]), earlier);
}

/* ----------------------------------------------------------------- the fate */

static void *meet_fate(void *user)
{
    round *r = user;
    sleep_until(&r->begin, r->fate_at_us);
    if (r->fate == KILLED || r->fate == RESTARTED)
        kill(r->rig->pid, SIGKILL);
    for (int i = 0; r->fate == CUT && i < 3; i++) {
        relay_cut(&r->relay[i % 2]);
        usleep((useconds_t)r->stopped_us);
    }
    if (r->fate == STOPPED || r->fate == STOPPED_AND_KILLED) {
        kill(r->rig->pid, SIGSTOP);
        usleep((useconds_t)r->stopped_us);
        kill(r->rig->pid, r->fate == STOPPED ? SIGCONT : SIGKILL);
    }
    return NULL;
}

/* ------------------------------------------------------------ what is heard */

static void count_call(bj_future *future, void *user)
{
    (void)future;
    atomic_fetch_add(&((tally *)user)->calls, 1);
}

static void count_free(void *user)
{
    atomic_fetch_add(&((tally *)user)->frees, 1);
}

static void keep_event(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch;
    side *s = user;
    pthread_mutex_lock(&s->mutex);
    if (record->kind == BJ_RECORD_EVENT) {
        json_t *event = json_object();
        json_object_set_new(event, "event", json_string(record->name));
        json_object_set_new(event, "data", json_loads(record->text, JSON_DECODE_ANY, NULL));
        json_array_append_new(s->events, event);
    }
    s->left += record->kind == BJ_RECORD_DISCONNECTED;
    s->came_back += record->kind == BJ_RECORD_RECONNECTED;
    pthread_mutex_unlock(&s->mutex);
    if (record->kind == BJ_RECORD_CLOSED)
        atomic_store(&s->closed, 1);
}

static void keep_news(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch;
    news *n = user;
    pthread_mutex_lock(&n->mutex);
    n->after_closed += n->closed;
    n->ready += record->kind == BJ_RECORD_READY;
    n->closed += record->kind == BJ_RECORD_CLOSED;
    n->lagged |= record->kind == BJ_RECORD_LAGGED;
    if (record->kind == BJ_RECORD_ENDED) {
        n->ended++;
        n->outcome = record->outcome;
    }
    pthread_mutex_unlock(&n->mutex);
}

/* ---------------------------------------------------------------- the scene */

static void wrong(round *r, int s, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A disk, a place for its copy, and a guest who has the disk. */
static void add_disk(round *r, int s)
{
    static const int sizes[] = {0, 65536, 1 << 20, 4 << 20};
    static const int latencies_ns[] = {0, 0, 100000, 2000000};
    const int size = sizes[below(r, 4)];
    for (int i = 0; i < 2; i++) {
        rig_send(
            r->rig,
            "\"execute\": \"blockdev-add\", \"arguments\": {\"driver\": \"null-co\", "
            "\"node-name\": \"%s%d\", \"size\": %d, \"read-zeroes\": true, \"latency-ns\": %d}",
            i ? "copy" : "disk", s, size, latencies_ns[below(r, 4)]);
    }
    if (r->system)
        rig_send(r->rig,
                 "\"execute\": \"device_add\", \"arguments\": {\"driver\": \"virtio-blk-pci\", "
                 "\"id\": \"guest%d\", \"drive\": \"disk%d\", \"share-rw\": true}",
                 s, s);
    else
        rig_send(r->rig,
                 "\"execute\": \"block-export-add\", \"arguments\": {\"type\": \"nbd\", "
                 "\"id\": \"guest%d\", \"node-name\": \"disk%d\", \"writable\": true}",
                 s, s);
}

/* What the guests have as their disks; NULL if QEMU can't be asked any more. */
static json_t *ask_guests(round *r)
{
    json_t *reply = rig_ask(r->rig, r->system ? "\"execute\": \"query-block\""
                                              : "\"execute\": \"query-block-exports\"");
    json_t *guests = json_incref(json_object_get(reply, "return"));
    json_decref(reply);
    return guests;
}

static bool has_copy(json_t *guests, int s)
{
    char id[32], path[64], copy[32];
    snprintf(id, sizeof(id), "guest%d", s);
    snprintf(path, sizeof(path), "/machine/peripheral/guest%d/virtio-backend", s);
    snprintf(copy, sizeof(copy), "copy%d", s);
    size_t i;
    json_t *guest;
    json_array_foreach(guests, i, guest)
    {
        const char *name = json_string_value(json_object_get(guest, "id"));
        const char *qdev = json_string_value(json_object_get(guest, "qdev"));
        if ((name && strcmp(name, id) == 0) || (qdev && strcmp(qdev, path) == 0)) {
            json_t *node =
                json_object_get(name ? guest : json_object_get(guest, "inserted"), "node-name");
            return strcmp(json_string_value(node), copy) == 0;
        }
    }
    fprintf(stderr, "the guest %d has no disk\n", s);
    abort();
}

static void set_scene(round *r, const char *dir)
{
    if (!r->system) {
        json_decref(rig_ask(r->rig,
                            "\"execute\": \"nbd-server-start\", \"arguments\": {\"addr\": "
                            "{\"type\": \"unix\", \"data\": {\"path\": \"%s/nbd-%d\"}}}",
                            dir, (int)r->rig->pid));
    }
    for (int s = 0; s < r->slots; s++)
        add_disk(r, s);
    json_t *guests = ask_guests(r);
    for (int s = 0; s < r->slots; s++)
        assert_false(has_copy(guests, s));
    json_decref(guests);
}

/* The connection has ended, and QEMU with it; a moment may lie between the two. */
static bool died(round *r, int error)
{
    if (error != BJ_E_DISCONNECTED && error != BJ_E_CONNECT && error != BJ_E_JOB_LOST)
        return false;
    for (int ms = 0; rig_lives(r->rig) && ms < PATIENCE_MS; ms++)
        usleep(1000);
    return !rig_lives(r->rig);
}

static void watch_run(round *r, known *run)
{
    atomic_fetch_add(&jobs, 1);
    assert_int_equal(pthread_mutex_init(&run->news.mutex, NULL), 0);
    if (bj_job_watch(run->job, 0, &run->watch) != BJ_OK)
        wrong(r, -1, "a job can't be watched");
    else
        bj_watch_on_record(run->watch, (bj_watch_closure){.fn = keep_news, .user = &run->news});
}

/* The future's answer must come; true if it is a good one. */
static bool answered(round *r, int s, const char *what, bj_future *future, int allowed)
{
    if (bj_future_wait(future, PATIENCE_MS) != BJ_OK) {
        wrong(r, s, "HANG: %s", what);
        return false;
    }
    int error = bj_future_error(future);
    const bool was_cut = r->fate == CUT && error == BJ_E_DISCONNECTED;
    if (error != BJ_OK && error != allowed && !was_cut && !died(r, error))
        wrong(r, s, "%s: %s: %s", what, bj_error_name(error), bj_future_text(future));
    return error == BJ_OK;
}

static const char *path_for(round *r, int i)
{
    return r->fate == CUT ? r->rig->relayed[i] : r->rig->path[i];
}

static void connect_sides(round *r)
{
    for (int i = 0; i < 2; i++) {
        side *s = &r->side[i];
        pthread_mutex_init(&s->mutex, NULL);
        s->events = json_array();
        bj_future *f = bj_monitor_connect(contexts[i], path_for(r, i), PATIENCE_MS);
        if (answered(r, -1, "connect", f, BJ_OK)) {
            s->monitor = bj_future_monitor(f);
            bj_watch_closure closure = {.fn = keep_event, .user = s};
            if (bj_monitor_watch(s->monitor, &s->watch) == BJ_OK)
                bj_watch_on_record(s->watch, closure);
            const bool for_good = r->fate == RESTARTED || r->fate == CUT;
            /* It may be over already: then it stays so. */
            if (r->reconnects)
                s->is_over = bj_monitor_set_reconnect(
                                 s->monitor, for_good ? PATIENCE_MS : 1 + below(r, 300)) != BJ_OK;
        }
        bj_future_unref(f);
    }
}

static void start_jobs(round *r)
{
    bj_future *starts[SLOTS] = {NULL};
    for (int i = 0; i < r->slots; i++) {
        side *s = &r->side[r->slot[i].owner];
        char arguments[256];
        bool limited = chance(r, 40);
        snprintf(arguments, sizeof(arguments),
                 "{\"job-id\": \"%s\", \"device\": \"disk%d\", \"target\": \"copy%d\", "
                 "\"sync\": \"full\"%s}",
                 r->slot[i].id, i, i, limited ? ", \"speed\": 1" : "");
        starts[i] =
            bj_monitor_start(s->monitor, r->slot[i].backup ? "blockdev-backup" : "blockdev-mirror",
                             arguments, PATIENCE_MS);
    }
    for (int i = 0; i < r->slots; i++) {
        side *s = &r->side[r->slot[i].owner];
        if (s->monitor && answered(r, i, "start", starts[i], BJ_OK)) {
            s->runs[i].job = bj_future_job(starts[i]);
            watch_run(r, &s->runs[i]);
        }
        bj_future_unref(starts[i]);
    }
}

static void attach_to_jobs(round *r)
{
    for (int i = 0; i < r->slots; i++) {
        side *s = &r->side[1 - r->slot[i].owner];
        if (!s->monitor || chance(r, 15))
            continue;
        bj_future *f = bj_monitor_attach(s->monitor, r->slot[i].id, PATIENCE_MS);
        /* It may be over already. */
        if (answered(r, i, "attach", f, BJ_E_NO_JOB)) {
            s->runs[i].job = bj_future_job(f);
            watch_run(r, &s->runs[i]);
        }
        bj_future_unref(f);
    }
}

/* ---------------------------------------------------------------- the verbs */

static ask *new_ask(round *r, const action *a, bj_future *future)
{
    if (r->ask_count == MAX_ASKS) {
        bj_future_unref(future);
        return NULL;
    }
    ask *asked = &r->asks[r->ask_count++];
    asked->future = future;
    asked->verb = a->verb;
    asked->slot = a->slot;
    asked->who = a->who;
    asked->deadline = a->timeout_ms != BJ_TIMEOUT_NONE;
    asked->cancelled = a->cancelled;
    bj_closure closure = {.fn = count_call, .user = &asked->tally, .free = count_free};
    if (bj_future_on_done(future, closure) != BJ_OK)
        wrong(r, a->slot, "no callback");
    if (a->cancelled)
        bj_future_cancel(future);
    return asked;
}

static bj_future *raw(round *r, const action *a, const char *command)
{
    char arguments[64];
    snprintf(arguments, sizeof(arguments), "{\"device\": \"%s\"}", r->slot[a->slot].id);
    return bj_monitor_execute(r->side[a->who].monitor, command, arguments, a->timeout_ms);
}

static bj_future *library_does(round *r, const action *a)
{
    bj_job *job = r->side[a->who].runs[a->slot].job;
    int64_t t = a->timeout_ms;
    switch (a->verb) {
    case PIVOT:
        return bj_job_pivot(job, BJ_PIVOT_WAIT_READY, t);
    case PIVOT_IF_READY:
        return bj_job_pivot(job, BJ_PIVOT_ONLY_IF_READY, t);
    case SOFT:
        return bj_job_abort(job, BJ_ABORT_SOFT, t);
    case FORCE:
        return bj_job_abort(job, BJ_ABORT_FORCE, t);
    case SOFT_ASYNC:
        return bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, t);
    case FORCE_ASYNC:
        return bj_job_abort(job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, t);
    case ESCALATE:
        return bj_job_abort_escalate(job, 1 + a->at_us % 5, t);
    case READY:
        return bj_job_ready(job, t);
    case DONE:
        return bj_job_done(job, BJ_DONE_OVER, t);
    case RELEASED:
        return bj_job_done(job, BJ_DONE_RELEASED, t);
    case QUERY:
        return bj_job_query(job, t);
    case PAUSE:
        return bj_job_pause(job, t);
    case RESUME:
        return bj_job_resume(job, t);
    case RAW_COMPLETE:
        return raw(r, a, "block-job-complete");
    case RAW_CANCEL:
        return raw(r, a, "block-job-cancel");
    default:
        return bj_job_set_speed(job, 0, t);
    }
}

static void witness_does(round *r, const action *a)
{
    static const struct {
        const char *command;
        const char *key;
        const char *more;
    } words[VERBS] = {
        [RAW_COMPLETE] = {"block-job-complete", "device", ""},
        [SOFT] = {"block-job-cancel", "device", ""},
        [RAW_CANCEL] = {"block-job-cancel", "device", ", \"force\": true"},
        [FORCE] = {"job-cancel", "id", ""},
        [PAUSE] = {"job-pause", "id", ""},
        [RESUME] = {"job-resume", "id", ""},
        [UNLIMIT] = {"block-job-set-speed", "device", ", \"speed\": 0"},
    };
    rig_send(r->rig, "\"execute\": \"%s\", \"arguments\": {\"%s\": \"%s\"%s}",
             words[a->verb].command, words[a->verb].key, r->slot[a->slot].id, words[a->verb].more);
}

static void act(round *r, const action *a)
{
    r->slot[a->slot].asked[a->who] |= 1u << a->verb;
    if (a->who == WITNESS)
        witness_does(r, a);
    else if (r->side[a->who].runs[a->slot].job)
        new_ask(r, a, library_does(r, a));
}

/* ------------------------------------------------------------------ the end */

static bool all_answered(round *r)
{
    for (int i = 0; i < r->ask_count; i++) {
        if (!bj_future_is_done(r->asks[i].future))
            return false;
    }
    return true;
}

/* What the witness of the first QEMU has seen is kept for the verdict. */
static void restart(round *r)
{
    while (!r->rig->over)
        rig_read(r->rig, -1);
    json_t *seen = json_incref(r->rig->events);
    rig_end(r->rig);
    if (!rig_start(r->rig, r->system))
        wrong(r, -1, "QEMU does not start again");
    set_scene(r, r->dir);
    json_decref(r->first_events);
    r->first_events = seen;
}

static json_t *seen_by_witness(round *r)
{
    return r->first_events ? r->first_events : r->rig->events;
}

/* What is left runs to its end: cancelled by the witness, if QEMU lives. */
static void come_to_an_end(round *r)
{
    for (int who = 0; who < 2; who++) {
        for (int i = 0; i < r->slots; i++) {
            const action done = {
                .slot = i, .who = (enum who)who, .verb = DONE, .timeout_ms = BJ_TIMEOUT_NONE};
            if (r->side[who].runs[i].job)
                new_ask(r, &done, library_does(r, &done));
        }
    }
    if (r->fate == QUITS)
        rig_send(r->rig, "\"execute\": \"quit\"");
    if (r->fate == RESTARTED)
        restart(r);

    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int64_t next_us = below(r, 10000);
    while (!all_answered(r) && elapsed_us(&begin) < PATIENCE_MS * 1000) {
        if (elapsed_us(&begin) >= next_us && r->fate != QUITS && r->fate != RESTARTED) {
            for (int i = 0; i < r->slots; i++) {
                const action cancel = {.slot = i, .who = WITNESS, .verb = FORCE};
                act(r, &cancel);
            }
            next_us += 50000;
        }
        rig_read(r->rig, 1);
        usleep(200);
    }
    for (int i = 0; i < r->ask_count; i++) {
        if (!bj_future_is_done(r->asks[i].future))
            wrong(r, r->asks[i].slot, "HANG: %s by %d", verb_names[r->asks[i].verb],
                  r->asks[i].who);
    }
}

/* The guest has its disk before QEMU tells that the job is over. */
static void ask_witness(round *r)
{
    /* One that quits has taken the disks away before it goes. */
    const bool same = r->fate != RESTARTED && r->fate != QUITS;
    r->guests = same ? ask_guests(r) : NULL;
    r->alive = r->guests && rig_lives(r->rig);
    while (!rig_lives(r->rig) && !r->rig->over)
        rig_read(r->rig, -1);
}

static bool switched(round *r, int s)
{
    return has_copy(r->guests, s);
}

/* --------------------------------------------------------------- the verdict */

static void wrong(round *r, int s, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "WRONG: seed %" PRIu64 ": QEMU %s: job%d: %s\n", r->seed, fate_names[r->fate],
            s, text);
    r->wrong++;
}

static bool anybody_asked(round *r, int s, unsigned verbs)
{
    return ((r->slot[s].asked[ONE] | r->slot[s].asked[TWO] | r->slot[s].asked[WITNESS]) & verbs) !=
           0;
}

#define BIT(verb) (1u << (verb))
#define COMPLETES (BIT(PIVOT) | BIT(PIVOT_IF_READY) | BIT(RAW_COMPLETE))
#define CANCELS                                                                                    \
    (BIT(SOFT) | BIT(FORCE) | BIT(SOFT_ASYNC) | BIT(FORCE_ASYNC) | BIT(ESCALATE) | BIT(RAW_CANCEL))

/* COMPLETED without an error: the graph tells, where QEMU can be asked; else what was asked for. */
static void judge_completed(round *r, enum who who, int s, bj_outcome outcome)
{
    const bool others =
        ((r->slot[s].asked[1 - who] | r->slot[s].asked[WITNESS]) & (COMPLETES | CANCELS)) != 0;
    if (r->slot[s].backup) {
        if (outcome != BJ_OUTCOME_COMPLETED)
            wrong(r, s, "a finished backup is %s", bj_outcome_name(outcome));
        return;
    }
    switch (outcome) {
    case BJ_OUTCOME_PIVOTED:
        if (r->alive ? !switched(r, s) : !anybody_asked(r, s, COMPLETES))
            wrong(r, s, "PIVOTED to %d, but the disk was not switched", who);
        break;
    case BJ_OUTCOME_COPIED:
        if (r->alive ? switched(r, s) : !anybody_asked(r, s, CANCELS) && r->fate != QUITS)
            wrong(r, s, "COPIED to %d, but the disk was switched, or nobody cancelled", who);
        break;
    case BJ_OUTCOME_COMPLETED:
        atomic_fetch_add(&unsure, r->alive);
        if (r->alive && !others && r->fate != CUT)
            wrong(r, s, "COMPLETED to %d, though nobody else gave a verb: %s", who,
                  bj_job_text(r->side[who].runs[s].job));
        break;
    default:
        wrong(r, s, "%s, but QEMU said COMPLETED", bj_outcome_name(outcome));
    }
}

static void judge_run(round *r, enum who who, int s)
{
    side *from = &r->side[who];
    known *run = &from->runs[s];
    const char *id = r->slot[s].id;
    bj_outcome outcome = bj_job_outcome(run->job);
    atomic_fetch_add(&outcomes[outcome], 1);

    pthread_mutex_lock(&from->mutex);
    json_t *own_data, *data;
    const char *own = last_of(from->events, id, 0, &own_data);
    const bool own_ready = was_ready(from->events, id, 0);
    pthread_mutex_unlock(&from->mutex);
    const char *last = last_of(seen_by_witness(r), id, 0, &data);
    if (!*last) {
        last = own;
        data = own_data;
    }

    if (outcome == BJ_OUTCOME_LOST) {
        /* Of a job that it has not started, and that went while it was cut off, nothing can be
         * known. */
        if (r->alive && (r->fate != CUT || who == r->slot[s].owner))
            wrong(r, s, "LOST to %d, but QEMU lives: %s", who, bj_job_text(run->job));
        else if (*own)
            wrong(r, s, "LOST to %d, but its monitor has told %s", who, own);
    } else if (!*last) {
        wrong(r, s, "%s to %d, but no end was told", bj_outcome_name(outcome), who);
    } else if (strcmp(last, "BLOCK_JOB_CANCELLED") == 0) {
        if (outcome != BJ_OUTCOME_CANCELLED)
            wrong(r, s, "%s to %d, but it was cancelled", bj_outcome_name(outcome), who);
    } else if (json_object_get(data, "error")) {
        if (outcome != BJ_OUTCOME_FAILED)
            wrong(r, s, "%s to %d, but it failed", bj_outcome_name(outcome), who);
    } else {
        judge_completed(r, who, s, outcome);
    }

    bool ready = bj_job_is_ready(run->job);
    bool seen = own_ready || was_ready(seen_by_witness(r), id, 0);
    if (ready && !seen && r->alive)
        wrong(r, s, "ready to %d, but it never was", who);
    if (own_ready && !ready && who == r->slot[s].owner)
        wrong(r, s, "not ready to %d, but its monitor has told so", who);

    if (bj_job_time(run->job, BJ_MOMENT_COMPLETE_SENT) > 0 && !seen && r->alive)
        wrong(r, s, "complete was sent before it was ready");

    pthread_mutex_lock(&run->news.mutex);
    const news n = run->news;
    pthread_mutex_unlock(&run->news.mutex);
    /* One that is PIVOTED was ready, even if nobody has heard of that. */
    bool told = n.ready == (int)ready || (n.ready == 0 && outcome == BJ_OUTCOME_PIVOTED);
    if (n.ended != 1 || n.closed != 1 || n.after_closed || !told || n.outcome != outcome)
        wrong(r, s, "the watch of %d told ready %d times, ended %d (%s), closed %d, more %d", who,
              n.ready, n.ended, bj_outcome_name(n.outcome), n.closed, n.after_closed);
}

/* What a wait may say, given how the job ended. */
static void judge_ask(round *r, const ask *a)
{
    bj_job *job = r->side[a->who].runs[a->slot].job;
    bj_outcome outcome = bj_job_outcome(job);
    bj_outcome told = bj_future_outcome(a->future);
    int error = bj_future_error(a->future);
    const bool raw_command = a->verb == RAW_COMPLETE || a->verb == RAW_CANCEL;
    bool fits = true;

    switch (error) {
    case BJ_OK:
        if (a->verb == PIVOT || a->verb == PIVOT_IF_READY)
            fits = told == BJ_OUTCOME_PIVOTED;
        else if (a->verb == DONE || a->verb == RELEASED || a->verb == SOFT || a->verb == FORCE ||
                 a->verb == ESCALATE)
            fits = told == outcome && told != BJ_OUTCOME_LOST &&
                   (told != BJ_OUTCOME_FAILED || (BIT(a->verb) & CANCELS));
        else if (a->verb == READY)
            fits = bj_job_is_ready(job);
        break;
    case BJ_E_TIMEOUT:
        fits = a->deadline;
        break;
    case BJ_E_CANCELLED:
        fits = a->cancelled;
        break;
    case BJ_E_JOB_LOST:
        fits = outcome == BJ_OUTCOME_LOST || ((!r->alive || r->fate == CUT) && a->verb != READY &&
                                              a->verb != DONE && a->verb != PIVOT);
        break;
    case BJ_E_JOB_FAILED:
        fits = outcome == BJ_OUTCOME_FAILED;
        break;
    case BJ_E_JOB_ENDED:
        fits = told == outcome && outcome != BJ_OUTCOME_LOST && outcome != BJ_OUTCOME_NONE &&
               (a->verb == READY || (a->verb != DONE && outcome != BJ_OUTCOME_PIVOTED));
        break;
    case BJ_E_STALLED:
        fits = anybody_asked(r, a->slot, BIT(PAUSE)) || a->verb == PIVOT;
        if (a->verb == PIVOT && !anybody_asked(r, a->slot, BIT(PAUSE)))
            fits = false;
        break;
    case BJ_E_NOT_READY:
        fits = a->verb == PIVOT_IF_READY;
        break;
    case BJ_E_DISCONNECTED:
        fits = (!r->alive || r->fate == CUT) &&
               (raw_command || a->verb == QUERY || a->verb == PAUSE || a->verb == RESUME ||
                a->verb == UNLIMIT || (BIT(a->verb) & CANCELS));
        break;
    case BJ_E_REFUSED:
        fits = a->verb != READY && a->verb != DONE && a->verb != RELEASED;
        if (a->verb == PIVOT)
            fits = anybody_asked(r, a->slot, CANCELS | BIT(PAUSE) | BIT(RAW_COMPLETE));
        break;
    case BJ_E_STATE:
    case BJ_E_NO_JOB:
        fits = a->verb != DONE && a->verb != RELEASED;
        break;
    default:
        fits = false;
    }
    if (told != BJ_OUTCOME_NONE && told != outcome)
        fits = false;
    if (!fits)
        wrong(r, a->slot,
              "%s of %d (deadline %d, cancelled %d): %s, %s, of a job that ended %s: %s",
              verb_names[a->verb], a->who, a->deadline, a->cancelled, bj_error_name(error),
              bj_outcome_name(told), bj_outcome_name(outcome), bj_future_text(a->future));
}

static void judge(round *r)
{
    for (int who = 0; who < 2; who++) {
        for (int s = 0; s < r->slots; s++) {
            if (r->side[who].runs[s].job)
                judge_run(r, (enum who)who, s);
        }
    }
    for (int i = 0; i < r->ask_count; i++)
        judge_ask(r, &r->asks[i]);
}

static void dump(round *r)
{
    for (int i = 0; i < r->action_count; i++) {
        const action *a = &r->actions[i];
        fprintf(stderr, "  %5d us: %d: job%d %s (timeout %d%s)\n", a->at_us, a->who, a->slot,
                verb_names[a->verb], (int)a->timeout_ms, a->cancelled ? ", cancelled" : "");
    }
    fprintf(stderr, "  fate at %d us\n  the witness has seen:\n", r->fate_at_us);
    for (int who = -1; who < 2; who++) {
        json_t *events = who < 0 ? seen_by_witness(r) : r->side[who].events;
        size_t i;
        json_t *event;
        json_array_foreach(events, i, event)
        {
            char *text = json_dumps(event, JSON_COMPACT);
            fprintf(stderr, "    %s\n", text);
            free(text);
        }
        if (who < 1)
            fprintf(stderr, "  the monitor of %d has told:\n", who + 1);
    }
}

/* ----------------------------------------------------------------- a round */

static bool until(atomic_int *value, int wanted)
{
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (atomic_load(value) != wanted && elapsed_us(&begin) < PATIENCE_MS * 1000)
        usleep(100);
    return atomic_load(value) == wanted;
}

/* Each waiter was answered once, and its closure freed once. */
static void let_go(round *r)
{
    for (int i = 0; i < r->ask_count; i++) {
        ask *a = &r->asks[i];
        bj_future_unref(a->future);
        if (!until(&a->tally.frees, 1) || atomic_load(&a->tally.calls) != 1)
            wrong(r, a->slot, "%s was answered %d times, freed %d times", verb_names[a->verb],
                  atomic_load(&a->tally.calls), atomic_load(&a->tally.frees));
    }
    atomic_fetch_add(&answers, r->ask_count);
    for (int who = 0; who < 2; who++) {
        side *s = &r->side[who];
        for (int i = 0; i < r->slots; i++) {
            bj_watch_unref(s->runs[i].watch);
            bj_job_unref(s->runs[i].job);
        }
        if (s->monitor) {
            bj_monitor_close(s->monitor);
            if (s->watch && !until(&s->closed, 1))
                wrong(r, -1, "HANG: the watch of %d's monitor is not closed", who);
            bj_watch_unref(s->watch);
            bj_monitor_unref(s->monitor);
        }
    }
}

/* The watches of jobs are closed soon after the jobs' ends were told. */
static void await_news(round *r)
{
    for (int who = 0; who < 2; who++) {
        for (int i = 0; i < r->slots; i++) {
            known *run = &r->side[who].runs[i];
            for (int n = 0; run->job && n < PATIENCE_MS * 10; n++) {
                pthread_mutex_lock(&run->news.mutex);
                int closed = run->news.closed;
                pthread_mutex_unlock(&run->news.mutex);
                if (closed)
                    break;
                usleep(100);
            }
        }
    }
}

/* The monitor is connected, or will be: a command is answered. */
static void await_connection(round *r, enum who who)
{
    int error = BJ_E_DISCONNECTED;
    for (int ms = 0; error == BJ_E_DISCONNECTED && ms < PATIENCE_MS; ms++) {
        bj_future *f = bj_monitor_execute(r->side[who].monitor, "query-version", NULL, PATIENCE_MS);
        bj_future_wait(f, PATIENCE_MS);
        error = bj_future_error(f);
        bj_future_unref(f);
        if (error == BJ_E_DISCONNECTED)
            usleep(1000);
    }
    if (error != BJ_OK)
        wrong(r, -1, "%d is not connected again: %s", who, bj_error_name(error));
}

/* The same ids once more, on the same disks, by the same monitors: other jobs, and good ones. */
static void pivot_again(round *r, int s)
{
    enum who owner = r->slot[s].owner;
    known *first = &r->side[owner].runs[s];
    if (!first->job && r->fate == CUT)
        return; /* the start's reply was lost: the first one may yet be there */
    const bj_outcome before = first->job ? bj_job_outcome(first->job) : BJ_OUTCOME_NONE;
    const bool back = r->guests && has_copy(r->guests, s);
    char source[32], target[32], id[64];
    snprintf(source, sizeof(source), "%s%d", back ? "copy" : "disk", s);
    snprintf(target, sizeof(target), "%s%d", back ? "disk" : "copy", s);
    snprintf(id, sizeof(id), "{\"job-id\": \"%s\"}", r->slot[s].id);

    bj_future *f = NULL;
    if (first->job && r->alive) {
        f = bj_job_done(first->job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE);
        answered(r, s, "released", f, BJ_OK);
        bj_future_unref(f);
    }
    f = bj_monitor_mirror(r->side[owner].monitor, source, target, "full", id, PATIENCE_MS);
    if (answered(r, s, "start again", f, BJ_OK)) {
        bj_job *job = bj_future_job(f);
        bj_future *pivot = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
        if (job == first->job)
            wrong(r, s, "the same job again");
        answered(r, s, "pivot again", pivot, BJ_OK);
        if (bj_job_outcome(job) != BJ_OUTCOME_PIVOTED)
            wrong(r, s, "%s the second time", bj_outcome_name(bj_job_outcome(job)));
        bj_future_unref(pivot);
        bj_job_unref(job);
    }
    bj_future_unref(f);
    if (first->job && bj_job_outcome(first->job) != before)
        wrong(r, s, "the first job's end has changed");
}

/* It is told a moment after commands are answered again. */
static bool told_of_connection(side *s, fate how)
{
    bool told = false;
    for (int ms = 0; !told && ms < PATIENCE_MS; ms++) {
        pthread_mutex_lock(&s->mutex);
        told = s->left == s->came_back && (how == CUT || s->left == (how == RESTARTED));
        pthread_mutex_unlock(&s->mutex);
        if (!told)
            usleep(1000);
    }
    return told;
}

static void play_again(round *r)
{
    for (int who = 0; who < 2; who++) {
        side *of = &r->side[who];
        if (!of->monitor || of->is_over)
            return; /* it was killed while they connected */
        await_connection(r, (enum who)who);
        if (!told_of_connection(of, r->fate))
            wrong(r, -1,
                  "%d was told %d times that the connection ended, %d that it was made again", who,
                  of->left, of->came_back);
    }
    for (int s = 0; s < r->slots && !r->wrong; s++) {
        bool was_copy = r->guests && has_copy(r->guests, s);
        pivot_again(r, s);
        json_t *guests = ask_guests(r);
        if (guests && has_copy(guests, s) == was_copy &&
            (r->side[r->slot[s].owner].runs[s].job || r->fate != CUT))
            wrong(r, s, "PIVOTED the second time, but the disk was not switched");
        json_decref(guests);
    }
}

static void play(round *r, const char *dir)
{
    pthread_t killer;
    r->dir = dir;
    set_scene(r, dir);
    for (int i = 0; r->fate == CUT && i < 2; i++)
        relay_start(&r->relay[i], r->rig->relayed[i], r->rig->path[i]);
    clock_gettime(CLOCK_MONOTONIC, &r->begin);
    /* At times already while they connect; else once there are jobs. */
    const bool early = chance(r, 15);
    if (early)
        pthread_create(&killer, NULL, meet_fate, r);
    connect_sides(r);
    start_jobs(r);
    attach_to_jobs(r);
    if (!early) {
        clock_gettime(CLOCK_MONOTONIC, &r->begin);
        pthread_create(&killer, NULL, meet_fate, r);
    }
    if (!r->wrong) {
        for (int i = 0; i < r->action_count; i++) {
            rig_read(r->rig, 0);
            sleep_until(&r->begin, r->actions[i].at_us);
            act(r, &r->actions[i]);
        }
    }
    pthread_join(killer, NULL);
    come_to_an_end(r);
    await_news(r);
    ask_witness(r);
    if (!r->alive && (r->fate == LIVES || r->fate == STOPPED))
        atomic_fetch_add(&crashes, 1);
    judge(r);
    if (!r->wrong && (r->alive || r->fate == RESTARTED))
        play_again(r);
}

static void run_round(lane *l, const char *dir, uint64_t seed)
{
    round *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->seed = r->random = seed;
    r->rig = &l->rig;
    plan(r);
    if (!rig_start(r->rig, r->system)) {
        wrong(r, -1, "QEMU does not start");
        exit(2);
    }
    play(r, dir);
    if (r->wrong)
        dump(r);
    let_go(r);
    for (int i = 0; r->fate == CUT && i < 2; i++)
        relay_end(&r->relay[i]);
    rig_end(r->rig);
    json_decref(r->guests);
    json_decref(r->first_events);
    atomic_fetch_add(&rounds, 1);
    atomic_fetch_add(&fates[r->fate], 1);

    if (r->wrong) {
        atomic_fetch_add(&failures, 1);
        return; /* what hangs may yet use it */
    }
    json_decref(r->side[0].events);
    json_decref(r->side[1].events);
    free(r);
}

static char *place;

static void *run_lane(void *user)
{
    lane *l = user;
    rig_init(&l->rig, place, l->number);
    while (elapsed_us(&end_of_all) < 0 && atomic_load(&failures) < 5)
        run_round(l, place, one_seed ? first_seed : first_seed + atomic_fetch_add(&next_round, 1));
    return NULL;
}

int main(int argc, char **argv)
{
    const char *seconds = argc > 1 ? argv[1] : getenv("STRESS_SECONDS");
    lane lanes[LANES] = {0};
    signal(SIGPIPE, SIG_IGN);
    clock_gettime(CLOCK_MONOTONIC, &end_of_all);
    first_seed = (uint64_t)time(NULL) * 1000000 + (uint64_t)(end_of_all.tv_nsec / 1000);
    end_of_all.tv_sec += seconds ? atoi(seconds) : 10;
    one_seed = argc > 2;
    if (one_seed)
        first_seed = strtoull(argv[2], NULL, 10);
    printf("seeds from %" PRIu64 "\n", first_seed);
    fflush(stdout);

    place = directory_new();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bj_ctx_new(&contexts[i]), BJ_OK);
        bj_ctx_set_limit(contexts[i], BJ_LIMIT_WATCH_RING, 8192);
        /* On a busy machine a job that is only drained for a moment may look as if it stood. */
        bj_ctx_set_limit(contexts[i], BJ_LIMIT_STALL_MS, PATIENCE_MS);
    }
    for (int i = 0; i < LANES; i++) {
        lanes[i].number = i;
        assert_int_equal(pthread_create(&lanes[i].thread, NULL, run_lane, &lanes[i]), 0);
    }
    for (int i = 0; i < LANES; i++)
        pthread_join(lanes[i].thread, NULL);
    for (int i = 0; i < 2; i++) {
        bj_ctx_close(contexts[i]);
        bj_ctx_unref(contexts[i]);
    }
    directory_end(place);

    printf("%d rounds, %d jobs seen, %d waits answered, QEMU aborted by itself %d times;", rounds,
           jobs, answers, crashes);
    for (int i = 0; i < FATES; i++)
        printf(" %s %d", fate_names[i], fates[i]);
    printf(";");
    for (int i = BJ_OUTCOME_COMPLETED; i <= BJ_OUTCOME_LOST; i++)
        printf(" %s %d", bj_outcome_name((bj_outcome)i), outcomes[i]);
    printf(";\n%d times a switch could not be told though QEMU lived", unsure);
    printf("\n%d rounds were wrong\n", failures);
    return failures ? 1 : 0;
}
