/* SPDX-License-Identifier: MIT */
/*
 * The program whose instructions bench/instructions counts:
 *
 *     instructions ITEM COUNT TRANSCRIPTS
 *
 * does ITEM COUNT times to warm up, then COUNT times with the library's part inside counted(), the
 * only function in which callgrind counts. TRANSCRIPTS is a folder of tests/traces/data.
 * "instructions versions" prints the versions of the libraries.
 *
 * The library runs on this program's event loop, and this program is also its QEMU, at the other
 * end of a socketpair. There is one thread, and what QEMU sends is in the socket before the loop
 * runs, so every run executes the same instructions, however busy the machine is. The server does
 * not allocate while items are counted: malloc's state depends on the library alone.
 */
#include <blockjob/blockjob.h>
#include <blockjob/ev.h>

#include <gnu/libc-version.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* Fewer bytes than the library reads at once. */
enum { EVENTS_PER_READ = 64 };

#define TIMESTAMP "\"timestamp\": {\"seconds\": 1795372820, \"microseconds\": 589769}"

/* An event that has nothing to do with jobs. */
static const char rtc_change[] =
    "{" TIMESTAMP ", \"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 78, "
    "\"qom-path\": \"/machine/unattached/device[8]\"}}\r\n";

/* What a real QEMU sent: its greeting, and the values that commands returned. */
struct recorded {
    char *greeting;
    char *commands;     /* of query-commands */
    char *graph_before; /* of x-debug-query-block-graph while the job runs */
    char *graph_after;  /* and after the pivot */
};

/* QEMU's end of a connection. */
struct server {
    int fd;
    int client; /* the other end, of which the library has a duplicate */
    bool completed;
    bool dismissed;
    size_t input_len;
    size_t output_len;
    char input[4096];
    char output[32768];
};

struct world {
    struct ev_loop *loop;
    bj_ctx *ctx;
    struct recorded recorded;
    struct server server;
    bj_monitor *monitor;
    bj_job *job;
    bool counting;
    bool pivoted;
    int records;

    /* Of the latest connect. */
    struct server newcomer;
    char uri[16];
    bj_monitor *connected;

    /* Of the wake-ups. */
    bj_queue *queue;
};

static void fail(const char *what)
{
    fprintf(stderr, "instructions: %s\n", what);
    exit(EXIT_FAILURE);
}

/* In place of the C library's: the ids made of it must have the same digits in every run. */
ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    (void)flags;
    memset(buffer, 0x35, length);
    return (ssize_t)length;
}

/* ----------------------------------------------------------------- counting */

typedef void step(struct world *w);

/* Callgrind counts only while this function runs. */
__attribute__((noinline)) static void counted(step *do_step, struct world *w)
{
    do_step(w);
    __asm__ volatile(""); /* no tail call, which would leave this function */
}

static void take(struct world *w, step *do_step)
{
    if (w->counting)
        counted(do_step, w);
    else
        do_step(w);
}

static void turn(struct world *w)
{
    ev_run(w->loop, EVRUN_NOWAIT);
}

/* What the library has put off until its loop runs again is part of the item. */
static void take_rest(struct world *w)
{
    take(w, turn);
}

/* ------------------------------------------------------------ recorded replies */

static char *dump(const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    if (!text)
        fail("a transcript lacks a reply, or there is no memory");
    return text;
}

/* Whether it is the reply to that command: its id is "command#4" or the like. */
static bool is_reply(const json_t *message, const char *command)
{
    const char *id = json_string_value(json_object_get(message, "id"));
    size_t len = strlen(command);
    return id && strncmp(id, command, len) == 0 && id[len] == '#' &&
           json_object_get(message, "return");
}

static void read_message(struct recorded *recorded, const json_t *message)
{
    const json_t *value = json_object_get(message, "return");

    if (json_object_get(message, "QMP") && !recorded->greeting)
        recorded->greeting = dump(message);
    if (is_reply(message, "query-commands"))
        recorded->commands = dump(value);
    if (is_reply(message, "x-debug-query-block-graph") && !recorded->graph_before) {
        recorded->graph_before = dump(value);
    } else if (is_reply(message, "x-debug-query-block-graph")) {
        free(recorded->graph_after);
        recorded->graph_after = dump(value); /* the last one */
    }
}

