# SPDX-License-Identifier: MIT
# For the tests with Nova: a Nova that awaits its block jobs, processes that run it, its domains.
"""Nova's code (compute.py) in processes of their own, and domains such as Nova makes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from libvirtd import Domain, Libvirtd

_HERE = Path(__file__).parent
_APPLY = _HERE.parents[1] / "examples/nova/apply.py"

VOLUME = "volume"

# Long enough for the slowest machine: it is only met by a test that hangs.
HANG_SECONDS = 60.0


def missing() -> str:
    """What there is not in this Python, "" if Nova can be run."""
    lacks = [name for name in ("nova", "libvirt", "blockjob") if find_spec(name) is None]
    return f"this Python has no {' and no '.join(lacks)}" if lacks else ""


def installed() -> Path:
    """Nova as it is."""
    spec = find_spec("nova")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def awaiting(folder: Path) -> Path:
    """A copy of it in that folder, changed by examples/nova/apply.py."""
    tree = folder / "nova"
    shutil.copytree(installed(), tree, ignore=shutil.ignore_patterns("locale"))
    subprocess.run([sys.executable, str(_APPLY), str(tree)], check=True, capture_output=True)
    return tree


def environment(tree: Path, blockjob: bool = True) -> dict[str, str]:
    """In which a Python finds that Nova first, and blockjob or not."""
    folders = [str(tree.parent)]
    if blockjob:
        spec = find_spec("blockjob")
        assert spec is not None and spec.origin is not None
        folders.append(str(Path(spec.origin).parents[1]))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONWARNINGS": "ignore"}


class Failure(Exception):
    """What a source has raised over there; `code` is libvirt's, if it has one."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told['type']}: {told['text']}")
        self.type: str = told["type"]
        self.text: str = told["text"]
        self.code: int | None = told["code"]
        self.cause: Failure | None = Failure(told["cause"]) if told["cause"] else None


class Compute:
    """A nova-compute, of that Nova; `backend` is "eventlet" or "threads"."""

    def __init__(self, tree: Path, backend: str, connection: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "compute.py"), backend, connection],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(tree),
        )
        self._answers: dict[int, SimpleQueue[dict[str, Any] | None]] = {0: SimpleQueue()}
        self._numbers = itertools.count(1)
        self._over = False
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        self.result(0)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["number"]].put(answer)
        self._over = True
        for answers in list(self._answers.values()):
            answers.put(None)

    def start(self, source: str) -> int:
        """Lets it run that in a thread of its own; a number for `result`."""
        number = next(self._numbers)
        self._answers[number] = SimpleQueue()
        assert self._process.stdin is not None and not self._over
        self._process.stdin.write(json.dumps({"number": number, "python": source}) + "\n")
        self._process.stdin.flush()
        return number

    def result(self, number: int) -> Any:
        """What came out; raises a `Failure` if it raised."""
        answer = self._answers[number].get(timeout=HANG_SECONDS)
        assert answer is not None, "it is gone"
        if "error" in answer:
            raise Failure(answer["error"])
        return answer["result"]

    def do(self, source: str) -> Any:
        return self.result(self.start(source))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._listener.join()

    def __enter__(self) -> Compute:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def make_instance(host: Libvirtd) -> Domain:
    """A persistent domain whose disk is a volume, on a chain of snapshots with relative names."""
    return host.domain(None, "vda", persistent=True, layers=("base", "middle"), serial=VOLUME)


def until(condition: Callable[[], bool]) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)
