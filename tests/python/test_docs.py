# SPDX-License-Identifier: MIT
# What the documents name is there, and what they print runs.

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from libvirtd import Libvirtd
from qemu import Qemu

ROOT = Path(__file__).parents[2]


def test_behaviours_name_tests_that_exist() -> None:
    named = re.findall(
        r"`((?:b\d\d|test_b\d\d|TestB\d\d)\w*)`", (ROOT / "docs/behaviours.md").read_text()
    )
    files = [path for kind in ("*.c", "*.py", "*.go") for path in (ROOT / "tests").rglob(kind)]
    sources = "".join(path.read_text() for path in files)
    defined = set(re.findall(r"(?:void|def|func) (\w+)\(", sources))
    assert len(named) > 100
    assert [name for name in named if name not in defined] == []


def test_the_architecture_names_functions_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.partition("## Where is")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ") and "`" in row]
    assert len(rows) >= 10
    for _, question, files, functions, _ in rows:
        paths: list[str] = re.findall(r"`([\w/]+\.c)`", files)
        sources = "".join(
            (ROOT / (path if path.startswith("core/") else f"core/src/{path}")).read_text()
            for path in paths
        )
        for function in re.findall(r"`(\w+)`", functions):
            # Defined, not only called: at the beginning of a line, after its type.
            assert re.search(rf"^\w[^;=\n]*\b{function}(\(|\[)", sources, re.M), question


@pytest.mark.parametrize("page", ["README.md", "docs/libvirt.md"])
def test_c56_the_first_copy_of_a_page_runs_on_a_persistent_domain(
    libvirtd: Libvirtd, page: str
) -> None:
    domain = libvirtd.domain(persistent=True)
    target = domain.path("copy")
    blocks: list[str] = re.findall(r"^```py\w*\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    program = next(block for block in blocks if "qemu:///system#vm1" in block)
    for printed, ours in (("qemu:///system#vm1", domain.uri), ("/new/vm1.qcow2", target)):
        assert printed in program
        program = program.replace(printed, ours)
    program = f"import asyncio, blockjob\nasync def main():\n{indent(program, '    ')}"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nasyncio.run(main())"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.stdout == "PIVOTED\n"
    assert domain.source("vda") == target


def programs_of_the_guide() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/guide.md").read_text(), re.M | re.S)


def run_manager(daemon: Qemu, store: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", programs_of_the_guide()[1], daemon.uri, str(store)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_c13_the_guides_manager_is_killed_and_finds_its_jobs_again(
    daemon: Qemu, tmp_path: Path
) -> None:
    store = tmp_path / "memos"
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    daemon.do("blockdev-mirror", job_id="theirs", device="drive", target="copy", sync="full")
    daemon.wait_status("ready")
    with run_manager(daemon, store) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "theirs appeared\n"
            while not store.exists() or "graph" not in store.read_text():
                assert program.poll() is None
        finally:
            program.kill()
    daemon.do("job-complete", id="theirs")
    daemon.wait("JOB_STATUS_CHANGE", id="theirs", status="null")
    with run_manager(daemon, store) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "theirs appeared\n"
            assert program.stdout.readline() == "theirs PIVOTED inferred\n"
            daemon.kill()
            assert "connection" in program.stdout.read()
        finally:
            program.kill()
    assert store.read_text() == "[]"


def test_the_guides_program_logs_all_jobs(daemon: Qemu) -> None:
    found = programs_of_the_guide()
    assert len(found) == 2
    daemon.add_disk("drive")
    daemon.add_empty("copy")
    daemon.add_guest("drive")
    job = {"device": "drive", "target": "copy", "sync": "full"}
    daemon.do("blockdev-mirror", job | {"speed": 1, "buf-size": 65536}, job_id="theirs")
    with subprocess.Popen(
        [sys.executable, "-u", "-c", found[0], daemon.uri], stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "theirs mirror APPEARED\n"
            daemon.release("theirs")
            assert program.stdout.readline() == "theirs mirror READY\n"
            daemon.do("job-complete", id="theirs")
            assert program.stdout.readline() == "theirs mirror PIVOTED \n"
            assert program.stdout.readline() == "theirs mirror RELEASED\n"
            daemon.kill()
            assert "connection" in program.stdout.read()
        finally:
            program.kill()
    assert program.returncode == 0
