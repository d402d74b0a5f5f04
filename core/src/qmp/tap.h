/* SPDX-License-Identifier: MIT */
/*
 * QMP's lines on their way to a trace. Without one they cost a look at a flag.
 */
#ifndef BJ_QMP_TAP_H
#define BJ_QMP_TAP_H

#include "driver/wire.h"
#include "qmp/secrets.h"

static inline void qmp_tell_received(struct wire_tap *tap, const char *line, size_t len)
{
    if (wire_is_tapped(tap))
        tap->line(tap, &(struct wire_line){.bytes = line, .len = len, .mask = secrets_mask});
}

/* The line has the end that QEMU reads. */
static inline void qmp_tell_sent(struct wire_tap *tap, const char *line, size_t len)
{
    if (!wire_is_tapped(tap))
        return;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    tap->line(
        tap, &(struct wire_line){.is_sent = true, .bytes = line, .len = len, .mask = secrets_mask});
}

#endif
