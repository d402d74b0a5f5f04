# SPDX-License-Identifier: MIT
"""What a monitor, a job and a group are in both front-ends: what is known at once, and what can be
asked.

A method `_ask_...` asks; the front-end's method of that name waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from . import _core
from ._calls import (
    Call,
    Ending,
    HasFileno,
    Start,
    checked,
    descriptors,
    encode,
    encode_any,
    milliseconds,
    set_reconnect,
    take_info,
    take_infos,
    take_job,
    take_jobs,
    take_json,
    take_nothing,
    take_outcome,
    take_outcome_so_far,
)
from ._errors import Error, ErrorCode, InvalidArgument, check
from ._records import MOMENTS, JobInfo, Outcome, Timeline, make_outcome, make_timeline

T = TypeVar("T")
J = TypeVar("J", bound="JobBase")


class MonitorBase:
    """The control channel to one QEMU, qemu-storage-daemon or libvirt domain."""

    def __init__(self, handle: _core.bj_monitor) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        version = f" of QEMU {self.qemu_version}" if self.qemu_version else ""
        error = self._why_not_open()
        state = f", {ErrorCode(error).name.lower()}" if error else ""
        name = self.uri if self.name == self.uri else f"{self.name} ({self.uri})"
        return f"<Monitor {name}{version}{state}>"

    def _why_not_open(self) -> int:
        """0 while it is connected."""
        return min(0, _core.monitor_has_command(self._handle, ""))

    @property
    def uri(self) -> str:
        """What it was connected to."""
        return _core.monitor_uri(self._handle)

    @property
    def name(self) -> str:
        """What `connect()` was told to call it; the uri if it was not."""
        return _core.monitor_name(self._handle)

    @property
    def qemu_version(self) -> str:
        """ "7.2.22", as the greeting had it; "" for a libvirt domain, which does not report it.

        For display: to decide, ask `has_command()`.
        """
        return _core.monitor_qemu_version(self._handle)

    def has_command(self, command: str) -> bool:
        """Whether this QEMU has that command. Answers at once, by what QEMU said on connecting."""
        answer = checked(lambda: _core.monitor_has_command(self._handle, command))
        check(answer)
        return answer == 1

    def set_reconnect(self, seconds: float | None) -> None:
        """From now on a connection that ends is made again, tried for so long each time.

        `math.inf` never gives up; 0 or None, as it is at first, never tries. Waits on jobs, their
        timeouts and their streams go on through it. Then QEMU is asked what became of each job:
        still listed, it goes on; concluded, it has its outcome; gone, or when another process has
        the socket, it is `Outcome.LOST`, never a success. Commands under way, and those given
        before it is connected again, raise `Disconnected`. `events()` reports both moments.

        A libvirt domain is known by its UUID. When a persistent one stops, its jobs are lost at
        once, and the monitor waits, within the same limit, until it is started again. One that was
        transient, was undefined or has migrated is gone, and the monitor with it.

        Raises `InvalidArgument` for a monitor of "fd:N" or of a `virDomain`, which can't be made
        again; `Closed`, `Disconnected` or `ProtocolError` when the monitor is over already.
        """
        set_reconnect(self._handle, seconds)

    def _ask_execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None,
        keywords: Mapping[str, Any],
        files: Iterable[int | HasFileno],
        out_of_band: bool,
        timeout: float | None,
    ) -> Call[Any]:
        text = encode(command, keywords, arguments)
        limit = milliseconds(timeout)

        def ask() -> _core.bj_future:
            options = descriptors(command, files), out_of_band
            return _core.monitor_execute_with(self._handle, command, text, options, limit)

        return Call(ask, take_json)

    def _ask_start(
        self,
        command: str,
        arguments: Mapping[str, Any] | None,
        keywords: Mapping[str, Any],
        timeout: float | None,
    ) -> Call[_core.bj_job]:
        text = encode(command, keywords, arguments)
        limit = milliseconds(timeout)
        return Start(lambda: _core.monitor_start(self._handle, command, text, limit), take_job)

    def _ask_mirror(
        self,
        device: str,
        target: str,
        sync: str,
        options: Mapping[str, Any],
        timeout: float | None,
    ) -> Call[_core.bj_job]:
        text = encode("mirror", options)
        limit = milliseconds(timeout)
        return Start(
            lambda: _core.monitor_mirror(self._handle, device, target, sync, text, limit), take_job
        )

    def _ask_commit(
        self, device: str, options: Mapping[str, Any], timeout: float | None
    ) -> Call[_core.bj_job]:
        text = encode("commit", options)
        limit = milliseconds(timeout)
        return Start(lambda: _core.monitor_commit(self._handle, device, text, limit), take_job)

    def _ask_stream(
        self, device: str, options: Mapping[str, Any], timeout: float | None
    ) -> Call[_core.bj_job]:
        text = encode("stream", options)
        limit = milliseconds(timeout)
        return Start(lambda: _core.monitor_stream(self._handle, device, text, limit), take_job)

    def _ask_backup(
        self,
        device: str,
        target: str,
        sync: str,
        options: Mapping[str, Any],
        timeout: float | None,
    ) -> Call[_core.bj_job]:
        text = encode("backup", options)
        limit = milliseconds(timeout)
        return Start(
            lambda: _core.monitor_backup(self._handle, device, target, sync, text, limit), take_job
        )

    def _ask_transaction(
        self, actions: Iterable[Mapping[str, Any]], grouped: bool, timeout: float | None
    ) -> Call[list[_core.bj_job]]:
        text = encode_any("transaction", checked(lambda: [dict(action) for action in actions]))
        flags = _core.TRANSACTION_GROUPED if grouped else _core.TRANSACTION_EACH
        limit = milliseconds(timeout)
        return Start(lambda: _core.monitor_transaction(self._handle, text, flags, limit), take_jobs)

    def _ask_attach(self, job_id: str, timeout: float | None) -> Call[_core.bj_job]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.monitor_attach(self._handle, job_id, limit), take_job)

    def _ask_jobs(self, timeout: float | None) -> Call[list[JobInfo]]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.monitor_list(self._handle, limit), take_infos)

    def _ask_closed(self) -> Ending:
        return Ending(lambda: _core.monitor_closed(self._handle))

    def _ask_close(self) -> Ending:
        def ask() -> _core.bj_future:
            _core.monitor_close(self._handle)
            return _core.monitor_closed(self._handle)

        return Ending(ask)

    def _is_of_parent(self) -> bool:
        """After a fork(): then it is the parent's to close."""
        return self._why_not_open() == _core.E_FORKED

    def _open_watch(self, names: Sequence[str]) -> _core.bj_watch:
        answer = checked(lambda: _core.monitor_watch_events(self._handle, names))
        if answer[0] == _core.E_INVAL:
            raise InvalidArgument("events() takes up to 1,024 names, none of which is empty")
        return _opened(answer)

    def _open_jobs_watch(
        self, progress: float | None, remembered: Iterable[str], memos: bool
    ) -> _core.bj_watch:
        kept = checked(lambda: list(remembered))
        options = (_interval(progress), kept, memos)
        answer = checked(lambda: _core.monitor_watch_jobs(self._handle, options))
        if answer[0] == _core.E_INVAL:
            _check_memos(kept)
        return _opened(answer)


