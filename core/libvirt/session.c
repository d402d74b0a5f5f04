/* SPDX-License-Identifier: MIT */
/*
 * A domain as libvirt hands it out; see session.h.
 */
#include "session.h"
#include "base/container_of.h"
#include "connection.h"
#include "service.h"

#include <blockjob/blockjob.h>

#include <libvirt/virterror.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
    const struct session_sink *sink;
    void *user;
    struct connection_user connection_user;
    struct connection *connection;
    virDomainPtr domain;
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

static struct session *session_of(struct connection_user *user)
{
    return container_of(user, struct session, connection_user);
}

static void on_block_job(struct connection_user *user, const char *disk, int type, int status)
{
    const struct session *session = session_of(user);
    session->sink->block_job(session->user, disk, type, status);
}

static void on_backup_result(struct connection_user *user, bool succeeded, const char *error)
{
    const struct session *session = session_of(user);
    session->sink->backup_result(session->user, succeeded, error);
}

static void on_qemu_event(struct connection_user *user, const char *name, const char *data,
                          long long seconds, unsigned micros)
{
    const struct session *session = session_of(user);
    session->sink->qemu_event(session->user, name, data, seconds, micros);
}

static void on_stopped(struct connection_user *user, int detail)
{
    const struct session *session = session_of(user);
    session->sink->stopped(session->user, detail);
}

static void on_ended(struct connection_user *user, int reason)
{
    const struct session *session = session_of(user);
    session->sink->disconnected(session->user, reason);
}

/* --------------------------------------------------------------------- opening */

void session_close(struct session *session)
{
    if (session->domain)
        virDomainFree(session->domain);
    if (session->connection)
        connection_leave(session->connection, &session->connection_user);
    session->sink->unref(session->user);
    free(session);
}

static bool join_ours(struct session *session, const char *uri, const char *name,
                      struct session_failure *failure)
{
    session->connection = connection_join(uri, name, &session->connection_user, &session->domain,
                                          &failure->is_gone, &failure->why);
    if (!session->connection)
        session->domain = NULL;
    return session->connection != NULL;
}

static bool join_by_uri(struct session *session, const char *uri, struct session_failure *failure)
{
    char *connection = NULL;
    char *name = NULL;
    if (session_parse(uri, &connection, &name) != BJ_OK)
        return false; /* it was checked: no memory */
    bool joined = join_ours(session, connection, name, failure);
    free(connection);
    free(name);
    return joined;
}

static void ask_if_active(void *domain)
{
    virDomainIsActive(domain);
}

/* A driver in this process has no connection that could be deaf. */
static bool is_remote(const char *uri)
{
    return strncmp(uri, "test:", 5) != 0 && !strstr(uri, "/embed");
}

/* The program's connection was opened before there was a loop, and never hears an event: then one
 * of ours must do, to the same host. It does no harm where that was an error. */
static bool replace_if_deaf(struct session *session, struct session_failure *failure)
{
    virDomainPtr theirs = session->domain;
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (service_watches_connection(ask_if_active, theirs))
        return true;
    char *uri = virConnectGetURI(virDomainGetConnect(theirs));
    if (!uri || !is_remote(uri) || virDomainGetUUIDString(theirs, uuid) != 0) {
        free(uri);
        return true;
    }
    connection_leave(session->connection, &session->connection_user);
    bool joined = join_ours(session, uri, uuid, failure);
    virDomainFree(theirs);
    free(uri);
    return joined;
}

static bool join_theirs(struct session *session, struct session_failure *failure)
{
    session->connection =
        connection_join_theirs(session->domain, &session->connection_user, &failure->why);
    return session->connection && replace_if_deaf(session, failure);
}

static void note_failure(struct session_failure *failure)
{
    const char *message = virGetLastErrorMessage();
    failure->is_gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
    failure->why = message ? strdup(message) : NULL;
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

/* Its events are registered before its state is read: nothing is missed. */
static bool set_up(struct session *session, const char *uri, struct session_failure *failure)
{
    bool joined =
        session->domain ? join_theirs(session, failure) : join_by_uri(session, uri, failure);
    return joined && check_active(session, failure);
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
    session->sink = sink;
    session->user = sink->ref(user);
    session->connection_user = (struct connection_user){
        .block_job = on_block_job,
        .backup_result = on_backup_result,
        .qemu_event = on_qemu_event,
        .stopped = on_stopped,
        .ended = on_ended,
    };
    session->domain = theirs;
    int r = service_start();
    if (r == BJ_OK && set_up(session, uri, ret_failure))
        return session;
    ret_failure->error = r;
    session_close(session);
    return NULL;
}

/* --------------------------------------------------------------------- looking */

virDomainPtr session_domain(const struct session *session)
{
    return session->domain;
}

void session_called(const struct session *session)
{
    connection_nudge(session->connection);
}

bool session_is_alive(const struct session *session)
{
    return connection_is_alive(session->connection);
}

bool session_reports_end(const struct session *session)
{
    return connection_reports_end(session->connection);
}
