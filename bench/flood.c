/* SPDX-License-Identifier: MIT */
/*
 * Pivots many mirrors of one QEMU at once, which from QEMU 10.0 on is a flood of events, by the
 * library or by a program that does no more than it must.
 *
 *     flood library|minimal SOCKET JOBS
 *
 * Mirrors the nodes "disk0", "disk1", ... to "copy0", ... in two parts: starts all of them and
 * waits until they are ready, then pivots them all. Prints two lines, for the start and the pivots:
 *
 *     WALL_US CPU_US LOOP_CPU_US MEDIAN_US WORST_US
 *
 * CPU_US is what the process used, LOOP_CPU_US the library's thread in it. The last two are how
 * long after QEMU's own time stamp an event was known: READY in the first line, the end in the
 * second.
 */
#include <blockjob/blockjob.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MAX = 1000 };

/* Of the library's thread, once a callback has run there. */
static clockid_t loop_clock;
static bool loop_is_known;

struct part {
    int64_t began_us;
    int64_t cpu_us;
    int64_t loop_us;
    int64_t late_us[JOBS_MAX];
    int count;
};

static void fail(const char *what)
{
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t cpu_us(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (int64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
           used.ru_utime.tv_usec + used.ru_stime.tv_usec;
}

static void begin(struct part *part)
{
    part->count = 0;
    part->cpu_us = cpu_us();
    part->loop_us = loop_is_known ? read_clock(loop_clock) : 0;
    part->began_us = read_clock(CLOCK_MONOTONIC);
}

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

    return a < b ? -1 : a > b;
}

static void end(struct part *part)
{
    int64_t wall = read_clock(CLOCK_MONOTONIC) - part->began_us;
    int64_t loop = loop_is_known ? read_clock(loop_clock) - part->loop_us : 0;
    int64_t *late = part->late_us;

    qsort(late, (size_t)part->count, sizeof late[0], compare);
    printf("%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n", wall,
           cpu_us() - part->cpu_us, loop, late[part->count / 2], late[part->count - 1]);
}

/* ------------------------------------------------------------------ library */

static void learn_clock(bj_future *future, void *user)
{
    (void)future;
    (void)user;
    loop_is_known = pthread_getcpuclockid(pthread_self(), &loop_clock) == 0;
}

static void check(bj_future *answer)
{
    bj_future_wait(answer, BJ_TIMEOUT_NONE);
    if (bj_future_error(answer) == BJ_OK)
        return;

    fprintf(stderr, "flood: %s\n", bj_future_text(answer));
    exit(EXIT_FAILURE);
}

static bj_monitor *connect_library(bj_ctx *ctx, const char *path)
{
    bj_future *connected = bj_monitor_connect(ctx, path, BJ_TIMEOUT_DEFAULT);

    bj_future_on_done(connected, (bj_closure){.fn = learn_clock});
    check(connected);
    bj_monitor *monitor = bj_future_monitor(connected);
    bj_future_unref(connected);
    return monitor;
}

static void start_all(bj_monitor *monitor, bj_job **jobs, int count, struct part *part)
{
    bj_future *answers[JOBS_MAX];
    char disk[32], copy[32];

    begin(part);
    for (int i = 0; i < count; i++) {
        snprintf(disk, sizeof disk, "disk%d", i);
        snprintf(copy, sizeof copy, "copy%d", i);
        answers[i] = bj_monitor_mirror(monitor, disk, copy, "full", NULL, BJ_TIMEOUT_NONE);
    }
    for (int i = 0; i < count; i++) {
        check(answers[i]);
        jobs[i] = bj_future_job(answers[i]);
        bj_future_unref(answers[i]);
        answers[i] = bj_job_ready(jobs[i], BJ_TIMEOUT_NONE);
    }
    for (int i = 0; i < count; i++) {
        check(answers[i]);
        bj_future_unref(answers[i]);
        part->late_us[part->count++] = bj_job_time(jobs[i], BJ_MOMENT_READY_SEEN) -
                                       bj_job_time(jobs[i], BJ_MOMENT_READY_EVENT);
    }
    end(part);
}

static void pivot_all(bj_job **jobs, int count, struct part *part)
{
    bj_future *answers[JOBS_MAX];

    begin(part);
    for (int i = 0; i < count; i++)
        answers[i] = bj_job_pivot(jobs[i], BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);
    for (int i = 0; i < count; i++) {
        check(answers[i]);
        bj_future_unref(answers[i]);
        part->late_us[part->count++] =
            bj_job_time(jobs[i], BJ_MOMENT_END_SEEN) - bj_job_time(jobs[i], BJ_MOMENT_END_EVENT);
    }
    end(part);
}

static void use_library(const char *path, int count)
{
    static struct part part;
    bj_job *jobs[JOBS_MAX];
    bj_ctx *ctx = NULL;

    if (bj_ctx_new(&ctx) != BJ_OK)
        fail("no context");
    bj_monitor *monitor = connect_library(ctx, path);
    start_all(monitor, jobs, count, &part);
    pivot_all(jobs, count, &part);

    for (int i = 0; i < count; i++)
        bj_job_unref(jobs[i]);
    bj_monitor_unref(monitor);
    bj_ctx_unref(ctx);
}

/* ------------------------------------------------------------------ minimal */

struct wire {
    int fd;
    size_t size;
    char buffer[1 << 16];
};

static void say(struct wire *wire, const char *text)
{
    if (write(wire->fd, text, strlen(text)) != (ssize_t)strlen(text))
        fail("write");
}

static int64_t time_stamp(const char *line)
{
    int64_t seconds = 0, microseconds = 0;

    sscanf(line, "{\"timestamp\": {\"seconds\": %" SCNd64 ", \"microseconds\": %" SCNd64, &seconds,
           &microseconds);
    return seconds * 1000000 + microseconds;
}

/* Reads until `count` lines with that word have come. */
static void await_lines(struct wire *wire, const char *word, int count, struct part *part)
{
    while (part->count < count) {
        ssize_t got =
            read(wire->fd, wire->buffer + wire->size, sizeof wire->buffer - wire->size - 1);
        if (got <= 0)
            fail("read");
        wire->size += (size_t)got;
        wire->buffer[wire->size] = '\0';

        char *line = wire->buffer;
        for (char *newline; (newline = strchr(line, '\n')) != NULL; line = newline + 1) {
            *newline = '\0';
            if (strstr(line, word) != NULL)
                part->late_us[part->count++] = read_clock(CLOCK_REALTIME) - time_stamp(line);
        }
        wire->size -= (size_t)(line - wire->buffer);
        memmove(wire->buffer, line, wire->size);
    }
}

static void do_the_least(const char *path, int count)
{
    static struct part part;
    static struct wire wire;
    char text[256];
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    wire.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (wire.fd < 0 || connect(wire.fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(path);
    say(&wire, "{\"execute\": \"qmp_capabilities\"}");

    begin(&part);
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text,
                 "{\"execute\": \"blockdev-mirror\", \"arguments\": {\"job-id\": \"job%d\", "
                 "\"device\": \"disk%d\", \"target\": \"copy%d\", \"sync\": \"full\"}}",
                 i, i, i);
        say(&wire, text);
    }
    await_lines(&wire, "BLOCK_JOB_READY", count, &part);
    end(&part);

    begin(&part);
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text,
                 "{\"execute\": \"job-complete\", \"arguments\": {\"id\": \"job%d\"}}", i);
        say(&wire, text);
    }
    await_lines(&wire, "BLOCK_JOB_COMPLETED", count, &part);
    end(&part);
    close(wire.fd);
}

int main(int argc, char **argv)
{
    int count = argc == 4 ? atoi(argv[3]) : 0;

    if (count < 1 || count > JOBS_MAX) {
        fprintf(stderr, "usage: flood library|minimal SOCKET JOBS\n");
        return EXIT_FAILURE;
    }
    if (strcmp(argv[1], "minimal") == 0)
        do_the_least(argv[2], count);
    else
        use_library(argv[2], count);
    return EXIT_SUCCESS;
}
