/* SPDX-License-Identifier: MIT */
/*
 * Reading the block graph; see block_graph.h.
 *
 * While a mirror or an active commit runs, a filter node sits above its source, and those who used
 * the source (a guest's disk, an export, another node) use the filter. When it is over they use
 * either the target, then the disk was switched, or the source again.
 *
 * A QEMU before 4.0 does not show its graph, but what each device has in it: a job whose device is
 * known has switched it when it is another image than before.
 */
#include "qmp/block_graph.h"

#include <stdlib.h>
#include <string.h>

/* Nodes are recognised by type and name: the ids in the graph are made anew for each query. */
struct driver_snapshot {
    json_t *users; /* an array of {type, name, edge} */
    char *source;
    char *target;
    size_t on_source; /* users without a name, which can only be counted: exports */
    size_t on_target;

    json_t *device; /* before 4.0: {device, qdev, node-name, file, drv} */
};

struct node {
    json_int_t id;
    const char *type;
    const char *name;
};

struct named {
    const struct node *node;
};

struct edge {
    const struct node *parent;
    const struct node *child;
    const char *name;
};

struct device {
    const char *name;
    const char *qdev;
    const char *node_name;
    const json_t *json;
};

/* All strings are those of the reply. Sorted, so that finding is cheap for many jobs. */
struct qmp_graph {
    size_t node_count;
    struct node *nodes;    /* by id */
    struct named *by_name; /* and type */
    size_t edge_count;
    struct edge *below; /* by parent */
    struct edge *above; /* by child */

    size_t device_count;
    struct device *devices; /* query-block's */
};

/* More than that no QEMU has; the graph is not read then. */
#define NODES_MAX 16384
#define USERS_MAX 16
#define FAN_MAX 1024
#define NAME_MAX_BYTES 1024

static const char *string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* -------------------------------------------------------------------- opening */

static int compare_ids(const void *a, const void *b)
{
    json_int_t one = ((const struct node *)a)->id;
    json_int_t other = ((const struct node *)b)->id;
    return (one > other) - (one < other);
}

static int compare_nodes(const struct node *a, const struct node *b)
{
    int names = strcmp(a->name, b->name);
    return names ? names : strcmp(a->type, b->type);
}

static int compare_names(const void *a, const void *b)
{
    return compare_nodes(((const struct named *)a)->node, ((const struct named *)b)->node);
}

static int compare_parents(const void *a, const void *b)
{
    const struct node *one = ((const struct edge *)a)->parent;
    const struct node *other = ((const struct edge *)b)->parent;
    return (one > other) - (one < other);
}

static int compare_children(const void *a, const void *b)
{
    const struct node *one = ((const struct edge *)a)->child;
    const struct node *other = ((const struct edge *)b)->child;
    return (one > other) - (one < other);
}

static const struct node *node_by_id(const struct qmp_graph *graph, const json_t *id)
{
    struct node key = {.id = json_integer_value(id)};
    return bsearch(&key, graph->nodes, graph->node_count, sizeof key, compare_ids);
}

static void open_nodes(struct qmp_graph *graph, const json_t *nodes)
{
    size_t i;
    const json_t *node;

    json_array_foreach(nodes, i, node)
    {
        graph->nodes[graph->node_count++] = (struct node){
            .id = json_integer_value(json_object_get(node, "id")),
            .type = string_at(node, "type"),
            .name = string_at(node, "name"),
        };
    }
    qsort(graph->nodes, graph->node_count, sizeof *graph->nodes, compare_ids);
    for (i = 0; i < graph->node_count; i++)
        graph->by_name[i].node = &graph->nodes[i];
    qsort(graph->by_name, graph->node_count, sizeof *graph->by_name, compare_names);
}

static void open_edges(struct qmp_graph *graph, const json_t *edges)
{
    size_t i;
    const json_t *edge;

    json_array_foreach(edges, i, edge)
    {
        struct edge known = {
            .parent = node_by_id(graph, json_object_get(edge, "parent")),
            .child = node_by_id(graph, json_object_get(edge, "child")),
            .name = string_at(edge, "name"),
        };
        if (known.parent && known.child)
            graph->below[graph->edge_count++] = known;
    }
    memcpy(graph->above, graph->below, graph->edge_count * sizeof *graph->above);
    qsort(graph->below, graph->edge_count, sizeof *graph->below, compare_parents);
    qsort(graph->above, graph->edge_count, sizeof *graph->above, compare_children);
}

