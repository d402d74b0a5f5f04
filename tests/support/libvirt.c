/* SPDX-License-Identifier: MIT */
/*
 * The C client of tests/support/libvirtd; a test program has one libvirtd.
 */
#include "libvirt.h"

#include "counts.h"
#include "helper.h"
#include "qemus.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static helper *host;
static char uri[256];
static int sockets_of_helpers;

static int count_sockets(void)
{
    int count = 0;
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++) {
        struct stat is;
        count += fstat(fd, &is) == 0 && S_ISSOCK(is.st_mode);
    }
    return count;
}

static int host_begin(void **state)
{
    (void)state;
    static const char *const program[] = {"tests/support/libvirtd", NULL};
    host = helper_start(program);
    json_t *answer = helper_do(host, JSON({"do": "host"}));
    snprintf(uri, sizeof(uri), "%s", json_string_value(json_object_get(answer, "uri")));
    json_decref(answer);
    (void)qemus(); /* so that its socket is counted, too */
    sockets_of_helpers = count_sockets();
    return 0;
}

static int host_end(void **state)
{
    (void)state;
    helper_end(host);
    return 0;
}

int run_tests_on_libvirt(const char *name, const struct CMUnitTest *tests, size_t count)
{
    int lack = system("python3 tests/support/libvirtd --missing");
    if (WEXITSTATUS(lack) == SKIPPED) {
        print_message("[  SKIPPED ] %zu test(s).\n", count);
        return 0;
    }
    return _cmocka_run_group_tests(name, tests, count, host_begin, host_end);
}

/* ask() does a step and returns the text of that name in its answer; the world keeps it. */
#define ask(w, result, ...) text_in(w, helper_do(host, __VA_ARGS__), result)
#define step(...) json_decref(helper_do(host, __VA_ARGS__))

static const char *text_in(world *w, json_t *answer, const char *result)
{
    const char *text = text_of(w, "%s", json_string_value(json_object_get(answer, result)));
    json_decref(answer);
    return text;
}

/* --------------------------------------------------------------- the daemon */

const char *host_uri(void)
{
    return uri;
}

const char *domain_uri(world *w, const char *fragment)
{
    return text_of(w, "%s#%s", uri, fragment);
}

void signal_libvirtd(const char *name)
{
    step(JSON({"do": "signal", "name": "%s"}), name);
}

void start_libvirtd(void)
{
    step(JSON({"do": "start"}));
}

const char *virsh(world *w, const char *words)
{
    return ask(w, "output", JSON({"do": "virsh", "words": "%s"}), words);
}

/* -------------------------------------------------------------- the domains */

static domain *keep_domain(world *w, json_t *made)
{
    domain *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    world_keeps(w, d, free);
    d->name = text_in(w, json_incref(made), "name");
    d->uri = text_in(w, json_incref(made), "uri");
    d->prefix = text_in(w, made, "prefix");
    return d;
}

domain *add_domain(world *w)
{
    return keep_domain(w, helper_do(host, JSON({"do": "domain"})));
}

domain *domain_of(world *w)
{
    assert_non_null(w->domain);
    return w->domain;
}

int world_domain_unconnected(void **state)
{
    world_alone(state);
    world *w = *state;
    w->domain = add_domain(w);
    return 0;
}

int world_domain(void **state)
{
    world_domain_unconnected(state);
    world *w = *state;
    w->monitor = connect_to(w, w->domain->uri);
    return 0;
}

int world_stored_domain(void **state)
{
    world_alone(state);
    world *w = *state;
    w->domain = keep_domain(
        w,
        helper_do(host, JSON({"do": "domain", "targets": ["vda", "vdb", "vdc"], "stored": "vdc"})));
    w->monitor = connect_to(w, w->domain->uri);
    return 0;
}

void define_inactive_domain(const char *name)
{
    step(JSON({"do": "domain", "name": "%s", "running": false}), name);
}

void signal_domain(const domain *d, const char *name)
{
    step(JSON({"do": "signal", "domain": "%s", "name": "%s"}), d->name, name);
}

