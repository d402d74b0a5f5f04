# SPDX-License-Identifier: MIT
# Starts a fakeqemu for a test, and gives it steps.
"""The Python side of fakeqemu's steps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from helper import Helper, HelperError

_FAKEQEMU = Path(__file__).with_name("fakeqemu.py")

ControlError = HelperError


class FakeQemu(Helper):
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
        super().__init__(_FAKEQEMU, "--profile", profile, "--control", "-", *where, *options)

    def wait(self, command: str, **fields: Any) -> dict[str, Any]:
        """Waits until a client has sent the command; returns the log's entry of it."""
        entry: dict[str, Any] = self.do("wait", command=command, **fields)["entry"]
        return entry

    def log(self) -> list[dict[str, Any]]:
        """What the clients did so far."""
        log: list[dict[str, Any]] = self.do("log")["log"]
        return log

    def close(self) -> None:
        super().close()
        self._directory.cleanup()
