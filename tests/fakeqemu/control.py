# SPDX-License-Identifier: MIT
# Starts a fakeqemu for a test and talks to its control socket.
"""The Python side of the control socket.

Everything here blocks; under asyncio use `await asyncio.to_thread(qemu.do, "ready")`.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

_FAKEQEMU = Path(__file__).with_name("fakeqemu.py")


class ControlError(Exception):
    """A step was refused."""


class Control:
    """A connection to the control socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def do(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Does a step and returns its answer. Raises ControlError."""
        with self._lock:
            self._socket.sendall(json.dumps({"do": verb} | fields).encode() + b"\n")
            line = self._lines.readline()
        if not line:
            raise ControlError(f"{verb}: fakeqemu is gone")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise ControlError(f"{verb}: {answer['error']}")
        return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class FakeQemu:
    """A fakeqemu with its sockets in a temporary directory; ends with its `with` block.

    `path` is its QMP socket (with `monitors=N`: `paths`), further options go to its command line.
    """

    def __init__(self, *options: str, profile: str = "7.2", monitors: int = 0) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="fakeqemu-")
        directory = self._directory.name
        self.path = f"{directory}/0.qmp" if monitors else f"{directory}/qmp"
        self.paths = [f"{directory}/{index}.qmp" for index in range(monitors)] or [self.path]
        where = ["--socket", self.path]
        if monitors:
            where = ["--monitors", str(monitors), "--socket-pattern", f"{directory}/%d.qmp"]
        control = f"{directory}/control"
        command = [sys.executable, str(_FAKEQEMU), "--profile", profile, "--control", control]
        self.process = subprocess.Popen(
            [*command, *where, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            self._end()
            raise ControlError("fakeqemu did not start")
        self._control = Control(control)

    def do(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Does a step and returns its answer. Raises ControlError."""
        return self._control.do(verb, **fields)

    def wait(self, command: str, **fields: Any) -> dict[str, Any]:
        """Waits until a client has sent the command; returns the log's entry of it."""
        entry: dict[str, Any] = self.do("wait", command=command, **fields)["entry"]
        return entry

    def log(self) -> list[dict[str, Any]]:
        """What the clients did so far."""
        log: list[dict[str, Any]] = self.do("log")["log"]
        return log

    def close(self) -> None:
        self._control.close()
        self._end()

    def _end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self._directory.cleanup()

    def __enter__(self) -> FakeQemu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
