/* SPDX-License-Identifier: MIT */
/*
 * Connections to libvirt; see connection.h.
 */
#include "connection.h"
#include "service.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A host that does not answer for so long is given up; libvirt's own clients do the same. */
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

struct connection {
    atomic_uint refs; /* its users', and one of each registration */
    virConnectPtr handle;
    struct nudge *nudge;
    bool reports_end;
    int lifecycle, block_job, job_completed, qemu_event; /* callback ids; -1: none */

    pthread_mutex_t lock;
    struct connection_user *users;
    bool has_ended;
    int reason; /* why */

    /* The program's, under the lock of the list. */
    struct connection *next;
    bool is_listed;
    bool is_changing; /* it is being opened or closed, without the lock: wait */
    bool has_failed;
    unsigned joined;
    char *error; /* why; NULL: no memory */
};

/* The connections of the program's that we use. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct connection *first;
} theirs = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---------------------------------------------------------------------- memory */

static struct connection *connection_new(void)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    atomic_init(&connection->refs, 1);
    pthread_mutex_init(&connection->lock, NULL);
    connection->lifecycle = connection->block_job = connection->job_completed =
        connection->qemu_event = -1;
    return connection;
}

static void unref(void *opaque)
{
    struct connection *connection = opaque;
    if (atomic_fetch_sub(&connection->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&connection->lock);
    free(connection->error);
    free(connection);
}

static char *last_message(void)
{
    const char *message = virGetLastErrorMessage();
    return message ? strdup(message) : NULL;
}

/* ---------------------------------------------------------------------- events */

static bool is_about(const struct connection_user *user, virDomainPtr domain)
{
    unsigned char uuid[VIR_UUID_BUFLEN];
    return virDomainGetUUID(domain, uuid) == 0 && memcmp(uuid, user->uuid, sizeof uuid) == 0;
}

static void on_block_job(virConnectPtr handle, virDomainPtr domain, const char *disk, int type,
                         int status, void *opaque)
{
    struct connection *connection = opaque;
    (void)handle;
    pthread_mutex_lock(&connection->lock);
    for (struct connection_user *user = connection->users; user; user = user->next)
        if (is_about(user, domain))
            user->block_job(user, disk, type, status);
    pthread_mutex_unlock(&connection->lock);
}

static void on_job_completed(virConnectPtr handle, virDomainPtr domain,
                             virTypedParameterPtr parameters, int count, void *opaque)
{
    struct connection *connection = opaque;
    int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
    int succeeded = 0;
    const char *error = NULL;

    (void)handle;
    virTypedParamsGetInt(parameters, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsGetBoolean(parameters, count, VIR_DOMAIN_JOB_SUCCESS, &succeeded);
    virTypedParamsGetString(parameters, count, VIR_DOMAIN_JOB_ERRMSG, &error);
    if (operation != VIR_DOMAIN_JOB_OPERATION_BACKUP)
        return;
    pthread_mutex_lock(&connection->lock);
    for (struct connection_user *user = connection->users; user; user = user->next)
        if (is_about(user, domain))
            user->backup_result(user, succeeded != 0, error);
    pthread_mutex_unlock(&connection->lock);
}

static int on_lifecycle(virConnectPtr handle, virDomainPtr domain, int event, int detail,
                        void *opaque)
{
    struct connection *connection = opaque;
    (void)handle;
    pthread_mutex_lock(&connection->lock);
    for (struct connection_user *user = connection->users; user; user = user->next)
        if (event == VIR_DOMAIN_EVENT_STOPPED && is_about(user, domain))
            user->stopped(user, detail);
    pthread_mutex_unlock(&connection->lock);
    return 0;
}

static void on_qemu_event(virConnectPtr handle, virDomainPtr domain, const char *event,
                          long long seconds, unsigned micros, const char *details, void *opaque)
{
    struct connection *connection = opaque;
    (void)handle;
    pthread_mutex_lock(&connection->lock);
    for (struct connection_user *user = connection->users; user; user = user->next)
        if (is_about(user, domain))
            user->qemu_event(user, event, details, seconds, micros);
    pthread_mutex_unlock(&connection->lock);
}

static void on_closed(virConnectPtr handle, int reason, void *opaque)
{
    struct connection *connection = opaque;
    (void)handle;
    pthread_mutex_lock(&connection->lock);
    connection->has_ended = true;
    connection->reason = reason;
    for (struct connection_user *user = connection->users; user; user = user->next)
        user->ended(user, reason);
    pthread_mutex_unlock(&connection->lock);
}

/* ---------------------------------------------------------------- registrations */

static int listen(struct connection *connection, virDomainPtr filter, int event,
                  virConnectDomainEventGenericCallback fn)
{
    atomic_fetch_add(&connection->refs, 1);
    int id =
        virConnectDomainEventRegisterAny(connection->handle, filter, event, fn, connection, unref);
    if (id < 0)
        atomic_fetch_sub(&connection->refs, 1); /* its users' are left */
    return id;
}

/* Not every driver hands QEMU's events on, nor to everyone: then libvirt's own must do. */
static int listen_to_qemu(struct connection *connection, virDomainPtr filter)
{
    atomic_fetch_add(&connection->refs, 1);
    int id = virConnectDomainQemuMonitorEventRegister(connection->handle, filter, NULL,
                                                      on_qemu_event, connection, unref, 0);
    if (id < 0)
        atomic_fetch_sub(&connection->refs, 1); /* its users' are left */
    return id;
}

/* `filter`: only that domain's; NULL: all. False: virGetLastError() says why. */
static bool register_all(struct connection *connection, virDomainPtr filter)
{
    connection->reports_end =
        virConnectRegisterCloseCallback(connection->handle, on_closed, connection, NULL) == 0;
    connection->qemu_event = listen_to_qemu(connection, filter);
    connection->lifecycle = listen(connection, filter, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                   VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle));
    if (connection->lifecycle < 0)
        return false;
    connection->block_job = listen(connection, filter, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                                   VIR_DOMAIN_EVENT_CALLBACK(on_block_job));
    if (connection->block_job < 0)
        return false;
    connection->job_completed = listen(connection, filter, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
                                       VIR_DOMAIN_EVENT_CALLBACK(on_job_completed));
    return connection->job_completed >= 0;
}

static bool has_ended(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    bool ended = connection->has_ended;
    pthread_mutex_unlock(&connection->lock);
    return ended;
}

static void deregister_all(struct connection *connection)
{
    if (connection->lifecycle >= 0)
        virConnectDomainEventDeregisterAny(connection->handle, connection->lifecycle);
    if (connection->block_job >= 0)
        virConnectDomainEventDeregisterAny(connection->handle, connection->block_job);
    if (connection->job_completed >= 0)
        virConnectDomainEventDeregisterAny(connection->handle, connection->job_completed);
    if (connection->qemu_event >= 0)
        virConnectDomainQemuMonitorEventDeregister(connection->handle, connection->qemu_event);
    if (connection->reports_end && !has_ended(connection)) /* then libvirt has let go of it */
        virConnectUnregisterCloseCallback(connection->handle, on_closed);
}

static void close_handle(struct connection *connection)
{
    if (connection->handle) {
        deregister_all(connection);
        virConnectClose(connection->handle);
    }
    nudge_free(connection->nudge);
}

/* -------------------------------------------------------------------- users */

static void link_user(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&connection->lock);
    user->next = connection->users;
    connection->users = user;
    if (connection->has_ended)
        user->ended(user, connection->reason);
    pthread_mutex_unlock(&connection->lock);
}

