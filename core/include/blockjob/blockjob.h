/* SPDX-License-Identifier: MIT */
/*
 * libblockjob: await QEMU's block jobs.
 *
 * A hypervisor copies, merges or backs up the disk of a running guest with a block job. This
 * library turns the moments of such a job (ready, pivot, abort, end) into futures, and says
 * truthfully how it ended. QEMU's own events decide; what has no event, such as how far a job is,
 * is asked for every few seconds, and only while someone waits or watches.
 *
 *     bj_ctx *ctx;
 *     bj_ctx_new(&ctx);
 *     bj_future *f = bj_monitor_connect(ctx, "unix:/run/vm1.qmp", BJ_TIMEOUT_DEFAULT);
 *     bj_future_wait(f, BJ_TIMEOUT_NONE);
 *     bj_monitor *monitor = bj_future_monitor(f);
 *     ...
 *     f = bj_monitor_mirror(monitor, "drive0", "copy0", "full", NULL, BJ_TIMEOUT_DEFAULT);
 *     bj_future_wait(f, BJ_TIMEOUT_NONE);
 *     bj_job *job = bj_future_job(f);
 *     ...
 *     f = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 60 * 1000);
 *     bj_future_wait(f, BJ_TIMEOUT_NONE);
 *     if (bj_future_error(f) != BJ_OK)
 *         fprintf(stderr, "%s\n", bj_future_text(f));
 *
 * OBJECTS
 *
 *   bj_ctx      an event loop and all that lives on it; any number in a process
 *   bj_monitor  the control channel to one QEMU or qemu-storage-daemon
 *   bj_job      one run of one block job; an id used again is another bj_job
 *   bj_group    several jobs that are awaited, pivoted or given up together
 *   bj_future   one answer that is not there yet
 *   bj_watch    one observer's stream of records
 *   bj_queue    an fd and an array of records, for an event loop that is not ours
 *
 * Every object is reference-counted. A function that returns an object returns a new reference,
 * which the caller gives back with the object's _unref. Every _unref takes NULL and returns NULL.
 * A handle outlives what it stands for: a job of a closed monitor can still be asked how it ended.
 * A job does not keep its monitor open, nor a monitor its context: hold those while you need them.
 *
 * THREADS
 *
 * A context runs its loop on a thread of its own (or on your libev loop: see blockjob/ev.h). Every
 * function here may be called from any thread and from any callback. The functions that block
 * (bj_future_wait, bj_watch_next, bj_ctx_close) return BJ_E_DEADLOCK on the loop's thread.
 *
 * FORK
 *
 * After fork() every function returns BJ_E_FORKED in the child, and _unref does nothing; the child
 * makes a context of its own. It reads and writes none of its parent's connections, even if it goes
 * on with the program's libev loop (after ev_loop_fork(), as libev requires) or returns from the
 * callback that forked; on a context's own thread that return ends the thread. Only fork() is
 * recognised: a child made by vfork() or by clone() itself may only call exec or _exit. Descriptors
 * are closed by exec; a child without it keeps QEMU's monitor occupied if its parent is killed.
 *
 * ERRORS
 *
 * Functions that return int answer BJ_OK or a negative bj_error. Functions that return a future
 * never return NULL: what went wrong, even a NULL handle, a negative timeout or a lack of memory,
 * is the future's answer. Every failed future has a sentence, bj_future_text(), that names the
 * thing and the remedy. No error is kept per thread or per process. Nothing that a peer sends and
 * no lack of memory or descriptors aborts the process, but for the libraries below: jansson's lexer
 * does when it can't hold a number (of a string it then loses letters), and libev, on a program's
 * own loop, when it cannot grow its tables.
 *
 * TIMEOUTS
 *
 * In milliseconds, on the monotonic clock, over all steps of what is asked. BJ_TIMEOUT_NONE waits
 * for ever; BJ_TIMEOUT_DEFAULT is the limit of the context that fits the call (10 s to connect,
 * 60 s to start, attach to, list or query a job and for a command, none for a wait on a job or a
 * verb); any other negative number is BJ_E_INVAL. 0 asks
 * for what is true now. A timeout or bj_future_cancel() means "I no longer listen": it never aborts
 * a job and never disturbs another waiter; what QEMU has been told goes on, what it has not been
 * told yet it is not told any more. The text of a wait on a job whose deadline has passed says what
 * is amiss, if anything is known to be: that it is pending, paused, or makes no progress.
 *
 * CALLBACKS
 *
 * Run on the loop's thread, never inside the call that registered them, never under a lock, exactly
 * once; then .free (if any) exactly once, also at teardown; when registering failed, at once.
 * A callback may call anything here that does not block.
 *
 * While a callback runs, nothing else of its context does: no other callback, no read, no timer.
 * That holds for an ev_run() inside it, too, which serves the program's own watchers only: the
 * context goes on when the callback has returned, and nothing is lost meanwhile. So a callback is
 * never entered again before it has returned, its .free runs after that, and whatever is closed or
 * given back in it stays intact until then.
 */
#ifndef BLOCKJOB_BLOCKJOB_H
#define BLOCKJOB_BLOCKJOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BJ_VERSION_MAJOR 0
#define BJ_VERSION_MINOR 1
#define BJ_VERSION_PATCH 0
#define BJ_VERSION_NUMBER (BJ_VERSION_MAJOR * 10000 + BJ_VERSION_MINOR * 100 + BJ_VERSION_PATCH)

#define BJ_TIMEOUT_NONE (-1)
#define BJ_TIMEOUT_DEFAULT (-2)

typedef struct bj_ctx bj_ctx;
typedef struct bj_monitor bj_monitor;
typedef struct bj_job bj_job;
typedef struct bj_group bj_group;
typedef struct bj_future bj_future;
typedef struct bj_watch bj_watch;
typedef struct bj_queue bj_queue;

typedef enum bj_error {
    BJ_OK = 0,
    BJ_E_INVAL = -1,     /* an argument makes no sense: NULL, negative timeout, bad JSON, bad URI */
    BJ_E_NOMEM = -2,     /* out of memory; nothing was done */
    BJ_E_SYSTEM = -3,    /* the operating system refused a thread, a descriptor, an epoll watch */
    BJ_E_FORKED = -4,    /* the object belongs to the parent process */
    BJ_E_DEADLOCK = -5,  /* a blocking call on the loop's own thread */
    BJ_E_PENDING = -6,   /* the future is not done yet */
    BJ_E_TIMEOUT = -7,   /* the deadline of this wait; nothing was done to the job */
    BJ_E_CANCELLED = -8, /* bj_future_cancel(); the job goes on */
    BJ_E_CLOSED = -9,    /* the monitor, context or watch was closed by this program */
    BJ_E_BUSY = -10,     /* a limit of the context was reached; nothing was sent */
    BJ_E_UNSUPPORTED = -11,  /* QEMU, or libvirt, has no such command; or there is no driver */
    BJ_E_CONNECT = -12,      /* no connection could be made */
    BJ_E_PROTOCOL = -13,     /* the peer sent what is not QMP, or more than the limits allow */
    BJ_E_DISCONNECTED = -14, /* the connection ended before the answer came */
    BJ_E_REFUSED = -15,      /* QEMU refused the command; class and text are QEMU's */
    BJ_E_NO_JOB = -16,       /* no job of that id */
    BJ_E_NOT_READY = -17,    /* BJ_PIVOT_ONLY_IF_READY, and it is not */
    BJ_E_STALLED = -18,    /* paused, or stopped by an I/O error: resume it, or abort with force */
    BJ_E_STATE = -19,      /* the verb does not fit what the job is or does */
    BJ_E_JOB_FAILED = -20, /* the job failed; the text is QEMU's */
    BJ_E_JOB_LOST = -21,   /* how the job ended can't be known; the text says why, and
                              bj_future_cause() whether the connection's end is */
    BJ_E_JOB_ENDED = -22   /* the job ended otherwise than asked; see bj_future_outcome() */
} bj_error;

