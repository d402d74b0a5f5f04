#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Takes the polls that tell nothing new out of transcripts.
"""thin.py FROM TO: copies FROM/VERSION/*.jsonl to TO, without the polls that nothing depends on,
and without the permissions in block graphs.

A poll goes, with its reply, when it stands between two others of its kind with nothing else between
the three, and all three replies say the same but for how far the jobs are; where offset reaches
len, leaves 0, or any other field changes, both sides of the change stay.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from transcript import POLLS, STARTERS, Line, Transcript, actions_of, command_of

GRAPH = "x-debug-query-block-graph"

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


def idle_looks(transcript: Transcript) -> set[int]:
    """Looks at the block graph where no job switches a disk."""
    starts = (start for line in transcript for start in actions_of(line.request))
    kinds = {STARTERS[start.command] for start in starts}
    if kinds & {"mirror", "commit"}:
        return set()
    looks = [line for line in transcript if command_of(line.message) == GRAPH]
    return {i for line in looks if line.partner for i in (line.index, line.partner.index)}


def _slim(line: str) -> str:
    """Without the permissions of the block graph's edges, which fill pages."""
    record = json.loads(line)
    value = record["msg"].get("return") if isinstance(record["msg"], dict) else None
    if not isinstance(value, dict) or "edges" not in value:
        return line
    for edge in value["edges"]:
        del edge["perm"], edge["shared-perm"]
    return json.dumps(record) + "\n"


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    for path in sorted(source.glob("*/*.jsonl")):
        transcript = Transcript(path)
        gone = needless(transcript) | idle_looks(transcript)
        copy = target / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [_slim(line) for index, line in enumerate(lines) if index not in gone]
        copy.write_text("".join(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
