/* SPDX-License-Identifier: MIT */
/*
 * Was the disk switched? The comparison of block graphs, on graphs as real QEMUs have shown them.
 */
#include "model/switch.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------- graphs */

/* An edge is "PARENT NAME/ CHILD". A parent or child is a job "j:NAME", a backend "b:NAME" or a
 * node "n:NAME"; "b:!1", "b:!2" are backends without a name. A "-" before the edge's name: it takes
 * no permission. */
#define EDGES_MAX 24

struct test_graph {
    struct block_graph graph;
    struct graph_vertex vertices[2 * EDGES_MAX];
    struct graph_name by_name[2 * EDGES_MAX];
    struct graph_edge below[EDGES_MAX], above[EDGES_MAX];
    char words[EDGES_MAX][3][32];
    const char *keys[2 * EDGES_MAX];
};

static int64_t vertex_id(struct test_graph *g, const char *key)
{
    size_t i = 0;
    while (i < g->graph.vertex_count && strcmp(g->keys[i], key) != 0)
        i++;
    if (i == g->graph.vertex_count) {
        enum graph_kind kind = *key == 'j' ? GRAPH_JOB : *key == 'b' ? GRAPH_BACKEND : GRAPH_NODE;
        g->keys[i] = key;
        g->vertices[i] = (struct graph_vertex){
            .id = (int64_t)i, .kind = kind, .name = key[2] == '!' ? "" : key + 2};
        g->graph.vertex_count++;
    }
    return (int64_t)i;
}

static const struct block_graph *read_graph(struct test_graph *g, const char *const *edges)
{
    int64_t ends[EDGES_MAX][2];
    size_t count = 0;

    memset(g, 0, sizeof *g);
    g->graph.vertices = g->vertices;
    g->graph.by_name = g->by_name;
    g->graph.below = g->below;
    g->graph.above = g->above;
    for (; edges[count]; count++) {
        char(*words)[32] = g->words[count];
        assert_true(count < EDGES_MAX);
        assert_int_equal(sscanf(edges[count], "%31s %31[^/]/ %31s", words[0], words[1], words[2]),
                         3);
        ends[count][0] = vertex_id(g, words[0]);
        ends[count][1] = vertex_id(g, words[2]);
    }
    graph_sort_vertices(&g->graph);
    for (size_t i = 0; i < count; i++) {
        const char *name = g->words[i][1];
        g->below[g->graph.edge_count++] = (struct graph_edge){
            .parent = graph_vertex_of(&g->graph, ends[i][0]),
            .child = graph_vertex_of(&g->graph, ends[i][1]),
            .name = name + (*name == '-'),
            .takes_permission = *name != '-',
        };
    }
    graph_sort_edges(&g->graph);
    return &g->graph;
}

#define EDGES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_EDGES ((const char *const[]){NULL})

static enum disk_switch compare(const char *const *before, const char *const *after)
{
    static struct test_graph one, other;
    struct switch_before record;
    assert_true(switch_record(read_graph(&one, before), "j", &record));
    return switch_compare(&record, read_graph(&other, after));
}

static bool can_record(const char *const *edges)
{
    static struct test_graph graph;
    struct switch_before record;
    return switch_record(read_graph(&graph, edges), "j", &record);
}

/* The job "j" mirrors "disk" to "copy", below its filter "#f". */
#define MIRROR_OF(source)                                                                          \
    "j:j main node/ n:#f", "j:j source/ n:" source, "j:j target/ n:copy", "b:!own root/ n:copy",   \
        "n:#f backing/ n:" source
#define MIRROR MIRROR_OF("disk")
/* Before 6.1: a backend of the job keeps its filter until it is dismissed. */
#define OLD_MIRROR_OF(source)                                                                      \
    "j:j -main node/ n:#f", "j:j source/ n:" source, "j:j target/ n:copy", "b:!own root/ n:copy",  \
        "b:!job root/ n:#f", "n:#f backing/ n:" source
#define OLD_MIRROR OLD_MIRROR_OF("disk")

/* -------------------------------------------------------------------- users */