/* How a run ended. Latched once, never changed after. */
typedef enum bj_outcome {
    BJ_OUTCOME_NONE = 0,  /* it has not ended */
    BJ_OUTCOME_COMPLETED, /* stream, commit, backup, ... finished. Of a mirror or an active commit:
                             it finished, perhaps by another client's verb, and whether the disk was
                             switched is unknown (the text says so) */
    BJ_OUTCOME_PIVOTED,   /* the disk was switched to the copy, or to the base */
    BJ_OUTCOME_COPIED,    /* a ready mirror was cancelled softly: the target is a consistent copy of
                             that moment; the disk was not switched. Of a disk that nobody used: by
                             our cancel, unless another client completed the job just before it */
    BJ_OUTCOME_CANCELLED, /* cancelled; the target is worthless */
    BJ_OUTCOME_FAILED,    /* failed; the text is QEMU's */
    BJ_OUTCOME_LOST       /* can't be known: the connection ended, or the job vanished unseen */
} bj_outcome;

/* "BJ_E_TIMEOUT" and a short sentence for it; "PIVOTED". Static; never NULL. */
const char *bj_error_name(int error);
const char *bj_error_text(int error);
const char *bj_outcome_name(bj_outcome outcome);

/* The version of the library that is running, as "0.1.0" and as 100: BJ_VERSION_NUMBER is that of
 * the header. What a later version adds to an enum, or to the end of a record, an older program
 * need not know. */
const char *bj_version(void);
int bj_version_number(void);

/* ------------------------------------------------------------------ context */

typedef enum bj_limit {
    BJ_LIMIT_MESSAGE_BYTES = 0, /* of one message from QEMU; 16 MiB */
    BJ_LIMIT_MESSAGE_TOKENS,    /* of one message; 1,048,576 */
    BJ_LIMIT_MESSAGE_NESTING,   /* of one message; 256, at most 1,024 */
    BJ_LIMIT_IN_FLIGHT,         /* commands sent and not answered, a monitor; 64 */
    BJ_LIMIT_QUEUED,            /* commands not sent yet, a monitor; 1,024 */
    BJ_LIMIT_JOBS,              /* runs a monitor keeps track of; 4,096 */
    BJ_LIMIT_WATCH_RING,        /* records a watch keeps for its reader; 256 */
    BJ_LIMIT_CONNECT_MS,        /* connect, greeting and negotiation together; 10,000 */
    BJ_LIMIT_COMMAND_MS,        /* a command, where the caller sets no deadline; 60,000 */
    BJ_LIMIT_STALL_MS,          /* how long a job may stand still, with nobody known to have paused
                                   it, before a waiting pivot is told BJ_E_STALLED; and may go on
                                   before a refused one is told BJ_E_REFUSED; 1,000 */
    BJ_LIMIT_POLL_MS,    /* how often a QEMU that has no event for what is awaited (RHEL 6; a new
                            job before 3.0) is asked instead, while someone waits (B58); 500 */
    BJ_LIMIT_CONVERGE_MS /* how long a job may make no progress (nothing is copied, or what is left
                            does not shrink) before those who watch it are told why; and how often
                            QEMU is asked how far jobs are, while someone waits for one or watches
                            it; 10,000 */
} bj_limit;

/* A context with a loop thread of its own (all signals blocked, 512 KiB of stack or the system's
 * minimum if that is more). It takes two descriptors. BJ_E_NOMEM, BJ_E_SYSTEM. */
int bj_ctx_new(bj_ctx **ret_ctx);
bj_ctx *bj_ctx_ref(bj_ctx *ctx);

/* The last reference closes the context as bj_ctx_close() does, and blocks as that does, unless
 * bj_ctx_close_async() was called before; on the loop's own thread it happens as soon as the
 * running callback has returned, and where another thread runs the program's loop, in that loop's
 * next turn. */
bj_ctx *bj_ctx_unref(bj_ctx *ctx);

/* Closes all monitors, answers every pending future (BJ_E_CLOSED), runs the callbacks that are
 * due, stops the loop. Blocks until that is done, which may take a second when a QEMU that has
 * stopped has jobs of ours to dismiss or owes us replies; may be called again. Jobs in QEMU go on.
 */
int bj_ctx_close(bj_ctx *ctx);

/* Begins the same and returns at once, from any thread and from callbacks: for a program that must
 * not wait for a QEMU, as on the thread of its own event loop. The context's thread does the rest
 * and ends. bj_ctx_close() waits for it; the last bj_ctx_unref() no longer does, so that a program
 * which exits then may leave jobs of ours undismissed.
 * Where the program's own loop runs the context, this is bj_ctx_close(), which waits for nobody
 * there. May be called again. */
int bj_ctx_close_async(bj_ctx *ctx);

/* A limit holds for monitors connected, and watches made, after it was set. 0 is BJ_E_INVAL. */
int bj_ctx_set_limit(bj_ctx *ctx, bj_limit limit, uint64_t value);
int bj_ctx_get_limit(bj_ctx *ctx, bj_limit limit, uint64_t *ret_value);

/* What is worth a line in a log but is nobody's error (a reply that nobody waits for, ...). `fn`
 * runs on the loop's thread and must not call the library; `message` is only valid during the call.
 * NULL switches it off. Waits for a call that is under way: after this returned, the function set
 * before is not called again. On the loop's thread none can be under way. */
typedef void (*bj_log_fn)(const char *message, void *user);
int bj_ctx_set_log(bj_ctx *ctx, bj_log_fn fn, void *user);

/* ------------------------------------------------------------------ futures */

/* A future is done when it has an answer; done is not success: ask bj_future_error(). */

typedef struct bj_closure {
    void (*fn)(bj_future *future, void *user);
    void *user;
    void (*free)(void *user);
} bj_closure;

bj_future *bj_future_ref(bj_future *future);
/* The last reference to a pending future cancels it, unless a callback waits for it or a queue that
 * someone holds: to ask for an abort and not wait, use BJ_ABORT_ASYNC and let go when that is
 * done. */
bj_future *bj_future_unref(bj_future *future);

/* Calls closure.fn on the loop's thread once the future is done, soon if it already is. Any number
 * of callbacks a future. The future stays alive until they have run. */
int bj_future_on_done(bj_future *future, bj_closure closure);

/* Blocks until the future is done (BJ_OK, whatever its answer), or `timeout_ms` have passed
 * (BJ_E_TIMEOUT; the future goes on). Restarted after signals. */
int bj_future_wait(bj_future *future, int64_t timeout_ms);

/* Puts one BJ_RECORD_FUTURE with `token` into the queue once the future is done. One queue a
 * future; a second is BJ_E_STATE. Queue and future must be of the same context. */
int bj_future_deliver(bj_future *future, bj_queue *queue, uint64_t token);

/* "I no longer listen": a pending future is done at once, with BJ_E_CANCELLED; one that is done
 * stays as it is. A verb that was not sent yet is not sent: a pivot that nobody listens to any more
 * does not happen when the job becomes ready. A connection that nobody awaits is given up. */
void bj_future_cancel(bj_future *future);

bool bj_future_is_done(bj_future *future);

/* BJ_E_PENDING before the future is done; then BJ_OK or why not. */
int bj_future_error(bj_future *future);

