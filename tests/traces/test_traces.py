# SPDX-License-Identifier: MIT
# Transcripts of real QEMUs, from RHEL 6 on, played at the Python package; see README.md.

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from client import play
from replay import ACT, MODES, OBSERVE, OWN_NAMES, Mismatch
from transcript import Transcript, transcripts
from variants import moments, replies_first, replies_last, without_timestamps

# Everything takes minutes; without this each transcript is played in one of the ways.
EVERYTHING = os.environ.get("BLOCKJOB_TRACES") == "all"

VERSIONS = list(dict.fromkeys(path.parent.name for path in transcripts()))
each_version = pytest.mark.parametrize("version", VERSIONS)


@dataclass
class Play:
    transcript: Transcript
    mode: str
    begin: int = 0
    reconnects: bool = False

    def __str__(self) -> str:
        return f"{self.mode} {self.transcript.name}" + f" from {self.begin}" * bool(self.begin)


def of_version(version: str, step: int = 1) -> Iterator[tuple[int, Path]]:
    """Its transcripts, with a number each; every `step`th if not everything is played."""
    paths = [path for path in transcripts() if path.parent.name == version]
    yield from enumerate(paths[:: 1 if EVERYTHING else step])


def ways(number: int, modes: Iterable[str]) -> list[str]:
    """All, or those in turn."""
    modes = list(modes)
    return modes if EVERYTHING else [modes[number % len(modes)]]


def check(plays: Iterable[Play]) -> None:
    """Plays them all, and tells of all that mismatch."""

    async def run() -> list[str]:
        wrong = []
        for each in plays:
            try:
                await play(each.transcript, each.mode, each.begin, each.reconnects)
            except Mismatch as mismatch:
                wrong.append(f"{each}: {mismatch}")
        return wrong

    wrong = asyncio.run(run())
    assert not wrong, "\n".join(wrong)


@each_version
def test_b59_transcripts_are_told_as_they_were(version: str) -> None:
    check(
        Play(Transcript(path), mode)
        for number, path in of_version(version)
        for mode in ways(number, MODES)
    )


@each_version
def test_b51_who_comes_late_finds_the_jobs(version: str) -> None:
    for number, path in of_version(version, 2):
        transcript = Transcript(path)
        found = moments(transcript)
        begins = found if EVERYTHING or not found else [found[number % len(found)]]
        check(Play(transcript, OBSERVE, begin) for begin in begins)


@each_version
def test_b02_replies_come_before_all_that_comes_of_them_or_after(version: str) -> None:
    for number, path in of_version(version, 3):
        transcript = Transcript(path)
        modes = ways(number, MODES)
        check(Play(replies_first(transcript), mode) for mode in modes)
        # QEMU does not let go of a job of ours before its last verb is answered.
        check(Play(replies_last(transcript), mode) for mode in modes if mode != OWN_NAMES)


@each_version
def test_b50_events_have_no_timestamps(version: str) -> None:
    check(Play(without_timestamps(Transcript(path)), ACT) for _, path in of_version(version, 8))


@each_version
def test_b46_the_connection_is_made_again(version: str) -> None:
    check(
        Play(Transcript(path), mode, reconnects=True)
        for _, path in of_version(version)
        for mode in MODES
        if path.stem in ("reconnect_midjob", "gone_and_back")
    )
