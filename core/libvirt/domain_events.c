/* SPDX-License-Identifier: MIT */
/*
 * libvirt's and QEMU's events on their way to the loop; see domain_events.h.
 */
#include "domain_events.h"
#include "base/container_of.h"
#include "domain_lists.h"
#include "domain_request.h"

#include <stddef.h>
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

/* The bytes of events that wait for the loop: more are dropped, and the connection with them. One
 * of libvirt's messages has 32 MiB at most. */
#define EVENT_BYTES_MAX ((size_t)64 * 1024 * 1024)

/* Something that libvirt tells, on its way to the loop. */
struct event {
    struct loop_task task; /* first */
    struct event *next;    /* while the session is being made */
    struct domain *domain; /* a reference */
    size_t bytes;
    void (*happen)(struct domain *domain, const struct event *event);
    /* Of a block job, or of the domain's life; status: its detail, why the connection has ended, or
     * whether a backup has succeeded. Whether QEMU's events are handed on, and nothing is steered.
     */
    int type, status;
    int64_t timestamp_us;
    char *name; /* the disk, or QEMU's event */
    char *data; /* of QEMU's; or an error; NULL: none */
};

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static void event_free(struct event *event)
{
    atomic_fetch_sub(&event->domain->event_bytes, event->bytes);
    domain_unref(event->domain);
    free(event->name);
    free(event->data);
    free(event);
}

/* ----------------------------------------------------------------------- events */

void domain_on_fact(void *user, const struct fact *fact)
{
    struct domain *domain = user;
    domain->sink->fact(domain->user, fact);
}

/* A late end of the run before changes nothing for the one that libvirt has taken since. */
static void note_end(struct domain *domain, const char *id)
{
    if (facts_owes_earlier_end(domain->facts, id))
        return;
    request_verbs_are_moot(domain, id);
    copies_end(&domain->copies, id);
}

static void happen_block_job(struct domain *domain, const struct event *event)
{
    const char *ended = facts_ended_id(domain->facts, event->name, event->type, event->status);
    if (ended)
        note_end(domain, ended);
    if (facts_block_job(domain->facts, event->name, event->type, event->status) == BJ_OK)
        domain_release_lists(domain);
    else
        domain_lose_memory(domain);
}

static void happen_backup_result(struct domain *domain, const struct event *event)
{
    if (facts_backup_result(domain->facts, event->status != 0, event->data) != BJ_OK)
        domain_lose_memory(domain);
}

static void happen_qemu_event(struct domain *domain, const struct event *event)
{
    int r = facts_qemu_event(domain->facts, event->name, event->data, event->timestamp_us);
    if (domain->sink->wants_events(domain->user))
        domain->sink->event(domain->user, event->name, event->data, length_of(event->data),
                            event->timestamp_us);
    if (r != BJ_OK)
        domain_lose_memory(domain);
}