/* A sentence for the error, "" if there is none. Belongs to the future. */
const char *bj_future_text(bj_future *future);

/* Why a job is BJ_E_JOB_LOST: the error that its monitor's connection ended with, as
 * bj_monitor_closed() answers it (BJ_E_DISCONNECTED, BJ_E_PROTOCOL), if that is the reason. BJ_OK
 * if the job was lost on a monitor that goes on (it vanished unseen, or another QEMU answers after
 * a reconnect), and for every other answer. */
int bj_future_cause(bj_future *future);

/* QEMU's error class ("GenericError", ...) for BJ_E_REFUSED, or the number of libvirt's error
 * ("83"), else "". Belongs to the future. */
const char *bj_future_error_class(bj_future *future);

/* Waits on a job: how it ended, BJ_OUTCOME_NONE if it had not when the future was answered. */
bj_outcome bj_future_outcome(bj_future *future);

/* The result, as a new reference, of bj_monitor_connect() / of a start or an attach. NULL if the
 * future is not done, failed, or is of another kind. A monitor or a new job that nobody takes out
 * goes with the future: the monitor is closed, the job runs on in QEMU.
 *
 * Of a wait on a group: the job that decided the answer, also where that is an error; NULL if it
 * was all of them, or none. */
bj_monitor *bj_future_monitor(bj_future *future);
bj_job *bj_future_job(bj_future *future);

/* The result of bj_monitor_transaction(): the jobs in the order of the actions that started them,
 * as new references; NULL past the last. */
size_t bj_future_job_count(bj_future *future);
bj_job *bj_future_job_at(bj_future *future, size_t index);

/* The result of bj_monitor_execute(): the reply's "return" value, JSON as QEMU sent it, NULL if
 * there is none. Belongs to the future. */
const char *bj_future_json(bj_future *future);

/* One row of what QEMU says of its jobs. Fields that this QEMU does not tell are "", -1 or false.
 * Of a libvirt domain: id, type, current, total, speed and ready. */
typedef struct bj_job_info {
    const char *id;
    const char *type;      /* "mirror", "commit", "stream", "backup", "create", ...; "migration": a
                              copy that libvirt makes to migrate a domain, and nobody steers */
    const char *status;    /* "running", "ready", "paused", ...; "" before QEMU 2.12 */
    const char *error;     /* of a job that has concluded; "" without */
    const char *io_status; /* "ok", "failed", "nospace" */
    int64_t current;       /* bytes, or another unit for jobs that copy none; -1 if unknown */
    int64_t total;         /* grows while a guest writes; never equals current while the job is not
                              ready but might become so (B25; not so with libvirt); -1 if unknown */
    int64_t speed;         /* limit in bytes a second, 0 is none; -1 if unknown */
    bool ready;
    bool paused;
    bool auto_dismiss;
    bool auto_finalize;
} bj_job_info;

/* The result of bj_job_query() (one row) and bj_monitor_list() (a row a job); NULL past the last.
 * Belongs to the future. */
size_t bj_future_info_count(bj_future *future);
const bj_job_info *bj_future_info(bj_future *future, size_t index);

/* ------------------------------------------------------------------ monitor */

/* Connects and negotiates. `uri` is
 *
 *     unix:/path          a UNIX socket (a bare path that starts with / will do)
 *     tcp:host:port       [::1]:4444 for an IPv6 address. Host names are looked up by threads, 16
 *                         at a time in the process; others wait, within their deadlines
 *     fd:N                a connected socket; the library owns a duplicate, N stays the caller's
 *     qemu:///system#vm1  a domain of libvirt's: the URI of a connection and, after #, the domain's
 *                         name or UUID; any to QEMU (qemu+ssh://host/system#vm1,
 *                         qemu:///embed?root=/dir#vm1); libvirt:vm1 for libvirt's default one.
 *                         What is odd in a name is written as %20. With ?readonly behind the name
 *                         (qemu:///system#vm1?readonly) the connection is a read-only one, also
 *                         when it is made again: for who lists, attaches, watches and waits. There
 *                         a start or a verb is BJ_E_REFUSED at once, and what only QEMU's own
 *                         events tell is not known (docs/libvirt.md)
 *
 * One deadline covers connecting, the greeting and the negotiation (B47). QEMU serves one client a
 * socket: while another holds it, connecting succeeds and no greeting comes. libvirt holds its
 * domains' monitors; reach those through libvirt, or start QEMU with a second -qmp.
 *
 * Answer: bj_future_monitor(). Errors: BJ_E_CONNECT, BJ_E_TIMEOUT, BJ_E_PROTOCOL,
 * BJ_E_DISCONNECTED, BJ_E_INVAL, BJ_E_SYSTEM; BJ_E_UNSUPPORTED where the libvirt driver is not
 * installed. */
bj_future *bj_monitor_connect(bj_ctx *ctx, const char *uri, int64_t timeout_ms);

/* What went over the wire: record->kind is BJ_RECORD_SENT or BJ_RECORD_RECEIVED, text the line,
 * timestamp_us when (this process's clock), name the monitor's. For lack of memory a line may be
 * missing: then the kind is BJ_RECORD_LAGGED. A line is a whole message of QMP, without its end;
 * with -qmp-pretty it has line ends inside.
 *
 * The function runs on the loop's thread, before the line has any effect, and must not call the
 * library; `record` is only valid during the call. */
struct bj_record;
typedef void (*bj_trace_fn)(const struct bj_record *record, void *user);

typedef enum bj_trace_flags {
    BJ_TRACE_PLAIN = 0, /* the bytes as they are */
    BJ_TRACE_MASKED = 1 /* *** instead of secrets: strings that are members named "password",
                           "data" (of a secret object; of keys that are typed), "secret", "key" or
                           "arg" (of `change`), also as the last part of a dotted name; passwords in
                           URLs; and what follows the first word of a human-monitor-command that
                           sets a password or adds an object. All else keeps its bytes. A secret in
                           a reply without such a name (qom-get) is not known for one */
} bj_trace_flags;

/* How to connect. What is zero is as it is with bj_monitor_connect(). */
typedef struct bj_connect_options {
    size_t size; /* sizeof(bj_connect_options), as the program knows it */

    /* What texts and traces call the monitor, beside its uri: "fd:7" says little. UTF-8, at most
     * 200 bytes. NULL and "": nothing. */
    const char *name;

    /* For how long a peer that is not there yet is waited for: a socket that does not exist or that
     * nobody listens on, a host that is not reached, a connection that is closed before the
     * negotiation is over, a libvirtd that does not run, a domain that libvirt does not know or
     * that does not run. It is tried again in steps from 20 ms to 500 ms; one that accepts and says
     * nothing, after 2 s, 4 s and so on. Then the error is that of the last try (BJ_E_CONNECT,
     * ...), and its text says how long was waited. The deadline of the whole is `timeout_ms` later:
     * so much time has a try that finds the peer at the last moment. BJ_TIMEOUT_NONE waits for as
     * long as `timeout_ms` lasts, with BJ_E_TIMEOUT at its end. What waiting does not mend (a bad
     * address, no permission, an unknown host name, no QMP) fails at once. BJ_E_INVAL for "fd:N",
     * which is there or not. */
    int64_t wait_ms;

    /* A trace from the first byte on, the greeting included: see bj_monitor_set_trace(). If
     * connecting was cancelled the function may be called until the context is closed. */
    int trace_flags;
    bj_trace_fn trace;
    void *trace_user;

    /* The same as a watch, for a queue or for bj_watch_next(): where to put it, or NULL. It keeps
     * sixteen times BJ_LIMIT_WATCH_RING lines and BJ_LIMIT_MESSAGE_BYTES of them for its reader,
     * and goes on when the monitor connects again. Its CLOSED comes when the last byte was read:
     * after bj_monitor_close() that may be a second later. Where there is no trace, because the
     * future has failed already, it is set to NULL. */
    bj_watch **ret_trace;

    /* Commands shall be executed out of band (bj_monitor_execute_with()): negotiated with a QEMU
     * that offers it (4.0 and later, on a socket), also when the monitor connects again; connecting
     * to another does not fail. QEMU then reads commands ahead of those that it executes, so 7 are
     * sent at a time, and one with descriptors alone: leave it out unless you need it. */
    bool out_of_band;
} bj_connect_options;

