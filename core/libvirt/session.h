/* SPDX-License-Identifier: MIT */
/*
 * A domain as libvirt hands it out: its connection and its handle. All of
 * this blocks and belongs to the pool's threads, one at a time; what libvirt has to tell comes on
 * threads of libvirt's.
 */
#ifndef BJ_SESSION_H
#define BJ_SESSION_H

#include <libvirt/libvirt.h>
#include <stdbool.h>

/* Called on any thread; may only post. `user` is referenced for as long as one of them can come. */
struct session_sink {
    void (*block_job)(void *user, const char *disk, int type, int status); /* BLOCK_JOB_2 */
    void (*backup_result)(void *user, bool succeeded, const char *error);  /* JOB_COMPLETED */
    void (*qemu_event)(void *user, const char *name, const char *data, long long seconds,
                       unsigned micros);
    void (*stopped)(void *user, int detail);      /* virDomainEventStoppedDetailType */
    void (*disconnected)(void *user, int reason); /* virConnectCloseReason */
    void *(*ref)(void *user);
    void (*unref)(void *user);
};

/* Why there is none. */
struct session_failure {
    char *why;    /* libvirt's sentence, malloc'ed; NULL: no memory */
    bool is_gone; /* there is no such domain, or it does not run */
    int error;    /* BJ_E_SYSTEM, ...: it came to no call of libvirt's; BJ_OK: it did */
};

struct session;

/* `uri` as in blockjob.h; or a domain of the program's, whose reference is taken over in any case.
 * NULL: *ret_failure says why. */
struct session *session_open(const char *uri, virDomainPtr theirs, const struct session_sink *sink,
                             void *user, struct session_failure *ret_failure);
void session_close(struct session *session);

virDomainPtr session_domain(const struct session *session);

/* After each call of libvirt's on the domain (service.h says why). */
void session_called(const struct session *session);

/* Any thread; asks nobody. */
bool session_is_alive(const struct session *session);
/* False: session_is_alive() is to be asked now and then. */
bool session_reports_end(const struct session *session);

/* The URI in its parts: the connection's, malloc'ed, NULL for libvirt's default; and the domain's
 * name, malloc'ed. BJ_OK, BJ_E_INVAL, BJ_E_NOMEM. Any thread; asks nobody. */
int session_parse(const char *uri, char **ret_connection, char **ret_name);

#endif
