# SPDX-License-Identifier: MIT
"""The front-end for plain threads: the same names as in `blockjob`, and every call waits.

    with blockjob.sync.connect("unix:/run/vm1.qmp") as monitor:
        job = monitor.mirror("drive0", target="copy0", sync="full")
        for progress in job.progress():
            print(f"{progress.fraction:.0%}")
        job.pivot(timeout=60)

Monitors, jobs and streams may be used from any thread, a stream by one thread at a time. A wait is
a `select.select()`: other threads run, Ctrl-C interrupts it, and where eventlet or gevent has
patched the standard library it is co-operative. A timeout or an interrupt ends the wait and nothing
else.
"""

from __future__ import annotations

import inspect
import os
import select
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from . import _asyncio, _core
from ._calls import (
    Call,
    Deadline,
    HasFileno,
    Inbox,
    LibvirtDomain,
    Limits,
    Options,
    ask_connect,
    make_limits,
    milliseconds,
    new_context,
)
from ._errors import Closed, Error, ErrorCode, Timeout, check
from ._objects import GroupBase, JobBase, MonitorBase, require_jobs
from ._records import Event, JobChange, JobInfo, Limit, Outcome, Progress, Record
from ._streams import (
    EventReader,
    JobsReader,
    ProgressReader,
    Reader,
    RecordReader,
    StreamBase,
)
from ._trace import Trace, Tracer

__all__ = ["Group", "Job", "Monitor", "Stream", "connect"]

T = TypeVar("T")
C = TypeVar("C", bound=type)


# All monitors of the same limits share a context, which ends with the last of them; a child process
# starts anew. A signal handler or a destructor may connect while its thread holds the lock.
_contexts: weakref.WeakValueDictionary[tuple[int, Limits], _Context]
_contexts = weakref.WeakValueDictionary()
_contexts_lock = threading.RLock()


def _renew_lock() -> None:
    """In a child: a thread that was not forked may have held it."""
    global _contexts_lock
    _contexts_lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class _Context:
    """The library's context of this process."""

    def __init__(self, limits: Limits) -> None:
        self.handle = new_context(limits)

    @classmethod
    def of_process(cls, limits: Limits) -> _Context:
        key = (os.getpid(), limits)
        with _contexts_lock:
            context = _contexts.get(key)
            if context is None:
                context = _contexts.setdefault(key, cls(limits))
        return context

    def wait(self, call: Call[T], timeout: float | None = None) -> T:
        """The answer, once it is there. To stop waiting stops nothing else."""
        deadline = Deadline(timeout)
        inbox = Inbox(self.handle)
        future = None
        try:
            future = call.ask()
            if not _core.future_is_done(future):
                inbox.expect(future, 0)
                _wait_readable(inbox, deadline)
        except BaseException as error:
            call.give_up(future, error)
            raise
        return call.answer(future)


_PIECE = 3600.0  # seconds: select() takes no number as large as a timeout may be


def _wait_readable(inbox: Inbox, deadline: Deadline) -> None:
    """Waits until there is something to read, but leaves it there."""
    while True:
        rest = deadline.rest()
        piece = None if rest is None else min(rest, _PIECE)
        try:
            readable = bool(select.select([inbox], [], [], piece)[0])
        except ValueError:  # an fd beyond FD_SETSIZE
            poll = select.poll()
            poll.register(inbox, select.POLLIN)
            readable = bool(poll.poll(None if piece is None else milliseconds(piece)))
        if readable:
            return
        if rest == 0:
            text = f"not done within {deadline}; what was waited for goes on"
            raise Timeout(text, code=ErrorCode.TIMEOUT)


def _documented_as(model: type) -> Callable[[C], C]:
    """Copies docstrings from the asyncio front-end to methods that have none."""

    def document(cls: C) -> C:
        for name, method in vars(cls).items():
            if inspect.isfunction(method) and not method.__doc__:
                method.__doc__ = getattr(getattr(model, name, None), "__doc__", None)
        return cls

    return document


