/* SPDX-License-Identifier: MIT */
/*
 * What bench/pivot measures in C. The pivot is asked for while the job still copies: the library
 * itself turns READY into complete.
 *
 *     client SOCKET
 *
 * For each line "DEVICE TARGET" on stdin: connects, mirrors, pivots, hangs up, prints "pivoted",
 * or "late" if the job was ready before the pivot could be asked for.
 */
#include <blockjob/blockjob.h>
#include <stdio.h>
#include <stdlib.h>

static bj_future *answered(bj_future *future)
{
    bj_future_wait(future, BJ_TIMEOUT_NONE);
    if (bj_future_error(future) != BJ_OK) {
        fprintf(stderr, "client: %s\n", bj_future_text(future));
        exit(EXIT_FAILURE);
    }
    return future;
}

static void pivot(bj_ctx *ctx, const char *uri, const char *device, const char *target)
{
    bj_future *connected = answered(bj_monitor_connect(ctx, uri, BJ_TIMEOUT_DEFAULT));
    bj_monitor *monitor = bj_future_monitor(connected);
    bj_future *started =
        answered(bj_monitor_mirror(monitor, device, target, "full", NULL, BJ_TIMEOUT_DEFAULT));
    bj_job *job = bj_future_job(started);

    bj_future *pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
    bool late = bj_job_is_ready(job);
    answered(pivoted);
    bj_future *released = answered(bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));

    bj_future_unref(released);
    bj_future_unref(pivoted);
    bj_job_unref(job);
    bj_future_unref(started);
    bj_monitor_unref(monitor);
    bj_future_unref(connected);
    puts(late ? "late" : "pivoted");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char device[64], target[64];
    bj_ctx *ctx = NULL;

    if (argc != 2) {
        fprintf(stderr, "usage: client SOCKET\n");
        return EXIT_FAILURE;
    }
    if (bj_ctx_new(&ctx) != BJ_OK)
        return EXIT_FAILURE;

    while (scanf("%63s %63s", device, target) == 2)
        pivot(ctx, argv[1], device, target);
    bj_ctx_unref(ctx);
    return EXIT_SUCCESS;
}
