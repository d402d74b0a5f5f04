# SPDX-License-Identifier: MIT
"""The C library's calls as both front-ends use them: arguments in, a future, its answer out.

How one waits for the future is the front-end's affair. It first makes all that the wait needs and
then asks, so that a call that raises has not been sent.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from . import _core
from ._errors import Error, InvalidArgument, check, make_error
from ._records import JobInfo, Limit, Outcome, make_info, make_outcome

T = TypeVar("T")

Limits = frozenset[tuple[Limit, int]]
"""As the C library has them: times in milliseconds."""


def checked(ask: Callable[[], T]) -> T:
    """What the C library answers; an argument that it can't even be given is `InvalidArgument`."""
    try:
        return ask()
    except Error:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(str(error)) from error


class Call(Generic[T]):
    """What is to be asked of the C library, and how the answer is taken out of its future."""

    __slots__ = ("_ask", "_take")

    def __init__(
        self, ask: Callable[[], _core.bj_future], take: Callable[[_core.bj_future], T]
    ) -> None:
        self._ask = ask
        self._take = take

    def ask(self) -> _core.bj_future:
        """Asks: from here on it may be sent."""
        return checked(self._ask)

    def answer(self, future: _core.bj_future) -> T:
        """What was asked for, or the exception that says why not. The future is done."""
        if _core.future_error(future) != _core.OK:
            raise take_error(future)
        return self._take(future)

    def give_up(self, future: _core.bj_future | None, _reason: BaseException) -> None:
        """Nobody waits any more, for that reason: what was not sent yet is not sent."""
        _core.future_cancel(future)


class Start(Call[T]):
    """A start. The reason why nobody waits any more names the job that has started by then."""

    __slots__ = ()

    def give_up(self, future: _core.bj_future | None, reason: BaseException) -> None:
        super().give_up(future, reason)
        for job in filter(None, (_core.future_job(future), *take_jobs(future))):
            note = f"blockjob: job {_core.job_id(job)!r} has started; attach() finds it"
            # add_note(), which 3.10 does not have.
            reason.__dict__.setdefault("__notes__", []).append(note)


class Ending(Call[Error]):
    """A wait for the end of something: its error is the answer."""

    __slots__ = ()

    def __init__(self, ask: Callable[[], _core.bj_future]) -> None:
        super().__init__(ask, take_error)

    def answer(self, future: _core.bj_future) -> Error:
        """Why it has ended."""
        return take_error(future)


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

    def read_into(self, records: list[_core._Record]) -> bool:
        """Appends what has come, if anything has; never blocks. Whatever is raised, by a signal
        handler for example, the records are the caller's."""
        before = len(records)
        error, _ = _core.queue_read(self._queue, records)
        check(error)
        return len(records) > before


def new_context(limits: Limits) -> _core.bj_ctx:
    """A context with a thread of its own. Both end with the last reference to the handle."""
    error, ctx = _core.ctx_new()
    check(error)
    assert ctx is not None
    for limit, value in limits:
        if _core.ctx_set_limit(ctx, limit.value, value) < 0:
            raise InvalidArgument(f"{limit!r} can't be {value}")
    return ctx


# ---------------------------------------------------------------------- times


def milliseconds(seconds: float | None, name: str = "timeout") -> int:
    """A time as the C library has it: the one place that says what a timeout may be.

    Any real number of seconds from 0 on, a `Decimal` for example; None and infinity are no limit.
    Rounded up: only 0 asks for what is true now.
    """
    if seconds is None:
        return _core.TIMEOUT_NONE
    try:
        if seconds >= _FOREVER:
            return _core.TIMEOUT_NONE
        if seconds >= 0:
            return math.ceil(seconds * 1000)
    except (TypeError, ValueError, ArithmeticError):  # no number, or Decimal's NaN
        pass
    raise InvalidArgument(f"{name} must be None or seconds from 0 on, not {seconds!r}")


_FOREVER = 2**50  # seconds: within 64 bits, also as milliseconds


class Deadline:
    """When a wait ends that the C library has no deadline for. Made of any timeout."""

    __slots__ = ("_end", "_limit")

    def __init__(self, timeout: float | None) -> None:
        self._limit = milliseconds(timeout)
        self._end = time.monotonic() + self._limit / 1000

    def rest(self) -> float | None:
        """The seconds left, None where there is no limit."""
        if self._limit == _core.TIMEOUT_NONE:
            return None
        return max(0.0, self._end - time.monotonic())

    def __str__(self) -> str:
        return f"{self._limit / 1000:.10g} s"


# ------------------------------------------------------------------ arguments


_TIMES = {Limit.CONNECT, Limit.COMMAND, Limit.STALL, Limit.POLL, Limit.CONVERGE}


def make_limits(given: Mapping[Limit, float] | None) -> Limits:
    """The limits of a monitor; what they are not is the library's own."""
    items = checked(lambda: dict(given or {}).items())
    return frozenset((limit, _limit(limit, value)) for limit, value in items)


def _limit(limit: object, value: float) -> int:
    if not isinstance(limit, Limit):
        raise InvalidArgument(f"a limit is a blockjob.Limit, not {limit!r}")
    number = milliseconds(value, repr(limit)) if limit in _TIMES else _integer(limit, value)
    if number <= 0:
        raise InvalidArgument(f"{limit!r} must be more than 0, not {value!r}")
    return number


