/* SPDX-License-Identifier: MIT */
/*
 * Groups: several jobs that are awaited, pivoted or given up together (B08). A wait asks the
 * machine of each of its jobs as the job's own waits do; what follows from the answers is decided
 * by model/group_plan.h. An answer is only written down, because a machine must not be called while
 * it answers: the plan's orders are carried out in a task.
 */
#include "api/answers.h"
#include "api/job.h"
#include "api/job_waits.h"
#include "api/monitor.h"
#include "api/notices.h"
#include "base/container_of.h"
#include "delivery/future.h"
#include "model/group_plan.h"

#include <stdlib.h>

struct bj_group {
    atomic_uint refs;
    bj_ctx *ctx; /* a reference to its memory */

    /* Under the context's lock. */
    bj_job **jobs; /* references */
    size_t count;
    size_t room;
};

/* One job of a wait. */
struct part {
    struct job_waiter waiter; /* first: the machine gives it back */
    struct group_part plan;
    struct job_listener listener;
    struct group_wait *wait;
    bj_job *job; /* a reference */
};

struct group_wait {
    bj_future future;
    struct group_plan plan;
    struct waiter question;
    struct loop_task step;
    bool step_posted;
    bool listening;              /* to all jobs */
    struct future_result answer; /* the decider's */
    size_t count;
    struct part parts[];
};

/* --------------------------------------------------------------------- groups */

int bj_group_new(bj_ctx *ctx, bj_group **ret_group)
{
    if (!ctx || !ret_group)
        return BJ_E_INVAL;
    if (ctx_is_forked(ctx))
        return BJ_E_FORKED;
    bj_group *group = calloc(1, sizeof *group);
    if (!group)
        return BJ_E_NOMEM;
    atomic_init(&group->refs, 1);
    group->ctx = ctx_ref(ctx);
    *ret_group = group;
    return BJ_OK;
}

bj_group *bj_group_ref(bj_group *group)
{
    if (group)
        atomic_fetch_add(&group->refs, 1);
    return group;
}

bj_group *bj_group_unref(bj_group *group)
{
    if (!group || ctx_is_forked(group->ctx) || atomic_fetch_sub(&group->refs, 1) != 1)
        return NULL;
    for (size_t i = 0; i < group->count; i++)
        bj_job_unref(group->jobs[i]);
    ctx_unref(group->ctx);
    free(group->jobs);
    free(group);
    return NULL;
}

static bool has_job(const bj_group *group, const bj_job *job)
{
    for (size_t i = 0; i < group->count; i++)
        if (group->jobs[i] == job)
            return true;
    return false;
}

static bool make_room(bj_group *group)
{
    if (group->count < group->room)
        return true;
    size_t room = group->room ? 2 * group->room : 8;
    bj_job **jobs = reallocarray(group->jobs, room, sizeof(bj_job *));
    if (!jobs)
        return false;
    group->jobs = jobs;
    group->room = room;
    return true;
}

/* Under the lock. */
static int add_job(bj_group *group, bj_job *job)
{
    if (has_job(group, job))
        return BJ_OK;
    if (!make_room(group))
        return BJ_E_NOMEM;
    group->jobs[group->count++] = bj_job_ref(job);
    return BJ_OK;
}

int bj_group_add(bj_group *group, bj_job *job)
{
    if (!group || !job)
        return BJ_E_INVAL;
    if (ctx_is_forked(group->ctx))
        return BJ_E_FORKED;
    if (job->monitor->ctx != group->ctx)
        return BJ_E_INVAL;
    ctx_lock(group->ctx);
    int r = add_job(group, job);
    ctx_unlock(group->ctx);
    return r;
}

/* ---------------------------------------------------------------------- facts */

static struct part *part_of(struct group_part *part)
{
    return part ? container_of(part, struct part, plan) : NULL;
}

static void run_step(struct loop_task *task);

/* What is posted runs after the machines have given all answers that are due now. */
static void post_step(struct group_wait *wait)
{
    if (wait->step_posted)
        return;
    wait->step.run = run_step;
    future_ref_memory(&wait->future);
    wait->step_posted = loop_post(wait->future.ctx->loop, &wait->step);
    if (!wait->step_posted)
        future_unref_memory(&wait->future); /* the starter's is left */
}

static void part_answered(struct job_waiter *waiter, struct future_result *result)
{
    struct part *part = (struct part *)waiter;
    struct group_wait *wait = part->wait;

    if (group_plan_answered(&wait->plan, &part->plan, result->error, result->outcome)) {
        future_clear_result(&wait->answer);
        wait->answer = *result;
    } else {
        future_clear_result(result);
    }
    post_step(wait);
}

