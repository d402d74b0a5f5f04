/* SPDX-License-Identifier: MIT */
/*
 * Connections to libvirt; see connection.h. All of a process are in one list: libvirt's event loop
 * and its threads are the process's, too.
 */
#include "connection.h"

#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A host that does not answer for so long is given up; libvirt's own clients do the same. */
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

struct connection {
    struct connection *next;
    char *uri; /* NULL: libvirt's default */
    virConnectPtr handle;
    bool is_theirs;
    bool tells_end;
    bool is_new; /* nobody has opened it yet */
    bool opening;
    bool has_failed; /* nobody joins it any more */
    bool has_ended;  /* the same */
    unsigned joined;
    struct connection_user *users;
    char *error; /* why it could not be opened; NULL: no memory */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static struct connection *connections;

static void unlink_connection(struct connection *connection)
{
    struct connection **link = &connections;
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
}

/* What the program does about errors is its own affair, and so is what libvirt prints. */
static void be_silent(void *user, virErrorPtr error)
{
    (void)user, (void)error;
}

/* ---------------------------------------------------------------------- ending */

static void on_closed(virConnectPtr handle, int reason, void *opaque)
{
    struct connection *connection = opaque;
    (void)handle;

    pthread_mutex_lock(&lock);
    connection->has_ended = true;
    for (struct connection_user *user = connection->users; user; user = user->next)
        user->ended(user, reason);
    pthread_mutex_unlock(&lock);
}

static void free_connection(struct connection *connection)
{
    if (connection->handle && connection->tells_end)
        virConnectUnregisterCloseCallback(connection->handle, on_closed);
    if (connection->handle && !connection->has_failed)
        virConnectClose(connection->handle);
    free(connection->error);
    free(connection->uri);
    free(connection);
}

/* Under the lock. True: the caller frees it, without the lock. */
static bool drop(struct connection *connection)
{
    if (--connection->joined > 0)
        return false;
    unlink_connection(connection);
    return true;
}

void connection_leave(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&lock);
    struct connection_user **link = &connection->users;
    while (*link != user)
        link = &(*link)->next;
    *link = user->next;
    bool is_last = drop(connection);
    pthread_mutex_unlock(&lock);
    if (is_last)
        free_connection(connection);
}

/* --------------------------------------------------------------------- joining */

static bool is_same_uri(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool can_be_joined(const struct connection *connection)
{
    return !connection->has_failed && !connection->has_ended;
}

static struct connection *find(const char *uri)
{
    for (struct connection *each = connections; each; each = each->next)
        if (!each->is_theirs && can_be_joined(each) && each->joined < CONNECTION_DOMAINS_MAX &&
            is_same_uri(each->uri, uri))
            return each;
    return NULL;
}

static struct connection *find_theirs(virConnectPtr handle)
{
    for (struct connection *each = connections; each; each = each->next)
        if (each->is_theirs && can_be_joined(each) && each->handle == handle)
            return each;
    return NULL;
}

/* Under the lock. NULL: no memory. */
static struct connection *add(const char *uri)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection && uri)
        connection->uri = strdup(uri);
    if (!connection || (uri && !connection->uri)) {
        free(connection);
        return NULL;
    }
    connection->is_new = true;
    connection->next = connections;
    connections = connection;
    return connection;
}

static bool open_ours(struct connection *connection)
{
    connection->handle = virConnectOpenAuth(connection->uri, virConnectAuthPtrDefault, 0);
    if (!connection->handle)
        return false;
    virConnSetErrorFunc(connection->handle, NULL, be_silent);
    /* Not possible for a driver in this process, which can't get lost either. */
    virConnectSetKeepAlive(connection->handle, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    return true;
}

static bool open_handle(struct connection *connection)
{
    bool opened_it =
        connection->is_theirs ? virConnectRef(connection->handle) == 0 : open_ours(connection);
    const char *message = opened_it ? NULL : virGetLastErrorMessage();
    connection->error = message ? strdup(message) : NULL;
    if (opened_it)
        connection->tells_end =
            virConnectRegisterCloseCallback(connection->handle, on_closed, connection, NULL) == 0;
    return opened_it;
}

/* Under the lock, which is let go of meanwhile: who comes first opens it for all. */
static void await_opening(struct connection *connection)
{
    if (connection->is_new) {
        connection->is_new = false;
        connection->opening = true;
        pthread_mutex_unlock(&lock);
        bool opened_it = open_handle(connection);
        pthread_mutex_lock(&lock);
        connection->has_failed = !opened_it;
        connection->opening = false;
        pthread_cond_broadcast(&opened);
    }
    while (connection->opening)
        pthread_cond_wait(&opened, &lock);
}

static void link_user(struct connection *connection, struct connection_user *user)
{
    user->next = connection->users;
    connection->users = user;
    if (connection->has_ended)
        user->ended(user, VIR_CONNECT_CLOSE_REASON_ERROR);
}

/* Under the lock, which it lets go of. */
static struct connection *join(struct connection *connection, struct connection_user *user,
                               char **ret_why)
{
    connection->joined++;
    await_opening(connection);

    bool has_failed = connection->has_failed;
    bool is_last = has_failed && drop(connection);
    *ret_why = has_failed && connection->error ? strdup(connection->error) : NULL;
    if (!has_failed)
        link_user(connection, user);
    pthread_mutex_unlock(&lock);
    if (is_last)
        free_connection(connection);
    return has_failed ? NULL : connection;
}

static struct connection *no_memory(char **ret_why)
{
    pthread_mutex_unlock(&lock);
    *ret_why = NULL;
    return NULL;
}

struct connection *connection_join(const char *uri, struct connection_user *user, char **ret_why)
{
    pthread_mutex_lock(&lock);
    struct connection *connection = find(uri);
    if (!connection)
        connection = add(uri);
    return connection ? join(connection, user, ret_why) : no_memory(ret_why);
}

struct connection *connection_join_theirs(virConnectPtr handle, struct connection_user *user,
                                          char **ret_why)
{
    pthread_mutex_lock(&lock);
    struct connection *connection = find_theirs(handle);
    if (!connection && (connection = add(NULL))) {
        connection->is_theirs = true;
        connection->handle = handle;
    }
    return connection ? join(connection, user, ret_why) : no_memory(ret_why);
}

virConnectPtr connection_handle(const struct connection *connection)
{
    return connection->handle;
}

bool connection_tells_end(const struct connection *connection)
{
    return connection->tells_end;
}
