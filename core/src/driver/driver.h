/* SPDX-License-Identifier: MIT */
/*
 * The seam between a monitor and what it speaks: verbs go down, facts come up. A driver lives on
 * the loop's thread and never blocks it.
 */
#ifndef BJ_DRIVER_DRIVER_H
#define BJ_DRIVER_DRIVER_H

#include "base/text.h"
#include "driver/capabilities.h"
#include "driver/start_plan.h"
#include "model/machine.h"

#include <blockjob/blockjob.h>

struct descriptors;
struct job_list;
struct wire_tap;
struct json_t;
struct driver_legacy;
struct driver_snapshot; /* what used a job's disk when it was taken; the driver's */

/* Text in it is only valid during the call. */
struct driver_reply {
    int error; /* BJ_OK, or why not */
    /* The connection ended before the reply. That is no news of what was asked, nor of a job: they
     * hear of that end itself. */
    bool is_lost;
    enum verdict refusal;    /* a verb that was refused: VERDICT_REFUSED, or more precisely */
    const char *error_class; /* BJ_E_REFUSED */
    const char *text;
    const char *json; /* execute: the value, not terminated */
    size_t json_len;
    void *message;                    /* the whole, for the driver itself */
    struct job_list *list;            /* query; whoever keeps it sets this to NULL */
    struct driver_snapshot *snapshot; /* take_snapshot; the same; NULL: it does not show the job */
    enum disk_switch switched;        /* compare_snapshot */
};

/* A request to the driver; lies in the asker's memory. `done` is called exactly once for what
 * was taken, also when the connection ends; never from inside the call that asked. */
struct driver_request {
    void (*done)(struct driver_request *request, struct driver_reply *reply);
    struct driver_request *next; /* the driver's own */
    void *prepared;              /* the same; NULL: nothing */
};

/* As many descriptors as QEMU receives with one message. */
#define DRIVER_DESCRIPTORS_MAX 16

/* A command as the program gives it. What it asks for beyond its name and arguments needs a driver
 * whose capabilities have it. */
struct driver_command {
    const char *name;
    const char *arguments;           /* a JSON object; NULL: none */
    struct descriptors *descriptors; /* BJ_OK: the driver has taken them over; NULL: none */
    bool out_of_band;
};

/* A verb, and what the driver may need to know of the run it is for. */
struct driver_verb {
    enum verb verb;
    const char *id;
    const char *type;      /* "" if not known */
    struct text *run_data; /* start_plan's; NULL: none */
    int64_t speed;         /* VERB_SET_SPEED */
    const char *options;   /* VERB_CHANGE: a JSON object */
};

/* A run that was cancelled and of whose end this QEMU reports nothing. */
struct driver_end {
    struct text *id;
    const char *type;
    int64_t current, total, speed; /* of its last row */
};

/* Before `up` none of these but close and stage may be called. All that return int answer BJ_OK, or
 * why nothing was asked: BJ_E_BUSY, BJ_E_NOMEM, BJ_E_UNSUPPORTED, BJ_E_DISCONNECTED. */
struct driver;
struct driver_ops {
    int (*execute)(struct driver *driver, struct driver_request *request,
                   const struct driver_command *command);
    /* The command that starts the runs of `actions`, a JSON array as QEMU's transaction takes it,
     * all or none; `grouped`: they also end so. NULL: there is none. */
    int (*transaction)(struct driver *driver, struct driver_request *request, const char *actions,
                       bool grouped);
    int (*verb)(struct driver *driver, struct driver_request *request,
                const struct driver_verb *verb);
    /* Makes complete ready to be sent, so that READY has to wait for nothing. No memory: then it is
     * made when it is sent. Given back by verb() or unprepare(), which also outlives the driver. */
    void (*prepare)(struct driver *driver, struct driver_request *request, const char *id);
    void (*unprepare)(struct driver_request *request);
    /* `urgent`: for a machine, which needs it to tell an end; goes first and is never BJ_E_BUSY. */
    int (*query)(struct driver *driver, struct driver_request *request, bool urgent);
    /* Records what uses the job's disk; later, whether the disk was switched since. `device` is
     * what the job was started on, NULL if that is not known. BJ_E_UNSUPPORTED: there is no way to
     * know. `urgent`: someone waits for it; else it may yield to all other requests. `before` is
     * NULL if no snapshot was taken. */
    int (*take_snapshot)(struct driver *driver, struct driver_request *request, const char *id,
                         const char *device, bool urgent);
    int (*compare_snapshot)(struct driver *driver, struct driver_request *request, const char *id,
                            const struct driver_snapshot *before);
    void (*free_snapshot)(struct driver_snapshot *snapshot); /* takes NULL */
    /* Any thread: a reference, which free_snapshot() gives back; takes NULL. */
    struct driver_snapshot *(*hold_snapshot)(struct driver_snapshot *snapshot);
    /* Any thread: a snapshot as JSON, and back; NULL: no memory, or it is none. */
    struct json_t *(*write_snapshot)(const struct driver_snapshot *snapshot);
    struct driver_snapshot *(*read_snapshot)(const struct json_t *json);

