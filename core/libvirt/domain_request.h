/* SPDX-License-Identifier: MIT */
/*
 * A request to libvirt: a call on the domain's lane, or none, and its answer. The loop's
 * thread; what a call fills in is the pool's while it is under way.
 */
#ifndef BJ_DOMAIN_REQUEST_H
#define BJ_DOMAIN_REQUEST_H

#include "domain.h"
#include "driver/job_list.h"

struct request_kind {
    bool is_pivot;
    /* A thread of the pool; whether it went well. NULL: there is nothing to call. */
    bool (*call)(struct request *request);
    /* The same thread, after a call that was refused: what that means. NULL: nothing more. */
    enum verdict (*judge)(const struct request *request);
    /* The loop's thread, after a call that went well, if someone still asks: fills the reply.
     * False: it is not over yet. NULL: nothing to fill. */
    bool (*over)(struct request *request, struct driver_reply *reply);
};

struct request {
    struct call call; /* first */
    struct loop_task later;
    struct request *prev, *next;
    const struct request_kind *kind;
    struct domain *domain;        /* a reference */
    struct driver_request *asker; /* NULL once it is answered */
    char *disk;                   /* NULL: none */
    struct start *start;          /* of a job */
    int64_t speed;
    int error; /* where there is nothing to call */
    struct text *text;

    bool went_well;
    bool is_gone; /* the domain does not run any more */
    bool is_lost; /* nor is there a connection */
    enum verdict refusal;
    struct call_error call_error;
    char error_class[16];
    struct disks disks;
    struct job_list *list;
    uint64_t change_count; /* facts_change_count() when the list or the pivot was asked for */
    unsigned lists;        /* how often it was made */
    bool is_urgent;        /* a list that a machine wants */
    bool held;             /* a list that waits for an end; no call is under way */
    uint64_t fence;        /* held: the number of the fence behind which no end can be */
    atomic_bool is_moot;   /* a verb: the run that it is for has ended */
    char *mirror;          /* a verb: where that run leads to; NULL: not known */
};

/* The class of the errors that refuse a verb because there is no job on the disk: the number of
 * VIR_ERR_INVALID_ARG. */
#define NO_SUCH_JOB_CLASS "8"
/* Of those that refuse everything on a read-only connection: that of VIR_ERR_OPERATION_DENIED. */
#define DENIED_CLASS "29"

/* NULL: no memory. */
struct request *request_new(struct driver *driver, const struct request_kind *kind,
                            struct driver_request *asker, const char *disk);

/* Takes the request over, which may be NULL for a lack of memory. BJ_OK, BJ_E_BUSY, BJ_E_NOMEM. */
int request_launch(struct request *request);

/* An answer that needs no call; takes over the reference to `text`. */
int request_answer_later(struct driver *driver, struct driver_request *asker, int error,
                         struct text *text);
/* The same, for what the connection takes not at all; the driver's capabilities say why. */
int request_deny(struct driver *driver, struct driver_request *asker);

/* Makes its call, also once more. False: no thread, or no memory. */
bool request_submit(struct request *request);

/* After its call, or for one that is held. True: it is over, answered and gone. False: it is held,
 * or its call is made again. */
bool request_finish(struct request *request);

/* One that was not launched. */
void request_free(struct request *request);

/* The run on the disk has ended: the verbs for it are not called any more. */
void request_verbs_are_moot(struct domain *domain, const char *disk);

void request_answer_all(struct domain *domain, int error, const char *text);

/* A thread of the pool. */
virDomainPtr request_handle(const struct request *request);

/* driver_ops.abandon, .withdraw */
void domain_abandon(struct driver *driver, int error, const char *text);
bool domain_withdraw(struct driver *driver, struct driver_request *asker);

#endif
