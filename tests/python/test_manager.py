# SPDX-License-Identifier: MIT
# examples/python/manager.py with a real qemu-system-x86_64, and what its disks are then.

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from qemu import DISK_BYTES, Qemu

MANAGER = Path(__file__).parents[2] / "examples" / "python" / "manager.py"
HANG_SECONDS = 60.0  # after which a line that never comes is an error
SIZE = DISK_BYTES
BLOCK = 64 * 1024


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Machine:
    """A virtual machine with its manager, and what the guest has written to its disks."""

    def __init__(self, qemu: Qemu, directory: Path) -> None:
        self.directory = directory
        self.written: dict[str, bytearray] = {}
        self.lines: list[str] = []  # which nobody has waited for yet
        self._qemu = qemu
        self.program = subprocess.Popen(
            [sys.executable, str(MANAGER), qemu.uri, "."],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self, command: str) -> None:
        assert self.program.stdin is not None
        print(command, file=self.program.stdin, flush=True)

    def wait(self, beginning: str) -> str:
        """The rest of the next line that begins so; it may have come before."""
        for line in itertools.chain(list(self.lines), self._read()):
            if line.startswith(beginning):
                self.lines.remove(line)
                return line.removeprefix(beginning)
        pytest.fail(f"no line {beginning!r} in {self.lines}")

    def _read(self) -> Iterator[str]:
        assert self.program.stdout is not None
        for line in self.program.stdout:
            self.lines.append(line.rstrip())
            yield self.lines[-1]

    def do(self, command: str) -> str:
        self.start(command)
        answer = self.wait(f"{command}: ")
        assert not answer.startswith("failed: "), self.lines
        return answer

    def refuse(self, command: str) -> str:
        """What is wrong with that command."""
        self.start(command)
        return self.wait(f"{command}: failed: ")

    def kill(self) -> None:
        self._qemu.kill()

    def end(self) -> tuple[int, str]:
        """The rest of its output, and its exit status."""
        output, complaints = self.program.communicate()
        self.lines += map(str.rstrip, output.splitlines())
        return self.program.returncode, complaints

    def make_image(self, name: str) -> str:
        path = str(self.directory / f"{name}.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE))
        self.written[name] = bytearray(SIZE)
        return path

    def plug(self, name: str) -> str:
        """A new disk, in which the guest has written something."""
        path = self.make_image(name)
        assert self.do(f"plug {name} {name}.qcow2") == "plugged"
        self.write(name, 0, name[0])
        return path

    def write(self, name: str, block: int, letter: str) -> None:
        """The guest does, and flushes, so that the file has it."""
        write = f"write -f -P {ord(letter)} {block * BLOCK} {BLOCK}"
        line = f'qemu-io -d {name} "{write}"'
        assert self._qemu.do("human-monitor-command", command_line=line) == ""
        self.written[name][block * BLOCK : (block + 1) * BLOCK] = letter.encode() * BLOCK

    def content(self, image: str) -> bytes:
        """What a guest would read there."""
        raw = self.directory / "content.raw"
        run("qemu-img", "convert", "-U", "-O", "raw", image, str(raw))
        return raw.read_bytes()


def blocks_of_its_own(image: str) -> int:
    """How many are in the image itself, not in those below it."""
    command = ["qemu-img", "map", "-f", "qcow2", "--output=json", image]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return sum(int(row["length"]) for row in rows if row["depth"] == 0 and row["data"]) // BLOCK


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    arguments = ["-machine", "q35", "-device", "virtio-scsi-pci"]
    with Qemu(system=True, arguments=arguments) as qemu:
        machine = Machine(qemu, tmp_path)
        guard = threading.Timer(HANG_SECONDS, machine.program.kill)
        guard.start()
        with machine.program:
            yield machine
            machine.program.kill()
        guard.cancel()
        guard.join()


def test_backups_are_of_one_moment(machine: Machine) -> None:
    names = ("data", "root")
    for name in names:
        machine.plug(name)
        machine.write(name, 1, "w")
    first = machine.do("backup root data").split()
    for name in names:
        machine.write(name, 1, "x")
    second = machine.do("backup data root").split()
    then = [bytes(machine.written[name]) for name in names]
    for name in names:
        machine.write(name, 2, "y")
    machine.start("qmp quit")
    assert machine.end() == (0, "")
    assert [machine.content(image) for image in second] == then
    assert [blocks_of_its_own(image) for image in first] == [2, 2]
    assert [blocks_of_its_own(image) for image in second] == [1, 1]


def test_snapshots_are_merged(machine: Machine) -> None:
    image = machine.plug("root")
    before = bytes(machine.written["root"])
    overlays = []
    for block in (1, 2):
        overlays.append(machine.do("snapshot root"))
        machine.write("root", block, "x")
    assert machine.content(image) == before
    assert machine.content(overlays[1]) == machine.written["root"]
    assert machine.do("merge root") == "PIVOTED"
    assert machine.wait("job merge-root: PIVOTED") == ""
    machine.write("root", 3, "y")
    assert machine.do("unplug root") == "unplugged"
    assert machine.content(image) == machine.written["root"]
    assert not [overlay for overlay in overlays if Path(overlay).exists()]


@pytest.fixture
def server(daemon: Qemu) -> str:
    """The socket of an NBD server, which has the exports "copy" and "slow"."""
    path = f"{daemon.directory}/nbd.sock"
    daemon.do("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
    daemon.add_empty("copy")
    daemon.add_braked("slow")
    for name in ("copy", "slow"):
        daemon.do("block-export-add", type="nbd", id=name, node_name=name, writable=True)
    return path


def test_a_disk_is_moved(machine: Machine, server: str) -> None:
    image = machine.plug("root")
    machine.do("snapshot root")
    machine.write("root", 1, "x")
    assert machine.do(f"move root {server} copy") == "PIVOTED"
    left = bytes(machine.written["root"])
    machine.write("root", 2, "y")
    overlay = machine.do("snapshot root")
    machine.write("root", 3, "z")
    assert machine.content(overlay) == machine.written["root"]
    assert machine.do("merge root") == "PIVOTED"
    machine.start("qmp quit")
    assert machine.end() == (0, "")
    assert "SHUTDOWN {'guest': False, 'reason': 'host-qmp-quit'}" in machine.lines
    assert machine.content(f"nbd+unix:///copy?socket={server}") == machine.written["root"]
    assert machine.content(image) != left  # the overlay has the rest


def start_slow_move(machine: Machine, server: str) -> tuple[str, str]:
    """A move that does not end; the command, and the image."""
    image = machine.plug("root")
    for block in (2, 4, 6):  # the target takes the first write, but not all
        machine.write("root", block, "w")
    command = f"move root {server} slow"
    machine.start(command)
    machine.wait("job move-root: APPEARED")
    return command, image


def test_a_move_that_hangs_is_yanked(machine: Machine, server: str) -> None:
    move, image = start_slow_move(machine, server)
    machine.plug("other")  # another disk does not wait for it
    assert machine.do("yank root") == "yanked"
    assert machine.wait(f"{move}: failed: ") == "Input/output error"
    assert machine.wait("job move-root: FAILED ") == "Input/output error"
    machine.write("root", 1, "x")
    assert machine.refuse("yank root")
    machine.start("qmp quit")
    assert machine.end() == (0, "")
    assert machine.content(image) == machine.written["root"]


def test_a_machine_dies(machine: Machine, server: str) -> None:
    move, image = start_slow_move(machine, server)
    machine.kill()
    assert machine.end() == (0, "")
    assert "QEMU has ended, or closed this monitor" in machine.lines[-1]
    assert machine.wait("job move-root: LOST ")
    assert machine.wait(f"{move}: failed: ")
    assert machine.content(image) == machine.written["root"]


def test_all_goes_over_the_one_socket(machine: Machine) -> None:
    image = machine.plug("root")
    machine.do("qmp cont")  # before that QEMU closes no descriptor that it was passed
    secret = {"qom-type": "secret", "id": "key", "data": "open sesame"}
    assert machine.do(f"qmp object-add {json.dumps(secret)}") == "{}"
    assert machine.do("unplug root") == "unplugged"
    machine.wait("DEVICE_DELETED {'device': 'root',")
    for query in ("query-named-block-nodes", "query-fdsets"):
        assert json.loads(machine.do(f"qmp {query}")) == []
    machine.start("qmp quit")
    assert machine.end() == (0, "")
    assert machine.content(image) == machine.written["root"]
    log = (machine.directory / "qmp.log").read_text()
    assert ' vm < {"QMP":' in log
    assert ' vm > {"execute":"add-fd",' in log
    assert '"data": "***"' in log
    assert "sesame" not in log
    assert image not in log  # QEMU has only the descriptor


def test_mistakes(machine: Machine) -> None:
    for command, reason in (
        ("dance", "the commands are plug, unplug,"),
        ("snapshot", "Manager.snapshot() missing 1 required positional argument"),
        ("merge root", "there is no disk root"),
        ("plug root /nonexistent", "[Errno 2]"),
        ("qmp dance", "The command dance has not been found"),
        ("qmp query-version {", "Expecting property name"),
    ):
        assert machine.refuse(command).startswith(reason)
    assert machine.program.stdin is not None
    assert machine.end() == (0, "")  # its input has ended
