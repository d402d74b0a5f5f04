# SPDX-License-Identifier: MIT
"""What the benchmarks of the libvirt driver share: a libvirtd of their own, and domains under it
whose copies become ready when the benchmark says so."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import rig

DISK_BYTES = 4 << 20
# So slow that a copy stands still after its first bytes.
HELD_BACK = 1
MEMORY = Path("/dev/shm")

CONFIG = """\
max_workers = 200
max_clients = 1000
max_anonymous_clients = 100
"""

DOMAIN = """\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-qmp'/>
    <qemu:arg value='unix:{qmp},server=on,wait=off'/>
  </qemu:commandline>
</domain>
"""


def skip(reason: str) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: skipped, {reason}")
    sys.exit(0)


def program(name: str) -> str:
    """A program in C of libvirt/."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for tool in ("libvirtd", "virsh", "qemu-system-x86_64"):
        if shutil.which(tool, path=path) is None:
            skip(f"{tool} is not installed")
    built = rig.BUILD / "bench" / "libvirt" / name
    if not built.exists():
        skip(f"{built} is not built: it needs libvirt 7.0 (libvirt-dev), then make bench-programs")
    return str(built)


def clients() -> dict[str, list[str]]:
    """The same client of the library in each language; see libvirt/client.c."""
    in_c = program("client")
    python = rig.BUILD / "venv" / "bin" / "python"
    if not python.exists():
        rig.give_up("the Python package is not installed in build/venv: make python-install")
    return {
        "C": [in_c],
        "Python": [str(python), str(rig.HERE / "libvirt_client.py")],
        "Go": [rig.go_program("libvirt/client-go", "./libvirt")],
    }


class Libvirtd:
    """The private daemon of tests/support/libvirtd, which clears up after itself."""

    def __init__(self) -> None:
        # In memory where there is such a place: a disk that flushes is to take no part in it.
        memory = {"TMPDIR": str(MEMORY)} if os.access(MEMORY, os.W_OK) else {}
        self._script = subprocess.Popen(
            [str(rig.ROOT / "tests" / "support" / "libvirtd")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **memory},
            start_new_session=True,  # what ends the benchmark at a terminal must not end this
        )
        if self._answer() != "ready":
            rig.give_up("libvirtd doesn't start")
        try:
            host = self._do(do="host")
            self._folder = Path(host["folder"])
            self.uri: str = host["uri"]
            # Again, with more workers than are stuck: libvirt's 20 serve nobody once all are.
            (self._folder / "config" / "libvirt" / "libvirtd.conf").write_text(CONFIG)
            self._do(do="signal", name="TERM")
            self._do(do="start")
            self.version = self._virsh("version", "--daemon").split("daemon:")[1].strip()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> str:
        assert self._script.stdout is not None
        return self._script.stdout.readline().strip()

    def _do(self, **step: str) -> dict[str, Any]:
        """A step of that program, and its answer."""
        assert self._script.stdin is not None
        self._script.stdin.write(json.dumps(step) + "\n")
        self._script.stdin.flush()
        answer: dict[str, Any] = json.loads(self._answer() or '{"error": "libvirtd is gone"}')
        if "error" in answer:
            rig.give_up(answer["error"])
        return answer

    def _virsh(self, *arguments: str) -> str:
        command = ["virsh", "--quiet", "--connect", self.uri, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            rig.give_up(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _image(self, name: str) -> Path:
        path = self._folder / "disks" / f"{name}.raw"
        path.write_bytes(b"\1" * DISK_BYTES)
        path.chmod(0o666)
        return path

    def create(self, name: str) -> Domain:
        images = self._image(f"{name}-a"), self._image(f"{name}-b")
        qmp = self._folder / "disks" / f"{name}.qmp"
        emulator = shutil.which("qemu-system-x86_64")
        xml = self._folder / "disks" / f"{name}.xml"
        xml.write_text(DOMAIN.format(name=name, emulator=emulator, disk=images[0], qmp=qmp))
        self._virsh("create", str(xml), "--paused")
        pid = int((self._folder / "run" / "libvirt" / "qemu" / "run" / f"{name}.pid").read_text())
        return Domain(self.uri, name, images, qmp, pid)

    def close(self) -> None:
        assert self._script.stdin is not None and self._script.stdout is not None
        self._script.stdin.close()
        self._script.wait()
        self._script.stdout.close()


class Domain:
    """A paused domain of one disk, with a second QMP socket, by which libvirt is not disturbed."""

    def __init__(self, uri: str, name: str, images: tuple[Path, Path], qmp: Path, pid: int) -> None:
        self.uri = uri
        self.name = name
        self.pid = pid
        self._images = images
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(qmp))
            self._stream = connection.makefile("rw")
        version = self._read()["QMP"]["version"]["qemu"]
        self.qemu = ".".join(str(version[part]) for part in ("major", "minor", "micro"))
        self._tell({"execute": "qmp_capabilities"})

    def _tell(self, command: dict[str, Any]) -> None:
        self._stream.write(json.dumps(command))
        self._stream.flush()

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            rig.give_up(f"the QEMU of {self.name} has ended")
        message: dict[str, Any] = json.loads(line)
        return message

    def _await(self, event: str, **data: str) -> dict[str, Any]:
        while True:
            message = self._read()
            if message.get("event") == event and data.items() <= message["data"].items():
                return message

    def target(self) -> Path:
        """Where the disk is to be copied: each time away from where the last pivot left it."""
        self._images = self._images[1], self._images[0]
        return self._images[0]

    def release(self) -> None:
        """Lets the copy that is held back become ready. What QEMU says is left unread meanwhile: no
        process is woken on whose account the client would wait."""
        job = self._await("JOB_STATUS_CHANGE", status="created")["data"]["id"]
        arguments = {"device": job, "speed": 0}
        self._tell({"execute": "block-job-set-speed", "arguments": arguments})

    def ready_us(self) -> int:
        """When QEMU has called the copy ready, on the clock that the clients go by."""
        time_stamp = self._await("BLOCK_JOB_READY")["timestamp"]
        return int(time_stamp["seconds"]) * 1_000_000 + int(time_stamp["microseconds"])