static void unlink_user(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&connection->lock);
    struct connection_user **link = &connection->users;
    while (*link && *link != user)
        link = &(*link)->next;
    if (*link)
        *link = user->next;
    pthread_mutex_unlock(&connection->lock);
}

static void unlist(struct connection *connection)
{
    struct connection **link = &theirs.first;
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
}

/* libvirt takes our functions once a connection: who comes now has to wait until they are free. */
static void leave_theirs(struct connection *connection)
{
    pthread_mutex_lock(&theirs.lock);
    bool is_last = --connection->joined == 0;
    if (is_last) {
        connection->is_changing = true;
        pthread_mutex_unlock(&theirs.lock);
        close_handle(connection);
        pthread_mutex_lock(&theirs.lock);
        unlist(connection);
        pthread_cond_broadcast(&theirs.changed);
    }
    pthread_mutex_unlock(&theirs.lock);
    if (is_last)
        unref(connection);
}

void connection_leave(struct connection *connection, struct connection_user *user)
{
    unlink_user(connection, user);
    if (connection->is_listed) {
        leave_theirs(connection);
        return;
    }
    close_handle(connection);
    unref(connection);
}

/* ------------------------------------------------------------------------ ours */

/* What the program does about errors is its own affair, and so is what libvirt prints. */
static void ignore_error(void *user, virErrorPtr error)
{
    (void)user, (void)error;
}

