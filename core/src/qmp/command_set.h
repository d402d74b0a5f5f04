/* SPDX-License-Identifier: MIT */
/*
 * The commands that a QEMU has. Monitors of like QEMUs share one set: it is most of what an idle
 * monitor would cost. The loop's thread only.
 */
#ifndef BJ_QMP_COMMAND_SET_H
#define BJ_QMP_COMMAND_SET_H

#include "base/ctx.h"

#include <jansson.h>

struct command_set;

/* The set of a reply to query-commands that had this text: one that is there. NULL: none is. */
struct command_set *command_set_find(bj_ctx *ctx, const char *json, size_t len);

/* The set of another text, and what it says. NULL: no memory. */
struct command_set *command_set_new(bj_ctx *ctx, const char *json, size_t len,
                                    const json_t *commands);

/* The latest that nobody uses any more is kept: a program may connect to one QEMU after another.
 * Takes NULL. */
void command_set_unref(bj_ctx *ctx, struct command_set *set);
bool command_set_has(const struct command_set *set, const char *command);

#endif
