/* SPDX-License-Identifier: MIT */
/*
 * The helper of this program that starts its QEMUs and owns its directories: tests/support/qemu.
 */
#ifndef TESTS_QEMUS_H
#define TESTS_QEMUS_H

#include "helper.h"

/* The helper; the first call starts it, the end of the program ends it. */
helper *qemus(void);

/* A directory with a path short enough for sockets. It goes away with what is in it, and with its
 * QEMU, by directory_end() or when the program ends, however that comes. */
char *directory_new(void);
void directory_end(char *directory);

#endif
