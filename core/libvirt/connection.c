/* SPDX-License-Identifier: MIT */
/*
 * Connections to libvirt; see connection.h.
 */
#include "connection.h"
#include "registration.h"
#include "service.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A host that does not answer for so long is given up; libvirt's own clients do the same. */
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3

/* An event that libvirt reports. */
struct listening {
    int id; /* -1: it does not */
    struct registration *registration;
};

struct connection {
    virConnectPtr handle;
    struct nudge *nudge;
    struct registration *closing; /* NULL: libvirt does not report the end */
    struct listening lifecycle, block_job, job_completed, qemu_event;
    bool is_read_only; /* as was found out when it began to listen to jobs */

    pthread_mutex_t lock;
    struct connection_user *users;
    bool has_ended;
    int reason; /* why */

    /* The program's, under the lock of the list. */
    struct connection *next;
    bool is_listed;
    bool is_changing; /* it is being opened or closed, without the lock: wait */
    bool has_failed;
    bool listens_to_jobs;
    unsigned joined;
    char *error; /* why; NULL: no memory */
};

/* The connections of the program's that we use. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct connection *first;
} theirs = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void before_fork(void)
{
    pthread_mutex_lock(&theirs.lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&theirs.lock);
}

/* What the parent uses, and what its threads were about to do, is the parent's. */
static void begin_child(void)
{
    theirs.first = NULL;
    pthread_cond_init(&theirs.changed, NULL); /* the parent's may have had waiters */
    after_fork();
}

static void init_theirs(void)
{
    pthread_atfork(before_fork, after_fork, begin_child);
}

/* ---------------------------------------------------------------------- memory */

static struct connection *connection_new(void)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    pthread_mutex_init(&connection->lock, NULL);
    connection->lifecycle.id = connection->block_job.id = connection->job_completed.id =
        connection->qemu_event.id = -1;
    return connection;
}

