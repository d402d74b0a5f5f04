/* SPDX-License-Identifier: MIT */
/*
 * What programs await of a job: ready, done, pivot, abort, the other verbs.
 */
#include "api/job_waits.h"
#include "api/monitor.h"
#include "api/notices.h"
#include "api/wiring.h"
#include "base/container_of.h"
#include "base/json_text.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------- waits */

static struct job_wait *wait_of_future(bj_future *future)
{
    return (struct job_wait *)future;
}

static void on_escalation(void *user)
{
    struct job_wait *wait = user;
    if (wait->linked)
        run_escalate(&wait->job->run, &wait->waiter.base);
}

static bool arm_escalation(struct job_wait *wait)
{
    if (wait->waiter.base.force_after_ms == 0)
        return true;
    wait->escalation = loop_timer_new(wait->future.ctx->loop, on_escalation, wait);
    if (wait->escalation)
        loop_timer_set(wait->escalation, wait->waiter.base.force_after_ms);
    return wait->escalation != NULL;
}

static void disarm_escalation(struct job_wait *wait)
{
    loop_timer_free(wait->escalation);
    wait->escalation = NULL;
}

/* It is out of the machine's list. */
static void unlink_wait(struct job_wait *wait)
{
    wait->linked = false;
    disarm_escalation(wait);
}

static void answer_wait(struct job_waiter *waiter, struct future_result *result)
{
    struct job_wait *wait = container_of(waiter, struct job_wait, waiter);
    unlink_wait(wait);
    future_answer(&wait->future, result);
}

static void start_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    if (!arm_escalation(wait)) {
        future_fail(future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
        return;
    }
    bj_job *job = bj_job_ref(wait->job); /* an answer may let go of the wait */
    wait->linked = true;
    run_ask(&job->run, &wait->waiter.base);
    job_note_observer(job);
    bj_job_unref(job);
}

static void leave_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    struct driver *driver = wait->job->monitor->driver;

    unlink_wait(wait);
    run_leave(&wait->job->run, &wait->waiter.base);
    if (wait->slot.job && driver && driver->ops->withdraw(driver, &wait->slot.request))
        job_give_slot_back(&wait->slot);
}

static struct text *late_wait(bj_future *future)
{
    static const char *const unmet[] = {
        [ASK_READY] = "not ready",   [ASK_DONE] = "not over",  [ASK_RELEASED] = "not released",
        [ASK_PIVOT] = "not pivoted", [ASK_ABORT] = "not over", [ASK_VERB] = "no answer from QEMU",
    };
    const struct job_wait *wait = wait_of_future(future);
    struct text *notice = notice_text(wait->job);
    struct text *text = text_printf(
        "job %s: %s within %.10g s; %s", text_str(wait->job->id), unmet[wait->waiter.base.question],
        (double)future->timeout_ms / 1000., notice ? text_str(notice) : "the job goes on");
    text_unref(notice);
    return text;
}

static void destroy_wait(bj_future *future)
{
    struct job_wait *wait = wait_of_future(future);
    bj_job_unref(wait->job);
    free(wait->options);
}

static const struct future_ops wait_ops = {
    .start = start_wait,
    .leave = leave_wait,
    .late = late_wait,
    .destroy = destroy_wait,
};

static bool keep_options(struct job_wait *wait)
{
    wait->options = strdup(wait->waiter.base.options);
    wait->waiter.base.options = wait->options;
    return wait->options != NULL;
}

static bj_future *launch_wait(bj_job *job, struct waiter waiter, int64_t timeout_ms)
{
    if (!job)
        return future_static(BJ_E_INVAL);
    if (!job_is_usable(job))
        return future_static(BJ_E_FORKED);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(job->monitor->ctx, BJ_E_INVAL,
                             "job %s: a timeout of %lld ms is negative", text_str(job->id),
                             (long long)timeout_ms);

    struct job_wait *wait =
        (struct job_wait *)future_new(job->monitor->ctx, sizeof *wait, &wait_ops);
    if (!wait)
        return future_static(BJ_E_NOMEM);
    wait->job = bj_job_ref(job);
    wait->waiter = (struct job_waiter){.base = waiter, .answered = answer_wait};
    if (waiter.options && !keep_options(wait)) {
        bj_future_unref(&wait->future);
        return future_static(BJ_E_NOMEM);
    }
    return future_launch(&wait->future, timeout_ms, -1);
}

