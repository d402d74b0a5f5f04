/* SPDX-License-Identifier: MIT */
/*
 * Monitors: what is known about one QEMU (monitor.c, connect.c), the runs of its jobs
 * (track_runs.c), their rows in its job list (fetch_rows.c), and connecting again (reconnect.c).
 */
#ifndef BJ_API_MONITOR_H
#define BJ_API_MONITOR_H

#include "base/ctx.h"
#include "base/text.h"
#include "driver/address.h"
#include "driver/driver.h"

#include <blockjob/blockjob.h>

enum monitor_state {
    MONITOR_CONNECTING,
    MONITOR_OPEN,
    MONITOR_AWAY, /* the connection has ended and is being made again */
    MONITOR_OVER
};

/* Of the QEMUs that a monitor has been connected to, one after the other. */
enum { VERSIONS_MAX = 8 };

struct bj_monitor {
    atomic_uint refs;    /* of the memory; all handles together hold one, so does being open */
    atomic_uint handles; /* of the program */
    bj_ctx *ctx;
    struct text *uri;
    bool is_callers; /* the connection is the program's own: it can't be made again */

    /* Under the context's lock. */
    enum monitor_state state;
    struct text *version; /* one of these, or NULL */
    struct text *versions[VERSIONS_MAX];
    int over_error;
    struct text *over_text;
    bool closing;         /* close_task is, or was, on its way */
    int64_t reconnect_ms; /* 0: never; -1: for ever */

    /* The loop's own. */
    struct loop_task close_task;
    struct loop_task finish_task;
    struct loop_timer *linger; /* until when, once it is closed */
    bool lingering;
    struct ctx_member member;
    bool in_ctx;           /* from its first dialling until it is over */
    struct driver *driver; /* NULL while there is no connection */
    int64_t peer;          /* the process at the other end; 0: not known */
    struct reconnect *reconnect;
    bool returning;                  /* connected again, and the rows of the jobs not fetched yet */
    bj_future *connect;              /* who waits for it to open; NULL: nobody */
    void *run_table;                 /* tsearch(3), by id: the run that has the id now */
    bj_job *tracked, **last_tracked; /* the same as a list, the oldest first */
    size_t job_count;                /* of those and of the starting ones */
    bj_job *starting;                /* runs that QEMU has not reported yet (B01, B20) */
    struct driver_request rows_request; /* one for all runs that want to know */
    struct loop_task rows_failed;
    bool rows_requested, rows_wanted;
    int rows_error;
    bj_watch *watches;
    struct monitor_closed *closed; /* futures of bj_monitor_closed() */
};

/* Not connected to anything yet. NULL: no memory. One handle, the caller's. */
bj_monitor *monitor_new(bj_ctx *ctx, const char *uri, const struct address *address);

/* The loop's thread: starts connecting; `connect` is answered once it is open, or over. Takes over
 * what is in `address`. False: no memory. */
bool monitor_open(bj_monitor *monitor, struct address *address, bj_future *connect);

/* BJ_OK; else BJ_E_CLOSED, ... with a sentence for a future in *ret_text. */
int monitor_check_open(bj_monitor *monitor, struct text **ret_text);
int64_t monitor_reconnect_ms(bj_monitor *monitor); /* any thread */

/* The loop's thread. */
bj_job *monitor_find_job(bj_monitor *monitor, const char *id); /* borrowed; NULL: unknown */
bj_job *monitor_track_job(bj_monitor *monitor, const char *id,
                          const char *type);                 /* borrowed; or NULL */
void monitor_job_released(bj_monitor *monitor, bj_job *job); /* its id is free */

/* A run whose start is requested: it is known before the first byte is sent (B01), and has its id
 * once QEMU reports it or accepts. BJ_E_BUSY: too many. */
int monitor_add_starting(bj_monitor *monitor, bj_job *job);
void monitor_start_accepted(bj_monitor *monitor, bj_job *job);
void monitor_start_refused(bj_monitor *monitor, bj_job *job);
bj_job *monitor_find_starting(bj_monitor *monitor, const char *id);
bj_job *monitor_track_starting(bj_monitor *monitor, bj_job *job); /* borrowed; or NULL */

/* Those in the table; `visit` must not change it. */
void monitor_each_job(const bj_monitor *monitor, void (*visit)(bj_job *job, void *user),
                      void *user);
bool monitor_owes_dismissals(const bj_monitor *monitor);
void monitor_lose_starting(bj_monitor *monitor, int error, const char *text);
void monitor_lose_jobs(bj_monitor *monitor, int error, const char *text);
void monitor_finish_if_settled(bj_monitor *monitor);

/* The run is fed its row in QEMU's job list, later. */
void monitor_want_row(bj_monitor *monitor, bj_job *job);
void monitor_want_all_rows(bj_monitor *monitor);
void monitor_all_rows_fetched(bj_monitor *monitor); /* those of all runs */

/* Connects anew; NULL: *ret_why says why not. */
struct driver *monitor_dial(bj_monitor *monitor, struct text **ret_why);

/* Ends it at once; gently: after the jobs that are ours and over have been dismissed, and QEMU has
 * answered all it was asked. Both answer everyone at once and take over the reference to `text`. */
void monitor_shut(bj_monitor *monitor, int error, struct text *text);
void monitor_close_gently(bj_monitor *monitor, struct text *text);
bj_monitor *monitor_ref_memory(bj_monitor *monitor);
void monitor_unref_memory(bj_monitor *monitor);

#endif
