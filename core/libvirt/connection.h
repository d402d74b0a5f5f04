/* SPDX-License-Identifier: MIT */
/*
 * Connections to libvirt, each shared by a few domains.
 *
 * libvirtd works on five calls of a client at a time (max_client_requests), and a domain whose job
 * lock is stuck keeps one of them busy. So a connection of ours serves at most four domains, each
 * of which makes one call at a time: those that are stuck delay no other (B67).
 */
#ifndef BJ_CONNECTION_H
#define BJ_CONNECTION_H

#include <libvirt/libvirt.h>
#include <stdbool.h>

enum { CONNECTION_DOMAINS_MAX = 4 };

struct connection;

/* Hears once that the connection has ended; on a thread of libvirt's, under a lock: it may only
 * post. Lies in its owner's memory, from joining to connection_leave(). */
struct connection_user {
    struct connection_user *next;
    void (*ended)(struct connection_user *user, int reason); /* virConnectCloseReason */
};

/* These block: threads of the pool. NULL: *ret_why is libvirt's sentence, malloc'ed, or NULL for a
 * lack of memory. A `uri` of NULL is libvirt's default. */
struct connection *connection_join(const char *uri, struct connection_user *user, char **ret_why);
/* The program's own: it is kept open while we use it. */
struct connection *connection_join_theirs(virConnectPtr handle, struct connection_user *user,
                                          char **ret_why);
/* The last one closes ours. */
void connection_leave(struct connection *connection, struct connection_user *user);

virConnectPtr connection_handle(const struct connection *connection);

/* False: the program itself listens for its end, and there can be only one who does: ask
 * virConnectIsAlive(), which asks nobody else. */
bool connection_tells_end(const struct connection *connection);

#endif
