/* SPDX-License-Identifier: MIT */
/*
 * What libvirt and QEMU say of a disk's job, put together: each order that they have, and what is
 * told where one of them is silent.
 */
#include "facts.h"

#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

struct heard {
    struct facts *facts;
    char text[8192];
    size_t len;
    void (*then)(struct heard *heard, const struct fact *fact);
};

static const char *kind_name(enum fact_kind kind)
{
    static const char *const names[] = {
        [FACT_STATUS] = "STATUS",       [FACT_READY] = "READY",     [FACT_COMPLETED] = "COMPLETED",
        [FACT_CANCELLED] = "CANCELLED", [FACT_STOPPED] = "STOPPED", [FACT_PENDING] = "PENDING",
    };
    return names[kind];
}

static void hear(void *user, const struct fact *fact)
{
    struct heard *heard = user;
    int len =
        snprintf(heard->text + heard->len, sizeof heard->text - heard->len,
                 "%s%s%s %s %s @%lld%s%s", heard->len ? "; " : "", fact->earlier ? "earlier " : "",
                 fact->id, fact->type, kind_name(fact->kind), (long long)fact->timestamp_us,
                 fact->error ? " " : "", fact->error ? fact->error : "");
    assert_true(len > 0 && heard->len + (size_t)len < sizeof heard->text);
    heard->len += (size_t)len;
    if (heard->then)
        heard->then(heard, fact);
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

/* What was told since. */
static void assert_told(struct heard *heard, const char *expected)
{
    assert_string_equal(heard->text, expected);
    heard->text[0] = '\0';
    heard->len = 0;
}

/* -------------------------------------------------------------------- the peers */

static void libvirt_says(struct heard *heard, enum facts_type type, enum facts_status status)
{
    assert_int_equal(facts_block_job(heard->facts, "vda", (int)type, (int)status), BJ_OK);
}

static void qemu_says(struct heard *heard, const char *event, const char *data, int64_t timestamp)
{
    assert_int_equal(facts_qemu_event(heard->facts, event, data, timestamp), BJ_OK);
}

static void qemu_status(struct heard *heard, const char *status)
{
    char data[128];
    snprintf(data, sizeof data, "{\"status\": \"%s\", \"id\": \"copy-vda-libvirt-2-format\"}",
             status);
    qemu_says(heard, "JOB_STATUS_CHANGE", data, 1);
}

#define COPY_OF_VDA "\"device\": \"copy-vda-libvirt-2-format\", \"type\": \"mirror\""

static void qemu_ready(struct heard *heard, int64_t timestamp)
{
    qemu_says(heard, "BLOCK_JOB_READY", "{" COPY_OF_VDA ", \"len\": 1, \"offset\": 1}", timestamp);
}

static void qemu_completed(struct heard *heard, int64_t timestamp)
{
    qemu_says(heard, "BLOCK_JOB_COMPLETED", "{" COPY_OF_VDA "}", timestamp);
}

static void qemu_failed(struct heard *heard, int64_t timestamp)
{
    qemu_says(heard, "BLOCK_JOB_COMPLETED", "{" COPY_OF_VDA ", \"error\": \"No space left\"}",
              timestamp);
}

static void qemu_cancelled(struct heard *heard, int64_t timestamp)
{
    qemu_says(heard, "BLOCK_JOB_CANCELLED", "{" COPY_OF_VDA "}", timestamp);
}

static void tell_of_statuses(struct heard *heard)
{
    qemu_says(heard, "JOB_STATUS_CHANGE",
              "{\"id\": \"pull-vdb-libvirt-1-format\", \"status\": \"running\"}", 1);
}

static void start_sent(struct heard *heard)
{
    assert_int_equal(facts_start_sent(heard->facts, "vda"), BJ_OK);
}

static void start_over(struct heard *heard, bool accepted)
{
    facts_start_over(heard->facts, "vda", accepted);
}

static void assert_active(struct heard *heard, bool active, bool ready)
{
    assert_int_equal(facts_is_active(heard->facts, "vda"), active);
    assert_int_equal(facts_is_ready(heard->facts, "vda"), ready);
}

static void assert_switched(struct heard *heard, enum disk_switch expected)
{
    assert_int_equal(facts_switched(heard->facts, "vda"), expected);
}

/* ------------------------------------------------------------------------ ready */

static void b64_ready_is_told_once_libvirt_says_it(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    qemu_status(heard, "ready");
    qemu_ready(heard, 55);
    assert_told(heard, "");
    assert_active(heard, true, false);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @55");
    assert_active(heard, true, true);
}

static void b27_ready_is_told_once_a_run(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @0");
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror COMPLETED @0; vda mirror READY @0");
}

static void b28_a_list_makes_ready_but_takes_nothing_back(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_row(heard->facts, "vda", false), BJ_OK);
    assert_active(heard, true, false);
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    assert_active(heard, true, true);
    assert_int_equal(facts_row(heard->facts, "vda", false), BJ_OK);
    assert_active(heard, true, true);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @0"); /* whoever has not seen the list has to know */
}

