/* SPDX-License-Identifier: MIT */
/*
 * A domain or a libvirtd that is not there yet is waited for: real libvirtd.
 */
#include "libvirt.h"

static bj_future *waiting(world *w, const char *uri, int64_t wait_ms)
{
    bj_connect_options options = {.size = sizeof options, .wait_ms = wait_ms};
    return hold(w, bj_monitor_connect_with(w->ctx, uri, &options, BJ_TIMEOUT_NONE));
}

/* The name is one that no other test has. */
static const char *name_for(world *w, const char *prefix)
{
    return text_of(w, "%s-%s", prefix, w->domain->name);
}

static void comes_about(world *w, bj_future *connected)
{
    bj_monitor *monitor = hold_monitor(w, bj_future_monitor(answers(connected, BJ_OK)));
    expect(w, bj_monitor_list(monitor, BJ_TIMEOUT_NONE), BJ_OK);
}

static void w04_a_domain_that_is_started_later(void **state)
{
    world *w = *state;
    const char *name = name_for(w, "later");
    define_inactive_domain(name);
    bj_future *connected = waiting(w, domain_uri(w, name), BJ_TIMEOUT_NONE);
    virsh(w, "list");
    assert_false(bj_future_is_done(connected));

    virsh(w, text_of(w, "start --paused %s", name));
    comes_about(w, connected);
}

static void w04_a_domain_that_is_made_later(void **state)
{
    world *w = *state;
    const char *name = name_for(w, "unborn");
    bj_future *connected = waiting(w, domain_uri(w, name), BJ_TIMEOUT_NONE);
    virsh(w, "list");
    assert_false(bj_future_is_done(connected));

    add_domain_named(w, name);
    comes_about(w, connected);
}

static void w04_a_libvirtd_that_comes_later(void **state)
{
    world *w = *state;
    stop_libvirtd();
    bj_future *connected = waiting(w, w->domain->uri, BJ_TIMEOUT_NONE);
    bj_future *refused = answers(waiting(w, w->domain->uri, 100), BJ_E_CONNECT);
    names(refused, "0.1 s");
    assert_false(bj_future_is_done(connected));

    start_libvirtd();
    comes_about(w, connected);
}

static void w04_a_domain_that_never_comes_is_named(void **state)
{
    world *w = *state;
    const char *uri = domain_uri(w, "nobody-has-this-name");
    bj_future *refused = answers(waiting(w, uri, 100), BJ_E_CONNECT);
    names(refused, uri);
    names(refused, "0.1 s");
}

static void w04_an_address_that_is_wrong_is_told_at_once(void **state)
{
    world *w = *state;
    answers(waiting(w, "qemu:///system", BJ_TIMEOUT_NONE), BJ_E_INVAL);
    answers(waiting(w, "qemu+nonsense:///system#x", BJ_TIMEOUT_NONE), BJ_E_CONNECT);
}

static void w09_a_domain_has_no_wire_to_trace(void **state)
{
    world *w = *state;
    bj_watch *trace = NULL;
    bj_connect_options options = {.size = sizeof options, .ret_trace = &trace};
    bj_future *refused =
        expect(w, bj_monitor_connect_with(w->ctx, w->domain->uri, &options, BJ_TIMEOUT_NONE),
               BJ_E_UNSUPPORTED);
    names(refused, w->domain->uri);
    assert_null(trace);
    assert_int_equal(bj_monitor_set_trace(w->monitor, BJ_TRACE_PLAIN, NULL, NULL),
                     BJ_E_UNSUPPORTED);
}

static void w09_a_name_is_in_texts_beside_the_uri(void **state)
{
    world *w = *state;
    bj_connect_options options = {.size = sizeof options, .name = "vm1"};
    const char *uri = domain_uri(w, "nobody-has-this-name");
    names(expect(w, bj_monitor_connect_with(w->ctx, uri, &options, BJ_TIMEOUT_NONE), BJ_E_CONNECT),
          text_of(w, "vm1 (%s)", uri));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNCONNECTED_DOMAIN_TEST(w04_a_domain_that_is_started_later),
        UNCONNECTED_DOMAIN_TEST(w04_a_domain_that_is_made_later),
        UNCONNECTED_DOMAIN_TEST(w04_a_libvirtd_that_comes_later),
        UNCONNECTED_DOMAIN_TEST(w04_a_domain_that_never_comes_is_named),
        UNCONNECTED_DOMAIN_TEST(w04_an_address_that_is_wrong_is_told_at_once),
        DOMAIN_TEST(w09_a_domain_has_no_wire_to_trace),
        UNCONNECTED_DOMAIN_TEST(w09_a_name_is_in_texts_beside_the_uri),
    };
    return run_on_libvirt(tests);
}
