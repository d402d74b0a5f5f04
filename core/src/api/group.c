/* SPDX-License-Identifier: MIT */
/*
 * Groups: several jobs that are awaited, pivoted or given up together (B08). A wait asks the
 * machine of each of its jobs as the job's own waits do. What comes back is only written down,
 * because a machine must not be called while it answers; what follows from it is decided in a task.
 */
#include "api/answers.h"
#include "api/job.h"
#include "api/job_waits.h"
#include "api/monitor.h"
#include "base/container_of.h"
#include "delivery/future.h"

#include <stdlib.h>

struct bj_group {
    atomic_uint refs;
    bj_ctx *ctx; /* a reference to its memory */

    /* Under the context's lock. */
    bj_job **jobs; /* references */
    size_t count;
    size_t room;
};

enum group_goal {
    GROUP_READY,
    GROUP_DONE,
    GROUP_ANY,
    GROUP_ABORT,
    GROUP_PIVOT,   /* what it begins with: all pivots are held until each could be sent */
    GROUP_SWITCH,  /* then they are let go; each goes its own way */
    GROUP_ROLLBACK /* or, if one ended before, the others are aborted */
};

/* One job of a wait. */
struct part {
    struct job_waiter waiter; /* first: the machine gives it back */
    struct job_listener listener;
    struct group_wait *wait;
    bj_job *job;        /* a reference */
    bool linked;        /* it is in the machine's list */
    bool listening;     /* and in the job's */
    bool to_force;      /* its soft abort, of a rollback, has come to nothing */
    bj_outcome outcome; /* as of its answer */
};

struct group_wait {
    bj_future future;
    enum group_goal goal;
    struct waiter question;
    struct loop_task step;
    bool step_posted;
    bool over; /* answered, or nobody listens any more */

    struct part *decider; /* whose answer is that of the group; NULL: none yet */
    struct future_result answer;

    size_t linked; /* parts that are */
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

/* ------------------------------------------------------------- one of the parts */

static void run_step(struct loop_task *task);

/* What is posted runs after the machines have given all answers that are due now. */
static void post_step(struct group_wait *wait)
{
    if (wait->step_posted || wait->over)
        return;
    wait->step.run = run_step;
    future_ref_memory(&wait->future);
    wait->step_posted = loop_post(wait->future.ctx->loop, &wait->step);
    if (!wait->step_posted)
        future_unref_memory(&wait->future); /* the starter's is left */
}

/* The first that comes decides, if it is one that can. A job that stands still overrules: then not
 * all will be over. */
static bool decides(const struct group_wait *wait, int error)
{
    if (wait->goal == GROUP_ANY)
        return !wait->decider;
    bool stands =
        wait->goal == GROUP_DONE && error == BJ_E_STALLED && wait->answer.error != BJ_E_STALLED;
    return error != BJ_OK && (!wait->decider || stands);
}

static void note_answer(struct part *part, struct future_result *result)
{
    struct group_wait *wait = part->wait;

    part->outcome = result->outcome;
    part->to_force = wait->goal == GROUP_ROLLBACK && result->error != BJ_OK &&
                     !(part->waiter.base.flags & BJ_ABORT_FORCE);
    if (decides(wait, result->error)) {
        future_clear_result(&wait->answer);
        wait->decider = part;
        wait->answer = *result;
    } else {
        future_clear_result(result);
    }
}

static void part_answered(struct job_waiter *waiter, struct future_result *result)
{
    struct part *part = (struct part *)waiter;

    part->linked = false;
    part->wait->linked--;
    note_answer(part, result);
    post_step(part->wait);
}

static void ask_part(struct part *part, struct waiter question)
{
    part->waiter = (struct job_waiter){.base = question, .answered = part_answered};
    part->linked = true;
    part->wait->linked++;
    run_ask(&part->job->run, &part->waiter.base);
    job_note_observer(part->job);
}

static void leave_part(struct part *part)
{
    if (!part->linked)
        return;
    part->linked = false;
    part->wait->linked--;
    run_leave(&part->job->run, &part->waiter.base);
}

static void on_job_fact(struct job_listener *listener)
{
    struct part *part = container_of(listener, struct part, listener);
    post_step(part->wait);
}

static void listen_to_all(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        part->listener.notify = on_job_fact;
        part->listening = true;
        job_add_listener(part->job, &part->listener);
    }
}

static void stop_listening(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        if (part->listening)
            job_remove_listener(part->job, &part->listener);
        part->listening = false;
    }
}

/* ------------------------------------------------------------------- all of them */

static void leave_all(struct group_wait *wait)
{
    wait->over = true;
    stop_listening(wait);
    for (size_t i = 0; i < wait->count; i++)
        leave_part(&wait->parts[i]);
}

/* How they ended, where it is the same for all. */
static bj_outcome common_outcome(const struct group_wait *wait)
{
    for (size_t i = 1; i < wait->count; i++)
        if (wait->parts[i].outcome != wait->parts[0].outcome)
            return BJ_OUTCOME_NONE;
    return wait->parts[0].outcome;
}

static void finish(struct group_wait *wait)
{
    leave_all(wait);
    if (wait->decider)
        wait->answer.value = job_value(bj_job_ref(wait->decider->job));
    else
        wait->answer.outcome = common_outcome(wait);
    future_answer(&wait->future, &wait->answer);
}