static void b46_a_job_that_a_list_lacks_is_forgotten(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    facts_forget(heard->facts, "vda");
    facts_forget(heard->facts, "vdz");
    assert_active(heard, false, false);
    start_sent(heard);
    tell_of_statuses(heard);
    start_over(heard, true);
    assert_active(heard, true, false);
    facts_forget(heard->facts, "vda");
    assert_active(heard, false, false);
}

/* ------------------------------------------------------------------------- ends */

static void b14_completed_copies_and_active_commits_have_switched(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    qemu_ready(heard, 3);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    qemu_completed(heard, 7);
    assert_active(heard, true, true);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda mirror READY @3; vda mirror COMPLETED @7");
    assert_active(heard, false, false);
    assert_switched(heard, SWITCHED);

    qemu_status(heard, "created");
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_READY);
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_COMPLETED);
    assert_told(heard, "vda commit READY @0; vda commit COMPLETED @0");
    assert_switched(heard, SWITCHED);
}

/* A libvirtd whose predecessor was killed over an abort calls the copy completed. */
static void c19_of_a_job_that_was_there_before_completed_is_no_proof(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_switched(heard, SWITCH_UNKNOWN);

    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    facts_pivot_sent(heard->facts, "vda"); /* which this one has taken */
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_switched(heard, SWITCHED);

    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    assert_int_equal(facts_end_unseen(heard->facts, "vda", false), BJ_OK);
    assert_switched(heard, SWITCHED);

    start_sent(heard);
    start_over(heard, true);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_switched(heard, SWITCHED);
}

static void b14_other_kinds_do_not_switch(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_PULL, FACTS_COMPLETED);
    assert_switched(heard, SWITCH_UNKNOWN);
    libvirt_says(heard, FACTS_COMMIT, FACTS_COMPLETED);
    assert_switched(heard, SWITCH_UNKNOWN);
    assert_told(heard, "vda stream COMPLETED @0; vda commit COMPLETED @0");
}

/* The core asks whether a commit has switched only if it was ready. */
static void b03_an_active_commit_that_completed_was_ready(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_COMPLETED);
    assert_told(heard, "vda commit READY @0; vda commit COMPLETED @0");
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_CANCELED);
    assert_told(heard, "vda commit CANCELLED @0");
    qemu_completed(heard, 9);
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_CANCELED);
    assert_told(heard, "vda commit READY @0; vda commit COMPLETED @9");
    assert_switched(heard, NOT_SWITCHED);
}

static void b66_canceled_is_what_qemu_says_it_is(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    qemu_completed(heard, 7);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @7");
    assert_switched(heard, NOT_SWITCHED);

    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    qemu_cancelled(heard, 8);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror CANCELLED @8");
}

static void b66_canceled_is_what_was_known_where_qemu_is_silent(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @0");
    assert_switched(heard, NOT_SWITCHED);

    assert_int_equal(facts_row(heard->facts, "vda", false), BJ_OK);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror CANCELLED @0");

    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    facts_pivot_sent(heard->facts, "vda");
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror CANCELLED @0");

    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @0"); /* that was another's */
}

static void c15_a_pivot_that_was_refused_changes_nothing(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    uint64_t sent_at = facts_change_count(heard->facts);
    facts_pivot_sent(heard->facts, "vda");
    facts_pivot_refused(heard->facts, "vda", sent_at);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @0");
    assert_switched(heard, NOT_SWITCHED);

    /* One that was sent to the run before. */
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    facts_pivot_sent(heard->facts, "vda");
    facts_pivot_refused(heard->facts, "vda", sent_at);
    facts_pivot_refused(heard->facts, "vdz", sent_at);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror CANCELLED @0");
}

static void copy_is_aborted_by(struct heard *heard, unsigned long version, const char *expected)
{
    facts_set_version(heard->facts, version);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, expected);
}

static void c16_an_old_libvirt_spoils_the_copy_that_it_aborts(void **state)
{
    struct heard *heard = *state;
    copy_is_aborted_by(heard, 7000000, "vda mirror READY @0; vda mirror CANCELLED @0");
    copy_is_aborted_by(heard, FACTS_FIRST_SOFT_ABORT - 1,
                       "vda mirror READY @0; vda mirror CANCELLED @0");
    copy_is_aborted_by(heard, FACTS_FIRST_SOFT_ABORT,
                       "vda mirror READY @0; vda mirror COMPLETED @0");
    copy_is_aborted_by(heard, 0, "vda mirror READY @0; vda mirror COMPLETED @0");

    facts_set_version(heard->facts, 7000000);
    qemu_completed(heard, 4); /* which knows better */
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror COMPLETED @4");
}

static void b17_an_abort_that_came_too_late_tells_the_truth(void **state)
{
    struct heard *heard = *state;
    qemu_completed(heard, 4);
    libvirt_says(heard, FACTS_PULL, FACTS_CANCELED);
    assert_told(heard, "vda stream COMPLETED @4");
    qemu_failed(heard, 5);
    libvirt_says(heard, FACTS_PULL, FACTS_CANCELED);
    assert_told(heard, "vda stream COMPLETED @5 No space left");
}

