#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Plays transcripts at a test in another language, which is told what to do line by line.
"""pipe.py [--acks FD] MODE/VERSION/SCENARIO...: plays these one after the other.

It writes lines of words that tabs part; after those with a * it waits for a line, on its standard
input or FD, which must be "ok".

    play      MODE/VERSION/SCENARIO
    connect*  URI                        the transcript's QEMU listens there
    attach*   RUN ID                     RUN is a number for each run of a job, from 0 on
    start     RUN CALL COMMAND ARGUMENTS CALL is a number for each thing that is asked
    verb      RUN CALL VERB NUMBER       complete, cancel, force, pause, resume, set-speed, finalize
                                         or dismiss by the job's function; NUMBER is the speed
    execute   CALL COMMAND ARGUMENTS     ARGUMENTS may be empty
    replied*  CALL accepted|refused      QEMU's reply has been sent: the call is over, and so
    ready*    RUN                        it is ready
    over*     RUN OUTCOMES TEXT          it is over: one of OUTCOMES (with commas); why it failed
    gone*     LEAST MOST                 the connection has ended, after so many events, of which
                                         some may be made up; all calls are over
    end
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TextIO

from oracle import Run
from replay import Mismatch, Player, find
from transcript import Line, Request, command_of


class PipeClient:
    """Has what it is told done at the other end of the pipe."""

    def __init__(self, acks: TextIO) -> None:
        self._acks = acks
        self.player: Player
        self._events = 0
        self._keys: dict[int, int] = {}
        self._waits: set[int] = set()

    def _key(self, run: Run) -> int:
        return self._keys.setdefault(id(run), len(self._keys))

    @staticmethod
    def _say(*words: object) -> None:
        print(*words, sep="\t", flush=True)

    async def _ask(self, *words: object) -> None:
        self._say(*words)
        answer = await asyncio.to_thread(self._acks.readline)
        if answer.strip() != "ok":
            raise Mismatch(f"{words}: {answer!r}")

    async def connect(self, uri: str) -> None:
        self._events = 0
        await self._ask("connect", uri)

    async def attach(self, run: Run) -> None:
        await self._ask("attach", self._key(run), self.player.server.names.get(run.id, run.id))

    async def start(self, run: Run, line: Line, own: bool) -> None:
        arguments = self.player.start_arguments(run, line, own)
        command = command_of(line.message)
        self._say("start", self._key(run), line.index, command, json.dumps(arguments))

    async def verb(self, run: Run, line: Line, request: Request) -> None:
        if request.verb in ("complete", "finalize"):
            self._waits.add(line.index)  # over when the job is
        self._say("verb", self._key(run), line.index, request.verb, request.detail or 0)

    async def execute(self, line: Line) -> None:
        arguments = line.message.get("arguments")
        text = "" if arguments is None else json.dumps(arguments)
        self._say("execute", line.index, command_of(line.message), text)

    async def replied(self, line: Line) -> None:
        if line.index not in self._waits:
            await self._ask("replied", line.index, "accepted" if line.accepted else "refused")

    async def said(self, line: Line) -> None:
        self._events += 1

    def unready(self, run: Run) -> None:
        """That is looked at where the client is in this process."""

    def alive(self, run: Run) -> None:
        """As unready()."""

    async def reconnected(self) -> None:
        raise Mismatch("nobody reconnects here")

    async def ready(self, run: Run) -> None:
        await self._ask("ready", self._key(run))

    async def over(self, run: Run, outcomes: tuple[str, ...]) -> None:
        text = "" if run.error == "?" or run.silent else run.error
        await self._ask("over", self._key(run), ",".join(outcomes), text)

    async def disconnected(self) -> None:
        if self._events >= 0:
            made_up = sum(run.silent or run.ready_by_row for run in self.player.runs)
            await self._ask("gone", self._events, self._events + made_up)
        self._events = -1


async def play(name: str, acks: TextIO) -> None:
    mode, transcript = name.split("/", 1)
    print("play", name, sep="\t", flush=True)
    client = PipeClient(acks)
    client.player = Player(find(transcript), mode, client)
    await client.player.play()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--acks", type=int, default=0)
    parser.add_argument("transcripts", nargs="+")
    options = parser.parse_args()
    with open(options.acks, encoding="utf-8") as acks:
        for name in options.transcripts:
            asyncio.run(play(name, acks))
    print("end", flush=True)


if __name__ == "__main__":
    main()
