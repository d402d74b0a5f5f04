/* SPDX-License-Identifier: MIT */
/*
 * The calls of libvirt; see calls.h.
 */
#include "calls.h"
#include "facts.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* For how long, and how often, libvirt is asked again that is about to hear that a job is ready. */
#define PIVOT_PATIENCE_MS 5000
#define PIVOT_FIRST_PAUSE_MS 2
#define PIVOT_LONGEST_PAUSE_MS 100

/* For how long, and how often, libvirt is asked whether QEMU is gone that it can't talk to. */
#define GONE_PATIENCE_MS 30000
#define GONE_PAUSE_MS 20

/* Two, and as many for a daemon that only passes on what another one says. */
#define SYNC_CALLS 4

static bool failed(struct call_error *ret_error)
{
    const char *message = virGetLastErrorMessage();
    ret_error->code = virGetLastErrorCode();
    ret_error->message = message ? strdup(message) : NULL;
    return false;
}

static bool no_memory(struct call_error *ret_error)
{
    *ret_error = (struct call_error){0};
    return false;
}

void call_error_clear(struct call_error *error)
{
    free(error->message);
    *error = (struct call_error){0};
}

/* ---------------------------------------------------------------------- verbs */

static void pause_for(int ms)
{
    const struct timespec pause = {.tv_nsec = (long)ms * 1000 * 1000};
    nanosleep(&pause, NULL);
}

static bool is_too_early(int result)
{
    return result < 0 && virGetLastErrorCode() == VIR_ERR_BLOCK_COPY_ACTIVE;
}

/* Those that libvirt has for what it can't talk to, and for much else. */
static bool may_be_about_monitor(int code)
{
    return code == VIR_ERR_INTERNAL_ERROR || code == VIR_ERR_SYSTEM_ERROR ||
           code == VIR_ERR_OPERATION_FAILED;
}

/* libvirt asks QEMU itself for these, whatever its disks and jobs are. */
static bool cannot_talk(virDomainPtr domain)
{
    virDomainBlockStatsStruct stats;
    return virDomainBlockStats(domain, "", &stats, sizeof stats) < 0 &&
           may_be_about_monitor(virGetLastErrorCode());
}

/* 1, 0; -1: not known. A transient domain is forgotten together with its QEMU. */
static int is_active(virDomainPtr domain)
{
    int active = virDomainIsActive(domain);
    return active < 0 && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? 0 : active;
}

bool call_found_gone(virDomainPtr domain, const struct call_error *error,
                     const atomic_bool *given_up)
{
    int waited = 0;
    while (may_be_about_monitor(error->code) && waited < GONE_PATIENCE_MS &&
           !atomic_load(given_up) && cannot_talk(domain)) {
        pause_for(GONE_PAUSE_MS);
        waited += GONE_PAUSE_MS;
    }
    return error->code == VIR_ERR_NO_DOMAIN || is_active(domain) == 0;
}

bool call_refuse_ended(struct call_error *ret_error)
{
    const char *message = "the job has ended, and what is on the disk now is another one";
    *ret_error = (struct call_error){.code = VIR_ERR_INVALID_ARG, .message = strdup(message)};
    return false;
}

static bool is_same_run(virDomainPtr domain, const struct call_run *run)
{
    struct call_error ignored = {0};
    struct disks disks = {0};

    if (atomic_load(run->has_ended))
        return false;
    if (!run->mirror)
        return true;
    call_disks(domain, &disks, &ignored);
    const struct disk *disk = disks_find(&disks, run->disk);
    bool is_same = disk && disk->mirror && strcmp(disk->mirror, run->mirror) == 0;
    call_error_clear(&ignored);
    disks_clear(&disks);
    return is_same;
}