class Stream(StreamBase[T]):
    """What happens, one item at a time: an iterator for one thread.

    It has begun when it was made, so nothing that comes after is missed. A reader that is too slow
    loses the oldest items, learns how many, and affects no other. It keeps its monitor open. It
    ends by itself, by `close()`, at the end of a `with`, or when it is let go. An exception out of
    a signal handler loses no more than the item that is just being returned.
    """

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        item = self._next(None)
        if item is None:
            raise StopIteration
        return item

    def get(self, timeout: float | None = None) -> T:
        """The next item. Raises `Timeout` if none comes in time, `Closed` after the last."""
        item = self._next(timeout)
        if item is None:
            raise Closed(f"the stream of the {self._what} is over", code=ErrorCode.CLOSED)
        return item

    def _next(self, timeout: float | None) -> T | None:
        deadline = Deadline(timeout)
        while (item := self._take()) is None and not self._reader.over:
            if not self._inbox.read_into(self._reader.records):
                _wait_readable(self._inbox, deadline)
        return item

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _ThreadTracer(Tracer):
    """Calls the program on a thread of its own, which lasts as long as the wire."""

    _thread: threading.Thread | None = None

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="blockjob trace", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads
            check(_core.E_SYSTEM)
        self._thread = thread

    def _run(self) -> None:
        while not self.over:
            _wait_readable(self._inbox, Deadline(None))
            self._hand_on()

    def wait(self) -> None:
        """Until the last line has been handed on: the connection is over, or about to be."""
        if self._thread not in (None, threading.current_thread()):
            self._thread.join()


