/* SPDX-License-Identifier: MIT */
#include "model/switch.h"

#include <string.h>

/* From a user down to the source or the target: filters and snapshots of other clients. */
#define DEPTH_MAX 64
/* QEMU's own names have 31 bytes, a guest's device has a path. */
#define NAME_MAX_BYTES 1024
/* With so many bytes of names no more places are taken: each of thousands of jobs keeps them. */
#define PLACES_MAX_BYTES 2048

/* ----------------------------------------------------------------- recording */

static bool is_nameless_backend(const struct graph_vertex *vertex)
{
    return vertex->kind == GRAPH_BACKEND && !*vertex->name;
}

/* A user without a name, or another job, can't be found again. */
static bool can_be_found_again(const struct graph_edge *edge)
{
    return *edge->parent->name && edge->parent->kind != GRAPH_JOB &&
           strlen(edge->parent->name) <= NAME_MAX_BYTES && strlen(edge->name) <= NAME_MAX_BYTES;
}

/* QEMU gives such names to filters, which come and go with their jobs. */
static bool is_implicit(const struct graph_vertex *vertex)
{
    return *vertex->name == '#';
}

/* Places above the source, or below it. */
struct places {
    struct switch_place *list;
    size_t *count;
    size_t bytes;
};

static bool is_full(const struct places *places)
{
    return *places->count == SWITCH_PLACES_MAX || places->bytes > PLACES_MAX_BYTES;
}

static void add_place(struct places *places, const struct graph_edge *edge)
{
    places->list[(*places->count)++] = (struct switch_place){
        .kind = edge->parent->kind, .parent = edge->parent->name, .edge = edge->name};
    places->bytes += strlen(edge->parent->name) + strlen(edge->name);
}

/* The source's parents, and theirs: the nearest first, of which one is the job's own filter. */
static void record_above(struct switch_before *ret, const struct block_graph *graph,
                         const struct graph_vertex *source, const struct graph_vertex *filter)
{
    const struct graph_vertex *queue[SWITCH_PLACES_MAX + 1] = {source};
    struct places above = {.list = ret->above, .count = &ret->above_count};

    for (size_t done = 0; done <= ret->above_count && queue[done]; done++) {
        struct graph_edges edges = graph_above(graph, queue[done]);
        for (size_t i = 0; i < edges.count && !is_full(&above); i++) {
            const struct graph_edge *edge = &edges.first[i];
            if (!can_be_found_again(edge))
                continue;
            if (edge->parent != filter && !is_implicit(edge->parent))
                ret->is_used = true;
            add_place(&above, edge);
            queue[ret->above_count] = edge->parent;
        }
    }
}

/* A job replaces nodes of filters and of a quorum, never one in a backing chain. */
static void record_below(struct switch_before *ret, const struct block_graph *graph,
                         const struct graph_vertex *source)
{
    const struct graph_vertex *queue[SWITCH_PLACES_MAX + 1] = {source};
    struct places below = {.list = ret->below, .count = &ret->below_count};

    for (size_t done = 0; done <= ret->below_count && queue[done]; done++) {
        struct graph_edges edges = graph_below(graph, queue[done]);
        for (size_t i = 0; i < edges.count && !is_full(&below); i++) {
            const struct graph_edge *edge = &edges.first[i];
            if (!can_be_found_again(edge) || strcmp(edge->name, "backing") == 0)
                continue;
            add_place(&below, edge);
            queue[ret->below_count] = edge->child;
        }
    }
}

static size_t count_exports(const struct block_graph *graph, const char *node)
{
    const struct graph_vertex *vertex = graph_find(graph, GRAPH_NODE, node);
    struct graph_edges edges = vertex ? graph_above(graph, vertex) : (struct graph_edges){0};
    size_t count = 0;
    for (size_t i = 0; i < edges.count; i++)
        count += is_nameless_backend(edges.first[i].parent);
    return count;
}

/* A job has a backend without a name above its target; before 6.1 also one above its filter, which
 * takes the permissions that the job's own edge takes since. */
static void record_exports(struct switch_before *ret, const struct block_graph *graph,
                           const struct graph_edge *filter)
{
    size_t on_filter = count_exports(graph, filter->child->name);
    size_t on_target = count_exports(graph, ret->target);
    size_t own = filter->takes_permission ? 0 : 1;

    ret->exports = on_filter > own ? on_filter - own : 0;
    ret->source_exports = count_exports(graph, ret->source);
    ret->target_exports = on_target > 0 ? on_target - 1 : 0;
    ret->is_used = ret->is_used || ret->exports > 0;
}

bool switch_record(const struct block_graph *graph, const char *job, struct switch_before *ret)
{
    const struct graph_vertex *vertex = graph_find(graph, GRAPH_JOB, job);
    if (!vertex)
        return false;
    const struct graph_edge *filter = graph_edge_below(graph, vertex, "main node");
    const struct graph_vertex *source = graph_child(graph, vertex, "source");
    const struct graph_vertex *target = graph_child(graph, vertex, "target");

    *ret = (struct switch_before){.has_target = target != NULL};
    if (!target)
        return graph_child(graph, vertex, "base") != NULL;
    if (!filter || !source || strlen(source->name) > NAME_MAX_BYTES ||
        strlen(target->name) > NAME_MAX_BYTES)
        return false;
    ret->source = source->name;
    ret->target = target->name;
    record_above(ret, graph, source, filter->child);
    record_below(ret, graph, source);
    record_exports(ret, graph, filter);
    return true;
}

