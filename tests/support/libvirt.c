/* SPDX-License-Identifier: MIT */
/*
 * The C client of tests/support/libvirtd; a test program has one libvirtd.
 */
#include "libvirt.h"

#include "counts.h"
#include "helper.h"
#include "qemus.h"

#include <dlfcn.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static const char *const program[] = {"tests/support/libvirtd", NULL};
static helper *host, *other_host;
static char uri[256];
static json_t *abilities;
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

/* GLib's default main context, and its eventfd, which libvirt makes for the whole process when one
 * of its threads first wants to wake it: rarely, and it is no leak of the test that was running. */
static void make_glibs_context(void)
{
    void *glib = dlopen("libglib-2.0.so.0", RTLD_NOW);
    void *make = glib ? dlsym(glib, "g_main_context_default") : NULL;
    if (make)
        ((void *(*)(void))(uintptr_t)make)();
}

static int host_begin(void **state)
{
    (void)state;
    /* As most programs do, so that libvirt speaks the user's language here, too. */
    setlocale(LC_CTYPE, "");
    setlocale(LC_MESSAGES, "");
    make_glibs_context();
    host = helper_start(program);
    json_t *answer = helper_do(host, JSON({"do": "host"}));
    snprintf(uri, sizeof(uri), "%s", json_string_value(json_object_get(answer, "uri")));
    abilities = json_incref(json_object_get(answer, "can"));
    json_decref(answer);
    (void)qemus(); /* so that its socket is counted, too */
    sockets_of_helpers = count_sockets();
    return 0;
}

static int host_end(void **state)
{
    (void)state;
    json_decref(abilities);
    helper_end(host);
    helper_end(other_host);
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

bool libvirt_can(const char *ability)
{
    size_t i;
    json_t *each;
    json_array_foreach(abilities, i,
                       each) if (strcmp(json_string_value(each), ability) == 0) return true;
    return false;
}

bj_outcome aborted_when_ready(void)
{
    return libvirt_can("abort softly") ? BJ_OUTCOME_COPIED : BJ_OUTCOME_CANCELLED;
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

const char *remote_uri(world *w, const char *transport, const char **ret_lack)
{
    json_t *answer = helper_do(host, JSON({"do": "listen", "transport": "%s"}), transport);
    const char *base = json_string_value(json_object_get(answer, "uri"));
    const char *lack = json_string_value(json_object_get(answer, "lack"));
    const char *found = base ? text_of(w, "%s#%s", base, domain_of(w)->name) : NULL;
    *ret_lack = lack ? text_of(w, "%s", lack) : NULL;
    json_decref(answer);
    return found;
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

domain *add_large_domain(world *w)
{
    return keep_domain(w,
                       helper_do(host, JSON({"do": "domain", "targets": ["vda"], "large": true})));
}

domain *add_domain_named(world *w, const char *name)
{
    return keep_domain(w, helper_do(host, JSON({"do": "domain", "name": "%s"}), name));
}

domain *add_persistent_domain(world *w)
{
    return keep_domain(w, helper_do(host, JSON({"do": "domain", "persistent": true})));
}

void begin_domain(domain *d)
{
    step(JSON({"do": "begin", "domain": "%s"}), d->name);
}

domain *add_stored_domain(world *w)
{
    return keep_domain(
        w, helper_do(host, JSON({"do": "domain", "targets": ["vda", "vdb", "vdc", "vdd"], "stored": ["vdc", "vdd"]})));
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
    w->domain = add_stored_domain(w);
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
    /* Fewer than before: a connection closes its socket first, and what the first test left of one
     * may have gone only now. */
    return left > 0 ? left : 0;
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

/* --------------------------------------------------------------- migration */

void start_other_host(void)
{
    json_t *answer = helper_do(host, JSON({"do": "host"}));
    bool can_migrate = json_is_true(json_object_get(answer, "can_migrate"));
    json_decref(answer);
    if (can_migrate && !other_host)
        other_host = helper_start(program);
    sockets_of_helpers = count_sockets();
}

void need_other_host(void)
{
    if (!other_host)
        skip();
}

void begin_migration(domain *d, bool slowly)
{
    json_t *disks = helper_do(host, JSON({"do": "disks", "domain": "%s"}), d->name);
    json_object_set_new(disks, "do", json_string("expect"));
    json_object_del(disks, "ok");
    char *expect = json_dumps(disks, 0);
    json_t *place = helper_do(other_host, "%s", expect);
    json_object_set_new(place, "do", json_string("migrate"));
    json_object_set_new(place, "domain", json_string(d->name));
    json_object_set_new(place, "slowly", json_boolean(slowly));
    json_object_del(place, "ok");
    char *migrate = json_dumps(place, 0);
    step("%s", migrate);
    free(migrate);
    free(expect);
    json_decref(place);
    json_decref(disks);
}

bool abort_migration(domain *d)
{
    json_t *answer = helper_try(host, JSON({"do": "virsh", "words": "domjobabort %s"}), d->name);
    bool was_there = json_is_true(json_object_get(answer, "ok"));
    json_decref(answer);
    return was_there;
}

const char *end_migration(world *w, domain *d)
{
    return ask(w, "reason", JSON({"do": "migrated", "domain": "%s"}), d->name);
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

static void signal_store(const domain *d, const char *name)
{
    step(JSON({"do": "signal", "domain": "%s", "name": "%s", "store": true}), d->name, name);
}

void stop_store(domain *d)
{
    signal_store(d, "STOP");
}

void go_on_store(domain *d)
{
    signal_store(d, "CONT");
}
