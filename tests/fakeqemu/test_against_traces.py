# SPDX-License-Identifier: MIT
# Recorded sessions with QEMUs that can't be installed any more: what their client said is said to
# fakeqemu, and what comes back must have the same shape, in the same order.
"""Comparison with transcripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from profiles import PROFILES, Profile
from retell import Retelling
from session import Message
from transcript import DATA, Transcript

# What of a row of a query, and of an event, is compared by its value; of all else, the type.
_TELLING = {"event", "device", "id", "type", "ready", "paused", "status"} | {
    "action",
    "operation",
    "error",
}
# What of the names in query-commands and query-events is fakeqemu's business.
_OURS = re.compile(
    r"block[-_](stream|commit|job)|blockdev-(mirror|backup|create)$|drive-(mirror|backup)$|job-"
    r"|query-(block-jobs|jobs|events|commands|named-block-nodes|qmp-schema)$|transaction$"
    r"|x-debug-query-block-graph$|__com.redhat_drive-|BLOCK_JOB|JOB_|SHUTDOWN"
)
# Texts that fakeqemu has others for.
_OWN_WORDS = ("JSON parse error", "Need a root block node", "Node '", "Job ID '")
# Replies that are not alike, and why.
EXCEPT = {
    # An image could not be opened there.
    "rhel6.3-0.12.1.2-2.295/errors": ["__com.redhat_drive-mirror#19"],
}

# Sessions with QEMUs of today that can't be told again by steps alone, or that show what fakeqemu
# doesn't have. All versions of today have a live comparison, too.
_TODAY = ("5.2.0", "7.2.22", "10.0.13", "11.1.3")
_GRAPH = "real images are opened and closed besides, and jobs notice"
_RACE = "recorded in the middle of a race"
UNLIKE = {
    "commit_active": _RACE,
    "gone_and_back": _GRAPH,
    "mirror_active": "a guest's write makes it wait before it is ready",
    "mirror_fails_in_ready": "the failing write is the monitor's own",
    "mirror_soft_cancel": _RACE,
    "mirror_source_fails_once_and_stops": _RACE,
    "quit_pending_and_concluded": _GRAPH,
    "refusals": "of disks that fakeqemu has",
    "six_mirrors": _GRAPH,
    "snapshot": "there is no snapshot-save",
    "stream_error_stop_for_ever": _RACE,
    "stream_same_id_at_once": _RACE,
    "transaction_individual": _GRAPH,
    "transaction_one_fails": _GRAPH,
    "transaction_that_fails": "it fails in the middle of actions that fakeqemu doesn't have",
}

_PATHS = sorted(path for path in DATA.glob("*/*.jsonl"))


def profile_for(transcript: Transcript) -> Profile | None:
    name = transcript.path.parent.name
    name = name.partition("-")[0] if name.startswith("rhel") else ".".join(name.split(".")[:2])
    return PROFILES.get(name)


def shape(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        if value.get("paused") is True and "status" in value:
            value = value | {"status": "paused"}  # or soon
        return {k: shape(v, k) for k, v in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item, key) for item in value]
    return value if key in _TELLING else type(value).__name__


class Told:
    """What of the messages of a session must be the same."""

    def __init__(self, transcript: Transcript) -> None:
        starts = (line.request.arguments for line in transcript if line.kind == "out")
        self._targets = {a.get("target", a.get("base")) for a in starts} - {None}

    def __call__(self, message: Message | None, command: str) -> Any:
        if message is None:
            return None
        if "event" in message:
            return shape(message)
        known = {"id": message.get("id", "none")}
        if "error" in message:
            error = message["error"]
            words = "" if error["desc"].startswith(_OWN_WORDS) else error["desc"]
            return known | {"error": error | {"desc": words}}
        if "return" in message:
            return known | {"return": self._return(message["return"], command)}
        return shape(message)

    def _return(self, value: Any, command: str) -> Any:
        if command in ("query-commands", "query-events"):
            return sorted(row["name"] for row in value if _OURS.match(row["name"]))
        if command == "query-block":
            (drive,) = (row for row in value if row["device"] == "drive0")
            return drive["inserted"]["file"] in self._targets
        if command in ("query-named-block-nodes", "x-debug-query-block-graph"):
            return "rows"
        return shape(value)


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_same_as_then(path: Path) -> None:
    transcript = Transcript(path)
    profile = profile_for(transcript)
    if path.parent.name in _TODAY and path.stem in UNLIKE:
        pytest.skip(UNLIKE[path.stem])
    if profile is None:
        pytest.skip("fakeqemu has no profile for it")
    retelling = Retelling(transcript, profile)
    retelling.play()
    told = Told(transcript)
    for then, command, now in retelling.pairs:
        if then is None or then.get("id") not in EXCEPT.get(transcript.name, []):
            assert told(now, command) == told(then, command)
