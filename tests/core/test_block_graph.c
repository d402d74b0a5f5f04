/* SPDX-License-Identifier: MIT */
/*
 * Was the disk switched? Told from query-block, as QEMUs before 4.0 have it, of recorded sessions,
 * less what does not matter; and how the block graph is read. test_switch.c has what it means.
 */
#include "qmp/block_graph.h"

#include "cmocka_all.h"

#define CD "{\"device\": \"ide1-cd0\", \"removable\": true}"
#define DRIVE(inserted)                                                                            \
    "[" CD ", {\"device\": \"drive0\", \"removable\": true, \"inserted\": " inserted "}]"

/* 1.7.2 to 2.3.1; RHEL 6.3 has no image */
#define OLD(file) DRIVE("{\"drv\": \"qcow2\", \"ro\": false, \"file\": \"" file "\"}")
/* 2.8.1 to 3.1.1 */
#define NODE(name, file)                                                                           \
    DRIVE("{\"drv\": \"qcow2\", \"node-name\": \"" name "\", \"file\": \"" file "\"}")
#define FILTER(file)                                                                               \
    DRIVE("{\"drv\": \"mirror_top\", \"node-name\": \"top\", \"file\": \"" file "\"}")
#define UNDER(file, under)                                                                         \
    DRIVE("{\"drv\": \"qcow2\", \"file\": \"" file "\", \"backing_file\": \"" under "\"}")
#define DEEP_UNDER(file, under)                                                                    \
    DRIVE("{\"drv\": \"qcow2\", \"file\": \"" file "\", \"image\": {\"filename\": \"" file         \
          "\", \"backing-image\": {\"filename\": \"mid\", \"backing-image\": {\"filename\": "      \
          "\"" under "\"}}}}")

static struct driver_snapshot *snapshot_of(const char *text, const char *id)
{
    json_t *root = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(root);
    struct qmp_graph *graph = qmp_graph_open(root);
    struct driver_snapshot *snapshot = qmp_graph_snapshot(graph, id);
    qmp_graph_close(graph);
    json_decref(root);
    return snapshot;
}

static enum disk_switch compare(const char *before, const char *id, const char *after)
{
    struct driver_snapshot *snapshot = snapshot_of(before, id);
    assert_non_null(snapshot);
    json_t *root = json_loads(after, JSON_DECODE_ANY, NULL);
    assert_non_null(root);
    struct qmp_graph *graph = qmp_graph_open(root);
    enum disk_switch result = qmp_graph_compare(snapshot, graph, id);
    qmp_graph_close(graph);
    json_decref(root);
    qmp_free_snapshot(snapshot);
    return result;
}

