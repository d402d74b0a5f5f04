# SPDX-License-Identifier: MIT
"""What the library reports: outcomes, QEMU's events, progress, rows of jobs, records of a watch.

Plain values that never change. Times are seconds since 1970, sizes are in bytes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from . import _core

if TYPE_CHECKING:
    from ._errors import Error

J = TypeVar("J")


class Outcome(enum.Enum):
    """How a run of a job ended. It is latched once and never changes after."""

    COMPLETED = _core.OUTCOME_COMPLETED
    """Stream, commit, backup, ... finished. Of a mirror or an active commit: another client may
    have had it finished, and whether the disk was switched is unknown."""

    PIVOTED = _core.OUTCOME_PIVOTED
    """The disk was switched to the copy, or to the base."""

    COPIED = _core.OUTCOME_COPIED
    """A ready mirror was cancelled softly: the target is a consistent copy of that moment; the disk
    was not switched."""

    CANCELLED = _core.OUTCOME_CANCELLED
    """Cancelled; the target is worthless."""

    FAILED = _core.OUTCOME_FAILED
    """Failed, for the reason that QEMU gave."""

    LOST = _core.OUTCOME_LOST
    """Unknown: the connection ended, or the job vanished unseen."""

    def __repr__(self) -> str:
        return f"Outcome.{self.name}"

    def __str__(self) -> str:
        return self.name


class EventKind(enum.Enum):
    """Who an `Event` comes from."""

    QEMU = _core.RECORD_EVENT
    """QEMU's."""
    DISCONNECTED = _core.RECORD_DISCONNECTED
    """The library's: the connection has ended, and `Event.error` says why. It will be made again,
    if the monitor is to reconnect; else the stream is over."""
    RECONNECTED = _core.RECORD_RECONNECTED
    """The library's: there is a connection again. What QEMU sent in between is lost for good."""

    def __repr__(self) -> str:
        return f"EventKind.{self.name}"


class Event(NamedTuple):
    """An event as QEMU sent it; or, of a monitor that reconnects, the end of its connection and the
    beginning of the next, which have no name."""

    name: str
    """ "BLOCK_JOB_READY", ...; "" where `kind` is not `EventKind.QEMU`."""
    data: dict[str, Any]
    """QEMU's own words; integers of thousands of digits are `Decimal`."""
    timestamp: float
    """QEMU's own clock; 0.0 if it gave none."""
    lost: int = 0
    """How many events were dropped just before this one because nobody read them."""
    kind: EventKind = EventKind.QEMU
    error: Error | None = None
    """Why the connection has ended."""


class Progress(NamedTuple):
    """How far a job is."""

    current: int
    total: int
    """Grows while a guest writes, and is more than `current` as long as the job might yet become
    ready."""
    ready: bool = False
    """Ready, and nothing else, says that source and target are equal."""
    stalled: str = ""
    """Why the job stands still or makes no progress, and the remedy; "" while it runs."""

    @property
    def fraction(self) -> float:
        """From 0.0 to 1.0."""
        if self.total > 0:
            return self.current / self.total
        return 1.0 if self.ready else 0.0


class JobInfo(NamedTuple):
    """One row of QEMU's list of jobs; what this QEMU does not report is "", None or False.

    Of a libvirt domain: `id`, `type`, `current`, `total`, `speed` and `ready`.
    """

    id: str
    type: str
    """ "mirror", "commit", "stream", "backup", "create", ...; libvirt's "migration"."""
    status: str
    """ "running", "ready", "paused", ...; "" before QEMU 2.12."""
    error: str
    """Of a job that has concluded."""
    io_status: str
    """ "ok", "failed" or "nospace"."""
    current: int | None
    """Bytes, or another unit for jobs that copy none."""
    total: int | None
    speed: int | None
    """Limit in bytes per second; 0 is none."""
    ready: bool
    paused: bool
    auto_dismiss: bool
    auto_finalize: bool


