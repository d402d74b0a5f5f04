/* SPDX-License-Identifier: MIT */
/*
 * JOB_STATUS_CHANGE, read where it lies: no tree is built of it. This event makes READY, and it
 * comes by the ten thousand (B29).
 */
#ifndef BJ_QMP_STATUS_EVENT_H
#define BJ_QMP_STATUS_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct status_event {
    char id[128];
    char status[16];
    int64_t timestamp_us;
};

/* False for whatever is not exactly that event in plain spelling, be it another message, an escape,
 * a long id or no JSON at all: it is for the parser, then. */
bool status_event_read(const char *text, size_t len, struct status_event *ret);

/* The same for text that may go on: how many bytes it took; 0 if it does not begin with that event.
 */
size_t status_event_begin(const char *text, size_t len, struct status_event *ret);

#endif