static void b15_users_were_switched_or_not(void **state)
{
    (void)state;
    const struct {
        const char *const *after;
        enum disk_switch result;
    } cases[] = {
        {EDGES("b:vda root/ n:copy", "b:vdb root/ n:copy"), SWITCHED},
        {EDGES("b:vda root/ n:disk", "b:vdb root/ n:disk"), NOT_SWITCHED},
        {EDGES("b:vda root/ n:copy"), SWITCHED}, /* the other is gone */
        {EDGES("b:vda root/ n:disk", "b:vdb root/ n:copy"), SWITCH_UNCLEAR},
        {EDGES("b:vda root/ n:#f", "b:vdb root/ n:#f"), SWITCH_UNCLEAR},
        {EDGES("b:vda other/ n:copy", "b:vdb other/ n:copy"), SWITCH_UNCLEAR},
        {EDGES("b:vda root/ n:copy", "b:vda root/ n:disk"), SWITCH_UNCLEAR},
        {EDGES("b:vda root/ n:third"), SWITCH_UNCLEAR},
        {EDGES("b:vde root/ n:third"), SWITCH_UNCLEAR},
        {NO_EDGES, SWITCH_UNKNOWN}, /* such a graph shows nothing at all */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum disk_switch found =
            compare(EDGES(MIRROR, "b:vda root/ n:#f", "b:vdb root/ n:#f"), cases[i].after);
        if (found != cases[i].result)
            fail_msg("case %zu: %d", i, (int)found);
    }
}

static void b15_what_has_come_between_is_looked_through(void **state)
{
    (void)state;
    static const char *const before[] = {MIRROR, "b:vda root/ n:#f", NULL};
    /* a filter of the next job; a snapshot of another client */
    assert_int_equal(compare(before, EDGES("b:vda root/ n:#g", "n:#g file/ n:copy")), SWITCHED);
    assert_int_equal(compare(before, EDGES("b:vda root/ n:snap", "n:snap backing/ n:copy",
                                           "n:snap file/ n:other", "n:copy backing/ n:disk")),
                     SWITCHED);
    assert_int_equal(compare(before, EDGES("b:vda root/ n:snap", "n:snap backing/ n:disk",
                                           "n:snap file/ n:copy")),
                     NOT_SWITCHED);
    assert_int_equal(compare(before, EDGES("b:vda root/ n:x", "n:x file/ n:y", "n:y file/ n:x")),
                     SWITCH_UNCLEAR);
}

/* A backup's filter above ours is gone by then; the guest above it is not. */
static void b15_users_of_users_are_found_as_well(void **state)
{
    (void)state;
    static const char *const before[] = {MIRROR, "n:#cbw file/ n:#f", "b:vda root/ n:#cbw", NULL};
    assert_int_equal(compare(before, EDGES("b:vda root/ n:copy")), SWITCHED);
    assert_int_equal(compare(before, EDGES("b:vda root/ n:disk")), NOT_SWITCHED);
    assert_int_equal(compare(before, EDGES("n:#cbw file/ n:copy", "b:vda root/ n:#cbw")), SWITCHED);
}

static void b15_a_commit_of_the_active_layer(void **state)
{
    (void)state;
#define CHAIN "n:active backing/ n:middle", "n:middle backing/ n:base", "n:active file/ n:#p"
    static const char *const before[] = {"j:j main node/ n:#f",
                                         "j:j source/ n:active",
                                         "j:j target/ n:base",
                                         "j:j intermediate node/ n:middle",
                                         "n:#f backing/ n:active",
                                         "b:!own root/ n:base",
                                         "b:vda root/ n:#f",
                                         CHAIN,
                                         NULL};
    assert_int_equal(compare(before, EDGES("b:vda root/ n:base", CHAIN)), SWITCHED);
    assert_int_equal(compare(before, EDGES("b:vda root/ n:active", CHAIN)), NOT_SWITCHED);
    /* another client has removed the middle one since */
    assert_int_equal(compare(before, EDGES("b:vda root/ n:active", "n:active backing/ n:base")),
                     NOT_SWITCHED);
}

