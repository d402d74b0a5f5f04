#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the job machine, the tracker and the groups' plan in one way after the other, and demands
that what explores them says so.

    BUILD=build tests/core/explore_mutations.py [NAME...]

Each mutation is what is replaced in one of the files of core/src/model, and by what. An explorer's
objects are those of the build; only the model is compiled anew. See docs/explorer.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Mutation:
    name: str
    before: str
    after: str
    rule: str  # one of those that must be reported as broken
    also: tuple[str, str] | None = None  # a second replacement


OF_THE_MACHINE = [
    Mutation(
        "complete-before-ready",
        "!is_aborting(m) && machine_is(m, IS_READY) && is_taken_now(m, VERB_COMPLETE)",
        "!is_aborting(m) && is_taken_now(m, VERB_COMPLETE)",
        "no complete before ready",
    ),
    Mutation(
        "complete-twice",
        "return machine_awaits_pivot(m) && !was_sent(m, VERB_COMPLETE) && machine_can_pivot(m)",
        "return machine_awaits_pivot(m) && machine_can_pivot(m)",
        "one complete at a time",
    ),
    Mutation(
        "complete-beside-an-abort",
        "!is_aborting(m) && machine_is(m, IS_READY) && is_taken_now(m, VERB_COMPLETE)",
        "machine_is(m, IS_READY) && is_taken_now(m, VERB_COMPLETE)",
        "no complete beside an abort",
    ),
    Mutation(
        "cancel-beside-a-complete",
        "&& !is_aborting(m) && !too_late && !m->sent[VERB_CANCEL].refused",
        "&& !is_aborting(m) && (too_late || true) && !m->sent[VERB_CANCEL].refused",
        "no cancel beside a complete that may be accepted",
    ),
    Mutation(
        "complete-beside-a-raw-one",
        "return !machine_is(m, IS_AWAY) && !awaits_raw(m) && (could",
        "return !machine_is(m, IS_AWAY) && (could",
        "QEMU reads no second complete",
    ),
    Mutation(
        "verbs-after-the-end",
        "return m->end == END_NONE && verb_taking(verb, m->status) == NOW;",
        "return verb_taking(verb, m->status) == NOW;",
        "no complete and no cancel after the end",
    ),
    Mutation(
        "an-error-is-no-failure",
        "set_end(m, error ? END_FAILED : END_COMPLETED, error);",
        "set_end(m, END_COMPLETED, error);",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "a-soft-cancel-is-a-pivot",
        "{END_COMPLETED, COMPLETE_TAKEN, .outcome",
        "{END_COMPLETED, ABORT_TAKEN, .outcome",
        "PIVOTED is not what happened",
    ),
    Mutation(
        "a-ready-job-has-not-pivoted",
        "{END_COMPLETED, COMPLETE_TAKEN, .outcome",
        "{END_COMPLETED, COMPLETE_TAKEN | NEVER_SWITCHES, .outcome",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "users-that-went-elsewhere-do-not-count",
        "[SWITCH_UNCLEAR] = SAW_NEITHER",
        "[SWITCH_UNCLEAR] = CANNOT_COMPARE",
        "COPIED is not what happened",
    ),
    Mutation(
        "a-commit-whose-ready-was-missed-is-left",
        "machine_is(m, IS_READY) || (can_be_seen && missed_ready)",
        "machine_is(m, IS_READY) || (can_be_seen && missed_ready && false)",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "gone-is-success",
        "{VANISHED_AWAY, 0, END_NONE,",
        "{VANISHED_AWAY, 0, END_COMPLETED,",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "an-abort-is-a-failure",
        "{VANISHED_NULL, WAS_ABORTING | ABORT_TAKEN, END_CANCELLED,",
        "{VANISHED_NULL, WAS_ABORTING | IS_RELEASED, END_CANCELLED,",
        "FAILED is not what happened",
    ),
    Mutation(
        "the-outcome-is-decided-again",
        "if (machine_is_over(m) || m->end == END_NONE)\n        return;\n    const",
        "if (m->end == END_NONE)\n        return;\n    const",
        "nothing but RELEASED and statuses after ENDED",
    ),
    Mutation(
        "who-waits-for-ready-is-forgotten",
        "return !waiter_is_for_release(m, waiter);\n}",
        "return !waiter_is_for_release(m, waiter) && waiter->question != ASK_READY;\n}",
        "nobody hangs: ready",
    ),
    Mutation(
        "a-standstill-is-not-timed",
        "set_mark(m, TIMER_RUNS, wanted);",
        "wanted = false;\n    set_mark(m, TIMER_RUNS, wanted);",
        "nobody hangs: pivot",
    ),
    Mutation(
        "an-error-stop-is-no-stall",
        "[ASK_DONE] = {NEVER_STALLED, UNLESS_ABORTED,",
        "[ASK_DONE] = {NEVER_STALLED, NEVER_STALLED,",
        "nobody hangs: done",
    ),
    Mutation(
        "ready-is-told-again",
        "if (machine_is(m, IS_READY) || machine_is_over(m))\n        return false;",
        "if (machine_is_over(m))\n        return false;",
        "READY is told once",
    ),
    Mutation(
        "a-copy-is-a-success-for-a-pivot",
        "[ASK_PIVOT] = {ENDED, OK, ENDED,",
        "[ASK_PIVOT] = {ENDED, OK, OK,",
        "a success is told that was none",
    ),
    Mutation(
        "dismissed-twice",
        "if (!m->traits.ours || was_sent(m, VERB_DISMISS) ||",
        "if (!m->traits.ours ||",
        "one dismissal",
    ),
    Mutation(
        "jobs-of-others-are-dismissed",
        "if (!m->traits.ours || was_sent(m, VERB_DISMISS) ||",
        "if (was_sent(m, VERB_DISMISS) ||",
        "jobs of others are never dismissed",
    ),
    Mutation(
        "a-pivot-is-answered-when-it-is-accepted",
        "static void complete_accepted(struct machine *m)\n{",
        "static void complete_accepted(struct machine *m)\n{\n"
        "    machine_answer_all(m, waiter_wants_complete, BJ_OK, NULL, NULL);",
        "a success is told that was none",
    ),
    Mutation(
        "a-pivot-that-is-held-back-is-sent",
        "return waiter->held ? &m->held_pivots : &m->pivots;",
        "return &m->pivots;",
        "nothing is sent that nobody wants",
    ),
    Mutation(
        "a-list-overrules-events",
        "bool is_news = m->status == STATUS_NONE || !m->traits.has_status;",
        "bool is_news = true;",
        "ours are dismissed",
    ),
    Mutation(
        "verbs-without-a-connection",
        "machine_is(m, CHECKING_GONE) || machine_is(m, IS_AWAY))",
        "machine_is(m, CHECKING_GONE))",
        "nothing is sent while nobody hears",
    ),
    Mutation(
        "an-async-abort-does-not-wait-for-its-reply",
        "(aborts && waiter_is_async_abort(m, waiter)) ||",
        "(aborts && false) ||",
        "an error is told that was none",
    ),
    Mutation(
        "an-async-pivot-does-not-wait-for-its-reply",
        "(completes && waiter_is_async_pivot(m, waiter));",
        "(completes && false);",
        "an error is told that was none",
    ),
    Mutation(
        "an-async-pivot-waits-for-the-end",
        "    machine_answer_all(m, waiter_is_async_pivot, BJ_OK, NULL, NULL);\n",
        "",
        "nobody hangs: pivot",
    ),
    Mutation(
        "an-accepted-pivot-does-not-count-later",
        "else if (waiter_is_async_pivot(m, waiter) && is_accepted(m, VERB_COMPLETE))",
        "else if (false)",
        "nobody hangs: pivot",
    ),
    Mutation(
        "who-hoped-for-an-acceptance-is-forgotten",
        "/* Those who had hoped for an acceptance. */\n    machine_answer_hurt(m);",
        "",
        "nobody hangs: pivot",
    ),
    Mutation(
        "a-pivot-does-not-wait-for-the-release",
        "return !waiter_is_for_release(m, waiter);\n}",
        "return waiter->question != ASK_RELEASED;\n}",
        "a success is told that was none",
    ),
    Mutation(
        "that-it-is-kept-hides-how-it-ended",
        "    machine_answer_over(m, fails_when_over);\n",
        "",
        "an error is told that was none",
    ),
    Mutation(
        "a-stall-is-told-of-what-is-over",
        "if (machine_is_over(m) || awaits_acceptance(m, waiter))",
        "if (awaits_acceptance(m, waiter))",
        "an error is told that was none",
    ),
    Mutation(
        "a-finish-never-pivots",
        "return waiter->question == ASK_PIVOT || waiter->question == ASK_FINISH;",
        "return waiter->question == ASK_PIVOT;",
        "nobody hangs: finish",
    ),
    Mutation(
        "an-unclear-end-is-a-finish",
        "if (waiter->question == ASK_FINISH && machine_is(m, IS_UNCLEAR))",
        "if (false)",
        "a success is told that was none",
    ),
    Mutation(
        "a-copy-is-a-finish",
        "[ASK_FINISH] = {OK, OK, ENDED,",
        "[ASK_FINISH] = {OK, OK, OK,",
        "a success is told that was none",
    ),
    Mutation(
        "whatever-is-lost-was-lost-by-a-cut",
        "m->lost_cause = why == error ? BJ_OK : why;",
        "m->lost_cause = BJ_E_DISCONNECTED;",
        "what ended the connection is told of what was lost by that",
    ),
    Mutation(
        "a-verb-that-was-not-sent-is-refused",
        "if (!m->sent[verb].is_checked)\n            continue;",
        "if (was_sent(m, (enum verb)verb))\n            continue;",
        "an error is told that was none",
    ),
    Mutation(
        "what-is-kept-is-never-released",
        "machine_is_over(m) && m->status == STATUS_CONCLUDED && !m->traits.ours &&",
        "false && m->status == STATUS_CONCLUDED && !m->traits.ours &&",
        "nobody hangs: released",
    ),
    Mutation(
        "a-stream-that-is-kept-has-free-nodes",
        "bool gives_back = m->traits.switches || machine_is(m, IS_READY);",
        "bool gives_back = true;",
        "a success is told that was none",
    ),
    Mutation(
        "an-end-on-the-new-connection-is-not-compared",
        "if (machine_is(m, ENDED_HERE))\n        decide(m);",
        "if (false)\n        decide(m);",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "an-older-stall-is-told",
        "if (!machine_doubts_stall(m))",
        "if (true)",
        "what goes on is not STALLED",
    ),
    Mutation(
        "a-pause-that-never-stopped-it-is-told",
        "bool never_stood = m->stall == STALL_PAUSED && !is_still(m);",
        "bool never_stood = false;",
        "what goes on is not STALLED",
    ),
    Mutation(
        "a-refused-pivot-does-not-wait",
        "} else if (may_be_ending) {",
        "} else if (false) {",
        "an error is told that was none",
    ),
    Mutation(
        "a-refusal-by-one-who-ends-the-job-is-told",
        "if (reply->verdict == VERDICT_ENDING) {",
        "if (false) {",
        "an error is told that was none",
    ),
]


