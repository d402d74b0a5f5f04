/* SPDX-License-Identifier: MIT */
/*
 * Where connections lead to; see endpoint.h.
 */
#include "endpoint.h"
#include "base/container_of.h"
#include "service.h"
#include "uri.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct endpoint {
    struct endpoint *next;
    unsigned refs; /* the attempt under way has one */
    char *uri;     /* NULL: libvirt's default */
    bool read_only;
    struct lane_group *group;
    struct lane *lane; /* of the attempts */

    bool is_opening;
    struct call attempt;
    struct opening *first; /* they wait; those that the attempt covers come first */
    struct opening **last;
};

/* All of them. The pool's lock may be taken under this one. */
static struct {
    pthread_mutex_t lock;
    struct endpoint *first;
} endpoints = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void lock(void)
{
    pthread_mutex_lock(&endpoints.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&endpoints.lock);
}

/* What the parent waits for is the parent's. */
static void begin_child(void)
{
    endpoints.first = NULL;
    unlock();
}

static void init_endpoints(void)
{
    pool_init();
    pthread_atfork(lock, unlock, begin_child);
}

/* ---------------------------------------------------------------------- memory */

static void endpoint_free(struct endpoint *endpoint)
{
    lane_unref(endpoint->lane);
    lane_group_unref(endpoint->group);
    free(endpoint->uri);
    free(endpoint);
}

static struct endpoint *endpoint_new(const char *uri, bool read_only)
{
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return NULL;
    endpoint->refs = 1;
    endpoint->read_only = read_only;
    endpoint->last = &endpoint->first;
    endpoint->uri = uri ? uri_unattended(uri) : NULL;
    endpoint->group = lane_group_new();
    endpoint->lane = endpoint->group ? lane_new(NULL, endpoint->group) : NULL;
    if (endpoint->lane && (endpoint->uri || !uri))
        return endpoint;
    endpoint_free(endpoint);
    return NULL;
}

static bool is_same(const struct endpoint *one, const struct endpoint *other)
{
    bool same_uri =
        one->uri && other->uri ? strcmp(one->uri, other->uri) == 0 : one->uri == other->uri;
    return same_uri && one->read_only == other->read_only;
}

struct endpoint *endpoint_get(const char *uri, bool read_only)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_endpoints);

    struct endpoint *wanted = endpoint_new(uri, read_only);
    if (!wanted)
        return NULL;
    lock();
    struct endpoint *endpoint = endpoints.first;
    while (endpoint && !is_same(endpoint, wanted))
        endpoint = endpoint->next;
    if (endpoint) {
        endpoint->refs++;
    } else {
        wanted->next = endpoints.first;
        endpoints.first = wanted;
    }
    unlock();
    if (!endpoint)
        return wanted;
    endpoint_free(wanted);
    return endpoint;
}

/* The lock is held. One of a parent is not in the list. */
static void unlist(const struct endpoint *endpoint)
{
    struct endpoint **at = &endpoints.first;
    while (*at && *at != endpoint)
        at = &(*at)->next;
    if (*at)
        *at = endpoint->next;
}

struct endpoint *endpoint_unref(struct endpoint *endpoint)
{
    if (!endpoint)
        return NULL;
    lock();
    bool is_last = --endpoint->refs == 0;
    if (is_last)
        unlist(endpoint);
    unlock();
    if (is_last)
        endpoint_free(endpoint);
    return NULL;
}

struct lane_group *endpoint_group(struct endpoint *endpoint)
{
    return endpoint->group;
}

/* -------------------------------------------------------------------- attempts */

static struct opening *take_first(struct endpoint *endpoint)
{
    struct opening *opening = endpoint->first;
    if (opening && !(endpoint->first = opening->next))
        endpoint->last = &endpoint->first;
    return opening;
}

/* The one who has waited longest gets it; nobody may be left who wants it. */
static void hand_over(struct endpoint *endpoint, virConnectPtr handle)
{
    lock();
    struct opening *opening = take_first(endpoint);
    unlock();
    if (opening)
        opening->opened(opening, handle, BJ_OK, NULL);
    else
        virConnectClose(handle);
}

static struct opening *take_covered(struct endpoint *endpoint)
{
    lock();
    bool is_covered = endpoint->first && endpoint->first->is_covered;
    struct opening *opening = is_covered ? take_first(endpoint) : NULL;
    unlock();
    return opening;
}

/* Nobody listens on its socket, or its host is not reached; libvirt has the system's error beside
 * its own. */
static bool lacks_daemon(void)
{
    const virError *error = virGetLastError();
    if (!error || error->code != VIR_ERR_SYSTEM_ERROR)
        return false;
    switch (error->int1) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static void tell_failure(struct endpoint *endpoint, int error, bool is_absent, const char *why)
{
    for (struct opening *opening; (opening = take_covered(endpoint));) {
        opening->is_absent = is_absent;
        opening->opened(opening, NULL, error, why ? strdup(why) : NULL);
    }
}

static struct endpoint *of_attempt(struct call *call)
{
    return container_of(call, struct endpoint, attempt);
}

static void run_attempt(struct call *call)
{
    struct endpoint *endpoint = of_attempt(call);
    virConnectPtr handle = NULL;

    int r = service_start();
    if (r == BJ_OK) /* nobody is asked for a password: auth.conf has it */
        handle = endpoint->read_only ? virConnectOpenReadOnly(endpoint->uri)
                                     : virConnectOpen(endpoint->uri);
    if (handle)
        hand_over(endpoint, handle);
    else if (r == BJ_OK)
        tell_failure(endpoint, r, lacks_daemon(), virGetLastErrorMessage());
    else
        tell_failure(endpoint, r, false, NULL);
}

static void attempt_over(struct call *call);

/* The lock is held. */
static bool begin_attempt(struct endpoint *endpoint)
{
    for (struct opening *opening = endpoint->first; opening; opening = opening->next)
        opening->is_covered = true;
    endpoint->attempt = (struct call){.run = run_attempt, .dropped = attempt_over};
    return lane_submit(endpoint->lane, &endpoint->attempt);
}

/* A thread of the pool: so there is one for the next attempt. */
static void attempt_over(struct call *call)
{
    struct endpoint *endpoint = of_attempt(call);
    lock();
    endpoint->is_opening = endpoint->first && begin_attempt(endpoint);
    bool is_over = !endpoint->is_opening;
    unlock();
    if (is_over)
        endpoint_unref(endpoint);
}

bool endpoint_open(struct endpoint *endpoint, struct opening *opening)
{
    opening->next = NULL;
    opening->is_covered = opening->is_absent = false;
    lock();
    *endpoint->last = opening;
    endpoint->last = &opening->next;
    bool accepted = endpoint->is_opening || begin_attempt(endpoint);
    if (!accepted) {
        take_first(endpoint); /* it is alone */
    } else if (!endpoint->is_opening) {
        endpoint->is_opening = true;
        endpoint->refs++;
    }
    unlock();
    return accepted;
}

bool endpoint_withdraw(struct endpoint *endpoint, struct opening *opening)
{
    lock();
    struct opening **at = &endpoint->first;
    while (*at && *at != opening)
        at = &(*at)->next;
    bool found = *at != NULL;
    if (found && !(*at = opening->next))
        endpoint->last = at;
    unlock();
    return found;
}
