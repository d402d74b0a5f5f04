/* SPDX-License-Identifier: MIT */
/*
 * Reading the block graph; see qmp_graph.h.
 *
 * While a mirror or an active commit runs, a filter node sits above its source, and those who used
 * the source (a guest's disk, an export, another node) use the filter. When it is over they use
 * either the target, then the disk was switched, or the source again.
 *
 * A QEMU before 4.0 does not show its graph, but what each device has in it: a job whose device is
 * known has switched it when it is another image than before.
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
    size_t on_source; /* users without a name, which can only be counted: exports */
    size_t on_target;

    json_t *device; /* before 4.0: {device, qdev, node-name, file, drv} */
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

/* How many users of that type and name a node has. */
static size_t count_users(const struct graph *graph, const json_t *node_name, const char *type,
                          const char *name)
{
    size_t count = 0;
    size_t i;
    const json_t *edge;
    json_array_foreach(graph->edges, i, edge)
    {
        const json_t *used = node_by_id(graph, json_object_get(edge, "child"));
        const json_t *user = node_by_id(graph, json_object_get(edge, "parent"));
        count += json_equal(json_object_get(used, "name"), node_name) &&
                 is_called(user, "type", type) && (!name || is_called(user, "name", name));
    }
    return count;
}

static size_t count_nameless(const struct graph *graph, const json_t *node_name)
{
    return count_users(graph, node_name, "block-backend", "");
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
    sight->on_source = count_nameless(graph, sight->source);
    sight->on_target = count_nameless(graph, sight->target);
    if (!sight->users || !collect_users(sight, graph, filter)) {
        qmp_unsee(sight);
        return NULL;
    }
    return sight;
}

/* -------------------------------------------------------------------- devices */

/* More than that no QEMU lists, and an image's name is a path, or JSON. */
#define DEVICES_MAX 16384
#define FILE_MAX_BYTES 4096

static const json_t *inserted_in(const json_t *device)
{
    return json_object_get(device, "inserted");
}

/* By its name; a device that has none may be meant by its node. */
static const json_t *find_device(const json_t *devices, const char *name)
{
    size_t i;
    const json_t *device;

    if (!*name || json_array_size(devices) > DEVICES_MAX)
        return NULL;
    json_array_foreach(devices, i, device) if (is_called(device, "device", name)) return device;
    json_array_foreach(devices, i,
                       device) if (is_called(inserted_in(device), "node-name", name)) return device;
    return NULL;
}

static const json_t *find_again(const json_t *devices, const json_t *before)
{
    static const char *const keys[] = {"device", "qdev"};
    size_t i;
    const json_t *device;

    if (json_array_size(devices) > DEVICES_MAX)
        return NULL;
    for (int k = 0; k < 2; k++) {
        const json_t *name = json_object_get(before, keys[k]);
        json_array_foreach(devices, i, device) if (json_string_length(name) > 0 &&
                                                   json_equal(json_object_get(device, keys[k]),
                                                              name)) return device;
    }
    return NULL;
}

/* "" for what is not told, or of a length that only a peer who wants our memory sends. */
static json_t *short_string_at(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    bool is_usable = json_is_string(value) && json_string_length(value) <= FILE_MAX_BYTES;
    return is_usable ? json_incref(value) : json_string("");
}

static struct driver_sight *see_device(const json_t *devices, const char *name)
{
    const json_t *device = find_device(devices, name);
    const json_t *inserted = device ? inserted_in(device) : NULL;
    if (!inserted)
        return NULL;

    struct driver_sight *sight = calloc(1, sizeof *sight);
    if (!sight)
        return NULL;
    sight->device = json_pack(
        "{s:o, s:o, s:o, s:o, s:o}", "device", short_string_at(device, "device"), "qdev",
        short_string_at(device, "qdev"), "node-name", short_string_at(inserted, "node-name"),
        "file", short_string_at(inserted, "file"), "drv", short_string_at(inserted, "drv"));
    if (sight->device)
        return sight;
    free(sight);
    return NULL;
}

/* Another client's snapshot right after the job: the old image lies under the new one. */
static bool is_backed_by(const json_t *inserted, const json_t *file)
{
    const json_t *image = json_object_get(inserted, "image");

    if (json_equal(json_object_get(inserted, "backing_file"), file))
        return true;
    while ((image = json_object_get(image, "backing-image")))
        if (json_equal(json_object_get(image, "filename"), file))
            return true;
    return false;
}

/* Says which image it is: null-co:// and the like are all called the same. */
static bool tells(const json_t *file)
{
    const char *name = json_string_value(file);
    return name && *name && strncmp(name, "null-", 5) != 0;
}

/* A node that has a name, and is no filter which comes and goes with a job. Unnamed ones have had
 * one from QEMU since 2.5. */
static bool has_telling_node(const json_t *inserted)
{
    return json_string_length(json_object_get(inserted, "node-name")) > 0 &&
           !is_called(inserted, "drv", "mirror_top");
}

static enum job_switch compare_device(const json_t *before, const json_t *devices)
{
    const json_t *now = inserted_in(find_again(devices, before));
    const json_t *file = json_object_get(now, "file");
    const json_t *old_file = json_object_get(before, "file");
    bool nodes_tell = has_telling_node(before) && has_telling_node(now);
    bool files_tell = tells(old_file) && tells(file);
    bool node_differs = nodes_tell && !json_equal(json_object_get(before, "node-name"),
                                                  json_object_get(now, "node-name"));
    bool file_differs = files_tell && !json_equal(old_file, file);

    if (file_differs && is_backed_by(now, old_file))
        return JOB_SWITCH_UNKNOWN;
    if (file_differs || node_differs)
        return JOB_SWITCHED;
    return files_tell || nodes_tell ? JOB_NOT_SWITCHED : JOB_SWITCH_UNKNOWN;
}

/* ----------------------------------------------------------------------- both */

struct driver_sight *qmp_see(const json_t *root, const char *id)
{
    if (json_is_array(root))
        return see_device(root, id);
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
    json_decref(sight->device);
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

/* An export has no name in the graph: it is above the filter while the job runs, and then above the
 * target or the source. The one above the target before is the job's own; so are those of another
 * job that was started meanwhile. */
static enum job_switch compare_nameless(const struct driver_sight *before,
                                        const struct graph *graph)
{
    bool came_to_source = count_nameless(graph, before->source) > before->on_source;
    bool came_to_target = count_nameless(graph, before->target) > 0;

    bool is_used_again = count_users(graph, before->source, "block-job", NULL) > 0 ||
                         count_users(graph, before->target, "block-job", NULL) > 0;

    if (before->on_target > 1 || is_used_again || came_to_source == came_to_target)
        return JOB_SWITCH_UNKNOWN;
    return came_to_target ? JOB_SWITCHED : JOB_NOT_SWITCHED;
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
    return result == JOB_SWITCH_UNKNOWN ? compare_nameless(before, graph) : result;
}

enum job_switch qmp_compare(const struct driver_sight *before, const json_t *root)
{
    if (before->device)
        return compare_device(before->device, root);
    struct graph graph;
    enum job_switch result =
        open_graph(&graph, root) ? compare(before, &graph) : JOB_SWITCH_UNKNOWN;
    close_graph(&graph);
    return result;
}
