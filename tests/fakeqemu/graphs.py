# SPDX-License-Identifier: MIT
# The graph of nodes, as a job changes it: since 10.0 each change sends all other jobs to standby,
# or paused, and back, which with many jobs is a flood.
"""What changes of the graph do to other jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from commands import Version
from profiles import Profile


class Pausable(Protocol):
    def enter_pause(self) -> None: ...

    def leave_pause(self) -> None: ...


@dataclass(frozen=True)
class Changes:
    """How often a kind of job changes the graph so that others notice."""

    before_created: int = 0
    before_running: int = 0
    completed: int = 0
    cancelled: int = 0
    gone: int = 0


# As measured on 7.2, 10.0 and 11.1; those between may differ.
_SINCE: dict[Version, dict[str, Changes]] = {
    (7, 2): {"backup": Changes(before_created=1)},
    (10, 0): {
        "mirror": Changes(2, 2, 5, 4, 1),
        "commit": Changes(2, 2, 5, 4, 1),
        "backup": Changes(5, 1, 3, 3, 1),
        "stream": Changes(3, 2, 2, 2, 2),
    },
    (11, 0): {"stream": Changes(2, 2, 3, 3, 1)},
}


def _changes(version: Version, kind: str) -> Changes:
    found = Changes()
    for since, changes in _SINCE.items():
        if since <= version:
            found = changes.get(kind, found)
    return found


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
        self._changes = _changes(profile.version, kind)
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
        bounce(self._others() if times else [], times)