static bj_future *bad_flags(bj_job *job, int flags)
{
    if (!job)
        return future_static(BJ_E_INVAL);
    if (!job_is_usable(job))
        return future_static(BJ_E_FORKED);
    return future_failed(job->monitor->ctx, BJ_E_INVAL, "job %s: unknown flags 0x%x",
                         text_str(job->id), (unsigned)flags);
}

bj_future *bj_job_ready(bj_job *job, int64_t timeout_ms)
{
    return launch_wait(job, (struct waiter){.question = ASK_READY}, timeout_ms);
}

bj_future *bj_job_done(bj_job *job, int flags, int64_t timeout_ms)
{
    if (flags & ~BJ_DONE_RELEASED)
        return bad_flags(job, flags);
    enum question question = flags ? ASK_RELEASED : ASK_DONE;
    return launch_wait(job, (struct waiter){.question = question}, timeout_ms);
}

bj_future *bj_job_pivot(bj_job *job, int flags, int64_t timeout_ms)
{
    if (flags & ~BJ_PIVOT_ONLY_IF_READY)
        return bad_flags(job, flags);
    return launch_wait(job, (struct waiter){.question = ASK_PIVOT, .flags = flags}, timeout_ms);
}

bj_future *bj_job_abort(bj_job *job, int flags, int64_t timeout_ms)
{
    if (flags & ~(BJ_ABORT_FORCE | BJ_ABORT_ASYNC))
        return bad_flags(job, flags);
    return launch_wait(job, (struct waiter){.question = ASK_ABORT, .flags = flags}, timeout_ms);
}

bj_future *bj_job_abort_escalate(bj_job *job, int64_t force_after_ms, int64_t timeout_ms)
{
    if (job && job_is_usable(job) && force_after_ms <= 0)
        return future_failed(
            job->monitor->ctx, BJ_E_INVAL,
            "job %s: escalating after %lld ms is no delay: abort with force instead",
            text_str(job->id), (long long)force_after_ms);
    return launch_wait(
        job, (struct waiter){.question = ASK_ABORT, .force_after_ms = force_after_ms}, timeout_ms);
}

static bj_future *launch_verb(bj_job *job, enum verb verb, int64_t speed, int64_t timeout_ms)
{
    return launch_wait(job, (struct waiter){.question = ASK_VERB, .verb = verb, .speed = speed},
                       timeout_ms);
}

bj_future *bj_job_pause(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_PAUSE, 0, timeout_ms);
}

bj_future *bj_job_resume(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_RESUME, 0, timeout_ms);
}

bj_future *bj_job_set_speed(bj_job *job, int64_t bytes_per_second, int64_t timeout_ms)
{
    if (job && job_is_usable(job) && bytes_per_second < 0)
        return future_failed(job->monitor->ctx, BJ_E_INVAL, "job %s: a speed of %lld is negative",
                             text_str(job->id), (long long)bytes_per_second);
    return launch_verb(job, VERB_SET_SPEED, bytes_per_second, timeout_ms);
}

bj_future *bj_job_finalize(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_FINALIZE, 0, timeout_ms);
}

bj_future *bj_job_dismiss(bj_job *job, int64_t timeout_ms)
{
    return launch_verb(job, VERB_DISMISS, 0, timeout_ms);
}

/* The id is the job's: a second one would be no JSON that QEMU takes. */
static int check_options(const char *options)
{
    int error = BJ_E_INVAL;
    json_t *object = options ? json_text_object(options, &error) : NULL;
    if (object)
        error = json_object_get(object, "id") ? BJ_E_INVAL : BJ_OK;
    json_decref(object);
    return error;
}

bj_future *bj_job_change(bj_job *job, const char *options, int64_t timeout_ms)
{
    int error = job && job_is_usable(job) ? check_options(options) : BJ_OK;
    if (error == BJ_E_NOMEM)
        return future_static(error);
    if (error != BJ_OK)
        return future_failed(
            job->monitor->ctx, error,
            "job %s: the options are not a JSON object, or have an \"id\" in it: %.*s",
            text_str(job->id), options ? text_fit(options, QUOTED_MAX) : QUOTED_MAX,
            options ? options : "NULL");
    return launch_wait(
        job, (struct waiter){.question = ASK_VERB, .verb = VERB_CHANGE, .options = options},
        timeout_ms);
}
