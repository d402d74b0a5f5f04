# SPDX-License-Identifier: MIT
# Nova's own unit tests, of a Nova that awaits its block jobs: none of them is changed.

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from managers import environment

# Of its driver: the methods that were changed. Its other tests take minutes.
CHANGED = ["-k", "swap_volume", "-k", "live_snapshot", "-k", "volume_snapshot"]


def run(awaiting: Path, *arguments: str) -> str:
    """What Python says, without its warnings."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=awaiting.parent,
        env=environment(awaiting),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_this_is_the_nova_that_awaits(awaiting: Path) -> None:
    program = "from nova.virt.libvirt import guest; print(guest.__file__, guest.BlockDevice.mro())"
    said = run(awaiting, "-c", program)
    assert said.startswith(str(awaiting))
    assert "blockjob.nova.AwaitableJobs" in said


@pytest.mark.parametrize(
    ("module", "chosen"), [("test_guest", []), ("test_driver", CHANGED)], ids=["guest", "driver"]
)
def test_novas_unit_tests(awaiting: Path, module: str, chosen: list[str]) -> None:
    said = run(awaiting, "-m", "unittest", *chosen, f"nova.tests.unit.virt.libvirt.{module}")
    ran = re.search(r"^Ran (\d+) tests", said, re.MULTILINE)
    assert ran is not None and int(ran[1]) > 0, said
