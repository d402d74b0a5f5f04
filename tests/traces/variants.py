# SPDX-License-Identifier: MIT
# Sessions that might have been: transcripts whose lines come in another order that QEMU may choose.
"""An event may come before or after the reply to the command that caused it (B02), and another
client may come at any moment (B51): whatever the order, the truth is the same."""

from __future__ import annotations

from oracle import Run, runs_of
from replay import Player
from transcript import POLLS, Line, Transcript, command_of


def replies_first(transcript: Transcript) -> Transcript:
    """Each verb is answered at once, before anything comes of it."""
    moved = {line.index for line in transcript if _is_verb_reply(transcript, line)}
    lines: list[Line] = []
    for line in transcript:
        if line.index in moved:
            continue
        lines.append(line)
        if line.kind == "out" and line.partner is not None and line.partner.index in moved:
            lines.append(line.partner)
    return transcript.reordered(lines)


def replies_last(transcript: Transcript) -> Transcript:
    """Each verb and start is answered when all has come of it that came before the next command."""
    lines: list[Line] = []
    late: list[Line] = []
    for line in transcript:
        if line.kind != "in":
            lines += late
            late = []
        waits = _is_verb_reply(transcript, line) or _is_start_reply(line)
        (late if waits else lines).append(line)
    return transcript.reordered(lines + late)


def without_timestamps(transcript: Transcript) -> Transcript:
    records = [
        {"dir": line.kind, "msg": {k: v for k, v in line.message.items() if k != "timestamp"}}
        for line in transcript
    ]
    return Transcript(transcript.path, records)


def _is_verb_reply(transcript: Transcript, line: Line) -> bool:
    """Of a verb; not where the reply is all that tells of the end (RHEL 6.2), nor where the
    terminal event came only with it and the refusal is about what was before."""
    if not line.is_reply or line.partner is None or transcript.version < (1, 0, 0):
        return False
    return "return" in line.message and line.partner.request.verb in (
        "complete",
        "cancel",
        "force",
        "pause",
        "resume",
        "set-speed",
    )


def _is_start_reply(line: Line) -> bool:
    started = line.is_reply and line.partner is not None and "return" in line.message
    return started and line.partner is not None and line.partner.request.verb == "start"


def moments(transcript: Transcript, most: int = 6) -> list[int]:
    """Lines after which another client may come and find a job; not all of many."""
    found: list[int] = []
    for run in runs_of(transcript):
        found += _moments_of(transcript, run)
    found = sorted(set(found))
    if len(found) <= most:
        return found
    return sorted({found[i * (len(found) - 1) // (most - 1)] for i in range(most)})


def _moments_of(transcript: Transcript, run: Run) -> list[int]:
    """After events and replies of verbs, while the run is listed."""
    lines = transcript.lines[run.known :]
    listed = [line for line in lines if Player.is_listed(run, line)]
    return [line.index for line in listed if line.event or _is_interesting(line)]


def _is_interesting(line: Line) -> bool:
    return line.partner is not None and command_of(line.partner.message) not in (*POLLS, "")
