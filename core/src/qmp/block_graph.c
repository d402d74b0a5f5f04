/* SPDX-License-Identifier: MIT */
#include "qmp/block_graph.h"

#include "model/switch.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct device {
    struct switch_device is;
    const json_t *inserted;
};

/* All strings are those of the reply. */
struct qmp_graph {
    struct block_graph graph;
    size_t device_count;
    struct device *devices; /* query-block's */
};

/* Its strings are in `texts`. */
struct driver_snapshot {
    atomic_uint refs;
    bool is_of_device;
    struct switch_before before;
    struct switch_device device;
    char texts[];
};

/* More than that no QEMU has; the graph is not read then. */
#define NODES_MAX 16384

static const char *string_at(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* -------------------------------------------------------------------- opening */

static enum graph_kind kind_of(const char *type)
{
    return strcmp(type, "block-driver") == 0    ? GRAPH_NODE
           : strcmp(type, "block-backend") == 0 ? GRAPH_BACKEND
           : strcmp(type, "block-job") == 0     ? GRAPH_JOB
                                                : GRAPH_OTHER;
}

static void open_nodes(struct block_graph *graph, const json_t *nodes)
{
    size_t i;
    const json_t *node;

    json_array_foreach(nodes, i, node)
    {
        graph->vertices[graph->vertex_count++] = (struct graph_vertex){
            .id = json_integer_value(json_object_get(node, "id")),
            .kind = kind_of(string_at(node, "type")),
            .name = string_at(node, "name"),
        };
    }
    graph_sort_vertices(graph);
}

static const struct graph_vertex *end_of(const struct block_graph *graph, const json_t *edge,
                                         const char *key)
{
    return graph_vertex_of(graph, json_integer_value(json_object_get(edge, key)));
}

static void open_edges(struct block_graph *graph, const json_t *edges)
{
    size_t i;
    const json_t *edge;

    json_array_foreach(edges, i, edge)
    {
        const json_t *permissions = json_object_get(edge, "perm");
        struct graph_edge known = {
            .parent = end_of(graph, edge, "parent"),
            .child = end_of(graph, edge, "child"),
            .name = string_at(edge, "name"),
            .takes_permission = !permissions || json_array_size(permissions) > 0,
        };
        if (known.parent && known.child)
            graph->below[graph->edge_count++] = known;
    }
    graph_sort_edges(graph);
}

static struct switch_device device_of(const json_t *device)
{
    const json_t *inserted = json_object_get(device, "inserted");
    return (struct switch_device){
        .name = string_at(device, "device"),
        .qdev = string_at(device, "qdev"),
        .node = string_at(inserted, "node-name"),
        .driver = string_at(inserted, "drv"),
        .file = string_at(inserted, "file"),
    };
}

static void open_devices(struct qmp_graph *graph, const json_t *devices)
{
    size_t i;
    const json_t *device;

    json_array_foreach(devices, i, device)
    {
        graph->devices[graph->device_count++] = (struct device){
            .is = device_of(device), .inserted = json_object_get(device, "inserted")};
    }
}

static bool make_room(struct qmp_graph *graph, size_t nodes, size_t edges, size_t devices)
{
    struct block_graph *g = &graph->graph;

    g->vertices = calloc(nodes + 1, sizeof *g->vertices);
    g->by_name = calloc(nodes + 1, sizeof *g->by_name);
    g->below = calloc(edges + 1, sizeof *g->below);
    g->above = calloc(edges + 1, sizeof *g->above);
    graph->devices = calloc(devices + 1, sizeof *graph->devices);
    return g->vertices && g->by_name && g->below && g->above && graph->devices;
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
    if (!make_room(graph, node_count, edge_count, device_count)) {
        qmp_graph_close(graph);
        return NULL;
    }
    open_nodes(&graph->graph, nodes);
    open_edges(&graph->graph, edges);
    open_devices(graph, root);
    return graph;
}

void qmp_graph_close(struct qmp_graph *graph)
{
    if (!graph)
        return;
    free(graph->graph.vertices);
    free(graph->graph.by_name);
    free(graph->graph.below);
    free(graph->graph.above);
    free(graph->devices);
    free(graph);
}

/* --------------------------------------------------------------------- before */

/* Copies a text to the end of those that are there, unless that is only to be measured. */
static void keep(const char **text, char *texts, size_t *size)
{
    size_t text_size = strlen(*text) + 1;
    if (texts)
        *text = memcpy(texts + *size, *text, text_size);
    *size += text_size;
}

static void keep_places(struct switch_place *places, size_t count, char *texts, size_t *size)
{
    for (size_t i = 0; i < count; i++) {
        keep(&places[i].parent, texts, size);
        keep(&places[i].edge, texts, size);
    }
}

static size_t keep_before(struct switch_before *before, char *texts)
{
    size_t size = 0;
    if (!before->has_target)
        return 0;
    keep(&before->source, texts, &size);
    keep(&before->target, texts, &size);
    keep_places(before->above, before->above_count, texts, &size);
    keep_places(before->below, before->below_count, texts, &size);
    return size;
}

/* Copies the names. */
static struct driver_snapshot *new_snapshot(struct switch_before *before)
{
    struct driver_snapshot *snapshot = calloc(1, sizeof *snapshot + keep_before(before, NULL));
    if (!snapshot)
        return NULL;
    atomic_init(&snapshot->refs, 1);
    snapshot->before = *before;
    keep_before(&snapshot->before, snapshot->texts);
    return snapshot;
}

static struct driver_snapshot *snapshot_job(const struct qmp_graph *graph, const char *id)
{
    struct switch_before before;
    return switch_record(&graph->graph, id, &before) ? new_snapshot(&before) : NULL;
}

/* By its name; a device that has none may be meant by its node. */
static const struct device *find_device(const struct qmp_graph *graph, const char *name)
{
    for (size_t i = 0; *name && i < graph->device_count; i++)
        if (strcmp(graph->devices[i].is.name, name) == 0)
            return &graph->devices[i];
    for (size_t i = 0; *name && i < graph->device_count; i++)
        if (strcmp(graph->devices[i].is.node, name) == 0)
            return &graph->devices[i];
    return NULL;
}

/* An image's name is a path, or JSON. A longer one only a peer sends who wants our memory. */
#define FILE_MAX_BYTES 4096

static size_t keep_device(struct switch_device *device, char *texts)
{
    const char **const members[] = {&device->name, &device->qdev, &device->node, &device->driver,
                                    &device->file};
    size_t size = 0;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (strlen(*members[i]) > FILE_MAX_BYTES)
            *members[i] = "";
        keep(members[i], texts, &size);
    }
    return size;
}

