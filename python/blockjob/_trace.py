# SPDX-License-Identifier: MIT
"""Traces: what goes over a monitor's wire, for the program's own function or logger.

The lines come as a watch's records. When they are read, and on which thread, is the front-end's
affair.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from . import _core
from ._calls import Inbox
from ._errors import Error, InvalidArgument

_logger = logging.getLogger("blockjob")


class TraceLine(NamedTuple):
    """One line that was sent to QEMU or received from it: a whole message of QMP.

    As a `str` it is for a log: "vm1 > {...}" was sent, "vm1 < {...}" received.
    """

    name: str
    """The monitor's."""
    sent: bool
    """To QEMU; False: received from it."""
    text: str
    """Without the line's end."""
    time: float
    """By this process's clock, in seconds since 1970."""
    lost: int = 0
    """How many lines were dropped just before this one, because they were not taken in time. What
    was lost at the very end comes with an empty text."""

    def __str__(self) -> str:
        lost = f"({self.lost} lines lost) " if self.lost else ""
        return f"{self.name} {'>' if self.sent else '<'} {lost}{self.text}"


Trace = Callable[[TraceLine], object] | logging.Logger
"""What `connect(trace=...)` takes."""


class Tracer:
    """Hands a watch's lines to the program, one at a time and in order."""

    def __init__(self, trace: Trace, ctx: _core.bj_ctx) -> None:
        self._tell = _function_of(trace)
        self._inbox = Inbox(ctx)
        self._watch: _core.bj_watch | None = None
        self._records: list[_core._Record] = []
        self._name = ""
        self._lost = 0
        self.over = False

    def begin(self, watch: _core.bj_watch | None) -> None:
        """From now on; None: connecting has failed already."""
        self._watch = watch
        if watch is None:
            self.over = True
        else:
            self._inbox.subscribe(watch)
            self._start()

    def _start(self) -> None:
        raise NotImplementedError

    def _hand_on(self) -> None:
        """All that there is."""
        try:
            self._inbox.read_into(self._records)
        except Error:  # after a fork: the lines are the parent's
            self.over = True
        while self._records and not self.over:
            self._take(self._records.pop(0))

    def _take(self, record: _core._Record) -> None:
        _, kind, _, _, lost, _, _, timestamp_us, name, text, *_ = record
        if kind == _core.RECORD_LAGGED:
            self._lost += lost
        elif kind == _core.RECORD_CLOSED:
            self.over = True
            if self._lost:
                self._call(TraceLine(self._name, False, "", timestamp_us / 1e6, self._lost))
        else:
            self._name = name
            line = TraceLine(name, kind == _core.RECORD_SENT, text, timestamp_us / 1e6, self._lost)
            self._lost = 0
            self._call(line)

    def _call(self, line: TraceLine) -> None:
        try:
            self._tell(line)
        except Exception:
            _logger.exception("the trace of %s has raised an exception", line.name)


def _function_of(trace: Trace) -> Callable[[TraceLine], object]:
    if isinstance(trace, logging.Logger):
        logger = trace
        return lambda line: logger.debug("%s", line)
    if callable(trace):
        return trace
    raise InvalidArgument(f"a trace is a function or a logging.Logger, not {trace!r}")
