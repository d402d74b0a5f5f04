# SPDX-License-Identifier: MIT
# examples/nova/apply.py, on files that have what its patch changes; tests/nova has Nova itself.

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

APPLY = Path(__file__).parents[2] / "examples/nova/apply.py"
PATCH = APPLY.with_name("await-block-jobs.patch")


@pytest.fixture
def nova(tmp_path: Path) -> Path:
    """The folder of a package whose files have the lines that the patch knows, and no others."""
    for part in re.split(r"^diff --git .*\n", PATCH.read_text(), flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@ .*\n", part, flags=re.MULTILINE)
        name = re.search(r"^--- a/(.*)", head, re.MULTILINE)
        if name is not None:  # else the patch makes it
            path = tmp_path / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("# Between two hunks.\n".join(map(before, hunks)))
    return tmp_path / "nova"


def before(hunk: str) -> str:
    return "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in " -")


def contents(nova: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in nova.parent.rglob("*") if path.is_file()}


def apply(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, APPLY, *arguments], capture_output=True, text=True)


def test_it_is_applied(nova: Path) -> None:
    (nova.parent / "releasenotes/notes").mkdir(parents=True)
    os.chmod(nova / "virt/libvirt/guest.py", 0o640)
    result = apply(nova)
    assert result.returncode == 0, result.stderr
    after = contents(nova)
    assert len(after) == PATCH.read_text().count("\ndiff --git ")
    assert "is_job_complete" not in after[str(nova / "virt/libvirt/driver.py")]
    assert (nova / "virt/libvirt/guest.py").stat().st_mode & 0o777 == 0o640
    # What it shows is what it has done.
    undo = subprocess.run(["git", "apply", "-R"], cwd=nova.parent, input=result.stdout, text=True)
    assert undo.returncode == 0


def test_a_dry_run_only_shows(nova: Path) -> None:
    untouched = contents(nova)
    shown = apply("--dry-run", nova)
    assert contents(nova) == untouched
    assert shown.stdout == apply(nova).stdout


def test_c58_a_reader_that_goes_away_stops_nothing(nova: Path) -> None:
    command = f"'{sys.executable}' -u '{APPLY}' '{nova}' | head -n 1"
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    cut_short = contents(nova)
    assert apply(nova).stdout == ""
    assert contents(nova) == cut_short


def test_c58_to_run_it_again_changes_nothing(nova: Path) -> None:
    apply(nova)
    once = contents(nova)
    again = apply(nova)
    assert (again.returncode, again.stdout) == (0, "")
    assert contents(nova) == once


@pytest.mark.parametrize("name", ["driver.py", "guest.py"])
def test_c58_code_that_is_not_known(nova: Path, name: str) -> None:
    path = nova / "virt/libvirt" / name
    path.write_text(path.read_text().replace("is_job_complete", "is_complete"))
    path.write_text(path.read_text().replace("blockCopy", "copy"))
    untouched = contents(nova)
    result = apply(nova)
    assert result.returncode != 0
    assert f"{name}: nothing is changed" in result.stderr
    assert contents(nova) == untouched


def test_c58_a_file_that_can_t_be_written(nova: Path) -> None:
    untouched = contents(nova)
    (nova / "virt/libvirt/guest.py.blockjob").mkdir()
    result = apply(nova)
    assert result.returncode != 0
    assert "guest.py.blockjob" in result.stderr
    assert contents(nova) == untouched


def test_what_was_applied_by_half_is_completed(nova: Path) -> None:
    guest = nova / "virt/libvirt/guest.py"
    before = guest.read_text()
    apply(nova)
    whole = contents(nova)
    guest.write_text(before)
    apply(nova)
    assert contents(nova) == whole


def test_tests_need_not_be_installed(nova: Path) -> None:
    fixture, unit = nova.glob("tests/**/*.py")
    fixture.unlink()
    shutil.rmtree(unit.parent)
    assert apply(nova).returncode == 0
    assert not fixture.exists()
    assert not unit.parent.exists()
