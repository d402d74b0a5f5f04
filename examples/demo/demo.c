/* SPDX-License-Identifier: MIT */
/*
 * The demo's program in C: copies a disk, then switches to the copy or aborts on the way.
 *
 *     demo SOCKET DEVICE TARGET BYTES_PER_SECOND pivot|abort
 *
 * Prints a line for each thing that happens; times are microseconds since 1970. One blocking loop
 * over the job's watch is all there is to it.
 */
#include <blockjob/blockjob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Waits for the answer, and says why if it is a bad one. */
static bool succeeds(bj_future *answer)
{
    bj_future_wait(answer, BJ_TIMEOUT_NONE);
    if (bj_future_error(answer) == BJ_OK)
        return true;

    fprintf(stderr, "demo: %s\n", bj_future_text(answer));
    return false;
}

/* Follows the job to its end and gives the verb on the way. Returns the verb's answer, NULL if the
 * job failed before there was anything to say to it. */
static bj_future *follow(bj_job *job, bj_watch *watch, bool aborts)
{
    bj_future *verb = NULL;
    const bj_record *record;

    while (bj_watch_next(watch, BJ_TIMEOUT_NONE, &record) == BJ_OK) {
        switch (record->kind) {
        case BJ_RECORD_PROGRESS:
            printf("progress %" PRId64 " %" PRId64 "\n", record->current, record->total);
            if (aborts && verb == NULL && record->current > record->total / 3)
                verb = bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE);
            break;
        case BJ_RECORD_READY:
            printf("ready %" PRId64 "\n", now_us());
            if (!aborts)
                verb = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
            break;
        case BJ_RECORD_ENDED:
            printf("ended %" PRId64 " %s %s\n", now_us(), bj_outcome_name(record->outcome),
                   record->text);
            break;
        default:
            break;
        }
    }
    return verb;
}

int main(int argc, char **argv)
{
    bj_ctx *ctx = NULL;
    bj_monitor *monitor = NULL;
    bj_job *job = NULL;
    bj_watch *watch = NULL;
    bj_future *connected = NULL, *started = NULL, *verb = NULL, *released = NULL;
    char options[64];
    int status = EXIT_FAILURE;

    if (argc != 6) {
        fprintf(stderr, "usage: demo SOCKET DEVICE TARGET BYTES_PER_SECOND pivot|abort\n");
        return EXIT_FAILURE;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    int error = bj_ctx_new(&ctx);
    if (error != BJ_OK) {
        fprintf(stderr, "demo: %s\n", bj_error_text(error));
        return EXIT_FAILURE;
    }

    connected = bj_monitor_connect(ctx, argv[1], BJ_TIMEOUT_DEFAULT);
    if (!succeeds(connected))
        goto out;
    monitor = bj_future_monitor(connected);

    snprintf(options, sizeof options, "{\"speed\": %" PRId64 "}", (int64_t)atoll(argv[4]));
    started = bj_monitor_mirror(monitor, argv[2], argv[3], "full", options, BJ_TIMEOUT_DEFAULT);
    if (!succeeds(started))
        goto out;
    job = bj_future_job(started);

    error = bj_job_watch(job, 100, &watch);
    if (error != BJ_OK) {
        fprintf(stderr, "demo: %s\n", bj_error_text(error));
        goto out;
    }
    verb = follow(job, watch, strcmp(argv[5], "abort") == 0);
    /* Whoever has run this program may remove a node next. */
    released = bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE);
    bj_future_wait(released, BJ_TIMEOUT_NONE);
    if (succeeds(verb != NULL ? verb : released))
        status = EXIT_SUCCESS;

    printf("timeline %" PRId64 " %" PRId64 " %" PRId64 "\n",
           bj_job_time(job, BJ_MOMENT_READY_EVENT), bj_job_time(job, BJ_MOMENT_COMPLETE_SENT),
           bj_job_time(job, BJ_MOMENT_END_EVENT));

out:
    bj_future_unref(released);
    bj_future_unref(verb);
    bj_watch_unref(watch);
    bj_job_unref(job);
    bj_future_unref(started);
    bj_monitor_unref(monitor);
    bj_future_unref(connected);
    bj_ctx_unref(ctx);
    return status;
}
