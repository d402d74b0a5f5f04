/* SPDX-License-Identifier: MIT */
/*
 * A monitor's watches: QEMU's events as records, and what becomes of the connection.
 */
#include "api/monitor.h"
#include "delivery/watch.h"

#include <string.h>

enum { NAMES_MAX = 1024 };

struct events_watch {
    bj_watch watch; /* first */
    bool is_choosy; /* it has only the events of these names */
    char names[];   /* each with a NUL, and an empty one after the last */
};

/* ----------------------------------------------------------------------- news */

static void notify_list(bj_watch *list, bj_record_kind kind, int error, struct text *text)
{
    for (bj_watch *watch = list; watch; watch = watch->next)
        watch_push(watch, &(bj_record){.kind = kind, .error = error},
                   &(struct record_refs){.text = text});
}

void monitor_notify_watches(const bj_monitor *monitor, bj_record_kind kind, int error,
                            struct text *text)
{
    notify_list(monitor->watches, kind, error, text);
    notify_list(monitor->jobs_watches, kind, error, text);
}

static bool wants_event(const bj_watch *watch, const char *name)
{
    const struct events_watch *events = (const struct events_watch *)watch;
    const char *wanted = events->names;
    if (!events->is_choosy)
        return true;
    while (*wanted && strcmp(wanted, name) != 0)
        wanted += strlen(wanted) + 1;
    return *wanted != '\0';
}

static bool is_wanted(const bj_monitor *monitor, const char *name)
{
    const bj_watch *watch = monitor->watches;
    while (watch && !wants_event(watch, name))
        watch = watch->next;
    return watch != NULL;
}

bool monitor_wants_events(void *user)
{
    const bj_monitor *monitor = user;
    return monitor->watches != NULL;
}

void monitor_on_event(void *user, const char *name, const char *data, size_t data_len,
                      int64_t timestamp_us)
{
    bj_monitor *monitor = user;
    if (!is_wanted(monitor, name))
        return;
    struct text *name_text = text_new(name, strlen(name));
    struct text *data_text = data ? text_new(data, data_len) : NULL;
    bool whole = name_text && (!data || data_text);

    for (bj_watch *watch = monitor->watches; watch; watch = watch->next) {
        if (!wants_event(watch, name))
            continue;
        if (whole)
            watch_push(watch, &(bj_record){.kind = BJ_RECORD_EVENT, .timestamp_us = timestamp_us},
                       &(struct record_refs){.name = name_text, .text = data_text});
        else
            watch_miss(watch);
    }
    text_unref(name_text);
    text_unref(data_text);
}

void monitor_end_watch_list(bj_watch **list, int error, struct text *text)
{
    while (*list) {
        bj_watch *watch = watch_ref_memory(*list);
        watch->ops->leave(watch);
        watch_end(watch, error, text_ref(text));
        watch_unref_memory(watch);
    }
}

void monitor_end_watches(bj_monitor *monitor, int error, struct text *text)
{
    monitor_end_watch_list(&monitor->watches, error, text);
    monitor_end_watch_list(&monitor->jobs_watches, error, text);
}

/* -------------------------------------------------------------------- watches */

bool monitor_begin_watch(bj_monitor *monitor, bj_watch *watch, bj_watch **list)
{
    struct text *text;

    int r = monitor_check_over(monitor, &text);
    if (r != BJ_OK) {
        watch_end(watch, r, text);
        return false;
    }
    watch_link(watch, list);
    if (monitor->state == MONITOR_AWAY || monitor->tracker.is_returning) /* it will hear the rest */
        watch_push(watch, &(bj_record){.kind = BJ_RECORD_DISCONNECTED, .error = BJ_E_DISCONNECTED},
                   &(struct record_refs){.text = monitor->away_text});
    return true;
}

static void begin_watch(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    if (!monitor_begin_watch(monitor, watch, &monitor->watches) || monitor->state != MONITOR_OPEN)
        return;
    if (monitor->driver->ops->listen)
        monitor->driver->ops->listen(monitor->driver);
}

static void leave_watch(bj_watch *watch)
{
    bj_monitor *monitor = watch->owner;
    watch_unlink(watch, &monitor->watches);
}

void monitor_disown(void *monitor)
{
    monitor_unref_memory(monitor);
}

/* BJ_E_INVAL: there are too many, or one is none. */
static int measure_names(const char *const *names, size_t count, size_t *ret_size)
{
    if (count > NAMES_MAX || (count > 0 && !names))
        return BJ_E_INVAL;
    *ret_size = 1;
    for (size_t i = 0; i < count; i++) {
        if (!names[i] || !*names[i])
            return BJ_E_INVAL;
        *ret_size += strlen(names[i]) + 1;
    }
    return BJ_OK;
}

int bj_monitor_watch_events(bj_monitor *monitor, const char *const *names, size_t count,
                            bj_watch **ret_watch)
{
    static const struct watch_ops ops = {
        .begin = begin_watch,
        .leave = leave_watch,
        .disown = monitor_disown,
    };
    size_t size;
    if (!monitor || !ret_watch || measure_names(names, count, &size) != BJ_OK)
        return BJ_E_INVAL;
    if (ctx_is_forked(monitor->ctx))
        return BJ_E_FORKED;
    struct events_watch *watch = (struct events_watch *)watch_new(
        monitor->ctx, sizeof *watch + size, &ops, monitor_ref_memory(monitor));
    if (!watch)
        return BJ_E_NOMEM;
    watch->is_choosy = count > 0;
    char *end = watch->names;
    for (size_t i = 0; i < count; i++)
        end = stpcpy(end, names[i]) + 1;
    *ret_watch = watch_launch(&watch->watch);
    return BJ_OK;
}

int bj_monitor_watch(bj_monitor *monitor, bj_watch **ret_watch)
{
    return bj_monitor_watch_events(monitor, NULL, 0, ret_watch);
}