KEEPS_THE_FIRST = (
    "    let_go(start, false); /* what was created before is another client's */\n",
    "    if (start->run)\n        return;\n",
)

OF_THE_TRACKER = [
    Mutation(
        "a-run-is-let-go-of-while-a-verb-waits",
        "all_asked && !machine_is_awaited(&run->machine);",
        "all_asked;",
        "nobody hangs when the connection ends: verb",
    ),
    Mutation(
        "a-verb-that-is-lost-has-no-answer",
        "    } else {\n        machine_drop_verbs(&run->machine);\n    }",
        "    }",
        "nobody hangs: verb",
    ),
    Mutation(
        "a-superseded-run-is-not-walked",
        "!run->has_id && run->in_flight == 0 && !run->compares && !run->is_dirty",
        "!run->has_id && run->in_flight == 0 && !run->is_dirty",
        "each hold has its drop",
    ),
    Mutation(
        "a-row-begins-a-run-in-spite-of-events",
        "a->run || a->was_ended || a->is_listed",
        "a->is_listed",
        "no run is tracked that QEMU does not have",
    ),
    Mutation(
        "raw-verbs-are-not-handed-on",
        "        if (run)\n            give_raw(raw, run);",
        "",
        "a raw verb counts for the run that it has reached",
    ),
    Mutation(
        "any-event-gives-a-start-its-run",
        "bool begins = is_status(fact, STATUS_CREATED) || !t->reports_created;",
        "bool begins = true;",
        "a start has the run that it created",
        also=KEEPS_THE_FIRST,
    ),
    Mutation(
        "a-start-keeps-the-first-run",
        *KEEPS_THE_FIRST,
        "a start has the run that it created",
    ),
    Mutation(
        "a-refused-start-loses-its-candidate",
        "    let_go(start, reply != ORDER_REFUSED && start->ours);",
        "    if (reply == ORDER_REFUSED && run)\n"
        '        machine_lost(&run->machine, BJ_E_JOB_LOST, "it was refused");\n'
        "    let_go(start, reply != ORDER_REFUSED && start->ours);",
        "LOST is said of a job that QEMU has",
    ),
    Mutation(
        "a-refused-start-owns-its-candidate",
        "let_go(start, reply != ORDER_REFUSED && start->ours);",
        "let_go(start, start->ours);",
        "jobs of others are never dismissed",
    ),
    Mutation(
        "a-cut-list-proves-absence",
        "    if (end == LIST_WHOLE)\n        feed_absence(run);",
        "    if (end == LIST_WHOLE || end == LIST_CUT)\n        feed_absence(run);",
        "NO_JOB is said of a job that QEMU has",
    ),
    Mutation(
        "a-failed-list-proves-absence",
        "    return end == LIST_WHOLE ? BJ_E_NO_JOB : BJ_E_REFUSED;",
        "    return BJ_E_NO_JOB;",
        "NO_JOB is said of a job that QEMU has",
    ),
    Mutation(
        "a-row-is-of-whoever-has-the-id-now",
        "if (run && run->row_asked) {",
        "if (run) {",
        "a row is of the run it is about, not of the next one",
    ),
    Mutation(
        "a-reply-counts-for-the-run-before",
        "if (reply && !run->is_superseded)",
        "if (reply)",
        "a reply counts for no other run",
    ),
    Mutation(
        "close-forgets-who-attaches",
        "    tracker_answer_attachments(t, BJ_E_CLOSED);\n",
        "",
        "nobody hangs when it is closed: attach",
    ),
    Mutation(
        "a-lost-snapshot-is-not-taken-again",
        "run->snapshot = run->is_superseded ?",
        "run->snapshot = run->is_superseded || result == SNAPSHOT_WANTED ?",
        "unknown, and the graph could be asked",
    ),
    Mutation(
        "a-snapshot-of-the-next-run-is-kept",
        "run->snapshot = run->is_superseded ? SNAPSHOT_VOID : result;",
        "run->snapshot = result;",
        "COPIED is not what happened",
    ),
    Mutation(
        "a-lost-comparison-is-an-answer",
        "if (!lost && run->compares)",
        "if (run->compares)",
        "unknown, and the graph could be asked",
    ),
    Mutation(
        "dismissed-before-the-start-was-accepted",
        "machine_learn(&run->machine)->undecided = true;",
        "machine_learn(&run->machine)->ours = true;",
        "nothing is dismissed before its start was accepted",
    ),
    Mutation(
        "two-lists-at-once",
        "if (t->list_wanted && !t->list_is_out && t->link == LINK_UP)",
        "if (t->list_wanted && t->link == LINK_UP)",
        "one list at a time",
    ),
    Mutation(
        "two-looks-at-once",
        "if (run->snapshot != SNAPSHOT_ASKED && run->snapshot != SNAPSHOT_HELD)",
        "if (run->snapshot != SNAPSHOT_HELD)",
        "one look at the graph at a time for each run",
    ),
    Mutation(
        "created-begins-no-run",
        "if (run && (!created || is_its_first(run)))",
        "if (run)",
        "an event is of the run it is about, not of the one before",
    ),
    Mutation(
        "a-superseded-run-sends",
        "if (!run->is_superseded && !run->is_mute)",
        "if (!run->is_mute)",
        "no verb is sent for a run whose id is known to be another's",
    ),
    Mutation(
        "sends-when-it-is-over",
        "return t->link == LINK_UP || t->link == LINK_CLOSING;",
        "return t->link != LINK_DOWN;",
        "nothing is sent while nobody hears",
    ),
    Mutation(
        "asks-when-it-is-closed",
        "t->list_wanted && !t->list_is_out && t->link == LINK_UP",
        "t->list_wanted && !t->list_is_out && t->link != LINK_DOWN",
        "nothing but dismissals once it is closed",
        also=(
            "    t->is_returning = t->list_wanted = t->seeks_all = false;\n"
            "    tracker_answer_attachments(t, BJ_E_CLOSED);\n",
            "    tracker_answer_attachments(t, BJ_E_CLOSED);\n",
        ),
    ),
    Mutation(
        "an-attachment-keeps-the-run-before",
        "        a->run = run ? run_take(run) : NULL;\n        if (!run) {",
        "        a->run = a->run ? run_take(a->run) : run ? run_take(run) : NULL;\n"
        "        if (!run) {",
        "who attaches gets the last run of the id",
    ),
    Mutation(
        "an-order-stays-in-flight",
        "    machine_decide_owner(&run->machine, ours);\n    run_give_back(run);",
        "    machine_decide_owner(&run->machine, ours);",
        "what is on its way comes back",
    ),
    Mutation(
        "a-reference-is-kept",
        "    t->port->over(run);\n    t->port->drop(run);",
        "    t->port->over(run);",
        "each hold has its drop",
    ),
    Mutation(
        "a-run-that-ended-is-listed-again",
        "!run->tracker->all_asked && !machine_is_awaited(&run->machine);",
        "!machine_is_awaited(&run->machine);",
        "no run is announced twice",
    ),
    Mutation(
        "a-run-that-is-not-followed-leaves-no-doubt",
        "t->all_in_doubt |= t->all_asked && !run;",
        "(void)run;",
        "no run is announced twice",
    ),
    Mutation(
        "a-doubtful-list-is-not-repeated",
        "    if (is_to_repeat)\n        tracker_seek(t);\n",
        "    (void)is_to_repeat;\n",
        "every job is announced",
    ),
    Mutation(
        "who-began-in-a-gap-is-not-looked-for",
        "    t->seeks_all = t->is_observed;\n    if (another)",
        "    if (another)",
        "every job is announced",
    ),
    Mutation(
        "announced-before-it-is-known-whose",
        "machine_traits(&run->machine)->undecided || waits_for_type(run);",
        "waits_for_type(run);",
        "what is announced is known to be whose",
    ),
    Mutation(
        "the-type-of-a-run-is-not-asked-for",
        "    if (!run->has_type)\n        run_mark_row_wanted(run);\n}",
        "}",
        "the type is asked for",
    ),
    Mutation(
        "that-it-is-back-is-not-told",
        "    t->is_returning = true;",
        "    t->is_returning = false;",
        "that it is back is told",
    ),
    Mutation(
        "another-qemu-is-the-same",
        "    if (another)\n        lose_all(",
        "    if (another && false)\n        lose_all(",
        "a job of another QEMU is another job",
    ),
    Mutation(
        "the-limit-is-none",
        "    if (t->count < t->limit || how == STARTED)",
        "    if (t->limit > 0 || how == STARTED)",
        "no more runs than the limit",
    ),
]

