# SPDX-License-Identifier: MIT
"""The command-line tool, `blockjob` or `python -m blockjob`: looks at block jobs, awaits, pivots
and aborts them, for a person at a terminal and for scripts. blockjob(1) is its manual."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence

from . import (
    Error,
    InvalidArgument,
    JobEnded,
    JobFailed,
    JobInfo,
    JobLost,
    NoJob,
    Outcome,
    Record,
    RecordKind,
    Timeout,
    __version__,
    sync,
)

AS_ASKED, OTHERWISE, USAGE, TIMED_OUT = range(4)

_USAGE = """\
URI is what QEMU's monitor listens on (unix:/run/vm1.qmp, tcp:host:port), or a domain of
libvirt's (qemu:///system#vm1, libvirt:vm1). JOB is the id that `blockjob list` shows.

exit status:
  0  as asked: ready; the end COMPLETED, PIVOTED or COPIED; aborted
  1  it failed, or ended otherwise: standard error says why
  2  the command line makes no sense
  3  --timeout has passed, connecting included: standard error says what is amiss, if anything is
"""

_USEFUL = frozenset({Outcome.COMPLETED, Outcome.PIVOTED, Outcome.COPIED})
_ABORTED = frozenset({Outcome.CANCELLED, Outcome.COPIED})

_Command = argparse.ArgumentParser
_JobCommand = Callable[[sync.Job, argparse.Namespace], int]

_INTERVAL = 0.5  # seconds between two looks at the progress
_CONNECT, _ATTACH = 10.0, 60.0  # seconds, where --timeout leaves so many


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command line says, and returns the exit status."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # not every locale has every letter
    if sys.stdout is None:
        _complain("can't write: standard output is closed")
        return OTHERWISE
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        status = run(arguments)
        print(end="", flush=True)
    except KeyboardInterrupt:
        return _die_of(signal.SIGINT)
    except BrokenPipeError:
        return _die_of(signal.SIGPIPE)
    except Error as error:
        _complain(str(error))
        return USAGE if isinstance(error, InvalidArgument) else OTHERWISE
    except OSError as error:
        _complain(f"can't write: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries again, and complains too
        return OTHERWISE
    return status


# ------------------------------------------------------------------------------- command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="blockjob",
        description="Looks at QEMU's block jobs, awaits, pivots and aborts them.",
        epilog=_USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], what: str) -> _Command:
        command: _Command = commands.add_parser(name, help=what, description=what)
        command.add_argument("uri", metavar="URI", help="QEMU's monitor, or libvirt's domain")
        command.set_defaults(run=run)
        return command

    def add_for_job(name: str, run: _JobCommand, what: str) -> _Command:
        command = add(name, functools.partial(_with_job, run), what)
        command.add_argument("job", metavar="JOB", type=_utf8, help="the job's id")
        return command

    def add_timeout(command: _Command) -> None:
        what = "wait no longer, connecting included, and leave the job alone (0: what is true now)"
        command.add_argument("--timeout", type=_seconds, metavar="SECONDS", help=what)

    jobs = add("list", _list, "The jobs there are.")
    jobs.add_argument("--json", action="store_true", help="as an array of objects, sizes in bytes")

    add_for_job("watch", _watch, "Shows how far a job is, until it is over.")

    wait = add_for_job("wait", _wait, "Waits until a job is over, or ready; prints which.")
    which = wait.add_mutually_exclusive_group()
    which.add_argument("--ready", action="store_true", help="wait until it is ready")
    which.add_argument("--done", action="store_true", help="wait until it is over; the default")
    add_timeout(wait)

    pivot = add_for_job("pivot", _pivot, "Waits until a job is ready, and switches the disk.")
    add_timeout(pivot)

    abort = add_for_job("abort", _abort, "Aborts a job, and waits until it is over.")
    how = abort.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="at once, also where it stands still")
    how.add_argument(
        *("--force-after",),
        type=_delay,
        metavar="SECONDS",
        help="softly at first, and by force when it is not over by then",
    )
    add_timeout(abort)

    add("events", _events, "Prints each event of QEMU as a line of JSON.")
    return parser


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait")
    return seconds


def _delay(text: str) -> float:
    seconds = _seconds(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("must be more than 0 (at once is --force)")
    return seconds


# ----------------------------------------------------------------------------------- commands


def _list(arguments: argparse.Namespace) -> int:
    with _connect(arguments.uri, _CONNECT) as monitor:
        jobs = monitor.jobs()
    if arguments.json:
        print(json.dumps([job._asdict() for job in jobs], indent=2))
    else:
        _print_table(["ID", "TYPE", "STATUS", "DONE", "SIZE", "LIMIT", "ERROR"], map(_row, jobs))
    return AS_ASKED


def _events(arguments: argparse.Namespace) -> int:
    with _connect(arguments.uri, _CONNECT) as monitor, monitor.events() as events:
        for event in events:
            line = {"event": event.name, "data": event.data, "timestamp": event.timestamp}
            lost = {"lost": event.lost} if event.lost else {}
            print(json.dumps(line | lost, default=str), flush=True)  # a Decimal has many digits
    return AS_ASKED


def _with_job(run: _JobCommand, arguments: argparse.Namespace) -> int:
    """What is done to one job; how that ends otherwise than asked is told here."""
    limit = _Limit(getattr(arguments, "timeout", None))
    try:
        with _connect(arguments.uri, limit.within(_CONNECT)) as monitor:
            job = monitor.attach(arguments.job, timeout=limit.within(_ATTACH))
            arguments.timeout = limit.rest()
            try:
                return run(job, arguments)
            except (JobFailed, JobLost, JobEnded):
                return _tell_end(job, ())
    except Timeout as error:
        if not limit.has_passed():
            raise
        _complain(limit.words_of(error))
        return TIMED_OUT


class _Limit:
    """What --timeout leaves, from the start of the program on: one deadline for all steps."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def rest(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def within(self, seconds: float) -> float:
        """Of a step that has a limit of its own. 0 asks for what is true now, which nobody can say
        without a connection, so it leaves those as they are."""
        return min(seconds, self.rest()) if self._seconds else seconds

    def has_passed(self) -> bool:
        return self.rest() < 0.01  # the clocks of two threads

    def words_of(self, error: Timeout) -> str:
        """With what the user has said, not what was left of it."""
        return re.sub(r"within \S+ s", f"within {self._seconds:g} s", str(error))