static void b11_a_failure_has_qemus_text(void **state)
{
    struct heard *heard = *state;
    qemu_failed(heard, 6);
    assert_told(heard, "");
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda mirror COMPLETED @6 No space left");
    assert_switched(heard, SWITCH_UNKNOWN);
}

static void b10_a_failure_without_a_reason_is_one(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda mirror COMPLETED @0 libvirt says that it failed, and no reason: "
                       "libvirt's log or the guest's has it");
    qemu_completed(heard, 6);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda mirror COMPLETED @6 QEMU has completed it, and libvirt says that it "
                       "failed: libvirt's log has the reason");
}

static void b16_a_cancel_that_libvirt_was_not_asked_for(void **state)
{
    struct heard *heard = *state;
    qemu_cancelled(heard, 6);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda mirror CANCELLED @6");
}

static void b49_what_a_later_libvirt_may_say(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, (enum facts_status)4);
    libvirt_says(heard, FACTS_COPY, (enum facts_status) - 1);
    assert_told(heard, "");
    qemu_status(heard, "created");
    libvirt_says(heard, (enum facts_type)17, FACTS_READY);
    libvirt_says(heard, (enum facts_type)17, FACTS_COMPLETED);
    assert_told(heard, "vda  READY @0; vda  COMPLETED @0");
    assert_switched(heard, SWITCHED);
    libvirt_says(heard, (enum facts_type)17, FACTS_COMPLETED);
    assert_switched(heard, SWITCH_UNKNOWN);
}

/* ------------------------------------------------------------------------ errors */

static void b12_only_an_error_that_stops_is_news(void **state)
{
    struct heard *heard = *state;
    qemu_says(heard, "BLOCK_JOB_ERROR",
              "{" COPY_OF_VDA ", \"operation\": \"write\", \"action\": \"report\"}", 1);
    qemu_says(heard, "BLOCK_JOB_ERROR",
              "{" COPY_OF_VDA ", \"operation\": \"write\", \"action\": \"ignore\"}", 1);
    assert_told(heard, "");
    qemu_says(heard, "BLOCK_JOB_ERROR",
              "{" COPY_OF_VDA ", \"operation\": \"write\", \"action\": \"stop\"}", 2);
    assert_told(heard, "vda mirror STOPPED @2 a write error stopped it, and libvirt has no call "
                       "that resumes it");
    qemu_says(heard, "BLOCK_JOB_ERROR",
              "{\"device\": \"copy-vda-libvirt-2-format\", \"type\": \"odd\", \"operation\": "
              "\"read\", \"action\": \"stop\"}",
              3);
    assert_told(heard,
                "vda  STOPPED @3 a read error stopped it, and libvirt has no call that resumes it");
    qemu_says(heard, "BLOCK_JOB_ERROR", "{" COPY_OF_VDA ", \"action\": \"stop\"}", 4);
    assert_told(heard, "vda mirror STOPPED @4 an I/O error stopped it, and libvirt has no call "
                       "that resumes it");
}

/* -------------------------------------------------------------------------- runs */

static void b02_a_job_may_be_over_before_its_start_is_answered(void **state)
{
    struct heard *heard = *state;
    start_sent(heard);
    qemu_status(heard, "created");
    qemu_completed(heard, 2);
    libvirt_says(heard, FACTS_PULL, FACTS_COMPLETED);
    start_over(heard, true);
    assert_told(heard, "vda stream COMPLETED @2");
    assert_active(heard, false, false);
}

static void b02_and_where_qemu_is_silent(void **state)
{
    struct heard *heard = *state;
    start_sent(heard);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    start_over(heard, true);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @0");
    assert_active(heard, false, false);
}

static void b20_an_unknown_runs_end_is_not_that_of_the_one_being_started(void **state)
{
    struct heard *heard = *state;
    tell_of_statuses(heard);
    start_sent(heard);
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK); /* of which one? */
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    qemu_completed(heard, 1);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "earlier vda mirror READY @0; earlier vda mirror COMPLETED @1");
    assert_active(heard, false, false);
    qemu_status(heard, "created");
    assert_active(heard, true, false);
    start_over(heard, true);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror CANCELLED @0");
}

static void b20_a_known_runs_end_is_told_and_then_the_new_ones(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @0");
    start_sent(heard);
    qemu_says(heard, "BLOCK_JOB_ERROR", "{" COPY_OF_VDA ", \"action\": \"stop\"}", 3);
    assert_told(heard, "earlier vda mirror STOPPED @3 an I/O error stopped it, and libvirt has no "
                       "call that resumes it");
    qemu_completed(heard, 4);
    qemu_status(heard, "null");
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "earlier vda mirror COMPLETED @4");
    assert_active(heard, false, false);
    qemu_status(heard, "created");
    qemu_ready(heard, 5);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @5");
    start_over(heard, true);
    assert_active(heard, true, true);
    start_sent(heard);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "earlier vda mirror COMPLETED @0");
}

