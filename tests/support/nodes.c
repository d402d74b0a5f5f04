/* SPDX-License-Identifier: MIT */
/*
 * The steps of tests/support/qemu, as functions.
 */
#include "nodes.h"

#include "qemus.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

static void let_go_json(void *thing)
{
    json_decref(thing);
}

/* One step of the world's QEMU, which must succeed: its answer, which lives as long as the world.
 */
static json_t *act(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static json_t *act(world *w, const char *format, ...)
{
    char *step;
    va_list arguments;
    va_start(arguments, format);
    assert_true(vasprintf(&step, format, arguments) >= 0);
    va_end(arguments);
    json_t *answer = helper_do(qemus(), "{\"qemu\": \"%s\", %s", w->dir, step + 1);
    free(step);
    world_keeps(w, answer, let_go_json);
    return answer;
}

static const char *text_in(json_t *answer, const char *key)
{
    return json_string_value(json_object_get(answer, key));
}

int start_qemu(world *w, const char *program, const char *tcp)
{
    json_t *answer =
        helper_do(qemus(), JSON({"do": "start", "program": "%s", "directory": "%s", "tcp": "%s"}),
                                program, w->dir, tcp ? tcp : "");
    world_keeps(w, answer, let_go_json);
    return (int)json_integer_value(json_object_get(answer, "port"));
}

/* Of this process, whose only connection to a socket of that name is the library's. */
void cut_connection(const char *path)
{
    DIR *fds = opendir("/proc/self/fd");
    assert_non_null(fds);
    const struct dirent *entry;
    int cut = 0;
    while ((entry = readdir(fds))) {
        struct sockaddr_un peer = {0};
        socklen_t size = sizeof peer - 1;
        int fd = atoi(entry->d_name);
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sun_family == AF_UNIX &&
            strcmp(peer.sun_path, path) == 0)
            cut += shutdown(fd, SHUT_RDWR) == 0;
    }
    closedir(fds);
    assert_int_equal(cut, 1);
}

void kill_qemu(world *w)
{
    act(w, JSON({"do": "kill"}));
}

void stop_qemu(world *w)
{
    act(w, JSON({"do": "stop"}));
}

void go_on_qemu(world *w)
{
    act(w, JSON({"do": "go-on"}));
}

json_t *qmp(world *w, const char *command, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    assert_true(!format || vasprintf(&text, format, arguments) >= 0);
    va_end(arguments);
    json_t *answer =
        act(w, JSON({"do": "qmp", "execute": "%s", "arguments": %s}), command, text ? text : "{}");
    free(text);
    json_t *result = json_object_get(answer, "return");
    if (!result)
        fail_msg("%s: %s", command, text_in(json_object_get(answer, "error"), "desc"));
    return result;
}

void await_event(world *w, const char *event, const char *key, const char *value)
{
    act(w, JSON({"do": "wait", "event": "%s", "data": {"%s": "%s"}}), event, key, value);
}

void await_status(world *w, const char *id, const char *status)
{
    act(w, JSON({"do": "wait", "event": "JOB_STATUS_CHANGE", "data": {"id": "%s", "status": "%s"}}),
                 id, status);
}

const char *last_event_of(world *w, const char *id)
{
    return text_in(act(w, JSON({"do": "last-of", "job": "%s"}), id), "event");
}

void add_disk(world *w, const char *name)
{
    act(w, JSON({"do": "disk", "name": "%s"}), name);
}

void add_empty(world *w, const char *name)
{
    act(w, JSON({"do": "empty", "name": "%s"}), name);
}

bool same_data(world *w, const char *one, const char *other)
{
    json_t *answer = act(w, JSON({"do": "same-data", "one": "%s", "other": "%s"}), one, other);
    return json_is_true(json_object_get(answer, "same"));
}

void add_null(world *w, const char *name, int bytes)
{
    act(w, JSON({"do": "null", "name": "%s", "size": %d}), name, bytes);
}

void add_failing_once(world *w, const char *name, const char *iotype)
{
    act(w, JSON({"do": "failing", "name": "%s", "iotype": "%s", "once": true}), name, iotype);
}

void add_failing(world *w, const char *name, const char *iotype)
{
    act(w, JSON({"do": "failing", "name": "%s", "iotype": "%s"}), name, iotype);
}

void add_braked(world *w, const char *name)
{
    json_t *answer = act(w, JSON({"do": "braked", "name": "%s"}), name);
    if (!json_is_true(json_object_get(answer, "braked")))
        skip();
}

void release_brake(world *w, const char *name)
{
    act(w, JSON({"do": "release-brake", "name": "%s"}), name);
}

void add_full(world *w, const char *name)
{
    act(w, JSON({"do": "failing", "name": "%s", "errno": 28, "once": true}), name);
}

void add_served(world *w, const char *name)
{
    act(w, JSON({"do": "served", "name": "%s"}), name);
}

void hang(world *w, const char *name)
{
    act(w, JSON({"do": "hang", "name": "%s"}), name);
}

void answer(world *w, const char *name)
{
    act(w, JSON({"do": "answer", "name": "%s"}), name);
}

void add_chain(world *w)
{
    act(w, JSON({"do": "chain"}));
}

const char *backing_of(world *w, const char *name)
{
    return text_in(act(w, JSON({"do": "backing-of", "name": "%s"}), name), "node");
}

void add_guest(world *w, const char *node)
{
    act(w, JSON({"do": "guest", "node": "%s"}), node);
}

void guest_writes(world *w, const char *node)
{
    act(w, JSON({"do": "guest-writes", "node": "%s"}), node);
}

const char *disk_of_guest(world *w)
{
    return text_in(act(w, JSON({"do": "disk-of-guest"})), "node");
}

const char *status_of(world *w, const char *id)
{
    const char *status = text_in(json_object_get(act(w, JSON({"do": "jobs"})), "jobs"), id);
    return status ? status : "";
}

size_t count_jobs(world *w)
{
    return json_object_size(json_object_get(act(w, JSON({"do": "jobs"})), "jobs"));
}