bool call_pivot(virDomainPtr domain, const struct call_run *run, struct call_error *ret_error)
{
    const unsigned flags = VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC;
    int pause = PIVOT_FIRST_PAUSE_MS;
    int waited = 0;

    int result = virDomainBlockJobAbort(domain, run->disk, flags);
    while (is_too_early(result) && waited < PIVOT_PATIENCE_MS && !atomic_load(run->given_up)) {
        pause_for(pause);
        waited += pause;
        pause = 2 * pause < PIVOT_LONGEST_PAUSE_MS ? 2 * pause : PIVOT_LONGEST_PAUSE_MS;
        if (!is_same_run(domain, run))
            return call_refuse_ended(ret_error);
        result = virDomainBlockJobAbort(domain, run->disk, flags);
    }
    return result == 0 ? true : failed(ret_error);
}

bool call_abort(virDomainPtr domain, const char *disk, struct call_error *ret_error)
{
    int result = virDomainBlockJobAbort(domain, disk, VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC);
    return result == 0 ? true : failed(ret_error);
}

bool call_set_speed(virDomainPtr domain, const char *disk, int64_t bytes_per_second,
                    struct call_error *ret_error)
{
    int result = virDomainBlockJobSetSpeed(domain, disk, (unsigned long)bytes_per_second,
                                           VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES);
    return result == 0 ? true : failed(ret_error);
}

_Static_assert((int)VERDICT_CODE_INVALID_ARG == VIR_ERR_INVALID_ARG &&
                   (int)VERDICT_CODE_OPERATION_INVALID == VIR_ERR_OPERATION_INVALID,
               "verdict.h has libvirt's numbers");

static struct aftermath look_at(virDomainPtr domain, const char *disk)
{
    virDomainBlockJobInfo info;
    struct call_error ignored = {0};
    struct disks disks = {0};
    struct aftermath after = {0};

    bool is_read = call_disks(domain, &disks, &ignored);
    const struct disk *found = disks_find(&disks, disk);
    int jobs = virDomainGetBlockJobInfo(domain, disk, &info, 0);
    after.is_known = is_read && jobs >= 0;
    after.is_ending = found && found->is_ending;
    after.has_job = jobs > 0;
    call_error_clear(&ignored);
    disks_clear(&disks);
    return after;
}

enum verdict call_verdict(virDomainPtr domain, const char *disk, enum verdict_verb verb,
                          const struct call_error *error)
{
    struct aftermath after = {0};
    if (verdict_needs_aftermath(verb, error->code))
        after = look_at(domain, disk);
    return verdict_of(verb, error->code, &after);
}

bool call_start(virDomainPtr domain, const struct start *start, const char *disk,
                struct call_error *ret_error)
{
    int result = start_call(start, domain, disk);
    if (result == BJ_E_NOMEM)
        return no_memory(ret_error);
    return result == 0 ? true : failed(ret_error);
}

/* ----------------------------------------------------------------------- lists */

/* libvirtd sends its events in one turn of its loop, in which it also reads requests: by the turn
 * in which it reads the second, those of before the first are on their way. */
void call_sync(virDomainPtr domain)
{
    for (int i = 0; i < SYNC_CALLS; i++)
        virDomainIsActive(domain);
}

static bool parsed(int error, struct call_error *ret_error)
{
    if (error != BJ_E_PROTOCOL)
        return error == BJ_OK ? true : no_memory(ret_error);
    ret_error->code = VIR_ERR_XML_ERROR;
    ret_error->message = strdup("libvirt's description of the domain can't be read");
    return false;
}

bool call_disks(virDomainPtr domain, struct disks *ret, struct call_error *ret_error)
{
    char *xml = virDomainGetXMLDesc(domain, 0);
    if (!xml)
        return failed(ret_error);
    int r = disks_parse(xml, ret);
    free(xml);
    return parsed(r, ret_error);
}

static void free_row(struct job_row *row)
{
    struct job_list list = {.count = 1, .rows = row};
    job_list_free_rows(&list);
}

/* Takes the row over, whose strings may be NULL for a lack of memory: then the answer is false. */
static bool add_row(struct job_list *list, struct job_row row)
{
    row.info.status = row.info.error = row.info.io_status = "";
    if (row.info.id && row.info.type && row.disks) {
        list->rows[list->count++] = row;
        return true;
    }
    free_row(&row);
    return false;
}

