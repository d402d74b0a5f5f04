/* SPDX-License-Identifier: MIT */
/*
 * Jobs that are being started. The loop's thread only.
 */
#ifndef BJ_API_START_H
#define BJ_API_START_H

#include "api/job.h"
#include "driver/driver.h"

#include <blockjob/blockjob.h>

struct start_order {
    struct start start;
    struct start_plan plan;
    int64_t sent_us;
    bool is_out; /* it has no reply yet */
};

/* Takes over what is in `plan`, also when it fails. BJ_OK: it may be sent, and start_over()
 * follows; else BJ_E_NOMEM or BJ_E_BUSY. */
int start_begin(bj_monitor *monitor, struct start_order *order, struct start_plan *plan);

/* What became of those that are out; see struct request_kind. */
struct request;
void start_over(struct request *request, const struct driver_reply *reply);

/* The job that was started; NULL: it runs, but there is no memory to follow it. */
static inline bj_job *start_job(const struct start_order *order)
{
    return order->start.run ? job_of(order->start.run) : NULL;
}

void start_own(bj_job *job, struct start *start); /* the tracker's port: own */
void start_orders_free(struct start_order *orders, size_t count);

#endif
