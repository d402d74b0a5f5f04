#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Takes the polls that tell nothing new out of transcripts.
"""thin.py FROM TO: copies FROM/VERSION/*.jsonl to TO, without the polls that nothing depends on.

A poll goes, with its reply, when it stands between two others of its kind with nothing else between
the three, and all three replies say the same but for how far the jobs are; where offset reaches
len, leaves 0, or any other field changes, both sides of the change stay.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from transcript import POLLS, Line, Transcript, command_of

# What changes from poll to poll and is no news.
_MEASURES = ("offset", "len", "busy", "current-progress", "total-progress")


def _news(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says apart from how far the job is."""
    current = row.get("offset", row.get("current-progress"))
    total = row.get("len", row.get("total-progress"))
    told = {key: value for key, value in row.items() if key not in _MEASURES}
    return told | {"begun": current != 0, "equal": current == total}


def _says(poll: Line) -> str:
    assert poll.partner is not None
    rows = poll.partner.message.get("return", [])
    return json.dumps([_news(row) for row in rows], sort_keys=True)


def needless(transcript: Transcript) -> set[int]:
    """The lines that may go."""
    polls = [line for line in transcript if line.kind == "out" and line.partner is not None]
    polls = [line for line in polls if command_of(line.message) in POLLS]
    indices = {line.index for line in polls}
    indices |= {line.partner.index for line in polls if line.partner is not None}
    gone: set[int] = set()
    for command in POLLS:
        asked = [line for line in polls if command_of(line.message) == command]
        for before, poll, after in zip(asked, asked[1:], asked[2:], strict=False):
            assert poll.partner is not None and after.partner is not None
            quiet = indices.issuperset(range(before.index, after.partner.index + 1))
            if quiet and _says(before) == _says(poll) == _says(after):
                gone |= {poll.index, poll.partner.index}
    return gone


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    for path in sorted(source.glob("*/*.jsonl")):
        gone = needless(Transcript(path))
        copy = target / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for index, line in enumerate(lines) if index not in gone]
        copy.write_text("".join(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
