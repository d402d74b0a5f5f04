# SPDX-License-Identifier: MIT
# pyright: reportUnnecessaryTypeIgnoreComment=true
"""The types that a type checker infers for `blockjob.sync`. `make lint` checks this file with mypy
and pyright; it is never run.

`assert_type` is an error unless the type is exactly the expected one. Any is an error too: a class
that a decorator without a type has turned into Any hides every mistake in its use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockjob import Error, Event, JobChange, JobInfo, Outcome, Progress, Record, sync

if TYPE_CHECKING:
    from typing_extensions import assert_type  # part of typing only since Python 3.11


def monitors() -> None:
    assert_type(sync.connect("unix:/run/vm1.qmp"), sync.Monitor)
    with sync.connect("unix:/run/vm1.qmp", timeout=1) as monitor:
        assert_type(monitor, sync.Monitor)
        assert_type(monitor.mirror("drive0", target="copy0"), sync.Job)
        assert_type(monitor.commit("drive0"), sync.Job)
        assert_type(monitor.stream("drive0"), sync.Job)
        assert_type(monitor.backup("drive0", target="copy0"), sync.Job)
        assert_type(monitor.start("block-stream", device="drive0"), sync.Job)
        assert_type(monitor.transaction([]), list[sync.Job])
        assert_type(monitor.attach("job0"), sync.Job)
        assert_type(monitor.jobs(), list[JobInfo])
        assert_type(monitor.events(), sync.Stream[Event])
        assert_type(monitor.watch_jobs(), sync.Stream[JobChange[sync.Job]])
        for change in monitor.watch_jobs(progress=0.5):
            assert_type(change.job, sync.Job | None)
            assert_type(change.progress, Progress | None)
        assert_type(monitor.closed(), Error)
        assert_type(monitor.close(), None)


def jobs(job: sync.Job, wait: bool) -> None:
    assert_type(job.ready(timeout=60), None)
    assert_type(job.done(), Outcome)
    assert_type(job.pivot(), Outcome)
    assert_type(job.abort(), Outcome)
    assert_type(job.abort(wait=wait), Outcome | None)
    assert_type(job.finalize(), Outcome)
    assert_type(job.query(), JobInfo)
    assert_type(job.watch(), sync.Stream[Record])
    for progress in job.progress():
        assert_type(progress, Progress)


def groups(job: sync.Job) -> None:
    group = sync.Group([job])
    assert_type(group, sync.Group)
    assert_type(group.any(), sync.Job)
    assert_type(group.pivot(), Outcome)
    assert_type(group.done(), tuple[Outcome | None, ...])


def mistakes(monitor: sync.Monitor) -> None:
    """Each line must be an error: a comment that suppresses nothing is reported."""
    monitor.mirror("drive0")  # type: ignore[call-arg]
    monitor.pivot()  # type: ignore[attr-defined]