static void happen_listening(struct domain *domain, const struct event *event)
{
    domain_note_listening(domain, event->type != 0, event->status != 0);
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

/* One that has moved runs elsewhere. */
static void stop(struct domain *domain, int detail)
{
    domain->driver.may_return =
        domain->is_persistent && detail != VIR_DOMAIN_EVENT_STOPPED_MIGRATED;
    domain_go_down(domain, BJ_E_DISCONNECTED, true,
                   text_printf("%s: %s, and its jobs are gone with its QEMU", text_str(domain->uri),
                               stop_text(detail)));
}

static void happen_lifecycle(struct domain *domain, const struct event *event)
{
    bool is_renamed = event->type == VIR_DOMAIN_EVENT_UNDEFINED &&
                      event->status == VIR_DOMAIN_EVENT_UNDEFINED_RENAMED;
    if (event->type == VIR_DOMAIN_EVENT_DEFINED)
        domain->is_persistent = true;
    else if (event->type == VIR_DOMAIN_EVENT_UNDEFINED && !is_renamed)
        domain->is_persistent = false;
    else if (event->type == VIR_DOMAIN_EVENT_STOPPED)
        stop(domain, event->status);
}

/* While it is asleep. A domain that is undefined then is no more: a look finds nothing. */
static void happen_asleep(struct domain *domain, const struct event *event)
{
    bool may_change =
        event->type == VIR_DOMAIN_EVENT_STARTED || event->type == VIR_DOMAIN_EVENT_UNDEFINED;
    if (event->happen == happen_lifecycle && may_change)
        domain_wake(domain);
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
    domain_go_down(domain, BJ_E_DISCONNECTED, false,
                   text_printf("%s: %s", text_str(domain->uri), disconnect_text(event->status)));
}

/* What came before is about an earlier QEMU. */
static bool begins_anew(const struct event *event)
{
    return event->happen == happen_lifecycle && event->type == VIR_DOMAIN_EVENT_STARTED;
}

static void on_event(struct loop_task *task)
{
    struct event *event = (struct event *)task;
    struct domain *domain = event->domain;

    if (domain->stage == STAGE_OPENING) {
        if (begins_anew(event))
            domain_drop_early_events(domain);
        event->next = NULL;
        *domain->early_last = event;
        domain->early_last = &event->next;
        return;
    }
    if (domain->stage == STAGE_ASLEEP && event->happen != happen_disconnected)
        happen_asleep(domain, event);
    else if (domain->stage != STAGE_DOWN)
        event->happen(domain, event);
    event_free(event);
}

static void on_missed(struct loop_task *task)
{
    struct domain *domain = container_of(task, struct domain, missed_task);
    if (domain->stage == STAGE_UP || domain->stage == STAGE_ASLEEP)
        domain_lose_memory(domain);
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
    event->bytes = sizeof *event + length_of(name) + length_of(data);
    size_t waiting = atomic_fetch_add(&domain->event_bytes, event->bytes);
    bool fits = waiting + event->bytes <= EVENT_BYTES_MAX;
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

static void on_block_job(void *user, const char *disk, int type, int status)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, disk, NULL, happen_block_job);
    if (event) {
        event->type = type;
        event->status = status;
    }
    post_event(domain, event);
}

static void on_backup_result(void *user, bool succeeded, const char *error)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, NULL, error, happen_backup_result);
    if (event)
        event->status = succeeded;
    post_event(domain, event);
}

static void on_qemu_event(void *user, const char *name, const char *data, long long seconds,
                          unsigned micros)
{
    struct domain *domain = user;
    struct event *event = event_new(domain, name, data, happen_qemu_event);
    if (event)
        event->timestamp_us = (int64_t)seconds * 1000000 + micros;
    post_event(domain, event);
}

static void post_pair(struct domain *domain, int type, int status,
                      void (*happen)(struct domain *domain, const struct event *event))
{
    struct event *event = event_new(domain, NULL, NULL, happen);
    if (event) {
        event->type = type;
        event->status = status;
    }
    post_event(domain, event);
}

static void on_listening(void *user, bool has_qemu_events, bool is_read_only)
{
    post_pair(user, has_qemu_events, is_read_only, happen_listening);
}

static void on_lifecycle(void *user, int type, int detail)
{
    post_pair(user, type, detail, happen_lifecycle);
}

void domain_on_disconnected(void *user, int reason)
{
    post_pair(user, 0, reason, happen_disconnected);
}

const struct session_sink domain_session_sink = {
    .block_job = on_block_job,
    .backup_result = on_backup_result,
    .qemu_event = on_qemu_event,
    .listening = on_listening,
    .lifecycle = on_lifecycle,
    .disconnected = domain_on_disconnected,
    .ref = domain_ref,
    .unref = domain_unref,
};

/* ------------------------------------------------------------------------ early */

void domain_replay_early_events(struct domain *domain)
{
    struct event *early = domain->early;
    domain->early = NULL;
    domain->early_last = &domain->early;
    while (early) {
        struct event *event = early;
        early = event->next;
        on_event(&event->task);
    }
    if (atomic_load(&domain->missed) && domain->stage != STAGE_DOWN)
        domain_lose_memory(domain); /* for one that came while it was opening */
}

void domain_drop_early_events(struct domain *domain)
{
    while (domain->early) {
        struct event *event = domain->early;
        domain->early = event->next;
        event_free(event);
    }
    domain->early_last = &domain->early;
}
