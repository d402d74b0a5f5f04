/* SPDX-License-Identifier: MIT */
/*
 * Lists of a domain's jobs; see domain_lists.h.
 */
#include "domain_lists.h"
#include "base/container_of.h"
#include "domain_request.h"
#include "service.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

/* How often a list is made again because a job has begun or ended meanwhile. */
#define LISTS_MAX 8

void domain_take_disks(struct domain *domain, struct disks *disks)
{
    disks_clear(&domain->disks);
    domain->disks = *disks;
    *disks = (struct disks){0};
    for (size_t i = 0; i < domain->disks.count; i++)
        facts_set_alias(domain->facts, domain->disks.disks[i].target, domain->disks.disks[i].alias);
}

/* One that is over is none of those that are known. */
void domain_note_copies(struct domain *domain)
{
    if (domain->is_returning)
        return; /* those of before are still to be compared */
    int r = copies_note(&domain->copies, &domain->disks);
    for (size_t i = 0; i < domain->disks.count; i++)
        if (!facts_is_active(domain->facts, domain->disks.disks[i].target))
            copies_forget(&domain->copies, domain->disks.disks[i].target);
    if (r != BJ_OK)
        domain_lose_memory(domain);
}

/* The ids that a job of the domain can have; NULL past the last. */
static const char *job_id(const struct domain *domain, size_t index)
{
    const struct disks *disks = &domain->disks;
    if (index == disks->count)
        return BACKUP_ID;
    return index < disks->count ? disks->disks[index].target : NULL;
}

/* ------------------------------------------------------------------ what is missing */

static bool is_listed(const struct request *request, const char *id)
{
    return job_list_find(request->list, id) != NULL;
}

/* The job is known from before the list, libvirt has not reported its end, and its list lacks it:
 * the end is on its way, and it tells more (a list never overrules an event, B28). */
static bool is_missing(const struct request *request, const char *id)
{
    const struct facts *facts = request->domain->facts;
    return facts_is_active(facts, id) &&
           !facts_has_changed_since(facts, id, request->change_count) && !is_listed(request, id);
}

static bool is_ahead(const struct request *request)
{
    const char *id;
    for (size_t i = 0; (id = job_id(request->domain, i)); i++)
        if (is_missing(request, id))
            return true;
    return false;
}

/* No end has come, and none will. */
static void decide_by_xml(struct domain *domain, const char *id, const struct disks *now)
{
    enum copy_fate fate = copies_fate(&domain->copies, id, now);
    bool is_commit = copies_is_commit(&domain->copies, id);
    int r = BJ_OK;

    copies_forget(&domain->copies, id);
    if (fate == COPY_SWITCHED)
        r = facts_end_unseen(domain->facts, id, is_commit);
    else
        facts_forget(domain->facts, id);
    if (r != BJ_OK)
        domain_lose_memory(domain);
}

/* ---------------------------------------------------------------------------- fences */

struct fence {
    struct call call; /* first */
    struct loop_task passed;
    atomic_uint refs; /* the call's, and that of its way through libvirt's loop */
    struct domain *domain;
    uint64_t number;
    struct disks disks; /* as they were behind it */
};

static void fence_unref(struct fence *fence)
{
    if (atomic_fetch_sub(&fence->refs, 1) != 1)
        return;
    domain_unref(fence->domain);
    disks_clear(&fence->disks);
    free(fence);
}

static struct fence *fence_of(struct loop_task *task)
{
    return container_of(task, struct fence, passed);
}

/* A thread of libvirt's. */
static void has_passed(void *user)
{
    struct fence *fence = user;
    if (!mailbox_post(fence->domain->mailbox, &fence->passed))
        fence_unref(fence);
}

static void run_fence(struct call *call)
{
    struct fence *fence = (struct fence *)call;
    struct session *session = fence->domain->session;
    struct call_error ignored = {0};

    call_sync(session_domain(session));
    call_disks(session_domain(session), &fence->disks, &ignored);
    call_error_clear(&ignored);
    if (!service_fence(has_passed, fence))
        has_passed(fence); /* there is no loop, and no event */
    session_called(session);
}

static void fence_is_made(struct call *call)
{
    fence_unref((struct fence *)call);
}

static void fence_is_dropped(struct call *call)
{
    fence_unref((struct fence *)call);
}

static bool settle_missing(struct request *request, const struct fence *fence)
{
    struct domain *domain = request->domain;
    const char *id;
    for (size_t i = 0; domain->stage == STAGE_UP && (id = job_id(domain, i)); i++)
        if (is_missing(request, id))
            decide_by_xml(domain, id, &fence->disks);
    return domain->stage == STAGE_UP;
}

static bool is_behind(const struct request *request, const struct fence *fence)
{
    return request->held && request->fence <= fence->number;
}

static void send_fence_if_due(struct domain *domain);

static void settle_held(struct domain *domain, const struct fence *fence)
{
    struct request *request = domain->requests;
    while (request) {
        if (!is_behind(request, fence)) {
            request = request->next;
            continue;
        }
        if (settle_missing(request, fence))
            request_finish(request);
        request = domain->requests; /* whatever has become of the others */
    }
}

static void on_fence(struct loop_task *task)
{
    struct fence *fence = fence_of(task);
    struct domain *domain = fence->domain;

    if (domain->stage == STAGE_UP) {
        domain->fence.is_out = false;
        settle_held(domain, fence);
    }
    if (domain->stage == STAGE_UP)
        send_fence_if_due(domain);
    fence_unref(fence);
}

