/* SPDX-License-Identifier: MIT */
/*
 * The libvirt driver: one domain. The driver's operations (domain_operations.h) become requests,
 * which are calls on a lane of the domain's own (domain_request.h); libvirt's events
 * (domain_events.h) become facts. Both come back to the loop's thread through the mailbox, and
 * only there is anything here changed.
 */
#ifndef BJ_DOMAIN_H
#define BJ_DOMAIN_H

#include "calls.h"
#include "copies.h"
#include "driver/module.h"
#include "endpoint.h"
#include "facts.h"
#include "mailbox.h"
#include "pool.h"
#include "session.h"

#include <stdatomic.h>

enum stage {
    STAGE_OPENING, /* the session is being made; its events are kept for later */
    STAGE_ASLEEP,  /* it is made, the domain does not run, and its start is waited for */
    STAGE_UP,      /* requests and facts */
    STAGE_DOWN     /* the monitor has been informed; calls that are under way come back to nobody */
};

struct event;
struct request;

/* Which QEMU it is, as far as libvirt tells: another domain may have the same name, and the same
 * domain another QEMU. */
struct identity {
    unsigned char uuid[VIR_UUID_BUFLEN];
    unsigned number;
};

struct domain {
    struct driver driver; /* first */
    atomic_uint refs;
    struct loop *loop;
    const struct driver_sink *sink;
    void *user;
    struct text *uri; /* what texts call it */
    struct mailbox *mailbox;
    struct lane *lane;
    atomic_bool given_up;      /* down: calls that wait need not go on */
    atomic_size_t event_bytes; /* of events that wait for the loop */
    atomic_bool missed;        /* memory was short for one, or they were too many */
    struct loop_task missed_task;

    /* A domain of the program's has its connection; else one is waited for. */
    struct endpoint *endpoint;
    struct opening wanted;
    struct call opening, looking, closing, checking;
    bool is_alive; /* as the last check found it */
    struct {
        virDomainPtr theirs;
        virConnectPtr handle;
        char *name; /* on a connection of ours */
        bool is_uuid;
        bool may_sleep; /* who opens it waits until it is started */
        struct session *session;
        enum found { FOUND_NOTHING, FOUND_ASLEEP, FOUND_RUNNING } state;
        bool is_persistent;
        struct session_failure failure;
        struct disks disks;
        struct identity identity;
        unsigned long version; /* of libvirt */
    } found;                   /* what opening works with; the pool's until it is over */

    /* The loop's own. */
    enum stage stage;
    struct session *session;
    struct event *early; /* that came while it was opening */
    struct event **early_last;
    struct facts *facts;
    struct disks disks;
    struct identity identity;
    bool is_persistent; /* it stays defined when it stops */
    bool has_slept;     /* before it was up */
    bool listens;       /* the events of jobs are reported */
    struct copies copies;
    bool is_returning; /* the copies are those of an earlier connection: the next list judges */
    struct request *requests; /* not answered yet */
    size_t request_count;
    struct {
        bool is_out;
        uint64_t number; /* of the last that was sent */
    } fence;
    struct loop_timer *alive_timer; /* NULL: the connection tells of its end */
};

/* driver_module.open */
struct driver *domain_open(struct loop *loop, const struct driver_peer *peer,
                           struct _virDomain *theirs, const struct driver_sink *sink, void *user);

static inline struct domain *domain_of(struct driver *driver)
{
    return (struct domain *)driver;
}

/* Any thread; `user` is the domain. */
void *domain_ref(void *user);
void domain_unref(void *user);

/* The loop's thread. The last that the monitor hears; takes over the reference to `text`. Only who
 * has a reference to the domain may touch it after. */
void domain_go_down(struct domain *domain, int error, bool is_gone, struct text *text);
void domain_lose_memory(struct domain *domain);

/* The loop's thread. The events of jobs are reported from here on. */
void domain_note_listening(struct domain *domain, bool has_qemu_events, bool is_read_only);

/* The loop's thread. One that is asleep has been started. */
void domain_wake(struct domain *domain);

/* driver_ops.close, .inherit */
void domain_close(struct driver *driver, int error, const char *text);
bool domain_inherit(struct driver *driver, struct driver_legacy *legacy);

#endif