/* ----------------------------------------------------------------- comparing */

static const struct graph_vertex *child_of(const struct block_graph *graph,
                                           const struct switch_place *place)
{
    const struct graph_vertex *parent = graph_find(graph, place->kind, place->parent);
    return parent ? graph_child(graph, parent, place->edge) : NULL;
}

static bool is_node(const struct graph_vertex *vertex, const char *name)
{
    return vertex->kind == GRAPH_NODE && strcmp(vertex->name, name) == 0;
}

/* Which of the two comes first below a user: another job's filter, or a snapshot, may have come
 * between. */
static enum disk_switch find_first(const struct switch_before *before,
                                   const struct block_graph *after,
                                   const struct graph_vertex *vertex)
{
    for (int depth = 0; vertex && depth < DEPTH_MAX; depth++) {
        if (is_node(vertex, before->target))
            return SWITCHED;
        if (is_node(vertex, before->source))
            return NOT_SWITCHED;
        const struct graph_vertex *backing = graph_child(after, vertex, "backing");
        vertex = backing ? backing : graph_child(after, vertex, "file");
    }
    return SWITCH_UNKNOWN;
}

/* SWITCH_UNCLEAR: they disagree, so something else has happened as well. */
static enum disk_switch compare_above(const struct switch_before *before,
                                      const struct block_graph *after)
{
    enum disk_switch result = SWITCH_UNKNOWN;

    for (size_t i = 0; i < before->above_count; i++) {
        enum disk_switch found = find_first(before, after, child_of(after, &before->above[i]));
        if (found == SWITCH_UNKNOWN)
            continue;
        if (result != SWITCH_UNKNOWN && result != found)
            return SWITCH_UNCLEAR;
        result = found;
    }
    return result;
}

static bool is_replaced_below(const struct switch_before *before, const struct block_graph *after)
{
    for (size_t i = 0; i < before->below_count; i++) {
        const struct graph_vertex *child = child_of(after, &before->below[i]);
        if (child && is_node(child, before->target))
            return true;
    }
    return false;
}

static bool has_job(const struct block_graph *graph, const char *node)
{
    const struct graph_vertex *vertex = graph_find(graph, GRAPH_NODE, node);
    struct graph_edges edges = vertex ? graph_above(graph, vertex) : (struct graph_edges){0};
    for (size_t i = 0; i < edges.count; i++)
        if (edges.first[i].parent->kind == GRAPH_JOB)
            return true;
    return false;
}

/* Those that were above the filter are above the target, or above the source again. Exports that
 * were above neither before come and go with other clients: only where the filter had some can they
 * show anything. A job that was started meanwhile has some of its own. */
static enum disk_switch compare_exports(const struct switch_before *before,
                                        const struct block_graph *after)
{
    bool came_to_source = count_exports(after, before->source) > before->source_exports;
    bool came_to_target = count_exports(after, before->target) > before->target_exports;

    if (before->exports == 0 || came_to_source == came_to_target ||
        has_job(after, before->source) || has_job(after, before->target))
        return SWITCH_UNKNOWN;
    return came_to_target ? SWITCHED : NOT_SWITCHED;
}

enum disk_switch switch_compare(const struct switch_before *before, const struct block_graph *after)
{
    if (!before->has_target)
        return SWITCHES_NOTHING;
    if (is_replaced_below(before, after))
        return SWITCHED;
    enum disk_switch result = compare_above(before, after);
    if (result == SWITCH_UNKNOWN)
        result = compare_exports(before, after);
    bool shows_something = after->vertex_count > 0;
    return result == SWITCH_UNKNOWN && before->is_used && shows_something ? SWITCH_UNCLEAR : result;
}

/* ---------------------------------------------------------------- the device */

bool switch_is_same_device(const struct switch_device *before, const struct switch_device *now)
{
    if (*before->name)
        return strcmp(now->name, before->name) == 0;
    return *before->qdev && strcmp(now->qdev, before->qdev) == 0;
}

/* The name identifies the image: null-co:// and the like are all called the same. */
static bool names_image(const char *file)
{
    return *file && strncmp(file, "null-", 5) != 0;
}

/* A node that has a name, and is no filter which comes and goes with a job. Unnamed ones have had
 * one from QEMU since 2.5. */
static bool has_stable_node(const struct switch_device *device)
{
    return *device->node && strcmp(device->driver, "mirror_top") != 0;
}

enum disk_switch switch_compare_device(const struct switch_device *before,
                                       const struct switch_device *now, bool is_covered)
{
    bool nodes_are_known = has_stable_node(before) && has_stable_node(now);
    bool files_are_known = names_image(before->file) && names_image(now->file);
    bool node_differs = nodes_are_known && strcmp(before->node, now->node) != 0;
    bool file_differs = files_are_known && strcmp(before->file, now->file) != 0;

    if (file_differs && is_covered)
        return SWITCH_UNKNOWN;
    if (file_differs || node_differs)
        return SWITCHED;
    return files_are_known || nodes_are_known ? NOT_SWITCHED : SWITCH_UNKNOWN;
}
