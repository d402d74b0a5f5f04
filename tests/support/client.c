/* SPDX-License-Identifier: MIT */
/*
 * The other client: one command at a time, events kept for whoever asks later.
 */
#include "client.h"

#include "cmocka_all.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Far beyond anything that ends well; a server that is silent for so long fails the test. */
#define PATIENCE_S 120

struct client {
    FILE *in;
    int fd;
    json_t *events; /* not asked for yet, oldest first */
};

/* NULL when the connection is over. */
static json_t *next_message_or_end(client *c)
{
    char *line = NULL;
    size_t size = 0;
    errno = 0;
    if (getline(&line, &size, c->in) < 0) {
        free(line);
        if (errno == EAGAIN)
            fail_msg("the server said nothing more to the other client");
        return NULL;
    }
    json_error_t error;
    json_t *message = json_loads(line, 0, &error);
    if (!message)
        fail_msg("not JSON to the other client: %s: %s", error.text, line);
    free(line);
    return message;
}

static json_t *next_message(client *c)
{
    json_t *message = next_message_or_end(c);
    if (!message)
        fail_msg("the server has left the other client");
    return message;
}

static json_t *next_reply(client *c)
{
    for (;;) {
        json_t *message = next_message(c);
        if (json_object_get(message, "event"))
            json_array_append_new(c->events, message);
        else if (json_object_get(message, "QMP"))
            json_decref(message); /* QEMU may greet twice who connects while it starts */
        else
            return message;
    }
}

static json_t *exchange(client *c, const char *command, const char *format, va_list arguments)
{
    char text[4096];
    int length = format ? vsnprintf(text, sizeof(text), format, arguments)
                        : snprintf(text, sizeof(text), "{}");
    assert_true(length >= 0 && (size_t)length < sizeof(text));
    assert_true(dprintf(c->fd, "{\"execute\": \"%s\", \"arguments\": %s}\n", command, text) > 0);
    return next_reply(c);
}

json_t *client_try(client *c, const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *reply = exchange(c, command, format, arguments);
    va_end(arguments);
    return reply;
}

json_t *client_do(client *c, const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *reply = exchange(c, command, format, arguments);
    va_end(arguments);

    json_t *result = json_incref(json_object_get(reply, "return"));
    if (!result)
        fail_msg("%s: %s", command,
                 json_string_value(json_object_get(json_object_get(reply, "error"), "desc")));
    json_decref(reply);
    return result;
}

client *client_open(const char *path)
{
    client *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->events = json_array();
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        fail_msg("%s: %s", path, strerror(errno));
    c->in = fdopen(c->fd, "r");
    assert_non_null(c->in);

    json_decref(next_message(c));
    json_decref(client_do(c, "qmp_capabilities", NULL));
    return c;
}

void client_close(client *c)
{
    fclose(c->in);
    json_decref(c->events);
    free(c);
}

static bool has(json_t *data, const char *key, const char *value)
{
    const char *told = json_string_value(json_object_get(data, key));
    return told && strcmp(told, value) == 0;
}

static bool is_event(json_t *message, const char *event, const char *const pairs[])
{
    json_t *data = json_object_get(message, "data");
    for (; pairs[0]; pairs += 2) {
        if (!has(data, pairs[0], pairs[1]))
            return false;
    }
    return has(message, "event", event);
}

/* Takes the event out of those that have come; true if it was there. */
static bool take_event(client *c, const char *event, const char *const pairs[])
{
    for (size_t i = 0; i < json_array_size(c->events); i++) {
        if (is_event(json_array_get(c->events, i), event, pairs)) {
            json_array_remove(c->events, i);
            return true;
        }
    }
    return false;
}

static void await_event(client *c, const char *event, const char *const pairs[])
{
    while (!take_event(c, event, pairs))
        json_array_append_new(c->events, next_message(c));
}

void client_await(client *c, const char *event, const char *key, const char *value)
{
    await_event(c, event, (const char *const[]){key, value, NULL});
}

void client_await_status(client *c, const char *id, const char *status)
{
    await_event(c, "JOB_STATUS_CHANGE", (const char *const[]){"id", id, "status", status, NULL});
}

const char *client_last_of(client *c, const char *id)
{
    static const char *const ends[] = {"BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"};
    json_t *message;
    while ((message = next_message_or_end(c)))
        json_array_append_new(c->events, message);
    for (int i = 0; i < 2; i++) {
        if (take_event(c, ends[i], (const char *const[]){"device", id, NULL}))
            return ends[i];
    }
    return "";
}
