/* SPDX-License-Identifier: MIT */
/*
 * When libvirt is asked again: for a pivot that it finds too early, as long as it is the same copy;
 * and after an error that may mean that QEMU is gone, if it can't talk to it. What a backup's speed
 * is where one of its parts has just ended.
 */
#include "calls.h"
#include "libvirt.h"

#include <dlfcn.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool has_ended, given_up;
static domain *shared;
static int calls;

/* When the pivot is on its way, another client ends the copy and begins one of its own, which is
 * ready by the time of the second call. */
static void replace_copy(void)
{
    if (++calls == 1) {
        their_verb(shared, "vda", "abort");
        their_copy(shared, "theirs", true);
    } else {
        their_verb(shared, "vda", "release");
        await_mirror(shared, "vda", "ready");
    }
}

/* libvirt's, with that before it. */
int virDomainBlockJobAbort(virDomainPtr dom, const char *disk, unsigned int flags)
{
    int (*real)(virDomainPtr, const char *, unsigned int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "virDomainBlockJobAbort");
    assert_non_null(real);
    replace_copy();
    return real(dom, disk, flags);
}

static int asked_if_active, asked_qemu;

int virDomainIsActive(virDomainPtr dom)
{
    int (*real)(virDomainPtr) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "virDomainIsActive");
    assert_non_null(real);
    asked_if_active++;
    return real(dom);
}

int virDomainBlockStats(virDomainPtr dom, const char *disk, virDomainBlockStatsPtr stats,
                        size_t size)
{
    int (*real)(virDomainPtr, const char *, virDomainBlockStatsPtr, size_t) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "virDomainBlockStats");
    assert_non_null(real);
    asked_qemu++;
    return real(dom, disk, stats, size);
}

/* The disks of the parts that QEMU has concluded, which libvirt has not heard yet. */
static const char *concluded = "";
static int forced_code;

int virDomainBlockJobSetSpeed(virDomainPtr dom, const char *disk, unsigned long bandwidth,
                              unsigned int flags)
{
    int (*real)(virDomainPtr, const char *, unsigned long, unsigned int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "virDomainBlockJobSetSpeed");
    assert_non_null(real);
    forced_code = strstr(concluded, disk) ? VIR_ERR_INTERNAL_ERROR : 0;
    return forced_code ? -1 : real(dom, disk, bandwidth, flags);
}

int virGetLastErrorCode(void)
{
    int (*real)(void) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "virGetLastErrorCode");
    assert_non_null(real);
    return forced_code ? forced_code : real();
}

static virDomainPtr look_up(const domain *d, virConnectPtr *ret_connection)
{
    *ret_connection = virConnectOpen(host_uri());
    assert_non_null(*ret_connection);
    virDomainPtr handle = virDomainLookupByName(*ret_connection, d->name);
    assert_non_null(handle);
    return handle;
}

/* The error of a pivot of the world's copy. */
static int pivot(world *w, const char *mirror)
{
    virConnectPtr connection;
    struct call_error error = {0};
    virDomainPtr handle = look_up(w->domain, &connection);
    const struct call_run run = {"vda", mirror, &has_ended, &given_up};
    calls = 0;
    int code = call_pivot(handle, &run, &error) ? VIR_ERR_OK : error.code;
    call_error_clear(&error);
    virDomainFree(handle);
    assert_int_equal(virConnectClose(connection), 0);
    return code;
}

static int world_with_a_ready_copy(void **state)
{
    world_domain_unconnected(state);
    world *w = *state;
    shared = w->domain;
    atomic_store(&has_ended, false);
    their_copy(w->domain, "copy", false);
    await_mirror(w->domain, "vda", "ready");
    return 0;
}

static void c139_another_clients_next_copy_is_not_pivoted(void **state)
{
    world *w = *state;
    assert_int_equal(pivot(w, image_path(w, "copy")), VIR_ERR_INVALID_ARG);
    assert_int_equal(calls, 1);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
}

static void c139_nor_where_the_end_was_reported_and_no_target_is_known(void **state)
{
    world *w = *state;
    atomic_store(&has_ended, true);
    assert_int_equal(pivot(w, NULL), VIR_ERR_INVALID_ARG);
    assert_int_equal(calls, 1);
    assert_string_equal(source_of(w, w->domain, "vda"), image_path(w, "vda"));
}

