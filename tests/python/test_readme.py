# SPDX-License-Identifier: MIT
# The README's programs, taken from it and run as they stand there.

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from qemu import Qemu

ROOT = Path(__file__).parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
GO_MODULE = "github.com/libblockjob/libblockjob/go"


def program(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(found) == 1
    return str(found[0])


def run(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment["PKG_CONFIG_PATH"] = environment["LD_LIBRARY_PATH"] = str(BUILD)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def build_python(folder: Path) -> list[str]:
    (folder / "program.py").write_text(program("python"))
    return [sys.executable, "program.py"]


def build_go(folder: Path) -> list[str]:
    (folder / "main.go").write_text(program("go"))
    run("go", "mod", "init", "example", cwd=folder)
    run("go", "mod", "edit", f"-replace={GO_MODULE}={ROOT / 'go'}", cwd=folder)
    run("go", "mod", "edit", f"-require={GO_MODULE}@v0.0.0", cwd=folder)
    run("go", "build", "-o", "program", ".", cwd=folder)
    return ["./program"]


def build_c(folder: Path) -> list[str]:
    (folder / "program.c").write_text(program("c"))
    flags = run("pkg-config", "--cflags", "--libs", "libblockjob", cwd=folder).split()
    run("cc", "-Wall", "-Wextra", "-Werror", "-o", "program", "program.c", *flags, cwd=folder)
    return ["./program"]


@pytest.mark.parametrize("build", [build_python, build_go, build_c])
def test_program(daemon: Qemu, tmp_path: Path, build: Callable[[Path], list[str]]) -> None:
    command = build(tmp_path)
    daemon.add_disk("drive0")
    daemon.add_empty("copy0")
    daemon.add_guest("drive0")
    assert run(*command, daemon.uri, cwd=tmp_path).split()[0] == "PIVOTED"
    assert daemon.disk_of_guest() == "copy0"
