# SPDX-License-Identifier: MIT
"""The exceptions: one for each thing that a program might treat differently.

Each is a `blockjob.Error`; those that Python has a class for are that too (`Timeout` is a
`TimeoutError`, ...). `str(error)` is the sentence; where QEMU gave one, it is QEMU's.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from . import _core
from ._records import Outcome

if TYPE_CHECKING:
    from ._objects import JobBase


class ErrorCode(enum.IntEnum):
    """The C library's `bj_error`, as `Error.code` has it."""

    INVAL = _core.E_INVAL
    NOMEM = _core.E_NOMEM
    SYSTEM = _core.E_SYSTEM
    FORKED = _core.E_FORKED
    DEADLOCK = _core.E_DEADLOCK
    PENDING = _core.E_PENDING
    TIMEOUT = _core.E_TIMEOUT
    CANCELLED = _core.E_CANCELLED
    CLOSED = _core.E_CLOSED
    BUSY = _core.E_BUSY
    UNSUPPORTED = _core.E_UNSUPPORTED
    CONNECT = _core.E_CONNECT
    PROTOCOL = _core.E_PROTOCOL
    DISCONNECTED = _core.E_DISCONNECTED
    REFUSED = _core.E_REFUSED
    NO_JOB = _core.E_NO_JOB
    NOT_READY = _core.E_NOT_READY
    STALLED = _core.E_STALLED
    STATE = _core.E_STATE
    JOB_FAILED = _core.E_JOB_FAILED
    JOB_LOST = _core.E_JOB_LOST
    JOB_ENDED = _core.E_JOB_ENDED


class Error(Exception):
    """Whatever went wrong; `str(error)` names the thing and the remedy.

    `code` says which error of the C library it is, `error_class` is QEMU's error class
    ("GenericError", ...), libvirt's error number ("83") or "", `outcome` is how the job had ended,
    if it had, `job` is the job that decided a wait on a `Group`. An error can be pickled; its `job`
    stays behind, because a job belongs to its process.

    It is raised itself only where no better class fits: no memory, no thread or fd available, an
    object of the parent process used after `fork()`.
    """

    def __init__(
        self,
        text: str = "",
        *,
        code: ErrorCode = ErrorCode.INVAL,
        error_class: str = "",
        outcome: Outcome | None = None,
        job: JobBase | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.error_class = error_class
        self.outcome = outcome
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "job": None}

    def __copy__(self) -> Error:
        copy = type(self)(*self.args)
        copy.__dict__.update(self.__dict__)
        return copy

    def __repr__(self) -> str:
        fields = [repr(str(self))]
        if self.error_class:
            fields.append(f"error_class={self.error_class!r}")
        if self.outcome is not None:
            fields.append(f"outcome={self.outcome!r}")
        if self.job is not None:
            fields.append(f"job={self.job!r}")
        return f"{type(self).__name__}({', '.join(fields)})"


class InvalidArgument(Error, ValueError, TypeError):
    """An argument has the wrong type or makes no sense; nothing was sent."""


class UsageError(Error, RuntimeError):
    """A call that is not possible here; nothing was sent.

    An asyncio object is used by another event loop than its own, or by none: threads, and trio's
    (`trio.to_thread.run_sync`), take `blockjob.sync`. Or a stream is read by two at a time.
    """


class Timeout(Error, TimeoutError):
    """The deadline of this wait has passed. Nothing was done to the job; if it is pending, paused
    or makes no progress, the text says so."""


class Closed(Error):
    """The monitor was closed by this program; or the stream is over, and `get()` has no item."""


class Busy(Error):
    """A limit was reached, such as that of commands in flight; nothing was sent."""


class Unsupported(Error):
    """This QEMU, or libvirt, has no such command; or there is no libvirt driver."""


class ConnectError(Error, ConnectionError):
    """No connection could be made."""


class ProtocolError(Error):
    """The peer sent what is not QMP, or more than the limits allow."""


class Disconnected(Error, ConnectionError):
    """The connection ended before the answer came."""


class Refused(Error):
    """QEMU refused the command; the text and `error_class` are QEMU's."""


class NoJob(Error):
    """There is no job of that id."""


class NotReady(Error):
    """`pivot(only_if_ready=True)`, and the job is not ready; nothing was sent."""


class Stalled(Error):
    """The job stands still, paused or stopped by an I/O error: resume it, or abort with force."""


class StateError(Error):
    """The verb does not fit what the job is or does."""


class JobFailed(Error):
    """The job failed; the text is QEMU's."""


class JobLost(Error):
    """How the job ended is unknown; the text says why.

    If the reason is that the monitor's connection has ended for good, it also is what
    `Monitor.closed()` returns: a `Disconnected` or a `ProtocolError`.
    """


class JobLostDisconnected(JobLost, Disconnected):
    """The job was lost with its connection."""


class JobLostProtocolError(JobLost, ProtocolError):
    """The job was lost with its connection, whose peer sent what is not QMP."""


class JobEnded(Error):
    """The job ended differently from what was requested; `outcome` says how."""


_CLASSES: dict[ErrorCode, type[Error]] = {
    ErrorCode.INVAL: InvalidArgument,
    ErrorCode.TIMEOUT: Timeout,
    ErrorCode.CLOSED: Closed,
    ErrorCode.BUSY: Busy,
    ErrorCode.UNSUPPORTED: Unsupported,
    ErrorCode.CONNECT: ConnectError,
    ErrorCode.PROTOCOL: ProtocolError,
    ErrorCode.DISCONNECTED: Disconnected,
    ErrorCode.REFUSED: Refused,
    ErrorCode.NO_JOB: NoJob,
    ErrorCode.NOT_READY: NotReady,
    ErrorCode.STALLED: Stalled,
    ErrorCode.STATE: StateError,
    ErrorCode.JOB_FAILED: JobFailed,
    ErrorCode.JOB_LOST: JobLost,
    ErrorCode.JOB_ENDED: JobEnded,
}


_LOST_CLASSES: dict[int, type[Error]] = {
    ErrorCode.DISCONNECTED: JobLostDisconnected,
    ErrorCode.PROTOCOL: JobLostProtocolError,
}


def make_error(
    code: int,
    text: str = "",
    error_class: str = "",
    outcome: Outcome | None = None,
    cause: int = _core.OK,
) -> Error:
    """The exception for an error code of the C library, and for what caused it."""
    known = ErrorCode(code)
    return _LOST_CLASSES.get(cause, _CLASSES.get(known, Error))(
        text or _core.error_text(code), code=known, error_class=error_class, outcome=outcome
    )


def check(code: int) -> None:
    """Raises what a call that answers at once has answered, unless that is no error."""
    if code < 0:
        raise make_error(code)
