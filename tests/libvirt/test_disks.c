/* SPDX-License-Identifier: MIT */
/*
 * A domain's disks, out of its XML.
 */
#include "disks.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <stdlib.h>

#define DOMAIN(devices)                                                                            \
    "<domain type='kvm' id='3'><name>vm1</name><devices>" devices "</devices></domain>"

static struct disks parse(const char *xml)
{
    struct disks disks;
    assert_int_equal(disks_parse(xml, &disks), BJ_OK);
    return disks;
}

static void assert_disk(const struct disk *disk, const char *target, const char *source)
{
    assert_non_null(disk);
    assert_string_equal(disk->target, target);
    assert_string_equal(disk->source ? disk->source : "(none)", source);
}

static void assert_mirror(const struct disk *disk, const char *mirror, bool ready, bool is_commit)
{
    assert_true(disk->has_mirror);
    assert_string_equal(disk->mirror ? disk->mirror : "(none)", mirror);
    assert_int_equal(disk->mirror_ready, ready);
    assert_int_equal(disk->is_commit, is_commit);
}

/* ----------------------------------------------------------------------- sources */

static void b69_each_kind_of_source_has_its_place(void **state)
{
    (void)state;
    struct disks disks = parse(DOMAIN(
        "<emulator>/usr/bin/qemu</emulator>"
        "<disk type='file'><source file='/a/b.qcow2'/><target dev='vda'/></disk>"
        "<disk type='block'><source dev='/dev/sdq'/><target dev='vdb'/></disk>"
        "<disk type='network'><source protocol='rbd' name='pool/image'><host name='h'/></source>"
        "<target dev='vdc'/></disk>"
        "<disk type='dir'><source dir='/d'/><target dev='vdd'/></disk>"
        "<disk type='volume'><source pool='p' volume='v'/><target dev='vde'/></disk>"
        "<disk type='vhostuser'><source type='unix' path='/s'/><target dev='vdf'/></disk>"
        "<disk type='nvme'><source type='pci' namespace='1'/><target dev='vdg'/></disk>"
        "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
        "<disk type='file' device='cdrom'><source startupPolicy='optional'/><target dev='sdb'/></disk>"
        "<disk><source file='/old'/><target dev='sdc'/></disk>"
        "<interface type='network'><target dev='vnet0'/></interface>"));
    static const char *const sources[] = {"/a/b.qcow2", "/dev/sdq", "pool/image", "/d",     "v",
                                          "/s",         "(none)",   "(none)",     "(none)", "/old"};
    static const char *const targets[] = {"vda", "vdb", "vdc", "vdd", "vde",
                                          "vdf", "vdg", "sda", "sdb", "sdc"};
    assert_int_equal(disks.count, 10);
    for (size_t i = 0; i < disks.count; i++) {
        assert_disk(&disks.disks[i], targets[i], sources[i]);
        assert_false(disks.disks[i].has_mirror);
    }
    disks_clear(&disks);
    assert_int_equal(disks.count, 0);
}

static void c11_an_alias_names_migrations_only_where_other_jobs_have_nodes(void **state)
{
    (void)state;
    struct disks disks =
        parse(DOMAIN("<disk type='file'><source file='/a' index='2'/><target dev='vda'/>"
                     "<alias name='virtio-disk0'/></disk>"
                     "<disk type='file'><source file='/b'/><target dev='vdb'/>"
                     "<alias name='virtio-disk1'/></disk>"
                     "<disk type='file' device='cdrom'><target dev='sda'/>"
                     "<alias name='sata0-0-0'/></disk>"
                     "<disk type='file'><source file='/d' index='1'/><target dev='vdd'/></disk>"));
    assert_int_equal(disks.count, 4);
    assert_string_equal(disks.disks[0].alias, "virtio-disk0");
    for (size_t i = 1; i < disks.count; i++)
        assert_null(disks.disks[i].alias);
    disks_clear(&disks);
}

