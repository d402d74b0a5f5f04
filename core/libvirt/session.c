/* SPDX-License-Identifier: MIT */
/*
 * A domain as libvirt hands it out; see session.h.
 */
#include "session.h"
#include "connection.h"
#include "service.h"

#include <blockjob/blockjob.h>

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
    atomic_uint refs; /* its owner's, and one of each registration */
    const struct session_sink *sink;
    void *user;
    struct connection_user connection_user;
    struct connection *connection;
    virDomainPtr domain;
    int lifecycle, block_job, qemu_event; /* callback ids; -1: none */
};

/* ------------------------------------------------------------------------- URI */

static int hex_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(digits, c | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* %20 and the like, in place. False: something that is no such. */
static bool decode(char *text)
{
    char *out = text;
    for (const char *in = text; *in; out++) {
        if (*in != '%') {
            *out = *in++;
            continue;
        }
        int high = hex_of(in[1]);
        int low = high < 0 ? -1 : hex_of(in[2]);
        if (low < 0 || (high == 0 && low == 0))
            return false;
        *out = (char)(high * 16 + low);
        in += 3;
    }
    *out = '\0';
    return true;
}

int session_parse(const char *uri, char **ret_connection, char **ret_name)
{
    static const char by_default[] = "libvirt:";
    bool is_default = strncmp(uri, by_default, strlen(by_default)) == 0;
    const char *hash = strrchr(uri, '#');
    const char *name = is_default ? uri + strlen(by_default) : hash ? hash + 1 : "";

    if (*name == '\0')
        return BJ_E_INVAL;
    *ret_connection = is_default ? NULL : strndup(uri, (size_t)(hash - uri));
    *ret_name = strdup(name);
    int r = (is_default || *ret_connection) && *ret_name ? BJ_OK : BJ_E_NOMEM;
    if (r == BJ_OK && !decode(*ret_name))
        r = BJ_E_INVAL;
    if (r != BJ_OK) {
        free(*ret_connection);
        free(*ret_name);
    }
    return r;
}

/* ---------------------------------------------------------------------- events */

static void on_block_job(virConnectPtr connection, virDomainPtr domain, const char *disk, int type,
                         int status, void *opaque)
{
    const struct session *session = opaque;
    (void)connection, (void)domain;
    session->sink->block_job(session->user, disk, type, status);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *opaque)
{
    const struct session *session = opaque;
    (void)connection, (void)domain;
    if (event == VIR_DOMAIN_EVENT_STOPPED)
        session->sink->stopped(session->user, detail);
    return 0;
}

static void on_qemu_event(virConnectPtr connection, virDomainPtr domain, const char *event,
                          long long seconds, unsigned micros, const char *details, void *opaque)
{
    const struct session *session = opaque;
    (void)connection, (void)domain;
    session->sink->qemu_event(session->user, event, details, seconds, micros);
}

static void on_disconnected(struct connection_user *user, int reason)
{
    const struct session *session =
        (struct session *)((char *)user - offsetof(struct session, connection_user));
    session->sink->disconnected(session->user, reason);
}

/* ---------------------------------------------------------------- registrations */

static void unref(void *opaque)
{
    struct session *session = opaque;
    if (atomic_fetch_sub(&session->refs, 1) != 1)
        return;
    session->sink->unref(session->user);
    free(session);
}

static int listen(struct session *session, int event, virConnectDomainEventGenericCallback fn)
{
    atomic_fetch_add(&session->refs, 1);
    int id = virConnectDomainEventRegisterAny(connection_handle(session->connection),
                                              session->domain, event, fn, session, unref);
    if (id < 0)
        atomic_fetch_sub(&session->refs, 1); /* its owner's is left */
    return id;
}

/* Not every driver hands QEMU's events on, nor to everyone: then libvirt's own must do. */
static int listen_to_qemu(struct session *session)
{
    atomic_fetch_add(&session->refs, 1);
    int id = virConnectDomainQemuMonitorEventRegister(connection_handle(session->connection),
                                                      session->domain, NULL, on_qemu_event, session,
                                                      unref, 0);
    if (id < 0)
        atomic_fetch_sub(&session->refs, 1); /* its owner's is left */
    return id;
}

static bool register_all(struct session *session)
{
    session->lifecycle =
        listen(session, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle));
    session->qemu_event = listen_to_qemu(session);
    session->block_job =
        listen(session, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK(on_block_job));
    return session->lifecycle >= 0 && session->block_job >= 0;
}