class Limit(enum.Enum):
    """What a peer, or a slow reader, can make the library use; and how long it waits.

    Set for a monitor by `connect(limits={Limit.POLL: 0.2})`. Times are in seconds.
    """

    MESSAGE_BYTES = _core.LIMIT_MESSAGE_BYTES
    """Of one message from QEMU; 16 MiB."""
    MESSAGE_TOKENS = _core.LIMIT_MESSAGE_TOKENS
    """Of one message; 1,048,576."""
    MESSAGE_NESTING = _core.LIMIT_MESSAGE_NESTING
    """Of one message; 256, at most 1,024."""
    IN_FLIGHT = _core.LIMIT_IN_FLIGHT
    """Commands sent and not answered; 64."""
    QUEUED = _core.LIMIT_QUEUED
    """Commands not sent yet; 1,024."""
    JOBS = _core.LIMIT_JOBS
    """Runs of jobs that are kept track of; 4,096."""
    WATCH_RING = _core.LIMIT_WATCH_RING
    """Events, or records of jobs, that are kept for a stream's reader; 256."""
    CONNECT = _core.LIMIT_CONNECT_MS
    """Each try to connect again, greeting and negotiation included; 10 s."""
    COMMAND = _core.LIMIT_COMMAND_MS
    """A command that the library gives by itself; 60 s."""
    STALL = _core.LIMIT_STALL_MS
    """How long a job may stand still, with nobody known to have paused it, before a waiting pivot
    is told `Stalled`; 1 s."""
    POLL = _core.LIMIT_POLL_MS
    """How often a QEMU that has no event for what is awaited (RHEL 6) is asked instead, while
    someone waits; and libvirt for new jobs, while someone watches all; 0.5 s."""
    CONVERGE = _core.LIMIT_CONVERGE_MS
    """How long a job may make no progress before its streams report why, and how often QEMU is
    asked for that while someone waits for the job or watches it; 10 s."""

    def __repr__(self) -> str:
        return f"Limit.{self.name}"


class Timeline(NamedTuple):
    """When things happened to a job; None if they have not.

    The `*_event` times are QEMU's own, taken from its events; the others are this process's, on the
    same clock.
    """

    start_sent: float | None
    ready_event: float | None
    ready_seen: float | None
    complete_sent: float | None
    complete_accepted: float | None
    end_event: float | None
    end_seen: float | None


class RecordKind(enum.Enum):
    """What a `Record` reports."""

    STATUS = _core.RECORD_STATUS
    """QEMU's own status changed: `status`."""
    READY = _core.RECORD_READY
    """The job is ready; comes once."""
    STALLED = _core.RECORD_STALLED
    """The job stands still, or makes no progress for `Limit.CONVERGE`, which disturbs no wait:
    `text` names the cause and the remedy. Another may follow, when more is known."""
    RESUMED = _core.RECORD_RESUMED
    """It goes on after a stall."""
    PROGRESS = _core.RECORD_PROGRESS
    """`current` and `total`."""
    ENDED = _core.RECORD_ENDED
    """It is over: `outcome`, and `error` as `Job.done()` would raise it."""
    LAGGED = _core.RECORD_LAGGED
    """`lost` records were dropped here because nobody read them."""

    def __repr__(self) -> str:
        return f"RecordKind.{self.name}"


class Record(NamedTuple):
    """One thing that happened to a job; which fields mean something depends on `kind`."""

    kind: RecordKind
    status: str = ""
    current: int = 0
    total: int = 0
    outcome: Outcome | None = None
    error: Error | None = None
    text: str = ""
    lost: int = 0
    timestamp: float = 0.0
    """QEMU's own clock; 0.0 if it gave none."""