OF_THE_PLAN = [
    Mutation(
        "let-go-when-one-could-be-sent",
        "        if (owes_answer(part) && !part->can_pivot)\n"
        "            return false;\n    return true;",
        "        if (owes_answer(part) && part->can_pivot)\n"
        "            return true;\n    return false;",
        "no pivot is let go unless all could be sent",
    ),
    Mutation(
        "let-go-after-a-failure",
        "    [ROLLS_BACK] = GROUP_ROLLBACK,",
        "    [ROLLS_BACK] = GROUP_SWITCH,",
        "no pivot is let go once one has failed",
    ),
    Mutation(
        "never-let-go",
        "else if (plan->goal == GROUP_PIVOT && all_could",
        "else if (plan->goal == GROUP_READY && all_could",
        "what could be sent is let go",
    ),
    Mutation(
        "pivots-are-not-held",
        "[GROUP_PIVOT] = {[PART_NEW] = GROUP_ASK_HELD},",
        "[GROUP_PIVOT] = {[PART_NEW] = GROUP_ASK},",
        "pivots are held, and nothing else",
    ),
    Mutation(
        "a-rollback-spares-who-has-answered",
        "                        [PART_IDLE] = GROUP_ABORT_SOFT,\n",
        "",
        "a rollback aborts all others",
    ),
    Mutation(
        "a-rollback-never-forces",
        "                        [PART_IDLE] = GROUP_ABORT_SOFT,\n"
        "                        [PART_UNABORTED] = GROUP_ABORT_FORCE},",
        "                        [PART_IDLE] = GROUP_ABORT_SOFT},",
        "a rollback aborts all others",
    ),
    Mutation(
        "a-rollback-aborts-who-decides",
        "outcome != BJ_OUTCOME_NONE || part == plan->decider;",
        "outcome != BJ_OUTCOME_NONE;",
        "who decides is left alone",
    ),
    Mutation(
        "a-rollback-aborts-what-is-over",
        "outcome != BJ_OUTCOME_NONE || part == plan->decider;",
        "part == plan->decider;",
        "what is over is not aborted",
    ),
    Mutation(
        "a-rollback-asks-who-owes-an-answer",
        "                        [PART_HELD] = GROUP_LEAVE,\n",
        "                        [PART_HELD] = GROUP_ABORT_SOFT,\n",
        "nobody is asked who owes an answer",
    ),
    Mutation(
        "force-is-sent-at-once",
        "[PART_ABORTED] = PART_UNABORTED,",
        "[PART_ABORTED] = PART_IDLE,",
        "force is for what refused, once",
    ),
    Mutation(
        "a-refused-abort-is-not-looked-at",
        "acts[plan->goal][part->stage] != GROUP_WAIT)\n        plan->cursor = plan->first;",
        "false)\n        plan->cursor = plan->first;",
        "a rollback aborts all others",
    ),
    Mutation(
        "the-last-error-decides",
        "return plan->decider && weight != OVERRULES ? NOTHING : weight;",
        "return weight;",
        "who decides is told",
    ),
    Mutation(
        "a-standstill-does-not-overrule",
        "[GROUP_DONE] = {[IS_STALLED] = OVERRULES,",
        "[GROUP_DONE] = {[IS_STALLED] = ENDS,",
        "who decides is told",
    ),
    Mutation(
        "ready-waits-for-all",
        "[GROUP_READY] = {[IS_STALLED] = ENDS, [IS_OTHER_ERROR] = ENDS},",
        "[GROUP_READY] = {[IS_STALLED] = ENDS, [IS_OTHER_ERROR] = DECIDES},",
        "what is decided is answered",
    ),
    Mutation(
        "the-first-that-is-done-ends-it",
        "[IS_STALLED] = OVERRULES, [IS_OTHER_ERROR] = DECIDES},",
        "[IS_STALLED] = OVERRULES, [IS_OTHER_ERROR] = ENDS},",
        "nobody is left who is waited for",
    ),
    Mutation(
        "it-never-ends",
        "    if (plan->owed == 0)\n        turn_to(",
        "    if (plan->owed > COUNT_MAX)\n        turn_to(",
        "nobody hangs",
        also=("enum kind { IS_OK,", "#define COUNT_MAX 9\nenum kind { IS_OK,"),
    ),
    Mutation(
        "it-ends-twice",
        "    if (act == GROUP_FINISH)\n        plan->is_finished = true;\n",
        "",
        "nothing happens after the end",
    ),
    Mutation(
        "it-is-answered-when-nobody-listens",
        "    plan->is_finished = true;\n    turn_to(plan, GROUP_OVER);",
        "    turn_to(plan, GROUP_OVER);",
        "nothing is asked when nobody listens",
    ),
    Mutation(
        "who-is-aborted-is-not-left",
        "                    [PART_ABORTED] = GROUP_LEAVE,\n",
        "",
        "whoever stops listening leaves all",
    ),
    Mutation(
        "an-outcome-of-one-is-all-theirs",
        "        if (part->outcome != plan->first->outcome)\n            return",
        "        if (!part->next && part->outcome != plan->first->outcome)\n            return",
        "the outcome is right",
    ),
    Mutation(
        "who-can-pivot-is-late",
        "return plan->goal != GROUP_OVER && owes_answer(part) && !only_waits_for_others;",
        "return plan->goal != GROUP_OVER && owes_answer(part) && (only_waits_for_others || true);",
        "who is late is told",
    ),
]


