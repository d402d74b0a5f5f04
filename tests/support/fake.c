/* SPDX-License-Identifier: MIT */
/*
 * Starting fakeqemu and talking to its control socket.
 */
#include "fake.h"

#include "process.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* More than any program has tests. */
#define QEMUS 100

/* The process of this program, all its tests. */
static struct {
    scratch scratch;
    pid_t process;
    int out;
    FILE *answers; /* of the control socket; steps are written to its fd */
    int used;      /* QEMUs that had their test */
} fake;

static void in_fake_dir(char path[static 108], const char *name)
{
    snprintf(path, 108, "%s/%s", fake.scratch.dir, name);
}

static FILE *open_control(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fdopen(fd, "r");
}

int fake_begin(void **state)
{
    (void)state;
    char control[108], pattern[108], log[108], count[16];
    scratch_make(&fake.scratch);
    in_fake_dir(control, "control");
    in_fake_dir(pattern, "%d.qmp");
    in_fake_dir(log, "log");
    snprintf(count, sizeof(count), "%d", QEMUS);

    const char *const argv[] = {
        "python3", "tests/fakeqemu/fakeqemu.py", "--control", control, "--monitors",
        count,     "--socket-pattern",           pattern,     NULL,
    };
    fake.process = process_start(argv, log, -1, -1, &fake.out);
    char ready[8] = "";
    if (read(fake.out, ready, sizeof(ready)) <= 0 || memcmp(ready, "ready", 5) != 0)
        fail_msg("tests/fakeqemu/fakeqemu.py did not start (tests run in the top folder)");
    fake.answers = open_control(control);
    return 0;
}

int fake_end(void **state)
{
    (void)state;
    fclose(fake.answers);
    close(fake.out);
    process_end(&fake.process);
    scratch_remove(&fake.scratch);
    return 0;
}

static int take_qemu(void)
{
    assert_true(fake.used < QEMUS);
    return fake.used++;
}

int world_fake_unconnected(void **state)
{
    world_alone(state);
    world *w = *state;
    w->qemu = take_qemu();
    return 0;
}

void next_fake(world *w)
{
    w->qemu = take_qemu();
    w->monitor = connect_to(w, fake_path(w));
}

int world_fake(void **state)
{
    world_fake_unconnected(state);
    world *w = *state;
    w->monitor = connect_to(w, fake_path(w));
    return 0;
}

const char *fake_path(world *w)
{
    return text_of(w, "%s/%d.qmp", fake.scratch.dir, w->qemu);
}

/* Asks for a step, answers the answer's line. Text, not jansson, makes the step: it may carry
 * integers that no C type holds. */
static const char *ask_step(world *w, const char *text)
{
    dprintf(fileno(fake.answers), "{\"qemu\": %d, %s\n", w->qemu, strchr(text, '{') + 1);
    char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, fake.answers) <= 0)
        fail_msg("%s: no answer", text);
    const char *answer = text_of(w, "%s", line);
    free(line);
    return answer;
}

static bool was_done(const char *answer)
{
    return strstr(answer, "\"ok\": true") != NULL;
}

static const char *do_step(world *w, const char *text)
{
    const char *answer = ask_step(w, text);
    if (!was_done(answer))
        fail_msg("%s: %s", text, answer);
    return answer;
}

bool try_step(world *w, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    assert_true(length > 0 && (size_t)length < sizeof(text));
    return was_done(ask_step(w, text));
}

void step(world *w, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    assert_true(length > 0 && (size_t)length < sizeof(text));
    do_step(w, text);
}

static bool has(json_t *entry, const char *key, const char *value)
{
    const char *told = json_string_value(json_object_get(entry, key));
    return told && strcmp(told, value) == 0;
}

int times_sent(world *w, const char *command)
{
    json_t *answer = json_loads(do_step(w, JSON({"do": "log"})), JSON_DECODE_INT_AS_REAL, NULL);
    int times = 0;
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(answer, "log"), i, entry)
    {
        times += json_number_value(json_object_get(entry, "qemu")) == w->qemu &&
                 has(entry, "what", "command") && has(entry, "command", command);
    }
    json_decref(answer);
    return times;
}

bool log_has(world *w, const char *text)
{
    return strstr(do_step(w, JSON({"do": "log"})), text) != NULL;
}

void await_sent(world *w, const char *command)
{
    step(w, JSON({"do": "wait", "command": "%s", "timeout": 120}), command);
}

bj_job *fake_mirror(world *w)
{
    return mirror(w, "drive0", "copy", NULL);
}

bj_job *fake_ready_mirror(world *w)
{
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "ready"}));
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_OK);
    return job;
}
