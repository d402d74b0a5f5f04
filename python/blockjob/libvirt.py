# SPDX-License-Identifier: MIT
"""For programs that use libvirt-python: the block jobs of a `virDomain`, and how they end.

    jobs = blockjob.libvirt.BlockJobs(domain)
    jobs.blockCopy("vda", xml, flags=libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT)
    if jobs.wait("vda", timeout=600):
        jobs.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)

The calls that start and end a job have libvirt-python's names, arguments and errors, and use the
program's own connection. Nothing is polled: libvirt's events decide, so the program must run
libvirt's event loop (`virEventRegisterDefaultImpl()`, before it connects). Waits are co-operative
where eventlet has patched the standard library, and let other threads run where it has not.

Every error is a `libvirt.libvirtError`. If the job is at fault, `__cause__` is the `blockjob.Error`
with its outcome.
"""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import weakref
from collections.abc import Callable, Generator, Mapping
from types import ModuleType
from typing import Any, Protocol, cast

from . import sync
from ._calls import Deadline
from ._errors import (
    Error,
    ErrorCode,
    InvalidArgument,
    JobEnded,
    JobFailed,
    JobLost,
    StateError,
    Timeout,
)
from ._records import Outcome

__all__ = ["BlockJobs"]

# virDomainBlockJobAbortFlags
_ASYNC = 1
_PIVOT = 2


class _VirDomain(Protocol):
    """What is called of libvirt-python's class, or of its double."""

    blockCopy: Callable[..., int]
    blockRebase: Callable[..., int]
    blockPull: Callable[..., int]
    blockCommit: Callable[..., int]
    blockJobAbort: Callable[..., int]
    blockJobInfo: Callable[..., Any]
    connect: Callable[[], Any]


