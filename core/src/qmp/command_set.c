/* SPDX-License-Identifier: MIT */
/*
 * Shared sets of commands; see command_set.h.
 */
#include "qmp/command_set.h"

#include <stdlib.h>
#include <string.h>

struct command_set {
    struct command_set *next;
    unsigned refs;
    json_t *names; /* an object, name -> true */
    size_t len;
    char json[]; /* what it was read from: a QEMU of the same build sends the same */
};

static json_t *read_names(const json_t *commands)
{
    json_t *names = json_object();
    size_t i;
    const json_t *command;

    json_array_foreach(commands, i, command)
    {
        const char *name = json_string_value(json_object_get(command, "name"));
        if (name && json_object_set_new(names, name, json_true()) != 0) {
            json_decref(names);
            return NULL;
        }
    }
    return names;
}

struct command_set *command_set_find(bj_ctx *ctx, const char *json, size_t len)
{
    for (struct command_set *set = ctx->command_sets; set; set = set->next) {
        if (set->len == len && memcmp(set->json, json, len) == 0) {
            set->refs++;
            return set;
        }
    }
    return NULL;
}

static void free_set(struct command_set *set)
{
    json_decref(set->names);
    free(set);
}

/* Those that nobody uses, but for `kept`. */
static void free_unused(bj_ctx *ctx, const struct command_set *kept)
{
    struct command_set **link = &ctx->command_sets;
    while (*link) {
        struct command_set *set = *link;
        if (set->refs > 0 || set == kept) {
            link = &set->next;
            continue;
        }
        *link = set->next;
        free_set(set);
    }
}

static void free_all(bj_ctx *ctx)
{
    free_unused(ctx, NULL);
}

struct command_set *command_set_new(bj_ctx *ctx, const char *json, size_t len,
                                    const json_t *commands)
{
    struct command_set *set = malloc(sizeof *set + len);
    json_t *names = set ? read_names(commands) : NULL;
    if (!names) {
        free(set);
        return NULL;
    }
    *set = (struct command_set){.next = ctx->command_sets, .refs = 1, .names = names, .len = len};
    memcpy(set->json, json, len);
    ctx->command_sets = set;
    ctx->free_command_sets = free_all;
    return set;
}

void command_set_unref(bj_ctx *ctx, struct command_set *set)
{
    if (set && --set->refs == 0)
        free_unused(ctx, set);
}

bool command_set_has(const struct command_set *set, const char *command)
{
    return set && json_object_get(set->names, command);
}