/* The same with options, which may be NULL; they are not used after this returned. BJ_E_UNSUPPORTED
 * for a trace of a domain of libvirt's: its wire is libvirt's own, whose log has the calls. */
bj_future *bj_monitor_connect_with(bj_ctx *ctx, const char *uri, const bj_connect_options *options,
                                   int64_t timeout_ms);

/* The same for a domain that the program has from libvirt (`domain` is a virDomainPtr; of libvirt
 * 7.0 or newer): its connection is used, and no other is made. A reference to the domain is taken
 * before this returns and given back some time after the monitor was closed; until then the
 * connection must have a running event loop, the program's or, where it has registered none, ours.
 * Such a monitor does not connect again. The events of jobs are asked for when someone starts,
 * lists, attaches or watches, and not before. libvirtd works on five calls of a connection at a
 * time: a program with many domains on one connection shares those with us.
 *
 * What a libvirt monitor does otherwise than QMP: a job's id is its disk's target ("vda"; a path
 * will do to find it). A job is started in libvirt's words (docs/libvirt.md). There is no
 * bj_monitor_execute() or _transaction(), no pause, resume, finalize or change, and force only
 * before a copy is ready: all BJ_E_UNSUPPORTED. A domain that stops ends the monitor, unless
 * bj_monitor_set_reconnect() says that its next start is to be waited for. */
struct _virDomain;
bj_future *bj_monitor_connect_domain(bj_ctx *ctx, struct _virDomain *domain, int64_t timeout_ms);

bj_monitor *bj_monitor_ref(bj_monitor *monitor);
/* The last reference closes the monitor. */
bj_monitor *bj_monitor_unref(bj_monitor *monitor);

/* Closes the connection; all that waits on it is answered BJ_E_CLOSED. Returns at once. Jobs go on
 * in QEMU, and bj_monitor_attach() finds them again; one that the library has started stays listed
 * as "concluded" when it ends, until someone dismisses it. Behind the scenes the socket stays open
 * until QEMU has dismissed those jobs of ours that are over already, and has answered all that it
 * was asked: a second at most. */
int bj_monitor_close(bj_monitor *monitor);

/* Done when the connection is over for good, however: BJ_E_CLOSED, BJ_E_DISCONNECTED or
 * BJ_E_PROTOCOL. */
bj_future *bj_monitor_closed(bj_monitor *monitor);

/* From now on a connection that ends is made again (B45, B46): tried for up to `give_up_after_ms`
 * each time, in steps from 100 ms to 1 s; BJ_TIMEOUT_NONE never gives up; 0, as it is at first,
 * never tries. Waits on jobs, their deadlines and their watches go on through it. Then QEMU is
 * asked what became of each job: still listed, it goes on; concluded, it has its outcome; gone, or
 * when it is another QEMU than before, it is BJ_OUTCOME_LOST, never a success. Another QEMU is
 * known by its version or its process: that which called listen() on the socket (SO_PEERCRED), so
 * not where QEMU was passed its socket, or runs in another pid namespace; then only by its job
 * list. Nothing is sent again before that is known. Commands under way are answered
 * BJ_E_DISCONNECTED, and so is what is asked of the monitor until it is connected again; QEMU's
 * events of that time are lost for good.
 *
 * A domain of libvirt's is known by its UUID, whatever has its name by then. Where it stops and
 * stays defined (a persistent one that has not moved to another host), its jobs are lost at once,
 * and libvirt's event that it was started again is waited for, within the same limit; then it is
 * another QEMU. One that was undefined, or was transient, is gone, and the monitor is over.
 *
 * BJ_E_INVAL for a monitor of "fd:N" or of a program's own domain, which can't be made again, and
 * for any other negative number; BJ_E_CLOSED, ... when the monitor is over already. */
int bj_monitor_set_reconnect(bj_monitor *monitor, int64_t give_up_after_ms);

/* Calls `fn` for each line that is sent or received from now on; NULL ends that. There is one such
 * function a monitor, and it stays when the monitor connects again. Waits for a call that is under
 * way: after this returned, the function set before is not called again. So call it before what
 * `user` points to goes, and before the last reference to the monitor goes, which may still have
 * replies to read. On the loop's thread no call can be under way. BJ_E_UNSUPPORTED for a domain of
 * libvirt's. */
int bj_monitor_set_trace(bj_monitor *monitor, int flags, bj_trace_fn fn, void *user);

/* Both belong to the monitor. The name is that of the options, the uri if there was none. */
const char *bj_monitor_uri(bj_monitor *monitor);
const char *bj_monitor_name(bj_monitor *monitor);

/* "7.2.22", of the latest greeting; for display: never decide by it. "" of a domain of libvirt's,
 * which does not tell. Belongs to the monitor, also after a reconnect to another version. */
const char *bj_monitor_qemu_version(bj_monitor *monitor);

/* 1 if this QEMU has that command, 0 if not; once the connection is over, its bj_error. */
int bj_monitor_has_command(bj_monitor *monitor, const char *command);

/* Any command. `arguments` is a JSON object or NULL. Its bytes are sent as they are, so every
 * integer is exact. Answer: bj_future_json(). Errors: BJ_E_REFUSED with class and text, BJ_E_INVAL,
 * BJ_E_BUSY. When the deadline passes a late reply is dropped, but QEMU may still do what it was
 * told. For jobs use the functions below: a verb that is sent this way is sent as it is, ready or
 * not; the job takes note of it if QEMU accepts. */
bj_future *bj_monitor_execute(bj_monitor *monitor, const char *command, const char *arguments,
                              int64_t timeout_ms);

/* How to execute a command. */
typedef struct bj_execute_options {
    size_t size;      /* sizeof(bj_execute_options), as the program knows it */
    const int *fds;   /* descriptors that go with the command: "getfd", "add-fd" */
    size_t fd_count;  /* 16 at most, which is what QEMU receives with one command */
    bool out_of_band; /* executed at once, before those that wait, and while one hangs */
} bj_execute_options;

/* The same with options, which may be NULL.
 *
 * fds           The library duplicates them before this returns: yours stay yours, to be closed
 *               whenever you like. Its duplicates are closed as soon as they are sent, or will not
 *               be: refused, cancelled, late, the connection over. They are sent with the first
 *               byte of this command, and never again after a reconnect. "getfd" and "add-fd" take
 *               the first and QEMU closes the others: give them one each. Of a command that takes
 *               none QEMU keeps them for one that does.
 * out_of_band   For a QEMU that hangs in another command. It has a few commands for that
 *               ("migrate-pause", "migrate-recover", "yank"); it refuses the others. The monitor
 *               must have been connected with bj_connect_options.out_of_band.
 *
 * Errors, also: BJ_E_INVAL for a descriptor that is not open, for more than 16, or for descriptors
 * and out_of_band together; BJ_E_SYSTEM when none can be duplicated, or the system does not send
 * them; BJ_E_UNSUPPORTED for descriptors over TCP, out_of_band where it was not negotiated, and
 * both for a libvirt domain. */
