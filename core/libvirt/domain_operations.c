/* SPDX-License-Identifier: MIT */
/*
 * The driver's operations on a domain; see domain_operations.h.
 */
#include "domain_operations.h"
#include "domain_lists.h"
#include "domain_request.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct driver_snapshot {
    int nothing; /* libvirt itself reports a switch: nothing has to be recorded before */
};

/* ------------------------------------------------------------------------ verbs */

static bool is_backup(const struct request *request)
{
    return strcmp(request->disk, BACKUP_ID) == 0;
}

static bool run_pivot(struct request *request)
{
    const struct call_run run = {
        .disk = request->disk,
        .mirror = request->mirror,
        .has_ended = &request->is_moot,
        .given_up = &request->domain->given_up,
    };
    return call_pivot(request_handle(request), &run, &request->call_error);
}

static bool run_abort(struct request *request)
{
    virDomainPtr handle = request_handle(request);
    return is_backup(request) ? call_abort_backup(handle, &request->call_error)
                              : call_abort(handle, request->disk, &request->call_error);
}

static bool run_set_speed(struct request *request)
{
    virDomainPtr handle = request_handle(request);
    return is_backup(request)
               ? call_set_backup_speed(handle, request->speed, &request->call_error)
               : call_set_speed(handle, request->disk, request->speed, &request->call_error);
}

static enum verdict judge_pivot(const struct request *request)
{
    return call_verdict(request_handle(request), request->disk, JUDGE_PIVOT, &request->call_error);
}

static enum verdict judge_abort(const struct request *request)
{
    return call_verdict(request_handle(request), request->disk, JUDGE_ABORT, &request->call_error);
}

static enum verdict judge_speed(const struct request *request)
{
    return call_verdict(request_handle(request), request->disk, JUDGE_SPEED, &request->call_error);
}

static int refuse_verb(struct driver *driver, struct driver_request *asker, const char *what)
{
    return request_answer_later(driver, asker, BJ_E_UNSUPPORTED,
                                text_printf("libvirt has no call that %s", what));
}

static const struct request_kind pivot_kind = {
    .call = run_pivot,
    .judge = judge_pivot,
    .is_pivot = true,
};
static const struct request_kind abort_kind = {.call = run_abort, .judge = judge_abort};
static const struct request_kind speed_kind = {.call = run_set_speed, .judge = judge_speed};

/* The mirror is that of the run which the verb is for. */
static int bind_verb(struct request *request)
{
    const struct domain *domain = request->domain;
    const char *mirror = copies_mirror(&domain->copies, request->disk);

    request->change_count = facts_change_count(domain->facts);
    request->mirror = mirror ? strdup(mirror) : NULL;
    return !mirror || request->mirror ? BJ_OK : BJ_E_NOMEM;
}

static int launch_verb(struct driver *driver, const struct request_kind *kind,
                       struct driver_request *asker, const char *disk, int64_t speed)
{
    struct request *request = request_new(driver, kind, asker, disk);
    if (!request)
        return BJ_E_NOMEM;
    request->speed = speed;
    if (bind_verb(request) != BJ_OK) {
        request_free(request);
        return BJ_E_NOMEM;
    }
    if (kind->is_pivot)
        facts_pivot_sent(domain_of(driver)->facts, disk);
    return request_launch(request);
}

/* libvirt would let a verb wait until the migration is over, and then it may meet another job. */
static int refuse_in_migration(struct driver *driver, struct driver_request *asker)
{
    return request_answer_later(
        driver, asker, BJ_E_UNSUPPORTED,
        text_printf("it is a part of the domain's migration, and no verb is for a part: "
                    "virDomainAbortJob (virsh domjobabort) cancels the migration"));
}

static int domain_verb(struct driver *driver, struct driver_request *asker,
                       const struct driver_verb *verb)
{
    struct facts *facts = domain_of(driver)->facts;
    const char *id = verb->id;

    if (facts_is_migration(facts, id))
        return refuse_in_migration(driver, asker);
    if (driver->capabilities.denial)
        return request_deny(driver, asker);
    switch (verb->verb) {
    case VERB_COMPLETE:
        return launch_verb(driver, &pivot_kind, asker, id, 0);
    case VERB_CANCEL:
        return launch_verb(driver, &abort_kind, asker, id, 0);
    case VERB_FORCE:
        if (facts_is_ready(facts, id))
            return refuse_verb(driver, asker, "aborts a ready copy by force: abort it softly");
        return launch_verb(driver, &abort_kind, asker, id, 0);
    case VERB_SET_SPEED:
        return launch_verb(driver, &speed_kind, asker, id, verb->speed);
    case VERB_PAUSE:
        return refuse_verb(driver, asker, "pauses a block job");
    case VERB_RESUME:
        return refuse_verb(driver, asker, "resumes a block job");
    case VERB_CHANGE:
        return refuse_verb(driver, asker, "changes a block job's options");
    case VERB_FINALIZE:
        return refuse_verb(driver, asker, "finalizes a block job: it does so itself");
    case VERB_DISMISS:
        return refuse_verb(driver, asker, "dismisses a block job: it does so itself");
    }
    return BJ_E_UNSUPPORTED;
}

