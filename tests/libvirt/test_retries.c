/* SPDX-License-Identifier: MIT */
/*
 * A pivot that libvirt finds too early is asked again, but only for the copy that it was meant for.
 */
#include "calls.h"
#include "libvirt.h"

#include <dlfcn.h>
#include <libvirt/virterror.h>
#include <stdlib.h>

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
int virDomainBlockJobAbort(virDomainPtr of, const char *disk, unsigned int flags)
{
    int (*real)(virDomainPtr, const char *, unsigned int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "virDomainBlockJobAbort");
    assert_non_null(real);
    replace_copy();
    return real(of, disk, flags);
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

#define COPY_TEST(name) cmocka_unit_test_setup_teardown(name, world_with_a_ready_copy, world_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        COPY_TEST(b64_the_same_copy_is_asked_again),
        COPY_TEST(c139_another_clients_next_copy_is_not_pivoted),
        COPY_TEST(c139_nor_where_the_end_was_reported_and_no_target_is_known),
    };
    return run_on_libvirt(tests);
}