static void b69_a_disk_is_found_by_target_and_by_path(void **state)
{
    (void)state;
    struct disks disks =
        parse(DOMAIN("<disk type='file'><source file='vdb'/><target dev='vda'/></disk>"
                     "<disk type='file'><source file='/b'/><target dev='vdb'/></disk>"
                     "<disk type='file'><source file='/shared'/><target dev='vdc'/></disk>"
                     "<disk type='file'><source file='/shared'/><target dev='vdd'/></disk>"));
    assert_disk(disks_find(&disks, "vda"), "vda", "vdb");
    assert_disk(disks_find(&disks, "vdb"), "vdb", "/b"); /* targets come first */
    assert_disk(disks_find(&disks, "/b"), "vdb", "/b");
    assert_null(disks_find(&disks, "/shared")); /* which of them? */
    assert_null(disks_find(&disks, "/nowhere"));
    assert_null(disks_find(&disks, ""));
    disks_clear(&disks);
}

static void b69_what_is_escaped_is_read(void **state)
{
    (void)state;
    struct disks disks = parse("<?xml version='1.0' encoding='UTF-8'?>" DOMAIN(
        "<disk type='file'><source file='/a&amp;b/&lt;&#39;&quot;&#xe9;\xc3\xa9&#10;'/>"
        "<target dev='vda'/></disk>"));
    assert_disk(&disks.disks[0], "vda", "/a&b/<'\"\xc3\xa9\xc3\xa9\n");
    disks_clear(&disks);
}

static void b69_what_backs_a_disk_is_not_the_disk(void **state)
{
    (void)state;
    struct disks disks = parse(DOMAIN(
        "<disk type='file'>"
        "<backingStore type='block'><source dev='/base'/><target dev='vdy'/>"
        "<backingStore type='file'><source file='/bottom'/></backingStore></backingStore>"
        "<mirror type='block' job='copy'><format type='raw'/>"
        "<backingStore type='file'><source file='/base of the copy'/></backingStore>"
        "<source dev='/dev/copy'/></mirror>"
        "<source file='/top'><slices><source file='/slice'/></slices></source>"
        "<target dev='vda'/></disk>"
        "<disk type='file'><backingStore type='file'><source file='/x'/></backingStore>"
        "<mirror type='file' job='copy'><backingStore><source file='/y'/></backingStore></mirror>"
        "<target dev='vdb'/></disk>"));
    assert_int_equal(disks.count, 2);
    assert_disk(&disks.disks[0], "vda", "/top");
    assert_mirror(&disks.disks[0], "/dev/copy", false, false);
    assert_disk(&disks.disks[1], "vdb", "(none)");
    assert_mirror(&disks.disks[1], "(none)", false, false);
    disks_clear(&disks);
}

/* ----------------------------------------------------------------------- mirrors */

#define MIRRORED(attributes)                                                                       \
    DOMAIN("<disk type='network'><source protocol='nbd' name='n'/><target dev='vda'/>"             \
           "<mirror " attributes "><source file='/copy'/></mirror></disk>")

static void check_mirror(const char *xml, bool ready, bool is_commit)
{
    struct disks disks = parse(xml);
    assert_int_equal(disks.count, 1);
    assert_disk(&disks.disks[0], "vda", "n");
    assert_mirror(&disks.disks[0], "/copy", ready, is_commit);
    disks_clear(&disks);
}

static void b64_a_mirror_is_ready_when_libvirt_takes_a_pivot(void **state)
{
    (void)state;
    check_mirror(MIRRORED("type='file' job='copy'"), false, false);
    check_mirror(MIRRORED("type='file' job='copy' ready='yes'"), true, false);
    check_mirror(MIRRORED("type='file' job='copy' ready='pivot'"), true, false);
    check_mirror(MIRRORED("type='file' job='copy' ready='abort'"), false, false);
    check_mirror(MIRRORED("type='file' job='copy' ready='odd'"), false, false);
    check_mirror(MIRRORED("type='file' job='active-commit' ready='yes'"), true, true);
    check_mirror(MIRRORED("type='file' job='active-commit'"), false, true);
    check_mirror(MIRRORED("file='/copy' format='raw' ready='yes'"), true, false);
}