static void connection_free(struct connection *connection)
{
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

static bool hears_of(const struct connection_user *user, virDomainPtr domain)
{
    return user->hears_jobs && is_about(user, domain);
}

static struct connection *enter(void *registration)
{
    struct connection *connection = registration_enter(registration);
    if (connection)
        pthread_mutex_lock(&connection->lock);
    return connection;
}

static void leave(struct connection *connection, void *registration)
{
    if (!connection)
        return;
    pthread_mutex_unlock(&connection->lock);
    registration_leave(registration);
}

static struct connection_user *users_of(struct connection *connection)
{
    return connection ? connection->users : NULL;
}

static void on_block_job(virConnectPtr handle, virDomainPtr domain, const char *disk, int type,
                         int status, void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (hears_of(user, domain))
            user->block_job(user, disk, type, status);
    leave(connection, opaque);
}

static void on_job_completed(virConnectPtr handle, virDomainPtr domain,
                             virTypedParameterPtr parameters, int count, void *opaque)
{
    int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
    int succeeded = 0;
    const char *error = NULL;

    (void)handle;
    virTypedParamsGetInt(parameters, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsGetBoolean(parameters, count, VIR_DOMAIN_JOB_SUCCESS, &succeeded);
    virTypedParamsGetString(parameters, count, VIR_DOMAIN_JOB_ERRMSG, &error);
    if (operation != VIR_DOMAIN_JOB_OPERATION_BACKUP)
        return;

    struct connection *connection = enter(opaque);
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (hears_of(user, domain))
            user->backup_result(user, succeeded != 0, error);
    leave(connection, opaque);
}

static int on_lifecycle(virConnectPtr handle, virDomainPtr domain, int event, int detail,
                        void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (is_about(user, domain))
            user->lifecycle(user, event, detail);
    leave(connection, opaque);
    return 0;
}

static void on_qemu_event(virConnectPtr handle, virDomainPtr domain, const char *event,
                          long long seconds, unsigned micros, const char *details, void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    for (struct connection_user *user = users_of(connection); user; user = user->next)
        if (hears_of(user, domain))
            user->qemu_event(user, event, details, seconds, micros);
    leave(connection, opaque);
}

/* The lock is held. */
static void note_end(struct connection *connection, int reason)
{
    connection->has_ended = true;
    connection->reason = reason;
    for (struct connection_user *user = connection->users; user; user = user->next)
        user->ended(user, reason);
}

static void on_closed(virConnectPtr handle, int reason, void *opaque)
{
    struct connection *connection = enter(opaque);
    (void)handle;
    if (connection)
        note_end(connection, reason);
    leave(connection, opaque);
}

/* ---------------------------------------------------------------- registrations */

/* What libvirt answered when it was asked to report an event: an id, or -1. */
static void begin(struct listening *listening, struct registration *registration, int id)
{
    if (id < 0)
        registration_drop(registration, REGISTRATION_DOUBTFUL);
    else
        *listening = (struct listening){.id = id, .registration = registration};
}

/* False: *ret_why is libvirt's sentence, or NULL for a lack of memory. */
static bool listen(struct connection *connection, struct listening *listening, virDomainPtr filter,
                   int event, virConnectDomainEventGenericCallback fn, char **ret_why)
{
    struct registration *registration = registration_new(connection);
    if (!registration)
        return false;
    int id = virConnectDomainEventRegisterAny(connection->handle, filter, event, fn, registration,
                                              registration_freed);
    if (id < 0)
        *ret_why = last_message();
    begin(listening, registration, id);
    return id >= 0;
}

/* Not every driver hands QEMU's events on, nor to everyone: then libvirt's own must do. */
static bool listen_to_qemu(struct connection *connection, virDomainPtr filter)
{
    struct registration *registration = registration_new(connection);
    if (!registration)
        return false;
    int id = virConnectDomainQemuMonitorEventRegister(
        connection->handle, filter, NULL, on_qemu_event, registration, registration_freed, 0);
    connection->is_read_only = id < 0 && virGetLastErrorCode() == VIR_ERR_OPERATION_DENIED;
    begin(&connection->qemu_event, registration, id);
    return true;
}

/* Not where the program itself waits for the end: there can be only one who does. */
static bool listen_to_end(struct connection *connection)
{
    struct registration *registration = registration_new(connection);
    if (!registration)
        return false;
    if (virConnectRegisterCloseCallback(connection->handle, on_closed, registration,
                                        registration_freed) == 0)
        connection->closing = registration;
    else
        registration_drop(registration, REGISTRATION_GONE);
    return true;
}

/* `filter`: only that domain's; NULL: all. False: *ret_why as above. */
static bool register_life(struct connection *connection, virDomainPtr filter, char **ret_why)
{
    return listen_to_end(connection) &&
           listen(connection, &connection->lifecycle, filter, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                  VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), ret_why);
}

static bool register_jobs(struct connection *connection, virDomainPtr filter, char **ret_why)
{
    return listen_to_qemu(connection, filter) &&
           listen(connection, &connection->block_job, filter, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                  VIR_DOMAIN_EVENT_CALLBACK(on_block_job), ret_why) &&
           listen(connection, &connection->job_completed, filter, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
                  VIR_DOMAIN_EVENT_CALLBACK(on_job_completed), ret_why);
}

static bool has_ended(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    bool ended = connection->has_ended;
    pthread_mutex_unlock(&connection->lock);
    return ended;
}

/* The removal is a call to libvirtd, too; libvirt frees what it holds also where that fails. It
 * must be made even when the connection has ended, and libvirt prints that: each holds the
 * connection. */
static void stop_listening(struct connection *connection, struct listening *listening,
                           int (*deregister)(virConnectPtr handle, int id))
{
    if (listening->id >= 0)
        deregister(connection->handle, listening->id);
    registration_drop(listening->registration, REGISTRATION_KEPT);
    *listening = (struct listening){.id = -1};
}

static void stop_listening_to_jobs(struct connection *connection)
{
    stop_listening(connection, &connection->block_job, virConnectDomainEventDeregisterAny);
    stop_listening(connection, &connection->job_completed, virConnectDomainEventDeregisterAny);
    stop_listening(connection, &connection->qemu_event, virConnectDomainQemuMonitorEventDeregister);
}

/* Where libvirt can't remove it, it frees it when the connection ends; as it has done where it has
 * reported the end. */
static void stop_listening_to_end(struct connection *connection)
{
    bool removed = connection->closing && !has_ended(connection) &&
                   virConnectUnregisterCloseCallback(connection->handle, on_closed) == 0;
    registration_drop(connection->closing, removed ? REGISTRATION_GONE : REGISTRATION_KEPT);
}

static void close_handle(struct connection *connection)
{
    if (connection->handle) {
        stop_listening_to_jobs(connection);
        stop_listening(connection, &connection->lifecycle, virConnectDomainEventDeregisterAny);
        stop_listening_to_end(connection);
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
    while (*link && *link != connection)
        link = &(*link)->next;
    if (*link)
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
        connection_free(connection);
}

void connection_leave(struct connection *connection, struct connection_user *user)
{
    unlink_user(connection, user);
    if (connection->is_listed) {
        leave_theirs(connection);
        return;
    }
    close_handle(connection);
    connection_free(connection);
}

/* ------------------------------------------------------------------------ ours */

/* What the program does about errors is its own affair, and so is what libvirt prints. */
static void ignore_error(void *user, virErrorPtr error)
{
    (void)user, (void)error;
}

static virDomainPtr look_up(virConnectPtr handle, const struct domain_key *key)
{
    const char *name = key->name;
    if (key->is_uuid)
        return virDomainLookupByUUIDString(handle, name);
    virDomainPtr domain = virDomainLookupByName(handle, name);
    bool may_be_uuid = !domain && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN &&
                       strspn(name, "0123456789abcdefABCDEF-") == strlen(name) &&
                       strlen(name) >= (size_t)2 * VIR_UUID_BUFLEN;
    return may_be_uuid ? virDomainLookupByUUIDString(handle, name) : domain;
}

static void set_up_ours(struct connection *connection)
{
    virConnSetErrorFunc(connection->handle, NULL, ignore_error);
    connection->nudge = nudge_new();
    /* Not possible for a driver in this process, which can't get lost either. */
    virConnectSetKeepAlive(connection->handle, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
}

/* Its events are registered before its state is read: nothing is missed. */
static bool join_ours(struct connection *connection, const struct domain_key *key,
                      struct connection_user *user, virDomainPtr *ret_domain, bool *ret_is_gone,
                      char **ret_why)
{
    set_up_ours(connection);
    *ret_domain = look_up(connection->handle, key);
    if (!*ret_domain || virDomainGetUUID(*ret_domain, user->uuid) != 0) {
        *ret_is_gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
        *ret_why = last_message();
        return false;
    }
    user->hears_jobs = true;
    link_user(connection, user);
    return register_life(connection, *ret_domain, ret_why) &&
           register_jobs(connection, *ret_domain, ret_why);
}

struct connection *connection_join(virConnectPtr handle, const struct domain_key *key,
                                   struct connection_user *user, virDomainPtr *ret_domain,
                                   bool *ret_is_gone, char **ret_why)
{
    struct connection *connection = connection_new();
    *ret_domain = NULL;
    *ret_is_gone = false;
    *ret_why = NULL;
    if (!connection) {
        virConnectClose(handle);
        return NULL;
    }
    connection->handle = handle;
    if (join_ours(connection, key, user, ret_domain, ret_is_gone, ret_why)) {
        connection_nudge(connection);
        return connection;
    }
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
    char *error = NULL;
    bool registered = virConnectRef(connection->handle) == 0;
    if (registered) {
        connection->nudge = nudge_new();
        registered = register_life(connection, NULL, &error);
        nudge_loop(connection->nudge);
    } else {
        error = last_message();
    }
    pthread_mutex_lock(&theirs.lock);
    connection->has_failed = !registered;
    connection->error = error;
    connection->is_changing = false;
    pthread_cond_broadcast(&theirs.changed);
}

struct connection *connection_join_theirs(virDomainPtr domain, struct connection_user *user,
                                          char **ret_why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    virConnectPtr handle = virDomainGetConnect(domain);
    struct connection *connection;

    pthread_once(&once, init_theirs);
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

/* Under the lock, which is let go of meanwhile. */
static bool begin_to_listen(struct connection *connection, char **ret_why)
{
    connection->is_changing = true;
    pthread_mutex_unlock(&theirs.lock);
    bool listens = register_jobs(connection, NULL, ret_why);
    if (!listens)
        stop_listening_to_jobs(connection);
    nudge_loop(connection->nudge);
    pthread_mutex_lock(&theirs.lock);
    connection->is_changing = false;
    pthread_cond_broadcast(&theirs.changed);
    return listens;
}

bool connection_listen_to_jobs(struct connection *connection, char **ret_why)
{
    *ret_why = NULL;
    if (!connection->is_listed)
        return true;
    pthread_mutex_lock(&theirs.lock);
    while (connection->is_changing)
        pthread_cond_wait(&theirs.changed, &theirs.lock);
    if (!connection->listens_to_jobs)
        connection->listens_to_jobs = begin_to_listen(connection, ret_why);
    bool listens = connection->listens_to_jobs;
    pthread_mutex_unlock(&theirs.lock);
    return listens;
}

void connection_hear_jobs(struct connection *connection, struct connection_user *user)
{
    pthread_mutex_lock(&connection->lock);
    user->hears_jobs = true;
    pthread_mutex_unlock(&connection->lock);
}

/* --------------------------------------------------------------------- looking */

void connection_nudge(const struct connection *connection)
{
    nudge_loop(connection->nudge);
}

static void ask_if_active(void *domain)
{
    virDomainIsActive(domain);
}

/* libvirt's client refuses to keep a connection alive that no loop reads. It is asked for an
 * interval that it can't take from anyone, so that nothing changes: then its RPC code refuses. */
static bool lacks_loop(virConnectPtr handle)
{
    if (virConnectSetKeepAlive(handle, INT_MAX, 1) >= 0)
        return false;
    const virError *error = virGetLastError();
    return error && error->domain == VIR_FROM_REMOTE && error->code == VIR_ERR_INTERNAL_ERROR;
}

/* The first is a hint: another thread's call on the connection, which may hang, reads it for all
 * others. The second is certain, but libvirt prints a line. */
bool connection_is_deaf(const struct connection *connection, virDomainPtr domain)
{
    return !service_watches_connection(ask_if_active, domain) && lacks_loop(connection->handle);
}

bool connection_is_alive(struct connection *connection)
{
    return !has_ended(connection) && virConnectIsAlive(connection->handle) == 1;
}

bool connection_is_read_only(const struct connection *connection)
{
    return connection->is_read_only;
}

bool connection_hands_on_qemu_events(const struct connection *connection)
{
    return connection->qemu_event.id >= 0;
}

bool connection_reports_end(const struct connection *connection)
{
    return connection->closing != NULL;
}
