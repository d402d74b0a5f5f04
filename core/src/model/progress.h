/* SPDX-License-Identifier: MIT */
/*
 * Whether a job makes progress, judged by what is seen of it now and then, and if not, why not. It
 * reads no clock: whoever looks says when that was.
 */
#ifndef BJ_MODEL_PROGRESS_H
#define BJ_MODEL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What those who wait for the job or watch it are to learn. */
enum notice {
    NOTICE_NONE,
    NOTICE_NO_SPACE,   /* stopped: there is no space left for what it writes */
    NOTICE_STOPPED,    /* stopped by another I/O error */
    NOTICE_PAUSED,     /* somebody has paused it */
    NOTICE_PENDING,    /* its work is done, and it waits to be finalized */
    NOTICE_WAITING,    /* its work is done, and it waits for the others of its transaction */
    NOTICE_UNANSWERED, /* QEMU does not answer */
    NOTICE_ERRORS,     /* I/O errors are ignored, and nothing is copied */
    NOTICE_ENDING,     /* it was told to end, and does not */
    NOTICE_SPEED,      /* its speed limit lets nothing through */
    NOTICE_SILENT,     /* nothing is copied: its source or its target does not answer */
    NOTICE_GUEST       /* it copies, and as much is left as before: the guest writes as fast */
};
#define NOTICE_COUNT (NOTICE_GUEST + 1)

enum progress_condition {
    /* The state of the job, as it is known otherwise. */
    SEEN_STOPPED = 1 << 0,
    SEEN_NO_SPACE = 1 << 1, /* and that is why */
    SEEN_PAUSED = 1 << 2,
    SEEN_PENDING = 1 << 3,
    SEEN_WAITING = 1 << 4,
    SEEN_READY = 1 << 5,
    SEEN_ENDING = 1 << 6,     /* a complete or an abort was accepted */
    SEEN_COPYING = 1 << 7,    /* of a kind whose numbers grow with what it does */
    SEEN_CONVERGING = 1 << 8, /* it is to become ready, and is not yet */

    /* What follows from looking again. */
    FOUND_DEAF = 1 << 9,     /* QEMU was asked, and has not answered for too long */
    FOUND_STILL = 1 << 10,   /* nothing has changed for too long */
    FOUND_NUMBERS = 1 << 11, /* how far it is is known */
    FOUND_ERRORS = 1 << 12,  /* there were I/O errors since */
    FOUND_SLOW = 1 << 13,    /* its speed limit alone explains that */
    FOUND_AS_MUCH = 1 << 14  /* as much is left to copy as long ago */
};
#define PROGRESS_CONDITIONS 15

/* The first rule applies whose conditions all hold; the last one needs none. */
struct notice_rule {
    enum notice notice;
    unsigned when;
};
extern const struct notice_rule notice_rules[];
extern const size_t notice_rule_count;
enum notice progress_notice(unsigned conditions);

/* One look at a job. */
struct sample {
    int64_t current, total, speed; /* of its row; < 0: unknown */
    unsigned state;                /* SEEN_... */
};

/* What was seen of one run. Times are monotonic milliseconds. */
struct progress {
    bool has_begun;
    int64_t seen_ms;   /* the last look */
    int64_t moved_ms;  /* since when it is as it was then */
    int64_t shrunk_ms; /* since when no less is left to copy */
    int64_t current, left, least_left, speed;
    unsigned state;
    uint64_t read_errors, write_errors; /* since moved_ms */
};

/* From now on it is observed; nothing is copied yet. Again: nothing happens. */
void progress_begin(struct progress *p, unsigned state, int64_t now_ms);
void progress_see(struct progress *p, const struct sample *sample, int64_t now_ms);
void progress_io_error(struct progress *p, bool writing); /* one that did not stop it */

/* FOUND_..., as of the last look; `limit_ms`, more than 0, is how long is too long. */
unsigned progress_found(const struct progress *p, int64_t limit_ms);
/* For how long nothing has moved, or no less is left, as of the last look. */
int64_t progress_still_ms(const struct progress *p);
int64_t progress_as_much_ms(const struct progress *p);

#endif
