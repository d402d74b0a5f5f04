/* SPDX-License-Identifier: MIT */
/*
 * Rows about jobs; see job_list.h.
 */
#include "driver/job_list.h"

#include <stdlib.h>
#include <string.h>

const bj_job_info *info_list_find(const struct info_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->rows[i].id, id) == 0)
            return &list->rows[i];
    return NULL;
}

void info_list_free_rows(struct info_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const bj_job_info *row = &list->rows[i];
        const char *const strings[] = {row->id, row->type, row->status, row->error, row->io_status};
        for (size_t s = 0; s < sizeof strings / sizeof strings[0]; s++)
            if (strings[s] && *strings[s])
                free((char *)strings[s]);
    }
}

void info_list_free(struct info_list *list)
{
    if (!list)
        return;
    info_list_free_rows(list);
    free(list->rows);
    free(list);
}
