/* SPDX-License-Identifier: MIT */
/*
 * Callbacks that count. They run on the loop's thread, where a test can't fail: they only take
 * notes, and the test's thread judges.
 */
#include "tally.h"

#include "cmocka_all.h"

#include <errno.h>
#include <time.h>

#define PATIENCE_S 120

static void note_call(tally *t, int error, bool done)
{
    pthread_mutex_lock(&t->mutex);
    t->calls++;
    t->error = error;
    t->thread = pthread_self();
    t->free_came_last = t->free_came_last && t->calls > t->frees;
    t->was_done = t->was_done && done;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
}

static void on_future(bj_future *future, void *user)
{
    tally *t = user;
    if (t->then)
        t->then(future, t->user);
    note_call(t, bj_future_error(future), bj_future_is_done(future));
}

static void on_record(bj_watch *watch, const bj_record *record, void *user)
{
    (void)watch;
    note_call(user, record->error, true);
}

static void on_free(void *user)
{
    tally *t = user;
    pthread_mutex_lock(&t->mutex);
    t->frees++;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
}

bj_closure tally_closure(tally *t)
{
    return (bj_closure){.fn = on_future, .user = t, .free = on_free};
}

bj_watch_closure tally_watch_closure(tally *t)
{
    return (bj_watch_closure){.fn = on_record, .user = t, .free = on_free};
}

void tally_await(tally *t, int calls, int frees)
{
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += PATIENCE_S;

    pthread_mutex_lock(&t->mutex);
    int waited = 0;
    while ((t->calls < calls || t->frees < frees) && waited == 0)
        waited = pthread_cond_timedwait(&t->changed, &t->mutex, &deadline);
    tally now = *t;
    pthread_mutex_unlock(&t->mutex);

    assert_int_equal(waited, 0);
    assert_int_equal(now.calls, calls);
    assert_int_equal(now.frees, frees);
    assert_true(now.free_came_last);
    assert_true(now.was_done);
    if (calls > 0)
        assert_false(pthread_equal(now.thread, pthread_self()));
}
