#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Changes a Nova so that it awaits its block jobs, and shows the change as a diff.

    apply.py [--dry-run] NOVA       the folder of the package, such as dist-packages/nova

guest.py gets two lines that make its BlockDevice one of blockjob's (docs/nova.md). In driver.py the
four loops of _swap_volume, _live_snapshot and _volume_snapshot_delete that slept until the job
looked complete become a line each. It knows the code of Nova 26 to 34 and changes nothing if the
code is not what it knows.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

# What each loop waits for: these jobs are pivoted or aborted by Nova once they are ready ...
STATES = {"_swap_volume": "ready", "_live_snapshot": "ready"}
# ... and these end by themselves: a pull, or a commit into a lower layer; one loop for each.
STATES |= {"_volume_snapshot_delete": "done"}

LOOP = re.compile(r"^( +)while not dev\.is_job_complete\(\):\n(?:\1 +.*\n)+", re.MULTILINE)


def change_guest(source: str) -> str:
    source = replace_once(source, r"^(?=from lxml import)", "import blockjob.nova\n")
    return replace_once(source, r"^(?=class BlockDevice\()", "@blockjob.nova.awaitable\n")


def change_driver(source: str) -> str:
    def wait(loop: re.Match[str]) -> str:
        method = re.findall(r"^    def (\w+)", source[: loop.start()], re.MULTILINE)[-1]
        if method not in STATES:
            raise ValueError(f"there is a loop in {method}")
        return f"{loop[1]}dev.wait_for_job('{STATES[method]}')\n"

    changed, count = LOOP.subn(wait, source)
    if count != 4:
        raise ValueError(f"there are {count} loops, not 4")
    return changed


def replace_once(source: str, pattern: str, text: str) -> str:
    changed, count = re.subn(pattern, text, source, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{pattern} is there {count} times")
    return changed


def main(nova: Path, write: bool) -> None:
    changes = []
    for name, change in (("guest.py", change_guest), ("driver.py", change_driver)):
        path = nova / "virt/libvirt" / name
        before = path.read_text(encoding="utf-8")
        try:
            changes.append((path, before, change(before)))
        except ValueError as error:
            sys.exit(f"{path}: not what is known here: {error}")
    for path, before, after in changes:
        shown = str(path.relative_to(nova.parent))
        lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
        sys.stdout.writelines(difflib.unified_diff(*lines, f"a/{shown}", f"b/{shown}", n=1))
        if write:
            path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    dry_run = arguments[:1] == ["--dry-run"]
    if len(arguments) != 1 + dry_run:
        sys.exit(__doc__)
    main(Path(arguments[-1]).resolve(), write=not dry_run)
