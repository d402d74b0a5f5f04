/* SPDX-License-Identifier: MIT */
/*
 * libvirt's backup: one job, whatever the number of its disks.
 */
#include "libvirt.h"

#include <unistd.h>

#define XML(content) "<domainbackup>" content "</domainbackup>"

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void nothing_was_started(world *w)
{
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
    assert_false(exists(image_path(w, "backup")));
    assert_false(exists(image_path(w, "backup-vdb")));
}

/* ------------------------------------------------------------- libvirt's own words */

static bj_future *begin(world *w, const char *disk, const char *xml)
{
    return hold(w, bj_monitor_start(w->monitor, "virDomainBackupBegin",
                                    text_of(w, JSON({"disk": "%s", "backupxml": "%s"}), disk, xml),
                                            BJ_TIMEOUT_NONE));
}

static const char *disk_xml(world *w, const char *disk)
{
    return text_of(w, "<disk name='%s' type='file'><target file='%s-backup'/></disk>", disk,
                   domain_of(w)->prefix);
}

/* libvirt makes no job on a disk that the XML leaves out, and does not object to it. */
static void c05_a_backup_that_leaves_out_the_disk_is_not_started(void **state)
{
    world *w = *state;
    const char *vda = disk_xml(w, "vda");
    const char *explicitly = text_of(w, "%s<disk name='vdb' backup='no'/>", vda);

    names(answers(begin(w, "vdb", text_of(w, XML("<disks>%s</disks>"), vda)), BJ_E_INVAL), "vdb");
    names(answers(begin(w, "vdb", text_of(w, XML("<disks>%s</disks>"), explicitly)), BJ_E_INVAL),
          "vdb");
    names(answers(begin(w, "vdz", text_of(w, XML("<disks>%s</disks>"), vda)), BJ_E_INVAL), "vdz");
    names(answers(begin(w, "vda", "<domainbackup"), BJ_E_INVAL), "backupxml");
    nothing_was_started(w);
}

static void c05_a_backup_that_has_the_disk_is_started(void **state)
{
    world *w = *state;
    bj_future *started = begin(w, "vda", text_of(w, XML("<disks>%s</disks>"), disk_xml(w, "vda")));
    bj_job *job = hold_job(w, bj_future_job(answers(started, BJ_OK)));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);

    /* Without a list it is of all disks. */
    job = hold_job(w, bj_future_job(answers(begin(w, "vdb", XML("")), BJ_OK)));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(c05_a_backup_that_has_the_disk_is_started),
        DOMAIN_TEST(c05_a_backup_that_leaves_out_the_disk_is_not_started),
    };
    return run_on_libvirt(tests);
}
