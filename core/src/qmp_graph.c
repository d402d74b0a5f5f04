/* SPDX-License-Identifier: MIT */
/*
 * Reading the block graph; see qmp_graph.h.
 *
 * While a mirror or an active commit runs, a filter node sits above its source, and those who used
 * the source (a guest's disk, an export, another node) use the filter. When it is over they use
 * either the target, then the disk was switched, or the source again.
 */
#include "qmp_graph.h"

#include <stdlib.h>
#include <string.h>

/* Nodes are told apart by type and name: the ids in the graph are made anew for each query. */
struct driver_sight {
    json_t *users; /* an array of {type, name, edge} */
    json_t *source;
    json_t *target;
};

static const json_t *node_by_id(const json_t *graph, const json_t *id)
{
    size_t i;
    const json_t *node;
    json_array_foreach(json_object_get(graph, "nodes"), i,
                       node) if (json_equal(json_object_get(node, "id"), id)) return node;
    return NULL;
}

static bool is_called(const json_t *object, const char *key, const char *value)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s && strcmp(s, value) == 0;
}

/* What a job's edge of that name leads to; NULL: it has none. */
static const json_t *end_of_edge(const json_t *graph, const json_t *parent, const char *name)
{
    size_t i;
    const json_t *edge;
    json_array_foreach(
        json_object_get(graph, "edges"), i,
        edge) if (is_called(edge, "name", name) &&
                  json_equal(json_object_get(edge, "parent"),
                             json_object_get(parent, "id"))) return node_by_id(graph,
                                                                               json_object_get(
                                                                                   edge, "child"));
    return NULL;
}

static const json_t *find_job(const json_t *graph, const char *id)
{
    size_t i;
    const json_t *node;
    json_array_foreach(json_object_get(graph, "nodes"), i,
                       node) if (is_called(node, "type", "block-job") &&
                                 is_called(node, "name", id)) return node;
    return NULL;
}

/* A user without a name, or another job, can't be found again. */
static bool can_be_recognised(const json_t *node)
{
    return node && !is_called(node, "name", "") && !is_called(node, "type", "block-job");
}

static json_t *user_of(const json_t *node, const json_t *edge)
{
    return json_pack("{s:O, s:O, s:O}", "type", json_object_get(node, "type"), "name",
                     json_object_get(node, "name"), "edge", json_object_get(edge, "name"));
}

static bool collect_users(struct driver_sight *sight, const json_t *graph, const json_t *used)
{
    size_t i;
    const json_t *edge;
    json_array_foreach(json_object_get(graph, "edges"), i, edge)
    {
        if (!json_equal(json_object_get(edge, "child"), json_object_get(used, "id")))
            continue;
        const json_t *node = node_by_id(graph, json_object_get(edge, "parent"));
        if (can_be_recognised(node) &&
            json_array_append_new(sight->users, user_of(node, edge)) != 0)
            return false;
    }
    return true;
}

struct driver_sight *qmp_see(const json_t *graph, const char *id)
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
static const json_t *used_by(const json_t *graph, const json_t *user)
{
    const json_t *found = NULL;
    size_t i;
    const json_t *edge;

    json_array_foreach(json_object_get(graph, "edges"), i, edge)
    {
        const json_t *node = node_by_id(graph, json_object_get(edge, "parent"));
        if (!json_equal(json_object_get(edge, "name"), json_object_get(user, "edge")) ||
            !json_equal(json_object_get(node, "name"), json_object_get(user, "name")) ||
            !json_equal(json_object_get(node, "type"), json_object_get(user, "type")))
            continue;
        if (found)
            return NULL;
        found = node_by_id(graph, json_object_get(edge, "child"));
    }
    return json_object_get(found, "name");
}

enum job_switch qmp_compare(const struct driver_sight *before, const json_t *graph)
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
