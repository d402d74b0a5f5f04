# SPDX-License-Identifier: MIT
# The example programs, run as a person would.

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from libvirtd import Domain
from qemu import HALTED_MIRROR, Qemu

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "python"
BUILT = ROOT / os.environ.get("BUILD", "build") / "examples"


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(name: str, *arguments: str) -> tuple[int, str, str]:
    with start(name, *arguments) as program:
        output, complaints = program.communicate()
        return program.returncode, output, complaints


@pytest.mark.parametrize("name", ["pivot.py", "pivot_sync.py"])
def test_pivot(daemon: Qemu, name: str) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    status, output, complaints = run(name, daemon.uri, "drive", "copy")
    assert (status, complaints) == (0, "")
    assert output.endswith(" copies drive to copy\nready\nPIVOTED\n")
    assert daemon.disk_of_guest() == "copy"


@pytest.mark.parametrize("name", ["pivot.py", "pivot_sync.py"])
def test_pivot_that_fails(daemon: Qemu, name: str) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", errno=28)
    status, _, complaints = run(name, daemon.uri, "drive", "copy")
    assert (status, complaints) == (1, f"{name}: No space left on device\n")


C_EXAMPLES = sorted(path.stem for path in (ROOT / "examples" / "c").glob("*.c"))


@pytest.fixture(scope="module")
def go_example(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the example in Go; `make` has said where the library is."""
    program = str(tmp_path_factory.mktemp("examples") / "pivot")
    folder = ROOT / "examples" / "go" / "pivot"
    subprocess.run(["go", "build", "-buildvcs=false", "-o", program, "."], cwd=folder, check=True)
    return program


def copies_and_pivots(daemon: Qemu, program: str) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    result = subprocess.run(
        [program, daemon.uri, "drive", "copy"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("PIVOTED\n")
    assert daemon.disk_of_guest() == "copy"


@pytest.mark.parametrize("name", C_EXAMPLES)
def test_c(daemon: Qemu, name: str) -> None:
    copies_and_pivots(daemon, str(BUILT / "c" / name))


def test_go(daemon: Qemu, go_example: str) -> None:
    copies_and_pivots(daemon, go_example)


@pytest.mark.parametrize("name", C_EXAMPLES)
def test_c_that_fails(daemon: Qemu, name: str) -> None:
    daemon.add_disk("drive")
    daemon.add_failing("copy", errno=28)
    result = subprocess.run(
        [str(BUILT / "c" / name), daemon.uri, "drive", "copy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == f"{name}: No space left on device\n"


def test_backup(daemon: Qemu) -> None:
    for name in ("one", "two"):
        daemon.add_disk(name)
        daemon.add_empty(f"copy-{name}")
    status, output, complaints = run("backup.py", daemon.uri, "one=copy-one", "two=copy-two")
    assert (status, complaints) == (0, "")
    assert "one: COMPLETED" in output
    assert "two: COMPLETED" in output


def test_follow(daemon: Qemu) -> None:
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    options = {name.replace("_", "-"): value for name, value in HALTED_MIRROR.items()}
    daemon.do(
        "blockdev-mirror", options, job_id="theirs", device="drive", target="copy", sync="full"
    )
    with start("follow.py", daemon.uri, "theirs") as program:
        assert program.stdout is not None
        assert " of " in program.stdout.readline()
        daemon.release("theirs")
        daemon.wait("BLOCK_JOB_READY")
        daemon.do("block-job-cancel", device="theirs")
        output, complaints = program.communicate()
    assert (program.returncode, complaints) == (0, "")
    lines = output.splitlines()
    assert "ready" in lines
    assert lines[-1].split()[0] in ("COPIED", "COMPLETED")


def test_commit(domain: Domain) -> None:
    disks = ("vda", "vdb")
    for disk in disks:
        domain.snapshot(disk, f"overlay-{disk}")
    status, output, complaints = run("commit.py", domain.uri, *disks)
    assert (status, output, complaints) == (0, "ready\nPIVOTED\n", "")
    assert [domain.source(disk) for disk in disks] == [domain.path(disk) for disk in disks]


def test_commit_that_is_given_up(domain: Domain) -> None:
    """The second disk has nothing to merge: the first is let be, too."""
    overlay = domain.snapshot("vda", "overlay")
    status, output, complaints = run("commit.py", domain.uri, "vda", "vdb")
    assert status == 1
    assert output in ("vda: COPIED\n", "vda: CANCELLED\n")  # whether it was ready by then
    assert complaints.startswith("commit.py: ")
    assert domain.source("vda") == overlay


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_usage(name: str) -> None:
    status, output, complaints = run(name)
    assert (status, output) == (1, "")
    assert complaints.startswith((f"usage: {name} SOCKET ", f"usage: {name} URI "))
