/* SPDX-License-Identifier: MIT */
/*
 * The QMP driver, for its own files: the connection (connection.c), its negotiation (handshake.c),
 * its requests (requests.c), and snapshots of what uses a disk (snapshots.c). The loop's thread.
 */
#ifndef BJ_QMP_QMP_H
#define BJ_QMP_QMP_H

#include "base/ctx.h"
#include "driver/driver.h"
#include "driver/wire.h"
#include "qmp/command_set.h"
#include "qmp/frame.h"
#include "qmp/made_up_ends.h"
#include "qmp/message.h"
#include "qmp/outbox.h"
#include "qmp/start_commands.h"

struct graph_request;

enum stage { QMP_CONNECTING, QMP_GREETING, QMP_NEGOTIATING, QMP_UP, QMP_DOWN };

struct qmp {
    struct driver driver;
    const struct driver_sink *sink;
    void *user;
    bj_ctx *ctx;
    struct text *uri; /* what texts call it */
    struct wire_tap *tap;
    enum stage stage;

    struct dial *dial;
    int fd;
    bool is_duplicate; /* the socket itself is the caller's: fd:N */
    struct loop_io *io;
    struct frame frame;
    struct loop_task refuse_task; /* of what is unsendable */
    bool refusing;                /* it is on its way */
    struct loop_task free_task;

    struct command_set *commands;
    const char *complete; /* its command; NULL: none. READY does not have to look it up */
    struct start_commands start_commands;
    struct text *version;
    struct driver_request handshake;
    bool wants_out_of_band; /* the program does */
    bool offers_out_of_band;
    bool passes_descriptors;
    struct driver_request graph_query;
    struct graph_request *graph_requests_sent;    /* answered by the query under way */
    struct graph_request *graph_requests_waiting; /* and by the next one */
    struct made_up_ends made_up_ends;

    struct outbox outbox;
};

static inline struct qmp *qmp_of(struct driver *driver)
{
    return (struct qmp *)driver;
}

static inline const char *qmp_uri(const struct qmp *qmp)
{
    return text_str(qmp->uri);
}

/* `user` is the struct qmp: a qmp_has_command. */
static inline bool qmp_knows_command(void *user, const char *command)
{
    return command_set_has(((const struct qmp *)user)->commands, command);
}

/* -------------------------------------------------------------- connection.c */

/* BJ_OK; or why nothing was asked: BJ_E_DISCONNECTED, BJ_E_NOMEM. */
int qmp_ask(struct qmp *qmp, struct driver_request *request, const char *name,
            const char *arguments, bool urgent);

/* The value that a command returned, as a tree that belongs to the reply. NULL: reply->error says
 * why there is none. */
const json_t *qmp_reply_value(struct driver_reply *reply);

/* Sends a command that was made before; takes it over. */
void qmp_submit(struct qmp *qmp, struct command *command, struct driver_request *request);

/* Ends the connection and answers everything; the rest of the stack may still touch qmp. Takes over
 * the reference to `text`. */
void qmp_go_down(struct qmp *qmp, int error, struct text *text);

/* --------------------------------------------------------------- handshake.c */

void qmp_read_greeting(struct qmp *qmp, const struct message *message);
struct text *qmp_stage(struct driver *driver, int64_t timeout_ms);

/* ---------------------------------------------------------------- requests.c */

int qmp_execute(struct driver *driver, struct driver_request *request,
                const struct driver_command *command);
bool qmp_withdraw(struct driver *driver, struct driver_request *request);
bool qmp_is_owed(struct driver *driver);
void qmp_abandon(struct driver *driver, int error, const char *text);
bool qmp_has(struct driver *driver, const char *command);
int qmp_takes(struct driver *driver, const char *command);
int qmp_probe(struct driver *driver, struct driver_request *request);
bool qmp_is_verb(struct driver *driver, const char *command, const char *arguments,
                 enum verb *ret_verb, char **ret_id);
void qmp_prepare(struct driver *driver, struct driver_request *request, const char *id);
void qmp_unprepare(struct driver_request *request);
int qmp_transaction(struct driver *driver, struct driver_request *request, const char *actions,
                    bool grouped);
int qmp_verb(struct driver *driver, struct driver_request *request, const struct driver_verb *verb);
void qmp_make_up_end(struct driver *driver, const struct driver_end *end);
int qmp_query(struct driver *driver, struct driver_request *request, bool urgent);
int qmp_plan_start(struct driver *driver, const char *command, const struct json_t *arguments,
                   struct start_plan *ret);
const char *qmp_id_of(struct driver *driver, const char *name);

/* --------------------------------------------------------------- snapshots.c */

int qmp_take_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                      const char *device, bool urgent);
int qmp_compare_snapshot(struct driver *driver, struct driver_request *request, const char *id,
                         const struct driver_snapshot *before);

/* A command is over: a query of the graph that yielded to it may go now. */
void qmp_query_waiting_graph(struct qmp *qmp);

/* Answers the requests for the graph that no query was sent for yet. */
void qmp_fail_waiting_graph(struct qmp *qmp, int error, const char *text);

#endif
