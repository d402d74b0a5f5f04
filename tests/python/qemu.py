# SPDX-License-Identifier: MIT
# Real QEMUs for the Python tests, and disks for their jobs: a client of tests/support/qemu.
"""A QEMU in a directory of its own, with two monitors for the library."""

from __future__ import annotations

import atexit
import functools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from helper import Helper

DISK_BYTES = 4 * 1024 * 1024

# As options of a job: it copies a first piece, then stands still until its speed is set to 0. So a
# test can look at a running job as long as it likes.
HALTED: dict[str, Any] = {"speed": 1}
HALTED_MIRROR: dict[str, Any] = {"speed": 1, "buf_size": 65536}


@functools.cache
def helper() -> Helper:
    """The helper that runs the QEMUs of this process."""
    started = Helper(Path(__file__).parents[1] / "support" / "qemu")
    atexit.register(started.close)
    return started


class Refused(Exception):
    """QEMU refused a command of the test itself."""


class Qemu:
    """A qemu-storage-daemon, or with `system` a qemu-system-x86_64 without a machine.

    With `tcp` its first monitor is on a port of the loopback interface; `arguments` are for its
    command line. A `directory` may be that
    of another one: this one takes its place.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        system: bool = False,
        tcp: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        started = helper().do(
            "start",
            program="system" if system else "daemon",
            directory=directory and str(directory),
            tcp="127.0.0.1" if tcp else None,
            arguments=list(arguments),
        )
        self._name = started["qemu"]
        self.directory = Path(self._name)
        self.path = str(self.directory / "first.qmp")
        self.second_path = str(self.directory / "second.qmp")
        self.uri = f"tcp:127.0.0.1:{started['port']}" if tcp else f"unix:{self.path}"

    def _step(self, verb: str, /, **fields: Any) -> dict[str, Any]:
        return helper().do(verb, qemu=self._name, **fields)

    def kill(self) -> None:
        """Kills it without a word to anyone."""
        self._step("kill")

    def stop(self) -> None:
        """Stops it: it is there, but silent."""
        self._step("stop")

    def go_on(self) -> None:
        self._step("go-on")

    def close(self) -> None:
        helper().do("end", directory=self._name)

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def do(self, command: str, arguments: dict[str, Any] | None = None, /, **keywords: Any) -> Any:
        """Runs a command; underscores of keywords become dashes."""
        given = (arguments or {}) | {k.replace("_", "-"): v for k, v in keywords.items()}
        reply = self._step("qmp", execute=command, arguments=given)
        if "error" in reply:
            raise Refused(reply["error"]["desc"])
        return reply["return"]

    def wait(self, event: str, **data: Any) -> None:
        """Waits for the next event with these data; it may have come before."""
        self._step("wait", event=event, data=data)

    def wait_status(self, status: str) -> None:
        """Waits until some job has that status, or had it."""
        self.wait("JOB_STATUS_CHANGE", status=status)

    def add_disk(self, name: str) -> str:
        """A disk full of data."""
        self._step("disk", name=name)
        return name

    def add_empty(self, name: str, size: int = DISK_BYTES) -> str:
        """A disk full of nothing."""
        self._step("empty", name=name, size=size)
        return name

    def add_failing(self, name: str, *, once: bool = False, errno: int = 5) -> str:
        """A disk whose middle can't be written: never, or not the first time."""
        self._step("failing", name=name, once=once, errno=errno)
        return name

    def add_braked(self, name: str) -> str:
        """An empty disk that takes its first write and hardly any more."""
        self._step("braked", name=name)
        return name

    def add_served(self, name: str) -> str:
        """An empty disk that has a server of its own."""
        self._step("served", name=name)
        return name

    def hang(self, name: str) -> None:
        """That server stops answering."""
        self._step("hang", name=name)

    def answer(self, name: str) -> None:
        """It goes on."""
        self._step("answer", name=name)

    def add_chain(self) -> None:
        """The qcow2 disks "base" <- "middle" <- "active", each with data of its own."""
        self._step("chain")

    def add_guest(self, node: str) -> None:
        """A guest that has the node as its disk; jobs switch it."""
        self._step("guest", node=node)

    def disk_of_guest(self) -> str:
        node: str = self._step("disk-of-guest")["node"]
        return node

    def jobs(self) -> dict[str, str]:
        """The status of each job that it knows."""
        jobs: dict[str, str] = self._step("jobs")["jobs"]
        return jobs

    def release(self, job_id: str) -> None:
        """Lets a halted job go on."""
        self._step("release", job=job_id)
