/* SPDX-License-Identifier: MIT */
/*
 * Why libvirt has refused a verb; see verdict.h.
 */
#include "verdict.h"

bool verdict_needs_aftermath(enum verdict_verb verb, int code)
{
    return verb != JUDGE_SPEED && code == VERDICT_CODE_OPERATION_INVALID;
}

/* Of a domain that runs, libvirt says "not valid" of a verb because it has taken another client's,
 * or because QEMU's job is over and its end is about to be dealt with. Of a pivot it also says so
 * where the job has none, so there the mirror has to show it. */
static enum verdict not_valid(enum verdict_verb verb, const struct aftermath *after)
{
    if (!after->is_known)
        return VERDICT_REFUSED;
    if (after->is_ending)
        return VERDICT_ENDING;
    if (!after->has_job)
        return VERDICT_NO_SUCH_JOB; /* it has ended meanwhile */
    return verb == JUDGE_ABORT ? VERDICT_ENDING : VERDICT_REFUSED;
}

enum verdict verdict_of(enum verdict_verb verb, int code, const struct aftermath *after)
{
    if (code == VERDICT_CODE_INVALID_ARG)
        return VERDICT_NO_SUCH_JOB;
    return verdict_needs_aftermath(verb, code) ? not_valid(verb, after) : VERDICT_REFUSED;
}
