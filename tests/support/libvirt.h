/* SPDX-License-Identifier: MIT */
/*
 * Worlds with a domain in them, of a libvirtd that belongs to the test program: the steps of
 * tests/support/libvirtd. A step that is refused fails the test.
 */
#ifndef TESTS_LIBVIRT_H
#define TESTS_LIBVIRT_H

#include "world.h"

typedef struct domain {
    const char *name;
    const char *uri;    /* of its monitor */
    const char *prefix; /* of the paths of its images */
} domain;

/* As options of a copy: it goes into the qcow2 image that is there; and it copies nothing but a
 * first piece before its speed is set to 0. */
#define REUSE JSON({"reuse": true, "format": "qcow2"})
#define REUSE_HALTED JSON({"reuse": true, "format": "qcow2", "bandwidth": 1, "buf-size": 65536})

/* Runs the tests with one libvirtd, in which each has domains of its own; says that they are
 * skipped where there is none. */
#define run_on_libvirt(tests)                                                                      \
    run_tests_on_libvirt(#tests, tests, sizeof(tests) / sizeof((tests)[0]))
int run_tests_on_libvirt(const char *name, const struct CMUnitTest *tests, size_t count);

/* Set-up of a test: with a domain that has the disks vda and vdb, paused, and connected to it; or
 * not connected yet. */
int world_domain(void **state);
int world_domain_unconnected(void **state);
#define DOMAIN_TEST(name) cmocka_unit_test_setup_teardown(name, world_domain, world_end)
#define UNCONNECTED_DOMAIN_TEST(name)                                                              \
    cmocka_unit_test_setup_teardown(name, world_domain_unconnected, world_end)

/* The same with two more disks, vdc and vdd, whose data are in a network store: a job that reads
 * them halts while the store is stopped, and fails when it is killed. From QEMU 10 on, a part of a
 * backup that ends while another one is halted leaves QEMU deaf until that goes on. */
int world_stored_domain(void **state);
domain *add_stored_domain(world *w);
#define STORED_DOMAIN_TEST(name)                                                                   \
    cmocka_unit_test_setup_teardown(name, world_stored_domain, world_end)

/* Makes another domain. It runs until the program ends: while libvirtd clears up after a domain,
 * for a second or two, it reports no events of the others. */
domain *add_domain(world *w);
/* The same, by a name that no other has now. */
domain *add_domain_named(world *w, const char *name);
/* One that stays defined when it stops, so that it can be started again. */
domain *add_persistent_domain(world *w);
void begin_domain(domain *d);
void define_inactive_domain(const char *name);
/* The world's own domain; the URI of one that may not exist. */
domain *domain_of(world *w);
const char *domain_uri(world *w, const char *fragment);
/* libvirt's own URI of the daemon. */
const char *host_uri(void);

/* What not every libvirt can do, or not with every QEMU: "back up"; "change the speed of a backup";
 * "abort softly", so that a ready copy stays good. A test that needs another is skipped. */
bool libvirt_can(const char *ability);
#define needs_libvirt_that_can(ability)                                                            \
    do {                                                                                           \
        if (!libvirt_can(ability))                                                                 \
            skip_because("this libvirt, or its QEMU, cannot " ability);                            \
    } while (0)
/* How a ready copy ends that is aborted. */
bj_outcome aborted_when_ready(void);

/* How many more fds than `before` there are once all connections are closed: libvirt's calls block,
 * so that happens some time after the last monitor has gone. */
int fds_left_by_libvirt(int before);

/* Signals its QEMU, behind libvirt's back: "KILL", "STOP" or "CONT". */
void signal_domain(const domain *d, const char *name);
#define kill_domain(d) signal_domain(d, "KILL")
#define stop_domain(d) signal_domain(d, "STOP")
#define go_on_domain(d) signal_domain(d, "CONT")

/* Signals the daemon; "TERM" ends it in good order. A new one finds the running domains again. */
void signal_libvirtd(const char *name);
#define kill_libvirtd() signal_libvirtd("KILL")
#define stop_libvirtd() signal_libvirtd("TERM")
void start_libvirtd(void);

/* The URI of a monitor of the world's domain over "tcp" or "tls" on loopback; NULL, and *ret_lack,
 * where there is none. A daemon that has been started again listens elsewhere. */
const char *remote_uri(world *w, const char *transport, const char **ret_lack);

/* What virsh prints for a command, whose words are separated by spaces. */
const char *virsh(world *w, const char *words);

/* An empty qcow2 image of the disks' size, for a copy; the path of an image that may not exist. */
const char *empty_image(world *w, const char *name);
const char *image_path(world *w, const char *name);
/* One that can be opened, and to which no write succeeds. */
const char *unwritable_image(world *w, const char *name);
bool same_image(const char *one, const char *other);

/* What libvirt reports: the image that is the disk now, and the length of its chain; the state of a
 * copy or an active commit: "none", "running" or "ready". await_mirror() waits for a state. */
const char *source_of(world *w, domain *d, const char *disk);
size_t layers_of(domain *d, const char *disk);
const char *mirror_of(world *w, domain *d, const char *disk);
void await_mirror(domain *d, const char *disk, const char *state);

/* What another client does: it puts a new overlay on top of vda, and its path is returned; it
 * copies vda, and a halted copy stops until it is released; it begins a backup; it does "pivot",
 * "abort" or "release".
 */
const char *snapshot_vda(world *w, const char *name);
void their_copy(domain *d, const char *name, bool halted);
void their_backup(domain *d, const char *xml);
void their_verb(domain *d, const char *disk, const char *verb);
void destroy_domain(domain *d);

/* Another libvirtd, to which domains migrate. Before the test's world, which counts its fds. */
void start_other_host(void);
/* Skips the test where there is none, as the kernel gives nobody a host name of its own. Before the
 * test connects to anything. */
void need_other_host(void);
/* A domain with a large disk vda, which a slow migration takes minutes to copy. */
domain *add_large_domain(world *w);
/* virsh begins to move the domain, and the content of its disks, to the other host, and is waited
 * for: "" if the domain has moved, else why not. */
void begin_migration(domain *d, bool slowly);
const char *end_migration(world *w, domain *d);
bool abort_migration(domain *d); /* false: there is none any more */

/* Starts a network store for a copy of the world's domain, and returns it as a disk of libvirt's
 * XML; to a failing one no write succeeds. */
const char *network_store(world *w, bool failing);
void kill_store(domain *d);
/* While it is stopped, jobs that read from it or write into it halt, and can't end. */
void stop_store(domain *d);
void go_on_store(domain *d);

#endif
