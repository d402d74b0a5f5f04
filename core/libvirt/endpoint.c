/* SPDX-License-Identifier: MIT */
/*
 * Where connections lead to; see endpoint.h.
 */
#include "endpoint.h"
#include "service.h"
#include "uri.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Attempts at once. sshd refuses those that have not logged in beyond ten (MaxStartups), libvirtd
 * beyond twenty (max_anonymous_clients). */
enum { WINDOW_MAX = 8 };

struct endpoint {
    struct endpoint *next;
    unsigned refs; /* each attempt has one */
    char *uri;     /* NULL: libvirt's default */
    bool read_only;
    struct lane_group *group;

    unsigned attempts;     /* under way */
    unsigned window;       /* so many may be */
    struct opening *first; /* they wait, in the order of their numbers */
    struct opening **last;
    unsigned waiting;
    uint64_t last_number;
};

struct attempt {
    struct call call; /* first */
    struct endpoint *endpoint;
    uint64_t covers; /* the number of the last that waited when it began */
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
    endpoint->window = 1;
    endpoint->uri = uri ? uri_unattended(uri) : NULL;
    endpoint->group = lane_group_new();
    if (endpoint->group && (endpoint->uri || !uri))
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

/* The lock is held, for all three. */
static struct opening *take_first(struct endpoint *endpoint)
{
    struct opening *opening = endpoint->first;
    if (!opening)
        return NULL;
    if (!(endpoint->first = opening->next))
        endpoint->last = &endpoint->first;
    endpoint->waiting--;
    return opening;
}

static void run_attempt(struct call *call);
static void attempt_over(struct call *call);

static bool begin_attempt(struct endpoint *endpoint)
{
    struct lane *lane = lane_new(NULL, endpoint->group);
    struct attempt *attempt = calloc(1, sizeof *attempt);
    if (attempt)
        *attempt = (struct attempt){
            .call = {.run = run_attempt, .dropped = attempt_over},
            .endpoint = endpoint,
            .covers = endpoint->last_number,
        };
    bool begun = lane && attempt && lane_submit(lane, &attempt->call);
    if (begun) {
        endpoint->attempts++;
        endpoint->refs++;
    } else {
        free(attempt);
    }
    lane_unref(lane);
    return begun;
}

/* False: those who wait, wait for nothing. */
static bool begin_attempts(struct endpoint *endpoint)
{
    while (endpoint->attempts < endpoint->window && endpoint->attempts < endpoint->waiting &&
           begin_attempt(endpoint))
        continue;
    return endpoint->attempts > 0 || endpoint->waiting == 0;
}

static void note_answer(struct endpoint *endpoint, bool is_good)
{
    lock();
    endpoint->window *= 2;
    if (endpoint->window > WINDOW_MAX)
        endpoint->window = WINDOW_MAX;
    if (!is_good)
        endpoint->window = 1;
    unlock();
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

static struct opening *take_covered(struct endpoint *endpoint, uint64_t covers)
{
    lock();
    bool is_covered = endpoint->first && endpoint->first->number <= covers;
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

static void tell_failure(struct endpoint *endpoint, uint64_t covers, int error, bool is_absent,
                         const char *why)
{
    for (struct opening *opening; (opening = take_covered(endpoint, covers));) {
        opening->is_absent = is_absent;
        opening->opened(opening, NULL, error, why ? strdup(why) : NULL);
    }
}

static void run_attempt(struct call *call)
{
    struct attempt *attempt = (struct attempt *)call;
    struct endpoint *endpoint = attempt->endpoint;
    virConnectPtr handle = NULL;

    int r = service_start();
    if (r == BJ_OK) /* nobody is asked for a password: auth.conf has it */
        handle = endpoint->read_only ? virConnectOpenReadOnly(endpoint->uri)
                                     : virConnectOpen(endpoint->uri);
    const char *why = handle || r != BJ_OK ? NULL : virGetLastErrorMessage();
    bool is_absent = why && lacks_daemon();
    note_answer(endpoint, handle != NULL);
    if (handle)
        hand_over(endpoint, handle);
    else
        tell_failure(endpoint, attempt->covers, r, is_absent, why);
}

static void attempt_over(struct call *call)
{
    struct endpoint *endpoint = ((struct attempt *)call)->endpoint;
    free(call);
    lock();
    endpoint->attempts--;
    if (endpoint->attempts == 0 && endpoint->waiting == 0)
        endpoint->window = 1; /* it may be another time before the next one comes */
    bool goes_on = begin_attempts(endpoint);
    unlock();
    if (!goes_on)
        tell_failure(endpoint, UINT64_MAX, BJ_E_SYSTEM, false, NULL);
    endpoint_unref(endpoint);
}

bool endpoint_open(struct endpoint *endpoint, struct opening *opening)
{
    opening->next = NULL;
    opening->is_absent = false;
    lock();
    opening->number = ++endpoint->last_number;
    *endpoint->last = opening;
    endpoint->last = &opening->next;
    endpoint->waiting++;
    bool accepted = begin_attempts(endpoint);
    if (!accepted)
        take_first(endpoint); /* it is alone */
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
    endpoint->waiting -= found;
    unlock();
    return found;
}
