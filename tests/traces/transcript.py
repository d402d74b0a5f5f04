# SPDX-License-Identifier: MIT
# Reads transcripts of QMP sessions: who said what, and which reply belongs to which command.
"""A `Transcript` is a list of lines; each knows its partner and, of a command, what it asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

# The commands that start a job, and the type of that job.
STARTERS = {
    "block_stream": "stream",
    "block-stream": "stream",
    "block-commit": "commit",
    "__com.redhat_block-commit": "commit",
    "drive-mirror": "mirror",
    "blockdev-mirror": "mirror",
    "__com.redhat_drive-mirror": "mirror",
    "drive-backup": "backup",
    "blockdev-backup": "backup",
    "blockdev-create": "create",
}

# What asks for the jobs there are: a library asks it when it likes, so it is not played.
POLLS = ("query-block-jobs", "query-jobs")

_VERBS = {
    "complete": "complete",
    "pause": "pause",
    "resume": "resume",
    "set-speed": "set-speed",
    "finalize": "finalize",
    "dismiss": "dismiss",
    "change": "change",
}

_EXECUTE = ("execute", "exec-oob")


@dataclass(frozen=True)
class Request:
    """What a command asks, whatever the age of its words."""

    verb: str
    """ "start", "cancel" (soft), "force", "complete", ..., or the command itself."""
    job: str = ""
    command: str = ""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    detail: str = ""


def command_of(message: dict[str, Any]) -> str:
    return next((str(message[key]) for key in _EXECUTE if key in message), "")


def read_request(message: dict[str, Any]) -> Request:
    """What a message from a client asks."""
    command = command_of(message)
    arguments = message.get("arguments", {})
    if command in STARTERS:
        job = arguments.get("job-id", arguments.get("device", ""))
        return Request("start", job, command, arguments, command)
    if command == "__com.redhat_drive-reopen":
        return Request("complete", arguments.get("device", ""), command, arguments)

    words = command.replace("_", "-")
    for prefix in ("block-job-", "job-"):
        if not words.startswith(prefix):
            continue
        job = arguments.get("id", arguments.get("device", ""))
        verb = words[len(prefix) :]
        if verb == "cancel":
            force = prefix == "job-" or arguments.get("force") is True
            return Request("force" if force else "cancel", str(job), command, arguments)
        if verb in _VERBS:
            detail = str(arguments.get("speed", arguments.get("value", "")))
            return Request(_VERBS[verb], str(job), command, arguments, detail)
    return Request(command, "", command, arguments, json.dumps(arguments, sort_keys=True))


def actions_of(request: Request) -> list[Request]:
    """The starts of a transaction; of a start, itself."""
    if request.verb == "start":
        return [request]
    if request.command != "transaction":
        return []
    actions = request.arguments.get("actions", [])
    messages = ({"execute": a["type"], "arguments": a["data"]} for a in actions)
    return [r for r in map(read_request, messages) if r.verb == "start"]


@dataclass
class Line:
    """One line of a transcript."""

    index: int
    kind: str
    """ "in" (QEMU to client), "out" (client to QEMU), "note"."""
    message: dict[str, Any]
    partner: Line | None = None
    """A command's reply, a reply's command."""

    @property
    def event(self) -> str:
        return str(self.message.get("event", "")) if self.kind == "in" else ""

    @property
    def data(self) -> dict[str, Any]:
        data = self.message.get("data", {})
        return data if isinstance(data, dict) else {}

    @property
    def request(self) -> Request:
        return read_request(self.message)

    @property
    def is_reply(self) -> bool:
        return self.kind == "in" and ("return" in self.message or "error" in self.message)

    @property
    def accepted(self) -> bool:
        """Of a command: QEMU has accepted it, sooner or later."""
        return self.partner is not None and "return" in self.partner.message

    @property
    def timestamp(self) -> float:
        """An event's, in seconds; 0.0 if it has none."""
        stamp = self.message.get("timestamp")
        if not isinstance(stamp, dict) or stamp.get("seconds", -1) < 0:
            return 0.0
        return float(stamp["seconds"]) + float(stamp.get("microseconds", 0)) / 1e6


class Transcript:
    """A session as it was recorded, or as it might have been."""

    def __init__(self, path: Path, records: list[dict[str, Any]] | None = None) -> None:
        self.path = path
        self.name = f"{path.parent.name}/{path.stem}"
        if records is None:
            with path.open(encoding="utf-8") as file:
                records = [json.loads(line) for line in file]
        self.lines = [
            Line(index, record["dir"], record["msg"]) for index, record in enumerate(records)
        ]
        _marry(self.lines)

    def reordered(self, lines: Iterable[Line]) -> Transcript:
        """The same session, had its lines come in that order."""
        return Transcript(self.path, [{"dir": line.kind, "msg": line.message} for line in lines])

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Line:
        return self.lines[index]

    @property
    def version(self) -> tuple[int, int, int]:
        """Of the greeting."""
        for line in self.lines:
            if "QMP" in line.message:
                qemu = line.message["QMP"]["version"]["qemu"]
                return (qemu["major"], qemu["minor"], qemu["micro"])
        raise ValueError(f"{self.path} has no greeting")


def _marry(lines: Iterable[Line]) -> None:
    """Finds each reply's command: by id, else among those whose id never comes back."""
    lines = list(lines)
    answered = {json.dumps(line.message["id"]) for line in lines if _has_id(line)}
    waiting: list[Line] = []
    for line in lines:
        if "raw out" in line.message and line.kind == "note":
            waiting.append(line)  # what is no whole command; nothing is played of it
        elif line.kind == "out":
            waiting.append(line)
        elif line.is_reply:
            command = _find_command(waiting, line, answered)
            if command is None:
                continue
            waiting.remove(command)
            if command.kind == "out":
                line.partner, command.partner = command, line


def _has_id(line: Line) -> bool:
    return line.is_reply and "id" in line.message


def _find_command(waiting: list[Line], reply: Line, answered: set[str]) -> Line | None:
    if "id" in reply.message:
        ids = (line for line in waiting if line.message.get("id") == reply.message["id"])
        return next(ids, None)
    return next(
        (line for line in waiting if json.dumps(line.message.get("id")) not in answered), None
    )


def transcripts(data: Path = DATA) -> list[Path]:
    """All there are, the oldest QEMU first."""
    return sorted(data.glob("*/*.jsonl"), key=lambda path: (_age(path.parent.name), path.stem))


def _age(version: str) -> tuple[int, ...]:
    if version.startswith("rhel"):
        return (0, int(version.split("-")[0].split(".")[1]))
    return tuple(int(part) for part in version.split("."))