static void b20_and_where_qemu_is_silent(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    start_sent(heard);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "earlier vda mirror COMPLETED @0");
    assert_active(heard, false, false);
    libvirt_says(heard, FACTS_PULL, FACTS_FAILED);
    assert_told(heard, "vda stream COMPLETED @0 libvirt says that it failed, and no reason: "
                       "libvirt's log or the guest's has it");
    assert_active(heard, false, false);
    start_over(heard, true);
    assert_active(heard, false, false);
}

/* The reply may overtake the events that libvirt sent before it; the disk's name is the new run's
 * from then on. */
static void b20_a_start_may_be_taken_before_the_last_ones_end_is_heard(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @0");
    start_sent(heard);
    start_over(heard, true);
    assert_active(heard, true, false);
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    assert_active(heard, true, false);
    qemu_completed(heard, 4);
    qemu_status(heard, "null");
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "");
    assert_active(heard, true, false);
    libvirt_says(heard, FACTS_PULL, FACTS_COMPLETED); /* whichever that was */
    qemu_status(heard, "created");
    assert_told(heard, "");
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @0");
    assert_active(heard, false, false);
}

static void b20_nor_is_an_unknown_runs_end_the_new_ones(void **state)
{
    struct heard *heard = *state;
    tell_of_statuses(heard);
    start_sent(heard);
    start_over(heard, true);
    libvirt_says(heard, FACTS_PULL, FACTS_COMPLETED);
    assert_told(heard, "");
    assert_active(heard, true, false);
    qemu_status(heard, "created");
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @0");
    assert_active(heard, true, true);
}

static void b20_and_where_qemu_is_silent_too(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    start_sent(heard);
    start_over(heard, true);
    assert_told(heard, "vda mirror READY @0");
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "");
    assert_active(heard, true, false);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror CANCELLED @0");
    assert_active(heard, false, false);
}

/* Of two libvirt takes one; the second only after the first has ended. */
static void b20_two_starts_at_once(void **state)
{
    struct heard *heard = *state;
    for (int accepted = 0; accepted < 4; accepted++) {
        bool first = accepted % 2 == 1, second = accepted / 2 == 1;
        start_sent(heard);
        start_sent(heard);
        if (first) {
            qemu_status(heard, "created");
            libvirt_says(heard, FACTS_PULL, FACTS_COMPLETED);
            assert_told(heard, "vda stream COMPLETED @0");
        }
        start_over(heard, first);
        if (second) {
            qemu_status(heard, "created");
            libvirt_says(heard, FACTS_COMMIT, FACTS_COMPLETED);
            assert_told(heard, "vda commit COMPLETED @0");
        }
        start_over(heard, second);
        assert_active(heard, false, false);
    }
    start_over(heard, true); /* of none */
    assert_active(heard, false, false);
}

static void b20_a_created_ends_what_was_known_of_the_run_before(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    qemu_ready(heard, 1);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    facts_pivot_sent(heard->facts, "vda");
    qemu_failed(heard, 2);
    qemu_status(heard, "created");
    assert_active(heard, true, false);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda mirror READY @1; vda mirror READY @0; vda mirror COMPLETED @0");
}

static void b41_a_start_that_is_refused_late_leaves_nothing(void **state)
{
    struct heard *heard = *state;
    start_sent(heard);
    qemu_status(heard, "created");
    qemu_status(heard, "null");
    start_over(heard, false);
    assert_active(heard, false, false);
    assert_told(heard, "");
}

static void b41_a_refused_start_leaves_the_one_that_runs(void **state)
{
    struct heard *heard = *state;
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    start_sent(heard);
    start_over(heard, false);
    assert_active(heard, true, true);
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    qemu_completed(heard, 3);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @3");
}

static void b22_null_comes_before_libvirts_word(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    qemu_completed(heard, 3);
    qemu_status(heard, "concluded");
    qemu_status(heard, "null");
    assert_told(heard, "");
    assert_active(heard, true, false);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda mirror COMPLETED @3");
}

static void start_again(struct heard *heard, const struct fact *fact)
{
    if (fact->kind != FACT_READY) {
        start_sent(heard);
        start_over(heard, true);
    }
    facts_pivot_sent(heard->facts, fact->id);
    for (int i = 0; i < 100; i++) {
        char disk[16];
        snprintf(disk, sizeof disk, "vd%d", i);
        assert_int_equal(facts_row(heard->facts, disk, true), BJ_OK);
    }
}

static void b01_who_is_told_may_act(void **state)
{
    struct heard *heard = *state;
    heard->then = start_again;
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_COMPLETED);
    assert_told(heard, "vda commit READY @0; vda commit COMPLETED @0");
    assert_active(heard, true, false);
}

static void c19_an_end_that_nobody_saw(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_end_unseen(heard->facts, "vda", false), BJ_OK);
    assert_told(heard, "vda mirror COMPLETED @0");
    assert_int_equal(facts_switched(heard->facts, "vda"), SWITCHED);
    assert_int_equal(facts_end_unseen(heard->facts, "vda", true), BJ_OK);
    assert_told(heard, "vda commit READY @0; vda commit COMPLETED @0");
    assert_int_equal(facts_switched(heard->facts, "vda"), SWITCHED);
    assert_active(heard, false, false);
}

