# SPDX-License-Identifier: MIT
"""For OpenStack Nova: its BlockDevice, whose block jobs can be awaited and say how they ended.

Two lines of Nova's virt/libvirt/guest.py:

    import blockjob.nova

    @blockjob.nova.awaitable
    class BlockDevice(object):

and one for each loop of its virt/libvirt/driver.py that slept until is_job_complete():

    dev.copy(conf.to_xml(), reuse_ext=True)
    dev.wait_for_job("ready")
    dev.abort_job(pivot=True)

Nova's own code still decides what is asked of libvirt; its jobs are started by the library, on
Nova's own connection, so that whatever happens to them afterwards is known. Nothing is polled.
Waits are co-operative where eventlet has patched the standard library, and let other threads run
where it has not; the `tpool.Proxy` around Nova's libvirt is seen through.

Whatever goes wrong is a `libvirt.libvirtError`, as Nova's handlers expect, with a code that says
what it was; its `__cause__` is the `blockjob.Error` with the outcome.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from . import sync
from ._errors import Error, ErrorCode, JobEnded, JobLost, Timeout
from ._records import Outcome

__all__ = ["AwaitableJobs", "awaitable"]

C = TypeVar("C", bound=type)

if TYPE_CHECKING:

    class _BlockDevice:
        """What is known here of Nova's class."""

        _disk: str

        def __init__(self, guest: Any, disk: str) -> None: ...

        def abort_job(self, async_: bool = False, pivot: bool = False) -> None: ...

        def get_job_info(self) -> Any: ...

        def is_job_complete(self) -> bool: ...

else:
    _BlockDevice = object


def awaitable(block_device: C) -> C:
    """A decorator for Nova's class BlockDevice: the same class, with `AwaitableJobs`.

    A device of a domain that is not libvirt-python's, as Nova's unit tests have it, does what it
    did before; its `wait_for_job()` asks `is_job_complete()` every half second.
    """
    words = {
        name: getattr(block_device, name) for name in ("__doc__", "__module__", "__qualname__")
    }
    return cast(C, type(block_device.__name__, (AwaitableJobs, block_device), words))


