/* SPDX-License-Identifier: MIT */
/*
 * Awaiting a peer; see await_peer.h.
 *
 * By trying, as the kernel tells of a new file but not of a socket that begins to listen, and a
 * libvirtd that is not there tells nothing. A try takes microseconds where nobody is. One that gets
 * no answer is made anew as well: a QEMU that is just starting may forget the first client of a
 * socket, and be reminded of it by the next.
 */
#include "api/await_peer.h"
#include "delivery/future.h"

#include <stdlib.h>

#define FIRST_DELAY_MS 20
#define LONGEST_DELAY_MS 500
#define FIRST_PATIENCE_MS 2000 /* with a try; then twice as long, for a machine that is slow */

struct awaiting {
    bj_monitor *monitor;
    struct loop_timer *timer; /* of the next try; during one, of the patience with it */
    int64_t wait_ms;
    int64_t deadline_ms; /* monotonic; INT64_MAX: none */
    int64_t delay_ms;
    int64_t patience_ms;
    struct text *why;
};

static int64_t time_left(const struct awaiting *awaiting)
{
    return awaiting->deadline_ms - clock_monotonic_ms();
}

/* The last try has the time that connecting has without waiting. */
static void lose_patience(struct awaiting *awaiting)
{
    struct driver *driver = awaiting->monitor->driver;
    if (time_left(awaiting) <= 0)
        return;
    struct text *why = driver->ops->stage(driver, awaiting->patience_ms);
    awaiting->patience_ms *= 2;
    driver->ops->close(driver, BJ_E_CLOSED, text_str(why));
    monitor_not_there(awaiting->monitor, BJ_E_TIMEOUT, why);
}

/* Then its timer is next, and a try would only hide why those before have failed. */
static bool is_deadline_due(const bj_monitor *monitor)
{
    int64_t deadline_ms = monitor->connect->deadline_ms;
    return deadline_ms >= 0 && clock_monotonic_ms() >= deadline_ms;
}

static void on_timer(void *user)
{
    struct awaiting *awaiting = user;
    if (awaiting->monitor->driver) {
        lose_patience(awaiting);
    } else if (!is_deadline_due(awaiting->monitor)) {
        loop_timer_set(awaiting->timer, awaiting->patience_ms);
        monitor_open_again(awaiting->monitor);
    }
}

void await_free(struct awaiting *awaiting)
{
    if (!awaiting)
        return;
    loop_timer_free(awaiting->timer);
    text_unref(awaiting->why);
    free(awaiting);
}

struct awaiting *await_begin(bj_monitor *monitor, int64_t wait_ms)
{
    struct awaiting *awaiting = calloc(1, sizeof *awaiting);
    if (!awaiting)
        return NULL;
    int64_t now = clock_monotonic_ms();
    bool is_endless = wait_ms < 0 || wait_ms > INT64_MAX - now;

    awaiting->monitor = monitor;
    awaiting->wait_ms = wait_ms;
    awaiting->deadline_ms = is_endless ? INT64_MAX : now + wait_ms;
    awaiting->delay_ms = FIRST_DELAY_MS;
    awaiting->patience_ms = FIRST_PATIENCE_MS;
    awaiting->timer = loop_timer_new(monitor->ctx->loop, on_timer, awaiting);
    if (!awaiting->timer) {
        free(awaiting);
        return NULL;
    }
    loop_timer_set(awaiting->timer, awaiting->patience_ms);
    return awaiting;
}

static struct text *in_vain(const struct awaiting *awaiting, struct text *why)
{
    struct text *text =
        text_printf("waited %.10g s in vain: %s", (double)awaiting->wait_ms / 1000., text_str(why));
    text_unref(why);
    return text;
}

bool await_again(struct awaiting *awaiting, struct text **text)
{
    int64_t left = time_left(awaiting);
    if (left <= 0) {
        *text = in_vain(awaiting, *text);
        return false;
    }
    text_unref(awaiting->why);
    awaiting->why = *text;
    loop_timer_set(awaiting->timer, awaiting->delay_ms < left ? awaiting->delay_ms : left);
    awaiting->delay_ms *= 2;
    if (awaiting->delay_ms > LONGEST_DELAY_MS)
        awaiting->delay_ms = LONGEST_DELAY_MS;
    return true;
}

const char *await_reason(const struct awaiting *awaiting)
{
    return awaiting && awaiting->why ? text_str(awaiting->why) : NULL;
}
