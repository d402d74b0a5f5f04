/* SPDX-License-Identifier: MIT */
/*
 * The commands that start jobs; see start_commands.h.
 */
#include "qmp/start_commands.h"

#include <string.h>

static const struct start_command table[START_COMMANDS] = {
    {"blockdev-mirror", "mirror", true},
    {"drive-mirror", "mirror", true},
    {"block-commit", "commit", true},
    {"block-stream", "stream", true},
    {"blockdev-backup", "backup", true},
    {"drive-backup", "backup", true},
    {"blockdev-create", "create", false},
    {"block_stream", "stream", false},              /* RHEL 6.2, 1.0.50 */
    {"__com.redhat_drive-mirror", "mirror", false}, /* RHEL 6.3 */
    {"__com.redhat_block-commit", "commit", false}, /* RHEL 6.8 */
};

static int index_of(const char *command)
{
    for (int i = 0; command && i < START_COMMANDS; i++)
        if (strcmp(table[i].command, command) == 0)
            return i;
    return -1;
}

const struct start_command *start_command_find(const char *command)
{
    int i = index_of(command);
    return i < 0 ? NULL : &table[i];
}

/* Job ids came with 2.7, auto-dismiss with 2.12, 3.0 and 3.1, a command at a time. 4.0 has both
 * everywhere, and is recognised by its query of the block graph; before 2.5, which had no schema,
 * there was neither. In between only the schema tells. */
void start_commands_init(struct start_commands *commands, qmp_has_command *has, void *user)
{
    *commands = (struct start_commands){.modern = has(user, "x-debug-query-block-graph")};
    commands->known = commands->modern || !has(user, "query-qmp-schema");
    if (commands->modern)
        for (int i = 0; i < START_COMMANDS; i++)
            commands->takes[i] =
                table[i].auto_dismisses ? TAKES_JOB_ID | TAKES_AUTO_DISMISS : TAKES_JOB_ID;
}

int start_commands_take(const struct start_commands *commands, const char *command)
{
    int i = index_of(command);
    if (!commands->known)
        return -1;
    if (i >= 0)
        return commands->takes[i];
    return commands->modern ? TAKES_JOB_ID : 0;
}

void start_commands_wait(struct start_commands *commands, struct driver_request *request)
{
    struct driver_request **last = &commands->waiting;
    while (*last)
        last = &(*last)->next;
    request->next = NULL;
    *last = request;
    commands->waiting_count++;
}

bool start_commands_leave(struct start_commands *commands, const struct driver_request *request)
{
    for (struct driver_request **link = &commands->waiting; *link; link = &(*link)->next) {
        if (*link == request) {
            *link = request->next;
            commands->waiting_count--;
            return true;
        }
    }
    return false;
}

void start_commands_answer(struct start_commands *commands, struct driver_reply *reply)
{
    while (commands->waiting) {
        struct driver_request *request = commands->waiting;
        commands->waiting = request->next;
        commands->waiting_count--;
        request->done(request, reply);
    }
}

static unsigned char members_taken(const json_t *type)
{
    unsigned char takes = 0;
    size_t i;
    const json_t *member;

    json_array_foreach(json_object_get(type, "members"), i, member)
    {
        const char *name = json_string_value(json_object_get(member, "name"));
        if (name && strcmp(name, "job-id") == 0)
            takes |= TAKES_JOB_ID;
        else if (name && strcmp(name, "auto-dismiss") == 0)
            takes |= TAKES_AUTO_DISMISS;
    }
    return takes;
}

static bool is_of(const json_t *entry, const char *meta_type)
{
    const char *value = json_string_value(json_object_get(entry, "meta-type"));
    return value && strcmp(value, meta_type) == 0;
}

/* A command names the type of its arguments, which may stand anywhere. */
void start_commands_learn(struct start_commands *commands, const json_t *schema)
{
    const json_t *types[START_COMMANDS] = {0};
    size_t i;
    const json_t *entry;

    json_array_foreach(schema, i, entry)
    {
        int command = index_of(json_string_value(json_object_get(entry, "name")));
        if (command >= 0 && is_of(entry, "command"))
            types[command] = json_object_get(entry, "arg-type");
    }
    json_array_foreach(schema, i, entry)
    {
        for (int s = 0; s < START_COMMANDS; s++)
            if (types[s] && json_equal(types[s], json_object_get(entry, "name")) &&
                is_of(entry, "object"))
                commands->takes[s] = members_taken(entry);
    }
    commands->known = true;
}
