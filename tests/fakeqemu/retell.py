# SPDX-License-Identifier: MIT
# Plays the client's side of a transcript to fakeqemu, in one process and without sockets, and has
# fakeqemu's jobs go as the transcript's went: what the commands alone don't decide (when a job is
# ready, done, fails, still waits for I/O) is taken from the transcript; all else is fakeqemu's.
"""A transcript told once more, by fakeqemu."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from faults import Rule
from jobs import Job
from machine import Machine
from profiles import Profile
from session import Message, Session
from transcript import POLLS, Line, Transcript

_SIZE = 1 << 26
_ENDS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "BLOCK_JOB_PENDING")
_PAUSED = ("paused", "standby")
_TAILS = ("aborting", "waiting")
_VERBS = ("cancel", "force", "complete", "pause")
# The top of the transcripts' chain; fakeqemu has no files.
_ACTIVE_FILE = "/images/c.top"
_ACTIVE_NODE = "#block100"


def _job_of(line: Line) -> str:
    return str(line.data.get("id", line.data.get("device", "")))


class Retelling:
    """One transcript; `pairs` gets what QEMU said, the command, and what fakeqemu said."""

    def __init__(self, transcript: Transcript, profile: Profile) -> None:
        self.pairs: list[tuple[Message | None, str, Message | None]] = []
        self._transcript = transcript
        self._profile = profile
        self._machine = Machine(0, profile, _SIZE, self._broadcast, lambda machine: None)
        self._session = Session(self, self._machine)
        self._said: deque[Message] = deque()
        self._asked: set[int] = set()
        """What has been said already."""

    def play(self) -> None:
        self.send(self._session.greeting())
        for line in self._transcript:
            if "kill" in line.message and line.kind == "note":
                self._said.clear()
                break
            if line.kind == "note":
                self._note(line)
            elif line.kind == "out":
                self._hear(line)
            else:
                self._expect(line)
        self.pairs += [(None, "", message) for message in self._said]

    # For the session

    def send(self, data: bytes) -> None:
        self._said += map(json.loads, data.splitlines())

    def hang_up(self) -> None:
        raise AssertionError("fakeqemu hangs up")

    def machine_ends(self) -> None:
        self._machine.running = False

    def run(self, step: Message) -> None:
        self._finish(self._machine.job(step["job"]))

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        raise NotImplementedError

    def note(self, what: str, **fields: Any) -> None:
        """There is no log."""

    def _broadcast(self, message: Message) -> None:
        self._session.send_event(message)

    # The client's side

    def _note(self, line: Line) -> None:
        if "raw out" in line.message:
            self._session.receive(line.message["raw out"].encode() + b"\n")
        elif "disconnect" in line.message:
            self._session.begin()
            self._said.clear()
        elif "reconnected" in line.message:
            self.send(self._session.greeting())

    def _hear(self, line: Line) -> None:
        request = line.request
        if self._is_foreign(line):
            return
        if request.command in POLLS and not self._waits_for_cancel(line):
            return
        self._ask_polls_before(line)
        if request.verb == "start":
            self._machine.length = 0 if self._starts_empty(line) else _SIZE
        elif request.verb in _VERBS and request.job in self._machine.jobs:
            self._before_verb(line, self._machine.jobs[request.job])
        self._say(line)

    def _is_foreign(self, line: Line) -> bool:
        """A command that QEMU did, and that is no business of fakeqemu's."""
        return line.accepted and line.request.command not in self._profile.commands

    def _ask_polls_before(self, line: Line) -> None:
        """A poll is asked when its reply is due, as only that shows when QEMU has heard it; but
        it can't be overtaken."""
        for poll in self._transcript.lines[: line.index]:
            if poll.kind != "out" or poll.request.command not in POLLS or poll.partner is None:
                continue
            if poll.partner.index > line.index:
                self._say(poll)

    def _say(self, line: Line) -> None:
        if line.index in self._asked:
            return
        self._asked.add(line.index)
        message = json.loads(json.dumps(line.message))
        arguments = message.get("arguments", {})
        if arguments.get("top") == _ACTIVE_FILE:
            arguments["top"] = _ACTIVE_NODE
        self._session.receive(json.dumps(message).encode())

    def _starts_empty(self, start: Line) -> bool:
        """There is nothing to copy: and QEMU notices that at once."""
        for line in self._transcript.lines[start.index :]:
            if line.event.startswith("BLOCK_JOB") and _job_of(line) == start.request.job:
                early = start.partner is not None and line.index < start.partner.index
                return bool(line.data.get("len") == 0 and (early or line.data["type"] == "stream"))
        return False

    def _before_verb(self, line: Line, job: Job) -> None:
        """Whether what the verb leads to waits for I/O: such a job is held."""
        silent = job.kind == "mirror" and "BLOCK_JOB_READY" not in self._profile.events
        if silent and job.status == "running" and self._was_equal(line, job.id):
            job.ready()
        if line.partner is None or not line.accepted:
            return
        if line.request.verb == "pause":
            job.pause_held = not self._pauses_at_once(line, line.partner)
            return
        if self._profile.synchronous_cancel:
            tail: Line | None = line.partner
            after = line
        else:
            tail = self._tail(line, job.id)
            after = line.partner
        if tail is None or (tail.index > after.index and self._waits(job, line, after, tail)):
            job.held = True

    def _waits(self, job: Job, verb: Line, after: Line, tail: Line) -> bool:
        between = self._transcript.lines[after.index + 1 : tail.index]
        if any(line.kind == "in" for line in between):
            return True
        sleeps = self._profile.cancel_first and not job.can_ready
        return sleeps and verb.request.verb != "complete"

    def _pauses_at_once(self, cause: Line, last: Line) -> bool:
        after = 0 if self._profile.pause_first and last is not cause else 2
        lines = self._transcript.lines[cause.index : last.index + after]
        return any(line.data.get("status") in _PAUSED for line in lines)

    def _tail(self, verb: Line, job: str) -> Line | None:
        """The first event of the job's end."""
        for line in self._transcript.lines[verb.index :]:
            ends = line.event in _ENDS or line.data.get("status") in _TAILS
            if line.event and _job_of(line) == job and ends:
                return line
        return None

    def _was_equal(self, before: Line, job: str) -> bool:
        """The last poll showed offset == len, which was the only sign of ready once."""
        for line in reversed(self._transcript.lines[: before.index]):
            if line.is_reply and isinstance(line.message.get("return"), list):
                rows = [row for row in line.message["return"] if row.get("device") == job]
                if rows:
                    return bool(rows[0]["offset"] == rows[0]["len"])
        return False

    def _waits_for_cancel(self, line: Line) -> bool:
        """A cancel whose reply is that the job is gone is under way when this is said."""
        if not self._profile.synchronous_cancel or line.partner is None:
            return False
        for cancel in self._transcript.lines[: line.index]:
            if cancel.kind != "out" or cancel.request.verb != "cancel" or not cancel.accepted:
                continue
            assert cancel.partner is not None
            if line.index < cancel.partner.index < line.partner.index:
                step = {"at": "received", "steps": [{"do": "finish", "job": cancel.request.job}]}
                self._machine.rules.append(Rule("when", line.request.command, 1, step))
            if line.index < cancel.partner.index:
                return True
        return False

    # QEMU's side

    def _expect(self, line: Line) -> None:
        if line.partner is not None and self._is_foreign(line.partner):
            return
        command = line.partner.request.command if line.partner is not None else ""
        if line.partner is not None and command in POLLS:
            self._say(line.partner)
        if not self._said:
            self._steer(line)
        got = self._said.popleft() if self._said else None
        self.pairs.append((line.message, command, got))

    def _steer(self, line: Line) -> None:
        """Has happen what QEMU tells next, if no command has led to it."""
        if line.event == "SHUTDOWN":
            self._machine.leave("host-signal")
            return
        if line.is_reply and line.partner is not None:
            job = self._machine.jobs.get(line.partner.request.job)
            if job is not None and job.cancelled:
                self._finish(job)
            return
        if line.data.get("status") in _PAUSED:
            self._machine.job(_job_of(line)).pause_now()
            return
        job = self._machine.jobs.get(_job_of(line))
        if job is not None and not job.on_disk:
            self._end_off_disk(line, job)
            return
        for event in self._transcript.lines[line.index :]:
            if event.event.startswith("BLOCK_JOB") and _job_of(event) == _job_of(line):
                job = self._machine.jobs.get(_job_of(line))
                if job is not None:
                    self._happen(event, job)
                return

    def _end_off_disk(self, line: Line, job: Job) -> None:
        """Only query-jobs will tell the error."""
        if line.data.get("status") == "waiting":
            self._finish(job)
            return
        for later in self._transcript.lines[line.index :]:
            rows = later.message.get("return") if later.is_reply else None
            for row in rows if isinstance(rows, list) else []:
                if row.get("id") == job.id and "error" in row:
                    job.fail(row["error"])
                    return

    def _happen(self, event: Line, job: Job) -> None:
        if "len" in event.data:
            job.progress(event.data["offset"], event.data["len"])
        if event.event == "BLOCK_JOB_READY":
            job.ready()
        elif event.event == "BLOCK_JOB_ERROR":
            job.pause_held = not self._pauses_at_once(event, event)
            job.io_error(event.data["action"], event.data["operation"], False)
        elif "error" in event.data:
            job.fail(event.data["error"])
            self._machine.sweep()
        elif event.event in _ENDS:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        job.finish()
        self._machine.sweep()
