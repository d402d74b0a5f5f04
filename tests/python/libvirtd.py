# SPDX-License-Identifier: MIT
# Real libvirtd and real domains for the Python tests, and disks for their jobs.
"""A private libvirtd (tests/support/libvirtd), and domains whose QEMU emulates the processor.

What a test does behind the library's back, and what it takes for the truth, goes through virsh: a
process of its own, which shares no connection and no event loop with the library under test.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from qemu import Qemu

DISK_BYTES = 4 * 1024 * 1024

# Long enough for the slowest machine: it is only met by a test that hangs.
HANG_SECONDS = 60.0

# As bandwidth of a copy or commit: it copies a first piece, then stands still until its speed is
# set to 0. So a test can look at a running job as long as it likes.
HALTED = 1

_SCRIPT = Path(__file__).parents[1] / "support" / "libvirtd"


def missing() -> str:
    """What there is not on this machine, "" if libvirt can be tested."""
    if os.environ.get("BLOCKJOB_WITHOUT_LIBVIRT"):
        return "it is left out here"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in ("libvirtd", "virsh", "qemu-system-x86_64"):
        if not shutil.which(program, path=path):
            return f"there is no {program}"
    build = os.environ.get("BUILD", "build")
    if os.path.isdir(build) and not os.path.exists(f"{build}/libblockjob-libvirt.so.0"):
        return "the library was built without libvirt"
    return ""


class VirshError(Exception):
    """libvirt refused a command of the test itself."""


class Libvirtd:
    """A libvirtd with its own folder and socket."""

    def __init__(self) -> None:
        self._script = subprocess.Popen(
            [str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.folder = Path(self._answer())
        self.disks = self.folder / "disks"
        self.socket = self.folder / "run/libvirt/libvirt-sock"
        self.connection = f"qemu+unix:///session?socket={self.socket}"
        self._numbers = itertools.count(1)

    def _answer(self) -> str:
        assert self._script.stdout is not None
        line = self._script.stdout.readline().rstrip("\n")
        assert line, "libvirtd did not start"
        return line

    def _tell(self, command: str) -> None:
        assert self._script.stdin is not None
        self._script.stdin.write(f"{command}\n")
        self._script.stdin.flush()
        assert self._answer() == "ok"

    def close(self) -> None:
        """Ends all: the daemon, its domains and its folder."""
        assert self._script.stdin is not None and self._script.stdout is not None
        self._script.stdin.close()
        self._script.wait()
        self._script.stdout.close()

    def __enter__(self) -> Libvirtd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -------------------------------------------------------------- the daemon

    @property
    def pid(self) -> int:
        return int((self.folder / "run/libvirt/libvirtd.pid").read_text())

    def kill(self) -> None:
        """Kills it without a word to anyone; the domains run on."""
        self._tell("kill")

    def stop(self) -> None:
        """Lets it end in good order; the domains run on."""
        self._tell("stop")

    def start(self) -> None:
        """Starts it again; it has found its domains when this returns."""
        self._tell("start")

    def suspend(self) -> None:
        """It is there, but silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    # ---------------------------------------------------------------- and virsh

    def virsh(self, *arguments: str) -> str:
        """What virsh says to that command."""
        result = subprocess.run(
            ["virsh", "-q", "-c", self.connection, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )
        if result.returncode != 0:
            raise VirshError(result.stderr.strip())
        return result.stdout.strip()

    def uri(self, domain: str) -> str:
        """The URI of the monitor of that domain."""
        return f"{self.connection}#{quote(domain, safe='')}"

    def full_image(self) -> Path:
        """A qcow2 image full of data, to be copied."""
        path = self.disks / "full"
        if not path.exists():
            _create(str(path))
            write = f"write -q -P 7 0 {DISK_BYTES}"
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, str(path)], check=True)
        return path

    def domain(self, name: str | None = None, *targets: str, persistent: bool = False) -> Domain:
        """A new domain, paused, with those disks (or vda and vdb)."""
        number = next(self._numbers)
        return Domain(self, name or f"vm{number}", number, targets or ("vda", "vdb"), persistent)


def _create(path: str) -> None:
    """An empty qcow2 image that any user may write."""
    create = ["qemu-img", "create", "-q", "-f", "qcow2", path, str(DISK_BYTES)]
    subprocess.run(create, check=True)
    os.chmod(path, 0o666)


