# SPDX-License-Identifier: MIT
"""The C library's calls as both front-ends use them: arguments in, a future, its answer out.

How one waits for the future is the front-end's affair.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from . import _core
from ._errors import Error, InvalidArgument, check, make_error
from ._records import JobInfo, Limit, Outcome, make_info, make_outcome

T = TypeVar("T")

Limits = frozenset[tuple[Limit, int]]
"""As the C library has them: times in milliseconds."""


class Call(Generic[T]):
    """A future of the C library, and how its answer is taken out once it is done."""

    __slots__ = ("_take", "future")

    def __init__(self, future: _core.bj_future, take: Callable[[_core.bj_future], T]) -> None:
        self.future = future
        self._take = take

    def answer(self) -> T:
        """What was asked for, or the exception that says why not."""
        if _core.future_error(self.future) != _core.OK:
            raise take_error(self.future)
        return self._take(self.future)


class Ending(Call[Error]):
    """A future that is done when something has ended: its error is its answer."""

    __slots__ = ()

    def __init__(self, future: _core.bj_future) -> None:
        super().__init__(future, take_error)

    def answer(self) -> Error:
        """Why it has ended."""
        return take_error(self.future)


class Inbox:
    """A queue of the C library and its fd."""

    __slots__ = ("_queue", "fd")

    def __init__(self, ctx: _core.bj_ctx) -> None:
        error, queue = _core.queue_new(ctx)
        check(error)
        self._queue = queue
        self.fd = _core.queue_fd(queue)

    def fileno(self) -> int:
        """For `select()`. eventlet's never wakes for a bare 0, of a process without a stdin."""
        return self.fd

    def expect(self, future: _core.bj_future, token: int) -> None:
        """A record with `token` shall come once the future is done."""
        check(_core.future_deliver(future, self._queue, token))

    def subscribe(self, watch: _core.bj_watch) -> None:
        """The watch's records shall come."""
        check(_core.watch_deliver(watch, self._queue, 0))

    def read(self) -> list[_core._Record]:
        """What has come; never blocks."""
        error, records = _core.queue_read(self._queue)
        check(error)
        return records


def new_context(limits: Limits) -> _core.bj_ctx:
    """A context with a thread of its own. Both end with the last reference to the handle."""
    error, ctx = _core.ctx_new()
    check(error)
    assert ctx is not None
    for limit, value in limits:
        if _core.ctx_set_limit(ctx, limit.value, value) < 0:
            raise InvalidArgument(f"{limit!r} can't be {value}")
    return ctx


# ------------------------------------------------------------------ arguments


def milliseconds(seconds: float | None, name: str = "timeout") -> int:
    """A time limit as the C library has it. Rounded up: only 0 asks for what is true now."""
    if seconds is None or seconds == math.inf:
        return _core.TIMEOUT_NONE
    if not seconds >= 0:
        raise InvalidArgument(f"{name} must be None or seconds from 0 on, not {seconds!r}")
    return min(math.ceil(seconds * 1000), 2**62)


_TIMES = {Limit.CONNECT, Limit.COMMAND, Limit.STALL, Limit.POLL, Limit.CONVERGE}


def make_limits(given: Mapping[Limit, float] | None) -> Limits:
    """The limits of a monitor; what they are not is the library's own."""
    return frozenset((limit, _limit(limit, value)) for limit, value in (given or {}).items())


def _limit(limit: object, value: float) -> int:
    if not isinstance(limit, Limit):
        raise TypeError(f"a limit is a blockjob.Limit, not {limit!r}")
    if not 0 < value < math.inf:
        raise InvalidArgument(f"{limit!r} must be more than 0, not {value!r}")
    if limit in _TIMES:
        return milliseconds(value)
    if value != int(value):
        raise InvalidArgument(f"{limit!r} must be an integer, not {value!r}")
    return min(int(value), 2**62)


def encode(what: str, arguments: Mapping[str, Any]) -> str | None:
    """Arguments as JSON, None for none."""
    return encode_any(what, arguments) if arguments else None


def encode_any(what: str, arguments: Any) -> str:
    """Anything as JSON. Every integer is exact (B55)."""
    try:
        return json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"arguments of {what} are not JSON: {error}") from error