static void c139_a_disk_has_changed_or_not_since_a_list(void **state)
{
    struct heard *heard = *state;
    uint64_t before = facts_change_count(heard->facts);
    assert_int_equal(facts_row(heard->facts, "vdb", false), BJ_OK);
    assert_true(facts_has_changed_since(heard->facts, "vdb", before));
    assert_false(facts_has_changed_since(heard->facts, "vda", before));

    before = facts_change_count(heard->facts);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_true(facts_has_changed_since(heard->facts, "vda", before));
    assert_false(facts_has_changed_since(heard->facts, "vdb", before));
}

static void c139_a_late_end_is_of_the_run_before(void **state)
{
    struct heard *heard = *state;
    qemu_status(heard, "created");
    assert_false(facts_owes_earlier_end(heard->facts, "vda"));
    assert_int_equal(facts_start_sent(heard->facts, "vda"), BJ_OK);
    assert_false(facts_owes_earlier_end(heard->facts, "vda"));
    facts_start_over(heard->facts, "vda", true);
    assert_true(facts_owes_earlier_end(heard->facts, "vda"));
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    qemu_status(heard, "created");
    assert_false(facts_owes_earlier_end(heard->facts, "vda"));
}

static void b28_a_list_can_tell_whether_it_is_old(void **state)
{
    struct heard *heard = *state;
    uint64_t before = facts_change_count(heard->facts);
    qemu_status(heard, "created");
    assert_true(facts_change_count(heard->facts) > before);
    before = facts_change_count(heard->facts);
    qemu_status(heard, "running");
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    qemu_completed(heard, 1);
    assert_int_equal(facts_change_count(heard->facts), before);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_true(facts_change_count(heard->facts) > before);
    before = facts_change_count(heard->facts);
    libvirt_says(heard, FACTS_PULL, FACTS_READY);
    assert_true(facts_change_count(heard->facts) > before);
}

/* ------------------------------------------------------------------------- names */

static void assert_disk(struct heard *heard, const char *job, const char *disk)
{
    char data[256];
    char expected[128];
    snprintf(data, sizeof data, "{\"device\": \"%s\", \"action\": \"stop\"}", job);
    snprintf(expected, sizeof expected,
             "%s  STOPPED @1 an I/O error stopped it, and libvirt has no call that resumes it",
             disk ? disk : "");
    qemu_says(heard, "BLOCK_JOB_ERROR", data, 1);
    assert_told(heard, disk ? expected : "");
}

static void b69_a_qemu_job_is_its_disks(void **state)
{
    struct heard *heard = *state;
    assert_disk(heard, "copy-vda-libvirt-2-format", "vda");
    assert_disk(heard, "pull-sdb-libvirt-13-storage", "sdb");
    assert_disk(heard, "commit-hdc-libvirt-1-format", "hdc");
    assert_disk(heard, "backup-vdb-libvirt-4-format", "backup");
    assert_disk(heard, "copy-vd-a-libvirt-4-format", "vd-a");
    assert_disk(heard, "copy-vd-libvirt-1-libvirt-4-format", "vd-libvirt-1");
    assert_disk(heard, "copy-sda-#block145", "sda");
    assert_disk(heard, "copy-vda", NULL);
    assert_disk(heard, "copy--libvirt-1-format", NULL);
    assert_disk(heard, "create-storage-libvirt-3-storage", NULL);
    assert_disk(heard, "drive-virtio-disk0", NULL);
    assert_disk(heard, "bj-0011", NULL);
    assert_disk(heard, "", NULL);
}

/* libvirt's nodes have names of libvirt's wherever it can back up. */
static void c138_a_foreign_backup_is_none_of_libvirts(void **state)
{
    struct heard *heard = *state;
    assert_disk(heard, "backup-vda-mine", NULL);
    assert_disk(heard, "backup-vda-#block145", NULL);
    qemu_says(heard, "JOB_STATUS_CHANGE", "{\"id\": \"backup-vda-mine\", \"status\": \"created\"}",
              1);
    assert_false(facts_is_active(heard->facts, BACKUP_ID));
}

static void b52_disks_are_apart(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_block_job(heard->facts, "vdb", FACTS_COPY, FACTS_READY), BJ_OK);
    assert_active(heard, false, false);
    assert_true(facts_is_ready(heard->facts, "vdb"));
    qemu_failed(heard, 3);
    assert_int_equal(facts_block_job(heard->facts, "vdb", FACTS_COPY, FACTS_COMPLETED), BJ_OK);
    assert_told(heard, "vdb mirror READY @0; vdb mirror COMPLETED @0");
    assert_switched(heard, SWITCH_UNKNOWN);
}

/* ---------------------------------------------------------------- hostile peers */

