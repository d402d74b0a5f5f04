/* SPDX-License-Identifier: MIT */
/*
 * The event loop of a context: libev behind a few words. loop.c is the only file that knows libev.
 * All functions belong to the loop's thread, except the ones that say otherwise.
 */
#ifndef BJ_BASE_LOOP_H
#define BJ_BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct ev_loop;
struct loop;

/* On `theirs`, or on a loop of our own that runs once loop_start() was called. */
int loop_new(struct loop **ret_loop, struct ev_loop *theirs);
int loop_start(struct loop *loop); /* any thread, once; BJ_E_SYSTEM */
/* Before loop_start(): for a thread that runs the code of others. */
void loop_set_stack(struct loop *loop, size_t bytes);
void loop_free(struct loop *loop); /* stopped, or never started, or theirs */

/* On our loop's thread, in a task: the thread ends as soon as there is nothing left to run. After
 * that loop_post() refuses. */
void loop_stop(struct loop *loop);
/* On a loop of theirs, which goes on: the same at once, running what there is to run. */
void loop_stop_theirs(struct loop *loop);
void loop_join(struct loop *loop); /* another thread than the loop's */
/* Instead of joining: the thread calls `gone` as its last act. */
void loop_detach(struct loop *loop);
void loop_on_gone(struct loop *loop, void (*gone)(void *user), void *user);

bool loop_is_current(const struct loop *loop); /* any thread */
bool loop_is_theirs(const struct loop *loop);  /* any thread */

/* Work for the loop's thread, in the order it was posted; lies in the poster's own memory, so that
 * posting can't fail for lack of it. False once the loop has stopped: it will not run. */
struct loop_task {
    struct loop_task *next;
    void (*run)(struct loop_task *task);
};
bool loop_post(struct loop *loop, struct loop_task *task); /* any thread */

/* Not in a task. Runs now what has been posted by now: for who has just taken from the world what
 * must not overtake it. */
void loop_run_posted(struct loop *loop);

/* As long as it is held, a loop of theirs that has nothing else to wait for goes on: for what other
 * threads will post. */
void loop_hold(struct loop *loop);
void loop_unhold(struct loop *loop);

/* A socket. `ready` is called while it is readable, or writable if asked for. */
enum { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_io;
struct loop_io *loop_io_new(struct loop *loop, int fd, void (*ready)(void *user, int events),
                            void *user); /* any thread; NULL: no memory */
void loop_io_want(struct loop_io *io, int events);
void loop_io_free(struct loop_io *io); /* takes NULL; does not close the fd */

/* A timer on the monotonic clock; calls once after loop_timer_set(). Any thread may make one; NULL:
 * no memory. */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, void (*expired)(void *user), void *user);
void loop_timer_set(struct loop_timer *timer, int64_t ms); /* from now; again moves it */
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* takes NULL */

/* Any thread. Milliseconds of the monotonic clock, microseconds since 1970. */
int64_t clock_monotonic_ms(void);
int64_t clock_realtime_us(void);

/* Any thread. The moment `ms` after `when`; the last one that time_t can hold if that is later.
 * `ms` is not negative. */
struct timespec clock_add_ms(struct timespec when, int64_t ms);
/* Any thread. The same after now, for pthread_cond_timedwait() by the monotonic clock. */
struct timespec clock_deadline(int64_t ms);

#endif
