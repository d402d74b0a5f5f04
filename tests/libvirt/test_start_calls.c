/* SPDX-License-Identifier: MIT */
/*
 * The commands that start jobs: what libvirt is asked for each, and what is said of those that make
 * no sense. libvirt's calls are written down here instead of being made.
 */
#include "start_calls.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <stdlib.h>

/* --------------------------------------------------------------- libvirt's calls */

static char called[2048];
static int to_return;

static const char *or_null(const char *text)
{
    return text ? text : "NULL";
}

int virDomainBlockCopy(virDomainPtr dom, const char *disk, const char *destxml,
                       virTypedParameterPtr params, int nparams, unsigned int flags)
{
    (void)dom;
    assert_int_equal(params == NULL, nparams == 0);
    int len = snprintf(called, sizeof called, "copy %s %s %u", disk, destxml, flags);
    for (int i = 0; params && i < nparams; i++) {
        bool is_uint = params[i].type == VIR_TYPED_PARAM_UINT;
        assert_true(is_uint || params[i].type == VIR_TYPED_PARAM_ULLONG);
        len += snprintf(called + len, sizeof called - (size_t)len, " %s=%s%llu", params[i].field,
                        is_uint ? "u" : "", is_uint ? params[i].value.ui : params[i].value.ul);
    }
    return to_return;
}

int virDomainBlockCommit(virDomainPtr dom, const char *disk, const char *base, const char *top,
                         unsigned long bandwidth, unsigned int flags)
{
    (void)dom;
    snprintf(called, sizeof called, "commit %s %s %s %lu %u", disk, or_null(base), or_null(top),
             bandwidth, flags);
    return to_return;
}

int virDomainBlockPull(virDomainPtr dom, const char *disk, unsigned long bandwidth,
                       unsigned int flags)
{
    (void)dom;
    snprintf(called, sizeof called, "pull %s %lu %u", disk, bandwidth, flags);
    return to_return;
}

int virDomainBlockRebase(virDomainPtr dom, const char *disk, const char *base,
                         unsigned long bandwidth, unsigned int flags)
{
    (void)dom;
    snprintf(called, sizeof called, "rebase %s %s %lu %u", disk, or_null(base), bandwidth, flags);
    return to_return;
}

int virDomainBackupBegin(virDomainPtr domain, const char *backupXML, const char *checkpointXML,
                         unsigned int flags)
{
    (void)domain;
    snprintf(called, sizeof called, "backup %s %s %u", backupXML, or_null(checkpointXML), flags);
    return to_return;
}

/* ------------------------------------------------------------------------ checks */

