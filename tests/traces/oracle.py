# SPDX-License-Identifier: MIT
# What a transcript says of its jobs, found out from the transcript alone.
"""`runs_of(transcript)`: each run of a job, with the lines at which it was ready and over, and the
outcomes that are the truth for someone who gave the verbs and for someone who only looked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transcript import POLLS, STARTERS, Line, Request, Transcript, actions_of, command_of

ENDS = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")

# What can be ready and then be switched.
_SWITCHING = ("mirror", "commit", "")


@dataclass
class Verb:
    """A command for a run, that QEMU accepted."""

    name: str
    asked: int
    accepted: int


@dataclass
class Run:
    """One run of one job. Numbers are indices of lines."""

    id: str
    kind: str
    generation: int
    begun: int
    """Its start command, or the first that was heard of it."""
    start: Line | None = None
    known: int = -1
    """From here on it is there for everyone: its start's reply, or where it was first seen."""
    ready: int | None = None
    ready_by_row: bool = False
    """Only a list of jobs told that it is ready (RHEL 6)."""
    end: int | None = None
    end_line: Line | None = None
    """The terminal event; None when the end came without one."""
    silent: bool = False
    """Over without an event: the synchronous cancel of RHEL 6.2."""
    lost: bool = False
    gone: int | None = None
    """Where QEMU let go of it."""
    error: str = ""
    verbs: list[Verb] = field(default_factory=list)
    statuses: list[tuple[int, str]] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    """BLOCK_JOB_ERROR, action stop."""
    keeps: bool = False
    """Concluded, it stays listed until it is dismissed."""

    def statuses_after(self, index: int) -> bool:
        return any(at > index for at, _ in self.statuses)

    def accepted(self, name: str) -> bool:
        return any(verb.name == name for verb in self.verbs)

    @property
    def outcome(self) -> str:
        """How it ended, for someone who knows which verbs were accepted."""
        if self.lost or self.end is None:
            return "LOST"
        if self.error and not self.silent:
            return "FAILED"
        if self.silent or (self.end_line is not None and "CANCEL" in self.end_line.event):
            return "CANCELLED"
        if self.kind not in _SWITCHING or self.ready is None:
            return "COMPLETED"
        if self.accepted("complete"):
            return "PIVOTED"
        if self.accepted("cancel") or self.accepted("force"):
            return "COPIED"
        return "COMPLETED"

    @property
    def seen_outcomes(self) -> tuple[str, ...]:
        """The truths for someone who only looked on: whether the disk was switched is known to
        those who looked at the block graph, and must not be guessed by others."""
        if self.outcome in ("PIVOTED", "COPIED"):
            return (self.outcome, "COMPLETED")
        return self.outcomes

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The truths for someone who gave the verbs."""
        if self.kind in _SWITCHING and self.outcome == "COMPLETED":
            # By itself: an intermediate commit; an empty mirror before 2.1; a ready one at quit
            # before 6.2, which was not switched.
            return ("COMPLETED", "COPIED")
        return (self.outcome,)


def _listed(line: Line) -> set[str]:
    """The jobs that are in a reply to a poll."""
    polled = line.partner is not None and command_of(line.partner.message) in POLLS
    if not polled or not line.is_reply:
        return set()
    return {row.get("id", row.get("device", "")) for row in line.message.get("return", [])}


class _Reader:
    """Goes through a transcript once."""

    def __init__(self, transcript: Transcript, reconnects: bool) -> None:
        self.reconnects = reconnects
        self.transcript = transcript
        self.runs: list[Run] = []
        self.live: dict[str, Run] = {}
        self.generations: dict[str, int] = {}
        self.starts: dict[str, list[Line]] = {}  # accepted while the run before was still there
        self.came = 0  # where this connection was made
        self.has_statuses = any(line.event == "JOB_STATUS_CHANGE" for line in transcript)

    def begin(self, job: str, kind: str, line: Line, start: Line | None = None) -> Run:
        if start is None and self.starts.get(job):
            start = self.starts[job].pop(0)
            kind = next(STARTERS[s.command] for s in actions_of(start.request) if s.job == job)
        generation = self.generations[job] = self.generations.get(job, 0) + 1
        run = Run(job, kind, generation, line.index, start)
        known = start.partner if start is not None else None
        run.known = known.index if known is not None else line.index
        self.runs.append(run)
        self.live[job] = run
        return run

    def let_go(self, run: Run, line: Line) -> None:
        run.gone = line.index
        if self.live.get(run.id) is run:
            del self.live[run.id]

    def read(self) -> list[Run]:
        for line in self.transcript:
            if line.kind == "out":
                self.read_command(line)
            elif line.kind == "note":
                self.read_note(line)
            elif line.event:
                self.read_event(line)
            elif line.is_reply and line.partner is not None:
                self.read_reply(line, line.partner)
        self.lose_all(len(self.transcript) - 1)
        return self.runs

    # ---------------------------------------------------------------- the connection

    def lose_all(self, index: int) -> None:
        for run in list(self.live.values()):
            if run.end is None:
                run.lost = True
                run.end = index
        self.live.clear()

    def read_note(self, line: Line) -> None:
        message = line.message
        if "recv_error" in message or message.get("eof"):
            if not (self.reconnects and self.comes_back(line.index)):
                self.lose_all(line.index)
        elif "disconnect" in message and not self.reconnects:
            self.lose_all(line.index)
        elif "reconnected" in message:
            self.came = line.index

    def comes_back(self, index: int) -> bool:
        return any("reconnected" in line.message for line in self.transcript.lines[index:])

    # ---------------------------------------------------------------------- commands

    def read_command(self, line: Line) -> None:
        if not line.accepted:
            return
        request = line.request
        for start in actions_of(request):
            if start.job in self.live:  # its end is on its way
                self.starts.setdefault(start.job, []).append(line)
                continue
            run = self.begin(start.job, STARTERS[start.command], line, line)
            run.keeps = start.arguments.get("auto-dismiss") is False

    def read_reply(self, reply: Line, command: Line) -> None:
        request = command.request
        if command_of(command.message) in POLLS and "return" in reply.message:
            self.read_rows(reply)
        elif "return" in reply.message and request.job:
            self.read_accepted(request, command, reply)

    def read_accepted(self, request: Request, command: Line, reply: Line) -> None:
        run = self.run_asked(request.job, command.index)
        if run is None or request.verb == "start":
            return
        run.verbs.append(Verb(request.verb, command.index, reply.index))
        if request.verb == "dismiss" and not self.has_statuses:
            self.let_go(run, reply)
        if request.verb == "cancel" and run.end is None and self.is_silent(run, command, reply):
            run.end, run.silent = reply.index, True
            self.let_go(run, reply)

    def run_asked(self, job: str, index: int) -> Run | None:
        """The run that a command was for when it was given; it may be over since."""
        for run in reversed(self.runs):
            if run.id == job and run.begun <= index:
                return run
        return None

    def is_silent(self, run: Run, command: Line, reply: Line) -> bool:
        """RHEL 6.2 answers when the job is over, and sends no event."""
        if command_of(command.message) != "block_job_cancel":
            return False
        for line in self.transcript.lines[reply.index + 1 :]:
            if line.event in ENDS and line.data.get("device") == run.id:
                return False
            if "return" in line.message and line.partner is not None:
                if command_of(line.partner.message) == "query-block-jobs":
                    rows = line.message["return"]
                    return all(row["device"] != run.id for row in rows)
                if line.partner.request.verb == "start":
                    break
        return True

    # ------------------------------------------------------------------------- rows

    def read_rows(self, reply: Line) -> None:
        for row in reply.message["return"]:
            job = row.get("id", row.get("device", ""))
            run = self.live.get(job)
            if run is None:
                run = self.begin(job, row.get("type", ""), reply)
            if run.end is None and not run.statuses_after(self.came):
                self.read_old(run, row, reply)
            self.read_row(run, row, reply)

    @staticmethod
    def read_old(run: Run, row: dict[str, Any], reply: Line) -> None:
        """A run that this client sees for the first time; it may be over."""
        if row.get("status") != "concluded":
            return
        run.end, run.keeps = reply.index, True
        run.error = row.get("error", "")
        run.silent = run.error == "Operation canceled"

    def read_row(self, run: Run, row: dict[str, Any], reply: Line) -> None:
        run.kind = run.kind or row.get("type", "")
        if run.ready is not None or run.end is not None:
            return
        known = "ready" in row or "status" in row
        ready = row.get("ready") is True or row.get("status") in ("ready", "standby")
        if not known and run.kind == "mirror" and self.has_no_ready_event():
            ready = row["offset"] == row["len"] > 0
        if ready:
            run.ready, run.ready_by_row = reply.index, True

    def has_no_ready_event(self) -> bool:
        return self.transcript.version < (1, 0, 0)

    # ----------------------------------------------------------------------- events

    def read_event(self, line: Line) -> None:
        if line.event == "JOB_STATUS_CHANGE":
            self.read_status(line, str(line.data["id"]), str(line.data["status"]))
            return
        if not line.event.startswith("BLOCK_JOB_"):
            return
        job = str(line.data.get("device", line.data.get("id", "")))
        run = self.live.get(job)
        if run is None:
            run = self.begin(job, str(line.data.get("type", "")), line)
        run.kind = run.kind or str(line.data.get("type", ""))
        if line.event == "BLOCK_JOB_READY" and run.ready is None:
            run.ready = line.index
        elif line.event == "BLOCK_JOB_ERROR" and line.data.get("action") == "stop":
            run.stops.append(line.index)
        elif line.event in ENDS:
            self.read_end(run, line)

    def read_end(self, run: Run, line: Line) -> None:
        if run.end is not None:
            return
        run.end, run.end_line = line.index, line
        run.error = str(line.data.get("error", ""))
        if not self.has_statuses and not run.keeps:
            self.let_go(run, line)

    def read_status(self, line: Line, job: str, status: str) -> None:
        run = self.live.get(job)
        if run is None or (status == "created" and run.statuses):
            if status == "null":
                return
            run = self.begin(job, "", line)
        run.statuses.append((line.index, status))
        if status == "ready" and run.ready is None:
            run.ready = line.index
        if status == "concluded":
            self.read_concluded(run, line)
        if status == "null":
            self.read_null(run, line)

    def read_concluded(self, run: Run, line: Line) -> None:
        """A job without a disk has no other end; it stays, and the list has its error."""
        run.keeps = self.stays(run.id, line.index)
        if run.end is not None or not run.keeps:
            return
        run.end = line.index
        row = self.row_after(run.id, line.index)
        run.kind = run.kind or row.get("type", "")
        run.error = row.get("error", "")
        run.silent = run.error == "Operation canceled"

    def stays(self, job: str, index: int) -> bool:
        """Whether it was listed, or dismissed by hand, between concluded and null."""
        for line in self.transcript.lines[index + 1 :]:
            if line.event == "JOB_STATUS_CHANGE" and line.data["id"] == job:
                return False
            if line.kind == "out" and line.request.verb == "dismiss" and line.request.job == job:
                return True
            if job in _listed(line):
                return True
        return True

    def row_after(self, job: str, index: int) -> dict[str, Any]:
        for line in self.transcript.lines[index:]:
            if line.partner is None or not line.is_reply or "return" not in line.message:
                continue
            if command_of(line.partner.message) == "query-jobs":
                rows = (row for row in line.message["return"] if row["id"] == job)
                return next(rows, {})
        return {}

    def read_null(self, run: Run, line: Line) -> None:
        """Without a BLOCK_JOB event the statuses are all that is told."""
        if run.end is None:
            run.end = line.index
            if any(status == "aborting" for _, status in run.statuses):
                cancelled = run.accepted("cancel") or run.accepted("force")
                run.silent = cancelled
                run.error = "" if cancelled else "?"
            elif not any(status in ("waiting", "pending") for _, status in run.statuses):
                run.lost = True  # refused late: it never ran
        self.let_go(run, line)


def runs_of(transcript: Transcript, reconnects: bool = False) -> list[Run]:
    """The runs, in the order in which they began. Where the client's connection ended and was made
    anew, a client that does not reconnect loses its jobs, and finds new ones after it."""
    return _Reader(transcript, reconnects).read()
