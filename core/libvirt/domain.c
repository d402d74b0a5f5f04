/* SPDX-License-Identifier: MIT */
/*
 * The libvirt driver; see domain.h. What is asked of it becomes calls on a lane of its own, and
 * what libvirt tells becomes facts: both come back to the loop's thread through the mailbox, and
 * only there is anything here changed.
 *
 *   opening   the session is being made; what libvirt tells already is kept for later
 *   up        requests and facts
 *   down      the monitor has been told; calls that are under way come back to nobody
 */
#include "domain.h"
#include "calls.h"
#include "facts.h"
#include "info.h"
#include "mailbox.h"
#include "pool.h"
#include "session.h"

#include <jansson.h>
#include <libvirt/virterror.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)FACTS_COMPLETED == VIR_DOMAIN_BLOCK_JOB_COMPLETED &&
                   (int)FACTS_FAILED == VIR_DOMAIN_BLOCK_JOB_FAILED &&
                   (int)FACTS_CANCELED == VIR_DOMAIN_BLOCK_JOB_CANCELED &&
                   (int)FACTS_READY == VIR_DOMAIN_BLOCK_JOB_READY,
               "facts.h has libvirt's numbers");
_Static_assert((int)FACTS_PULL == VIR_DOMAIN_BLOCK_JOB_TYPE_PULL &&
                   (int)FACTS_COPY == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY &&
                   (int)FACTS_COMMIT == VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT &&
                   (int)FACTS_ACTIVE_COMMIT == VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT &&
                   (int)FACTS_BACKUP == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP,
               "facts.h has libvirt's numbers");

/* Requests that wait for libvirt, and events that wait for the loop: more are refused, dropped. */
#define REQUESTS_MAX 1024
#define EVENTS_MAX 65536

/* For how long a list is held back that lacks a job whose end is on its way, and how often it is
 * made again because a job has ended meanwhile. */
#define HOLD_MS 2000
#define LISTS_MAX 8

/* How often a connection of the program's is asked whether it is there, where nobody says so. */
#define ALIVE_MS 1000

enum stage { STAGE_OPENING, STAGE_UP, STAGE_DOWN };

struct domain {
    struct driver driver; /* first */
    atomic_uint refs;
    struct loop *loop;
    const struct driver_sink *sink;
    void *user;
    struct text *uri;
    struct mailbox *mailbox;
    struct lane *lane;
    atomic_bool given_up; /* down: calls that wait need not go on */
    atomic_uint events;   /* that wait for the loop */
    atomic_bool missed;   /* memory was short for one */
    struct loop_task missed_task;

    struct call opening, closing;
    struct {
        virDomainPtr theirs;
        struct session *session;
        struct session_failure failure;
        struct disks disks;
        unsigned id;
    } found; /* what opening works with; the pool's until it is over */

    /* The loop's own. */
    enum stage stage;
    struct session *session;
    struct event *early; /* told while it was opening */
    struct event **early_last;
    struct facts *facts;
    struct disks disks;
    struct request *requests; /* not answered yet */
    size_t request_count;
    struct loop_timer *hold_timer;
    struct loop_timer *alive_timer; /* NULL: the connection tells of its end */
};

/* Something that libvirt tells, on its way to the loop. */
struct event {
    struct loop_task task; /* first */
    struct event *next;    /* while the session is being made */
    struct domain *domain; /* a reference */
    void (*happen)(struct domain *domain, const struct event *event);
    int type, status; /* of a block job; status: why it stopped or ended, too */
    int64_t timestamp_us;
    char *name; /* the disk, or QEMU's event */
    char *data; /* NULL: none */
};

struct request;

struct request_kind {
    bool is_verb; /* then an invalid argument is that there is no job on the disk */
    /* A thread of the pool; whether it went well. NULL: there is nothing to call. */
    bool (*call)(struct request *request);
    /* The loop's thread, after a call that went well, if someone still asks: fills the reply.
     * False: it is not over yet. NULL: nothing to fill. */
    bool (*over)(struct request *request, struct driver_reply *reply);
};

/* Something asked of libvirt. */
struct request {
    struct call call; /* first */
    struct loop_task later;
    struct request *prev, *next;
    const struct request_kind *kind;
    struct domain *domain;        /* a reference */
    struct driver_request *asked; /* NULL once it is answered */
    char *disk;                   /* NULL: none */
    struct start *start;          /* of a job */
    int64_t speed;
    int error; /* where there is nothing to call */
    struct text *text;