def _integer(limit: Limit, value: float) -> int:
    with contextlib.suppress(TypeError, ValueError, ArithmeticError):
        if value == int(value):
            return min(int(value), 2**62)
    raise InvalidArgument(f"{limit!r} must be an integer, not {value!r}")


def encode(
    what: str, keywords: Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> str | None:
    """Arguments as JSON, None for none; keywords have underscores for QEMU's dashes."""
    dashed = {name.replace("_", "-"): value for name, value in keywords.items()}
    merged = checked(lambda: {**dict(arguments or {}), **dashed})
    return encode_any(what, merged) if merged else None


def encode_any(what: str, arguments: Any) -> str:
    """Anything as JSON. Every integer is exact."""
    try:
        return json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"arguments of {what} are not JSON: {error}") from error


class HasFileno(Protocol):
    """A file, a socket: what has a file descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


def descriptors(command: str, files: Iterable[int | HasFileno]) -> tuple[int, ...]:
    """The descriptors of what is to go with a command."""
    if isinstance(files, (str, bytes)):
        raise InvalidArgument(
            f"fds of {command} are open files, not {files!r}: QEMU's own argument of that name "
            "goes into the mapping"
        )
    try:
        return tuple(file if isinstance(file, int) else file.fileno() for file in files)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidArgument(f"fds of {command} are not open files: {error}") from error


# ------------------------------------------------------------------ connecting


class LibvirtDomain(Protocol):
    """libvirt-python's `virDomain`, or eventlet's `tpool.Proxy` around one.

    It is recognised by what it has: this package neither imports nor needs libvirt-python.
    """

    def name(self) -> str:
        """As libvirt-python has it."""
        ...

    def UUIDString(self) -> str:
        """As libvirt-python has it."""
        ...


class Options(NamedTuple):
    """How to connect."""

    timeout: float | None
    reconnect: float | None
    wait: float | None
    name: str | None
    mask_secrets: bool
    out_of_band: bool


def ask_connect(
    ctx: _core.bj_ctx,
    to: str | os.PathLike[str] | LibvirtDomain,
    options: Options,
    trace: Callable[[_core.bj_watch | None], None] | None,
) -> Call[_core.bj_monitor]:
    """A connection, which is made again when it ends if the options say so. Its trace is given to
    `trace`, None if there is none for lack of a connection."""
    reconnect = options.reconnect
    limit = milliseconds(options.timeout)
    milliseconds(reconnect, "reconnect")  # refuses what is no time
    wait = 0 if options.wait is None else milliseconds(options.wait, "wait")
    flags = _core.TRACE_MASKED if options.mask_secrets else _core.TRACE_PLAIN

    def ask() -> _core.bj_future:
        if isinstance(to, (str, bytes, os.PathLike)):
            traced = trace is not None
            future, watch = _core.monitor_connect_with(
                ctx, to, options.name, wait, traced, flags, options.out_of_band, limit
            )
            if trace is not None:
                trace(watch)
            return future
        if wait or options.name is not None or trace is not None:
            raise InvalidArgument("wait, name and trace need an address, not a virDomain")
        return _connect_domain(ctx, to, limit)

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

    return Call(ask, take)


def _connect_domain(ctx: _core.bj_ctx, domain: LibvirtDomain, limit: int) -> _core.bj_future:
    # A virDomain has its virDomainPtr, in a capsule, as `_o`; a tpool.Proxy hands on what can't be
    # called. The domain is held by the caller meanwhile; from then on the library has a reference.
    capsule = getattr(domain, "_o", None)
    if capsule is not None:
        with contextlib.suppress(TypeError):  # a capsule of another kind, or none at all
            return _core.monitor_connect_domain(ctx, capsule, limit)
    kind = type(domain).__name__
    raise InvalidArgument(
        f"connect() takes a URI, a path or libvirt-python's virDomain, not {kind}"
    )


def set_reconnect(monitor: _core.bj_monitor, seconds: float | None) -> None:
    """None, as 0, never tries."""
    limit = milliseconds(0 if seconds is None else seconds, "reconnect")
    error = _core.monitor_set_reconnect(monitor, limit)
    if error == _core.E_INVAL:
        name = _core.monitor_name(monitor)
        raise InvalidArgument(f"a connection of {name} can't be made again")
    check(error)


# -------------------------------------------------------------------- answers


def take_error(future: _core.bj_future) -> Error:
    """Of whatever failed."""
    return make_error(
        _core.future_error(future),
        _core.future_text(future),
        _core.future_error_class(future),
        make_outcome(_core.future_outcome(future)),
        _core.future_cause(future),
    )


def take_nothing(_future: _core.bj_future) -> None:
    """Of what is just done."""


def take_job(future: _core.bj_future) -> _core.bj_job:
    """Of a start or an attach."""
    job = _core.future_job(future)
    assert job is not None
    return job


def take_jobs(future: _core.bj_future | None) -> list[_core.bj_job]:
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
    return None if text is None else decode(text)


def decode(text: str) -> Any:
    """JSON that QEMU sent. Every integer is exact: one of more digits than Python makes an int of
    (`sys.get_int_max_str_digits()`) is a `Decimal`."""
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text, parse_int=_parse_integer)


def _parse_integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)


def take_infos(future: _core.bj_future) -> list[JobInfo]:
    """Of a list of jobs."""
    rows = (_core.future_info(future, i) for i in range(_core.future_info_count(future)))
    return [make_info(row) for row in rows if row is not None]


def take_info(future: _core.bj_future) -> JobInfo:
    """Of a query of one job."""
    return take_infos(future)[0]