static void domain_prepare(struct driver *driver, struct driver_request *request, const char *id)
{
    (void)driver, (void)request, (void)id; /* a call of libvirt's has nothing to be made before */
}

static void domain_unprepare(struct driver_request *request)
{
    (void)request;
}

/* ----------------------------------------------------------------------- starts */

static bool domain_has_command(struct driver *driver, const char *command)
{
    (void)driver;
    return start_is_known(command);
}

static bool run_nothing(struct request *request)
{
    (void)request;
    return true;
}

static void tell_nobody(struct driver_request *asker, struct driver_reply *reply)
{
    (void)asker, (void)reply;
}

/* Any call does it. */
static void domain_listen(struct driver *driver)
{
    static const struct request_kind kind = {.call = run_nothing};
    static struct driver_request nobody = {.done = tell_nobody};
    if (!domain_of(driver)->listens)
        request_launch(request_new(driver, &kind, &nobody, NULL));
}

static bool run_disks(struct request *request)
{
    return call_disks(request_handle(request), &request->disks, &request->call_error);
}
/* This XML was read alone: of a backup what the last list said still counts. */
static void take_xml(struct request *request)
{
    struct disks *known = &request->domain->disks;
    request->disks.backup = known->backup;
    known->backup = NULL;
    domain_take_disks(request->domain, &request->disks);
}

static bool probed(struct request *request, struct driver_reply *reply)
{
    (void)reply;
    take_xml(request);
    return true;
}

/* Disks come and go: they are looked up for each start. */
static int domain_takes(struct driver *driver, const char *command)
{
    (void)driver, (void)command;
    return -1;
}

static int domain_probe(struct driver *driver, struct driver_request *asker)
{
    static const struct request_kind kind = {.call = run_disks, .over = probed};
    return request_launch(request_new(driver, &kind, asker, NULL));
}

static const char *target_of(struct driver *driver, const char *name)
{
    const struct disk *disk = disks_find(&domain_of(driver)->disks, name);
    return disk ? disk->target : name;
}

static const char *domain_id_of(struct driver *driver, const char *name)
{
    const char *target = target_of(driver, name);
    return disks_list_has(domain_of(driver)->disks.backup, target) ? BACKUP_ID : target;
}

/* The id of the job that it starts. */
static const char *start_id(struct driver *driver, const struct start *start)
{
    return start_is_backup(start) ? BACKUP_ID : target_of(driver, start_disk(start));
}

/* malloc'ed; NULL: no memory. */
static char *list_start(const struct start *start, const char *id)
{
    const char *disks = start ? start_disks(start) : "";
    char *line = NULL;
    if (disks)
        return strdup(disks);
    return asprintf(&line, "%s\n", id) < 0 ? NULL : line;
}

/* What is wrong with the arguments is said when it is to be started. */
static int domain_plan_start(struct driver *driver, const char *command,
                             const struct json_t *arguments, struct start_plan *ret)
{
    struct start *start = NULL;
    struct text *text = NULL;
    int r = start_parse(command, arguments, &start, &text);
    text_unref(text);
    text = NULL;
    if (r == BJ_OK)
        r = start_prepare(start, &domain_of(driver)->disks, &text);
    text_unref(text);
    if (r == BJ_E_NOMEM) {
        start_free(start);
        return r;
    }

    const char *id = start ? start_id(driver, start) : "";
    *ret = (struct start_plan){
        .command = command,
        .id = strdup(id),
        .members = strdup(""),
        .device = strdup(id),
        .disks = list_start(start, id),
        .type = start ? start_type(start) : "",
    };
    start_free(start);
    if (ret->id && ret->members && ret->device && ret->disks)
        return BJ_OK;
    start_plan_clear(ret);
    return BJ_E_NOMEM;
}

/* Where a copy leads to is read at once: its end may come before the next list. */
static bool run_start(struct request *request)
{
    struct call_error ignored = {0};
    if (!call_start(request_handle(request), request->start, request->disk, &request->call_error))
        return false;
    call_disks(request_handle(request), &request->disks, &ignored);
    call_error_clear(&ignored);
    return true;
}

static bool started(struct request *request, struct driver_reply *reply)
{
    (void)reply;
    if (request->disks.disks)
        take_xml(request);
    domain_note_copies(request->domain);
    return true;
}