static void deregister(const struct session *session)
{
    virConnectPtr handle = connection_handle(session->connection);
    if (session->lifecycle >= 0)
        virConnectDomainEventDeregisterAny(handle, session->lifecycle);
    if (session->block_job >= 0)
        virConnectDomainEventDeregisterAny(handle, session->block_job);
    if (session->qemu_event >= 0)
        virConnectDomainQemuMonitorEventDeregister(handle, session->qemu_event);
}

void session_close(struct session *session)
{
    if (session->domain && session->connection)
        deregister(session);
    if (session->domain)
        virDomainFree(session->domain);
    if (session->connection)
        connection_leave(session->connection, &session->connection_user);
    unref(session);
}

/* --------------------------------------------------------------------- opening */

static void note_failure(struct session_failure *failure)
{
    int code = virGetLastErrorCode();
    const char *message = virGetLastErrorMessage();
    failure->why = message ? strdup(message) : NULL;
    failure->is_gone = code == VIR_ERR_NO_DOMAIN;
}

static virDomainPtr look_up(virConnectPtr handle, const char *name)
{
    unsigned char uuid[VIR_UUID_BUFLEN];
    virDomainPtr domain = virDomainLookupByName(handle, name);
    bool may_be_uuid = !domain && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN &&
                       strspn(name, "0123456789abcdefABCDEF-") == strlen(name) &&
                       strlen(name) >= 2 * sizeof uuid;
    return may_be_uuid ? virDomainLookupByUUIDString(handle, name) : domain;
}

static bool join_and_look_up(struct session *session, const char *uri,
                             struct session_failure *failure)
{
    char *connection = NULL;
    char *name = NULL;
    if (session_parse(uri, &connection, &name) != BJ_OK)
        return false; /* it was checked: no memory */

    session->connection = connection_join(connection, &session->connection_user, &failure->why);
    if (session->connection) {
        session->domain = look_up(connection_handle(session->connection), name);
        if (!session->domain)
            note_failure(failure);
    }
    free(connection);
    free(name);
    return session->domain != NULL;
}

static bool join_theirs(struct session *session, struct session_failure *failure)
{
    session->connection = connection_join_theirs(virDomainGetConnect(session->domain),
                                                 &session->connection_user, &failure->why);
    return session->connection != NULL;
}

static bool check_active(const struct session *session, struct session_failure *failure)
{
    int active = virDomainIsActive(session->domain);
    if (active < 0)
        note_failure(failure);
    failure->is_gone |= active == 0;
    if (active == 0 &&
        asprintf(&failure->why, "domain %s is not running", virDomainGetName(session->domain)) < 0)
        failure->why = NULL;
    return active > 0;
}

static bool set_up(struct session *session, const char *uri, struct session_failure *failure)
{
    bool found =
        session->domain ? join_theirs(session, failure) : join_and_look_up(session, uri, failure);
    if (!found)
        return false;
    if (!register_all(session)) { /* before it is looked at: what happens since is heard */
        note_failure(failure);
        return false;
    }
    return check_active(session, failure);
}

struct session *session_open(const char *uri, virDomainPtr theirs, const struct session_sink *sink,
                             void *user, struct session_failure *ret_failure)
{
    struct session *session = calloc(1, sizeof *session);
    *ret_failure = (struct session_failure){0};
    if (!session) {
        if (theirs)
            virDomainFree(theirs);
        return NULL;
    }
    atomic_init(&session->refs, 1);
    session->sink = sink;
    session->user = sink->ref(user);
    session->connection_user.ended = on_disconnected;
    session->domain = theirs;
    session->lifecycle = session->block_job = session->qemu_event = -1;

    if (service_start() == BJ_OK && set_up(session, uri, ret_failure))
        return session;
    session_close(session);
    return NULL;
}

/* --------------------------------------------------------------------- looking */

virDomainPtr session_domain(const struct session *session)
{
    return session->domain;
}

bool session_is_alive(const struct session *session)
{
    return virConnectIsAlive(connection_handle(session->connection)) != 0;
}

bool session_tells_end(const struct session *session)
{
    return connection_tells_end(session->connection);
}
