/* SPDX-License-Identifier: MIT */
/*
 * The Nth allocation fails, for every N, in the parts of the libvirt driver that know nothing of
 * libvirtd: they say so, or do all the same what they were asked. That nothing leaks is for
 * valgrind and the sanitizers: strndup() is not counted in heap.h, and libxml2 keeps its last
 * error.
 */
#include "copies.h"
#include "disks.h"
#include "facts.h"
#include "start_calls.h"

#include "cmocka_all.h"

#include "../core/heap.h"

#include <blockjob/blockjob.h>
#include <libxml/parser.h>
#include <stdlib.h>

/* What is tried: BJ_OK, and then it has done everything; or BJ_E_NOMEM. */
typedef int deed(void);

static void be_silent(void *user, const char *format, ...)
{
    (void)user, (void)format;
}

static void check_memory(deed *act)
{
    assert_int_equal(act(), BJ_OK); /* what is kept for good is there from now on */
    long long number = 1;
    do {
        heap_fail_at(number++);
        int r = act();
        heap_stop();
        if (r != BJ_OK && r != BJ_E_NOMEM)
            fail_msg("allocation %lld: %d", number - 1, r);
        assert_true(r == BJ_OK || atomic_load(&heap_failed));
    } while (atomic_load(&heap_failed));
    assert_true(number > 3);
}

/* ----------------------------------------------------------------------- disks */

static int read_disks(void)
{
    struct disks disks;
    int r = disks_parse("<domain><devices>"
                        "<disk type='file'><source file='/a&amp;b'/><target dev='vda'/>"
                        "<mirror type='block' ready='yes'><source dev='/m'/></mirror></disk>"
                        "<disk type='network'><source name='n' index='1'/>"
                        "<target dev='vdb'/><alias name='virtio-disk1'/></disk>"
                        "</devices></domain>",
                        &disks);
    if (r != BJ_OK)
        return r;
    assert_int_equal(disks.count, 2);
    assert_string_equal(disks.disks[0].source, "/a&b");
    assert_string_equal(disks.disks[0].mirror, "/m");
    assert_true(disks.disks[0].mirror_ready);
    assert_string_equal(disks.disks[1].source, "n");
    assert_string_equal(disks.disks[1].alias, "virtio-disk1");
    disks_clear(&disks);
    return BJ_OK;
}

static void b56_disks(void **state)
{
    (void)state;
    check_memory(read_disks);
}

/* ---------------------------------------------------------------------- copies */

static int note_copies(void)
{
    struct disk disks[] = {
        {.target = "vda", .source = "/a", .mirror = "/b", .has_mirror = true},
        {.target = "vdb", .source = "/c", .mirror = "/d", .has_mirror = true},
    };
    struct copies copies = {0};
    int r = copies_note(&copies, &(struct disks){.count = 2, .disks = disks});
    if (r == BJ_OK)
        assert_string_equal(copies_mirror(&copies, "vdb"), "/d");
    copies_clear(&copies);
    return r;
}

static void b56_copies(void **state)
{
    (void)state;
    check_memory(note_copies);
}

/* ----------------------------------------------------------------------- facts */

static int ends;

static void count_ends(void *user, const struct fact *fact)
{
    (void)user;
    ends += fact->kind == FACT_COMPLETED;
}

static int follow_runs(struct facts *facts)
{
    static const char created[] =
        "{\"id\": \"copy-vdb-libvirt-1-format\", \"status\": \"created\"}";
    static const char failed[] =
        "{\"device\": \"copy-vdb-libvirt-1-format\", \"error\": \"No space left\"}";
    int r = facts_set_alias(facts, "vda", "virtio-disk0");
    if (r == BJ_OK)
        r = facts_start_sent(facts, "vdb");
    if (r == BJ_OK)
        r = facts_qemu_event(facts, "JOB_STATUS_CHANGE", created, 1);
    if (r == BJ_OK)
        r = facts_row(facts, "vda", true);
    if (r == BJ_OK)
        r = facts_qemu_event(facts, "BLOCK_JOB_COMPLETED", failed, 1);
    if (r == BJ_OK)
        r = facts_block_job(facts, "vdb", FACTS_COPY, FACTS_FAILED);
    if (r == BJ_OK)
        r = facts_block_job(facts, "vdc", FACTS_PULL, FACTS_COMPLETED);
    return r;
}

