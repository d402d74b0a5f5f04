/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of what uses a job's disk, and comparing with them: one query of the block graph
 * answers all requests that wait for it, and yields to what is urgent.
 */
#include "base/container_of.h"
#include "qmp/block_graph.h"
#include "qmp/qmp.h"

#include <stdlib.h>
#include <string.h>

/* A QEMU with many disks takes a while to list its block graph, and serves no command meanwhile: so
 * one query answers all requests that wait for it. A query already in flight may predate a new
 * request, which therefore needs the next one. */
struct graph_request {
    struct graph_request *next;
    struct driver_request *asker;
    bool compares;                        /* else it takes a snapshot */
    const struct driver_snapshot *before; /* to compare with; NULL: there is none */
    bool urgent;
    char id[];
};

static void answer(struct graph_request *request, const struct driver_reply *reply,
                   const struct qmp_graph *graph)
{
    struct driver_reply result = {
        .error = reply->error,
        .is_lost = reply->is_lost,
        .text = reply->text,
    };

    if (reply->error == BJ_OK && request->compares)
        result.switched = qmp_graph_compare(request->before, graph, request->id);
    else if (reply->error == BJ_OK)
        result.snapshot = qmp_graph_snapshot(graph, request->id);
    request->asker->done(request->asker, &result);
    qmp_free_snapshot(result.snapshot);
    free(request);
}

/* Takes them first: an asker that is answered may ask again. */
static void answer_all(struct graph_request **requests, struct driver_reply *reply)
{
    struct graph_request *request = *requests;
    const json_t *nodes = request ? qmp_reply_value(reply) : NULL;
    struct qmp_graph *graph = nodes ? qmp_graph_open(nodes) : NULL;

    *requests = NULL;
    while (request) {
        struct graph_request *next = request->next;
        answer(request, reply, graph);
        request = next;
    }
    qmp_graph_close(graph);
}

static void graph_read(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, graph_query);
    answer_all(&qmp->graph_requests_sent, reply);
}

/* A snapshot that nobody waits for yields to queued commands; a comparison decides how a job ended,
 * and does not. */
static bool graph_can_wait(const struct qmp *qmp)
{
    if (outbox_is_empty(&qmp->outbox))
        return false;
    for (const struct graph_request *r = qmp->graph_requests_waiting; r; r = r->next)
        if (r->urgent)
            return false;
    return true;
}

static int query_graph(struct qmp *qmp)
{
    if (!qmp->graph_requests_waiting || qmp->graph_requests_sent || graph_can_wait(qmp))
        return BJ_OK;
    bool has_graph = qmp->driver.capabilities.has_graph;
    const char *command = has_graph ? "x-debug-query-block-graph" : "query-block";

    qmp->graph_query.done = graph_read;
    int r = qmp_ask(qmp, &qmp->graph_query, command, NULL, false);
    if (r == BJ_OK) {
        qmp->graph_requests_sent = qmp->graph_requests_waiting;
        qmp->graph_requests_waiting = NULL;
    }
    return r;
}

void qmp_query_waiting_graph(struct qmp *qmp)
{
    int r = query_graph(qmp);
    if (r != BJ_OK)
        answer_all(&qmp->graph_requests_waiting,
                   &(struct driver_reply){.error = r, .is_lost = r == BJ_E_DISCONNECTED});
}

static int request_graph(struct qmp *qmp, const struct graph_request *what, const char *id)
{
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    struct graph_request *request = calloc(1, sizeof *request + strlen(id) + 1);
    if (!request)
        return BJ_E_NOMEM;
    *request = *what;
    memcpy(request->id, id, strlen(id) + 1);
    request->next = qmp->graph_requests_waiting;
    qmp->graph_requests_waiting = request;

    int r = query_graph(qmp);
    if (r != BJ_OK) {
        qmp->graph_requests_waiting = request->next;
        free(request);
    }
    return r;
}

int qmp_take_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                      const char *device, bool urgent)
{
    struct qmp *qmp = qmp_of(driver);
    bool by_device = device && !driver->capabilities.has_graph;
    return request_graph(qmp, &(struct graph_request){.asker = request, .urgent = urgent},
                         by_device ? device : id);
}

int qmp_compare_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                         const struct driver_snapshot *before)
{
    const struct graph_request what = {
        .asker = request, .compares = true, .before = before, .urgent = true};
    return request_graph(qmp_of(driver), &what, id);
}

void qmp_fail_waiting_graph(struct qmp *qmp, int error, const char *text)
{
    answer_all(&qmp->graph_requests_waiting,
               &(struct driver_reply){.error = error, .is_lost = true, .text = text});
}
