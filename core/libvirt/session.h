/* SPDX-License-Identifier: MIT */
/*
 * A domain as libvirt hands it out: its connection and its handle. All of
 * this blocks and belongs to the pool's threads, one at a time; what libvirt has to tell comes on
 * threads of libvirt's.
 */
#ifndef BJ_SESSION_H
#define BJ_SESSION_H

#include "connection.h"

/* Called on any thread; may only post. `user` is referenced for as long as one of them can come. */
struct session_sink {
    void (*block_job)(void *user, const char *disk, int type, int status); /* BLOCK_JOB_2 */
    void (*backup_result)(void *user, bool succeeded, const char *error);  /* JOB_COMPLETED */
    void (*qemu_event)(void *user, const char *name, const char *data, long long seconds,
                       unsigned micros);
    /* What a program's connection turned out to be when it began to listen to jobs: before the
     * first of their events. */
    void (*listening)(void *user, bool has_qemu_events, bool is_read_only);
    void (*lifecycle)(void *user, int event, int detail); /* virDomainEventType, and its detail */
    void (*disconnected)(void *user, int reason);         /* virConnectCloseReason */
    void *(*ref)(void *user);
    void (*unref)(void *user);
};

/* Why there is none. */
struct session_failure {
    char *why;    /* libvirt's sentence, malloc'ed; NULL: no memory */
    bool is_gone; /* there is no such domain, or it does not run */
    int error;    /* BJ_E_SYSTEM, ...: it came to no call of libvirt's; BJ_OK: it did */

    /* The program's connection never reads an event, as it was opened before there was a loop: one
     * of ours to this URI, malloc'ed, must do, with the same rights. NULL: that is not why. */
    char *substitute;
    bool is_read_only;
    char uuid[VIR_UUID_STRING_BUFLEN]; /* the domain's */
};

/* Where a session comes from; all but the key is taken over in any case. */
struct session_source {
    virDomainPtr theirs;   /* the program's domain; NULL: */
    virConnectPtr handle;  /* a connection of ours, */
    struct domain_key key; /* and the domain on it */
};

void session_failure_clear(struct session_failure *failure);

struct session;

/* Its events are registered by then: what is read of the domain after misses none. NULL:
 * *ret_failure says why. */
struct session *session_open(const struct session_source *source, const struct session_sink *sink,
                             void *user, struct session_failure *ret_failure);
void session_close(struct session *session);

/* From here on the events of jobs are reported, as those of one of ours are at once; again:
 * nothing. False: *ret_why as session_failure's. */
bool session_listen(struct session *session, char **ret_why);

/* Whether the domain runs; else as above. */
bool session_runs(const struct session *session, struct session_failure *ret_failure);
bool session_is_persistent(const struct session *session);
/* It does not run: someone may start it again, here. One that has moved to another host runs. */
bool session_may_be_started(const struct session *session);

/* Any thread. Gives back a reference that may be the last one, which closes its connection: a
 * thread of the pool does it. Without memory or a thread it is kept for good. */
void session_release_domain(virDomainPtr domain);

virDomainPtr session_domain(const struct session *session);

/* After each call of libvirt's on the domain (service.h says why). */
void session_called(const struct session *session);

/* Asks libvirtd where nobody reports the end. */
bool session_is_alive(const struct session *session);
/* Any thread; these ask nobody. The first three: once it has listened, until when that is not
 * known. */
bool session_listens(const struct session *session);
bool session_hands_on_qemu_events(const struct session *session);
bool session_is_read_only(const struct session *session); /* no verb is taken there */
/* False: session_is_alive() is to be asked now and then. */
bool session_reports_end(const struct session *session);

#endif