    bool went_well;
    bool is_gone; /* the domain does not run any more */
    bool is_lost; /* nor is there a connection */
    struct call_error call_error;
    char error_class[16];
    struct disks disks;
    struct info_list *infos;
    uint64_t turns; /* of jobs, when the list was asked for */
    unsigned lists; /* how often it was made */
    bool held;
};

struct driver_sight {
    int nothing; /* libvirt's own word tells a switch: nothing has to be seen before */
};

static struct domain *domain_of(struct driver *driver)
{
    return (struct domain *)driver;
}

/* ---------------------------------------------------------------------- memory */

static void *domain_ref(void *user)
{
    struct domain *domain = user;
    atomic_fetch_add(&domain->refs, 1);
    return domain;
}

static void domain_unref(void *user)
{
    struct domain *domain = user;
    if (atomic_fetch_sub(&domain->refs, 1) != 1)
        return;
    if (domain->found.theirs)
        virDomainFree(domain->found.theirs);
    free(domain->found.failure.why);
    disks_clear(&domain->found.disks);
    text_unref(domain->uri);
    lane_unref(domain->lane);
    mailbox_unref(domain->mailbox);
    free(domain);
}

static void event_free(struct event *event)
{
    atomic_fetch_sub(&event->domain->events, 1);
    domain_unref(event->domain);
    free(event->name);
    free(event->data);
    free(event);
}

static void request_free(struct request *request)
{
    domain_unref(request->domain);
    free(request->disk);
    start_free(request->start);
    text_unref(request->text);
    free(request->call_error.message);
    disks_clear(&request->disks);
    info_list_free(request->infos);
    free(request);
}

/* -------------------------------------------------------------------- answering */

static void link_request(struct request *request)
{
    struct domain *domain = request->domain;
    request->next = domain->requests;
    if (request->next)
        request->next->prev = request;
    domain->requests = request;
    domain->request_count++;
}

static void unlink_request(struct request *request)
{
    if (request->prev)
        request->prev->next = request->next;
    else
        request->domain->requests = request->next;
    if (request->next)
        request->next->prev = request->prev;
    request->prev = request->next = NULL;
    request->domain->request_count--;
}

/* Whoever asked hears it now, and no more. Its call may still be under way. */
static void answer(struct request *request, struct driver_reply *reply)
{
    struct driver_request *asked = request->asked;
    request->asked = NULL;
    unlink_request(request);
    if (asked)
        asked->done(asked, reply);
}

static void answer_all(struct domain *domain, int error, const char *text)
{
    while (domain->requests) {
        struct request *request = domain->requests;
        answer(request, &(struct driver_reply){.error = error, .text = text});
        if (request->held)
            request_free(request); /* no call brings it back */
    }
}

/* ----------------------------------------------------------------------- ending */

static struct domain *of_closing(struct call *call)
{
    return (struct domain *)((char *)call - offsetof(struct domain, closing));
}

static void take_leave(struct call *call)
{
    session_close(of_closing(call)->session);
}

static void has_left(struct call *call)
{
    domain_unref(of_closing(call));
}

/* It blocks, and waits behind whatever is stuck on the lane. */
static void leave_session(struct domain *domain)
{
    if (!domain->session)
        return;
    domain->closing = (struct call){.run = take_leave, .done = has_left, .dropped = has_left};
    domain_ref(domain);
    if (!lane_submit(domain->lane, &domain->closing)) /* no thread: the session stays for good */
        domain_unref(domain);
}

static void drop_early(struct domain *domain)
{
    while (domain->early) {
        struct event *event = domain->early;
        domain->early = event->next;
        event_free(event);
    }
}

/* Gives back what the loop has of it; calls under way have the rest. */
static void release(struct domain *domain)
{
    domain->stage = STAGE_DOWN;
    atomic_store(&domain->given_up, true);
    mailbox_close(domain->mailbox);
    loop_timer_free(domain->hold_timer);
    loop_timer_free(domain->alive_timer);
    domain->hold_timer = domain->alive_timer = NULL;
    loop_unhold(domain->loop);
    drop_early(domain);
    facts_free(domain->facts);
    domain->facts = NULL;
    disks_clear(&domain->disks);
    leave_session(domain);
    if (lane_withdraw(domain->lane, &domain->opening))
        domain_unref(domain);
    domain_unref(domain);
}

/* The last that the monitor hears; takes over the reference to `text`. */
static void go_down(struct domain *domain, int error, bool is_gone, struct text *text)
{
    domain->stage = STAGE_DOWN;
    domain->driver.is_gone = is_gone;
    answer_all(domain, error, text_str(text));
    domain->sink->down(domain->user, error, text);
    release(domain);
}