bj_future *bj_monitor_execute_with(bj_monitor *monitor, const char *command, const char *arguments,
                                   const bj_execute_options *options, int64_t timeout_ms);

/* ------------------------------------------------------------ starting jobs */

/* Starts a job with any command that starts one ("blockdev-mirror", "block-commit",
 * "block-stream", "blockdev-backup", "blockdev-create", "drive-mirror", ...).
 *
 * On a libvirt domain also libvirt's own calls ("virDomainBlockCopy", ...), and "backup", a backup
 * of several disks with plain options: {"disks": {"vda": "/b/vda", "vdb": "/b/vdb"}}; "mode"
 * ("push" or "pull"), "server", "incremental", "checkpoint", "format", "target-type", "reuse". A
 * pull that is aborted is BJ_OUTCOME_COMPLETED: that is how its client ends it.
 *
 * The library adds what the caller left out: a unique job id ("bj-...") where this QEMU has ids,
 * and "auto-dismiss": false where it has that; it then dismisses the job itself, once, after the
 * outcome is stored (B40). With an explicit "auto-dismiss" the caller does it: bj_job_dismiss().
 * The job is followed from before the first byte is sent (B01): nothing it does is missed.
 *
 * Answer: bj_future_job(), once QEMU has accepted. Errors: BJ_E_REFUSED (QEMU's reason; no job is
 * left behind), BJ_E_UNSUPPORTED, BJ_E_INVAL, BJ_E_BUSY. When the deadline passes, or the
 * connection ends before QEMU's reply, the job may yet start, or have started: the text says its
 * id, for bj_monitor_attach(). */
bj_future *bj_monitor_start(bj_monitor *monitor, const char *command, const char *arguments,
                            int64_t timeout_ms);

/* The same for the usual jobs; `options` is a JSON object with further arguments in QEMU's own
 * words, or NULL.
 *
 * mirror   blockdev-mirror: copies node or device `device` to node `target` and keeps them equal
 *          from ready on; sync is "full", "top" or "none".
 * commit   block-commit: merges overlays down. The active layer unless options say "top-node"; that
 *          kind becomes ready and is to be pivoted; an intermediate commit just completes.
 * stream   block-stream: pulls the backing files' data up.
 * backup   blockdev-backup: a point-in-time copy; sync is "full", "top", "none", ... */
bj_future *bj_monitor_mirror(bj_monitor *monitor, const char *device, const char *target,
                             const char *sync, const char *options, int64_t timeout_ms);
bj_future *bj_monitor_commit(bj_monitor *monitor, const char *device, const char *options,
                             int64_t timeout_ms);
bj_future *bj_monitor_stream(bj_monitor *monitor, const char *device, const char *options,
                             int64_t timeout_ms);
bj_future *bj_monitor_backup(bj_monitor *monitor, const char *device, const char *target,
                             const char *sync, const char *options, int64_t timeout_ms);

/* Starts several jobs as one (B43): QEMU's "transaction". `actions` is a JSON array of objects
 * {"type": "blockdev-backup", "data": {...}}; what starts no job (a bitmap, a snapshot) may be
 * among them. To those that do, the library adds what bj_monitor_start() adds. Without flags each
 * job has a fate of its own.
 *
 * Answer: bj_future_job_at(), once QEMU has accepted all. Errors: as bj_monitor_start(); refused,
 * no job is left behind. */
typedef enum bj_transaction_flags {
    BJ_TRANSACTION_EACH = 0,
    BJ_TRANSACTION_GROUPED = 1 /* when one fails or is cancelled QEMU cancels the others, each of
                                  which then is BJ_OUTCOME_CANCELLED */
} bj_transaction_flags;

bj_future *bj_monitor_transaction(bj_monitor *monitor, const char *actions, int flags,
                                  int64_t timeout_ms);

/* A job that someone else, or an earlier process, started (B51). Before QEMU 2.7 the id is the
 * device's name; of a libvirt domain it is the disk's target, "backup" of a backup, to which each
 * of its disks leads as well. Such a job is never dismissed by us unless asked. Answer:
 * bj_future_job(), the same bj_job for the same run, however often it is asked. It comes when what
 * uses the job's disk has been recorded as well, so that the outcome is known whoever ends the job.
 * Errors: BJ_E_NO_JOB, also if it ends meanwhile and QEMU forgets it; BJ_E_BUSY: more jobs than
 * BJ_LIMIT_JOBS are followed. */
bj_future *bj_monitor_attach(bj_monitor *monitor, const char *id, int64_t timeout_ms);

/* All jobs QEMU knows of now. Answer: bj_future_info(). */
bj_future *bj_monitor_list(bj_monitor *monitor, int64_t timeout_ms);

/* --------------------------------------------------------------------- jobs */

bj_job *bj_job_ref(bj_job *job);
/* Letting go of a job does nothing to it. */
bj_job *bj_job_unref(bj_job *job);

/* Belong to the job and don't change. The type is "" until QEMU or the start has told it. */
const char *bj_job_id(bj_job *job);
const char *bj_job_type(bj_job *job);

/* The disks of a libvirt domain that the job works on, by their targets ("vda"): one, or those of a
 * backup, which is one job. NULL past the last. Belongs to the job and does not change. Of a job in
 * QEMU there are none. */
const char *bj_job_disk(bj_job *job, size_t index);

/* What is known now, without asking QEMU. bj_job_text() says why it FAILED or was LOST, and of one
 * that COMPLETED that it is unknown whether it has switched the disk, where it is; else "". */
bool bj_job_is_ready(bj_job *job); /* was ready once; never false again */
bj_outcome bj_job_outcome(bj_job *job);
const char *bj_job_text(bj_job *job);
int bj_job_cause(bj_job *job); /* of one that was LOST, as bj_future_cause(); else BJ_OK */

/* What a program keeps of a job to find it again in its next life: see bj_watch_jobs_options. A
 * memo is a line of at most BJ_MEMO_SIZE - 1 printable characters (ASCII), and opaque. It says
 * which QEMU and which run of the job it is about, how far that was, which verbs were accepted,
 * whether the library dismisses it, and who used its disk. It changes with these: keep the latest,
 * from the job's start on (BJ_RECORD_MEMO) until QEMU has let go of it: BJ_RECORD_RELEASED, and it
 * has no memo any more. A job whose connection has ended, or was closed, keeps its memo.
 *
 * Written to `buffer`, with a NUL: the text is the caller's, so no other thread can take it away.
 * Returns its length without the NUL. If that is `size` or more, "" was written, as half a memo is
 * none; BJ_MEMO_SIZE is enough for all. 0: there is nothing to remember, as QEMU has let go of the
 * job; or its id alone is longer than a memo. Where only the description of the disk's users does
 * not fit it is left out: if the job ends while the program is away, less can be told of how. Any
 * thread. BJ_E_INVAL, BJ_E_FORKED. */
#define BJ_MEMO_SIZE 8192
int bj_job_memo(bj_job *job, char *buffer, size_t size);

/* BJ_OK, or BJ_E_INVAL for a text that is not a memo, or not any more; then *ret_why says why, in a
 * static sentence that begins with "it". ret_why may be NULL. */
int bj_memo_check(const char *memo, const char **ret_why);

/* Moments of a job. The *_EVENT moments are QEMU's own, taken from its events; the others are this
 * process's, on the same clock. */
