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
        "!is_aborting(job) && job->ready && !stands_still(job)",
        "!is_aborting(job) && !stands_still(job)",
        "no complete before ready",
    ),
    Mutation(
        "complete-twice",
        "return !is_under_way(job->complete) && job_can_pivot(job) && job->pivots > 0",
        "return job_can_pivot(job) && job->pivots > 0",
        "one complete at a time",
    ),
    Mutation(
        "complete-beside-an-abort",
        "!is_aborting(job) && job->ready && !stands_still(job)",
        "job->ready && !stands_still(job)",
        "no complete beside an abort",
    ),
    Mutation(
        "cancel-beside-a-complete",
        "return !is_aborting(job) && !too_late && !job->cancel_refused",
        "return !is_aborting(job) && (too_late || true) && !job->cancel_refused",
        "no cancel beside a complete that may be accepted",
    ),
    Mutation(
        "complete-beside-a-raw-one",
        "return !job->away && !awaits_raw(job) && (could",
        "return !job->away && (could",
        "QEMU reads no second complete",
    ),
    Mutation(
        "verbs-after-the-end",
        "return job->end != JOB_END_NONE || job->status >= JOB_STATUS_ABORTING;",
        "return job->status >= JOB_STATUS_NULL;",
        "no complete and no cancel after the end",
    ),
    Mutation(
        "an-error-is-no-failure",
        "set_end(job, error ? JOB_END_FAILED : JOB_END_COMPLETED, error);",
        "set_end(job, JOB_END_COMPLETED, error);",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "a-soft-cancel-is-a-pivot",
        "} else if (job->complete == JOB_REQUEST_ACCEPTED) {",
        "} else if (job->complete == JOB_REQUEST_ACCEPTED || abort_is_accepted(job)) {",
        "PIVOTED is not what happened",
    ),
    Mutation(
        "a-ready-job-has-not-pivoted",
        "} else if (job->complete == JOB_REQUEST_ACCEPTED) {",
        "} else if (false) {",
        "COMPLETED is not what happened",
    ),
    Mutation(
        "gone-is-success",
        'job_lost(job, BJ_E_JOB_LOST,\n                 "it vanished while',
        'set_end(job, JOB_END_COMPLETED,\n                 "it vanished while',
        "COMPLETED is not what happened",
    ),
    Mutation(
        "the-outcome-is-decided-again",
        "static void decide(struct job *job)\n{\n    if (job_is_over(job))\n        return;",
        "static void decide(struct job *job)\n{",
        "nothing but RELEASED and statuses after ENDED",
    ),
    Mutation(
        "who-waits-for-ready-is-forgotten",
        "return waiter->question != JOB_ASK_RELEASED;\n}",
        "return waiter->question != JOB_ASK_RELEASED && waiter->question != JOB_ASK_READY;\n}",
        "nobody hangs: ready",
    ),
    Mutation(
        "a-standstill-is-not-timed",
        "job->timer_runs = wanted;",
        "wanted = false;\n    job->timer_runs = wanted;",
        "nobody hangs: pivot",
    ),
    Mutation(
        "ready-is-told-again",
        "if (job->ready || job_is_over(job))\n        return false;",
        "if (job_is_over(job))\n        return false;",
        "READY is told once",
    ),
    Mutation(
        "dismissed-twice",
        "if (!job->traits.ours || job->dismissing ||",
        "if (!job->traits.ours ||",
        "one dismissal",
    ),
    Mutation(
        "jobs-of-others-are-dismissed",
        "if (!job->traits.ours || job->dismissing ||",
        "if (job->dismissing ||",
        "jobs of others are never dismissed",
    ),
    Mutation(
        "a-pivot-is-answered-when-it-is-accepted",
        "job->complete = JOB_REQUEST_ACCEPTED;\n    if (!job->pending)",
        "job->complete = JOB_REQUEST_ACCEPTED;\n"
        "    answer_all(job, is_pivot, BJ_OK, NULL, NULL);\n    if (!job->pending)",
        "a success is told that was none",
    ),
    Mutation(
        "a-pivot-that-is-held-back-is-sent",
        "return waiter->held ? NULL : &job->pivots;",
        "return &job->pivots;",
        "nothing is sent that nobody wants",
    ),
    Mutation(
        "a-list-overrules-events",
        "bool news = job->status == JOB_STATUS_NONE || !job->traits.has_status;",
        "bool news = true;",
        "ours are dismissed",
    ),
    Mutation(
        "verbs-without-a-connection",
        "job->gone_asked || job->away)",
        "job->gone_asked)",
        "nothing is sent while nobody hears",
    ),
]


def run(*command: str) -> str:
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode not in (0, 1):
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
    report = run(str(program), "-d", depth, "-s", "60")
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
