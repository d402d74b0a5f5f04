/* SPDX-License-Identifier: MIT */
/*
 * The C side of the test helpers' protocol: programs that start servers and obey lines of JSON
 * (tests/support/serve.py). A helper ends what it started when this process does.
 */
#ifndef TESTS_HELPER_H
#define TESTS_HELPER_H

#include <jansson.h>

/* JSON({"speed": 1}) is the string of that text. */
#define JSON(...) #__VA_ARGS__

typedef struct helper helper;

/* Starts python3 with these arguments, NULL at their end, and waits until it is ready. */
helper *helper_start(const char *const arguments[]);

/* Ends all that it started, and waits for that; takes NULL. */
void helper_end(helper *h);

/* One step, the text of a JSON object by a printf format: its answer, which the caller owns. The
 * test fails if the step does; helper_try() leaves "ok" to the caller, and helper_text() the
 * reading of the line, which may have integers that no C type holds. */
json_t *helper_do(helper *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
json_t *helper_try(helper *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *helper_text(helper *h, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