static void open_devices(struct qmp_graph *graph, const json_t *devices)
{
    size_t i;
    const json_t *device;

    json_array_foreach(devices, i, device)
    {
        graph->devices[graph->device_count++] = (struct device){
            .name = string_at(device, "device"),
            .qdev = string_at(device, "qdev"),
            .node_name = string_at(json_object_get(device, "inserted"), "node-name"),
            .json = device,
        };
    }
}

struct qmp_graph *qmp_graph_open(const json_t *root)
{
    const json_t *nodes = json_object_get(root, "nodes");
    const json_t *edges = json_object_get(root, "edges");
    size_t node_count = json_array_size(nodes);
    size_t edge_count = json_array_size(edges);
    size_t device_count = json_array_size(root);
    if (node_count > NODES_MAX || edge_count > NODES_MAX || device_count > NODES_MAX)
        return NULL;

    struct qmp_graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        return NULL;
    graph->nodes = calloc(node_count + 1, sizeof *graph->nodes);
    graph->by_name = calloc(node_count + 1, sizeof *graph->by_name);
    graph->below = calloc(edge_count + 1, sizeof *graph->below);
    graph->above = calloc(edge_count + 1, sizeof *graph->above);
    graph->devices = calloc(device_count + 1, sizeof *graph->devices);
    if (!graph->nodes || !graph->by_name || !graph->below || !graph->above || !graph->devices) {
        qmp_graph_close(graph);
        return NULL;
    }
    open_nodes(graph, nodes);
    open_edges(graph, edges);
    open_devices(graph, root);
    return graph;
}

void qmp_graph_close(struct qmp_graph *graph)
{
    if (!graph)
        return;
    free(graph->nodes);
    free(graph->by_name);
    free(graph->below);
    free(graph->above);
    free(graph->devices);
    free(graph);
}

/* -------------------------------------------------------------------- finding */

struct edges {
    const struct edge *first;
    size_t count;
};