@_documented_as(_asyncio.Job)
class Job(JobBase):
    """One run of one block job. Made by a `Monitor`; letting go of it does nothing to the job.

    Each wait is level-triggered: what has already happened is answered at once; any number of
    threads may wait for the same thing. A timeout, in seconds, or an interrupted wait means "I no
    longer listen": the job goes on. In every wait a job that fails is `JobFailed` with QEMU's text,
    and a connection that ends is `JobLost`.
    """

    def __init__(self, monitor: Monitor, handle: _core.bj_job) -> None:
        super().__init__(handle)
        self._monitor = monitor  # which closes when nobody holds it
        self._wait = monitor._context.wait

    def ready(self, timeout: float | None = None) -> None:
        self._wait(self._ask_ready(timeout))

    def done(self, *, released: bool = False, timeout: float | None = None) -> Outcome:
        return self._wait(self._ask_done(released, timeout))

    @overload
    def pivot(
        self,
        *,
        only_if_ready: bool = False,
        wait: Literal[True] = True,
        released: bool = False,
        timeout: float | None = None,
    ) -> Outcome: ...

    @overload
    def pivot(
        self,
        *,
        only_if_ready: bool = False,
        wait: bool,
        released: bool = False,
        timeout: float | None = None,
    ) -> Outcome | None: ...

    def pivot(
        self,
        *,
        only_if_ready: bool = False,
        wait: bool = True,
        released: bool = False,
        timeout: float | None = None,
    ) -> Outcome | None:
        return self._wait(self._ask_pivot(only_if_ready, wait, released, timeout))

    def finish(self, *, released: bool = False, timeout: float | None = None) -> Outcome:
        return self._wait(self._ask_finish(released, timeout))

    @overload
    def abort(
        self,
        *,
        force: bool = False,
        wait: Literal[True] = True,
        released: bool = False,
        force_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome: ...

    @overload
    def abort(
        self,
        *,
        force: bool = False,
        wait: bool,
        released: bool = False,
        force_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome | None: ...

    def abort(
        self,
        *,
        force: bool = False,
        wait: bool = True,
        released: bool = False,
        force_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome | None:
        return self._wait(self._ask_abort(force, wait, released, force_after, timeout))

    def pause(self, *, timeout: float | None = None) -> None:
        self._wait(self._ask_pause(timeout))

    def resume(self, *, timeout: float | None = None) -> None:
        self._wait(self._ask_resume(timeout))

    def set_speed(self, bytes_per_second: int, *, timeout: float | None = None) -> None:
        self._wait(self._ask_set_speed(bytes_per_second, timeout))

    def finalize(self, *, timeout: float | None = None) -> Outcome:
        return self._wait(self._ask_finalize(timeout))

    def dismiss(self, *, timeout: float | None = None) -> None:
        self._wait(self._ask_dismiss(timeout))

    def change(self, *, timeout: float | None = None, **options: Any) -> None:
        self._wait(self._ask_change(options, timeout))

    def query(self, *, timeout: float | None = 60.0) -> JobInfo:
        return self._wait(self._ask_query(timeout))

    def progress(self, interval: float = 0.5) -> Stream[Progress]:
        """What a progress bar shows, until the job is ready or over:

            for progress in job.progress():
                print(f"{progress.fraction:.0%}")

        QEMU sends no event for progress, so it is asked every `interval` seconds at most, only
        while such a stream is open. A job that stands still says why in `Progress.stalled`. The
        next `pivot()`, `done()` or `outcome` says how the job ended.
        """
        return self._stream("progress", ProgressReader(), interval)

    def watch(self, progress: float | None = None) -> Stream[Record]:
        return self._stream("records", RecordReader(), progress)

    def _stream(self, what: str, reader: Reader[T], interval: float | None) -> Stream[T]:
        ctx = self._monitor._context.handle
        return Stream(
            f"{what} of job {self.id!r}", self, ctx, lambda: self._open_watch(interval), reader
        )


@_documented_as(_asyncio.Group)
class Group(GroupBase[Job]):
    """Several jobs, of one monitor or of many, awaited, pivoted or given up together:

        group = blockjob.sync.Group([boot, data])
        group.pivot(timeout=600)            # both disks are switched, or none

    The monitors are to be connected with the same limits. A timeout or an interrupt ends the wait
    and nothing else. Where a wait raises, `Error.job` is the job that decided it; the others have
    their outcomes themselves.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        jobs = require_jobs(Job, jobs)
        context = jobs[0]._monitor._context
        super().__init__(jobs, context.handle)
        self._wait = context.wait

    def ready(self, timeout: float | None = None) -> None:
        self._wait(self._ask_ready(timeout))

    def done(
        self, *, released: bool = False, timeout: float | None = None
    ) -> tuple[Outcome | None, ...]:
        return self._wait(self._ask_done(released, timeout))

    def any(self, *, released: bool = False, timeout: float | None = None) -> Job:
        return self._wait(self._ask_any(released, timeout))

    def pivot(self, *, timeout: float | None = None) -> Outcome:
        return self._wait(self._ask_pivot(timeout))

    def abort(
        self,
        *,
        force: bool = False,
        wait: bool = True,
        released: bool = False,
        timeout: float | None = None,
    ) -> tuple[Outcome | None, ...]:
        return self._wait(self._ask_abort(force, wait, released, timeout))


@_documented_as(_asyncio.Monitor)
class Monitor(MonitorBase):
    """The control channel to one QEMU or libvirt domain, for any thread.

    It is closed by `close()`, at the end of a `with`, or when it, its jobs and its streams are let
    go. Jobs go on in QEMU. Timeouts are in seconds, None is no limit.
    """

    def __init__(
        self, context: _Context, handle: _core.bj_monitor, tracer: _ThreadTracer | None = None
    ) -> None:
        super().__init__(handle)
        self._context = context
        self._wait = context.wait
        self._tracer = tracer

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._is_of_parent():
            self._wait(self._ask_close())
            if self._tracer is not None:
                self._tracer.wait()

    def closed(self, timeout: float | None = None) -> Error:
        """Waits until the connection is over, however, and returns why.

        That is `Closed`, `Disconnected` or `ProtocolError`; it is returned, not raised. Raises
        `Timeout` if it is not over by then.
        """
        return self._wait(self._ask_closed(), timeout)

    def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        fds: Iterable[int | HasFileno] = (),
        out_of_band: bool = False,
        timeout: float | None = 60.0,
        **keywords: Any,
    ) -> Any:
        return self._wait(
            self._ask_execute(command, arguments, keywords, fds, out_of_band, timeout)
        )

    def mirror(
        self,
        device: str,
        *,
        target: str,
        sync: str = "full",
        timeout: float | None = 60.0,
        **options: Any,
    ) -> Job:
        return Job(self, self._wait(self._ask_mirror(device, target, sync, options, timeout)))

    def commit(self, device: str, *, timeout: float | None = 60.0, **options: Any) -> Job:
        return Job(self, self._wait(self._ask_commit(device, options, timeout)))

    def stream(self, device: str, *, timeout: float | None = 60.0, **options: Any) -> Job:
        return Job(self, self._wait(self._ask_stream(device, options, timeout)))

    def backup(
        self,
        device: str,
        *,
        target: str,
        sync: str = "full",
        timeout: float | None = 60.0,
        **options: Any,
    ) -> Job:
        return Job(self, self._wait(self._ask_backup(device, target, sync, options, timeout)))

    def start(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = 60.0,
        **keywords: Any,
    ) -> Job:
        return Job(self, self._wait(self._ask_start(command, arguments, keywords, timeout)))

    def transaction(
        self,
        actions: Iterable[Mapping[str, Any]],
        *,
        grouped: bool = False,
        timeout: float | None = 60.0,
    ) -> list[Job]:
        handles = self._wait(self._ask_transaction(actions, grouped, timeout))
        return [Job(self, handle) for handle in handles]

    def attach(self, job_id: str, *, timeout: float | None = 60.0) -> Job:
        return Job(self, self._wait(self._ask_attach(job_id, timeout)))

    def jobs(self, *, timeout: float | None = 60.0) -> list[JobInfo]:
        return self._wait(self._ask_jobs(timeout))

    def events(self, *names: str) -> Stream[Event]:
        """Every event of this QEMU from now on, or those of the given names:

            for event in monitor.events("SHUTDOWN", "DEVICE_DELETED"):
                print(event.name, event.data)

        With names, which are spelt as QEMU does, all other events take no room: none of those that
        are named is lost because of them. A name that this QEMU does not have is never seen.

        It ends when the monitor is closed, and raises `Disconnected` or `ProtocolError` when the
        connection ends otherwise. While a monitor reconnects it goes on: the end of one connection
        and the beginning of the next are events of another `Event.kind`, without a name.
        """
        what = f"events of {self.name}"
        return Stream(
            what, self, self._context.handle, lambda: self._open_watch(names), EventReader()
        )

    def watch_jobs(
        self,
        progress: float | None = None,
        remembered: Iterable[str] = (),
        memos: bool = False,
    ) -> Stream[JobChange[Job]]:
        """All jobs of this QEMU, whoever started them: those that it has already, then those to
        come:

            for change in monitor.watch_jobs():
                if change.kind is ChangeKind.ENDED:
                    print(change.job.id, change.outcome)

        Each run of a job has APPEARED, first; READY, STALLED and RESUMED; ENDED with its outcome,
        however short it was; and RELEASED, last. `JobChange.job` can be acted upon. With
        `progress`, that of all jobs is asked for every so many seconds while the stream is open,
        and PROGRESS comes for those where it has changed.

        For a reader that is slow READY and ENDED are kept, of up to `Limit.JOBS` runs; of the other
        kinds the latest are. What was lost is counted in the change after it, ENDED separately. So
        are jobs that appear while QEMU has more than `Limit.JOBS`: those are not followed.

        It ends as `events()` does, once the end of each job has been told. While a monitor
        reconnects it goes on: DISCONNECTED, what became of each job, those that began meanwhile,
        RECONNECTED.

        A program that was away gives the memos that it has kept of its jobs (`Job.memo`), and what
        became of each comes first: APPEARED with the memo, and then what is true of the run now. It
        goes on (`resumed`), as if the program had not been away; or ENDED says how it ended, LOST
        where nothing proves it: because QEMU has ended, the id is another run's by now, or the job
        left no trace. With `memos` each job's memo comes as well, after APPEARED and when it has
        changed: as MEMO, to be kept (see `Job.memo`). A bad memo is `InvalidArgument`, which names
        it.

        QEMU reports a new job since 3.0. An older one, and libvirt, are asked for their list every
        `Limit.POLL` while such a stream is open: a job that begins and ends in between appears with
        its end, if that is reported.
        """
        what = f"jobs of {self.name}"
        reader = JobsReader(partial(Job, self))
        return Stream(
            what,
            self,
            self._context.handle,
            lambda: self._open_jobs_watch(progress, remembered, memos),
            reader,
        )


def connect(
    to: str | os.PathLike[str] | LibvirtDomain,
    *,
    timeout: float | None = 10.0,
    reconnect: float | None = None,
    limits: Mapping[Limit, float] | None = None,
    wait: float | None = None,
    name: str | None = None,
    trace: Trace | None = None,
    mask_secrets: bool = False,
    out_of_band: bool = False,
) -> Monitor:
    """Connects to a QEMU or to a libvirt domain. As `blockjob.connect()`, for plain threads.

    with blockjob.sync.connect("unix:/run/vm1.qmp") as monitor:
        ...

    A function given as `trace` is called on a thread of its own. `close()` waits for the last line:
    a second at most, and for the function.
    """
    options = Options(timeout, reconnect, wait, name, mask_secrets, out_of_band)
    context = _Context.of_process(make_limits(limits))
    tracer = None if trace is None else _ThreadTracer(trace, context.handle)
    call = ask_connect(context.handle, to, options, None if tracer is None else tracer.begin)
    try:
        return Monitor(context, context.wait(call), tracer)
    except BaseException:
        if tracer is not None:
            tracer.wait()
        raise
