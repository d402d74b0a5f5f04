# SPDX-License-Identifier: MIT
# What the documents name is there.

from __future__ import annotations

import re
from pathlib import Path

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