static bool add_disk_row(struct job_list *list, const struct disk *disk, const char *type,
                         const virDomainBlockJobInfo *info)
{
    char *line = NULL;
    if (asprintf(&line, "%s\n", disk->target) < 0)
        line = NULL;
    return add_row(list, (struct job_row){
                             .info.id = strdup(disk->target),
                             .info.type = *type ? strdup(type) : "",
                             .info.current = (int64_t)info->cur,
                             .info.total = (int64_t)info->end,
                             .info.speed = (int64_t)info->bandwidth,
                             .info.ready = disk->has_mirror && disk->mirror_ready,
                             .disks = line,
                         });
}

/* Jobs on the disk; < 0: an error. */
static int look_at_job(virDomainPtr domain, const char *disk, virDomainBlockJobInfo *ret)
{
    *ret = (virDomainBlockJobInfo){0};
    int found =
        virDomainGetBlockJobInfo(domain, disk, ret, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES);
    bool is_unplugged = found < 0 && virGetLastErrorCode() == VIR_ERR_INVALID_ARG;
    return is_unplugged ? 0 : found;
}

/* libvirt lists a migration's copy as it lists any other, and reports it so. But all others are in
 * the domain's XML for as long as they are listed. *disk is what the XML says now. */
static bool is_migration(const struct disk *disk, const virDomainBlockJobInfo *info)
{
    return info->type == FACTS_COPY && !disk->has_mirror;
}

/* What a part of the backup does is in the backup's own row. */
static bool is_part(const virDomainBlockJobInfo *info)
{
    return info->type == FACTS_BACKUP;
}

/* A copy may have begun since the XML was read: what is there now counts. */
static bool add_job_again(virDomainPtr domain, const char *target, struct job_list *list,
                          struct call_error *ret_error)
{
    struct disks now = {0};
    virDomainBlockJobInfo info;

    if (!call_disks(domain, &now, ret_error))
        return false;
    const struct disk *disk = disks_find(&now, target);
    int found = disk ? look_at_job(domain, target, &info) : 0;
    bool went_well = found >= 0 || failed(ret_error);
    if (found > 0 && !is_part(&info)) {
        bool migrates = is_migration(disk, &info);
        const char *type = migrates ? FACTS_MIGRATION : facts_type_name(info.type);
        went_well = add_disk_row(list, disk, type, &info) || no_memory(ret_error);
    }
    disks_clear(&now);
    return went_well;
}

static bool add_job(virDomainPtr domain, const struct disk *disk, struct job_list *list,
                    struct call_error *ret_error)
{
    virDomainBlockJobInfo info;
    int found = look_at_job(domain, disk->target, &info);
    if (found < 0)
        return failed(ret_error);
    if (found > 0 && is_migration(disk, &info))
        return add_job_again(domain, disk->target, list, ret_error);
    return found == 0 || is_part(&info) ||
           add_disk_row(list, disk, facts_type_name(info.type), &info) || no_memory(ret_error);
}

/* Where no job of the whole domain runs there is no backup: to ask for one is an error, which
 * libvirt prints on a connection of the program's. */
static bool may_have_backup(virDomainPtr domain)
{
    virDomainJobInfo info;
    return virDomainGetJobInfo(domain, &info) != 0 || info.type != VIR_DOMAIN_JOB_NONE;
}

/* *ret is NULL where none runs. */
static bool find_backup(virDomainPtr domain, const struct disks *disks, char **ret,
                        struct call_error *ret_error)
{
    *ret = NULL;
    if (!may_have_backup(domain))
        return true;
    char *xml = virDomainBackupGetXMLDesc(domain, 0);
    if (!xml) {
        int code = virGetLastErrorCode();
        bool is_none = code == VIR_ERR_NO_DOMAIN_BACKUP || code == VIR_ERR_NO_SUPPORT;
        return is_none ? true : failed(ret_error);
    }
    int r = disks_in_backup(disks, xml, ret);
    free(xml);
    return parsed(r, ret_error);
}