static void c13_an_intermediate_commit_switches_nothing(void **state)
{
    (void)state;
    static const char *const edges[] = {"j:j main node/ n:active", "j:j base/ n:base",
                                        "j:j intermediate node/ n:middle", "b:vda root/ n:active",
                                        NULL};
    assert_int_equal(compare(edges, edges), SWITCHES_NOTHING);
    assert_int_equal(compare(edges, NO_EDGES), SWITCHES_NOTHING);
}

static void b15_what_is_not_shown_is_not_recorded(void **state)
{
    (void)state;
    assert_false(can_record(NO_EDGES));
    assert_false(can_record(EDGES("j:other main node/ n:#f")));
    assert_false(can_record(EDGES("j:j main node/ n:#f"))); /* being made, or over */
    assert_false(can_record(EDGES("j:j main node/ n:#f", "j:j target/ n:copy")));
    assert_false(can_record(EDGES("j:j source/ n:disk", "j:j target/ n:copy")));
}

/* ----------------------------------------------------------------- replaces */

static void c10_a_node_below_the_source_was_replaced(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {"n:top file/ n:disk", "n:top file/ n:copy"},
        {"n:top image/ n:disk", "n:top image/ n:copy"},
        {"n:top children.0/ n:disk", "n:top children.0/ n:copy"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        const char *before = ways[i][0], *after = ways[i][1];
        const char *const used[] = {MIRROR_OF("top"), before, "b:vda root/ n:#f", NULL};
        const char *const exported[] = {MIRROR_OF("top"), before, "b:!1 root/ n:#f", NULL};
        const char *const unused[] = {MIRROR_OF("top"), before, NULL};
        const char *const old[] = {OLD_MIRROR_OF("top"), before, NULL};

        assert_int_equal(compare(used, EDGES("b:vda root/ n:top", after)), SWITCHED);
        assert_int_equal(compare(used, EDGES("b:vda root/ n:top", before)), NOT_SWITCHED);
        assert_int_equal(compare(exported, EDGES("b:!1 root/ n:top", after)), SWITCHED);
        assert_int_equal(compare(exported, EDGES("b:!1 root/ n:top", before)), NOT_SWITCHED);
        assert_int_equal(compare(unused, EDGES(after)), SWITCHED);
        assert_int_equal(compare(unused, EDGES(before)), SWITCH_UNKNOWN);
        assert_int_equal(compare(old, EDGES("n:#f backing/ n:top", after)), SWITCHED);
        assert_int_equal(compare(old, EDGES("n:#f backing/ n:top", before)), NOT_SWITCHED);
    }
}

static void c10_filters_upon_filters(void **state)
{
    (void)state;
    static const char *const before[] = {MIRROR_OF("top"), "n:top file/ n:mid",
                                         "n:mid children.1/ n:disk", "b:vda root/ n:#f", NULL};
    assert_int_equal(compare(before, EDGES("b:vda root/ n:top", "n:top file/ n:mid",
                                           "n:mid children.1/ n:copy")),
                     SWITCHED);
}

/* ------------------------------------------------------------------ exports */

static void b15_exports_were_switched_or_not(void **state)
{
    (void)state;
    static const char *const before[] = {MIRROR, "b:!1 root/ n:#f", NULL};
    assert_int_equal(compare(before, EDGES("b:!1 root/ n:copy")), SWITCHED);
    assert_int_equal(compare(before, EDGES("b:!1 root/ n:disk")), NOT_SWITCHED);
    /* it has gone, or another came to the other node */
    assert_int_equal(compare(before, EDGES("b:vde root/ n:third")), SWITCH_UNCLEAR);
    assert_int_equal(compare(before, EDGES("b:!1 root/ n:disk", "b:!2 root/ n:copy")),
                     SWITCH_UNCLEAR);
    /* another job of the same nodes was started meanwhile */
    assert_int_equal(compare(before, EDGES("j:next source/ n:disk", "j:next target/ n:copy",
                                           "b:!2 root/ n:copy")),
                     SWITCH_UNCLEAR);
    assert_int_equal(compare(before, EDGES("j:next source/ n:copy", "b:!1 root/ n:copy")),
                     SWITCH_UNCLEAR);
    assert_int_equal(compare(before, EDGES("j:next target/ n:disk", "b:!1 root/ n:copy")),
                     SWITCH_UNCLEAR);
}

