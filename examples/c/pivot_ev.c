/* SPDX-License-Identifier: MIT */
/*
 * Copies a disk and switches to the copy, inside the program's own libev loop: no thread is made.
 *
 *     pivot_ev SOCKET DEVICE TARGET
 *
 * The loop also serves the program's own watchers: here one for Ctrl-C, which aborts the job and
 * waits, like everything else, for the truth about it.
 */
#include <blockjob/ev.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct copy {
    const char *device;
    const char *target;

    bj_monitor *monitor;
    bj_job *job;

    int status;
};

/* Has `fn` called with the answer. The callback keeps the future alive: our reference can go. */
static void then(bj_future *future, void (*fn)(bj_future *, void *), struct copy *copy)
{
    int error = bj_future_on_done(future, (bj_closure){.fn = fn, .user = copy});

    if (error != BJ_OK) {
        fprintf(stderr, "pivot_ev: %s\n", bj_error_text(error));
        bj_monitor_close(copy->monitor);
    }
    bj_future_unref(future);
}

static void on_over(bj_future *answer, void *user)
{
    struct copy *copy = user;

    if (bj_future_error(answer) == BJ_OK) {
        printf("%s\n", bj_outcome_name(bj_future_outcome(answer)));
        copy->status = EXIT_SUCCESS;
    } else {
        fprintf(stderr, "pivot_ev: %s\n", bj_future_text(answer));
    }

    /* With the last monitor closed nothing of ours keeps ev_run(). */
    bj_monitor_close(copy->monitor);
}

static void on_abort_accepted(bj_future *answer, void *user)
{
    (void)user;

    if (bj_future_error(answer) != BJ_OK)
        fprintf(stderr, "pivot_ev: %s\n", bj_future_text(answer));
}

static void on_interrupt(struct ev_loop *loop, ev_signal *interrupt, int events)
{
    struct copy *copy = interrupt->data;

    (void)events;
    if (copy->job == NULL) {
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    printf("aborting %s\n", bj_job_id(copy->job));
    then(bj_job_abort(copy->job, BJ_ABORT_FORCE | BJ_ABORT_ASYNC, BJ_TIMEOUT_DEFAULT),
         on_abort_accepted, copy);
}

static void on_record(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch;
    (void)user;

    if (record->kind == BJ_RECORD_PROGRESS)
        printf("%" PRId64 " of %" PRId64 " bytes\n", record->current, record->total);
    else if (record->kind == BJ_RECORD_READY)
        printf("ready\n");
}

static void on_started(bj_future *answer, void *user)
{
    struct copy *copy = user;
    bj_watch *watch = NULL;

    if (bj_future_error(answer) != BJ_OK) {
        on_over(answer, copy);
        return;
    }
    copy->job = bj_future_job(answer);
    printf("%s copies %s to %s\n", bj_job_id(copy->job), copy->device, copy->target);

    if (bj_job_watch(copy->job, 250, &watch) == BJ_OK)
        bj_watch_on_record(watch, (bj_watch_closure){.fn = on_record});
    bj_watch_unref(watch);

    then(bj_job_pivot(copy->job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), on_over, copy);
}

static void on_connected(bj_future *answer, void *user)
{
    struct copy *copy = user;

    if (bj_future_error(answer) != BJ_OK) {
        on_over(answer, copy);
        return;
    }
    copy->monitor = bj_future_monitor(answer);

    then(bj_monitor_mirror(copy->monitor, copy->device, copy->target, "full", NULL,
                           BJ_TIMEOUT_DEFAULT),
         on_started, copy);
}

int main(int argc, char **argv)
{
    struct copy copy = {.status = EXIT_FAILURE};
    struct ev_loop *loop = EV_DEFAULT;
    ev_signal interrupt;
    bj_ctx *ctx = NULL;

    if (argc != 4) {
        fprintf(stderr, "usage: pivot_ev SOCKET DEVICE TARGET\n");
        return EXIT_FAILURE;
    }
    copy.device = argv[2];
    copy.target = argv[3];

    int error = bj_ctx_new_on_loop(loop, &ctx);
    if (error != BJ_OK) {
        fprintf(stderr, "pivot_ev: %s\n", bj_error_text(error));
        return EXIT_FAILURE;
    }

    ev_signal_init(&interrupt, on_interrupt, SIGINT);
    interrupt.data = &copy;
    ev_signal_start(loop, &interrupt);
    ev_unref(loop); /* it alone shall not keep ev_run() */

    then(bj_monitor_connect(ctx, argv[1], BJ_TIMEOUT_DEFAULT), on_connected, &copy);
    ev_run(loop, 0);
    bj_ctx_close(ctx); /* what is still pending is answered in here */

    bj_job_unref(copy.job);
    bj_monitor_unref(copy.monitor);
    bj_ctx_unref(ctx);

    ev_ref(loop);
    ev_signal_stop(loop, &interrupt);
    return copy.status;
}