static bool send_fence(struct domain *domain)
{
    struct fence *fence = calloc(1, sizeof *fence);
    if (!fence)
        return false;
    atomic_init(&fence->refs, 2);
    fence->domain = domain_ref(domain);
    fence->number = ++domain->fence.number;
    fence->passed.run = on_fence;
    fence->call =
        (struct call){.run = run_fence, .done = fence_is_made, .dropped = fence_is_dropped};
    if (lane_submit(domain->lane, &fence->call)) {
        domain->fence.is_out = true;
        return true;
    }
    domain_unref(domain);
    free(fence);
    return false;
}

static void send_fence_if_due(struct domain *domain)
{
    const struct request *request = domain->requests;
    while (request && !request->held)
        request = request->next;
    if (request && !domain->fence.is_out && !send_fence(domain))
        domain_lose_memory(domain);
}

/* A fence that is out may have left libvirtd before the list. */
static bool hold(struct request *request)
{
    struct domain *domain = request->domain;
    request->fence = domain->fence.number + 1;
    request->held = domain->fence.is_out || send_fence(domain);
    return request->held;
}

/* ----------------------------------------------------------------------------- lists */

static bool run_list(struct request *request)
{
    disks_clear(&request->disks);
    job_list_free(request->list);
    request->list = NULL;
    call_error_clear(&request->call_error);
    return call_disks(request_handle(request), &request->disks, &request->call_error) &&
           call_rows(request_handle(request), &request->disks, &request->list,
                     &request->call_error);
}

/* A machine has to know: that the domain's job lock is held for longer than libvirt waits for it
 * tells nothing about the job. */
static bool run_urgent_list(struct request *request)
{
    bool went_well;
    do
        went_well = run_list(request);
    while (!went_well && request->call_error.code == VIR_ERR_OPERATION_TIMEOUT &&
           !atomic_load(&request->domain->given_up));
    return went_well;
}

static void leave_out(struct job_list *list, const char *id)
{
    const struct job_row *row = job_list_find(list, id);
    if (!row)
        return;
    struct job_row *left = &list->rows[row - list->rows];
    struct job_list single = {.count = 1, .rows = left};
    job_list_free_rows(&single);
    *left = list->rows[--list->count];
}

/* What is in the list of a job that has ended since it was asked for is older than that. */
static void leave_out_ended(const struct request *request)
{
    const struct facts *facts = request->domain->facts;
    const char *id;
    for (size_t i = 0; (id = job_id(request->domain, i)); i++)
        if (facts_has_changed_since(facts, id, request->change_count) &&
            !facts_is_active(facts, id))
            leave_out(request->list, id);
}

static void note_rows(const struct request *request)
{
    struct facts *facts = request->domain->facts;
    for (size_t i = 0; i < request->list->count; i++) {
        const bj_job_info *row = &request->list->rows[i].info;
        if (facts_has_changed_since(facts, row->id, request->change_count))
            continue;
        if (strcmp(row->type, FACTS_MIGRATION) == 0)
            facts_migration_row(facts, row->id);
        else
            facts_row(facts, row->id, row->ready);
    }
}

/* The jobs that were there before the connection ended: a copy is only the same if it leads to the
 * same target, and one that is not there any more may have switched its disk. */
static void judge_returned(struct request *request)
{
    struct domain *domain = request->domain;
    for (size_t i = 0; i < domain->disks.count && domain->stage == STAGE_UP; i++) {
        const char *disk = domain->disks.disks[i].target;
        enum copy_fate fate = copies_fate(&domain->copies, disk, &domain->disks);
        if (fate == COPY_UNKNOWN || fate == COPY_GOES_ON)
            continue;
        leave_out(request->list, disk);
        decide_by_xml(domain, disk, &domain->disks);
    }
    domain->is_returning = false;
}

/* A job has ended since the list was asked for, and may be in it; or has begun, and may not be. */
static bool is_stale(const struct request *request)
{
    return request->change_count != facts_change_count(request->domain->facts) &&
           request->lists < LISTS_MAX;
}

static bool make_again(struct request *request)
{
    uint64_t before = request->change_count;
    request->change_count = facts_change_count(request->domain->facts);
    request->lists++;
    if (request_submit(request))
        return true;
    request->change_count = before;
    return false;
}

/* Where memory is short the connection is over, and the asker has been answered. */
static void read_list(struct request *request)
{
    struct domain *domain = request->domain;
    domain_take_disks(domain, &request->disks);
    leave_out_ended(request);
    if (domain->is_returning && request->is_urgent)
        judge_returned(request);
    if (domain->stage == STAGE_UP) {
        note_rows(request);
        domain_note_copies(domain);
    }
    if (domain->stage == STAGE_UP && is_ahead(request) && !hold(request))
        domain_lose_memory(domain);
}

static bool listed(struct request *request, struct driver_reply *reply)
{
    if (!request->held) {
        if (is_stale(request) && make_again(request))
            return false;
        read_list(request);
        if (request->held)
            return false;
    }
    reply->list = request->list;
    request->list = NULL;
    return true;
}

static struct request *first_complete(const struct domain *domain)
{
    struct request *request = domain->requests;
    while (request && !(request->held && !is_ahead(request)))
        request = request->next;
    return request;
}

void domain_release_lists(struct domain *domain)
{
    for (struct request *request; (request = first_complete(domain));)
        request_finish(request);
}

int domain_query(struct driver *driver, struct driver_request *asker, bool urgent)
{
    static const struct request_kind anyone = {.call = run_list, .over = listed};
    static const struct request_kind machine = {.call = run_urgent_list, .over = listed};
    struct request *request = request_new(driver, urgent ? &machine : &anyone, asker, NULL);
    if (request) {
        request->is_urgent = urgent;
        request->change_count = facts_change_count(domain_of(driver)->facts);
    }
    return request_launch(request);
}
