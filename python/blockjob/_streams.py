# SPDX-License-Identifier: MIT
"""What becomes of a watch's records: events, records or progress, the same for both front-ends.

A reader is fed what the watch's queue gave, and an iterator takes items out of it. It knows
neither asyncio nor threads.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from . import _core
from ._errors import Error, make_error
from ._records import Event, EventKind, Progress, Record, RecordKind, make_outcome

T = TypeVar("T")


class Reader(Generic[T]):
    """Makes items of records, until it is `over`."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self.over = False
        self._error: Error | None = None

    def feed(self, records: Iterable[_core._Record]) -> None:
        """Takes the records in; what comes after the end does not count."""
        for record in records:
            if self.over:
                return
            self._read(record)

    def take(self) -> T | None:
        """The next item; None when there is none yet. Raises the error, once, when it is due."""
        if self._items:
            return self._items.popleft()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def close(self) -> None:
        """Drops what was not taken; nothing more is taken in."""
        self._items.clear()
        self._error = None
        self.over = True

    def _read(self, record: _core._Record) -> None:
        raise NotImplementedError


class EventReader(Reader[Event]):
    """Of a monitor's watch: every event of QEMU, and where a connection ended and the next began.
    One that ended for good is an error (B62)."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0

    def _read(self, record: _core._Record) -> None:
        _, kind, error, _, lost, _, _, timestamp_us, name, text = record
        if kind == _core.RECORD_LAGGED:
            self._lost += lost
        elif kind == _core.RECORD_EVENT:
            data: dict[str, Any] = json.loads(text) if text else {}
            self._tell(Event(name, data, timestamp_us / 1e6))
        elif kind in (_core.RECORD_DISCONNECTED, _core.RECORD_RECONNECTED):
            why = make_error(error, text) if error else None
            self._tell(Event("", {}, 0.0, kind=EventKind(kind), error=why))
        elif kind == _core.RECORD_CLOSED:
            self.over = True
            if error not in (_core.OK, _core.E_CLOSED):
                self._error = make_error(error, text)

    def _tell(self, event: Event) -> None:
        self._items.append(event._replace(lost=self._lost))
        self._lost = 0


class RecordReader(Reader[Record]):
    """Of a job's watch: all that happens to it, to the end."""

    def _read(self, record: _core._Record) -> None:
        _, kind, error, outcome, lost, current, total, timestamp_us, name, text = record
        if kind == _core.RECORD_CLOSED:
            self.over = True
            return
        how = make_outcome(outcome)
        self._items.append(
            Record(
                RecordKind(kind),
                name,
                current,
                total,
                how,
                make_error(error, text, outcome=how) if error else None,
                text,
                lost,
                timestamp_us / 1e6,
            )
        )


class ProgressReader(Reader[Progress]):
    """Of a job's watch: what a progress bar shows, until the job is ready or over.

    How it is over is not told here: that is what the next wait on the job says.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = Progress(0, 0)

    def _read(self, record: _core._Record) -> None:
        _, kind, _, outcome, _, current, total, _, _, text = record
        last = self._last
        if kind == _core.RECORD_PROGRESS:
            self._show(last._replace(current=current, total=total))
        elif kind == _core.RECORD_STALLED:
            self._show(last._replace(stalled=text))
        elif kind == _core.RECORD_RESUMED:
            self._show(last._replace(stalled=""))
        elif kind == _core.RECORD_READY:
            self._show(Progress(last.total, last.total, ready=True))
            self.over = True
        elif kind == _core.RECORD_ENDED:
            if outcome == _core.OUTCOME_COMPLETED:
                self._show(Progress(last.total, last.total))
            self.over = True
        elif kind == _core.RECORD_CLOSED:
            self.over = True

    def _show(self, progress: Progress) -> None:
        self._last = progress
        self._items.append(progress)
