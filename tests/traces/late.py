#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Plays a transcript whose replies come late: each is made when QEMU made it, and is written up to
# MOST_LATE lines later, as QEMU 7.2.22 sends lists that are older than the events before them.
"""`play_late()` plays one transcript and says of each job that the client had asked for what became
of it. What is compared is the outcome only: when a reply is late, so is what follows from it.

Between two lines the library does all that it does by itself, and the numbers of lines come from
a generator that the session's name seeds, so a session is played in the same way every time.

late.py [--data FOLDER] [--most LINES] [MODE...] plays all transcripts, and prints what was wrong
and how much was right. With --most 0 all must be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blockjob
from client import call_of
from oracle import Run
from replay import ACT, OBSERVE, OWN, PATIENCE, RAW, Player, Server, is_same, unborn
from transcript import (
    DATA,
    Line,
    Request,
    Transcript,
    actions_of,
    command_of,
    read_request,
    transcripts,
)

MODES = (OBSERVE, ACT, RAW)
MOST_LATE = 20
# Through which the library's thread and this one have seen all that the other had written.
_FENCE = "query-commands"
# What the library asks for by itself in answer to something is no longer a chain than this.
_SETTLED = 20
_POLL_SECONDS = 0.005


class LateServer(Server):
    """Keeps the order of replies, and sends events at once."""

    def __init__(self, *arguments: Any, seed: str, most: int) -> None:
        super().__init__(*arguments)
        self._most = most
        self.is_late = False
        self._late: list[tuple[int, dict[str, Any]]] = []
        self._line = 0
        self._random = random.Random(seed)

    async def _read(self, message: dict[str, Any]) -> None:
        if self.is_late and command_of(message) == _FENCE:
            super()._write({"return": [], "id": message["id"]})
        else:
            await super()._read(message)

    def _write(self, message: dict[str, Any]) -> None:
        if self.is_late and "event" not in message:
            made = copy.deepcopy(message)  # its rows are the state's, which goes on
            self._late.append((self._line + self._random.randint(0, self._most), made))
        else:
            super()._write(message)

    def hang_up(self) -> None:
        super().hang_up()
        self._late.clear()
        self.is_late = False

    def begin_line(self, index: int) -> bool:
        """Writes what is due; whether that was anything."""
        self._line = index
        due = 0
        while self._late and self._late[0][0] <= index:
            due += self.write_next()
        return due > 0

    def write_next(self) -> bool:
        """Writes one reply before its time; False if none is left."""
        if not self._late:
            return False
        super()._write(self._late.pop(0)[1])
        return True


@dataclass
class Asked:
    """A job that the client attached to, or started."""

    run: Run
    task: asyncio.Task[blockjob.Job]
    line: int
    is_started: bool
    answered: int | None = None
    """The line before which the answer came, and before which the outcome did."""
    told: int | None = None
    waiting: asyncio.Task[Any] | None = None
    """Old QEMUs are only polled while somebody waits."""

    @property
    def job(self) -> blockjob.Job | None:
        done = self.task.done() and self.task.exception() is None
        return self.task.result() if done else None


class LatePlayer(Player):
    """Plays one transcript at the Python package."""

    def __init__(self, transcript: Transcript, mode: str, most: int) -> None:
        super().__init__(transcript, mode, None)  # type: ignore[arg-type]
        self.most = most
        self.monitor: blockjob.Monitor | None = None
        self.right = 0
        self.wrong: list[str] = []
        self._asked: list[Asked] = []
        self._calls: list[asyncio.Task[Any]] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with super().serving():
            try:
                yield
            finally:
                await self._close()

    def make_server(self, path: Any) -> Server:
        seed = f"{self.mode}/{self.transcript.name}"
        return LateServer(self.transcript, self.runs, path, seed=seed, most=self.most)

    @property
    def late(self) -> LateServer:
        assert isinstance(self.server, LateServer)
        return self.server

    async def play(self) -> None:
        async with self.serving():
            first = next(i for i, line in enumerate(self.transcript) if self._is_negotiated(line))
            for line in self.transcript.lines[: first + 1]:
                self._pass_over(line)
            await self._connect()
            for line in self.transcript.lines[first + 1 :]:
                if self.late.begin_line(line.index):
                    await self._settle(line.index)
                await self._play_line(line)
                if not self._is_concluded_and_gone(line):
                    await self._settle(line.index)
            await self._judge(len(self.transcript))

    def _is_concluded_and_gone(self, line: Line) -> bool:
        """Nothing comes between the two where QEMU dismisses a job: no list is made there."""
        ahead = self.transcript.lines[line.index + 1 :]
        return (
            line.data.get("status") == "concluded"
            and bool(ahead)
            and ahead[0].data == line.data | {"status": "null"}
        )

    # -------------------------------------------------------------- the connection

    async def _connect(self) -> None:
        self.monitor = await blockjob.connect(
            f"unix:{self.server.path}",
            timeout=PATIENCE,
            limits={blockjob.Limit.POLL: _POLL_SECONDS, blockjob.Limit.COMMAND: 10 * PATIENCE},
        )
        self.late.is_late = True

    async def _close(self) -> None:
        if self.monitor is None:
            return
        await self.monitor.close()
        self.monitor = None
        tasks = [*self._calls, *(asked.task for asked in self._asked)]
        tasks += [asked.waiting for asked in self._asked if asked.waiting is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._calls.clear()
        self._asked.clear()

    async def _settle(self, index: int) -> None:
        """Returns when the library has read all, and this end all that it sent because of it."""
        if self.monitor is None:
            return
        for _ in range(2):
            with contextlib.suppress(blockjob.Disconnected):
                await self.monitor.execute(_FENCE)
        for asked in self._asked:
            if asked.answered is None and asked.task.done():
                asked.answered = index
                if asked.job is not None:
                    asked.waiting = asyncio.create_task(asked.job.done())
            if asked.told is None and asked.job is not None and asked.job.outcome is not None:
                asked.told = index

    async def _play_note(self, line: Line) -> None:
        message = line.message
        if "recv_error" in message or "eof" in message or "disconnect" in message:
            await self._judge(line.index)
            self.server.hang_up()
            await self._close()
        elif "reconnected" in message:
            await self._connect()

    # ---------------------------------------------------------------------- lines

    async def _play_line(self, line: Line) -> None:
        if line.kind == "note":
            await self._play_note(line)
        elif self.monitor is None:
            self._pass_over(line)
        elif line.kind == "out":
            await self._play_command(line)
        elif line.event or line.partner is not None:
            self._play_reply_or_event(line)

    def _play_reply_or_event(self, line: Line) -> None:
        sent = self.sent.get(line.partner.index) if line.partner is not None else None
        self._note(line)
        if line.event or sent is not None:
            self.server.send(line, sent)
        for run in self.runs:
            is_there = run.known == line.index and id(run) not in self.held
            if is_there and self.is_listed(run, line):
                self._attach(run, line)

    def _attach(self, run: Run, line: Line) -> None:
        assert self.monitor is not None
        self.held.add(id(run))
        attach = self.monitor.attach(run.id, timeout=10 * PATIENCE)
        self._asked.append(Asked(run, asyncio.create_task(attach), line.index, False))

    async def _play_command(self, line: Line) -> None:
        command = command_of(line.message)
        for start in actions_of(line.request) if line.accepted else ():
            self.server.state.start(start, line.index)
        if command in OWN or self.mode == OBSERVE or line.partner is None:
            return
        self._give(line, command)
        while (sent := self._sent(line.request)) is None:
            # It needs a reply first; or it has its reasons not to send it, and as another client
            # gave the command it is the more for the outcome to be true.
            await self._settle(line.index)
            if (sent := self._sent(line.request)) is not None or not self.late.write_next():
                break
        if sent is not None:
            self.sent[line.index] = sent

    def _sent(self, request: Request) -> dict[str, Any] | None:
        for message in self.server.arrived:
            if is_same(read_request(message), request):
                self.server.arrived.remove(message)
                return message
        return None

    def _give(self, line: Line, command: str) -> None:
        assert self.monitor is not None
        request = line.request
        run = self._run_of(line, request)
        if self.acts and request.verb == "start" and command in self.server.state.commands:
            arguments = self.start_arguments(run or unborn(request, line), line, False)
            start = self.monitor.start(command, arguments, timeout=10 * PATIENCE)
            task = asyncio.create_task(start)
            if run is None or not line.accepted:
                self._calls.append(task)
                return
            self.held.add(id(run))
            self._asked.append(Asked(run, task, line.index, True))
            return
        call = self._function(run, line) if run is not None else None
        if call is None:
            self.raw.append(line)
            call = self.monitor.execute(command, line.message.get("arguments"))
        self._calls.append(asyncio.create_task(call))

    def _function(self, run: Run, line: Line) -> Any:
        """The library's, where it would send just that now; else None."""
        request = line.request
        asked = next((asked for asked in self._asked if asked.run is run), None)
        job = asked.job if asked is not None else None
        if job is None or not self._has_function(run, line, request):
            return None
        self.verbs.setdefault(id(run), set()).add(request.verb)
        return call_of(job, request)

    # ---------------------------------------------------------------------- the end

    async def _judge(self, index: int) -> None:
        """The connection is about to end: all replies come, and what follows from them."""
        if self.monitor is None:
            return
        before = self.server.polls
        for _ in range(_SETTLED):
            while self.late.write_next():
                pass
            await self._settle(index)
            if self._is_polled and self.server.polls < before + 3:
                await asyncio.sleep(_POLL_SECONDS)
        for asked in self._asked:
            if (wrong := self._verdict(asked, index)) is None:
                self.right += 1
            else:
                self.wrong.append(f"{asked.run.id}#{asked.run.generation}: {wrong}")

    @property
    def _is_polled(self) -> bool:
        """Some ends of such a QEMU come without an event."""
        return self.transcript.version < (2, 12, 0)

    def _verdict(self, asked: Asked, index: int) -> str | None:
        """None if what the client was told of that job is true; a late answer may be about a later
        run of its id."""
        if asked.answered is None:
            return "unanswered"
        later = (
            run
            for run in self.runs
            if run.id == asked.run.id and asked.run.begun < run.begun <= asked.answered
        )
        verdicts = [self._verdict_of_run(asked, run, index) for run in (asked.run, *later)]
        return None if None in verdicts else verdicts[0]

    def _verdict_of_run(self, asked: Asked, run: Run, index: int) -> str | None:
        gone = None if run.lost else run.gone if run.gone is not None else run.end
        is_late = gone is not None and asked.answered is not None and gone < asked.answered
        when = f"asked at {asked.line}, answered at {asked.answered}, "
        when += f"ended at {run.end}, gone at {gone}"
        if asked.job is None:
            error = asked.task.exception()
            # A start that is refused late has a run of a moment.
            is_over = is_late or (
                asked.answered is not None and (run.end or index) < asked.answered
            )
            is_true = isinstance(error, blockjob.NoJob) and is_over
            return None if is_true else f"{error!r}: {when}"
        outcome = asked.job.outcome
        told = f"{outcome} ({asked.job.error})"
        ends = run.end is not None and not run.lost and run.end < index
        truths = self.truths(run) if asked.is_started else (*run.seen_outcomes, *run.outcomes)
        if outcome is None:
            return f"{'a ghost' if is_late else 'never told its end'}: {when}" if ends else None
        if str(outcome) not in truths:
            return f"{'a ghost, ' * is_late}told {told}, not {'/'.join(truths)}: {when}"
        is_early = asked.told is not None and asked.told < (run.end or 0)
        return f"told {told} at {asked.told}, before its end: {when}" if is_early else None


async def play_late(
    transcript: Transcript, mode: str, most: int = MOST_LATE
) -> tuple[int, list[str]]:
    """How many jobs were told truly, and what was wrong of the others."""
    player = LatePlayer(transcript, mode, most)
    await asyncio.wait_for(player.play(), 20 * PATIENCE)
    return player.right, player.wrong


async def play_all(data: Path, mode: str, most: int) -> None:
    right = 0
    wrong: list[str] = []
    for path in transcripts(data):
        transcript = Transcript(path)
        told, untold = await play_late(transcript, mode, most)
        right += told
        wrong += untold
        for what in untold:
            print(f"{mode} {transcript.name} {what}")
    print(f"{mode}: {right} of {right + len(wrong)} jobs are told as they were")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--most", type=int, default=MOST_LATE)
    parser.add_argument("mode", nargs="*", default=MODES)
    options = parser.parse_args()
    for mode in options.mode:
        asyncio.run(play_all(options.data, mode, options.most))


if __name__ == "__main__":
    main()
