/* SPDX-License-Identifier: MIT */
/*
 * Connecting again; see reconnect.h.
 */
#include "api/reconnect.h"
#include "driver/address.h"

#include <stdlib.h>

#define FIRST_DELAY_MS 100
#define LONGEST_DELAY_MS 1000

struct reconnect {
    bj_monitor *monitor;
    struct driver *driver;    /* connecting; the monitor's once it is up */
    struct loop_timer *timer; /* of the next attempt; while one is under way, its deadline */
    int64_t deadline_ms;      /* monotonic; -1: none */
    int64_t delay_ms;
    bool waits;       /* the driver, for a start */
    struct text *why; /* why the latest attempt failed; NULL: there was none */
};

static void close_driver(struct reconnect *reconnect, const char *why)
{
    if (reconnect->driver)
        reconnect->driver->ops->close(reconnect->driver, BJ_E_CLOSED, why);
    reconnect->driver = NULL;
}

void reconnect_free(struct reconnect *reconnect)
{
    if (!reconnect)
        return;
    close_driver(reconnect, "connecting was given up");
    loop_timer_free(reconnect->timer);
    text_unref(reconnect->why);
    free(reconnect);
}

static int64_t time_left(const struct reconnect *reconnect)
{
    return reconnect->deadline_ms < 0 ? INT64_MAX : reconnect->deadline_ms - clock_monotonic_ms();
}

static bool is_given_up(const struct reconnect *reconnect)
{
    return time_left(reconnect) <= 0 || monitor_reconnect_ms(reconnect->monitor) == 0;
}

static void give_up(struct reconnect *reconnect)
{
    bj_monitor *monitor = reconnect->monitor;
    const char *why = reconnect->why ? text_str(reconnect->why) : "nobody tried";
    monitor_shut(
        monitor, BJ_E_DISCONNECTED,
        text_printf("%s; it could not be made again: %s", text_str(monitor->away_text), why));
}

static void wait_for_next(struct reconnect *reconnect)
{
    int64_t left = time_left(reconnect);
    int64_t delay = reconnect->delay_ms < left ? reconnect->delay_ms : left;

    reconnect->delay_ms *= 2;
    if (reconnect->delay_ms > LONGEST_DELAY_MS)
        reconnect->delay_ms = LONGEST_DELAY_MS;
    loop_timer_set(reconnect->timer, delay > 0 ? delay : 0);
}

bool reconnect_is_in_vain(const bj_monitor *monitor)
{
    const struct driver *driver = monitor->reconnect->driver;
    return driver->is_gone && !driver->may_return;
}

void reconnect_failed(bj_monitor *monitor, struct text *why, bool in_vain)
{
    struct reconnect *reconnect = monitor->reconnect;
    if (in_vain)
        reconnect->deadline_ms = 0;
    reconnect->driver = NULL;
    reconnect->waits = false;
    text_unref(reconnect->why);
    reconnect->why = why;
    wait_for_next(reconnect);
}

static void attempt(struct reconnect *reconnect)
{
    bj_monitor *monitor = reconnect->monitor;
    int64_t limit = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_CONNECT_MS);
    int64_t left = time_left(reconnect);
    struct text *why = NULL;

    reconnect->driver = monitor_dial(monitor, &why);
    if (!reconnect->driver)
        reconnect_failed(monitor, why, false);
    else
        loop_timer_set(reconnect->timer, left < limit ? left : limit);
}

/* The attempt has taken too long. */
static void abandon_attempt(struct reconnect *reconnect)
{
    bj_monitor *monitor = reconnect->monitor;
    int64_t limit = (int64_t)ctx_limit(monitor->ctx, BJ_LIMIT_CONNECT_MS);
    struct text *why = reconnect->driver->ops->stage(reconnect->driver, limit);

    close_driver(reconnect, text_str(why));
    reconnect_failed(monitor, why, false);
}

static void on_timer(void *user)
{
    struct reconnect *reconnect = user;

    if (reconnect->driver)
        abandon_attempt(reconnect);
    else if (is_given_up(reconnect))
        give_up(reconnect);
    else
        attempt(reconnect);
}

void reconnect_waits(bj_monitor *monitor)
{
    struct reconnect *reconnect = monitor->reconnect;
    reconnect->waits = true;
    if (reconnect->deadline_ms < 0)
        loop_timer_stop(reconnect->timer);
    else
        loop_timer_set(reconnect->timer, time_left(reconnect));
}

void reconnect_is_unwanted(bj_monitor *monitor)
{
    struct reconnect *reconnect = monitor->reconnect;
    if (reconnect->waits && is_given_up(reconnect))
        abandon_attempt(reconnect);
}

bool reconnect_begin(bj_monitor *monitor)
{
    struct reconnect *reconnect = calloc(1, sizeof *reconnect);
    if (!reconnect)
        return false;
    int64_t give_up_after_ms = monitor_reconnect_ms(monitor);

    reconnect->monitor = monitor;
    reconnect->delay_ms = FIRST_DELAY_MS;
    reconnect->deadline_ms =
        give_up_after_ms < 0 || give_up_after_ms > INT64_MAX - clock_monotonic_ms()
            ? -1
            : clock_monotonic_ms() + give_up_after_ms;
    reconnect->timer = loop_timer_new(monitor->ctx->loop, on_timer, reconnect);
    if (!reconnect->timer) {
        free(reconnect);
        return false;
    }
    monitor->reconnect = reconnect;
    wait_for_next(reconnect);
    return true;
}

struct driver *reconnect_done(bj_monitor *monitor)
{
    struct reconnect *reconnect = monitor->reconnect;
    struct driver *driver = reconnect->driver;

    reconnect->driver = NULL;
    monitor->reconnect = NULL;
    reconnect_free(reconnect);
    return driver;
}