class AwaitableJobs(_BlockDevice):
    """What `awaitable` gives to a BlockDevice. It is used by one thread at a time, as Nova does."""

    def __init__(self, guest: Any, disk: str) -> None:
        self._domain = _see_through(guest._domain)
        self._job: sync.Job | None = None
        super().__init__(guest, disk)

    @property
    def _guest(self) -> Any:
        """Nova's, with a domain whose jobs this device starts. Made each time: were it kept, device
        and domain would hold each other, and a monitor would stay open until they are collected."""
        guest = self._own_guest
        if self._domain is None:
            return guest
        return _Delegate(guest, _domain=_Starter(guest._domain, self._start_job))

    @_guest.setter
    def _guest(self, guest: Any) -> None:
        self._own_guest = guest

    def wait_for_job(
        self, state: Literal["ready", "done"] = "done", timeout: float | None = None
    ) -> None:
        """Waits until this device's job is ready to be pivoted, or is over and has done its work.

        What has already happened is answered at once, however early it was; so is a job that ends
        while it is not ready. The job is the one that this device has started, else the one that
        is at work on its disk. `timeout` is in seconds, None is no limit; when it has passed the
        job goes on, and can be awaited again.

        Raises `libvirt.libvirtError`: VIR_ERR_OPERATION_FAILED, the job failed, with QEMU's text;
        VIR_ERR_OPERATION_ABORTED, someone cancelled it; VIR_ERR_OPERATION_TIMEOUT;
        VIR_ERR_OPERATION_INVALID, there is no job; what libvirt says of the domain, such as
        VIR_ERR_NO_DOMAIN, when that is gone.
        """
        if state not in ("ready", "done"):
            raise ValueError(f"a job is awaited until it is 'ready' or 'done', not {state!r}")
        if self._domain is None:
            self._poll(timeout)
            return
        with self._libvirt_errors():
            if self._job is None:
                self._job = _monitor_of(self._domain).attach(self._disk)
            if state == "ready":
                self._job.ready(timeout)
            else:
                _require_success(self._job, timeout)

    def is_job_complete(self) -> bool:
        """Whether this device's job is ready or over; asks nobody.

        Raises what `wait_for_job()` raises when it is over and has not done its work. While the
        device has neither started nor awaited a job this is Nova's own answer.
        """
        job = self._job
        if job is None:
            return super().is_job_complete()
        if job.outcome is None:
            return job.is_ready
        with self._libvirt_errors():
            _require_success(job, None)
        return True

    def abort_job(self, async_: bool = False, pivot: bool = False) -> None:
        """Ends this device's job; with `pivot` waits until it is ready and pivots.

        To abort a job that is over already does nothing; to pivot it raises how it ended. While the
        device has neither started nor awaited a job, and for a pivot that nobody waits for, this is
        Nova's own call.
        """
        job = self._job
        if job is None or (async_ and pivot):
            super().abort_job(async_=async_, pivot=pivot)
            return
        with self._libvirt_errors():
            if pivot:
                job.pivot()
            else:
                job.abort(wait=not async_)
        if not async_:
            self._job = None

    def _start_job(self, command: str, arguments: Mapping[str, Any]) -> int:
        self._job = None
        with self._libvirt_errors():
            self._job = _monitor_of(self._domain).start(command, arguments, timeout=None)
        return 0

    def _poll(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_job_complete():
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout(f"not over in {timeout} s", code=ErrorCode.TIMEOUT)
            time.sleep(0.5)

    @contextlib.contextmanager
    def _libvirt_errors(self) -> Generator[None, None, None]:
        try:
            yield
        except JobLost as error:
            # If the domain or the connection is gone, libvirt says so itself, in its own way.
            try:
                self.get_job_info()
            except Exception as reason:
                raise reason from error
            raise _libvirt_error(error) from error
        except Error as error:
            raise _libvirt_error(error) from error


class _Delegate:
    """An object, some of whose attributes are others."""

    def __init__(self, inner: Any, **others: Any) -> None:
        self._inner = inner
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # of one that copy or pickle has just made
            raise AttributeError(name)
        return getattr(self._inner, name)


class _Starter(_Delegate):
    """A virDomain whose block jobs are started by the library: armed before they are there."""

    def __init__(self, domain: Any, start: Callable[[str, Mapping[str, Any]], int]) -> None:
        super().__init__(domain)
        self._start = start

    def blockCopy(
        self, disk: str, destxml: str, params: Mapping[str, Any] | None = None, flags: int = 0
    ) -> int:
        given = {"disk": disk, "destxml": destxml, "flags": _names("BLOCK_COPY", flags)}
        return self._start("virDomainBlockCopy", {**(params or {}), **given})

    def blockRebase(self, disk: str, base: str | None, bandwidth: int = 0, flags: int = 0) -> int:
        given = {"disk": disk, "base": base, **_speed("BLOCK_REBASE", bandwidth, flags)}
        return self._start("virDomainBlockRebase", given)

    def blockCommit(
        self, disk: str, base: str | None, top: str | None, bandwidth: int = 0, flags: int = 0
    ) -> int:
        given = {"disk": disk, "base": base, "top": top}
        return self._start(
            "virDomainBlockCommit", {**given, **_speed("BLOCK_COMMIT", bandwidth, flags)}
        )


def _speed(call: str, bandwidth: int, flags: int) -> dict[str, Any]:
    """libvirt counts in MiB/s unless a flag says otherwise; the library always in bytes."""
    in_bytes: int = getattr(_libvirt(), f"VIR_DOMAIN_{call}_BANDWIDTH_BYTES")
    scale = 1 if flags & in_bytes else 2**20
    return {"bandwidth": bandwidth * scale, "flags": _names(call, flags & ~in_bytes)}


def _names(call: str, flags: int) -> list[str]:
    """The library takes flags by their names."""
    prefix = f"VIR_DOMAIN_{call}_"
    known = {
        name.removeprefix(prefix): value
        for name, value in vars(_libvirt()).items()
        if name.startswith(prefix) and isinstance(value, int)
    }
    names = [name for name, value in known.items() if flags & value]
    rest = flags & ~sum(known.values())
    return [*names, hex(rest)] if rest else names  # which the library refuses


def _require_success(job: sync.Job, timeout: float | None) -> None:
    """Waits for the end; to be cancelled is none that a caller of Nova's has asked for."""
    outcome = job.done(timeout=timeout)
    if outcome is Outcome.CANCELLED:
        text = f"the block job of {job.id} was cancelled"
        raise JobEnded(text, code=ErrorCode.JOB_ENDED, outcome=outcome)


# ------------------------------------------------------------------------- libvirt-python's

# Nova keeps one connection and makes its virDomains anew: a monitor for each domain of each
# connection, for as long as a device with a job is held.
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


def _see_through(domain: Any) -> Any:
    """The virDomain of libvirt-python itself; None for another's."""
    tpool = sys.modules.get("eventlet.tpool")  # not imported: Nova forbids that where it has none
    if tpool is not None and isinstance(domain, tpool.Proxy):
        domain = domain._obj
    is_libvirts = "libvirt" in sys.modules and isinstance(domain, _libvirt().virDomain)
    return domain if is_libvirts else None


def _libvirt() -> ModuleType:
    """libvirt-python; whoever has a virDomain of its has imported it."""
    return sys.modules["libvirt"]


_CODES = {
    ErrorCode.JOB_ENDED: "VIR_ERR_OPERATION_ABORTED",
    ErrorCode.TIMEOUT: "VIR_ERR_OPERATION_TIMEOUT",
    ErrorCode.NO_JOB: "VIR_ERR_OPERATION_INVALID",
    ErrorCode.INVAL: "VIR_ERR_INVALID_ARG",
    ErrorCode.UNSUPPORTED: "VIR_ERR_OPERATION_UNSUPPORTED",
}


def _libvirt_error(error: Error) -> Exception:
    """What libvirt would have said; what it has said itself keeps its code."""
    libvirt = _libvirt()
    own = re.search(r"\d+", error.error_class)
    name = _CODES.get(error.code, "VIR_ERR_OPERATION_FAILED")
    code = int(own[0]) if own else getattr(libvirt, name)
    text = str(error)
    # Not by its __init__, which takes its words from the last error of this thread.
    made = libvirt.libvirtError.__new__(libvirt.libvirtError, text)
    made.err = (code, libvirt.VIR_FROM_QEMU, text, libvirt.VIR_ERR_ERROR, text, None, None, 0, 0)
    return cast(Exception, made)
