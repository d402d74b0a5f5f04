/* SPDX-License-Identifier: MIT */
/*
 * libvirt's backup: one job, whatever the number of its disks.
 */
#include "libvirt.h"

#include <stdint.h>
#include <unistd.h>

#define DISK_BYTES (4 << 20)
#define XML(content) "<domainbackup>" content "</domainbackup>"

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static const char *backup_of(world *w, const char *disk)
{
    return text_of(w, "%s-backup-%s", domain_of(w)->prefix, disk);
}

static void nothing_was_started(world *w)
{
    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 0);
    assert_false(exists(backup_of(w, "vda")));
    assert_false(exists(backup_of(w, "vdb")));
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
    return text_of(w, "<disk name='%s' type='file'><target file='%s-backup-%s'/></disk>", disk,
                   domain_of(w)->prefix, disk);
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

/* ----------------------------------------------------------------------- one job */

static bj_job *begin_all(world *w, const char *first, const char *second, const char *third)
{
    const char *xml = text_of(w, XML("<disks>%s%s%s</disks>"), first, second, third);
    return hold_job(w, bj_future_job(answers(begin(w, "vda", xml), BJ_OK)));
}

/* Of vda and vdc, which is halted. */
static bj_job *begin_halted(world *w)
{
    halt_store(w->domain);
    return begin_all(w, disk_xml(w, "vda"), disk_xml(w, "vdc"), "");
}

static void has_disks(bj_job *job, const char *first, const char *second)
{
    assert_string_equal(bj_job_disk(job, 0), first);
    assert_string_equal(bj_job_disk(job, 1), second);
    assert_null(bj_job_disk(job, 2));
    assert_null(bj_job_disk(job, SIZE_MAX));
}

static void c12_a_backup_of_two_disks_is_one_job(void **state)
{
    world *w = *state;
    bj_job *job = begin_halted(w);
    assert_string_equal(bj_job_id(job), "backup");
    assert_string_equal(bj_job_type(job), "backup");
    has_disks(job, "vda", "vdc");

    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 1);
    assert_string_equal(bj_future_info(list, 0)->id, "backup");
    assert_string_equal(bj_future_info(list, 0)->type, "backup");

    assert_ptr_equal(attach(w, "backup"), job);
    assert_ptr_equal(attach(w, "vda"), job);
    assert_ptr_equal(attach(w, "vdc"), job);
    assert_ptr_equal(attach(w, image_path(w, "vda")), job);
    expect(w, bj_monitor_attach(w->monitor, "vdb", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB);

    release_store(w->domain);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_true(same_image(backup_of(w, "vda"), image_path(w, "vda")));
    assert_true(exists(backup_of(w, "vdc")));
}

static bj_job *attach_elsewhere(world *w, const char *id)
{
    bj_monitor *other = connect_to(w, w->domain->uri);
    bj_future *attached = expect(w, bj_monitor_attach(other, id, BJ_TIMEOUT_DEFAULT), BJ_OK);
    return hold_job(w, bj_future_job(attached));
}

static void c12_a_backup_of_another_client(void **state)
{
    world *w = *state;
    halt_store(w->domain);
    their_backup(w->domain,
                 text_of(w, XML("<disks>%s%s</disks>"), disk_xml(w, "vdb"), disk_xml(w, "vdc")));

    bj_job *job = attach(w, "vdc");
    assert_string_equal(bj_job_id(job), "backup");
    has_disks(job, "vdb", "vdc");
    assert_ptr_equal(attach(w, "backup"), job);
    bj_job *other = attach_elsewhere(w, "vdb");

    release_store(w->domain);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    expect_end(w, bj_job_done(other, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

/* --------------------------------------------------------------------- one outcome */

static void c12_a_disk_that_fails_fails_the_backup(void **state)
{
    world *w = *state;
    const char *bad = text_of(w,
                              "<disk name='vdb' type='file'><driver type='qcow2'/>"
                              "<target file='%s'/></disk>",
                              unwritable_image(w, "bad"));
    const char *good = text_of(w,
                               "<disk name='vda' type='file'><driver type='qcow2'/>"
                               "<target file='%s'/></disk>",
                               empty_image(w, "good"));
    const char *halted = text_of(w,
                                 "<disk name='vdc' type='file'><driver type='qcow2'/>"
                                 "<target file='%s'/></disk>",
                                 empty_image(w, "halted"));
    halt_store(w->domain);
    bj_future *started = bj_monitor_start(
        w->monitor, "virDomainBackupBegin",
        text_of(w,
                JSON({"disk": "vda", "flags": ["REUSE_EXTERNAL"],
                                       "backupxml":
                                           "<domainbackup><disks>%s%s%s</disks></domainbackup>"}),
                      good, bad, halted),
                BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    release_store(w->domain);

    bj_future *done = expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
                                 BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    names(done, "vdb: Input/output error");
    assert_string_equal(bj_job_text(job), "vdb: Input/output error");
}

static void await_progress(bj_job *job, int64_t bytes)
{
    int64_t current = -1;
    while (current < bytes) {
        bj_future *future = bj_job_query(job, BJ_TIMEOUT_NONE);
        current = bj_future_info(answers(future, BJ_OK), 0)->current;
        bj_future_unref(future);
    }
}

/* libvirt calls the whole backup failed, and removes what it has made of the good disk. */
static void c12_a_good_disk_is_not_a_backup(void **state)
{
    world *w = *state;
    bj_job *job = begin_halted(w);
    await_progress(job, DISK_BYTES);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    kill_store(w->domain);

    bj_future *done = expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
                                 BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    names(done, "vdc: Input/output error");
    assert_false(exists(backup_of(w, "vda")));
}

static void w03_a_push_that_is_aborted_is_cancelled(void **state)
{
    world *w = *state;
    bj_job *job = begin_halted(w);
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *aborted = bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE);
    release_store(w->domain);

    expect_end(w, aborted, BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_false(exists(backup_of(w, "vda")));
    expect(w, bj_monitor_attach(w->monitor, "vda", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB);
}

static void b65_a_backup_ends_with_its_domain(void **state)
{
    world *w = *state;
    bj_job *job = begin_halted(w);
    kill_domain(w->domain);
    names(expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_LOST,
                     BJ_OUTCOME_LOST),
          w->domain->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORED_DOMAIN_TEST(b65_a_backup_ends_with_its_domain),
        DOMAIN_TEST(c05_a_backup_that_has_the_disk_is_started),
        DOMAIN_TEST(c05_a_backup_that_leaves_out_the_disk_is_not_started),
        STORED_DOMAIN_TEST(c12_a_backup_of_another_client),
        STORED_DOMAIN_TEST(c12_a_backup_of_two_disks_is_one_job),
        STORED_DOMAIN_TEST(c12_a_disk_that_fails_fails_the_backup),
        STORED_DOMAIN_TEST(c12_a_good_disk_is_not_a_backup),
        STORED_DOMAIN_TEST(w03_a_push_that_is_aborted_is_cancelled),
    };
    return run_on_libvirt(tests);
}
