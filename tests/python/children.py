# SPDX-License-Identifier: MIT
# Python programs of their own, for what a test can't do to its own process.
"""Children: run to their end, or sent a signal once they sleep."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HANG_SECONDS = 60.0


@contextmanager
def running(program: str, *, python: str = sys.executable) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs the program; it is gone after the `with`."""
    with subprocess.Popen(
        [python, "-c", textwrap.dedent(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def read_line(child: subprocess.Popen[str]) -> str:
    """What it says next."""
    assert child.stdout is not None
    return child.stdout.readline().rstrip("\n")


def end_child(child: subprocess.Popen[str]) -> str:
    """Its output, once it has ended as it should: by itself, with nothing to complain of."""
    try:
        output, complaints = child.communicate(timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        output, complaints = child.communicate()
        raise AssertionError(f"the child hangs; it said {output!r}, {complaints!r}") from None
    assert (child.returncode, complaints) == (0, ""), f"{child.returncode}: {complaints}{output}"
    return output


def run_child(program: str, *, python: str = sys.executable) -> str:
    """Runs the program to its end and returns its output."""
    with running(program, python=python) as child:
        return end_child(child)


def wait_asleep(child: subprocess.Popen[str]) -> None:
    """Waits until the main thread of the child waits for something."""
    deadline = time.monotonic() + HANG_SECONDS
    status = Path(f"/proc/{child.pid}/task/{child.pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < deadline, "the child never waits"
        time.sleep(0.001)