class BlockJobs:
    """The block jobs of a `virDomain`, or of eventlet's `tpool.Proxy` around one.

    Each job is followed from before it starts, so one that fails at once is not missed. An object
    is used by one thread at a time, and can be made anew for each job: all those of a domain share
    a monitor, which closes with the last of them.

    A unit test may pass its own double of `virDomain`. The calls are handed on to that, and its
    jobs are followed by its VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2 callbacks.
    """

    def __init__(self, domain: Any) -> None:
        self._domain: _VirDomain = domain
        self._real = _real_domain(domain)
        self._libvirt = _libvirt_of(domain if self._real is None else self._real)
        self._jobs: dict[str, sync.Job | _ReportedJob] = {}

    def blockCopy(
        self, disk: str, destxml: str, params: Mapping[str, Any] | None = None, flags: int = 0
    ) -> int:
        """Starts a copy, as `virDomain.blockCopy()`."""
        if self._real is None:
            options = {"params": params} if params else {}
            return self._listen(disk).blockCopy(disk, destxml, **options, flags=flags)
        given = {**(params or {}), "destxml": destxml, "flags": self._names("BLOCK_COPY", flags)}
        return self._start("virDomainBlockCopy", disk, given)

    def blockRebase(self, disk: str, base: str | None, bandwidth: int = 0, flags: int = 0) -> int:
        """Starts a pull, or a copy if the flags say so, as `virDomain.blockRebase()`."""
        if self._real is None:
            return self._listen(disk).blockRebase(disk, base, bandwidth, flags=flags)
        given = {"base": base, **self._speed("BLOCK_REBASE", bandwidth, flags)}
        return self._start("virDomainBlockRebase", disk, given)

    def blockPull(self, disk: str, bandwidth: int = 0, flags: int = 0) -> int:
        """Starts a pull of the whole chain, as `virDomain.blockPull()`."""
        if self._real is None:
            return self._listen(disk).blockPull(disk, bandwidth, flags=flags)
        return self.blockRebase(disk, None, bandwidth, flags)  # libvirt defines it so

    def blockCommit(
        self, disk: str, base: str | None, top: str | None, bandwidth: int = 0, flags: int = 0
    ) -> int:
        """Starts a commit, as `virDomain.blockCommit()`."""
        if self._real is None:
            return self._listen(disk).blockCommit(disk, base, top, bandwidth, flags=flags)
        given = {"base": base, "top": top, **self._speed("BLOCK_COMMIT", bandwidth, flags)}
        return self._start("virDomainBlockCommit", disk, given)

    def wait(self, disk: str, timeout: float | None = None) -> bool:
        """Waits until the disk's job can be pivoted, or is over and has done its work.

        Returns True then, at once if it has happened already; False after `timeout` seconds, when
        the job goes on and can be awaited again. None is no limit. The job is the one that was
        started here, else the one at work on the disk.

        Raises VIR_ERR_OPERATION_FAILED if the job failed, with QEMU's text;
        VIR_ERR_OPERATION_ABORTED if someone cancelled it; VIR_ERR_OPERATION_INVALID if the disk has
        no job; what libvirt says of the domain, such as VIR_ERR_NO_DOMAIN, if that is gone; and
        VIR_ERR_OPERATION_TIMEOUT if libvirt does not even say whether there is a job.
        """
        with self._libvirt_errors(disk):
            job = self._jobs.get(disk) or self._attach(disk)
            try:
                job.wait(timeout) if isinstance(job, _ReportedJob) else _wait(job, timeout)
            except Timeout:
                return False
        return True

    def blockJobAbort(self, disk: str, flags: int = 0) -> int:
        """Ends the disk's job, as `virDomain.blockJobAbort()`.

        A pivot waits until the job is ready. To abort a job that was started or awaited here and is
        over does nothing; to pivot it raises how it ended.
        """
        job = self._jobs.get(disk)
        if not isinstance(job, sync.Job) or flags not in (0, _ASYNC, _PIVOT):
            return self._domain.blockJobAbort(disk, flags=flags)
        with self._libvirt_errors(disk):
            if flags == _PIVOT:
                job.pivot()
            else:
                job.abort(wait=flags != _ASYNC)
        return 0

    def _start(self, command: str, disk: str, arguments: Mapping[str, Any]) -> int:
        self._jobs.pop(disk, None)
        with self._libvirt_errors(disk):
            monitor = _monitor_of(self._real)
            self._jobs[disk] = monitor.start(command, {**arguments, "disk": disk}, timeout=None)
        return 0

    def _attach(self, disk: str) -> sync.Job | _ReportedJob:
        if self._real is None:
            self._listen(disk)
        else:
            self._jobs[disk] = _monitor_of(self._real).attach(disk)
        return self._jobs[disk]

    def _listen(self, disk: str) -> _VirDomain:
        """The double, which reports that disk's job from now on."""
        self._jobs[disk] = _ReportedJob(self._domain, disk, self._libvirt)
        return self._domain

    def _speed(self, call: str, bandwidth: int, flags: int) -> dict[str, Any]:
        """libvirt counts in MiB/s unless a flag says otherwise; the library always in bytes."""
        in_bytes: int = getattr(self._libvirt, f"VIR_DOMAIN_{call}_BANDWIDTH_BYTES")
        scale = 1 if flags & in_bytes else 2**20
        return {"bandwidth": bandwidth * scale, "flags": self._names(call, flags & ~in_bytes)}

    def _names(self, call: str, flags: int) -> list[str]:
        """The library takes flags by their names."""
        prefix = f"VIR_DOMAIN_{call}_"
        known = {
            name.removeprefix(prefix): value
            for name, value in vars(self._libvirt).items()
            if name.startswith(prefix) and isinstance(value, int)
        }
        names = [name for name, value in known.items() if flags & value]
        rest = flags & ~sum(known.values())
        return [*names, hex(rest)] if rest else names  # which the library refuses

    @contextlib.contextmanager
    def _libvirt_errors(self, disk: str) -> Generator[None, None, None]:
        try:
            yield
        except JobLost as error:
            # If the domain or the connection is gone, libvirt has an error of its own for that.
            try:
                self._domain.blockJobInfo(disk, 0)
            except self._libvirt.libvirtError as reason:
                raise reason from error
            raise _libvirt_error(self._libvirt, error) from error
        except Error as error:
            raise _libvirt_error(self._libvirt, error) from error


def _wait(job: sync.Job, timeout: float | None) -> None:
    """Until it is ready or over; nobody who waits has asked for its being cancelled."""
    if job.outcome is None:
        with contextlib.suppress(JobEnded, StateError):  # over, or of a kind that is never ready
            job.ready(timeout)
            return
    if job.done(timeout=timeout) is Outcome.CANCELLED:
        text = f"the block job of {job.id} was cancelled"
        raise JobEnded(text, code=ErrorCode.JOB_ENDED, outcome=Outcome.CANCELLED)