/* Of one that pulls libvirt counts nothing. */
static void read_progress(virDomainPtr domain, bj_job_info *info)
{
    virTypedParameterPtr parameters = NULL;
    unsigned long long current = 0;
    unsigned long long total = 0;
    int count = 0;
    int type;

    info->current = info->total = info->speed = -1;
    if (virDomainGetJobStats(domain, &type, &parameters, &count, 0) == 0 &&
        virTypedParamsGetULLong(parameters, count, VIR_DOMAIN_JOB_DISK_PROCESSED, &current) > 0 &&
        virTypedParamsGetULLong(parameters, count, VIR_DOMAIN_JOB_DISK_TOTAL, &total) > 0) {
        info->current = (int64_t)current;
        info->total = (int64_t)total;
    }
    virTypedParamsFree(parameters, count);
}

static bool add_backup_row(virDomainPtr domain, struct disks *disks, struct job_list *list,
                           struct call_error *ret_error)
{
    if (!find_backup(domain, disks, &disks->backup, ret_error))
        return false;
    if (!disks->backup)
        return true;
    struct job_row row = {
        .info.id = strdup(BACKUP_ID),
        .info.type = strdup(facts_type_name(FACTS_BACKUP)),
        .disks = strdup(disks->backup),
    };
    read_progress(domain, &row.info);
    return add_row(list, row) ? true : no_memory(ret_error);
}

bool call_rows(virDomainPtr domain, struct disks *disks, struct job_list **ret,
               struct call_error *ret_error)
{
    struct job_list *list = calloc(1, sizeof *list);
    if (list)
        list->rows = calloc(disks->count + 1, sizeof *list->rows);
    bool went_well = (list && list->rows) || no_memory(ret_error);

    for (size_t i = 0; went_well && i < disks->count; i++)
        went_well = add_job(domain, &disks->disks[i], list, ret_error);
    went_well = went_well && add_backup_row(domain, disks, list, ret_error);
    if (went_well)
        *ret = list;
    else
        job_list_free(list);
    return went_well;
}

/* -------------------------------------------------------------------- the backup */

static bool no_backup(struct call_error *ret_error)
{
    ret_error->code = VIR_ERR_INVALID_ARG;
    ret_error->message = strdup("the domain has no backup");
    return false;
}

static bool lacks_backup(virDomainPtr domain)
{
    char *xml = virDomainBackupGetXMLDesc(domain, 0);
    free(xml);
    return !xml && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_BACKUP;
}

/* libvirt ends whatever job the domain has; and the backup may end meanwhile. */
bool call_abort_backup(virDomainPtr domain, struct call_error *ret_error)
{
    if (lacks_backup(domain))
        return no_backup(ret_error);
    if (virDomainAbortJob(domain) == 0)
        return true;
    failed(ret_error);
    if (!lacks_backup(domain))
        return false;
    call_error_clear(ret_error);
    return no_backup(ret_error);
}

/* A part that is over has no speed. libvirt may not know yet that it is, and QEMU refuses. */
static bool part_may_be_over(int code)
{
    return code == VIR_ERR_INVALID_ARG || code == VIR_ERR_INTERNAL_ERROR;
}

/* One part that takes it is enough. */
bool call_set_backup_speed(virDomainPtr domain, int64_t bytes_per_second,
                           struct call_error *ret_error)
{
    struct disks disks = {0};
    bool is_set = false;
    bool went_well = call_disks(domain, &disks, ret_error) &&
                     find_backup(domain, &disks, &disks.backup, ret_error);

    for (size_t i = 0; went_well && i < disks.count; i++) {
        if (!disks_list_has(disks.backup, disks.disks[i].target))
            continue;
        call_error_clear(ret_error);
        bool is_taken = call_set_speed(domain, disks.disks[i].target, bytes_per_second, ret_error);
        is_set |= is_taken;
        went_well = is_taken || part_may_be_over(ret_error->code);
    }
    disks_clear(&disks);
    if (!went_well || (!is_set && ret_error->code == VIR_ERR_INTERNAL_ERROR))
        return false;
    call_error_clear(ret_error);
    return is_set ? true : no_backup(ret_error);
}