static void b15_a_device_with_another_image_was_switched(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        enum disk_switch result;
    } cases[] = {
        {OLD("/m.qcow2"), OLD("/mp.qcow2"), SWITCHED},
        {OLD("/m.qcow2"), OLD("/m.qcow2"), NOT_SWITCHED},
        {UNDER("/c.top", "/c.mid"), OLD("/c.base"), SWITCHED},
        {UNDER("/c.top", "/c.mid"), UNDER("/c.top", "/c.mid"), NOT_SWITCHED},
        {NODE("#block118", "/m.qcow2"), NODE("#block688", "/mp.qcow2"), SWITCHED},
        {NODE("#block151", "/m.qcow2"), NODE("#block151", "/m.qcow2"), NOT_SWITCHED},
        /* only nodes tell such images apart */
        {NODE("#block1", "null-co://"), NODE("#block2", "null-co://"), SWITCHED},
        {NODE("#block1", "null-co://"), NODE("#block1", "null-co://"), NOT_SWITCHED},
        {OLD("null-co://"), OLD("null-co://"), SWITCH_UNKNOWN},
        {OLD(""), OLD(""), SWITCH_UNKNOWN},
        {NODE("#block1", ""), NODE("#block1", ""), NOT_SWITCHED},
        /* a filter comes and goes with its job: its name tells nothing */
        {FILTER("/m.qcow2"), NODE("#block1", "/m.qcow2"), NOT_SWITCHED},
        {FILTER("/m.qcow2"), NODE("#block2", "/mp.qcow2"), SWITCHED},
        {FILTER(""), NODE("#block2", ""), SWITCH_UNKNOWN},
        {NODE("#block1", "/m.qcow2"), FILTER("/m.qcow2"), NOT_SWITCHED},
        /* a snapshot that someone took right after it, or several: the old image is still there */
        {OLD("/m.qcow2"), UNDER("/snap", "/m.qcow2"), SWITCH_UNKNOWN},
        {OLD("/m.qcow2"), DEEP_UNDER("/snap", "/m.qcow2"), SWITCH_UNKNOWN},
        {OLD("/m.qcow2"), DEEP_UNDER("/mp.qcow2", "/base"), SWITCHED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (compare(cases[i].before, "drive0", cases[i].after) != cases[i].result)
            fail_msg("%s, then %s", cases[i].before, cases[i].after);
}

static void b15_a_device_without_a_name_is_found_by_its_node(void **state)
{
    (void)state;
#define NAMELESS(qdev, node)                                                                       \
    "[{\"device\": \"\", \"qdev\": \"" qdev "\", \"inserted\": {\"drv\": \"raw\", \"node-name\": " \
    "\"" node "\", \"file\": \"\"}}]"
    assert_int_equal(compare(NAMELESS("/d0", "n"), "n", NAMELESS("/d0", "t")), SWITCHED);
    assert_int_equal(compare(NAMELESS("/d0", "n"), "n", NAMELESS("/d0", "n")), NOT_SWITCHED);
    assert_int_equal(compare(NAMELESS("/d0", "n"), "n", NAMELESS("/d1", "t")), SWITCH_UNKNOWN);
    assert_int_equal(compare(NAMELESS("", "n"), "n", NAMELESS("", "t")), SWITCH_UNKNOWN);
}

static void b15_what_is_not_there_is_not_seen(void **state)
{
    (void)state;
    assert_null(snapshot_of(OLD("/m.qcow2"), "drive1"));
    assert_null(snapshot_of(OLD("/m.qcow2"), "ide1-cd0")); /* empty */
    assert_null(snapshot_of(OLD("/m.qcow2"), ""));
    assert_null(snapshot_of("[]", "drive0"));
    assert_null(snapshot_of("[null, 7, [], {\"device\": 7}]", "drive0"));
    assert_int_equal(compare(OLD("/m.qcow2"), "drive0", "[" CD "]"), SWITCH_UNKNOWN);
    assert_int_equal(compare(OLD("/m.qcow2"), "drive0", "[{\"device\": \"drive0\"}]"),
                     SWITCH_UNKNOWN);
    assert_int_equal(compare(OLD("/m.qcow2"), "drive0", "7"), SWITCH_UNKNOWN);
    assert_int_equal(compare(OLD("/m.qcow2"), "drive0", "{}"), SWITCH_UNKNOWN);
    assert_int_equal(compare(OLD("/m.qcow2"), "drive0", DRIVE("7")), SWITCH_UNKNOWN);
    assert_int_equal(compare(OLD("/m.qcow2"), "drive0", DRIVE("{\"file\": []}")), SWITCH_UNKNOWN);
}

/* ---------------------------------------------------------------------- graphs */

/* The block graph of a mirror: the job 1, its filter 2, the source 3, the target 4; a guest's disk
 * 20, an export 10 and the job's own backend 11, which have no names. */
#define GRAPH(edges)                                                                               \
    "{\"nodes\": ["                                                                                \
    "{\"id\": 20, \"type\": \"block-backend\", \"name\": \"vda\"},"                                \
    "{\"id\": 1, \"type\": \"block-job\", \"name\": \"j\"},"                                       \
    "{\"id\": 2, \"type\": \"block-driver\", \"name\": \"#block011\"},"                            \
    "{\"id\": 3, \"type\": \"block-driver\", \"name\": \"a\"},"                                    \
    "{\"id\": 4, \"type\": \"block-driver\", \"name\": \"b\"},"                                    \
    "{\"id\": 10, \"type\": \"block-backend\", \"name\": \"\"},"                                   \
    "{\"id\": 11, \"type\": \"block-backend\", \"name\": \"\"}], \"edges\": [" edges "]}"
#define EDGE(parent, name, child)                                                                  \
    "{\"parent\": " #parent ", \"name\": \"" name "\", \"child\": " #child "}"
#define IDLE_EDGE(parent, name, child)                                                             \
    "{\"parent\": " #parent ", \"name\": \"" name "\", \"child\": " #child ", \"perm\": []}"
#define AT_WORK                                                                                    \
    EDGE(2, "backing", 3)                                                                          \
    ", " EDGE(1, "source", 3) ", " EDGE(1, "target", 4) ", " EDGE(11, "root", 4) ", "

static void b15_a_graph_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        enum disk_switch result;
    } cases[] = {
        {EDGE(20, "root", 2), EDGE(20, "root", 4), SWITCHED},
        {EDGE(20, "root", 2), EDGE(20, "root", 3), NOT_SWITCHED},
        {EDGE(10, "root", 2), EDGE(10, "root", 4), SWITCHED},
        {EDGE(10, "root", 2), EDGE(10, "root", 3), NOT_SWITCHED},
        {EDGE(20, "root", 2), EDGE(20, "root", 77), SWITCH_UNCLEAR},
    };
    char before[2000], after[2000];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(before, sizeof before, GRAPH(AT_WORK EDGE(1, "main node", 2) ", %s"),
                 cases[i].before);
        snprintf(after, sizeof after, GRAPH("%s"), cases[i].after);
        if (compare(before, "j", after) != cases[i].result)
            fail_msg("%s, then %s", before, after);
    }
    assert_int_equal(compare(before, "j", "{}"), SWITCH_UNKNOWN);
    assert_int_equal(compare(before, "j", "{\"nodes\": 7, \"edges\": {}}"), SWITCH_UNKNOWN);
}

