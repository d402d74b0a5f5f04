# SPDX-License-Identifier: MIT
# What each QEMU version offers and how it behaves, as data: commands with their arguments, events,
# fields, and the manners in which versions differ. A profile is one column of these tables.
"""Profiles: the manners of a QEMU version as data."""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, ...]

# name, since[-until], arguments. `name?` is optional, `name@2.7` exists since 2.7.
_STARTS = "auto-finalize?@3.1 auto-dismiss?@3.1"
_BACKUP = (
    "bitmap? bitmap-mode? compress? on-source-error? on-target-error? filter-node-name?@4.2"
    " discard-source?@9.1 auto-finalize?@2.12 auto-dismiss?@2.12 x-perf?@6.0"
)
_COMMANDS = f"""
qmp_capabilities    0.12      enable?@2.12
query-commands      0.12
query-events        1.3-5.2
query-version       0.12
query-status        0.14
query-block         0.12
query-named-block-nodes 2.0   flat?@5.0
query-qmp-schema    2.5
x-debug-query-block-graph 4.0
query-block-jobs    1.1
query-jobs          3.0
quit                0.12
drive-mirror        1.3       job-id?@2.7 device target format? node-name?@2.1 replaces?@2.1 sync \
 mode? speed? granularity? buf-size? on-source-error? on-target-error? unmap?@2.4 \
 copy-mode?@3.0 {_STARTS}
blockdev-mirror     2.6       job-id?@2.7 device target replaces? sync speed? granularity? \
 buf-size? on-source-error? on-target-error? filter-node-name?@2.9 copy-mode?@3.0 {_STARTS}
block-commit        1.3       job-id?@2.7 device base-node?@3.1 base? top-node?@3.1 top? \
 backing-file?@2.1 backing-mask-protocol?@9.0 speed? on-error?@5.0 filter-node-name?@2.9 {_STARTS}
block-stream        1.1       job-id?@2.7 device base? base-node?@2.8 backing-file?@2.1 \
 backing-mask-protocol?@9.0 bottom?@6.0 speed?@1.3 on-error?@1.3 filter-node-name?@6.0 {_STARTS}
drive-backup        1.6       job-id?@2.7 device target format? sync mode? speed? {_BACKUP}
blockdev-backup     2.3       job-id?@2.7 device target sync speed? {_BACKUP}
block-job-set-speed 1.1       device speed
block-job-cancel    1.1       device force?@1.3
block-job-pause     1.3       device
block-job-resume    1.3       device
block-job-complete  1.3       device
block-job-finalize  2.12      id
block-job-dismiss   2.12      id
block-job-change    8.2       id type copy-mode
job-pause           3.0       id
job-resume          3.0       id
job-cancel          3.0       id
job-complete        3.0       id
job-finalize        3.0       id
job-dismiss         3.0       id
"""

_EVENTS: dict[str, Version] = {
    "SHUTDOWN": (0, 12),
    "RESUME": (0, 12),
    "STOP": (0, 12),
    "BLOCK_JOB_COMPLETED": (1, 1),
    "BLOCK_JOB_CANCELLED": (1, 1),
    "BLOCK_JOB_ERROR": (1, 3),
    "BLOCK_JOB_READY": (1, 3),
    "BLOCK_JOB_PENDING": (2, 12),
    "JOB_STATUS_CHANGE": (3, 0),
}

_ROW_KEYS: dict[str, Version] = {  # of query-block-jobs
    **dict.fromkeys(("type", "device", "len", "offset", "speed"), (1, 1)),
    **dict.fromkeys(("busy", "paused", "io-status"), (1, 3)),
    "ready": (2, 2),
    **dict.fromkeys(("status", "auto-finalize", "auto-dismiss"), (2, 12)),
    "error": (3, 0),
    "actively-synced": (8, 2),
}


@dataclass(frozen=True)
class Profile:
    """One QEMU version."""

    version: Version
    package: str
    commands: dict[str, dict[str, bool]]
    """Arguments of each command; True where they must be given."""
    events: frozenset[str]
    row_keys: frozenset[str]
    """The fields of a row of query-block-jobs."""

    oob: bool
    """The greeting offers out-of-band execution."""
    effects_first: bool
    """What quit, or cancelling a stream or backup, leads to comes before its reply."""
    strict_pause: bool
    """Pausing what is paused, resuming what is not, is refused."""
    complete_in_standby: bool
    """A complete in standby is accepted, and done on resume; else it is refused."""
    complete_after_cancel: bool
    """A complete after a soft cancel is accepted."""
    force_beats_complete: bool
    """A force cancel after an accepted complete still cancels."""
    force_cancels_ready: bool
    """`force` has an effect on a ready mirror."""
    quit_cancels_ready: bool
    """quit ends a ready mirror by CANCELLED; else by COMPLETED."""
    quit_drains: int
    """How often quit pauses and resumes each job first."""
    graph_bounces: bool
    """Whatever changes the graph of nodes sends all other jobs to standby and back."""
    shutdown_keys: frozenset[str]
    """The data of SHUTDOWN."""


def _parse(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _arguments(words: list[str], version: Version) -> dict[str, bool]:
    arguments = {}
    for word in words:
        name, _, since = word.partition("@")
        if _parse(since or "0") <= version:
            arguments[name.rstrip("?")] = not name.endswith("?")
    return arguments


def _commands(version: Version) -> dict[str, dict[str, bool]]:
    found = {}
    for line in _COMMANDS.strip().splitlines():
        name, ages, *words = line.split()
        since, _, until = ages.partition("-")
        if _parse(since) <= version and (not until or version[:2] <= _parse(until)):
            found[name] = _arguments(words, version)
    return found


def _known(table: dict[str, Version], version: Version) -> frozenset[str]:
    return frozenset(name for name, since in table.items() if since <= version)


def _profile(version: Version, package: str) -> Profile:
    return Profile(
        version=version,
        package=package,
        commands=_commands(version),
        events=_known(_EVENTS, version),
        row_keys=_known(_ROW_KEYS, version),
        oob=version >= (4, 0),
        effects_first=version >= (7, 2),
        strict_pause=version >= (2, 12),
        complete_in_standby=version >= (6, 0),
        complete_after_cancel=version < (6, 2),
        force_beats_complete=version >= (6, 2),
        force_cancels_ready=version >= (2, 12),
        quit_cancels_ready=version >= (6, 2),
        quit_drains=2 if version >= (10, 0) else int(version >= (7, 2)),
        graph_bounces=version >= (10, 0),
        shutdown_keys=_known({"guest": (2, 10), "reason": (4, 0)}, version),
    )


PROFILES = {
    "2.8": _profile((2, 8, 1), ""),
    "5.2": _profile((5, 2, 0), "Debian 1:5.2+dfsg-11+deb11u3"),
    "7.2": _profile((7, 2, 22), "Debian 1:7.2+dfsg-7+deb12u18+b3"),
    "10.0": _profile((10, 0, 13), "Debian 1:10.0.13+ds-0+deb13u1"),
}
DEFAULT = "7.2"
