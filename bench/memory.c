/* SPDX-License-Identifier: MIT */
/*
 * What an idle monitor with one awaited job costs, in a process with thousands of them.
 *
 *     memory DIRECTORY
 *
 * Connects to every socket in the directory, starts a job on each and awaits its end, which does
 * not come; prints what the heap (as malloc counts it) and the process have grown by.
 */
#include "measure.h"

#include <blockjob/blockjob.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* So many connect at once: a listening socket of the peer has a short queue. */
#define WINDOW 100

struct seat {
    bj_future *answer;
    bj_monitor *monitor;
    bj_job *job;
    bj_future *done;
};

static void check(bj_future *answer)
{
    bj_future_wait(answer, BJ_TIMEOUT_NONE);
    if (bj_future_error(answer) == BJ_OK)
        return;

    fprintf(stderr, "memory: %s\n", bj_future_text(answer));
    exit(EXIT_FAILURE);
}

static void fill(bj_ctx *ctx, struct seat *seats, char **paths, size_t count)
{
    for (size_t i = 0; i < count; i++)
        seats[i].answer = bj_monitor_connect(ctx, paths[i], BJ_TIMEOUT_NONE);
    for (size_t i = 0; i < count; i++) {
        check(seats[i].answer);
        seats[i].monitor = bj_future_monitor(seats[i].answer);
        bj_future_unref(seats[i].answer);
    }

    for (size_t i = 0; i < count; i++)
        seats[i].answer =
            bj_monitor_mirror(seats[i].monitor, "disk0", "copy0", "full", NULL, BJ_TIMEOUT_NONE);
    for (size_t i = 0; i < count; i++) {
        check(seats[i].answer);
        seats[i].job = bj_future_job(seats[i].answer);
        seats[i].done = bj_job_done(seats[i].job, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
        bj_future_unref(seats[i].answer);
    }
}

static void allow_files(size_t wanted)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < wanted) {
        fprintf(stderr, "memory: %zu file descriptors are needed, %ju allowed (ulimit -Hn)\n",
                wanted, (uintmax_t)limit.rlim_max);
        exit(EXIT_FAILURE);
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    char pattern[4096];
    glob_t found;
    bj_ctx *ctx = NULL;

    if (argc != 2) {
        fprintf(stderr, "usage: memory DIRECTORY\n");
        return EXIT_FAILURE;
    }
    snprintf(pattern, sizeof pattern, "%s/*", argv[1]);
    if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0) {
        fprintf(stderr, "memory: nothing in %s\n", argv[1]);
        return EXIT_FAILURE;
    }
    size_t count = found.gl_pathc;
    allow_files(count + 100);

    struct seat *seats = calloc(count, sizeof *seats);
    if (seats == NULL || bj_ctx_new(&ctx) != BJ_OK) {
        fprintf(stderr, "memory: out of memory\n");
        return EXIT_FAILURE;
    }
    size_t heap = heap_in_use(), resident = resident_bytes();

    for (size_t i = 0; i < count; i += WINDOW)
        fill(ctx, seats + i, found.gl_pathv + i, count - i < WINDOW ? count - i : WINDOW);

    heap = heap_in_use() - heap;
    resident = resident_bytes() - resident;
    for (size_t i = 0; i < count; i++) {
        if (bj_future_is_done(seats[i].done)) {
            fprintf(stderr, "memory: a job has ended: %s\n", bj_future_text(seats[i].done));
            return EXIT_FAILURE;
        }
    }
    printf("monitors with one awaited job    %10zu\n", count);
    printf("heap, bytes each                 %10zu   (to be at most 8192)\n", heap / count);
    printf("resident memory, bytes each      %10zu\n", resident / count);

    for (size_t i = 0; i < count; i++) {
        bj_future_unref(seats[i].done);
        bj_job_unref(seats[i].job);
        bj_monitor_unref(seats[i].monitor);
    }
    bj_ctx_unref(ctx);
    free(seats);
    globfree(&found);
    return EXIT_SUCCESS;
}
