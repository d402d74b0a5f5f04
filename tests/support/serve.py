# SPDX-License-Identifier: MIT
# The loop of the test helpers: tests/support/qemu and tests/support/libvirtd.
"""A helper program: it starts servers for a test program, and obeys the lines of its standard input.

A line is a JSON object. `do` names the step, the other members are its arguments. Each is answered
by a line on the standard output: `{"ok": true, ...}` with the results, or `{"ok": false, "error":
TEXT}`. The first line, `ready`, comes once the helper takes steps. At the end of its input it ends
what it has started and removes its files, also when the test program was killed. tests/fakeqemu
speaks the same protocol.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

Steps = Mapping[str, Callable[..., dict[str, Any] | None]]


class StepError(Exception):
    """A step could not be done; the text says why."""


def _answer(line: str, steps: Steps) -> dict[str, Any]:
    arguments: dict[str, Any] = json.loads(line)
    name = arguments.pop("do")
    if name not in steps:
        return {"ok": False, "error": f"there is no step {name!r}"}
    try:
        return {"ok": True} | (steps[name](**arguments) or {})
    except Exception as error:
        return {"ok": False, "error": f"{name}: {type(error).__name__}: {error}"}


def ignore_signals() -> None:
    """What is meant to stop a test must not stop the clean-up: only the end of the input does."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def default_signals() -> None:
    """For a child, after fork: the dispositions that a program expects to start with."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def serve(steps: Steps) -> None:
    """Obeys until the end of the input."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(line, steps)), flush=True)