static void b56_data_that_is_none_is_no_news(void **state)
{
    struct heard *heard = *state;
    static const char *const odd[] = {
        "",
        "{",
        "[]",
        "null",
        "\"copy-vda-libvirt-2-format\"",
        "{}",
        "{\"device\": 7}",
        "{\"device\": null, \"action\": \"stop\"}",
        "{\"device\": \"copy-vda\\u0000-libvirt-2-format\", \"action\": \"stop\"}",
        "{\"device\": \"copy-vd\xff-libvirt-2-format\", \"action\": \"stop\"}",
        "{\"id\": \"copy-vda-libvirt-2-format\", \"action\": \"stop\"}",
        "{\"device\": \"copy-vda-libvirt-2-format\", \"action\": [\"stop\"]}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        qemu_says(heard, "BLOCK_JOB_ERROR", odd[i], 1);
    qemu_says(heard, "BLOCK_JOB_ERROR", NULL, 1);
    qemu_says(heard, "", "{" COPY_OF_VDA "}", 1);
    qemu_says(heard, "RTC_CHANGE", "{{{", 1);
    assert_told(heard, "");
}

static void b55_numbers_beyond_64_bits_do_no_harm(void **state)
{
    struct heard *heard = *state;
    qemu_says(heard, "BLOCK_JOB_COMPLETED",
              "{" COPY_OF_VDA ", \"len\": 18446744073709551616000000, \"error\": \"No space\"}", 8);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda mirror COMPLETED @8 No space");
}

static char *long_text(size_t len, const char *character)
{
    size_t width = strlen(character);
    char *text = calloc(len * width + 1, 1);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        memcpy(text + i * width, character, width);
    return text;
}

static void b56_long_texts_are_cut_between_characters(void **state)
{
    struct heard *heard = *state;
    char *error = long_text(3000, "\xc3\xa9"); /* two bytes each, and one before */
    size_t room = strlen(error) + 256;
    char *data = malloc(room);
    assert_non_null(data);
    snprintf(data, room, "{" COPY_OF_VDA ", \"error\": \"x%s\"}", error);
    qemu_says(heard, "BLOCK_JOB_COMPLETED", data, 1);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    const char *told = strchr(heard->text, 'x');
    assert_non_null(told);
    assert_int_equal(strlen(told), 4095);
    free(data);
    free(error);
}

static void b56_only_so_many_disks_are_remembered(void **state)
{
    struct heard *heard = *state;
    char disk[32];
    for (int i = 0; i < 10000; i++) {
        snprintf(disk, sizeof disk, "vd%d", (i * 7919) % 10007);
        assert_int_equal(facts_row(heard->facts, disk, false), BJ_OK);
    }
    int remembered = 0;
    for (int i = 0; i < 10007; i++) {
        snprintf(disk, sizeof disk, "vd%d", i);
        remembered += facts_is_active(heard->facts, disk);
    }
    assert_int_equal(remembered, 4096);
    assert_int_equal(facts_block_job(heard->facts, "sdx", FACTS_COPY, FACTS_COMPLETED), BJ_OK);
    assert_told(heard, "");

    char *name = long_text(5000, "v");
    assert_int_equal(facts_start_sent(heard->facts, name), BJ_OK);
    assert_int_equal(facts_start_sent(heard->facts, ""), BJ_OK);
    free(name);
}

/* ------------------------------------------------------------------- migrations */

#define MIGRATION_OF_VDA "\"device\": \"drive-virtio-disk0\", \"type\": \"mirror\""

static void migration_status(struct heard *heard, const char *status)
{
    char data[128];
    snprintf(data, sizeof data, "{\"status\": \"%s\", \"id\": \"drive-virtio-disk0\"}", status);
    qemu_says(heard, "JOB_STATUS_CHANGE", data, 1);
}

static void name_vda(struct heard *heard, const char *alias)
{
    assert_int_equal(facts_set_alias(heard->facts, "vda", alias), BJ_OK);
}

static void assert_migrates(struct heard *heard, bool migrates)
{
    assert_int_equal(facts_is_migration(heard->facts, "vda"), migrates);
}

static void c11_a_migration_switches_nothing(void **state)
{
    struct heard *heard = *state;
    name_vda(heard, "virtio-disk0");
    migration_status(heard, "created");
    assert_migrates(heard, true);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "");
    qemu_says(heard, "BLOCK_JOB_COMPLETED", "{" MIGRATION_OF_VDA "}", 7);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda migration COMPLETED @7");
    assert_switched(heard, SWITCH_UNKNOWN);
    assert_migrates(heard, false);
}

static void c11_a_migration_that_is_given_up_is_cancelled(void **state)
{
    struct heard *heard = *state;
    name_vda(heard, "virtio-disk0");
    qemu_says(heard, "BLOCK_JOB_READY", "{" MIGRATION_OF_VDA "}", 6);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    qemu_says(heard, "BLOCK_JOB_CANCELLED", "{" MIGRATION_OF_VDA "}", 7);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda migration CANCELLED @7");
}

static void c11_a_migration_that_fails_has_qemus_reason(void **state)
{
    struct heard *heard = *state;
    name_vda(heard, "virtio-disk0");
    qemu_says(heard, "BLOCK_JOB_ERROR",
              "{" MIGRATION_OF_VDA ", \"operation\": \"write\", \"action\": \"stop\"}", 5);
    assert_told(heard, "vda migration STOPPED @5 a write error stopped it, and libvirt has no call "
                       "that resumes it");
    qemu_says(heard, "BLOCK_JOB_COMPLETED", "{" MIGRATION_OF_VDA ", \"error\": \"Broken pipe\"}",
              7);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda migration COMPLETED @7 Broken pipe");
}

