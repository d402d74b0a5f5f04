/* SPDX-License-Identifier: MIT */
/*
 * Copies a disk and switches to the copy, with blocking waits: the shortest way.
 *
 *     pivot_wait SOCKET DEVICE TARGET
 */
#include <blockjob/blockjob.h>
#include <stdio.h>
#include <stdlib.h>

/* Waits for the answer, and says why if it is a bad one. */
static bool succeeds(bj_future *answer)
{
    bj_future_wait(answer, BJ_TIMEOUT_NONE);
    if (bj_future_error(answer) == BJ_OK)
        return true;

    fprintf(stderr, "pivot_wait: %s\n", bj_future_text(answer));
    return false;
}

int main(int argc, char **argv)
{
    bj_ctx *ctx = NULL;
    bj_monitor *monitor = NULL;
    bj_job *job = NULL;
    bj_future *connected = NULL, *started = NULL, *ready = NULL, *pivoted = NULL;
    int status = EXIT_FAILURE;

    if (argc != 4) {
        fprintf(stderr, "usage: pivot_wait SOCKET DEVICE TARGET\n");
        return EXIT_FAILURE;
    }

    int error = bj_ctx_new(&ctx);
    if (error != BJ_OK) {
        fprintf(stderr, "pivot_wait: %s\n", bj_error_text(error));
        return EXIT_FAILURE;
    }

    connected = bj_monitor_connect(ctx, argv[1], BJ_TIMEOUT_DEFAULT);
    if (!succeeds(connected))
        goto out;
    monitor = bj_future_monitor(connected);

    started = bj_monitor_mirror(monitor, argv[2], argv[3], "full", NULL, BJ_TIMEOUT_DEFAULT);
    if (!succeeds(started))
        goto out;
    job = bj_future_job(started);
    printf("%s copies %s to %s\n", bj_job_id(job), argv[2], argv[3]);

    ready = bj_job_ready(job, BJ_TIMEOUT_NONE);
    if (!succeeds(ready))
        goto out;
    printf("ready\n");

    pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
    if (!succeeds(pivoted))
        goto out;
    printf("%s\n", bj_outcome_name(bj_job_outcome(job)));
    status = EXIT_SUCCESS;

out:
    bj_future_unref(pivoted);
    bj_future_unref(ready);
    bj_job_unref(job);
    bj_future_unref(started);
    bj_monitor_unref(monitor);
    bj_future_unref(connected);
    bj_ctx_unref(ctx);
    return status;
}
