/* SPDX-License-Identifier: MIT */
/*
 * Futures whose answer is one reply of the driver.
 */
#ifndef BJ_API_REQUEST_H
#define BJ_API_REQUEST_H

#include "api/answers.h"
#include "api/monitor.h"
#include "base/descriptors.h"
#include "delivery/future.h"
#include "driver/driver.h"
#include "model/tracker.h"

struct request;

struct request_kind {
    /* The loop's thread. BJ_OK: `driver_request` is under way. */
    int (*send)(struct request *request, struct driver *driver);
    /* QEMU's reply without error, someone still listens: answers the future. */
    void (*replied)(struct request *request, struct driver_reply *reply);
    /* Whatever came of it, and whether anyone listens or not: before the future is answered. NULL:
     * nothing to do. `reply` is NULL if nothing was sent. */
    void (*over)(struct request *request, const struct driver_reply *reply);
    /* It starts jobs, and can only be sent once it is known what the commands for that take. */
    bool starts_runs;
};

struct request {
    bj_future future;
    struct driver_request driver_request;
    const struct request_kind *kind;
    bj_monitor *monitor; /* a reference to its memory */
    bool under_way;
    bool left; /* nobody listens any more */

    /* What a kind needs; freed with it. */
    bj_job *job;                /* query: whose row it is */
    bool had_id;                /* query: it had its id when the list was asked for */
    struct start_order *starts; /* of `start_count` jobs; NULL: none */
    size_t start_count;
    bool is_grouped; /* a transaction's */
    char *command;
    char *arguments;
    struct descriptors *descriptors; /* execute: until the driver takes them over, or it is over */
    bool out_of_band;                /* the same */
    struct text *why;                /* execute: why it was not sent; NULL: the usual sentence */
    struct raw raw;                  /* execute: of a verb */
    char *raw_id;                    /* the same; NULL: it is none */
};

/* What became of an order: the reply to its command; NULL: nothing was sent. */
enum order_reply request_result(const struct driver_reply *reply);

/* NULL: *ret_failed is the caller's answer (NULL handle, bad timeout, fork, memory). */
struct request *request_new(bj_monitor *monitor, const struct request_kind *kind,
                            int64_t timeout_ms, bj_future **ret_failed);

/* Checks and copies both. NULL; or a failed future for the caller, and the request is gone. */
bj_future *request_set_command(struct request *request, const char *command, const char *arguments);

#endif
