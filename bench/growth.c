/* SPDX-License-Identifier: MIT */
/*
 * Whether anything grows: file descriptors, threads, heap, resident memory.
 *
 *     growth SOCKET DEVICE TARGET [COUNT]
 *
 * Connects and closes COUNT times (1000), then runs COUNT jobs on one monitor, every other one
 * pivoted, the rest aborted, and prints a row ten times on the way. Everything of a round is let go
 * before the next; the numbers of a row are those between two rounds.
 */
#include "measure.h"

#include <blockjob/blockjob.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static void check(bj_future *answer)
{
    bj_future_wait(answer, BJ_TIMEOUT_NONE);
    if (bj_future_error(answer) == BJ_OK)
        return;

    fprintf(stderr, "growth: %s\n", bj_future_text(answer));
    exit(EXIT_FAILURE);
}

static int entries(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);

    if (dir == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void print_row(const char *what, int done)
{
    /* What looks is itself an open directory. */
    printf("%-9s %6d %6d %8d %12zu %12zu\n", what, done, entries("/proc/self/fd") - 1,
           entries("/proc/self/task"), heap_in_use(), resident_bytes() / 1024);
    fflush(stdout);
}

static bj_monitor *connect_to(bj_ctx *ctx, const char *uri)
{
    bj_future *connected = bj_monitor_connect(ctx, uri, BJ_TIMEOUT_DEFAULT);

    check(connected);
    bj_monitor *monitor = bj_future_monitor(connected);
    bj_future_unref(connected);
    return monitor;
}

static void connect_and_close(bj_ctx *ctx, const char *uri)
{
    bj_monitor *monitor = connect_to(ctx, uri);
    bj_future *closed = bj_monitor_closed(monitor);

    bj_monitor_close(monitor);
    bj_future_wait(closed, BJ_TIMEOUT_NONE);
    bj_future_unref(closed);
    bj_monitor_unref(monitor);
}

static void run_job(bj_monitor *monitor, const char *device, const char *target, bool pivots)
{
    bj_future *started =
        bj_monitor_mirror(monitor, device, target, "full", NULL, BJ_TIMEOUT_DEFAULT);
    check(started);
    bj_job *job = bj_future_job(started);

    bj_future *verb = pivots ? bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE)
                             : bj_job_abort(job, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE);
    check(verb);
    bj_future *released = bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE);
    check(released);

    bj_future_unref(released);
    bj_future_unref(verb);
    bj_job_unref(job);
    bj_future_unref(started);
}

int main(int argc, char **argv)
{
    bj_ctx *ctx = NULL;
    int count = argc == 5 ? atoi(argv[4]) : 1000;

    if (argc < 4 || argc > 5 || count < 10) {
        fprintf(stderr, "usage: growth SOCKET DEVICE TARGET [COUNT]\n");
        return EXIT_FAILURE;
    }
    if (bj_ctx_new(&ctx) != BJ_OK) {
        fprintf(stderr, "growth: no context\n");
        return EXIT_FAILURE;
    }
    printf("%-9s %6s %6s %8s %12s %12s\n", "", "done", "fds", "threads", "heap bytes", "rss KiB");

    for (int i = 0; i < count; i++) {
        connect_and_close(ctx, argv[1]);
        if ((i + 1) % (count / 10) == 0)
            print_row("connects", i + 1);
    }

    bj_monitor *monitor = connect_to(ctx, argv[1]);
    for (int i = 0; i < count; i++) {
        run_job(monitor, argv[2], argv[3], i % 2 == 0);
        if ((i + 1) % (count / 10) == 0)
            print_row("jobs", i + 1);
    }
    bj_monitor_unref(monitor);
    bj_ctx_unref(ctx);
    print_row("the end", 2 * count);
    return EXIT_SUCCESS;
}
