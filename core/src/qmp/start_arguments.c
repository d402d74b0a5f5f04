/* SPDX-License-Identifier: MIT */
/*
 * What a run that is about to be started is called on the QEMU at hand; see start_arguments.h.
 */
#include "qmp/start_arguments.h"
#include "base/ctx.h"
#include "qmp/start_commands.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *new_id(bj_ctx *ctx)
{
    char *id = NULL;
    int len = asprintf(&id, "bj-%016llx-%llu", (unsigned long long)ctx->job_id_prefix,
                       (unsigned long long)++ctx->job_ids);
    return len < 0 ? NULL : id;
}

/* The command, or the name that this QEMU has for it. */
static const char *word_of(struct driver *driver, const char *command)
{
    bool is_stream = strcmp(command, "block-stream") == 0;
    bool is_old = is_stream && !driver->ops->has_command(driver, command) &&
                  driver->ops->has_command(driver, "block_stream");
    return is_old ? "block_stream" : command;
}

static char *added_members(const char *id, bool add_dismiss)
{
    char *members = NULL;
    int len =
        asprintf(&members, "%s%s%s%s%s", id ? "\"job-id\":\"" : "", id ? id : "", id ? "\"" : "",
                 id && add_dismiss ? "," : "", add_dismiss ? "\"auto-dismiss\":false" : "");
    return len < 0 ? NULL : members;
}

/* RHEL 6.3 has no complete; there __com.redhat_drive-reopen in sync ends the mirror and opens its
 * copy (B59). Without the format QEMU would guess it from what the guest has written. NULL: *ret_r
 * tells whether memory is short. */
static struct text *reopen_arguments(const char *command, const json_t *arguments, int *ret_r)
{
    const char *device = json_string_value(json_object_get(arguments, "device"));
    const char *target = json_string_value(json_object_get(arguments, "target"));
    const char *format = json_string_value(json_object_get(arguments, "format"));

    *ret_r = BJ_OK;
    if (strcmp(command, "__com.redhat_drive-mirror") != 0 || !device || !target || !format)
        return NULL;
    json_t *reopen =
        json_pack("{s:s, s:s, s:s}", "device", device, "new-image-file", target, "format", format);
    char *json = reopen ? json_dumps(reopen, JSON_COMPACT) : NULL;
    struct text *text = json ? text_new(json, strlen(json)) : NULL;
    json_decref(reopen);
    free(json);
    *ret_r = text ? BJ_OK : BJ_E_NOMEM;
    return text;
}

int qmp_make_plan(struct driver *driver, bj_ctx *ctx, const char *given_command,
                  const json_t *arguments, struct start_plan *ret)
{
    const char *command = word_of(driver, given_command);
    const struct start_command *known = start_command_find(command);
    unsigned takes = (unsigned)driver->ops->takes(driver, command);
    const char *given = json_string_value(json_object_get(arguments, "job-id"));
    const char *device = json_string_value(json_object_get(arguments, "device"));
    const json_t *auto_dismiss = json_object_get(arguments, "auto-dismiss");

    /* A QEMU without a schema is older than job ids; RHEL 6.2 ignores what it does not know. */
    bool can_name = takes & TAKES_JOB_ID || driver->ops->has_command(driver, "query-qmp-schema");
    bool add_id = !given && takes & TAKES_JOB_ID;
    bool add_dismiss =
        !auto_dismiss && takes & TAKES_AUTO_DISMISS && driver->capabilities.has_dismiss;
    bool stays = !known || !known->auto_dismisses; /* a job that QEMU itself never dismisses */
    char *id = add_id              ? new_id(ctx)
               : given && can_name ? strdup(given)
                                   : strdup(device ? device : "");

    int r;
    *ret = (struct start_plan){
        .command = command,
        .run_data = reopen_arguments(command, arguments, &r),
        .id = id,
        .has_own_id = add_id,
        .members = id ? added_members(add_id ? id : NULL, add_dismiss) : NULL,
        .device = device ? strdup(device) : NULL,
        .type = known ? known->type : "",
        .kept = json_is_false(auto_dismiss),
        .replaces = json_object_get(arguments, "replaces") != NULL,
        .ours = add_dismiss || (stays && !auto_dismiss && driver->capabilities.has_status),
    };
    if (r == BJ_OK && ret->members && (!device || ret->device))
        return BJ_OK;
    start_plan_clear(ret);
    return BJ_E_NOMEM;
}
