/* SPDX-License-Identifier: MIT */
/*
 * Connections to libvirt, and what libvirt tells on them.
 *
 * One of ours serves one domain: libvirtd works on five calls of a client at a time
 * (max_client_requests), so that domains which are stuck would delay others on the same connection
 * (B67); and only the domain that is first asked for on a connection has QEMU's own events sent, by
 * the filter in libvirtd. A connection of the program's serves all domains that it gives us: there
 * the events of all are asked for, once, and given to whom they are about. Those of jobs, which
 * with QEMU's own are many, only when someone needs them.
 */
#ifndef BJ_CONNECTION_H
#define BJ_CONNECTION_H

#include <libvirt/libvirt.h>
#include <stdbool.h>

/* Who wants to hear of a domain. The functions are called on threads of libvirt's, under a lock:
 * they may only post. Lies in its owner's memory, from joining to connection_leave(). */
struct connection_user {
    struct connection_user *next;
    unsigned char uuid[VIR_UUID_BUFLEN]; /* the domain's */
    bool hears_jobs;                     /* the first three are called */
    void (*block_job)(struct connection_user *user, const char *disk, int type, int status);
    void (*backup_result)(struct connection_user *user, bool succeeded, const char *error);
    void (*qemu_event)(struct connection_user *user, const char *name, const char *data,
                       long long seconds, unsigned micros);
    /* virDomainEventType, and its detail */
    void (*lifecycle)(struct connection_user *user, int event, int detail);
    void (*ended)(struct connection_user *user, int reason); /* virConnectCloseReason; once */
};

/* Which domain of a connection. */
struct domain_key {
    const char *name; /* or its UUID */
    bool is_uuid;     /* and nothing else */
};

struct connection;

/* These block: threads of the pool. NULL: *ret_why is libvirt's sentence, malloc'ed, or NULL for a
 * lack of memory. */

/* One of ours, which is taken over, for that domain. *ret_domain is the caller's; *ret_is_gone:
 * there is no such domain. */
struct connection *connection_join(virConnectPtr handle, const struct domain_key *key,
                                   struct connection_user *user, virDomainPtr *ret_domain,
                                   bool *ret_is_gone, char **ret_why);
/* That of the program's domain; it is kept open while we use it. */
struct connection *connection_join_theirs(virDomainPtr domain, struct connection_user *user,
                                          char **ret_why);
/* libvirt reports the events of jobs from here on, as it does on one of ours at once. False: as
 * above. After it connection_hands_on_qemu_events() is known, and connection_is_read_only(). */
bool connection_listen_to_jobs(struct connection *connection, char **ret_why);
void connection_leave(struct connection *connection, struct connection_user *user);

/* Any thread: this user hears of them. */
void connection_hear_jobs(struct connection *connection, struct connection_user *user);

/* After each call of libvirt's on it: see service.h. */
void connection_nudge(const struct connection *connection);

/* These block, too. libvirt never reads the program's connection but during a call, because it was
 * opened before there was a loop. */
bool connection_is_deaf(const struct connection *connection, virDomainPtr domain);
bool connection_is_alive(struct connection *connection);

/* Any thread; these ask nobody. */
bool connection_is_read_only(const struct connection *connection);
/* False: the program itself listens for its end, and there can be only one who does:
 * connection_is_alive() is to be asked now and then. */
bool connection_hands_on_qemu_events(const struct connection *connection);
bool connection_reports_end(const struct connection *connection);

#endif
