# SPDX-License-Identifier: MIT
# The man pages say what is there, and their example does what it says.

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from qemu import Qemu

ROOT = Path(__file__).parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
PAGES = sorted((ROOT / "docs/man").glob("*.[1-9]"))
HEADERS = [path.read_text() for path in sorted((ROOT / "core/include/blockjob").glob("*.h"))]


def page(name: str) -> str:
    return (ROOT / "docs/man" / name).read_text()


def test_the_library_has_these_functions() -> None:
    there = set(re.findall(r"\b(bj_\w+)\(", "".join(HEADERS)))
    named = set(re.findall(r"^\.(?:It )?Fn (\w+)", page("libblockjob.3"), re.M))
    assert len(there) > 50
    assert named <= there
    assert {name for name in there - named if not name.endswith("_unref")} == set()


def test_the_library_has_these_errors() -> None:
    there = re.findall(r"^    (BJ_E_\w+) = ", "".join(HEADERS), re.M)
    assert re.findall(r"^\.It Dv (BJ_E_\w+)", page("libblockjob.3"), re.M) == there


def test_the_librarys_example(daemon: Qemu, tmp_path: Path) -> None:
    found = re.findall(r"^\.Bd -literal\n(#include.*?)^\.Ed", page("libblockjob.3"), re.M | re.S)
    (tmp_path / "example.c").write_text(found[0].replace(r"\e", "\\"))
    environment = os.environ | {"PKG_CONFIG_PATH": str(BUILD), "LD_LIBRARY_PATH": str(BUILD)}
    ask = ["pkg-config", "--cflags", "--libs", "libblockjob"]
    flags = subprocess.run(ask, env=environment, capture_output=True, text=True, check=True)
    build = ["cc", "-Wall", "-Wextra", "-Werror", "-o", "example", "example.c"]
    subprocess.run([*build, *flags.stdout.split()], cwd=tmp_path, check=True)
    daemon.add_disk("drive0")
    daemon.add_empty("copy0")
    daemon.add_guest("drive0")
    run = [str(tmp_path / "example"), daemon.uri]
    assert subprocess.run(run, env=environment, capture_output=True).stdout == b"PIVOTED\n"
    assert daemon.disk_of_guest() == "copy0"
    nobody = subprocess.run([run[0], "unix:/none"], env=environment, capture_output=True, text=True)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "can't connect" in nobody.stderr


TOOL = [sys.executable, "-m", "blockjob"]
FAKEQEMU = [sys.executable, str(ROOT / "tests/fakeqemu/fakeqemu.py")]


def help_of(*command: str) -> str:
    return subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout


def test_the_tool_has_these_commands_and_options() -> None:
    synopsis = page("blockjob.1").split(".Sh")[2].split("\n.Nm\n")
    commands = {}
    for usage in synopsis[1:-1]:
        name = re.findall(r"^\.Cm (\w+)", usage, re.M)[0]
        commands[name] = set(re.findall(r"Fl (-[\w-]+)", usage))
    assert set(commands) == set(re.findall(r"^    (\w+)  ", help_of(*TOOL), re.M))
    for name, options in commands.items():
        there = set(re.findall(r"^  -(-[\w-]+)", help_of(*TOOL, name), re.M))
        assert options == there


def test_fakeqemu_has_these_options() -> None:
    there = set(re.findall(r"^  -(-[\w-]+)", help_of(*FAKEQEMU), re.M))
    assert set(re.findall(r"Fl (-[\w-]+)", page("blockjob-fakeqemu.1"))) == there


def test_their_markup_is_right() -> None:
    if not shutil.which("mandoc"):
        pytest.skip("there is no mandoc")
    assert len(PAGES) == 3
    lint = ["mandoc", "-T", "lint", "-W", "warning", *map(str, PAGES)]
    assert subprocess.run(lint, capture_output=True, text=True, check=False).stdout == ""
