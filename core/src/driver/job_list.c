/* SPDX-License-Identifier: MIT */
/*
 * Rows about jobs; see job_list.h.
 */
#include "driver/job_list.h"

#include <stdlib.h>
#include <string.h>

const struct job_row *job_list_find(const struct job_list *list, const char *id)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->rows[i].info.id, id) == 0)
            return &list->rows[i];
    return NULL;
}

void job_list_free_rows(struct job_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const bj_job_info *row = &list->rows[i].info;
        const char *const strings[] = {row->id, row->type, row->status, row->error, row->io_status};
        for (size_t s = 0; s < sizeof strings / sizeof strings[0]; s++)
            if (strings[s] && *strings[s])
                free((char *)strings[s]);
        free(list->rows[i].disks);
    }
}

void job_list_free(struct job_list *list)
{
    if (!list)
        return;
    job_list_free_rows(list);
    free(list->rows);
    free(list);
}
