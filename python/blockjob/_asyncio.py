# SPDX-License-Identifier: MIT
"""The asyncio front-end: how a coroutine waits, and what `Monitor`, `Job` and `Group` do then."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from . import _core
from ._calls import (
    Call,
    HasFileno,
    Inbox,
    LibvirtDomain,
    Limits,
    Options,
    ask_connect,
    make_limits,
    new_context,
)
from ._errors import Error, ErrorCode, UsageError
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

T = TypeVar("T")

TURN = 0.001
"""Seconds that a stream with items may keep the other tasks waiting."""

# A loop owns its contexts through the reader that it has for each, and by that alone: they end when
# the loop is closed and the last monitor has gone. All monitors of the same limits share one; a
# child process starts anew.
_Known = weakref.WeakValueDictionary[tuple[int, Limits], "_Context"]
_contexts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Known]
_contexts = weakref.WeakKeyDictionary()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        text = "no asyncio event loop is running here: use blockjob.sync in threads and with trio"
        raise UsageError(text, code=ErrorCode.STATE) from None


class _Context:
    """The library's context of one asyncio loop, with the one reader of all its answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self.handle = new_context(limits)
        self._loop = weakref.ref(loop)
        self._inbox = Inbox(self.handle)
        self._records: list[_core._Record] = []  # read and not passed on yet
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        # Not with the caller's context variables, which would live as long as the loop.
        contextvars.Context().run(loop.add_reader, self._inbox.fd, self._read)

    @classmethod
    def of_running_loop(cls, limits: Limits) -> _Context:
        loop = _running_loop()
        known = _contexts.setdefault(loop, weakref.WeakValueDictionary())
        key = (os.getpid(), limits)
        context = known.get(key)
        if context is None:
            context = known[key] = cls(loop, limits)
        return context

    def running_loop(self) -> asyncio.AbstractEventLoop:
        loop = _running_loop()
        if loop is not self._loop():
            raise UsageError("the monitor belongs to another event loop", code=ErrorCode.STATE)
        return loop

    async def wait(self, call: Call[T]) -> T:
        """The answer, once it is there. To stop waiting stops nothing else."""
        done = self.running_loop().create_future()
        token = next(self._tokens)
        self._waiting[token] = done
        future = None
        try:
            future = call.ask()
            if not _core.future_is_done(future):
                self._inbox.expect(future, token)
                await done
        except BaseException as error:
            call.give_up(future, error)
            raise
        finally:
            del self._waiting[token]
        return call.answer(future)

    def _read(self) -> None:
        loop = self._loop()
        try:
            self._inbox.read_into(self._records)
            while self._records:
                _settle(self._waiting.get(self._records[0][0]))
                del self._records[0]
        except Error as error:
            if loop is not None:
                loop.remove_reader(self._inbox.fd)
            for done in self._waiting.values():
                _settle(done, error)
        except BaseException:  # of a signal handler: the others are still to be woken
            if loop is not None:
                loop.call_soon(self._read)
            raise


