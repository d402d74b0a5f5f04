/* SPDX-License-Identifier: MIT */
/*
 * libvirt's backup: one job, whatever the number of its disks.
 */
#include "libvirt.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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
    needs_libvirt_that_can("back up");
    world *w = *state;
    bj_future *started = begin(w, "vda", text_of(w, XML("<disks>%s</disks>"), disk_xml(w, "vda")));
    bj_job *job = hold_job(w, bj_future_job(answers(started, BJ_OK)));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);

    /* Without a list it is of all disks. */
    job = hold_job(w, bj_future_job(answers(begin(w, "vdb", XML("")), BJ_OK)));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

/* ----------------------------------------------------------------------- one job */

static bj_job *begin_all(world *w, const char *first, const char *second)
{
    const char *xml = text_of(w, XML("<disks>%s%s</disks>"), first, second);
    return hold_job(w, bj_future_job(answers(begin(w, "vdc", xml), BJ_OK)));
}

/* Of vdc and vdd, which are halted. */
static bj_job *begin_halted(world *w)
{
    stop_store(w->domain);
    return begin_all(w, disk_xml(w, "vdc"), disk_xml(w, "vdd"));
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
    needs_libvirt_that_can("back up");
    world *w = *state;
    bj_job *job = begin_halted(w);
    assert_string_equal(bj_job_id(job), "backup");
    assert_string_equal(bj_job_type(job), "backup");
    has_disks(job, "vdc", "vdd");

    bj_future *list = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
    assert_int_equal(bj_future_info_count(list), 1);
    assert_string_equal(bj_future_info(list, 0)->id, "backup");
    assert_string_equal(bj_future_info(list, 0)->type, "backup");

    assert_ptr_equal(attach(w, "backup"), job);
    assert_ptr_equal(attach(w, "vdc"), job);
    assert_ptr_equal(attach(w, "vdd"), job);
    expect(w, bj_monitor_attach(w->monitor, "vdb", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB);

    go_on_store(w->domain);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_true(same_image(backup_of(w, "vdc"), image_path(w, "store")));
    assert_true(exists(backup_of(w, "vdd")));
}

static bj_job *attach_elsewhere(world *w, const char *id)
{
    bj_monitor *other = connect_to(w, w->domain->uri);
    bj_future *attached = expect(w, bj_monitor_attach(other, id, BJ_TIMEOUT_DEFAULT), BJ_OK);
    return hold_job(w, bj_future_job(attached));
}

static void c12_a_backup_of_another_client(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    stop_store(w->domain);
    their_backup(w->domain,
                 text_of(w, XML("<disks>%s%s</disks>"), disk_xml(w, "vdc"), disk_xml(w, "vdd")));

    bj_job *job = attach(w, "vdd");
    assert_string_equal(bj_job_id(job), "backup");
    has_disks(job, "vdc", "vdd");
    assert_ptr_equal(attach(w, "backup"), job);
    bj_job *other = attach_elsewhere(w, "vdc");

    go_on_store(w->domain);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    expect_end(w, bj_job_done(other, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

/* --------------------------------------------------------------------- one outcome */

/* Neither of the two ends before the store goes on. */
static void c12_a_disk_that_fails_fails_the_backup(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    const char *bad = text_of(w,
                              "<disk name='vdc' type='file'><driver type='qcow2'/>"
                              "<target file='%s'/></disk>",
                              unwritable_image(w, "bad"));
    const char *good = text_of(w,
                               "<disk name='vdd' type='file'><driver type='qcow2'/>"
                               "<target file='%s'/></disk>",
                               empty_image(w, "good"));
    stop_store(w->domain);
    bj_future *started = bj_monitor_start(
        w->monitor, "virDomainBackupBegin",
        text_of(w,
                JSON({"disk": "vdd", "flags": ["REUSE_EXTERNAL"],
                                       "backupxml":
                                           "<domainbackup><disks>%s%s</disks></domainbackup>"}),
                      good, bad),
                BJ_TIMEOUT_NONE);
    bj_job *job = hold_job(w, bj_future_job(expect(w, started, BJ_OK)));
    go_on_store(w->domain);

    bj_future *done = expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
                                 BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    /* QEMU's reason is EIO for the first write, and ENOMEDIUM for those after it. */
    names(done, bj_job_text(job));
    assert_int_equal(strncmp(bj_job_text(job), "vdc: ", strlen("vdc: ")), 0);
}

/* QEMU can't be asked: when one part is done and another one is halted, it may be deaf. */
static void await_size(const char *path, off_t bytes)
{
    struct stat is = {0};
    while (stat(path, &is) != 0 || is.st_size < bytes)
        usleep(10 * 1000);
}

/* libvirt calls the whole backup failed, and removes what it has made of the good disk. */
static void c12_a_good_disk_is_not_a_backup(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    stop_store(w->domain);
    bj_job *job = begin_all(w, disk_xml(w, "vda"), disk_xml(w, "vdc"));
    await_size(backup_of(w, "vda"), DISK_BYTES);
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    kill_store(w->domain);

    bj_future *done = expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE),
                                 BJ_E_JOB_FAILED, BJ_OUTCOME_FAILED);
    names(done, "vdc: Input/output error");
    assert_false(exists(backup_of(w, "vda")));
}

static void w03_a_push_that_is_aborted_is_cancelled(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    bj_job *job = begin_halted(w);
    expect(w, bj_job_abort(job, BJ_ABORT_SOFT | BJ_ABORT_ASYNC, BJ_TIMEOUT_NONE), BJ_OK);
    bj_future *aborted = bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE);
    go_on_store(w->domain);

    expect_end(w, aborted, BJ_OK, BJ_OUTCOME_CANCELLED);
    assert_false(exists(backup_of(w, "vdc")));
    expect(w, bj_monitor_attach(w->monitor, "vdc", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB);
}

static void b65_a_backup_ends_with_its_domain(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    bj_job *job = begin_halted(w);
    kill_domain(w->domain);
    names(expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_E_JOB_LOST,
                     BJ_OUTCOME_LOST),
          w->domain->name);
}

/* ------------------------------------------------------------------------- options */

static bj_future *back_up(world *w, const char *options)
{
    return hold(w, bj_monitor_start(w->monitor, "backup", options, BJ_TIMEOUT_NONE));
}

static bj_job *backup(world *w, const char *options)
{
    return hold_job(w, bj_future_job(answers(back_up(w, options), BJ_OK)));
}

static void w03_options_start_a_backup_of_several_disks(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    const char *prefix = domain_of(w)->prefix;
    bj_job *job = backup(w, text_of(w, JSON({"disks": {"%s-vda": "%s-a", "vdb": "%s-b"},
                                          "format": "qcow2", "checkpoint": "one"}),
                                            prefix, prefix, prefix));
    assert_string_equal(bj_job_id(job), "backup");
    has_disks(job, "vda", "vdb");
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    assert_true(same_image(image_path(w, "a"), image_path(w, "vda")));
    assert_true(same_image(image_path(w, "b"), image_path(w, "vdb")));

    job = backup(
        w, text_of(w, JSON({"disks": {"vda": "%s-c"}, "incremental": "one",
                                  "checkpoint": "two"}),
                           prefix));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    const char *checkpoints = text_of(w, "checkpoint-list %s --name", domain_of(w)->name);
    assert_non_null(strstr(virsh(w, checkpoints), "one"));
    assert_non_null(strstr(virsh(w, checkpoints), "two"));
    assert_true(exists(image_path(w, "c"))); /* of nothing: nobody has written since */
}

static const char *pull_of(world *w, const char *disks)
{
    return text_of(w, JSON({"mode": "pull", "server": "unix:%s-nbd", "disks": %s}),
                           domain_of(w)->prefix, disks);
}

static void w03_a_pull_that_its_client_ends_is_complete(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    const char *prefix = domain_of(w)->prefix;
    const char *disks = text_of(w, JSON({"vda": "%s-s", "vdb": "%s-t"}), prefix, prefix);
    bj_job *job = backup(w, pull_of(w, disks));
    has_disks(job, "vda", "vdb");
    assert_true(exists(image_path(w, "nbd")));
    assert_ptr_equal(attach(w, "vdb"), job);
    assert_ptr_equal(attach(w, image_path(w, "vda")), job);

    bj_job *theirs = attach_elsewhere(w, "backup");
    bj_future *done = bj_job_done(theirs, BJ_DONE_OVER, BJ_TIMEOUT_NONE);
    expect_end(w, bj_job_abort(job, BJ_ABORT_SOFT, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
    expect_end(w, done, BJ_OK, BJ_OUTCOME_COMPLETED);

    /* Another client ends the next. */
    job = backup(w, pull_of(w, text_of(w, JSON({"vda": "%s-s"}), prefix)));
    virsh(w, text_of(w, "domjobabort %s", domain_of(w)->name));
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

/* A mirror of a disk beside the backup of another is a job of its own. */
static void c12_a_copy_beside_a_backup(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    const char *disks = text_of(w, JSON({"vda": "%s-s"}), domain_of(w)->prefix);
    bj_job *pull = backup(w, pull_of(w, disks));
    bj_job *copy = mirror(w, "vdb", empty_image(w, "copy"), REUSE);
    assert_string_equal(bj_job_disk(copy, 0), "vdb");
    assert_null(bj_job_disk(copy, 1));
    expect_end(w, bj_job_pivot(copy, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
    assert_int_equal(bj_job_outcome(pull), BJ_OUTCOME_NONE);
    expect_end(w, bj_job_abort(pull, BJ_ABORT_FORCE, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void w03_the_speed_of_a_backup(void **state)
{
    needs_libvirt_that_can("change the speed of a backup");
    world *w = *state;
    bj_job *job = begin_halted(w);
    expect(w, bj_job_set_speed(job, 1 << 20, BJ_TIMEOUT_NONE), BJ_OK);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    go_on_store(w->domain);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void w03_verbs_that_a_backup_lacks(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    bj_job *job = begin_halted(w);
    expect(w, bj_job_ready(job, BJ_TIMEOUT_NONE), BJ_E_STATE);
    expect(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_E_STATE);
    expect(w, bj_job_pause(job, BJ_TIMEOUT_NONE), BJ_E_UNSUPPORTED);
    go_on_store(w->domain);
    expect_end(w, bj_job_done(job, BJ_DONE_OVER, BJ_TIMEOUT_NONE), BJ_OK, BJ_OUTCOME_COMPLETED);
}

static void w03_bad_options_are_named(void **state)
{
    needs_libvirt_that_can("back up");
    world *w = *state;
    const char *path = domain_of(w)->prefix;
    static const struct {
        const char *options;
        int error;
        const char *word;
    } bad[] = {
        {JSON({"disks": {"vda": "%s-backup-vda", "vdz": "/z"}}), BJ_E_INVAL, "vdz"},
         {JSON({"disks": {"vda": "%s-backup-vda"}, "no-such-option": 1}), BJ_E_INVAL,
                "no-such-option"},
          {JSON({"disks": {"vda": "%s-backup-vda", "vdb": null}}), BJ_E_INVAL, "disks"},
           {JSON({"disks": {"vda": "%s-backup-vda"}, "incremental": "nowhere"}), BJ_E_REFUSED,
                  "nowhere"},
            {JSON({"disks": {"vda": "%s-backup-vda", "vdb": "/no/such/folder/b"}}), BJ_E_REFUSED,
                   "/no/such/folder"},
             {JSON({"disks": {"vda": "%s-backup-vda"}, "mode": "pull"}), BJ_E_INVAL, "server"},
            };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char options[512];
        const char *rest = strstr(bad[i].options, "%s") + 2;
        snprintf(options, sizeof options, "%.*s%s%s", (int)(rest - 2 - bad[i].options),
                 bad[i].options, path, rest);
        names(answers(back_up(w, options), bad[i].error), bad[i].word);
    }
    nothing_was_started(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORED_DOMAIN_TEST(b65_a_backup_ends_with_its_domain),
        DOMAIN_TEST(c05_a_backup_that_has_the_disk_is_started),
        DOMAIN_TEST(c05_a_backup_that_leaves_out_the_disk_is_not_started),
        STORED_DOMAIN_TEST(c12_a_backup_of_another_client),
        STORED_DOMAIN_TEST(c12_a_backup_of_two_disks_is_one_job),
        DOMAIN_TEST(c12_a_copy_beside_a_backup),
        STORED_DOMAIN_TEST(c12_a_disk_that_fails_fails_the_backup),
        STORED_DOMAIN_TEST(c12_a_good_disk_is_not_a_backup),
        DOMAIN_TEST(w03_a_pull_that_its_client_ends_is_complete),
        STORED_DOMAIN_TEST(w03_a_push_that_is_aborted_is_cancelled),
        DOMAIN_TEST(w03_bad_options_are_named),
        DOMAIN_TEST(w03_options_start_a_backup_of_several_disks),
        STORED_DOMAIN_TEST(w03_the_speed_of_a_backup),
        STORED_DOMAIN_TEST(w03_verbs_that_a_backup_lacks),
    };
    return run_on_libvirt(tests);
}
