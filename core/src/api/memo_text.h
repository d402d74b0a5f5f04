/* SPDX-License-Identifier: MIT */
/*
 * Memos as text: what a program keeps of a job for its next life. Any thread.
 */
#ifndef BJ_API_MEMO_TEXT_H
#define BJ_API_MEMO_TEXT_H

#include "model/memory.h"

#include <blockjob/blockjob.h>
#include <jansson.h>

/* All strings are the caller's, or lie in `root`. */
struct memo {
    const char *id, *type; /* the type: "" if not known */
    int64_t since_us;      /* when the run became known */
    uint64_t number;       /* tells runs of one id apart */
    int64_t changed_us;    /* when it was so; more in each memo of the run */
    unsigned facts;        /* enum memory_fact */
    int64_t current, total;
    struct identity peer;
    int64_t start_us;              /* when its start was sent; 0: not by us */
    const char *device, *run_data; /* what the driver wants to know of the run; NULL: nothing */
    json_t *graph;                 /* the driver's snapshot; NULL: none */
    json_t *root;                  /* of memo_read() */
};

/* The length; 0: it has none, as it is too long, or for lack of memory. What may be missing is left
 * out where it does not fit: the graph first. */
size_t memo_write(const struct memo *memo, char text[BJ_MEMO_SIZE]);

/* BJ_OK; then memo_clear(). BJ_E_INVAL, BJ_E_NOMEM: *ret_why says why, and is static. */
int memo_read(const char *text, struct memo *ret, const char **ret_why);
void memo_clear(struct memo *memo);

#endif