static void domain_close(struct driver *driver, int error, const char *text)
{
    struct domain *domain = domain_of(driver);
    domain->stage = STAGE_DOWN;
    answer_all(domain, error, text);
    release(domain);
}

static void domain_abandon(struct driver *driver, int error, const char *text)
{
    answer_all(domain_of(driver), error, text);
}

/* --------------------------------------------------------------------- requests */

static const char *end_text(const struct request *request)
{
    return request->is_gone ? "the domain does not run any more"
                            : "the connection to libvirt has ended";
}

static void fill_error(struct request *request, struct driver_reply *reply)
{
    const struct call_error *error = &request->call_error;

    if (request->is_lost || request->is_gone) {
        reply->error = BJ_E_DISCONNECTED;
        reply->text = end_text(request);
        return;
    }
    reply->error = error->message ? BJ_E_REFUSED : BJ_E_NOMEM;
    reply->text = error->message ? error->message : bj_error_text(BJ_E_NOMEM);
    (void)snprintf(request->error_class, sizeof request->error_class, "%d", error->code);
    reply->error_class = error->message ? request->error_class : NULL;
    reply->no_job = error->code == VIR_ERR_INVALID_ARG && request->kind->is_verb;
}

/* True: it is over, answered and gone. */
static bool finish(struct request *request)
{
    struct driver_reply reply = {.error = request->error, .text = text_str(request->text)};

    if (request->start && request->domain->facts)
        facts_start_over(request->domain->facts, request->disk, request->went_well);
    if (request->kind->call && !request->went_well)
        fill_error(request, &reply);
    else if (request->kind->over && request->asked && !request->kind->over(request, &reply))
        return false;
    if (request->asked)
        answer(request, &reply);
    info_list_free(reply.infos); /* unless somebody has kept it */
    free(reply.sight);           /* the same */
    request_free(request);
    return true;
}

static void on_called(struct call *call)
{
    struct request *request = (struct request *)call;
    struct domain *domain = domain_ref(request->domain);
    bool is_up = domain->stage == STAGE_UP;

    request->is_lost = is_up && !request->went_well && !session_is_alive(domain->session);
    bool is_over = is_up && (request->is_lost || request->is_gone);
    bool is_gone = request->is_gone && !request->is_lost;
    struct text *text = text_printf("%s: %s", text_str(domain->uri), end_text(request));
    finish(request);
    if (is_over && domain->stage == STAGE_UP)
        go_down(domain, BJ_E_DISCONNECTED, is_gone, text);
    else
        text_unref(text);
    domain_unref(domain);
}

static void on_dropped(struct call *call)
{
    request_free((struct request *)call);
}

static void run_request(struct call *call)
{
    struct request *request = (struct request *)call;
    request->went_well = request->kind->call(request);
    request->is_gone = !request->went_well && request->call_error.message &&
                       call_found_gone(session_domain(request->domain->session),
                                       &request->call_error, &request->domain->given_up);
    session_called(request->domain->session);
}

static void run_later(struct loop_task *task)
{
    finish((struct request *)((char *)task - offsetof(struct request, later)));
}

static bool submit(struct request *request)
{
    if (request->kind->call) {
        request->call = (struct call){.run = run_request, .done = on_called, .dropped = on_dropped};
        return lane_submit(request->domain->lane, &request->call);
    }
    request->later.run = run_later;
    return loop_post(request->domain->loop, &request->later);
}

/* NULL: no memory. */
static struct request *request_new(struct driver *driver, const struct request_kind *kind,
                                   struct driver_request *asked, const char *disk)
{
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->kind = kind;
    request->domain = domain_ref(domain_of(driver));
    request->asked = asked;
    request->disk = disk ? strdup(disk) : NULL;
    if (!disk || request->disk)
        return request;
    request_free(request);
    return NULL;
}

/* Takes the request over, which may be NULL for a lack of memory. */
static int launch(struct request *request)
{
    if (!request)
        return BJ_E_NOMEM;
    int r = request->domain->request_count < REQUESTS_MAX ? BJ_OK : BJ_E_BUSY;
    if (r == BJ_OK)
        r = submit(request) ? BJ_OK : BJ_E_NOMEM;
    if (r == BJ_OK) {
        link_request(request);
        return BJ_OK;
    }
    if (request->start)
        facts_start_over(request->domain->facts, request->disk, false);
    request_free(request);
    return r;
}

