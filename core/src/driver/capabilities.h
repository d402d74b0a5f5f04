/* SPDX-License-Identifier: MIT */
/*
 * What the QEMU at hand can do and reports, as far as a caller of its driver has to know.
 */
#ifndef BJ_DRIVER_CAPABILITIES_H
#define BJ_DRIVER_CAPABILITIES_H

#include <stdbool.h>

struct capabilities {
    bool has_status;      /* statuses come as events (QEMU 3.0) */
    bool has_dismiss;     /* jobs can be told to wait for it */
    bool has_ready_event; /* QEMU 1.3; not RHEL 6 */
    bool hides_pauses;    /* no event tells that a job was paused (before 3.0) */
    bool has_bare_rows;   /* a list does not tell whether a job is paused (libvirt) */
    bool is_silent;       /* there may be no event for a cancel (RHEL 6.2) */
    bool no_repeats;      /* a cancel must not be repeated (RHEL 6.3) */
};

/* What a command that starts a job takes on this QEMU. */
enum driver_takes { TAKES_JOB_ID = 1, TAKES_AUTO_DISMISS = 2 };

#endif