class ChangeKind(enum.Enum):
    """What a `JobChange` reports."""

    APPEARED = _core.RECORD_APPEARED
    """There is this job: `started` says whether this library started it. The first of each run. Of
    a remembered one `memo` is what was remembered, and `resumed` says whether it goes on."""
    READY = _core.RECORD_READY
    """The job is ready; comes once."""
    STALLED = _core.RECORD_STALLED
    """The job stands still, or makes no progress for `Limit.CONVERGE`: `text` names the cause and
    the remedy. Another may follow, when more is known."""
    RESUMED = _core.RECORD_RESUMED
    """It goes on after a stall."""
    PROGRESS = _core.RECORD_PROGRESS
    """How far it is has changed: `progress`."""
    ENDED = _core.RECORD_ENDED
    """It is over: `outcome`, and `error` as `Job.done()` would raise it."""
    RELEASED = _core.RECORD_RELEASED
    """QEMU has let go of the job, whose id may be used again, or the connection has ended for good.
    The last of each run."""
    DISCONNECTED = _core.RECORD_DISCONNECTED
    """The connection has ended, and `error` says why. It will be made again."""
    RECONNECTED = _core.RECORD_RECONNECTED
    """There is a connection again, and what became of the jobs has been told."""
    MEMO = _core.RECORD_MEMO
    """The job's `memo` has changed; after APPEARED it is the first. Only if asked for."""

    def __repr__(self) -> str:
        return f"ChangeKind.{self.name}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class JobChange(Generic[J]):
    """One thing that happened to one of a monitor's jobs; or, of a monitor that reconnects, the end
    of its connection and the beginning of the next. Which fields mean something depends on `kind`.
    """

    job: J | None
    """The job, to be acted upon: the same run is equal to itself. None for the two kinds of the
    connection."""
    kind: ChangeKind
    type: str = ""
    """The job's type, "mirror" for example; "" if QEMU does not report it."""
    started: bool = False
    """APPEARED: this library started the job."""
    outcome: Outcome | None = None
    """ENDED: how."""
    error: Error | None = None
    """ENDED: what `Job.done()` would raise, if it would; DISCONNECTED: why."""
    text: str = ""
    """Why the job stands still, FAILED or was LOST; of one that COMPLETED, that it is unknown
    whether the disk was switched."""
    progress: Progress | None = None
    """PROGRESS: how far the job is."""
    timestamp: float = 0.0
    """QEMU's own clock; 0.0 if it gave none."""
    sequence: int = 0
    """1 for the stream's first change, and one more for each, those that were lost included."""
    lost: int = 0
    """How many changes were dropped just before this one because nobody read them."""
    lost_ends: int = 0
    """How many ENDED are among the lost."""
    memo: str = ""
    """MEMO: to be kept; APPEARED: what was remembered, "" of other jobs."""
    resumed: bool = False
    """APPEARED: a remembered job that goes on."""
    inferred: bool = False
    """APPEARED of such a job, ENDED: no event proves it, but all that is known speaks for it."""


def make_outcome(outcome: int) -> Outcome | None:
    """The outcome of a C number; None for a job that has not ended."""
    return None if outcome == _core.OUTCOME_NONE else Outcome(outcome)


def make_info(row: _core._Info) -> JobInfo:
    """A row of the C library, with None for the -1 of a number that is unknown."""
    current, total, speed = (None if number < 0 else number for number in row[5:8])
    return JobInfo(*row[:5], current, total, speed, *row[8:])


MOMENTS = (
    _core.MOMENT_START_SENT,
    _core.MOMENT_READY_EVENT,
    _core.MOMENT_READY_SEEN,
    _core.MOMENT_COMPLETE_SENT,
    _core.MOMENT_COMPLETE_ACCEPTED,
    _core.MOMENT_END_EVENT,
    _core.MOMENT_END_SEEN,
)
"""Those of a `Timeline`."""


def make_timeline(times: list[int]) -> Timeline:
    """The timeline of the C library's times, which are microseconds, and 0 for never."""
    return Timeline(*(time / 1e6 if time else None for time in times))
