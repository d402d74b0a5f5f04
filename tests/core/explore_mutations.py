#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the job machine in one way after the other, and demands that the explorer says so.

    BUILD=build tests/core/explore_mutations.py [NAME...]

Each mutation is what is replaced in core/src/model/machine.c, and by what. The explorer's objects
are those of the build; only the machine is compiled anew. See docs/explorer.md.
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
        "!is_aborting(m) && m->ready && !stands_still(m)",
        "!is_aborting(m) && !stands_still(m)",
        "no complete before ready",
    ),
    Mutation(
        "complete-twice",
        "return !is_under_way(m->complete) && machine_can_pivot(m) && m->pivots > 0",
        "return machine_can_pivot(m) && m->pivots > 0",
        "one complete at a time",
    ),
    Mutation(
        "complete-beside-an-abort",
        "!is_aborting(m) && m->ready && !stands_still(m)",
        "m->ready && !stands_still(m)",
        "no complete beside an abort",
    ),
    Mutation(
        "cancel-beside-a-complete",
        "return !is_aborting(m) && !too_late && !m->cancel_refused",
        "return !is_aborting(m) && (too_late || true) && !m->cancel_refused",
        "no cancel beside a complete that may be accepted",
    ),
    Mutation(
        "complete-beside-a-raw-one",
        "return !m->away && !awaits_raw(m) && (could",
        "return !m->away && (could",
        "QEMU reads no second complete",
    ),
    Mutation(
        "verbs-after-the-end",
        "return m->end != END_NONE || m->status >= STATUS_ABORTING;",
        "return m->status >= STATUS_NULL;",
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
        "} else if (m->complete == ACCEPTED) {",
        "} else if (m->complete == ACCEPTED || abort_is_accepted(m)) {",
        "PIVOTED is not what happened",
    ),
    Mutation(
        "a-ready-job-has-not-pivoted",
        "} else if (m->complete == ACCEPTED) {",
        "} else if (false) {",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "gone-is-success",
        'machine_lost(m, BJ_E_JOB_LOST,\n                     "it vanished while',
        'set_end(m, END_COMPLETED,\n                     "it vanished while',
        "COMPLETED is not what happened",
    ),
    Mutation(
        "the-outcome-is-decided-again",
        "static void decide(struct machine *m)\n{\n    if (machine_is_over(m))\n        return;",
        "static void decide(struct machine *m)\n{",
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
        "m->timer_runs = wanted;",
        "wanted = false;\n    m->timer_runs = wanted;",
        "nobody hangs: pivot",
    ),
    Mutation(
        "ready-is-told-again",
        "if (m->ready || machine_is_over(m))\n        return false;",
        "if (machine_is_over(m))\n        return false;",
        "READY is told once",
    ),
    Mutation(
        "dismissed-twice",
        "if (!m->traits.ours || m->dismissing ||",
        "if (!m->traits.ours ||",
        "one dismissal",
    ),
    Mutation(
        "jobs-of-others-are-dismissed",
        "if (!m->traits.ours || m->dismissing ||",
        "if (m->dismissing ||",
        "jobs of others are never dismissed",
    ),
    Mutation(
        "a-pivot-is-answered-when-it-is-accepted",
        "m->complete = ACCEPTED;\n    if (!m->pending)",
        "m->complete = ACCEPTED;\n"
        "    answer_all(m, is_pivot, BJ_OK, NULL, NULL);\n    if (!m->pending)",
        "a success is told that was none",
    ),
    Mutation(
        "a-pivot-that-is-held-back-is-sent",
        "return waiter->held ? NULL : &m->pivots;",
        "return &m->pivots;",
        "nothing is sent that nobody wants",
    ),
    Mutation(
        "a-list-overrules-events",
        "bool news = m->status == STATUS_NONE || !m->traits.has_status;",
        "bool news = true;",
        "ours are dismissed",
    ),
    Mutation(
        "verbs-without-a-connection",
        "m->gone_asked || m->away)",
        "m->gone_asked)",
        "nothing is sent while nobody hears",
    ),
]


def run(*command: str, expected: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode not in expected:
        sys.exit(f"{command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build(mutation: Mutation, source: str, folder: Path, tree: Path) -> Path:
    count = source.count(mutation.before)
    if count != 1:
        sys.exit(f"{mutation.name}: what it replaces is there {count} times")
    mutant = folder / "machine.c"
    mutant.write_text(source.replace(mutation.before, mutation.after))
    program = folder / "explore"
    compiler = os.environ.get("CC", "cc")
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-w", "-Icore/include", "-Icore/src"]
    objects = sorted(map(str, (tree / "tests/core").glob("explore*.o")))
    rest = [str(tree / "core/src/base/text.o"), str(tree / "core/src/base/error.o")]
    # A build with a sanitizer must be linked with it.
    sanitize = os.environ.get("SANITIZE")
    linked = [f"-fsanitize={sanitize}"] if sanitize else []
    run(compiler, *flags, *linked, "-o", str(program), str(mutant), *objects, *rest)
    return program


def broken_rules(program: Path, depth: str) -> list[str]:
    report = run(str(program), "-d", depth, "-s", "60", expected=(0, 1))
    return list(dict.fromkeys(re.findall(r"^  BROKEN: (.*)$", report, re.MULTILINE)))


def main() -> int:
    tree = Path(os.environ.get("BUILD", "build"))
    source = Path("core/src/model/machine.c").read_text()
    wanted = [m for m in MUTATIONS if not sys.argv[1:] or m.name in sys.argv[1:]]
    escaped = 0
    for mutation in wanted:
        with tempfile.TemporaryDirectory() as folder:
            program = build(mutation, source, Path(folder), tree)
            rules = broken_rules(program, "1")
            if mutation.rule not in rules:
                rules = broken_rules(program, "2")
        caught = mutation.rule in rules
        escaped += not caught
        print(f"{'caught ' if caught else 'ESCAPED'}  {mutation.name:42}", end="")
        print(mutation.rule if caught else f"not by: {mutation.rule}; but: {rules}", flush=True)
    print(f"mutations: {len(wanted) - escaped} caught, {escaped} escaped")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