OF_THE_MEMORY = [
    Mutation(
        "success-on-a-qemu-that-may-be-another",
        "    {IS_UNKNOWN_PEER, RUN_IS_LOST,",
        "    {IS_UNKNOWN_PEER | WAS_CANCELLED, RUN_IS_LOST,",
        "a success is proved",
    ),
    Mutation(
        "success-of-a-disk-that-was-not-switched",
        "if_so(seen == SWITCHED, HAS_SWITCHED)",
        "if_so(seen != SWITCH_UNKNOWN, HAS_SWITCHED)",
        "a success is proved",
    ),
    Mutation(
        "goes-on-with-less-done",
        "if_so(row->current >= 0 && row->current < memory->current, HAS_DONE_LESS)",
        "if_so(row->current > 0 && row->current < memory->current, HAS_DONE_LESS)",
        "a job goes on if nothing speaks against it",
    ),
    Mutation(
        "goes-on-although-it-is-not-ready",
        "bool unready = !is_ready && (at_work || row->status == STATUS_NONE);",
        "bool unready = !is_ready && at_work;",
        "a job goes on if nothing speaks against it",
    ),
    Mutation(
        "goes-on-with-another-size",
        "(total > memory->total && !grows)",
        "(total > memory->total && !grows && !shrinks)",
        "a job goes on if nothing speaks against it",
    ),
    Mutation(
        "goes-on-on-another-qemu",
        "    {IS_OTHER_PEER, RUN_IS_LOST,",
        "    {IS_OTHER_PEER | IS_REBOOTED, RUN_IS_LOST,",
        "the rules are as they are said",
    ),
]


