/* SPDX-License-Identifier: MIT */
/*
 * Starting fakeqemu and giving it steps.
 */
#include "fake.h"

#include "qemus.h"

#include <stdlib.h>

/* More than any program has tests. */
#define QEMUS 100

/* The process of this program, all its tests. */
static struct {
    helper *process;
    char *dir;
    int used; /* QEMUs that had their test */
} fake;

int fake_begin(void **state)
{
    (void)state;
    char pattern[108], count[16];
    fake.dir = directory_new();
    snprintf(pattern, sizeof(pattern), "%s/%%d.qmp", fake.dir);
    snprintf(count, sizeof(count), "%d", QEMUS);
    fake.process = helper_start((const char *const[]){
        "tests/fakeqemu/fakeqemu.py",
        "--control",
        "-",
        "--monitors",
        count,
        "--socket-pattern",
        pattern,
        NULL,
    });
    return 0;
}

int fake_end(void **state)
{
    (void)state;
    helper_end(fake.process);
    directory_end(fake.dir);
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
    return text_of(w, "%s/%d.qmp", fake.dir, w->qemu);
}

/* Asks for a step of the world's QEMU: the line that answers it. */
static char *ask_step(world *w, const char *format, va_list arguments)
{
    char *step;
    assert_true(vasprintf(&step, format, arguments) >= 0);
    char *answer = helper_text(fake.process, "{\"qemu\": %d, %s", w->qemu, step + 1);
    free(step);
    world_keeps(w, answer, free);
    return answer;
}

static bool was_done(const char *answer)
{
    return strstr(answer, "\"ok\": true") != NULL;
}

bool try_step(world *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *answer = ask_step(w, format, arguments);
    va_end(arguments);
    return was_done(answer);
}

const char *step(world *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *answer = ask_step(w, format, arguments);
    va_end(arguments);
    if (!was_done(answer))
        fail_msg("%s: %s", format, answer);
    return answer;
}

static bool has(json_t *entry, const char *key, const char *value)
{
    const char *told = json_string_value(json_object_get(entry, key));
    return told && strcmp(told, value) == 0;
}

int times_sent(world *w, const char *command)
{
    json_t *answer = json_loads(step(w, JSON({"do": "log"})), JSON_DECODE_INT_AS_REAL, NULL);
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
    return strstr(step(w, JSON({"do": "log"})), text) != NULL;
}

void await_sent(world *w, const char *command)
{
    step(w, JSON({"do": "wait", "command": "%s", "timeout": 120}), command);
}

void be(world *w, const char *profile)
{
    step(w, JSON({"do": "log", "clear": true}));
    step(w, JSON({"do": "die"}));
    step(w, JSON({"do": "start", "profile": "%s"}), profile);
    w->monitor = connect_to(w, fake_path(w));
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