static json_t *load(const char *arguments)
{
    json_t *value = json_loads(arguments, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    return value;
}

static int prepare(struct start *start, struct text **ret_text)
{
    struct disks disks;
    assert_int_equal(
        disks_parse("<domain><devices>"
                    "<disk type='file'><source file='/d.qcow2'/><target dev='vda'/></disk>"
                    "<disk type='file'><source file='/e.qcow2'/><target dev='vdb'/></disk>"
                    "<disk type='file'><source file='/cd'/><target dev='sda'/><readonly/></disk>"
                    "</devices></domain>",
                    &disks),
        BJ_OK);
    int r = start_prepare(start, &disks, ret_text);
    disks_clear(&disks);
    return r;
}

/* The disk of vda is given by its path, and called by its target. */
static void assert_call(const char *command, const char *arguments, const char *type,
                        const char *expected)
{
    json_t *value = load(arguments);
    struct start *start;
    struct text *text = NULL;
    int r = start_parse(command, value, &start, &text);
    json_decref(value);
    if (r == BJ_OK)
        r = prepare(start, &text);
    if (r != BJ_OK)
        fail_msg("%s", text_str(text));

    if (strcmp(command, "backup") != 0)
        assert_string_equal(start_disk(start), "/d.qcow2");
    assert_string_equal(start_type(start), type);
    called[0] = '\0';
    assert_int_equal(start_call(start, NULL, "vda"), 0);
    assert_string_equal(called, expected);
    start_free(start);
}

static void assert_refused(const char *command, const char *arguments, int error,
                           const char *expected)
{
    json_t *value = load(arguments);
    struct start *start = NULL;
    struct text *text = NULL;
    assert_int_equal(start_parse(command, value, &start, &text), error);
    json_decref(value);
    assert_null(start);
    assert_string_equal(text_str(text), expected);
    text_unref(text);
}

/* -------------------------------------------------------------------- usual words */

static void b01_mirror_is_block_copy(void **state)
{
    (void)state;
    const char *mirror = "blockdev-mirror";
    assert_call(mirror, "{\"device\": \"/d.qcow2\", \"target\": \"/t\", \"sync\": \"full\"}",
                "mirror", "copy vda <disk type=\"file\"><source file=\"/t\"/></disk> 0");
    assert_call(mirror,
                "{\"device\": \"/d.qcow2\", \"target\": \"/dev/t\", \"sync\": \"top\","
                "\"target-type\": \"block\", \"format\": \"qcow2\", \"reuse\": true,"
                "\"transient\": true, \"bandwidth\": 5000000000, \"granularity\": 65536,"
                "\"buf-size\": 9223372036854775807}",
                "mirror",
                "copy vda <disk type=\"block\"><source dev=\"/dev/t\"/><driver type=\"qcow2\"/>"
                "</disk> 7 bandwidth=5000000000 granularity=u65536 "
                "buf-size=9223372036854775807");
    assert_call(mirror,
                "{\"device\": \"/d.qcow2\", \"target\": \"/t\", \"sync\": \"full\","
                "\"target-type\": \"file\", \"reuse\": false, \"copy-mode\": \"background\","
                "\"bandwidth\": 0, \"format\": null}",
                "mirror", "copy vda <disk type=\"file\"><source file=\"/t\"/></disk> 0");
    assert_call(mirror, "{\"device\": \"/d.qcow2\", \"sync\": \"top\", \"target\": \"<disk/>\"}",
                "mirror", "copy vda <disk/> 1");
#if LIBVIR_CHECK_VERSION(8, 0, 0)
    assert_call(mirror,
                "{\"device\": \"/d.qcow2\", \"sync\": \"full\", \"target\": \"<disk/>\","
                "\"copy-mode\": \"write-blocking\"}",
                "mirror", "copy vda <disk/> 8");
#endif
}

/* Of the first element of that name in what libvirt was called with. */
static void assert_attribute(const xmlNode *root, const char *element, const char *name,
                             const char *expected)
{
    const xmlNode *node = root->children;
    while (node && strcmp((const char *)node->name, element) != 0)
        node = node->next;
    assert_non_null(node);
    xmlChar *value = xmlGetProp(node, (const xmlChar *)name);
    assert_non_null(value);
    assert_string_equal((const char *)value, expected);
    xmlFree(value);
}

static void b69_a_path_is_escaped(void **state)
{
    (void)state;
    json_t *value = load("{\"device\": \"/d.qcow2\", \"sync\": \"full\","
                         "\"target\": \"/a\\\"'<&>\\u00e9 \\n\", \"format\": \"q\\\"/><x\"}");
    struct start *start;
    struct text *text;
    assert_int_equal(start_parse("blockdev-mirror", value, &start, &text), BJ_OK);
    json_decref(value);
    assert_int_equal(start_call(start, NULL, "vda"), 0);
    start_free(start);

    const char *xml = strchr(called, '<');
    assert_non_null(xml);
    xmlDoc *doc = xmlReadMemory(xml, (int)(strrchr(xml, '>') + 1 - xml), NULL, NULL, 0);
    assert_non_null(doc);
    assert_attribute(xmlDocGetRootElement(doc), "source", "file", "/a\"'<&>\xc3\xa9 \n");
    assert_attribute(xmlDocGetRootElement(doc), "driver", "type", "q\"/><x");
    xmlFreeDoc(doc);
}

static void b01_commit_is_of_the_active_layer_unless_a_top_is_given(void **state)
{
    (void)state;
    const char *commit = "block-commit";
    enum { BYTES = VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES, ACTIVE = 4 };
    assert_int_equal(BYTES, 16);
    assert_call(commit, "{\"device\": \"/d.qcow2\"}", "commit", "commit vda NULL NULL 0 20");
    assert_call(commit, "{\"device\": \"/d.qcow2\", \"top\": \"/t\", \"base\": \"/b\"}", "commit",
                "commit vda /b /t 0 16");
    assert_call(commit, "{\"device\": \"/d.qcow2\", \"top\": \"/d.qcow2\", \"active\": true}",
                "commit", "commit vda NULL /d.qcow2 0 20");
    assert_call(commit, "{\"device\": \"/d.qcow2\", \"active\": false}", "commit",
                "commit vda NULL NULL 0 16");
    assert_call(commit,
                "{\"device\": \"/d.qcow2\", \"bandwidth\": 7, \"relative\": true,"
                "\"delete\": true, \"shallow\": true}",
                "commit", "commit vda NULL NULL 7 31");
}

static void b01_stream_is_pull_or_rebase(void **state)
{
    (void)state;
    const char *stream = "block-stream";
    assert_call(stream, "{\"device\": \"/d.qcow2\", \"bandwidth\": 3}", "stream", "pull vda 3 64");
    assert_call(stream, "{\"device\": \"/d.qcow2\", \"speed\": 5}", "stream", "pull vda 5 64");
    assert_call(stream, "{\"device\": \"/d.qcow2\", \"relative\": false}", "stream",
                "pull vda 0 64");
    assert_call(stream, "{\"device\": \"/d.qcow2\", \"base\": \"/b\", \"relative\": true}",
                "stream", "rebase vda /b 0 80");
}

static void b01_backup_is_of_the_one_disk(void **state)
{
    (void)state;
    assert_call("blockdev-backup",
                "{\"device\": \"/d.qcow2\", \"target\": \"/t&\", \"sync\": \"full\"}", "backup",
                "backup <domainbackup><disks><disk name=\"vda\" backupmode=\"full\" type=\"file\">"
                "<target file=\"/t&#38;\"/></disk></disks></domainbackup> NULL 0");
    assert_call("blockdev-backup",
                "{\"device\": \"/d.qcow2\", \"target\": \"/t\", \"sync\": \"full\","
                "\"format\": \"raw\", \"reuse\": true, \"target-type\": \"block\"}",
                "backup",
                "backup <domainbackup><disks><disk name=\"vda\" backupmode=\"full\" "
                "type=\"block\"><target dev=\"/t\"/><driver type=\"raw\"/></disk></disks>"
                "</domainbackup> NULL 1");
}

static void assert_backup(const char *arguments, const char *expected)
{
    assert_call("backup", arguments, "backup", expected);
}

static void w03_a_backup_of_several_disks(void **state)
{
    (void)state;
    assert_backup(
        "{\"disks\": {\"vdb\": \"/b\", \"/d.qcow2\": \"/a\"}}",
        "backup <domainbackup><disks>"
        "<disk name=\"vdb\" backupmode=\"full\" type=\"file\"><target file=\"/b\"/></disk>"
        "<disk name=\"vda\" backupmode=\"full\" type=\"file\"><target file=\"/a\"/></disk>"
        "</disks></domainbackup> NULL 0");
    assert_backup("{\"disks\": {\"vda\": \"/dev/a\"}, \"mode\": \"push\", \"format\": \"raw\","
                  "\"target-type\": \"block\", \"reuse\": true, \"checkpoint\": \"<2>\"}",
                  "backup <domainbackup><disks>"
                  "<disk name=\"vda\" backupmode=\"full\" type=\"block\"><target dev=\"/dev/a\"/>"
                  "<driver type=\"raw\"/></disk></disks></domainbackup> "
                  "<domaincheckpoint><name>&#60;2&#62;</name><disks>"
                  "<disk name=\"vda\" checkpoint=\"bitmap\"/></disks></domaincheckpoint> 1");
    assert_backup("{\"disks\": {\"vda\": \"/a\"}, \"incremental\": \"one\"}",
                  "backup <domainbackup><incremental>one</incremental><disks>"
                  "<disk name=\"vda\" type=\"file\"><target file=\"/a\"/></disk>"
                  "</disks></domainbackup> NULL 0");
}

static void assert_server(const char *server, const char *expected)
{
    char arguments[256];
    char call[512];
    snprintf(arguments, sizeof arguments,
             "{\"disks\": {\"vda\": \"/s\"}, \"mode\": \"pull\", \"server\": \"%s\"}", server);
    snprintf(call, sizeof call,
             "backup <domainbackup mode=\"pull\"><server %s/><disks>"
             "<disk name=\"vda\" backupmode=\"full\" type=\"file\"><scratch file=\"/s\"/></disk>"
             "</disks></domainbackup> NULL 0",
             expected);
    assert_backup(arguments, call);
}

static void w03_a_backup_that_is_pulled(void **state)
{
    (void)state;
    assert_server("unix:/run/b.sock", "transport=\"unix\" socket=\"/run/b.sock\"");
    assert_server("tcp:host:10809", "transport=\"tcp\" name=\"host\" port=\"10809\"");
    assert_server("tcp:[::1]:10809", "transport=\"tcp\" name=\"::1\" port=\"10809\"");
}

/* ----------------------------------------------------------------- libvirt's words */

static void b01_libvirts_own_words(void **state)
{
    (void)state;
    assert_call("virDomainBlockCopy",
                "{\"disk\": \"/d.qcow2\", \"destxml\": \"<disk/>\", \"bandwidth\": 1,"
                "\"granularity\": 512, \"buf-size\": 4096,"
                "\"flags\": [\"SHALLOW\", \"REUSE_EXT\", \"TRANSIENT_JOB\"]}",
                "mirror", "copy vda <disk/> 7 bandwidth=1 granularity=u512 buf-size=4096");
    assert_call("virDomainBlockCommit", "{\"disk\": \"/d.qcow2\"}", "commit",
                "commit vda NULL NULL 0 16");
    assert_call("virDomainBlockCommit",
                "{\"disk\": \"/d.qcow2\", \"base\": \"vda[2]\", \"top\": \"vda[1]\","
                "\"bandwidth\": 9, \"flags\": [\"SHALLOW\", \"DELETE\", \"ACTIVE\", \"RELATIVE\"]}",
                "commit", "commit vda vda[2] vda[1] 9 31");
    assert_call("virDomainBlockPull", "{\"disk\": \"/d.qcow2\", \"bandwidth\": 4}", "stream",
                "pull vda 4 64");
    assert_call("virDomainBlockRebase", "{\"disk\": \"/d.qcow2\", \"base\": null, \"flags\": []}",
                "stream", "rebase vda NULL 0 64");
    assert_call("virDomainBlockRebase",
                "{\"disk\": \"/d.qcow2\", \"base\": \"/t\", \"flags\": [\"COPY\", \"SHALLOW\","
                "\"REUSE_EXT\", \"COPY_RAW\", \"RELATIVE\", \"COPY_DEV\"]}",
                "mirror", "rebase vda /t 0 127");
    assert_call("virDomainBackupBegin",
                "{\"disk\": \"/d.qcow2\", \"backupxml\": \"<domainbackup/>\","
                "\"checkpointxml\": \"<domaincheckpoint/>\", \"flags\": [\"REUSE_EXTERNAL\"]}",
                "backup", "backup <domainbackup/> <domaincheckpoint/> 1");
}

static void b41_what_libvirt_refuses_is_told(void **state)
{
    (void)state;
    json_t *value = load("{\"device\": \"vda\"}");
    struct start *start;
    struct text *text;
    assert_int_equal(start_parse("block-stream", value, &start, &text), BJ_OK);
    json_decref(value);
    to_return = -1;
    assert_int_equal(start_call(start, NULL, "vda"), -1);
    to_return = 0;
    start_free(start);
    start_free(NULL);
}

/* --------------------------------------------------------------- what makes no sense */

static void b01_the_commands_are_known(void **state)
{
    (void)state;
    assert_true(start_is_known("blockdev-mirror"));
    assert_true(start_is_known("block-commit"));
    assert_true(start_is_known("block-stream"));
    assert_true(start_is_known("blockdev-backup"));
    assert_true(start_is_known("virDomainBlockCopy"));
    assert_true(start_is_known("virDomainBlockCommit"));
    assert_true(start_is_known("virDomainBlockPull"));
    assert_true(start_is_known("virDomainBlockRebase"));
    assert_true(start_is_known("virDomainBackupBegin"));
    assert_false(start_is_known("drive-mirror"));
    assert_false(start_is_known(""));
    assert_refused("drive-mirror", "{}", BJ_E_UNSUPPORTED,
                   "drive-mirror: it starts no job of a libvirt domain");
}

static void b40_ids_are_the_disks_own(void **state)
{
    (void)state;
    assert_refused("block-stream", "{\"device\": \"vda\", \"job-id\": \"j\"}", BJ_E_UNSUPPORTED,
                   "block-stream: \"job-id\" can't be given to libvirt: the job of a domain goes "
                   "by the name of its disk");
    assert_refused("block-stream", "{\"device\": \"vda\", \"auto-dismiss\": false}",
                   BJ_E_UNSUPPORTED,
                   "block-stream: \"auto-dismiss\" can't be given to libvirt: libvirt sees to "
                   "that");
}

static void b01_strangers_are_named(void **state)
{
    (void)state;
    assert_refused("block-stream", "{\"device\": \"vda\", \"pace\": 1}", BJ_E_INVAL,
                   "block-stream: libvirt has no \"pace\" for it; there are \"device\", \"base\", "
                   "\"bandwidth\", \"speed\", \"relative\"");
    assert_refused("virDomainBlockPull", "{\"disk\": \"vda\", \"flags\": []}", BJ_E_INVAL,
                   "virDomainBlockPull: libvirt has no \"flags\" for it; there are \"disk\", "
                   "\"bandwidth\"");
}

static void b01_every_member_has_its_kind(void **state)
{
    (void)state;
    const char *not_a_string = "block-stream: \"device\" must be a string that is not empty";
    assert_refused("block-stream", "{\"device\": 7}", BJ_E_INVAL, not_a_string);
    assert_refused("block-stream", "{\"device\": \"\"}", BJ_E_INVAL, not_a_string);
    assert_refused("block-stream", "{\"device\": \"vda\\u0000\"}", BJ_E_INVAL, not_a_string);
    assert_refused("block-stream", "{}", BJ_E_INVAL, "block-stream: \"device\" is missing");
    assert_refused("block-stream", "{\"device\": null}", BJ_E_INVAL,
                   "block-stream: \"device\" is missing");
    assert_refused("block-stream", "[]", BJ_E_INVAL,
                   "block-stream: its arguments are not a JSON object");

    const char *no_number =
        "block-stream: \"bandwidth\" must be an integer, not negative and not too large";
    assert_refused("block-stream", "{\"device\": \"vda\", \"bandwidth\": -1}", BJ_E_INVAL,
                   no_number);
    assert_refused("block-stream", "{\"device\": \"vda\", \"bandwidth\": 1.5}", BJ_E_INVAL,
                   no_number);
    assert_refused("block-stream", "{\"device\": \"vda\", \"bandwidth\": \"1\"}", BJ_E_INVAL,
                   no_number);
    assert_refused("virDomainBlockCopy",
                   "{\"disk\": \"vda\", \"destxml\": \"<disk/>\", \"granularity\": 4294967296}",
                   BJ_E_INVAL,
                   "virDomainBlockCopy: \"granularity\" must be an integer, not negative and not "
                   "too large");
    assert_refused("block-commit", "{\"device\": \"vda\", \"active\": 1}", BJ_E_INVAL,
                   "block-commit: \"active\" must be true or false");
}

static void b01_words_and_flags_are_listed(void **state)
{
    (void)state;
    assert_refused("blockdev-mirror",
                   "{\"device\": \"vda\", \"target\": \"/t\", \"sync\": \"none\"}", BJ_E_INVAL,
                   "blockdev-mirror: \"sync\" must be one of \"full\", \"top\"");
    assert_refused("blockdev-mirror", "{\"device\": \"vda\", \"target\": \"/t\", \"sync\": 3}",
                   BJ_E_INVAL, "blockdev-mirror: \"sync\" must be one of \"full\", \"top\"");
    assert_refused("blockdev-backup",
                   "{\"device\": \"vda\", \"target\": \"/t\", \"sync\": \"top\"}", BJ_E_INVAL,
                   "blockdev-backup: \"sync\" must be \"full\"");

    const char *no_flags =
        "virDomainBackupBegin: \"flags\" must be an array of flags, of which there are "
        "\"REUSE_EXTERNAL\"";
    assert_refused("virDomainBackupBegin",
                   "{\"disk\": \"vda\", \"backupxml\": \"<d/>\", \"flags\": 1}", BJ_E_INVAL,
                   no_flags);
    assert_refused("virDomainBackupBegin",
                   "{\"disk\": \"vda\", \"backupxml\": \"<d/>\", \"flags\": [1]}", BJ_E_INVAL,
                   no_flags);
    assert_refused("virDomainBackupBegin",
                   "{\"disk\": \"vda\", \"backupxml\": \"<d/>\", \"flags\": [\"SHALLOW\"]}",
                   BJ_E_INVAL, no_flags);
}

static void b01_what_does_not_go_together(void **state)
{
    (void)state;
    assert_refused("block-stream", "{\"device\": \"vda\", \"relative\": true}", BJ_E_INVAL,
                   "block-stream: \"relative\" is about the name of a \"base\", and there is none");
    assert_refused("blockdev-mirror",
                   "{\"device\": \"vda\", \"target\": \"<disk/>\", \"sync\": \"full\","
                   "\"format\": \"raw\"}",
                   BJ_E_INVAL,
                   "blockdev-mirror: \"format\" goes with a target that is a path; this one is "
                   "XML, which says it");
    assert_refused("blockdev-backup",
                   "{\"device\": \"vda\", \"target\": \"<disk/>\", \"sync\": \"full\"}", BJ_E_INVAL,
                   "blockdev-backup: \"target\" must be a path; virDomainBackupBegin takes XML");
}

static int forget_parser(void **state)
{
    (void)state;
    xmlCleanupParser();
    return 0;
}

static void c139_speed_beside_bandwidth_names_both(void **state)
{
    (void)state;
    assert_refused("block-stream", "{\"device\": \"vda\", \"bandwidth\": 1, \"speed\": 1}",
                   BJ_E_INVAL,
                   "block-stream: \"bandwidth\" and \"speed\" are the same: give one of them");
    assert_call("block-stream", "{\"device\": \"/d.qcow2\", \"bandwidth\": null, \"speed\": 5}",
                "stream", "pull vda 5 64");
}

static void w03_backups_that_make_no_sense(void **state)
{
    (void)state;
    static const char paths[] =
        "backup: \"disks\" must be an object of disks and absolute paths, not empty";
    static const char *const no_paths[] = {
        "{\"disks\": {}}",
        "{\"disks\": [\"vda\"]}",
        "{\"disks\": \"vda\"}",
        "{\"disks\": {\"vda\": null}}",
        "{\"disks\": {\"vda\": \"\"}}",
        "{\"disks\": {\"vda\": \"here\"}}",
        "{\"disks\": {\"vda\": \"/a\", \"vdb\": 7}}",
        "{\"disks\": {\"\": \"/a\"}}",
    };
    for (size_t i = 0; i < sizeof no_paths / sizeof no_paths[0]; i++)
        assert_refused("backup", no_paths[i], BJ_E_INVAL, paths);
    assert_refused("backup", "{}", BJ_E_INVAL, "backup: \"disks\" is missing");
    assert_refused("backup", "{\"disks\": {\"vda\": \"/a\"}, \"mode\": \"shove\"}", BJ_E_INVAL,
                   "backup: \"mode\" must be one of \"push\", \"pull\"");
    assert_refused("backup", "{\"disks\": {\"vda\": \"/a\"}, \"mode\": \"pull\"}", BJ_E_INVAL,
                   "backup: \"server\" is missing: a client pulls the backup from it");
    assert_refused("backup", "{\"disks\": {\"vda\": \"/a\"}, \"server\": \"unix:/s\"}", BJ_E_INVAL,
                   "backup: \"server\" is for \"mode\": \"pull\"");
    static const char *const no_servers[] = {"unix:s", "unix:",   "tcp:h", "tcp::1",
                                             "tcp:h:", "tcp:h:x", "fd:3"};
    for (size_t i = 0; i < sizeof no_servers / sizeof no_servers[0]; i++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments,
                 "{\"disks\": {\"vda\": \"/a\"}, \"mode\": \"pull\", \"server\": \"%s\"}",
                 no_servers[i]);
        assert_refused("backup", arguments, BJ_E_INVAL,
                       "backup: \"server\" must be unix:PATH or tcp:HOST:PORT");
    }
    assert_refused("backup",
                   "{\"disks\": {\"vda\": \"/a\"}, \"mode\": \"pull\", \"server\": \"unix:/s\","
                   "\"format\": \"raw\"}",
                   BJ_E_INVAL, "backup: \"format\" is for \"mode\": \"push\"");
}

