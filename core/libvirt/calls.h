/* SPDX-License-Identifier: MIT */
/*
 * The calls of libvirt that a driver makes on a domain. Each may block for long: threads of the
 * pool only. Never virDomainQemuMonitorCommand(): it taints the domain.
 */
#ifndef BJ_CALLS_H
#define BJ_CALLS_H

#include "disks.h"
#include "driver/job_list.h"
#include "start_calls.h"
#include "verdict.h"

#include <libvirt/libvirt.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Why a call failed. `code` is libvirt's, 0 for a lack of memory. */
struct call_error {
    int code;
    char *message; /* malloc'ed; NULL: no memory */
};

void call_error_clear(struct call_error *error);

/* All answer whether it went well; *ret_error is only set where it did not. */

/* Whether a call has failed because the domain does not run any more: by the error's code and by
 * what libvirt says now, never by a sentence. libvirt can find that it can't talk to QEMU before it
 * knows that QEMU is gone: then it is asked again, for half a minute at most (B10), or until
 * `given_up`. */
bool call_found_gone(virDomainPtr domain, const struct call_error *error,
                     const atomic_bool *given_up);

/* The run that a verb is for: as long as none of the flags is set, and the disk's mirror leads to
 * that target. */
struct call_run {
    const char *disk;
    const char *mirror;           /* NULL: not known */
    const atomic_bool *has_ended; /* it has */
    const atomic_bool *given_up;  /* nobody wants it any more */
};

/* The verb is not for what is on the disk now. */
bool call_refuse_ended(struct call_error *ret_error);

/* libvirt can tell READY before it takes a pivot (error 83); then it is asked again, for a few
 * seconds at most (B64), as long as it is the same run. */
bool call_pivot(virDomainPtr domain, const struct call_run *run, struct call_error *ret_error);
bool call_abort(virDomainPtr domain, const char *disk, struct call_error *ret_error);
bool call_set_speed(virDomainPtr domain, const char *disk, int64_t bytes_per_second,
                    struct call_error *ret_error);
/* What it means that one of these was refused. */
enum verdict call_verdict(virDomainPtr domain, const char *disk, enum verdict_verb verb,
                          const struct call_error *error);

/* The same of the backup. Where there is none libvirt's error is that of a disk without a job. The
 * speed is each disk's. */
bool call_abort_backup(virDomainPtr domain, struct call_error *ret_error);
bool call_set_backup_speed(virDomainPtr domain, int64_t bytes_per_second,
                           struct call_error *ret_error);
bool call_start(virDomainPtr domain, const struct start *start, const char *disk,
                struct call_error *ret_error);

/* When this returns, the connection has received all events of what had happened before. */
void call_sync(virDomainPtr domain);

bool call_disks(virDomainPtr domain, struct disks *ret, struct call_error *ret_error);
/* The jobs on those disks; and which of them the backup is of, if one runs. */
bool call_rows(virDomainPtr domain, struct disks *disks, struct job_list **ret,
               struct call_error *ret_error);

#endif
