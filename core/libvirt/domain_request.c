/* SPDX-License-Identifier: MIT */
/*
 * A request's way to libvirt and back; see domain_request.h.
 */
#include "domain_request.h"
#include "base/container_of.h"

#include <libvirt/virterror.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Requests that wait for libvirt: more are refused. */
#define REQUESTS_MAX 1024

void request_free(struct request *request)
{
    domain_unref(request->domain);
    free(request->disk);
    free(request->mirror);
    start_free(request->start);
    text_unref(request->text);
    free(request->call_error.message);
    disks_clear(&request->disks);
    job_list_free(request->list);
    free(request);
}

/* -------------------------------------------------------------------- answering */

static void link_request(struct request *request)
{
    struct domain *domain = request->domain;
    request->next = domain->requests;
    if (request->next)
        request->next->prev = request;
    domain->requests = request;
    domain->request_count++;
}

static void unlink_request(struct request *request)
{
    if (request->prev)
        request->prev->next = request->next;
    else
        request->domain->requests = request->next;
    if (request->next)
        request->next->prev = request->prev;
    request->prev = request->next = NULL;
    request->domain->request_count--;
}

/* The asker is answered now, and only once. The call may still be under way. */
static void answer(struct request *request, struct driver_reply *reply)
{
    struct driver_request *asker = request->asker;
    request->asker = NULL;
    unlink_request(request);
    if (asker)
        asker->done(asker, reply);
}

void request_verbs_are_moot(struct domain *domain, const char *disk)
{
    for (struct request *request = domain->requests; request; request = request->next)
        if (request->kind->judge && strcmp(request->disk, disk) == 0)
            atomic_store(&request->is_moot, true);
}

void request_answer_all(struct domain *domain, int error, const char *text)
{
    while (domain->requests) {
        struct request *request = domain->requests;
        answer(request, &(struct driver_reply){.error = error, .is_lost = true, .text = text});
        if (request->held)
            request_free(request); /* no call brings it back */
    }
}

/* --------------------------------------------------------------------- requests */

static const char *end_text(const struct request *request)
{
    return request->is_gone ? "the domain does not run any more"
                            : "the connection to libvirt has ended";
}

_Static_assert(VIR_ERR_INVALID_ARG == 8, "NO_SUCH_JOB_CLASS is that number");
_Static_assert(VIR_ERR_OPERATION_DENIED == 29, "DENIED_CLASS is that number");

static void fill_error(struct request *request, struct driver_reply *reply)
{
    const struct call_error *error = &request->call_error;

    if (request->is_lost || request->is_gone) {
        reply->error = BJ_E_DISCONNECTED;
        reply->is_lost = true;
        reply->text = end_text(request);
        return;
    }
    reply->error = error->message ? BJ_E_REFUSED : BJ_E_NOMEM;
    reply->text = error->message ? error->message : bj_error_text(BJ_E_NOMEM);
    (void)snprintf(request->error_class, sizeof request->error_class, "%d", error->code);
    reply->error_class = error->message ? request->error_class : NULL;
    reply->refusal = request->refusal;
}

/* A pivot whose reply is lost may have been taken. */
static void note_result(const struct request *request, bool went_well)
{
    struct facts *facts = request->domain->facts;
    bool is_refused = !went_well && !request->is_lost && !request->is_gone;

    if (facts && request->start) {
        facts_start_over(facts, request->disk, went_well);
        if (went_well)
            request_verbs_are_moot(request->domain, request->disk); /* they were for another */
    }
    if (facts && request->kind->is_pivot && is_refused)
        facts_pivot_refused(facts, request->disk, request->change_count);
}

bool request_finish(struct request *request)
{
    struct driver_reply reply = {.error = request->error, .text = text_str(request->text)};

    note_result(request, request->went_well);
    if (request->kind->call && !request->went_well)
        fill_error(request, &reply);
    else if (request->kind->over && request->asker && !request->kind->over(request, &reply))
        return false;
    if (request->asker)
        answer(request, &reply);
    job_list_free(reply.list); /* unless somebody has kept it */
    free(reply.snapshot);      /* the same, as driver_ops.free_snapshot does */
    request_free(request);
    return true;
}

