# SPDX-License-Identifier: MIT
# Nova's own unit tests with the patch, which adds some and changes none. They need no libvirtd.

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from managers import environment

UNITS = "nova.tests.unit.virt.libvirt"
MODULES = ["test_guest", "test_host", "test_driver"]
# Of its driver those that start block jobs: the others take many minutes.
CHOSEN = [".test_guest.", ".test_host.", "swap_volume", "live_snapshot", "volume_snapshot"]

WITH_AND_WITHOUT = pytest.mark.parametrize("blockjob", [True, False], ids=["with", "without"])


def run(awaiting: Path, blockjob: bool, *arguments: str) -> str:
    """What Python says, without its warnings."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=awaiting.parent,
        env=environment(awaiting, blockjob),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@WITH_AND_WITHOUT
def test_the_import_is_optional(awaiting: Path, blockjob: bool) -> None:
    program = "from nova.virt.libvirt import guest; print(guest.__file__, bool(guest.blockjob))"
    said = run(awaiting, blockjob, "-c", program).split()
    assert said[-2:] == [str(awaiting / "virt/libvirt/guest.py"), str(blockjob)]


@WITH_AND_WITHOUT
def test_novas_unit_tests(awaiting: Path, blockjob: bool) -> None:
    chosen = [word for name in CHOSEN for word in ("-k", name)]
    modules = [f"{UNITS}.{module}" for module in MODULES]
    said = run(awaiting, blockjob, "-m", "unittest", "-v", *chosen, *modules)
    ran = re.findall(rf"^{UNITS}\.(\w+)\.\w+\.\w+ \.\.\.", said, re.MULTILINE)
    assert set(ran) == set(MODULES), said
    # Only the tests of jobs that are awaited by events need blockjob.
    assert ("skipped 'blockjob is not installed'" in said) != blockjob, said
