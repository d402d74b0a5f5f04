/* SPDX-License-Identifier: MIT */
/*
 * A domain's driver opens, is up, and ends; see domain.h.
 */
#include "domain.h"
#include "base/container_of.h"
#include "domain_events.h"
#include "domain_lists.h"
#include "domain_operations.h"
#include "domain_request.h"
#include "uri.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a connection of the program's is asked whether it is there, where nobody says so. */
#define ALIVE_MS 1000

void *domain_ref(void *user)
{
    struct domain *domain = user;
    atomic_fetch_add(&domain->refs, 1);
    return domain;
}

void domain_unref(void *user)
{
    struct domain *domain = user;
    if (atomic_fetch_sub(&domain->refs, 1) != 1)
        return;
    if (domain->found.theirs) /* it was not opened at all */
        session_release_domain(domain->found.theirs);
    free(domain->found.name);
    session_failure_clear(&domain->found.failure);
    disks_clear(&domain->found.disks);
    text_unref(domain->uri);
    lane_unref(domain->lane);
    endpoint_unref(domain->endpoint);
    mailbox_unref(domain->mailbox);
    free(domain);
}

/* ----------------------------------------------------------------------- legacy */

struct legacy {
    struct driver_legacy base; /* first */
    struct identity identity;
    bool has_stopped; /* that QEMU: whatever is there next is another one */
    struct copies copies;
};

static void free_legacy(struct driver_legacy *base)
{
    struct legacy *legacy = (struct legacy *)base;
    copies_clear(&legacy->copies);
    free(legacy);
}

/* No memory: then the next driver finds another QEMU, of which it can't be wrong. */
static void leave_legacy(struct domain *domain)
{
    struct legacy *legacy = calloc(1, sizeof *legacy);
    if (!legacy)
        return;
    legacy->base.free = free_legacy;
    legacy->identity = domain->identity;
    legacy->has_stopped = domain->driver.is_gone;
    legacy->copies = domain->copies;
    domain->copies = (struct copies){0};
    domain->driver.legacy = &legacy->base;
}

bool domain_inherit(struct driver *driver, struct driver_legacy *base)
{
    struct domain *domain = domain_of(driver);
    struct legacy *legacy = (struct legacy *)base;
    if (!legacy)
        return false;

    bool is_same =
        !legacy->has_stopped && !domain->has_slept &&
        memcmp(legacy->identity.uuid, domain->identity.uuid, sizeof domain->identity.uuid) == 0 &&
        legacy->identity.number == domain->identity.number;
    if (is_same) {
        copies_clear(&domain->copies);
        domain->copies = legacy->copies;
        domain->is_returning = true;
        legacy->copies = (struct copies){0};
    }
    free_legacy(base);
    return is_same;
}

/* ----------------------------------------------------------------------- ending */

static struct domain *of_closing(struct call *call)
{
    return container_of(call, struct domain, closing);
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

/* Gives back what the loop has of it; calls under way have the rest. */
static void release(struct domain *domain)
{
    domain->stage = STAGE_DOWN;
    atomic_store(&domain->given_up, true);
    mailbox_close(domain->mailbox);
    loop_timer_free(domain->alive_timer);
    domain->alive_timer = NULL;
    loop_unhold(domain->loop);
    domain_drop_early_events(domain);
    facts_free(domain->facts);
    domain->facts = NULL;
    disks_clear(&domain->disks);
    copies_clear(&domain->copies);
    if (domain->driver.legacy)
        domain->driver.legacy->free(domain->driver.legacy);
    domain->driver.legacy = NULL;
    leave_session(domain);
    if (endpoint_withdraw(domain->endpoint, &domain->wanted))
        domain_unref(domain);
    domain_unref(domain);
}

void domain_go_down(struct domain *domain, int error, bool is_gone, struct text *text)
{
    domain->stage = STAGE_DOWN;
    domain->driver.is_gone = is_gone;
    leave_legacy(domain);
    request_answer_all(domain, error, text_str(text));
    domain->sink->down(domain->user, error, text);
    release(domain);
}

void domain_close(struct driver *driver, int error, const char *text)
{
    struct domain *domain = domain_of(driver);
    domain->stage = STAGE_DOWN;
    request_answer_all(domain, error, text);
    release(domain);
}

void domain_lose_memory(struct domain *domain)
{
    domain_go_down(domain, BJ_E_DISCONNECTED, false,
                   text_printf("%s: out of memory for what libvirt tells", text_str(domain->uri)));
}

/* ---------------------------------------------------------------------- opening */

static struct domain *of_opening(struct call *call)
{
    return container_of(call, struct domain, opening);
}

static enum found read_domain(struct domain *domain, const struct session *session)
{
    virDomainPtr handle = session_domain(session);
    struct call_error error = {0};

