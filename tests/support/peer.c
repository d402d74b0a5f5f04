/* SPDX-License-Identifier: MIT */
/*
 * A server inside the test; see peer.h.
 */
#include "peer.h"

#include "cmocka_all.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536

const char peer_modern[] = "qmp_capabilities query-commands query-status query-jobs "
                           "query-block-jobs x-debug-query-block-graph blockdev-mirror "
                           "blockdev-backup block-commit block-stream block-job-cancel "
                           "block-job-set-speed block-job-change job-complete job-cancel job-pause "
                           "job-resume job-finalize job-dismiss transaction";

/* A job of the QEMU that peer_serve() is. */
struct peer_job {
    char id[64];
    const char *status; /* NULL: the place is free */
    const char *type;
};

#define JOBS_MAX 16

struct peer {
    peer_play *play;
    void *user;
    pthread_t thread;
    int theirs; /* the library's end; -1 once it has a duplicate */
    int listener;
    int ours;
    char uri[24];
    bool drips;

    char input[LINE_MAX_BYTES];
    size_t input_len;
    char line[LINE_MAX_BYTES];
    char argument[256];
    char said[LINE_MAX_BYTES];
    struct peer_job jobs[JOBS_MAX];
};

static void *run(void *user)
{
    peer *p = user;
    p->play(p, p->user);
    peer_drain(p);
    return NULL;
}

static void *run_listener(void *user)
{
    peer *p = user;
    while ((p->ours = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        p->input_len = 0;
        p->play(p, p->user);
        close(p->ours);
    }
    return NULL;
}

static peer *new_peer(peer_play *play, void *user)
{
    peer *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->play = play;
    p->user = user;
    p->theirs = p->ours = p->listener = -1;
    return p;
}

peer *peer_start(peer_play *play, void *user)
{
    peer *p = new_peer(play, user);
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    p->theirs = fds[0];
    p->ours = fds[1];
    snprintf(p->uri, sizeof(p->uri), "fd:%d", p->theirs);
    assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
    return p;
}

peer *peer_listen(const char *path, peer_play *play, void *user)
{
    peer *p = new_peer(play, user);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(p->listener, 8), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, run_listener, p), 0);
    return p;
}

const char *peer_uri(const peer *p)
{
    return p->uri;
}

void peer_connected(peer *p)
{
    close(p->theirs);
    p->theirs = -1;
}

void peer_end(peer *p)
{
    if (!p)
        return;
    if (p->theirs >= 0)
        close(p->theirs);
    if (p->listener >= 0)
        shutdown(p->listener, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->listener >= 0 ? p->listener : p->ours);
    free(p);
}

/* ------------------------------------------------------------------- speaking */