int fds_left_by_libvirt(int before)
{
    /* What the first monitor makes for the whole process, libvirt's event loop, is no leak. */
    static bool has_loop;
    for (int i = 0; i < 20 * 1000; i++) {
        if (count_sockets() == sockets_of_helpers && (!has_loop || count_fds() <= before))
            break;
        usleep(1000);
    }
    int left = count_sockets() - sockets_of_helpers;
    if (has_loop)
        left = count_fds() - before;
    has_loop = true;
    return left;
}

/* -------------------------------------------------------------------- disks */

const char *image_path(world *w, const char *name)
{
    return text_of(w, "%s-%s", domain_of(w)->prefix, name);
}

const char *empty_image(world *w, const char *name)
{
    return ask(w, "path",
               JSON({"do": "image", "domain": "%s", "name": "%s"}), domain_of(w)->name, name);
}

const char *unwritable_image(world *w, const char *name)
{
    return ask(w, "path",
               JSON({"do": "unwritable_image", "domain": "%s", "name": "%s"}), domain_of(w)->name,
                    name);
}

bool same_image(const char *one, const char *other)
{
    json_t *answer =
        helper_do(host, JSON({"do": "same_data", "one": "%s", "other": "%s"}), one, other);
    bool same = json_is_true(json_object_get(answer, "same"));
    json_decref(answer);
    return same;
}

static json_t *look_at(domain *d, const char *disk)
{
    return helper_do(host, JSON({"do": "disk", "domain": "%s", "disk": "%s"}), d->name, disk);
}

const char *source_of(world *w, domain *d, const char *disk)
{
    json_t *answer = look_at(d, disk);
    json_t *chain = json_object_get(answer, "chain");
    const char *source = text_of(w, "%s", json_string_value(json_array_get(chain, 0)));
    json_decref(answer);
    return source;
}

size_t layers_of(domain *d, const char *disk)
{
    json_t *answer = look_at(d, disk);
    size_t count = json_array_size(json_object_get(answer, "chain"));
    json_decref(answer);
    return count;
}

const char *mirror_of(world *w, domain *d, const char *disk)
{
    return text_in(w, look_at(d, disk), "mirror");
}

void await_mirror(domain *d, const char *disk, const char *state)
{
    step(JSON({"do": "await_mirror", "domain": "%s", "disk": "%s", "state": "%s"}), d->name, disk,
              state);
}

/* ----------------------------------------------------- what another client does */

const char *snapshot_vda(world *w, const char *name)
{
    return ask(w, "path",
               JSON({"do": "snapshot", "domain": "%s", "disk": "vda", "name": "%s"}),
                    domain_of(w)->name, name);
}

void their_copy(domain *d, const char *name, bool halted)
{
    step(JSON({"do": "copy", "domain": "%s", "disk": "vda", "name": "%s", "halted": %s}), d->name,
              name, halted ? "true" : "false");
}

void their_backup(domain *d, const char *xml)
{
    step(JSON({"do": "begin_backup", "domain": "%s", "xml": "%s"}), d->name, xml);
}

void their_verb(domain *d, const char *disk, const char *verb)
{
    step(JSON({"do": "job", "domain": "%s", "disk": "%s", "action": "%s"}), d->name, disk, verb);
}

void destroy_domain(domain *d)
{
    step(JSON({"do": "destroy", "domain": "%s"}), d->name);
}

/* ------------------------------------------------------------------ network */

const char *network_store(world *w, bool failing)
{
    return ask(w, "xml",
               JSON({"do": "store", "domain": "%s", "failing": %s}), domain_of(w)->name,
                    failing ? "true" : "false");
}

void kill_store(domain *d)
{
    step(JSON({"do": "kill_store", "domain": "%s"}), d->name);
}

void signal_store(const domain *d, const char *name)
{
    step(JSON({"do": "signal_store", "domain": "%s", "name": "%s"}), d->name, name);
}