class JobBase:
    """One run of one block job.

    Two are equal (`==`) if they are the same run, however the program came to them: started,
    attached to, or out of `JobChange.job`.
    """

    def __init__(self, handle: _core.bj_job) -> None:
        self._handle = handle

    def __repr__(self) -> str:
        outcome = self.outcome
        state = str(outcome) if outcome else "ready" if self.is_ready else "running"
        return f"<Job {self.id!r} {self.type} {state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobBase) and self._handle == other._handle

    def __hash__(self) -> int:
        return hash(self._handle)

    @property
    def id(self) -> str:
        """QEMU's id of the job. It may be used again; each run is a Job of its own."""
        return _core.job_id(self._handle)

    @property
    def type(self) -> str:
        """ "mirror", "commit", "stream", "backup", ...; "" until QEMU has reported it.

        "migration" is a copy that libvirt makes to migrate the domain: it can only be awaited.
        """
        return _core.job_type(self._handle)

    @property
    def disks(self) -> list[str]:
        """The disks of a libvirt domain that it works on, by their targets.

        One, or those of a backup, which is one job. Of a job in QEMU there are none.
        """
        disks: list[str] = []
        while (disk := _core.job_disk(self._handle, len(disks))) is not None:
            disks.append(disk)
        return disks

    @property
    def memo(self) -> str:
        """What a program keeps of the job to find it again in its next life, by
        `Monitor.watch_jobs(remembered=...)`: a line of at most 8,191 printable ASCII characters.

        It changes while the job goes on: keep the latest (`ChangeKind.MEMO`), from the start on
        until QEMU has let go of the job: RELEASED, and the memo is "". A job whose connection has
        ended, or was closed, keeps its memo.
        """
        length, memo = _core.job_memo(self._handle)
        check(length)
        return memo

    @property
    def is_ready(self) -> bool:
        """Whether it has ever been ready."""
        return _core.job_is_ready(self._handle)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on."""
        return make_outcome(_core.job_outcome(self._handle))

    @property
    def error(self) -> str:
        """Why it FAILED, in QEMU's words, or was LOST; else "".

        Of a job that COMPLETED it says so where it is unknown whether the disk was switched.
        """
        return _core.job_text(self._handle)

    @property
    def timeline(self) -> Timeline:
        """When things happened to it."""
        # The latest first: where one is known, those before it are.
        times = [_core.job_time(self._handle, moment) for moment in reversed(MOMENTS)]
        check(min(0, *times))
        return make_timeline(times[::-1])

    def _ask_ready(self, timeout: float | None) -> Call[None]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_ready(self._handle, limit), take_nothing)

    def _ask_done(self, released: bool, timeout: float | None) -> Call[Outcome]:
        flags = _done_flags(released)
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_done(self._handle, flags, limit), take_outcome)

    def _ask_pivot(
        self, only_if_ready: bool, wait: bool, released: bool, timeout: float | None
    ) -> Call[Outcome | None]:
        _check_until(wait, released)
        flags = _core.PIVOT_ONLY_IF_READY if only_if_ready else _core.PIVOT_WAIT_READY
        flags |= 0 if wait else _core.PIVOT_ASYNC
        flags |= _core.PIVOT_RELEASED if released else 0
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_pivot(self._handle, flags, limit), take_outcome_so_far)

    def _ask_finish(self, released: bool, timeout: float | None) -> Call[Outcome]:
        flags = _core.FINISH_RELEASED if released else _core.FINISH_OVER
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_finish(self._handle, flags, limit), take_outcome)

    def _ask_abort(
        self,
        force: bool,
        wait: bool,
        released: bool,
        force_after: float | None,
        timeout: float | None,
    ) -> Call[Outcome | None]:
        limit = milliseconds(timeout)
        flags = _abort_flags(force, wait, released)
        if force_after is None:
            return Call(lambda: _core.job_abort(self._handle, flags, limit), take_outcome_so_far)
        if force or released or not wait:
            raise InvalidArgument(
                "force_after goes with none of force=True, wait=False and released=True"
            )
        delay = milliseconds(force_after, "force_after")
        return Call(
            lambda: _core.job_abort_escalate(self._handle, delay, limit), take_outcome_so_far
        )

    def _ask_pause(self, timeout: float | None) -> Call[None]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_pause(self._handle, limit), take_nothing)

    def _ask_resume(self, timeout: float | None) -> Call[None]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_resume(self._handle, limit), take_nothing)

    def _ask_set_speed(self, bytes_per_second: int, timeout: float | None) -> Call[None]:
        limit = milliseconds(timeout)
        return Call(
            lambda: _core.job_set_speed(self._handle, bytes_per_second, limit), take_nothing
        )

    def _ask_finalize(self, timeout: float | None) -> Call[Outcome]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_finalize(self._handle, limit), take_outcome)

    def _ask_dismiss(self, timeout: float | None) -> Call[None]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_dismiss(self._handle, limit), take_nothing)

    def _ask_change(self, options: Mapping[str, Any], timeout: float | None) -> Call[None]:
        text = encode("change", options)
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_change(self._handle, text, limit), take_nothing)

    def _ask_query(self, timeout: float | None) -> Call[JobInfo]:
        limit = milliseconds(timeout)
        return Call(lambda: _core.job_query(self._handle, limit), take_info)

    def _open_watch(self, progress: float | None) -> _core.bj_watch:
        return _opened(_core.job_watch(self._handle, _interval(progress)))


def require_jobs(kind: type[J], jobs: Iterable[J]) -> tuple[J, ...]:
    """The jobs of a group, of one front-end."""
    given = checked(lambda: tuple(jobs))
    if not given:
        raise InvalidArgument("a group needs at least one job")
    for job in given:
        if not isinstance(job, kind):
            raise InvalidArgument(f"a group has jobs, all asyncio's or all sync's, not {job!r}")
    return given


class GroupBase(Generic[J]):
    """Several jobs that are awaited, pivoted or given up together."""

    def __init__(self, jobs: tuple[J, ...], ctx: _core.bj_ctx) -> None:
        error, handle = _core.group_new(ctx)
        check(error)
        assert handle is not None
        self._handle = handle
        self._jobs = jobs
        for job in jobs:
            error = _core.group_add(handle, job._handle)
            if error == _core.E_INVAL:
                raise InvalidArgument(
                    f"jobs {jobs[0].id} and {job.id} can't be in one group: their monitors are of"
                    " different event loops, or have different limits"
                )
            check(error)

    def __repr__(self) -> str:
        return f"<Group {[job.id for job in self._jobs]}>"

    @property
    def jobs(self) -> tuple[J, ...]:
        """Its jobs, in the order given."""
        return self._jobs

    def _ask_ready(self, timeout: float | None) -> Call[None]:
        limit = milliseconds(timeout)
        return self._call(lambda: _core.group_ready(self._handle, limit), take_nothing)

    def _ask_done(self, released: bool, timeout: float | None) -> Call[tuple[Outcome | None, ...]]:
        flags = _done_flags(released)
        limit = milliseconds(timeout)
        return self._call(lambda: _core.group_done(self._handle, flags, limit), self._take_outcomes)

    def _ask_any(self, released: bool, timeout: float | None) -> Call[J]:
        flags = _done_flags(released)
        limit = milliseconds(timeout)
        return self._call(lambda: _core.group_any(self._handle, flags, limit), self._take_decider)

    def _ask_pivot(self, timeout: float | None) -> Call[Outcome]:
        limit = milliseconds(timeout)
        return self._call(lambda: _core.group_pivot(self._handle, limit), take_outcome)

    def _ask_abort(
        self, force: bool, wait: bool, released: bool, timeout: float | None
    ) -> Call[tuple[Outcome | None, ...]]:
        flags = _abort_flags(force, wait, released)
        limit = milliseconds(timeout)
        return self._call(
            lambda: _core.group_abort(self._handle, flags, limit), self._take_outcomes
        )

    def _call(
        self, ask: Callable[[], _core.bj_future], take: Callable[[_core.bj_future], T]
    ) -> Call[T]:
        return GroupCall(ask, take, self._find_decider)

    def _take_outcomes(self, _future: _core.bj_future) -> tuple[Outcome | None, ...]:
        return tuple(job.outcome for job in self._jobs)

    def _take_decider(self, future: _core.bj_future) -> J:
        job = self._find_decider(future)
        assert job is not None
        return job

    def _find_decider(self, future: _core.bj_future) -> J | None:
        handle = _core.future_job(future)
        return next((job for job in self._jobs if job._handle == handle), None)


class GroupCall(Call[T]):
    """A wait on a group: its error names the job that decided."""

    __slots__ = ("_find_decider",)

    def __init__(
        self,
        ask: Callable[[], _core.bj_future],
        take: Callable[[_core.bj_future], T],
        find_decider: Callable[[_core.bj_future], JobBase | None],
    ) -> None:
        super().__init__(ask, take)
        self._find_decider = find_decider

    def answer(self, future: _core.bj_future) -> T:
        try:
            return super().answer(future)
        except Error as error:
            error.job = self._find_decider(future)
            raise


def _opened(answer: tuple[int, _core.bj_watch | None]) -> _core.bj_watch:
    error, watch = answer
    check(error)
    assert watch is not None
    return watch


def _check_memos(memos: list[str]) -> None:
    for i, memo in enumerate(memos):
        error, why = _core.memo_check(memo)
        if error == _core.E_INVAL:
            raise InvalidArgument(f"remembered[{i}]: {why}")


def _interval(progress: float | None) -> int:
    """The least time between two records of a job's progress; 0 for None, no such records."""
    if progress is None:
        return 0
    interval = milliseconds(progress, "interval")
    if interval <= 0:
        raise InvalidArgument(f"interval must be more than 0 seconds, not {progress!r}")
    return interval


def _done_flags(released: bool) -> int:
    return _core.DONE_RELEASED if released else _core.DONE_OVER


def _abort_flags(force: bool, wait: bool, released: bool) -> int:
    _check_until(wait, released)
    flags = _core.ABORT_FORCE if force else _core.ABORT_SOFT
    flags |= 0 if wait else _core.ABORT_ASYNC
    return flags | _core.ABORT_RELEASED if released else flags


def _check_until(wait: bool, released: bool) -> None:
    if released and not wait:
        raise InvalidArgument("released=True waits for the end: it does not go with wait=False")
