# SPDX-License-Identifier: MIT
"""Await QEMU's block jobs: ready, pivot, abort and the end, with a truthful outcome.

    import asyncio
    import blockjob

    async def main():
        async with blockjob.connect("unix:/run/vm1.qmp") as monitor:
            job = await monitor.mirror("drive0", target="copy0", sync="full")
            await job.ready(timeout=600)          # or: async for progress in job.progress(): ...
            print(await job.pivot())              # PIVOTED, or JobFailed("No space left on device")

    asyncio.run(main())

A monitor may be a domain of libvirt's as well: `blockjob.connect("qemu:///system#vm1")`, or a
`virDomain`. Several jobs are awaited, pivoted or given up together by a `Group`; a monitor
connected with `reconnect` carries waits through the end of its connection.

This is the asyncio front-end; `blockjob.sync` has the same names for plain threads. Nothing is
polled: QEMU's own events decide. Every exception is a `blockjob.Error`.

One thread of the C library serves all monitors of an event loop that have the same limits; it
never runs Python. After a `fork()` the child connects anew: what it has of its parent raises an
`Error`. Numbers like B07 in the docstrings are those of the project's list of behaviours.
"""

from . import sync
from ._asyncio import Connecting, Group, Job, Monitor, Stream, connect
from ._calls import LibvirtDomain
from ._core import version as _version
from ._errors import (
    Busy,
    Closed,
    ConnectError,
    Disconnected,
    Error,
    ErrorCode,
    InvalidArgument,
    JobEnded,
    JobFailed,
    JobLost,
    NoJob,
    NotReady,
    ProtocolError,
    Refused,
    Stalled,
    StateError,
    Timeout,
    Unsupported,
    UsageError,
)
from ._records import (
    Event,
    EventKind,
    JobInfo,
    Limit,
    Outcome,
    Progress,
    Record,
    RecordKind,
    Timeline,
)

__version__ = _version()

__all__ = [
    "Busy",
    "Closed",
    "ConnectError",
    "Connecting",
    "Disconnected",
    "Error",
    "ErrorCode",
    "Event",
    "EventKind",
    "Group",
    "InvalidArgument",
    "Job",
    "JobEnded",
    "JobFailed",
    "JobInfo",
    "JobLost",
    "LibvirtDomain",
    "Limit",
    "Monitor",
    "NoJob",
    "NotReady",
    "Outcome",
    "Progress",
    "ProtocolError",
    "Record",
    "RecordKind",
    "Refused",
    "Stalled",
    "StateError",
    "Stream",
    "Timeline",
    "Timeout",
    "Unsupported",
    "UsageError",
    "connect",
    "sync",
]