    /* Takes back a request that was not written yet: true, and `done` is not called. */
    bool (*withdraw)(struct driver *driver, struct driver_request *request);
    bool (*has_command)(struct driver *driver, const char *command);
    /* Someone wants events, before whatever is asked for from now on. NULL: they come anyway. */
    void (*listen)(struct driver *driver);

    /* Whether the command is a job's verb; *ret_id is malloc'ed. NULL: none is. */
    bool (*is_verb)(struct driver *driver, const char *command, const char *arguments,
                    enum verb *ret_verb, char **ret_id);

    /* `arguments` is what the caller gives; where takes() is -1, after a probe. BJ_OK; then
     * start_plan_clear(). BJ_E_NOMEM: nothing to clear. */
    int (*plan_start)(struct driver *driver, const char *command, const struct json_t *arguments,
                      struct start_plan *ret);
    /* Makes up the event of such an end for those who watch events. QEMU's own, should it come
     * after all, is then neither a fact nor an event. NULL: this driver has no such ends. */
    void (*make_up_end)(struct driver *driver, const struct driver_end *end);
    /* The id of the job that callers know by this name; NULL: that name. Belongs to the driver,
     * until its next call. */
    const char *(*id_of)(struct driver *driver, const char *name);

    /* Finds out what the commands that start jobs take: once a connection, and only where the list
     * of commands does not tell. An error of the reply is one of the connection. */
    int (*probe)(struct driver *driver, struct driver_request *request);
    /* enum driver_takes; -1: not known before a probe. */
    int (*takes)(struct driver *driver, const char *command);

    /* What the driver of an earlier connection has left, before anything is asked of this one:
     * whether both speak to the same peer. Takes it over; NULL: there was none. NULL: only `peer`
     * tells. */
    bool (*inherit)(struct driver *driver, struct driver_legacy *legacy);

    /* Answers all requests but dismissals with `error`; none comes after. What was not written yet
     * is not sent any more. For a monitor that lingers. */
    void (*abandon)(struct driver *driver, int error, const char *text);
    /* Whether a command is on its way to QEMU, or its reply to us; then settled() comes. NULL: that
     * is no reason to linger. */
    bool (*is_owed)(struct driver *driver);

    /* Why connecting takes so long: the sentence of a deadline. */
    struct text *(*stage)(struct driver *driver, int64_t timeout_ms);

    /* Answers all requests with `error` and goes; no upcall comes from it or after it. */
    void (*close)(struct driver *driver, int error, const char *text);
};

/* What a driver knows of its peer and of the jobs there that no later list shows. */
struct driver_legacy {
    void (*free)(struct driver_legacy *legacy);
};

/* See struct identity; "" for what is not known. */
struct driver_identity {
    char boot[40];
    char process[80];
    char socket[144];
};

struct driver {
    const struct driver_ops *ops;

    /* Valid from `up` on. */
    struct capabilities capabilities;
    struct driver_identity identity;
    bool is_gone;                 /* from before `down` on: what it spoke to is no more */
    bool may_return;              /* the same, but someone may start it again, as another peer */
    bool is_absent;               /* before `up`: what it sought is not there, but may come */
    struct driver_legacy *legacy; /* during `down`, and whoever keeps it sets this to NULL */
    int64_t peer; /* the process that listens, or what else tells it; 0: not known */
};

/* Who is sought. */
struct driver_peer {
    const char *uri;
    const char *label; /* what texts call it */
    /* What the driver of an earlier connection has left, only to look at; NULL: there was none. */
    const struct driver_legacy *before;
    bool out_of_band; /* the program wants to execute commands so, where that is offered */
};

/* ------------------------------------------------------------------ upcalls */

/* Where the facts go; `user` is the one given at opening. */
struct driver_sink {
    /* Where the lines go, of a driver that has a wire. Asked for at opening. */
    struct wire_tap *(*tap)(void *user);

    void (*up)(void *user, struct text *version); /* of QEMU; NULL: not known */
    /* Before it: what the driver before spoke to is no more, and this one is connected to where it
     * can be started again, and waits for that. Takes over the reference to `why`. */
    void (*waits)(void *user, struct text *why);
    void (*fact)(void *user, const struct fact *fact);

    /* The row of this job is not left out of a list, however long that is. */
    bool (*wants_row)(void *user, const char *id);

    /* Every event, if someone wants them. `data` is JSON, not terminated; NULL: none. */
    bool (*wants_events)(void *user);
    void (*event)(void *user, const char *name, const char *data, size_t data_len,
                  int64_t timestamp_us);

    /* Nothing is_owed() any more; the driver is still reading. */
    void (*settled)(void *user);

    /* The connection is over, all requests have been answered, the driver is about to free itself.
     * Takes over the reference to `text`. */
    void (*down)(void *user, int error, struct text *text);
};

#endif
