/* SPDX-License-Identifier: MIT */
/*
 * Addresses of domains, and what is read from the URIs of libvirt's connections.
 */
#include "uri.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>
#include <stdlib.h>
#include <string.h>

static bool has_address(const char *uri, const char *connection, const char *name)
{
    struct domain_address address;
    const char *why;
    assert_int_equal(domain_address_parse(uri, &address, &why), BJ_OK);
    bool is_read_only = address.is_read_only;
    assert_string_equal(address.connection ? address.connection : "(default)", connection);
    assert_string_equal(address.name, name);
    domain_address_clear(&address);
    assert_null(address.name);
    return is_read_only;
}

static void assert_address(const char *uri, const char *connection, const char *name)
{
    assert_false(has_address(uri, connection, name));
}

static void assert_readers_address(const char *uri, const char *connection, const char *name)
{
    assert_true(has_address(uri, connection, name));
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
        "qemu:///system",      "qemu:///system#",         "libvirt:",
        "qemu:///system#%",    "qemu:///system#%0",       "qemu:///system#%00",
        "qemu:///system#a%2x", "qemu:///system#?readonly"};
    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct domain_address address;
        const char *why;
        assert_int_equal(domain_address_parse(uris[i], &address, &why), BJ_E_INVAL);
        assert_non_null(strstr(why, "names no domain"));
    }
}

static void w08_an_address_says_that_it_is_to_read(void **state)
{
    (void)state;
    assert_readers_address("qemu:///system#vm1?readonly", "qemu:///system", "vm1");
    assert_readers_address("libvirt:vm1?readonly", "(default)", "vm1");
    assert_readers_address("qemu+tls://host/system?pkipath=/a#a%3Fb?readonly",
                           "qemu+tls://host/system?pkipath=/a", "a?b");
    assert_address("qemu:///system?readonly#vm1", "qemu:///system?readonly", "vm1");
    assert_address("qemu:///system#vm1%3Freadonly", "qemu:///system", "vm1?readonly");
}

static void w08_other_options_are_refused(void **state)
{
    static const char *const uris[] = {
        "qemu:///system#vm1?",           "qemu:///system#vm1?ro",
        "qemu:///system#vm1?readonly=1", "qemu:///system#vm1?readonly&readonly",
        "qemu:///system#vm1?READONLY",   "libvirt:vm1?what",
    };
    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct domain_address address;
        const char *why;
        assert_int_equal(domain_address_parse(uris[i], &address, &why), BJ_E_INVAL);
        assert_non_null(strstr(why, "?readonly"));
        assert_non_null(strstr(why, "%3F"));
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
        cmocka_unit_test(w08_an_address_says_that_it_is_to_read),
        cmocka_unit_test(w08_other_options_are_refused),
        cmocka_unit_test(c136_a_driver_in_this_process_shows_in_the_path),
        cmocka_unit_test(c138_ssh_does_not_ask_unless_the_uri_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