bool peer_send(peer *p, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(p->ours, bytes, p->drips ? 1 : len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

void peer_drip(peer *p, bool drips)
{
    p->drips = drips;
}

bool peer_say(peer *p, const char *text)
{
    return peer_send(p, text, strlen(text));
}

bool peer_tell(peer *p, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(p->said, sizeof(p->said), format, arguments);
    va_end(arguments);
    return len >= 0 && (size_t)len < sizeof(p->said) && peer_send(p, p->said, (size_t)len);
}

bool peer_answer(peer *p, const peer_command *command, const char *value)
{
    return peer_tell(p, "{\"return\": %s, \"id\": %s}\r\n", value, command->id);
}

static bool answer_commands(peer *p, const peer_command *command, const char *names)
{
    if (!peer_say(p, "{\"return\": ["))
        return false;
    for (const char *separator = ""; *names; separator = ", ") {
        size_t len = strcspn(names, " ");
        if (!peer_tell(p, "%s{\"name\": \"%.*s\"}", separator, (int)len, names))
            return false;
        names += len;
        names += strspn(names, " ");
    }
    return peer_tell(p, "], \"id\": %s}\r\n", command->id);
}

bool peer_greet(peer *p, const char *commands)
{
    peer_command command;
    if (!peer_say(p,
                  "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, "
                  "\"package\": \"\"}, \"capabilities\": []}}\r\n"))
        return false;
    while (peer_hear(p, &command)) {
        if (strcmp(command.name, "query-commands") == 0)
            return answer_commands(p, &command, commands);
        if (!peer_answer(p, &command, "{}"))
            return false;
    }
    return false;
}

/* -------------------------------------------------------------------- hearing */

static bool receive(peer *p)
{
    ssize_t n;
    do
        n = recv(p->ours, p->input + p->input_len, sizeof(p->input) - p->input_len, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    p->input_len += (size_t)n;
    return true;
}

/* A line of the library's, into p->line. */
static bool read_line(peer *p)
{
    char *end;
    while (!(end = memchr(p->input, '\n', p->input_len)))
        if (p->input_len == sizeof(p->input) || !receive(p))
            return false;

    size_t len = (size_t)(end - p->input) + 1;
    memcpy(p->line, p->input, len);
    p->line[len - 1] = '\0';
    memmove(p->input, p->input + len, p->input_len - len);
    p->input_len -= len;
    return true;
}

/* {"execute":"NAME","arguments":{...},"id":N} and a CR, as the library writes it. */
bool peer_hear(peer *p, peer_command *ret_command)
{
    static const char begin[] = "{\"execute\":\"", middle[] = "\",\"arguments\":";
    if (!read_line(p) || strncmp(p->line, begin, sizeof(begin) - 1) != 0)
        return false;

    char *name = p->line + sizeof(begin) - 1;
    char *id = NULL;
    for (char *at = name; (at = strstr(at, ",\"id\":")); at++)
        id = at;
    if (!id)
        return false;
    *id = '\0';
    id += strlen(",\"id\":");
    id[strspn(id, "0123456789")] = '\0';

    char *arguments = strstr(name, middle);
    name[strcspn(name, "\"")] = '\0';
    *ret_command = (peer_command){
        .name = name,
        .id = id,
        .arguments = arguments ? arguments + sizeof(middle) - 1 : "",
    };
    return true;
}

const char *peer_argument(peer *p, const peer_command *command, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    const char *at = strstr(command->arguments, quoted);
    if (!at)
        return "";
    at += strlen(quoted);
    at += strspn(at, " \"");
    snprintf(p->argument, sizeof(p->argument), "%.*s", (int)strcspn(at, "\""), at);
    return p->argument;
}

int peer_socket(const peer *p)
{
    return p->ours;
}

void peer_drain(peer *p)
{
    do
        p->input_len = 0;
    while (receive(p));
}

void peer_hang_up(peer *p)
{
    shutdown(p->ours, SHUT_RDWR);
}

/* -------------------------------------------------------------------- serving */

static struct peer_job *find_job(peer *p, const char *id)
{
    for (int i = 0; i < JOBS_MAX; i++)
        if (p->jobs[i].status && strcmp(p->jobs[i].id, id) == 0)
            return &p->jobs[i];
    return NULL;
}

static bool set_status(peer *p, struct peer_job *job, const char *status)
{
    bool said = peer_tell(p,
                          "{\"event\": \"JOB_STATUS_CHANGE\", \"data\": {\"status\": \"%s\", "
                          "\"id\": \"%s\"}, \"timestamp\": {\"seconds\": 1, "
                          "\"microseconds\": 2}}\r\n",
                          status, job->id);
    job->status = strcmp(status, "null") == 0 ? NULL : status;
    return said;
}

static bool tell_event(peer *p, const struct peer_job *job, const char *event)
{
    return peer_tell(p,
                     "{\"event\": \"BLOCK_JOB_%s\", \"data\": {\"device\": \"%s\", \"type\": "
                     "\"%s\", \"len\": 1, \"offset\": 1, \"speed\": 0}, \"timestamp\": "
                     "{\"seconds\": 1, \"microseconds\": 2}}\r\n",
                     event, job->id, job->type);
}

static struct peer_job *create(peer *p, const char *id, const char *type)
{
    for (int i = 0; i < JOBS_MAX; i++) {
        struct peer_job *job = &p->jobs[i];
        if (job->status)
            continue;
        snprintf(job->id, sizeof(job->id), "%s", id);
        job->type = type;
        set_status(p, job, "created");
        set_status(p, job, "running");
        return job;
    }
    return NULL;
}

static bool become_ready(peer *p, struct peer_job *job)
{
    return set_status(p, job, "ready") && tell_event(p, job, "READY");
}

static bool complete(peer *p, struct peer_job *job)
{
    return set_status(p, job, "waiting") && set_status(p, job, "pending") &&
           tell_event(p, job, "COMPLETED") && set_status(p, job, "concluded");
}

static bool cancel(peer *p, struct peer_job *job)
{
    return set_status(p, job, "aborting") && tell_event(p, job, "CANCELLED") &&
           set_status(p, job, "concluded");
}

static bool start_one(peer *p, const peer_command *command)
{
    const char *type = strstr(command->name, "mirror") ? "mirror" : "backup";
    struct peer_job *job = create(p, peer_argument(p, command, "job-id"), type);
    if (!job || !peer_answer(p, command, "{}"))
        return false;
    return *type == 'b' || become_ready(p, job);
}

/* Every job of a transaction: mirrors, which become ready one after the other. */
static bool start_many(peer *p, const peer_command *command)
{
    struct peer_job *jobs[JOBS_MAX];
    int count = 0;
    peer_command rest = *command;

    while ((rest.arguments = strstr(rest.arguments, "\"job-id\":")) && count < JOBS_MAX) {
        jobs[count] = create(p, peer_argument(p, &rest, "job-id"), "mirror");
        if (!jobs[count++])
            return false;
        rest.arguments++;
    }
    bool going = peer_answer(p, command, "{}");
    for (int i = 0; i < count && going; i++)
        going = become_ready(p, jobs[i]);
    return going;
}

static bool list_jobs(peer *p, const peer_command *command)
{
    bool block = strcmp(command->name, "query-block-jobs") == 0;
    if (!peer_say(p, "{\"return\": ["))
        return false;
    const char *separator = "";
    for (int i = 0; i < JOBS_MAX; i++) {
        const struct peer_job *job = &p->jobs[i];
        if (!job->status)
            continue;
        if (!peer_tell(p, "%s{\"%s\": \"%s\", \"type\": \"%s\", \"status\": \"%s\"}", separator,
                       block ? "device" : "id", job->id, job->type, job->status))
            return false;
        separator = ", ";
    }
    return peer_tell(p, "], \"id\": %s}\r\n", command->id);
}

static bool refuse(peer *p, const peer_command *command)
{
    return peer_tell(p,
                     "{\"error\": {\"class\": \"DeviceNotActive\", \"desc\": \"No such job\"}, "
                     "\"id\": %s}\r\n",
                     command->id);
}

static bool obey_verb(peer *p, const peer_command *command)
{
    const char *id = peer_argument(p, command, "id");
    struct peer_job *job = find_job(p, *id ? id : peer_argument(p, command, "device"));
    if (!job)
        return refuse(p, command);

    bool is_ready = strcmp(job->status, "ready") == 0;
    if (!peer_answer(p, command, "{}"))
        return false;
    if (strcmp(command->name, "job-complete") == 0 && is_ready)
        return complete(p, job);
    if (strcmp(command->name, "block-job-cancel") == 0 && is_ready)
        return complete(p, job);
    if (strstr(command->name, "job-cancel"))
        return cancel(p, job);
    if (strcmp(command->name, "job-dismiss") == 0)
        return set_status(p, job, "null");
    return true;
}

bool peer_obey(peer *p, const peer_command *command)
{
    if (strstr(command->name, "query-") == command->name && strstr(command->name, "jobs"))
        return list_jobs(p, command);
    if (strcmp(command->name, "x-debug-query-block-graph") == 0)
        return peer_answer(p, command, "{\"nodes\": [], \"edges\": []}");
    if (strcmp(command->name, "transaction") == 0)
        return start_many(p, command);
    if (strstr(command->name, "blockdev-") == command->name)
        return start_one(p, command);
    if (strstr(command->name, "job-"))
        return obey_verb(p, command);
    return peer_answer(p, command, "{}");
}

void peer_serve(peer *p)
{
    peer_command command;
    while (peer_hear(p, &command) && peer_obey(p, &command))
        continue;
}
