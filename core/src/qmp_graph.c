/* SPDX-License-Identifier: MIT */
/*
 * Reading the block graph; see qmp_graph.h.
 *
 * While a mirror or an active commit runs, a filter node sits above its source, and those who used
 * the source (a guest's disk, an export, another node) use the filter. When it is over they use
 * either the target, then the disk was switched, or the source again.
 */
#include "qmp_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nodes are told apart by type and name: the ids in the graph are made anew for each query. */
struct driver_sight {
    json_t *users; /* an array of {type, name, edge} */
    json_t *source;
    json_t *target;
};

/* A graph, with its nodes by id: looking them up one by one would cost the square of a long list.
 */
struct graph {
    const json_t *nodes;
    const json_t *edges;
    json_t *by_id;
};

/* More than that no QEMU has; the graph is not looked at then. */
#define EDGES_MAX 16384
#define USERS_MAX 64
#define NAME_MAX_BYTES 1024

static const char *id_key(const json_t *id, char *key, size_t size)
{
    snprintf(key, size, "%lld", (long long)json_integer_value(id));
    return key;
}

static bool open_graph(struct graph *graph, const json_t *root)
{
    *graph = (struct graph){
        .nodes = json_object_get(root, "nodes"),
        .edges = json_object_get(root, "edges"),
        .by_id = json_object(),
    };
    if (json_array_size(graph->nodes) > EDGES_MAX || json_array_size(graph->edges) > EDGES_MAX)
        return false;

    size_t i;
    json_t *node;
    char key[32];
    json_array_foreach(
        graph->nodes, i,
        node) if (json_object_set(graph->by_id,
                                  id_key(json_object_get(node, "id"), key, sizeof key),
                                  node) != 0) return false;
    return graph->by_id != NULL;
}

static void close_graph(struct graph *graph)
{
    json_decref(graph->by_id);
}

static const json_t *node_by_id(const struct graph *graph, const json_t *id)
{
    char key[32];
    return json_object_get(graph->by_id, id_key(id, key, sizeof key));
}

static bool is_called(const json_t *object, const char *key, const char *value)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s && strcmp(s, value) == 0;
}

/* What a job's edge of that name leads to; NULL: it has none. */
static const json_t *end_of_edge(const struct graph *graph, const json_t *parent, const char *name)
{
    size_t i;
    const json_t *edge;
    json_array_foreach(
        graph->edges, i,
        edge) if (is_called(edge, "name", name) &&
                  json_equal(json_object_get(edge, "parent"),
                             json_object_get(parent, "id"))) return node_by_id(graph,
                                                                               json_object_get(
                                                                                   edge, "child"));
    return NULL;
}

static const json_t *find_job(const struct graph *graph, const char *id)
{
    size_t i;
    const json_t *node;
    json_array_foreach(graph->nodes, i, node) if (is_called(node, "type", "block-job") &&
                                                  is_called(node, "name", id)) return node;
    return NULL;
}

/* A user without a name, or another job, can't be found again. */
static bool can_be_recognised(const json_t *node)
{
    return node && json_string_length(json_object_get(node, "name")) <= NAME_MAX_BYTES &&
           !is_called(node, "name", "") && !is_called(node, "type", "block-job");
}

static json_t *user_of(const json_t *node, const json_t *edge)
{
    return json_pack("{s:O, s:O, s:O}", "type", json_object_get(node, "type"), "name",
                     json_object_get(node, "name"), "edge", json_object_get(edge, "name"));
}

static bool collect_users(struct driver_sight *sight, const struct graph *graph, const json_t *used)
{
    size_t i;
    const json_t *edge;
    json_array_foreach(graph->edges, i, edge)
    {
        if (json_array_size(sight->users) == USERS_MAX)
            break;
        if (!json_equal(json_object_get(edge, "child"), json_object_get(used, "id")))
            continue;
        const json_t *node = node_by_id(graph, json_object_get(edge, "parent"));
        if (can_be_recognised(node) &&
            json_array_append_new(sight->users, user_of(node, edge)) != 0)
            return false;
    }
    return true;
}

static struct driver_sight *see(const struct graph *graph, const char *id)
{
    const json_t *job = find_job(graph, id);
    const json_t *filter = job ? end_of_edge(graph, job, "main node") : NULL;
    const json_t *source = job ? end_of_edge(graph, job, "source") : NULL;
    const json_t *target = job ? end_of_edge(graph, job, "target") : NULL;
    if (!filter || !source || !target)
        return NULL;

    struct driver_sight *sight = calloc(1, sizeof *sight);
    if (!sight)
        return NULL;
    sight->users = json_array();
    sight->source = json_incref(json_object_get(source, "name"));
    sight->target = json_incref(json_object_get(target, "name"));
    if (!sight->users || !collect_users(sight, graph, filter)) {
        qmp_unsee(sight);
        return NULL;
    }
    return sight;
}

struct driver_sight *qmp_see(const json_t *root, const char *id)
{
    struct graph graph;
    struct driver_sight *sight = open_graph(&graph, root) ? see(&graph, id) : NULL;
    close_graph(&graph);
    return sight;
}

void qmp_unsee(struct driver_sight *sight)
{
    if (!sight)
        return;
    json_decref(sight->users);
    json_decref(sight->source);
    json_decref(sight->target);
    free(sight);
}

/* The name of the node that a user uses now; NULL: it is gone, or not to be told from another. */
static const json_t *used_by(const struct graph *graph, const json_t *user)
{
    const json_t *found = NULL;
    size_t i;
    const json_t *edge;

    json_array_foreach(graph->edges, i, edge)
    {
        if (!json_equal(json_object_get(edge, "name"), json_object_get(user, "edge")))
            continue;
        const json_t *node = node_by_id(graph, json_object_get(edge, "parent"));
        if (!json_equal(json_object_get(node, "name"), json_object_get(user, "name")) ||
            !json_equal(json_object_get(node, "type"), json_object_get(user, "type")))
            continue;
        if (found)
            return NULL;
        found = node_by_id(graph, json_object_get(edge, "child"));
    }
    return json_object_get(found, "name");
}

static enum job_switch compare(const struct driver_sight *before, const struct graph *graph)
{
    enum job_switch result = JOB_SWITCH_UNKNOWN;
    size_t i;
    const json_t *user;

    json_array_foreach(before->users, i, user)
    {
        const json_t *name = used_by(graph, user);
        enum job_switch told = json_equal(name, before->target)   ? JOB_SWITCHED
                               : json_equal(name, before->source) ? JOB_NOT_SWITCHED
                                                                  : JOB_SWITCH_UNKNOWN;
        if (told == JOB_SWITCH_UNKNOWN)
            continue;
        if (result != JOB_SWITCH_UNKNOWN && result != told)
            return JOB_SWITCH_UNKNOWN; /* they disagree: something else happened as well */
        result = told;
    }
    return result;
}

enum job_switch qmp_compare(const struct driver_sight *before, const json_t *root)
{
    struct graph graph;
    enum job_switch result =
        open_graph(&graph, root) ? compare(before, &graph) : JOB_SWITCH_UNKNOWN;
    close_graph(&graph);
    return result;
}