static struct driver_snapshot *new_device_snapshot(struct switch_device *device)
{
    struct driver_snapshot *snapshot = calloc(1, sizeof *snapshot + keep_device(device, NULL));
    if (!snapshot)
        return NULL;
    atomic_init(&snapshot->refs, 1);
    snapshot->is_of_device = true;
    snapshot->device = *device;
    keep_device(&snapshot->device, snapshot->texts);
    return snapshot;
}

static struct driver_snapshot *snapshot_device(const struct qmp_graph *graph, const char *name)
{
    const struct device *device = find_device(graph, name);
    if (!device || !device->inserted)
        return NULL;
    struct switch_device is = device->is;
    return new_device_snapshot(&is);
}

struct driver_snapshot *qmp_graph_snapshot(const struct qmp_graph *graph, const char *id)
{
    if (!graph)
        return NULL;
    return graph->device_count > 0 ? snapshot_device(graph, id) : snapshot_job(graph, id);
}

struct driver_snapshot *qmp_hold_snapshot(struct driver_snapshot *snapshot)
{
    if (snapshot)
        atomic_fetch_add(&snapshot->refs, 1);
    return snapshot;
}

void qmp_free_snapshot(struct driver_snapshot *snapshot)
{
    if (snapshot && atomic_fetch_sub(&snapshot->refs, 1) == 1)
        free(snapshot);
}

/* -------------------------------------------------------------------- as JSON */

static json_t *write_places(const struct switch_place *places, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++)
        json_array_append_new(
            array, json_pack("[iss]", (int)places[i].kind, places[i].parent, places[i].edge));
    return array;
}

static json_t *write_device(const struct switch_device *device)
{
    return json_pack("{s:[sssss]}", "device", device->name, device->qdev, device->node,
                     device->driver, device->file);
}