static void check_ending(const char *xml, bool is_ending)
{
    struct disks disks = parse(xml);
    assert_int_equal(disks.count, 1);
    assert_int_equal(disks.disks[0].is_ending, is_ending);
    disks_clear(&disks);
}

static void c30_a_mirror_that_is_being_ended(void **state)
{
    (void)state;
    check_ending(MIRRORED("type='file' job='copy'"), false);
    check_ending(MIRRORED("type='file' job='copy' ready='yes'"), false);
    check_ending(MIRRORED("type='file' job='copy' ready='pivot'"), true);
    check_ending(MIRRORED("type='file' job='active-commit' ready='abort'"), true);
}

static void b64_a_mirror_of_old_is_read(void **state)
{
    (void)state;
    struct disks disks = parse(DOMAIN("<disk type='block'><source dev='/d'/><target dev='vda'/>"
                                      "<mirror file='/copy' format='raw'/></disk>"));
    assert_mirror(&disks.disks[0], "/copy", false, false);
    disks_clear(&disks);
}

/* ----------------------------------------------------------------- what is none */

static void assert_refused(const char *xml)
{
    struct disks disks = {.count = 77};
    assert_int_equal(disks_parse(xml, &disks), BJ_E_PROTOCOL);
    assert_int_equal(disks.count, 77);
}

static void b56_what_is_no_domain_is_refused(void **state)
{
    (void)state;
    assert_refused("");
    assert_refused("vda");
    assert_refused("<domain>");
    assert_refused("<domain/><domain/>");
    assert_refused("<domainsnapshot><devices/></domainsnapshot>");
    assert_refused("<domain>\xff</domain>");
    assert_refused("<domain>&vda;</domain>");
    assert_refused("<!DOCTYPE domain [<!ENTITY a 'b'>]>" DOMAIN(""));
    assert_refused("<!DOCTYPE domain SYSTEM 'http://127.0.0.1:1/x.dtd'>" DOMAIN(""));
    assert_refused("<!DOCTYPE domain [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>" DOMAIN(
        "<disk><target dev='&a;'/></disk>"));
}

/* "Billion laughs". */
static void b56_entities_cost_nothing(void **state)
{
    (void)state;
    assert_refused("<!DOCTYPE domain [<!ENTITY a0 'haha'>"
                   "<!ENTITY a1 '&a0;&a0;&a0;&a0;&a0;&a0;&a0;&a0;&a0;&a0;'>"
                   "<!ENTITY a2 '&a1;&a1;&a1;&a1;&a1;&a1;&a1;&a1;&a1;&a1;'>"
                   "<!ENTITY a3 '&a2;&a2;&a2;&a2;&a2;&a2;&a2;&a2;&a2;&a2;'>"
                   "<!ENTITY a4 '&a3;&a3;&a3;&a3;&a3;&a3;&a3;&a3;&a3;&a3;'>"
                   "<!ENTITY a5 '&a4;&a4;&a4;&a4;&a4;&a4;&a4;&a4;&a4;&a4;'>"
                   "<!ENTITY a6 '&a5;&a5;&a5;&a5;&a5;&a5;&a5;&a5;&a5;&a5;'>"
                   "<!ENTITY a7 '&a6;&a6;&a6;&a6;&a6;&a6;&a6;&a6;&a6;&a6;'>"
                   "<!ENTITY a8 '&a7;&a7;&a7;&a7;&a7;&a7;&a7;&a7;&a7;&a7;'>]>" DOMAIN(
                       "<disk><target dev='&a8;'/></disk>"));
}

static void b50_what_lacks_is_not_there(void **state)
{
    (void)state;
    struct disks disks = parse("<domain/>");
    assert_int_equal(disks.count, 0);
    disks_clear(&disks);

    disks = parse(DOMAIN("<disk/><disk><target/></disk><disk><target dev=''/></disk>"
                         "<disk type='odd'><source file='/f'/><target dev='vda'/></disk>"
                         "<disk type='file'><source file=''/><target dev='vdb'/></disk>"));
    assert_int_equal(disks.count, 2);
    assert_disk(&disks.disks[0], "vda", "/f");
    assert_disk(&disks.disks[1], "vdb", "(none)");
    disks_clear(&disks);
}

