/* SPDX-License-Identifier: MIT */
/*
 * What bench/libvirt-stuck measures: many domains of libvirt's in one process, some of them stuck.
 *
 *     stuck URI DOMAIN...
 *
 * Connects to all, prints "ready"; then, for each line on stdin:
 *
 *     pivot DOMAIN TARGET BANDWIDTH   copies vda and asks for the pivot: "waiting", then "over" and
 *                                     when that was known, in microseconds since 1970
 *     connect DOMAIN                  once more: "connected" and the microseconds it took
 *     start DOMAIN TARGET BANDWIDTH   copies vda: "started"
 *     hang DOMAIN MS                  asks for that copy's pivot, and for another speed, both with
 *                                     that deadline; says nothing
 *     threads                         "threads" and how many it has
 *     collect                         for each of what was asked to hang "late" and by how many
 *                                     microseconds the answer came after its deadline
 */
#include <blockjob/blockjob.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_ASKED 4096

struct domain {
    const char *name;
    bj_monitor *monitor;
    bj_job *job; /* that was started, and not pivoted at once */
};

/* Something that is not answered before its deadline. */
struct asked {
    bj_future *future;
    int64_t deadline_us;
    int64_t late_us;
};

static struct {
    bj_ctx *ctx;
    const char *uri;
    struct domain *domains;
    int count;
    struct asked asked[MAX_ASKED];
    int asked_count;
    sem_t done; /* posted once for each of them */
} bench;

static int64_t now_us(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void say(const char *word, int64_t number)
{
    printf("%s %" PRId64 "\n", word, number);
    fflush(stdout);
}

static void give_up(const char *text)
{
    fprintf(stderr, "stuck: %s\n", text);
    exit(EXIT_FAILURE);
}

static bj_future *answered(bj_future *future)
{
    bj_future_wait(future, BJ_TIMEOUT_NONE);
    if (bj_future_error(future) != BJ_OK)
        give_up(bj_future_text(future));
    return future;
}

static bj_future *ask_to_connect(const char *name)
{
    char uri[512];

    snprintf(uri, sizeof uri, "%s#%s", bench.uri, name);
    return bj_monitor_connect(bench.ctx, uri, 60 * 1000);
}

static struct domain *find(const char *name)
{
    for (int i = 0; i < bench.count; i++)
        if (strcmp(bench.domains[i].name, name) == 0)
            return &bench.domains[i];
    give_up(name);
    return NULL;
}

static bj_job *copy(const char *name, const char *target, unsigned bandwidth)
{
    char options[128];

    snprintf(options, sizeof options, "{\"format\": \"raw\", \"reuse\": true, \"bandwidth\": %u}",
             bandwidth);
    bj_future *started = answered(
        bj_monitor_mirror(find(name)->monitor, "vda", target, "full", options, BJ_TIMEOUT_DEFAULT));
    bj_job *job = bj_future_job(started);
    bj_future_unref(started);
    return job;
}

static void start(const char *name, const char *target, unsigned bandwidth)
{
    find(name)->job = copy(name, target, bandwidth);
    puts("started");
    fflush(stdout);
}

static void pivot(const char *name, const char *target, unsigned bandwidth)
{
    bj_job *job = copy(name, target, bandwidth);
    bj_future *pivoted = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);

    puts("waiting");
    fflush(stdout);
    answered(pivoted);
    int64_t over_us = now_us(CLOCK_REALTIME);
    bj_future *released = answered(bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE));

    bj_future_unref(released);
    bj_future_unref(pivoted);
    bj_job_unref(job);
    say("over", over_us);
}

static void connect_again(const char *name)
{
    int64_t begin_us = now_us(CLOCK_MONOTONIC);
    bj_future *connected = answered(ask_to_connect(name));
    int64_t taken_us = now_us(CLOCK_MONOTONIC) - begin_us;

    bj_future_unref(connected); /* closes the monitor, which nobody has taken out */
    say("connected", taken_us);
}

