/* SPDX-License-Identifier: MIT */
/*
 * Whether a job makes progress; see progress.h.
 */
#include "model/progress.h"

/* A job copies so much at once, if need be, and pays for it by a pause afterwards: QEMU's largest
 * buffer of a mirror. */
#define PIECE_BYTES (INT64_C(16) << 20)

/* What is known for sure comes first, then what follows from that nothing moves, from the surest
 * reason to the likeliest. */
const struct notice_rule notice_rules[] = {
    {NOTICE_UNANSWERED, FOUND_DEAF},
    {NOTICE_NO_SPACE, SEEN_STOPPED | SEEN_NO_SPACE},
    {NOTICE_STOPPED, SEEN_STOPPED},
    {NOTICE_PAUSED, SEEN_PAUSED | FOUND_STILL},
    {NOTICE_NONE, SEEN_PAUSED},
    {NOTICE_PENDING, SEEN_PENDING | FOUND_STILL},
    {NOTICE_NONE, SEEN_PENDING},
    {NOTICE_WAITING, SEEN_WAITING | FOUND_STILL},
    {NOTICE_NONE, SEEN_WAITING},
    {NOTICE_ERRORS, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS | FOUND_ERRORS},
    {NOTICE_ENDING, FOUND_STILL | SEEN_ENDING},
    {NOTICE_SPEED, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS | FOUND_SLOW},
    {NOTICE_SILENT, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS},
    {NOTICE_GUEST, FOUND_AS_MUCH | SEEN_CONVERGING},
    {NOTICE_NONE, 0},
};
const size_t notice_rule_count = sizeof notice_rules / sizeof notice_rules[0];

enum notice progress_notice(unsigned conditions)
{
    const struct notice_rule *rule = notice_rules;
    while ((rule->when & conditions) != rule->when)
        rule++;
    return rule->notice;
}

void progress_begin(struct progress *p, unsigned state, int64_t now_ms)
{
    if (p->has_begun)
        return;
    *p = (struct progress){
        .has_begun = true,
        .seen_ms = now_ms,
        .moved_ms = now_ms,
        .shrunk_ms = now_ms,
        .left = -1,
        .least_left = -1,
        .state = state,
    };
}

/* A mirror that is ready and equal has nothing to copy. */
static bool has_nothing_to_do(const struct sample *sample, int64_t left)
{
    return left == 0 && (sample->state & SEEN_READY) && !(sample->state & SEEN_ENDING);
}

void progress_see(struct progress *p, const struct sample *sample, int64_t now_ms)
{
    progress_begin(p, sample->state, now_ms);
    bool is_known = sample->current >= 0 && sample->total >= sample->current;
    int64_t left = is_known ? sample->total - sample->current : -1;
    bool changed = sample->state != p->state;

    if (changed || sample->current != p->current || has_nothing_to_do(sample, left)) {
        p->moved_ms = now_ms;
        p->read_errors = p->write_errors = 0;
    }
    if (changed || left < 0 || p->least_left < 0 || left < p->least_left) {
        p->shrunk_ms = now_ms;
        p->least_left = left;
    }
    p->seen_ms = now_ms;
    p->current = sample->current;
    p->left = left;
    p->speed = sample->speed;
    p->state = sample->state;
}

void progress_io_error(struct progress *p, bool writing)
{
    p->write_errors += writing;
    p->read_errors += !writing;
}

int64_t progress_still_ms(const struct progress *p)
{
    return p->seen_ms - p->moved_ms;
}

int64_t progress_as_much_ms(const struct progress *p)
{
    return p->seen_ms - p->shrunk_ms;
}

static bool is_slow(const struct progress *p)
{
    int64_t still_ms = progress_still_ms(p);
    return p->speed > 0 && still_ms > 0 && p->speed < PIECE_BYTES * 1000 / still_ms;
}

unsigned progress_found(const struct progress *p, int64_t limit_ms)
{
    return (progress_still_ms(p) >= limit_ms ? FOUND_STILL : 0) |
           (progress_as_much_ms(p) >= limit_ms ? FOUND_AS_MUCH : 0) |
           (p->left >= 0 ? FOUND_NUMBERS : 0) |
           (p->read_errors || p->write_errors ? FOUND_ERRORS : 0) | (is_slow(p) ? FOUND_SLOW : 0);
}
