/* SPDX-License-Identifier: MIT */
/*
 * Starting a helper, and a line there for a line back.
 */
#include "helper.h"

#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct helper {
    pid_t process;
    FILE *to;
    FILE *from;
    const char *name;
};

static void become(const char *const arguments[], const int in[2], const int out[2])
{
    const char *argv[32] = {"python3"};
    for (size_t i = 0; i < 30 && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static char *read_line(helper *h)
{
    char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, h->from) <= 0)
        fail_msg("%s did not answer (tests run in the top folder)", h->name);
    return line;
}

helper *helper_start(const char *const arguments[])
{
    int in[2];
    int out[2];
    helper *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    h->name = arguments[0];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    h->process = fork();
    assert_true(h->process >= 0);
    if (h->process == 0)
        become(arguments, in, out);
    close(in[0]);
    close(out[1]);
    h->to = fdopen(in[1], "w");
    h->from = fdopen(out[0], "r");
    assert_true(h->to && h->from);

    char *ready = read_line(h);
    assert_string_equal(ready, "ready\n");
    free(ready);
    return h;
}

void helper_end(helper *h)
{
    if (!h)
        return;
    fclose(h->to);
    waitpid(h->process, NULL, 0);
    fclose(h->from);
    free(h);
}

static json_t *ask(helper *h, const char *format, va_list arguments)
{
    vfprintf(h->to, format, arguments);
    fputc('\n', h->to);
    fflush(h->to);
    char *line = read_line(h);
    /* A fake QEMU's log may have integers that no C type holds. */
    json_t *answer = json_loads(line, 0, NULL);
    if (!answer)
        answer = json_loads(line, JSON_DECODE_INT_AS_REAL, NULL);
    if (!answer)
        fail_msg("%s answered %s", h->name, line);
    free(line);
    return answer;
}

json_t *helper_try(helper *h, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *answer = ask(h, format, arguments);
    va_end(arguments);
    return answer;
}

json_t *helper_do(helper *h, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *answer = ask(h, format, arguments);
    va_end(arguments);
    if (!json_is_true(json_object_get(answer, "ok")))
        fail_msg("%s: %s", h->name, json_string_value(json_object_get(answer, "error")));
    return answer;
}