/* What libvirt need not be asked for. */
static int say_later(struct driver *driver, struct driver_request *asked, int error,
                     struct text *text)
{
    static const struct request_kind kind = {0};
    struct request *request = request_new(driver, &kind, asked, NULL);
    if (request) {
        request->error = error;
        request->text = text;
    } else {
        text_unref(text);
    }
    return launch(request);
}

static bool domain_withdraw(struct driver *driver, struct driver_request *asked)
{
    struct request *request = domain_of(driver)->requests;
    while (request && request->asked != asked)
        request = request->next;
    if (!request || !request->kind->call || request->held ||
        !lane_withdraw(request->domain->lane, &request->call))
        return false;
    if (request->start)
        facts_start_over(request->domain->facts, request->disk, false);
    unlink_request(request);
    request_free(request);
    return true;
}

/* ------------------------------------------------------------------------ verbs */

static virDomainPtr handle_of(const struct request *request)
{
    return session_domain(request->domain->session);
}

static bool run_pivot(struct request *request)
{
    return call_pivot(handle_of(request), request->disk, &request->domain->given_up,
                      &request->call_error);
}

static bool run_abort(struct request *request)
{
    return call_abort(handle_of(request), request->disk, &request->call_error);
}

static bool run_set_speed(struct request *request)
{
    return call_set_speed(handle_of(request), request->disk, request->speed, &request->call_error);
}

static int refuse_verb(struct driver *driver, struct driver_request *asked, const char *what)
{
    return say_later(driver, asked, BJ_E_UNSUPPORTED,
                     text_printf("libvirt has no call that %s", what));
}

static const struct request_kind pivot_kind = {.call = run_pivot, .is_verb = true};
static const struct request_kind abort_kind = {.call = run_abort, .is_verb = true};
static const struct request_kind speed_kind = {.call = run_set_speed, .is_verb = true};

static int launch_verb(struct driver *driver, const struct request_kind *kind,
                       struct driver_request *asked, const char *disk, int64_t speed)
{
    struct request *request = request_new(driver, kind, asked, disk);
    if (request)
        request->speed = speed;
    return launch(request);
}

static int domain_verb(struct driver *driver, struct driver_request *asked, const char *id,
                       const char *type, enum job_verb verb, int64_t speed, const char *options)
{
    struct facts *facts = domain_of(driver)->facts;
    (void)type, (void)options;

    switch (verb) {
    case JOB_COMPLETE:
        facts_pivot_sent(facts, id);
        return launch_verb(driver, &pivot_kind, asked, id, 0);
    case JOB_CANCEL:
        return launch_verb(driver, &abort_kind, asked, id, 0);
    case JOB_CANCEL_FORCE:
        if (facts_is_ready(facts, id))
            return refuse_verb(driver, asked, "aborts a ready copy by force: abort it softly");
        return launch_verb(driver, &abort_kind, asked, id, 0);
    case JOB_SET_SPEED:
        return launch_verb(driver, &speed_kind, asked, id, speed);
    case JOB_PAUSE:
        return refuse_verb(driver, asked, "pauses a block job");
    case JOB_RESUME:
        return refuse_verb(driver, asked, "resumes a block job");
    case JOB_CHANGE:
        return refuse_verb(driver, asked, "changes a block job's options");
    case JOB_FINALIZE:
        return refuse_verb(driver, asked, "finalizes a block job: it does so itself");
    case JOB_DISMISS:
        return refuse_verb(driver, asked, "dismisses a block job: it does so itself");
    }
    return BJ_E_UNSUPPORTED;
}

static void domain_prepare(struct driver *driver, struct driver_request *request, const char *id)
{
    (void)driver, (void)request, (void)id; /* a call of libvirt's has nothing to be made before */
}

static void domain_unprepare(struct driver_request *request)
{
    (void)request;
}

/* ----------------------------------------------------------------------- starts */

static bool domain_has_command(struct driver *driver, const char *command)
{
    (void)driver;
    return starts_has(command);
}

static bool run_disks(struct request *request)
{
    return call_disks(handle_of(request), &request->disks, &request->call_error);
}

static void take_disks(struct request *request)
{
    disks_clear(&request->domain->disks);
    request->domain->disks = request->disks;
    request->disks = (struct disks){0};
}

static bool probed(struct request *request, struct driver_reply *reply)
{
    (void)reply;
    take_disks(request);
    return true;
}

/* Disks come and go: they are looked up for each start. */
static int domain_takes(struct driver *driver, const char *command)
{
    (void)driver, (void)command;
    return -1;
}

static int domain_probe(struct driver *driver, struct driver_request *asked)
{
    static const struct request_kind kind = {.call = run_disks, .over = probed};
    return launch(request_new(driver, &kind, asked, NULL));
}