static void b15_a_target_that_was_exported_before(void **state)
{
    (void)state;
    static const char *const before[] = {MIRROR, "b:!1 root/ n:#f", "b:!2 root/ n:copy", NULL};
    assert_int_equal(compare(before, EDGES("b:!1 root/ n:copy", "b:!2 root/ n:copy")), SWITCHED);
    assert_int_equal(compare(before, EDGES("b:!1 root/ n:disk", "b:!2 root/ n:copy")),
                     NOT_SWITCHED);
    assert_int_equal(compare(before, EDGES("b:!2 root/ n:copy")), SWITCH_UNCLEAR);
}

static void c83_exports_made_afterwards_show_nothing(void **state)
{
    (void)state;
    assert_int_equal(compare(EDGES(MIRROR), EDGES("b:!1 root/ n:copy")), SWITCH_UNKNOWN);
    assert_int_equal(compare(EDGES(MIRROR), EDGES("b:!1 root/ n:disk")), SWITCH_UNKNOWN);
    /* the job's own backend above the filter is no export */
    assert_int_equal(compare(EDGES(OLD_MIRROR), EDGES("b:!1 root/ n:copy")), SWITCH_UNKNOWN);
    assert_int_equal(compare(EDGES(OLD_MIRROR), EDGES("b:!1 root/ n:disk")), SWITCH_UNKNOWN);
}

/* -------------------------------------------------------------- used by none */

static void c17_a_disk_that_nobody_uses_shows_nothing(void **state)
{
    (void)state;
    assert_int_equal(compare(EDGES(MIRROR), NO_EDGES), SWITCH_UNKNOWN);
    /* a filter of another job is no user */
    assert_int_equal(compare(EDGES(MIRROR, "n:#cbw file/ n:#f"), NO_EDGES), SWITCH_UNKNOWN);
    /* neither is the job's own that was given a name */
    assert_int_equal(compare(EDGES("j:j main node/ n:f", "j:j source/ n:disk", "j:j target/ n:copy",
                                   "n:f backing/ n:disk"),
                             NO_EDGES),
                     SWITCH_UNKNOWN);
}

static void c17_a_filter_that_outlives_its_job_shows_it(void **state)
{
    (void)state;
    assert_int_equal(compare(EDGES(OLD_MIRROR), EDGES("n:#f backing/ n:copy", "b:!job root/ n:#f")),
                     SWITCHED);
    assert_int_equal(compare(EDGES(OLD_MIRROR), EDGES("n:#f backing/ n:disk", "b:!job root/ n:#f")),
                     NOT_SWITCHED);
    assert_int_equal(compare(EDGES(OLD_MIRROR), EDGES("n:#f backing/ n:disk", "b:!job root/ n:#f",
                                                      "b:!1 root/ n:copy")),
                     NOT_SWITCHED);
}

/* An overlay is a user like a guest. */
static void c17_a_disk_in_a_chain(void **state)
{
    (void)state;
    static const char *const before[] = {MIRROR, "n:overlay backing/ n:#f", NULL};
    assert_int_equal(compare(before, EDGES("n:overlay backing/ n:copy")), SWITCHED);
    assert_int_equal(compare(before, EDGES("n:overlay backing/ n:disk")), NOT_SWITCHED);
    assert_int_equal(compare(before, EDGES("b:vde root/ n:third")), SWITCH_UNCLEAR);
}

/* ------------------------------------------------------------------- peers */

/* QEMU gives names once, but what other peers do is not known. */
static void b56_one_of_two_that_are_called_the_same_is_none(void **state)
{
    (void)state;
    static struct test_graph graph;
    read_graph(&graph, EDGES("b:!1 root/ n:copy", "b:!2 root/ n:copy"));
    assert_null(graph_find(&graph.graph, GRAPH_BACKEND, ""));
    assert_non_null(graph_find(&graph.graph, GRAPH_NODE, "copy"));
    assert_null(graph_find(&graph.graph, GRAPH_JOB, "copy"));
}

