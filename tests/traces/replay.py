# SPDX-License-Identifier: MIT
# A QMP server that plays a transcript at a client; see README.md.
"""`Server` speaks QMP as the transcript's QEMU did; `Player` goes through the transcript line by
line, has a `Client` give the commands and lets the server send what QEMU sent, in its order.

What the client's library asks for itself (query-commands, query-block-jobs, ...) is answered from
what the transcript has told so far."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from oracle import ENDS, Run, runs_of
from transcript import (
    DATA,
    POLLS,
    STARTERS,
    Line,
    Request,
    Transcript,
    actions_of,
    command_of,
    read_request,
)

# Far beyond what ends well.
PATIENCE = 20.0


class Mismatch(AssertionError):
    """The library did what the transcript contradicts."""


# ------------------------------------------------------------------------------------- state


def _schema(version: tuple[int, int, int]) -> list[dict[str, Any]]:
    """As much of query-qmp-schema as tells which arguments a start takes."""
    types: list[dict[str, Any]] = []
    for number, command in enumerate(STARTERS):
        names = ["device", "speed", "on-error"]
        if version >= (2, 7, 0):
            names.append("job-id")
        kind = STARTERS[command]
        if kind != "create" and version >= ((2, 12, 0) if kind == "backup" else (3, 1, 0)):
            names += ["auto-finalize", "auto-dismiss"]
        members = [{"name": name, "type": "str", "default": None} for name in names]
        types.append({"name": command, "meta-type": "command", "arg-type": f"a{number}"})
        types.append({"name": f"a{number}", "meta-type": "object", "members": members})
    return types


class Disks:
    """What query-block would answer. It changes when a disk is switched, and what the transcript
    does not show of it is made of what it shows: another file, another node."""

    def __init__(self, transcript: Transcript, runs: list[Run]) -> None:
        self._switches = sorted(
            (run.end, run) for run in runs if run.outcome == "PIVOTED" and run.end is not None
        )
        self._known: dict[int, list[dict[str, Any]]] = {}
        self._devices: set[str] = set()
        for line in transcript:
            if line.kind == "out" and line.request.verb == "start":
                self._devices.add(str(line.request.arguments.get("device")))
            asked = command_of(line.partner.message) if line.partner is not None else ""
            if asked == "query-block" and "return" in line.message:
                self._known.setdefault(self._epoch(line.index), line.message["return"])

    def _epoch(self, index: int) -> int:
        return sum(end <= index for end, _ in self._switches)

    def answer(self, index: int) -> list[dict[str, Any]]:
        epoch = self._epoch(index)
        if epoch in self._known:
            return self._known[epoch]
        rows = json.loads(json.dumps(next(iter(self._known.values()), self._unknown())))
        for row in rows:
            if "inserted" in row:
                self._insert(row, epoch)
        return list(rows)

    def _unknown(self) -> list[dict[str, Any]]:
        return [
            {"device": device, "inserted": {"file": "", "image": {}}}
            for device in sorted(self._devices)
        ]

    def _insert(self, row: dict[str, Any], epoch: int) -> None:
        """The file that the switches so far have left in this disk."""
        file = f"/images/{row['device']}"
        node = 0
        for number, (_, run) in enumerate(self._switches[:epoch], start=1):
            arguments = run.start.request.arguments if run.start is not None else {}
            if row["device"] == arguments.get("device", run.id):
                file, node = arguments.get("target", f"/images/base{number}"), number
        inserted = row["inserted"]
        inserted["file"] = file
        if "image" in inserted:
            inserted["image"]["filename"] = file
        if "node-name" in inserted:
            inserted["node-name"] = f"#block9{node}"


class State:
    """What QEMU would answer now, as far as the transcript has told."""

    def __init__(self, transcript: Transcript, runs: list[Run]) -> None:
        self.version = transcript.version
        self.disks = Disks(transcript, runs)
        self.at = 0
        self.commands = _commands_of(transcript)
        self.block_jobs: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self._started: dict[str, int] = {}
        self._requests: dict[str, Request] = {}
        self._graphs = _graphs_of(transcript, runs)
        self._runs = runs

    def note(self, line: Line) -> None:
        """A line that QEMU has just said."""
        self.at = line.index
        if line.event == "JOB_STATUS_CHANGE":
            self._note_status(str(line.data["id"]), str(line.data["status"]))
        elif line.event == "BLOCK_JOB_READY":
            self._note_ready(line)
        elif line.event == "BLOCK_JOB_ERROR" and line.data.get("action") == "stop":
            self._note_pause(str(line.data["device"]), True, "failed")
        elif line.event in ENDS:
            self._note_end(line)
        elif line.is_reply and line.partner is not None and "return" in line.message:
            self._note_reply(line.partner, line.message["return"])

    def start(self, request: Request, index: int) -> None:
        """A start that QEMU accepts: from now on the job may be listed."""
        self._started[request.job] = index
        self._requests[request.job] = request
        kind = STARTERS[request.command]
        if kind != "create":
            self.block_jobs.setdefault(request.job, self._fresh(request, kind))
        self.jobs.setdefault(
            request.job,
            {
                "current-progress": 0,
                "status": "running",
                "total-progress": 0,
                "type": kind,
                "id": request.job,
            },
        )

    def _graph(self) -> Any:
        return self._graphs.get(_epoch(self._runs, self.at), {"nodes": [], "edges": []})

    def drop(self, job: str) -> None:
        self.block_jobs.pop(job, None)
        self.jobs.pop(job, None)

    def _fresh(self, request: Request, kind: str) -> dict[str, Any]:
        speed = request.arguments.get("speed", 0)
        row = {"device": request.job, "len": 0, "offset": 0, "speed": speed, "type": kind}
        if self.version >= (1, 3, 0):
            row |= {"busy": True, "paused": False, "io-status": "ok"}
        if self.version >= (2, 2, 0):
            row["ready"] = False
        if self.version >= (2, 12, 0):
            row |= {"status": "running", "auto-finalize": True}
            row["auto-dismiss"] = request.arguments.get("auto-dismiss", True)
        return row

    def _note_status(self, job: str, status: str) -> None:
        run = self._run_at(job)
        if status == "null" or (status == "concluded" and run is not None and not run.keeps):
            self.drop(job)  # what QEMU dismisses is never listed as concluded
            return
        if status == "created" and job in self._requests and job not in self.jobs:
            self.start(self._requests[job], self._started[job])
        row = self.jobs.setdefault(job, {"current-progress": 0, "total-progress": 0, "id": job})
        if job in self.block_jobs:
            self.block_jobs[job]["paused"] = status in ("paused", "standby")
        for each in (row, self.block_jobs.get(job, {})):
            each["status"] = status
            if run is not None and run.error and run.end == self.at:
                each["error"] = run.error

    def _run_at(self, job: str) -> Run | None:
        runs = [run for run in self._runs if run.id == job and run.begun <= self.at]
        return runs[-1] if runs else None

    def _note_pause(self, job: str, paused: bool, io_status: str) -> None:
        row = self.block_jobs.get(job)
        if row is None or "paused" not in row:
            return
        row |= {"paused": paused, "io-status": io_status}
        if "status" in row and self.version < (3, 0, 0):
            running = "ready" if row["ready"] else "running"
            row["status"] = ("standby" if row["ready"] else "paused") if paused else running

    def _note_ready(self, line: Line) -> None:
        row = self.block_jobs.get(str(line.data["device"]))
        if row is None:
            return
        row |= {"offset": line.data["offset"], "len": line.data["len"]}
        if "ready" in row:
            row["ready"] = True
        if "status" in row:
            row["status"] = "ready"

    def _note_end(self, line: Line) -> None:
        job = str(line.data["device"])
        row = self.block_jobs.get(job, {})
        error = line.data.get("error")
        if "CANCELLED" in line.event:
            error = "Operation canceled"
        run = self._run_at(job)
        if self.version < (3, 0, 0) and not (run is not None and run.keeps):
            self.drop(job)
        for each in (row, self.jobs.get(job, {})):
            if "status" in each or each is self.jobs.get(job):
                each["status"] = "concluded"
            if error and self.version >= (2, 12, 0):
                each["error"] = error

    def _note_reply(self, command: Line, value: Any) -> None:
        name = command_of(command.message)
        if name == "query-block-jobs":
            younger = [j for j in self.block_jobs if self._started.get(j, -1) > command.index]
            listed = {job: self.block_jobs[job] for job in younger}
            self.block_jobs = listed | {row["device"]: dict(row) for row in value}
        elif name == "query-jobs":
            self.jobs = {row["id"]: dict(row) for row in value}
        elif command.request.verb == "dismiss":
            self.drop(command.request.job)
        elif command.request.verb == "pause":
            self._note_pause(command.request.job, True, self._io_status(command.request.job))
        elif command.request.verb == "resume":
            self._note_pause(command.request.job, False, "ok")

    def _io_status(self, job: str) -> str:
        return str(self.block_jobs.get(job, {}).get("io-status", "ok"))

    def answer(self, command: str) -> dict[str, Any]:
        """To what a library asks for itself."""
        known = self.commands
        values: dict[str, Callable[[], Any]] = {
            "qmp_capabilities": dict,
            "query-commands": lambda: [{"name": name} for name in sorted(known)],
            "query-block-jobs": lambda: list(self.block_jobs.values()),
            "query-jobs": lambda: list(self.jobs.values()),
            "query-block": lambda: self.disks.answer(self.at),
            "query-qmp-schema": lambda: _schema(self.version),
            "x-debug-query-block-graph": lambda: self._graph(),
        }
        if command in values and (command in known or command == "qmp_capabilities"):
            return {"return": values[command]()}
        desc = f"The command {command} has not been found"
        return {"error": {"class": "CommandNotFound", "desc": desc}}


def _epoch(runs: list[Run], index: int) -> tuple[int, int]:
    """How many runs have begun and ended: between them the graph stays as it is."""
    begun = sum(run.known <= index for run in runs)
    return begun, sum(run.end is not None and run.end <= index for run in runs)


def _graphs_of(transcript: Transcript, runs: list[Run]) -> dict[tuple[int, int], Any]:
    graphs: dict[tuple[int, int], Any] = {}
    for line in transcript:
        asked = command_of(line.partner.message) if line.partner is not None else ""
        if asked == "x-debug-query-block-graph" and "return" in line.message:
            graphs[_epoch(runs, line.index)] = line.message["return"]
    return graphs


# What the library asks for itself.
OWN = (
    "qmp_capabilities",
    "query-commands",
    "query-qmp-schema",
    "query-block",
    "x-debug-query-block-graph",
    *POLLS,
)


def _commands_of(transcript: Transcript) -> set[str]:
    """What this QEMU's query-commands said, here or in its folder's caps.jsonl."""
    names: set[str] = set()
    caps = transcript.path.parent / "caps.jsonl"
    for source in (transcript, Transcript(caps)) if caps.exists() else (transcript,):
        for line in source:
            if line.kind == "out" and command_of(line.message) == "query-commands":
                assert line.partner is not None
                names |= {each["name"] for each in line.partner.message["return"]}
    return names


# ------------------------------------------------------------------------------------ server


class Server:
    """One monitor. Commands that are not the library's own wait in `arrived`."""

    def __init__(self, transcript: Transcript, runs: list[Run], path: Path) -> None:
        self.state = State(transcript, runs)
        self.path = path
        self.greeting = next(line.message for line in transcript if "QMP" in line.message)
        self.arrived: list[dict[str, Any]] = []
        self.polls = 0
        self._news = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.log: list[str] = []
        self.names: dict[str, str] = {}
        """What the library calls the transcript's jobs where it has named them."""

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        self.hang_up()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for task in list(self._tasks):
            await task

    def hang_up(self) -> None:
        """QEMU has ended, or the connection has."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writer = writer
        self._write(self.greeting)
        with contextlib.suppress(ConnectionError):
            async for line in reader:
                await self._read(json.loads(line))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self._tasks.discard(task)

    async def _read(self, message: dict[str, Any]) -> None:
        command = command_of(message)
        self.log.append(json.dumps(message))
        async with self._news:
            if command in OWN:
                reply = self._rename(self.state.answer(command), command)
                quiet = "error" in reply and self.state.version[:2] == (2, 12)
                self._write(reply if quiet else reply | {"id": message["id"]})
                self.polls += command == "query-block-jobs"
            else:
                self.arrived.append(self._rename_back(message))
            self._news.notify_all()

    def _rename(self, message: dict[str, Any], command: str = "") -> dict[str, Any]:
        """The message with the library's own names of jobs."""
        if not self.names or (command and command not in (*POLLS, "x-debug-query-block-graph")):
            return message
        if "event" in message:
            return (
                message | {"data": self.renamed(message["data"])} if "data" in message else message
            )
        value = message.get("return")
        if isinstance(value, list):
            return message | {"return": [self._renamed(row, ("device", "id")) for row in value]}
        if isinstance(value, dict) and "nodes" in value:
            nodes = [self._renamed(node, ("name",)) for node in value["nodes"]]
            return message | {"return": value | {"nodes": nodes}}
        return message

    def renamed(self, data: dict[str, Any]) -> dict[str, Any]:
        """An event's data as the client is told it."""
        return self._renamed(data, ("device", "id"))

    def _renamed(self, row: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
        return row | {key: self.names.get(row[key], row[key]) for key in keys if key in row}

    def _rename_back(self, message: dict[str, Any]) -> dict[str, Any]:
        """The command with the transcript's names of jobs."""
        names = {own: name for name, own in self.names.items()}
        if not names or read_request(message).verb == "start":
            return message
        arguments = message.get("arguments", {})
        back = {k: names.get(v, v) if k in ("device", "id") else v for k, v in arguments.items()}
        return message | {"arguments": back} if arguments else message

    def reply(self, command: dict[str, Any]) -> None:
        """Accepts a command of which the transcript does not know."""
        self._write({"return": {}, "id": command["id"]})

    def _write(self, message: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\r\n")

    def send(self, line: Line, command: dict[str, Any] | None) -> None:
        """A line of QEMU's; `command` is what the client has sent for the line's partner."""
        message = dict(line.message)
        if command is not None and "id" in message:
            message["id"] = command["id"]
        self._write(self._rename(message) if line.event else message)

    async def arrival(self, wanted: Callable[[Request], bool], what: str) -> dict[str, Any]:
        """The first command of that kind that the client has sent, or sends now."""
        async with self._news:

            def find() -> dict[str, Any] | None:
                return next((m for m in self.arrived if wanted(read_request(m))), None)

            found: dict[str, Any] | None = await self._wait(find, f"the client did not send {what}")
            assert found is not None
            self.arrived.remove(found)
            return found

    async def next_poll(self) -> None:
        """Returns when the client has asked for the jobs once more, and has its answer."""
        async with self._news:
            before = self.polls
            await self._wait(lambda: self.polls > before, "the client did not ask for the jobs")

    async def _wait(self, test: Callable[[], Any], complaint: str) -> Any:
        try:
            return await asyncio.wait_for(self._news.wait_for(test), PATIENCE)
        except asyncio.TimeoutError:
            raise Mismatch(f"{complaint}; it sent {self.log[-5:]}") from None


# ------------------------------------------------------------------------------------ player


class Client(Protocol):
    """Does with the library what it is told. What QEMU has to answer first is only begun."""

    async def connect(self, uri: str) -> None: ...
    async def attach(self, run: Run) -> None: ...
    async def start(self, run: Run, line: Line, own: bool) -> None: ...
    async def verb(self, run: Run, line: Line, request: Request) -> None: ...
    async def execute(self, line: Line) -> None: ...
    async def replied(self, line: Line) -> None: ...
    async def said(self, line: Line) -> None: ...
    def unready(self, run: Run) -> None: ...
    def alive(self, run: Run) -> None: ...
    async def ready(self, run: Run) -> None: ...
    async def over(self, run: Run, outcomes: tuple[str, ...]) -> None: ...
    async def disconnected(self) -> None: ...
    async def reconnected(self) -> None: ...


# How the library is used.
OBSERVE = "observe"  # another client gives the commands; the library looks on
ACT = "act"  # by the functions of the library
OWN_NAMES = "own"  # the same, and the library names the jobs and dismisses them
RAW = "raw"  # by bj_monitor_execute() and attach
MODES = (OBSERVE, ACT, OWN_NAMES, RAW)


class Player:
    """Plays one transcript at one client."""

    def __init__(
        self,
        transcript: Transcript,
        mode: str,
        client: Client,
        begin: int = 0,
        reconnects: bool = False,
    ) -> None:
        self.transcript = transcript
        self.mode = mode
        self.begin = begin
        """The client comes after that line; of what was before it knows nothing."""
        self.client = client
        self.reconnects = reconnects
        """The library makes the connection again where the transcript's client did."""
        self.runs = runs_of(transcript, reconnects)
        self.held: set[int] = set()  # the runs (by id()) that the client has a handle of
        self.sent: dict[int, dict[str, Any]] = {}  # what the client sent, by the line of its twin
        self.raw: list[Line] = []  # what was executed as it is
        self.own: set[int] = set()  # the runs (by id()) that the library is to dismiss
        self.verbs: dict[int, set[str]] = {}  # what was asked of a run by the library's functions
        self.dismissal: dict[str, Any] | None = None
        self.owed: Run | None = None
        self.server: Server

    async def play(self) -> None:
        async with self.serving():
            first = next(i for i, line in enumerate(self.transcript) if self._is_negotiated(line))
            begin = max(first, self.begin)
            for line in self.transcript.lines[first + 1 : begin + 1]:
                self._pass_over(line)
            await self.client.connect(f"unix:{self.server.path}")
            await self._hold_old(begin)
            for line in self.transcript.lines[begin + 1 :]:
                await self._play_line(line)
            self._check_leftovers()

    def _pass_over(self, line: Line) -> None:
        """What was before the client came."""
        if line.kind == "out" and line.accepted:
            for start in actions_of(line.request):
                self.server.state.start(start, line.index)
        elif line.kind == "in":
            self._note(line)

    def _note(self, line: Line) -> None:
        self.server.state.note(line)
        for run in self.runs:
            if run.silent and run.end == line.index and run.end_line is None and not run.statuses:
                self.server.state.drop(run.id)

    async def _hold_old(self, begin: int) -> None:
        """The runs that are there already when the client comes."""
        for run in self.runs:
            if run.known > begin or not self.is_listed(run, self.transcript[begin]):
                continue
            self.held.add(id(run))
            await self.client.attach(run)
            if self.has_seen_ready(run) and (run.ready or 0) <= begin:
                await self.client.ready(run)
            if run.end is not None and run.end <= begin:
                await self.client.over(run, run.seen_outcomes)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            self.server = self.make_server(Path(folder) / "qmp")
            await self.server.start()
            try:
                yield
            finally:
                await self.server.stop()

    def make_server(self, path: Path) -> Server:
        return Server(self.transcript, self.runs, path)

    @staticmethod
    def _is_negotiated(line: Line) -> bool:
        if line.partner is None or "return" not in line.message:
            return False
        return command_of(line.partner.message) == "qmp_capabilities"

    def _check_leftovers(self) -> None:
        if self.server.arrived:
            raise Mismatch(f"the client sent what nobody asked for: {self.server.arrived}")

    async def _play_line(self, line: Line) -> None:
        for run in self.runs:
            if id(run) not in self.held:
                continue
            if run.ready is None or run.ready >= line.index:
                self.client.unready(run)
            if run.end is None or run.end >= line.index:
                self.client.alive(run)
        if line.kind == "note":
            await self._play_note(line)
        elif line.kind == "out":
            await self._play_command(line)
        elif line.event or line.partner is not None:
            await self._play_message(line)

    # ------------------------------------------------------------------- notes

    async def _play_note(self, line: Line) -> None:
        message = line.message
        if "recv_error" in message or "eof" in message or "disconnect" in message:
            self.server.hang_up()
            if self.reconnects and self._comes_back(line):
                return
            await self._check_runs(line)
            await self.client.disconnected()
        elif "reconnected" in message and not self.reconnects:
            await self.client.connect(f"unix:{self.server.path}")
        elif "reconnected" in message:
            self._look_ahead(line)
            await self.client.reconnected()

    def _comes_back(self, line: Line) -> bool:
        return any("reconnected" in later.message for later in self.transcript.lines[line.index :])

    def _look_ahead(self, line: Line) -> None:
        """What the list says after a time in which nobody listened."""
        for command in POLLS:
            for later in self.transcript.lines[line.index :]:
                asked = command_of(later.partner.message) if later.partner is not None else ""
                if later.is_reply and asked == command:
                    self.server.state.note(later)
                    break

    # ---------------------------------------------------------------- commands

    async def _play_command(self, line: Line) -> None:
        command = command_of(line.message)
        request = line.request
        for start in actions_of(request) if line.accepted else ():
            self.server.state.start(start, line.index)
        if command in OWN or self.mode == OBSERVE:
            return
        if line.partner is None:
            return  # nobody knows what QEMU would have answered
        run = self._run_of(line, request)
        if self.acts and request.verb == "start" and command in self.server.state.commands:
            await self._play_start(run or unborn(request, line), line)
            return
        if request.verb == "dismiss" and run is not None and self._is_dismissed(run):
            pass  # by the library, as soon as it was over
        elif run is not None and self._has_function(run, line, request):
            self.verbs.setdefault(id(run), set()).add(request.verb)
            await self.client.verb(run, line, request)
        else:
            self.raw.append(line)
            await self.client.execute(line)
        self.sent[line.index] = await self.server.arrival(
            lambda sent: is_same(sent, request), f"{command} {request.arguments}"
        )

    @property
    def acts(self) -> bool:
        return self.mode in (ACT, OWN_NAMES)

    def _is_dismissed(self, run: Run) -> bool:
        """Started by the library without a word on it; of a kind that QEMU never dismisses."""
        return self.acts and run.kind == "create" and id(run) in self.held

    async def _play_start(self, run: Run, line: Line) -> None:
        request = line.request
        own = self.mode == OWN_NAMES and self._may_name(run, request)
        await self.client.start(run, line, own)
        sent = self.sent[line.index] = await self.server.arrival(
            lambda sent: is_same(sent, request, own), f"{request.command} {request.arguments}"
        )
        if not own:
            return
        arguments = sent.get("arguments", {})
        self.server.names[request.job] = arguments.get("job-id", request.job)
        if arguments.get("auto-dismiss") is False and run.generation:
            self.own.add(id(run))
        elif "auto-dismiss" in arguments or self.has_auto_dismiss(request):
            raise Mismatch(f"{request.command} was sent with {arguments}")

    def start_arguments(self, run: Run, line: Line, own: bool) -> dict[str, Any]:
        """Without what the library adds, or with what keeps it from adding anything."""
        arguments = dict(line.message.get("arguments", {}))
        if own:
            arguments.pop("job-id", None)
        elif self.transcript.version >= (2, 7, 0):
            arguments.setdefault("job-id", run.id)
        if not own and self.has_auto_dismiss(line.request):
            arguments.setdefault("auto-dismiss", True)
        return arguments

    def has_auto_dismiss(self, request: Request) -> bool:
        """Whether this QEMU's command takes it."""
        version = self.transcript.version
        kind = STARTERS[request.command]
        return kind != "create" and version >= ((2, 12, 0) if kind == "backup" else (3, 1, 0))

    def _may_name(self, run: Run, request: Request) -> bool:
        """Not a start that overtakes the run before, whose events still have the name."""
        if "auto-dismiss" in request.arguments or not run.generation:
            return False
        before = (r for r in self.runs if r.id == run.id and r.begun < run.begun)
        sent = run.start.index if run.start is not None else run.begun
        return all(r.gone is not None and r.gone < sent for r in before)

    def _run_of(self, line: Line, request: Request) -> Run | None:
        """The run that the command is for."""
        if request.verb == "start":
            return next((run for run in self.runs if run.start is line), None)
        runs = (run for run in self.runs if run.id == request.job and run.begun <= line.index)
        return max(runs, key=lambda run: run.begun, default=None)

    def _has_function(self, run: Run, line: Line, request: Request) -> bool:
        """Whether the library's function sends this command now, and sends nothing else."""
        if not self.acts or id(run) not in self.held:
            return False
        done = self.verbs.get(id(run), set())
        over = run.end is not None and run.end < line.index
        gone = run.gone is not None and run.gone < line.index
        if request.verb == "dismiss":
            return over and run.keeps and not gone
        if over:
            return False
        free = (
            not self._awaits_raw(run, line)
            and not self._is_paused(run, line)
            and not {"complete", "cancel", "force"} & done
        )
        if request.verb == "complete":
            ready = run.ready is not None and run.ready < line.index
            return ready and free and not self._is_ending(run, line)
        if request.verb == "cancel":
            return free and not self._is_ending(run, line)
        if request.verb == "force" and self._awaits_raw(run, line):
            return False  # the library sends nothing beside a raw verb
        if request.verb == "force":
            return "force" not in done and self.transcript.version >= (1, 3, 0)
        if request.verb == "set-speed":
            return int(request.detail or -1) >= 0
        return request.verb in ("pause", "resume", "finalize")

    def _awaits_raw(self, run: Run, line: Line) -> bool:
        """Whether an end was asked for by execute(), and is not answered yet."""
        return any(
            raw.request.job == run.id
            and raw.request.verb in ("complete", "cancel", "force")
            and raw.partner is not None
            and raw.partner.index > line.index
            for raw in self.raw
        )

    @staticmethod
    def _is_ending(run: Run, line: Line) -> bool:
        last = ("waiting", "pending", "aborting")
        return any(status in last for index, status in run.statuses if index < line.index)

    @staticmethod
    def _is_paused(run: Run, line: Line) -> bool:
        """Somebody paused it, or an error stopped it."""
        paused = bool([stop for stop in run.stops if stop < line.index])
        moves = [verb for verb in run.verbs if verb.accepted < line.index]
        for verb in moves:
            if verb.name == "pause":
                paused = True
            elif verb.name == "resume":
                paused = any(stop > verb.asked for stop in run.stops if stop < line.index)
        return paused

    # ---------------------------------------------------------------- messages

    async def _play_message(self, line: Line) -> None:
        partner = line.partner
        await self._play_dismissal(line)
        sent = self.sent.get(partner.index) if partner is not None else None
        self._note(line)
        if line.event or sent is not None:
            self.server.send(line, sent)
        if line.event:
            await self.client.said(line)
        elif sent is not None and partner is not None:
            await self.client.replied(partner)
        await self._hold_runs(line)
        await self._check_runs(line)
        if self.owed is not None:
            self.dismissal, self.owed = await self._dismissal_of(self.owed), None
        if self.dismissal is not None:
            self.server.reply(self.dismissal)
            self.dismissal = None
        for run in self.runs:
            if run.gone == line.index:
                self.server.names.pop(run.id, None)

    async def _play_dismissal(self, line: Line) -> None:
        """QEMU lets go of a run of the library's own when the library says so."""
        for run in self.runs:
            gone = run.gone == line.index or (run.end == line.index and not run.statuses)
            if id(run) not in self.own or not gone or run.lost:
                continue
            if run.end == line.index:  # it has to know the end first, and there is no event later
                self.owed = run
                continue
            self.dismissal = await self._dismissal_of(run)

    async def _dismissal_of(self, run: Run) -> dict[str, Any]:
        self.own.discard(id(run))
        return await self.server.arrival(
            lambda sent: sent.verb == "dismiss" and sent.job == run.id, f"the dismissal of {run.id}"
        )

    async def _hold_runs(self, line: Line) -> None:
        """From where the client can have a handle of a run it has one."""
        for run in self.runs:
            start = run.start
            started = start is not None and start.index in self.sent
            started = started and start is not None and start.request.verb == "start"
            if run.known != line.index or id(run) in self.held:
                continue
            if self.acts and started:
                self.held.add(id(run))
            elif self.is_listed(run, line):
                self.held.add(id(run))
                await self.client.attach(run)

    @staticmethod
    def is_listed(run: Run, line: Line) -> bool:
        """Who attaches must find it."""
        concluded = [index for index, status in run.statuses if status == "concluded"]
        ends = [run.gone] if run.keeps and not run.lost else [run.end, *concluded]
        return all(end is None or end > line.index for end in ends)

    def has_seen_ready(self, run: Run) -> bool:
        """Whether it was ready in a way that this client can know of."""
        if run.ready is None:
            return False
        if run.ready > self.begin:
            return True
        if run.end is not None and run.end <= self.begin:
            return False
        # Before 2.2 the list does not say it, and equality says it of a mirror that is not empty.
        empty = self.transcript[run.ready].data.get("len") == 0
        return self.transcript.version >= (2, 2, 0) or (run.kind == "mirror" and not empty)

    async def _check_runs(self, line: Line) -> None:
        for run in self.runs:
            if id(run) not in self.held:
                continue
            if run.ready is not None and max(run.ready, run.known) == line.index:
                await self.client.ready(run)
            if self.told_end(run) == line.index:
                await self.client.over(run, self.truths(run))

    def truths(self, run: Run) -> tuple[str, ...]:
        return run.seen_outcomes if self.mode == OBSERVE else run.outcomes

    def told_end(self, run: Run) -> int:
        """The line with which the client knows how the run ended: the terminal event, or the last
        reply to what it had asked before that (B02)."""
        assert run.end is not None
        end = max(run.end, run.known)
        if run.lost or self.mode == OBSERVE:
            return end
        for line in self.transcript.lines[run.begun : run.end]:
            if line.kind == "out" and line.partner is not None and line.index in self.sent:
                request = line.request
                if request.job == run.id and request.verb in ("complete", "cancel", "force"):
                    end = max(end, line.partner.index)
        return end


def unborn(request: Request, line: Line) -> Run:
    """A start that QEMU refuses, or takes for one of several."""
    return Run(request.job, STARTERS[request.command], 0, line.index, line)


def is_same(sent: Request, wanted: Request, own: bool = False) -> bool:
    """Whether the client's command is the transcript's, whatever the words."""
    if sent.verb != wanted.verb:
        return False
    if wanted.verb == "start":
        same = all(
            sent.arguments.get(key) == wanted.arguments.get(key) for key in ("device", "target")
        )
        return sent.command == wanted.command and same and (own or sent.job == wanted.job)
    return sent.job == wanted.job and sent.detail == wanted.detail


def find(name: str, data: Path = DATA) -> Transcript:
    return Transcript(data / f"{name}.jsonl")
