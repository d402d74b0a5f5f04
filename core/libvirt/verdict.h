/* SPDX-License-Identifier: MIT */
/*
 * What it means that libvirt has refused a verb: told from the error's code, and from what libvirt
 * knew of the disk afterwards. Never from a sentence, which may be in any language.
 *
 * Pure: no I/O, no libvirt. Any thread.
 */
#ifndef BJ_VERDICT_H
#define BJ_VERDICT_H

#include "model/words.h"

#include <stdbool.h>

/* virErrorNumber, by its numbers; calls.c asserts that they are the same. */
enum verdict_code { VERDICT_CODE_INVALID_ARG = 8, VERDICT_CODE_OPERATION_INVALID = 55 };

enum verdict_verb { JUDGE_PIVOT, JUDGE_ABORT, JUDGE_SPEED };

/* What libvirt said of the disk after it had refused, in this order: its XML shows a mirror on its
 * way out in more than one state, but it tells of jobs only when it has dealt with an end. */
struct aftermath {
    bool is_known;  /* it could be asked */
    bool is_ending; /* the disk's mirror, by the XML */
    bool has_job;
};

/* The aftermath is only needed where this says so. */
bool verdict_needs_aftermath(enum verdict_verb verb, int code);
enum verdict verdict_of(enum verdict_verb verb, int code, const struct aftermath *after);

#endif