static void c11_a_list_shows_a_migration_where_qemu_is_silent(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_migration_row(heard->facts, "vda"), BJ_OK);
    assert_migrates(heard, true);
    assert_active(heard, true, false);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda migration COMPLETED @0");
    assert_switched(heard, SWITCH_UNKNOWN);

    assert_int_equal(facts_migration_row(heard->facts, "vda"), BJ_OK);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda migration CANCELLED @0");

    assert_int_equal(facts_migration_row(heard->facts, "vda"), BJ_OK);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard, "vda migration COMPLETED @0 the migration was cancelled or has failed: "
                       "libvirt's log or the guest's has the reason");

    libvirt_says(heard, FACTS_COPY, FACTS_READY); /* of the next copy, which is no migration's */
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda mirror READY @0; vda mirror COMPLETED @0");
}

static void c11_without_qemu_only_a_list_knows_a_migration(void **state)
{
    struct heard *heard = *state;
    facts_lack_qemu(heard->facts);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda  READY @0; vda  COMPLETED @0");
    assert_switched(heard, SWITCH_UNKNOWN);
    libvirt_says(heard, FACTS_COPY, FACTS_FAILED);
    assert_told(heard,
                "vda  COMPLETED @0 libvirt says that it failed, and no reason: libvirt's log "
                "or the guest's has it");

    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_int_equal(facts_row(heard->facts, "vda", true), BJ_OK);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda  READY @0; vda mirror COMPLETED @0");
    assert_switched(heard, SWITCH_UNKNOWN); /* which the disk shows */

    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    libvirt_says(heard, FACTS_COPY, FACTS_CANCELED);
    assert_told(heard, "vda  READY @0; vda mirror COMPLETED @0");
    assert_switched(heard, NOT_SWITCHED);

    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_READY);
    libvirt_says(heard, FACTS_ACTIVE_COMMIT, FACTS_COMPLETED);
    assert_told(heard, "vda commit READY @0; vda commit COMPLETED @0");
}

static void c11_without_qemu_what_we_started_is_no_migration(void **state)
{
    struct heard *heard = *state;
    facts_lack_qemu(heard->facts);
    start_sent(heard);
    start_over(heard, true);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    assert_told(heard, "vda mirror READY @0");

    start_sent(heard); /* libvirt has it before its word of the one before is here */
    start_over(heard, true);
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "");
    libvirt_says(heard, FACTS_COPY, FACTS_COMPLETED);
    assert_told(heard, "vda mirror COMPLETED @0");
    assert_switched(heard, SWITCHED);

    start_sent(heard);
    libvirt_says(heard, FACTS_COPY, FACTS_READY);
    start_over(heard, true);
    assert_told(heard, "vda mirror READY @0");
}

/* What comes from QEMU and what libvirt answers take different ways. */
static void c11_a_list_may_come_before_the_migrations_created(void **state)
{
    struct heard *heard = *state;
    name_vda(heard, "virtio-disk0");
    assert_int_equal(facts_migration_row(heard->facts, "vda"), BJ_OK);
    migration_status(heard, "created");
    migration_status(heard, "ready");
    assert_migrates(heard, true);
    migration_status(heard, "null");
    assert_migrates(heard, false);
    qemu_status(heard, "created");
    assert_migrates(heard, false);
}

static void c11_an_alias_is_one_disks(void **state)
{
    struct heard *heard = *state;
    assert_int_equal(facts_set_alias(heard->facts, "vdb", "virtio-disk0"), BJ_OK);
    name_vda(heard, "virtio-disk0");
    name_vda(heard, "virtio-disk0");
    migration_status(heard, "created");
    assert_migrates(heard, true);
    assert_false(facts_is_active(heard->facts, "vdb"));

    name_vda(heard, NULL);
    migration_status(heard, "null");
    assert_migrates(heard, true);
    qemu_says(heard, "BLOCK_JOB_CANCELLED", "{\"device\": \"drive-\"}", 7);
    assert_told(heard, "");
}