typedef enum bj_moment {
    BJ_MOMENT_START_SENT = 0,
    BJ_MOMENT_READY_EVENT,
    BJ_MOMENT_READY_SEEN,
    BJ_MOMENT_COMPLETE_SENT,
    BJ_MOMENT_COMPLETE_ACCEPTED,
    BJ_MOMENT_END_EVENT,
    BJ_MOMENT_END_SEEN
} bj_moment;

/* When that was; microseconds since 1970, 0 if it has not been. BJ_E_INVAL: no such moment. */
int64_t bj_job_time(bj_job *job, bj_moment moment);

/* Waits. Each is level-triggered: what has already happened is answered at once (B04). Any number
 * of waits on the same thing (B05). In all of them a connection that ends is BJ_E_JOB_LOST, and a
 * job that fails is BJ_E_JOB_FAILED with QEMU's text, except as said. */

/* Done when the job is ready: source and target are equal and stay so. A job that is PIVOTED was
 * ready, even if that was never reported. Errors: BJ_E_JOB_ENDED when it ended otherwise and was
 * not seen ready (B09; so it is with an intermediate commit, which only its end
 * tells from an active one); BJ_E_STATE at once for a kind that never is (stream, backup, ...);
 * BJ_E_STALLED when an I/O error has stopped it (B13). */
bj_future *bj_job_ready(bj_job *job, int64_t timeout_ms);

typedef enum bj_done_flags {
    BJ_DONE_OVER = 0,    /* the outcome is known */
    BJ_DONE_RELEASED = 1 /* and QEMU has let go of the job's nodes, so that the next command on them
                            does not meet "node is busy" (B22) */
} bj_done_flags;

/* Done when the job is over; BJ_OK for every outcome but FAILED and LOST. An I/O error that stopped
 * the job is BJ_E_STALLED here too: nothing will happen until someone resumes or aborts it. A
 * connection that ends leaves BJ_DONE_RELEASED with BJ_E_JOB_LOST even where the outcome is known:
 * bj_job_outcome() tells it.
 *
 * A job that the library does not dismiss ("auto-dismiss": false, by the caller or another client)
 * stays concluded when it is over. A mirror or an active commit has released its nodes then; other
 * kinds may hold them until they are dismissed: BJ_DONE_RELEASED is BJ_E_STALLED if nobody
 * dismisses the job within BJ_LIMIT_STALL_MS. */
bj_future *bj_job_done(bj_job *job, int flags, int64_t timeout_ms);

typedef enum bj_pivot_flags {
    BJ_PIVOT_WAIT_READY = 0,    /* wait for ready, then switch */
    BJ_PIVOT_ONLY_IF_READY = 1, /* BJ_E_NOT_READY if it is not ready now; nothing is sent */
    BJ_PIVOT_ASYNC = 2,   /* done when QEMU has accepted; the end follows: bj_job_done(), a watch */
    BJ_PIVOT_RELEASED = 4 /* done when QEMU has let go of the job's nodes, too; not with ASYNC */
} bj_pivot_flags;

/* Switches the disk to the copy (mirror) or the base (active commit) and is done when that is over.
 * BJ_OK means PIVOTED and nothing else. Complete is sent once, never before ready, however many
 * callers there are (B31, B32). If every caller's deadline passes before complete was sent, none is
 * sent. Errors: BJ_E_STALLED (paused, stopped by an error, or pending for bj_job_finalize()),
 * BJ_E_STATE (a kind that has no pivot, or an abort is under way), BJ_E_REFUSED, BJ_E_JOB_ENDED (it
 * was cancelled, by anyone). QEMU also refuses while another client's abort is under way, which
 * nothing else shows; so BJ_E_REFUSED is answered only if the job is still there after
 * BJ_LIMIT_STALL_MS.
 *
 * With ASYNC the wait, and its deadline, is one for ready and for QEMU's consent. After BJ_OK the
 * switch is under way whoever still listens: nothing withdraws it, and how it ends is
 * bj_job_done()'s answer, which can be any outcome. A refusal is told as without ASYNC, and a job
 * that ends before QEMU has answered is answered by its outcome.
 *
 * With RELEASED, BJ_OK means that the next command on the disk does not meet "node is busy". Errors
 * of a job that is over come when its nodes are released, too, as bj_job_done() with
 * BJ_DONE_RELEASED has them: among them BJ_E_STALLED for nodes that are kept until somebody
 * dismisses the job, and BJ_E_JOB_LOST for a connection that ends before, whatever the outcome. */
bj_future *bj_job_pivot(bj_job *job, int flags, int64_t timeout_ms);

typedef enum bj_finish_flags {
    BJ_FINISH_OVER = 0,    /* done when it is over */
    BJ_FINISH_RELEASED = 1 /* and QEMU has let go of the job's nodes: as BJ_PIVOT_RELEASED */
} bj_finish_flags;

/* Has the job end as it is meant to, whatever its kind: one that becomes ready (a mirror, a commit
 * of the active layer) is pivoted then, and of any other (an intermediate commit, a stream, a
 * backup) the end is waited for. It need not be known before which it is.
 *
 * BJ_OK means PIVOTED, or COMPLETED of a job that switches no disk. The pivot is that of
 * bj_job_pivot(), shared with its callers, and so are the errors. Two things differ: a kind that
 * has no pivot is no error, and a COMPLETED of which it is unknown whether it has switched the disk
 * is BJ_E_JOB_ENDED with a text that says so. A job of any kind that is paused, or is pending for
 * bj_job_finalize(), is BJ_E_STALLED: it does not finish by itself. */
bj_future *bj_job_finish(bj_job *job, int flags, int64_t timeout_ms);

typedef enum bj_abort_flags {
    BJ_ABORT_SOFT = 0,    /* a ready mirror ends as COPIED; anything else as CANCELLED */
    BJ_ABORT_FORCE = 1,   /* CANCELLED, also when stalled; the target is worthless */
    BJ_ABORT_ASYNC = 2,   /* done when QEMU has accepted; the end follows: bj_job_done(), a watch */
    BJ_ABORT_RELEASED = 4 /* done when QEMU has let go of the job's nodes, too; not with ASYNC */
} bj_abort_flags;

/* Aborts the job and is done when it is over; the outcome says how it really ended: it may have
 * completed, pivoted or failed first (B17), all of which is BJ_OK here. Aborting what is over
 * yields its outcome (B35). Accepting takes QEMU milliseconds, ending can take as long as a hanging
 * flush: set a deadline. Errors: BJ_E_STALLED (soft abort of a paused or stopped job: QEMU refuses
 * that), BJ_E_REFUSED, BJ_E_STATE (soft and ASYNC while a pivot is under way). With RELEASED also
 * those of bj_job_done() with BJ_DONE_RELEASED: BJ_E_STALLED for nodes that are kept until somebody
 * dismisses the job, and BJ_E_JOB_LOST for a connection that ends before they are released. */
bj_future *bj_job_abort(bj_job *job, int flags, int64_t timeout_ms);

/* A soft abort that becomes a forced one when the job is not over after `force_after_ms` (B36),
 * which must be more than 0. */
bj_future *bj_job_abort_escalate(bj_job *job, int64_t force_after_ms, int64_t timeout_ms);

/* Done when QEMU has accepted. BJ_E_STATE if the job is over; dismissing what is gone is BJ_OK.
 *
 * pause, resume   resume also continues a job that an I/O error stopped
 * set_speed       bytes a second, 0 is no limit
 * finalize        a job with "auto-finalize": false that is "pending"; done when it is over
 * dismiss         a concluded job of "auto-dismiss": false that the library does not own
 * change          `options` is a JSON object in QEMU's words: {"copy-mode": "write-blocking"} makes
 * a mirror converge that else would not (B30; QEMU 8.2) */