static void read_transcript(struct recorded *recorded, const char *folder, const char *name)
{
    char path[4096];
    json_t *line;

    snprintf(path, sizeof path, "%s/%s.jsonl", folder, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail(path);
    while ((line = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL))) {
        const char *direction = json_string_value(json_object_get(line, "dir"));
        if (direction && strcmp(direction, "in") == 0)
            read_message(recorded, json_object_get(line, "msg"));
        json_decref(line);
    }
    fclose(file);
}

static void read_transcripts(struct recorded *recorded, const char *folder)
{
    read_transcript(recorded, folder, "caps");
    read_transcript(recorded, folder, "mirror_pivot");
    if (!recorded->greeting || !recorded->commands || !recorded->graph_after)
        fail("the transcripts lack a reply");
}

/* ------------------------------------------------------------------- server */

static void open_server(struct server *server)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        fail("socketpair");
    *server = (struct server){.fd = fds[0], .client = fds[1]};
}

static void close_server(struct server *server)
{
    close(server->fd);
    close(server->client);
}

__attribute__((format(printf, 2, 3))) static void say(struct server *server, const char *format,
                                                      ...)
{
    size_t room = sizeof server->output - server->output_len;
    va_list arguments;

    va_start(arguments, format);
    int len = vsnprintf(server->output + server->output_len, room, format, arguments);
    va_end(arguments);
    if (len < 0 || (size_t)len >= room)
        fail("a message is too long");
    server->output_len += (size_t)len;
}

/* In one piece, so that the library gets it with one read. */
static void send_said(struct server *server)
{
    size_t len = server->output_len;

    if (send(server->fd, server->output, len, MSG_NOSIGNAL) != (ssize_t)len)
        fail("send");
    server->output_len = 0;
}

static void say_status(struct server *server, const char *status)
{
    say(server,
        "{" TIMESTAMP ", \"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"%s\", "
        "\"id\": \"j0\"}}\r\n",
        status);
}

static void say_block_job(struct server *server, const char *event)
{
    say(server,
        "{" TIMESTAMP ", \"event\": \"BLOCK_JOB_%s\", \"data\": {\"device\": \"j0\", "
        "\"len\": 4194304, \"offset\": 4194304, \"speed\": 0, \"type\": \"mirror\"}}\r\n",
        event);
}

static void say_ready(struct server *server)
{
    say_status(server, "ready");
    say_block_job(server, "READY");
    send_said(server);
}

static void say_reply(struct server *server, const char *value, const char *id)
{
    say(server, "{\"return\": %s, \"id\": %s}\r\n", value, id);
}

static void start(struct server *server, const char *id)
{
    server->completed = server->dismissed = false;
    say_status(server, "created");
    say_status(server, "running");
    say_reply(server, "{}", id);
}

static void complete(struct server *server, const char *id)
{
    server->completed = true;
    say_reply(server, "{}", id);
    say_status(server, "waiting");
    say_status(server, "pending");
    say_block_job(server, "COMPLETED");
    say_status(server, "concluded");
}

static void dismiss(struct server *server, const char *id)
{
    server->dismissed = true;
    say_status(server, "null");
    say_reply(server, "{}", id);
}

static void answer(struct server *server, const struct recorded *recorded, const char *command,
                   const char *id)
{
    if (strcmp(command, "qmp_capabilities") == 0)
        say_reply(server, "{}", id);
    else if (strcmp(command, "query-commands") == 0)
        say_reply(server, recorded->commands, id);
    else if (strcmp(command, "x-debug-query-block-graph") == 0)
        say_reply(server, server->completed ? recorded->graph_after : recorded->graph_before, id);
    else if (strcmp(command, "blockdev-mirror") == 0)
        start(server, id);
    else if (strcmp(command, "job-complete") == 0)
        complete(server, id);
    else if (strcmp(command, "job-dismiss") == 0)
        dismiss(server, id);
    else
        fail(command);
}