    domain->found.is_persistent = session_is_persistent(session);
    domain->found.identity.number = virDomainGetID(handle);
    virDomainGetUUID(handle, domain->found.identity.uuid);
    if (virConnectGetLibVersion(virDomainGetConnect(handle), &domain->found.version) != 0)
        domain->found.version = 0;
    if (call_disks(handle, &domain->found.disks, &error))
        return FOUND_RUNNING;
    domain->found.failure.why = error.message;
    return FOUND_NOTHING;
}

static enum found look(struct domain *domain, const struct session *session)
{
    struct session_failure *failure = &domain->found.failure;
    session_failure_clear(failure);
    if (session_runs(session, failure))
        return read_domain(domain, session);
    bool is_asleep = failure->is_gone && domain->found.may_sleep && session_may_be_started(session);
    return is_asleep ? FOUND_ASLEEP : FOUND_NOTHING;
}

/* Also where nobody waits any more: what it has to give back may block. */
static void run_open(struct call *call)
{
    struct domain *domain = of_opening(call);
    const struct session_source source = {
        .theirs = domain->found.theirs,
        .handle = domain->found.handle,
        .key = {.name = domain->found.name, .is_uuid = domain->found.is_uuid},
    };

    domain->found.theirs = NULL;
    domain->found.handle = NULL;
    if (source.theirs || source.handle)
        domain->found.session =
            session_open(&source, &domain_session_sink, domain, &domain->found.failure);
    if (!domain->found.session)
        return;
    domain->found.state = look(domain, domain->found.session);
    session_called(domain->found.session);
    if (domain->found.state == FOUND_NOTHING) {
        session_close(domain->found.session);
        domain->found.session = NULL;
    }
}

/* A thread of the pool, so there is one for the call. */
static void on_connection(struct opening *opening, virConnectPtr handle, int error, char *why)
{
    struct domain *domain = container_of(opening, struct domain, wanted);
    domain->found.handle = handle;
    domain->found.failure.error = error;
    domain->found.failure.why = why;
    lane_submit(domain->lane, &domain->opening);
}

static void not_opened(struct domain *domain)
{
    const struct session_failure *failure = &domain->found.failure;
    int error = failure->error == BJ_OK ? BJ_E_CONNECT : failure->error;
    const char *why = bj_error_text(failure->error == BJ_OK ? BJ_E_NOMEM : failure->error);
    domain->driver.is_absent = failure->is_gone || domain->wanted.is_absent;
    domain_go_down(domain, error, failure->is_gone,
                   text_printf("%s: %s", text_str(domain->uri), failure->why ? failure->why : why));
}

static struct domain *of_checking(struct call *call)
{
    return container_of(call, struct domain, checking);
}

static void run_check(struct call *call)
{
    struct domain *domain = of_checking(call);
    domain->is_alive = atomic_load(&domain->given_up) || session_is_alive(domain->session);
    session_called(domain->session);
}

static void checked(struct call *call)
{
    struct domain *domain = of_checking(call);
    if (domain->stage != STAGE_DOWN && domain->is_alive)
        loop_timer_set(domain->alive_timer, ALIVE_MS);
    else if (domain->stage != STAGE_DOWN)
        domain_on_disconnected(domain, VIR_CONNECT_CLOSE_REASON_ERROR);
    domain_unref(domain);
}

static void checked_in_vain(struct call *call)
{
    domain_unref(of_checking(call));
}

/* Behind what else is on the lane: a call that fails asks the same. */
static void on_alive_timer(void *user)
{
    struct domain *domain = domain_ref(user);
    domain->checking = (struct call){.run = run_check, .done = checked, .dropped = checked_in_vain};
    if (lane_submit(domain->lane, &domain->checking))
        return;
    loop_timer_set(domain->alive_timer, ALIVE_MS);
    domain_unref(domain);
}

static bool make_timers(struct domain *domain)
{
    bool asks = !session_reports_end(domain->session);
    if (asks)
        domain->alive_timer = loop_timer_new(domain->loop, on_alive_timer, domain);
    if (domain->alive_timer)
        loop_timer_set(domain->alive_timer, ALIVE_MS);
    return !asks || domain->alive_timer;
}

static const struct denial read_only = {
    .error_class = DENIED_CLASS,
    .text =
        "the connection to libvirt is read only, and there no job is started or steered: connect "
        "without ?readonly, or lend a connection that virConnectOpen() has opened",
};

static void note_capabilities(struct domain *domain)
{
    struct capabilities *can = &domain->driver.capabilities;
    can->has_ready_event = true;
    can->has_bare_rows = true;
    can->no_such_job_class = NO_SUCH_JOB_CLASS;
}

void domain_note_listening(struct domain *domain, bool has_qemu_events, bool is_read_only)
{
    domain->listens = true;
    domain->driver.capabilities.denial = is_read_only ? &read_only : NULL;
    if (!has_qemu_events)
        facts_lack_qemu(domain->facts);
}

static void go_up(struct domain *domain)
{
    domain->stage = STAGE_UP;
    domain_take_disks(domain, &domain->found.disks);
    facts_set_version(domain->facts, domain->found.version);
    note_capabilities(domain);
    if (session_listens(domain->session))
        domain_note_listening(domain, session_hands_on_qemu_events(domain->session),
                              session_is_read_only(domain->session));
    domain->identity = domain->found.identity;
    domain->is_persistent = domain->found.is_persistent;
    if (copies_note(&domain->copies, &domain->disks) != BJ_OK) {
        domain_lose_memory(domain);
        return;
    }
    domain->sink->up(domain->user, NULL); /* libvirt knows its host's QEMU, not the domain's */
    domain_replay_early_events(domain);
}

/* It stays asleep if it was started before, and has stopped again: so what has come meanwhile is
 * looked through. */
static void fall_asleep(struct domain *domain)
{
    bool is_news = !domain->has_slept;
    domain->stage = STAGE_ASLEEP;
    domain->has_slept = true;
    if (is_news)
        domain->sink->waits(domain->user,
                            text_printf("%s: %s", text_str(domain->uri),
                                        domain->found.failure.why ? domain->found.failure.why
                                                                  : bj_error_text(BJ_E_NOMEM)));
    domain_replay_early_events(domain);
}

static void take_found(struct domain *domain)
{
    if (domain->found.state == FOUND_NOTHING)
        not_opened(domain);
    else if (domain->found.state == FOUND_ASLEEP)
        fall_asleep(domain);
    else
        go_up(domain);
}

static struct domain *of_looking(struct call *call)
{
    return container_of(call, struct domain, looking);
}

static void run_look(struct call *call)
{
    struct domain *domain = of_looking(call);
    domain->found.state = look(domain, domain->session);
    session_called(domain->session);
}

static void looked(struct call *call)
{
    struct domain *domain = of_looking(call);
    if (domain->stage != STAGE_DOWN)
        take_found(domain);
    domain_unref(domain);
}

static void looked_in_vain(struct call *call)
{
    domain_unref(of_looking(call));
}

void domain_wake(struct domain *domain)
{
    domain->stage = STAGE_OPENING;
    domain->looking = (struct call){.run = run_look, .done = looked, .dropped = looked_in_vain};
    domain_ref(domain);
    if (lane_submit(domain->lane, &domain->looking))
        return;
    domain_unref(domain);
    domain_lose_memory(domain);
}

static bool want_connection(struct domain *domain)
{
    domain->wanted.opened = on_connection;
    domain_ref(domain);
    if (endpoint_open(domain->endpoint, &domain->wanted))
        return true;
    domain_unref(domain);
    return false;
}

/* The program's connection never reads an event. */
static bool want_substitute(struct domain *domain)
{
    struct session_failure *failure = &domain->found.failure;
    struct endpoint *endpoint = endpoint_get(failure->substitute, failure->is_read_only);
    domain->found.name = strdup(failure->uuid);
    domain->found.is_uuid = true;
    session_failure_clear(failure);
    if (!endpoint || !domain->found.name) {
        endpoint_unref(endpoint);
        return false;
    }
    endpoint_unref(domain->endpoint);
    domain->endpoint = endpoint;
    return want_connection(domain);
}

static void take_session(struct domain *domain)
{
    domain->session = domain->found.session;
    domain->found.session = NULL;
    if (domain->stage == STAGE_DOWN)
        leave_session(domain);
    else if (!domain->session)
        not_opened(domain);
    else if (make_timers(domain))
        take_found(domain);
    else
        domain_lose_memory(domain);
}

static void opened(struct call *call)
{
    struct domain *domain = of_opening(call);
    bool is_deaf = domain->found.failure.substitute && domain->stage != STAGE_DOWN;
    if (!is_deaf || !want_substitute(domain))
        take_session(domain);
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

/* The one that it was before, whatever the domain of its name is now. */
static void seek_by_uuid(struct domain *domain, const struct driver_legacy *before)
{
    const struct legacy *legacy = (const struct legacy *)before;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    char *at = uuid;
    for (size_t i = 0; i < sizeof legacy->identity.uuid; i++)
        at += sprintf(at, "%02x", legacy->identity.uuid[i]);
    free(domain->found.name);
    domain->found.name = strdup(uuid);
    domain->found.is_uuid = domain->found.may_sleep = true;
}

/* The address was checked. */
static bool equip(struct domain *domain, const struct driver_peer *peer)
{
    struct domain_address address = {0};
    const char *why;
    bool is_parsed = domain_address_parse(peer->uri, &address, &why) == BJ_OK;
    domain->found.name = domain->found.theirs ? NULL : address.name;
    if (is_parsed && !domain->found.theirs)
        address.name = NULL;
    if (peer->before)
        seek_by_uuid(domain, peer->before);
    domain->endpoint = is_parsed ? endpoint_get(address.connection, address.is_read_only) : NULL;
    domain_address_clear(&address);

    domain->uri = text_new(peer->label, strlen(peer->label));
    domain->mailbox = mailbox_new(domain->loop);
    if (domain->mailbox && domain->endpoint)
        domain->lane = lane_new(domain->mailbox, endpoint_group(domain->endpoint));
    domain->facts = facts_new(domain_on_fact, domain);
    return domain->uri && domain->lane && domain->facts &&
           (domain->found.name || domain->found.theirs);
}

static bool begin(struct domain *domain)
{
    domain->opening = (struct call){.run = run_open, .done = opened, .dropped = opened_in_vain};
    if (!domain->found.theirs)
        return want_connection(domain);
    domain_ref(domain);
    if (lane_submit(domain->lane, &domain->opening))
        return true;
    domain_unref(domain);
    return false;
}

struct driver *domain_open(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *theirs, const struct driver_sink *sink, void *user)
{
    struct domain *domain = calloc(1, sizeof *domain);
    if (!domain) {
        if (theirs)
            session_release_domain(theirs);
        return NULL;
    }
    atomic_init(&domain->refs, 1);
    domain->driver.ops = &domain_ops;
    domain->loop = loop;
    domain->sink = sink;
    domain->user = user;
    domain->found.theirs = theirs;
    domain->early_last = &domain->early;
    if (equip(domain, peer) && begin(domain)) {
        loop_hold(loop);
        return &domain->driver;
    }
    facts_free(domain->facts);
    domain_unref(domain);
    return NULL;
}
