/* SPDX-License-Identifier: MIT */
/*
 * What bench/libvirt-pivot and bench/libvirt-rounds measure in C: copies a domain's disk and
 * pivots.
 *
 *     client URI DOMAIN
 *
 * For each line "DEVICE TARGET BANDWIDTH" on stdin: starts the copy, asks for the pivot, prints
 * "waiting", then when the pivot was known to be over, in microseconds since 1970; or "failed: "
 * and why.
 */
#include <blockjob/blockjob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static bj_future *done(bj_future *future)
{
    bj_future_wait(future, BJ_TIMEOUT_NONE);
    return future;
}

static bj_future *answered(bj_future *future)
{
    if (bj_future_error(done(future)) != BJ_OK) {
        fprintf(stderr, "client: %s\n", bj_future_text(future));
        exit(EXIT_FAILURE);
    }
    return future;
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void pivot(bj_monitor *monitor, const char *device, const char *target,
                  unsigned long long bandwidth)
{
    char options[128];

    snprintf(options, sizeof options, "{\"format\": \"raw\", \"reuse\": true, \"bandwidth\": %llu}",
             bandwidth);
    bj_future *started =
        done(bj_monitor_mirror(monitor, device, target, "full", options, BJ_TIMEOUT_DEFAULT));
    if (bj_future_error(started) != BJ_OK) {
        printf("failed: %s\n", bj_future_text(started));
        fflush(stdout);
        bj_future_unref(started);
        return;
    }
    bj_job *job = bj_future_job(started);

    bj_future *pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
    puts("waiting");
    fflush(stdout);
    bj_future_wait(pivoted, BJ_TIMEOUT_NONE);
    int64_t over_us = now_us();
    bj_future *released = done(bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));

    if (bj_future_error(pivoted) == BJ_OK)
        printf("%" PRId64 "\n", over_us);
    else
        printf("failed: %s\n", bj_future_text(pivoted));
    fflush(stdout);
    bj_future_unref(released);
    bj_future_unref(pivoted);
    bj_job_unref(job);
    bj_future_unref(started);
}

int main(int argc, char **argv)
{
    char uri[512], device[64], target[256];
    unsigned long long bandwidth;
    bj_ctx *ctx = NULL;

    if (argc != 3) {
        fprintf(stderr, "usage: client URI DOMAIN\n");
        return EXIT_FAILURE;
    }
    if (bj_ctx_new(&ctx) != BJ_OK)
        return EXIT_FAILURE;
    snprintf(uri, sizeof uri, "%s#%s", argv[1], argv[2]);
    bj_future *connected = answered(bj_monitor_connect(ctx, uri, BJ_TIMEOUT_DEFAULT));
    bj_monitor *monitor = bj_future_monitor(connected);

    while (scanf("%63s %255s %llu", device, target, &bandwidth) == 3)
        pivot(monitor, device, target, bandwidth);

    bj_monitor_unref(monitor);
    bj_future_unref(connected);
    bj_ctx_unref(ctx);
    return EXIT_SUCCESS;
}
