/* SPDX-License-Identifier: MIT */
/*
 * What a run that is about to be started is called on the QEMU at hand, and what is added to the
 * arguments of the command that starts it. The loop's thread only.
 */
#ifndef BJ_QMP_START_ARGUMENTS_H
#define BJ_QMP_START_ARGUMENTS_H

#include "driver/driver.h"

/* driver_ops.plan_start; the driver has been probed. */
int qmp_make_plan(struct driver *driver, bj_ctx *ctx, const char *given_command,
                  const struct json_t *arguments, struct start_plan *ret);

#endif
