/* SPDX-License-Identifier: MIT */
/*
 * Counts what a callback does: how often it and its free ran, where, and in which order.
 */
#ifndef TESTS_TALLY_H
#define TESTS_TALLY_H

#include <blockjob/blockjob.h>

#include <pthread.h>
#include <stdbool.h>

typedef struct tally {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int calls;
    int frees;
    int error;           /* of the future or record that the last call was given */
    pthread_t thread;    /* that the last call ran on */
    bool free_came_last; /* no call after a free */
    bool was_done;       /* the future was done in every call */
    void (*then)(bj_future *future, void *user); /* what the callback does besides, or NULL */
    void *user;
} tally;

#define TALLY_INIT                                                                                 \
    {                                                                                              \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER,                   \
        .free_came_last = true, .was_done = true                                                   \
    }

/* Closures that count in `t`, which must outlive them. */
bj_closure tally_closure(tally *t);
bj_watch_closure tally_watch_closure(tally *t);

/* Waits until `frees` have run, and asserts that there were as many calls, in the right order, and
 * not on this thread. */
void tally_await(tally *t, int calls, int frees);

#endif
