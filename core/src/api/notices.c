/* SPDX-License-Identifier: MIT */
/*
 * Notices; see notices.h.
 */
#include "api/notices.h"
#include "api/monitor.h"
#include "api/watch_jobs.h"
#include "driver/job_list.h"

#include <string.h>

/* ---------------------------------------------------------------------- facts */

/* A job of another kind does its work without saying how far it is. libvirt does not tell a backup
 * that is pulled, whose numbers may rest, from one that is pushed. */
static bool copies(const bj_job *job)
{
    static const char *const types[] = {"mirror", "commit", "stream", "backup"};
    const char *type = text_str(job->type);
    size_t count = sizeof types / sizeof types[0] - job->has_bare_rows;

    for (size_t i = 0; i < count; i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

static unsigned state_of(const bj_job *job)
{
    const struct machine *m = &job->run.machine;
    bool is_stopped = m->stall == STALL_ERROR;
    bool is_paused = m->stall == STALL_PAUSED || status_has_any(m->status, STILL) ||
                     (job->row_is_paused && !machine_traits(m)->has_status);
    bool is_copying = copies(job) && !status_has_any(m->status, DONE | CLOSED);
    bool is_converging = is_copying && !machine_is(m, IS_READY) && !machine_traits(m)->never_ready;

    return (is_stopped ? SEEN_STOPPED : 0) | (job->row_lacks_space ? SEEN_NO_SPACE : 0) |
           (is_paused ? SEEN_PAUSED : 0) | (machine_is(m, IS_PENDING) ? SEEN_PENDING : 0) |
           (m->status == STATUS_WAITING ? SEEN_WAITING : 0) |
           (machine_is(m, IS_READY) ? SEEN_READY : 0) |
           (machine_is_told_to_end(m) ? SEEN_ENDING : 0) | (is_copying ? SEEN_COPYING : 0) |
           (is_converging ? SEEN_CONVERGING : 0);
}

void notice_see(bj_job *job, const struct job_row *row, int64_t now_ms)
{
    const bj_job_info *info = &row->info;

    job->row_is_paused = info->paused;
    job->row_lacks_space = row->lacks_space;
    progress_see(&job->progress,
                 &(struct sample){
                     .current = info->current,
                     .total = info->total,
                     .speed = info->speed,
                     .state = state_of(job),
                 },
                 now_ms);
}

void notice_begin(bj_job *job)
{
    if (!job->progress.has_begun)
        progress_begin(&job->progress, state_of(job), clock_monotonic_ms());
}

static int64_t limit_ms(const bj_job *job)
{
    return (int64_t)ctx_limit(job->monitor->ctx, BJ_LIMIT_CONVERGE_MS);
}

/* What was found is about the state of then. */
static unsigned conditions_of(const bj_job *job)
{
    unsigned state = state_of(job);
    bool is_same = state == job->progress.state;
    return state | (is_same ? progress_found(&job->progress, limit_ms(job)) : 0);
}

/* ------------------------------------------------------------------ sentences */

/* Of so many milliseconds, in seconds; the fraction only where there is little else. */
static double seconds(int64_t ms)
{
    int64_t whole = ms / 1000;
    return whole > 0 ? (double)whole : (double)ms / 1000.;
}

static struct text *errors_text(const struct progress *p)
{
    double still_s = seconds(progress_still_ms(p));
    unsigned long long reads = p->read_errors, writes = p->write_errors;

    if (reads == 0)
        return text_printf("%llu errors writing to the target were ignored, and nothing has been "
                           "copied for %.10g s: mend the target, or abort the job",
                           writes, still_s);
    if (writes == 0)
        return text_printf("%llu errors reading the source were ignored, and nothing has been "
                           "copied for %.10g s: mend the source, or abort the job",
                           reads, still_s);
    return text_printf("%llu errors writing to the target and %llu reading the source were "
                       "ignored, and nothing has been copied for %.10g s: mend both, or abort the "
                       "job",
                       writes, reads, still_s);
}

static struct text *silent_text(const bj_job *job)
{
    const struct progress *p = &job->progress;
    bool is_backup = strcmp(text_str(job->type), "backup") == 0;

    return text_printf(
        "nothing has been copied for %.10g s: its source or its target does not answer%s%s; look "
        "at the storage they are on",
        seconds(progress_still_ms(p)),
        p->current == 0 ? ", or the target is still being prepared" : "",
        is_backup ? ", or it has only to copy what the guest overwrites (sync none)" : "");
}

static struct text *guest_text(const struct progress *p)
{
    double as_much_s = seconds(progress_as_much_ms(p));
    long long speed = (long long)p->speed;

    if (speed > 0)
        return text_printf("what is left to copy has not shrunk for %.10g s: the guest writes as "
                           "fast as it is copied; raise the speed limit of %lld bytes per second, "
                           "slow the guest, or change the copy-mode to write-blocking",
                           as_much_s, speed);
    return text_printf("what is left to copy has not shrunk for %.10g s: the guest writes as fast "
                       "as it is copied; slow the guest, or change the copy-mode to write-blocking",
                       as_much_s);
}

static const char pending_text[] = "its work is done, and it is pending until somebody finalizes "
                                   "it: finalize it, or abort it";

static struct text *sentence(const bj_job *job, enum notice notice, int64_t deaf_ms)
{
    static const char *const fixed[NOTICE_COUNT] = {
        [NOTICE_NO_SPACE] = machine_no_space_text,
        [NOTICE_STOPPED] = "an I/O error stopped it: mend the cause and resume it",
        [NOTICE_PAUSED] = "it is paused: resume it",
        [NOTICE_PENDING] = pending_text,
        [NOTICE_WAITING] = "its work is done, and it waits for the other jobs of its transaction",
    };
    const struct progress *p = &job->progress;
    double still_s = seconds(progress_still_ms(p));

    switch (notice) {
    case NOTICE_UNANSWERED:
        return text_printf("QEMU has not answered for %.10g s: it is stopped, or itself waits for "
                           "a disk that does not answer",
                           seconds(deaf_ms));
    case NOTICE_ERRORS:
        return errors_text(p);
    case NOTICE_ENDING:
        return text_printf("it was told to end %.10g s ago or earlier and is not over: its source "
                           "or its target does not answer; look at the storage they are on",
                           still_s);
    case NOTICE_SPEED:
        return text_printf("nothing has been copied for %.10g s: its speed limit of %lld bytes per "
                           "second lets nothing through; raise it, or set it to 0",
                           still_s, (long long)p->speed);
    case NOTICE_SILENT:
        return silent_text(job);
    case NOTICE_GUEST:
        return guest_text(p);
    default:
        return text_printf("%s", fixed[notice]);
    }
}

struct text *notice_text(const bj_job *job)
{
    const struct machine *m = &job->run.machine;
    unsigned conditions = conditions_of(job);

    if (machine_is_over(m))
        return NULL;
    if (conditions & (SEEN_PAUSED | SEEN_PENDING | SEEN_WAITING))
        conditions |= FOUND_STILL;
    enum notice notice = progress_notice(conditions);
    if (notice == NOTICE_NONE)
        return NULL;
    bool has_reason = notice == NOTICE_STOPPED || notice == NOTICE_PAUSED;
    return has_reason && machine_is_stalled(m) ? text_ref(machine_text(m))
                                               : sentence(job, notice, 0);
}

/* ------------------------------------------------------------------ observers */

bool notice_has_observer(const bj_job *job)
{
    const struct run *run = &job->run;
    bool is_watched =
        job->watches || (job->monitor->jobs_watches && run->announcement == ANNOUNCED);
    return run_has_id(run) && !machine_is_over(&run->machine) &&
           (is_watched || machine_is_awaited(&run->machine));
}

void notice_forget(bj_job *job)
{
    job->notice = NOTICE_NONE;
    text_unref(job->notice_text);
    job->notice_text = NULL;
}

/* The machine has reported that it is stopped, or paused, and perhaps why. */
static bool is_reported(const bj_job *job, enum notice notice)
{
    const struct machine *m = &job->run.machine;

    if (notice == NOTICE_NO_SPACE)
        return strcmp(text_str(machine_text(m)), machine_no_space_text) == 0;
    return machine_is_stalled(m) && (notice == NOTICE_STOPPED || notice == NOTICE_PAUSED);
}

void notice_end(bj_job *job)
{
    notice_forget(job);
    job->progress.has_begun = false;
}

static void report(bj_job *job, struct text *text)
{
    bj_record_kind kind = job->notice == NOTICE_NONE ? BJ_RECORD_RESUMED : BJ_RECORD_STALLED;

    job_push_all(job, kind, text);
    if (job->run.announcement == ANNOUNCED)
        watch_jobs_push_all(job, kind, text);
}

void notice_judge(bj_job *job, int64_t deaf_ms)
{
    enum notice notice =
        progress_notice(conditions_of(job) | (deaf_ms >= limit_ms(job) ? FOUND_DEAF : 0));

    if (is_reported(job, notice))
        notice = NOTICE_NONE;
    if (notice == job->notice)
        return;
    notice_forget(job);
    job->notice = notice;
    job->notice_text = notice == NOTICE_NONE ? NULL : sentence(job, notice, deaf_ms);
    report(job, job->notice_text);
}
