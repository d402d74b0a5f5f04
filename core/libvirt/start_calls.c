/* SPDX-License-Identifier: MIT */
/*
 * The commands that start a domain's jobs; see start_calls.h.
 */
#include "start_parts.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -------------------------------------------------------------------- tables */

/* A word, and the flag of the call that it stands for; 0: none is needed. */
struct word {
    const char *name;
    unsigned flag;
};

enum { NO_SUCH_FLAG = 1U << 30 }; /* this libvirt is too old for it */

#if LIBVIR_CHECK_VERSION(8, 0, 0)
#define SYNCHRONOUS_WRITES VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
#else
#define SYNCHRONOUS_WRITES NO_SUCH_FLAG
#endif

static const struct word copy_flags[] = {
    {"SHALLOW", VIR_DOMAIN_BLOCK_COPY_SHALLOW},
    {"REUSE_EXT", VIR_DOMAIN_BLOCK_COPY_REUSE_EXT},
    {"TRANSIENT_JOB", VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB},
    {"SYNCHRONOUS_WRITES", SYNCHRONOUS_WRITES},
    {NULL, 0},
};
static const struct word commit_flags[] = {
    {"SHALLOW", VIR_DOMAIN_BLOCK_COMMIT_SHALLOW},
    {"DELETE", VIR_DOMAIN_BLOCK_COMMIT_DELETE},
    {"ACTIVE", VIR_DOMAIN_BLOCK_COMMIT_ACTIVE},
    {"RELATIVE", VIR_DOMAIN_BLOCK_COMMIT_RELATIVE},
    {NULL, 0},
};
static const struct word rebase_flags[] = {
    {"SHALLOW", VIR_DOMAIN_BLOCK_REBASE_SHALLOW},
    {"REUSE_EXT", VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT},
    {"COPY_RAW", VIR_DOMAIN_BLOCK_REBASE_COPY_RAW},
    {"COPY", VIR_DOMAIN_BLOCK_REBASE_COPY},
    {"RELATIVE", VIR_DOMAIN_BLOCK_REBASE_RELATIVE},
    {"COPY_DEV", VIR_DOMAIN_BLOCK_REBASE_COPY_DEV},
    {NULL, 0},
};
static const struct word backup_flags[] = {
    {"REUSE_EXTERNAL", VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL},
    {NULL, 0},
};
static const struct word mirror_syncs[] = {
    {"full", 0}, {"top", VIR_DOMAIN_BLOCK_COPY_SHALLOW}, {NULL, 0}};
static const struct word backup_syncs[] = {{"full", 0}, {NULL, 0}};
static const struct word copy_modes[] = {
    {"background", 0}, {"write-blocking", SYNCHRONOUS_WRITES}, {NULL, 0}};
static const struct word backup_modes[] = {{"push", 0}, {"pull", 0}, {NULL, 0}};
static const struct word target_types[] = {{"file", 0}, {"block", 0}, {NULL, 0}};

enum kind {
    IS_STRING,  /* not empty; `place` is an enum string */
    IS_WORD,    /* the same, or NOT_KEPT; one of `words` */
    IS_NUMBER,  /* 0 to `max`; `place` is an enum number */
    IS_BOOLEAN, /* whether `flag` is set */
    IS_PATHS,   /* an object, of disks and their paths */
    IS_FLAGS    /* an array of `words` */
};

struct member {
    const char *name;
    enum kind kind;
    int place;
    bool required;
    const struct word *words;
    unsigned flag;
    unsigned long long max;
};