static void on_done(bj_future *future, void *user)
{
    struct asked *asked = user;

    (void)future;
    asked->late_us = now_us(CLOCK_MONOTONIC) - asked->deadline_us;
    sem_post(&bench.done);
}

static void note(bj_future *future, int64_t deadline_us)
{
    if (bench.asked_count == MAX_ASKED)
        give_up("too much is asked");
    struct asked *asked = &bench.asked[bench.asked_count++];
    asked->future = future;
    asked->deadline_us = deadline_us;
    bj_future_on_done(future, (bj_closure){.fn = on_done, .user = asked});
}

static void hang(const char *name, int64_t timeout_ms)
{
    bj_job *job = find(name)->job;

    int64_t deadline_us = now_us(CLOCK_MONOTONIC) + timeout_ms * 1000;
    note(bj_job_pivot(job, BJ_PIVOT_WAIT_READY, timeout_ms), deadline_us);
    deadline_us = now_us(CLOCK_MONOTONIC) + timeout_ms * 1000;
    note(bj_job_set_speed(job, 0, timeout_ms), deadline_us);
}

static void collect(void)
{
    for (int i = 0; i < bench.asked_count; i++)
        while (sem_wait(&bench.done) != 0 && errno == EINTR)
            continue;
    for (int i = 0; i < bench.asked_count; i++) {
        bj_future *future = bench.asked[i].future;
        if (bj_future_error(future) != BJ_E_TIMEOUT)
            give_up(bj_future_error(future) == BJ_OK ? "it did not hang" : bj_future_text(future));
        say("late", bench.asked[i].late_us);
        bj_future_unref(future);
    }
    bench.asked_count = 0;
}

static int64_t threads(void)
{
    int64_t count = 0;
    DIR *tasks = opendir("/proc/self/task");

    if (tasks == NULL)
        give_up("/proc/self/task");
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;)
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static void connect_all(char **names)
{
    bj_future **futures = calloc((size_t)bench.count, sizeof(bj_future *));

    bench.domains = calloc((size_t)bench.count, sizeof *bench.domains);
    if (futures == NULL || bench.domains == NULL)
        give_up("no memory");
    for (int i = 0; i < bench.count; i++) {
        bench.domains[i].name = names[i];
        futures[i] = ask_to_connect(names[i]);
    }
    for (int i = 0; i < bench.count; i++) {
        bench.domains[i].monitor = bj_future_monitor(answered(futures[i]));
        bj_future_unref(futures[i]);
    }
    free(futures);
}

int main(int argc, char **argv)
{
    char line[512], verb[16], name[64], target[256];

    if (argc < 3) {
        fprintf(stderr, "usage: stuck URI DOMAIN...\n");
        return EXIT_FAILURE;
    }
    if (bj_ctx_new(&bench.ctx) != BJ_OK)
        return EXIT_FAILURE;
    sem_init(&bench.done, 0, 0);
    bench.uri = argv[1];
    bench.count = argc - 2;
    connect_all(argv + 2);
    puts("ready");
    fflush(stdout);

    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned bandwidth = 0;
        int words = sscanf(line, "%15s %63s %255s %u", verb, name, target, &bandwidth);
        if (words == 4 && strcmp(verb, "pivot") == 0)
            pivot(name, target, bandwidth);
        else if (words == 2 && strcmp(verb, "connect") == 0)
            connect_again(name);
        else if (words == 4 && strcmp(verb, "start") == 0)
            start(name, target, bandwidth);
        else if (words == 3 && strcmp(verb, "hang") == 0)
            hang(name, strtol(target, NULL, 10));
        else if (words == 1 && strcmp(verb, "threads") == 0)
            say("threads", threads());
        else if (words == 1 && strcmp(verb, "collect") == 0)
            collect();
        else
            give_up(line);
    }
    /* Nothing is taken down: the calls that are stuck would be waited for. */
    return EXIT_SUCCESS;
}
