# SPDX-License-Identifier: MIT
# The list of behaviours names tests that are there.

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
