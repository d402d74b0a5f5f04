# SPDX-License-Identifier: MIT
# Real QEMUs for the Python tests, and disks for their jobs.
"""A QEMU in a directory of its own: two monitors for the library, and one for the test itself."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

DISK_BYTES = 4 * 1024 * 1024

# As options of a job: it copies a first piece, then stands still until its speed is set to 0. So a
# test can look at a running job as long as it likes.
HALTED: dict[str, Any] = {"speed": 1}
HALTED_MIRROR: dict[str, Any] = {"speed": 1, "buf_size": 65536}

_DAEMON = (
    *("qemu-storage-daemon",),
    *("--chardev", "socket,id=first,fd={0},server=on,wait=off", "--monitor", "chardev=first"),
    *("--chardev", "socket,id=second,fd={1},server=on,wait=off", "--monitor", "chardev=second"),
    *("--chardev", "socket,id=other,fd={2}", "--monitor", "chardev=other"),
)
_SYSTEM = (
    *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-S"),
    *("-chardev", "socket,id=first,fd={0},server=on,wait=off"),
    *("-mon", "chardev=first,mode=control"),
    *("-chardev", "socket,id=second,fd={1},server=on,wait=off"),
    *("-mon", "chardev=second,mode=control"),
    *("-chardev", "socket,id=other,fd={2}", "-mon", "chardev=other,mode=control"),
)


class Refused(Exception):
    """QEMU refused a command of the test itself."""


class Client:
    """A blocking QMP client that owes nothing to the library under test."""

    def __init__(self, connected: socket.socket) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = connected
        self._lines = self._socket.makefile("rb")
        self._read()
        self.do("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._lines.readline())
        if "event" in message:
            self.events.append(message)
        return message

    def do(self, command: str, arguments: dict[str, Any] | None = None, /, **keywords: Any) -> Any:
        """Runs a command; underscores of keywords become dashes."""
        given = (arguments or {}) | {k.replace("_", "-"): v for k, v in keywords.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": given}).encode())
        while True:
            message = self._read()
            if "error" in message:
                raise Refused(message["error"]["desc"])
            if "return" in message:
                return message["return"]

    def wait(self, name: str, fits: Callable[[dict[str, Any]], bool] = lambda data: True) -> None:
        """Waits for an event that fits, from the first one on."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event["event"] == name and fits(event["data"]):
                    return
            seen = len(self.events)
            self._read()

    def wait_status(self, status: str) -> None:
        """Waits until some job has that status, or had it."""
        self.wait("JOB_STATUS_CHANGE", lambda data: data["status"] == status)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def _listen(path: str | None) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listener.bind(path or ("127.0.0.1", 0))
    listener.listen(1)
    return listener


class Qemu:
    """A qemu-storage-daemon, or with `system` a qemu-system-x86_64 without a machine.

    With `tcp` its first monitor is on a port of the loopback interface.
    """

    def __init__(self, directory: Path, *, system: bool = False, tcp: bool = False) -> None:
        self.directory = directory
        self.path = str(directory / "first.qmp")
        self.second_path = str(directory / "second.qmp")
        self.uri = f"unix:{self.path}"
        ours, theirs = socket.socketpair()
        with (
            theirs,
            _listen(None if tcp else self.path) as first,
            _listen(self.second_path) as second,
        ):
            if tcp:
                self.uri = "tcp:{}:{}".format(*first.getsockname())
            fds = (first.fileno(), second.fileno(), theirs.fileno())
            command = [word.format(*fds) for word in (_SYSTEM if system else _DAEMON)]
            self.process = subprocess.Popen(
                command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        # Once it answers here, it has set up the other monitors. Who comes before that may be
        # served by two of its threads at once, and hang.
        self.other = Client(ours)
        self.do = self.other.do

    def kill(self) -> None:
        """Kills it without a word to anyone."""
        self.process.kill()

    def stop(self) -> None:
        """Stops it: it is there, but silent."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.other.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------- disks

    def add_disk(self, name: str) -> str:
        """A disk full of data."""
        return self._add_raw(name, self._file(name, name[:1].encode() * DISK_BYTES))

    def add_empty(self, name: str, size: int = DISK_BYTES) -> str:
        """A disk full of nothing."""
        return self._add_raw(name, self._file(name, b"", size))

    def add_failing(self, name: str, *, once: bool = False, errno: int = 5) -> str:
        """A disk that can't be written: all writes fail, or only the next."""
        error = {"event": "none", "iotype": "write", "errno": errno, "once": once}
        self.do(
            "blockdev-add",
            driver="blkdebug",
            node_name=name,
            inject_error=[error],
            image={"driver": "file", "filename": self._file(name, b"")},
        )
        return name

    def add_chain(self) -> None:
        """The qcow2 disks "base" <- "middle" <- "active", each with data of its own."""
        paths = {
            name: str(self.directory / f"{name}.qcow2") for name in ("base", "middle", "active")
        }
        backing: list[str] = []
        for number, path in enumerate(paths.values()):
            create = ["qemu-img", "create", "-q", "-f", "qcow2", *backing, path]
            subprocess.run([*create, str(DISK_BYTES)], check=True)
            write = f"write -q -P {number + 1} {number}M 2M"
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, path], check=True)
            backing = ["-F", "qcow2", "-b", path]
        below: str | None = None
        for name, path in paths.items():
            file = {"driver": "file", "filename": path}
            self.do("blockdev-add", driver="qcow2", node_name=name, backing=below, file=file)
            below = name

    def _file(self, name: str, data: bytes, size: int = DISK_BYTES) -> str:
        path = self.directory / f"{name}.raw"
        with path.open("xb") as file:
            file.write(data)
            file.truncate(size)
        return str(path)

    def _add_raw(self, name: str, path: str) -> str:
        file = {"driver": "file", "filename": path}
        self.do("blockdev-add", driver="raw", node_name=name, file=file)
        return name

    def add_guest(self, node: str) -> None:
        """A guest that has the node as its disk; jobs switch it."""
        path = str(self.directory / "guest.sock")
        self.do("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
        self.do("block-export-add", type="nbd", id="guest", node_name=node, writable=True)

    # -------------------------------------------------------------- what it says

    def disk_of_guest(self) -> str:
        node: str = self.do("query-block-exports")[0]["node-name"]
        return node

    def jobs(self) -> dict[str, str]:
        """The status of each job that it knows."""
        return {job["id"]: job["status"] for job in self.do("query-jobs")}

    def release(self, job_id: str) -> None:
        """Lets a halted job go on."""
        self.do("block-job-set-speed", device=job_id, speed=0)
