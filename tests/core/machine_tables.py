#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the tables in docs/machine.md with those of the job machine.

    BUILD=build tests/core/machine_tables.py [--write]

The machine's are printed by the explorer from the data the library decides by. --write puts them
into the page.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

PAGE = Path("docs/machine.md")
MARK = "<!-- The rest of this page is printed by tests/core/machine_tables.py --write. -->\n"


def main() -> int:
    explorer = Path(os.environ.get("BUILD", "build")) / "tests/core/explore"
    done = subprocess.run([explorer, "-t"], text=True, capture_output=True, check=True)
    text = PAGE.read_text()
    beginning, mark, tables = text.partition(MARK)
    if not mark:
        sys.exit(f"{PAGE}: there is no line {MARK}")
    expected = "\n" + done.stdout
    if "--write" in sys.argv[1:]:
        PAGE.write_text(beginning + mark + expected)
        return 0
    if tables == expected:
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(
            tables.splitlines(True), expected.splitlines(True), str(PAGE), "the machine's tables"
        )
    )
    print(f"{PAGE} differs from the machine: look at the change, then run {__file__} --write")
    return 1


if __name__ == "__main__":
    sys.exit(main())
