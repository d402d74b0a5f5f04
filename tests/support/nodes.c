/* SPDX-License-Identifier: MIT */
/*
 * Block nodes, by blockdev-add.
 */
#include "nodes.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Large enough for a job to be seen in the middle of it. */
#define DISK_BYTES (4 * 1024 * 1024)

static const char *make_file(world *w, const char *name, bool filled)
{
    const char *path = path_of(w, text_of(w, "%s.raw", name));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    if (filled) {
        char *data = malloc(DISK_BYTES);
        assert_non_null(data);
        memset(data, name[0], DISK_BYTES);
        assert_int_equal(write(fd, data, DISK_BYTES), DISK_BYTES);
        free(data);
    }
    close(fd);
    return path;
}

static void add_raw(world *w, const char *name, const char *path)
{
    json_decref(client_do(
        w->other, "blockdev-add",
        JSON({"driver": "raw", "node-name": "%s",
                                "file": {"driver": "file", "filename": "%s"}}),
              name, path));
}

/* Programs of qemu-utils and cmp, run to their end. */
static void run(const char *command)
{
    assert_int_equal(system(command), 0);
}

void add_disk(world *w, const char *name)
{
    add_raw(w, name, make_file(w, name, true));
}

void add_empty(world *w, const char *name)
{
    add_raw(w, name, make_file(w, name, false));
}

void add_null(world *w, const char *name, int bytes)
{
    json_decref(
        client_do(w->other, "blockdev-add",
                  JSON({"driver": "null-co", "node-name": "%s", "size": %d,
                                "read-zeroes": true}),
                       name, bytes));
}

static void add_blkdebug(world *w, const char *name, const char *iotype, const char *once)
{
    int sector = strcmp(iotype, "flush") == 0 ? -1 : DISK_BYTES / 2 / 512;
    json_decref(client_do(w->other, "blockdev-add",
                          JSON({"driver": "blkdebug", "node-name": "%s",
                                "inject-error": [{"event": "none", "iotype": "%s", "errno": 5,
                                                  "sector": %d, "once": %s}],
                                "image": {"driver": "file", "filename": "%s"}}),
                                name, iotype, sector, once, make_file(w, name, false)));
}

void add_failing_once(world *w, const char *name, const char *iotype)
{
    add_blkdebug(w, name, iotype, "true");
}

void add_failing(world *w, const char *name, const char *iotype)
{
    add_blkdebug(w, name, iotype, "false");
}

#define BRAKED                                                                                     \
    JSON({"driver": "throttle", "node-name": "%s", "throttle-group": "brake", "file": "%s"})

static json_t *find(json_t *array, const char *key, json_t *value)
{
    size_t i;
    json_t *entry;
    json_array_foreach(array, i, entry)
    {
        if (json_equal(json_object_get(entry, key), value))
            return entry;
    }
    return NULL;
}

static bool has_command(world *w, const char *command)
{
    json_t *commands = client_do(w->other, "query-commands", NULL);
    json_t *name = json_string(command);
    bool found = find(commands, "name", name) != NULL;
    json_decref(name);
    json_decref(commands);
    return found;
}

void add_braked(world *w, const char *name)
{
    if (!has_command(w, "object-add") || !has_command(w, "blockdev-reopen"))
        skip();
    const char *below = text_of(w, "below-%s", name);
    add_empty(w, below);
    json_decref(
        client_do(w->other, "object-add",
                  JSON({"qom-type": "throttle-group", "id": "brake",
                                "limits": {"bps-write": 1}})));
    json_decref(client_do(w->other, "blockdev-add", BRAKED, name, below));
}

void release_brake(world *w, const char *name)
{
    json_decref(client_do(
        w->other, "qom-set",
        JSON({"path": "/objects/brake", "property": "limits",
                                "value": {"bps-write": 0}})));
    /* A reopen drains the node, which lets go the writes that already wait. */
    json_decref(client_do(w->other, "blockdev-reopen", "{\"options\": [" BRAKED "]}", name,
                          text_of(w, "below-%s", name)));
}