static const struct member mirror_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"target", IS_STRING, .place = TARGET, .required = true},
    {"sync", IS_WORD, .place = NOT_KEPT, .required = true, .words = mirror_syncs},
    {"target-type", IS_WORD, .place = TARGET_TYPE, .words = target_types},
    {"format", IS_STRING, .place = FORMAT},
    {"reuse", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COPY_REUSE_EXT},
    {"transient", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB},
    {"copy-mode", IS_WORD, .place = NOT_KEPT, .words = copy_modes},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULLONG_MAX},
    {"speed", IS_NUMBER, .place = BANDWIDTH, .max = ULLONG_MAX},
    {"granularity", IS_NUMBER, .place = GRANULARITY, .max = UINT_MAX},
    {"buf-size", IS_NUMBER, .place = BUF_SIZE, .max = ULLONG_MAX},
    {.name = NULL},
};
static const struct member block_commit_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"top", IS_STRING, .place = TOP},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"speed", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"active", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_ACTIVE},
    {"shallow", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_SHALLOW},
    {"relative", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_RELATIVE},
    {"delete", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_COMMIT_DELETE},
    {.name = NULL},
};
static const struct member stream_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"speed", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"relative", IS_BOOLEAN, .flag = VIR_DOMAIN_BLOCK_REBASE_RELATIVE},
    {.name = NULL},
};
static const struct member blockdev_backup_members[] = {
    {"device", IS_STRING, .place = DISK, .required = true},
    {"target", IS_STRING, .place = TARGET, .required = true},
    {"sync", IS_WORD, .place = NOT_KEPT, .required = true, .words = backup_syncs},
    {"target-type", IS_WORD, .place = TARGET_TYPE, .words = target_types},
    {"format", IS_STRING, .place = FORMAT},
    {"reuse", IS_BOOLEAN, .flag = VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL},
    {.name = NULL},
};
static const struct member backup_members[] = {
    {"disks", IS_PATHS, .required = true},
    {"mode", IS_WORD, .place = MODE, .words = backup_modes},
    {"server", IS_STRING, .place = SERVER},
    {"incremental", IS_STRING, .place = INCREMENTAL},
    {"checkpoint", IS_STRING, .place = CHECKPOINT},
    {"target-type", IS_WORD, .place = TARGET_TYPE, .words = target_types},
    {"format", IS_STRING, .place = FORMAT},
    {"reuse", IS_BOOLEAN, .flag = VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL},
    {.name = NULL},
};
static const struct member copy_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"destxml", IS_STRING, .place = XML, .required = true},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULLONG_MAX},
    {"granularity", IS_NUMBER, .place = GRANULARITY, .max = UINT_MAX},
    {"buf-size", IS_NUMBER, .place = BUF_SIZE, .max = ULLONG_MAX},
    {"flags", IS_FLAGS, .words = copy_flags},
    {.name = NULL},
};
static const struct member commit_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"top", IS_STRING, .place = TOP},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"flags", IS_FLAGS, .words = commit_flags},
    {.name = NULL},
};
static const struct member pull_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {.name = NULL},
};
static const struct member rebase_members[] = {
    {"disk", IS_STRING, .place = DISK, .required = true},
    {"base", IS_STRING, .place = BASE},
    {"bandwidth", IS_NUMBER, .place = BANDWIDTH, .max = ULONG_MAX},
    {"flags", IS_FLAGS, .words = rebase_flags},
    {.name = NULL},
};
static const struct member backup_begin_members[] = {
    {"disk", IS_STRING, .place = DISK},
    {"backupxml", IS_STRING, .place = XML, .required = true},
    {"checkpointxml", IS_STRING, .place = CHECKPOINT_XML},
    {"flags", IS_FLAGS, .words = backup_flags},
    {.name = NULL},
};

/* ----------------------------------------------------------------------- XML */

static void write_copy(FILE *out, const void *start)
{
    (void)fputs("<disk", out);
    start_write_place(out, start, "source", ((const struct start *)start)->strings[TARGET]);
}

/* --------------------------------------------------------------------- calls */

static void add_parameter(virTypedParameter *parameters, int *count, const char *name, int type,
                          unsigned long long value)
{
    virTypedParameter *parameter = &parameters[*count];
    if (value == 0)
        return; /* as libvirt likes it */
    *parameter = (virTypedParameter){.type = type};
    snprintf(parameter->field, sizeof parameter->field, "%s", name);
    if (type == VIR_TYPED_PARAM_UINT)
        parameter->value.ui = (unsigned)value;
    else
        parameter->value.ul = value;
    ++*count;
}

static int call_copy(const struct start *start, virDomainPtr domain, const char *disk)
{
    virTypedParameter parameters[NUMBERS];
    int count = 0;
    add_parameter(parameters, &count, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH, VIR_TYPED_PARAM_ULLONG,
                  start->numbers[BANDWIDTH]);
    add_parameter(parameters, &count, VIR_DOMAIN_BLOCK_COPY_GRANULARITY, VIR_TYPED_PARAM_UINT,
                  start->numbers[GRANULARITY]);
    add_parameter(parameters, &count, VIR_DOMAIN_BLOCK_COPY_BUF_SIZE, VIR_TYPED_PARAM_ULLONG,
                  start->numbers[BUF_SIZE]);
    return virDomainBlockCopy(domain, disk, start->strings[XML], count ? parameters : NULL, count,
                              start->flags);
}

