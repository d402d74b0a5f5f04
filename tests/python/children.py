# SPDX-License-Identifier: MIT
# Python programs of their own, for what a test can't do to its own process.
"""Children: run to their end, or sent a signal once they sleep."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

HANG_SECONDS = 60.0


def start_child(program: str) -> subprocess.Popen[str]:
    """A Python that runs the program."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )


def end_child(child: subprocess.Popen[str]) -> str:
    """Its output, once it has ended as it should: by itself, with nothing to complain of."""
    try:
        output, complaints = child.communicate(timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        output, complaints = child.communicate()
        raise AssertionError(f"the child hangs; it said {output!r}, {complaints!r}") from None
    assert (child.returncode, complaints) == (0, ""), output
    return output


def run_child(program: str) -> str:
    """Runs the program to its end and returns its output."""
    return end_child(start_child(program))


def wait_asleep(child: subprocess.Popen[str]) -> None:
    """Waits until the main thread of the child waits for something."""
    deadline = time.monotonic() + HANG_SECONDS
    status = Path(f"/proc/{child.pid}/task/{child.pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < deadline, "the child never waits"
        time.sleep(0.001)
