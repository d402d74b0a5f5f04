/* SPDX-License-Identifier: MIT */
/*
 * cmocka with the headers that it wants included before it.
 */
#ifndef TESTS_CMOCKA_ALL_H
#define TESTS_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* In a test itself: skips it; .ci/check reports why. */
#define skip_because(reason)                                                                       \
    do {                                                                                           \
        print_message("skipped %s: %s\n", __func__, reason);                                       \
        skip();                                                                                    \
    } while (0)

/* cmocka 2.0 has this instead of assert_in_range(), which it calls deprecated. */
#ifndef assert_int_in_range
#define assert_int_in_range assert_in_range
#endif

#endif
