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

A monitor may also be a libvirt domain: `blockjob.connect("qemu:///system#vm1")`, or a `virDomain`.
Programs that keep libvirt-python's calls for block jobs can await them with `blockjob.libvirt`.
Several jobs are awaited, pivoted or given up together by a `Group`; a monitor connected with
`reconnect` carries waits through the end of its connection. `Monitor.watch_jobs()` tells of every
job of a QEMU, whoever started it.

This is the asyncio front-end; `blockjob.sync` has the same names for plain threads. Nothing is
polled: QEMU's own events decide.

A timeout is a number of seconds from 0 on, also a fraction or a `Decimal`; None and infinity are no
limit, and 0 asks for what is true now. It covers every step of a call. A timeout, a cancelled task
or an exception of a signal handler ends the wait and nothing else: a command that was not sent yet
is not sent, one that was sent goes on in QEMU. A start that may be cancelled is best given a
`job_id`, by which `attach()` finds the job; where it has started by then, a note on the exception
names it.

Every exception is a `blockjob.Error`. What a wait needs is there before anything is sent, so a call
that raises `InvalidArgument`, `UsageError` or `Busy`, or finds no free file descriptor, has sent
nothing.

A monitor is closed by `close()`, at the end of its `with`, or when it, its jobs and its streams are
let go. Letting go never waits; the library's thread may need up to a second more for replies that
QEMU owes.

One thread of the C library serves all monitors of an event loop that have the same limits; it never
runs Python. After a `fork()` the child connects anew: what it has of its parent raises an `Error`.
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
    ChangeKind,
    Event,
    EventKind,
    JobChange,
    JobInfo,
    Limit,
    Outcome,
    Progress,
    Record,
    RecordKind,
    Timeline,
)
from ._trace import TraceLine

__version__ = _version()

__all__ = [
    "Busy",
    "ChangeKind",
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
    "JobChange",
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
    "TraceLine",
    "Unsupported",
    "UsageError",
    "connect",
    "sync",
]