static bool is_decided(const struct group_wait *wait)
{
    bool by_one = wait->goal == GROUP_READY || wait->goal == GROUP_ANY ||
                  (wait->goal == GROUP_DONE && wait->answer.error == BJ_E_STALLED);
    return wait->linked == 0 || (by_one && wait->decider);
}

/* An ended one that is not the decider has been pivoted by another caller. */
static bool all_can_pivot(const struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++)
        if (wait->parts[i].linked && !machine_can_pivot(&wait->parts[i].job->run.machine))
            return false;
    return true;
}

static void let_go(struct group_wait *wait)
{
    wait->goal = GROUP_SWITCH;
    stop_listening(wait);
    for (size_t i = 0; i < wait->count; i++)
        if (wait->parts[i].linked)
            run_unhold(&wait->parts[i].job->run, &wait->parts[i].waiter.base);
}

static void abort_part(struct part *part, int flags)
{
    if (!machine_is_over(&part->job->run.machine))
        ask_part(part, (struct waiter){.question = ASK_ABORT, .flags = flags});
}

static void roll_back(struct group_wait *wait)
{
    wait->goal = GROUP_ROLLBACK;
    stop_listening(wait);
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        leave_part(part);
        if (part != wait->decider)
            abort_part(part, BJ_ABORT_SOFT);
    }
}

/* What stands still takes no soft abort. */
static void force_the_rest(struct group_wait *wait)
{
    for (size_t i = 0; i < wait->count; i++) {
        struct part *part = &wait->parts[i];
        bool force = part->to_force;
        part->to_force = false;
        if (force)
            abort_part(part, BJ_ABORT_FORCE);
    }
}

static void take_step(struct group_wait *wait)
{
    if (wait->goal == GROUP_PIVOT && wait->decider)
        roll_back(wait);
    else if (wait->goal == GROUP_PIVOT && all_can_pivot(wait))
        let_go(wait);
    else if (wait->goal == GROUP_ROLLBACK)
        force_the_rest(wait);

    if (is_decided(wait))
        finish(wait);
}

static void run_step(struct loop_task *task)
{
    struct group_wait *wait = container_of(task, struct group_wait, step);

    wait->step_posted = false;
    if (!wait->over)
        take_step(wait);
    future_unref_memory(&wait->future);
}

/* -------------------------------------------------------------------- the future */

static struct group_wait *wait_of(bj_future *future)
{
    return (struct group_wait *)future;
}

/* Known before anything is asked, so that nothing has to be undone. */
static struct part *find_unfit(struct group_wait *wait)
{
    for (size_t i = 0; wait->goal == GROUP_PIVOT && i < wait->count; i++)
        if (machine_traits(&wait->parts[i].job->run.machine)->never_ready)
            return &wait->parts[i];
    return NULL;
}

static void refuse_unfit(struct group_wait *wait, struct part *unfit)
{
    wait->decider = unfit;
    wait->answer = (struct future_result){
        .error = BJ_E_STATE,
        .outcome = machine_outcome(&unfit->job->run.machine),
        .text = text_printf("job %s: a job of this type has no pivot: wait for done",
                            bj_job_id(unfit->job)),
    };
    finish(wait);
}

static void start_wait(bj_future *future)
{
    struct group_wait *wait = wait_of(future);
    struct part *unfit = find_unfit(wait);

    if (unfit) {
        refuse_unfit(wait, unfit);
        return;
    }
    if (wait->goal == GROUP_PIVOT)
        listen_to_all(wait);
    for (size_t i = 0; i < wait->count; i++)
        ask_part(&wait->parts[i], wait->question);
    post_step(wait); /* all may be able to pivot already */
}

static void leave_wait(bj_future *future)
{
    leave_all(wait_of(future));
}

static bool is_late(const struct part *part)
{
    bool only_waits_for_others =
        part->wait->goal == GROUP_PIVOT && machine_can_pivot(&part->job->run.machine);
    return part->linked && !only_waits_for_others;
}

static struct text *late_wait(bj_future *future)
{
    static const char *const unmet[] = {
        [GROUP_READY] = "not ready",   [GROUP_DONE] = "not over",   [GROUP_ANY] = "not over",
        [GROUP_ABORT] = "not over",    [GROUP_PIVOT] = "not ready", [GROUP_SWITCH] = "not pivoted",
        [GROUP_ROLLBACK] = "not over",
    };
    const struct group_wait *wait = wait_of(future);
    const struct part *first = NULL;
    size_t late = 0;

    for (size_t i = wait->count; i-- > 0;) {
        if (is_late(&wait->parts[i])) {
            first = &wait->parts[i];
            late++;
        }
    }
    if (!first)
        return NULL;
    return text_printf("%zu of %zu jobs %s within %.10g s, job %s among them; all go on", late,
                       wait->count, unmet[wait->goal], (double)future->timeout_ms / 1000.,
                       bj_job_id(first->job));
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
    for (size_t i = 0; i < wait->count; i++)
        wait->parts[i] = (struct part){.wait = wait, .job = bj_job_ref(group->jobs[i])};
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
    wait->goal = goal;
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
    return launch(group, GROUP_PIVOT, (struct waiter){.question = ASK_PIVOT, .held = true}, 0,
                  timeout_ms);
}

bj_future *bj_group_abort(bj_group *group, int flags, int64_t timeout_ms)
{
    return launch(group, GROUP_ABORT, (struct waiter){.question = ASK_ABORT, .flags = flags},
                  BJ_ABORT_FORCE | BJ_ABORT_ASYNC, timeout_ms);
}
