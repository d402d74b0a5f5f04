# SPDX-License-Identifier: MIT
# Jobs that were started by one transaction and end together, or not at all.
"""The model of a transaction's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs import Job


class Group:
    """The jobs of a transaction that end together; most jobs are alone in theirs."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def add(self, job: Job) -> None:
        self._jobs.insert(0, job)  # QEMU goes through them from the newest to the oldest

    def waits(self) -> None:
        """One of them is done, and waits for the others."""
        if any(job.status != "waiting" for job in self._jobs):
            return
        for job in self._jobs:
            job.pend()
        if all(job.auto_finalize for job in self._jobs):
            self.conclude()

    def conclude(self) -> None:
        for job in self._jobs:
            job.conclude()

    def abort(self) -> None:
        """One of them has failed or was cancelled: so are all others."""
        for job in self._jobs:
            job.given_up = True
        for job in self._jobs:
            job.stop()
            job.conclude()
