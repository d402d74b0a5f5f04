# SPDX-License-Identifier: MIT
# The Python package as a client of a replayed transcript.
"""`PythonClient` does what a player tells it, and compares all that the library says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import blockjob
from oracle import Run
from replay import OBSERVE, PATIENCE, Mismatch, Player
from transcript import Line, Request, Transcript, command_of

# So often that a test does not wait for it (B58).
_POLL_SECONDS = 0.005


@dataclass
class Held:
    """A job that the library has given out, and what it told of it."""

    job: blockjob.Job
    opened: int
    """The line with which it was given."""
    records: list[blockjob.Record] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None


def call_of(job: blockjob.Job, request: Request) -> Coroutine[Any, Any, Any]:
    """A verb, by the job's method."""
    calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "complete": lambda: job.pivot(only_if_ready=True),
        "cancel": lambda: job.abort(wait=False),
        "force": lambda: job.abort(force=True, wait=False),
        "pause": job.pause,
        "resume": job.resume,
        "set-speed": lambda: job.set_speed(int(request.detail)),
        "finalize": job.finalize,
        "dismiss": job.dismiss,
    }
    return calls[request.verb]()


class PythonClient:
    """Uses the asyncio front-end."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.player: Player
        self.monitor: blockjob.Monitor
        self.held: dict[int, Held] = {}
        self.tasks: dict[int, asyncio.Task[Any]] = {}  # by the line of the command
        self.runs: dict[int, Run] = {}
        self.events: list[blockjob.Event] = []
        self.expected: list[tuple[Line, dict[str, Any]]] = []
        self.reader: asyncio.Task[None] | None = None
        self.made_up = 0

    # ---------------------------------------------------------------- connection

    async def connect(self, uri: str) -> None:
        limits = {blockjob.Limit.POLL: _POLL_SECONDS}
        again = PATIENCE if self.player.reconnects else None
        self.monitor = await blockjob.connect(uri, timeout=PATIENCE, limits=limits, reconnect=again)
        self.reader = asyncio.create_task(self._read_events(self.monitor.events()))

    async def _read_events(self, stream: Any) -> None:
        with contextlib.suppress(blockjob.Disconnected):
            async for event in stream:
                self.events.append(event)

    async def reconnected(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(blockjob.Disconnected):
                await self.monitor.jobs()
                return
            await asyncio.sleep(0.01)
        raise Mismatch("the library does not make the connection again")

    async def disconnected(self) -> None:
        with contextlib.suppress(
            blockjob.Disconnected
        ):  # over for good, if it was not to be made again
            self.monitor.set_reconnect(0)
        error = await asyncio.wait_for(self.monitor.closed(), PATIENCE)
        if not isinstance(error, blockjob.Disconnected):
            raise Mismatch(f"the connection is over by {error!r}")
        if self.reader is not None:
            await asyncio.wait_for(self.reader, PATIENCE)
            self.reader = None
            self._check_events()
        for index, task in list(self.tasks.items()):
            await self._settle(index, task)
        for held in self.held.values():
            if held.reader is not None:
                await asyncio.wait_for(held.reader, PATIENCE)

    async def close(self) -> None:
        """Leaves nothing behind, also after a mismatch."""
        await self.monitor.close()
        readers = [held.reader for held in self.held.values()] + [self.reader]
        tasks = [task for task in [*self.tasks.values(), *readers] if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check_events(self) -> None:
        """All events, in order, once (B60)."""
        told = [
            (event.name, event.data, round(event.timestamp, 6))
            for event in self.events
            if event.name  # else the connection's own
        ]
        sent = [(line.event, data, round(line.timestamp, 6)) for line, data in self.expected]
        silent = {run.id for run in self.player.runs if run.silent and run.end_line is None}
        made_up = [
            each
            for each in told
            if each not in sent and each[0] in ("BLOCK_JOB_CANCELLED", "BLOCK_JOB_READY")
        ]
        self.made_up += len(made_up)
        told = [each for each in told if each not in made_up]
        for name, data, _ in made_up:
            if name == "BLOCK_JOB_CANCELLED" and data.get("device") not in silent:
                raise Mismatch(f"an event was made up: {name} {data}")
        if told != sent:
            raise Mismatch(f"the events that were told, {told}, are not those that came, {sent}")
        if any(event.lost for event in self.events):
            raise Mismatch("events were lost")
        self.events.clear()
        self.expected.clear()

    async def said(self, line: Line) -> None:
        self.expected.append((line, self.player.server.renamed(line.data)))
        if len(self.expected) % 100 == 0:  # less than a watch's ring holds
            deadline = asyncio.get_running_loop().time() + PATIENCE
            while len(self.events) < len(self.expected):
                if asyncio.get_running_loop().time() > deadline:
                    raise Mismatch("events are missing")
                await asyncio.sleep(0.001)

    # ---------------------------------------------------------------------- jobs

    def _hold(self, run: Run, job: blockjob.Job, line: int) -> None:
        held = self.held[id(run)] = Held(job, line)
        held.reader = asyncio.create_task(self._read_records(held, job.watch()))

    @staticmethod
    async def _read_records(held: Held, stream: Any) -> None:
        async for record in stream:
            held.records.append(record)

    async def attach(self, run: Run) -> None:
        name = self.player.server.names.get(run.id, run.id)
        job = await self.monitor.attach(name, timeout=PATIENCE)
        self._hold(run, job, max(run.known, self.player.begin))

    async def start(self, run: Run, line: Line, own: bool) -> None:
        arguments = self.player.start_arguments(run, line, own)
        command = command_of(line.message)
        self.runs[line.index] = run
        self._begin(line, self.monitor.start(command, arguments, timeout=PATIENCE))

    async def verb(self, run: Run, line: Line, request: Request) -> None:
        job = self.held[id(run)].job
        self.runs[line.index] = run
        self._begin(line, call_of(job, request))

    async def execute(self, line: Line) -> None:
        arguments = line.message.get("arguments")
        self._begin(line, self.monitor.execute(command_of(line.message), arguments))

    def _begin(self, line: Line, call: Coroutine[Any, Any, Any]) -> None:
        self.tasks[line.index] = asyncio.create_task(call)

    async def replied(self, line: Line) -> None:
        """The reply to what was begun has been sent."""
        task = self.tasks.get(line.index)
        if task is None:
            return  # what the library has sent on its own
        request = line.request
        run = self.runs.get(line.index)
        if run is not None and request.verb in ("complete", "finalize"):
            return  # done when the job is over
        if run is not None and not line.accepted and (run.end or line.index) < line.index:
            return  # refused by a job that is over; done when it is known how
        await asyncio.wait([task], timeout=PATIENCE)
        if not task.done():
            raise Mismatch(f"{request} got its reply, and is not done")
        await self._settle(line.index, task)

    async def _settle(self, index: int, task: asyncio.Task[Any]) -> None:
        del self.tasks[index]
        line = self.transcript[index]
        request = line.request
        run = self.runs.get(index)
        try:
            value = await asyncio.wait_for(task, PATIENCE)
        except blockjob.Refused as refused:
            self._check_refusal(line, refused)
        except blockjob.Error as error:
            self._check_error(line, run, error)
        else:
            if request.verb == "start" and run is not None and line.accepted and run.generation:
                assert line.partner is not None
                self._hold(run, value, line.partner.index)
            elif not line.accepted and line.partner is not None:
                self._check_success(line, run)

    def _check_refusal(self, line: Line, refused: blockjob.Refused) -> None:
        reply = line.partner.message if line.partner is not None else {}
        told = (refused.error_class, str(refused))
        if "error" not in reply:
            raise Mismatch(f"{line.request}: QEMU accepted it, and it is told as {refused!r}")
        error = reply["error"]
        if told != (error["class"], error["desc"]):
            raise Mismatch(f"{line.request}: QEMU said {error}, and it is told as {told}")

    def _check_error(self, line: Line, run: Run | None, error: blockjob.Error) -> None:
        """What is no refusal of QEMU's must come from what became of the job or the connection."""
        verb = line.request.verb
        if line.partner is None and isinstance(error, blockjob.Disconnected):
            return
        if run is None:
            raise Mismatch(f"{line.request}: {error!r}")
        outcome = run.outcome
        fits = {
            "LOST": blockjob.JobLost,
            "FAILED": blockjob.JobFailed,
            "CANCELLED": blockjob.JobEnded,
            "COPIED": blockjob.JobEnded,
        }
        if verb in ("complete", "finalize") and isinstance(error, fits.get(outcome, ())):
            return
        pending = any(status == "pending" for _, status in run.statuses) or run.accepted("finalize")
        if verb == "complete" and pending and isinstance(error, blockjob.Stalled):
            return  # it waits for its finalize (B42)
        if not line.accepted and isinstance(error, (blockjob.Stalled, blockjob.StateError)):
            return  # our own state says more than QEMU's class and text (B39)
        raise Mismatch(f"{line.request} of a job that is {outcome}: {error!r}")

    def _check_success(self, line: Line, run: Run | None) -> None:
        if run is None or line.request.verb not in ("cancel", "force", "dismiss"):
            raise Mismatch(f"{line.request}: QEMU refused it, and it is told as done")

    # --------------------------------------------------------------------- moments

    def unready(self, run: Run) -> None:
        held = self.held.get(id(run))
        if held is not None and held.job.is_ready:
            raise Mismatch(f"{run.id} is told to be ready before it is")

    def alive(self, run: Run) -> None:
        held = self.held.get(id(run))
        if held is not None and held.job.outcome is not None:
            raise Mismatch(f"{run.id} is told to be {held.job.outcome} before its end")

    async def ready(self, run: Run) -> None:
        job = self.held[id(run)].job
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await job.ready(timeout=PATIENCE)
                return
            except blockjob.Stalled as error:  # so it was, before the events that are on their way
                stalled = error
                await asyncio.sleep(0.001)
            except blockjob.Error as error:
                raise Mismatch(f"{run.id} is ready, and it is told as {error!r}") from None
            if time.monotonic() > deadline:
                raise Mismatch(f"{run.id} is ready, and it is told as {stalled!r}")

    async def over(self, run: Run, outcomes: tuple[str, ...]) -> None:
        held = self.held[id(run)]
        error: blockjob.Error | None = None
        assert held.reader is not None
        await asyncio.wait([held.reader], timeout=PATIENCE)  # until then done() may be Stalled
        try:
            outcome = await held.job.done(timeout=PATIENCE)
        except (blockjob.JobFailed, blockjob.JobLost) as failure:
            error = failure
            assert failure.outcome is not None
            outcome = failure.outcome
        except blockjob.Error as failure:
            raise Mismatch(f"{run.id} is {outcomes}, and it is told as {failure!r}") from None
        if str(outcome) not in outcomes:
            raise Mismatch(f"{run.id} is {outcomes}, and it is told to be {outcome} ({error!r})")
        if run.error not in ("", "?") and (str(error) != run.error or held.job.error != run.error):
            raise Mismatch(f"{run.id} failed by {run.error!r}, and it is told as {error!r}")
        await asyncio.wait_for(held.reader, PATIENCE)
        self._check_records(run, held, str(outcome))
        self._check_timeline(run, held.job)

    def _check_records(self, run: Run, held: Held, outcome: str) -> None:
        kinds = [record.kind.name for record in held.records]
        if kinds.count("ENDED") != 1 or kinds[-1] != "ENDED":
            raise Mismatch(f"{run.id}: ENDED is not the last record, once: {kinds}")
        if str(held.records[-1].outcome) != outcome:
            raise Mismatch(f"{run.id}: ended as {held.records[-1]}, and is {outcome}")
        if kinds.count("READY") != self.player.has_seen_ready(run):
            raise Mismatch(f"{run.id}: ready at {run.ready}, and told {kinds}")
        if "LAGGED" in kinds:
            raise Mismatch(f"{run.id}: records were lost")
        self._check_statuses(run, held)
        stopped = any(stop > held.opened and stop < (run.end or 0) for stop in run.stops)
        if stopped and "STALLED" not in kinds:
            raise Mismatch(f"{run.id}: stopped by an error, and told {kinds}")

    def _check_statuses(self, run: Run, held: Held) -> None:
        told = [record.status for record in held.records if record.kind.name == "STATUS"]
        if not self.player.server.state.version >= (3, 0, 0):
            return
        end = run.end if run.end is not None else len(self.transcript)
        after = [(i, status) for i, status in run.statuses if i > held.opened and status != "null"]
        least = [status for i, status in after if i < end or (i == end and run.end_line is None)]
        most = [status for _, status in after]
        if told[: len(least)] != least or told != most[: len(told)]:
            raise Mismatch(f"{run.id}: the statuses were {least} {most}, and told are {told}")
        if run.ready is not None and run.ready > held.opened and "ready" in told:
            kinds = [(record.kind.name, record.status) for record in held.records]
            if kinds[kinds.index(("STATUS", "ready")) + 1][0] != "READY":
                raise Mismatch(f"{run.id}: READY has its place after ~ready: {held.records}")

    def _check_timeline(self, run: Run, job: blockjob.Job) -> None:
        times = job.timeline
        seen = run.end_line is not None and self._has_seen(run, run.end_line.index)
        if run.end_line is not None and run.end_line.timestamp and seen:  # some have none
            self._check_time(run, "end", times.end_event, {run.end_line.timestamp})
        if run.ready is not None and not run.ready_by_row and self._has_seen(run, run.ready):
            stamps = {line.timestamp for line in self.transcript.lines[run.ready : run.ready + 2]}
            if all(stamps):
                self._check_time(run, "ready", times.ready_event, stamps)

    def _has_seen(self, run: Run, index: int) -> bool:
        """Whether the client was there, and knew the run, when that line came."""
        known = run.known if self.player.mode == OBSERVE else run.begun
        return index > max(known, self.player.begin)

    @staticmethod
    def _check_time(run: Run, what: str, told: float | None, times: set[float]) -> None:
        if told is None or not any(abs(told - time) < 1e-6 for time in times):
            raise Mismatch(f"{run.id}: {what} by QEMU's clock at {times}, and told as {told}")


async def play(transcript: Transcript, mode: str, begin: int = 0, reconnects: bool = False) -> None:
    """Plays it; raises `Mismatch`."""
    client = PythonClient(transcript)
    client.player = Player(transcript, mode, client, begin, reconnects)
    try:
        await asyncio.wait_for(client.player.play(), 10 * PATIENCE)
    finally:
        await client.close()
