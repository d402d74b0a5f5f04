/* SPDX-License-Identifier: MIT */
/*
 * Ends that a QEMU has no event for; see made_up_ends.h.
 */
#include "qmp/made_up_ends.h"

#include <jansson.h>
#include <string.h>

void made_up_ends_add(struct made_up_ends *ends, struct text *id)
{
    text_unref(ends->ids[ends->next]);
    ends->ids[ends->next] = text_ref(id);
    ends->next = (ends->next + 1) % MADE_UP_MAX;
}

void made_up_ends_clear(struct made_up_ends *ends)
{
    for (int i = 0; i < MADE_UP_MAX; i++)
        ends->ids[i] = text_unref(ends->ids[i]);
}

bool made_up_ends_take(struct made_up_ends *ends, const struct fact *fact)
{
    if (fact->kind != FACT_CANCELLED)
        return false;
    for (int i = 0; i < MADE_UP_MAX; i++) {
        if (!ends->ids[i] || strcmp(text_str(ends->ids[i]), fact->id) != 0)
            continue;
        ends->ids[i] = text_unref(ends->ids[i]);
        return true;
    }
    return false;
}

char *made_up_end_data(const struct driver_end *end)
{
    json_t *data = json_pack("{s:s, s:s, s:I, s:I, s:I}", "device", text_str(end->id), "type",
                             end->type, "len", (json_int_t)end->total, "offset",
                             (json_int_t)end->current, "speed", (json_int_t)end->speed);
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(data);
    return text;
}