json_t *qmp_write_snapshot(const struct driver_snapshot *snapshot)
{
    const struct switch_before *before = &snapshot->before;

    if (snapshot->is_of_device)
        return write_device(&snapshot->device);
    if (!before->has_target)
        return json_object();
    return json_pack("{ss,ss,sb,s[III],so,so}", "source", before->source, "target", before->target,
                     "used", before->is_used, "exports", (json_int_t)before->exports,
                     (json_int_t)before->source_exports, (json_int_t)before->target_exports,
                     "above", write_places(before->above, before->above_count), "below",
                     write_places(before->below, before->below_count));
}

static bool read_places(const json_t *array, struct switch_place *places, size_t *ret_count)
{
    size_t count = json_array_size(array);

    if (!json_is_array(array) || count > SWITCH_PLACES_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        int kind;
        if (json_unpack(json_array_get(array, i), "[iss!]", &kind, &places[i].parent,
                        &places[i].edge) != 0 ||
            kind < GRAPH_NODE || kind > GRAPH_OTHER)
            return false;
        places[i].kind = (enum graph_kind)kind;
    }
    *ret_count = count;
    return true;
}

static struct driver_snapshot *read_device(json_t *json)
{
    struct switch_device device;
    bool is_one = json_unpack(json, "{s:[sssss!]!}", "device", &device.name, &device.qdev,
                              &device.node, &device.driver, &device.file) == 0;
    return is_one ? new_device_snapshot(&device) : NULL;
}

static bool read_before(json_t *json, struct switch_before *ret)
{
    json_int_t exports[3];
    int is_used;
    json_t *above, *below;
    bool is_one = json_unpack(json, "{ss,ss,sb,s[III!],so,so!}", "source", &ret->source, "target",
                              &ret->target, "used", &is_used, "exports", &exports[0], &exports[1],
                              &exports[2], "above", &above, "below", &below) == 0 &&
                  read_places(above, ret->above, &ret->above_count) &&
                  read_places(below, ret->below, &ret->below_count);

    if (!is_one || exports[0] < 0 || exports[1] < 0 || exports[2] < 0)
        return false;
    ret->has_target = true;
    ret->is_used = is_used;
    ret->exports = (size_t)exports[0];
    ret->source_exports = (size_t)exports[1];
    ret->target_exports = (size_t)exports[2];
    return true;
}

struct driver_snapshot *qmp_read_snapshot(const json_t *json)
{
    struct switch_before before = {0};
    json_t *object = (json_t *)json; /* json_unpack() changes nothing */

    if (json_object_get(json, "device"))
        return read_device(object);
    bool is_one =
        json_is_object(json) && (json_object_size(json) == 0 || read_before(object, &before));
    return is_one ? new_snapshot(&before) : NULL;
}

/* ---------------------------------------------------------------------- after */

static bool is_backed_by(const json_t *inserted, const char *file)
{
    const json_t *image = json_object_get(inserted, "image");

    if (strcmp(string_at(inserted, "backing_file"), file) == 0)
        return true;
    while ((image = json_object_get(image, "backing-image")))
        if (strcmp(string_at(image, "filename"), file) == 0)
            return true;
    return false;
}

static enum disk_switch compare_device(const struct switch_device *before,
                                       const struct qmp_graph *graph)
{
    for (size_t i = 0; i < graph->device_count; i++) {
        const struct device *now = &graph->devices[i];
        if (switch_is_same_device(before, &now->is))
            return switch_compare_device(before, &now->is,
                                         is_backed_by(now->inserted, before->file));
    }
    return SWITCH_UNKNOWN;
}

/* An intermediate commit shows what it is also when it is over. */
static enum disk_switch compare_nothing(const struct qmp_graph *graph, const char *id)
{
    struct switch_before now;
    bool is_known = switch_record(&graph->graph, id, &now);
    return is_known && !now.has_target ? SWITCHES_NOTHING : SWITCH_UNKNOWN;
}

enum disk_switch qmp_graph_compare(const struct driver_snapshot *before,
                                   const struct qmp_graph *graph, const char *id)
{
    if (!graph)
        return SWITCH_UNKNOWN;
    if (!before)
        return compare_nothing(graph, id);
    return before->is_of_device ? compare_device(&before->device, graph)
                                : switch_compare(&before->before, &graph->graph);
}