void add_chain(world *w)
{
    static const char *const names[] = {"base", "middle", "active"};
    const char *backing = "";

    for (int i = 0; i < 3; i++) {
        const char *path = path_of(w, text_of(w, "%s.qcow2", names[i]));
        run(text_of(w, "qemu-img create -q -f qcow2 %s %s %d", backing, path, DISK_BYTES));
        run(text_of(w, "qemu-io -f qcow2 -c 'write -q -P %d %dM 2M' %s", i + 1, i, path));
        backing = text_of(w, "-F qcow2 -b %s", path);
    }
    for (int i = 0; i < 3; i++) {
        const char *below_it = i ? text_of(w, "\"%s\"", names[i - 1]) : "null";
        json_decref(client_do(w->other, "blockdev-add",
                              JSON({"driver": "qcow2", "node-name": "%s", "backing": %s,
                                    "file": {"driver": "file", "filename": "%s"}}),
                                    names[i], below_it,
                                    path_of(w, text_of(w, "%s.qcow2", names[i]))));
    }
}

bool same_data(world *w, const char *one, const char *other)
{
    return system(text_of(w, "cmp -s %s.raw %s.raw", path_of(w, one), path_of(w, other))) == 0;
}

const char *backing_of(world *w, const char *name)
{
    json_t *graph = client_do(w->other, "x-debug-query-block-graph", NULL);
    json_t *nodes = json_object_get(graph, "nodes");
    json_t *wanted = json_string(name);
    json_t *parent = json_object_get(find(nodes, "name", wanted), "id");

    const char *found = "";
    size_t i;
    json_t *edge;
    json_array_foreach(json_object_get(graph, "edges"), i, edge)
    {
        if (json_equal(json_object_get(edge, "parent"), parent) &&
            strcmp(json_string_value(json_object_get(edge, "name")), "backing") == 0) {
            json_t *child = find(nodes, "id", json_object_get(edge, "child"));
            found = text_of(w, "%s", json_string_value(json_object_get(child, "name")));
        }
    }
    json_decref(wanted);
    json_decref(graph);
    return found;
}

void add_guest(world *w, const char *node)
{
    json_decref(client_do(w->other, "nbd-server-start",
                          JSON({"addr": {"type": "unix", "data": {"path": "%s"}}}),
                                path_of(w, "guest.sock")));
    json_decref(
        client_do(w->other, "block-export-add",
                  JSON({"type": "nbd", "id": "guest", "node-name": "%s", "writable": true}), node));
}

void guest_writes(world *w, const char *node)
{
    run(text_of(w,
                "qemu-io -f raw -c 'write -q -P 7 0 64k' -c 'write -q -P 7 1M 64k' "
                "-c 'write -q -P 7 2M 64k' -c 'write -q -P 7 3M 64k' 'nbd+unix:///%s?socket=%s'",
                node, path_of(w, "guest.sock")));
}

const char *disk_of_guest(world *w)
{
    json_t *exports = client_do(w->other, "query-block-exports", NULL);
    json_t *name = json_object_get(json_array_get(exports, 0), "node-name");
    const char *found = text_of(w, "%s", json_string_value(name));
    json_decref(exports);
    return found;
}

const char *status_of(world *w, const char *id)
{
    json_t *jobs = client_do(w->other, "query-jobs", NULL);
    const char *status = "";
    size_t i;
    json_t *job;
    json_array_foreach(jobs, i, job)
    {
        if (strcmp(json_string_value(json_object_get(job, "id")), id) == 0)
            status = text_of(w, "%s", json_string_value(json_object_get(job, "status")));
    }
    json_decref(jobs);
    return status;
}

size_t count_jobs(world *w)
{
    json_t *jobs = client_do(w->other, "query-jobs", NULL);
    size_t count = json_array_size(jobs);
    json_decref(jobs);
    return count;
}