bj_future *bj_job_pause(bj_job *job, int64_t timeout_ms);
bj_future *bj_job_resume(bj_job *job, int64_t timeout_ms);
bj_future *bj_job_set_speed(bj_job *job, int64_t bytes_per_second, int64_t timeout_ms);
bj_future *bj_job_finalize(bj_job *job, int64_t timeout_ms);
bj_future *bj_job_dismiss(bj_job *job, int64_t timeout_ms);
bj_future *bj_job_change(bj_job *job, const char *options, int64_t timeout_ms);

/* Asks QEMU how far the job is. Answer: bj_future_info(future, 0). BJ_E_NO_JOB once it is gone. */
bj_future *bj_job_query(bj_job *job, int64_t timeout_ms);

/* ------------------------------------------------------------------- groups */

/* Several jobs that are awaited, pivoted or given up together (B08), of one monitor or of many. A
 * wait is on the jobs that are in the group when it is asked. bj_future_job() is the job that
 * decided the answer; the others have their outcomes themselves. A deadline or bj_future_cancel()
 * ends the wait and nothing else, as ever. */
int bj_group_new(bj_ctx *ctx, bj_group **ret_group);
bj_group *bj_group_ref(bj_group *group);
/* Letting go of a group does nothing to its jobs. */
bj_group *bj_group_unref(bj_group *group);

/* A job that is in it already is not added twice. BJ_E_INVAL: a job of another context. */
int bj_group_add(bj_group *group, bj_job *job);

/* Done when all are ready, or with the error of the first that will not be (see bj_job_ready()). */
bj_future *bj_group_ready(bj_group *group, int64_t timeout_ms);

/* Done when all are over; then the error is that of the first that failed or was lost, if any.
 * BJ_E_STALLED at once when an I/O error has stopped one: not all will be over. */
bj_future *bj_group_done(bj_group *group, int flags, int64_t timeout_ms);

/* Done when any one is over: bj_future_job(), with its outcome and error (see bj_job_done()). */
bj_future *bj_group_any(bj_group *group, int flags, int64_t timeout_ms);

/* Pivots all or none: nothing is completed before all are ready. When one ends, fails or stalls
 * before that, all others are aborted (softly; by force where they stand still), so that no disk is
 * switched, and the answer, once they are over, is that one's error. From then on each goes its own
 * way: one that fails in its pivot does not bring back the others; the answer, when all are over,
 * is its error. Their nodes may be busy then: bj_group_done() with BJ_DONE_RELEASED waits for them,
 * whatever the answer was. BJ_E_STATE, and nothing is aborted, if one is of a kind that has no
 * pivot. The one that stalled, a pause included, is left to whoever mends it; one that is PIVOTED
 * already is as it should be. */
bj_future *bj_group_pivot(bj_group *group, int64_t timeout_ms);

/* Aborts all; done when all are over (ASYNC: when QEMU has accepted all; RELEASED: when it has let
 * go of all their nodes), with the first error if there was one. */
bj_future *bj_group_abort(bj_group *group, int flags, int64_t timeout_ms);

/* ------------------------------------------------------------------ watches */

typedef enum bj_record_kind {
    BJ_RECORD_FUTURE = 0, /* queues only: the future of `token` is done: error, outcome, name (error
                             class), text (sentence, or the JSON of bj_monitor_execute()) */
    BJ_RECORD_EVENT, /* monitors: any event of QEMU: name, text (its data, JSON), timestamp_us */
    BJ_RECORD_DISCONNECTED, /* monitors that reconnect: the connection has ended; text says why */
    BJ_RECORD_RECONNECTED,  /* the same: it is there again, and so is what is known of the jobs */
    BJ_RECORD_STATUS,       /* jobs: QEMU's own status: name ("running", "paused", ...) */
    BJ_RECORD_READY,        /* jobs: ready, once */
    BJ_RECORD_STALLED,  /* jobs: stands still, or makes no progress for BJ_LIMIT_CONVERGE_MS, which
                           disturbs no wait: text names the cause and the remedy. Another one may
                           follow, when more is known */
    BJ_RECORD_RESUMED,  /* jobs: goes on after a stall */
    BJ_RECORD_PROGRESS, /* jobs: current, total, as in bj_job_info */
    BJ_RECORD_ENDED,    /* jobs: outcome, text, error as bj_job_done() would have it; the last but
                           CLOSED */
    BJ_RECORD_LAGGED,   /* `lost` records were dropped here because nobody read */
    BJ_RECORD_CLOSED,   /* the last of every watch: error and text say why; BJ_OK: the job ended */
    BJ_RECORD_APPEARED, /* all jobs: name is the job's type, "" if QEMU does not tell; `started`;
                           of a remembered one text is the memo; `resumed` */
    BJ_RECORD_RELEASED, /* all jobs: QEMU has let go of the job, whose id may be used again */
    BJ_RECORD_SENT,     /* traces: a line to QEMU: text; name is the monitor's */
    BJ_RECORD_RECEIVED, /* traces: a line from QEMU */
    BJ_RECORD_MEMO      /* all jobs, if asked for: text is the job's memo (bj_job_memo()), which has
                           changed */
} bj_record_kind;

typedef struct bj_record {
    uint64_t token; /* of bj_future_deliver() or bj_watch_deliver(); else 0 */
    bj_record_kind kind;
    int error; /* bj_error */
    bj_outcome outcome;
    uint64_t lost;
    int64_t current;
    int64_t total;
    int64_t timestamp_us; /* QEMU's, microseconds since 1970; 0 if it gave none */
    const char *name;     /* never NULL */
    const char *text;     /* never NULL */

    bj_job *job;        /* bj_monitor_watch_jobs(): whose it is; valid as the strings are, so take
                           a reference to keep it. Else NULL */
    uint64_t sequence;  /* watches: 1 for a watch's first record, and one more for each, those
                           that were lost included; 0 for LAGGED */
    uint64_t lost_ends; /* LAGGED: how many ENDED are among the lost */
    bool started;       /* APPEARED: this library started the job */
    bool resumed;       /* APPEARED: a remembered job that goes on */
    bool inferred;      /* APPEARED of such a job, ENDED: no event proves it, but all that is known
                           speaks for it */
    int cause;          /* FUTURE, ENDED: as bj_future_cause(), bj_job_cause() */
} bj_record;

typedef struct bj_watch_closure {
    void (*fn)(bj_watch *watch, const bj_record *record, void *user);
    void *user;
    void (*free)(void *user);
} bj_watch_closure;

/* Every observer sees every record, in order, once, whoever gave the verb (B60). A slow reader
 * loses the oldest records of its ring, is told how many (BJ_RECORD_LAGGED), and hurts nobody else
 * (B61); READY, the latest STALLED, ENDED and CLOSED are never lost. The ring is bounded in records
 * and, by BJ_LIMIT_MESSAGE_BYTES, in bytes. Records are read in one way: by a callback, by a queue
 * or by bj_watch_next(); choosing a second is BJ_E_STATE.
 *
 * A job's watch begins with what is true already (READY, STALLED, ENDED). With progress_ms > 0 it
 * carries PROGRESS when that changed, at most every progress_ms: QEMU sends no event for progress,
 * so it is asked, for all watches of the monitor together and only while one is open (B63). With 0
 * it is asked every BJ_LIMIT_CONVERGE_MS, to notice that a job makes no progress, which is STALLED:
 *
 *   - nothing is copied, and neither the job's speed limit nor anything else explains it: its
 *     source or its target does not answer
 *   - I/O errors are ignored ("on-target-error": "ignore"); they are counted since it last moved
 *   - its speed limit lets nothing through
 *   - it copies, and the guest writes as fast: what is left does not shrink
 *   - it was stopped because no space is left, or is paused, as far as no event has said so
 *   - its work is done, and it is pending for bj_job_finalize(), or for its transaction
 *   - it was told to complete or to abort and is not over; or QEMU itself does not answer
 *
 * RESUMED follows when it goes on. No wait is answered by any of that; one whose deadline passes
 * has the latest of it in its text. A job that copies nothing (create, ...), and a backup of a
 * libvirt domain, are not judged by how far they are. */
