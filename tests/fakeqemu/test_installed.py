# SPDX-License-Identifier: MIT
# fakeqemu as others have it: installed, far from this tree.
"""Tests of the installed tool."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from qmpclient import Client

_ROOT = Path(__file__).parents[2]


def make(target: str, prefix: Path) -> None:
    # With a DESTDIR nothing but the files is touched.
    command = ["make", "-s", target, "DESTDIR=/", f"PREFIX={prefix}"]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)


def test_the_installed_tool_serves(tmp_path: Path) -> None:
    make("install", tmp_path)
    tool = str(tmp_path / "bin" / "blockjob-fakeqemu")
    wide = os.environ | {"COLUMNS": "1000"}  # a path that is broken over two lines is not found
    told = subprocess.run(
        [tool, "--help"], check=True, capture_output=True, text=True, env=wide
    ).stdout
    assert (tmp_path / "share/libblockjob/fakeqemu/fakeqemu.md").exists()
    assert "usage: blockjob-fakeqemu" in told and "fakeqemu.md" in told

    path = str(tmp_path / "qmp")
    command = [tool, "--socket", path, "--profile", "2.8"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        with Client(path) as client:
            assert client.greeting["QMP"]["version"]["qemu"]["minor"] == 8
        process.stdin.close()
        assert process.wait() == 0

    make("uninstall", tmp_path)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