static const char *domain_id_of(struct driver *driver, const char *name)
{
    const struct disk *disk = disks_find(&domain_of(driver)->disks, name);
    return disk ? disk->target : name;
}

/* What is wrong with the arguments is said when it is to be started. */
static int domain_name(struct driver *driver, const char *command, const struct json_t *arguments,
                       struct naming *ret)
{
    struct start *start = NULL;
    struct text *text = NULL;
    int r = start_parse(command, arguments, &start, &text);
    text_unref(text);
    if (r == BJ_E_NOMEM)
        return r;

    const char *disk = start ? domain_id_of(driver, start_disk(start)) : "";
    *ret = (struct naming){
        .command = command,
        .id = strdup(disk),
        .members = strdup(""),
        .device = strdup(disk),
        .type = start ? start_type(start) : "",
    };
    start_free(start);
    if (ret->id && ret->members && ret->device)
        return BJ_OK;
    naming_clear(ret);
    return BJ_E_NOMEM;
}

static bool run_start(struct request *request)
{
    return call_start(handle_of(request), request->start, request->disk, &request->call_error);
}

static int launch_start(struct driver *driver, struct driver_request *asked, struct start *start)
{
    static const struct request_kind kind = {.call = run_start};
    const char *disk = domain_id_of(driver, start_disk(start));
    struct request *request = request_new(driver, &kind, asked, disk);
    if (request)
        request->start = start;
    else
        start_free(start);

    if (!request || facts_start_sent(request->domain->facts, request->disk) == BJ_OK)
        return launch(request);
    request_free(request);
    return BJ_E_NOMEM;
}

/* It was JSON when it was asked. */
static int read_error(const char *command, const json_error_t *error, struct text **ret_text)
{
    if (json_error_code(error) == json_error_out_of_memory)
        return BJ_E_NOMEM;
    *ret_text = text_printf("%s: a number in its arguments is too large for libvirt", command);
    return BJ_E_INVAL;
}

static int domain_execute(struct driver *driver, struct driver_request *asked, const char *command,
                          const char *arguments)
{
    struct start *start = NULL;
    struct text *text = NULL;
    json_error_t error;
    json_t *object = arguments ? json_loads(arguments, 0, &error) : json_object();
    int r = BJ_E_UNSUPPORTED;

    if (!starts_has(command))
        text = text_printf("%s: raw commands are not for libvirt's domains, which they would "
                           "taint: use libvirt's own calls, or a monitor of QEMU's",
                           command);
    else if (object)
        r = start_parse(command, object, &start, &text);
    else
        r = arguments ? read_error(command, &error, &text) : BJ_E_NOMEM;
    json_decref(object);
    if (r == BJ_OK)
        return launch_start(driver, asked, start);
    return r == BJ_E_NOMEM ? r : say_later(driver, asked, r, text);
}

/* ------------------------------------------------------------------------ lists */

static bool is_listed(const struct request *request, const char *disk)
{
    return info_list_find(request->infos, disk) != NULL;
}

/* A job that libvirt has told of, and not of its end, and that its list lacks: the end is on its
 * way, and it tells more (a list never overrules an event, B28). */
static bool is_ahead(const struct request *request)
{
    const struct domain *domain = request->domain;
    for (size_t i = 0; i < domain->disks.count; i++) {
        const char *disk = domain->disks.disks[i].target;
        if (facts_is_active(domain->facts, disk) && !is_listed(request, disk))
            return true;
    }
    return false;
}

static bool run_list(struct request *request)
{
    disks_clear(&request->disks);
    info_list_free(request->infos);
    request->infos = NULL;
    call_error_clear(&request->call_error);
    return call_disks(handle_of(request), &request->disks, &request->call_error) &&
           call_rows(handle_of(request), &request->disks, &request->infos, &request->call_error);
}

/* A machine has to know: that the domain's job lock is held for longer than libvirt waits for it
 * tells nothing about the job. */
static bool run_urgent_list(struct request *request)
{
    bool went_well;
    do
        went_well = run_list(request);
    while (!went_well && request->call_error.code == VIR_ERR_OPERATION_TIMEOUT &&
           !atomic_load(&request->domain->given_up));
    return went_well;
}

static void note_rows(const struct request *request)
{
    for (size_t i = 0; i < request->infos->count; i++)
        facts_row(request->domain->facts, request->infos->rows[i].id,
                  request->infos->rows[i].ready);
}

/* A job has ended since the list was asked for, and may be in it; or has begun, and may not be. */
static bool is_stale(const struct request *request)
{
    return request->turns != facts_turns(request->domain->facts) && request->lists < LISTS_MAX;
}

