/* SPDX-License-Identifier: MIT */
/*
 * Whether a job makes progress: all combinations of what is known, and jobs that are seen now and
 * then.
 */
#include "model/progress.h"

#include "cmocka_all.h"

#define LIMIT 10000

/* -------------------------------------------------------------------- the rules */

static bool has(unsigned conditions, unsigned wanted)
{
    return (conditions & wanted) == wanted;
}

/* As the sentences of notices would put it. */
static enum notice expected(unsigned c)
{
    bool still = has(c, FOUND_STILL);
    bool copies_nothing = has(c, FOUND_STILL | SEEN_COPYING | FOUND_NUMBERS);

    if (has(c, FOUND_DEAF))
        return NOTICE_UNANSWERED;
    if (has(c, SEEN_STOPPED))
        return has(c, SEEN_NO_SPACE) ? NOTICE_NO_SPACE : NOTICE_STOPPED;
    if (has(c, SEEN_PAUSED))
        return still ? NOTICE_PAUSED : NOTICE_NONE;
    if (has(c, SEEN_PENDING))
        return still ? NOTICE_PENDING : NOTICE_NONE;
    if (has(c, SEEN_WAITING))
        return still ? NOTICE_WAITING : NOTICE_NONE;
    if (copies_nothing && has(c, FOUND_ERRORS))
        return NOTICE_ERRORS;
    if (still && has(c, SEEN_ENDING))
        return NOTICE_ENDING;
    if (copies_nothing)
        return has(c, FOUND_SLOW) ? NOTICE_SPEED : NOTICE_SILENT;
    return has(c, FOUND_AS_MUCH | SEEN_CONVERGING) ? NOTICE_GUEST : NOTICE_NONE;
}

static void w02_every_combination_has_its_notice(void **state)
{
    (void)state;
    bool given[NOTICE_COUNT] = {false};

    for (unsigned c = 0; c < 1U << PROGRESS_CONDITIONS; c++) {
        assert_int_equal(progress_notice(c), expected(c));
        given[progress_notice(c)] = true;
    }
    for (int notice = 0; notice < NOTICE_COUNT; notice++)
        assert_true(given[notice]);
}

static void each_rule_is_needed(void **state)
{
    (void)state;
    for (size_t rule = 0; rule < notice_rule_count; rule++) {
        bool is_first = false;
        for (unsigned c = 0; c < 1U << PROGRESS_CONDITIONS && !is_first; c++) {
            size_t i = 0;
            while (!has(c, notice_rules[i].when))
                i++;
            is_first = i == rule;
        }
        assert_true(is_first);
    }
}

/* --------------------------------------------------------------- as time goes by */

static unsigned see(struct progress *p, int64_t at_ms, int64_t current, int64_t total,
                    int64_t speed, unsigned seen)
{
    progress_see(
        p, &(struct sample){.current = current, .total = total, .speed = speed, .state = seen},
        at_ms);
    return seen | progress_found(p, LIMIT);
}

static void expect_notice(unsigned conditions, enum notice notice)
{
    assert_int_equal(progress_notice(conditions), notice);
}

#define MIRROR (SEEN_COPYING | SEEN_CONVERGING)

static void w02_nothing_is_copied(void **state)
{
    (void)state;
    struct progress p = {0};
    progress_begin(&p, SEEN_COPYING, 1000);
    progress_begin(&p, SEEN_COPYING, 5000); /* it has begun already */

    expect_notice(see(&p, 10999, 0, 1000, 0, SEEN_COPYING), NOTICE_NONE);
    expect_notice(see(&p, 11000, 0, 1000, 0, SEEN_COPYING), NOTICE_SILENT);
    assert_int_equal(progress_still_ms(&p), 10000);
    expect_notice(see(&p, 12000, 1, 1000, 0, SEEN_COPYING), NOTICE_NONE);
    expect_notice(see(&p, 22000, 1, 1000, 0, SEEN_COPYING), NOTICE_SILENT);
}

static void a_job_that_was_there_before_counts_from_the_first_look(void **state)
{
    (void)state;
    struct progress p = {0};

    expect_notice(see(&p, 50000, 500, 1000, 0, SEEN_COPYING), NOTICE_NONE);
    expect_notice(see(&p, 60000, 500, 1000, 0, SEEN_COPYING), NOTICE_SILENT);
}

static void what_never_was_seen_has_no_notice(void **state)
{
    (void)state;
    struct progress p = {0};
    expect_notice(SEEN_COPYING | progress_found(&p, LIMIT), NOTICE_NONE);
}

static void b30_the_guest_writes_as_fast_as_it_is_copied(void **state)
{
    (void)state;
    struct progress p = {0};

    expect_notice(see(&p, 1000, 100, 200, 0, MIRROR), NOTICE_NONE);
    expect_notice(see(&p, 6000, 200, 310, 0, MIRROR), NOTICE_NONE);
    expect_notice(see(&p, 11000, 300, 400, 0, MIRROR), NOTICE_GUEST);
    assert_int_equal(progress_as_much_ms(&p), 10000);
    expect_notice(see(&p, 12000, 400, 499, 0, MIRROR), NOTICE_NONE);
    expect_notice(see(&p, 22000, 500, 600, 0, SEEN_COPYING | SEEN_READY), NOTICE_NONE);
    expect_notice(see(&p, 32000, 600, 700, 0, SEEN_COPYING | SEEN_READY), NOTICE_NONE);
}