class Domain:
    """A domain whose guest never runs, with qcow2 disks that are full of data."""

    def __init__(
        self, host: Libvirtd, name: str, number: int, targets: tuple[str, ...], persistent: bool
    ) -> None:
        self.host = host
        self.name = name
        self.uuid = str(uuid.uuid4())
        self.uri = host.uri(name)
        self._prefix = f"d{number}"
        self._persistent = persistent
        for target in targets:
            self.make_disk(target)
        self._definition = host.disks / f"{self._prefix}.xml"
        self._definition.write_text(self._describe(targets))
        if persistent:
            host.virsh("define", str(self._definition))
            host.virsh("start", name, "--paused")
        else:
            host.virsh("create", str(self._definition), "--paused")
        self.pid = int((host.folder / f"run/libvirt/qemu/run/{name}.pid").read_text())

    def _describe(self, targets: tuple[str, ...]) -> str:
        domain = ElementTree.Element("domain", type="qemu")
        ElementTree.SubElement(domain, "name").text = self.name
        ElementTree.SubElement(domain, "uuid").text = self.uuid
        ElementTree.SubElement(domain, "memory", unit="MiB").text = "16"
        system = ElementTree.SubElement(domain, "os")
        ElementTree.SubElement(system, "type", arch="x86_64", machine="pc").text = "hvm"
        devices = ElementTree.SubElement(domain, "devices")
        for target in targets:
            disk = ElementTree.SubElement(devices, "disk", type="file", device="disk")
            ElementTree.SubElement(disk, "driver", name="qemu", type="qcow2")
            ElementTree.SubElement(disk, "source", file=self.path(target))
            ElementTree.SubElement(disk, "target", dev=target, bus="virtio")
        ElementTree.SubElement(devices, "memballoon", model="none")
        return ElementTree.tostring(domain, encoding="unicode")

    def close(self) -> None:
        """Ends the domain, however it is, and removes its disks."""
        self.kill()  # in no time, while libvirt takes a second to do it nicely
        if self._persistent:
            self.host.virsh("undefine", self.name)
        for path in self.host.disks.glob(f"{self._prefix}[-.]*"):
            path.unlink()

    def __enter__(self) -> Domain:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------- its QEMU

    def _signal(self, number: int) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills its QEMU without a word to anyone."""
        self._signal(signal.SIGKILL)
        self.pid = 0  # soon another's

    def stop(self) -> None:
        """Stops its QEMU: it is there, but silent."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def destroy(self) -> None:
        """Another client ends it."""
        self.host.virsh("destroy", self.name)
        self.pid = 0

    # ----------------------------------------------------------------------- disks

    def path(self, name: str) -> str:
        """The path of a file of that name; of a target, its first image."""
        return str(self.host.disks / f"{self._prefix}-{name}")

    def make_disk(self, name: str) -> str:
        """A qcow2 image full of data."""
        return shutil.copy(self.host.full_image(), self.path(name))

    def make_empty(self, name: str) -> str:
        """A qcow2 image of the same size, for a copy that reuses it."""
        path = self.path(name)
        _create(path)
        return path

    def same_data(self, one: str, other: str) -> bool:
        """Whether two images have the same content; QEMU may have them open."""
        compare = ["qemu-img", "compare", "-q", "-U", one, other]
        return subprocess.run(compare).returncode == 0

    def snapshot(self, target: str, name: str) -> str:
        """A new overlay of that name becomes the disk."""
        path = self.path(name)
        others = [each for each in self.targets() if each != target]
        self.host.virsh(
            *("snapshot-create-as", self.name, "--disk-only", "--no-metadata"),
            *("--diskspec", f"{target},snapshot=external,file={path}"),
            *itertools.chain(*(("--diskspec", f"{each},snapshot=no") for each in others)),
        )
        return path

    # ------------------------------------------------------------- what libvirt says

    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.host.virsh("dumpxml", self.name))

    def targets(self) -> list[str]:
        return [each.get("dev", "") for each in self.xml().findall("devices/disk/target")]

    def _disk(self, target: str) -> ElementTree.Element:
        disk = self.xml().find(f"devices/disk/target[@dev='{target}']/..")
        assert disk is not None
        return disk

    def source(self, target: str) -> str:
        """The image that is the disk now."""
        source = self._disk(target).find("source")
        assert source is not None
        return source.get("file", "")

    def chain(self, target: str) -> list[str]:
        """The images from the disk down to its last backing file."""
        found = []
        layer: ElementTree.Element | None = self._disk(target)
        while layer is not None and (source := layer.find("source")) is not None:
            found.append(source.get("file", ""))
            layer = layer.find("backingStore")
        return found

    def mirror(self, target: str) -> str | None:
        """Where the disk is copied to now: "" not ready, "yes", "pivot" or "abort"."""
        mirror = self._disk(target).find("mirror")
        return None if mirror is None else mirror.get("ready", "")

    # ---------------------------------------------------------- what another client does

    def copy(self, target: str, copy: str, bandwidth: int = 0) -> str:
        """Starts a copy into an empty image of that name."""
        path = self.make_empty(copy)
        limit = ("--bandwidth", str(bandwidth), "--bytes") if bandwidth else ()
        self.host.virsh(
            *("blockcopy", self.name, target, path, "--format", "qcow2", "--reuse-external"), *limit
        )
        return path

    def await_ready(self, target: str) -> None:
        """Waits until libvirt says that the copy or the active commit is ready."""
        until(lambda: self.mirror(target) == "yes")

    def pivot(self, target: str) -> None:
        self.host.virsh("blockjob", self.name, target, "--pivot")

    def abort(self, target: str) -> None:
        self.host.virsh("blockjob", self.name, target, "--abort")

    def release(self, target: str) -> None:
        """Lets a halted job go on."""
        self.host.virsh("blockjob", self.name, target, "--bandwidth", "0")


class Store:
    """A place on the network that a copy can go to; it fails, or hangs, when told to."""

    def __init__(self, domain: Domain, *, failing: bool = False) -> None:
        # A folder of its own: what is in it is root's, but its socket is for all.
        self._folder = Path(domain.path("store"))
        self._folder.mkdir()
        self._folder.chmod(0o711)
        self._qemu = Qemu(self._folder)
        size = DISK_BYTES
        node = self._qemu.add_failing("store") if failing else self._qemu.add_empty("store", size)
        if failing:
            os.truncate(self._folder / "store.raw", size)
        self._qemu.add_guest(node)
        (self._folder / "guest.sock").chmod(0o666)
        self.xml = (
            "<disk type='network'><driver name='qemu' type='raw'/>"
            f"<source protocol='nbd' name='{node}'>"
            f"<host transport='unix' socket='{self._folder}/guest.sock'/>"
            "</source></disk>"
        )
        self.stop = self._qemu.stop
        self.go_on = self._qemu.go_on
        self.kill = self._qemu.kill

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._qemu.close()
        shutil.rmtree(self._folder)


def until(condition: Callable[[], bool]) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)