int bj_job_watch(bj_job *job, int64_t progress_ms, bj_watch **ret_watch);

/* All events of this QEMU from now on; what is sent after this call is seen. A watch of a monitor
 * whose connection is just being made again begins with DISCONNECTED. */
int bj_monitor_watch(bj_monitor *monitor, bj_watch **ret_watch);

/* The same of the `count` events that are named ("SHUTDOWN", "DEVICE_DELETED"; as QEMU spells
 * them). All others are dropped before they are copied: they take no room in the watch, so that
 * however many there are, none of the named is lost by them. What becomes of the connection is
 * reported as to any watch. A name that this QEMU does not have is never seen; one that is given
 * twice is reported once. With `count` 0 it is bj_monitor_watch(). The names are copied.
 * BJ_E_INVAL: a NULL or an empty name, or more than 1,024. */
int bj_monitor_watch_events(bj_monitor *monitor, const char *const *names, size_t count,
                            bj_watch **ret_watch);

/* How to watch all jobs. */
typedef struct bj_watch_jobs_options {
    size_t size;                   /* sizeof(bj_watch_jobs_options), as the program knows it */
    int64_t progress_ms;           /* how often progress is asked for; 0: never */
    const char *const *remembered; /* memos of an earlier life of the program; copied */
    size_t remembered_count;
    bool memos; /* BJ_RECORD_MEMO, when a job appears and when its memo changes */
} bj_watch_jobs_options;

/* All jobs of this QEMU, whoever started them: those that it has already, then those to come. Of
 * each run of a job the watch has APPEARED, first; READY, STALLED and RESUMED, as a watch of the
 * job has them; ENDED, with its outcome, however short it was; and RELEASED, last, when QEMU has
 * let go of the job or the connection has ended for good. record->job is the job: it can be acted
 * upon, and bj_job_time() has QEMU's times. PROGRESS is asked for, of all jobs together, every
 * `progress_ms` while the watch is open, and reported of the jobs where it has changed.
 *
 * READY and ENDED are kept for a reader that does not read, of up to BJ_LIMIT_JOBS runs (two
 * records a run) and BJ_LIMIT_MESSAGE_BYTES of text; of the other kinds the ring is kept. What was
 * lost is counted, the ENDED among it separately. So are jobs that appear while QEMU has more than
 * BJ_LIMIT_JOBS: those are not followed.
 *
 * Where the monitor connects again the watch has DISCONNECTED, what became of each job, those that
 * began meanwhile, and RECONNECTED. CLOSED comes when the monitor is over.
 *
 * A program that was away gives the memos that it kept of its jobs (bj_job_memo()), and the watch
 * reports what became of each, before any job that the monitor does not follow yet: APPEARED, whose
 * text is the memo, and then what is true of the run now.
 *
 *   It goes on       `resumed`. It is as if the program had not been away: a job that the library
 *                    started is dismissed by it, and it is known which verbs QEMU had accepted.
 *   It has ended     ENDED. QEMU may still list it ("concluded"): then that says how, and of a
 *                    mirror or an active commit the block graph; it is dismissed if it is ours. A
 *                    job that QEMU lists no more is PIVOTED if the graph shows that its disk was
 *                    switched, and CANCELLED if it was aborting after our cancel. It is LOST else:
 *                    nothing is called a success that is not proved.
 *   It is LOST       QEMU has ended or the host was booted; or the id is another run's by now: a
 *                    job of its own. That it is if its type differs, if it has done less, if its
 *                    size can't be that run's, or if it is not ready any more, or back at work.
 *
 * QEMU counts as the same if the process that called listen() on its socket is (by its number and
 * when it began: SO_PEERCRED), its version is, and the socket was not made anew. So where another
 * process makes the socket, outlives QEMU and passes the same socket to the next QEMU, the two
 * can't be told apart. Where the process is unknown (TCP, "fd:", another pid namespace, libvirt) a
 * job goes on only if its type, its size and its progress are known and fit, or if the library made
 * up its id; one that is gone is LOST. `inferred` says that no event, and no identity, proves it.
 *
 * Of several memos of a run the latest counts. A memo of a run that the monitor follows already
 * means that run; one of which nothing was reported when CLOSED came is as good as before, and so
 * it is with those beyond BJ_LIMIT_JOBS, which are counted as lost. BJ_E_INVAL if one is no memo:
 * bj_memo_check() says which, and why; then nothing was done.
 *
 * QEMU reports a new job from 3.0 on. One before that, and libvirt, are asked for their list every
 * BJ_LIMIT_POLL_MS while such a watch is open: a job that begins and ends in between appears with
 * its end, if that is reported. `options` may be NULL. BJ_E_INVAL, BJ_E_NOMEM, BJ_E_FORKED. */
int bj_monitor_watch_jobs(bj_monitor *monitor, const bj_watch_jobs_options *options,
                          bj_watch **ret_watch);

bj_watch *bj_watch_ref(bj_watch *watch);
/* The last reference closes the watch, unless a callback reads it or a queue that someone holds. */
bj_watch *bj_watch_unref(bj_watch *watch);

/* Calls closure.fn on the loop's thread for each record, the record being valid during the call;
 * closure.free after BJ_RECORD_CLOSED. */
int bj_watch_on_record(bj_watch *watch, bj_watch_closure closure);

/* The records go to the queue, with `token`. */
int bj_watch_deliver(bj_watch *watch, bj_queue *queue, uint64_t token);

/* Blocks for the next record; *ret_record is valid until the next call or the last unref. One
 * thread at a time. BJ_E_TIMEOUT if none came; BJ_E_CLOSED after BJ_RECORD_CLOSED. */
int bj_watch_next(bj_watch *watch, int64_t timeout_ms, const bj_record **ret_record);

/* Ends the stream with BJ_RECORD_CLOSED (BJ_E_CLOSED); what was not read before it is dropped. */
void bj_watch_close(bj_watch *watch);

/* ------------------------------------------------------------------- queues */

/* Where futures and watches report to an event loop that is not ours. The fd is readable while
 * there are records. One reader a queue. BJ_E_NOMEM, BJ_E_SYSTEM: no descriptor is free. */
int bj_queue_new(bj_ctx *ctx, bj_queue **ret_queue);
bj_queue *bj_queue_ref(bj_queue *queue);
/* The last reference drops what is in it. The futures and watches that someone holds live on; the
 * others are cancelled and closed, as nobody can receive their answers any more. */
bj_queue *bj_queue_unref(bj_queue *queue);

/* Belongs to the queue: select, poll or epoll it for reading; never read or close it. */
int bj_queue_fd(bj_queue *queue);

/* Takes up to `max` records out; returns how many, 0 if there are none, or a negative bj_error.
 * `record_size` is sizeof(bj_record) as the caller knows it: a library with longer records leaves
 * out what is at their end, one with shorter records writes zeros there. The records' strings are
 * valid until the next bj_queue_read() or the last unref. Never blocks. `max` must be more than 0.
 */
int bj_queue_read(bj_queue *queue, bj_record *records, size_t record_size, int max);

#ifdef __cplusplus
}
#endif

#endif
