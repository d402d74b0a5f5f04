/* SPDX-License-Identifier: MIT */
/*
 * Starting a helper, and a line there for a line back.
 */
#include "helper.h"

#include "cmocka_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct helper {
    pid_t process;
    FILE *answers; /* steps are written to its fd */
    const char *name;
};

static void become(const char *const arguments[], int standard)
{
    const char *argv[32] = {"python3"};
    for (size_t i = 0; i < 30 && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    dup2(standard, STDIN_FILENO);
    dup2(standard, STDOUT_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static char *read_line(helper *h)
{
    char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, h->answers) <= 0)
        fail_msg("%s did not answer (tests run in the top folder)", h->name);
    return line;
}

helper *helper_start(const char *const arguments[])
{
    int ends[2];
    helper *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    h->name = arguments[0];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    h->process = fork();
    assert_true(h->process >= 0);
    if (h->process == 0)
        become(arguments, ends[1]);
    close(ends[1]);
    h->answers = fdopen(ends[0], "r");
    assert_non_null(h->answers);

    char *ready = read_line(h);
    assert_string_equal(ready, "ready\n");
    free(ready);
    return h;
}

void helper_end(helper *h)
{
    if (!h)
        return;
    fclose(h->answers);
    waitpid(h->process, NULL, 0);
    free(h);
}

static char *format_text(const char *format, va_list arguments)
{
    char *text;
    assert_true(vasprintf(&text, format, arguments) >= 0);
    return text;
}

/* The line that answers a step. */
static char *ask(helper *h, const char *step)
{
    const int fd = fileno(h->answers);
    if (send(fd, step, strlen(step), MSG_NOSIGNAL) < 0 || send(fd, "\n", 1, MSG_NOSIGNAL) < 0)
        fail_msg("%s is gone", h->name);
    return read_line(h);
}

/* Takes the step's text. */
static json_t *ask_json(helper *h, char *step, bool must)
{
    char *line = ask(h, step);
    json_t *answer = json_loads(line, 0, NULL);
    if (!answer || (must && !json_is_true(json_object_get(answer, "ok"))))
        fail_msg("%s: %s: %s", h->name, step, line);
    free(line);
    free(step);
    return answer;
}

char *helper_text(helper *h, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *step = format_text(format, arguments);
    va_end(arguments);
    char *line = ask(h, step);
    free(step);
    return line;
}

json_t *helper_try(helper *h, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *step = format_text(format, arguments);
    va_end(arguments);
    return ask_json(h, step, false);
}

json_t *helper_do(helper *h, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *step = format_text(format, arguments);
    va_end(arguments);
    return ask_json(h, step, true);
}
