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

/* From the reply to query-commands. NULL: no memory. */
struct command_set *command_set_get(bj_ctx *ctx, const json_t *commands);
void command_set_unref(bj_ctx *ctx, struct command_set *set); /* takes NULL */
bool command_set_has(const struct command_set *set, const char *command);

#endif