static void on_job_fact(struct job_listener *listener)
{
    struct part *part = container_of(listener, struct part, listener);
    post_step(part->wait);
}

static void listen_to_all(struct group_wait *wait)
{
    wait->listening = true;
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        part->listener.notify = on_job_fact;
        job_add_listener(part->job, &part->listener);
    }
}

static void stop_listening(struct group_wait *wait)
{
    for (size_t i = 0; wait->listening && i < wait->count; i++)
        job_remove_listener(wait->parts[i].job, &wait->parts[i].listener);
    wait->listening = false;
}

static void note_who_can_pivot(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        group_plan_can_pivot(&part->plan, machine_can_pivot(&part->job->run.machine));
    }
}

/* --------------------------------------------------------------------- orders */

static void ask_part(struct part *part, struct waiter question)
{
    part->waiter = (struct job_waiter){.base = question, .answered = part_answered};
    run_ask(&part->job->run, &part->waiter.base);
    job_note_observer(part->job);
}

static void abort_part(struct part *part, int flags)
{
    ask_part(part, (struct waiter){.question = ASK_ABORT, .flags = flags});
}

static void finish(struct group_wait *wait)
{
    struct part *decider = part_of(wait->plan.decider);

    if (decider)
        wait->answer.value = job_value(bj_job_ref(decider->job));
    wait->answer.outcome = group_plan_outcome(&wait->plan);
    future_answer(&wait->future, &wait->answer);
}

static void carry_out(struct group_wait *wait, enum group_act act, struct part *part)
{
    struct waiter question = wait->question;

    switch (act) {
    case GROUP_ASK:
    case GROUP_ASK_HELD:
        question.held = act == GROUP_ASK_HELD;
        ask_part(part, question);
        break;
    case GROUP_LET_GO:
        run_unhold(&part->job->run, &part->waiter.base);
        break;
    case GROUP_LEAVE:
        run_leave(&part->job->run, &part->waiter.base);
        break;
    case GROUP_ABORT_SOFT:
        abort_part(part, BJ_ABORT_SOFT);
        break;
    case GROUP_ABORT_FORCE:
        abort_part(part, BJ_ABORT_FORCE);
        break;
    case GROUP_FINISH:
        finish(wait);
        break;
    case GROUP_WAIT:
        break;
    }
}

/* Nothing is touched after GROUP_FINISH: the answer may have freed the wait. */
static void carry_out_orders(struct group_wait *wait)
{
    struct group_order order;
    do {
        order = group_plan_next(&wait->plan);
        if (wait->plan.goal != GROUP_PIVOT)
            stop_listening(wait);
        carry_out(wait, order.act, part_of(order.part));
    } while (order.part);
}

static void run_step(struct loop_task *task)
{
    struct group_wait *wait = container_of(task, struct group_wait, step);

    wait->step_posted = false;
    if (wait->plan.goal == GROUP_PIVOT)
        note_who_can_pivot(wait);
    carry_out_orders(wait);
    future_unref_memory(&wait->future);
}

/* -------------------------------------------------------------------- the future */

static struct group_wait *wait_of(bj_future *future)
{
    return (struct group_wait *)future;
}

static void note_unfit(struct group_wait *wait, struct part *part)
{
    group_plan_unfit(&wait->plan, &part->plan, machine_outcome(&part->job->run.machine));
    wait->answer = (struct future_result){
        .error = wait->plan.error,
        .text = text_printf("job %s: a job of this type has no pivot: wait for done",
                            bj_job_id(part->job)),
    };
}

static struct part *find_unfit(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++)
        if (machine_traits(&wait->parts[i].job->run.machine)->never_ready)
            return &wait->parts[i];
    return NULL;
}

static void begin_pivot(struct group_wait *wait)
{
    struct part *unfit = find_unfit(wait);
    if (unfit) {
        note_unfit(wait, unfit);
        return;
    }
    listen_to_all(wait);
    post_step(wait); /* all may be able to pivot already */
}

static void start_wait(bj_future *future)
{
    struct group_wait *wait = wait_of(future);

    if (wait->plan.goal == GROUP_PIVOT)
        begin_pivot(wait);
    carry_out_orders(wait);
}

static void leave_wait(bj_future *future)
{
    struct group_wait *wait = wait_of(future);
    group_plan_quit(&wait->plan);
    carry_out_orders(wait);
}

