/* SPDX-License-Identifier: MIT */
/*
 * Worlds with tests/fakeqemu in them: a QEMU that does what the test says, when it says.
 */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include "world.h"

/* Runs the tests with one fakeqemu process, in which each test has a QEMU of its own. */
#define run_on_fake(tests) cmocka_run_group_tests(tests, fake_begin, fake_end)
int fake_begin(void **state);
int fake_end(void **state);

/* Set-up of a test: connected to its QEMU, or not yet. */
int world_fake(void **state);
int world_fake_unconnected(void **state);
#define FAKE_TEST(name) cmocka_unit_test_setup_teardown(name, world_fake, world_end)
#define UNCONNECTED_TEST(name)                                                                     \
    cmocka_unit_test_setup_teardown(name, world_fake_unconnected, world_end)

/* From here on the world's QEMU and monitor are others, in the same context. */
void next_fake(world *w);

/* The world's QEMU is one of that age, and the monitor and the log are its own. */
void be(world *w, const char *profile);

/* The path of the fake QEMU's socket. */
const char *fake_path(world *w);

/* One step (docs/fakeqemu.md), which must succeed; the line that answers it. */
const char *step(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for one that may be impossible by now: whether it was done. */
bool try_step(world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How often a client has sent the command; and waiting until one has. */
int times_sent(world *w, const char *command);
void await_sent(world *w, const char *command);

/* The log of all that clients sent has that text in it. */
bool log_has(world *w, const char *text);

/* A mirror of "drive0" to "copy": at offset 0, where it stays; and one that is ready. */
bj_job *fake_mirror(world *w);
bj_job *fake_ready_mirror(world *w);

#endif
