/* SPDX-License-Identifier: MIT */
/*
 * Copies a disk and switches to the copy, with callbacks on the library's own thread.
 *
 *     pivot_callback SOCKET DEVICE TARGET
 *
 * Each answer asks for the next thing. Nothing in a callback blocks; main() only waits for the end.
 */
#include <blockjob/blockjob.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

struct copy {
    const char *device;
    const char *target;

    bj_monitor *monitor;
    bj_job *job;

    int status;
    sem_t over;
};

static void finish(struct copy *copy, int status)
{
    copy->status = status;
    sem_post(&copy->over);
}

/* Has `fn` called with the answer. The callback keeps the future alive: our reference can go. */
static void then(bj_future *future, void (*fn)(bj_future *, void *), struct copy *copy)
{
    int error = bj_future_on_done(future, (bj_closure){.fn = fn, .user = copy});

    if (error != BJ_OK) {
        fprintf(stderr, "pivot_callback: %s\n", bj_error_text(error));
        finish(copy, EXIT_FAILURE);
    }
    bj_future_unref(future);
}

/* Ends the program with the reason, if the answer is a bad one. */
static bool failed(bj_future *answer, struct copy *copy)
{
    if (bj_future_error(answer) == BJ_OK)
        return false;

    fprintf(stderr, "pivot_callback: %s\n", bj_future_text(answer));
    finish(copy, EXIT_FAILURE);
    return true;
}

static void on_pivoted(bj_future *answer, void *user)
{
    struct copy *copy = user;

    if (failed(answer, copy))
        return;
    printf("%s\n", bj_outcome_name(bj_future_outcome(answer)));
    finish(copy, EXIT_SUCCESS);
}

static void on_record(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch;
    (void)user;

    switch (record->kind) {
    case BJ_RECORD_PROGRESS:
        printf("%" PRId64 " of %" PRId64 " bytes\n", record->current, record->total);
        break;
    case BJ_RECORD_STALLED:
        printf("stalled: %s\n", record->text);
        break;
    case BJ_RECORD_READY:
        printf("ready\n");
        break;
    default:
        break;
    }
}

static void on_started(bj_future *answer, void *user)
{
    struct copy *copy = user;
    bj_watch *watch = NULL;

    if (failed(answer, copy))
        return;
    copy->job = bj_future_job(answer);
    printf("%s copies %s to %s\n", bj_job_id(copy->job), copy->device, copy->target);

    /* Who wants no progress needs no watch. The callback keeps it open until the job is over. */
    if (bj_job_watch(copy->job, 250, &watch) == BJ_OK)
        bj_watch_on_record(watch, (bj_watch_closure){.fn = on_record});
    bj_watch_unref(watch);

    then(bj_job_pivot(copy->job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), on_pivoted, copy);
}

static void on_connected(bj_future *answer, void *user)
{
    struct copy *copy = user;

    if (failed(answer, copy))
        return;
    copy->monitor = bj_future_monitor(answer);

    then(bj_monitor_mirror(copy->monitor, copy->device, copy->target, "full", NULL,
                           BJ_TIMEOUT_DEFAULT),
         on_started, copy);
}

int main(int argc, char **argv)
{
    struct copy copy = {0};
    bj_ctx *ctx = NULL;

    if (argc != 4) {
        fprintf(stderr, "usage: pivot_callback SOCKET DEVICE TARGET\n");
        return EXIT_FAILURE;
    }
    copy.device = argv[2];
    copy.target = argv[3];

    int error = bj_ctx_new(&ctx);
    if (error != BJ_OK) {
        fprintf(stderr, "pivot_callback: %s\n", bj_error_text(error));
        return EXIT_FAILURE;
    }

    sem_init(&copy.over, 0, 0);
    then(bj_monitor_connect(ctx, argv[1], BJ_TIMEOUT_DEFAULT), on_connected, &copy);
    while (sem_wait(&copy.over) != 0)
        continue; /* a signal */

    bj_ctx_close(ctx); /* after this no callback runs */

    bj_job_unref(copy.job);
    bj_monitor_unref(copy.monitor);
    bj_ctx_unref(ctx);
    sem_destroy(&copy.over);
    return copy.status;
}