static virDomainPtr look_up(virConnectPtr handle, const char *name)
{
    virDomainPtr domain = virDomainLookupByName(handle, name);
    bool may_be_uuid = !domain && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN &&
                       strspn(name, "0123456789abcdefABCDEF-") == strlen(name) &&
                       strlen(name) >= (size_t)2 * VIR_UUID_BUFLEN;
    return may_be_uuid ? virDomainLookupByUUIDString(handle, name) : domain;
}

static bool open_ours(struct connection *connection, const char *uri)
{
    connection->handle = virConnectOpen(uri); /* asks nobody for a password: auth.conf has it */
    if (!connection->handle)
        return false;
    virConnSetErrorFunc(connection->handle, NULL, ignore_error);
    connection->nudge = nudge_new();
    /* Not possible for a driver in this process, which can't get lost either. */
    virConnectSetKeepAlive(connection->handle, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    return true;
}

/* Its events are registered before its state is read: nothing is missed. */
static bool join_ours(struct connection *connection, const char *uri, const char *name,
                      struct connection_user *user, virDomainPtr *ret_domain)
{
    if (!open_ours(connection, uri))
        return false;
    *ret_domain = look_up(connection->handle, name);
    if (!*ret_domain || virDomainGetUUID(*ret_domain, user->uuid) != 0)
        return false;
    link_user(connection, user);
    return register_all(connection, *ret_domain);
}

struct connection *connection_join(const char *uri, const char *name, struct connection_user *user,
                                   virDomainPtr *ret_domain, bool *ret_is_gone, char **ret_why)
{
    struct connection *connection = connection_new();
    *ret_domain = NULL;
    *ret_is_gone = false;
    *ret_why = NULL;
    if (!connection)
        return NULL;
    if (join_ours(connection, uri, name, user, ret_domain)) {
        connection_nudge(connection);
        return connection;
    }
    *ret_is_gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
    *ret_why = last_message();
    if (*ret_domain)
        virDomainFree(*ret_domain);
    connection_leave(connection, user);
    return NULL;
}

/* ---------------------------------------------------------------------- theirs */

static struct connection *find_theirs(virConnectPtr handle)
{
    struct connection *connection = theirs.first;
    while (connection && connection->handle != handle)
        connection = connection->next;
    return connection;
}

/* NULL: no memory. */
static struct connection *list_theirs(virConnectPtr handle)
{
    struct connection *connection = connection_new();
    if (!connection)
        return NULL;
    connection->handle = handle;
    connection->is_listed = true;
    connection->next = theirs.first;
    theirs.first = connection;
    return connection;
}

/* Under the lock, which is let go of meanwhile: who comes first does it for all. */
static void open_theirs(struct connection *connection)
{
    connection->is_changing = true;
    pthread_mutex_unlock(&theirs.lock);
    bool registered = virConnectRef(connection->handle) == 0;
    if (registered) {
        connection->nudge = nudge_new();
        registered = register_all(connection, NULL);
        nudge_loop(connection->nudge);
    }
    char *error = registered ? NULL : last_message();
    pthread_mutex_lock(&theirs.lock);
    connection->has_failed = !registered;
    connection->error = error;
    connection->is_changing = false;
    pthread_cond_broadcast(&theirs.changed);
}

struct connection *connection_join_theirs(virDomainPtr domain, struct connection_user *user,
                                          char **ret_why)
{
    virConnectPtr handle = virDomainGetConnect(domain);
    struct connection *connection;

    *ret_why = NULL;
    if (!handle || virDomainGetUUID(domain, user->uuid) != 0) {
        *ret_why = last_message();
        return NULL;
    }
    pthread_mutex_lock(&theirs.lock);
    while ((connection = find_theirs(handle)) &&
           (connection->is_changing || connection->has_failed))
        pthread_cond_wait(&theirs.changed, &theirs.lock);
    bool is_new = !connection;
    if (is_new)
        connection = list_theirs(handle);
    if (connection)
        connection->joined++;
    if (connection && is_new)
        open_theirs(connection);
    bool has_failed = connection && connection->has_failed;
    if (has_failed && connection->error)
        *ret_why = strdup(connection->error);
    pthread_mutex_unlock(&theirs.lock);

    if (has_failed)
        leave_theirs(connection);
    else if (connection)
        link_user(connection, user);
    return has_failed ? NULL : connection;
}

/* --------------------------------------------------------------------- looking */

void connection_nudge(const struct connection *connection)
{
    nudge_loop(connection->nudge);
}

bool connection_is_alive(const struct connection *connection)
{
    return virConnectIsAlive(connection->handle) != 0;
}

bool connection_reports_end(const struct connection *connection)
{
    return connection->reports_end;
}
