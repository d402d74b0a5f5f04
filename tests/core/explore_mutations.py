#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the job machine in one way after the other, and demands that the explorer says so.

    BUILD=build tests/core/explore_mutations.py [NAME...]

Each mutation is what is replaced in one of the files of core/src/model, and by what. The explorer's
objects are those of the build; only the machine is compiled anew. See docs/explorer.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Mutation:
    name: str
    before: str
    after: str
    rule: str  # one of those that must be reported as broken


MUTATIONS = [
    Mutation(
        "complete-before-ready",
        "!is_aborting(m) && machine_is(m, IS_READY) && is_taken_now(m, VERB_COMPLETE)",
        "!is_aborting(m) && is_taken_now(m, VERB_COMPLETE)",
        "no complete before ready",
    ),
    Mutation(
        "complete-twice",
        "return !was_sent(m, VERB_COMPLETE) && machine_can_pivot(m) && m->pivots > 0",
        "return machine_can_pivot(m) && m->pivots > 0",
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
        "return !is_aborting(m) && !too_late && !m->sent[VERB_CANCEL].refused",
        "return !is_aborting(m) && (too_late || true) && !m->sent[VERB_CANCEL].refused",
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
        "return waiter->question != ASK_RELEASED;\n}",
        "return waiter->question != ASK_RELEASED && waiter->question != ASK_READY;\n}",
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
        "return under_way && waiter_is_async_abort(m, waiter);",
        "return under_way && false;",
        "an error is told that was none",
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


def run(*command: str, expected: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode not in expected:
        sys.exit(f"{command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build(mutation: Mutation, sources: dict[str, str], folder: Path, tree: Path) -> Path:
    count = sum(source.count(mutation.before) for source in sources.values())
    if count != 1:
        sys.exit(f"{mutation.name}: what it replaces is there {count} times")
    mutants = []
    for name, source in sources.items():
        mutants.append(folder / name)
        mutants[-1].write_text(source.replace(mutation.before, mutation.after))
    program = folder / "explore"
    compiler = os.environ.get("CC", "cc")
    defines = ["-D_GNU_SOURCE", "-DCOUNT_ROWS"]
    flags = ["-std=c11", *defines, "-O2", "-w", "-Icore/include", "-Icore/src"]
    objects = sorted(map(str, (tree / "tests/core").glob("explore*.o")))
    rest = [str(tree / "core/src/base/text.o"), str(tree / "core/src/base/error.o")]
    # A build with a sanitizer must be linked with it.
    sanitize = os.environ.get("SANITIZE")
    linked = [f"-fsanitize={sanitize}"] if sanitize else []
    run(compiler, *flags, *linked, "-o", str(program), *map(str, mutants), *objects, *rest)
    return program


def broken_rules(program: Path, depth: str) -> list[str]:
    report = run(str(program), "-d", depth, "-s", "60", expected=(0, 1))
    return list(dict.fromkeys(re.findall(r"^  BROKEN: (.*)$", report, re.MULTILINE)))


def main() -> int:
    tree = Path(os.environ.get("BUILD", "build"))
    sources = {file.name: file.read_text() for file in Path("core/src/model").glob("*.c")}
    wanted = [m for m in MUTATIONS if not sys.argv[1:] or m.name in sys.argv[1:]]
    escaped = 0
    for mutation in wanted:
        with tempfile.TemporaryDirectory() as folder:
            program = build(mutation, sources, Path(folder), tree)
            rules = broken_rules(program, "1")
            if mutation.rule not in rules:
                rules = broken_rules(program, "2")
        caught = mutation.rule in rules
        escaped += not caught
        print(f"{'caught ' if caught else 'ESCAPED'}  {mutation.name:46}", end="")
        print(mutation.rule if caught else f"not by: {mutation.rule}; but: {rules}", flush=True)
    print(f"mutations: {len(wanted) - escaped} caught, {escaped} escaped")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