/* {"execute":"COMMAND","arguments":{...},"id":ID}, as the library writes it. */
static void answer_line(struct server *server, const struct recorded *recorded, char *line)
{
    static const char execute[] = "{\"execute\":\"", id_key[] = "\"id\":";
    char *id = NULL;

    for (char *at = line; (at = strstr(at, id_key)); at++)
        id = at;
    if (!id || strncmp(line, execute, sizeof execute - 1) != 0)
        fail(line);
    id += sizeof id_key - 1;
    id[strspn(id, "0123456789")] = '\0';
    line += sizeof execute - 1;
    line[strcspn(line, "\"")] = '\0';
    answer(server, recorded, line, id);
}

/* Answers the commands that have come; false: there were none. */
static bool serve(struct server *server, const struct recorded *recorded)
{
    ssize_t n = recv(server->fd, server->input + server->input_len,
                     sizeof server->input - server->input_len - 1, MSG_DONTWAIT);
    if (n <= 0)
        return false;
    server->input_len += (size_t)n;
    server->input[server->input_len] = '\0';

    char *line = server->input;
    for (char *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        answer_line(server, recorded, line);
    }
    server->input_len -= (size_t)(line - server->input);
    memmove(server->input, line, server->input_len);
    send_said(server);
    return true;
}

/* Whether the library has read all that was sent. */
static bool is_read(const struct server *server)
{
    int unread;

    if (ioctl(server->client, FIONREAD, &unread) != 0)
        fail("FIONREAD");
    return unread == 0;
}

/* ------------------------------------------------------------------ connects */

/* Runs the loop, uncounted, until the library has nothing left to do. */
static void settle(struct world *w, struct server *server)
{
    for (int idle = 0; idle < 3; idle++) {
        turn(w);
        if (serve(server, &w->recorded))
            idle = 0;
    }
}

static void on_connected(bj_future *future, void *user)
{
    struct world *w = user;

    w->connected = bj_future_monitor(future);
    if (!w->connected)
        fail(bj_future_text(future));
}

static void begin_connect(struct world *w)
{
    bj_future *future = bj_monitor_connect(w->ctx, w->uri, BJ_TIMEOUT_DEFAULT);

    bj_future_on_done(future, (bj_closure){.fn = on_connected, .user = w});
    bj_future_unref(future);
}

static bj_monitor *connect_to(struct world *w, struct server *server)
{
    open_server(server);
    say(server, "%s\r\n", w->recorded.greeting);
    send_said(server);
    snprintf(w->uri, sizeof w->uri, "fd:%d", server->client);
    w->connected = NULL;

    take(w, begin_connect);
    while (!w->connected) {
        take(w, turn);
        serve(server, &w->recorded);
    }
    take_rest(w);
    return w->connected;
}

static void connect_many(struct world *w, int count)
{
    for (int i = 0; i < count; i++) {
        bj_monitor *monitor = connect_to(w, &w->newcomer);
        bj_monitor_close(monitor);
        bj_monitor_unref(monitor);
        settle(w, &w->newcomer);
        close_server(&w->newcomer);
    }
}

/* -------------------------------------------------------------------- pivots */

static void on_started(bj_future *future, void *user)
{
    struct world *w = user;

    w->job = bj_future_job(future);
    if (!w->job)
        fail(bj_future_text(future));
}

static void on_pivoted(bj_future *future, void *user)
{
    struct world *w = user;

    if (bj_future_outcome(future) != BJ_OUTCOME_PIVOTED)
        fail(bj_future_text(future));
    w->pivoted = true;
}

