/* SPDX-License-Identifier: MIT */
/*
 * The commands that start jobs; see start_commands.h.
 */
#include "qmp/start_commands.h"

#include <string.h>

static const struct starter table[STARTERS] = {
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
    for (int i = 0; command && i < STARTERS; i++)
        if (strcmp(table[i].command, command) == 0)
            return i;
    return -1;
}

const struct starter *starter_of(const char *command)
{
    int i = index_of(command);
    return i < 0 ? NULL : &table[i];
}

/* Job ids came with 2.7, auto-dismiss with 2.12, 3.0 and 3.1, a command at a time. 4.0 has both
 * everywhere, and is recognised by its query of the block graph; before 2.5, which had no schema,
 * there was neither. In between only the schema tells. */
void starters_init(struct starters *starters, qmp_has_command *has, void *user)
{
    *starters = (struct starters){.modern = has(user, "x-debug-query-block-graph")};
    starters->known = starters->modern || !has(user, "query-qmp-schema");
    if (starters->modern)
        for (int i = 0; i < STARTERS; i++)
            starters->takes[i] =
                table[i].auto_dismisses ? TAKES_JOB_ID | TAKES_AUTO_DISMISS : TAKES_JOB_ID;
}

int starters_take(const struct starters *starters, const char *command)
{
    int i = index_of(command);
    if (!starters->known)
        return -1;
    if (i >= 0)
        return starters->takes[i];
    return starters->modern ? TAKES_JOB_ID : 0;
}

void starters_wait(struct starters *starters, struct driver_request *request)
{
    struct driver_request **last = &starters->waiting;
    while (*last)
        last = &(*last)->next;
    request->next = NULL;
    *last = request;
    starters->waiting_count++;
}

bool starters_leave(struct starters *starters, const struct driver_request *request)
{
    for (struct driver_request **link = &starters->waiting; *link; link = &(*link)->next) {
        if (*link == request) {
            *link = request->next;
            starters->waiting_count--;
            return true;
        }
    }
    return false;
}

void starters_answer(struct starters *starters, struct driver_reply *reply)
{
    while (starters->waiting) {
        struct driver_request *request = starters->waiting;
        starters->waiting = request->next;
        starters->waiting_count--;
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
void starters_learn(struct starters *starters, const json_t *schema)
{
    const json_t *types[STARTERS] = {0};
    size_t i;
    const json_t *entry;

    json_array_foreach(schema, i, entry)
    {
        int starter = index_of(json_string_value(json_object_get(entry, "name")));
        if (starter >= 0 && is_of(entry, "command"))
            types[starter] = json_object_get(entry, "arg-type");
    }
    json_array_foreach(schema, i, entry)
    {
        for (int s = 0; s < STARTERS; s++)
            if (types[s] && json_equal(types[s], json_object_get(entry, "name")) &&
                is_of(entry, "object"))
                starters->takes[s] = members_taken(entry);
    }
    starters->known = true;
}
