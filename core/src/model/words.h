/* SPDX-License-Identifier: MIT */
/*
 * The words that all layers share: what a job's status is, which verbs there are, what a job list
 * says of a job and what QEMU answers to a verb.
 */
#ifndef BJ_MODEL_WORDS_H
#define BJ_MODEL_WORDS_H

#include <stdbool.h>
#include <stdint.h>

enum status {
    STATUS_NONE, /* not reported, or one we don't know (B49) */
    STATUS_CREATED,
    STATUS_RUNNING,
    STATUS_PAUSED,
    STATUS_READY,
    STATUS_STANDBY,
    STATUS_WAITING,
    STATUS_PENDING,
    STATUS_ABORTING,
    STATUS_CONCLUDED,
    STATUS_NULL
};
#define STATUS_COUNT (STATUS_NULL + 1)

const char *job_status_name(enum status status);
enum status job_status_of(const char *name);

/* The first four are sent once for all who want them; see struct sent in machine.h. */
enum verb {
    VERB_COMPLETE,
    VERB_CANCEL,
    VERB_FORCE,
    VERB_DISMISS,
    VERB_PAUSE,
    VERB_RESUME,
    VERB_SET_SPEED,
    VERB_CHANGE,
    VERB_FINALIZE
};
#define VERB_COUNT (VERB_FINALIZE + 1)

/* What QEMU, or libvirt, made of a verb. */
enum verdict {
    VERDICT_REFUSED,
    VERDICT_NO_SUCH_JOB, /* refused because it knows no such job */
    VERDICT_ENDING,      /* refused because another client is ending the job */
    VERDICT_ACCEPTED
};

/* QEMU's reply to a verb. */
struct verb_reply {
    bool for_all; /* to what the machine sent for all, not for one waiter */
    enum verdict verdict;
    int error; /* bj_error, unless it was accepted */
    const char *error_class;
    const char *text;
};

/* Why a connection takes no verb at all. */
struct denial {
    const char *error_class;
    const char *text; /* with the remedy */
};

/* What an event says of a job. */
enum fact_kind {
    FACT_STATUS,
    FACT_READY,
    FACT_COMPLETED,
    FACT_CANCELLED,
    FACT_STOPPED,
    FACT_PENDING,
    FACT_IO_ERROR /* that did not stop it: no machine is fed it, as it changes nothing (B12) */
};

struct fact {
    enum fact_kind kind;
    const char *id;
    const char *type;   /* "" if not reported */
    bool earlier;       /* of a run before the one whose start is under way */
    enum status status; /* FACT_STATUS */
    const char *error;  /* FACT_COMPLETED: NULL if none; FACT_STOPPED: the reason */
    bool writing;       /* FACT_IO_ERROR */
    int64_t timestamp_us;
};

/* What a job list says of a job. */
struct row {
    enum status status;
    bool ready;
    bool paused;
    bool hides_pause;       /* the list does not report whether it is paused */
    bool io_error;          /* io-status is not ok, and it is paused */
    bool no_space;          /* and that is why */
    const char *error;      /* of a concluded job; NULL if none */
    bool cancelled;         /* and that error is that it was cancelled (B21) */
    int64_t current, total; /* how far it is; -1 if not reported */
};

/* Whether the disk was switched to the mirror's target, or to the commit's base. */
enum disk_switch {
    SWITCH_UNKNOWN, /* nothing can show it: nobody uses the disk, or it can't be looked at */
    SWITCH_UNCLEAR, /* the disk had users, and what they use now shows neither */
    SWITCHED,
    NOT_SWITCHED,
    SWITCHES_NOTHING /* the job has nothing to switch to: an intermediate commit */
};

#endif
