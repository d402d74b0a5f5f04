# SPDX-License-Identifier: MIT
# Jobs that move by themselves, as those of a QEMU with a disk and a guest do.
"""How a job moves as time goes by."""

from __future__ import annotations

from dataclasses import dataclass

from jobs import Job


@dataclass(frozen=True)
class Pace:
    """Bytes a second that a job copies and that a guest writes; seconds that a flush takes."""

    rate: int = 0
    dirty: int = 0
    flush: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.rate or self.dirty)


class Motion:
    """One job on its way. It stops where something else stops it: a pause, an end."""

    def __init__(self, job: Job, pace: Pace) -> None:
        self._job = job
        self._pace = pace
        self._flushing = pace.flush

    @property
    def over(self) -> bool:
        return self._job.status in ("waiting", "pending", "aborting", "concluded", "null")

    def tick(self, seconds: float) -> None:
        job = self._job
        if job.status not in ("running", "ready"):
            return
        job.progress(min(job.length, job.offset + self._step(seconds)), None)
        if job.status == "running" and job.offset == job.length:
            self._flushing -= seconds
            if self._flushing < 0:
                job.ready() if job.can_ready else job.finish()
        if not self.over and job.can_ready:
            job.dirtied(int(self._pace.dirty * seconds))

    def _step(self, seconds: float) -> int:
        rate = min(self._pace.rate, self._job.speed or self._pace.rate)
        return int(rate * seconds) + 1 if rate else 0
