# SPDX-License-Identifier: MIT
# What the documents name is there, and the guide's program does what it says.

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_the_guides_program_logs_all_jobs(daemon: Qemu) -> None:
    found = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/guide.md").read_text(), re.M | re.S)
    assert len(found) == 1
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