static struct text *late_wait(bj_future *future)
{
    static const char *const unmet[] = {
        [GROUP_READY] = "not ready",   [GROUP_DONE] = "not over",   [GROUP_ANY] = "not over",
        [GROUP_ABORT] = "not over",    [GROUP_PIVOT] = "not ready", [GROUP_SWITCH] = "not pivoted",
        [GROUP_ROLLBACK] = "not over",
    };
    struct group_wait *wait = wait_of(future);
    const struct part *first = NULL;
    size_t late = 0;

    note_who_can_pivot(wait);
    for (size_t i = wait->count; i-- > 0;) {
        if (group_plan_is_late(&wait->plan, &wait->parts[i].plan)) {
            first = &wait->parts[i];
            late++;
        }
    }
    if (!first)
        return NULL;
    struct text *notice = notice_text(first->job);
    struct text *text =
        text_printf("%zu of %zu jobs %s within %.10g s, job %s among them; %s", late, wait->count,
                    unmet[wait->plan.goal], (double)future->timeout_ms / 1000.,
                    bj_job_id(first->job), notice ? text_str(notice) : "all go on");
    text_unref(notice);
    return text;
}

static void destroy_wait(bj_future *future)
{
    struct group_wait *wait = wait_of(future);
    for (size_t i = 0; i < wait->count; i++)
        bj_job_unref(wait->parts[i].job);
    future_clear_result(&wait->answer);
}

static const struct future_ops wait_ops = {
    .start = start_wait,
    .leave = leave_wait,
    .late = late_wait,
    .destroy = destroy_wait,
};

/* Under the lock. NULL: no memory. */
static struct group_wait *snapshot(bj_group *group)
{
    size_t size = sizeof(struct group_wait) + group->count * sizeof(struct part);
    struct group_wait *wait = (struct group_wait *)future_new(group->ctx, size, &wait_ops);
    if (!wait)
        return NULL;
    wait->count = group->count;
    for (size_t i = 0; i < wait->count; i++) {
        wait->parts[i] = (struct part){.wait = wait, .job = bj_job_ref(group->jobs[i])};
        group_plan_add(&wait->plan, &wait->parts[i].plan);
    }
    return wait;
}

static bj_future *launch(bj_group *group, enum group_goal goal, struct waiter question,
                         int known_flags, int64_t timeout_ms)
{
    if (!group)
        return future_static(BJ_E_INVAL);
    if (ctx_is_forked(group->ctx))
        return future_static(BJ_E_FORKED);
    if (question.flags & ~known_flags)
        return future_failed(group->ctx, BJ_E_INVAL, "a group: unknown flags 0x%x",
                             (unsigned)question.flags);
    if (future_check_timeout(timeout_ms) != BJ_OK)
        return future_failed(group->ctx, BJ_E_INVAL, "a group: a timeout of %lld ms is negative",
                             (long long)timeout_ms);

    ctx_lock(group->ctx);
    struct group_wait *wait = snapshot(group);
    ctx_unlock(group->ctx);
    if (!wait)
        return future_static(BJ_E_NOMEM);
    if (wait->count == 0) {
        bj_future_unref(&wait->future);
        return future_failed(group->ctx, BJ_E_INVAL, "the group is empty: add its jobs first");
    }
    group_plan_begin(&wait->plan, goal);
    wait->question = question;
    return future_launch(&wait->future, timeout_ms, -1);
}

bj_future *bj_group_ready(bj_group *group, int64_t timeout_ms)
{
    return launch(group, GROUP_READY, (struct waiter){.question = ASK_READY}, 0, timeout_ms);
}

static struct waiter end_question(int flags)
{
    return (struct waiter){
        .question = flags & BJ_DONE_RELEASED ? ASK_RELEASED : ASK_DONE,
        .flags = flags,
    };
}

bj_future *bj_group_done(bj_group *group, int flags, int64_t timeout_ms)
{
    return launch(group, GROUP_DONE, end_question(flags), BJ_DONE_RELEASED, timeout_ms);
}

bj_future *bj_group_any(bj_group *group, int flags, int64_t timeout_ms)
{
    return launch(group, GROUP_ANY, end_question(flags), BJ_DONE_RELEASED, timeout_ms);
}

bj_future *bj_group_pivot(bj_group *group, int64_t timeout_ms)
{
    return launch(group, GROUP_PIVOT, (struct waiter){.question = ASK_PIVOT}, 0, timeout_ms);
}

bj_future *bj_group_abort(bj_group *group, int flags, int64_t timeout_ms)
{
    return launch(group, GROUP_ABORT, (struct waiter){.question = ASK_ABORT, .flags = flags},
                  BJ_ABORT_FORCE | BJ_ABORT_ASYNC, timeout_ms);
}