/* Anything, in any order: nothing breaks, and of each run one end is told at most. */
static void b18_any_order_ends_a_run_once(void **state)
{
    static const char *const statuses[] = {"created", "running", "ready", "concluded", "null"};
    struct heard *heard = *state;
    unsigned seed = 1;
    int ends = 0, said = 0;

    for (int i = 0; i < 200000; i++) {
        seed = seed * 1103515245U + 12345U;
        unsigned pick = seed >> 16;
        bool is_end = false;
        switch (pick % 12) {
        case 0:
        case 1:
            is_end = true;
            libvirt_says(heard, (enum facts_type)(pick / 16 % 7),
                         (enum facts_status)(pick / 128 % 3));
            break;
        case 2:
            libvirt_says(heard, (enum facts_type)(pick / 16 % 7), FACTS_READY);
            break;
        case 3:
        case 4:
            qemu_status(heard, statuses[pick / 16 % 5]);
            break;
        case 5:
            qemu_failed(heard, 1);
            break;
        case 6:
            qemu_completed(heard, 1);
            break;
        case 7:
            qemu_cancelled(heard, 1);
            break;
        case 8:
            start_sent(heard);
            break;
        case 9:
            start_over(heard, pick / 16 % 2 == 0);
            break;
        case 10:
            facts_pivot_sent(heard->facts, "vda");
            break;
        default:
            assert_int_equal(facts_row(heard->facts, "vda", pick / 16 % 2 == 0), BJ_OK);
            break;
        }
        int told = strstr(heard->text, "COMPLETED") || strstr(heard->text, "CANCELLED");
        assert_true(told <= is_end);
        ends += told;
        said += is_end;
        heard->text[0] = '\0';
        heard->len = 0;
    }
    assert_true(ends > said / 4);
}

int main(void)
{
#define FACTS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        FACTS_TEST(b64_ready_is_told_once_libvirt_says_it),
        FACTS_TEST(b27_ready_is_told_once_a_run),
        FACTS_TEST(b28_a_list_makes_ready_but_takes_nothing_back),
        FACTS_TEST(b46_a_job_that_a_list_lacks_is_forgotten),
        FACTS_TEST(b14_completed_copies_and_active_commits_have_switched),
        FACTS_TEST(c19_of_a_job_that_was_there_before_completed_is_no_proof),
        FACTS_TEST(b14_other_kinds_do_not_switch),
        FACTS_TEST(b03_an_active_commit_that_completed_was_ready),
        FACTS_TEST(b66_canceled_is_what_qemu_says_it_is),
        FACTS_TEST(b66_canceled_is_what_was_known_where_qemu_is_silent),
        FACTS_TEST(c15_a_pivot_that_was_refused_changes_nothing),
        FACTS_TEST(c16_an_old_libvirt_spoils_the_copy_that_it_aborts),
        FACTS_TEST(b17_an_abort_that_came_too_late_tells_the_truth),
        FACTS_TEST(b11_a_failure_has_qemus_text),
        FACTS_TEST(b10_a_failure_without_a_reason_is_one),
        FACTS_TEST(b16_a_cancel_that_libvirt_was_not_asked_for),
        FACTS_TEST(b49_what_a_later_libvirt_may_say),
        FACTS_TEST(b12_only_an_error_that_stops_is_news),
        FACTS_TEST(b02_a_job_may_be_over_before_its_start_is_answered),
        FACTS_TEST(b02_and_where_qemu_is_silent),
        FACTS_TEST(b20_an_unknown_runs_end_is_not_that_of_the_one_being_started),
        FACTS_TEST(b20_a_known_runs_end_is_told_and_then_the_new_ones),
        FACTS_TEST(b20_and_where_qemu_is_silent),
        FACTS_TEST(b20_a_start_may_be_taken_before_the_last_ones_end_is_heard),
        FACTS_TEST(b20_nor_is_an_unknown_runs_end_the_new_ones),
        FACTS_TEST(b20_and_where_qemu_is_silent_too),
        FACTS_TEST(b20_two_starts_at_once),
        FACTS_TEST(b20_a_created_ends_what_was_known_of_the_run_before),
        FACTS_TEST(b41_a_start_that_is_refused_late_leaves_nothing),
        FACTS_TEST(b41_a_refused_start_leaves_the_one_that_runs),
        FACTS_TEST(b22_null_comes_before_libvirts_word),
        FACTS_TEST(b01_who_is_told_may_act),
        FACTS_TEST(b28_a_list_can_tell_whether_it_is_old),
        FACTS_TEST(c19_an_end_that_nobody_saw),
        FACTS_TEST(c139_a_disk_has_changed_or_not_since_a_list),
        FACTS_TEST(c139_a_late_end_is_of_the_run_before),
        FACTS_TEST(b69_a_qemu_job_is_its_disks),
        FACTS_TEST(c138_a_foreign_backup_is_none_of_libvirts),
        FACTS_TEST(b52_disks_are_apart),
        FACTS_TEST(b56_data_that_is_none_is_no_news),
        FACTS_TEST(b55_numbers_beyond_64_bits_do_no_harm),
        FACTS_TEST(b56_long_texts_are_cut_between_characters),
        FACTS_TEST(b56_only_so_many_disks_are_remembered),
        FACTS_TEST(c11_a_migration_switches_nothing),
        FACTS_TEST(c11_a_migration_that_is_given_up_is_cancelled),
        FACTS_TEST(c11_a_migration_that_fails_has_qemus_reason),
        FACTS_TEST(c11_a_list_shows_a_migration_where_qemu_is_silent),
        FACTS_TEST(c11_without_qemu_only_a_list_knows_a_migration),
        FACTS_TEST(c11_without_qemu_what_we_started_is_no_migration),
        FACTS_TEST(c11_a_list_may_come_before_the_migrations_created),
        FACTS_TEST(c11_an_alias_is_one_disks),
        FACTS_TEST(b18_any_order_ends_a_run_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