def dashed(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments in QEMU's spelling."""
    return {name.replace("_", "-"): value for name, value in keywords.items()}


# ------------------------------------------------------------------ connecting


class LibvirtDomain(Protocol):
    """libvirt-python's `virDomain`, or eventlet's `tpool.Proxy` around one.

    It is told by what it has: this package neither imports nor needs libvirt-python.
    """

    def name(self) -> str:
        """As libvirt-python has it."""
        ...

    def UUIDString(self) -> str:
        """As libvirt-python has it."""
        ...


def ask_connect(
    ctx: _core.bj_ctx,
    to: str | os.PathLike[str] | LibvirtDomain,
    timeout: float | None,
    reconnect: float | None,
) -> Call[_core.bj_monitor]:
    """A connection, which is made again when it ends if `reconnect` says so."""
    limit = milliseconds(timeout)
    milliseconds(reconnect, "reconnect")  # refuses what is no time

    def take(future: _core.bj_future) -> _core.bj_monitor:
        monitor = _core.future_monitor(future)
        assert monitor is not None
        if reconnect:
            try:
                set_reconnect(monitor, reconnect)
            except Error:
                _core.monitor_close(monitor)
                raise
        return monitor

    if isinstance(to, (str, bytes, os.PathLike)):
        return Call(_core.monitor_connect(ctx, to, limit), take)
    return Call(_connect_domain(ctx, to, limit), take)


def _connect_domain(ctx: _core.bj_ctx, domain: LibvirtDomain, limit: int) -> _core.bj_future:
    # A virDomain has its virDomainPtr, in a capsule, as `_o`; a tpool.Proxy hands on what can't be
    # called. The domain is held by the caller meanwhile; from then on the library has a reference.
    capsule = getattr(domain, "_o", None)
    if capsule is not None:
        with contextlib.suppress(TypeError):  # a capsule of another kind, or none at all
            return _core.monitor_connect_domain(ctx, capsule, limit)
    kind = type(domain).__name__
    raise TypeError(f"connect() takes a URI, a path or libvirt-python's virDomain, not {kind}")


def set_reconnect(monitor: _core.bj_monitor, seconds: float | None) -> None:
    """None, as 0, never tries."""
    limit = milliseconds(0 if seconds is None else seconds, "reconnect")
    error = _core.monitor_set_reconnect(monitor, limit)
    if error == _core.E_INVAL:
        uri = _core.monitor_uri(monitor)
        raise InvalidArgument(f"a connection of {uri} can't be made again")
    check(error)


# -------------------------------------------------------------------- answers


def take_error(future: _core.bj_future) -> Error:
    """Of whatever failed."""
    return make_error(
        _core.future_error(future),
        _core.future_text(future),
        _core.future_error_class(future),
        make_outcome(_core.future_outcome(future)),
    )


def take_nothing(_future: _core.bj_future) -> None:
    """Of what is just done."""


def take_job(future: _core.bj_future) -> _core.bj_job:
    """Of a start or an attach."""
    job = _core.future_job(future)
    assert job is not None
    return job


def take_jobs(future: _core.bj_future) -> list[_core.bj_job]:
    """Of a transaction."""
    jobs = (_core.future_job_at(future, i) for i in range(_core.future_job_count(future)))
    return [job for job in jobs if job is not None]


def take_outcome(future: _core.bj_future) -> Outcome:
    """Of a wait for the end of a job."""
    return Outcome(_core.future_outcome(future))


def take_outcome_so_far(future: _core.bj_future) -> Outcome | None:
    """Of a request that may be answered before the end of a job."""
    return make_outcome(_core.future_outcome(future))


def take_json(future: _core.bj_future) -> Any:
    """Of a command."""
    text = _core.future_json(future)
    return None if text is None else json.loads(text)


def take_infos(future: _core.bj_future) -> list[JobInfo]:
    """Of a list of jobs."""
    rows = (_core.future_info(future, i) for i in range(_core.future_info_count(future)))
    return [make_info(row) for row in rows if row is not None]


def take_info(future: _core.bj_future) -> JobInfo:
    """Of a query of one job."""
    return take_infos(future)[0]
