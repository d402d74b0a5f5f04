# SPDX-License-Identifier: MIT
# docs/embedding.md, in C: the library in one file.

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from libvirtd import Domain
from programs import ROOT, attempt, pivots, run
from qemu import Qemu

PAGE = (ROOT / "docs/embedding.md").read_text()


@pytest.fixture(scope="module")
def amalgamation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("amalgamation")
    run(ROOT, "make", "-s", f"BUILD={folder}", "amalgamation-only")
    return folder / "amalgamation"


@pytest.fixture(params=["gcc", "clang"])
def compiler(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not shutil.which(name):
        pytest.skip(f"there is no {name}")
    return name


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    return found


def build(amalgamation: Path, folder: Path, commands: str, compiler: str) -> Path:
    """Runs commands of the page, in which any warning is an error."""
    (program,) = blocks("c")
    (folder / "program.c").write_text(program)
    for path in amalgamation.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    commands = re.sub(r"^cc ", f"{compiler} -Wall -Wextra -Werror ", commands, flags=re.M)
    run(folder, "sh", "-ec", commands)
    return folder / "program"


def exported(path: Path) -> set[str]:
    lines = run(path.parent, "nm", "--extern-only", "--defined-only", path.name).splitlines()
    return {line.split()[-1] for line in lines}


def test_the_pages_program_pivots(
    amalgamation: Path, tmp_path: Path, compiler: str, daemon: Qemu
) -> None:
    program = build(amalgamation, tmp_path, blocks("sh")[0], compiler)
    declared = set(re.findall(r"\b(bj_\w+)\(", (amalgamation / "blockjob.h").read_text()))
    names = exported(tmp_path / "blockjob.o")
    assert len(names) > 90
    assert all(name.startswith("bj_") for name in names)
    assert names <= declared
    pivots(daemon, program)


def test_the_driver_is_linked_into_the_pages_program(
    amalgamation: Path, tmp_path: Path, compiler: str, domain: Domain
) -> None:
    first, with_driver = blocks("sh")[:2]
    program = build(amalgamation, tmp_path, f"{first}\n{with_driver}", compiler)
    assert exported(tmp_path / "blockjob_libvirt.o") == {"blockjob_driver_module"}
    # The page's program names no format: the copy is to be like the source.
    target = domain.path("copy")
    output = run(tmp_path, str(program), domain.uri, "vda", target)
    assert output == "PIVOTED\n"
    assert domain.source("vda") == target


def test_a_linked_driver_of_another_version_is_refused(amalgamation: Path, tmp_path: Path) -> None:
    if attempt(ROOT, "pkg-config", "--exists", "libvirt", "libvirt-qemu", "libxml-2.0").returncode:
        pytest.skip("there is no libvirt, or no libxml2")
    first, with_driver = blocks("sh")[:2]
    header = (amalgamation / "blockjob.h").read_text()
    other = r"s/^(#define BJ_VERSION_PATCH) .*/\1 99/"
    program = build(
        amalgamation, tmp_path, f"{first}\nsed -Ei '{other}' blockjob.h\n{with_driver}", "cc"
    )
    done = attempt(tmp_path, str(program), "qemu:///system#none", "vda", "copy")
    assert done.returncode == 1
    numbers = re.findall(r"^#define BJ_VERSION_[A-Z]+ (\d+)$", header, re.M)
    assert len(numbers) == 3
    assert done.stdout == (
        f"qemu:///system#none needs a linked libvirt driver of version {'.'.join(numbers)}, "
        f"but it is of version {'.'.join(numbers[:2])}.99: build both anew\n"
    )


def test_the_same_sources_give_the_same_bytes(amalgamation: Path, tmp_path: Path) -> None:
    run(ROOT, "make", "-s", f"BUILD={tmp_path}", "amalgamation-only")
    for path in amalgamation.iterdir():
        again = tmp_path / "amalgamation" / path.name
        assert path.read_bytes() == again.read_bytes(), path.name


def test_the_header_is_one_of_cplusplus(amalgamation: Path) -> None:
    if not shutil.which("c++"):
        pytest.skip("there is no C++ compiler")
    words = shlex.split("c++ -std=c++11 -Wall -Wextra -Werror -pedantic -fsyntax-only -x c++")
    run(amalgamation, *words, "blockjob.h")