/* Before 6.1 the job's own edge takes no permission, and a backend above the filter is its own. */
static void c83_permissions_are_read(void **state)
{
    (void)state;
#define EXPORTED ", " EDGE(10, "root", 2)
    assert_int_equal(compare(GRAPH(AT_WORK IDLE_EDGE(1, "main node", 2) EXPORTED), "j",
                             GRAPH(EDGE(10, "root", 4))),
                     SWITCH_UNKNOWN);
    assert_int_equal(
        compare(GRAPH(AT_WORK EDGE(1, "main node", 2) EXPORTED), "j", GRAPH(EDGE(10, "root", 4))),
        SWITCHED);
}

/* An intermediate commit is known by what it leaves; all else has to be seen before. */
static void c13_without_a_snapshot(void **state)
{
    (void)state;
    static const struct {
        const char *graph;
        enum disk_switch result;
    } cases[] = {
        {GRAPH(EDGE(1, "main node", 3) ", " EDGE(1, "base", 4)), SWITCHES_NOTHING},
        {GRAPH(AT_WORK EDGE(1, "main node", 2)), SWITCH_UNKNOWN},
        {GRAPH(""), SWITCH_UNKNOWN},
        {OLD("/m.qcow2"), SWITCH_UNKNOWN},
        {"{}", SWITCH_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *root = json_loads(cases[i].graph, 0, NULL);
        struct qmp_graph *graph = qmp_graph_open(root);
        assert_int_equal(qmp_graph_compare(NULL, graph, "j"), cases[i].result);
        assert_int_equal(qmp_graph_compare(NULL, NULL, "j"), SWITCH_UNKNOWN);
        qmp_graph_close(graph);
        json_decref(root);
    }
}

/* Many disks: each job finds its own. */
static void b15_each_of_many_finds_its_own(void **state)
{
    (void)state;
    enum { DISKS = 300 };
    json_t *before = json_pack("{s:[], s:[]}", "nodes", "edges");
    json_t *after = json_pack("{s:[], s:[]}", "nodes", "edges");
    static const char *const kinds[] = {"block-job", "block-driver", "block-driver", "block-driver",
                                        "block-backend"};
    for (int i = 0; i < DISKS; i++) {
        for (int k = 0; k < 5; k++) {
            char name[32];
            snprintf(name, sizeof name, "%c%d", "jfstu"[k], i);
            json_t *node =
                json_pack("{s:i, s:s, s:s}", "id", 5 * i + k, "type", kinds[k], "name", name);
            json_array_append(json_object_get(before, "nodes"), node);
            json_array_insert_new(json_object_get(after, "nodes"), 0, node);
        }
        const struct {
            const char *name;
            int parent, child;
        } edges[] = {{"main node", 0, 1},
                     {"source", 0, 2},
                     {"target", 0, 3},
                     {"backing", 1, 2},
                     {"root", 4, 1}};
        for (int e = 0; e < 5; e++)
            json_array_insert_new(json_object_get(before, "edges"), 0,
                                  json_pack("{s:s, s:i, s:i}", "name", edges[e].name, "parent",
                                            5 * i + edges[e].parent, "child",
                                            5 * i + edges[e].child));
        json_array_append_new(json_object_get(after, "edges"),
                              json_pack("{s:s, s:i, s:i}", "name", "root", "parent", 5 * i + 4,
                                        "child", 5 * i + (i % 2 ? 2 : 3)));
    }
    struct qmp_graph *graph = qmp_graph_open(before);
    struct qmp_graph *graph_after = qmp_graph_open(after);
    for (int i = 0; i < DISKS; i++) {
        char id[32];
        snprintf(id, sizeof id, "j%d", i);
        struct driver_snapshot *snapshot = qmp_graph_snapshot(graph, id);
        assert_non_null(snapshot);
        assert_int_equal(qmp_graph_compare(snapshot, graph_after, id),
                         i % 2 ? NOT_SWITCHED : SWITCHED);
        qmp_free_snapshot(snapshot);
    }
    qmp_graph_close(graph);
    qmp_graph_close(graph_after);
    json_decref(before);
    json_decref(after);
}

static void b56_a_graph_beyond_any_qemus_is_not_read(void **state)
{
    (void)state;
    json_t *nodes = json_array();
    for (int i = 0; i < 16385; i++)
        json_array_append_new(nodes, json_object());
    json_t *root = json_pack("{s:O, s:[]}", "nodes", nodes, "edges");
    assert_null(qmp_graph_open(root));
    assert_null(qmp_graph_open(nodes));
    assert_null(qmp_graph_snapshot(NULL, "j"));
    json_decref(root);
    json_decref(nodes);
}

/* A peer that wants our memory. */
static void b56_only_short_names_are_kept(void **state)
{
    (void)state;
    enum { LONG = 5000 };
    static char before[LONG + 200], after[LONG + 200];
    char name[LONG + 1];
    memset(name, 'x', LONG);
    name[LONG] = '\0';
    snprintf(before, sizeof before, "[{\"device\": \"drive0\", \"inserted\": {\"file\": \"%s\"}}]",
             name);
    snprintf(after, sizeof after, "[{\"device\": \"drive0\", \"inserted\": {\"file\": \"y%s\"}}]",
             name);
    assert_int_equal(compare(before, "drive0", after), SWITCH_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b15_a_device_with_another_image_was_switched),
        cmocka_unit_test(b15_a_device_without_a_name_is_found_by_its_node),
        cmocka_unit_test(b15_what_is_not_there_is_not_seen),
        cmocka_unit_test(b15_a_graph_is_read),
        cmocka_unit_test(c13_without_a_snapshot),
        cmocka_unit_test(c83_permissions_are_read),
        cmocka_unit_test(b15_each_of_many_finds_its_own),
        cmocka_unit_test(b56_a_graph_beyond_any_qemus_is_not_read),
        cmocka_unit_test(b56_only_short_names_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
