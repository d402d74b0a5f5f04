# SPDX-License-Identifier: MIT
# The Python side of the test helpers' protocol (tests/support/serve.py). It is here because it is
# installed with fakeqemu.
"""A program that takes steps on its standard input, started and asked."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar


class HelperError(Exception):
    """A step was refused, or the helper is gone."""


Self = TypeVar("Self", bound="Helper")


class Helper:
    """A helper process; it ends what it started when it is closed, or when this process ends.

    `do` may be called from any thread, and blocks: under asyncio use
    `await asyncio.to_thread(helper.do, ...)`.
    """

    def __init__(self, program: Path, *options: str) -> None:
        self._turn = threading.Condition()
        self._numbers = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._is_reading = False
        self.process = subprocess.Popen(
            [sys.executable, str(program), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._input = self.process.stdin
        self._output = self.process.stdout
        if self._output.readline() != b"ready\n":
            self.close()
            raise HelperError(f"{program.name} did not start")

    def do(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Does a step and returns its answer. Raises HelperError."""
        number = next(self._numbers)
        step = {"do": verb, "number": number} | fields
        with self._turn:
            try:
                self._input.write(json.dumps(step).encode() + b"\n")
                self._input.flush()
            except BrokenPipeError:
                raise HelperError(f"{verb}: the helper is gone") from None
            while number not in self._answers:
                self._read(verb)
            answer = self._answers.pop(number)
        if not answer.pop("ok"):
            raise HelperError(f"{verb}: {answer['error']}")
        return answer

    def _read(self, verb: str) -> None:
        """Waits for an answer to any step: one of the waiting threads reads for all."""
        if self._is_reading:
            self._turn.wait()
            return
        self._is_reading = True
        self._turn.release()
        try:
            line = self._output.readline()
        finally:
            self._turn.acquire()
            self._is_reading = False
            self._turn.notify_all()
        if not line:
            raise HelperError(f"{verb}: the helper is gone")
        answer: dict[str, Any] = json.loads(line)
        self._answers[answer.pop("number")] = answer

    def close(self) -> None:
        """Ends all that the helper started."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self.process.wait()
        self._output.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
