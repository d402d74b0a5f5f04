# SPDX-License-Identifier: MIT
# The loop of the test helpers: tests/support/qemu and tests/support/libvirtd.
"""A helper program starts servers for a test program, and obeys the lines of its standard input.

A line is a JSON object. `do` names the step, the other members are its arguments. Each is answered
by a line on the standard output: `{"ok": true, ...}` with the results, or `{"ok": false, "error":
TEXT}`. A `number` in a step is repeated in its answer. The first line, `ready`, comes once the
helper takes steps. At the end of its input it ends what it has started and removes its files, also
when the test program was killed. tests/fakeqemu speaks the same protocol with `--control -`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

# Quoted, for Python 3.9.
Steps = Mapping[str, "Callable[..., dict[str, Any] | None]"]

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_signals = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class StepError(Exception):
    """A step could not be done; the text says why."""


def _answer(arguments: dict[str, Any], steps: Steps) -> dict[str, Any]:
    name = arguments.pop("do")
    if name not in steps:
        return {"ok": False, "error": f"there is no step {name!r}"}
    try:
        return {"ok": True} | (steps[name](**arguments) or {})
    except StepError as error:
        return {"ok": False, "error": str(error)}
    except Exception as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def _obey(line: str, steps: Steps) -> None:
    arguments: dict[str, Any] = json.loads(line)
    number = {"number": arguments.pop("number")} if "number" in arguments else {}
    answer = json.dumps(number | _answer(arguments, steps))
    with contextlib.suppress(BrokenPipeError):  # the test has ended, and so has the input
        # One write: the answers of steps in several threads must not mix.
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def ignore_signals() -> None:
    """Keeps what is meant to stop a test from stopping the clean-up, which the end of input starts.

    The handlers do nothing. Unlike SIG_IGN they are not inherited: a program that the helper starts
    gets the default dispositions, even if the test itself was started with these signals ignored.
    """
    for number in _signals:
        signal.signal(number, lambda number, frame: None)


def die_with_helper() -> None:
    """For a child, after fork: no signal is blocked, and it is killed when the helper is.

    More exactly, when the thread that started it ends: not for steps with threads of their own.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def serve(steps: Steps, *, concurrent: bool = False) -> None:
    """Obeys until the end of the input; `concurrent` runs each step in its own thread."""
    print("ready", flush=True)
    for line in sys.stdin:
        if concurrent:
            threading.Thread(target=_obey, args=(line, steps), daemon=True).start()
        else:
            _obey(line, steps)
