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

struct command_set *command_set_get(bj_ctx *ctx, const json_t *commands)
{
    json_t *names = read_names(commands);
    if (!names)
        return NULL;

    for (struct command_set *set = ctx->command_sets; set; set = set->next) {
        if (json_equal(set->names, names)) {
            json_decref(names);
            set->refs++;
            return set;
        }
    }

    struct command_set *set = malloc(sizeof *set);
    if (!set) {
        json_decref(names);
        return NULL;
    }
    *set = (struct command_set){.next = ctx->command_sets, .refs = 1, .names = names};
    ctx->command_sets = set;
    return set;
}

void command_set_unref(bj_ctx *ctx, struct command_set *set)
{
    if (!set || --set->refs > 0)
        return;
    struct command_set **link = &ctx->command_sets;
    while (*link != set)
        link = &(*link)->next;
    *link = set->next;
    json_decref(set->names);
    free(set);
}

bool command_set_has(const struct command_set *set, const char *command)
{
    return set && json_object_get(set->names, command);
}
