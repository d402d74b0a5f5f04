/* SPDX-License-Identifier: MIT */
/*
 * What the QEMU at hand can do and reports, as far as a caller of its driver has to know.
 */
#ifndef BJ_DRIVER_CAPABILITIES_H
#define BJ_DRIVER_CAPABILITIES_H

#include "model/words.h"

#include <stdbool.h>

struct capabilities {
    bool has_status;      /* statuses come as events (QEMU 3.0) */
    bool has_graph;       /* the block graph can be queried (QEMU 4.0) */
    bool has_dismiss;     /* jobs can be started so that they wait for it */
    bool has_ready_event; /* QEMU 1.3; not RHEL 6 */
    bool hides_pauses;    /* no event reports a pause (before 3.0) */
    bool has_bare_rows;   /* a list does not show whether a job is paused (libvirt) */
    bool is_silent;       /* there may be no event for a cancel (RHEL 6.2) */
    bool no_repeats;      /* a cancel must not be repeated (RHEL 6.3) */

    bool passes_descriptors;   /* a command can take descriptors along: a UNIX socket */
    bool offers_out_of_band;   /* commands can be executed out of band, if that is asked for */
    bool executes_out_of_band; /* and it was */

    /* The class of the errors that refuse a verb because there is no such job; never NULL. */
    const char *no_such_job_class;
    /* Where there is no complete for a run: what to do instead, a sentence; NULL: nothing. */
    const char *complete_hint;
    const struct denial *denial; /* this connection takes no verb; static; NULL: it does */
};

/* What a command that starts a job takes on this QEMU. */
enum driver_takes { TAKES_JOB_ID = 1, TAKES_AUTO_DISMISS = 2 };

#endif
