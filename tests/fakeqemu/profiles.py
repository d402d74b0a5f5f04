# SPDX-License-Identifier: MIT
# How QEMU behaves at each version, as data: commands, events, fields, and the manners in which
# versions differ. A profile is one column of these tables.
"""Profiles: the manners of a QEMU version as data."""

from __future__ import annotations

from dataclasses import dataclass

from commands import Arguments, Version, commands_of, parse
from errors import Errors

_EVENTS: dict[str, Version] = {
    "SHUTDOWN": (0, 12),
    "RESUME": (0, 12),
    "STOP": (0, 12),
    "BLOCK_JOB_COMPLETED": (0, 12),
    "BLOCK_JOB_CANCELLED": (0, 12),
    "BLOCK_JOB_ERROR": (1, 3),
    "BLOCK_JOB_READY": (1, 3),
    "BLOCK_JOB_PENDING": (2, 12),
    "JOB_STATUS_CHANGE": (3, 0),
}

_ROW_KEYS: dict[str, Version] = {  # of query-block-jobs
    **dict.fromkeys(("type", "device", "len", "offset", "speed"), (0, 12)),
    **dict.fromkeys(("busy", "paused", "io-status"), (1, 3)),
    "ready": (2, 2),
    **dict.fromkeys(("status", "auto-finalize", "auto-dismiss", "error"), (2, 12)),
    "actively-synced": (8, 2),
}


@dataclass(frozen=True)
class Profile:
    """One QEMU version."""

    name: str
    version: Version
    package: str
    commands: dict[str, Arguments]
    events: frozenset[str]
    errors: Errors
    row_keys: frozenset[str]
    """The fields of a row of query-block-jobs."""
    shutdown_keys: frozenset[str]
    """The data of SHUTDOWN."""

    # The protocol

    oob: bool
    """The greeting offers out-of-band execution."""
    lax_arguments: bool
    """Unknown arguments, and values that make no sense, are ignored."""

    # Starting

    device_ids: bool
    """A job has the name of its device, which has one job at most."""
    active_commit: bool
    """The active layer can be committed."""
    empty_mirror_is_ready: bool
    """A mirror with nothing to copy becomes ready; else it completes at once."""
    empty_stream_ends_first: bool
    """A stream with nothing to do completes before the start's reply; else after it."""
    refuses_with_events: bool
    """A start that is refused late has created the job, and tells that it is gone."""
    backup_pauses: bool
    """A backup that starts is paused for a moment."""
    newest_first: bool
    """The order of jobs in queries."""
    newest_runs_first: bool
    """The order in which the jobs of a transaction begin to run."""

    # Cancelling and completing

    synchronous_cancel: bool
    """The cancel's reply comes when the job is gone, and there is no event."""
    cancel_first: bool
    """A cancelled job that is never ready, nor waits for I/O, ends before the cancel's reply."""
    pause_first: bool
    """What a pause leads to comes before its reply."""
    second_cancel_aborts: bool
    """A cancel sent again turns a soft one into a hard one."""
    verbs_know_states: bool
    """Pausing what is paused, resuming what is not, is refused; any verb has its states."""
    complete_in_standby: bool
    """A complete in standby is accepted, and done on resume; else it is refused."""
    complete_after_cancel: bool
    """A complete after a soft cancel is accepted."""
    force_beats_complete: bool
    """A force cancel after an accepted complete still cancels."""
    force_cancels_ready: bool
    """`force` has an effect on a ready mirror."""
    ready_again: bool
    """A mirror that stalled when it was ready says once more that it is, after its resume."""

    # Leaving, and what disturbs

    quit_first: bool
    """What quit leads to comes before its reply."""
    quit_cancels_ready: bool
    """quit ends a ready mirror by CANCELLED; else by COMPLETED."""
    quit_drains: int
    """How often quit pauses and resumes each job first."""
    creation_drains: bool
    """All other jobs stand still while one is created."""
    dirty_grows: bool
    """What the guest writes makes `len` larger; else `offset` smaller."""


def _known(table: dict[str, Version], version: Version) -> frozenset[str]:
    return frozenset(name for name, since in table.items() if since <= version)


def profile_of(text: str, package: str = "", rhel: str = "") -> Profile:
    """The profile of a version; those between measured ones are what the tables say."""
    version = parse(text)
    events = _known(_EVENTS, version)
    return Profile(
        name=f"rhel{rhel}" if rhel else ".".join(text.split(".")[:2]),
        version=version,
        package=package,
        commands=commands_of(version, rhel),
        events=events - ({"BLOCK_JOB_CANCELLED"} if rhel == "6.2" else set()),
        errors=Errors(version, rhel),
        row_keys=_known(_ROW_KEYS, version),
        shutdown_keys=_known({"guest": (2, 10), "reason": (4, 0)}, version),
        oob=version >= (4, 0),
        lax_arguments=rhel == "6.2",
        device_ids=version < (2, 7),
        active_commit=version >= (2, 0),
        empty_mirror_is_ready=version >= (2, 1),
        empty_stream_ends_first=(2, 0) <= version < (2, 7) or version >= (7, 2),
        refuses_with_events=version >= (3, 0),
        backup_pauses=version >= (4, 2),
        newest_first=rhel == "6.2" or version >= (2, 7),
        newest_runs_first=version >= (10, 0),
        synchronous_cancel=rhel == "6.2",
        cancel_first=version < (2, 2) or version >= (7, 2),
        pause_first=version >= (7, 2),
        second_cancel_aborts=rhel == "6.3",
        verbs_know_states=version >= (2, 12),
        complete_in_standby=version >= (6, 0),
        complete_after_cancel=version < (6, 2),
        force_beats_complete=version >= (6, 2),
        force_cancels_ready=version >= (2, 12),
        ready_again=version < (2, 12),
        quit_first=version >= (7, 2),
        quit_cancels_ready=version >= (6, 2),
        quit_drains=2 if version >= (10, 0) else int(version >= (7, 2)),
        creation_drains=version >= (11, 0),
        dirty_grows=version >= (2, 2),
    )


_RHEL_PACKAGE = "(qemu-kvm-0.12.1.2)"
PROFILES = {
    profile.name: profile
    for profile in (
        profile_of("0.12.1", _RHEL_PACKAGE, rhel="6.2"),
        profile_of("0.12.1", _RHEL_PACKAGE, rhel="6.3"),
        *map(profile_of, ("1.1.2", "1.3.1", "1.7.2", "2.0.2", "2.1.3", "2.2.1", "2.3.1")),
        *map(profile_of, ("2.8.1", "2.12.1", "3.1.1")),
        profile_of("5.2.0", "Debian 1:5.2+dfsg-11+deb11u3"),
        profile_of("7.2.22", "Debian 1:7.2+dfsg-7+deb12u18+b3"),
        profile_of("10.0.13", "Debian 1:10.0.13+ds-0+deb13u1"),
        profile_of("11.1.3", "Debian 1:11.1.3+ds-1"),
    )
}
DEFAULT = "7.2"
