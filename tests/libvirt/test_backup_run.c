/* SPDX-License-Identifier: MIT */
/*
 * What libvirt and QEMU say of a backup, put together, in the orders that were measured: one end,
 * which is the whole's.
 */
#include "facts.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct heard {
    struct facts *facts;
    char text[1024];
};

static void hear(void *user, const struct fact *fact)
{
    struct heard *heard = user;
    size_t len = strlen(heard->text);
    snprintf(heard->text + len, sizeof heard->text - len, "%s%s%s %s%s%s", len ? "; " : "",
             fact->earlier ? "earlier " : "", fact->id,
             fact->kind == FACT_COMPLETED ? "COMPLETED" : "CANCELLED", fact->error ? " " : "",
             fact->error ? fact->error : "");
}

static int set_up(void **state)
{
    struct heard *heard = calloc(1, sizeof *heard);
    assert_non_null(heard);
    heard->facts = facts_new(hear, heard);
    assert_non_null(heard->facts);
    *state = heard;
    return 0;
}

static int tear_down(void **state)
{
    struct heard *heard = *state;
    facts_free(heard->facts);
    free(heard);
    return 0;
}

/* -------------------------------------------------------------------- the peers */

static void qemu_says(struct heard *heard, const char *event, const char *key, const char *disk,
                      const char *more)
{
    char data[256];
    snprintf(data, sizeof data, "{\"%s\": \"backup-%s-libvirt-3-format\"%s}", key, disk, more);
    assert_int_equal(facts_qemu_event(heard->facts, event, data, 1), BJ_OK);
}

static void status(struct heard *heard, const char *disk, const char *name)
{
    char more[64];
    snprintf(more, sizeof more, ", \"status\": \"%s\"", name);
    qemu_says(heard, "JOB_STATUS_CHANGE", "id", disk, more);
}

static void libvirt_says(struct heard *heard, const char *disk, enum facts_status status)
{
    assert_int_equal(facts_block_job(heard->facts, disk, FACTS_BACKUP, (int)status), BJ_OK);
}

/* A script is a text of steps, a letter and the name of a disk each:
 *
 *   +vda created   *vda completed   !vda failed   ~vda cancelled   -vda null      by QEMU
 *   cvda completed   fvda failed    xvda canceled                                  by libvirt
 *   S the whole succeeded   F "No space left"   X "Operation canceled"             by libvirt
 *   P the whole succeeded, "Operation canceled": its client has ended a pull backup
 *   > a start is sent   A accepted   R refused   L listed                          by us
 */
static void play_step(struct heard *heard, const char *step)
{
    const char *disk = step + 1;
    switch (*step) {
    case '+':
        return status(heard, disk, "created");
    case '-':
        return status(heard, disk, "null");
    case '*':
        return qemu_says(heard, "BLOCK_JOB_COMPLETED", "device", disk, "");
    case '!':
        return qemu_says(heard, "BLOCK_JOB_COMPLETED", "device", disk,
                         ", \"error\": \"No space left\"");
    case '~':
        return qemu_says(heard, "BLOCK_JOB_CANCELLED", "device", disk, "");
    case 'c':
        return libvirt_says(heard, disk, FACTS_COMPLETED);
    case 'f':
        return libvirt_says(heard, disk, FACTS_FAILED);
    case 'x':
        return libvirt_says(heard, disk, FACTS_CANCELED);
    case 'S':
        assert_int_equal(facts_backup_result(heard->facts, true, NULL), BJ_OK);
        return;
    case 'F':
        assert_int_equal(facts_backup_result(heard->facts, false, "No space left"), BJ_OK);
        return;
    case 'X':
        assert_int_equal(facts_backup_result(heard->facts, false, "Operation canceled"), BJ_OK);
        return;
    case 'P':
        assert_int_equal(facts_backup_result(heard->facts, true, "Operation canceled"), BJ_OK);
        return;
    case '>':
        assert_int_equal(facts_start_sent(heard->facts, BACKUP_ID), BJ_OK);
        return;
    case 'A':
    case 'R':
        return facts_start_over(heard->facts, BACKUP_ID, *step == 'A');
    case 'L':
        assert_int_equal(facts_row(heard->facts, BACKUP_ID, false), BJ_OK);
        return;
    default:
        fail_msg("%s", step);
    }
}

/* After the script, what was heard since the last, and whether the backup is there. */
static void play(struct heard *heard, const char *script, const char *expected, bool is_active)
{
    char steps[256];
    char *rest = NULL;
    snprintf(steps, sizeof steps, "%s", script);
    for (char *step = strtok_r(steps, " ", &rest); step; step = strtok_r(NULL, " ", &rest))
        play_step(heard, step);
    assert_string_equal(heard->text, expected);
    assert_int_equal(facts_is_active(heard->facts, BACKUP_ID), is_active);
    assert_false(facts_is_active(heard->facts, "vda"));
    heard->text[0] = '\0';
}

/* ------------------------------------------------------------------------ tests */

