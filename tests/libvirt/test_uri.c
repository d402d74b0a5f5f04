/* SPDX-License-Identifier: MIT */
/*
 * Addresses of domains, and what is read from the URIs of libvirt's connections.
 */
#include "uri.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>
#include <stdlib.h>

static void assert_address(const char *uri, const char *connection, const char *name)
{
    struct domain_address address;
    assert_int_equal(domain_address_parse(uri, &address), BJ_OK);
    assert_string_equal(address.connection ? address.connection : "(default)", connection);
    assert_string_equal(address.name, name);
    domain_address_clear(&address);
    assert_null(address.name);
}

static void an_address_has_a_connection_and_a_domain(void **state)
{
    (void)state;
    assert_address("qemu:///system#vm1", "qemu:///system", "vm1");
    assert_address("libvirt:vm1", "(default)", "vm1");
    assert_address("qemu+tls://host/system?pkipath=/a#a%20b%2fc",
                   "qemu+tls://host/system?pkipath=/a", "a b/c");
}

static void an_address_without_a_domain_is_refused(void **state)
{
    static const char *const uris[] = {
        "qemu:///system",    "qemu:///system#",    "libvirt:",           "qemu:///system#%",
        "qemu:///system#%0", "qemu:///system#%00", "qemu:///system#a%2x"};
    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct domain_address address;
        assert_int_equal(domain_address_parse(uris[i], &address), BJ_E_INVAL);
    }
}

static void c136_a_driver_in_this_process_shows_in_the_path(void **state)
{
    (void)state;
    assert_true(uri_is_in_process("qemu:///embed"));
    assert_true(uri_is_in_process("qemu:///embed?root=/dir"));
    assert_true(uri_is_in_process("test:///default"));
    assert_false(uri_is_in_process("qemu:///embedded"));
    assert_false(uri_is_in_process("qemu:///system?socket=/embed/sock"));
    assert_false(uri_is_in_process("qemu+unix:///session?socket=/run/embed"));
    assert_false(uri_is_in_process("qemu+unix:///embed?socket=/run/sock"));
    assert_false(uri_is_in_process("qemu://host/embed"));
    assert_false(uri_is_in_process("test+tcp://host/default"));
    assert_false(uri_is_in_process("test://host/default"));
    assert_false(uri_is_in_process("qemu"));
}

static void assert_unattended(const char *uri, const char *expected)
{
    char *unattended = uri_unattended(uri);
    assert_string_equal(unattended, expected);
    free(unattended);
}

static void c138_ssh_does_not_ask_unless_the_uri_says_so(void **state)
{
    (void)state;
    assert_unattended("qemu+ssh://host/system", "qemu+ssh://host/system?no_tty=1");
    assert_unattended("qemu+ssh://me@host/system?keyfile=/k",
                      "qemu+ssh://me@host/system?keyfile=/k&no_tty=1");
    assert_unattended("qemu+ssh://host/system?not_no_tty=0&no_ttys",
                      "qemu+ssh://host/system?not_no_tty=0&no_ttys&no_tty=1");
    static const char *const kept[] = {
        "qemu+ssh://host/system?no_tty=0",
        "qemu+ssh://host/system?command=x&NO_TTY=0",
        "qemu+ssh://host/system?command=x;no_tty",
        "qemu+tcp://host/system",
        "qemu:///system",
        "qemu+libssh2://host/system",
    };
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        assert_unattended(kept[i], kept[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_has_a_connection_and_a_domain),
        cmocka_unit_test(an_address_without_a_domain_is_refused),
        cmocka_unit_test(c136_a_driver_in_this_process_shows_in_the_path),
        cmocka_unit_test(c138_ssh_does_not_ask_unless_the_uri_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