/* Its id is that of the job in the recorded block graph. */
static void start_job(struct world *w)
{
    bj_future *future = bj_monitor_mirror(w->monitor, "src", "dst", "full", "{\"job-id\": \"j0\"}",
                                          BJ_TIMEOUT_DEFAULT);

    bj_future_on_done(future, (bj_closure){.fn = on_started, .user = w});
    bj_future_unref(future);
    settle(w, &w->server);
    if (!w->job)
        fail("the job did not start");
}

static void ask_for_pivot(struct world *w)
{
    bj_future *future = bj_job_pivot(w->job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE);

    bj_future_on_done(future, (bj_closure){.fn = on_pivoted, .user = w});
    bj_future_unref(future);
    settle(w, &w->server);
}

/* From READY until the job is dismissed, not only until the pivot is answered: work that moves from
 * before the answer to after it is not saved. */
static void pivot_many(struct world *w, int count)
{
    for (int i = 0; i < count; i++) {
        w->pivoted = false;
        start_job(w);
        ask_for_pivot(w);
        say_ready(&w->server);
        while (!w->pivoted || !w->server.dismissed || !is_read(&w->server)) {
            take(w, turn);
            serve(&w->server, &w->recorded);
        }
        take_rest(w);
        w->job = bj_job_unref(w->job);
        settle(w, &w->server);
    }
}

/* -------------------------------------------------------------------- events */

static void say_rtc_changes(struct server *server, int count)
{
    for (int i = 0; i < count; i++)
        say(server, "%s", rtc_change);
    send_said(server);
}

static void count_record(bj_watch *watch, const bj_record *record, void *user)
{
    struct world *w = user;

    (void)watch;
    if (record->kind == BJ_RECORD_LAGGED)
        fail("records were lost");
    w->records++;
}

static void watch_events(struct world *w, int count)
{
    bj_watch *watch = NULL;

    if (bj_monitor_watch(w->monitor, &watch) != BJ_OK)
        fail("no watch");
    bj_watch_on_record(watch, (bj_watch_closure){.fn = count_record, .user = w});
    settle(w, &w->server);
    w->records = 0;
    while (w->records < count) {
        int wanted = w->records + EVENTS_PER_READ;
        say_rtc_changes(&w->server, EVENTS_PER_READ);
        while (w->records < wanted)
            take(w, turn);
    }
    bj_watch_close(watch);
    bj_watch_unref(watch);
    settle(w, &w->server);
}

static void ignore_events(struct world *w, int count)
{
    for (int i = 0; i < count; i += EVENTS_PER_READ) {
        say_rtc_changes(&w->server, EVENTS_PER_READ);
        while (!is_read(&w->server))
            take(w, turn);
    }
}

/* As QEMU 10.0 and later report each ready job whenever another job is pivoted. */
static void say_bounces(struct server *server, int count)
{
    for (int i = 0; i < count; i += 2) {
        say_status(server, "standby");
        say_status(server, "ready");
    }
    send_said(server);
}

static void start_ready_job(struct world *w)
{
    if (w->job)
        return;
    start_job(w);
    say_ready(&w->server);
    settle(w, &w->server);
}

static void change_status(struct world *w, int count)
{
    start_ready_job(w);
    for (int i = 0; i < count; i += EVENTS_PER_READ) {
        say_bounces(&w->server, EVENTS_PER_READ);
        while (!is_read(&w->server))
            take(w, turn);
    }
    if (!bj_job_is_ready(w->job))
        fail("the job is not ready");
}

/* ------------------------------------------------------------------ wake-ups */

static bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

static void read_queue(struct world *w)
{
    bj_record records[16];
    int n = bj_queue_read(w->queue, records, sizeof(bj_record), 16);

    if (n != 1)
        fail("not one record, but more or none");
}

/* A watch on a job begins with what is true already. */
static void open_queue(struct world *w, bj_watch **ret_watch)
{
    if (bj_queue_new(w->ctx, &w->queue) != BJ_OK || bj_job_watch(w->job, 0, ret_watch) != BJ_OK ||
        bj_watch_deliver(*ret_watch, w->queue, 1) != BJ_OK)
        fail("no queue");
    settle(w, &w->server);
    read_queue(w);
}