static void b56_more_users_than_are_recorded(void **state)
{
    (void)state;
    static char texts[19][32];
    const char *before[25] = {MIRROR}, *after[20];
    for (int i = 0; i < 19; i++) {
        snprintf(texts[i], sizeof texts[i], "b:u%d root/ n:#f", i);
        before[5 + i] = texts[i];
    }
    before[24] = NULL;
    static struct test_graph graph;
    struct switch_before record;
    assert_true(switch_record(read_graph(&graph, before), "j", &record));
    assert_int_equal(record.above_count, SWITCH_PLACES_MAX);

    char moved[32];
    snprintf(moved, sizeof moved, "b:%s root/ n:copy", record.above[5].parent);
    after[0] = moved;
    after[1] = NULL;
    assert_int_equal(compare(before, after), SWITCHED);
}

/* ------------------------------------------------------------------- bounds */

static size_t bytes_of(const struct switch_place *places, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += strlen(places[i].parent) + strlen(places[i].edge);
    return bytes;
}

/* Thousands of jobs may be shown at one disk, and each keeps the names of its users. */
static void c41_all_names_of_a_job_are_bounded(void **state)
{
    (void)state;
    static struct test_graph graph;
    static char name[1001];
    struct switch_before record;
    memset(name, 'u', sizeof name - 1);
    read_graph(&graph,
               EDGES("j:j main node/ n:#f", "j:j source/ n:disk", "j:j target/ n:copy",
                     "n:#f backing/ n:disk", "b:1 root/ n:#f", "b:2 root/ n:#f", "b:3 root/ n:#f",
                     "b:4 root/ n:#f", "b:5 root/ n:#f", "b:6 root/ n:#f", "b:7 root/ n:#f",
                     "b:8 root/ n:#f", "b:9 root/ n:#f", "n:disk 1/ n:1", "n:disk 2/ n:2",
                     "n:1 a/ n:3", "n:2 b/ n:4", "n:3 c/ n:5", "n:4 d/ n:6"));
    for (size_t i = 0; i < graph.graph.vertex_count; i++)
        if (graph.vertices[i].name[0] >= '1' && graph.vertices[i].name[0] <= '9')
            graph.vertices[i].name = name;
    graph_sort_vertices(&graph.graph);

    assert_true(switch_record(&graph.graph, "j", &record));
    assert_true(record.is_used && record.above_count > 1);
    size_t bytes =
        bytes_of(record.above, record.above_count) + bytes_of(record.below, record.below_count);
    assert_int_in_range(bytes, 1000, 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b15_users_were_switched_or_not),
        cmocka_unit_test(b15_what_has_come_between_is_looked_through),
        cmocka_unit_test(b15_users_of_users_are_found_as_well),
        cmocka_unit_test(b15_a_commit_of_the_active_layer),
        cmocka_unit_test(b15_what_is_not_shown_is_not_recorded),
        cmocka_unit_test(b15_exports_were_switched_or_not),
        cmocka_unit_test(b15_a_target_that_was_exported_before),
        cmocka_unit_test(b56_more_users_than_are_recorded),
        cmocka_unit_test(b56_one_of_two_that_are_called_the_same_is_none),
        cmocka_unit_test(c10_a_node_below_the_source_was_replaced),
        cmocka_unit_test(c10_filters_upon_filters),
        cmocka_unit_test(c13_an_intermediate_commit_switches_nothing),
        cmocka_unit_test(c17_a_disk_in_a_chain),
        cmocka_unit_test(c17_a_disk_that_nobody_uses_shows_nothing),
        cmocka_unit_test(c17_a_filter_that_outlives_its_job_shows_it),
        cmocka_unit_test(c83_exports_made_afterwards_show_nothing),
        cmocka_unit_test(c41_all_names_of_a_job_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
