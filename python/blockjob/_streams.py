# SPDX-License-Identifier: MIT
"""What becomes of a watch's records: events, changes, records or progress, the same for both
front-ends.

A reader has the records that the watch's queue gave, and an iterator takes items out of it. It
knows neither asyncio nor threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import _core
from ._calls import Inbox, decode
from ._errors import Error, make_error
from ._records import (
    ChangeKind,
    Event,
    EventKind,
    JobChange,
    Progress,
    Record,
    RecordKind,
    make_outcome,
)

T = TypeVar("T")
J = TypeVar("J")


def _after(lagged: _core._Record, record: _core._Record) -> _core._Record:
    """The record, with what was lost before it."""
    lost, lost_ends = record[4] + lagged[4], record[12] + lagged[12]
    return *record[:4], lost, *record[5:12], lost_ends, *record[13:]


class Reader(Generic[T]):
    """Makes items of records, until it is `over`.

    A record stays until its item is made, and reading it again changes nothing: an exception at any
    moment, of a signal handler for example, loses nothing that is not yet on its way to the caller.
    """

    def __init__(self) -> None:
        self.records: list[_core._Record] = []
        self.over = False
        self._error: Error | None = None

    def take(self) -> T | None:
        """The next item; None when there is none yet. Raises the error, once, when it is due."""
        while self._has_record():
            item = self._read(self.records[0])
            if self.over:
                self.records.clear()  # what comes after the end does not count
            else:
                del self.records[0]
            if item is not None:
                return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def close(self) -> None:
        """Drops what was not taken; nothing more is taken in."""
        self.over = True
        self._error = None
        self.records.clear()

    def _has_record(self) -> bool:
        return bool(self.records)

    def _read(self, record: _core._Record) -> T | None:
        raise NotImplementedError


class MonitorReader(Reader[T]):
    """Of a monitor's watch, which ends with the monitor. A connection that ended for good is an
    error."""

    def _has_record(self) -> bool:
        """What was lost is counted in the record after it."""
        records = self.records
        while len(records) > 1 and records[0][1] == _core.RECORD_LAGGED:
            records[:2] = [_after(records[0], records[1])]
        return bool(records) and records[0][1] != _core.RECORD_LAGGED

    def _end(self, error: int, text: str) -> None:
        if error not in (_core.OK, _core.E_CLOSED):
            self._error = make_error(error, text)
        self.over = True


class EventReader(MonitorReader[Event]):
    """Every event of QEMU, and where a connection ended and the next began."""

    def _read(self, record: _core._Record) -> Event | None:
        _, kind, error, _, lost, _, _, timestamp_us, name, text, *_ = record
        if kind == _core.RECORD_EVENT:
            data: dict[str, Any] = decode(text) if text else {}
            return Event(name, data, timestamp_us / 1e6, lost)
        if kind in (_core.RECORD_DISCONNECTED, _core.RECORD_RECONNECTED):
            why = make_error(error, text) if error else None
            return Event("", {}, 0.0, lost, EventKind(kind), why)
        if kind == _core.RECORD_CLOSED:
            self._end(error, text)
        return None


class JobsReader(MonitorReader[JobChange[J]]):
    """What happens to all jobs of a monitor, which it keeps until it is over."""

    def __init__(self, make_job: Callable[[_core.bj_job], J]) -> None:
        super().__init__()
        self._make_job: Callable[[_core.bj_job], J] | None = make_job

    def close(self) -> None:
        super().close()
        self._make_job = None

    def _end(self, error: int, text: str) -> None:
        super()._end(error, text)
        self._make_job = None

    def _read(self, record: _core._Record) -> JobChange[J] | None:
        _, kind, error, outcome, lost, _, _, timestamp_us, _, text, *_ = record
        handle, sequence, lost_ends, started, cause, resumed, inferred = record[10:]
        is_memo = kind in (_core.RECORD_APPEARED, _core.RECORD_MEMO)
        if kind == _core.RECORD_CLOSED:
            self._end(error, text)
        make_job = self._make_job
        if make_job is None:  # over, perhaps by a close() in another thread
            return None
        how = make_outcome(outcome)
        return JobChange(
            None if handle is None else make_job(handle),
            ChangeKind(kind),
            _core.job_type(handle),
            started,
            how,
            make_error(error, text, outcome=how, cause=cause) if error else None,
            "" if is_memo else text,
            _progress(record) if kind == _core.RECORD_PROGRESS else None,
            timestamp_us / 1e6,
            sequence,
            lost,
            lost_ends,
            text if is_memo else "",
            resumed,
            inferred,
        )


def _progress(record: _core._Record) -> Progress:
    return Progress(record[5], record[6], ready=_core.job_is_ready(record[10]))


class RecordReader(Reader[Record]):
    """Of a job's watch: all that happens to it, to the end."""

    def _read(self, record: _core._Record) -> Record | None:
        _, kind, error, outcome, lost, current, total, timestamp_us, name, text, *_ = record
        if kind == _core.RECORD_CLOSED:
            self.over = True
            return None
        how = make_outcome(outcome)
        return Record(
            RecordKind(kind),
            name,
            current,
            total,
            how,
            make_error(error, text, outcome=how, cause=record[14]) if error else None,
            text,
            lost,
            timestamp_us / 1e6,
        )


class ProgressReader(Reader[Progress]):
    """Of a job's watch: what a progress bar shows, until the job is ready or over.

    It does not say how the job ended: the next wait on the job does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = Progress(0, 0)

    def _read(self, record: _core._Record) -> Progress | None:
        _, kind, _, outcome, _, current, total, _, _, text, *_ = record
        last = self._last
        if kind in (_core.RECORD_READY, _core.RECORD_ENDED, _core.RECORD_CLOSED):
            self.over = True
        if kind == _core.RECORD_PROGRESS:
            self._last = last._replace(current=current, total=total)
        elif kind == _core.RECORD_STALLED:
            self._last = last._replace(stalled=text)
        elif kind == _core.RECORD_RESUMED:
            self._last = last._replace(stalled="")
        elif kind == _core.RECORD_READY:
            self._last = Progress(last.total, last.total, ready=True)
        elif kind == _core.RECORD_ENDED and outcome == _core.OUTCOME_COMPLETED:
            self._last = Progress(last.total, last.total)
        else:
            return None
        return self._last


class StreamBase(Generic[T]):
    """What a stream is in both front-ends: a watch, the queue that it reports to, and a reader.

    It keeps its monitor, which would be closed without it.
    """

    def __init__(
        self,
        what: str,
        owner: object,
        ctx: _core.bj_ctx,
        open_watch: Callable[[], _core.bj_watch],
        reader: Reader[T],
    ) -> None:
        self._what = what
        self._owner: object = owner
        self._reader = reader
        self._inbox = Inbox(ctx)
        self._watch = open_watch()
        self._inbox.subscribe(self._watch)

    def __repr__(self) -> str:
        state = ", over" if self._reader.over else ""
        return f"<Stream of the {self._what}{state}>"

    def close(self) -> None:
        """Ends the stream; what was not read is dropped."""
        _core.watch_close(self._watch)
        self._reader.close()
        self._owner = None

    def _take(self) -> T | None:
        """The next item; None when there is none yet, or none any more."""
        try:
            return self._reader.take()
        finally:
            if self._reader.over:
                self._owner = None
