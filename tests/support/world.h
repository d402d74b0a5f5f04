/* SPDX-License-Identifier: MIT */
/*
 * What a test of the library happens in: a QEMU, a context and a monitor. A world owns whatever a
 * test keeps in it and ends with the same fds open as it began with.
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include "cmocka_all.h"
#include "helper.h"

#include <blockjob/blockjob.h>

typedef struct world {
    bj_ctx *ctx;
    bj_monitor *monitor;   /* on QEMU's first socket; NULL where there is no QEMU */
    char *dir;             /* a directory of its own; QEMU's first.qmp and second.qmp are there */
    pid_t server;          /* that the test itself has forked */
    int qemu;              /* the number of the fake one */
    struct domain *domain; /* the first of those that libvirt has: libvirt.h */
    struct kept *kept;
    int fds;
} world;

/* Set-up and tear-down of a test. The tear-down also checks that no fd was left open. */
int world_alone(void **state);  /* a context and a directory */
int world_daemon(void **state); /* and a qemu-storage-daemon, connected */
int world_system(void **state); /* and a qemu-system-x86_64, connected */
int world_end(void **state);
#define ALONE_TEST(name) cmocka_unit_test_setup_teardown(name, world_alone, world_end)

/* The set-up of a test that is run on both servers, by run_on_both(); and its line in the table. */
int world_real(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_real, world_end)
#define run_on_both(tests) run_tests_on_both(tests, sizeof(tests) / sizeof(tests[0]))
int run_tests_on_both(const struct CMUnitTest *tests, size_t count);

/* The path of a file of that name in the world's directory. */
const char *path_of(world *w, const char *name);
/* A formatted text that lives as long as the world. */
const char *text_of(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The world keeps the thing, until its end. */
void world_keeps(world *w, void *thing, void (*let_go)(void *thing));

/* The world keeps the reference, until its end. Both answer what they were given. */
bj_future *hold(world *w, bj_future *future);
bj_job *hold_job(world *w, bj_job *job);
bj_group *hold_group(world *w, bj_group *group);
bj_monitor *hold_monitor(world *w, bj_monitor *monitor);
bj_watch *hold_watch(world *w, bj_watch *watch);
bj_queue *hold_queue(world *w, bj_queue *queue);

/* Waits for the future and fails the test if its error, or its outcome, is another. `answers` is
 * for a future that something else holds; `expect` makes the world hold it. All answer the future.
 */
#define answers(future, error) answers_at(future, error, __FILE__, __LINE__)
#define ends(future, error, outcome) ends_at(future, error, outcome, __FILE__, __LINE__)
#define expect(w, future, error) answers(hold(w, future), error)
#define expect_end(w, future, error, outcome) ends(hold(w, future), error, outcome)

bj_future *answers_at(bj_future *future, int error, const char *file, int line);
bj_future *ends_at(bj_future *future, int error, bj_outcome outcome, const char *file, int line);

/* Its text names the thing: fails the test if `word` isn't in it. */
#define names(future, word) names_at(future, word, __FILE__, __LINE__)
void names_at(bj_future *future, const char *word, const char *file, int line);

/* A monitor on that URI, which must come about. */
bj_monitor *connect_to(world *w, const char *uri);

/* Starts a job, which must come about; the world holds it. */
bj_job *start(world *w, const char *command, const char *arguments);
bj_job *mirror(world *w, const char *device, const char *target, const char *options);
bj_job *attach(world *w, const char *id);

/* Connected to a peer that plays that (peer.h); then part_from_peer(). */
struct peer;
bj_monitor *meet_peer(world *w, void (*play)(struct peer *p, void *user), void *user,
                      struct peer **ret_peer);
void part_from_peer(bj_monitor *monitor, struct peer *p);

#endif
