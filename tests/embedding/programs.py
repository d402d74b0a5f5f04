# SPDX-License-Identifier: MIT
"""Builds programs with the library inside, and runs them on a QEMU."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import zipfile
from pathlib import Path

from qemu import Qemu

ROOT = Path(__file__).parents[2]
MODULE = "github.com/libblockjob/libblockjob/go"
# Of a build of the library, or of a make that runs this test.
OURS = ("PKG_CONFIG_PATH", "LD_LIBRARY_PATH", "GOFLAGS", "CGO_CFLAGS", "MAKEFLAGS", "MFLAGS")


def surroundings(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in OURS} | more


def attempt(cwd: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=cwd,
        env=surroundings(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run(cwd: Path, *words: str, **more: str) -> str:
    done = attempt(cwd, *words, **more)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}"
    return done.stdout


def pivots(daemon: Qemu, program: Path) -> None:
    assert run(program.parent, str(program), daemon.uri, "drive", "copy").endswith("PIVOTED\n")
    assert daemon.disk_of_guest() == "copy"


# ------------------------------------------------------------------------------------------ Go


@functools.cache
def go() -> str:
    return run(ROOT, str(ROOT / ".ci/dependencies"), "--go").strip()


def publish(proxy: Path, module: str, version: str, folder: Path) -> None:
    """Puts a module of this tree where GOPROXY=file://... finds it, as it would be fetched."""
    place = proxy / module / "@v"
    place.mkdir(parents=True)
    (place / "list").write_text(f"{version}\n")
    facts = {"Version": version, "Time": "2026-01-01T00:00:00Z"}
    (place / f"{version}.info").write_text(json.dumps(facts))
    (place / f"{version}.mod").write_bytes((folder / "go.mod").read_bytes())
    nested = {path.parent for path in folder.rglob("go.mod")} - {folder}
    with zipfile.ZipFile(place / f"{version}.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not nested & set(path.parents):
                archive.write(path, f"{module}@{version}/{path.relative_to(folder)}")


class Project:
    """A Go module of somebody's, with the program of examples/go, that gets ours from a proxy."""

    def __init__(self, folder: Path, version: str = "v0.1.0") -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.proxy = folder / "proxy"
        # What was fetched can't be written, and is not to stay.
        self._more = {
            "GOMODCACHE": str(folder / "modules"),
            "GOFLAGS": "-modcacherw -trimpath",
            "GOPROXY": f"file://{self.proxy}",
            "GOSUMDB": "off",
            "GOTOOLCHAIN": "local",
        }
        publish(self.proxy, MODULE, version, ROOT / "go")
        source = ROOT / "examples/go/pivot/main.go"
        (self.folder / "main.go").write_bytes(source.read_bytes())
        self.go("mod", "init", "example.org/project")
        self.go("get", f"{MODULE}@{version}")

    def attempt(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return attempt(self.folder, go(), *words, **(self._more | more))

    def go(self, *words: str, **more: str) -> str:
        done = self.attempt(*words, **more)
        assert done.returncode == 0, f"go {' '.join(words)}\n{done.stdout}"
        return done.stdout

    def build(self, *words: str, **more: str) -> Path:
        self.go("build", *words, "-o", "program", ".", **more)
        return self.folder / "program"