static int call_mirror(const struct start *start, virDomainPtr domain, const char *disk)
{
    char *target = start->strings[TARGET];
    struct start copy = *start;
    bool is_xml = *target == '<';

    copy.strings[XML] = is_xml ? target : start_write_xml(write_copy, start);
    if (!copy.strings[XML])
        return BJ_E_NOMEM;
    int r = call_copy(&copy, domain, disk);
    if (!is_xml)
        free(copy.strings[XML]);
    return r;
}

static int call_commit(const struct start *start, virDomainPtr domain, const char *disk)
{
    return virDomainBlockCommit(domain, disk, start->strings[BASE], start->strings[TOP],
                                (unsigned long)start->numbers[BANDWIDTH],
                                start->flags | VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES);
}

static int call_pull(const struct start *start, virDomainPtr domain, const char *disk)
{
    return virDomainBlockPull(domain, disk, (unsigned long)start->numbers[BANDWIDTH],
                              start->flags | VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES);
}

static int call_rebase(const struct start *start, virDomainPtr domain, const char *disk)
{
    return virDomainBlockRebase(domain, disk, start->strings[BASE],
                                (unsigned long)start->numbers[BANDWIDTH],
                                start->flags | VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES);
}

static int call_stream(const struct start *start, virDomainPtr domain, const char *disk)
{
    return start->strings[BASE] ? call_rebase(start, domain, disk) : call_pull(start, domain, disk);
}

/* -------------------------------------------------------------------- checks */

static int check_mirror(struct start *start, struct text **ret_text)
{
    const char *extra = start->strings[FORMAT]        ? "format"
                        : start->strings[TARGET_TYPE] ? "target-type"
                                                      : NULL;
    if (*start->strings[TARGET] != '<' || !extra)
        return BJ_OK;
    return start_refuse(
        BJ_E_INVAL,
        text_printf("%s: \"%s\" goes with a target that is a path; this one is XML, which says it",
                    start->command->name, extra),
        ret_text);
}

/* As with QEMU, what is committed is the active layer, unless it is said. */
static int check_commit(struct start *start, struct text **ret_text)
{
    (void)ret_text;
    if (!start->strings[TOP] && !(start->given & VIR_DOMAIN_BLOCK_COMMIT_ACTIVE))
        start->flags |= VIR_DOMAIN_BLOCK_COMMIT_ACTIVE;
    return BJ_OK;
}

static int check_stream(struct start *start, struct text **ret_text)
{
    if (start->strings[BASE] || !(start->flags & VIR_DOMAIN_BLOCK_REBASE_RELATIVE))
        return BJ_OK;
    return start_refuse(
        BJ_E_INVAL,
        text_printf("%s: \"relative\" is about the name of a \"base\", and there is none",
                    start->command->name),
        ret_text);
}

static const struct command commands[] = {
    {"blockdev-mirror", "mirror", mirror_members, check_mirror, NULL, call_mirror},
    {"block-commit", "commit", block_commit_members, check_commit, NULL, call_commit},
    {"block-stream", "stream", stream_members, check_stream, NULL, call_stream},
    {"blockdev-backup", "backup", blockdev_backup_members, start_check_disk_backup,
     start_prepare_backup, start_call_backup},
    {"backup", "backup", backup_members, start_check_backup, start_prepare_backup,
     start_call_backup},
    {"virDomainBlockCopy", "mirror", copy_members, NULL, NULL, call_copy},
    {"virDomainBlockCommit", "commit", commit_members, NULL, NULL, call_commit},
    {"virDomainBlockPull", "stream", pull_members, NULL, NULL, call_pull},
    {"virDomainBlockRebase", "stream", rebase_members, NULL, NULL, call_rebase},
    {"virDomainBackupBegin", "backup", backup_begin_members, NULL, start_prepare_backup_xml,
     start_call_backup},
};

