/* SPDX-License-Identifier: MIT */
/*
 * QEMU's words for jobs: events into facts, verbs into commands, lists into rows. No I/O.
 */
#ifndef BJ_QMP_JOB_WORDS_H
#define BJ_QMP_JOB_WORDS_H

#include "driver/driver.h"
#include "driver/job_list.h"
#include "qmp/message.h"

/* The class of the errors that refuse a verb because there is no such job. */
#define QMP_NO_SUCH_JOB "DeviceNotActive"

/* RHEL 6.3 has this instead of complete, for a mirror (B59). */
#define QMP_REOPEN "__com.redhat_drive-reopen"

/* False if the event is not about a job, or does not say about which (B49, B50). The fact's strings
 * belong to the message. */
bool qmp_read_fact(const struct message *event, struct fact *ret);

/* The command for a verb; `has` tells which commands there are. NULL: this QEMU has none. */
typedef bool qmp_has_command(void *user, const char *command);
const char *qmp_verb_command(enum verb verb, const char *type, qmp_has_command *has, void *user);

/* Its arguments, as text for free(). NULL: no memory. */
char *qmp_verb_arguments(const char *command, enum verb verb, const char *id, int64_t speed,
                         qmp_has_command *has, void *user);

/* The arguments of VERB_CHANGE: `options`, a JSON object without an id, and whose job it is. As
 * text for free(). NULL: no memory. */
char *qmp_change_arguments(const char *id, const char *type, const char *options);

/* Which rows are read: the first `limit`, and those that are wanted. */
struct row_filter {
    size_t limit;
    bool (*wants_row)(void *user, const char *id); /* NULL: no more */
    void *user;
};

/* The rows of query-block-jobs and of query-jobs (NULL before 3.0), a row a job. NULL: no memory.
 */
struct job_list *qmp_read_rows(const json_t *block_jobs, const json_t *jobs,
                               const struct row_filter *filter);

/* The id of the job whose verb the command is; NULL: it is none. `arguments` may be NULL. */
const char *qmp_verb_of(const char *command, const json_t *arguments, enum verb *ret_verb);

#endif