def _watch(job: sync.Job, _arguments: argparse.Namespace) -> int:
    with job.watch(progress=_INTERVAL) as records, _Display(job) as display:
        for record in records:
            display.show(record)
    return _tell_end(job, _USEFUL)


def _wait(job: sync.Job, arguments: argparse.Namespace) -> int:
    if arguments.ready:
        job.ready(arguments.timeout)
        print("READY")
        return AS_ASKED
    job.done(timeout=arguments.timeout)
    return _tell_end(job, _USEFUL)


def _pivot(job: sync.Job, arguments: argparse.Namespace) -> int:
    job.pivot(timeout=arguments.timeout)
    return _tell_end(job, {Outcome.PIVOTED})


def _abort(job: sync.Job, arguments: argparse.Namespace) -> int:
    job.abort(force=arguments.force, force_after=arguments.force_after, timeout=arguments.timeout)
    return _tell_end(job, _ABORTED)


def _connect(uri: str, timeout: float) -> sync.Monitor:
    with _without_stderr():
        return sync.connect(uri, timeout=timeout)


@contextlib.contextmanager
def _without_stderr() -> Generator[None, None, None]:
    """libvirt prints why it can't connect; so do we, and once is enough."""
    if sys.stderr is None:
        yield
        return
    with open(os.devnull, "w") as nothing, open(os.dup(2), "w") as kept:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept.fileno(), 2)


# -------------------------------------------------------------------------------- what is told


def _tell_end(job: sync.Job, wanted: Collection[Outcome]) -> int:
    """How the job ended: its outcome if that was wanted, else a complaint."""
    if job.outcome in wanted:
        print(job.outcome)
        return AS_ASKED
    reason = f": {job.error}" if job.error else ""
    _complain(f"job {job.id} ended as {job.outcome}{reason}")
    return OTHERWISE


def _complain(sentence: str) -> None:
    if sys.stderr is not None:  # else print() would take stdout
        print("blockjob:", _printable(sentence), file=sys.stderr)


def _die_of(number: int) -> int:
    """Ends as programs do that don't catch the signal, so that a shell can tell."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number  # it is blocked


def _printable(text: str) -> str:
    """What a peer says must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _size(number: float) -> str:
    """Of bytes: "1.5 GiB"."""
    if number < 1024:
        return f"{number} B"
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"


def _percent(current: int, total: int) -> str:
    """Rounded down: 100 % is all of it."""
    return f"{100 * current // total} %" if total else ""


def _row(job: JobInfo) -> list[str]:
    status = job.status or ("ready" if job.ready else "paused" if job.paused else "running")
    trouble = job.io_status if job.io_status not in ("", "ok") else ""
    return [
        job.id,
        job.type,
        status,
        _percent(job.current or 0, job.total or 0),
        "" if job.total is None else _size(job.total),
        f"{_size(job.speed)}/s" if job.speed else "",
        job.error or trouble,
    ]


def _print_table(header: list[str], rows: Iterator[list[str]]) -> None:
    """In columns; what is unknown, or not there, is a dash."""
    lines = [header, *([_printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


class _Display:
    """Where a job's records are shown: a line for each change of its status or percentage, or on a
    terminal one line that is written again and again."""

    def __init__(self, job: sync.Job) -> None:
        self._name = f"{job.id}  {job.type}" if job.type else job.id
        self._status = "ready" if job.is_ready else "running"
        with contextlib.suppress(NoJob):  # it has just ended
            self._status = job.query().status or self._status
        self._stalled = self._percent = self._amount = ""
        self._on_terminal = os.isatty(1)
        self._shown = ""

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._on_terminal and self._shown:
            print(flush=True)

    def show(self, record: Record) -> None:
        if record.kind is RecordKind.STATUS:
            self._status = record.status
        elif record.kind is RecordKind.READY:
            self._status = "ready"
        elif record.kind is RecordKind.STALLED:
            self._stalled = record.text
        elif record.kind is RecordKind.RESUMED:
            self._stalled = ""
        elif record.kind is RecordKind.PROGRESS:
            self._percent = _percent(record.current, record.total)
            self._amount = f"{_size(record.current)} of {_size(record.total)}"
        self._write()

    def _write(self) -> None:
        line = self._line(self._amount)
        if self._on_terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line.ljust(len(self._shown))}", end="", flush=True)
            self._shown = line
        elif (change := self._line()) != self._shown:
            print(line, flush=True)
            self._shown = change

    def _line(self, *more: str) -> str:
        parts = (self._name, self._status, self._percent, *more, self._stalled)
        return _printable("  ".join(part for part in parts if part))


if __name__ == "__main__":
    sys.exit(main())
