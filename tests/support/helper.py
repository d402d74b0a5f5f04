# SPDX-License-Identifier: MIT
# The Python side of the test helpers' protocol, see serve.py.
"""A helper program of the tests, started and asked."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any


class HelperError(Exception):
    """A step was refused, or the helper is gone."""


class Helper:
    """A helper process; it ends what it started when it is closed, or when this process ends.

    `do` may be called from any thread, and blocks: under asyncio use
    `await asyncio.to_thread(helper.do, ...)`.
    """

    def __init__(self, program: Path, *options: str) -> None:
        self._lock = threading.Lock()
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
        with self._lock:
            try:
                self._input.write(json.dumps({"do": verb} | fields).encode() + b"\n")
                self._input.flush()
            except BrokenPipeError:
                raise HelperError(f"{verb}: the helper is gone") from None
            line = self._output.readline()
        if not line:
            raise HelperError(f"{verb}: the helper is gone")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise HelperError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends all that the helper started."""
        self._input.close()
        self.process.wait()
        self._output.close()

    def __enter__(self) -> Helper:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