def _settle(done: asyncio.Future[None] | None, error: Error | None = None) -> None:
    """Wakes a waiter that is still there."""
    if done is None or done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Stream(StreamBase[T]):
    """What happens, one item at a time: an asynchronous iterator for one task.

    It has begun when it was made, so nothing that comes after is missed. A reader that is too slow
    loses the oldest items, learns how many, and affects no other. Other tasks have their turn
    every millisecond, also while there are items. It keeps its monitor open. It ends by itself, by
    `close()`, at the end of an `async with`, or when it is let go.
    """

    def __init__(
        self,
        what: str,
        owner: object,
        context: _Context,
        open_watch: Callable[[], _core.bj_watch],
        reader: Reader[T],
    ) -> None:
        super().__init__(what, owner, context.handle, open_watch, reader)
        self._context = context
        self._reading: asyncio.Task[Any] | None = None
        self._yielded = 0.0  # on the loop's clock

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        task = asyncio.current_task(self._context.running_loop())
        if self._reading not in (None, task) and not self._reading.done():
            raise UsageError("another task is reading this stream", code=ErrorCode.STATE)
        self._reading = task
        try:
            return await self._next()
        finally:
            self._reading = None

    async def _next(self) -> T:
        reader = self._reader
        clock = self._context.running_loop().time
        if clock() - self._yielded >= TURN:
            await asyncio.sleep(0)  # what is there already must not keep the others waiting
            self._yielded = clock()
        while (item := self._take()) is None:
            if reader.over:
                raise StopAsyncIteration
            if not self._inbox.read_into(reader.records):
                await self._readable()
                self._yielded = clock()
        return item

    async def _readable(self) -> None:
        # Armed only while someone waits: what nobody takes stays in the library's bounded ring.
        loop = self._context.running_loop()
        done = loop.create_future()
        loop.add_reader(self._inbox.fd, _settle, done)
        try:
            await done
        finally:
            loop.remove_reader(self._inbox.fd)

    async def aclose(self) -> None:
        """The same as `close()`, for `contextlib.aclosing()`."""
        self.close()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Job(JobBase):
    """One run of one block job. Made by a `Monitor`; letting go of it does nothing to the job.

    Each wait is level-triggered: what has already happened is answered at once; any number of tasks
    may wait for the same thing. A timeout, in seconds, or a cancelled task means "I no longer
    listen": the job goes on. In every wait a job that fails is `JobFailed` with QEMU's text, and a
    connection that ends is `JobLost`.
    """

    def __init__(self, monitor: Monitor, handle: _core.bj_job) -> None:
        super().__init__(handle)
        self._monitor = monitor  # which closes when nobody holds it
        self._wait = monitor._context.wait

    async def ready(self, timeout: float | None = None) -> None:
        """Waits until source and target are equal and stay so.

        Raises `JobEnded` when the job ended without ever being ready, `StateError` at once for a
        kind that never is (stream, backup, ...), `Stalled` when an I/O error has stopped it,
        `Timeout`.
        """
        await self._wait(self._ask_ready(timeout))

    async def done(self, *, released: bool = False, timeout: float | None = None) -> Outcome:
        """Waits until the job is over and says how it ended.

        With `released`, until QEMU has let go of the job's nodes as well, so that the next command
        on them does not meet "node is busy".

        Raises `JobFailed`, `JobLost`, `Timeout`; `Stalled` when an I/O error has stopped the job,
        or, with `released`, when it keeps its nodes until somebody dismisses it.
        """
        return await self._wait(self._ask_done(released, timeout))

    @overload
    async def pivot(
        self,
        *,
        only_if_ready: bool = False,
        wait: Literal[True] = True,
        released: bool = False,
        timeout: float | None = None,
    ) -> Outcome: ...

    @overload
    async def pivot(
        self,
        *,
        only_if_ready: bool = False,
        wait: bool,
        released: bool = False,
        timeout: float | None = None,
    ) -> Outcome | None: ...

    async def pivot(
        self,
        *,
        only_if_ready: bool = False,
        wait: bool = True,
        released: bool = False,
        timeout: float | None = None,
    ) -> Outcome | None:
        """Switches the disk to the copy (mirror) or to the base (active commit).

        Waits for the job to be ready first; with `only_if_ready` it raises `NotReady` instead, and
        sends nothing. Returns `Outcome.PIVOTED` when the switch is over, and nothing else. Complete
        is sent once, however many callers there are. If every caller stops waiting before that, it
        is not sent at all.

        With `wait=False` it returns as soon as QEMU has accepted, with None if the job still goes
        on: the switch is under way then, whoever still listens, and `done()` waits for its end. The
        timeout is one for ready and for QEMU's consent. With `released` it returns when QEMU has
        let go of the job's nodes as well, as `done(released=True)`, and raises what that raises.

        Raises `Stalled` (paused, or stopped by an error), `StateError` (a kind that has no pivot,
        or an abort is under way), `Refused`, `JobEnded` (it was cancelled, by anyone), `JobFailed`,
        `JobLost`, `Timeout`.
        """
        return await self._wait(self._ask_pivot(only_if_ready, wait, released, timeout))

    async def finish(self, *, released: bool = False, timeout: float | None = None) -> Outcome:
        """Has the job end as it is meant to, whatever its kind, and says how it ended.

        A mirror or a commit of the active layer is pivoted when it is ready; of any other job, an
        intermediate commit for example, the end is waited for. So the program need not know which
        it is. Returns `Outcome.PIVOTED`, or `COMPLETED` of a job that switches no disk.

        The pivot is that of `pivot()`, shared with its callers, and so are the errors; but a kind
        that has no pivot is none, and a `COMPLETED` of which it is unknown whether it has switched
        the disk is a `JobEnded` that says so. A job of any kind that is paused, or pending, is
        `Stalled`. `released` as in `pivot()`.
        """
        return await self._wait(self._ask_finish(released, timeout))

    @overload
    async def abort(
        self,
        *,
        force: bool = False,
        wait: Literal[True] = True,
        released: bool = False,
        force_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome: ...

    @overload
    async def abort(
        self,
        *,
        force: bool = False,
        wait: bool,
        released: bool = False,
        force_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome | None: ...

    async def abort(
        self,
        *,
        force: bool = False,
        wait: bool = True,
        released: bool = False,
        force_after: float | None = None,
        timeout: float | None = None,
    ) -> Outcome | None:
        """Aborts the job and says how it really ended.

        A ready mirror ends as `Outcome.COPIED`, anything else as `CANCELLED`; with `force` always
        as `CANCELLED`, also when it is stalled. It may have completed, pivoted or failed first:
        that is then what is returned. Aborting what is over returns its outcome.

        With `wait=False` it returns as soon as QEMU has accepted, with None if the job still goes
        on: `done()` waits for the end. With `released` it returns when QEMU has let go of the job's
        nodes as well, as `done(released=True)`, and raises what that raises. With `force_after`, in
        seconds, an abort that is not over by then is forced. QEMU accepts in milliseconds, but the
        end can take as long as a hanging flush: set a timeout.

        Raises `Stalled` (soft abort of a paused or stopped job: QEMU refuses that), `Refused`,
        `StateError` (soft and `wait=False` while a pivot is under way), `JobLost`, `Timeout`.
        """
        return await self._wait(self._ask_abort(force, wait, released, force_after, timeout))

    async def pause(self, *, timeout: float | None = None) -> None:
        """Pauses the job; returns when QEMU has accepted."""
        await self._wait(self._ask_pause(timeout))

    async def resume(self, *, timeout: float | None = None) -> None:
        """Resumes the job, also one that an I/O error stopped; returns when QEMU has accepted."""
        await self._wait(self._ask_resume(timeout))

    async def set_speed(self, bytes_per_second: int, *, timeout: float | None = None) -> None:
        """Limits the job's speed, in bytes per second; 0 is no limit. Returns when QEMU has
        accepted."""
        await self._wait(self._ask_set_speed(bytes_per_second, timeout))

    async def finalize(self, *, timeout: float | None = None) -> Outcome:
        """Lets a "pending" job of `auto_finalize=False` finish; says how it ended."""
        return await self._wait(self._ask_finalize(timeout))

    async def dismiss(self, *, timeout: float | None = None) -> None:
        """Dismisses a concluded job of `auto_dismiss=False` that the library does not own.

        The library dismisses the jobs that were started without that option.
        """
        await self._wait(self._ask_dismiss(timeout))

    async def change(self, *, timeout: float | None = None, **options: Any) -> None:
        """Changes how the job works (block-job-change, QEMU 8.2); returns when QEMU has accepted.

        `options` are QEMU's own, with underscores for dashes: `copy_mode="write-blocking"` makes a
        mirror converge that else would not. Raises `Unsupported` before 8.2.
        """
        await self._wait(self._ask_change(options, timeout))

    async def query(self, *, timeout: float | None = 60.0) -> JobInfo:
        """Asks QEMU how far the job is. Raises `NoJob` once it is gone."""
        return await self._wait(self._ask_query(timeout))

    def progress(self, interval: float = 0.5) -> Stream[Progress]:
        """What a progress bar shows, until the job is ready or over:

            async for progress in job.progress():
                print(f"{progress.fraction:.0%}")

        QEMU sends no event for progress, so it is asked every `interval` seconds at most, only
        while such a stream is open. A job that stands still says why in `Progress.stalled`. The
        next `pivot()`, `done()` or `outcome` says how the job ended.
        """
        return self._stream("progress", ProgressReader(), interval)

    def watch(self, progress: float | None = None) -> Stream[Record]:
        """All that happens to the job, from what is already true to its end.

        With `progress`, in seconds, also how far it is, at most that often.
        """
        return self._stream("records", RecordReader(), progress)

    def _stream(self, what: str, reader: Reader[T], interval: float | None) -> Stream[T]:
        context = self._monitor._context
        return Stream(
            f"{what} of job {self.id!r}", self, context, lambda: self._open_watch(interval), reader
        )


class Group(GroupBase[Job]):
    """Several jobs, of one monitor or of many, awaited, pivoted or given up together:

        group = blockjob.Group([boot, data])
        await group.pivot(timeout=600)      # both disks are switched, or none

    The monitors are to be of one event loop, and connected with the same limits. A timeout or a
    cancelled task ends the wait and nothing else. Where a wait raises, `Error.job` is the job that
    decided it; the others have their outcomes themselves.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        jobs = require_jobs(Job, jobs)
        context = jobs[0]._monitor._context
        super().__init__(jobs, context.handle)
        self._wait = context.wait

    async def ready(self, timeout: float | None = None) -> None:
        """Waits until all are ready. Raises, as `Job.ready()`, for the first that will not be."""
        await self._wait(self._ask_ready(timeout))

    async def done(
        self, *, released: bool = False, timeout: float | None = None
    ) -> tuple[Outcome | None, ...]:
        """Waits until all are over and says how each ended, in their order.

        Raises, then, for the first that failed or was lost, if any; `Stalled` as soon as an I/O
        error has stopped one. `released` as in `Job.done()`.
        """
        return await self._wait(self._ask_done(released, timeout))

    async def any(self, *, released: bool = False, timeout: float | None = None) -> Job:
        """Waits until any one is over and returns it; raises, as `Job.done()`, if it failed."""
        return await self._wait(self._ask_any(released, timeout))

    async def pivot(self, *, timeout: float | None = None) -> Outcome:
        """Pivots all or none, and returns `Outcome.PIVOTED` when all disks are switched.

        Nothing is completed before all are ready. When one ends, fails or stalls before that, all
        others are aborted (softly; by force where they stand still), so that no disk is switched,
        and that one's error is raised once they are over. From then on each goes its own way: one
        that fails in its pivot does not bring back the others; its error is raised when all are
        over. Raises `StateError`, and nothing is aborted, if one is of a kind that has no pivot.
        """
        return await self._wait(self._ask_pivot(timeout))

    async def abort(
        self,
        *,
        force: bool = False,
        wait: bool = True,
        released: bool = False,
        timeout: float | None = None,
    ) -> tuple[Outcome | None, ...]:
        """Aborts all and says how each really ended, in their order. As `Job.abort()`.

        With `wait=False` it returns when QEMU has accepted all, with None for those that go on.
        """
        return await self._wait(self._ask_abort(force, wait, released, timeout))


class Monitor(MonitorBase):
    """The control channel to one QEMU or libvirt domain, for the tasks of one event loop.

    It is closed by `close()`, at the end of an `async with`, or when it, its jobs and its streams
    are let go. Jobs go on in QEMU. Timeouts are in seconds, None is no limit.
    """

    def __init__(
        self, context: _Context, handle: _core.bj_monitor, tracer: _LoopTracer | None = None
    ) -> None:
        super().__init__(handle)
        self._context = context
        self._wait = context.wait
        self._tracer = tracer

    async def __aenter__(self) -> Monitor:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; all that waits on it gets `Closed`. May be called again.

        It never waits for QEMU: what QEMU still owes, the library's thread receives later.
        """
        if not self._is_of_parent():
            await self._wait(self._ask_close())
            if self._tracer is not None:
                self._tracer.catch_up()

    async def aclose(self) -> None:
        """The same as `close()`, for `contextlib.aclosing()`."""
        await self.close()

    async def closed(self) -> Error:
        """Waits until the connection is over, however, and returns why.

        That is `Closed`, `Disconnected` or `ProtocolError`; it is returned, not raised.
        """
        return await self._wait(self._ask_closed())

    async def execute(
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
        """Runs any command and returns what QEMU returns, decoded; an integer of more digits than
        Python makes an int of is a `Decimal`.

        Arguments are a mapping in QEMU's own words, or keywords, whose underscores become QEMU's
        dashes, or both. When the deadline passes, QEMU may still carry the command out. For jobs
        use the methods below: a verb sent this way is sent as it is, ready or not.

        `fds` go with the command ("getfd", "add-fd"): descriptors, or objects with `fileno()`, 16
        at most, through a UNIX socket. The library duplicates them when the call begins; yours stay
        yours. "getfd" and "add-fd" take the first and QEMU closes the others: give them one each.
        QEMU makes a file that it receives blocking (O_NONBLOCK), for all who share it.

        `out_of_band` has QEMU execute the command at once, before those that wait, also while it
        hangs in another: it has a few commands for that ("migrate-pause", "migrate-recover",
        "yank") and refuses the others. The monitor must be of `connect(out_of_band=True)`.

        Raises `Refused` with QEMU's text and class, `InvalidArgument`, `Busy`, `Closed`,
        `Disconnected`, `Timeout`; `Unsupported` for `fds` over TCP, or where nothing is executed
        out of band.
        """
        return await self._wait(
            self._ask_execute(command, arguments, keywords, fds, out_of_band, timeout)
        )

    async def mirror(
        self,
        device: str,
        *,
        target: str,
        sync: str = "full",
        timeout: float | None = 60.0,
        **options: Any,
    ) -> Job:
        """Starts to copy `device`, a node or a device, to the node `target` (blockdev-mirror).

        From ready on both are kept equal. `sync` is "full", "top" or "none". Further `options` are
        blockdev-mirror's own, with underscores for dashes (`copy_mode="write-blocking"`). On a
        libvirt domain `device` is a disk ("vda"), `target` a path or a whole `<disk>` in XML, and
        options are libvirt's: `format`, `reuse`, `transient`, `bandwidth`, ...

        Without a `job_id` the library makes one up. The job is followed from before the first byte
        is sent. Returns when QEMU has accepted.

        Raises `Refused` with QEMU's reason (no job is left behind), `Unsupported`,
        `InvalidArgument`, `Busy`, `Timeout` and `Disconnected` (the job may yet start, or have
        started: the text says its id, for `attach()`).
        """
        call = self._ask_mirror(device, target, sync, options, timeout)
        return Job(self, await self._wait(call))

    async def commit(self, device: str, *, timeout: float | None = 60.0, **options: Any) -> Job:
        """Starts to merge overlays down (block-commit).

        The active layer is merged, unless `options` say `top_node`: that kind becomes ready and is
        to be pivoted; an intermediate commit just completes. On a libvirt domain, options are
        `base` and `top` (paths), `shallow`, `relative`, ... Otherwise as `mirror()`.
        """
        return Job(self, await self._wait(self._ask_commit(device, options, timeout)))

    async def stream(self, device: str, *, timeout: float | None = 60.0, **options: Any) -> Job:
        """Starts to pull the backing files' data up (block-stream). Otherwise as `mirror()`."""
        return Job(self, await self._wait(self._ask_stream(device, options, timeout)))

    async def backup(
        self,
        device: str,
        *,
        target: str,
        sync: str = "full",
        timeout: float | None = 60.0,
        **options: Any,
    ) -> Job:
        """Starts a copy of `device` as it is now (blockdev-backup). Otherwise as `mirror()`.

        `sync` is "full", "top", "none", ... On a libvirt domain the job's id is "backup"; several
        disks, pull mode and checkpoints are options of `start("backup", disks={...})`.
        """
        call = self._ask_backup(device, target, sync, options, timeout)
        return Job(self, await self._wait(call))

    async def start(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = 60.0,
        **keywords: Any,
    ) -> Job:
        """Starts a job by any command that starts one ("blockdev-create", "drive-mirror", ...).

        On a libvirt domain these are libvirt's calls: "virDomainBlockCopy" and so on, with `disk`,
        `destxml`, `flags=["REUSE_EXT"]`, ...

        Arguments as in `execute()`; the library adds a job id and "auto-dismiss": false where the
        caller has not said them and QEMU knows them. Otherwise as `mirror()`.
        """
        return Job(self, await self._wait(self._ask_start(command, arguments, keywords, timeout)))

    async def transaction(
        self,
        actions: Iterable[Mapping[str, Any]],
        *,
        grouped: bool = False,
        timeout: float | None = 60.0,
    ) -> list[Job]:
        """Starts several jobs as one (QEMU's transaction):

            jobs = await monitor.transaction(
                [
                    {"type": "blockdev-backup", "data": {"device": "disk0", ...}},
                    {"type": "blockdev-backup", "data": {"device": "disk1", ...}},
                ],
                grouped=True,
            )

        Actions are in QEMU's own words; what starts no job (a bitmap, a snapshot) may be among
        them. The jobs are returned in the order of the actions that started them, with what
        `start()` adds. Each has a fate of its own; with `grouped`, when one fails or is cancelled
        QEMU cancels the others, each of which is `Outcome.CANCELLED` then.

        Raises as `mirror()`; refused, no job is left behind.
        """
        handles = await self._wait(self._ask_transaction(actions, grouped, timeout))
        return [Job(self, handle) for handle in handles]

    async def attach(self, job_id: str, *, timeout: float | None = 60.0) -> Job:
        """The job of that id, whoever started it.

        Raises `NoJob`, also if it ends meanwhile and QEMU forgets it; `Busy` if more jobs than
        `Limit.JOBS` are followed.

        It is never dismissed by the library unless asked.
        """
        return Job(self, await self._wait(self._ask_attach(job_id, timeout)))

    async def jobs(self, *, timeout: float | None = 60.0) -> list[JobInfo]:
        """All jobs QEMU knows of now, whoever started them."""
        return await self._wait(self._ask_jobs(timeout))

    def events(self, *names: str) -> Stream[Event]:
        """Every event of this QEMU from now on, or those of the given names:

            async for event in monitor.events("SHUTDOWN", "DEVICE_DELETED"):
                print(event.name, event.data)

        With names, which are spelt as QEMU does, all other events take no room: none of those that
        are named is lost because of them. A name that this QEMU does not have is never seen.

        It ends when the monitor is closed, and raises `Disconnected` or `ProtocolError` when the
        connection ends otherwise. While a monitor reconnects it goes on: the end of one connection
        and the beginning of the next are events of another `Event.kind`, without a name.
        """
        what = f"events of {self.name}"
        return Stream(what, self, self._context, lambda: self._open_watch(names), EventReader())

    def watch_jobs(
        self,
        progress: float | None = None,
        remembered: Iterable[str] = (),
        memos: bool = False,
    ) -> Stream[JobChange[Job]]:
        """All jobs of this QEMU, whoever started them: those that it has already, then those to
        come:

            async for change in monitor.watch_jobs():
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
            self._context,
            lambda: self._open_jobs_watch(progress, remembered, memos),
            reader,
        )


class _LoopTracer(Tracer):
    """Calls the program on the thread of its event loop."""

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        contextvars.Context().run(self._loop.add_reader, self._inbox.fd, self.catch_up)

    def catch_up(self) -> None:
        """Hands on what there is now."""
        if not self.over:
            self._hand_on()
            if self.over:
                self._loop.remove_reader(self._inbox.fd)

    def close(self) -> None:
        """The same, and the end."""
        self.catch_up()
        if self._watch is not None:
            _core.watch_close(self._watch)


class Connecting(Coroutine[Any, Any, Monitor]):
    """What `connect()` returns: to be awaited, or to be entered by `async with`."""

    def __init__(self, to: object, coroutine: Coroutine[Any, Any, Monitor]) -> None:
        self._to = to
        self._coroutine = coroutine
        self._monitor: Monitor | None = None

    def __repr__(self) -> str:
        return f"<Connecting to {self._to!r}>"

    def __await__(self) -> Generator[Any, Any, Monitor]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    async def __aenter__(self) -> Monitor:
        self._monitor = await self._coroutine
        return self._monitor

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._monitor is not None
        await self._monitor.close()


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
) -> Connecting:
    """Connects to a QEMU or to a libvirt domain:

        async with blockjob.connect("unix:/run/vm1.qmp") as monitor:
            ...
        monitor = await blockjob.connect("qemu:///system#vm1")
        monitor = await blockjob.connect(domain)

    A QEMU's own socket is "unix:/path" (a bare path that starts with / will do), "tcp:host:port"
    (IPv6 as in "tcp:[::1]:4444") or "fd:N", a connected socket of which the library takes a
    duplicate. One deadline, in seconds, covers connecting, the greeting and the negotiation. QEMU
    serves one client per socket: while another holds it, no greeting comes.

    A libvirt domain is given by the URI of a connection with the domain's name or UUID after a "#":
    "qemu:///system#vm1", "qemu+ssh://host/system#vm1", "qemu+unix:///session?socket=/path#vm1",
    %-encoded where a name needs it; "libvirt:vm1" is a domain of the default connection. With
    "?readonly" behind the name ("qemu:///system#vm1?readonly") the connection is a read-only one:
    it lists, attaches, watches and waits, and starts and verbs are `Refused`. Or it is a
    `virDomain` of libvirt-python: then its connection is used, and libvirt's event loop must run,
    if the program registered one (where it has not, the library does). A connection that was opened
    before a loop was registered receives no events: the library opens one of its own beside it if
    the loop is its own, otherwise register the loop before opening the connection. It takes a
    reference: when the program lets go of its `virDomain` matters to neither. The driver is loaded
    for the first domain; `Unsupported` says that it, or libvirt, is not installed.

    Jobs of a domain go by their disk ("vda", or its path) and are started in libvirt's words. There
    is no `execute()`, `transaction()`, `pause()`, `resume()`, `finalize()` or `change()`, and
    `force` only before a copy is ready: all `Unsupported`. A domain that stops ends its monitor,
    unless it is persistent and the monitor reconnects: then it waits for the domain's next start.

    With `reconnect`, a connection that ends later is made again; see `Monitor.set_reconnect()`. One
    that is the program's own ("fd:N", a `virDomain`) can't be: `InvalidArgument`. `limits` are
    those of this monitor, by `Limit`; monitors of the same limits share a thread.

    With `wait`, a peer that is not there yet is waited for, for so many seconds: a socket that does
    not exist or that nobody listens on, a libvirtd that does not run, a domain that libvirt does
    not know or that does not run. `timeout` is for the connecting after that; `math.inf` waits for
    as long as `timeout` lasts. Then `ConnectError` says what was waited for, and how long. What
    waiting does not mend (a bad address, no permission, no QMP) is raised at once.

    Errors and logs call the monitor by its `name`, beside its address; "fd:7" says little.

    With `trace`, each line that goes over the wire is handed to a function, as a `TraceLine`, from
    the greeting on, or written to a `logging.Logger` at DEBUG:

        monitor = await blockjob.connect(uri, name="vm1", trace=logging.getLogger("qmp"))

    The function is called on the event loop's thread, in order, a moment after the line; by
    `close()`, for the last of them. What it raises is logged, by the logger "blockjob". While the
    loop is busy, sixteen times `Limit.WATCH_RING` lines are kept, and the next line counts what was
    lost. With `mask_secrets`, passwords, the data of secret objects and the like are `***` (the
    header blockjob.h has the list). A libvirt domain has no wire of ours: `Unsupported`.

    A program's own connection ("fd:N", a `virDomain`) is not waited for, and a `virDomain` has
    neither name nor trace: `InvalidArgument`.

    `out_of_band` negotiates that with a QEMU that offers it (4.0 and later, on a socket; connecting
    to another does not fail), for `Monitor.execute()`. QEMU then reads commands ahead of those that
    it executes, so seven are sent at a time, and one with `fds` alone: leave it out unless you need
    it.

    Raises `ConnectError`, `Timeout`, `ProtocolError`, `Disconnected`, `InvalidArgument`,
    `Unsupported`.
    """
    options = Options(timeout, reconnect, wait, name, mask_secrets, out_of_band)
    return Connecting(to, _connect(to, options, make_limits(limits), trace))


async def _connect(
    to: str | os.PathLike[str] | LibvirtDomain,
    options: Options,
    limits: Limits,
    trace: Trace | None,
) -> Monitor:
    context = _Context.of_running_loop(limits)
    tracer = None if trace is None else _LoopTracer(trace, context.handle)
    call = ask_connect(context.handle, to, options, None if tracer is None else tracer.begin)
    try:
        monitor = Monitor(context, await context.wait(call), tracer)
    except BaseException:
        if tracer is not None:
            tracer.close()
        raise
    if tracer is not None:
        tracer.catch_up()
    return monitor
