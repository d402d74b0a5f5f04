/* SPDX-License-Identifier: MIT */
/*
 * What messages say: what jansson finds in them is found, with its own text; what is read of jobs
 * in them is whole; and what is written can be read back.
 *
 * Input: the text of a message, or of anything else.
 */
#include "base/json_text.h"
#include "fuzz.h"
#include "qmp/block_graph.h"
#include "qmp/frame.h"
#include "qmp/job_words.h"

#include <string.h>

/* ------------------------------------------------------------------- messages */

/* The part's own text is the part, but for numbers that no tree can hold (B55). */
static void check_raw(const struct message *m, const char *text, size_t len)
{
    json_error_t error;
    if (!m->value || m->kind == MESSAGE_GREETING) {
        must(m->raw == NULL, "what is not there has no text");
        return;
    }
    must(m->raw != NULL, "what is there has a text");
    must(m->raw >= text && m->raw + m->raw_len <= text + len, "the text lies in the message");
    json_t *again = json_loadb(m->raw, m->raw_len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (again)
        must(json_equal(again, m->value), "the text is the part's");
    else
        must(json_error_code(&error) == json_error_numeric_overflow, "the text is JSON");
    json_decref(again);
}

static void check_row(const bj_job_info *row)
{
    bool can_be_ready = strcmp(row->type, "mirror") == 0 || strcmp(row->type, "commit") == 0;
    must(row->id && row->type && row->status && row->error && row->io_status,
         "a row's strings are there");
    /* B25, where QEMU tells statuses; an old one tells nothing else (B26). */
    if (can_be_ready && job_status_of(row->status) > STATUS_NONE &&
        job_status_of(row->status) < STATUS_WAITING && row->current >= 0)
        must(row->ready || row->current != row->total, "equal is shown only when it is ready");
}

static void check_rows(const json_t *value)
{
    struct job_list *list = qmp_read_rows(value, value, &(struct row_filter){.limit = 100});
    must(list != NULL, "any list can be read");
    must(list->count <= 100, "no more rows than the limit");
    for (size_t i = 0; i < list->count; i++)
        check_row(&list->rows[i].info);
    job_list_free(list);

    list = qmp_read_rows(value, NULL, &(struct row_filter){.limit = 100});
    must(list != NULL, "any list can be read alone");
    for (size_t i = 0; i < list->count; i++)
        check_row(&list->rows[i].info);
    job_list_free(list);
}

static void check_graph(const json_t *value)
{
    struct qmp_graph *graph = qmp_graph_open(value);
    struct driver_snapshot *snapshot = qmp_graph_snapshot(graph, "j");
    unsigned result = qmp_graph_compare(snapshot, graph, "j");
    must(result <= SWITCHES_NOTHING, "a comparison has one of five results");
    must(snapshot || result == SWITCH_UNKNOWN, "what was not seen before is not known after");
    qmp_free_snapshot(snapshot);
    qmp_graph_close(graph);
}

static void check_fact(const struct message *m)
{
    struct fact fact;
    if (!qmp_read_fact(m, &fact))
        return;
    must(*fact.id && strlen(fact.id) <= 1024, "a fact is about a job");
    must(fact.type && strlen(fact.type) <= 1024, "its type is a string");
    must(fact.kind != FACT_STOPPED || fact.error, "a stop has a reason");
}

static void check_message(const char *text, size_t len)
{
    struct message m;
    const char *reason = NULL;
    int r = message_parse(text, len, &m, &reason);

    must(r == BJ_OK || r == BJ_E_PROTOCOL, "a text is a message or none");
    must(r == BJ_OK || (reason && *reason), "and if none it is told why");
    if (r != BJ_OK)
        return;
    must(m.timestamp_us >= 0, "a time is none before 1970");
    if (m.kind == MESSAGE_EVENT) {
        must(m.name != NULL, "an event has a name");
        check_raw(&m, text, len);
        check_fact(&m);
    } else if (m.kind == MESSAGE_RETURN) {
        check_raw(&m, text, len);
        check_rows(m.value);
        check_graph(m.value);
    } else if (m.kind == MESSAGE_ERROR) {
        must(m.name && m.text, "an error has a class and a text");
    }
    message_clear(&m);
}

/* -------------------------------------------------------------------- commands */

/* NOLINTNEXTLINE(readability-non-const-parameter): a reader gets its text so */
static int count_message(void *user, char *text, size_t len)
{
    (void)text, (void)len;
    ++*(int *)user;
    return 0;
}

/* One line, one message. */
static void check_command(const char *name, const char *arguments)
{
    size_t len;
    int messages = 0;
    const char *reason;
    struct frame frame;
    const struct frame_reader reader = {.read = count_message, .user = &messages};
    char *line = message_command(name, arguments, 18446744073709551615u, false, &len);
    if (!line)
        return; /* the name is not UTF-8 */

    must(len == strlen(line) && strcmp(line + len - 2, "\r\n") == 0, "a command ends its line");
    frame_init(&frame, &(struct frame_limits){.bytes = len, .tokens = len, .nesting = 1100});
    must(frame_feed(&frame, line, len, &reader, &reason) == 0 && messages == 1 &&
             frame_is_empty(&frame),
         "a command is one message");
    frame_clear(&frame);
    free(line);
}

static void check_quote(const char *text)
{
    char *quoted = json_text_quote(text);
    json_t *plain = json_string(text);
    must((quoted != NULL) == (plain != NULL), "what is UTF-8 can be quoted, and nothing else");
    if (quoted) {
        json_t *again = json_loads(quoted, JSON_DECODE_ANY, NULL);
        must(json_equal(again, plain), "a quoted string is the string");
        json_decref(again);
    }
    json_decref(plain);
    free(quoted);
}

static void check_arguments(const char *text)
{
    json_t *object = json_text_object(text, NULL);
    if (!object)
        return;
    size_t size = json_object_size(object);
    char *joined = json_text_add_members(text, "\"bj-\\u0001\":1");
    must(joined != NULL, "there is memory");
    json_t *both = json_text_object(joined, NULL);
    must(json_object_get(object, "bj-\1") || json_object_size(both) == size + 1,
         "a member is added to what is there");
    check_command("x", joined);
    json_decref(both);
    json_decref(object);
    free(joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    size_t len;
    char *text = take_text(&input, &len);

    check_message(text, len);
    check_quote(text);
    check_arguments(text);
    check_command(text, NULL);
    free(text);
    return 0;
}
