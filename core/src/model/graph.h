/* SPDX-License-Identifier: MIT */
/*
 * QEMU's block graph, as plain arrays: who uses which node. The arrays and all names belong to
 * whoever reads the graph; what is here fills nothing but sorts, so that finding is cheap for many
 * jobs.
 */
#ifndef BJ_MODEL_GRAPH_H
#define BJ_MODEL_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum graph_kind {
    GRAPH_NODE,    /* an image, or a filter */
    GRAPH_BACKEND, /* a guest's disk or an export: the latter has no name */
    GRAPH_JOB,
    GRAPH_OTHER
};

struct graph_vertex {
    int64_t id; /* made anew for each query: only kind and name identify it later */
    enum graph_kind kind;
    const char *name;
};

struct graph_name {
    const struct graph_vertex *vertex;
};

struct graph_edge {
    const struct graph_vertex *parent, *child;
    const char *name;
    bool takes_permission; /* to read or to write what is below */
};

struct block_graph {
    size_t vertex_count;
    struct graph_vertex *vertices; /* by id */
    struct graph_name *by_name;    /* and kind */
    size_t edge_count;
    struct graph_edge *below; /* by parent */
    struct graph_edge *above; /* the same, by child */
};

struct graph_edges {
    const struct graph_edge *first;
    size_t count;
};

/* First the vertices are filled in and sorted, then `below`, whose edges refer to them. The other
 * two arrays have room for as many. */
void graph_sort_vertices(struct block_graph *graph);
void graph_sort_edges(struct block_graph *graph);

/* NULL: there is none. */
const struct graph_vertex *graph_vertex_of(const struct block_graph *graph, int64_t id);
/* NULL: there is none, or there are several that can't be told apart. */
const struct graph_vertex *graph_find(const struct block_graph *graph, enum graph_kind kind,
                                      const char *name);

struct graph_edges graph_below(const struct block_graph *graph, const struct graph_vertex *parent);
struct graph_edges graph_above(const struct block_graph *graph, const struct graph_vertex *child);

/* The only edge of that name below a vertex; NULL: there is none, or there are several. */
const struct graph_edge *graph_edge_below(const struct block_graph *graph,
                                          const struct graph_vertex *parent, const char *name);
/* What it leads to. */
const struct graph_vertex *graph_child(const struct block_graph *graph,
                                       const struct graph_vertex *parent, const char *name);

#endif