static void wake_reader(struct world *w, int count)
{
    bj_watch *watch = NULL;

    start_ready_job(w);
    open_queue(w, &watch);
    for (int i = 0; i < count; i++) {
        say_status(&w->server, i % 2 == 0 ? "standby" : "ready");
        send_said(&w->server);
        while (!is_readable(bj_queue_fd(w->queue)))
            take(w, turn);
        take(w, read_queue);
    }
    w->queue = bj_queue_unref(w->queue);
    bj_watch_close(watch);
    bj_watch_unref(watch);
    settle(w, &w->server);
}

/* ---------------------------------------------------------------------- main */

static const struct item {
    const char *name;
    void (*run)(struct world *w, int count);
    int multiple; /* the count is to be one of this */
} items[] = {
    {"watched-event", watch_events, EVENTS_PER_READ},
    {"unwatched-event", ignore_events, EVENTS_PER_READ},
    {"status-event", change_status, EVENTS_PER_READ},
    {"connect", connect_many, 1},
    {"pivot", pivot_many, 1},
    {"wake-up", wake_reader, 2},
};

enum { ITEMS = sizeof items / sizeof items[0] };

static const struct item *find_item(const char *name)
{
    for (int i = 0; i < ITEMS; i++)
        if (strcmp(items[i].name, name) == 0)
            return &items[i];
    return NULL;
}

static void open_world(struct world *w, const char *folder)
{
    json_object_seed(1); /* jansson's own differs between processes, and so would the collisions */
    read_transcripts(&w->recorded, folder);
    w->loop = ev_loop_new(EVFLAG_NOENV);
    if (!w->loop || bj_ctx_new_on_loop(w->loop, &w->ctx) != BJ_OK)
        fail("no context");
    w->monitor = connect_to(w, &w->server);
    settle(w, &w->server);
}

static void close_world(struct world *w)
{
    bj_job_unref(w->job);
    bj_monitor_close(w->monitor);
    bj_monitor_unref(w->monitor);
    settle(w, &w->server);
    bj_ctx_close(w->ctx);
    bj_ctx_unref(w->ctx);
    ev_loop_destroy(w->loop);
    close_server(&w->server);
    free(w->recorded.greeting);
    free(w->recorded.commands);
    free(w->recorded.graph_before);
    free(w->recorded.graph_after);
}

static void print_versions(void)
{
    printf("libc %s\n", gnu_get_libc_version());
    printf("jansson %s\n", JANSSON_VERSION);
    printf("libev %d.%d\n", ev_version_major(), ev_version_minor());
}

static int run(const struct item *item, int count, const char *folder)
{
    static struct world w;

    open_world(&w, folder);
    item->run(&w, count);
    w.counting = true;
    item->run(&w, count);
    w.counting = false;
    close_world(&w);
    return EXIT_SUCCESS;
}

/* The C library's string functions take longer near the end of a page, and where the stack begins
 * depends on the environment: here it begins a page. */
static int run_on_new_page(const struct item *item, int count, const char *folder)
{
    char rest[(uintptr_t)__builtin_frame_address(0) % 4096 + 16];

    __asm__ volatile("" : : "r"(rest) : "memory");
    return run(item, count, folder);
}

int main(int argc, char **argv)
{
    const struct item *item = argc == 4 ? find_item(argv[1]) : NULL;
    int count = argc == 4 ? atoi(argv[2]) : 0;

    if (argc == 2 && strcmp(argv[1], "versions") == 0) {
        print_versions();
        return EXIT_SUCCESS;
    }
    if (!item || count < 1 || count % item->multiple != 0) {
        fprintf(stderr, "usage: instructions ITEM COUNT TRANSCRIPTS\n");
        for (int i = 0; i < ITEMS; i++)
            fprintf(stderr, "    %s, a multiple of %d\n", items[i].name, items[i].multiple);
        return EXIT_FAILURE;
    }
    return run_on_new_page(item, count, argv[3]);
}