/* Of the sorted edges those that are equal to `key`. */
static struct edges find_edges(const struct edge *sorted, size_t count, const struct edge *key,
                               int (*order)(const void *, const void *))
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order(&sorted[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    struct edges found = {.first = &sorted[low]};
    while (low + found.count < count && found.count < FAN_MAX &&
           order(&sorted[low + found.count], key) == 0)
        found.count++;
    return found;
}

static struct edges edges_below(const struct qmp_graph *graph, const struct node *parent)
{
    struct edge key = {.parent = parent};
    return find_edges(graph->below, graph->edge_count, &key, compare_parents);
}

static struct edges edges_above(const struct qmp_graph *graph, const struct node *child)
{
    struct edge key = {.child = child};
    return find_edges(graph->above, graph->edge_count, &key, compare_children);
}

/* NULL: there is none, or there are several and no telling which. */
static const struct node *find_node(const struct qmp_graph *graph, const char *type,
                                    const char *name)
{
    const struct node node = {.type = type, .name = name};
    const struct named key = {.node = &node};
    const struct named *end = graph->by_name + graph->node_count;
    const struct named *at =
        bsearch(&key, graph->by_name, graph->node_count, sizeof key, compare_names);
    if (!at)
        return NULL;
    bool is_one = (at == graph->by_name || compare_names(at - 1, &key) != 0) &&
                  (at + 1 == end || compare_names(at + 1, &key) != 0);
    return is_one ? at->node : NULL;
}

/* What an edge of that name leads to; NULL: there is none. */
static const struct node *end_of_edge(const struct qmp_graph *graph, const struct node *parent,
                                      const char *name)
{
    struct edges edges = edges_below(graph, parent);
    for (size_t i = 0; i < edges.count; i++)
        if (strcmp(edges.first[i].name, name) == 0)
            return edges.first[i].child;
    return NULL;
}

/* How many users of that type, and name unless it is NULL, a node has. */
static size_t count_users(const struct qmp_graph *graph, const char *node_name, const char *type,
                          const char *name)
{
    const struct node *node = find_node(graph, "block-driver", node_name);
    struct edges edges = node ? edges_above(graph, node) : (struct edges){0};
    size_t count = 0;
    for (size_t i = 0; i < edges.count; i++)
        count += strcmp(edges.first[i].parent->type, type) == 0 &&
                 (!name || strcmp(edges.first[i].parent->name, name) == 0);
    return count;
}

static size_t count_nameless(const struct qmp_graph *graph, const char *node_name)
{
    return count_users(graph, node_name, "block-backend", "");
}

/* --------------------------------------------------------------------- before */

/* A user without a name, or another job, can't be found again. */
static bool can_be_recognised(const struct node *node)
{
    return *node->name && strlen(node->name) <= NAME_MAX_BYTES &&
           strlen(node->type) <= NAME_MAX_BYTES && strcmp(node->type, "block-job") != 0;
}

static bool collect_users(struct driver_snapshot *snapshot, const struct qmp_graph *graph,
                          const struct node *used)
{
    struct edges edges = edges_above(graph, used);

    for (size_t i = 0; i < edges.count && json_array_size(snapshot->users) < USERS_MAX; i++) {
        const struct edge *edge = &edges.first[i];
        if (!can_be_recognised(edge->parent) || strlen(edge->name) > NAME_MAX_BYTES)
            continue;
        json_t *user = json_pack("{s:s, s:s, s:s}", "type", edge->parent->type, "name",
                                 edge->parent->name, "edge", edge->name);
        if (json_array_append_new(snapshot->users, user) != 0)
            return false;
    }
    return true;
}

static struct driver_snapshot *snapshot_job(const struct qmp_graph *graph, const char *id)
{
    const struct node *job = find_node(graph, "block-job", id);
    const struct node *filter = job ? end_of_edge(graph, job, "main node") : NULL;
    const struct node *source = job ? end_of_edge(graph, job, "source") : NULL;
    const struct node *target = job ? end_of_edge(graph, job, "target") : NULL;
    if (!filter || !source || !target)
        return NULL;

    struct driver_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    snapshot->users = json_array();
    snapshot->source = strdup(source->name);
    snapshot->target = strdup(target->name);
    snapshot->on_source = count_nameless(graph, source->name);
    snapshot->on_target = count_nameless(graph, target->name);
    if (!snapshot->users || !snapshot->source || !snapshot->target ||
        !collect_users(snapshot, graph, filter)) {
        qmp_free_snapshot(snapshot);
        return NULL;
    }
    return snapshot;
}

/* By its name; a device that has none may be meant by its node. */
static const json_t *find_device(const struct qmp_graph *graph, const char *name)
{
    for (size_t i = 0; *name && i < graph->device_count; i++)
        if (strcmp(graph->devices[i].name, name) == 0)
            return graph->devices[i].json;
    for (size_t i = 0; *name && i < graph->device_count; i++)
        if (strcmp(graph->devices[i].node_name, name) == 0)
            return graph->devices[i].json;
    return NULL;
}

/* An image's name is a path, or JSON. "" for one that is missing, or of a length that only a peer
 * who wants our memory sends. */
#define FILE_MAX_BYTES 4096

static json_t *short_string_at(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    bool is_usable = json_is_string(value) && json_string_length(value) <= FILE_MAX_BYTES;
    return is_usable ? json_incref(value) : json_string("");
}

static struct driver_snapshot *snapshot_device(const struct qmp_graph *graph, const char *name)
{
    const json_t *device = find_device(graph, name);
    const json_t *inserted = device ? json_object_get(device, "inserted") : NULL;
    if (!inserted)
        return NULL;

    struct driver_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    snapshot->device = json_pack(
        "{s:o, s:o, s:o, s:o, s:o}", "device", short_string_at(device, "device"), "qdev",
        short_string_at(device, "qdev"), "node-name", short_string_at(inserted, "node-name"),
        "file", short_string_at(inserted, "file"), "drv", short_string_at(inserted, "drv"));
    if (snapshot->device)
        return snapshot;
    free(snapshot);
    return NULL;
}

struct driver_snapshot *qmp_graph_snapshot(const struct qmp_graph *graph, const char *id)
{
    if (!graph)
        return NULL;
    return graph->device_count > 0 ? snapshot_device(graph, id) : snapshot_job(graph, id);
}

void qmp_free_snapshot(struct driver_snapshot *snapshot)
{
    if (!snapshot)
        return;
    json_decref(snapshot->users);
    json_decref(snapshot->device);
    free(snapshot->source);
    free(snapshot->target);
    free(snapshot);
}

/* ---------------------------------------------------------------------- after */

/* The node that a user uses now; NULL: it is gone, or indistinguishable from another. */
static const struct node *used_by(const struct qmp_graph *graph, const json_t *user)
{
    const struct node *node = find_node(graph, string_at(user, "type"), string_at(user, "name"));
    struct edges edges = node ? edges_below(graph, node) : (struct edges){0};
    const struct node *found = NULL;

    for (size_t i = 0; i < edges.count; i++) {
        if (strcmp(edges.first[i].name, string_at(user, "edge")) != 0)
            continue;
        if (found)
            return NULL;
        found = edges.first[i].child;
    }
    return found;
}

/* An export has no name in the graph: it is above the filter while the job runs, and then above the
 * target or the source. The one above the target before is the job's own; so are those of another
 * job that was started meanwhile. */
static enum disk_switch compare_nameless(const struct driver_snapshot *before,
                                         const struct qmp_graph *graph)
{
    bool came_to_source = count_nameless(graph, before->source) > before->on_source;
    bool came_to_target = count_nameless(graph, before->target) > 0;
    bool is_used_again = count_users(graph, before->source, "block-job", NULL) > 0 ||
                         count_users(graph, before->target, "block-job", NULL) > 0;

    if (before->on_target > 1 || is_used_again || came_to_source == came_to_target)
        return SWITCH_UNKNOWN;
    return came_to_target ? SWITCHED : NOT_SWITCHED;
}

static enum disk_switch compare_users(const struct driver_snapshot *before,
                                      const struct qmp_graph *graph)
{
    enum disk_switch result = SWITCH_UNKNOWN;
    size_t i;
    const json_t *user;

    json_array_foreach(before->users, i, user)
    {
        const struct node *used = used_by(graph, user);
        enum disk_switch found = !used                                     ? SWITCH_UNKNOWN
                                 : strcmp(used->name, before->target) == 0 ? SWITCHED
                                 : strcmp(used->name, before->source) == 0 ? NOT_SWITCHED
                                                                           : SWITCH_UNKNOWN;
        if (found == SWITCH_UNKNOWN)
            continue;
        if (result != SWITCH_UNKNOWN && result != found)
            return SWITCH_UNKNOWN; /* they disagree: something else happened as well */
        result = found;
    }
    return result == SWITCH_UNKNOWN ? compare_nameless(before, graph) : result;
}

static const json_t *find_again(const struct qmp_graph *graph, const json_t *before)
{
    const char *name = string_at(before, "device");
    const char *qdev = string_at(before, "qdev");

    for (size_t i = 0; i < graph->device_count; i++)
        if (*name ? strcmp(graph->devices[i].name, name) == 0
                  : *qdev && strcmp(graph->devices[i].qdev, qdev) == 0)
            return graph->devices[i].json;
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

/* The name identifies the image: null-co:// and the like are all called the same. */
static bool names_image(const json_t *file)
{
    const char *name = json_string_value(file);
    return name && *name && strncmp(name, "null-", 5) != 0;
}

/* A node that has a name, and is no filter which comes and goes with a job. Unnamed ones have had
 * one from QEMU since 2.5. */
static bool has_stable_node(const json_t *inserted)
{
    return *string_at(inserted, "node-name") &&
           strcmp(string_at(inserted, "drv"), "mirror_top") != 0;
}

static enum disk_switch compare_device(const json_t *before, const struct qmp_graph *graph)
{
    const json_t *now = json_object_get(find_again(graph, before), "inserted");
    const json_t *file = json_object_get(now, "file");
    const json_t *old_file = json_object_get(before, "file");
    bool nodes_are_known = has_stable_node(before) && has_stable_node(now);
    bool files_are_known = names_image(old_file) && names_image(file);
    bool node_differs = nodes_are_known && !json_equal(json_object_get(before, "node-name"),
                                                       json_object_get(now, "node-name"));
    bool file_differs = files_are_known && !json_equal(old_file, file);

    if (file_differs && is_backed_by(now, old_file))
        return SWITCH_UNKNOWN;
    if (file_differs || node_differs)
        return SWITCHED;
    return files_are_known || nodes_are_known ? NOT_SWITCHED : SWITCH_UNKNOWN;
}

enum disk_switch qmp_graph_compare(const struct driver_snapshot *before,
                                   const struct qmp_graph *graph)
{
    if (!graph)
        return SWITCH_UNKNOWN;
    return before->device ? compare_device(before->device, graph) : compare_users(before, graph);
}
