#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Applies await-block-jobs.patch to an installed Nova, and shows what that changes.

    apply.py [--dry-run] NOVA       the folder of the package, such as dist-packages/nova

All files are changed or none, and to run it again changes nothing. A hunk is found by its lines,
not by their numbers, so the patch fits Nova 26 to 34. The code must be as the patch expects it;
Nova's tests and release notes are changed where they are installed.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import shutil
import signal
import sys
from pathlib import Path

PATCH = Path(__file__).with_name("await-block-jobs.patch")

CONTEXT = (3, 2, 1)
"""Lines of it at either end of a hunk: as the patch has them, then fewer, as in patch(1)."""


def read_patch(text: str) -> dict[str, list[list[str]]]:
    """The hunks of each file of a unified diff, as lines."""
    files = {}
    for part in re.split(r"^diff --git .*\n", text, flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@ .*\n", part, flags=re.MULTILINE)
        name = re.search(r"^\+\+\+ b/(.*)", head, re.MULTILINE)
        assert name is not None
        files[name[1]] = [hunk.splitlines(keepends=True) for hunk in hunks]
    return files


def with_context(hunk: list[str], limit: int) -> tuple[str, str]:
    """What a hunk replaces, and by what."""
    changed = [number for number, line in enumerate(hunk) if line[0] != " "]
    lines = hunk[max(0, changed[0] - limit) : changed[-1] + 1 + limit]
    old, new = ("".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +"))
    return old, new


def patched(source: str, hunk: list[str]) -> str:
    for old, new in (with_context(hunk, limit) for limit in CONTEXT):
        if new in source:
            return source  # it was applied before
        if source.count(old) == 1 or not source:
            return source.replace(old, new)
    raise ValueError(f"it lacks these lines, or has them twice:\n{with_context(hunk, 1)[0]}")


def plan(nova: Path) -> dict[Path, tuple[str, str]]:
    """What each file that changes is and becomes."""
    changes = {}
    for name, hunks in read_patch(PATCH.read_text(encoding="utf-8")).items():
        path = nova.parent / name
        is_new = not with_context(hunks[0], CONTEXT[0])[0]
        is_code = name.startswith("nova/") and not name.startswith("nova/tests/")
        if not is_code and not (path.parent if is_new else path).exists():
            continue  # not installed
        try:
            before = "" if is_new and not path.exists() else path.read_text(encoding="utf-8")
            after = functools.reduce(patched, hunks, before)
        except (OSError, ValueError) as error:
            sys.exit(f"{path}: nothing is changed: {error}")
        if after != before:
            changes[path] = before, after
    return changes


def write(changes: dict[Path, tuple[str, str]]) -> None:
    """Whatever can fail does so before the first file is replaced."""
    prepared: dict[Path, Path] = {}
    try:
        for path, (_, after) in changes.items():
            new = path.with_name(f"{path.name}.blockjob")
            new.write_text(after, encoding="utf-8")
            prepared[path] = new
            if path.exists():
                shutil.copymode(path, new)
        for path, new in prepared.items():
            os.replace(new, path)
    finally:
        for new in prepared.values():
            new.unlink(missing_ok=True)


def show(changes: dict[Path, tuple[str, str]], root: Path) -> None:
    for path, (before, after) in changes.items():
        name = str(path.relative_to(root))
        lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
        sys.stdout.writelines(difflib.unified_diff(*lines, f"a/{name}", f"b/{name}"))


def main(nova: Path, dry_run: bool) -> None:
    changes = plan(nova)
    if not dry_run:
        try:
            write(changes)
        except OSError as error:
            sys.exit(str(error))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as of now nothing but output can be cut short
    show(changes, nova.parent)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    dry_run = arguments[:1] == ["--dry-run"]
    if len(arguments) != 1 + dry_run:
        sys.exit(__doc__)
    main(Path(arguments[-1]).resolve(), dry_run)
