/* SPDX-License-Identifier: MIT */
/*
 * Monitor addresses, and the sentence that each wrong one gets.
 */
#include "driver/address.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static struct address parse(const char *uri)
{
    struct address address;
    struct text *text = NULL;
    assert_int_equal(address_parse(uri, &address, &text), BJ_OK);
    assert_null(text);
    return address;
}

/* Its sentence names what was given. */
static void assert_refused(const char *uri, const char *named)
{
    struct address address;
    struct text *text = NULL;
    assert_int_equal(address_parse(uri, &address, &text), BJ_E_INVAL);
    assert_non_null(strstr(text_str(text), named));
    text_unref(text);
    address_clear(&address);
}

static void a_unix_path(void **state)
{
    (void)state;
    static const char *const uris[] = {"unix:/run/vm1.qmp", "/run/vm1.qmp"};
    for (int i = 0; i < 2; i++) {
        struct address a = parse(uris[i]);
        assert_int_equal(a.kind, ADDRESS_UNIX);
        assert_int_equal(a.path.sun_family, AF_UNIX);
        assert_string_equal(a.path.sun_path, "/run/vm1.qmp");
        address_clear(&a);
    }
    struct address a = parse("unix:vm 1:ü.qmp"); /* relative; any letter is a letter */
    assert_string_equal(a.path.sun_path, "vm 1:ü.qmp");
    address_clear(&a);
}

static void as_long_a_path_as_the_system_takes(void **state)
{
    (void)state;
    char uri[128] = "unix:/";
    memset(uri + 6, 'a', 106);
    struct address a = parse(uri);
    assert_int_equal(strlen(a.path.sun_path), 107);
    address_clear(&a);
    uri[6 + 106] = 'a';
    assert_refused(uri, "107");
}

static void a_unix_address_without_a_path(void **state)
{
    (void)state;
    assert_refused("unix:", "path");
}

static void a_tcp_address(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *host, *port;
    } cases[] = {
        {"tcp:localhost:4444", "localhost", "4444"},
        {"tcp:127.0.0.1:1", "127.0.0.1", "1"},
        {"tcp:h:9", "h", "9"},
        {"tcp:[::1]:65535", "::1", "65535"},
        {"tcp:[fe80::1%eth0]:4444", "fe80::1%eth0", "4444"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address a = parse(cases[i].uri);
        assert_int_equal(a.kind, ADDRESS_TCP);
        assert_string_equal(a.host, cases[i].host);
        assert_string_equal(a.port, cases[i].port);
        address_clear(&a);
    }
}

static void tcp_addresses_that_are_none(void **state)
{
    (void)state;
    static const char *const uris[] = {
        "tcp:",         "tcp:host",       "tcp:host:",     "tcp::4444",
        "tcp:host:0",   "tcp:host:65536", "tcp:host:-1",   "tcp:host:+80",
        "tcp:host:80x", "tcp:host: 80",   "tcp:host:http", "tcp:host:99999999999999999999",
        "tcp:[::1]",
    };
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++)
        assert_refused(uris[i], uris[i]);
}

static void a_tcp_address_with_empty_brackets(void **state)
{
    (void)state;
    assert_refused("tcp:[]:4444", "tcp:[]:4444");
}

static void b75_an_fd_is_duplicated(void **state)
{
    (void)state;
    int pair[2];
    char uri[32];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    snprintf(uri, sizeof uri, "fd:%d", pair[0]);
    struct address a = parse(uri);
    assert_int_equal(a.kind, ADDRESS_FD);
    assert_int_not_equal(a.fd, pair[0]);
    assert_true(fcntl(a.fd, F_GETFD) & FD_CLOEXEC);

    int ours = a.fd;
    address_clear(&a);
    assert_int_equal(fcntl(ours, F_GETFD), -1);
    assert_int_not_equal(fcntl(pair[0], F_GETFD), -1);
    address_clear(&a); /* again is harmless */
    close(pair[0]);
    close(pair[1]);
}

static void fds_that_are_none(void **state)
{
    (void)state;
    int pipes[2], datagrams[2];
    char uri[32];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams), 0);

    snprintf(uri, sizeof uri, "fd:%d", pipes[0]);
    assert_refused(uri, uri);
    snprintf(uri, sizeof uri, "fd:%d", datagrams[0]);
    assert_refused(uri, uri);
    close(pipes[0]);
    close(pipes[1]);
    close(datagrams[0]);
    close(datagrams[1]);

    static const char *const uris[] = {"fd:",   "fd:-1",      "fd:x",
                                       "fd:3x", "fd: 3",      "fd:4294967296",
                                       "fd:+3", "fd:1000000", "fd:99999999999999999999999"};
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++)
        assert_refused(uris[i], uris[i]);
}

static void what_is_no_address(void **state)
{
    (void)state;
    static const char *const uris[] = {"", "vm1.qmp", "UNIX:/x", "http://host", "unix", " /x"};
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++)
        assert_refused(uris[i], uris[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unix_path),
        cmocka_unit_test(as_long_a_path_as_the_system_takes),
        cmocka_unit_test(a_unix_address_without_a_path),
        cmocka_unit_test(a_tcp_address),
        cmocka_unit_test(tcp_addresses_that_are_none),
        cmocka_unit_test(a_tcp_address_with_empty_brackets),
        cmocka_unit_test(b75_an_fd_is_duplicated),
        cmocka_unit_test(fds_that_are_none),
        cmocka_unit_test(what_is_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
