/* SPDX-License-Identifier: MIT */
/*
 * Monitors: what is known about one QEMU (monitor.c, connect.c), its watches (monitor_watch.c,
 * watch_jobs.c), its job list (fetch_rows.c), and connecting again (reconnect.c). What a monitor
 * decides about jobs is its tracker's.
 */
#ifndef BJ_API_MONITOR_H
#define BJ_API_MONITOR_H

#include "api/progress.h"
#include "base/ctx.h"
#include "base/text.h"
#include "driver/address.h"
#include "driver/driver.h"
#include "driver/wire.h"
#include "model/tracker.h"

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
    struct text *name;  /* as the program calls it; NULL: by its uri */
    struct text *label; /* what texts call it */
    bool is_callers;    /* the connection is the program's own: it can't be made again */
    bool has_wire;      /* that can be traced */
    bool out_of_band;   /* negotiated with each connection */
    struct wire_tap tap;

    /* Under the context's lock. */
    enum monitor_state state;
    struct text *version;            /* one of these, or NULL */
    struct driver_identity identity; /* of the latest QEMU */
    struct text *versions[VERSIONS_MAX];
    int over_error;
    struct text *over_text;
    bool closing;         /* close_task is, or was, on its way */
    bool unwanting;       /* unwant_task is on its way */
    int64_t reconnect_ms; /* 0: never; -1: for ever */
    struct {
        bj_trace_fn fn; /* NULL: none */
        void *user;
        int flags;
        bool is_called;
        bool is_watched;
    } trace;

    /* The loop's own. */
    struct loop_task close_task;
    struct loop_task unwant_task; /* nobody wants it to connect again any more */
    struct loop_task finish_task;
    struct loop_timer *linger; /* until when, once it is closed */
    bool lingering;
    struct ctx_member member;
    struct loop_task launched_task;
    bool in_ctx;                  /* from its first dialling, or trace, until it is over */
    struct driver *driver;        /* NULL while there is no connection */
    int64_t peer;                 /* the process at the other end; 0: not known */
    struct driver_legacy *legacy; /* of the last that was up; NULL: none */
    struct awaiting *awaiting;    /* of a peer that may not be there yet; NULL: nothing */
    struct reconnect *reconnect;
    struct text
        *away_text;     /* why the connection ended that was, or is being, made again; or NULL */
    bj_future *connect; /* who waits for it to open; NULL: nobody */
    struct tracker tracker;
    struct driver_request rows_request; /* of its list */
    struct loop_task rows_failed;
    int rows_error;
    const struct driver_reply *rows_reply; /* while it is fed that list */
    struct text *ending;                   /* while it is told that the connection is over: why */
    const bj_job *fed;                     /* which is fed an event; NULL: none */
    int64_t event_us, seen_us;             /* the event's timestamp, and when it was read */
    bj_watch *watches;
    bj_watch *jobs_watches;        /* those of all its jobs */
    bj_watch *traces;              /* of the wire */
    struct loop_timer *seek_timer; /* for those of all jobs; NULL: there was no need */
    struct progress_asker progress;
    struct monitor_closed *closed; /* futures of bj_monitor_closed() */
};

/* Not connected to anything yet; `name` may be NULL. NULL: no memory. One handle, the caller's. */
bj_monitor *monitor_new(bj_ctx *ctx, const char *uri, const char *name,
                        const struct address *address);

static inline const char *monitor_label(const bj_monitor *monitor)
{
    return text_str(monitor->label);
}

/* The loop's thread: it is ended with its context, which does not close yet. */
void monitor_enter_ctx(bj_monitor *monitor);

/* The loop's thread: starts connecting; `connect` is answered once it is open, or over. Takes over
 * what is in `address`. False: no memory. */
bool monitor_open(bj_monitor *monitor, struct address *address, bj_future *connect);
/* For who awaits the peer: the same once more; a try has failed, and its driver is gone. Takes over
 * the reference to `text`. */
void monitor_open_again(bj_monitor *monitor);
void monitor_not_there(bj_monitor *monitor, int error, struct text *text);

/* BJ_OK; else BJ_E_CLOSED, ... with a sentence for a future in *ret_text. Over: for good. */
int monitor_check_over(bj_monitor *monitor, struct text **ret_text);
int monitor_check_open(bj_monitor *monitor, struct text **ret_text);
int64_t monitor_reconnect_ms(bj_monitor *monitor); /* any thread */

/* monitor_closed.c, the loop's thread: those who wait for its end. */
void monitor_answer_closed(bj_monitor *monitor, int error, struct text *text);

/* monitor_watch.c, the loop's thread. What becomes of the connection, to all its watches. */
void monitor_notify_watches(const bj_monitor *monitor, bj_record_kind kind, int error,
                            struct text *text);
void monitor_end_watches(bj_monitor *monitor, int error, struct text *text);
void monitor_end_watch_list(bj_watch **list, int error, struct text *text);
/* Of the driver's sink. */
bool monitor_wants_events(void *user);
void monitor_on_event(void *user, const char *name, const char *data, size_t data_len,
                      int64_t timestamp_us);
/* Puts it into the list, and reports that the connection is away; false: the monitor is over, and
 * so is the watch. */
bool monitor_begin_watch(bj_monitor *monitor, bj_watch *watch, bj_watch **list);
void monitor_disown(void *monitor); /* of its memory */

/* NULL; or a failed future for the caller: no monitor, after fork(), a bad timeout. Any thread. */
bj_future *monitor_refuse(bj_monitor *monitor, int64_t timeout_ms);
/* Why a command has no answer; NULL: no command in particular. */
struct text *monitor_late_text(const bj_monitor *monitor, const char *command, int64_t timeout_ms);

/* The loop's thread: two functions of the tracker's port. */
void monitor_is_back(bj_monitor *monitor);
void monitor_finish_if_settled(bj_monitor *monitor);

/* Connects anew; NULL: *ret_why says why not. */
struct driver *monitor_dial(bj_monitor *monitor, struct text **ret_why);

/* Ends it at once; gently: after the jobs that are ours and over have been dismissed, and QEMU has
 * answered all it was asked. Both answer everyone at once and take over the reference to `text`. */
void monitor_shut(bj_monitor *monitor, int error, struct text *text);
void monitor_close_gently(bj_monitor *monitor, struct text *text);
bj_monitor *monitor_ref_memory(bj_monitor *monitor);
void monitor_unref_memory(bj_monitor *monitor);

#endif