class _ReportedJob:
    """The job of a double's disk, as far as the double has reported it."""

    def __init__(self, domain: _VirDomain, disk: str, libvirt: ModuleType) -> None:
        self._disk = disk
        self._libvirt = libvirt
        self._reports: queue.Queue[int] = queue.Queue()
        self._status: int | None = None
        connection = domain.connect()
        event = vars(libvirt)["VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2"]
        # Neither the callback nor the end of its registration refers to this object.
        callback = connection.domainEventRegisterAny(
            domain, event, _note_report, (disk, self._reports)
        )
        weakref.finalize(self, connection.domainEventDeregisterAny, callback)

    def wait(self, timeout: float | None) -> None:
        limit = Deadline(timeout).rest()
        with contextlib.suppress(queue.Empty):
            if self._status is None:
                self._status = self._reports.get(timeout=limit)
            while True:
                self._status = self._reports.get_nowait()
        if self._status is None:
            raise Timeout(f"no report of {self._disk} in {timeout} s", code=ErrorCode.TIMEOUT)
        if self._status == vars(self._libvirt)["VIR_DOMAIN_BLOCK_JOB_FAILED"]:
            text = f"the block job of {self._disk} failed"
            raise JobFailed(text, code=ErrorCode.JOB_FAILED, outcome=Outcome.FAILED)
        if self._status == vars(self._libvirt)["VIR_DOMAIN_BLOCK_JOB_CANCELED"]:
            text = f"the block job of {self._disk} was cancelled"
            raise JobEnded(text, code=ErrorCode.JOB_ENDED, outcome=Outcome.CANCELLED)


def _note_report(
    _connection: Any,
    _domain: Any,
    disk: str,
    _type: int,
    status: int,
    wanted: tuple[str, queue.Queue[int]],
) -> None:
    if disk == wanted[0]:
        wanted[1].put(status)


# ------------------------------------------------------------------------- libvirt-python's

# A program may keep one connection and make its virDomains anew: there is a monitor for each domain
# of each connection, for as long as something holds it.
_monitors: weakref.WeakKeyDictionary[Any, weakref.WeakValueDictionary[str, sync.Monitor]]
_monitors = weakref.WeakKeyDictionary()


def _monitor_of(domain: Any) -> sync.Monitor:
    # Threads that come at the same time may make two; they do no harm to each other.
    monitors = _monitors.setdefault(domain.connect(), weakref.WeakValueDictionary())
    monitor = monitors.get(domain.UUIDString())
    if monitor is None or _is_over(monitor):
        monitor = monitors[domain.UUIDString()] = sync.connect(domain)
    return monitor


def _is_over(monitor: sync.Monitor) -> bool:
    try:
        monitor.has_command("")
    except Error:
        return True
    return False


def _real_domain(domain: Any) -> Any:
    """libvirt-python's own virDomain; None for a double."""
    # Not imported: who has no eventlet has no Proxy, and who has a virDomain has imported libvirt.
    tpool = sys.modules.get("eventlet.tpool")
    if tpool is not None and isinstance(domain, tpool.Proxy):
        domain = domain._obj
    libvirt = sys.modules.get("libvirt")
    return domain if libvirt is not None and isinstance(domain, libvirt.virDomain) else None


def _libvirt_of(domain: Any) -> ModuleType:
    """libvirt-python, or the module that doubles for it: what has the domain's class and errors."""
    for kind in type(domain).__mro__:
        module = sys.modules.get(kind.__module__)
        if hasattr(module, "libvirtError"):
            return cast(ModuleType, module)
    name = type(domain).__name__
    raise InvalidArgument(f"BlockJobs() takes libvirt-python's virDomain, not {name}")


_CODES = {
    ErrorCode.JOB_ENDED: "VIR_ERR_OPERATION_ABORTED",
    ErrorCode.TIMEOUT: "VIR_ERR_OPERATION_TIMEOUT",
    ErrorCode.NO_JOB: "VIR_ERR_OPERATION_INVALID",
    ErrorCode.INVAL: "VIR_ERR_INVALID_ARG",
    ErrorCode.UNSUPPORTED: "VIR_ERR_OPERATION_UNSUPPORTED",
}


def _libvirt_error(libvirt: ModuleType, error: Error) -> Exception:
    """What libvirt would have said; what it has said itself keeps its code."""
    own = re.search(r"\d+", error.error_class)
    name = _CODES.get(error.code, "VIR_ERR_OPERATION_FAILED")
    code = int(own[0]) if own else vars(libvirt)[name]
    text = str(error)
    # Not by its __init__, which takes its words from the last error of this thread.
    made = libvirt.libvirtError.__new__(libvirt.libvirtError, text)
    level = 2  # VIR_ERR_ERROR
    made.err = (code, libvirt.VIR_FROM_QEMU, text, level, text, None, None, 0, 0)
    return cast(Exception, made)
