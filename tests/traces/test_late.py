# SPDX-License-Identifier: MIT
# Transcripts whose replies come late, played at the Python package; see README.md.

from __future__ import annotations

import asyncio

import pytest
from late import MODES, play_late
from test_traces import EVERYTHING, VERSIONS
from transcript import Transcript, transcripts

# RHEL 6 reports too little by events, so it is polled; and when a poll comes is a matter of time.
EVENTFUL = [version for version in VERSIONS if not version.startswith("rhel")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", EVENTFUL)
def test_c03_late_replies_change_no_outcome(version: str, mode: str) -> None:
    """Each transcript in one mode, or everything."""
    paths = [path for path in transcripts() if path.parent.name == version]
    if not EVERYTHING:
        paths = paths[MODES.index(mode) :: len(MODES)]

    async def run() -> tuple[int, list[str]]:
        right = 0
        wrong: list[str] = []
        for path in paths:
            transcript = Transcript(path)
            told, untold = await play_late(transcript, mode)
            right += told
            wrong += [f"{mode} {transcript.name} {what}" for what in untold]
        return right, wrong

    right, wrong = asyncio.run(run())
    count = f"{right} of {right + len(wrong)} jobs are told as they were"
    print(count)
    assert not wrong, "\n".join([*wrong, count])
