/* SPDX-License-Identifier: MIT */
/*
 * Worlds with a domain in them: a libvirtd of the test program's own (tests/support/libvirtd), and
 * guests that never run. What a test does behind the library's back, and what it takes for the
 * truth, goes through virsh, a process of its own.
 */
#ifndef TESTS_LIBVIRT_H
#define TESTS_LIBVIRT_H

#include "world.h"

typedef struct domain {
    char name[32];
    const char *uri; /* of its monitor */
    pid_t qemu;
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

/* One more; it runs on after the test. */
domain *add_domain(world *w);
/* The world's own, and the URI of any that may not be there. */
domain *domain_of(world *w);
const char *domain_uri(world *w, const char *fragment);
/* libvirt's own URI of the daemon. */
const char *host_uri(void);

/* How many more fds than `before` there are once all connections are closed: libvirt's calls block,
 * so that happens some time after the last monitor has gone. */
int fds_left_by_libvirt(int before);

/* Kills its QEMU, without a word to anyone; stops it; lets it go on. */
void kill_domain(domain *d);
void stop_domain(domain *d);
void go_on_domain(domain *d);

/* Kills the daemon, or lets it end in good order; a new one finds the domains again. */
void kill_libvirtd(void);
void stop_libvirtd(void);
void start_libvirtd(void);
void signal_libvirtd(int number);

/* What virsh says to a command, which must succeed; or nothing at all, when it may fail. */
const char *virsh(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool try_virsh(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An empty qcow2 image of the disks' size, for a copy to go into; a path where nothing is. Any user
 * of the machine may write there. */
const char *empty_image(world *w, const char *name);
const char *image_path(world *w, const char *name);
bool same_image(world *w, const char *one, const char *other);

/* A new overlay of that name becomes vda. Its path. */
const char *snapshot_vda(world *w, const char *name);

/* A place on the network, as a disk of libvirt's XML, whose writes fail, or not; the world's server
 * serves it, which can be killed. */
const char *network_store(world *w, bool failing);

/* What libvirt says: the image that is the disk now; where a copy or an active commit is: "none",
 * "running", "ready"; and waiting until it is so. */
const char *source_of(world *w, domain *d, const char *target);
const char *mirror_of(world *w, domain *d, const char *target);
void await_mirror(world *w, domain *d, const char *target, const char *state);

#endif