static bool make_again(struct request *request)
{
    request->turns = facts_turns(request->domain->facts);
    request->lists++;
    return submit(request);
}

static struct request *first_held(const struct domain *domain, bool at_once)
{
    struct request *request = domain->requests;
    while (request && !(request->held && (at_once || !is_ahead(request))))
        request = request->next;
    return request;
}

static bool listed(struct request *request, struct driver_reply *reply)
{
    struct domain *domain = request->domain;

    if (!request->held) {
        if (is_stale(request) && make_again(request))
            return false;
        take_disks(request);
        note_rows(request);
        bool is_first = !first_held(domain, true); /* later ones don't put it off */
        request->held = is_ahead(request);
        if (request->held) {
            if (is_first)
                loop_timer_set(domain->hold_timer, HOLD_MS);
            return false;
        }
    }
    reply->infos = request->infos;
    request->infos = NULL;
    return true;
}

static void release_held(struct domain *domain, bool at_once)
{
    for (struct request *request; (request = first_held(domain, at_once));)
        finish(request);
}

/* No end has come: the jobs are gone all the same. */
static void on_hold_timer(void *user)
{
    struct domain *domain = user;
    for (struct request *request = domain->requests; request; request = request->next)
        for (size_t i = 0; request->held && i < domain->disks.count; i++)
            if (!is_listed(request, domain->disks.disks[i].target))
                facts_forget(domain->facts, domain->disks.disks[i].target);
    release_held(domain, true);
}

static int domain_query(struct driver *driver, struct driver_request *asked, bool urgent)
{
    static const struct request_kind anyone = {.call = run_list, .over = listed};
    static const struct request_kind machine = {.call = run_urgent_list, .over = listed};
    struct request *request = request_new(driver, urgent ? &machine : &anyone, asked, NULL);
    if (request)
        request->turns = facts_turns(domain_of(driver)->facts);
    return launch(request);
}

/* ------------------------------------------------------------------ the switch */

static bool seen(struct request *request, struct driver_reply *reply)
{
    (void)request;
    reply->sight = calloc(1, sizeof *reply->sight);
    return true;
}

static bool compared(struct request *request, struct driver_reply *reply)
{
    reply->switched = facts_switched(request->domain->facts, request->disk);
    return true;
}

static int domain_look(struct driver *driver, struct driver_request *asked, const char *id,
                       const char *device, const struct driver_sight *before)
{
    static const struct request_kind see = {.over = seen};
    static const struct request_kind compare = {.over = compared};
    (void)device;
    return launch(request_new(driver, before ? &compare : &see, asked, id));
}

static void domain_unsee(struct driver_sight *sight)
{
    free(sight);
}

/* ----------------------------------------------------------------------- events */

static void on_fact(void *user, const struct driver_fact *fact)
{
    struct domain *domain = user;
    domain->sink->fact(domain->user, fact);
}

static void lose_memory(struct domain *domain)
{
    go_down(domain, BJ_E_DISCONNECTED, false,
            text_printf("%s: out of memory for what libvirt tells", text_str(domain->uri)));
}

static void happen_block_job(struct domain *domain, const struct event *event)
{
    if (facts_block_job(domain->facts, event->name, event->type, event->status) == BJ_OK)
        release_held(domain, false);
    else
        lose_memory(domain);
}

static void happen_qemu_event(struct domain *domain, const struct event *event)
{
    int r = facts_qemu_event(domain->facts, event->name, event->data, event->timestamp_us);
    if (domain->sink->wants_events(domain->user))
        domain->sink->event(domain->user, event->name, event->data,
                            event->data ? strlen(event->data) : 0, event->timestamp_us);
    if (r != BJ_OK)
        lose_memory(domain);
}

static const char *stop_text(int detail)
{
    switch (detail) {
    case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
        return "the domain was shut down";
    case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
        return "the domain was destroyed";
    case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
        return "the domain's guest has crashed";
    case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
        return "the domain has migrated to another host";
    case VIR_DOMAIN_EVENT_STOPPED_SAVED:
        return "the domain was saved";
    case VIR_DOMAIN_EVENT_STOPPED_FAILED:
        return "the domain's QEMU has died";
    default:
        return "the domain was stopped";
    }
}

static void happen_stopped(struct domain *domain, const struct event *event)
{
    go_down(domain, BJ_E_DISCONNECTED, true,
            text_printf("%s: %s, and its jobs are gone with its QEMU", text_str(domain->uri),
                        stop_text(event->status)));
}