static void on_called(struct call *call)
{
    struct request *request = (struct request *)call;
    struct domain *domain = domain_ref(request->domain);
    bool is_up = domain->stage == STAGE_UP;

    request->is_lost &= is_up;
    bool is_over = is_up && (request->is_lost || request->is_gone);
    bool is_gone = request->is_gone && !request->is_lost;
    struct text *text = text_printf("%s: %s", text_str(domain->uri), end_text(request));
    request_finish(request);
    domain->driver.may_return = domain->is_persistent;
    if (is_over && domain->stage == STAGE_UP)
        domain_go_down(domain, BJ_E_DISCONNECTED, is_gone, text);
    else
        text_unref(text);
    domain_unref(domain);
}

static void on_dropped(struct call *call)
{
    request_free((struct request *)call);
}

/* What the call causes is heard of. */
static bool listen(struct request *request)
{
    char *why;
    if (session_listen(request->domain->session, &why))
        return true;
    request->call_error =
        (struct call_error){.code = VIR_ERR_OPERATION_UNSUPPORTED, .message = why};
    return false;
}

static bool make_call(struct request *request)
{
    if (atomic_load(&request->is_moot))
        return call_refuse_ended(&request->call_error);
    return listen(request) && request->kind->call(request);
}

static void run_request(struct call *call)
{
    struct request *request = (struct request *)call;
    request->went_well = make_call(request);
    request->is_gone = !request->went_well && request->call_error.message &&
                       call_found_gone(session_domain(request->domain->session),
                                       &request->call_error, &request->domain->given_up);
    request->is_lost = !request->went_well && !session_is_alive(request->domain->session);
    if (!request->went_well && !request->is_lost && !request->is_gone && request->kind->judge)
        request->refusal = request->kind->judge(request);
    session_called(request->domain->session);
}

static void run_later(struct loop_task *task)
{
    request_finish(container_of(task, struct request, later));
}

bool request_submit(struct request *request)
{
    if (request->kind->call) {
        request->call = (struct call){.run = run_request, .done = on_called, .dropped = on_dropped};
        return lane_submit(request->domain->lane, &request->call);
    }
    request->later.run = run_later;
    return loop_post(request->domain->loop, &request->later);
}

struct request *request_new(struct driver *driver, const struct request_kind *kind,
                            struct driver_request *asker, const char *disk)
{
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->kind = kind;
    request->domain = domain_ref(domain_of(driver));
    request->asker = asker;
    request->disk = disk ? strdup(disk) : NULL;
    if (!disk || request->disk)
        return request;
    request_free(request);
    return NULL;
}

int request_launch(struct request *request)
{
    if (!request)
        return BJ_E_NOMEM;
    int r = request->domain->request_count < REQUESTS_MAX ? BJ_OK : BJ_E_BUSY;
    if (r == BJ_OK)
        r = request_submit(request) ? BJ_OK : BJ_E_NOMEM;
    if (r == BJ_OK) {
        link_request(request);
        return BJ_OK;
    }
    note_result(request, false);
    request_free(request);
    return r;
}

int request_answer_later(struct driver *driver, struct driver_request *asker, int error,
                         struct text *text)
{
    static const struct request_kind kind = {0};
    struct request *request = request_new(driver, &kind, asker, NULL);
    if (request) {
        request->error = error;
        request->text = text;
    } else {
        text_unref(text);
    }
    return request_launch(request);
}

static bool denied(struct request *request, struct driver_reply *reply)
{
    const struct denial *denial = request->domain->driver.capabilities.denial;
    reply->error = BJ_E_REFUSED;
    reply->error_class = denial->error_class;
    reply->text = denial->text;
    return true;
}

int request_deny(struct driver *driver, struct driver_request *asker)
{
    static const struct request_kind kind = {.over = denied};
    return request_launch(request_new(driver, &kind, asker, NULL));
}

void domain_abandon(struct driver *driver, int error, const char *text)
{
    request_answer_all(domain_of(driver), error, text);
}

bool domain_withdraw(struct driver *driver, struct driver_request *asker)
{
    struct request *request = domain_of(driver)->requests;
    while (request && request->asker != asker)
        request = request->next;
    if (!request || !request->kind->call || request->held ||
        !lane_withdraw(request->domain->lane, &request->call))
        return false;
    note_result(request, false);
    unlink_request(request);
    request_free(request);
    return true;
}

virDomainPtr request_handle(const struct request *request)
{
    return session_domain(request->domain->session);
}
