/* SPDX-License-Identifier: MIT */
/*
 * What became of a copy, by the domain's XML.
 */
#include "copies.h"

#include "cmocka_all.h"

#include <blockjob/blockjob.h>

static struct disk copying(const char *source, const char *mirror)
{
    return (struct disk){
        .target = "vda", .source = (char *)source, .mirror = (char *)mirror, .has_mirror = true};
}

static struct disk plain(const char *source)
{
    return (struct disk){.target = "vda", .source = (char *)source};
}

/* What one that was `before` has become, if the disk is like that now. */
static enum copy_fate fate(struct disk before, struct disk now)
{
    struct copies copies = {0};
    assert_int_equal(copies_note(&copies, &(struct disks){.count = 1, .disks = &before}), BJ_OK);
    enum copy_fate fate = copies_fate(&copies, "vda", &(struct disks){.count = 1, .disks = &now});
    copies_clear(&copies);
    return fate;
}

static void c130_a_copy_is_known_by_its_target(void **state)
{
    (void)state;
    assert_int_equal(fate(copying("/a", "/b"), copying("/a", "/b")), COPY_GOES_ON);
    assert_int_equal(fate(copying("/a", "/b"), copying("/a", "/c")), COPY_REPLACED);
    assert_int_equal(fate(copying("/a", "/b"), copying("/a", NULL)), COPY_UNKNOWN);
}

static void c19_a_copy_that_is_gone_may_have_switched(void **state)
{
    (void)state;
    assert_int_equal(fate(copying("/a", "/b"), plain("/b")), COPY_SWITCHED);
    assert_int_equal(fate(copying("/a", "/b"), plain("/a")), COPY_GONE);
    assert_int_equal(fate(copying("/a", "/b"), plain("/c")), COPY_GONE);
    assert_int_equal(fate(copying("/a", "/b"), plain(NULL)), COPY_UNKNOWN);
}

/* A network disk's name can be the same on two hosts. */
static void c19_where_both_have_one_name_nothing_is_known(void **state)
{
    (void)state;
    assert_int_equal(fate(copying("disk", "disk"), plain("disk")), COPY_UNKNOWN);
}

static void c19_what_was_never_noted_is_not_guessed(void **state)
{
    (void)state;
    assert_int_equal(fate(plain("/a"), plain("/a")), COPY_UNKNOWN);
    assert_int_equal(fate(copying(NULL, "/b"), plain("/b")), COPY_UNKNOWN);
}

static void c19_of_one_that_has_ended_the_disk_is_asked_once(void **state)
{
    (void)state;
    struct disk before = copying("/a", "/b"), after = plain("/b"), same = plain("/a");
    const struct disks was = {.count = 1, .disks = &before}, is = {.count = 1, .disks = &after};
    const struct disks stays = {.count = 1, .disks = &same};
    struct copies copies = {0};

    assert_int_equal(copies_note(&copies, &was), BJ_OK);
    copies_end(&copies, "vda");
    assert_true(copies_has_switched(&copies, "vda", &is));
    assert_false(copies_has_switched(&copies, "vda", &stays));
    assert_int_equal(copies_fate(&copies, "vda", &is), COPY_UNKNOWN); /* no job is left to end */
    assert_null(copies_mirror(&copies, "vda"));
    assert_int_equal(copies_note(&copies, &was), BJ_OK); /* the next one */
    assert_int_equal(copies_fate(&copies, "vda", &stays), COPY_GONE);
    copies_clear(&copies);
}

static void c130_the_last_that_was_noted_counts(void **state)
{
    (void)state;
    struct disk disks[] = {copying("/a", "/b"), copying("/b", "/c")};
    struct copies copies = {0};
    disks[1].is_commit = true;
    for (int i = 0; i < 2; i++)
        assert_int_equal(copies_note(&copies, &(struct disks){.count = 1, .disks = &disks[i]}),
                         BJ_OK);
    assert_string_equal(copies_mirror(&copies, "vda"), "/c");
    assert_true(copies_is_commit(&copies, "vda"));
    assert_null(copies_mirror(&copies, "vdb"));

    copies_forget(&copies, "vda");
    copies_forget(&copies, "vda");
    assert_null(copies_mirror(&copies, "vda"));
    assert_false(copies_is_commit(&copies, "vda"));
    copies_clear(&copies);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c130_a_copy_is_known_by_its_target),
        cmocka_unit_test(c19_of_one_that_has_ended_the_disk_is_asked_once),
        cmocka_unit_test(c130_the_last_that_was_noted_counts),
        cmocka_unit_test(c19_a_copy_that_is_gone_may_have_switched),
        cmocka_unit_test(c19_what_was_never_noted_is_not_guessed),
        cmocka_unit_test(c19_where_both_have_one_name_nothing_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