static int follow(void)
{
    struct facts *facts = facts_new(count_ends, NULL);
    if (!facts)
        return BJ_E_NOMEM;
    ends = 0;
    int r = follow_runs(facts);
    assert_true(r != BJ_OK || ends == 2);
    facts_free(facts);
    return r;
}

static void b56_facts(void **state)
{
    (void)state;
    check_memory(follow);
}

/* ---------------------------------------------------------------------- starts */

static char *called;

int virDomainBlockCopy(virDomainPtr dom, const char *disk, const char *destxml,
                       virTypedParameterPtr params, int nparams, unsigned int flags)
{
    (void)dom, (void)disk, (void)params, (void)nparams, (void)flags;
    called = __real_strdup(destxml);
    return 0;
}

int virDomainBackupBegin(virDomainPtr domain, const char *backupXML, const char *checkpointXML,
                         unsigned int flags)
{
    (void)domain, (void)checkpointXML, (void)flags;
    called = __real_strdup(backupXML);
    return 0;
}

/* A sentence is "out of memory" where there is none for it. */
static int prepare(struct start *start, struct text **ret_text)
{
    struct disks disks;
    int r = disks_parse("<domain><devices><disk type='file'><source file='/v'/>"
                        "<target dev='vda'/></disk></devices></domain>",
                        &disks);
    if (r != BJ_OK)
        return r;
    r = start_prepare(start, &disks, ret_text);
    disks_clear(&disks);
    return r;
}

static int start_as(const char *command, const json_t *arguments, const char *expected)
{
    struct start *start;
    struct text *text = NULL;
    int r = start_parse(command, arguments, &start, &text);
    if (r == BJ_OK) {
        r = prepare(start, &text);
        if (r != BJ_OK)
            start_free(start);
    }
    text_unref(text);
    if (r != BJ_OK)
        return r;
    called = NULL;
    r = start_call(start, NULL, "vda");
    assert_true(r == BJ_OK || !called);
    if (called)
        assert_string_equal(called, expected);
    __real_free(called);
    start_free(start);
    return r;
}

static json_t *mirror_arguments, *disk_arguments, *backup_arguments;

static int start_mirror(void)
{
    return start_as("blockdev-mirror", mirror_arguments,
                    "<disk type=\"file\"><source file=\"/t\"/><driver type=\"raw\"/></disk>");
}

static int start_disk_backup(void)
{
    return start_as("blockdev-backup", disk_arguments,
                    "<domainbackup><disks><disk name=\"vda\" backupmode=\"full\" type=\"file\">"
                    "<target file=\"/t\"/></disk></disks></domainbackup>");
}

static int start_backup(void)
{
    return start_as("backup", backup_arguments,
                    "<domainbackup mode=\"pull\"><incremental>one</incremental>"
                    "<server transport=\"unix\" socket=\"/s\"/><disks><disk name=\"vda\" "
                    "type=\"file\"><scratch file=\"/t\"/></disk></disks></domainbackup>");
}

static int refuse_start(void)
{
    int r = start_as("block-stream", mirror_arguments, "");
    return r == BJ_E_INVAL ? BJ_OK : r;
}

static void b56_starts(void **state)
{
    (void)state;
    mirror_arguments = json_pack("{ss, ss, ss, ss}", "device", "vda", "target", "/t", "sync",
                                 "full", "format", "raw");
    disk_arguments = json_pack("{ss, ss, ss}", "device", "vda", "target", "/t", "sync", "full");
    backup_arguments = json_pack("{s{ss}, ss, ss, ss, ss}", "disks", "vda", "/t", "mode", "pull",
                                 "server", "unix:/s", "incremental", "one", "checkpoint", "two");
    check_memory(start_mirror);
    check_memory(start_disk_backup);
    check_memory(start_backup);
    assert_int_equal(refuse_start(), BJ_OK);
    json_decref(mirror_arguments);
    json_decref(disk_arguments);
    json_decref(backup_arguments);
}

static int begin(void **state)
{
    (void)state;
    heap_begin();
    /* The declarations are the C library's, of which these are stand-ins. */
    assert_int_equal(xmlMemSetup(__wrap_free, __wrap_malloc, __wrap_realloc, __wrap_strdup), 0);
    xmlInitParser();
    xmlSetGenericErrorFunc(NULL, be_silent);
    return 0;
}

static int end(void **state)
{
    (void)state;
    xmlCleanupParser();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b56_copies),
        cmocka_unit_test(b56_disks),
        cmocka_unit_test(b56_facts),
        cmocka_unit_test(b56_starts),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
