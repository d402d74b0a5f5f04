/* SPDX-License-Identifier: MIT */
/*
 * The commands that start a domain's jobs, as JSON, and the calls of libvirt that they are.
 *
 *   block-commit, block-stream, blockdev-mirror, blockdev-backup: the usual jobs of blockjob.h
 *   backup: a backup of several disks, with its options
 *   virDomainBlockCopy, virDomainBlockCommit, virDomainBlockPull, virDomainBlockRebase,
 *   virDomainBackupBegin: libvirt's own words
 *
 * A "bandwidth", of the usual jobs also "speed" as QEMU has it, is in bytes a second, "flags" are
 * words without VIR_DOMAIN_..., and the "disk" of virDomainBackupBegin must be one of those that
 * the backup is of.
 */
#ifndef BJ_START_CALLS_H
#define BJ_START_CALLS_H

#include "base/text.h"
#include "disks.h"

#include <jansson.h>
#include <libvirt/libvirt.h>
#include <stdbool.h>

struct start;

bool start_is_known(const char *command);

/* What is wrong with the arguments is said here, before libvirt is asked: an unknown member, a
 * member of the wrong type, a flag that there is not. BJ_OK; BJ_E_INVAL or BJ_E_UNSUPPORTED with a
 * sentence in *ret_text; BJ_E_NOMEM. A member that is null is as if it were not there. Any thread.
 */
int start_parse(const char *command, const json_t *arguments, struct start **ret,
                struct text **ret_text);
void start_free(struct start *start); /* takes NULL */

/* As given: a target or a path. NULL: a backup that does not name one. */
const char *start_disk(const struct start *start);
const char *start_type(const struct start *start); /* QEMU's word; "" if it is unknown */
bool start_is_backup(const struct start *start);
/* Of a backup that was prepared: see disks_in_backup(). NULL: it is none, or was not. */
const char *start_disks(const struct start *start);

/* What is wrong with it for a domain of these disks; once, before start_call(). As start_parse().
 */
int start_prepare(struct start *start, const struct disks *disks, struct text **ret_text);

/* Blocks: a thread of the pool. 0; -1, and virGetLastError() says why; BJ_E_NOMEM. `target` is the
 * disk's. */
int start_call(const struct start *start, virDomainPtr domain, const char *target);

#endif
