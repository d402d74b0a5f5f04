/* SPDX-License-Identifier: MIT */
/*
 * A domain as libvirt hands it out; see session.h.
 */
#include "session.h"
#include "base/container_of.h"
#include "connection.h"
#include "pool.h"
#include "service.h"
#include "uri.h"

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
    bool listens; /* to the events of jobs; the pool's */
};

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

static void on_lifecycle(struct connection_user *user, int event, int detail)
{
    const struct session *session = session_of(user);
    session->sink->lifecycle(session->user, event, detail);
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

void session_failure_clear(struct session_failure *failure)
{
    free(failure->why);
    free(failure->substitute);
    *failure = (struct session_failure){0};
}

static bool join_ours(struct session *session, const struct session_source *source,
                      struct session_failure *failure)
{
    session->connection = connection_join(source->handle, &source->key, &session->connection_user,
                                          &session->domain, &failure->is_gone, &failure->why);
    if (!session->connection)
        session->domain = NULL;
    session->listens = session->connection != NULL;
    return session->listens;
}

/* A driver in this process has no connection that could be deaf. It does no harm to go on where
 * libvirt can't be asked: the next call fails. */
static bool check_hearing(const struct session *session, struct session_failure *failure)
{
    if (!connection_is_deaf(session->connection, session->domain))
        return true;
    char *uri = virConnectGetURI(virDomainGetConnect(session->domain));
    if (!uri || uri_is_in_process(uri) ||
        virDomainGetUUIDString(session->domain, failure->uuid) != 0) {
        free(uri);
        return true;
    }
    char *ignored;
    connection_listen_to_jobs(session->connection, &ignored); /* which shows what it may do */
    free(ignored);
    failure->substitute = uri;
    failure->is_read_only = connection_is_read_only(session->connection);
    return false;
}

static bool join_theirs(struct session *session, struct session_failure *failure)
{
    session->connection =
        connection_join_theirs(session->domain, &session->connection_user, &failure->why);
    return session->connection && check_hearing(session, failure);
}

static void note_failure(struct session_failure *failure)
{
    const char *message = virGetLastErrorMessage();
    failure->is_gone = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
    failure->why = message ? strdup(message) : NULL;
}

bool session_listen(struct session *session, char **ret_why)
{
    *ret_why = NULL;
    if (session->listens)
        return true;
    if (!connection_listen_to_jobs(session->connection, ret_why))
        return false;
    session->sink->listening(session->user, connection_hands_on_qemu_events(session->connection),
                             connection_is_read_only(session->connection));
    connection_hear_jobs(session->connection, &session->connection_user);
    session->listens = true;
    return true;
}

bool session_runs(const struct session *session, struct session_failure *ret_failure)
{
    *ret_failure = (struct session_failure){0};
    int active = virDomainIsActive(session->domain);
    if (active < 0)
        note_failure(ret_failure);
    ret_failure->is_gone |= active == 0;
    if (active == 0 && asprintf(&ret_failure->why, "domain %s is not running",
                                virDomainGetName(session->domain)) < 0)
        ret_failure->why = NULL;
    return active > 0;
}

bool session_is_persistent(const struct session *session)
{
    return virDomainIsPersistent(session->domain) == 1;
}

bool session_may_be_started(const struct session *session)
{
    int state = VIR_DOMAIN_NOSTATE;
    int reason = 0;
    if (!session_is_persistent(session) ||
        virDomainGetState(session->domain, &state, &reason, 0) != 0)
        return false;
    return state != VIR_DOMAIN_SHUTOFF || reason != VIR_DOMAIN_SHUTOFF_MIGRATED;
}

static bool set_up(struct session *session, const struct session_source *source,
                   struct session_failure *failure)
{
    return source->theirs ? join_theirs(session, failure) : join_ours(session, source, failure);
}

static void release(const struct session_source *source)
{
    if (source->theirs)
        virDomainFree(source->theirs);
    if (source->handle)
        virConnectClose(source->handle);
}

struct session *session_open(const struct session_source *source, const struct session_sink *sink,
                             void *user, struct session_failure *ret_failure)
{
    struct session *session = calloc(1, sizeof *session);
    *ret_failure = (struct session_failure){0};
    if (!session) {
        release(source);
        return NULL;
    }
    session->sink = sink;
    session->user = sink->ref(user);
    session->connection_user = (struct connection_user){
        .block_job = on_block_job,
        .backup_result = on_backup_result,
        .qemu_event = on_qemu_event,
        .lifecycle = on_lifecycle,
        .ended = on_ended,
    };
    session->domain = source->theirs;
    int r = source->theirs ? service_start() : BJ_OK; /* one of ours has a loop */
    if (r == BJ_OK && set_up(session, source, ret_failure))
        return session;
    ret_failure->error = r;
    session_close(session);
    return NULL;
}

/* -------------------------------------------------------------------- releasing */

struct farewell {
    struct call call; /* first */
    struct lane *lane;
    virDomainPtr domain;
};

static void say_farewell(struct call *call)
{
    virDomainFree(((struct farewell *)call)->domain);
}

static void farewell_free(struct call *call)
{
    struct farewell *farewell = (struct farewell *)call;
    lane_unref(farewell->lane);
    free(farewell);
}

void session_release_domain(virDomainPtr domain)
{
    struct farewell *farewell = calloc(1, sizeof *farewell);
    if (!farewell)
        return;
    farewell->call = (struct call){.run = say_farewell, .dropped = farewell_free};
    farewell->domain = domain;
    farewell->lane = lane_new(NULL, NULL);
    if (!farewell->lane || !lane_submit(farewell->lane, &farewell->call))
        farewell_free(&farewell->call);
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

/* A proxy's connection (virtproxyd's) can be there when the one behind it has ended. */
static bool reaches_driver(virDomainPtr domain)
{
    if (virDomainIsActive(domain) >= 0)
        return true;
    const virError *error = virGetLastError();
    return error && error->domain != VIR_FROM_RPC;
}

bool session_is_alive(const struct session *session)
{
    return connection_is_alive(session->connection) &&
           (connection_reports_end(session->connection) || reaches_driver(session->domain));
}

bool session_listens(const struct session *session)
{
    return session->listens;
}

bool session_hands_on_qemu_events(const struct session *session)
{
    return connection_hands_on_qemu_events(session->connection);
}

bool session_is_read_only(const struct session *session)
{
    return connection_is_read_only(session->connection);
}

bool session_reports_end(const struct session *session)
{
    return connection_reports_end(session->connection);
}