static int launch_start(struct driver *driver, struct driver_request *asker, struct start *start)
{
    static const struct request_kind kind = {.call = run_start, .over = started};
    struct request *request = request_new(driver, &kind, asker, start_id(driver, start));
    if (request)
        request->start = start;
    else
        start_free(start);

    if (!request || facts_start_sent(request->domain->facts, request->disk) == BJ_OK)
        return request_launch(request);
    request_free(request);
    return BJ_E_NOMEM;
}

/* It was JSON when it was asked. */
static int read_error(const char *command, const json_error_t *error, struct text **ret_text)
{
    if (json_error_code(error) == json_error_out_of_memory)
        return BJ_E_NOMEM;
    *ret_text = text_printf("%s: a number in its arguments is too large for libvirt", command);
    return BJ_E_INVAL;
}

static int domain_execute(struct driver *driver, struct driver_request *asker,
                          const struct driver_command *raw)
{
    const char *command = raw->name, *arguments = raw->arguments;
    if (start_is_known(command) && driver->capabilities.denial)
        return request_deny(driver, asker);

    struct start *start = NULL;
    struct text *text = NULL;
    json_error_t error;
    json_t *object = arguments ? json_loads(arguments, 0, &error) : json_object();
    int r = BJ_E_UNSUPPORTED;

    if (!start_is_known(command))
        text = text_printf("%s: raw commands are not for libvirt's domains, which they would "
                           "taint: use libvirt's own calls, or a monitor of QEMU's",
                           command);
    else if (object)
        r = start_parse(command, object, &start, &text);
    else
        r = arguments ? read_error(command, &error, &text) : BJ_E_NOMEM;
    json_decref(object);
    if (r == BJ_OK)
        r = start_prepare(start, &domain_of(driver)->disks, &text);
    if (r == BJ_OK)
        return launch_start(driver, asker, start);
    start_free(start);
    return r == BJ_E_NOMEM ? r : request_answer_later(driver, asker, r, text);
}

/* ------------------------------------------------------------------ the switch */

static bool snapshot_taken(struct request *request, struct driver_reply *reply)
{
    (void)request;
    reply->snapshot = calloc(1, sizeof *reply->snapshot);
    return true;
}

static bool compared(struct request *request, struct driver_reply *reply)
{
    reply->switched = facts_switched(request->domain->facts, request->disk);
    return true;
}

static bool run_compare(struct request *request)
{
    return call_disks(request_handle(request), &request->disks, &request->call_error);
}

/* That the disk is what it was says nothing: libvirtd may have been killed over a pivot of which
 * its successor does not know. */
static bool compared_by_xml(struct request *request, struct driver_reply *reply)
{
    const struct copies *copies = &request->domain->copies;
    if (copies_has_switched(copies, request->disk, &request->disks))
        reply->switched = SWITCHED;
    return true;
}

static int domain_take_snapshot(struct driver *driver, struct driver_request *asker, const char *id,
                                const char *device, bool urgent)
{
    static const struct request_kind kind = {.over = snapshot_taken};
    (void)device, (void)urgent;
    return request_launch(request_new(driver, &kind, asker, id));
}

static int domain_compare_snapshot(struct driver *driver, struct driver_request *asker,
                                   const char *id, const struct driver_snapshot *before)
{
    static const struct request_kind known = {.over = compared};
    static const struct request_kind unknown = {.call = run_compare, .over = compared_by_xml};
    const struct domain *domain = domain_of(driver);
    bool is_known = facts_switched(domain->facts, id) != SWITCH_UNKNOWN;
    (void)before;
    return request_launch(request_new(driver, is_known ? &known : &unknown, asker, id));
}

static void domain_free_snapshot(struct driver_snapshot *snapshot)
{
    free(snapshot);
}

/* -------------------------------------------------------------------------- all */

static struct text *domain_stage(struct driver *driver, int64_t timeout_ms)
{
    const struct domain *domain = domain_of(driver);
    if (domain->stage == STAGE_ASLEEP)
        return text_printf("%s: the domain was not started again", text_str(domain->uri));
    return text_printf("libvirt did not answer for %s within %.10g s: its daemon or the way to it "
                       "may hang, or the domain's job lock is held",
                       text_str(domain->uri), (double)timeout_ms / 1000.);
}

const struct driver_ops domain_ops = {
    .execute = domain_execute,
    .verb = domain_verb,
    .prepare = domain_prepare,
    .unprepare = domain_unprepare,
    .query = domain_query,
    .take_snapshot = domain_take_snapshot,
    .compare_snapshot = domain_compare_snapshot,
    .free_snapshot = domain_free_snapshot,
    .withdraw = domain_withdraw,
    .abandon = domain_abandon,
    .has_command = domain_has_command,
    .listen = domain_listen,
    .plan_start = domain_plan_start,
    .id_of = domain_id_of,
    .probe = domain_probe,
    .takes = domain_takes,
    .inherit = domain_inherit,
    .stage = domain_stage,
    .close = domain_close,
};