@dataclass
class Explorer:
    mutations: list[Mutation]
    objects: list[str]  # below tests/core; patterns
    libraries: list[str] = field(default_factory=list)


EXPLORERS = [
    Explorer(OF_THE_MACHINE, ["explore.o", "explore_[!t]*.o", "explore_tables.o"]),
    Explorer(OF_THE_TRACKER, ["explore_search*.o", "explore_tracker*.o"]),
    Explorer(OF_THE_PLAN, ["test_group_plan.o"], ["-lcmocka"]),
    Explorer(OF_THE_MEMORY, ["test_recall.o"], ["-lcmocka"]),
]
BASE = ["text", "error", "id_tree"]


def run(*command: str, expected: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode not in expected:
        sys.exit(f"{command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build(
    explorer: Explorer, mutation: Mutation, sources: dict[str, str], folder: Path, tree: Path
) -> Path:
    changes = [(mutation.before, mutation.after), *([mutation.also] if mutation.also else [])]
    mutants = []
    for before, after in changes:
        count = sum(source.count(before) for source in sources.values())
        if count != 1:
            sys.exit(f"{mutation.name}: what it replaces is there {count} times")
        sources = {name: source.replace(before, after) for name, source in sources.items()}
    for name, source in sources.items():
        mutants.append(folder / name)
        mutants[-1].write_text(source)
    program = folder / "explore"
    compiler = os.environ.get("CC", "cc")
    defines = ["-D_GNU_SOURCE", "-DCOUNT_ROWS"]
    flags = ["-std=c11", *defines, "-O2", "-w", "-Icore/include", "-Icore/src"]
    objects = [str(o) for p in explorer.objects for o in sorted((tree / "tests/core").glob(p))]
    rest = [str(tree / f"core/src/base/{name}.o") for name in BASE]
    # A build with a sanitizer must be linked with it.
    sanitize = os.environ.get("SANITIZE")
    linked = [f"-fsanitize={sanitize}"] if sanitize else []
    built = [*map(str, mutants), *objects, *rest, *explorer.libraries]
    run(compiler, *flags, *linked, "-o", str(program), *built)
    return program


def broken_rules(program: Path, depth: str) -> list[str]:
    report = run(str(program), "-d", depth, "-s", "60", expected=(0, 1))
    return list(dict.fromkeys(re.findall(r"^  BROKEN: (.*)$", report, re.MULTILINE)))


def judge(explorer: Explorer, mutation: Mutation, sources: dict[str, str]) -> list[str]:
    """The rules that the mutant breaks."""
    tree = Path(os.environ.get("BUILD", "build"))
    with tempfile.TemporaryDirectory() as folder:
        program = build(explorer, mutation, sources, Path(folder), tree)
        rules = broken_rules(program, "1")
        return rules if mutation.rule in rules else broken_rules(program, "2")


def main() -> int:
    sources = {file.name: file.read_text() for file in Path("core/src/model").glob("*.c")}
    wanted = [
        (explorer, mutation)
        for explorer in EXPLORERS
        for mutation in explorer.mutations
        if not sys.argv[1:] or mutation.name in sys.argv[1:]
    ]
    escaped = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda pair: judge(pair[0], pair[1], sources), wanted)
        for (_, mutation), rules in zip(wanted, found, strict=True):
            caught = mutation.rule in rules
            escaped += not caught
            print(f"{'caught ' if caught else 'ESCAPED'}  {mutation.name:46}", end="")
            print(mutation.rule if caught else f"not by: {mutation.rule}; but: {rules}", flush=True)
    print(f"mutations: {len(wanted) - escaped} caught, {escaped} escaped")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
