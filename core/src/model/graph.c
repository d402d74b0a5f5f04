/* SPDX-License-Identifier: MIT */
#include "model/graph.h"

#include <stdlib.h>
#include <string.h>

/* More edges than that no vertex of a QEMU has. */
#define FAN_MAX 1024

/* ------------------------------------------------------------------ sorting */

static int by_id(const void *a, const void *b)
{
    int64_t one = ((const struct graph_vertex *)a)->id;
    int64_t other = ((const struct graph_vertex *)b)->id;
    return (one > other) - (one < other);
}

static int by_name(const void *a, const void *b)
{
    const struct graph_vertex *one = ((const struct graph_name *)a)->vertex;
    const struct graph_vertex *other = ((const struct graph_name *)b)->vertex;
    int names = strcmp(one->name, other->name);
    return names ? names : (one->kind > other->kind) - (one->kind < other->kind);
}

static int by_parent(const void *a, const void *b)
{
    const struct graph_vertex *one = ((const struct graph_edge *)a)->parent;
    const struct graph_vertex *other = ((const struct graph_edge *)b)->parent;
    return (one > other) - (one < other);
}

static int by_child(const void *a, const void *b)
{
    const struct graph_vertex *one = ((const struct graph_edge *)a)->child;
    const struct graph_vertex *other = ((const struct graph_edge *)b)->child;
    return (one > other) - (one < other);
}

void graph_sort_vertices(struct block_graph *graph)
{
    qsort(graph->vertices, graph->vertex_count, sizeof *graph->vertices, by_id);
    for (size_t i = 0; i < graph->vertex_count; i++)
        graph->by_name[i].vertex = &graph->vertices[i];
    qsort(graph->by_name, graph->vertex_count, sizeof *graph->by_name, by_name);
}

void graph_sort_edges(struct block_graph *graph)
{
    memcpy(graph->above, graph->below, graph->edge_count * sizeof *graph->above);
    qsort(graph->below, graph->edge_count, sizeof *graph->below, by_parent);
    qsort(graph->above, graph->edge_count, sizeof *graph->above, by_child);
}

/* ------------------------------------------------------------------ finding */

const struct graph_vertex *graph_vertex_of(const struct block_graph *graph, int64_t id)
{
    struct graph_vertex key = {.id = id};
    return bsearch(&key, graph->vertices, graph->vertex_count, sizeof key, by_id);
}

const struct graph_vertex *graph_find(const struct block_graph *graph, enum graph_kind kind,
                                      const char *name)
{
    const struct graph_vertex vertex = {.kind = kind, .name = name};
    const struct graph_name key = {.vertex = &vertex};
    const struct graph_name *first = graph->by_name;
    const struct graph_name *end = first + graph->vertex_count;
    const struct graph_name *at = bsearch(&key, first, graph->vertex_count, sizeof key, by_name);
    if (!at)
        return NULL;
    bool is_only_one = (at == first || by_name(at - 1, &key) != 0) &&
                       (at + 1 == end || by_name(at + 1, &key) != 0);
    return is_only_one ? at->vertex : NULL;
}

/* Of the sorted edges those that are equal to `key`. */
static struct graph_edges find_edges(const struct graph_edge *sorted, size_t count,
                                     const struct graph_edge *key,
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
    struct graph_edges found = {.first = &sorted[low]};
    while (low + found.count < count && found.count < FAN_MAX &&
           order(&sorted[low + found.count], key) == 0)
        found.count++;
    return found;
}

struct graph_edges graph_below(const struct block_graph *graph, const struct graph_vertex *parent)
{
    struct graph_edge key = {.parent = parent};
    return find_edges(graph->below, graph->edge_count, &key, by_parent);
}

struct graph_edges graph_above(const struct block_graph *graph, const struct graph_vertex *child)
{
    struct graph_edge key = {.child = child};
    return find_edges(graph->above, graph->edge_count, &key, by_child);
}

const struct graph_edge *graph_edge_below(const struct block_graph *graph,
                                          const struct graph_vertex *parent, const char *name)
{
    const struct graph_edges edges = graph_below(graph, parent);
    const struct graph_edge *found = NULL;

    for (const struct graph_edge *edge = edges.first; edge < edges.first + edges.count; edge++) {
        if (strcmp(edge->name, name) != 0)
            continue;
        if (found)
            return NULL;
        found = edge;
    }
    return found;
}

const struct graph_vertex *graph_child(const struct block_graph *graph,
                                       const struct graph_vertex *parent, const char *name)
{
    const struct graph_edge *edge = graph_edge_below(graph, parent, name);
    return edge ? edge->child : NULL;
}
