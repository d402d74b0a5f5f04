/* SPDX-License-Identifier: MIT */
/*
 * Raw commands.
 */
#include "api/job.h"
#include "api/request.h"
#include "base/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A verb that the program sends by itself: its job is to know, or it would take it for another
 * client's. */
static void note_verb(struct request *request, struct driver *driver)
{
    if (!driver->ops->is_verb || !driver->ops->is_verb(driver, request->command, request->arguments,
                                                       &request->raw.verb, &request->raw_id))
        return;
    request->raw.id = request->raw_id;
    tracker_raw(&request->monitor->tracker, &request->raw);
}

/* NULL; or why this peer can't be given the command as it is. */
static struct text *find_obstacle(const struct request *request, const struct driver *driver)
{
    const struct capabilities *peer = &driver->capabilities;
    const char *uri = text_str(request->monitor->uri);
    const char *version = bj_monitor_qemu_version(request->monitor);
    const char *space = *version ? " " : ""; /* libvirt does not tell which it is */

    if (request->descriptors && !peer->passes_descriptors)
        return text_printf(
            "%s: descriptors can't go with %s: only a UNIX socket of QEMU takes them", uri,
            request->command);
    if (!request->out_of_band || peer->executes_out_of_band)
        return NULL;
    return peer->offers_out_of_band
               ? text_printf("%s: QEMU %s was not asked to execute commands such as %s out of "
                             "band: connect with the option out_of_band",
                             uri, version, request->command)
               : text_printf("%s: %s can't be executed out of band: QEMU%s%s does not offer that "
                             "here (4.0 and later do, on a socket)",
                             uri, request->command, space, version);
}

static int send_execute(struct request *request, struct driver *driver)
{
    request->why = find_obstacle(request, driver);
    if (request->why)
        return BJ_E_UNSUPPORTED;
    int r = driver->ops->execute(driver, &request->driver_request,
                                 &(struct driver_command){
                                     .name = request->command,
                                     .arguments = request->arguments,
                                     .descriptors = request->descriptors,
                                     .out_of_band = request->out_of_band,
                                 });
    if (r != BJ_OK)
        return r;
    request->descriptors = NULL;
    note_verb(request, driver);
    return BJ_OK;
}

static void execute_over(struct request *request, const struct driver_reply *reply)
{
    if (!request->raw_id)
        return;
    if (request->raw.run)
        job_notify_listeners(job_of(request->raw.run));
    tracker_raw_replied(&request->monitor->tracker, &request->raw, request_result(reply));
}

static void execute_replied(struct request *request, struct driver_reply *reply)
{
    struct text *json = text_new(reply->json, reply->json_len);
    if (json)
        future_answer(&request->future, &(struct future_result){.json = json});
    else
        future_fail(&request->future, BJ_E_NOMEM, "%s", bj_error_text(BJ_E_NOMEM));
}

/* What the options of the first release end with. */
#define SHORTEST_OPTIONS (offsetof(bj_execute_options, out_of_band) + sizeof(bool))

/* NULL; or why they make no sense. */
static bj_future *read_options(bj_ctx *ctx, const bj_execute_options *given,
                               bj_execute_options *ret)
{
    *ret = (bj_execute_options){0};
    if (!given)
        return NULL;
    if (!options_read(ret, sizeof *ret, given, given->size, SHORTEST_OPTIONS))
        return future_failed(ctx, BJ_E_INVAL,
                             "the size of bj_execute_options is %zu: it must be sizeof it",
                             given->size);
    if (ret->fd_count > DRIVER_DESCRIPTORS_MAX)
        return future_failed(ctx, BJ_E_INVAL,
                             "%zu descriptors are too many for one command: QEMU receives %d",
                             ret->fd_count, DRIVER_DESCRIPTORS_MAX);
    if (ret->fd_count > 0 && !ret->fds)
        return future_failed(ctx, BJ_E_INVAL, "the array of %zu descriptors is NULL",
                             ret->fd_count);
    if (ret->fd_count > 0 && ret->out_of_band)
        return future_failed(ctx, BJ_E_INVAL,
                             "descriptors can't go with a command that is executed out of band");
    return NULL;
}

/* NULL; or the failed future. */
static bj_future *take_options(struct request *request, const bj_execute_options *options)
{
    bj_ctx *ctx = request->monitor->ctx;
    size_t bad = 0;

    request->out_of_band = options->out_of_band;
    if (options->fd_count == 0)
        return NULL;
    int r = descriptors_duplicate(options->fds, options->fd_count, &request->descriptors, &bad);
    int error = errno;
    if (r == BJ_E_INVAL)
        return future_failed(ctx, r, "%s: descriptor %d (the %zu. of %zu) is not open",
                             request->command, options->fds[bad], bad + 1, options->fd_count);
    if (r == BJ_E_SYSTEM)
        return future_failed(ctx, r,
                             "%s: a descriptor can't be duplicated: %s: close files, or raise the "
                             "limit of open files (ulimit -n)",
                             request->command, strerror(error));
    return r == BJ_OK ? NULL : future_static(r);
}

bj_future *bj_monitor_execute_with(bj_monitor *monitor, const char *command, const char *arguments,
                                   const bj_execute_options *options, int64_t timeout_ms)
{
    static const struct request_kind kind = {
        .send = send_execute,
        .replied = execute_replied,
        .over = execute_over,
    };
    bj_execute_options read;
    bj_future *failed;
    struct request *request = request_new(monitor, &kind, timeout_ms, &failed);
    if (!request)
        return failed;
    failed = request_set_command(request, command, arguments);
    if (failed)
        return failed;
    failed = read_options(monitor->ctx, options, &read);
    if (!failed)
        failed = take_options(request, &read);
    if (!failed)
        return future_launch(&request->future, timeout_ms, BJ_LIMIT_COMMAND_MS);
    bj_future_unref(&request->future);
    return failed;
}

bj_future *bj_monitor_execute(bj_monitor *monitor, const char *command, const char *arguments,
                              int64_t timeout_ms)
{
    return bj_monitor_execute_with(monitor, command, arguments, NULL, timeout_ms);
}