static const char *disconnect_text(int reason)
{
    switch (reason) {
    case VIR_CONNECT_CLOSE_REASON_EOF:
        return "libvirtd has closed the connection";
    case VIR_CONNECT_CLOSE_REASON_KEEPALIVE:
        return "libvirtd does not answer any more";
    case VIR_CONNECT_CLOSE_REASON_CLIENT:
        return "the program has closed the connection to libvirt";
    default:
        return "the connection to libvirt has ended";
    }
}

static void happen_disconnected(struct domain *domain, const struct event *event)
{
    go_down(domain, BJ_E_DISCONNECTED, false,
            text_printf("%s: %s", text_str(domain->uri), disconnect_text(event->status)));
}

static void on_event(struct loop_task *task)
{
    struct event *event = (struct event *)task;
    struct domain *domain = event->domain;

    if (domain->stage == STAGE_OPENING) {
        event->next = NULL;
        *domain->early_last = event;
        domain->early_last = &event->next;
        return;
    }
    if (domain->stage == STAGE_UP)
        event->happen(domain, event);
    event_free(event);
}

static void on_missed(struct loop_task *task)
{
    struct domain *domain = (struct domain *)((char *)task - offsetof(struct domain, missed_task));
    if (domain->stage == STAGE_UP)
        lose_memory(domain);
    domain_unref(domain);
}

/* Any thread. */
static void miss(struct domain *domain)
{
    if (atomic_exchange(&domain->missed, true))
        return;
    domain->missed_task.run = on_missed;
    domain_ref(domain);
    if (!mailbox_post(domain->mailbox, &domain->missed_task))
        domain_unref(domain);
}

/* Any thread. NULL: no memory, or too many. */
static struct event *event_new(struct domain *domain, const char *name, const char *data,
                               void (*happen)(struct domain *domain, const struct event *event))
{
    struct event *event = calloc(1, sizeof *event);
    if (!event)
        return NULL;
    event->task.run = on_event;
    event->domain = domain_ref(domain);
    event->happen = happen;
    event->name = name ? strdup(name) : NULL;
    event->data = data ? strdup(data) : NULL;
    bool fits = atomic_fetch_add(&domain->events, 1) < EVENTS_MAX;
    if (fits && (!name || event->name) && (!data || event->data))
        return event;
    event_free(event);
    return NULL;
}

static void post_event(struct domain *domain, struct event *event)
{
    if (!event)
        miss(domain);
    else if (!mailbox_post(domain->mailbox, &event->task))
        event_free(event);
}

static void tell_block_job(void *user, const char *disk, int type, int status)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, disk, NULL, happen_block_job);
    if (event) {
        event->type = type;
        event->status = status;
    }
    post_event(domain, event);
}

static void tell_qemu_event(void *user, const char *name, const char *data, long long seconds,
                            unsigned micros)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, name, data, happen_qemu_event);
    if (event)
        event->timestamp_us = (int64_t)seconds * 1000000 + micros;
    post_event(domain, event);
}

static void tell_end(struct domain *domain, int reason,
                     void (*happen)(struct domain *domain, const struct event *event))
{
    struct event *event = event_new(domain, NULL, NULL, happen);
    if (event)
        event->status = reason;
    post_event(domain, event);
}

static void tell_stopped(void *user, int detail)
{
    tell_end(user, detail, happen_stopped);
}

static void tell_disconnected(void *user, int reason)
{
    tell_end(user, reason, happen_disconnected);
}

/* ---------------------------------------------------------------------- opening */

static struct domain *of_opening(struct call *call)
{
    return (struct domain *)((char *)call - offsetof(struct domain, opening));
}

static bool look_around(struct domain *domain)
{
    virDomainPtr handle = session_domain(domain->found.session);
    struct call_error error = {0};

    domain->found.id = virDomainGetID(handle);
    if (call_disks(handle, &domain->found.disks, &error))
        return true;
    domain->found.failure.why = error.message;
    return false;
}

static void run_open(struct call *call)
{
    static const struct session_sink session_sink = {
        .block_job = tell_block_job,
        .qemu_event = tell_qemu_event,
        .stopped = tell_stopped,
        .disconnected = tell_disconnected,
        .ref = domain_ref,
        .unref = domain_unref,
    };
    struct domain *domain = of_opening(call);
    virDomainPtr theirs = domain->found.theirs;

    domain->found.theirs = NULL;
    domain->found.session =
        session_open(text_str(domain->uri), theirs, &session_sink, domain, &domain->found.failure);
    if (!domain->found.session)
        return;
    bool looked = look_around(domain);
    session_called(domain->found.session);
    if (!looked) {
        session_close(domain->found.session);
        domain->found.session = NULL;
    }
}