/* As it leads to where the one that is meant does. */
static void b64_the_same_copy_is_asked_again(void **state)
{
    world *w = *state;
    assert_int_equal(pivot(w, image_path(w, "theirs")), VIR_ERR_OK);
    assert_int_equal(calls, 2);
}

/* ------------------------------------------------------------------- a backup's speed */

static int world_with_a_stored_disk(void **state)
{
    world_alone(state);
    world *w = *state;
    w->domain = add_stored_domain(w);
    return 0;
}

static void halt_backup(world *w)
{
    const char *prefix = w->domain->prefix;
    stop_store(w->domain);
    their_backup(w->domain, text_of(w,
                                    "<domainbackup><disks>"
                                    "<disk name='vdc' type='file'><target file='%s-c'/></disk>"
                                    "<disk name='vdd' type='file'><target file='%s-d'/></disk>"
                                    "</disks></domainbackup>",
                                    prefix, prefix));
}

/* What becomes of a speed where the parts of these disks have ended. */
static int backup_speed(virDomainPtr handle, const char *disks)
{
    struct call_error error = {0};
    concluded = disks;
    int code = call_set_backup_speed(handle, 1 << 20, &error) ? VIR_ERR_OK : error.code;
    concluded = "";
    forced_code = 0;
    call_error_clear(&error);
    return code;
}

static void c12_one_part_that_takes_a_speed_is_enough(void **state)
{
    needs_libvirt_that_can("change the speed of a backup");
    world *w = *state;
    virConnectPtr connection;
    virDomainPtr handle = look_up(w->domain, &connection);
    assert_int_equal(backup_speed(handle, ""), VIR_ERR_INVALID_ARG); /* there is no backup */
    halt_backup(w);
    assert_int_equal(backup_speed(handle, "vdc"), VIR_ERR_OK);
    assert_int_equal(backup_speed(handle, "vdc vdd"), VIR_ERR_INTERNAL_ERROR);
    virDomainFree(handle);
    assert_int_equal(virConnectClose(connection), 0);
    go_on_store(w->domain);
}

/* ------------------------------------------------------------------------ gone or not */

static bool found_gone(world *w, int code, const char *sentence, bool is_killed)
{
    virConnectPtr connection;
    virDomainPtr handle = look_up(w->domain, &connection);
    if (is_killed)
        kill_domain(w->domain);
    const struct call_error error = {code, (char *)sentence};
    asked_if_active = asked_qemu = 0;
    bool is_gone = call_found_gone(handle, &error, &given_up);
    virDomainFree(handle);
    assert_int_equal(virConnectClose(connection), 0);
    return is_gone;
}

/* A path may have any words in it. */
static void c137_a_sentence_about_a_monitor_means_nothing(void **state)
{
    world *w = *state;
    assert_false(
        found_gone(w, VIR_ERR_INTERNAL_ERROR, "cannot open '/srv/the monitoring/disk'", false));
    assert_int_equal(asked_qemu, 1);
    assert_int_equal(asked_if_active, 1);
    assert_false(found_gone(w, VIR_ERR_OPERATION_INVALID, "the monitor", false));
    assert_int_equal(asked_qemu, 0);
}

/* Nor may there be one that anybody knows. */
static void c137_a_qemu_that_is_gone_is_found_in_any_language(void **state)
{
    world *w = *state;
    assert_true(found_gone(w, VIR_ERR_INTERNAL_ERROR, "Dateiende vom QEMU-Monitor", true));
}

#define COPY_TEST(name) cmocka_unit_test_setup_teardown(name, world_with_a_ready_copy, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        COPY_TEST(b64_the_same_copy_is_asked_again),
        cmocka_unit_test_setup_teardown(c12_one_part_that_takes_a_speed_is_enough,
                                        world_with_a_stored_disk, world_end),
        cmocka_unit_test_setup_teardown(c137_a_qemu_that_is_gone_is_found_in_any_language,
                                        world_domain_unconnected, world_end),
        cmocka_unit_test_setup_teardown(c137_a_sentence_about_a_monitor_means_nothing,
                                        world_domain_unconnected, world_end),
        COPY_TEST(c139_another_clients_next_copy_is_not_pivoted),
        COPY_TEST(c139_nor_where_the_end_was_reported_and_no_target_is_known),
    };
    return run_on_libvirt(tests);
}
