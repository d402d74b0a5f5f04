/* SPDX-License-Identifier: MIT */
/*
 * Looks at the block graph: one answers all jobs that wait for it, and yields to what is urgent.
 */
#include "base/container_of.h"
#include "qmp/block_graph.h"
#include "qmp/qmp.h"

#include <stdlib.h>
#include <string.h>

/* A QEMU with many disks takes a while to list its block graph, and serves no command meanwhile: so
 * one look serves all jobs that wait for it. A look already in flight may predate a new request,
 * which therefore needs the next one. */
struct look {
    struct look *next;
    struct driver_request *asker;
    const struct driver_sight *before;
    char id[];
};

static void serve_look(struct look *look, const struct driver_reply *reply,
                       const struct qmp_graph *graph)
{
    struct driver_reply seen = {.error = reply->error, .text = reply->text};

    if (reply->error == BJ_OK && look->before)
        seen.switched = qmp_compare(look->before, graph);
    else if (reply->error == BJ_OK)
        seen.sight = qmp_see(graph, look->id);
    look->asker->done(look->asker, &seen);
    qmp_unsee(seen.sight);
    free(look);
}

/* Takes them first: an asker that is served may look again. */
static void serve_looks(struct look **looks, const struct driver_reply *reply)
{
    struct look *look = *looks;
    struct qmp_graph *graph = look && reply->error == BJ_OK ? qmp_graph_open(reply->value) : NULL;

    *looks = NULL;
    while (look) {
        struct look *next = look->next;
        serve_look(look, reply, graph);
        look = next;
    }
    qmp_graph_close(graph);
}

static void looked(struct driver_request *request, struct driver_reply *reply)
{
    struct qmp *qmp = container_of(request, struct qmp, look_request);
    serve_looks(&qmp->looks_asked, reply);
}

/* A look that only records the current graph yields to queued commands; one that decides how a job
 * ended does not. */
static bool looks_can_wait(const struct qmp *qmp)
{
    if (outbox_is_empty(&qmp->outbox))
        return false;
    for (const struct look *look = qmp->looks_wanted; look; look = look->next)
        if (look->before)
            return false;
    return true;
}

static int look_for_all(struct qmp *qmp)
{
    if (!qmp->looks_wanted || qmp->looks_asked || looks_can_wait(qmp))
        return BJ_OK;
    bool has_graph = qmp_knows_command(qmp, "x-debug-query-block-graph"); /* 4.0 */
    const char *command = has_graph ? "x-debug-query-block-graph" : "query-block";

    qmp->look_request.done = looked;
    int r = qmp_ask(qmp, &qmp->look_request, command, NULL, false);
    if (r == BJ_OK) {
        qmp->looks_asked = qmp->looks_wanted;
        qmp->looks_wanted = NULL;
    }
    return r;
}

void qmp_look_again(struct qmp *qmp)
{
    int r = look_for_all(qmp);
    if (r != BJ_OK)
        serve_looks(&qmp->looks_wanted, &(struct driver_reply){.error = r});
}

int qmp_look(struct driver *driver, struct driver_request *request, const char *id,
             const char *device, const struct driver_sight *before)
{
    struct qmp *qmp = qmp_of(driver);
    if (qmp->stage == QMP_DOWN)
        return BJ_E_DISCONNECTED;
    if (device && !qmp_knows_command(qmp, "x-debug-query-block-graph"))
        id = device;

    struct look *look = calloc(1, sizeof *look + strlen(id) + 1);
    if (!look)
        return BJ_E_NOMEM;
    look->asker = request;
    look->before = before;
    memcpy(look->id, id, strlen(id) + 1);
    look->next = qmp->looks_wanted;
    qmp->looks_wanted = look;

    int r = look_for_all(qmp);
    if (r != BJ_OK) {
        qmp->looks_wanted = look->next;
        free(look);
    }
    return r;
}

void qmp_fail_looks(struct qmp *qmp, int error, const char *text)
{
    serve_looks(&qmp->looks_wanted, &(struct driver_reply){.error = error, .text = text});
}