static const struct command *command_of(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

bool start_is_known(const char *command)
{
    return command_of(command) != NULL;
}

/* ------------------------------------------------------------------- members */

/* For a sentence: "full", "top". The tables are short. */
struct list {
    char text[256];
    size_t len;
};

static void add_to_list(struct list *list, const char *word)
{
    size_t room = sizeof list->text - list->len;
    int len = snprintf(list->text + list->len, room, "%s\"%s\"", list->len ? ", " : "", word);
    if (len > 0 && (size_t)len < room)
        list->len += (size_t)len;
}

static struct list list_words(const struct word *words)
{
    struct list list = {.text = ""};
    for (; words->name; words++)
        add_to_list(&list, words->name);
    return list;
}

static struct list list_members(const struct member *members)
{
    struct list list = {.text = ""};
    for (; members->name; members++)
        add_to_list(&list, members->name);
    return list;
}

static int refuse_value(const struct start *start, const struct member *member, const char *what,
                        const char *words, struct text **ret_text)
{
    return start_refuse(
        BJ_E_INVAL,
        text_printf("%s: \"%s\" must be %s%s", start->command->name, member->name, what, words),
        ret_text);
}

/* A string that C can hold. NULL: it is none, or an empty one. */
static const char *string_of(const json_t *value)
{
    const char *string = json_string_value(value);
    bool is_whole = string && *string && strlen(string) == json_string_length(value);
    return is_whole ? string : NULL;
}

static int read_string(struct start *start, const struct member *member, const json_t *value,
                       struct text **ret_text)
{
    const char *string = string_of(value);
    if (!string)
        return refuse_value(start, member, "a string that is not empty", "", ret_text);
    free(start->strings[member->place]);
    start->strings[member->place] = strdup(string);
    return start->strings[member->place] ? BJ_OK : BJ_E_NOMEM;
}

static const struct word *find_word(const struct word *words, const char *name)
{
    for (; name && words->name; words++)
        if (strcmp(words->name, name) == 0)
            return words;
    return NULL;
}

static int set_flag(struct start *start, const struct member *member, const struct word *word,
                    struct text **ret_text)
{
    if (word->flag == NO_SUCH_FLAG)
        return start_refuse(BJ_E_UNSUPPORTED,
                            text_printf("%s: this libvirt is too old for \"%s\" of \"%s\"",
                                        start->command->name, word->name, member->name),
                            ret_text);
    start->flags |= word->flag;
    return BJ_OK;
}

static int read_word(struct start *start, const struct member *member, const json_t *value,
                     struct text **ret_text)
{
    const struct word *word = find_word(member->words, string_of(value));
    if (!word) {
        struct list list = list_words(member->words);
        return refuse_value(start, member, member->words[1].name ? "one of " : "", list.text,
                            ret_text);
    }
    int r = set_flag(start, member, word, ret_text);
    bool is_kept = r == BJ_OK && member->place != NOT_KEPT;
    return is_kept ? read_string(start, member, value, ret_text) : r;
}

static int read_number(struct start *start, const struct member *member, const json_t *value,
                       struct text **ret_text)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (unsigned long long)number > member->max)
        return refuse_value(start, member, "an integer, not negative and not too large", "",
                            ret_text);
    const char *other = start->number_names[member->place];
    if (other)
        return start_refuse(BJ_E_INVAL,
                            text_printf("%s: \"%s\" and \"%s\" are the same: give one of them",
                                        start->command->name, other, member->name),
                            ret_text);
    start->number_names[member->place] = member->name;
    start->numbers[member->place] = (unsigned long long)number;
    return BJ_OK;
}

static int read_boolean(struct start *start, const struct member *member, const json_t *value,
                        struct text **ret_text)
{
    if (!json_is_boolean(value))
        return refuse_value(start, member, "true or false", "", ret_text);
    start->given |= member->flag;
    if (json_is_true(value))
        start->flags |= member->flag;
    return BJ_OK;
}

static int read_paths(struct start *start, const struct member *member, const json_t *value,
                      struct text **ret_text)
{
    const char *disk;
    json_t *path;
    bool is_good = json_object_size(value) > 0;

    json_object_foreach((json_t *)value, disk, path)
    {
        const char *string = string_of(path);
        is_good &= *disk && string && *string == '/';
    }
    if (!is_good)
        return refuse_value(start, member, "an object of disks and absolute paths, not empty", "",
                            ret_text);
    start->paths = json_incref((json_t *)value);
    return BJ_OK;
}

static int read_flags(struct start *start, const struct member *member, const json_t *value,
                      struct text **ret_text)
{
    int r = json_is_array(value) ? BJ_OK : BJ_E_INVAL;
    for (size_t i = 0; r == BJ_OK && i < json_array_size(value); i++) {
        const struct word *word = find_word(member->words, string_of(json_array_get(value, i)));
        r = word ? set_flag(start, member, word, ret_text) : BJ_E_INVAL;
    }
    if (r != BJ_E_INVAL)
        return r;
    struct list list = list_words(member->words);
    return refuse_value(start, member, "an array of flags, of which there are ", list.text,
                        ret_text);
}