static void b56_a_large_domain_is_read(void **state)
{
    (void)state;
    enum { DISKS = 20000, CHAIN = 200, ROOM = 4 << 20 };
    char *xml = malloc(ROOM);
    assert_non_null(xml);
    int len = snprintf(xml, ROOM, "<domain><devices>");
    for (int i = 0; i < DISKS; i++)
        len += snprintf(xml + len, (size_t)(ROOM - len),
                        "<disk type='file'><source file='/%d'/><target dev='vd%d'/></disk>", i, i);
    len += snprintf(xml + len, (size_t)(ROOM - len), "<disk><target dev='deep'/>");
    for (int i = 0; i < CHAIN; i++)
        len += snprintf(xml + len, (size_t)(ROOM - len), "<backingStore>");
    for (int i = 0; i < CHAIN; i++)
        len += snprintf(xml + len, (size_t)(ROOM - len), "</backingStore>");
    snprintf(xml + len, (size_t)(ROOM - len), "</disk></devices></domain>");

    struct disks disks = parse(xml);
    assert_int_equal(disks.count, DISKS + 1);
    assert_disk(disks_find(&disks, "/19999"), "vd19999", "/19999");
    disks_clear(&disks);
    free(xml);
}

/* A domain's XML with a few bytes that are others, or that is cut off: it is read or refused. */
static void b56_spoilt_xml_does_no_harm(void **state)
{
    (void)state;
    static const char whole[] =
        DOMAIN("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
               "<source file='/a&amp;b' index='1'/><backingStore type='file'><source file='/c'/>"
               "</backingStore><mirror type='file' job='copy' ready='yes'><source file='/m'/>"
               "</mirror><target dev='vda' bus='virtio'/></disk>");
    static const char spoilers[] = "<>/'\"&;!?[]= \t\n\x01\x80\xc3vd";
    unsigned seed = 7;
    int read = 0, refused = 0;

    for (int i = 0; i < 20000; i++) {
        char xml[sizeof whole];
        memcpy(xml, whole, sizeof whole);
        for (int spoilt = 0; spoilt < 1 + i % 3; spoilt++) {
            seed = seed * 1103515245U + 12345U;
            xml[(seed >> 8) % (sizeof whole - 1)] = spoilers[(seed >> 20) % (sizeof spoilers - 1)];
        }
        if (i % 5 == 0)
            xml[(seed >> 10) % sizeof whole] = '\0';
        struct disks disks;
        int r = disks_parse(xml, &disks);
        if (r == BJ_OK) {
            (void)disks_find(&disks, "vda");
            disks_clear(&disks);
            read++;
        } else {
            assert_int_equal(r, BJ_E_PROTOCOL);
            refused++;
        }
    }
    assert_true(read > 100);
    assert_true(refused > 100);
}

static int forget_parser(void **state)
{
    (void)state;
    xmlCleanupParser();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(b69_each_kind_of_source_has_its_place),
        cmocka_unit_test(c11_an_alias_names_migrations_only_where_other_jobs_have_nodes),
        cmocka_unit_test(b69_a_disk_is_found_by_target_and_by_path),
        cmocka_unit_test(b69_what_is_escaped_is_read),
        cmocka_unit_test(b69_what_backs_a_disk_is_not_the_disk),
        cmocka_unit_test(b64_a_mirror_is_ready_when_libvirt_takes_a_pivot),
        cmocka_unit_test(b64_a_mirror_of_old_is_read),
        cmocka_unit_test(b56_what_is_no_domain_is_refused),
        cmocka_unit_test(b56_entities_cost_nothing),
        cmocka_unit_test(b50_what_lacks_is_not_there),
        cmocka_unit_test(b56_a_large_domain_is_read),
        cmocka_unit_test(b56_spoilt_xml_does_no_harm),
        cmocka_unit_test(c30_a_mirror_that_is_being_ended),
    };
    return cmocka_run_group_tests(tests, NULL, forget_parser);
}