static void assert_unprepared(const char *command, const char *arguments, const char *expected)
{
    json_t *value = load(arguments);
    struct start *start;
    struct text *text = NULL;
    assert_int_equal(start_parse(command, value, &start, &text), BJ_OK);
    json_decref(value);
    assert_int_equal(prepare(start, &text), BJ_E_INVAL);
    assert_string_equal(text_str(text), expected);
    text_unref(text);
    start_free(start);
}

static void w03_disks_that_the_domain_does_not_have(void **state)
{
    (void)state;
    assert_unprepared("backup", "{\"disks\": {\"vda\": \"/a\", \"vdz\": \"/z\"}}",
                      "backup: the domain has no disk \"vdz\"");
    assert_unprepared("backup", "{\"disks\": {\"vda\": \"/a\", \"/d.qcow2\": \"/z\"}}",
                      "backup: \"disks\" has twice the disk \"/d.qcow2\"");
    assert_unprepared("blockdev-backup",
                      "{\"device\": \"vdz\", \"target\": \"/z\", \"sync\": \"full\"}",
                      "blockdev-backup: the domain has no disk \"vdz\"");
    /* Without a list a backup is of what can be written to. */
    assert_unprepared("virDomainBackupBegin",
                      "{\"disk\": \"sda\", \"backupxml\": \"<domainbackup/>\"}",
                      "virDomainBackupBegin: \"backupxml\" leaves out the disk \"sda\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b01_mirror_is_block_copy),
        cmocka_unit_test(b69_a_path_is_escaped),
        cmocka_unit_test(b01_commit_is_of_the_active_layer_unless_a_top_is_given),
        cmocka_unit_test(b01_stream_is_pull_or_rebase),
        cmocka_unit_test(b01_backup_is_of_the_one_disk),
        cmocka_unit_test(w03_a_backup_of_several_disks),
        cmocka_unit_test(w03_a_backup_that_is_pulled),
        cmocka_unit_test(w03_backups_that_make_no_sense),
        cmocka_unit_test(w03_disks_that_the_domain_does_not_have),
        cmocka_unit_test(b01_libvirts_own_words),
        cmocka_unit_test(b41_what_libvirt_refuses_is_told),
        cmocka_unit_test(b01_the_commands_are_known),
        cmocka_unit_test(b40_ids_are_the_disks_own),
        cmocka_unit_test(b01_strangers_are_named),
        cmocka_unit_test(b01_every_member_has_its_kind),
        cmocka_unit_test(b01_words_and_flags_are_listed),
        cmocka_unit_test(b01_what_does_not_go_together),
        cmocka_unit_test(c139_speed_beside_bandwidth_names_both),
    };
    return cmocka_run_group_tests(tests, NULL, forget_parser);
}