static void a_ready_mirror_may_rest(void **state)
{
    (void)state;
    struct progress p = {0};
    unsigned ready = SEEN_COPYING | SEEN_READY;

    expect_notice(see(&p, 1000, 100, 100, 0, ready), NOTICE_NONE);
    expect_notice(see(&p, 90000, 100, 100, 0, ready), NOTICE_NONE);
    expect_notice(see(&p, 95000, 100, 200, 0, ready), NOTICE_NONE); /* the guest has written */
    expect_notice(see(&p, 99999, 100, 200, 0, ready), NOTICE_NONE);
    expect_notice(see(&p, 100000, 100, 200, 0, ready), NOTICE_SILENT);
}

static void a_pivot_that_is_not_over(void **state)
{
    (void)state;
    struct progress p = {0};
    unsigned ready = SEEN_COPYING | SEEN_READY;

    expect_notice(see(&p, 1000, 100, 100, 0, ready), NOTICE_NONE);
    expect_notice(see(&p, 90000, 100, 100, 0, ready | SEEN_ENDING), NOTICE_NONE);
    expect_notice(see(&p, 100000, 100, 100, 0, ready | SEEN_ENDING), NOTICE_ENDING);
}

static void c51_errors_are_counted_since_it_moved(void **state)
{
    (void)state;
    struct progress p = {0};

    expect_notice(see(&p, 1000, 100, 1000, 0, SEEN_COPYING), NOTICE_NONE);
    progress_io_error(&p, true);
    expect_notice(see(&p, 2000, 200, 1000, 0, SEEN_COPYING), NOTICE_NONE);
    assert_int_equal(p.write_errors, 0);
    for (int i = 0; i < 9000; i++)
        progress_io_error(&p, true);
    progress_io_error(&p, false);
    expect_notice(see(&p, 12000, 200, 1000, 0, SEEN_COPYING), NOTICE_ERRORS);
    assert_int_equal(p.write_errors, 9000);
    assert_int_equal(p.read_errors, 1);
}

/* A job may copy 16 MiB at once, and then pays for it. */
static void a_speed_limit_explains_only_so_much(void **state)
{
    (void)state;
    struct progress p = {0};

    expect_notice(see(&p, 1000, 100, 1000, 1 << 20, SEEN_COPYING), NOTICE_NONE);
    expect_notice(see(&p, 16000, 100, 1000, 1 << 20, SEEN_COPYING), NOTICE_SPEED);
    expect_notice(see(&p, 17000, 100, 1000, 1 << 20, SEEN_COPYING), NOTICE_SILENT);
    expect_notice(see(&p, INT64_MAX, 100, 1000, 1, SEEN_COPYING), NOTICE_SILENT);
    expect_notice(see(&p, 18000, 100, 1000, INT64_MAX, SEEN_COPYING), NOTICE_SILENT);
}

static void c52_what_it_waits_for_counts_from_its_beginning(void **state)
{
    (void)state;
    static const struct {
        unsigned seen;
        enum notice notice;
    } waits[] = {
        {SEEN_PENDING, NOTICE_PENDING},
        {SEEN_WAITING, NOTICE_WAITING},
        {SEEN_PAUSED | SEEN_COPYING, NOTICE_PAUSED},
    };

    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        struct progress p = {0};
        expect_notice(see(&p, 1000, 1000, 1000, 0, SEEN_COPYING), NOTICE_NONE);
        expect_notice(see(&p, 30000, 1000, 1000, 0, waits[i].seen), NOTICE_NONE);
        expect_notice(see(&p, 39999, 1000, 1000, 0, waits[i].seen), NOTICE_NONE);
        expect_notice(see(&p, 40000, 1000, 1000, 0, waits[i].seen), waits[i].notice);
    }
}

static void numbers_that_say_nothing(void **state)
{
    (void)state;
    static const int64_t numbers[][2] = {
        {-1, -1}, {-1, 5}, {5, -1}, {INT64_MIN, INT64_MAX}, {INT64_MAX, INT64_MIN}, {6, 5}};

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct progress p = {0};
        see(&p, 1000, numbers[i][0], numbers[i][1], -1, MIRROR);
        expect_notice(see(&p, 90000, numbers[i][0], numbers[i][1], -1, MIRROR), NOTICE_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(w02_every_combination_has_its_notice),
        cmocka_unit_test(each_rule_is_needed),
        cmocka_unit_test(w02_nothing_is_copied),
        cmocka_unit_test(a_job_that_was_there_before_counts_from_the_first_look),
        cmocka_unit_test(what_never_was_seen_has_no_notice),
        cmocka_unit_test(b30_the_guest_writes_as_fast_as_it_is_copied),
        cmocka_unit_test(a_ready_mirror_may_rest),
        cmocka_unit_test(a_pivot_that_is_not_over),
        cmocka_unit_test(c51_errors_are_counted_since_it_moved),
        cmocka_unit_test(a_speed_limit_explains_only_so_much),
        cmocka_unit_test(c52_what_it_waits_for_counts_from_its_beginning),
        cmocka_unit_test(numbers_that_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
