# SPDX-License-Identifier: MIT
"""What the benchmarks share: where things are built, and a QEMU with disks that cost nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / os.environ.get("BUILD", "build")

DISK_BYTES = 1 << 20
# So slow that a pivot is asked for before READY; and so slow that READY never comes.
SLOW_NS = 10_000_000
STUCK_NS = 3_600_000_000_000
PATIENCE_S = 600  # none takes a tenth of it


def give_up(reason: str) -> NoReturn:
    sys.exit(f"{Path(sys.argv[0]).name}: {reason}")


def program(name: str) -> str:
    """A program in C of this folder."""
    path = BUILD / "bench" / name
    if not path.exists():
        give_up(f"{path} is not built: make bench-programs")
    return str(path)


def go_program(name: str, package: str) -> str:
    """A program in Go of the module bench/go, built."""
    os.environ.setdefault("PKG_CONFIG_PATH", str(BUILD))
    os.environ.setdefault("GOFLAGS", "-tags=libblockjob_system")
    os.environ.setdefault("LD_LIBRARY_PATH", str(BUILD))
    path = BUILD / "bench" / name
    build = ["go", "build", "-buildvcs=false", "-o", str(path), package]
    if subprocess.run(build, cwd=HERE / "go").returncode != 0:
        give_up(f"{name} can't be built")
    return str(path)


def clients() -> dict[str, list[str]]:
    """The same client in each language; see client.c."""
    python = BUILD / "venv" / "bin" / "python"
    if not python.exists():
        give_up("the Python package is not installed in build/venv: make python-install")
    return {
        "C": [program("client")],
        "Python": [str(python), str(HERE / "client.py")],
        "Go": [go_program("client-go", ".")],
    }


class Lines:
    """A program that is told lines and answers with lines."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self._name = " ".join(command)
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            give_up(f"{self._name} has ended with {self._process.wait()}")
        return line.strip()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Qemu:
    """A QEMU without a guest, whose disks are made of nothing.

    `socket` is for the client. Node "disk" is to be copied: to "slow", to "fast", or to "stuck",
    which never comes to an end.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("qemu-system-x86_64") is None:
            give_up("qemu-system-x86_64 is not installed; `make bench` brings it along")
        self.socket = folder / "client.qmp"
        own = folder / "rig.qmp"
        command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"]
        command += ["-S"]
        for name, latency in {"disk": 0, "fast": 0, "slow": SLOW_NS, "stuck": STUCK_NS}.items():
            # Zeros are data; without them there would be nothing to copy.
            node = {"driver": "null-co", "node-name": name, "size": DISK_BYTES, "read-zeroes": True}
            command += ["-blockdev", json.dumps({**node, "latency-ns": latency})]
        with contextlib.ExitStack() as stack:
            listeners = []
            for path in (own, self.socket):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(path))
                listener.listen(1)
                listener.setblocking(False)  # two threads of QEMU may accept the same client
                fd = listener.fileno()
                command += ["-chardev", f"socket,id={path.stem},fd={fd},server=on,wait=off"]
                command += ["-mon", f"chardev={path.stem},mode=control"]
                listeners.append(fd)
            self._process = subprocess.Popen(command, pass_fds=listeners)
        try:
            self._open(own)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as own:
            own.connect(str(path))
            self._stream = own.makefile("rw")
        version = self._read()["QMP"]["version"]["qemu"]
        self.version = ".".join(str(version[part]) for part in ("major", "minor", "micro"))
        self._stream.write('{"execute": "qmp_capabilities"}')
        self._stream.flush()

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            give_up("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        return message

    def await_job(self, status: str) -> None:
        """Until a job has this status, from where the last call has stopped reading."""
        while True:
            message = self._read()
            is_status = message.get("event") == "JOB_STATUS_CHANGE"
            if is_status and message["data"]["status"] == status:
                return

    def close(self) -> None:
        # Not asked to end: it would wait for what is stuck.
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(AttributeError, OSError):
            self._stream.close()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="blockjob-bench-") as folder:
        yield Path(folder)


def run(main: Callable[[], None]) -> None:
    """Runs a benchmark so that nothing is left behind when it is ended."""

    def ended(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    def hanging(_number: int, _frame: object) -> None:
        give_up(f"not done after {PATIENCE_S} s: something hangs")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, ended)
    signal.signal(signal.SIGALRM, hanging)
    signal.alarm(PATIENCE_S)
    main()