static int read_member(struct start *start, const struct member *member, const json_t *value,
                       struct text **ret_text)
{
    switch (member->kind) {
    case IS_STRING:
        return read_string(start, member, value, ret_text);
    case IS_WORD:
        return read_word(start, member, value, ret_text);
    case IS_NUMBER:
        return read_number(start, member, value, ret_text);
    case IS_BOOLEAN:
        return read_boolean(start, member, value, ret_text);
    case IS_PATHS:
        return read_paths(start, member, value, ret_text);
    default:
        return read_flags(start, member, value, ret_text);
    }
}

/* ------------------------------------------------------------------- parsing */

/* What QEMU's commands take, and libvirt decides. */
static const char *why_not(const char *name)
{
    if (strcmp(name, "job-id") == 0)
        return "the job of a domain goes by the name of its disk";
    if (strcmp(name, "auto-dismiss") == 0 || strcmp(name, "auto-finalize") == 0)
        return "libvirt sees to that";
    return NULL;
}

static int refuse_member(const struct command *command, const char *name, struct text **ret_text)
{
    const char *why = why_not(name);
    if (why)
        return start_refuse(
            BJ_E_UNSUPPORTED,
            text_printf("%s: \"%s\" can't be given to libvirt: %s", command->name, name, why),
            ret_text);
    struct list list = list_members(command->members);
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: libvirt has no \"%.*s\" for it; there are %s",
                                    command->name, text_fit(name, QUOTED_MAX), name, list.text),
                        ret_text);
}

/* null is as if it were not there. */
static int read_members(struct start *start, const json_t *arguments, struct text **ret_text)
{
    for (const struct member *member = start->command->members; member->name; member++) {
        const json_t *value = json_object_get(arguments, member->name);
        int r = BJ_OK;
        if (value && !json_is_null(value))
            r = read_member(start, member, value, ret_text);
        else if (member->required)
            r = start_refuse(
                BJ_E_INVAL,
                text_printf("%s: \"%s\" is missing", start->command->name, member->name), ret_text);
        if (r != BJ_OK)
            return r;
    }
    return BJ_OK;
}

static int find_unknown_members(const struct command *command, const json_t *arguments,
                                struct text **ret_text)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)arguments, name, value)
    {
        const struct member *member = command->members;
        while (member->name && strcmp(member->name, name) != 0)
            member++;
        if (!member->name)
            return refuse_member(command, name, ret_text);
    }
    return BJ_OK;
}

int start_parse(const char *command, const json_t *arguments, struct start **ret,
                struct text **ret_text)
{
    const struct command *known = command_of(command);
    if (!known)
        return start_refuse(BJ_E_UNSUPPORTED,
                            text_printf("%.*s: it starts no job of a libvirt domain",
                                        text_fit(command, QUOTED_MAX), command),
                            ret_text);
    if (!json_is_object(arguments))
        return start_refuse(
            BJ_E_INVAL, text_printf("%s: its arguments are not a JSON object", command), ret_text);
    int r = find_unknown_members(known, arguments, ret_text);
    if (r != BJ_OK)
        return r;

    struct start *start = calloc(1, sizeof *start);
    if (!start)
        return BJ_E_NOMEM;
    start->command = known;
    r = read_members(start, arguments, ret_text);
    if (r == BJ_OK && known->check)
        r = known->check(start, ret_text);
    if (r == BJ_OK)
        *ret = start;
    else
        start_free(start);
    return r;
}

void start_free(struct start *start)
{
    for (int i = 0; start && i < STRINGS; i++)
        free(start->strings[i]);
    if (start) {
        free(start->disks);
        json_decref(start->paths);
    }
    free(start);
}

const char *start_disk(const struct start *start)
{
    return start->strings[DISK];
}

const char *start_type(const struct start *start)
{
    bool is_copy =
        start->command->members == rebase_members && start->flags & VIR_DOMAIN_BLOCK_REBASE_COPY;
    return is_copy ? "mirror" : start->command->type;
}

bool start_is_backup(const struct start *start)
{
    return start->command->call == start_call_backup;
}

const char *start_disks(const struct start *start)
{
    return start->disks;
}

int start_prepare(struct start *start, const struct disks *disks, struct text **ret_text)
{
    const struct command *command = start->command;
    return command->prepare ? command->prepare(start, disks, ret_text) : BJ_OK;
}

int start_call(const struct start *start, virDomainPtr domain, const char *target)
{
    return start->command->call(start, domain, target);
}