static void c12_the_last_part_ends_the_backup(void **state)
{
    struct heard *heard = *state;
    play(heard, "> +vda +vdb *vda *vdb -vda cvda -vdb A", "", true);
    play(heard, "S", "", true);
    play(heard, "cvdb", "backup COMPLETED", false);
    play(heard, "> +vda +vdb *vda -vda cvda A *vdb -vdb S cvdb", "backup COMPLETED", false);
}

static void c12_one_part_that_fails_fails_the_whole(void **state)
{
    struct heard *heard = *state;
    play(heard, "> +vda +vdb +vdc !vdb *vda A -vdb fvdb -vda cvda ~vdc -vdc F", "", true);
    play(heard, "xvdc", "backup COMPLETED vdb: No space left", false);
    play(heard, "+vda +vdb *vda -vda cvda !vdb -vdb F fvdb", "backup COMPLETED vdb: No space left",
         false);
    play(heard, "+vda +vdb !vda !vdb -vda fvda -vdb F fvdb", "backup COMPLETED vda: No space left",
         false);
}

static void w03_the_clients_abort(void **state)
{
    struct heard *heard = *state;
    play(heard, "+vda +vdb *vda -vda cvda ~vdb -vdb X xvdb", "backup CANCELLED", false);
    play(heard, "+vda +vdb ~vda ~vdb -vda xvda -vdb P xvdb", "backup COMPLETED", false);
    play(heard, "+vda ~vda -vda P xvda", "backup COMPLETED", false);
}

static void c12_without_events_of_qemu(void **state)
{
    struct heard *heard = *state;
    play(heard, "> A cvda S cvdb", "backup COMPLETED", false);
    play(heard, "> cvda S cvdb A", "backup COMPLETED", false);
    play(heard, "L fvdb cvda F xvdc", "backup COMPLETED vdb: No space left", false);
    play(heard, "L cvda F fvdb", "backup COMPLETED vdb: No space left", false);
    play(heard, "L cvda X xvdb", "backup CANCELLED", false);
    play(heard, "L xvda P xvdb", "backup COMPLETED", false);
    play(heard, "L F cvda", "backup COMPLETED No space left", false);
}

/* The job that such an event of a part would end; NULL: none. */
static const char *ended(struct heard *heard, enum facts_status status)
{
    return facts_ended_id(heard->facts, "vda", FACTS_BACKUP, (int)status);
}

/* So verbs of a copy that has begun on the disk meanwhile are not dropped. */
static void c139_a_part_ends_nothing_of_its_disk(void **state)
{
    struct heard *heard = *state;
    assert_null(ended(heard, FACTS_COMPLETED));
    play(heard, "+vda +vdb *vda -vda", "", true);
    assert_null(ended(heard, FACTS_COMPLETED));
    play(heard, "cvda *vdb -vdb S", "", true);
    assert_null(ended(heard, FACTS_READY));
    assert_string_equal(ended(heard, FACTS_COMPLETED), BACKUP_ID);
    play(heard, "cvdb", "backup COMPLETED", false);
    assert_null(ended(heard, FACTS_COMPLETED));
    assert_string_equal(facts_ended_id(heard->facts, "vda", FACTS_COPY, FACTS_COMPLETED), "vda");
}

/* Then the domain's end tells how. */
static void b65_a_result_alone_is_no_end(void **state)
{
    struct heard *heard = *state;
    play(heard, "+vda +vdb F", "", true);
}

/* Where libvirt gives up what it has begun, QEMU's jobs go without a word. */
static void b41_a_start_that_is_taken_back(void **state)
{
    struct heard *heard = *state;
    play(heard, "> +vda +vdb -vda", "", true);
    play(heard, "-vdb R", "", false);
    play(heard, "> +vda *vda -vda S cvda A", "backup COMPLETED", false);
}

static void c12_whoever_comes_late_hears_the_end(void **state)
{
    struct heard *heard = *state;
    play(heard, "L -vda", "", true);
    play(heard, "cvda *vdb -vdb S cvdb", "backup COMPLETED", false);
}

/* What is reported while a start is on its way is of the backup before. */
static void b03_the_end_of_an_earlier_backup(void **state)
{
    struct heard *heard = *state;
    play(heard, "+vda > *vda -vda S cvda R", "earlier backup COMPLETED", false);
    play(heard, "+vda *vda -vda S > A cvda", "", true); /* the id is the new one's already */
    play(heard, "+vda *vda -vda S cvda", "backup COMPLETED", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST_OF(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST_OF(c12_the_last_part_ends_the_backup),
        TEST_OF(c12_one_part_that_fails_fails_the_whole),
        TEST_OF(w03_the_clients_abort),
        TEST_OF(c12_without_events_of_qemu),
        TEST_OF(c139_a_part_ends_nothing_of_its_disk),
        TEST_OF(b65_a_result_alone_is_no_end),
        TEST_OF(b41_a_start_that_is_taken_back),
        TEST_OF(c12_whoever_comes_late_hears_the_end),
        TEST_OF(b03_the_end_of_an_earlier_backup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
