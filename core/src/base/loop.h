/* SPDX-License-Identifier: MIT */
/*
 * The event loop of a context: an epoll set of its own for sockets, an eventfd in it for what other
 * threads post, and timers. A thread of its own runs it, or another loop, the program's, does so
 * (base/host.h). All functions belong to the loop's thread, except the ones that say otherwise.
 *
 * The one rule for what calls what: while anything of a loop is on a stack, nothing else of that
 * loop runs. An ev_run() inside a callback serves the program's own watchers only. What is freed
 * meanwhile stays until the outermost frame returns.
 */
#ifndef BJ_BASE_LOOP_H
#define BJ_BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct loop;

/* Without descriptors or memory, BJ_E_SYSTEM or BJ_E_NOMEM. It runs once loop_start() was called.
 */
int loop_new(struct loop **ret_loop);
int loop_start(struct loop *loop); /* any thread, once; BJ_E_SYSTEM */
/* Before loop_start(): for a thread that runs the code of others. */
void loop_set_stack(struct loop *loop, size_t bytes);
void loop_free(struct loop *loop); /* stopped, or never started */

/* In a task, or between loop_enter() and loop_leave(): it stops as soon as there is nothing left to
 * run. After that loop_post() refuses. */
void loop_stop(struct loop *loop);
void loop_join(struct loop *loop); /* another thread than the loop's */
/* Instead of joining: the thread calls `gone` as its last act. */
void loop_detach(struct loop *loop);
void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user);

/* Any thread: whether this is the loop's thread. Of a program's loop: the one that runs it now, as
 * far as can be known: that which ran it last, or made the context. */
bool loop_is_current(const struct loop *loop);
bool loop_is_theirs(const struct loop *loop); /* any thread */

/* For calls from outside on a program's loop: what lies between is a frame of the loop's.
 * BJ_E_STATE while another thread runs it. */
int loop_enter(struct loop *loop);
void loop_leave(struct loop *loop);

/* Work for the loop's thread, in the order it was posted; lies in the poster's own memory, so that
 * posting can't fail for lack of it. False once the loop has stopped: it will not run. */
struct loop_task {
    struct loop_task *next;
    void (*run)(struct loop_task *task);
};
bool loop_post(struct loop *loop, struct loop_task *task); /* any thread */

/* Not in a task. Runs now what has been posted by now: for who has just taken from the world what
 * must not overtake it. False: a callback has forked, and this is the child, which must not touch
 * what it shares with its parent. */
bool loop_run_posted(struct loop *loop);

/* Runs it when the task, the socket's handler or the timer's that is running now has returned: what
 * a read causes many times needs to be done once. False: none is running on this thread. The task
 * may not be given twice before it ran. */
bool loop_after_step(struct loop *loop, struct loop_task *task);

/* As long as it is held, a loop of theirs that has nothing else to wait for goes on: for what other
 * threads will post. */
void loop_hold(struct loop *loop);
void loop_unhold(struct loop *loop);

/* A socket. `ready` is called while it is readable, or writable if asked for; never both 0. */
enum { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_io;
/* Any thread. BJ_E_NOMEM; BJ_E_SYSTEM with the reason in errno. */
int loop_io_new(struct loop *loop, int fd, int events, void (*ready)(void *user, int events),
                void *user, struct loop_io **ret_io);
void loop_io_want(struct loop_io *io, int events);
void loop_io_free(struct loop_io *io); /* before the fd is closed; takes NULL */

/* A timer on the monotonic clock; calls once after loop_timer_set(). Any thread may make one; NULL:
 * no memory. */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user);
void loop_timer_set(struct loop_timer *timer, int64_t ms); /* from now; again moves it */
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* takes NULL */

/* Any thread. Nano- and milliseconds of the monotonic clock, microseconds since 1970. */
int64_t clock_monotonic_ns(void);
int64_t clock_monotonic_ms(void);
int64_t clock_realtime_us(void);

/* Any thread. The moment `ms` after `when`; the last one that time_t can hold if that is later.
 * `ms` is not negative. */
struct timespec clock_add_ms(struct timespec when, int64_t ms);
/* Any thread. The same after now, for pthread_cond_timedwait() by the monotonic clock. */
struct timespec clock_deadline(int64_t ms);

#endif
