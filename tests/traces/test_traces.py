# SPDX-License-Identifier: MIT
# Transcripts of real QEMUs, from RHEL 6 on, played at the Python package; see README.md.

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from client import play
from replay import MODES
from transcript import Transcript, transcripts


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", transcripts(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_b59_a_transcript_is_told_as_it_was(path: Path, mode: str) -> None:
    asyncio.run(play(Transcript(path), mode))