static void not_opened(struct domain *domain)
{
    const struct session_failure *failure = &domain->found.failure;
    go_down(domain, BJ_E_CONNECT, failure->is_gone,
            text_printf("%s: %s", text_str(domain->uri),
                        failure->why ? failure->why : bj_error_text(BJ_E_NOMEM)));
}

static void on_alive_timer(void *user)
{
    struct domain *domain = user;
    if (session_is_alive(domain->session))
        loop_timer_set(domain->alive_timer, ALIVE_MS);
    else
        tell_disconnected(domain, VIR_CONNECT_CLOSE_REASON_ERROR);
}

static bool make_timers(struct domain *domain)
{
    bool asks = !session_tells_end(domain->session);
    domain->hold_timer = loop_timer_new(domain->loop, on_hold_timer, domain);
    if (asks)
        domain->alive_timer = loop_timer_new(domain->loop, on_alive_timer, domain);
    if (domain->alive_timer)
        loop_timer_set(domain->alive_timer, ALIVE_MS);
    return domain->hold_timer && (!asks || domain->alive_timer);
}

static void go_up(struct domain *domain)
{
    domain->stage = STAGE_UP;
    domain->disks = domain->found.disks;
    domain->found.disks = (struct disks){0};
    domain->driver.has_ready_event = true;
    domain->driver.peer = (int64_t)domain->found.id;
    domain->sink->up(domain->user, NULL); /* libvirt knows its host's QEMU, not the domain's */

    struct event *early = domain->early;
    domain->early = NULL;
    while (early) {
        struct event *event = early;
        early = event->next;
        on_event(&event->task);
    }
    if (atomic_load(&domain->missed) && domain->stage == STAGE_UP)
        lose_memory(domain); /* for one that came while it was opening */
}

static void opened(struct call *call)
{
    struct domain *domain = of_opening(call);

    domain->session = domain->found.session;
    domain->found.session = NULL;
    if (domain->stage == STAGE_DOWN)
        leave_session(domain);
    else if (!domain->session)
        not_opened(domain);
    else if (make_timers(domain))
        go_up(domain);
    else
        lose_memory(domain);
    domain_unref(domain);
}

/* It was closed meanwhile. */
static void opened_in_vain(struct call *call)
{
    struct domain *domain = of_opening(call);
    if (domain->found.session)
        session_close(domain->found.session);
    domain_unref(domain);
}

static struct text *domain_stage(struct driver *driver, int64_t timeout_ms)
{
    return text_printf("libvirt did not answer for %s within %.10g s: its daemon or the way to it "
                       "may hang, or the domain's job lock is held",
                       text_str(domain_of(driver)->uri), (double)timeout_ms / 1000.);
}

static const struct driver_ops domain_ops = {
    .execute = domain_execute,
    .verb = domain_verb,
    .prepare = domain_prepare,
    .unprepare = domain_unprepare,
    .query = domain_query,
    .look = domain_look,
    .unsee = domain_unsee,
    .withdraw = domain_withdraw,
    .abandon = domain_abandon,
    .has_command = domain_has_command,
    .name = domain_name,
    .id_of = domain_id_of,
    .probe = domain_probe,
    .takes = domain_takes,
    .stage = domain_stage,
    .close = domain_close,
};

struct driver *domain_open(struct loop *loop, const char *uri, struct _virDomain *theirs,
                           const struct driver_sink *sink, void *user)
{
    struct domain *domain = calloc(1, sizeof *domain);
    if (!domain) {
        if (theirs)
            virDomainFree(theirs);
        return NULL;
    }
    atomic_init(&domain->refs, 1);
    domain->driver.ops = &domain_ops;
    domain->loop = loop;
    domain->sink = sink;
    domain->user = user;
    domain->found.theirs = theirs;
    domain->early_last = &domain->early;
    domain->uri = text_new(uri, strlen(uri));
    domain->mailbox = mailbox_new(loop);
    domain->lane = domain->mailbox ? lane_new(domain->mailbox) : NULL;
    domain->facts = facts_new(on_fact, domain);
    domain->opening = (struct call){.run = run_open, .done = opened, .dropped = opened_in_vain};

    if (domain->uri && domain->lane && domain->facts) {
        domain_ref(domain);
        if (lane_submit(domain->lane, &domain->opening)) {
            loop_hold(loop);
            return &domain->driver;
        }
        domain_unref(domain);
    }
    facts_free(domain->facts);
    domain_unref(domain);
    return NULL;
}
