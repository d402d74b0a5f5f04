# SPDX-License-Identifier: MIT
# The graph of nodes, as a job changes it: since 10.0 each change sends all other jobs to standby,
# or paused, and back, which with many jobs is a flood.
"""What changes of the graph do to other jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from profiles import Profile


class Pausable(Protocol):
    def enter_pause(self) -> None: ...

    def leave_pause(self) -> None: ...


@dataclass(frozen=True)
class Changes:
    """How often a kind of job changes the graph: measured on 10.0 and 11.1."""

    before_created: int
    before_running: int
    completed: int
    cancelled: int
    gone: int


_CHANGES = {
    "mirror": Changes(2, 2, 5, 4, 1),
    "commit": Changes(2, 2, 5, 4, 1),
    "backup": Changes(5, 1, 3, 3, 1),
    "stream": Changes(2, 2, 3, 3, 1),
    "create": Changes(0, 0, 0, 0, 0),
}
_STREAM_10 = Changes(3, 2, 2, 2, 2)


def bounce(jobs: list[Pausable], times: int) -> None:
    """Sends these jobs to standby (or paused) and back."""
    for _ in range(times):
        for job in jobs:
            job.enter_pause()
        for job in jobs:
            job.leave_pause()


class Graph:
    """The graph, for one job: `others` are those that notice its changes."""

    def __init__(self, profile: Profile, kind: str, others: Callable[[], list[Pausable]]) -> None:
        self._profile = profile
        self._changes = _CHANGES[kind]
        if kind == "stream" and not profile.creation_drains:
            self._changes = _STREAM_10
        self._others = others

    def create(self, action: Callable[[], None]) -> None:
        self._bounce(self._changes.before_created)
        others = self._others() if self._profile.creation_drains else []
        for job in others:
            job.enter_pause()
        action()
        for job in others:
            job.leave_pause()

    def run(self) -> None:
        self._bounce(self._changes.before_running)

    def conclude(self, cancelled: bool) -> None:
        self._bounce(self._changes.cancelled if cancelled else self._changes.completed)

    def vanish(self) -> None:
        self._bounce(self._changes.gone)

    def _bounce(self, times: int) -> None:
        if self._profile.graph_bounces:
            bounce(self._others(), times)
